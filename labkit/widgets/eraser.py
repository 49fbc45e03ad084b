"""Paint over what should disappear, and see it filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit import figures
from labkit.validation import describe, validate_image, validate_integer, validate_mask
from labkit.widgets.base import PAIR, note_html, zoom
from labkit.widgets.maker import Maker
from labkit.widgets.pictures import Brush, painted
from labkit.widgets.uploads import reduced, reduced_size

__all__ = ["Eraser", "ellipse", "reduced_mask"]

Fill = Callable[[Tensor, Tensor], Tensor]


class Eraser(Maker):
    """Paint a hole over a picture with a brush, and fill it by a function.

    Parameters
    ----------
    image : (C, H, W) image of 1 or 3 channels.
    fill : takes an image and a mask `(1, H, W)`, `True` where pixels are missing, and returns an image of the same
        shape, or several fills `(N, C, H, W)`, which are shown together. What it raises is shown under the pictures.
    mask : what is painted at first; `None` paints an ellipse in the middle. It is filled at once.
    size : longer side, in pixels, that larger pictures (and masks) are reduced to, the reader's own ones too, since
        filling takes its time; `None` takes `image` as it is, and the reader's own at up to 512 pixels.
    mean : show also the mean of several fills.
    upload : let the reader try a picture of their own.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.

    Attributes
    ----------
    brush : the `Brush`; its `mask` is the hole and can be set. A reader's own picture has another one.
    results : the `Picture` of what was filled last, or of each fill (and their mean, at the end).
    button : the button that fills; `make()` does it from Python.
    made : what `fill` returned last, `None` before its first success.
    error : what `fill` raised last, or `None`.

    Raises
    ------
    ValueError : `image` is no image, `mask` does not fit it, `fill` is no function, or `size` is below 16.

    Examples
    --------
    >>> eraser = Eraser(torch.rand(3, 20, 30), fill=lambda image, mask: torch.where(mask, 0.5, image))
    >>> bool((eraser.made[:, eraser.brush.mask[0]] == 0.5).all())
    True
    """

    verb, doing, done, noun = "Fill", "Filling", "filled", "fill"

    def __init__(self, image: Tensor, *, fill: Fill, mask: Tensor | None = None, size: int | None = None,
                 mean: bool = False, upload: bool = True,
                 alt: str = "A picture to paint a hole on, and the same picture filled.",
                 caption: str = "Paint over what should disappear, then press Fill."):
        validate_image(image, channels=(1, 3), batch=False)
        if size is not None:
            validate_integer(size, name="size", minimum=16)
        if mask is None:
            mask = ellipse(*image.shape[-2:])
        validate_mask(mask, image)
        self._size, self._mean = size, mean
        super().__init__(fill, name="fill", room=PAIR, icon="magic", tooltip="Fill what is painted", upload=upload,
                         alt=alt, caption=caption)
        self._start(image, mask)
        self.make()

    def _given(self) -> tuple[Tensor, Tensor] | None:
        mask = self.brush.mask.to(self.brush.image.device)
        if mask.any():
            return self.brush.image, mask
        self._message.value = note_html("Nothing is painted yet: paint over what should disappear, then press Fill.")
        return None

    def _checked(self, made: Any) -> None:
        shape = self.brush.image.shape
        if not isinstance(made, Tensor) or made.ndim not in (3, 4) or made.shape[-3:] != shape:
            raise ValueError(f"fill returned {describe(made)}; expected an image of shape {tuple(shape)}, as it was "
                             "given, or several of them")
        validate_image(made, name="what fill returned")

    def _titled(self) -> dict[str, Tensor]:
        titled = super()._titled()
        return {**titled, "mean of the fills": torch.stack(self._each).mean(0)} if self._mean and len(titled) > 1 else titled

    def _told_of(self, seconds: str) -> str:
        count = int(self.brush.mask.sum())
        times = f", {len(self._each)} times," if len(self._each) > 1 else ""
        return f"{count} pixels filled{times} in {seconds}"

    def _start(self, image: Tensor, mask: Tensor) -> None:
        """Put a picture under the brush."""
        mask = reduced_mask(mask, self._size)
        image = reduced(image, self._size)
        self.brush = Brush(image, alt=f"{self._alt} (to paint on)", scale=zoom(PAIR, image), mask=mask,
                           radius=max(2, min(40, min(image.shape[-2:]) // 25)))
        self.brush.observe(self._repainted, names="bits")
        self._begin(image)
        self._panels.children = [self.brush, self._beside]

    def _receive(self, file: str, image: Tensor) -> None:
        self._start(image, torch.zeros(1, *image.shape[-2:], dtype=torch.bool))
        self._message.value = note_html(f"{file}: paint over what should disappear, then press Fill.")

    def still(self) -> figures.Figure:
        return self._figure({"painted": painted(self.brush.image, self.brush.mask)}, min(320, self.brush.shown_width))


def ellipse(height: int, width: int) -> Tensor:
    """A hole to begin with: `(1, H, W)` booleans, an upright ellipse in the middle, 5 % of the picture."""
    rows = (torch.arange(height) + 0.5 - height / 2) / (0.16 * height)
    columns = (torch.arange(width) + 0.5 - width / 2) / (0.1 * width)
    return (rows[:, None] ** 2 + columns ** 2 <= 1)[None]


def reduced_mask(mask: Tensor, size: int | None) -> Tensor:
    """A mask for the image that `reduced` makes; a pixel is missing where any that it stands for is."""
    return torch.nn.functional.adaptive_max_pool2d(mask.float(), reduced_size(mask, size)) > 0
