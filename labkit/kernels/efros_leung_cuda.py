"""Efros and Leung's synthesis on the GPU; the same function on the same arrays as `efros_leung_cpu`, described there.

Parallel: first one thread for every window of the exemplar and every pixel of the call, then one block for every pixel,
which finds the least error and the window that is drawn. Shared: pictures are read through the caches; a block shares
its threads' minima and counts. Nothing is allocated.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from labkit.kernels.cache import kept

__all__ = ["fill"]

BLOCK = 128


@kept
@cuda.jit
def _compare(image, known, exemplar, start, weights, pixels, errors):
    p, k = cuda.blockIdx.y, cuda.grid(1)
    if k >= start.size:
        return
    n, pitch = weights.shape[0], exemplar.shape[2]
    y, x, v, u = pixels[p, 0], pixels[p, 1], k // pitch, k % pitch
    error = start[k]
    if error == 0:      # a window that is none would reach beyond the exemplar
        for a in range(n):
            for b in range(n):
                if known[y + a, x + b]:
                    squares = start[k]      # a zero of the picture's type: a literal would make sums double precision
                    for c in range(exemplar.shape[0]):
                        difference = exemplar[c, v + a, u + b] - image[c, y + a, x + b]
                        squares += difference * difference
                    error += weights[a, b] * squares
    errors[p, k] = error


@kept
@cuda.jit
def _take(image, known, exemplar, start, weights, pixels, draws, errors, factor, bound):
    # Each thread has a run of windows: their order is that of the exemplar, as on the CPU.
    place = cuda.shared.array(BLOCK, np.int64)
    alike = cuda.shared.array(BLOCK, np.int64)      # numba's simulator tells these two apart by their lines
    p, thread = cuda.blockIdx.x, cuda.threadIdx.x
    length = (start.size + BLOCK - 1) // BLOCK
    first, last = thread * length, (thread + 1) * length
    if last > start.size:
        last = start.size
    best = first if first < start.size else 0
    for k in range(first, last):
        if errors[p, k] < errors[p, best]:
            best = k
    place[thread] = best
    cuda.syncthreads()
    for i in range(BLOCK):
        if errors[p, place[i]] < errors[p, best]:
            best = place[i]
    limit = factor * errors[p, best]
    count = 0
    for k in range(first, last):
        if errors[p, k] <= limit:
            count += 1
    alike[thread] = count
    cuda.syncthreads()
    before, total = 0, 0
    for i in range(BLOCK):
        if i < thread:
            before += alike[i]
        total += alike[i]
    wanted = int(draws[p] * total) - before
    if wanted < 0 or wanted >= count:
        return
    # only the thread that has the window goes on
    y, x, n, pitch = pixels[p, 0], pixels[p, 1], weights.shape[0], exemplar.shape[2]
    r, weight = n // 2, weights[0, 0] - weights[0, 0]
    for a in range(n):
        for b in range(n):
            if known[y + a, x + b]:
                weight += weights[a, b]
    if not errors[p, best] <= bound * weight:
        return
    for k in range(first, last):
        if errors[p, k] <= limit:
            if wanted == 0:
                for c in range(image.shape[0]):
                    image[c, y + r, x + r] = exemplar[c, k // pitch + r, k % pitch + r]
                known[y + r, x + r] = 1
            wanted -= 1


def fill(image, known, exemplar, start, weights, pixels, draws, errors, tolerance: float, max_error: float) -> None:
    """Fill each of the pixels, at most 65535; arguments as in `efros_leung_cpu.fill`."""
    real = np.dtype(image.dtype).type
    factor = real(1 + tolerance)
    bound = real(min(exemplar.shape[0] * max_error, float(np.finfo(image.dtype).max)))
    number = pixels.shape[0]
    _compare[(-(-start.shape[0] // BLOCK), number), BLOCK](image, known, exemplar, start, weights, pixels, errors)
    _take[number, BLOCK](image, known, exemplar, start, weights, pixels, draws, errors, factor, bound)
