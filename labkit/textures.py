"""The course's own pictures: textures, line drawings, clips and a flash / no-flash pair, all computed here.

Nothing is photographed and nothing is stored but the result: `python -m labkit.textures` writes every file of the
folder `data` again. The random numbers come from a hash of (seed, place), never from a running generator, so a
picture of another size shows more or less of the same plane, and any machine draws the same one.

A texture is a height field in pixels and a colour per point. `_light` shines a sun from the top left and a blue sky
on both, on a grid three times finer than the picture; `_develop` averages that grid and encodes it for display.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import count, product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labkit.validation import describe, validate_choice, validate_integer

_SAMPLES = 3     # grid points per pixel along each axis
_MARGIN = 16     # pixels computed around the picture, so that shadows and blurs are right up to its edge
_GAMMA = 2.2     # stored value = light ** (1 / _GAMMA)


# ---- Chance, noise, light: what all pictures share -------------------------------------------------------------------

def _random(*keys: np.ndarray | int, seed: int) -> np.ndarray:
    """A number in [0, 1) for every combination of whole numbers (splitmix64 of the seed and the keys)."""
    state = np.full(1, seed, dtype=np.uint64)
    for key in (*keys, 0):
        state = state + np.asarray(key).astype(np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) * 2.0 ** -53


def _noise(*position: np.ndarray, seed: int, period: tuple[int, ...] | None = None) -> np.ndarray:
    """Gradient noise in any number of dimensions, about [-1, 1], features of size one, mean zero."""
    position = np.broadcast_arrays(*position)
    floor = [np.floor(p).astype(int) for p in position]
    fraction = [p - f for p, f in zip(position, floor)]
    fade = [f * f * f * (f * (6 * f - 15) + 10) for f in fraction]
    lattice = np.meshgrid(*(np.arange(f.min(), f.max() + 2) for f in floor), indexing="ij", sparse=True)
    keys = lattice if period is None else [np.mod(i, n) for i, n in zip(lattice, period)]
    slopes = [2 * _random(*keys, axis, seed=seed) - 1 for axis in range(len(position))]
    total = 0.0
    for corner in product((0, 1), repeat=len(position)):
        cell = tuple(f - f.min() + c for f, c in zip(floor, corner))
        weight = np.prod([w if c else 1 - w for w, c in zip(fade, corner)], axis=0)
        total = total + weight * sum(slope[cell] * (f - c) for slope, f, c in zip(slopes, fraction, corner))
    return 1.6 * total


def _fractal(*position: np.ndarray, seed: int, octaves: int = 4, gain: float = 0.5,
             period: tuple[int, ...] | None = None) -> np.ndarray:
    """Noise plus finer and weaker noise, about [-1, 1]."""
    total = 0.0
    for octave in range(octaves):
        scale = 2 ** octave
        total = total + gain ** octave * _noise(*(scale * p for p in position), seed=seed + 7919 * octave,
                                                period=period and tuple(scale * n for n in period))
    return total


def _step(start: float, end: float, x: np.ndarray) -> np.ndarray:
    """0 before `start`, 1 after `end`, smooth between (falling when `start` is the larger)."""
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """From the first colour at weight 0 to the second at weight 1."""
    return first + (second - first) * np.asarray(weight)[..., None]


def _rgb(*codes: str) -> np.ndarray:
    """Display colours "rrggbb" as linear light, (3,) for one and (n, 3) for several."""
    values = np.array([[int(code[i:i + 2], 16) / 255 for i in (0, 2, 4)] for code in codes]) ** _GAMMA
    return values[0] if len(codes) == 1 else values


def _pick(palette: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """A colour of the palette for each number in [0, 1)."""
    return palette[(chance * len(palette)).astype(int)]


def _box(y: np.ndarray, x: np.ndarray, half_height: float, half_width: float, corner: float) -> np.ndarray:
    """Signed distance to a rectangle with round corners, negative inside."""
    qy, qx = np.abs(y) - half_height + corner, np.abs(x) - half_width + corner
    return np.hypot(np.maximum(qy, 0), np.maximum(qx, 0)) + np.minimum(np.maximum(qy, qx), 0) - corner


def _blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, `sigma` in pixels of the picture."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values, sigma * _SAMPLES, mode="nearest", truncate=3)


def _plane(size: tuple[int, int], seed: int, *, frames: int = 1, margin: int = _MARGIN,
           samples: int = _SAMPLES) -> tuple[np.ndarray, np.ndarray, Iterator[int]]:
    """Row and column (in pixels) of every grid point, margin included, and an endless supply of seeds."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size is {describe(size)}; expected (height, width)")
    for name, side in zip(("height", "width"), size):
        validate_integer(side, name=name, minimum=16)
    validate_integer(seed, name="seed", minimum=0, maximum=2 ** 48)
    validate_integer(frames, name="frames", minimum=1)
    axes = [(np.arange(-margin * samples, (side + margin) * samples) + 0.5) / samples for side in size]
    return *np.meshgrid(*axes, indexing="ij"), count(1000 * seed)


def _window(shape: tuple[int, int], top: float, bottom: float, left: float, right: float) -> tuple[slice, slice]:
    """The part of a grid with margin that covers these rows and columns, given in pixels."""
    return tuple(slice(*np.clip(np.ceil((np.array(span) + _MARGIN) * _SAMPLES), 0, side).astype(int))
                 for span, side in zip(((top, bottom), (left, right)), shape))


def _light(height: np.ndarray, colour: np.ndarray, *, elevation: float, sky: float = 0.35, reach: float = 6,
           gloss: float | np.ndarray = 0.0, sharpness: float = 20) -> np.ndarray:
    """Light reflected by a relief: sun from the top left with cast shadows, sky dimmed in hollows, highlights.

    `elevation` of the sun in degrees; `sky` is its share on flat ground; shadows are looked for over `reach` pixels.
    """
    angle = np.deg2rad(elevation)
    slope_y, slope_x = np.gradient(height, 1 / _SAMPLES)
    length = np.sqrt(1 + slope_y ** 2 + slope_x ** 2)
    rise = (slope_y + slope_x) / np.sqrt(2)                   # how much the ground faces the sun's side
    hidden = np.zeros_like(height)
    for step in range(1, int(reach * _SAMPLES / np.sqrt(2)) + 1):
        climb = step * np.sqrt(2) / _SAMPLES * np.tan(angle)
        np.maximum(hidden, np.roll(height, (step, step), axis=(0, 1)) - height - climb, out=hidden)
    free = 1 - np.clip(hidden / 0.5, 0, 1)
    sun = free * np.maximum((np.sin(angle) + np.cos(angle) * rise) / length, 0) / np.sin(angle)
    open_sky = np.clip(1 + 0.35 * (height - _blur(height, 2.5)), 0.25, 1.25)
    light = np.multiply.outer((1 - sky) * sun, [1.06, 1.0, 0.9]) + np.multiply.outer(sky * open_sky, [0.9, 1.0, 1.16])
    half = (np.pi / 2 - angle) / 2                            # between straight up (the eye) and the sun
    shine = np.maximum((np.cos(half) + np.sin(half) * rise) / length, 0) ** sharpness
    return colour * light + (gloss * free * shine)[..., None]


