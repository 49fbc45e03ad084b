"""What the checks of chapter 1 share: what a grader hides, and pieces that right and wrong answers are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from labkit import images

__all__ = ["BY_COLOR", "BY_PATCHES", "BY_PLACE", "CLAMPED", "average", "space"]


# --- what a grader hides --------------------------------------------------------------------------------------------
# Many of labkit's filters contain others: a bilateral filter with a huge h is a Gaussian, one with both huge is a box.

BY_PATCHES = tuple(f"labkit.filtering.{name}" for name in ("nonlocal_means", "nonlocal_attention"))
BY_COLOR = tuple(f"labkit.filtering.{name}" for name in ("bilateral_filter", "cross_bilateral_filter",
                                                         "rolling_guidance_filter", "weights_at"))
BY_PLACE = (*(f"labkit.filtering.{name}" for name in ("gaussian_filter", "difference_of_gaussians", "gaussian_kernel",
                                                      "box_filter", "linear.box_mean", "guided_filter")),
            "labkit.operators.Blur")


# --- pieces that the wrong answers are made of ----------------------------------------------------------------------

CLAMPED = "the result is clipped to [0, 1]; noise leaves that range on both sides, and clipping it would bias the averages"


def _neighbours(image: Tensor, radius: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """For every offset of the window: the offset, the image seen there, and 1 where that pixel is inside, else 0."""
    height, width = image.shape[-2:]
    padded = images.pad(image, amount=radius, border="zero")
    inside = images.pad(torch.ones_like(image[:1]), amount=radius, border="zero")
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            rows, columns = slice(radius + dy, radius + dy + height), slice(radius + dx, radius + dx + width)
            yield dy, dx, padded[:, rows, columns], inside[:, rows, columns]


def average(image: Tensor, weight: Callable[[int, int, Tensor], Tensor | float], radius: int, *, guide: Tensor | None = None,
            outside_counts: bool = False, divisor: float | None = None) -> Tensor:
    """A weighted average over the window; `weight(dy, dx, guide seen at that offset)` is where answers differ."""
    guide = image if guide is None else guide
    total, norm = torch.zeros_like(image), torch.zeros_like(image)
    for (dy, dx, seen, inside), (_, _, guide_seen, _) in zip(_neighbours(image, radius), _neighbours(guide, radius)):
        w = weight(dy, dx, guide_seen) * (1.0 if outside_counts else inside)
        total, norm = total + w * seen, norm + w
    return total / (norm if divisor is None else divisor)


def space(dy: int, dx: int, sigma: float) -> float:
    """The weight that a Gaussian gives to an offset, before it is normalised."""
    return math.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma))
