"""The check of the cut along which two blocks of a quilt agree best."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import with_options

__all__ = ["boundary_cut"]


# --- 2 · The cut ----------------------------------------------------------------------------------------------------

def _least(error: Tensor, *, steps: Sequence[int] = (-1, 0, 1), border: str = "none",
           best: Callable = min) -> list[list[float]]:
    """E: the least sum of errors of a way from the first row to each pixel."""
    rows, columns = error.shape
    total = [error[0].tolist()]
    for i in range(1, rows):
        above, line = total[-1], []
        for j in range(columns):
            ways = [above[(j + s) % columns] for s in steps if 0 <= j + s < columns or border == "wraps"]
            ways += [0.0] * (len(steps) - len(ways)) if border == "zeros" else []
            line.append(float(error[i, j]) + best(ways))
        total.append(line)
    return total


def _back(table: Sequence[Sequence[float]], *, steps: Sequence[int] = (-1, 0, 1), border: str = "none",
          best: Callable = min, anywhere: bool = False, forgets: bool = False, start: int | None = None) -> list[int]:
    """The way back from the least entry of the last row, by columns, from the first row to the last."""
    last = list(table[-1])
    cut = [last.index(best(last)) if start is None else start]
    for line in reversed(list(table)[:-1]):
        reach = range(len(line)) if anywhere else [
            (cut[-1] + s) % len(line) for s in steps if 0 <= cut[-1] + s < len(line) or border == "wraps"]
        found = best(reach, key=lambda j: line[j])
        cut.append(found - reach[0] if forgets else found)
    return cut[::-1]


def _boundary_cut(error: Tensor, *, table: Callable[[Tensor], Sequence] | None = None, **options) -> Tensor:
    """The column of the cheapest cut in each row; the options are where answers differ."""
    both = {name: options[name] for name in ("steps", "border", "best") if name in options}
    found = _least(error, **both) if table is None else table(error)
    return torch.tensor(_back(found, **options))


def _downwards(error: Tensor) -> Tensor:
    """Greedy: from the least entry of the first row always to the least of the next three."""
    return torch.tensor(_back(error.flip(0).tolist())).flip(0)


def _on_the_sums_downwards(error: Tensor) -> Tensor:
    return torch.tensor(_back(_least(error)[::-1])).flip(0)


def _straight(error: Tensor) -> Tensor:
    return error.sum(0).argmin().expand(len(error)).clone()


def _back_on_errors(error: Tensor) -> Tensor:
    """From the least sum of the last row, but then along the errors."""
    return _boundary_cut(error, table=Tensor.tolist, start=int(_boundary_cut(error)[-1]))


def _from_least_error(error: Tensor) -> Tensor:
    return _boundary_cut(error, start=int(error[-1].argmin()))


# cuts that are wrong in ways that a case has to tell from the right one, and from one another
_two_steps = [{"steps": steps, **table} for steps in ((-1, 0), (0, 1)) for table in ({}, {"table": _least})]
_sums_wrap = functools.partial(_least, border="wraps")
_two_ways_down = [with_options(_boundary_cut, table=functools.partial(_least, steps=steps))
                  for steps in ((-1, 0), (0, 1), (-1, 1))]
_AT_THE_BORDER = tuple(with_options(_boundary_cut, **options)
                       for options in ({"border": "wraps"}, {"border": "zeros"}, {"table": _sums_wrap}))
_CUTS = (_boundary_cut, _downwards, _on_the_sums_downwards, _straight, with_options(_boundary_cut, table=Tensor.tolist),
         with_options(_boundary_cut, anywhere=True), *(with_options(_boundary_cut, **options) for options in _two_steps),
         *_AT_THE_BORDER)
_MORE_CUTS = (_boundary_cut, with_options(_boundary_cut, table=Tensor.tolist), _back_on_errors, _from_least_error,
              *_two_ways_down, *(with_options(_boundary_cut, steps=steps) for steps in ((-1, 0), (0, 1), (-1, 1))))


def _border_errors(task: Task, rows: int, columns: int, *, left: bool) -> Tensor:
    """Errors whose cheapest cut keeps to one border, while the other one lures those who pass through it."""
    near, far = (0, columns - 1) if left else (columns - 1, 0)

    def make() -> Tensor:
        error = 0.3 + task.uniform(rows, columns).double()
        error[:, near] *= 0.3
        error[[2, rows // 2, rows - 1], far] *= 0.02
        return error

    def accept(error: Tensor) -> bool:
        right = _boundary_cut(error)
        return int((right == near).sum()) > rows // 2 and not any(
            torch.equal(cut(error), right) for cut in _AT_THE_BORDER)

    return task.draw_until(make, accept)


def _telling_errors(task: Task, rows: int, columns: int, cuts: Sequence[Callable[[Tensor], Tensor]] = _CUTS) -> Tensor:
    """Errors for which all of these cuts differ."""
    def all_differ(error: Tensor) -> bool:
        found = set()
        for cut in cuts:
            way = tuple(cut(error).tolist())
            if way in found:
                return False
            found.add(way)
        return True

    # of errors 9 by 9, one in some 40 serves
    return task.draw_until(lambda: task.uniform(rows, columns).double(), all_differ, tries=3000)


@exercise(points=2, minutes=30, reference=_boundary_cut, withholds=(
    "labkit.texture_optimization.minimum_error_boundary_cut", "labkit.texture_optimization.image_quilting",
    "labkit.texture_optimization.transfer_texture", "skimage.graph.route_through_array"))
def boundary_cut(task: Task) -> None:
    def errors(rows: int, columns: int) -> Tensor:
        return task.uniform(rows, columns).double()

    with task.property("finds the cheapest way down", share=0.4):
        for rows, columns in ((10, 8), (14, 6)):
            task.compare(_telling_errors(task, rows, columns))
    with task.property("sums over three ways down, and goes back along the sums"):
        task.compare(_telling_errors(task, 14, 12, _MORE_CUTS))
    with task.property("is not lured by a cheap beginning or a cheap end", share=0.3):
        bait = errors(8, 7)
        bait[0, 3], bait[-1, 3], bait[2:6, 1:6] = 1e-3, 2e-3, 0.8 + 0.2 * bait[2:6, 1:6]
        dear = errors(2, 9)
        dear[0] += 5
        dear[0, 7], dear[1, 1] = 1.0, 0.0
        for error in (bait, dear, _telling_errors(task, 9, 9)):
            task.compare(error)
    with task.property("keeps to the border where that is cheapest", share=0.3):
        for left in (True, False):
            task.compare(_border_errors(task, 10, 6, left=left))
    with task.property("is connected, and no connected cut costs less"):
        error = errors(11, 6)
        cut = task.call(error, shape=(11,))
        task.require(not cut.is_floating_point() and bool(((cut >= 0) & (cut < 6)).all()),
                     "The columns are no whole numbers from 0 to columns − 1.")
        cut = cut.long()
        task.require(bool((cut.diff().abs() <= 1).all()), "From one row to the next the cut moves by more than one column.")
        cost, least = float(error[torch.arange(11), cut].sum()), min(_least(error)[-1])
        task.require(cost <= least + 1e-9, f"The cut costs {cost:.3f}; there is one that costs {least:.3f}.")
    with task.property("works with one row, and with one column"):
        task.compare(errors(1, 5))
        task.compare(errors(6, 1))


def _slices_below_zero(error: Tensor) -> Tensor:
    total, column = torch.tensor(_least(error), dtype=error.dtype), int(_boundary_cut(error)[-1])
    cut = [column]
    for line in total[:-1].flip(0):
        column = column - 1 + int(line[column - 1:column + 2].argmin())
        cut.append(column)
    return torch.tensor(cut[::-1])


def _added_down_columns(error: Tensor) -> Tensor:
    return error.cumsum(0).argmin(1)


def _as_mask(error: Tensor) -> Tensor:
    return torch.arange(error.shape[1]) >= _boundary_cut(error)[:, None]


def _overwrites(error: Tensor) -> Tensor:
    """The sums are written into the picture of errors that was given."""
    cut = _boundary_cut(error)
    error.copy_(torch.tensor(_least(error), dtype=error.dtype))
    return cut


boundary_cut.knows({
    "least_of_each_row": Mistake("every row takes the column of its own least error; a cut is connected: from one row "
                                 "to the next it moves by one column at most", lambda error: error.argmin(1), 2),
    "straight": Mistake("the cut is a straight line, the column with the least sum; it may move by one column from row "
                        "to row", _straight, 1),
    "greedy_downwards": Mistake("the way follows the least of the next three errors, from the first row down; a step "
                                "that is cheap now may lead to where all is dear. Sum up E first", _downwards, 1),
    "greedy_upwards": Mistake("the way back follows the errors e; it has to follow the sums E",
                              with_options(_boundary_cut, table=Tensor.tolist), 2),
    "back_on_errors": Mistake("E is right, but the way back follows the errors e; follow the sums E",
                              _back_on_errors, 2),
    "from_least_error": Mistake("the way back starts at the least error of the last row; start at the least sum",
                                _from_least_error, 2),
    "added_down_columns": Mistake("errors are added straight down each column; the way may change column",
                                  _added_down_columns, 1),
    **{f"two_ways_down_without_{missing}": Mistake(f"in the sums E only two of the three pixels above are tried: {words} is "
                                                   "missing", cut, 1)
       for missing, words, cut in zip(("right", "left", "middle"), ("above right", "above left", "straight above"),
                                      _two_ways_down)},
    "sums_followed_downwards": Mistake("the way begins in the *first* row of E and goes down; E(i, j) is the cost of "
                                       "what lies above, so begin at the least entry of the last row and go up",
                                       _on_the_sums_downwards, 2),
    "jumps": Mistake("on the way back every row takes the least of *all* its sums; from one row to the next the cut "
                     "moves by one column at most", with_options(_boundary_cut, anywhere=True), 2),
    "no_way_to_the_right": Mistake("only the pixels above and above left are tried; above right is the third",
                                   with_options(_boundary_cut, steps=(-1, 0)), 1),
    "no_way_to_the_left": Mistake("only the pixels above and above right are tried; above left is the third",
                                  with_options(_boundary_cut, steps=(0, 1)), 1),
    "diagonals_only": Mistake("only the pixels above left and above right are tried; straight above is the third",
                              with_options(_boundary_cut, steps=(-1, 1)), 1),
    "two_ways_up": Mistake("E is right, but on the way back only two of the three pixels above are looked at",
                           with_options(_boundary_cut, table=_least, steps=(-1, 0)), 2),
    "two_ways_up_on_the_right": Mistake("E is right, but on the way back only two of the three pixels above are looked "
                                        "at: the end of a slice is not in it",
                                        with_options(_boundary_cut, table=_least, steps=(0, 1)), 2),
    "wraps_around": Mistake("the first column counts as a neighbour of the last, as with torch.roll; there is nothing "
                            "beyond the border", with_options(_boundary_cut, border="wraps"), 3),
    "sums_wrap_around": Mistake("in the sums the first column counts as a neighbour of the last, as with torch.roll; "
                                "there is nothing beyond the border",
                                with_options(_boundary_cut, table=_sums_wrap), 3),
    "slice_below_zero": Mistake("on the way back the slice begins at column − 1 even in column 0; to Python, −1 is the "
                                "last column. Begin at max(column − 1, 0)", _slices_below_zero, 2),
    "zeros_at_the_border": Mistake("beyond the first and the last column the sums are taken to be 0, so that the "
                                   "border costs nothing; nobody may come from there: take infinity",
                                   with_options(_boundary_cut, border="zeros"), 3),
    "largest": Mistake("the cut goes where the pictures differ most", with_options(_boundary_cut, best=max), 1),
    "offset_forgotten": Mistake("on the way back `argmin` of a slice counts from the beginning of the slice: add the "
                                "column where the slice begins", with_options(_boundary_cut, forgets=True), 2),
    "upside_down": Mistake("the columns come from the last row to the first: turn the list round",
                           lambda error: _boundary_cut(error).flip(0), 2),
    "along_the_rows": Mistake("the cut runs from the first column to the last; it runs from the first row to the last, "
                              "one column for each row", lambda error: _boundary_cut(error.T), 1),
    "as_mask": Mistake("a mask is returned; the answer is the column of the cut in each row, int64 (rows,)",
                       _as_mask, 2),
    "begins_anywhere": Mistake("the way back begins in the last column; it begins at the least entry of the last row "
                               "of E", lambda error: _boundary_cut(error, start=error.shape[1] - 1), 2),
    "cost_returned": Mistake("the cost of the cut is returned; the answer is its column in each row",
                             lambda error: torch.tensor(min(_least(error)[-1]), dtype=error.dtype), 2),
    "writes_into_input": Mistake("the sums are written into the errors that were given: work on `error.clone()`",
                                 _overwrites, 1),
})
