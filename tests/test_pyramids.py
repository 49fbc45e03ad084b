"""Pyramids: sizes, anti-aliasing, exact reconstruction."""

import math

import pytest
import torch

from labkit import images, pyramids
from labkit.runtime import generator


def random(*shape, dtype=torch.float64):
    return torch.rand(shape, generator=generator(0), dtype=dtype)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 37, 50), (2, 3, 21, 33), (1, 5, 1)])
@pytest.mark.parametrize("ratio", [2.0, 4 / 3, 3])
def test_a_laplacian_pyramid_collapses_to_its_image(shape, ratio):
    image = random(*shape)
    pyramid = pyramids.laplacian_pyramid(image, levels=3, ratio=ratio)
    torch.testing.assert_close(pyramids.collapse(pyramid), image, rtol=0, atol=1e-14)


def test_levels_shrink_by_the_ratio():
    sizes = [tuple(level.shape) for level in pyramids.gaussian_pyramid(random(3, 64, 50), levels=4, ratio=4 / 3)]
    assert sizes == [(3, 64, 50), (3, 48, 38), (3, 36, 29), (3, 27, 22)]


def test_level_zero_is_the_image_and_a_copy():
    image = random(1, 8, 8)
    level = pyramids.gaussian_pyramid(image, levels=1)[0]
    assert torch.equal(level, image) and level.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("ratio", [1, 4 / 3, 2, 2.7, 8])
def test_a_flat_picture_stays_flat(ratio):
    flat = torch.full((1, 33, 40), 0.3, dtype=torch.float64)
    small = pyramids.downsample(flat, ratio=ratio)
    torch.testing.assert_close(small, torch.full_like(small, 0.3))
    torch.testing.assert_close(pyramids.upsample(small, size=(33, 40)), flat)


def test_a_wave_too_fine_for_the_small_picture_vanishes():
    checkerboard = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * torch.ones(1, 1, 1, dtype=torch.float64)
    small = pyramids.downsample(checkerboard, ratio=2)
    # its two factors at the Nyquist frequency are exp(-π²/2) = 0.007 each; at the border the mirror keeps the wave
    assert (small - 0.5).abs().max() < 1e-3


def test_a_wave_that_fits_stays():
    wave = 0.5 + 0.5 * torch.cos(2 * math.pi * torch.arange(64, dtype=torch.float64) / 32).expand(1, 64, 64)
    small = pyramids.downsample(wave, ratio=2)
    # the Gaussian leaves exp(-(2π/32)²/2) = 0.98 of it, and pixel pairs cos(π/32) = 0.995
    assert 0.96 < (small.max() - small.min()) < 1


@pytest.mark.parametrize("ratio", [2, 4 / 3, 3])
def test_nothing_shifts(ratio):
    image = random(3, 48, 48)
    mirrored = pyramids.downsample(image.flip(-1), ratio=ratio)
    torch.testing.assert_close(mirrored.flip(-1), pyramids.downsample(image, ratio=ratio))
    ramp = torch.arange(48, dtype=torch.float64).expand(1, 48, 48)
    small = pyramids.downsample(ramp, ratio=ratio)[0, 8]
    centre = slice(len(small) // 4, -(len(small) // 4))
    expected = (torch.arange(len(small), dtype=torch.float64) + 0.5) * ratio - 0.5     # where little squares lie
    torch.testing.assert_close(small[centre], expected[centre], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size, ratio", [(128, 2), (96, 4 / 3), (90, 3)])
def test_a_level_equals_scikit_image(size, ratio):
    from skimage.transform import pyramid_reduce

    image = images.load("astronaut", size=size).double()
    theirs = pyramid_reduce(images.to_array(image), downscale=ratio, sigma=ratio / 2, channel_axis=-1)
    small = pyramids.gaussian_pyramid(image, levels=2, ratio=ratio)[1]
    difference = (small - torch.from_numpy(theirs).movedim(-1, 0)).abs()
    # they mirror the edge pixel too, and cut the Gaussian at 4 sigma where this cuts at 3, beyond 0.3 % of its mass
    assert difference[:, 4:-4, 4:-4].max() < 3e-3


def test_upsampling_by_a_ratio_is_upsampling_to_its_size():
    image = random(2, 3, 8, 9)
    assert torch.equal(pyramids.upsample(image, ratio=1.5), pyramids.upsample(image, size=(12, 14)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_dtype_is_kept_and_half_precision_computed_in_single(dtype):
    image = random(3, 20, 20).to(dtype)
    exact = pyramids.downsample(image.double(), ratio=2)
    small = pyramids.downsample(image, ratio=2)
    assert small.dtype == dtype
    assert (small.double() - exact).abs().max() <= torch.finfo(dtype).eps


def test_gradients_flow_through_a_pyramid():
    image = random(1, 6, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: pyramids.laplacian_pyramid(u, levels=2)[1], image)


@pytest.mark.parametrize("call, message", [
    (lambda u: pyramids.downsample(u, ratio=0.5), "ratio is 0.5"),
    (lambda u: pyramids.upsample(u, size=(4, 9)), "height is 4; expected a whole number, at least 5"),
    (lambda u: pyramids.upsample(u), "exactly one"),
    (lambda u: pyramids.gaussian_pyramid(u, levels=0), "levels is 0"),
    (lambda u: pyramids.gaussian_pyramid(u, levels=3, ratio=1), "ratio is 1"),
    (lambda u: pyramids.gaussian_pyramid(u, levels=99, ratio=4), "levels is 99; expected at most 3 .* 1×1"),
    (lambda u: pyramids.collapse([]), "pyramid is empty"),
])
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(random(1, 5, 7))


@pytest.mark.parametrize("ratio", [2.0, 4 / 3])
def test_the_sizes_of_the_levels_are_those_of_a_pyramid(ratio):
    pyramid = pyramids.gaussian_pyramid(torch.zeros(1, 37, 50), levels=4, ratio=ratio)
    assert pyramids.level_sizes((37, 50), levels=4, ratio=ratio) == [tuple(level.shape[-2:]) for level in pyramid]


@pytest.mark.parametrize("ratio", [1e3, 1e9, 10**12])
def test_an_enormous_ratio_gives_one_pixel_the_mean(ratio):
    image = torch.rand(3, 12, 18, generator=torch.Generator().manual_seed(0))
    coarse = pyramids.downsample(image, ratio=ratio)
    assert coarse.shape == (3, 1, 1)
    torch.testing.assert_close(coarse.flatten(), image.mean((1, 2)), atol=0.02, rtol=0)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: pyramids.coarse_size(8, 8, ratio=0), "ratio is 0"),
    (lambda: pyramids.coarse_size(8, None, ratio=2), "width is NoneType None"),
    (lambda: pyramids.level_sizes((8, 8), levels=10**9), "levels is 1000000000"),
    (lambda: pyramids.level_sizes((8, 8), levels=2, ratio=math.inf), "ratio is inf"),
    (lambda: pyramids.upsample(torch.zeros(1, 8, 8), ratio=1e9), "expected"),
    (lambda: pyramids.collapse(7), "pyramid is int 7"),
    (lambda: pyramids.collapse([torch.zeros(1, 4, 4), torch.zeros(1, 8, 8)]), r"pyramid\[1\] is .* fine to coarse"),
    (lambda: pyramids.collapse([torch.zeros(1, 8, 8), torch.zeros(3, 4, 4)]), r"pyramid\[1\] is .* as many channels"),
])  # fmt: skip
def test_sizes_and_levels_that_are_none_are_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
