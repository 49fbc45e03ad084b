"""Emptying a folder that a student's code has filled."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

__all__ = ["empty"]


def empty(folder: Path) -> None:
    """Remove everything in a folder, also what is nested too deep for a path, or closed to its owner.

    What is mounted in it stays: no student's code can mount, so it is Python or a library, and closed. Folders are
    moved up before they are entered, so no path grows longer than two names.

    Raises
    ------
    OSError : something cannot be removed.
    """
    names = (folder / f".{number}" for number in itertools.count())
    waiting = [inner for inner in _remove_files(folder) if not os.path.ismount(inner)]
    while waiting:
        inner = waiting.pop()
        os.chmod(inner, 0o700)
        for below in _remove_files(inner):
            os.chmod(below, 0o700)      # to move a folder is to write into it
            target = next(name for name in names if not name.exists())
            os.rename(below, target)
            waiting.append(target)
        os.rmdir(inner)


def _remove_files(folder: Path) -> list[Path]:
    """Remove what is no folder; returns the folders."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                os.unlink(entry.path)
    return folders
