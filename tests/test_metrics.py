"""Metrics: against scikit-image, piq and exact solutions; one convention for images and batches."""

import math
import sys
import types

import numpy as np
import pytest
import torch

from labkit import features, filtering, images, metrics, patches
from labkit.runtime import generator

PAIRED = [metrics.mse, metrics.rmse, metrics.psnr, metrics.ssim, metrics.ms_ssim, metrics.gmsd, metrics.fsim,
          metrics.haarpsi, metrics.vif, metrics.flip]
DISTANCES = {"mse", "rmse", "gmsd", "flip"}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


def photograph(name, *, size, sigma, grey=False, dtype=torch.float64):
    """A picture and a noisy version of it, both in [0, 1]."""
    clean = images.load(name, size=size, grey=grey).to(dtype)
    return images.add_gaussian_noise(clean, sigma=sigma).clamp(0, 1), clean


def call(metric, image, reference):
    """ms_ssim with as many levels as the small test pictures allow."""
    return metric(image, reference, levels=2) if metric is metrics.ms_ssim else metric(image, reference)


# --- one convention -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("metric", PAIRED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_gives_one_value_per_picture(metric, channels):
    image, reference = random(2, channels, 48, 41), random(2, channels, 48, 41, seed=1)
    values = call(metric, image, reference)
    assert values.shape == (2,) and values.dtype == torch.float64
    for value, one, other in zip(values, image, reference):
        single = call(metric, one, other)
        assert single.shape == ()
        torch.testing.assert_close(single, value)


