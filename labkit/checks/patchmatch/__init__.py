"""The checks of chapter 2: PatchMatch in nine steps, and what students get wrong about each.

The imports stand in the order in which the notebook asks the exercises.
"""

from labkit.checks.patchmatch.search import patch_distance, exhaustive_search, propagate, random_search, patchmatch
from labkit.checks.patchmatch.voting import reconstruct
from labkit.checks.patchmatch.jump_flooding import jump_flood, parallel_jump_flood
from labkit.checks.patchmatch.cuda import cuda_distance

__all__ = ["patch_distance", "exhaustive_search", "propagate", "random_search", "patchmatch", "reconstruct", "jump_flood",
           "parallel_jump_flood", "cuda_distance"]


def __dir__() -> list[str]:
    return __all__
