"""The checks of a training example that does not leak, and of the training step that takes it.

The network that an answer is given is a fixture with a closed form, and all random numbers go in as tensors, so that
every answer has one right result to compare with.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.answers import Fixture
from labkit.checks.diffusion_inpainting.pieces import bars_of, chain_pictures, chain_values, holes, schedule
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import with_options

__all__ = ["inpainting_step", "leak_free_example"]

_LOSSES = tuple(f"labkit.diffusion_inpainting.inpainter.{name}"
                for name in ("inpainting_loss", "regression_loss", "_mean_error"))


# --- 5 · No leak ----------------------------------------------------------------------------------------------------

def _leak_free_example(crop: Tensor, missing: Tensor, painted: Tensor, noise: Tensor, alpha_bar: float, *,
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


@exercise(points=2, minutes=25, reference=_leak_free_example, withholds=(
    "labkit.diffusion_inpainting.inpainter.inpainting_loss", "labkit.diffusion_inpainting.inpainter.regression_loss"))
def leak_free_example(task: Task) -> None:
    def case(number: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> tuple:
        crop = chain_pictures(task, number, channels, height, width, dtype=dtype)
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


def _nowhere(missing: Tensor, painted: Tensor) -> Tensor:
    return torch.zeros_like(missing)


def _first(missing: Tensor, painted: Tensor) -> Tensor:
    return missing


def _second(missing: Tensor, painted: Tensor) -> Tensor:
    return painted


def _clean_outside(x_t: Tensor, crop: Tensor, missing: Tensor, painted: Tensor) -> Tensor:
    return torch.where(missing | painted, x_t, crop)


def _noise_itself(crop: Tensor, missing: Tensor, painted: Tensor, noise: Tensor, alpha_bar: float) -> tuple:
    x_t, *rest = _leak_free_example(crop, missing, painted, noise, alpha_bar)
    return torch.where(missing, noise, x_t), *rest


def _masked_in_place(crop: Tensor, missing: Tensor, *rest) -> tuple:
    return _leak_free_example(crop.masked_fill_(missing, 0), missing, *rest)


leak_free_example.knows({
    "chain_leaks": Mistake("the missing pixels leak through x_t: they are hidden in y, but x_t is made from the whole "
                           "crop", with_options(_leak_free_example, in_chain=_nowhere), 1),
    "known_leaks": Mistake("the missing pixels leak through y: y hides the painted pixels only, M hides both",
                           with_options(_leak_free_example, in_known=_second), 1),
    "all_leaks": Mistake("the missing pixels leak through x_t and y: nothing of what stands under M_test may have an "
                         "influence", with_options(_leak_free_example, in_chain=_nowhere, in_known=_second), 1),
    "painted_seen": Mistake("y shows what is to be guessed: it has to hide the painted pixels too",
                            with_options(_leak_free_example, in_known=_first), 2),
    "known_whole": Mistake("y is the whole crop: it has to hide the missing and the painted pixels",
                           with_options(_leak_free_example, in_known=_nowhere), 2),
    "chain_hides_painted": Mistake("x_t hides the painted pixels too: there it would be pure noise, and there is "
                                   "nothing to learn from it. It is the noisy version of what is known, painted over "
                                   "or not", with_options(_leak_free_example, in_chain=torch.logical_or), 2),
    "chain_hides_only_painted": Mistake("x_t hides the painted pixels, and shows the missing ones; it is the other way "
                                        "round", with_options(_leak_free_example, in_chain=_second), 2),
    "noise_hidden": Mistake(
        "x_t is 0 under M_test; the noise stays, only the picture goes",
        with_options(_leak_free_example, noisy=lambda x_t, crop, missing, painted: torch.where(missing, 0, x_t)), 2),
    "noise_unscaled_in_the_hole": Mistake(
        "under M_test, x_t is the noise itself; under the hole the noise has to have its factor √(1 − ᾱ_t), as "
        "everywhere",
        _noise_itself, 2),
    "noise_in_the_hole_only": Mistake("x_t has noise in the hole only, and known pixels as they are; noise is added "
                                      "everywhere", with_options(_leak_free_example, noisy=_clean_outside), 2),
    "roots_forgotten": Mistake("picture and noise in x_t are multiplied by ᾱ_t and 1 − ᾱ_t; it is their roots, as in "
                               "exercise 1", with_options(_leak_free_example, factors=lambda bar: (bar, 1 - bar)), 2),
    "factors_exchanged": Mistake(
        "the factors of picture and noise in x_t are exchanged",
        with_options(_leak_free_example, factors=lambda bar: ((1 - bar) ** 0.5, bar ** 0.5)), 2),
    "not_faded": Mistake("noise is added, but the picture in x_t does not fade: it is multiplied by √ᾱ_t",
                         with_options(_leak_free_example, factors=lambda bar: (1.0, (1 - bar) ** 0.5)), 2),
    "mask_of_painted": Mistake(
        "M marks the painted pixels only: the network takes the zeros under M_test for known grey pixels",
        with_options(_leak_free_example, mask=_second), 2),
    "mask_of_missing": Mistake("M marks the missing pixels only; the painted ones are hidden too",
                               with_options(_leak_free_example, mask=_first), 2),
    "mask_of_both": Mistake("M marks pixels that are missing *and* painted; it marks those that are missing *or* "
                            "painted", with_options(_leak_free_example, mask=torch.logical_and), 2),
    "mask_inverted": Mistake("M is True where pixels are known; it is True where they are hidden",
                             with_options(_leak_free_example, mask=lambda m, p: ~(m | p)), 2),
    "counts_missing": Mistake(
        "the error counts under M_test as well, where the truth is not known: the network would learn to paint what "
        "stands there",
        with_options(_leak_free_example, counted=torch.logical_or), 3),
    "counts_painted": Mistake("the error counts in all painted pixels, also under M_test, where the truth is not known",
                              with_options(_leak_free_example, counted=_second), 3),
    "counts_known": Mistake("the error counts in all known pixels; it counts where they are painted over, for the "
                            "others need no guess", with_options(_leak_free_example, counted=lambda m, p: ~m), 3),
    "counts_seen": Mistake(
        "the error counts where the network sees the answer; it counts in the painted pixels, M_train ⊙ (1 − M_test)",
        with_options(_leak_free_example, counted=lambda m, p: ~(m | p)), 3),
    "counts_overlap": Mistake(
        "the error counts where both masks overlap, which is where nothing is known; it counts in M_train ⊙ (1 − "
        "M_test)",
        with_options(_leak_free_example, counted=torch.logical_and), 3),
    "counts_missing_only": Mistake("the roles of the masks are exchanged in the loss: it counts in M_test ⊙ (1 − "
                                   "M_train)", with_options(_leak_free_example, counted=lambda m, p: m & ~p), 3),
    "masks_exchanged": Mistake(
        "the two masks are exchanged: `missing` is M_test, `painted` M_train",
        lambda crop, missing, painted, *rest: _leak_free_example(crop, painted, missing, *rest), 2),
    "masks_of_numbers": Mistake(
        "the masks come back as numbers; they are boolean, like those that came in",
        with_options(_leak_free_example, last=lambda x_t, y, mask, counted: (x_t, y, mask.to(y), counted.to(y))), 2),
    "counted_as_numbers": Mistake(
        "what counts comes back as numbers; it is a boolean mask",
        with_options(_leak_free_example, last=lambda x_t, y, mask, counted: (x_t, y, mask, counted.to(y))), 3),
    "order_of_results": Mistake(
        "y and x_t are returned in the other order",
        with_options(_leak_free_example, last=lambda x_t, y, mask, counted: (y, x_t, mask, counted)), 2),
    "writes_into_input": Mistake("the missing pixels are erased in the crop that was given", _masked_in_place, 1),
})


# --- 6 · The training step ------------------------------------------------------------------------------------------

def _per_example(t: Tensor, table: Tensor) -> Tensor:
    return table[t][:, None, None, None]


def _noised(x0: Tensor, noise: Tensor, missing: Tensor, bar: Tensor) -> Tensor:
    return bar.sqrt() * x0 + (1 - bar).sqrt() * noise


def _over_counted(squares: Tensor, missing: Tensor, counted: Tensor) -> Tensor:
    return (counted * squares).sum() / (counted.sum() * squares.shape[1])


def _inpainting_step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, x0: Tensor, missing: Tensor,
                     counted: Tensor, t: Tensor, noise: Tensor, betas: Tensor, *, bars: Callable = _per_example,
                     table: Callable = bars_of, noised: Callable = _noised,
                     known: Callable = lambda x0, missing, x_t: torch.where(missing, 0, x0),
                     order: Callable = lambda x_t, y: (x_t, y), told: Callable = lambda missing, counted: missing,
                     level: Callable = lambda t, bars: t / (len(bars) - 1),
                     target: Callable = lambda x0, noise, x_t: x0, error: Callable = torch.square,
                     loss: Callable = _over_counted, zero: bool = True, step: bool = True, descend: bool = True,
                     late: bool = False, result: Callable = float) -> float:
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


@exercise(points=3, minutes=35, kind="step", reference=_inpainting_step, withholds=_LOSSES)
def inpainting_step(task: Task) -> None:
    steps = 16      # t / 16 is exact in any floating-point type

    def batch(number: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> tuple:
        painted = holes(task, number, height, width)
        unknown = task.uniform(number, 1, height, width) < 0.2
        unknown[:, :, 0, 0] = painted[:, :, 0, 0] = True       # the two overlap, and some of either remains
        unknown[:, :, 0, 1], painted[:, :, 0, 1] = False, True
        unknown[:, :, 1, 0], painted[:, :, 1, 0] = True, False
        x0 = torch.where(unknown, 0, chain_values(task, number, channels, height, width).to(dtype))
        t = 1 + torch.randperm(steps, generator=task.generator)[:number]
        noise = task.normal(*x0.shape).to(dtype)
        return x0, painted | unknown, painted & ~unknown, t, noise, schedule(task, steps, noisy=True, dtype=dtype)

    def network(channels: int, dtype: torch.dtype = torch.float64) -> Fixture:
        shape = channels, 2 * channels + 2, 3, 3
        weights = [0.2 * task.normal(*size).to(dtype) for size in (shape, (channels,))]
        return Fixture("inpainting_network", {"weights": weights})

    with task.property("takes a step of gradient descent on one grey example", share=0.4):
        task.compare(network(1), Fixture("sgd", {"learning_rate": 0.3}), *batch(1, 1, 5, 6), tolerance=1e-8)
    with task.property("and on a batch in colour, with another t for each example", share=0.4):
        task.compare(network(3), Fixture("sgd", {"learning_rate": 0.3}), *batch(2, 3, 6, 5), tolerance=1e-8)
    with task.property("takes two steps, each with its own gradient", share=0.2):
        task.compare(network(2), Fixture("adam", {"learning_rate": 0.05}), *batch(3, 2, 4, 5), tolerance=1e-8, repeat=2)
    with task.property("works in float32 too"):
        task.compare(network(1, torch.float32), Fixture("sgd", {"learning_rate": 0.3}),
                     *batch(1, 1, 5, 6, torch.float32), tolerance=1e-5)


def _mean_of_means(squares: Tensor, missing: Tensor, counted: Tensor) -> Tensor:
    each = (counted * squares).sum(dim=(1, 2, 3)) / (counted.sum(dim=(1, 2, 3)) * squares.shape[1])
    return each.mean()


inpainting_step.knows({
    "loss_over_missing": Mistake(
        "the error is counted in the whole hole that the network sees, `missing`; under the test mask there is no "
        "truth to compare with. It counts where `counted` is true",
        with_options(_inpainting_step, loss=lambda s, missing, counted: _over_counted(s, missing, missing)), 3),
    "loss_everywhere": Mistake("the error is counted in all pixels; it counts where `counted` is true",
                               with_options(_inpainting_step, loss=lambda s, missing, counted: s.mean()), 3),
    "loss_over_known": Mistake(
        "the error is counted outside of the hole, where the network is told the answer",
        with_options(_inpainting_step, loss=lambda s, missing, counted: _over_counted(s, missing, ~missing)), 3),
    "not_normalised": Mistake(
        "the squared errors are added up and not divided by their number, so that larger holes make larger steps",
        with_options(_inpainting_step, loss=lambda s, missing, counted: (counted * s).sum()), 3),
    "divided_by_all": Mistake(
        "the sum is divided by the number of all values (`.mean()` after multiplying with the mask); divide by the "
        "number of values that count",
        with_options(_inpainting_step, loss=lambda s, missing, counted: (counted * s).mean()), 3),
    "channels_not_divided": Mistake(
        "the sum is divided by the number of pixels that count; each of them has C values",
        with_options(_inpainting_step, loss=lambda s, missing, counted: (counted * s).sum() / counted.sum()), 3),
    "mean_of_means": Mistake(
        "each example has a mean of its own, and these are averaged; all values that count in the batch count alike",
        with_options(_inpainting_step, loss=_mean_of_means), 3),
    "absolute_error": Mistake("absolute errors are averaged instead of squared ones",
                              with_options(_inpainting_step, error=torch.abs), 3),
    "noise_as_target": Mistake("the estimate is compared with the noise; this network estimates x₀",
                               with_options(_inpainting_step, target=lambda x0, noise, x_t: noise), 3),
    "noisy_target": Mistake("the estimate is compared with x_t; it should be the picture *without* noise, x₀",
                            with_options(_inpainting_step, target=lambda x0, noise, x_t: x_t), 3),
    "answer_given_away": Mistake(
        "the network is given x₀ itself as y, with the hole in it: the answer stands in the question",
        with_options(_inpainting_step, known=lambda x0, missing, x_t: x0), 2),
    "hole_given_away": Mistake("y holds the pixels *of the hole* and is empty elsewhere: y = (1 − M) ⊙ x₀",
                               with_options(_inpainting_step, known=lambda x0, missing, x_t: missing * x0), 2),
    "noisy_y": Mistake("y is cut out of x_t and has its noise; what is known is known without noise, y = (1 − M) ⊙ x₀",
                       with_options(_inpainting_step, known=lambda x0, missing, x_t: torch.where(missing, 0, x_t)), 2),
    "inputs_exchanged": Mistake("the network is given y first and x_t second; it expects x_t, y, M and t / steps",
                                with_options(_inpainting_step, order=lambda x_t, y: (y, x_t)), 2),
    "mask_inverted": Mistake("the network is given 1 − M as its mask",
                             with_options(_inpainting_step, told=lambda missing, counted: ~missing), 2),
    "mask_of_counted": Mistake(
        "the mask given to the network is what counts; the network is told of everything hidden, `missing`",
        with_options(_inpainting_step, told=lambda missing, counted: counted), 2),
    "no_noise": Mistake("the network is given x₀ instead of x_t",
                        with_options(_inpainting_step, noised=lambda x0, noise, missing, bar: x0), 1),
    "noised_y": Mistake(
        "x_t is made from y; under the painted hole x_t is the noisy picture, made from x₀",
        with_options(_inpainting_step,
                     noised=lambda x0, noise, missing, bar: _noised(torch.where(missing, 0, x0), noise, missing, bar)), 1),
    "roots_forgotten": Mistake(
        "x_t is ᾱ_t x₀ + (1 − ᾱ_t) ε, without the roots",
        with_options(_inpainting_step, noised=lambda x0, noise, missing, bar: bar * x0 + (1 - bar) * noise), 1),
    "exchanged": Mistake(
        "√ᾱ_t and √(1 − ᾱ_t) are exchanged",
        with_options(_inpainting_step,
                     noised=lambda x0, noise, missing, bar: (1 - bar).sqrt() * x0 + bar.sqrt() * noise), 1),
    "noise_in_the_hole_only": Mistake(
        "only the hole is noised; x_t is noisy everywhere, and the network finds what is known in y",
        with_options(_inpainting_step,
                     noised=lambda x0, noise, missing, bar: torch.where(missing, _noised(x0, noise, missing, bar), x0)), 1),
    "t_off_by_one": Mistake(
        "ᾱ is taken at t − 1: `betas` has β_0 = 0 as its first entry, so that ᾱ_t is number t of the products",
        with_options(_inpainting_step, bars=lambda t, table: _per_example(t - 1, table)), 1),
    "not_accumulated": Mistake("x_t is made with α_t = 1 − β_t, the noise of one step; ᾱ_t is the product α_1 ⋯ α_t",
                               with_options(_inpainting_step, table=lambda betas: 1 - betas), 1),
    "betas_multiplied": Mistake("the β are multiplied instead of the α = 1 − β", with_options(
        _inpainting_step, table=lambda betas: betas.cumprod(0)), 1),
    "one_time_for_all": Mistake(
        "every example is noised as the first one; t has an entry for each",
        with_options(_inpainting_step, bars=lambda t, table: _per_example(t[:1].expand_as(t), table)), 1),
    "t_not_divided": Mistake("the network is given t; it expects t / steps, in [0, 1]",
                             with_options(_inpainting_step, level=lambda t, bars: t), 2),
    "t_by_length": Mistake("t is divided by the length of `betas`, which is steps + 1",
                           with_options(_inpainting_step, level=lambda t, bars: t / len(bars)), 2),
    "noise_level_as_time": Mistake("the network is given ᾱ_t as its last input; it expects t / steps",
                                   with_options(_inpainting_step, level=lambda t, bars: bars[t]), 2),
    "gradients_pile_up": Mistake(
        "the gradients of earlier steps are still there when the next are added: `optimizer.zero_grad()` comes "
        "before `.backward()`",
        with_options(_inpainting_step, zero=False), 4),
    "no_step": Mistake("the weights do not change: after `.backward()` comes `optimizer.step()`",
                       with_options(_inpainting_step, step=False), 4),
    "uphill": Mistake("the loss is raised instead of lowered", with_options(_inpainting_step, descend=False), 4),
    "loss_after_the_step": Mistake(
        "the loss is computed after the step; asked is the one before it, whose gradient made the step",
        with_options(_inpainting_step, late=True), 4),
})
