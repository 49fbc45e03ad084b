"""What the sequential search tried for one patch: for pictures of the search, out of the fields that it kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from labkit.patchmatch.fields import Match, validate_field
from labkit.patchmatch.matching import describe_matching
from labkit.patchmatch.reference import Place, patch_distance, random_places
from labkit.runtime import seed_of
from labkit.validation import describe, validate_image, validate_integer

__all__ = ["Candidate", "candidates"]


@dataclass(frozen=True)
class Candidate:
    """A match that was tried: where, why (`"current"`, `"propagation"` or `"random"`), how far, and whether it was taken."""

    kind: str
    row: int
    column: int
    distance: float
    accepted: bool


def candidates(image: Tensor, exemplar: Tensor, match: Match, *, row: int, column: int, iteration: int) -> list[Candidate]:
    """What the sequential search tried for one patch in one iteration, in that order.

    >>> image = torch.rand((3, 8, 9), generator=torch.Generator().manual_seed(0))
    >>> match = labkit.patchmatch.patchmatch(image, image, patch_size=3, iterations=1, trace=True)
    >>> [tried.kind for tried in labkit.patchmatch.candidates(image, image, match, row=2, column=2, iteration=1)][:3]
    ['current', 'propagation', 'propagation']

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
    if not isinstance(match, Match):
        raise ValueError(f"match is {describe(match)}; expected what patchmatch(…, trace=True) returned")
    if not match.fields or match.schedule != "sequential" or match.nnf.ndim != 3 or match.transform is not None:
        raise ValueError(f"match is of schedule {match.schedule!r} with {len(match.fields)} fields kept; expected one of "
                         "patchmatch(…, schedule='sequential', k=1, trace=True) without transforms")
    validate_image(image)
    validate_image(exemplar, name="exemplar")
    matching = describe_matching(image.cpu(), exemplar.cpu(), patch_size=match.patch_size, metric=match.metric, method="reference")
    validate_field(match.nnf, image=image, exemplar=exemplar, patch_size=match.patch_size, name="match.nnf")
    validate_integer(iteration, name="iteration", minimum=1, maximum=len(match.fields) - 1)
    for value, name, size in ((row, "row", match.nnf.shape[-2]), (column, "column", match.nnf.shape[-1])):
        validate_integer(value, name=name, minimum=0, maximum=size - 1)
    before, after = (match.fields[i].cpu() for i in (iteration - 1, iteration))
    step = 1 if iteration % 2 else -1
    patch, best = (0, row, column), (0, *before[:, row, column].tolist())
    nearest = float(patch_distance(matching, patch, best))
    tried, seen = [Candidate("current", best[1], best[2], nearest, True)], {best}

    def attempt(kind: str, place: Place) -> None:
        nonlocal best, nearest
        if all(0 <= p < size for p, size in zip(place, matching.valid.shape)) and place not in seen:
            seen.add(place)
            found = float(patch_distance(matching, patch, place))
            tried.append(Candidate(kind, place[1], place[2], found, found < nearest))
            if found < nearest:
                best, nearest = place, found

    for dy, dx in ((0, step), (step, 0)):       # those neighbours had been visited: their matches are the new ones
        y, x = row - dy, column - dx
        if 0 <= y < before.shape[-2] and 0 <= x < before.shape[-1]:
            attempt("propagation", (0, int(after[0, y, x]) + dy, int(after[1, y, x]) + dx))
    for place in random_places(matching, lambda: [best], patch, seed_of(match.seed, iteration)):
        attempt("random", place)
    return tried
