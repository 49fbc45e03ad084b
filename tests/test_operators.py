"""Operators: adjoints, pseudo-inverses, norms; kernels; discrete derivatives."""

import math

import numpy as np
import pytest
import torch

from labkit import images, operators
from labkit.operators import (Blur, Downsample, Identity, LinearOperator, Mask, disk_kernel, divergence,
                              gaussian_kernel, gradient, motion_kernel)
from labkit.runtime import generator

BORDERS = ("periodic", "reflect", "replicate", "zero")


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


KERNELS = {"gaussian": gaussian_kernel(sigma=1.3), "motion": motion_kernel(length=7, angle=30),
           "disk": disk_kernel(radius=2.5), "any": random(3, 5, seed=7) - 0.5}
HUGE = gaussian_kernel(sigma=6)         # 49 × 49: larger than the images here, and it erases most of what they hold
INVERTIBLE = [Identity(), Mask(random(1, 24, 36, seed=5) > 0.5), *(Blur(kernel) for kernel in KERNELS.values()),
              *(Downsample(factor, antialias=kind) for factor in (1, 2, 3, 4, 12) for kind in ("gaussian", "box"))]
OTHERS = [*(Blur(kernel, border=border) for kernel in KERNELS.values() for border in BORDERS[1:]),
          *(Downsample(factor, border=border) for factor in (2, 3) for border in BORDERS[1:])]


@pytest.mark.parametrize("operator", INVERTIBLE + OTHERS, ids=repr)
@pytest.mark.parametrize("shape", [(1, 24, 36), (2, 3, 24, 36)])
def test_the_adjoint_is_the_adjoint(operator, shape):
    image = random(*shape)
    degraded = operator(image)
    other = random(*degraded.shape, seed=1)
    back = operator.adjoint(other)
    assert back.shape == image.shape
    left, right = float((degraded * other).sum()), float((image * back).sum())
    assert left == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("operator", INVERTIBLE, ids=repr)
def test_the_pseudo_inverse_has_the_four_properties_of_moore_and_penrose(operator):
    image = random(3, 24, 36)
    degraded = operator(image)
    inverse = operator.pseudo_inverse(degraded)
    torch.testing.assert_close(operator(inverse), degraded, rtol=0, atol=1e-10)                 # A A⁺ A = A
    other = random(*degraded.shape, seed=1)
    once = operator.pseudo_inverse(other)
    scale = float(once.abs().max())
    again = operator.pseudo_inverse(operator(once))
    torch.testing.assert_close(again, once, rtol=0, atol=1e-7 * scale)                          # A⁺ A A⁺ = A⁺
    third = random(*degraded.shape, seed=2)
    left = float((operator(once) * third).sum())                                                # A A⁺ is symmetric
    assert left == pytest.approx(float((other * operator(operator.pseudo_inverse(third))).sum()), rel=1e-7)
    fourth = random(*image.shape, seed=3)
    left = float((inverse * fourth).sum())                                                      # and so is A⁺ A
    assert left == pytest.approx(float((image * operator.pseudo_inverse(operator(fourth))).sum()), rel=1e-7)


def test_what_a_wide_blur_leaves_comes_back():
    blur, image = Blur(HUGE), random(3, 24, 36)
    torch.testing.assert_close(blur(blur.pseudo_inverse(blur(image))), blur(image), rtol=0, atol=1e-10)


@pytest.mark.parametrize("operator", INVERTIBLE + OTHERS, ids=repr)
def test_the_norm_is_below_its_bound(operator):
    image = random(1, 24, 36)
    for _ in range(30):                                 # power iteration: its estimate only rises towards ‖A‖²
        image = operator.adjoint(operator(image))
        norm = float(image.norm())
        image = image / norm
    assert norm <= operator.squared_norm(image) * (1 + 1e-9)


