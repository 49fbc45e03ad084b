"""Things to touch in a notebook: sliders over a function, before and after, a mask brush, a look into the methods.

They live in JupyterLab 4 and Notebook 7, without a network, by mouse, touch and keyboard. Each of them leaves a still
picture with its caption and alternative text in the notebook, which stays when no kernel runs.

Each is a class. The general ones know nothing of the chapters; a chapter's own stand in the file with the chapter's
name, which is loaded, and the chapter with it, when one of them is first used. What all share is in `base.py`. The
scripts and the style sheets lie beside the Python files.
"""

import importlib

from labkit.widgets.eraser import Eraser
from labkit.widgets.explorer import Explorer
from labkit.widgets.film import Film
from labkit.widgets.monitor import TrainingMonitor
from labkit.widgets.painting import Canvas, Painter
from labkit.widgets.pictures import Brush, Compare, Picture

_OF_CHAPTERS = {
    "WeightsExplorer": "filtering",
    "FieldPlayer": "patchmatch",
    "MatchExplorer": "patchmatch",
    "MatchPictures": "patchmatch",
    "SynthesisPlayer": "texture_optimization",
}

__all__ = [
    "Brush",
    "Canvas",
    "Compare",
    "Eraser",
    "Explorer",
    "FieldPlayer",
    "Film",
    "MatchExplorer",
    "MatchPictures",
    "Painter",
    "Picture",
    "SynthesisPlayer",
    "TrainingMonitor",
    "WeightsExplorer",
]


def __getattr__(name: str):
    """Load a chapter's widgets when one of them is first used, so that `import labkit.widgets` stays quick."""
    if name in _OF_CHAPTERS:
        return getattr(importlib.import_module(f"labkit.widgets.{_OF_CHAPTERS[name]}"), name)
    raise AttributeError(f"labkit.widgets has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
