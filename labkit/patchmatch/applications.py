"""What a nearest-neighbour field is good for: new texture, depth from two views, a picture in another's manner."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.images import match_colors, pad, to_grey
from labkit.patchmatch.fields import (Match, as_kernel_field, likelihood, reconstruct, upper_quartile, upsample_nnf,
                                      validate_patches)
from labkit.patchmatch.search import JUMPS, Problem, describe_problem, patchmatch
from labkit.pyramids import gaussian_pyramid, level_sizes
from labkit.runtime import generator, seed_of
from labkit.validation import (describe, validate_image, validate_integer, validate_number, validate_same_size,
                               validate_size)

SHARP = 3                   # side of what votes for the last picture: whole patches blur, single pixels show seams
COARSEST = 3                # sides of a patch that the coarsest picture still holds
SMALLEST_SLOPE = 1e-3       # a picture whose steepest slope is below this has no contours
CHOICES = 8                 # how often the patches choose among their matches
CENSUS_STEP = 2             # to the four neighbours that a pixel is compared with, in pixels
CENSUS_CONTRAST = 0.02      # difference of intensity that counts as a clear one
MEDIAN_COLOR = 0.1          # ℓ1 distance of colours at which a pixel's say falls to 1/e
MEDIAN_VALUES = 2 ** 22     # values in memory at once


# --- texture --------------------------------------------------------------------------------------------------------

def reshuffle(image: Tensor, *, size: tuple[int, int] | None = None, patch_size: int = 7, levels: int | None = None,
              iterations: int = 4, piece: float = 2.0, seed: int = 0) -> Tensor:
    """A new picture of a texture, of any size, made of its patches.

    At the coarsest scale, square pieces of the picture are laid out at random, like a shuffled jigsaw. Then, scale by
    scale, the patches vote for a picture, and PatchMatch finds the nearest patches of the texture to those of that
    picture: seams between pieces, which look like nothing in the texture, go; the pieces' insides stay.

    Parameters
    ----------
    image : (C, H, W), the texture; pictures without repetition come out as a collage.
    size : (height, width) of the result; `None` takes that of `image`.
    patch_size : side n of a patch, at every scale.
    levels : number of scales, each half the one before; `None` takes as many as leave three patches along the shorter
        side of both pictures. Patches at the coarsest scale should hold the largest element of the texture.
    iterations : rounds of voting and search at each scale, at least 1.
    piece : side of the pieces, in patches, at the coarsest scale, at least 1. Larger ones keep more of the layout.
    seed : of the layout and the searches.

    Returns
    -------
    Tensor (C, height, width) of the dtype and device of `image`.

    Raises
    ------
    ValueError : a patch or the coarsest scale that does not fit, or a size that is none.

    Notes
    -----
    A random match for every patch, as in the lecture, starts from an average of everything, grey: the greyest patches
    are then nearest and fill the picture. Pieces start with the right colours in the right amounts.

    References
    ----------
    Barnes et al., "PatchMatch", SIGGRAPH 2009, section 4. Lecture part I, "Synthesis by reshuffling".
    """
    validate_patches(image, image, patch_size, batch=False)
    size = validate_size(size, minimum=patch_size, default=image.shape[-2:])
    levels = _validated_levels(levels, patch_size, tuple(image.shape[-2:]), size)
    validate_integer(iterations, name="iterations", minimum=1)
    validate_number(piece, name="piece", minimum=1)
    validate_integer(seed, name="seed", minimum=0)
    exemplars = gaussian_pyramid(image, levels=levels)
    sizes = level_sizes(size, levels=levels)
    nnf = _shuffled_pieces(exemplars[-1], sizes[-1], patch_size=patch_size, side=round(piece * patch_size), seed=seed)
    for level in reversed(range(levels)):
        exemplar = exemplars[level]
        if level < levels - 1:
            nnf = upsample_nnf(nnf, patch_size=patch_size, image_size=sizes[level], exemplar_size=tuple(exemplar.shape[-2:]),
                               coarse_exemplar_size=tuple(exemplars[level + 1].shape[-2:]))
        weights = None
        for number in range(iterations):
            picture = reconstruct(nnf, exemplar, patch_size=patch_size, weights=weights)
            match = patchmatch(picture, exemplar, patch_size=patch_size, iterations=2, start=nnf,
                               seed=seed_of(seed, level, number))
            nnf, weights = match.nnf, likelihood(match.distance, _typical(match.distance))
    return _sharp(nnf, image, patch_size)


def _shuffled_pieces(exemplar: Tensor, size: tuple[int, int], *, patch_size: int, side: int, seed: int) -> Tensor:
    """A field (2, H', W') that is a mosaic of square pieces of the exemplar, drawn so that they cover it evenly."""
    random = generator(seed)
    places = [length - patch_size + 1 for length in exemplar.shape[-2:]]
    side = min(side, *places)
    cells, offsets = [], []
    for length in size:
        start = torch.arange(length - patch_size + 1) + int(torch.randint(side, (1,), generator=random))
        cells.append(start // side)
        offsets.append(start % side)
    shape = tuple(int(cell[-1]) + 1 for cell in cells)
    turn = torch.randperm(shape[0] * shape[1], generator=random).double().reshape(shape)
    nnf = []
    # Multiples of these two numbers, modulo 1, fill the square evenly for any number of pieces (Roberts's R2 sequence).
    for step, room, offset in zip((0.7548776662466927, 0.5698402909980532), places, (offsets[0][:, None], offsets[1])):
        first = ((turn * step + float(torch.rand(1, generator=random))) % 1 * (room - side + 1)).long()
        nnf.append(first[cells[0][:, None], cells[1]] + offset)
    return torch.stack(nnf).int().to(exemplar.device)


# --- stereo ---------------------------------------------------------------------------------------------------------

def stereo_disparity(left: Tensor, right: Tensor, *, patch_size: int = 5, largest: int = 64, iterations: int = 2,
                     radius: int = 7, seed: int = 0) -> Tensor:
    """How far to the left every pixel of the left view lies in the right view.

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
    validate_integer(seed, name="seed", minimum=0)
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
    problem = describe_problem(view, other, patch_size=patch_size, metric="l1")
    height, width = problem.active.shape[1:]
    columns, random = torch.arange(width, device=view.device), generator(seed)
    limit = (columns if sign < 0 else width - 1 - columns).clamp(max=largest).expand(1, height, width)
    disparity = (torch.rand((1, height, width), generator=random).to(view.device) * (limit + 1)).long()
    cost = _costs(problem, disparity, sign)

    def consider(candidates: Tensor) -> None:
        nonlocal disparity, cost
        candidates = torch.minimum(candidates.clamp(min=0), limit)
        costs = torch.cat([cost, _costs(problem, candidates, sign)])
        cost, best = costs.min(0, keepdim=True)
        disparity = torch.cat([disparity, candidates]).gather(0, best)

    for _ in range(iterations):
        for jump in JUMPS:
            consider(_neighbours(disparity[0], jump))
        reach = largest
        while reach >= 1:
            consider(disparity + torch.randint(-reach, reach + 1, disparity.shape, generator=random).to(view.device))
            reach //= 2
    return _with_fractions(problem, disparity, cost, limit, sign)