@pytest.mark.parametrize("operator", [Blur(KERNELS["motion"]), Mask(random(1, 24, 36) > 0.5), Downsample(2)], ids=repr)
def test_the_bound_is_tight_where_the_course_needs_it(operator):
    image = random(1, 24, 36)
    for _ in range(60):
        image = operator.adjoint(operator(image))
        norm = float(image.norm())
        image = image / norm
    assert operator.squared_norm(image) < 1.02 * norm


@pytest.mark.parametrize("operator", [Blur(KERNELS["disk"]), Blur(KERNELS["any"], border="reflect"), Downsample(2),
                                      Mask(random(1, 24, 36) > 0.5)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_dtype_is_kept(operator, dtype):
    image = random(3, 24, 36).to(dtype)
    exact = operator(image.double())
    degraded = operator(image)
    assert degraded.dtype == operator.adjoint(degraded).dtype == dtype
    # 121 products at most, each rounded to float32, the result rounded to dtype
    assert (degraded.double() - exact).abs().max() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("operator", INVERTIBLE[1:4] + OTHERS[:2] + [Downsample(2)], ids=repr)
def test_gradients_flow_through_and_equal_the_adjoint(operator):
    image = random(1, 24, 36).requires_grad_()
    degraded = operator(image)
    other = random(*degraded.shape, seed=1)
    (degraded * other).sum().backward()
    torch.testing.assert_close(image.grad, operator.adjoint(other))


@pytest.mark.cuda
@pytest.mark.parametrize("operator", INVERTIBLE, ids=repr)
def test_a_gpu_gives_the_same(operator):
    image = random(3, 24, 36)
    degraded = operator(image.cuda())
    torch.testing.assert_close(degraded.cpu(), operator(image))
    torch.testing.assert_close(operator.adjoint(degraded).cpu(), operator.adjoint(degraded.cpu()))
    torch.testing.assert_close(operator.pseudo_inverse(degraded).cpu(), operator.pseudo_inverse(degraded.cpu()))
    assert operator.squared_norm(image.cuda()) == pytest.approx(operator.squared_norm(image))


def test_gradients_flow_through_an_adjoint():
    operator, observation = Blur(gaussian_kernel(sigma=0.5), border="reflect"), random(1, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(operator.adjoint, observation)


def test_arguments_are_not_written_into():
    image, mask = random(1, 24, 36), random(1, 24, 36) > 0.5
    copies = image.clone(), mask.clone()
    for operator in (Identity(), Mask(mask), Blur(KERNELS["disk"]), Downsample(2)):
        result = operator(image)
        result += 1
        assert torch.equal(image, copies[0]) and torch.equal(mask, copies[1])


@pytest.mark.parametrize("border, mode", [("periodic", "wrap"), ("reflect", "mirror"), ("replicate", "nearest"),
                                          ("zero", "constant")])
@pytest.mark.parametrize("kernel", ["gaussian", "motion", "any"])
def test_a_blur_equals_scipys_convolution(border, mode, kernel):
    from scipy.ndimage import convolve

    image = random(1, 17, 20)
    theirs = convolve(image[0].numpy(), KERNELS[kernel].numpy(), mode=mode)
    torch.testing.assert_close(Blur(KERNELS[kernel], border=border)(image)[0], torch.from_numpy(theirs))


def test_a_kernel_larger_than_the_image_wraps_around():
    from scipy.ndimage import convolve

    image = random(1, 9, 10)
    theirs = convolve(image[0].numpy(), HUGE.numpy(), mode="wrap")
    torch.testing.assert_close(Blur(HUGE)(image)[0], torch.from_numpy(theirs))


def test_the_gaussian_kernel_is_scipys():
    from scipy.ndimage import gaussian_filter

    image = random(1, 30, 30)
    theirs = gaussian_filter(image[0].numpy(), 1.7, mode="wrap")
    torch.testing.assert_close(Blur(gaussian_kernel(sigma=1.7))(image)[0], torch.from_numpy(theirs))


@pytest.mark.parametrize("kernel", [motion_kernel(length=9, angle=angle) for angle in (0, 20, 45, 90, 137, 300)]
                         + [motion_kernel(length=0.5), disk_kernel(radius=0.4), disk_kernel(radius=3)])
def test_kernels_sum_to_one_and_are_symmetric_about_their_centre(kernel):
    assert kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert kernel.min() >= 0
    torch.testing.assert_close(kernel, kernel.flip(0, 1), rtol=0, atol=1e-12)


def test_a_motion_kernel_has_its_direction_and_its_length():
    level, up = motion_kernel(length=9), motion_kernel(length=9, angle=90)
    torch.testing.assert_close(level, up.T, rtol=0, atol=1e-12)
    assert level.sum(1).argmax() == 5 and level.sum(1).max() > 1 - 1e-12              # one row
    rising = motion_kernel(length=9, angle=45)
    assert rising[:5, 6:].sum() > 0.35 and rising[:5, :5].sum() == 0                      # up means a smaller row
    place = torch.arange(-5, 6, dtype=torch.float64)
    # a line of length 9 has variance 81/12; sharing each point between two pixels adds the mean of t(1 - t), 1/6
    assert float((level.sum(0) * place ** 2).sum()) == pytest.approx(81 / 12 + 1 / 6, abs=1e-3)


def test_a_disk_kernel_is_flat_inside_and_empty_outside():
    kernel = disk_kernel(radius=4)
    distance = torch.hypot(*torch.meshgrid(*[torch.arange(-4.0, 5.0)] * 2, indexing="ij"))
    inside = kernel[distance < 4 - math.sqrt(0.5)]
    assert inside.max() == inside.min() == pytest.approx(1 / (16 * math.pi), rel=1e-2)      # 16 × 16 points a pixel
    assert kernel[distance > 4 + math.sqrt(0.5)].abs().max() == 0


def test_box_downsampling_is_average_pooling():
    image = random(2, 3, 24, 36)
    torch.testing.assert_close(Downsample(4, antialias="box")(image), torch.nn.functional.avg_pool2d(image, 4))


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("border", BORDERS)
def test_downsampling_does_not_shift(factor, border):
    image = random(1, 24, 36)
    operator = Downsample(factor, border=border)
    torch.testing.assert_close(operator(image.flip(-1, -2)), operator(image).flip(-1, -2))


def test_downsampling_lies_where_resizing_lies():
    image = images.load("astronaut", size=128)
    small = Downsample(4, border="reflect")(image)
    resized = images.resize(image, scale=0.25)

    def distance(shift):
        return (small - resized.roll(shift, -1))[..., 2:-2].square().mean()

    assert distance(0) < 0.1 * min(distance(1), distance(-1))


def test_downsampling_removes_what_would_alias():
    checkerboard = ((torch.arange(24)[:, None] + torch.arange(36)) % 2).double()[None]
    # a Gaussian of standard deviation 1 leaves exp(-π²/2) of it along each side
    assert (Downsample(2)(checkerboard) - 0.5).abs().max() < 1e-3


def test_a_mask_removes_and_leaves_pixels():
    mask = random(1, 5, 6) > 0.5
    image = random(2, 3, 5, 6, seed=1)
    masked = Mask(mask)(image)
    assert masked[mask.expand_as(image)].abs().sum() == 0
    assert torch.equal(masked[~mask.expand_as(image)], image[~mask.expand_as(image)])


def test_noise_explodes_in_the_pseudo_inverse():
    image = images.load("camera", size=64).double()
    blur = Blur(gaussian_kernel(sigma=1))
    clean = blur.pseudo_inverse(blur(image))
    noisy = blur.pseudo_inverse(images.add_gaussian_noise(blur(image), sigma=4 / 255))
    assert (clean - image).abs().max() < 1e-6
    assert (noisy - image).square().mean().sqrt() > 1


@pytest.mark.parametrize("border, mode", [("replicate", "edge"), ("periodic", "wrap")])
def test_the_gradient_is_the_forward_difference(border, mode):
    image = random(3, 6, 7)
    padded = np.pad(image.numpy(), ((0, 0), (0, 1), (0, 1)), mode=mode)
    down, right = gradient(image, border=border)
    torch.testing.assert_close(down, torch.from_numpy(padded[:, 1:, :-1] - padded[:, :-1, :-1]))
    torch.testing.assert_close(right, torch.from_numpy(padded[:, :-1, 1:] - padded[:, :-1, :-1]))


@pytest.mark.parametrize("border", ["replicate", "periodic"])
@pytest.mark.parametrize("shape", [(3, 6, 7), (2, 1, 1, 5)])
def test_divergence_is_minus_the_adjoint_of_the_gradient(border, shape):
    image, field = random(*shape), random(2, *shape, seed=1)
    left = float((gradient(image, border=border) * field).sum())
    assert left == pytest.approx(-float((image * divergence(field, border=border)).sum()), rel=1e-10)


@pytest.mark.parametrize("border", ["replicate", "periodic"])
def test_the_squared_norm_of_the_gradient_is_at_most_eight_and_close_to_it(border):
    image = random(1, 32, 32) - 0.5
    for _ in range(100):
        image = -divergence(gradient(image, border=border), border=border)
        norm = float(image.norm())
        image = image / norm
    assert 7.5 < norm <= 8


def test_a_new_operator_needs_only_to_say_what_it_does():
    class Brightness(LinearOperator):
        def _apply(self, image):
            return 3 * image

    image = random(1, 4, 5)
    torch.testing.assert_close(Brightness().adjoint(image), 3 * image)
    assert Brightness().squared_norm(image) == pytest.approx(9)
    with pytest.raises(NotImplementedError, match="pseudo-inverse"):
        Brightness().pseudo_inverse(image)


def test_operators_say_what_they_are():
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 0, :3] = True
    assert repr(Identity()) == "Identity()"
    assert repr(Mask(mask)) == "Mask(4×5, 3 pixels missing)"
    assert repr(Blur(torch.ones(3, 5) / 15)) == "Blur(3×5 kernel of sum 1, border='periodic')"
    assert repr(Downsample(2, antialias="box")) == "Downsample(2, antialias='box', border='periodic')"


@pytest.mark.parametrize("call, message", [
    (lambda u: Blur(torch.ones(2, 3)), "odd sides"),
    (lambda u: Blur(torch.ones(3)), r"kernel is .*\(3,\)"),
    (lambda u: Blur(torch.full((3, 3), math.nan)), "finite"),
    (lambda u: Blur(torch.ones(3, 3), border="normalized"), "border is 'normalized'"),
    (lambda u: Blur(torch.ones(3, 3), border="zero").pseudo_inverse(u), "border is 'zero'; expected 'periodic'"),
    (lambda u: Downsample(2, border="zero").pseudo_inverse(u), "border is 'zero'; expected 'periodic'"),
    (lambda u: Downsample(0), "factor is 0"),
    (lambda u: Downsample(2, antialias="none"), "antialias is 'none'"),
    (lambda u: Downsample(4)(u), "image is 8×10 pixels; expected multiples of the factor 4"),
    (lambda u: Mask(torch.ones(8, 10, dtype=torch.bool)), r"\(1, H, W\)"),
    (lambda u: Mask(torch.ones(1, 8, 10)), "boolean"),
    (lambda u: Mask(torch.ones(1, 8, 9, dtype=torch.bool))(u), r"boolean tensor \(1, 8, 10\)"),
    (lambda u: Identity()(u * math.inf), "infinite"),
    (lambda u: gaussian_kernel(sigma=0), "sigma is 0"),
    (lambda u: motion_kernel(length=0), "length is 0"),
    (lambda u: disk_kernel(radius=-1), "radius is -1"),
    (lambda u: gradient(u, border="reflect"), "border is 'reflect'"),
    (lambda u: divergence(u), "field is"),
])
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(random(1, 8, 10) + 0.1)


def test_all_borders_of_pad_are_offered():
    assert set(operators._BORDERS) == set(images._PAD_MODES)
