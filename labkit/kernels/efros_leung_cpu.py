"""Efros and Leung's synthesis on the CPU: pixels are compared, by their windows, with every window of the exemplar.

Arrays, for windows of side n:

- `image` (C, H + n − 1, W + n − 1), filled in; a margin of n // 2 unknown pixels surrounds the picture;
- `known` uint8 (H + n − 1, W + n − 1), 1 where `image` is known, filled in as well;
- `exemplar` (C, h, w);
- `start` ((h − n) w + w − n + 1,), one number for each pixel of the exemplar, read as one line, up to the first pixel
  of the last window: 0 where a window may be used, infinity elsewhere, also where one would wrap around;
- `weights` (n, n) of the pixels of a window;
- `pixels` int64 (number, 2): of each pixel to be filled, the first pixel of its window in `image`;
- `draws` float64 (number,), from 0 to below 1;
- `errors` (number or more, size of `start`), a buffer.

Parallel: the pixels of one call. No window of one may hold another: each could then be known to the other or not, and
threads would decide. Shared: everything, but a thread writes the errors and the values of its own pixels. An error is
added up in the order of the window's pixels, so the result has the same bits for any number of threads. Memory: a row
of `errors` for each pixel of a call, as many bytes as one channel of the exemplar.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from labkit.kernels.cache import kept

__all__ = ["fill"]

RUN = 512               # windows whose errors stay in the first-level cache while all offsets are added
# Differences in a call, some milliseconds of work: on a busy machine, threads wait as long for each other.
WORTH_THREADS = 1e8

plain = njit(forceinline=True)


@plain
def _add(out, a, value, weight):
    for k in range(out.size):
        difference = a[k] - value
        out[k] += weight * (difference * difference)


@plain
def _add_three(out, a, b, c, first, second, third, weight):
    for k in range(out.size):
        d, e, f = a[k] - first, b[k] - second, c[k] - third
        out[k] += weight * (d * d + e * e + f * f)


@plain
def _compare(image, known, planes, start, weights, y, x, pitch, errors):
    """Write the errors of all windows for one pixel, and return the weight of what is known around it."""
    channels, n = image.shape[0], weights.shape[0]
    total = errors.dtype.type(0)
    for a in range(n):
        for b in range(n):
            if known[y + a, x + b]:
                total += weights[a, b]
    for first in range(0, errors.size, RUN):
        last = min(first + RUN, errors.size)
        out = errors[first:last]
        out[:] = start[first:last]
        for a in range(n):
            for b in range(n):
                if known[y + a, x + b]:
                    k, l = first + a * pitch + b, last + a * pitch + b
                    if channels == 3:
                        _add_three(out, planes[0, k:l], planes[1, k:l], planes[2, k:l], image[0, y + a, x + b],
                                   image[1, y + a, x + b], image[2, y + a, x + b], weights[a, b])
                    else:
                        for c in range(channels):
                            _add(out, planes[c, k:l], image[c, y + a, x + b], weights[a, b])
    return total


@plain
def _drawn(errors, limit, draw):
    """Of the m windows whose error is within the limit, number ⌊draw · m⌋."""
    alike = 0
    for k in range(errors.size):
        alike += errors[k] <= limit
    wanted, k = np.int64(draw * alike), 0
    while wanted > 0 or not errors[k] <= limit:
        wanted -= errors[k] <= limit
        k += 1
    return k


@plain
def _pixel(image, known, planes, start, weights, place, draw, errors, pitch, factor, bound):
    y, x = place[0], place[1]
    total = _compare(image, known, planes, start, weights, y, x, pitch, errors)
    least = errors.min()
    if least <= bound * total:
        k, r = _drawn(errors, factor * least, draw), weights.shape[0] // 2
        for c in range(image.shape[0]):
            image[c, y + r, x + r] = planes[c, k + r * pitch + r]
        known[y + r, x + r] = 1


@kept
@njit
def _one_by_one(image, known, planes, start, weights, pixels, draws, errors, pitch, factor, bound):
    for p in range(len(pixels)):
        _pixel(image, known, planes, start, weights, pixels[p], draws[p], errors[p], pitch, factor, bound)


@kept
@njit(parallel=True)
def _at_once(image, known, planes, start, weights, pixels, draws, errors, pitch, factor, bound):
    for p in prange(len(pixels)):
        _pixel(image, known, planes, start, weights, pixels[p], draws[p], errors[p], pitch, factor, bound)


def fill(image, known, exemplar, start, weights, pixels, draws, errors, tolerance: float, max_error: float) -> None:
    """Fill each of the pixels with the centre of a window that is like its own.

    The error of a window is Σ g (difference)² over the known pixels, with weights g. One window is taken of those whose
    error is at most (1 + `tolerance`) times the least: with m of them in the order of the exemplar, number ⌊draw · m⌋.
    A pixel whose least error, divided by C Σ g, exceeds `max_error` stays unknown.
    """
    real = image.dtype.type
    channels, _, pitch = exemplar.shape
    call = _one_by_one if len(pixels) * start.size * weights.size * channels < WORTH_THREADS else _at_once
    call(image, known, exemplar.reshape(channels, -1), start, weights, pixels, draws, errors, pitch,
         real(1 + tolerance), real(min(channels * max_error, np.finfo(image.dtype).max)))
