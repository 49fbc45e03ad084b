"""Results that take long: computed by `labkit results NN`, stored in `docs/results/NN.json`, shown by the notebooks.

One module per chapter has `compute()`, which returns what is to be stored, and `live(results, size)`, which recomputes a
small part of it in front of the reader; some have `gallery(size)`, which draws what each method makes.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

from labkit import chapters, figures
from labkit.figures import Figure

__all__ = ["compute", "folder", "gallery", "live", "show", "stored"]


def __dir__() -> list[str]:
    return __all__


def folder() -> Path:
    """Where the stored results lie: the repository's `docs/results`, or the installed copy."""
    package = Path(__file__).resolve().parent.parent
    for place in (package.parent / "docs" / "results", package / "_results"):
        if place.is_dir():
            return place
    raise FileNotFoundError("the stored results were not found; expected docs/results beside the labkit folder")


def compute(number: str) -> dict:
    """Compute the results of a chapter anew, at the profile of this run.

    Parameters
    ----------
    number : the chapter's number, `"01"`; its topic, `"filtering"`, will do too.

    Returns
    -------
    A dictionary of plain data with `tables` (each with `caption`, `header` and `rows`), `seeds` and what else `live` needs.

    Raises
    ------
    ValueError : there is no such chapter.
    """
    return _module(number).compute()


def stored(number: str) -> dict:
    """What `labkit results NN` has stored.

    Raises
    ------
    FileNotFoundError : nothing is stored; the message says which command stores it.
    """
    chapter = chapters.find(number)
    path = folder() / f"{chapter.number}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `labkit results {chapter.number}` computes it")
    return json.loads(path.read_text(encoding="utf-8"))


def show(number: str, *, table: int = 0) -> Figure:
    """A stored table, with the day and the machine it comes from."""
    results = stored(number)
    chosen = results["tables"][table]
    origin = f"Computed on {results['date']} by `{results['command']}` on {results['machine']}."
    return figures.table(chosen["rows"], header=chosen["header"], caption=f"{chosen['caption']} {origin}")


def live(number: str, *, size: int) -> Figure:
    """A small part of the results, recomputed here and now on pictures `size` pixels wide."""
    return _module(number).live(stored(number), size)


def gallery(number: str, *, size: int) -> Figure:
    """What every method of a chapter makes of the same pictures, `size` pixels wide, drawn here and now.

    Raises
    ------
    ValueError : the chapter has no gallery.
    """
    module = _module(number)
    if not hasattr(module, "gallery"):
        raise ValueError(f"chapter {number} has no gallery; labkit.results.live shows its methods at work")
    return module.gallery(size=size)


def _module(number: str) -> ModuleType:
    return importlib.import_module(f"labkit.results.{chapters.find(number).topic}")
