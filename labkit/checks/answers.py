"""What an answer is, and how it is called: the same way in a notebook and across a process boundary.

A check never looks into an answer; it sends a `Request` and gets a `Reply`, both made of plain data (tensors, arrays,
numbers, strings, tuples, lists and dictionaries of them, and `Fixture`s, which are names). `perform` is the only code
that touches the student's object. In a notebook it runs in place; a grader runs the very same function beside the
student's code in another process and passes requests and replies on.

An answer is of one of six kinds:

| kind | the student writes | a call gives back |
| --- | --- | --- |
| `function` | a function of tensors and numbers | its value |
| `differentiable` | the same, of torch operations | its value and, for a cotangent, the vector–Jacobian products |
| `module` | a `torch.nn.Module` class, or a function that builds one | the output for weights that the check sets |
| `step` | a training step `(model, optimizer, …)` | the weights after one to three steps |
| `sampler` | a function that calls a denoiser or an objective given to it | its value, and the calls it made |
| `kernel` | a numba kernel, `@njit` or `@cuda.jit` | the arrays after the launch |
"""

from __future__ import annotations

import linecache
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from labkit.checks import fixtures

__all__ = ["KINDS", "Fixture", "Kind", "Opaque", "Problem", "Refusal", "Reply", "Request", "Where", "copy", "perform", "problem_of",
           "require_options"]

Where = tuple[Any, ...]     # what leads to a part of a value: keys of dictionaries, `(number, of how many)` in lists


@dataclass(frozen=True)
class Fixture:
    """An argument that is not data: a name from `labkit.checks.fixtures`, built beside the student's code."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


# Kinds of problem that are no exceptions of the student's: their message goes on after "Called with …:" or, where the
# answer was never called, stands alone.
SAID_OF_A_CALL = ("Refusal", "Withheld", "TimeLimit", "MemoryLimit", "ProcessLimit", "FileLimit", "OutputLimit",
                  "Crash", "Protocol")
SAID_ALONE = ("MissingAnswer", "CellFailed", "NotRun")


@dataclass(frozen=True)
class Problem:
    """What went wrong inside the student's code: the exception, and the line of theirs that led to it."""

    kind: str
    message: str
    line_number: int | None = None
    line: str = ""


