"""From noise back to a picture: ancestral sampling and DDIM, with the known pixels put back at every step.

A *denoiser* is anything with a method `predict(x_t, known, mask, t)` that returns its estimate of x_0: a trained network, the
picture's own patches, or a formula. All tensors are batches in the chain's values, [−1, 1]:

    x_t    (N, C, …)  where the chain is
    known  (N, C, …)  y = (1 − M) ⊙ x_0, zero where pixels are missing
    mask   (N, 1, …)  bool, M = `True` where pixels are missing
    t      int        the step, from 1 to the chain's length

The axes after the channels may be rows and columns, or frames, rows and columns. A denoiser that was made for one chain has it as
its attribute `diffusion`; one that is good for some steps only says which by `interval = (first, last)`, both included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from labkit.diffusion_inpainting.diffusion import Diffusion, from_chain, to_chain
from labkit.diffusion_inpainting.masks import validate_hole
from labkit.filtering.arrays import as_floats
from labkit.runtime import progress
from labkit.validation import (
    describe,
    validate_callback,
    validate_choice,
    validate_image,
    validate_integer,
    validate_number,
    validate_seed,
)

__all__ = ["Denoiser", "Film", "Moment", "ancestral_step", "chain_of", "conditioning", "draw", "implicit_step",
           "inpaint", "model_at", "noise_on", "reprojected", "restored", "sample", "variance_map"]

SAMPLERS = ("ddpm", "ddim")
DDIM_STEPS = 50         # where nothing is said; ancestral sampling takes all


class Denoiser(Protocol):
    """What a sampler asks of a model."""

    def predict(self, x_t: Tensor, known: Tensor, mask: Tensor, t: int) -> Tensor:
        """The estimate of x_0, of the shape and dtype of x_t."""


@dataclass(frozen=True)
class Moment:
    """One step of a sampler, as a callback sees it.

    Attributes
    ----------
    number, total : steps done, from 1, and steps in all.
    t : step the chain was at.
    x : x_t, in [−1, 1] and beyond.
    estimate : x̂_0, clipped and with the known pixels put back, in [−1, 1].
    """

    number: int
    total: int
    t: int
    x: Tensor
    estimate: Tensor


@dataclass
class Film:
    """A callback that keeps some frames of a sampling, evenly spread, the first and the last among them (Fig. V.4).

    Attributes
    ----------
    frames : how many to keep, at least 2; all of them when the sampler takes fewer steps.
    times : list of int, the t of each frame.
    chain, estimates : lists of x_t and of x̂_0 as pictures, (N, C, H, W) on the CPU; x_t is not clipped to [0, 1].
    """

    frames: int = 12
    times: list[int] = field(default_factory=list, init=False)
    chain: list[Tensor] = field(default_factory=list, init=False, repr=False)
    estimates: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        validate_integer(self.frames, name="frames", minimum=2)

    def __call__(self, moment: Moment) -> None:
        # kept where the share of the way, in gaps between frames, reaches a new whole number
        gaps, last = self.frames - 1, max(1, moment.total - 1)
        position = moment.number - 1
        if position == 0 or gaps * position // last > gaps * (position - 1) // last:
            self.times.append(moment.t)
            self.chain.append(from_chain(moment.x).cpu())
            self.estimates.append(from_chain(moment.estimate).cpu())


def inpaint(image: Tensor, mask: Tensor, *, model: Denoiser | Sequence[Denoiser], samples: int = 1, sampler: str = "ddpm",
            sampling_steps: int | None = None, eta: float | None = None, diffusion: Diffusion | None = None, seed: int = 0,
            callback: Callable[[Moment], object] | None = None) -> Tensor:
    """Fill the missing pixels by sampling: several plausible fills, each different.

    >>> image = torch.tensor([0.0, 0.5, 1.0]).repeat(8).expand(1, 24, 24)
    >>> hole = torch.zeros(1, 24, 24, dtype=torch.bool)
    >>> hole[:, 9:14, 9:14] = True
    >>> model = labkit.diffusion_inpainting.PatchDenoiser(image, hole, patch_size=5)
    >>> fill = labkit.diffusion_inpainting.inpaint(image, hole, model=model, samples=2, sampler="ddim", sampling_steps=4)
    >>> fill.shape, torch.equal(fill[0][~hole], image[~hole])
    (torch.Size([2, 1, 24, 24]), True)

    Parameters
    ----------
    image : (C, H, W) in [0, 1]; values under the mask have no influence.
    mask : bool (1, H, W), `True` where pixels are missing; some, not all.
    model : a denoiser, or a sequence of them with an `interval` each that together serve all steps.
    samples : how many fills.
    sampler : `"ddpm"`, ancestral sampling, or `"ddim"`, which needs fewer steps.
    sampling_steps : how many of the chain's steps to visit, evenly spread; `None` takes all with `"ddpm"`, 50 with `"ddim"`.
    eta : of `"ddim"`, how much fresh noise, from 0 (none; the fill depends on x_T alone) to 1 (as `"ddpm"`); `None` is 0.
    diffusion : the chain; `None` takes the model's, or `Diffusion()` where it has none.
    seed : of x_T and the noise of the steps. Drawn on the image's device: a GPU draws other numbers than the CPU.
    callback : called with a `Moment` after each estimate, to watch or to keep frames (`Film`).

    Returns
    -------
    Tensor (samples, C, H, W), of the dtype and device of `image`; known pixels are those of `image`, to the bit.

    Raises
    ------
    ValueError : sizes that do not fit, a mask that is empty or full, or models that leave a step out.

    References
    ----------
    Thesis, section V.2.1 "Inference". Ho et al. 2020, algorithm 2. Song, Meng, Ermon, "Denoising Diffusion Implicit Models",
    ICLR 2021, eq. 12 and 16.
    """
    known, hole = conditioning(image, mask, samples=samples)
    validate_callback(callback)
    diffusion = chosen_chain(diffusion, model)
    validate_choice(sampler, name="sampler", choices=SAMPLERS)
    if sampling_steps is None and sampler == "ddim":
        sampling_steps = min(DDIM_STEPS, diffusion.steps)
    noise = noise_on(image.device, seed)
    x = sample(known, hole, model=model, diffusion=diffusion, times=diffusion.times(sampling_steps), sampler=sampler, eta=eta,
               noise=noise, callback=callback)
    return restored(image, mask, x)


def sample(known: Tensor, mask: Tensor, *, model: Denoiser | Sequence[Denoiser], diffusion: Diffusion, times: Sequence[int],
           noise: torch.Generator, x: Tensor | None = None, sampler: str = "ddpm", eta: float | None = None,
           callback: Callable[[Moment], object] | None = None) -> Tensor:
    """Lead a chain along `times`; what `inpaint` is made of, for any number of axes and any part of the chain.

    With a mask that is full, known pixels there are none, and the model's pictures are drawn freely.

    Parameters
    ----------
    known : y (N, C, …) in [−1, 1].
    mask : bool (N, 1, …) or (1, 1, …).
    times : decreasing steps, as of `Diffusion.times`; a part of them leads the chain from the first to the last of these.
    noise : random generator on the device of `known`.
    x : the chain at `times[0]`; `None` draws x_T.
    model, diffusion, sampler, eta, callback : as for `inpaint`.

    Returns
    -------
    Tensor : x at `times[-1]`, of the shape of `known`.
    """
    validate_choice(sampler, name="sampler", choices=SAMPLERS)
    if eta is not None:
        if sampler == "ddpm":
            raise ValueError(f"eta is {eta} and sampler 'ddpm'; expected eta with 'ddim' only")
        validate_number(eta, name="eta", minimum=0, maximum=1)
    times = list(times)
    if len(times) < 2 or any(later >= t for t, later in zip(times, times[1:])) or times[0] > diffusion.steps or times[-1] < 0:
        raise ValueError(f"times is {describe(times)}; expected at least two decreasing steps from {diffusion.steps} to 0")
    models = [model_at(model, t) for t in times[:-1]]
    mask = mask.expand(len(known), *mask.shape[1:])
    x = draw(known, noise) if x is None else x
    steps = list(zip(times, times[1:], models))
    with torch.no_grad():
        for number, (t, previous, denoiser) in enumerate(progress(steps, description=f"sampling ({sampler})"), start=1):
            estimate = reprojected(denoiser.predict(x, known, mask, t), known, mask)
            if callback is not None:
                callback(Moment(number, len(steps), t, x, estimate))
            if sampler == "ddpm":
                x = ancestral_step(x, estimate, diffusion=diffusion, t=t, previous=previous, noise=noise)
            else:
                x = implicit_step(x, estimate, diffusion=diffusion, t=t, previous=previous, eta=eta or 0.0, noise=noise)
    return x


def ancestral_step(x: Tensor, estimate: Tensor, *, diffusion: Diffusion, t: int, previous: int, noise: torch.Generator) -> Tensor:
    """x_s drawn from q(x_s | x_t, x̂_0), s = `previous`."""
    mean = diffusion.posterior_mean(x, estimate, t, previous=previous)
    if previous == 0:       # its variance is 0
        return mean
    return mean.add_(draw(x, noise), alpha=diffusion.posterior_variance(t, previous=previous) ** 0.5)


def implicit_step(x: Tensor, estimate: Tensor, *, diffusion: Diffusion, t: int, previous: int, eta: float,
                  noise: torch.Generator) -> Tensor:
    """x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε̂ + σ z, with σ² = η² times the posterior's variance (Song et al., eq. 12 and 16)."""
    bar = float(diffusion.alpha_bars[previous])
    variance = eta ** 2 * diffusion.posterior_variance(t, previous=previous)
    direction = diffusion.noise_from_image(x, estimate, t)
    x = bar ** 0.5 * estimate + max(0.0, 1 - bar - variance) ** 0.5 * direction
    return x.add_(draw(x, noise), alpha=variance ** 0.5) if variance > 0 else x


