"""Checks that teach: `from labkit.checks import filtering as check`, then `check.box_filter(box_filter)`.

One folder per chapter, and the engine they share. A check calls the answer it is given, compares what comes back with
a reference on fresh inputs, and when they differ says which known mistake the answer looks like.
"""

from __future__ import annotations

import importlib

from labkit import chapters
from labkit.checks.engine import Exercise

__all__ = ["exercises"]


def __dir__() -> list[str]:
    return __all__


def exercises(topic: str) -> dict[str, Exercise]:
    """The exercises of a chapter, by name, in the order in which the notebook asks them.

    Raises
    ------
    ValueError : no chapter has that topic.
    """
    topics = [chapter.topic for chapter in chapters.CHAPTERS]
    if topic not in topics:
        raise ValueError(f"topic is {topic!r}; expected one of {', '.join(map(repr, topics))}")
    module = importlib.import_module(f"labkit.checks.{topic}")
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}
