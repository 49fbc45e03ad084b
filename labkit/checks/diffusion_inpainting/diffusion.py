"""The checks of the chain: into the noise, one step back, and what a step's error counts.

The chains are short and their noise grows fast, so that a wrong factor is far from the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labkit.checks.diffusion_inpainting.pieces import bars_of, chain_pictures, schedule
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import clamped, in_place, with_options

__all__ = ["add_noise", "loss_weights", "posterior_mean"]

_CHAIN = "labkit.diffusion_inpainting.Diffusion"


# --- 1 · Into the noise ---------------------------------------------------------------------------------------------

def _root_mean(bar: Tensor) -> tuple[Tensor, Tensor]:
    return bar.sqrt(), (1 - bar).sqrt()


def _add_noise(x0: Tensor, t: Tensor, noise: Tensor, betas: Tensor, *, table: Callable[[Tensor], Tensor] = bars_of,
               late: int = 0, mix: Callable[[Tensor], tuple] = _root_mean,
               pick: Callable[[Tensor], Tensor] = lambda t: t,
               shape: Callable[[Tensor], Tensor] = lambda bar: bar[:, None, None, None]) -> Tensor:
    """x_t; the options are where answers differ."""
    signal, of_noise = mix(shape(table(betas)[pick(t) + late]))
    return signal * x0 + of_noise * noise


@exercise(points=1, minutes=15, reference=_add_noise, withholds=(_CHAIN,))
def add_noise(task: Task) -> None:
    def case(number: int, channels: int, height: int, width: int, t: Sequence[int], steps: int,
             dtype: torch.dtype = torch.float64) -> tuple:
        x0 = chain_pictures(task, number, channels, height, width, dtype=dtype)
        return x0, torch.tensor(t), task.normal(*x0.shape).to(dtype), schedule(task, steps, dtype=dtype)

    with task.property("mixes a picture and noise", share=0.5):
        task.compare(*case(1, 1, 4, 5, [3], 6), tolerance=1e-9)
        task.compare(*case(1, 3, 5, 4, [5], 9), tolerance=1e-9)
    with task.property("takes for every picture its own step", share=0.5):
        task.compare(*case(4, 3, 3, 4, [2, 7, 4, 1], 8), tolerance=1e-9)
        task.compare(*case(2, 1, 5, 3, [6, 3], 7, torch.float32), tolerance=1e-5)
    with task.property("gives the picture itself for t = 0, and works up to the last step"):
        task.compare(*case(2, 1, 3, 3, [0, 5], 5), tolerance=1e-9)


def _noised_again(x0: Tensor, t: Tensor, noise: Tensor, betas: Tensor) -> Tensor:
    """Step by step, with one and the same noise."""
    result = []
    for x, steps, one in zip(x0, t.tolist(), noise):
        for beta in betas[1:steps + 1]:
            x = (1 - beta).sqrt() * x + beta.sqrt() * one
        result.append(x)
    return torch.stack(result)


def _noised_with_single_noise(x0: Tensor, t: Tensor, noise: Tensor, betas: Tensor) -> Tensor:
    return _add_noise(x0, t, torch.zeros_like(noise), betas) + betas[t][:, None, None, None].sqrt() * noise


add_noise.knows({
    "roots_forgotten": Mistake("picture and noise are multiplied by ᾱ_t and 1 − ᾱ_t; these are variances, and what "
                               "multiplies is their root", with_options(_add_noise, mix=lambda bar: (bar, 1 - bar)), 2),
    "variance_for_sigma": Mistake("the noise is multiplied by its variance 1 − ᾱ_t; it is multiplied by the root of "
                                  "that", with_options(_add_noise, mix=lambda bar: (bar.sqrt(), 1 - bar)), 2),
    "picture_root_forgotten": Mistake("the picture is multiplied by ᾱ_t; it is multiplied by √ᾱ_t",
                                      with_options(_add_noise, mix=lambda bar: (bar, (1 - bar).sqrt())), 2),
    "not_faded": Mistake("noise is added, but the picture does not fade: it is multiplied by √ᾱ_t",
                         with_options(_add_noise, mix=lambda bar: (1.0, (1 - bar).sqrt())), 2),
    "one_minus_the_root": Mistake("the noise is multiplied by 1 − √ᾱ_t; it is √(1 − ᾱ_t)",
                                  with_options(_add_noise, mix=lambda bar: (bar.sqrt(), 1 - bar.sqrt())), 2),
    "exchanged": Mistake("the factors of picture and noise are exchanged: much noise comes first and goes away",
                         with_options(_add_noise, mix=lambda bar: _root_mean(bar)[::-1]), 2),
    "single_step": Mistake("α_t is taken for ᾱ_t: that is the noise of the last step alone; ᾱ_t is the product α_1 ⋯ "
                           "α_t", with_options(_add_noise, table=lambda betas: 1 - betas), 1),
    "noise_of_a_single_step": Mistake(
        "the noise is multiplied by √β_t, as in one step; after all t steps its variance is 1 − ᾱ_t",
        _noised_with_single_noise, 2),
    "all_steps": Mistake("the product runs over all steps; ᾱ_t is that of the first t",
                         with_options(_add_noise, table=lambda betas: bars_of(betas)[-1:].expand_as(betas)), 1),
    "clamped": Mistake("the result is clamped to [−1, 1]; noise goes beyond that, and that is as it should be",
                       clamped(_add_noise, -1, 1), None),
    "betas_multiplied": Mistake("the β are multiplied up; it is the α = 1 − β that are",
                                with_options(_add_noise, table=lambda betas: betas.cumprod(0)), 1),
    "betas_added": Mistake("ᾱ_t is taken as 1 − (β_1 + … + β_t); it is the product (1 − β_1) ⋯ (1 − β_t)",
                           with_options(_add_noise, table=lambda betas: 1 - betas.cumsum(0)), 1),
    "one_step_early": Mistake("ᾱ_{t−1} is taken for ᾱ_t: entry t of `betas` belongs to step t",
                              with_options(_add_noise, late=-1), 1),
    "one_step_late": Mistake("ᾱ_{t+1} is taken for ᾱ_t: entry t of `betas` belongs to step t, and β_0 = 0 is one of "
                             "them", with_options(_add_noise, late=1), 1),
    "nothing_for_zero": Mistake("for t = 0 the last entry of a table is read, because there index −1 is used; ᾱ_0 is 1 "
                                "and x_0 the picture itself",
                                with_options(_add_noise, table=lambda betas: bars_of(betas[1:]), late=-1), 1),
    "same_step_for_all": Mistake("all pictures get the noise of the first one's step; each has its own t",
                                 with_options(_add_noise, pick=lambda t: t[:1].expand_as(t)), 3),
    "along_the_columns": Mistake("the numbers ᾱ_t run along the columns; there is one for each picture, so they need "
                                 "the shape (N, 1, 1, 1)", with_options(_add_noise, shape=lambda bar: bar), 3),
    "same_noise_again": Mistake("the same noise is added in each of the t steps: the steps have independent noises, "
                                "whose variances add up to 1 − ᾱ_t", _noised_again, 2),
    "writes_into_input": Mistake("the noisy picture is written over the one that was given",
                                 in_place(_add_noise), None),
})


# --- 2 · One step back ----------------------------------------------------------------------------------------------

def _factors(alpha: Tensor, beta: Tensor, bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Of x_0 and of x_t."""
    return before.sqrt() * beta / (1 - bar), alpha.sqrt() * (1 - before) / (1 - bar)


