"""Nearest-neighbour fields: what they are, and the forms in which functions and kernels hold them.

A field ψ says for every whole patch of an image, named by its first (top-left) pixel, where in the exemplar its match
begins: an int32 tensor (2, H − n + 1, W − n + 1) of absolute (row, column), or (k, 2, …) for k matches, nearest first.

Inside this folder pictures are videos with channels last, (T, H, W, C) and contiguous, as kernels read them; an exemplar has
sheets (or frames) instead of frames, (S, h, w, C); fields are (k, 3, T', H', W') of (sheet, row, column).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.runtime import generator
from labkit.validation import describe, known_pixels, validate_image, validate_integer, validate_mask, validate_patch_size

__all__ = ["Match", "as_kernel_field", "channels_last", "draw", "likelihood", "positions", "random_nnf", "shift_map", "touched",
           "typical_distance", "upper_quartile", "validate_field", "validate_patches", "whole_patches"]


@dataclass(frozen=True)
class Match:
    """A nearest-neighbour field with its distances.

    Attributes
    ----------
    nnf : int32 (2, H', W'), or (k, 2, H', W') for k > 1, nearest first; H' = H − n + 1, W' = W − n + 1.
    distance : (H', W') or (k, H', W'), the sum over the patch and the channels of squared (metric `"l1"`: absolute)
        differences; where pixels of the image are masked, the sum over the others, scaled up to a whole patch.
    history : mean distance of the start and after each iteration.
    fields : the field of the start and after each iteration, where a trace was asked for.
    transform : int8, of the shape of `distance`, the number in `TRANSFORMS` of what was done to the exemplar, where that
        was asked for: the match is the square of side n at `nnf`, seen in the transformed exemplar.
    patch_size, schedule, metric, seed : as they were given.
    """

    nnf: Tensor
    distance: Tensor
    patch_size: int
    metric: str = "l2"
    schedule: str = "exact"
    seed: int = 0
    history: list[float] = field(default_factory=list)
    fields: list[Tensor] = field(default_factory=list, repr=False)
    transform: Tensor | None = None


def random_nnf(image: Tensor, exemplar: Tensor, *, patch_size: int, exemplar_mask: Tensor | None = None,
               seed: int = 0) -> Tensor:
    """A match for every patch of the image, drawn alike from all patches of the exemplar.

    >>> labkit.patchmatch.random_nnf(torch.zeros(3, 8, 9), torch.zeros(3, 10, 7), patch_size=3).shape
    torch.Size([2, 6, 7])

    Parameters
    ----------
    image, exemplar : (C, H, W), (C, h, w); only their sizes matter.
    patch_size : side n of a patch, in pixels.
    exemplar_mask : bool (1, h, w); patches that hold a pixel where it is `True` are left out.
    seed : of the random numbers.

    Returns
    -------
    int32 tensor (2, H − n + 1, W − n + 1), on the image's device.

    Raises
    ------
    ValueError : a patch does not fit, or the mask leaves none.
    """
    if exemplar_mask is not None:
        exemplar = known_pixels(exemplar, exemplar_mask, name="exemplar", mask_name="exemplar_mask")
    validate_patches(image, exemplar, patch_size, batch=False)
    size = tuple(side - patch_size + 1 for side in image.shape[-2:])
    valid = whole_patches(exemplar, patch_size, exemplar_mask)
    return draw(valid[None], size, k=1, seed=seed).to(image.device)[0, 1:, 0]


def shift_map(nnf: Tensor) -> Tensor:
    """How far each match lies from its patch: ψ(x) − x, in pixels, as float32 of the field's shape.

    >>> labkit.patchmatch.shift_map(torch.tensor([[[2, 2]], [[0, 1]]], dtype=torch.int32)).tolist()
    [[[2.0, 2.0]], [[0.0, 0.0]]]

    Neighbouring patches mostly have neighbouring matches, so this map is nearly constant by pieces.
    """
    validate_field(nnf)
    return (nnf - positions(nnf)).float()


# --- what the modules of this folder share --------------------------------------------------------------------------

def channels_last(video: Tensor) -> Tensor:
    """(T, C, H, W) as (T, H, W, C), contiguous."""
    return video.detach().movedim(1, -1).contiguous()


def positions(nnf: Tensor) -> Tensor:
    """The (row, column) of every patch of a field itself: int32 (2, H', W')."""
    rows, columns = (torch.arange(side, dtype=torch.int32, device=nnf.device) for side in nnf.shape[-2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def as_kernel_field(nnf: Tensor) -> Tensor:
    """(k, 2, H', W') of (row, column) as (k, 3, 1, H', W') of (0, row, column)."""
    return F.pad(nnf, (0, 0, 0, 0, 1, 0))[:, :, None].int().contiguous()


def whole_patches(exemplar: Tensor, patch_size: int, mask: Tensor | None) -> Tensor:
    """Where a patch begins that holds no masked pixel: bool (h − n + 1, w − n + 1)."""
    if mask is None:
        return torch.ones([side - patch_size + 1 for side in exemplar.shape[-2:]], dtype=torch.bool, device=exemplar.device)
    validate_mask(mask, exemplar, name="exemplar_mask")
    valid = ~touched(mask.to(exemplar.device), (1, patch_size, patch_size))[0]
    if not valid.any():
        raise ValueError(f"exemplar_mask leaves no whole patch of side {patch_size} in an exemplar of "
                         f"{exemplar.shape[-2]}×{exemplar.shape[-1]} pixels; expected at least one")
    return valid


def touched(places: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Which patches hold one of these pixels: (T, H, W) to (T', H', W')."""
    found = places[None, None].float()
    for axis, side in enumerate(patch):     # one axis after the other: a sum of sides, not their product
        window = [1, 1, 1]
        window[axis] = side
        found = F.max_pool3d(found, window, stride=1)
    return found[0, 0] > 0


