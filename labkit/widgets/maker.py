"""A picture to paint on, a button, and beside it what a function makes of the painting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ipywidgets
from torch import Tensor

from labkit import figures
from labkit.validation import describe
from labkit.widgets.base import Still, caption_html, error_html, note_html, zoom
from labkit.widgets.pictures import Picture
from labkit.widgets.uploads import upload_button

__all__ = ["Maker"]


class Maker(Still, ipywidgets.VBox):
    """What `Eraser` and `Painter` share: the button, the busy state, errors as sentences, one or several results.

    A subclass says what its function is given (`_given`), what it may return (`_checked`) and what happens to a
    reader's own picture (`_receive`); it puts the picture to paint on into `_panels`, and `_beside` after it.

    Attributes
    ----------
    button : the button that calls the function; `make()` does it from Python.
    made : what the function returned last, `None` before its first success.
    results : the `Picture`s of it.
    error : what the function raised last, or `None`.
    """

    verb, doing, done, noun = "Make", "Making", "made", "picture"   # the first on the button

    def __init__(self, function: Callable[..., Tensor], *, name: str, room: int, icon: str, tooltip: str, upload: bool,
                 alt: str, caption: str):
        if not callable(function):
            raise ValueError(f"{name} is {describe(function)}; expected a function that returns an image")
        self._function, self._room, self._alt, self._caption = function, room, alt, caption
        self.made: Tensor | None = None
        self.error: Exception | None = None
        self.results: list[Picture] = []
        self.button = ipywidgets.Button(description=self.verb, button_style="primary", icon=icon, tooltip=tooltip)
        self._message, self._told = ipywidgets.HTML(), ipywidgets.HTML()
        self._upload = upload_button(self._receive, message=self._message)
        self._beside = ipywidgets.VBox()
        self._panels = ipywidgets.HBox(layout={"flex_flow": "row wrap"})
        tools = ipywidgets.HBox([self.button, *([self._upload] if upload else [])], layout={"flex_flow": "row wrap"})
        super().__init__([self._panels, tools, self._message, ipywidgets.HTML(caption_html(caption))])
        self.add_class("labkit-widget")
        self.button.on_click(self.make)

    def make(self, button: object = None) -> None:
        """Call the function on what is painted, and show what it returns."""
        self.error = None
        given = self._given()
        if given is None:
            return
        self._busy(True)
        start = time.perf_counter()
        try:
            made = self._function(*(one.clone() for one in given))   # a reader's function may write into them
            self._checked(made)
        except Exception as error:   # a reader's own function may raise anything, and a callback would swallow it
            self.error = error
            self._message.value = error_html(error)
            self._beside.add_class("labkit-stale")
            return
        finally:
            self._busy(False)
        self.made = made.detach()
        self._show(f"{time.perf_counter() - start:.1f} s")
        self._beside.remove_class("labkit-stale")
        self._message.value = ""

    def _given(self) -> tuple[Tensor, ...] | None:
        """What the function is called with; `None`, and a message, where there is nothing to call it with."""
        raise NotImplementedError

    def _checked(self, made: Any) -> None:
        """Refuse what the function should not have returned."""
        raise NotImplementedError

    def _titled(self) -> dict[str, Tensor]:
        """The pictures that the function made, by their titles."""
        if len(self._each) == 1:
            return {self.done: self._each[0]}
        return {f"{self.noun} {k}": one for k, one in enumerate(self._each, start=1)}

    @property
    def _each(self) -> list[Tensor]:
        """The pictures that the function made."""
        if self.made is None:
            return []
        return list(self.made) if self.made.ndim == 4 else [self.made]

    def _receive(self, file: str, image: Tensor) -> None:
        raise NotImplementedError

    def _told_of(self, seconds: str) -> str:
        """The sentence under new results."""
        return f"{self.done} in {seconds}"

    def _begin(self, image: Tensor) -> None:
        """Before the first result: a picture that says that there is none yet."""
        self.made, self.error = None, None
        self._put({f"not {self.done} yet": image})
        self._tell(f"not {self.done} yet")
        self._beside.remove_class("labkit-stale")

    def _show(self, seconds: str) -> None:
        self._put(self._titled())
        self._tell(self._told_of(seconds))

    def _put(self, titled: dict[str, Tensor]) -> None:
        """Show pictures, several of them in a small grid; those that are there are changed rather than replaced."""
        several = len(titled) > 1
        columns = 1 if not several else 2 if len(titled) <= 4 else 3
        scale = zoom(self._room // columns - 12 * (columns - 1), *titled.values())
        if len(self.results) != len(titled):
            self.results = [Picture(image, alt=self._alt, interactive=False) for image in titled.values()]
            grid = ipywidgets.HBox(self.results, layout={"flex_flow": "row wrap", "max_width": f"{self._room + 40}px"})
            self._beside.children = [grid, self._told] if several else self.results
            self._panels.layout.align_items = "flex-start" if several else "flex-end"   # one is level with the painting
        for picture, (title, image) in zip(self.results, titled.items()):
            picture.show(image, scale=scale, alt=f"{self._alt} ({title})", caption=title if several else "")

    def _tell(self, sentence: str) -> None:
        """What is said under the results: as the caption of the only one, or under all."""
        if len(self.results) > 1:
            self._told.value = caption_html(sentence)
        else:
            self.results[0].caption = sentence

    def _repainted(self, change: object = None) -> None:
        if self.made is not None and self.error is None:
            self._tell(f"{self.done} before you painted on")

    def _busy(self, busy: bool) -> None:
        self.button.disabled = busy
        self.button.description = f"{self.doing} …" if busy else self.verb
        if busy:
            self._message.value = note_html(f"{self.doing}; this can take some seconds.")

    def _figure(self, shown: dict[str, Tensor], width: int) -> figures.Figure:
        """A still picture of what was painted, and of the results."""
        shown = {**shown, **self._titled()}
        said = f" The function said: {self.error}" if self.error is not None else ""
        return figures.show(list(shown.values()), titles=list(shown), alt=self._alt, caption=f"{self._caption}{said}",
                            width=width)