@pytest.mark.parametrize("metric", PAIRED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_dtype_of_the_image_is_kept(metric, dtype):
    image, reference = random(3, 48, 41).to(dtype), random(3, 48, 41, seed=1).to(dtype)
    value = call(metric, image, reference)
    assert value.dtype == dtype
    exact = call(metric, image.double(), reference.double())
    # computed in float32, then rounded to dtype
    torch.testing.assert_close(value.double(), exact, rtol=max(1e-4, torch.finfo(dtype).eps), atol=1e-5)


@pytest.mark.parametrize("metric", PAIRED, ids=lambda f: f.__name__)
def test_equal_pictures_are_perfect(metric):
    image = random(3, 48, 41)
    best = math.inf if metric is metrics.psnr else 0 if metric.__name__ in DISTANCES else 1
    assert float(call(metric, image, image.clone())) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("metric", PAIRED, ids=lambda f: f.__name__)
def test_more_noise_is_worse(metric):
    values = [float(call(metric, *photograph("astronaut", size=64, sigma=sigma))) for sigma in (0.02, 0.05, 0.1, 0.2)]
    assert values == sorted(values, reverse=metric.__name__ not in DISTANCES)


@pytest.mark.parametrize("metric", [f for f in PAIRED if f is not metrics.flip], ids=lambda f: f.__name__)
def test_gradients_are_finite(metric):
    image, reference = random(3, 48, 41).requires_grad_(), random(3, 48, 41, seed=1)
    call(metric, image, reference).backward()
    assert torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0


def flat(value, *, channels=3):
    return torch.full((channels, 44, 44), value)


def half(value, other):
    """Two flat halves."""
    return torch.cat([flat(value), flat(other)], dim=-1)[..., 22:66].contiguous()


FLAT_PAIRS = {"equal": (random(3, 44, 44), random(3, 44, 44)), "equal and flat": (flat(0.3), flat(0.3)), "black": (flat(0.0), flat(0.0)),
              "white": (flat(1.0), flat(1.0)), "almost black": (flat(2e-6), flat(1e-6)), "two greys": (flat(0.3), flat(0.5)),
              "black and white": (flat(0.0), flat(1.0)), "a flat image": (flat(0.4), random(3, 44, 44)),
              "a flat reference": (random(3, 44, 44), flat(0.4)), "flat halves": (half(0.2, 0.7), half(0.2, 0.6)),
              "equal flat halves": (half(0.2, 0.7), half(0.2, 0.7))}


@pytest.mark.parametrize("metric", [f for f in PAIRED if f is not metrics.flip], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pair", FLAT_PAIRS)
def test_gradients_of_equal_and_of_flat_pictures_are_finite(metric, pair, channels, dtype):
    image, reference = (picture[:channels].to(dtype).clone().requires_grad_() for picture in FLAT_PAIRS[pair])
    value = call(metric, image, reference)
    value.backward()
    assert torch.isfinite(image.grad).all() and torch.isfinite(reference.grad).all()
    assert 0 <= float(value.detach()) <= (math.inf if metric in (metrics.psnr, metrics.vif) else 1)
    if pair.split()[0] in ("equal", "black", "white") and "and white" not in pair:
        best = math.inf if metric is metrics.psnr else 0 if metric.__name__ in DISTANCES else 1
        assert float(value.detach()) == pytest.approx(best, abs=1e-6 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("isotropic", [True, False])
def test_total_variation_has_a_finite_gradient_at_flat_places(isotropic):
    for picture in (flat(0.5), half(0.2, 0.7), random(3, 8, 8)):
        image = picture.clone().requires_grad_()
        metrics.total_variation(image, isotropic=isotropic).backward()
        assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(metrics.total_variation, random(1, 4, 5).requires_grad_())


def test_the_diversity_of_equal_pictures_has_a_finite_gradient():
    batch = random(1, 3, 6, 7).repeat(3, 1, 1, 1)
    batch[0, :, :2] += 0.1
    batch.requires_grad_()
    metrics.pixel_diversity(batch).backward()
    assert torch.isfinite(batch.grad).all() and batch.grad.abs().sum() > 0


@pytest.mark.parametrize("measure", [
    metrics.total_variation, lambda u: metrics.patch_transport_cost(u, torch.zeros_like(u), patch_size=160, stride=20, steps=2),
    lambda u: metrics.frechet_distance(250 * u[0], -250 * u[0])], ids=["total_variation", "patch_transport_cost", "frechet_distance"])
def test_sums_over_many_pixels_do_not_overflow_in_float16(measure):
    image = (torch.arange(3 * 300 * 300).reshape(3, 300, 300) % 2).to(torch.float16) + 0.5
    value, exact = measure(image), measure(image.double())
    assert 65504 < float(exact) and float(value) == pytest.approx(float(exact), rel=1e-4)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_ssim_of_bright_and_nearly_flat_pictures_is_exact_in_float32(window):
    bright, dim = (0.9 + 0.05 * k + 1e-3 * random(3, 64, 64, seed=k, dtype=torch.float32) for k in range(2))
    for image, reference in ((bright, dim), (bright, bright + 1e-4), (255 * bright, 255 * dim)):
        options = {"window": window, "data_range": 255 if image.max() > 2 else 1}
        exact = metrics.ssim_map(image.double(), reference.double(), **options)
        torch.testing.assert_close(metrics.ssim_map(image, reference, **options).double(), exact, rtol=0, atol=1e-6)
        assert metrics.ssim_map(image, reference, **options).max() <= 1 and exact.max() <= 1
        assert metrics.ssim(image, image.clone(), **options) <= 1


def test_vif_of_bright_and_nearly_flat_pictures_is_exact_in_float32():
    import piq

    for amplitude in (1e-3, 1e-2, 0.1):
        clean = 0.85 + amplitude * random(3, 48, 50, dtype=torch.float32)
        noisy = clean + 0.3 * amplitude * random(3, 48, 50, seed=1, dtype=torch.float32)
        expected = piq.vif_p(noisy[None].double(), clean[None].double())
        assert float(metrics.vif(noisy, clean)) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("metric", [*PAIRED, metrics.patch_transport_cost], ids=lambda f: f.__name__)
def test_a_gpu_gives_the_same(metric):
    image, reference = random(3, 48, 41), random(3, 48, 41, seed=1)
    value = call(metric, image.cuda(), reference.cuda())
    assert value.device.type == "cuda"
    torch.testing.assert_close(value.cpu(), call(metric, image, reference))


# --- against peers --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [16, 33, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_psnr_and_mse_equal_scikit_image(size, dtype):
    from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

    noisy, clean = photograph("astronaut", size=size, sigma=0.1, dtype=dtype)
    ours, theirs = metrics.psnr(noisy, clean), peak_signal_noise_ratio(clean.numpy(), noisy.numpy(), data_range=1)
    assert float(ours) == pytest.approx(theirs, abs=1e-4)
    error = mean_squared_error(clean.numpy(), noisy.numpy())
    assert float(metrics.mse(noisy, clean)) == pytest.approx(error, rel=1e-5)
    assert float(metrics.rmse(noisy, clean)) == pytest.approx(math.sqrt(error), rel=1e-5)


def test_psnr_of_eight_bit_values_is_that_of_the_image():
    noisy, clean = photograph("camera", size=32, sigma=0.1, grey=True)
    scaled = metrics.psnr(255 * noisy, 255 * clean, data_range=255)
    torch.testing.assert_close(scaled, metrics.psnr(noisy, clean))


@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("size", [13, 40, 75])
@pytest.mark.parametrize("window, theirs", [
    ("gaussian", dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)), ("uniform", {})])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ssim_equals_scikit_image(grey, size, window, theirs, dtype):
    from skimage.metrics import structural_similarity

    noisy, clean = photograph("astronaut", size=size, sigma=0.1, grey=grey, dtype=dtype)
    noisy, clean = noisy[:, :, 1:], clean[:, :, 1:]                  # not square
    expected = structural_similarity(noisy.numpy(), clean.numpy(), data_range=1, channel_axis=0, **theirs)
    assert float(metrics.ssim(noisy, clean, window=window)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("window, side, margin", [("gaussian", 11, 5), ("uniform", 7, 3)])
def test_the_map_of_ssim_equals_scikit_image(window, side, margin):
    from skimage.metrics import structural_similarity

    options = {} if window == "uniform" else dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    noisy, clean = photograph("camera", size=40, sigma=0.1, grey=True)
    _, expected = structural_similarity(noisy[0].numpy(), clean[0].numpy(), data_range=1, full=True, **options)
    ours = metrics.ssim_map(noisy, clean, window=window)
    assert ours.shape == (1, 41 - side, 41 - side)
    torch.testing.assert_close(ours[0], torch.from_numpy(expected[margin:-margin, margin:-margin]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(176, 192), (224, 176)])
def test_multi_scale_ssim_equals_piq(channels, shape):
    import piq

    clean = images.resize(images.load("astronaut"), size=shape)[None, :channels]
    noisy = images.add_gaussian_noise(clean, sigma=0.15).clamp(0, 1)
    expected = piq.multi_scale_ssim(noisy, clean, reduction="none")
    torch.testing.assert_close(metrics.ms_ssim(noisy, clean), expected, rtol=0, atol=1e-4)


def test_multi_scale_ssim_of_odd_sizes_averages_the_last_pixel_with_itself():
    noisy, clean = photograph("camera", size=41, sigma=0.15, grey=True)
    even = [torch.nn.functional.pad(picture[None], (0, 1, 0, 1), mode="replicate") for picture in (noisy, clean)]
    small = [torch.nn.functional.avg_pool2d(picture, 2) for picture in even]
    weights = torch.tensor([0.0448, 0.2856], dtype=torch.float64)
    weights /= weights.sum()
    luminance_free = metrics._ssim_maps(noisy[None], clean[None], window="gaussian", data_range=1)[1].mean()
    expected = luminance_free ** weights[0] * metrics.ssim(*small)[0] ** weights[1]
    torch.testing.assert_close(metrics.ms_ssim(noisy, clean, levels=2), expected)


def test_multi_scale_ssim_of_opposite_structure_is_zero_with_a_finite_gradient():
    image = random(1, 24, 24).requires_grad_()
    value = metrics.ms_ssim(image, 1 - image.detach(), levels=2)
    value.backward()
    assert value == 0 and torch.isfinite(image.grad).all()


def test_ssim_is_differentiated_correctly():
    image, reference = random(1, 12, 11).requires_grad_(), random(1, 12, 11, seed=1)
    assert torch.autograd.gradcheck(lambda u: metrics.ssim(u, reference), image)


def test_total_variation_equals_its_definition_and_piq():
    import piq

    image = random(2, 3, 12, 9)
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 1), (0, 1)), mode="edge")
    down, right = padded[..., 1:, :-1] - padded[..., :-1, :-1], padded[..., :-1, 1:] - padded[..., :-1, :-1]
    torch.testing.assert_close(metrics.total_variation(image),
                               torch.from_numpy(np.hypot(down, right).sum(axis=(1, 2, 3))))
    torch.testing.assert_close(metrics.total_variation(image, isotropic=False),
                               piq.total_variation(image, reduction="none", norm_type="l1"))


