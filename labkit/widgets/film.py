"""Pictures that change step by step, played like a film: a synthesis from coarse to fine, a diffusion run back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import anywidget
import ipywidgets
import torch
import traitlets
from torch import Tensor

from labkit import figures
from labkit.validation import validate_image, validate_integer, validate_number
from labkit.widgets.base import PAIR, TILE, Still, caption_html, note_html, script, style, zoom
from labkit.widgets.charts import Panel, chart_svg
from labkit.widgets.pictures import Picture

__all__ = ["Film", "Play", "SLOWEST", "spread"]

LENGTH, FASTEST, SLOWEST = 10_000, 120, 800   # milliseconds: of a film, and how short and how long a frame stands


class Play(anywidget.AnyWidget):
    """A button that counts `value` up to `last`; unlike the one of ipywidgets it has a name for who cannot see it.

    Parameters
    ----------
    value, last : where it stands and where it ends, whole numbers from 0; after the end it begins again from 0.
    interval : milliseconds from one value to the next.

    Examples
    --------
    >>> Play(last=9, interval=200).value
    0
    """

    _esm = script("play.js")
    _css = style()
    value = traitlets.Int(0).tag(sync=True)
    last = traitlets.Int().tag(sync=True)
    interval = traitlets.Int(help="milliseconds from one value to the next").tag(sync=True)


class Film(Still, ipywidgets.VBox):
    """Pictures, one or several side by side, played frame by frame, with a slider and a play button.

    Parameters
    ----------
    frames : for each frame an image (C, H, W) of 1 or 3 channels, or one image for each title; values outside `[0, 1]`
        are clipped for the eye. All are shown at the size of the last frame's, enlarged with sharp pixels.
    titles : the word under each of these pictures.
    captions : for each frame, the sentence that says where it stands, such as "t = 950".
    alt : one sentence that says what is to be seen; title and caption are added to it.
    caption : the sentence under the film.
    beside : by their titles, images that stay, such as the exemplar.
    curves : lists of numbers to draw under the pictures, one after the other, each on a scale of its own; together they
        have a number for each frame. measure : what these numbers are.
    slider : what the slider counts, from 0.
    interval : milliseconds that a frame stands; `None` plays the whole in about ten seconds.
    scale : screen pixels per pixel of the last frame; `None` lets the pictures stand side by side.
    still_frames : the frames of the still picture, by number, with a short title each; `None` takes five of them.

    Attributes
    ----------
    slider : the frame, from 0; set its `value` to move it from Python.
    pictures : the `Picture`s that change, in the order of the titles.

    Raises
    ------
    ValueError : frames, titles, captions and curves do not fit together, or a frame is no image.

    Examples
    --------
    >>> frames = [torch.full((1, 8, 8), k / 4) for k in range(5)]
    >>> film = Film(frames, titles=["grey"], captions=[f"step {k}" for k in range(5)], alt="Black turns white.")
    >>> film.slider.value = 3
    >>> film.pictures[0].alt
    'Black turns white. (grey) step 3'
    """

    def __init__(self, frames: Sequence[Tensor | Sequence[Tensor]], *, titles: Sequence[str], captions: Sequence[str],
                 alt: str, caption: str = "", beside: Mapping[str, Tensor] | None = None,
                 curves: Sequence[Sequence[float]] = (), measure: str = "value", slider: str = "frame",
                 interval: int | None = None, scale: float | None = None,
                 still_frames: Mapping[int, str] | None = None):
        listed = [[frame] if isinstance(frame, Tensor) else list(frame) for frame in frames]
        titles, beside = list(titles), dict(beside or {})
        _validate(listed, titles, captions)
        for title, image in beside.items():
            validate_image(image, name=title, channels=(1, 3), batch=False)
        self._frames, self._titles, self._captions, self._beside = listed, titles, list(captions), beside
        self._alt, self._caption, self._curves, self._measure = alt, caption, _panels(curves, len(listed)), measure
        last = len(listed) - 1
        self._still_frames = dict(still_frames or _few(listed, captions))
        for number in self._still_frames:
            validate_integer(number, name="a number in still_frames", minimum=0, maximum=last)

        if interval is None:
            interval = min(SLOWEST, max(FASTEST, LENGTH // len(listed)))
        else:
            validate_integer(interval, name="interval", minimum=1)
        if scale is None:
            scale = zoom(PAIR if len(titles) + len(beside) <= 2 else TILE, *listed[-1], *beside.values())
        self.slider = ipywidgets.IntSlider(value=0, min=0, max=last, description=slider,
                                           layout={"width": "min(100%, 400px)"})
        play = Play(last=last, interval=interval)
        ipywidgets.jslink((play, "value"), (self.slider, "value"))
        self.pictures = [Picture(image, alt=alt, caption=title, scale=scale, interactive=False)
                         for image, title in zip(listed[-1], titles)]
        stay = [Picture(image, alt=f"{alt} ({title})", caption=title, scale=scale, interactive=False)
                for title, image in beside.items()]
        self._tiles = ipywidgets.HBox([*self.pictures, *stay], layout={"flex_flow": "row wrap"})
        self._tiles.add_class("labkit-tiles")
        self._told, self._curve = ipywidgets.HTML(), ipywidgets.HTML()
        controls = ipywidgets.HBox([play, self.slider], layout={"flex_flow": "row wrap", "align_items": "center"})
        super().__init__([controls, self._tiles, self._told, *([self._curve] if self._curves else []),
                          ipywidgets.HTML(caption_html(caption))])
        self.add_class("labkit-widget")
        self.slider.observe(self.redraw, names="value")
        self.redraw()

    def redraw(self, change: object = None) -> None:
        """Show the frame of the slider."""
        number = self.slider.value
        told = self._captions[number]
        for picture, image, title in zip(self.pictures, self._frames[number], self._titles):
            name = f" ({title})" if title else ""
            picture.show(_enlarged(image, picture.size), alt=f"{self._alt}{name} {told}")
        self._told.value = caption_html(told)
        if self._curves:
            several = ", each curve on its own scale" if len(self._curves) > 1 else ""
            value = [y for panel in self._curves for _, y in panel.curves[""]][number]
            chart = chart_svg(self._curves, axes=False, at=number, label=f"{self._measure}, now {value:.3g}")
            self._curve.value = chart + note_html(f"{self._measure}{several}")

    def still(self) -> figures.Figure:
        """Some frames, in a row for each title, and what stands beside them."""
        shown, titles = [], []
        for which, title in enumerate(self._titles):
            for number, name in self._still_frames.items():
                shown.append(_enlarged(self._frames[number][which], self.pictures[which].size))
                titles.append(f"{title}, {name}" if len(self._titles) > 1 else name)
        columns = len(self._still_frames) if len(self._titles) > 1 else None   # else a row that what stands beside continues
        return figures.show([*shown, *self._beside.values()], titles=[*titles, *self._beside], alt=self._alt,
                            columns=columns, caption=self._caption, width=200)


def _few(frames: Sequence[object], captions: Sequence[str]) -> dict[int, str]:
    """Some frames for a still picture, with their captions where these are short enough to stand under it."""
    return {number: captions[number] if len(captions[number]) <= 24 else f"frame {number}"
            for number in spread(range(len(frames)))}


def spread(numbers: Sequence[int], most: int = 5) -> list[int]:
    """At most five of the numbers, the first and the last among them."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(k * (len(numbers) - 1) / (most - 1))] for k in range(most)]


