"""A folder of the reader's own to work in: the students' notebooks, the pictures and the first page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from labkit import images
from labkit.grading.release import student_notebook

__all__ = ["Started", "notebooks_folder", "start"]


class Started(NamedTuple):
    """What `start` did: how many files it wrote, and which were there before and stayed as they are."""

    copied: int
    kept: list[Path]


def notebooks_folder() -> Path:
    """Where the students' notebooks lie: in the repository, or in the installed copy.

    Raises
    ------
    FileNotFoundError : in neither.
    """
    package = Path(__file__).resolve().parent
    for place in (package.parent / "notebooks", package / "_notebooks"):
        if (place / "index.ipynb").is_file():
            return place
    raise FileNotFoundError(f"the course's notebooks were not found beside {package} or in it; install labkit anew")


def start(folder: Path) -> Started:
    """Copy the course into a folder, which is made; what is there already is somebody's work and is never written over.

    Raises
    ------
    OSError : the folder cannot be made or written to.
    ValueError : a notebook of the course holds somebody's work, as in a repository that is worked in.
    """
    copied, kept = 0, []
    for source, name in ((notebooks_folder(), "notebooks"), (images.data_folder(), "data")):
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if not path.is_file() or any(part.startswith(".") for part in inside.parts):
                continue
            target = folder / name / inside
            if target.exists():
                kept.append(target)
                continue
            content = path.read_bytes()
            if path.suffix == ".ipynb":
                content = student_notebook(inside.as_posix(), content)
            target.parent.mkdir(parents=True, exist_ok=True)
            # a copy that is stopped leaves no half of a notebook
            beside = target.with_name(f".{target.name}.{os.getpid()}")
            beside.write_bytes(content)
            os.replace(beside, target)
            copied += 1
    return Started(copied, kept)
