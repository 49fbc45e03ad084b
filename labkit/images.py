"""Pictures in and out, and what is done to a picture as a whole: sizes, borders, colours, noise.

The convention of the whole package: an image is a floating-point torch tensor `(C, H, W)` with values in `[0, 1]`,
a batch is `(N, C, H, W)`, a video `(T, C, H, W)`. NumPy `(H, W, C)` arrays and files exist only in this module.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import runtime
from labkit.validation import (describe, size_of, validate_choice, validate_image, validate_integer, validate_number,
                               validate_size)

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["add_gaussian_noise", "add_poisson_noise", "add_salt_and_pepper_noise", "crop", "data_folder", "from_array",
           "from_lab", "from_ycbcr", "load", "load_clip", "match_colors", "names", "pad", "resize", "save", "tile",
           "to_array", "to_bytes", "to_grey", "to_lab", "to_pixels", "to_ycbcr"]


def __dir__() -> list[str]:
    return __all__


# scikit-image's photographs that lie inside its installed package: name -> file
_PHOTOGRAPHS = {name: f"{name}.png" for name in ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel",
                                                 "motorcycle_left", "motorcycle_right")}
_PHOTOGRAPHS |= {"immunohistochemistry": "ihc.png", "rocket": "rocket.jpg"}
_PAD_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "periodic": "wrap", "zero": "constant"}


# --- loading and saving ---------------------------------------------------------------------------------------------

def data_folder() -> Path:
    """The folder of the course's own pictures: `$LABKIT_DATA`, the repository's `data`, or the installed copy.

    >>> labkit.images.data_folder().joinpath("textures", "pebbles.png").is_file()
    True
    """
    package = Path(__file__).resolve().parent
    places = [Path(os.environ["LABKIT_DATA"])] if os.environ.get("LABKIT_DATA") else []
    places += [package.parent / "data", package / "_data"]
    for place in places:
        if (place / "textures").is_dir():
            return place
    raise FileNotFoundError("the course's pictures were not found in " + ", ".join(map(str, places))
                            + "; set LABKIT_DATA to the folder that holds `textures`")


def names() -> list[str]:
    """The bundled pictures that `load` knows by name: scikit-image's photographs and the course's own.

    >>> [name for name in labkit.images.names() if name.startswith("c")]
    ['camera', 'cat', 'chelsea', 'cloth', 'coffee']
    """
    return sorted({*_PHOTOGRAPHS, *_own_pictures()})


def load(source: str | os.PathLike | np.ndarray, *, size: int | tuple[int, int] | None = None,
         grey: bool = False) -> Tensor:
    """Read a picture as a float32 tensor `(C, H, W)` in `[0, 1]`.

    >>> labkit.images.load("pebbles", size=(48, 64)).shape
    torch.Size([3, 48, 64])
    >>> labkit.images.load("camera", size=100).shape
    torch.Size([1, 100, 100])

    Parameters
    ----------
    source : a path to any file Pillow reads (turned upright by its EXIF tag, transparency composited on white), one of
        `names()`, or a NumPy array `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`. Integers are divided by the largest
        value of their type, floats are taken as they are. Files of one channel keep 16 and 32 bits, those in colour 16
        where they are a still PNG or a TIFF, and 8 elsewhere.
    size : `(height, width)` to resize to, or the length of the longer side; `None` keeps the size.
    grey : one channel (ITU-R 601 luma) instead of what the file has.

    Raises
    ------
    FileNotFoundError : neither a bundled name nor a file; the message names both.
    ValueError : a file that is not a picture, or an array that is none; the message names it and the reason.
    """
    if isinstance(source, np.ndarray):
        image = from_array(source)
    elif isinstance(source, (str, os.PathLike)):
        image = _load_named(os.fspath(source))
    else:
        raise ValueError(f"source is {describe(source)}; expected a path, a bundled name or a NumPy array")
    if grey:
        image = to_grey(image)
    if size is not None:
        height, width = image.shape[-2:]
        if not isinstance(size, (tuple, list)):
            validate_integer(size, name="size", minimum=1)
            longest = max(height, width)
            size = (max(1, round(height * size / longest)), max(1, round(width * size / longest)))
        image = resize(image, size=size)
    return image


def load_clip(name: str | os.PathLike) -> Tensor:
    """Read a short video as a float32 tensor `(T, C, H, W)`: one of the course's clips by name, or any animated picture.

    Every frame, or page of a TIFF file, is read as `load` reads a picture; grey ones become colour where others are.

    >>> labkit.images.load_clip("fire").shape
    torch.Size([24, 3, 64, 64])

    Raises
    ------
    FileNotFoundError, ValueError : as `load`; and ValueError for frames of different size.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ValueError(f"name is {describe(name)}; expected a path or the name of a clip")
    path = Path(os.fspath(name))
    own = data_folder() / "clips" / f"{path}.png"
    path = own if own.is_file() else path
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (data_folder() / "clips").glob("*.png")))
        raise FileNotFoundError(f"no clip and no file is called {os.fspath(name)!r}; the clips are {known}")
    frames = _read(path, clip=True)
    for number, frame in enumerate(frames):
        if frame.shape[1:] != frames[0].shape[1:]:
            raise ValueError(f"{path} could not be read as a clip: frame 0 is {tuple(frames[0].shape[1:])} and frame {number} "
                             f"{tuple(frame.shape[1:])} pixels (height, width); expected frames of one size")
    channels = max(len(frame) for frame in frames)
    return torch.stack([frame.expand(channels, -1, -1) for frame in frames])