def _costs(problem: Problem, disparities: Tensor, sign: int) -> Tensor:
    """Patch distances (k, H', W') of disparities (k, H', W')."""
    rows, columns = (torch.arange(side, device=disparities.device) for side in disparities.shape[1:])
    matches = torch.stack([rows[:, None].expand_as(disparities), columns + sign * disparities], 1)
    return problem.distances(as_kernel_field(matches))[:, 0]


def _neighbours(disparity: Tensor, jump: int) -> Tensor:
    """What the patches `jump` to the left, right, above and below have: (4, H', W'); at a border, the outermost one."""
    height, width = disparity.shape
    rows, columns = (torch.arange(side, device=disparity.device) for side in disparity.shape)
    return torch.stack([disparity[:, (columns - jump).clamp(min=0)], disparity[:, (columns + jump).clamp(max=width - 1)],
                        disparity[(rows - jump).clamp(min=0)], disparity[(rows + jump).clamp(max=height - 1)]])


def _with_fractions(problem: Problem, disparity: Tensor, cost: Tensor, limit: Tensor, sign: int) -> Tensor:
    """Between columns: where two lines of opposite slopes through the costs of d − 1, d and d + 1 meet."""
    inside = (disparity > 0) & (disparity < limit)
    before, after = _costs(problem, torch.cat([(disparity - 1).clamp(min=0), torch.minimum(disparity + 1, limit)]), sign)
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


