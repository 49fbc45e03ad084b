"""Nearest-neighbour fields: what they are, how they are measured, moved between scales and turned into a picture.

A field ψ says for every whole patch of an image, named by its first (top-left) pixel, where in the exemplar its match
begins: an int32 tensor (2, H − n + 1, W − n + 1) of absolute (row, column), or (k, 2, …) for k matches, nearest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.kernels import available, run
from labkit.runtime import generator
from labkit.validation import (describe, validate_choice, validate_image, validate_integer, validate_mask,
                               validate_patch_size, validate_size)

TRANSFORMS = ("identity", "rotate_90", "rotate_180", "rotate_270",
              "flip", "flip_rotate_90", "flip_rotate_180", "flip_rotate_270")


@dataclass(frozen=True)
class Match:
    """A nearest-neighbour field with its distances.

    Attributes
    ----------
    nnf : int32 (2, H', W'), or (k, 2, H', W') for k > 1, nearest first; H' = H − n + 1, W' = W − n + 1.
    distance : (H', W') or (k, H', W'), the sum over the patch and the channels of squared (metric `"l1"`: absolute)
        differences; where pixels of the image are masked, the sum over the others, scaled up to a whole patch.
    history : mean distance of the start and after each iteration.
    fields : the field of the start and after each iteration, where a trace was asked for.
    transform : int8, of the shape of `distance`, the number in `TRANSFORMS` of what was done to the exemplar, where that
        was asked for: the match is the square of side n at `nnf`, seen in the transformed exemplar.
    patch_size, schedule, metric, seed : as they were given.
    """

    nnf: Tensor
    distance: Tensor
    patch_size: int
    metric: str = "l2"
    schedule: str = "exact"
    seed: int = 0
    history: list[float] = field(default_factory=list)
    fields: list[Tensor] = field(default_factory=list, repr=False)
    transform: Tensor | None = None


# --- fields ---------------------------------------------------------------------------------------------------------

def random_nnf(image: Tensor, exemplar: Tensor, *, patch_size: int, exemplar_mask: Tensor | None = None,
               seed: int = 0) -> Tensor:
    """A match for every patch of the image, drawn alike from all patches of the exemplar.

    Parameters
    ----------
    image, exemplar : (C, H, W), (C, h, w); only their sizes matter.
    patch_size : side n of a patch, in pixels.
    exemplar_mask : bool (1, h, w); patches that hold a pixel where it is `True` are left out.
    seed : of the random numbers.

    Returns
    -------
    int32 tensor (2, H − n + 1, W − n + 1), on the image's device.

    Raises
    ------
    ValueError : a patch does not fit, or the mask leaves none.
    """
    validate_patches(image, exemplar, patch_size, batch=False)
    size = tuple(side - patch_size + 1 for side in image.shape[-2:])
    valid = whole_patches(exemplar, patch_size, exemplar_mask)
    return draw(valid[None], size, k=1, seed=seed).to(image.device)[0, 1:, 0]


def shift_map(nnf: Tensor) -> Tensor:
    """How far each match lies from its patch: ψ(x) − x, in pixels, as float32 of the field's shape.

    Neighbouring patches mostly have neighbouring matches, so this map is nearly constant by pieces.
    """
    validate_field(nnf)
    return (nnf - positions(nnf)).float()


def upsample_nnf(nnf: Tensor, *, patch_size: int, image_size: tuple[int, int], exemplar_size: tuple[int, int],
                 coarse_exemplar_size: tuple[int, int]) -> Tensor:
    """The field between two finer pictures that a field between coarser ones suggests.

    A fine patch takes the match of the coarse patch whose centre is nearest, scaled, plus what its own centre is away
    from that one: ψ(2x + δ) = 2 ψ(x) + δ for a ratio of 2, and the same for any ratio.

    Parameters
    ----------
    nnf : (2, H', W') or (k, 2, H', W') of the coarse pictures.
    patch_size : side of a patch, the same at both scales.
    image_size, exemplar_size : (height, width) of the fine pictures.
    coarse_exemplar_size : (height, width) of the coarse exemplar.

    Returns
    -------
    int32 field of the fine pictures; matches are moved inside the exemplar.

    Raises
    ------
    ValueError : no field, or a patch that does not fit in one of the pictures.
    """
    validate_field(nnf, patch_size=patch_size)
    for size, name in ((image_size, "image_size"), (exemplar_size, "exemplar_size"),
                       (coarse_exemplar_size, "coarse_exemplar_size")):
        validate_size(size, name=name, minimum=patch_size)
    whole = as_kernel_field(nnf.reshape(-1, *nnf.shape[-3:]))
    found, _ = carried_over(whole, patch_size=patch_size, size=image_size, exemplar_size=exemplar_size,
                            coarse_size=tuple(side + patch_size - 1 for side in nnf.shape[-2:]),
                            coarse_exemplar_size=coarse_exemplar_size)
    return found[:, 1:, 0].reshape(*nnf.shape[:-2], *found.shape[-2:])


def nnf_distance(image: Tensor, exemplar: Tensor, nnf: Tensor, *, patch_size: int, metric: str = "l2",
                 image_mask: Tensor | None = None, method: str = "kernel") -> Tensor:
    """The distance between every patch and the match that a field gives it.

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
    from labkit.patchmatch.search import describe_problem

    problem = describe_problem(image, exemplar, patch_size=patch_size, metric=metric, image_mask=image_mask, method=method)
    whole = validate_field(nnf, image=image, exemplar=exemplar, patch_size=patch_size)
    distance = problem.distances(as_kernel_field(whole).to(image.device)) * problem.scale
    return distance[:, 0] if nnf.ndim == 4 else distance[0, 0]


