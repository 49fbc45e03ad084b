"""Local filters: each against its equation, against other libraries, and the properties it must have."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from labkit.filtering import bilateral, guided, linear
from labkit.filtering.bilateral import bilateral_filter, cross_bilateral_filter, rolling_guidance_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import (box_filter, close, difference_of_gaussians, dilate, erode, gaussian_filter,
                                     gaussian_kernel, median_filter)
from labkit.filtering.linear import open as opening
from labkit.images import pad
from labkit.validation import BORDERS

# float32 results differ by roundings of sums of a few hundred terms, each up to 1
FLOAT32 = 3e-6
FLOAT64 = 1e-12
SHAPES = [(3, 23, 34), (2, 1, 9, 40), (1, 1, 1), (2, 1, 7), (1, 8, 1), (2, 5, 6, 17)]


def _random(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _difference(first, second):
    return float((first.double() - second.double()).abs().max())


# name -> a call with small parameters; `**other` may choose a method
FILTERS = {
    "gaussian": lambda u, **other: gaussian_filter(u, sigma=1.3, **other),
    "difference of gaussians": lambda u, **other: difference_of_gaussians(u, sigma=0.8, **other),
    "box": lambda u, **other: box_filter(u, radius=2, **other),
    "bilateral": lambda u, **other: bilateral_filter(u, sigma_space=1.5, sigma_color=0.2, **other),
    "cross-bilateral": lambda u, **other: cross_bilateral_filter(u, guide=_upside_down(u), sigma_space=1.5,
                                                                 sigma_color=0.2, **other),
    "rolling guidance": lambda u, **other: rolling_guidance_filter(u, sigma_space=1.5, sigma_color=0.2, iterations=3,
                                                                   **other),
    "guided": lambda u, **other: guided_filter(u, guide=_upside_down(u)[..., :1, :, :], radius=2, eps=1e-3, **other),
    "guided in colour": lambda u, **other: guided_filter(u, guide=_three_channels(u), radius=2, eps=1e-3, **other),
}
BY_RANK = {"median": median_filter, "erosion": erode, "dilation": dilate, "opening": opening, "closing": close}
EVERY = FILTERS | {name: (lambda u, f=f: f(u, radius=2)) for name, f in BY_RANK.items()}


def _upside_down(image):
    return image.flip(-2).contiguous()


def _three_channels(image):
    first = image[..., :1, :, :]
    return torch.cat((first, first.flip(-1) ** 2, 1 - first.flip(-2)), dim=-3)


# --- reference and kernel agree -------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, FLOAT32), (torch.float64, FLOAT64)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FILTERS)
def test_kernel_agrees_with_its_reference(name, shape, dtype, tolerance):
    image = _random(*shape, dtype=dtype)
    kernel = FILTERS[name](image)
    assert kernel.dtype == dtype and kernel.shape == image.shape
    assert _difference(kernel, FILTERS[name](image.double(), method="reference")) < tolerance


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("method", ["separable", "reference", "fourier"])
@pytest.mark.parametrize("shape, radius", [((3, 20, 31), None), ((1, 4, 3), 9), ((1, 1, 1), 2)])
def test_every_way_to_a_gaussian_equals_the_direct_sum(border, method, shape, radius):
    image = _random(*shape)
    direct = gaussian_filter(image.double(), sigma=1.7, radius=radius, border=border, method="direct")
    result = gaussian_filter(image, sigma=1.7, radius=radius, border=border, method=method)
    assert _difference(result, direct) < FLOAT32


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape, radius", [((3, 20, 31), 3), ((1, 4, 3), 9), ((1, 1, 5), 2), ((1, 150, 7), 20)])
def test_box_kernel_equals_the_integral_image_at_every_border(border, shape, radius):
    image = _random(*shape)
    assert _difference(box_filter(image, radius=radius, border=border),
                       box_filter(image.double(), radius=radius, border=border, method="reference")) < FLOAT32


@pytest.mark.parametrize("guide_channels", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_cross_bilateral_takes_any_number_of_channels(channels, guide_channels):
    image, guide = _random(channels, 13, 21), _random(guide_channels, 13, 21, seed=1)
    arguments = {"sigma_space": 2.0, "sigma_color": 0.3, "radius": 4}
    assert _difference(cross_bilateral_filter(image, guide=guide, **arguments),
                       cross_bilateral_filter(image, guide=guide, **arguments, method="reference")) < FLOAT32


def test_pictures_wider_than_a_block_of_columns_agree_with_the_reference():
    image = _random(3, 3, 1100)
    for name in ("bilateral", "guided in colour", "guided"):
        assert _difference(FILTERS[name](image), FILTERS[name](image, method="reference")) < FLOAT32, name


@pytest.mark.parametrize("guide_channels", [1, 3])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 1e-1])
def test_guided_covariances_do_not_cancel(guide_channels, eps):
    # a bright guide of small contrast: its variance of 1e-5 is the difference of two moments near 1
    image, guide = _random(3, 40, 50), 0.98 + 0.01 * _random(guide_channels, 40, 50, seed=1)
    exact = guided_filter(image.double(), guide=guide.double(), radius=8, eps=eps, method="reference")
    # slopes reach 1 / 0.01, and float32 coefficients round their product with a guide near 1
    assert _difference(guided_filter(image, guide=guide, radius=8, eps=eps), exact) < 3e-5


@pytest.mark.parametrize("name", FILTERS)
def test_a_window_larger_than_the_picture_is_fine(name):
    image = _random(3, 5, 4)
    calls = {
        "gaussian": lambda method: gaussian_filter(image, sigma=4.0, method=method),
        "difference of gaussians": lambda method: difference_of_gaussians(image, sigma=4.0, method=method),
        "box": lambda method: box_filter(image, radius=11, method=method),
        "bilateral": lambda method: bilateral_filter(image, sigma_space=9, sigma_color=0.3, method=method),
        "cross-bilateral": lambda method: cross_bilateral_filter(image, guide=1 - image, sigma_space=9, sigma_color=0.3,
                                                                 method=method),
        "rolling guidance": lambda method: rolling_guidance_filter(image, sigma_space=9, sigma_color=0.3, method=method),
        "guided": lambda method: guided_filter(image, guide=image[:1], radius=11, eps=1e-2, method=method),
        "guided in colour": lambda method: guided_filter(image, radius=11, eps=1e-2, method=method),
    }
    default = "separable" if "gaussian" in name else "kernel"
    assert _difference(calls[name](default), calls[name]("reference")) < FLOAT32


# --- other libraries ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("border, mode", [("reflect", "mirror"), ("replicate", "nearest"), ("periodic", "wrap"),
                                          ("zero", "constant")])
def test_gaussian_and_box_agree_with_scipy_at_its_borders(border, mode):
    from scipy import ndimage

    image = _random(3, 30, 41)
    scipy_gaussian = ndimage.gaussian_filter(image.numpy(), sigma=(0, 2.5, 2.5), radius=(0, 10, 10), mode=mode)
    assert _difference(gaussian_filter(image, sigma=2.5, border=border), torch.from_numpy(scipy_gaussian)) < FLOAT32
    scipy_box = ndimage.uniform_filter(image.double().numpy(), size=(1, 7, 7), mode=mode)
    assert _difference(box_filter(image, radius=3, border=border), torch.from_numpy(scipy_box)) < FLOAT32


def test_gaussian_box_and_guided_agree_with_opencv():
    cv2 = pytest.importorskip("cv2")
    image, guide = _random(3, 40, 52), _random(3, 40, 52, seed=1)
    pixels, look = (np.ascontiguousarray(t.permute(1, 2, 0).numpy()) for t in (image, guide))

    def like_ours(result):
        return torch.from_numpy(result).permute(2, 0, 1)

    assert _difference(gaussian_filter(image, sigma=2.0), like_ours(cv2.GaussianBlur(pixels, (17, 17), 2.0))) < FLOAT32
    assert _difference(box_filter(image, radius=4), like_ours(cv2.blur(pixels, (9, 9)))) < FLOAT32
    if hasattr(cv2, "ximgproc"):
        inside = (..., slice(8, -8), slice(8, -8))            # OpenCV mirrors the picture instead of clipping windows
        theirs = like_ours(cv2.ximgproc.guidedFilter(look, pixels, 4, 1e-2))
        # OpenCV inverts the covariance in float32
        assert _difference(guided_filter(image, guide=guide, radius=4, eps=1e-2)[inside], theirs[inside]) < 2e-5


def test_bilateral_filters_agree_with_kornia_away_from_the_border():
    filters = pytest.importorskip("kornia.filters")
    image, guide = _random(3, 30, 36), _random(3, 30, 36, seed=1)
    inside = (..., slice(4, -4), slice(4, -4))                # kornia mirrors the picture instead of clipping windows
    arguments = {"kernel_size": 9, "sigma_color": 0.3, "sigma_space": (2.0, 2.0), "color_distance_type": "l2"}
    theirs = filters.bilateral_blur(image[None], **arguments)[0]
    ours = bilateral_filter(image, sigma_space=2.0, sigma_color=0.3, radius=4)
    assert _difference(ours[inside], theirs[inside]) < FLOAT32
    theirs = filters.joint_bilateral_blur(image[None], guide[None], **arguments)[0]
    ours = cross_bilateral_filter(image, guide=guide, sigma_space=2.0, sigma_color=0.3, radius=4)
    assert _difference(ours[inside], theirs[inside]) < FLOAT32


def test_colour_weights_agree_with_scikit_image():
    from skimage.restoration import denoise_bilateral

    # scikit-image 0.26 reads a table of 10 × 10 spatial weights as rows of 9, so they must be flat here; and for colour
    # its sigma counts the distance divided by the number of channels.
    image = _random(3, 30, 36)
    theirs = denoise_bilateral(image.double().permute(1, 2, 0).numpy(), win_size=9, sigma_color=0.4 / 3,
                               sigma_spatial=1e6, bins=200_000, channel_axis=2)
    ours = bilateral_filter(image, sigma_space=1e6, sigma_color=0.4, radius=4)
    inside = (..., slice(4, -4), slice(4, -4))                # it counts zeros outside the picture
    # a step of its table of colour weights is 3 / 200,000 of distance, at a slope of at most 1.5 per unit
    assert _difference(ours[inside], torch.from_numpy(theirs).permute(2, 0, 1)[inside]) < 3e-5


def test_median_and_morphology_agree_with_scikit_image():
    from skimage import filters, morphology

    image = _random(2, 12, 15)
    window = np.ones((5, 5), bool)
    peers = {"median": lambda u: filters.median(u, window, mode="mirror"),
             "erosion": lambda u: morphology.erosion(u, window), "dilation": lambda u: morphology.dilation(u, window),
             "opening": lambda u: morphology.opening(u, window), "closing": lambda u: morphology.closing(u, window)}
    for name, peer in peers.items():
        theirs = np.stack([peer(channel) for channel in image.numpy()])
        assert torch.equal(BY_RANK[name](image, radius=2), torch.from_numpy(theirs)), name


# --- the equations by hand ------------------------------------------------------------------------------------------

def test_gaussian_kernel_is_the_lectures_weight_divided_by_its_sum():
    weights = gaussian_kernel(2.0, 3)
    by_hand = torch.tensor([math.exp(-x * x / 8) for x in range(-3, 4)], dtype=torch.float64)
    assert torch.allclose(weights, by_hand / by_hand.sum(), rtol=1e-14, atol=0)


def test_normalized_border_divides_by_the_weights_inside():
    image = torch.zeros(1, 1, 5)
    image[..., 0] = 1
    weights = [math.exp(-x * x / 2) for x in range(3)]
    expected = weights[0] / sum(weights)                      # at the left edge only offsets 0, 1, 2 lie inside
    assert abs(float(gaussian_filter(image, sigma=1, radius=2, border="normalized")[0, 0, 0]) - expected) < 1e-7


def test_bilateral_of_two_pixels_by_hand():
    image = torch.tensor([[[0.2, 0.7]]])
    weight = math.exp(-1 / (2 * 3 ** 2) - 0.5 ** 2 / (2 * 0.4 ** 2))
    expected = torch.tensor([[[0.2 + 0.7 * weight, 0.7 + 0.2 * weight]]]) / (1 + weight)
    assert _difference(bilateral_filter(image, sigma_space=3, sigma_color=0.4), expected) < 1e-7


def test_rolling_guidance_filters_the_original_and_not_the_last_result():
    image = _random(3, 16, 18)
    step = gaussian_filter(image, sigma=1.5, radius=5, border="normalized")
    assert torch.equal(rolling_guidance_filter(image, sigma_space=1.5, sigma_color=0.2, iterations=1), step)
    for _ in range(2):
        step = cross_bilateral_filter(image, guide=step, sigma_space=1.5, sigma_color=0.2, radius=5)
    assert torch.equal(rolling_guidance_filter(image, sigma_space=1.5, sigma_color=0.2, iterations=3), step)


def test_rolling_guidance_removes_texture_that_the_bilateral_filter_keeps():
    stripes = 0.5 + 0.3 * (-1.0) ** torch.arange(40).expand(1, 40, 40)
    arguments = {"sigma_space": 3.0, "sigma_color": 0.1}
    inside = (..., slice(10, -10), slice(10, -10))
    assert float(bilateral_filter(stripes, **arguments)[inside].std()) > 0.25
    assert float(rolling_guidance_filter(stripes, **arguments)[inside].std()) < 0.01


def test_guided_filter_on_itself_is_the_lectures_formula_within_one_window():
    # In a picture no larger than the window every window is the whole picture: u a + (1 - a) mean.
    image = _random(1, 5, 6)
    variance, mean = image.var(unbiased=False), image.mean()
    a = variance / (variance + 0.05)
    assert _difference(guided_filter(image, radius=9, eps=0.05), a * image + (1 - a) * mean) < FLOAT32


def test_a_colour_guide_keeps_an_edge_between_colours_of_equal_brightness():
    guide = torch.zeros(3, 20, 20)
    guide[0, :, :10], guide[1, :, 10:] = 0.6, 0.6
    image = guide[:1]
    colour = guided_filter(image, guide=guide, radius=4, eps=1e-4)
    grey = guided_filter(image, guide=guide.mean(0, keepdim=True), radius=4, eps=1e-4)
    assert _difference(colour, image) < 1e-3 and _difference(grey, image) > 0.2


def test_exponential_of_the_kernels_is_accurate():
    import numba

    from labkit.kernels.filtering_cpu import exp2

    @numba.njit
    def powers(exponents, out):
        for i in range(exponents.size):
            out[i] = exp2(exponents[i])

    for dtype, lowest, bound in ((np.float32, -100, 3e-7), (np.float64, -1000, 1e-15)):
        exponents = np.linspace(lowest, 0, 200_001).astype(dtype)
        values = np.empty_like(exponents)
        powers(exponents, values)
        exact = np.exp2(exponents.astype(np.longdouble))
        assert float(np.max(np.abs(values / exact - 1))) < bound
        beyond = np.array([2.0 * lowest, -1e30], dtype)
        powers(beyond, values)
        assert np.all(values[:2] == 2.0 ** lowest)


# --- properties -----------------------------------------------------------------------------------------------------

pictures = st.builds(lambda seed, *shape: _random(*shape, seed=seed, dtype=torch.float64),
                     st.integers(0, 2 ** 31), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12))
borders = st.sampled_from(BORDERS)
keeping = st.sampled_from([border for border in BORDERS if border != "zero"])      # borders that keep a constant
quick = settings(max_examples=20, deadline=None)


def _all_means(image, border):
    return {"gaussian": gaussian_filter(image, sigma=1.2, border=border),
            "box": box_filter(image, radius=2, border=border),
            "bilateral": bilateral_filter(image, sigma_space=1.2, sigma_color=0.2),
            "rolling guidance": rolling_guidance_filter(image, sigma_space=1.2, sigma_color=0.2),
            "guided": guided_filter(image, radius=2, eps=1e-3)}


@quick
@given(pictures, keeping, st.floats(0, 1))
def test_constants_are_kept(image, border, value):
    constant = torch.full_like(image, value)
    for name, result in _all_means(constant, border).items():
        assert _difference(result, constant) < FLOAT64, name


@quick
@given(pictures, keeping, st.floats(-3, 3))
def test_adding_a_constant_adds_it_to_the_result(image, border, shift):
    shifted = _all_means(image + shift, border)
    for name, result in _all_means(image, border).items():
        # covariances of values near 3 lose two digits more, over eps
        assert _difference(shifted[name], result + shift) < 1e-10, name


@quick
@given(pictures, keeping)
def test_a_mean_stays_within_the_range_of_the_image(image, border):
    for name, result in _all_means(image, border).items():
        if name != "guided":                                  # a regression may overshoot
            assert float(result.min()) >= float(image.min()) - FLOAT64, name
            assert float(result.max()) <= float(image.max()) + FLOAT64, name


@quick
@given(pictures, borders, st.floats(-2, 2), st.integers(0, 2 ** 31))
def test_filters_with_fixed_weights_are_linear(image, border, factor, seed):
    other = _random(*image.shape, seed=seed, dtype=torch.float64)
    guide = _random(3, *image.shape[1:], seed=seed + 1, dtype=torch.float64)
    for linear_filter in (lambda u: gaussian_filter(u, sigma=1.2, border=border),
                          lambda u: difference_of_gaussians(u, sigma=0.7, border=border),
                          lambda u: box_filter(u, radius=2, border=border),
                          lambda u: cross_bilateral_filter(u, guide=guide, sigma_space=1.2, sigma_color=0.2),
                          lambda u: guided_filter(u, guide=guide, radius=2, eps=1e-3)):
        apart = linear_filter(image) + factor * linear_filter(other)
        assert _difference(linear_filter(image + factor * other), apart) < 1e-10


@quick
@given(pictures, st.integers(0, 14))
def test_opening_lies_below_the_image_and_closing_above(image, radius):
    opened, closed = opening(image, radius=radius), close(image, radius=radius)
    assert bool((opened <= image).all()) and bool((image <= closed).all())
    assert torch.equal(opening(opened, radius=radius), opened) and torch.equal(close(closed, radius=radius), closed)


@quick
@given(pictures, st.integers(1, 20), borders)
def test_turning_the_picture_turns_the_result(image, radius, border):
    turned = image.flip(-1).transpose(-1, -2)
    for name, call in {"gaussian": lambda u: gaussian_filter(u, sigma=1.4, radius=radius, border=border),
                       "box": lambda u: box_filter(u, radius=radius, border=border),
                       "bilateral": lambda u: bilateral_filter(u, sigma_space=1.4, sigma_color=0.2, radius=radius),
                       "guided": lambda u: guided_filter(u, radius=radius, eps=1e-3)}.items():
        assert _difference(call(turned), call(image).flip(-1).transpose(-1, -2)) < 1e-10, name


def test_zero_sigma_and_zero_radius_give_the_image_back_as_a_copy():
    image = _random(3, 6, 7)
    results = [gaussian_filter(image, sigma=0), box_filter(image, radius=0)]
    results += [by_rank(image, radius=0) for by_rank in BY_RANK.values()]
    for result in results:
        assert torch.equal(result, image) and result.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("method", ["kernel", "reference"])
@pytest.mark.parametrize("sigma_color", [1e-300, 1e-20, 1e20, 1e300])
@pytest.mark.parametrize("sigma_space", [1e-300, 1e-20, 1e20, 1e300])
def test_extreme_sigmas_are_the_limits_of_the_bilateral_filter(sigma_space, sigma_color, method):
    image = _random(3, 9, 11)
    result = bilateral_filter(image, sigma_space=sigma_space, sigma_color=sigma_color, radius=2, method=method)
    alone = min(sigma_space, sigma_color) < 1               # either way, no other pixel has weight
    expected = image if alone else box_filter(image, radius=2, border="normalized")
    assert _difference(result, expected) < FLOAT32


# --- the contract of every filter -----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_filtered_picture_by_picture(name):
    batch = _random(3, 3, 11, 14)
    assert torch.equal(EVERY[name](batch), torch.stack([EVERY[name](image) for image in batch]))


@pytest.mark.parametrize("name", EVERY)
def test_the_input_is_not_written_and_not_returned(name):
    image = _random(3, 11, 14)
    before = image.clone()
    result = EVERY[name](image)
    result.zero_()
    assert torch.equal(image, before)


@pytest.mark.parametrize("name", EVERY)
def test_strides_do_not_matter(name):
    image = _random(3, 11, 14)
    strided = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(EVERY[name](strided), EVERY[name](image))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_is_computed_in_float32_and_cast_back(name, dtype):
    image = _random(3, 11, 14, dtype=dtype)
    result = EVERY[name](image)
    # a guide made from the image inside the call is rounded to half precision, so it may differ in the last bits
    step = {torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert result.dtype == dtype and _difference(result, EVERY[name](image.float())) < step


@pytest.mark.parametrize("name", FILTERS)
def test_the_number_of_threads_does_not_change_a_bit(name):
    import numba

    image = _random(3, 150, 67)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(count)
            results.append(FILTERS[name](image))
    finally:
        numba.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.parametrize("name", FILTERS)
def test_gradients_flow_where_they_are_asked_for(name):
    image = _random(1, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: FILTERS[name](u), (image,))


def test_gradients_reach_the_guide_too():
    image, guide = _random(1, 3, 4, dtype=torch.float64), _random(3, 3, 4, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: cross_bilateral_filter(image, guide=v, sigma_space=1, sigma_color=0.5, radius=1), (guide,))
    assert torch.autograd.gradcheck(lambda v: guided_filter(image, guide=v, radius=1, eps=1e-2), (guide,))


def test_an_image_with_a_gradient_takes_the_kernel_under_no_grad():
    image = _random(3, 6, 7).requires_grad_()
    with torch.no_grad():
        assert torch.equal(bilateral_filter(image, sigma_space=1, sigma_color=0.2),
                           bilateral_filter(image.detach(), sigma_space=1, sigma_color=0.2))


BAD_CALLS = {
    "gaussian_filter of integers": (lambda u: gaussian_filter((255 * u).byte(), sigma=1), "uint8"),
    "gaussian_filter with sigma -1": (lambda u: gaussian_filter(u, sigma=-1), "sigma is -1"),
    "gaussian_filter with radius 1.5": (lambda u: gaussian_filter(u, sigma=1, radius=1.5), "radius is float 1.5"),
    "gaussian_filter with border": (lambda u: gaussian_filter(u, sigma=1, border="mirror"), "border is 'mirror'"),
    "gaussian_filter with method": (lambda u: gaussian_filter(u, sigma=1, method="fft"), "method is 'fft'"),
    "gaussian_kernel with sigma nan": (lambda u: gaussian_kernel(math.nan, 2), "sigma is nan"),
    "difference_of_gaussians with ratio 1": (lambda u: difference_of_gaussians(u, sigma=1, ratio=1), "ratio is 1"),
    "box_filter with radius -1": (lambda u: box_filter(u, radius=-1), "radius is -1"),
    "box_filter of a plane": (lambda u: box_filter(u[0], radius=1), r"shape \(6, 7\)"),
    "median_filter with radius": (lambda u: median_filter(u, radius=-1), "radius is -1"),
    "erode of a list": (lambda u: erode([1.0], radius=1), "image is list"),
    "bilateral_filter with sigma_space 0": (
        lambda u: bilateral_filter(u, sigma_space=0, sigma_color=1), "sigma_space is 0"),
    "bilateral_filter with sigma_color 0": (
        lambda u: bilateral_filter(u, sigma_space=1, sigma_color=0), "sigma_color is 0"),
    "bilateral_filter with radius 0": (
        lambda u: bilateral_filter(u, sigma_space=1, sigma_color=1, radius=0), "radius is 0"),
    "bilateral_filter of NaN": (lambda u: bilateral_filter(u / 0 * 0, sigma_space=1, sigma_color=1), "NaN"),
    "bilateral_filter with method": (
        lambda u: bilateral_filter(u, sigma_space=1, sigma_color=1, method="lut"), "method is"),
    "cross_bilateral_filter, guide too small": (
        lambda u: cross_bilateral_filter(u, guide=u[..., 1:], sigma_space=1, sigma_color=1), r"guide is \(6, 6\)"),
    "cross_bilateral_filter, guide a batch": (
        lambda u: cross_bilateral_filter(u, guide=u[None], sigma_space=1, sigma_color=1), "batches of the same length"),
    "cross_bilateral_filter, guide in float64": (
        lambda u: cross_bilateral_filter(u, guide=u.double(), sigma_space=1, sigma_color=1), "same dtype"),
    "rolling_guidance_filter with iterations 0": (
        lambda u: rolling_guidance_filter(u, sigma_space=1, sigma_color=1, iterations=0), "iterations is 0"),
    "guided_filter with radius 0": (lambda u: guided_filter(u, radius=0, eps=1e-3), "radius is 0"),
    "guided_filter with eps -1": (lambda u: guided_filter(u, radius=1, eps=-1), "eps is -1"),
    "guided_filter, two guide channels": (lambda u: guided_filter(u, guide=u[:2], radius=1, eps=1), "1 or 3 channels"),
    "guided_filter, two channels alone": (lambda u: guided_filter(u[:2], radius=1, eps=1), "guides itself"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_refused_with_what_was_given(name):
    call, message = BAD_CALLS[name]
    image = _random(3, 6, 7)
    before = image.clone()
    with pytest.raises(ValueError, match=message):
        call(image)
    assert torch.equal(image, before)


# --- memory ---------------------------------------------------------------------------------------------------------

@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory of a process from /proc")
def test_kernels_need_at_most_six_times_the_image():
    from tests.benchmarks.timing import peak_memory

    setup = """
