"""How long something takes, for the stored tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from labkit import runtime

__all__ = ["seconds", "timed"]

Result = TypeVar("Result")


def seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Median of some runs after a first one, which pays for compiling and caches; by the clock on the wall."""
    work()
    return statistics.median(timed(work, clock=time.perf_counter)[1] for _ in range(repeats))


def timed(work: Callable[[], Result], *, clock: Callable[[], float] | None = None) -> tuple[Result, float]:
    """A result and its seconds; without a clock, on the CPU those of the processor, whatever else the machine does meanwhile."""
    on_gpu = runtime.device().type == "cuda"
    clock = clock or (time.perf_counter if on_gpu else time.process_time)
    start = clock()
    result = work()
    if on_gpu:      # the work has only been handed over
        torch.cuda.synchronize()
    return result, clock() - start
