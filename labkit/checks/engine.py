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

import inspect
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

__all__ = ["PUBLIC_SEED", "Exercise", "Failure", "Mistake", "Task", "exercise", "parameter_names"]

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
    """Why a property does not hold.

    `kind` names what was seen: a built-in mistake such as `writes_into_argument`. `remark` guesses at the cause; it is
    said where no known mistake is recognised.
    """

    kind: str
    sentence: str
    request: Request | None = None
    expected: Any = None
    obtained: Any = None
    remark: str = ""


@dataclass(frozen=True)
class Exercise:
    """An exercise that can be checked: call it with the answer.

    Attributes
    ----------
    name, points, minutes : as the notebook states them.
    kind : one of `answers.KINDS`.
    reference : a right answer of that kind; messages call the arguments by the names of its parameters.
    mistakes : wrong ones, by name; `knows` adds them.
    form : brings the value of a call into the form in which it is compared; `None` compares it as it is.
    withholds : qualified names that would be the answer itself; a grader hides them from the student's code.
    body : what is asked, as a function of a `Task`.
    """

    name: str
    points: float
    minutes: int
    kind: str
    reference: Any
    withholds: tuple[str, ...]
    body: Callable[[Task], None] = field(repr=False)
    form: Callable[[Any], Any] | None = None
    mistakes: dict[str, Mistake] = field(default_factory=dict, repr=False)

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
        self.body(task)
        if task.is_stub():
            return Verdict(self.name, self.points, 0.0, "unsolved", seconds=time.perf_counter() - start)
        if not task.failures:
            return Verdict(self.name, self.points, self.points, "right", properties=tuple(task.properties),
                           seconds=time.perf_counter() - start)
        name, mistake = self._recognise(task)
        failure = task.failures[0]
        if mistake:
            diagnosis: tuple[str, ...] = (f"It looks as if {mistake.sentence}.", failure.sentence)
        else:
            diagnosis = (f"{failure.sentence} {failure.remark}".rstrip(),)
        given = next((a for a in failure.request.arguments if isinstance(a, Tensor)), None) if failure.request else None
        return Verdict(self.name, self.points, round(self.points * _earned_share(task.properties), 2), "wrong", mistake=name,
                       diagnosis=diagnosis, hint=mistake.hint if mistake else None, properties=tuple(task.properties),
                       pictures=pictures_of(given, failure.expected, failure.obtained),
                       seconds=time.perf_counter() - start)

    def _recognise(self, task: Task) -> tuple[str | None, Mistake | None]:
        """The known mistake that does what the answer did, in every call that was compared."""
        wrong = [r for r in task.records if not r.right]
        # what stopped with an error says less than a wrong value; where no value is wrong, arguments may have changed
        telling = [r for r in wrong if not r.reply.problem] or wrong or [r for r in task.records if r.changed]
        records = (telling + [r for r in task.records if r.right and r not in telling])[:MOST_CALLS_TO_MATCH]
        for name, mistake in self.mistakes.items():
            if telling and self._explains(mistake.variant, records):
                return name, mistake
        if len(task.suspects) == 1 and task.suspects[0]:
            return task.suspects[0], self.mistakes.get(task.suspects[0])
        kind = task.failures[0].kind
        return kind, self.mistakes.get(kind)

    def _explains(self, variant: Any, records: list[_Record]) -> bool:
        """Whether a known wrong answer gives what the answer gave, and is wrong itself where that is wrong."""
        as_wrong = False
        for record in records:
            reply = self.perform(variant, record.request)
            if reply.problem or record.reply.problem:
                if not (reply.problem and record.reply.problem and reply.problem.kind == record.reply.problem.kind):
                    return False
                as_wrong = True
                continue
            changed = _changed(self.kind, record.request, reply)
            if changed and changed != record.changed:
                return False
            # float32 sums of unnormalised values differ more than the values of pictures do
            slack = 10 * record.tolerance * max(1.0, largest(record.reply.value))
            if difference(record.reply.value, reply.value, slack):
                return False
            # the slack is wide: what is right, or nearly, would pass for any answer that is nearly right
            as_wrong |= bool(changed) or not record.right and difference(reply.value, record.expected, record.tolerance) is not None
        return as_wrong

    def named_arguments(self, request: Request) -> dict[str, Any]:
        """The arguments of a call by the names of the reference's parameters, or numbered where it has no such names."""
        names = parameter_names(self.reference)
        if len(names) < len(request.arguments):
            names = [f"argument {number}" for number in range(1, len(request.arguments) + 1)]
        return dict(zip(names, request.arguments))


def parameter_names(answer: Any) -> list[str]:
    """The names of an answer's parameters, options after `*` left out; none where the answer has no signature to read."""
    try:
        signature = inspect.signature(getattr(answer, "py_func", answer))
    except (TypeError, ValueError):
        return []
    return [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def exercise(*, points: float, minutes: int, reference: Any, kind: str = "function", withholds: tuple[str, ...] = (),
             form: Callable[[Any], Any] | None = None) -> Callable[[Callable[[Task], None]], Exercise]:
    """Make an `Exercise` of a function that states its properties; the function's name names the exercise."""
    if kind not in answers.KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(answers.KINDS)}")
    return lambda body: Exercise(body.__name__, points, minutes, kind, reference, withholds, body, form)


