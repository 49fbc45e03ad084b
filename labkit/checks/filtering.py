"""The checks of chapter 1: nine filters, and what students get wrong about each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from labkit import filtering, images, patches
from labkit.checks.engine import Mistake, Task, exercise


# --- what a grader hides --------------------------------------------------------------------------------------------
# Many of labkit's filters contain others: a bilateral filter with a huge h is a Gaussian, one with both huge is a box.

_BY_PATCHES = tuple(f"labkit.filtering.{name}" for name in ("nonlocal_means", "nonlocal_attention"))
_BY_COLOR = tuple(f"labkit.filtering.{name}" for name in ("bilateral_filter", "cross_bilateral_filter",
                                                          "rolling_guidance_filter", "weights_at"))
_BY_PLACE = (*(f"labkit.filtering.{name}" for name in ("gaussian_filter", "difference_of_gaussians", "gaussian_kernel",
                                                       "box_filter", "linear.box_mean", "guided_filter")),
             "labkit.operators.Blur")


# --- pieces that the wrong answers are made of ----------------------------------------------------------------------

def _neighbours(image: Tensor, radius: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """For every offset of the window: the offset, the image seen there, and 1 where that pixel is inside, else 0."""
    height, width = image.shape[-2:]
    padded = images.pad(image, amount=radius, border="zero")
    inside = images.pad(torch.ones_like(image[:1]), amount=radius, border="zero")
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            rows, columns = slice(radius + dy, radius + dy + height), slice(radius + dx, radius + dx + width)
            yield dy, dx, padded[:, rows, columns], inside[:, rows, columns]


def _average(image: Tensor, weight: Callable[[int, int, Tensor], Tensor | float], radius: int, *, guide: Tensor | None = None,
             outside_counts: bool = False, divisor: float | None = None) -> Tensor:
    """A weighted average over the window; `weight(dy, dx, guide seen at that offset)` is where answers differ."""
    guide = image if guide is None else guide
    total, norm = torch.zeros_like(image), torch.zeros_like(image)
    for (dy, dx, seen, inside), (_, _, guide_seen, _) in zip(_neighbours(image, radius), _neighbours(guide, radius)):
        w = weight(dy, dx, guide_seen) * (1.0 if outside_counts else inside)
        total, norm = total + w * seen, norm + w
    return total / (norm if divisor is None else divisor)


def _space(dy: int, dx: int, sigma: float) -> float:
    return math.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma))


def _in_place(right: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same answer, written into the first argument."""
    return lambda image, *rest: image.copy_(right(image, *rest))


