"""How two pieces of plain data differ, and the words in which a check says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from labkit.checks.answers import Fixture, Opaque, Where

__all__ = ["Difference", "describe", "difference", "largest"]


class Difference(NamedTuple):
    """How what was obtained differs from what was expected, at the first place where it does.

    Attributes
    ----------
    kind : names the difference, such as `wrong_shape`.
    sentence : says what was obtained and what was expected.
    expected, obtained : the two pieces, where they can be shown side by side.
    where : what leads to them from the whole value: keys of dictionaries, `(number, of how many)` in lists; numbers begin with 1.
    remark : a guess at the cause, to be said only while the cause is not known.
    """

    kind: str
    sentence: str
    expected: Any = None
    obtained: Any = None
    where: Where = ()
    remark: str = ""


def difference(obtained: Any, expected: Any, tolerance: float, *, inputs: Sequence[Any] = (), where: Where = ()) -> Difference | None:
    """`None` where two pieces of plain data agree up to an absolute `tolerance`, else how they differ.

    Parameters
    ----------
    inputs : the arguments from which the value was computed; they say whether a dtype is that of the input.
    where : what leads to the two pieces from a larger value that they are part of.
    """
    returned = _returned(where)
    if obtained is None and expected is not None:
        return Difference("returns_nothing", f"{returned}nothing (None); expected {describe(expected)}.", where=where,
                          remark="Is the last line a `return`?")
    if isinstance(expected, (dict, tuple, list)):
        if not _alike_in_size(obtained, expected):
            wanted = describe(expected) if isinstance(expected, dict) else _plural(len(expected), "value")
            return Difference("wrong_type", f"{returned}{describe(obtained)}; expected {wanted}.", expected, obtained, where)
        parts = (difference(mine, theirs, tolerance, inputs=inputs, where=(*where, place)) for place, mine, theirs in _parts(obtained, expected))
        return next((found for found in parts if found), None)
    if isinstance(expected, np.ndarray) and isinstance(obtained, np.ndarray):
        obtained, expected = torch.from_numpy(obtained), torch.from_numpy(expected)
    if isinstance(expected, (Tensor, np.ndarray)):
        if not (isinstance(obtained, Tensor) and isinstance(expected, Tensor)):
            return Difference("wrong_type", f"{returned}{describe(obtained)}; expected {describe(expected)}.", where=where)
        return _type_difference(obtained, expected, inputs, where) or _value_difference(obtained, expected, tolerance, inputs, where)
    return _number_difference(obtained, expected, tolerance, where)


def largest(value: Any) -> float:
    """The largest absolute floating-point value in a piece of plain data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return max(map(largest, value), default=0.0)
    if isinstance(value, Tensor) and value.numel() and value.is_floating_point():
        return float(value.nan_to_num().abs().max())
    return 0.0


# --- containers and numbers -----------------------------------------------------------------------------------------

def _alike_in_size(obtained: Any, expected: dict | tuple | list) -> bool:
    """Whether a container can be compared part by part with the one that is expected; a dictionary may hold more."""
    if isinstance(expected, dict):
        return isinstance(obtained, dict)
    return isinstance(obtained, (tuple, list)) and len(obtained) == len(expected)


