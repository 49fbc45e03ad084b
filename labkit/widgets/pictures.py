"""Pictures one can touch: choose a pixel, drag a divider, paint a mask."""

from __future__ import annotations

import torch
import traitlets
from torch import Tensor

from labkit import figures
from labkit.images import to_bytes
from labkit.validation import validate_image, validate_integer, validate_mask
from labkit.widgets.base import PictureWidget, script

__all__ = ["Brush", "Compare", "Picture", "painted"]


def painted(image: Tensor, mask: Tensor) -> Tensor:
    """The picture with the mask over it, in the brush's colour."""
    paint = image.new_tensor([0xd5, 0x5e, 0x00]).reshape(3, 1, 1) / 255
    return torch.where(mask.to(image.device), 0.31 * image + 0.69 * paint, image)


class Picture(PictureWidget):
    """A picture in which a pixel can be chosen: by a click, or by the arrow keys (Shift: ten pixels) and Enter.

    Parameters
    ----------
    image : (C, H, W) image of 1 or 3 channels; values outside `[0, 1]` are clipped for the eye.
    alt : one sentence that says what is to be seen.
    caption : the sentence under the picture.
    scale : screen pixels per pixel; `None` enlarges by the smallest whole factor to at least 320 screen pixels.
    interactive : whether a pixel can be chosen.
    live : choose pixels also while dragging and at every arrow key, without Enter.

    Attributes
    ----------
    row, column : the chosen pixel, `None` at first; `observe` them, both are set before the first observer is called.
    image : what is shown; `show` changes it.

    Examples
    --------
    >>> picture = Picture(torch.rand(3, 20, 30), alt="Noise.", caption="Choose a pixel.")
    >>> picture.observe(lambda change: print("row", change.new), names="row")
    >>> picture.row = 7
    row 7
    >>> picture.show(torch.zeros(3, 20, 30), alt="Black.")
    """

    _esm = script("picture.js")
    data = traitlets.Bytes(help="the picture as a PNG or JPEG file").tag(sync=True)
    interactive = traitlets.Bool(True).tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)
    row = traitlets.Int(None, allow_none=True).tag(sync=True)
    column = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(self, image: Tensor, *, alt: str, caption: str = "", scale: float | None = None,
                 interactive: bool = True, live: bool = False):
        validate_image(image, channels=(1, 3), batch=False)
        super().__init__(image, alt=alt, caption=caption, scale=scale, interactive=interactive, live=live,
                         data=to_bytes(image))

    def show(self, image: Tensor, *, pixel: tuple[int, int] | None = None, **traits: object) -> None:
        """Show another image, with `pixel` as the chosen one, in a single message to the browser.

        Without `pixel`, the chosen one stays where the size does. `traits` may hold a new `alt`, `caption`, `scale`.
        """
        validate_image(image, channels=(1, 3), batch=False)
        changes = {**self._measures(image), **traits, "data": to_bytes(image)}
        if pixel is not None or changes["size"] != self.size:
            changes["row"], changes["column"] = pixel or (None, None)
        self.image = image
        self._change(changes)

    def still(self) -> figures.Figure:
        return figures.show(self.image, alt=self.alt, caption=self.caption, width=self.shown_width)


class Compare(PictureWidget):
    """Two pictures under one divider, moved by mouse, touch or arrow keys.

    Parameters
    ----------
    before, after : (C, H, W) images of 1 or 3 channels; `after` sets the size, `before` is stretched to it.
    alt, caption, scale : as for `Picture`.
    labels : the words on the left and on the right picture.

    Attributes
    ----------
    position : how far the divider is from the left edge, in percent.

    Examples
    --------
    >>> image = torch.rand(3, 20, 30)
    >>> compare = Compare(image, image.flip(-1), alt="Noise and its mirror image.", labels=("noise", "mirrored"))
    >>> compare.position
    50.0
    """

    _esm = script("compare.js")
    before = traitlets.Bytes().tag(sync=True)
    after = traitlets.Bytes().tag(sync=True)
    labels = traitlets.Tuple(traitlets.Unicode(), traitlets.Unicode()).tag(sync=True)
    position = traitlets.Float(50.0, min=0.0, max=100.0).tag(sync=True)

    def __init__(self, before: Tensor, after: Tensor, *, alt: str, caption: str = "", scale: float | None = None,
                 labels: tuple[str, str] = ("before", "after")):
        for image, name in ((before, "before"), (after, "after")):
            validate_image(image, name=name, channels=(1, 3), batch=False)
        self._before_image = before
        super().__init__(after, alt=alt, caption=caption, scale=scale, labels=labels,
                         before=to_bytes(before), after=to_bytes(after))

    def show(self, after: Tensor, *, before: Tensor | None = None, **words: str) -> None:
        """Show another picture on the right (and on the left); the divider stays. `words`: a new `alt`, `caption`."""
        validate_image(after, name="after", channels=(1, 3), batch=False)
        if before is not None:
            validate_image(before, name="before", channels=(1, 3), batch=False)
        changes = {**self._measures(after), **words, "after": to_bytes(after)}
        if before is not None and before is not self._before_image:   # a slider changes the right picture only
            changes["before"] = to_bytes(before)
            self._before_image = before
        self.image = after
        self._change(changes)

    def still(self) -> figures.Figure:
        return figures.show([self._before_image, self.image], titles=list(self.labels), alt=self.alt,
                            caption=self.caption, width=min(320, self.shown_width))


class Brush(PictureWidget):
    """Paint a mask over a picture, by mouse, touch or keyboard (arrow keys, Space puts the pen down).

    Parameters
    ----------
    image : (C, H, W) image of 1 or 3 channels.
    alt, caption, scale : as for `Picture`.
    radius : of the brush, in pixels, from 0 (one pixel) to 40.
    mask : what is painted at first, (1, H, W) booleans.

    Attributes
    ----------
    mask : (1, H, W) booleans, `True` where painted (missing); can be set. `observe` the trait `bits` to follow strokes.

    Examples
    --------
    >>> brush = Brush(torch.rand(3, 20, 30), alt="Noise to paint on.", radius=3)
    >>> brush.mask.shape, bool(brush.mask.any())
    (torch.Size([1, 20, 30]), False)
    """

    _esm = script("strokes.js", "brush.js")
    data = traitlets.Bytes().tag(sync=True)
    # the browser sends a memoryview, which `Bytes` would refuse
    bits = traitlets.CBytes(help="the mask, one byte 0 or 1 per pixel, row by row").tag(sync=True)
    radius = traitlets.Int(8).tag(sync=True)
    erasing = traitlets.Bool(False).tag(sync=True)

    def __init__(self, image: Tensor, *, alt: str, caption: str = "", scale: float | None = None, radius: int = 8,
                 mask: Tensor | None = None):
        validate_image(image, channels=(1, 3), batch=False)
        validate_integer(radius, name="radius", minimum=0, maximum=40)
        super().__init__(image, alt=alt, caption=caption, scale=scale, radius=radius, data=to_bytes(image),
                         bits=bytes(image.shape[-2] * image.shape[-1]))
        if mask is not None:
            self.mask = mask

    @property
    def mask(self) -> Tensor:
        return torch.frombuffer(bytearray(self.bits), dtype=torch.uint8).reshape(1, *self.size).bool()

    @mask.setter
    def mask(self, mask: Tensor) -> None:
        validate_mask(mask, self.image)
        self.bits = mask.cpu().to(torch.uint8).numpy().tobytes()

    def still(self) -> figures.Figure:
        return figures.show(painted(self.image, self.mask), alt=self.alt, caption=self.caption, width=self.shown_width)
