"""The check of one pixel, drawn as Efros and Leung draw it.

Positions are compared as they are. Inputs with noise in every pixel have no ties, and where a threshold decides, they
are drawn until nothing lies near it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import EXCHANGED, FIRST_CHANNEL, with_options

__all__ = ["draw_pixel"]

Position = tuple[int, int]
Pick = Callable[[list[Position], Tensor, float], Position]
Near = Callable[[Tensor, float], Tensor]

_ROOM = 1e-3        # relative distance that every error keeps from the threshold, for answers that compute in float32


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


def _first(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[0]


def _never_last(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[int(draw * (len(places) - 1))]


# which windows are near

def _times_least(errors: Tensor, tolerance: float) -> Tensor:
    return errors <= (1 + tolerance) * errors.min()


def _by_roots(errors: Tensor, tolerance: float) -> Tensor:
    return _times_least(errors.sqrt(), tolerance)


def _added(errors: Tensor, tolerance: float) -> Tensor:
    return errors <= errors.min() + tolerance


def _draw_pixel(window: Tensor, known: Tensor, exemplar: Tensor, tolerance: float, draw: float, *,
                near: Near = _times_least, pick: Pick = _in_order, ends: int = 0, corner: bool = False,
                beyond: int = 0, wraps_at: Callable[[Tensor, int], int] | None = None, **options) -> Position:
    """The pixel of the exemplar that is copied; the options are where answers differ."""
    n = window.shape[-1]
    errors = _window_errors(window, known, exemplar, **options)
    errors = errors[:errors.shape[0] - ends, :errors.shape[1] - ends]
    row, column = pick([tuple(place) for place in near(errors, tolerance).nonzero().tolist()], errors, draw)
    if wraps_at is not None:
        row, column = divmod(row * errors.shape[1] + column, wraps_at(exemplar, n))
    return (row, column) if corner else (row + n // 2 + beyond, column + n // 2 + beyond)


# ways to get it wrong that a case has to tell from the right one and, nearly all, from one another
_TELLING = ({"weights": _sharper}, {"weights": _by_variance}, {"weights": _flat}, {"weights": _between_pixels},
            {"of": torch.abs}, {"near": _by_roots}, {"near": _added}, {"pick": _nearest_first}, {"pick": _never_last},
            {"pick": _first}, {"seen": torch.ones_like}, {"seen": torch.logical_not})


def _pixel_case(task: Task, height: int, width: int, n: int, *, channels: int = 3, dtype: torch.dtype = torch.float64,
                tolerance: tuple[float, float] = (0.2, 0.8), telling: int = len(_TELLING) - 3) -> tuple:
    """Arguments with several near windows and none near the threshold; at least `telling` of `_TELLING` end elsewhere,
    each at a place of its own."""
    low, high = tolerance

    def make() -> tuple:
        exemplar = task.image(height, width, channels=channels, dtype=dtype)
        window = task.image(n, n, channels=channels, dtype=dtype)
        known = task.uniform(n, n) < 0.6
        known[n // 2, n // 2] = False
        share, draw = task.uniform(2).tolist()
        return window, known, exemplar, low + (high - low) * share, 0.1 + 0.85 * draw

    def accept(arguments: tuple) -> bool:
        window, known, exemplar, tolerance, draw = arguments
        if int(known.sum()) < 3:
            return False
        errors = _window_errors(window, known, exemplar)
        bound = (1 + tolerance) * errors.min()
        number = int((errors <= bound).sum())
        place = draw * number
        if number < 4 or float((errors / bound - 1).abs().min()) < _ROOM or abs(place - round(place)) < 0.02:
            return False
        ends = {_draw_pixel(*arguments, **options) for options in _TELLING} - {_draw_pixel(*arguments)}
        return len(ends) >= telling

    return task.draw_until(make, accept, tries=2000)


def _halfway(task: Task, height: int, width: int, n: int) -> tuple:
    """Arguments with an even number of near windows and draw = 1/2, so that draw · K is a whole number."""
    def accept(arguments: tuple) -> bool:
        window, known, exemplar, tolerance, _ = arguments
        return int(_times_least(_window_errors(window, known, exemplar), tolerance).sum()) % 2 == 0

    *arguments, _ = task.draw_until(lambda: _pixel_case(task, height, width, n, telling=3), accept)
    return *arguments, 0.5


def _width_case(task: Task, height: int, width: int, n: int) -> tuple:
    """Arguments for which Gaussians of other widths all end elsewhere, each at a place of its own."""
    all_weights: list[Callable[[int], Tensor]] = [functools.partial(_weights, width=other) for other in _WIDTHS.values()]
    all_weights += [_weights, _by_variance, _sharper, _flat]

    def telling_draw(arguments: tuple) -> float | None:
        window, known, exemplar, tolerance, _ = arguments
        lists = [_times_least(_window_errors(window, known, exemplar, weights=weights), tolerance).nonzero().tolist()
                 for weights in all_weights]
        right = lists[len(_WIDTHS)]
        number = len(right)
        for draw in torch.linspace(0.1, 0.9, 81).tolist():
            place = draw * number
            ends = {tuple(places[int(draw * len(places))]) for places in lists}
            # and who rounds ends elsewhere too, as far as that is another place
            rounded = {tuple(right[min(max(other, 0), number - 1)]) for other in {round(place), math.ceil(place) - 1}
                       if other != int(place)}
            if len(ends) == len(lists) and not rounded & ends and abs(place - round(place)) > 0.02:
                return draw
        return None

    def make() -> tuple[tuple, float | None]:
        arguments = _pixel_case(task, height, width, n, tolerance=(0.6, 1.1), telling=0)
        return arguments, telling_draw(arguments)

    # one in some 20 serves
    (*arguments, _), draw = task.draw_until(make, lambda made: made[1] is not None, tries=2000)
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
        whole = isinstance(value, Tensor) and not (
            value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    return tuple(value.tolist()) if whole and value.shape == (2,) else value


@exercise(points=2, minutes=30, reference=_draw_pixel, form=_as_position, withholds=(
    "labkit.texture_optimization.efros_leung", "labkit.texture_optimization.fill_hole",
    "labkit.texture_optimization.efros_leung.window_errors",
    "labkit.texture_optimization.efros_leung.window_weights", "labkit.texture_optimization.efros_leung.choose"))
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


# other ways to pick, to be near, and to compare

def _down_the_columns(places: list[Position], errors: Tensor, draw: float) -> Position:
    return _in_order(sorted(places, key=lambda place: place[::-1]), errors, draw)


def _nearest(places: list[Position], errors: Tensor, draw: float) -> Position:
    return _nearest_first(places, errors, 0.0)


def _rounded_up(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[max(math.ceil(draw * len(places)) - 1, 0)]


def _rounded(places: list[Position], errors: Tensor, draw: float) -> Position:
    return places[min(round(draw * len(places)), len(places) - 1)]


def _less_than(errors: Tensor, tolerance: float) -> Tensor:
    return errors < (1 + tolerance) * errors.min()


def _without_one(errors: Tensor, tolerance: float) -> Tensor:
    return errors <= tolerance * errors.min()


def _all(errors: Tensor, tolerance: float) -> Tensor:
    return torch.ones_like(errors, dtype=torch.bool)


def _continued(window: Tensor, known: Tensor, exemplar: Tensor, tolerance: float, draw: float) -> Position:
    """Windows around all pixels of the exemplar, which is continued by zeros."""
    return _draw_pixel(window, known, F.pad(exemplar, [window.shape[-1] // 2] * 4), tolerance, draw, corner=True)


def _unknown_as_zero(window: Tensor, known: Tensor, *rest) -> Position:
    return _draw_pixel(window * known, torch.ones_like(known), *rest)


def _in_grey(window: Tensor, known: Tensor, exemplar: Tensor, *rest) -> Position:
    return _draw_pixel(window[:1], known, exemplar[:1], *rest)


def _value(window: Tensor, known: Tensor, exemplar: Tensor, tolerance: float, draw: float) -> Tensor:
    row, column = _draw_pixel(window, known, exemplar, tolerance, draw)
    return exemplar[:, row, column]


draw_pixel.knows({
    "mask_ignored": Mistake("pixels that are not known yet are compared too: what stands there is arbitrary",
                            with_options(_draw_pixel, seen=torch.ones_like), 1),
    "mask_inverted": Mistake("the unknown pixels are compared instead of the known ones",
                             with_options(_draw_pixel, seen=torch.logical_not), 1),
    "not_squared": Mistake("the differences are summed without being squared: they cancel",
                           with_options(_draw_pixel, of=lambda difference: difference), 1),
    "unknown_taken_for_zero": Mistake("unknown pixels are set to 0 and compared like the others; they are left out",
                                      _unknown_as_zero, 1),
    "weights_forgotten": Mistake("all known pixels count alike, or nearly; they are weighted by a Gaussian around the "
                                 "centre, σ = n / 6.4", with_options(_draw_pixel, weights=_flat), 2),
    "weights_squared": Mistake("the weights are the squares of what they should be: there is 2σ² under the exponent, "
                               "not σ²; and the weight multiplies the *squared* difference",
                               with_options(_draw_pixel, weights=_sharper), 2),
    **{f"width_{name}": Mistake("the Gaussian's width is not n / 6.4",
                                with_options(_draw_pixel, weights=functools.partial(_weights, width=width)), 2)
       for name, width in _WIDTHS.items()},
    "variance_for_sigma": Mistake("there is 2σ under the exponent; it is 2σ²",
                                  with_options(_draw_pixel, weights=_by_variance), 2),
    "weights_at_the_corner": Mistake(
        "the Gaussian has its middle at the first pixel of the window; it has it at the centre, n // 2",
        with_options(_draw_pixel, weights=functools.partial(_weights, centre=0)), 2),
    "weights_half_a_pixel_off": Mistake("the Gaussian has its middle at n / 2, between two pixels; the centre of the "
                                        "window is n // 2", with_options(_draw_pixel, weights=_between_pixels), 2),
    "absolute": Mistake("absolute differences are summed instead of squared ones",
                        with_options(_draw_pixel, of=torch.abs), 1),
    "root_taken": Mistake("a square root is taken of the errors before they are compared with (1 + ε) times the least: "
                          "more windows are near", with_options(_draw_pixel, near=_by_roots), 3),
    "first_channel_only": Mistake(FIRST_CHANNEL, _in_grey, 1),
    "channels_summed_first": Mistake(
        "the channels are summed before they are squared: their differences cancel; square first",
        with_options(_draw_pixel, of=lambda d: d.sum(0, keepdim=True).square()), 1),
    "tolerance_added": Mistake("the tolerance is added to the least error; it is a share of it: d ≤ (1 + ε) min d",
                               with_options(_draw_pixel, near=_added), 3),
    "tolerance_without_one": Mistake("errors are compared with ε times the least; it is (1 + ε) times",
                                     with_options(_draw_pixel, near=_without_one), 3),
    "strictly_less": Mistake("errors must be *less* than (1 + ε) times the least; with ε = 0 none is. Take `<=`",
                             with_options(_draw_pixel, near=_less_than), 3),
    "always_the_best": Mistake("the nearest window is always taken; it is drawn among all that are near, or the "
                               "texture repeats itself", with_options(_draw_pixel, pick=_nearest), 3),
    "first_of_the_list": Mistake("the first near window is always taken: `draw` says which one it is",
                                 with_options(_draw_pixel, pick=_first), 3),
    "last_never_drawn": Mistake("the last one of the list is never drawn: with K in it, its place is int(draw · K), "
                                "and draw is less than 1", with_options(_draw_pixel, pick=_never_last), 3),
    "rounded": Mistake("the place in the list is rounded to the nearest; it is rounded down, int(draw · K)",
                       with_options(_draw_pixel, pick=_rounded), 3),
    "rounded_up": Mistake(
        "the place in the list is draw · K rounded up, less one; where draw · K is a whole number, that is one too "
        "early: int(draw · K)",
        with_options(_draw_pixel, pick=_rounded_up), 3),
    "sorted_by_error": Mistake("the near windows are listed nearest first; here they are listed in reading order",
                               with_options(_draw_pixel, pick=_nearest_first), 3),
    "down_the_columns": Mistake("the near windows are listed down the columns; here they are listed in reading order, "
                                "along the rows", with_options(_draw_pixel, pick=_down_the_columns), 3),
    "drawn_from_all": Mistake("the draw is among all windows; it is among those that are near",
                              with_options(_draw_pixel, near=_all), 3),
    "first_pixel": Mistake("the position is that of the window's first pixel; the pixel that is copied is its centre, "
                           "n // 2 further down and to the right", with_options(_draw_pixel, corner=True), 4),
    "centre_too_far": Mistake(
        "the position is one too far down and to the right: counted from 0, the centre is n // 2, not (n + 1) // 2",
        with_options(_draw_pixel, beyond=1), 4),
    "value_returned": Mistake("the colour is returned; the answer is the position, row and column, where it is copied "
                              "from", _value, 4),
    "coordinates_swapped": Mistake(EXCHANGED, lambda *arguments: _draw_pixel(*arguments)[::-1], 4),
    "divided_by_exemplar_width": Mistake("the flat index is divided by the width of the exemplar; a row holds w − n + "
                                         "1 windows",
                                         with_options(_draw_pixel, wraps_at=lambda exemplar, n: exemplar.shape[-1]), 4),
    "last_windows_forgotten": Mistake("the last row and column of windows are never tried: there are h − n + 1 rows of "
                                      "them, and `range` leaves out its end", with_options(_draw_pixel, ends=1), 1),
    "sticks_out": Mistake("windows are taken around every pixel of the exemplar, also where they stick out of it; only "
                          "whole windows count", _continued, 1),
})
