"""Non-local means on the CPU.

Parallel: tiles of 32 × 256 output pixels, each the work of one thread from beginning to end. Shared: nothing but the
picture, which is only read. The tiles follow from the size of the picture alone and sums inside one have a fixed
order, so the result has the same bits for any number of threads. A tile keeps its part of the picture and its buffers
to itself, about 0.8 MB for a 21 × 21 window on three float32 channels (the second-level cache of one core), and
nothing else is allocated: the picture is read and written once, at 8 C bytes a pixel.

Inside a tile, pictures are flat rows of a common pitch, so that an offset (dy, dx) of the window is one shift in
memory, `dy * pitch + dx`, and every step is a loop over contiguous numbers that LLVM turns into vector instructions
(it does so for few arrays at a time, hence many small loops). Three ideas save time:

- the squared differences at one offset are computed once and summed over the patch, rows first and then columns, at a
  cost of 2 n instead of n² additions per pixel and offset;
- pixels i and j weigh the same in each other's mean, so half of the offsets is enough;
- numerator and denominator are one sum: the picture gets a plane that is one inside it and zero outside, and all
  planes are zero outside, so that no loop asks where the picture ends.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from labkit.kernels.cache import kept
from labkit.kernels.filtering_cpu import exp2

__all__ = ["nonlocal_means"]

TILE_ROWS, TILE_COLUMNS = 32, 256
RUN = 2048      # weights computed at a time: their buffers stay in the first-level cache

# Only fused multiply-add: no sum is reordered. The cached code of `_nonlocal_means` contains all of these functions and
# `exp2`, but numba looks for changes in this file alone: after a change of `exp2`, empty the cache.
jit = njit(fastmath={"contract"})


def nonlocal_means(padded: np.ndarray, out: np.ndarray, patch_size: int, window_size: int, h: float,
                   sigma: float) -> None:
    """Write the non-local means of a batch into `out`.

    Parameters
    ----------
    padded : (N, C, H + n - 1, W + n - 1) float32 or float64, the pictures continued by n // 2 pixels on all sides.
    out : (N, C, H, W) of the same type.
    patch_size, window_size : sides n of the patch and of the search window, odd.
    h, sigma : weights are `exp(-max(d² - 2 sigma², 0) / h²)`, with d² the mean over the patch and the channels.
    """
    real = padded.dtype.type
    values = patch_size ** 2 * padded.shape[1]
    largest = float(np.finfo(real).max)
    # for the sum of squares instead of their mean, and for a power of two
    free = min(2 * sigma ** 2 * values, largest)
    rate = min(math.log2(math.e) / max(values * h ** 2, 1 / largest), largest)
    _nonlocal_means(padded, out, patch_size, window_size // 2, real(free), real(rate))


@jit
def _weights(sums, free, rate):
    for x in range(sums.size):
        sums[x] = exp2(-rate * max(sums[x] - free, sums.dtype.type(0)))


@jit
def _copy(out, a):
    for x in range(out.size):
        out[x] = a[x]


@jit
def _sum_three(out, a, b, c):
    for x in range(out.size):
        out[x] = a[x] + b[x] + c[x]


@jit
def _add_two(out, a, b):
    for x in range(out.size):
        out[x] += a[x] + b[x]


@jit
def _sum_taps(out, a, count, step):
    """out[x] = a[x] + a[x + step] + … (`count` terms, an odd number)."""
    size = out.size
    if count == 1:
        _copy(out, a[:size])
        return
    _sum_three(out, a[:size], a[step:step + size], a[2 * step:2 * step + size])
    for k in range(3, count, 2):
        _add_two(out, a[k * step:k * step + size], a[(k + 1) * step:(k + 1) * step + size])


@jit
def _squared_difference(out, a, b):
    for x in range(out.size):
        difference = a[x] - b[x]
        out[x] = difference * difference


@jit
def _add_squared_difference(out, a, b):
    for x in range(out.size):
        difference = a[x] - b[x]
        out[x] += difference * difference


@jit
def _squared_difference_of_three(out, a0, b0, a1, b1, a2, b2):
    for x in range(out.size):
        d0, d1, d2 = a0[x] - b0[x], a1[x] - b1[x], a2[x] - b2[x]
        out[x] = d0 * d0 + d1 * d1 + d2 * d2


@jit
def _squared_distances(out, planes, first, second):
    """out[x] = Σ_c (planes[c, first + x] - planes[c, second + x])²"""
    size = out.size
    if planes.shape[0] == 3:
        _squared_difference_of_three(out, planes[0, first:first + size], planes[0, second:second + size],
                                     planes[1, first:first + size], planes[1, second:second + size],
                                     planes[2, first:first + size], planes[2, second:second + size])
        return
    _squared_difference(out, planes[0, first:first + size], planes[0, second:second + size])
    for c in range(1, planes.shape[0]):
        _add_squared_difference(out, planes[c, first:first + size], planes[c, second:second + size])


@jit
def _add_weighted_pair(out, w, a, v, b):
    for x in range(out.size):
        out[x] += w[x] * a[x] + v[x] * b[x]


@jit
def _tile(padded, out, top, left, height, width, n, reach, free, rate):
    """The output pixels of one tile of one picture; `reach` is half of the search window."""
    channels, rows, columns = out.shape
    r = n // 2
    margin = reach + r
    pitch = width + 2 * margin
    # The tile's part of the padded picture, and of the picture itself with a plane of ones, zero outside.
    patches = np.zeros((channels, (height + 2 * margin) * pitch), out.dtype)
    planes = np.zeros((channels + 1, (height + 2 * margin) * pitch), out.dtype)
    for y in range(max(0, margin - r - top), min(height + 2 * margin, rows + r + margin - top)):
        for c in range(channels):
            for x in range(max(0, margin - r - left), min(pitch, columns + r + margin - left)):
                patches[c, y * pitch + x] = padded[c, y + top - margin + r, x + left - margin + r]
    for y in range(max(0, margin - top), min(height + 2 * margin, rows + margin - top)):
        for x in range(y * pitch + max(0, margin - left), y * pitch + min(pitch, columns + margin - left)):
            for c in range(channels):
                planes[c, x] = patches[c, x]
            planes[channels, x] = 1

    origin = margin * pitch + margin                # the tile's first pixel
    size = (height - 1) * pitch + width             # and how far its last pixel is from it
    sums = planes[:, origin:origin + size].copy()   # offset (0, 0), of weight one
    most = size + reach * pitch + reach
    squares = np.empty(most + (n - 1) * (pitch + 1), out.dtype)
    columns_summed = np.empty(RUN + n - 1, out.dtype)
    weights = np.empty(most, out.dtype)
    for dy in range(reach + 1):
        for dx in range(-reach if dy > 0 else 1, reach + 1):
            shift = dy * pitch + dx
            # weights[k] is that of the pixels origin - shift + k and origin + k: those pairs have one end in the tile
            count = size + shift
            corner = origin - shift - r * (pitch + 1)
            _squared_distances(squares[:count + (n - 1) * (pitch + 1)], patches, corner, corner + shift)
            for k in range(0, count, RUN):
                run = weights[k:min(k + RUN, count)]
                summed = columns_summed[:run.size + n - 1]
                _sum_taps(summed, squares[k:], n, pitch)
                _sum_taps(run, summed, n, 1)
                _weights(run, free, rate)
            for c in range(channels + 1):
                _add_weighted_pair(sums[c], weights[shift:count], planes[c, origin + shift:origin + count],
                                   weights[:size], planes[c, origin - shift:origin - shift + size])
    for y in range(height):
        for c in range(channels):
            for x in range(width):
                k = y * pitch + x
                out[c, top + y, left + x] = sums[c, k] / sums[channels, k]


@kept
@njit(parallel=True)
def _nonlocal_means(padded, out, n, reach, free, rate):
    number, _, height, width = out.shape
    down, across = -(-height // TILE_ROWS), -(-width // TILE_COLUMNS)
    reach = min(reach, max(height, width) - 1)
    for job in prange(number * down * across):
        i, top, left = job // (down * across), job // across % down * TILE_ROWS, job % across * TILE_COLUMNS
        _tile(padded[i], out[i], top, left, min(TILE_ROWS, height - top), min(TILE_COLUMNS, width - left),
              n, reach, free, rate)
