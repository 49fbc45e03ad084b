"""Chapter 1: filtering. Every filter replaces a pixel by an average of others; they differ in whom they trust."""

from labkit.filtering.bilateral import bilateral_filter, cross_bilateral_filter, rolling_guidance_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import (box_filter, close, difference_of_gaussians, dilate, erode, gaussian_filter,
                                     gaussian_kernel, median_filter, open)
from labkit.filtering.nonlocal_means import nonlocal_means
from labkit.filtering.nonlocal_pca import nonlocal_pca, pca_filter, project_patches