def draw(valid: Tensor, size: tuple[int, ...], *, k: int, seed: int) -> Tensor:
    """k different matches for each patch, all valid places alike: int32 (k, 3, 1, H', W') for a size (H', W')."""
    places = valid.cpu().nonzero().int()
    if len(places) < k:
        raise ValueError(f"k is {k} and the exemplar has {len(places)} patches to choose from; expected at most as many")
    size = size if len(size) == 3 else (1, *size)
    first = torch.randint(len(places), size, generator=generator(seed))
    chosen = torch.stack([(first + i * (len(places) // k)) % len(places) for i in range(k)])
    drawn = places[chosen].movedim(-1, 1)
    return (drawn if drawn.ndim == 5 else drawn[:, :, None]).contiguous()


def upper_quartile(distance: Tensor) -> Tensor:
    """The distance that a quarter of the matches exceed, a typical one."""
    return distance.flatten().sort().values[3 * distance.numel() // 4]


def typical_distance(distance: Tensor) -> Tensor:
    """The upper quartile, above 0."""
    return upper_quartile(distance).clamp(min=torch.finfo(distance.dtype).eps)


def likelihood(distance: Tensor, variance: Tensor | float) -> Tensor:
    """How much a match at distance d counts in a vote: exp(−d / 2σ²), σ² the variance; never 0, for pixels without better."""
    return torch.exp(-distance / (2 * variance)).clamp(min=1e-30)


def validate_patches(image: Tensor, exemplar: Tensor, patch_size: int, *, batch: bool = True,
                     names: tuple[str, str] = ("image", "exemplar")) -> None:
    """Refuse two pictures between which patches cannot be compared."""
    for one, name in zip((image, exemplar), names):
        validate_image(one, name=name, batch=batch)
        validate_patch_size(patch_size, one, name=name)
    if image.shape[-3] != exemplar.shape[-3]:
        raise ValueError(f"{names[0]} has {image.shape[-3]} channels and {names[1]} {exemplar.shape[-3]}; expected the same number")
    if (image.dtype, image.device) != (exemplar.dtype, exemplar.device):
        raise ValueError(f"{names[0]} is {image.dtype} on {image.device} and {names[1]} {exemplar.dtype} on {exemplar.device}; "
                         "expected the same dtype and device")


def validate_field(nnf: Tensor, *, image: Tensor | None = None, exemplar: Tensor | None = None,
                   patch_size: int | None = None, name: str = "nnf") -> Tensor:
    """Refuse what is no field of these pictures; returns it as (k, 2, H', W')."""
    expected = "expected an int32 tensor (2, H − n + 1, W − n + 1), or (k, 2, …) for k matches"
    if not isinstance(nnf, Tensor) or nnf.ndim not in (3, 4) or nnf.shape[-3] != 2 or nnf.numel() == 0 \
            or nnf.is_floating_point() or nnf.is_complex() or nnf.dtype == torch.bool:
        raise ValueError(f"{name} is {describe(nnf)}; {expected}")
    if patch_size is not None:
        validate_integer(patch_size, name="patch_size", minimum=1)
    if image is not None:
        size = tuple(side - patch_size + 1 for side in image.shape[-2:])
        if tuple(nnf.shape[-2:]) != size:
            raise ValueError(f"{name} is {describe(nnf)}; expected (2, {size[0]}, {size[1]}): one match for every patch of "
                             f"side {patch_size} of an image of {image.shape[-2]}×{image.shape[-1]} pixels")
    if exemplar is not None:
        validate_patch_size(patch_size, exemplar, name="exemplar")
        last = [side - patch_size for side in exemplar.shape[-2:]]
        low, high = nnf.amin((-2, -1)).reshape(-1, 2).amin(0).tolist(), nnf.amax((-2, -1)).reshape(-1, 2).amax(0).tolist()
        if min(low) < 0 or high[0] > last[0] or high[1] > last[1]:
            raise ValueError(f"{name} names matches from {tuple(low)} to {tuple(high)}; expected (0, 0) to {tuple(last)}, where a "
                             f"patch of side {patch_size} lies inside the exemplar of {exemplar.shape[-2]}×{exemplar.shape[-1]} pixels")
    return nnf.reshape(-1, *nnf.shape[-3:]).int()
