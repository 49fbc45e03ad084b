"""Depth out of two views: how far every point moves from one to the other, by PatchMatch along rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.images import pad, to_grey
from labkit.patchmatch.fields import as_kernel_field, validate_patches
from labkit.patchmatch.iterate import distances
from labkit.patchmatch.matching import Matching, describe_matching
from labkit.patchmatch.reference import JUMPS
from labkit.runtime import generator
from labkit.validation import describe, validate_image, validate_integer, validate_same_size, validate_seed

__all__ = ["disparity_score", "fill_from_behind", "stereo_disparity"]

CENSUS_STEP = 2             # to the four neighbours that a pixel is compared with, in pixels
CENSUS_CONTRAST = 0.02      # difference of intensity that counts as a clear one
MEDIAN_COLOR = 0.1          # ℓ1 distance of colours at which a pixel's say falls to 1/e
MEDIAN_VALUES = 2 ** 22     # values in memory at once


def stereo_disparity(left: Tensor, right: Tensor, *, patch_size: int = 5, largest: int = 64, iterations: int = 2,
                     radius: int = 7, seed: int = 0) -> Tensor:
    """How far to the left every pixel of the left view lies in the right view.

    >>> right = torch.rand((1, 24, 40), generator=torch.Generator().manual_seed(0))
    >>> disparity = labkit.patchmatch.stereo_disparity(right.roll(3, -1), right, largest=8)
    >>> float(disparity[0, :, 8:-8].median().round())
    3.0

    The views are rectified: a point lies in the same row of both, d columns further left in the right one, and d is
    inversely proportional to its depth. So PatchMatch has a single number to find for a patch: it tries those of
    neighbours, and random ones around its own. Then each view is matched to the other; where the two disagree, the
    point is hidden in one of them and takes the disparity of what lies behind; a median, weighted by similarity of
    colour, removes what is left of errors.

    Parameters
    ----------
    left, right : (C, H, W), grey or colour, of one size; rectified.
    patch_size : side of a patch, odd.
    largest : disparities from 0 to this are tried, in columns; less than the width.
    iterations : of the search, at least 1.
    radius : of the window of the median; 0 leaves it out.
    seed : of the random candidates.

    Returns
    -------
    Tensor (1, H, W) of disparities in columns, with fractions, of the dtype and device of `left`.

    Raises
    ------
    ValueError : views of different sizes or types, or a number out of its range.

    Notes
    -----
    Patches are compared by ℓ1 in a soft census transform: for every pixel, whether its four neighbours are lighter or
    darker, as tanh of the difference. Two cameras differ in exposure, and surfaces shine: that order is kept where
    colours are not.

    References
    ----------
    Bleyer, Rhemann, Rother, "PatchMatch Stereo", BMVC 2011, without its slanted planes. Zabih, Woodfill, "Non-parametric
    Local Transforms for Computing Visual Correspondence", ECCV 1994. Lecture part I, "Example: Stereo-Vision".
    """
    validate_image(left, name="left", channels=(1, 3), batch=False)
    validate_patches(left, right, patch_size, batch=False, names=("left", "right"))
    validate_same_size(left, right, names=("left", "right"))
    validate_integer(patch_size, name="patch_size", odd=True)
    validate_integer(largest, name="largest", minimum=1, maximum=left.shape[-1] - 1)
    validate_integer(iterations, name="iterations", minimum=1)
    validate_integer(radius, name="radius", minimum=0)
    validate_seed(seed)
    views = [pad(_census(view), amount=patch_size // 2, border="replicate") for view in (left, right)]
    search = {"patch_size": patch_size, "largest": largest, "iterations": iterations}
    of_left = _row_search(views[0], views[1], sign=-1, seed=seed, **search)
    of_right = _row_search(views[1], views[0], sign=1, seed=seed + 1, **search)
    filled = fill_from_behind(of_left, _consistent(of_left, of_right))
    if radius:
        filled = _weighted_median(filled, left, radius=radius)
    return filled[None].to(left.dtype)


def disparity_score(disparity: Tensor, truth: Tensor) -> dict[str, float]:
    """How far disparities are from the truth, where it is known.

    >>> labkit.patchmatch.disparity_score(torch.tensor([[[1.0, 2.0, 6.0]]]), torch.tensor([[[1.0, 4.0, torch.inf]]]))
    {'mean_error': 1.0, 'above_1': 0.5, 'above_2': 0.0, 'above_4': 0.0}

    Parameters
    ----------
    disparity, truth : (1, H, W); where the truth is infinite or NaN, nothing is known.

    Returns
    -------
    Dictionary: `"mean_error"`, in columns, and `"above_1"`, `"above_2"`, `"above_4"`, the share of pixels, from 0 to 1,
    that are off by more than so many columns.
    """
    validate_image(disparity, name="disparity", channels=(1,), batch=False)
    if not isinstance(truth, Tensor) or truth.shape != disparity.shape:
        raise ValueError(f"truth is {describe(truth)}; expected a tensor {tuple(disparity.shape)}, like disparity")
    known = torch.isfinite(truth)
    if not known.any():
        raise ValueError("truth is nowhere finite; expected a disparity that is known somewhere")
    error = (disparity.double() - truth.double())[known].abs()
    return {"mean_error": float(error.mean())} | {f"above_{k}": float((error > k).double().mean()) for k in (1, 2, 4)}


def _census(view: Tensor) -> Tensor:
    """(4, H, W): tanh of how much lighter than a pixel its neighbours left, right, above and below are."""
    grey, step = to_grey(view.detach()), CENSUS_STEP
    height, width = grey.shape[-2:]
    around = pad(grey, amount=step, border="replicate")
    neighbours = [around[:, row:row + height, column:column + width]
                  for row, column in ((step, 0), (step, 2 * step), (0, step), (2 * step, step))]
    return torch.tanh((torch.cat(neighbours) - grey) / CENSUS_CONTRAST)


def _row_search(view: Tensor, other: Tensor, *, sign: int, patch_size: int, largest: int, iterations: int,
                seed: int) -> Tensor:
    """PatchMatch along rows: (H', W') with match(y, x) = (y, x + sign · d), 0 ≤ d ≤ largest, in jump flooding's order."""
    matching = describe_matching(view, other, patch_size=patch_size, metric="l1")
    height, width = matching.active.shape[1:]
    columns, random = torch.arange(width, device=view.device), generator(seed)
    limit = (columns if sign < 0 else width - 1 - columns).clamp(max=largest).expand(1, height, width)
    disparity = (torch.rand((1, height, width), generator=random).to(view.device) * (limit + 1)).long()
    cost = _costs(matching, disparity, sign)

    def consider(candidates: Tensor) -> None:
        nonlocal disparity, cost
        candidates = torch.minimum(candidates.clamp(min=0), limit)
        costs = torch.cat([cost, _costs(matching, candidates, sign)])
        cost, best = costs.min(0, keepdim=True)
        disparity = torch.cat([disparity, candidates]).gather(0, best)

    for _ in range(iterations):
        for jump in JUMPS:
            consider(_neighbours(disparity[0], jump))
        reach = largest
        while reach >= 1:
            consider(disparity + torch.randint(-reach, reach + 1, disparity.shape, generator=random).to(view.device))
            reach //= 2
    return _with_fractions(matching, disparity, cost, limit, sign)


