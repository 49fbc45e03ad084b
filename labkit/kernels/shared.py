"""What a kernel on the CPU and its twin on a GPU must have alike to the bit: random numbers, and what is drawn with them.

The source stands here once. `compiled` hands it to the compiler of a twin. It keeps to what numba compiles for both: no `min`
and `max`, which the CUDA target of numba 0.68 does not know. Python's own version of the numbers is `labkit.runtime.hashed`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Shared", "compiled"]

DRAWS = 128  # random numbers set aside for each match of a patch: two for each halving of a radius below 2⁶⁴


class Shared(NamedTuple):
    """The functions of this file, compiled."""

    place: Callable[..., Any]
    first_draw: Callable[..., Any]
    candidate: Callable[..., Any]


def compiled(jit: Callable[..., Any]) -> Shared:
    """Compile by `numba.njit(…)`, or by `numba.cuda.jit(device=True)`.

    - `place(number, height, width)`: frame, row and column of a patch (or a pixel) by its number in reading order; for numbers
      beyond the last one, the frame is one that does not exist;
    - `first_draw(t, y, x, height, width, k)`: the number of a patch's first draw;
    - `candidate(key, draw, s, v, u, radius, sheets, rows, columns)`: sheet, row and column of a place drawn within `radius` of
      the match (s, v, u), all places that are there alike. It uses up the numbers `draw` and `draw` + 1.
    """

    @jit
    def hashed(key, counter):
        """64 random bits for each counter (the finaliser of SplitMix64, Steele et al. 2014)."""
        z = np.uint64(key) + np.uint64(counter) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    # Not compiled (NUMBA_DISABLE_JIT=1), it makes NumPy warn of numbers that go past 2⁶⁴ and begin anew.
    if inspect.isfunction(hashed):
        hashed = np.errstate(over="ignore")(hashed)

    @jit
    def near(bits, centre, radius, size):
        """A whole number within `radius` of the centre and from 0 to size - 1, all alike, from 32 random bits."""
        low = centre - radius if centre > radius else 0
        high = centre + radius if centre + radius < size - 1 else size - 1
        return low + np.int64((bits * np.uint64(high - low + 1)) >> np.uint64(32))

    @jit
    def place(number, height, width):
        return number // (height * width), number // width % height, number % width

    @jit
    def first_draw(t, y, x, height, width, k):
        return ((t * height + y) * width + x) * k * DRAWS

    @jit
    def candidate(key, draw, s, v, u, radius, sheets, rows, columns):
        bits = hashed(key, draw)
        row = near(bits & np.uint64(0xFFFFFFFF), v, radius, rows)
        column = near(bits >> np.uint64(32), u, radius, columns)
        sheet = np.int64(0)
        if sheets > 1:
            sheet = near(hashed(key, draw + 1) >> np.uint64(32), s, radius, sheets)
        return sheet, row, column

    return Shared(place, first_draw, candidate)
