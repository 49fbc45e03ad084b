"""Chapter 1: filtering. Every filter replaces a pixel by an average of others; they differ in whom they trust."""

from labkit.filtering.attention import dot_product_attention, nonlocal_attention
from labkit.filtering.autoencoder import PatchAutoencoder
from labkit.filtering.bilateral import bilateral_filter, cross_bilateral_filter, rolling_guidance_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import (box_filter, close, difference_of_gaussians, dilate, erode, gaussian_filter,
                                     gaussian_kernel, median_filter, open)
from labkit.filtering.nonlocal_means import nonlocal_means
from labkit.filtering.nonlocal_pca import nonlocal_pca, pca_filter, project_patches
from labkit.filtering.weights import weights_at

__all__ = ["PatchAutoencoder", "bilateral_filter", "box_filter", "close", "cross_bilateral_filter",
           "difference_of_gaussians", "dilate", "dot_product_attention", "erode", "gaussian_filter", "gaussian_kernel",
           "guided_filter", "median_filter", "nonlocal_attention", "nonlocal_means", "nonlocal_pca", "open", "pca_filter",
           "project_patches", "rolling_guidance_filter", "weights_at"]


def __dir__() -> list[str]:
    return __all__
