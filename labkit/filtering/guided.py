"""The guided filter: local linear regression of a picture on another one, or on itself."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.filtering.bilateral import validate_guide
from labkit.filtering.arrays import as_batch, like, runs_kernel
from labkit.filtering.linear import box_mean
from labkit.kernels import run
from labkit.validation import LARGEST_INTEGER, validate_choice, validate_image, validate_integer, validate_number

__all__ = ["guided_filter"]

# Second moments in float64 are known to about 1e-12; a window of less variance than this is flat.
_SMALLEST_EPS = 1e-9


def guided_filter(image: Tensor, *, guide: Tensor | None = None, radius: int, eps: float,
                  method: str = "kernel") -> Tensor:
    """Edge-preserving smoothing by local linear regression on a guide.

    >>> edge = torch.tensor([0.0, 0.1, 0.0, 1.0, 0.9, 1.0]).expand(1, 6, 6)
    >>> labkit.filtering.guided_filter(edge, radius=1, eps=0.01)[0, 0].mul(100).round().int().tolist()
    [3, 7, 2, 98, 93, 97]

    In every window the output is `a · guide + b`, with the least-squares `a`, `b` of that window (ridge term `eps`),
    averaged over the windows that contain a pixel. Windows contain only pixels of the picture. Cost does not depend on
    `radius`.

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1].
    guide : same height and width (and batch), 1 or 3 channels; `None` means the image guides itself.
    radius : half-width of the square window, in pixels, at least 1.
    eps : variance below which a window counts as flat, in squared intensity; 1e-4 keeps faint edges, 1e-1 few.
        Below 1e-9, which no 8-bit picture can tell from 0, it counts as 1e-9.
    method : `"kernel"` for compiled code, `"reference"` for torch. An image that requires a gradient takes the latter.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`.

    Raises
    ------
    ValueError : when sizes differ, the guide has other than 1 or 3 channels, `radius` < 1 or `eps` < 0.

    Notes
    -----
    A colour guide takes its full 3 × 3 covariance, so an edge between colours of equal brightness stays.

    References
    ----------
    He, Sun, Tang, "Guided Image Filtering", ECCV 2010. Lecture part I, "Guided Filtering".
    """
    validate_image(image)
    if guide is None:
        validate_image(image, name="image, which guides itself,", channels=(1, 3))
        guide = image
    else:
        validate_guide(image, guide, channels=(1, 3))
    validate_integer(radius, name="radius", minimum=1, largest=LARGEST_INTEGER)
    validate_number(eps, name="eps", minimum=0)
    validate_choice(method, name="method", choices=("kernel", "reference"))
    eps = max(float(eps), _SMALLEST_EPS)
    radius = min(radius, max(image.shape[-2:]))               # a larger window holds the whole picture too
    if method == "kernel" and runs_kernel(image, guide):
        batch, guide = as_batch(image), as_batch(guide)
        out = torch.empty_like(batch)
        coefficients = batch.new_empty(batch.shape[1] * (guide.shape[1] + 1), *batch.shape[2:])
        run("filtering", "guided", batch, guide, coefficients, out, radius, eps)
        return like(out, image)
    return like(_regression(image.double(), guide.double(), radius, eps), image)


def _regression(image: Tensor, guide: Tensor, radius: int, eps: float) -> Tensor:
    """Equations 5, 6 and 8 of the paper; float64, since a covariance is a small difference of large moments."""
    def mean(values: Tensor) -> Tensor:
        return box_mean(values.flatten(0, -3), radius, "normalized").reshape(values.shape)

    def covariance(first: Tensor, second: Tensor) -> Tensor:
        """(..., F, H, W) and (..., S, H, W) to (..., H, W, F, S)."""
        products = first.unsqueeze(-3) * second.unsqueeze(-4)
        return (mean(products) - mean(first).unsqueeze(-3) * mean(second).unsqueeze(-4)).movedim((-4, -3), (-2, -1))

    variance = covariance(guide, guide) + eps * torch.eye(guide.shape[-3], dtype=guide.dtype, device=guide.device)
    a = torch.linalg.solve(variance, covariance(guide, image)).movedim((-2, -1), (-4, -3))
    b = mean(image) - (a * mean(guide).unsqueeze(-3)).sum(-4)
    return (mean(a) * guide.unsqueeze(-3)).sum(-4) + mean(b)
