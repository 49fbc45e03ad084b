"""How long something takes, for the stored tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Median of some runs after a first one, which pays for compiling and caches."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
