"""A picture out of a field: every pixel is the mean of what the matches of the patches that hold it say about it."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.filtering.arrays import as_floats
from labkit.kernels import available, run
from labkit.patchmatch.fields import as_kernel_field, channels_last, validate_field
from labkit.patchmatch.sheets import TRANSFORMS, to_sheets, transformed
from labkit.validation import describe, size_of, validate_choice, validate_image

__all__ = ["reconstruct", "vote", "vote_of_middles"]

SHARP = 3                   # side of what votes for the last picture: whole patches blur, single pixels show seams


def reconstruct(nnf: Tensor, exemplar: Tensor, *, patch_size: int, weights: Tensor | None = None,
                transform: Tensor | None = None, method: str = "kernel") -> Tensor:
    """A picture made of the exemplar's patches by voting: each pixel is the mean of what the matches say about it.

    >>> exemplar = torch.arange(4.0).expand(1, 3, 4)
    >>> nnf = torch.zeros((2, 2, 3), dtype=torch.int32)       # every patch takes the first one
    >>> labkit.patchmatch.reconstruct(nnf, exemplar, patch_size=2)[0, 0]
    tensor([0.0000, 0.5000, 0.5000, 1.0000])

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
    working = as_floats(exemplar)
    field_of_sheets = as_kernel_field(whole)
    sheets = working[None]
    if transform is not None:
        names = tuple(TRANSFORMS[i] for i in transform.unique().tolist())
        sheets = transformed(working, names)
        field_of_sheets = to_sheets(whole, transform.reshape(shape), names, size_of(exemplar), patch_size)
    size = tuple(side + patch_size - 1 for side in whole.shape[-2:])
    wanted = torch.ones((1, *size), dtype=torch.bool, device=exemplar.device)
    voted = vote(channels_last(sheets), field_of_sheets.to(exemplar.device), wanted, depth=1, side=patch_size, method=method,
                 weights=None if weights is None else weights[:, None].to(working))
    if weights is not None and not torch.isfinite(voted).all():
        lost = int((~torch.isfinite(voted[0, :, :, 0])).sum())
        raise ValueError(f"weights are 0 in all patches of {lost} pixels; expected a patch of positive weight for each")
    return voted[0].movedim(-1, 0).contiguous().to(exemplar.dtype)


def vote(exemplar: Tensor, field: Tensor, wanted: Tensor, *, depth: int, side: int, weights: Tensor | None = None,
         method: str = "kernel") -> Tensor:
    """The video (T, H, W, C) that a field makes of an exemplar (S, h, w, C); pixels not `wanted` (T, H, W) are 0."""
    channels = exemplar.shape[-1]
    if method == "kernel" and available():
        out = exemplar.new_zeros(*wanted.shape[:2], wanted.shape[2] * channels)
        run("patchmatch", "vote", exemplar.flatten(2), field.contiguous(),
            None if weights is None else weights.contiguous(),
            wanted.contiguous().view(torch.uint8), out, depth, side, channels)
        return out.reshape(*wanted.shape, channels)
    k, _, *starts = field.shape
    weights = exemplar.new_ones(k, *starts) if weights is None else weights
    total, norm = exemplar.new_zeros(*wanted.shape, channels), exemplar.new_zeros(*wanted.shape, 1)
    for a in range(depth):
        for b in range(side):
            for c in range(side):
                window = (slice(a, a + starts[0]), slice(b, b + starts[1]), slice(c, c + starts[2]))
                for match, weight in zip(field.long(), weights[..., None]):
                    total[window] += weight * exemplar[match[0] + a, match[1] + b, match[2] + c]
                    norm[window] += weight
    return torch.where(wanted[..., None], total / norm, 0)


def vote_of_middles(nnf: Tensor, exemplar: Tensor, patch_size: int) -> Tensor:
    """The picture for which only the middles of the matches vote, squares of side `SHARP`."""
    middle = min(SHARP, patch_size)
    axes = []
    for length in nnf.shape[-2:]:
        place = torch.arange(length + patch_size - middle, device=nnf.device)
        patch = (place - (patch_size - middle) // 2).clamp(0, length - 1)
        axes.append((patch, (place - patch).int()))
    (rows, down), (columns, across) = axes
    moved = nnf[:, rows[:, None], columns] + torch.stack(torch.broadcast_tensors(down[:, None], across))
    return reconstruct(moved, exemplar, patch_size=middle)
