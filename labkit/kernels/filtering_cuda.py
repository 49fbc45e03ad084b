"""Chapter 1's local filters on a CUDA device: the same functions, arguments and layout as `filtering_cpu`.

Parallel: one thread for each output pixel (both passes of the Gaussian, bilateral, the solution of the guided filter);
one thread for each line of running or prefix sums (box, guided), columns first, so that neighbouring threads read
neighbouring pixels. Shared between threads: nothing that is written, and no shared memory; weights and rows that
several threads read come from the caches.
Bytes per pixel and channel beyond input and output, for numbers of s bytes: Gaussian s, box 8, bilateral none,
guided s (G + 1) for the coefficients of G guide channels and at most 2 s for sums (it works on strips of rows).
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

__all__ = ["bilateral", "box", "gaussian", "guided"]

try:
    from numba.cuda.core import config          # the package numba-cuda has settings of its own
except ImportError:
    from numba import config

from labkit.kernels.shared import compiled

# A small picture cannot fill a large device, and a warning about it helps nobody.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

THREADS = 128
CHANNELS = 4          # image channels that one thread of the bilateral filter sums up in registers
_place = compiled(cuda.jit(device=True)).place


def _launch(kernel, threads, *arguments):
    kernel[(threads + THREADS - 1) // THREADS, THREADS](*arguments)


# The CUDA target of numba 0.68 itself, without the package numba-cuda, does not compile the built-in min and max.
@cuda.jit(device=True)
def _smaller(a, b):
    return a if a < b else b


@cuda.jit(device=True)
def _larger(a, b):
    return a if a > b else b


# --- Gaussian -------------------------------------------------------------------------------------------------------

def gaussian(image, out, weights, rows, columns, row_gain, column_gain):
    """Separable convolution with symmetric weights; see `filtering_cpu.gaussian`."""
    between = cuda.device_array(image.shape, image.dtype)
    _launch(_gaussian_down, image.size, image, between, weights, rows)
    _launch(_gaussian_across, image.size, between, out, weights, columns, row_gain, column_gain)


@cuda.jit
def _gaussian_down(image, out, weights, rows):
    n, c, y, x = _pixel(image.shape, cuda.grid(1))
    if n < image.shape[0]:
        total = weights[0] - weights[0]                # 0 of the image's type
        for k in range(weights.size):
            row = rows[y + k]
            if row >= 0:
                total += weights[k] * image[n, c, row, x]
        out[n, c, y, x] = total


@cuda.jit
def _gaussian_across(image, out, weights, columns, row_gain, column_gain):
    n, c, y, x = _pixel(image.shape, cuda.grid(1))
    if n < image.shape[0]:
        total = weights[0] - weights[0]                # 0 of the image's type
        for k in range(weights.size):
            column = columns[x + k]
            if column >= 0:
                total += weights[k] * image[n, c, y, column]
        out[n, c, y, x] = total * (row_gain[y] * column_gain[x])


@cuda.jit(device=True)
def _pixel(shape, i):
    plane, y, x = _place(i, shape[2], shape[3])
    return plane // shape[1], plane % shape[1], y, x


# --- box ------------------------------------------------------------------------------------------------------------

def box(image, out, rows, columns, row_gain, column_gain):
    """Sum over a square window, times the gains, by running sums in float64; see `filtering_cpu.box`."""
    count, channels, height, width = image.shape
    between = cuda.device_array(image.shape, np.float64)
    _launch(_box_down, count * channels * width, image, between, rows)
    _launch(_box_across, count * channels * height, between, out, columns, row_gain, column_gain)


@cuda.jit
def _box_down(image, out, rows):
    count, channels, height, width = image.shape
    n, c, x = _place(cuda.grid(1), channels, width)
    if n < count:
        side = rows.size - height + 1
        total = 0.0
        for k in range(rows.size):
            if rows[k] >= 0:
                total += image[n, c, rows[k], x]
            y = k - side + 1
            if y >= 0:
                out[n, c, y, x] = total
                if rows[y] >= 0:
                    total -= image[n, c, rows[y], x]


@cuda.jit
def _box_across(image, out, columns, row_gain, column_gain):
    count, channels, height, width = image.shape
    n, c, y = _place(cuda.grid(1), channels, height)
    if n < count:
        side = columns.size - width + 1
        total = 0.0
        for k in range(columns.size):
            if columns[k] >= 0:
                total += image[n, c, y, columns[k]]
            x = k - side + 1
            if x >= 0:
                out[n, c, y, x] = total * (row_gain[y] * column_gain[x])
                if columns[x] >= 0:
                    total -= image[n, c, y, columns[x]]


# --- bilateral ------------------------------------------------------------------------------------------------------

def bilateral(image, guide, out, radius, sigma_space, sigma_color):
    """Mean weighted by distance and by the colours of the guide; see `filtering_cpu.bilateral`."""
    count, _, height, width = image.shape
    side = np.arange(-radius, radius + 1) / sigma_space
    space = np.maximum(-(side ** 2) / 2, -1e30).astype(image.dtype)
    color = image.dtype.type(min(1 / (2 * sigma_color ** 2), 1e30))
    _launch(_bilateral, count * height * width, image, guide, out, cuda.to_device(space), color)


@cuda.jit
def _bilateral(image, guide, out, space, color):
    count, channels, height, width = image.shape
    n, y, x = _place(cuda.grid(1), height, width)
    if n < count:
        radius = space.size // 2
        zero = color - color                                      # of the image's type, as all sums here
        for first in range(0, channels, CHANNELS):
            used = _smaller(CHANNELS, channels - first)
            norm = total_0 = total_1 = total_2 = total_3 = zero
            for other_y in range(_larger(0, y - radius), _smaller(height, y + radius + 1)):
                for other_x in range(_larger(0, x - radius), _smaller(width, x + radius + 1)):
                    distance = zero
                    for c in range(guide.shape[1]):
                        difference = guide[n, c, y, x] - guide[n, c, other_y, other_x]
                        distance += difference * difference
                    weight = math.exp(space[other_y - y + radius] + space[other_x - x + radius] - color * distance)
                    norm += weight
                    total_0 += weight * image[n, first, other_y, other_x]
                    if used > 1:
                        total_1 += weight * image[n, first + 1, other_y, other_x]
                    if used > 2:
                        total_2 += weight * image[n, first + 2, other_y, other_x]
                    if used > 3:
                        total_3 += weight * image[n, first + 3, other_y, other_x]
            out[n, first, y, x] = total_0 / norm
            if used > 1:
                out[n, first + 1, y, x] = total_1 / norm
            if used > 2:
                out[n, first + 2, y, x] = total_2 / norm
            if used > 3:
                out[n, first + 3, y, x] = total_3 / norm


# --- guided ---------------------------------------------------------------------------------------------------------

def guided(image, guide, coefficients, out, radius, eps):
    """Local linear regression of the image on its guide, in clipped windows; see `filtering_cpu.guided`."""
    count, channels, height, width = image.shape
    guides = guide.shape[1]
    # What is averaged: products of two layers, guide channels first, then image channels; -1 stands for 1.
    layers = range(guides + channels)
    pairs = ([(g, -1) for g in range(guides)]
             + [(g, h) for g in range(guides) for h in range(g, guides)]
             + [(c, -1) for c in layers[guides:]]
             + [(c, g) for c in layers[guides:] for g in range(guides)])
    products = cuda.to_device(np.array(pairs, np.int64))
    room = 2 * image.dtype.itemsize * channels * height // 8            # rows of float64 in twice the image's bytes
    for n in range(count):
        rows = min(height, max(1, room // len(pairs)))
        work = cuda.device_array((len(pairs), rows, width), np.float64)
        for start in range(0, height, rows):
            stop = min(height, start + rows)
            _launch(_moments_down, len(pairs) * width, image, guide, n, products, work, start, stop, radius)
            _launch(_prefix_across, len(pairs) * rows, work)
            _launch(_solve, (stop - start) * width, work, coefficients, guides, channels, start, stop, radius, eps)
        planes = coefficients.shape[0]
        rows = min(height, max(1, room // planes))
        work = cuda.device_array((planes, rows, width), np.float64)
        for start in range(0, height, rows):
            stop = min(height, start + rows)
            _launch(_coefficients_down, planes * width, coefficients, work, start, stop, radius)
            _launch(_prefix_across, planes * rows, work)
            _launch(_apply, (stop - start) * width, work, guide, out, n, start, stop, radius)


@cuda.jit
def _moments_down(image, guide, n, products, work, start, stop, radius):
    height, width = image.shape[2], image.shape[3]
    i = cuda.grid(1)
    k, x = i // width, i % width
    if k < products.shape[0]:
        first, second = products[k, 0], products[k, 1]
        total = 0.0
        for y in range(_larger(0, start - radius), _smaller(height, start + radius)):
            total += _product(image, guide, n, first, second, y, x)
        for y in range(start, stop):
            if y + radius < height:
                total += _product(image, guide, n, first, second, y + radius, x)
            work[k, y - start, x] = total
            if y - radius >= 0:
                total -= _product(image, guide, n, first, second, y - radius, x)


@cuda.jit(device=True)
def _product(image, guide, n, first, second, y, x):
    value = _layer(image, guide, n, first, y, x)
    return value if second < 0 else value * _layer(image, guide, n, second, y, x)


@cuda.jit(device=True)
def _layer(image, guide, n, k, y, x):
    guides = guide.shape[1]
    return np.float64(guide[n, k, y, x]) if k < guides else np.float64(image[n, k - guides, y, x])


@cuda.jit
def _coefficients_down(coefficients, work, start, stop, radius):
    planes, height, width = coefficients.shape
    i = cuda.grid(1)
    k, x = i // width, i % width
    if k < planes:
        total = 0.0
        for y in range(_larger(0, start - radius), _smaller(height, start + radius)):
            total += coefficients[k, y, x]
        for y in range(start, stop):
            if y + radius < height:
                total += coefficients[k, y + radius, x]
            work[k, y - start, x] = total
            if y - radius >= 0:
                total -= coefficients[k, y - radius, x]


@cuda.jit
def _prefix_across(work):
    planes, rows, width = work.shape
    i = cuda.grid(1)
    k, y = i // rows, i % rows
    if k < planes:
        total = 0.0
        for x in range(width):
            total += work[k, y, x]
            work[k, y, x] = total


@cuda.jit(device=True)
def _mean(work, k, row, x, radius, inside):
    """Mean over the window, from prefix sums along x of sums along y; `inside` is its number of rows."""
    width = work.shape[2]
    last, before = _smaller(width - 1, x + radius), _larger(0, x - radius) - 1
    total = work[k, row, last]
    if before >= 0:
        total -= work[k, row, before]
    return total / (inside * (last - before))


@cuda.jit
def _solve(work, coefficients, guides, channels, start, stop, radius, eps):
    height, width = coefficients.shape[1], coefficients.shape[2]
    i = cuda.grid(1)
    row, x = i // width, i % width
    y = start + row
    if y < stop:
        inside = _smaller(height, y + radius + 1) - _larger(0, y - radius)
        mean = cuda.local.array(3, np.float64)
        lower = cuda.local.array((3, 3), np.float64)              # covariance + eps = L D L', L with unit diagonal
        diagonal = cuda.local.array(3, np.float64)
        slope = cuda.local.array(3, np.float64)
        for g in range(guides):
            mean[g] = _mean(work, g, row, x, radius, inside)
        k = guides
        for g in range(guides):
            for h in range(g, guides):
                lower[h, g] = _mean(work, k, row, x, radius, inside) - mean[g] * mean[h]
                k += 1
            lower[g, g] += eps
        for g in range(guides):
            diagonal[g] = lower[g, g]
            for h in range(g):
                diagonal[g] -= lower[g, h] * lower[g, h] * diagonal[h]
            for h in range(g + 1, guides):
                for j in range(g):
                    lower[h, g] -= lower[h, j] * lower[g, j] * diagonal[j]
                lower[h, g] /= diagonal[g]
        for c in range(channels):
            image_mean = _mean(work, k + c, row, x, radius, inside)
            for g in range(guides):
                slope[g] = _mean(work, k + channels + c * guides + g, row, x, radius, inside) - mean[g] * image_mean
                for h in range(g):
                    slope[g] -= lower[g, h] * slope[h]
            for g in range(guides - 1, -1, -1):
                slope[g] /= diagonal[g]
                for h in range(g + 1, guides):
                    slope[g] -= lower[h, g] * slope[h]
            intercept = image_mean
            for g in range(guides):
                coefficients[c * (guides + 1) + g, y, x] = slope[g]
                intercept -= slope[g] * mean[g]
            coefficients[c * (guides + 1) + guides, y, x] = intercept


@cuda.jit
def _apply(work, guide, out, n, start, stop, radius):
    channels, height, width = out.shape[1], out.shape[2], out.shape[3]
    guides = guide.shape[1]
    i = cuda.grid(1)
    row, x = i // width, i % width
    y = start + row
    if y < stop:
        inside = _smaller(height, y + radius + 1) - _larger(0, y - radius)
        for c in range(channels):
            k = c * (guides + 1)
            value = _mean(work, k + guides, row, x, radius, inside)
            for g in range(guides):
                value += _mean(work, k + g, row, x, radius, inside) * guide[n, g, y, x]
            out[n, c, y, x] = value
