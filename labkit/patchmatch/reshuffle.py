"""New texture out of a field: pieces of a picture, laid out anew and mended by PatchMatch."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.patchmatch.fields import likelihood, typical_distance, validate_patches
from labkit.patchmatch.scales import upsample_nnf, validate_levels
from labkit.patchmatch.search import patchmatch
from labkit.patchmatch.voting import reconstruct, vote_of_middles
from labkit.pyramids import gaussian_pyramid, level_sizes
from labkit.runtime import generator, seed_of
from labkit.validation import size_of, validate_integer, validate_number, validate_seed, validate_size

__all__ = ["reshuffle"]


def reshuffle(image: Tensor, *, size: tuple[int, int] | None = None, patch_size: int = 7, levels: int | None = None,
              iterations: int = 4, piece: float = 2.0, seed: int = 0) -> Tensor:
    """A new picture of a texture, of any size, made of its patches.

    >>> texture = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.patchmatch.reshuffle(texture, size=(20, 32), patch_size=5).shape
    torch.Size([3, 20, 32])

    At the coarsest scale, square pieces of the picture are laid out at random, like a shuffled jigsaw. Then, scale by
    scale, the patches vote for a picture, and PatchMatch finds the nearest patches of the texture to those of that
    picture: seams between pieces, which look like nothing in the texture, go; the pieces' insides stay.

    Parameters
    ----------
    image : (C, H, W), the texture; pictures without repetition come out as a collage.
    size : (height, width) of the result; `None` takes that of `image`.
    patch_size : side n of a patch, at every scale.
    levels : number of scales, each half the one before; `None` takes as many as leave three patches along the shorter
        side of both pictures. Patches at the coarsest scale should hold the largest element of the texture.
    iterations : rounds of voting and search at each scale, at least 1.
    piece : side of the pieces, in patches, at the coarsest scale, at least 1. Larger ones keep more of the layout.
    seed : of the layout and the searches.

    Returns
    -------
    Tensor (C, height, width) of the dtype and device of `image`.

    Raises
    ------
    ValueError : a patch or the coarsest scale that does not fit, or a size that is none.

    Notes
    -----
    A random match for every patch, as in the lecture, starts from an average of everything, grey: the greyest patches
    are then nearest and fill the picture. Pieces start with the right colours in the right amounts.

    References
    ----------
    Barnes et al., "PatchMatch", SIGGRAPH 2009, section 4. Lecture part I, "Synthesis by reshuffling".
    """
    validate_patches(image, image, patch_size, batch=False)
    size = validate_size(size, minimum=patch_size, default=size_of(image))
    levels = validate_levels(levels, patch_size, size_of(image), size)
    validate_integer(iterations, name="iterations", minimum=1)
    validate_number(piece, name="piece", minimum=1)
    validate_seed(seed)
    exemplars = gaussian_pyramid(image, levels=levels)
    sizes = level_sizes(size, levels=levels)
    nnf = _shuffled_pieces(exemplars[-1], sizes[-1], patch_size=patch_size, side=round(piece * patch_size), seed=seed)
    for level in reversed(range(levels)):
        exemplar = exemplars[level]
        if level < levels - 1:
            nnf = upsample_nnf(nnf, patch_size=patch_size, image_size=sizes[level], exemplar_size=size_of(exemplar),
                               coarse_exemplar_size=size_of(exemplars[level + 1]))
        weights = None
        for number in range(iterations):
            picture = reconstruct(nnf, exemplar, patch_size=patch_size, weights=weights)
            match = patchmatch(picture, exemplar, patch_size=patch_size, iterations=2, start=nnf,
                               seed=seed_of(seed, level, number))
            nnf, weights = match.nnf, likelihood(match.distance, typical_distance(match.distance))
    return vote_of_middles(nnf, image, patch_size)


def _shuffled_pieces(exemplar: Tensor, size: tuple[int, int], *, patch_size: int, side: int, seed: int) -> Tensor:
    """A field (2, H', W') that is a mosaic of square pieces of the exemplar, drawn so that they cover it evenly."""
    random = generator(seed)
    places = [length - patch_size + 1 for length in exemplar.shape[-2:]]
    side = min(side, *places)
    cells, offsets = [], []
    for length in size:
        start = torch.arange(length - patch_size + 1) + int(torch.randint(side, (1,), generator=random))
        cells.append(start // side)
        offsets.append(start % side)
    shape = tuple(int(cell[-1]) + 1 for cell in cells)
    turn = torch.randperm(shape[0] * shape[1], generator=random).double().reshape(shape)
    nnf = []
    # Multiples of these two numbers, modulo 1, fill the square evenly for any number of pieces (Roberts's R2 sequence).
    for step, room, offset in zip((0.7548776662466927, 0.5698402909980532), places, (offsets[0][:, None], offsets[1])):
        first = ((turn * step + float(torch.rand(1, generator=random))) % 1 * (room - side + 1)).long()
        nnf.append(first[cells[0][:, None], cells[1]] + offset)
    return torch.stack(nnf).int().to(exemplar.device)
