"""The checks of chapter 1 on the Gaussian and the box filter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit import filtering
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.filtering.pieces import BY_COLOR, BY_PATCHES, BY_PLACE, CLAMPED, average, space
from labkit.checks.pieces import clamped, in_place, noisy

__all__ = ["box_filter", "gaussian_filter"]


def _summed(right: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same answer, with its channels added up into one."""
    return lambda image, *rest: right(image, *rest).sum(0, keepdim=True)


# --- 1 · Gaussian filter --------------------------------------------------------------------------------------------

def _gaussian_filter(image: Tensor, sigma: float, radius: int) -> Tensor:
    return filtering.gaussian_filter(image, sigma=sigma, radius=radius, border="normalized", method="reference")


@exercise(points=2, minutes=20, reference=_gaussian_filter, withholds=(
    *BY_PLACE, *BY_COLOR, *BY_PATCHES, "scipy.ndimage.gaussian_filter",
    "scipy.ndimage.gaussian_filter1d", "skimage.filters.gaussian", "skimage.filters.difference_of_gaussians",
    "torchvision.transforms.functional.gaussian_blur", "torchvision.transforms.GaussianBlur"))
def gaussian_filter(task: Task) -> None:
    with task.property("smooths a grey picture", share=0.5):
        task.compare(task.image(14, 19, channels=1), 1.7, 4)
        task.compare(task.image(12, 9, channels=1), 0.6, 2)
    with task.property("smooths a colour picture, channel by channel, and keeps its dtype", share=0.25):
        task.compare(noisy(task.image(15, 13)), 2.3, 5)
        task.compare(task.image(11, 16, dtype=torch.float64), 1.3, 3, tolerance=1e-10)
    with task.property("works when the window is larger than the picture", share=0.25):
        task.compare(task.image(5, 7), 3.0, 9)
    with task.property("leaves a constant picture as it is, up to its border"):
        task.compare(torch.full((3, 9, 8), 0.6), 1.5, 3, expected=torch.full((3, 9, 8), 0.6))


def _one_direction(image: Tensor, sigma: float, radius: int) -> Tensor:
    return average(image, lambda dy, dx, _: space(0, dx, sigma) if dy == 0 else 0.0, radius)


def _gaussian_padded(border: str) -> Callable[[Tensor, float, int], Tensor]:
    return lambda image, sigma, radius: filtering.gaussian_filter(image, sigma=sigma, radius=radius, border=border,
                                                                  method="reference")


gaussian_filter.knows({
    "border_darkened": Mistake("pixels outside the picture count as black: the weights are divided by the same constant "
                               "everywhere, but near the border C(x) sums fewer of them", _gaussian_padded("zero"), 3),
    "border_replicated": Mistake("the edge pixels are repeated outside the picture; here only the pixels inside it count",
                                 _gaussian_padded("replicate"), 3),
    "border_mirrored": Mistake("the picture is mirrored at its border; here only the pixels inside it count",
                               _gaussian_padded("reflect"), 3),
    "not_normalised": Mistake("the weights are never divided by their sum C(x)", lambda image, sigma, radius: average(
        image, lambda dy, dx, _: space(dy, dx, sigma), radius, divisor=1.0), 2),
    "one_direction": Mistake("the picture is smoothed along its rows only; a second pass along the columns is missing",
                             _one_direction, 1),
    "half_missing": Mistake("the exponent is x²/σ²; the Gaussian has x²/(2σ²)",
                            lambda image, sigma, radius: _gaussian_filter(image, sigma / math.sqrt(2), radius), 2),
    "sigma_not_squared": Mistake("the exponent is x²/(2σ); the Gaussian has x²/(2σ²)",
                                 lambda image, sigma, radius: _gaussian_filter(image, math.sqrt(sigma), radius), 2),
    "window_too_small": Mistake("the window goes from −radius to radius − 1; `range` leaves out its end",
                                lambda image, sigma, radius: average(
                                    image, lambda dy, dx, _: space(dy, dx, sigma) * (dy < radius and dx < radius), radius), 2),
    "twice_along_rows": Mistake("both passes run along the rows; the second should run along the columns",
                                lambda image, sigma, radius: _one_direction(_one_direction(image, sigma, radius), sigma, radius), 1),
    "channels_mixed": Mistake("the colour channels are added up into one", _summed(_gaussian_filter)),
    "clamped": Mistake(CLAMPED, clamped(_gaussian_filter)),
    "writes_into_input": Mistake("the result is written over the picture that was given", in_place(_gaussian_filter)),
})


# --- 2 · Box filter -------------------------------------------------------------------------------------------------

def _box_filter(image: Tensor, radius: int) -> Tensor:
    return filtering.box_filter(image, radius=radius, border="normalized", method="reference")


