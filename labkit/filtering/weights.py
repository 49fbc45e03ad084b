"""What a filter does at one pixel: the weight of every other pixel in its output there."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.filtering.bilateral import rolling_guidance_filter, validate_guide
from labkit.filtering.guided import guided_filter
from labkit.filtering.arrays import as_floats
from labkit.filtering.linear import box_filter, gaussian_filter
from labkit.filtering.nonlocal_means import validate_parameters
from labkit.images import pad
from labkit.validation import BORDERS, LARGEST_INTEGER, validate_choice, validate_image, validate_integer, validate_number

__all__ = ["weights_at"]


def weights_at(image: Tensor, *, row: int, column: int, filter: str = "gaussian",
               **parameters: float | int | str | Tensor | None) -> Tensor:
    """The weights with which a filter averages the pixels of an image at one place.

    >>> weights = labkit.filtering.weights_at(torch.zeros(1, 5, 5), row=2, column=2, filter="box", radius=1)
    >>> weights.shape, round(float(weights.sum()), 3), int((weights > 0).sum())
    (torch.Size([5, 5]), 1.0, 9)

    û(row, column) = Σ_y w(y) u(y) for every channel, where the weights may themselves depend on the image.

    Parameters
    ----------
    image : (C, H, W) float tensor in [0, 1].
    row, column : the pixel of the output.
    filter : `"gaussian"`, `"box"`, `"bilateral"`, `"cross_bilateral"`, `"guided"`, `"rolling_guidance"` (the weights of
        its last iteration) or `"nonlocal_means"`.
    parameters : those of the filter, by keyword, with its defaults.

    Returns
    -------
    Tensor (H, W) of the image's device, that sums to one (to less beside a border `"zero"`). Those of the guided filter
    may be negative.

    Raises
    ------
    ValueError : as the filter, or a pixel outside the image.
    TypeError : a parameter that the filter does not have, or lacks.

    References
    ----------
    He, Sun, Tang, "Guided Image Filtering", ECCV 2010, eq. 12, is the guided filter's W_ij for a grey guide; here it
    is the derivative of the filter's output, which holds for a colour guide and near the border too.
    """
    validate_image(image, batch=False)
    height, width = image.shape[-2:]
    validate_integer(row, name="row", minimum=0, maximum=height - 1)
    validate_integer(column, name="column", minimum=0, maximum=width - 1)
    validate_choice(filter, name="filter", choices=tuple(_WEIGHTS))
    parameters = {name: as_floats(p.detach()) if isinstance(p, Tensor) else p for name, p in parameters.items()}
    return _WEIGHTS[filter](as_floats(image.detach()), row, column, **parameters)


def _gaussian(image: Tensor, row: int, column: int, *, sigma: float, radius: int | None = None,
              border: str = "reflect") -> Tensor:
    validate_number(sigma, name="sigma", minimum=0)
    reach = math.ceil(4 * sigma) if radius is None else radius
    return _derivative(
        lambda u, part: gaussian_filter(u, sigma=sigma, radius=radius, border=border, method="reference"),
        image, row, column, reach, border)


def _box(image: Tensor, row: int, column: int, *, radius: int, border: str = "reflect") -> Tensor:
    return _derivative(lambda u, part: box_filter(u, radius=radius, border=border, method="reference"),
                       image, row, column, radius, border)


def _guided(image: Tensor, row: int, column: int, *, guide: Tensor | None = None, radius: int, eps: float) -> Tensor:
    guide = image if guide is None else guide
    validate_guide(image, guide, channels=(1, 3))
    validate_integer(radius, name="radius", minimum=1, largest=LARGEST_INTEGER)
    # The windows that hold the pixel reach twice the radius.
    return _derivative(lambda u, part: guided_filter(u, guide=guide[part], radius=radius, eps=eps, method="reference"),
                       image, row, column, 2 * radius)


def _bilateral(image: Tensor, row: int, column: int, *, sigma_space: float, sigma_color: float,
               radius: int | None = None) -> Tensor:
    return _cross_bilateral(image, row, column, guide=image, sigma_space=sigma_space, sigma_color=sigma_color,
                            radius=radius)


def _cross_bilateral(image: Tensor, row: int, column: int, *, guide: Tensor, sigma_space: float, sigma_color: float,
                     radius: int | None = None) -> Tensor:
    validate_guide(image, guide)
    radius = _radius(sigma_space, sigma_color, radius)
    part = _around(image, row, column, radius)
    rows, columns = (torch.arange(s.start, s.stop, device=image.device) for s in part[1:])
    space = ((rows - row) / sigma_space).square()[:, None] + ((columns - column) / sigma_space).square()
    color = ((guide[part] - guide[:, row:row + 1, column:column + 1]) / sigma_color).square().sum(0)
    weights = torch.exp(-(space + color) / 2)
    return _placed(weights / weights.sum(), part, image)


def _rolling_guidance(image: Tensor, row: int, column: int, *, sigma_space: float, sigma_color: float,
                      iterations: int = 4, radius: int | None = None) -> Tensor:
    radius = _radius(sigma_space, sigma_color, radius)
    validate_integer(iterations, name="iterations", minimum=1)
    # Each iteration reaches one radius farther; the first has a constant guide.
    part = _around(image, row, column, iterations * radius)
    guide = torch.zeros_like(image[part])
    if iterations > 1:
        guide = rolling_guidance_filter(image[part], sigma_space=sigma_space, sigma_color=sigma_color,
                                        iterations=iterations - 1, radius=radius)
    weights = _cross_bilateral(image[part], row - part[1].start, column - part[2].start, guide=guide,
                               sigma_space=sigma_space, sigma_color=sigma_color, radius=radius)
    return _placed(weights, part, image)


def _nonlocal_means(image: Tensor, row: int, column: int, *, patch_size: int = 5, window_size: int = 21, h: float,
                    sigma: float = 0.0) -> Tensor:
    validate_parameters(patch_size, window_size, h, sigma)
    part = _around(image, row, column, window_size // 2)
    padded = pad(image, amount=patch_size // 2, border="reflect")
    own = padded[:, None, None, row:row + patch_size, column:column + patch_size]
    patches = padded.unfold(1, patch_size, 1).unfold(2, patch_size, 1)[part]       # (C, rows, columns, n, n), a view
    distance = (patches - own).square().mean(dim=(0, 3, 4))
    weights = torch.exp(-(distance - 2 * sigma ** 2).clamp(min=0) / max(h ** 2, torch.finfo(image.dtype).tiny))
    return _placed(weights / weights.sum(), part, image)


def _derivative(linear: Callable[[Tensor, tuple[slice, ...]], Tensor], image: Tensor, row: int, column: int,
                reach: int, border: str = "normalized") -> Tensor:
    """The weights of a linear filter that treats all channels alike: ∂û(row, column) / ∂u(y), for y within `reach`.

    `linear` filters the part of a picture that it is given.
    """
    validate_integer(reach, name="radius", minimum=0)
    validate_choice(border, name="border", choices=BORDERS)
    part = _around(image, row, column, max(image.shape) if border == "periodic" else reach)
    with torch.enable_grad():
        impulse = torch.zeros_like(image[part][:1], requires_grad=True)
        output = linear(impulse, part)[0, row - part[1].start, column - part[2].start]
        return _placed(torch.autograd.grad(output, impulse)[0][0], part, image)


def _radius(sigma_space: float, sigma_color: float, radius: int | None) -> int:
    """That of the bilateral filters."""
    validate_number(sigma_space, name="sigma_space", above=0)
    validate_number(sigma_color, name="sigma_color", above=0)
    radius = math.ceil(3 * sigma_space) if radius is None else radius
    validate_integer(radius, name="radius", minimum=1, largest=LARGEST_INTEGER)
    return radius


def _around(image: Tensor, row: int, column: int, radius: int) -> tuple[slice, slice, slice]:
    """The part of an image at most `radius` rows and columns from a pixel."""
    height, width = image.shape[-2:]
    return (slice(None), slice(max(0, row - radius), min(height, row + radius + 1)),
            slice(max(0, column - radius), min(width, column + radius + 1)))


def _placed(weights: Tensor, part: tuple[slice, slice, slice], image: Tensor) -> Tensor:
    """The weights of a part in a picture of zeros."""
    out = image.new_zeros(image.shape[-2:])
    out[part[1:]] = weights
    return out


_WEIGHTS = {"gaussian": _gaussian, "box": _box, "bilateral": _bilateral, "cross_bilateral": _cross_bilateral,
            "guided": _guided, "rolling_guidance": _rolling_guidance, "nonlocal_means": _nonlocal_means}
