"""Linear degradations `v = A u + w`: blur, downsampling, missing pixels, each with its adjoint and pseudo-inverse.

Everything is a `LinearOperator`: call it for `A u`, `.adjoint(v)` for `Aᵀ v`, `.pseudo_inverse(v)` for `A⁺ v`. That is
all a restoration method needs, whether it works in Fourier, by gradient descent or through a network. The discrete
gradient and divergence that every regularisation uses stand at the end.

Reference: Galerne, "Generative models", part 1, "Inverse problems" and "Optimization for inverse problems".
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.images import pad
from labkit.validation import (BORDERS, describe, known_pixels, size_of, validate_choice, validate_image, validate_integer, validate_mask,
                               validate_number)

__all__ = ["Blur", "Downsample", "Identity", "LinearOperator", "Mask", "continued", "convolution_matrix", "disk_kernel", "divergence",
           "gaussian_kernel", "gradient", "motion_kernel"]


def __dir__() -> list[str]:
    return __all__


LARGEST_KERNEL = 1025      # pixels along a side of a blur: 8 MB
FARTHEST = 2 ** 16         # half-width of a window, in pixels, beyond which it grows no more

_BORDERS = ("periodic", "reflect", "replicate", "zero")


class LinearOperator(ABC):
    """A linear map A between images, known by what it does to one; every channel is treated alike.

    A new operator says what `_apply` does. The adjoint then follows from automatic differentiation (the gradient of
    ⟨A x, y⟩ in x is Aᵀ y, whatever x is), unless a closed form is given.

    >>> class Darken(labkit.operators.LinearOperator):
    ...     def _apply(self, image):
    ...         return 0.5 * image
    >>> darken = Darken()
    >>> darken(torch.ones(1, 1, 2)), darken.adjoint(torch.ones(1, 1, 2))
    (tensor([[[0.5000, 0.5000]]]), tensor([[[0.5000, 0.5000]]]))
    >>> darken.squared_norm(torch.ones(1, 1, 2))
    0.25
    """

    def __call__(self, image: Tensor) -> Tensor:
        """A x, for (C, H, W) or (N, C, H, W), in the dtype and on the device of `image`."""
        return _in_float(self._apply, self._validated(image, name="image"))

    def adjoint(self, observation: Tensor) -> Tensor:
        """Aᵀ y, the one image with ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for all x."""
        return _in_float(self._adjoint, self._validated(observation, name="observation"))

    def pseudo_inverse(self, observation: Tensor) -> Tensor:
        """A⁺ y (Moore–Penrose): of all x that bring A x closest to y, the smallest.

        With noise in y it is usually a poor picture: what A nearly erased comes back amplified, noise included.
        """
        return _in_float(self._pseudo_inverse, self._validated(observation, name="observation"))

    def squared_norm(self, image: Tensor) -> float:
        """An upper bound of ‖A‖² on images of this size, for the step of a gradient descent.

        Schur's test, for operators without negative entries: ‖A‖² ≤ max(A 1) · max(Aᵀ 1).
        """
        ones = torch.ones(1, *image.shape[-2:], dtype=torch.float64, device=image.device)
        ahead = self._apply(ones)
        return float(ahead.max() * self._adjoint(torch.ones_like(ahead)).max())

    def _validated(self, image: Tensor, *, name: str) -> Tensor:
        validate_image(image, name=name)
        return image

    @abstractmethod
    def _apply(self, image: Tensor) -> Tensor:
        """A x, for an image that is valid and in float32 or float64."""

    def _adjoint(self, observation: Tensor, /) -> Tensor:
        start = observation.new_zeros(*observation.shape[:-2], *self._input_size(observation))
        return torch.func.vjp(self._apply, start)[1](observation)[0]

    def _pseudo_inverse(self, observation: Tensor, /) -> Tensor:
        raise NotImplementedError(f"no closed form of the pseudo-inverse of {self!r} is known")

    def _input_size(self, observation: Tensor) -> tuple[int, int]:
        return size_of(observation)


class Identity(LinearOperator):
    """A x = x: denoising as an inverse problem.

    >>> labkit.operators.Identity()(torch.ones(1, 1, 2))
    tensor([[[1., 1.]]])
    """

    def _apply(self, image: Tensor) -> Tensor:
        return image.clone()

    _adjoint = _pseudo_inverse = _apply

    def __repr__(self) -> str:
        return "Identity()"


class Mask(LinearOperator):
    """A x = x where pixels are known and 0 where they are missing, even NaN. It is its own adjoint and pseudo-inverse.

    >>> mask = torch.tensor([[[False, True, False]]])
    >>> labkit.operators.Mask(mask)(torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[1., 0., 3.]]])

    Parameters
    ----------
    mask : boolean (1, H, W), `True` where pixels are missing.
    """

    def __init__(self, mask: Tensor) -> None:
        if not isinstance(mask, Tensor) or mask.ndim != 3:
            raise ValueError(f"mask is {describe(mask)}; expected a boolean tensor (1, H, W), True where pixels are "
                             "missing")
        validate_mask(mask, mask)
        self.mask = mask.clone()

    def _validated(self, image: Tensor, *, name: str) -> Tensor:
        return known_pixels(image, self.mask, name=name, batch=True)

    def _apply(self, image: Tensor) -> Tensor:
        return image.masked_fill(self.mask.to(image.device), 0)

    _adjoint = _pseudo_inverse = _apply

    def __repr__(self) -> str:
        return f"Mask({self.mask.shape[1]}×{self.mask.shape[2]}, {int(self.mask.sum())} pixels missing)"


class Blur(LinearOperator):
    """A x = k ∗ x, a convolution with a kernel: `Blur(gaussian_kernel(sigma=2))`, `Blur(motion_kernel(length=9))`.

    >>> box = torch.full((3, 3), 1 / 9)
    >>> labkit.operators.Blur(box)(9 * torch.eye(4)[None])
    tensor([[[3., 2., 2., 2.],
             [2., 3., 2., 2.],
             [2., 2., 3., 2.],
             [2., 2., 2., 3.]]])

    Parameters
    ----------
    kernel : (h, w), odd sides, its centre at the middle entry; finite, of any sign.
    border : how the image goes on outside: `"periodic"`, where the blur is a product in Fourier and has a
        pseudo-inverse, or `"reflect"`, `"replicate"`, `"zero"`.
    """

    def __init__(self, kernel: Tensor, *, border: str = "periodic") -> None:
        validate_choice(border, name="border", choices=_BORDERS)
        self.kernel, self.border = _validate_kernel(kernel), border

    def transfer(self, height: int, width: int, *, dtype: torch.dtype = torch.float64,
                 device: torch.device | str = "cpu") -> Tensor:
        """The Fourier transform of the kernel on a periodic grid: complex (height, width), in the order of `fft2`."""
        rows, columns = (torch.arange(side) - side // 2 for side in self.kernel.shape)
        wrapped = torch.zeros(height, width, dtype=torch.float64)
        wrapped.index_put_(((rows % height)[:, None], columns % width), self.kernel, accumulate=True)
        return torch.fft.fft2(wrapped.to(dtype=dtype, device=device))

    def squared_norm(self, image: Tensor) -> float:
        """An upper bound of ‖A‖²: Schur's test on the absolute values of the kernel."""
        if (self.kernel < 0).any():
            return Blur(self.kernel.abs(), border=self.border).squared_norm(image)
        return super().squared_norm(image)

    def _apply(self, image: Tensor) -> Tensor:
        if self.border == "periodic":
            return self._multiply(image, lambda transfer: transfer)
        radius = max(self.kernel.shape) // 2
        kernel = _pad_kernel(self.kernel, radius).flip(0, 1)     # conv2d correlates
        return _correlate(pad(image, amount=radius, border=self.border), kernel, stride=1)

    def _adjoint(self, observation: Tensor) -> Tensor:
        if self.border == "periodic":
            return self._multiply(observation, torch.conj)
        return super()._adjoint(observation)

    def _pseudo_inverse(self, observation: Tensor) -> Tensor:
        if self.border != "periodic":
            raise ValueError(f"border is {self.border!r}; expected 'periodic', the one border for which a blur is "
                             "inverted in closed form")
        return self._multiply(observation, _reciprocal)

    def _multiply(self, image: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        factor = change(self.transfer(*image.shape[-2:], dtype=image.dtype, device=image.device))
        return torch.fft.ifft2(factor * torch.fft.fft2(image)).real

    def __repr__(self) -> str:
        height, width = self.kernel.shape
        return f"Blur({height}×{width} kernel of sum {float(self.kernel.sum()):.3g}, border={self.border!r})"


class Downsample(LinearOperator):
    """A x = (k ∗ x)↓s: an anti-aliasing filter, then one pixel out of every s × s block.

    The filter is centred on the block, not on one of its pixels, so the small picture is not shifted: it lies over the
    large one as `labkit.images.resize` lays it.

    >>> labkit.operators.Downsample(2, antialias="box")(torch.arange(8.0).reshape(1, 2, 4))
    tensor([[[2.5000, 4.5000]]])

    Parameters
    ----------
    factor : s, at least 1; height and width of the image must be multiples of it.
    antialias : `"gaussian"` of standard deviation s / 2, which leaves exp(−π²/8) = 0.29 of a wave at the new Nyquist
        frequency, or `"box"`, the mean of the block (average pooling).
    border : as for `Blur`; only `"periodic"` has a pseudo-inverse.
    """

    def __init__(self, factor: int, *, antialias: str = "gaussian", border: str = "periodic") -> None:
        validate_integer(factor, name="factor", minimum=1)
        validate_choice(antialias, name="antialias", choices=("gaussian", "box"))
        validate_choice(border, name="border", choices=_BORDERS)
        self.factor, self.antialias, self.border = factor, antialias, border
        self._margin = 2 * factor if antialias == "gaussian" and factor > 1 else 0    # 4 standard deviations
        place = torch.arange(factor + 2 * self._margin, dtype=torch.float64)
        line = torch.ones_like(place)
        if self._margin:
            line = torch.exp(-0.5 * ((place - place.mean()) / (factor / 2)) ** 2)
        self._kernel = torch.outer(line, line) / line.sum() ** 2

    def _apply(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(f"image is {height}×{width} pixels; expected multiples of the factor {self.factor} "
                             "(labkit.images.crop makes them)")
        return _correlate(pad(image, amount=self._margin, border=self.border), self._kernel, stride=self.factor)

    def _input_size(self, observation: Tensor) -> tuple[int, int]:
        return observation.shape[-2] * self.factor, observation.shape[-1] * self.factor

    def _pseudo_inverse(self, observation: Tensor) -> Tensor:
        if self.border != "periodic":
            raise ValueError(f"border is {self.border!r}; expected 'periodic', the one border for which downsampling "
                             "is inverted in closed form")
        # A⁺ = Aᵀ (A Aᵀ)⁺, and A Aᵀ is a periodic convolution of small pictures, known by what it does to one point.
        point = observation.new_zeros(1, *observation.shape[-2:])
        point[..., 0, 0] = 1
        symbol = torch.fft.fft2(self._apply(self._adjoint(point)))
        return self._adjoint(torch.fft.ifft2(_reciprocal(symbol) * torch.fft.fft2(observation)).real)

    def __repr__(self) -> str:
        return f"Downsample({self.factor}, antialias={self.antialias!r}, border={self.border!r})"


# --- kernels --------------------------------------------------------------------------------------------------------

def gaussian_kernel(*, sigma: float, radius: int | None = None) -> Tensor:
    """A Gaussian of standard deviation `sigma` pixels, sampled, of sum 1: float64 (2·radius + 1, 2·radius + 1).

    `radius` is 4 sigma, rounded, unless given.

    >>> labkit.operators.gaussian_kernel(sigma=0.5, radius=1).round(decimals=3)
    tensor([[0.0110, 0.0840, 0.0110],
            [0.0840, 0.6190, 0.0840],
            [0.0110, 0.0840, 0.0110]], dtype=torch.float64)
    """
    validate_number(sigma, name="sigma", above=0)
    radius = int(4 * sigma + 0.5) if radius is None else radius
    validate_integer(radius, name="radius", minimum=0)
    _validate_side(2 * radius + 1, f"sigma is {sigma} and radius {radius}")
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return torch.outer(line, line) / line.sum() ** 2


def motion_kernel(*, length: float, angle: float = 0.0) -> Tensor:
    """The trace of a camera that moves evenly along a line: float64, odd side, sum 1.

    >>> labkit.operators.motion_kernel(length=2).round(decimals=3)
    tensor([[0.0000, 0.0000, 0.0000],
            [0.2500, 0.5000, 0.2500],
            [0.0000, 0.0000, 0.0000]], dtype=torch.float64)

    Parameters
    ----------
    length : of the line, in pixels.
    angle : of the line, in degrees, counter-clockwise from the rows' direction (0 is →, 90 is ↑).
    """
    validate_number(length, name="length", above=0)
    validate_number(angle, name="angle")
    _validate_side(2 * math.ceil(length / 2) + 1, f"length is {length}")
    steps = 64 * math.ceil(length)
    along = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps - 0.5) * length
    row, column = -math.sin(math.radians(angle)) * along, math.cos(math.radians(angle)) * along
    radius = math.ceil(length / 2)
    kernel = torch.zeros(2 * radius + 1, 2 * radius + 1, dtype=torch.float64)
    for down in (0, 1):                       # each point of the line is shared between the four pixels around it
        for right in (0, 1):
            first, second = row.floor() + down, column.floor() + right
            share = (1 - (row - first).abs()) * (1 - (column - second).abs())
            inside = share > 0
            index = (first[inside].long() + radius, second[inside].long() + radius)
            kernel.index_put_(index, share[inside], accumulate=True)
    return kernel / kernel.sum()


def disk_kernel(*, radius: float) -> Tensor:
    """The blur of a lens out of focus: a disk of `radius` pixels, smooth at its rim; float64, odd side, sum 1.

    >>> labkit.operators.disk_kernel(radius=1.0).round(decimals=3)
    tensor([[0.0260, 0.1450, 0.0260],
            [0.1450, 0.3150, 0.1450],
            [0.0260, 0.1450, 0.0260]], dtype=torch.float64)
    """
    validate_number(radius, name="radius", above=0)
    side, finer = 2 * math.ceil(radius) + 1, 16
    _validate_side(side, f"radius is {radius}")
    place = (torch.arange(side * finer, dtype=torch.float64) + 0.5) / finer - side / 2
    inside = (place[:, None] ** 2 + place ** 2 <= radius ** 2).double()
    kernel = F.avg_pool2d(inside[None], finer)[0]
    return kernel / kernel.sum()


def _validate_side(side: int, given: str) -> None:
    if side > LARGEST_KERNEL:
        raise ValueError(f"{given}: a kernel of {side}×{side} pixels; expected at most {LARGEST_KERNEL}×{LARGEST_KERNEL}")


# --- windows larger than the picture ---------------------------------------------------------------------------------

def continued(size: int, *, radius: int, border: str) -> Tensor:
    """A line of `size` pixels continued by `radius` on both sides: the number of the pixel at each place, -1 where there is none.

    >>> labkit.operators.continued(3, radius=2, border="reflect").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    validate_integer(size, name="size", minimum=1)
    validate_integer(radius, name="radius", minimum=0)
    validate_choice(border, name="border", choices=BORDERS)
    place = torch.arange(-radius, size + radius)
    if border == "periodic":
        return place % size
    if border == "replicate":
        return place.clamp(0, size - 1)
    if border == "reflect":
        period = max(1, 2 * (size - 1))
        return torch.minimum(place % period, period - place % period)
    return torch.where((place >= 0) & (place < size), place, -1)


def convolution_matrix(size: int, weights: Tensor, *, border: str) -> Tensor:
    """What each pixel of a line gives to each: convolution of the continued line as a matrix, float64 (size, size).

    However long the weights are, they fold onto the pixels that there are, so a window larger than the picture costs no
    more memory than the picture. `border` as in `labkit.filtering.gaussian_filter`; `"normalized"` is `"zero"` here.

    >>> labkit.operators.convolution_matrix(2, torch.ones(5), border="reflect")
    tensor([[3., 2.],
            [2., 3.]], dtype=torch.float64)
    """
    if not isinstance(weights, Tensor) or weights.ndim != 1 or len(weights) % 2 == 0 or not weights.is_floating_point():
        raise ValueError(f"weights is {describe(weights)}; expected a floating-point tensor (2 radius + 1,)")
    place = continued(size, radius=len(weights) // 2, border=border)
    weights = weights.to("cpu", torch.float64)
    matrix = torch.zeros(size, size + 1, dtype=torch.float64)          # what stands nowhere goes to the last column
    for row in range(size):
        matrix[row].index_add_(0, place[row:row + len(weights)] % (size + 1), weights)
    return matrix[:, :size]


# --- derivatives ----------------------------------------------------------------------------------------------------

def gradient(image: Tensor, *, border: str = "replicate") -> Tensor:
    """∇u: the differences to the next row, u(i + 1, j) − u(i, j), and to the next column.

    ‖∇‖² ≤ 8, whatever the border.

    >>> labkit.operators.gradient(torch.tensor([[[1.0, 2.0], [4.0, 8.0]]]))
    tensor([[[[3., 6.],
              [0., 0.]]],
    <BLANKLINE>
    <BLANKLINE>
            [[[1., 0.],
              [4., 0.]]]])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W).
    border : `"replicate"`, where a difference that would leave the image is 0, or `"periodic"`.

    Returns
    -------
    Tensor (2, C, H, W) or (2, N, C, H, W): first along rows, then along columns.
    """
    validate_image(image)
    validate_choice(border, name="border", choices=("replicate", "periodic"))
    parts = []
    for axis in (-2, -1):
        if border == "periodic":
            parts.append(image.roll(-1, axis) - image)
        else:
            parts.append(F.pad(image.diff(dim=axis), (0, 0, 0, 1) if axis == -2 else (0, 1)))
    return torch.stack(parts)


def divergence(field: Tensor, *, border: str = "replicate") -> Tensor:
    """div p = −∇ᵀ p of a field (2, C, H, W) or (2, N, C, H, W), with the border that `gradient` had.

    >>> field = torch.zeros(2, 1, 3, 3)
    >>> field[1, 0, 1, 1] = 1      # a step to the right, in the middle
    >>> labkit.operators.divergence(field)
    tensor([[[ 0.,  0.,  0.],
             [ 0.,  1., -1.],
             [ 0.,  0.,  0.]]])
    """
    if not isinstance(field, Tensor) or field.ndim not in (4, 5) or field.shape[0] != 2:
        raise ValueError(f"field is {describe(field)}; expected a tensor (2, C, H, W) or (2, N, C, H, W)")
    validate_image(field[0], name="field[0]")
    validate_image(field[1], name="field[1]")
    validate_choice(border, name="border", choices=("replicate", "periodic"))
    total = torch.zeros_like(field[0])
    for part, axis in zip(field, (-2, -1)):
        if border == "periodic":
            total += part - part.roll(1, axis)
        else:                     # the last difference is always 0 in a gradient, so the adjoint ignores it
            inner = part.narrow(axis, 0, part.shape[axis] - 1)
            after, before = ((0, 0, 0, 1), (0, 0, 1, 0)) if axis == -2 else ((0, 1), (1, 0))
            total += F.pad(inner, after) - F.pad(inner, before)
    return total


# --- what they share ------------------------------------------------------------------------------------------------

def _in_float(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Compute in float32 where the image is in half precision, whose products and transforms are coarse or missing."""
    if image.dtype in (torch.float32, torch.float64):
        return function(image)
    return function(image.float()).to(image.dtype)