import torch
from labkit.filtering.bilateral import rolling_guidance_filter
from labkit.filtering.guided import guided_filter
def both(image):
    rolling_guidance_filter(image, sigma_space=0.7, sigma_color=0.1, iterations=2, radius=1)
    guided_filter(image, radius=2, eps=1e-3)
both(torch.rand(3, 64, 64))
image = torch.rand(3, 1500, 1500)
"""
    assert peak_memory(setup, "both(image)") < 6 * 3 * 1500 ** 2 * 4 / 2 ** 20


def test_a_gradient_of_the_bilateral_filter_does_not_keep_every_window():
    image = _random(1, 16, 16).requires_grad_()
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        result = bilateral_filter(image, sigma_space=2, sigma_color=0.2, radius=6)
    result.sum().backward()
    assert kept < 10 and image.grad is not None              # the window has 169 pixels


# --- the CUDA twin --------------------------------------------------------------------------------------------------

TWIN = """
import functools, torch
from labkit import kernels
from labkit.filtering import bilateral, guided, linear
for module in (linear, bilateral, guided):
    module.run = functools.partial(kernels.run, twin="cuda")

def check(name, call, image):
    difference = float((call(image, "kernel") - call(image, "reference")).abs().max())
    assert difference < (3e-6 if image.dtype == torch.float32 else 1e-12), (name, image.shape, difference)

