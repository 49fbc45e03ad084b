"""Restoration: closed forms are minimisers, descents descend, and the lecture's order of results appears."""

import math

import pytest
import torch

from labkit import images, metrics, restoration
from labkit.operators import Blur, Downsample, Mask, disk_kernel, divergence, gaussian_kernel, gradient, motion_kernel
from labkit.runtime import generator


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


# --- in Fourier -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("blur", [None, Blur(gaussian_kernel(sigma=1.5)), Blur(motion_kernel(length=5, angle=30))],
                         ids=repr)
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 3, 15, 18)])
def test_tychonov_is_where_the_gradient_of_its_energy_vanishes(blur, shape):
    observation, weight = random(*shape), 0.7
    image = restoration.tychonov(observation, weight=weight, blur=blur)
    residual = (image if blur is None else blur(image)) - observation
    fit = residual if blur is None else blur.adjoint(residual)
    slope = fit - weight * divergence(gradient(image, border="periodic"), border="periodic")
    assert slope.abs().max() < 1e-10


def test_wiener_with_one_ratio_is_regularisation_by_the_squared_norm():
    blur, observation = Blur(gaussian_kernel(sigma=1)), random(3, 12, 14)
    image = restoration.wiener(observation, noise_to_signal=0.2, blur=blur)
    slope = blur.adjoint(blur(image) - observation) + 0.2 * image
    assert slope.abs().max() < 1e-10


def test_wiener_without_noise_is_the_pseudo_inverse():
    blur, observation = Blur(disk_kernel(radius=1.5)), random(3, 12, 14)
    torch.testing.assert_close(restoration.wiener(observation, noise_to_signal=0, blur=blur),
                               blur.pseudo_inverse(observation), rtol=1e-9, atol=1e-9)


def test_wiener_with_the_true_spectra_beats_every_single_ratio():
    """The definition of the filter: of all that act on each frequency alone, the one of least mean squared error."""
    sigma, blur = 0.1, Blur(gaussian_kernel(sigma=1.5))
    clean = images.load("camera", size=64, grey=True).double()
    power = torch.fft.fft2(clean)[0].abs().square()
    observation = images.add_gaussian_noise(blur(clean), sigma=sigma)
    best = restoration.wiener(observation, noise_to_signal=64 * 64 * sigma ** 2 / power, blur=blur)
    others = [restoration.wiener(observation, noise_to_signal=10.0 ** k, blur=blur) for k in range(-4, 2)]
    others += [restoration.tychonov(observation, weight=10.0 ** k, blur=blur) for k in range(-4, 2)]
    assert metrics.mse(best, clean) < min(metrics.mse(other, clean) for other in others)


def test_tychonov_equals_scikit_images_wiener_with_the_same_regulariser():
    import numpy as np
    from skimage.restoration import wiener

    blur, observation = Blur(gaussian_kernel(sigma=1.2, radius=4)), random(1, 24, 24)
    place = np.sin(np.pi * np.arange(24) / 24) ** 2
    gradient_size = np.sqrt(4 * (place[:, None] + place))
    theirs = wiener(observation[0].numpy(), blur.transfer(24, 24).numpy(), balance=0.3,
                    reg=gradient_size.astype(complex), is_real=False, clip=False)
    ours = restoration.tychonov(observation, weight=0.3, blur=blur)
    torch.testing.assert_close(ours[0], torch.from_numpy(theirs.real))


def test_a_flat_picture_passes_through_tychonov():
    flat = torch.full((1, 9, 12), 0.4, dtype=torch.float64)
    blur = Blur(gaussian_kernel(sigma=1))
    torch.testing.assert_close(restoration.tychonov(flat, weight=5.0, blur=blur), flat)


# --- smoothed total variation ---------------------------------------------------------------------------------------

def test_smoothed_total_variation_tends_to_total_variation():
    image = random(2, 3, 8, 9)
    exact, smooth = metrics.total_variation(image), restoration.smoothed_total_variation(image, eps=1e-9)
    torch.testing.assert_close(smooth, exact, rtol=1e-6, atol=0)
    # √(ε² + t²) lies between t and t + ε
    wide = restoration.smoothed_total_variation(image, eps=0.1)
    assert (exact < wide).all() and (wide < exact + 0.1 * 3 * 72).all()


