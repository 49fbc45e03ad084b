"""New pictures with the patches of one picture, each at its place in the whole: PSin, PSinOT and GPNN.

Unlike a texture, a photograph has an order from top to bottom; it is decided at the coarsest scale, where a patch is a
third of the picture.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from labkit.filtering.arrays import as_floats
from labkit.images import resize
from labkit.patches import extract_patches, squared_distances
from labkit.patchmatch.fields import as_kernel_field, channels_last, likelihood, upper_quartile
from labkit.patchmatch.iterate import searched
from labkit.patchmatch.matching import describe_matching, metric_channels, random_field
from labkit.patchmatch.scales import carried_over
from labkit.pyramids import gaussian_pyramid, level_sizes, upsample
from labkit.runtime import seed_of
from labkit.texture_optimization.synthesis import Synthesis, most_levels, noise, validate_exemplar, voted
from labkit.transport import semi_dual_ascent
from labkit.validation import describe, size_of, validate_image, validate_integer, validate_number, validate_seed, validate_size

__all__ = ["gpnn", "psin", "psin_ot"]

METRIC = "gradient"         # colour, and the absolute derivatives of the intensity with α = 5
FULL_MATRIX = 2 ** 25       # distances of all pairs are held at once up to here, 128 MB
FIRST_SEARCHES = 5          # iterations of PatchMatch at the start; later ones begin with good matches
ASCENTS = 50                # steps in the dual variable for each step in the picture


def psin(image: Tensor, *, size: tuple[int, int] | None = None, levels: int = 4, patch_size: int = 11, iterations: int = 10,
         start: Tensor | None = None, seed: int = 0, trace: bool = False) -> Synthesis:
    """A new picture whose every patch resembles one of the given picture.

    >>> picture = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> new = labkit.texture_optimization.psin(picture, size=(24, 36), levels=2, patch_size=5, iterations=2)
    >>> new.image.shape, new.nnf.shape, [len(level) for level in new.energy]
    (torch.Size([3, 24, 36]), torch.Size([2, 20, 32]), [2, 2])

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

    >>> picture = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.texture_optimization.psin_ot(picture, levels=2, patch_size=5, iterations=1).image.shape
    torch.Size([3, 24, 24])

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


def gpnn(image: Tensor, *, size: tuple[int, int] | None = None, alpha: float = 0.005, levels: int | None = None,
         patch_size: int = 7, iterations: int = 10, noise_deviation: float = 0.75, seed: int = 0,
         trace: bool = False) -> Synthesis:
    """A new picture in which every patch comes from the given one and, for small `alpha`, every patch of that appears.

    >>> picture = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.texture_optimization.gpnn(picture, size=(24, 36), iterations=1).image.shape
    torch.Size([3, 24, 36])

    From coarse to fine by a ratio of 4/3. A patch p takes the q that minimises ‖p − q‖² / (α + min over p′ of ‖p′ − q‖²):
    a patch of the exemplar that no patch of the result resembles yet is cheap.

    Parameters
    ----------
    image : (C, h, w) in [0, 1].
    size : (height, width) of the result; `None` takes the image's.
    alpha : at least 1e-4, in squared intensity (distances here are means over a patch and its channels); 0.005 asks for
        completeness, 10 does not.
    levels : number of scales; `None` goes down to a picture of about two patches, where the layout is decided.
    patch_size, iterations, seed, trace : as in `psin`.
    noise_deviation : of the normal noise on the coarsest picture, in intensity, the same for all channels: how different
        results are. 0 with another `size` retargets the picture: its parts move together rather than shrink.

    Returns
    -------
    Synthesis

    Raises
    ------
    ValueError : as `psin`, or `alpha` or `noise_deviation` is out of range.

    Notes
    -----
    Exact search compares all pairs in each iteration. Above 2²⁵ pairs, both minima come from PatchMatch instead: the
    inner one from a search in the other direction, whose result is a price for each patch of the exemplar.

    References
    ----------
    Granot, Feinstein, Shocher, Bagon, Irani, "Drop the GAN: In Defense of Patches Nearest Neighbors as Single Image
    Generative Models", CVPR 2022.
    """
    validate_number(alpha, name="alpha", minimum=1e-4)
    validate_number(noise_deviation, name="noise_deviation", minimum=0)
    validate_exemplar(image, patch_size=patch_size)
    if levels is None:
        levels = 1
        while min(image.shape[-2:]) / (4 / 3) ** levels >= 1.75 * patch_size:
            levels += 1
    run = _Run(image, size, levels, patch_size, iterations, seed, trace, ratio=4 / 3)
    picture = resize(run.pyramid[-1], size=run.sizes[-1])
    picture = picture + noise(run.sizes[-1], picture[:1], mean=0.0, deviation=noise_deviation, seed=seed)
    for level in range(len(run.sizes) - 1, -1, -1):
        exemplar, blurred = run.pyramid[level], run.pyramid[level]
        if level < len(run.sizes) - 1:
            picture = resize(picture, size=run.sizes[level])
            blurred = upsample(run.pyramid[level + 1], size=size_of(exemplar))
        found, backwards = None, None
        run.energy.append([])
        for number in range(iterations):
            # an enlarged picture is compared with an equally enlarged one, until it is made of sharp patches itself
            keys = blurred if number == 0 else exemplar
            found, backwards, energy = _complete(picture, keys, patch_size, alpha, found, backwards,
                                                 seed_of(seed, level, number))
            picture = run.vote(found, level)
            run.record(energy, picture)
    return run.result(picture, found)


# --- what they share ------------------------------------------------------------------------------------------------

