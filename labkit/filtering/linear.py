"""Filters that weigh neighbours by place alone (Gaussian, box), and filters by rank (median, morphology)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.filtering.arrays import as_batch, as_floats, like, runs_kernel
from labkit.images import pad
from labkit.kernels import run
from labkit.operators import FARTHEST, continued, convolution_matrix
from labkit.validation import BORDERS, LARGEST_INTEGER, validate_choice, validate_image, validate_integer, validate_number

__all__ = ["box_filter", "box_mean", "close", "difference_of_gaussians", "dilate", "erode", "gaussian_filter",
           "gaussian_kernel", "median_filter", "open"]


# --- Gaussian -------------------------------------------------------------------------------------------------------

def gaussian_kernel(sigma: float, radius: int) -> Tensor:
    """The 2 radius + 1 weights of a one-dimensional Gaussian, float64, divided by their sum.

    >>> [round(weight, 3) for weight in labkit.filtering.gaussian_kernel(1.0, 2).tolist()]
    [0.054, 0.244, 0.403, 0.244, 0.054]

    Parameters
    ----------
    sigma : standard deviation in pixels, at least 0; with 0 the centre has all the weight.
    radius : half-width in pixels, at least 0.

    Raises
    ------
    ValueError : `sigma` or `radius` is negative or not a number.
    """
    validate_number(sigma, name="sigma", minimum=0)
    validate_integer(radius, name="radius", minimum=0)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    if sigma == 0:
        return (offset == 0).double()
    weights = torch.exp(-(offset / sigma) ** 2 / 2)
    return weights / weights.sum()


def gaussian_filter(image: Tensor, *, sigma: float, radius: int | None = None, border: str = "reflect",
                    method: str = "separable") -> Tensor:
    """Mean of the neighbours, weighted by exp(-|x - y|² / (2 sigma²)).

    >>> point = torch.zeros(1, 3, 3)
    >>> point[0, 1, 1] = 1
    >>> labkit.filtering.gaussian_filter(point, sigma=0.5, radius=1).mul(100).round()
    tensor([[[ 5., 17.,  5.],
             [17., 62., 17.],
             [ 5., 17.,  5.]]])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1]; channels are filtered one by one.
    sigma : standard deviation in pixels, at least 0; 0 gives the image back.
    radius : half-width of the square window; `None` takes 4 sigma rounded up, beyond which lies 1e-4 of the weight,
        less than half a grey level of 256. It may exceed the picture; beyond 65536 pixels it grows no more.
    border : what stands outside the picture. `"reflect"` mirrors it at the edge pixel (Neumann), `"zero"` is
        Dirichlet's condition, `"periodic"` wraps around, `"replicate"` repeats the edge. With `"normalized"` only
        pixels of the picture count, and the lecture's C(x), the sum of their weights, depends on x.
    method : four ways to the same result up to rounding. `"separable"` filters columns, then rows, compiled;
        `"reference"` does so in torch; `"direct"` sums over the whole square; `"fourier"` multiplies spectra.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`.

    Raises
    ------
    ValueError : the image is none, `sigma` or `radius` is negative, or `border` or `method` is unknown.

    Notes
    -----
    With n pixels, `"direct"` costs n (2 radius + 1)², `"separable"` 2 n (2 radius + 1), `"fourier"` n log n.

    References
    ----------
    Lecture part I, "Gaussian Filter".
    """
    validate_image(image)
    validate_number(sigma, name="sigma", minimum=0)
    validate_choice(border, name="border", choices=BORDERS)
    validate_choice(method, name="method", choices=("separable", "reference", "direct", "fourier"))
    if radius is not None:
        validate_integer(radius, name="radius", minimum=0, largest=LARGEST_INTEGER)
    if sigma == 0:
        return image.clone()
    weights = gaussian_kernel(sigma, min(math.ceil(4 * sigma) if radius is None else radius, FARTHEST))
    if len(weights) // 2 > max(image.shape[-2:]):
        return like(_with_border(_convolve_folded, as_floats(image), weights, border), image)
    if method == "separable" and runs_kernel(image):
        batch = as_batch(image)
        out = torch.empty_like(batch)
        height, width = image.shape[-2:]
        rows, row_gain = _continued(height, weights, border)
        columns, column_gain = _continued(width, weights, border)
        run("filtering", "gaussian", batch, out, weights.to(batch), rows.to(batch.device),
            columns.to(batch.device), row_gain.to(batch), column_gain.to(batch))
        return like(out, image)
    convolve = {"direct": _convolve_direct, "fourier": _convolve_fourier}.get(method, _convolve_separable)
    return like(_with_border(convolve, as_floats(image), weights, border), image)


def difference_of_gaussians(image: Tensor, *, sigma: float, ratio: float = 1.6, radius: int | None = None,
                            border: str = "reflect", method: str = "separable") -> Tensor:
    """`image` smoothed by `sigma` minus `image` smoothed by `ratio * sigma`: a band of scales, with either sign.

    >>> edge = torch.tensor([0.0, 0, 0, 1, 1, 1]).expand(1, 6, 6)
    >>> labkit.filtering.difference_of_gaussians(edge, sigma=0.5)[0, 0].mul(100).round().int().tolist()
    [0, -2, -14, 14, 2, 0]

    Its zero crossings outline edges, as a model of what the retina sends on.

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1].
    sigma : standard deviation of the narrower Gaussian, in pixels, at least 0.
    ratio : of the wider to the narrower, above 1; 1.6 comes closest to the Laplacian of a Gaussian.
    radius, border, method : as in `gaussian_filter`; a given `radius` holds for both.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`, with values in [-1, 1].

    Raises
    ------
    ValueError : as `gaussian_filter`, or `ratio` is not above 1.

    References
    ----------
    Marr, Hildreth, "Theory of Edge Detection", 1980. Lecture part I, "Difference of Gaussian".
    """
    validate_number(sigma, name="sigma", minimum=0)
    validate_number(ratio, name="ratio", above=1)
    narrow = gaussian_filter(image, sigma=sigma, radius=radius, border=border, method=method)
    return narrow - gaussian_filter(image, sigma=ratio * sigma, radius=radius, border=border, method=method)


def _with_border(convolve: Callable[[Tensor, Tensor, str], Tensor], image: Tensor, weights: Tensor,
                 border: str) -> Tensor:
    """Where only pixels of the picture count, C(x) is the same convolution of the constant 1."""
    if border != "normalized":
        return convolve(image, weights, border)
    inside = torch.ones_like(image[..., :1, :, :])
    return convolve(image, weights, "zero") / convolve(inside, weights, "zero")


def _convolve_separable(image: Tensor, weights: Tensor, border: str) -> Tensor:
    height, width = image.shape[-2:]
    wide = pad(image, amount=len(weights) // 2, border=border)
    columns = sum(weight * wide[..., k:k + height, :] for k, weight in enumerate(weights.tolist()))
    return sum(weight * columns[..., k:k + width] for k, weight in enumerate(weights.tolist()))


def _convolve_direct(image: Tensor, weights: Tensor, border: str) -> Tensor:
    height, width = image.shape[-2:]
    wide = pad(image, amount=len(weights) // 2, border=border)
    out = torch.zeros_like(image)
    for j, row_weight in enumerate(weights.tolist()):
        for i, column_weight in enumerate(weights.tolist()):
            out = out + row_weight * column_weight * wide[..., j:j + height, i:i + width]
    return out


def _convolve_fourier(image: Tensor, weights: Tensor, border: str) -> Tensor:
    """The discrete Fourier transform turns a periodic convolution into a product; other borders are padded first."""
    radius = len(weights) // 2
    margin = 0 if border == "periodic" else radius
    wide = pad(image, amount=margin, border=border)
    height, width = wide.shape[-2:]
    transfer = torch.fft.fft(_wrapped(weights, height))[:, None] * torch.fft.rfft(_wrapped(weights, width))
    spectrum = torch.fft.rfft2(wide) * transfer.to(image.device, wide.dtype.to_complex())
    out = torch.fft.irfft2(spectrum, s=(height, width))
    return out[..., margin:height - margin, margin:width - margin]


def _convolve_folded(image: Tensor, weights: Tensor, border: str) -> Tensor:
    """For a window larger than the picture: the weights folded onto the pixels that there are."""
    down, right = (convolution_matrix(side, weights, border=border).to(image) for side in image.shape[-2:])
    return down @ image @ right.T


def _wrapped(weights: Tensor, size: int) -> Tensor:
    """The weights on a circle of `size` pixels, centre at 0; what is longer than the circle adds up."""
    radius = len(weights) // 2
    place = torch.arange(-radius, radius + 1) % size
    return torch.zeros(size, dtype=weights.dtype).index_add_(0, place, weights)


# --- box ------------------------------------------------------------------------------------------------------------

def box_filter(image: Tensor, *, radius: int, border: str = "reflect", method: str = "kernel") -> Tensor:
    """Mean over a square window of side 2 radius + 1, at a cost that does not depend on the radius.

    >>> point = torch.zeros(1, 3, 4)
    >>> point[0, 0, 0] = 9
    >>> labkit.filtering.box_filter(point, radius=1, border="zero")
    tensor([[[1., 1., 0., 0.],
             [1., 1., 0., 0.],
             [0., 0., 0., 0.]]])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1].
    radius : half-width of the window in pixels, at least 0; 0 gives the image back. It may exceed the picture; beyond
        65536 pixels it grows no more.
    border : as in `gaussian_filter`; `"normalized"` takes the mean over those pixels of the window that lie inside.
    method : `"kernel"` for running sums, compiled; `"reference"` for an integral image in torch.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`.

    Raises
    ------
    ValueError : the image is none, `radius` is negative, or `border` or `method` is unknown.

    Notes
    -----
    Both methods add in float64: a float32 integral image of 512 × 512 pixels is wrong by 3e-3.

    References
    ----------
    Crow, "Summed-Area Tables for Texture Mapping", SIGGRAPH 1984. Lecture part I, "Box Filter".
    """
    validate_image(image)
    validate_integer(radius, name="radius", minimum=0, largest=LARGEST_INTEGER)
    validate_choice(border, name="border", choices=BORDERS)
    validate_choice(method, name="method", choices=("kernel", "reference"))
    if radius == 0:
        return image.clone()
    radius = min(radius, FARTHEST)
    if radius > max(image.shape[-2:]):
        weights = torch.full((2 * radius + 1,), 1 / (2 * radius + 1), dtype=torch.float64)
        return like(_with_border(_convolve_folded, image.double(), weights, border), image)
    if method == "kernel" and runs_kernel(image):
        batch = as_batch(image)
        out = torch.empty_like(batch)
        height, width = image.shape[-2:]
        weights = torch.full((2 * radius + 1,), 1 / (2 * radius + 1), dtype=torch.float64)
        rows, row_gain = _continued(height, weights, border)
        columns, column_gain = _continued(width, weights, border)
        run("filtering", "box", batch, out, rows.to(batch.device), columns.to(batch.device),
            (row_gain * weights[0]).to(batch.device), (column_gain * weights[0]).to(batch.device))
        return like(out, image)
    return like(box_mean(image.double(), radius, border), image)


def box_mean(image: Tensor, radius: int, border: str) -> Tensor:
    """Mean over a window from four values of the integral image, for a float64 image."""
    if border == "normalized":
        inside = torch.ones_like(image[..., :1, :, :])
        return box_mean(image, radius, "zero") / box_mean(inside, radius, "zero")
    side = 2 * radius + 1
    integral = F.pad(pad(image, amount=radius, border=border).cumsum(-2).cumsum(-1), (1, 0, 1, 0))
    total = (integral[..., side:, side:] - integral[..., :-side, side:]
             - integral[..., side:, :-side] + integral[..., :-side, :-side])
    return total / side ** 2


# --- rank -----------------------------------------------------------------------------------------------------------

def median_filter(image: Tensor, *, radius: int) -> Tensor:
    """Median over a square window of side 2 radius + 1, channel by channel, the picture mirrored at its edge pixels.

    >>> labkit.filtering.median_filter(torch.tensor([[[1.0, 1, 9], [1, 1, 1], [1, 1, 1]]]), radius=1)
    tensor([[[1., 1., 1.],
             [1., 1., 1.],
             [1., 1., 1.]]])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W) float tensor in [0, 1].
    radius : half-width of the window in pixels, at least 0.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`. SciPy computes it: no gradient flows back.

    Raises
    ------
    ValueError : the image is none, or `radius` is negative.

    References
    ----------
    `scipy.ndimage.median_filter`.
    """
    return _by_rank("median_filter", image, radius)


def erode(image: Tensor, *, radius: int) -> Tensor:
    """Minimum over a square window of side 2 radius + 1, channel by channel; only pixels of the picture count.

    >>> labkit.filtering.erode(torch.tensor([[[0.0, 1, 1, 1, 0]]]), radius=1)
    tensor([[[0., 0., 1., 0., 0.]]])

    Parameters, result and errors are those of `median_filter`.

    References
    ----------
    `scipy.ndimage.minimum_filter`, the grey-level erosion by a flat square.
    """
    return _by_rank("minimum_filter", image, radius)


def dilate(image: Tensor, *, radius: int) -> Tensor:
    """Maximum over a square window of side 2 radius + 1, channel by channel; only pixels of the picture count.

    >>> labkit.filtering.dilate(torch.tensor([[[0.0, 0, 1, 0, 0]]]), radius=1)
    tensor([[[0., 1., 1., 1., 0.]]])

    Parameters, result and errors are those of `median_filter`.

    References
    ----------
    `scipy.ndimage.maximum_filter`, the grey-level dilation by a flat square.
    """
    return _by_rank("maximum_filter", image, radius)


def open(image: Tensor, *, radius: int) -> Tensor:
    """Erosion, then dilation: takes away what is bright and narrower than the window, and adds nothing.

    >>> labkit.filtering.open(torch.tensor([[[0.0, 1, 0, 1, 1, 1, 0]]]), radius=1)
    tensor([[[0., 0., 0., 1., 1., 1., 0.]]])

    Parameters, result and errors are those of `median_filter`.
    """
    return dilate(erode(image, radius=radius), radius=radius)


def close(image: Tensor, *, radius: int) -> Tensor:
    """Dilation, then erosion: fills what is dark and narrower than the window, and takes nothing away.

    >>> labkit.filtering.close(torch.tensor([[[1.0, 0, 1, 0, 0, 0, 1]]]), radius=1)
    tensor([[[1., 1., 1., 0., 0., 0., 1.]]])

    Parameters, result and errors are those of `median_filter`.
    """
    return erode(dilate(image, radius=radius), radius=radius)


def _by_rank(name: str, image: Tensor, radius: int) -> Tensor:
    from scipy import ndimage

    validate_image(image)
    validate_integer(radius, name="radius", minimum=0, largest=LARGEST_INTEGER)
    values = as_floats(image.detach()).cpu().numpy()
    window = (1,) * (image.ndim - 2) + tuple(2 * min(radius, side) + 1 for side in image.shape[-2:])    # more is the picture again
    return like(torch.from_numpy(getattr(ndimage, name)(values, size=window, mode="mirror")), image)


def _continued(size: int, weights: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """One side of a picture continued by the radius of `weights`: what stands at each place, and the gain C / C(x)."""
    radius = len(weights) // 2
    place = continued(size, radius=radius, border=border)
    gain = torch.ones(size, dtype=torch.float64)
    if border == "normalized":
        inside = np.convolve((place >= 0).numpy().astype(np.float64), weights.numpy(), mode="valid")
        gain = 1 / torch.from_numpy(inside)
    return place, gain