def test_its_gradient_is_the_gradient():
    image = random(2, 3, 8, 9).requires_grad_()
    restoration.smoothed_total_variation(image, eps=0.05).sum().backward()
    torch.testing.assert_close(restoration.smoothed_total_variation_gradient(image.detach(), eps=0.05), image.grad)


def test_its_gradient_is_lipschitz_with_the_stated_constant_which_is_nearly_reached():
    eps = 0.1
    stripes = 1e-6 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2).double()[None]
    change = restoration.smoothed_total_variation_gradient(stripes, eps=eps)         # from 0, where it is 0
    assert 0.9 * 8 / eps < change.norm() / (stripes - stripes.mean()).norm() <= 8 / eps


OPERATORS = [None, Blur(gaussian_kernel(sigma=1.5)), Blur(disk_kernel(radius=2), border="reflect"), Downsample(2),
             Mask(random(1, 24, 20) > 0.6)]


@pytest.mark.parametrize("operator", OPERATORS, ids=repr)
@pytest.mark.parametrize("eps", [0.003, 0.1])
def test_the_energy_never_rises_just_below_the_bound(operator, eps):
    clean = random(2, 1, 24, 20)
    observation = clean if operator is None else operator(clean)
    norm = 1 if operator is None else operator.squared_norm(clean)
    energies = []
    restoration.restore_total_variation(
        observation, weight=0.1, eps=eps, steps=60, operator=operator, step_size=0.999 * 2 / (norm + 0.8 / eps),
        callback=lambda step, image, energy: energies.append(energy))
    assert len(energies) == 60
    assert all(after <= before * (1 + 1e-12) for before, after in zip(energies, energies[1:]))


def test_well_above_the_bound_the_energy_does_rise():
    """On the picture that the Lipschitz bound is made for: the bound is no mere caution."""
    eps, weight = 1.0, 1.0
    image = 0.01 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2).double()[None]
    bound = 2 / (1 + 8 * weight / eps)

    def energy_after(step_size):
        slope = weight * restoration.smoothed_total_variation_gradient(image, eps=eps)       # the data term is at 0
        moved = image - step_size * slope
        return 0.5 * (moved - image).square().sum() + weight * restoration.smoothed_total_variation(moved, eps=eps)

    start = weight * restoration.smoothed_total_variation(image, eps=eps)
    assert energy_after(0.9 * bound) < start < energy_after(1.3 * bound)


def test_a_step_size_at_the_bound_is_refused_with_the_bound():
    observation = random(1, 8, 8)
    with pytest.raises(ValueError, match=r"step_size is 0.0247; expected less than 2 / L = 0.0247"):
        restoration.restore_total_variation(observation, weight=0.1, eps=0.01, step_size=2 / 81)
    with pytest.raises(ValueError, match=r"step_size is 0.0025; expected less than 2 / L = 0.0025"):
        restoration.inpaint_total_variation(observation, mask=observation > 0.5, eps=0.01, step_size=0.0025)


def test_the_descent_reaches_the_minimum():
    observation = random(1, 8, 9)
    image = restoration.restore_total_variation(observation, weight=0.1, eps=0.1, steps=500)
    slope = image - observation + 0.1 * restoration.smoothed_total_variation_gradient(image, eps=0.1)
    assert slope.abs().max() < 1e-9


def test_the_minimum_does_not_depend_on_the_start():
    observation = random(1, 8, 9)
    options = dict(weight=0.1, eps=0.1, steps=500)
    other = restoration.restore_total_variation(observation, start=random(1, 8, 9, seed=1), **options)
    torch.testing.assert_close(other, restoration.restore_total_variation(observation, **options), rtol=0, atol=1e-9)


