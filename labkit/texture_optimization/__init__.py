"""Chapter 3: textures and pictures synthesised from one example."""

from labkit.texture_optimization.efros_leung import efros_leung, fill_hole
from labkit.texture_optimization.energy import optimize_texture
from labkit.texture_optimization.gaussian import periodic_component, random_phase, random_phase_texture, spot_noise
from labkit.texture_optimization.quilting import image_quilting, minimum_error_boundary_cut, transfer_texture
from labkit.texture_optimization.single_image import gpnn, psin, psin_ot
from labkit.texture_optimization.synthesis import Synthesis
from labkit.texture_optimization.transfer import transfer_style_by_patches
from labkit.texture_optimization.transport import transport_texture

__all__ = ["Synthesis", "efros_leung", "fill_hole", "gpnn", "image_quilting", "minimum_error_boundary_cut",
           "optimize_texture", "periodic_component", "psin", "psin_ot", "random_phase", "random_phase_texture", "spot_noise",
           "transfer_style_by_patches", "transfer_texture", "transport_texture"]


def __dir__() -> list[str]:
    return __all__
