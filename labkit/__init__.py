"""labkit: patch-based and internal methods for images and videos, as a course and as a library.

Modules, from the ground floor up: `images`, `figures`, `patches`, `pyramids`, `operators`, `restoration`, `metrics`,
`runtime`, `textures`, `training`; one module or folder per chapter (`filtering`, …); `widgets` and `checks` for the notebooks.
"""

import importlib

__version__ = "0.1.0"

_MODULES = ("checks", "diffusion_inpainting", "features", "figures", "filtering", "images", "metrics", "operators", "patches",
            "patchmatch", "pyramids", "restoration", "results", "runtime", "texture_optimization", "textures", "training", "widgets")


def __getattr__(name: str):
    """Load `labkit.filtering` and its like when they are first used, so that `import labkit` stays quick."""
    if name in _MODULES:
        return importlib.import_module(f"labkit.{name}")
    raise AttributeError(f"labkit has no module {name!r}; it has {', '.join(_MODULES)}")


def __dir__() -> list[str]:
    return [*_MODULES, "__version__"]
