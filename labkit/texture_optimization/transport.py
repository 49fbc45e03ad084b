"""Texture by semi-discrete optimal transport of patches: each one goes to a patch of the example, all of those equally often.

At every scale the patches p of the picture so far are moved to T(p) = argmin_q ‖p − q‖² − β_q, the q being patches of the
example. With the β that maximises the semi-dual (thesis, eq. III.5, with means on both sides), T is the optimal transport
map, and every q receives as many patches as any other: no part of the example takes over, none is forgotten.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.filtering.arrays import as_floats
from labkit.patches import extract_patches, patch_positions, squared_distances
from labkit.patchmatch.fields import as_kernel_field
from labkit.patchmatch.scales import carried_over
from labkit.pyramids import gaussian_pyramid, level_sizes
from labkit.runtime import generator, seed_of
from labkit.texture_optimization.gaussian import spot_noise
from labkit.texture_optimization.synthesis import Synthesis, most_levels, validate_exemplar, voted
from labkit.transport import semi_dual_ascent
from labkit.validation import size_of, validate_integer, validate_seed, validate_size

__all__ = ["transport_texture"]

BLOCK = 2 ** 22     # distances held at once when all patches are moved


def transport_texture(exemplar: Tensor, *, size: tuple[int, int] | None = None, levels: int = 4, patch_size: int = 3,
                      targets: int = 1000, sources: int = 4000, steps: int = 300, seed: int = 0,
                      trace: bool = False) -> Synthesis:
    """A texture whose patches are distributed like the example's, by one transport map for each scale.

    >>> texture = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.texture_optimization.transport_texture(texture, size=(30, 20), levels=2, steps=20).image.shape
    torch.Size([3, 30, 20])

    The coarsest picture is a Gaussian texture. At each scale β is found on a sample of patches; then all patches are
    moved, and overlapping ones averaged. The next scale begins with the same places of the finer example.

    Parameters
    ----------
    exemplar : (C, h, w) in [0, 1].
    size : (height, width) of the result; `None` takes the example's.
    levels : number of scales of ratio 2; those too small for a patch are left out.
    patch_size : side of a patch, in pixels, at every scale. Small ones blur less where they are averaged.
    targets : most patches of the example that are used at a scale, drawn without replacement.
    sources : most patches of the picture from which β is learnt, drawn anew at each scale.
    steps : of the ascent in β.
    seed : of the Gaussian texture and the draws.
    trace : keep the picture after each scale.

    Returns
    -------
    Synthesis, with the transport cost of each scale before its patches are moved as `energy`.

    Raises
    ------
    ValueError : a patch does not fit, or a number is out of its range.

    Notes
    -----
    The paper fits a Gaussian mixture to the patches of the random field at each scale, so that one map serves any number
    of textures; here β is learnt from the patches of the picture itself. There is no search: cost grows with the number
    of pixels times `targets`.

    References
    ----------
    Galerne, Leclaire, Rabin, "A Texture Synthesis Model Based on Semi-Discrete Optimal Transport in Patch Space", SIAM J.
    Imaging Sciences 2018. Lecture part II, "Multi-scale Patch-based Optimal Transport".
    """
    validate_exemplar(exemplar, patch_size=patch_size, name="exemplar")
    size = validate_size(size, minimum=patch_size, default=size_of(exemplar))
    for value, name in ((levels, "levels"), (targets, "targets"), (sources, "sources"), (steps, "steps")):
        validate_integer(value, name=name, minimum=1)
    validate_seed(seed)
    levels = most_levels(size, exemplar, patch_size=patch_size, levels=levels)
    working = as_floats(exemplar.detach())
    pyramid, sizes = gaussian_pyramid(working, levels=levels), level_sizes(size, levels=levels)
    picture, found, energy, frames = spot_noise(pyramid[-1], size=sizes[-1], seed=seed_of(seed, levels)), None, [], []
    for level in range(levels - 1, -1, -1):
        if found is not None:
            found, _ = carried_over(found, patch_size=patch_size, size=sizes[level], coarse_size=sizes[level + 1],
                                    exemplar_size=size_of(pyramid[level]), coarse_exemplar_size=size_of(pyramid[level + 1]))
            picture = voted(pyramid[level], found, sizes[level], patch_size=patch_size)
        found, cost = _moved(picture, pyramid[level], patch_size, targets, sources, steps, seed_of(seed, level))
        picture = voted(pyramid[level], found, sizes[level], patch_size=patch_size)
        energy.append([cost])
        if trace:
            frames.append(picture.to(exemplar.dtype))
    return Synthesis(picture.to(exemplar.dtype), energy, frames, found[0, 1:, 0])


def _moved(picture: Tensor, exemplar: Tensor, patch_size: int, targets: int, sources: int, steps: int,
           seed: int) -> tuple[Tensor, float]:
    """Where the transport map sends every patch, as the kernels' field, and the transport cost."""
    draws = generator(seed)
    places = patch_positions(*exemplar.shape[-2:], patch_size=patch_size)
    chosen = torch.randperm(len(places), generator=draws)[:targets]
    keys = extract_patches(exemplar, patch_size=patch_size)[chosen.to(exemplar.device)]
    queries = extract_patches(picture, patch_size=patch_size)
    sample = torch.randperm(len(queries), generator=draws)[:sources].to(picture.device)
    beta, value = semi_dual_ascent(squared_distances(queries[sample], keys), steps=steps)
    nearest = torch.cat([(squared_distances(some, keys) - beta).argmin(1) for some in queries.split(max(1, BLOCK // len(keys)))])
    field = places[chosen[nearest.cpu()]].T.reshape(1, 2, *(side - patch_size + 1 for side in picture.shape[-2:]))
    return as_kernel_field(field.to(picture.device)), float(value)
