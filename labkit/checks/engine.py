"""The engine of the checks: states properties of an answer, and says which known mistake a wrong one looks like.

    @exercise(points=2, minutes=20, reference=_box_filter)
    def box_filter(task):
        with task.property("averages the window, grey and colour", share=1):
            task.compare(task.image(13, 17), 2)

    box_filter.knows({"not_normalised": Mistake("the window is summed …", …)})

makes `box_filter` an `Exercise`: called with a student's function it returns a `Verdict`, and never raises what the
student's code raised. A grader calls `Exercise.judge` with its own way of calling the answer and a secret seed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from labkit.checks import answers
from labkit.checks.answers import Problem, Reply, Request
from labkit.checks.compare import describe, difference, largest
from labkit.checks.verdict import Property, Verdict, marked_by_nbgrader, pictures_of

__all__ = ["PUBLIC_SEED", "Exercise", "Failure", "Mistake", "Task", "exercise"]

Made = TypeVar("Made")
MOST_CALLS_TO_MATCH = 8
PUBLIC_SEED = 2024


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that a student plausibly writes: what it does wrong, how it is written, and the hint that helps."""

    sentence: str
    variant: Any
    hint: int | None = None


@dataclass(frozen=True)
class Failure:
    """Why a property does not hold. `kind` names what was seen: a built-in mistake such as `writes_into_input`."""

    kind: str
    sentence: str
    request: Request | None = None
    expected: Any = None
    obtained: Any = None


@dataclass(frozen=True)
class Exercise:
    """An exercise that can be checked: call it with the answer.

    Attributes
    ----------
    name, points, minutes : as the notebook states them.
    kind : one of `answers.KINDS`.
    reference : a right answer of that kind. mistakes : wrong ones, by name; `knows` adds them.
    form : brings the value of a call into the form in which it is compared; `None` compares it as it is.
    withholds : qualified names that would be the answer itself; a grader hides them from the student's code.
    body : what is asked, as a function of a `Task`.
    """

    name: str
    points: float
    minutes: int
    kind: str
    reference: Any
    mistakes: dict[str, Mistake]
    withholds: tuple[str, ...]
    body: Callable[[Task], None] = field(repr=False)
    form: Callable[[Any], Any] | None = None

    def knows(self, mistakes: dict[str, Mistake]) -> None:
        """Add known mistakes, by name; those that stand first are recognised first.

        Raises
        ------
        ValueError : a mistake of that name is known already.
        """
        twice = [name for name in mistakes if name in self.mistakes]
        if twice:
            raise ValueError(f"{self.name} knows {', '.join(twice)} already; expected new names")
        self.mistakes.update(mistakes)

    def __call__(self, student: Any) -> Verdict:
        """Check an answer here and now, with the public seed."""
        # to nbgrader, a word on stderr is a failure: a right answer may well provoke a warning of torch's
        with redirect_stderr(sys.stdout) if marked_by_nbgrader() else nullcontext():
            return self.judge(lambda request: answers.perform(self.kind, student, request))

    def perform(self, answer: Any, request: Request) -> Reply:
        """Call an answer of our own, a reference or a variant, and bring its value into the form that is compared."""
        return self._formed(answers.perform(self.kind, answer, request))

    def _formed(self, reply: Reply) -> Reply:
        return reply if self.form is None or reply.problem else replace(reply, value=self.form(reply.value))

    def judge(self, call: Callable[[Request], Reply], *, seed: int = PUBLIC_SEED) -> Verdict:
        """Check an answer that can only be called.

        Parameters
        ----------
        call : sends a request to the answer and returns its reply, from wherever the answer lives.
        seed : decides every random input.
        """
        start = time.perf_counter()
        task = Task(self, lambda request: self._formed(call(request)), seed)
        try:
            self.body(task)
        except _Unsolved:
            return Verdict(self.name, self.points, 0.0, "unsolved", seconds=time.perf_counter() - start)
        if not task.failures:
            return Verdict(self.name, self.points, self.points, "right", properties=tuple(task.properties),
                           seconds=time.perf_counter() - start)
        name, mistake = self._recognise(task)
        failure = task.failures[0]
        diagnosis = [failure.sentence]
        if mistake:
            diagnosis.insert(0, f"It looks as if {mistake.sentence}.")
        given = next((a for a in failure.request.arguments if isinstance(a, Tensor)), None) if failure.request else None
        return Verdict(self.name, self.points, round(self.points * _earned_share(task.properties), 2), "wrong", mistake=name,
                       diagnosis=tuple(diagnosis), hint=mistake.hint if mistake else None, properties=tuple(task.properties),
                       pictures=pictures_of(given, failure.expected, failure.obtained),
                       seconds=time.perf_counter() - start)

    def _recognise(self, task: Task) -> tuple[str | None, Mistake | None]:
        """The known mistake that gives what the answer gave, in every call that was compared."""
        wrong = [r for r in task.records if not r.right]
        returned = [r for r in wrong if not r.reply.problem]   # what stopped with an error says less than a wrong value
        wrong = returned or wrong
        records = (wrong + [r for r in task.records if r.right])[:MOST_CALLS_TO_MATCH]
        for name, mistake in self.mistakes.items():
            if wrong and all(self._gives(mistake.variant, record) for record in records):
                return name, mistake
        name = task.suspects[0] if len(task.suspects) == 1 and task.suspects[0] else task.failures[0].kind
        return name, self.mistakes.get(name)

    def _gives(self, variant: Any, record: _Record) -> bool:
        reply = self.perform(variant, record.request)
        if reply.problem or record.reply.problem:
            return bool(reply.problem and record.reply.problem and reply.problem.kind == record.reply.problem.kind)
        # float32 sums of unnormalised values differ more than the values of pictures do
        slack = 10 * record.tolerance * max(1.0, largest(record.reply.value))
        return difference(record.reply.value, reply.value, slack) is None


