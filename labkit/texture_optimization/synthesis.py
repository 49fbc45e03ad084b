"""What the methods of this chapter return, and what they share: scales, starts and votes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from labkit.patchmatch.fields import channels_last
from labkit.patchmatch.voting import vote
from labkit.pyramids import level_sizes
from labkit.runtime import generator
from labkit.validation import size_of, validate_image, validate_patch_size

__all__ = ["Synthesis", "most_levels", "noise", "validate_exemplar", "voted"]


@dataclass(frozen=True)
class Synthesis:
    """A picture made from the patches of another.

    Attributes
    ----------
    image : (C, H, W).
    energy : value of the energy after each step, one list for each level, coarse to fine.
    frames : the picture after each step, where that was asked for, coarse to fine; their sizes grow.
    nnf : int32 (2, H', W'), where each patch came from, for methods that end with such a field.
    """

    image: Tensor
    energy: list[list[float]] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list, repr=False)
    nnf: Tensor | None = None


LARGEST_VALUE = 1e9


def validate_exemplar(image: Tensor, *, patch_size: int, name: str = "image") -> None:
    """Refuse a picture from which no patch can be copied."""
    validate_image(image, name=name, batch=False)
    validate_patch_size(patch_size, image, name=name)
    largest = float(image.detach().abs().max())
    if largest > LARGEST_VALUE:      # the square of a difference would be infinite, and no patch nearest
        raise ValueError(f"{name} has values up to {largest:.3g}; expected [0, 1]")


def most_levels(size: tuple[int, int], exemplar: Tensor, *, patch_size: int, levels: int, ratio: float = 2.0) -> int:
    """As many of the levels as leave room for a patch in both pictures."""
    sizes = [level_sizes(one, levels=levels, ratio=ratio) for one in (size, size_of(exemplar))]
    return max(1, sum(min(*a, *b) >= patch_size for a, b in zip(*sizes)))


def noise(size: tuple[int, int], like: Tensor, *, mean: float, deviation: float, seed: int) -> Tensor:
    """A picture (C, H, W) of independent normal numbers, with the channels, dtype and device of another."""
    values = torch.randn((like.shape[0], *size), generator=generator(seed), dtype=torch.float64)
    return (mean + deviation * values).to(like)


def voted(exemplar: Tensor, found: Tensor, size: tuple[int, int], *, patch_size: int, weights: Tensor | None = None) -> Tensor:
    """The picture (C, H, W) that a kernels' field makes of an exemplar (C, h, w); weights (H', W') count patches."""
    wanted = torch.ones((1, *size), dtype=torch.bool, device=found.device)
    picture = vote(channels_last(exemplar[None]), found, wanted, depth=1, side=patch_size,
                   weights=None if weights is None else weights[None, None].to(exemplar))
    return picture[0].movedim(-1, 0).contiguous()
