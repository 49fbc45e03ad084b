"""The check of chapter 1 on non-local means."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit import filtering, images
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.filtering.pieces import BY_PATCHES
from labkit.checks.pieces import in_place

__all__ = ["nonlocal_means"]


# --- 7 · Non-local means --------------------------------------------------------------------------------------------

def _nonlocal_means(image: Tensor, patch_size: int, window_size: int, h: float, sigma: float) -> Tensor:
    return filtering.nonlocal_means(image, patch_size=patch_size, window_size=window_size, h=h, sigma=sigma,
                                    method="reference")


@exercise(points=3, minutes=35, reference=_nonlocal_means, withholds=(
    *BY_PATCHES, "labkit.filtering.weights_at", "skimage.restoration.denoise_nl_means"))
def nonlocal_means(task: Task) -> None:
    with task.property("averages pixels whose patches look alike, in grey", share=0.35):
        task.compare(task.image(12, 10, channels=1), 3, 5, 0.2, 0.0)
        task.compare(task.image(9, 13, channels=1), 5, 7, 0.15, 0.05)
    with task.property("compares colour patches in all channels at once", share=0.35):
        task.compare(task.image(11, 9), 3, 5, 0.25, 0.05)
        task.compare(task.image(8, 10, dtype=torch.float64), 3, 7, 0.12, 0.08, tolerance=1e-9)
    with task.property("works when the window is larger than the picture", share=0.3):
        task.compare(task.image(6, 5), 3, 15, 0.3, 0.02)
    with task.property("leaves a constant picture as it is"):
        task.compare(torch.full((3, 7, 8), 0.4), 3, 5, 0.1, 0.0, expected=torch.full((3, 7, 8), 0.4))


def _means_by(weight: Callable[[Tensor, float, float], Tensor] | None = None, *, border: str = "reflect", total: bool = False,
              per_channel: bool = False, skip_centre: bool = False, average_patches: bool = True) -> Callable[..., Tensor]:
    """Another non-local means; `weight(d², h, σ)` and the distance itself are where answers differ."""
    def variant(image: Tensor, patch_size: int, window_size: int, h: float, sigma: float) -> Tensor:
        u, half = image.double(), patch_size // 2
        channels, height, width = u.shape
        around = images.pad(u, amount=half, border=border)
        ones = torch.ones(1, 1, patch_size, patch_size, dtype=u.dtype)
        top, bottom = torch.zeros_like(u), torch.zeros_like(u)
        reach = window_size // 2
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if abs(dy) >= height or abs(dx) >= width or (skip_centre and dy == dx == 0):
                    continue
                here = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
                there = (slice(max(0, dy), height - max(0, -dy)), slice(max(0, dx), width - max(0, -dx)))
                grow = lambda s: (slice(s[0].start, s[0].stop + 2 * half), slice(s[1].start, s[1].stop + 2 * half))
                squared = (around[(slice(None), *grow(here))] - around[(slice(None), *grow(there))]).square()
                d2 = torch.nn.functional.conv2d(squared[:, None], ones)[:, 0]
                d2 = d2 / (1 if total else patch_size ** 2)
                d2 = d2 if per_channel else d2.sum(0, keepdim=True) / (1 if total else channels)
                w = torch.exp(-(d2 - 2 * sigma ** 2).clamp(min=0) / h ** 2) if weight is None else weight(d2, h, sigma)
                top[(slice(None), *here)] += w * u[(slice(None), *there)]
                bottom[(slice(None), *here)] += w
        return (top / bottom if average_patches else top).to(image.dtype)
    return variant


def _means_outside(image: Tensor, patch_size: int, window_size: int, h: float, sigma: float) -> Tensor:
    """All offsets of the window, also those that lead out of the picture, where pixels and patches are 0."""
    u, reach = image.double(), window_size // 2
    height, width = u.shape[-2:]
    mirrored = images.pad(u, amount=patch_size // 2, border="reflect")
    own = torch.nn.functional.unfold(mirrored[None], patch_size).reshape(-1, height, width)
    values, others = images.pad(u, amount=reach, border="zero"), images.pad(own, amount=reach, border="zero")
    total, norm = torch.zeros_like(u), torch.zeros_like(u[:1])
    for dy in range(window_size):
        for dx in range(window_size):
            there = (slice(None), slice(dy, dy + height), slice(dx, dx + width))
            w = torch.exp(-((others[there] - own).square().mean(0, keepdim=True) - 2 * sigma ** 2).clamp(min=0) / h ** 2)
            total, norm = total + w * values[there], norm + w
    return (total / norm).to(image.dtype)


nonlocal_means.knows({
    "sum_not_mean": Mistake("d² is summed over the patch; it is the mean over its pixels and channels", _means_by(total=True), 2),
    "channels_summed": Mistake("d² is summed over the channels; it is the mean over the patch and the channels",
                               lambda image, n, w, h, sigma: _means_by(lambda d2, h, s: torch.exp(
                                   -(image.shape[0] * d2 - 2 * s ** 2).clamp(min=0) / h ** 2))(image, n, w, h, sigma), 2),
    "per_channel": Mistake("every channel has weights of its own; the patches are compared in colour, with one weight for all",
                           _means_by(per_channel=True), 2),
    "sigma_ignored": Mistake("2σ² has no effect: it is not subtracted from d², or it is subtracted without max(·, 0), and "
                             "the constant factor exp(2σ²/h²) then cancels in the normalisation",
                             _means_by(lambda d2, h, s: torch.exp(-d2 / h ** 2)), 3),
    "sigma_not_squared": Mistake("2σ is subtracted instead of 2σ²",
                                 _means_by(lambda d2, h, s: torch.exp(-(d2 - 2 * s).clamp(min=0) / h ** 2)), 3),
    "sigma_once": Mistake("σ² is subtracted instead of 2σ²: both patches are noisy",
                          _means_by(lambda d2, h, s: torch.exp(-(d2 - s ** 2).clamp(min=0) / h ** 2)), 3),
    "h_not_squared": Mistake("the exponent is divided by h instead of h²",
                             _means_by(lambda d2, h, s: torch.exp(-(d2 - 2 * s ** 2).clamp(min=0) / h)), 3),
    "extra_half": Mistake("the exponent is divided by 2h²; here it is h²",
                          _means_by(lambda d2, h, s: torch.exp(-(d2 - 2 * s ** 2).clamp(min=0) / (2 * h ** 2))), 3),
    "distance_not_squared": Mistake("the distance of the patches is not squared",
                                    _means_by(lambda d2, h, s: torch.exp(-(d2.sqrt() - 2 * s ** 2).clamp(min=0) / h ** 2)), 2),
    "not_normalised": Mistake("the weighted sum is never divided by the sum of the weights", _means_by(average_patches=False), 1),
    "patches_of_zeros": Mistake("patches at the border are completed with zeros; the picture is mirrored there",
                                _means_by(border="zero")),
    "outside_counts": Mistake("pixels outside the picture are averaged in as black ones", _means_outside, 3),
    "centre_left_out": Mistake("the pixel itself is left out of its own average", _means_by(skip_centre=True), 1),
    "window_is_radius": Mistake("window_size is used as a radius; it is the side of the window",
                                lambda image, n, w, h, sigma: _nonlocal_means(image, n, 2 * w + 1, h, sigma), 1),
    "patch_is_radius": Mistake("patch_size is used as a radius; it is the side of the patch",
                               lambda image, n, w, h, sigma: _means_by()(image, 2 * n + 1, w, h, sigma), 2),
    "patch_ignored": Mistake("single pixels are compared instead of patches",
                             lambda image, n, w, h, sigma: _nonlocal_means(image, 1, w, h, sigma), 2),
    "writes_into_input": Mistake("the result is written over the picture that was given", in_place(_nonlocal_means)),
})
