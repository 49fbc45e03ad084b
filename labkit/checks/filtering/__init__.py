"""The checks of chapter 1: nine filters, and what students get wrong about each.

The imports stand in the order in which the notebook asks the exercises.
"""

from labkit.checks.filtering.linear import gaussian_filter, box_filter
from labkit.checks.filtering.bilateral import bilateral_filter, cross_bilateral_filter
from labkit.checks.filtering.guided import guided_filter
from labkit.checks.filtering.bilateral import rolling_guidance_filter
from labkit.checks.filtering.nonlocal_means import nonlocal_means
from labkit.checks.filtering.nonlocal_pca import pca_filter
from labkit.checks.filtering.attention import nonlocal_attention

__all__ = ["gaussian_filter", "box_filter", "bilateral_filter", "cross_bilateral_filter", "guided_filter", "rolling_guidance_filter",
           "nonlocal_means", "pca_filter", "nonlocal_attention"]


def __dir__() -> list[str]:
    return __all__
