"""A picture in another's manner: made of patches of the style where the content has the like."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.images import match_colors, pad
from labkit.patchmatch.fields import Match, typical_distance, validate_patches
from labkit.patchmatch.scales import upsample_nnf, validate_levels
from labkit.patchmatch.search import patchmatch
from labkit.patchmatch.voting import reconstruct, vote_of_middles
from labkit.pyramids import gaussian_pyramid
from labkit.runtime import generator, seed_of
from labkit.validation import size_of, validate_integer, validate_number, validate_seed

__all__ = ["stylize"]

SMALLEST_SLOPE = 1e-3       # a picture whose steepest slope is below this has no contours
CHOICES = 8                 # how often the patches choose among their matches


def stylize(content: Tensor, style: Tensor, *, patch_size: int = 5, levels: int | None = None, iterations: int = 2,
            k: int = 5, reuse_penalty: float = 1.0, content_weight: float = 0.1, contour_weight: float = 0.5,
            recolor: bool = True, seed: int = 0) -> Tensor:
    """A picture of the content that is made of patches of the style.

    >>> content, style = torch.rand((2, 3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.patchmatch.stylize(content, style, iterations=1).shape
    torch.Size([3, 24, 24])

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
    levels = validate_levels(levels, patch_size, size_of(content), size_of(style))
    validate_integer(iterations, name="iterations", minimum=1)
    validate_integer(k, name="k", minimum=1)
    validate_seed(seed)
    validate_number(reuse_penalty, name="reuse_penalty", minimum=0)
    validate_number(content_weight, name="content_weight", minimum=0, maximum=1)
    validate_number(contour_weight, name="contour_weight", minimum=0, maximum=1)
    contents = gaussian_pyramid(match_colors(content, reference=style) if recolor else content, levels=levels)
    styles = gaussian_pyramid(style, levels=levels)
    picture, nnf = contents[-1], None
    for level in reversed(range(levels)):
        guide, exemplar = contents[level], styles[level]
        if nnf is not None:
            nnf = upsample_nnf(nnf, patch_size=patch_size, image_size=size_of(guide),
                               exemplar_size=size_of(exemplar),
                               coarse_exemplar_size=size_of(styles[level + 1]))
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
    return vote_of_middles(nnf, style, patch_size)


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
    price = penalty * typical_distance(match.distance[0]) * places[0] * places[1] / number[0].numel()
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
