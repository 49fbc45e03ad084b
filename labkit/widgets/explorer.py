"""Sliders over a function from image to image: move one, and the picture follows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import ipywidgets
import torch
from torch import Tensor

from labkit import figures
from labkit.validation import describe, validate_image, validate_number
from labkit.widgets.base import Still, error_html, note_html
from labkit.widgets.pictures import Compare, Picture
from labkit.widgets.uploads import upload_button

__all__ = ["Explorer", "align", "control"]

Spec: TypeAlias = Sequence | bool | ipywidgets.ValueWidget


class Explorer(Still, ipywidgets.VBox):
    """Show `function(image, **values)` with a control for each value; the picture follows the controls.

    Parameters
    ----------
    function : takes an image `(C, H, W)` and the values by keyword, returns an image of 1 or 3 channels. What it raises
        is shown under the picture, which then keeps its last content, faded.
    image : the image to work on, or several by name, to choose from.
    alt : one sentence that says what is to be seen; the values are added to it.
    caption : the sentence under the picture.
    compare : show input and result under a divider instead of the result alone.
    upload : let the reader try a picture of their own, reduced to at most 512 pixels.
    scale : screen pixels per pixel; `None` enlarges small pictures to at least 320 screen pixels.
    labels : what stands beside a control, with its unit, such as `{"sigma": "spatial σ (pixels)"}`.
    sliders : one control for each parameter of the function. `(low, high, start)` or `(low, high, start, step)` is a
        slider: over whole numbers when all are whole, logarithmic when `high` is at least 100 times a positive `low`
        and no step is given. A list of words (or of pairs `(word, value)`) is a choice, a boolean a checkbox, and any
        ipywidgets control is used as it is.

    Attributes
    ----------
    controls : the control of each parameter, by name; set `controls["sigma"].value` to move it from Python.
    values : the value of each parameter.
    result : the image that the function returned last, `None` before its first success.
    picture : the `Picture` or `Compare` that shows it.
    error : what the function raised at the present values, or `None`.

    Raises
    ------
    ValueError : an image is none, a slider cannot be made of what is given, or `labels` names no slider.

    Examples
    --------
    >>> image = torch.rand(3, 20, 30)
    >>> explorer = Explorer(lambda image, share: share * image, image, share=(0.0, 1.0, 0.5), alt="Noise.")
    >>> explorer.controls["share"].value = 0.25
    >>> torch.equal(explorer.result, 0.25 * image)
    True
    """

    def __init__(self, function: Callable[..., Tensor], image: Tensor | Mapping[str, Tensor], *, alt: str,
                 caption: str = "", compare: bool = False, upload: bool = False, scale: float | None = None,
                 labels: Mapping[str, str] | None = None, **sliders: Spec):
        pictures = dict(image) if isinstance(image, Mapping) else {"the course's picture": image}
        if not pictures:
            raise ValueError("image is an empty mapping; expected at least one image")
        for name, one in pictures.items():
            validate_image(one, name=f"image {name!r}" if len(pictures) > 1 else "image", channels=(1, 3), batch=False)
        labels = dict(labels or {})
        if unknown := set(labels) - set(sliders):
            raise ValueError(f"labels names {', '.join(sorted(unknown))}; expected names among {', '.join(sliders)}")

        self._function, self._pictures, self._alt, self._caption = function, pictures, alt, caption
        self.result: Tensor | None = None
        self.error: Exception | None = None
        self.controls = {name: control(spec, name=name, label=labels.get(name)) for name, spec in sliders.items()}
        self._labels = {name: labels.get(name, name.replace("_", " ")) for name in sliders}
        self._choice = ipywidgets.Dropdown(options=list(pictures), description="picture")
        self._message = ipywidgets.HTML()
        self._upload = upload_button(self._receive, message=self._message)
        first = next(iter(pictures.values()))
        if compare:
            self.picture = Compare(first, first, alt=alt, caption=caption, scale=scale)
        else:
            self.picture = Picture(first, alt=alt, caption=caption, scale=scale, interactive=False)

        align([*self.controls.values(), self._choice])
        self._show_choice()
        source = ipywidgets.HBox([self._choice, *([self._upload] if upload else [])], layout={"flex_flow": "row wrap"})
        for one in self.controls.values():
            one.observe(self.redraw, names="value")
        self._choice.observe(self.redraw, names="value")
        super().__init__([*self.controls.values(), source, self.picture, self._message])
        self.add_class("labkit-widget")
        self.redraw()

    @property
    def values(self) -> dict[str, object]:
        return {name: one.value for name, one in self.controls.items()}

    @property
    def image(self) -> Tensor:
        """The image that the function works on now."""
        return self._pictures[self._choice.value]

    def redraw(self, change: object = None) -> None:
        """Call the function at the present values and show what it returns."""
        start = time.perf_counter()
        try:
            result = self._function(self.image.clone(), **self.values)   # a reader's function may write into it
            if isinstance(result, Tensor) and result.is_cuda:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            validate_image(result, name="the function's result", channels=(1, 3), batch=False)
        except Exception as error:   # a reader's own function may raise anything, and a callback would swallow it
            self.error = error
            self._message.value = error_html(error)
            self.add_class("labkit-stale")
            return
        self.error, self.result = None, result
        self.remove_class("labkit-stale")
        alt = self._described(self._alt)
        if isinstance(self.picture, Compare):
            self.picture.show(result, before=self.image, alt=alt)
        else:
            self.picture.show(result, alt=alt)
        self._message.value = note_html(f"computed in {1000 * seconds:.0f} ms")

    def _receive(self, file: str, image: Tensor) -> None:
        name = f"{file} (yours)"
        self._pictures[name] = image
        self._choice.unobserve(self.redraw, names="value")   # one redraw, and also for the same name again
        self._choice.options = list(self._pictures)
        self._choice.value = name
        self._choice.observe(self.redraw, names="value")
        self._show_choice()
        self.redraw()

    def _show_choice(self) -> None:
        self._choice.layout.display = "flex" if len(self._pictures) > 1 else "none"

    def _described(self, text: str) -> str:
        values = ", ".join(f"{self._labels[name]} = {_readable(value)}" for name, value in self.values.items())
        return f"{text} ({values})" if values else text

    def still(self) -> figures.Figure:
        if self.error is not None or self.result is None:
            return figures.show(self.image, alt=self._alt, caption=f"{self._caption} The function said: {self.error}")
        caption = self._described(self._caption)
        if isinstance(self.picture, Compare):
            return figures.show([self.image, self.result], titles=list(self.picture.labels), alt=self.picture.alt,
                                caption=caption)
        return figures.show(self.result, alt=self.picture.alt, caption=caption, width=self.picture.shown_width)


def control(spec: Spec, *, name: str, label: str | None = None) -> ipywidgets.ValueWidget:
    """The ipywidgets control for one parameter; `Explorer` says what `spec` may be."""
    description = label or name.replace("_", " ")
    if isinstance(spec, ipywidgets.ValueWidget):
        spec.description = spec.description if label is None and spec.description else description
        return spec
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, description=description)
    if isinstance(spec, list) and spec:
        return ipywidgets.Dropdown(options=spec, description=description)
    if not isinstance(spec, tuple) or len(spec) not in (3, 4):
        raise ValueError(f"{name} is {describe(spec)}; expected (low, high, start), (low, high, start, step), a list "
                         "of choices, True or False, or an ipywidgets control")
    for part, value in zip(("low", "high", "start", "step"), spec):
        validate_number(value, name=f"{part} of {name}")
    low, high, start, *step = spec
    if not low <= start <= high or low == high or (step and step[0] <= 0):
        raise ValueError(f"{name} is {spec}; expected low ≤ start ≤ high, low < high and a positive step")
    if all(isinstance(value, int) for value in spec):
        return ipywidgets.IntSlider(value=start, min=low, max=high, step=step[0] if step else 1,
                                    description=description)
    if not step and low > 0 and high >= 100 * low:
        return ipywidgets.FloatLogSlider(value=start, min=math.log10(low), max=math.log10(high), step=0.05,
                                         description=description, readout_format=".2g")
    width = step[0] if step else _round_step((high - low) / 100)
    decimals = max(0, -math.floor(math.log10(width) + 1e-9))
    return ipywidgets.FloatSlider(value=start, min=low, max=high, step=width, description=description,
                                  readout_format=f".{decimals}f")


def align(controls: Sequence[ipywidgets.ValueWidget]) -> None:
    """Give controls one width for their labels, so that the sliders stand under one another."""
    longest = max((len(one.description) for one in controls), default=0)
    for one in controls:
        one.style.description_width = f"{longest + 1}ch"
        one.layout.width = "min(100%, 480px)"


def _round_step(step: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= step * (1 + 1e-9))


def _readable(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
