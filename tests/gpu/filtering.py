"""Chapter 1's filters on a card."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

from torch import Tensor

from labkit.filtering import (
    bilateral_filter,
    box_filter,
    cross_bilateral_filter,
    gaussian_filter,
    guided_filter,
    nonlocal_means,
    rolling_guidance_filter,
)
from tests.gpu.case import Case, picture

__all__ = ["cases"]

CHANNELS = 3
SUMS = "float32 sums of values below 1, in another order"


def cases(small: bool) -> Iterator[Case]:
    """Every filter that has a kernel, on a colour picture; small ones for numba's simulator."""
    side, radius, window = (7, 2, 5) if small else (1024, 7, 21)
    sigma = radius / 3
    size = f"{side}²"
    image, guide = picture(CHANNELS, side, side), picture(CHANNELS, side, side, seed=1)
    values = image.numel()
    moved = 2 * 4 * values

    taps = 2 * math.ceil(4 * sigma) + 1
    for border in ("reflect", "normalized"):
        yield _case(
            f"Gaussian, σ {sigma:.2g}, {border}, {size}",
            functools.partial(gaussian_filter, sigma=sigma, border=border),
            image,
            method="separable",
            bytes=moved,
            operations=2 * 2 * taps * values,
        )
    yield _case(
        f"box, radius {radius}, {size}",
        functools.partial(box_filter, radius=radius),
        image,
        bytes=moved,
        operations=4 * values,
        why="rounding to float32 of sums in float64",
    )
    # a weight: the squared distance of two colours, two more terms and an exponential; then the sums of weights and colours
    weight = 3 * CHANNELS + 4 + 1 + 2 * CHANNELS
    pixels = side * side * (2 * radius + 1) ** 2
    local = {"sigma_space": sigma, "sigma_color": 0.1, "radius": radius}
    yield _case(
        f"bilateral, radius {radius}, {size}",
        functools.partial(bilateral_filter, **local),
        image,
        bytes=moved,
        operations=weight * pixels,
    )
    yield Case(
        f"cross-bilateral, radius {radius}, {size}",
        (image, guide),
        _cross_bilateral(local, "kernel"),
        3e-6,
        SUMS,
        plain=_cross_bilateral(local, "reference"),
        bytes=1.5 * moved,
        operations=weight * pixels,
    )
    yield _case(
        f"rolling guidance, radius {radius}, {size}",
        functools.partial(rolling_guidance_filter, iterations=3, **local),
        image,
        bytes=moved,
        operations=2 * weight * pixels,
        tolerance=1e-5,
        why=f"{SUMS}, three times one after the other",
    )
    yield _case(
        f"guided by itself, radius {radius}, {size}",
        functools.partial(guided_filter, radius=radius, eps=1e-3),
        image,
        bytes=moved,
        why="rounding to float32 of a regression in float64",
    )
    yield Case(
        f"guided in double precision, radius {radius}, {size}",
        (image.double(), guide.double()),
        _guided(radius, "kernel"),
        1e-12,
        "float64 sums in another order, divided by a variance of at least 1e-3",
        plain=_guided(radius, "reference"),
        bytes=3 * moved,
    )
    patch = 3 if small else 5
    half = side if small else side // 2
    part = image[:, :half, :half].contiguous()
    yield _case(
        f"non-local means, {patch}×{patch} in {window}×{window}, {half}²",
        functools.partial(nonlocal_means, patch_size=patch, window_size=window, h=0.1, sigma=0.02),
        part,
        bytes=2 * 4 * part.numel(),
        operations=half * half * window**2 * (3 * CHANNELS * patch**2 + 4 + 2 * CHANNELS),
        tolerance=5e-6,
        why=f"{SUMS}, and two ways to an exponential",
    )


def _case(
    name: str,
    apply: functools.partial,
    image: Tensor,
    *,
    method: str = "kernel",
    bytes: float,
    operations: float = 0,
    tolerance: float = 3e-6,
    why: str = SUMS,
) -> Case:
    return Case(
        name,
        (image,),
        functools.partial(apply, method=method),
        tolerance,
        why,
        plain=functools.partial(apply, method="reference"),
        bytes=bytes,
        operations=operations,
    )


def _cross_bilateral(settings: dict, method: str):
    return lambda image, guide: cross_bilateral_filter(image, guide=guide, method=method, **settings)


def _guided(radius: int, method: str):
    return lambda image, guide: guided_filter(image, guide=guide, radius=radius, eps=1e-3, method=method)