@dataclass(frozen=True)
class Request:
    """One call. `options` belong to the kind: `KINDS` lists them."""

    arguments: tuple = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What came back: the value, the arguments as the call left them, or a problem; and the time it took."""

    value: Any = None
    arguments: tuple = ()
    problem: Problem | None = None
    seconds: float = 0.0


class Refusal(Exception):
    """The answer cannot be called as its kind asks; the message is for the student."""


def perform(kind: str, student: Any, request: Request) -> Reply:
    """Call the student's object once, on copies of the arguments, and account for everything that it did.

    Any exception of the student's becomes a `Problem`; `KeyboardInterrupt` passes.

    Raises
    ------
    ValueError : calls of this kind take no such option, or one is missing.
    """
    require_options(kind, request.options)
    built: list[Any] = []
    arguments = tuple(_materialise(argument, built) for argument in request.arguments)
    start = time.perf_counter()
    try:
        value = KINDS[kind].perform(student, arguments, request.options, built)
        problem = None
    except Refusal as refusal:
        value, problem = None, Problem("Refusal", str(refusal))
    except Exception as error:
        value, problem = None, problem_of(error)
    seconds = time.perf_counter() - start
    after = tuple(given if isinstance(given, Fixture) else _plain(argument)
                  for given, argument in zip(request.arguments, arguments))
    return Reply(_plain(value), after, problem, seconds)


# --- the six kinds --------------------------------------------------------------------------------------------------

def _call_function(student: Callable, arguments: tuple, options: dict, built: list) -> Any:
    _require_callable(student, "a function")
    return student(*arguments)


def _call_differentiable(student: Callable, arguments: tuple, options: dict, built: list) -> Any:
    _require_callable(student, "a function")
    cotangent = options.get("cotangent")
    if cotangent is None:
        return student(*arguments)
    inputs = [a.requires_grad_() for a in arguments if isinstance(a, Tensor) and a.is_floating_point()]
    value = student(*arguments)
    if not isinstance(value, Tensor) or not value.requires_grad:
        raise Refusal("its result has lost the gradient of its inputs: use torch operations only, without .detach(), "
                      ".item(), .data, torch.no_grad() or NumPy on the way")
    if value.shape != cotangent.shape:
        return {"value": value.detach(), "gradients": None}
    gradients = torch.autograd.grad(value, inputs, cotangent, allow_unused=True)
    return {"value": value.detach(),
            "gradients": [torch.zeros_like(i) if g is None else g for i, g in zip(inputs, gradients)]}


def _call_module(student: Callable, arguments: tuple, options: dict, built: list) -> Any:
    _require_callable(student, "a Module class, or a function that builds a module")
    module = student(*arguments)
    if not isinstance(module, torch.nn.Module):
        raise Refusal(f"it builds {_name(module)}; expected a torch.nn.Module")
    module.eval()
    fixtures.set_weights(module, options["weights"], refuse=Refusal)
    inputs = [_materialise(i, built) for i in options["inputs"]]
    with torch.no_grad():
        return {"output": module(*inputs), "parameters": sum(p.numel() for p in module.parameters())}


def _call_step(student: Callable, arguments: tuple, options: dict, built: list) -> Any:
    _require_callable(student, "a training step")
    model = next((b for b in built if isinstance(b, torch.nn.Module)), None)
    returned = [student(*arguments) for _ in range(options.get("repeat", 1))]
    return {"returned": [r.detach() if isinstance(r, Tensor) else r for r in returned],
            "weights": [] if model is None else [p.detach().clone() for p in model.parameters()]}


def _call_sampler(student: Callable, arguments: tuple, options: dict, built: list) -> Any:
    _require_callable(student, "a function")
    value = student(*arguments)
    calls = [call for b in built for call in getattr(b, "calls", ())]   # each a dictionary: what was noted, by its name
    return {"value": value, "number of calls": len(calls), "calls": calls}


def _call_kernel(student: Any, arguments: tuple, options: dict, built: list) -> Any:
    arrays = [a.numpy() if isinstance(a, Tensor) else a for a in arguments]
    if "grid" not in options:
        if not hasattr(student, "py_func"):
            raise Refusal(f"it is {_name(student)}; expected a function compiled by numba (@njit above its def)")
        value = student(*arrays)
        reply = {"value": value, "arrays": [a for a in arrays if isinstance(a, np.ndarray)]}
        return reply | ({"parallel": False} if _asks_for_cores_in_vain(student) else {})
    from numba import cuda

    if not hasattr(student, "__getitem__"):
        raise Refusal(f"it is {_name(student)}; expected a CUDA kernel (@cuda.jit above its def)")
    on_device = [cuda.to_device(a) if isinstance(a, np.ndarray) else a for a in arrays]
    student[options["grid"], options["block"]](*on_device)
    cuda.synchronize()
    return {"value": None, "arrays": [a.copy_to_host() for a, given in zip(on_device, arrays)
                                      if isinstance(given, np.ndarray)]}


def _asks_for_cores_in_vain(kernel: Any) -> bool:
    """Whether a kernel is compiled with `parallel=True`, and numba found nothing in it to run in parallel."""
    if not getattr(kernel, "targetoptions", {}).get("parallel"):
        return False
    found = [data.get("parfor_diagnostics") for data in kernel.get_metadata().values()]
    return bool(found) and all(d is not None and d.count_parfors() == 0 for d in found)


# What a part of such a value is called. `given` holds the arguments by the names of their parameters.

def _place(where: Where, given: dict[str, Any]) -> str:
    return "".join(f"its {part}: " if isinstance(part, str) else f"number {part[0]} of {part[1]}: " for part in where)


def _place_of_gradient(where: Where, given: dict[str, Any]) -> str:
    if where[:1] != ("gradients",) or len(where) == 1:
        return _place(where, given)
    names = [name for name, argument in given.items() if isinstance(argument, Tensor) and argument.is_floating_point()]
    return f"the gradient of {names[where[1][0] - 1]}: " + _place(where[2:], given)


def _place_in_module(where: Where, given: dict[str, Any]) -> str:
    return "its number of parameters: " if where == ("parameters",) else _place(where, given)


def _place_after_step(where: Where, given: dict[str, Any]) -> str:
    if len(where) < 2:
        return _place(where, given)
    (part, (number, of)), rest = where[:2], _place(where[2:], given)
    if part == "weights":
        return f"number {number} of {of} of the model's parameters, after the step: {rest}"
    return f"what it returns{f' from call {number} of {of}' if of > 1 else ''}: {rest}"


def _place_in_sampler(where: Where, given: dict[str, Any]) -> str:
    name = next((name for name, argument in given.items() if isinstance(argument, Fixture)), "what it was given")
    if where == ("number of calls",):
        return f"the number of times that {name} was called: "
    if where[:1] == ("calls",) and len(where) == 3:
        (number, of), noted = where[1:]
        return f"the {noted} that {name} was given in call {number} of {of}: "
    return "what it returns: " + _place(where[1:], given)


def _place_after_launch(where: Where, given: dict[str, Any]) -> str:
    if where[:1] != ("arrays",) or len(where) == 1:
        return "what it returns: " + _place(where[1:], given)
    names = [name for name, argument in given.items() if isinstance(argument, (Tensor, np.ndarray))]
    return f"the array {names[where[1][0] - 1]} after the launch: " + _place(where[2:], given)


class Kind(NamedTuple):
    """How an answer of a kind is called, what its value's parts are called, and the options that a call takes."""

    perform: Callable[[Any, tuple, dict, list], Any]
    place: Callable[[Where, dict[str, Any]], str] = _place
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()      # the options that it cannot do without
    together: bool = False              # all options or none


