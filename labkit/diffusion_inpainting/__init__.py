"""Chapter 8: diffusion models that are trained on one picture and fill its holes."""

from labkit.diffusion_inpainting.diffusion import Diffusion, from_chain, to_chain
from labkit.diffusion_inpainting.energy import EnergyEstimate, energy_estimate
from labkit.diffusion_inpainting.inpainter import (Inpainter, regress, train_inpainter, train_intervals,
                                                   train_unconditional)
from labkit.diffusion_inpainting.masks import brush_mask
from labkit.diffusion_inpainting.network import UNet
from labkit.diffusion_inpainting.patch_denoiser import PatchDenoiser
from labkit.diffusion_inpainting.resampling import inpaint_by_resampling
from labkit.diffusion_inpainting.sampling import Film, inpaint, variance_map

__all__ = ["Diffusion", "EnergyEstimate", "Film", "Inpainter", "PatchDenoiser", "UNet", "brush_mask", "energy_estimate",
           "from_chain", "inpaint", "inpaint_by_resampling", "regress", "to_chain", "train_inpainter", "train_intervals",
           "train_unconditional", "variance_map"]


def __dir__() -> list[str]:
    return __all__
