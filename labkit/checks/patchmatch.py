"""The checks of chapter 2: PatchMatch in nine steps, and what students get wrong about each.

Fields are compared as they are. Two different matches at the same distance are both right, so the inputs are float64
pictures with noise in every pixel: no two patches of theirs are equally far from a third.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from labkit import patches
from labkit.checks.engine import Mistake, Task, exercise

Position = tuple[int, int]


# --- what a grader hides --------------------------------------------------------------------------------------------

_SEARCH = tuple(f"labkit.patchmatch.{name}" for name in ("patchmatch", "candidates", "reference.iteration", "reference.propagate",
                                                         "reference.search"))
_EXACT = "labkit.patchmatch.exact_nnf"
_DISTANCES = ("labkit.patchmatch.nnf_distance", "labkit.patchmatch.reference.distances")
_DISTANCE = (*_DISTANCES, "labkit.patchmatch.reference.patch_distance", "labkit.patches.squared_distances")


# --- pieces that right and wrong answers are made of ----------------------------------------------------------------

def _patch(image: Tensor, position: Position, n: int) -> Tensor:
    row, column = position
    return image[:, row:row + n, column:column + n]


def _cost(image: Tensor, exemplar: Tensor, position: Position, match: Position, n: int) -> float:
    """D: the squared distance of the image's patch at `position` and the exemplar's at `match`."""
    return float((_patch(image, position, n) - _patch(exemplar, match, n)).square().sum())


def _sizes(image: Tensor, n: int) -> Position:
    """How many rows and columns of whole patches a picture has."""
    return image.shape[-2] - n + 1, image.shape[-1] - n + 1


def _inside(position: Position, sizes: Position) -> bool:
    return 0 <= position[0] < sizes[0] and 0 <= position[1] < sizes[1]


def _clamp(position: Position, sizes: Position) -> Position:
    return min(max(position[0], 0), sizes[0] - 1), min(max(position[1], 0), sizes[1] - 1)


def _plus(first: Position, second: Position, sign: int = 1) -> Position:
    return first[0] + sign * second[0], first[1] + sign * second[1]


def _at(nnf: Tensor, position: Position) -> Position:
    return int(nnf[0, position[0], position[1]]), int(nnf[1, position[0], position[1]])


def _distances(image: Tensor, exemplar: Tensor, nnf: Tensor, n: int) -> Tensor:
    """D of every patch and its match, in the dtype of the image."""
    sizes = nnf.shape[-2:]
    values = [_cost(image, exemplar, p, _at(nnf, p), n) for p in itertools.product(*map(range, sizes))]
    return torch.tensor(values, dtype=image.dtype).reshape(sizes)


def _random_field(task: Task, sizes: Position, low: Position, high: Position) -> Tensor:
    """A field of that size whose matches lie from `low` to `high`, both included."""
    draws = [torch.randint(low[k], high[k] + 1, tuple(sizes), generator=task.generator) for k in (0, 1)]
    return torch.stack(draws).to(torch.int32)


def _picture(task: Task, height: int, width: int, channels: int = 3) -> Tensor:
    return task.image(height, width, channels=channels, dtype=torch.float64)


_INT64 = "the field is int64; a field of matches is int32 here: `.to(torch.int32)`"
_FLOAT = "the field holds floating-point numbers; positions are whole numbers: `.to(torch.int32)`"
_EXCHANGED = "rows and columns are exchanged: positions are (row, column), rows first"
_MEAN = "the squared differences are averaged; the distance is their sum"
_ROOT = "a square root is taken; the distance is the plain sum of squares"


def _with_field(change: Callable[[Tensor], Tensor], right: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple]:
    """The right answer with its field changed."""
    def variant(*arguments):
        nnf, distance = right(*arguments)
        return change(nnf), distance
    return variant


def _with_distance(change: Callable[..., Tensor], right: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple]:
    """The right answer, with its distances changed; `change(distance, image, n)`."""
    def variant(image, *rest):
        nnf, distance = right(image, *rest)
        return nnf, change(distance, image, rest[-1])
    return variant


def _mean_of(distance: Tensor | float, image: Tensor, n: int) -> Tensor | float:
    return distance / (image.shape[0] * n * n)


# --- 1 · Distance of two patches ------------------------------------------------------------------------------------

def _of_patches(compare: Callable[[Tensor, Tensor], Tensor], *, larger: int = 0, back: int = 0) -> Callable[..., float]:
    """Another distance: `compare(patch of the image, patch of the exemplar)`, of other patches if asked for."""
    def variant(image: Tensor, exemplar: Tensor, position: Position, match: Position, patch_size: int) -> float:
        first, second = ((max(0, row - back * (patch_size // 2)), max(0, column - back * (patch_size // 2)))
                         for row, column in (position, match))
        return float(compare(_patch(image, first, patch_size + larger), _patch(exemplar, second, patch_size + larger)))
    return variant


def _square(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).square().sum()


@exercise(points=1, minutes=10, reference=_cost, withholds=(*_DISTANCE, *_SEARCH, _EXACT), mistakes={
    "mean_instead_of_sum": Mistake(_MEAN, _of_patches(lambda p, q: (p - q).square().mean()), 2),
    "mean_over_channels": Mistake("the squared differences are averaged over the channels; the distance is their sum",
                                  _of_patches(lambda p, q: (p - q).square().mean(0).sum()), 2),
    "root_taken": Mistake(_ROOT, _of_patches(lambda p, q: _square(p, q).sqrt()), 2),
    "absolute": Mistake("absolute differences are summed instead of squared ones",
                        _of_patches(lambda p, q: (p - q).abs().sum()), 2),
    "squared_after_the_sum": Mistake("the differences are summed first and squared afterwards: they cancel",
                                     _of_patches(lambda p, q: (p - q).sum().square()), 2),
    "not_squared": Mistake("the differences are summed without being squared: they cancel",
                           _of_patches(lambda p, q: (p - q).sum()), 2),
    "first_channel_only": Mistake("only the first channel is compared", _of_patches(lambda p, q: _square(p[:1], q[:1])), 2),
    "last_channel_forgotten": Mistake("the last channel is not compared",
                                      _of_patches(lambda p, q: _square(p[:-1], q[:-1])), 2),
    "patch_too_small": Mistake("the patches have side n − 1: the end of a slice is not in it",
                               _of_patches(_square, larger=-1), 1),
    "patch_too_large": Mistake("the patches have side n + 1: the end of a slice is not in it, so it is the start + n",
                               _of_patches(_square, larger=1), 1),
    "centred": Mistake("the patches have their middle at the position; here the position is their first, top-left pixel",
                       _of_patches(_square, back=1), 1),
    "coordinates_swapped": Mistake(_EXCHANGED, lambda image, exemplar, position, match, n: _cost(
        image, exemplar, position[::-1], match[::-1], n), 1),
    "pictures_exchanged": Mistake("the two positions are exchanged: `position` lies in the image, `match` in the exemplar",
                                  lambda image, exemplar, position, match, n: _cost(image, exemplar, match, position, n), 1),
    "image_only": Mistake("both patches are taken from the image; the second one lies in the exemplar",
                          lambda image, exemplar, position, match, n: _cost(image, image, position, match, n), 1),
    "match_ignored": Mistake("both patches are taken at `position`; the exemplar's lies at `match`",
                             lambda image, exemplar, position, match, n: _cost(image, exemplar, position, position, n), 1),
})
def patch_distance(task: Task) -> None:
    with task.property("compares two grey patches", share=0.4):
        for position, match in (((3, 1), (1, 4)), ((2, 5), (4, 1))):
            task.compare(task.image(11, 12, channels=1), task.image(12, 11, channels=1), position, match, 4)
    with task.property("compares two colour patches in all channels", share=0.4):
        task.compare(task.image(12, 10), task.image(9, 12), (1, 3), (4, 2), 3)
        task.compare(_picture(task, 10, 11), _picture(task, 11, 10), (4, 2), (3, 5), 5, tolerance=1e-10)
    with task.property("reaches the last patch of either picture", share=0.2):
        task.compare(task.image(7, 9), task.image(8, 6), (4, 6), (5, 3), 3)
    with task.property("is 0 for a patch and itself"):
        image = task.image(8, 8)
        task.compare(image, image.clone(), (2, 3), (2, 3), 4, expected=0.0)


# --- 2 · Exhaustive search ------------------------------------------------------------------------------------------

def _searched(image: Tensor, exemplar: Tensor, patch_size: int, *, cost: Callable[[Tensor], Tensor] | None = None,
              worst: bool = False, end: int = 0, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Search everywhere, by `cost(differences (a, b, C·n·n))`; `end` leaves out so many last rows and columns."""
    p, q = (patches.extract_patches(x, patch_size=patch_size) for x in (image, exemplar))
    table = (cost or (lambda d: d.square().sum(-1)))(p[:, None] - q[None])
    rows, columns = _sizes(exemplar, patch_size)
    allowed = torch.zeros(rows, columns, dtype=torch.bool)
    allowed[:rows - end, :columns - end] = True
    table = table.masked_fill(~allowed.flatten(), -math.inf if worst else math.inf)
    distance, index = table.max(1) if worst else table.min(1)
    sizes = _sizes(image, patch_size)
    nnf = torch.stack([index // (width or columns), index % (width or columns)]).to(torch.int32)
    return nnf.reshape(2, *sizes), distance.reshape(sizes)


def _field_shorter(image: Tensor, exemplar: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    nnf, distance = _searched(image, exemplar, patch_size)
    return nnf[:, :-1, :-1].contiguous(), distance[:-1, :-1].contiguous()


def _own_positions(nnf: Tensor) -> Tensor:
    rows, columns = (torch.arange(side, dtype=nnf.dtype) for side in nnf.shape[-2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _ends_forgotten(image: Tensor, exemplar: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    nnf, distance = _searched(image, exemplar, patch_size, end=1)
    return nnf[:, :-1, :-1].contiguous(), distance[:-1, :-1].contiguous()


@exercise(points=2, minutes=25, reference=_searched, withholds=(_EXACT, *_SEARCH), mistakes={
    "last_positions_forgotten": Mistake("the last row and column of the exemplar's patches are never tried: there are "
                                        "H̃ − n + 1 of them, and `range` leaves out its end",
                                        functools.partial(_searched, end=1), 1),
    "field_too_small": Mistake("the last row and column of the image's patches are missing: there are H − n + 1 of them, and "
                               "`range` leaves out its end", _field_shorter, 1),
    "both_ends_forgotten": Mistake("the last row and column of patches are missing, of the image's and of the exemplar's: "
                                   "there are H − n + 1 and H̃ − n + 1 rows of them, and `range` leaves out its end",
                                   _ends_forgotten, 1),
    "pictures_exchanged": Mistake("image and exemplar are exchanged: every patch of the image looks for a match in the "
                                  "exemplar",
                                  lambda image, exemplar, n: _searched(exemplar, image, n), 1),
    "searched_in_itself": Mistake("the image is searched in itself, and every patch finds itself",
                                  lambda image, exemplar, n: _searched(image, image, n), 1),
    "coordinates_swapped": Mistake(_EXCHANGED, _with_field(lambda nnf: nnf.flip(0), _searched), 3),
    "shift_instead_of_position": Mistake("the field holds shifts ψ(x) − x; here it holds the absolute position ψ(x) of the "
                                         "match",
                                         _with_field(lambda nnf: nnf - _own_positions(nnf), _searched), 3),
    "divided_by_exemplar_width": Mistake("the flat index is divided by the width of the exemplar; a row holds W̃ − n + 1 "
                                         "patches",
                                         lambda image, exemplar, n: _searched(image, exemplar, n, width=exemplar.shape[-1]), 3),
    "divided_by_image_width": Mistake("the flat index is divided by the number of patches in a row of the image; it counts "
                                      "the patches of the exemplar",
                                      lambda image, exemplar, n: _searched(image, exemplar, n, width=_sizes(image, n)[1]), 3),
    "farthest": Mistake("the farthest patch is taken instead of the nearest", functools.partial(_searched, worst=True), 2),
    "mean_instead_of_sum": Mistake(_MEAN, functools.partial(_searched, cost=lambda d: d.square().mean(-1)), 2),
    "root_taken": Mistake(_ROOT, functools.partial(_searched, cost=lambda d: d.square().sum(-1).sqrt()), 2),
    "absolute": Mistake("absolute differences are summed instead of squared ones",
                        functools.partial(_searched, cost=lambda d: d.abs().sum(-1)), 2),
    "first_channel_only": Mistake("only the first channel is compared",
                                  lambda image, exemplar, n: _searched(image[:1], exemplar[:1], n), 2),
    "centres": Mistake("the field holds the middle of the match; here it holds its first, top-left pixel",
                       lambda image, exemplar, n: _with_field(lambda nnf: nnf + n // 2, _searched)(image, exemplar, n), 3),
    "order_of_results": Mistake("field and distances are returned in the other order", lambda *a: _searched(*a)[::-1], 3),
    "field_int64": Mistake(_INT64, _with_field(lambda nnf: nnf.long(), _searched), 3),
    "field_float": Mistake(_FLOAT, _with_field(lambda nnf: nnf.float(), _searched), 3),
    "field_of_the_images_dtype": Mistake(_FLOAT, _with_field(lambda nnf: nnf.double(), _searched), 3),
})
def exhaustive_search(task: Task) -> None:
    with task.property("finds the nearest patch for every patch of a grey picture", share=0.4):
        task.compare(_picture(task, 8, 10, 1), _picture(task, 9, 12, 1), 3, tolerance=1e-6)
    with task.property("compares colours, in pictures of different sizes", share=0.4):
        task.compare(_picture(task, 9, 7), _picture(task, 7, 12), 3, tolerance=1e-6)
        task.compare(_picture(task, 6, 8, 2), _picture(task, 9, 5, 2), 2, tolerance=1e-6)
    with task.property("finds matches in every corner of the exemplar", share=0.2):
        exemplar = _picture(task, 10, 9)
        for corner in (exemplar[:, -5:, -5:], exemplar[:, :5, -5:], exemplar[:, -5:, :5]):
            task.compare(corner.contiguous(), exemplar, 3, tolerance=1e-6)
    with task.property("works when the exemplar is a single patch"):
        task.compare(_picture(task, 5, 6), _picture(task, 3, 3), 3, tolerance=1e-6)


# --- 3 · Propagation at one patch -----------------------------------------------------------------------------------

def _propagated(image: Tensor, exemplar: Tensor, nnf: Tensor, distance: Tensor, position: Position, direction: int,
                patch_size: int, *, offsets: Sequence[Position] = ((0, -1), (-1, 0)), sign: int = -1, wraps: bool = False,
                outside: str = "left out", stale: bool = False, borrowed: bool = False, always: bool = False,
                averaged: bool = False, begins: int = 0, ends: int = 0, reads: Tensor | None = None) -> tuple[Position, float]:
    """The best of the current match and the neighbours' candidates; the options are where answers differ."""
    sizes, targets = nnf.shape[-2:], _sizes(exemplar, patch_size)
    match, best = _at(nnf, position), float(distance[position])
    at_first = best
    for offset in offsets:
        offset = (offset[0] * direction, offset[1] * direction)
        neighbour = _plus(position, offset)
        if not _inside(neighbour, sizes):
            if not wraps:
                continue
            neighbour = neighbour[0] % sizes[0], neighbour[1] % sizes[1]
        if min(neighbour) < begins:
            continue
        candidate = _plus(_at(nnf if reads is None else reads, neighbour), offset, sign)
        if outside == "clamped":
            candidate = _clamp(candidate, targets)
        elif outside == "left out" and not _inside(candidate, (targets[0] - ends, targets[1] - ends)):
            continue
        if borrowed:
            found = float(distance[neighbour])
        else:
            found = _cost(image, exemplar, position, candidate, patch_size)
            found = _mean_of(found, image, patch_size) if averaged else found
        if always or found < (at_first if stale else best):
            match, best = candidate, found
    return match, best


def _propagated_exchanged(image, exemplar, nnf, distance, position, direction, n):
    """The field read and written as (column, row)."""
    match, best = _propagated(image, exemplar, nnf.flip(0), distance, position, direction, n, offsets=((-1, 0), (0, -1)))
    return match[::-1], best


def _wrong_place(image, exemplar, nnf, distance, position, direction, n):
    """The candidate's distance measured from the neighbour's patch."""
    match, best = _at(nnf, position), float(distance[position])
    for offset in ((0, -direction), (-direction, 0)):
        neighbour = _plus(position, offset)
        if _inside(neighbour, nnf.shape[-2:]):
            candidate = _plus(_at(nnf, neighbour), offset, -1)
            if _inside(candidate, _sizes(exemplar, n)):
                found = _cost(image, exemplar, neighbour, candidate, n)
                if found < best:
                    match, best = candidate, found
    return match, best


def _with(right: Callable, **options) -> Callable:
    return lambda *arguments: right(*arguments, **options)


def _flat(right: Callable, **options) -> Callable[..., tuple[int, int, float]]:
    """An answer of its row, its column and its distance."""
    def answer(*arguments):
        (row, column), distance = right(*arguments, **options)
        return row, column, distance
    return answer


def _propagation_case(task: Task, order: Sequence[str], direction: int, *, position: Position | None = None,
                      channels: int = 3) -> tuple:
    """Arguments in which the candidates named in `order` are the better ones, best first.

    Names are `current`, `left` and `top` for the neighbours that a scan in that direction has passed, `right` and `bottom`
    for the others.
    """
    n, image, exemplar = 3, _picture(task, 8, 9, channels), _picture(task, 9, 8, channels)
    sizes, targets = _sizes(image, n), _sizes(exemplar, n)
    nnf = _random_field(task, sizes, (1, 1), (targets[0] - 2, targets[1] - 2))
    i, j = position or (task.integer(1, sizes[0] - 2), task.integer(1, sizes[1] - 2))
    flat = torch.randperm((targets[0] - 2) * (targets[1] - 2), generator=task.generator)[:len(order)]
    drawn = [(1 + int(k) // (targets[1] - 2), 1 + int(k) % (targets[1] - 2)) for k in flat]
    ranked = sorted(drawn, key=lambda match: _cost(image, exemplar, (i, j), match, n))
    offsets = {"current": (0, 0), "left": (0, -direction), "top": (-direction, 0), "right": (0, direction), "bottom": (direction, 0)}
    for name, match in zip(order, ranked):
        row, column = _plus((i, j), offsets[name])
        nnf[:, row % sizes[0], column % sizes[1]] = torch.tensor(_plus(match, offsets[name]), dtype=torch.int32)
    return image, exemplar, nnf, _distances(image, exemplar, nnf, n), (i, j), direction, n


def _at_the_border(task: Task, name: str, direction: int, *, beyond: int) -> tuple:
    """Arguments in which a neighbour's candidate lies in the exemplar's last corner, or `beyond` by one row or column."""
    image, exemplar, nnf, _, position, _, n = _propagation_case(task, ("current", "left", "top"), direction)
    targets = _sizes(exemplar, n)
    offset, other = ((0, -direction), (-direction, 0))[:: 1 if name == "left" else -1]
    corner = (targets[0] - 1, targets[1] - 1) if direction > 0 else (0, 0)
    # the current match is the worst, and the other neighbour suggests it again, so that any other candidate is taken
    every = [m for m in itertools.product(*map(range, targets)) if _inside(_plus(m, other), targets)]
    worst = max(every, key=lambda match: _cost(image, exemplar, position, match, n))
    for place, match in (((0, 0), worst), (other, _plus(worst, other)), (offset, _plus(corner, offset, 1 - beyond))):
        row, column = _plus(position, place)
        nnf[:, row, column] = torch.tensor(match, dtype=torch.int32)
    return image, exemplar, nnf, _distances(image, exemplar, nnf, n), position, direction, n


@exercise(points=2, minutes=25, reference=_flat(_propagated), withholds=_SEARCH, mistakes={
    "sign_wrong": Mistake("the offset is added with the wrong sign: if x + t has its match at ψ(x + t), the one of x lies at "
                          "ψ(x + t) − t", _flat(_propagated, sign=1), 1),
    "not_moved": Mistake("the neighbour's match is taken as it is; it has to be moved by the same step that leads from the "
                         "neighbour to this patch", _flat(_propagated, sign=0), 1),
    "direction_ignored": Mistake("the left and the top neighbour are read in both directions; a backward scan (direction "
                                 "−1) has passed the right and the bottom one",
                                 lambda *a: _flat(_propagated)(*a[:5], 1, a[6]), 2),
    "direction_reversed": Mistake("the neighbours on the wrong side are read: a forward scan (direction 1) has passed the "
                                  "left and the top one", lambda *a: _flat(_propagated)(*a[:5], -a[5], a[6]), 2),
    "left_only": Mistake("only the neighbour in the same row is tried; there is one in the same column too",
                         _flat(_propagated, offsets=((0, -1),)), 2),
    "top_only": Mistake("only the neighbour in the same column is tried; there is one in the same row too",
                        _flat(_propagated, offsets=((-1, 0),)), 2),
    "diagonal": Mistake("the diagonal neighbour is read; the two neighbours are the one in the same row and the one in the "
                        "same column", _flat(_propagated, offsets=((-1, -1),)), 2),
    "all_four": Mistake("all four neighbours are tried; the scan has passed two of them only",
                        _flat(_propagated, offsets=((0, -1), (-1, 0), (0, 1), (1, 0))), 2),
    "stale_distance": Mistake("the second candidate is compared with the distance from before the first one was accepted: "
                              "keep the best distance up to date", _flat(_propagated, stale=True), 3),
    "always_accepted": Mistake("a candidate is taken without being compared with what the patch has already",
                               _flat(_propagated, always=True), 3),
    "borrowed_distance": Mistake("the neighbour's own distance is used for the candidate; compute the distance between "
                                 "*this* patch and the candidate", _flat(_propagated, borrowed=True), 3),
    "measured_from_the_neighbour": Mistake("the candidate is compared with the neighbour's patch instead of this one",
                                        _flat(_wrong_place), 3),
    "mean_instead_of_sum": Mistake("the candidate's distance is a mean and is compared with a sum: the mean is always "
                                   "smaller",
                                   _flat(_propagated, averaged=True), 3),
    "wraps_around": Mistake("the neighbour outside the field is read from the other side: to Python, index −1 is the last "
                            "one",
                            _flat(_propagated, wraps=True), 2),
    "first_row_skipped": Mistake("neighbours in row 0 or column 0 are taken for outside: the field begins there",
                                 _flat(_propagated, begins=1), 2),
    "clamped": Mistake("a candidate that sticks out of the exemplar is moved back inside; here it is left out",
                       _flat(_propagated, outside="clamped"), 3),
    "sticks_out": Mistake("a candidate that sticks out of the exemplar is not left out: its first pixel must lie in "
                          "0 … H̃ − n and 0 … W̃ − n", _flat(_propagated, outside="kept"), 3),
    "last_candidates_left_out": Mistake("a candidate in the last possible row or column is left out: H̃ − n and W̃ − n "
                                        "themselves are allowed, `<=` and not `<`", _flat(_propagated, ends=1), 3),
    "coordinates_swapped": Mistake(_EXCHANGED, _flat(_propagated_exchanged), 1),
})
def propagate(task: Task) -> None:
    # the first two cases tell who reads other neighbours instead from who reads them as well, and who accepts everything
    orders = [("left", "right", "bottom", "current", "top"), ("right", "bottom", "top", "left", "current"),
              *itertools.permutations(("current", "left", "top"))]
    with task.property("takes the better neighbour's match, moved by one step, in a forward scan", share=0.4):
        for order in orders:
            task.compare(*_propagation_case(task, order, 1), tolerance=1e-9)
    with task.property("reads the other two neighbours in a backward scan", share=0.3, mistake="direction_ignored"):
        for order in orders:
            task.compare(*_propagation_case(task, order, -1, channels=1), tolerance=1e-9)
    with task.property("does without a neighbour at the border of the field", share=0.15, mistake="wraps_around"):
        for direction, near, far in ((1, 0, 0), (-1, 5, 6)):
            task.compare(*_propagation_case(task, ("left", "top", "current"), direction, position=(3, far)), tolerance=1e-9)
            task.compare(*_propagation_case(task, ("top", "left", "current"), direction, position=(near, 2)), tolerance=1e-9)
            task.compare(*_propagation_case(task, ("top", "left", "current"), direction, position=(near, far)), tolerance=1e-9)
    with task.property("leaves out candidates that stick out of the exemplar, and no others", share=0.15):
        for direction, name, beyond in itertools.product((1, -1), ("left", "top"), (1, 0)):
            task.compare(*_at_the_border(task, name, direction, beyond=beyond), tolerance=1e-9)


# --- 4 · Random search at one patch ---------------------------------------------------------------------------------

def _random_searched(image: Tensor, exemplar: Tensor, position: Position, match: Position, distance: float, numbers: Tensor,
                     patch_size: int, *, radius: Callable[[Position, Position, Position], float] | None = None,
                     shrinks: float = 0.5, late: int = 0,
                     follows: bool = False, outside: str = "clamped", to_integer: Callable[[float], int] = round,
                     columns_first: bool = False, around: str = "match", stale: bool = False, always: bool = False,
                     averaged: bool = False, margin: int = 0, whole: bool = False) -> tuple[Position, float]:
    """The best of the match and random candidates in windows around it; the options are where answers differ."""
    targets = _sizes(exemplar, patch_size)
    limits = targets if margin == 0 else (targets[0] + margin, targets[1] + margin)
    largest = max(exemplar.shape[-2:]) if radius is None else radius(image.shape[-2:], exemplar.shape[-2:], targets)
    start, best, at_first = match, float(distance), float(distance)
    for i, draw in enumerate(numbers.tolist()):
        reach = largest * shrinks ** (i + late)
        reach = math.floor(reach) if whole else reach
        middle = position if around == "position" else match if follows else start
        step = tuple(to_integer(reach * x) for x in (draw[::-1] if columns_first else draw))
        candidate = _plus(middle, step)
        if outside == "clamped":
            candidate = _clamp(candidate, limits)
        elif outside == "left out" and not _inside(candidate, targets):
            continue
        found = _cost(image, exemplar, position, candidate, patch_size)
        found = _mean_of(found, image, patch_size) if averaged else found
        if always or found < (at_first if stale else best):
            match, best = candidate, found
    return match, best


def _search_case(task: Task, height: int, width: int, draws: int, *, channels: int = 3,
                 wanted: Callable[[tuple, list[Position]], bool]) -> tuple:
    """Arguments for which `wanted(arguments, candidates before they are clamped)` holds, and some candidate is better."""
    n, image, exemplar = 3, _picture(task, 7, 6, channels), _picture(task, height, width, channels)
    targets = _sizes(exemplar, n)
    position = task.integer(0, 4), task.integer(0, 3)
    while True:
        start = task.integer(0, targets[0] - 1), task.integer(0, targets[1] - 1)
        numbers = 2 * task.uniform(draws, 2).double() - 1
        arguments = image, exemplar, position, start, _cost(image, exemplar, position, start, n), numbers, n
        reach = [max(height, width) / 2 ** i for i in range(draws)]
        candidates = [_plus(start, (round(r * x), round(r * y))) for r, (x, y) in zip(reach, numbers.tolist())]
        if wanted(arguments, candidates) and _random_searched(*arguments)[0] != start:
            return arguments


def _never_outside(arguments: tuple, candidates: list[Position]) -> bool:
    return all(_inside(c, _sizes(arguments[1], arguments[-1])) for c in candidates)


def _telling(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether answers that scale or round the random numbers differently all end at different matches."""
    if not _never_outside(arguments, candidates):
        return False
    options = ({}, {"to_integer": int}, {"to_integer": math.floor}, {"radius": _of_positions}, {"radius": _of_smaller_side},
               {"radius": _of_image}, {"late": 1}, {"columns_first": True})
    ends = {_random_searched(*arguments, **each) for each in options}
    return len(ends) >= len(options) - 2


def _follows(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether a search whose windows follow the best match would end elsewhere."""
    return _never_outside(arguments, candidates) and _random_searched(*arguments) != _random_searched(*arguments, follows=True)


def _below_zero(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether clamping to 0, and nothing else, decides."""
    limits, right = _sizes(arguments[1], arguments[-1]), _random_searched(*arguments)
    if any(r >= limits[0] or c >= limits[1] for r, c in candidates) or right == _random_searched(*arguments, outside="left out"):
        return False
    try:
        return right != _random_searched(*arguments, outside="kept")
    except RuntimeError:
        return True


def _beyond_the_end(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether clamping to the last row or column that holds a whole patch, and nothing else, decides."""
    return all(r >= 0 and c >= 0 for r, c in candidates) and all(
        _random_searched(*arguments) != _random_searched(*arguments, **options) for options in ({"outside": "left out"}, {"margin": -1}))


def _of_positions(image: Position, exemplar: Position, targets: Position) -> int:
    return max(targets)


def _of_smaller_side(image: Position, exemplar: Position, targets: Position) -> int:
    return min(exemplar)


def _of_image(image: Position, exemplar: Position, targets: Position) -> int:
    return max(image)


@exercise(points=2, minutes=25, reference=_flat(_random_searched), withholds=_SEARCH, mistakes={
    "window_not_shrinking": Mistake("the window does not shrink: candidate i lies within R αⁱ of the centre, α = ½",
                                    _flat(_random_searched, shrinks=1.0), 1),
    "shrinks_too_early": Mistake("the first window has the radius R α = R/2; it is R α⁰ = R",
                                 _flat(_random_searched, late=1), 1),
    "radius_of_positions": Mistake("R is the number of positions; it is the larger side of the exemplar, in pixels",
                                   _flat(_random_searched, radius=_of_positions), 1),
    "smaller_side": Mistake("R is the smaller side of the exemplar; it is the larger one",
                            _flat(_random_searched, radius=_of_smaller_side), 1),
    "side_of_the_image": Mistake("R is the larger side of the image; it is that of the exemplar",
                                 _flat(_random_searched, radius=_of_image), 1),
    "one_pixel_windows": Mistake("the random numbers are used as they are, within one pixel: scale them by the radius R αⁱ",
                                 _flat(_random_searched, radius=lambda *_: 1.0, shrinks=1.0), 1),
    "centre_moves": Mistake("the window follows the best match as it improves; all windows are centred at the match y₀ with "
                            "which the search began", _flat(_random_searched, follows=True), 2),
    "centred_at_the_patch": Mistake("the windows are centred at the patch's own position; they are centred at its current "
                                    "match",
                                    _flat(_random_searched, around="position"), 2),
    "not_clamped": Mistake("candidates are not clamped: their first pixel must lie in 0 … H̃ − n and 0 … W̃ − n",
                           _flat(_random_searched, outside="kept"), 3),
    "left_out": Mistake("a candidate outside the exemplar is left out; here it is clamped to the nearest position that "
                        "exists",
                        _flat(_random_searched, outside="left out"), 3),
    "clamped_too_far": Mistake("candidates are clamped to 0 … H̃ − 1; a whole patch must fit, so the last row is H̃ − n",
                               _flat(_random_searched, margin=2), 3),
    "last_position_unreachable": Mistake("candidates are clamped to 0 … H̃ − n − 1; the last row that holds a whole patch "
                                         "is H̃ − n",
                                         _flat(_random_searched, margin=-1), 3),
    "truncated": Mistake("steps are cut to whole numbers towards 0, as int() does; here they are rounded to the nearest",
                         _flat(_random_searched, to_integer=int), 1),
    "radius_whole": Mistake("the radius is halved to whole numbers, as `//` does; it is R/2ⁱ, with its fraction",
                            _flat(_random_searched, whole=True), 1),
    "rounded_down": Mistake("steps are rounded down; here they are rounded to the nearest whole number",
                            _flat(_random_searched, to_integer=math.floor), 1),
    "coordinates_swapped": Mistake("a row of `numbers` is used as (column, row); it is (row, column)",
                                   _flat(_random_searched, columns_first=True), 1),
    "one_sided": Mistake("all steps go down and to the right: the random numbers are used without their sign",
                         lambda *a: _flat(_random_searched)(
        *a[:5], a[5].abs(), a[6]), 1),
    "stale_distance": Mistake("candidates are compared with the distance from the beginning, so the last good one wins "
                              "instead of the best: keep the best distance up to date",
                              _flat(_random_searched, stale=True), 2),
    "always_accepted": Mistake("a candidate is taken without being compared with what the patch has already",
                               _flat(_random_searched, always=True), 2),
    "mean_instead_of_sum": Mistake("the candidate's distance is a mean and is compared with a sum: the mean is always "
                                   "smaller",
                                   _flat(_random_searched, averaged=True), 2),
})
def random_search(task: Task) -> None:
    with task.property("tries candidates in windows that shrink, and keeps the best", share=0.5):
        for wanted in (_telling, _telling):
            task.compare(*_search_case(task, 10, 14, 4, wanted=wanted), tolerance=1e-9)
        task.compare(*_search_case(task, 8, 13, 3, channels=1, wanted=_never_outside), tolerance=1e-9)
    with task.property("keeps all windows centred at the match with which it began", share=0.2, mistake="centre_moves"):
        for _ in range(2):
            task.compare(*_search_case(task, 12, 10, 4, wanted=_follows), tolerance=1e-9)
    with task.property("clamps candidates above or left of the exemplar to its first row or column", share=0.15):
        for _ in range(2):
            task.compare(*_search_case(task, 7, 9, 4, wanted=_below_zero), tolerance=1e-9)
    with task.property("clamps the others to the last row or column where a whole patch fits", share=0.15, mistake="clamped_too_far"):
        for _ in range(2):
            task.compare(*_search_case(task, 9, 7, 4, channels=1, wanted=_beyond_the_end), tolerance=1e-9)
    with task.property("works with any number of draws"):
        task.compare(*_search_case(task, 9, 5, 6, wanted=lambda *_: True), tolerance=1e-9)
        image, exemplar, position, start, distance, numbers, n = _search_case(task, 6, 8, 2, wanted=lambda *_: True)
        task.compare(image, exemplar, position, start, distance, numbers[:0], n, tolerance=1e-9)


# --- 5 · The whole loop ---------------------------------------------------------------------------------------------

def _matched(image: Tensor, exemplar: Tensor, start: Tensor, numbers: Tensor, patch_size: int, *, reverses: bool = True,
             turns_neighbours: bool = True, first: int = 1, propagates: bool = True, searches: bool = True,
             search_first: bool = False, buffered: bool = False, same_numbers: bool = False, keeps_distance: bool = False,
             reverses_rows: bool = True, reverses_columns: bool = True, propagation: dict | None = None,
             search: dict | None = None) -> tuple[Tensor, Tensor]:
    """PatchMatch patch by patch; the options are where answers differ."""
    nnf, distance = start.clone(), _distances(image, exemplar, start, patch_size)
    rows, columns = nnf.shape[-2:]
    for iteration in range(len(numbers)):
        way = first if iteration % 2 == 0 else -first
        scan, looks = way if reverses else 1, way if turns_neighbours else 1
        source = nnf.clone() if buffered else None
        for p in itertools.product(range(rows)[::scan if reverses_rows else 1], range(columns)[::scan if reverses_columns else 1]):
            match, best = _at(nnf, p), float(distance[p])
            for step in ("search", "propagate") if search_first else ("propagate", "search"):
                if step == "propagate" and propagates:
                    match, best = _propagated(image, exemplar, nnf, distance, p, looks, patch_size, reads=source,
                                              **(propagation or {}))
                elif step == "search" and searches:
                    drawn = numbers[0 if same_numbers else iteration, p[0], p[1]]
                    match, best = _random_searched(image, exemplar, p, match, best, drawn, patch_size, **(search or {}))
                nnf[:, p[0], p[1]] = torch.tensor(match, dtype=nnf.dtype)
                if not keeps_distance:
                    distance[p] = best
    return nnf, distance


def _loop_case(task: Task, iterations: int, *, channels: int = 3, sizes: tuple = (8, 9, 9, 8)) -> tuple:
    n, image, exemplar = 3, _picture(task, *sizes[:2], channels), _picture(task, *sizes[2:], channels)
    rows, columns = _sizes(image, n)
    targets = _sizes(exemplar, n)
    start = _random_field(task, (rows, columns), (0, 0), (targets[0] - 1, targets[1] - 1))
    draws = 1 + int(math.log2(max(sizes[2:])))
    return image, exemplar, start, 2 * task.uniform(iterations, rows, columns, draws, 2).double() - 1, n


@exercise(points=3, minutes=35, reference=_matched, withholds=_SEARCH, mistakes={
    "scan_not_reversed": Mistake("every iteration scans forward; the second, fourth, … scan backward, from the last patch "
                                 "to the first, with the right and the bottom neighbours",
                                 _with(_matched, reverses=False, turns_neighbours=False), 1),
    "neighbours_not_turned": Mistake("the backward scan still reads the left and the top neighbours, which it has not "
                                     "visited yet; it has passed the right and the bottom ones",
                                     _with(_matched, turns_neighbours=False), 1),
    "scan_order_not_turned": Mistake("the second iteration reads the right and the bottom neighbours but scans forward: it "
                                     "reads patches that it has not visited yet", _with(_matched, reverses=False), 1),
    "rows_not_reversed": Mistake("the backward scan turns the columns round but not the rows: it goes from the last patch "
                                 "to the first",
                                 _with(_matched, reverses_rows=False), 1),
    "columns_not_reversed": Mistake("the backward scan turns the rows round but not the columns: it goes from the last "
                                    "patch to the first",
                                    _with(_matched, reverses_columns=False), 1),
    "starts_backward": Mistake("the first iteration scans backward; it is the forward one", _with(_matched, first=-1), 1),
    "no_propagation": Mistake("nothing is propagated: the random search works alone, or begins at the match from before the "
                              "propagation, so that its result replaces what was propagated", _with(_matched, propagates=False), 2),
    "no_search": Mistake("there is no random search: matches are only propagated", _with(_matched, searches=False), 2),
    "search_first": Mistake("the random search comes before the propagation, or is centred at the match from before it; the "
                            "propagation comes first, and the search starts from what it has left",
                            _with(_matched, search_first=True), 2),
    "old_field_read": Mistake("propagation reads the field as it was before the iteration; it reads the one that is being "
                              "improved, so that a good match travels across the whole picture in one scan",
                              _with(_matched, buffered=True), 2),
    "stale_distance": Mistake("the distances are not updated with the field: later candidates are compared with a distance "
                              "that the patch had long ago", _with(_matched, keeps_distance=True), 2),
    "stale_in_propagation": Mistake("the second neighbour's candidate is compared with the distance from before the first "
                                    "one was accepted",
                                    _with(_matched, propagation={"stale": True}), 2),
    "same_numbers": Mistake("every iteration uses the random numbers of the first", _with(_matched, same_numbers=True), 3),
    "sign_wrong": Mistake("the offset is added with the wrong sign in the propagation: the candidate is ψ(x + t) − t",
                          _with(_matched, propagation={"sign": 1}), 2),
    "not_moved": Mistake("propagation copies the neighbour's match; it has to be moved by one step",
                         _with(_matched, propagation={"sign": 0}), 2),
    "propagation_clamped": Mistake("propagated candidates that stick out of the exemplar are moved back inside; they are "
                                   "left out",
                                   _with(_matched, propagation={"outside": "clamped"}), 2),
    "wraps_around": Mistake("the neighbour outside the field is read from the other side: to Python, index −1 is the last "
                            "one",
                            _with(_matched, propagation={"wraps": True}), 2),
    "search_left_out": Mistake("random candidates outside the exemplar are left out; they are clamped to the nearest "
                               "position that exists",
                               _with(_matched, search={"outside": "left out"}), 3),
    "not_clamped": Mistake("random candidates are not clamped to 0 … H̃ − n and 0 … W̃ − n",
                           _with(_matched, search={"outside": "kept"}), 3),
    "window_not_shrinking": Mistake("the window of the random search does not shrink",
                                    _with(_matched, search={"shrinks": 1.0}), 3),
    "shrinks_too_early": Mistake("the first window of the random search has the radius R α; it is R",
                                 _with(_matched, search={"late": 1}), 3),
    "centre_moves": Mistake("the windows of the random search follow the best match; they stay centred at the match that "
                            "propagation has left", _with(_matched, search={"follows": True}), 3),
    "truncated": Mistake("random steps are cut to whole numbers towards 0; here they are rounded to the nearest",
                         _with(_matched, search={"to_integer": int}), 3),
    "coordinates_swapped": Mistake("the random numbers are used as (column, row); they are (row, column)",
                                   _with(_matched, search={"columns_first": True}), 3),
    "field_int64": Mistake(_INT64, _with_field(lambda nnf: nnf.long(), _matched)),
    "field_float": Mistake(_FLOAT, _with_field(lambda nnf: nnf.float(), _matched)),
    "distance_averaged": Mistake(_MEAN, lambda image, *rest: _with_distance(_mean_of, _matched)(image, *rest), 2),
    "writes_into_input": Mistake("the result is written over the field that was given",
                                 lambda image, exemplar, start, numbers, n: _overwrite(start, _matched(image, exemplar, start, numbers, n))),
})
def patchmatch(task: Task) -> None:
    with task.property("improves the field in one forward scan, grey", share=0.35):
        task.compare(*_loop_case(task, 1, channels=1), tolerance=1e-9)
        task.compare(*_loop_case(task, 1, channels=1, sizes=(6, 10, 8, 11)), tolerance=1e-9)
    with task.property("scans forward and backward in turn", share=0.4, mistake="scan_not_reversed"):
        task.compare(*_loop_case(task, 2), tolerance=1e-9)
        task.compare(*_loop_case(task, 3), tolerance=1e-9)
    with task.property("works in pictures of other sizes, down to a single patch", share=0.25):
        task.compare(*_loop_case(task, 2, sizes=(3, 9, 10, 6)), tolerance=1e-9)
        task.compare(*_loop_case(task, 2, sizes=(7, 3, 5, 11)), tolerance=1e-9)
        task.compare(*_loop_case(task, 2, sizes=(3, 3, 6, 7)), tolerance=1e-9)
    with task.property("without an iteration, returns the start with its distances"):
        task.compare(*_loop_case(task, 0), tolerance=1e-9)


def _overwrite(field: Tensor, result: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same answer, written into the field that was given."""
    return field.copy_(result[0]), result[1]


# --- 6 · Voting -----------------------------------------------------------------------------------------------------

def _voted(nnf: Tensor, exemplar: Tensor, patch_size: int, *, count: str = "exact", last_wins: bool = False,
           transposed: bool = False, skip: int = 0, blend: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Every pixel from the patches that hold it; the options are where answers differ."""
    rows, columns = nnf.shape[-2:]
    height, width = rows + patch_size - 1, columns + patch_size - 1
    said: dict[Position, list[Tensor]] = {p: [] for p in itertools.product(range(height), range(width))}
    for i, j in itertools.product(range(rows - skip), range(columns - skip)):
        match = _patch(exemplar, _at(nnf, (i, j)), patch_size)
        match = match.transpose(1, 2) if transposed else match
        for a, b in itertools.product(range(patch_size), range(patch_size)):
            said[i + a, j + b].append(match[:, a, b])
    out = torch.zeros(exemplar.shape[0], height, width, dtype=exemplar.dtype)
    for (i, j), votes in said.items():
        if votes and last_wins:
            out[:, i, j] = votes[-1]
        elif votes and blend:
            out[:, i, j] = blend(torch.stack(votes))
        elif votes:
            divisor = {"exact": len(votes), "none": 1, "constant": patch_size ** 2}[count]
            out[:, i, j] = torch.stack(votes).sum(0) / divisor
    return out


def _first_pixels(nnf: Tensor, exemplar: Tensor, patch_size: int, *, back: int = 0) -> Tensor:
    """Every pixel from the one patch that has it in the place (back, back), or the nearest there is."""
    rows, columns = nnf.shape[-2:]
    out = torch.empty(exemplar.shape[0], rows + patch_size - 1, columns + patch_size - 1, dtype=exemplar.dtype)
    for i, j in itertools.product(*map(range, out.shape[-2:])):
        p = _clamp((i - back, j - back), (rows, columns))
        match = _at(nnf, p)
        out[:, i, j] = exemplar[:, match[0] + i - p[0], match[1] + j - p[1]]
    return out


def _small(nnf: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    """One pixel per patch: a picture that has lost n − 1 rows and columns."""
    return exemplar[:, nnf[0].long(), nnf[1].long()]


@exercise(points=2, minutes=25, reference=_voted, withholds=(
    "labkit.patchmatch.reconstruct", "labkit.patchmatch.fields.vote", "labkit.patches.aggregate_patches"), mistakes={
    "not_normalised": Mistake("the votes are added up and never divided by their number", _with(_voted, count="none"), 2),
    "constant_count": Mistake("the sum of the votes is divided by n² everywhere; pixels near the border lie in fewer patches",
                              _with(_voted, count="constant"), 2),
    "last_patch_wins": Mistake("every pixel has one vote only, that of the patch written last; add up the votes of all "
                               "patches that hold it and divide by their number",
                               _with(_voted, last_wins=True), 2),
    "centre_vote": Mistake("every pixel is taken from the one patch that has it in its middle; all patches that hold it "
                           "have a vote",
                           lambda nnf, exemplar, n: _first_pixels(nnf, exemplar, n, back=n // 2), 1),
    "too_small": Mistake("the picture has one pixel per patch; H' rows of patches cover H' + n − 1 rows of pixels",
                         _small, 1),
    "median": Mistake("the median of the votes is taken; here it is their mean",
                      _with(_voted, blend=lambda v: v.median(0).values), 2),
    "coordinates_swapped": Mistake(_EXCHANGED, lambda nnf, exemplar, n: _voted(nnf.flip(0), exemplar, n), 1),
    "patch_transposed": Mistake("rows and columns are exchanged inside each patch", _with(_voted, transposed=True), 3),
    "shift_instead_of_position": Mistake("the field is taken for shifts; it holds absolute positions in the exemplar",
                                         lambda nnf, exemplar, n: _voted(nnf + _own_positions(nnf), exemplar, n), 1),
    "field_ignored": Mistake("the exemplar is read at the patch's own position, not at its match",
                             lambda nnf, exemplar, n: _voted(_own_positions(nnf), exemplar, n), 1),
    "last_patches_forgotten": Mistake("the last row and column of patches have no vote: `range` leaves out its end",
                                      _with(_voted, skip=1), 1),
    "channels_mixed": Mistake("the channels are averaged into one", lambda nnf, exemplar, n: _voted(
        nnf, exemplar.mean(0, keepdim=True), n), 3),
    "writes_into_input": Mistake("the result is written over the exemplar", lambda nnf, exemplar, n: (
        exemplar.mul_(0.5), _voted(nnf, 2 * exemplar, n))[1]),
})
def reconstruct(task: Task) -> None:
    def compare(rows: int, columns: int, exemplar: Tensor, n: int, tolerance: float) -> None:
        # matches that are swapped or taken for shifts still lie inside, so that such answers give a picture
        most = [min(exemplar.shape[-2:]) - n - side for side in (rows - 1, columns - 1)]
        task.compare(_random_field(task, (rows, columns), (0, 0), (most[0], most[1])), exemplar, n, tolerance=tolerance)

    with task.property("averages what the matches of all patches say about a pixel", share=0.5):
        compare(5, 7, task.image(13, 12, channels=1), 3, 1e-5)
        compare(6, 4, task.image(11, 12), 3, 1e-5)
    with task.property("works for other patch sizes and keeps the dtype", share=0.3):
        compare(4, 6, _picture(task, 13, 15), 4, 1e-9)
        compare(5, 3, task.image(9, 8), 1, 1e-5)
    with task.property("works in a field of one patch, one row, one column", share=0.2):
        compare(1, 1, task.image(6, 7), 3, 1e-5)
        compare(1, 6, task.image(11, 12), 3, 1e-5)
        compare(6, 1, task.image(12, 11), 2, 1e-5)
    with task.property("gives a picture back when every patch is its own match"):
        image = task.image(9, 10)
        task.compare(_own_positions(torch.zeros(2, 7, 8, dtype=torch.int32)), image, 3, expected=image)


# --- 7 · Jump flooding ----------------------------------------------------------------------------------------------

_ALONG_AXES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _jumped(image: Tensor, exemplar: Tensor, nnf: Tensor, distance: Tensor, step: int, patch_size: int, *,
            offsets: Sequence[Position] = _ALONG_AXES, sign: int = -1, in_place: bool = False, by_patch: bool = False,
            at_border: str = "none", outside: str = "left out", stale: bool = False, always: bool = False, jump: int | None = None,
            averaged: bool = False, running: bool = False) -> tuple[Tensor, Tensor]:
    """One step of jump flooding; the options are where answers differ. `running` adds up the candidates of a patch."""
    sizes, targets = tuple(nnf.shape[-2:]), _sizes(exemplar, patch_size)
    step = step if jump is None else jump
    best, best_distance = nnf.clone(), distance.clone()
    source = best if by_patch else nnf
    offsets = [(a * step, b * step) for a, b in offsets]
    every = list(itertools.product(*map(range, sizes)))
    order = [(p, t) for p in every for t in offsets] if by_patch or running else [(p, t) for t in offsets for p in every]
    previous, total, last = offsets[0], 0.0, None
    for p, offset in order:
        if in_place and offset != previous:      # the next direction reads what this one has written
            source, previous = best.clone(), offset
        neighbour = _plus(p, offset)
        if not _inside(neighbour, sizes):
            if at_border == "none":
                continue
            neighbour = _clamp(neighbour, sizes) if at_border == "clamped" else (neighbour[0] % sizes[0], neighbour[1] % sizes[1])
        candidate = _plus(_at(source, neighbour), offset, sign)
        if outside == "clamped":
            candidate = _clamp(candidate, targets)
        elif not _inside(candidate, targets):
            continue
        found = _cost(image, exemplar, p, candidate, patch_size)
        found = _mean_of(found, image, patch_size) if averaged else found
        total, last = total + found if running and p == last else found, p
        if always or total < float((distance if stale else best_distance)[p]):
            best[:, p[0], p[1]] = torch.tensor(candidate, dtype=best.dtype)
            best_distance[p] = total
    return best, best_distance


def _jump_case(task: Task, step: int, *, channels: int = 3, sizes: tuple = (9, 11, 12, 10), inside: bool = False, n: int = 3) -> tuple:
    """Arguments of a step; `inside` keeps every match so far from the border that no candidate sticks out."""
    image, exemplar = _picture(task, *sizes[:2], channels), _picture(task, *sizes[2:], channels)
    targets, margin = _sizes(exemplar, n), step if inside else 0
    high = targets[0] - 1 - margin, targets[1] - 1 - margin
    draw = functools.partial(_random_field, task, _sizes(image, n), (margin, margin), high)
    nnf = draw()
    # a candidate that is the patch's own match would win or lose by the last digit
    while (repeats := _repeats(nnf, step)).any():
        nnf = torch.where(repeats, draw(), nnf)
    return image, exemplar, nnf, _distances(image, exemplar, nnf, n), step, n


def _repeats(nnf: Tensor, step: int) -> Tensor:
    """Where a neighbour suggests the match that a patch has already."""
    shift, repeats = nnf - _own_positions(nnf), torch.zeros(nnf.shape[1:], dtype=torch.bool)
    repeats[step:] |= (shift[:, step:] == shift[:, :-step]).all(0)
    repeats[:, step:] |= (shift[:, :, step:] == shift[:, :, :-step]).all(0)
    return repeats


def _flooded(right: Callable) -> Callable:
    """The same answer, written into the field and the distances that were given."""
    def variant(image, exemplar, nnf, distance, step, n):
        best, best_distance = right(image, exemplar, nnf, distance, step, n)
        return nnf.copy_(best), distance.copy_(best_distance)
    return variant


_JUMP_MISTAKES: dict[str, tuple[str, dict, int | None]] = {
    "updated_in_place": ("the field is updated while it is being read: later directions see what earlier ones have written. Read from the "
                         "field that was given, write into a copy", {"in_place": True}, 2),
    "updated_patch_by_patch": ("the field is updated while it is being read: a patch sees what its neighbours have found in this very step. "
                               "Read from the field that was given, write into a copy", {"by_patch": True}, 2),
    "sign_wrong": ("the offset is added with the wrong sign: the candidate is ψ(p + δ) − δ", {"sign": 1}, 1),
    "not_moved": ("the neighbour's match is copied; the candidate is ψ(p + δ) − δ", {"sign": 0}, 1),
    "step_ignored": ("the neighbours are one patch away; here they are `step` patches away", {"jump": 1}, 1),
    "two_directions": ("only the left and the upper neighbour are tried; there are four directions", {"offsets": ((-1, 0), (0, -1))}, 1),
    "rows_only": ("only the neighbours in the same row are tried; there are four directions", {"offsets": ((0, -1), (0, 1))}, 1),
    "columns_only": ("only the neighbours in the same column are tried; there are four directions", {"offsets": ((-1, 0), (1, 0))}, 1),
    "diagonals": ("the diagonal neighbours are tried; the four directions are up, down, left and right",
                  {"offsets": ((-1, -1), (-1, 1), (1, -1), (1, 1))}, 1),
    "wraps_around": ("neighbours outside the field are read from the other side, as torch.roll does, or a negative index; there is no "
                     "candidate there", {"at_border": "wraps"}, 3),
    "border_repeated": ("neighbours outside the field are replaced by the nearest one inside; there is no candidate there",
                        {"at_border": "clamped"}, 3),
    "clamped": ("candidates that stick out of the exemplar are moved back inside; they are left out", {"outside": "clamped"}, 3),
    "stale_distance": ("every direction is compared with the distance from before the step, so the last good candidate wins instead of the "
                       "best one", {"stale": True}, 2),
    "always_accepted": ("candidates are taken without being compared", {"always": True}, 2),
    "mean_instead_of_sum": ("the candidate's distance is a mean and is compared with a sum: the mean is always smaller", {"averaged": True}, 2),
}


@exercise(points=2, minutes=35, reference=_jumped, withholds=_SEARCH, mistakes={
    **{name: Mistake(sentence, _with(_jumped, **options), hint) for name, (sentence, options, hint) in _JUMP_MISTAKES.items()},
    "distances_not_updated": Mistake("the distances are not updated with the field: all directions are compared with the "
                                     "old ones, and the old ones are returned",
                                     lambda *a: (_jumped(*a, stale=True)[0], a[3].clone()), 2),
    "distances_not_returned": Mistake("the field is new but the distances are the old ones",
                                      lambda *a: (_jumped(*a)[0], a[3].clone()), 2),
    "field_int64": Mistake(_INT64, _with_field(lambda nnf: nnf.long(), _jumped), 3),
    "field_float": Mistake(_FLOAT, _with_field(lambda nnf: nnf.float(), _jumped), 3),
    "writes_into_input": Mistake("the result is written over the field that was given", _flooded(_jumped), 2),
})
def jump_flood(task: Task) -> None:
    with task.property("takes the best of four neighbours' matches", share=0.5):
        task.compare(*_jump_case(task, 1, inside=True), tolerance=1e-9)
        task.compare(*_jump_case(task, 2, inside=True, channels=1), tolerance=1e-9)
    with task.property("leaves out candidates that stick out of the exemplar", share=0.3, mistake="clamped"):
        task.compare(*_jump_case(task, 2, sizes=(8, 9, 8, 7)), tolerance=1e-9)
        task.compare(*_jump_case(task, 4, sizes=(12, 10, 9, 12)), tolerance=1e-9)
    with task.property("works in fields smaller than the step", share=0.2):
        task.compare(*_jump_case(task, 2, sizes=(3, 10, 7, 9)), tolerance=1e-9)
        task.compare(*_jump_case(task, 8, sizes=(5, 5, 6, 8)), tolerance=1e-9)
        task.compare(*_jump_case(task, 3, sizes=(11, 4, 9, 9)), tolerance=1e-9)


# --- 8 · Jump flooding in numba -------------------------------------------------------------------------------------
# Wrong answers stand in for kernels: compiling each of them would take longer than the student wants to wait.

class _Uncompiled:
    """A Python function in a kernel's clothes: it takes and returns arrays, and nothing is compiled."""

    def __init__(self, function: Callable):
        self.py_func = function

    def __call__(self, *arguments):
        given = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        result = self.py_func(*given)
        return tuple(r.numpy() for r in result) if isinstance(result, tuple) else result


def _nothing_returned(*arguments) -> None:
    _flooded(_jumped)(*arguments)


@exercise(points=3, minutes=40, kind="kernel", reference=_Uncompiled(_jumped), withholds=_SEARCH, mistakes={
    **{name: Mistake(sentence, _Uncompiled(_with(_jumped, **options)), hint)
       for name, (sentence, options, hint) in _JUMP_MISTAKES.items()},
    "sum_not_reset": Mistake("the sum over the patch goes on from the candidate before: set it to 0 for each candidate",
                             _Uncompiled(_with(_jumped, running=True)), 1),
    "patch_too_small": Mistake("the loops over the patch leave out its last row and column", _Uncompiled(
        lambda image, exemplar, nnf, distance, step, n: _smaller_patches(image, exemplar, nnf, distance, step, n)), 1),
    "first_channel_only": Mistake("only the first channel is compared", _Uncompiled(
        lambda image, exemplar, *rest: _jumped(image[:1], exemplar[:1], *rest)), 1),
    "written_into_input": Mistake("the field that was given is overwritten: other threads still read it",
                                  _Uncompiled(_flooded(_jumped)), 2),
    "returns_nothing": Mistake("the kernel returns nothing; it returns the new field and its distances",
                               _Uncompiled(_nothing_returned), 2),
    "field_int64": Mistake("the new field is int64; make it with the dtype of the old one: `np.empty_like(nnf)`",
                           _Uncompiled(_with_field(lambda nnf: nnf.long(), _jumped)), 2),
})
def parallel_jump_flood(task: Task) -> None:
    def compare(step: int, **options) -> dict:
        image, exemplar, nnf, distance, step, n = _jump_case(task, step, **options)
        return task.compare(image.numpy(), exemplar.numpy(), nnf.numpy(), distance.numpy(), step, n, tolerance=1e-9)

    with task.property("takes the best match along a single row", share=0.25):
        found = compare(1, sizes=(3, 14, 7, 14), inside=True)
    with task.property("shares its rows out among the cores"):
        if task.properties[-1].passed:
            task.require(found.get("parallel", True), "The values are right, but no loop runs in parallel: write `prange` instead of "
                         "`range` for the loop over the rows.")
    with task.property("takes the best of four neighbours' matches", share=0.35):
        compare(1, inside=True)
        compare(2, inside=True, channels=1)
    with task.property("leaves out candidates that stick out of the exemplar", share=0.25, mistake="clamped"):
        compare(2, sizes=(8, 9, 8, 7))
        compare(4, sizes=(12, 10, 9, 12))
    with task.property("works in fields smaller than the step, and for other patch sizes", share=0.15):
        compare(8, sizes=(5, 5, 6, 8))
        compare(2, sizes=(8, 6, 7, 8), n=2)


def _smaller_patches(image, exemplar, nnf, distance, step, n):
    """Candidates compared over n − 1 rows and columns, but kept to where a whole patch fits."""
    return _jumped(image[:, :-1, :-1], exemplar[:, :-1, :-1], nnf, distance, step, n - 1)


# --- 9 · A first CUDA kernel ----------------------------------------------------------------------------------------

class _Launched:
    """A Python function in a CUDA kernel's clothes: called once for each thread (x, y) of the launch."""

    def __init__(self, thread: Callable):
        self.thread = thread

    def __getitem__(self, launch: tuple) -> Callable:
        (across, down), (width, height) = launch[:2]

        def run(*arguments) -> None:
            host = [a.copy_to_host() if hasattr(a, "copy_to_host") else a for a in arguments]
            for block, inner in itertools.product(itertools.product(range(down), range(across)),
                                                  itertools.product(range(height), range(width))):
                self.thread(*host, thread=(inner[1], inner[0]), block=(block[1], block[0]), width=(width, height))
            for given, changed in zip(arguments, host):
                if hasattr(given, "copy_to_device"):
                    given.copy_to_device(changed)
        return run


def _thread(image: np.ndarray, exemplar: np.ndarray, nnf: np.ndarray, n: int, out: np.ndarray, *, thread: Position, block: Position,
            width: Position, guard: bool = True, rows_along_x: bool = False, blocks: bool = True, larger: int = 0,
            channels: int | None = None, value: Callable[[np.ndarray], float] | None = None, adds: bool = False,
            columns_first: bool = False, shifts: bool = False, exchanged: bool = False, threads: bool = True) -> None:
    """What one thread does; the options are where answers differ."""
    x, y = (b * w * blocks + t * threads for b, w, t in zip(block, width, thread))
    row, column = (x, y) if rows_along_x else (y, x)
    if row >= out.shape[0] or column >= out.shape[1]:
        if guard:
            return
        raise IndexError(f"index ({row}, {column}) is out of bounds for an array of size {out.shape}")
    match = _at(nnf[::-1] if columns_first else nnf, (row, column))
    match = _plus(match, (row, column)) if shifts else match
    here, there = ((row, column), match) if not exchanged else (match, (row, column))
    side = n + larger
    p, q = (a[:channels, r:r + side, c:c + side].astype(np.float64) for a, (r, c) in ((image, here), (exemplar, there)))
    found = value(p - q) if value else np.square(p - q).sum()
    out[row, column] = out[row, column] + found if adds else found


def _launched(**options) -> _Launched:
    return _Launched(functools.partial(_thread, **options))


def _choose_simulator() -> None:
    """Without a GPU, CUDA kernels run on numba's simulator; it must be chosen before `numba.cuda` is first imported."""
    if "numba.cuda" not in sys.modules and not torch.cuda.is_available():
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
        from numba.core import config

        config.reload_config()


@exercise(points=2, minutes=30, kind="kernel", reference=_launched(), withholds=_DISTANCES, mistakes={
    "no_guard": Mistake("threads outside the field are not stopped: there are more threads than patches, so ask whether row "
                        "and column lie inside `out` before reading or writing anything", _launched(guard=False), 2),
    "indices_swapped": Mistake("the thread's indices are exchanged: cuda.grid(2) gives x first, which runs along the "
                               "columns, then y, along the rows", _launched(rows_along_x=True), 1),
    "first_block_only": Mistake("only the threads of the first block do their work: the position of a thread is blockIdx · "
                                "blockDim + threadIdx, which cuda.grid(2) computes", _launched(blocks=False), 1),
    "block_index_only": Mistake("all threads of a block work on the same patch: the position of a thread is blockIdx · "
                                "blockDim + threadIdx, which cuda.grid(2) computes", _launched(threads=False), 1),
    "adds_to_out": Mistake("the sum begins with what stood in `out` before; it begins with 0", _launched(adds=True), 3),
    "mean_instead_of_sum": Mistake(_MEAN, _launched(value=lambda d: np.square(d).mean()), 3),
    "root_taken": Mistake(_ROOT, _launched(value=lambda d: math.sqrt(np.square(d).sum())), 3),
    "not_squared": Mistake("the differences are summed without being squared: they cancel",
                           _launched(value=lambda d: d.sum()), 3),
    "absolute": Mistake("absolute differences are summed instead of squared ones",
                        _launched(value=lambda d: np.abs(d).sum()), 3),
    "last_pixel_only": Mistake("`out` holds the last difference only: add up in a variable of the thread and store it at "
                               "the end",
                               _launched(value=lambda d: float(d[-1, -1, -1]) ** 2), 3),
    "first_channel_only": Mistake("only the first channel is compared", _launched(channels=1), 3),
    "patch_too_small": Mistake("the loops over the patch leave out its last row and column", _launched(larger=-1), 3),
    "patch_too_large": Mistake("the loops over the patch take one row and one column too many", _launched(larger=1), 3),
    "coordinates_swapped": Mistake(_EXCHANGED, _launched(columns_first=True), 3),
    "shift_instead_of_position": Mistake("the field is taken for shifts; it holds absolute positions in the exemplar",
                                        _launched(shifts=True), 3),
    "pictures_exchanged": Mistake("image and exemplar are exchanged: the match lies in the exemplar",
                                  _launched(exchanged=True), 3),
})
def cuda_distance(task: Task) -> None:
    _choose_simulator()

    def compare(rows: int, columns: int, grid: Position, block: Position, channels: int = 3) -> None:
        n = 3
        image, exemplar = task.image(13, 13, channels=channels), task.image(14, 13, channels=channels)
        # the pictures are larger than the field needs, so that a wrong index reads a wrong pixel and never none
        nnf = _random_field(task, (rows, columns), (0, 0), (4, 3))
        out = torch.full((rows, columns), -1.0)
        expected = _distances(image, exemplar, nnf, n).numpy()
        arrays = [image.numpy(), exemplar.numpy(), nnf.numpy(), expected]
        task.compare(*arrays[:3], n, out.numpy(), grid=grid, block=block, expected={"value": None, "arrays": arrays}, tolerance=1e-4)

    with task.property("gives every patch of a field to one thread", share=0.5):
        compare(4, 6, (3, 2), (2, 2), channels=1)
        compare(6, 3, (1, 2), (3, 3))
    with task.property("stops threads outside the field", share=0.5, mistake="no_guard"):
        compare(5, 6, (2, 2), (4, 4))
        compare(3, 2, (1, 1), (4, 4))
