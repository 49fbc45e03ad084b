"""Optimal transport between two finite sets of points, each of which counts as much as any other of its set."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.validation import describe, validate_integer

__all__ = ["semi_dual_ascent"]


def semi_dual_ascent(cost: Tensor, *, steps: int, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Gradient ascent of the semi-dual of optimal transport, mean_p min_q (c(p, q) − β_q) + mean_q β_q, in β.

    Its derivative by β_q is 1/m less the share of the p that choose q, m the number of the q.

    >>> cost = torch.tensor([[0.0, 1.0], [0.0, 1.0]])       # both are nearest to the first, which takes only one
    >>> beta, value = labkit.transport.semi_dual_ascent(cost, steps=200)
    >>> value.round(decimals=2)
    tensor(0.5000)

    Parameters
    ----------
    cost : (n, m), the c(p, q).
    steps : how many; their length falls linearly to 0, as the ascent of a function with kinks needs.
    start : β to begin with, (m,); `None` begins with 0.

    Returns
    -------
    The new β, and the largest value that was met: a lower bound of the transport cost.

    Raises
    ------
    ValueError : no costs, no step, or a β of another size.
    """
    if (
        not isinstance(cost, Tensor)
        or cost.ndim != 2
        or not cost.is_floating_point()
        or cost.numel() == 0
        or not torch.isfinite(cost).all()
    ):
        raise ValueError(f"cost is {describe(cost)}; expected a finite floating-point tensor (n, m)")
    number, targets = cost.shape
    validate_integer(steps, name="steps", minimum=1)
    if start is not None and (
        not isinstance(start, Tensor) or start.shape != (targets,) or not torch.isfinite(start).all()
    ):
        raise ValueError(
            f"start is {describe(start)}; expected a finite tensor ({targets},), one β for each column of cost"
        )
    beta = cost.new_zeros(targets) if start is None else start
    best, reduced, longest = cost.new_full((), -torch.inf), torch.empty_like(cost), 0.01 * cost.mean()
    for step in range(steps):
        smallest, chosen = torch.sub(cost, beta, out=reduced).min(dim=1)
        best = torch.maximum(best, smallest.mean() + beta.mean())
        # times m, the gradient is of order one whatever the number of patches
        ascent = 1 - torch.bincount(chosen, minlength=targets) * (targets / number)
        beta = beta + (1 - step / steps) * longest * ascent
    return beta, best
