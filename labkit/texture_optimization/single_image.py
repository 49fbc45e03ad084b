"""New pictures with the patches of one picture, each at its place in the whole: PSin and PSinOT.

Unlike a texture, a photograph has an order from top to bottom; it is decided at the coarsest scale, where a patch is a
third of the picture.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from labkit.images import resize
from labkit.patches import extract_patches, squared_distances
from labkit.patchmatch.fields import as_kernel_field, channels_last, vote
from labkit.patchmatch.search import features
from labkit.pyramids import gaussian_pyramid
from labkit.texture_optimization.synthesis import (Synthesis, carried_over, level_sizes, matching, most_levels, noise,
                                                   random_field, searched, seed_of, validate_exemplar, validate_size)
from labkit.validation import describe, validate_image, validate_integer

METRIC = "gradient"         # colour, and the absolute derivatives of the intensity with α = 5
FULL_MATRIX = 2 ** 25       # distances of all pairs are held at once up to here, 128 MB
FIRST_SEARCHES = 5          # iterations of PatchMatch at the start; later ones begin with good matches
ASCENTS = 50                # steps in the dual variable for each step in the picture


def psin(image: Tensor, *, size: tuple[int, int] | None = None, levels: int = 4, patch_size: int = 11, iterations: int = 10,
         start: Tensor | None = None, seed: int = 0, trace: bool = False) -> Synthesis:
    """A new picture whose every patch resembles one of the given picture.

    From coarse to fine, ψ ← nearest patches (eq. III.3) and u ← their weighted mean (eq. III.4) in turn; between scales
    the matches are carried over rather than the pixels (eq. III.6), which keeps the details.

    Parameters
    ----------
    image : (C, h, w) in [0, 1].
    size : (height, width) of the result, any aspect ratio; `None` takes the image's.
    levels : number of scales of ratio 2; those too small for a patch are left out.
    patch_size : side of a patch, in pixels, the same at all scales.
    iterations : search and reconstruction at each scale, that many times.
    start : (C, H, W) picture to begin with, of any size, brought to that of the coarsest scale: a rough painting becomes
        a picture of that layout. `None` begins with noise of mean 0.5 and standard deviation 1.
    seed : of the noise and the search.
    trace : keep the picture after each iteration.

    Returns
    -------
    Synthesis

    Raises
    ------
    ValueError : a patch does not fit, or sizes or channels are wrong.

    Notes
    -----
    Patches are compared by colour and by the absolute horizontal and vertical derivatives of the intensity, with weight
    α = 5 (metric `"gradient"` of chapter 2).

    References
    ----------
    Cherel, Almansa, Gousseau, Newson, "A Patch-Based Algorithm for Diverse and High Fidelity Single Image Generation",
    ICIP 2022; thesis, Algorithm 3. The printed eq. III.4 lacks its normalisation.
    """
    run = _Run(image, size, levels, patch_size, iterations, seed, trace)
    if start is None:
        picture = run.noise()
    else:
        picture = _started(start, image, run.sizes[-1]).to(run.pyramid[-1])
    return run.descend(picture, None, len(run.sizes) - 1)


def psin_ot(image: Tensor, *, size: tuple[int, int] | None = None, levels: int = 4, patch_size: int = 11,
            iterations: int = 10, seed: int = 0, trace: bool = False) -> Synthesis:
    """A new picture whose patches resemble those of the given picture *and* are as frequent: PSin after optimal transport.

    At the two coarsest scales the transport cost between the patches of both pictures (eq. III.5, with means on both
    sides) is lowered in u and raised in its dual variable β in turn; the matches ψ(p) = argmin ‖p − q‖² − β_q (eq.
    III.7) are then handed on to PSin.

    Parameters, result and errors are those of `psin`; there is no `start`. In `energy`, the lists of the first scales
    hold the transport cost.

    Notes
    -----
    All distances between two coarse pictures are held in memory; a scale of more than 2²⁵ pairs (about 5800 patches in
    each picture) is left to PSin.

    References
    ----------
    Thesis, III.3.3. Houdard, Leclaire, Papadakis, Rabin, "Wasserstein Generative Models for Patch-based Texture
    Synthesis", SSVM 2021.
    """
    run = _Run(image, size, levels, patch_size, iterations, seed, trace)
    picture, found, level = run.noise(), None, len(run.sizes) - 1
    for _ in range(2):
        if level < 0 or run.pairs(level) > FULL_MATRIX:
            break
        if found is not None:
            picture, found = run.carry_over(found, level)
        picture, found = run.transport(picture, level)
        level -= 1
    if level < 0:
        return run.result(picture, found)
    if found is not None:
        picture, found = run.carry_over(found, level)
    return run.descend(picture, found, level)


# --- what they share ------------------------------------------------------------------------------------------------

class _Run:
    """One run from coarse to fine: the exemplar's pyramid, the sizes of the result, and what is recorded on the way."""

    def __init__(self, image: Tensor, size: tuple[int, int] | None, levels: int, patch_size: int, iterations: int, seed: int,
                 trace: bool):
        validate_exemplar(image, patch_size=patch_size)
        size = validate_size(size, image, patch_size=patch_size)
        for value, name in ((levels, "levels"), (iterations, "iterations")):
            validate_integer(value, name=name, minimum=1)
        validate_integer(seed, name="seed", minimum=0)
        levels = most_levels(size, image, patch_size=patch_size, levels=levels)
        working = (image if image.dtype == torch.float64 else image.float()).detach()
        self.pyramid, self.sizes = gaussian_pyramid(working, levels=levels), level_sizes(size, levels)
        self.dtype, self.patch_size, self.iterations, self.seed, self.trace = image.dtype, patch_size, iterations, seed, trace
        self.energy, self.frames, self.distance = [], [], None

    def noise(self) -> Tensor:
        return noise(self.sizes[-1], self.pyramid[-1], mean=0.5, deviation=1.0, seed=self.seed)

    def pairs(self, level: int) -> int:
        """How many pairs of patches there are at a scale."""
        number = 1
        for side in (*self.sizes[level], *self.pyramid[level].shape[-2:]):
            number *= side - self.patch_size + 1
        return number

    def descend(self, picture: Tensor, found: Tensor | None, first: int) -> Synthesis:
        """PSin from scale `first` down to the finest."""
        for level in range(first, -1, -1):
            if level < first:
                picture, found = self.carry_over(found, level)
            problem = matching(picture, self.pyramid[level], patch_size=self.patch_size, metric=METRIC)
            searches = 1
            if found is None:       # from random matches one search is too few: their mean would wipe out the start
                found, searches = random_field(problem, self.seed), FIRST_SEARCHES
            self.energy.append([])
            for number in range(self.iterations):
                problem = replace(problem, image=channels_last(features(picture, METRIC)[None]))
                found, self.distance = searched(problem, found, iterations=1 if number else searches,
                                                seed=seed_of(self.seed, level, number))
                picture = self.reconstruct(found, level)
                self.record(float(self.distance.double().mean()), picture)
        return self.result(picture, found)

    def transport(self, picture: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Lower the transport cost at one scale: ascend in β, match (eq. III.7), reconstruct, in turn."""
        targets = extract_patches(features(self.pyramid[level], METRIC), patch_size=self.patch_size)
        beta = targets.new_zeros(len(targets))
        size, width = [side - self.patch_size + 1 for side in self.sizes[level]], self.pyramid[level].shape[-1] - self.patch_size + 1
        self.energy.append([])
        for _ in range(self.iterations):
            cost = squared_distances(extract_patches(features(picture, METRIC), patch_size=self.patch_size), targets)
            beta, value = ascend(cost, beta, steps=ASCENTS)
            chosen = (cost - beta).argmin(1)
            self.distance = cost.gather(1, chosen[:, None]).reshape(size)
            found = _field_of(chosen, width, size)
            picture = self.reconstruct(found, level)
            self.record(float(value), picture)
        return picture, found

    def carry_over(self, found: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The picture and the matches of a scale from those of the next coarser one; distances are carried over, too."""
        found, rows, columns = carried_over(
            found, patch_size=self.patch_size, fine=self.sizes[level], coarse=self.sizes[level + 1],
            exemplar=tuple(self.pyramid[level].shape[-2:]), coarse_exemplar=tuple(self.pyramid[level + 1].shape[-2:]))
        self.distance = self.distance[rows[:, None], columns]
        return self.reconstruct(found, level), found

    def reconstruct(self, found: Tensor, level: int) -> Tensor:
        """Eq. III.4, normalised: votes weigh exp(−d / 2σ²), with σ the upper quartile of d, at least 1."""
        among = self.distance.flatten().sort().values
        sigma = float(among[(3 * len(among)) // 4].clamp(min=1))
        return self.vote(found, level, torch.exp(-self.distance / (2 * sigma ** 2)).clamp(min=1e-30))

    def vote(self, found: Tensor, level: int, weights: Tensor | None = None) -> Tensor:
        wanted = torch.ones((1, *self.sizes[level]), dtype=torch.bool, device=found.device)
        voted = vote(channels_last(self.pyramid[level][None]), found, wanted, depth=1, side=self.patch_size,
                     weights=None if weights is None else weights[None, None].to(self.pyramid[level]))
        return voted[0].movedim(-1, 0).contiguous()

    def record(self, energy: float, picture: Tensor) -> None:
        self.energy[-1].append(energy)
        if self.trace:
            self.frames.append(picture.to(self.dtype))

    def result(self, picture: Tensor, found: Tensor) -> Synthesis:
        return Synthesis(picture.to(self.dtype), self.energy, self.frames, found[0, 1:, 0])


def ascend(cost: Tensor, beta: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
    """Gradient ascent of the semi-dual of optimal transport in its dual variable.

    The function is mean_p min_q (c(p, q) − β_q) + mean_q β_q; its derivative by β_q is 1/m less the share of the p that
    choose q. (With sums for means, as eq. III.5 is printed, it is unbounded when the two numbers of patches differ.)

    Parameters
    ----------
    cost : (n, m), the c(p, q). beta : (m,).
    steps : how many; their length falls linearly to 0.

    Returns
    -------
    The new β, and the largest value that was met.
    """
    number, targets = cost.shape
    longest, best, reduced = 0.01 * cost.mean(), cost.new_full((), -torch.inf), torch.empty_like(cost)
    for step in range(steps):
        smallest, chosen = torch.sub(cost, beta, out=reduced).min(1)
        best = torch.maximum(best, smallest.mean() + beta.mean())
        share = torch.bincount(chosen, minlength=targets) * (targets / number)
        beta = beta + (1 - step / steps) * longest * (1 - share)
    return beta, best


def _field_of(chosen: Tensor, width: int, size: list[int]) -> Tensor:
    """The kernels' field of matches given by their numbers in reading order."""
    return as_kernel_field(torch.stack([chosen // width, chosen % width]).reshape(1, 2, *size))


def _started(start: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor:
    validate_image(start, name="start", batch=False)
    if start.shape[0] != image.shape[0]:
        raise ValueError(f"start is {describe(start)} and image {describe(image)}; expected as many channels")
    return resize(start.to(image), size=size)