def _image_of_noise(x_t: Tensor, noise: Tensor, alpha: Tensor, bar: Tensor) -> Tensor:
    return (x_t - (1 - bar).sqrt() * noise) / bar.sqrt()


def _posterior_mean(prediction: Tensor, x_t: Tensor, t: int, betas: Tensor, given: str, *,
                    factors: Callable = _factors, late: int = 0, image_of_noise: Callable = _image_of_noise,
                    understood: Callable[[str], str] = lambda given: given, stops_at_the_image: bool = False,
                    first: Callable[[Tensor], Tensor] = lambda bars: bars[0]) -> Tensor:
    """The posterior mean; the options are where answers differ."""
    t, bars, given = t + late, bars_of(betas), understood(given)
    alpha, beta, bar, before = 1 - betas[t], betas[t], bars[t], first(bars) if t == 1 else bars[t - 1]
    if given == "mean":
        return prediction
    image = image_of_noise(x_t, prediction, alpha, bar) if given == "noise" else prediction
    if stops_at_the_image and given == "noise":
        return image
    of_image, of_chain = factors(alpha, beta, bar, before)
    return of_image * image + of_chain * x_t


@exercise(points=2, minutes=25, reference=_posterior_mean, withholds=(
    _CHAIN, "labkit.diffusion_inpainting.sampling.ancestral_step"))
