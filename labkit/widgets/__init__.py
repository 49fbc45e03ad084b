"""Things to touch in a notebook: sliders over a function, before and after, a mask brush, a look into the methods.

They live in JupyterLab 4 and Notebook 7, without a network, by mouse, touch and keyboard. Each of them leaves a still
picture with its caption and alternative text in the notebook, which stays when no kernel runs.

The scripts and the style lie beside the Python files; `shared.js` is put in front of every script.
"""

from labkit.widgets.erasing import Eraser, eraser
from labkit.widgets.explorer import Explorer, explore
from labkit.widgets.fields import FieldPlayer, MatchExplorer, MatchPictures, field_player, match_explorer
from labkit.widgets.film import Film, film, synthesis_player
from labkit.widgets.monitor import TrainingMonitor
from labkit.widgets.painting import Canvas, Painter, painter
from labkit.widgets.pictures import Brush, Compare, Picture
from labkit.widgets.weights import WeightsExplorer, weights_explorer

__all__ = ["Brush", "Canvas", "Compare", "Eraser", "Explorer", "FieldPlayer", "Film", "MatchExplorer", "MatchPictures",
           "Painter", "Picture", "TrainingMonitor", "WeightsExplorer", "eraser", "explore", "field_player", "film",
           "match_explorer", "painter", "synthesis_player", "weights_explorer"]
