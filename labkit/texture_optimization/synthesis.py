"""What the methods of this chapter return, and what they share: pyramids of exemplars, starts, search and votes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from labkit.kernels import available
from labkit.patchmatch.fields import channels_last, draw, nearest_coarse
from labkit.patchmatch.reference import hashed
from labkit.patchmatch.search import Problem, features
from labkit.pyramids import coarse_size
from labkit.runtime import generator
from labkit.validation import describe, validate_image, validate_integer


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


def validate_exemplar(image: Tensor, *, patch_size: int, name: str = "image") -> None:
    """Refuse a picture from which no patch can be copied."""
    validate_image(image, name=name, batch=False)
    validate_integer(patch_size, name="patch_size", minimum=1)
    if patch_size > min(image.shape[-2:]):
        raise ValueError(f"patch_size is {patch_size} and {name} {image.shape[-2]}×{image.shape[-1]} pixels; expected a patch "
                         "that lies inside it")


def validate_size(size: tuple[int, int] | None, image: Tensor, *, patch_size: int) -> tuple[int, int]:
    """(height, width) of the picture to make; that of `image` where none was given."""
    if size is None:
        return tuple(image.shape[-2:])
    if not (isinstance(size, tuple) and len(size) == 2):
        raise ValueError(f"size is {describe(size)}; expected (height, width)")
    for side, name in zip(size, ("height", "width")):
        validate_integer(side, name=name, minimum=patch_size)
    return size


def level_sizes(size: tuple[int, int], levels: int, ratio: float = 2.0) -> list[tuple[int, int]]:
    """Sizes of the picture from fine to coarse."""
    sizes = [size]
    for _ in range(levels - 1):
        sizes.append(coarse_size(*sizes[-1], ratio=ratio))
    return sizes


def most_levels(size: tuple[int, int], exemplar: Tensor, *, patch_size: int, levels: int, ratio: float = 2.0) -> int:
    """As many of the levels as leave room for a patch in both pictures."""
    sizes = [level_sizes(tuple(one), levels, ratio) for one in (size, exemplar.shape[-2:])]
    return max(1, sum(min(*a, *b) >= patch_size for a, b in zip(*sizes)))


def noise(size: tuple[int, int], like: Tensor, *, mean: float, deviation: float, seed: int) -> Tensor:
    """A picture (C, H, W) of independent normal numbers, with the channels, dtype and device of another."""
    values = torch.randn((like.shape[0], *size), generator=generator(seed), dtype=torch.float64)
    return (mean + deviation * values).to(like)


def matching(picture: Tensor, exemplar: Tensor, *, patch_size: int, metric: str = "l2", prices: Tensor | None = None) -> Problem:
    """Match every patch of a picture (C, H, W) in an exemplar (C, h, w)."""
    seen, of_exemplar = channels_last(features(picture, metric)[None]), channels_last(features(exemplar, metric)[None])
    device = picture.device
    valid, active = (torch.ones((1, *(side - patch_size + 1 for side in one.shape[-2:])), dtype=torch.bool, device=device)
                     for one in (exemplar, picture))
    return Problem(seen, of_exemplar, valid, active, 1, patch_size, metric == "l1", prices=prices,
                   method="kernel" if available() else "reference")


def random_field(problem: Problem, seed: int) -> Tensor:
    """A match drawn at random for every patch."""
    return draw(problem.valid, tuple(problem.active.shape), k=1, seed=seed).to(problem.image.device)


def searched(problem: Problem, start: Tensor, *, iterations: int, seed: int) -> tuple[Tensor, Tensor]:
    """The field after some iterations of PatchMatch, and its distances (H', W')."""
    for found, distance in problem.iterate(start, schedule="sequential", iterations=iterations, seed=seed):
        pass
    return found, distance[0, 0]


def carried_over(found: Tensor, *, patch_size: int, fine: tuple[int, int], coarse: tuple[int, int], exemplar: tuple[int, int],
                 coarse_exemplar: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The field of a coarser level for a finer one (thesis, eq. III.6), and the coarse rows and columns it was read at."""
    (rows, row_rest), (columns, column_rest) = (nearest_coarse(fine[axis], coarse[axis], patch_size, found.device) for axis in range(2))
    field_ = found[..., rows[:, None], columns].double()
    for axis, rest in ((0, row_rest[:, None]), (1, column_rest)):
        moved = (field_[:, 1 + axis] + patch_size / 2) * exemplar[axis] / coarse_exemplar[axis] + rest - patch_size / 2
        field_[:, 1 + axis] = moved.round().clamp(0, exemplar[axis] - patch_size)
    return field_.int().contiguous(), rows, columns


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, 0 to 2⁶³ − 1."""
    value = 0
    for number in numbers:
        value = hashed(value, number)
    return value >> 1
