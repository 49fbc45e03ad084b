"""What every function asks of its arguments, said the same way everywhere.

Each guard raises `ValueError` with what was given and what was expected, before anything is computed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from numbers import Integral, Real

import torch
from torch import Tensor

__all__ = ["BORDERS", "LARGEST_INTEGER", "describe", "known_pixels", "size_of", "validate_callback", "validate_choice",
           "validate_image", "validate_integer", "validate_mask", "validate_number", "validate_patch_size",
           "validate_same_size", "validate_seed", "validate_several", "validate_size", "validate_text"]

MOST = 10 ** 6              # of steps, levels, patches, pixels along a side: whoever asks for more has mistaken a number
MOST_PIXELS = 2 ** 28       # of a picture, 3 GB with three channels
LARGEST_INTEGER = 2 ** 63 - 1

BORDERS = ("reflect", "replicate", "periodic", "zero", "normalized")


def describe(value: object) -> str:
    """A short account of a value for an error message: type, shape and dtype, or the value itself.

    >>> labkit.validation.describe(torch.zeros(3, 4, 5)), labkit.validation.describe(7)
    ('a tensor of shape (3, 4, 5) and dtype float32', 'int 7')
    """
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"a {type(value).__module__.split('.')[0]} array of shape {tuple(value.shape)} and dtype {value.dtype}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def size_of(image: Tensor) -> tuple[int, int]:
    """Height and width of an image, a batch or a mask, in pixels.

    >>> labkit.validation.size_of(torch.zeros(3, 4, 5))
    (4, 5)
    """
    height, width = image.shape[-2:]
    return height, width


def validate_image(image: Tensor, *, name: str = "image", channels: tuple[int, ...] | None = None,
                   batch: bool = True, finite: bool = True) -> None:
    """Refuse anything but a finite floating-point tensor `(C, H, W)`, or `(N, C, H, W)` where `batch` allows it.

    >>> labkit.validation.validate_image(torch.zeros(3, 4, 5))
    >>> labkit.validation.validate_image(torch.zeros(4, 5))
    Traceback (most recent call last):
        ...
    ValueError: image is a tensor of shape (4, 5) and dtype float32; expected a floating-point torch tensor ...

    Parameters
    ----------
    image : what the caller was given.
    name : how the caller calls it, for the message.
    channels : the numbers of channels that are allowed; `None` allows any.
    batch : whether a batch (or a video) is allowed.
    finite : whether NaN and infinite values are refused.

    Raises
    ------
    ValueError : wrong type, rank, dtype, number of channels, an empty side, a NaN or an infinite value.
    """
    shapes = "(C, H, W) or (N, C, H, W)" if batch else "(C, H, W)"
    expected = f"expected a floating-point torch tensor {shapes} with values in [0, 1]"
    if not isinstance(image, Tensor):
        raise ValueError(f"{name} is {describe(image)}; {expected} (labkit.images.load makes one)")
    if image.ndim not in ((3, 4) if batch else (3,)):
        raise ValueError(f"{name} is {describe(image)}; {expected}")
    if not image.is_floating_point():
        raise ValueError(f"{name} is {describe(image)}; {expected} (labkit.images.load makes one)")
    if image.numel() == 0:
        raise ValueError(f"{name} is {describe(image)}, which has no pixels; {expected}")
    if channels is not None and image.shape[-3] not in channels:
        allowed = " or ".join(map(str, channels))
        raise ValueError(f"{name} is {describe(image)}; expected {allowed} channel{'s' if channels[-1] > 1 else ''}")
    if not finite:
        return
    low, high = torch.aminmax(image.detach())   # both are NaN as soon as one value is
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(image)).sum())
        raise ValueError(f"{name} holds {bad} NaN or infinite value{'s' if bad > 1 else ''} of {image.numel()}; "
                         "expected finite values")


def validate_same_size(first: Tensor, second: Tensor, *, names: tuple[str, str] = ("image", "guide")) -> None:
    """Refuse two images whose heights and widths differ.

    >>> labkit.validation.validate_same_size(torch.zeros(3, 4, 5), torch.zeros(1, 4, 6))
    Traceback (most recent call last):
        ...
    ValueError: image is (4, 5) and guide is (4, 6) pixels (height, width); expected the same size
    """
    if first.shape[-2:] != second.shape[-2:]:
        raise ValueError(f"{names[0]} is {tuple(first.shape[-2:])} and {names[1]} is {tuple(second.shape[-2:])} "
                         "pixels (height, width); expected the same size")


def validate_mask(mask: Tensor, image: Tensor, *, name: str = "mask") -> None:
    """Refuse anything but a boolean `(1, H, W)` tensor of the image's height and width (`True` = missing).

    >>> labkit.validation.validate_mask(torch.zeros(1, 4, 5), torch.zeros(3, 4, 5))
    Traceback (most recent call last):
        ...
    ValueError: mask is a tensor of shape (1, 4, 5) and dtype float32; expected a boolean tensor (1, 4, 5), ...
    """
    height, width = image.shape[-2:]
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != (1, height, width):
        raise ValueError(f"{name} is {describe(mask)}; expected a boolean tensor (1, {height}, {width}), "
                         "True where pixels are missing")


def known_pixels(image: Tensor, mask: Tensor, *, name: str = "image", mask_name: str = "mask", batch: bool = False) -> Tensor:
    """The image with 0 where pixels are missing, whatever it holds there; refuses what `validate_image` and `validate_mask` do.

    >>> labkit.validation.known_pixels(torch.tensor([[[0.5, math.nan]]]), torch.tensor([[[False, True]]]))
    tensor([[[0.5000, 0.0000]]])

    Parameters
    ----------
    image : (C, H, W), or (N, C, H, W) where `batch` allows it; finite where pixels are known.
    mask : bool (1, H, W), `True` where pixels are missing.
    name, mask_name : how the caller calls them, for the message.
    """
    validate_image(image, name=name, batch=batch, finite=False)
    validate_mask(mask, image, name=mask_name)
    known = torch.where(mask.to(image.device), 0, image)
    validate_image(known, name=name, batch=batch)
    return known


def validate_size(size: tuple[int, int] | None, *, name: str = "size", minimum: int | tuple[int, int] = 1,
                  default: tuple[int, int] | None = None) -> tuple[int, int]:
    """Refuse anything but (height, width), each at least `minimum`; returned as a tuple, the default for `None`.

    >>> labkit.validation.validate_size([4, 5]), labkit.validation.validate_size(None, default=(8, 8))
    ((4, 5), (8, 8))
    >>> labkit.validation.validate_size((4, 0))
    Traceback (most recent call last):
        ...
    ValueError: width is 0; expected a whole number, at least 1
    """
    if size is None and default is not None:
        return default[0], default[1]
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"{name} is {describe(size)}; expected (height, width)")
    minima = minimum if isinstance(minimum, tuple) else (minimum, minimum)
    for side, least, axis in zip(size, minima, ("height", "width")):
        validate_integer(side, name=axis if name == "size" else f"the {axis} of {name}", minimum=least)
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"{name} is {size[0]}×{size[1]}, {size[0] * size[1]} pixels; expected at most {MOST_PIXELS}")
    return size[0], size[1]


def validate_patch_size(patch_size: int, image: Tensor, *, name: str = "image") -> None:
    """Refuse the side of a patch that does not lie inside the image.

    >>> labkit.validation.validate_patch_size(7, torch.zeros(3, 4, 5))
    Traceback (most recent call last):
        ...
    ValueError: patch_size is 7 and image 4×5 pixels; expected a patch that lies inside it
    """
    validate_integer(patch_size, name="patch_size", minimum=1)
    if patch_size > min(image.shape[-2:]):
        raise ValueError(f"patch_size is {patch_size} and {name} {image.shape[-2]}×{image.shape[-1]} pixels; expected a patch "
                         "that lies inside it")


def validate_integer(value: int, *, name: str, minimum: int | None = None, maximum: int | None = None,
                     odd: bool = False, largest: int = MOST) -> None:
    """Refuse anything but a whole number within bounds (and odd, where a centre is needed).

    Without a `maximum`, what is beyond `largest` either way is refused too: it would take all memory, or for ever.

    >>> labkit.validation.validate_integer(4, name="radius", minimum=1)
    >>> labkit.validation.validate_integer(4, name="patch_size", minimum=1, odd=True)
    Traceback (most recent call last):
        ...
    ValueError: patch_size is 4; expected an odd whole number, at least 1
    """
    wanted = f"expected {'an odd' if odd else 'a'} whole number{_bounds(minimum, maximum)}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} is {describe(value)}; {wanted}")
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum) or (odd and value % 2 == 0):
        raise ValueError(f"{name} is {value}; {wanted}")
    if maximum is None and abs(value) > largest:
        wanted = f"expected {'an odd' if odd else 'a'} whole number{_bounds(-largest if minimum is None else minimum, largest)}"
        raise ValueError(f"{name} is {value}; {wanted}")


def validate_seed(seed: int, *, name: str = "seed") -> None:
    """Refuse anything but a whole number from 0 on that 63 bits hold.

    >>> labkit.validation.validate_seed(-1)
    Traceback (most recent call last):
        ...
    ValueError: seed is -1; expected a whole number, at least 0
    """
    validate_integer(seed, name=name, minimum=0, largest=LARGEST_INTEGER)


def validate_number(value: float, *, name: str, minimum: float | None = None, maximum: float | None = None,
                    above: float | None = None) -> None:
    """Refuse anything but a finite number within bounds (`above` is a bound that is itself excluded).

    >>> labkit.validation.validate_number(0.0, name="sigma", above=0)
    Traceback (most recent call last):
        ...
    ValueError: sigma is 0.0; expected a finite number above 0
    """
    wanted = f"expected a finite number{'' if above is None else f' above {above}'}{_bounds(minimum, maximum)}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} is {describe(value)}; {wanted}")
    finite = abs(int(value)) <= sys.float_info.max if isinstance(value, Integral) else math.isfinite(value)
    if not finite or (minimum is not None and value < minimum) or (maximum is not None and value > maximum) \
            or (above is not None and value <= above):
        raise ValueError(f"{name} is {value}; {wanted}")


def validate_text(value: str, *, name: str, empty: bool = True) -> None:
    """Refuse anything but a text (with more than blanks in it unless it may be `empty`).

    >>> labkit.validation.validate_text(7, name="caption")
    Traceback (most recent call last):
        ...
    ValueError: caption is int 7; expected a text
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {describe(value)}; expected a text")
    if not empty and not value.strip():
        raise ValueError(f"{name} is empty; expected a text")