def _costs(matching: Matching, disparities: Tensor, sign: int) -> Tensor:
    """Patch distances (k, H', W') of disparities (k, H', W')."""
    rows, columns = (torch.arange(side, device=disparities.device) for side in disparities.shape[1:])
    matches = torch.stack([rows[:, None].expand_as(disparities), columns + sign * disparities], 1)
    return distances(matching, as_kernel_field(matches))[:, 0]


def _neighbours(disparity: Tensor, jump: int) -> Tensor:
    """What the patches `jump` to the left, right, above and below have: (4, H', W'); at a border, the outermost one."""
    height, width = disparity.shape
    rows, columns = (torch.arange(side, device=disparity.device) for side in disparity.shape)
    return torch.stack([disparity[:, (columns - jump).clamp(min=0)], disparity[:, (columns + jump).clamp(max=width - 1)],
                        disparity[(rows - jump).clamp(min=0)], disparity[(rows + jump).clamp(max=height - 1)]])


def _with_fractions(matching: Matching, disparity: Tensor, cost: Tensor, limit: Tensor, sign: int) -> Tensor:
    """Between columns: where two lines of opposite slopes through the costs of d − 1, d and d + 1 meet."""
    inside = (disparity > 0) & (disparity < limit)
    before, after = _costs(matching, torch.cat([(disparity - 1).clamp(min=0), torch.minimum(disparity + 1, limit)]), sign)
    rise = torch.maximum(before, after) - cost
    fraction = torch.where(inside & (rise > 0), (before - after) / (2 * rise), 0)
    return (disparity + fraction.clamp(-0.5, 0.5))[0]


def _consistent(of_left: Tensor, of_right: Tensor) -> Tensor:
    """Where a point of the left view and its match in the right view name each other, to within a column: bool (H, W)."""
    columns = torch.arange(of_left.shape[1], device=of_left.device)
    match = (columns - of_left).round().long().clamp(0, of_left.shape[1] - 1)
    return (of_left - of_right.gather(1, match)).abs() <= 1


def fill_from_behind(disparity: Tensor, trusted: Tensor) -> Tensor:
    """What is not trusted takes the smaller disparity, the farther point, of the nearest trusted ones left and right."""
    height, width = disparity.shape
    columns = torch.arange(width, device=disparity.device).expand(height, width)
    left = torch.where(trusted, columns, -1).cummax(1).values
    right = torch.where(trusted, columns, width).flip(1).cummin(1).values.flip(1)
    sides = [torch.where(known, disparity.gather(1, place.clamp(0, width - 1)), math.inf)
             for place, known in ((left, left >= 0), (right, right < width))]
    found = torch.minimum(*sides)
    return torch.where(torch.isfinite(found), found, disparity)     # a row without a trusted pixel stays as it is


def _weighted_median(values: Tensor, guide: Tensor, *, radius: int) -> Tensor:
    """Median of values (H, W) over square windows, pixels weighted by closeness and by likeness in the guide (C, H, W)."""
    height, width = values.shape
    side = 2 * radius + 1
    steps = torch.arange(-radius, radius + 1, device=values.device).double()
    near = torch.exp(-torch.hypot(steps[:, None], steps) / radius).flatten().to(values)
    values = pad(values[None], amount=radius, border="replicate")[0]
    around = pad(guide.detach().to(values), amount=radius, border="replicate")
    out = values.new_empty(height, width)
    block = max(1, MEDIAN_VALUES // (width * side ** 2))
    for top in range(0, height, block):
        rows = slice(top, min(top + block, height) + 2 * radius)
        window = values[rows].unfold(0, side, 1).unfold(1, side, 1).flatten(2)
        colors = around[:, rows].unfold(1, side, 1).unfold(2, side, 1).flatten(3)
        weights = near * torch.exp(-(colors - colors[..., side ** 2 // 2, None]).abs().sum(0) / MEDIAN_COLOR)
        ordered, order = window.sort(-1)
        total = weights.gather(-1, order).cumsum(-1)
        middle = torch.searchsorted(total, total[..., -1:] / 2)
        out[top:top + window.shape[0]] = ordered.gather(-1, middle)[..., 0]
    return out
