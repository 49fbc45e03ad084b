"""Image quilting: square blocks of the exemplar side by side, joined where they differ least.

Blocks overlap. Each is drawn among those that agree best with what is already there, and in the overlap the cut along
which old and new differ least decides who is seen. Transfer adds a second wish: that a block be as bright as the place
where it goes in another picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.images import to_grey
from labkit.runtime import generator, progress
from labkit.texture_optimization.efros_leung import choose
from labkit.texture_optimization.synthesis import validate_exemplar
from labkit.validation import describe, size_of, validate_image, validate_integer, validate_number, validate_seed, validate_size

__all__ = ["image_quilting", "minimum_error_boundary_cut", "transfer_texture"]

# Blocks whose mean squared differences are nearer than this count as equally good: a hundred thousandth of the grey
# scale, far above the rounding of the Fourier transforms, so that it does not decide which are drawn from.
INDISTINCT = 1e-10
FIRST_WEIGHT = 0.9      # of the target, in the first of several iterations of a transfer


def image_quilting(exemplar: Tensor, *, size: tuple[int, int] | None = None, patch_size: int = 24,
                   overlap: int | None = None, tolerance: float = 0.1, seed: int = 0) -> Tensor:
    """Make a texture of any size from square blocks of an exemplar.

    >>> texture = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.texture_optimization.image_quilting(texture, size=(30, 40), patch_size=12).shape
    torch.Size([3, 30, 40])

    In raster order, each block is drawn among those of the exemplar whose mean squared difference from what they will
    overlap, to the left and above, is at most (1 + `tolerance`) times the least there is.

    Parameters
    ----------
    exemplar : (C, h, w) in [0, 1].
    size : (height, width) of the texture; `None` takes the exemplar's.
    patch_size : side of a block, in pixels, at least 2 and at most the exemplar's smaller side; it should hold one
        element of the texture.
    overlap : width of the overlap of neighbouring blocks, in pixels, from 1 to half a block; `None` takes a sixth.
    tolerance : from 0 to 1000; more gives more variety and worse seams.
    seed : of the draws.

    Returns
    -------
    Tensor (C, height, width) of the dtype and device of `exemplar`; every pixel is one of the exemplar's.

    Raises
    ------
    ValueError : an exemplar smaller than a block, or a parameter out of its range.

    Notes
    -----
    The block that in the exemplar follows the one on its left, or the one above, fits perfectly. Where it may be taken,
    the result is the exemplar again until its border is reached; so it is left out, unless there is no other.

    References
    ----------
    Efros, Freeman, "Image Quilting for Texture Synthesis and Transfer", SIGGRAPH 2001.
    """
    validate_exemplar(exemplar, patch_size=patch_size, name="exemplar")
    overlap = _validated(patch_size, overlap, tolerance, seed)
    size = validate_size(size, default=size_of(exemplar))
    blocks = _Blocks(exemplar.detach().double(), patch_size)
    return _quilt(blocks, size, overlap, tolerance, generator(seed)).to(exemplar.dtype).contiguous()


def transfer_texture(texture: Tensor, target: Tensor, *, patch_size: int = 18, overlap: int | None = None,
                     weight: float = 0.1, iterations: int = 3, tolerance: float = 0.1, seed: int = 0) -> Tensor:
    """Paint one picture with the texture of another: quilting whose blocks should also be as bright as their place.

    >>> texture, target = torch.rand((2, 3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.texture_optimization.transfer_texture(texture, target, patch_size=12, iterations=1).shape
    torch.Size([3, 24, 24])

    The error of a block is (1 − w) e + w g: e is its mean squared difference from what is there, in the overlap or,
    from the second iteration on, everywhere in the block; g is that of its brightness from the target's. From the first
    iteration to the last, w goes from 0.9 to `weight` and blocks shrink by a third each time: first the picture, then
    the seams. A single iteration uses `weight`.

    Parameters
    ----------
    texture : (C, h, w) in [0, 1], whose blocks are used.
    target : (C', H, W) in [0, 1], 1 or 3 channels: the picture to be painted. Its brightness is first given the
        distribution of the texture's, for a texture has no other.
    patch_size : side of the blocks of the first iteration, in pixels, at least 2.
    overlap : as in `image_quilting`, in the first iteration; it shrinks with the blocks.
    weight : w of the last iteration, from 0 (texture only) to 1 (brightness only).
    iterations : at least 1.
    tolerance, seed : as in `image_quilting`.

    Returns
    -------
    Tensor (C, H, W) of the dtype and device of `texture`; every pixel is one of the texture's.

    Raises
    ------
    ValueError : a texture smaller than a block, pictures on two devices, or a parameter out of its range.

    Notes
    -----
    Where the target is flat, few blocks of a small texture are as bright as it, and they are seen again and again; a
    larger texture, or a larger `patch_size` or `tolerance`, gives more variety and a coarser likeness.

    References
    ----------
    Efros, Freeman, "Image Quilting for Texture Synthesis and Transfer", SIGGRAPH 2001, section 4: α there is 1 − w.
    """
    validate_exemplar(texture, patch_size=patch_size, name="texture")
    validate_image(texture, name="texture", channels=(1, 3), batch=False)
    validate_image(target, name="target", channels=(1, 3), batch=False)
    if texture.device != target.device:
        raise ValueError(f"texture is on {texture.device} and target on {target.device}; expected one device")
    overlap = _validated(patch_size, overlap, tolerance, seed)
    validate_number(weight, name="weight", minimum=0, maximum=1)
    validate_integer(iterations, name="iterations", minimum=1)
    brightness = _grey(texture)
    wanted = _with_distribution(_grey(target), brightness)
    draws, painted, side = generator(seed), None, patch_size
    for number in range(iterations):
        share = weight if iterations == 1 else FIRST_WEIGHT + (weight - FIRST_WEIGHT) * number / (iterations - 1)
        guide = _Guide(_Blocks(brightness, side), wanted, share)
        painted = _quilt(_Blocks(texture.detach().double(), side), size_of(target), overlap, tolerance, draws,
                         guide=guide, before=painted)
        side = max(2, round(side * 2 / 3))
        overlap = max(1, min(side // 2, round(overlap * 2 / 3)))
    return painted.to(texture.dtype).contiguous()


def minimum_error_boundary_cut(error: Tensor) -> Tensor:
    """The way from the first row to the last, by neighbouring columns, along which an error adds up to the least.

    >>> error = torch.tensor([[1.0, 0, 5], [0, 9, 9], [9, 0, 9]])
    >>> labkit.texture_optimization.minimum_error_boundary_cut(error)
    tensor([1, 0, 1])

    E(i, j) = e(i, j) + min(E(i − 1, j − 1), E(i − 1, j), E(i − 1, j + 1)) is the least error of a way that ends in
    row i and column j; from the least entry of the last row one follows back where each came from. Of equal ones, the
    leftmost.

    Parameters
    ----------
    error : e, (rows, columns): by how much two overlapping blocks differ at each pixel.

    Returns
    -------
    int64 tensor (rows,): the column of the cut in each row; from one row to the next it changes by 1 at most.

    Raises
    ------
    ValueError : no finite floating-point tensor (rows, columns).

    References
    ----------
    Efros, Freeman, "Image Quilting for Texture Synthesis and Transfer", SIGGRAPH 2001, section 2.1.
    """
    if not isinstance(error, Tensor) or error.ndim != 2 or not error.is_floating_point() or error.numel() == 0:
        raise ValueError(f"error is {describe(error)}; expected a floating-point tensor (rows, columns)")
    if not error.isfinite().all():
        raise ValueError(f"error holds {int((~error.isfinite()).sum())} NaN or infinite values; expected finite values")
    least = error.detach().cpu().double().clone()           # sums in double precision: a cut is as long as a block
    columns = least.shape[1]
    for i in range(1, len(least)):
        above = F.pad(least[i - 1], (1, 1), value=math.inf)
        least[i] += torch.stack([above[:-2], above[1:-1], above[2:]]).amin(0)
    cut = [int(least[-1].argmin())]
    for i in range(len(least) - 2, -1, -1):
        first = max(0, cut[-1] - 1)
        cut.append(first + int(least[i, first:min(columns, cut[-1] + 2)].argmin()))
    return torch.tensor(cut[::-1], device=error.device)


# --- one pass over the picture --------------------------------------------------------------------------------------

class _Blocks:
    """All blocks of a picture, compared with a template at once, in Fourier.

    With a weight ω for each pixel t of a block, Σ_t ω(t) (u(x + t) − T(t))² is a sum of three terms: u² correlated with
    ω, −2 times u correlated with ω T, and Σ ω T². Everything is in double precision, because they cancel.
    """

    def __init__(self, picture: Tensor, side: int):
        self.picture, self.side = picture, side
        self.rows, self.columns = (length - side + 1 for length in picture.shape[-2:])
        self._spectrum, self._squares = torch.fft.rfft2(picture), torch.fft.rfft2(picture.square().sum(0))

    def at(self, row: int, column: int) -> Tensor:
        return self.picture[:, row:row + self.side, column:column + self.side]

    def mean_squares(self, template: Tensor, known: Tensor) -> Tensor:
        """(rows, columns): the mean squared difference of each block from a template (C, n, n) where `known` (n, n)."""
        if not known.any():
            return template.new_zeros(self.rows, self.columns)
        size, weights = self.picture.shape[-2:], known.to(template)
        of_template, of_weights = (torch.fft.rfft2(part, s=size).conj() for part in (weights * template, weights))
        both = torch.fft.irfft2(self._squares * of_weights - 2 * (self._spectrum * of_template).sum(0), s=size)
        total = both[:self.rows, :self.columns] + (weights * template.square()).sum()
        return total.clamp(min=0) / (len(template) * weights.sum())


@dataclass(frozen=True)
class _Guide:
    """What a block should be as bright as: the brightness of the blocks, that of the target, and how much it counts."""

    blocks: _Blocks
    target: Tensor
    share: float


def _quilt(blocks: _Blocks, size: tuple[int, int], overlap: int, tolerance: float, draws: torch.Generator, *,
           guide: _Guide | None = None, before: Tensor | None = None) -> Tensor:
    """A picture of a size made of blocks; `before` is that of the last iteration."""
    side, step = blocks.side, blocks.side - overlap
    down, across = (max(1, math.ceil((length - overlap) / step)) for length in size)
    extent = (overlap + down * step, overlap + across * step)
    canvas = blocks.picture.new_zeros(len(blocks.picture), *extent) if before is None else _extended(before, extent)
    target = None if guide is None else _extended(guide.target, extent)
    source = {}
    for i, j in progress([(i, j) for i in range(down) for j in range(across)], description="quilting"):
        place = (slice(None), slice(i * step, i * step + side), slice(j * step, j * step + side))
        there = canvas[place]
        known = torch.full((side, side), before is not None, device=canvas.device)
        known[:overlap if i > 0 else 0] = True
        known[:, :overlap if j > 0 else 0] = True
        errors = blocks.mean_squares(there, known)
        if guide is not None:
            bright = guide.blocks.mean_squares(target[place], torch.ones_like(known))
            errors = (1 - guide.share) * errors + guide.share * bright
        for neighbour, down_by, right_by in (((i, j - 1), 0, step), ((i - 1, j), step, 0)):
            if neighbour in source:
                errors = _without(errors, source[neighbour][0] + down_by, source[neighbour][1] + right_by)
        draw = float(torch.rand((), generator=draws, dtype=torch.float64))
        source[i, j] = choose(errors, tolerance=tolerance, slack=INDISTINCT, draw=draw)
        block = blocks.at(*source[i, j])
        canvas[place] = torch.where(_seen(block - there, overlap, left=j > 0, above=i > 0), block, there)
    return canvas[:, :size[0], :size[1]]


def _without(errors: Tensor, row: int, column: int) -> Tensor:
    """The errors without that of one block, if there is such a block and it is not the only one left."""
    if row >= errors.shape[0] or column >= errors.shape[1]:
        return errors
    rest = errors.clone()
    rest[row, column] = math.inf
    return rest if rest.isfinite().any() else errors


def _seen(difference: Tensor, overlap: int, *, left: bool, above: bool) -> Tensor:
    """Where a new block is seen: right of the cut through the overlap on its left, below that through the one above.

    `difference` (C, n, n) is new less old. The pixel on a cut is the new block's.
    """
    side = difference.shape[-1]
    error = difference.square().sum(0)
    place = torch.arange(side, device=difference.device)
    seen = torch.ones(side, side, dtype=torch.bool, device=difference.device)
    if left:
        seen &= place >= minimum_error_boundary_cut(error[:, :overlap])[:, None]
    if above:
        seen &= place[:, None] >= minimum_error_boundary_cut(error[:overlap].T)
    return seen


# --- brightness -----------------------------------------------------------------------------------------------------

def _grey(image: Tensor) -> Tensor:
    image = image.detach().double()
    return to_grey(image) if image.shape[0] == 3 else image


def _with_distribution(image: Tensor, model: Tensor) -> Tensor:
    """The image with its values replaced, in their order, by quantiles of the model's; equal values stay equal."""
    values, place, count = image.flatten().unique(return_inverse=True, return_counts=True)
    middle = count.cumsum(0) - (count + 1).double() / 2         # place of the middle one of equal values, from 0
    rank = middle / max(1, image.numel() - 1)
    levels = model.flatten().sort().values
    at = rank * (len(levels) - 1)
    low = at.floor().long().clamp(0, len(levels) - 1)
    high = (low + 1).clamp(max=len(levels) - 1)
    return torch.lerp(levels[low], levels[high], at - low)[place].reshape(image.shape)


def _extended(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The image continued to the right and below by repeating its last pixels."""
    rows, columns = (torch.arange(length, device=image.device).clamp(max=side - 1)
                     for length, side in zip(size, image.shape[-2:]))
    return image[:, rows[:, None], columns]


def _validated(patch_size: int, overlap: int | None, tolerance: float, seed: int) -> int:
    """The overlap, once all these are found to be in order."""
    validate_integer(patch_size, name="patch_size", minimum=2)
    overlap = max(1, patch_size // 6) if overlap is None else overlap
    validate_integer(overlap, name="overlap", minimum=1, maximum=patch_size // 2)
    validate_number(tolerance, name="tolerance", minimum=0, maximum=1000)
    validate_seed(seed)
    return overlap
