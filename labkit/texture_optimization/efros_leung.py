"""Texture synthesis one pixel at a time: Efros and Leung's non-parametric sampling.

A texture is taken for a Markov random field: a pixel depends on the window around it alone. Its distribution given
that window is not modelled; the windows of the exemplar that look alike are a sample of it, and one of their centres is
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.filtering.linear import gaussian_kernel
from labkit.filtering.arrays import as_floats
from labkit.kernels import available, run
from labkit.runtime import generator, progress
from labkit.texture_optimization.synthesis import validate_exemplar
from labkit.validation import (
    known_pixels,
    size_of,
    validate_callback,
    validate_choice,
    validate_integer,
    validate_number,
    validate_seed,
    validate_size,
)

__all__ = ["choose", "efros_leung", "fill_hole", "window_errors", "window_weights"]

SEED_SIZE = 3           # side of the piece of the exemplar that a new texture grows from, as in the paper
SIGMA = 1 / 6.4         # standard deviation of a window's weights, in sides of the window, as in the paper
LEAST_ERROR = 1e-14     # from less, it would give way for thousands of layers
GIVE_WAY = 1.1          # factor on `max_error` when no pixel of a layer has a match, as in the paper
AT_ONCE = 64            # most pixels that are searched for at once, since each needs a buffer

Callback = Callable[[int, Tensor], None]


def efros_leung(exemplar: Tensor, *, size: tuple[int, int] | None = None, patch_size: int = 11,
                tolerance: float = 0.1, max_error: float = 0.3, seed: int = 0, callback: Callback | None = None,
                method: str = "kernel") -> Tensor:
    """Grow a texture around a seed of 3 × 3 pixels of the exemplar, layer after layer, like the skins of an onion.

    >>> stripes = torch.tensor([0.0, 0.5, 1.0]).repeat(4).expand(1, 12, 12)
    >>> labkit.texture_optimization.efros_leung(stripes, size=(3, 9), patch_size=5)[0, 0]
    tensor([0.0000, 0.5000, 1.0000, 0.0000, 0.5000, 1.0000, 0.0000, 0.5000, 1.0000])

    A pixel with known neighbours is compared, by the known pixels of its window, with every window of the exemplar: d
    is the mean squared difference, weighted by a Gaussian around the centre. One window is drawn among those whose d is
    at most (1 + `tolerance`) times the least, and the pixel becomes its centre. In a layer, pixels whose windows know
    most come first, equals in random order; each of them is known to the next.

    Parameters
    ----------
    exemplar : (C, h, w) in [0, 1], at least as large as a window.
    size : (height, width) of the texture; `None` takes the exemplar's.
    patch_size : side n of the window, in pixels, odd, at least 3. It should hold the largest regular thing in the
        texture: smaller ones lose structure, larger ones copy.
    tolerance : from 0 to 1000; 0 takes the best match, or one of several equals.
    max_error : largest d at which a pixel is filled, above 0. Others wait; when a whole layer waits, the bound grows
        by a tenth. The default, the paper's, stops almost nothing.
    seed : of the first pixels, the order and the draws.
    callback : called as `callback(layer, image)` after each layer, from 1, with the picture so far; what is not filled
        is 0.
    method : `"kernel"` (compiled) or `"reference"` (torch, slow).

    Returns
    -------
    Tensor (C, height, width) of the dtype and device of `exemplar`; every pixel is one of the exemplar's.

    Raises
    ------
    ValueError : an exemplar smaller than a window, or a parameter out of its range.

    Notes
    -----
    Cost grows with the pixels of the texture, those of the exemplar, and n². On one device the result is the same for
    any number of threads.

    References
    ----------
    Efros, Leung, "Texture Synthesis by Non-parametric Sampling", ICCV 1999. Lecture "Style and Content, Texture
    Synthesis", "Efros & Leung Algorithm".
    """
    validate_exemplar(exemplar, patch_size=patch_size, name="exemplar")
    _validate(patch_size, tolerance, max_error, seed, method, callback)
    height, width = validate_size(size, default=size_of(exemplar))
    exemplar, draws = exemplar.detach(), generator(seed)
    sides = [min(SEED_SIZE, *both) for both in zip((height, width), exemplar.shape[-2:])]
    row, column = (int(torch.randint(length - side + 1, (), generator=draws))
                   for length, side in zip(exemplar.shape[-2:], sides))
    top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
    image = exemplar.new_zeros(exemplar.shape[0], height, width)
    known = torch.zeros(1, height, width, dtype=torch.bool, device=image.device)
    image[:, top:top + sides[0], left:left + sides[1]] = exemplar[:, row:row + sides[0], column:column + sides[1]]
    known[:, top:top + sides[0], left:left + sides[1]] = True
    rows, columns = (length - patch_size + 1 for length in exemplar.shape[-2:])
    candidates = torch.ones(rows, columns, dtype=torch.bool, device=image.device)
    return _grown(image, known, exemplar, candidates, patch_size, tolerance, max_error, draws, callback, method)


def fill_hole(image: Tensor, mask: Tensor, *, patch_size: int = 11, tolerance: float = 0.1, max_error: float = 0.3,
              seed: int = 0, callback: Callback | None = None, method: str = "kernel") -> Tensor:
    """Fill the missing pixels of an image one by one, from the known ones outwards or inwards, as `efros_leung` does.

    >>> stripes = torch.tensor([0.0, 0.5, 1.0]).repeat(4).expand(1, 12, 12)
    >>> hole = torch.zeros(1, 12, 12, dtype=torch.bool)
    >>> hole[:, 5:7, 5:7] = True
    >>> torch.equal(labkit.texture_optimization.fill_hole(stripes, hole, patch_size=5), stripes)
    True

    The exemplar is the image itself: its windows without a missing pixel. A hole is filled from its border; known
    pixels in the middle of a missing frame are continued to all sides (extrapolation).

    Parameters
    ----------
    image : (C, H, W) in [0, 1]; values under the mask have no influence, not even NaN.
    mask : bool (1, H, W), `True` where pixels are missing.
    patch_size, tolerance, max_error, seed, callback, method : as in `efros_leung`.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`; known pixels are returned as they were, to the bit, and each other
    one is one of them.

    Raises
    ------
    ValueError : sizes that do not fit, a parameter out of its range, or a mask that leaves no whole window.

    References
    ----------
    Those of `efros_leung`; the lecture's "Hole Filling" and "Extrapolation".
    """
    blank = known_pixels(image, mask).detach()
    validate_exemplar(blank, patch_size=patch_size, name="image")
    _validate(patch_size, tolerance, max_error, seed, method, callback)
    known = ~mask.to(image.device)
    candidates = F.max_pool2d((~known).float(), patch_size, stride=1)[0] == 0
    if not candidates.any():
        raise ValueError(f"mask leaves no whole window of {patch_size}×{patch_size} pixels in {image.shape[-2]}×"
                         f"{image.shape[-1]}; expected at least one to copy from")
    return _grown(blank, known, blank, candidates, patch_size, tolerance, max_error, generator(seed), callback, method)


# --- one pixel ------------------------------------------------------------------------------------------------------

def window_weights(patch_size: int) -> Tensor:
    """The weights of a window's pixels: float64 (n, n), a Gaussian of standard deviation n / 6.4 around the centre."""
    weights = gaussian_kernel(SIGMA * patch_size, patch_size // 2)
    return weights[:, None] * weights


def window_errors(window: Tensor, known: Tensor, exemplar: Tensor) -> Tensor:
    """How much every window of the exemplar differs from one whose pixels are known in part.

    d(y) = Σ_t g(t) k(t) Σ_c (u_c(t) − ũ_c(y + t))² / (C Σ_t g(t) k(t)), with k(t) = 1 where u is known, else 0, and g
    the weights of `window_weights`.

    Parameters
    ----------
    window : u, (C, n, n), n odd.
    known : bool (n, n), `True` for at least one pixel.
    exemplar : ũ, (C, h, w).

    Returns
    -------
    Tensor (h − n + 1, w − n + 1): d for each window, named by its first pixel; its centre is n // 2 further.
    """
    patch_size = window.shape[-1]
    weights = window_weights(patch_size).to(window) * known
    windows = exemplar.unfold(-2, patch_size, 1).unfold(-2, patch_size, 1)         # (C, rows, columns, n, n), a view
    squares = (windows - window[:, None, None]).square()
    return (weights * squares).sum((0, -2, -1)) / (len(window) * weights.sum())


def choose(errors: Tensor, *, tolerance: float, draw: float, slack: float = 0.0) -> tuple[int, int]:
    """Of the entries that are at most (1 + `tolerance`) times the least, plus `slack`, the one at `draw` of their list.

    Parameters
    ----------
    errors : (rows, columns), some of them finite.
    tolerance, slack : at least 0.
    draw : from 0 to below 1, a uniform random number.

    Returns
    -------
    (row, column).
    """
    places = (errors <= (1 + tolerance) * errors.min() + slack).nonzero()
    row, column = places[int(draw * len(places))].tolist()
    return row, column


# --- all of them ----------------------------------------------------------------------------------------------------

def _grown(image: Tensor, known: Tensor, exemplar: Tensor, candidates: Tensor, patch_size: int, tolerance: float,
           max_error: float, draws: torch.Generator, callback: Callback | None, method: str) -> Tensor:
    """The image (C, H, W) with all its pixels known."""
    r = patch_size // 2
    canvas, seen = F.pad(as_floats(image), (r, r, r, r)), F.pad(known, (r, r, r, r))[0]
    inside = (slice(r, r + image.shape[-2]), slice(r, r + image.shape[-1]))
    exemplar = exemplar.to(canvas.dtype).contiguous()
    fill = _fill_compiled if method == "kernel" and available() else _fill_reference
    layers = progress(_layers(seen, inside, patch_size, draws), description="Efros–Leung", total=_depth(known))
    for number, (pixels, chances) in enumerate(layers, start=1):
        before = int(seen.sum())
        fill(canvas, seen, exemplar, candidates, pixels, chances, patch_size, tolerance, max_error)
        if int(seen.sum()) == before:
            max_error *= GIVE_WAY
        if callback is not None:
            callback(number, canvas[(slice(None), *inside)].to(image.dtype).clone())
    return canvas[(slice(None), *inside)].to(image.dtype).contiguous()


def _layers(seen: Tensor, inside: tuple[slice, slice], patch_size: int,
            draws: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """While pixels are missing: those next to known ones, int64 (number, 2), in order, and a random number for each.

    `seen` (H + n − 1, W + n − 1) is filled in meanwhile. A pixel is named by its place in the picture, which in `seen`
    and the canvas, with their margin, is that of the first pixel of its window.
    """
    while not seen[inside].all():
        layer = ~seen[inside] & (F.max_pool2d(seen[None].float(), 3, stride=1, padding=1)[0][inside] > 0)
        pixels = layer.nonzero().cpu()
        pixels = pixels[torch.randperm(len(pixels), generator=draws)]
        counts = F.avg_pool2d(seen[None].float(), patch_size, stride=1, divisor_override=1)[0].cpu()
        order = counts[pixels[:, 0], pixels[:, 1]].argsort(descending=True, stable=True)
        chances = torch.rand(len(pixels), generator=draws, dtype=torch.float64)
        yield pixels[order].contiguous().to(seen.device), chances.to(seen.device)


def _fill_reference(canvas: Tensor, seen: Tensor, exemplar: Tensor, candidates: Tensor, pixels: Tensor, chances: Tensor,
                    patch_size: int, tolerance: float, max_error: float) -> None:
    r = patch_size // 2
    for (y, x), draw in zip(pixels.tolist(), chances.tolist()):
        rows, columns = slice(y, y + patch_size), slice(x, x + patch_size)
        errors = window_errors(canvas[:, rows, columns], seen[rows, columns], exemplar)
        errors = errors.masked_fill(~candidates, math.inf)
        if errors.min() <= max_error:
            v, u = choose(errors, tolerance=tolerance, draw=draw)
            canvas[:, y + r, x + r] = exemplar[:, v + r, u + r]
            seen[y + r, x + r] = True


def _fill_compiled(canvas: Tensor, seen: Tensor, exemplar: Tensor, candidates: Tensor, pixels: Tensor,
                   chances: Tensor, patch_size: int, tolerance: float, max_error: float) -> None:
    # Windows are numbered by the place of their first pixel in the exemplar read as one line, so that the differences
    # of all windows at one offset are one run of numbers; those that are none, or may not be used, start at infinity.
    rows, columns = candidates.shape
    start = canvas.new_full((rows, exemplar.shape[-1]), math.inf)
    start[:, :columns].masked_fill_(candidates, 0)
    start = start.flatten()[:(rows - 1) * exemplar.shape[-1] + columns].contiguous()
    weights = window_weights(patch_size).to(canvas).contiguous()
    errors = canvas.new_empty(min(AT_ONCE, len(pixels)), len(start))
    for some in _independent(pixels, tuple(seen.shape), patch_size):
        run("efros_leung", "fill", canvas, seen.view(torch.uint8), exemplar, start, weights, pixels[some],
            chances[some], errors, float(tolerance), float(max_error))


def _independent(pixels: Tensor, shape: tuple[int, int], patch_size: int) -> Iterator[Tensor]:
    """Indices of pixels that can be filled at once with the same result as one after the other, in turn.

    A pixel has to wait for those before it that lie in its window, and for nobody else.
    """
    r, turn, turns = patch_size // 2, np.zeros(shape, dtype=np.int64), []
    for y, x in pixels.tolist():
        turns.append(int(turn[y:y + patch_size, x:x + patch_size].max()) + 1)
        turn[y + r, x + r] = turns[-1]
    turns = torch.tensor(turns)
    for number in range(1, int(turns.max()) + 1):
        yield from (turns == number).nonzero()[:, 0].to(pixels.device).split(AT_ONCE)


def _depth(known: Tensor) -> int:
    """How many layers there are, if none has to wait."""
    from scipy.ndimage import distance_transform_cdt

    return int(distance_transform_cdt(~known[0].cpu().numpy(), metric="chessboard").max()) if not known.all() else 0


def _validate(patch_size: int, tolerance: float, max_error: float, seed: int, method: str, callback: Callback | None) -> None:
    validate_callback(callback)
    validate_integer(patch_size, name="patch_size", minimum=3, odd=True)
    validate_number(tolerance, name="tolerance", minimum=0, maximum=1000)
    validate_number(max_error, name="max_error", above=0)
    if max_error < LEAST_ERROR:
        raise ValueError(f"max_error is {max_error}; expected at least {LEAST_ERROR:g}, the rounding of float32 squared")
    validate_seed(seed)
    validate_choice(method, name="method", choices=("kernel", "reference"))
