"""From coarse to fine: how many scales there are, and the field of a finer scale that one of a coarser scale suggests."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.patchmatch.fields import as_kernel_field, validate_field
from labkit.validation import validate_integer, validate_size

__all__ = ["carried_over", "upsample_nnf", "validate_levels"]

COARSEST = 3                # sides of a patch that the coarsest picture still holds


def upsample_nnf(nnf: Tensor, *, patch_size: int, image_size: tuple[int, int], exemplar_size: tuple[int, int],
                 coarse_exemplar_size: tuple[int, int]) -> Tensor:
    """The field between two finer pictures that a field between coarser ones suggests.

    >>> nnf = torch.zeros((2, 2, 2), dtype=torch.int32)
    >>> sizes = dict(image_size=(8, 8), exemplar_size=(8, 8), coarse_exemplar_size=(4, 4))
    >>> labkit.patchmatch.upsample_nnf(nnf, patch_size=3, **sizes).shape
    torch.Size([2, 6, 6])

    A fine patch takes the match of the coarse patch whose centre is nearest, scaled, plus what its own centre is away
    from that one: ψ(2x + δ) = 2 ψ(x) + δ for a ratio of 2, and the same for any ratio.

    Parameters
    ----------
    nnf : (2, H', W') or (k, 2, H', W') of the coarse pictures.
    patch_size : side of a patch, the same at both scales.
    image_size, exemplar_size : (height, width) of the fine pictures.
    coarse_exemplar_size : (height, width) of the coarse exemplar.

    Returns
    -------
    int32 field of the fine pictures; matches are moved inside the exemplar.

    Raises
    ------
    ValueError : no field, or a patch that does not fit in one of the pictures.
    """
    validate_integer(patch_size, name="patch_size", minimum=1)
    validate_field(nnf, patch_size=patch_size)
    for size, name in ((image_size, "image_size"), (exemplar_size, "exemplar_size"),
                       (coarse_exemplar_size, "coarse_exemplar_size")):
        validate_size(size, name=name, minimum=patch_size)
    whole = as_kernel_field(nnf.reshape(-1, *nnf.shape[-3:]))
    found, _ = carried_over(whole, patch_size=patch_size, size=image_size, exemplar_size=exemplar_size,
                            coarse_size=tuple(side + patch_size - 1 for side in nnf.shape[-2:]),
                            coarse_exemplar_size=coarse_exemplar_size)
    return found[:, 1:, 0].reshape(*nnf.shape[:-2], *found.shape[-2:])


def carried_over(found: Tensor, *, patch_size: int, size: tuple[int, int], coarse_size: tuple[int, int],
                 exemplar_size: tuple[int, int], coarse_exemplar_size: tuple[int, int]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A field (k, 3, T', H', W') of coarse pictures as one of finer pictures (thesis, eq. III.6), moved inside the
    exemplar; and the coarse (rows (H', 1), columns (W',)) that the fine patches were nearest to."""
    axes = [_nearest_coarse(fine, coarse, patch_size, found.device) for fine, coarse in zip(size, coarse_size)]
    (rows, row_rest), (columns, column_rest) = axes
    rows, row_rest = rows[:, None], row_rest[:, None]
    moved = found[..., rows, columns].double()
    for axis, rest in enumerate((row_rest, column_rest)):
        centre = (moved[:, 1 + axis] + patch_size / 2) * exemplar_size[axis] / coarse_exemplar_size[axis] + rest
        moved[:, 1 + axis] = (centre - patch_size / 2).round().clamp(0, exemplar_size[axis] - patch_size)
    return moved.int().contiguous(), (rows, columns)


def _nearest_coarse(fine: int, coarse: int, patch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one axis of `fine` pixels: for every patch the one of the coarse picture whose centre is nearest, and how far
    in fine pixels its own centre lies beyond that one."""
    centre = torch.arange(fine - patch_size + 1, dtype=torch.float64, device=device) + patch_size / 2
    nearest = (centre * coarse / fine - patch_size / 2).round().clamp(0, coarse - patch_size).long()
    return nearest, centre - (nearest + patch_size / 2) * fine / coarse


def validate_levels(levels: int | None, patch_size: int, *sizes: tuple[int, int]) -> int:
    """The number of scales asked for, if a patch fits in the coarsest; for `None`, as many as leave `COARSEST` patches."""
    shortest = min(min(size) for size in sizes)
    most = 1 + max(0, int(math.log2(shortest / patch_size)))
    if levels is None:
        return 1 + max(0, int(math.log2(shortest / (COARSEST * patch_size))))
    validate_integer(levels, name="levels", minimum=1)
    if levels > most:
        raise ValueError(f"levels is {levels}; expected at most {most}: the shortest side is {shortest} pixels, and the "
                         f"coarsest scale has to hold a patch of side {patch_size}")
    return levels
