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
