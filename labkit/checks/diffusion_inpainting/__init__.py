"""The checks of chapter 8: a chain of pictures into noise and back, holes, and a model of a single picture that fills them.

The imports stand in the order in which the notebook asks the exercises.
"""

from labkit.checks.diffusion_inpainting.diffusion import add_noise, posterior_mean, loss_weights
from labkit.checks.diffusion_inpainting.masks import brush_mask
from labkit.checks.diffusion_inpainting.inpainter import leak_free_example, inpainting_step
from labkit.checks.diffusion_inpainting.sampling import ancestral_sampling, ddim_sampling
from labkit.checks.diffusion_inpainting.patch_denoiser import patch_denoiser

__all__ = ["add_noise", "posterior_mean", "loss_weights", "brush_mask", "leak_free_example", "inpainting_step",
           "ancestral_sampling", "ddim_sampling", "patch_denoiser"]


def __dir__() -> list[str]:
    return __all__
