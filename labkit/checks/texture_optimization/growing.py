"""The first four checks of chapter 3: one pixel, one cut, one spectrum, and what to do where patches disagree.

Positions are compared as they are. Inputs with noise in every pixel have no ties, and where a threshold decides, they
are drawn until nothing lies near it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import patches
from labkit.checks.engine import Exercise, Mistake, Task, exercise

Position = tuple[int, int]
Pick = Callable[[list[Position], Tensor, float], Position]
Near = Callable[[Tensor, float], Tensor]

_ROOM = 1e-3        # relative distance that every error keeps from the threshold, for answers that compute in float32
_EXCHANGED = "rows and columns are exchanged: positions are (row, column), rows first"


def _with(right: Callable, **options) -> Callable:
    return lambda *arguments: right(*arguments, **options)


def reads(form: Callable[[Any], Any]) -> Callable[[Exercise], Exercise]:
    """Above `@exercise`: every value that an answer returns goes through `form` before it is compared."""
    return lambda made: replace(made, form=form)


# --- 1 · One pixel --------------------------------------------------------------------------------------------------

def _weights(n: int, *, centre: float | None = None, sharper: float = 1.0, variance: bool = False,
             width: Callable[[int], float] = lambda n: n / 6.4) -> Tensor:
    """A Gaussian of standard deviation n / 6.4 around the centre of a window."""
    offset = torch.arange(n, dtype=torch.float64) - (n // 2 if centre is None else centre)
    sigma = width(n)
    line = torch.exp(-sharper * offset ** 2 / (2 * (sigma if variance else sigma ** 2)))
    return line[:, None] * line


def _window_errors(window: Tensor, known: Tensor, exemplar: Tensor, *, weights: Callable[[int], Tensor] = _weights,
                   seen: Callable[[Tensor], Tensor] = lambda known: known,
                   of: Callable[[Tensor], Tensor] = torch.square) -> Tensor:
    """(rows, columns): the weighted sum over the known pixels of a window, for every window of the exemplar."""
    n = window.shape[-1]
    windows = exemplar.unfold(1, n, 1).unfold(2, n, 1)
    return (weights(n).to(window) * seen(known) * of(windows - window[:, None, None])).sum((0, 3, 4))


def _flat(n: int) -> Tensor:
    return torch.ones(n, n)


def _between_pixels(n: int) -> Tensor:
    return _weights(n, centre=n / 2)


_sharper = functools.partial(_weights, sharper=2)
_by_variance = functools.partial(_weights, variance=True)
_WIDTHS = {"n_over_2": lambda n: n / 2, "n_over_5": lambda n: n / 5, "n_over_6": lambda n: n / 6,
           "n_over_6_5": lambda n: n / 6.5, "n_over_7": lambda n: n / 7, "one": lambda n: 1.0,
           "n_minus_1": lambda n: (n - 1) / 6.4}


# which of the near windows, given as places in reading order with the errors of all

def _in_order(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[int(draw * len(places))]


def _nearest_first(places: list[Position], errors: Tensor, draw: float) -> Position:
    return _in_order(sorted(places, key=lambda place: float(errors[place])), errors, draw)


def _down_the_columns(places: list[Position], errors: Tensor, draw: float) -> Position:
    return _in_order(sorted(places, key=lambda place: place[::-1]), errors, draw)


def _nearest(places: list[Position], errors: Tensor, draw: float) -> Position:
    return _nearest_first(places, errors, 0.0)


def _first(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[0]


def _never_last(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[int(draw * (len(places) - 1))]


def _rounded_up(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[max(math.ceil(draw * len(places)) - 1, 0)]


def _rounded(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[min(round(draw * len(places)), len(places) - 1)]


# which windows are near

def _times_least(errors: Tensor, tolerance: float) -> Tensor:
    return errors <= (1 + tolerance) * errors.min()


def _less_than(errors: Tensor, tolerance: float) -> Tensor:
    return errors < (1 + tolerance) * errors.min()


def _by_roots(errors: Tensor, tolerance: float) -> Tensor:
    return _times_least(errors.sqrt(), tolerance)


def _added(errors: Tensor, tolerance: float) -> Tensor:
    return errors <= errors.min() + tolerance


def _without_one(errors: Tensor, tolerance: float) -> Tensor:
    return errors <= tolerance * errors.min()


def _all(errors: Tensor, tolerance: float) -> Tensor:
    return torch.ones_like(errors, dtype=torch.bool)


def _drawn(window: Tensor, known: Tensor, exemplar: Tensor, tolerance: float, draw: float, *, near: Near = _times_least,
           pick: Pick = _in_order, ends: int = 0, corner: bool = False, beyond: int = 0,
           wraps_at: Callable[[Tensor, int], int] | None = None, **options) -> Position:
    """The pixel of the exemplar that is copied; the options are where answers differ."""
    n = window.shape[-1]
    errors = _window_errors(window, known, exemplar, **options)
    errors = errors[:errors.shape[0] - ends, :errors.shape[1] - ends]
    row, column = pick([tuple(place) for place in near(errors, tolerance).nonzero().tolist()], errors, draw)
    if wraps_at is not None:
        row, column = divmod(row * errors.shape[1] + column, wraps_at(exemplar, n))
    return (row, column) if corner else (row + n // 2 + beyond, column + n // 2 + beyond)


def _continued(window: Tensor, known: Tensor, exemplar: Tensor, tolerance: float, draw: float) -> Position:
    """Windows around all pixels of the exemplar, which is continued by zeros."""
    return _drawn(window, known, F.pad(exemplar, [window.shape[-1] // 2] * 4), tolerance, draw, corner=True)


def _unknown_as_zero(window: Tensor, known: Tensor, *rest) -> Position:
    return _drawn(window * known, torch.ones_like(known), *rest)


def _in_grey(window: Tensor, known: Tensor, exemplar: Tensor, *rest) -> Position:
    return _drawn(window[:1], known, exemplar[:1], *rest)


def _value(window: Tensor, known: Tensor, exemplar: Tensor, tolerance: float, draw: float) -> Tensor:
    row, column = _drawn(window, known, exemplar, tolerance, draw)
    return exemplar[:, row, column]


# ways to get it wrong that a case has to tell from the right one and, nearly all, from one another
_TELLING = ({"weights": _sharper}, {"weights": _by_variance}, {"weights": _flat}, {"weights": _between_pixels},
            {"of": torch.abs}, {"near": _by_roots}, {"near": _added}, {"pick": _nearest_first}, {"pick": _never_last},
            {"pick": _first}, {"seen": torch.ones_like}, {"seen": torch.logical_not})


def _pixel_case(task: Task, height: int, width: int, n: int, *, channels: int = 3, dtype: torch.dtype = torch.float64,
                tolerance: tuple[float, float] = (0.2, 0.8), telling: int = len(_TELLING) - 3) -> tuple:
    """Arguments with several near windows and none near the threshold; at least `telling` of `_TELLING` end elsewhere,
    each at a place of its own."""
    low, high = tolerance
    while True:
        exemplar = task.image(height, width, channels=channels, dtype=dtype)
        window = task.image(n, n, channels=channels, dtype=dtype)
        known = task.uniform(n, n) < 0.6
        known[n // 2, n // 2] = False
        share, draw = task.uniform(2).tolist()
        arguments = (window, known, exemplar, low + (high - low) * share, 0.1 + 0.85 * draw)
        if not 3 <= int(known.sum()):
            continue
        errors = _window_errors(*arguments[:3])
        bound = (1 + arguments[3]) * errors.min()
        number, place = int((errors <= bound).sum()), arguments[4] * int((errors <= bound).sum())
        if number < 4 or float((errors / bound - 1).abs().min()) < _ROOM or abs(place - round(place)) < 0.02:
            continue
        ends = {_drawn(*arguments, **options) for options in _TELLING} - {_drawn(*arguments)}
        if len(ends) >= telling:
            return arguments


def _halfway(task: Task, height: int, width: int, n: int) -> tuple:
    """Arguments with an even number of near windows and draw = 1/2, so that draw · K is a whole number."""
    while True:
        window, known, exemplar, tolerance, _ = _pixel_case(task, height, width, n, telling=3)
        errors = _window_errors(window, known, exemplar)
        if int(_times_least(errors, tolerance).sum()) % 2 == 0:
            return window, known, exemplar, tolerance, 0.5


def _width_case(task: Task, height: int, width: int, n: int) -> tuple:
    """Arguments for which Gaussians of other widths all end elsewhere, each at a place of its own."""
    all_weights = [functools.partial(_weights, width=other) for other in _WIDTHS.values()]
    all_weights += [_weights, _by_variance, _sharper, _flat]
    while True:
        *arguments, _ = _pixel_case(task, height, width, n, tolerance=(0.6, 1.1), telling=0)
        lists = [_times_least(_window_errors(*arguments[:3], weights=weights), arguments[3]).nonzero().tolist()
                 for weights in all_weights]
        number = len(lists[len(_WIDTHS)])
        for draw in torch.linspace(0.1, 0.9, 81).tolist():
            place = draw * number
            ends = {tuple(places[int(draw * len(places))]) for places in lists}
            # and who rounds ends elsewhere too, as far as that is another place
            rounded = {tuple(lists[len(_WIDTHS)][min(max(other, 0), number - 1)]) for other in {round(place), math.ceil(place) - 1}
                       if other != int(place)}
            if len(ends) == len(lists) and not rounded & ends and abs(place - round(place)) > 0.02:
                return *arguments, draw


def _best_at(task: Task, row: int, column: int, tolerance: float) -> tuple:
    """Arguments in which the window of the exemplar that begins there is the only near one."""
    n, exemplar = 5, task.image(9, 11, dtype=torch.float64)
    window = exemplar[:, row:row + n, column:column + n] + 1e-3 * task.uniform(3, n, n).double()
    known = task.uniform(n, n) < 0.7
    known[n // 2, n // 2 + 1], known[n // 2, n // 2] = True, False
    return window, known, exemplar, tolerance, float(task.uniform(1))


def _as_position(value: Any) -> Any:
    """Two whole numbers in one tensor or array are as good as a tuple of them."""
    if isinstance(value, np.ndarray):
        whole = np.issubdtype(value.dtype, np.integer)
    else:
        whole = isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    return tuple(value.tolist()) if whole and value.shape == (2,) else value


@reads(_as_position)
@exercise(points=2, minutes=30, reference=_drawn, withholds=(
    "labkit.texture_optimization.efros_leung", "labkit.texture_optimization.fill_hole",
    "labkit.texture_optimization.efros_leung.window_errors", "labkit.texture_optimization.efros_leung.window_weights",
    "labkit.texture_optimization.efros_leung.choose"), mistakes={
    "mask_ignored": Mistake("pixels that are not known yet are compared too: what stands there is arbitrary",
                            _with(_drawn, seen=torch.ones_like), 1),
    "mask_inverted": Mistake("the unknown pixels are compared instead of the known ones",
                             _with(_drawn, seen=torch.logical_not), 1),
    "not_squared": Mistake("the differences are summed without being squared: they cancel",
                           _with(_drawn, of=lambda difference: difference), 1),
    "unknown_taken_for_zero": Mistake("unknown pixels are set to 0 and compared like the others; they are left out",
                                      _unknown_as_zero, 1),
    "weights_forgotten": Mistake("all known pixels count alike, or nearly; they are weighted by a Gaussian around the "
                                 "centre, σ = n / 6.4", _with(_drawn, weights=_flat), 2),
    "weights_squared": Mistake("the weights are the squares of what they should be: there is 2σ² under the exponent, "
                               "not σ²; and the weight multiplies the *squared* difference",
                               _with(_drawn, weights=_sharper), 2),
    **{f"width_{name}": Mistake("the Gaussian's width is not n / 6.4",
                                _with(_drawn, weights=functools.partial(_weights, width=width)), 2)
       for name, width in _WIDTHS.items()},
    "variance_for_sigma": Mistake("there is 2σ under the exponent; it is 2σ²", _with(_drawn, weights=_by_variance), 2),
    "weights_at_the_corner": Mistake("the Gaussian has its middle at the first pixel of the window; it has it at the "
                                     "centre, n // 2", _with(_drawn, weights=functools.partial(_weights, centre=0)), 2),
    "weights_half_a_pixel_off": Mistake("the Gaussian has its middle at n / 2, between two pixels; the centre of the "
                                        "window is n // 2", _with(_drawn, weights=_between_pixels), 2),
    "absolute": Mistake("absolute differences are summed instead of squared ones", _with(_drawn, of=torch.abs), 1),
    "root_taken": Mistake("a square root is taken of the errors before they are compared with (1 + ε) times the least: "
                          "more windows are near", _with(_drawn, near=_by_roots), 3),
    "first_channel_only": Mistake("only the first channel is compared", _in_grey, 1),
    "channels_summed_first": Mistake("the channels are summed before they are squared: their differences cancel; square "
                                     "first", _with(_drawn, of=lambda d: d.sum(0, keepdim=True).square()), 1),
    "tolerance_added": Mistake("the tolerance is added to the least error; it is a share of it: d ≤ (1 + ε) min d",
                               _with(_drawn, near=_added), 3),
    "tolerance_without_one": Mistake("errors are compared with ε times the least; it is (1 + ε) times",
                                     _with(_drawn, near=_without_one), 3),
    "strictly_less": Mistake("errors must be *less* than (1 + ε) times the least; with ε = 0 none is. Take `<=`",
                             _with(_drawn, near=_less_than), 3),
    "always_the_best": Mistake("the nearest window is always taken; it is drawn among all that are near, or the "
                               "texture repeats itself", _with(_drawn, pick=_nearest), 3),
    "first_of_the_list": Mistake("the first near window is always taken: `draw` says which one it is",
                                 _with(_drawn, pick=_first), 3),
    "last_never_drawn": Mistake("the last one of the list is never drawn: with K in it, its place is int(draw · K), "
                                "and draw is less than 1", _with(_drawn, pick=_never_last), 3),
    "rounded": Mistake("the place in the list is rounded to the nearest; it is rounded down, int(draw · K)",
                       _with(_drawn, pick=_rounded), 3),
    "rounded_up": Mistake("the place in the list is draw · K rounded up, less one; where draw · K is a whole number, that is "
                          "one too early: int(draw · K)", _with(_drawn, pick=_rounded_up), 3),
    "sorted_by_error": Mistake("the near windows are listed nearest first; here they are listed in reading order",
                               _with(_drawn, pick=_nearest_first), 3),
    "down_the_columns": Mistake("the near windows are listed down the columns; here they are listed in reading order, "
                                "along the rows", _with(_drawn, pick=_down_the_columns), 3),
    "drawn_from_all": Mistake("the draw is among all windows; it is among those that are near",
                              _with(_drawn, near=_all), 3),
    "first_pixel": Mistake("the position is that of the window's first pixel; the pixel that is copied is its centre, "
                           "n // 2 further down and to the right", _with(_drawn, corner=True), 4),
    "centre_too_far": Mistake("the position is one too far down and to the right: counted from 0, the centre is n // 2, "
                              "not (n + 1) // 2", _with(_drawn, beyond=1), 4),
    "value_returned": Mistake("the colour is returned; the answer is the position, row and column, where it is copied "
                              "from", _value, 4),
    "coordinates_swapped": Mistake(_EXCHANGED, lambda *arguments: _drawn(*arguments)[::-1], 4),
    "divided_by_exemplar_width": Mistake("the flat index is divided by the width of the exemplar; a row holds w − n + "
                                         "1 windows",
                                         _with(_drawn, wraps_at=lambda exemplar, n: exemplar.shape[-1]), 4),
    "last_windows_forgotten": Mistake("the last row and column of windows are never tried: there are h − n + 1 rows of "
                                      "them, and `range` leaves out its end", _with(_drawn, ends=1), 1),
    "sticks_out": Mistake("windows are taken around every pixel of the exemplar, also where they stick out of it; only "
                          "whole windows count", _continued, 1),
})
def draw_pixel(task: Task) -> None:
    with task.property("draws one of the windows that agree with the known pixels, in grey", share=0.4):
        for _ in range(2):
            task.compare(*_pixel_case(task, 12, 15, 5, channels=1))
    with task.property("compares colours, in windows of another size", share=0.4):
        for n in (5, 7):
            task.compare(*_pixel_case(task, 14, 12, n))
        # with a tolerance above 1, who forgot the 1 finds windows, too few
        task.compare(*_pixel_case(task, 12, 13, 5, tolerance=(1.2, 1.6), telling=4))
        task.compare(*_pixel_case(task, 13, 12, 5, dtype=torch.float32))
    with task.property("weighs pixels by a Gaussian of width n / 6.4"):
        task.compare(*_width_case(task, 24, 26, 9))
    with task.property("rounds draw · K down, and leaves it where it is a whole number"):
        task.compare(*_halfway(task, 12, 13, 5))
    with task.property("tries windows up to the last row and column", share=0.2):
        for place in ((4, 6), (4, 0), (0, 6)):
            task.compare(*_best_at(task, *place, 0.1))
    with task.property("takes the best window when the tolerance is 0", mistake="strictly_less"):
        task.compare(*_best_at(task, 2, 3, 0.0))
    with task.property("works when the exemplar is a single window"):
        window, known, exemplar, tolerance, draw = _best_at(task, 1, 2, 0.3)
        task.compare(window, known, exemplar[:, 1:6, 2:7].contiguous(), tolerance, draw)


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


def _cut(error: Tensor, *, table: Callable[[Tensor], Sequence] | None = None, **options) -> Tensor:
    both = {name: options[name] for name in ("steps", "border", "best") if name in options}
    found = _least(error, **both) if table is None else table(error)
    return torch.tensor(_back(found, **options))


def _slices_below_zero(error: Tensor) -> Tensor:
    total, column = torch.tensor(_least(error), dtype=error.dtype), int(_cut(error)[-1])
    cut = [column]
    for line in total[:-1].flip(0):
        column = column - 1 + int(line[column - 1:column + 2].argmin())
        cut.append(column)
    return torch.tensor(cut[::-1])


def _downwards(error: Tensor) -> Tensor:
    """Greedy: from the least entry of the first row always to the least of the next three."""
    return torch.tensor(_back(error.flip(0).tolist())).flip(0)


def _on_the_sums_downwards(error: Tensor) -> Tensor:
    return torch.tensor(_back(_least(error)[::-1])).flip(0)


def _straight(error: Tensor) -> Tensor:
    return error.sum(0).argmin().expand(len(error)).clone()


def _added_down_columns(error: Tensor) -> Tensor:
    return error.cumsum(0).argmin(1)


def _back_on_errors(error: Tensor) -> Tensor:
    """From the least sum of the last row, but then along the errors."""
    return _cut(error, table=Tensor.tolist, start=int(_cut(error)[-1]))


def _from_least_error(error: Tensor) -> Tensor:
    return _cut(error, start=int(error[-1].argmin()))


def _as_mask(error: Tensor) -> Tensor:
    return torch.arange(error.shape[1]) >= _cut(error)[:, None]


def _overwrites(error: Tensor) -> Tensor:
    """The sums are written into the picture of errors that was given."""
    cut = _cut(error)
    error.copy_(torch.tensor(_least(error), dtype=error.dtype))
    return cut


# cuts that are wrong in ways that a case has to tell from the right one, and from one another
_two_steps = [{"steps": steps, **table} for steps in ((-1, 0), (0, 1)) for table in ({}, {"table": _least})]
_sums_wrap = functools.partial(_least, border="wraps")
_two_ways_down = [_with(_cut, table=functools.partial(_least, steps=steps)) for steps in ((-1, 0), (0, 1), (-1, 1))]
_CUTS = (_cut, _downwards, _on_the_sums_downwards, _straight, _with(_cut, table=Tensor.tolist),
         _with(_cut, anywhere=True), *(_with(_cut, **options) for options in _two_steps),
         _with(_cut, border="wraps"), _with(_cut, border="zeros"), _with(_cut, table=_sums_wrap))
_MORE_CUTS = (_cut, _with(_cut, table=Tensor.tolist), _back_on_errors, _from_least_error, *_two_ways_down,
              *(_with(_cut, steps=steps) for steps in ((-1, 0), (0, 1), (-1, 1))))
_AT_THE_BORDER = (_with(_cut, border="wraps"), _with(_cut, border="zeros"), _with(_cut, table=_sums_wrap))


def _border_errors(task: Task, rows: int, columns: int, *, left: bool) -> Tensor:
    """Errors whose cheapest cut keeps to one border, while the other one lures those who pass through it."""
    near, far = (0, columns - 1) if left else (columns - 1, 0)
    while True:
        error = 0.3 + task.uniform(rows, columns).double()
        error[:, near] *= 0.3
        error[[2, rows // 2, rows - 1], far] *= 0.02
        right = _cut(error)
        if int((right == near).sum()) > rows // 2 and not any(torch.equal(cut(error), right) for cut in _AT_THE_BORDER):
            return error


def _telling_errors(task: Task, rows: int, columns: int, cuts: Sequence[Callable[[Tensor], Tensor]] = _CUTS) -> Tensor:
    """Errors for which all of these cuts differ."""
    while True:
        error, found = task.uniform(rows, columns).double(), set()
        for cut in cuts:
            way = tuple(cut(error).tolist())
            if way in found:
                break
            found.add(way)
        else:
            return error


@exercise(points=2, minutes=30, reference=_cut, withholds=(
    "labkit.texture_optimization.minimum_error_boundary_cut", "labkit.texture_optimization.image_quilting",
    "labkit.texture_optimization.transfer_texture", "skimage.graph.route_through_array"), mistakes={
    "least_of_each_row": Mistake("every row takes the column of its own least error; a cut is connected: from one row "
                                 "to the next it moves by one column at most", lambda error: error.argmin(1), 2),
    "straight": Mistake("the cut is a straight line, the column with the least sum; it may move by one column from row "
                        "to row", _straight, 1),
    "greedy_downwards": Mistake("the way follows the least of the next three errors, from the first row down; a step "
                                "that is cheap now may lead to where all is dear. Sum up E first", _downwards, 1),
    "greedy_upwards": Mistake("the way back follows the errors e; it has to follow the sums E",
                              _with(_cut, table=Tensor.tolist), 2),
    "back_on_errors": Mistake("E is right, but the way back follows the errors e; follow the sums E", _back_on_errors, 2),
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
                     "moves by one column at most", _with(_cut, anywhere=True), 2),
    "no_way_to_the_right": Mistake("only the pixels above and above left are tried; above right is the third",
                                   _with(_cut, steps=(-1, 0)), 1),
    "no_way_to_the_left": Mistake("only the pixels above and above right are tried; above left is the third",
                                  _with(_cut, steps=(0, 1)), 1),
    "diagonals_only": Mistake("only the pixels above left and above right are tried; straight above is the third",
                              _with(_cut, steps=(-1, 1)), 1),
    "two_ways_up": Mistake("E is right, but on the way back only two of the three pixels above are looked at",
                           _with(_cut, table=_least, steps=(-1, 0)), 2),
    "two_ways_up_on_the_right": Mistake("E is right, but on the way back only two of the three pixels above are looked "
                                        "at: the end of a slice is not in it",
                                        _with(_cut, table=_least, steps=(0, 1)), 2),
    "wraps_around": Mistake("the first column counts as a neighbour of the last, as with torch.roll; there is nothing "
                            "beyond the border", _with(_cut, border="wraps"), 3),
    "sums_wrap_around": Mistake("in the sums the first column counts as a neighbour of the last, as with torch.roll; "
                                "there is nothing beyond the border",
                                _with(_cut, table=_sums_wrap), 3),
    "slice_below_zero": Mistake("on the way back the slice begins at column − 1 even in column 0; to Python, −1 is the "
                                "last column. Begin at max(column − 1, 0)", _slices_below_zero, 2),
    "zeros_at_the_border": Mistake("beyond the first and the last column the sums are taken to be 0, so that the "
                                   "border costs nothing; nobody may come from there: take infinity",
                                   _with(_cut, border="zeros"), 3),
    "largest": Mistake("the cut goes where the pictures differ most", _with(_cut, best=max), 1),
    "offset_forgotten": Mistake("on the way back `argmin` of a slice counts from the beginning of the slice: add the "
                                "column where the slice begins", _with(_cut, forgets=True), 2),
    "upside_down": Mistake("the columns come from the last row to the first: turn the list round",
                           lambda error: _cut(error).flip(0), 2),
    "along_the_rows": Mistake("the cut runs from the first column to the last; it runs from the first row to the last, "
                              "one column for each row", lambda error: _cut(error.T), 1),
    "as_mask": Mistake("a mask is returned; the answer is the column of the cut in each row, int64 (rows,)",
                       _as_mask, 2),
    "begins_anywhere": Mistake("the way back begins in the last column; it begins at the least entry of the last row "
                               "of E", lambda error: _cut(error, start=error.shape[1] - 1), 2),
    "cost_returned": Mistake("the cost of the cut is returned; the answer is its column in each row",
                             lambda error: torch.tensor(min(_least(error)[-1]), dtype=error.dtype), 2),
    "writes_into_input": Mistake("the sums are written into the errors that were given: work on `error.clone()`",
                                 _overwrites, 1),
})
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


# --- 3 · Random phases ----------------------------------------------------------------------------------------------

def _phases(image: Tensor, noise: Tensor) -> Tensor:
    angle = torch.fft.fft2(noise).angle()
    angle[0, 0] = 0
    return angle


def _spectrum_times(factor: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The picture whose spectrum is that of the image times `factor(image, noise)`."""
    def answer(image: Tensor, noise: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(image) * factor(image, noise)).real
    return answer


