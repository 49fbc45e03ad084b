"""The engine of the checks: states properties of an answer, and says which known mistake a wrong one looks like.

    @exercise(points=2, minutes=20, reference=…, mistakes={"not_normalised": Mistake("the window is summed …", …)})
    def box_filter(task):
        with task.property("averages the window, grey and colour", share=1):
            task.compare(task.image(13, 17), 2)

makes `box_filter` an `Exercise`: called with a student's function it returns a `Verdict`, and never raises what the
student's code raised. A grader calls `Exercise.judge` with its own way of calling the answer and a secret seed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.checks import answers
from labkit.checks.answers import Opaque, Problem, Reply, Request
from labkit.checks.verdict import Property, Verdict, marked_by_nbgrader, pictures_of

AXES = {3: ("channel", "row", "column"), 2: ("row", "column"), 4: ("image", "channel", "row", "column"), 1: ("entry",)}
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
    reference : a right answer of that kind. mistakes : wrong ones, by name.
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

    def __call__(self, student: Any) -> Verdict:
        """Check an answer here and now, with the public seed."""
        # to nbgrader, a word on stderr is a failure: a right answer may well provoke a warning of torch's
        with redirect_stderr(sys.stdout) if marked_by_nbgrader() else nullcontext():
            return self.judge(lambda request: answers.perform(self.kind, student, request))

    def judge(self, call: Callable[[Request], Reply], *, seed: int = PUBLIC_SEED) -> Verdict:
        """Check an answer that can only be called.

        Parameters
        ----------
        call : sends a request to the answer and returns its reply, from wherever the answer lives.
        seed : decides every random input.
        """
        start = time.perf_counter()
        task = Task(self, call, seed)
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
        reply = answers.perform(self.kind, variant, record.request)
        if reply.problem or record.reply.problem:
            both = reply.problem and record.reply.problem
            return bool(both) and reply.problem.kind == record.reply.problem.kind
        # float32 sums of unnormalised values differ more than the values of pictures do
        slack = 10 * record.tolerance * max(1.0, _largest(record.reply.value))
        return _difference(record.reply.value, reply.value, slack) is None


def _largest(value: Any) -> float:
    """The largest absolute value in a piece of plain data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return max(map(_largest, value), default=0.0)
    if isinstance(value, Tensor) and value.numel() and value.is_floating_point():
        return float(value.nan_to_num().abs().max())
    return 0.0


