"""The last four checks of chapter 8: a training step, two ways back along the chain, and a denoiser that needs no training.

The network and the denoiser that an answer is given are fixtures with a closed form. All numbers are float64, and all random
ones go in as tensors, so that every answer has one right result to compare with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from labkit import patches
from labkit.checks.answers import Fixture
from labkit.checks.engine import Mistake, Task, exercise

_SAMPLING = tuple(f"labkit.diffusion_inpainting.sampling.{name}" for name in ("ancestral_step", "implicit_step", "sample", "inpaint"))
_LOSSES = tuple(f"labkit.diffusion_inpainting.inpainter.{name}" for name in ("inpainting_loss", "regression_loss", "_mean_error"))


def _with(right: Callable, **options) -> Callable:
    return functools.partial(right, **options)


def _schedule(task: Task, steps: int) -> Tensor:
    """β_0 = 0, …, β_steps of a short chain with much noise in every step."""
    betas = 0.1 + 0.5 * task.uniform(steps).double().sort().values
    return torch.cat([torch.zeros(1, dtype=torch.float64), betas])


def _bars(betas: Tensor) -> Tensor:
    """ᾱ_0 = 1, …, ᾱ_steps."""
    return (1 - betas).cumprod(0)


def _picture(task: Task, number: int, channels: int, height: int, width: int) -> Tensor:
    """Values of the chain, in [−1, 1]."""
    return 1.8 * task.uniform(number, channels, height, width).double() - 0.9


def _holes(task: Task, number: int, height: int, width: int) -> Tensor:
    """Masks (number, 1, height, width) of which about half is missing, and in each example another number of pixels."""
    pixels = height * width
    while True:
        mask = task.uniform(number, 1, height, width) < 0.5
        counts = mask.sum(dim=(1, 2, 3)).tolist()
        # not half, so that an inverted mask is seen in the number of its pixels
        if len(set(counts)) == number and all(0 < count < pixels and 2 * count != pixels for count in counts):
            return mask


# --- 6 · The training step ------------------------------------------------------------------------------------------

def _per_example(t: Tensor, table: Tensor) -> Tensor:
    return table[t][:, None, None, None]


def _noised(x0: Tensor, noise: Tensor, missing: Tensor, bar: Tensor) -> Tensor:
    return bar.sqrt() * x0 + (1 - bar).sqrt() * noise


def _over_counted(squares: Tensor, missing: Tensor, counted: Tensor) -> Tensor:
    return (counted * squares).sum() / (counted.sum() * squares.shape[1])


def _mean_of_means(squares: Tensor, missing: Tensor, counted: Tensor) -> Tensor:
    each = (counted * squares).sum(dim=(1, 2, 3)) / (counted.sum(dim=(1, 2, 3)) * squares.shape[1])
    return each.mean()


def _stepped(network: torch.nn.Module, optimizer: torch.optim.Optimizer, x0: Tensor, missing: Tensor, counted: Tensor,
             t: Tensor, noise: Tensor, betas: Tensor, *, bars: Callable = _per_example, table: Callable = _bars, noised: Callable = _noised,
             known: Callable = lambda x0, missing, x_t: torch.where(missing, 0, x0), order: Callable = lambda x_t, y: (x_t, y), told: Callable = lambda missing, counted: missing,
             level: Callable = lambda t, bars: t / (len(bars) - 1), target: Callable = lambda x0, noise, x_t: x0,
             error: Callable = torch.square, loss: Callable = _over_counted, zero: bool = True, step: bool = True,
             descend: bool = True, late: bool = False, result: Callable = float) -> float:
    """A training step; the options are where answers differ."""
    alpha_bars = table(betas)
    x_t = noised(x0, noise, missing, bars(t, alpha_bars))
    def value_now() -> Tensor:
        estimate = network(*order(x_t, known(x0, missing, x_t)), told(missing, counted).to(x0), level(t, alpha_bars))
        return loss(error(estimate - target(x0, noise, x_t)), missing, counted)

    value = value_now()
    if zero:
        optimizer.zero_grad()
    (value if descend else -value).backward()
    if step:
        optimizer.step()
    return result((value_now() if late else value).detach())


@exercise(points=3, minutes=35, kind="step", reference=_stepped, withholds=_LOSSES, mistakes={
    "loss_over_missing": Mistake("the error is counted in the whole hole that the network sees, `missing`; under the test mask there "
                                 "is no truth to compare with. It counts where `counted` is true",
                                 _with(_stepped, loss=lambda s, missing, counted: _over_counted(s, missing, missing)), 3),
    "loss_everywhere": Mistake("the error is counted in all pixels; it counts where `counted` is true",
                               _with(_stepped, loss=lambda s, missing, counted: s.mean()), 3),
    "loss_over_known": Mistake("the error is counted outside of the hole, where the network is told the answer",
                               _with(_stepped, loss=lambda s, missing, counted: _over_counted(s, missing, ~missing)), 3),
    "not_normalised": Mistake("the squared errors are added up and not divided by their number, so that larger holes make larger steps",
                              _with(_stepped, loss=lambda s, missing, counted: (counted * s).sum()), 3),
    "divided_by_all": Mistake("the sum is divided by the number of all values (`.mean()` after multiplying with the mask); divide by "
                              "the number of values that count",
                              _with(_stepped, loss=lambda s, missing, counted: (counted * s).mean()), 3),
    "channels_not_divided": Mistake("the sum is divided by the number of pixels that count; each of them has C values",
                                    _with(_stepped, loss=lambda s, missing, counted: (counted * s).sum() / counted.sum()), 3),
    "mean_of_means": Mistake("each example has a mean of its own, and these are averaged; all values that count in the batch count alike",
                             _with(_stepped, loss=_mean_of_means), 3),
    "absolute_error": Mistake("absolute errors are averaged instead of squared ones", _with(_stepped, error=torch.abs), 3),
    "noise_as_target": Mistake("the estimate is compared with the noise; this network estimates x₀",
                               _with(_stepped, target=lambda x0, noise, x_t: noise), 3),
    "noisy_target": Mistake("the estimate is compared with x_t; it should be the picture *without* noise, x₀",
                            _with(_stepped, target=lambda x0, noise, x_t: x_t), 3),
    "answer_given_away": Mistake("the network is given x₀ itself as y, with the hole in it: the answer stands in the question",
                                 _with(_stepped, known=lambda x0, missing, x_t: x0), 2),
    "hole_given_away": Mistake("y holds the pixels *of the hole* and is empty elsewhere: y = (1 − M) ⊙ x₀",
                               _with(_stepped, known=lambda x0, missing, x_t: missing * x0), 2),
    "noisy_y": Mistake("y is cut out of x_t and has its noise; what is known is known without noise, y = (1 − M) ⊙ x₀",
                       _with(_stepped, known=lambda x0, missing, x_t: torch.where(missing, 0, x_t)), 2),
    "inputs_exchanged": Mistake("the network is given y first and x_t second; it expects x_t, y, M and t / steps",
                                _with(_stepped, order=lambda x_t, y: (y, x_t)), 2),
    "mask_inverted": Mistake("the network is given 1 − M as its mask", _with(_stepped, told=lambda missing, counted: ~missing), 2),
    "mask_of_counted": Mistake("the mask given to the network is what counts; the network is told of everything hidden, `missing`",
                               _with(_stepped, told=lambda missing, counted: counted), 2),
    "no_noise": Mistake("the network is given x₀ instead of x_t", _with(_stepped, noised=lambda x0, noise, missing, bar: x0), 1),
    "noised_y": Mistake("x_t is made from y; under the painted hole x_t is the noisy picture, made from x₀",
                        _with(_stepped, noised=lambda x0, noise, missing, bar: _noised(torch.where(missing, 0, x0), noise, missing, bar)), 1),
    "roots_forgotten": Mistake("x_t is ᾱ_t x₀ + (1 − ᾱ_t) ε, without the roots",
                               _with(_stepped, noised=lambda x0, noise, missing, bar: bar * x0 + (1 - bar) * noise), 1),
    "exchanged": Mistake("√ᾱ_t and √(1 − ᾱ_t) are exchanged",
                         _with(_stepped, noised=lambda x0, noise, missing, bar: (1 - bar).sqrt() * x0 + bar.sqrt() * noise), 1),
    "noise_in_the_hole_only": Mistake("only the hole is noised; x_t is noisy everywhere, and the network finds what is known in y",
                                      _with(_stepped, noised=lambda x0, noise, missing, bar: torch.where(
                                          missing, _noised(x0, noise, missing, bar), x0)), 1),
    "t_off_by_one": Mistake("ᾱ is taken at t − 1: `betas` has β_0 = 0 as its first entry, so that ᾱ_t is number t of the products",
                            _with(_stepped, bars=lambda t, table: _per_example(t - 1, table)), 1),
    "not_accumulated": Mistake("x_t is made with α_t = 1 − β_t, the noise of one step; ᾱ_t is the product α_1 ⋯ α_t",
                               _with(_stepped, table=lambda betas: 1 - betas), 1),
    "betas_multiplied": Mistake("the β are multiplied instead of the α = 1 − β", _with(
        _stepped, table=lambda betas: betas.cumprod(0)), 1),
    "one_time_for_all": Mistake("every example is noised as the first one; t has an entry for each",
                                _with(_stepped, bars=lambda t, table: _per_example(t[:1].expand_as(t), table)), 1),
    "t_not_divided": Mistake("the network is given t; it expects t / steps, in [0, 1]", _with(_stepped, level=lambda t, bars: t), 2),
    "t_by_length": Mistake("t is divided by the length of `betas`, which is steps + 1", _with(_stepped, level=lambda t, bars: t / len(bars)), 2),
    "noise_level_as_time": Mistake("the network is given ᾱ_t as its last input; it expects t / steps",
                                   _with(_stepped, level=lambda t, bars: bars[t]), 2),
    "gradients_pile_up": Mistake("the gradients of earlier steps are still there when the next are added: `optimizer.zero_grad()` "
                                 "comes before `.backward()`", _with(_stepped, zero=False), 4),
    "no_step": Mistake("the weights do not change: after `.backward()` comes `optimizer.step()`", _with(_stepped, step=False), 4),
    "uphill": Mistake("the loss is raised instead of lowered", _with(_stepped, descend=False), 4),
    "loss_after_the_step": Mistake("the loss is computed after the step; asked is the one before it, whose gradient made the step",
                                   _with(_stepped, late=True), 4),
})
def inpainting_step(task: Task) -> None:
    steps = 16      # t / 16 is exact in any floating-point type

    def batch(number: int, channels: int, height: int, width: int) -> tuple:
        painted = _holes(task, number, height, width)
        unknown = task.uniform(number, 1, height, width) < 0.2
        unknown[:, :, 0, 0] = painted[:, :, 0, 0] = True       # the two overlap, and some of either remains
        unknown[:, :, 0, 1], painted[:, :, 0, 1] = False, True
        unknown[:, :, 1, 0], painted[:, :, 1, 0] = True, False
        x0 = torch.where(unknown, 0, _picture(task, number, channels, height, width))
        t = 1 + torch.randperm(steps, generator=task.generator)[:number]
        return x0, painted | unknown, painted & ~unknown, t, task.normal(*x0.shape).double(), _schedule(task, steps)

    def network(channels: int) -> Fixture:
        shape = channels, 2 * channels + 2, 3, 3
        return Fixture("inpainting_network", {"weights": [0.2 * task.normal(*shape).double(), 0.2 * task.normal(channels).double()]})

    with task.property("takes a step of gradient descent on one grey example", share=0.4):
        task.compare(network(1), Fixture("sgd", {"learning_rate": 0.3}), *batch(1, 1, 5, 6), tolerance=1e-8)
    with task.property("and on a batch in colour, with another t for each example", share=0.4):
        task.compare(network(3), Fixture("sgd", {"learning_rate": 0.3}), *batch(2, 3, 6, 5), tolerance=1e-8)
    with task.property("takes two steps, each with its own gradient", share=0.2):
        task.compare(network(2), Fixture("adam", {"learning_rate": 0.05}), *batch(3, 2, 4, 5), tolerance=1e-8, repeat=2)


# --- 7 · Back along the chain ---------------------------------------------------------------------------------------

def _estimate(raw: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, raw.clamp(-1, 1), known)


def _factors(bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Of x̂₀ and x_t in the posterior mean."""
    alpha = bar / before
    return before.sqrt() * (1 - alpha) / (1 - bar), alpha.sqrt() * (1 - before) / (1 - bar)


