"""Paint over what should disappear, and see it filled."""

from __future__ import annotations

import time
from collections.abc import Callable

import ipywidgets
import torch
from torch import Tensor

from labkit import figures, images
from labkit.validation import describe, validate_image, validate_integer, validate_mask
from labkit.widgets.explorer import read_upload
from labkit.widgets.fields import PAIR, zoom
from labkit.widgets.pictures import Brush, Picture
from labkit.widgets.still import Still, complaint, note, words

Fill = Callable[[Tensor, Tensor], Tensor]


def eraser(image: Tensor, *, fill: Fill, mask: Tensor | None = None, size: int | None = None, upload: bool = True,
           alt: str = "A picture to paint a hole on, and the same picture filled.",
           caption: str = "Paint over what should disappear, then press Fill.") -> Eraser:
    """Paint a hole over a picture with a brush, and fill it by a function.

    Parameters
    ----------
    image : (C, H, W) image of 1 or 3 channels.
    fill : takes an image and a mask `(1, H, W)`, `True` where pixels are missing, and returns an image of the same
        shape. What it raises is shown under the pictures.
    mask : what is painted at first; `None` paints an ellipse in the middle. It is filled at once.
    size : longer side, in pixels, that larger pictures (and masks) are reduced to, the reader's own ones too, since
        filling takes its time; `None` takes `image` as it is, and the reader's own at up to 512 pixels.
    upload : let the reader try a picture of their own.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.
    """
    return Eraser(image, fill=fill, mask=mask, size=size, upload=upload, alt=alt, caption=caption)


