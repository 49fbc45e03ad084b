"""A chapter that does not exist, in a copy of the course: a row in the table, and its own files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from labkit.chapters import Chapter

__all__ = ["FILES", "ROW", "add", "copy_course", "remove", "run"]

ROOT = Path(__file__).resolve().parent.parent
ROW = Chapter("99", "made_up", "Made up")
LINE = '    Chapter("99", "made_up", "Made up"),\n'

FILES = {
    "labkit/made_up/__init__.py": '''
"""A chapter's library."""

__all__ = ["halve"]


def halve(image):
    """Half of a picture."""
    return image / 2
''',
    "labkit/checks/made_up/__init__.py": '''
"""A chapter's checks."""

import functools

import torch

from labkit.checks.answers import Fixture
from labkit.checks.engine import Mistake, Task, exercise

__all__ = ["halve", "twice"]


def _halve(image):
    return image / 2


def _times(factor, image):
    return factor * image


@exercise(points=1, minutes=2, reference=_halve, withholds=("labkit.made_up.halve",))
def halve(task: Task) -> None:
    with task.property("halves a picture", share=1):
        task.compare(task.image(5, 6))
        task.compare(task.image(5, 6, dtype=torch.float64))


halve.knows({f"times_{factor}": Mistake(f"the picture is multiplied by {factor}", functools.partial(_times, factor)) for factor in range(2, 12)})


def _twice(halver, image):
    return halver(halver(image))


def _repeated(times, halver, image):
    for _ in range(times):
        image = halver(image)
    return image


@exercise(points=2, minutes=3, kind="sampler", reference=_twice)
def twice(task: Task) -> None:
    with task.property("asks twice", share=1):
        task.compare(Fixture("halver"), task.uniform(3, 4) + 1)


twice.knows({f"{times}_times": Mistake(f"it is asked {times} times", functools.partial(_repeated, times)) for times in range(12) if times != 2})
''',
    "labkit/checks/made_up/fixtures.py": '''
"""What the chapter's checks give to an answer."""

from labkit.checks.fixtures import fixture

__all__ = ["Halver"]


@fixture("halver")
class Halver:
    """Halves what it is given, and counts how often."""

    def __init__(self):
        self.calls = []

    def __call__(self, image):
        self.calls.append(tuple(image.shape))
        return image / 2
''',
    "labkit/results/made_up.py": '''
"""A chapter's results."""

from labkit import figures

__all__ = ["compute", "live"]


def compute():
    return {"tables": [{"caption": "Halves.", "header": ["of", "is"], "rows": [["8", "4"]]}], "seeds": {}}


def live(results, size):
    return figures.table(results["tables"][0]["rows"], header=results["tables"][0]["header"], caption="Halves, live.")
''',
    "docs/results/99.json": """
{"date": "2026-01-01", "command": "labkit results 99", "profile": "quick", "machine": "one", "versions": {}, "seconds": 0,
 "tables": [{"caption": "Halves.", "header": ["of", "is"], "rows": [["8", "4"]]}], "seeds": {}}
""",
    "solutions/99_made_up/99_made_up.py": '''
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# labkit:
#   title: Made up
#   minutes: 5
#   needs: nothing
#   summary: Half of everything.
# ---

# %% [markdown]
# # 99 · Made up

# %%
import torch

from labkit.checks import made_up as check

# %% [markdown]
# ### Exercise 1 · `halve` (1 point, about 2 minutes)
#
# <details><summary>Hint 1: divide</summary>By two.</details>
#
# <details><summary>Hint 2: or multiply</summary>By a half.</details>


# %% exercise="halve"
def halve(image):
    """Half of a picture."""
    ### BEGIN SOLUTION
    return image / 2
    ### END SOLUTION


# %% check="halve"
check.halve(halve)

# %% [markdown]
# ### Exercise 2 · `twice` (2 points, about 3 minutes)
#
# <details><summary>Hint 1: once</summary>`halver(image)`</details>
#
# <details><summary>Hint 2: again</summary>`halver(halver(image))`</details>


# %% exercise="twice"
def twice(halver, image):
    """A quarter of a picture."""
    ### BEGIN SOLUTION
    return halver(halver(image))
    ### END SOLUTION


# %% check="twice"
check.twice(twice)
''',
    "tests/benchmarks/made_up.py": '''
"""How fast a chapter is."""


def rows():
    return [{"task": "halve", "ms": 1.0}]
''',
    "tests/inputs/made_up.py": '''
"""Random inputs for the exercises of a chapter."""

from labkit.checks.answers import Fixture
from tests.inputs.drawing import Inputs, rand, sizes

__all__ = ["INPUTS"]

INPUTS: Inputs = {
    "halve": lambda rng: (rand(rng, *sizes(rng, 1, 3)),),
    "twice": lambda rng: (Fixture("halver"), rand(rng, *sizes(rng, 1, 3))),
}
''',
    "tests/test_made_up.py": '''
"""A chapter's library does what it says."""

import torch

from labkit import made_up


def test_a_half_is_half():
    assert torch.equal(made_up.halve(torch.full((2,), 3.0)), torch.full((2,), 1.5))
''',
    "tests/test_checks_made_up.py": '''
"""What is particular to a chapter's checks."""


def _by_product(image):
    return 0.5 * image


def _same(halver, image):
    return image.clone()


UNUSUAL_BUT_RIGHT = {"halve": [_by_product]}
CHANGES_NOTHING = {"twice": [_same]}
''',
}


def copy_course(root: Path) -> Path:
    """A copy of the course, but for its pictures, which it shares."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("labkit", "tests", "solutions", "notebooks", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    for name in ("nbgrader_config.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / "data").symlink_to(ROOT / "data", target_is_directory=True)
    return root


def add(root: Path) -> None:
    """Add the chapter to a copy of the course: its row, its files, and what is generated from its source (not run)."""
    table = root / "labkit" / "chapters.py"
    text = table.read_text(encoding="utf-8")
    end = text.index("\n)\n", text.index("\nCHAPTERS: ")) + 1
    table.write_text(text[:end] + LINE + text[end:], encoding="utf-8")
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip("\n"), encoding="utf-8")
    run(root, "-c", GENERATE)


GENERATE = """
from pathlib import Path
import nbformat
from labkit import notebooks
chapter = notebooks.chapters(Path.cwd())[-1]
notebook = notebooks.unexecuted(chapter)
nbformat.write(notebook, chapter.solution)
chapter.student.parent.mkdir()
chapter.student.write_text(notebooks.released(notebook, chapter), encoding="utf-8")
"""


def remove(root: Path) -> None:
    """Take the chapter out of a copy of the course again: its row, its files, its folders."""
    table = root / "labkit" / "chapters.py"
    table.write_text(table.read_text(encoding="utf-8").replace(LINE, ""), encoding="utf-8")
    for folder in (
        f"notebooks/{ROW.name}",
        *sorted({str(Path(name).parent) for name in FILES if Path(name).parent.name in (ROW.topic, ROW.name)}),
    ):
        shutil.rmtree(root / folder)
    for name in FILES:
        (root / name).unlink(missing_ok=True)


def run(root: Path, *arguments: str, **environment: str) -> str:
    """Run Python in a copy of the course, with the copy's labkit and tests; returns what it wrote to stdout."""
    variables = {**os.environ, "PYTHONPATH": str(root), "LABKIT_PROFILE": "quick", **environment}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
