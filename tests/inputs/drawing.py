"""What the inputs of several chapters are drawn with. Float64, so that what differs, differs."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from labkit.checks.answers import Request

__all__ = ["Inputs", "field", "pictures", "rand", "sizes"]

# For each exercise of a chapter: draws the arguments of a call, or a whole request.
Inputs = dict[str, Callable[[random.Random], tuple | Request]]


def sizes(rng: random.Random, *channels: int) -> tuple[int, int, int]:
    """Of a picture: one of these numbers of channels, height, width."""
    return rng.choice(channels), rng.randint(1, 14), rng.randint(1, 14)


def rand(rng: random.Random, *shape: int) -> torch.Tensor:
    """Numbers from 0 to 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(rng.randrange(2**31)), dtype=torch.float64)


def pictures(rng: random.Random, channels: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image and an exemplar, `(C, H, W)` with sides from n to n + 6."""
    return tuple(rand(rng, channels, n + rng.randint(0, 6), n + rng.randint(0, 6)) for _ in range(2))


def field(rng: random.Random, rows: int, columns: int, exemplar: torch.Tensor, n: int) -> torch.Tensor:
    """A nearest-neighbour field of so many rows and columns: for each patch the first pixel of one of side n in the exemplar."""
    random = rand(rng, 2, rows, columns) * torch.tensor([side - n + 1 for side in exemplar.shape[1:]])[:, None, None]
    return random.floor().to(torch.int32)
