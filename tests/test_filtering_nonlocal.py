"""Non-local means, patch PCA, the patch auto-encoder, attention, and the weights of all filters."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import images
from labkit.filtering import attention, autoencoder
from labkit.filtering.attention import dot_product_attention, nonlocal_attention
from labkit.filtering.autoencoder import PatchAutoencoder
from labkit.filtering.bilateral import bilateral_filter, cross_bilateral_filter, rolling_guidance_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import box_filter, gaussian_filter
from labkit.filtering.nonlocal_means import nonlocal_means
from labkit.filtering.nonlocal_pca import nonlocal_pca, pca_filter, project_patches
from labkit.filtering.weights import weights_at
from labkit.kernels import run
from labkit.patches import extract_patches
from labkit.runtime import generator

SIGMA = 25 / 255


def random_image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return -10 * math.log10(float((first - second).square().mean()))


def noisy_photograph(name: str, size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    clean = images.load(name)
    if size is not None:
        clean = images.crop(clean, row=100, column=180, height=size, width=size)
    return clean, images.add_gaussian_noise(clean, sigma=SIGMA, seed=1)


# --- non-local means ------------------------------------------------------------------------------------------------

def nonlocal_means_by_definition(image: np.ndarray, n: int, window: int, h: float, sigma: float) -> np.ndarray:
    """Pixel by pixel, in double precision."""
    r, s = n // 2, window // 2
    padded = np.pad(image, ((0, 0), (r, r), (r, r)), mode="reflect")
    out = np.empty_like(image)
    _, height, width = image.shape
    for y, x in np.ndindex(height, width):
        total, norm = 0.0, 0.0
        for v in range(max(0, y - s), min(height, y + s + 1)):
            for u in range(max(0, x - s), min(width, x + s + 1)):
                d2 = np.mean((padded[:, y:y + n, x:x + n] - padded[:, v:v + n, u:u + n]) ** 2)
                weight = math.exp(-max(d2 - 2 * sigma ** 2, 0) / h ** 2)
                total, norm = total + weight * image[:, v, u], norm + weight
        out[:, y, x] = total / norm
    return out


@pytest.mark.parametrize("method", ["kernel", "reference"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_nonlocal_means_is_its_definition(method, channels):
    image = random_image(channels, 9, 8, dtype=torch.float64)
    expected = nonlocal_means_by_definition(image.numpy(), n=3, window=7, h=0.3, sigma=0.1)
    result = nonlocal_means(image, patch_size=3, window_size=7, h=0.3, sigma=0.1, method=method)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("channels, patch_size, window_size", [(1, 1, 5), (3, 5, 11), (3, 7, 7), (4, 3, 9), (1, 9, 13)])
def test_kernel_agrees_with_reference_across_tiles(dtype, tolerance, channels, patch_size, window_size):
    image = random_image(channels, 37, 263, dtype=dtype)    # two rows and two columns of tiles
    options = {"patch_size": patch_size, "window_size": window_size, "h": 0.2, "sigma": 0.15}
    difference = nonlocal_means(image, **options) - nonlocal_means(image, method="reference", **options)
    assert difference.abs().max() < tolerance


def test_one_pixel_patches_make_a_bilateral_filter_without_place():
    image = random_image(3, 20, 21, dtype=torch.float64)
    h = 0.3
    # the bilateral filter divides the sum over channels by 2 sigma_color², this one the mean by h²
    expected = bilateral_filter(image, sigma_space=1e9, sigma_color=h * math.sqrt(3 / 2), radius=3)
    assert (nonlocal_means(image, patch_size=1, window_size=7, h=h) - expected).abs().max() < 1e-12


def test_agrees_with_scikit_image_up_to_what_its_exact_mode_does_differently():
    # Exact mode weighs the pixels of a patch by a Gaussian, takes weights below exp(-5) for 0 and uses an exponential
    # that is 4 % wrong. At a third of the noise removed, that leaves both within 1/100 of the range.
    from skimage.restoration import denoise_nl_means

    clean, noisy = noisy_photograph("astronaut", 64)
    ours = nonlocal_means(noisy, patch_size=5, window_size=11, h=0.8 * SIGMA, sigma=SIGMA)
    theirs = denoise_nl_means(noisy.permute(1, 2, 0).numpy(), patch_size=5, patch_distance=5, h=0.8 * SIGMA, sigma=SIGMA,
                              fast_mode=False, channel_axis=-1)
    assert psnr(ours, torch.from_numpy(theirs).permute(2, 0, 1)) > 40