KINDS = {
    "function": Kind(_call_function),
    "differentiable": Kind(_call_differentiable, _place_of_gradient, options=("cotangent",)),
    "module": Kind(_call_module, _place_in_module, options=("weights", "inputs"), required=("weights", "inputs")),
    "step": Kind(_call_step, _place_after_step, options=("repeat",)),
    "sampler": Kind(_call_sampler, _place_in_sampler),
    "kernel": Kind(_call_kernel, _place_after_launch, options=("grid", "block"), together=True),
}


def require_options(kind: str, options: dict[str, Any]) -> None:
    """Refuse options that a call of this kind does not know, and calls that lack one which they need.

    Raises
    ------
    ValueError : names the option, the kind and what it takes.
    """
    known = KINDS[kind]
    takes = f"a call of kind {kind!r} takes {', '.join(known.options) or 'no options'}"
    for name in options:
        if name not in known.options:
            raise ValueError(f"option {name!r} was given; {takes}")
    for name in known.options if known.together and options else known.required:
        if name not in options:
            raise ValueError(f"option {name!r} is missing; {takes}" + (", all or none" if known.together else ""))


# --- plain data -----------------------------------------------------------------------------------------------------

def copy(value: Any) -> Any:
    """A deep copy of plain data: tensors and arrays are cloned, containers rebuilt, everything else is as it was."""
    return _map(value, lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor)
                else leaf.copy() if isinstance(leaf, np.ndarray) else leaf)


def _materialise(value: Any, built: list) -> Any:
    if isinstance(value, Fixture):
        built.append(fixtures.build(value.name, value.parameters, built))
        return built[-1]
    if isinstance(value, (tuple, list)):
        return type(value)(_materialise(v, built) for v in value)
    return copy(value)


def _plain(value: Any) -> Any:
    """What may leave the student's side. A tensor subclass is reduced to its numbers, so that it cannot lie."""
    def leaf(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.detach().as_subclass(Tensor).clone()
        if isinstance(item, np.ndarray):
            return np.array(item, copy=True, subok=False)
        return item if item is None or isinstance(item, (bool, int, float, str, np.generic)) else Opaque(_name(item))
    return _map(value, leaf)


@dataclass(frozen=True)
class Opaque:
    """Stands for something that is not plain data, by the name of its type."""

    description: str


def _map(value: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(_map(v, leaf) for v in value)
    if isinstance(value, list):
        return [_map(v, leaf) for v in value]
    if isinstance(value, dict):
        return {key: _map(v, leaf) for key, v in value.items()}
    return leaf(value)


def _require_callable(student: Any, expected: str) -> None:
    if not callable(student):
        raise Refusal(f"the check was given {_name(student)}; expected {expected} itself, by its name and without calling it")


def _name(value: Any) -> str:
    name = type(value).__name__
    return "nothing (None)" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def problem_of(error: BaseException) -> Problem:
    """The exception in the student's words: the last line of their code in the traceback, not one of a library's."""
    libraries = tuple({str(Path(__file__).resolve().parent.parent), sys.prefix, sys.base_prefix, str(Path(torch.__file__).parent)})
    number, line = None, ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith((*libraries, "<frozen")):
            number, line = frame.lineno, (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
    return Problem(type(error).__name__, str(error), number, line)