def test_the_total_variation_of_a_step_is_its_height_times_its_length():
    step = torch.zeros(1, 10, 10)
    step[:, :, 4:] = 0.5
    assert metrics.total_variation(step) == 5


@pytest.mark.parametrize("name, theirs", [("gmsd", "gmsd"), ("fsim", "fsim"), ("haarpsi", "haarpsi"), ("vif", "vif_p")])
def test_wrapped_metrics_equal_their_package(name, theirs):
    import piq

    noisy, clean = photograph("astronaut", size=64, sigma=0.1)
    expected = getattr(piq, theirs)(noisy[None], clean[None], reduction="none")[0]
    torch.testing.assert_close(getattr(metrics, name)(noisy, clean), expected)


def test_flip_equals_its_package_and_its_map_is_a_map():
    import flip_evaluator

    noisy, clean = photograph("astronaut", size=64, sigma=0.1, dtype=torch.float32)
    _, expected, _ = flip_evaluator.evaluate(images.to_array(clean), images.to_array(noisy), "LDR", applyMagma=False)
    assert float(metrics.flip(noisy, clean)) == pytest.approx(expected, abs=1e-5)       # they sum in float32
    errors = metrics.flip_map(noisy, clean)
    assert errors.shape == (1, 64, 64) and 0 <= errors.min() and errors.max() <= 1


