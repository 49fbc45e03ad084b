"""Grading any chapter: a made-up second one, whose exercises are of the kinds that chapter 1 has not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numba
import pytest
import torch
from numba import cuda
from torch import Tensor

from labkit import chapters
from labkit.chapters import Chapter
from labkit.checks.answers import Fixture
from labkit.checks.engine import Mistake, Task, exercise
from labkit.grading import extract, marks, unit
from labkit.grading.collect import File, Submission
from labkit.grading.isolation import Limits
from tests import grading_submissions as made

ROW = Chapter("99", "made_up", "Made up")
CHAPTER = ROW.name


# --- the chapter's checks -------------------------------------------------------------------------------------------

@numba.njit
def _shift(row, out):
    for i in range(row.size):
        out[i] = row[(i + 1) % row.size]


@numba.njit
def _shift_back(row, out):
    for i in range(row.size):
        out[i] = row[i - 1]


@exercise(points=2, minutes=1, kind="kernel", reference=_shift)
def shift(task: Task) -> None:
    with task.property("shifts a row by one", share=1):
        task.compare(task.uniform(1000), torch.zeros(1000))

shift.knows({"other_way": Mistake("the row is shifted the other way", _shift_back)})


@cuda.jit
def _block_sum(row, out):
    """The sum of each block's part of a row, as a tree in shared memory."""
    part = cuda.shared.array(256, numba.float32)
    i, k = cuda.grid(1), cuda.threadIdx.x
    part[k] = row[i] if i < row.size else 0
    cuda.syncthreads()
    half = 128
    while half > 0:
        if k < half:
            part[k] += part[k + half]
        cuda.syncthreads()
        half //= 2
    if k == 0:
        out[cuda.blockIdx.x] = part[0]


@cuda.jit
def _first_of_block(row, out):
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x] = row[cuda.grid(1)]


@exercise(points=2, minutes=1, kind="kernel", reference=_block_sum)
def block_sum(task: Task) -> None:
    with task.property("adds up every block", share=1):
        task.compare(task.uniform(500), torch.zeros(2), grid=2, block=256, tolerance=1e-4)

block_sum.knows({"first_only": Mistake("only the first entry of a block is taken", _first_of_block)})


@exercise(points=1, minutes=1, kind="differentiable", reference=lambda x: x.square().sin())
def wave(task: Task) -> None:
    with task.property("is right, and so are its gradients", share=1):
        task.compare(task.normal(4, 3), cotangent=task.normal(4, 3))

wave.knows({"not_squared": Mistake("x is not squared", lambda x: x.sin())})


@exercise(points=1, minutes=1, kind="module", reference=torch.nn.Linear)
def layer(task: Task) -> None:
    with task.property("is a linear layer", share=1):
        task.compare(3, 2, weights=[task.normal(2, 3), task.normal(2)], inputs=[task.normal(5, 3)])


def _train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss = (model(x) - y).square().mean()
    loss.backward()
    optimizer.step()
    return loss


@exercise(points=1, minutes=1, kind="step", reference=_train)
def train(task: Task) -> None:
    with task.property("takes two steps", share=1):
        task.compare(Fixture("linear_model", {"weights": [task.normal(2, 3), task.normal(2)]}), Fixture("adam", {"learning_rate": 0.1}),
                     task.normal(4, 3), task.normal(4, 2), repeat=2)


@exercise(points=1, minutes=1, kind="sampler", reference=lambda denoise, x: denoise(denoise(x, 1.0), 0.5))
def sample(task: Task) -> None:
    with task.property("denoises twice", share=1):
        task.compare(Fixture("gaussian_denoiser", {"mean": 0.4, "variance": 0.1}), task.normal(2, 3))


EXERCISES = (shift, block_sum, wave, layer, train, sample)

# --- what students hand in ------------------------------------------------------------------------------------------

IMPORTS = "import numba\nimport torch\nfrom numba import cuda, njit, prange\nfrom labkit.checks import made_up as check"
STUB = "raise NotImplementedError"
RIGHT = {
    "shift": "@njit(parallel=True, cache=True)\ndef shift(row, out):\n    for i in prange(row.size):\n        out[i] = row[(i + 1) % row.size]",
    "block_sum": """
@cuda.jit
def block_sum(row, out):
    part = cuda.shared.array(256, numba.float32)
    i, k = cuda.grid(1), cuda.threadIdx.x
    part[k] = pick(row, i)
    cuda.syncthreads()
    if k == 0:
        total = 0.0
        for value in part:
            total += value
        out[cuda.blockIdx.x] = total
    cuda.syncthreads()""".strip(),
    "wave": "def wave(x):\n    return torch.sin(x * x)",
    "layer": "class layer(torch.nn.Linear):\n    pass",
    "train": "def train(model, optimizer, x, y):\n    loss = torch.nn.functional.mse_loss(model(x), y)\n    optimizer.zero_grad()\n"
             "    loss.backward()\n    optimizer.step()\n    return loss",
    "sample": "def sample(denoise, x):\n    for level in (1.0, 0.5):\n        x = denoise(x, level)\n    return x",
}
DEVICE_FUNCTION = "@cuda.jit(device=True)\ndef pick(row, i):\n    return row[i] if i < row.size else 0"
QUESTION = "why"


