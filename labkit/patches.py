"""Patches of an image as rows of a matrix, and back to an image.

A patch of side n is named by its first (top-left) pixel and lies wholly inside the image: an image `(C, H, W)` has
(H − n + 1)(W − n + 1) of them. They come in row-major order of their first pixels; inside a row of the matrix the
values run over channel, row, column. Extraction is linear; `add_patches` is its adjoint, and `aggregate_patches`
divides that by how often each pixel was counted, which solves the least-squares problem "every patch of the image
should be the patch I was given" (lecture part I, "patch aggregation").
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.validation import describe, size_of, validate_image, validate_integer, validate_size

__all__ = ["add_patches", "aggregate_patches", "extract_patches", "patch_positions", "squared_distances"]


def __dir__() -> list[str]:
    return __all__


def patch_positions(height: int, width: int, *, patch_size: int, stride: int = 1, cover: bool = False) -> Tensor:
    """First pixels of the patches of an image: an int64 tensor `(number, 2)` of (row, column), in row-major order.

    Parameters are those of `extract_patches`.

    >>> labkit.patches.patch_positions(3, 4, patch_size=2, stride=2).tolist()
    [[0, 0], [0, 2]]
    >>> labkit.patches.patch_positions(3, 4, patch_size=2, stride=2, cover=True).tolist()
    [[0, 0], [0, 2], [1, 0], [1, 2]]
    """
    rows, columns = _grid(height, width, patch_size, stride, cover)
    return torch.cartesian_prod(torch.tensor(rows), torch.tensor(columns))


def extract_patches(image: Tensor, *, patch_size: int, stride: int = 1, cover: bool = False) -> Tensor:
    """All patches of an image, one per row.

    >>> labkit.patches.extract_patches(torch.arange(9.0).reshape(1, 3, 3), patch_size=2)
    tensor([[0., 1., 3., 4.],
            [1., 2., 4., 5.],
            [3., 4., 6., 7.],
            [4., 5., 7., 8.]])

    Parameters
    ----------
    image : (C, H, W) or (N, C, H, W).
    patch_size : side n of a patch, in pixels, from 1 to the smaller side of the image.
    stride : distance between neighbouring first pixels, along rows and along columns.
    cover : with a stride above 1, the last rows and columns of the image may belong to no patch; `True` adds one row
        and one column of patches flush with the far borders, so that every pixel belongs to one (needs
        `stride <= patch_size`).

    Returns
    -------
    Tensor (number, C·n·n), or (N, number, C·n·n) for a batch.

    Raises
    ------
    ValueError : the patch does not fit in the image, or `cover` with a stride that skips pixels between patches.
    """
    validate_image(image)
    rows, columns = _grid(*size_of(image), patch_size, stride, cover)
    regular = rows[-1] % stride == 0 and columns[-1] % stride == 0
    step = stride if regular else 1
    windows = image.unfold(-2, patch_size, step).unfold(-2, patch_size, step)  # (..., C, rows, columns, n, n), a view
    if not regular:
        windows = windows[..., torch.tensor(rows)[:, None], torch.tensor(columns), :, :]
    return windows.movedim(-5, -3).reshape(*image.shape[:-3], len(rows) * len(columns), -1)


def add_patches(patches: Tensor, *, height: int, width: int, patch_size: int, stride: int = 1,
                cover: bool = False) -> Tensor:
    """Sum patches into an image where they overlap: the adjoint of `extract_patches`.

    >>> labkit.patches.add_patches(torch.ones(4, 4), height=3, width=3, patch_size=2)
    tensor([[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]])

    Parameters
    ----------
    patches : (number, C·n·n) or (N, number, C·n·n), as `extract_patches` orders them.
    height, width : of the image.
    patch_size, stride, cover : as they were for `extract_patches`.

    Returns
    -------
    Tensor (C, H, W) or (N, C, H, W); a pixel that no patch holds is 0.

    Raises
    ------
    ValueError : the number or the length of the rows does not fit those parameters.
    """
    rows, columns = _grid(height, width, patch_size, stride, cover)
    _validate_patches(patches, number=len(rows) * len(columns), patch_size=patch_size)
    working = patches if patches.dtype == torch.float64 else patches.float()
    blocks = working.reshape(*patches.shape[:-2], len(rows), len(columns), -1, patch_size, patch_size)
    first_rows, first_columns = (torch.tensor(starts, device=working.device) for starts in (rows, columns))
    # Along columns, then along rows: 2n additions of whole arrays where every pixel at once would need n². Inside
    # one addition all targets differ, so the order of the sum, and the result, do not depend on threads or device.
    strips = working.new_zeros(*blocks.shape[:-4], width, *blocks.shape[-3:-1])      # (..., rows, W, C, n)
    for offset in range(patch_size):
        strips.index_add_(-3, first_columns + offset, blocks[..., offset])
    image = working.new_zeros(*strips.shape[:-4], height, *strips.shape[-3:-1])      # (..., H, W, C)
    for offset in range(patch_size):
        image.index_add_(-3, first_rows + offset, strips[..., offset])
    return image.movedim(-1, -3).contiguous().to(patches.dtype)


def aggregate_patches(patches: Tensor, *, height: int, width: int, patch_size: int, stride: int = 1,
                      cover: bool = False, weights: Tensor | None = None) -> Tensor:
    """Average patches into an image where they overlap.

    A pixel becomes the (weighted) mean of the values that the patches holding it give it.

    >>> image = torch.arange(9.0).reshape(1, 3, 3)
    >>> rows = labkit.patches.extract_patches(image, patch_size=2)
    >>> torch.equal(labkit.patches.aggregate_patches(rows, height=3, width=3, patch_size=2), image)
    True

    Parameters
    ----------
    patches : (number, C·n·n) or (N, number, C·n·n), as `extract_patches` orders them.
    height, width : of the image.
    patch_size, stride, cover : as they were for `extract_patches`.
    weights : at least 0; one per patch, (number,) or (N, number), or one per value, of the shape of `patches`;
        `None` counts all alike.

    Returns
    -------
    Tensor (C, H, W) or (N, C, H, W), of the dtype and device of `patches`.

    Raises
    ------
    ValueError : sizes that do not fit, a negative weight, or a pixel that no patch of positive weight holds.

    References
    ----------
    Lecture part I, "patch aggregation"; thesis, eq. III.4 with its normalisation.
    """
    rows, columns = _grid(height, width, patch_size, stride, cover)
    _validate_patches(patches, number=len(rows) * len(columns), patch_size=patch_size)
    working = patches if patches.dtype == torch.float64 else patches.float()
    if weights is None:
        weights = working.new_ones(len(rows) * len(columns), 1)
    else:
        weights = _validate_weights(weights, patches).to(working)
        working = working * weights
    if weights.shape[-1] == 1:      # the same for all channels: one will do
        weights = weights.expand(*weights.shape[:-1], patch_size ** 2)
    total, weight = (add_patches(values, height=height, width=width, patch_size=patch_size, stride=stride, cover=cover)
                     for values in (working, weights))
    missing = int((weight <= 0).sum())
    if missing:
        raise ValueError(f"{missing} pixel values of the {height}×{width} image belong to no patch of positive weight; "
                         f"expected all to (patch_size is {patch_size}, stride {stride}: `cover=True` adds the patches "
                         "along the far borders)")
    return (total / weight).to(patches.dtype)


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Squared Euclidean distances between two sets of patches: (a, D) and (b, D) give (a, b).

    One matrix product. Both sets are centred first, because ‖p‖² − 2⟨p, q⟩ + ‖q‖² loses digits when the patches
    share a large mean; what rounding leaves below zero is set to zero.

    >>> labkit.patches.squared_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    tensor([[ 0.,  9.],
            [25., 16.]])
    """
    for patches, name in ((first, "first"), (second, "second")):
        _validate_patches(patches, name=name, batch=False)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"first holds patches of {first.shape[1]} values and second of {second.shape[1]}; "
                         "expected the same")
    if first.dtype != second.dtype or first.device != second.device:
        raise ValueError(f"first is {first.dtype} on {first.device} and second {second.dtype} on {second.device}; expected the same")
    centre = second.mean(dim=0)
    first, second = first - centre, second - centre
    norms = first.square().sum(1, keepdim=True) + second.square().sum(1)
    return torch.addmm(norms, first, second.T, alpha=-2).clamp(min=0)


