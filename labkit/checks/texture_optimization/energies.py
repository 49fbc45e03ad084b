"""The other six checks of chapter 3: an energy lowered by matching and aggregating in turn, and its relatives.

Matches are compared as they are. Two patches at the same distance would both be right, so the inputs are float64 with
noise in every value: no two patches are equally far from a third.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import patches, pyramids
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.texture_optimization.growing import reads

_EXCHANGED = "rows and columns are exchanged: positions are (row, column), rows first"
_PSIN = tuple(f"labkit.texture_optimization.{name}" for name in ("psin", "psin_ot"))


def _picture(task: Task, height: int, width: int, channels: int = 3) -> Tensor:
    return task.image(height, width, channels=channels, dtype=torch.float64)


def _with(right: Callable, **options) -> Callable:
    return functools.partial(right, **options)


def _squares(first: Tensor, second: Tensor) -> Tensor:
    """Squared distances of all pairs of rows, from the differences themselves."""
    return (first[:, None] - second[None]).square().sum(-1)


# --- 5 · Matching and aggregating in turn ---------------------------------------------------------------------------

def _optimized(exemplar: Tensor, start: Tensor, patch_size: int, stride: int, levels: int, iterations: int, *,
               finest_first: bool = False, one_exemplar: bool = False, blur: bool = True, strided_exemplar: bool | str = False,
               cover: bool = True, all_patches: bool = False, matched_once: bool = False, first_channel: bool = False,
               own_patches: bool = False, farthest: bool = False, carried: bool = True, smooth: bool = True,
               enlarged_last: bool = False, enlarged: str = "between", only: int | None = None, when: str = "after",
               of: Callable[[Tensor], Tensor] = torch.mean,
               shape: Callable[[list, int], list] = lambda found, iterations: found) -> tuple[Tensor, list]:
    """Search and aggregation in turn, from coarse to fine; the options are where answers differ."""
    pyramid = pyramids.gaussian_pyramid(exemplar, levels=levels)
    if not blur:
        pyramid = [F.interpolate(exemplar[None], size=level.shape[1:], mode="nearest")[0] for level in pyramid]
    pyramid = pyramid if finest_first else pyramid[::-1]
    picture, energies = start, []
    for number, level in enumerate(pyramid):
        if enlarged == "always" or number and enlarged == "between":
            source = picture if carried else start
            size = tuple(2 * side for side in picture.shape[1:])
            picture = pyramids.upsample(source, size=size) if smooth else F.interpolate(source[None], size=size)[0]
        level = exemplar if one_exemplar else level
        grid = {"patch_size": patch_size, "stride": 1 if all_patches else stride, "cover": cover}
        size = {"height": picture.shape[1], "width": picture.shape[2]}
        thinned = grid | {"cover": cover and strided_exemplar != "not covered"}
        keys = patches.extract_patches(level, **(thinned if strided_exemplar else {"patch_size": patch_size}))
        looked_at = patches.extract_patches(level[:1], patch_size=patch_size) if first_channel else keys
        nearest = None
        for _ in range(iterations if only is None or only % levels == number else 0):
            seen = patches.extract_patches(picture, **grid)
            if nearest is None or not matched_once:
                queries = patches.extract_patches(picture[:1], **grid) if first_channel else seen
                cost = _squares(queries, looked_at)
                nearest = cost.argmax(1) if farthest else cost.argmin(1)
            matches = keys[nearest]
            before = (seen - matches).square().sum(1)
            picture = patches.aggregate_patches(seen if own_patches else matches, **size, **grid)
            seen = patches.extract_patches(picture, **grid)
            after = (seen - matches).square().sum(1)
            again = _squares(seen, keys).min(1).values
            energies.append(float(of({"before": before, "after": after, "matched again": again}[when])))
    if enlarged_last:
        picture = pyramids.upsample(picture, ratio=2)
    return picture, shape(energies, iterations)


def _one_round(*arguments) -> tuple[Tensor, list]:
    return _optimized(*arguments[:-1], 1)


def _per_value(exemplar: Tensor, start: Tensor, patch_size: int, *rest) -> tuple[Tensor, list]:
    return _optimized(exemplar, start, patch_size, *rest, of=lambda d: d.mean() / (len(exemplar) * patch_size ** 2))


def _energies_listed(value: Any) -> Any:
    """Energies in a tensor or an array of one axis are as good as a list of them."""
    if not isinstance(value, (tuple, list)):
        return value
    return tuple(v.tolist() if isinstance(v, (Tensor, np.ndarray)) and v.ndim == 1 else v for v in value)


@reads(_energies_listed)
@exercise(points=3, minutes=40, reference=_optimized, withholds=("labkit.texture_optimization.optimize_texture",), mistakes={
    "one_round_only": Mistake("there is one round of matching and aggregation at each scale; there are `iterations` of them",
                              _one_round, 3),
    "matched_once": Mistake("the matches are found once for each scale; in every round the picture has changed, and so have "
                            "its nearest patches", _with(_optimized, matched_once=True), 3),
    "strided_exemplar": Mistake("the stride was given to the exemplar's patches as well: only the picture's patches are "
                                "thinned out, each of them looks at *all* patches of the exemplar",
                                _with(_optimized, strided_exemplar=True), 1),
    "strided_exemplar_not_covered": Mistake("the stride was given to the exemplar's patches as well, without `cover`: each "
                                            "patch looks at *all* patches of the exemplar, its last ones included",
                                            _with(_optimized, strided_exemplar="not covered"), 1),
    "stride_ignored": Mistake("all patches of the picture are matched; only those of the grid with that stride are",
                              _with(_optimized, all_patches=True), 1),
    "not_covered": Mistake("the last rows or columns of the picture belong to no patch, as the stride does not divide the "
                           "picture: `cover=True` adds a row and a column of patches there, for extracting and for "
                           "aggregating", _with(_optimized, cover=False), 1),
    "finest_first": Mistake("the scales are visited from fine to coarse: the last of the pyramid's pictures is the coarsest, "
                            "and it comes first", _with(_optimized, finest_first=True), 3),
    "finest_exemplar_everywhere": Mistake("every scale looks into the exemplar at full size; at a coarse scale the picture "
                                          "is made of patches of the exemplar at that scale",
                                          _with(_optimized, one_exemplar=True), 3),
    "pyramid_without_blur": Mistake("the exemplar is made smaller by leaving out pixels, without a blur: "
                                    "`labkit.pyramids.gaussian_pyramid` does both", _with(_optimized, blur=False), 3),
    "not_carried_over": Mistake("every scale begins with the start, enlarged; it begins with the result of the coarser scale",
                                _with(_optimized, carried=False), 3),
    "pixels_repeated": Mistake("the picture is enlarged by repeating its pixels; `labkit.pyramids.upsample` interpolates",
                               _with(_optimized, smooth=False), 3),
    "enlarged_at_the_end": Mistake("the picture is enlarged after the finest scale as well, once too often",
                                   _with(_optimized, enlarged_last=True), 3),
    "enlarged_at_every_beginning": Mistake("the picture is enlarged at the beginning of every scale, the coarsest included; "
                                           "`start` has the size of the coarsest one already",
                                           _with(_optimized, enlarged="always"), 3),
    "never_enlarged": Mistake("the picture is never enlarged: between two scales its sides are doubled",
                              _with(_optimized, enlarged="never"), 3),
    "finest_scale_only": Mistake("matching and aggregation happen at the finest scale only: the loop over the iterations "
                                 "stands after the loop over the scales, it belongs inside",
                                 _with(_optimized, only=-1), 3),
    "coarsest_scale_only": Mistake("matching and aggregation happen at the coarsest scale only; every scale has its "
                                   "`iterations`", _with(_optimized, only=0), 3),
    "farthest": Mistake("every patch takes the *farthest* patch of the exemplar", _with(_optimized, farthest=True), 1),
    "own_patches_averaged": Mistake("the picture's own patches are averaged instead of their matches, so that nothing changes",
                                    _with(_optimized, own_patches=True), 2),
    "first_channel_only": Mistake("patches are compared in the first channel only", _with(_optimized, first_channel=True), 1),
    "energy_before": Mistake("the energy is that of the old picture, before the aggregation; it is that of the new picture "
                             "and the same matches", _with(_optimized, when="before"), 2),
    "energy_matched_again": Mistake("the energy is computed with new matches; it is that of the new picture and the matches "
                                    "from which it was made", _with(_optimized, when="matched again"), 2),
    "energy_summed": Mistake("the energy is the sum over the patches; it is their mean", _with(_optimized, of=torch.sum), 2),
    "energy_per_value": Mistake("the energy is a mean over patches *and* values; sum the squares of a patch, then take the "
                                "mean over the patches", _per_value, 2),
    "energy_of_roots": Mistake("the energy is the mean of distances; it is the mean of *squared* distances",
                               _with(_optimized, of=lambda d: d.sqrt().mean()), 2),
    "energies_nested": Mistake("the energies come as one list for each scale; here it is one list, coarse to fine",
                               _with(_optimized, shape=lambda found, iterations: [
                                   found[i:i + iterations] for i in range(0, len(found), iterations)]), 3),
    "energies_of_last_scale": Mistake("the list of energies begins anew at every scale; it holds those of all scales",
                                      _with(_optimized, shape=lambda found, iterations: found[-iterations:]), 3),
    "one_energy_for_each_scale": Mistake("there is one energy for each scale, the last; there is one after *each* aggregation",
                                         _with(_optimized, shape=lambda found, iterations: found[iterations - 1::iterations]),
                                         3),
    "energies_reversed": Mistake("the energies are in reverse order; they begin with the coarsest scale's first",
                                 _with(_optimized, shape=lambda found, iterations: found[::-1]), 3),
    "order_of_results": Mistake("energies and picture are returned in the other order",
                                lambda *a: _optimized(*a)[::-1], 3),
})
def optimize_texture(task: Task) -> None:
    # torch.tensor makes float32 of a list of energies: hence the tolerance
    with task.property("matches and aggregates once, in grey", share=0.3):
        task.compare(_picture(task, 9, 12, 1), task.uniform(1, 7, 9).double(), 3, 2, 1, 1, tolerance=1e-6)
    with task.property("repeats both, in colour, and the energy never rises", share=0.3):
        task.compare(_picture(task, 12, 10), task.uniform(3, 10, 12).double(), 4, 2, 1, 4, tolerance=1e-6)
    with task.property("goes from coarse to fine", share=0.3):
        task.compare(_picture(task, 16, 12), task.uniform(3, 5, 7).double(), 3, 2, 2, 3, tolerance=1e-6)
        task.compare(_picture(task, 16, 20, 1), task.uniform(1, 4, 6).double(), 2, 1, 3, 2, tolerance=1e-6)
    with task.property("covers the picture when the stride does not divide it", share=0.1):
        task.compare(_picture(task, 11, 9), task.uniform(3, 9, 8).double(), 3, 3, 1, 2, tolerance=1e-6)
        task.compare(_picture(task, 10, 12), task.uniform(3, 5, 6).double(), 3, 2, 2, 2, tolerance=1e-6)


# --- 6 · Every patch of the exemplar is used ------------------------------------------------------------------------

def _distances(first: Tensor, second: Tensor) -> Tensor:
    return _squares(first, second).sqrt()


def _absolute(first: Tensor, second: Tensor) -> Tensor:
    return (first[:, None] - second[None]).abs().sum(-1)


def _assigned(queries: Tensor, candidates: Tensor, *, cost: Callable[[Tensor, Tensor], Tensor] = _squares,
              copies: Callable[[int, int], int] = lambda n, m: -(-n // m), interleaved: bool = False, modulo: bool = True,
              largest: bool = False, dtype: torch.dtype = torch.int64) -> Tensor:
    """The assignment of least cost; the options are where answers differ."""
    from scipy.optimize import linear_sum_assignment

    table, times = cost(queries, candidates), max(1, copies(len(queries), len(candidates)))
    table = table.repeat_interleave(times, 1) if interleaved else table.repeat(1, times)
    rows, columns = map(torch.from_numpy, linear_sum_assignment(table.numpy(), maximize=largest))
    chosen = torch.zeros(len(queries), dtype=torch.int64)
    chosen[rows] = columns % len(candidates) if modulo else columns
    return chosen.to(dtype)


def _nearest(queries: Tensor, candidates: Tensor) -> Tensor:
    return _squares(queries, candidates).argmin(1)


def _greedy(queries: Tensor, candidates: Tensor) -> Tensor:
    """Each patch in turn takes the nearest one that is left."""
    copies, chosen = -(-len(queries) // len(candidates)), []
    left = torch.full((len(candidates),), copies)
    for row in _squares(queries, candidates):
        chosen.append(int(row.masked_fill(left == 0, math.inf).argmin()))
        left[chosen[-1]] -= 1
    return torch.tensor(chosen)


def _cheapest_pairs_first(queries: Tensor, candidates: Tensor) -> Tensor:
    """The nearest pair of all is matched first, then the nearest of what is left."""
    left = torch.full((len(candidates),), -(-len(queries) // len(candidates)))
    cost, chosen = _squares(queries, candidates), torch.zeros(len(queries), dtype=torch.int64)
    for _ in range(len(queries)):
        i, j = divmod(int(cost.argmin()), len(candidates))
        chosen[i], cost[i], left[j] = j, math.inf, left[j] - 1
        if not left[j]:
            cost[:, j] = math.inf
    return chosen


def _transposed(queries: Tensor, candidates: Tensor) -> Tensor:
    return _assigned(candidates, queries)


def _only_assigned(queries: Tensor, candidates: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(_squares(queries, candidates).numpy())[1])


def _from_table(table: Tensor, number: int, *, part: int = 1) -> Tensor:
    """What linear_sum_assignment makes of a table as it is: its columns (or rows), modulo the number of candidates."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(table.numpy())[part]) % number


