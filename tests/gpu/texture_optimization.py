"""Chapter 3's compiled synthesis on a card: Efros and Leung, the one method of the chapter with kernels of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from torch import Tensor

from labkit.texture_optimization import efros_leung
from tests.gpu.case import Case, picture

__all__ = ["cases"]


def cases(small: bool) -> Iterator[Case]:
    """Textures grown in both precisions; small ones for numba's simulator."""
    side, larger, patch = (5, 5, 3) if small else (32, 64, 9)
    exemplar = picture(3, side, side, seed=5).double()
    yield Case(
        f"Efros and Leung, double precision, {patch}×{patch}, {side}²",
        (exemplar,),
        functools.partial(efros_leung, patch_size=patch),
        0,
        "in double precision no two errors are as near as their roundings: the same pixels must be copied",
    )
    exemplar = picture(3, larger, larger, seed=6)
    yield Case(
        f"Efros and Leung, {patch}×{patch}, {larger}²",
        (exemplar,),
        functools.partial(efros_leung, patch_size=patch),
        0,
        "number of pixels that are none of the exemplar's; roundings decide between equal windows, so pictures may differ",
        difference=_made_up,
        alone=True,
        plain=functools.partial(efros_leung, patch_size=patch, method="reference"),
    )


def _made_up(found: Tensor, expected: None) -> float:
    own = picture(3, *found.shape[1:], seed=6).flatten(1).T
    return float((found.flatten(1).T[:, None] == own).all(-1).any(1).logical_not().sum())
