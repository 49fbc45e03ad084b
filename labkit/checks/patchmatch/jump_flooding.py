"""The checks of chapter 2 on jump flooding, in torch and in numba."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.patchmatch.pieces import (INT64, SEARCH, Position, Sizes, clamp, field_distances, field_size, is_inside, match_at, mean_of,
                                             own_positions, pictures, plus, positions, size_of, squared_distance, with_field)
from labkit.checks.pieces import FIRST_CHANNEL, FLOAT_FIELD, random_field, with_options

__all__ = ["jump_flood", "parallel_jump_flood"]


# --- 7 · Jump flooding ----------------------------------------------------------------------------------------------

_ALONG_AXES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _jump_flood(image: Tensor, exemplar: Tensor, nnf: Tensor, distance: Tensor, step: int, patch_size: int, *,
                offsets: Sequence[Position] = _ALONG_AXES, sign: int = -1, in_place: bool = False, by_patch: bool = False,
                at_border: str = "none", outside: str = "left out", stale: bool = False, always: bool = False, jump: int | None = None,
                averaged: bool = False, running: bool = False) -> tuple[Tensor, Tensor]:
    """One step of jump flooding; the options are where answers differ. `running` adds up the candidates of a patch."""
    sizes, targets = size_of(nnf), field_size(exemplar, patch_size)
    step = step if jump is None else jump
    best, best_distance = nnf.clone(), distance.clone()
    source = best if by_patch else nnf
    offsets = [(a * step, b * step) for a, b in offsets]
    every = positions(sizes)
    order = [(p, t) for p in every for t in offsets] if by_patch or running else [(p, t) for t in offsets for p in every]
    previous, total, last = offsets[0], 0.0, None
    for p, offset in order:
        if in_place and offset != previous:      # the next direction reads what this one has written
            source, previous = best.clone(), offset
        neighbour = plus(p, offset)
        if not is_inside(neighbour, sizes):
            if at_border == "none":
                continue
            neighbour = clamp(neighbour, sizes) if at_border == "clamped" else (neighbour[0] % sizes[0], neighbour[1] % sizes[1])
        candidate = plus(match_at(source, neighbour), offset, sign)
        if outside == "clamped":
            candidate = clamp(candidate, targets)
        elif not is_inside(candidate, targets):
            continue
        found = squared_distance(image, exemplar, p, candidate, patch_size)
        found = mean_of(found, image, patch_size) if averaged else found
        total, last = total + found if running and p == last else found, p
        if always or total < float((distance if stale else best_distance)[p]):
            best[:, p[0], p[1]] = torch.tensor(candidate, dtype=best.dtype)
            best_distance[p] = total
    return best, best_distance


def _jump_case(task: Task, step: int, *, channels: int = 3, sizes: Sizes = (9, 11, 12, 10), inside: bool = False, n: int = 3,
               dtype: torch.dtype = torch.float64) -> tuple:
    """Arguments of a step; `inside` keeps every match so far from the border that no candidate sticks out."""
    image, exemplar = pictures(task, sizes, n=n, channels=channels, dtype=dtype)
    targets, margin = field_size(exemplar, n), step if inside else 0
    high = targets[0] - 1 - margin, targets[1] - 1 - margin
    draw = functools.partial(random_field, task, field_size(image, n), (margin, margin), high)
    drawn: list[Tensor] = []

    def redraw() -> Tensor:
        """The field drawn before, with new matches where a neighbour suggests the one that the patch has already."""
        drawn.append(torch.where(_repeats(drawn[-1], step), draw(), drawn[-1]) if drawn else draw())
        return drawn[-1]

    # a candidate that is the patch's own match would win or lose by the last digit
    nnf = task.draw_until(redraw, lambda field: not _repeats(field, step).any())
    return image, exemplar, nnf, field_distances(image, exemplar, nnf, n), step, n


def _repeats(nnf: Tensor, step: int) -> Tensor:
    """Where a neighbour suggests the match that a patch has already."""
    shift, repeats = nnf - own_positions(nnf), torch.zeros(nnf.shape[1:], dtype=torch.bool)
    repeats[step:] |= (shift[:, step:] == shift[:, :-step]).all(0)
    repeats[:, step:] |= (shift[:, :, step:] == shift[:, :, :-step]).all(0)
    return repeats


@exercise(points=2, minutes=35, reference=_jump_flood, withholds=SEARCH)
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
    with task.property("keeps the dtype of the pictures"):
        task.compare(*_jump_case(task, 1, sizes=(5, 6, 8, 7), inside=True, dtype=torch.float32), tolerance=1e-4)


def _flooded(right: Callable) -> Callable:
    """The same answer, written into the field and the distances that were given."""
    def variant(image, exemplar, nnf, distance, step, n):
        best, best_distance = right(image, exemplar, nnf, distance, step, n)
        return nnf.copy_(best), distance.copy_(best_distance)
    return variant


_MISTAKES: dict[str, tuple[str, dict, int | None]] = {
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


jump_flood.knows({
    **{name: Mistake(sentence, with_options(_jump_flood, **options), hint) for name, (sentence, options, hint) in _MISTAKES.items()},
    "distances_not_updated": Mistake("the distances are not updated with the field: all directions are compared with the "
                                     "old ones, and the old ones are returned",
                                     lambda *a: (_jump_flood(*a, stale=True)[0], a[3].clone()), 2),
    "distances_not_returned": Mistake("the field is new but the distances are the old ones",
                                      lambda *a: (_jump_flood(*a)[0], a[3].clone()), 2),
    "field_int64": Mistake(INT64, with_field(lambda nnf: nnf.long(), _jump_flood), 3),
    "field_float": Mistake(FLOAT_FIELD, with_field(lambda nnf: nnf.float(), _jump_flood), 3),
    "writes_into_input": Mistake("the result is written over the field that was given", _flooded(_jump_flood), 2),
})


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


_parallel_jump_flood = _Uncompiled(_jump_flood)


@exercise(points=3, minutes=40, kind="kernel", reference=_parallel_jump_flood, withholds=SEARCH)
def parallel_jump_flood(task: Task) -> None:
    def compare(step: int, tolerance: float = 1e-9, **options) -> dict:
        image, exemplar, nnf, distance, step, n = _jump_case(task, step, **options)
        return task.compare(image.numpy(), exemplar.numpy(), nnf.numpy(), distance.numpy(), step, n, tolerance=tolerance)

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
    with task.property("keeps the dtype of the pictures"):
        if not task.failures:       # a kernel is compiled once more for it
            compare(1, sizes=(5, 6, 8, 7), inside=True, dtype=torch.float32, tolerance=1e-4)


def _nothing_returned(*arguments) -> None:
    _flooded(_jump_flood)(*arguments)


def _smaller_patches(image, exemplar, nnf, distance, step, n):
    """Candidates compared over n − 1 rows and columns, but kept to where a whole patch fits."""
    return _jump_flood(image[:, :-1, :-1], exemplar[:, :-1, :-1], nnf, distance, step, n - 1)


parallel_jump_flood.knows({
    **{name: Mistake(sentence, _Uncompiled(with_options(_jump_flood, **options)), hint)
       for name, (sentence, options, hint) in _MISTAKES.items()},
    "sum_not_reset": Mistake("the sum over the patch goes on from the candidate before: set it to 0 for each candidate",
                             _Uncompiled(with_options(_jump_flood, running=True)), 1),
    "patch_too_small": Mistake("the loops over the patch leave out its last row and column", _Uncompiled(_smaller_patches), 1),
    "first_channel_only": Mistake(FIRST_CHANNEL, _Uncompiled(
        lambda image, exemplar, *rest: _jump_flood(image[:1], exemplar[:1], *rest)), 1),
    "written_into_input": Mistake("the field that was given is overwritten: other threads still read it",
                                  _Uncompiled(_flooded(_jump_flood)), 2),
    "returns_nothing": Mistake("the kernel returns nothing; it returns the new field and its distances",
                               _Uncompiled(_nothing_returned), 2),
    "field_int64": Mistake("the new field is int64; make it with the dtype of the old one: `np.empty_like(nnf)`",
                           _Uncompiled(with_field(lambda nnf: nnf.long(), _jump_flood)), 2),
})
