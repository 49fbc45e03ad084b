"""What is compared with what, as plain data: the patches that want a match, those that may be one, and their distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.filtering.arrays import as_floats
from labkit.images import to_grey, to_lab
from labkit.patchmatch.fields import channels_last, draw, touched, validate_patches, whole_patches
from labkit.patchmatch.sheets import filled, transformed, turned, validate_transforms
from labkit.validation import known_pixels, size_of, validate_choice

__all__ = ["METRICS", "Matching", "describe_completion", "describe_matching", "metric_channels", "random_field", "video_channels"]

METRICS = ("l2", "l1", "lab", "gradient")
GRADIENT_WEIGHT = 5.0           # the α of thesis III.4.1


@dataclass(frozen=True)
class Matching:
    """What is compared with what, in the kernels' layout: contiguous videos with channels last, masks, sizes.

    Attributes
    ----------
    image (T, H, W, C), exemplar (S, h, w, C) : channels between which the distance is a plain ℓ2 or ℓ1.
    valid : bool (S', h', w'), where a match may begin. active : bool (T', H', W'), where one is wanted.
    weights : of the image's shape, or `None`.
    prices : (2, S', h', w') or `None`: gain g > 0 and bias b of every patch of the exemplar, whose distance is then g · d + b.
    scale : (H', W') or 1.0, from the sum over the pixels that count to that over a whole patch.
    depth, side : of a patch, in frames and pixels. absolute : ℓ1 instead of ℓ2.
    names : transforms of the exemplar's sheets, or `None`.
    method : `"kernel"`, where there are kernels, or `"reference"`.
    """

    image: Tensor
    exemplar: Tensor
    valid: Tensor
    active: Tensor
    depth: int
    side: int
    absolute: bool = False
    weights: Tensor | None = None
    prices: Tensor | None = None
    scale: Tensor | float = 1.0
    names: tuple[str, ...] | None = None
    method: str = "kernel"


def describe_matching(image: Tensor, exemplar: Tensor, *, patch_size: int, metric: str = "l2", image_mask: Tensor | None = None,
                      exemplar_mask: Tensor | None = None, transforms: tuple[str, ...] | None = None,
                      method: str = "kernel") -> Matching:
    """All patches of a picture (C, H, W), matched with those of an exemplar (C, h, w); validated."""
    if image_mask is not None:
        image = known_pixels(image, image_mask, mask_name="image_mask")
    if exemplar_mask is not None:
        exemplar = known_pixels(exemplar, exemplar_mask, name="exemplar", mask_name="exemplar_mask")
    validate_patches(image, exemplar, patch_size, batch=False)
    validate_choice(metric, name="metric", choices=METRICS)
    validate_choice(method, name="method", choices=("kernel", "reference"))
    if metric == "lab" and image.shape[0] != 3:
        raise ValueError(f"metric is 'lab' and image has {image.shape[0]} channels; expected 3, red, green and blue")
    valid = whole_patches(exemplar, patch_size, exemplar_mask)[None]
    sheets = metric_channels(exemplar, metric, exemplar_mask)[None]
    if transforms is not None:
        transforms = validate_transforms(transforms)
        # Derivatives are taken after the picture is turned: horizontal and vertical change places with it.
        height, width = exemplar.shape[-2:]
        inside = transformed(exemplar.new_ones(1, height, width), transforms)
        if exemplar_mask is not None:
            inside = inside * transformed((~exemplar_mask).to(exemplar), transforms)
        valid = F.max_pool2d(1 - inside, patch_size, stride=1)[:, 0] == 0
        masks = [None if exemplar_mask is None else turned(exemplar_mask, name) for name in transforms]
        sheets = torch.stack([filled(metric_channels(turned(exemplar, name), metric, mask), size_of(inside))
                              for name, mask in zip(transforms, masks)])
    weights, scale = None, 1.0
    if image_mask is not None:
        known = (~image_mask).to(sheets)
        share = F.avg_pool2d(known.double(), patch_size, stride=1)[0]
        scale = torch.where(share > 0, 1 / share.clamp(min=1 / (2 * patch_size ** 2)), 1.0).to(sheets)
        weights = channels_last(known.expand(sheets.shape[1], -1, -1)[None])
    of_image = metric_channels(image, metric, image_mask)[None]
    active = torch.ones([1] + [side - patch_size + 1 for side in image.shape[-2:]], dtype=torch.bool, device=image.device)
    return Matching(channels_last(of_image), channels_last(sheets), valid.contiguous(), active, 1, patch_size, metric == "l1",
                    weights, None, scale, transforms, method)


def describe_completion(video: Tensor, hole: Tensor, *, depth: int, side: int, metric: str = "l2") -> Matching:
    """The patches of a video (T, H, W, C) that touch its hole (T, H, W), matched with those that do not."""
    seen, active = video_channels(video, metric), touched(hole, (depth, side, side))
    # a copy: while the hole is filled, what may be copied from stays as it is
    return Matching(seen, seen.clone(), (~active).contiguous(), active.contiguous(), depth, side, metric == "l1")


def random_field(matching: Matching, *, k: int = 1, seed: int) -> Tensor:
    """k different matches drawn at random for every patch: the kernels' field (k, 3, T', H', W')."""
    return draw(matching.valid, tuple(matching.active.shape), k=k, seed=seed).to(matching.image.device)


def metric_channels(image: Tensor, metric: str, mask: Tensor | None = None) -> Tensor:
    """The picture (…, C, H, W) as channels between which the metric is a plain sum, float32 or float64.

    No derivative looks at another pixel where `mask` (1, H, W) is `True`.
    """
    working = as_floats(image.detach())
    if metric == "lab":
        return to_lab(working) / 100
    if metric == "gradient":
        intensity = to_grey(working) if working.shape[-3] == 3 else working.mean(-3, keepdim=True)
        down, across = (_derivative(intensity, axis, mask).abs() for axis in (-2, -1))
        return torch.cat([working, math.sqrt(GRADIENT_WEIGHT) * down, math.sqrt(GRADIENT_WEIGHT) * across], -3)
    return working


def video_channels(video: Tensor, metric: str) -> Tensor:
    """The channels (T, H, W, C′) of a video (T, H, W, C); for the plain metrics the video itself, not a copy."""
    return channels_last(metric_channels(video.movedim(-1, 1), metric))


def _derivative(intensity: Tensor, axis: int, mask: Tensor | None) -> Tensor:
    """Central differences; a neighbour beyond the border, or masked, counts as the pixel itself."""
    size = intensity.shape[axis]
    before, after = ((torch.arange(size, device=intensity.device) + step).clamp(0, size - 1) for step in (-1, 1))
    first, second = intensity.index_select(axis, before), intensity.index_select(axis, after)
    if mask is not None:
        mask = mask.to(intensity.device)
        first = torch.where(mask.index_select(axis, before), intensity, first)
        second = torch.where(mask.index_select(axis, after), intensity, second)
    return (second - first) / 2