def _reciprocal(values: Tensor) -> Tensor:
    """1 / values, and 0 where a value is 0 to rounding: the pseudo-inverse of a diagonal."""
    size = values.abs()
    kept = size > torch.finfo(size.dtype).eps * max(values.shape) * size.max()
    return torch.where(kept, 1 / torch.where(kept, values, 1), 0)


def _correlate(image: Tensor, kernel: Tensor, *, stride: int) -> Tensor:
    """Sum of kernel × window wherever the whole window lies inside, channel by channel."""
    planes = image.reshape(-1, 1, *image.shape[-2:])
    result = F.conv2d(planes, kernel.to(image)[None, None], stride=stride)
    return result.reshape(*image.shape[:-2], *result.shape[-2:])


def _pad_kernel(kernel: Tensor, radius: int) -> Tensor:
    """The kernel with zeros around it, up to a square of side 2·radius + 1."""
    height, width = kernel.shape
    return F.pad(kernel, (radius - width // 2,) * 2 + (radius - height // 2,) * 2)


def _validate_kernel(kernel: Tensor) -> Tensor:
    """A float64 copy of a kernel on the CPU."""
    if not isinstance(kernel, Tensor) or not kernel.is_floating_point() or kernel.ndim != 2 \
            or not all(side % 2 for side in kernel.shape) or not torch.isfinite(kernel).all():
        raise ValueError(f"kernel is {describe(kernel)}; expected a finite floating-point tensor (h, w) with odd sides")
    return kernel.detach().double().cpu().clone()