def _printed(bar: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    return _factors(bar, before)[0], bar.sqrt() * (1 - before) / (1 - bar)


def _deviation(bar: Tensor, before: Tensor) -> Tensor:
    return ((1 - before) / (1 - bar) * (1 - bar / before)).sqrt()


def _ancestral(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, *, table: Callable = _bars,
               estimated: Callable = _estimate, factors: Callable = _factors, deviation: Callable = _deviation,
               drawn: Callable = lambda noise, t: noise[t - 1], start: Callable = lambda noise, known, mask: noise[-1],
               asked: Callable = lambda t: t, told: Callable = lambda mask: mask, last: int = 1, forward: bool = False,
               after: Callable = lambda x, known, mask, t, bars, z: x, final: Callable = lambda x, known, mask: x) -> Tensor:
    """Ancestral sampling; the options are where answers differ."""
    x, alpha_bars, steps = start(noise, known, mask), table(betas), len(betas) - 1
    for t in range(1, steps + 1) if forward else range(steps, last - 1, -1):
        x0 = estimated(denoiser(x, known, told(mask), asked(t)), known, mask)
        bar, before = alpha_bars[t], alpha_bars[t - 1]
        of_image, of_chain = factors(bar, before)
        x = of_image * x0 + of_chain * x + deviation(bar, before) * drawn(noise, t)
        x = after(x, known, mask, t, alpha_bars, drawn(noise, t))
    return final(x, known, mask)


def _noise_in_the_end(bar: Tensor, before: Tensor) -> Tensor:
    """As if the last step had noise as well, β_1 for want of a posterior variance."""
    return (1 - bar).sqrt() if before == 1 else _deviation(bar, before)


def _sample_of(task: Task, number: int, channels: int, height: int, width: int, steps: int, *, variance: float) -> tuple:
    mask = _holes(task, number, height, width)
    known = torch.where(mask, 0, _picture(task, number, channels, height, width))
    betas = _schedule(task, steps)
    denoiser = Fixture("inpainting_denoiser", {"variance": variance, "alpha_bars": _bars(betas)})
    return denoiser, known, mask, task.normal(steps + 1, number, channels, height, width).double(), betas


@exercise(points=3, minutes=35, kind="sampler", reference=_ancestral,
          withholds=_SAMPLING, mistakes={
    "printed_factor": Mistake("the factor of x_t in the posterior mean has √ᾱ_t, as it is printed in the thesis; it is √α_t, with "
                              "α_t = 1 − β_t", _with(_ancestral, factors=_printed), 2),
    "image_factor_without_root": Mistake("the factor of x̂₀ has ᾱ_{t−1} instead of its root", _with(_ancestral, factors=lambda bar, before: (
        before * (1 - bar / before) / (1 - bar), _factors(bar, before)[1])), 2),
    "factors_exchanged": Mistake("the factors of x̂₀ and of x_t are exchanged", _with(_ancestral, factors=lambda *a: _factors(*a)[::-1]), 2),
    "not_clipped": Mistake("the estimate is not clipped to [−1, 1]", _with(_ancestral, estimated=lambda raw, known, mask: torch.where(
        mask, raw, known)), 1),
    "clipped_to_pictures": Mistake("the estimate is clipped to [0, 1]; in the chain, values lie in [−1, 1]",
                                   _with(_ancestral, estimated=lambda raw, known, mask: torch.where(mask, raw.clamp(0, 1), known)), 1),
    "returned_as_picture": Mistake("the result is brought to [0, 1]; asked is x₀ in the chain's values",
                                   _with(_ancestral, final=lambda x, known, mask: (x + 1) / 2), 1),
    "chain_clipped": Mistake("x_t is clipped as well; only the estimate x̂₀ lies in [−1, 1], the chain is noisy and goes beyond",
                             _with(_ancestral, after=lambda x, *rest: x.clamp(-1, 1)), 1),
    "not_reprojected": Mistake("the known pixels are not put back into the estimate: it is only clipped",
                               _with(_ancestral, estimated=lambda raw, known, mask: raw.clamp(-1, 1)), 1),
    "reprojected_at_the_end": Mistake("the known pixels are put back once, at the end; they belong into the estimate of every step",
                                      _with(_ancestral, estimated=lambda raw, known, mask: raw.clamp(-1, 1),
                                            final=lambda x, known, mask: torch.where(mask, x, known)), 1),
    "repainted": Mistake("the known pixels are noised and put into x_t, as RePaint does for models that are not told of holes (section "
                         "8.12); here they belong into the estimate x̂₀",
                         _with(_ancestral, estimated=lambda raw, known, mask: raw.clamp(-1, 1),
                               after=lambda x, known, mask, t, bars, z: torch.where(
                                   mask, x, bars[t - 1].sqrt() * known + (1 - bars[t - 1]).sqrt() * z)), 1),
    "reprojected_without_noise": Mistake("the known pixels are put into x_t as they are, where they should be as noisy as the rest "
                                         "of the chain; they belong into the estimate x̂₀ only, which has no noise",
                                         _with(_ancestral, estimated=lambda raw, known, mask: raw.clamp(-1, 1),
                                               after=lambda x, known, mask, *rest: torch.where(mask, x, known)), 1),
    "mask_inverted": Mistake("the hole is filled with y, and the estimate is kept where pixels are known: M is true where they are missing",
                             _with(_ancestral, estimated=lambda raw, known, mask: torch.where(mask, known, raw.clamp(-1, 1))), 1),
    "mask_inverted_for_denoiser": Mistake("the denoiser is given 1 − M as its mask", _with(_ancestral, told=torch.logical_not), 1),
    "noise_in_the_end": Mistake("noise is added in the last step as well, from t = 1 to 0; the posterior's variance is 0 there",
                                _with(_ancestral, deviation=_noise_in_the_end), 3),
    "beta_as_variance": Mistake("the noise has the variance β_t; asked is that of the posterior, (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t",
                                _with(_ancestral, deviation=lambda bar, before: 0 * bar if before == 1 else (1 - bar / before).sqrt()), 3),
    "beta_to_the_end": Mistake("the noise has the variance β_t, also in the last step; asked is the posterior's variance, "
                               "(1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t, which is 0 at t = 1",
                               _with(_ancestral, deviation=lambda bar, before: (1 - bar / before).sqrt()), 3),
    "variance_as_deviation": Mistake("the noise is multiplied with the variance; a deviation is its root",
                                     _with(_ancestral, deviation=lambda *a: _deviation(*a).square()), 3),
    "no_noise": Mistake("no noise is added on the way, so that all fills tend to the mean",
                        _with(_ancestral, deviation=lambda bar, before: 0 * bar), 3),
    "noise_number": Mistake("the noise of the step t → t − 1 is `noise[t - 1]`; `noise[t]` made x_t",
                            _with(_ancestral, drawn=lambda noise, t: noise[t]), 3),
    "noise_reversed": Mistake("the noise is taken from the front: the chain starts at `noise[0]`; it starts at `noise[-1]`, and the step "
                              "t → t − 1 takes `noise[t - 1]`",
                              _with(_ancestral, start=lambda noise, *rest: noise[0], drawn=lambda noise, t: noise[len(noise) - t]), 3),
    "starts_at_the_first": Mistake("the chain starts at `noise[0]`, which has no influence; it starts at the last one, `noise[steps]`",
                                   _with(_ancestral, start=lambda noise, *rest: noise[0]), 3),
    "starts_at_zero": Mistake("the chain starts at zeros; x_steps is noise, `noise[-1]`",
                              _with(_ancestral, start=lambda noise, *rest: torch.zeros_like(noise[0])), 3),
    "known_at_the_start": Mistake("the chain starts with the known pixels as they are; at t = steps everything is noise",
                                  _with(_ancestral, start=lambda noise, known, mask: torch.where(mask, noise[-1], known)), 1),
    "noised_anew": Mistake("every step forgets x_t and noises the estimate anew, √ᾱ_{t−1} x̂₀ + √(1 − ᾱ_{t−1}) ε; x_t belongs into the "
                           "posterior mean", _with(_ancestral, factors=lambda bar, before: (before.sqrt(), 0 * bar),
                                                   deviation=lambda bar, before: (1 - before).sqrt()), 2),
    "bar_as_alpha": Mistake("ᾱ_t is taken for α_t in the posterior; the α_t of one step is 1 − β_t",
                            _with(_ancestral, factors=lambda bar, before: (before.sqrt(), bar.sqrt() * (1 - before) / (1 - bar)),
                                  deviation=lambda bar, before: (1 - before).sqrt()), 2),
    "denoiser_at_t_minus_one": Mistake("the denoiser is asked for step t − 1; the chain is at t when it is asked",
                                       _with(_ancestral, asked=lambda t: t - 1), 3),
    "wrong_way": Mistake("the steps are counted up; the way back goes from t = steps down to 1", _with(_ancestral, forward=True), 3),
    "t_divided": Mistake("the denoiser is given t / steps, as the network of exercise 6 was; the denoiser wants the whole number t",
                         lambda denoiser, known, mask, noise, betas: _ancestral(
                             denoiser, known, mask, noise, betas, asked=lambda t: t / (len(betas) - 1)), 3),
    "last_step_forgotten": Mistake("the step from t = 1 to 0 is missing: the result still has its noise", _with(_ancestral, last=2), 3),
})
def ancestral_sampling(task: Task) -> None:
    with task.property("takes one step: the estimate, with the known pixels put back", share=0.2):
        task.compare(*_sample_of(task, 2, 1, 4, 5, 1, variance=0.3), tolerance=1e-8)
    with task.property("takes several steps, with noise between them", share=0.5):
        task.compare(*_sample_of(task, 1, 1, 5, 4, 5, variance=0.2), tolerance=1e-8)
        task.compare(*_sample_of(task, 2, 3, 4, 6, 8, variance=0.2), tolerance=1e-8)
    with task.property("clips estimates that leave [−1, 1]", share=0.3):
        task.compare(*_sample_of(task, 2, 1, 5, 5, 4, variance=6.0), tolerance=1e-8)


# --- 8 · DDIM -------------------------------------------------------------------------------------------------------

def _sigma(bar: Tensor, before: Tensor, eta: float) -> Tensor:
    return eta * _deviation(bar, before)


def _direction(x: Tensor, x0: Tensor, raw: Tensor, bar: Tensor, z: Tensor) -> Tensor:
    return (x - bar.sqrt() * x0) / (1 - bar).sqrt()


def _implicit(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list, eta: float, *,
              estimated: Callable = _estimate, sigma: Callable = _sigma, direction: Callable = _direction,
              previous: Callable = lambda t, s: s, left: Callable = lambda before, sigma: (1 - before - sigma ** 2).clamp(min=0).sqrt(),
              added: Callable = lambda sigma: sigma, drawn: Callable = lambda noise, k: noise[k + 1],
              asked: Callable = lambda k, t, s: t, image: Callable = torch.sqrt, drop: int = 0, first: int = 0) -> Tensor:
    """DDIM along given times; the options are where answers differ."""
    x, alpha_bars = noise[first], _bars(betas)
    for k, (t, s) in enumerate(list(zip(times, times[1:]))[:len(times) - 1 - drop]):
        raw = denoiser(x, known, mask, asked(k, t, s))
        x0 = estimated(raw, known, mask)
        bar, before = alpha_bars[t], alpha_bars[previous(t, s)]
        deviation, z = sigma(bar, before, eta), drawn(noise, k)
        x = image(before) * x0 + left(before, deviation) * direction(x, x0, raw, bar, z) + added(deviation) * z
    return x


def _always(eta: float) -> Callable:
    def answer(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list, given: float) -> Tensor:
        return _implicit(denoiser, known, mask, noise, betas, times, eta)
    return answer


def _one_step_variance(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list, eta: float) -> Tensor:
    beta = dict(zip(_bars(betas).tolist(), betas))      # of the step that has this ᾱ
    return _implicit(denoiser, known, mask, noise, betas, times, eta, sigma=lambda bar, before, eta: eta * (
        (1 - before) / (1 - bar) * beta[float(bar)]).sqrt())


def _every_step(denoiser: Callable, known: Tensor, mask: Tensor, noise: Tensor, betas: Tensor, times: list, eta: float) -> Tensor:
    everything = list(range(times[0], -1, -1))
    numbers = torch.arange(len(everything)) % len(noise)
    return _implicit(denoiser, known, mask, noise[numbers], betas, everything, eta)


@exercise(points=3, minutes=30, kind="sampler", reference=_implicit,
          withholds=_SAMPLING, mistakes={
    "eta_not_squared": Mistake("σ² is η times the posterior's variance; σ is η times its root, so that σ² has η²",
                               _with(_implicit, sigma=lambda bar, before, eta: eta ** 0.5 * _deviation(bar, before)), 2),
    "eta_squared_twice": Mistake("σ is η² times the root of the posterior's variance; it is η times", _with(
        _implicit, sigma=lambda bar, before, eta: eta ** 2 * _deviation(bar, before)), 2),
    "eta_ignored": Mistake("η has no influence: no fresh noise is ever added", _always(0.0), 2),
    "eta_always_one": Mistake("η has no influence: noise is added as if it were 1", _always(1.0), 2),
    "variance_added": Mistake("the fresh noise is multiplied with σ² instead of σ", _with(_implicit, added=torch.square), 2),
    "direction_not_reduced": Mistake("the old noise keeps its whole factor √(1 − ᾱ_s), although fresh noise is added: it has √(1 − ᾱ_s − σ²)",
                                     _with(_implicit, left=lambda before, sigma: (1 - before).sqrt()), 2),
    "sigma_not_squared_in_root": Mistake("the factor of the old noise is √(1 − ᾱ_s − σ), without the square on σ",
                                         _with(_implicit, left=lambda before, sigma: (1 - before - sigma).clamp(min=0).sqrt()), 2),
    "difference_of_roots": Mistake("the factor of the old noise is √(1 − ᾱ_s) − σ; variances are subtracted, not deviations: √(1 − ᾱ_s − σ²)",
                                   _with(_implicit, left=lambda before, sigma: (1 - before).sqrt() - sigma), 2),
    "previous_is_t_minus_one": Mistake("each step ends at t − 1; it ends at the next of the `times`, however far that is",
                                       _with(_implicit, previous=lambda t, s: t - 1), 1),
    "every_step_taken": Mistake("all steps of the chain are taken; only those in `times` are", _every_step, 1),
    "last_step_forgotten": Mistake("the last step, to time 0, is missing", _with(_implicit, drop=1), 1),
    "asked_for_next": Mistake("the denoiser is asked for step s, where the chain goes; it is at t when it is asked",
                              _with(_implicit, asked=lambda k, t, s: s), 1),
    "asked_for_number": Mistake("the denoiser is given the number of the step in the list; it wants the t of the chain",
                                _with(_implicit, asked=lambda k, t, s: k), 1),
    "t_divided": Mistake("the denoiser is given t / steps, as the network of exercise 6 was; the denoiser wants the whole number t",
                         lambda denoiser, known, mask, noise, betas, times, eta: _implicit(
                             denoiser, known, mask, noise, betas, times, eta, asked=lambda k, t, s: t / (len(betas) - 1)), 1),
    "fresh_direction": Mistake("the estimated noise ε̂ is replaced by a fresh one", _with(
        _implicit, direction=lambda x, x0, raw, bar, z: z), 3),
    "direction_of_raw": Mistake("ε̂ is computed from the denoiser's answer as it came; it belongs to the *clipped and re-projected* x̂₀",
                                _with(_implicit, direction=lambda x, x0, raw, bar, z: _direction(x, raw, raw, bar, z)), 3),
    "direction_not_reprojected": Mistake("ε̂ is computed from the guess that is clipped, but has not got the known pixels back; it belongs "
                                         "to the clipped *and re-projected* x̂₀", _with(
                                             _implicit, direction=lambda x, x0, raw, bar, z: _direction(x, raw.clamp(-1, 1), raw, bar, z)), 3),
    "direction_without_root": Mistake("ε̂ is divided by 1 − ᾱ_t instead of its root", _with(
        _implicit, direction=lambda x, x0, raw, bar, z: (x - bar.sqrt() * x0) / (1 - bar)), 3),
    "direction_unscaled": Mistake("ε̂ is computed from x_t − x̂₀; it is x_t − √ᾱ_t x̂₀, divided by √(1 − ᾱ_t)", _with(
        _implicit, direction=lambda x, x0, raw, bar, z: (x - x0) / (1 - bar).sqrt()), 3),
    "direction_not_divided": Mistake("ε̂ is not divided by √(1 − ᾱ_t)", _with(
        _implicit, direction=lambda x, x0, raw, bar, z: x - bar.sqrt() * x0), 3),
    "image_without_root": Mistake("the factor of x̂₀ is ᾱ_s instead of its root", _with(_implicit, image=lambda bar: bar), 3),
    "beta_as_variance": Mistake("σ² is η² (1 − ᾱ_t / ᾱ_s), without the factor (1 − ᾱ_s) / (1 − ᾱ_t)", _with(
        _implicit, sigma=lambda bar, before, eta: eta * (1 - bar / before).sqrt()), 2),
    "one_step_variance": Mistake("σ² has β_t, the noise of one step; the leap from t to s has 1 − ᾱ_t / ᾱ_s", _one_step_variance, 2),
    "variance_upside_down": Mistake("the factor of σ² is (1 − ᾱ_t) / (1 − ᾱ_s), upside down", _with(
        _implicit, sigma=lambda bar, before, eta: eta * ((1 - bar) / (1 - before).clamp(min=1e-9) * (1 - bar / before)).sqrt()), 2),
    "not_clipped": Mistake("the estimate is not clipped to [−1, 1]", _with(_implicit, estimated=lambda raw, known, mask: torch.where(
        mask, raw, known)), 1),
    "not_reprojected": Mistake("the known pixels are not put back into the estimate", _with(
        _implicit, estimated=lambda raw, known, mask: raw.clamp(-1, 1)), 1),
    "mask_inverted": Mistake("the hole is filled with y, and the estimate is kept where pixels are known: M is true where they are missing",
                             _with(_implicit, estimated=lambda raw, known, mask: torch.where(mask, known, raw.clamp(-1, 1))), 1),
    "starts_at_the_last": Mistake("the chain starts at the last of the noises, as in exercise 7; here it starts at `noise[0]`",
                                  _with(_implicit, first=-1), 1),
    "noise_number": Mistake("the step number k adds `noise[k]`; that made the chain's last value, and the next one takes `noise[k + 1]`",
                            _with(_implicit, drawn=lambda noise, k: noise[k]), 1),
})
def ddim_sampling(task: Task) -> None:
    def case(number: int, channels: int, times: list, eta: float, *, variance: float = 0.2) -> tuple:
        denoiser, known, mask, _, betas = _sample_of(task, number, channels, 4, 5, times[0], variance=variance)
        return denoiser, known, mask, task.normal(len(times), *known.shape).double(), betas, times, eta

    with task.property("goes back without fresh noise, η = 0", share=0.2):
        task.compare(*case(2, 1, [4, 3, 2, 1, 0], 0.0), tolerance=1e-8)
    with task.property("skips steps", share=0.3):
        task.compare(*case(1, 3, [9, 6, 2, 0], 0.0), tolerance=1e-8)
    with task.property("adds as much fresh noise as η says", share=0.3):
        task.compare(*case(1, 1, [5, 4, 3, 2, 1, 0], 1.0), tolerance=1e-8)
        task.compare(*case(2, 2, [9, 7, 4, 1, 0], 0.6), tolerance=1e-8)
    with task.property("clips estimates that leave [−1, 1]", share=0.2):
        task.compare(*case(2, 1, [7, 4, 3, 0], 0.4, variance=6.0), tolerance=1e-8)


# --- 9 · The picture's own patches ----------------------------------------------------------------------------------

def _logits(q: Tensor, p: Tensor, bar: float) -> Tensor:
    return -(q[:, None] - bar ** 0.5 * p[None]).square().sum(-1) / (2 * (1 - bar))


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def _average(estimates: Tensor, x_t: Tensor, n: int) -> Tensor:
    return patches.aggregate_patches(estimates, height=x_t.shape[1], width=x_t.shape[2], patch_size=n)


def _sum_of(estimates: Tensor, x_t: Tensor, n: int) -> Tensor:
    return patches.add_patches(estimates, height=x_t.shape[1], width=x_t.shape[2], patch_size=n)


def _last_written(estimates: Tensor, x_t: Tensor, n: int) -> Tensor:
    out, columns = torch.zeros_like(x_t), x_t.shape[2] - n + 1
    for k, patch in enumerate(estimates):
        i, j = divmod(k, columns)
        out[:, i:i + n, j:j + n] = patch.reshape(-1, n, n)
    return out


def _whole(missing: Tensor) -> Tensor:
    return missing.amax(1) == 0


def _denoised(x_t: Tensor, picture: Tensor, mask: Tensor, alpha_bar: float, patch_size: int, *, logits: Callable = _logits,
              weights: Callable = _softmax, kept: Callable = _whole, values: Callable = lambda p, q, bar: p,
              gathered: Callable = _average) -> Tensor:
    """The closed-form denoiser; the options are where answers differ."""
    n, bar = patch_size, float(alpha_bar)
    missing = patches.extract_patches(mask.to(picture.dtype), patch_size=n)
    p = patches.extract_patches(picture, patch_size=n)[kept(missing)]
    q = patches.extract_patches(x_t, patch_size=n)
    return gathered(weights(logits(q, p, bar)) @ values(p, q, bar), x_t, n)


def _axis_zero(logits: Tensor) -> Tensor:
    return logits.softmax(0)


def _not_normalised(logits: Tensor) -> Tensor:
    return logits.exp()


def _underflowing(logits: Tensor) -> Tensor:
    weights = logits.exp()
    return weights / weights.sum(1, keepdim=True)


def _guarded(logits: Tensor, *, small: float) -> Tensor:
    """Not 0 / 0, but where all weights are small the sum is not 1 any more."""
    weights = logits.exp()
    return weights / (weights.sum(1, keepdim=True) + small)


_SMALL_NUMBER = ("a small number is added to the sum that the weights are divided by: where all of them are small, they do not add up to 1 any "
                 "more. `softmax` needs no such number")


def _nearest_only(logits: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits)


@exercise(points=3, minutes=35, reference=_denoised, withholds=(
    "labkit.diffusion_inpainting.patch_denoiser.PatchDenoiser", "labkit.filtering.nonlocal_attention"), mistakes={
    "softmax_over_queries": Mistake("the weights add up to 1 over the noisy patches; for *each noisy patch* they add up to 1 over the "
                                    "patches of the picture: the softmax goes along the other axis", _with(_denoised, weights=_axis_zero), 2),
    "not_normalised": Mistake("the weights are not divided by their sum", _with(_denoised, weights=_not_normalised), 2),
    "underflow": Mistake("at small noise all weights of a patch become 0, and 0 / 0 follows: take `softmax`, which subtracts the largest "
                         "exponent first", _with(_denoised, weights=_underflowing), 2),
    "small_number_added": Mistake(_SMALL_NUMBER, _with(_denoised, weights=_with(_guarded, small=1e-8)), 2),
    "tiny_number_added": Mistake(_SMALL_NUMBER + ", however tiny it is", _with(_denoised, weights=_with(_guarded, small=1e-12)), 2),
    "nearest_only": Mistake("only the nearest patch counts; all do, by their weights", _with(_denoised, weights=_nearest_only), 2),
    "scale_forgotten": Mistake("x_t's patches are compared with p; the picture in x_t has shrunk to √ᾱ_t p", _with(
        _denoised, logits=lambda q, p, bar: _logits(q, p / bar ** 0.5, bar)), 1),
    "scaled_without_root": Mistake("x_t's patches are compared with ᾱ_t p instead of √ᾱ_t p", _with(
        _denoised, logits=lambda q, p, bar: _logits(q, p * bar ** 0.5, bar)), 1),
    "scaled_average": Mistake("the average is one of the patches √ᾱ_t p; the estimate of x₀ averages p itself", _with(
        _denoised, values=lambda p, q, bar: bar ** 0.5 * p), 3),
    "divided_average": Mistake("the average of the patches p is divided by √ᾱ_t, which is only for what has been noised", _with(
        _denoised, values=lambda p, q, bar: p / bar ** 0.5), 3),
    "half_forgotten": Mistake("the exponent lacks its factor ½", _with(_denoised, logits=lambda *a: 2 * _logits(*a)), 1),
    "deviation_for_variance": Mistake("the exponent is divided by 2 √(1 − ᾱ_t), the deviation; it is divided by 2 (1 − ᾱ_t), the variance",
                                      _with(_denoised, logits=lambda q, p, bar: _logits(q, p, bar) * (1 - bar) ** 0.5), 1),
    "signal_for_noise": Mistake("the exponent is divided by 2 ᾱ_t instead of 2 (1 − ᾱ_t)", _with(
        _denoised, logits=lambda q, p, bar: _logits(q, p, bar) * (1 - bar) / bar), 1),
    "noise_of_another_scale": Mistake("x_t was divided by √ᾱ_t, but the variance was not divided by ᾱ_t: of x_t / √ᾱ_t it is (1 − ᾱ_t) / ᾱ_t",
                                      _with(_denoised, logits=lambda q, p, bar: _logits(q, p, bar) / bar), 1),
    "mean_distance": Mistake("the squared differences are averaged over the patch, as in non-local means; Bayes' rule adds them up",
                             _with(_denoised, logits=lambda q, p, bar: _logits(q, p, bar) / p.shape[1]), 1),
    "distance_not_squared": Mistake("the exponent has the distance instead of its square", _with(
        _denoised, logits=lambda q, p, bar: -torch.cdist(q, bar ** 0.5 * p) / (2 * (1 - bar))), 1),
    "far_patches_win": Mistake("the sign of the exponent is wrong: the farthest patches win", _with(_denoised, logits=lambda *a: -_logits(*a)), 1),
    "hole_used": Mistake("patches that reach into the hole are used as well; nothing is known there", _with(
        _denoised, kept=lambda missing: torch.ones(len(missing), dtype=torch.bool)), 3),
    "partly_known_used": Mistake("patches count when *some* of their pixels are known; all must be", _with(
        _denoised, kept=lambda missing: missing.amin(1) == 0), 3),
    "first_pixel_decides": Mistake("patches count when their first pixel is known; all of their pixels must be", _with(
        _denoised, kept=lambda missing: missing[:, 0] == 0), 3),
    "hole_as_grey": Mistake("the hole is set to 0 and its patches are used like others; patches with a missing pixel do not count",
                            lambda x_t, picture, mask, *rest: _denoised(x_t, torch.where(mask, 0, picture), torch.zeros_like(mask), *rest), 3),
    "noisy_picture_asked": Mistake("the noisy picture's own patches are averaged, as in non-local means; the p are those of `picture`",
                                   lambda x_t, picture, mask, *rest: _denoised(x_t, x_t, torch.zeros_like(x_t[:1]), *rest), 3),
    "mask_inverted": Mistake("the patches come from the hole; the mask is true where pixels are missing", _with(
        _denoised, kept=lambda missing: missing.amin(1) > 0), 3),
    "summed": Mistake("overlapping estimates are added up; a pixel is the *mean* of the estimates that hold it", _with(
        _denoised, gathered=_sum_of), 3),
    "overwritten": Mistake("each patch overwrites the ones before it; a pixel is the mean of all estimates that hold it", _with(
        _denoised, gathered=_last_written), 3),
})
def patch_denoiser(task: Task) -> None:
    def case(channels: int, height: int, width: int, bar: float, n: int, *, hole: bool = True, size: tuple | None = None,
             first: tuple | None = None) -> tuple:
        """A noised part of a picture, and a hole of four by four pixels that leaves patches."""
        picture = _picture(task, 1, channels, height, width)[0]
        mask = torch.zeros(1, height, width, dtype=torch.bool)
        if hole:
            i, j = first or (task.integer(0, height - 4), task.integer(0, width - 4))
            mask[:, i:i + 4, j:j + 4] = True
        rows, columns = size or (height, width)
        x_t = bar ** 0.5 * picture[:, :rows, :columns] + (1 - bar) ** 0.5 * task.normal(channels, rows, columns).double()
        return x_t, picture, mask, bar, n

    with task.property("weighs the patches of a whole picture, in grey", share=0.3):
        # 49 values in a patch make all weights small before they are divided by their sum
        task.compare(*case(1, 10, 11, 0.5, 7, hole=False), tolerance=1e-8)
        task.compare(*case(1, 7, 8, 0.5, 2, hole=False), tolerance=1e-8)
        task.compare(*case(1, 6, 7, 0.8, 3, hole=False, size=(5, 6)), tolerance=1e-8)
    with task.property("leaves out what reaches into the hole, in colour", share=0.4):
        task.compare(*case(3, 9, 10, 0.6, 2), tolerance=1e-8)
        task.compare(*case(2, 11, 9, 0.3, 3, size=(6, 5)), tolerance=1e-8)
    with task.property("knows little in much noise: the mean of all patches", share=0.1):
        task.compare(*case(3, 8, 9, 0.01, 3), tolerance=1e-8)
    with task.property("is finite in very little noise: the nearest patch", share=0.2):
        # x_t shows what is under the hole: there no patch of the picture is near
        task.compare(*case(1, 9, 9, 0.99999, 2, size=(5, 6), first=(0, 0)), tolerance=1e-8)