def _develop(light: np.ndarray, *, margin: int = _MARGIN, samples: int = _SAMPLES) -> Tensor:
    """Cut the margin, average each pixel's grid points, encode for display: (C, H, W) float32 in [0, 1]."""
    edge = margin * samples
    light = light[edge:light.shape[0] - edge, edge:light.shape[1] - edge]
    rows, columns, channels = light.shape
    light = light.reshape(rows // samples, samples, columns // samples, samples, channels).mean((1, 3))
    return torch.from_numpy(np.clip(light, 0, 1) ** (1 / _GAMMA)).permute(2, 0, 1).float().contiguous()


def _scatter(y: np.ndarray, x: np.ndarray, *, spacing: float, reach: float, seed: int) -> Iterator[tuple]:
    """Things strewn on a plane, one per cell of a lattice, in random order from the lowest to the highest.

    For each: the window of the grid within `reach` of its centre, rows and columns there relative to its centre,
    and nine random numbers of its own, of which the last is its depth.
    """
    rows, columns = (np.arange(np.floor((a.min() - reach) / spacing) - 1, np.ceil((a.max() + reach) / spacing) + 1)
                     for a in (y, x))
    rows, columns = (i.ravel() for i in np.meshgrid(rows, columns, indexing="ij"))
    chance = _random(rows[:, None], columns[:, None], np.arange(11), seed=seed)
    centre_y, centre_x = spacing * (rows + chance[:, 0]), spacing * (columns + chance[:, 1])
    for k in np.argsort(chance[:, 10]):
        v, u = centre_y[k], centre_x[k]
        window = _window(y.shape, v - reach, v + reach, u - reach, u + reach)
        if y[window].size:
            yield window, y[window] - v, x[window] - u, chance[k, 2:]


def _turn(y: np.ndarray, x: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates across and along an axis turned by `angle` from the columns' direction."""
    return y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)


# ---- Textures --------------------------------------------------------------------------------------------------------

def wall(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """A brick wall in running bond: near-regular, with chipped edges, uneven firing and sandy mortar."""
    y, x, fresh = _plane(size, seed)
    v, u = (place + 0.9 * _fractal(y / 9, x / 9, seed=next(fresh), octaves=3) for place in (y, x))
    row = np.floor(v / 16)
    u = u + 20 * np.mod(row, 2) + 5 * _random(row, seed=next(fresh))
    column = np.floor(u / 40)
    v, u = v - 16 * row - 8, u - 40 * column - 20

    def one() -> np.ndarray:
        return _random(row, column, seed=next(fresh))         # a number per brick

    body = _step(-0.3, 0.9, -_box(v, u, 6.9, 18.9, 1.6))
    grain = _fractal(y / 5, x / 5, seed=next(fresh), octaves=4, gain=0.7)
    pits = _step(0.35, 0.7, _noise(y / 2.4, x / 2.4, seed=next(fresh)))
    clay = _pick(_rgb("a8553d", "b5654a", "9a4a38", "bb7355", "8a4136", "6d3b38"), one())
    clay = clay * (0.8 + 0.4 * one())[..., None] * (1 + 0.28 * grain)[..., None]
    clay = _mix(clay, _rgb("d9b59a"), 0.35 * _step(0.25, 0.9, _fractal(y / 11, x / 17, seed=next(fresh))))
    grit = _noise(y / 1.3, x / 1.3, seed=next(fresh))
    mortar = _rgb("b7ab98") * (1 + 0.25 * grit + 0.15 * grain)[..., None]
    height = 0.25 * grit * (1 - body) + body * (1.7 + 0.5 * one() + (one() - 0.5) * v / 12 + 0.35 * grain - 0.5 * pits)
    return _develop(_light(height, _mix(mortar, clay, body), elevation=42))


def pebbles(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """A beach of rounded pebbles of many rocks and sizes, heaped: stochastic, with hard shadows between."""
    y, x, fresh = _plane(size, seed)
    height = 0.4 * _noise(y / 1.5, x / 1.5, seed=next(fresh))
    colour = np.ones((*y.shape, 3)) * _rgb("6b5f50")
    rocks = _rgb("8c8a86", "a39a8c", "6f7378", "b8a58a", "94705a", "c9c2b4", "585a5e", "7d6a5c", "dcd6ca", "8a9196")
    speckle = _fractal(y / 1.6, x / 1.6, seed=next(fresh), octaves=2, gain=0.8)
    bands = _fractal(y / 7, x / 7, seed=next(fresh), octaves=3)
    for spacing, smallest, largest in ((5, 2.2, 3.8), (9, 4, 8.5)):
        for at, dy, dx, chance in _scatter(y, x, spacing=spacing, reach=1.1 * largest, seed=next(fresh)):
            across, along = _turn(dy, dx, np.pi * chance[0])
            radius = smallest + (largest - smallest) * chance[1] ** 1.5
            distance = (np.abs(across / (radius * (0.62 + 0.3 * chance[2]))) ** 2.3 + np.abs(along / radius) ** 2.3)
            distance = distance * (1 + 0.15 * bands[at])
            top = radius * (0.2 + 0.3 * chance[3]) + 0.75 * radius * np.sqrt(np.maximum(1 - distance, 0))
            above = (distance < 1) & (top > height[at])
            rock = _pick(rocks, chance[4]) * (0.75 + 0.5 * chance[5])
            vein = _step(0.12, 0.0, np.abs(across / radius - 0.6 * chance[6] + 0.25 * bands[at])) * (chance[7] > 0.8)
            rock = rock * (1 + (0.1 + 0.35 * chance[6] ** 2) * speckle[at] + 0.15 * bands[at])[..., None]
            colour[at][above] = _mix(rock, _rgb("e6e0d4"), 0.7 * vein)[above]
            height[at][above] = top[above]
    return _develop(_light(height, colour, elevation=48, reach=8, gloss=0.06, sharpness=30))


def wood(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """A sawn pine board: growth rings that flow around knots, fibres, pores. Oriented, from coarse to fine."""
    y, x, fresh = _plane(size, seed)
    rings = y / 6.5 + 1.1 * _fractal(y / 45, x / 120, seed=next(fresh), octaves=2)
    rings = rings + 0.12 * _noise(y / 9, x / 40, seed=next(fresh))
    core = np.zeros_like(y)
    for at, dy, dx, chance in _scatter(y, x, spacing=60, reach=45, seed=next(fresh)):
        distance = np.hypot(dy, 0.6 * dx) / (3.2 + 2.5 * chance[0])
        push = (1.6 + chance[1]) * np.sign(chance[2] - 0.5) * np.exp(-distance ** 1.2 / 1.6)
        rings[at] += push * _step(45, 30, np.hypot(dy, dx))
        core[at] = np.maximum(core[at], _step(1.25, 0.5, distance))
    phase = np.mod(rings, 1)
    late = phase ** 2.5 * _step(1, 0.9, phase)                # spring wood darkens slowly into summer wood, then stops
    year = _random(np.floor(rings), seed=next(fresh))
    fibre = _fractal(y / 0.9, x / 30, seed=next(fresh), octaves=2, gain=0.7)
    pores = _step(0.45, 0.7, _noise(y / 0.8, x / 9, seed=next(fresh)))
    colour = _mix(_rgb("d3a36b"), _rgb("743d1b"), late * (0.5 + 0.5 * year))
    colour = _mix(colour, _rgb("4a2a16"), core * (0.75 + 0.2 * np.cos(7 * np.pi * core)))
    colour = colour * (1 + 0.13 * fibre + 0.12 * _noise(y / 20, x / 60, seed=next(fresh)))[..., None]
    height = 0.25 * late + 0.1 * fibre - 0.3 * pores
    return _develop(_light(height, _mix(colour, _rgb("5c381c"), 0.45 * pores), elevation=50, gloss=0.04, sharpness=12))


def cloth(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """Houndstooth: a 2/2 twill of four dark and four light yarns, every yarn twisted and uneven. Regular."""
    y, x, fresh = _plane(size, seed)
    v, u = ((place + 0.5 * _noise(y / 14, x / 14, seed=next(fresh))) / 4 for place in (y, x))     # in yarns of 4 pixels
    row, column = np.floor(v), np.floor(u)
    weft = np.mod(row - column, 4) < 2                        # the horizontal yarn lies on top
    second = np.mod(row - column, 2)                          # which of the two cells that a yarn shows for
    yarn, length = np.where(weft, row, column), np.where(weft, u, v)
    across = np.where(weft, v - row, u - column) * 2 - 1
    along = np.where(weft, u - column + 1 - second, v - row + second)                             # from 0 to 2
    thick = 1 + 0.12 * _noise(yarn * 7.3, length / 2.2, weft * 5.5, seed=next(fresh))
    twist = np.sin(2 * np.pi * (2.4 * length + 0.5 * across + 3 * _random(yarn, weft, seed=next(fresh))))
    height = 1.5 * np.sqrt(np.maximum(1.02 - (across / thick) ** 2, 0)) + 1.1 * np.sin(np.pi * along / 2) + 0.12 * twist
    tone = 0.85 + 0.3 * _random(yarn, weft, seed=next(fresh)) + 0.12 * twist + 0.15 * _noise(y, x, seed=next(fresh))
    colour = _mix(_rgb("e8dfc9"), _rgb("2b2f45"), np.mod(yarn, 8) < 4) * tone[..., None]
    return _develop(_light(height, colour, elevation=50, sky=0.4, reach=3))


def marble(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """Polished marble: folded grey clouds and thin veins. Smooth, without repeating elements."""
    y, x, fresh = _plane(size, seed)
    fold = [_fractal(y / 50, x / 50, seed=next(fresh), octaves=4, gain=0.4) for _ in range(2)]
    v, u = (0.8 * y - 0.6 * x) / 36 + 0.9 * fold[0], (0.6 * y + 0.8 * x) / 70 + 0.9 * fold[1]
    clouds = _fractal(v, u, seed=next(fresh), octaves=5, gain=0.55)
    colour = _mix(_rgb("f1eee8"), _rgb("8b929e"), 0.9 * _step(-0.3, 0.9, clouds))
    veins = ((0.8, 0.06, 0.9, "3f444d"), (1.7, 0.05, 0.6, "5c6068"), (1.2, 0.035, 0.75, "b58a52"))
    for scale, width, strength, ink in veins:
        line = np.abs(_fractal(v * scale, u * scale, seed=next(fresh), octaves=4, gain=0.4))
        fade = _step(-0.1, 0.5, _noise(1.3 * v, 1.3 * u, seed=next(fresh)))
        colour = _mix(colour, _rgb(ink), strength * fade * np.exp(-(line / width) ** 1.1))
    grain = 1 + 0.05 * _fractal(y / 1.4, x / 1.4, seed=next(fresh), octaves=2)
    return _develop(colour * grain[..., None])


def leaves(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """Fallen leaves in autumn: shapes that hide each other at every depth (a dead-leaves model with real leaves)."""
    y, x, fresh = _plane(size, seed)
    height, colour = np.zeros_like(y), np.ones((*y.shape, 3)) * _rgb("3a2a1c")
    hues = _rgb("c8622a", "d99a36", "a83e24", "8a5a2c", "b98a3e", "d4b04a", "7c3a22", "8c8a3c", "c4742e", "6e4a2a")
    blotch = _fractal(y / 6, x / 6, seed=next(fresh), octaves=4, gain=0.6)
    for layer, (spacing, shortest) in enumerate(((9, 11), (10, 10), (11, 9))):
        for at, dy, dx, chance in _scatter(y, x, spacing=spacing, reach=15, seed=next(fresh)):
            half = shortest + 4 * chance[0]
            across, along = _turn(dy, dx, 2 * np.pi * chance[1])
            across = np.abs(across + (chance[2] - 0.5) * 0.5 * along ** 2 / half)    # from the bent midrib
            t = np.clip((along / half + 1) / 2, 0, 1)                                # 0 at the stalk, 1 at the tip
            ribs = np.mod(along / 3.2 - across / 3.6, 1)
            width = half * (0.42 + 0.22 * chance[3]) * np.sin(np.pi * t ** 0.8) ** 0.8
            width = width * (1 - 0.25 * t) * (1 - 0.1 * ribs)                        # broad below, toothed
            stalk = (across < 0.5) & (along > -1.25 * half) & (along < 0)
            leaf = ((across < width) & (t > 0) & (t < 1)) | stalk
            vein = np.maximum(_step(0.75, 0.25, across), 0.6 * _step(0.16, 0.0, np.abs(ribs - 0.5)))
            hue = _pick(hues, chance[4]) * (0.65 + 0.6 * chance[5])
            hue = _mix(hue, _pick(hues, chance[6]), np.clip(0.5 + 0.9 * blotch[at], 0, 1) * 0.7)
            hue = _mix(hue, _rgb("5a3018"), 0.6 * _step(0.75, 1.0, across / np.maximum(width, 0.1)))
            hue = _mix(hue, _rgb("e0c080"), 0.5 * vein)
            top = (chance[7] - 0.5) * 0.15 * along + 0.35 * across + 0.5 * vein + 0.4 * blotch[at]
            colour[at][leaf] = hue[leaf]
            height[at][leaf] = (6 * (layer + chance[8]) + top)[leaf]
    return _develop(_light(height, colour, elevation=45, reach=5, gloss=0.03))


def scales(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """Overlapping fish scales, glossy, from bronze to green: near-regular, every one a little different."""
    y, x, fresh = _plane(size, seed)
    y, x = (place + 1.2 * _noise(y / 30, x / 30, seed=next(fresh)) for place in (y, x))
    pitch, width, streaks = 9.0, 16.0, _noise(y / 1.5, x / 6, seed=next(fresh))
    height, colour = np.zeros_like(y), np.zeros((*y.shape, 3))
    tone, tilt, shine = (next(fresh) for _ in range(3))
    hue = _fractal(y / 60, x / 60, seed=next(fresh), octaves=2)
    for back in (0, 1, 2):                                    # a row covers the roots of the row below it
        row = np.floor(y / pitch) - back
        shift = width / 2 * np.mod(row, 2)
        column = np.floor((x - shift) / width)
        v, u = y - pitch * row, x - shift - width * (column + 0.5)
        radius = np.hypot(1.06 * u, np.maximum(v - 6, 0))
        covers = (radius < 9.6) & (v >= 0)
        ridge = np.sin(2 * np.pi * radius / 2.1)
        warm = np.clip(0.25 + 0.6 * hue + 0.5 * _random(row, column, seed=tone), 0, 1)
        base = _mix(_rgb("3f8f7a"), _rgb("c08a3e"), warm)
        base = base * (0.6 + 0.55 * _random(row, column, seed=shine) + 0.1 * ridge + 0.12 * streaks)[..., None]
        base = _mix(base, _rgb("2a2c22"), 0.7 * _step(8.4, 9.6, radius))
        top = 0.27 * v - 0.0125 * u * u + (_random(row, column, seed=tilt) - 0.5) * u * 0.15 + 0.1 * ridge
        colour = np.where(covers[..., None], base, colour)
        height = np.where(covers, top, height)
    return _develop(_light(height, colour, elevation=42, reach=5, gloss=0.6, sharpness=45))


def sand(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """Wind ripples in sand: wavy crests that fork, grains that glitter. Oriented, stochastic."""
    y, x, fresh = _plane(size, seed)
    phase = (0.93 * y + 0.37 * x) / 12.5 + 0.75 * _fractal(y / 38, x / 55, seed=next(fresh), octaves=3, gain=0.4)
    crest = 0.5 + 0.5 * np.sin(2 * np.pi * phase + 0.7 * np.sin(2 * np.pi * phase + 0.6))   # long windward, short lee
    height = 2.7 * crest * (0.8 + 0.35 * _noise(y / 30, x / 30, seed=next(fresh)))
    height += 0.16 * _noise(y / 0.8, x / 0.8, seed=next(fresh)) + 0.25 * _fractal(y / 5, x / 7, seed=next(fresh))
    grain = _random(np.floor(y / 0.67), np.floor(x / 0.67), seed=next(fresh))
    colour = _mix(_rgb("cfa878"), _rgb("e3c79c"), crest) * (0.78 + 0.36 * grain)[..., None]
    dark = _random(np.floor(y), np.floor(x), seed=next(fresh)) > 0.975
    colour = _mix(colour, _rgb("6b4a34"), 0.6 * dark)
    return _develop(_light(height, colour, elevation=36, sky=0.35, reach=8))


def terrazzo(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """Polished terrazzo: coloured stone chips of two sizes in pale cement. Flat, sharp edges, stochastic."""
    y, x, fresh = _plane(size, seed)
    dust = 0.06 * _fractal(y / 12, x / 12, seed=next(fresh)) + 0.08 * _noise(y / 0.9, x / 0.9, seed=next(fresh))
    cement = _rgb("e4ddd0") * (1 + dust)[..., None]
    colour = cement.copy()
    stones = _rgb("c26a4a", "3f5f6b", "d9a441", "7a8f6a", "2e3440", "b9b4aa", "e9c7b0", "8f4f45", "dedad0")
    cloud, fleck = _fractal(y / 5, x / 5, seed=next(fresh), octaves=3), _noise(y / 0.9, x / 0.9, seed=next(fresh))
    for spacing, largest, sides in ((4.5, 1.9, 5), (12.5, 7.0, 6)):
        for at, dy, dx, chance in _scatter(y, x, spacing=spacing, reach=1.3 * largest, seed=next(fresh)):
            radius = largest * (0.45 + 0.55 * chance[0])
            side, own = np.arange(sides), int(2 ** 48 * chance[1])
            angles = 2 * np.pi * (side + 0.8 * _random(side, 0, seed=own)) / sides
            reach = radius * (0.6 + 0.4 * _random(side, 1, seed=own))
            edge = np.max([dy * np.sin(a) + dx * np.cos(a) - r for a, r in zip(angles, reach)], axis=0)
            chip = edge < 0.15 * cloud[at]
            colour[at] = _mix(colour[at], cement[at], _step(1.2, 0.6, edge))        # no chip touches another
            stone = _pick(stones, chance[3]) * (0.8 + 0.4 * chance[4])
            stone = stone * (1 + (0.1 + 0.3 * chance[5]) * cloud[at] + 0.2 * chance[6] * fleck[at])[..., None]
            colour[at][chip] = stone[chip]
    return _develop(colour)


def tiles(size: tuple[int, int] = (128, 128), *, seed: int = 0) -> Tensor:
    """Hand-painted glazed tiles, one motif in cobalt and ochre repeated every 32 pixels: regular, with wear."""
    y, x, fresh = _plane(size, seed)
    row, column = np.floor(y / 32), np.floor(x / 32)
    v, u = y - 32 * row - 16, x - 32 * column - 16

    def one() -> np.ndarray:
        return _random(row, column, seed=next(fresh)) - 0.5   # a number per tile

    glazed = -_box(v, u, 15.4, 15.4, 1.5)
    body = _step(-0.2, 0.7, glazed)
    brush = [_fractal(y / 7, x / 7, seed=next(fresh), octaves=3) for _ in range(2)]
    pv, pu = (np.abs(place + 0.55 * stroke + 0.8 * one()) for place, stroke in zip((v, u), brush))
    radius, angle = np.hypot(pv, pu), np.arctan2(pv, pu)
    corner = np.hypot(16 - pv, 16 - pu)
    petal = radius - 3.2 - 7.6 * np.abs(np.cos(2 * angle)) ** 1.2
    blue = np.maximum.reduce([_step(0.5, -0.5, np.abs(petal) - 1.2), _step(0.5, -0.5, np.abs(corner - 8.8) - 1.6),
                              _step(0.5, -0.5, np.abs(corner - 4.4) - 0.8), _step(0.4, -0.4, radius - 2.0)])
    wash = np.maximum(0.6 * _step(0.3, -0.6, petal), 0.3 * _step(8.5, 8.0, corner) * (corner > 4))
    buds = np.hypot(pv - pu, 0.6 * (radius - 8.5))            # on the diagonals, between the petals
    ochre = np.maximum(_step(0.4, -0.4, corner - 2.6), _step(0.4, -0.4, buds - 1.6))
    colour = np.ones((*y.shape, 3)) * _rgb("efeade") * (1 + 0.1 * one())[..., None]
    cobalt = _mix(_rgb("2a55a8"), _rgb("14306e"), np.clip(0.5 + brush[0] + one(), 0, 1))
    colour = _mix(_mix(colour, _rgb("5b87c9"), wash), _rgb("d79a2b"), 0.9 * ochre)
    colour = _mix(colour, cobalt, np.clip(blue * (0.88 + 0.2 * brush[1]), 0, 1))
    colour = colour * (1 + 0.05 * _noise(y / 1.2, x / 1.2, seed=next(fresh)))[..., None]
    grout = _rgb("8f877b") * (1 + 0.3 * _noise(y / 1.3, x / 1.3, seed=next(fresh)))[..., None]
    height = body * (1.2 + 0.12 * brush[0] + 0.02 * (one() * v + one() * u)) + 0.4 * _step(0, 2.5, glazed)
    return _develop(_light(height, _mix(grout, colour, body), elevation=48, reach=3, gloss=0.12 * body, sharpness=25))


TEXTURES: dict[str, Callable[..., Tensor]] = {
    made.__name__: made for made in (cloth, leaves, marble, pebbles, sand, scales, terrazzo, tiles, wall, wood)}


def texture(name: str, *, size: tuple[int, int] = (128, 128), seed: int = 0) -> Tensor:
    """One of `TEXTURES` by name: (3, H, W) float32 in [0, 1]. Sizes differ in how much is seen, not in scale.

    Parameters
    ----------
    name : a key of `TEXTURES`.
    size : (height, width) in pixels, each at least 16.
    seed : another seed is another piece of the same material.

    Raises
    ------
    ValueError : an unknown name, or a size or seed out of range.
    """
    validate_choice(name, name="name", choices=tuple(TEXTURES))
    return TEXTURES[name](size, seed=seed)


# ---- Line drawings ---------------------------------------------------------------------------------------------------
# A stroke is a kind, a width and points "x,y" on a sheet of 100 by 100, y downwards. Kinds: c curve, l straight lines,
# s closed curve, p polygon, o ellipse (centre, radii), w a row of waves (start; pitch, height), v leaf (base, tip).
# All but c and l hide what lies beneath. A kind in capitals is drawn twice, the second time mirrored left to right.

_CAT = """
P 0.9 30,27 26,5 44,15 ; C 0.6 31,22 30,11 38,16 ; s 0.9 69,90 84,91 92,82 91,68 84,59 80,63 84,70 84,78 79,83 68,82
c 0.6 79,91 79,87 77,84 ; c 0.6 86,89 85,84 82,80 ; c 0.6 91,80 88,78 84,77 ; c 0.6 91,71 87,71 84,71
c 0.6 87,63 85,65 83,67 ; s 1.0 50,42 38,46 31,60 27,78 31,91 45,94 60,94 70,90 73,77 68,60 62,46
C 0.6 31,63 35,64 38,67 ; C 0.6 29,70 33,71 36,74 ; C 0.6 28,77 32,78 35,81 ; C 0.8 41,64 41,76 42,88
c 0.7 50,70 50,80 50,90 ; S 0.8 43,87 37,89 36,94 43,96 49,94 49,89 ; C 0.6 41,91 41,93 41,95
C 0.6 45,91 45,93 45,95 ; c 0.6 44,52 47,55 50,53 53,56 56,52 ; c 0.6 45,58 48,61 50,59 53,61 55,58
s 1.0 50,13 62,15 70,23 71,33 63,43 50,47 37,43 29,33 30,23 38,15 ; S 0.7 35,29 39,25 45,28 45,31 40,32
L 1.9 40.6,26.6 40.6,30.8 ; c 0.7 50,15 50,18 50,22 ; C 0.7 46,16 46,18 47,21 ; C 0.7 42,17 42,19 43,21
C 0.6 30,34 33,34 35,36 ; C 0.6 31,37 34,38 36,39 ; p 0.8 47,34.5 53,34.5 50,37.5 ; l 1.4 48.5,35.3 51.5,35.3
C 0.7 50,37.5 49,40.5 46,41 43,39.5 ; C 0.4 40,37 30,34 20,33 ; C 0.4 40,38.5 29,38 19,39 ; C 0.4 41,40 31,42 22,45
s 0.8 15,77 22,80 24,87 20,94 12,95 6,91 6,83 10,78 ; c 0.5 8,81 14,84 19,94 ; c 0.5 11,78 18,82 23,90
c 0.5 6,86 11,89 15,95 ; c 0.5 22,81 16,84 7,90 ; c 0.5 18,78 12,82 6,86 ; c 0.5 24,86 18,90 12,95
c 0.6 22,92 28,97 34,97 40,97.5 48,98
"""

_BOAT = """
o 0.8 16,14 5,5 ; l 0.6 16,3 16,6 ; l 0.6 16,22 16,25 ; l 0.6 5,14 8,14 ; l 0.6 24,14 27,14 ; l 0.6 8,6 10.5,8.5
l 0.6 21.5,19.5 24,22 ; l 0.6 24,6 21.5,8.5 ; l 0.6 8,22 10.5,19.5
s 0.7 70,14 73,10 79,9 83,6 89,8 92,12 97,13 96,17 88,18 78,18 71,18 ; c 0.5 78,13 81,11 84,13
c 0.5 86,12 89,11 91,14 ; c 0.7 30,13 33,10 36,13 39,10 42,13 ; c 0.6 62,24 64,22 66,24 68,22 70,24
c 0.6 26,30 28,28 30,30 32,28 34,30 ; s 0.8 100,60 96,52 90,50 86,53 80,56 77,61 88,62
p 0.8 85,53 86.5,33 91.5,33 93,53 ; p 0.7 85.5,33 92.5,33 92.5,30 85.5,30 ; p 0.7 87,30 91,30 91,26 87,26
c 0.7 86,26 89,21 92,26 ; l 0.5 86.1,39 92,37 ; l 0.5 85.8,44 92.4,42 ; l 0.5 85.4,49 92.7,47 ; l 0.4 94,28 99,26
l 0.4 94,29 99,30 ; l 0.7 0,61 100,61 ; c 0.5 2,65 6,63.5 10,65 14,63.5 18,65
c 0.5 82,66 86,64.5 90,66 94,64.5 98,66 ; p 0.8 49.3,10 50.7,10 50.7,68 49.3,68
s 0.8 51.5,13 58,25 68,42 80,61 66,63.5 52,62 51.8,40 ; s 0.8 48.5,19 42,33 34,46 24,60 36,62.5 48,61 48.2,40
c 0.4 52,26 55,26.5 59,26 ; c 0.4 52,38 59,39 66,38 ; c 0.4 52,50 62,51.5 73,50 ; c 0.4 48,34 45,34.5 41,34
c 0.4 48,47 41,48 33,47 ; l 0.5 56,56 60,56 ; l 0.5 58,54 58,58
s 0.7 50.7,10 55,8 59,11 64,9 63,13 59,15 55,12 50.7,14 ; s 1.0 20,69 35,71 60,71 84,67 79,76 72,84 50,86 33,84 25,77
c 0.6 22,72.5 40,75 60,75 82,71 ; o 0.6 37,78.5 2,2 ; o 0.6 51,79.5 2,2 ; o 0.6 65,78.5 2,2 ; l 0.6 72,68 72,63
o 0.7 72,61.5 2.2,2.2 ; c 0.6 69,69 69.5,65 72,64.5 75,65 75.5,68.5 ; w 0.8 -3,83.5 9,2.6 ; w 0.8 -8,88.5 10,2.8
w 0.9 -2,94 11,3
"""

_PLANT = """
l 0.8 0,88 100,88 ; c 0.5 6,92 20,91.5 34,92.5 ; c 0.5 58,94 76,93 95,94 ; c 0.5 20,97 45,96 62,97
c 0.9 48,68 46,50 41,36 36,24 ; c 0.9 51,68 53,46 57,30 60,14 ; c 0.9 53,68 60,54 70,44 80,40
c 0.8 46,68 38,58 28,52 18,50 ; v 0.7 18,50 2,43 ; v 0.7 24,51 9,62 ; v 0.7 31,54 18,38 ; v 0.7 37,58 25,70
v 0.8 36,25 24,5 ; v 0.8 38,30 18,24 ; v 0.8 39,32 52,14 ; v 0.8 42,40 24,40 ; v 0.8 43,43 58,30 ; v 0.8 60,14 70,1
v 0.8 59,22 44,5 ; v 0.8 58,27 78,15 ; v 0.8 55,38 72,29 ; v 0.8 80,40 98,34 ; v 0.8 76,41 86,22 ; v 0.8 71,44 92,54
v 0.8 64,50 76,66 ; v 0.8 61,53 72,38 ; v 0.9 47,56 30,50 ; v 0.9 52,56 66,46
s 0.8 50,85 69,86 72,89 50,91.5 28,89 31,86 ; s 1.0 34,71 50,73 66,71 64,80 61,88 50,89.5 39,88 36,80
s 1.0 31,66 36,64.2 50,63.2 64,64.2 69,66 68.5,71 50,74 31.5,71 ; o 0.7 50,66.4 16.5,2
c 0.7 36,77 40,79.5 44,77 48,80 52,77 56,80 60,77 64.5,77.5 ; c 0.7 37,81 41,83.5 45,81 49,84 53,81 57,83.5 63,81
c 0.9 47,67 47,61 47,56 ; c 0.9 53,67 52.5,61 52,56
"""


def _spline(points: np.ndarray, closed: bool) -> np.ndarray:
    """Catmull-Rom curve through the points, sixteen steps from each to the next."""
    padded = np.concatenate((points[-1:], points, points[:2])) if closed else \
        np.concatenate((2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]))
    before, start, end, after = (padded[i:len(padded) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, 17)[None, :, None]
    curve = start + t * (end - before) / 2 + t ** 2 * (before - 2.5 * start + 2 * end - after / 2) \
        + t ** 3 * (1.5 * (start - end) + (after - before) / 2)
    return curve.reshape(-1, 2)


def _leaf(base: np.ndarray, tip: np.ndarray, width: float) -> Iterator[tuple[np.ndarray, float, bool]]:
    """A leaf as strokes: outline, midrib, four pairs of veins."""
    axis, side = tip - base, (tip - base)[::-1] * [-1, 1]
    along, across = np.array([[0, 0], [.12, .13], [.32, .23], [.55, .24], [.8, .15], [.93, .05], [1, 0]]).T
    along, across = np.concatenate((along, along[-2:0:-1])), np.concatenate((across, -across[-2:0:-1]))
    yield _spline(base + np.outer(along, axis) + np.outer(across, side), True), width, True
    yield base + np.outer(np.linspace(0, 0.93, 25), axis), 0.7 * width, False
    for start, sign in product((0.2, 0.36, 0.52, 0.68), (-1, 1)):
        out = np.linspace(0, 1, 9)
        vein = np.outer(start + 0.13 * out, axis) + np.outer(sign * 0.17 * (1.15 - start) * out, side)
        yield base + vein, 0.5 * width, False


def _strokes(text: str) -> Iterator[tuple[np.ndarray, float, bool]]:
    """Each stroke of a drawing: its line as (n, 2) points x, y; its width; whether it hides what lies inside it."""
    for kind, width, *pairs in (stroke.split() for stroke in text.replace("\n", ";").strip(";").split(";")):
        points, width = np.array([pair.split(",") for pair in pairs], dtype=float), float(width)
        for points in (points, points * [-1, 1] + [100, 0])[:1 + kind.isupper()]:
            if kind in "lLpP":
                ends = np.concatenate((points, points[:1])) if kind in "pP" else points
                t = np.linspace(0, 1, 16)[:, None]
                yield np.concatenate([a + t * (b - a) for a, b in zip(ends, ends[1:])]), width, kind in "pP"
            elif kind in "cCsS":
                yield _spline(points, kind in "sS"), width, kind in "sS"
            elif kind in "oO":
                t = np.linspace(0, 2 * np.pi, 49)[:, None]
                yield points[0] + points[1] * np.concatenate((np.cos(t), np.sin(t)), axis=1), width, True
            elif kind in "wW":
                t = np.linspace(0, 12, 193)
                crests = points[0] + points[1] * np.stack((t, np.abs(np.sin(np.pi * t)) ** 0.8), axis=1)
                yield np.concatenate((crests, [[130, 120], [-30, 120], crests[0]])), width, True
            else:
                yield from _leaf(*points, width)


DRAWINGS: dict[str, str] = {"boat": _BOAT, "cat": _CAT, "plant": _PLANT}


def drawing(name: str, *, size: tuple[int, int] = (192, 192), seed: int = 0) -> Tensor:
    """One of `DRAWINGS`, in ink: (1, H, W), paper 1, ink 0. The seed is in the pressure and tremor of the hand.

    Raises
    ------
    ValueError : an unknown name, or a size or seed out of range.
    """
    from scipy.spatial import cKDTree

    validate_choice(name, name="name", choices=tuple(DRAWINGS))
    y, x, fresh = _plane(size, seed)
    scale = min(size) / 100
    corner = np.array([(size[1] - min(size)) / 2, (size[0] - min(size)) / 2])
    paper = np.ones_like(y)
    for line, width, hides in _strokes(DRAWINGS[name]):
        place = np.concatenate(([0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))))      # length of pen travel
        shake = np.stack([_noise(*line.T / 9, seed=next(fresh)) for _ in range(2)], axis=1)
        press = 1.0 + 0.3 * _noise(place / 12, seed=next(fresh))
        if not hides:                                                                     # ends where the pen lifts
            press = press * (0.5 + 0.5 * np.sqrt(np.maximum(np.sin(np.pi * place / place[-1]), 0)))
        line = (line + 0.35 * shake) * scale + corner
        (left, top), (right, bottom) = line.min(0) - 3 * scale, line.max(0) + 3 * scale
        at = _window(y.shape, top, bottom, left, right)
        sheet, v, u = paper[at], y[at], x[at]                                             # views around the stroke
        if hides:
            inside = np.zeros(sheet.shape, dtype=bool)                                    # even-odd rule
            for (x0, y0), (x1, y1) in zip(line, np.roll(line, -1, axis=0)):
                if y0 != y1:
                    inside ^= ((y0 > v) != (y1 > v)) & (u < x0 + (v - y0) * (x1 - x0) / (y1 - y0))
            sheet[inside] = 1
        fine = np.arange(0, place[-1], 0.1 / scale)                                       # a dot every tenth of a pixel
        dots = np.stack([np.interp(fine, place, values) for values in line.T], axis=1)
        distance, nearest = cKDTree(dots).query(np.stack((u, v), axis=2), distance_upper_bound=4 * scale)
        radius = np.append(np.interp(fine, place, press), 0)[nearest] * width * scale / 2
        np.minimum(sheet, np.clip((distance - radius) * _SAMPLES + 0.5, 0, 1), out=sheet)
    return _develop(paper[..., None])


# ---- Clips -----------------------------------------------------------------------------------------------------------

def water(size: tuple[int, int] = (64, 64), *, frames: int = 24, seed: int = 0) -> Tensor:
    """A tiled pool under moving water: the bottom bends, bright caustic lines wander. Loops; (T, 3, H, W)."""
    y, x, fresh = _plane(size, seed, frames=frames)
    wave = np.arange(26)
    length = 7 * 5 ** _random(wave, seed=next(fresh))         # 7 to 35 pixels
    heading = 2 * np.pi * _random(wave, seed=next(fresh))
    turns = np.round(5 / np.sqrt(length))                     # short waves oscillate faster; whole turns per loop
    start = _random(wave, seed=next(fresh))
    tile = next(fresh)
    clip = []
    for frame in range(frames):
        height = np.zeros_like(y)
        for k in wave:
            travel = (y * np.sin(heading[k]) + x * np.cos(heading[k])) / length[k] - turns[k] * frame / frames
            height += 0.011 * length[k] * np.sin(2 * np.pi * (travel + start[k]))
        slope_y, slope_x = np.gradient(height, 1 / _SAMPLES)
        (yy, yx), (xy, xx) = (np.gradient(slope, 1 / _SAMPLES) for slope in (slope_y, slope_x))
        focus = 1 / (0.18 + np.abs((1 + 6 * yy) * (1 + 6 * xx) - 36 * yx * xy))      # the surface as a lens
        v, u = y + 6 * slope_y, x + 6 * slope_x
        row, column = np.floor(v / 8), np.floor(u / 8)
        joint = _step(0.8, 0.2, -_box(v - 8 * row - 4, u - 8 * column - 4, 3.9, 3.9, 0.6))
        colour = _mix(_rgb("1d8fa8"), _rgb("4fc4cf"), _random(row, column, seed=tile))
        colour = _mix(colour, _rgb("c4e6e4"), 0.7 * joint) * (0.42 + 0.42 * focus)[..., None]
        glint = _step(0.44, 0.56, -(slope_y + slope_x))
        clip.append(_develop(_mix(colour, _rgb("f4fbff"), 0.8 * glint)))
    return torch.stack(clip)


def fire(size: tuple[int, int] = (64, 64), *, frames: int = 24, seed: int = 0) -> Tensor:
    """Flames that rise and lick. Loops; (T, 3, H, W)."""
    y, x, fresh = _plane(size, seed, frames=frames)
    rise = size[0] - y
    big, sway, endless = next(fresh), next(fresh), 2 ** 20     # lattices repeat in time and along the rise, not across
    heats, glow = [0, 0.25, 0.5, 0.8, 1.05, 1.3], _rgb("050304", "3a0a06", "b8260a", "f6871a", "ffd65c", "fff6d8")
    clip = []
    for frame in range(frames):
        time = frame / frames
        x_bent = x + (1.5 + 0.06 * rise) * _noise(x / 16, y / 32 + 2 * time, time, seed=sway, period=(endless, 2, 1))
        flow = _fractal(x_bent / 11, y / 32 + 2 * time, time, seed=big, octaves=4, gain=0.5, period=(endless, 2, 1))
        heat = 1.15 - 1.05 * rise / size[0] + 0.75 * flow
        clip.append(_develop(np.stack([np.interp(heat, heats, channel) for channel in glow.T], axis=-1)))
    return torch.stack(clip)


def grass(size: tuple[int, int] = (64, 64), *, frames: int = 24, seed: int = 0) -> Tensor:
    """Long grass that bends as gusts run through it. Loops; (T, 3, H, W)."""
    y, x, fresh = _plane(size, seed, frames=frames)
    rows, columns = (i.ravel() for i in np.meshgrid(
        np.arange(-1, size[0] // 3 + 9), np.arange(-3, 2 * size[1] // 7 + 4), indexing="ij"))          # far to near
    chance = _random(rows[:, None], columns[:, None], np.arange(6), seed=next(fresh))
    root_y, root_x, tall = 3 * (rows + 0.8 * chance[:, 0]), 3.5 * (columns + chance[:, 1]), 15 + 9 * chance[:, 2]
    hue = _pick(_rgb("4f7a2c", "6b9638", "86a944", "3d6628", "a9b65a", "7a8f3a"), chance[:, 5])
    gust = next(fresh)
    clip = []
    for frame in range(frames):
        time = frame / frames
        wind = 0.35 + 0.75 * _noise(root_x / 30 - 2 * time, root_y / 22, seed=gust, period=(2, 2 ** 20)) \
            + 0.12 * np.sin(2 * np.pi * (3 * time + chance[:, 3]))
        colour = np.ones((*y.shape, 3)) * _rgb("1e3014")
        top, lean = tall * (1 - 0.25 * wind ** 2), 0.75 * tall * (wind + 0.5 * (chance[:, 4] - 0.5))
        for k in range(len(rows)):
            left, right = sorted((root_x[k], root_x[k] + lean[k]))
            at = _window(y.shape, root_y[k] - top[k], root_y[k], left - 2, right + 2)
            t = (root_y[k] - y[at]) / top[k]                  # 0 at the root, 1 at the tip
            across = x[at] - root_x[k] - lean[k] * t ** 2
            blade = np.abs(across) < 1.1 * (1 - t ** 2) + 0.15
            shade = (0.35 + 0.85 * t) * (1 - 0.25 * np.sign(across)) * (0.8 + 0.4 * wind[k] * t)
            colour[at][blade] = (hue[k] * shade[..., None])[blade]
        clip.append(_develop(colour))
    return torch.stack(clip)


CLIPS: dict[str, Callable[..., Tensor]] = {made.__name__: made for made in (fire, grass, water)}


# ---- A still life, lit twice -----------------------------------------------------------------------------------------
# x to the right, y away from the camera, z up from the table, about one unit to the decimetre and a half.

_EYE = np.array([0.25, -6.4, 2.6])
_FLASH = _EYE + [0.45, 0.0, 0.35]              # beside and above the lens, so its shadows fall to the left
_LAMP = np.array([-3.4, -2.2, 4.6])            # the room's, beyond the left edge of the picture
_VASE = _spline(np.array([[0, .28], [.12, .31], [.5, .52], [.8, .48], [1.15, .24], [1.4, .24], [1.5, .31]]), False).T
_BLOOMS = ((-1.72, 0.3, 2.2), (-1.2, 0.5, 2.42), (-0.65, 0.3, 2.05))
_BOOK, _UPPER_BOOK = (-0.2, 0.15, (0.55, 0.85, 0.13)), (0.25, 0.41, (0.48, 0.7, 0.1))  # angle, middle, half sides
_THINGS = ("table", "wall", "picture", "vase", "book", "upper book", "ball", "striped ball", "dotted ball",
           "stalks", "blooms")


def _scene(p: np.ndarray) -> np.ndarray:
    """Distance from points (3, N) to each of `_THINGS`, (things, N), negative inside; never more than the true one."""
    x, y, z = p

    def ball(cx: float, cy: float, cz: float, radius: float) -> np.ndarray:
        return np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) - radius

    def block(cy: float, cx: float, angle: float, middle: float, half: tuple) -> np.ndarray:
        q = np.abs([*_turn(y - cy, x - cx, angle), z - middle]) - np.reshape(half, (3, 1))
        return np.sqrt((np.maximum(q, 0) ** 2).sum(0)) + np.minimum(q.max(0), 0) - 0.015

    def stalk(top: tuple) -> np.ndarray:
        foot = np.array([[-1.2], [0.4], [1.0]])
        axis = np.reshape(top, (3, 1)) - foot
        t = np.clip(((p - foot) * axis).sum(0) / (axis ** 2).sum(), 0, 1)
        return np.sqrt(((p - foot - t * axis) ** 2).sum(0)) - 0.022

    side = 0.7 * (np.hypot(x + 1.2, y - 0.4) - np.interp(z, *_VASE))
    vase = np.maximum(np.maximum(side, z - 1.5), -side - 0.04)
    return np.stack([
        z, 1.7 - y, block(1.7, 0.85, 0.0, 2.15, (0.06, 0.68, 0.5)), vase,
        block(0.45, 1.2, *_BOOK), block(0.45, 1.2, *_UPPER_BOOK),
        ball(-0.1, -0.6, 0.42, 0.42), ball(1.15, 0.45, 0.81, 0.29), ball(0.75, -0.85, 0.22, 0.22),
        np.min([stalk(top) for top in _BLOOMS], axis=0), np.min([ball(*top, 0.18) for top in _BLOOMS], axis=0)])


def _paint(thing: str, p: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Colour (N, 3) of points on a thing, and the strength of its highlight."""
    x, y, z = p
    wear = _fractal(9 * x, 9 * y, 9 * z, seed=seed, octaves=3)
    plain = 1 + 0.06 * wear
    if thing == "table":
        plank = np.floor(y / 0.55)
        grain = _fractal(2 * x + 40 * _random(plank, seed=seed), 16 * y, seed=seed + 1, octaves=4, gain=0.6)
        tone = (0.8 + 0.4 * _random(plank, 1, seed=seed)) * (1 - 0.75 * _step(0.03, 0.01, y - 0.55 * plank))
        return _mix(_rgb("b98a57"), _rgb("6a4024"), _step(-0.5, 0.8, grain)) * tone[:, None], 0.08
    if thing == "wall":
        row = np.floor(z / 0.24)
        v, u = np.mod(z, 0.24) / 0.24 - 0.5, np.mod(x / 0.24 + 0.5 * np.mod(row, 2), 1) - 0.5
        motif = _step(0.02, -0.02, np.abs(v) ** 0.7 + np.abs(u) ** 0.7 - 0.5)
        return _mix(_rgb("a9b39a"), _rgb("ece4cc"), motif) * plain[:, None], 0.0
    if thing == "picture":
        u, v = (x - 0.85) / 0.68, (z - 2.15) / 0.5
        sky = _mix(_rgb("f0c27b"), _rgb("4a7fb0"), _step(-0.3, 0.7, v))
        sky = _mix(sky, _rgb("fff3c4"), _step(0.19, 0.15, np.hypot(0.68 * u + 0.12, 0.5 * v - 0.08)))
        for k, (base, code) in enumerate(((0.0, "7d8fa8"), (-0.2, "4d6b5b"), (-0.42, "2f4a35"))):
            ridge = base + 0.35 * _noise((2 + k) * u + 9 * k, seed=seed + 3) - v
            sky = _mix(sky, _rgb(code), _step(-0.01, 0.03, ridge))
        mount = np.minimum(0.68 * (1 - np.abs(u)), 0.5 * (1 - np.abs(v)))                 # distance from the edge
        return _mix(_mix(sky, _rgb("f3efe4"), mount < 0.22), _rgb("5b3a22"), mount < 0.11) * plain[:, None], 0.1
    if thing == "vase":
        angle = np.arctan2(y - 0.4, x + 1.2) / (2 * np.pi)
        zigzag = np.abs(np.mod(14 * angle, 1) - 0.5) * 0.22
        bands = np.min([np.abs(z - at) - half for at, half in (
            (0.12, 0.05), (0.4, 0.02), (0.57 + zigzag, 0.03), (0.92, 0.02), (1.3, 0.05))], axis=0)
        return _mix(_rgb("efeade"), _rgb("23478f"), _step(0.008, -0.008, bands)) * plain[:, None], 0.5
    if "book" in thing:
        code, angle, middle, (deep, wide, high) = ("8f2f2c", *_BOOK) if thing == "book" else ("2f6b66", *_UPPER_BOOK)
        v, u = _turn(y - 0.45, x - 1.2, angle)
        label = (np.abs(u) < 0.3) & (np.abs(z - middle) < 0.5 * high) & (v < 0)
        script = _step(0.1, 0.3, _noise(30 * u, 26 * z, seed=seed + 5))
        rules = np.abs(np.abs(u) - 0.64 * wide) < 0.02
        cover = _mix(_rgb(code), _rgb("e0b45a"), np.where(label, 0.9 - 0.8 * script, 0.9 * rules))
        pages = (np.abs(z - middle) < high - 0.02) & ((u > wide - 0.02) | (v > deep - 0.02))
        return _mix(cover, _rgb("e8dfc8"), pages) * plain[:, None], 0.12
    if thing == "striped ball":
        wedge = np.floor(np.mod(6 * np.arctan2(z - 0.81, x - 1.15) / (2 * np.pi) + 0.4 * (y - 0.45), 6)).astype(int)
        return _rgb("d8433b", "f4f0e6", "2d6fb0", "f4f0e6", "e9b52e", "f4f0e6")[wedge], 0.35
    if thing == "dotted ball":
        far = np.abs(np.mod(8 * (p - [[0.75], [-0.85], [0.22]]), 1) - 0.5)
        return _mix(_rgb("3e8a4f"), _rgb("f0ead8"), _step(0.33, 0.43, np.sqrt((far ** 2).sum(0)))), 0.3
    flat = {"ball": ("c23b2a", 0.6), "stalks": ("4b7a35", 0.05), "blooms": ("e8b83a", 0.05)}[thing]
    return _rgb(flat[0]) * (plain + (0.6 * wear if thing == "blooms" else 0))[:, None], flat[1]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors ** 2).sum(0))


def _reached(start: np.ndarray, way: np.ndarray, length: np.ndarray, hardness: float) -> np.ndarray:
    """How much of a lamp `length` away along `way` each point sees, 0 to 1; less hardness, wider half-shadow."""
    seen, t, active = np.ones_like(length), np.full_like(length, 0.02), np.arange(length.size)
    for _ in range(60):
        near = _scene(start[:, active] + way[:, active] * t[active]).min(0)
        seen[active] = np.minimum(seen[active], hardness * near / t[active])
        t[active] += np.clip(near, 0.02, 0.5)
        active = active[(seen[active] > 0) & (t[active] < length[active])]
        if active.size == 0:
            break
    return _step(0, 1, seen)


def _expose(view: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Light (N, 3) that returns to the eye along each direction (3, N): of the flash, and of the lamp."""
    t, active = np.full(view.shape[1], 4.0), np.arange(view.shape[1])
    for _ in range(80):                                       # sphere tracing: nothing is nearer than the distance
        near = _scene(_EYE[:, None] + view[:, active] * t[active]).min(0)
        t[active] += near
        active = active[near > 5e-4]
        if active.size == 0:
            break
    point = _EYE[:, None] + view * t
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    normal = _unit(sum(np.outer(c, _scene(point + 1e-3 * c[:, None]).min(0)) for c in corners))
    thing = _scene(point).argmin(0)
    colour, gloss = np.zeros((thing.size, 3)), np.zeros(thing.size)
    for k in np.unique(thing):
        here = thing == k
        colour[here], gloss[here] = _paint(_THINGS[k], point[:, here], seed + 10 * int(k))

    def lit(lamp: np.ndarray, hardness: float, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
        """Light that arrives on each point (N, 1), and its share that is mirrored to the eye."""
        way = lamp[:, None] - point
        distance, way = np.sqrt((way ** 2).sum(0)), _unit(way)
        seen = _reached(point + 4e-3 * normal, way, distance, hardness) / distance ** 2
        mirrored = np.maximum((normal * _unit(way - view)).sum(0), 0) ** sharpness
        return (seen * np.maximum((normal * way).sum(0), 0))[:, None], (seen * gloss * mirrored)[:, None]

    arrives, shines = lit(_FLASH, 200, 120)
    burst = ((36 * arrives + 0.02) * colour + 58 * shines) * [0.9, 1.0, 1.14]
    arrives, shines = lit(_LAMP, 5, 25)
    crowded = sum(np.maximum(1 - _scene(point + step * normal).min(0) / step, 0) for step in (0.12, 0.24, 0.36))
    bounced = 0.08 * np.clip(1 - 0.39 * crowded, 0.2, 1) * (0.7 + 0.3 * normal[2])
    return burst, ((5.5 * arrives + bounced[:, None]) * colour + 1.6 * shines) * [1.25, 0.92, 0.55]


def flash_pair(size: tuple[int, int] = (256, 320), *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A still life by flash, by the room's lamp with photon noise, and by the lamp without noise.

    The flash is cold, frontal, nearly free of noise, with hard shadows and highlights of its own; the lamp is warm,
    dim and soft. The lamp's picture is rounded to the 256 levels of its file before the noise is drawn, so
    `labkit.images.add_poisson_noise(no_flash_clean, peak=25, seed=seed)` draws the same noise from the file.

    Returns
    -------
    (flash, no_flash, no_flash_clean) : float32 tensors (3, H, W) in [0, 1].

    Raises
    ------
    ValueError : a size or seed out of range.

    References
    ----------
    Eisemann, Durand, "Flash Photography Enhancement via Intrinsic Relighting", SIGGRAPH 2004, for the use of the pair.
    """
    from labkit.images import add_gaussian_noise, add_poisson_noise

    samples = 2
    y, x, fresh = _plane(size, seed, margin=0, samples=samples)
    forward = _unit(np.array([0.0, 0.4, 1.08]) - _EYE)
    right = _unit(np.cross(forward, [0.0, 0.0, 1.0]))
    view = _unit(3.2 * forward[:, None] + np.outer(right, 2 * x / size[1] - 1)
                 - np.outer(np.cross(right, forward), (2 * y - size[0]) / size[1]))
    paint, bands = next(fresh), np.array_split(view, view.shape[1] // 8192 + 1, axis=1)     # bands that fit the cache
    flash, clean = (_develop(np.concatenate(light).reshape(*y.shape, 3), margin=0, samples=samples)
                    for light in zip(*(_expose(band, paint) for band in bands)))
    clean = (clean * 255).round() / 255
    return (add_gaussian_noise(flash, sigma=0.006, seed=seed).clamp(0, 1),
            add_poisson_noise(clean, peak=25, seed=seed).clamp(0, 1), clean)


# ---- The folder `data` -----------------------------------------------------------------------------------------------

def pictures() -> Iterator[tuple[str, Tensor]]:
    """Every file of the data folder, as (path inside it, image or clip), one after the other."""
    for name in TEXTURES:
        yield f"textures/{name}.png", texture(name)
    for name in DRAWINGS:
        yield f"drawings/{name}.png", drawing(name)
    for name, made in CLIPS.items():
        yield f"clips/{name}.png", made()
    yield from zip(("flash.png", "no_flash.png", "no_flash_clean.png"), flash_pair())


def write(folder: Path) -> list[Path]:
    """Write all pictures below `folder`; a clip becomes an animated PNG of twelve frames per second."""
    from PIL import Image

    from labkit.images import to_pixels

    paths = []
    for name, picture in pictures():
        frames = picture if picture.ndim == 4 else picture[None]
        first, *rest = (Image.fromarray(to_pixels(frame)) for frame in frames)
        animation = {"save_all": True, "append_images": rest, "duration": 83} if rest else {}
        paths.append(folder / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        first.save(paths[-1], optimize=True, **animation)
    return paths


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "data"
    print(f"wrote {len(write(target))} pictures below {target}")
