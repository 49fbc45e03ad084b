"""What all widgets share: the still picture that remains when no kernel runs, scripts and style, sizes, and words."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import anywidget
import traitlets
from torch import Tensor

from labkit.figures import Figure
from labkit.validation import validate_number

__all__ = [
    "PAIR",
    "TILE",
    "VIEW",
    "PictureWidget",
    "Still",
    "caption_html",
    "error_html",
    "note_html",
    "script",
    "style",
    "zoom",
]

VIEW = "application/vnd.jupyter.widget-view+json"
TILE = 280  # screen pixels: three pictures stand side by side in a window 1280 wide
PAIR = 460  # the same for two
FOLDER = Path(__file__).parent


def script(*names: str) -> str:
    """The text of some of this folder's scripts, behind what all of them share."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("shared.js", *names))


def style(*names: str) -> str:
    """The text of some of this folder's style sheets, behind what all widgets share."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("shared.css", *names))


class Still:
    """Mixin, before the widget's class: beside the live view, the output holds `still()` as HTML and as text.

    A notebook prefers the live view. Where there is none (a repository page, a book, a notebook whose widget entries
    were removed), it shows the still picture instead of the name of a Python class.
    """

    def still(self) -> Figure:
        """The widget as it stands now, as a figure."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its still picture is")

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]  # of the widget that this is mixed into
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        figure = self.still()
        return {VIEW: data[VIEW], "text/html": figure.html, "text/plain": figure.text}, metadata


class PictureWidget(Still, anywidget.AnyWidget):
    """What all pictures share that a script of ours draws: a size, an enlargement, words.

    Parameters
    ----------
    image : (C, H, W) image; it sets the size.
    alt : one sentence that says what is to be seen; must not be empty.
    caption : the sentence under the picture.
    scale : screen pixels per pixel; `None` enlarges by the smallest whole factor to at least 320 screen pixels.
    traits : what a subclass sends to its script besides.
    """

    _css = style()
    size = traitlets.Tuple(traitlets.Int(), traitlets.Int(), help="(height, width) in pixels").tag(sync=True)
    scale = traitlets.Float(help="screen pixels per pixel").tag(sync=True)
    alt = traitlets.Unicode(help="what is to be seen, for who cannot see it").tag(sync=True)
    caption = traitlets.Unicode(help="the sentence under the picture").tag(sync=True)

    def __init__(self, image: Tensor, *, alt: str, caption: str, scale: float | None, **traits: object):
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError("alt is empty; expected a sentence that says what the picture shows")
        if scale is not None:
            validate_number(scale, name="scale", above=0)
        self._own_scale = scale
        self.image = image
        super().__init__(alt=alt, caption=caption, **self._measures(image), **traits)

    @property
    def shown_width(self) -> int:
        """Width in screen pixels, where there is room."""
        return round(self.size[1] * self.scale)

    def _measures(self, image: Tensor) -> dict[str, object]:
        height, width = image.shape[-2:]
        return {"size": (height, width), "scale": float(self._own_scale or math.ceil(320 / max(height, width)))}

    def _change(self, traits: dict[str, object]) -> None:
        """Set several traits in a single message to the browser; observers hear of them when all are set."""
        with self.hold_sync(), self.hold_trait_notifications():
            for name, value in traits.items():
                setattr(self, name, value)


def zoom(room: int, *pictures: Tensor) -> float:
    """Screen pixels per pixel that fit pictures into squares of `room` screen pixels; whole from 2 on."""
    factor = room / max(side for picture in pictures for side in picture.shape[-2:])
    return float(int(factor)) if factor >= 2 else factor


def note_html(text: str) -> str:
    """A remark beside a picture, for an `ipywidgets.HTML`."""
    return f'<span class="labkit-note">{escape(text)}</span>' if text else ""


def caption_html(caption: str) -> str:
    """A caption, for an `ipywidgets.HTML`."""
    return f'<span class="labkit-caption">{escape(caption)}</span>' if caption else ""


def error_html(error: Exception) -> str:
    """What went wrong, for an `ipywidgets.HTML`: the message, and the kind of error unless it is a `ValueError`."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f'<span class="labkit-error" role="alert">{escape(kind + (str(error) or "no message"))}</span>'