class Eraser(Still, ipywidgets.VBox):
    """What `eraser` returns.

    Attributes
    ----------
    brush : the `Brush`; its `mask` is the hole and can be set. A reader's own picture has another one.
    result : the `Picture` of what was filled last.
    button : the button that fills; `button.click()` does it from Python.
    filled : the image that `fill` returned last, `None` before its first success.
    error : what `fill` raised last, or `None`.
    """

    def __init__(self, image: Tensor, *, fill: Fill, mask: Tensor | None, size: int | None, upload: bool, alt: str,
                 caption: str):
        validate_image(image, channels=(1, 3), batch=False)
        if not callable(fill):
            raise ValueError(f"fill is {describe(fill)}; expected a function (image, mask) -> image")
        if size is not None:
            validate_integer(size, name="size", minimum=16)
        if mask is None:
            mask = ellipse(*image.shape[-2:])
        validate_mask(mask, image)
        image, mask = reduced(image, mask, size)

        self._fill, self._size, self._alt, self._caption = fill, size, alt, caption
        self.filled: Tensor | None = None
        self.error: Exception | None = None
        self.button = ipywidgets.Button(description="Fill", button_style="primary", icon="magic",
                                        tooltip="Fill what is painted")
        self._upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Try a picture of your own",
                                             layout={"width": "max-content"})
        self._message = ipywidgets.HTML()
        self._panels = ipywidgets.HBox(layout={"flex_flow": "row wrap", "align_items": "flex-end"})
        tools = ipywidgets.HBox([self.button, *([self._upload] if upload else [])], layout={"flex_flow": "row wrap"})
        super().__init__([self._panels, tools, self._message, ipywidgets.HTML(words(caption))])
        self.add_class("labkit-widget")
        self._start(image, mask)
        self.button.on_click(self.fill)
        self._upload.observe(self._receive, names="value")
        self.fill()

    def fill(self, button: object = None) -> None:
        """Call the function on the picture and what is painted, and show what it returns."""
        image = self.brush.image
        mask = self.brush.mask.to(image.device)
        self.error = None
        if not mask.any():
            self._message.value = note("Nothing is painted yet: paint over what should disappear, then press Fill.")
            return
        self._busy(True)
        start = time.perf_counter()
        try:
            filled = self._fill(image.clone(), mask.clone())   # a reader's function may write into them
            if not isinstance(filled, Tensor) or filled.shape != image.shape:
                raise ValueError(f"fill returned {describe(filled)}; expected an image of shape {tuple(image.shape)}, "
                                 "as it was given")
            validate_image(filled, name="the image that fill returned", batch=False)
        except Exception as error:   # a reader's own function may raise anything, and a callback would swallow it
            self.error = error
            self._message.value = complaint(error)
            self._beside.add_class("labkit-stale")
            return
        finally:
            self._busy(False)
        self.filled = filled.detach()
        self.result.show(self.filled, alt=f"{self._alt} (filled)",
                         caption=f"{int(mask.sum())} pixels filled in {time.perf_counter() - start:.1f} s")
        self._beside.remove_class("labkit-stale")
        self._message.value = ""

    def _busy(self, busy: bool) -> None:
        self.button.disabled = busy
        self.button.description = "Filling …" if busy else "Fill"
        if busy:
            self._message.value = note("Filling; this can take some seconds.")

    def _start(self, image: Tensor, mask: Tensor) -> None:
        """Put a picture under the brush."""
        scale = zoom(PAIR, image)
        self.brush = Brush(image, alt=f"{self._alt} (to paint on)", scale=scale, mask=mask,
                           radius=max(2, min(40, min(image.shape[-2:]) // 25)))
        self.brush.observe(self._repainted, names="bits")
        self.result = Picture(image, alt=f"{self._alt} (not filled yet)", caption="not filled yet", scale=scale,
                              interactive=False)
        self.filled = None
        self._beside = ipywidgets.VBox([self.result])   # an anywidget does not pass a new class on to the page
        self._panels.children = [self.brush, self._beside]

    def _repainted(self, change: object) -> None:
        if self.filled is not None and self.error is None:
            self.result.caption = "filled before you painted on"

    def _receive(self, change: object) -> None:
        if not self._upload.value:
            return
        file = self._upload.value[0]
        try:
            image = read_upload(file["name"], bytes(file["content"]))
        except ValueError as error:
            self._message.value = complaint(error)
            return
        image, mask = reduced(image, torch.zeros(1, *image.shape[-2:], dtype=torch.bool), self._size)
        self.error = None
        self._start(image, mask)
        self._message.value = note(f"{file['name']}: paint over what should disappear, then press Fill.")

    def still(self) -> figures.Figure:
        shown, titles = [painted(self.brush.image, self.brush.mask)], ["painted"]
        if self.filled is not None:
            shown, titles = [*shown, self.filled], [*titles, "filled"]
        said = f" The function said: {self.error}" if self.error is not None else ""
        return figures.show(shown, titles=titles, alt=self._alt, caption=f"{self._caption}{said}",
                            width=min(320, self.brush._width()))


def ellipse(height: int, width: int) -> Tensor:
    """A hole to begin with: `(1, H, W)` booleans, an upright ellipse in the middle, 5 % of the picture."""
    rows = (torch.arange(height) + 0.5 - height / 2) / (0.16 * height)
    columns = (torch.arange(width) + 0.5 - width / 2) / (0.1 * width)
    return (rows[:, None] ** 2 + columns ** 2 <= 1)[None]


def reduced(image: Tensor, mask: Tensor, size: int | None) -> tuple[Tensor, Tensor]:
    """Image and mask with a longer side of at most `size`; a pixel is missing where any that it stands for is."""
    longest = max(image.shape[-2:])
    if size is None or longest <= size:
        return image, mask
    height, width = (max(1, round(side * size / longest)) for side in image.shape[-2:])
    mask = torch.nn.functional.adaptive_max_pool2d(mask.float(), (height, width)) > 0
    return images.resize(image, size=(height, width)), mask


def painted(image: Tensor, mask: Tensor) -> Tensor:
    """The picture with the mask over it, in the brush's colour."""
    paint = image.new_tensor([0xd5, 0x5e, 0x00]).reshape(3, 1, 1) / 255
    return torch.where(mask.to(image.device), 0.31 * image + 0.69 * paint, image)
