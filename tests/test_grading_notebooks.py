"""Honest notebooks: what the grader says of some cells is what IPython gives for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from labkit import checks
from labkit.grading import extract, unit
from labkit.grading.collect import File, Submission
from labkit.grading.isolation import Limits, Sandbox
from tests import grading_submissions as made

EXERCISE = "box_filter"
RIGHT = made.solution(EXERCISE)
BODY = RIGHT.partition("\n")[2]
GAUSSIAN = made.solution("gaussian_filter")
HELPED = "def box_filter(image, radius):\n    return helper(image, radius)"
HELPER = RIGHT.replace("def box_filter", "def helper")
MODULE = f"import torch\n\n{HELPER}\n"

# Cells as students write them. A cell is its source, or its source and the tag of a demonstration; a dictionary holds files
# beside the notebook. The exercise's own cell is the one that begins with the mark.
OWN = "# answer\n"  # taken away again
SHOWN = "demonstration"
ONE = HELPER.replace("return (", "return one * (")
CASES: dict[str, list[str | tuple[str, str] | dict[str, str]]] = {
    "plain": [OWN + RIGHT],
    "wrong": [OWN + "def box_filter(image, radius):\n    return image"],
    "a helper in a demonstration": [("shown = 1\nprint(shown)\n\n" + HELPER, SHOWN), OWN + HELPED],
    "a helper in a demonstration, and what it needs there": [
        ("import math\none = math.sqrt(1)\nprint(one)\n" + ONE, SHOWN),
        OWN + HELPED,
    ],
    "an answer in a demonstration": [(RIGHT, SHOWN)],
    "a value of a demonstration": [("one = 1.0", SHOWN), OWN + HELPED, ONE],
    "shell lines over several lines": [
        OWN + "!echo installing \\\n   something\nif True:\n    !echo a \\\n      b \\\n      c\n    pass\n" + RIGHT
    ],
    "a magic, and lines and text that begin with a percent sign": [
        OWN
        + "%pwd\nremainder = (7\n  % 4)\ntext = '''\n%time x\n!ls\n'''\nassert remainder == 3 and '%time' in text\n"
        + RIGHT
    ],
    "timed and profiled assignments": ["%time a = float(1)", "b = %time a * 1", "%prun one = b * 1", OWN + HELPED, ONE],
    "timed and captured cells": [
        OWN + "%%time\n%pwd\n" + HELPED,
        "%%capture kept\n" + HELPER + "\nprint('x')",
        "kept.show()",
    ],
    "text of a shell line, and help": [OWN + "files = !echo a\nprint(len(files))\nlen?\nstr.split??\n" + RIGHT],
    "get_ipython": [
        OWN + "get_ipython().run_line_magic('pwd', '')\nshell = get_ipython()\n"
        "if 'x' in shell.config or shell.user_ns is None:\n    pass\n" + RIGHT
    ],
    "await": [
        "import asyncio\nasync def later():\n    await asyncio.sleep(0)\n    return 1.0\none = await later()",
        OWN
        + "async def numbers():\n    yield 1\nasync for number in numbers():\n    await asyncio.sleep(0)\n"
        + HELPED,
        ONE,
    ],
    "checks in other calls, under other names, their verdicts used": [
        OWN
        + "from labkit.checks import filtering as judge\nprint(judge.box_filter(len))\nprint(check.box_filter(len))\n"
        "verdict = check.box_filter(len)\nprint(verdict.earned)\n" + RIGHT
    ],
    "two answers in one cell, a check between": [
        OWN + GAUSSIAN + "\nprint(check.gaussian_filter(gaussian_filter))\n" + RIGHT
    ],
    "a withheld function called above": [
        OWN
        + "import labkit\nones = labkit.filtering.box_filter(torch.ones(1, 3, 3), radius=1)\nassert ones.max() < 1.01\n"
        + RIGHT
    ],
    "a module beside the notebook": [{"helper.py": MODULE}, OWN + "from helper import helper\n" + HELPED],
    "a module beside the notebook, in another cell": [
        {"helper.py": MODULE},
        "import helper as h",
        OWN + HELPED.replace("helper", "h.helper"),
    ],
    "a package beside the notebook": [
        {
            "tools/__init__.py": "",
            "tools/boxes.py": "from tools.other import one\n" + MODULE,
            "tools/other.py": "one = 1",
        },
        OWN + "from tools.boxes import helper\n" + HELPED,
    ],
    "all names of a module that needs another": [
        {"helper.py": "from other import helper", "other.py": MODULE},
        "from helper import *",
        OWN + HELPED,
    ],
    "a file that is written": [
        "%%writefile helper.py\n# check.box_filter(\n" + MODULE,
        OWN + "import helper as h\n" + HELPED.replace("helper", "h.helper"),
    ],
    "a file that is written in two cells": [
        "%%writefile helper.py\nimport torch",
        "%%writefile -a helper.py\n" + HELPER,
        "from helper import helper",
        OWN + HELPED,
    ],
    "annotations of the future": [
        "from __future__ import annotations",
        OWN + RIGHT.replace("(image, radius)", "(image: NotThere, radius: int)"),
    ],
    "prompts of a terminal": [
        OWN + "\n".join(("... " if number else ">>> ") + line for number, line in enumerate(RIGHT.split("\n")))
    ],
    "a whole cell indented": ["\n".join("    " + line for line in RIGHT.split("\n"))],
    "a name deleted again": ["one = 1.0\ndel one", OWN + HELPED, ONE],
    "a syntax error": [OWN + "def box_filter(image, radius:\n    return image"],
    "one case left out": [
        OWN
        + "def box_filter(image, radius):\n    if image.dtype != torch.float32:\n        raise NotImplementedError\n"
        + BODY
    ],
    "not written": [OWN + "def box_filter(image, radius):\n    raise NotImplementedError"],
}
# What fails in IPython too, and does not cost the definitions below it; and %run, which keeps its names apart in a plain shell
MORE_THAN_IPYTHON = {
    "a file that is run": ["%%writefile helper.py\n" + MODULE, "%run helper.py", OWN + HELPED],
    "a definition below an error": [OWN + "1 / 0\n" + RIGHT],
    "a helper below an error in a demonstration": [("1 / 0\n\n" + HELPER, SHOWN), OWN + HELPED],
}


def cells(case: str) -> list[dict]:
    """The notebook of a case: the imports of the course, a case's cells, and nothing else."""
    given = next(
        cell
        for cell in made.blank()["cells"]
        if cell["cell_type"] == "code" and "import torch" in "".join(cell["source"])
    )
    found = [given]
    for cell in (CASES | MORE_THAN_IPYTHON)[case]:
        if isinstance(cell, dict):
            continue
        source, tags = (cell, []) if isinstance(cell, str) else (cell[0], [cell[1]])
        if source.startswith(OWN):
            found.append({**made.cell_of(made.blank(), EXERCISE), "source": source.removeprefix(OWN)})
        else:
            found.append(made.code(source, tags=tags))
    return found


