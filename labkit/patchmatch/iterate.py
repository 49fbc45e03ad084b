"""The search itself, step by step: by the compiled kernels where there are any, else as the references do it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from labkit.kernels import available, run
from labkit.patchmatch import reference
from labkit.patchmatch.matching import Matching
from labkit.patchmatch.reference import JUMPS, RED_BLACK_STEPS
from labkit.runtime import seed_of

__all__ = ["distances", "iterate", "searched"]


def distances(matching: Matching, field: Tensor) -> Tensor:
    """Those of a field (k, 3, T', H', W'), as (k, T', H', W'); 0 where no match is wanted."""
    distance = matching.image.new_zeros(field.shape[0], *field.shape[2:])
    if not _compiled(matching):
        return reference.distances(matching, field, distance)
    image, exemplar, weights, _, prices, active = _arrays(matching)
    run("patchmatch", "distances", image, exemplar, weights, prices, active, field, distance, matching.depth, matching.side,
        matching.absolute)
    return distance


def iterate(matching: Matching, field: Tensor, *, schedule: str, iterations: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (field, distance) of the start and after each iteration; they are changed by the next one."""
    distance = distances(matching, field)
    if len(field) > 1:
        distance, order = distance.sort(dim=0, stable=True)
        field = torch.gather(field, 0, order[:, None].expand_as(field))
    yield field, distance
    step = _iteration if _compiled(matching) else reference.iteration
    for number in range(1, iterations + 1):
        field, distance = step(matching, field, distance, schedule, number, seed_of(seed, number))
        yield field, distance


def searched(matching: Matching, field: Tensor, *, iterations: int, seed: int,
             schedule: str = "sequential") -> tuple[Tensor, Tensor]:
    """The field and its distances after some iterations."""
    *_, last = iterate(matching, field, schedule=schedule, iterations=iterations, seed=seed)
    return last


def _iteration(matching: Matching, field: Tensor, distance: Tensor, schedule: str, number: int,
               key: int) -> tuple[Tensor, Tensor]:
    """`reference.iteration`, compiled."""
    pictures, patch = _arrays(matching), (matching.depth, matching.side, matching.absolute)
    radius = max(matching.exemplar.shape[:3])
    if schedule == "sequential":
        run("patchmatch", "sequential", *pictures, field, distance, *patch, 1 if number % 2 else -1, radius, key)
        return field, distance
    if schedule == "jump_flooding":
        for jump in JUMPS:
            other, other_distance = torch.empty_like(field), torch.empty_like(distance)
            run("patchmatch", "jump_flooding", *pictures, field, distance, other, other_distance, *patch, jump)
            field, distance = other, other_distance
    else:
        for jump in RED_BLACK_STEPS:
            for color in (0, 1):
                run("patchmatch", "red_black", *pictures, field, distance, *patch, jump, color)
    run("patchmatch", "random_search", *pictures, field, distance, *patch, radius, key)
    return field, distance


def _compiled(matching: Matching) -> bool:
    return matching.method == "kernel" and available()


def _arrays(matching: Matching) -> tuple[Tensor | None, ...]:
    """The tensors as kernels take them, without copies."""
    weights = None if matching.weights is None else matching.weights.flatten(2)
    return (matching.image.flatten(2), matching.exemplar.flatten(2), weights, matching.valid.view(torch.uint8), matching.prices,
            matching.active.view(torch.uint8))
