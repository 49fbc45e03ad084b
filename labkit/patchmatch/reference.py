"""PatchMatch as the equations say it, one patch after the other: slow, for small pictures and for reading.

Each schedule is here as the lecture and the thesis describe it. The random candidates are the same hash of (seed,
iteration, patch, draw) as in the compiled kernels, so both try the same ones; a candidate is (frame or sheet, row,
column), and a patch is named the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labkit.runtime import hashed, seed_of

if TYPE_CHECKING:
    from labkit.patchmatch.fields import Match
    from labkit.patchmatch.search import Problem

Place = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """A match that was tried: where, why (`"current"`, `"propagation"` or `"random"`), how far, and whether it was taken."""

    kind: str
    row: int
    column: int
    distance: float
    accepted: bool


def distances(problem: Problem, field: Tensor, out: Tensor) -> Tensor:
    """Fill `out` (k, T', H', W') with the distances of a field."""
    for k, t, y, x in torch.cartesian_prod(*map(torch.arange, out.shape)).reshape(-1, 4).tolist():
        if problem.active[t, y, x]:
            out[k, t, y, x] = patch_distance(problem, (t, y, x), tuple(field[k, :, t, y, x].tolist()))
    return out


def patch_distance(problem: Problem, patch: Place, match: Place) -> Tensor:
    """Σ over the patch and the channels of (u(x + τ) − ũ(ψ(x) + τ))², or of absolute differences; weighted, and priced."""
    (t, y, x), (s, v, u), depth, side = patch, match, problem.depth, problem.side
    p = problem.image[t:t + depth, y:y + side, x:x + side]
    q = problem.exemplar[s:s + depth, v:v + side, u:u + side]
    difference = (p - q).abs() if problem.absolute else (p - q) ** 2
    if problem.weights is not None:
        difference = difference * problem.weights[t:t + depth, y:y + side, x:x + side]
    if problem.prices is not None:
        gain, bias = problem.prices[:, s, v, u]
        return gain * difference.sum() + bias
    return difference.sum()


def iteration(problem: Problem, field: Tensor, distance: Tensor, schedule: str, number: int,
              key: int) -> tuple[Tensor, Tensor]:
    """One iteration of a schedule; returns a new field and its distances."""
    from labkit.patchmatch.search import JUMPS, RED_BLACK_STEPS

    field, distance = field.clone(), distance.clone()
    frames, height, width = distance.shape[1:]
    patches = [(t, y, x) for t in range(frames) for y in range(height) for x in range(width) if problem.active[t, y, x]]
    if schedule == "sequential":
        step = 1 if number % 2 else -1
        for patch in patches[::step]:
            for offset in ((0, 0, step), (0, step, 0), (step, 0, 0)):   # left, above; in even iterations right, below
                propagate(problem, field, distance, field, patch, offset)
            search(problem, field, distance, patch, key)
        return field, distance
    if schedule == "jump_flooding":
        for jump in JUMPS:
            source = field.clone()      # all patches look at the field as it was: the order does not matter
            for patch in patches:
                for offset in _six(jump):
                    propagate(problem, field, distance, source, patch, offset)
    else:
        for jump in RED_BLACK_STEPS:
            for color in (0, 1):
                for patch in patches:
                    if sum(patch) % 2 == color:
                        for offset in _six(jump):
                            propagate(problem, field, distance, field, patch, offset)
    for patch in patches:
        search(problem, field, distance, patch, key)
    return field, distance


def propagate(problem: Problem, field: Tensor, distance: Tensor, source: Tensor, patch: Place, offset: Place) -> None:
    """ψ(x) ← ψ(x − τ) + τ if that is nearer: try the matches of one neighbour, moved along."""
    neighbour = tuple(p - o for p, o in zip(patch, offset))
    if all(0 <= n < size for n, size in zip(neighbour, problem.active.shape)) and problem.active[neighbour]:
        for match in source[(slice(None), slice(None), *neighbour)].tolist():
            consider(problem, field, distance, patch, tuple(m + o for m, o in zip(match, offset)))


def search(problem: Problem, field: Tensor, distance: Tensor, patch: Place, key: int) -> None:
    """Try places around the k matches, drawn in windows of radius R, R/2, R/4, … down to one pixel."""
    for candidate in random_places(problem, field[(slice(None), slice(None), *patch)].tolist, patch, key):
        consider(problem, field, distance, patch, candidate)


def random_places(problem: Problem, matches, patch: Place, key: int):
    """The places that a random search tries; `matches` tells the patch's matches at the time."""
    sheets, rows, columns = problem.valid.shape
    number = 0
    for t, size in zip(patch, problem.active.shape):
        number = number * size + t
    counter = number * len(matches()) * 128
    for i in range(len(matches())):
        s, v, u = matches()[i]
        radius = max(problem.exemplar.shape[:3])
        while radius >= 1:
            bits = hashed(key, counter)
            row, column = _draw(bits & 0xFFFFFFFF, v, radius, rows), _draw(bits >> 32, u, radius, columns)
            yield (_draw(hashed(key, counter + 1) >> 32, s, radius, sheets) if sheets > 1 else 0, row, column)
            counter += 2
            radius //= 2


def consider(problem: Problem, field: Tensor, distance: Tensor, patch: Place, candidate: Place) -> bool:
    """Put a candidate among the k matches of a patch if it may be one, is new and is nearer than the last of them."""
    if not all(0 <= c < size for c, size in zip(candidate, problem.valid.shape)) or not problem.valid[candidate]:
        return False
    at = (slice(None), *patch)
    matches, near = field[(slice(None), *at)], distance[at]
    if list(candidate) in matches.tolist():
        return False
    found = patch_distance(problem, patch, candidate)
    if not found < near[-1]:
        return False
    place = int((near <= found).sum())
    matches[place + 1:], near[place + 1:] = matches[place:-1].clone(), near[place:-1].clone()
    matches[place], near[place] = torch.tensor(candidate, dtype=matches.dtype), found
    return True


def candidates(image: Tensor, exemplar: Tensor, match: Match, *, row: int, column: int, iteration: int) -> list[Candidate]:
    """What the sequential search tried for one patch in one iteration, in that order.

    Parameters
    ----------
    image, exemplar : (C, H, W), (C, h, w), the pictures that were matched.
    match : of `patchmatch(image, exemplar, trace=True)` with k = 1, without masks, transforms or a start of one's own.
    row, column : of the patch's first pixel.
    iteration : from 1.

    Returns
    -------
    List of `Candidate`, the first of kind `"current"`: the match that the patch had before.

    Raises
    ------
    ValueError : the match has no trace, is of another schedule, or the patch or iteration does not exist.
    """
    from labkit.patchmatch.fields import Match, validate_field
    from labkit.patchmatch.search import describe_problem
    from labkit.validation import describe, validate_integer

    if not isinstance(match, Match):
        raise ValueError(f"match is {describe(match)}; expected what patchmatch(…, trace=True) returned")
    if not match.fields or match.schedule != "sequential" or match.nnf.ndim != 3 or match.transform is not None:
        raise ValueError(f"match is of schedule {match.schedule!r} with {len(match.fields)} fields kept; expected one of "
                         "patchmatch(…, schedule='sequential', k=1, trace=True) without transforms")
    problem = describe_problem(image.cpu(), exemplar.cpu(), patch_size=match.patch_size, metric=match.metric, method="reference")
    validate_field(match.nnf, image=image, exemplar=exemplar, patch_size=match.patch_size, name="match.nnf")
    validate_integer(iteration, name="iteration", minimum=1, maximum=len(match.fields) - 1)
    for value, name, size in ((row, "row", match.nnf.shape[-2]), (column, "column", match.nnf.shape[-1])):
        validate_integer(value, name=name, minimum=0, maximum=size - 1)
    before, after = (match.fields[i].cpu() for i in (iteration - 1, iteration))
    step = 1 if iteration % 2 else -1
    patch, best = (0, row, column), (0, *before[:, row, column].tolist())
    nearest = float(patch_distance(problem, patch, best))
    tried, seen = [Candidate("current", best[1], best[2], nearest, True)], {best}

    def attempt(kind: str, place: Place) -> None:
        nonlocal best, nearest
        if all(0 <= p < size for p, size in zip(place, problem.valid.shape)) and place not in seen:
            seen.add(place)
            found = float(patch_distance(problem, patch, place))
            tried.append(Candidate(kind, place[1], place[2], found, found < nearest))
            if found < nearest:
                best, nearest = place, found

    for dy, dx in ((0, step), (step, 0)):       # those neighbours had been visited: their matches are the new ones
        y, x = row - dy, column - dx
        if 0 <= y < before.shape[-2] and 0 <= x < before.shape[-1]:
            attempt("propagation", (0, int(after[0, y, x]) + dy, int(after[1, y, x]) + dx))
    for place in random_places(problem, lambda: [best], patch, seed_of(match.seed, iteration)):
        attempt("random", place)
    return tried


# --- random numbers -------------------------------------------------------------------------------------------------

def _draw(bits: int, centre: int, radius: int, size: int) -> int:
    """A whole number within `radius` of the centre and from 0 to size − 1, all alike, from 32 random bits."""
    low, high = max(0, centre - radius), min(size - 1, centre + radius)
    return low + (bits * (high - low + 1) >> 32)


def _six(step: int) -> tuple[Place, ...]:
    """Offsets of the neighbours along every axis; those along time find none in a picture of one frame."""
    return ((0, 0, -step), (0, -step, 0), (-step, 0, 0), (0, 0, step), (0, step, 0), (step, 0, 0))
