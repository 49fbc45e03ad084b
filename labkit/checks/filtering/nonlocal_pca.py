"""The check of chapter 1 on the principal components of patches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit import filtering, patches
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.filtering.pieces import CLAMPED
from labkit.checks.pieces import clamped, in_place, noisy

__all__ = ["pca_filter"]


# --- 8 · PCA of patches ---------------------------------------------------------------------------------------------

def _pca_filter(image: Tensor, patch_size: int, threshold: float) -> Tensor:
    return filtering.pca_filter(image, patch_size=patch_size, threshold=threshold)


def _basis(centred: Tensor) -> Tensor:
    return torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors


@exercise(points=2, minutes=35, reference=_pca_filter, withholds=(
    "labkit.filtering.pca_filter", "labkit.filtering.project_patches", "labkit.filtering.nonlocal_pca",
    "labkit.patches.aggregate_patches"))
def pca_filter(task: Task) -> None:
    # float64, and a threshold in a gap between coefficients: the answer then does not hang on the last digit
    def compare(height: int, width: int, channels: int, patch_size: int) -> None:
        image = noisy(task.image(height, width, channels=channels, dtype=torch.float64))
        p = patches.extract_patches(image, patch_size=patch_size)
        sizes = ((p - p.mean(0)) @ _basis(p - p.mean(0))).abs().flatten().sort().values
        start = int(0.6 * len(sizes))
        gap = start + int((sizes[start + 1:int(0.8 * len(sizes))] - sizes[start:int(0.8 * len(sizes)) - 1]).argmax())
        task.compare(image, patch_size, float(sizes[gap] + sizes[gap + 1]) / 2, tolerance=1e-7)

    with task.property("keeps the large coefficients of every grey patch and averages the overlapping patches", share=0.6):
        compare(12, 15, 1, 3)
        compare(11, 10, 1, 4)
    with task.property("treats the channels of a colour patch together", share=0.4):
        compare(10, 13, 3, 3)
    with task.property("leaves the picture as it is for a threshold of 0"):
        image = task.image(9, 8, dtype=torch.float64)
        task.compare(image, 3, 0.0, expected=image, tolerance=1e-7)
    with task.property("keeps the dtype of the picture"):
        # in float32 the basis hangs on the last digit; above all coefficients, the threshold leaves the mean patch alone
        task.compare(task.image(9, 8), 3, 1e3)


def _pca_by(project: Callable[[Tensor, float], Tensor], aggregate: Callable[..., Tensor] | None = None) -> Callable[..., Tensor]:
    def variant(image: Tensor, patch_size: int, threshold: float) -> Tensor:
        estimates = project(patches.extract_patches(image, patch_size=patch_size), threshold)
        gather = aggregate or _overlap_mean
        return gather(estimates, image, patch_size)
    return variant


def _overlap_mean(estimates: Tensor, image: Tensor, patch_size: int) -> Tensor:
    total, count = _overlap_sum(estimates, image, patch_size), _overlap_sum(torch.ones_like(estimates), image, patch_size)
    return total / count


def _overlap_sum(estimates: Tensor, image: Tensor, patch_size: int) -> Tensor:
    return torch.nn.functional.fold(estimates.T[None], image.shape[-2:], patch_size)[0]


def _hard(z: Tensor, threshold: float) -> Tensor:
    return torch.where(z.abs() > threshold, z, 0)


def _project(p: Tensor, threshold: float, *, rule: Callable = _hard, centre: bool = True, add_mean: bool = True) -> Tensor:
    mean = p.mean(0) if centre else torch.zeros_like(p[0])
    v = _basis(p - mean)
    return rule((p - mean) @ v, threshold) @ v.T + (mean if add_mean else 0)


def _centre_each_patch(p: Tensor, threshold: float) -> Tensor:
    mean = p.mean(1, keepdim=True)
    v = _basis(p - mean)
    return _hard((p - mean) @ v, threshold) @ v.T + mean


def _drop_directions(p: Tensor, threshold: float) -> Tensor:
    mean = p.mean(0)
    v = _basis(p - mean)
    z = (p - mean) @ v
    return (z * (z.std(0) > threshold)) @ v.T + mean


def _centre_pixels(estimates: Tensor, image: Tensor, patch_size: int) -> Tensor:
    """Every pixel from one patch: the one that has it in its middle, or the nearest there is."""
    channels, height, width = image.shape
    grid = estimates.reshape(height - patch_size + 1, width - patch_size + 1, channels, patch_size, patch_size)
    first = [(torch.arange(side) - patch_size // 2).clamp(0, side - patch_size) for side in (height, width)]
    rows, columns = first[0][:, None], first[1][None, :]
    return grid[rows, columns, :, torch.arange(height)[:, None] - rows, torch.arange(width)[None, :] - columns].permute(2, 0, 1)


pca_filter.knows({
    "not_centred": Mistake("the mean patch is not subtracted before the projection",
                           _pca_by(lambda p, t: _project(p, t, centre=False)), 1),
    "mean_not_added": Mistake("the mean patch is not added back", _pca_by(lambda p, t: _project(p, t, add_mean=False)), 1),
    "each_patch_centred": Mistake("the mean of each patch is subtracted; p̄ is the mean patch, an average over all patches",
                                  _pca_by(_centre_each_patch), 1),
    "soft_threshold": Mistake("large coefficients are shrunk (a soft threshold); the hard one leaves them as they are",
                              _pca_by(lambda p, t: _project(p, t, rule=lambda z, t: z.sign() * (z.abs() - t).clamp(min=0))), 2),
    "keeps_the_small": Mistake("the small coefficients are kept and the large ones removed",
                               _pca_by(lambda p, t: _project(p, t, rule=lambda z, t: torch.where(z.abs() > t, 0, z))), 2),
    "negative_removed": Mistake("negative coefficients are removed whatever their size: compare |z| with the threshold",
                                _pca_by(lambda p, t: _project(p, t, rule=lambda z, t: torch.where(z > t, z, 0))), 2),
    "directions_removed": Mistake("whole directions are kept or removed by their variance; the threshold applies to every "
                                  "coefficient of every patch", _pca_by(_drop_directions), 2),
    "not_thresholded": Mistake("no coefficient is removed: the picture comes back as it was", _pca_by(lambda p, t: p), 2),
    "threshold_in_pixels": Mistake("the threshold is applied to the values of the patches, not to their coefficients in the "
                                   "basis", _pca_by(lambda p, t: _hard(p - p.mean(0), t) + p.mean(0)), 2),
    "basis_transposed": Mistake("the basis is transposed: eigenvectors are the columns of what torch.linalg.eigh returns",
                                _pca_by(lambda p, t: _hard((p - p.mean(0)) @ _basis(p - p.mean(0)).T, t)
                                        @ _basis(p - p.mean(0)) + p.mean(0)), 1),
    "not_aggregated": Mistake("every pixel is taken from the one patch around it; average over all patches that contain it",
                              _pca_by(_project, _centre_pixels), 3),
    "constant_count": Mistake("the sum of the patches is divided by n² everywhere; pixels near the border lie in fewer patches",
                              _pca_by(_project, lambda e, image, n: _overlap_sum(e, image, n) / n ** 2), 3),
    "clamped": Mistake(CLAMPED, clamped(_pca_filter)),
    "not_transposed_back": Mistake("the way back multiplies by the basis; it needs its transpose", _pca_by(lambda p, t: _hard(
        (p - p.mean(0)) @ _basis(p - p.mean(0)), t) @ _basis(p - p.mean(0)) + p.mean(0)), 2),
    "sum_of_patches": Mistake("overlapping patches are added up and never divided by their number",
                              _pca_by(_project, _overlap_sum), 3),
    "writes_into_input": Mistake("the result is written over the picture that was given", in_place(_pca_filter)),
})
