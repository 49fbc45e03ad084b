"""OpenMP's threads, which torch and the kernels share: how they wait for each other, their number, and what a fork leaves of them.

Only the standard library is imported here: OpenMP reads its settings when `import torch` loads it, and never again.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["SHORT_SPIN", "START_FILE", "call", "set_at_every_start", "set_short_spin", "trouble"]

# A thread that waits for the others spins first, since to fall asleep and to wake takes time, and then sleeps. By itself it
# spins about as long as another program may keep a core, and where others run that wait comes at the end of every loop.
# GNU's OpenMP (Linux) counts turns of an empty loop, 300,000 by itself; LLVM's (macOS) and Intel's (Windows) milliseconds,
# 200 by themselves. Values are from `python -m tests.benchmarks.spin`.
SHORT_SPIN = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
START_FILE = "labkit_short_spin.pth"  # site-packages may hold files of this kind, whose lines each start of Python runs

_too_late = False
_aside: ThreadPoolExecutor | None = None  # in a forked process, the thread that kernels run in
_left_behind = False  # whether numba's threads are those of the process that this one was forked from


# --- how they wait ----------------------------------------------------------------------------------------------------


def set_short_spin() -> None:
    """Let waiting threads sleep soon: in this process if torch is not imported yet, and in those that it starts.

    What the environment says already, by the same names or by `OMP_WAIT_POLICY`, stays.
    """
    global _too_late
    if "OMP_WAIT_POLICY" in os.environ:
        return
    _too_late = _too_late or "torch" in sys.modules and not SHORT_SPIN.keys() <= os.environ.keys()
    for name, value in SHORT_SPIN.items():
        os.environ.setdefault(name, value)


def set_at_every_start(folder: str | os.PathLike | None = None) -> Path:
    """Write the file by which each start of this environment's Python does what `set_short_spin` does.

    Parameters
    ----------
    folder : where it is written; `None` means this environment's site-packages.

    Returns
    -------
    Path of the file, which is named `START_FILE`.
    """
    path = _start_file(folder)
    settings = ", ".join(f'os.environ.setdefault("{name}", "{value}")' for name, value in SHORT_SPIN.items())
    path.write_text(f'import os; "OMP_WAIT_POLICY" in os.environ or ({settings})\n', encoding="utf-8")
    return path


def trouble() -> tuple[str, str] | None:
    """Why threads may wait awake longer than they should, and what to do about it; `None` when all is well."""
    for name, value in {"OMP_WAIT_POLICY": None, **SHORT_SPIN}.items():
        if (found := os.environ.get(name)) != value:
            return (
                f"{name} is {found or 'not set'} in the environment, so that labkit's own setting is not in force",
                f"unset {name}",
            )
    if _too_late:
        return (
            "torch was imported before labkit, and its threads wait awake for long",
            "import labkit before torch, or before Python starts " + _assignments(),
        )
    if not _start_file().is_file():
        return (
            "they sleep soon where labkit is imported before torch, and not in a program of this Python that imports torch first",
            f'"{sys.executable}" -c "from labkit import openmp; openmp.set_at_every_start()"',
        )
    return None


def _assignments() -> str:
    return "set " + " and ".join(f"{name}={value}" for name, value in SHORT_SPIN.items())


def _start_file(folder: str | os.PathLike | None = None) -> Path:
    return Path(folder or sysconfig.get_path("purelib")) / START_FILE


# --- kernels, and forks -----------------------------------------------------------------------------------------------


def call(kernel: Callable[[], None]) -> None:
    """Call a kernel of the CPU; torch has as many threads afterwards as before.

    Raises
    ------
    RuntimeError : this process was made by a fork from one in which kernels had run.
    """
    if _left_behind:
        raise RuntimeError(
            "labkit's kernels cannot run in this process: it was made by fork, from one in which they had run, and their threads "
            'stayed there. Expected a process that starts anew: multiprocessing.get_context("spawn") or "forkserver" in place of '
            '"fork"; or a fork before the first call'
        )
    if _aside is None:
        _keeping_torchs_threads(kernel)
    else:
        _aside.submit(_keeping_torchs_threads, kernel).result()


def _keeping_torchs_threads(kernel: Callable[[], None]) -> None:
    """numba, where it starts its threads, says to OpenMP how many there are, and torch obeys."""
    import torch

    threads = torch.get_num_threads()
    try:
        kernel()
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _in_a_forked_child() -> None:
    """The thread that forked remembers helpers that do not exist here, and would wait for them for ever.

    So torch does without, and kernels run in a new thread, which makes helpers of its own.
    """
    global _aside, _left_behind
    torch = sys.modules.get("torch")
    if torch and hasattr(torch, "set_num_threads"):  # not while it is being imported
        torch.set_num_threads(1)
    _aside = ThreadPoolExecutor(1, thread_name_prefix="labkit kernels")
    _left_behind = _left_behind or _numba_has_threads_of_gnu()


def _numba_has_threads_of_gnu() -> bool:
    """numba ends the process rather than to start GNU's threads again after a fork; other kinds start again."""
    parallel, pool = (sys.modules.get(f"numba.np.ufunc.{name}") for name in ("parallel", "omppool"))
    if parallel is None or pool is None:
        return False
    try:
        return parallel.threading_layer() == "omp" and pool.openmp_vendor == "GNU"
    except ValueError:  # none are started yet
        return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_child)