# --- stylisation ----------------------------------------------------------------------------------------------------

def stylize(content: Tensor, style: Tensor, *, patch_size: int = 5, levels: int | None = None, iterations: int = 2,
            k: int = 5, reuse_penalty: float = 1.0, content_weight: float = 0.1, contour_weight: float = 0.5,
            recolor: bool = True, seed: int = 0) -> Tensor:
    """A picture of the content that is made of patches of the style.

    Scale by scale, coarse to fine: the present picture is blended with the content; for each patch of the blend the
    k nearest patches of the style are found; of these it takes the nearest, but for a price on the ones that many
    others take; and the patches that were taken vote for the next picture.

    Parameters
    ----------
    content : (C, H, W), what is to be seen.
    style : (C, h, w), with what it is to be painted; any size.
    patch_size : side n of a patch, at every scale. Larger ones show larger pieces of the style.
    levels : number of scales, each half the one before; `None` takes as many as leave three patches along the shorter
        side of both pictures.
    iterations : rounds of blending, search and voting at each scale, at least 1.
    k : among how many matches a patch may choose; 1 leaves no choice.
    reuse_penalty : what it costs to take a patch of the style that as many others take as if all were used alike, in
        typical distances (the 75th percentile). 0 lets even parts of the content become one flat patch, repeated.
    content_weight : share of the content in the blend everywhere, from 0 to 1.
    contour_weight : share of the content in the rest of the blend where the content has contours, from 0 to 1.
    recolor : first give the content the mean and the covariance of the style's colours, so that dark parts are
        compared with what is dark in the style.
    seed : of the searches and of the choice.

    Returns
    -------
    Tensor (C, H, W) of the dtype and device of `content`: every pixel is a mean of a few pixels of the style.

    Raises
    ------
    ValueError : pictures that differ in channels or type, or a number out of its range.

    Notes
    -----
    With a weight M of the content c and the present picture u, the nearest patch to the blend (1 − M) u + M c is, for a
    constant M, the one that makes (1 − M) ‖u − p‖² + M ‖c − p‖² smallest: near to the picture and to the content.

    References
    ----------
    Samuth, Tschumperlé, Rabin, "A Patch-Based Approach for Artistic Style Transfer via Constrained Multi-Scale Image
    Matching", ICIP 2022. Lecture part I, "Automatic Style Transfer with patch matching".
    """
    validate_patches(content, style, patch_size, batch=False, names=("content", "style"))
    levels = _validated_levels(levels, patch_size, tuple(content.shape[-2:]), tuple(style.shape[-2:]))
    validate_integer(iterations, name="iterations", minimum=1)
    validate_integer(k, name="k", minimum=1)
    validate_integer(seed, name="seed", minimum=0)
    validate_number(reuse_penalty, name="reuse_penalty", minimum=0)
    validate_number(content_weight, name="content_weight", minimum=0, maximum=1)
    validate_number(contour_weight, name="contour_weight", minimum=0, maximum=1)
    contents = gaussian_pyramid(match_colors(content, reference=style) if recolor else content, levels=levels)
    styles = gaussian_pyramid(style, levels=levels)
    picture, nnf = contents[-1], None
    for level in reversed(range(levels)):
        guide, exemplar = contents[level], styles[level]
        if nnf is not None:
            nnf = upsample_nnf(nnf, patch_size=patch_size, image_size=tuple(guide.shape[-2:]),
                               exemplar_size=tuple(exemplar.shape[-2:]),
                               coarse_exemplar_size=tuple(styles[level + 1].shape[-2:]))
            picture = reconstruct(nnf, exemplar, patch_size=patch_size)
        blend = content_weight + (1 - content_weight) * contour_weight * _contours(guide)
        places = tuple(side - patch_size + 1 for side in exemplar.shape[-2:])
        start = None if nnf is None else _with_others(nnf, places, k)
        for number in range(iterations):
            step = seed_of(seed, level, number)
            match = patchmatch((1 - blend) * picture + blend * guide, exemplar, patch_size=patch_size, iterations=2,
                               k=min(k, places[0] * places[1]), start=start, seed=step)
            start = match.nnf
            nnf = _choose(match, places, penalty=reuse_penalty, seed=step)
            picture = reconstruct(nnf, exemplar, patch_size=patch_size)
    return _sharp(nnf, style, patch_size)