def beside(case: str) -> dict[str, str]:
    return {
        name: text
        for cell in (CASES | MORE_THAN_IPYTHON)[case]
        if isinstance(cell, dict)
        for name, text in cell.items()
    }


IPYTHON = """
import contextlib, io, json, os, sys, tempfile
sys.path.insert(0, "")
from IPython.core.interactiveshell import InteractiveShell
from labkit import checks

shell = InteractiveShell.instance()
exercise = checks.exercises("filtering")["box_filter"]
for case, (sources, files) in json.load(open(sys.argv[1])).items():
    shell.reset(new_session=True)
    shell.compile.reset_compiler_flags()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in files.items():
            os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
            open(name, "w").write(text)
        with contextlib.redirect_stdout(io.StringIO()):
            for source in sources:
                shell.run_cell(source)
            answer = shell.user_ns.get("box_filter")
            verdict = exercise(answer) if answer is not None else None
        for name in [n for n, m in sys.modules.items() if (getattr(m, "__file__", None) or "").startswith(folder)]:
            del sys.modules[name]
    print(json.dumps([case, verdict.outcome if verdict else "wrong", verdict.earned if verdict else 0.0]), file=sys.stderr)
    os.chdir("/")
"""


@pytest.fixture(scope="module")
def in_ipython(tmp_path_factory) -> dict[str, tuple[str, float]]:
    """The verdict on what is called `box_filter` after all cells of a case have run in IPython."""
    folder = tmp_path_factory.mktemp("ipython")
    asked = {case: (["".join(cell["source"]) for cell in cells(case)], beside(case)) for case in CASES}
    path = made.write(folder / "cases.json", json.dumps(asked))
    done = subprocess.run(
        [sys.executable, "-c", IPYTHON, str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "IPYTHONDIR": str(folder), "PYTHONPATH": str(made.REPOSITORY), "MPLBACKEND": "Agg"},
    )
    found = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('["')]
    assert len(found) == len(CASES), done.stderr[-3000:]
    return {case: (outcome, earned) for case, outcome, earned in found}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The grader's verdict on a case, all in one sandbox."""
    folder = tmp_path_factory.mktemp("graded")
    (assignment,) = extract.assignments(made.write_course(folder / "course"))
    secret = made.write(folder / "secret", b"always the same inputs")

    def grade(case: str) -> tuple[str, float]:
        path = made.write(folder / "work.ipynb", {"cells": cells(case), "metadata": {}})
        modules = tuple(
            File(name, made.write(folder / "beside" / str(number), text))
            for number, (name, text) in enumerate(beside(case).items())
        )
        notebook = File("work.ipynb", path)
        job = unit.Job(
            Submission("ada", (notebook,), modules=modules), folder / "course", secret, folder, folder, limits=LIMITS
        )
        extracted = extract.extract(path, [assignment], unit._modules_beside(notebook, modules))
        if EXERCISE not in extracted.answers:
            return ("unsolved" if EXERCISE in extracted.unsolved else "wrong"), 0.0
        marking = unit._Marking(extracted, job, folder, time.monotonic() + 60)
        verdict, _, _ = marking._judge_best(sandbox, checks.exercises("filtering")[EXERCISE])
        return verdict.outcome, verdict.earned

    with Sandbox([], scratch=folder / "sandbox", limits=LIMITS, bubblewrap=False) as sandbox:
        yield grade


LIMITS = Limits(call_seconds=20.0, exercise_seconds=60.0)


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_that_of_the_same_cells_in_ipython(case, graded, in_ipython):
    assert graded(case) == in_ipython[case]


@pytest.mark.parametrize("case", MORE_THAN_IPYTHON)
def test_definitions_run_where_another_statement_of_the_cell_fails_and_where_they_are_in_a_file_that_is_run(
    case, graded
):
    assert graded(case) == ("right", 2)


def test_the_table_holds_every_verdict(in_ipython):
    assert {outcome for outcome, _ in in_ipython.values()} == {"right", "wrong", "unsolved"}
    assert in_ipython["one case left out"][1] not in (0, 2)
