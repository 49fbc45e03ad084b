"""Holes like those that are painted: back and forth with a thick brush."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit import runtime
from labkit.validation import describe, known_pixels, validate_integer, validate_number, validate_seed, validate_size

__all__ = ["brush_mask", "brush_masks", "brush_path", "draw_path", "validate_hole"]


def brush_mask(height: int, width: int, *, strokes: int = 1, segments: int = 6, length: float | None = None,
               thickness: float | None = None, max_angle: float = 2 * math.pi, seed: int = 0) -> Tensor:
    """A hole as a brush paints it: each stroke is a path of straight segments from a random place on.

    >>> mask = labkit.diffusion_inpainting.brush_mask(32, 48, seed=1)
    >>> mask.shape, mask.dtype, 0 < float(mask.float().mean()) < 1
    (torch.Size([1, 32, 48]), torch.bool, True)

    Parameters
    ----------
    height, width : of the picture, in pixels.
    strokes : number of paths.
    segments : N, straight pieces of a path.
    length : ℓ_max, length of the longest piece, in pixels; `None` takes 0.3 of the shorter side.
    thickness : diameter of the brush, in pixels; `None` takes an eighth of the shorter side.
    max_angle : θ_max, in radians; each second angle θ becomes 2π − θ. Below π / 2 a path zigzags to the right, with 2π it
        goes anywhere.
    seed : of the places, angles and lengths.

    Returns
    -------
    bool tensor (1, height, width), `True` where the brush has been.

    Raises
    ------
    ValueError : a number out of its range.

    References
    ----------
    Thesis, Fig. V.2, after Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV 2019.
    """
    validate_seed(seed)
    return brush_masks(1, height, width, strokes=strokes, segments=segments, length=length, thickness=thickness,
                       max_angle=max_angle, generator=runtime.generator(seed))[0]


def brush_masks(number: int, height: int, width: int, *, strokes: int = 1, segments: int = 6, length: float | None = None,
                thickness: float | None = None, max_angle: float = 2 * math.pi, generator: torch.Generator) -> Tensor:
    """As many masks, (number, 1, height, width), as a batch of training needs, drawn on the device of the generator."""
    for name, value in (("number", number), ("height", height), ("width", width), ("strokes", strokes),
                        ("segments", segments)):
        validate_integer(value, name=name, minimum=1)
    shorter = min(height, width)
    length = 0.3 * shorter if length is None else length
    thickness = max(1.0, shorter / 8) if thickness is None else thickness
    for name, value in (("length", length), ("thickness", thickness), ("max_angle", max_angle)):
        validate_number(value, name=name, above=0, maximum=1e6)
    validate_size((height, width))
    device, paths = generator.device, number * strokes
    drawn = torch.rand(paths, 2 * segments + 2, generator=generator, device=device)
    starts = drawn[:, :2] * torch.tensor([height - 1, width - 1], device=device)
    points = brush_path(starts, angles=max_angle * drawn[:, 2:segments + 2], lengths=length * drawn[:, segments + 2:],
                        height=height, width=width)
    return draw_path(points, height=height, width=width, thickness=thickness).reshape(
        number, strokes, 1, height, width).any(dim=1)


def brush_path(start: Tensor, *, angles: Tensor, lengths: Tensor, height: int, width: int) -> Tensor:
    """The corners of a path: p ← p + ℓ (cos θ to the right, sin θ down), with 2π − θ for θ at each second segment.

    Parameters
    ----------
    start : (…, 2), (row, column) of the first point, in pixels.
    angles, lengths : (…, N), θ_i and ℓ_i for i = 1, …, N, in radians and pixels.
    height, width : of the picture, which no point leaves.

    Returns
    -------
    Tensor (…, N + 1, 2).
    """
    if not (start.shape[:-1] == angles.shape[:-1] == lengths.shape[:-1] and start.shape[-1] == 2
            and angles.shape == lengths.shape):
        raise ValueError(f"start is {describe(start)}, angles {describe(angles)} and lengths {describe(lengths)}; expected "
                         "(…, 2), (…, N) and (…, N)")
    points, last = [start], torch.tensor([height - 1, width - 1]).to(start)
    for i in range(angles.shape[-1]):
        angle = angles[..., i] if i % 2 == 0 else 2 * math.pi - angles[..., i]     # i counts from 0, the thesis from 1
        move = torch.stack([angle.sin(), angle.cos()], dim=-1) * lengths[..., i, None]
        points.append((points[-1] + move).clamp(min=0).minimum(last))
    return torch.stack(points, dim=-2)


def draw_path(points: Tensor, *, height: int, width: int, thickness: float) -> Tensor:
    """Where a round brush passes along paths: pixels within `thickness` / 2 of a segment.

    Parameters
    ----------
    points : (…, N + 1, 2) float tensor, (row, column) of the corners, in pixels.
    height, width : of the picture.
    thickness : diameter of the brush, in pixels; the pixel nearest to a point is always painted.

    Returns
    -------
    bool tensor (…, 1, height, width).
    """
    rows = torch.arange(height, device=points.device, dtype=points.dtype)[:, None]
    columns = torch.arange(width, device=points.device, dtype=points.dtype)
    reach = max(thickness / 2, math.sqrt(0.5)) ** 2
    painted = torch.zeros(*points.shape[:-2], height, width, dtype=torch.bool, device=points.device)
    for k in range(points.shape[-2] - 1):
        (row, column), (down, right) = (value[..., None, None].unbind(-3)
                                        for value in (points[..., k, :], points[..., k + 1, :] - points[..., k, :]))
        squared = (down ** 2 + right ** 2).clamp(min=1e-12)
        along = (((rows - row) * down + (columns - column) * right) / squared).clamp(0, 1)     # of the nearest point
        painted |= (rows - row - along * down) ** 2 + (columns - column - along * right) ** 2 <= reach
    return painted.unsqueeze(-3)


def validate_hole(image: Tensor, mask: Tensor) -> None:
    """Refuse what is no image (C, H, W) with a mask (1, H, W) of some missing pixels and some known ones, which are finite."""
    known_pixels(image, mask)
    missing = int(mask.sum())
    if missing in (0, mask.numel()):
        raise ValueError(f"mask marks {'no pixel' if missing == 0 else 'every pixel'} as missing; expected some, not all")
