"""Random inputs for the exercises of chapter 2, of a wider kind than those of its checks."""

from __future__ import annotations

import random

import torch

from labkit.checks.answers import Request
from tests.inputs.drawing import Inputs, field, pictures, rand

__all__ = ["INPUTS", "distances"]


def distances(image: torch.Tensor, exemplar: torch.Tensor, nnf: torch.Tensor, n: int) -> torch.Tensor:
    """The squared distance of every patch of the image to its match in a field."""
    out = image.new_empty(nnf.shape[1:])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            r, c = nnf[:, i, j].tolist()
            out[i, j] = (image[:, i : i + n, j : j + n] - exemplar[:, r : r + n, c : c + n]).square().sum()
    return out


def _position(rng: random.Random, image: torch.Tensor, n: int) -> tuple[int, int]:
    return rng.randint(0, image.shape[1] - n), rng.randint(0, image.shape[2] - n)


def _matched_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    image, exemplar = pictures(rng, rng.choice((1, 3)), n)
    nnf = field(rng, image.shape[1] - n + 1, image.shape[2] - n + 1, exemplar, n)
    return image, exemplar, nnf, distances(image, exemplar, nnf, n), n


def _patch_distance_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    image, exemplar = pictures(rng, rng.choice((1, 2, 3)), n)
    return image, exemplar, _position(rng, image, n), _position(rng, exemplar, n), n


def _exhaustive_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    return *pictures(rng, rng.choice((1, 3)), n), n


def _propagate_inputs(rng: random.Random) -> tuple:
    image, exemplar, nnf, distance, n = _matched_inputs(rng)
    return image, exemplar, nnf, distance, _position(rng, image, n), rng.choice((-1, 1)), n


def _search_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    image, exemplar = pictures(rng, rng.choice((1, 3)), n)
    (i, j), (r, c) = position, match = _position(rng, image, n), _position(rng, exemplar, n)
    distance = float((image[:, i : i + n, j : j + n] - exemplar[:, r : r + n, c : c + n]).square().sum())
    return image, exemplar, position, match, distance, 2 * rand(rng, rng.randint(0, 5), 2) - 1, n


def _loop_inputs(rng: random.Random) -> tuple:
    image, exemplar, nnf, _, n = _matched_inputs(rng)
    return image, exemplar, nnf, 2 * rand(rng, rng.randint(0, 3), *nnf.shape[1:], rng.randint(0, 4), 2) - 1, n


def _voting_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    exemplar = pictures(rng, rng.choice((1, 3)), n)[0]
    return field(rng, rng.randint(1, 7), rng.randint(1, 7), exemplar, n), exemplar, n


def _jump_inputs(rng: random.Random) -> tuple:
    *rest, n = _matched_inputs(rng)
    return *rest, rng.randint(1, 5), n


def _cuda_inputs(rng: random.Random) -> Request:
    image, exemplar, nnf, distance, n = (a.numpy() if isinstance(a, torch.Tensor) else a for a in _matched_inputs(rng))
    block = rng.randint(1, 3), rng.randint(1, 3)
    grid = tuple(side // width + 1 for side, width in zip(distance.shape[::-1], block))
    return Request((image, exemplar, nnf, n, -distance), {"grid": grid, "block": block})


INPUTS: Inputs = {
    "patch_distance": _patch_distance_inputs,
    "exhaustive_search": _exhaustive_inputs,
    "propagate": _propagate_inputs,
    "random_search": _search_inputs,
    "patchmatch": _loop_inputs,
    "reconstruct": _voting_inputs,
    "jump_flood": _jump_inputs,
    "parallel_jump_flood": lambda rng: tuple(
        a.numpy() if isinstance(a, torch.Tensor) else a for a in _jump_inputs(rng)
    ),
    "cuda_distance": _cuda_inputs,
}