def exercise(*, points: float, minutes: int, reference: Any, mistakes: dict[str, Mistake] | None = None, kind: str = "function",
             withholds: tuple[str, ...] = (),
             form: Callable[[Any], Any] | None = None) -> Callable[[Callable[[Task], None]], Exercise]:
    """Make an `Exercise` of a function that states its properties; the function's name names the exercise."""
    if kind not in answers.KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(answers.KINDS)}")
    return lambda body: Exercise(body.__name__, points, minutes, kind, reference, dict(mistakes or {}), withholds, body, form)


def _earned_share(properties: list[Property]) -> float:
    """The share of the points that the passed properties carry. Failing what carries none costs the smallest share."""
    shares = [p.share for p in properties if p.share]
    earned = sum(p.share for p in properties if p.passed)
    if any(not p.passed and not p.share for p in properties):
        earned = min(earned, sum(shares) - min(shares))
    return earned / sum(shares)


@dataclass(frozen=True)
class _Record:
    request: Request
    reply: Reply
    tolerance: float
    right: bool


class _Failed(Exception):
    """Ends a property; the task has noted the failure."""


class _Unsolved(Exception):
    """Ends a check: the answer is still the stub."""


class Task:
    """One run of a check: makes the inputs, calls the answer, compares, and keeps account.

    Attributes
    ----------
    generator : the source of every random number, made from the seed.
    properties, failures, records : what was asked, what failed, and every call that was compared.
    suspects : the mistake that each failed property stands for, where it stands for one.
    """

    def __init__(self, exercise: Exercise, call: Callable[[Request], Reply], seed: int):
        self.exercise, self._call = exercise, call
        self.generator = torch.Generator().manual_seed(seed)
        self.properties: list[Property] = []
        self.failures: list[Failure] = []
        self.suspects: list[str | None] = []
        self.records: list[_Record] = []
        self._last_request: Request | None = None

    # --- what a check states ----------------------------------------------------------------------------------------

    @contextmanager
    def property(self, sentence: str, *, share: float = 0.0, mistake: str | None = None) -> Iterator[None]:
        """Everything asked inside the `with` block stands for one property. The first failure ends the block.

        Parameters
        ----------
        sentence : what should hold.
        share : the part of the points it carries; what an empty answer could satisfy carries none.
        mistake : the known mistake it means when this property alone fails (for what no variant can match number by
            number, such as rounding).
        """
        try:
            yield
        except _Failed:
            self.properties.append(Property(sentence, False, share))
            self.suspects.append(mistake)
        else:
            self.properties.append(Property(sentence, True, share))

    def compare(self, *arguments: Any, tolerance: float = 1e-5, expected: Any = None, **options: Any) -> Any:
        """Call the answer and compare it with the reference (or with `expected`), up to an absolute `tolerance`.

        Also asks that the arguments are left alone, and that the type, shape and dtype are right.
        `options` belong to the kind of answer. Returns the answer's value.

        Raises
        ------
        ValueError : calls of this kind take no such option, or one is missing.
        """
        request = self._request(arguments, options)
        if expected is None:
            reply = self.exercise.perform(self.exercise.reference, request)
            if reply.problem:
                raise RuntimeError(f"the reference of {self.exercise.name} failed: {reply.problem}")
            expected = reply.value
        reply = self._ask(request)
        found = difference(reply.value, expected, tolerance)
        self.records.append(_Record(request, reply, tolerance, found is None))
        self._require_untouched(request, reply)
        if found:
            self._fail(Failure(found.kind, f"Called with {_describe_call(arguments)}: {found.sentence}", request, found.expected, found.obtained))
        return reply.value

    def call(self, *arguments: Any, shape: tuple[int, ...], **options: Any) -> Tensor:
        """Call the answer for a property that needs no reference; its value has to be a finite tensor of that shape."""
        request = self._request(arguments, options)
        reply = self._ask(request)
        self._require_untouched(request, reply)
        value = reply.value
        if not isinstance(value, Tensor) or tuple(value.shape) != tuple(shape) or not torch.isfinite(value).all():
            self._fail(Failure("wrong_type", f"Called with {_describe_call(arguments)}: it returned {describe(value)}; "
                               f"expected a tensor of shape {tuple(shape)} of finite values.", request))
        return value

    def require(self, condition: bool, sentence: str) -> None:
        """Ask that something holds; `sentence` says what does not."""
        if not condition:
            self._fail(Failure("property", sentence, self._last_request))

    # --- inputs -----------------------------------------------------------------------------------------------------

    def image(self, height: int, width: int, *, channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
        """A random picture with what a photograph has: shading, edges and noise; values in `[0, 1]`."""
        rows = torch.linspace(0, 1, height, dtype=torch.float64)[:, None]
        columns = torch.linspace(0, 1, width, dtype=torch.float64)[None, :]
        a = self.uniform(channels, 6, 1, 1).double()
        shading = 0.25 * (1 + torch.sin(6 * a[:, 0] * rows + 5 * a[:, 1] * columns + 6 * a[:, 2]))
        edge = 0.3 * ((rows - a[0, 3]) * (a[0, 4] - 0.5) + (columns - a[0, 4]) * (0.5 - a[0, 5]) > 0)
        picture = 0.1 + shading + edge * a[:, 5] + 0.1 * self.uniform(channels, height, width).double()
        return picture.clamp(0, 1).to(dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Independent uniform numbers in `[0, 1)`, float32."""
        return torch.rand(shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Independent standard normal numbers, float32."""
        return torch.randn(shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def draw_until(self, make: Callable[[], Made], accept: Callable[[Made], bool], tries: int = 200) -> Made:
        """Inputs that serve: draws `make()` until `accept` holds of what it made.

        Raises
        ------
        RuntimeError : nothing was accepted in so many tries.
        """
        for _ in range(tries):
            made = make()
            if accept(made):
                return made
        raise RuntimeError(f"{self.exercise.name}: none of {tries} drawn inputs was accepted; expected one that is")

    # --- the engine's own -------------------------------------------------------------------------------------------

    def _request(self, arguments: tuple, options: dict[str, Any]) -> Request:
        answers.require_options(self.exercise.kind, options)
        return Request(arguments, options)

    def _ask(self, request: Request) -> Reply:
        self._last_request = request
        reply = self._call(request)
        if reply.problem:
            if reply.problem.kind == "NotImplementedError":
                raise _Unsolved
            self.records.append(_Record(request, reply, 0.0, False))
            self._fail(Failure("raises", _describe_problem(reply.problem, request), request))
        return reply

    def _require_untouched(self, request: Request, reply: Reply) -> None:
        if self.exercise.kind == "kernel":
            return
        for number, (given, after) in enumerate(zip(request.arguments, reply.arguments), start=1):
            if isinstance(given, (Tensor, np.ndarray)) and difference(after, given, 0.0) is not None:
                self._fail(Failure("writes_into_input", f"Called with {_describe_call(request.arguments)}: it wrote into "
                                   f"its argument number {number}. Make a new tensor (or .clone()) instead of assigning "
                                   "into the one that was given: the caller still needs it.", request))

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        raise _Failed


# --- words ----------------------------------------------------------------------------------------------------------

def _describe_call(arguments: tuple) -> str:
    return ", ".join(describe(a) for a in arguments) or "no arguments"


def _describe_problem(problem: Problem, request: Request) -> str:
    if problem.kind in answers.SAID_ALONE:
        return problem.message
    call = f"Called with {_describe_call(request.arguments)}: "
    where = f" in line {problem.line_number} of your cell, `{problem.line}`" if problem.line else ""
    if problem.kind in answers.SAID_OF_A_CALL:
        return f"{call}{problem.message}{where}."
    return f"{call}it stopped with {problem.kind}{where}. Python says: {problem.message or 'nothing more'}"
