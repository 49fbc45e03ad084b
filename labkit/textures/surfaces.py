"""Ten colour textures, from the regular to the stochastic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from labkit.textures.ground import (_box, _develop, _fractal, _light, _mix, _noise, _pick, _plane, _random, _rgb,
                                    _scatter, _step, _turn)
from labkit.validation import validate_choice

__all__ = ["TEXTURES", "cloth", "leaves", "marble", "pebbles", "sand", "scales", "terrazzo", "texture", "tiles", "wall",
           "wood"]


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

    >>> labkit.textures.texture("pebbles", size=(24, 32)).shape
    torch.Size([3, 24, 32])

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
