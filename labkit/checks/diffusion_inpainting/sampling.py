"""The checks of two ways back along the chain.

The denoiser that an answer is given is a fixture with a closed form, and all random numbers go in as tensors, so that
every answer has one right result to compare with.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.answers import Fixture
from labkit.checks.diffusion_inpainting.pieces import bars_of, chain_values, holes, schedule
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import with_options

__all__ = ["ancestral_sampling", "ddim_sampling"]

_SAMPLING = tuple(f"labkit.diffusion_inpainting.sampling.{name}"
                  for name in ("ancestral_step", "implicit_step", "sample", "inpaint"))


# --- 7 · Back along the chain ---------------------------------------------------------------------------------------

def _estimate(raw: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, raw.clamp(-1, 1), known)


def _factors(bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Of x̂₀ and x_t in the posterior mean."""
    alpha = bar / before
    return before.sqrt() * (1 - alpha) / (1 - bar), alpha.sqrt() * (1 - before) / (1 - bar)


def _deviation(bar: Tensor, before: Tensor) -> Tensor:
    return ((1 - before) / (1 - bar) * (1 - bar / before)).sqrt()


def _ancestral_sampling(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, *,
                        table: Callable = bars_of, estimated: Callable = _estimate, factors: Callable = _factors,
                        deviation: Callable = _deviation, drawn: Callable = lambda noise, t: noise[t - 1],
                        start: Callable = lambda noise, known, mask: noise[-1], asked: Callable = lambda t: t,
                        told: Callable = lambda mask: mask, last: int = 1, forward: bool = False,
                        after: Callable = lambda x, known, mask, t, bars, z: x,
                        final: Callable = lambda x, known, mask: x) -> Tensor:
    """Ancestral sampling; the options are where answers differ."""
    x, alpha_bars, steps = start(noise, known, mask), table(betas), len(betas) - 1
    for t in range(1, steps + 1) if forward else range(steps, last - 1, -1):
        x0 = estimated(denoiser(x, known, told(mask), asked(t)), known, mask)
        bar, before = alpha_bars[t], alpha_bars[t - 1]
        of_image, of_chain = factors(bar, before)
        x = of_image * x0 + of_chain * x + deviation(bar, before) * drawn(noise, t)
        x = after(x, known, mask, t, alpha_bars, drawn(noise, t))
    return final(x, known, mask)


def _sample_of(task: Task, number: int, channels: int, height: int, width: int, steps: int, *, variance: float,
               dtype: torch.dtype = torch.float64) -> tuple:
    mask = holes(task, number, height, width)
    known = torch.where(mask, 0, chain_values(task, number, channels, height, width).to(dtype))
    betas = schedule(task, steps, noisy=True, dtype=dtype)
    denoiser = Fixture("inpainting_denoiser", {"variance": variance, "alpha_bars": bars_of(betas)})
    return denoiser, known, mask, task.normal(steps + 1, number, channels, height, width).to(dtype), betas


@exercise(points=3, minutes=35, kind="sampler", reference=_ancestral_sampling, withholds=_SAMPLING)
def ancestral_sampling(task: Task) -> None:
    with task.property("takes one step: the estimate, with the known pixels put back", share=0.2):
        task.compare(*_sample_of(task, 2, 1, 4, 5, 1, variance=0.3), tolerance=1e-8)
    with task.property("takes several steps, with noise between them", share=0.5):
        task.compare(*_sample_of(task, 1, 1, 5, 4, 5, variance=0.2), tolerance=1e-8)
        task.compare(*_sample_of(task, 2, 3, 4, 6, 8, variance=0.2), tolerance=1e-8)
    with task.property("clips estimates that leave [−1, 1]", share=0.3):
        task.compare(*_sample_of(task, 2, 1, 5, 5, 4, variance=6.0), tolerance=1e-8)
    with task.property("keeps the dtype of the noise"):
        task.compare(*_sample_of(task, 1, 1, 4, 5, 3, variance=0.2, dtype=torch.float32), tolerance=1e-4)