def reconstruct(nnf: Tensor, exemplar: Tensor, *, patch_size: int, weights: Tensor | None = None,
                transform: Tensor | None = None, method: str = "kernel") -> Tensor:
    """A picture made of the exemplar's patches by voting: each pixel is the mean of what the matches say about it.

    û(x) = Σ w(p) ũ(ψ(p) + x − p) / Σ w(p), the sums over the patches p that hold x (and their k matches).

    Parameters
    ----------
    nnf : (2, H', W') or (k, 2, H', W').
    exemplar : (C, h, w).
    patch_size : side n of a patch.
    weights : (H', W') or (k, H', W'), at least 0; `None` counts all alike.
    transform : int8 of the same shape, numbers in `TRANSFORMS`, as a `Match` holds them.
    method : `"kernel"`, compiled, or `"reference"`.

    Returns
    -------
    Tensor (C, H, W) with H = H' + n − 1 and W = W' + n − 1, of the dtype and device of the exemplar.

    Raises
    ------
    ValueError : sizes that do not fit, a match outside the exemplar, or a pixel whose weights are all 0.

    References
    ----------
    Lecture part I, "PatchMatch: details". Thesis, eq. III.4.
    """
    validate_image(exemplar, name="exemplar", batch=False)
    whole = validate_field(nnf, exemplar=exemplar, patch_size=patch_size)
    shape = (*whole.shape[:1], *whole.shape[2:])
    if weights is not None:
        if not isinstance(weights, Tensor) or weights.is_complex() or weights.shape[-2:] != nnf.shape[-2:] \
                or weights.numel() != whole[:, 0].numel():
            raise ValueError(f"weights is {describe(weights)}; expected a tensor {tuple(nnf[..., 0, :, :].shape)}")
        low, high = map(float, torch.aminmax(weights.detach()))
        if not 0 <= low <= high < float("inf"):
            raise ValueError(f"weights lies in [{low:.3g}, {high:.3g}]; expected finite values, none below 0")
        weights = weights.reshape(shape)
    if transform is not None:
        shape_of_one = tuple(nnf[..., 0, :, :].shape)
        if not isinstance(transform, Tensor) or tuple(transform.shape) != shape_of_one or transform.is_floating_point() \
                or not 0 <= int(transform.min()) <= int(transform.max()) < len(TRANSFORMS):
            raise ValueError(f"transform is {describe(transform)}; expected whole numbers {shape_of_one} from 0 to "
                             f"{len(TRANSFORMS) - 1}")
    validate_choice(method, name="method", choices=("kernel", "reference"))
    working = exemplar if exemplar.dtype in (torch.float32, torch.float64) else exemplar.float()
    field_of_sheets = as_kernel_field(whole)
    sheets = working[None]
    if transform is not None:
        names = tuple(TRANSFORMS[i] for i in transform.unique().tolist())
        sheets = transformed(working, names)
        field_of_sheets = to_sheets(whole, transform.reshape(shape), names, exemplar.shape[-2:], patch_size)
    size = tuple(side + patch_size - 1 for side in whole.shape[-2:])
    wanted = torch.ones((1, *size), dtype=torch.bool, device=exemplar.device)
    voted = vote(channels_last(sheets), field_of_sheets.to(exemplar.device), wanted, depth=1, side=patch_size,
                 method=method,
                 weights=None if weights is None else weights[:, None].to(working))
    if weights is not None and not torch.isfinite(voted).all():
        lost = int((~torch.isfinite(voted[0, :, :, 0])).sum())
        raise ValueError(f"weights are 0 in all patches of {lost} pixels; expected a patch of positive weight for each")
    return voted[0].movedim(-1, 0).contiguous().to(exemplar.dtype)


