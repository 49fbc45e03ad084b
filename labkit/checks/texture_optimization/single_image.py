"""The checks of a picture made from a field of matches, and of the field at twice the size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import EXCHANGED, float64_picture, with_options

__all__ = ["upsample_field", "weighted_reconstruction"]

_PSIN = tuple(f"labkit.texture_optimization.{name}" for name in ("psin", "psin_ot"))


# --- 8 · Weighted reconstruction ------------------------------------------------------------------------------------

def _scale(distance: Tensor, *, share: float = 0.75, least: float | None = 1.0) -> Tensor:
    quartile = torch.quantile(distance, share)
    return quartile if least is None else quartile.clamp(min=least)


def _bell(distance: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-distance / (2 * sigma ** 2))


def _weighted_reconstruction(nnf: Tensor, distance: Tensor, exemplar: Tensor, patch_size: int, *,
                             scale: Callable[[Tensor], Tensor] = _scale,
                             weigh: Callable[[Tensor, Tensor], Tensor] = _bell, least: float = 1e-30,
                             divide: str = "weights", inside: int = 1) -> Tensor:
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


@exercise(points=2, minutes=25, reference=_weighted_reconstruction, withholds=_PSIN)
def weighted_reconstruction(task: Task) -> None:
    def case(rows: int, columns: int, n: int, typical: float, *, channels: int = 3) -> tuple:
        side = rows + columns + n
        nnf = torch.stack([torch.randint(side - n, (rows, columns), generator=task.generator) for _ in (0, 1)]).int()
        distance = typical * (0.2 + task.uniform(rows, columns).double() + 2 * task.uniform(rows, columns).double() ** 4)
        return nnf, distance, float64_picture(task, side, side + 3, channels), n

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
    with task.property("keeps the dtype of the exemplar"):
        nnf, distance, exemplar, n = case(6, 5, 3, 2.0)
        task.compare(nnf, distance.float(), exemplar.float(), n, tolerance=1e-5)


def _transposed_field(nnf: Tensor, distance: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    return _weighted_reconstruction(nnf.flip(0), distance, exemplar, patch_size)


def _winner(nnf: Tensor, distance: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    """Each pixel as its best patch has it."""
    return _weighted_reconstruction(nnf, distance, exemplar, patch_size, scale=lambda d: d, least=0.0,
                                    weigh=lambda d, s: torch.exp(-200 * (d - d.min())))


weighted_reconstruction.knows({
    "as_printed": Mistake(
        "the weights are not divided out, as eq. III.4 is printed: where they add up to little, the picture is dark",
        with_options(_weighted_reconstruction, divide="nothing"), 3),
    "divided_by_the_number": Mistake(
        "the votes are divided by their number; divide by the sum of the *weights* at the pixel",
        with_options(_weighted_reconstruction, divide="number"), 3),
    "divided_by_all_weights": Mistake(
        "the votes are divided by the sum of all weights in the picture; at each pixel it is the sum over the "
        "patches that hold it",
        with_options(_weighted_reconstruction, divide="sum of all"), 3),
    "not_weighted": Mistake("all votes count alike",
                            with_options(_weighted_reconstruction, weigh=lambda d, s: torch.ones_like(d)), 2),
    "no_sigma": Mistake("the weight is exp(−d), without σ: for all but the best patches it is practically 0",
                        with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(-d)), 2),
    "sigma_not_squared": Mistake(
        "the weight is exp(−d / 2σ), or σ is the root of the quartile; σ is the quartile itself, and σ² divides",
        with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(-d / (2 * s))), 2),
    "factor_two_missing": Mistake("the weight is exp(−d / σ²); the factor 2 is missing",
                                  with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(-d / s ** 2)), 2),
    "distance_squared_again": Mistake(
        "the weight is exp(−d² / 2σ²); the distances are squared already",
        with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(-d ** 2 / (2 * s ** 2))), 2),
    "sign": Mistake("the sign of the exponent is missing: the worst patches weigh most",
                    with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(d / (2 * s ** 2))), 2),
    "divided_then_multiplied": Mistake(
        "`d / 2 * σ ** 2` multiplies by σ²: the denominator needs brackets",
        with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(-d / 2 * s ** 2)), 2),
    "root_taken": Mistake(
        "a square root is taken of the distances; the weight is exp(−d / 2σ²) with d as it is given",
        with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(-d.sqrt() / (2 * s ** 2))), 2),
    "root_and_sigma_not_squared": Mistake(
        "the weight is exp(−√d / 2σ); it is exp(−d / 2σ²) with d as it is given",
        with_options(_weighted_reconstruction, weigh=lambda d, s: torch.exp(-d.sqrt() / (2 * s))), 2),
    "first_pixels_only": Mistake(
        "every vote is the *first* pixel of the match; the pixel (i, j) of a patch takes the pixel (i, j) of its "
        "match: add i and j to the position",
        with_options(_weighted_reconstruction, inside=0), 3),
    **{f"floor_{name}": Mistake("the floor of the weights is too high: patches that fit badly, but not equally badly, "
                                "get the same weight. Take no weight below 1e-30",
                                with_options(_weighted_reconstruction, least=floor), 3)
       for name, floor in (("1e_12", 1e-12), ("1e_10", 1e-10), ("1e_8", 1e-8), ("1e_6", 1e-6))},
    "inverse_distance": Mistake("the weight is one over the distance",
                                with_options(_weighted_reconstruction, weigh=lambda d, s: 1 / d), 2),
    "sigma_below_one": Mistake("σ may fall below 1 here; it is the larger of 1 and the upper quartile",
                               with_options(_weighted_reconstruction, scale=with_options(_scale, least=None)), 1),
    "sigma_above_one": Mistake(
        "σ is the *smaller* of 1 and the upper quartile; it is the larger of them",
        with_options(_weighted_reconstruction, scale=lambda d: torch.quantile(d, 0.75).clamp(max=1)), 1),
    "sigma_one": Mistake("σ is 1 always; it is the upper quartile of the distances where that is larger",
                         with_options(_weighted_reconstruction, scale=lambda d: torch.ones(())), 1),
    "median": Mistake(
        "σ is the median of the distances; it is their upper quartile, the value that three in four stay below",
        with_options(_weighted_reconstruction, scale=with_options(_scale, share=0.5)), 1),
    "lower_quartile": Mistake("σ is the lower quartile of the distances; it is the upper one, 0.75",
                              with_options(_weighted_reconstruction, scale=with_options(_scale, share=0.25)), 1),
    "mean": Mistake("σ is the mean of the distances; it is their upper quartile",
                    with_options(_weighted_reconstruction, scale=lambda d: d.mean().clamp(min=1)), 1),
    "largest": Mistake("σ is the largest distance; it is the upper quartile",
                       with_options(_weighted_reconstruction, scale=lambda d: d.max().clamp(min=1)), 1),
    "deviation": Mistake("σ is the standard deviation of the distances; it is their upper quartile",
                         with_options(_weighted_reconstruction, scale=lambda d: d.std().clamp(min=1)), 1),
    "underflow": Mistake(
        "where all patches of a pixel fit badly, their weights underflow to 0, and 0/0 is NaN: take no weight below "
        "1e-30",
        with_options(_weighted_reconstruction, least=0.0), 3),
    "coordinates_swapped": Mistake(EXCHANGED, _transposed_field, 3),
    "best_patch_only": Mistake("each pixel is taken from the best of its patches; it is a weighted mean of all",
                               _winner, 3),
})


# --- 9 · From scale to scale ----------------------------------------------------------------------------------------

def _upsample_field(nnf: Tensor, image_size: tuple[int, int], exemplar_size: tuple[int, int], patch_size: int, *,
                    factor: int = 2, rest: int = 1, nearest: str = "below", limits: str = "patch",
                    shift: bool = False, turned: bool = False, dtype: torch.dtype = torch.int32,
                    unpatched: bool = False, swapped: bool = False) -> Tensor:
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


@exercise(points=2, minutes=20, reference=_upsample_field, withholds=("labkit.patchmatch.upsample_nnf", *_PSIN))
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


upsample_field.knows({
    "not_doubled": Mistake("the coarse match is taken as it is; at twice the size it lies at twice the row and column",
                           with_options(_upsample_field, factor=1), 1),
    "all_alike": Mistake(
        "the patches that share a p* get the same match: p − 2p* is missing, which puts them side by side",
        with_options(_upsample_field, rest=0), 1),
    "sign": Mistake("p − 2p* is subtracted instead of added", with_options(_upsample_field, rest=-1), 1),
    "shift_doubled": Mistake("the field is taken for shifts, and the position is added; it holds absolute positions",
                             with_options(_upsample_field, shift=True), 1),
    "rounded_up": Mistake(
        "of two coarse patches that are equally near, the later one is taken; here it is the earlier one, p* = p // 2",
        with_options(_upsample_field, nearest="above"), 2),
    "beyond_the_coarse_field": Mistake(
        "p // 2 runs beyond the last row or column of the coarse field; the last patches take the last p*",
        with_options(_upsample_field, nearest="unlimited"), 2),
    "rest_modulo_two": Mistake(
        "p % 2 is added for p − 2p*; the last patches, which lie beyond the coarse field, are further from their 2p* "
        "than that",
        with_options(_upsample_field, nearest="parity"), 2),
    "stretched": Mistake(
        "the coarse field is stretched to the fine one's size; p* is p // 2, whatever the sizes, and the last "
        "patches take the last p*",
        with_options(_upsample_field, nearest="stretched"), 2),
    "not_clamped": Mistake("some matches stick out of the exemplar: a whole patch must fit, so the last row is H̃ − n",
                           with_options(_upsample_field, limits="none"), 3),
    "clamped_to_the_image": Mistake("matches are clamped to the image; they lie in the exemplar",
                                    with_options(_upsample_field, limits="image"), 3),
    "offsets_doubled": Mistake("p − 2p* is doubled as well; only the match is",
                               with_options(_upsample_field, rest=2), 1),
    "offsets_exchanged": Mistake("rows are moved by the columns' p − 2p* and columns by the rows'",
                                 with_options(_upsample_field, turned=True), 1),
    "limits_exchanged": Mistake("height and width of the exemplar are exchanged where matches are clamped",
                                with_options(_upsample_field, limits="exchanged"), 3),
    "middles": Mistake("p* is the coarse patch whose *middle* is nearest; here first pixels are compared, p* = p // 2",
                       with_options(_upsample_field, nearest="middles"), 2),
    "stretched_alike": Mistake(
        "the coarse field is stretched like a picture (`F.interpolate`) and doubled; p* is p // 2, and p − 2p* is "
        "added",
        with_options(_upsample_field, nearest="stretched", rest=0), 1),
    "doubled_and_repeated": Mistake(
        "every match is doubled and repeated for 2×2 patches (`repeat_interleave`): p − 2p* is missing, and so are "
        "the patches beyond the coarse field",
        with_options(_upsample_field, rest=0, unpatched=True, nearest="cut"), 1),
    "twice_the_field": Mistake(
        "the result is twice as large as the coarse field; it has a match for each patch of the fine image, H − n + "
        "1 rows of them",
        with_options(_upsample_field, unpatched=True, nearest="cut"), 2),
    "one_for_each_pixel": Mistake(
        "the result has a match for each pixel of the image; it has one for each patch, H − n + 1 rows of them",
        with_options(_upsample_field, unpatched=True), 2),
    "coordinates_swapped": Mistake(EXCHANGED, with_options(_upsample_field, swapped=True), 1),
    "int64": Mistake("the field is int64; a field of matches is int32: `.to(torch.int32)`",
                     with_options(_upsample_field, dtype=torch.int64), 3),
    "floating_point": Mistake("the field holds floating-point numbers; positions are whole numbers: `.to(torch.int32)`",
                              with_options(_upsample_field, dtype=torch.float32), 3),
})
