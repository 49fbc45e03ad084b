"""The checks of chapter 1 on the bilateral filter, the cross-bilateral filter and rolling guidance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit import filtering
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.filtering.linear import _gaussian_filter
from labkit.checks.filtering.pieces import BY_COLOR, average, space
from labkit.checks.pieces import in_place

__all__ = ["bilateral_filter", "cross_bilateral_filter", "rolling_guidance_filter"]


# --- 3 · Bilateral filter -------------------------------------------------------------------------------------------

def _bilateral_filter(image: Tensor, sigma_space: float, sigma_color: float, radius: int) -> Tensor:
    return filtering.bilateral_filter(image, sigma_space=sigma_space, sigma_color=sigma_color, radius=radius,
                                      method="reference")


@exercise(points=2, minutes=25, reference=_bilateral_filter, withholds=(*BY_COLOR, "skimage.restoration.denoise_bilateral"))
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
        task.compare(image, 1.5, 1e4, 3, expected=_gaussian_filter(image, 1.5, 3))


def _weighted(weight: Callable[..., Tensor | float], **options) -> Callable[..., Tensor]:
    """A bilateral filter with another weight: `weight(squared space, difference of colours, σ, h)`."""
    def variant(image: Tensor, sigma_space: float, sigma_color: float, radius: int) -> Tensor:
        return average(image, lambda dy, dx, seen: weight(dy * dy + dx * dx, seen - image, sigma_space, sigma_color),
                       radius, **options)
    return variant


def _gauss(squared: Tensor | float, sigma: float) -> Tensor:
    return torch.exp(torch.as_tensor(-squared / (2 * sigma * sigma)))


def _joint(difference: Tensor) -> Tensor:
    return difference.square().sum(0, keepdim=True)


bilateral_filter.knows({
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
                                lambda image, s, h, radius: average(image, lambda dy, dx, seen: space(dy, dx, s) * _gauss(
                                    _joint(seen - image), h) * (dy < radius and dx < radius), radius), 3),
    "writes_into_input": Mistake("the result is written over the picture that was given, and later pixels see it",
                                 in_place(_bilateral_filter)),
})


# --- 4 · Cross-bilateral filter -------------------------------------------------------------------------------------

def _cross_bilateral_filter(image: Tensor, guide: Tensor, sigma_space: float, sigma_color: float, radius: int) -> Tensor:
    return filtering.cross_bilateral_filter(image, guide=guide, sigma_space=sigma_space, sigma_color=sigma_color,
                                            radius=radius, method="reference")


@exercise(points=2, minutes=15, reference=_cross_bilateral_filter, withholds=(*BY_COLOR, "skimage.restoration.denoise_bilateral"))
def cross_bilateral_filter(task: Task) -> None:
    with task.property("takes its weights from a colour guide and its values from the picture", share=0.5):
        task.compare(task.image(11, 13), task.image(11, 13), 2.0, 0.25, 3)
        task.compare(task.image(9, 12, dtype=torch.float64), task.image(9, 12, dtype=torch.float64), 1.3, 0.4, 2, tolerance=1e-10)
    with task.property("works with a grey guide for a colour picture, and the other way round", share=0.5):
        task.compare(task.image(10, 9), task.image(10, 9, channels=1), 1.8, 0.3, 2)
        task.compare(task.image(9, 11, channels=1), task.image(9, 11), 2.4, 0.2, 3)
    with task.property("with the picture as its own guide it is the bilateral filter"):
        image = task.image(8, 10)
        task.compare(image, image.clone(), 1.6, 0.3, 3, expected=_bilateral_filter(image, 1.6, 0.3, 3))


def _cross_weighted(weight: Callable[..., Tensor | float], **options) -> Callable[..., Tensor]:
    def variant(image: Tensor, guide: Tensor, s: float, h: float, radius: int) -> Tensor:
        return average(image, lambda dy, dx, seen: weight(dy * dy + dx * dx, seen - guide, s, h), radius, guide=guide, **options)
    return variant


def _both(image: Tensor, guide: Tensor, s: float, h: float, radius: int) -> Tensor:
    together = torch.cat([image, guide])
    return _cross_bilateral_filter(image, together, s, h, radius)


cross_bilateral_filter.knows({
    "guide_ignored": Mistake("the weights come from the picture itself; they should come from the guide",
                             lambda image, guide, s, h, radius: _cross_bilateral_filter(image, image, s, h, radius), 1),
    "guide_filtered": Mistake("it averages the values of the guide; the guide only gives the weights",
                              lambda image, guide, s, h, radius: _cross_bilateral_filter(guide, guide, s, h, radius), 1),
    "roles_swapped": Mistake("picture and guide have changed places: it averages the guide with the picture's weights",
                             lambda image, guide, s, h, radius: _cross_bilateral_filter(guide, image, s, h, radius), 1),
    "both_compared": Mistake("the weights compare the colours of the picture as well as those of the guide", _both, 1),
    "difference_between_pictures": Mistake("the weights compare the guide at y with the picture at x; both values should be "
                                           "the guide's", lambda image, guide, s, h, radius: average(
                                               image, lambda dy, dx, seen: space(dy, dx, s) * _gauss(
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
    "writes_into_input": Mistake("the result is written over the picture that was given", in_place(_cross_bilateral_filter)),
})


# --- 6 · Rolling guidance -------------------------------------------------------------------------------------------

def _rolling_guidance_filter(image: Tensor, sigma_space: float, sigma_color: float, iterations: int, radius: int) -> Tensor:
    return filtering.rolling_guidance_filter(image, sigma_space=sigma_space, sigma_color=sigma_color, iterations=iterations,
                                             radius=radius, method="reference")


@exercise(points=2, minutes=15, reference=_rolling_guidance_filter, withholds=(
    "labkit.filtering.rolling_guidance_filter", "labkit.filtering.weights_at"))
def rolling_guidance_filter(task: Task) -> None:
    with task.property("averages the original picture with weights from the last result", share=0.6):
        task.compare(task.image(11, 13), 1.5, 0.2, 3, 3)
        task.compare(task.image(10, 12, channels=1), 2.0, 0.1, 4, 2)
    with task.property("takes the Gaussian and one pass for two iterations, the Gaussian alone for one", share=0.4):
        task.compare(task.image(9, 10, dtype=torch.float64), 1.2, 0.3, 2, 2, tolerance=1e-9)
        task.compare(task.image(9, 10), 1.2, 0.3, 1, 2)


def _rolling_by(start: Callable[..., Tensor], step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Another loop: `start(image, σ, radius)`, then `step(image, u, filter)` for every further iteration."""
    def variant(image: Tensor, s: float, h: float, iterations: int, radius: int) -> Tensor:
        u = start(image, s, radius)
        for _ in range(iterations - 1):
            u = step(image, u, lambda values, guide: _cross_bilateral_filter(values, guide, s, h, radius))
        return u
    return variant


