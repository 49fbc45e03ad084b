"""The search for nearest patches: PatchMatch in three schedules, and exhaustively."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.images import to_grey, to_lab
from labkit.kernels import available, run
from labkit.patches import extract_patches
from labkit.patchmatch import reference
from labkit.patchmatch.fields import (TRANSFORMS, Match, as_kernel_field, channels_last, draw, from_sheets,
                                      transformed, validate_field, validate_patches, whole_patches)
from labkit.runtime import seed_of
from labkit.validation import describe, validate_choice, validate_integer, validate_mask

METRICS = ("l2", "l1", "lab", "gradient")
SCHEDULES = ("sequential", "jump_flooding", "red_black")
GRADIENT_WEIGHT = 5.0           # the α of thesis III.4.1
JUMPS = (8, 4, 2, 1)            # the thesis's Algorithm 4 goes 1, 2, 4, 8; far first leaves less to the next iteration
RED_BLACK_STEPS = (1, 3)        # odd: a neighbour so far away has the other colour
BLOCK_VALUES = 2 ** 24          # exhaustive search: distances held at once, 64 MB


def patchmatch(image: Tensor, exemplar: Tensor, *, patch_size: int = 7, iterations: int = 5, k: int = 1,
               schedule: str = "sequential", metric: str = "l2", image_mask: Tensor | None = None,
               exemplar_mask: Tensor | None = None, transforms: tuple[str, ...] | None = None,
               start: Tensor | None = None, seed: int = 0, trace: bool = False, method: str = "kernel") -> Match:
    """For every patch of the image a near patch of the exemplar, by propagation and random search.

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
    validate_integer(seed, name="seed", minimum=0)
    validate_choice(schedule, name="schedule", choices=SCHEDULES)
    seed = int(seed)        # a whole number of NumPy's has 64 bits, and the random numbers need more in between
    if isinstance(image, Tensor) and image.ndim == 4:
        return _each(patchmatch, image, exemplar, start, patch_size=patch_size, iterations=iterations, k=k,
                     schedule=schedule,
                     metric=metric, image_mask=image_mask, exemplar_mask=exemplar_mask, transforms=transforms, seed=seed,
                     trace=trace, method=method)
    problem = describe_problem(image, exemplar, patch_size=patch_size, metric=metric, image_mask=image_mask,
                               exemplar_mask=exemplar_mask, transforms=transforms, method=method)
    if start is None:
        field = draw(problem.valid, problem.active.shape, k=k, seed=seed).to(image.device)
    else:
        field = _given_start(start, image, exemplar, problem, k)
    histories, fields = [], []
    steps = problem.iterate(field, schedule=schedule, iterations=iterations, seed=seed)
    for field, distance in steps:
        histories.append(float((distance[0].double() * problem.scale).mean()))
        if trace:
            fields.append(_named(field, k, problem, exemplar)[0].clone())
    nnf, transform = _named(field, k, problem, exemplar)
    distance = distance[:, 0] * problem.scale
    return Match(nnf, distance if k > 1 else distance[0], patch_size, metric, schedule, seed, histories, fields, transform)


