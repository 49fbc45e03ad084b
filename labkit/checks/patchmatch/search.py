"""The checks of chapter 2 on distances, exhaustive search, propagation, random search, and PatchMatch itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labkit import patches
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.patchmatch.pieces import (DISTANCE, EXACT, INT64, MEAN, ROOT, SEARCH, Position, Sizes, clamp, field_distances,
                                             field_size, is_inside, match_at, mean_of, own_positions, patch, pictures, plus,
                                             positions, size_of, squared_distance, with_field)
from labkit.checks.pieces import ABSOLUTE, EXCHANGED, FIRST_CHANNEL, FLOAT_FIELD, float64_picture, random_field, with_options

__all__ = ["exhaustive_search", "patch_distance", "patchmatch", "propagate", "random_search"]


# --- 1 · Distance of two patches ------------------------------------------------------------------------------------

_patch_distance = squared_distance     # it is also a piece of all that follows


@exercise(points=1, minutes=10, reference=_patch_distance, withholds=(*DISTANCE, *SEARCH, EXACT))
def patch_distance(task: Task) -> None:
    with task.property("compares two grey patches", share=0.4):
        for position, match in (((3, 1), (1, 4)), ((2, 5), (4, 1))):
            task.compare(task.image(11, 12, channels=1), task.image(12, 11, channels=1), position, match, 4)
    with task.property("compares two colour patches in all channels", share=0.4):
        task.compare(task.image(12, 10), task.image(9, 12), (1, 3), (4, 2), 3)
        task.compare(float64_picture(task, 10, 11), float64_picture(task, 11, 10), (4, 2), (3, 5), 5, tolerance=1e-10)
    with task.property("reaches the last patch of either picture", share=0.2):
        task.compare(task.image(7, 9), task.image(8, 6), (4, 6), (5, 3), 3)
    with task.property("is 0 for a patch and itself"):
        image = task.image(8, 8)
        task.compare(image, image.clone(), (2, 3), (2, 3), 4, expected=0.0)


def _of_patches(compare: Callable[[Tensor, Tensor], Tensor], *, larger: int = 0, back: int = 0) -> Callable[..., float]:
    """Another distance: `compare(patch of the image, patch of the exemplar)`, of other patches if asked for."""
    def variant(image: Tensor, exemplar: Tensor, position: Position, match: Position, patch_size: int) -> float:
        first, second = ((max(0, row - back * (patch_size // 2)), max(0, column - back * (patch_size // 2)))
                         for row, column in (position, match))
        return float(compare(patch(image, first, patch_size + larger), patch(exemplar, second, patch_size + larger)))
    return variant


def _square(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).square().sum()


patch_distance.knows({
    "mean_instead_of_sum": Mistake(MEAN, _of_patches(lambda p, q: (p - q).square().mean()), 2),
    "mean_over_channels": Mistake("the squared differences are averaged over the channels; the distance is their sum",
                                  _of_patches(lambda p, q: (p - q).square().mean(0).sum()), 2),
    "root_taken": Mistake(ROOT, _of_patches(lambda p, q: _square(p, q).sqrt()), 2),
    "absolute": Mistake(ABSOLUTE, _of_patches(lambda p, q: (p - q).abs().sum()), 2),
    "squared_after_the_sum": Mistake("the differences are summed first and squared afterwards: they cancel",
                                     _of_patches(lambda p, q: (p - q).sum().square()), 2),
    "not_squared": Mistake("the differences are summed without being squared: they cancel",
                           _of_patches(lambda p, q: (p - q).sum()), 2),
    "first_channel_only": Mistake(FIRST_CHANNEL, _of_patches(lambda p, q: _square(p[:1], q[:1])), 2),
    "last_channel_forgotten": Mistake("the last channel is not compared",
                                      _of_patches(lambda p, q: _square(p[:-1], q[:-1])), 2),
    "patch_too_small": Mistake("the patches have side n − 1: the end of a slice is not in it",
                               _of_patches(_square, larger=-1), 1),
    "patch_too_large": Mistake("the patches have side n + 1: the end of a slice is not in it, so it is the start + n",
                               _of_patches(_square, larger=1), 1),
    "centred": Mistake("the patches have their middle at the position; here the position is their first, top-left pixel",
                       _of_patches(_square, back=1), 1),
    "coordinates_swapped": Mistake(EXCHANGED, lambda image, exemplar, position, match, n: _patch_distance(
        image, exemplar, position[::-1], match[::-1], n), 1),
    "pictures_exchanged": Mistake("the two positions are exchanged: `position` lies in the image, `match` in the exemplar",
                                  lambda image, exemplar, position, match, n: _patch_distance(image, exemplar, match, position, n), 1),
    "image_only": Mistake("both patches are taken from the image; the second one lies in the exemplar",
                          lambda image, exemplar, position, match, n: _patch_distance(image, image, position, match, n), 1),
    "match_ignored": Mistake("both patches are taken at `position`; the exemplar's lies at `match`",
                             lambda image, exemplar, position, match, n: _patch_distance(image, exemplar, position, position, n), 1),
})


# --- 2 · Exhaustive search ------------------------------------------------------------------------------------------

def _exhaustive_search(image: Tensor, exemplar: Tensor, patch_size: int, *, cost: Callable[[Tensor], Tensor] | None = None,
                       worst: bool = False, end: int = 0, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Search everywhere, by `cost(differences (a, b, C·n·n))`; `end` leaves out so many last rows and columns."""
    p, q = (patches.extract_patches(x, patch_size=patch_size) for x in (image, exemplar))
    table = (cost or (lambda d: d.square().sum(-1)))(p[:, None] - q[None])
    rows, columns = field_size(exemplar, patch_size)
    allowed = torch.zeros(rows, columns, dtype=torch.bool)
    allowed[:rows - end, :columns - end] = True
    table = table.masked_fill(~allowed.flatten(), -math.inf if worst else math.inf)
    distance, index = table.max(1) if worst else table.min(1)
    sizes = field_size(image, patch_size)
    nnf = torch.stack([index // (width or columns), index % (width or columns)]).to(torch.int32)
    return nnf.reshape(2, *sizes), distance.reshape(sizes)


@exercise(points=2, minutes=25, reference=_exhaustive_search, withholds=(EXACT, *SEARCH))
def exhaustive_search(task: Task) -> None:
    with task.property("finds the nearest patch for every patch of a grey picture", share=0.4):
        task.compare(float64_picture(task, 8, 10, 1), float64_picture(task, 9, 12, 1), 3, tolerance=1e-6)
    with task.property("compares colours, in pictures of different sizes", share=0.4):
        task.compare(float64_picture(task, 9, 7), float64_picture(task, 7, 12), 3, tolerance=1e-6)
        task.compare(float64_picture(task, 6, 8, 2), float64_picture(task, 9, 5, 2), 2, tolerance=1e-6)
    with task.property("finds matches in every corner of the exemplar", share=0.2):
        exemplar = float64_picture(task, 10, 9)
        for corner in (exemplar[:, -5:, -5:], exemplar[:, :5, -5:], exemplar[:, -5:, :5]):
            task.compare(corner.contiguous(), exemplar, 3, tolerance=1e-6)
    with task.property("works when the exemplar is a single patch"):
        task.compare(float64_picture(task, 5, 6), float64_picture(task, 3, 3), 3, tolerance=1e-6)
    with task.property("keeps the dtype of the pictures"):
        task.compare(*pictures(task, (5, 6, 6, 7), n=3, dtype=torch.float32), 3, tolerance=1e-4)


def _field_shorter(image: Tensor, exemplar: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    nnf, distance = _exhaustive_search(image, exemplar, patch_size)
    return nnf[:, :-1, :-1].contiguous(), distance[:-1, :-1].contiguous()


def _ends_forgotten(image: Tensor, exemplar: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    nnf, distance = _exhaustive_search(image, exemplar, patch_size, end=1)
    return nnf[:, :-1, :-1].contiguous(), distance[:-1, :-1].contiguous()


exhaustive_search.knows({
    "last_positions_forgotten": Mistake("the last row and column of the exemplar's patches are never tried: there are "
                                        "H̃ − n + 1 of them, and `range` leaves out its end",
                                        with_options(_exhaustive_search, end=1), 1),
    "field_too_small": Mistake("the last row and column of the image's patches are missing: there are H − n + 1 of them, and "
                               "`range` leaves out its end", _field_shorter, 1),
    "both_ends_forgotten": Mistake("the last row and column of patches are missing, of the image's and of the exemplar's: "
                                   "there are H − n + 1 and H̃ − n + 1 rows of them, and `range` leaves out its end",
                                   _ends_forgotten, 1),
    "pictures_exchanged": Mistake("image and exemplar are exchanged: every patch of the image looks for a match in the "
                                  "exemplar",
                                  lambda image, exemplar, n: _exhaustive_search(exemplar, image, n), 1),
    "searched_in_itself": Mistake("the image is searched in itself, and every patch finds itself",
                                  lambda image, exemplar, n: _exhaustive_search(image, image, n), 1),
    "coordinates_swapped": Mistake(EXCHANGED, with_field(lambda nnf: nnf.flip(0), _exhaustive_search), 3),
    "shift_instead_of_position": Mistake("the field holds shifts ψ(x) − x; here it holds the absolute position ψ(x) of the "
                                         "match",
                                         with_field(lambda nnf: nnf - own_positions(nnf), _exhaustive_search), 3),
    "divided_by_exemplar_width": Mistake("the flat index is divided by the width of the exemplar; a row holds W̃ − n + 1 "
                                         "patches",
                                         lambda image, exemplar, n: _exhaustive_search(image, exemplar, n, width=exemplar.shape[-1]), 3),
    "divided_by_image_width": Mistake("the flat index is divided by the number of patches in a row of the image; it counts "
                                      "the patches of the exemplar",
                                      lambda image, exemplar, n: _exhaustive_search(image, exemplar, n, width=field_size(image, n)[1]), 3),
    "farthest": Mistake("the farthest patch is taken instead of the nearest", with_options(_exhaustive_search, worst=True), 2),
    "mean_instead_of_sum": Mistake(MEAN, with_options(_exhaustive_search, cost=lambda d: d.square().mean(-1)), 2),
    "root_taken": Mistake(ROOT, with_options(_exhaustive_search, cost=lambda d: d.square().sum(-1).sqrt()), 2),
    "absolute": Mistake(ABSOLUTE, with_options(_exhaustive_search, cost=lambda d: d.abs().sum(-1)), 2),
    "first_channel_only": Mistake(FIRST_CHANNEL, lambda image, exemplar, n: _exhaustive_search(image[:1], exemplar[:1], n), 2),
    "centres": Mistake("the field holds the middle of the match; here it holds its first, top-left pixel",
                       lambda image, exemplar, n: with_field(lambda nnf: nnf + n // 2, _exhaustive_search)(image, exemplar, n), 3),
    "order_of_results": Mistake("field and distances are returned in the other order", lambda *a: _exhaustive_search(*a)[::-1], 3),
    "field_int64": Mistake(INT64, with_field(lambda nnf: nnf.long(), _exhaustive_search), 3),
    "field_float": Mistake(FLOAT_FIELD, with_field(lambda nnf: nnf.float(), _exhaustive_search), 3),
    "field_of_the_images_dtype": Mistake(FLOAT_FIELD, lambda image, exemplar, n: with_field(
        lambda nnf: nnf.to(image.dtype), _exhaustive_search)(image, exemplar, n), 3),
})


# --- 3 · Propagation at one patch -----------------------------------------------------------------------------------

def _propagate(image: Tensor, exemplar: Tensor, nnf: Tensor, distance: Tensor, position: Position, direction: int,
               patch_size: int, *, offsets: Sequence[Position] = ((0, -1), (-1, 0)), sign: int = -1, wraps: bool = False,
               outside: str = "left out", stale: bool = False, borrowed: bool = False, always: bool = False,
               averaged: bool = False, begins: int = 0, ends: int = 0, reads: Tensor | None = None) -> tuple[int, int, float]:
    """The best of the current match and the neighbours' candidates: row, column, distance. The options are where answers differ."""
    sizes, targets = size_of(nnf), field_size(exemplar, patch_size)
    match, best = match_at(nnf, position), float(distance[position])
    at_first = best
    for offset in offsets:
        offset = (offset[0] * direction, offset[1] * direction)
        neighbour = plus(position, offset)
        if not is_inside(neighbour, sizes):
            if not wraps:
                continue
            neighbour = neighbour[0] % sizes[0], neighbour[1] % sizes[1]
        if min(neighbour) < begins:
            continue
        candidate = plus(match_at(nnf if reads is None else reads, neighbour), offset, sign)
        if outside == "clamped":
            candidate = clamp(candidate, targets)
        elif outside == "left out" and not is_inside(candidate, (targets[0] - ends, targets[1] - ends)):
            continue
        if borrowed:
            found = float(distance[neighbour])
        else:
            found = squared_distance(image, exemplar, position, candidate, patch_size)
            found = mean_of(found, image, patch_size) if averaged else found
        if always or found < (at_first if stale else best):
            match, best = candidate, found
    return *match, best


def _propagation_case(task: Task, order: Sequence[str], direction: int, *, position: Position | None = None,
                      channels: int = 3) -> tuple:
    """Arguments in which the candidates named in `order` are the better ones, best first.

    Names are `current`, `left` and `top` for the neighbours that a scan in that direction has passed, `right` and `bottom`
    for the others.
    """
    n, image, exemplar = 3, float64_picture(task, 8, 9, channels), float64_picture(task, 9, 8, channels)
    sizes, targets = field_size(image, n), field_size(exemplar, n)
    nnf = random_field(task, sizes, (1, 1), (targets[0] - 2, targets[1] - 2))
    i, j = position or (task.integer(1, sizes[0] - 2), task.integer(1, sizes[1] - 2))
    flat = torch.randperm((targets[0] - 2) * (targets[1] - 2), generator=task.generator)[:len(order)]
    drawn = [(1 + int(k) // (targets[1] - 2), 1 + int(k) % (targets[1] - 2)) for k in flat]
    ranked = sorted(drawn, key=lambda match: squared_distance(image, exemplar, (i, j), match, n))
    offsets = {"current": (0, 0), "left": (0, -direction), "top": (-direction, 0), "right": (0, direction), "bottom": (direction, 0)}
    for name, match in zip(order, ranked):
        row, column = plus((i, j), offsets[name])
        nnf[:, row % sizes[0], column % sizes[1]] = torch.tensor(plus(match, offsets[name]), dtype=torch.int32)
    return image, exemplar, nnf, field_distances(image, exemplar, nnf, n), (i, j), direction, n


def _at_the_border(task: Task, name: str, direction: int, *, beyond: int) -> tuple:
    """Arguments in which a neighbour's candidate lies in the exemplar's last corner, or `beyond` by one row or column."""
    image, exemplar, nnf, _, position, _, n = _propagation_case(task, ("current", "left", "top"), direction)
    targets = field_size(exemplar, n)
    offset, other = ((0, -direction), (-direction, 0))[:: 1 if name == "left" else -1]
    corner = (targets[0] - 1, targets[1] - 1) if direction > 0 else (0, 0)
    # the current match is the worst, and the other neighbour suggests it again, so that any other candidate is taken
    every = [m for m in positions(targets) if is_inside(plus(m, other), targets)]
    worst = max(every, key=lambda match: squared_distance(image, exemplar, position, match, n))
    for place, match in (((0, 0), worst), (other, plus(worst, other)), (offset, plus(corner, offset, 1 - beyond))):
        row, column = plus(position, place)
        nnf[:, row, column] = torch.tensor(match, dtype=torch.int32)
    return image, exemplar, nnf, field_distances(image, exemplar, nnf, n), position, direction, n


@exercise(points=2, minutes=25, reference=_propagate, withholds=SEARCH)
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


def _propagated_exchanged(image, exemplar, nnf, distance, position, direction, n):
    """The field read and written as (column, row)."""
    row, column, best = _propagate(image, exemplar, nnf.flip(0), distance, position, direction, n, offsets=((-1, 0), (0, -1)))
    return column, row, best


def _wrong_place(image, exemplar, nnf, distance, position, direction, n):
    """The candidate's distance measured from the neighbour's patch."""
    match, best = match_at(nnf, position), float(distance[position])
    for offset in ((0, -direction), (-direction, 0)):
        neighbour = plus(position, offset)
        if is_inside(neighbour, size_of(nnf)):
            candidate = plus(match_at(nnf, neighbour), offset, -1)
            if is_inside(candidate, field_size(exemplar, n)):
                found = squared_distance(image, exemplar, neighbour, candidate, n)
                if found < best:
                    match, best = candidate, found
    return *match, best


propagate.knows({
    "sign_wrong": Mistake("the offset is added with the wrong sign: if x + t has its match at ψ(x + t), the one of x lies at "
                          "ψ(x + t) − t", with_options(_propagate, sign=1), 1),
    "not_moved": Mistake("the neighbour's match is taken as it is; it has to be moved by the same step that leads from the "
                         "neighbour to this patch", with_options(_propagate, sign=0), 1),
    "direction_ignored": Mistake("the left and the top neighbour are read in both directions; a backward scan (direction "
                                 "−1) has passed the right and the bottom one",
                                 lambda image, exemplar, nnf, distance, position, direction, n: _propagate(
                                     image, exemplar, nnf, distance, position, 1, n), 2),
    "direction_reversed": Mistake("the neighbours on the wrong side are read: a forward scan (direction 1) has passed the "
                                  "left and the top one", lambda image, exemplar, nnf, distance, position, direction, n: _propagate(
                                      image, exemplar, nnf, distance, position, -direction, n), 2),
    "left_only": Mistake("only the neighbour in the same row is tried; there is one in the same column too",
                         with_options(_propagate, offsets=((0, -1),)), 2),
    "top_only": Mistake("only the neighbour in the same column is tried; there is one in the same row too",
                        with_options(_propagate, offsets=((-1, 0),)), 2),
    "diagonal": Mistake("the diagonal neighbour is read; the two neighbours are the one in the same row and the one in the "
                        "same column", with_options(_propagate, offsets=((-1, -1),)), 2),
    "all_four": Mistake("all four neighbours are tried; the scan has passed two of them only",
                        with_options(_propagate, offsets=((0, -1), (-1, 0), (0, 1), (1, 0))), 2),
    "stale_distance": Mistake("the second candidate is compared with the distance from before the first one was accepted: "
                              "keep the best distance up to date", with_options(_propagate, stale=True), 3),
    "always_accepted": Mistake("a candidate is taken without being compared with what the patch has already",
                               with_options(_propagate, always=True), 3),
    "borrowed_distance": Mistake("the neighbour's own distance is used for the candidate; compute the distance between "
                                 "*this* patch and the candidate", with_options(_propagate, borrowed=True), 3),
    "measured_from_the_neighbour": Mistake("the candidate is compared with the neighbour's patch instead of this one",
                                        _wrong_place, 3),
    "mean_instead_of_sum": Mistake("the candidate's distance is a mean and is compared with a sum: the mean is always "
                                   "smaller",
                                   with_options(_propagate, averaged=True), 3),
    "wraps_around": Mistake("the neighbour outside the field is read from the other side: to Python, index −1 is the last "
                            "one",
                            with_options(_propagate, wraps=True), 2),
    "first_row_skipped": Mistake("neighbours in row 0 or column 0 are taken for outside: the field begins there",
                                 with_options(_propagate, begins=1), 2),
    "clamped": Mistake("a candidate that sticks out of the exemplar is moved back inside; here it is left out",
                       with_options(_propagate, outside="clamped"), 3),
    "sticks_out": Mistake("a candidate that sticks out of the exemplar is not left out: its first pixel must lie in "
                          "0 … H̃ − n and 0 … W̃ − n", with_options(_propagate, outside="kept"), 3),
    "last_candidates_left_out": Mistake("a candidate in the last possible row or column is left out: H̃ − n and W̃ − n "
                                        "themselves are allowed, `<=` and not `<`", with_options(_propagate, ends=1), 3),
    "coordinates_swapped": Mistake(EXCHANGED, _propagated_exchanged, 1),
})


# --- 4 · Random search at one patch ---------------------------------------------------------------------------------

def _random_search(image: Tensor, exemplar: Tensor, position: Position, match: Position, distance: float, numbers: Tensor,
                   patch_size: int, *, radius: Callable[[Position, Position, Position], float] | None = None,
                   shrinks: float = 0.5, late: int = 0, follows: bool = False, outside: str = "clamped",
                   to_integer: Callable[[float], int] = round, columns_first: bool = False, around: str = "match",
                   stale: bool = False, always: bool = False, averaged: bool = False, margin: int = 0,
                   whole: bool = False) -> tuple[int, int, float]:
    """The best of the match and random candidates in windows around it: row, column, distance. The options are where answers differ."""
    targets = field_size(exemplar, patch_size)
    limits = targets if margin == 0 else (targets[0] + margin, targets[1] + margin)
    largest = radius(size_of(image), size_of(exemplar), targets) if radius else max(size_of(exemplar))
    start, best, at_first = match, float(distance), float(distance)
    for i, draw in enumerate(numbers.tolist()):
        reach = largest * shrinks ** (i + late)
        reach = math.floor(reach) if whole else reach
        middle = position if around == "position" else match if follows else start
        down, right = (to_integer(reach * x) for x in (draw[::-1] if columns_first else draw))
        candidate = plus(middle, (down, right))
        if outside == "clamped":
            candidate = clamp(candidate, limits)
        elif outside == "left out" and not is_inside(candidate, targets):
            continue
        found = squared_distance(image, exemplar, position, candidate, patch_size)
        found = mean_of(found, image, patch_size) if averaged else found
        if always or found < (at_first if stale else best):
            match, best = candidate, found
    return *match, best


MOST_TRIES = 20000    # numbers that tell all the wrong roundings apart are one in some hundreds


def _search_case(task: Task, height: int, width: int, draws: int, *, channels: int = 3,
                 wanted: Callable[[tuple, list[Position]], bool]) -> tuple:
    """Arguments for which `wanted(arguments, candidates before they are clamped)` holds, and some candidate is better."""
    n, image, exemplar = 3, float64_picture(task, 7, 6, channels), float64_picture(task, height, width, channels)
    targets = field_size(exemplar, n)
    position = task.integer(0, 4), task.integer(0, 3)

    def make() -> tuple:
        start = task.integer(0, targets[0] - 1), task.integer(0, targets[1] - 1)
        numbers = 2 * task.uniform(draws, 2).double() - 1
        return image, exemplar, position, start, squared_distance(image, exemplar, position, start, n), numbers, n

    def accept(arguments: tuple) -> bool:
        *_, start, _, numbers, _ = arguments
        reach = [max(height, width) / 2 ** i for i in range(draws)]
        candidates = [plus(start, (round(r * x), round(r * y))) for r, (x, y) in zip(reach, numbers.tolist())]
        return wanted(arguments, candidates) and _random_search(*arguments)[:2] != start

    return task.draw_until(make, accept, tries=MOST_TRIES)


def _never_outside(arguments: tuple, candidates: list[Position]) -> bool:
    return all(is_inside(c, field_size(arguments[1], arguments[-1])) for c in candidates)


def _telling(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether answers that scale or round the random numbers differently all end at different matches."""
    if not _never_outside(arguments, candidates):
        return False
    options: tuple[dict, ...] = ({}, {"to_integer": int}, {"to_integer": math.floor}, {"radius": _of_positions},
                                 {"radius": _of_smaller_side}, {"radius": _of_image}, {"late": 1}, {"columns_first": True})
    ends = {_random_search(*arguments, **each) for each in options}
    return len(ends) >= len(options) - 2


def _follows(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether a search whose windows follow the best match would end elsewhere."""
    return _never_outside(arguments, candidates) and _random_search(*arguments) != _random_search(*arguments, follows=True)


def _below_zero(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether clamping to 0, and nothing else, decides."""
    limits, right = field_size(arguments[1], arguments[-1]), _random_search(*arguments)
    if any(r >= limits[0] or c >= limits[1] for r, c in candidates) or right == _random_search(*arguments, outside="left out"):
        return False
    try:
        return right != _random_search(*arguments, outside="kept")
    except RuntimeError:
        return True


def _beyond_the_end(arguments: tuple, candidates: list[Position]) -> bool:
    """Whether clamping to the last row or column that holds a whole patch, and nothing else, decides."""
    return all(r >= 0 and c >= 0 for r, c in candidates) and all(
        _random_search(*arguments) != _random_search(*arguments, **options) for options in ({"outside": "left out"}, {"margin": -1}))


def _of_positions(image: Position, exemplar: Position, targets: Position) -> int:
    return max(targets)


def _of_smaller_side(image: Position, exemplar: Position, targets: Position) -> int:
    return min(exemplar)


def _of_image(image: Position, exemplar: Position, targets: Position) -> int:
    return max(image)


@exercise(points=2, minutes=25, reference=_random_search, withholds=SEARCH)
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


random_search.knows({
    "window_not_shrinking": Mistake("the window does not shrink: candidate i lies within R αⁱ of the centre, α = ½",
                                    with_options(_random_search, shrinks=1.0), 1),
    "shrinks_too_early": Mistake("the first window has the radius R α = R/2; it is R α⁰ = R",
                                 with_options(_random_search, late=1), 1),
    "radius_of_positions": Mistake("R is the number of positions; it is the larger side of the exemplar, in pixels",
                                   with_options(_random_search, radius=_of_positions), 1),
    "smaller_side": Mistake("R is the smaller side of the exemplar; it is the larger one",
                            with_options(_random_search, radius=_of_smaller_side), 1),
    "side_of_the_image": Mistake("R is the larger side of the image; it is that of the exemplar",
                                 with_options(_random_search, radius=_of_image), 1),
    "one_pixel_windows": Mistake("the random numbers are used as they are, within one pixel: scale them by the radius R αⁱ",
                                 with_options(_random_search, radius=lambda *_: 1.0, shrinks=1.0), 1),
    "centre_moves": Mistake("the window follows the best match as it improves; all windows are centred at the match y₀ with "
                            "which the search began", with_options(_random_search, follows=True), 2),
    "centred_at_the_patch": Mistake("the windows are centred at the patch's own position; they are centred at its current "
                                    "match",
                                    with_options(_random_search, around="position"), 2),
    "not_clamped": Mistake("candidates are not clamped: their first pixel must lie in 0 … H̃ − n and 0 … W̃ − n",
                           with_options(_random_search, outside="kept"), 3),
    "left_out": Mistake("a candidate outside the exemplar is left out; here it is clamped to the nearest position that "
                        "exists",
                        with_options(_random_search, outside="left out"), 3),
    "clamped_too_far": Mistake("candidates are clamped to 0 … H̃ − 1; a whole patch must fit, so the last row is H̃ − n",
                               with_options(_random_search, margin=2), 3),
    "last_position_unreachable": Mistake("candidates are clamped to 0 … H̃ − n − 1; the last row that holds a whole patch "
                                         "is H̃ − n",
                                         with_options(_random_search, margin=-1), 3),
    "truncated": Mistake("steps are cut to whole numbers towards 0, as int() does; here they are rounded to the nearest",
                         with_options(_random_search, to_integer=int), 1),
    "radius_whole": Mistake("the radius is halved to whole numbers, as `//` does; it is R/2ⁱ, with its fraction",
                            with_options(_random_search, whole=True), 1),
    "rounded_down": Mistake("steps are rounded down; here they are rounded to the nearest whole number",
                            with_options(_random_search, to_integer=math.floor), 1),
    "coordinates_swapped": Mistake("a row of `numbers` is used as (column, row); it is (row, column)",
                                   with_options(_random_search, columns_first=True), 1),
    "one_sided": Mistake("all steps go down and to the right: the random numbers are used without their sign",
                         lambda image, exemplar, position, match, distance, numbers, n: _random_search(
                             image, exemplar, position, match, distance, numbers.abs(), n), 1),
    "stale_distance": Mistake("candidates are compared with the distance from the beginning, so the last good one wins "
                              "instead of the best: keep the best distance up to date",
                              with_options(_random_search, stale=True), 2),
    "always_accepted": Mistake("a candidate is taken without being compared with what the patch has already",
                               with_options(_random_search, always=True), 2),
    "mean_instead_of_sum": Mistake("the candidate's distance is a mean and is compared with a sum: the mean is always "
                                   "smaller",
                                   with_options(_random_search, averaged=True), 2),
})


# --- 5 · The whole loop ---------------------------------------------------------------------------------------------

def _patchmatch(image: Tensor, exemplar: Tensor, start: Tensor, numbers: Tensor, patch_size: int, *, reverses: bool = True,
                turns_neighbours: bool = True, first: int = 1, propagates: bool = True, searches: bool = True,
                search_first: bool = False, buffered: bool = False, same_numbers: bool = False, keeps_distance: bool = False,
                reverses_rows: bool = True, reverses_columns: bool = True, propagation: dict | None = None,
                search: dict | None = None) -> tuple[Tensor, Tensor]:
    """PatchMatch patch by patch; the options are where answers differ."""
    nnf, distance = start.clone(), field_distances(image, exemplar, start, patch_size)
    rows, columns = nnf.shape[-2:]
    for iteration in range(len(numbers)):
        way = first if iteration % 2 == 0 else -first
        scan, looks = way if reverses else 1, way if turns_neighbours else 1
        source = nnf.clone() if buffered else None
        for p in itertools.product(range(rows)[::scan if reverses_rows else 1], range(columns)[::scan if reverses_columns else 1]):
            match, best = match_at(nnf, p), float(distance[p])
            for step in ("search", "propagate") if search_first else ("propagate", "search"):
                if step == "propagate" and propagates:
                    row, column, best = _propagate(image, exemplar, nnf, distance, p, looks, patch_size, reads=source,
                                                   **(propagation or {}))
                    match = row, column
                elif step == "search" and searches:
                    drawn = numbers[0 if same_numbers else iteration, p[0], p[1]]
                    row, column, best = _random_search(image, exemplar, p, match, best, drawn, patch_size, **(search or {}))
                    match = row, column
                nnf[:, p[0], p[1]] = torch.tensor(match, dtype=nnf.dtype)
                if not keeps_distance:
                    distance[p] = best
    return nnf, distance


def _loop_case(task: Task, iterations: int, *, channels: int = 3, sizes: Sizes = (8, 9, 9, 8),
               dtype: torch.dtype = torch.float64) -> tuple:
    n = 3
    image, exemplar = pictures(task, sizes, n=n, channels=channels, dtype=dtype)
    rows, columns = field_size(image, n)
    targets = field_size(exemplar, n)
    start = random_field(task, (rows, columns), (0, 0), (targets[0] - 1, targets[1] - 1))
    draws = 1 + int(math.log2(max(sizes[2:])))
    return image, exemplar, start, 2 * task.uniform(iterations, rows, columns, draws, 2).double() - 1, n


@exercise(points=3, minutes=35, reference=_patchmatch, withholds=SEARCH)
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
    with task.property("keeps the dtype of the pictures"):
        task.compare(*_loop_case(task, 1, sizes=(5, 6, 6, 7), dtype=torch.float32), tolerance=1e-4)


def _overwrite(field: Tensor, result: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same answer, written into the field that was given."""
    return field.copy_(result[0]), result[1]


def _with_distance(change: Callable[[Tensor, Tensor, int], Tensor], right: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple]:
    """The right answer, with its distances changed; `change(distance, image, n)`."""
    def variant(image, *rest):
        nnf, distance = right(image, *rest)
        return nnf, change(distance, image, rest[-1])
    return variant


patchmatch.knows({
    "scan_not_reversed": Mistake("every iteration scans forward; the second, fourth, … scan backward, from the last patch "
                                 "to the first, with the right and the bottom neighbours",
                                 with_options(_patchmatch, reverses=False, turns_neighbours=False), 1),
    "neighbours_not_turned": Mistake("the backward scan still reads the left and the top neighbours, which it has not "
                                     "visited yet; it has passed the right and the bottom ones",
                                     with_options(_patchmatch, turns_neighbours=False), 1),
    "scan_order_not_turned": Mistake("the second iteration reads the right and the bottom neighbours but scans forward: it "
                                     "reads patches that it has not visited yet", with_options(_patchmatch, reverses=False), 1),
    "rows_not_reversed": Mistake("the backward scan turns the columns round but not the rows: it goes from the last patch "
                                 "to the first",
                                 with_options(_patchmatch, reverses_rows=False), 1),
    "columns_not_reversed": Mistake("the backward scan turns the rows round but not the columns: it goes from the last "
                                    "patch to the first",
                                    with_options(_patchmatch, reverses_columns=False), 1),
    "starts_backward": Mistake("the first iteration scans backward; it is the forward one", with_options(_patchmatch, first=-1), 1),
    "no_propagation": Mistake("nothing is propagated: the random search works alone, or begins at the match from before the "
                              "propagation, so that its result replaces what was propagated", with_options(_patchmatch, propagates=False), 2),
    "no_search": Mistake("there is no random search: matches are only propagated", with_options(_patchmatch, searches=False), 2),
    "search_first": Mistake("the random search comes before the propagation, or is centred at the match from before it; the "
                            "propagation comes first, and the search starts from what it has left",
                            with_options(_patchmatch, search_first=True), 2),
    "old_field_read": Mistake("propagation reads the field as it was before the iteration; it reads the one that is being "
                              "improved, so that a good match travels across the whole picture in one scan",
                              with_options(_patchmatch, buffered=True), 2),
    "stale_distance": Mistake("the distances are not updated with the field: later candidates are compared with a distance "
                              "that the patch had long ago", with_options(_patchmatch, keeps_distance=True), 2),
    "stale_in_propagation": Mistake("the second neighbour's candidate is compared with the distance from before the first "
                                    "one was accepted",
                                    with_options(_patchmatch, propagation={"stale": True}), 2),
    "same_numbers": Mistake("every iteration uses the random numbers of the first", with_options(_patchmatch, same_numbers=True), 3),
    "sign_wrong": Mistake("the offset is added with the wrong sign in the propagation: the candidate is ψ(x + t) − t",
                          with_options(_patchmatch, propagation={"sign": 1}), 2),
    "not_moved": Mistake("propagation copies the neighbour's match; it has to be moved by one step",
                         with_options(_patchmatch, propagation={"sign": 0}), 2),
    "propagation_clamped": Mistake("propagated candidates that stick out of the exemplar are moved back inside; they are "
                                   "left out",
                                   with_options(_patchmatch, propagation={"outside": "clamped"}), 2),
    "wraps_around": Mistake("the neighbour outside the field is read from the other side: to Python, index −1 is the last "
                            "one",
                            with_options(_patchmatch, propagation={"wraps": True}), 2),
    "search_left_out": Mistake("random candidates outside the exemplar are left out; they are clamped to the nearest "
                               "position that exists",
                               with_options(_patchmatch, search={"outside": "left out"}), 3),
    "not_clamped": Mistake("random candidates are not clamped to 0 … H̃ − n and 0 … W̃ − n",
                           with_options(_patchmatch, search={"outside": "kept"}), 3),
    "window_not_shrinking": Mistake("the window of the random search does not shrink",
                                    with_options(_patchmatch, search={"shrinks": 1.0}), 3),
    "shrinks_too_early": Mistake("the first window of the random search has the radius R α; it is R",
                                 with_options(_patchmatch, search={"late": 1}), 3),
    "centre_moves": Mistake("the windows of the random search follow the best match; they stay centred at the match that "
                            "propagation has left", with_options(_patchmatch, search={"follows": True}), 3),
    "truncated": Mistake("random steps are cut to whole numbers towards 0; here they are rounded to the nearest",
                         with_options(_patchmatch, search={"to_integer": int}), 3),
    "coordinates_swapped": Mistake("the random numbers are used as (column, row); they are (row, column)",
                                   with_options(_patchmatch, search={"columns_first": True}), 3),
    "field_int64": Mistake(INT64, with_field(lambda nnf: nnf.long(), _patchmatch)),
    "field_float": Mistake(FLOAT_FIELD, with_field(lambda nnf: nnf.float(), _patchmatch)),
    "distance_averaged": Mistake(MEAN, _with_distance(mean_of, _patchmatch), 2),
    "writes_into_input": Mistake("the result is written over the field that was given",
                                 lambda image, exemplar, start, numbers, n: _overwrite(start, _patchmatch(image, exemplar, start, numbers, n))),
})
