"""Chapter 2: nearest-neighbour fields between images by PatchMatch, and what can be made with them."""

from labkit.patchmatch.applications import disparity_score, reshuffle, stereo_disparity, stylize
from labkit.patchmatch.fields import (TRANSFORMS, Match, nnf_distance, random_nnf, reconstruct, shift_map,
                                      upsample_nnf)
from labkit.patchmatch.inpainting import inpaint, inpaint_video
from labkit.patchmatch.reference import Candidate, candidates
from labkit.patchmatch.search import exact_nnf, patchmatch

__all__ = ["TRANSFORMS", "Candidate", "Match", "candidates", "disparity_score", "exact_nnf", "inpaint", "inpaint_video", "nnf_distance",
           "patchmatch", "random_nnf", "reconstruct", "reshuffle", "shift_map", "stereo_disparity", "stylize",
           "upsample_nnf"]
