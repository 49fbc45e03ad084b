"""Every kernel compiled before it is needed: each is called once, on pictures of a few pixels.

    python -m labkit.warm      what `labkit lab` runs beside the reader, at low priority

What is compiled is kept (`labkit.kernels.cache`), so this takes 45 s of one core the first time, and 3 s later on.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator

import torch

from labkit import chapters

__all__ = ["calls", "compile_all", "lower_priority"]


def calls() -> Iterator[tuple[str, Callable[[], object]]]:
    """What each kernel is called by, in the order of the chapters: a name for the reader, and the call.

    A chapter with kernels has a module `first_calls`.
    """
    image = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    for chapter in chapters.CHAPTERS:
        name = f"labkit.{chapter.topic}.first_calls"
        if importlib.util.find_spec(name):
            yield from importlib.import_module(name).first_calls(image)


def compile_all(say: Callable[[str], object] = lambda name: None) -> None:
    """Call every kernel once; `say` is told the name of what comes next."""
    for name, call in calls():
        say(name)
        call()


def lower_priority() -> None:
    """Let every other program go first: those that the reader waits for."""
    if hasattr(os, "nice"):
        os.nice(19)
    else:
        import psutil

        psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)


if __name__ == "__main__":
    lower_priority()
    torch.set_num_threads(1)
    compile_all()
    sys.exit(0)
