"""What the checks of chapter 2 share: what a grader hides, and pieces that right and wrong answers are made of.

Fields are compared as they are. Two different matches at the same distance are both right, so the inputs are float64
pictures with noise in every pixel: no two patches of theirs are equally far from a third. Where float32 is asked for, the
distances have to lie far apart, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from labkit import patches
from labkit.checks.engine import Task
from labkit.checks.pieces import float64_picture, squares, window

__all__ = ["DISTANCE", "DISTANCES", "EXACT", "INT64", "MEAN", "ROOT", "SEARCH", "Position", "Sizes", "clamp", "field_distances",
           "field_size", "is_inside", "match_at", "mean_of", "own_positions", "patch", "pictures", "plus", "positions",
           "size_of", "squared_distance", "with_field"]

Sum = TypeVar("Sum", float, Tensor)
Position = tuple[int, int]
Sizes = tuple[int, int, int, int]       # height and width of the image, then of the exemplar


# --- what a grader hides --------------------------------------------------------------------------------------------

SEARCH = tuple(f"labkit.patchmatch.{name}" for name in ("patchmatch", "candidates", "reference.iteration", "reference.propagate",
                                                         "reference.search"))
EXACT = "labkit.patchmatch.exact_nnf"
DISTANCES = ("labkit.patchmatch.nnf_distance", "labkit.patchmatch.reference.distances")
DISTANCE = (*DISTANCES, "labkit.patchmatch.reference.patch_distance", "labkit.patches.squared_distances")


# --- patches, positions and fields ----------------------------------------------------------------------------------

def patch(image: Tensor, position: Position, n: int) -> Tensor:
    return image[window(*position, n)]


def squared_distance(image: Tensor, exemplar: Tensor, position: Position, match: Position, patch_size: int) -> float:
    """D: the squared distance of the image's patch at `position` and the exemplar's at `match`."""
    return float((patch(image, position, patch_size) - patch(exemplar, match, patch_size)).square().sum())


def size_of(picture: Tensor) -> Position:
    """The rows and columns of a picture, or of a field."""
    return picture.shape[-2], picture.shape[-1]


def field_size(image: Tensor, n: int) -> Position:
    """How many rows and columns of whole patches a picture has."""
    return image.shape[-2] - n + 1, image.shape[-1] - n + 1


def positions(sizes: Position) -> list[Position]:
    """All positions in so many rows and columns, in reading order."""
    return [(row, column) for row in range(sizes[0]) for column in range(sizes[1])]


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
    sizes = size_of(nnf)
    values = [squared_distance(image, exemplar, p, match_at(nnf, p), n) for p in positions(sizes)]
    return torch.tensor(values, dtype=image.dtype).reshape(sizes)


def own_positions(nnf: Tensor) -> Tensor:
    """The field of that size in which every patch is its own match."""
    rows, columns = (torch.arange(side, dtype=nnf.dtype) for side in nnf.shape[-2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


# --- inputs -----------------------------------------------------------------------------------------------------------

def pictures(task: Task, sizes: Sizes, *, n: int, channels: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Image and exemplar. In float32 they are drawn until rounding can't decide which of two matches of a patch is the nearer one."""
    if dtype == torch.float64:
        return float64_picture(task, *sizes[:2], channels), float64_picture(task, *sizes[2:], channels)

    def make() -> tuple[Tensor, Tensor]:
        return task.image(*sizes[:2], channels=channels), task.image(*sizes[2:], channels=channels)

    def far_apart(drawn: tuple[Tensor, Tensor]) -> bool:
        p, q = (patches.extract_patches(picture.double(), patch_size=n) for picture in drawn)
        # ‖p‖² − 2⟨p, q⟩ + ‖q‖² loses some 1e-5 in float32
        return bool(squares(p, q).sort(1).values.diff(dim=1).min() > 1e-4)

    return task.draw_until(make, far_apart)


# --- ways to be wrong -------------------------------------------------------------------------------------------------

INT64 = "the field is int64; a field of matches is int32 here: `.to(torch.int32)`"
MEAN = "the squared differences are averaged; the distance is their sum"
ROOT = "a square root is taken; the distance is the plain sum of squares"


def with_field(change: Callable[[Tensor], Tensor], right: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple]:
    """The right answer with its field changed."""
    def variant(*arguments):
        nnf, distance = right(*arguments)
        return change(nnf), distance
    return variant


def mean_of(distance: Sum, image: Tensor, n: int) -> Sum:
    """The mean that takes the place of a sum of squares."""
    return distance / (image.shape[0] * n * n)
