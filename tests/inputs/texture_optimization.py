"""Random inputs for the exercises of chapter 3, of a wider kind than those of its checks."""

from __future__ import annotations

import random

import torch

from labkit import patches
from tests.inputs.drawing import Inputs, field, pictures, rand, sizes

__all__ = ["INPUTS"]


def _pixel_inputs(rng: random.Random) -> tuple:
    n, channels = rng.choice((1, 3, 5)), rng.choice((1, 3))
    exemplar = rand(rng, channels, n + rng.randint(0, 7), n + rng.randint(0, 7))
    known = rand(rng, n, n) < 0.7
    known[n // 2, n // 2] = n == 1  # at least one pixel is known
    return rand(rng, channels, n, n), known, exemplar, rng.choice((0.0, rng.uniform(0, 2))), rng.uniform(0, 0.999)


def _aggregate_inputs(rng: random.Random) -> tuple:
    matches, positions, _, image, *_ = _towards_inputs(rng)
    now = torch.stack([image[:, i : i + matches.shape[-1], j : j + matches.shape[-1]] for i, j in positions.tolist()])
    some = rng.choice((1, 2, 3))
    matches[::some] = now[::some]  # perfect matches, in which only ε counts
    return matches, positions, image, rng.choice((2, 1, 0.8, rng.uniform(0.2, 1.9)))


def _optimize_inputs(rng: random.Random) -> tuple:
    n, levels, channels = rng.randint(1, 4), rng.randint(1, 3), rng.choice((1, 3))
    exemplar = rand(rng, channels, *(2 ** (levels - 1) * n + rng.randint(0, 6) for _ in range(2)))
    start = rand(rng, channels, *(n + rng.randint(0, 5) for _ in range(2)))
    return exemplar, start, n, rng.randint(1, n), levels, rng.randint(1, 3)


def _towards_inputs(rng: random.Random) -> tuple:
    n, channels = rng.randint(1, 4), rng.choice((1, 3))
    height, width = n + rng.randint(0, 5), n + rng.randint(0, 5)
    positions = patches.patch_positions(height, width, patch_size=n, stride=rng.randint(1, n), cover=True)
    return (
        rand(rng, len(positions), channels, n, n),
        positions,
        0.05 + 3 * rand(rng, len(positions)),
        rand(rng, channels, height, width),
        rng.choice((0.0, rng.uniform(0, 3))),
        rng.randint(0, (min(height, width) - 1) // 2),
    )


def _weighted_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    exemplar = pictures(rng, rng.choice((1, 3)), n)[0]
    nnf = field(rng, rng.randint(1, 7), rng.randint(1, 7), exemplar, n)
    return nnf, 10 ** rng.uniform(-1, 1.5) * rand(rng, *nnf.shape[1:]), exemplar, n


def _upsample_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 5)
    image, exemplar = (tuple(2 * n + rng.randint(0, 12) for _ in range(2)) for _ in range(2))
    coarse = torch.empty(1, *((side + 1) // 2 for side in exemplar))
    return field(rng, *((side + 1) // 2 - n + 1 for side in image), coarse, n), image, exemplar, n


def _semi_dual_inputs(rng: random.Random) -> tuple:
    n, m = rng.randint(1, 12), rng.randint(1, 12)
    return rand(rng, n, m), rand(rng, m) - 0.5, rng.uniform(0.1, 3)


INPUTS: Inputs = {
    "draw_pixel": _pixel_inputs,
    "boundary_cut": lambda rng: (rand(rng, rng.randint(1, 12), rng.randint(1, 9)),),
    "random_phase_texture": lambda rng: (
        image := rand(rng, *sizes(rng, 1, 3)),
        rand(rng, *image.shape[1:]) - rng.uniform(0, 1),
    ),
    "aggregate": _aggregate_inputs,
    "optimize_texture": _optimize_inputs,
    "assign_patches": lambda rng: (rand(rng, rng.randint(1, 10), 4), rand(rng, rng.randint(1, 10), 4)),
    "aggregate_towards": _towards_inputs,
    "weighted_reconstruction": _weighted_inputs,
    "upsample_field": _upsample_inputs,
    "semi_dual_step": _semi_dual_inputs,
}