def _clamped(right: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same answer, clipped to [0, 1]."""
    return lambda image, *rest: right(image, *rest).clamp(0, 1)


_CLAMPED = "the result is clipped to [0, 1]; noise leaves that range on both sides, and clipping it would bias the averages"


def _wide(image: Tensor) -> Tensor:
    """A picture with values below 0 and above 1, as a noisy one has."""
    return 2 * image - 0.5


def _summed(right: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same answer, with its channels added up into one."""
    return lambda image, *rest: right(image, *rest).sum(0, keepdim=True)


# --- 1 · Gaussian filter --------------------------------------------------------------------------------------------

def _gaussian(image: Tensor, sigma: float, radius: int) -> Tensor:
    return filtering.gaussian_filter(image, sigma=sigma, radius=radius, border="normalized", method="reference")


def _one_direction(image: Tensor, sigma: float, radius: int) -> Tensor:
    return _average(image, lambda dy, dx, _: _space(0, dx, sigma) if dy == 0 else 0.0, radius)


def _gaussian_padded(border: str) -> Callable[[Tensor, float, int], Tensor]:
    return lambda image, sigma, radius: filtering.gaussian_filter(image, sigma=sigma, radius=radius, border=border,
                                                                  method="reference")


@exercise(points=2, minutes=20, reference=_gaussian, withholds=(
    *_BY_PLACE, *_BY_COLOR, *_BY_PATCHES, "scipy.ndimage.gaussian_filter",
    "scipy.ndimage.gaussian_filter1d", "skimage.filters.gaussian", "skimage.filters.difference_of_gaussians",
    "torchvision.transforms.functional.gaussian_blur", "torchvision.transforms.GaussianBlur"), mistakes={
    "border_darkened": Mistake("pixels outside the picture count as black: the weights are divided by the same constant "
                               "everywhere, but near the border C(x) sums fewer of them", _gaussian_padded("zero"), 3),
    "border_replicated": Mistake("the edge pixels are repeated outside the picture; here only the pixels inside it count",
                                 _gaussian_padded("replicate"), 3),
    "border_mirrored": Mistake("the picture is mirrored at its border; here only the pixels inside it count",
                               _gaussian_padded("reflect"), 3),
    "not_normalised": Mistake("the weights are never divided by their sum C(x)", lambda image, sigma, radius: _average(
        image, lambda dy, dx, _: _space(dy, dx, sigma), radius, divisor=1.0), 2),
    "one_direction": Mistake("the picture is smoothed along its rows only; a second pass along the columns is missing",
                             _one_direction, 1),
    "half_missing": Mistake("the exponent is x²/σ²; the Gaussian has x²/(2σ²)",
                            lambda image, sigma, radius: _gaussian(image, sigma / math.sqrt(2), radius), 2),
    "sigma_not_squared": Mistake("the exponent is x²/(2σ); the Gaussian has x²/(2σ²)",
                                 lambda image, sigma, radius: _gaussian(image, math.sqrt(sigma), radius), 2),
    "window_too_small": Mistake("the window goes from −radius to radius − 1; `range` leaves out its end",
                                lambda image, sigma, radius: _average(
                                    image, lambda dy, dx, _: _space(dy, dx, sigma) * (dy < radius and dx < radius), radius), 2),
    "twice_along_rows": Mistake("both passes run along the rows; the second should run along the columns",
                                lambda image, sigma, radius: _one_direction(_one_direction(image, sigma, radius), sigma, radius), 1),
    "channels_mixed": Mistake("the colour channels are added up into one", _summed(_gaussian)),
    "clamped": Mistake(_CLAMPED, _clamped(_gaussian)),
    "writes_into_input": Mistake("the result is written over the picture that was given", _in_place(_gaussian)),
})
def gaussian_filter(task: Task) -> None:
    with task.property("smooths a grey picture", share=0.5):
        task.compare(task.image(14, 19, channels=1), 1.7, 4)
        task.compare(task.image(12, 9, channels=1), 0.6, 2)
    with task.property("smooths a colour picture, channel by channel, and keeps its dtype", share=0.25):
        task.compare(_wide(task.image(15, 13)), 2.3, 5)
        task.compare(task.image(11, 16, dtype=torch.float64), 1.3, 3, tolerance=1e-10)
    with task.property("works when the window is larger than the picture", share=0.25):
        task.compare(task.image(5, 7), 3.0, 9)
    with task.property("leaves a constant picture as it is, up to its border"):
        task.compare(torch.full((3, 9, 8), 0.6), 1.5, 3, expected=torch.full((3, 9, 8), 0.6))


# --- 2 · Box filter -------------------------------------------------------------------------------------------------

def _box(image: Tensor, radius: int) -> Tensor:
    return filtering.box_filter(image, radius=radius, border="normalized", method="reference")


def _box_of(image: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """The average over rows `y + top … y + bottom` and columns `x + left … x + right`."""
    reach = max(map(abs, (top, bottom, left, right)))
    return _average(image, lambda dy, dx, _: float(top <= dy <= bottom and left <= dx <= right), reach)


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


@exercise(points=2, minutes=25, reference=_box, withholds=(
    *_BY_PLACE, *_BY_COLOR, *_BY_PATCHES, "torch.nn.functional.avg_pool2d", "torch.nn.AvgPool2d", "scipy.ndimage.uniform_filter", "scipy.ndimage.uniform_filter1d",
    "skimage.transform.integral_image", "skimage.transform.integrate", "skimage.filters.rank.mean"), mistakes={
    "not_normalised": Mistake("the window is summed but never divided by its area", lambda image, radius: _average(
        image, lambda dy, dx, _: 1.0, radius, divisor=1.0), 2),
    "constant_area": Mistake("the sum is divided by (2r + 1)² everywhere; near the border the window holds fewer pixels",
                             lambda image, radius: _average(image, lambda dy, dx, _: 1.0, radius,
                                                            divisor=(2 * radius + 1) ** 2), 3),
    "window_too_small": Mistake("the window has side 2r, it should have 2r + 1: the end of a slice is not in it",
                                lambda image, radius: _box_of(image, -radius, radius - 1, -radius, radius - 1), 2),
    "window_misses_start": Mistake("the window has side 2r, it should have 2r + 1: its first row and column are left out",
                                   lambda image, radius: _box_of(image, 1 - radius, radius, 1 - radius, radius), 2),
    "window_too_large": Mistake("the window has side 2r + 3, it should have 2r + 1",
                                lambda image, radius: _box(image, radius + 1), 2),
    "not_centred": Mistake("the window starts at the pixel instead of having it in its middle",
                           lambda image, radius: _box_of(image, 0, 2 * radius, 0, 2 * radius), 2),
    "no_leading_zeros": Mistake("the integral image has no leading row and column of zeros, so the windows that touch the "
                                "top or the left border lose their first row or column", _box_without_zeros, 2),
    "one_direction": Mistake("the average runs along the rows only", lambda image, radius: _box_of(image, 0, 0, -radius, radius), 1),
    "float32_sums": Mistake("the integral image is summed in float32: its corner holds the sum of all pixels, and the small "
                            "difference of four such sums has lost its last digits; accumulate in float64", _box_float32, 3),
    "channels_mixed": Mistake("the colour channels are added up into one", _summed(_box)),
    "writes_into_input": Mistake("the result is written over the picture that was given", _in_place(_box)),
})
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


# --- 3 · Bilateral filter -------------------------------------------------------------------------------------------

def _bilateral(image: Tensor, sigma_space: float, sigma_color: float, radius: int) -> Tensor:
    return filtering.bilateral_filter(image, sigma_space=sigma_space, sigma_color=sigma_color, radius=radius,
                                      method="reference")


def _weighted(weight: Callable[..., Tensor | float], **options) -> Callable[..., Tensor]:
    """A bilateral filter with another weight: `weight(squared space, difference of colours, σ, h)`."""
    def variant(image: Tensor, sigma_space: float, sigma_color: float, radius: int) -> Tensor:
        return _average(image, lambda dy, dx, seen: weight(dy * dy + dx * dx, seen - image, sigma_space, sigma_color),
                        radius, **options)
    return variant


def _gauss(squared: Tensor | float, sigma: float) -> Tensor:
    return torch.exp(torch.as_tensor(-squared / (2 * sigma * sigma)))


def _joint(difference: Tensor) -> Tensor:
    return difference.square().sum(0, keepdim=True)


@exercise(points=2, minutes=25, reference=_bilateral, withholds=(*_BY_COLOR, "skimage.restoration.denoise_bilateral"), mistakes={
    "space_only": Mistake("the colours have no say in the weights: this is the Gaussian filter",
                          _weighted(lambda d2, c, s, h: _gauss(d2, s))),
    "color_only": Mistake("the distance in space has no say in the weights", _weighted(lambda d2, c, s, h: _gauss(_joint(c), h))),
    "per_channel": Mistake("every channel has weights of its own; ‖u(x) − u(y)‖² sums over the channels, one weight for all three",
                           _weighted(lambda d2, c, s, h: _gauss(d2, s) * _gauss(c.square(), h)), 2),
    "absolute_difference": Mistake("colours are compared by the sum of absolute differences, squared; the norm is the "
                                   "Euclidean one", _weighted(lambda d2, c, s, h: _gauss(d2, s) * _gauss(
                                       c.abs().sum(0, keepdim=True).square(), h)), 2),
    "channels_averaged": Mistake("the squared differences are averaged over the channels instead of summed",
                                 _weighted(lambda d2, c, s, h: _gauss(d2, s) * _gauss(c.square().mean(0, keepdim=True), h)), 2),
    "distance_not_squared": Mistake("the distance of the colours is not squared in the exponent", _weighted(
        lambda d2, c, s, h: _gauss(d2, s) * _gauss(_joint(c).sqrt(), h)), 2),
    "half_missing": Mistake("the exponents lack the factor ½", _weighted(
        lambda d2, c, s, h: _gauss(d2, s / math.sqrt(2)) * _gauss(_joint(c), h / math.sqrt(2)))),
    "color_half_missing": Mistake("the colour exponent lacks the factor ½", _weighted(
        lambda d2, c, s, h: _gauss(d2, s) * _gauss(_joint(c), h / math.sqrt(2)))),
    "space_half_missing": Mistake("the space exponent lacks the factor ½", _weighted(
        lambda d2, c, s, h: _gauss(d2, s / math.sqrt(2)) * _gauss(_joint(c), h))),
    "sigmas_swapped": Mistake("σ and h are exchanged: the first belongs to space, the second to colours", _weighted(
        lambda d2, c, s, h: _gauss(d2, h) * _gauss(_joint(c), s))),
    "not_normalised": Mistake("the weighted sum is never divided by the sum of the weights, C(x)", _weighted(
        lambda d2, c, s, h: _gauss(d2, s) * _gauss(_joint(c), h), divisor=1.0), 1),
    "outside_counts": Mistake("pixels outside the picture are averaged in as black ones", _weighted(
        lambda d2, c, s, h: _gauss(d2, s) * _gauss(_joint(c), h), outside_counts=True), 3),
    "window_too_small": Mistake("the window goes from −radius to radius − 1; `range` leaves out its end",
                                lambda image, s, h, radius: _average(image, lambda dy, dx, seen: _space(dy, dx, s) * _gauss(
                                    _joint(seen - image), h) * (dy < radius and dx < radius), radius), 3),
    "writes_into_input": Mistake("the result is written over the picture that was given, and later pixels see it",
                                 _in_place(_bilateral)),
})
def bilateral_filter(task: Task) -> None:
    with task.property("smooths a grey picture", share=0.4):
        task.compare(task.image(11, 14, channels=1), 1.8, 0.15, 3)
        task.compare(task.image(10, 9, channels=1), 3.0, 0.4, 2)
    with task.property("weighs the three channels of a colour together, and keeps the dtype", share=0.4):
        task.compare(task.image(12, 10), 2.5, 0.2, 3)
        task.compare(task.image(9, 13, dtype=torch.float64), 1.4, 0.35, 2, tolerance=1e-10)
    with task.property("works when the window is larger than the picture", share=0.2):
        task.compare(task.image(4, 6), 4.0, 0.5, 6)
    with task.property("with a huge h it is the Gaussian filter"):
        image = task.image(8, 9)
        task.compare(image, 1.5, 1e4, 3, expected=_gaussian(image, 1.5, 3))


# --- 4 · Cross-bilateral filter -------------------------------------------------------------------------------------

def _cross(image: Tensor, guide: Tensor, sigma_space: float, sigma_color: float, radius: int) -> Tensor:
    return filtering.cross_bilateral_filter(image, guide=guide, sigma_space=sigma_space, sigma_color=sigma_color,
                                            radius=radius, method="reference")


def _cross_weighted(weight: Callable[..., Tensor | float], **options) -> Callable[..., Tensor]:
    def variant(image: Tensor, guide: Tensor, s: float, h: float, radius: int) -> Tensor:
        return _average(image, lambda dy, dx, seen: weight(dy * dy + dx * dx, seen - guide, s, h), radius, guide=guide, **options)
    return variant


def _both(image: Tensor, guide: Tensor, s: float, h: float, radius: int) -> Tensor:
    together = torch.cat([image, guide])
    return _cross(image, together, s, h, radius)


@exercise(points=2, minutes=15, reference=_cross, withholds=(*_BY_COLOR, "skimage.restoration.denoise_bilateral"), mistakes={
    "guide_ignored": Mistake("the weights come from the picture itself; they should come from the guide",
                             lambda image, guide, s, h, radius: _cross(image, image, s, h, radius), 1),
    "guide_filtered": Mistake("it averages the values of the guide; the guide only gives the weights",
                              lambda image, guide, s, h, radius: _cross(guide, guide, s, h, radius), 1),
    "roles_swapped": Mistake("picture and guide have changed places: it averages the guide with the picture's weights",
                             lambda image, guide, s, h, radius: _cross(guide, image, s, h, radius), 1),
    "both_compared": Mistake("the weights compare the colours of the picture as well as those of the guide", _both, 1),
    "difference_between_pictures": Mistake("the weights compare the guide at y with the picture at x; both values should be "
                                           "the guide's", lambda image, guide, s, h, radius: _average(
                                               image, lambda dy, dx, seen: _space(dy, dx, s) * _gauss(
                                                   _joint(seen - image), h), radius, guide=guide), 2),
    "space_only": Mistake("the guide has no say in the weights: this is the Gaussian filter",
                          _cross_weighted(lambda d2, c, s, h: _gauss(d2, s)), 1),
    "channels_averaged": Mistake("the squared differences are averaged over the guide's channels instead of summed",
                                 _cross_weighted(lambda d2, c, s, h: _gauss(d2, s) * _gauss(c.square().mean(0, keepdim=True), h)), 2),
    "per_channel": Mistake("every channel of the guide gives weights of its own; ‖g(x) − g(y)‖² sums over its channels",
                           _cross_weighted(lambda d2, c, s, h: _gauss(d2, s) * _gauss(c.square(), h).mean(0, keepdim=True)), 2),
    "color_half_missing": Mistake("the colour exponent lacks the factor ½", _cross_weighted(
        lambda d2, c, s, h: _gauss(d2, s) * _gauss(_joint(c), h / math.sqrt(2)))),
    "sigmas_swapped": Mistake("σ and h are exchanged: the first belongs to space, the second to colours", _cross_weighted(
        lambda d2, c, s, h: _gauss(d2, h) * _gauss(_joint(c), s))),
    "half_missing": Mistake("the exponents lack the factor ½", _cross_weighted(
        lambda d2, c, s, h: _gauss(d2, s / math.sqrt(2)) * _gauss(_joint(c), h / math.sqrt(2))), 2),
    "not_normalised": Mistake("the weighted sum is never divided by the sum of the weights, C(x)", _cross_weighted(
        lambda d2, c, s, h: _gauss(d2, s) * _gauss(_joint(c), h), divisor=1.0), 1),
    "outside_counts": Mistake("pixels outside the picture are averaged in as black ones", _cross_weighted(
        lambda d2, c, s, h: _gauss(d2, s) * _gauss(_joint(c), h), outside_counts=True), 2),
    "writes_into_input": Mistake("the result is written over the picture that was given", _in_place(_cross)),
})
def cross_bilateral_filter(task: Task) -> None:
    with task.property("takes its weights from a colour guide and its values from the picture", share=0.5):
        task.compare(task.image(11, 13), task.image(11, 13), 2.0, 0.25, 3)
        task.compare(task.image(9, 12, dtype=torch.float64), task.image(9, 12, dtype=torch.float64), 1.3, 0.4, 2, tolerance=1e-10)
    with task.property("works with a grey guide for a colour picture, and the other way round", share=0.5):
        task.compare(task.image(10, 9), task.image(10, 9, channels=1), 1.8, 0.3, 2)
        task.compare(task.image(9, 11, channels=1), task.image(9, 11), 2.4, 0.2, 3)
    with task.property("with the picture as its own guide it is the bilateral filter"):
        image = task.image(8, 10)
        task.compare(image, image.clone(), 1.6, 0.3, 3, expected=_bilateral(image, 1.6, 0.3, 3))


# --- 5 · Guided filter ----------------------------------------------------------------------------------------------

def _guided(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
    return filtering.guided_filter(image, guide=guide, radius=radius, eps=eps, method="reference")


def _guided_by(coefficients: Callable[..., tuple[Tensor, Tensor]], *, average: str = "ab") -> Callable[..., Tensor]:
    """A guided filter with other coefficients: `coefficients(mean_g, mean_u, cov, var, eps)`; `average` says which of
    a and b are averaged over the windows."""
    def variant(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
        u, g = image.double(), guide.double()
        mean = lambda x: _box(x, radius)
        mean_g, mean_u = mean(g), mean(u)
        a, b = coefficients(mean_g, mean_u, mean(g * u) - mean_g * mean_u, mean(g * g) - mean_g ** 2, eps)
        a, b = mean(a) if "a" in average else a, mean(b) if "b" in average else b
        return (a * g + b).to(image.dtype)
    return variant


def _guided_zero_padded(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
    u, g = image.double(), guide.double()
    mean = lambda x: filtering.box_filter(x, radius=radius, border="zero", method="reference")
    mean_g, mean_u = mean(g), mean(u)
    a = (mean(g * u) - mean_g * mean_u) / (mean(g * g) - mean_g ** 2 + eps)
    return (mean(a) * g + mean(mean_u - a * mean_g)).to(image.dtype)


def _predictions_averaged(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
    alone = _guided_by(lambda mg, mu, cov, var, eps: ((a := cov / (var + eps)), mu - a * mg), average="")
    return _box(alone(image, guide, radius, eps), radius)


def _guided_float32(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
    mean = lambda x: _box(x, radius)
    mean_g, mean_u = mean(guide), mean(image)
    a = (mean(guide * image) - mean_g * mean_u) / (mean(guide * guide) - mean_g ** 2 + eps)
    return mean(a) * guide + mean(mean_u - a * mean_g)


@exercise(points=3, minutes=30, reference=_guided, withholds=("labkit.filtering.guided_filter", "labkit.filtering.weights_at"), mistakes={
    "not_averaged": Mistake("a and b of the window around the pixel are used alone; every pixel lies in many windows, and "
                            "their a and b are averaged before they are applied",
                            _guided_by(lambda mg, mu, cov, var, eps: ((a := cov / (var + eps)), mu - a * mg), average=""), 3),
    "only_a_averaged": Mistake("a is averaged over the windows but b is not",
                               _guided_by(lambda mg, mu, cov, var, eps: ((a := cov / (var + eps)), mu - a * mg), average="a"), 3),
    "only_b_averaged": Mistake("b is averaged over the windows but a is not",
                               _guided_by(lambda mg, mu, cov, var, eps: ((a := cov / (var + eps)), mu - a * mg), average="b"), 3),
    "predictions_averaged": Mistake("the values a · g + b of the neighbours are averaged; average a and b first, and apply them to "
                                    "the guide at x", _predictions_averaged, 3),
    "roles_swapped": Mistake("picture and guide have changed places: the guide is fitted and the picture guides", lambda image, guide, radius, eps:
                             torch.cat([_guided(guide, c[None], radius, eps) for c in image]), 1),
    "float32_means": Mistake("variance and covariance are computed in float32: each is a small difference of two larger numbers, and "
                             "the difference has lost its digits; compute in float64", _guided_float32, 3),
    "clamped": Mistake(_CLAMPED, _clamped(_guided)),
    "eps_missing": Mistake("ε is missing from the denominator of a",
                           _guided_by(lambda mg, mu, cov, var, eps: ((a := cov / (var + 1e-12)), mu - a * mg)), 2),
    "eps_squared": Mistake("ε is squared in the denominator; it is already a squared intensity",
                           _guided_by(lambda mg, mu, cov, var, eps: ((a := cov / (var + eps ** 2)), mu - a * mg)), 2),
    "deviation_for_variance": Mistake("a is divided by the standard deviation of the guide instead of its variance",
                                      _guided_by(lambda mg, mu, cov, var, eps: (
                                          (a := cov / (var.clamp(min=0).sqrt() + eps)), mu - a * mg)), 2),
    "covariance_not_centred": Mistake("the mean of the product stands for the covariance; the product of the means has to be "
                                      "subtracted", _guided_by(lambda mg, mu, cov, var, eps: (
                                          (a := (cov + mg * mu) / (var + eps)), mu - a * mg)), 1),
    "variance_not_centred": Mistake("the mean square of the guide stands for its variance; the squared mean has to be "
                                    "subtracted", _guided_by(lambda mg, mu, cov, var, eps: (
                                        (a := cov / (var + mg ** 2 + eps)), mu - a * mg)), 1),
    "b_sign": Mistake("b adds a times the mean of the guide; it should subtract it",
                      _guided_by(lambda mg, mu, cov, var, eps: ((a := cov / (var + eps)), mu + a * mg)), 2),
    "b_is_the_mean": Mistake("b is the mean of the picture; a times the mean of the guide has to be subtracted",
                             _guided_by(lambda mg, mu, cov, var, eps: (cov / (var + eps), mu)), 2),
    "guide_ignored": Mistake("the picture guides itself; the guide that was given is not used",
                             lambda image, guide, radius, eps: torch.cat([_guided(c[None], c[None], radius, eps) for c in image]), 1),
    "lecture_shortcut": Mistake("a = σ²/(σ² + ε) is the formula for a picture that guides itself; with another guide the "
                                "numerator is the covariance of guide and picture",
                                _guided_by(lambda mg, mu, cov, var, eps: ((a := var / (var + eps)), mu - a * mg)), 1),
    "outside_counts": Mistake("pixels outside the picture count as black in the means", _guided_zero_padded, 3),
    "writes_into_input": Mistake("the result is written over the picture that was given", _in_place(_guided)),
})
def guided_filter(task: Task) -> None:
    with task.property("fits a · guide + b in every window and averages the fits", share=0.5):
        task.compare(task.image(13, 16, channels=1), task.image(13, 16, channels=1), 2, 0.02)
        task.compare(task.image(11, 12, channels=1, dtype=torch.float64), task.image(11, 12, channels=1, dtype=torch.float64),
                     3, 0.3, tolerance=1e-9)
    with task.property("filters the three channels of a colour picture with one grey guide", share=0.3):
        task.compare(_wide(task.image(12, 15)), task.image(12, 15, channels=1), 2, 0.005)
    with task.property("keeps its digits where the guide is bright and nearly flat", share=0.2, mistake="float32_means"):
        guide = 0.9 + 1e-3 * task.image(14, 12, channels=1)
        task.compare(0.9 + 1e-3 * task.image(14, 12, channels=1), guide, 2, 1e-8, tolerance=2e-6)
    with task.property("with a huge ε it is two box filters, one after the other"):
        image, guide = task.image(10, 12), task.image(10, 12, channels=1)
        task.compare(image, guide, 2, 1e8, expected=_box(_box(image, 2), 2))


# --- 6 · Rolling guidance -------------------------------------------------------------------------------------------

def _rolling(image: Tensor, sigma_space: float, sigma_color: float, iterations: int, radius: int) -> Tensor:
    return filtering.rolling_guidance_filter(image, sigma_space=sigma_space, sigma_color=sigma_color, iterations=iterations,
                                             radius=radius, method="reference")


def _rolling_by(start: Callable[..., Tensor], step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Another loop: `start(image, σ, radius)`, then `step(image, u, filter)` for every further iteration."""
    def variant(image: Tensor, s: float, h: float, iterations: int, radius: int) -> Tensor:
        u = start(image, s, radius)
        for _ in range(iterations - 1):
            u = step(image, u, lambda values, guide: _cross(values, guide, s, h, radius))
        return u
    return variant


@exercise(points=2, minutes=15, reference=_rolling, withholds=("labkit.filtering.rolling_guidance_filter", "labkit.filtering.weights_at"), mistakes={
    "filter_iterated": Mistake("the filter is merely iterated: each pass averages the last result; it should average the "
                               "original picture, and only the weights follow the last result",
                               _rolling_by(_gaussian, lambda image, u, f: f(u, u)), 1),
    "filter_iterated_from_image": Mistake("the bilateral filter is merely iterated, from the picture on: each pass averages "
                                          "the last result", _rolling_by(lambda image, s, r: image, lambda image, u, f: f(u, u)), 1),
    "roles_swapped": Mistake("picture and guide have changed places: each pass averages the last result with the weights of "
                             "the original picture", _rolling_by(_gaussian, lambda image, u, f: f(u, image)), 1),
    "guide_never_rolls": Mistake("every pass is guided by the original picture, so that nothing rolls: this is the bilateral "
                                 "filter", _rolling_by(_gaussian, lambda image, u, f: f(image, image)), 2),
    "starts_from_image": Mistake("the first guide is the picture itself, whose texture then survives; start from the Gaussian "
                                 "filter of the picture", _rolling_by(lambda image, s, r: image, lambda image, u, f: f(image, u)), 2),
    "gaussian_not_counted": Mistake("there is one pass too many: the Gaussian counts as the first iteration", lambda image, s, h, iterations, radius:
                                    _rolling(image, s, h, iterations + 1, radius), 3),
    "one_too_few": Mistake("there is one pass too few", lambda image, s, h, iterations, radius: _rolling(
        image, s, h, max(1, iterations - 1), radius), 3),
    "guide_stuck": Mistake("the Gaussian guides every pass; each result should be the next guide", lambda image, s, h, iterations, radius:
                           _rolling(image, s, h, min(iterations, 2), radius), 1),
    "one_pass": Mistake("the cross-bilateral filter runs once, whatever the number of iterations", lambda image, s, h, iterations, radius:
                        _rolling(image, s, h, 2, radius), 3),
    "sigmas_swapped": Mistake("σ and h are exchanged", lambda image, s, h, iterations, radius: _rolling(
        image, h, s, iterations, radius), 2),
    "writes_into_input": Mistake("the result is written over the picture that was given", _in_place(_rolling)),
})
def rolling_guidance_filter(task: Task) -> None:
    with task.property("averages the original picture with weights from the last result", share=0.6):
        task.compare(task.image(11, 13), 1.5, 0.2, 3, 3)
        task.compare(task.image(10, 12, channels=1), 2.0, 0.1, 4, 2)
    with task.property("takes the Gaussian and one pass for two iterations, the Gaussian alone for one", share=0.4):
        task.compare(task.image(9, 10, dtype=torch.float64), 1.2, 0.3, 2, 2, tolerance=1e-9)
        task.compare(task.image(9, 10), 1.2, 0.3, 1, 2)


# --- 7 · Non-local means --------------------------------------------------------------------------------------------

def _means(image: Tensor, patch_size: int, window_size: int, h: float, sigma: float) -> Tensor:
    return filtering.nonlocal_means(image, patch_size=patch_size, window_size=window_size, h=h, sigma=sigma,
                                    method="reference")


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


@exercise(points=3, minutes=35, reference=_means, withholds=(
    *_BY_PATCHES, "labkit.filtering.weights_at", "skimage.restoration.denoise_nl_means"), mistakes={
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
                                lambda image, n, w, h, sigma: _means(image, n, 2 * w + 1, h, sigma), 1),
    "patch_is_radius": Mistake("patch_size is used as a radius; it is the side of the patch",
                               lambda image, n, w, h, sigma: _means_by()(image, 2 * n + 1, w, h, sigma), 2),
    "patch_ignored": Mistake("single pixels are compared instead of patches",
                             lambda image, n, w, h, sigma: _means(image, 1, w, h, sigma), 2),
    "writes_into_input": Mistake("the result is written over the picture that was given", _in_place(_means)),
})
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


# --- 8 · PCA of patches ---------------------------------------------------------------------------------------------

def _pca(image: Tensor, patch_size: int, threshold: float) -> Tensor:
    return filtering.pca_filter(image, patch_size=patch_size, threshold=threshold)


def _pca_by(project: Callable[[Tensor, float], Tensor], aggregate: Callable[..., Tensor] | None = None) -> Callable[..., Tensor]:
    def variant(image: Tensor, patch_size: int, threshold: float) -> Tensor:
        estimates = project(patches.extract_patches(image, patch_size=patch_size), threshold)
        gather = aggregate or _overlap_mean
        return gather(estimates, image, patch_size)
    return variant


def _overlap_mean(estimates: Tensor, image: Tensor, patch_size: int) -> Tensor:
    total, count = _overlap_sum(estimates, image, patch_size), _overlap_sum(torch.ones_like(estimates), image, patch_size)
    return total / count


def _overlap_sum(estimates: Tensor, image: Tensor, patch_size: int) -> Tensor:
    return torch.nn.functional.fold(estimates.T[None], image.shape[-2:], patch_size)[0]


def _basis(centred: Tensor) -> Tensor:
    return torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors


def _hard(z: Tensor, threshold: float) -> Tensor:
    return torch.where(z.abs() > threshold, z, 0)


def _project(p: Tensor, threshold: float, *, rule: Callable = _hard, centre: bool = True, add_mean: bool = True) -> Tensor:
    mean = p.mean(0) if centre else torch.zeros_like(p[0])
    v = _basis(p - mean)
    return rule((p - mean) @ v, threshold) @ v.T + (mean if add_mean else 0)


def _centre_each_patch(p: Tensor, threshold: float) -> Tensor:
    mean = p.mean(1, keepdim=True)
    v = _basis(p - mean)
    return _hard((p - mean) @ v, threshold) @ v.T + mean


def _drop_directions(p: Tensor, threshold: float) -> Tensor:
    mean = p.mean(0)
    v = _basis(p - mean)
    z = (p - mean) @ v
    return (z * (z.std(0) > threshold)) @ v.T + mean


def _centre_pixels(estimates: Tensor, image: Tensor, patch_size: int) -> Tensor:
    """Every pixel from one patch: the one that has it in its middle, or the nearest there is."""
    channels, height, width = image.shape
    grid = estimates.reshape(height - patch_size + 1, width - patch_size + 1, channels, patch_size, patch_size)
    first = [(torch.arange(side) - patch_size // 2).clamp(0, side - patch_size) for side in (height, width)]
    rows, columns = first[0][:, None], first[1][None, :]
    return grid[rows, columns, :, torch.arange(height)[:, None] - rows, torch.arange(width)[None, :] - columns].permute(2, 0, 1)


@exercise(points=2, minutes=35, reference=_pca, withholds=(
    "labkit.filtering.pca_filter", "labkit.filtering.project_patches", "labkit.filtering.nonlocal_pca",
    "labkit.patches.aggregate_patches"), mistakes={
    "not_centred": Mistake("the mean patch is not subtracted before the projection",
                           _pca_by(lambda p, t: _project(p, t, centre=False)), 1),
    "mean_not_added": Mistake("the mean patch is not added back", _pca_by(lambda p, t: _project(p, t, add_mean=False)), 1),
    "each_patch_centred": Mistake("the mean of each patch is subtracted; p̄ is the mean patch, an average over all patches",
                                  _pca_by(_centre_each_patch), 1),
    "soft_threshold": Mistake("large coefficients are shrunk (a soft threshold); the hard one leaves them as they are",
                              _pca_by(lambda p, t: _project(p, t, rule=lambda z, t: z.sign() * (z.abs() - t).clamp(min=0))), 2),
    "keeps_the_small": Mistake("the small coefficients are kept and the large ones removed",
                               _pca_by(lambda p, t: _project(p, t, rule=lambda z, t: torch.where(z.abs() > t, 0, z))), 2),
    "negative_removed": Mistake("negative coefficients are removed whatever their size: compare |z| with the threshold",
                                _pca_by(lambda p, t: _project(p, t, rule=lambda z, t: torch.where(z > t, z, 0))), 2),
    "directions_removed": Mistake("whole directions are kept or removed by their variance; the threshold applies to every "
                                  "coefficient of every patch", _pca_by(_drop_directions), 2),
    "not_thresholded": Mistake("no coefficient is removed: the picture comes back as it was", _pca_by(lambda p, t: p), 2),
    "threshold_in_pixels": Mistake("the threshold is applied to the values of the patches, not to their coefficients in the "
                                   "basis", _pca_by(lambda p, t: _hard(p - p.mean(0), t) + p.mean(0)), 2),
    "basis_transposed": Mistake("the basis is transposed: eigenvectors are the columns of what torch.linalg.eigh returns",
                                _pca_by(lambda p, t: _hard((p - p.mean(0)) @ _basis(p - p.mean(0)).T, t)
                                        @ _basis(p - p.mean(0)) + p.mean(0)), 1),
    "not_aggregated": Mistake("every pixel is taken from the one patch around it; average over all patches that contain it",
                              _pca_by(_project, _centre_pixels), 3),
    "constant_count": Mistake("the sum of the patches is divided by n² everywhere; pixels near the border lie in fewer patches",
                              _pca_by(_project, lambda e, image, n: _overlap_sum(e, image, n) / n ** 2), 3),
    "clamped": Mistake(_CLAMPED, _clamped(_pca)),
    "not_transposed_back": Mistake("the way back multiplies by the basis; it needs its transpose", _pca_by(lambda p, t: _hard(
        (p - p.mean(0)) @ _basis(p - p.mean(0)), t) @ _basis(p - p.mean(0)) + p.mean(0)), 2),
    "sum_of_patches": Mistake("overlapping patches are added up and never divided by their number",
                              _pca_by(_project, _overlap_sum), 3),
    "writes_into_input": Mistake("the result is written over the picture that was given", _in_place(_pca)),
})
def pca_filter(task: Task) -> None:
    # float64, and a threshold in a gap between coefficients: the answer then does not hang on the last digit
    def compare(height: int, width: int, channels: int, patch_size: int) -> None:
        image = _wide(task.image(height, width, channels=channels, dtype=torch.float64))
        p = patches.extract_patches(image, patch_size=patch_size)
        sizes = ((p - p.mean(0)) @ _basis(p - p.mean(0))).abs().flatten().sort().values
        start = int(0.6 * len(sizes))
        gap = start + int((sizes[start + 1:int(0.8 * len(sizes))] - sizes[start:int(0.8 * len(sizes)) - 1]).argmax())
        task.compare(image, patch_size, float(sizes[gap] + sizes[gap + 1]) / 2, tolerance=1e-7)

    with task.property("keeps the large coefficients of every grey patch and averages the overlapping patches", share=0.6):
        compare(12, 15, 1, 3)
        compare(11, 10, 1, 4)
    with task.property("treats the channels of a colour patch together", share=0.4):
        compare(10, 13, 3, 3)
    with task.property("leaves the picture as it is for a threshold of 0"):
        image = task.image(9, 8, dtype=torch.float64)
        task.compare(image, 3, 0.0, expected=image, tolerance=1e-7)


# --- 9 · Non-local means as attention -------------------------------------------------------------------------------

def _attention(query: Tensor, key: Tensor, value: Tensor, h: float) -> Tensor:
    return filtering.nonlocal_attention(query, key, value, h=h)


def _attention_by(score: Callable[..., Tensor], *, axis: int = 1) -> Callable[..., Tensor]:
    """Another attention: the softmax over `axis` of `score(queries (N, 1, D), keys (1, M, D), h)`."""
    return lambda query, key, value, h: score(query[:, None], key[None], h).softmax(axis) @ value


def _squared(q: Tensor, k: Tensor) -> Tensor:
    return (q - k).square().sum(-1)


def _underflows(query: Tensor, key: Tensor, value: Tensor, h: float) -> Tensor:
    w = torch.exp(-_squared(query[:, None], key[None]) / h ** 2)
    return (w / w.sum(1, keepdim=True)) @ value


@exercise(points=2, minutes=25, kind="differentiable", reference=_attention, withholds=_BY_PATCHES, mistakes={
    "dot_product": Mistake("the similarity is the dot product; here it is minus the squared distance",
                           _attention_by(lambda q, k, h: (q * k).sum(-1) / h ** 2), 1),
    "scaled_dot_product": Mistake("the similarity is the dot product over √D, that of the Transformer; here it is minus the "
                                  "squared distance over h²", _attention_by(lambda q, k, h: (q * k).sum(-1) / math.sqrt(q.shape[-1])), 1),
    "sign_missing": Mistake("the minus sign is missing: far patches weigh most", _attention_by(lambda q, k, h: _squared(q, k) / h ** 2), 1),
    "wrong_axis": Mistake("the softmax runs over the queries; for each query the weights of all keys sum to one",
                          _attention_by(lambda q, k, h: -_squared(q, k) / h ** 2, axis=0), 2),
    "h_not_squared": Mistake("the distance is divided by h instead of h²", _attention_by(lambda q, k, h: -_squared(q, k) / h), 1),
    "extra_half": Mistake("the distance is divided by 2h²; here it is h²", _attention_by(lambda q, k, h: -_squared(q, k) / (2 * h ** 2)), 1),
    "distance_not_squared": Mistake("the distance is not squared", _attention_by(
        lambda q, k, h: -(_squared(q, k) + 1e-20).sqrt() / h ** 2), 1),
    "distance_averaged": Mistake("the squared distance is averaged over the D entries; here it is their sum",
                                 _attention_by(lambda q, k, h: -_squared(q, k) / q.shape[-1] / h ** 2), 1),
    "key_norm_missing": Mistake("‖k‖² is missing from the similarity: it differs from key to key, so the softmax does not "
                                "cancel it (‖q‖² it does)", _attention_by(lambda q, k, h: 2 * (q * k).sum(-1) / h ** 2), 3),
    "underflow": Mistake("exp() of a large negative number is 0, and 0/0 is NaN: subtract the largest similarity of each row "
                         "first, or use torch.softmax, which does", _underflows, 2),
    "value_is_key": Mistake("the keys are averaged instead of the values", lambda q, k, v, h: (
        -_squared(q[:, None], k[None]) / h ** 2).softmax(1) @ k, 1),
    "gradient_lost": Mistake("the result does not depend on its inputs any more: .detach(), NumPy or torch.no_grad() cut the "
                             "gradient", lambda q, k, v, h: _attention(q, k, v, h).detach()),
    "writes_into_input": Mistake("the result is written over an argument", lambda q, k, v, h: (
        v.data.mul_(0.5), _attention(q, k, 2 * v, h))[1]),
})
def nonlocal_attention(task: Task) -> None:
    with task.property("averages the values, each by how near its key is to the query", share=0.5):
        task.compare(task.normal(6, 4), task.normal(9, 4), task.normal(9, 3), 1.3)
        task.compare(task.normal(8, 5).double(), task.normal(8, 5).double(), task.normal(8, 5).double(), 2.1, tolerance=1e-9)
    with task.property("works when every key is far from the query", share=0.25):
        # far enough for exp to give 0 in float32, near enough for squared distances to keep their digits
        task.compare(task.normal(4, 3) + 8, task.normal(7, 3), task.normal(7, 2), 0.7, tolerance=1e-4)
    with task.property("passes gradients back to queries, keys and values", share=0.25):
        task.compare(task.normal(5, 3).double(), task.normal(6, 3).double(), task.normal(6, 2).double(), 1.7,
                     cotangent=task.normal(5, 2).double(), tolerance=1e-8)
        same = task.normal(5, 3).double()   # each query is one of the keys, as when a picture attends to itself
        task.compare(same, same.clone(), task.normal(5, 2).double(), 1.4, cotangent=task.normal(5, 2).double(), tolerance=1e-7)
