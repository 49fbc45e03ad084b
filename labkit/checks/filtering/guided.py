"""The check of chapter 1 on the guided filter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit import filtering
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.filtering.linear import _box_filter
from labkit.checks.filtering.pieces import CLAMPED
from labkit.checks.pieces import clamped, in_place, noisy

__all__ = ["guided_filter"]


# --- 5 · Guided filter ----------------------------------------------------------------------------------------------

def _guided_filter(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
    return filtering.guided_filter(image, guide=guide, radius=radius, eps=eps, method="reference")


@exercise(points=3, minutes=30, reference=_guided_filter, withholds=("labkit.filtering.guided_filter", "labkit.filtering.weights_at"))
def guided_filter(task: Task) -> None:
    with task.property("fits a · guide + b in every window and averages the fits", share=0.5):
        task.compare(task.image(13, 16, channels=1), task.image(13, 16, channels=1), 2, 0.02)
        task.compare(task.image(11, 12, channels=1, dtype=torch.float64), task.image(11, 12, channels=1, dtype=torch.float64),
                     3, 0.3, tolerance=1e-9)
    with task.property("filters the three channels of a colour picture with one grey guide", share=0.3):
        task.compare(noisy(task.image(12, 15)), task.image(12, 15, channels=1), 2, 0.005)
    with task.property("keeps its digits where the guide is bright and nearly flat", share=0.2, mistake="float32_means"):
        guide = 0.9 + 1e-3 * task.image(14, 12, channels=1)
        task.compare(0.9 + 1e-3 * task.image(14, 12, channels=1), guide, 2, 1e-8, tolerance=2e-6)
    with task.property("with a huge ε it is two box filters, one after the other"):
        image, guide = task.image(10, 12), task.image(10, 12, channels=1)
        task.compare(image, guide, 2, 1e8, expected=_box_filter(_box_filter(image, 2), 2))


def _guided_by(coefficients: Callable[..., tuple[Tensor, Tensor]], *, average: str = "ab") -> Callable[..., Tensor]:
    """A guided filter with other coefficients: `coefficients(mean_g, mean_u, cov, var, eps)`; `average` says which of
    a and b are averaged over the windows."""
    def variant(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
        u, g = image.double(), guide.double()
        mean = lambda x: _box_filter(x, radius)
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
    return _box_filter(alone(image, guide, radius, eps), radius)


def _guided_float32(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
    mean = lambda x: _box_filter(x, radius)
    mean_g, mean_u = mean(guide), mean(image)
    a = (mean(guide * image) - mean_g * mean_u) / (mean(guide * guide) - mean_g ** 2 + eps)
    return mean(a) * guide + mean(mean_u - a * mean_g)


guided_filter.knows({
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
                             torch.cat([_guided_filter(guide, c[None], radius, eps) for c in image]), 1),
    "float32_means": Mistake("variance and covariance are computed in float32: each is a small difference of two larger numbers, and "
                             "the difference has lost its digits; compute in float64", _guided_float32, 3),
    "clamped": Mistake(CLAMPED, clamped(_guided_filter)),
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
                             lambda image, guide, radius, eps: torch.cat([_guided_filter(c[None], c[None], radius, eps) for c in image]), 1),
    "lecture_shortcut": Mistake("a = σ²/(σ² + ε) is the formula for a picture that guides itself; with another guide the "
                                "numerator is the covariance of guide and picture",
                                _guided_by(lambda mg, mu, cov, var, eps: ((a := var / (var + eps)), mu - a * mg)), 1),
    "outside_counts": Mistake("pixels outside the picture count as black in the means", _guided_zero_padded, 3),
    "writes_into_input": Mistake("the result is written over the picture that was given", in_place(_guided_filter)),
})
