"""An exemplar that is searched turned and mirrored as well: its rotations and reflections, one sheet for each.

A match in a sheet is named by its first (top-left) pixel there, (sheet, row, column); outside this file, by the square of
the exemplar as it is and the number of what was done to it, in `TRANSFORMS`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.validation import describe, validate_choice

__all__ = ["TRANSFORMS", "filled", "from_sheets", "to_sheets", "transformed", "turned", "validate_transforms"]

TRANSFORMS = ("identity", "rotate_90", "rotate_180", "rotate_270",
              "flip", "flip_rotate_90", "flip_rotate_180", "flip_rotate_270")


def turned(exemplar: Tensor, name: str) -> Tensor:
    """The exemplar (…, h, w), mirrored and then rotated as `name` of `TRANSFORMS` says."""
    return torch.rot90(exemplar.flip(-1) if "flip" in name else exemplar, TRANSFORMS.index(name) % 4, (-2, -1))


def transformed(exemplar: Tensor, names: tuple[str, ...]) -> Tensor:
    """The exemplar (C, h, w) rotated and flipped, one sheet for each name, filled up to a square with zeros."""
    height, width = exemplar.shape[-2:]
    if any("90" in name or "270" in name for name in names):
        height = width = max(height, width)
    return torch.stack([filled(turned(exemplar, name), (height, width)) for name in names])


def filled(sheet: Tensor, size: tuple[int, int]) -> Tensor:
    """A sheet (…, h, w), filled up with zeros below and to the right."""
    return F.pad(sheet, (0, size[1] - sheet.shape[-1], 0, size[0] - sheet.shape[-2]))


def _places(size: tuple[int, int], names: tuple[str, ...]) -> Tensor:
    """For every pixel of every sheet its number in the exemplar, from 0, row by row; -1 where a sheet was filled up."""
    number = torch.arange(size[0] * size[1], dtype=torch.float64).reshape(1, *size) + 1
    return transformed(number, names)[:, 0].long() - 1


def from_sheets(field: Tensor, names: tuple[str, ...], size: tuple[int, int], patch_size: int) -> tuple[Tensor, Tensor]:
    """A field of (sheet, row, column) as the squares (k, 2, H', W') of the exemplar, and their transforms."""
    places = _places(size, names).to(field.device)
    sheet, row, column = field[:, :, 0].long().unbind(1)
    first, last = places[sheet, row, column], places[sheet, row + patch_size - 1, column + patch_size - 1]
    nnf = torch.stack([torch.minimum(first // size[1], last // size[1]), torch.minimum(first % size[1], last % size[1])], 1)
    numbers = torch.tensor([TRANSFORMS.index(name) for name in names], dtype=torch.int8, device=field.device)
    return nnf.int(), numbers[sheet]


def to_sheets(nnf: Tensor, transform: Tensor, names: tuple[str, ...], size: tuple[int, int], patch_size: int) -> Tensor:
    """The inverse of `from_sheets`."""
    places = _places(size, names)
    height, width = places.shape[1:]
    seen = torch.empty(len(names), size[0] * size[1], dtype=torch.long)
    for number, sheet in enumerate(places.flatten(1)):
        inside = sheet >= 0
        seen[number, sheet[inside]] = inside.nonzero()[:, 0]
    of = torch.full((len(TRANSFORMS),), -1, dtype=torch.long)
    for number, name in enumerate(names):
        of[TRANSFORMS.index(name)] = number
    sheet, (row, column) = of[transform.cpu().long()], nnf.cpu().long().unbind(1)
    last = patch_size - 1
    first, last = seen[sheet, row * size[1] + column], seen[sheet, (row + last) * size[1] + column + last]
    found = [sheet, torch.minimum(first // width, last // width), torch.minimum(first % width, last % width)]
    return torch.stack(found, 1)[:, :, None].int().contiguous()


def validate_transforms(transforms: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what is no choice of different names from `TRANSFORMS`; returned as a tuple."""
    if not isinstance(transforms, (tuple, list)) or not transforms or len(set(map(str, transforms))) != len(transforms):
        raise ValueError(f"transforms is {describe(transforms)}; expected different names from {', '.join(TRANSFORMS)}")
    for name in transforms:
        validate_choice(name, name="transforms", choices=TRANSFORMS)
    return tuple(transforms)