def _earned_share(properties: list[Property]) -> float:
    """The share of the points that the passed properties carry. Failing what carries none costs the smallest share."""
    shares = [p.share for p in properties if p.share]
    earned = sum(p.share for p in properties if p.passed)
    if any(not p.passed and not p.share for p in properties):
        earned = min(earned, sum(shares) - min(shares))
    return earned / sum(shares)


@dataclass(frozen=True, eq=False)
class _Record:
    """A call that was compared. `changed` are the numbers of the arguments that the answer wrote into, from 0."""

    request: Request
    reply: Reply
    expected: Any
    tolerance: float
    right: bool
    changed: tuple[int, ...]


def _changed(kind: str, request: Request, reply: Reply) -> tuple[int, ...]:
    """The numbers of the arguments that a call has written into. A kernel may."""
    if kind == "kernel":
        return ()
    return tuple(i for i, (given, after) in enumerate(zip(request.arguments, reply.arguments))
                 if isinstance(given, (Tensor, np.ndarray)) and difference(after, given, 0.0))


class _Failed(Exception):
    """Ends a property; the task has noted the failure."""


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
        self._answered = False      # by any call, whatever came back

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
        reply = self._ask(request)      # before the reference, which a stub need not wait for
        if expected is None:
            right = self.exercise.perform(self.exercise.reference, request)
            if right.problem:
                raise RuntimeError(f"the reference of {self.exercise.name} failed: {right.problem}")
            expected = right.value
        found = difference(reply.value, expected, tolerance, inputs=arguments)
        changed = _changed(self.exercise.kind, request, reply)
        self.records.append(_Record(request, reply, expected, tolerance, found is None, changed))
        self._require_untouched(request, changed)
        if found:
            place = answers.KINDS[self.exercise.kind].place(found.where, self.exercise.named_arguments(request))
            self._fail(Failure(found.kind, f"{self._called(request)}{place}{found.sentence}", request, found.expected, found.obtained,
                               found.remark))
        return reply.value

    def call(self, *arguments: Any, shape: tuple[int, ...], **options: Any) -> Tensor:
        """Call the answer for a property that needs no reference; its value has to be a finite tensor of that shape."""
        request = self._request(arguments, options)
        reply = self._ask(request)
        self._require_untouched(request, _changed(self.exercise.kind, request, reply))
        value = reply.value
        if not isinstance(value, Tensor) or tuple(value.shape) != tuple(shape) or not torch.isfinite(value).all():
            self._fail(Failure("wrong_type", f"{self._called(request)}it returned {describe(value)}; "
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

    def is_stub(self) -> bool:
        """Whether every call met the line that the student is to replace; one case left out is a wrong answer."""
        return bool(self.records) and all(r.reply.problem and r.reply.problem.kind == "NotImplementedError" for r in self.records) \
            and not self._answered

    def _request(self, arguments: tuple, options: dict[str, Any]) -> Request:
        answers.require_options(self.exercise.kind, options)
        return Request(arguments, options)

    def _ask(self, request: Request) -> Reply:
        self._last_request = request
        reply = self._call(request)
        if reply.problem:
            self.records.append(_Record(request, reply, None, 0.0, False, ()))
            self._fail(Failure("raises", self._describe_problem(reply.problem, request), request))
        self._answered = True
        return reply

    def _require_untouched(self, request: Request, changed: tuple[int, ...]) -> None:
        if changed:
            name = list(self.exercise.named_arguments(request))[changed[0]]
            self._fail(Failure("writes_into_argument", f"{self._called(request)}it wrote into the {name} that it was given, which the "
                               "caller still needs: make a new tensor instead.", request,
                               remark="`.clone()` makes a copy to work on."))

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        raise _Failed

    # --- words ------------------------------------------------------------------------------------------------------

    def _called(self, request: Request) -> str:
        """The beginning of a sentence about a call."""
        given = self.exercise.named_arguments(request)
        named = "argument 1" not in given
        arguments = ", ".join(f"{name}: {describe(value)}" if named else describe(value) for name, value in given.items())
        return f"Called with {arguments or 'no arguments'}: "

    def _describe_problem(self, problem: Problem, request: Request) -> str:
        if problem.kind in answers.SAID_ALONE:
            return problem.message
        where = f" in line {problem.line_number} of your cell, `{problem.line}`" if problem.line else ""
        if problem.kind in answers.SAID_OF_A_CALL:
            return f"{self._called(request)}{problem.message}{where}."
        return f"{self._called(request)}it stopped with {problem.kind}{where}. Python says: {problem.message or 'nothing more'}"