class _Run:
    """One run from coarse to fine: the exemplar's pyramid, the sizes of the result, and what is recorded on the way."""

    def __init__(self, image: Tensor, size: tuple[int, int] | None, levels: int, patch_size: int, iterations: int, seed: int,
                 trace: bool, ratio: float = 2.0):
        validate_exemplar(image, patch_size=patch_size)
        size = validate_size(size, minimum=patch_size, default=size_of(image))
        for value, name in ((levels, "levels"), (iterations, "iterations")):
            validate_integer(value, name=name, minimum=1)
        validate_seed(seed)
        levels = most_levels(size, image, patch_size=patch_size, levels=levels, ratio=ratio)
        working = as_floats(image.detach())
        self.pyramid, self.sizes = gaussian_pyramid(working, levels=levels, ratio=ratio), level_sizes(size, levels=levels, ratio=ratio)
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
            matching = describe_matching(picture, self.pyramid[level], patch_size=self.patch_size, metric=METRIC)
            searches = 1
            if found is None:       # from random matches one search is too few: their mean would wipe out the start
                found, searches = random_field(matching, seed=self.seed), FIRST_SEARCHES
            self.energy.append([])
            for number in range(self.iterations):
                matching = replace(matching, image=channels_last(metric_channels(picture, METRIC)[None]))
                found, distance = searched(matching, found, iterations=1 if number else searches,
                                           seed=seed_of(self.seed, level, number))
                self.distance = distance[0, 0]
                picture = self.reconstruct(found, level)
                self.record(float(self.distance.double().mean()), picture)
        return self.result(picture, found)

    def transport(self, picture: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Lower the transport cost at one scale: ascend in β, match (eq. III.7), reconstruct, in turn."""
        targets = extract_patches(metric_channels(self.pyramid[level], METRIC), patch_size=self.patch_size)
        beta = targets.new_zeros(len(targets))
        size, width = [side - self.patch_size + 1 for side in self.sizes[level]], self.pyramid[level].shape[-1] - self.patch_size + 1
        self.energy.append([])
        for _ in range(self.iterations):
            cost = squared_distances(extract_patches(metric_channels(picture, METRIC), patch_size=self.patch_size), targets)
            beta, value = semi_dual_ascent(cost, steps=ASCENTS, start=beta)
            chosen = (cost - beta).argmin(1)
            self.distance = cost.gather(1, chosen[:, None]).reshape(size)
            found = _field_of(chosen, width, size)
            picture = self.reconstruct(found, level)
            self.record(float(value), picture)
        return picture, found

    def carry_over(self, found: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The picture and the matches of a scale from those of the next coarser one; distances are carried over, too."""
        found, nearest = carried_over(
            found, patch_size=self.patch_size, size=self.sizes[level], coarse_size=self.sizes[level + 1],
            exemplar_size=size_of(self.pyramid[level]), coarse_exemplar_size=size_of(self.pyramid[level + 1]))
        self.distance = self.distance[nearest]
        return self.reconstruct(found, level), found

    def reconstruct(self, found: Tensor, level: int) -> Tensor:
        """Eq. III.4, normalised: votes weigh exp(−d / 2σ²), with σ the upper quartile of d, at least 1."""
        sigma = upper_quartile(self.distance).clamp(min=1)
        return self.vote(found, level, likelihood(self.distance, sigma ** 2))

    def vote(self, found: Tensor, level: int, weights: Tensor | None = None) -> Tensor:
        return voted(self.pyramid[level], found, self.sizes[level], patch_size=self.patch_size, weights=weights)

    def record(self, energy: float, picture: Tensor) -> None:
        self.energy[-1].append(energy)
        if self.trace:
            self.frames.append(picture.to(self.dtype))

    def result(self, picture: Tensor, found: Tensor) -> Synthesis:
        return Synthesis(picture.to(self.dtype), self.energy, self.frames, found[0, 1:, 0])


def _complete(picture: Tensor, keys: Tensor, patch_size: int, alpha: float, found: Tensor | None, backwards: Tensor | None,
              seed: int) -> tuple[Tensor, Tensor | None, float]:
    """GPNN's matches, the field in the other direction (where PatchMatch found them), and the mean of the scores."""
    alpha = alpha * patch_size ** 2 * len(keys)     # distances are sums from here on
    matching = describe_matching(picture, keys, patch_size=patch_size)
    if matching.active.numel() * matching.valid.numel() <= FULL_MATRIX:
        distance = squared_distances(*(extract_patches(one, patch_size=patch_size) for one in (picture, keys)))
        score, chosen = (distance / (alpha + distance.min(0).values)).min(1)
        field = _field_of(chosen, matching.valid.shape[2], matching.active.shape[1:])
        return field, None, float(score.double().mean())
    other, iterations = describe_matching(keys, picture, patch_size=patch_size), 4 if backwards is None else 1
    backwards, nearest = searched(other, random_field(other, seed=seed) if backwards is None else backwards,
                                  iterations=iterations, seed=seed)
    prices = torch.cat([1 / (alpha + nearest[0]), torch.zeros_like(nearest[0])])[:, None].contiguous()
    priced = replace(matching, prices=prices)
    found, score = searched(priced, random_field(matching, seed=seed) if found is None else found, iterations=iterations, seed=seed)
    return found, backwards, float(score.double().mean())


def _field_of(chosen: Tensor, width: int, size: list[int]) -> Tensor:
    """The kernels' field of matches given by their numbers in reading order."""
    return as_kernel_field(torch.stack([chosen // width, chosen % width]).reshape(1, 2, *size))


def _started(start: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor:
    validate_image(start, name="start", batch=False)
    if start.shape[0] != image.shape[0]:
        raise ValueError(f"start is {describe(start)} and image {describe(image)}; expected as many channels")
    return resize(start.to(image), size=size)
