"""What compiles this chapter's kernels: each is called once (`labkit.warm`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from labkit.filtering.bilateral import bilateral_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import box_filter, gaussian_filter
from labkit.filtering.nonlocal_means import nonlocal_means

__all__ = ["first_calls"]


def first_calls(image: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names and calls, on a picture (3, 24, 24)."""
    yield "box_filter", lambda: box_filter(image, radius=2)
    yield "gaussian_filter", lambda: gaussian_filter(image, sigma=1.0)
    yield "bilateral_filter", lambda: bilateral_filter(image, sigma_space=1.0, sigma_color=0.1)
    yield "guided_filter", lambda: guided_filter(image, radius=2, eps=0.01)
    yield "guided_filter of a grey picture", lambda: guided_filter(image[:1], radius=2, eps=0.01)
    yield "nonlocal_means", lambda: nonlocal_means(image, window_size=5, h=0.1)
