"""The check of a hole like the stroke of a brush."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import with_options

__all__ = ["brush_mask"]

_ROOM = 5e-3        # pixels that every pixel keeps from the edge of the brush, for answers that sample the path finely


# --- 4 · A hole like a stroke of a brush ----------------------------------------------------------------------------

def _down_right(angle: Tensor) -> Tensor:
    return torch.stack([angle.sin(), angle.cos()])


def _corners(start: Tensor, angles: Tensor, lengths: Tensor, height: int, width: int, *,
             mirrored: Callable[[int], bool] = lambda i: i % 2 == 0,
             move: Callable[[Tensor], Tensor] = _down_right, inside: str = "each", turns: bool = False, far: int = 1,
             mirror: float = 2 * math.pi, rounds: bool = False) -> list[Tensor]:
    """The corners of the path; i counts segments from 1."""
    points = [start.round() if rounds else start]
    last, total = torch.tensor([height - far, width - far]).to(start), torch.zeros(()).to(start)
    for i, (angle, length) in enumerate(zip(angles, lengths), 1):
        total = total + angle if turns else angle
        following = points[-1] + length * move(mirror - total if mirrored(i) else total)
        following = following.round() if rounds else following
        points.append(following.clamp(min=0).minimum(last) if inside == "each" else following)
    return [p.clamp(min=0).minimum(last) for p in points] if inside == "afterwards" else points


def _distance(rows: Tensor, columns: Tensor, first: Tensor, second: Tensor, *, segment: bool = True,
              metric: Callable = torch.hypot) -> Tensor:
    """Of every pixel from a segment, or from the line through it."""
    down, right = second - first
    along = ((rows - first[0]) * down + (columns - first[1]) * right) / (down ** 2 + right ** 2).clamp(min=1e-12)
    along = along.clamp(0, 1) if segment else along
    return metric(rows - first[0] - along * down, columns - first[1] - along * right)


def _pairs(points: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(points, points[1:]))


def _brush_mask(start: Tensor, angles: Tensor, lengths: Tensor, height: int, width: int, thickness: float, *,
                pairs: Callable = _pairs, reach: Callable[[float], float] = lambda thickness: thickness / 2,
                half: float = 0.0, segment: bool = True, metric: Callable = torch.hypot, near: Callable = torch.le,
                result: Callable[[Tensor], Tensor] = lambda mask: mask[None], **options) -> Tensor:
    """The mask; the options are where answers differ."""
    rows = torch.arange(height, dtype=start.dtype)[:, None] + half
    columns = torch.arange(width, dtype=start.dtype) + half
    points = _corners(start, angles, lengths, height, width, **options)
    mask = torch.zeros(height, width, dtype=torch.bool)
    for first, second in pairs(points):
        mask |= near(_distance(rows, columns, first, second, segment=segment, metric=metric), reach(thickness))
    return result(mask)


def _stroke(task: Task, height: int, width: int, segments: int, thickness: float, *, longest: float,
            start: tuple[float, float] | None = None, angle: float | None = None, still: int | None = None,
            leaves: bool = False) -> tuple:
    """Arguments of a path that stays inside the picture, or leaves it; no pixel lies on the edge of the brush."""
    rows, columns = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)

    def make() -> tuple[Tensor, Tensor, Tensor]:
        place = (0.3 + 0.4 * task.uniform(2).double()) * torch.tensor([height, width])
        place = place if start is None else torch.tensor(start, dtype=torch.float64) + 0.5 * task.uniform(2).double()
        draws = task.uniform(segments).double()
        angles = 2 * math.pi * draws if angle is None else angle + 0.5 * draws
        lengths = (0.5 + 0.5 * task.uniform(segments).double()) * longest
        if still is not None:
            lengths[still] = 0
        return place, angles, lengths

    def accept(path: tuple[Tensor, Tensor, Tensor]) -> bool:
        free, points = (_corners(*path, height, width, inside=inside) for inside in ("never", "each"))
        if leaves == all(torch.equal(p, q) for p, q in zip(free, points)):
            return False
        gaps = [float((_distance(rows, columns, *pair) - thickness / 2).abs().min()) for pair in _pairs(points)]
        return min(gaps) > _ROOM

    return *task.draw_until(make, accept), height, width, thickness


@exercise(points=2, minutes=30, reference=_brush_mask, withholds=(
    "labkit.diffusion_inpainting.brush_mask", "labkit.diffusion_inpainting.masks.brush_masks",
    "labkit.diffusion_inpainting.masks.brush_path", "labkit.diffusion_inpainting.masks.draw_path"))
def brush_mask(task: Task) -> None:
    with task.property("paints a single stroke", share=0.35):
        task.compare(*_stroke(task, 15, 20, 1, 3.0, longest=6, angle=0.4))
        task.compare(*_stroke(task, 20, 16, 1, 4.5, longest=6, angle=3.9))
    with task.property("goes back and forth", share=0.4):
        task.compare(*_stroke(task, 20, 26, 3, 2.5, longest=7))
        task.compare(*_stroke(task, 25, 21, 5, 3.5, longest=6))
    with task.property("stays inside the picture", share=0.25):
        task.compare(*_stroke(task, 14, 18, 4, 3.0, longest=12, start=(3, 12), angle=0.6, leaves=True))
        task.compare(*_stroke(task, 18, 15, 5, 2.5, longest=11, leaves=True))
    with task.property("paints a dot where a segment has length 0"):
        task.compare(*_stroke(task, 16, 17, 1, 5.0, longest=5, still=0))
        task.compare(*_stroke(task, 16, 17, 3, 3.0, longest=5, still=1))
    with task.property("paints pixels at exactly half the thickness too"):
        # whole numbers only, so that the ties are exact: 13 pixels, and 9 without those two pixels up, down, left
        # and right
        place = torch.tensor([5.0, 5.0], dtype=torch.float64)
        task.compare(place, torch.zeros_like(place[:1]), torch.zeros_like(place[:1]), 11, 12, 4.0)


def _axes_exchanged(start: Tensor, *rest) -> Tensor:
    return _brush_mask(start.flip(0), *rest, move=lambda angle: _down_right(angle).flip(0))


_UPWARDS = ("the path is its mirror image, up for down: rows grow downwards, so + ℓ sin θ leads down; and it is every "
            "*second* segment, i = 2, 4, …, counted from 1, that takes 2π − θ")


brush_mask.knows({
    "never_mirrored": Mistake("no segment is mirrored: every second one, i = 2, 4, …, takes 2π − θ for θ",
                              with_options(_brush_mask, mirrored=lambda i: False), 1),
    "always_mirrored": Mistake("every segment is mirrored; only every second one, i = 2, 4, …, takes 2π − θ for θ",
                               with_options(_brush_mask, mirrored=lambda i: True), 1),
    "mirrored_the_others": Mistake(_UPWARDS, with_options(_brush_mask, mirrored=lambda i: i % 2 == 1), 1),
    "mirrored_left_to_right": Mistake("the angle π − θ exchanges left and right; 2π − θ exchanges up and down",
                                      with_options(_brush_mask, mirror=math.pi), 1),
    "rounded": Mistake("the corners are rounded to whole pixels; they may lie between them",
                       with_options(_brush_mask, rounds=True), 1),
    "no_dot": Mistake(
        "a segment of length 0 paints nothing: 0 / 0 gives NaN, which is no distance. Clamp ‖d‖² to a tiny number "
        "from below",
        with_options(_brush_mask,
                     pairs=lambda points: [(p, q) for p, q in _pairs(points) if not torch.equal(p, q)]), 2),
    "sine_and_cosine_exchanged": Mistake("sine and cosine are exchanged: cos θ leads to the right, along the columns, "
                                         "sin θ down, along the rows",
                                         with_options(_brush_mask, move=lambda angle: _down_right(angle).flip(0)), 1),
    "start_swapped": Mistake("the start is read as (column, row); it is (row, column)",
                             lambda start, *rest: _brush_mask(start.flip(0), *rest), 1),
    "coordinates_swapped": Mistake("rows and columns are exchanged all along: points are (row, column), rows first",
                                   _axes_exchanged, 1),
    "angles_added": Mistake("each angle is added to the ones before; all of them are measured from the same direction, "
                            "to the right", with_options(_brush_mask, turns=True), 1),
    "degrees": Mistake("the angles are taken for degrees; they are in radians",
                       lambda start, angles, *rest: _brush_mask(start, angles.deg2rad(), *rest), 1),
    "starts_again": Mistake("every segment begins at the start; it begins where the one before ended", with_options(
        _brush_mask, pairs=lambda points: [(points[0], points[0] + q - p) for p, q in _pairs(points)]), 1),
    "last_segment_forgotten": Mistake("the last segment is not painted",
                                      with_options(_brush_mask, pairs=lambda points: _pairs(points)[:-1]), 1),
    "not_kept_inside": Mistake("the path leaves the picture; each of its points is moved back to the nearest pixel "
                               "inside", with_options(_brush_mask, inside="never"), 1),
    "kept_inside_afterwards": Mistake("the points are moved back inside after the whole walk; each is, before the next "
                                      "segment begins there", with_options(_brush_mask, inside="afterwards"), 1),
    "one_pixel_too_far": Mistake("points may go to row H and column W; the last ones are H − 1 and W − 1",
                                 with_options(_brush_mask, far=0), 1),
    "radius_for_diameter": Mistake("everything within `thickness` of the path is painted; that is the diameter of the "
                                   "brush, and it reaches half as far",
                                   with_options(_brush_mask, reach=lambda thickness: thickness), 3),
    "ties_left_out": Mistake(
        "only what is nearer than half the thickness is painted; pixels at exactly half the thickness are painted "
        "too (≤)",
        with_options(_brush_mask, near=torch.lt), 3),
    "not_squared": Mistake("the squared distance is compared with thickness / 2; compare it with the square of that",
                           with_options(_brush_mask, reach=lambda thickness: math.sqrt(thickness / 2)), 3),
    "half_of_the_square": Mistake(
        "the squared distance is compared with thickness² / 2; compare it with (thickness / 2)²",
        with_options(_brush_mask, reach=lambda thickness: thickness / math.sqrt(2)), 3),
    "square_brush": Mistake("the brush is a square: the larger of the two differences decides. It is round: their "
                            "hypotenuse decides",
                            with_options(_brush_mask, metric=lambda a, b: torch.maximum(a.abs(), b.abs())), 3),
    "diamond_brush": Mistake("the brush is a diamond: the two differences are added. It is round: their hypotenuse "
                             "decides", with_options(_brush_mask, metric=lambda a, b: a.abs() + b.abs()), 3),
    "whole_lines": Mistake("whole lines are painted, from border to border: where the nearest point lies before the "
                           "beginning or behind the end of a segment, the end is nearest",
                           with_options(_brush_mask, segment=False), 2),
    "corners_only": Mistake("only the corners of the path are painted, not what lies between them",
                            with_options(_brush_mask, pairs=lambda points: [(p, p) for p in points]), 2),
    "pixels_moved_by_a_half": Mistake("pixels are taken to lie at half numbers; the pixel in row i and column j lies "
                                      "at (i, j)", with_options(_brush_mask, half=0.5), 3),
    "inverted": Mistake("the mask is True where the brush has *not* been; True means missing",
                        with_options(_brush_mask, result=lambda mask: ~mask[None]), 3),
    "float": Mistake("the mask holds numbers; it is boolean",
                     with_options(_brush_mask, result=lambda mask: mask[None].to(torch.float32)), 3),
    "float64": Mistake("the mask holds numbers; it is boolean",
                       with_options(_brush_mask, result=lambda mask: mask[None].double()), 3),
    "no_first_axis": Mistake("the mask has the shape (H, W); masks have (1, H, W)",
                             with_options(_brush_mask, result=lambda mask: mask), 3),
})
