"""Small models, optimisers, denoisers and objectives that a check names and that are built beside the student's code.

A check cannot send a function to another process; it sends a name from this table with plain parameters. Each entry is
simple enough to have its answer in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def linear_model(built: list, *, weights: Sequence[Tensor]) -> torch.nn.Module:
    """`x ↦ x Wᵀ + b` with `weights = [W, b]`."""
    model = torch.nn.Linear(weights[0].shape[1], weights[0].shape[0])
    set_weights(model, weights)
    return model


def sgd(built: list, *, learning_rate: float) -> torch.optim.Optimizer:
    """Plain gradient descent on the model built before it."""
    return torch.optim.SGD(_last_model(built).parameters(), lr=learning_rate)


def adam(built: list, *, learning_rate: float) -> torch.optim.Optimizer:
    """Adam with torch's defaults on the model built before it."""
    return torch.optim.Adam(_last_model(built).parameters(), lr=learning_rate)


class GaussianDenoiser:
    """The exact denoiser when the data are Gaussian: `(x, noise_level) ↦ E[x₀ | x]`. It counts how it was called."""

    def __init__(self, mean: float, variance: float):
        self.mean, self.variance, self.calls = mean, variance, []

    def __call__(self, x: Tensor, noise_level: float) -> Tensor:
        self.calls.append((float(noise_level), tuple(x.shape)))
        gain = self.variance / (self.variance + float(noise_level) ** 2)
        return self.mean + gain * (x - self.mean)


class InpaintingNetwork(torch.nn.Module):
    """One convolution 3×3 of x_t, y, M and t put together, called as a chapter's U-Net is; `weights = [W, b]`."""

    def __init__(self, weights: Sequence[Tensor]):
        super().__init__()
        outputs, inputs = weights[0].shape[:2]
        self.convolution = torch.nn.Conv2d(inputs, outputs, 3, padding=1, dtype=weights[0].dtype)
        set_weights(self, weights)

    def forward(self, x_t: Tensor, known: Tensor, mask: Tensor, t: Tensor) -> Tensor:
        noise_level = torch.as_tensor(t).to(x_t).reshape(-1, 1, 1, 1).expand(len(x_t), 1, *x_t.shape[2:])
        return self.convolution(torch.cat([x_t, known.to(x_t), mask.to(x_t), noise_level], dim=1))


class InpaintingDenoiser:
    """A denoiser `(x_t, y, M, t) ↦ x̂₀` in closed form, called as a trained network is.

    It is exact for independent Gaussian values of that variance around a common level, which it takes half from the known pixels
    and half from x_t. What it returns at the known pixels, or beyond [−1, 1], is for the sampler to put right. It notes at which
    steps it was asked, and how many pixels it was told are missing.
    """

    def __init__(self, variance: float, alpha_bars: Tensor):
        self.variance, self.alpha_bars, self.calls = variance, alpha_bars, []

    def __call__(self, x_t: Tensor, known: Tensor, mask: Tensor, t: int) -> Tensor:
        self.calls.append((int(t), int(mask.sum())))
        bar = self.alpha_bars[int(t)].to(x_t)
        count = (1 - mask.to(x_t)).sum(dim=(2, 3), keepdim=True)
        level = (known.sum(dim=(2, 3), keepdim=True) / count + x_t.mean(dim=(2, 3), keepdim=True) / bar.sqrt()) / 2
        gain = bar.sqrt() * self.variance / (bar * self.variance + 1 - bar)
        return level + gain * (x_t - bar.sqrt() * level)


class QuadraticObjective:
    """`u ↦ ½ ‖A u − v‖²`, for methods that descend an energy."""

    def __init__(self, matrix: Tensor, target: Tensor):
        self.matrix, self.target, self.calls = matrix, target, []

    def __call__(self, u: Tensor) -> Tensor:
        self.calls.append(tuple(u.shape))
        return 0.5 * (self.matrix @ u - self.target).square().sum()


TABLE: dict[str, Callable[..., Any]] = {
    "linear_model": linear_model,
    "sgd": sgd,
    "adam": adam,
    "inpainting_network": lambda built, **parameters: InpaintingNetwork(**parameters),
    "inpainting_denoiser": lambda built, **parameters: InpaintingDenoiser(**parameters),
    "gaussian_denoiser": lambda built, **parameters: GaussianDenoiser(**parameters),
    "quadratic_objective": lambda built, **parameters: QuadraticObjective(**parameters),
}


def build(name: str, parameters: dict[str, Any], built: list) -> Any:
    """Make the fixture of that name; `built` holds the ones of the same call that were made before it.

    Raises
    ------
    ValueError : no fixture has that name.
    """
    if name not in TABLE:
        raise ValueError(f"no fixture is called {name!r}; there are {', '.join(TABLE)}")
    return TABLE[name](built, **parameters)


def set_weights(module: torch.nn.Module, weights: Sequence[Tensor], *, refuse: type[Exception] = ValueError) -> None:
    """Fill a module's parameters, in the order of their definition, with the given values."""
    parameters = list(module.parameters())
    have, want = ([tuple(p.shape) for p in parameters], [tuple(w.shape) for w in weights])
    if have != want:
        raise refuse(f"its parameters have the shapes {have}, in the order of their definition; expected {want}")
    with torch.no_grad():
        for parameter, value in zip(parameters, weights):
            parameter.copy_(value)


def _last_model(built: list) -> torch.nn.Module:
    models = [b for b in built if isinstance(b, torch.nn.Module)]
    if not models:
        raise ValueError("an optimiser was named before any model; expected the model's fixture first")
    return models[-1]
