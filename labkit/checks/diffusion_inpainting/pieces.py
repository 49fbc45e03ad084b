"""What the checks of chapter 8 share: schedules, batches in the chain's values, and holes."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.checks.engine import Task

__all__ = ["bars_of", "chain_pictures", "chain_values", "holes", "schedule"]


def schedule(task: Task, steps: int, *, noisy: bool = False, dtype: torch.dtype = torch.float64) -> Tensor:
    """`(steps + 1,)`: β_0 = 0 and β_1 < … < β_steps, which grow fast, so that a wrong factor is far from the right one.

    With `noisy` there is much noise in every step, as on a chain that is sampled in a few of them.
    """
    draws = task.uniform(steps)
    rising = 0.1 + 0.5 * draws.double().sort().values if noisy else 0.02 + 0.05 * torch.arange(steps) + 0.04 * draws
    return torch.cat([torch.zeros(1, dtype=dtype), rising.to(dtype)])


def bars_of(betas: Tensor) -> Tensor:
    """ᾱ_0 = 1, ᾱ_1, …, ᾱ_steps."""
    return (1 - betas).cumprod(0)


def chain_pictures(task: Task, number: int, channels: int, height: int, width: int, *,
                   dtype: torch.dtype = torch.float64) -> Tensor:
    """A batch of pictures, with shading and edges, in the chain's values."""
    return torch.stack([2 * task.image(height, width, channels=channels, dtype=dtype) - 1 for _ in range(number)])


def chain_values(task: Task, number: int, channels: int, height: int, width: int) -> Tensor:
    """A batch of independent values of the chain, float64, in [−0.9, 0.9]: clipping to [−1, 1] changes none."""
    return 1.8 * task.uniform(number, channels, height, width).double() - 0.9


def holes(task: Task, number: int, height: int, width: int) -> Tensor:
    """Masks `(number, 1, height, width)` of which about half is missing, in each example another number of pixels."""
    def tells(mask: Tensor) -> bool:
        counts, pixels = mask.sum(dim=(1, 2, 3)).tolist(), height * width
        # not half, so that an inverted mask is seen in the number of its pixels
        return len(set(counts)) == number and all(0 < count < pixels and 2 * count != pixels for count in counts)

    return task.draw_until(lambda: task.uniform(number, 1, height, width) < 0.5, tells)
