"""JupyterLab as the course shows it: without the teacher's side of nbgrader, with lines of a width that can be read.

This folder is one more of Jupyter's configuration folders for the time of a session, in front of the user's own, which
stay as they are. `jupyter_server_config.d` and `labconfig` switch nbgrader off; this module is loaded as an extension of
the server and adds `custom/custom.css`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["configure"]

_FOLDER = Path(__file__).resolve().parent


def configure() -> list[str]:
    """Make this folder known to Jupyter in this process; returns the options that JupyterLab needs."""
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
        filter(None, [str(_FOLDER), os.environ.get("JUPYTER_CONFIG_PATH")])
    )
    return ["--LabApp.custom_css=True"]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "labkit.lab"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Jupyter calls this: look for a style sheet here after the user's own."""
    server.web_app.settings["static_custom_path"].insert(1, str(_FOLDER / "custom"))