def exact_nnf(image: Tensor, exemplar: Tensor, *, patch_size: int, k: int = 1, metric: str = "l2",
              image_mask: Tensor | None = None, exemplar_mask: Tensor | None = None) -> Match:
    """The k nearest patches by comparing all pairs, in blocks.

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
    problem = describe_problem(image, exemplar, patch_size=patch_size, metric=metric, image_mask=image_mask,
                               exemplar_mask=exemplar_mask, method="reference")
    queries, keys = (extract_patches(sheets[0].movedim(-1, 0), patch_size=patch_size)
                     for sheets in (problem.image, problem.exemplar))
    weights = None if problem.weights is None else extract_patches(problem.weights[0].movedim(-1, 0), patch_size=patch_size)
    valid = problem.valid[0].flatten()
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
        found.append(places[_nearest(block, keys, weight, k, problem.absolute)])
    index = torch.cat(found).T.sort(0).values.reshape(k, *problem.active.shape[1:])
    width = problem.valid.shape[-1]
    field = as_kernel_field(torch.stack([index // width, index % width], 1))
    distance = replace(problem, method="kernel").distances(field)[:, 0]
    distance, order = distance.sort(dim=0, stable=True)
    nnf = torch.gather(field[:, 1:, 0], 0, order[:, None].expand(-1, 2, -1, -1))
    distance = distance * problem.scale
    mean = float(distance[0].double().mean())
    return Match(nnf if k > 1 else nnf[0], distance if k > 1 else distance[0], patch_size, metric, history=[mean])


# --- the problem as kernels and references read it --------------------------------------------------------------------

@dataclass(frozen=True)
class Problem:
    """What is compared with what, in the kernels' layout: contiguous videos with channels last, masks, sizes.

    Attributes
    ----------
    image (T, H, W, C), exemplar (S, h, w, C) : features between which the distance is a plain ℓ2 or ℓ1.
    valid : bool (S', h', w'), where a match may begin. active : bool (T', H', W'), where one is wanted.
    weights : of the image's shape, or `None`.
    prices : (2, S', h', w') or `None`: gain g > 0 and bias b of every patch of the exemplar, whose distance is then g · d + b.
    scale : (H', W') or 1.0, from the sum over the pixels that count to that over a whole patch.
    depth, side : of a patch, in frames and pixels. absolute : ℓ1 instead of ℓ2.
    names : transforms of the exemplar's sheets, or `None`.
    method : `"kernel"`, where there are kernels, or `"reference"`.
    """

    image: Tensor
    exemplar: Tensor
    valid: Tensor
    active: Tensor
    depth: int
    side: int
    absolute: bool = False
    weights: Tensor | None = None
    prices: Tensor | None = None
    scale: Tensor | float = 1.0
    names: tuple[str, ...] | None = None
    method: str = "kernel"

    @property
    def compiled(self) -> bool:
        return self.method == "kernel" and available()

    def distances(self, field: Tensor) -> Tensor:
        """Those of a field (k, 3, T', H', W'), as (k, T', H', W'); 0 where no match is wanted."""
        distance = self.image.new_zeros(field.shape[0], *field.shape[2:])
        if not self.compiled:
            return reference.distances(self, field, distance)
        image, exemplar, weights, _, prices, active = self._arrays()
        run("patchmatch", "distances", image, exemplar, weights, prices, active, field, distance, self.depth, self.side,
            self.absolute)
        return distance

    def iterate(self, field: Tensor, *, schedule: str, iterations: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (field, distance) of the start and after each iteration; they are changed by the next one."""
        distance = self.distances(field)
        if len(field) > 1:
            distance, order = distance.sort(dim=0, stable=True)
            field = torch.gather(field, 0, order[:, None].expand_as(field))
        yield field, distance
        for number in range(1, iterations + 1):
            arguments = field, distance, schedule, number, seed_of(seed, number)
            field, distance = self._iteration(*arguments) if self.compiled else reference.iteration(self, *arguments)
            yield field, distance

    def searched(self, field: Tensor, *, iterations: int, seed: int, schedule: str = "sequential") -> tuple[Tensor, Tensor]:
        """The field and its distances after some iterations."""
        *_, last = self.iterate(field, schedule=schedule, iterations=iterations, seed=seed)
        return last

    def _iteration(self, field: Tensor, distance: Tensor, schedule: str, number: int, key: int) -> tuple[Tensor, Tensor]:
        pictures, patch = self._arrays(), (self.depth, self.side, self.absolute)
        radius = max(self.exemplar.shape[:3])
        if schedule == "sequential":
            run("patchmatch", "sequential", *pictures, field, distance, *patch, 1 if number % 2 else -1, radius, key)
            return field, distance
        if schedule == "jump_flooding":
            for jump in JUMPS:
                other, other_distance = torch.empty_like(field), torch.empty_like(distance)
                run("patchmatch", "jump_flooding", *pictures, field, distance, other, other_distance, *patch, jump)
                field, distance = other, other_distance
        else:
            for jump in RED_BLACK_STEPS:
                for color in (0, 1):
                    run("patchmatch", "red_black", *pictures, field, distance, *patch, jump, color)
        run("patchmatch", "random_search", *pictures, field, distance, *patch, radius, key)
        return field, distance

    def _arrays(self) -> tuple[Tensor | None, ...]:
        """The tensors as kernels take them, without copies."""
        return (self.image.flatten(2), self.exemplar.flatten(2), None if self.weights is None else self.weights.flatten(2),
                self.valid.view(torch.uint8), self.prices, self.active.view(torch.uint8))


def describe_problem(image: Tensor, exemplar: Tensor, *, patch_size: int, metric: str, image_mask: Tensor | None = None,
                     exemplar_mask: Tensor | None = None, transforms: tuple[str, ...] | None = None,
                     method: str = "kernel") -> Problem:
    """The problem for two pictures, validated."""
    validate_patches(image, exemplar, patch_size, batch=False)
    validate_choice(metric, name="metric", choices=METRICS)
    validate_choice(method, name="method", choices=("kernel", "reference"))
    if metric == "lab" and image.shape[0] != 3:
        raise ValueError(f"metric is 'lab' and image has {image.shape[0]} channels; expected 3, red, green and blue")
    valid = whole_patches(exemplar, patch_size, exemplar_mask)[None]
    sheets = features(exemplar, metric, exemplar_mask)[None]
    if transforms is not None:
        transforms = _validated_transforms(transforms)
        # Derivatives are taken after the picture is turned: horizontal and vertical change places with it.
        height, width = exemplar.shape[-2:]
        inside = transformed(exemplar.new_ones(1, height, width), transforms)
        if exemplar_mask is not None:
            inside = inside * transformed((~exemplar_mask).to(exemplar), transforms)
        valid = F.max_pool2d(1 - inside, patch_size, stride=1)[:, 0] == 0
        masks = [None if exemplar_mask is None else _turned(exemplar_mask, name) for name in transforms]
        sheets = torch.stack([_filled(features(_turned(exemplar, name), metric, mask), inside.shape[-2:])
                              for name, mask in zip(transforms, masks)])
    weights, scale = None, 1.0
    if image_mask is not None:
        validate_mask(image_mask, image, name="image_mask")
        known = (~image_mask).to(sheets)
        share = F.avg_pool2d(known.double(), patch_size, stride=1)[0]
        scale = torch.where(share > 0, 1 / share.clamp(min=1 / (2 * patch_size ** 2)), 1.0).to(sheets)
        weights = channels_last(known.expand(sheets.shape[1], -1, -1)[None])
    of_image = features(image, metric, image_mask)[None]
    active = torch.ones([1] + [side - patch_size + 1 for side in image.shape[-2:]], dtype=torch.bool, device=image.device)
    return Problem(channels_last(of_image), channels_last(sheets), valid.contiguous(), active, 1, patch_size, metric == "l1",
                   weights, None, scale, transforms, method)


def features(image: Tensor, metric: str, mask: Tensor | None = None) -> Tensor:
    """The picture (…, C, H, W) as channels between which the metric is a plain sum, float32 or float64.

    No derivative looks at another pixel where `mask` (1, H, W) is `True`.
    """
    working = (image if image.dtype in (torch.float32, torch.float64) else image.float()).detach()
    if metric == "lab":
        return to_lab(working) / 100
    if metric == "gradient":
        intensity = to_grey(working) if working.shape[-3] == 3 else working.mean(-3, keepdim=True)
        down, across = (_derivative(intensity, axis, mask).abs() for axis in (-2, -1))
        return torch.cat([working, math.sqrt(GRADIENT_WEIGHT) * down, math.sqrt(GRADIENT_WEIGHT) * across], -3)
    return working


# --- helpers --------------------------------------------------------------------------------------------------------

def _derivative(intensity: Tensor, axis: int, mask: Tensor | None) -> Tensor:
    """Central differences; a neighbour beyond the border, or masked, counts as the pixel itself."""
    size = intensity.shape[axis]
    before, after = ((torch.arange(size, device=intensity.device) + step).clamp(0, size - 1) for step in (-1, 1))
    first, second = intensity.index_select(axis, before), intensity.index_select(axis, after)
    if mask is not None:
        mask = mask.to(intensity.device)
        first = torch.where(mask.index_select(axis, before), intensity, first)
        second = torch.where(mask.index_select(axis, after), intensity, second)
    return (second - first) / 2


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


def _given_start(start: Tensor, image: Tensor, exemplar: Tensor, problem: Problem, k: int) -> Tensor:
    if problem.names is not None:
        raise ValueError("start and transforms were both given; expected one of them: a field does not say how its matches are turned")
    whole = validate_field(start, image=image, exemplar=exemplar, patch_size=problem.side, name="start")
    if whole.shape[0] != k or (k > 1) != (start.ndim == 4):
        raise ValueError(f"start is {describe(start)} and k is {k}; expected {'(2, H′, W′)' if k == 1 else f'({k}, 2, H′, W′)'}")
    field = as_kernel_field(whole).to(image.device)
    allowed = problem.valid[field[:, 0].long(), field[:, 1].long(), field[:, 2].long()]
    if not allowed.all():
        raise ValueError(f"start names {int((~allowed).sum())} matches that exemplar_mask excludes; expected none")
    width = exemplar.shape[-1]
    number = (whole[:, 0].long() * width + whole[:, 1]).sort(0).values
    if (number[1:] == number[:-1]).any():
        raise ValueError("start names the same match twice for one patch; expected k different ones")
    return field


def _named(field: Tensor, k: int, problem: Problem, exemplar: Tensor) -> tuple[Tensor, Tensor | None]:
    """The kernel's field as the public one, and the transforms."""
    transform = None
    if problem.names is None:
        nnf = field[:, 1:, 0].clone()
    else:
        nnf, transform = from_sheets(field, problem.names, tuple(exemplar.shape[-2:]), problem.side)
        transform = transform if k > 1 else transform[0]
    return (nnf if k > 1 else nnf[0]), transform


def _validated_transforms(transforms: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(transforms, (tuple, list)) or not transforms or len(set(map(str, transforms))) != len(transforms):
        raise ValueError(f"transforms is {describe(transforms)}; expected different names from {', '.join(TRANSFORMS)}")
    for name in transforms:
        validate_choice(name, name="transforms", choices=TRANSFORMS)
    return tuple(transforms)


def _turned(exemplar: Tensor, name: str) -> Tensor:
    return torch.rot90(exemplar.flip(-1) if "flip" in name else exemplar, TRANSFORMS.index(name) % 4, (-2, -1))


def _filled(sheet: Tensor, size: tuple[int, int]) -> Tensor:
    return F.pad(sheet, (0, size[1] - sheet.shape[-1], 0, size[0] - sheet.shape[-2]))


def _each(search, image: Tensor, exemplar: Tensor, start: Tensor | None, **parameters) -> Match:
    """The search for every picture of a batch by itself, stacked."""
    if not isinstance(exemplar, Tensor) or exemplar.ndim not in (3,
                                                                 4) or exemplar.ndim == 4 and len(exemplar) != len(image):
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
                   transform=transform,
                   distance=torch.stack([match.distance for match in found]))