def gaussian(u, method, border):
    return linear.gaussian_filter(u, sigma=1.0, border=border, method={"kernel": "separable"}.get(method, method))

assert kernels.simulated()
generator = torch.Generator().manual_seed(0)
for shape, dtype in (((3, 6, 7), torch.float32), ((2, 1, 1, 5), torch.float64), ((5, 4, 3), torch.float32)):
    u = torch.rand(*shape, generator=generator, dtype=dtype)
    for border in ("reflect", "normalized"):
        check("gaussian", functools.partial(gaussian, border=border), u)
        check("box", lambda u, method: linear.box_filter(u, radius=2, border=border, method=method), u)
    check("rolling guidance", lambda u, method: bilateral.rolling_guidance_filter(
        u, sigma_space=2.0, sigma_color=0.2, radius=2, iterations=2, method=method), u)
    for channels in (1, 3):
        v = torch.rand(*shape[:-3], channels, *shape[-2:], generator=generator, dtype=dtype)
        check("cross-bilateral", lambda u, method: bilateral.cross_bilateral_filter(
            u, guide=v, sigma_space=2.0, sigma_color=0.2, radius=2, method=method), u)
        check("guided", lambda u, method: guided.guided_filter(u, guide=v, radius=2, eps=1e-4, method=method), u)