def _printed(bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    return _factors(bar, before)[0], bar.sqrt() * (1 - before) / (1 - bar)


def _noise_in_the_end(bar: Tensor, before: Tensor) -> Tensor:
    """As if the last step had noise as well, β_1 for want of a posterior variance."""
    return (1 - bar).sqrt() if before == 1 else _deviation(bar, before)


ancestral_sampling.knows({
    "printed_factor": Mistake(
        "the factor of x_t in the posterior mean has √ᾱ_t, as it is printed in the thesis; it is √α_t, with α_t = 1 "
        "− β_t",
        with_options(_ancestral_sampling, factors=_printed), 2),
    "image_factor_without_root": Mistake(
        "the factor of x̂₀ has ᾱ_{t−1} instead of its root",
        with_options(_ancestral_sampling,
                     factors=lambda bar, before: (before * (1 - bar / before) / (1 - bar), _factors(bar, before)[1])), 2),
    "factors_exchanged": Mistake("the factors of x̂₀ and of x_t are exchanged",
                                 with_options(_ancestral_sampling, factors=lambda *a: _factors(*a)[::-1]), 2),
    "not_clipped": Mistake(
        "the estimate is not clipped to [−1, 1]",
        with_options(_ancestral_sampling, estimated=lambda raw, known, mask: torch.where(mask, raw, known)), 1),
    "clipped_to_pictures": Mistake(
        "the estimate is clipped to [0, 1]; in the chain, values lie in [−1, 1]",
        with_options(_ancestral_sampling,
                     estimated=lambda raw, known, mask: torch.where(mask, raw.clamp(0, 1), known)), 1),
    "returned_as_picture": Mistake("the result is brought to [0, 1]; asked is x₀ in the chain's values",
                                   with_options(_ancestral_sampling, final=lambda x, known, mask: (x + 1) / 2), 1),
    "chain_clipped": Mistake(
        "x_t is clipped as well; only the estimate x̂₀ lies in [−1, 1], the chain is noisy and goes beyond",
        with_options(_ancestral_sampling, after=lambda x, *rest: x.clamp(-1, 1)), 1),
    "not_reprojected": Mistake(
        "the known pixels are not put back into the estimate: it is only clipped",
        with_options(_ancestral_sampling, estimated=lambda raw, known, mask: raw.clamp(-1, 1)), 1),
    "reprojected_at_the_end": Mistake(
        "the known pixels are put back once, at the end; they belong into the estimate of every step",
        with_options(_ancestral_sampling,
                     estimated=lambda raw, known, mask: raw.clamp(-1, 1),
                     final=lambda x, known, mask: torch.where(mask, x, known)), 1),
    "repainted": Mistake(
        "the known pixels are noised and put into x_t, as RePaint does for models that are not told of holes "
        "(section 8.12); here they belong into the estimate x̂₀",
        with_options(_ancestral_sampling,
                     estimated=lambda raw, known, mask: raw.clamp(-1, 1),
                     after=lambda x, known, mask, t, bars, z: torch.where(
                         mask, x, bars[t - 1].sqrt() * known + (1 - bars[t - 1]).sqrt() * z)), 1),
    "reprojected_without_noise": Mistake(
        "the known pixels are put into x_t as they are, where they should be as noisy as the rest of the chain; they "
        "belong into the estimate x̂₀ only, which has no noise",
        with_options(_ancestral_sampling,
                     estimated=lambda raw, known, mask: raw.clamp(-1, 1),
                     after=lambda x, known, mask, *rest: torch.where(mask, x, known)), 1),
    "mask_inverted": Mistake(
        "the hole is filled with y, and the estimate is kept where pixels are known: M is true where they are missing",
        with_options(_ancestral_sampling,
                     estimated=lambda raw, known, mask: torch.where(mask, known, raw.clamp(-1, 1))), 1),
    "mask_inverted_for_denoiser": Mistake("the denoiser is given 1 − M as its mask",
                                          with_options(_ancestral_sampling, told=torch.logical_not), 1),
    "noise_in_the_end": Mistake(
        "noise is added in the last step as well, from t = 1 to 0; the posterior's variance is 0 there",
        with_options(_ancestral_sampling, deviation=_noise_in_the_end), 3),
    "beta_as_variance": Mistake(
        "the noise has the variance β_t; asked is that of the posterior, (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t",
        with_options(_ancestral_sampling,
                     deviation=lambda bar, before: 0 * bar if before == 1 else (1 - bar / before).sqrt()), 3),
    "beta_to_the_end": Mistake(
        "the noise has the variance β_t, also in the last step; asked is the posterior's variance, (1 − ᾱ_{t−1}) / "
        "(1 − ᾱ_t) β_t, which is 0 at t = 1",
        with_options(_ancestral_sampling, deviation=lambda bar, before: (1 - bar / before).sqrt()), 3),
    "variance_as_deviation": Mistake(
        "the noise is multiplied with the variance; a deviation is its root",
        with_options(_ancestral_sampling, deviation=lambda *a: _deviation(*a).square()), 3),
    "no_noise": Mistake("no noise is added on the way, so that all fills tend to the mean",
                        with_options(_ancestral_sampling, deviation=lambda bar, before: 0 * bar), 3),
    "noise_number": Mistake("the noise of the step t → t − 1 is `noise[t - 1]`; `noise[t]` made x_t",
                            with_options(_ancestral_sampling, drawn=lambda noise, t: noise[t]), 3),
    "noise_reversed": Mistake(
        "the noise is taken from the front: the chain starts at `noise[0]`; it starts at `noise[-1]`, and the step t "
        "→ t − 1 takes `noise[t - 1]`",
        with_options(_ancestral_sampling,
                     start=lambda noise, *rest: noise[0],
                     drawn=lambda noise, t: noise[len(noise) - t]), 3),
    "starts_at_the_first": Mistake(
        "the chain starts at `noise[0]`, which has no influence; it starts at the last one, `noise[steps]`",
        with_options(_ancestral_sampling, start=lambda noise, *rest: noise[0]), 3),
    "starts_at_zero": Mistake(
        "the chain starts at zeros; x_steps is noise, `noise[-1]`",
        with_options(_ancestral_sampling, start=lambda noise, *rest: torch.zeros_like(noise[0])), 3),
    "known_at_the_start": Mistake(
        "the chain starts with the known pixels as they are; at t = steps everything is noise",
        with_options(_ancestral_sampling, start=lambda noise, known, mask: torch.where(mask, noise[-1], known)), 1),
    "noised_anew": Mistake(
        "every step forgets x_t and noises the estimate anew, √ᾱ_{t−1} x̂₀ + √(1 − ᾱ_{t−1}) ε; x_t belongs into the "
        "posterior mean",
        with_options(_ancestral_sampling,
                     factors=lambda bar, before: (before.sqrt(), 0 * bar),
                     deviation=lambda bar, before: (1 - before).sqrt()), 2),
    "bar_as_alpha": Mistake(
        "ᾱ_t is taken for α_t in the posterior; the α_t of one step is 1 − β_t",
        with_options(_ancestral_sampling,
                     factors=lambda bar, before: (before.sqrt(), bar.sqrt() * (1 - before) / (1 - bar)),
                     deviation=lambda bar, before: (1 - before).sqrt()), 2),
    "denoiser_at_t_minus_one": Mistake("the denoiser is asked for step t − 1; the chain is at t when it is asked",
                                       with_options(_ancestral_sampling, asked=lambda t: t - 1), 3),
    "wrong_way": Mistake("the steps are counted up; the way back goes from t = steps down to 1",
                         with_options(_ancestral_sampling, forward=True), 3),
    "t_divided": Mistake(
        "the denoiser is given t / steps, as the network of exercise 6 was; the denoiser wants the whole number t",
        lambda denoiser, known, mask, noise, betas: _ancestral_sampling(
            denoiser, known, mask, noise, betas, asked=lambda t: t / (len(betas) - 1)), 3),
    "last_step_forgotten": Mistake("the step from t = 1 to 0 is missing: the result still has its noise",
                                   with_options(_ancestral_sampling, last=2), 3),
})


# --- 8 · DDIM -------------------------------------------------------------------------------------------------------

def _sigma(bar: Tensor, before: Tensor, eta: float) -> Tensor:
    return eta * _deviation(bar, before)


def _direction(x: Tensor, x0: Tensor, raw: Tensor, bar: Tensor, z: Tensor) -> Tensor:
    return (x - bar.sqrt() * x0) / (1 - bar).sqrt()


def _ddim_sampling(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list,
                   eta: float, *, estimated: Callable = _estimate, sigma: Callable = _sigma,
                   direction: Callable = _direction, previous: Callable = lambda t, s: s,
                   left: Callable = lambda before, sigma: (1 - before - sigma ** 2).clamp(min=0).sqrt(),
                   added: Callable = lambda sigma: sigma, drawn: Callable = lambda noise, k: noise[k + 1],
                   asked: Callable = lambda k, t, s: t, image: Callable = torch.sqrt, drop: int = 0,
                   first: int = 0) -> Tensor:
    """DDIM along given times; the options are where answers differ."""
    x, alpha_bars = noise[first], bars_of(betas)
    for k, (t, s) in enumerate(list(zip(times, times[1:]))[:len(times) - 1 - drop]):
        raw = denoiser(x, known, mask, asked(k, t, s))
        x0 = estimated(raw, known, mask)
        bar, before = alpha_bars[t], alpha_bars[previous(t, s)]
        deviation, z = sigma(bar, before, eta), drawn(noise, k)
        x = image(before) * x0 + left(before, deviation) * direction(x, x0, raw, bar, z) + added(deviation) * z
    return x


@exercise(points=3, minutes=30, kind="sampler", reference=_ddim_sampling, withholds=_SAMPLING)
def ddim_sampling(task: Task) -> None:
    def case(number: int, channels: int, times: list, eta: float, *, variance: float = 0.2,
             dtype: torch.dtype = torch.float64) -> tuple:
        denoiser, known, mask, _, betas = _sample_of(task, number, channels, 4, 5, times[0], variance=variance, dtype=dtype)
        return denoiser, known, mask, task.normal(len(times), *known.shape).to(dtype), betas, times, eta

    with task.property("goes back without fresh noise, η = 0", share=0.2):
        task.compare(*case(2, 1, [4, 3, 2, 1, 0], 0.0), tolerance=1e-8)
    with task.property("skips steps", share=0.3):
        task.compare(*case(1, 3, [9, 6, 2, 0], 0.0), tolerance=1e-8)
    with task.property("adds as much fresh noise as η says", share=0.3):
        task.compare(*case(1, 1, [5, 4, 3, 2, 1, 0], 1.0), tolerance=1e-8)
        task.compare(*case(2, 2, [9, 7, 4, 1, 0], 0.6), tolerance=1e-8)
    with task.property("clips estimates that leave [−1, 1]", share=0.2):
        task.compare(*case(2, 1, [7, 4, 3, 0], 0.4, variance=6.0), tolerance=1e-8)
    with task.property("keeps the dtype of the noise"):
        task.compare(*case(1, 1, [4, 2, 1, 0], 0.5, dtype=torch.float32), tolerance=1e-4)


def _always(eta: float) -> Callable:
    def answer(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list,
               given: float) -> Tensor:
        return _ddim_sampling(denoiser, known, mask, noise, betas, times, eta)
    return answer


def _one_step_variance(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list,
                       eta: float) -> Tensor:
    beta = dict(zip(bars_of(betas).tolist(), betas))      # of the step that has this ᾱ
    return _ddim_sampling(denoiser, known, mask, noise, betas, times, eta, sigma=lambda bar, before, eta: eta * (
        (1 - before) / (1 - bar) * beta[float(bar)]).sqrt())


def _every_step(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list,
                eta: float) -> Tensor:
    everything = list(range(times[0], -1, -1))
    numbers = torch.arange(len(everything)) % len(noise)
    return _ddim_sampling(denoiser, known, mask, noise[numbers], betas, everything, eta)


ddim_sampling.knows({
    "eta_not_squared": Mistake(
        "σ² is η times the posterior's variance; σ is η times its root, so that σ² has η²",
        with_options(_ddim_sampling, sigma=lambda bar, before, eta: eta ** 0.5 * _deviation(bar, before)), 2),
    "eta_squared_twice": Mistake("σ is η² times the root of the posterior's variance; it is η times", with_options(
        _ddim_sampling, sigma=lambda bar, before, eta: eta ** 2 * _deviation(bar, before)), 2),
    "eta_ignored": Mistake("η has no influence: no fresh noise is ever added", _always(0.0), 2),
    "eta_always_one": Mistake("η has no influence: noise is added as if it were 1", _always(1.0), 2),
    "variance_added": Mistake("the fresh noise is multiplied with σ² instead of σ",
                              with_options(_ddim_sampling, added=torch.square), 2),
    "direction_not_reduced": Mistake(
        "the old noise keeps its whole factor √(1 − ᾱ_s), although fresh noise is added: it has √(1 − ᾱ_s − σ²)",
        with_options(_ddim_sampling, left=lambda before, sigma: (1 - before).sqrt()), 2),
    "sigma_not_squared_in_root": Mistake(
        "the factor of the old noise is √(1 − ᾱ_s − σ), without the square on σ",
        with_options(_ddim_sampling, left=lambda before, sigma: (1 - before - sigma).clamp(min=0).sqrt()), 2),
    "difference_of_roots": Mistake(
        "the factor of the old noise is √(1 − ᾱ_s) − σ; variances are subtracted, not deviations: √(1 − ᾱ_s − σ²)",
        with_options(_ddim_sampling, left=lambda before, sigma: (1 - before).sqrt() - sigma), 2),
    "previous_is_t_minus_one": Mistake(
        "each step ends at t − 1; it ends at the next of the `times`, however far that is",
        with_options(_ddim_sampling, previous=lambda t, s: t - 1), 1),
    "every_step_taken": Mistake("all steps of the chain are taken; only those in `times` are", _every_step, 1),
    "last_step_forgotten": Mistake("the last step, to time 0, is missing", with_options(_ddim_sampling, drop=1), 1),
    "asked_for_next": Mistake("the denoiser is asked for step s, where the chain goes; it is at t when it is asked",
                              with_options(_ddim_sampling, asked=lambda k, t, s: s), 1),
    "asked_for_number": Mistake("the denoiser is given the number of the step in the list; it wants the t of the chain",
                                with_options(_ddim_sampling, asked=lambda k, t, s: k), 1),
    "t_divided": Mistake(
        "the denoiser is given t / steps, as the network of exercise 6 was; the denoiser wants the whole number t",
        lambda denoiser, known, mask, noise, betas, times, eta: _ddim_sampling(
            denoiser, known, mask, noise, betas, times, eta, asked=lambda k, t, s: t / (len(betas) - 1)), 1),
    "fresh_direction": Mistake("the estimated noise ε̂ is replaced by a fresh one", with_options(
        _ddim_sampling, direction=lambda x, x0, raw, bar, z: z), 3),
    "direction_of_raw": Mistake(
        "ε̂ is computed from the denoiser's answer as it came; it belongs to the *clipped and re-projected* x̂₀",
        with_options(_ddim_sampling, direction=lambda x, x0, raw, bar, z: _direction(x, raw, raw, bar, z)), 3),
    "direction_not_reprojected": Mistake(
        "ε̂ is computed from the guess that is clipped, but has not got the known pixels back; it belongs to the "
        "clipped *and re-projected* x̂₀",
        with_options(_ddim_sampling,
                     direction=lambda x, x0, raw, bar, z: _direction(x, raw.clamp(-1, 1), raw, bar, z)), 3),
    "direction_without_root": Mistake("ε̂ is divided by 1 − ᾱ_t instead of its root", with_options(
        _ddim_sampling, direction=lambda x, x0, raw, bar, z: (x - bar.sqrt() * x0) / (1 - bar)), 3),
    "direction_unscaled": Mistake(
        "ε̂ is computed from x_t − x̂₀; it is x_t − √ᾱ_t x̂₀, divided by √(1 − ᾱ_t)",
        with_options(_ddim_sampling, direction=lambda x, x0, raw, bar, z: (x - x0) / (1 - bar).sqrt()), 3),
    "direction_not_divided": Mistake("ε̂ is not divided by √(1 − ᾱ_t)", with_options(
        _ddim_sampling, direction=lambda x, x0, raw, bar, z: x - bar.sqrt() * x0), 3),
    "image_without_root": Mistake("the factor of x̂₀ is ᾱ_s instead of its root",
                                  with_options(_ddim_sampling, image=lambda bar: bar), 3),
    "beta_as_variance": Mistake("σ² is η² (1 − ᾱ_t / ᾱ_s), without the factor (1 − ᾱ_s) / (1 − ᾱ_t)", with_options(
        _ddim_sampling, sigma=lambda bar, before, eta: eta * (1 - bar / before).sqrt()), 2),
    "one_step_variance": Mistake("σ² has β_t, the noise of one step; the leap from t to s has 1 − ᾱ_t / ᾱ_s",
                                 _one_step_variance, 2),
    "variance_upside_down": Mistake(
        "the factor of σ² is (1 − ᾱ_t) / (1 − ᾱ_s), upside down",
        with_options(_ddim_sampling,
                     sigma=lambda bar, before, eta: eta * (
                         (1 - bar) / (1 - before).clamp(min=1e-9) * (1 - bar / before)).sqrt()), 2),
    "not_clipped": Mistake(
        "the estimate is not clipped to [−1, 1]",
        with_options(_ddim_sampling, estimated=lambda raw, known, mask: torch.where(mask, raw, known)), 1),
    "not_reprojected": Mistake("the known pixels are not put back into the estimate", with_options(
        _ddim_sampling, estimated=lambda raw, known, mask: raw.clamp(-1, 1)), 1),
    "mask_inverted": Mistake(
        "the hole is filled with y, and the estimate is kept where pixels are known: M is true where they are missing",
        with_options(_ddim_sampling, estimated=lambda raw, known, mask: torch.where(mask, known, raw.clamp(-1, 1))), 1),
    "starts_at_the_last": Mistake(
        "the chain starts at the last of the noises, as in exercise 7; here it starts at `noise[0]`",
        with_options(_ddim_sampling, first=-1), 1),
    "noise_number": Mistake(
        "the step number k adds `noise[k]`; that made the chain's last value, and the next one takes `noise[k + 1]`",
        with_options(_ddim_sampling, drawn=lambda noise, k: noise[k]), 1),
})
