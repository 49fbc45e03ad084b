"""The check of a denoiser that needs no training: the mean of the picture's own patches, weighted by Bayes' rule."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit import patches
from labkit.checks.diffusion_inpainting.pieces import chain_values
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import squares, with_options

__all__ = ["patch_denoiser"]


# --- 9 · The picture's own patches ----------------------------------------------------------------------------------

def _logits(q: Tensor, p: Tensor, bar: float) -> Tensor:
    return -squares(q, bar ** 0.5 * p) / (2 * (1 - bar))


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def _average(estimates: Tensor, x_t: Tensor, n: int) -> Tensor:
    return patches.aggregate_patches(estimates, height=x_t.shape[1], width=x_t.shape[2], patch_size=n)


def _whole(missing: Tensor) -> Tensor:
    return missing.amax(1) == 0


def _patch_denoiser(x_t: Tensor, picture: Tensor, mask: Tensor, alpha_bar: float, patch_size: int, *,
                    logits: Callable = _logits, weights: Callable = _softmax, kept: Callable = _whole,
                    values: Callable = lambda p, q, bar: p, gathered: Callable = _average) -> Tensor:
    """The closed-form denoiser; the options are where answers differ."""
    n, bar = patch_size, float(alpha_bar)
    missing = patches.extract_patches(mask.to(picture.dtype), patch_size=n)
    p = patches.extract_patches(picture, patch_size=n)[kept(missing)]
    q = patches.extract_patches(x_t, patch_size=n)
    return gathered(weights(logits(q, p, bar)) @ values(p, q, bar), x_t, n)


@exercise(points=3, minutes=35, reference=_patch_denoiser, withholds=(
    "labkit.diffusion_inpainting.patch_denoiser.PatchDenoiser", "labkit.filtering.nonlocal_attention"))
def patch_denoiser(task: Task) -> None:
    def case(channels: int, height: int, width: int, bar: float, n: int, *, hole: bool = True,
             size: tuple | None = None, first: tuple | None = None, dtype: torch.dtype = torch.float64) -> tuple:
        """A noised part of a picture, and a hole of four by four pixels that leaves patches."""
        picture = chain_values(task, 1, channels, height, width)[0]
        mask = torch.zeros(1, height, width, dtype=torch.bool)
        if hole:
            i, j = first or (task.integer(0, height - 4), task.integer(0, width - 4))
            mask[:, i:i + 4, j:j + 4] = True
        rows, columns = size or (height, width)
        noise = task.normal(channels, rows, columns).double()
        x_t = bar ** 0.5 * picture[:, :rows, :columns] + (1 - bar) ** 0.5 * noise
        return x_t.to(dtype), picture.to(dtype), mask, bar, n

    with task.property("weighs the patches of a whole picture, in grey", share=0.3):
        # 49 values in a patch make all weights small before they are divided by their sum
        task.compare(*case(1, 10, 11, 0.5, 7, hole=False), tolerance=1e-8)
        task.compare(*case(1, 7, 8, 0.5, 2, hole=False), tolerance=1e-8)
        task.compare(*case(1, 6, 7, 0.8, 3, hole=False, size=(5, 6)), tolerance=1e-8)
    with task.property("leaves out what reaches into the hole, in colour", share=0.4):
        task.compare(*case(3, 9, 10, 0.6, 2), tolerance=1e-8)
        task.compare(*case(2, 11, 9, 0.3, 3, size=(6, 5)), tolerance=1e-8)
    with task.property("knows little in much noise: the mean of all patches", share=0.1):
        task.compare(*case(3, 8, 9, 0.01, 3), tolerance=1e-8)
    with task.property("is finite in very little noise: the nearest patch", share=0.2):
        # x_t shows what is under the hole: there no patch of the picture is near
        task.compare(*case(1, 9, 9, 0.99999, 2, size=(5, 6), first=(0, 0)), tolerance=1e-8)
    with task.property("keeps the dtype of the noisy picture"):
        task.compare(*case(1, 7, 8, 0.5, 2, dtype=torch.float32), tolerance=1e-4)


def _sum_of(estimates: Tensor, x_t: Tensor, n: int) -> Tensor:
    return patches.add_patches(estimates, height=x_t.shape[1], width=x_t.shape[2], patch_size=n)


def _last_written(estimates: Tensor, x_t: Tensor, n: int) -> Tensor:
    out, columns = torch.zeros_like(x_t), x_t.shape[2] - n + 1
    for k, patch in enumerate(estimates):
        i, j = divmod(k, columns)
        out[:, i:i + n, j:j + n] = patch.reshape(-1, n, n)
    return out


def _axis_zero(logits: Tensor) -> Tensor:
    return logits.softmax(0)


def _not_normalised(logits: Tensor) -> Tensor:
    return logits.exp()


def _underflowing(logits: Tensor) -> Tensor:
    weights = logits.exp()
    return weights / weights.sum(1, keepdim=True)


def _guarded(logits: Tensor, *, small: float) -> Tensor:
    """Not 0 / 0, but where all weights are small the sum is not 1 any more."""
    weights = logits.exp()
    return weights / (weights.sum(1, keepdim=True) + small)


_SMALL_NUMBER = ("a small number is added to the sum that the weights are divided by: where all of them are small, they do not "
                 "add up to 1 any more. `softmax` needs no such number")


def _nearest_only(logits: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits)


patch_denoiser.knows({
    "softmax_over_queries": Mistake(
        "the weights add up to 1 over the noisy patches; for *each noisy patch* they add up to 1 over the patches of "
        "the picture: the softmax goes along the other axis",
        with_options(_patch_denoiser, weights=_axis_zero), 2),
    "not_normalised": Mistake("the weights are not divided by their sum",
                              with_options(_patch_denoiser, weights=_not_normalised), 2),
    "underflow": Mistake(
        "at small noise all weights of a patch become 0, and 0 / 0 follows: take `softmax`, which subtracts the "
        "largest exponent first",
        with_options(_patch_denoiser, weights=_underflowing), 2),
    "small_number_added": Mistake(_SMALL_NUMBER,
                                  with_options(_patch_denoiser, weights=with_options(_guarded, small=1e-8)), 2),
    "tiny_number_added": Mistake(_SMALL_NUMBER + ", however tiny it is",
                                 with_options(_patch_denoiser, weights=with_options(_guarded, small=1e-12)), 2),
    "nearest_only": Mistake("only the nearest patch counts; all do, by their weights",
                            with_options(_patch_denoiser, weights=_nearest_only), 2),
    "scale_forgotten": Mistake(
        "x_t's patches are compared with p; the picture in x_t has shrunk to √ᾱ_t p",
        with_options(_patch_denoiser, logits=lambda q, p, bar: _logits(q, p / bar ** 0.5, bar)), 1),
    "scaled_without_root": Mistake("x_t's patches are compared with ᾱ_t p instead of √ᾱ_t p", with_options(
        _patch_denoiser, logits=lambda q, p, bar: _logits(q, p * bar ** 0.5, bar)), 1),
    "scaled_average": Mistake("the average is one of the patches √ᾱ_t p; the estimate of x₀ averages p itself",
                              with_options(_patch_denoiser, values=lambda p, q, bar: bar ** 0.5 * p), 3),
    "divided_average": Mistake(
        "the average of the patches p is divided by √ᾱ_t, which is only for what has been noised",
        with_options(_patch_denoiser, values=lambda p, q, bar: p / bar ** 0.5), 3),
    "half_forgotten": Mistake("the exponent lacks its factor ½",
                              with_options(_patch_denoiser, logits=lambda *a: 2 * _logits(*a)), 1),
    "deviation_for_variance": Mistake(
        "the exponent is divided by 2 √(1 − ᾱ_t), the deviation; it is divided by 2 (1 − ᾱ_t), the variance",
        with_options(_patch_denoiser, logits=lambda q, p, bar: _logits(q, p, bar) * (1 - bar) ** 0.5), 1),
    "signal_for_noise": Mistake("the exponent is divided by 2 ᾱ_t instead of 2 (1 − ᾱ_t)", with_options(
        _patch_denoiser, logits=lambda q, p, bar: _logits(q, p, bar) * (1 - bar) / bar), 1),
    "noise_of_another_scale": Mistake(
        "x_t was divided by √ᾱ_t, but the variance was not divided by ᾱ_t: of x_t / √ᾱ_t it is (1 − ᾱ_t) / ᾱ_t",
        with_options(_patch_denoiser, logits=lambda q, p, bar: _logits(q, p, bar) / bar), 1),
    "mean_distance": Mistake(
        "the squared differences are averaged over the patch, as in non-local means; Bayes' rule adds them up",
        with_options(_patch_denoiser, logits=lambda q, p, bar: _logits(q, p, bar) / p.shape[1]), 1),
    "distance_not_squared": Mistake("the exponent has the distance instead of its square", with_options(
        _patch_denoiser, logits=lambda q, p, bar: -torch.cdist(q, bar ** 0.5 * p) / (2 * (1 - bar))), 1),
    "far_patches_win": Mistake("the sign of the exponent is wrong: the farthest patches win",
                               with_options(_patch_denoiser, logits=lambda *a: -_logits(*a)), 1),
    "hole_used": Mistake("patches that reach into the hole are used as well; nothing is known there", with_options(
        _patch_denoiser, kept=lambda missing: torch.ones(len(missing), dtype=torch.bool)), 3),
    "partly_known_used": Mistake("patches count when *some* of their pixels are known; all must be", with_options(
        _patch_denoiser, kept=lambda missing: missing.amin(1) == 0), 3),
    "first_pixel_decides": Mistake("patches count when their first pixel is known; all of their pixels must be",
                                   with_options(_patch_denoiser, kept=lambda missing: missing[:, 0] == 0), 3),
    "hole_as_grey": Mistake(
        "the hole is set to 0 and its patches are used like others; patches with a missing pixel do not count",
        lambda x_t, picture, mask, *rest: _patch_denoiser(
            x_t, torch.where(mask, 0, picture), torch.zeros_like(mask), *rest), 3),
    "noisy_picture_asked": Mistake(
        "the noisy picture's own patches are averaged, as in non-local means; the p are those of `picture`",
        lambda x_t, picture, mask, *rest: _patch_denoiser(x_t, x_t, torch.zeros_like(x_t[:1]), *rest), 3),
    "mask_inverted": Mistake("the patches come from the hole; the mask is true where pixels are missing", with_options(
        _patch_denoiser, kept=lambda missing: missing.amin(1) > 0), 3),
    "summed": Mistake("overlapping estimates are added up; a pixel is the *mean* of the estimates that hold it",
                      with_options(_patch_denoiser, gathered=_sum_of), 3),
    "overwritten": Mistake(
        "each patch overwrites the ones before it; a pixel is the mean of all estimates that hold it",
        with_options(_patch_denoiser, gathered=_last_written), 3),
})