@exercise(points=2, minutes=25, reference=_box_filter, withholds=(
    *BY_PLACE, *BY_COLOR, *BY_PATCHES, "torch.nn.functional.avg_pool2d", "torch.nn.AvgPool2d", "scipy.ndimage.uniform_filter",
    "scipy.ndimage.uniform_filter1d", "skimage.transform.integral_image", "skimage.transform.integrate", "skimage.filters.rank.mean"))
def box_filter(task: Task) -> None:
    with task.property("averages over the (2r + 1)² window, on grey and colour pictures", share=0.5):
        task.compare(task.image(12, 17, channels=1), 2)
        task.compare(task.image(13, 10), 1)
        task.compare(task.image(9, 14, dtype=torch.float64), 3, tolerance=1e-10)
    with task.property("works when the window is larger than the picture", share=0.25):
        task.compare(task.image(4, 6), 7)
    with task.property("gives the picture back for radius 0"):
        task.compare(task.image(6, 5), 0)
    with task.property("stays exact on a large picture", share=0.25, mistake="float32_sums"):
        task.compare(task.image(512, 512, channels=1) + 0.5, 2, tolerance=1e-5)


def _box_of(image: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """The average over rows `y + top … y + bottom` and columns `x + left … x + right`."""
    reach = max(map(abs, (top, bottom, left, right)))
    return average(image, lambda dy, dx, _: float(top <= dy <= bottom and left <= dx <= right), reach)


def _box_float32(image: Tensor, radius: int) -> Tensor:
    height, width = image.shape[-2:]
    table = torch.nn.functional.pad(image.float().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    low = [(torch.arange(side) - radius).clamp(min=0) for side in (height, width)]
    high = [(torch.arange(side) + radius + 1).clamp(max=side) for side in (height, width)]
    rows, columns = [s[:, None] for s in (low[0], high[0])], [s[None, :] for s in (low[1], high[1])]
    total = (table[:, rows[1], columns[1]] - table[:, rows[0], columns[1]] - table[:, rows[1], columns[0]]
             + table[:, rows[0], columns[0]])
    return (total / ((rows[1] - rows[0]) * (columns[1] - columns[0]))).to(image.dtype)


def _box_without_zeros(image: Tensor, radius: int) -> Tensor:
    """An integral image without its leading row and column of zeros: windows at the border lose a row or a column."""
    height, width = image.shape[-2:]
    table = image.double().cumsum(-1).cumsum(-2)
    rows, columns = torch.arange(height), torch.arange(width)
    bottom, right = (rows + radius).clamp(max=height - 1), (columns + radius).clamp(max=width - 1)
    top, left = (rows - radius - 1).clamp(min=0), (columns - radius - 1).clamp(min=0)
    area = (torch.minimum(rows + radius + 1, torch.tensor(height)) - (rows - radius).clamp(min=0))[:, None] \
        * (torch.minimum(columns + radius + 1, torch.tensor(width)) - (columns - radius).clamp(min=0))[None, :]
    total = (table[:, bottom][:, :, right] - table[:, top][:, :, right] - table[:, bottom][:, :, left]
             + table[:, top][:, :, left])
    return (total / area).to(image.dtype)


box_filter.knows({
    "not_normalised": Mistake("the window is summed but never divided by its area", lambda image, radius: average(
        image, lambda dy, dx, _: 1.0, radius, divisor=1.0), 2),
    "constant_area": Mistake("the sum is divided by (2r + 1)² everywhere; near the border the window holds fewer pixels",
                             lambda image, radius: average(image, lambda dy, dx, _: 1.0, radius,
                                                            divisor=(2 * radius + 1) ** 2), 3),
    "window_too_small": Mistake("the window has side 2r, it should have 2r + 1: the end of a slice is not in it",
                                lambda image, radius: _box_of(image, -radius, radius - 1, -radius, radius - 1), 2),
    "window_misses_start": Mistake("the window has side 2r, it should have 2r + 1: its first row and column are left out",
                                   lambda image, radius: _box_of(image, 1 - radius, radius, 1 - radius, radius), 2),
    "window_too_large": Mistake("the window has side 2r + 3, it should have 2r + 1",
                                lambda image, radius: _box_filter(image, radius + 1), 2),
    "not_centred": Mistake("the window starts at the pixel instead of having it in its middle",
                           lambda image, radius: _box_of(image, 0, 2 * radius, 0, 2 * radius), 2),
    "no_leading_zeros": Mistake("the integral image has no leading row and column of zeros, so the windows that touch the "
                                "top or the left border lose their first row or column", _box_without_zeros, 2),
    "one_direction": Mistake("the average runs along the rows only", lambda image, radius: _box_of(image, 0, 0, -radius, radius), 1),
    "float32_sums": Mistake("the integral image is summed in float32: its corner holds the sum of all pixels, and the small "
                            "difference of four such sums has lost its last digits; accumulate in float64", _box_float32, 3),
    "channels_mixed": Mistake("the colour channels are added up into one", _summed(_box_filter)),
    "writes_into_input": Mistake("the result is written over the picture that was given", in_place(_box_filter)),
})
