"""What the checks of every chapter do: accept what is right, reject and name what is wrong.

The tests of a chapter's own checks, `tests/test_checks_<topic>.py`, add two tables of answers by exercise: `UNUSUAL_BUT_RIGHT`
and `CHANGES_NOTHING`. What they hold is put to the test here.
"""

from __future__ import annotations

import ast
import importlib
import re
from typing import Any

import pytest
import torch

from labkit import chapters, checks
from labkit.checks.engine import PUBLIC_SEED, parameter_names
from tests import mutants, solutions
from tests.judging import judged

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CHAPTERS = {chapter.topic: checks.exercises(chapter.topic) for chapter in chapters.CHAPTERS}
FEWEST_MISTAKES = {"filtering": 6, "texture_optimization": 6}       # that an exercise knows; 10 in a chapter that is not named
SAMPLE = {"filtering": 12}      # mutants of each exercise; 8 in a chapter that is not named
# a kernel whose body is missing has nothing to run in parallel
STUB_WARNING = pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")

each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)
each_exercise = pytest.mark.parametrize("chapter, name", [
    pytest.param(chapter, name, id=f"{chapter}-{name}") for chapter, exercises in CHAPTERS.items() for name in exercises])
# an empty answer is a Python function; a kernel is none
each_function = pytest.mark.parametrize("chapter, name", [
    pytest.param(chapter, name, id=f"{chapter}-{name}") for chapter, exercises in CHAPTERS.items() for name, exercise in exercises.items()
    if exercise.kind in ("function", "differentiable")])
# kinds whose answers return tensors that the check has not made itself
each_computation = pytest.mark.parametrize("chapter, name", [
    pytest.param(chapter, name, id=f"{chapter}-{name}") for chapter, exercises in CHAPTERS.items() for name, exercise in exercises.items()
    if exercise.kind in ("function", "differentiable", "step")])
each_mistake = pytest.mark.parametrize("chapter, name, mistake", [
    pytest.param(chapter, name, mistake, id=f"{chapter}-{name}-{mistake}")
    for chapter, exercises in CHAPTERS.items() for name, exercise in exercises.items() for mistake in exercise.mistakes])


def each_answer(table):
    """The answers that the chapters' own tests name in that table."""
    return pytest.mark.parametrize("chapter, name, answer", [
        pytest.param(chapter, name, answer, id=f"{chapter}-{name}-{answer.__name__}")
        for chapter in CHAPTERS
        for name, answers in getattr(importlib.import_module(f"tests.test_checks_{chapter}"), table).items() for answer in answers])


@each_exercise
def test_the_solution_of_the_notebook_is_right_for_every_seed(chapter, name):
    answer, exercise = solutions.solution(chapter, name), CHAPTERS[chapter][name]
    verdict = exercise(answer)
    assert verdict.passed, repr(verdict)
    for seed in (1, 77, 123456):
        verdict = judged(exercise, answer, seed=seed)
        assert verdict.passed, repr(verdict)


@STUB_WARNING
@each_exercise
def test_the_stub_is_told_kindly(chapter, name):
    stub = re.sub(r"### BEGIN SOLUTION.*### END SOLUTION", "raise NotImplementedError()", solutions.source(chapter, name), flags=re.DOTALL)
    verdict = CHAPTERS[chapter][name](solutions.define(chapter, stub, name))
    assert verdict.outcome == "unsolved" and verdict.earned == 0


@each_mistake
def test_each_known_mistake_is_rejected_and_named(chapter, name, mistake):
    exercise = CHAPTERS[chapter][name]
    verdict = exercise(exercise.mistakes[mistake].variant)
    assert not verdict.passed
    assert verdict.mistake == mistake, repr(verdict)
    assert exercise.mistakes[mistake].sentence in repr(verdict)
    assert verdict.earned < exercise.points


@each_mistake
def test_each_known_mistake_is_named_for_another_seed_too(chapter, name, mistake):
    exercise = CHAPTERS[chapter][name]
    verdict = judged(exercise, exercise.mistakes[mistake].variant, seed=99)
    assert verdict.mistake == mistake, repr(verdict)


