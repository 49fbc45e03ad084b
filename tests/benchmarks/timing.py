"""Timing and memory helpers for the side-by-side benchmarks: same process, same threads, interleaved calls."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

import numpy as np


def use_threads(count: int) -> None:
    """Give torch, numba and OpenCV the same number of threads."""
    import cv2
    import numba
    import torch

    torch.set_num_threads(count)
    numba.set_num_threads(count)
    cv2.setNumThreads(count)


def side_by_side(functions: dict[str, Callable[[], object]], repeats: int = 15) -> dict[str, float]:
    """Median milliseconds of one call of each function.

    The functions take turns, so that whatever else the machine does meets all of them alike; the order is reversed
    every other round, so that none always runs after the same neighbour. Calls before the clock starts pay for
    compiling, caches and memory.

    Parameters
    ----------
    functions : what to call, without arguments, by name.
    repeats : number of timed calls of each; where a call takes over a second, three are enough.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    slowest = 0.0
    for function in functions.values():
        function()
        start = time.perf_counter()
        function()
        slowest = max(slowest, time.perf_counter() - start)
    order = list(functions)
    for _ in range(repeats if slowest < 1 else min(3, repeats)):
        for name in order:
            start = time.perf_counter()
            functions[name]()
            times[name].append(1000 * (time.perf_counter() - start))
        order.reverse()
    return {name: statistics.median(values) for name, values in times.items()}


def psnr(first: np.ndarray, second: np.ndarray, margin: int = 0) -> float:
    """Agreement of two `(C, H, W)` arrays in [0, 1], in dB, without the `margin` pixels along each side."""
    inside = (..., slice(margin, first.shape[-2] - margin), slice(margin, first.shape[-1] - margin))
    error = float(np.mean((np.asarray(first[inside], np.float64) - np.asarray(second[inside], np.float64)) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def peak_memory(setup: str, call: str) -> float:
    """Megabytes by which one call raises the resident memory of a fresh process (Linux).

    Parameters
    ----------
    setup : Python text that imports, makes the data and warms up (compiling must not be counted).
    call : Python text of the one call that is measured; keep its result in a variable.
    """
    program = "\n".join((
        "import gc",
        "def resident(field):",
        "    with open('/proc/self/status') as status:",
        "        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024",
        setup,
        "gc.collect()",
        "with open('/proc/self/clear_refs', 'w') as refs:",
        "    refs.write('5')            # the peak starts again from the present",
        "before = resident('VmRSS')",
        call,
        "print('megabytes', resident('VmHWM') - before)",
    ))
    return _printed_number(program, "megabytes")


def first_call(setup: str, call: str, *, empty_cache: bool) -> float:
    """Seconds of one call in a fresh process, with numba's disk cache empty or as it is."""
    program = "\n".join(("import time", setup, "start = time.perf_counter()", call,
                         "print('seconds', time.perf_counter() - start)"))
    with tempfile.TemporaryDirectory() as folder:
        return _printed_number(program, "seconds", **({"NUMBA_CACHE_DIR": folder} if empty_cache else {}))


def _printed_number(program: str, label: str, **environment: str) -> float:
    """What a Python program, run on its own, prints behind the label."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600,
                          env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(f"the measured process failed:\n{done.stderr}")
    return float(done.stdout.rsplit(label, 1)[1])


def table(rows: Iterable[dict]) -> str:
    """The rows of a benchmark as a markdown table; the columns are the keys of the first row."""
    def cell(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0f}" if 1000 <= abs(value) < math.inf else f"{value:.3g}"

    rows = list(rows)
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join("---" for _ in columns) + "|"]
    lines += ["| " + " | ".join(cell(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)
