"""Texture optimisation: a picture in which every patch resembles one of an example, by lowering one energy.

E(u) = Σ over x of min over y of ‖p_u(x) − p_ũ(y)‖^r, the x on a grid. Given u, the nearest patches f(x) lower it; given f,
a (weighted) mean or a median of overlapping patches does. Both steps never raise it.

References
----------
Kwatra, Essa, Bobick, Kwatra, "Texture Optimization for Example-based Synthesis", SIGGRAPH 2005. Gutierrez, Galerne, Rabin,
Hurtut, "Optimal Patch Assignment for Statistically Constrained Texture Synthesis", SSVM 2017. Lecture part I,
"Exemplar-based Texture Optimization".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from labkit.filtering.arrays import as_floats
from labkit.images import resize
from labkit.patches import extract_patches, patch_positions, squared_distances
from labkit.patchmatch.iterate import searched
from labkit.patchmatch.matching import describe_matching, random_field
from labkit.pyramids import gaussian_pyramid, level_sizes, upsample
from labkit.runtime import generator, seed_of
from labkit.texture_optimization.synthesis import Synthesis, most_levels, validate_exemplar, voted
from labkit.validation import (
    describe,
    size_of,
    validate_choice,
    validate_image,
    validate_integer,
    validate_number,
    validate_seed,
    validate_size,
)

__all__ = ["optimize_texture", "period"]

EXACT_PRODUCTS = 2 ** 31    # multiplications up to which all patches are compared; beyond, PatchMatch
SMALLEST = 1e-4             # difference of values from which on reweighting sees one: keeps weights of perfect matches finite
LARGEST_ASSIGNMENT = 5000   # patches; a minute for SciPy


def optimize_texture(exemplar: Tensor, *, size: tuple[int, int] | None = None, patch_sizes: Sequence[int] = (16, 8),
                     levels: int = 3, stride: int = 4, r: float = 0.8, assignment: str | None = None,
                     start: str | Tensor = "random", fidelity: tuple[Tensor, float] | None = None,
                     border: tuple[Tensor, int] | None = None, iterations: int = 10, seed: int = 0,
                     trace: bool = False) -> Synthesis:
    """A texture of any size like the example, by alternate minimisation from coarse to fine and large patches to small.

    >>> texture = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> grown = labkit.texture_optimization.optimize_texture(texture, size=(20, 30), patch_sizes=(8,), levels=1, iterations=3)
    >>> grown.image.shape, grown.energy[0] == sorted(grown.energy[0], reverse=True)
    (torch.Size([3, 20, 30]), True)

    Parameters
    ----------
    exemplar : (C, h, w) in [0, 1].
    size : (height, width) of the result; `None` takes the example's.
    patch_sizes : sides of the patches used one after the other at every scale, large to small; those that do not fit at
        a coarse scale are left out there.
    levels : number of scales of ratio 2; those too small for the smallest patch are left out.
    stride : between the patches of the result that are matched, in pixels; at most the smallest patch. A quarter of the
        patch is usual: overlapping patches then agree, and fewer are matched.
    r : exponent of the norm. 2 takes the mean of overlapping patches; 0.8 weighs each by its distance to the power r − 2
        (reweighted least squares), so that patches that do not fit count less; 1 takes the median (of absolute differences).
    assignment : `None`, or `"lsap"`: every patch of the example on the same grid is used as often as any other (once, for
        a result of the example's size), which keeps its statistics.
    start : `"random"` pixels of the example, `"lattice"` (the example repeated at the period that its autocorrelation has),
        or a picture (C, H, W) of any size.
    fidelity : (target, α): adds α ‖u − target‖² for each of the patches that hold a pixel; the target has the result's
        size. For r = 2 that blends u ← (u + α target) / (1 + α).
    border : (picture, width): a frame of that many pixels is copied from a picture of the result's size.
    iterations : most rounds of search and aggregation for each scale and patch size; fewer when no match changes.
    seed : of the start and of the search.
    trace : keep the picture after each round.

    Returns
    -------
    Synthesis, with one list of energies for each scale and patch size: means over the patches, which never rise.

    Raises
    ------
    ValueError : sizes that do not fit, unknown words, or an assignment of more than 5000 patches.

    Notes
    -----
    All patches are compared where that takes at most 2³¹ multiplications, else PatchMatch finds the matches.
    """
    patch_sizes = _validated_patch_sizes(patch_sizes, exemplar)
    size = validate_size(size, minimum=min(patch_sizes), default=size_of(exemplar))
    for value, name in ((levels, "levels"), (iterations, "iterations")):
        validate_integer(value, name=name, minimum=1)
    validate_integer(stride, name="stride", minimum=1, maximum=min(patch_sizes))
    validate_seed(seed)
    validate_number(r, name="r", above=0, maximum=2)
    if assignment is not None:
        validate_choice(assignment, name="assignment", choices=("lsap",))
    if r == 1 and fidelity is not None:
        raise ValueError("r is 1 and fidelity was given; expected r = 2 or 0.8 with it: a median has no such mean")
    working = as_floats(exemplar.detach())
    target, alpha = _given(fidelity, "fidelity", working, size, whole=False)
    frame, width = _given(border, "border", working, size, whole=True)
    levels = most_levels(size, exemplar, patch_size=min(patch_sizes), levels=levels)
    sizes, pyramid = level_sizes(size, levels=levels), gaussian_pyramid(working, levels=levels)
    picture, energies, frames = _started(start, working, pyramid[-1], sizes[-1], seed), [], []
    for level in range(len(sizes) - 1, -1, -1):
        if level < len(sizes) - 1:
            picture = upsample(picture, size=sizes[level])
        aims = None if target is None else (resize(target, size=sizes[level]), alpha)
        edge = None if frame is None else (resize(frame, size=sizes[level]), -(-width // 2 ** level))
        for patch_size in patch_sizes:
            if patch_size > min(*sizes[level], *pyramid[level].shape[-2:]):
                continue
            step = _Alternation(pyramid[level], sizes[level], patch_size, min(stride, patch_size), r, assignment, aims,
                                edge)
            picture, energy = step.run(picture, iterations, seed_of(seed, level, patch_size), frames if trace else None)
            energies.append(energy)
    return Synthesis(picture.to(exemplar.dtype), energies, [f.to(exemplar.dtype) for f in frames])


class _Alternation:
    """Search and aggregation in turn at one scale with patches of one size."""

    def __init__(self, exemplar: Tensor, size: tuple[int, int], patch_size: int, stride: int, r: float,
                 assignment: str | None, aims: tuple[Tensor, float] | None, edge: tuple[Tensor, int] | None):
        self.exemplar, self.size, self.patch_size, self.r, self.aims, self.edge = exemplar, size, patch_size, r, aims, edge
        self.stride, self.grid = stride, patch_positions(*size, patch_size=patch_size, stride=stride, cover=True)
        self.values = patch_size ** 2 * len(exemplar)
        self.active = torch.zeros(1, *(side - patch_size + 1 for side in size), dtype=torch.bool, device=exemplar.device)
        self.active[0, self.grid[:, 0], self.grid[:, 1]] = True
        self.width = exemplar.shape[-1] - patch_size + 1
        self.assigned = None
        if assignment == "lsap":
            places = patch_positions(*exemplar.shape[-2:], patch_size=patch_size, stride=stride, cover=True)
            self.assigned = places[:, 0] * self.width + places[:, 1]
            if max(len(places), len(self.grid)) > LARGEST_ASSIGNMENT:
                raise ValueError(f"assignment is 'lsap' with {len(self.grid)} patches for {len(places)} of the example; expected at "
                                 f"most {LARGEST_ASSIGNMENT} (a larger stride, or smaller pictures)")
        keys = (exemplar.shape[-2] - patch_size + 1) * self.width
        self.exact = self.assigned is not None or len(self.grid) * keys * self.values <= EXACT_PRODUCTS
        if self.exact:
            self.keys = extract_patches(exemplar, patch_size=patch_size)

    def run(self, picture: Tensor, iterations: int, seed: int, frames: list[Tensor] | None) -> tuple[Tensor, list[float]]:
        picture, found, energy = self._framed(picture), None, []
        for number in range(iterations):
            before = found
            found, distance = self.match(picture, found, seed_of(seed, number))
            picture = self._framed(self.aggregate(found, distance, picture))
            energy.append(self.energy(picture, found))
            if frames is not None:
                frames.append(picture)
            if before is not None and torch.equal(before, found):
                break
        return picture, energy

    def match(self, picture: Tensor, found: Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
        """A match for every patch of the grid: the kernels' field, and the distances (number,)."""
        if not self.exact:
            metric = "l1" if self.r == 1 else "l2"
            matching = replace(describe_matching(picture, self.exemplar, patch_size=self.patch_size, metric=metric), active=self.active)
            # patches of the grid are neighbours of each other at the jumps 8 and 4
            found, distance = searched(matching, random_field(matching, seed=seed) if found is None else found,
                                       schedule="jump_flooding", iterations=6 if found is None else 2, seed=seed)
            return found, distance[0, 0][self.active[0]]
        patches = self._patches(picture)
        if self.assigned is not None:
            chosen = self._assign(patches)
        elif self.r == 1:
            chosen = torch.cat([torch.cdist(some, self.keys, p=1).argmin(1) for some in patches.split(256)])
        else:
            chosen = squared_distances(patches, self.keys).argmin(1)
        field = torch.zeros((1, 3, *self.active.shape), dtype=torch.int32, device=picture.device)
        field[0, 1][self.active], field[0, 2][self.active] = (chosen // self.width).int(), (chosen % self.width).int()
        return field, self._distance(patches, self.keys[chosen])

    def aggregate(self, found: Tensor, distance: Tensor, picture: Tensor) -> Tensor:
        """The picture that lowers the energy for these matches."""
        if self.r == 1:
            return self._median(found)
        weights = torch.zeros_like(self.active, dtype=picture.dtype)
        weights[self.active] = 1.0 if self.r == 2 else self._weight(distance)
        mean = voted(self.exemplar, found, self.size, patch_size=self.patch_size, weights=weights[0])
        if self.aims is None:
            return mean
        target, alpha = self.aims
        total, count = self._sums(weights[0]), self._sums(self.active[0].to(weights))
        return (total * mean + alpha * count * target) / (total + alpha * count)

    def energy(self, picture: Tensor, found: Tensor) -> float:
        """The mean over the patches of ‖·‖^r (smoothed where r < 2), plus the fidelity's share."""
        patches = self._patches(picture)
        rows, columns = found[0, 1][self.active].long(), found[0, 2][self.active].long()
        offsets = torch.arange(self.patch_size, device=rows.device)
        seen = self.exemplar[:, (rows[:, None] + offsets)[:, :, None], (columns[:, None] + offsets)[:, None]]
        distance = self._distance(patches, seen.movedim(0, 1).flatten(1)).double()
        energy = distance if self.r in (1, 2) else (distance + self._epsilon()) ** (self.r / 2)
        total = float(energy.sum())
        if self.aims is not None:
            target, alpha = self.aims
            count = self._sums(self.active[0].to(picture))
            total += alpha * float((count * (picture - target) ** 2).sum())
        return total / len(self.grid)

    def _patches(self, picture: Tensor) -> Tensor:
        """Those of the grid, one per row."""
        return extract_patches(picture, patch_size=self.patch_size, stride=self.stride, cover=True)

    def _distance(self, patches: Tensor, matches: Tensor) -> Tensor:
        difference = patches - matches
        return difference.abs().sum(1) if self.r == 1 else difference.square().sum(1)

    def _weight(self, distance: Tensor) -> Tensor:
        """The derivative of (d + ε)^(r/2) by d, which majorises it: minimising Σ weight · d lowers the energy."""
        return self.r / 2 * (distance + self._epsilon()) ** (self.r / 2 - 1)

    def _epsilon(self) -> float:
        return self.values * SMALLEST ** 2

    def _sums(self, weights: Tensor) -> Tensor:
        """For every pixel, the sum of the weights of the patches that hold it: (H, W)."""
        padded = torch.nn.functional.pad(weights[None, None], [self.patch_size - 1] * 4)
        return torch.nn.functional.avg_pool2d(padded, self.patch_size, stride=1, divisor_override=1)[0, 0]

    def _median(self, found: Tensor) -> Tensor:
        """Per pixel and channel, the median of what the patches say."""
        n, across = self.patch_size, len(self.grid[:, 1].unique())
        slots = -(-n // self.stride) + 1        # the most patches of the grid that hold a pixel, along one axis
        number = torch.arange(len(self.grid), device=found.device)
        y, x = self.grid.to(found.device).unbind(1)
        rows, columns = found[0, 1, 0, y, x].long(), found[0, 2, 0, y, x].long()
        said = self.exemplar.new_full((slots, slots, *self.size, len(self.exemplar)), float("nan"))
        for i in range(n):
            for j in range(n):
                said[number // across % slots, number % across % slots, y + i, x + j] = self.exemplar[:, rows + i, columns + j].T
        return said.flatten(0, 1).nanmedian(0).values.movedim(-1, 0).contiguous()

    def _assign(self, patches: Tensor) -> Tensor:
        """Matches that use every patch of the example's grid as often as any other, of the least total cost."""
        from scipy.optimize import linear_sum_assignment

        candidates = self.keys[self.assigned]
        copies = -(-len(patches) // len(candidates))
        cost = squared_distances(patches, candidates)
        cost = cost if self.r != 1 else torch.cdist(patches, candidates, p=1)
        rows, columns = linear_sum_assignment(cost.repeat(1, copies).double().cpu().numpy())
        chosen = torch.empty(len(patches), dtype=torch.long)
        chosen[torch.from_numpy(rows)] = torch.from_numpy(columns) % len(candidates)
        return self.assigned[chosen].to(patches.device)

    def _framed(self, picture: Tensor) -> Tensor:
        if self.edge is None:
            return picture
        frame, width = self.edge
        framed = frame.clone()
        height, across = picture.shape[-2:]
        framed[:, width:height - width, width:across - width] = picture[:, width:height - width, width:across - width]
        return framed


# --- arguments and starts -------------------------------------------------------------------------------------------

def _validated_patch_sizes(patch_sizes: Sequence[int], exemplar: Tensor) -> tuple[int, ...]:
    if not isinstance(patch_sizes, Sequence) or isinstance(patch_sizes, str) or not len(patch_sizes):
        raise ValueError(f"patch_sizes is {describe(patch_sizes)}; expected a sequence of sides such as (16, 8)")
    for patch_size in patch_sizes:
        validate_exemplar(exemplar, patch_size=patch_size, name="exemplar")
    return tuple(patch_sizes)


def _given(pair: tuple | None, name: str, like: Tensor, size: tuple[int, int], *, whole: bool) -> tuple:
    """A picture of the result's size and its number, validated; (None, 0) where nothing was given."""
    if pair is None:
        return None, 0
    if not (isinstance(pair, tuple) and len(pair) == 2):
        raise ValueError(f"{name} is {describe(pair)}; expected (picture, {'width' if whole else 'weight'})")
    picture, number = pair
    validate_image(picture, name=name, batch=False)
    if picture.shape[0] != like.shape[0] or tuple(picture.shape[-2:]) != size:
        raise ValueError(f"{name} holds {describe(picture)}; expected ({like.shape[0]}, {size[0]}, {size[1]}), the result's size")
    if whole:
        validate_integer(number, name=f"the width of {name}", minimum=1, maximum=(min(size) - 1) // 2)
    else:
        validate_number(number, name=f"the weight of {name}", minimum=0)
    return picture.to(like), number


def _started(start: str | Tensor, exemplar: Tensor, coarse: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """The picture to begin with, at the coarsest scale."""
    if isinstance(start, Tensor):
        validate_image(start, name="start", batch=False)
        if start.shape[0] != exemplar.shape[0]:
            raise ValueError(f"start is {describe(start)} and exemplar {describe(exemplar)}; expected as many channels")
        return resize(start.to(exemplar), size=size)
    validate_choice(start, name="start", choices=("random", "lattice"))
    if start == "random":
        pixels = coarse.flatten(1)
        return pixels[:, torch.randint(pixels.shape[1], size, generator=generator(seed)).to(pixels.device)]
    rows, columns = period(coarse)
    y, x = torch.arange(size[0], device=coarse.device) % rows, torch.arange(size[1], device=coarse.device) % columns
    return coarse[:, y[:, None], x]


def period(image: Tensor) -> tuple[int, int]:
    """The shifts, along rows and along columns, at which a picture repeats best: peaks of its autocorrelation.

    Only shifts from a quarter to three quarters of a side are looked at, in the picture less its mean.
    """
    centred = image - image.mean((-2, -1), keepdim=True)
    found = []
    for axis in (-2, -1):
        side, best = image.shape[axis], (None, -torch.inf)
        for shift in range(max(1, side // 4), max(2, 3 * side // 4 + 1)):
            a, b = centred.narrow(axis, 0, side - shift), centred.narrow(axis, shift, side - shift)
            score = float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt().clamp(min=1e-12))
            best = max(best, (shift, score), key=lambda pair: pair[1])
        found.append(best[0])
    return found[0], found[1]
