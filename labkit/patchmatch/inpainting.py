"""Filling holes so that every patch there looks like a known one: the multi-scale patch energy.

With M the hole, the energy is E(u, ψ) = Σ ‖p_u(x) − p_u(ψ(x))‖² over the patches x that touch M, with matches ψ(x) among
those that do not. Two steps lower it in turn: find the matches (PatchMatch), and replace the pixels of the hole by the
mean of what the matches say about them (voting). From coarse to fine, since at a coarse scale a patch sees across the
hole; between scales the matches are carried over, not the blurred pixels.

References
----------
Wexler, Shechtman, Irani, "Space-Time Completion of Video", PAMI 2007. Newson, Almansa, Fradet, Gousseau, Pérez, "Video
Inpainting of Complex Scenes", SIAM J. Imaging Sciences 2014, and "Non-Local Patch-Based Image Inpainting", IPOL 2017.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.filtering.arrays import as_floats
from labkit.patchmatch.fields import channels_last, likelihood, touched, upper_quartile
from labkit.patchmatch.iterate import searched
from labkit.patchmatch.matching import METRICS, Matching, describe_completion, random_field, video_channels
from labkit.patchmatch.scales import carried_over
from labkit.patchmatch.voting import vote
from labkit.pyramids import coarse_size, downsample
from labkit.runtime import seed_of
from labkit.validation import describe, known_pixels, validate_choice, validate_image, validate_integer, validate_seed

__all__ = ["inpaint", "inpaint_video"]

SEARCHES = 2            # iterations of PatchMatch, forwards and backwards, before each vote
STILL = 1e-3            # mean change of a pixel of the hole below which a scale is finished, a quarter of a grey level of 256
FEWEST_PATCHES = 32     # known patches that the coarsest scale must have

# How sharply matches are weighed by their distance, tried on photographs and textures: soft votes join structures, sharp
# ones keep texture, so votes sharpen by a factor each round, and start sharper at the two finest scales.
SHARP, SHARPEN, SHARPEST = 0.3, 0.8, 0.2
CONFIDENCE, DEEPEST = 2.0, 20.0


def inpaint(image: Tensor, mask: Tensor, *, patch_size: int = 7, levels: int | None = None, iterations: int = 10,
            metric: str = "l2", seed: int = 0) -> Tensor:
    """Fill the missing pixels of an image with patches of the rest.

    >>> stripes = torch.tensor([0.0, 0.5, 1.0]).repeat(8).expand(1, 24, 24)
    >>> hole = torch.zeros(1, 24, 24, dtype=torch.bool)
    >>> hole[:, 9:14, 9:14] = True
    >>> filled = labkit.patchmatch.inpaint(torch.where(hole, 0, stripes), hole, patch_size=5)
    >>> torch.allclose(filled, stripes, atol=1e-3)
    True

    Parameters
    ----------
    image : (C, H, W) in [0, 1]; values under the mask have no influence, not even NaN.
    mask : bool (1, H, W), `True` where pixels are missing.
    patch_size : side of a patch, in pixels, at least 2; larger ones copy larger structures.
    levels : number of scales, each half the size of the next; `None` takes as many as bring the hole down to the size of
        a patch.
    iterations : most rounds of search and vote at each scale; fewer when nothing changes any more.
    metric : of the patches, as in `patchmatch`; `"gradient"` tells textures of the same colour apart.
    seed : of the random search.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`; known pixels are returned as they were, to the bit.

    Raises
    ------
    ValueError : sizes that do not fit, or a mask that leaves too few whole patches to copy from.
    """
    known_pixels(image, mask)
    return _filled(image[None], mask, 1, patch_size, levels, iterations, metric, seed)[0]


def inpaint_video(video: Tensor, mask: Tensor, *, patch_size: int = 5, patch_depth: int = 3, levels: int | None = None,
                  iterations: int = 10, metric: str = "l2", seed: int = 0) -> Tensor:
    """Fill the missing pixels of a video with blocks of the rest, so that motion goes on as well.

    >>> stripes = torch.tensor([0.0, 0.5, 1.0]).repeat(8).expand(3, 1, 24, 24)
    >>> hole = torch.zeros(3, 1, 24, 24, dtype=torch.bool)
    >>> hole[1, :, 9:14, 9:14] = True
    >>> filled = labkit.patchmatch.inpaint_video(torch.where(hole, 0, stripes), hole)
    >>> torch.allclose(filled, stripes, atol=1e-3)
    True

    Parameters
    ----------
    video : (T, C, H, W) in [0, 1]; values under the mask have no influence, not even NaN.
    mask : bool (T, 1, H, W), `True` where pixels are missing.
    patch_size, patch_depth : side of a patch in pixels, and its length in frames.
    levels, iterations, metric, seed : as in `inpaint`; scales halve height and width, not time.

    Returns
    -------
    Tensor of the shape, dtype and device of `video`; known pixels are returned as they were, to the bit.

    Raises
    ------
    ValueError : as `inpaint`.
    """
    if not isinstance(video, Tensor) or video.ndim != 4:
        raise ValueError(f"video is {describe(video)}; expected a floating-point tensor (T, C, H, W)")
    validate_image(video, name="video", finite=False)
    frames, _, height, width = video.shape
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != (frames, 1, height, width):
        raise ValueError(f"mask is {describe(mask)}; expected a boolean tensor ({frames}, 1, {height}, {width}), True where "
                         "pixels are missing")
    validate_image(torch.where(mask.to(video.device), 0, video), name="video")
    return _filled(video, mask[:, 0], patch_depth, patch_size, levels, iterations, metric, seed)


def _filled(video: Tensor, hole: Tensor, depth: int, side: int, levels: int | None, iterations: int, metric: str,
            seed: int) -> Tensor:
    """The video with its hole (T, H, W) filled."""
    # a patch of one pixel sees nothing of what surrounds a missing one
    validate_integer(side, name="patch_size", minimum=2, maximum=min(video.shape[-2:]))
    validate_integer(depth, name="patch_depth", minimum=1, maximum=len(video))
    validate_integer(iterations, name="iterations", minimum=1)
    validate_seed(seed)
    validate_choice(metric, name="metric", choices=METRICS)
    if levels is not None:
        validate_integer(levels, name="levels", minimum=1)
    hole = hole.to(video.device)
    if not hole.any():
        return video.clone()
    if touched(hole, (depth, side, side)).all():
        frames, _, height, width = video.shape
        raise ValueError(f"mask leaves no whole patch of {side}×{side} pixels {f'and {depth} frames ' if frames > 1 else ''}in "
                         f"{height}×{width} pixels{f' and {frames} frames' if frames > 1 else ''}; expected at least one to copy from")
    working = as_floats(video.detach())
    patch = (depth, side, side)
    scales = _scales(torch.where(hole[:, None], 0, working), hole, patch, levels)
    field = coarse = None
    for number, (picture, missing) in reversed(list(enumerate(scales))):
        picture = channels_last(picture)
        matching = describe_completion(picture, missing, depth=depth, side=side, metric=metric)
        if field is None:
            field = _peel(matching, picture, missing, metric, seed)
        else:
            field = _carried_over(field, matching, coarse, seed)
        coarse = picture.shape[1:3]
        softness = 1.0 if number > 1 else SHARP
        field = _alternate(matching, picture, missing, field, metric, iterations, softness, seed_of(seed, number))
    return torch.where(hole[:, None], picture.movedim(-1, 1).to(video.dtype), video)


def _scales(video: Tensor, hole: Tensor, patch: tuple[int, int, int], levels: int | None) -> list[tuple[Tensor, Tensor]]:
    """(video, hole) from fine to coarse. A coarse pixel is the mean of the known ones, and missing where most are."""
    scales, wanted = [(video, hole)], levels or _levels(hole, patch[1])
    while len(scales) < wanted:
        video, hole = scales[-1]
        if coarse_size(*video.shape[-2:], ratio=2) == tuple(video.shape[-2:]):
            break
        known = downsample((~hole[:, None]).to(video), ratio=2)
        video, hole = downsample(video, ratio=2) / known.clamp(min=1e-3), known[:, 0] < 0.5
        video = torch.where(hole[:, None], 0, video)
        if min(video.shape[-2:]) < patch[1] or int((~touched(hole, patch)).sum()) < FEWEST_PATCHES or not hole.any():
            break
        scales.append((video, hole))
    return scales


def _levels(hole: Tensor, side: int) -> int:
    """How many halvings make the widest place of the hole as wide as a patch, and one."""
    radius = max(float(_depths(frame[None]).max()) for frame in hole)
    return 1 + max(0, math.ceil(math.log2(2 * radius / side)))


def _depths(hole: Tensor) -> Tensor:
    """How far every pixel of the hole (T, H, W) is from the next known one, in pixels and frames; 0 for known ones."""
    from scipy.ndimage import distance_transform_edt

    depths = torch.zeros(hole.shape, dtype=torch.float64, device=hole.device)
    places = hole.nonzero()
    if len(places):     # the rest of a large picture would take most of the time
        box = tuple(slice(max(0, int(low) - 1), int(high) + 2) for low, high in zip(places.amin(0), places.amax(0)))
        depths[box] = torch.from_numpy(distance_transform_edt(hole[box].cpu().numpy())).to(hole.device)
    return depths


def _peel(matching: Matching, picture: Tensor, missing: Tensor, metric: str, seed: int) -> Tensor:
    """A first filling of the coarsest scale, written into `picture`, from the border of the hole inwards.

    Each round fills the missing pixels that have a known neighbour, by patches that are compared where they are known.
    """
    patch, known = (matching.depth, matching.side, matching.side), ~missing
    field = random_field(matching, seed=seed)
    number = 0
    while not known.all():
        layer = ~known & (F.max_pool3d(known[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0)
        share = F.avg_pool3d(known[None, None].to(picture), patch, stride=1)[0, 0]
        active = (touched(layer, patch) & (share > 0)).contiguous()    # of the others nothing is known
        weights = known.to(picture)[..., None].expand(matching.image.shape).contiguous()
        here = replace(matching, image=video_channels(picture, metric), active=active, weights=weights)
        field, distance = searched(here, field, iterations=2 * SEARCHES, seed=seed_of(seed, number))
        votes = share * _likelihood(distance[0] / share.clamp(min=1e-6), active, 1.0)
        filled = vote(picture, field, layer, depth=matching.depth, side=matching.side, weights=votes[None], method=matching.method)
        picture[layer] = filled[layer]
        known, number = known | layer, number + 1
    return field


def _alternate(matching: Matching, picture: Tensor, missing: Tensor, field: Tensor, metric: str, iterations: int,
               softness: float, seed: int) -> Tensor:
    """Search and vote in turn at one scale; writes the pixels of the hole into `picture`.

    The votes grow sharper from round to round: at first many patches agree on where structures go on, at last few copy
    the texture as it is, which their mean would blur.
    """
    confidence = _confidence(missing, matching)
    votes = confidence
    for number in range(iterations + 1):
        filled = vote(picture, field, missing, depth=matching.depth, side=matching.side, weights=votes[None],
                      method=matching.method)[missing]
        change = float((filled - picture[missing]).abs().mean())
        picture[missing] = filled
        if number == iterations or (number > 1 and change < STILL):
            break
        matching = replace(matching, image=video_channels(picture, metric))
        field, distance = searched(matching, field, iterations=SEARCHES, seed=seed_of(seed, number))
        sharpness = softness * max(SHARPEST, SHARPEN ** (number + 1))
        votes = (confidence * _likelihood(distance[0], matching.active, sharpness)).clamp(min=torch.finfo(distance.dtype).tiny)
    return field


def _likelihood(distance: Tensor, active: Tensor, softness: float) -> Tensor:
    """How much a match counts for its distance d: exp(−d / 2σ²), with σ² `softness` times the upper quartile of d."""
    return torch.where(active, likelihood(distance, softness * upper_quartile(distance[active]).clamp(min=1e-8)), 0)


def _confidence(missing: Tensor, matching: Matching) -> Tensor:
    """How much a patch counts for its place: half as much for every pixel that its centre lies deeper in the hole.

    Without it the patches inside, which agree with each other, outvote those at the border, which see known pixels.
    """
    depth = _depths(missing).to(matching.image)
    for axis, (size, side) in enumerate(zip(matching.active.shape, (matching.depth, matching.side, matching.side))):
        depth = depth.narrow(axis, side // 2, size)
    return CONFIDENCE ** -depth.clamp(max=DEEPEST)


def _carried_over(field: Tensor, matching: Matching, coarse: tuple[int, int], seed: int) -> Tensor:
    """The matches of a scale of `coarse` pixels for this one; where they would touch the hole, drawn anew."""
    fine = tuple(matching.image.shape[1:3])
    found, _ = carried_over(field, patch_size=matching.side, size=fine, coarse_size=coarse, exemplar_size=fine,
                            coarse_exemplar_size=coarse)
    drawn = random_field(matching, seed=seed)
    allowed = matching.valid[tuple(found[:, axis].long() for axis in range(3))]
    return torch.where(allowed[:, None], found, drawn).contiguous()