def _parts(obtained: Any, expected: dict | tuple | list) -> Iterator[tuple[str | tuple[int, int], Any, Any]]:
    """For each part: its place, what was obtained there and what was expected."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            yield key, obtained.get(key), value
    else:
        for number, (mine, theirs) in enumerate(zip(obtained, expected), start=1):
            yield (number, len(expected)), mine, theirs


def _number_difference(obtained: Any, expected: Any, tolerance: float, where: Where) -> Difference | None:
    """Of a number, where a tensor or an array of one entry is as good; or of a word, a truth value or `None`."""
    number = obtained
    if isinstance(expected, (bool, str)) or expected is None:
        same = type(obtained) is type(expected) and obtained == expected
    else:
        number = obtained.item() if isinstance(obtained, Tensor) and obtained.numel() == 1 else obtained
        same = isinstance(number, (int, float, np.number)) and bool(abs(number - expected) <= tolerance)
    if same:
        return None
    wanted, got = _apart(expected, number)
    return Difference("wrong_values", f"{_returned(where)}{got}; expected {wanted}.", expected, obtained, where)


# --- tensors --------------------------------------------------------------------------------------------------------

def _type_difference(obtained: Tensor, expected: Tensor, inputs: Sequence[Any], where: Where) -> Difference | None:
    """In shape or dtype."""
    returned = _returned(where)
    if obtained.shape != expected.shape:
        return Difference("wrong_shape", f"{returned}a tensor of shape {tuple(obtained.shape)}; expected {tuple(expected.shape)}.",
                          expected, obtained, where, _shape_remark(obtained, expected))
    if obtained.dtype != expected.dtype:
        of_input = ", that of the input" if expected.is_floating_point() and _has_dtype(inputs, expected.dtype) else ""
        return Difference("wrong_dtype", f"{returned}dtype {_dtype(obtained)}; expected {_dtype(expected)}{of_input}.",
                          expected, obtained, where)
    return None


def _value_difference(obtained: Tensor, expected: Tensor, tolerance: float, inputs: Sequence[Any], where: Where) -> Difference | None:
    """In values, of two tensors of the same shape and dtype."""
    if torch.equal(obtained, expected):     # nearly always so, and quick to see
        return None
    finite, wanted = torch.isfinite(obtained), torch.isfinite(expected)
    if finite.all() and not wanted.all():   # only a known mistake, compared with the answer, is expected to give NaN
        return Difference("wrong_values", "its values are finite where NaN was expected.", expected, obtained, where)
    if not torch.equal(finite, wanted):
        first = tuple(int(i) for i in (finite != wanted).nonzero()[0])
        return Difference("not_finite", f"{int((~finite).sum())} of {obtained.numel()} values are NaN or infinite, the first at "
                          f"{_place(first, expected)}.", expected, obtained, where,
                          "A division by zero, a logarithm, the root of a negative number or an exponential too large makes those.")
    gap = torch.where(finite, (_wide(obtained) - _wide(expected)).abs(), 0)
    size = float(gap.max())
    if size <= tolerance:
        return None
    if expected.dtype == torch.float64 and size < 1e-5 * max(1.0, float(expected[finite].abs().max())):
        although = ", although the input is float64" if _has_dtype(inputs, torch.float64) else ""
        return Difference("wrong_values", f"it is right to about six digits only (the largest difference is {size:.2g}){although}.",
                          expected, obtained, where, "Something on the way was computed in float32.")
    at = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), tuple(gap.shape)))
    shown = f"{_place(at, expected)}: expected {{}}, yours {{}}.".format(*_apart(*_entries(at, expected, obtained), shortest=".4f"))
    if expected.dtype == torch.bool:
        sentence = f"{int(gap.sum())} of {gap.numel()} values are wrong, the first at {shown}"
    else:
        amount = f"{size:.3g}" if expected.is_floating_point() or expected.is_complex() else f"{size:.0f}"
        sentence = f"the largest difference is {amount}, at {shown}"
    return Difference("wrong_values", _pattern(obtained, expected, tolerance) + sentence, expected, obtained, where)


def _pattern(obtained: Tensor, expected: Tensor, tolerance: float) -> str:
    """What the wrong values have in common, when it is something that can be said in a sentence."""
    mine, theirs = _wide(obtained), _wide(expected)
    loose = 10 * max(tolerance, 1e-6)
    if not mine.any():
        return f"every value is {False if obtained.dtype == torch.bool else 0}; "
    if mine.is_complex():
        return ""
    offset = mine - theirs
    spread, mean = float(offset.max() - offset.min()), float(offset.mean())
    if spread <= loose and spread <= 0.05 * abs(mean):
        return f"every value is off by {mean:.4g}; "
    if float(theirs.abs().min()) > 1e-3:
        ratio = mine / theirs
        spread, mean = float(ratio.max() - ratio.min()), float(ratio.mean())
        if spread <= loose * max(1.0, float(ratio.abs().max())) and spread <= 0.05 * abs(mean - 1):
            return f"every value is {_apart(1.0, mean, shortest='.4g')[1]} times what it should be; "
    if mine.ndim < 2 or min(mine.shape[-2:]) <= 2 or float(offset.abs().max()) <= loose:
        return ""
    if mine.shape[-2] == mine.shape[-1] and float((mine.transpose(-1, -2) - theirs).abs().max()) <= loose:
        return "it is the right result with rows and columns exchanged; "
    for axis, moved in ((-2, "row"), (-1, "column")):
        for step in (1, -1):
            shifted = mine.roll(step, axis).narrow(axis, 1, mine.shape[axis] - 2)
            if float((shifted - theirs.narrow(axis, 1, mine.shape[axis] - 2)).abs().max()) <= loose:
                return f"it is the right result moved by one {moved}; "
    depth = _deepest((offset.abs() > loose).reshape(-1, *mine.shape[-2:]).any(0))
    if mine.ndim >= 3 and 0 < 4 * depth <= min(mine.shape[-2:]):
        return f"it is right except within {_plural(depth, 'pixel')} of the border; "
    return ""


def _deepest(wrong: Tensor) -> int:
    """How far from the border of a mask `(rows, columns)` its True pixels reach: 1 for those at the border, 0 where there are none."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in wrong.shape), indexing="ij")
    depth = torch.stack([rows, columns, wrong.shape[0] - 1 - rows, wrong.shape[1] - 1 - columns]).amin(0)
    return int(depth[wrong].max()) + 1 if wrong.any() else 0