def validate_several(values: object, *, name: str, of: str = "pictures") -> None:
    """Refuse what cannot be gone through one by one, such as a number, or is itself a text.

    >>> labkit.validation.validate_several(None, name="images")
    Traceback (most recent call last):
        ...
    ValueError: images is NoneType None; expected several pictures
    """
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)) or (isinstance(values, Tensor) and values.ndim == 0):
        raise ValueError(f"{name} is {describe(values)}; expected several {of}")


def validate_callback(callback: object, *, name: str = "callback") -> None:
    """Refuse what can not be called, other than `None`.

    >>> labkit.validation.validate_callback(3)
    Traceback (most recent call last):
        ...
    ValueError: callback is int 3; expected a function or None
    """
    if callback is not None and not callable(callback):
        raise ValueError(f"{name} is {describe(callback)}; expected a function or None")


def validate_choice(value: str, *, name: str, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of the given words.

    >>> labkit.validation.validate_choice("mirror", name="border", choices=("reflect", "zero"))
    Traceback (most recent call last):
        ...
    ValueError: border is 'mirror'; expected one of 'reflect', 'zero'
    """
    if hasattr(value, "shape") or value not in choices:
        raise ValueError(f"{name} is {describe(value) if hasattr(value, 'shape') else repr(value)}; expected one of {', '.join(map(repr, choices))}")


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum} to {maximum}"
    if minimum is not None:
        return f", at least {minimum}"
    return "" if maximum is None else f", at most {maximum}"
