"""The checks of chapter 8: a chain of pictures into noise and back, holes, and a model of a single picture that fills them.

The imports stand in the order in which the notebook asks the exercises.
"""

from labkit.checks.diffusion_inpainting.chain import add_noise, posterior_mean, loss_weights, brush_mask, leak_free_example
from labkit.checks.diffusion_inpainting.training import inpainting_step, ancestral_sampling, ddim_sampling, patch_denoiser