print("all agree")
"""


def test_the_cuda_kernels_agree_with_the_references_on_the_simulator():
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", TWIN], capture_output=True, text=True, timeout=300,
                          env=environment)
    assert done.returncode == 0 and "all agree" in done.stdout, done.stderr


@pytest.mark.cuda
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, FLOAT32), (torch.float64, FLOAT64)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FILTERS)
def test_a_gpu_gives_the_same_result(name, shape, dtype, tolerance):
    image = _random(*shape, dtype=dtype)
    result = FILTERS[name](image.cuda())
    assert result.is_cuda and result.dtype == dtype
    assert _difference(result.cpu(), FILTERS[name](image)) < tolerance


def test_only_the_kernels_folder_knows_numba():
    for module in (linear, bilateral, guided):
        assert "numba" not in vars(module)


# --- windows larger than the picture ------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ["reflect", "replicate", "periodic", "zero", "normalized"])
def test_a_window_larger_than_the_picture_sees_its_continuation(border):
    """Against the picture, continued in full and filtered by the convolution that fits into it."""
    image = torch.rand(2, 6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = torch.ones(1, 6, 9, dtype=torch.float64)
    pad_border = "zero" if border == "normalized" else border

    def continued(values, radius):
        wide = pad(values, amount=radius, border=pad_border)
        return wide.unfold(-2, 2 * radius + 1, 1).unfold(-2, 2 * radius + 1, 1)

    radius = 20
    line = gaussian_kernel(7.0, radius)
    for weights, result in (
        (torch.outer(line, line), gaussian_filter(image, sigma=7.0, radius=radius, border=border)),
        (torch.full((41, 41), 1 / 41**2, dtype=torch.float64), box_filter(image, radius=radius, border=border)),
    ):
        expected = (continued(image, radius) * weights).sum((-2, -1))
        if border == "normalized":
            expected = expected / (continued(inside, radius) * weights).sum((-2, -1))
        torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("radius", [10**6, 10**12])
def test_an_enormous_window_takes_no_more_memory_than_the_picture(radius):
    image = torch.rand(1, 16, 24, generator=torch.Generator().manual_seed(0))
    assert (box_filter(image, radius=radius, border="periodic") - image.mean()).abs().max() < 1e-3
    assert (gaussian_filter(image, sigma=radius, border="periodic") - image.mean()).abs().max() < 1e-3
    assert difference_of_gaussians(image, sigma=radius, border="periodic").abs().max() < 1e-3
    assert (dilate(image, radius=radius) == image.max()).all()
    assert (erode(image, radius=radius) == image.min()).all()
    assert (opening(image, radius=radius) == image.min()).all()
    assert (close(image, radius=radius) == image.max()).all()
    assert (median_filter(image, radius=radius) - image.median()).abs().max() < 0.1