def reprojected(estimate: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """x̂_0 clipped to [−1, 1], with the known pixels put back."""
    return torch.where(mask, estimate.clamp(-1, 1), known)


def variance_map(samples: Tensor) -> Tensor:
    """How much fills differ from pixel to pixel: (N, C, H, W) to (1, H, W), the variance over samples, averaged over channels.

    >>> labkit.diffusion_inpainting.variance_map(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
    tensor([[[0.5000]]])

    Zero at known pixels. Divided by N − 1, so that it does not depend on N; N is at least 2.
    """
    if not isinstance(samples, Tensor) or samples.ndim != 4 or len(samples) < 2:
        raise ValueError(f"samples is {describe(samples)}; expected a tensor (N, C, H, W) of at least two fills")
    validate_image(samples, name="samples")
    return samples.var(dim=0).mean(dim=0, keepdim=True)


# --- shared with the other samplers -------------------------------------------------------------------------------------

def conditioning(image: Tensor, mask: Tensor, *, samples: int) -> tuple[Tensor, Tensor]:
    """What a denoiser is told, y and M as batches of `samples`; y is zero under the mask whatever the image holds there."""
    validate_hole(image, mask)
    validate_integer(samples, name="samples", minimum=1)
    mask = mask.to(image.device)
    known = torch.where(mask, 0, to_chain(as_floats(image.detach())))
    return known.expand(samples, -1, -1, -1), mask.expand(samples, -1, -1, -1)


def restored(image: Tensor, mask: Tensor, x: Tensor) -> Tensor:
    """The end of a chain as pictures, with the known pixels as they were."""
    return torch.where(mask.to(image.device), from_chain(x).clamp(0, 1).to(image.dtype), image.detach())


def chain_of(model: Denoiser | Sequence[Denoiser]) -> Diffusion:
    """The chain that a model was made for, or the usual one."""
    chains = {getattr(one, "diffusion", None) or Diffusion() for one in _several(model)}
    if len(chains) > 1:
        raise ValueError(f"model holds denoisers of {len(chains)} different chains; expected one chain for all")
    return chains.pop()


def chosen_chain(diffusion: Diffusion | None, model: Denoiser | Sequence[Denoiser]) -> Diffusion:
    """The chain that is given, or that of the model; both validated."""
    _several(model)
    if diffusion is not None and not isinstance(diffusion, Diffusion):
        raise ValueError(f"diffusion is {describe(diffusion)}; expected a Diffusion or None")
    return diffusion or chain_of(model)


def model_at(model: Denoiser | Sequence[Denoiser], t: int) -> Denoiser:
    """The denoiser that serves step t."""
    models = _several(model)
    intervals = [getattr(one, "interval", None) for one in models]
    for one, interval in zip(models, intervals):
        first, last = interval or (0, t)
        if first <= t <= last:
            return one
    raise ValueError(f"no model serves step {t}: their intervals are {intervals}; expected every step that the sampler visits "
                     "to lie in one")


def noise_on(device: torch.device, seed: int) -> torch.Generator:
    """A random generator on a device: drawing on the CPU and copying would take longer than a small network."""
    validate_seed(seed)
    return torch.Generator(device).manual_seed(int(seed))


def draw(like: Tensor, noise: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of a tensor."""
    return torch.randn(like.shape, generator=noise, dtype=like.dtype, device=like.device)


def _several(model: Denoiser | Sequence[Denoiser]) -> Sequence[Denoiser]:
    models = [model] if hasattr(model, "predict") else model
    if not isinstance(models, Sequence) or not models or not all(callable(getattr(one, "predict", None)) for one in models):
        raise ValueError(f"model is {describe(model)}; expected an object with a method predict(x_t, known, mask, t), or a "
                         "sequence of such")
    return models