def _validate(frames: list[list[Tensor]], titles: list[str], captions: Sequence[str]) -> None:
    if len(frames) < 2 or len(captions) != len(frames):
        raise ValueError(f"there are {len(frames)} frames and {len(captions)} captions; expected as many of each, at "
                         "least two")
    for number, frame in enumerate(frames):
        if len(frame) != len(titles) or not titles:
            raise ValueError(f"frame {number} has {len(frame)} pictures and there are {len(titles)} titles; "
                             "expected as many")
        for image in frame:
            validate_image(image, name=f"a picture of frame {number}", channels=(1, 3), batch=False)


def _panels(curves: Sequence[Sequence[float]], count: int) -> list[Panel]:
    """A panel for each curve that holds any values, over the numbers of its frames."""
    pieces = [[float(value) for value in piece] for piece in curves if len(piece)]
    for value in (value for piece in pieces for value in piece):
        validate_number(value, name="a value of curves")
    if pieces and sum(map(len, pieces)) != count:
        raise ValueError(f"curves has {sum(map(len, pieces))} values and there are {count} frames; expected one "
                         "for each")
    ends = list(accumulate(map(len, pieces)))
    return [Panel({"": list(enumerate(piece, start=end - len(piece)))}, end - len(piece) - 0.5, end - 0.5)
            for piece, end in zip(pieces, ends)]


def _enlarged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A coarse frame at the size of the last one, its pixels as they are."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return torch.nn.functional.interpolate(image[None].float(), size=size, mode="nearest-exact")[0]
