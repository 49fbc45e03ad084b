"""Non-local means on the GPU; the same functions as `nonlocal_cpu`.

Parallel: one thread for every output pixel, in blocks of 8 × 32; the third dimension of the grid runs over the batch.
Shared: the padded picture, which is only read; neighbouring threads read neighbouring pixels, so the caches serve
almost all of the C n² window² reads of a thread. Nothing is allocated: the picture is read and written once, at 8 C
bytes a float32 pixel. A thread adds in a fixed order, so runs agree to the bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from labkit.kernels.cache import kept

__all__ = ["nonlocal_means"]

BLOCK = (32, 8)         # columns, rows
LARGEST_BATCH = 65535   # the bound of a grid's third dimension; a thread takes several pictures beyond


def nonlocal_means(padded, out, patch_size: int, window_size: int, h: float, sigma: float) -> None:
    """Write the non-local means of a batch into `out`; arguments as in `nonlocal_cpu.nonlocal_means`."""
    number, channels, height, width = out.shape
    real = np.dtype(out.dtype).type
    largest = float(np.finfo(real).max)
    values = patch_size ** 2 * channels
    # for the sum of squares instead of their mean
    free = min(2 * sigma ** 2 * values, largest)
    rate = min(1 / max(values * h ** 2, 1 / largest), largest)
    grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]), min(number, LARGEST_BATCH))
    _nonlocal_means[grid, BLOCK](padded, out, patch_size, window_size // 2, real(free), real(rate), real(0))


@kept
@cuda.jit
def _nonlocal_means(padded, out, n, reach, free, rate, zero):
    # `zero` has the picture's type; a literal 0.0 would turn all the arithmetic into double precision.
    # No min() and max(): numba's CUDA target does not compile them (varargs overloads, as of numba 0.68).
    number, channels, height, width = out.shape
    x, y = cuda.grid(2)
    if x >= width or y >= height:
        return
    r = n // 2
    top = y - reach if y > reach else 0
    bottom = y + reach if y + reach < height else height - 1
    left = x - reach if x > reach else 0
    right = x + reach if x + reach < width else width - 1
    for i in range(cuda.blockIdx.z, number, cuda.gridDim.z):
        for c in range(0, channels, 3):     # three sums fit in registers: a grey or a colour picture takes one turn
            sum0, sum1, sum2, weights = zero, zero, zero, zero
            for v in range(top, bottom + 1):
                for u in range(left, right + 1):
                    distance = zero
                    for k in range(channels):
                        for a in range(n):
                            for b in range(n):
                                difference = padded[i, k, y + a, x + b] - padded[i, k, v + a, u + b]
                                distance += difference * difference
                    distance -= free
                    weight = math.exp(-rate * distance if distance > zero else zero)
                    weights += weight
                    sum0 += weight * padded[i, c, v + r, u + r]
                    if c + 1 < channels:
                        sum1 += weight * padded[i, c + 1, v + r, u + r]
                    if c + 2 < channels:
                        sum2 += weight * padded[i, c + 2, v + r, u + r]
            out[i, c, y, x] = sum0 / weights
            if c + 1 < channels:
                out[i, c + 1, y, x] = sum1 / weights
            if c + 2 < channels:
                out[i, c + 2, y, x] = sum2 / weights
