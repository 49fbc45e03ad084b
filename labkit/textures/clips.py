"""Short dynamic textures; each of them loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from labkit.textures.ground import (_SAMPLES, _box, _develop, _fractal, _mix, _noise, _pick, _plane, _random, _rgb,
                                    _step, _window)

__all__ = ["CLIPS", "fire", "grass", "water"]


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
