"""Patches projected on principal components: those of the whole picture, or of a sliding window (non-local PCA)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from labkit.filtering.arrays import as_floats, like
from labkit.patches import add_patches, aggregate_patches, extract_patches
from labkit.validation import describe, validate_image, validate_integer, validate_number

__all__ = ["nonlocal_pca", "pca_filter", "project_patches"]

LARGEST_VALUE = 1e9         # whose square single precision holds
VALUES_AT_ONCE = 2 ** 23    # values of patches worked on together: 32 MB in single precision


def project_patches(patches: Tensor, *, threshold: float) -> Tensor:
    """Keep what is large in the basis of the patches' own principal components.

    >>> line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.1]])
    >>> labkit.filtering.project_patches(line, threshold=0.2).mul(100).round()
    tensor([[  1.,  -1.],
            [100., 103.],
            [201., 209.]])

    p̂ = p̄ + Σ_d ρ(⟨p − p̄, v_d⟩) v_d with p̄ the mean patch, v_d the eigenvectors of the patches' covariance and the
    hard threshold ρ(x) = x if |x| > τ, else 0.

    Parameters
    ----------
    patches : (number, D), or (groups, number, D) to treat each group by itself.
    threshold : τ, in intensity, at least 0.

    Returns
    -------
    Tensor of the shape, dtype and device of `patches`.

    Raises
    ------
    ValueError : no such tensor, or a negative threshold.

    References
    ----------
    Deledalle, Salmon, Dalalyan, "Image denoising with patch based PCA: local versus global", BMVC 2011. Lecture part
    I, "Non-Local PCA".
    """
    if not isinstance(patches, Tensor) or not patches.is_floating_point() or patches.ndim not in (2, 3) \
            or patches.numel() == 0:
        raise ValueError(f"patches is {describe(patches)}; expected a floating-point tensor (number, D) or "
                         "(groups, number, D)")
    if not bool((patches.detach().abs() <= LARGEST_VALUE).all()):       # not true of NaN either
        raise ValueError(f"patches is {describe(patches)} and holds NaN or values beyond {LARGEST_VALUE:g}; expected intensities")
    validate_number(threshold, name="threshold", minimum=0)
    working = as_floats(patches)
    mean = working.mean(dim=-2, keepdim=True)
    centred = working - mean
    covariance = centred.mT @ centred / centred.shape[-2]
    # LAPACK's single-precision routine fails on covariances of very low rank, as flat or two-valued windows have.
    basis = torch.linalg.eigh(covariance.double()).eigenvectors.to(working)
    coefficients = centred @ basis
    coefficients = torch.where(coefficients.abs() > threshold, coefficients, 0)
    return (mean + coefficients @ basis.mT).to(patches.dtype)


def pca_filter(image: Tensor, *, patch_size: int = 7, threshold: float) -> Tensor:
    """Denoise all patches of a picture in one common basis, then average them where they overlap.

    >>> labkit.filtering.pca_filter(torch.ones(1, 6, 8), patch_size=3, threshold=0.1).shape
    torch.Size([1, 6, 8])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1]; a batch is a picture after the other.
    patch_size : side of a patch, in pixels, at most the smaller side of the picture.
    threshold : coefficients up to it count as noise, in intensity; 2.75 times the standard deviation of the noise is
        a good start.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`. All C n² values of all patches are in memory at once.

    Raises
    ------
    ValueError : a patch that does not fit in the picture, or a negative threshold.

    References
    ----------
    Deledalle, Salmon, Dalalyan, BMVC 2011, "patch based global PCA". Lecture part I, "Non-Local PCA".
    """
    validate_image(image)
    validate_number(threshold, name="threshold", minimum=0)
    height, width = image.shape[-2:]
    patches = extract_patches(image, patch_size=patch_size)
    patches = project_patches(patches, threshold=threshold)
    return aggregate_patches(patches, height=height, width=width, patch_size=patch_size)


def nonlocal_pca(image: Tensor, *, sigma: float, patch_size: int = 7, window_size: int = 32,
                 threshold: float | None = None, stride: int | None = None) -> Tensor:
    """Denoise the patches of every search window in the basis of that window, then average all of them.

    >>> image = torch.full((1, 8, 8), 0.5)
    >>> labkit.filtering.nonlocal_pca(image, sigma=0.1, patch_size=3, window_size=6).shape
    torch.Size([1, 8, 8])

    In each window of the sliding grid: its patches are centred, rotated into their principal components, hard
    thresholded and rotated back (`project_patches`). A pixel becomes the mean of what all patches of all windows say
    of it.

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1].
    sigma : standard deviation of the noise, in intensity.
    patch_size : side of a patch, in pixels, at most the smaller side of the picture.
    window_size : side of the search window, in pixels, at least `patch_size`; it is cut to the picture's size.
    threshold : coefficients up to it count as noise, in intensity; `None` means √(2 ln D) sigma, which the largest of D
        normal numbers rarely exceeds: 2.79 sigma for the D = C n² = 49 values of a grey 7 × 7 patch.
    stride : distance between neighbouring windows, in pixels, at most `window_size`; `None` means a third of a window.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`. Besides a few arrays of that size, 200 MB are in use at most
    (more only if the patches of a single window are more than 8 million values).

    Raises
    ------
    ValueError : sizes that do not fit, or a negative `sigma` or `threshold`.

    References
    ----------
    Deledalle, Salmon, Dalalyan, "Image denoising with patch based PCA: local versus global", BMVC 2011, "patch based
    local PCA". Lecture part I, "Non-Local PCA".
    """
    validate_image(image)
    validate_number(sigma, name="sigma", minimum=0)
    validate_integer(patch_size, name="patch_size", minimum=1)
    validate_integer(window_size, name="window_size", minimum=patch_size)
    height, width = image.shape[-2:]
    if patch_size > min(height, width):
        raise ValueError(f"patch_size is {patch_size} and the image {height}×{width} pixels; expected a patch that "
                         "lies inside the image")
    values = image.shape[-3] * patch_size ** 2
    threshold = math.sqrt(2 * math.log(values)) * sigma if threshold is None else threshold
    stride = max(1, window_size // 3) if stride is None else stride
    validate_number(threshold, name="threshold", minimum=0)
    validate_integer(stride, name="stride", minimum=1, maximum=window_size)

    side = min(window_size, height, width)
    stride = min(stride, side)
    inside: dict[str, Any] = {"height": side, "width": side, "patch_size": patch_size}          # patches in a window
    band: dict[str, Any] = {"height": side, "width": width, "patch_size": side, "stride": stride, "cover": True}    # windows in a row
    batch = as_floats(image).reshape(-1, *image.shape[-3:])
    number = (side - patch_size + 1) ** 2
    once = batch.new_ones(1, number, patch_size ** 2)
    counted = add_patches(once, **inside).flatten(1)    # how many patches hold each pixel of a window
    total, count = torch.zeros_like(batch), torch.zeros_like(batch[:1, :1])
    for top in sorted({*range(0, height - side + 1, stride), height - side}):
        windows = extract_patches(batch[..., top:top + side, :], patch_size=side, stride=stride, cover=True)
        projected = []
        for some in windows.flatten(0, 1).split(max(1, VALUES_AT_ONCE // (number * values))):
            patches = extract_patches(some.unflatten(1, (-1, side, side)), patch_size=patch_size)
            projected.append(add_patches(project_patches(patches, threshold=threshold), **inside).flatten(1))
        total[..., top:top + side, :] += add_patches(torch.cat(projected).view_as(windows), **band)
        count[..., top:top + side, :] += add_patches(counted.expand(windows.shape[1], -1), **band)
    return like(total / count, image)
