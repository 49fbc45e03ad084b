"""Pictures at several scales: resampling by any ratio, Gaussian and Laplacian pyramids.

Level 0 is the picture itself; each next one is smaller by the ratio. Pixels are little squares: a coarse pixel covers
`ratio` fine ones along each side and nothing shifts (the convention of `labkit.images.resize`).

References
----------
Burt, Adelson, "The Laplacian Pyramid as a Compact Image Code", IEEE Trans. Communications, 1983.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.images import pad
from labkit.operators import FARTHEST, convolution_matrix
from labkit.validation import describe, size_of, validate_image, validate_integer, validate_number, validate_size

__all__ = ["coarse_size", "collapse", "downsample", "gaussian_pyramid", "laplacian_pyramid", "level_sizes", "upsample"]


def __dir__() -> list[str]:
    return __all__


def downsample(image: Tensor, *, ratio: float = 2.0) -> Tensor:
    """Make an image smaller by any ratio: a Gaussian blur against aliasing, then linear interpolation.

    >>> labkit.pyramids.downsample(torch.ones(3, 30, 41), ratio=2).shape
    torch.Size([3, 15, 21])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W).
    ratio : at least 1, whole or not (4/3 is usual for patch methods). The Gaussian's standard deviation is ratio / 2
        pixels, about Burt and Adelson's filter for ratio 2; a ratio of 1 copies the image.

    Returns
    -------
    Tensor whose sides are `coarse_size`: those of `image` divided by the ratio, rounded, at least 1.
    """
    validate_image(image)
    validate_number(ratio, name="ratio", minimum=1)
    if ratio == 1:
        return image.clone()
    working = image if image.dtype == torch.float64 else image.float()
    blurred = _gaussian_blur(working, sigma=ratio / 2)
    return _interpolate(blurred, size=coarse_size(*image.shape[-2:], ratio=ratio)).to(image.dtype)


def upsample(image: Tensor, *, ratio: float | None = None, size: tuple[int, int] | None = None) -> Tensor:
    """Make an image larger by bilinear interpolation, by a `ratio` of at least 1 or to a `size` = (height, width).

    Sides are rounded to the nearest whole number; `size` undoes `downsample` where that had rounded.

    >>> labkit.pyramids.upsample(torch.tensor([[[0.0, 1.0]]]), size=(1, 4))
    tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])

    Raises
    ------
    ValueError : not exactly one of the two, or a size below the image's (`downsample` is the function for that).
    """
    validate_image(image)
    if (ratio is None) == (size is None):
        raise ValueError(f"ratio is {ratio} and size is {size}; expected exactly one of the two")
    if ratio is not None:
        validate_number(ratio, name="ratio", minimum=1)
        height, width = size_of(image)
        size = math.floor(height * ratio + 0.5), math.floor(width * ratio + 0.5)
    size = validate_size(size, minimum=size_of(image))
    working = image if image.dtype == torch.float64 else image.float()
    return _interpolate(working, size=size).to(image.dtype)


def coarse_size(height: int, width: int, *, ratio: float) -> tuple[int, int]:
    """The size of the next level: sides divided by the ratio, to the nearest whole number, at least 1.

    >>> labkit.pyramids.coarse_size(30, 41, ratio=2)
    (15, 21)
    """
    validate_integer(height, name="height", minimum=1)
    validate_integer(width, name="width", minimum=1)
    validate_number(ratio, name="ratio", minimum=1)
    return max(1, math.floor(height / ratio + 0.5)), max(1, math.floor(width / ratio + 0.5))


def level_sizes(size: tuple[int, int], *, levels: int, ratio: float = 2.0) -> list[tuple[int, int]]:
    """Sizes (height, width) of the pictures of a pyramid, fine to coarse.

    >>> labkit.pyramids.level_sizes((30, 41), levels=3)
    [(30, 41), (15, 21), (8, 11)]
    """
    sizes = [validate_size(size)]
    validate_integer(levels, name="levels", minimum=1)
    validate_number(ratio, name="ratio", minimum=1)
    for _ in range(levels - 1):
        sizes.append(coarse_size(*sizes[-1], ratio=ratio))
    return sizes


def gaussian_pyramid(image: Tensor, *, levels: int, ratio: float = 2.0) -> list[Tensor]:
    """The image, then smaller and smaller versions of it.

    >>> [level.shape for level in labkit.pyramids.gaussian_pyramid(torch.ones(1, 16, 24), levels=3)]
    [torch.Size([1, 16, 24]), torch.Size([1, 8, 12]), torch.Size([1, 4, 6])]

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W).
    levels : how many pictures, the image included.
    ratio : of the sides of neighbouring levels, above 1.

    Returns
    -------
    List of `levels` tensors, fine to coarse.

    Raises
    ------
    ValueError : so many levels that a picture of one pixel would have to shrink further.
    """
    validate_image(image)
    validate_integer(levels, name="levels", minimum=1)
    validate_number(ratio, name="ratio", above=1)
    pyramid = [image.clone()]
    for _ in range(levels - 1):
        size = size_of(pyramid[-1])
        if coarse_size(*size, ratio=ratio) == size:
            raise ValueError(f"levels is {levels}; expected at most {len(pyramid)} for an image of "
                             f"{image.shape[-2]}×{image.shape[-1]} pixels and ratio {ratio:.3g}: level "
                             f"{len(pyramid) - 1} is {size[0]}×{size[1]} and cannot shrink")
        pyramid.append(downsample(pyramid[-1], ratio=ratio))
    return pyramid


def laplacian_pyramid(image: Tensor, *, levels: int, ratio: float = 2.0) -> list[Tensor]:
    """What each scale adds to the next coarser one: differences (values around 0), then the coarsest picture.

    Parameters and errors are those of `gaussian_pyramid`. `collapse` puts the image together again.

    >>> details = labkit.pyramids.laplacian_pyramid(torch.ones(1, 16, 24), levels=3)
    >>> [round(float(level.abs().max()), 6) for level in details]    # a flat picture has no details
    [0.0, 0.0, 1.0]
    """
    pyramid = gaussian_pyramid(image, levels=levels, ratio=ratio)
    details = [fine - upsample(coarse, size=size_of(fine)) for fine, coarse in zip(pyramid, pyramid[1:])]
    return [*details, pyramid[-1]]


def collapse(pyramid: list[Tensor]) -> Tensor:
    """The image whose Laplacian pyramid this is, exact to rounding; change the details before to change the image.

    >>> image = torch.rand(1, 16, 24, generator=labkit.runtime.generator(0))
    >>> pyramid = labkit.pyramids.laplacian_pyramid(image, levels=3)
    >>> torch.allclose(labkit.pyramids.collapse(pyramid), image, atol=1e-6)
    True
    """
    if not isinstance(pyramid, (list, tuple)) or not pyramid:
        given = "empty" if isinstance(pyramid, (list, tuple)) else describe(pyramid)
        raise ValueError(f"pyramid is {given}; expected the list that laplacian_pyramid returns")
    for number, level in enumerate(pyramid):
        validate_image(level, name=f"pyramid[{number}]")
        finer = pyramid[max(0, number - 1)]
        if level.shape[:-2] != finer.shape[:-2] or level.shape[-2] > finer.shape[-2] or level.shape[-1] > finer.shape[-1]:
            raise ValueError(f"pyramid[{number}] is {describe(level)} and pyramid[{number - 1}] {describe(finer)}; expected pictures with as "
                             "many channels, fine to coarse")
    image = pyramid[-1].clone()
    for detail in reversed(pyramid[:-1]):
        image = upsample(image, size=size_of(detail)) + detail
    return image


def _gaussian_blur(image: Tensor, *, sigma: float) -> Tensor:
    """Separable convolution over 3 sigma, mirrored at the border."""
    radius = min(math.ceil(3 * sigma), FARTHEST)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    line = (line / line.sum()).to(image)
    if radius > max(image.shape[-2:]):
        down, right = (convolution_matrix(side, line, border="reflect").to(image) for side in image.shape[-2:])
        return down @ image @ right.T
    padded = pad(image, amount=radius, border="reflect")
    planes = padded.reshape(-1, 1, *padded.shape[-2:])
    blurred = F.conv2d(F.conv2d(planes, line[None, None, :, None]), line[None, None, None, :])
    return blurred.reshape(image.shape)


def _interpolate(image: Tensor, *, size: tuple[int, int]) -> Tensor:
    batch = image if image.ndim == 4 else image[None]
    result = F.interpolate(batch, size=size, mode="bilinear", align_corners=False)
    return result if image.ndim == 4 else result[0]
