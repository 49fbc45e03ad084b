"""The chain that turns pictures into noise, and what Bayes' rule says about going back.

Forward, x_t = √α_t x_{t−1} + √β_t ε with α_t = 1 − β_t, for t = 1, …, steps; in one go, x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε with
ᾱ_t = α_1 ⋯ α_t. Nothing here depends on what x is: its first axis counts the examples, the others may be channels, rows and
columns, frames, or none at all. Inside the chain pictures have values in [−1, 1]; `to_chain` and `from_chain` go from and to
[0, 1].

References
----------
Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020. Thesis, section V.2 and appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from labkit.validation import describe, validate_choice, validate_integer, validate_number

__all__ = ["TARGETS", "WEIGHTINGS", "Diffusion", "from_chain", "to_chain"]

TARGETS = ("image", "noise", "mean")            # what a network may predict
WEIGHTINGS = ("uniform", "elbo", "min_snr")
MOST_SNR = 5.0                                  # Hang et al. 2023


def to_chain(image: Tensor) -> Tensor:
    """Values in [0, 1] as the chain has them, in [−1, 1].

    >>> labkit.diffusion_inpainting.to_chain(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-1.,  0.,  1.])
    """
    _validate_floats(image, "image")
    return 2 * image - 1


def _validate_floats(values: Tensor, name: str) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise ValueError(f"{name} is {describe(values)}; expected a floating-point torch tensor")


def from_chain(x: Tensor) -> Tensor:
    """Values of the chain, in [−1, 1], as a picture has them, in [0, 1].

    >>> labkit.diffusion_inpainting.from_chain(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    _validate_floats(x, "x")
    return (x + 1) / 2


@dataclass(frozen=True)
class Diffusion:
    """A chain whose noise grows linearly, β_t from `beta_start` at t = 1 to `beta_end` at t = `steps`.

    >>> diffusion = labkit.diffusion_inpainting.Diffusion()
    >>> diffusion.times(4), [round(float(diffusion.snr(t)), 4) for t in (1, 500, 1000)]
    ([1000, 750, 500, 250, 0], [9999.0, 0.0853, 0.0])

    Wherever a method takes t, it is a whole number, or an integer tensor (N,) with one step for each example of an x of shape
    (N, …). Results have the shape, dtype and device of x.

    Parameters
    ----------
    steps : length of the chain, at least 1.
    beta_start, beta_end : variances β_1 and β_steps of the noise of one step, above 0 and below 1.

    Raises
    ------
    ValueError : a parameter out of its range; in the methods, t outside the chain or a size that does not fit.

    References
    ----------
    Thesis, eq. V.1 to V.3 and A.1. Two of its formulas are misprinted: the factor of x_t in the posterior mean (V.3) has √α_t,
    not √ᾱ_t, and the weight in the last line of A.1.3 has (1 − ᾱ_t), not its square.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        validate_integer(self.steps, name="steps", minimum=1)
        for name in ("beta_start", "beta_end"):
            value = getattr(self, name)
            validate_number(value, name=name, above=0)
            if value >= 1:
                raise ValueError(f"{name} is {value}; expected a variance below 1")

    # --- the schedule: float64 tables of steps + 1 entries, so that entry t is that of step t -----------------------

    @cached_property
    def betas(self) -> Tensor:
        """β_t: float64 (steps + 1,); β_0 = 0 stands for the picture itself."""
        ramp = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        return torch.cat([torch.zeros(1, dtype=torch.float64), ramp])

    @cached_property
    def alphas(self) -> Tensor:
        """α_t = 1 − β_t."""
        return 1 - self.betas

    @cached_property
    def alpha_bars(self) -> Tensor:
        """ᾱ_t = α_1 ⋯ α_t, with ᾱ_0 = 1."""
        return self.alphas.cumprod(0)

    def times(self, sampling_steps: int | None = None) -> list[int]:
        """The steps a sampler visits, from `steps` down to 0, evenly spread: `sampling_steps` + 1 of them, `None` = all."""
        count = self.steps if sampling_steps is None else sampling_steps
        validate_integer(count, name="sampling_steps", minimum=1, maximum=self.steps)
        return [(2 * self.steps * left + count) // (2 * count) for left in range(count, -1, -1)]    # halves rounded up

    # --- forward ----------------------------------------------------------------------------------------------------

    def add_noise(self, x: Tensor, t: int | Tensor, noise: Tensor, *, start: int | Tensor = 0) -> Tensor:
        """x_t from x_start and standard normal noise, in one go: √a x_start + √(1 − a) ε with a = ᾱ_t / ᾱ_start.

        Parameters
        ----------
        x : x_start, (N, …); the picture x_0 where `start` is 0.
        t : step to reach, from 0 to `steps`.
        noise : ε, of the shape of x.
        start : step that x is at, at most t.
        """
        x, noise = _same_shape(x=x, noise=noise)
        kept = self._ratio(t, start, x)
        return kept ** 0.5 * x + (1 - kept) ** 0.5 * noise

    # --- backward ---------------------------------------------------------------------------------------------------

    def posterior_mean(self, x_t: Tensor, x0: Tensor, t: int | Tensor, *, previous: int | Tensor | None = None) -> Tensor:
        """Mean of q(x_s | x_t, x_0) for s = `previous`, which is t − 1 unless a sampler skips steps.

        With a = ᾱ_t / ᾱ_s (which is α_t for s = t − 1) it is

            √ᾱ_s (1 − a) / (1 − ᾱ_t) x_0 + √a (1 − ᾱ_s) / (1 − ᾱ_t) x_t,

        eq. V.3 of the thesis with √α_t in its last term.
        """
        x_t, x0 = _same_shape(x_t=x_t, x0=x0)
        of_image, of_chain = self._mean_factors(t, previous, x_t)
        return of_image * x0 + of_chain * x_t

    def posterior_variance(self, t: int | Tensor, *, previous: int | Tensor | None = None) -> float | Tensor:
        """Variance of q(x_s | x_t, x_0) for s = `previous`: (1 − ᾱ_s) / (1 − ᾱ_t) (1 − ᾱ_t / ᾱ_s); a float64 (N,) for a tensor t."""
        t, previous = self._pair(t, previous)
        kept = self._ratio(t, previous)
        return (1 - self._bar(previous)) / (1 - self._bar(t)) * (1 - kept)

    # --- the three parametrisations ---------------------------------------------------------------------------------

    def image_from_noise(self, x_t: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """x_0 = (x_t − √(1 − ᾱ_t) ε) / √ᾱ_t."""
        x_t, noise = _same_shape(x_t=x_t, noise=noise)
        bar = self._ratio(t, 0, x_t)
        return (x_t - (1 - bar) ** 0.5 * noise) / bar ** 0.5

    def noise_from_image(self, x_t: Tensor, x0: Tensor, t: int | Tensor) -> Tensor:
        """ε = (x_t − √ᾱ_t x_0) / √(1 − ᾱ_t), for t ≥ 1."""
        x_t, x0 = _same_shape(x_t=x_t, x0=x0)
        self._validate_step(t, minimum=1)
        bar = self._ratio(t, 0, x_t)
        return (x_t - bar ** 0.5 * x0) / (1 - bar) ** 0.5

    def image_from_mean(self, x_t: Tensor, mean: Tensor, t: int | Tensor) -> Tensor:
        """The x_0 whose `posterior_mean` for the step t → t − 1 is `mean`."""
        x_t, mean = _same_shape(x_t=x_t, mean=mean)
        of_image, of_chain = self._mean_factors(t, None, x_t)
        return (mean - of_chain * x_t) / of_image

    def convert(self, prediction: Tensor, x_t: Tensor, t: int | Tensor, *, given: str, wanted: str) -> Tensor:
        """What a network predicts, said another way.

        Parameters
        ----------
        prediction : x_0, ε or the posterior mean of the step t → t − 1, as `given` says.
        x_t, t : where the chain is, t from 1 to `steps`.
        given, wanted : `"image"`, `"noise"` or `"mean"`.
        """
        validate_choice(given, name="given", choices=TARGETS)
        validate_choice(wanted, name="wanted", choices=TARGETS)
        prediction, x_t = _same_shape(prediction=prediction, x_t=x_t)
        self._validate_step(t, minimum=1)
        if given == wanted:
            return prediction.clone()
        image = {"image": lambda x_t, prediction, t: prediction, "noise": self.image_from_noise,
                 "mean": self.image_from_mean}[given](x_t, prediction, t)
        return {"image": lambda x_t, image, t: image, "noise": self.noise_from_image,
                "mean": self.posterior_mean}[wanted](x_t, image, t)

    # --- training ---------------------------------------------------------------------------------------------------

    def snr(self, t: int | Tensor) -> float | Tensor:
        """Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t), for t ≥ 1; a float64 (N,) for a tensor t."""
        self._validate_step(t, minimum=1)
        bar = self._bar(t)
        return bar / (1 - bar)

    def loss_weights(self, t: int | Tensor, *, kind: str = "uniform", target: str = "image") -> float | Tensor:
        """What the squared error of step t counts for in the loss.

        Parameters
        ----------
        t : from 1 to `steps`.
        kind : `"uniform"`, 1 whatever the target. `"elbo"`, the weight that makes the loss the Kullback–Leibler divergence between
            q(x_{t−1} | x_t, x_0) and the model's step: ᾱ_{t−1} β_t² / (2 σ_t² (1 − ᾱ_t)²) for the image, which is
            (SNR(t − 1) − SNR(t)) / 2. Its σ_1 is 0 and the weight infinite; σ_2 is taken in its place, as in Ho et al.'s code.
            `"min_snr"`, min(SNR(t), 5) for the image.
        target : what the error is measured on, `"image"`, `"noise"` or `"mean"` (of the step t → t − 1). An error of the image
            is another of the noise, and the weights make up for that: with `"elbo"` and `"min_snr"` the loss stays the same.

        Returns
        -------
        float, or a float64 tensor (N,) for a tensor t.

        References
        ----------
        Thesis, eq. II.6, A.1 and VI.3.6 (whose Min-SNR has ᾱ_{t−1} for ᾱ_t). Hang et al., "Efficient Diffusion Training via
        Min-SNR Weighting Strategy", ICCV 2023.
        """
        validate_choice(kind, name="kind", choices=WEIGHTINGS)
        validate_choice(target, name="target", choices=TARGETS)
        self._validate_step(t, minimum=1)
        return self._looked_up(("weights", kind, target), lambda: self._weights(kind, target), t)

    def _weights(self, kind: str, target: str) -> Tensor:
        """The weights of all steps, entry t that of step t."""
        bar, before, beta = self.alpha_bars, self.alpha_bars.roll(1), self.betas
        noise = (1 - bar).clamp(min=torch.finfo(bar.dtype).tiny)        # entry 0 is never asked for
        if kind == "uniform":
            return torch.ones_like(bar)
        if kind == "elbo":
            variance = (1 - before) / noise * beta
            variance[1] = variance[2] if self.steps > 1 else beta[1]
            weights = before * beta ** 2 / (2 * variance * noise ** 2)
        else:
            weights = (bar / noise).clamp(max=MOST_SNR)
        # how many times the error of the image, squared, is that of the target
        share = {"image": torch.ones_like(bar), "noise": bar / noise, "mean": before * (beta / noise) ** 2}[target]
        return weights / share

    # --- tables at t ------------------------------------------------------------------------------------------------

    def _bar(self, t: int | Tensor) -> float | Tensor:
        """ᾱ_t as a float or a float64 tensor (N,)."""
        return self._looked_up(("bars",), lambda: self.alpha_bars, t)

    def _looked_up(self, name: tuple[str, ...], table: Callable[[], Tensor], t: int | Tensor) -> float | Tensor:
        """Entry t of a table, as a float or as a tensor (N,) on the device of t."""
        # kept for every device: copying a table in each training step would make a GPU wait
        device = t.device if isinstance(t, Tensor) else torch.device("cpu")
        tables = self.__dict__.setdefault("_tables", {})
        if (*name, device) not in tables:
            tables[*name, device] = table().to(device)
        entry = tables[*name, device][t]
        return entry if isinstance(t, Tensor) else float(entry)

    def _ratio(self, t: int | Tensor, start: int | Tensor, x: Tensor | None = None) -> float | Tensor:
        """ᾱ_t / ᾱ_start, shaped to multiply x where x is given."""
        self._validate_step(t, minimum=0)
        self._validate_step(start, minimum=0, name="start")
        if _surely_above(start, t):
            raise ValueError(f"start is {_said(start)} and t is {_said(t)}; expected a start at or before t")
        return _shaped(self._bar(t) / self._bar(start), x)

    def _pair(self, t: int | Tensor, previous: int | Tensor | None) -> tuple[int | Tensor, int | Tensor]:
        self._validate_step(t, minimum=1)
        previous = t - 1 if previous is None else previous
        self._validate_step(previous, minimum=0, name="previous")
        if _surely_above(previous, t - 1):
            raise ValueError(f"previous is {_said(previous)} and t is {_said(t)}; expected an earlier step than t")
        return t, previous

    def _mean_factors(self, t: int | Tensor, previous: int | Tensor | None, x: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """The factors of x_0 and of x_t in the posterior mean."""
        t, previous = self._pair(t, previous)
        bar, before, kept = self._bar(t), self._bar(previous), self._ratio(t, previous)
        of_image = before ** 0.5 * (1 - kept) / (1 - bar)
        of_chain = kept ** 0.5 * (1 - before) / (1 - bar)
        return _shaped(of_image, x), _shaped(of_chain, x)

    def _validate_step(self, t: int | Tensor, *, minimum: int, name: str = "t") -> None:
        if not isinstance(t, Tensor):
            return validate_integer(t, name=name, minimum=minimum, maximum=self.steps)
        if t.ndim != 1 or t.is_floating_point() or t.is_complex() or t.dtype == torch.bool or len(t) == 0:
            raise ValueError(f"{name} is {describe(t)}; expected a whole number or an integer tensor (N,)")
        # on a GPU looking at the values would wait for it at every step
        if t.device.type == "cpu" and not minimum <= int(t.min()) <= int(t.max()) <= self.steps:
            raise ValueError(f"{name} lies from {int(t.min())} to {int(t.max())}; expected steps from {minimum} to {self.steps}")


def _same_shape(**tensors: Tensor) -> list[Tensor]:
    """The tensors, or an error when one is none or their shapes differ."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim == 0:
            raise ValueError(f"{name} is {describe(value)}; expected a floating-point tensor (N, …)")
    (first, a), (second, b) = tensors.items()
    if a.shape != b.shape:
        raise ValueError(f"{first} has the shape {tuple(a.shape)} and {second} {tuple(b.shape)}; expected the same")
    return [a, b]


def _shaped(value: float | Tensor, x: Tensor | None) -> float | Tensor:
    """A number per example, with axes of length 1 for the others of x, in its dtype."""
    if x is None or not isinstance(value, Tensor):
        return value
    if len(value) not in (1, len(x)):
        raise ValueError(f"t holds {len(value)} steps and x {len(x)} examples; expected one step for each, or one for all")
    return value.to(x.device, x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


def _surely_above(first: int | Tensor, second: int | Tensor) -> bool:
    """Whether some entry of the first is above the second's, as far as that is known without waiting for a GPU."""
    if any(isinstance(value, Tensor) and value.device.type != "cpu" for value in (first, second)):
        return False
    return bool((torch.as_tensor(first) > torch.as_tensor(second)).any())


def _said(t: int | Tensor) -> str:
    return str(t.tolist() if isinstance(t, Tensor) else t)
