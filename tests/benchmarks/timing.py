"""Timing and memory helpers for the side-by-side benchmarks: same process, same threads, interleaved calls.

And the same beside other programs, as on a laptop that is never idle.
"""

from __future__ import annotations

import inspect
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

# What other programs do: keep one core, or compute in two threads that wait for each other as OpenMP lets them by itself.
SPINNING = "print(flush=True)\nwhile True: pass"
THREADED = ("import torch\ntorch.set_num_threads(2)\na = torch.rand(500, 500)\nprint(flush=True)\n"
            "while True: (a @ a).tanh().sum()")
UNHURRIED = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200", "OMP_NUM_THREADS": "2"}
SLOWER = 3      # times its quiet time: no call should take longer on a busy machine


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


@contextmanager
def neighbours(program: str = THREADED, count: int = 2) -> Iterator[list[subprocess.Popen]]:
    """Other programs that run meanwhile: so many of them, each from when it prints a line until the end."""
    programs = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ | UNHURRIED)
                for _ in range(count)]
    try:
        for one in programs:
            if not one.stdout.readline():
                raise RuntimeError(f"a program that should run meanwhile ended with status {one.wait()}")
        yield programs
    finally:
        for one in programs:
            one.kill()
            one.wait()
            one.stdout.close()


def quiet_and_busy(rows: Callable[..., list[dict]]) -> list[dict]:
    """The rows of a benchmark with two columns more, behind their time: the time beside two threaded programs, and how many
    times the quiet one that is."""
    quiet = rows()
    with neighbours():
        busy = rows(**{name: False for name in ("memory",) if name in inspect.signature(rows).parameters})
    found = []
    for calm, loaded in zip(quiet, busy, strict=True):
        row = {}
        for column, value in calm.items():
            row[column] = value
            if column in ("milliseconds", "seconds"):
                measured = isinstance(value, float) and isinstance(loaded[column], float)
                row[f"{column}, busy"] = loaded[column]
                row["busy / quiet"] = loaded[column] / value if measured else ""
        found.append(row)
    return found


def busy_verdict(rows: Iterable[dict]) -> str:
    """In words, which of labkit's rows are slow on a busy machine: against themselves, and against the peers of their task."""
    times: dict[str, dict[str, float]] = {}
    slow = []
    for row in rows:
        value = next((row[column] for column in row if column.endswith(", busy")), "")
        if isinstance(value, float):
            times.setdefault(row.get("task", ""), {})[row.get("peer", "labkit")] = value
            if row.get("peer", "labkit").startswith("labkit") and row["busy / quiet"] > SLOWER:
                slow.append(f"{row.get('task', '')} ({row['busy / quiet']:.3g})")
    behind = [task for task, by_peer in times.items() if "labkit" in by_peer and min(by_peer, key=by_peer.get) != "labkit"]
    return (f"Above {SLOWER} times the quiet time: {', '.join(slow) or 'none'}. Behind a peer in the same condition: "
            f"{', '.join(behind) or 'none'}.")


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
