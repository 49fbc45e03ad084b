"""Non-local means: a pixel becomes the mean of the pixels around it whose patches look like its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import kernels
from labkit.images import pad
from labkit.validation import validate_choice, validate_image, validate_integer, validate_number


def nonlocal_means(image: Tensor, *, patch_size: int = 5, window_size: int = 21, h: float, sigma: float = 0.0,
                   method: str = "kernel") -> Tensor:
    """Denoise by averaging pixels with similar patches.

    û(x) = Σ_y w(x, y) u(y) / Σ_y w(x, y) over the pixels y of the search window that lie inside the picture, with
    w(x, y) = exp(−max(d² − 2σ², 0) / h²) and d² the mean over the patch *and the channels* of the squared difference
    between the patches around x and y. Two noisy copies of one patch are 2σ² apart: that much counts for nothing.
    With one-pixel patches this is a bilateral filter without its spatial weight.

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1]; patches near the border continue by reflection.
    patch_size : side n of a patch, in pixels, odd.
    window_size : side of the search window, in pixels, odd, at least `patch_size`; the window may exceed the picture.
    h : how fast the weight falls with distance, in intensity, above 0. See Notes.
    sigma : standard deviation of the noise, in intensity; 0 leaves the distances as they are.
    method : `"kernel"` (compiled) or `"reference"` (torch, differentiable). An image that requires a gradient always
        takes the reference, whose graph holds a few arrays of the picture's size for every pixel of the window.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`.

    Raises
    ------
    ValueError : an even or too small size, a window smaller than the patch, `h` not above 0, `sigma` below 0.

    Notes
    -----
    RULE OF THUMB
    The noise falls by at most the square root of the number of pixels in the window. Cost grows as window² · 2 n.

    References
    ----------
    Buades, Coll, Morel, "A non-local algorithm for image denoising", CVPR 2005, and "Non-Local Means Denoising",
    IPOL 2011, from which the weight is; its patchwise average is not done here. Lecture part I, "Non-Local means",
    writes 2ε² for n² C h² and σ = 0.
    """
    validate_image(image)
    validate_integer(patch_size, name="patch_size", minimum=1, odd=True)
    validate_integer(window_size, name="window_size", minimum=1, odd=True)
    if window_size < patch_size:
        raise ValueError(f"window_size is {window_size} and patch_size {patch_size}; expected a window at least as "
                         "large as the patch")
    validate_number(h, name="h", above=0)
    validate_number(sigma, name="sigma", minimum=0)
    validate_choice(method, name="method", choices=("kernel", "reference"))
    batch = image if image.ndim == 4 else image[None]
    batch = batch if batch.dtype == torch.float64 else batch.float()
    padded = pad(batch, amount=patch_size // 2, border="reflect")
    if method == "reference" or (torch.is_grad_enabled() and image.requires_grad):
        result = _reference(batch, padded, patch_size, window_size // 2, h, sigma)
    else:
        result = torch.empty_like(batch, memory_format=torch.contiguous_format)
        kernels.run("nonlocal", "nonlocal_means", padded.contiguous(), result, patch_size, window_size, h, sigma)
    return result.to(image.dtype).reshape(image.shape)


def _reference(batch: Tensor, padded: Tensor, patch_size: int, reach: int, h: float, sigma: float) -> Tensor:
    """One offset of the window after the other, for all pixels at once."""
    height, width = batch.shape[-2:]
    numerator = torch.zeros_like(batch)
    denominator = torch.zeros_like(batch[:, :1])
    for dy in range(max(-reach, 1 - height), min(reach, height - 1) + 1):
        for dx in range(max(-reach, 1 - width), min(reach, width - 1) + 1):
            # the pixels x that have x + (dy, dx) inside the picture, those neighbours, and the patches of both
            here, there = _overlap(batch, dy, dx), _overlap(batch, -dy, -dx)
            difference = padded[here_patches(...)]
    return numerator / denominator
