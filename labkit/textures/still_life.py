"""A still life, lit twice: the flash / no-flash pair."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from labkit.images import add_gaussian_noise, add_poisson_noise
from labkit.textures.drawings import _spline
from labkit.textures.ground import _develop, _fractal, _mix, _noise, _plane, _random, _rgb, _step, _turn

__all__ = ["flash_pair"]

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
    normal = _unit(np.sum([np.outer(c, _scene(point + 1e-3 * c[:, None]).min(0)) for c in corners], axis=0))
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

    >>> [picture.shape for picture in labkit.textures.flash_pair((24, 32))]
    [torch.Size([3, 24, 32]), torch.Size([3, 24, 32]), torch.Size([3, 24, 32])]

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
