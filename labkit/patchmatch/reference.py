"""PatchMatch as the equations say it, one patch after the other: slow, for small pictures and for reading.

Each schedule is here as the lecture and the thesis describe it. The random candidates are the same hash of (seed,
iteration, patch, draw) as in the compiled kernels, so both try the same ones; a candidate is (frame or sheet, row,
column), and a patch is named the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from labkit.patchmatch.matching import Matching
from labkit.runtime import hashed

__all__ = ["JUMPS", "RED_BLACK_STEPS", "SCHEDULES", "Place", "consider", "distances", "iteration", "patch_distance", "propagate",
           "random_places", "search"]

Place = tuple[int, int, int]
SCHEDULES = ("sequential", "jump_flooding", "red_black")
JUMPS = (8, 4, 2, 1)            # the thesis's Algorithm 4 goes 1, 2, 4, 8; far first leaves less to the next iteration
RED_BLACK_STEPS = (1, 3)        # odd: a neighbour so far away has the other colour


def distances(matching: Matching, field: Tensor, out: Tensor) -> Tensor:
    """Fill `out` (k, T', H', W') with the distances of a field."""
    for k, t, y, x in torch.cartesian_prod(*map(torch.arange, out.shape)).reshape(-1, 4).tolist():
        if matching.active[t, y, x]:
            out[k, t, y, x] = patch_distance(matching, (t, y, x), tuple(field[k, :, t, y, x].tolist()))
    return out


def patch_distance(matching: Matching, patch: Place, match: Place) -> Tensor:
    """Σ over the patch and the channels of (u(x + τ) − ũ(ψ(x) + τ))², or of absolute differences; weighted, and priced."""
    (t, y, x), (s, v, u), depth, side = patch, match, matching.depth, matching.side
    p = matching.image[t:t + depth, y:y + side, x:x + side]
    q = matching.exemplar[s:s + depth, v:v + side, u:u + side]
    difference = (p - q).abs() if matching.absolute else (p - q) ** 2
    if matching.weights is not None:
        difference = difference * matching.weights[t:t + depth, y:y + side, x:x + side]
    if matching.prices is not None:
        gain, bias = matching.prices[:, s, v, u]
        return gain * difference.sum() + bias
    return difference.sum()


def iteration(matching: Matching, field: Tensor, distance: Tensor, schedule: str, number: int,
              key: int) -> tuple[Tensor, Tensor]:
    """One iteration of a schedule; returns a new field and its distances."""
    field, distance = field.clone(), distance.clone()
    frames, height, width = distance.shape[1:]
    patches = [(t, y, x) for t in range(frames) for y in range(height) for x in range(width) if matching.active[t, y, x]]
    if schedule == "sequential":
        step = 1 if number % 2 else -1
        for patch in patches[::step]:
            for offset in ((0, 0, step), (0, step, 0), (step, 0, 0)):   # left, above; in even iterations right, below
                propagate(matching, field, distance, field, patch, offset)
            search(matching, field, distance, patch, key)
        return field, distance
    if schedule == "jump_flooding":
        for jump in JUMPS:
            source = field.clone()      # all patches look at the field as it was: the order does not matter
            for patch in patches:
                for offset in _six(jump):
                    propagate(matching, field, distance, source, patch, offset)
    else:
        for jump in RED_BLACK_STEPS:
            for color in (0, 1):
                for patch in patches:
                    if sum(patch) % 2 == color:
                        for offset in _six(jump):
                            propagate(matching, field, distance, field, patch, offset)
    for patch in patches:
        search(matching, field, distance, patch, key)
    return field, distance


def propagate(matching: Matching, field: Tensor, distance: Tensor, source: Tensor, patch: Place, offset: Place) -> None:
    """ψ(x) ← ψ(x − τ) + τ if that is nearer: try the matches of one neighbour, moved along."""
    neighbour = tuple(p - o for p, o in zip(patch, offset))
    if all(0 <= n < size for n, size in zip(neighbour, matching.active.shape)) and matching.active[neighbour]:
        for match in source[(slice(None), slice(None), *neighbour)].tolist():
            consider(matching, field, distance, patch, tuple(m + o for m, o in zip(match, offset)))


def search(matching: Matching, field: Tensor, distance: Tensor, patch: Place, key: int) -> None:
    """Try places around the k matches, drawn in windows of radius R, R/2, R/4, … down to one pixel."""
    for candidate in random_places(matching, field[(slice(None), slice(None), *patch)].tolist, patch, key):
        consider(matching, field, distance, patch, candidate)


def random_places(matching: Matching, matches: Callable[[], list], patch: Place, key: int) -> Iterator[Place]:
    """The places that a random search tries; `matches` tells the patch's matches at the time."""
    sheets, rows, columns = matching.valid.shape
    number = 0
    for t, size in zip(patch, matching.active.shape):
        number = number * size + t
    counter = number * len(matches()) * 128
    for i in range(len(matches())):
        s, v, u = matches()[i]
        radius = max(matching.exemplar.shape[:3])
        while radius >= 1:
            bits = hashed(key, counter)
            row, column = _draw(bits & 0xFFFFFFFF, v, radius, rows), _draw(bits >> 32, u, radius, columns)
            yield (_draw(hashed(key, counter + 1) >> 32, s, radius, sheets) if sheets > 1 else 0, row, column)
            counter += 2
            radius //= 2


def consider(matching: Matching, field: Tensor, distance: Tensor, patch: Place, candidate: Place) -> bool:
    """Put a candidate among the k matches of a patch if it may be one, is new and is nearer than the last of them."""
    if not all(0 <= c < size for c, size in zip(candidate, matching.valid.shape)) or not matching.valid[candidate]:
        return False
    at = (slice(None), *patch)
    matches, near = field[(slice(None), *at)], distance[at]
    if list(candidate) in matches.tolist():
        return False
    found = patch_distance(matching, patch, candidate)
    if not found < near[-1]:
        return False
    place = int((near <= found).sum())
    matches[place + 1:], near[place + 1:] = matches[place:-1].clone(), near[place:-1].clone()
    matches[place], near[place] = torch.tensor(candidate, dtype=matches.dtype), found
    return True


def _draw(bits: int, centre: int, radius: int, size: int) -> int:
    """A whole number within `radius` of the centre and from 0 to size − 1, all alike, from 32 random bits."""
    low, high = max(0, centre - radius), min(size - 1, centre + radius)
    return low + (bits * (high - low + 1) >> 32)


def _six(step: int) -> tuple[Place, ...]:
    """Offsets of the neighbours along every axis; those along time find none in a picture of one frame."""
    return ((0, 0, -step), (0, -step, 0), (-step, 0, 0), (0, 0, step), (0, step, 0), (step, 0, 0))
