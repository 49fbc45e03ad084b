"""Where compiled kernels are kept from one start to the next, and what is said while they are compiled.

numba's own cache raises where no folder can be written to, and for ever after when one of its files is damaged: a kernel
without a cache still works, so neither is a reason to stop. `kept` stands above numba's decorator, on the CPU and on the
GPU: `@kept` over `@njit(parallel=True)`.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import stat
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import njit
from numba.core import event

__all__ = ["PATIENCE", "damaged", "folder", "kept", "temporary"]

SHARED = Path(__file__).with_name("shared.py")  # compiled into every kernel that uses it
PATIENCE = 2.0  # seconds of compiling before a reader is told what is going on
Kernel = TypeVar("Kernel")


def kept(kernel: Kernel) -> Kernel:
    """Keep what numba compiles of a function: beside its source, else in the user's cache, else in `temporary()`, else nowhere.

    `NUMBA_CACHE_DIR` comes first. What is not compiled (numba's simulator, `NUMBA_DISABLE_JIT=1`) is returned as it is.
    """
    if not hasattr(kernel, "enable_caching"):
        return kernel
    dispatcher: Any = kernel
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # no folder can be written to
        place = temporary()
        if place is None:
            return kernel
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(place)
        try:
            dispatcher.enable_caching()
        except RuntimeError:
            return kernel
        finally:
            numba.config.CACHE_DIR = before
    # numba compiles anew when the kernel's own file has changed, and must when what it shares has
    index, shared = dispatcher._cache._cache_file, SHARED.stat()
    index._source_stamp = index._source_stamp, shared.st_mtime, shared.st_size
    dispatcher._cache = _Forgiving(dispatcher._cache)
    return kernel


class _Forgiving:
    """A function's cache on disk whose files may be damaged, and whose folder may be full or gone."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return self._cache.load_overload(signature, context)
        except Exception:  # a damaged pickle can raise anything; the function is then compiled anew
            with suppress(OSError):
                self._cache.flush()
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        with suppress(OSError):  # it is compiled all the same
            try:
                self._cache.save_overload(signature, compiled)
            except (EOFError, pickle.UnpicklingError):  # the index has been damaged meanwhile
                self._cache.flush()
                self._cache.save_overload(signature, compiled)


def temporary() -> Path | None:
    """A folder of this user's own among the temporary ones; `None` where there is none.

    What numba keeps is a program that runs when it is read, so a folder that others may write to will not do.
    """
    user = str(os.getuid()) if hasattr(os, "getuid") else ""  # elsewhere, temporary folders are the user's own
    try:
        place = Path(tempfile.gettempdir()) / f"labkit-kernels{'-' * bool(user)}{user}"
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if user and (found.st_uid != os.getuid() or found.st_mode & 0o077) or not stat.S_ISDIR(found.st_mode):
            return None
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return None
    return place


def folder() -> Path | None:
    """Where labkit's kernels are kept here; `None` where they are compiled at every start."""
    path = getattr(kept(njit(_probe)), "_cache", None)
    return Path(path.cache_path) if path is not None and path.cache_path else None


def _probe():
    """Stands for all kernels, which lie beside it."""


def damaged(place: Path) -> list[Path]:
    """The files of numba's cache in a folder that cannot be read; their kernels are compiled anew when they are called."""
    return [path for path in sorted(place.glob("*.nb[ic]")) if not _whole(path)]


def _whole(path: Path) -> bool:
    """Whether a file is pickles from end to end; looking does not run what they hold."""
    try:
        with path.open("rb") as file:
            for _ in range(2 if path.suffix == ".nbi" else 1):  # an index: the version, then the rest
                for _ in pickletools.genops(file):
                    pass
    except (OSError, ValueError):
        return False
    return True


# --- while it compiles ----------------------------------------------------------------------------------------------


class _Announcer(event.Listener):
    """Tells the reader of a notebook what takes so long, when one of labkit's kernels compiles for longer than `PATIENCE`."""

    def __init__(self) -> None:
        self._depth = 0  # compiling a kernel compiles what it calls
        self._timer: threading.Timer | None = None

    def on_start(self, event: Any) -> None:
        if _ours(event):
            self._depth += 1
            if self._depth == 1:
                self._timer = threading.Timer(PATIENCE, _announce)
                self._timer.daemon = True
                self._timer.start()

    def on_end(self, event: Any) -> None:
        if _ours(event):
            self._depth -= 1
            if self._depth == 0 and self._timer is not None:
                self._timer.cancel()


def _ours(event: Any) -> bool:
    module = event.data["dispatcher"].py_func.__module__  # None of what was executed in a namespace without a name
    return module is not None and module.startswith("labkit.")


def _announce() -> None:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):  # a log or a terminal needs no comfort
        sys.stderr.write("labkit: compiling, once; from now on this takes no time.\n")


event.register("numba:compile", _Announcer())
