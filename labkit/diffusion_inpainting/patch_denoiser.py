"""The best denoiser of a picture's own patches, in closed form: a diffusion model without training.

Let every whole patch p of the picture be equally likely. Of its noisy version, q = p + σ_t ε with σ_t² = (1 − ᾱ_t) / ᾱ_t (that is
x_t / √ᾱ_t), Bayes' rule says how likely each of them was,

    w_i ∝ exp(−‖q − p_i‖² / 2σ_t²),

and no estimate of p has a smaller mean squared error than Σ w_i p_i. That is what a network is trained towards; here it is computed.
It is also non-local means (chapter 1) with the noise level as its filtering range, and softmax attention of the noisy patches to
those of the picture. At small t the weights pick the nearest patch (chapter 2).

References
----------
Buades, Coll, Morel, "A Non-Local Algorithm for Image Denoising", CVPR 2005. Kamb, Ganguli, "An Analytic Theory of Creativity in
Convolutional Diffusion Models", ICML 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.diffusion_inpainting.diffusion import Diffusion, to_chain
from labkit.filtering.arrays import as_floats
from labkit.patches import extract_patches
from labkit.validation import describe, known_pixels, validate_image, validate_integer, validate_number

__all__ = ["PatchDenoiser"]

MOST_LEVELS = 3
FEWEST_PATCHES = 64     # of a coarse level; fewer are no texture
COARSEST = 0.5          # a level of blocks of b pixels serves while σ_t / b, the noise of a block's mean, is above this
BLOCK = 2 ** 23         # weights held at a time: 32 MB in float32


@dataclass(frozen=True)
class _Level:
    """The picture's whole, known patches at one scale."""

    block: int          # pixels of the picture along the side of one of this level
    mean: Tensor        # (C,), taken off all values, so that squares and products lose fewer digits
    patches: Tensor     # (K, C·n·n)
    energy: Tensor      # (K, n·n), half of the squares, summed over channels
    cores: Tensor       # (K, C·m·m), the middle of every patch


