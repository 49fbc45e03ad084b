"""Chapter 2's searches, votes and fills on a card."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.patchmatch import TRANSFORMS, inpaint, nnf_distance, patchmatch, random_nnf, reconstruct
from tests.gpu.case import Case, difference, picture

__all__ = ["cases"]

SCHEDULES = ("sequential", "jump_flooding", "red_black")
CHANNELS = 3
QUERIES = 1024  # patches whose exact match is sought at once
FILL = 0.4  # on the CPU, seeds 0 to 7 leave errors from 0.108 to 0.147: one is 37 % above the other
EXACT = "pictures are of sixteenths: every sum is exact in float32, so the same matches must come out, to the bit"


def cases(small: bool) -> Iterator[Case]:
    """The three schedules, the distances of a field, its vote, a masked search, a fill; small ones for numba's simulator."""
    side, patch, iterations = (9, 3, 1) if small else (512, 7, 5)
    size = f"{patch}×{patch}, {side}²"
    image, exemplar = (picture(CHANNELS, side, side, seed=seed, steps=16) for seed in (0, 1))
    for schedule in SCHEDULES:
        plain = (
            {"plain": functools.partial(_exact, patch_size=patch), "plain_is": "the exact matches, by matrix products"}
            if schedule == "jump_flooding"
            else {}
        )
        yield Case(
            f"PatchMatch, {schedule.replace('_', ' ')}, {iterations} iterations, {size}",
            (image, exemplar),
            functools.partial(_search, patch_size=patch, iterations=iterations, schedule=schedule),
            0,
            EXACT,
            **plain,
        )
    yield Case(
        f"PatchMatch, jump flooding, 3 nearest, {size}",
        (image, exemplar),
        functools.partial(_search, patch_size=patch, iterations=iterations, k=3, schedule="jump_flooding"),
        0,
        EXACT,
    )

    field = random_nnf(image, exemplar, patch_size=patch)
    patches, values = field[0].numel(), patch**2 * CHANNELS
    yield Case(
        f"distances of a field, {size}",
        (image, exemplar, field),
        functools.partial(_distances, patch_size=patch),
        0,
        EXACT,
        plain=functools.partial(_distances_in_torch, patch_size=patch),
        plain_is="both sets of patches cut out, then subtracted",
        bytes=4 * (image.numel() + exemplar.numel() + 3 * patches),
        operations=3 * values * patches,
    )
    yield Case(
        f"vote, {size}",
        (field, exemplar),
        functools.partial(reconstruct, patch_size=patch),
        3e-6,
        "a mean of float32 values below 1",
        plain=functools.partial(_vote_in_torch, patch_size=patch),
        plain_is="patches cut out, then folded together",
        bytes=4 * (image.numel() + exemplar.numel() + 2 * patches),
        operations=(values + patch**2) * patches,
    )

    part = 8 if small else 256
    smooth, other = (picture(CHANNELS, part, part, seed=seed) for seed in (2, 3))
    mask = torch.zeros(1, part, part, dtype=torch.bool)
    mask[:, part // 3 : part // 2, part // 3 : part // 2] = True
    yield Case(
        f"PatchMatch, masked, derivatives, all turns, {patch}×{patch}, {part}²",
        (smooth, other, mask),
        functools.partial(_masked_search, patch_size=patch, iterations=1 if small else 3),
        0.01,
        "mean distance, relatively: roundings decide between candidates that are equally near",
        difference=_mean_apart,
    )
    yield _fill(small)


def _search(image: Tensor, exemplar: Tensor, **settings) -> tuple[Tensor, Tensor]:
    match = patchmatch(image, exemplar, **settings)
    return match.nnf, match.distance


def _masked_search(image: Tensor, exemplar: Tensor, mask: Tensor, **settings) -> Tensor:
    return patchmatch(
        image, exemplar, image_mask=mask, metric="gradient", transforms=TRANSFORMS, schedule="jump_flooding", **settings
    ).distance


def _distances(image: Tensor, exemplar: Tensor, field: Tensor, *, patch_size: int) -> Tensor:
    return nnf_distance(image, exemplar, field, patch_size=patch_size)


def _mean_apart(found: Tensor, expected: Tensor) -> float:
    mean, other = (float(one.double().mean()) for one in (found, expected))
    return abs(mean - other) / other


# --- the same in plain torch ------------------------------------------------------------------------------------------


def _patches(image: Tensor, patch_size: int) -> Tensor:
    return F.unfold(image[None], patch_size)[0].T.contiguous()


def _exact(image: Tensor, exemplar: Tensor, *, patch_size: int) -> Tensor:
    queries, keys = _patches(image, patch_size), _patches(exemplar, patch_size)
    squares = keys.square().sum(1)
    return torch.cat([torch.addmm(squares, block, keys.T, alpha=-2).argmin(1) for block in queries.split(QUERIES)])


def _matches(field: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    rows, columns = field.long().flatten(1)
    return _patches(exemplar, patch_size)[rows * (exemplar.shape[-1] - patch_size + 1) + columns]


def _distances_in_torch(image: Tensor, exemplar: Tensor, field: Tensor, *, patch_size: int) -> Tensor:
    return (_patches(image, patch_size) - _matches(field, exemplar, patch_size)).square().sum(1)


def _vote_in_torch(field: Tensor, exemplar: Tensor, *, patch_size: int) -> Tensor:
    size = [side + patch_size - 1 for side in field.shape[-2:]]
    columns = _matches(field, exemplar, patch_size).T[None]
    return (
        F.fold(columns, size, patch_size)[0] / F.fold(torch.ones_like(columns[:, : patch_size**2]), size, patch_size)[0]
    )


# --- a fill from beginning to end -------------------------------------------------------------------------------------


def _fill(small: bool) -> Case:
    side, hole, patch = (11, 3, 3) if small else (256, 64, 7)
    image = picture(CHANNELS, side, side, seed=4)
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    start = (side - hole) // 2
    mask[:, start : start + hole, start : start + hole] = True
    settings = {"patch_size": patch, "levels": 1, "iterations": 1} if small else {"patch_size": patch}
    return Case(
        f"inpaint, {hole}² in {side}², {patch}×{patch}",
        (image, mask),
        functools.partial(inpaint, **settings),
        FILL,
        "error of the fill against the picture that was there, relatively; known pixels to the bit. Roundings send the "
        "search another way: two seeds differ by more",
        difference=_as_good(image, mask),
    )


def _as_good(image: Tensor, mask: Tensor) -> Callable[[Tensor, Tensor], float]:
    known = (~mask).expand_as(image)

    def apart(found: Tensor, expected: Tensor) -> float:
        if difference(found[known], image[known]) > 0:
            return float("inf")
        error, other = (float((one - image)[~known].square().mean().sqrt()) for one in (found, expected))
        return abs(error - other) / other

    return apart
