"""Line drawings: white paper, black strokes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from torch import Tensor

from labkit.textures.ground import _SAMPLES, _develop, _noise, _plane, _window
from labkit.validation import validate_choice

__all__ = ["DRAWINGS", "drawing"]

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
    for kind, pen, *pairs in (stroke.split() for stroke in text.replace("\n", ";").strip(";").split(";")):
        given, width = np.array([pair.split(",") for pair in pairs], dtype=float), float(pen)
        for points in (given, given * [-1, 1] + [100, 0])[:1 + kind.isupper()]:     # an upper-case kind has a mirror image
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
                base, tip = points
                yield from _leaf(base, tip, width)


DRAWINGS: dict[str, str] = {"boat": _BOAT, "cat": _CAT, "plant": _PLANT}


def drawing(name: str, *, size: tuple[int, int] = (192, 192), seed: int = 0) -> Tensor:
    """One of `DRAWINGS`, in ink: (1, H, W), paper 1, ink 0. The seed is in the pressure and tremor of the hand.

    >>> labkit.textures.drawing("cat", size=(24, 32)).shape
    torch.Size([1, 24, 32])

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
