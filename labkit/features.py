"""Descriptors that need no training and no download: random filters at several scales.

An untrained convolution followed by a rectifier tells textures apart about as well as trained ones do (Ustyuzhaninov,
Brendel, Gatys, Bethge, "What does it take to generate natural textures?", ICLR 2017; He, Wang, Hopcroft, NeurIPS 2016).
A number measured on such features names them, and is no LPIPS, FID or SIFID.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.pyramids import coarse_size, downsample
from labkit.runtime import generator
from labkit.validation import validate_image, validate_integer

__all__ = ["random_features"]


def __dir__() -> list[str]:
    return __all__


def random_features(image: Tensor, *, levels: int = 3, filters: int = 32, patch_size: int = 7, seed: int = 0) -> list[Tensor]:
    """Responses of random filters, rectified, on a pyramid of the image.

    >>> image = torch.rand(3, 32, 32, generator=labkit.runtime.generator(0))
    >>> [tuple(level.shape) for level in labkit.features.random_features(image, levels=2, filters=8)]
    [(8, 26, 26), (8, 10, 10)]

    Parameters
    ----------
    image : (C, H, W).
    levels : of the pyramid, each half the size of the one before; those too small for a filter are left out.
    filters : how many, at every level the same.
    patch_size : side of a filter in pixels.
    seed : of the filters' weights, standard normal, each filter with mean 0 and norm 1 (but the first `C`, which are the
        means of the channels over the window).

    Returns
    -------
    List of tensors (filters, H_l, W_l), fine to coarse, one value for every whole window.

    Raises
    ------
    ValueError : a filter does not fit in the image, or there are fewer filters than channels.
    """
    validate_image(image, batch=False)
    validate_integer(levels, name="levels", minimum=1)
    validate_integer(patch_size, name="patch_size", minimum=1, maximum=min(image.shape[-2:]))
    channels = image.shape[0]
    validate_integer(filters, name="filters", minimum=channels)
    weights = torch.randn(filters, channels, patch_size, patch_size, generator=generator(seed), dtype=torch.float64)
    if patch_size > 1:
        weights = weights - weights.mean((-2, -1), keepdim=True)
    weights = weights / weights.flatten(1).norm(dim=1)[:, None, None, None]
    weights[:channels] = torch.eye(channels, dtype=torch.float64)[:, :, None, None] / patch_size ** 2
    working = image if image.dtype == torch.float64 else image.float()
    weights, found = weights.to(working), []
    for _ in range(levels):
        found.append(F.relu(F.conv2d(working[None], weights)[0]).to(image.dtype))
        if min(coarse_size(*working.shape[-2:], ratio=2)) < patch_size:
            break
        working = downsample(working, ratio=2)
    return found
