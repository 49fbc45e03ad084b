"""Chapter 1's widget: click a pixel and see which of its neighbours a filter listens to."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

import ipywidgets
import torch
from torch import Tensor

from labkit import figures, images
from labkit.validation import describe, validate_image, validate_integer
from labkit.widgets.base import Still, caption_html, error_html
from labkit.widgets.pictures import Picture

__all__ = ["WeightsExplorer"]

Weights = Callable[..., Tensor]
MAP = 176   # screen pixels: three maps stand beside a 512-pixel picture in a window 1280 wide


class WeightsExplorer(Still, ipywidgets.VBox):
    """Choose a pixel on the picture and see, for each function, the weights that it gives to the neighbours.

    Parameters
    ----------
    image : (C, H, W) image of 1 or 3 channels.
    functions : by name, functions `(image, *, row, column) -> (H, W)` that give the weight of every pixel for the one
        at `(row, column)`, at least 0.
    alt, caption, scale : as for `Picture`.
    radius : half-width of the part that is shown around the pixel, in pixels.
    pixel : the (row, column) chosen at first; `None` takes the centre.

    Attributes
    ----------
    picture : the `Picture` on which a pixel is chosen; set its `row` and `column` to choose from Python.
    maps : for each function, the `Picture` of its weights around the pixel.
    largest : for each function, its largest weight there (the last colour of its map).

    Raises
    ------
    ValueError : `image` is no image, `functions` is empty, `radius` is below 1, or `pixel` lies outside the image.

    Examples
    --------
    >>> image = torch.rand(1, 20, 30)
    >>> explorer = WeightsExplorer(image, {"itself": lambda image, row, column: image[0]}, alt="Noise.", radius=4)
    >>> explorer.picture.row, explorer.picture.column, explorer.maps["itself"].size
    (10, 15, (9, 9))
    """

    def __init__(self, image: Tensor, functions: Mapping[str, Weights], *, alt: str, caption: str = "",
                 radius: int = 15, pixel: tuple[int, int] | None = None, scale: float | None = None):
        validate_image(image, channels=(1, 3), batch=False)
        validate_integer(radius, name="radius", minimum=1)
        if not functions:
            raise ValueError("functions is empty; expected at least one function by its name")
        height, width = image.shape[-2:]
        pixel = (height // 2, width // 2) if pixel is None else pixel
        for name, value, side in zip(("row", "column"), pixel, (height, width)):
            validate_integer(value, name=name, minimum=0, maximum=side - 1)

        self._functions, self._radius, self._caption = dict(functions), radius, caption
        self.picture = Picture(image, alt=alt, scale=scale, live=True)
        self.picture.row, self.picture.column = self._pixel = tuple(pixel)
        part, _ = self._window(image)
        zoom = MAP / part.shape[-1]
        self._near = Picture(part, alt="The picture around the pixel.", caption="around the pixel", scale=zoom,
                             interactive=False)
        self.maps = {name: Picture(torch.zeros_like(part[:1]), alt=f"Weights of {name}.", scale=zoom, interactive=False)
                     for name in functions}
        self.largest: dict[str, float] = {}
        self._message = ipywidgets.HTML()

        tiles = ipywidgets.HBox([self._near, *self.maps.values()],
                                layout={"flex_flow": "row wrap", "flex": "1 1 400px"})
        tiles.add_class("labkit-tiles")
        both = ipywidgets.HBox([self.picture, tiles], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        super().__init__([both, ipywidgets.HTML(_ramp()), self._message, ipywidgets.HTML(caption_html(caption))])
        self.add_class("labkit-widget")
        self.picture.observe(self.redraw, names=["row", "column"])
        self.redraw()

    def redraw(self, change: object = None) -> None:
        """Ask every function for its weights at the chosen pixel and show them."""
        row, column = self.picture.row, self.picture.column
        if row is None or column is None:
            return
        if change is not None and (row, column) == self._pixel:   # row and column change together, and each calls
            return
        self._pixel = row, column
        part, inside = self._window(self.picture.image)
        self._near.show(part, pixel=inside)
        self._message.value = ""
        for name, function in self._functions.items():
            try:
                weights = function(self.picture.image.clone(), row=row, column=column)
                if not isinstance(weights, Tensor) or tuple(weights.shape) != self.picture.size:
                    raise ValueError(f"{name} returned {describe(weights)}; "
                                     f"expected a tensor of shape {self.picture.size}, a weight for each pixel")
            except Exception as error:   # a reader's own function may raise anything, and a callback would swallow it
                self._message.value = error_html(error)
                continue
            part, inside = self._window(weights.detach()[None])
            self.largest[name] = float(weights.max())
            self.maps[name].show(figures.colorize(part, low=0.0, high=self.largest[name]), pixel=inside,
                                 caption=f"{name}\nlargest {self.largest[name]:.3g}",
                                 alt=f"Weights of {name} around row {row}, column {column}, "
                                     f"at most {self.largest[name]:.3g}.")

    def _window(self, values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The part of `(C, H, W)` values around the chosen pixel, kept inside the picture, and its place there."""
        height, width = values.shape[-2:]
        row, column = self._pixel
        sides = min(2 * self._radius + 1, height), min(2 * self._radius + 1, width)
        top = min(max(row - self._radius, 0), height - sides[0])
        left = min(max(column - self._radius, 0), width - sides[1])
        return values[:, top:top + sides[0], left:left + sides[1]], (row - top, column - left)

    def still(self) -> figures.Figure:
        shown = [self._near, *self.maps.values()]
        where = f"Row {self.picture.row}, column {self.picture.column}; dark: no weight, yellow: the largest."
        return figures.show([self._outlined(), *(one.image for one in shown)],
                            titles=["picture", *(one.caption.replace("\n", ": ") for one in shown)],
                            alt=f"{self.picture.alt} {where}", caption=f"{self._caption} {where}".strip(), width=MAP)

    def _outlined(self) -> Tensor:
        """The picture with a white and, inside, a black line around the part that the maps show."""
        image = self.picture.image.clone()
        _, (row, column) = self._window(image)
        top, left = self._pixel[0] - row, self._pixel[1] - column
        height, width = self._near.size
        for inset, value in ((0, 1.0), (1, 0.0)):
            part = image[:, top + inset:top + height - inset, left + inset:left + width - inset]
            part[:, [0, -1], :] = value
            part[:, :, [0, -1]] = value
        return image


def _ramp() -> str:
    """The colour scale of the maps, as HTML."""
    colours = images.to_bytes(figures.colorize(torch.linspace(0, 1, 160)[None]))
    return (f'<div class="labkit-ramp">weight 0 <img alt="colour scale from dark blue to yellow" '
            f'src="data:image/png;base64,{base64.b64encode(colours).decode()}"> the largest of each map</div>')
