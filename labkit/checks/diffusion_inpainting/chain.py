"""The first five checks of chapter 8: into the noise, one step back, what a step's error counts, holes, and no leaks.

The chains are short and their noise grows fast, so that a wrong factor is far from the right one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise

_CHAIN = "labkit.diffusion_inpainting.Diffusion"
_ROOM = 5e-3        # pixels that every pixel keeps from the edge of the brush, for answers that sample the path finely


def _with(right: Callable, **options) -> Callable:
    return functools.partial(right, **options)


def _bars(betas: Tensor) -> Tensor:
    """ᾱ_0 = 1, ᾱ_1, …"""
    return (1 - betas).cumprod(0)


def _schedule(task: Task, steps: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """β_0 = 0 and β_1 < … < β_steps: (steps + 1,)."""
    rising = (0.02 + 0.05 * torch.arange(steps) + 0.04 * task.uniform(steps)).to(dtype)
    return torch.cat([torch.zeros(1, dtype=dtype), rising])


def _pictures(task: Task, number: int, channels: int, height: int, width: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """A batch of pictures in the chain's values."""
    return torch.stack([2 * task.image(height, width, channels=channels, dtype=dtype) - 1 for _ in range(number)])


# --- 1 · Into the noise ---------------------------------------------------------------------------------------------

def _root_mean(bar: Tensor) -> tuple[Tensor, Tensor]:
    return bar.sqrt(), (1 - bar).sqrt()


def _noised(x0: Tensor, t: Tensor, noise: Tensor, betas: Tensor, *, table: Callable[[Tensor], Tensor] = _bars, late: int = 0,
            mix: Callable[[Tensor], tuple] = _root_mean, pick: Callable[[Tensor], Tensor] = lambda t: t,
            shape: Callable[[Tensor], Tensor] = lambda bar: bar[:, None, None, None]) -> Tensor:
    """x_t; the options are where answers differ."""
    signal, of_noise = mix(shape(table(betas)[pick(t) + late]))
    return signal * x0 + of_noise * noise


def _noised_again(x0: Tensor, t: Tensor, noise: Tensor, betas: Tensor) -> Tensor:
    """Step by step, with one and the same noise."""
    result = []
    for x, steps, one in zip(x0, t.tolist(), noise):
        for beta in betas[1:steps + 1]:
            x = (1 - beta).sqrt() * x + beta.sqrt() * one
        result.append(x)
    return torch.stack(result)


def _noised_with_single_noise(x0: Tensor, t: Tensor, noise: Tensor, betas: Tensor) -> Tensor:
    return _noised(x0, t, torch.zeros_like(noise), betas) + betas[t][:, None, None, None].sqrt() * noise


def _noised_in_place(x0: Tensor, t: Tensor, noise: Tensor, betas: Tensor) -> Tensor:
    return x0.copy_(_noised(x0, t, noise, betas))


@exercise(points=1, minutes=15, reference=_noised, withholds=(_CHAIN,), mistakes={
    "roots_forgotten": Mistake("picture and noise are multiplied by ᾱ_t and 1 − ᾱ_t; these are variances, and what "
                               "multiplies is their root", _with(_noised, mix=lambda bar: (bar, 1 - bar)), 2),
    "variance_for_sigma": Mistake("the noise is multiplied by its variance 1 − ᾱ_t; it is multiplied by the root of "
                                  "that", _with(_noised, mix=lambda bar: (bar.sqrt(), 1 - bar)), 2),
    "picture_root_forgotten": Mistake("the picture is multiplied by ᾱ_t; it is multiplied by √ᾱ_t",
                                      _with(_noised, mix=lambda bar: (bar, (1 - bar).sqrt())), 2),
    "not_faded": Mistake("noise is added, but the picture does not fade: it is multiplied by √ᾱ_t",
                         _with(_noised, mix=lambda bar: (1.0, (1 - bar).sqrt())), 2),
    "one_minus_the_root": Mistake("the noise is multiplied by 1 − √ᾱ_t; it is √(1 − ᾱ_t)",
                                  _with(_noised, mix=lambda bar: (bar.sqrt(), 1 - bar.sqrt())), 2),
    "exchanged": Mistake("the factors of picture and noise are exchanged: much noise comes first and goes away",
                         _with(_noised, mix=lambda bar: _root_mean(bar)[::-1]), 2),
    "single_step": Mistake("α_t is taken for ᾱ_t: that is the noise of the last step alone; ᾱ_t is the product α_1 ⋯ "
                           "α_t", _with(_noised, table=lambda betas: 1 - betas), 1),
    "noise_of_a_single_step": Mistake("the noise is multiplied by √β_t, as in one step; after all t steps its variance is 1 − ᾱ_t",
                                      _noised_with_single_noise, 2),
    "all_steps": Mistake("the product runs over all steps; ᾱ_t is that of the first t",
                         _with(_noised, table=lambda betas: _bars(betas)[-1:].expand_as(betas)), 1),
    "clamped": Mistake("the result is clamped to [−1, 1]; noise goes beyond that, and that is as it should be",
                       lambda *a: _noised(*a).clamp(-1, 1), None),
    "betas_multiplied": Mistake("the β are multiplied up; it is the α = 1 − β that are",
                                _with(_noised, table=lambda betas: betas.cumprod(0)), 1),
    "betas_added": Mistake("ᾱ_t is taken as 1 − (β_1 + … + β_t); it is the product (1 − β_1) ⋯ (1 − β_t)",
                           _with(_noised, table=lambda betas: 1 - betas.cumsum(0)), 1),
    "one_step_early": Mistake("ᾱ_{t−1} is taken for ᾱ_t: entry t of `betas` belongs to step t",
                              _with(_noised, late=-1), 1),
    "one_step_late": Mistake("ᾱ_{t+1} is taken for ᾱ_t: entry t of `betas` belongs to step t, and β_0 = 0 is one of "
                             "them", _with(_noised, late=1), 1),
    "nothing_for_zero": Mistake("for t = 0 the last entry of a table is read, because there index −1 is used; ᾱ_0 is 1 "
                                "and x_0 the picture itself",
                                _with(_noised, table=lambda betas: _bars(betas[1:]), late=-1), 1),
    "same_step_for_all": Mistake("all pictures get the noise of the first one's step; each has its own t",
                                 _with(_noised, pick=lambda t: t[:1].expand_as(t)), 3),
    "along_the_columns": Mistake("the numbers ᾱ_t run along the columns; there is one for each picture, so they need "
                                 "the shape (N, 1, 1, 1)", _with(_noised, shape=lambda bar: bar), 3),
    "same_noise_again": Mistake("the same noise is added in each of the t steps: the steps have independent noises, "
                                "whose variances add up to 1 − ᾱ_t", _noised_again, 2),
    "writes_into_input": Mistake("the noisy picture is written over the one that was given", _noised_in_place, None),
})
def add_noise(task: Task) -> None:
    def case(number: int, channels: int, height: int, width: int, t: Sequence[int], steps: int,
             dtype: torch.dtype = torch.float64) -> tuple:
        x0 = _pictures(task, number, channels, height, width, dtype=dtype)
        return x0, torch.tensor(t), task.normal(*x0.shape).to(dtype), _schedule(task, steps, dtype=dtype)

    with task.property("mixes a picture and noise", share=0.5):
        task.compare(*case(1, 1, 4, 5, [3], 6), tolerance=1e-9)
        task.compare(*case(1, 3, 5, 4, [5], 9), tolerance=1e-9)
    with task.property("takes for every picture its own step", share=0.5):
        task.compare(*case(4, 3, 3, 4, [2, 7, 4, 1], 8), tolerance=1e-9)
        task.compare(*case(2, 1, 5, 3, [6, 3], 7, torch.float32), tolerance=1e-5)
    with task.property("gives the picture itself for t = 0, and works up to the last step"):
        task.compare(*case(2, 1, 3, 3, [0, 5], 5), tolerance=1e-9)


