"""Filters that weigh neighbours by place and by colour: bilateral, cross-bilateral, rolling guidance."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from labkit.filtering.arrays import as_batch, as_floats, like, runs_kernel
from labkit.filtering.linear import gaussian_filter
from labkit.kernels import run
from labkit.validation import (
    LARGEST_INTEGER,
    describe,
    validate_choice,
    validate_image,
    validate_integer,
    validate_number,
    validate_same_size,
)

__all__ = ["bilateral_filter", "cross_bilateral_filter", "rolling_guidance_filter", "validate_guide"]


def bilateral_filter(image: Tensor, *, sigma_space: float, sigma_color: float, radius: int | None = None,
                     method: str = "kernel") -> Tensor:
    """Edge-preserving smoothing: a mean of the neighbours that are both near and of like colour.

    >>> edge = torch.tensor([0.0, 0.1, 0.0, 1.0, 0.9, 1.0]).expand(1, 6, 6)
    >>> labkit.filtering.bilateral_filter(edge, sigma_space=2.0, sigma_color=0.1)[0, 0].mul(100).round().int().tolist()
    [2, 5, 2, 98, 95, 98]

        û(x) = 1 / C(x) Σ_y u(y) exp(-|x - y|² / (2 σ²)) exp(-|u(x) - u(y)|² / (2 h²))

    with C(x) the sum of the weights, over the pixels y of a square window that lie inside the picture.

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1], any number of channels, filtered together: the colour
        distance is the Euclidean one over all of them.
    sigma_space : σ, in pixels, above 0.
    sigma_color : h, in intensity, above 0; below the contrast of the edges to keep, above that of the noise.
    radius : half-width of the window; `None` takes 3 σ rounded up, where a neighbour's weight has fallen to 0.01.
    method : `"kernel"` for compiled code, `"reference"` for torch. An image that requires a gradient takes the latter.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`.

    Raises
    ------
    ValueError : the image is none, a sigma is not above 0, `radius` < 1, or `method` is unknown.

    Notes
    -----
    Costs (2 radius + 1)² weights per pixel. OpenCV measures colour by ℓ1 and sums over a disc, which differs.

    References
    ----------
    Tomasi, Manduchi, "Bilateral Filtering for Gray and Color Images", ICCV 1998. Lecture part I, "Bilateral Filter".
    """
    return cross_bilateral_filter(image, guide=image, sigma_space=sigma_space, sigma_color=sigma_color, radius=radius,
                                  method=method)


def cross_bilateral_filter(image: Tensor, *, guide: Tensor, sigma_space: float, sigma_color: float,
                           radius: int | None = None, method: str = "kernel") -> Tensor:
    """The bilateral filter with its colour weights from another picture, v, of the same scene.

    >>> noisy, guide = torch.tensor([[0.0, 0.4, 0.6, 1.0], [0.0, 0.0, 1.0, 1.0]]).reshape(2, 1, 1, 4).expand(2, 1, 4, 4)
    >>> labkit.filtering.cross_bilateral_filter(noisy, guide=guide, sigma_space=9.0, sigma_color=0.1)[0, 0].mul(100).round().int().tolist()
    [20, 20, 80, 80]

        û(x) = 1 / C(x) Σ_y u(y) exp(-|x - y|² / (2 σ²)) exp(-|v(x) - v(y)|² / (2 h²))

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1], such as a noisy photograph without flash.
    guide : the same height and width (and batch), any number of channels, such as the photograph with flash.
    sigma_space, sigma_color, radius, method : as in `bilateral_filter`; sigma_color applies to the guide.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`.

    Raises
    ------
    ValueError : as `bilateral_filter`, or image and guide differ in size, batch, dtype or device.

    References
    ----------
    Eisemann, Durand, "Flash Photography Enhancement via Intrinsic Relighting", SIGGRAPH 2004.
    Petschnigg et al., "Digital Photography with Flash and No-Flash Image Pairs", SIGGRAPH 2004.
    Lecture part I, "Cross-Bilateral Filter".
    """
    validate_image(image)
    if guide is not image:
        validate_guide(image, guide)
    radius = _validated_radius(sigma_space, sigma_color, radius)
    validate_choice(method, name="method", choices=("kernel", "reference"))
    radius = min(radius, max(image.shape[-2:]))               # a larger window holds the whole picture too
    sigma_space, sigma_color = (min(max(float(sigma), 1e-30), 1e30) for sigma in (sigma_space, sigma_color))
    if method == "kernel" and runs_kernel(image, guide):
        batch = as_batch(image)
        out = torch.empty_like(batch)
        run("filtering", "bilateral", batch, as_batch(guide), out, radius, sigma_space, sigma_color)
        return like(out, image)
    return like(_weighted_mean(as_floats(image), as_floats(guide), radius, sigma_space, sigma_color), image)


def rolling_guidance_filter(image: Tensor, *, sigma_space: float, sigma_color: float, iterations: int = 4,
                            radius: int | None = None, method: str = "kernel") -> Tensor:
    """Takes away texture and brings edges back: the original, filtered again and again, guided by the last result.

    >>> stripes = torch.tensor([0.0, 0.2, 0, 0.2, 0, 1, 0.8, 1, 0.8, 1]).expand(1, 10, 10)
    >>> labkit.filtering.rolling_guidance_filter(stripes, sigma_space=1.0, sigma_color=0.1)[0, 5].mul(100).round().int().tolist()
    [7, 10, 10, 10, 6, 94, 90, 90, 90, 93]

        u_{k+1}(x) = 1 / C(x) Σ_y u(y) exp(-|x - y|² / (2 σ²)) exp(-|u_k(x) - u_k(y)|² / (2 h²))

    starting from a constant u_0, so that u_1 is a Gaussian filter: it removes every structure smaller than σ, and the
    following steps sharpen what it left. Iterating the bilateral filter itself, with u_k also in place of u(y), would
    smooth more each time and keep the texture's contrast.

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1].
    sigma_space : σ, in pixels, above 0: the size below which structure goes.
    sigma_color : h, in intensity, above 0.
    iterations : how many u_k to compute, at least 1; it hardly changes after four.
    radius, method : as in `bilateral_filter`.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`.

    Raises
    ------
    ValueError : as `bilateral_filter`, or `iterations` < 1.

    References
    ----------
    Zhang, Shen, Xu, Jia, "Rolling Guidance Filter", ECCV 2014. Lecture part I, "Iterative Filtering".
    """
    validate_image(image)
    validate_integer(iterations, name="iterations", minimum=1)
    radius = _validated_radius(sigma_space, sigma_color, radius)
    validate_choice(method, name="method", choices=("kernel", "reference"))
    radius = min(radius, max(image.shape[-2:]))               # a larger window holds the whole picture too
    result = gaussian_filter(image, sigma=sigma_space, radius=radius, border="normalized",
                             method="separable" if method == "kernel" else "reference")
    for _ in range(iterations - 1):
        result = cross_bilateral_filter(image, guide=result, sigma_space=sigma_space, sigma_color=sigma_color,
                                        radius=radius, method=method)
    return result


def validate_guide(image: Tensor, guide: Tensor, channels: tuple[int, ...] | None = None) -> None:
    """Refuse a guide that does not lie over the image pixel by pixel, in the same dtype and on the same device."""
    validate_image(guide, name="guide", channels=channels)
    validate_same_size(image, guide)
    if guide.shape[:-3] != image.shape[:-3]:
        raise ValueError(f"guide is {describe(guide)} and image is {describe(image)}; expected both to be single "
                         "images or batches of the same length")
    if guide.dtype != image.dtype or guide.device != image.device:
        raise ValueError(f"guide is {guide.dtype} on {guide.device} and image is {image.dtype} on {image.device}; "
                         "expected the same dtype and device")


def _validated_radius(sigma_space: float, sigma_color: float, radius: int | None) -> int:
    validate_number(sigma_space, name="sigma_space", above=0)
    validate_number(sigma_color, name="sigma_color", above=0)
    if radius is None:
        return math.ceil(3 * sigma_space)
    validate_integer(radius, name="radius", minimum=1, largest=LARGEST_INTEGER)
    return radius


def _weighted_mean(image: Tensor, guide: Tensor, radius: int, sigma_space: float, sigma_color: float) -> Tensor:
    """The equation: Σ_y w(x, y) u(y) / C(x)."""
    total, norm = _WeightedSums.apply(image, guide, radius, sigma_space, sigma_color)
    return total / norm


class _WeightedSums(torch.autograd.Function):
    """Σ_y w(x, y) u(y) and C(x) = Σ_y w(x, y), offset by offset: no array is larger than the image.

    Left to itself, autograd would keep the weights of all offsets; the way back computes them again instead.
    """

    @staticmethod
    def forward(ctx, image: Tensor, guide: Tensor, radius: int, sigma_space: float, sigma_color: float):
        ctx.save_for_backward(image, guide)
        ctx.parameters = radius, sigma_space, sigma_color
        total, norm = torch.zeros_like(image), torch.zeros_like(image[..., :1, :, :])
        for here, there, space in _offsets(image, radius, sigma_space):
            term, weight = _neighbour(image[there], guide[here], guide[there], space, sigma_color)
            total[here] += term
            norm[here] += weight
        return total, norm

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, to_total: Tensor, to_norm: Tensor):
        image, guide = ctx.saved_tensors
        radius, sigma_space, sigma_color = ctx.parameters
        to_image, to_guide = torch.zeros_like(image), torch.zeros_like(guide)
        for here, there, space in _offsets(image, radius, sigma_space):
            parts = [part.detach().requires_grad_() for part in (image[there], guide[here], guide[there])]
            with torch.enable_grad():
                sums = _neighbour(*parts, space, sigma_color)
            back = torch.autograd.grad(sums, parts, (to_total[here], to_norm[here]))
            to_image[there] += back[0]
            to_guide[here] += back[1]
            to_guide[there] += back[2]
        return to_image, to_guide, None, None, None


def _offsets(image: Tensor, radius: int, sigma_space: float) -> Iterator[tuple[tuple, tuple, float]]:
    """For each offset of the window: the pixels x, their neighbours y inside the picture, |x - y|² / (2 σ²)."""
    height, width = image.shape[-2:]
    for dy in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            here = (..., slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
            there = (..., slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
            yield here, there, ((dy / sigma_space) ** 2 + (dx / sigma_space) ** 2) / 2


def _neighbour(image_there: Tensor, guide_here: Tensor, guide_there: Tensor, space: float,
               sigma_color: float) -> tuple[Tensor, Tensor]:
    distance = ((guide_here - guide_there) / sigma_color).square().sum(-3, keepdim=True)
    weight = torch.exp(-space - distance / 2)
    return weight * image_there, weight