class PatchDenoiser:
    """Estimate x_0 as what the patches of one picture make most likely. It needs no training and serves wherever a network does.

    >>> image = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.diffusion_inpainting.PatchDenoiser(image, patch_size=5, levels=1)
    PatchDenoiser(patch_size=5, core=1, patches per level: 400)

    Every pixel of x_t is the centre of a noisy patch, which is compared with all patches of the picture. What a patch has outside the
    picture is not compared. **Known pixels** enter the comparison as they are, without noise, and count as if their noise were
    `known_sigma` at most: with none at all (the strict reading of Bayes' rule, were patches of the picture all there is) the nearest
    patch at the border of the hole would win from the first step on.

    While there is much noise, only large structures can be told apart, and a patch sees too little of them. The first steps therefore
    look at means over blocks of 4 or 2 pixels, whose noise is 4 or 2 times smaller; their estimate is enlarged.

    Parameters
    ----------
    image : (C, H, W) in [0, 1], where the patches come from; values under the mask have no influence.
    mask : bool (1, H, W), `True` where pixels are missing; `None` for a whole picture.
    patch_size : side n, odd; larger patches copy larger pieces.
    core : side m of the middle part that a patch's estimate is used for, odd, at most n; a pixel gets the mean of the m² estimates
        it lies in. 1 is sharpest, n smoothest.
    levels : number of scales; 1 is the plain formula at every step. `None` takes up to three, as far as enough patches are known.
    known_sigma : see above, in the chain's values, above 0.
    diffusion : the chain.

    Raises
    ------
    ValueError : sizes that do not fit, or a mask that leaves no whole patch.
    """

    interval = None

    def __init__(self, image: Tensor, mask: Tensor | None = None, *, patch_size: int = 7, core: int = 1, levels: int | None = None,
                 known_sigma: float = 0.1, diffusion: Diffusion | None = None):
        if mask is None:
            validate_image(image, batch=False)
            mask = torch.zeros_like(image[:1], dtype=torch.bool)
        known_pixels(image, mask)
        validate_integer(patch_size, name="patch_size", minimum=1, maximum=min(image.shape[-2:]), odd=True)
        validate_integer(core, name="core", minimum=1, maximum=patch_size, odd=True)
        if levels is not None:
            validate_integer(levels, name="levels", minimum=1)
        validate_number(known_sigma, name="known_sigma", above=0)
        self.patch_size, self.core, self.known_sigma = patch_size, core, known_sigma
        self.diffusion = diffusion or Diffusion()
        missing = mask.to(image.device)
        picture = torch.where(missing, 0, to_chain(as_floats(image.detach())))
        self._levels = [self._level(picture, missing, block=1)]
        if len(self._levels[0].patches) == 0:
            raise ValueError(f"mask leaves no whole patch of {patch_size}×{patch_size} in {image.shape[-2]}×{image.shape[-1]} pixels; "
                             "expected at least one to learn from")
        while len(self._levels) < (levels or MOST_LEVELS):
            block = 2 ** len(self._levels)
            if min(image.shape[-2:]) // block < patch_size:
                break
            level = self._level(picture, missing, block=block)
            if len(level.patches) < FEWEST_PATCHES:
                break
            self._levels.append(level)

    def __repr__(self) -> str:
        counts = ", ".join(str(len(level.patches)) for level in self._levels)
        return f"PatchDenoiser(patch_size={self.patch_size}, core={self.core}, patches per level: {counts})"

    def predict(self, x_t: Tensor, known: Tensor, mask: Tensor, t: int) -> Tensor:
        """The estimate of x_0: tensors as `labkit.diffusion_inpainting.sampling` has them, of any height and width.

        Parameters
        ----------
        x_t : (N, C, H, W) in the chain's values.
        known : (N, C, H, W), zero under the mask; returned where pixels are known.
        mask : bool (N, 1, H, W).
        t : step, from 1.
        """
        channels = self._levels[0].mean.shape[0]
        if not isinstance(x_t, Tensor) or x_t.ndim != 4 or x_t.shape[1] != channels:
            raise ValueError(f"x_t is {describe(x_t)}; expected a tensor (N, {channels}, H, W)")
        sigma = float(self.diffusion.snr(t)) ** -0.5
        level = self._at(sigma)
        z = x_t / float(self.diffusion.alpha_bars[t]) ** 0.5
        z = torch.where(mask, z, known)
        hole = mask.to(z.dtype)
        if level.block > 1:
            z, hole = _blocks(z, level.block), _blocks(hole, level.block)
        estimate = torch.stack([self._denoised(z[i], hole[i] > 0, level, sigma / level.block) for i in range(len(z))])
        if level.block > 1:
            # bilinear, with blocks as little squares; the last ones may reach over the border
            size = [side * level.block for side in estimate.shape[-2:]]
            estimate = F.interpolate(estimate, size=size, mode="bilinear", align_corners=False)
            estimate = estimate[..., :x_t.shape[-2], :x_t.shape[-1]]
        return torch.where(mask, estimate, known)

    def _at(self, sigma: float) -> _Level:
        """The coarsest level at which the noise is still above `COARSEST`, else the finest."""
        return next((level for level in reversed(self._levels) if sigma / level.block > COARSEST), self._levels[0])

    def _level(self, picture: Tensor, missing: Tensor, *, block: int) -> _Level:
        whole = (missing == 0).to(picture)[None]
        picture = picture[None]
        if block > 1:       # means over whole blocks of known pixels; the others are left out
            picture, whole = F.avg_pool2d(picture, block), F.avg_pool2d(whole, block) == 1
        n, rest = self.patch_size, (self.patch_size - self.core) // 2
        keep = extract_patches(whole.to(picture)[0], patch_size=n).amin(dim=1) > 0
        mean = picture[0].mean(dim=(1, 2))
        patches = extract_patches(picture[0] - mean[:, None, None], patch_size=n)[keep]
        squares = patches.reshape(len(patches), len(mean), n, n)
        cores = squares[..., rest:n - rest, rest:n - rest].flatten(1)
        return _Level(block, mean, patches, squares.square().sum(dim=1).flatten(1) / 2, cores.contiguous())

    def _denoised(self, z: Tensor, hole: Tensor, level: _Level, sigma: float) -> Tensor:
        """A picture (C, H, W) with its hole (1, H, W) replaced by the mean of its patches' estimates."""
        channels, height, width = z.shape
        n, m = self.patch_size, self.core
        mean = level.mean.to(z)[:, None, None]
        wanted = F.max_pool2d(hole.to(z)[None], m, stride=1, padding=m // 2)[0, 0] > 0      # centres whose core holds such a pixel
        chosen = wanted.flatten().nonzero()[:, 0]
        noisy = F.unfold((z - mean)[None], n, padding=n // 2)[0].T[chosen]
        precision = torch.where(hole, sigma ** -2, min(sigma, self.known_sigma) ** -2).to(z)
        precision = F.unfold(precision[None], n, padding=n // 2)[0].T[chosen]                # 0 outside the picture
        patches, energy, cores = level.patches.to(z), level.energy.to(z), level.cores.to(z)
        estimates = z.new_empty(len(chosen), cores.shape[1])
        rows = max(1, BLOCK // len(patches))
        for first in range(0, len(chosen), rows):
            part = slice(first, first + rows)
            # −½ Σ precision (q − p)², less what does not depend on p
            scaled = noisy[part].reshape(-1, channels, n * n) * precision[part, None]
            logits = torch.addmm(scaled.flatten(1) @ patches.T, precision[part], energy.T, alpha=-1)
            torch.mm(logits.softmax(dim=1), cores, out=estimates[part])
        spread = z.new_zeros(channels * m * m, height * width)
        spread[:, chosen] = estimates.T
        counted = z.new_zeros(m * m, height * width)
        counted[:, chosen] = 1
        total = F.fold(spread[None], (height, width), m, padding=m // 2)[0]
        count = F.fold(counted[None], (height, width), m, padding=m // 2)[0]
        return torch.where(hole, total / count.clamp(min=1) + mean, z)


def _blocks(x: Tensor, side: int) -> Tensor:
    """Means over blocks; those at the far borders are of fewer pixels where the size is no multiple."""
    return F.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False)