rolling_guidance_filter.knows({
    "filter_iterated": Mistake("the filter is merely iterated: each pass averages the last result; it should average the "
                               "original picture, and only the weights follow the last result",
                               _rolling_by(_gaussian_filter, lambda image, u, f: f(u, u)), 1),
    "filter_iterated_from_image": Mistake("the bilateral filter is merely iterated, from the picture on: each pass averages "
                                          "the last result", _rolling_by(lambda image, s, r: image, lambda image, u, f: f(u, u)), 1),
    "roles_swapped": Mistake("picture and guide have changed places: each pass averages the last result with the weights of "
                             "the original picture", _rolling_by(_gaussian_filter, lambda image, u, f: f(u, image)), 1),
    "guide_never_rolls": Mistake("every pass is guided by the original picture, so that nothing rolls: this is the bilateral "
                                 "filter", _rolling_by(_gaussian_filter, lambda image, u, f: f(image, image)), 2),
    "starts_from_image": Mistake("the first guide is the picture itself, whose texture then survives; start from the Gaussian "
                                 "filter of the picture", _rolling_by(lambda image, s, r: image, lambda image, u, f: f(image, u)), 2),
    "gaussian_not_counted": Mistake("there is one pass too many: the Gaussian counts as the first iteration", lambda image, s, h, iterations, radius:
                                    _rolling_guidance_filter(image, s, h, iterations + 1, radius), 3),
    "one_too_few": Mistake("there is one pass too few", lambda image, s, h, iterations, radius: _rolling_guidance_filter(
        image, s, h, max(1, iterations - 1), radius), 3),
    "guide_stuck": Mistake("the Gaussian guides every pass; each result should be the next guide", lambda image, s, h, iterations, radius:
                           _rolling_guidance_filter(image, s, h, min(iterations, 2), radius), 1),
    "one_pass": Mistake("the cross-bilateral filter runs once, whatever the number of iterations", lambda image, s, h, iterations, radius:
                        _rolling_guidance_filter(image, s, h, 2, radius), 3),
    "sigmas_swapped": Mistake("σ and h are exchanged", lambda image, s, h, iterations, radius: _rolling_guidance_filter(
        image, h, s, iterations, radius), 2),
    "writes_into_input": Mistake("the result is written over the picture that was given", in_place(_rolling_guidance_filter)),
})
