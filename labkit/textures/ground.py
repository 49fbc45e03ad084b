"""Chance, noise and light: what all pictures share.

A texture is a height field in pixels and a colour per point. `_light` shines a sun from the top left and a blue sky on
both, on a grid three times finer than the picture; `_develop` averages that grid and encodes it for display.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, product

import numpy as np
import torch
from torch import Tensor

from labkit.validation import validate_integer, validate_size

__all__: list[str] = []

_SAMPLES = 3     # grid points per pixel along each axis
_MARGIN = 16     # pixels computed around the picture, so that shadows and blurs are right up to its edge
_GAMMA = 2.2     # stored value = light ** (1 / _GAMMA)



def _random(*keys: np.ndarray | int, seed: int) -> np.ndarray:
    """A number in [0, 1) for every combination of whole numbers (splitmix64 of the seed and the keys)."""
    state = np.full(1, seed, dtype=np.uint64)
    for key in (*keys, 0):
        state = state + np.asarray(key).astype(np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) * 2.0 ** -53


def _noise(*position: np.ndarray | float, seed: int, period: tuple[int, ...] | None = None) -> np.ndarray:
    """Gradient noise in any number of dimensions, about [-1, 1], features of size one, mean zero."""
    points = np.broadcast_arrays(*position)
    floor = [np.floor(p).astype(int) for p in points]
    fraction = [p - f for p, f in zip(points, floor)]
    fade = [f * f * f * (f * (6 * f - 15) + 10) for f in fraction]
    lattice = np.meshgrid(*(np.arange(f.min(), f.max() + 2) for f in floor), indexing="ij", sparse=True)
    keys = lattice if period is None else [np.mod(i, n) for i, n in zip(lattice, period)]
    slopes = [2 * _random(*keys, axis, seed=seed) - 1 for axis in range(len(points))]
    total = np.zeros(())
    for corner in product((0, 1), repeat=len(points)):
        cell = tuple(f - f.min() + c for f, c in zip(floor, corner))
        weight = np.prod([w if c else 1 - w for w, c in zip(fade, corner)], axis=0)
        total = total + weight * sum(slope[cell] * (f - c) for slope, f, c in zip(slopes, fraction, corner))
    return 1.6 * total


def _fractal(*position: np.ndarray | float, seed: int, octaves: int = 4, gain: float = 0.5,
             period: tuple[int, ...] | None = None) -> np.ndarray:
    """Noise plus finer and weaker noise, about [-1, 1]."""
    total = np.zeros(())
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
    validate_size(size, minimum=16)
    validate_integer(seed, name="seed", minimum=0, maximum=2 ** 48)
    validate_integer(frames, name="frames", minimum=1)
    axes = [(np.arange(-margin * samples, (side + margin) * samples) + 0.5) / samples for side in size]
    rows, columns = np.meshgrid(*axes, indexing="ij")
    return rows, columns, count(1000 * seed)


def _window(shape: tuple[int, int], top: float, bottom: float, left: float, right: float) -> tuple[slice, slice]:
    """The part of a grid with margin that covers these rows and columns, given in pixels."""
    rows, columns = (slice(*np.clip(np.ceil((np.array(span) + _MARGIN) * _SAMPLES), 0, side).astype(int))
                     for span, side in zip(((top, bottom), (left, right)), shape))
    return rows, columns


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
