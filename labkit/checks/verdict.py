"""What a check says: in words for a terminal, with pictures for a notebook, as plain data for a grader."""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from labkit import figures

__all__ = ["Property", "Verdict", "marked_by_nbgrader", "pictures_of", "with_code"]


@dataclass(frozen=True)
class Property:
    """One thing that a check asked, with the share of the points it carries (0 for what only explains)."""

    sentence: str
    passed: bool
    share: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check.

    Attributes
    ----------
    exercise : its name. points : what it is worth. earned : what the answer earns, from 0 to `points`.
    outcome : `"right"`, `"wrong"` or `"unsolved"`.
    mistake : the name of the known mistake that the answer looks like, if any.
    diagnosis : what is wrong, in sentences; the first says it shortest.
    hint : the number of the hint that helps, if the mistake has one.
    properties : everything that was asked.
    pictures : titles and images: the input, what was expected, what was obtained, the difference.
    """

    exercise: str
    points: float
    earned: float
    outcome: str
    mistake: str | None = None
    diagnosis: tuple[str, ...] = ()
    hint: int | None = None
    properties: tuple[Property, ...] = ()
    pictures: tuple[tuple[str, Tensor], ...] = field(default=(), repr=False)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.outcome == "right"

    def headline(self) -> str:
        score = f"{self.earned:g} of {self.points:g} point{'' if self.points == 1 else 's'}"
        return {"right": f"✔ {self.exercise}: right, {score}.",
                "unsolved": f"○ {self.exercise}: not written yet, {score}. Replace the line that raises "
                            "NotImplementedError with your code (if you have, is that line still there?), run that cell, then this one.",
                "wrong": f"✘ {self.exercise}: not right yet, {score}."}[self.outcome]

    def __repr__(self) -> str:
        lines = [self.headline(), *(f"  {sentence}" for sentence in self.diagnosis)]
        if self.hint:
            lines.append(f"  Hint {self.hint} under the exercise says more.")
        if self.outcome != "unsolved":
            lines += [f"    {'✔' if p.passed else '✘'} {p.sentence}" for p in self.properties]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = {"right": "#2e8540", "unsolved": "#767676", "wrong": "#b8450b"}[self.outcome]
        parts = [f"<strong>{with_code(html.escape(self.headline()))}</strong>"]
        parts += [f'<p style="margin:0.4em 0">{with_code(html.escape(sentence))}</p>' for sentence in self.diagnosis]
        if self.hint:
            parts.append(f'<p style="margin:0.4em 0">Hint {self.hint} under the exercise says more.</p>')
        if self.pictures:
            titles, pictures = zip(*self.pictures)
            width = min(256, max(128, 8 * pictures[0].shape[-1]))
            parts.append(figures.show(list(pictures), titles=titles, width=width,
                                      alt="one of the inputs on which the answer was tried").html)
        if self.outcome != "unsolved" and self.properties:
            items = "".join(f"<li>{'✔' if p.passed else '✘'} {with_code(html.escape(p.sentence))}</li>" for p in self.properties)
            parts.append(f'<ul style="list-style:none;padding-left:0.5em;margin:0.4em 0">{items}</ul>')
        return (f'<div role="status" class="labkit-verdict" data-outcome="{self.outcome}" '
                f'style="border-left:5px solid {colour};padding:0.3em 0.8em">{"".join(parts)}</div>')

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        # nbgrader reads the marks from the text of a check cell's result, and shows students the rest
        text = f"{self.earned:g}" if marked_by_nbgrader() else repr(self)
        return {"text/plain": text, "text/html": self._repr_html_()}


def with_code(markup: str) -> str:
    """Escaped text with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", markup)


def marked_by_nbgrader() -> bool:
    """Whether this process is one in which nbgrader runs a student's notebook."""
    return bool(os.environ.get("NBGRADER_EXECUTION"))


def pictures_of(given: Tensor | None, expected: object, obtained: object) -> tuple[tuple[str, Tensor], ...]:
    """Pictures for a failed comparison, where its results can be seen: images, or matrices of numbers."""
    if not (isinstance(expected, Tensor) and isinstance(obtained, Tensor)) or obtained.is_complex() \
            or not torch.isfinite(obtained).all():
        return ()
    if _is_image(expected):
        panels = [("input", given)] if given is not None and _is_image(given) else []
        panels.append(("expected", expected))
        if obtained.shape == expected.shape:
            gain = 1 / max(float((obtained - expected).abs().max()), 1e-6)
            panels += [("yours", obtained), (f"difference × {gain:.3g}", figures.difference(obtained, expected, gain=gain))]
        elif _is_image(obtained):
            panels.append(("yours", obtained))
        return tuple((title, image.float()) for title, image in panels)
    if expected.ndim == 2 and obtained.shape == expected.shape and min(expected.shape) > 1:
        expected, obtained = expected.double(), obtained.double()   # masks and whole numbers too
        low, high = float(expected.min()), float(expected.max())
        gap = (obtained - expected).abs()
        return (("expected", figures.colorize(expected, low=low, high=high)),
                ("yours", figures.colorize(obtained, low=low, high=high)),
                (f"difference, up to {float(gap.max()):.3g}", figures.colorize(gap)))
    return ()


def _is_image(value: Tensor) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 3 and value.shape[0] in (1, 3) \
        and min(value.shape[1:]) > 1 and bool(torch.isfinite(value).all())
