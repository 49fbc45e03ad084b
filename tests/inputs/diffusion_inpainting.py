"""Random inputs for the exercises of chapter 8, of a wider kind than those of its checks."""

from __future__ import annotations

import random

import torch

from labkit.checks.answers import Fixture, Request
from tests.inputs.drawing import Inputs, pictures, rand

__all__ = ["INPUTS"]


def _schedule(rng: random.Random, steps: int) -> torch.Tensor:
    """β_0 = 0 and a β for each step, in any order."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), 0.01 + 0.5 * rand(rng, steps)])


def _batch(rng: random.Random) -> tuple[int, int, int, int]:
    return rng.randint(1, 3), rng.choice((1, 3)), rng.randint(1, 5), rng.randint(1, 5)


def _steps(rng: random.Random, number: int, low: int, high: int) -> torch.Tensor:
    return torch.tensor([rng.randint(low, high) for _ in range(number)])


def _add_noise_inputs(rng: random.Random) -> tuple:
    shape, steps = _batch(rng), rng.randint(1, 9)
    return rand(rng, *shape), _steps(rng, shape[0], 0, steps), rand(rng, *shape), _schedule(rng, steps)


def _mean_inputs(rng: random.Random) -> tuple:
    shape, steps = _batch(rng), rng.randint(1, 9)
    return (
        rand(rng, *shape),
        rand(rng, *shape),
        rng.randint(1, steps),
        _schedule(rng, steps),
        rng.choice(("image", "noise", "mean")),
    )


def _loss_weights_inputs(rng: random.Random) -> tuple:
    steps = rng.randint(2, 9)
    return (
        _steps(rng, rng.randint(1, 4), 1, steps),
        _schedule(rng, steps),
        rng.choice(("elbo", "min_snr")),
        rng.choice(("image", "noise")),
    )


def _brush_inputs(rng: random.Random) -> tuple:
    height, width, segments = rng.randint(1, 14), rng.randint(1, 14), rng.randint(1, 4)
    start = rand(rng, 2) * torch.tensor([height - 1, width - 1])
    return (
        start,
        6.28 * rand(rng, segments),
        rng.choice((0, 4, 12)) * rand(rng, segments),
        height,
        width,
        rng.uniform(2, 6),
    )


def _two_masks(rng: random.Random, shape: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    number, _, height, width = shape
    return tuple(rand(rng, number, 1, height, width) < 0.4 for _ in range(2))


def _leak_inputs(rng: random.Random) -> tuple:
    shape = _batch(rng)
    return rand(rng, *shape), *_two_masks(rng, shape), rand(rng, *shape), rng.uniform(0, 1)


def _training_step_inputs(rng: random.Random) -> Request:
    shape, steps = _batch(rng), rng.randint(1, 9)
    number, channels = shape[:2]
    missing, seen = _two_masks(rng, shape)
    missing[:, :, 0, 0], seen[:, :, 0, 0] = True, False  # something counts
    network = Fixture(
        "inpainting_network", {"weights": [rand(rng, channels, 2 * channels + 2, 3, 3) - 0.5, rand(rng, channels)]}
    )
    return Request(
        (
            network,
            Fixture("sgd", {"learning_rate": 0.3}),
            2 * rand(rng, *shape) - 1,
            missing,
            missing & ~seen,
            _steps(rng, number, 1, steps),
            rand(rng, *shape) - 0.5,
            _schedule(rng, steps),
        ),
        {"repeat": rng.randint(1, 2)},
    )


def _hole_inputs(rng: random.Random, steps: int) -> tuple:
    """A denoiser, what is known, the mask and the schedule."""
    shape, betas = _batch(rng), _schedule(rng, steps)
    mask = _two_masks(rng, shape)[0]
    mask[:, :, 0, 0] = False  # something is known
    denoiser = Fixture(
        "inpainting_denoiser", {"variance": rng.choice((0.2, 5.0)), "alpha_bars": (1 - betas).cumprod(0)}
    )
    return denoiser, torch.where(mask, 0, 2 * rand(rng, *shape) - 1), mask, betas


def _ancestral_inputs(rng: random.Random) -> tuple:
    steps = rng.randint(1, 6)
    denoiser, known, mask, betas = _hole_inputs(rng, steps)
    return denoiser, known, mask, 3 * rand(rng, steps + 1, *known.shape) - 1.5, betas


def _ddim_inputs(rng: random.Random) -> tuple:
    times = sorted({0, *(rng.randint(1, 9) for _ in range(rng.randint(1, 4)))}, reverse=True)
    denoiser, known, mask, betas = _hole_inputs(rng, times[0])
    return (
        denoiser,
        known,
        mask,
        3 * rand(rng, len(times), *known.shape) - 1.5,
        betas,
        times,
        rng.choice((0.0, 1.0, rng.uniform(0, 1))),
    )


def _patch_denoiser_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    x_t, picture = pictures(rng, rng.choice((1, 3)), n)
    mask = rand(rng, 1, *picture.shape[1:]) < 0.05
    mask[:, :n, :n] = False  # one whole patch at least
    return x_t, picture, mask, rng.choice((1e-3, 0.5, 0.9999, rng.uniform(0, 1))), n


INPUTS: Inputs = {
    "add_noise": _add_noise_inputs,
    "posterior_mean": _mean_inputs,
    "loss_weights": _loss_weights_inputs,
    "brush_mask": _brush_inputs,
    "leak_free_example": _leak_inputs,
    "inpainting_step": _training_step_inputs,
    "ancestral_sampling": _ancestral_inputs,
    "ddim_sampling": _ddim_inputs,
    "patch_denoiser": _patch_denoiser_inputs,
}
