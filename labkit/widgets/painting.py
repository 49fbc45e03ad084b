"""Draw a rough painting in a picture's colours, and see what a method makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from labkit import figures, images
from labkit.validation import describe, validate_image, validate_integer
from labkit.widgets.base import PictureWidget, note_html, script, zoom
from labkit.widgets.maker import Maker
from labkit.widgets.pictures import Picture
from labkit.widgets.uploads import reduced

__all__ = ["Canvas", "Painter", "color_names", "main_colors", "rough_painting"]

Generate = Callable[[Tensor], Tensor]
ROOM, ASIDE = 380, 180   # screen pixels: painting and result, and the picture that the colours come from
LARGEST = 256            # longer side of a painting, in pixels: each stroke sends it to Python
SHADES = 1024            # pixels of the picture among which its main colours are looked for
BLOBS = 12               # details of the picture that the first painting keeps, along its longer side
# for the name of a colour: the nearest of these
NAMES = {"black": 0x101010, "dark grey": 0x454545, "grey": 0x808080, "light grey": 0xc0c0c0, "white": 0xfafafa,
         "dark red": 0x7a1212, "red": 0xd02020, "pink": 0xf0a0b0, "dark brown": 0x4a2c16, "brown": 0x8b5a2b,
         "light brown": 0xb98a5e, "beige": 0xe0cba8, "orange": 0xf08020, "yellow": 0xf0d820, "olive": 0x6b7020,
         "dark green": 0x1e4d20, "green": 0x30a030, "light green": 0x9fd08a, "teal": 0x1f7f7f, "turquoise": 0x50d0c8,
         "dark blue": 0x17285e, "blue": 0x2a5fc8, "light blue": 0x8fbfe8, "purple": 0x6a2a8a, "lilac": 0xb8a0d8,
         "magenta": 0xd040b0}


class Canvas(PictureWidget):
    """A picture to paint on in given colours, by mouse, touch or keyboard.

    Arrow keys move the brush, Space puts it down or lifts it, the digits choose a colour, Ctrl+Z takes a stroke back.

    Parameters
    ----------
    painting : (C, H, W) image of 1 or 3 channels, what is painted at first.
    palette : (K, 3) colours in [0, 1], at most nine.
    alt, caption, scale : as for `Picture`.
    radius : of the brush, in pixels, from 0 (one pixel) to 40.

    Attributes
    ----------
    painting : what is painted, to 8 bits; can be set. `observe` the trait `pixels` to follow strokes.
    color : the number of the chosen colour, from 0. radius : of the brush.

    Examples
    --------
    >>> canvas = Canvas(torch.zeros(3, 20, 30), palette=torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), alt="Black.")
    >>> [name for _, name in canvas.palette]
    ['black', 'white']
    """

    _esm = script("strokes.js", "canvas.js")
    # the browser sends a memoryview, which `Bytes` would refuse
    pixels = traitlets.CBytes(help="the painting, red, green and blue of each pixel, row by row").tag(sync=True)
    palette: traitlets.List = traitlets.List(help="of each colour, [its CSS name, its English name]").tag(sync=True)
    color = traitlets.Int(0).tag(sync=True)
    radius = traitlets.Int(8).tag(sync=True)

    def __init__(self, painting: Tensor, *, palette: Tensor, alt: str, caption: str = "", scale: float | None = None,
                 radius: int = 8):
        validate_image(painting, name="painting", channels=(1, 3), batch=False)
        validate_integer(radius, name="radius", minimum=0, maximum=40)
        if not isinstance(palette, Tensor) or palette.ndim != 2 or palette.shape[1] != 3 or not 1 <= len(palette) <= 9:
            raise ValueError(f"palette is {describe(palette)}; expected a tensor (K, 3) of one to nine colours")
        levels = (palette * 255).round().int().tolist()
        super().__init__(painting, alt=alt, caption=caption, scale=scale, radius=radius, pixels=_bytes(painting),
                         palette=[["#" + "".join(f"{value:02x}" for value in levels[k]), name]
                                  for k, name in enumerate(color_names(palette))])

    @property
    def painting(self) -> Tensor:
        values = torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).reshape(*self.size, 3)
        painted = values.permute(2, 0, 1).to(self.image) / 255
        return painted if len(self.image) == 3 else images.to_grey(painted)

    @painting.setter
    def painting(self, painting: Tensor) -> None:
        validate_image(painting, name="painting", channels=(1, 3), batch=False)
        if tuple(painting.shape[-2:]) != self.size:
            raise ValueError(f"painting has {describe(painting)}; expected {self.size[0]}×{self.size[1]} pixels")
        self.pixels = _bytes(painting)

    def still(self) -> figures.Figure:
        return figures.show(self.painting, alt=self.alt, caption=self.caption, width=self.shown_width)


class Painter(Maker):
    """Draw a rough painting in the main colours of a picture, and call a function on it.

    Parameters
    ----------
    image : (C, H, W) image of 1 or 3 channels, whose colours are painted with; it is shown beside.
    generate : takes the painting, an image with as many channels, and returns an image of any size, or several
        `(N, C, h, w)`. What it raises is shown under the pictures.
    start : the painting at first, (C, h, w); it is used at once. `None` takes the image's own blobs of colour,
        mirrored, on at most 256 pixels.
    colors : how many colours to paint with, at most 9; fewer where the image has fewer.
    upload : let the reader begin with a picture of their own, which is cut to the shape of the painting.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.

    Attributes
    ----------
    canvas : the `Canvas`; its `painting` can be set.
    results : the `Picture` of what was generated last, or of each of several.
    button : the button that generates; `make()` does it from Python.
    made : what `generate` returned last, `None` before its first success.
    error : what `generate` raised last, or `None`.

    Raises
    ------
    ValueError : `image` or `start` is no image, their channels differ, `generate` is no function, or `colors` is not
        from 1 to 9.

    Examples
    --------
    >>> painter = Painter(torch.rand(3, 20, 30), generate=lambda painting: 1 - painting)
    >>> torch.equal(painter.made, 1 - painter.canvas.painting)
    True
    """

    verb, doing, done = "Generate", "Generating", "generated"

    def __init__(self, image: Tensor, *, generate: Generate, start: Tensor | None = None, colors: int = 8,
                 upload: bool = True, alt: str = "A rough painting, and the picture that is made of it.",
                 caption: str = "Paint where what should be, then press Generate."):
        validate_image(image, channels=(1, 3), batch=False)
        validate_integer(colors, name="colors", minimum=1, maximum=9)
        palette = main_colors(image, colors)
        if start is None:
            start = rough_painting(image, palette)
        validate_image(start, name="start", channels=(len(image),), batch=False)
        self._image = image
        super().__init__(generate, name="generate", room=ROOM, icon="paint-brush", upload=upload, alt=alt,
                         tooltip="Make a picture of the painting", caption=caption)
        self.canvas = Canvas(start.to(image), palette=palette, alt=f"{alt} (the painting)", scale=zoom(ROOM, start),
                             radius=max(1, min(40, min(start.shape[-2:]) // 16)))
        self.canvas.observe(self._repainted, names="pixels")
        self._begin(start)
        model = Picture(image, alt=f"{alt} (the picture with these colours)", caption="the picture with these colours",
                        scale=zoom(ASIDE, image), interactive=False)
        self._panels.children = [self.canvas, self._beside, model]
        self.make()

    def _given(self) -> tuple[Tensor]:
        return (self.canvas.painting,)

    def _checked(self, made: Any) -> None:
        validate_image(made, name="what generate returned", channels=(1, 3))

    def _receive(self, file: str, image: Tensor) -> None:
        self.canvas.painting = _cut(image, self.canvas.size)
        self._message.value = note_html(f"{file} is the painting now: paint on, or press Generate.")

    def still(self) -> figures.Figure:
        return self._figure({"painting": self.canvas.painting, "picture with these colours": self._image}, 256)


def main_colors(image: Tensor, count: int) -> Tensor:
    """The main colours of a picture, (K, 3) with K ≤ `count`, from dark to light: k-means in CIE L*a*b*.

    Colours nearer than 6 to one already found, hardly told apart by an eye, are not counted twice.
    """
    lab = images.to_lab(_colored(image)).flatten(1).T.double()
    lab = lab[:: -(-len(lab) // SHADES)]
    centres = lab[(lab - lab.mean(0)).square().sum(1).argmin()][None]
    while len(centres) < count:   # the colour furthest from all that are there
        distance = torch.cdist(lab, centres).amin(1)
        if distance.max() < 6:
            break
        centres = torch.cat([centres, lab[distance.argmax()][None]])
    for _ in range(10):
        nearest = torch.cdist(lab, centres).argmin(1)
        number = torch.bincount(nearest, minlength=len(centres))
        centres = torch.zeros_like(centres).index_add_(0, nearest, lab)[number > 0] / number[number > 0, None]
    return _from_lab(centres[centres[:, 0].argsort()])


def color_names(colors: Tensor) -> list[str]:
    """An English name for each of the colours (K, 3) in [0, 1]."""
    known = torch.tensor([[value >> 16, value >> 8 & 255, value & 255] for value in NAMES.values()]) / 255
    names: Sequence[str] = list(NAMES)
    return [names[k] for k in torch.cdist(_to_lab(colors), _to_lab(known)).argmin(1).tolist()]


def rough_painting(image: Tensor, palette: Tensor) -> Tensor:
    """Blobs of the palette where the picture has such colours, mirrored, so that there is something to see."""
    height, width = reduced(image, LARGEST).shape[-2:]
    coarse = images.resize(reduced(_colored(image), BLOBS), size=(height, width)).flip(-1)
    nearest = torch.cdist(_to_lab(coarse.flatten(1).T), _to_lab(palette)).argmin(1)
    painting = palette[nearest].T.reshape(3, height, width).to(image)
    return painting if len(image) == 3 else images.to_grey(painting)


def _colored(image: Tensor) -> Tensor:
    return image.detach().cpu().float().clamp(0, 1).expand(3, -1, -1)


def _to_lab(colors: Tensor) -> Tensor:
    """CIE L*a*b* of colours (K, 3)."""
    return images.to_lab(colors.float().T[:, :, None])[:, :, 0].T


def _from_lab(lab: Tensor) -> Tensor:
    return images.from_lab(lab.float().T[:, :, None])[:, :, 0].T


def _bytes(painting: Tensor) -> bytes:
    """Red, green and blue of each pixel, row by row."""
    return images.to_pixels(painting.expand(3, -1, -1)).tobytes()


def _cut(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest middle part of the image with the shape of `size`, at that size."""
    height, width = image.shape[-2:]
    share = min(height / size[0], width / size[1])
    rows, columns = (max(1, round(share * side)) for side in size)
    part = images.crop(image, row=(height - rows) // 2, column=(width - columns) // 2, height=rows, width=columns)
    return images.resize(part, size=size)
