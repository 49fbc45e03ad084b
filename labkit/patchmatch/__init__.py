"""Chapter 2: nearest-neighbour fields between images by PatchMatch, and what can be made with them."""

from labkit.patchmatch.fields import Match, random_nnf, shift_map
from labkit.patchmatch.inpainting import inpaint, inpaint_video
from labkit.patchmatch.reshuffle import reshuffle
from labkit.patchmatch.scales import upsample_nnf
from labkit.patchmatch.search import exact_nnf, nnf_distance, patchmatch
from labkit.patchmatch.sheets import TRANSFORMS
from labkit.patchmatch.stereo import disparity_score, stereo_disparity
from labkit.patchmatch.stylize import stylize
from labkit.patchmatch.trace import Candidate, candidates
from labkit.patchmatch.voting import reconstruct

__all__ = ["TRANSFORMS", "Candidate", "Match", "candidates", "disparity_score", "exact_nnf", "inpaint", "inpaint_video", "nnf_distance",
           "patchmatch", "random_nnf", "reconstruct", "reshuffle", "shift_map", "stereo_disparity", "stylize",
           "upsample_nnf"]


def __dir__() -> list[str]:
    return __all__
