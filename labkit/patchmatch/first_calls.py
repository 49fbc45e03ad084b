"""What compiles this chapter's kernels: each is called once (`labkit.warm`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from labkit.patchmatch.inpainting import inpaint
from labkit.patchmatch.reference import SCHEDULES
from labkit.patchmatch.search import patchmatch

__all__ = ["first_calls"]


def first_calls(image: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names and calls, on a picture (3, 24, 24)."""
    mask = torch.zeros(1, 24, 24, dtype=torch.bool)
    mask[:, 10:14, 10:14] = True
    for schedule in SCHEDULES:
        yield f"patchmatch, {schedule}", partial(patchmatch, image, image, schedule=schedule, iterations=1)
    yield "inpaint", lambda: inpaint(image, mask, levels=1, iterations=1)
