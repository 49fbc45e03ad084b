"""The small U-Net that denoises: about 160,000 parameters, against hundreds of millions in models of all pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.validation import validate_integer

__all__ = ["UNet"]


SMALL = 0.1     # share of the usual weights that the last layer starts with, so that the first estimates are small


class UNet(nn.Module):
    """Estimate x₀ from x_t, the known pixels y, the mask M and t: 16 convolutions at four resolutions.

    >>> network = labkit.diffusion_inpainting.UNet(1, width=8, levels=2).eval()
    >>> x, mask = torch.zeros(2, 1, 12, 15), torch.zeros(2, 1, 12, 15, dtype=torch.bool)
    >>> network(x, x, mask, torch.tensor([1, 500])).shape
    torch.Size([2, 1, 12, 15])

    The inputs are concatenated, t as a channel that is the same everywhere. Every resolution has the same number of
    channels and two convolutions on the way down and two on the way up, with ReLU; max-pooling halves the resolution,
    nearest neighbours double it, and what was seen on the way down is concatenated on the way up. No attention and no
    normalisation: 160,323 parameters for a colour picture. The weights start as He et al. 2015 propose.

    Parameters
    ----------
    channels : C of the picture.
    width : channels of every layer.
    levels : number of resolutions, each half of the one before; a pixel of the result sees about 2^levels × 5 pixels in
        each direction.
    conditional : whether y and M are among the inputs; without them the network is a model of whole pictures.

    References
    ----------
    Cherel, "Internal methods", section V.2.2 and Fig. V.1. Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models",
    NeurIPS 2020.
    """

    def __init__(self, channels: int = 3, *, width: int = 32, levels: int = 4, conditional: bool = True):
        super().__init__()
        validate_integer(channels, name="channels", minimum=1)
        validate_integer(width, name="width", minimum=1)
        validate_integer(levels, name="levels", minimum=1)
        self.settings = {"channels": channels, "width": width, "levels": levels, "conditional": bool(conditional)}
        inputs = 2 * channels + 2 if conditional else channels + 1
        self.down = nn.ModuleList(_two_convolutions(inputs if level == 0 else width, width) for level in range(levels))
        self.up = nn.ModuleList(_two_convolutions(2 * width, width) for _ in range(levels - 1))
        self.last = nn.Sequential(_convolution(width, width), nn.ReLU(inplace=True), _convolution(width, channels))
        with torch.no_grad():
            self.last[-1].weight.mul_(SMALL)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    def forward(self, x_t: Tensor, known: Tensor | None, mask: Tensor | None, t: Tensor) -> Tensor:
        """The estimate of x₀.

        Parameters
        ----------
        x_t : (N, C, H, W), the noised picture.
        known : (N, C, H, W), y = (1 − M) ⊙ x₀; ignored (and may be `None`) by an unconditional network.
        mask : (N, 1, H, W), M = 1 where pixels are missing, of the dtype of `x_t`; as `known`.
        t : (N,), the step of the chain divided by the number of steps, in [0, 1].

        Returns
        -------
        Tensor of the shape of `x_t`. Any height and width: the borders are repeated up to a multiple of 2^(levels − 1).
        """
        height, width = x_t.shape[-2:]
        noise_level = t[:, None, None, None].to(x_t).expand(-1, 1, height, width)
        inputs = [x_t, known, mask, noise_level] if self.settings["conditional"] else [x_t, noise_level]
        features, multiple = torch.cat(inputs, dim=1), 2 ** (self.settings["levels"] - 1)
        if height % multiple or width % multiple:
            features = F.pad(features, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        skipped = []
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else F.max_pool2d(features, 2))
            skipped.append(features)
        skipped.pop()
        for block in self.up:
            larger = F.interpolate(features, scale_factor=2, mode="nearest")
            features = block(torch.cat([larger, skipped.pop()], dim=1))
        return self.last(features)[..., :height, :width]


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    # torch's own start shrinks the signal at every layer, and without normalisation half of the channels then die in training
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)
    return convolution


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_convolution(inputs, outputs), nn.ReLU(inplace=True),
                         _convolution(outputs, outputs), nn.ReLU(inplace=True))