def _missing_copies(queries: Tensor, candidates: Tensor) -> Tensor:
    return _from_table(_squares(queries, candidates).repeat(1, len(queries) // len(candidates)), len(candidates))


def _copies(queries: Tensor, candidates: Tensor) -> tuple[Tensor, int]:
    return _squares(queries, candidates), -(-len(queries) // len(candidates))


def _rows_returned(queries: Tensor, candidates: Tensor) -> Tensor:
    table, times = _copies(queries, candidates)
    return _from_table(table.repeat(1, times), len(candidates), part=0)


def _table_turned(queries: Tensor, candidates: Tensor) -> Tensor:
    table, times = _copies(queries, candidates)
    return _from_table(table.T.repeat(1, times), len(candidates))


def _copies_turned(queries: Tensor, candidates: Tensor) -> Tensor:
    table, times = _copies(queries, candidates)
    return _from_table(table.repeat(1, times).T, len(candidates))


def _copies_in_rows(queries: Tensor, candidates: Tensor) -> Tensor:
    table, times = _copies(queries, candidates)
    return _from_table(table.repeat(times, 1), len(candidates))


@exercise(points=2, minutes=25, reference=_assigned, mistakes={
    "nearest": Mistake("every patch takes its nearest candidate, and nothing keeps two from taking the same", _nearest, 1),
    "greedy": Mistake("each patch in turn takes the nearest candidate that is left; the last ones must take what nobody "
                      "wanted, and the *sum* is not the smallest", _greedy, 1),
    "cheapest_pairs_first": Mistake("the nearest pair of all is matched first, then the nearest of the rest; that is not the "
                                    "smallest *sum*", _cheapest_pairs_first, 1),
    "root_taken": Mistake("the sum of distances is minimised; it is the sum of *squared* distances",
                          _with(_assigned, cost=_distances), 1),
    "absolute": Mistake("absolute differences are summed instead of squared ones",
                        _with(_assigned, cost=_absolute), 1),
    "transposed": Mistake("the result says which patch each candidate goes to; it has one entry for each patch, the candidate "
                          "that it takes", _transposed, 2),
    "no_copies": Mistake("there are more patches than candidates, and the patches that are left over get candidate 0; every "
                         "candidate has ⌈N/M⌉ places", _with(_assigned, copies=lambda n, m: 1), 3),
    "left_over": Mistake("there are more patches than candidates, and those that are left over are missing in the result; "
                         "every candidate has ⌈N/M⌉ places", _only_assigned, 3),
    "too_few_copies": Mistake("there are ⌊N/M⌋ copies of the candidates, none at all where N < M, and patches are missing in "
                              "the result; there are ⌈N/M⌉, rounded up", _missing_copies, 3),
    "rows_returned": Mistake("the numbers of the rows are returned, which are just 0, 1, 2, …; the candidates are the columns",
                             _rows_returned, 2),
    "table_turned": Mistake("candidates stand in the rows of the table and patches in its columns: exchange the two",
                            _table_turned, 1),
    "copies_turned": Mistake("the table with the copies is transposed: a row for each patch, a column for each place",
                             _copies_turned, 1),
    "copies_in_rows": Mistake("the rows are repeated, that is the patches; repeat the columns, which are the candidates",
                              _copies_in_rows, 3),
    "one_copy_too_many": Mistake("every candidate has ⌊N/M⌋ + 1 places; it has ⌈N/M⌉, so that each is used exactly once when "
                                 "there are as many candidates as patches",
                                 _with(_assigned, copies=lambda n, m: n // m + (n >= m)), 3),
    "one_copy_too_few": Mistake("every candidate has ⌊N/M⌋ places, and some patches get none; it has ⌈N/M⌉, rounded up",
                                _with(_assigned, copies=lambda n, m: n // m), 3),
    "number_of_the_copy": Mistake("the numbers count the copies of the candidates; the candidate is the number modulo M",
                                  _with(_assigned, modulo=False), 3),
    "copies_side_by_side": Mistake("the copies of a candidate stand side by side (`repeat_interleave`), but the number is "
                                   "taken modulo M, which is right for whole copies of the table (`repeat`)",
                                   _with(_assigned, interleaved=True), 3),
    "farthest": Mistake("the assignment of the *largest* cost is taken", _with(_assigned, largest=True), 2),
    "int32": Mistake("the result is int32; here it is int64, as torch's indices are", _with(_assigned, dtype=torch.int32), 2),
})
def assign_patches(task: Task) -> None:
    wrong = (_nearest, _greedy, _cheapest_pairs_first, *(_with(_assigned, cost=cost) for cost in (_distances, _absolute)))

    def case(number: int, others: int) -> tuple[Tensor, Tensor]:
        """Patches for which answers that minimise something else all end elsewhere."""
        while True:
            queries, candidates = (task.uniform(n, 4).double() for n in (number, others))
            right = _assigned(queries, candidates)
            if not any(torch.equal(right, answer(queries, candidates)) for answer in wrong):
                return queries, candidates

    with task.property("uses every candidate once when there are as many as patches", share=0.4):
        for number in (9, 14):
            task.compare(*case(number, number))
    with task.property("uses no candidate twice when there are more than patches", share=0.2):
        task.compare(*case(8, 13))
    with task.property("uses none more than ⌈N/M⌉ times when there are fewer", share=0.4):
        task.compare(*case(12, 6))
        task.compare(*case(15, 6))
    with task.property("takes patches that are there already"):
        candidates, order = task.uniform(9, 4).double(), torch.randperm(9, generator=task.generator)
        task.compare(candidates[order], candidates, expected=order)


# --- 7 · Fidelity and border ----------------------------------------------------------------------------------------

def _blended(mean: Tensor, target: Tensor, total: Tensor, count: Tensor, alpha: float) -> Tensor:
    """The minimiser: weights of the votes against α for each patch that holds the pixel."""
    return (total * mean + alpha * count * target) / (total + alpha * count)


def _towards(matches: Tensor, positions: Tensor, weights: Tensor, target: Tensor, alpha: float, border: int, *,
             blend: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor] = _blended, frame: str = "whole",
             wider: int = 0, last: bool = False, weigh: Callable[[Tensor], Tensor] = lambda w: w) -> Tensor:
    """Aggregation that keeps near a target; the options are where answers differ."""
    n = matches.shape[-1]
    total, count, votes = (torch.zeros_like(target[:1]) for _ in range(3))
    mean = torch.zeros_like(target)
    for match, (i, j), weight in zip(matches, positions.tolist(), weigh(weights)):
        here = (slice(None), slice(i, i + n), slice(j, j + n))
        if last:
            mean[here] = total[here] = count[here] = 0
        mean[here] += weight * match
        total[here] += weight
        count[here] += 1
    picture = blend(mean / total, target, total, count, alpha)
    border += wider if border else 0
    framed = torch.zeros_like(target[0], dtype=torch.bool)
    height, width = framed.shape
    if frame == "whole":
        framed[:] = True
        framed[border:height - border, border:width - border] = False
    elif frame == "minus zero":
        framed[:border] = framed[:, :border] = framed[-border:] = framed[:, -border:] = True
    elif frame == "top and left":
        framed[:border] = framed[:, :border] = True
    elif frame == "top and bottom":
        framed[:border] = framed[height - border:] = True
    elif frame == "inside":
        framed[border:height - border, border:width - border] = True
    return torch.where(framed, target, picture)


def _unframed(matches: Tensor, positions: Tensor, weights: Tensor, target: Tensor, alpha: float, border: int) -> Tensor:
    return _towards(matches, positions, weights, target, alpha, 0)


def _black_frame(matches: Tensor, positions: Tensor, weights: Tensor, target: Tensor, alpha: float, border: int) -> Tensor:
    picture = torch.zeros_like(target)
    inner = (slice(None), slice(border, target.shape[1] - border), slice(border, target.shape[2] - border))
    picture[inner] = _towards(matches, positions, weights, target, alpha, 0)[inner]
    return picture


def _into_the_target(matches: Tensor, positions: Tensor, weights: Tensor, target: Tensor, *rest) -> Tensor:
    return target.copy_(_towards(matches, positions, weights, target, *rest))


def _rows_for_columns(matches: Tensor, positions: Tensor, *rest) -> Tensor:
    return _towards(matches, positions.flip(1), *rest)


@exercise(points=2, minutes=25, reference=_towards, mistakes={
    "alpha_ignored": Mistake("the target has no influence: the result is the weighted mean of the matches",
                             _with(_towards, blend=lambda mean, t, total, count, a: mean), 1),
    "not_normalised": Mistake("α times the target is added without dividing by what was added up",
                              _with(_towards, blend=lambda mean, t, total, count, a: mean + a * t), 2),
    "convex": Mistake("the blend is (1 − α) u + α target, which is another parameter: for α = 1 nothing would be left of the "
                      "matches", _with(_towards, blend=lambda mean, t, total, count, a: (1 - a) * mean + a * t), 2),
    "roles_exchanged": Mistake("α belongs to the target, not to the matches",
                               _with(_towards, blend=lambda mean, t, total, count, a: _blended(t, mean, count, total, a)), 1),
    "weights_forgotten_in_blend": Mistake("the weighted mean is blended as (u + α target) / (1 + α), as if all weights were 1: "
                                          "where the weights are small, the target should win",
                                          _with(_towards, blend=lambda mean, t, total, count, a: (mean + a * t) / (1 + a)), 2),
    "weights_ignored": Mistake("the weights are ignored: every patch counts alike",
                               _with(_towards, weigh=torch.ones_like), 1),
    "weights_normalised": Mistake("the weights are divided by their sum first; then α is far stronger than they are",
                                  _with(_towards, weigh=lambda w: w / w.sum()), 2),
    "weights_squared": Mistake("the weights are applied twice", _with(_towards, weigh=torch.square), 1),
    "target_counted_once": Mistake("the target counts once at each pixel; it counts once for each *patch* that holds the "
                                   "pixel, as the energy says",
                                   _with(_towards, blend=lambda mean, t, total, count, a: (
                                       total * mean + a * t) / (total + a)), 2),
    "target_weighted_too": Mistake("the target's share is multiplied by the weights as well, so that they cancel; α stands "
                                   "without them", _with(_towards, blend=lambda mean, t, total, count, a: (
                                       total * mean + a * total * t) / (total + a * count)), 2),
    "divided_by_the_number": Mistake("the votes are divided by how many there are; divide by the sum of the weights",
                                     _with(_towards, blend=lambda mean, t, total, count, a: (
                                         total * mean + a * count * t) / (count + a * count)), 2),
    "denominator_without_alpha": Mistake("α k is missing in the denominator: what is added above must be counted below",
                                         _with(_towards, blend=lambda mean, t, total, count, a: (
                                             total * mean + a * count * t) / total), 2),
    "last_patch_wins": Mistake("each patch is written over those before it; votes, weights and counts are added up, `+=`",
                               _with(_towards, last=True), 1),
    "coordinates_swapped": Mistake(_EXCHANGED, _rows_for_columns, 1),
    "writes_into_input": Mistake("the result is written into the target that was given: work on `target.clone()`",
                                 _into_the_target, 3),
    "no_frame": Mistake("the frame is not copied from the target", _unframed, 3),
    "frame_of_zero_copies_all": Mistake("with a border of 0 the whole target is copied: to Python `-0` is 0, and `[-0:]` is "
                                        "everything", _with(_towards, frame="minus zero"), 3),
    "frame_top_and_left": Mistake("the frame is copied at the top and on the left only",
                                  _with(_towards, frame="top and left"), 3),
    "frame_top_and_bottom": Mistake("the frame is copied at the top and at the bottom only",
                                    _with(_towards, frame="top and bottom"), 3),
    "frame_inside_out": Mistake("the target is copied to the inside instead of the frame", _with(_towards, frame="inside"), 3),
    "frame_black": Mistake("the frame is 0; it is the target's", _black_frame, 3),
    "frame_too_wide": Mistake("the frame is one pixel too wide", _with(_towards, wider=1), 3),
    "frame_too_narrow": Mistake("the frame is one pixel too narrow", _with(_towards, wider=-1), 3),
})
def aggregate_towards(task: Task) -> None:
    def case(height: int, width: int, n: int, stride: int, alpha: float, border: int, *, channels: int = 3,
             even: bool = False) -> tuple:
        positions = patches.patch_positions(height, width, patch_size=n, stride=stride, cover=True)
        matches = task.uniform(len(positions), channels, n, n).double()
        weights = torch.ones(len(positions)).double() if even else 0.1 + 3 * task.uniform(len(positions)).double() ** 2
        return matches, positions, weights, _picture(task, height, width, channels), alpha, border

    with task.property("blends the mean and the target, where all weights are 1", share=0.3):
        task.compare(*case(8, 9, 3, 2, 0.5, 0, even=True), tolerance=1e-9)
        task.compare(*case(7, 8, 3, 1, 2.0, 0, channels=1, even=True), tolerance=1e-9)
    with task.property("blends by the weights", share=0.4):
        task.compare(*case(9, 8, 4, 2, 0.7, 0), tolerance=1e-9)
        task.compare(*case(8, 10, 3, 1, 3.0, 0, channels=1), tolerance=1e-9)
    with task.property("copies a frame of the target's", share=0.3):
        task.compare(*case(9, 11, 3, 2, 0.4, 2), tolerance=1e-9)
        task.compare(*case(10, 8, 4, 3, 1.5, 3, channels=1), tolerance=1e-9)
    with task.property("is the weighted mean when α is 0"):
        # square, so that who exchanges rows and columns gets a picture
        task.compare(*case(9, 9, 3, 2, 0.0, 0), tolerance=1e-9)


# --- 8 · Weighted reconstruction ------------------------------------------------------------------------------------

def _scale(distance: Tensor, *, share: float = 0.75, least: float | None = 1.0) -> Tensor:
    quartile = torch.quantile(distance, share)
    return quartile if least is None else quartile.clamp(min=least)


def _bell(distance: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-distance / (2 * sigma ** 2))


def _weighted(nnf: Tensor, distance: Tensor, exemplar: Tensor, patch_size: int, *,
              scale: Callable[[Tensor], Tensor] = _scale, weigh: Callable[[Tensor, Tensor], Tensor] = _bell,
              least: float = 1e-30, divide: str = "weights", inside: int = 1) -> Tensor:
    """Votes with weights; the options are where answers differ."""
    weight = weigh(distance, scale(distance)).clamp(min=least)
    rows, columns = distance.shape
    votes = exemplar.new_zeros(len(exemplar), rows + patch_size - 1, columns + patch_size - 1)
    total, count = torch.zeros_like(votes[:1]), torch.zeros_like(votes[:1])
    for a in range(patch_size):
        for b in range(patch_size):
            here = (slice(None), slice(a, a + rows), slice(b, b + columns))
            votes[here] += weight * exemplar[:, nnf[0].long() + inside * a, nnf[1].long() + inside * b]
            total[here] += weight
            count[here] += 1
    return {"weights": votes / total, "number": votes / count, "nothing": votes, "sum of all": votes / weight.sum()}[divide]


def _transposed_field(nnf: Tensor, distance: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    return _weighted(nnf.flip(0), distance, exemplar, patch_size)


def _winner(nnf: Tensor, distance: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    """Each pixel as its best patch has it."""
    return _weighted(nnf, distance, exemplar, patch_size, scale=lambda d: d, least=0.0,
                     weigh=lambda d, s: torch.exp(-200 * (d - d.min())))


@exercise(points=2, minutes=25, reference=_weighted, withholds=_PSIN, mistakes={
    "as_printed": Mistake("the weights are not divided out, as eq. III.4 is printed: where they add up to little, the picture "
                          "is dark", _with(_weighted, divide="nothing"), 3),
    "divided_by_the_number": Mistake("the votes are divided by their number; divide by the sum of the *weights* at the pixel",
                                     _with(_weighted, divide="number"), 3),
    "divided_by_all_weights": Mistake("the votes are divided by the sum of all weights in the picture; at each pixel it is "
                                      "the sum over the patches that hold it", _with(_weighted, divide="sum of all"), 3),
    "not_weighted": Mistake("all votes count alike", _with(_weighted, weigh=lambda d, s: torch.ones_like(d)), 2),
    "no_sigma": Mistake("the weight is exp(−d), without σ: for all but the best patches it is practically 0",
                        _with(_weighted, weigh=lambda d, s: torch.exp(-d)), 2),
    "sigma_not_squared": Mistake("the weight is exp(−d / 2σ), or σ is the root of the quartile; σ is the quartile itself, "
                                 "and σ² divides",
                                 _with(_weighted, weigh=lambda d, s: torch.exp(-d / (2 * s))), 2),
    "factor_two_missing": Mistake("the weight is exp(−d / σ²); the factor 2 is missing",
                                  _with(_weighted, weigh=lambda d, s: torch.exp(-d / s ** 2)), 2),
    "distance_squared_again": Mistake("the weight is exp(−d² / 2σ²); the distances are squared already",
                                      _with(_weighted, weigh=lambda d, s: torch.exp(-d ** 2 / (2 * s ** 2))), 2),
    "sign": Mistake("the sign of the exponent is missing: the worst patches weigh most",
                    _with(_weighted, weigh=lambda d, s: torch.exp(d / (2 * s ** 2))), 2),
    "divided_then_multiplied": Mistake("`d / 2 * σ ** 2` multiplies by σ²: the denominator needs brackets",
                                       _with(_weighted, weigh=lambda d, s: torch.exp(-d / 2 * s ** 2)), 2),
    "root_taken": Mistake("a square root is taken of the distances; the weight is exp(−d / 2σ²) with d as it is given",
                          _with(_weighted, weigh=lambda d, s: torch.exp(-d.sqrt() / (2 * s ** 2))), 2),
    "root_and_sigma_not_squared": Mistake("the weight is exp(−√d / 2σ); it is exp(−d / 2σ²) with d as it is given",
                                          _with(_weighted, weigh=lambda d, s: torch.exp(-d.sqrt() / (2 * s))), 2),
    "first_pixels_only": Mistake("every vote is the *first* pixel of the match; the pixel (i, j) of a patch takes the pixel "
                                 "(i, j) of its match: add i and j to the position", _with(_weighted, inside=0), 3),
    **{f"floor_{name}": Mistake("the floor of the weights is too high: patches that fit badly, but not equally badly, get the "
                                "same weight. Take no weight below 1e-30", _with(_weighted, least=floor), 3)
       for name, floor in (("1e_12", 1e-12), ("1e_10", 1e-10), ("1e_8", 1e-8), ("1e_6", 1e-6))},
    "inverse_distance": Mistake("the weight is one over the distance", _with(_weighted, weigh=lambda d, s: 1 / d), 2),
    "sigma_below_one": Mistake("σ may fall below 1 here; it is the larger of 1 and the upper quartile",
                               _with(_weighted, scale=_with(_scale, least=None)), 1),
    "sigma_above_one": Mistake("σ is the *smaller* of 1 and the upper quartile; it is the larger of them",
                               _with(_weighted, scale=lambda d: torch.quantile(d, 0.75).clamp(max=1)), 1),
    "sigma_one": Mistake("σ is 1 always; it is the upper quartile of the distances where that is larger",
                         _with(_weighted, scale=lambda d: torch.ones(())), 1),
    "median": Mistake("σ is the median of the distances; it is their upper quartile, the value that three in four stay below",
                      _with(_weighted, scale=_with(_scale, share=0.5)), 1),
    "lower_quartile": Mistake("σ is the lower quartile of the distances; it is the upper one, 0.75",
                              _with(_weighted, scale=_with(_scale, share=0.25)), 1),
    "mean": Mistake("σ is the mean of the distances; it is their upper quartile",
                    _with(_weighted, scale=lambda d: d.mean().clamp(min=1)), 1),
    "largest": Mistake("σ is the largest distance; it is the upper quartile",
                       _with(_weighted, scale=lambda d: d.max().clamp(min=1)), 1),
    "deviation": Mistake("σ is the standard deviation of the distances; it is their upper quartile",
                         _with(_weighted, scale=lambda d: d.std().clamp(min=1)), 1),
    "underflow": Mistake("where all patches of a pixel fit badly, their weights underflow to 0, and 0/0 is NaN: take no weight "
                         "below 1e-30", _with(_weighted, least=0.0), 3),
    "coordinates_swapped": Mistake(_EXCHANGED, _transposed_field, 3),
    "best_patch_only": Mistake("each pixel is taken from the best of its patches; it is a weighted mean of all",
                               _winner, 3),
})
def weighted_reconstruction(task: Task) -> None:
    def case(rows: int, columns: int, n: int, typical: float, *, channels: int = 3) -> tuple:
        side = rows + columns + n
        nnf = torch.stack([torch.randint(side - n, (rows, columns), generator=task.generator) for _ in (0, 1)]).int()
        distance = typical * (0.2 + task.uniform(rows, columns).double() + 2 * task.uniform(rows, columns).double() ** 4)
        return nnf, distance, _picture(task, side, side + 3, channels), n

    with task.property("weighs votes by how well their patches fit", share=0.5):
        task.compare(*case(6, 7, 3, 1.6), tolerance=1e-9)
        task.compare(*case(8, 5, 4, 2.5, channels=1), tolerance=1e-9)
    with task.property("takes 1 for σ where three patches in four are nearer", share=0.3, mistake="sigma_below_one"):
        task.compare(*case(7, 6, 3, 0.4), tolerance=1e-9)
    with task.property("divides by the weights: one colour stays that colour"):
        nnf, distance, exemplar, n = case(6, 6, 3, 2.0)
        task.compare(nnf, distance, torch.full_like(exemplar, 0.7), n, tolerance=1e-9)
    with task.property("weighs votes where all of a pixel's patches fit badly", mistake="floor_1e_8"):
        nnf, distance, exemplar, n = case(8, 8, 3, 1.5)
        # few of them, so that the quartile is below; their weights go from exp(-15) down to exp(-60)
        exponents = torch.linspace(15, 60, 9, dtype=torch.float64)[torch.randperm(9, generator=task.generator)]
        distance[:3, :3] = math.inf
        distance[:3, :3] = 2 * _scale(distance) ** 2 * exponents.reshape(3, 3)
        task.compare(nnf, distance, exemplar, n, tolerance=1e-9)
    with task.property("gives a finite value to a pixel whose patches all fit badly", share=0.2, mistake="underflow"):
        nnf, distance, exemplar, n = case(7, 8, 3, 1.5)
        distance[:2, :2] = 1e5 * (1 + task.uniform(2, 2).double())
        task.compare(nnf, distance, exemplar, n, tolerance=1e-9)


# --- 9 · From scale to scale ----------------------------------------------------------------------------------------

def _upsampled(nnf: Tensor, image_size: tuple[int, int], exemplar_size: tuple[int, int], patch_size: int, *,
               factor: int = 2, rest: int = 1, nearest: str = "below", limits: str = "patch", shift: bool = False, turned: bool = False,
               dtype: torch.dtype = torch.int32, unpatched: bool = False, swapped: bool = False) -> Tensor:
    """Positions of a coarse field for a field of twice the size; the options are where answers differ."""
    sizes = [side - (0 if unpatched else patch_size - 1) for side in image_size]
    if unpatched and nearest == "cut":
        sizes = [2 * side for side in nnf.shape[1:]]
    kept, moved = [], []
    for axis in (0, 1):
        p = torch.arange(sizes[axis])
        number = nnf.shape[1 + axis]
        if nearest == "stretched":
            star = p * number // sizes[axis]
        elif nearest == "middles":
            star = torch.floor((p - patch_size / 2) / 2 + 0.5).long().clamp(0, number - 1)
        else:
            star = (p + 1) // 2 if nearest == "above" else p // 2
            star = star if nearest == "unlimited" else star.clamp(max=number - 1)
        kept.append(star)
        moved.append(p % 2 if nearest == "parity" else rest * (p - 2 * star))
    moved = moved[::-1] if turned else moved
    field = nnf.flip(0) if swapped else nnf
    found = field[:, kept[0][:, None], kept[1]].long()
    out = torch.stack([factor * found[0] + moved[0][:, None], factor * found[1] + moved[1]])
    if shift:
        out = out + torch.stack(torch.meshgrid(*(2 * star for star in kept), indexing="ij"))
    for axis in (0, 1):
        last = {"patch": exemplar_size[axis] - patch_size, "image": image_size[axis] - patch_size,
                "exchanged": exemplar_size[1 - axis] - patch_size}.get(limits)
        if last is not None:
            out[axis] = out[axis].clamp(0, last)
    return out.to(dtype)


@exercise(points=2, minutes=20, reference=_upsampled, withholds=("labkit.patchmatch.upsample_nnf", *_PSIN), mistakes={
    "not_doubled": Mistake("the coarse match is taken as it is; at twice the size it lies at twice the row and column",
                           _with(_upsampled, factor=1), 1),
    "all_alike": Mistake("the patches that share a p* get the same match: p − 2p* is missing, which puts them side by side",
                         _with(_upsampled, rest=0), 1),
    "sign": Mistake("p − 2p* is subtracted instead of added", _with(_upsampled, rest=-1), 1),
    "shift_doubled": Mistake("the field is taken for shifts, and the position is added; it holds absolute positions",
                             _with(_upsampled, shift=True), 1),
    "rounded_up": Mistake("of two coarse patches that are equally near, the later one is taken; here it is the earlier one, "
                          "p* = p // 2", _with(_upsampled, nearest="above"), 2),
    "beyond_the_coarse_field": Mistake("p // 2 runs beyond the last row or column of the coarse field; the last patches take the "
                                       "last p*", _with(_upsampled, nearest="unlimited"), 2),
    "rest_modulo_two": Mistake("p % 2 is added for p − 2p*; the last patches, which lie beyond the coarse field, are further "
                               "from their 2p* than that", _with(_upsampled, nearest="parity"), 2),
    "stretched": Mistake("the coarse field is stretched to the fine one's size; p* is p // 2, whatever the sizes, and the last "
                         "patches take the last p*", _with(_upsampled, nearest="stretched"), 2),
    "not_clamped": Mistake("some matches stick out of the exemplar: a whole patch must fit, so the last row is H̃ − n",
                           _with(_upsampled, limits="none"), 3),
    "clamped_to_the_image": Mistake("matches are clamped to the image; they lie in the exemplar",
                                    _with(_upsampled, limits="image"), 3),
    "offsets_doubled": Mistake("p − 2p* is doubled as well; only the match is", _with(_upsampled, rest=2), 1),
    "offsets_exchanged": Mistake("rows are moved by the columns' p − 2p* and columns by the rows'",
                                 _with(_upsampled, turned=True), 1),
    "limits_exchanged": Mistake("height and width of the exemplar are exchanged where matches are clamped",
                                _with(_upsampled, limits="exchanged"), 3),
    "middles": Mistake("p* is the coarse patch whose *middle* is nearest; here first pixels are compared, p* = p // 2",
                       _with(_upsampled, nearest="middles"), 2),
    "stretched_alike": Mistake("the coarse field is stretched like a picture (`F.interpolate`) and doubled; p* is p // 2, and "
                               "p − 2p* is added", _with(_upsampled, nearest="stretched", rest=0), 1),
    "doubled_and_repeated": Mistake("every match is doubled and repeated for 2×2 patches (`repeat_interleave`): p − 2p* is "
                                    "missing, and so are the patches beyond the coarse field",
                                    _with(_upsampled, rest=0, unpatched=True, nearest="cut"), 1),
    "twice_the_field": Mistake("the result is twice as large as the coarse field; it has a match for each patch of the fine "
                               "image, H − n + 1 rows of them", _with(_upsampled, unpatched=True, nearest="cut"), 2),
    "one_for_each_pixel": Mistake("the result has a match for each pixel of the image; it has one for each patch, H − n + 1 "
                                  "rows of them", _with(_upsampled, unpatched=True), 2),
    "coordinates_swapped": Mistake(_EXCHANGED, _with(_upsampled, swapped=True), 1),
    "int64": Mistake("the field is int64; a field of matches is int32: `.to(torch.int32)`",
                     _with(_upsampled, dtype=torch.int64), 3),
    "floating_point": Mistake("the field holds floating-point numbers; positions are whole numbers: `.to(torch.int32)`",
                              _with(_upsampled, dtype=torch.float32), 3),
})
def upsample_field(task: Task) -> None:
    def case(image: tuple[int, int], exemplar: tuple[int, int], n: int, margin: int) -> tuple:
        """A coarse field whose matches keep off the border of the coarse exemplar by `margin`."""
        rows, columns = ((side + 1) // 2 - n + 1 for side in image)
        last = [(side + 1) // 2 - n for side in exemplar]
        nnf = torch.stack([torch.randint(margin, end - margin + 1, (rows, columns), generator=task.generator) for end in last])
        nnf[0, -1], nnf[1, :, -1] = last[0] - margin, last[1] - margin
        return nnf.int(), image, exemplar, n

    with task.property("doubles positions and keeps neighbours side by side", share=0.5):
        task.compare(*case((12, 16), (40, 36), 3, 2))
        task.compare(*case((18, 13), (37, 44), 4, 3))
    with task.property("uses the last coarse patches for what lies beyond them", share=0.2):
        # as many rows as columns, so that offsets can be added the wrong way round
        task.compare(*case((20, 20), (60, 50), 7, 4))
    with task.property("keeps every match inside the exemplar", share=0.3):
        task.compare(*case((16, 18), (15, 13), 3, 0))
        task.compare(*case((14, 15), (17, 22), 4, 0))


# --- 10 · One step of the semi-dual ---------------------------------------------------------------------------------

def _ascended(cost: Tensor, beta: Tensor, step: float, *, reduced: Callable[[Tensor, Tensor], Tensor] = lambda c, b: c - b,
              means: tuple[float, float] | None = None, ascent: float = 1.0, value_at: str = "before",
              share_of: str = "queries", rest_of: str = "targets", value_of: str = "reduced", first_term: bool = False, second_term: bool = False,
              chosen_by_cost: bool = False, minlength: bool = True,
              sums: str | None = None) -> tuple[Tensor, float]:
    """A gradient step; the options are where answers differ."""
    n, m = cost.shape
    smallest, chosen = reduced(cost, beta).min(1)
    chosen = cost.argmin(1) if chosen_by_cost else chosen
    count = torch.bincount(chosen, minlength=m if minlength else 0).to(cost)
    left, right = means or (1 / n, 1 / m)
    if sums == "gradient":
        return beta + step * (1 - count), float(smallest.mean() + beta.mean())
    if sums == "value":
        left, right = 1.0, 1.0
    elif sums == "value of beta":
        right = 1.0
    elif sums == "value of the minima":
        left = 1.0
    share, rest = (1 / n, 1 / m) if sums else (left, right)
    gradient = (0 if second_term else {"queries": 1 / n}.get(rest_of, rest)) - (
        0 if first_term else {"queries": share, "targets": 1 / m, "nothing": 1.0}[share_of] * count)
    new = beta + ascent * step * gradient
    at = new if value_at == "after" else beta
    smallest = reduced(cost, at).min(1).values
    if value_of == "least costs":
        smallest = cost.min(1).values
    elif value_of == "costs":
        smallest = cost[torch.arange(n), chosen]
    return new, float(left * smallest.sum() + (0 if value_at == "first term" else right * at.sum()))


def _over_queries(cost: Tensor, beta: Tensor, step: float) -> tuple[Tensor, float]:
    """The minimum over the wrong axis: each target looks for its nearest query."""
    reduced, (n, m) = cost - beta, cost.shape
    smallest, chosen = reduced.min(0)
    count = torch.bincount(chosen, minlength=m)[:m].to(cost)
    return beta + step * (1 / m - count / n), float(smallest.mean() + beta.mean())


def _dearest(cost: Tensor, beta: Tensor, step: float) -> tuple[Tensor, float]:
    largest, chosen = (cost - beta).max(1)
    share = torch.bincount(chosen, minlength=len(beta)).to(cost) / len(cost)
    return beta + step * (1 / len(beta) - share), float(largest.mean() + beta.mean())


def _softened(cost: Tensor, beta: Tensor, step: float) -> tuple[Tensor, float]:
    share = torch.softmax(beta - cost, 1).mean(0)
    return beta + step * (1 / len(beta) - share), float((cost - beta).min(1).values.mean() + beta.mean())


def _number_read(value: Any) -> Any:
    """A tensor without axes is a number."""
    if not isinstance(value, (tuple, list)):
        return value
    return tuple(v.item() if isinstance(v, Tensor) and v.ndim == 0 else v for v in value)


@reads(_number_read)
@exercise(points=2, minutes=20, reference=_ascended, withholds=("labkit.metrics.semi_dual_ascent",), mistakes={
    "as_printed": Mistake("the sums of eq. III.5 as printed are used; with unequal numbers of patches that function has no "
                          "maximum: take means on both sides",
                          _with(_ascended, means=(1.0, 1.0)), 1),
    "mean_on_one_side": Mistake("the second term is the sum of β; it is its mean",
                                lambda cost, beta, step: _ascended(cost, beta, step, means=(1 / len(cost), 1.0)), 1),
    "sum_over_patches": Mistake("the first term is a sum over the patches; it is their mean",
                                lambda cost, beta, step: _ascended(cost, beta, step, means=(1.0, 1 / len(beta))), 1),
    "descent": Mistake("β goes down the gradient; the semi-dual is maximised", _with(_ascended, ascent=-1.0), 3),
    "beta_added": Mistake("β is added to the cost; it is subtracted", _with(_ascended, reduced=lambda c, b: c + b), 1),
    "chosen_by_cost": Mistake("the shares count the patches that are nearest by the cost alone; they count those that "
                              "minimise c − β", _with(_ascended, chosen_by_cost=True), 2),
    "wrong_axis": Mistake("the minimum is taken over the patches of the picture; for each of them it runs over those of the "
                          "exemplar, `dim=1`", _over_queries, 1),
    "share_of_targets": Mistake("the counts are divided by m, the number of the exemplar's patches; they are shares of the n "
                                "patches of the picture", _with(_ascended, share_of="targets"), 2),
    "counts_only": Mistake("the 1/m of the second term is missing in the gradient", _with(_ascended, second_term=True), 2),
    "no_counts": Mistake("the first term's share of the gradient is missing: every β grows alike",
                         _with(_ascended, first_term=True), 2),
    "counts_not_divided": Mistake("the counts are not divided: they are shares, of the n patches of the picture",
                                  _with(_ascended, share_of="nothing"), 2),
    "rest_of_queries": Mistake("the gradient of the mean of β is 1/m, for the m patches of the exemplar; here it is 1/n",
                               _with(_ascended, rest_of="queries"), 2),
    "no_minlength": Mistake("patches of the exemplar that nobody takes are missing in the counts: give `bincount` its "
                            "`minlength`", _with(_ascended, minlength=False), 2),
    "beta_by_rows": Mistake("β is subtracted from the columns, `beta[:, None]`; it has an entry for each patch of the exemplar, "
                            "and is subtracted from each row", _with(_ascended, reduced=lambda c, b: c - b[:, None]), 1),
    "gradient_of_sums": Mistake("the gradient is that of the sums, 1 − count; it is that of the means, 1/m − count / n",
                                _with(_ascended, sums="gradient"), 2),
    "value_of_sums": Mistake("the value is made of sums; it is made of means, over the patches of either side",
                             _with(_ascended, sums="value"), 1),
    "value_with_sum_of_beta": Mistake("the value adds the sum of β; it adds its mean",
                                      _with(_ascended, sums="value of beta"), 1),
    "value_with_sum_of_minima": Mistake("the value adds up the minima; it takes their mean",
                                        _with(_ascended, sums="value of the minima"), 1),
    "value_of_least_costs": Mistake("in the value β is not subtracted: its first term is the mean of min(c − β)",
                                    _with(_ascended, value_of="least costs"), 1),
    "value_of_chosen_costs": Mistake("in the value β is not subtracted from the chosen costs: its first term is the mean of "
                                     "min(c − β)", _with(_ascended, value_of="costs"), 1),
    "value_after": Mistake("the value is that of the new β; it is the one before the step",
                           _with(_ascended, value_at="after"), 3),
    "value_without_beta": Mistake("the value lacks the mean of β", _with(_ascended, value_at="first term"), 1),
    "largest": Mistake("every patch takes the dearest; it takes the cheapest", _dearest, 1),
    "softened": Mistake("the minimum's gradient is a softmax here; it is 1 for the chosen patch and 0 for all others",
                        _softened, 2),
    "order_of_results": Mistake("value and β are returned in the other order", lambda *a: _ascended(*a)[::-1], 3),
    "step_ignored": Mistake("the step's length is ignored", lambda cost, beta, step: _ascended(cost, beta, 1.0), 3),
})
def semi_dual_step(task: Task) -> None:
    # counts divided by a number are float32 in torch, whatever the costs are: hence the tolerance
    def case(n: int, m: int, step: float, *, spread: float = 0.5) -> tuple:
        points = task.uniform(n, 4).double(), 0.3 + task.uniform(m, 4).double()
        return _squares(*points), spread * (task.uniform(m).double() - 0.3), step

    with task.property("ascends when both have as many patches", share=0.5):
        task.compare(*case(12, 12, 0.3), tolerance=1e-6)
        task.compare(*case(20, 20, 2.0, spread=0.0), tolerance=1e-6)
    with task.property("ascends when they have not", share=0.5):
        task.compare(*case(17, 9, 0.4), tolerance=1e-6)
        cost, beta, step = case(8, 21, 0.7)
        beta[-1] = -10.0    # nobody takes the last
        task.compare(cost, beta, step, tolerance=1e-6)
    with task.property("leaves β where every patch of the exemplar is chosen equally often"):
        m = 7
        cost = 1 - torch.eye(m, dtype=torch.float64).repeat(2, 1) + 0.1 * task.uniform(2 * m, m).double()
        task.compare(cost, 0.2 * task.uniform(m).double(), 0.5, tolerance=1e-6)
