"""labkit: patch-based and internal methods for images and videos, as a course and as a library.

Modules, from the ground floor up: `images`, `figures`, `patches`, `pyramids`, `operators`, `restoration`, `metrics`,
`runtime`, `textures`, `training`, `descent`; a folder for each chapter of `labkit.chapters` (`filtering`, …); `widgets` and `checks`
for the notebooks.
"""

import importlib

from labkit import chapters, openmp

openmp.set_short_spin()     # before any module imports torch

__all__ = ["__version__", "chapters"]

__version__ = "0.1.0"

_SHARED = ("chapters", "checks", "descent", "features", "figures", "images", "metrics", "operators", "patches", "pyramids",
           "restoration", "results", "runtime", "textures", "training", "widgets")


def _modules() -> list[str]:
    """What `labkit.<name>` offers: what all chapters share, and the chapters."""
    return sorted([*_SHARED, *(chapter.topic for chapter in chapters.CHAPTERS)])


def __getattr__(name: str):
    """Load `labkit.filtering` and its like when they are first used, so that `import labkit` stays quick."""
    if name in _modules():
        return importlib.import_module(f"labkit.{name}")
    raise AttributeError(f"labkit has no module {name!r}; it has {', '.join(_modules())}")


def __dir__() -> list[str]:
    return [*_modules(), "__version__"]
