"""The check of an aggregation that keeps near a target, and its frame as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit import patches
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import EXCHANGED, float64_picture, in_place, window, with_options

__all__ = ["aggregate_towards"]


# --- 7 · Fidelity and border ----------------------------------------------------------------------------------------

def _blended(mean: Tensor, target: Tensor, total: Tensor, count: Tensor, alpha: float) -> Tensor:
    """The minimiser: weights of the votes against α for each patch that holds the pixel."""
    return (total * mean + alpha * count * target) / (total + alpha * count)


def _aggregate_towards(matches: Tensor, positions: Tensor, weights: Tensor, target: Tensor, alpha: float, border: int,
                       *, blend: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor] = _blended,
                       frame: str = "whole", wider: int = 0, last: bool = False,
                       weigh: Callable[[Tensor], Tensor] = lambda w: w) -> Tensor:
    """Aggregation that keeps near a target; the options are where answers differ."""
    n = matches.shape[-1]
    total, count = (torch.zeros_like(target[:1]) for _ in range(2))
    mean = torch.zeros_like(target)
    for match, (i, j), weight in zip(matches, positions.tolist(), weigh(weights)):
        here = window(i, j, n)
        if last:
            mean[here] = total[here] = count[here] = 0
        mean[here] += weight * match
        total[here] += weight
        count[here] += 1
    picture = blend(mean / total, target, total, count, alpha)
    border += wider if border else 0
    framed = torch.zeros_like(target[0], dtype=torch.bool)
    height, width = framed.shape
    if frame == "whole":
        framed[:] = True
        framed[border:height - border, border:width - border] = False
    elif frame == "minus zero":
        framed[:border] = framed[:, :border] = framed[-border:] = framed[:, -border:] = True
    elif frame == "top and left":
        framed[:border] = framed[:, :border] = True
    elif frame == "top and bottom":
        framed[:border] = framed[height - border:] = True
    elif frame == "inside":
        framed[border:height - border, border:width - border] = True
    return torch.where(framed, target, picture)


@exercise(points=2, minutes=25, reference=_aggregate_towards)
def aggregate_towards(task: Task) -> None:
    def case(height: int, width: int, n: int, stride: int, alpha: float, border: int, *, channels: int = 3,
             even: bool = False, dtype: torch.dtype = torch.float64) -> tuple:
        positions = patches.patch_positions(height, width, patch_size=n, stride=stride, cover=True)
        matches = task.uniform(len(positions), channels, n, n).double()
        weights = torch.ones(len(positions)).double() if even else 0.1 + 3 * task.uniform(len(positions)).double() ** 2
        target = float64_picture(task, height, width, channels)
        return matches.to(dtype), positions, weights.to(dtype), target.to(dtype), alpha, border

    with task.property("blends the mean and the target, where all weights are 1", share=0.3):
        task.compare(*case(8, 9, 3, 2, 0.5, 0, even=True), tolerance=1e-9)
        task.compare(*case(7, 8, 3, 1, 2.0, 0, channels=1, even=True), tolerance=1e-9)
    with task.property("blends by the weights", share=0.4):
        task.compare(*case(9, 8, 4, 2, 0.7, 0), tolerance=1e-9)
        task.compare(*case(8, 10, 3, 1, 3.0, 0, channels=1), tolerance=1e-9)
    with task.property("copies a frame of the target's", share=0.3):
        task.compare(*case(9, 11, 3, 2, 0.4, 2), tolerance=1e-9)
        task.compare(*case(10, 8, 4, 3, 1.5, 3, channels=1), tolerance=1e-9)
    with task.property("is the weighted mean when α is 0"):
        # square, so that who exchanges rows and columns gets a picture
        task.compare(*case(9, 9, 3, 2, 0.0, 0), tolerance=1e-9)
    with task.property("keeps the dtype of the target"):
        task.compare(*case(8, 9, 3, 2, 0.6, 1, dtype=torch.float32), tolerance=1e-5)


def _unframed(matches: Tensor, positions: Tensor, weights: Tensor, target: Tensor, alpha: float, border: int) -> Tensor:
    return _aggregate_towards(matches, positions, weights, target, alpha, 0)


def _black_frame(matches: Tensor, positions: Tensor, weights: Tensor, target: Tensor, alpha: float,
                 border: int) -> Tensor:
    picture = torch.zeros_like(target)
    inner = (slice(None), slice(border, target.shape[1] - border), slice(border, target.shape[2] - border))
    picture[inner] = _aggregate_towards(matches, positions, weights, target, alpha, 0)[inner]
    return picture


def _rows_for_columns(matches: Tensor, positions: Tensor, *rest) -> Tensor:
    return _aggregate_towards(matches, positions.flip(1), *rest)


aggregate_towards.knows({
    "alpha_ignored": Mistake("the target has no influence: the result is the weighted mean of the matches",
                             with_options(_aggregate_towards, blend=lambda mean, t, total, count, a: mean), 1),
    "not_normalised": Mistake("α times the target is added without dividing by what was added up",
                              with_options(_aggregate_towards, blend=lambda mean, t, total, count, a: mean + a * t), 2),
    "convex": Mistake(
        "the blend is (1 − α) u + α target, which is another parameter: for α = 1 nothing would be left of the "
        "matches",
        with_options(_aggregate_towards, blend=lambda mean, t, total, count, a: (1 - a) * mean + a * t), 2),
    "roles_exchanged": Mistake(
        "α belongs to the target, not to the matches",
        with_options(_aggregate_towards, blend=lambda mean, t, total, count, a: _blended(t, mean, count, total, a)), 1),
    "weights_forgotten_in_blend": Mistake(
        "the weighted mean is blended as (u + α target) / (1 + α), as if all weights were 1: where the weights are "
        "small, the target should win",
        with_options(_aggregate_towards, blend=lambda mean, t, total, count, a: (mean + a * t) / (1 + a)), 2),
    "weights_ignored": Mistake("the weights are ignored: every patch counts alike",
                               with_options(_aggregate_towards, weigh=torch.ones_like), 1),
    "weights_normalised": Mistake("the weights are divided by their sum first; then α is far stronger than they are",
                                  with_options(_aggregate_towards, weigh=lambda w: w / w.sum()), 2),
    "weights_squared": Mistake("the weights are applied twice",
                               with_options(_aggregate_towards, weigh=torch.square), 1),
    "target_counted_once": Mistake(
        "the target counts once at each pixel; it counts once for each *patch* that holds the pixel, as the energy "
        "says",
        with_options(_aggregate_towards,
                     blend=lambda mean, t, total, count, a: (total * mean + a * t) / (total + a)), 2),
    "target_weighted_too": Mistake(
        "the target's share is multiplied by the weights as well, so that they cancel; α stands without them",
        with_options(_aggregate_towards,
                     blend=lambda mean, t, total, count, a: (total * mean + a * total * t) / (total + a * count)), 2),
    "divided_by_the_number": Mistake("the votes are divided by how many there are; divide by the sum of the weights",
                                     with_options(_aggregate_towards, blend=lambda mean, t, total, count, a: (
                                         total * mean + a * count * t) / (count + a * count)), 2),
    "denominator_without_alpha": Mistake("α k is missing in the denominator: what is added above must be counted below",
                                         with_options(_aggregate_towards, blend=lambda mean, t, total, count, a: (
                                             total * mean + a * count * t) / total), 2),
    "last_patch_wins": Mistake(
        "each patch is written over those before it; votes, weights and counts are added up, `+=`",
        with_options(_aggregate_towards, last=True), 1),
    "coordinates_swapped": Mistake(EXCHANGED, _rows_for_columns, 1),
    "writes_into_input": Mistake("the result is written into the target that was given: work on `target.clone()`",
                                 in_place(_aggregate_towards, argument=3), 3),
    "no_frame": Mistake("the frame is not copied from the target", _unframed, 3),
    "frame_of_zero_copies_all": Mistake(
        "with a border of 0 the whole target is copied: to Python `-0` is 0, and `[-0:]` is everything",
        with_options(_aggregate_towards, frame="minus zero"), 3),
    "frame_top_and_left": Mistake("the frame is copied at the top and on the left only",
                                  with_options(_aggregate_towards, frame="top and left"), 3),
    "frame_top_and_bottom": Mistake("the frame is copied at the top and at the bottom only",
                                    with_options(_aggregate_towards, frame="top and bottom"), 3),
    "frame_inside_out": Mistake("the target is copied to the inside instead of the frame",
                                with_options(_aggregate_towards, frame="inside"), 3),
    "frame_black": Mistake("the frame is 0; it is the target's", _black_frame, 3),
    "frame_too_wide": Mistake("the frame is one pixel too wide", with_options(_aggregate_towards, wider=1), 3),
    "frame_too_narrow": Mistake("the frame is one pixel too narrow", with_options(_aggregate_towards, wider=-1), 3),
})
