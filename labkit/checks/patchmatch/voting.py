"""The check of chapter 2 on voting: a picture from a field of matches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.patchmatch.pieces import Position, clamp, match_at, own_positions, patch, positions, size_of
from labkit.checks.pieces import EXCHANGED, float64_picture, random_field, with_options

__all__ = ["reconstruct"]


# --- 6 · Voting -----------------------------------------------------------------------------------------------------

def _reconstruct(nnf: Tensor, exemplar: Tensor, patch_size: int, *, count: str = "exact", last_wins: bool = False,
                 transposed: bool = False, skip: int = 0, blend: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Every pixel from the patches that hold it; the options are where answers differ."""
    rows, columns = nnf.shape[-2:]
    height, width = rows + patch_size - 1, columns + patch_size - 1
    said: dict[Position, list[Tensor]] = {p: [] for p in positions((height, width))}
    for i, j in positions((rows - skip, columns - skip)):
        match = patch(exemplar, match_at(nnf, (i, j)), patch_size)
        match = match.transpose(1, 2) if transposed else match
        for a, b in positions((patch_size, patch_size)):
            said[i + a, j + b].append(match[:, a, b])
    out = torch.zeros(exemplar.shape[0], height, width, dtype=exemplar.dtype)
    for (i, j), votes in said.items():
        if votes and last_wins:
            out[:, i, j] = votes[-1]
        elif votes and blend:
            out[:, i, j] = blend(torch.stack(votes))
        elif votes:
            divisor = {"exact": len(votes), "none": 1, "constant": patch_size ** 2}[count]
            out[:, i, j] = torch.stack(votes).sum(0) / divisor
    return out


@exercise(points=2, minutes=25, reference=_reconstruct, withholds=(
    "labkit.patchmatch.reconstruct", "labkit.patchmatch.voting.vote", "labkit.patches.aggregate_patches"))
def reconstruct(task: Task) -> None:
    def compare(rows: int, columns: int, exemplar: Tensor, n: int, tolerance: float) -> None:
        # matches that are swapped or taken for shifts still lie inside, so that such answers give a picture
        most = [min(exemplar.shape[-2:]) - n - side for side in (rows - 1, columns - 1)]
        task.compare(random_field(task, (rows, columns), (0, 0), (most[0], most[1])), exemplar, n, tolerance=tolerance)

    with task.property("averages what the matches of all patches say about a pixel", share=0.5):
        compare(5, 7, task.image(13, 12, channels=1), 3, 1e-5)
        compare(6, 4, task.image(11, 12), 3, 1e-5)
    with task.property("works for other patch sizes and keeps the dtype", share=0.3):
        compare(4, 6, float64_picture(task, 13, 15), 4, 1e-9)
        compare(5, 3, task.image(9, 8), 1, 1e-5)
    with task.property("works in a field of one patch, one row, one column", share=0.2):
        compare(1, 1, task.image(6, 7), 3, 1e-5)
        compare(1, 6, task.image(11, 12), 3, 1e-5)
        compare(6, 1, task.image(12, 11), 2, 1e-5)
    with task.property("gives a picture back when every patch is its own match"):
        image = task.image(9, 10)
        task.compare(own_positions(torch.zeros(2, 7, 8, dtype=torch.int32)), image, 3, expected=image)


def _first_pixels(nnf: Tensor, exemplar: Tensor, patch_size: int, *, back: int = 0) -> Tensor:
    """Every pixel from the one patch that has it in the place (back, back), or the nearest there is."""
    rows, columns = nnf.shape[-2:]
    out = torch.empty(exemplar.shape[0], rows + patch_size - 1, columns + patch_size - 1, dtype=exemplar.dtype)
    for i, j in positions(size_of(out)):
        p = clamp((i - back, j - back), (rows, columns))
        match = match_at(nnf, p)
        out[:, i, j] = exemplar[:, match[0] + i - p[0], match[1] + j - p[1]]
    return out


def _small(nnf: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    """One pixel per patch: a picture that has lost n − 1 rows and columns."""
    return exemplar[:, nnf[0].long(), nnf[1].long()]


reconstruct.knows({
    "not_normalised": Mistake("the votes are added up and never divided by their number", with_options(_reconstruct, count="none"), 2),
    "constant_count": Mistake("the sum of the votes is divided by n² everywhere; pixels near the border lie in fewer patches",
                              with_options(_reconstruct, count="constant"), 2),
    "last_patch_wins": Mistake("every pixel has one vote only, that of the patch written last; add up the votes of all "
                               "patches that hold it and divide by their number",
                               with_options(_reconstruct, last_wins=True), 2),
    "centre_vote": Mistake("every pixel is taken from the one patch that has it in its middle; all patches that hold it "
                           "have a vote",
                           lambda nnf, exemplar, n: _first_pixels(nnf, exemplar, n, back=n // 2), 1),
    "too_small": Mistake("the picture has one pixel per patch; H' rows of patches cover H' + n − 1 rows of pixels",
                         _small, 1),
    "median": Mistake("the median of the votes is taken; here it is their mean",
                      with_options(_reconstruct, blend=lambda v: v.median(0).values), 2),
    "coordinates_swapped": Mistake(EXCHANGED, lambda nnf, exemplar, n: _reconstruct(nnf.flip(0), exemplar, n), 1),
    "patch_transposed": Mistake("rows and columns are exchanged inside each patch", with_options(_reconstruct, transposed=True), 3),
    "shift_instead_of_position": Mistake("the field is taken for shifts; it holds absolute positions in the exemplar",
                                         lambda nnf, exemplar, n: _reconstruct(nnf + own_positions(nnf), exemplar, n), 1),
    "field_ignored": Mistake("the exemplar is read at the patch's own position, not at its match",
                             lambda nnf, exemplar, n: _reconstruct(own_positions(nnf), exemplar, n), 1),
    "last_patches_forgotten": Mistake("the last row and column of patches have no vote: `range` leaves out its end",
                                      with_options(_reconstruct, skip=1), 1),
    "channels_mixed": Mistake("the channels are averaged into one", lambda nnf, exemplar, n: _reconstruct(
        nnf, exemplar.mean(0, keepdim=True), n), 3),
    "writes_into_input": Mistake("the result is written over the exemplar", lambda nnf, exemplar, n: (
        exemplar.mul_(0.5), _reconstruct(nnf, 2 * exemplar, n))[1]),
})
