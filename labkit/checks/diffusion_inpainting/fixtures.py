"""What the checks of chapter 8 give to an answer: a network and a denoiser in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labkit.checks.fixtures import fixture, set_weights

__all__ = ["InpaintingDenoiser", "InpaintingNetwork"]


@fixture("inpainting_network")
class InpaintingNetwork(torch.nn.Module):
    """One convolution 3×3 of x_t, y, M and t put together, called as a chapter's U-Net is; `weights = [W, b]`."""

    def __init__(self, weights: Sequence[Tensor]):
        super().__init__()
        outputs, inputs = weights[0].shape[:2]
        self.convolution = torch.nn.Conv2d(inputs, outputs, 3, padding=1, dtype=weights[0].dtype)
        set_weights(self, weights)

    def forward(self, x_t: Tensor, known: Tensor, mask: Tensor, t: Tensor) -> Tensor:
        noise_level = torch.as_tensor(t).to(x_t).reshape(-1, 1, 1, 1).expand(len(x_t), 1, *x_t.shape[2:])
        return self.convolution(torch.cat([x_t, known.to(x_t), mask.to(x_t), noise_level], dim=1))


@fixture("inpainting_denoiser")
class InpaintingDenoiser:
    """A denoiser `(x_t, y, M, t) ↦ x̂₀` in closed form, called as a trained network is.

    It is exact for independent Gaussian values of that variance around a common level, which it takes half from the known pixels
    and half from x_t. What it returns at the known pixels, or beyond [−1, 1], is for the sampler to put right. It notes at which
    steps it was asked, and how many pixels it was told are missing.
    """

    def __init__(self, variance: float, alpha_bars: Tensor):
        self.variance, self.alpha_bars = variance, alpha_bars
        self.calls: list[dict[str, int]] = []

    def __call__(self, x_t: Tensor, known: Tensor, mask: Tensor, t: int) -> Tensor:
        self.calls.append({"t": int(t), "number of missing pixels": int(mask.sum())})
        bar = self.alpha_bars[int(t)].to(x_t)
        count = (1 - mask.to(x_t)).sum(dim=(2, 3), keepdim=True)
        level = (known.sum(dim=(2, 3), keepdim=True) / count + x_t.mean(dim=(2, 3), keepdim=True) / bar.sqrt()) / 2
        gain = bar.sqrt() * self.variance / (bar * self.variance + 1 - bar)
        return level + gain * (x_t - bar.sqrt() * level)
