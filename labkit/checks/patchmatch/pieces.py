"""What the checks of chapter 2 share: what a grader hides, and pieces that right and wrong answers are made of.

Fields are compared as they are. Two different matches at the same distance are both right, so the inputs are float64
pictures with noise in every pixel: no two patches of theirs are equally far from a third.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Task

__all__ = ["DISTANCE", "DISTANCES", "EXACT", "EXCHANGED", "FLOATS", "INT64", "MEAN", "ROOT", "SEARCH", "Position", "clamp", "field_distances",
           "field_size", "float64_picture", "is_inside", "match_at", "mean_of", "own_positions", "patch", "plus", "random_field",
           "squared_distance", "with_field", "with_options"]

Position = tuple[int, int]


# --- what a grader hides --------------------------------------------------------------------------------------------

SEARCH = tuple(f"labkit.patchmatch.{name}" for name in ("patchmatch", "candidates", "reference.iteration", "reference.propagate",
                                                         "reference.search"))
EXACT = "labkit.patchmatch.exact_nnf"
DISTANCES = ("labkit.patchmatch.nnf_distance", "labkit.patchmatch.reference.distances")
DISTANCE = (*DISTANCES, "labkit.patchmatch.reference.patch_distance", "labkit.patches.squared_distances")


# --- pieces that right and wrong answers are made of ----------------------------------------------------------------

def patch(image: Tensor, position: Position, n: int) -> Tensor:
    row, column = position
    return image[:, row:row + n, column:column + n]


def squared_distance(image: Tensor, exemplar: Tensor, position: Position, match: Position, n: int) -> float:
    """D: the squared distance of the image's patch at `position` and the exemplar's at `match`."""
    return float((patch(image, position, n) - patch(exemplar, match, n)).square().sum())


def field_size(image: Tensor, n: int) -> Position:
    """How many rows and columns of whole patches a picture has."""
    return image.shape[-2] - n + 1, image.shape[-1] - n + 1


def is_inside(position: Position, sizes: Position) -> bool:
    return 0 <= position[0] < sizes[0] and 0 <= position[1] < sizes[1]


def clamp(position: Position, sizes: Position) -> Position:
    return min(max(position[0], 0), sizes[0] - 1), min(max(position[1], 0), sizes[1] - 1)


def plus(first: Position, second: Position, sign: int = 1) -> Position:
    return first[0] + sign * second[0], first[1] + sign * second[1]


def match_at(nnf: Tensor, position: Position) -> Position:
    return int(nnf[0, position[0], position[1]]), int(nnf[1, position[0], position[1]])


def field_distances(image: Tensor, exemplar: Tensor, nnf: Tensor, n: int) -> Tensor:
    """D of every patch and its match, in the dtype of the image."""
    sizes = nnf.shape[-2:]
    values = [squared_distance(image, exemplar, p, match_at(nnf, p), n) for p in itertools.product(*map(range, sizes))]
    return torch.tensor(values, dtype=image.dtype).reshape(sizes)


def random_field(task: Task, sizes: Position, low: Position, high: Position) -> Tensor:
    """A field of that size whose matches lie from `low` to `high`, both included."""
    draws = [torch.randint(low[k], high[k] + 1, tuple(sizes), generator=task.generator) for k in (0, 1)]
    return torch.stack(draws).to(torch.int32)


def float64_picture(task: Task, height: int, width: int, channels: int = 3) -> Tensor:
    return task.image(height, width, channels=channels, dtype=torch.float64)


INT64 = "the field is int64; a field of matches is int32 here: `.to(torch.int32)`"
FLOATS = "the field holds floating-point numbers; positions are whole numbers: `.to(torch.int32)`"
EXCHANGED = "rows and columns are exchanged: positions are (row, column), rows first"
MEAN = "the squared differences are averaged; the distance is their sum"
ROOT = "a square root is taken; the distance is the plain sum of squares"


def with_field(change: Callable[[Tensor], Tensor], right: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple]:
    """The right answer with its field changed."""
    def variant(*arguments):
        nnf, distance = right(*arguments)
        return change(nnf), distance
    return variant


def mean_of(distance: Tensor | float, image: Tensor, n: int) -> Tensor | float:
    return distance / (image.shape[0] * n * n)


def own_positions(nnf: Tensor) -> Tensor:
    rows, columns = (torch.arange(side, dtype=nnf.dtype) for side in nnf.shape[-2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def with_options(right: Callable, **options) -> Callable:
    return lambda *arguments: right(*arguments, **options)