def _shape_remark(obtained: Tensor, expected: Tensor) -> str:
    if sorted(obtained.shape) == sorted(expected.shape):
        return "These are the same sizes in another order."
    if expected.is_floating_point() and obtained.ndim == expected.ndim - 1 and tuple(obtained.shape) == tuple(expected.shape[1:]):
        return "The channels have been summed or dropped."
    if obtained.ndim == expected.ndim and obtained.ndim >= 2:
        rows, columns = (e - o for o, e in zip(obtained.shape[-2:], expected.shape[-2:]))
        if rows > 0 and columns > 0:
            missing = f"{_plural(rows, 'row')} and {_plural(columns, 'column')} are missing"
            return f"{missing}; was a border not padded?" if expected.is_floating_point() else f"{missing}."
    return ""


def _has_dtype(inputs: Sequence[Any], dtype: torch.dtype) -> bool:
    return any(_has_dtype(i, dtype) if isinstance(i, (tuple, list)) else isinstance(i, Tensor) and i.dtype == dtype for i in inputs)


def _wide(value: Tensor) -> Tensor:
    """In double precision, so that a difference is exact for all that float64 holds."""
    return value.to(torch.complex128) if value.is_complex() else value.double()


# --- words ----------------------------------------------------------------------------------------------------------

def describe(value: Any) -> str:
    """A piece of plain data in a few words: its kind and size, or itself where it is a number or a short list of them."""
    if isinstance(value, Tensor):
        return f"{'an' if _dtype(value).startswith('int') else 'a'} {_dtype(value)} tensor {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array {value.shape}"
    if isinstance(value, Fixture):
        return value.name.replace("_", " ")
    if isinstance(value, Opaque):
        return value.description
    if isinstance(value, (tuple, list)) and 0 < len(value) <= 4 and all(isinstance(v, (int, float)) for v in value):
        return f"({', '.join(map(describe, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, (tuple, list)):
        return _plural(len(value), "value")
    if isinstance(value, dict):
        return "values named " + ", ".join(map(str, value))
    if isinstance(value, np.generic):
        return describe(value.item())
    return "nothing (None)" if value is None else f"{value:.6g}" if isinstance(value, float) else repr(value)


def _returned(where: Where) -> str:
    """How a sentence about a value begins; parts with a name are named before it."""
    return "" if any(isinstance(part, str) for part in where) else "it returned "


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _is_field(value: Tensor) -> bool:
    """Whether a tensor is a field of positions `(2, rows, columns)`, whose first axis holds row and column."""
    whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    return whole and value.ndim == 3 and value.shape[0] == 2


def _place(index: tuple[int, ...], value: Tensor) -> str:
    """An index in words: channels where the tensor is a picture or a batch of them, plain numbers where it may be anything."""
    of_positions = _is_field(value) or value.dtype == torch.bool and value.ndim == 3 and value.shape[0] == 1
    axes: tuple[str, ...] = {1: ("entry",), 2: ("row", "column")}.get(value.ndim, ())
    if of_positions:
        index, axes = index[1:], ("row", "column")
    elif value.is_floating_point() and value.ndim in (3, 4) and value.shape[-3] <= 3:
        axes = ("image", "channel", "row", "column")[4 - value.ndim:]
    return "(" + ", ".join(f"{axis} {i}" for axis, i in zip(axes, index)) + ")" if axes else str(index)


def _entries(index: tuple[int, ...], expected: Tensor, obtained: Tensor) -> tuple[Any, Any]:
    """What the two hold there: numbers, or whole positions of fields."""
    if _is_field(expected):
        row, column = index[1:]
        return tuple(expected[:, row, column].tolist()), tuple(obtained[:, row, column].tolist())
    return expected[index].item(), obtained[index].item()


def _apart(expected: Any, obtained: Any, *, shortest: str = ".6g") -> tuple[str, ...]:
    """Two entries that differ, with as many digits as it takes to see that they do, in the `shortest` format if that is enough."""
    if not any(isinstance(value, (float, complex)) for value in (expected, obtained)):
        return describe(expected), describe(obtained)
    codes = (shortest, *(f".{digits}g" for digits in range(5, 18)))
    shown = [tuple(format(v, code) if isinstance(v, (float, complex)) else describe(v) for v in (expected, obtained)) for code in codes]
    return next((pair for pair in shown if pair[0] != pair[1]), shown[-1])
