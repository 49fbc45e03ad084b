"""Differences between two pieces of plain data, and the words in which a check says them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from labkit.checks.answers import Fixture, Opaque

__all__ = ["Difference", "describe", "difference", "largest"]

AXES = {3: ("channel", "row", "column"), 2: ("row", "column"), 4: ("image", "channel", "row", "column"), 1: ("entry",)}


class Difference(NamedTuple):
    """How two pieces of plain data differ. `kind` names it, such as `wrong_shape`; the two pieces are the ones that differ."""

    kind: str
    sentence: str
    expected: Any = None
    obtained: Any = None


def difference(obtained: Any, expected: Any, tolerance: float) -> Difference | None:
    """`None` where two pieces of plain data agree, else what kind of difference, in words, and the two pieces."""
    if isinstance(expected, dict):
        if not isinstance(obtained, dict):
            return Difference("wrong_type", f"it returned {describe(obtained)}; expected {describe(expected)}.")
        for key, value in expected.items():
            found = difference(obtained.get(key), value, tolerance)
            if found:
                return found._replace(sentence=f"its {key}: {found.sentence}")
        return None
    if isinstance(expected, (tuple, list)):
        if not isinstance(obtained, (tuple, list)) or len(obtained) != len(expected):
            kind = "returns_nothing" if obtained is None else "wrong_type"
            return Difference(kind, f"it returned {describe(obtained)}; expected {_values(len(expected))}.")
        for number, (mine, theirs) in enumerate(zip(obtained, expected), start=1):
            found = difference(mine, theirs, tolerance)
            if found:
                return found._replace(sentence=f"number {number} of {len(expected)}: {found.sentence}")
        return None
    if isinstance(expected, (Tensor, np.ndarray)):
        return _tensor_difference(obtained, expected, tolerance)
    if obtained is None and expected is not None:
        return Difference("returns_nothing", "it returned nothing (None): is the last line a `return`?")
    scalar = obtained
    if isinstance(expected, (bool, str)) or expected is None:
        same = type(obtained) is type(expected) and obtained == expected
    else:
        scalar = obtained.item() if isinstance(obtained, Tensor) and obtained.numel() == 1 else obtained
        same = isinstance(scalar, (int, float, np.number)) and bool(abs(scalar - expected) <= tolerance)
    shown = scalar if isinstance(expected, (int, float)) and isinstance(obtained, Tensor) and obtained.numel() == 1 else obtained
    return None if same else Difference("wrong_values", f"it returned {describe(shown)}; expected {describe(expected)}.",
                                        expected, obtained)


def largest(value: Any) -> float:
    """The largest absolute value in a piece of plain data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return max(map(largest, value), default=0.0)
    if isinstance(value, Tensor) and value.numel() and value.is_floating_point():
        return float(value.nan_to_num().abs().max())
    return 0.0


def _tensor_difference(obtained: Any, expected: Tensor | np.ndarray, tolerance: float) -> Difference | None:
    if obtained is None:
        return Difference("returns_nothing", "it returned nothing (None): is the last line a `return`?")
    if isinstance(expected, np.ndarray) and isinstance(obtained, np.ndarray):
        obtained, expected = torch.from_numpy(obtained), torch.from_numpy(expected)
    if not (isinstance(obtained, Tensor) and isinstance(expected, Tensor)):
        return Difference("wrong_type", f"it returned {describe(obtained)}; expected {describe(expected)}.")
    if obtained.shape != expected.shape:
        return Difference("wrong_shape", f"it returned a tensor of shape {tuple(obtained.shape)}; expected {tuple(expected.shape)}"
                          f"{_shape_remark(obtained, expected)}.", expected, obtained)
    if obtained.dtype != expected.dtype:
        of_input = ", that of the input" if expected.is_floating_point() else ""
        return Difference("wrong_dtype", f"it returned dtype {_dtype(obtained)}; expected {_dtype(expected)}{of_input}.",
                          expected, obtained)
    if expected.numel() == 0:
        return None
    finite, wanted = torch.isfinite(obtained), torch.isfinite(expected)
    if finite.all() and not wanted.all():   # only a known mistake, compared with the answer, is expected to give NaN
        return Difference("wrong_values", "its values are finite where NaN was expected.", expected, obtained)
    if not torch.equal(finite, wanted):
        first = tuple(int(i) for i in (finite != wanted).nonzero()[0])
        return Difference("not_finite", f"{int((~finite).sum())} of {obtained.numel()} values are NaN or infinite, the first at "
                          f"{_place(first)}. A division by zero, a logarithm, the root of a negative number or an exponential "
                          "too large makes those.", expected, obtained)
    gap = torch.where(finite, (obtained.double() - expected.double()).abs(), 0)
    if float(gap.max()) <= tolerance:
        return None
    where = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), tuple(gap.shape)))
    if expected.dtype == torch.float64 and float(gap.max()) < 1e-5 * max(1.0, float(expected[finite].abs().max())):
        return Difference("wrong_values", f"it is right to about six digits only (the largest difference is {float(gap.max()):.2g}), "
                          "although the input is float64: something on the way was computed in float32.", expected, obtained)
    return Difference("wrong_values", f"{_pattern(obtained, expected, tolerance)}the largest difference is {float(gap.max()):.3g}, at "
                      f"{_place(where)}: expected {float(expected[where]):.4f}, yours {float(obtained[where]):.4f}.", expected, obtained)


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

def describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{'an' if _dtype(value).startswith('int') else 'a'} {_dtype(value)} tensor {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array {value.shape}"
    if isinstance(value, Fixture):
        return value.name.replace("_", " ")
    if isinstance(value, Opaque):
        return value.description
    if isinstance(value, (tuple, list)) and 0 < len(value) <= 4 and all(isinstance(v, (int, float)) for v in value):
        return f"({', '.join(map(describe, value))})"
    if isinstance(value, (tuple, list)):
        return _values(len(value))
    if isinstance(value, dict):
        return "values named " + ", ".join(map(str, value))
    return "nothing (None)" if value is None else f"{value:.6g}" if isinstance(value, float) else repr(value)


def _values(number: int) -> str:
    return f"{number} value{'' if number == 1 else 's'}"


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _place(where: tuple[int, ...]) -> str:
    axes = AXES.get(len(where))
    return "(" + ", ".join(f"{axis} {i}" for axis, i in zip(axes, where)) + ")" if axes else str(where)