def _own_pictures() -> dict[str, Path]:
    folder = data_folder()
    return {path.stem: path for part in (".", "textures", "drawings") for path in sorted((folder / part).glob("*.png"))}


def _load_named(name: str) -> Tensor:
    if Path(name).is_file():
        return _load_file(Path(name))
    if name in _PHOTOGRAPHS:
        import skimage

        return _load_file(Path(skimage.__file__).parent / "data" / _PHOTOGRAPHS[name])
    own = _own_pictures()
    if name in own:
        return _load_file(own[name])
    raise FileNotFoundError(f"no file and no bundled picture is called {name!r}; the bundled ones are "
                            + ", ".join(names()))


def _load_file(path: Path) -> Tensor:
    return _read(path, clip=False)[0]


def _read(path: Path, *, clip: bool) -> list[Tensor]:
    """The frames of a file, each as an image: all of a clip, otherwise the first."""
    from PIL import Image, UnidentifiedImageError

    kind = "clip" if clip else "picture"
    try:
        with Image.open(path) as file:
            if not clip:
                return [_frame(file, path)]
            # the first picture of some animated PNGs is for readers that know no animation, and no frame of it
            number_of_frames, frames = getattr(file, "n_frames", 1), []
            for number in range(1 if file.info.get("default_image") and number_of_frames > 1 else 0, number_of_frames):
                file.seek(number)
                frames.append(_frame(file, path))
            return frames
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that Pillow can read; expected a PNG, JPEG, TIFF file or the like") from error
    except Exception as error:      # a decoder raises what it likes: struct.error, KeyError, EOFError, ...
        raise ValueError(f"{path} could not be read as a {kind}: {error or type(error).__name__}") from error