# --- what the modules of this folder share --------------------------------------------------------------------------
# Inside, pictures are videos with channels last, (T, H, W, C) and contiguous, as kernels read them; an exemplar has sheets
# (or frames) instead of frames, (S, h, w, C); fields are (k, 3, T', H', W') of (sheet, row, column).

def vote(exemplar: Tensor, field_: Tensor, wanted: Tensor, *, depth: int, side: int, weights: Tensor | None = None,
         method: str = "kernel") -> Tensor:
    """The video (T, H, W, C) that a field makes of an exemplar (S, h, w, C); pixels not `wanted` (T, H, W) are 0."""
    channels = exemplar.shape[-1]
    if method == "kernel" and available():
        out = exemplar.new_zeros(*wanted.shape[:2], wanted.shape[2] * channels)
        run("patchmatch", "vote", exemplar.flatten(2), field_.contiguous(),
            None if weights is None else weights.contiguous(),
            wanted.contiguous().view(torch.uint8), out, depth, side, channels)
        return out.reshape(*wanted.shape, channels)
    k, _, *starts = field_.shape
    weights = exemplar.new_ones(k, *starts) if weights is None else weights
    total, norm = exemplar.new_zeros(*wanted.shape, channels), exemplar.new_zeros(*wanted.shape, 1)
    for a in range(depth):
        for b in range(side):
            for c in range(side):
                window = (slice(a, a + starts[0]), slice(b, b + starts[1]), slice(c, c + starts[2]))
                for match, weight in zip(field_.long(), weights[..., None]):
                    total[window] += weight * exemplar[match[0] + a, match[1] + b, match[2] + c]
                    norm[window] += weight
    return torch.where(wanted[..., None], total / norm, 0)


def channels_last(video: Tensor) -> Tensor:
    """(T, C, H, W) as (T, H, W, C), contiguous."""
    return video.detach().movedim(1, -1).contiguous()


