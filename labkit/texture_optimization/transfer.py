"""Style transfer by patches: a picture in which every patch is one of the style's and the content stays recognisable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labkit.texture_optimization.energy import optimize_texture
from labkit.texture_optimization.synthesis import Synthesis
from labkit.validation import describe, validate_image, validate_number


def transfer_style_by_patches(content: Tensor, style: Tensor, *, patch_sizes: Sequence[int] = (21, 13, 9), levels: int = 3,
                              stride: int = 4, r: float = 0.8, content_weight: float = 0.15, match_colors: bool = True,
                              iterations: int = 5, seed: int = 0, trace: bool = False) -> Synthesis:
    """Lower Σ ‖p_u(x) − p_s(f(x))‖^r + w ‖u − c‖² in the picture u and the matches f, s the style and c the content.

    Parameters
    ----------
    content, style : (C, H, W), (C, h, w) in [0, 1].
    patch_sizes, levels, stride, r, iterations, seed, trace : as in `optimize_texture`; `r` is not 1.
    content_weight : w, at least 0; 0 forgets the content but for its layout at the coarsest scale, 1 keeps half of it.
    match_colors : give the content the style's colours first (equal mean and covariance), so that only forms are fought over.

    Returns
    -------
    Synthesis of the content's size.

    Raises
    ------
    ValueError : as `optimize_texture`, or the numbers of channels differ.

    References
    ----------
    Elad, Milanfar, "Style Transfer via Texture Synthesis", IEEE Trans. Image Processing 2017; without its segmentation and
    its denoising step. Lecture part I, "Style Transfer with texture optimization".
    """
    validate_image(content, name="content", batch=False)
    validate_image(style, name="style", batch=False)
    validate_number(content_weight, name="content_weight", minimum=0)
    if content.shape[0] != style.shape[0]:
        raise ValueError(f"content is {describe(content)} and style {describe(style)}; expected as many channels")
    aim = colors_matched(content, style) if match_colors else content
    return optimize_texture(style, size=tuple(content.shape[-2:]), patch_sizes=patch_sizes, levels=levels, stride=stride, r=r,
                            start=aim, fidelity=(aim, content_weight), iterations=iterations, seed=seed, trace=trace)


def colors_matched(image: Tensor, reference: Tensor) -> Tensor:
    """The image with the mean and covariance of the reference's colours, by the optimal map between their Gaussians.

    Parameters
    ----------
    image, reference : (C, H, W), (C, h, w).

    Returns
    -------
    Tensor of the image's shape, dtype and device, clipped to [0, 1].

    References
    ----------
    Pitié, Kokaram, "The linear Monge–Kantorovitch linear colour mapping", CVMP 2007.
    """
    validate_image(image, batch=False)
    validate_image(reference, name="reference", batch=False)
    pixels, others = (one.double().flatten(1) for one in (image, reference))
    mean, other_mean = pixels.mean(1, keepdim=True), others.mean(1, keepdim=True)
    eye = 1e-6 * torch.eye(len(pixels), dtype=torch.float64, device=pixels.device)     # for colours that do not vary
    covariance = (pixels - mean) @ (pixels - mean).T / pixels.shape[1] + eye
    wanted = (others - other_mean) @ (others - other_mean).T / others.shape[1] + eye
    root = _root(covariance)
    inverse = torch.linalg.inv(root)
    transport = inverse @ _root(root @ wanted @ root) @ inverse
    return (transport @ (pixels - mean) + other_mean).clamp(0, 1).reshape(image.shape).to(image)


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
