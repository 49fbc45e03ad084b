"""What compiles this chapter's kernels: each is called once (`labkit.warm`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from labkit.texture_optimization.efros_leung import efros_leung
from labkit.texture_optimization.single_image import psin, psin_ot

__all__ = ["first_calls"]


def first_calls(image: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names and calls, on a picture (3, 24, 24)."""
    yield "efros_leung", lambda: efros_leung(image, size=(26, 26))
    yield "psin", lambda: psin(image)
    yield "psin_ot", lambda: psin_ot(image)
