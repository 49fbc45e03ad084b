"""Pictures that change step by step, played like a film: a synthesis from coarse to fine, a diffusion run back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import anywidget
import ipywidgets
import torch
import traitlets
from torch import Tensor

from labkit import figures
from labkit.validation import validate_image, validate_integer, validate_number
from labkit.widgets.pictures import _STYLE, PAIR, TILE, Picture, _script, zoom
from labkit.widgets.still import Still, note, words

if TYPE_CHECKING:
    from labkit.texture_optimization import Synthesis   # otherwise imported nowhere: chapters load when first used

LENGTH, FASTEST, SLOWEST = 10_000, 120, 800   # milliseconds: of a film, and how short and how long a frame stands
CURVE_WIDTH, CURVE_HEIGHT, GAP = 560, 56, 10   # of the curves and between two of them, in screen pixels


def film(frames: Sequence[Tensor | Sequence[Tensor]], *, titles: Sequence[str], captions: Sequence[str], alt: str,
         caption: str = "", beside: Mapping[str, Tensor] | None = None, curves: Sequence[Sequence[float]] = (),
         measure: str = "value", slider: str = "frame", interval: int | None = None,
         scale: float | None = None) -> Film:
    """Play one picture, or several side by side, frame by frame, with a slider and a play button.

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

    Examples
    --------
    >>> film(list(zip(noisy, estimates)), titles=["x_t", "estimate of x_0"],   # doctest: +SKIP
    ...      captions=[f"t = {t}" for t in steps], slider="step", alt="A picture appears in noise.")
    """
    return Film(frames, titles=titles, captions=captions, alt=alt, caption=caption, beside=beside, curves=curves,
                measure=measure, slider=slider, interval=interval, scale=scale)


def synthesis_player(synthesis: Synthesis, *, exemplar: Tensor, scale: float | None = None,
                     alt: str = "A picture as it is synthesised, from coarse to fine.",
                     caption: str = "From the coarsest level to the finest.") -> Film:
    """Play the frames of a synthesis, from the coarsest level to the finest, beside its exemplar.

    Parameters
    ----------
    synthesis : what a method of `labkit.texture_optimization` returned with `trace=True`.
    exemplar : the (C, h, w) image of 1 or 3 channels that it was made from.
    scale : screen pixels per pixel of the exemplar and of the last frame; `None` lets them stand side by side.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.
    """
    frames, energy = synthesis.frames, [list(part) for part in synthesis.energy if part]
    if not frames:
        raise ValueError("synthesis holds no frames; expected one made with trace=True")
    if sum(map(len, energy)) != len(frames):
        raise ValueError(f"synthesis has {len(frames)} frames and {sum(map(len, energy))} energies; expected one for "
                         "each")
    captions, chosen = _levels(frames, energy)
    return Film(frames, titles=["synthesis"], captions=captions, alt=alt, caption=caption,
                beside={"exemplar": exemplar}, curves=energy, measure="energy", scale=scale, chosen=chosen)


class Play(anywidget.AnyWidget):
    """A button that counts `value` up to `last`; unlike the one of ipywidgets it has a name for who cannot see it."""

    _esm = _script("play.js")
    _css = _STYLE
    value = traitlets.Int(0).tag(sync=True)
    last = traitlets.Int().tag(sync=True)
    interval = traitlets.Int(help="milliseconds from one value to the next").tag(sync=True)


class Film(Still, ipywidgets.VBox):
    """What `film` and `synthesis_player` return.

    Attributes
    ----------
    slider : the frame, from 0; set its `value` to move it from Python.
    pictures : the `Picture`s that change, in the order of the titles.
    """

    def __init__(self, frames: Sequence[Tensor | Sequence[Tensor]], *, titles: Sequence[str], captions: Sequence[str],
                 alt: str, caption: str, beside: Mapping[str, Tensor] | None = None,
                 curves: Sequence[Sequence[float]] = (), measure: str = "value", slider: str = "frame",
                 interval: int | None = None, scale: float | None = None, chosen: Mapping[int, str] | None = None):
        frames = [[frame] if isinstance(frame, Tensor) else list(frame) for frame in frames]
        titles, beside = list(titles), dict(beside or {})
        _validate(frames, titles, captions)
        for title, image in beside.items():
            validate_image(image, name=title, channels=(1, 3), batch=False)
        self._frames, self._titles, self._captions, self._beside = frames, titles, list(captions), beside
        self._alt, self._caption, self._curves, self._measure = alt, caption, _pieces(curves, len(frames)), measure
        self._chosen = dict(chosen or _few(frames, captions))   # the frames of the still picture, with short names

        last = len(frames) - 1
        if interval is None:
            interval = min(SLOWEST, max(FASTEST, LENGTH // len(frames)))
        else:
            validate_integer(interval, name="interval", minimum=1)
        if scale is None:
            scale = zoom(PAIR if len(titles) + len(beside) <= 2 else TILE, *frames[-1], *beside.values())
        self.slider = ipywidgets.IntSlider(value=0, min=0, max=last, description=slider,
                                           layout={"width": "min(100%, 400px)"})
        play = Play(last=last, interval=interval)
        ipywidgets.jslink((play, "value"), (self.slider, "value"))
        self.pictures = [Picture(image, alt=alt, caption=title, scale=scale, interactive=False)
                         for image, title in zip(frames[-1], titles)]
        stay = [Picture(image, alt=f"{alt} ({title})", caption=title, scale=scale, interactive=False)
                for title, image in beside.items()]
        self._tiles = ipywidgets.HBox([*self.pictures, *stay], layout={"flex_flow": "row wrap"})
        self._tiles.add_class("labkit-tiles")
        self._told, self._curve = ipywidgets.HTML(), ipywidgets.HTML()
        controls = ipywidgets.HBox([play, self.slider], layout={"flex_flow": "row wrap", "align_items": "center"})
        super().__init__([controls, self._tiles, self._told, *([self._curve] if self._curves else []),
                          ipywidgets.HTML(words(caption))])
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
        self._told.value = words(told)
        if self._curves:
            several = ", each curve on its own scale" if len(self._curves) > 1 else ""
            self._curve.value = (curves_svg(self._curves, at=number, measure=self._measure)
                                 + note(f"{self._measure}{several}"))

    def still(self) -> figures.Figure:
        """Some frames, in a row for each title, and what stands beside them."""
        shown, titles = [], []
        for which, title in enumerate(self._titles):
            for number, name in self._chosen.items():
                shown.append(_enlarged(self._frames[number][which], self.pictures[which].size))
                titles.append(f"{title}, {name}" if len(self._titles) > 1 else name)
        columns = len(self._chosen) if len(self._titles) > 1 else None   # else a row that what stands beside continues
        return figures.show([*shown, *self._beside.values()], titles=[*titles, *self._beside], alt=self._alt,
                            columns=columns, caption=self._caption, width=200)


def curves_svg(curves: Sequence[Sequence[float]], *, at: int, measure: str) -> str:
    """Curves side by side as an SVG picture, each from its lowest to its highest value, with a dot at number `at`."""
    room = CURVE_WIDTH - GAP * len(curves)
    count = sum(map(len, curves))
    parts, left, first = [], GAP / 2, 0
    for curve in curves:
        width = room * len(curve) / count
        low, high = min(curve), max(curve)
        points = [(left + width * (k + 0.5) / len(curve),
                   6 + (CURVE_HEIGHT - 12) * (high - value) / ((high - low) or 1)) for k, value in enumerate(curve)]
        parts.append(f'<path d="M{left:.1f} {CURVE_HEIGHT - 1}h{width:.1f}" stroke="currentColor" opacity="0.4"/>'
                     f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" '
                     'stroke="currentColor" stroke-width="1.5"/>')
        if first <= at < first + len(curve):
            x, y = points[at - first]
            parts.append(f'<path d="M{x:.1f} 0V{CURVE_HEIGHT - 1}" stroke="currentColor" opacity="0.4"/>'
                         f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#d55e00" stroke="#fff" stroke-width="1.5"/>')
        left, first = left + width + GAP, first + len(curve)
    value = [value for curve in curves for value in curve][at]
    label = escape(f"{measure}, now {value:.3g}", quote=True)
    return (f'<svg class="labkit-chart labkit-curves" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" '
            f'width="{CURVE_WIDTH}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def _levels(frames: Sequence[Tensor], energy: Sequence[Sequence[float]]) -> tuple[list[str], dict[int, str]]:
    """For each frame, its level and step in words; and the last frames of at most five levels, with short names."""
    captions, ends = [], {}
    sizes = [tuple(frames[sum(map(len, energy[:k]))].shape[-2:]) for k in range(len(energy))]
    levels = [(size, [part for _, part in group])
              for size, group in groupby(zip(sizes, energy), key=lambda one: one[0])]
    for number, ((height, width), parts) in enumerate(levels, start=1):
        for which, part in enumerate(parts, start=1):   # several where the method goes through sizes of patches
            of = f", patch size {which} of {len(parts)}" if len(parts) > 1 else ""
            captions += [f"Level {number} of {len(levels)} ({height}×{width} pixels){of}, step {step} of {len(part)}: "
                         f"energy {value:.3g}." for step, value in enumerate(part, start=1)]
        ends[len(captions) - 1] = f"level {number}, {height}×{width}"
    return captions, {number: ends[number] for number in _spread(list(ends))}


def _few(frames: Sequence[object], captions: Sequence[str]) -> dict[int, str]:
    """Some frames for a still picture, with their captions where these are short enough to stand under it."""
    return {number: captions[number] if len(captions[number]) <= 24 else f"frame {number}"
            for number in _spread(range(len(frames)))}


def _spread(numbers: Sequence[int], most: int = 5) -> list[int]:
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


def _pieces(curves: Sequence[Sequence[float]], count: int) -> list[list[float]]:
    pieces = [[float(value) for value in piece] for piece in curves if len(piece)]
    for value in (value for piece in pieces for value in piece):
        validate_number(value, name="a value of curves")
    if pieces and sum(map(len, pieces)) != count:
        raise ValueError(f"curves has {sum(map(len, pieces))} values and there are {count} frames; expected one "
                         "for each")
    return pieces


def _enlarged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A coarse frame at the size of the last one, its pixels as they are."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return torch.nn.functional.interpolate(image[None].float(), size=size, mode="nearest-exact")[0]