def test_total_variation_agrees_with_scikit_images_chambolle():
    """Another algorithm for the same minimum, without smoothing."""
    from skimage.restoration import denoise_tv_chambolle

    noisy = images.add_gaussian_noise(images.load("camera", size=32, grey=True).double(), sigma=0.1)
    theirs = torch.from_numpy(denoise_tv_chambolle(noisy[0].numpy(), weight=0.1, eps=1e-9, max_num_iter=2000))
    ours = restoration.restore_total_variation(noisy, weight=0.1, eps=1e-3, steps=3000)[0]
    noise = (noisy[0] - theirs).square().mean().sqrt()
    assert (ours - theirs).square().mean().sqrt() < 0.05 * noise


def test_without_a_weight_a_noisy_picture_stays():
    observation = random(1, 8, 9)
    assert torch.equal(restoration.restore_total_variation(observation, weight=0, steps=3), observation)


# --- inpainting -----------------------------------------------------------------------------------------------------

def test_inpainting_keeps_known_pixels_to_the_bit_and_never_raises_the_energy():
    observation, mask = random(2, 3, 16, 18), random(1, 16, 18, seed=1) > 0.5
    energies = []
    image = restoration.inpaint_total_variation(observation, mask=mask, steps=80, step_size=0.999 * 0.01 / 4,
                                                callback=lambda step, image, energy: energies.append(energy))
    known = ~mask.expand_as(image)
    assert torch.equal(image[known], observation[known])
    assert len(energies) == 80
    assert all(after <= before * (1 + 1e-12) for before, after in zip(energies, energies[1:]))


def test_inpainting_does_not_look_at_missing_pixels():
    observation, mask = random(1, 16, 18), random(1, 16, 18, seed=1) > 0.5
    other = torch.where(mask, random(1, 16, 18, seed=2), observation)
    first, second = (restoration.inpaint_total_variation(u, mask=mask, steps=10) for u in (observation, other))
    assert torch.equal(first, second)


def test_inpainting_continues_an_edge_through_a_gap():
    image = torch.zeros(1, 16, 16, dtype=torch.float64)
    image[:, :, 8:] = 1
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, 6:9] = True
    filled = restoration.inpaint_total_variation(image, mask=mask, steps=4000)
    assert ((filled > 0.5) == (image > 0.5)).all()
    assert (filled - image).abs().max() < 0.1        # a step of height 1 spreads over about ε on each side of the gap


def test_inpainting_scattered_pixels_of_a_photograph_gains_many_decibels():
    image = images.load("camera", size=64, grey=True)
    mask = random(1, 64, 64) > 0.5
    holes = Mask(mask)(image)
    start = restoration.inpaint_total_variation(holes, mask=mask, steps=1)
    filled = restoration.inpaint_total_variation(holes, mask=mask, steps=1000)
    assert metrics.psnr(filled, image) > metrics.psnr(start, image) + 6


# --- does it work ---------------------------------------------------------------------------------------------------

def test_denoising_comes_out_in_the_lectures_order():
    """Noisy 19.93 dB, Tychonov 25.89, TV 27.21 in the lecture, on a picture it does not name."""
    clean = images.load("camera", size=256, grey=True)
    noisy = images.add_gaussian_noise(clean, sigma=0.1)
    tychonov = max(metrics.psnr(restoration.tychonov(noisy, weight=weight), clean) for weight in (0.5, 1, 1.5, 2))
    total_variation = metrics.psnr(restoration.restore_total_variation(noisy, weight=0.08, steps=100), clean)
    assert metrics.psnr(noisy, clean) + 5 < tychonov < total_variation - 1


def test_deblurring_comes_out_in_the_same_order_and_the_pseudo_inverse_last():
    clean, blur = images.load("camera", size=96, grey=True), Blur(gaussian_kernel(sigma=1.5))
    observation = images.add_gaussian_noise(blur(clean), sigma=0.02)
    tychonov = max(metrics.psnr(restoration.tychonov(observation, weight=weight, blur=blur), clean)
                   for weight in (0.003, 0.01, 0.03, 0.1))
    total_variation = metrics.psnr(restoration.restore_total_variation(observation, weight=0.003, operator=blur), clean)
    explosion = metrics.psnr(blur.pseudo_inverse(observation), clean)
    assert explosion < metrics.psnr(observation, clean) < tychonov < total_variation


