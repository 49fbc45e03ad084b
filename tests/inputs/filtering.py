"""Random inputs for the exercises of chapter 1, of a wider kind than those of its checks."""

from __future__ import annotations

import random

from tests.inputs.drawing import Inputs, rand, sizes

__all__ = ["INPUTS"]


def _guided_inputs(rng: random.Random) -> tuple:
    channels, height, width = sizes(rng, 1, 3)
    return rand(rng, channels, height, width), rand(rng, 1, height, width), rng.randint(1, 5), 10 ** rng.uniform(-4, 0)


def _cross_inputs(rng: random.Random) -> tuple:
    channels, height, width = sizes(rng, 1, 3)
    return (
        rand(rng, channels, height, width),
        rand(rng, rng.choice((1, 3)), height, width),
        rng.uniform(0.5, 4),
        rng.uniform(0.05, 1),
        rng.randint(0, 5),
    )


def _pca_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    return rand(rng, rng.choice((1, 3)), n + rng.randint(3, 10), n + rng.randint(3, 10)), n, rng.uniform(0, 0.6)


def _attention_inputs(rng: random.Random) -> tuple:
    n, m, d, k = (rng.randint(1, 8) for _ in range(4))
    return 4 * rand(rng, n, d), 4 * rand(rng, m, d), rand(rng, m, k), rng.uniform(0.3, 3)


INPUTS: Inputs = {
    "gaussian_filter": lambda rng: (rand(rng, *sizes(rng, 1, 3)), rng.uniform(0.4, 4), rng.randint(0, 6)),
    "box_filter": lambda rng: (rand(rng, *sizes(rng, 1, 3)), rng.randint(0, 8)),
    "bilateral_filter": lambda rng: (
        rand(rng, *sizes(rng, 1, 3)),
        rng.uniform(0.5, 4),
        rng.uniform(0.05, 1),
        rng.randint(0, 5),
    ),
    "cross_bilateral_filter": _cross_inputs,
    "guided_filter": _guided_inputs,
    "rolling_guidance_filter": lambda rng: (
        rand(rng, *sizes(rng, 1, 3)),
        rng.uniform(0.5, 3),
        rng.uniform(0.05, 1),
        rng.randint(1, 5),
        rng.randint(1, 4),
    ),
    "nonlocal_means": lambda rng: (
        rand(rng, rng.choice((1, 3)), rng.randint(4, 12), rng.randint(4, 12)),
        rng.choice((1, 3, 5)),
        rng.choice((5, 7, 9)),
        rng.uniform(0.05, 0.5),
        rng.uniform(0, 0.2),
    ),
    "pca_filter": _pca_inputs,
    "nonlocal_attention": _attention_inputs,
}
