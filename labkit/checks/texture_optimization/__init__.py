"""The checks of chapter 3: textures grown pixel by pixel and block by block, and textures that lower an energy.

The imports stand in the order in which the notebook asks the exercises.
"""

from labkit.checks.texture_optimization.efros_leung import draw_pixel
from labkit.checks.texture_optimization.quilting import boundary_cut
from labkit.checks.texture_optimization.gaussian import random_phase_texture
from labkit.checks.texture_optimization.energy import aggregate, optimize_texture, assign_patches
from labkit.checks.texture_optimization.transfer import aggregate_towards
from labkit.checks.texture_optimization.single_image import weighted_reconstruction, upsample_field
from labkit.checks.texture_optimization.transport import semi_dual_step

__all__ = ["draw_pixel", "boundary_cut", "random_phase_texture", "aggregate", "optimize_texture", "assign_patches",
           "aggregate_towards", "weighted_reconstruction", "upsample_field", "semi_dual_step"]


def __dir__() -> list[str]:
    return __all__
