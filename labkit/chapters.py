"""The chapters of the course: the one table that everything reads which lists them.

A chapter's number, topic and title are given here and nowhere else. The topic names its library `labkit.filtering`, its
checks `labkit.checks.filtering` and its results `labkit.results.filtering`; number and topic name its notebooks.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHAPTERS", "Chapter", "find", "split"]


def __dir__() -> list[str]:
    return __all__


class Chapter(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    number : two digits, `"01"`. topic : a Python name, `"filtering"`. title : as readers see it, `"Filtering"`.
    """

    number: str
    topic: str
    title: str

    @property
    def name(self) -> str:
        """Of its notebooks and their folders: `"01_filtering"`."""
        return f"{self.number}_{self.topic}"


CHAPTERS: tuple[Chapter, ...] = (
    Chapter("01", "filtering", "Filtering"),
    Chapter("02", "patchmatch", "PatchMatch"),
    Chapter("03", "texture_optimization", "Texture optimisation"),
    Chapter("08", "diffusion_inpainting", "Diffusion inpainting"),
)


def find(key: str) -> Chapter:
    """The chapter of that number (`"04"` or `"4"`), topic or name (`"01_filtering"`).

    Raises
    ------
    ValueError : there is none.
    """
    for chapter in CHAPTERS:
        if key in (chapter.number, chapter.number.lstrip("0"), chapter.topic, chapter.name):
            return chapter
    known = ", ".join(f"{chapter.number} ({chapter.topic})" for chapter in CHAPTERS)
    raise ValueError(f"no chapter is called {key!r}; expected a number or a topic of these: {known}")


def split(name: str) -> tuple[str, str]:
    """Number and topic of a notebook's name: `("01", "filtering")` of `"01_filtering"`.

    Raises
    ------
    ValueError : the name is not of that form.
    """
    number, _, topic = name.partition("_")
    if not (len(number) == 2 and number.isascii() and number.isdigit() and topic):
        raise ValueError(f"{name!r} is no name of a chapter's notebook; expected one such as '01_filtering'")
    return number, topic
