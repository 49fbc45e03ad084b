"""PatchMatch on the GPU; the same functions on the same arrays as `patchmatch_cpu`, where they are described.

Parallel: one thread for every patch (voting: for every pixel), in blocks of 128. Jump flooding reads one field and writes
another; red-black writes one colour while it reads the other; the sequential scan starts one kernel for every
anti-diagonal of patches, H' + W' of them a frame, so it is there for its result rather than for speed. Shared: pictures
are only read, and neighbouring threads read neighbouring patches through the caches. Random numbers are the same hash
as on the CPU. Nothing is allocated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from labkit.kernels.shared import compiled

__all__ = ["distances", "jump_flooding", "random_search", "red_black", "sequential", "vote"]

BLOCK = 128
_place, _first_draw, _candidate = compiled(cuda.jit(device=True))


class Pictures(NamedTuple):
    """As `patchmatch_cpu.Pictures`; where there are no weights or prices, another array stands there that is not read."""

    image: Any
    exemplar: Any
    weights: Any
    weighted: bool
    valid: Any
    prices: Any
    priced: bool
    active: Any
    depth: int
    side: int
    channels: int
    absolute: bool


@cuda.jit(device=True)
def _distance(pictures, t, y, x, s, v, u, bound):
    image, exemplar, weights, channels = pictures.image, pictures.exemplar, pictures.weights, pictures.channels
    total = bound - bound       # a zero of the picture's type: a literal would turn the sums into double precision
    for a in range(pictures.depth):
        for b in range(pictures.side):
            for j in range(pictures.side * channels):
                difference = image[t + a, y + b, x * channels + j] - exemplar[s + a, v + b, u * channels + j]
                if pictures.absolute:
                    difference = abs(difference)
                else:
                    difference = difference * difference
                if pictures.weighted:
                    difference *= weights[t + a, y + b, x * channels + j]
                total += difference
            if total > bound:
                return total
    return total


@cuda.jit(device=True)
def _consider(pictures, field, distance, t, y, x, s, v, u):
    valid, prices, priced = pictures.valid, pictures.prices, pictures.priced
    sheets, rows, columns = valid.shape
    if s < 0 or v < 0 or u < 0 or s >= sheets or v >= rows or u >= columns or valid[s, v, u] == 0:
        return
    k = distance.shape[0]
    for i in range(k):
        if field[i, 2, t, y, x] == u and field[i, 1, t, y, x] == v and field[i, 0, t, y, x] == s:
            return
    farthest = distance[k - 1, t, y, x]
    bound = farthest
    if priced:
        bound = (farthest - prices[1, s, v, u]) / prices[0, s, v, u]
    found = _distance(pictures, t, y, x, s, v, u, bound)
    if priced:
        if found > bound:       # an unfinished sum
            return
        found = prices[0, s, v, u] * found + prices[1, s, v, u]
    if not found < farthest:
        return
    place = k - 1
    while place > 0 and distance[place - 1, t, y, x] > found:
        distance[place, t, y, x] = distance[place - 1, t, y, x]
        for axis in range(3):
            field[place, axis, t, y, x] = field[place - 1, axis, t, y, x]
        place -= 1
    distance[place, t, y, x] = found
    field[place, 0, t, y, x] = s
    field[place, 1, t, y, x] = v
    field[place, 2, t, y, x] = u


@cuda.jit(device=True)
def _search(pictures, field, distance, t, y, x, radius, key):
    k, frames, height, width = distance.shape
    sheets, rows, columns = pictures.valid.shape
    draw = _first_draw(t, y, x, height, width, k)
    for i in range(k):
        s, v, u = field[i, 0, t, y, x], field[i, 1, t, y, x], field[i, 2, t, y, x]
        reach = radius
        while reach >= 1:
            sheet, row, column = _candidate(key, draw, s, v, u, reach, sheets, rows, columns)
            _consider(pictures, field, distance, t, y, x, sheet, row, column)
            draw += 2
            reach //= 2


@cuda.jit(device=True)
def _propagate(pictures, source, field, distance, t, y, x, way, axis):
    k, frames, height, width = distance.shape
    dt, dy, dx = 0, 0, 0
    if axis == 0:
        dt = way
    elif axis == 1:
        dy = way
    else:
        dx = way
    a, b, c = t - dt, y - dy, x - dx
    if a < 0 or b < 0 or c < 0 or a >= frames or b >= height or c >= width or pictures.active[a, b, c] == 0:
        return
    for i in range(k):
        _consider(pictures, field, distance, t, y, x,
                  source[i, 0, a, b, c] + dt, source[i, 1, a, b, c] + dy, source[i, 2, a, b, c] + dx)


@cuda.jit
def _sequential(pictures, field, distance, step, radius, key, frame, diagonal):
    k, frames, height, width = distance.shape
    row = cuda.grid(1)
    column = diagonal - row
    if row >= height or column < 0 or column >= width:
        return
    t = frame if step > 0 else frames - 1 - frame
    y = row if step > 0 else height - 1 - row
    x = column if step > 0 else width - 1 - column
    if pictures.active[t, y, x] == 0:
        return
    for n in range(3):
        _propagate(pictures, field, field, distance, t, y, x, step, 2 - n)
    _search(pictures, field, distance, t, y, x, radius, key)


@cuda.jit
def _jump_flooding(pictures, source, source_distance, field, distance, step):
    k, frames, height, width = distance.shape
    t, y, x = _place(cuda.grid(1), height, width)
    if t >= frames:
        return
    for i in range(k):
        distance[i, t, y, x] = source_distance[i, t, y, x]
        for axis in range(3):
            field[i, axis, t, y, x] = source[i, axis, t, y, x]
    if pictures.active[t, y, x] != 0:
        for n in range(6):
            _propagate(pictures, source, field, distance, t, y, x, -step if n < 3 else step, 2 - n % 3)


@cuda.jit
def _red_black(pictures, field, distance, step, color):
    k, frames, height, width = distance.shape
    t, y, x = _place(cuda.grid(1), height, width)
    if t >= frames:
        return
    if pictures.active[t, y, x] != 0 and (t + y + x) % 2 == color:
        for n in range(6):
            _propagate(pictures, field, field, distance, t, y, x, -step if n < 3 else step, 2 - n % 3)


@cuda.jit
def _random_search(pictures, field, distance, radius, key):
    k, frames, height, width = distance.shape
    t, y, x = _place(cuda.grid(1), height, width)
    if t >= frames:
        return
    if pictures.active[t, y, x] != 0:
        _search(pictures, field, distance, t, y, x, radius, key)


@cuda.jit
def _distances(pictures, field, distance, largest):
    k, frames, height, width = distance.shape
    t, y, x = _place(cuda.grid(1), height, width)
    if t >= frames:
        return
    if pictures.active[t, y, x] != 0:
        for i in range(k):
            s, v, u = field[i, 0, t, y, x], field[i, 1, t, y, x], field[i, 2, t, y, x]
            total = _distance(pictures, t, y, x, s, v, u, largest)
            if pictures.priced:
                total = pictures.prices[0, s, v, u] * total + pictures.prices[1, s, v, u]
            distance[i, t, y, x] = total


@cuda.jit
def _vote(exemplar, field, weights, weighted, wanted, out, depth, side, channels, one):
    k, axes, frames, height, width = field.shape
    total_frames, total_height, total_width = wanted.shape
    t, y, x = _place(cuda.grid(1), total_height, total_width)
    if t >= total_frames or wanted[t, y, x] == 0:
        return
    for j in range(channels):
        out[t, y, x * channels + j] = 0
    total = one - one
    for a in range(depth):
        for b in range(side):
            for c in range(side):
                p, q, r = t - a, y - b, x - c
                if p < 0 or q < 0 or r < 0 or p >= frames or q >= height or r >= width:
                    continue
                for i in range(k):
                    weight = one
                    if weighted:
                        weight = weights[i, p, q, r]
                    u = (field[i, 2, p, q, r] + c) * channels
                    for j in range(channels):
                        out[t, y, x * channels + j] += weight * exemplar[field[i, 0, p, q, r] + a, field[i, 1, p, q,
                                r] + b, u + j]
                    total += weight
    for j in range(channels):
        out[t, y, x * channels + j] /= total


def distances(image, exemplar, weights, prices, active, field, distance, depth, side, absolute) -> None:
    """As `patchmatch_cpu.distances`."""
    pictures = _pictures(image, exemplar, weights, active, prices, active, distance, depth, side, absolute)
    _distances[_grid(active), BLOCK](pictures, field, distance, np.finfo(distance.dtype).max)


def sequential(image, exemplar, weights, valid, prices, active, field, distance, depth, side, absolute, step, radius,
               key) -> None:
    """As `patchmatch_cpu.sequential`."""
    frames, height, width = active.shape
    pictures = _pictures(image, exemplar, weights, valid, prices, active, distance, depth, side, absolute)
    for frame in range(frames):
        for diagonal in range(height + width - 1):
            _sequential[-(-height // BLOCK), BLOCK](pictures, field, distance, step, radius, key, frame, diagonal)


def jump_flooding(image, exemplar, weights, valid, prices, active, source, source_distance, field, distance, depth, side,
                  absolute, step) -> None:
    """As `patchmatch_cpu.jump_flooding`."""
    pictures = _pictures(image, exemplar, weights, valid, prices, active, distance, depth, side, absolute)
    _jump_flooding[_grid(active), BLOCK](pictures, source, source_distance, field, distance, step)


def red_black(image, exemplar, weights, valid, prices, active, field, distance, depth, side, absolute, step, color) -> None:
    """As `patchmatch_cpu.red_black`."""
    pictures = _pictures(image, exemplar, weights, valid, prices, active, distance, depth, side, absolute)
    _red_black[_grid(active), BLOCK](pictures, field, distance, step, color)


def random_search(image, exemplar, weights, valid, prices, active, field, distance, depth, side, absolute, radius,
                  key) -> None:
    """As `patchmatch_cpu.random_search`."""
    pictures = _pictures(image, exemplar, weights, valid, prices, active, distance, depth, side, absolute)
    _random_search[_grid(active), BLOCK](pictures, field, distance, radius, key)


def vote(exemplar, field, weights, wanted, out, depth, side, channels) -> None:
    """As `patchmatch_cpu.vote`."""
    one = np.dtype(out.dtype).type(1)
    weighted = weights is not None
    weights = weights if weighted else out.reshape(1, *out.shape)   # never read, but it needs that many axes
    _vote[_grid(wanted), BLOCK](exemplar, field, weights, weighted, wanted, out, depth, side, channels, one)


def _pictures(image, exemplar, weights, valid, prices, active, distance, depth, side, absolute) -> Pictures:
    channels = image.shape[2] // (active.shape[2] + side - 1)
    return Pictures(image, exemplar, image if weights is None else weights, weights is not None, valid,
                    distance if prices is None else prices, prices is not None, active, depth, side, channels, absolute)


def _grid(places) -> int:
    return -(-places.size // BLOCK)
