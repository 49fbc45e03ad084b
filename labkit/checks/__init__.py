"""Checks that teach: `from labkit.checks import filtering as check`, then `check.box_filter(box_filter)`.

One module per chapter, and the engine they share. A check calls the answer it is given, compares what comes back with
a reference on fresh inputs, and when they differ says which known mistake the answer looks like.
"""

from __future__ import annotations

import importlib

from labkit.checks.engine import Exercise

CHAPTERS = ("filtering", "patchmatch", "texture_optimization", "diffusion_inpainting")


def exercises(chapter: str) -> dict[str, Exercise]:
    """The exercises of a chapter, by name, in the order in which the notebook asks them.

    Raises
    ------
    ValueError : no chapter has that name.
    """
    if chapter not in CHAPTERS:
        raise ValueError(f"chapter is {chapter!r}; expected one of {', '.join(map(repr, CHAPTERS))}")
    module = importlib.import_module(f"labkit.checks.{chapter}")
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}