def posterior_mean(task: Task) -> None:
    def compare(given: str, t: int, steps: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        x_t, betas = task.normal(*shape).to(dtype), schedule(task, steps, dtype=dtype)
        prediction = task.normal(*shape).to(dtype) if given != "image" else chain_pictures(task, *shape, dtype=dtype)
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


def _ho(prediction: Tensor, x_t: Tensor, t: int, betas: Tensor, given: str, *,
        of_noise: Callable = lambda beta, bar: beta / (1 - bar).sqrt(),
        scale: Callable = lambda alpha, bar: alpha.sqrt()) -> Tensor:
    """With the noise given, (x_t − of_noise · ε) / scale, as Ho et al. write it."""
    if given != "noise":
        return _posterior_mean(prediction, x_t, t, betas, given)
    alpha, beta, bar = 1 - betas[t], betas[t], bars_of(betas)[t]
    return (x_t - of_noise(beta, bar) * prediction) / scale(alpha, bar)


def _image_factor(factor: Callable) -> Callable:
    """The right answer with another factor of x_0: a function of α_t, β_t, ᾱ_t and ᾱ_{t−1}."""
    return with_options(_posterior_mean, factors=lambda *a: (factor(*a), _factors(*a)[1]))


def _chain_factor(factor: Callable) -> Callable:
    """The right answer with another factor of x_t."""
    return with_options(_posterior_mean, factors=lambda *a: (_factors(*a)[0], factor(*a)))


def _from_noise(image: Callable) -> Callable:
    """The right answer with another way from the noise to the image: a function of x_t, ε, α_t and ᾱ_t."""
    return with_options(_posterior_mean, image_of_noise=image)


def _put_back(a: Tensor, b: Tensor, bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of DDIM's step."""
    of_chain = ((1 - before) / (1 - bar)).sqrt()
    return before.sqrt() - of_chain * bar.sqrt(), of_chain


def _taken_for_image(given: str) -> Callable[[str], str]:
    """Takes a prediction of that kind for the image."""
    return lambda said: "image" if said == given else said


def _factors_exchanged_for_the_image(prediction: Tensor, x_t: Tensor, t: int, betas: Tensor, given: str) -> Tensor:
    if given != "image":
        return _posterior_mean(prediction, x_t, t, betas, given)
    return _posterior_mean(prediction, x_t, t, betas, given, factors=lambda *a: _factors(*a)[::-1])


posterior_mean.knows({
    "as_printed": Mistake("the factor of x_t has √ᾱ_t, as the thesis prints it; it is √α_t, of this step alone",
                          _chain_factor(lambda a, b, bar, before: bar.sqrt() * (1 - before) / (1 - bar)), 2),
    "root_of_this_step": Mistake("the factor of x_0 has √ᾱ_t; it has √ᾱ_{t−1}, for the mean lies at step t − 1",
                                 _image_factor(lambda a, b, bar, before: bar.sqrt() * b / (1 - bar)), 2),
    "bars_exchanged": Mistake(
        "ᾱ_t and ᾱ_{t−1} are exchanged: at t = 1 that divides by 0",
        with_options(_posterior_mean, factors=lambda a, b, bar, before: _factors(a, b, before, bar)), 2),
    "roots_forgotten": Mistake("the roots of ᾱ_{t−1} and of α_t are missing", with_options(
        _posterior_mean, factors=lambda a, b, bar, before: (before * b / (1 - bar), a * (1 - before) / (1 - bar))), 2),
    "image_root_forgotten": Mistake("the factor of x_0 has ᾱ_{t−1} without its root",
                                    _image_factor(lambda a, b, bar, before: before * b / (1 - bar)), 2),
    "chain_root_forgotten": Mistake("the factor of x_t has α_t without its root",
                                    _chain_factor(lambda a, b, bar, before: a * (1 - before) / (1 - bar)), 2),
    "squared_denominator": Mistake(
        "the denominator is squared; it is 1 − ᾱ_t",
        with_options(_posterior_mean, factors=lambda *a: tuple(f / (1 - a[2]) for f in _factors(*a))), 2),
    "earlier_denominator": Mistake("the denominator is 1 − ᾱ_{t−1}, which is 0 at t = 1; it is 1 − ᾱ_t", with_options(
        _posterior_mean, factors=lambda *a: tuple(f * (1 - a[2]) / (1 - a[3]) for f in _factors(*a))), 2),
    "no_denominator": Mistake(
        "the sum is not divided by 1 − ᾱ_t",
        with_options(_posterior_mean, factors=lambda *a: tuple(f * (1 - a[2]) for f in _factors(*a))), 2),
    "alpha_for_beta": Mistake("the factor of x_0 has α_t for β_t",
                              _image_factor(lambda a, b, bar, before: before.sqrt() * a / (1 - bar)), 2),
    "posterior_variance_for_beta": Mistake(
        "the factor of x_0 has the posterior's variance for β_t",
        _image_factor(lambda a, b, bar, before: before.sqrt() * b * (1 - before) / (1 - bar) ** 2), 2),
    "before_the_first": Mistake("at t = 1 the last entry of a table stands for ᾱ_0, because there index −1 is used; "
                                "ᾱ_0 is 1", with_options(_posterior_mean, first=lambda bars: bars[-1]), 1),
    "image_faded": Mistake(
        "x_t is left out: the mean is not √ᾱ_{t−1} x̂_0, it lies between x_t and that",
        with_options(_posterior_mean, factors=lambda a, b, bar, before: (before.sqrt(), torch.zeros_like(bar))), 2),
    "noise_put_back": Mistake(
        "the noise that was found is put back, √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1}) ε̂; that is another way back (DDIM), "
        "not the posterior's mean",
        with_options(_posterior_mean, factors=_put_back), 2),
    "factors_exchanged": Mistake("the factors of x_0 and of x_t are exchanged",
                                 with_options(_posterior_mean, factors=lambda *a: _factors(*a)[::-1]), 2),
    "image_factors_exchanged": Mistake("with given = \"image\" the factors of x_0 and of x_t are exchanged",
                                       _factors_exchanged_for_the_image, 2),
    "roots_exchanged": Mistake(
        "the roots of the two factors are exchanged: x_0 has √ᾱ_{t−1}, x_t has √α_t",
        with_options(_posterior_mean,
                     factors=lambda a, b, bar, before: (a.sqrt() * b / (1 - bar), before.sqrt() * (1 - before) / (1 - bar))), 2),
    "numerators_exchanged": Mistake(
        "β_t and 1 − ᾱ_{t−1} are exchanged: x_0 has β_t, x_t has 1 − ᾱ_{t−1}",
        with_options(_posterior_mean,
                     factors=lambda a, b, bar, before: (before.sqrt() * (1 - before) / (1 - bar), a.sqrt() * b / (1 - bar))), 2),
    "all_noise_for_beta": Mistake(
        "1 − ᾱ_t is taken for β_t: that is the noise of all steps so far; β_t is `betas[t]`, of this step alone",
        _image_factor(lambda a, b, bar, before: before.sqrt()), 1),
    "bar_for_alpha_and_beta": Mistake(
        "α_t is taken as ᾱ_t and β_t as 1 − ᾱ_t; they are those of this step alone, 1 − `betas[t]` and `betas[t]`",
        with_options(_posterior_mean,
                     factors=lambda a, b, bar, before: (before.sqrt(), bar.sqrt() * (1 - before) / (1 - bar))), 1),
    "one_step_early": Mistake("everything is taken one step early, at t − 1: entry t of `betas` is β_t",
                              with_options(_posterior_mean, late=-1), 1),
    "one_step_late": Mistake("everything is taken one step late, at t + 1: entry t of `betas` is β_t, and β_0 = 0 is "
                             "one of them", with_options(_posterior_mean, late=1), 1),
    "noise_taken_for_the_image": Mistake(
        "with given = \"noise\" the prediction is used as if it were the image; turn it into one first",
        with_options(_posterior_mean, understood=_taken_for_image("noise")), 3),
    "mean_taken_for_the_image": Mistake(
        "with given = \"mean\" the prediction is used as if it were the image; it is the result already",
        with_options(_posterior_mean, understood=_taken_for_image("mean")), 3),
    "always_an_image": Mistake("`given` is ignored, and every prediction is used as if it were the image",
                               with_options(_posterior_mean, understood=lambda given: "image"), 3),
    "stops_at_the_image": Mistake("with given = \"noise\" the image is returned; it still has to go into the mean",
                                  with_options(_posterior_mean, stops_at_the_image=True), 3),
    "noise_added": Mistake(
        "the image is (x_t + √(1 − ᾱ_t) ε) / √ᾱ_t; the noise is taken off, not added",
        _from_noise(lambda x_t, noise, alpha, bar: (x_t + (1 - bar).sqrt() * noise) / bar.sqrt()), 3),
    "noise_not_scaled_up": Mistake("taking off the noise leaves √ᾱ_t x_0; divide by √ᾱ_t",
                                   _from_noise(lambda x_t, noise, alpha, bar: x_t - (1 - bar).sqrt() * noise), 3),
    "noise_root_forgotten": Mistake(
        "the noise is multiplied by 1 − ᾱ_t; it is multiplied by the root of that",
        _from_noise(lambda x_t, noise, alpha, bar: (x_t - (1 - bar) * noise) / bar.sqrt()), 3),
    "divided_without_root": Mistake(
        "taking off the noise leaves √ᾱ_t x_0, which is divided by ᾱ_t; divide by its root",
        _from_noise(lambda x_t, noise, alpha, bar: (x_t - (1 - bar).sqrt() * noise) / bar), 3),
    "noise_of_a_single_step": Mistake("the noise is taken off as if it were that of the last step, with α_t for ᾱ_t; ε "
                                      "is all the noise since x_0", _from_noise(
                                          lambda x_t, noise, alpha, bar: _image_of_noise(x_t, noise, alpha, alpha)), 3),
    "short_form_without_root": Mistake("with given = \"noise\" the mean is (x_t − β_t / (1 − ᾱ_t) ε) / √α_t; there is "
                                       "√(1 − ᾱ_t) under β_t",
                                       with_options(_ho, of_noise=lambda beta, bar: beta / (1 - bar)), 3),
    "short_form_with_bar": Mistake("with given = \"noise\" the mean is divided by √ᾱ_t; in (x_t − β_t / √(1 − ᾱ_t) ε) "
                                   "/ √α_t it is √α_t", with_options(_ho, scale=lambda alpha, bar: bar.sqrt()), 3),
    "writes_into_input": Mistake("the mean is written over x_t, which the caller still needs",
                                 in_place(_posterior_mean, argument=1), None),
})


# --- 3 · What the error of a step counts ----------------------------------------------------------------------------

def _variance(beta: Tensor, bar: Tensor, before: Tensor) -> Tensor:
    """σ_t², for all steps from 1, with σ_2 in the place of σ_1."""
    variance = (1 - before) / (1 - bar) * beta
    variance[0] = variance[1]
    return variance


def _elbo(alpha: Tensor, beta: Tensor, bar: Tensor, before: Tensor, target: str, *, variance: Callable = _variance,
          image: Callable = lambda alpha, beta, bar, before: before * beta ** 2 / (1 - bar) ** 2,
          noise: Callable = lambda alpha, beta, bar, before: beta ** 2 / (alpha * (1 - bar)),
          half: float = 2.0) -> Tensor:
    return (image if target == "image" else noise)(alpha, beta, bar, before) / (half * variance(beta, bar, before))


def _min_snr(alpha: Tensor, beta: Tensor, bar: Tensor, before: Tensor, target: str, *,
             snr: Callable = lambda alpha, bar, before: bar / (1 - bar),
             cap: Callable[[Tensor], Tensor] = lambda snr: snr.clamp(max=5),
             of_noise: Callable[[Tensor, Tensor], Tensor] = torch.div) -> Tensor:
    ratio = snr(alpha, bar, before)
    return of_noise(cap(ratio), ratio) if target == "noise" else cap(ratio)


def _loss_weights(t: Tensor, betas: Tensor, kind: str, target: str, *, elbo: Callable = _elbo,
                  min_snr: Callable = _min_snr, early: int = 0,
                  understood: Callable[[str, str], str] = lambda target, kind: target,
                  change: Callable[[Tensor], Tensor] = lambda w: w) -> Tensor:
    """The weights of the steps t; the options are where answers differ."""
    beta, bars = betas[1:], bars_of(betas)
    table = {"elbo": elbo, "min_snr": min_snr}[kind](1 - beta, beta, bars[1:], bars[:-1], understood(target, kind))
    return change(table[t - 1 - early])


@exercise(points=2, minutes=30, reference=_loss_weights, withholds=(_CHAIN,))
def loss_weights(task: Task) -> None:
    def compare(t: Sequence[int], steps: int, kind: str, target: str, dtype: torch.dtype = torch.float64) -> None:
        betas = schedule(task, steps, dtype=dtype)
        task.compare(torch.tensor(t), betas, kind, target, tolerance=1e-8 if dtype == torch.float64 else 1e-4)

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
    with task.property("keeps the dtype of the schedule"):
        # late steps, where 1 − ᾱ_t is large enough to have its digits in float32
        compare([4, 6, 5], 7, "elbo", "image", torch.float32)
        compare([7, 4, 5], 7, "min_snr", "noise", torch.float32)


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


_SAME_BAR = ("ᾱ_t stands for ᾱ_{t−1}, `alpha_bars[t]` for `alpha_bars[t - 1]`: in σ_t² the fraction becomes 1, and the "
             "image's weight is smaller")


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
    return with_options(_loss_weights, elbo=with_options(_elbo, **options))


def _min_snr_with(**options) -> Callable:
    return with_options(_loss_weights, min_snr=with_options(_min_snr, **options))


loss_weights.knows({
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
    "bar_for_both": Mistake(_SAME_BAR,
                            _elbo_with(variance=lambda beta, bar, before: beta, image=_image_of_this_step), 1),
    "bar_for_both_from_two": Mistake(_SAME_BAR + " (and σ_2 in the place of σ_1, as it should be)",
                                     _elbo_with(variance=_betas_from_two, image=_image_of_this_step), 1),
    "beta_for_the_variance_from_two": Mistake(
        "σ_t² is taken as β_t, with β_2 in the place of β_1; here it is the posterior's variance, (1 − ᾱ_{t−1}) / (1 "
        "− ᾱ_t) β_t",
        _elbo_with(variance=_betas_from_two), 1),
    "sigma_for_the_variance": Mistake("the weight is divided by 2σ_t instead of 2σ_t²",
                                      _elbo_with(variance=lambda *a: _variance(*a).sqrt()), 1),
    "variance_upside_down": Mistake(
        "the posterior's variance has its fraction upside down: it is (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t, smaller than β_t",
        _elbo_with(variance=_upside_down), 1),
    "not_capped": Mistake("at t = 1 the ELBO's weight is infinite: σ_1 is 0. Take σ_2 in its place", _elbo_with(
        variance=lambda beta, bar, before: (1 - before) / (1 - bar) * beta), 3),
    "first_left_out": Mistake("at t = 1 the ELBO's weight is set to 0; take σ_2 for σ_1",
                              with_options(_loss_weights, elbo=_first_is(0.0)), 3),
    "first_is_one": Mistake("at t = 1 the ELBO's weight is set to 1; take σ_2 for σ_1",
                            with_options(_loss_weights, elbo=_first_is(1.0)), 3),
    "first_beta": Mistake("at t = 1 β_1 is taken for σ_1²; here it is σ_2²",
                          _elbo_with(variance=_first_variance(lambda variance, beta: beta[0])), 3),
    "second_beta": Mistake("at t = 1 β_2 is taken for σ_1²; here it is σ_2²",
                           _elbo_with(variance=_first_variance(lambda variance, beta: beta[1])), 3),
    "second_weight": Mistake("at t = 1 the whole weight of t = 2 is taken; only σ_1 is replaced by σ_2",
                             with_options(_loss_weights, elbo=_second_weight), 3),
    "second_step_for_all": Mistake("the whole step 1 is replaced by step 2; only σ_1 is, ᾱ and β stay those of t = 1",
                                   lambda t, *rest: _loss_weights(t.clamp(min=2), *rest), 3),
    "elbo_capped": Mistake("the ELBO's weights are capped at 5, as those of Min-SNR are; here only σ_1 is replaced",
                           with_options(_loss_weights, elbo=lambda *a: _elbo(*a).clamp(max=5)), 3),
    "target_ignored": Mistake("the weights of the image are used for the noise too; an error of the noise is another "
                              "of the image, and the weight makes up for that",
                              with_options(_loss_weights, understood=lambda target, kind: "image"), 4),
    "min_snr_target_ignored": Mistake("Min-SNR has the same weights for the noise as for the image; for the noise they "
                                      "are divided by the SNR", _min_snr_with(of_noise=lambda weight, snr: weight), 4),
    "min_snr_multiplied": Mistake("for the noise Min-SNR's weight is multiplied by the SNR; it is divided by it",
                                  _min_snr_with(of_noise=torch.mul), 4),
    "elbo_target_ignored": Mistake("the ELBO has the same weights for the noise as for the image", with_options(
        _loss_weights, understood=lambda target, kind: "image" if kind == "elbo" else target), 2),
    "targets_exchanged": Mistake("the weights of image and noise are exchanged",
                                 with_options(_loss_weights, understood=_exchanged), 4),
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
                                  with_options(_loss_weights, change=lambda w: w / w.sum()), None),
    "divided_by_the_mean": Mistake("the weights are divided by their mean; here they stay as they are",
                                   with_options(_loss_weights, change=lambda w: w / w.mean()), None),
    "one_step_early": Mistake("everything is taken one step early, at t − 1: entry t of `betas` is β_t",
                              with_options(_loss_weights, early=1), 1),
    "one_step_late": Mistake("everything is taken one step late, at t + 1: entry t of `betas` is β_t",
                             with_options(_loss_weights, early=-1), 1),
})
