"""PatchMatch on the CPU: nearest patches by propagation and random search, and voting.

Everything is written for videos; a picture is a video of one frame whose patches are one frame deep. Arrays:

- `image` (T, H, W·C) and `exemplar` (S, h, w·C), channels last, so that a row of a patch is one run of numbers;
- `weights` of the image's shape, what each value counts in a distance, or `None` when all count 1;
- `valid` uint8 (S', h', w'), 1 where a patch of the exemplar may serve as a match;
- `prices` (2, S', h', w') or `None`: with gain g and bias b, a patch of the exemplar has the distance g · d + b;
- `active` uint8 (T', H', W'), 1 where a match is wanted;
- `field` int32 (k, 3, T', H', W'), the (sheet or frame, row, column) of the k matches of every patch, nearest first;
- `distance` (k, T', H', W'), theirs: d is the sum over the patch of squared (or absolute) differences.

Parallel: the sequential scan works on tiles of 64 × 64 patches, and all tiles of an anti-diagonal of tiles at once: the
tiles that a tile looks at, above and to the left, are then finished, so the result is that of one patch after the
other. The other schedules run over rows. Shared: pictures are only read, and a patch is written by one thread. The
random numbers are a hash of (seed, iteration, patch, draw): the result has the same bits for any number of threads.
Memory: `field` and `distance`, 16 k bytes a patch with float32, twice for jump flooding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from labkit.kernels.cache import kept
from labkit.kernels.shared import compiled

__all__ = ["TILE", "distances", "jump_flooding", "random_search", "red_black", "sequential", "vote"]

TILE = 64

class Pictures(NamedTuple):
    """What is compared with what, as the comment at the top describes it, and by which distance."""

    image: Any
    exemplar: Any
    weights: Any
    valid: Any
    prices: Any
    active: Any
    depth: int
    side: int
    channels: int
    absolute: bool


# Differences of one row of a patch are summed in vector registers ("reassoc"): the order is fixed by the compiled code.
jit = njit(fastmath={"contract", "reassoc"}, forceinline=True)
plain = njit(forceinline=True)     # a call would hand over every array, eight numbers each
_, _first_draw, _candidate = compiled(plain)


@jit
def _row(a, b, total):
    for j in range(a.size):
        difference = a[j] - b[j]
        total += difference * difference
    return total


@jit
def _absolute_row(a, b, total):
    for j in range(a.size):
        total += abs(a[j] - b[j])
    return total


@jit
def _weighted_row(a, b, w, total):
    for j in range(a.size):
        difference = a[j] - b[j]
        total += w[j] * difference * difference
    return total


@jit
def _weighted_absolute_row(a, b, w, total):
    for j in range(a.size):
        total += w[j] * abs(a[j] - b[j])
    return total


@plain
def _distance(image, exemplar, weights, depth, side, channels, absolute, t, y, x, s, v, u, bound):
    """The distance of two patches; of one that exceeds `bound`, anything above `bound`: it stops at that row."""
    x, u, length = x * channels, u * channels, side * channels
    total = image.dtype.type(0)
    for a in range(depth):
        for b in range(side):
            p, q = image[t + a, y + b, x:x + length], exemplar[s + a, v + b, u:u + length]
            if weights is None:
                total = _absolute_row(p, q, total) if absolute else _row(p, q, total)
            else:
                w = weights[t + a, y + b, x:x + length]
                total = _weighted_absolute_row(p, q, w, total) if absolute else _weighted_row(p, q, w, total)
            if total > bound:
                return total
    return total


@plain
def _priced(pictures, prices, t, y, x, s, v, u, farthest):
    """The distance with the price of the patch of the exemplar; of one that is not below `farthest`, anything that is not.

    `prices` is that of the pictures, by itself: numba leaves out what is not taken where an argument is `None`.
    """
    image, exemplar, weights, _, _, _, depth, side, channels, absolute = pictures
    if prices is None:
        return _distance(image, exemplar, weights, depth, side, channels, absolute, t, y, x, s, v, u, farthest)
    gain, bias = prices[0, s, v, u], prices[1, s, v, u]
    bound = (farthest - bias) / gain
    found = _distance(image, exemplar, weights, depth, side, channels, absolute, t, y, x, s, v, u, bound)
    return farthest if found > bound else gain * found + bias      # beyond the bound, the sum is unfinished


@plain
def _consider(pictures, field, distance, t, y, x, s, v, u):
    """Take the candidate (s, v, u) for the patch (t, y, x) if it may be a match, is new, and is among the k nearest."""
    sheets, rows, columns = pictures.valid.shape
    if s < 0 or v < 0 or u < 0 or s >= sheets or v >= rows or u >= columns or not pictures.valid[s, v, u]:
        return
    k = distance.shape[0]
    for i in range(k):
        if field[i, 2, t, y, x] == u and field[i, 1, t, y, x] == v and field[i, 0, t, y, x] == s:
            return
    farthest = distance[k - 1, t, y, x]
    found = _priced(pictures, pictures.prices, t, y, x, s, v, u, farthest)
    if not found < farthest:
        return
    place = k - 1
    while place > 0 and distance[place - 1, t, y, x] > found:
        distance[place, t, y, x] = distance[place - 1, t, y, x]
        for axis in range(3):
            field[place, axis, t, y, x] = field[place - 1, axis, t, y, x]
        place -= 1
    distance[place, t, y, x] = found
    field[place, 0, t, y, x], field[place, 1, t, y, x], field[place, 2, t, y, x] = s, v, u


@plain
def _search(pictures, field, distance, t, y, x, radius, key):
    """Candidates at random around the k matches, in windows of half the radius each time, down to one pixel."""
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


@plain
def _propagate(pictures, source, field, distance, t, y, x, dt, dy, dx):
    """Try the matches of the neighbour at (t - dt, y - dy, x - dx) in `source`, moved by the same (dt, dy, dx)."""
    k, frames, height, width = distance.shape
    a, b, c = t - dt, y - dy, x - dx
    if a < 0 or b < 0 or c < 0 or a >= frames or b >= height or c >= width or not pictures.active[a, b, c]:
        return
    for i in range(k):
        _consider(pictures, field, distance, t, y, x,
                  source[i, 0, a, b, c] + dt, source[i, 1, a, b, c] + dy, source[i, 2, a, b, c] + dx)


@kept
@njit(parallel=True)
def _sequential(pictures, field, distance, step, radius, key):
    k, frames, height, width = distance.shape
    down, across = -(-height // TILE), -(-width // TILE)
    for frame in range(frames):
        t = frame if step > 0 else frames - 1 - frame
        for diagonal in range(down + across - 1):
            first = max(0, diagonal - across + 1)
            for j in prange(min(diagonal, down - 1) - first + 1):
                top, left = (first + j) * TILE, (diagonal - first - j) * TILE
                for row in range(top, min(top + TILE, height)):
                    y = row if step > 0 else height - 1 - row
                    for column in range(left, min(left + TILE, width)):
                        x = column if step > 0 else width - 1 - column
                        if not pictures.active[t, y, x]:
                            continue
                        for axis in (2, 1, 0):
                            _propagate(pictures, field, field, distance, t, y, x,
                                       step * (axis == 0), step * (axis == 1), step * (axis == 2))
                        _search(pictures, field, distance, t, y, x, radius, key)


@plain
def _from_neighbours(pictures, source, field, distance, t, y, x, step):
    for n in range(6):
        way, axis = (-step if n < 3 else step), 2 - n % 3
        _propagate(pictures, source, field, distance, t, y, x, way * (axis == 0), way * (axis == 1), way * (axis == 2))


@kept
@njit(parallel=True)
def _jump_flooding(pictures, source, source_distance, field, distance, step):
    k, frames, height, width = distance.shape
    for line in prange(frames * height):
        t, y = line // height, line % height
        for x in range(width):
            for i in range(k):
                distance[i, t, y, x] = source_distance[i, t, y, x]
                for axis in range(3):
                    field[i, axis, t, y, x] = source[i, axis, t, y, x]
            if pictures.active[t, y, x]:
                _from_neighbours(pictures, source, field, distance, t, y, x, step)


@kept
@njit(parallel=True)
def _red_black(pictures, field, distance, step, color):
    k, frames, height, width = distance.shape
    for line in prange(frames * height):
        t, y = line // height, line % height
        for x in range((t + y + color) % 2, width, 2):
            if pictures.active[t, y, x]:
                _from_neighbours(pictures, field, field, distance, t, y, x, step)


@kept
@njit(parallel=True)
def _random_search(pictures, field, distance, radius, key):
    k, frames, height, width = distance.shape
    for line in prange(frames * height):
        t, y = line // height, line % height
        for x in range(width):
            if pictures.active[t, y, x]:
                _search(pictures, field, distance, t, y, x, radius, key)


@kept
@njit(parallel=True)
def _distances(pictures, field, distance):
    k, frames, height, width = distance.shape
    for line in prange(frames * height):
        t, y = line // height, line % height
        for x in range(width):
            for i in range(k):
                if pictures.active[t, y, x]:
                    s, v, u = field[i, 0, t, y, x], field[i, 1, t, y, x], field[i, 2, t, y, x]
                    distance[i, t, y, x] = _priced(pictures, pictures.prices, t, y, x, s, v, u, distance.dtype.type(np.inf))


@kept
@njit(parallel=True)
def _vote(exemplar, field, weights, wanted, out, shape):
    depth, side, channels = shape
    k, axes, frames, height, width = field.shape
    total_frames, total_height, total_width = wanted.shape
    for line in prange(total_frames * total_height):
        t, y = line // total_height, line % total_height
        for x in range(total_width):
            if not wanted[t, y, x]:
                continue
            total = out.dtype.type(0)
            pixel = out[t, y, x * channels:(x + 1) * channels]
            for j in range(channels):
                pixel[j] = 0
            for a in range(max(0, t - frames + 1), min(depth, t + 1)):
                for b in range(max(0, y - height + 1), min(side, y + 1)):
                    for c in range(max(0, x - width + 1), min(side, x + 1)):
                        for i in range(k):
                            weight = out.dtype.type(1) if weights is None else weights[i, t - a, y - b, x - c]
                            u = (field[i, 2, t - a, y - b, x - c] + c) * channels
                            seen = exemplar[field[i, 0, t - a, y - b, x - c] + a, field[i, 1, t - a, y - b, x - c] + b,
                                            u:u + channels]
                            for j in range(channels):
                                pixel[j] += weight * seen[j]
                            total += weight
            for j in range(channels):
                pixel[j] /= total


def distances(image, exemplar, weights, prices, active, field, distance, depth: int, side: int, absolute: bool) -> None:
    """Write into `distance` those of the matches in `field`, where `active`."""
    # whether a place is valid is not asked: any such array serves
    _distances(_pictures(image, exemplar, weights, active, prices, active, depth, side, absolute), field, distance)


def sequential(image, exemplar, weights, valid, prices, active, field, distance, depth: int, side: int, absolute: bool,
               step: int, radius: int, key: int) -> None:
    """One iteration in scan order (`step` 1, neighbours left and above) or against it (-1, right and below), in place.

    `radius` is that of the first random window, and `key` the seed of this iteration, from 0 to 2⁶³ - 1.
    """
    _sequential(_pictures(image, exemplar, weights, valid, prices, active, depth, side, absolute), field, distance, step,
                radius, key)


def jump_flooding(image, exemplar, weights, valid, prices, active, source, source_distance, field, distance, depth: int,
                  side: int, absolute: bool, step: int) -> None:
    """Propagate from the neighbours `step` patches away along every axis, out of `source` into `field`."""
    _jump_flooding(_pictures(image, exemplar, weights, valid, prices, active, depth, side, absolute), source, source_distance,
                   field, distance, step)


def red_black(image, exemplar, weights, valid, prices, active, field, distance, depth: int, side: int, absolute: bool,
              step: int, color: int) -> None:
    """Propagate, in place, to the patches of one colour of a chessboard from those `step` (odd) away, of the other."""
    _red_black(_pictures(image, exemplar, weights, valid, prices, active, depth, side, absolute), field, distance, step, color)


def random_search(image, exemplar, weights, valid, prices, active, field, distance, depth: int, side: int, absolute: bool,
                  radius: int, key: int) -> None:
    """The random search alone, in place; `radius` and `key` as in `sequential`."""
    _random_search(_pictures(image, exemplar, weights, valid, prices, active, depth, side, absolute), field, distance, radius,
                   key)


def vote(exemplar, field, weights, wanted, out, depth: int, side: int, channels: int) -> None:
    """Write into `out` (T, H, W·C), where `wanted` (T, H, W), the mean of what the matches of the patches say there.

    `weights` (k, T', H', W') weighs them, or is `None`. A pixel that no patch of positive weight holds becomes NaN.
    """
    _vote(exemplar, field, weights, wanted, out, (depth, side, channels))


def _pictures(image, exemplar, weights, valid, prices, active, depth: int, side: int, absolute: bool) -> Pictures:
    channels = image.shape[2] // (active.shape[2] + side - 1)
    return Pictures(image, exemplar, weights, valid, prices, active, depth, side, channels, absolute)