def _contours(picture: Tensor) -> Tensor:
    """(1, H, W), from 0 to 1: slope of the intensity, as a share of its 95th percentile."""
    intensity = pad(picture.mean(0, keepdim=True), amount=1, border="replicate")
    slope = torch.hypot(intensity[:, 1:-1, 2:] - intensity[:, 1:-1, :-2], intensity[:, 2:, 1:-1] - intensity[:, :-2, 1:-1])
    steep = slope.flatten().sort().values[int(0.95 * (slope.numel() - 1))]
    return (slope / steep.clamp(min=SMALLEST_SLOPE)).clamp(max=1)


def _with_others(nnf: Tensor, places: tuple[int, int], k: int) -> Tensor:
    """Matches (k, 2, H', W') to start from: the given one and others, spread over the exemplar; (2, H', W') for k = 1."""
    height, width = places
    k = min(k, height * width)
    number = nnf[0].long() * width + nnf[1]
    numbers = [(number + i * (height * width // k)) % (height * width) for i in range(k)]
    field = torch.stack([torch.stack([n // width, n % width]) for n in numbers]).int()
    return field if k > 1 else field[0]


def _choose(match: Match, places: tuple[int, int], *, penalty: float, seed: int) -> Tensor:
    """One of its k matches for each patch, (2, H', W'): the nearest, but for a price on those that many others take."""
    if match.nnf.ndim == 3:
        return match.nnf
    number = match.nnf[:, 0].long() * places[1] + match.nnf[:, 1]
    price = penalty * _typical(match.distance[0]) * places[0] * places[1] / number[0].numel()
    chosen, random = torch.zeros_like(number[:1]), generator(seed)
    for round_ in range(CHOICES if penalty else 0):
        taken = number.gather(0, chosen)
        others = torch.bincount(taken.flatten(), minlength=places[0] * places[1])[number] - (number == taken).long()
        cheapest = (match.distance + price * others).argmin(0, keepdim=True)
        # Half of them choose again, then a third, a quarter, …: all at once would leave a popular patch together, and
        # come back together.
        again = (torch.rand(chosen.shape, generator=random) < 1 / (round_ + 2)).to(chosen.device)
        chosen = torch.where(again, cheapest, chosen)
    return match.nnf.gather(0, chosen[:, None].expand(1, 2, *chosen.shape[1:]))[0]


# --- helpers --------------------------------------------------------------------------------------------------------

def _typical(distance: Tensor) -> Tensor:
    """The upper quartile, above 0."""
    return upper_quartile(distance).clamp(min=torch.finfo(distance.dtype).eps)


def _sharp(nnf: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    """The picture for which only the middles of the matches vote, squares of side `SHARP`."""
    middle = min(SHARP, patch_size)
    axes = []
    for length in nnf.shape[-2:]:
        place = torch.arange(length + patch_size - middle, device=nnf.device)
        patch = (place - (patch_size - middle) // 2).clamp(0, length - 1)
        axes.append((patch, (place - patch).int()))
    (rows, down), (columns, across) = axes
    moved = nnf[:, rows[:, None], columns] + torch.stack(torch.broadcast_tensors(down[:, None], across))
    return reconstruct(moved, exemplar, patch_size=middle)


def _validated_levels(levels: int | None, patch_size: int, *sizes: tuple[int, int]) -> int:
    """The number of scales asked for, if a patch fits in the coarsest; for `None`, as many as leave `COARSEST` patches."""
    shortest = min(min(size) for size in sizes)
    most = 1 + max(0, int(math.log2(shortest / patch_size)))
    if levels is None:
        return 1 + max(0, int(math.log2(shortest / (COARSEST * patch_size))))
    validate_integer(levels, name="levels", minimum=1)
    if levels > most:
        raise ValueError(f"levels is {levels}; expected at most {most}: the shortest side is {shortest} pixels, and the "
                         f"coarsest scale has to hold a patch of side {patch_size}")
    return levels