def test_flip_sees_less_from_farther_away():
    noisy, clean = photograph("astronaut", size=64, sigma=0.1)
    assert metrics.flip(noisy, clean, pixels_per_degree=200) < metrics.flip(noisy, clean, pixels_per_degree=30)


# --- what is missing is said ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("metric, package, cure", [
    (metrics.gmsd, "piq", r'"labkit\[metrics\]"'), (metrics.flip, "flip_evaluator", r'"labkit\[metrics\]"'),
    (metrics.lpips, "torchmetrics.image.lpip", "torchmetrics")])
def test_a_missing_package_is_named_with_its_cure(metric, package, cure, monkeypatch):
    metrics._lpips_model.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {cure}"):
        metric(random(3, 64, 64), random(3, 64, 64))


@pytest.mark.parametrize("metric", [metrics.gmsd, metrics.fsim, metrics.haarpsi, metrics.vif, metrics.lpips, metrics.dists],
                         ids=lambda f: f.__name__)
def test_a_torchvision_of_another_build_is_named_and_breaks_no_other_metric(metric, monkeypatch, tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "piq", "torchmetrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    metrics._lpips_model.cache_clear()
    metrics._dists_model.cache_clear()
    with pytest.raises(ImportError, match=r"nms does not exist\)\. torch and torchvision must be of one build"):
        metric(random(3, 64, 64), random(3, 64, 64))
    assert metrics.ssim(random(3, 64, 64), random(3, 64, 64)) == 1
    assert metrics.flip(random(3, 64, 64), random(3, 64, 64)) == 0


@pytest.mark.parametrize("metric", [metrics.lpips, metrics.dists], ids=lambda f: f.__name__)
def test_missing_weights_are_named_with_their_place_and_nothing_is_downloaded(metric, monkeypatch, tmp_path):
    pytest.importorskip("torchmetrics", reason="LPIPS and DISTS go untested: torchmetrics is not installed")
    metrics._lpips_model.cache_clear()
    metrics._dists_model.cache_clear()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("a download was attempted"))
    with pytest.raises(FileNotFoundError, match=r"vgg16 weights.*copy https.*checkpoints.vgg16-397923af\.pth"):
        metric(random(3, 64, 64), random(3, 64, 64))


def test_lpips_runs_on_weights_that_are_on_disk(monkeypatch, tmp_path):
    """With random weights in place of the trained SqueezeNet: this tests the way there, not the metric."""
    pytest.importorskip("torchmetrics", reason="LPIPS goes untested: torchmetrics is not installed")
    import torchvision

    (tmp_path / "checkpoints").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(),
                   tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metrics._lpips_model.cache_clear()
    image, reference = random(2, 3, 48, 48, dtype=torch.float32), random(2, 3, 48, 48, seed=1, dtype=torch.float32)
    values = metrics.lpips(image, reference, network="squeeze")
    assert values.shape == (2,) and (values > 0).all()
    assert metrics.lpips(image[0], image[0], network="squeeze") == 0
    image.requires_grad_()
    metrics.lpips(image, reference, network="squeeze").sum().backward()
    assert image.grad.abs().sum() > 0
    metrics._lpips_model.cache_clear()