def _grid(height: int, width: int, patch_size: int, stride: int, cover: bool) -> tuple[list[int], list[int]]:
    """First rows and first columns of the patches."""
    validate_size((height, width))
    validate_integer(patch_size, name="patch_size", minimum=1)
    if patch_size > min(height, width):
        raise ValueError(f"patch_size is {patch_size} and the image {height}×{width} pixels; expected a patch that "
                         "lies inside the image")
    validate_integer(stride, name="stride", minimum=1)
    if cover and stride > patch_size:
        raise ValueError(f"stride is {stride} and patch_size {patch_size}; expected a stride of at most the patch "
                         "size, since `cover=True` asks for every pixel to belong to a patch")
    starts = []
    for side in (height, width):
        last = side - patch_size
        line = list(range(0, last + 1, stride))
        starts.append(line + [last] if cover and line[-1] != last else line)
    return starts[0], starts[1]


def _validate_patches(patches: Tensor, *, number: int | None = None, patch_size: int | None = None,
                      name: str = "patches", batch: bool = True) -> None:
    shapes = f"({number or 'number'}, C·n·n)" + (f" or (N, {number or 'number'}, C·n·n)" if batch else "")
    expected = f"expected a floating-point tensor {shapes}" + (f" with n = {patch_size}" if patch_size else "")
    if not isinstance(patches, Tensor) or not patches.is_floating_point() or patches.numel() == 0 \
            or patches.ndim not in ((2, 3) if batch else (2,)):
        raise ValueError(f"{name} is {describe(patches)}; {expected}")
    if (number and patches.shape[-2] != number) or (patch_size and patches.shape[-1] % patch_size ** 2):
        raise ValueError(f"{name} is {describe(patches)}; {expected}")


def _validate_weights(weights: Tensor, patches: Tensor) -> Tensor:
    """The weights, with a last axis to multiply the patches."""
    if not isinstance(weights, Tensor) or weights.shape not in (patches.shape[:-1], patches.shape):
        raise ValueError(f"weights is {describe(weights)}; expected a tensor {tuple(patches.shape[:-1])} or "
                         f"{tuple(patches.shape)}")
    low, high = map(float, torch.aminmax(weights.detach()))
    if not 0 <= low <= high < float("inf"):
        raise ValueError(f"weights lies in [{low:.3g}, {high:.3g}]; expected finite values, none below 0")
    return weights if weights.shape == patches.shape else weights[..., None]
