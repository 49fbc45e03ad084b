"""Random pictures for tests."""

from __future__ import annotations

import torch

from labkit.runtime import generator


def random_image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Independent values in [0, 1), the same ones for every dtype, to rounding."""
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def sixteenths(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A picture of values i/16: sums of their differences and squares are exact in float32, in any order."""
    return (torch.randint(17, shape, generator=generator(seed)) / 16).to(dtype)