def _with_phases(angle: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return _spectrum_times(lambda image, noise: torch.exp(1j * angle(image, noise)))


_random_phase = _with_phases(_phases)


def _moved_mean(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fft2(noise).angle()


def _keep_first(factor: Tensor) -> Tensor:
    factor = factor.clone()
    factor[0, 0] = 1
    return factor


def _replaced(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image).abs() * torch.exp(1j * _phases(image, noise))).real


def _modulus_lost(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.exp(1j * (torch.fft.fft2(image).angle() + _phases(image, noise)))).real


def _spectrum_of_noise(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fft2(noise)


def _first_kept(factor: Callable[[Tensor, Tensor], Tensor], *,
                divisor: Callable[[Tensor], float] = lambda noise: 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """The picture whose spectrum is multiplied by a factor, all but the mean."""
    return _spectrum_times(lambda image, noise: _keep_first(factor(image, noise) / divisor(noise)))


def _noise_itself(image: Tensor, noise: Tensor) -> Tensor:
    return noise


def _noise_but_first(image: Tensor, noise: Tensor) -> Tensor:
    angle = noise.clone()
    angle[0, 0] = 0
    return angle


def _absolute_value(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image) * torch.exp(1j * _phases(image, noise))).abs()


def _exchanged(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(noise).abs() * torch.exp(1j * torch.fft.fft2(image).angle())).real


def _rows_only(image: Tensor, noise: Tensor) -> Tensor:
    angle = torch.fft.fft(noise).angle()
    angle[0, 0] = 0
    return torch.fft.ifft(torch.fft.fft(image) * torch.exp(1j * angle)).real


def _centred(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fftshift(_phases(image, noise))


def _row_of_zeros(image: Tensor, noise: Tensor) -> Tensor:
    angle = torch.fft.fft2(noise).angle()
    angle[0] = 0
    return angle


def _noise_centred(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fft2(noise - noise.mean()).angle()


def _modulus_times_noise(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image).abs() * torch.fft.fft2(noise)).real


def _phases_of_its_own(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image) * torch.exp(2j * math.pi * torch.rand_like(image))).real


def _half_spectrum(image: Tensor, noise: Tensor) -> Tensor:
    """rfft2 and irfft2 without the size: of an odd width one column is lost."""
    angle = torch.fft.rfft2(noise).angle()
    angle[0, 0] = 0
    return torch.fft.irfft2(torch.fft.rfft2(image) * torch.exp(1j * angle))


@exercise(points=2, minutes=25, reference=_random_phase, withholds=(
    "labkit.texture_optimization.random_phase_texture", "labkit.texture_optimization.spot_noise"), mistakes={
    "phases_replaced": Mistake("the phases of the image are replaced by θ; θ is *added* to them. (Replaced, all "
                               "channels have the same phases, and the colours are lost)", _replaced, 2),
    "mean_moved": Mistake("the phase at frequency 0 is not set to 0: where the noise has a negative mean, the picture "
                          "becomes a negative one", _with_phases(_moved_mean), 3),
    "mean_lost": Mistake("the mean is gone: the spectrum at frequency 0 is set to 0; it is the *phase* there that "
                         "becomes 0",
                         lambda image, noise: _random_phase(image, noise) - image.mean((1, 2), keepdim=True), 3),
    "modulus_of_the_noise_kept": Mistake("the spectrum is multiplied by that of the noise; only the phase of the noise "
                                         "is wanted: divide it by its modulus, or take `.angle()`",
                                         _spectrum_times(_spectrum_of_noise), 1),
    "modulus_kept_mean_kept": Mistake("the spectrum is multiplied by that of the noise, all but the mean; only the "
                                      "phase of the noise is wanted", _first_kept(_spectrum_of_noise), 1),
    "spot_noise": Mistake("this is spot noise, the image convolved with noise: the modulus of the noise's spectrum has "
                          "been left in",
                          _first_kept(_spectrum_of_noise, divisor=lambda noise: math.sqrt(noise.numel())), 1),
    "spot_noise_mean_moved": Mistake("this is spot noise, the image convolved with noise: the modulus of the noise's spectrum "
                                     "has been left in, and the mean has changed",
                                     _spectrum_times(lambda image, noise: torch.fft.fft2(noise) / math.sqrt(noise.numel())), 1),
    "modulus_times_noise": Mistake("the modulus of the image's spectrum is multiplied by the spectrum of the noise; the "
                                   "image keeps its phases, and only the *phase* of the noise is added",
                                   _modulus_times_noise, 2),
    "row_of_zeros": Mistake("θ is set to 0 in the whole first row of frequencies; only at frequency 0: `theta[0, 0] = 0`",
                            _with_phases(_row_of_zeros), 3),
    "noise_centred": Mistake("the noise's mean is subtracted instead of setting θ(0) = 0; by rounding the sum is then hardly "
                             "ever 0 but a tiny number, and where it is negative its phase is π",
                             _with_phases(_noise_centred), 3),
    "phases_of_its_own": Mistake("the phases do not come from `noise`: with the same noise the picture is the same, with "
                                 "another one it is another (and phases without the symmetry θ(−ξ) = −θ(ξ) do not make a "
                                 "real picture)", _phases_of_its_own, 1),
    "noise_as_phase": Mistake("the noise itself is taken for the phases; they are the phases of its *Fourier "
                              "transform*, which alone have the symmetry θ(−ξ) = −θ(ξ) of a real picture",
                              _with_phases(_noise_itself), 1),
    "noise_as_phase_mean_kept": Mistake("the noise itself is taken for the phases, with 0 at frequency 0; they are the "
                                        "phases of its *Fourier transform*", _with_phases(_noise_but_first), 1),
    "phase_negated": Mistake("θ is subtracted; it is added",
                             _with_phases(lambda image, noise: -_phases(image, noise)), 2),
    "phase_not_on_the_circle": Mistake("the spectrum is multiplied by θ itself; it is multiplied by exp(iθ)",
                                       _spectrum_times(_phases), 2),
    "i_forgotten": Mistake("the spectrum is multiplied by exp(θ), without the i",
                           _spectrum_times(lambda *both: torch.exp(_phases(*both))), 2),
    "cosine_only": Mistake("the spectrum is multiplied by cos θ; exp(iθ) is cos θ + i sin θ",
                           _spectrum_times(lambda *both: torch.cos(_phases(*both))), 2),
    "modulus_lost": Mistake("the modulus of the image's spectrum is lost: it is what the texture looks like",
                            _modulus_lost, 2),
    "exchanged": Mistake("the phases of the image are put on the modulus of the noise; it is the other way round",
                         _exchanged, 2),
    "absolute": Mistake("the modulus of the result is taken; take its real part (the imaginary one is rounding)",
                        _absolute_value, 4),
    "rows_only": Mistake("the Fourier transform runs along the rows only: take fft2", _rows_only, 4),
    "shifted": Mistake("the phases are shifted by fftshift, and the image's spectrum is not: they belong to other "
                       "frequencies", _with_phases(_centred), 4),
    "odd_width_lost": Mistake("irfft2 makes pictures of even width unless it is told the size: s=image.shape[-2:]",
                              _half_spectrum, 4),
    "clipped": Mistake("the result is clipped to [0, 1]: that changes its mean and its spectrum",
                       lambda image, noise: _random_phase(image, noise).clamp(0, 1), 4),
})
def random_phase_texture(task: Task) -> None:
    def noise(height: int, width: int, mean: int) -> Tensor:
        """Noise whose mean has that sign. What rounding leaves of the mean, once subtracted, is below 0 in either case."""
        while True:
            drawn = task.normal(height, width).double()
            drawn = drawn if mean * float(drawn.mean()) > 0 else -drawn
            if float(torch.fft.fft2(drawn - drawn.mean())[0, 0].real) < 0:
                return drawn

    def picture(height: int, width: int, channels: int = 3) -> Tensor:
        # contrast as in a texture with dark and bright places: without it nothing would leave [0, 1]
        return task.image(height, width, channels=channels, dtype=torch.float64).pow(3)

    own, real, complex_ = False, True, "It returned complex numbers: take their real part, `.real`; the imaginary one is rounding."

    def compare(image: Tensor, noise: Tensor, tolerance: float = 1e-6) -> None:
        task.require(real, complex_)
        task.compare(image, noise, tolerance=tolerance)

    with task.property("returns a real picture"):
        image, first, second = picture(8, 10), noise(8, 10, 1), noise(8, 10, 1)
        made = [task.call(image, given, shape=(3, 8, 10)) for given in (first, first, second)]
        own = not torch.allclose(made[0], made[1]) or torch.allclose(made[0], made[2])
        real = not made[0].is_complex()
        task.require(real, complex_)
    with task.property("takes its phases from the noise", share=1.0 if own else 0.0, mistake="phases_of_its_own"):
        task.require(not own, "With the same noise it gives the same picture, with another one another; yours does not.")
    if own:
        return      # no number that it returns can be compared
    with task.property("adds the phases of the noise to those of a grey picture", share=0.3):
        compare(picture(12, 12, 1), noise(12, 12, 1))
        compare(picture(8, 14, 1), noise(8, 14, 1))
    with task.property("adds the same phases to all channels, also in pictures with odd sides", share=0.4):
        for height, width in ((13, 12), (10, 11), (9, 15)):
            compare(picture(height, width), noise(height, width, 1))
    with task.property("keeps the mean, whatever that of the noise", share=0.3, mistake="mean_moved"):
        for height, width in ((12, 10), (9, 13)):
            compare(picture(height, width), noise(height, width, -1))
    with task.property("keeps the power spectrum of each channel"):
        task.require(real, complex_)
        image = picture(11, 14)
        result = task.call(image, noise(11, 14, -1), shape=(3, 11, 14))
        gap = (torch.fft.fft2(result.double()).abs() - torch.fft.fft2(image).abs()).abs().max()
        task.require(float(gap) < 1e-4, f"The modulus of the spectrum has changed, by up to {float(gap):.3g}.")
    with task.property("keeps the dtype"):
        compare(picture(10, 9).float(), noise(10, 9, 1).float(), tolerance=1e-5)


# --- 4 · Where patches overlap --------------------------------------------------------------------------------------

_SMALL = 1e-8       # of ε, times the number of values in a patch


def _patch_errors(matches: Tensor, positions: Tensor, image: Tensor) -> Tensor:
    """(N,): the squared distance of each patch of the image from its match."""
    n = matches.shape[-1]
    now = torch.stack([image[:, i:i + n, j:j + n] for i, j in positions.tolist()])
    return (now - matches).square().sum((1, 2, 3))


def _patch_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float, *,
                   exponent: Callable[[float], float] = lambda r: (r - 2) / 2, small: float | None = None,
                   error: Callable[[Tensor], Tensor] = lambda d: d) -> Tensor:
    d = error(_patch_errors(matches, positions, image))
    weights = (d + (_SMALL * matches[0].numel() if small is None else small)) ** exponent(r)
    return weights[:, None, None, None].expand_as(matches)


def _weighted_mean(matches: Tensor, positions: Tensor, image: Tensor, weights: Tensor, *, divide: str = "weights",
                   last: bool = False) -> Tensor:
    n = matches.shape[-1]
    total, mass, count = (torch.zeros_like(image) for _ in range(3))
    for match, weight, (i, j) in zip(matches, weights, positions.tolist()):
        place = (slice(None), slice(i, i + n), slice(j, j + n))
        total[place] = weight * match if last else total[place] + weight * match
        mass[place] = weight if last else mass[place] + weight
        count[place] += 1
    return total / {"weights": mass, "count": count, "nothing": 1.0, "side": n * n, "all": float(len(matches))}[divide]


def _median(matches: Tensor, positions: Tensor, image: Tensor, *,
            of: Callable[[Tensor], Tensor] = lambda layers: layers.nanmedian(0).values) -> Tensor:
    n = matches.shape[-1]
    layers = torch.full((len(matches), *image.shape), math.nan, dtype=image.dtype)
    for layer, match, (i, j) in zip(layers, matches, positions.tolist()):
        layer[:, i:i + n, j:j + n] = match
    return of(layers)


def _aggregated(matches: Tensor, positions: Tensor, image: Tensor, r: float, *, median: Callable | None = _median,
                weights: Callable = _patch_weights, **options) -> Tensor:
    """The picture that the matches make; the options are where answers differ."""
    if r == 1 and median is not None:
        return median(matches, positions, image)
    given = torch.ones_like(matches) if r == 2 else weights(matches, positions, image, r)
    return _weighted_mean(matches, positions, image, given, **options)


def _middle_two(layers: Tensor) -> Tensor:
    return layers.nanquantile(0.5, dim=0)


def _upper_middle(layers: Tensor) -> Tensor:
    return -(-layers).nanmedian(0).values


def _with_zeros(layers: Tensor) -> Tensor:
    return layers.nan_to_num(0.0).median(0).values


def _alike(matches: Tensor, *rest) -> Tensor:
    return torch.ones_like(matches)


def _plain_mean(matches: Tensor, positions: Tensor, image: Tensor) -> Tensor:
    return _weighted_mean(matches, positions, image, torch.ones_like(matches))


def _without_channels(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _patch_weights(matches, positions, image, r, small=_SMALL * matches.shape[-1] ** 2)


def _first_channel(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    weights = _patch_weights(matches[:, :1], positions, image[:1], r, small=_SMALL * matches[0].numel())
    return weights.expand_as(matches)


def _pixel_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    """One weight for every value instead of one for every patch."""
    n = matches.shape[-1]
    now = torch.stack([image[:, i:i + n, j:j + n] for i, j in positions.tolist()])
    return ((now - matches).square() + _SMALL * matches[0].numel()) ** ((r - 2) / 2)


def _channel_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    d = torch.stack([_patch_errors(matches[:, c:c + 1], positions, image[c:c + 1]) for c in range(len(image))], dim=1)
    return (d[:, :, None, None] + _SMALL * matches[0].numel()).pow((r - 2) / 2).expand_as(matches)


def _absolute_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    n = matches.shape[-1]
    now = torch.stack([image[:, i:i + n, j:j + n] for i, j in positions.tolist()])
    d = (now - matches).abs().sum((1, 2, 3), keepdim=True)
    return (d + _SMALL * matches[0].numel()).pow(r - 2).expand_as(matches)


def _pixel_sums(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    """One weight for every pixel, the same in all channels."""
    n = matches.shape[-1]
    now = torch.stack([image[:, i:i + n, j:j + n] for i, j in positions.tolist()])
    d = (now - matches).square().sum(1, keepdim=True)
    return (d + _SMALL * matches[0].numel()).pow((r - 2) / 2).expand_as(matches)


def _absolute_halved(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    n = matches.shape[-1]
    now = torch.stack([image[:, i:i + n, j:j + n] for i, j in positions.tolist()])
    d = (now - matches).abs().sum((1, 2, 3), keepdim=True)
    return (d + _SMALL * matches[0].numel()).pow((r - 2) / 2).expand_as(matches)


def _mean_weights(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    number = matches[0].numel()
    return _patch_weights(matches, positions, image, r, error=lambda d: d / number)


def _epsilon_cubed(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _patch_weights(matches, positions, image, r, small=_SMALL * matches.shape[-1] ** 3)


def _exchanged_places(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _aggregated(matches, positions.flip(1), image, r)


def _by_weights(**options) -> Callable:
    return _with(_aggregated, weights=functools.partial(_patch_weights, **options))


def _overlapping(task: Task, height: int, width: int, n: int, stride: int, r: float, *, channels: int = 3,
                 perfect: bool = False) -> tuple:
    """Arguments: a picture and, for its patches on a grid in random order, patches of another one."""
    image, other = (task.image(*size, channels=channels, dtype=torch.float64)
                    for size in ((height, width), (n + 4, n + 5)))
    positions = patches.patch_positions(height, width, patch_size=n, stride=stride, cover=True)
    positions = positions[torch.randperm(len(positions), generator=task.generator)]
    at = [(task.integer(0, 4), task.integer(0, 5)) for _ in range(len(positions))]
    matches = torch.stack([other[:, i:i + n, j:j + n] for i, j in at])
    # some patches are far better than others: this is what r is for
    now = torch.stack([image[:, i:i + n, j:j + n] for i, j in positions.tolist()])
    far = task.uniform(len(positions), 1, 1, 1).double()
    matches = far * matches + (1 - far) * now
    if perfect:
        matches[:: 3] = now[:: 3]
    return matches.contiguous(), positions, image, r


def _swapped(matches: Tensor, positions: Tensor, image: Tensor, r: float) -> Tensor:
    return _aggregated(matches, positions.flip(1), image.transpose(1, 2), r).transpose(1, 2).contiguous()


@exercise(points=3, minutes=40, reference=_aggregated, withholds=(
    "labkit.texture_optimization.optimize_texture", "labkit.texture_optimization.transfer_style_by_patches",
    "labkit.patches.aggregate_patches"), mistakes={
    "always_the_mean": Mistake("r is ignored: the plain mean is taken whatever it is",
                               _with(_aggregated, median=None, weights=_alike), 2),
    "no_weights": Mistake("for r other than 1 and 2 the plain mean is taken; there, every patch has a weight",
                          _with(_aggregated, weights=_alike), 3),
    "weights_for_the_median": Mistake("for r = 1 the weighted mean is taken; there, it is the median",
                                      _with(_aggregated, median=None), 2),
    "mean_for_the_median": Mistake("for r = 1 the plain mean is taken; there, it is the median",
                                   _with(_aggregated, median=_plain_mean), 2),
    "summed": Mistake("the patches are added up, and never divided", _with(_aggregated, divide="nothing"), 1),
    "divided_by_the_count": Mistake("the weighted sum is divided by the number of patches at a pixel; divide it by the "
                                    "sum of their weights", _with(_aggregated, divide="count"), 3),
    "divided_by_the_area": Mistake("the sum is divided by n², as if every pixel lay in so many patches",
                                   _with(_aggregated, divide="side"), 1),
    "divided_by_all": Mistake("the sum is divided by the number of all patches; each pixel has a number of its own",
                              _with(_aggregated, divide="all"), 1),
    "last_patch_wins": Mistake("each patch is written over those before it; they are added up",
                               _with(_aggregated, last=True), 1),
    "exponent_not_halved": Mistake("the exponent is r − 2, of a distance that is squared already; it is (r − 2) / 2",
                                   _by_weights(exponent=lambda r: r - 2), 3),
    "exponent_r": Mistake("the exponent is r / 2; that is the energy. The weight is its derivative, with the exponent "
                          "(r − 2) / 2", _by_weights(exponent=lambda r: r / 2), 3),
    "exponent_minus_half_r": Mistake("the exponent is −r / 2; it is (r − 2) / 2", _by_weights(exponent=lambda r: -r / 2), 3),
    "exponent_fixed": Mistake("the exponent is the same for every r; it is (r − 2) / 2",
                              _by_weights(exponent=lambda r: -0.6), 3),
    "mean_for_sum": Mistake("d is the mean of the squared differences; it is their sum",
                            _with(_aggregated, weights=_mean_weights), 3),
    "root_taken": Mistake("a square root is taken of d before the exponent (r − 2) / 2; d is the *squared* distance",
                          _by_weights(error=torch.sqrt), 3),
    "absolute_halved": Mistake("d is the sum of absolute differences; it is the sum of squared ones",
                               _with(_aggregated, weights=_absolute_halved), 3),
    "epsilon_cubed": Mistake("ε is 10⁻⁸ n³; it is 10⁻⁸ times the number of values in a patch, C n²",
                             _with(_aggregated, weights=_epsilon_cubed), 3),
    "one_weight_for_each_pixel": Mistake("every pixel of a patch has a weight of its own; there is one weight for a whole "
                                         "patch, by its distance", _with(_aggregated, weights=_pixel_sums), 3),
    "worse_counts_more": Mistake("the exponent has the wrong sign: patches that do not fit count more",
                                 _by_weights(exponent=lambda r: (2 - r) / 2), 3),
    "epsilon_forgotten": Mistake("ε is missing: where a patch agrees with its match already, its weight is infinite",
                                 _by_weights(small=0.0), 3),
    "epsilon_not_scaled": Mistake("ε is 10⁻⁸; it is 10⁻⁸ times the number of values in a patch, C n²",
                                  _by_weights(small=_SMALL), 3),
    "epsilon_without_channels": Mistake("ε is 10⁻⁸ n²; it is 10⁻⁸ times the number of values in a patch, C n²: the "
                                        "channels count too", _with(_aggregated, weights=_without_channels), 3),
    "absolute": Mistake("the distance of a patch and its match is the sum of absolute differences; d is the sum of "
                        "squared ones", _with(_aggregated, weights=_absolute_weights), 3),
    "weights_for_channels": Mistake("every channel has weights of its own; there is one weight for a whole patch, in "
                                    "all channels", _with(_aggregated, weights=_channel_weights), 3),
    "epsilon_under_the_root": Mistake("ε is added to the distance; it is added to the *squared* distance",
                                      _by_weights(error=torch.sqrt, exponent=lambda r: r - 2), 3),
    "weights_for_pixels": Mistake("every value has a weight of its own, by its own difference; there is one weight for "
                                  "a whole patch, by its distance", _with(_aggregated, weights=_pixel_weights), 3),
    "median_between": Mistake("of an even number of values the mean of the two middle ones is taken; here it is the "
                              "lower of them", _with(_aggregated, median=_with(_median, of=_middle_two)), 2),
    "median_upper": Mistake("of an even number of values the upper of the two middle ones is taken; here it is the "
                            "lower", _with(_aggregated, median=_with(_median, of=_upper_middle)), 2),
    "median_of_nan": Mistake("`median` gives NaN wherever one of the values is NaN; `nanmedian` leaves those out",
                             _with(_aggregated, median=_with(_median, of=lambda layers: layers.median(0).values)), 2),
    "zeros_in_the_median": Mistake("patches that do not hold a pixel count as zeros in its median; they have nothing "
                                   "to say: fill with NaN and take `nanmedian`",
                                   _with(_aggregated, median=_with(_median, of=_with_zeros)), 2),
    "coordinates_swapped": Mistake(_EXCHANGED, _swapped, 1),
    "places_exchanged": Mistake(_EXCHANGED, _exchanged_places, 1),
    "first_channel_only": Mistake("the weights look at the first channel only",
                                  _with(_aggregated, weights=_first_channel), 3),
})
def aggregate(task: Task) -> None:
    with task.property("takes the mean of what the patches say, for r = 2", share=0.3):
        task.compare(*_overlapping(task, 9, 11, 4, 2, 2, channels=1), tolerance=1e-7)
        task.compare(*_overlapping(task, 10, 7, 3, 1, 2), tolerance=1e-7)
    with task.property("takes the median, for r = 1", share=0.3):
        task.compare(*_overlapping(task, 9, 8, 4, 2, 1), tolerance=1e-7)
        task.compare(*_overlapping(task, 7, 9, 3, 1, 1, channels=1), tolerance=1e-7)
    with task.property("weighs each patch by how well it fits, for other r", share=0.3):
        task.compare(*_overlapping(task, 9, 10, 4, 2, 0.8), tolerance=1e-5)
        task.compare(*_overlapping(task, 8, 9, 3, 2, 1.4, channels=1), tolerance=1e-5)
    with task.property("copes with patches that fit perfectly already", share=0.1):
        # square, so that who exchanges rows and columns gets a picture; and its sides are not as many as its channels
        task.compare(*_overlapping(task, 10, 10, 4, 2, 0.8, perfect=True), tolerance=1e-7)
    with task.property("leaves the weighted sum of errors as small as it can be, and so never raises the energy"):
        for r in (1, 0.8):
            arguments = _overlapping(task, 8, 10, 4, 2, r)
            result = task.call(*arguments, shape=(3, 8, 10))
            least, found = (_weighted_sum(*arguments, picture) for picture in (_aggregated(*arguments), result.double()))
            task.require(found <= least * (1 + 1e-9),
                         f"For r = {r:g} the weighted sum of errors is {found:.6g}; it can be {least:.6g}.")


def _weighted_sum(matches: Tensor, positions: Tensor, before: Tensor, r: float, image: Tensor) -> float:
    """What the step makes small: squares with weights that the picture before gives, absolute differences for r = 1."""
    if r != 1:
        weights = _patch_weights(matches, positions, before, r)[:, 0, 0, 0]
        return float((weights * _patch_errors(matches, positions, image)).sum())
    n = matches.shape[-1]
    return sum(float((image[:, i:i + n, j:j + n] - match).abs().sum())
               for match, (i, j) in zip(matches, positions.tolist()))
