"""Submissions for the tests of grading: the released notebook of chapter 1 with answers, right and wrong, put into its cells."""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path

from labkit import notebooks

REPOSITORY = Path(__file__).resolve().parent.parent
CHAPTER = "01_filtering"


@cache
def _released() -> str:
    """The text of the released notebook, made from its source, so that these tests need no generated file."""
    chapter = notebooks.Chapter(REPOSITORY, CHAPTER)
    return notebooks.released(notebooks.unexecuted(chapter), chapter)


def write_course(folder: Path) -> Path:
    """A course of one chapter, with its published solution."""
    for place, name, text in (("notebooks", f"{CHAPTER}.ipynb", _released()),
                              ("solutions", f"{CHAPTER}.py", notebooks.Chapter(REPOSITORY, CHAPTER).source.read_text(encoding="utf-8"))):
        path = folder / place / CHAPTER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def blank() -> dict:
    """The notebook as students get it."""
    return json.loads(_released())


@cache
def solution(exercise: str) -> str:
    """The published answer to an exercise, without the marks of the solution."""
    source = notebooks.Chapter(REPOSITORY, CHAPTER).source.read_text(encoding="utf-8")
    cell = re.search(rf'^# %% exercise="{exercise}"\n(.*?)(?=^# %%)', source, re.DOTALL | re.MULTILINE)[1]
    return re.sub(r"^ *### (?:BEGIN|END) SOLUTION\n", "", cell, flags=re.MULTILINE).rstrip()


def notebook(**answers: str) -> dict:
    """The notebook with these answers in their cells."""
    result = blank()
    for exercise, source in answers.items():
        cell_of(result, exercise)["source"] = source
    return result


def solved(**changes: str) -> dict:
    """The notebook with every exercise solved as published, but for `changes`."""
    answers = {exercise: solution(exercise) for exercise in exercises()}
    return notebook(**{**answers, **changes})


@cache
def exercises() -> tuple[str, ...]:
    return tuple(re.findall(r'^# %% exercise="(\w+)"', notebooks.Chapter(REPOSITORY, CHAPTER).source.read_text(encoding="utf-8"), re.MULTILINE))


def cell_of(content: dict, exercise: str) -> dict:
    return next(cell for cell in content["cells"] if cell["metadata"].get("nbgrader", {}).get("grade_id") == exercise)


def place_of(content: dict, grade_id: str) -> int:
    return content["cells"].index(cell_of(content, grade_id))


def code(source: str, **metadata: object) -> dict:
    """A cell that a student adds."""
    return {"cell_type": "code", "source": source, "metadata": dict(metadata), "outputs": [], "execution_count": None,
            "id": f"added-{abs(hash(source)) % 10**8}"}


def write(path: Path, content: dict | str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode())
    return path


# --- honest students ------------------------------------------------------------------------------------------------

# Mistakes as students write them: exercise, what stands in the solution, what they wrote.
MISTAKES = (
    ("gaussian_filter", "/ (2 * sigma**2)", "/ sigma**2"),
    ("gaussian_filter", "return (total / norm)[:, 0]", "return total[:, 0] / weights.sum() ** 2"),
    ("box_filter", "rows + radius + 1", "rows + radius"),
    ("box_filter", "image.double().cumsum", "image.cumsum"),
    ("bilateral_filter", ".sum(0, keepdim=True)", ""),
    ("bilateral_filter", "* inside[:, rows, columns]", ""),
    ("cross_bilateral_filter", "padded_guide[:, rows, columns] - guide", "padded[:, rows, columns] - image"),
    ("guided_filter", "return (mean(a) * g + mean(b)).to(image.dtype)", "return (a * g + b).to(image.dtype)"),
    ("rolling_guidance_filter", "image, guide=result", "result, guide=result"),
    ("nonlocal_means", "(d2 - 2 * sigma**2).clamp(min=0)", "d2"),
    ("pca_filter", "kept @ basis.T + mean", "kept @ basis.T"),
    ("nonlocal_attention", "dim=1", "dim=0"),
)


def honest(seed: int) -> dict:
    """What an honest student hands in: most answers right, in their own names, a mistake or two, some cells left or added."""
    chance = random.Random(seed)
    answers = {exercise: _in_own_words(solution(exercise), chance) for exercise in exercises()}
    for exercise, right, wrong in chance.sample(MISTAKES, chance.choice((0, 1, 1, 2, 3))):
        changed = solution(exercise).replace(right, wrong)
        assert changed != solution(exercise), (exercise, right)
        answers[exercise] = changed
    for exercise in chance.sample(exercises(), chance.choice((0, 0, 1, 2))):
        del answers[exercise]
    content = notebook(**answers)
    if chance.random() < 0.5:
        place = place_of(content, "check_box_filter") + 1
        content["cells"].insert(place, code("mine = box_filter(photo, 3)\nfigures.show([photo, mine], alt='before and after')"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = chance.randint(1, 200)
    return content


def _in_own_words(source: str, chance: random.Random) -> str:
    """Other names for some variables, and a comment."""
    for name in ("total", "norm", "weight", "weights", "padded", "inside", "covariance", "variance", "coefficients", "estimates"):
        if chance.random() < 0.5:
            source = re.sub(rf"\b{name}\b(?!=)", f"{name}_{chance.choice('abxyz')}", source)
    head, _, rest = source.partition("\n")
    return f"{head}\n    # {chance.choice(('as in the lecture', 'my version', 'second try', 'works!'))}\n{rest}"