def _frame(file: Any, path: Path) -> Tensor:
    """The frame at which an open file stands: upright, transparency composited on white."""
    from PIL import Image, ImageOps

    if file.format == "TIFF" and file.tile and file.tile[0][0] == "libtiff" and sys.byteorder == "little":
        native = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}.get(_layout(file) or "")
        if native:      # libtiff has turned the bytes already, and Pillow would turn them again
            _unpacked_as(file, native)
    # what only the file knows, and no longer the picture made of it
    integers, deep, page, transparent = _integers(file), _colours_of_16_bits(file), file.tell(), _transparent(file)
    picture = ImageOps.exif_transpose(file)
    if deep is not None:
        return _on_white(_high_and_low(picture, path, page, deep), transparent)
    if integers is not None:
        return _on_white(integers.scaled(np.asarray(picture)), transparent)
    if picture.mode == "F":
        return from_array(np.asarray(picture))
    if picture.has_transparency_data:
        picture.info["transparency"] = transparent
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return from_array(np.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB")))


class _Integers(NamedTuple):
    """How a file of one channel stores integers of more than 8 bits."""

    dtype: np.dtype
    white: int
    inverted: bool = False

    def scaled(self, array: np.ndarray) -> np.ndarray:
        array = array.astype(self.dtype)        # Pillow has signed ones only: of 32 bits, the upper half comes as negative
        return _of_white(self.white - array if self.inverted else array, self.white)


def _integers(file: Any) -> _Integers | None:
    if file.mode != "I" and not file.mode.startswith("I;16"):
        return None
    if file.format == "TIFF":
        bits, sign = file.tag_v2[258][0], file.tag_v2.get(339, (1,))[0]       # BitsPerSample, SampleFormat: 2 is signed
        dtype = np.dtype(f"{'int' if sign == 2 else 'uint'}{16 if bits <= 16 else 32}")
        return _Integers(dtype, 2 ** (bits - (sign == 2)) - 1, inverted=file.tag_v2.get(262) == 0)    # WhiteIsZero
    if file.mode == "I" and file.format not in ("PNG", "PPM"):                # these two have at most 16 bits
        return _Integers(np.dtype(np.int32), 2 ** 31 - 1)
    return _Integers(np.dtype(np.uint16), 2 ** 16 - 1)


def _transparent(file: Any) -> Any:
    """What a file says of transparency; the one grey of a PNG on the scale of the 8 bits that Pillow makes of 2 or 4."""
    said = file.info.get("transparency")
    largest = {"L;2": 3, "L;4": 15}.get(_layout(file) or "") if file.format == "PNG" else None
    return said if largest is None or said is None else said * 255 // largest


def _colours_of_16_bits(file: Any) -> str | None:
    """The layout of the colours of a still PNG or a TIFF file of 16 bits, of which Pillow keeps 8; otherwise `None`."""
    if file.format not in ("PNG", "TIFF") or (file.format == "PNG" and getattr(file, "is_animated", False)):
        return None
    layout = _layout(file)
    return layout if layout in {f"{mode};16{order}" for mode in ("RGB", "RGBX", "RGBA", "LA") for order in "BLN"} else None


def _high_and_low(high: Picture, path: Path, page: int, layout: str) -> np.ndarray:
    """Colours of 16 bits, (H, W, C): Pillow keeps the high bytes, and the low ones when told that their order is the other."""
    from PIL import Image, ImageOps

    mode, order = layout[:-1].split(";16")[0], layout[-1]
    if mode == "LA":        # four bytes a pixel, as RGBA has
        layout = "RGBA"
    else:
        layout = f"{mode};16{'L' if order == 'B' or (order == 'N' and sys.byteorder == 'big') else 'B'}"
    with Image.open(path) as file:
        file.seek(page)
        _unpacked_as(file, layout)
        low = np.asarray(ImageOps.exif_transpose(file)).astype(np.uint16)
    if mode == "LA":
        grey, alpha = low[..., 0] * 256 + low[..., 1], low[..., 2] * 256 + low[..., 3]
        return np.stack([grey, grey, grey, alpha], axis=-1)
    return np.asarray(high).astype(np.uint16) * 256 + low


def _layout(file: Any) -> str | None:
    """How Pillow is to unpack an open file's pixels, in its words; `None` where it has no plain pixels."""
    arguments = file.tile[0][3] if file.tile else None
    layout = arguments[0] if isinstance(arguments, tuple) else arguments
    return layout if isinstance(layout, str) else None


def _unpacked_as(file: Any, layout: str) -> None:
    """Have an open file's pixels unpacked otherwise."""
    for number, tile in enumerate(file.tile):
        arguments: Any = layout if isinstance(tile[3], str) else (layout, *tile[3][1:])
        file.tile[number] = tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)


