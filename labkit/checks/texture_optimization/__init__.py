"""The checks of chapter 3: textures grown pixel by pixel and block by block, and textures that lower an energy.

The imports stand in the order in which the notebook asks the exercises.
"""

from labkit.checks.texture_optimization.growing import draw_pixel, boundary_cut, random_phase_texture, aggregate
from labkit.checks.texture_optimization.energies import (optimize_texture, assign_patches, aggregate_towards,
                                                          weighted_reconstruction, upsample_field, semi_dual_step)
