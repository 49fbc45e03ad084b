"""The search for nearest patches: PatchMatch in three schedules, and exhaustively."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from labkit.patches import extract_patches
from labkit.patchmatch.fields import Match, as_kernel_field, validate_field
from labkit.patchmatch.iterate import distances, iterate
from labkit.patchmatch.matching import Matching, describe_matching, random_field
from labkit.patchmatch.reference import SCHEDULES
from labkit.patchmatch.sheets import from_sheets
from labkit.validation import describe, size_of, validate_choice, validate_integer, validate_seed

__all__ = ["exact_nnf", "nnf_distance", "patchmatch"]

BLOCK_VALUES = 2 ** 24          # exhaustive search: distances held at once, 64 MB


def patchmatch(image: Tensor, exemplar: Tensor, *, patch_size: int = 7, iterations: int = 5, k: int = 1,
               schedule: str = "sequential", metric: str = "l2", image_mask: Tensor | None = None,
               exemplar_mask: Tensor | None = None, transforms: tuple[str, ...] | None = None,
               start: Tensor | None = None, seed: int = 0, trace: bool = False, method: str = "kernel") -> Match:
    """For every patch of the image a near patch of the exemplar, by propagation and random search.

    >>> exemplar = torch.rand((3, 20, 24), generator=torch.Generator().manual_seed(0))
    >>> image = exemplar[:, 5:17, 3:19]
    >>> match = labkit.patchmatch.patchmatch(image, exemplar, patch_size=5, iterations=8)
    >>> match.nnf.shape, match.nnf[:, 0, 0].tolist(), float(match.distance.max())
    (torch.Size([2, 8, 12]), [5, 3], 0.0)

    Matches of neighbouring patches are mostly neighbours. So each iteration tries, for every patch, the matches of its
    neighbours, shifted; then candidates drawn around its own match, in windows of half the radius each time.

    Parameters
    ----------
    image : (C, H, W), or (N, C, H, W): each picture is then searched by itself. Any number of channels, so that feature
        maps serve as well.
    exemplar : (C, h, w), or (N, C, h, w); its size may differ from the image's.
    patch_size : side n of a patch, in pixels, from 1 to the smallest side of both.
    iterations : at least 0; five come within 5 to 15 % of the nearest distances in photographs.
    k : how many different matches to keep for each patch, nearest first.
    schedule : `"sequential"` visits the patches in scan order, forwards in odd iterations and backwards in even ones,
        so that a good match runs through the picture in one go. `"jump_flooding"` updates all patches at once, from
        neighbours 8, 4, 2 and 1 patches away: for a GPU. `"red_black"` updates the two colours of a chessboard in
        turn, from neighbours 1 and 3 patches away.
    metric : distance of patches. `"l2"` sums squared differences, `"l1"` absolute ones; `"lab"` is `"l2"` on CIE L*a*b*
        divided by 100; `"gradient"` adds 5 times the squared differences of the absolute horizontal and vertical
        derivatives of the intensity.
    image_mask : bool (1, H, W); pixels where it is `True` do not count in a distance.
    exemplar_mask : bool (1, h, w); patches that hold a pixel where it is `True` are never a match.
    transforms : names from `TRANSFORMS`: the exemplar is searched in these rotations and reflections too, and the result
        says which one was taken. `None` searches it as it is.
    start : field to begin with, of the result's shape; `None` draws matches at random.
    seed : of all random numbers. The result has the same bits for any number of threads.
    trace : keep the field of every iteration.
    method : `"kernel"`, compiled, or `"reference"`, one patch after the other in Python, for small pictures.

    Returns
    -------
    Match

    Raises
    ------
    ValueError : a picture, mask, field or parameter that does not fit.

    Notes
    -----
    With N patches, one iteration compares about (c + log₂ R) N pairs, R the larger side of the exemplar and c = 2, 16 or
    8 neighbours in the three schedules. Memory is 16 k bytes a patch for float32 (twice for jump flooding), and a copy
    of both pictures.

    References
    ----------
    Barnes, Shechtman, Finkelstein, Goldman, "PatchMatch", SIGGRAPH 2009. Barnes et al., "The Generalized PatchMatch
    Correspondence Algorithm", ECCV 2010 (k matches, transforms). Rong, Tan, "Jump Flooding in GPU", I3D 2006. Lecture
    part I, "PatchMatch: details"; thesis, Algorithm 4 (in place there, which races; here from one field into another).
    """
    validate_integer(iterations, name="iterations", minimum=0)
    validate_integer(k, name="k", minimum=1)
    validate_seed(seed)
    validate_choice(schedule, name="schedule", choices=SCHEDULES)
    seed = int(seed)        # a whole number of NumPy's has 64 bits, and the random numbers need more in between
    if isinstance(image, Tensor) and image.ndim == 4:
        return _each(patchmatch, image, exemplar, start, patch_size=patch_size, iterations=iterations, k=k,
                     schedule=schedule, metric=metric, image_mask=image_mask, exemplar_mask=exemplar_mask, transforms=transforms,
                     seed=seed, trace=trace, method=method)
    matching = describe_matching(image, exemplar, patch_size=patch_size, metric=metric, image_mask=image_mask,
                                 exemplar_mask=exemplar_mask, transforms=transforms, method=method)
    if start is None:
        field = random_field(matching, k=k, seed=seed)
    else:
        field = _given_start(start, image, exemplar, matching, k)
    histories, fields = [], []
    steps = iterate(matching, field, schedule=schedule, iterations=iterations, seed=seed)
    for field, distance in steps:
        histories.append(float((distance[0].double() * matching.scale).mean()))
        if trace:
            fields.append(_named(field, k, matching, exemplar)[0].clone())
    nnf, transform = _named(field, k, matching, exemplar)
    distance = distance[:, 0] * matching.scale
    return Match(nnf, distance if k > 1 else distance[0], patch_size, metric, schedule, seed, histories, fields, transform)


def exact_nnf(image: Tensor, exemplar: Tensor, *, patch_size: int, k: int = 1, metric: str = "l2",
              image_mask: Tensor | None = None, exemplar_mask: Tensor | None = None) -> Match:
    """The k nearest patches by comparing all pairs, in blocks.

    >>> exemplar = torch.rand((3, 20, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.patchmatch.exact_nnf(exemplar[:, 5:17, 3:19], exemplar, patch_size=5).nnf[:, 0, 0]
    tensor([5, 3], dtype=torch.int32)

    Parameters are those of `patchmatch`. Of equally near matches the first in reading order comes first.

    Returns
    -------
    Match

    Notes
    -----
    For `"l2"`, ‖p − q‖² = ‖p‖² − 2⟨p, q⟩ + ‖q‖² makes it a matrix product: 2 n² C operations a pair, so time grows with
    the square of the number of pixels. A block holds 2²⁴ distances, so memory does not. Distances are then computed
    again as sums of differences, since the product rounds where they are small.

    Raises
    ------
    ValueError : as `patchmatch`.
    """
    validate_integer(k, name="k", minimum=1)
    if isinstance(image, Tensor) and image.ndim == 4:
        return _each(exact_nnf, image, exemplar, None, patch_size=patch_size, k=k, metric=metric, image_mask=image_mask,
                     exemplar_mask=exemplar_mask)
    matching = describe_matching(image, exemplar, patch_size=patch_size, metric=metric, image_mask=image_mask,
                                 exemplar_mask=exemplar_mask, method="reference")
    queries, keys = (extract_patches(sheets[0].movedim(-1, 0), patch_size=patch_size)
                     for sheets in (matching.image, matching.exemplar))
    weights = None if matching.weights is None else extract_patches(matching.weights[0].movedim(-1, 0), patch_size=patch_size)
    valid = matching.valid[0].flatten()
    places = valid.nonzero()[:, 0]
    if len(places) < k:
        raise ValueError(f"k is {k} and the exemplar has {len(places)} patches to choose from; expected at most as many")
    keys = keys[places]
    centre = keys.mean(0)       # what both share costs digits in the product
    queries, keys = queries - centre, keys - centre
    size = max(1, BLOCK_VALUES // len(keys))
    found = []
    for i in range(0, len(queries), size):
        block, weight = queries[i:i + size], None if weights is None else weights[i:i + size]
        found.append(places[_nearest(block, keys, weight, k, matching.absolute)])
    index = torch.cat(found).T.sort(0).values.reshape(k, *matching.active.shape[1:])
    width = matching.valid.shape[-1]
    field = as_kernel_field(torch.stack([index // width, index % width], 1))
    distance = distances(replace(matching, method="kernel"), field)[:, 0]
    distance, order = distance.sort(dim=0, stable=True)
    nnf = torch.gather(field[:, 1:, 0], 0, order[:, None].expand(-1, 2, -1, -1))
    distance = distance * matching.scale
    mean = float(distance[0].double().mean())
    return Match(nnf if k > 1 else nnf[0], distance if k > 1 else distance[0], patch_size, metric, history=[mean])


def nnf_distance(image: Tensor, exemplar: Tensor, nnf: Tensor, *, patch_size: int, metric: str = "l2",
                 image_mask: Tensor | None = None, method: str = "kernel") -> Tensor:
    """The distance between every patch and the match that a field gives it.

    >>> nnf = torch.zeros((2, 2, 3), dtype=torch.int32)
    >>> labkit.patchmatch.nnf_distance(torch.ones(1, 3, 4), torch.zeros(1, 2, 2), nnf, patch_size=2)
    tensor([[4., 4., 4.],
            [4., 4., 4.]])

    Parameters
    ----------
    image, exemplar : (C, H, W), (C, h, w).
    nnf : (2, H', W') or (k, 2, H', W').
    patch_size, metric, image_mask : as in `patchmatch`.
    method : `"kernel"`, compiled, or `"reference"`.

    Returns
    -------
    Tensor (H', W') or (k, H', W'), float32 (float64 for float64 pictures).

    Raises
    ------
    ValueError : sizes that do not fit, or a match outside the exemplar.
    """
    matching = describe_matching(image, exemplar, patch_size=patch_size, metric=metric, image_mask=image_mask, method=method)
    whole = validate_field(nnf, image=image, exemplar=exemplar, patch_size=patch_size)
    distance = distances(matching, as_kernel_field(whole).to(image.device)) * matching.scale
    return distance[:, 0] if nnf.ndim == 4 else distance[0, 0]


# --- helpers --------------------------------------------------------------------------------------------------------

def _nearest(queries: Tensor, keys: Tensor, weights: Tensor | None, k: int, absolute: bool) -> Tensor:
    """The numbers of the k nearest keys of each query, (a, k)."""
    if absolute and weights is None:
        distance = torch.cdist(queries, keys, p=1)
    elif absolute:
        distance = sum(w[:, None] * (q[:, None] - key).abs() for q, key, w in zip(queries.T, keys.T, weights.T))
    elif weights is None:
        distance = torch.addmm(keys.square().sum(1), queries, keys.T, alpha=-2)
    else:       # Σ w (q − key)² without the term that all keys share
        distance = torch.addmm(weights @ keys.square().T, weights * queries, keys.T, alpha=-2)
    if k == 1:
        return distance.argmin(1, keepdim=True)
    return distance.topk(k, largest=False).indices


def _given_start(start: Tensor, image: Tensor, exemplar: Tensor, matching: Matching, k: int) -> Tensor:
    if matching.names is not None:
        raise ValueError("start and transforms were both given; expected one of them: a field does not say how its matches are turned")
    whole = validate_field(start, image=image, exemplar=exemplar, patch_size=matching.side, name="start")
    if whole.shape[0] != k or (k > 1) != (start.ndim == 4):
        raise ValueError(f"start is {describe(start)} and k is {k}; expected {'(2, H′, W′)' if k == 1 else f'({k}, 2, H′, W′)'}")
    field = as_kernel_field(whole).to(image.device)
    allowed = matching.valid[field[:, 0].long(), field[:, 1].long(), field[:, 2].long()]
    if not allowed.all():
        raise ValueError(f"start names {int((~allowed).sum())} matches that exemplar_mask excludes; expected none")
    width = exemplar.shape[-1]
    number = (whole[:, 0].long() * width + whole[:, 1]).sort(0).values
    if (number[1:] == number[:-1]).any():
        raise ValueError("start names the same match twice for one patch; expected k different ones")
    return field


def _named(field: Tensor, k: int, matching: Matching, exemplar: Tensor) -> tuple[Tensor, Tensor | None]:
    """The kernel's field as the public one, and the transforms."""
    transform = None
    if matching.names is None:
        nnf = field[:, 1:, 0].clone()
    else:
        nnf, transform = from_sheets(field, matching.names, size_of(exemplar), matching.side)
        transform = transform if k > 1 else transform[0]
    return (nnf if k > 1 else nnf[0]), transform


def _each(search: Callable[..., Match], image: Tensor, exemplar: Tensor, start: Tensor | None, **parameters) -> Match:
    """The search for every picture of a batch by itself, stacked."""
    if not isinstance(exemplar, Tensor) or exemplar.ndim not in (3, 4) \
            or exemplar.ndim == 4 and len(exemplar) != len(image):
        raise ValueError(f"image is {describe(image)} and exemplar {describe(exemplar)}; expected one exemplar (C, h, w), or one "
                         "for each picture, (N, C, h, w)")
    if len(image) == 0:
        raise ValueError(f"image is {describe(image)}, which has no pictures; expected at least one")
    if start is not None:
        if not isinstance(start, Tensor) or len(start) != len(image):
            raise ValueError(f"start is {describe(start)}; expected one field for each of the {len(image)} pictures, stacked")
        parameters["start"] = start
    found = [search(one, exemplar if exemplar.ndim == 3 else exemplar[i],
                    **(parameters if start is None else parameters | {"start": start[i]})) for i, one in enumerate(image)]
    history = [sum(values) / len(values) for values in zip(*(match.history for match in found))]
    fields = [torch.stack(step) for step in zip(*(match.fields for match in found))]
    transform = None if found[0].transform is None else torch.stack([match.transform for match in found])
    return replace(found[0], nnf=torch.stack([match.nnf for match in found]), history=history, fields=fields,
                   transform=transform, distance=torch.stack([match.distance for match in found]))