def exercise(*, points: float, minutes: int, reference: Any, mistakes: dict[str, Mistake], kind: str = "function",
             withholds: tuple[str, ...] = ()) -> Callable[[Callable[[Task], None]], Exercise]:
    """Make an `Exercise` of a function that states its properties; the function's name names the exercise."""
    if kind not in answers.KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(answers.KINDS)}")
    return lambda body: Exercise(body.__name__, points, minutes, kind, reference, mistakes, withholds, body)


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
        Returns the answer's value.
        """
        request = Request(arguments, options)
        if expected is None:
            reply = answers.perform(self.exercise.kind, self.exercise.reference, request)
            if reply.problem:
                raise RuntimeError(f"the reference of {self.exercise.name} failed: {reply.problem}")
            expected = reply.value
        reply = self._ask(request)
        difference = _difference(reply.value, expected, tolerance)
        self.records.append(_Record(request, reply, tolerance, difference is None))
        self._require_untouched(request, reply)
        if difference:
            kind, sentence, wanted, got = difference
            self._fail(Failure(kind, f"Called with {_describe_call(arguments)}: {sentence}", request, wanted, got))
        return reply.value

    def call(self, *arguments: Any, shape: tuple[int, ...], **options: Any) -> Tensor:
        """Call the answer for a property that needs no reference; its value has to be a finite tensor of that shape."""
        request = Request(arguments, options)
        reply = self._ask(request)
        self._require_untouched(request, reply)
        value = reply.value
        if not isinstance(value, Tensor) or tuple(value.shape) != tuple(shape) or not torch.isfinite(value).all():
            self._fail(Failure("wrong_type", f"Called with {_describe_call(arguments)}: it returned {_describe(value)}; "
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

    # --- the engine's own -------------------------------------------------------------------------------------------

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
            if isinstance(given, (Tensor, np.ndarray)) and _difference(after, given, 0.0) is not None:
                self._fail(Failure("writes_into_input", f"Called with {_describe_call(request.arguments)}: it wrote into "
                                   f"its argument number {number}. Make a new tensor (or .clone()) instead of assigning "
                                   "into the one that was given: the caller still needs it.", request))

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        raise _Failed


# --- comparing ------------------------------------------------------------------------------------------------------

def _difference(obtained: Any, expected: Any, tolerance: float) -> tuple[str, str, Any, Any] | None:
    """`None` where two pieces of plain data agree, else what kind of difference, in words, and the two pieces."""
    if isinstance(expected, dict):
        if not isinstance(obtained, dict):
            return "wrong_type", f"it returned {_describe(obtained)}; expected {_describe(expected)}.", None, None
        for key, value in expected.items():
            found = _difference(obtained.get(key), value, tolerance)
            if found:
                return found[0], f"its {key}: {found[1]}", found[2], found[3]
        return None
    if isinstance(expected, (tuple, list)):
        if not isinstance(obtained, (tuple, list)) or len(obtained) != len(expected):
            kind = "returns_nothing" if obtained is None else "wrong_type"
            return kind, f"it returned {_describe(obtained)}; expected {_values(len(expected))}.", None, None
        for number, (mine, theirs) in enumerate(zip(obtained, expected), start=1):
            found = _difference(mine, theirs, tolerance)
            if found:
                return found[0], f"number {number} of {len(expected)}: {found[1]}", found[2], found[3]
        return None
    if isinstance(expected, (Tensor, np.ndarray)):
        return _tensor_difference(obtained, expected, tolerance)
    if obtained is None and expected is not None:
        return "returns_nothing", "it returned nothing (None): is the last line a `return`?", None, None
    number = obtained
    if isinstance(expected, (bool, str)) or expected is None:
        same = type(obtained) is type(expected) and obtained == expected
    else:
        number = obtained.item() if isinstance(obtained, Tensor) and obtained.numel() == 1 else obtained
        same = isinstance(number, (int, float, np.number)) and bool(abs(number - expected) <= tolerance)
    shown = number if isinstance(expected, (int, float)) and isinstance(obtained, Tensor) and obtained.numel() == 1 else obtained
    return None if same else ("wrong_values", f"it returned {_describe(shown)}; expected {_describe(expected)}.",
                              expected, obtained)


def _tensor_difference(obtained: Any, expected: Tensor | np.ndarray, tolerance: float) -> tuple[str, str, Any, Any] | None:
    if obtained is None:
        return "returns_nothing", "it returned nothing (None): is the last line a `return`?", None, None
    if isinstance(expected, np.ndarray) and isinstance(obtained, np.ndarray):
        obtained, expected = torch.from_numpy(obtained), torch.from_numpy(expected)
    if not (isinstance(obtained, Tensor) and isinstance(expected, Tensor)):
        return "wrong_type", f"it returned {_describe(obtained)}; expected {_describe(expected)}.", None, None
    if obtained.shape != expected.shape:
        return "wrong_shape", (f"it returned a tensor of shape {tuple(obtained.shape)}; expected {tuple(expected.shape)}"
                               f"{_shape_remark(obtained, expected)}."), expected, obtained
    if obtained.dtype != expected.dtype:
        of_input = ", that of the input" if expected.is_floating_point() else ""
        return "wrong_dtype", (f"it returned dtype {_dtype(obtained)}; expected {_dtype(expected)}{of_input}."), \
            expected, obtained
    if expected.numel() == 0:
        return None
    finite, wanted = torch.isfinite(obtained), torch.isfinite(expected)
    if finite.all() and not wanted.all():   # only a known mistake, compared with the answer, is expected to give NaN
        return "wrong_values", "its values are finite where NaN was expected.", expected, obtained
    if not torch.equal(finite, wanted):
        first = tuple(int(i) for i in (finite != wanted).nonzero()[0])
        return "not_finite", (f"{int((~finite).sum())} of {obtained.numel()} values are NaN or infinite, the first at "
                              f"{_place(first)}. A division by zero, a logarithm, the root of a negative number or an exponential "
                              "too large makes those."), \
            expected, obtained
    gap = torch.where(finite, (obtained.double() - expected.double()).abs(), 0)
    if float(gap.max()) <= tolerance:
        return None
    where = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), tuple(gap.shape)))
    if expected.dtype == torch.float64 and float(gap.max()) < 1e-5 * max(1.0, float(expected[finite].abs().max())):
        return "wrong_values", (f"it is right to about six digits only (the largest difference is {float(gap.max()):.2g}), although "
                                "the input is float64: something on the way was computed in float32."), expected, obtained
    return "wrong_values", (f"{_pattern(obtained, expected, tolerance)}the largest difference is {float(gap.max()):.3g}, at "
                            f"{_place(where)}: expected {float(expected[where]):.4f}, yours {float(obtained[where]):.4f}."), \
        expected, obtained


def _pattern(obtained: Tensor, expected: Tensor, tolerance: float) -> str:
    """What the wrong values have in common, when it is something that can be said in a sentence."""
    mine, theirs = obtained.double(), expected.double()
    loose = 10 * max(tolerance, 1e-6)
    if not mine.any():
        return "every value is 0; "
    offset = mine - theirs
    if float(offset.max() - offset.min()) <= loose:
        return f"every value is off by {float(offset.mean()):.4g}; "
    if float(theirs.abs().min()) > 1e-3:
        ratio = mine / theirs
        if float(ratio.max() - ratio.min()) <= loose * max(1.0, float(ratio.abs().max())):
            return f"every value is {float(ratio.mean()):.4g} times what it should be; "
    if mine.ndim >= 2 and min(mine.shape[-2:]) > 2:
        if mine.shape[-2] == mine.shape[-1] and float((mine.transpose(-1, -2) - theirs).abs().max()) <= loose:
            return "it is the right result with rows and columns exchanged; "
        for axis, moved in ((-2, "row"), (-1, "column")):
            for step in (1, -1):
                shifted = mine.roll(step, axis).narrow(axis, 1, mine.shape[axis] - 2)
                if float((shifted - theirs.narrow(axis, 1, mine.shape[axis] - 2)).abs().max()) <= loose:
                    return f"it is the right result moved by one {moved}; "
        wrong = ((mine - theirs).abs() > loose).reshape(-1, *mine.shape[-2:]).any(0)
        rows, columns = torch.meshgrid(*(torch.arange(side) for side in wrong.shape), indexing="ij")
        depth = torch.stack([rows, columns, wrong.shape[0] - 1 - rows, wrong.shape[1] - 1 - columns]).amin(0)
        deepest = int(depth[wrong].max()) + 1 if wrong.any() else 0
        if mine.ndim >= 3 and 0 < 4 * deepest <= min(wrong.shape):
            return f"it is right except within {deepest} pixel{'s' if deepest > 1 else ''} of the border; "
    return ""


def _shape_remark(obtained: Tensor, expected: Tensor) -> str:
    if sorted(obtained.shape) == sorted(expected.shape):
        return ": the same sizes in another order"
    if expected.is_floating_point() and obtained.ndim == expected.ndim - 1 and tuple(obtained.shape) == tuple(expected.shape[1:]):
        return ": the channels have been summed or dropped"
    if obtained.ndim == expected.ndim and obtained.ndim >= 2:
        lost = [e - o for o, e in zip(obtained.shape[-2:], expected.shape[-2:])]
        if all(n > 0 for n in lost):
            return f": {lost[0]} rows and {lost[1]} columns are missing; was a border not padded?"
    return ""


# --- words ----------------------------------------------------------------------------------------------------------

def _describe_call(arguments: tuple) -> str:
    return ", ".join(_describe(a) for a in arguments) or "no arguments"


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{'an' if _dtype(value).startswith('int') else 'a'} {_dtype(value)} tensor {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array {value.shape}"
    if isinstance(value, answers.Fixture):
        return value.name.replace("_", " ")
    if isinstance(value, Opaque):
        return value.description
    if isinstance(value, (tuple, list)) and 0 < len(value) <= 4 and all(isinstance(v, (int, float)) for v in value):
        return f"({', '.join(map(_describe, value))})"
    if isinstance(value, (tuple, list)):
        return _values(len(value))
    if isinstance(value, dict):
        return "values named " + ", ".join(map(str, value))
    return "nothing (None)" if value is None else f"{value:.6g}" if isinstance(value, float) else repr(value)


def _values(number: int) -> str:
    return f"{number} value{'' if number == 1 else 's'}"


def _describe_problem(problem: Problem, request: Request) -> str:
    if problem.kind in answers.SAID_ALONE:
        return problem.message
    call = f"Called with {_describe_call(request.arguments)}: "
    where = f" in line {problem.line_number} of your cell, `{problem.line}`" if problem.line else ""
    if problem.kind in answers.SAID_OF_A_CALL:
        return f"{call}{problem.message}{where}."
    return f"{call}it stopped with {problem.kind}{where}. Python says: {problem.message or 'nothing more'}"


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _place(where: tuple[int, ...]) -> str:
    axes = AXES.get(len(where))
    return "(" + ", ".join(f"{axis} {i}" for axis, i in zip(axes, where)) + ")" if axes else str(where)
