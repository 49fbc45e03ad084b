"""How long a class takes: honest submissions of chapter 1, marked by as many processes as there are cores.

    labkit bench grading                                   10, 20 and 40 submissions
    python -m tests.benchmarks.grading 100 --jobs 2        that many

A row says seconds, submissions per minute, and the largest resident memory of all processes of the grader together. The
last row fits `seconds = start + each · submissions` by least squares: the time is linear when the largest deviation is small.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from labkit.grading import batch
from tests import grading_submissions as made
from tests.benchmarks import timing

SIZES = (10, 20, 40)


def rows(sizes: tuple[int, ...] = SIZES, jobs: int | None = None, progress: bool = False) -> list[dict]:
    """One row for each size of class, and one for the fit."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        course = made.write_course(folder / "course")
        found = [_measure(folder / str(size), size, course, jobs, progress) for size in sizes]
    if len(found) > 2:
        each, start = np.polyfit([row["submissions"] for row in found], [row["seconds"] for row in found], 1)
        off = max(abs(row["seconds"] / (start + each * row["submissions"]) - 1) for row in found)
        found.append({"submissions": f"fit: {start:.3g} s + {each:.3g} s each", "seconds": "", "per minute": 60 / each,
                      "memory, GB": "", "mean mark": f"at most {100 * off:.2g} % off"})
    return found


def _measure(folder: Path, size: int, course: Path, jobs: int | None, progress: bool) -> dict:
    for seed in range(size):
        made.write(folder / "class" / f"student{seed:03d}" / f"{made.CHAPTER}.ipynb", made.honest(seed))
    over, peak = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.5):
            peak[0] = max(peak[0], sum(_own_memory(process) for process in [psutil.Process(), *psutil.Process().children(recursive=True)]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        done = batch.grade(folder / "class", out=folder / "GRADES", secret=folder / "secret", course=course, jobs=jobs, progress=progress)
    finally:
        over.set()
        watcher.join()
    seconds = time.perf_counter() - start
    return {"submissions": size, "seconds": seconds, "per minute": 60 * size / seconds, "memory, GB": peak[0] / 1e9,
            "mean mark": sum(row.mark for row in done.rows) / size}


def _own_memory(process: psutil.Process) -> int:
    """Resident memory of a process that it does not share with others, as far as the system tells."""
    try:
        return process.memory_full_info().uss
    except psutil.Error:
        return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure how long marking a class takes.")
    parser.add_argument("sizes", nargs="*", type=int, default=list(SIZES), help="numbers of submissions")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="submissions marked at one time")
    chosen = parser.parse_args()
    print(timing.table(rows(tuple(chosen.sizes), chosen.jobs, progress=True)))