def test_super_resolution_beats_the_pseudo_inverse():
    clean, operator = images.load("camera", size=40, grey=True), Downsample(2)
    observation = images.add_gaussian_noise(operator(clean), sigma=0.02)
    naive = operator.pseudo_inverse(observation)
    restored = restoration.restore_total_variation(observation, weight=0.002, operator=operator, start=naive,
                                                   steps=150)
    assert restored.shape == clean.shape
    assert metrics.psnr(restored, clean) > metrics.psnr(naive, clean)


# --- conventions ----------------------------------------------------------------------------------------------------

CALLS = {"wiener": lambda v: restoration.wiener(v, noise_to_signal=0.1, blur=Blur(gaussian_kernel(sigma=1))),
         "tychonov": lambda v: restoration.tychonov(v, weight=1.0),
         "slope": lambda v: restoration.smoothed_total_variation_gradient(v, eps=0.5),
         "restore": lambda v: restoration.restore_total_variation(v, weight=0.1, eps=0.1, steps=5),
         "inpaint": lambda v: restoration.inpaint_total_variation(v, mask=torch.ones(1, 9, 12).triu().bool(), steps=5)}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_dtype_shape_and_argument_are_kept(name, dtype):
    observation = random(2, 3, 9, 12).to(dtype)
    copy = observation.clone()
    result = CALLS[name](observation)
    assert result.dtype == dtype and result.shape == observation.shape
    assert torch.equal(observation, copy)
    # five steps or two transforms in float32, and one rounding to dtype
    assert (result.double() - CALLS[name](observation.double())).abs().max() < 10 * torch.finfo(dtype).eps


@pytest.mark.cuda
@pytest.mark.parametrize("name", CALLS)
def test_a_gpu_gives_the_same(name):
    observation = random(3, 9, 12)
    torch.testing.assert_close(CALLS[name](observation.cuda()).cpu(), CALLS[name](observation))


@pytest.mark.parametrize("name", CALLS)
def test_pictures_of_a_batch_are_restored_alone(name):
    batch = random(2, 3, 9, 12)
    torch.testing.assert_close(CALLS[name](batch)[1], CALLS[name](batch[1]))


@pytest.mark.parametrize("call, message", [
    (lambda v: restoration.tychonov(v, weight=0), "weight is 0"),
    (lambda v: restoration.tychonov(v, weight=1, blur=Blur(torch.ones(3, 3), border="zero")), "periodic border"),
    (lambda v: restoration.wiener(v, noise_to_signal=-1), "noise_to_signal is -1"),
    (lambda v: restoration.wiener(v, noise_to_signal=torch.ones(3, 3)), r"tensor \(8, 9\)"),
    (lambda v: restoration.wiener(v, noise_to_signal=-torch.ones(8, 9)), "none below 0"),
    (lambda v: restoration.wiener(v, noise_to_signal=1, blur=Mask(torch.ones(1, 8, 9).bool())), "blur is Mask"),
    (lambda v: restoration.restore_total_variation(v, weight=-1), "weight is -1"),
    (lambda v: restoration.restore_total_variation(v, weight=1, eps=0), "eps is 0"),
    (lambda v: restoration.restore_total_variation(v, weight=1, steps=0), "steps is 0"),
    (lambda v: restoration.restore_total_variation(v, weight=1, step_size=-1), "step_size is -1"),
    (lambda v: restoration.restore_total_variation(v, weight=1, start=v[:, 1:]), "start is"),
    (lambda v: restoration.restore_total_variation(v * math.nan, weight=1), "NaN"),
    (lambda v: restoration.inpaint_total_variation(v, mask=torch.ones(1, 8, 9)), "boolean"),
    (lambda v: restoration.inpaint_total_variation(v, mask=torch.ones(1, 8, 9).bool()), "at least one known pixel"),
    (lambda v: restoration.smoothed_total_variation(v, eps=-1), "eps is -1"),
])
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(random(1, 8, 9))