def _on_white(array: np.ndarray, transparent: int | tuple[int, ...] | None) -> Tensor:
    """An image of values of more than 8 bits; pixels of the colour that its file calls transparent are white."""
    image = from_array(array)
    if transparent is None or array.shape[2:] == (4,):
        return image
    clear = torch.tensor(transparent).reshape(-1, 1, 1) / 65535 == image
    return image.masked_fill(clear.all(dim=0), 1.0)


def from_array(array: np.ndarray) -> Tensor:
    """Turn a NumPy array `(H, W)` or `(H, W, C)` into an image. The array is copied. Alpha is composited on white.

    >>> import numpy as np
    >>> labkit.images.from_array(np.array([[0, 51, 255]], dtype=np.uint8))
    tensor([[[0.0000, 0.2000, 1.0000]]])

    Raises
    ------
    ValueError : wrong rank, number of channels or type, a value that is not finite, or integers of more than 16 bits so small
        that they would be black.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise ValueError(f"array has shape {array.shape}; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if array.dtype == bool:
        array = array.astype(np.float32)
    elif np.issubdtype(array.dtype, np.integer):
        array = _of_white(array, np.iinfo(array.dtype).max)
    elif not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"array has dtype {array.dtype}; expected integers, floats or booleans")
    image = torch.from_numpy(np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C"))
    if image.shape[0] == 4:
        image = image[:3] * image[3:] + (1 - image[3:])
    validate_image(image, name="array")
    return image


def _of_white(array: np.ndarray, white: int) -> np.ndarray:
    """Integers as shares of white; refused where more than 16 bits were kept for less than the first of 256 levels."""
    largest = int(array.max())
    if white > 65535 and 0 < largest < white // 256:
        raise ValueError(f"array holds integers up to {largest}, which would be black: white is {white}, the largest of their type; "
                         "expected integers of 8 or 16 bits, or floats in [0, 1]")
    return array.astype(np.float32) / white


def to_array(image: Tensor) -> np.ndarray:
    """Turn an image `(C, H, W)` into a NumPy array `(H, W, C)`, or `(H, W)` where it is grey; nothing is clipped.

    >>> labkit.images.to_array(torch.zeros(3, 4, 5)).shape
    (4, 5, 3)
    """
    validate_image(image, batch=False)
    known = image if image.dtype in (torch.float16, torch.float32, torch.float64) else image.float()    # to NumPy
    array = known.detach().cpu().numpy().transpose(1, 2, 0)
    return array[..., 0] if array.shape[2] == 1 else array


def to_pixels(image: Tensor) -> np.ndarray:
    """8-bit pixels `(H, W)` or `(H, W, 3)` of an image of 1 or 3 channels, clipped to `[0, 1]` and rounded.

    >>> labkit.images.to_pixels(torch.tensor([[[-0.1, 0.2, 1.0]]]))
    array([[  0,  51, 255]], dtype=uint8)
    """
    validate_image(image, channels=(1, 3), batch=False)
    pixels = image.detach().cpu().float().numpy()   # NumPy: small torch operations wait for their threads on busy cores
    pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)


def to_bytes(image: Tensor, format: str = "png") -> bytes:
    """The image as a file in memory: `"png"` (exact to 8 bits) or `"jpeg"` (quality 90, smaller).

    >>> labkit.images.to_bytes(torch.zeros(1, 4, 5), "jpeg")[6:10]
    b'JFIF'
    """
    from PIL import Image

    validate_choice(format, name="format", choices=("png", "jpeg"))
    file = io.BytesIO()
    options = {"compress_level": 1} if format == "png" else {"quality": 90}
    Image.fromarray(to_pixels(image)).save(file, format=format, **options)
    return file.getvalue()


def save(image: Tensor, path: str | os.PathLike) -> None:
    """Write an image of 1 or 3 channels to a file; the ending of its name picks the format.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "grey.png")
    ...     labkit.images.save(torch.full((1, 2, 2), 0.2), path)
    ...     print(labkit.images.load(path))
    tensor([[[0.2000, 0.2000],
             [0.2000, 0.2000]]])

    Raises
    ------
    ValueError : no image, an ending that no format has, or a format that cannot be written or does not take this image.
    """
    from PIL import Image

    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"path is {describe(path)}; expected the path of a file")
    ending = Path(path).suffix
    format = Image.registered_extensions().get(ending.lower())
    if format is None:
        raise ValueError(f"path ends in {ending!r}, which names no picture format; expected .png or .jpg")
    if format not in Image.SAVE:
        raise ValueError(f"path ends in {ending!r}, a format that Pillow reads but does not write; expected .png or .jpg")
    picture, file = Image.fromarray(to_pixels(image)), io.BytesIO()
    try:
        picture.save(file, format=format)
    except Exception as error:      # an encoder raises what it likes, for a mode or a size that its format does not have
        raise ValueError(f"image is {describe(image)}, which Pillow does not write as {ending!r} ({error}); expected .png or .jpg"
                         ) from error
    Path(path).write_bytes(file.getvalue())


# --- sizes and borders ----------------------------------------------------------------------------------------------

def resize(image: Tensor, *, size: tuple[int, int] | None = None, scale: float | None = None) -> Tensor:
    """Resize by anti-aliased bicubic interpolation, clipped to the range of the input (bicubic overshoots).

    >>> labkit.images.resize(torch.ones(3, 30, 40), scale=0.5).shape
    torch.Size([3, 15, 20])
    >>> labkit.images.resize(torch.ones(3, 30, 40), size=(10, 12)).shape
    torch.Size([3, 10, 12])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W).
    size : the new (height, width); or
    scale : the factor on both sides.
    """
    validate_image(image)
    if (size is None) == (scale is None):
        raise ValueError(f"size is {size} and scale is {scale}; expected exactly one of the two")
    if scale is not None:
        validate_number(scale, name="scale", above=0)
        height, width = size_of(image)
        size = max(1, round(height * scale)), max(1, round(width * scale))
    size = validate_size(size)
    batch = image if image.ndim == 4 else image[None]
    working = batch if batch.dtype == torch.float64 else batch.float()
    result = F.interpolate(working, size=size, mode="bicubic", antialias=True, align_corners=False)
    result = result.clamp(float(image.min()), float(image.max())).to(image.dtype)
    return result if image.ndim == 4 else result[0]


def crop(image: Tensor, *, row: int, column: int, height: int, width: int) -> Tensor:
    """The part of an image whose top-left pixel is `(row, column)`, as a copy.

    >>> image = torch.arange(12.0).reshape(1, 3, 4)
    >>> labkit.images.crop(image, row=1, column=2, height=2, width=2)
    tensor([[[ 6.,  7.],
             [10., 11.]]])

    Raises
    ------
    ValueError : the part does not lie inside the image.
    """
    validate_image(image)
    rows, columns = image.shape[-2:]
    validate_integer(row, name="row", minimum=0, maximum=rows - 1)
    validate_integer(column, name="column", minimum=0, maximum=columns - 1)
    validate_integer(height, name="height", minimum=1, maximum=rows - row)
    validate_integer(width, name="width", minimum=1, maximum=columns - column)
    return image[..., row:row + height, column:column + width].clone()


def pad(image: Tensor, *, amount: int, border: str) -> Tensor:
    """Continue an image by `amount` pixels on all four sides.

    >>> line = torch.tensor([[[1.0, 2.0, 3.0]]])
    >>> labkit.images.pad(line, amount=2, border="reflect")[0, 2]
    tensor([3., 2., 1., 2., 3., 2., 1.])
    >>> labkit.images.pad(line, amount=2, border="periodic")[0, 2]
    tensor([2., 3., 1., 2., 3., 1., 2.])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W).
    amount : how many pixels, at least 0; it may exceed the size of the image.
    border : `"reflect"` mirrors at the centre of the edge pixel, which is not repeated (dcb|abcd|cba), the discrete
        Neumann condition used here; `"replicate"` repeats the edge pixel (aaa|abcd|ddd); `"periodic"` wraps around
        (bcd|abcd|abc); `"zero"` is Dirichlet's (000|abcd|000).
    """
    validate_image(image)
    validate_integer(amount, name="amount", minimum=0)
    validate_choice(border, name="border", choices=tuple(_PAD_MODES))
    height, width = size_of(image)
    validate_size((height + 2 * amount, width + 2 * amount), name="the padded image")
    if amount == 0:
        return image.clone()
    if border == "zero":
        return F.pad(image, (amount,) * 4)
    rows, columns = (torch.from_numpy(np.pad(np.arange(side), amount, mode=_PAD_MODES[border])).to(image.device)
                     for side in image.shape[-2:])
    return image.index_select(-2, rows).index_select(-1, columns)


def tile(images: list[Tensor] | Tensor, *, columns: int | None = None, gap: int = 4, background: float = 1.0) -> Tensor:
    """Lay images of one size out in a grid, row by row, as one image.

    >>> labkit.images.tile([torch.zeros(3, 8, 10)] * 3, columns=2, gap=4).shape
    torch.Size([3, 20, 24])

    Parameters
    ----------
    images : a list of (C, H, W) images, or a batch.
    columns : how many side by side; `None` puts all in one row.
    gap : pixels between them. background : the value of the gaps and of empty places.
    """
    if not isinstance(images, Iterable) or isinstance(images, Tensor) and images.ndim == 0:
        raise ValueError(f"images is {describe(images)}; expected a list of images (C, H, W), or a batch")
    images = list(images)
    if not images:
        raise ValueError("images is empty; expected at least one")
    for number, image in enumerate(images):
        validate_image(image, name=f"images[{number}]", batch=False)
        if image.shape[-2:] != images[0].shape[-2:]:
            raise ValueError(f"images[{number}] is {tuple(image.shape)}; expected the size of images[0], "
                             f"{tuple(images[0].shape)}")
    columns = len(images) if columns is None else columns
    validate_integer(columns, name="columns", minimum=1)
    validate_integer(gap, name="gap", minimum=0)
    validate_number(background, name="background", minimum=-1e6, maximum=1e6)
    channels, (height, width) = max(image.shape[0] for image in images), images[0].shape[-2:]
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    size = validate_size((rows * (height + gap) - gap, columns * (width + gap) - gap), name="the sheet")
    sheet = images[0].new_full((channels, *size), background)
    for number, image in enumerate(images):
        y, x = number // columns * (height + gap), number % columns * (width + gap)
        sheet[:, y:y + height, x:x + width] = image
    return sheet


# --- colours --------------------------------------------------------------------------------------------------------

def to_grey(image: Tensor) -> Tensor:
    """One channel, the ITU-R BT.601 luma 0.299 R + 0.587 G + 0.114 B; a grey image is copied.

    >>> labkit.images.to_grey(torch.tensor([1.0, 0.5, 0.0]).reshape(3, 1, 1))
    tensor([[[0.5925]]])
    """
    validate_image(image, channels=(1, 3))
    if image.shape[-3] == 1:
        return image.clone()
    return torch.einsum("...chw,c->...hw", image, image.new_tensor([0.299, 0.587, 0.114])).unsqueeze(-3)


def to_ycbcr(image: Tensor) -> Tensor:
    """RGB to full-range YCbCr (JPEG's), Cb and Cr shifted by 0.5 so that all three lie in `[0, 1]`.

    >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
    >>> labkit.images.to_ycbcr(red).flatten()
    tensor([0.2990, 0.3313, 1.0000])
    """
    validate_image(image, channels=(3,))
    luma = to_grey(image)
    red, blue = image[..., 0:1, :, :], image[..., 2:3, :, :]
    return torch.cat([luma, (blue - luma) / 1.772 + 0.5, (red - luma) / 1.402 + 0.5], dim=-3)


def from_ycbcr(image: Tensor) -> Tensor:
    """Full-range YCbCr back to RGB, the inverse of `to_ycbcr`; nothing is clipped.

    >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
    >>> torch.allclose(labkit.images.from_ycbcr(labkit.images.to_ycbcr(red)), red, atol=1e-6)
    True
    """
    validate_image(image, channels=(3,))
    luma, blue, red = (image[..., k:k + 1, :, :] for k in range(3))
    red = luma + 1.402 * (red - 0.5)
    blue = luma + 1.772 * (blue - 0.5)
    return torch.cat([red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue], dim=-3)


_RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)   # D65, 2° observer


def to_lab(image: Tensor) -> Tensor:
    """sRGB to CIE L*a*b* (D65): L in [0, 100], a and b about [-128, 127]. The one function that leaves `[0, 1]`.

    >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
    >>> labkit.images.to_lab(red).flatten().round(decimals=2)
    tensor([53.2400, 80.0900, 67.2000])
    """
    validate_image(image, channels=(3,))
    linear = torch.where(image > 0.04045, ((image.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, image / 12.92)
    matrix = image.new_tensor(_RGB_TO_XYZ) / image.new_tensor(_WHITE)[:, None]
    xyz = torch.einsum("...chw,dc->...dhw", linear, matrix)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = (root[..., k:k + 1, :, :] for k in range(3))
    return torch.cat([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def from_lab(lab: Tensor) -> Tensor:
    """CIE L*a*b* (D65) back to sRGB, the inverse of `to_lab`; colours outside sRGB are clipped to `[0, 1]`.

    >>> labkit.images.from_lab(torch.tensor([53.24, 80.09, 67.20]).reshape(3, 1, 1)).flatten().round(decimals=2)
    tensor([1., 0., 0.])
    """
    validate_image(lab, name="lab", channels=(3,))
    y = (lab[..., 0:1, :, :] + 16) / 116
    root = torch.cat([y + lab[..., 1:2, :, :] / 500, y, y - lab[..., 2:3, :, :] / 200], dim=-3)
    xyz = torch.where(root > 0.2068966, root ** 3, (root - 16 / 116) / 7.787)
    matrix = torch.linalg.inv(lab.new_tensor(_RGB_TO_XYZ).double()) * torch.tensor(_WHITE, dtype=torch.float64,
                                                                                  device=lab.device)
    linear = torch.einsum("...chw,dc->...dhw", xyz, matrix.to(lab.dtype))
    gamma = torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return gamma.clamp(0, 1)


def match_colors(image: Tensor, *, reference: Tensor) -> Tensor:
    """The image with the mean and covariance of another's colours, by the linear map that moves colours least.

    It is the optimal transport between two Gaussians that have these means and covariances.

    >>> image, reference = (torch.rand(3, 8, 8, generator=labkit.runtime.generator(seed)) for seed in (0, 1))
    >>> matched = labkit.images.match_colors(image / 2, reference=reference / 2)
    >>> torch.allclose(matched.mean((1, 2)), reference.mean((1, 2)) / 2, atol=0.02)    # clipped to the range of the reference
    True

    Parameters
    ----------
    image, reference : (C, H, W), (C, h, w).

    Returns
    -------
    Tensor of the image's shape, dtype and device, clipped to the reference's range of values.

    Raises
    ------
    ValueError : no images, or different numbers of channels.

    References
    ----------
    Pitié, Kokaram, "The linear Monge–Kantorovitch linear colour mapping for example-based colour transfer", CVMP 2007.
    """
    validate_image(image, batch=False)
    validate_image(reference, name="reference", batch=False)
    if image.shape[0] != reference.shape[0]:
        raise ValueError(f"image is {describe(image)} and reference {describe(reference)}; expected as many channels")
    pixels, wanted = (picture.detach().double().flatten(1) for picture in (image, reference.to(image.device)))
    root, wanted_covariance = _square_root(_covariance(pixels)), _covariance(wanted)
    inverse = torch.linalg.pinv(root, hermitian=True, rtol=1e-6)        # of a colour that does not vary: 0
    transport = inverse @ _square_root(root @ wanted_covariance @ root) @ inverse
    moved = transport @ (pixels - pixels.mean(1, keepdim=True)) + wanted.mean(1, keepdim=True)
    return moved.clamp(*map(float, torch.aminmax(wanted))).reshape(image.shape).to(image)


def _covariance(pixels: Tensor) -> Tensor:
    """(C, C) of colours (C, number)."""
    return torch.cov(pixels, correction=0).reshape(len(pixels), -1)


def _square_root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


# --- noise ----------------------------------------------------------------------------------------------------------

def add_gaussian_noise(image: Tensor, *, sigma: float, seed: int = 0) -> Tensor:
    """Add white Gaussian noise of standard deviation `sigma` (25/255 is the usual test); nothing is clipped.

    >>> noisy = labkit.images.add_gaussian_noise(torch.full((1, 100, 100), 0.5), sigma=0.1, seed=3)
    >>> round(float(noisy.mean()), 2), round(float(noisy.std()), 2)
    (0.5, 0.1)
    """
    validate_image(image)
    validate_number(sigma, name="sigma", minimum=0)
    noise = torch.randn(image.shape, generator=runtime.generator(seed))
    return image + sigma * noise.to(image)


def add_poisson_noise(image: Tensor, *, peak: float, seed: int = 0) -> Tensor:
    """Photon noise: a pixel of value v becomes Poisson(peak · v) / peak, so `peak` is the count of photons in white.

    >>> noisy = labkit.images.add_poisson_noise(torch.full((1, 100, 100), 0.5), peak=50, seed=3)
    >>> round(float(noisy.mean()), 2), round(float(noisy.var()), 2)   # the variance of v is v / peak
    (0.5, 0.01)
    """
    validate_image(image)
    validate_number(peak, name="peak", above=0)
    if float(image.min()) < 0:
        raise ValueError(f"image has a smallest value of {float(image.min()):.3g}; expected none below 0 (light)")
    return (torch.poisson(image.cpu().double() * peak, generator=runtime.generator(seed)) / peak).to(image)


def add_salt_and_pepper_noise(image: Tensor, *, amount: float, seed: int = 0) -> Tensor:
    """Turn a share `amount` of the pixels to black or white, as often one as the other, all channels together.

    >>> noisy = labkit.images.add_salt_and_pepper_noise(torch.full((1, 100, 100), 0.5), amount=0.2, seed=3)
    >>> [round(float((noisy == value).float().mean()), 1) for value in (0.0, 0.5, 1.0)]
    [0.1, 0.8, 0.1]
    """
    validate_image(image)
    validate_number(amount, name="amount", minimum=0, maximum=1)
    draw = torch.rand((*image.shape[:-3], 1, *image.shape[-2:]), generator=runtime.generator(seed)).to(image.device)
    black, white = draw < amount / 2, (draw >= amount / 2) & (draw < amount)
    return image.masked_fill(black, 0.0).masked_fill(white, 1.0)
