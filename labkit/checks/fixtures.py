"""Small models, optimisers, denoisers and objectives that a check names and that are built beside the student's code.

A check cannot send a function to another process; it sends a name that is registered here, with plain parameters. Each
fixture is simple enough to have its answer in closed form. Those that one chapter alone needs are registered in the same
way by `labkit/checks/<topic>/fixtures.py`.

A grader keeps these files, and nothing else of the checks, beside the student's code. So they hold no reference and no
mistake, and a chapter's imports nothing of labkit but this module: what it held on to, an answer could reach.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, TypeVar

import torch
from torch import Tensor

from labkit import chapters

__all__ = ["GaussianDenoiser", "QuadraticObjective", "adam", "build", "fixture", "linear_model", "load", "module_names", "set_weights", "sgd"]

Maker = TypeVar("Maker", bound=Callable[..., Any])

_MAKERS: dict[str, Callable[..., Any]] = {}


def fixture(name: str) -> Callable[[Maker], Maker]:
    """Register, under a name, a class that is built from the parameters, or a function `(built, *, ...)` of them.

    A function also gets the fixtures of the same call that were made before it, as a list.

    Raises
    ------
    ValueError : another module has a fixture of that name.
    """
    def register(make: Maker) -> Maker:
        there = _MAKERS.get(name, make)
        if there.__module__ != make.__module__:
            raise ValueError(f"{there.__module__} has a fixture called {name!r} already; expected a new name")
        _MAKERS[name] = make
        return make
    return register


@fixture("linear_model")
def linear_model(built: list, *, weights: Sequence[Tensor]) -> torch.nn.Module:
    """`x ↦ x Wᵀ + b` with `weights = [W, b]`."""
    model = torch.nn.Linear(weights[0].shape[1], weights[0].shape[0])
    set_weights(model, weights)
    return model


@fixture("sgd")
def sgd(built: list, *, learning_rate: float) -> torch.optim.Optimizer:
    """Plain gradient descent on the model built before it."""
    return torch.optim.SGD(_last_model(built).parameters(), lr=learning_rate)


@fixture("adam")
def adam(built: list, *, learning_rate: float) -> torch.optim.Optimizer:
    """Adam with torch's defaults on the model built before it."""
    return torch.optim.Adam(_last_model(built).parameters(), lr=learning_rate)


@fixture("gaussian_denoiser")
class GaussianDenoiser:
    """The exact denoiser when the data are Gaussian: `(x, noise_level) ↦ E[x₀ | x]`. It counts how it was called."""

    def __init__(self, mean: float, variance: float):
        self.mean, self.variance = mean, variance
        self.calls: list[dict[str, Any]] = []

    def __call__(self, x: Tensor, noise_level: float) -> Tensor:
        self.calls.append({"noise level": float(noise_level), "shape": tuple(x.shape)})
        gain = self.variance / (self.variance + float(noise_level) ** 2)
        return self.mean + gain * (x - self.mean)


@fixture("quadratic_objective")
class QuadraticObjective:
    """`u ↦ ½ ‖A u − v‖²`, for methods that descend an energy."""

    def __init__(self, matrix: Tensor, target: Tensor):
        self.matrix, self.target = matrix, target
        self.calls: list[dict[str, Any]] = []

    def __call__(self, u: Tensor) -> Tensor:
        self.calls.append({"shape": tuple(u.shape)})
        return 0.5 * (self.matrix @ u - self.target).square().sum()


def build(name: str, parameters: dict[str, Any], built: list) -> Any:
    """Make the fixture of that name; `built` holds the ones of the same call that were made before it.

    Raises
    ------
    ValueError : no fixture has that name.
    """
    if name not in _MAKERS:
        load()
    if name not in _MAKERS:
        raise ValueError(f"no fixture is called {name!r}; there are {', '.join(_MAKERS)}")
    make = _MAKERS[name]
    return make(**parameters) if isinstance(make, type) else make(built, **parameters)


def module_names() -> tuple[str, ...]:
    """The modules that hold fixtures, or would: this one and one for each chapter."""
    return __name__, *(f"{__package__}.{chapter.topic}.fixtures" for chapter in chapters.CHAPTERS)


def load() -> None:
    """Import the fixtures of every chapter that has some of its own, and nothing else of its checks."""
    for name in module_names():
        spec = None if name in sys.modules else _find(name)
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module      # so that the chapter's checks, imported later, find this one
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def _find(name: str) -> ModuleSpec | None:
    """Where a chapter's fixtures lie. `importlib.util.find_spec` would import the chapter's checks on the way."""
    folder, _, _ = name.rpartition(".")
    package = PathFinder.find_spec(folder, sys.modules[__package__].__path__)
    places = package.submodule_search_locations if package else None
    return PathFinder.find_spec(name, places) if places else None


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