def test_dists_runs_on_weights_that_are_on_disk(monkeypatch):
    """With an untrained VGG-16 in place of the trained one: this tests the way there, not the metric."""
    pytest.importorskip("torchmetrics", reason="DISTS goes untested: torchmetrics is not installed")
    from torchvision.models import vgg

    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = vgg.make_layers(vgg.cfgs["D"])
    monkeypatch.setattr("torchmetrics.functional.image.dists.vgg16",
                        lambda weights: types.SimpleNamespace(features=features))
    monkeypatch.setattr(metrics, "_require_trunk", lambda *_: None)
    metrics._dists_model.cache_clear()
    image, reference = random(2, 3, 32, 32, dtype=torch.float32), random(2, 3, 32, 32, seed=1, dtype=torch.float32)
    values = metrics.dists(image, reference)
    assert values.shape == (2,) and (values > 0).all()
    assert float(metrics.dists(image[0], image[0])) == pytest.approx(0, abs=1e-5)
    metrics._dists_model.cache_clear()


# --- sets of pictures -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("numbers, dimension", [((40, 60), 6), ((5, 7), 12), ((9, 200), 12)])
def test_the_frechet_distance_equals_its_formula(numbers, dimension):
    from scipy.linalg import sqrtm

    first, second = random(numbers[0], dimension), 2 * random(numbers[1], dimension, seed=1) + 0.3
    cov_a, cov_b = torch.cov(first.T).numpy(), torch.cov(second.T).numpy()
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    inner = root @ cov_b @ root
    middle = np.sqrt(np.linalg.eigvalsh(inner).clip(0)).sum()
    expected = float((first.mean(0) - second.mean(0)).square().sum()) + np.trace(cov_a + cov_b) - 2 * middle
    # eigenvalues that should be 0 are 1e-17, and their roots 3e-9
    assert float(metrics.frechet_distance(first, second)) == pytest.approx(expected, abs=1e-6)
    if min(numbers) > dimension:
        assert middle == pytest.approx(float(np.trace(sqrtm(cov_a @ cov_b)).real), rel=1e-6)


def test_the_frechet_distance_of_a_shift_is_its_squared_length():
    features = random(30, 5)
    shift = torch.tensor([1.0, 0, -2, 0, 0.5], dtype=torch.float64)
    assert float(metrics.frechet_distance(features, features + shift)) == pytest.approx(5.25)
    assert float(metrics.frechet_distance(features, features)) == pytest.approx(0, abs=1e-12)


def test_the_frechet_distance_in_one_dimension_compares_means_and_deviations():
    first, second = random(50, 1), 3 * random(70, 1, seed=1)
    expected = (first.mean() - second.mean()) ** 2 + (first.std() - second.std()) ** 2
    torch.testing.assert_close(metrics.frechet_distance(first, second), expected)


def test_pixel_diversity_equals_its_definition():
    batch = random(5, 3, 6, 7)
    mean = batch.mean(0)
    expected = ((batch - mean).square().sum(0) / 5).sqrt().mean()
    torch.testing.assert_close(metrics.pixel_diversity(batch), expected)
    reference = random(3, 9, 9, seed=1)
    torch.testing.assert_close(metrics.pixel_diversity(batch, reference=reference),
                               expected / reference.std(correction=0))


def test_equal_pictures_have_no_diversity():
    assert metrics.pixel_diversity(random(1, 3, 6, 7).expand(4, 3, 6, 7)) == 0


def test_diversity_does_not_shrink_with_the_number_of_pictures():
    few, many = (metrics.pixel_diversity(random(number, 1, 32, 32)) for number in (10, 100))
    assert many == pytest.approx(12 ** -0.5, rel=0.02)                # of uniform noise; 1024 pixels, 100 draws each
    assert few > 0.9 * many


# --- transport of patches -------------------------------------------------------------------------------------------

