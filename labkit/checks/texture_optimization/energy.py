"""The checks of an energy over all patches: votes, matching and aggregating in turn, and an assignment for the matches.

Matches are compared as they are. Two patches at the same distance would both be right, so the inputs have noise in
every value: no two patches are equally far from a third.
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
from labkit.checks.pieces import ABSOLUTE, EXCHANGED, float64_picture, patches_at, squares, window, with_options

__all__ = ["aggregate", "assign_patches", "optimize_texture"]


# --- 4 · Where patches overlap --------------------------------------------------------------------------------------

_SMALL = 1e-8       # of ε, times the number of values in a patch


def _patch_errors(matches: Tensor, positions: Tensor, image: Tensor) -> Tensor:
    """(N,): the squared distance of each patch of the image from its match."""
    return (patches_at(image, positions, matches.shape[-1]) - matches).square().sum((1, 2, 3))


def _patch_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float, *,
                   exponent: Callable[[float], float] = lambda r: (r - 2) / 2, small: float | None = None,
                   error: Callable[[Tensor], Tensor] = lambda d: d) -> Tensor:
    d = error(_patch_errors(matches, positions, image))
    weights = (d + (_SMALL * matches[0].numel() if small is None else small)) ** exponent(r)
    return weights[:, None, None, None].expand_as(matches)


def _weighted_mean(matches: Tensor, positions: Tensor, image: Tensor, weights: Tensor, *, divide: str = "weights",
                   last: bool = False) -> Tensor:
    n = matches.shape[-1]
    total, mass, count = (torch.zeros_like(image) for _ in range(3))
    for match, weight, (i, j) in zip(matches, weights, positions.tolist()):
        place = window(i, j, n)
        total[place] = weight * match if last else total[place] + weight * match
        mass[place] = weight if last else mass[place] + weight
        count[place] += 1
    divisors: dict[str, Tensor | float] = {"weights": mass, "count": count, "nothing": 1, "side": n * n, "all": len(matches)}
    return total / divisors[divide]


def _median(matches: Tensor, positions: Tensor, image: Tensor, *,
            of: Callable[[Tensor], Tensor] = lambda layers: layers.nanmedian(0).values) -> Tensor:
    n = matches.shape[-1]
    layers = torch.full((len(matches), *image.shape), math.nan, dtype=image.dtype)
    for layer, match, (i, j) in zip(layers, matches, positions.tolist()):
        layer[window(i, j, n)] = match
    return of(layers)


def _aggregate(matches: Tensor, positions: Tensor, image: Tensor, r: float, *, median: Callable | None = _median,
               weights: Callable = _patch_weights, **options) -> Tensor:
    """The picture that the matches make; the options are where answers differ."""
    if r == 1 and median is not None:
        return median(matches, positions, image)
    given = torch.ones_like(matches) if r == 2 else weights(matches, positions, image, r)
    return _weighted_mean(matches, positions, image, given, **options)


def _overlapping(task: Task, height: int, width: int, n: int, stride: int, r: float, *, channels: int = 3,
                 perfect: bool = False, farther: float = 0.0, dtype: torch.dtype = torch.float64) -> tuple:
    """Arguments: a picture and, for its patches on a grid in random order, patches of another one.

    A match goes between `farther` and all of the way from the picture's own patch to one of the other picture.
    """
    image, other = (float64_picture(task, *size, channels) for size in ((height, width), (n + 4, n + 5)))
    positions = patches.patch_positions(height, width, patch_size=n, stride=stride, cover=True)
    positions = positions[torch.randperm(len(positions), generator=task.generator)]
    at = [(task.integer(0, 4), task.integer(0, 5)) for _ in range(len(positions))]
    matches = patches_at(other, torch.tensor(at), n)
    # some patches are far better than others: this is what r is for
    now = patches_at(image, positions, n)
    far = farther + (1 - farther) * task.uniform(len(positions), 1, 1, 1).double()
    matches = far * matches + (1 - far) * now
    if perfect:
        matches[:: 3] = now[:: 3]
    return matches.contiguous().to(dtype), positions, image.to(dtype), r


def _weighted_sum(arguments: tuple, image: Tensor) -> float:
    """What the step makes small: squares with weights that the picture before gives, absolute differences for r = 1."""
    matches, positions, before, r = arguments
    if r != 1:
        weights = _patch_weights(matches, positions, before, r)[:, 0, 0, 0]
        return float((weights * _patch_errors(matches, positions, image)).sum())
    return float((patches_at(image, positions, matches.shape[-1]) - matches).abs().sum())


@exercise(points=3, minutes=40, reference=_aggregate, withholds=(
    "labkit.texture_optimization.optimize_texture", "labkit.texture_optimization.transfer_style_by_patches",
    "labkit.patches.aggregate_patches"))
def aggregate(task: Task) -> None:
    with task.property("takes the mean of what the patches say, for r = 2", share=0.3):
        task.compare(*_overlapping(task, 9, 11, 4, 2, 2, channels=1), tolerance=1e-7)
        task.compare(*_overlapping(task, 10, 7, 3, 1, 2), tolerance=1e-7)
    with task.property("takes the median, for r = 1", share=0.3):
        task.compare(*_overlapping(task, 9, 8, 4, 2, 1), tolerance=1e-7)
        task.compare(*_overlapping(task, 7, 9, 3, 1, 1, channels=1), tolerance=1e-7)
    with task.property("weighs each patch by how well it fits, for other r", share=0.3):
        task.compare(*_overlapping(task, 9, 10, 4, 2, 0.8), tolerance=1e-5)
        task.compare(*_overlapping(task, 8, 9, 3, 2, 1.4, channels=1), tolerance=1e-5)
    with task.property("copes with patches that fit perfectly already", share=0.1):
        # square, so that who exchanges rows and columns gets a picture; and its sides are not as many as its channels
        task.compare(*_overlapping(task, 10, 10, 4, 2, 0.8, perfect=True), tolerance=1e-7)
    with task.property("leaves the weighted sum of errors as small as it can be, and so never raises the energy"):
        for r in (1, 0.8):
            arguments = _overlapping(task, 8, 10, 4, 2, r)
            result = task.call(*arguments, shape=(3, 8, 10))
            least, found = (_weighted_sum(arguments, picture) for picture in (_aggregate(*arguments), result.double()))
            task.require(found <= least * (1 + 1e-9),
                         f"For r = {r:g} the weighted sum of errors is {found:.6g}; it can be {least:.6g}.")
    with task.property("keeps the dtype of the picture"):
        for r in (2, 1, 0.8):
            # no patch nearly fits, so that in float32 its weight is as good as any
            task.compare(*_overlapping(task, 8, 7, 3, 2, r, farther=0.5, dtype=torch.float32), tolerance=1e-5)


def _middle_two(layers: Tensor) -> Tensor:
    return layers.nanquantile(0.5, dim=0)


def _upper_middle(layers: Tensor) -> Tensor:
    return -(-layers).nanmedian(0).values


def _with_zeros(layers: Tensor) -> Tensor:
    return layers.nan_to_num(0.0).median(0).values


def _alike(matches: Tensor, *rest) -> Tensor:
    return torch.ones_like(matches)


def _plain_mean(matches: Tensor, positions: Tensor, image: Tensor) -> Tensor:
    return _weighted_mean(matches, positions, image, torch.ones_like(matches))


def _without_channels(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _patch_weights(matches, positions, image, r, small=_SMALL * matches.shape[-1] ** 2)


def _first_channel(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    weights = _patch_weights(matches[:, :1], positions, image[:1], r, small=_SMALL * matches[0].numel())
    return weights.expand_as(matches)


def _pixel_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    """One weight for every value instead of one for every patch."""
    now = patches_at(image, positions, matches.shape[-1])
    return ((now - matches).square() + _SMALL * matches[0].numel()) ** ((r - 2) / 2)


def _channel_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    d = torch.stack([_patch_errors(matches[:, c:c + 1], positions, image[c:c + 1]) for c in range(len(image))], dim=1)
    return (d[:, :, None, None] + _SMALL * matches[0].numel()).pow((r - 2) / 2).expand_as(matches)


def _absolute_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    d = (patches_at(image, positions, matches.shape[-1]) - matches).abs().sum((1, 2, 3), keepdim=True)
    return (d + _SMALL * matches[0].numel()).pow(r - 2).expand_as(matches)


def _pixel_sums(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    """One weight for every pixel, the same in all channels."""
    d = (patches_at(image, positions, matches.shape[-1]) - matches).square().sum(1, keepdim=True)
    return (d + _SMALL * matches[0].numel()).pow((r - 2) / 2).expand_as(matches)


def _absolute_halved(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    d = (patches_at(image, positions, matches.shape[-1]) - matches).abs().sum((1, 2, 3), keepdim=True)
    return (d + _SMALL * matches[0].numel()).pow((r - 2) / 2).expand_as(matches)


def _mean_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    number = matches[0].numel()
    return _patch_weights(matches, positions, image, r, error=lambda d: d / number)


def _epsilon_cubed(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _patch_weights(matches, positions, image, r, small=_SMALL * matches.shape[-1] ** 3)


def _exchanged_places(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _aggregate(matches, positions.flip(1), image, r)


def _by_weights(**options) -> Callable:
    return with_options(_aggregate, weights=functools.partial(_patch_weights, **options))


def _swapped(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _aggregate(matches, positions.flip(1), image.transpose(1, 2), r).transpose(1, 2).contiguous()


aggregate.knows({
    "always_the_mean": Mistake("r is ignored: the plain mean is taken whatever it is",
                               with_options(_aggregate, median=None, weights=_alike), 2),
    "no_weights": Mistake("for r other than 1 and 2 the plain mean is taken; there, every patch has a weight",
                          with_options(_aggregate, weights=_alike), 3),
    "weights_for_the_median": Mistake("for r = 1 the weighted mean is taken; there, it is the median",
                                      with_options(_aggregate, median=None), 2),
    "mean_for_the_median": Mistake("for r = 1 the plain mean is taken; there, it is the median",
                                   with_options(_aggregate, median=_plain_mean), 2),
    "summed": Mistake("the patches are added up, and never divided", with_options(_aggregate, divide="nothing"), 1),
    "divided_by_the_count": Mistake("the weighted sum is divided by the number of patches at a pixel; divide it by the "
                                    "sum of their weights", with_options(_aggregate, divide="count"), 3),
    "divided_by_the_area": Mistake("the sum is divided by n², as if every pixel lay in so many patches",
                                   with_options(_aggregate, divide="side"), 1),
    "divided_by_all": Mistake("the sum is divided by the number of all patches; each pixel has a number of its own",
                              with_options(_aggregate, divide="all"), 1),
    "last_patch_wins": Mistake("each patch is written over those before it; they are added up",
                               with_options(_aggregate, last=True), 1),
    "exponent_not_halved": Mistake("the exponent is r − 2, of a distance that is squared already; it is (r − 2) / 2",
                                   _by_weights(exponent=lambda r: r - 2), 3),
    "exponent_r": Mistake("the exponent is r / 2; that is the energy. The weight is its derivative, with the exponent "
                          "(r − 2) / 2", _by_weights(exponent=lambda r: r / 2), 3),
    "exponent_minus_half_r": Mistake("the exponent is −r / 2; it is (r − 2) / 2",
                                     _by_weights(exponent=lambda r: -r / 2), 3),
    "exponent_fixed": Mistake("the exponent is the same for every r; it is (r − 2) / 2",
                              _by_weights(exponent=lambda r: -0.6), 3),
    "mean_for_sum": Mistake("d is the mean of the squared differences; it is their sum",
                            with_options(_aggregate, weights=_mean_weights), 3),
    "root_taken": Mistake("a square root is taken of d before the exponent (r − 2) / 2; d is the *squared* distance",
                          _by_weights(error=torch.sqrt), 3),
    "absolute_halved": Mistake("d is the sum of absolute differences; it is the sum of squared ones",
                               with_options(_aggregate, weights=_absolute_halved), 3),
    "epsilon_cubed": Mistake("ε is 10⁻⁸ n³; it is 10⁻⁸ times the number of values in a patch, C n²",
                             with_options(_aggregate, weights=_epsilon_cubed), 3),
    "one_weight_for_each_pixel": Mistake(
        "every pixel of a patch has a weight of its own; there is one weight for a whole patch, by its distance",
        with_options(_aggregate, weights=_pixel_sums), 3),
    "worse_counts_more": Mistake("the exponent has the wrong sign: patches that do not fit count more",
                                 _by_weights(exponent=lambda r: (2 - r) / 2), 3),
    "epsilon_forgotten": Mistake("ε is missing: where a patch agrees with its match already, its weight is infinite",
                                 _by_weights(small=0.0), 3),
    "epsilon_not_scaled": Mistake("ε is 10⁻⁸; it is 10⁻⁸ times the number of values in a patch, C n²",
                                  _by_weights(small=_SMALL), 3),
    "epsilon_without_channels": Mistake("ε is 10⁻⁸ n²; it is 10⁻⁸ times the number of values in a patch, C n²: the "
                                        "channels count too", with_options(_aggregate, weights=_without_channels), 3),
    "absolute": Mistake("the distance of a patch and its match is the sum of absolute differences; d is the sum of "
                        "squared ones", with_options(_aggregate, weights=_absolute_weights), 3),
    "weights_for_channels": Mistake("every channel has weights of its own; there is one weight for a whole patch, in "
                                    "all channels", with_options(_aggregate, weights=_channel_weights), 3),
    "epsilon_under_the_root": Mistake("ε is added to the distance; it is added to the *squared* distance",
                                      _by_weights(error=torch.sqrt, exponent=lambda r: r - 2), 3),
    "weights_for_pixels": Mistake(
        "every value has a weight of its own, by its own difference; there is one weight for a whole patch, by its "
        "distance",
        with_options(_aggregate, weights=_pixel_weights), 3),
    "median_between": Mistake(
        "of an even number of values the mean of the two middle ones is taken; here it is the lower of them",
        with_options(_aggregate, median=with_options(_median, of=_middle_two)), 2),
    "median_upper": Mistake("of an even number of values the upper of the two middle ones is taken; here it is the "
                            "lower", with_options(_aggregate, median=with_options(_median, of=_upper_middle)), 2),
    "median_of_nan": Mistake(
        "`median` gives NaN wherever one of the values is NaN; `nanmedian` leaves those out",
        with_options(_aggregate, median=with_options(_median, of=lambda layers: layers.median(0).values)), 2),
    "zeros_in_the_median": Mistake("patches that do not hold a pixel count as zeros in its median; they have nothing "
                                   "to say: fill with NaN and take `nanmedian`",
                                   with_options(_aggregate, median=with_options(_median, of=_with_zeros)), 2),
    "coordinates_swapped": Mistake(EXCHANGED, _swapped, 1),
    "places_exchanged": Mistake(EXCHANGED, _exchanged_places, 1),
    "first_channel_only": Mistake("the weights look at the first channel only",
                                  with_options(_aggregate, weights=_first_channel), 3),
})


# --- 5 · Matching and aggregating in turn ---------------------------------------------------------------------------

def _optimize_texture(exemplar: Tensor, start: Tensor, patch_size: int, stride: int, levels: int, iterations: int, *,
                      finest_first: bool = False, one_exemplar: bool = False, blur: bool = True,
                      strided_exemplar: bool | str = False, cover: bool = True, all_patches: bool = False,
                      matched_once: bool = False, first_channel: bool = False, own_patches: bool = False,
                      farthest: bool = False, carried: bool = True, smooth: bool = True, enlarged_last: bool = False,
                      enlarged: str = "between", only: int | None = None, when: str = "after",
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
            size = 2 * picture.shape[1], 2 * picture.shape[2]
            picture = pyramids.upsample(source, size=size) if smooth else F.interpolate(source[None], size=size)[0]
        level = exemplar if one_exemplar else level
        height, width = picture.shape[1:]
        grid: dict[str, Any] = {"patch_size": patch_size, "stride": 1 if all_patches else stride, "cover": cover}
        thinned = grid | {"cover": cover and strided_exemplar != "not covered"}
        keys = patches.extract_patches(level, **(thinned if strided_exemplar else {"patch_size": patch_size}))
        looked_at = patches.extract_patches(level[:1], patch_size=patch_size) if first_channel else keys
        nearest = None
        for _ in range(iterations if only is None or only % levels == number else 0):
            seen = patches.extract_patches(picture, **grid)
            if nearest is None or not matched_once:
                queries = patches.extract_patches(picture[:1], **grid) if first_channel else seen
                cost = squares(queries, looked_at)
                nearest = cost.argmax(1) if farthest else cost.argmin(1)
            matches = keys[nearest]
            before = (seen - matches).square().sum(1)
            votes = seen if own_patches else matches
            picture = patches.aggregate_patches(votes, height=height, width=width, **grid)
            seen = patches.extract_patches(picture, **grid)
            after = (seen - matches).square().sum(1)
            again = squares(seen, keys).min(1).values
            energies.append(float(of({"before": before, "after": after, "matched again": again}[when])))
    if enlarged_last:
        picture = pyramids.upsample(picture, ratio=2)
    return picture, shape(energies, iterations)


def _energies_listed(value: Any) -> Any:
    """Energies in a tensor or an array of one axis are as good as a list of them."""
    if not isinstance(value, (tuple, list)):
        return value
    return tuple(v.tolist() if isinstance(v, (Tensor, np.ndarray)) and v.ndim == 1 else v for v in value)


@exercise(points=3, minutes=40, reference=_optimize_texture, form=_energies_listed, withholds=(
    "labkit.texture_optimization.optimize_texture",))
def optimize_texture(task: Task) -> None:
    # torch.tensor makes float32 of a list of energies: hence the tolerance
    with task.property("matches and aggregates once, in grey", share=0.3):
        task.compare(float64_picture(task, 9, 12, 1), task.uniform(1, 7, 9).double(), 3, 2, 1, 1, tolerance=1e-6)
    with task.property("repeats both, in colour, and the energy never rises", share=0.3):
        task.compare(float64_picture(task, 12, 10), task.uniform(3, 10, 12).double(), 4, 2, 1, 4, tolerance=1e-6)
    with task.property("goes from coarse to fine", share=0.3):
        task.compare(float64_picture(task, 16, 12), task.uniform(3, 5, 7).double(), 3, 2, 2, 3, tolerance=1e-6)
        task.compare(float64_picture(task, 16, 20, 1), task.uniform(1, 4, 6).double(), 2, 1, 3, 2, tolerance=1e-6)
    with task.property("covers the picture when the stride does not divide it", share=0.1):
        task.compare(float64_picture(task, 11, 9), task.uniform(3, 9, 8).double(), 3, 3, 1, 2, tolerance=1e-6)
        task.compare(float64_picture(task, 10, 12), task.uniform(3, 5, 6).double(), 3, 2, 2, 2, tolerance=1e-6)
    with task.property("keeps the dtype of the exemplar"):
        def clear(pictures: tuple[Tensor, Tensor]) -> bool:
            """Whether the nearest patch is nearest by so much that float32 finds the same one."""
            exemplar, start = pictures
            own, others = (patches.extract_patches(picture, patch_size=3) for picture in (start, exemplar))
            cost = squares(own, others)
            return float(cost.topk(2, largest=False).values.diff().min()) > 1e-3

        exemplar, start = task.draw_until(lambda: (task.image(7, 8, channels=1), task.uniform(1, 6, 7)), clear)
        task.compare(exemplar, start, 3, 1, 1, 1, tolerance=1e-5)


def _one_round(exemplar: Tensor, start: Tensor, patch_size: int, stride: int, levels: int,
               iterations: int) -> tuple[Tensor, list]:
    return _optimize_texture(exemplar, start, patch_size, stride, levels, 1)


def _per_value(exemplar: Tensor, start: Tensor, patch_size: int, *rest) -> tuple[Tensor, list]:
    return _optimize_texture(exemplar, start, patch_size, *rest, of=lambda d: d.mean() / (len(exemplar) * patch_size ** 2))


optimize_texture.knows({
    "one_round_only": Mistake(
        "there is one round of matching and aggregation at each scale; there are `iterations` of them",
        _one_round, 3),
    "matched_once": Mistake(
        "the matches are found once for each scale; in every round the picture has changed, and so have its nearest "
        "patches",
        with_options(_optimize_texture, matched_once=True), 3),
    "strided_exemplar": Mistake(
        "the stride was given to the exemplar's patches as well: only the picture's patches are thinned out, each of "
        "them looks at *all* patches of the exemplar",
        with_options(_optimize_texture, strided_exemplar=True), 1),
    "strided_exemplar_not_covered": Mistake(
        "the stride was given to the exemplar's patches as well, without `cover`: each patch looks at *all* patches "
        "of the exemplar, its last ones included",
        with_options(_optimize_texture, strided_exemplar="not covered"), 1),
    "stride_ignored": Mistake("all patches of the picture are matched; only those of the grid with that stride are",
                              with_options(_optimize_texture, all_patches=True), 1),
    "not_covered": Mistake(
        "the last rows or columns of the picture belong to no patch, as the stride does not divide the picture: "
        "`cover=True` adds a row and a column of patches there, for extracting and for aggregating",
        with_options(_optimize_texture, cover=False), 1),
    "finest_first": Mistake(
        "the scales are visited from fine to coarse: the last of the pyramid's pictures is the coarsest, and it "
        "comes first",
        with_options(_optimize_texture, finest_first=True), 3),
    "finest_exemplar_everywhere": Mistake(
        "every scale looks into the exemplar at full size; at a coarse scale the picture is made of patches of the "
        "exemplar at that scale",
        with_options(_optimize_texture, one_exemplar=True), 3),
    "pyramid_without_blur": Mistake(
        "the exemplar is made smaller by leaving out pixels, without a blur: `labkit.pyramids.gaussian_pyramid` does "
        "both",
        with_options(_optimize_texture, blur=False), 3),
    "not_carried_over": Mistake(
        "every scale begins with the start, enlarged; it begins with the result of the coarser scale",
        with_options(_optimize_texture, carried=False), 3),
    "pixels_repeated": Mistake(
        "the picture is enlarged by repeating its pixels; `labkit.pyramids.upsample` interpolates",
        with_options(_optimize_texture, smooth=False), 3),
    "enlarged_at_the_end": Mistake("the picture is enlarged after the finest scale as well, once too often",
                                   with_options(_optimize_texture, enlarged_last=True), 3),
    "enlarged_at_every_beginning": Mistake(
        "the picture is enlarged at the beginning of every scale, the coarsest included; `start` has the size of the "
        "coarsest one already",
        with_options(_optimize_texture, enlarged="always"), 3),
    "never_enlarged": Mistake("the picture is never enlarged: between two scales its sides are doubled",
                              with_options(_optimize_texture, enlarged="never"), 3),
    "finest_scale_only": Mistake(
        "matching and aggregation happen at the finest scale only: the loop over the iterations stands after the "
        "loop over the scales, it belongs inside",
        with_options(_optimize_texture, only=-1), 3),
    "coarsest_scale_only": Mistake("matching and aggregation happen at the coarsest scale only; every scale has its "
                                   "`iterations`", with_options(_optimize_texture, only=0), 3),
    "farthest": Mistake("every patch takes the *farthest* patch of the exemplar",
                        with_options(_optimize_texture, farthest=True), 1),
    "own_patches_averaged": Mistake(
        "the picture's own patches are averaged instead of their matches, so that nothing changes",
        with_options(_optimize_texture, own_patches=True), 2),
    "first_channel_only": Mistake("patches are compared in the first channel only",
                                  with_options(_optimize_texture, first_channel=True), 1),
    "energy_before": Mistake(
        "the energy is that of the old picture, before the aggregation; it is that of the new picture and the same "
        "matches",
        with_options(_optimize_texture, when="before"), 2),
    "energy_matched_again": Mistake(
        "the energy is computed with new matches; it is that of the new picture and the matches from which it was "
        "made",
        with_options(_optimize_texture, when="matched again"), 2),
    "energy_summed": Mistake("the energy is the sum over the patches; it is their mean",
                             with_options(_optimize_texture, of=torch.sum), 2),
    "energy_per_value": Mistake(
        "the energy is a mean over patches *and* values; sum the squares of a patch, then take the mean over the "
        "patches",
        _per_value, 2),
    "energy_of_roots": Mistake("the energy is the mean of distances; it is the mean of *squared* distances",
                               with_options(_optimize_texture, of=lambda d: d.sqrt().mean()), 2),
    "energies_nested": Mistake("the energies come as one list for each scale; here it is one list, coarse to fine",
                               with_options(_optimize_texture, shape=lambda found, iterations: [
                                   found[i:i + iterations] for i in range(0, len(found), iterations)]), 3),
    "energies_of_last_scale": Mistake(
        "the list of energies begins anew at every scale; it holds those of all scales",
        with_options(_optimize_texture, shape=lambda found, iterations: found[-iterations:]), 3),
    "one_energy_for_each_scale": Mistake(
        "there is one energy for each scale, the last; there is one after *each* aggregation",
        with_options(_optimize_texture, shape=lambda found, iterations: found[iterations - 1::iterations]), 3),
    "energies_reversed": Mistake("the energies are in reverse order; they begin with the coarsest scale's first",
                                 with_options(_optimize_texture, shape=lambda found, iterations: found[::-1]), 3),
    "order_of_results": Mistake("energies and picture are returned in the other order",
                                lambda *a: _optimize_texture(*a)[::-1], 3),
})


# --- 6 · Every patch of the exemplar is used ------------------------------------------------------------------------

def _distances(first: Tensor, second: Tensor) -> Tensor:
    return squares(first, second).sqrt()


def _absolute(first: Tensor, second: Tensor) -> Tensor:
    return (first[:, None] - second[None]).abs().sum(-1)


def _assign_patches(patches: Tensor, candidates: Tensor, *, cost: Callable[[Tensor, Tensor], Tensor] = squares,
                    copies: Callable[[int, int], int] = lambda n, m: -(-n // m), interleaved: bool = False,
                    modulo: bool = True, largest: bool = False, dtype: torch.dtype = torch.int64) -> Tensor:
    """The assignment of least cost; the options are where answers differ."""
    from scipy.optimize import linear_sum_assignment

    table, times = cost(patches, candidates), max(1, copies(len(patches), len(candidates)))
    table = table.repeat_interleave(times, 1) if interleaved else table.repeat(1, times)
    rows, columns = map(torch.from_numpy, linear_sum_assignment(table.numpy(), maximize=largest))
    chosen = torch.zeros(len(patches), dtype=torch.int64)
    chosen[rows] = columns % len(candidates) if modulo else columns
    return chosen.to(dtype)


def _nearest(queries: Tensor, candidates: Tensor) -> Tensor:
    return squares(queries, candidates).argmin(1)


def _greedy(queries: Tensor, candidates: Tensor) -> Tensor:
    """Each patch in turn takes the nearest one that is left."""
    copies, chosen = -(-len(queries) // len(candidates)), []
    left = torch.full((len(candidates),), copies)
    for row in squares(queries, candidates):
        chosen.append(int(row.masked_fill(left == 0, math.inf).argmin()))
        left[chosen[-1]] -= 1
    return torch.tensor(chosen)


def _cheapest_pairs_first(queries: Tensor, candidates: Tensor) -> Tensor:
    """The nearest pair of all is matched first, then the nearest of what is left."""
    left = torch.full((len(candidates),), -(-len(queries) // len(candidates)))
    cost, chosen = squares(queries, candidates), torch.zeros(len(queries), dtype=torch.int64)
    for _ in range(len(queries)):
        i, j = divmod(int(cost.argmin()), len(candidates))
        chosen[i], cost[i], left[j] = j, math.inf, left[j] - 1
        if not left[j]:
            cost[:, j] = math.inf
    return chosen


@exercise(points=2, minutes=25, reference=_assign_patches)
def assign_patches(task: Task) -> None:
    wrong = (_nearest, _greedy, _cheapest_pairs_first,
             *(with_options(_assign_patches, cost=cost) for cost in (_distances, _absolute)))

    def case(number: int, others: int) -> tuple[Tensor, Tensor]:
        """Patches for which answers that minimise something else all end elsewhere."""
        def make() -> tuple[Tensor, Tensor]:
            return task.uniform(number, 4).double(), task.uniform(others, 4).double()

        def tells(sets: tuple[Tensor, Tensor]) -> bool:
            right = _assign_patches(*sets)
            return not any(torch.equal(right, answer(*sets)) for answer in wrong)

        return task.draw_until(make, tells)

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


def _transposed(queries: Tensor, candidates: Tensor) -> Tensor:
    return _assign_patches(candidates, queries)


def _only_assigned(queries: Tensor, candidates: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(squares(queries, candidates).numpy())[1])


def _from_table(table: Tensor, number: int, *, part: int = 1) -> Tensor:
    """What linear_sum_assignment makes of a table as it is: its columns (or rows), modulo the number of candidates."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(table.numpy())[part]) % number