def notebook(**answers: str) -> dict:
    """The chapter's notebook: imports, and for each exercise its cell and its check; one question to be answered in words."""
    def marked(cell: dict, name: str, **entry: object) -> dict:
        return {**cell, "id": name, "metadata": {"nbgrader": {"grade_id": name, "schema_version": 3, **entry}}}

    cells = [made.code(IMPORTS)]
    for asked in EXERCISES:
        source = answers.get(asked.name, f"def {asked.name}(*arguments):\n    {STUB}")
        cells.append(marked(made.code(source), asked.name, solution=True, grade=False, locked=False))
        cells.append(marked(made.code(f"check.{asked.name}({asked.name})"), f"check_{asked.name}", solution=False, grade=True,
                            locked=True, points=asked.points))
    cells.append(marked({"cell_type": "markdown", "source": answers.get(QUESTION, "Your answer.")}, QUESTION, solution=True, grade=True,
                        locked=False, points=3))
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def solved(**changes: str) -> dict:
    content = notebook(**{**RIGHT, **changes})
    content["cells"].insert(1, made.code(DEVICE_FUNCTION))
    return content


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of two chapters: the first, and the made-up one."""
    folder = made.write_course(tmp_path_factory.mktemp("course"))
    made.write(folder / "notebooks" / CHAPTER / f"{CHAPTER}.ipynb", notebook())
    module = types.ModuleType("labkit.checks.made_up")
    for asked in EXERCISES:
        setattr(module, asked.name, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(chapters, "CHAPTERS", (*chapters.CHAPTERS, ROW))
        yield folder


def graded(course: Path, place: Path, *contents: dict, only: tuple[str, ...] = (), limits: Limits = Limits()) -> dict:
    """What the unit of work finds in a submission of these notebooks. The secret is a fixed one."""
    secret = made.write(place / "secret", b"a secret for tests")
    files = tuple(File(f"{k}.ipynb", made.write(place / f"{k}.ipynb", content)) for k, content in enumerate(contents))
    job = unit.Job(Submission("ada", files), course, secret, place / "results", place / "scratch", only, limits)
    return json.loads(unit.grade_submission(job).read_text(encoding="utf-8"))


def records(found: dict, chapter: str = CHAPTER) -> dict[str, dict]:
    assert not found["failure"], found["failure"]
    return {record["name"]: record for part in found["chapters"] if part["name"] == chapter for record in part["exercises"]}


def test_every_kind_of_answer_gets_its_marks_beside_another_chapter(course, tmp_path):
    found = graded(course, tmp_path, made.notebook(box_filter=made.solution("box_filter")), solved(why="Because it is."))
    assert [part["name"] for part in found["chapters"]] == ["01_filtering", CHAPTER]
    assert {name: record["outcome"] for name, record in records(found).items()} == dict.fromkeys(RIGHT, "right"), found
    assert records(found, "01_filtering")["box_filter"]["outcome"] == "right"
    assert found["chapters"][1]["written"] == {QUESTION: "Because it is."} and found["chapters"][1]["title"] == "Made up"


def test_wrong_kernels_are_recognised_and_an_untouched_one_is_unsolved(course, tmp_path):
    wrong = {"shift": RIGHT["shift"].replace("parallel=True, ", "").replace("(i + 1)", "(i + row.size - 1)"),
             "block_sum": RIGHT["block_sum"].replace("for value in part:\n            total += value", "total = part[0]")}
    found = records(graded(course, tmp_path, solved(**wrong, wave=f"def wave(x):\n    {STUB}")))
    assert (found["shift"]["mistake"], found["block_sum"]["mistake"], found["wave"]["outcome"]) == ("other_way", "first_only", "unsolved")
    assert "shifted the other way" in found["shift"]["diagnosis"][0]


def test_kernels_that_cannot_run_say_why(course, tmp_path):
    found = records(graded(course, tmp_path, solved(shift="@njit\ndef shift(row, out):\n    out[:] = unknown(row)",
                                                    block_sum="def block_sum(row, out):\n    out[:] = row.sum()")))
    assert found["shift"]["earned"] == 0 and "TypingError" in found["shift"]["diagnosis"][0]
    assert found["block_sum"]["earned"] == 0 and "expected a CUDA kernel" in found["block_sum"]["diagnosis"][0]


def test_compiled_code_that_never_ends_is_stopped(course, tmp_path):
    endless = "@njit\ndef shift(row, out):\n    while True:\n        out[0] += 1"
    found = records(graded(course, tmp_path, notebook(shift=endless, wave=RIGHT["wave"]), limits=Limits(call_seconds=3, exercise_seconds=4)))
    assert found["shift"]["mistake"] == "TimeLimit" and found["wave"]["outcome"] == "right"


def test_only_some_chapters_are_marked_when_asked(course, tmp_path):
    found = graded(course, tmp_path, made.blank(), notebook(), only=("01_filtering",))
    assert [part["name"] for part in found["chapters"]] == ["01_filtering"]


def test_the_items_of_a_course_are_those_of_all_its_chapters(course):
    items = marks.items_of(extract.assignments(course))
    assert [item.column for item in items if item.chapter == CHAPTER] == [f"{CHAPTER}/{name}" for name in (*RIGHT, QUESTION)]
    assert sum(item.points for item in items) == 20 + 8 + 3


def test_a_check_that_stumbles_over_its_own_reference_is_the_graders_failure(course, tmp_path, monkeypatch):
    def broken(x):
        raise OSError("no such table")
    monkeypatch.setitem(vars(sys.modules["labkit.checks.made_up"]), "wave", exercise(
        points=1, minutes=1, reference=broken)(wave.body))
    found = graded(course, tmp_path, notebook(wave=RIGHT["wave"]))
    assert "fails on its own reference" in found["failure"] and not found["chapters"]


def test_references_in_cuda_run_in_the_grader_without_a_gpu_and_without_being_told():
    program = "import numba\nfrom labkit.grading import unit\nunit._simulate_cuda()\nfrom numba import cuda\nprint(cuda.is_available())"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.stdout == "True\n", run.stderr