def exact_transport(first, second):
    """By linear assignment, each patch repeated until both sides are equally many."""
    from scipy.optimize import linear_sum_assignment

    cost = patches.squared_distances(first, second)
    number = math.lcm(*cost.shape)
    cost = cost.repeat_interleave(number // len(first), 0).repeat_interleave(number // len(second), 1).numpy()
    return cost[linear_sum_assignment(cost)].mean()


@pytest.mark.parametrize("first, second", [("astronaut", "coffee"), ("astronaut", "astronaut"), ("brick", "gravel")])
def test_the_transport_cost_is_within_one_percent_below_the_exact_one(first, second):
    image = images.load(first, size=(20, 20)).double().flip(-1)
    reference = images.load(second, size=(20, 20)).double()
    expected = exact_transport(*(patches.extract_patches(u, patch_size=5) for u in (image, reference)))
    value = float(metrics.patch_transport_cost(image, reference, patch_size=5))
    assert 0.99 * expected <= value <= expected * (1 + 1e-9)


def test_the_transport_cost_is_bounded_and_right_for_unequal_numbers():
    image, reference = random(1, 12, 16), random(1, 8, 12, seed=1) ** 2          # 192 and 96 patches of one pixel
    expected = exact_transport(image.reshape(-1, 1), reference.reshape(-1, 1))
    value = float(metrics.patch_transport_cost(image, reference, patch_size=1))
    assert 0.98 * expected <= value <= expected * (1 + 1e-9)


def test_few_steps_give_a_lower_bound():
    image, reference = random(1, 12, 12), random(1, 12, 12, seed=1) ** 2
    few, more, many = (float(metrics.patch_transport_cost(image, reference, patch_size=3, steps=steps))
                       for steps in (1, 10, 300))
    exact = exact_transport(*(patches.extract_patches(u, patch_size=3) for u in (image, reference)))
    assert few < more < many <= exact * (1 + 1e-9)


def test_the_same_patches_in_another_order_cost_nothing():
    image = random(1, 12, 12)
    flat = image.flatten()[torch.randperm(144, generator=generator(1))].reshape(1, 12, 12)
    assert float(metrics.patch_transport_cost(image, flat, patch_size=1)) == pytest.approx(0, abs=1e-9)


def test_the_transport_cost_of_a_batch_is_that_of_its_pictures():
    image, reference = random(2, 3, 9, 10), random(2, 3, 8, 8, seed=1)
    values = metrics.patch_transport_cost(image, reference, patch_size=3, steps=20)
    assert values.shape == (2,)
    torch.testing.assert_close(values[1], metrics.patch_transport_cost(image[1], reference[1], patch_size=3, steps=20))


def test_drawn_patches_are_the_same_for_the_same_seed():
    image, reference = random(1, 16, 16), random(1, 16, 16, seed=1)
    first, again, other = (metrics.patch_transport_cost(image, reference, patch_size=3, steps=20, max_patches=50,
                                                        seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    same = metrics.patch_transport_cost(image, image, patch_size=3, steps=20, max_patches=50)
    assert float(same) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("call, message", [
    (lambda u, v: metrics.mse(u, v[..., 1:]), "expected one shape"),
    (lambda u, v: metrics.mse(u, v.numpy()), "reference is a numpy array"),
    (lambda u, v: metrics.psnr(u, v, data_range=0), "data_range is 0"),
    (lambda u, v: metrics.ssim(u, v, window="flat"), "window is 'flat'"),
    (lambda u, v: metrics.ssim(u[..., :10], v[..., :10]), "at least 11 along each side"),
    (lambda u, v: metrics.ms_ssim(u, v), "at least 161 along each side for 5 levels"),
    (lambda u, v: metrics.ms_ssim(u, v, levels=6), "levels is 6"),
    (lambda u, v: metrics.gmsd(u + 1, v), r"image has values from .* expected \[0, 1\]"),
    (lambda u, v: metrics.flip(u, v - 1), r"reference has values .*reference.clamp\(0, 1\)"),
    (lambda u, v: metrics.flip(u, v, pixels_per_degree=0), "pixels_per_degree is 0"),
    (lambda u, v: metrics.flip(u, v, pixels_per_degree=1e9), "pixels_per_degree is 1000000000.0; expected .* from 1 to 400"),
    (lambda u, v: metrics.semi_dual_ascent(None, steps=1), "cost is NoneType None"),
    (lambda u, v: metrics.semi_dual_ascent(u, steps=1), r"cost is a tensor of shape \(3, 24, 20\)"),
    (lambda u, v: metrics.semi_dual_ascent(u[0], steps=0), "steps is 0"),
    (lambda u, v: metrics.semi_dual_ascent(u[0], steps=1, start=v[0]), r"start is .*; expected a finite tensor \(20,\)"),
    (lambda u, v: metrics.vif(u, v), "at least 41"),
    (lambda u, v: metrics.fsim(u[:2], v[:2]), "1 or 3 channels"),
    (lambda u, v: metrics.lpips(u[:1], v[:1]), "3 channels"),
    (lambda u, v: metrics.lpips(u, v, network="resnet"), "network is 'resnet'"),
    (lambda u, v: metrics.frechet_distance(u[0, :1], v[0]), "at least 2 rows"),
    (lambda u, v: metrics.frechet_distance(u[0], v[0, :, 1:]), "dimension 20 and features_b 19"),
    (lambda u, v: metrics.pixel_diversity(u), "at least 2"),
    (lambda u, v: metrics.pixel_diversity(torch.stack([u, v]), reference=torch.ones(1, 4, 4)), "flat picture"),
    (lambda u, v: metrics.patch_transport_cost(u, v[:1]), "same C and N"),
    (lambda u, v: metrics.patch_transport_cost(u, v, patch_size=99), "patch_size is 99"),
    (lambda u, v: metrics.patch_transport_cost(torch.zeros(1, 150, 150), torch.zeros(1, 150, 150)), "max_patches=8192"),
])
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(random(3, 24, 20), random(3, 24, 20, seed=1))


@pytest.mark.parametrize("metric", [*PAIRED, metrics.flip_map, metrics.ssim_map, metrics.lpips, metrics.dists], ids=lambda f: f.__name__)
@pytest.mark.parametrize("wrong", [None, 3, "astronaut", random(24, 20), random(3, 24, 20).numpy(), random(3, 24, 20).half().int()],
                         ids=lambda w: type(w).__name__)
def test_what_is_no_picture_is_refused_in_either_place(metric, wrong):
    right = random(3, 24, 20)
    with pytest.raises(ValueError, match="^image is .*; expected"):
        metric(wrong, right)
    with pytest.raises(ValueError, match="^reference is .*; expected"):
        metric(right, wrong)


def test_arguments_are_not_written_into():
    image, reference = random(3, 48, 41), random(3, 48, 41, seed=1)
    copies = image.clone(), reference.clone()
    for metric in PAIRED:
        call(metric, image, reference)
    metrics.patch_transport_cost(image, reference, patch_size=3, stride=3, steps=2)
    assert torch.equal(image, copies[0]) and torch.equal(reference, copies[1])


# --- random features ------------------------------------------------------------------------------------------------

def test_random_features_of_a_texture_know_it_again_and_notice_blur():
    pebbles, tiles = (images.load(name, size=96) for name in ("pebbles", "tiles"))
    left, right = pebbles[..., :48], pebbles[..., 48:]
    blurred = filtering.gaussian_filter(left, sigma=1.5)
    same = metrics.single_image_distance(left, right)
    assert 3 * same < metrics.single_image_distance(blurred, right)
    assert 3 * same < metrics.single_image_distance(tiles[..., :48], right)


def test_single_image_distance_is_zero_for_the_same_picture_and_symmetric():
    picture, other = images.load("tiles", size=40), images.load("sand", size=48)
    assert metrics.single_image_distance(picture, picture) < 1e-6
    torch.testing.assert_close(metrics.single_image_distance(picture, other), metrics.single_image_distance(other, picture))


def test_random_features_have_the_asked_shapes_and_depend_on_the_seed_alone():
    picture = torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0))
    found = features.random_features(picture, levels=4, filters=8)
    assert [tuple(f.shape) for f in found] == [(8, 24, 14), (8, 9, 4)]      # 15×10 still holds a filter, 8×5 does not
    assert torch.equal(found[0], features.random_features(picture, filters=8)[0])
    assert not torch.equal(found[0], features.random_features(picture, filters=8, seed=1)[0])


@pytest.mark.parametrize("wrong", [dict(filters=2), dict(patch_size=21), dict(levels=0)])
def test_random_features_refuse_what_does_not_fit(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        features.random_features(torch.zeros(3, 30, 20), **wrong)