def _missing_copies(queries: Tensor, candidates: Tensor) -> Tensor:
    return _from_table(squares(queries, candidates).repeat(1, len(queries) // len(candidates)), len(candidates))


def _copies(queries: Tensor, candidates: Tensor) -> tuple[Tensor, int]:
    return squares(queries, candidates), -(-len(queries) // len(candidates))


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


assign_patches.knows({
    "nearest": Mistake("every patch takes its nearest candidate, and nothing keeps two from taking the same",
                       _nearest, 1),
    "greedy": Mistake(
        "each patch in turn takes the nearest candidate that is left; the last ones must take what nobody wanted, "
        "and the *sum* is not the smallest",
        _greedy, 1),
    "cheapest_pairs_first": Mistake(
        "the nearest pair of all is matched first, then the nearest of the rest; that is not the smallest *sum*",
        _cheapest_pairs_first, 1),
    "root_taken": Mistake("the sum of distances is minimised; it is the sum of *squared* distances",
                          with_options(_assign_patches, cost=_distances), 1),
    "absolute": Mistake(ABSOLUTE,
                        with_options(_assign_patches, cost=_absolute), 1),
    "transposed": Mistake(
        "the result says which patch each candidate goes to; it has one entry for each patch, the candidate that it "
        "takes",
        _transposed, 2),
    "no_copies": Mistake(
        "there are more patches than candidates, and the patches that are left over get candidate 0; every candidate "
        "has ⌈N/M⌉ places",
        with_options(_assign_patches, copies=lambda n, m: 1), 3),
    "left_over": Mistake(
        "there are more patches than candidates, and those that are left over are missing in the result; every "
        "candidate has ⌈N/M⌉ places",
        _only_assigned, 3),
    "too_few_copies": Mistake(
        "there are ⌊N/M⌋ copies of the candidates, none at all where N < M, and patches are missing in the result; "
        "there are ⌈N/M⌉, rounded up",
        _missing_copies, 3),
    "rows_returned": Mistake(
        "the numbers of the rows are returned, which are just 0, 1, 2, …; the candidates are the columns",
        _rows_returned, 2),
    "table_turned": Mistake("candidates stand in the rows of the table and patches in its columns: exchange the two",
                            _table_turned, 1),
    "copies_turned": Mistake("the table with the copies is transposed: a row for each patch, a column for each place",
                             _copies_turned, 1),
    "copies_in_rows": Mistake(
        "the rows are repeated, that is the patches; repeat the columns, which are the candidates",
        _copies_in_rows, 3),
    "one_copy_too_many": Mistake(
        "every candidate has ⌊N/M⌋ + 1 places; it has ⌈N/M⌉, so that each is used exactly once when there are as "
        "many candidates as patches",
        with_options(_assign_patches, copies=lambda n, m: n // m + (n >= m)), 3),
    "one_copy_too_few": Mistake("every candidate has ⌊N/M⌋ places, and some patches get none; it has ⌈N/M⌉, rounded up",
                                with_options(_assign_patches, copies=lambda n, m: n // m), 3),
    "number_of_the_copy": Mistake(
        "the numbers count the copies of the candidates; the candidate is the number modulo M",
        with_options(_assign_patches, modulo=False), 3),
    "copies_side_by_side": Mistake(
        "the copies of a candidate stand side by side (`repeat_interleave`), but the number is taken modulo M, which "
        "is right for whole copies of the table (`repeat`)",
        with_options(_assign_patches, interleaved=True), 3),
    "farthest": Mistake("the assignment of the *largest* cost is taken",
                        with_options(_assign_patches, largest=True), 2),
    "int32": Mistake("the result is int32; here it is int64, as torch's indices are",
                     with_options(_assign_patches, dtype=torch.int32), 2),
})