@each_exercise
def test_every_exercise_knows_several_mistakes(chapter, name):
    assert len(CHAPTERS[chapter][name].mistakes) >= FEWEST_MISTAKES.get(chapter, 10)


@each_function
@pytest.mark.parametrize("empty", [
    pytest.param(lambda first, *rest: first.clone(), id="the first argument"),
    pytest.param(lambda first, *rest: torch.zeros_like(first), id="zeros"),
    pytest.param(lambda first, *rest: torch.full_like(first, 0.5), id="grey"),
    pytest.param(lambda *a: None, id="nothing"), pytest.param(lambda *a: 0.0, id="0"), pytest.param(lambda *a: (0, 0, 0.0), id="0, 0, 0")])
def test_an_answer_that_does_nothing_earns_nothing(chapter, name, empty):
    assert CHAPTERS[chapter][name](empty).earned == 0


@each_answer("CHANGES_NOTHING")
def test_an_answer_that_changes_nothing_earns_nothing(chapter, name, answer):
    verdict = CHAPTERS[chapter][name](answer)
    assert verdict.outcome == "wrong" and verdict.earned == 0


@each_answer("UNUSUAL_BUT_RIGHT")
def test_a_right_answer_is_accepted_however_it_is_written(chapter, name, answer):
    for seed in (PUBLIC_SEED, 5):
        verdict = judged(CHAPTERS[chapter][name], answer, seed=seed)
        assert verdict.passed, repr(verdict)


class _InOneDtype:
    """A right answer whose floating-point tensors all come back in one dtype. It notes whether it ever returned one in the dtype of an input."""

    def __init__(self, right: Any, dtype: torch.dtype):
        self.right, self.dtype, self.asked = right, dtype, False

    def __call__(self, *arguments: Any) -> Any:
        dtypes = {a.dtype for a in arguments if isinstance(a, torch.Tensor) and a.is_floating_point()}
        return self._brought(self.right(*arguments), dtypes)

    def _brought(self, value: Any, dtypes: set[torch.dtype]) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(self._brought(v, dtypes) for v in value)
        if not isinstance(value, torch.Tensor) or value.dtype not in dtypes:
            return value
        self.asked = True
        return value.to(self.dtype)


@each_computation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_exercise_asks_for_the_dtype(chapter, name, dtype):
    exercise = CHAPTERS[chapter][name]
    answer = _InOneDtype(exercise.reference, dtype)
    verdict = exercise(answer)
    # positions, masks and Python's numbers have no dtype to keep: there the answer is as it was
    assert verdict.passed != answer.asked, f"an answer that always returns {dtype} is accepted; expected a case in another dtype"


@each_exercise
def test_the_reference_has_the_parameters_of_the_notebook(chapter, name):
    written = next(node for node in ast.parse(solutions.source(chapter, name)).body
                   if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name)
    if isinstance(written, ast.ClassDef):
        written = next(node for node in written.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in (*written.args.posonlyargs, *written.args.args) if argument.arg != "self"]
    assert parameter_names(CHAPTERS[chapter][name].reference) == names


@each_exercise
def test_points_minutes_and_hints_are_those_of_the_notebook(chapter, name):
    exercise = CHAPTERS[chapter][name]
    text = next(c.source for c in solutions.cells(chapter) if c.cell_type == "markdown" and f"· `{name}`" in c.source)
    points, minutes = re.search(r"\((\d+) points?, about (\d+) minutes\)", text).groups()
    assert (float(points), int(minutes)) == (exercise.points, exercise.minutes)
    hints = text.count("<details>")
    assert hints >= 2
    for mistake in exercise.mistakes.values():
        assert mistake.hint is None or mistake.hint <= hints


@each_chapter
def test_a_sample_of_mutants_is_rejected(chapter):
    scores = mutants.run(chapter, sample=SAMPLE.get(chapter, 8), seed=1)
    real = sum(s.total - s.equivalent for s in scores)
    survivors = [f"{s.exercise}: {m.change}" for s in scores for m in s.survivors]
    assert sum(s.rejected for s in scores) >= 0.95 * real, survivors
