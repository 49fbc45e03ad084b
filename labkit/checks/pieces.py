"""What the checks of several chapters are made of: ways to be wrong, sentences, inputs, and patches of a picture."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit.checks.engine import Task

__all__ = ["ABSOLUTE", "EXCHANGED", "FIRST_CHANNEL", "FLOAT_FIELD", "clamped", "float64_picture", "in_place", "noisy", "patches_at",
           "random_field", "squares", "window", "with_options"]

# Sentences of mistakes that students make in more than one chapter.
ABSOLUTE = "absolute differences are summed instead of squared ones"
EXCHANGED = "rows and columns are exchanged: positions are (row, column), rows first"
FIRST_CHANNEL = "only the first channel is compared"
FLOAT_FIELD = "the field holds floating-point numbers; positions are whole numbers: `.to(torch.int32)`"


# --- ways to be wrong: each makes another answer of the right one ---------------------------------------------------

def with_options(right: Callable, **options: Any) -> Callable:
    """The right answer with its keyword-only options set, which are where answers differ."""
    return functools.partial(right, **options)


def in_place(right: Callable[..., Tensor], *, argument: int = 0) -> Callable[..., Tensor]:
    """The same answer, written into the argument of that number, which has the result's shape."""
    return lambda *arguments: arguments[argument].copy_(right(*arguments))


def clamped(right: Callable[..., Tensor], low: float = 0.0, high: float = 1.0) -> Callable[..., Tensor]:
    """The same answer, clipped to [low, high]."""
    return lambda *arguments: right(*arguments).clamp(low, high)


# --- inputs ---------------------------------------------------------------------------------------------------------

def float64_picture(task: Task, height: int, width: int, channels: int = 3) -> Tensor:
    """A picture `(channels, height, width)` with noise in every pixel, in float64: no two of its patches are equally far from a third."""
    return task.image(height, width, channels=channels, dtype=torch.float64)


def noisy(image: Tensor) -> Tensor:
    """The same picture with values below 0 and above 1, as noise makes them."""
    return 2 * image - 0.5


def random_field(task: Task, sizes: tuple[int, int], low: tuple[int, int], high: tuple[int, int]) -> Tensor:
    """A field `(2, *sizes)`, int32, whose matches lie from `low` to `high`, both (row, column) and both included."""
    draws = [torch.randint(low[k], high[k] + 1, tuple(sizes), generator=task.generator) for k in (0, 1)]
    return torch.stack(draws).to(torch.int32)


# --- patches --------------------------------------------------------------------------------------------------------

def window(row: int, column: int, patch_size: int) -> tuple[slice, slice, slice]:
    """Where the patch with that first pixel lies in a picture `(C, H, W)`, in all channels."""
    return slice(None), slice(row, row + patch_size), slice(column, column + patch_size)


def patches_at(image: Tensor, positions: Tensor, patch_size: int) -> Tensor:
    """`(N, C, patch_size, patch_size)`: the patches of a picture whose first pixels are the rows of `positions` `(N, 2)`."""
    return torch.stack([image[window(row, column, patch_size)] for row, column in positions.tolist()])


def squares(first: Tensor, second: Tensor) -> Tensor:
    """`(N, M)`: the squared distances of all pairs of rows, from the differences themselves, so that none loses its digits."""
    return (first[:, None] - second[None]).square().sum(-1)