def carried_over(found: Tensor, *, patch_size: int, size: tuple[int, int], coarse_size: tuple[int, int],
                 exemplar_size: tuple[int, int], coarse_exemplar_size: tuple[int, int]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A field (k, 3, T', H', W') of coarse pictures as one of finer pictures (thesis, eq. III.6), moved inside the
    exemplar; and the coarse (rows (H', 1), columns (W',)) that the fine patches were nearest to."""
    axes = [_nearest_coarse(fine, coarse, patch_size, found.device) for fine, coarse in zip(size, coarse_size)]
    (rows, row_rest), (columns, column_rest) = axes
    rows, row_rest = rows[:, None], row_rest[:, None]
    moved = found[..., rows, columns].double()
    for axis, rest in enumerate((row_rest, column_rest)):
        centre = (moved[:, 1 + axis] + patch_size / 2) * exemplar_size[axis] / coarse_exemplar_size[axis] + rest
        moved[:, 1 + axis] = (centre - patch_size / 2).round().clamp(0, exemplar_size[axis] - patch_size)
    return moved.int().contiguous(), (rows, columns)


def _nearest_coarse(fine: int, coarse: int, patch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one axis of `fine` pixels: for every patch the one of the coarse picture whose centre is nearest, and how far
    in fine pixels its own centre lies beyond that one."""
    centre = torch.arange(fine - patch_size + 1, dtype=torch.float64, device=device) + patch_size / 2
    nearest = (centre * coarse / fine - patch_size / 2).round().clamp(0, coarse - patch_size).long()
    return nearest, centre - (nearest + patch_size / 2) * fine / coarse


def upper_quartile(distance: Tensor) -> Tensor:
    """The distance that a quarter of the matches exceed, a typical one."""
    return distance.flatten().sort().values[3 * distance.numel() // 4]


def likelihood(distance: Tensor, variance: Tensor | float) -> Tensor:
    """How much a match at distance d counts in a vote: exp(−d / 2σ²), σ² the variance; never 0, for pixels without better."""
    return torch.exp(-distance / (2 * variance)).clamp(min=1e-30)


def positions(nnf: Tensor) -> Tensor:
    """The (row, column) of every patch of a field itself: int32 (2, H', W')."""
    rows, columns = (torch.arange(side, dtype=torch.int32, device=nnf.device) for side in nnf.shape[-2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def as_kernel_field(nnf: Tensor) -> Tensor:
    """(k, 2, H', W') of (row, column) as (k, 3, 1, H', W') of (0, row, column)."""
    return F.pad(nnf, (0, 0, 0, 0, 1, 0))[:, :, None].int().contiguous()


def whole_patches(exemplar: Tensor, patch_size: int, mask: Tensor | None) -> Tensor:
    """Where a patch begins that holds no masked pixel: bool (h − n + 1, w − n + 1)."""
    if mask is None:
        return torch.ones([side - patch_size + 1 for side in exemplar.shape[-2:]], dtype=torch.bool, device=exemplar.device)
    validate_mask(mask, exemplar, name="exemplar_mask")
    valid = F.max_pool2d(mask.float().to(exemplar.device), patch_size, stride=1)[0] == 0
    if not valid.any():
        raise ValueError(f"exemplar_mask leaves no whole patch of side {patch_size} in an exemplar of "
                         f"{exemplar.shape[-2]}×{exemplar.shape[-1]} pixels; expected at least one")
    return valid


def draw(valid: Tensor, size: tuple[int, ...], *, k: int, seed: int) -> Tensor:
    """k different matches for each patch, all valid places alike: int32 (k, 3, 1, H', W') for a size (H', W')."""
    places = valid.cpu().nonzero().int()
    if len(places) < k:
        raise ValueError(f"k is {k} and the exemplar has {len(places)} patches to choose from; expected at most as many")
    size = size if len(size) == 3 else (1, *size)
    first = torch.randint(len(places), size, generator=generator(seed))
    chosen = torch.stack([(first + i * (len(places) // k)) % len(places) for i in range(k)])
    drawn = places[chosen].movedim(-1, 1)
    return (drawn if drawn.ndim == 5 else drawn[:, :, None]).contiguous()


def transformed(exemplar: Tensor, names: tuple[str, ...]) -> Tensor:
    """The exemplar (C, h, w) rotated and flipped, one sheet for each name, filled up to a square with zeros."""
    side = max(exemplar.shape[-2:]) if any("90" in name or "270" in name for name in names) else None
    sheets = []
    for name in names:
        sheet = exemplar.flip(-1) if "flip" in name else exemplar
        turns = TRANSFORMS.index(name) % 4
        sheet = torch.rot90(sheet, turns, (-2, -1))
        sheets.append(sheet if side is None else F.pad(sheet, (0, side - sheet.shape[-1], 0, side - sheet.shape[-2])))
    return torch.stack(sheets)


def _places(size: tuple[int, int], names: tuple[str, ...]) -> Tensor:
    """For every pixel of every sheet its number in the exemplar, from 0, row by row; -1 where a sheet was filled up."""
    number = torch.arange(size[0] * size[1], dtype=torch.float64).reshape(1, *size) + 1
    return transformed(number, names)[:, 0].long() - 1


def from_sheets(field_: Tensor, names: tuple[str, ...], size: tuple[int, int], patch_size: int) -> tuple[Tensor, Tensor]:
    """A field of (sheet, row, column) as the squares (k, 2, H', W') of the exemplar, and their transforms."""
    places = _places(size, names).to(field_.device)
    sheet, row, column = field_[:, :, 0].long().unbind(1)
    first, last = places[sheet, row, column], places[sheet, row + patch_size - 1, column + patch_size - 1]
    nnf = torch.stack([torch.minimum(first // size[1], last // size[1]), torch.minimum(first % size[1], last % size[1])], 1)
    numbers = torch.tensor([TRANSFORMS.index(name) for name in names], dtype=torch.int8, device=field_.device)
    return nnf.int(), numbers[sheet]


def to_sheets(nnf: Tensor, transform: Tensor, names: tuple[str, ...], size: tuple[int, int], patch_size: int) -> Tensor:
    """The inverse of `from_sheets`."""
    places = _places(size, names)
    height, width = places.shape[1:]
    seen = torch.empty(len(names), size[0] * size[1], dtype=torch.long)
    for number, sheet in enumerate(places.flatten(1)):
        inside = sheet >= 0
        seen[number, sheet[inside]] = inside.nonzero()[:, 0]
    of = torch.full((len(TRANSFORMS),), -1, dtype=torch.long)
    for number, name in enumerate(names):
        of[TRANSFORMS.index(name)] = number
    sheet, (row, column) = of[transform.cpu().long()], nnf.cpu().long().unbind(1)
    last = patch_size - 1
    first, last = seen[sheet, row * size[1] + column], seen[sheet, (row + last) * size[1] + column + last]
    found = [sheet, torch.minimum(first // width, last // width), torch.minimum(first % width, last % width)]
    return torch.stack(found, 1)[:, :, None].int().contiguous()


def validate_patches(image: Tensor, exemplar: Tensor, patch_size: int, *, batch: bool = True,
                     names: tuple[str, str] = ("image", "exemplar")) -> None:
    """Refuse two pictures between which patches cannot be compared."""
    for one, name in zip((image, exemplar), names):
        validate_image(one, name=name, batch=batch)
        validate_patch_size(patch_size, one, name=name)
    if image.shape[-3] != exemplar.shape[-3]:
        raise ValueError(f"{names[0]} has {image.shape[-3]} channels and {names[1]} {exemplar.shape[-3]}; expected the same number")
    if (image.dtype, image.device) != (exemplar.dtype, exemplar.device):
        raise ValueError(f"{names[0]} is {image.dtype} on {image.device} and {names[1]} {exemplar.dtype} on {exemplar.device}; "
                         "expected the same dtype and device")


def validate_field(nnf: Tensor, *, image: Tensor | None = None, exemplar: Tensor | None = None,
                   patch_size: int | None = None, name: str = "nnf") -> Tensor:
    """Refuse what is no field of these pictures; returns it as (k, 2, H', W')."""
    expected = "expected an int32 tensor (2, H − n + 1, W − n + 1), or (k, 2, …) for k matches"
    if not isinstance(nnf, Tensor) or nnf.ndim not in (3,
                                                       4) or nnf.shape[-3] != 2 or nnf.is_floating_point() or nnf.is_complex() \
            or nnf.dtype == torch.bool or nnf.numel() == 0:
        raise ValueError(f"{name} is {describe(nnf)}; {expected}")
    if patch_size is not None:
        validate_integer(patch_size, name="patch_size", minimum=1)
    if image is not None:
        size = tuple(side - patch_size + 1 for side in image.shape[-2:])
        if tuple(nnf.shape[-2:]) != size:
            raise ValueError(f"{name} is {describe(nnf)}; expected (2, {size[0]}, {size[1]}): one match for every patch of "
                             f"side {patch_size} of an image of {image.shape[-2]}×{image.shape[-1]} pixels")
    if exemplar is not None:
        validate_patch_size(patch_size, exemplar, name="exemplar")
        last = [side - patch_size for side in exemplar.shape[-2:]]
        low, high = nnf.amin((-2, -1)).reshape(-1, 2).amin(0).tolist(), nnf.amax((-2, -1)).reshape(-1, 2).amax(0).tolist()
        if min(low) < 0 or high[0] > last[0] or high[1] > last[1]:
            raise ValueError(f"{name} names matches from {tuple(low)} to {tuple(high)}; expected (0, 0) to {tuple(last)}, where a "
                             f"patch of side {patch_size} lies inside the exemplar of {exemplar.shape[-2]}×{exemplar.shape[-1]} pixels")
    return nnf.reshape(-1, *nnf.shape[-3:]).int()