# --- 2 · One step back ----------------------------------------------------------------------------------------------

def _factors(alpha: Tensor, beta: Tensor, bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Of x_0 and of x_t."""
    return before.sqrt() * beta / (1 - bar), alpha.sqrt() * (1 - before) / (1 - bar)


def _image_of_noise(x_t: Tensor, noise: Tensor, alpha: Tensor, bar: Tensor) -> Tensor:
    return (x_t - (1 - bar).sqrt() * noise) / bar.sqrt()


def _mean(prediction: Tensor, x_t: Tensor, t: int, betas: Tensor, given: str, *, factors: Callable = _factors, late: int = 0,
          image_of_noise: Callable = _image_of_noise, understood: Callable[[str], str] = lambda given: given,
          stops_at_the_image: bool = False, first: Callable[[Tensor], Tensor] = lambda bars: bars[0]) -> Tensor:
    """The posterior mean; the options are where answers differ."""
    t, bars, given = t + late, _bars(betas), understood(given)
    alpha, beta, bar, before = 1 - betas[t], betas[t], bars[t], first(bars) if t == 1 else bars[t - 1]
    if given == "mean":
        return prediction
    image = image_of_noise(x_t, prediction, alpha, bar) if given == "noise" else prediction
    if stops_at_the_image and given == "noise":
        return image
    of_image, of_chain = factors(alpha, beta, bar, before)
    return of_image * image + of_chain * x_t


def _ho(prediction: Tensor, x_t: Tensor, t: int, betas: Tensor, given: str, *,
        of_noise: Callable = lambda beta, bar: beta / (1 - bar).sqrt(),
        scale: Callable = lambda alpha, bar: alpha.sqrt()) -> Tensor:
    """With the noise given, (x_t − of_noise · ε) / scale, as Ho et al. write it."""
    if given != "noise":
        return _mean(prediction, x_t, t, betas, given)
    alpha, beta, bar = 1 - betas[t], betas[t], _bars(betas)[t]
    return (x_t - of_noise(beta, bar) * prediction) / scale(alpha, bar)


def _image_factor(factor: Callable) -> Callable:
    """The right answer with another factor of x_0: a function of α_t, β_t, ᾱ_t and ᾱ_{t−1}."""
    return _with(_mean, factors=lambda *a: (factor(*a), _factors(*a)[1]))


def _chain_factor(factor: Callable) -> Callable:
    """The right answer with another factor of x_t."""
    return _with(_mean, factors=lambda *a: (_factors(*a)[0], factor(*a)))


def _from_noise(image: Callable) -> Callable:
    """The right answer with another way from the noise to the image: a function of x_t, ε, α_t and ᾱ_t."""
    return _with(_mean, image_of_noise=image)


def _put_back(a: Tensor, b: Tensor, bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of DDIM's step."""
    of_chain = ((1 - before) / (1 - bar)).sqrt()
    return before.sqrt() - of_chain * bar.sqrt(), of_chain


def _taken_for_image(given: str) -> Callable[[str], str]:
    """Takes a prediction of that kind for the image."""
    return lambda said: "image" if said == given else said


def _factors_exchanged_for_the_image(prediction: Tensor, x_t: Tensor, t: int, betas: Tensor, given: str) -> Tensor:
    exchanged = {"factors": lambda *a: _factors(*a)[::-1]} if given == "image" else {}
    return _mean(prediction, x_t, t, betas, given, **exchanged)


def _mean_in_place(prediction: Tensor, x_t: Tensor, *rest) -> Tensor:
    return x_t.copy_(_mean(prediction, x_t, *rest))


@exercise(points=2, minutes=25, reference=_mean, withholds=(
    _CHAIN, "labkit.diffusion_inpainting.sampling.ancestral_step"), mistakes={
    "as_printed": Mistake("the factor of x_t has √ᾱ_t, as the thesis prints it; it is √α_t, of this step alone",
                          _chain_factor(lambda a, b, bar, before: bar.sqrt() * (1 - before) / (1 - bar)), 2),
    "root_of_this_step": Mistake("the factor of x_0 has √ᾱ_t; it has √ᾱ_{t−1}, for the mean lies at step t − 1",
                                 _image_factor(lambda a, b, bar, before: bar.sqrt() * b / (1 - bar)), 2),
    "bars_exchanged": Mistake("ᾱ_t and ᾱ_{t−1} are exchanged: at t = 1 that divides by 0",
                              _with(_mean, factors=lambda a, b, bar, before: _factors(a, b, before, bar)), 2),
    "roots_forgotten": Mistake("the roots of ᾱ_{t−1} and of α_t are missing", _with(
        _mean, factors=lambda a, b, bar, before: (before * b / (1 - bar), a * (1 - before) / (1 - bar))), 2),
    "image_root_forgotten": Mistake("the factor of x_0 has ᾱ_{t−1} without its root",
                                    _image_factor(lambda a, b, bar, before: before * b / (1 - bar)), 2),
    "chain_root_forgotten": Mistake("the factor of x_t has α_t without its root",
                                    _chain_factor(lambda a, b, bar, before: a * (1 - before) / (1 - bar)), 2),
    "squared_denominator": Mistake("the denominator is squared; it is 1 − ᾱ_t",
                                   _with(_mean, factors=lambda *a: tuple(f / (1 - a[2]) for f in _factors(*a))), 2),
    "earlier_denominator": Mistake("the denominator is 1 − ᾱ_{t−1}, which is 0 at t = 1; it is 1 − ᾱ_t", _with(
        _mean, factors=lambda *a: tuple(f * (1 - a[2]) / (1 - a[3]) for f in _factors(*a))), 2),
    "no_denominator": Mistake("the sum is not divided by 1 − ᾱ_t",
                              _with(_mean, factors=lambda *a: tuple(f * (1 - a[2]) for f in _factors(*a))), 2),
    "alpha_for_beta": Mistake("the factor of x_0 has α_t for β_t",
                              _image_factor(lambda a, b, bar, before: before.sqrt() * a / (1 - bar)), 2),
    "posterior_variance_for_beta": Mistake(
        "the factor of x_0 has the posterior's variance for β_t",
        _image_factor(lambda a, b, bar, before: before.sqrt() * b * (1 - before) / (1 - bar) ** 2), 2),
    "before_the_first": Mistake("at t = 1 the last entry of a table stands for ᾱ_0, because there index −1 is used; "
                                "ᾱ_0 is 1", _with(_mean, first=lambda bars: bars[-1]), 1),
    "image_faded": Mistake("x_t is left out: the mean is not √ᾱ_{t−1} x̂_0, it lies between x_t and that",
                           _with(_mean, factors=lambda a, b, bar, before: (before.sqrt(), torch.zeros_like(bar))), 2),
    "noise_put_back": Mistake("the noise that was found is put back, √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1}) ε̂; that is "
                              "another way back (DDIM), not the posterior's mean", _with(_mean, factors=_put_back), 2),
    "factors_exchanged": Mistake("the factors of x_0 and of x_t are exchanged",
                                 _with(_mean, factors=lambda *a: _factors(*a)[::-1]), 2),
    "image_factors_exchanged": Mistake("with given = \"image\" the factors of x_0 and of x_t are exchanged", _factors_exchanged_for_the_image, 2),
    "roots_exchanged": Mistake("the roots of the two factors are exchanged: x_0 has √ᾱ_{t−1}, x_t has √α_t", _with(
        _mean, factors=lambda a, b, bar, before: (a.sqrt() * b / (1 - bar), before.sqrt() * (1 - before) / (1 - bar))), 2),
    "numerators_exchanged": Mistake("β_t and 1 − ᾱ_{t−1} are exchanged: x_0 has β_t, x_t has 1 − ᾱ_{t−1}", _with(
        _mean, factors=lambda a, b, bar, before: (before.sqrt() * (1 - before) / (1 - bar), a.sqrt() * b / (1 - bar))), 2),
    "all_noise_for_beta": Mistake("1 − ᾱ_t is taken for β_t: that is the noise of all steps so far; β_t is `betas[t]`, of this step alone",
                                  _image_factor(lambda a, b, bar, before: before.sqrt()), 1),
    "bar_for_alpha_and_beta": Mistake("α_t is taken as ᾱ_t and β_t as 1 − ᾱ_t; they are those of this step alone, 1 − `betas[t]` and "
                                      "`betas[t]`", _with(_mean, factors=lambda a, b, bar, before: (
                                          before.sqrt(), bar.sqrt() * (1 - before) / (1 - bar))), 1),
    "one_step_early": Mistake("everything is taken one step early, at t − 1: entry t of `betas` is β_t",
                              _with(_mean, late=-1), 1),
    "one_step_late": Mistake("everything is taken one step late, at t + 1: entry t of `betas` is β_t, and β_0 = 0 is "
                             "one of them", _with(_mean, late=1), 1),
    "noise_taken_for_the_image": Mistake("with given = \"noise\" the prediction is used as if it were the image; turn "
                                         "it into one first", _with(_mean, understood=_taken_for_image("noise")), 3),
    "mean_taken_for_the_image": Mistake("with given = \"mean\" the prediction is used as if it were the image; it is "
                                        "the result already", _with(_mean, understood=_taken_for_image("mean")), 3),
    "always_an_image": Mistake("`given` is ignored, and every prediction is used as if it were the image",
                               _with(_mean, understood=lambda given: "image"), 3),
    "stops_at_the_image": Mistake("with given = \"noise\" the image is returned; it still has to go into the mean",
                                  _with(_mean, stops_at_the_image=True), 3),
    "noise_added": Mistake("the image is (x_t + √(1 − ᾱ_t) ε) / √ᾱ_t; the noise is taken off, not added",
                           _from_noise(lambda x_t, noise, alpha, bar: (x_t + (1 - bar).sqrt() * noise) / bar.sqrt()), 3),
    "noise_not_scaled_up": Mistake("taking off the noise leaves √ᾱ_t x_0; divide by √ᾱ_t",
                                   _from_noise(lambda x_t, noise, alpha, bar: x_t - (1 - bar).sqrt() * noise), 3),
    "noise_root_forgotten": Mistake("the noise is multiplied by 1 − ᾱ_t; it is multiplied by the root of that",
                                    _from_noise(lambda x_t, noise, alpha, bar: (x_t - (1 - bar) * noise) / bar.sqrt()), 3),
    "divided_without_root": Mistake("taking off the noise leaves √ᾱ_t x_0, which is divided by ᾱ_t; divide by its root",
                                    _from_noise(lambda x_t, noise, alpha, bar: (x_t - (1 - bar).sqrt() * noise) / bar), 3),
    "noise_of_a_single_step": Mistake("the noise is taken off as if it were that of the last step, with α_t for ᾱ_t; ε "
                                      "is all the noise since x_0", _from_noise(
                                          lambda x_t, noise, alpha, bar: _image_of_noise(x_t, noise, alpha, alpha)), 3),
    "short_form_without_root": Mistake("with given = \"noise\" the mean is (x_t − β_t / (1 − ᾱ_t) ε) / √α_t; there is "
                                       "√(1 − ᾱ_t) under β_t",
                                       _with(_ho, of_noise=lambda beta, bar: beta / (1 - bar)), 3),
    "short_form_with_bar": Mistake("with given = \"noise\" the mean is divided by √ᾱ_t; in (x_t − β_t / √(1 − ᾱ_t) ε) "
                                   "/ √α_t it is √α_t", _with(_ho, scale=lambda alpha, bar: bar.sqrt()), 3),
    "writes_into_input": Mistake("the mean is written over x_t, which the caller still needs", _mean_in_place, None),
})
def posterior_mean(task: Task) -> None:
    def compare(given: str, t: int, steps: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        x_t, betas = task.normal(*shape).to(dtype), _schedule(task, steps, dtype=dtype)
        prediction = task.normal(*shape).to(dtype) if given != "image" else _pictures(task, *shape, dtype=dtype)
        task.compare(prediction, x_t, t, betas, given, tolerance=1e-9 if dtype == torch.float64 else 1e-5)

    with task.property("leads from an estimate of the image to the mean", share=0.6):
        compare("image", 4, 6, (2, 3, 4, 5))
        compare("image", 2, 9, (1, 1, 5, 3))
        compare("image", 3, 5, (1, 3, 3, 4), torch.float32)
    with task.property("leads from an estimate of the noise to the mean", share=0.4):
        compare("noise", 5, 7, (2, 1, 4, 5))
        compare("noise", 2, 8, (1, 3, 3, 4))
    with task.property("returns the mean where the prediction is one"):
        compare("mean", 3, 6, (2, 1, 3, 4))
    with task.property("ends at the image itself, at t = 1, and begins at the last step"):
        compare("image", 1, 6, (2, 1, 3, 4))
        compare("noise", 7, 7, (1, 1, 3, 4))
        compare("noise", 1, 5, (1, 1, 4, 3))


# --- 3 · What the error of a step counts ----------------------------------------------------------------------------

def _variance(beta: Tensor, bar: Tensor, before: Tensor) -> Tensor:
    """σ_t², for all steps from 1, with σ_2 in the place of σ_1."""
    variance = (1 - before) / (1 - bar) * beta
    variance[0] = variance[1]
    return variance


def _elbo(alpha: Tensor, beta: Tensor, bar: Tensor, before: Tensor, target: str, *, variance: Callable = _variance,
          image: Callable = lambda alpha, beta, bar, before: before * beta ** 2 / (1 - bar) ** 2,
          noise: Callable = lambda alpha, beta, bar, before: beta ** 2 / (alpha * (1 - bar)), half: float = 2.0) -> Tensor:
    return (image if target == "image" else noise)(alpha, beta, bar, before) / (half * variance(beta, bar, before))


def _min_snr(alpha: Tensor, beta: Tensor, bar: Tensor, before: Tensor, target: str, *,
             snr: Callable = lambda alpha, bar, before: bar / (1 - bar),
             cap: Callable[[Tensor], Tensor] = lambda snr: snr.clamp(max=5),
             of_noise: Callable[[Tensor, Tensor], Tensor] = torch.div) -> Tensor:
    ratio = snr(alpha, bar, before)
    return of_noise(cap(ratio), ratio) if target == "noise" else cap(ratio)


def _weights(t: Tensor, betas: Tensor, kind: str, target: str, *, elbo: Callable = _elbo, min_snr: Callable = _min_snr,
             early: int = 0, understood: Callable[[str, str], str] = lambda target, kind: target,
             change: Callable[[Tensor], Tensor] = lambda w: w) -> Tensor:
    """The weights of the steps t; the options are where answers differ."""
    beta, bars = betas[1:], _bars(betas)
    table = {"elbo": elbo, "min_snr": min_snr}[kind](1 - beta, beta, bars[1:], bars[:-1], understood(target, kind))
    return change(table[t - 1 - early])


def _exchanged(target: str, kind: str) -> str:
    return {"image": "noise", "noise": "image"}[target]


def _upside_down(beta: Tensor, bar: Tensor, before: Tensor) -> Tensor:
    return torch.where(before < 1, (1 - bar) / (1 - before), 1.0) * beta


def _first_variance(value: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """σ_t² with another one in the place of σ_1²; `value(variances, β)`."""
    def variance(beta: Tensor, bar: Tensor, before: Tensor) -> Tensor:
        result = (1 - before) / (1 - bar) * beta
        result[0] = value(result, beta)
        return result
    return variance


def _betas_from_two(beta: Tensor, bar: Tensor, before: Tensor) -> Tensor:
    """β_t for σ_t², which is what ᾱ_t in the place of ᾱ_{t−1} makes of it, with β_2 in the place of β_1."""
    return torch.cat([beta[1:2], beta[1:]])


def _image_of_this_step(alpha: Tensor, beta: Tensor, bar: Tensor, before: Tensor) -> Tensor:
    return bar * beta ** 2 / (1 - bar) ** 2


_SAME_BAR = ("ᾱ_t stands for ᾱ_{t−1}, `alpha_bars[t]` for `alpha_bars[t - 1]`: in σ_t² the fraction becomes 1, and the image's weight "
             "is smaller")


def _second_weight(*arguments) -> Tensor:
    weights = _elbo(*arguments)
    weights[0] = weights[1]
    return weights


def _first_is(value: float) -> Callable:
    def elbo(*arguments) -> Tensor:
        weights = _elbo(*arguments)
        weights[0] = value
        return weights
    return elbo


def _elbo_with(**options) -> Callable:
    return _with(_weights, elbo=_with(_elbo, **options))


def _min_snr_with(**options) -> Callable:
    return _with(_weights, min_snr=_with(_min_snr, **options))


@exercise(points=2, minutes=30, reference=_weights, withholds=(_CHAIN,), mistakes={
    "as_printed": Mistake("for the noise, the ELBO's denominator has (1 − ᾱ_t)², as the last line of the thesis's "
                          "appendix prints it; there is no square",
                          _elbo_with(noise=lambda alpha, beta, bar, before: beta ** 2 / (alpha * (1 - bar) ** 2)), 2),
    "image_not_squared": Mistake("for the image, the ELBO's denominator has 1 − ᾱ_t without its square",
                                 _elbo_with(image=lambda alpha, beta, bar, before: before * beta ** 2 / (1 - bar)), 2),
    "bar_for_alpha": Mistake("for the noise, the ELBO's denominator has ᾱ_t for α_t",
                             _elbo_with(noise=lambda alpha, beta, bar, before: beta ** 2 / (bar * (1 - bar))), 2),
    "bar_of_this_step": Mistake("for the image, the ELBO's weight has ᾱ_t for ᾱ_{t−1}",
                                _elbo_with(image=lambda alpha, beta, bar, before: bar * beta ** 2 / (1 - bar) ** 2), 2),
    "beta_not_squared": Mistake("the ELBO's weight has β_t for β_t²", _elbo_with(
        image=lambda alpha, beta, bar, before: before * beta / (1 - bar) ** 2,
        noise=lambda alpha, beta, bar, before: beta / (alpha * (1 - bar))), 2),
    "half_forgotten": Mistake("the ELBO's weight is twice what it should be: there is 2σ_t² in its denominator",
                              _elbo_with(half=1.0), 2),
    "beta_for_the_variance": Mistake("σ_t² is taken as β_t; here it is the posterior's variance, (1 − ᾱ_{t−1}) / (1 − "
                                     "ᾱ_t) β_t", _elbo_with(variance=lambda beta, bar, before: beta), 1),
    "bar_for_both": Mistake(_SAME_BAR, _elbo_with(variance=lambda beta, bar, before: beta, image=_image_of_this_step), 1),
    "bar_for_both_from_two": Mistake(_SAME_BAR + " (and σ_2 in the place of σ_1, as it should be)",
                                     _elbo_with(variance=_betas_from_two, image=_image_of_this_step), 1),
    "beta_for_the_variance_from_two": Mistake(
        "σ_t² is taken as β_t, with β_2 in the place of β_1; here it is the posterior's variance, (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t",
        _elbo_with(variance=_betas_from_two), 1),
    "sigma_for_the_variance": Mistake("the weight is divided by 2σ_t instead of 2σ_t²",
                                      _elbo_with(variance=lambda *a: _variance(*a).sqrt()), 1),
    "variance_upside_down": Mistake("the posterior's variance has its fraction upside down: it is (1 − ᾱ_{t−1}) / (1 − ᾱ_t) "
                                    "β_t, smaller than β_t", _elbo_with(variance=_upside_down), 1),
    "not_capped": Mistake("at t = 1 the ELBO's weight is infinite: σ_1 is 0. Take σ_2 in its place", _elbo_with(
        variance=lambda beta, bar, before: (1 - before) / (1 - bar) * beta), 3),
    "first_left_out": Mistake("at t = 1 the ELBO's weight is set to 0; take σ_2 for σ_1",
                              _with(_weights, elbo=_first_is(0.0)), 3),
    "first_is_one": Mistake("at t = 1 the ELBO's weight is set to 1; take σ_2 for σ_1",
                            _with(_weights, elbo=_first_is(1.0)), 3),
    "first_beta": Mistake("at t = 1 β_1 is taken for σ_1²; here it is σ_2²",
                          _elbo_with(variance=_first_variance(lambda variance, beta: beta[0])), 3),
    "second_beta": Mistake("at t = 1 β_2 is taken for σ_1²; here it is σ_2²",
                           _elbo_with(variance=_first_variance(lambda variance, beta: beta[1])), 3),
    "second_weight": Mistake("at t = 1 the whole weight of t = 2 is taken; only σ_1 is replaced by σ_2",
                             _with(_weights, elbo=_second_weight), 3),
    "second_step_for_all": Mistake("the whole step 1 is replaced by step 2; only σ_1 is, ᾱ and β stay those of t = 1",
                                   lambda t, *rest: _weights(t.clamp(min=2), *rest), 3),
    "elbo_capped": Mistake("the ELBO's weights are capped at 5, as those of Min-SNR are; here only σ_1 is replaced",
                           _with(_weights, elbo=lambda *a: _elbo(*a).clamp(max=5)), 3),
    "target_ignored": Mistake("the weights of the image are used for the noise too; an error of the noise is another "
                              "of the image, and the weight makes up for that",
                              _with(_weights, understood=lambda target, kind: "image"), 4),
    "min_snr_target_ignored": Mistake("Min-SNR has the same weights for the noise as for the image; for the noise they "
                                      "are divided by the SNR", _min_snr_with(of_noise=lambda weight, snr: weight), 4),
    "min_snr_multiplied": Mistake("for the noise Min-SNR's weight is multiplied by the SNR; it is divided by it",
                                  _min_snr_with(of_noise=torch.mul), 4),
    "elbo_target_ignored": Mistake("the ELBO has the same weights for the noise as for the image", _with(
        _weights, understood=lambda target, kind: "image" if kind == "elbo" else target), 2),
    "targets_exchanged": Mistake("the weights of image and noise are exchanged",
                                 _with(_weights, understood=_exchanged), 4),
    "earlier_snr": Mistake("Min-SNR has ᾱ_{t−1} in its numerator; the signal-to-noise ratio is ᾱ_t / (1 − ᾱ_t)",
                           _min_snr_with(snr=lambda alpha, bar, before: before / (1 - bar)), 4),
    "snr_of_the_step": Mistake("the signal-to-noise ratio has α_t for ᾱ_t",
                               _min_snr_with(snr=lambda alpha, bar, before: alpha / (1 - alpha)), 4),
    "snr_upside_down": Mistake("the signal-to-noise ratio is upside down: it is ᾱ_t / (1 − ᾱ_t), large where there is "
                               "little noise", _min_snr_with(snr=lambda alpha, bar, before: (1 - bar) / bar), 4),
    "snr_root": Mistake("the signal-to-noise ratio has a root; it is that of the variances", _min_snr_with(
        snr=lambda alpha, bar, before: (bar / (1 - bar)).sqrt()), 4),
    "max_for_min": Mistake("the larger of the SNR and 5 is taken; it is the smaller",
                           _min_snr_with(cap=lambda snr: snr.clamp(min=5)), 4),
    "snr_not_capped": Mistake("the SNR is not capped: Min-SNR takes at most 5 of it",
                              _min_snr_with(cap=lambda snr: snr), 4),
    "capped_at_one": Mistake("the SNR is capped at 1; it is capped at 5",
                             _min_snr_with(cap=lambda snr: snr.clamp(max=1)), 4),
    "divided_by_the_sum": Mistake("the weights are divided by their sum; here they stay as they are",
                                  _with(_weights, change=lambda w: w / w.sum()), None),
    "divided_by_the_mean": Mistake("the weights are divided by their mean; here they stay as they are",
                                   _with(_weights, change=lambda w: w / w.mean()), None),
    "one_step_early": Mistake("everything is taken one step early, at t − 1: entry t of `betas` is β_t",
                              _with(_weights, early=1), 1),
    "one_step_late": Mistake("everything is taken one step late, at t + 1: entry t of `betas` is β_t",
                             _with(_weights, early=-1), 1),
})
def loss_weights(task: Task) -> None:
    def compare(t: Sequence[int], steps: int, kind: str, target: str, tolerance: float = 1e-8) -> None:
        task.compare(torch.tensor(t), _schedule(task, steps), kind, target, tolerance=tolerance)

    with task.property("ELBO, for a network that predicts the image", share=0.3):
        compare([4, 2, 7, 3, 5], 9, "elbo", "image")
    with task.property("ELBO, for a network that predicts the noise", share=0.25):
        compare([3, 5, 2, 6], 8, "elbo", "noise")
    with task.property("ELBO at t = 1, with σ_2 in the place of σ_1", share=0.15):
        compare([2, 1, 5, 1], 7, "elbo", "image")
        compare([1], 2, "elbo", "noise")
    with task.property("Min-SNR, for a network that predicts the image", share=0.15):
        compare([7, 2, 4, 1, 6], 10, "min_snr", "image")
    with task.property("Min-SNR, for a network that predicts the noise", share=0.15):
        compare([3, 1, 5, 8], 10, "min_snr", "noise")
    with task.property("works up to the last step"):
        compare([6, 1], 6, "min_snr", "image")
        compare([2, 5], 5, "elbo", "image")


# --- 4 · A hole like a stroke of a brush ----------------------------------------------------------------------------

def _down_right(angle: Tensor) -> Tensor:
    return torch.stack([angle.sin(), angle.cos()])


def _corners(start: Tensor, angles: Tensor, lengths: Tensor, height: int, width: int, *,
             mirrored: Callable[[int], bool] = lambda i: i % 2 == 0,
             move: Callable[[Tensor], Tensor] = _down_right, inside: str = "each", turns: bool = False, far: int = 1,
             mirror: float = 2 * math.pi, rounds: bool = False) -> list[Tensor]:
    """The corners of the path; i counts segments from 1."""
    points = [start.round() if rounds else start]
    last, total = torch.tensor([height - far, width - far]).to(start), torch.zeros(()).to(start)
    for i, (angle, length) in enumerate(zip(angles, lengths), 1):
        total = total + angle if turns else angle
        following = points[-1] + length * move(mirror - total if mirrored(i) else total)
        following = following.round() if rounds else following
        points.append(following.clamp(min=0).minimum(last) if inside == "each" else following)
    return [p.clamp(min=0).minimum(last) for p in points] if inside == "afterwards" else points


def _distance(rows: Tensor, columns: Tensor, first: Tensor, second: Tensor, *, segment: bool = True,
              metric: Callable = torch.hypot) -> Tensor:
    """Of every pixel from a segment, or from the line through it."""
    down, right = second - first
    along = ((rows - first[0]) * down + (columns - first[1]) * right) / (down ** 2 + right ** 2).clamp(min=1e-12)
    along = along.clamp(0, 1) if segment else along
    return metric(rows - first[0] - along * down, columns - first[1] - along * right)


def _pairs(points: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(points, points[1:]))


def _painted(start: Tensor, angles: Tensor, lengths: Tensor, height: int, width: int, thickness: float, *,
             pairs: Callable = _pairs, reach: Callable[[float], float] = lambda thickness: thickness / 2,
             half: float = 0.0, segment: bool = True, metric: Callable = torch.hypot, near: Callable = torch.le,
             result: Callable[[Tensor], Tensor] = lambda mask: mask[None], **options) -> Tensor:
    """The mask; the options are where answers differ."""
    rows = torch.arange(height, dtype=start.dtype)[:, None] + half
    columns = torch.arange(width, dtype=start.dtype) + half
    points = _corners(start, angles, lengths, height, width, **options)
    mask = torch.zeros(height, width, dtype=torch.bool)
    for first, second in pairs(points):
        mask |= near(_distance(rows, columns, first, second, segment=segment, metric=metric), reach(thickness))
    return result(mask)


def _axes_exchanged(start: Tensor, *rest) -> Tensor:
    return _painted(start.flip(0), *rest, move=lambda angle: _down_right(angle).flip(0))


def _stroke(task: Task, height: int, width: int, segments: int, thickness: float, *, longest: float,
            start: tuple[float, float] | None = None, angle: float | None = None, still: int | None = None,
            leaves: bool = False) -> tuple:
    """Arguments of a path that stays inside the picture, or leaves it; no pixel lies on the edge of the brush."""
    while True:
        place = (0.3 + 0.4 * task.uniform(2).double()) * torch.tensor([height, width])
        place = place if start is None else torch.tensor(start, dtype=torch.float64) + 0.5 * task.uniform(2).double()
        draws = task.uniform(segments).double()
        angles = 2 * math.pi * draws if angle is None else angle + 0.5 * draws
        lengths = (0.5 + 0.5 * task.uniform(segments).double()) * longest
        if still is not None:
            lengths[still] = 0
        free, points = (_corners(place, angles, lengths, height, width, inside=inside) for inside in ("never", "each"))
        if leaves == all(torch.equal(p, q) for p, q in zip(free, points)):
            continue
        rows, columns = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
        gaps = [(_distance(rows, columns, *pair) - thickness / 2).abs().min() for pair in _pairs(points)]
        if min(gaps) > _ROOM:
            return place, angles, lengths, height, width, thickness


_UPWARDS = ("the path is its mirror image, up for down: rows grow downwards, so + ℓ sin θ leads down; and it is every *second* "
            "segment, i = 2, 4, …, counted from 1, that takes 2π − θ")


@exercise(points=2, minutes=30, reference=_painted, withholds=(
    "labkit.diffusion_inpainting.brush_mask", "labkit.diffusion_inpainting.masks.brush_masks",
    "labkit.diffusion_inpainting.masks.brush_path", "labkit.diffusion_inpainting.masks.draw_path"), mistakes={
    "never_mirrored": Mistake("no segment is mirrored: every second one, i = 2, 4, …, takes 2π − θ for θ",
                              _with(_painted, mirrored=lambda i: False), 1),
    "always_mirrored": Mistake("every segment is mirrored; only every second one, i = 2, 4, …, takes 2π − θ for θ",
                               _with(_painted, mirrored=lambda i: True), 1),
    "mirrored_the_others": Mistake(_UPWARDS, _with(_painted, mirrored=lambda i: i % 2 == 1), 1),
    "mirrored_left_to_right": Mistake("the angle π − θ exchanges left and right; 2π − θ exchanges up and down",
                                      _with(_painted, mirror=math.pi), 1),
    "rounded": Mistake("the corners are rounded to whole pixels; they may lie between them",
                       _with(_painted, rounds=True), 1),
    "no_dot": Mistake("a segment of length 0 paints nothing: 0 / 0 gives NaN, which is no distance. Clamp ‖d‖² to a tiny "
                      "number from below", _with(_painted, pairs=lambda points: [
                          (p, q) for p, q in _pairs(points) if not torch.equal(p, q)]), 2),
    "sine_and_cosine_exchanged": Mistake("sine and cosine are exchanged: cos θ leads to the right, along the columns, "
                                         "sin θ down, along the rows",
                                         _with(_painted, move=lambda angle: _down_right(angle).flip(0)), 1),
    "start_swapped": Mistake("the start is read as (column, row); it is (row, column)",
                             lambda start, *rest: _painted(start.flip(0), *rest), 1),
    "coordinates_swapped": Mistake("rows and columns are exchanged all along: points are (row, column), rows first",
                                   _axes_exchanged, 1),
    "angles_added": Mistake("each angle is added to the ones before; all of them are measured from the same direction, "
                            "to the right", _with(_painted, turns=True), 1),
    "degrees": Mistake("the angles are taken for degrees; they are in radians",
                       lambda start, angles, *rest: _painted(start, angles.deg2rad(), *rest), 1),
    "starts_again": Mistake("every segment begins at the start; it begins where the one before ended", _with(
        _painted, pairs=lambda points: [(points[0], points[0] + q - p) for p, q in _pairs(points)]), 1),
    "last_segment_forgotten": Mistake("the last segment is not painted",
                                      _with(_painted, pairs=lambda points: _pairs(points)[:-1]), 1),
    "not_kept_inside": Mistake("the path leaves the picture; each of its points is moved back to the nearest pixel "
                               "inside", _with(_painted, inside="never"), 1),
    "kept_inside_afterwards": Mistake("the points are moved back inside after the whole walk; each is, before the next "
                                      "segment begins there", _with(_painted, inside="afterwards"), 1),
    "one_pixel_too_far": Mistake("points may go to row H and column W; the last ones are H − 1 and W − 1",
                                 _with(_painted, far=0), 1),
    "radius_for_diameter": Mistake("everything within `thickness` of the path is painted; that is the diameter of the "
                                   "brush, and it reaches half as far",
                                   _with(_painted, reach=lambda thickness: thickness), 3),
    "ties_left_out": Mistake("only what is nearer than half the thickness is painted; pixels at exactly half the thickness are "
                             "painted too (≤)", _with(_painted, near=torch.lt), 3),
    "not_squared": Mistake("the squared distance is compared with thickness / 2; compare it with the square of that",
                           _with(_painted, reach=lambda thickness: math.sqrt(thickness / 2)), 3),
    "half_of_the_square": Mistake("the squared distance is compared with thickness² / 2; compare it with (thickness / "
                                  "2)²", _with(_painted, reach=lambda thickness: thickness / math.sqrt(2)), 3),
    "square_brush": Mistake("the brush is a square: the larger of the two differences decides. It is round: their "
                            "hypotenuse decides",
                            _with(_painted, metric=lambda a, b: torch.maximum(a.abs(), b.abs())), 3),
    "diamond_brush": Mistake("the brush is a diamond: the two differences are added. It is round: their hypotenuse "
                             "decides", _with(_painted, metric=lambda a, b: a.abs() + b.abs()), 3),
    "whole_lines": Mistake("whole lines are painted, from border to border: where the nearest point lies before the "
                           "beginning or behind the end of a segment, the end is nearest",
                           _with(_painted, segment=False), 2),
    "corners_only": Mistake("only the corners of the path are painted, not what lies between them",
                            _with(_painted, pairs=lambda points: [(p, p) for p in points]), 2),
    "pixels_moved_by_a_half": Mistake("pixels are taken to lie at half numbers; the pixel in row i and column j lies "
                                      "at (i, j)", _with(_painted, half=0.5), 3),
    "inverted": Mistake("the mask is True where the brush has *not* been; True means missing",
                        _with(_painted, result=lambda mask: ~mask[None]), 3),
    "float": Mistake("the mask holds numbers; it is boolean",
                     _with(_painted, result=lambda mask: mask[None].to(torch.float32)), 3),
    "float64": Mistake("the mask holds numbers; it is boolean",
                       _with(_painted, result=lambda mask: mask[None].double()), 3),
    "no_first_axis": Mistake("the mask has the shape (H, W); masks have (1, H, W)",
                             _with(_painted, result=lambda mask: mask), 3),
})
def brush_mask(task: Task) -> None:
    with task.property("paints a single stroke", share=0.35):
        task.compare(*_stroke(task, 15, 20, 1, 3.0, longest=6, angle=0.4))
        task.compare(*_stroke(task, 20, 16, 1, 4.5, longest=6, angle=3.9))
    with task.property("goes back and forth", share=0.4):
        task.compare(*_stroke(task, 20, 26, 3, 2.5, longest=7))
        task.compare(*_stroke(task, 25, 21, 5, 3.5, longest=6))
    with task.property("stays inside the picture", share=0.25):
        task.compare(*_stroke(task, 14, 18, 4, 3.0, longest=12, start=(3, 12), angle=0.6, leaves=True))
        task.compare(*_stroke(task, 18, 15, 5, 2.5, longest=11, leaves=True))
    with task.property("paints a dot where a segment has length 0"):
        task.compare(*_stroke(task, 16, 17, 1, 5.0, longest=5, still=0))
        task.compare(*_stroke(task, 16, 17, 3, 3.0, longest=5, still=1))
    with task.property("paints pixels at exactly half the thickness too"):
        # whole numbers only, so that the ties are exact: 13 pixels, and 9 without those two pixels up, down, left and right
        place = torch.tensor([5.0, 5.0], dtype=torch.float64)
        task.compare(place, torch.zeros_like(place[:1]), torch.zeros_like(place[:1]), 11, 12, 4.0)


# --- 5 · No leak ----------------------------------------------------------------------------------------------------

def _masked(crop: Tensor, missing: Tensor, painted: Tensor, noise: Tensor, alpha_bar: float, *,
            mask: Callable[[Tensor, Tensor], Tensor] = torch.logical_or,
            counted: Callable[[Tensor, Tensor], Tensor] = lambda m, p: p & ~m,
            in_chain: Callable[[Tensor, Tensor], Tensor] = lambda m, p: m,
            in_known: Callable[[Tensor, Tensor], Tensor] = torch.logical_or,
            factors: Callable[[float], tuple[float, float]] = lambda bar: (bar ** 0.5, (1 - bar) ** 0.5),
            noisy: Callable | None = None,
            last: Callable[..., tuple] = lambda *results: results) -> tuple:
    """x_t, y, M and where the error counts; the options say which pixels are hidden from which of them."""
    signal, of_noise = factors(alpha_bar)
    x_t = signal * torch.where(in_chain(missing, painted), 0, crop) + of_noise * noise
    x_t = x_t if noisy is None else noisy(x_t, crop, missing, painted)
    y = torch.where(in_known(missing, painted), 0, crop)
    return last(x_t, y, mask(missing, painted), counted(missing, painted))


def _nowhere(missing: Tensor, painted: Tensor) -> Tensor:
    return torch.zeros_like(missing)


def _first(missing: Tensor, painted: Tensor) -> Tensor:
    return missing


def _second(missing: Tensor, painted: Tensor) -> Tensor:
    return painted


def _clean_outside(x_t: Tensor, crop: Tensor, missing: Tensor, painted: Tensor) -> Tensor:
    return torch.where(missing | painted, x_t, crop)


def _noise_itself(crop: Tensor, missing: Tensor, painted: Tensor, noise: Tensor, alpha_bar: float) -> tuple:
    x_t, *rest = _masked(crop, missing, painted, noise, alpha_bar)
    return torch.where(missing, noise, x_t), *rest


def _masked_in_place(crop: Tensor, missing: Tensor, *rest) -> tuple:
    return _masked(crop.masked_fill_(missing, 0), missing, *rest)


@exercise(points=2, minutes=25, reference=_masked, withholds=(
    "labkit.diffusion_inpainting.inpainter.inpainting_loss", "labkit.diffusion_inpainting.inpainter.regression_loss"), mistakes={
    "chain_leaks": Mistake("the missing pixels leak through x_t: they are hidden in y, but x_t is made from the whole "
                           "crop", _with(_masked, in_chain=_nowhere), 1),
    "known_leaks": Mistake("the missing pixels leak through y: y hides the painted pixels only, M hides both",
                           _with(_masked, in_known=_second), 1),
    "all_leaks": Mistake("the missing pixels leak through x_t and y: nothing of what stands under M_test may have an "
                         "influence", _with(_masked, in_chain=_nowhere, in_known=_second), 1),
    "painted_seen": Mistake("y shows what is to be guessed: it has to hide the painted pixels too",
                            _with(_masked, in_known=_first), 2),
    "known_whole": Mistake("y is the whole crop: it has to hide the missing and the painted pixels",
                           _with(_masked, in_known=_nowhere), 2),
    "chain_hides_painted": Mistake("x_t hides the painted pixels too: there it would be pure noise, and there is "
                                   "nothing to learn from it. It is the noisy version of what is known, painted over "
                                   "or not", _with(_masked, in_chain=torch.logical_or), 2),
    "chain_hides_only_painted": Mistake("x_t hides the painted pixels, and shows the missing ones; it is the other way "
                                        "round", _with(_masked, in_chain=_second), 2),
    "noise_hidden": Mistake("x_t is 0 under M_test; the noise stays, only the picture goes",
                            _with(_masked, noisy=lambda x_t, crop, missing, painted: torch.where(missing, 0, x_t)), 2),
    "noise_unscaled_in_the_hole": Mistake("under M_test, x_t is the noise itself; under the hole the noise has to have its factor "
                                          "√(1 − ᾱ_t), as everywhere", _noise_itself, 2),
    "noise_in_the_hole_only": Mistake("x_t has noise in the hole only, and known pixels as they are; noise is added "
                                      "everywhere", _with(_masked, noisy=_clean_outside), 2),
    "roots_forgotten": Mistake("picture and noise in x_t are multiplied by ᾱ_t and 1 − ᾱ_t; it is their roots, as in "
                               "exercise 1", _with(_masked, factors=lambda bar: (bar, 1 - bar)), 2),
    "factors_exchanged": Mistake("the factors of picture and noise in x_t are exchanged",
                                 _with(_masked, factors=lambda bar: ((1 - bar) ** 0.5, bar ** 0.5)), 2),
    "not_faded": Mistake("noise is added, but the picture in x_t does not fade: it is multiplied by √ᾱ_t",
                         _with(_masked, factors=lambda bar: (1.0, (1 - bar) ** 0.5)), 2),
    "mask_of_painted": Mistake("M marks the painted pixels only: the network takes the zeros under M_test for known grey "
                               "pixels", _with(_masked, mask=_second), 2),
    "mask_of_missing": Mistake("M marks the missing pixels only; the painted ones are hidden too",
                               _with(_masked, mask=_first), 2),
    "mask_of_both": Mistake("M marks pixels that are missing *and* painted; it marks those that are missing *or* "
                            "painted", _with(_masked, mask=torch.logical_and), 2),
    "mask_inverted": Mistake("M is True where pixels are known; it is True where they are hidden",
                             _with(_masked, mask=lambda m, p: ~(m | p)), 2),
    "counts_missing": Mistake("the error counts under M_test as well, where the truth is not known: the network would "
                              "learn to paint what stands there", _with(_masked, counted=torch.logical_or), 3),
    "counts_painted": Mistake("the error counts in all painted pixels, also under M_test, where the truth is not known",
                              _with(_masked, counted=_second), 3),
    "counts_known": Mistake("the error counts in all known pixels; it counts where they are painted over, for the "
                            "others need no guess", _with(_masked, counted=lambda m, p: ~m), 3),
    "counts_seen": Mistake("the error counts where the network sees the answer; it counts in the painted pixels, "
                           "M_train ⊙ (1 − M_test)", _with(_masked, counted=lambda m, p: ~(m | p)), 3),
    "counts_overlap": Mistake("the error counts where both masks overlap, which is where nothing is known; it counts "
                              "in M_train ⊙ (1 − M_test)", _with(_masked, counted=torch.logical_and), 3),
    "counts_missing_only": Mistake("the roles of the masks are exchanged in the loss: it counts in M_test ⊙ (1 − "
                                   "M_train)", _with(_masked, counted=lambda m, p: m & ~p), 3),
    "masks_exchanged": Mistake("the two masks are exchanged: `missing` is M_test, `painted` M_train",
                               lambda crop, missing, painted, *rest: _masked(crop, painted, missing, *rest), 2),
    "masks_of_numbers": Mistake("the masks come back as numbers; they are boolean, like those that came in", _with(
        _masked, last=lambda x_t, y, mask, counted: (x_t, y, mask.to(y), counted.to(y))), 2),
    "counted_as_numbers": Mistake("what counts comes back as numbers; it is a boolean mask",
                                  _with(_masked, last=lambda x_t, y, mask, counted: (x_t, y, mask, counted.to(y))), 3),
    "order_of_results": Mistake("y and x_t are returned in the other order",
                                _with(_masked, last=lambda x_t, y, mask, counted: (y, x_t, mask, counted)), 2),
    "writes_into_input": Mistake("the missing pixels are erased in the crop that was given", _masked_in_place, 1),
})
def leak_free_example(task: Task) -> None:
    def case(number: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> tuple:
        crop = _pictures(task, number, channels, height, width, dtype=dtype)
        missing, painted = (task.uniform(number, 1, height, width) < share for share in (0.35, 0.45))
        # one pixel at least of each kind: known, missing, painted, both
        missing[:, :, 0, :4] = torch.tensor([False, True, False, True])
        painted[:, :, 0, :4] = torch.tensor([False, False, True, True])
        return crop, missing, painted, task.normal(*crop.shape).to(dtype), 0.2 + 0.6 * float(task.uniform(1))

    def erased(crop: Tensor, missing: Tensor, *rest) -> tuple:
        return torch.where(missing, 0, crop), missing, *rest

    with task.property("hides both holes from the network, and counts the error where known pixels are painted over", share=0.5):
        task.compare(*erased(*case(1, 1, 5, 6)), tolerance=1e-9)
        task.compare(*erased(*case(3, 3, 4, 5)), tolerance=1e-9)
    with task.property("gives the same whatever stands under the missing pixels", share=0.5):
        crop, missing, *rest = case(2, 3, 5, 5)
        # what is expected is the same each time: pixels that are erased, those of the picture, and others
        for x in (erased(crop, missing)[0], crop, torch.where(missing, task.normal(*crop.shape).double(), crop)):
            task.compare(x, missing, *rest, tolerance=1e-9)
    with task.property("works when the holes do not touch, and in float32"):
        crop, missing, painted, *rest = case(2, 1, 4, 6, torch.float32)
        task.compare(crop, missing, painted & ~missing, *rest, tolerance=1e-5)
