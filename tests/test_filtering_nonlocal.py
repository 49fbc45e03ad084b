"""Non-local means, patch PCA, the patch auto-encoder, attention, and the weights of all filters."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import images
from labkit.filtering import attention, autoencoder
from labkit.filtering.attention import dot_product_attention, nonlocal_attention
from labkit.filtering.autoencoder import PatchAutoencoder
from labkit.filtering.bilateral import bilateral_filter, cross_bilateral_filter, rolling_guidance_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import box_filter, gaussian_filter
from labkit.filtering.nonlocal_means import nonlocal_means
from labkit.filtering.nonlocal_pca import nonlocal_pca, pca_filter, project_patches
from labkit.filtering.weights import weights_at
from labkit.kernels import run
from labkit.patches import extract_patches
from labkit.runtime import generator
from tests.pictures import random_image

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SIGMA = 25 / 255


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return -10 * math.log10(float((first - second).square().mean()))


def noisy_photograph(name: str, size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    clean = images.load(name)
    if size is not None:
        clean = images.crop(clean, row=100, column=180, height=size, width=size)
    return clean, images.add_gaussian_noise(clean, sigma=SIGMA, seed=1)


# --- non-local means ------------------------------------------------------------------------------------------------

def nonlocal_means_by_definition(image: np.ndarray, n: int, window: int, h: float, sigma: float) -> np.ndarray:
    """Pixel by pixel, in double precision."""
    r, s = n // 2, window // 2
    padded = np.pad(image, ((0, 0), (r, r), (r, r)), mode="reflect")
    out = np.empty_like(image)
    _, height, width = image.shape
    for y, x in np.ndindex(height, width):
        total, norm = 0.0, 0.0
        for v in range(max(0, y - s), min(height, y + s + 1)):
            for u in range(max(0, x - s), min(width, x + s + 1)):
                d2 = np.mean((padded[:, y:y + n, x:x + n] - padded[:, v:v + n, u:u + n]) ** 2)
                weight = math.exp(-max(d2 - 2 * sigma ** 2, 0) / h ** 2)
                total, norm = total + weight * image[:, v, u], norm + weight
        out[:, y, x] = total / norm
    return out


@pytest.mark.parametrize("method", ["kernel", "reference"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_nonlocal_means_is_its_definition(method, channels):
    image = random_image(channels, 9, 8, dtype=torch.float64)
    expected = nonlocal_means_by_definition(image.numpy(), n=3, window=7, h=0.3, sigma=0.1)
    result = nonlocal_means(image, patch_size=3, window_size=7, h=0.3, sigma=0.1, method=method)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("channels, patch_size, window_size", [(1, 1, 5), (3, 5, 11), (3, 7, 7), (4, 3, 9), (1, 9, 13)])
def test_kernel_agrees_with_reference_across_tiles(dtype, tolerance, channels, patch_size, window_size):
    image = random_image(channels, 37, 263, dtype=dtype)    # two rows and two columns of tiles
    options = {"patch_size": patch_size, "window_size": window_size, "h": 0.2, "sigma": 0.15}
    difference = nonlocal_means(image, **options) - nonlocal_means(image, method="reference", **options)
    assert difference.abs().max() < tolerance


def test_one_pixel_patches_make_a_bilateral_filter_without_place():
    image = random_image(3, 20, 21, dtype=torch.float64)
    h = 0.3
    # the bilateral filter divides the sum over channels by 2 sigma_color², this one the mean by h²
    expected = bilateral_filter(image, sigma_space=1e9, sigma_color=h * math.sqrt(3 / 2), radius=3)
    assert (nonlocal_means(image, patch_size=1, window_size=7, h=h) - expected).abs().max() < 1e-12


def test_agrees_with_scikit_image_up_to_what_its_exact_mode_does_differently():
    # Its exact mode weighs the pixels of a patch by a Gaussian of deviation (n - 1) / 4, which makes patches smaller
    # and distances noisier, takes weights below exp(-5) for 0 and uses an exponential that is some per cent wrong.
    # For 7 × 7 patches both remove the same noise and differ by a tenth of it.
    from skimage.restoration import denoise_nl_means

    clean, noisy = noisy_photograph("astronaut", 96)
    options = {"patch_size": 7, "h": 0.8 * SIGMA, "sigma": SIGMA}
    theirs = denoise_nl_means(noisy.permute(1, 2, 0).numpy(), patch_distance=5, fast_mode=False, channel_axis=-1,
                              **options)
    theirs = torch.from_numpy(theirs).permute(2, 0, 1)
    ours = nonlocal_means(noisy, window_size=11, **options)
    assert psnr(ours, theirs) > 37
    assert abs(psnr(ours, clean) - psnr(theirs, clean)) < 0.7


def test_rule_of_thumb_gives_the_documented_quality():
    clean, noisy = noisy_photograph("astronaut")
    assert psnr(nonlocal_means(noisy, h=0.65 * SIGMA, sigma=SIGMA), clean) > 30.3
    clean, noisy = noisy_photograph("camera")
    assert psnr(nonlocal_means(noisy, h=0.65 * SIGMA, sigma=SIGMA), clean) > 29.15


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), channels=st.sampled_from([1, 2, 3]),
       patch_size=st.sampled_from([1, 3, 5]), window_size=st.sampled_from([5, 9, 25]), h=st.floats(1e-3, 10),
       sigma=st.floats(0, 1), seed=st.integers(0, 1000))
def test_stays_within_the_range_of_each_channel_and_keeps_constants(height, width, channels, patch_size, window_size, h,
                                                                    sigma, seed):
    options = {"patch_size": patch_size, "window_size": window_size, "h": h, "sigma": sigma}
    image = random_image(channels, height, width, seed=seed)
    kept = image.clone()
    result = nonlocal_means(image, **options)
    assert torch.equal(image, kept)
    assert result.shape == image.shape
    rounding = 1e-6     # a mean of up to 81 numbers below 1
    assert (result >= image.amin((1, 2), keepdim=True) - rounding).all()
    assert (result <= image.amax((1, 2), keepdim=True) + rounding).all()
    assert (result - nonlocal_means(image, method="reference", **options)).abs().max() < 3e-6
    constant = torch.full_like(image, 0.3)
    assert (nonlocal_means(constant, **options) - 0.3).abs().max() < rounding


@pytest.mark.parametrize("method", ["kernel", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vanishing_h_gives_the_image_back(method, dtype):
    image = random_image(3, 8, 9, dtype=dtype)
    result = nonlocal_means(image, patch_size=3, window_size=7, h=1e-30, method=method)
    assert (result - image).abs().max() < 1e-7


def test_result_has_the_same_bits_for_any_number_of_threads():
    import numba

    available = numba.config.NUMBA_NUM_THREADS
    if available < 2:
        pytest.skip("needs two threads")
    image = random_image(2, 3, 100, 70)
    try:
        numba.set_num_threads(1)
        one = nonlocal_means(image, h=0.2, window_size=11)
        numba.set_num_threads(2)
        two = nonlocal_means(image, h=0.2, window_size=11)
    finally:
        numba.set_num_threads(available)
    assert torch.equal(one, two)


@pytest.mark.parametrize("method", ["kernel", "reference"])
def test_a_batch_is_the_images_one_by_one(method):
    batch = random_image(3, 2, 17, 15)
    whole = nonlocal_means(batch, patch_size=3, window_size=7, h=0.2, method=method)
    parts = torch.stack([nonlocal_means(image, patch_size=3, window_size=7, h=0.2, method=method) for image in batch])
    assert torch.equal(whole, parts)


def test_takes_any_memory_layout_and_keeps_half_precision():
    image = random_image(3, 20, 24)
    expected = nonlocal_means(image, h=0.2)
    turned = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(nonlocal_means(turned, h=0.2), expected)
    half = image.half()
    result = nonlocal_means(half, h=0.2)
    assert result.dtype == torch.float16
    assert torch.equal(result, nonlocal_means(half.float(), h=0.2).half())


def test_nonlocal_means_has_the_gradient_of_its_definition():
    image = random_image(2, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: nonlocal_means(u, patch_size=3, window_size=3, h=0.5, sigma=0.05), image)


@pytest.mark.parametrize("options, message", [
    ({"patch_size": 4, "h": 0.1}, "patch_size is 4"),
    ({"window_size": 20, "h": 0.1}, "window_size is 20"),
    ({"patch_size": 7, "window_size": 5, "h": 0.1}, "window_size is 5 and patch_size 7"),
    ({"h": 0}, "h is 0"),
    ({"h": float("nan")}, "h is nan"),
    ({"h": 0.1, "sigma": -1}, "sigma is -1"),
    ({"h": 0.1, "method": "fast"}, "method is 'fast'"),
])
def test_nonlocal_means_refuses_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        nonlocal_means(random_image(1, 8, 8), **options)


@pytest.mark.parametrize("image", [torch.rand(8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8), torch.rand(1, 0, 8),
                                   torch.full((1, 4, 4), float("nan")), np.zeros((1, 4, 4))])
def test_filters_refuse_what_is_no_image(image):
    for function, options in ((nonlocal_means, {"h": 0.1}), (nonlocal_pca, {"sigma": 0.1}),
                              (pca_filter, {"threshold": 0.1})):
        with pytest.raises(ValueError, match="image"):
            function(image, **options)


def test_weights_of_the_kernel_are_exponentials():
    from labkit.kernels.nonlocal_cpu import _weights

    distances = np.linspace(0, 60, 100_001)
    for dtype, tolerance in ((np.float32, 2.5e-7), (np.float64, 1e-15)):
        weights = distances.astype(dtype)
        _weights(weights, dtype(0), dtype(1))
        assert weights[0] == 1
        np.testing.assert_allclose(weights, 2.0 ** -distances.astype(dtype).astype(np.float64), rtol=tolerance)
    far = np.array([1e3, 1e30, np.inf], dtype=np.float32)
    _weights(far, np.float32(0), np.float32(1))
    assert (far >= 0).all() and (far < 1e-30).all()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_cuda_twin_agrees_with_the_cpu_one(dtype, tolerance, channels):
    # without a GPU, on numba's simulator (see conftest.py): a few pixels only
    padded = random_image(2, channels, 7, 6, dtype=dtype)
    cpu, cuda = torch.empty(2, 2, channels, 5, 4, dtype=dtype)
    run("nonlocal", "nonlocal_means", padded, cpu, 3, 5, 0.3, 0.1, twin="cpu")
    run("nonlocal", "nonlocal_means", padded, cuda, 3, 5, 0.3, 0.1, twin="cuda")
    assert (cpu - cuda).abs().max() < tolerance


@pytest.mark.cuda
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_gpu_agrees_with_the_cpu(dtype, tolerance):
    image = random_image(2, 3, 100, 300, dtype=dtype)
    result = nonlocal_means(image.cuda(), h=0.2, sigma=0.1)
    assert result.is_cuda
    assert (result.cpu() - nonlocal_means(image, h=0.2, sigma=0.1)).abs().max() < tolerance


# --- principal components of patches --------------------------------------------------------------------------------

def test_projection_is_that_of_a_singular_value_decomposition():
    patches = random_image(60, 9, dtype=torch.float64)
    centred = (patches - patches.mean(0)).numpy()
    _, _, basis = np.linalg.svd(centred)
    coefficients = centred @ basis.T
    coefficients[np.abs(coefficients) <= 0.3] = 0
    expected = patches.mean(0).numpy() + coefficients @ basis
    np.testing.assert_allclose(project_patches(patches, threshold=0.3).numpy(), expected, rtol=0, atol=1e-12)


def test_projection_treats_groups_apart():
    groups = random_image(4, 30, 12)
    expected = torch.stack([project_patches(group, threshold=0.2) for group in groups])
    torch.testing.assert_close(project_patches(groups, threshold=0.2), expected, rtol=0, atol=1e-5)


def test_projection_keeps_all_without_a_threshold_and_the_mean_patch_with_a_large_one():
    patches = random_image(50, 8, dtype=torch.float64)
    torch.testing.assert_close(project_patches(patches, threshold=0), patches, rtol=0, atol=1e-13)
    mean = patches.mean(0).expand(50, -1)
    torch.testing.assert_close(project_patches(patches, threshold=100), mean, rtol=0, atol=1e-13)


def test_projection_survives_patches_that_are_copies_of_one_pattern():
    # the eigenvectors of such covariances are more than LAPACK's single-precision routine can find
    patterns = (random_image(100, 1, 75) > 0.5).float()
    groups = patterns * random_image(100, 40, 1, seed=1)
    torch.testing.assert_close(project_patches(groups, threshold=0), groups, rtol=0, atol=1e-5)


@pytest.mark.parametrize("height, width", [(20, 23), (7, 40), (5, 5)])
def test_nonlocal_pca_without_noise_gives_the_image_back(height, width):
    image = random_image(2, height, width, dtype=torch.float64)
    kept = image.clone()
    result = nonlocal_pca(image, sigma=0, patch_size=5, window_size=9)
    torch.testing.assert_close(result, kept, rtol=0, atol=1e-12)
    assert torch.equal(image, kept)


def test_one_window_over_the_picture_makes_nonlocal_pca_global():
    image = random_image(1, 16, 16, dtype=torch.float64)
    local = nonlocal_pca(image, sigma=0.1, patch_size=3, window_size=40, threshold=0.3)
    torch.testing.assert_close(local, pca_filter(image, patch_size=3, threshold=0.3), rtol=0, atol=1e-12)


def test_nonlocal_pca_is_its_definition():
    image = random_image(2, 11, 14, dtype=torch.float64)
    n, side, stride, threshold = 3, 6, 4, 0.4
    total, count = torch.zeros_like(image), torch.zeros_like(image)
    for top in (0, 4, 5):
        for left in (0, 4, 8):
            window = image[:, top:top + side, left:left + side]
            projected = project_patches(extract_patches(window, patch_size=n), threshold=threshold)
            for k, patch in enumerate(projected.unflatten(1, (2, n, n))):
                y, x = top + k // (side - n + 1), left + k % (side - n + 1)
                total[:, y:y + n, x:x + n] += patch
                count[:, y:y + n, x:x + n] += 1
    result = nonlocal_pca(image, sigma=0.1, patch_size=n, window_size=side, threshold=threshold, stride=stride)
    torch.testing.assert_close(result, total / count, rtol=0, atol=1e-12)


def test_blocks_of_windows_do_not_change_nonlocal_pca(monkeypatch):
    image = random_image(1, 20, 31, dtype=torch.float64)
    options = {"sigma": 0.1, "patch_size": 3, "window_size": 8}
    expected = nonlocal_pca(image, **options)
    monkeypatch.setattr(sys.modules[nonlocal_pca.__module__], "VALUES_AT_ONCE", 1)
    torch.testing.assert_close(nonlocal_pca(image, **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function, options", [(nonlocal_pca, {"sigma": 0.1, "window_size": 8}),
                                               (pca_filter, {"threshold": 0.3})])
def test_pca_of_a_batch_is_that_of_the_images_one_by_one(function, options):
    batch = random_image(3, 1, 14, 17, dtype=torch.float64)
    parts = torch.stack([function(image, patch_size=3, **options) for image in batch])
    torch.testing.assert_close(function(batch, patch_size=3, **options), parts, rtol=0, atol=1e-12)


def test_nonlocal_pca_beats_nonlocal_means():
    clean, noisy = noisy_photograph("astronaut", 128)
    means = nonlocal_means(noisy, h=0.65 * SIGMA, sigma=SIGMA)
    local = nonlocal_pca(noisy, sigma=SIGMA, patch_size=5)
    assert psnr(local, clean) > psnr(means, clean) + 0.5 > psnr(noisy, clean) + 5


@pytest.mark.parametrize("options, message", [
    ({"sigma": -0.1}, "sigma is -0.1"),
    ({"sigma": 0.1, "patch_size": 9}, "patch_size is 9"),
    ({"sigma": 0.1, "patch_size": 5, "window_size": 4}, "window_size is 4"),
    ({"sigma": 0.1, "threshold": -1}, "threshold is -1"),
    ({"sigma": 0.1, "stride": 0}, "stride is 0"),
    ({"sigma": 0.1, "window_size": 8, "stride": 9}, "stride is 9"),
])
def test_nonlocal_pca_refuses_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        nonlocal_pca(random_image(1, 8, 8), **options)


@pytest.mark.parametrize("patches", [torch.rand(5), torch.ones(5, 4, dtype=torch.int64), torch.rand(0, 4), None])
def test_projection_refuses_what_is_no_set_of_patches(patches):
    with pytest.raises(ValueError, match="patches"):
        project_patches(patches, threshold=0.1)


# --- the patch auto-encoder -----------------------------------------------------------------------------------------

def patches_of_rank(rank: int, number: int = 2000, values: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches around a mean, of `rank` strong directions among weak ones, and an orthonormal basis of the strong."""
    random = generator(3)
    basis = torch.linalg.qr(torch.randn(values, values, generator=random)).Q
    deviation = torch.tensor([0.2] * rank + [0.02] * (values - rank))
    return 0.5 + (torch.randn(number, values, generator=random) * deviation) @ basis.T, basis[:, :rank]


def largest_angle(first: torch.Tensor, second: torch.Tensor) -> float:
    """The largest principal angle between two subspaces, in degrees."""
    return float(torch.linalg.svdvals(first.T @ second).clamp(max=1).acos().rad2deg().max())


def residual(patches: torch.Tensor, network: PatchAutoencoder) -> float:
    with torch.no_grad():
        return float((network(patches) - patches).square().mean())


def test_a_linear_autoencoder_finds_the_principal_subspace_and_a_relu_comes_close():
    patches, _ = patches_of_rank(3)
    centred = patches - patches.mean(0)
    _, singular, basis = torch.linalg.svd(centred, full_matrices=False)
    best = float(singular[3:].square().sum() / patches.numel())     # no linear code of 3 numbers does better
    linear = PatchAutoencoder(patch_size=3, rank=3).fit(patches, steps=300)
    assert largest_angle(linear.subspace(), basis[:3].T) < 2        # Adam's steps of 0.01 keep it moving
    assert best - 1e-9 < residual(patches, linear) < 1.02 * best
    rectified = PatchAutoencoder(patch_size=3, rank=3, activation="relu").fit(patches, steps=300)
    assert residual(patches, rectified) < 1.15 * best


def test_losses_fall_and_are_all_there():
    patches, _ = patches_of_rank(2)
    network = PatchAutoencoder(patch_size=3, rank=2).fit(patches, steps=200, batch_size=64)
    assert len(network.losses) == 200
    assert np.mean(network.losses[-20:]) < 0.2 * np.mean(network.losses[:5])


def test_training_is_reproducible_and_goes_on_from_a_file_as_if_never_interrupted(tmp_path):
    patches, _ = patches_of_rank(2, number=300)
    whole = PatchAutoencoder(patch_size=3, rank=2, activation="relu", seed=5).fit(patches, steps=20, batch_size=32)
    first = PatchAutoencoder(patch_size=3, rank=2, activation="relu", seed=5).fit(patches, steps=8, batch_size=32)
    first.save(tmp_path / "network.pt")
    second = PatchAutoencoder.load(tmp_path / "network.pt").fit(patches, steps=12, batch_size=32)
    assert second.losses == whole.losses
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name
    assert [file.name for file in tmp_path.iterdir()] == ["network.pt"]


def test_interrupting_keeps_what_was_learnt(monkeypatch):
    def interrupted(items, **_):
        yield from list(items)[:7]
        raise KeyboardInterrupt

    patches, _ = patches_of_rank(2, number=300)
    monkeypatch.setattr(autoencoder, "progress", interrupted)
    network = PatchAutoencoder(patch_size=3, rank=2).fit(patches, steps=50)
    assert len(network.losses) == 7
    monkeypatch.undo()
    expected = PatchAutoencoder(patch_size=3, rank=2).fit(patches, steps=7)
    assert torch.equal(network.decoder.weight, expected.decoder.weight)


def test_autoencoder_removes_noise():
    clean, noisy = noisy_photograph("camera", 96)
    network = PatchAutoencoder(patch_size=5, rank=6).fit(extract_patches(noisy, patch_size=5), steps=300)
    denoised = network.denoise(noisy)
    assert denoised.shape == noisy.shape and not denoised.requires_grad
    assert psnr(denoised, clean) > psnr(noisy, clean) + 3
    assert torch.equal(network.denoise(torch.stack([noisy, noisy]))[1], denoised)


def test_autoencoder_refuses_bad_input():
    for options, message in (({"rank": 0}, "rank is 0"), ({"rank": 10}, "rank is 10"),
                             ({"patch_size": 0}, "patch_size is 0"), ({"activation": "tanh"}, "activation is 'tanh'"),
                             ({"channels": 0}, "channels is 0")):
        with pytest.raises(ValueError, match=message):
            PatchAutoencoder(**({"patch_size": 3, "rank": 2} | options))
    network = PatchAutoencoder(patch_size=3, rank=2)
    for patches in (torch.rand(9), torch.rand(5, 8), torch.ones(5, 9, dtype=torch.int64), torch.rand(0, 9)):
        with pytest.raises(ValueError, match="patches"):
            network.fit(patches)
    with pytest.raises(ValueError, match="learning_rate"):
        network.fit(torch.rand(5, 9), learning_rate=0)
    with pytest.raises(ValueError, match="channel"):
        network.denoise(random_image(3, 8, 8))


# --- attention ------------------------------------------------------------------------------------------------------

def points(seed: int = 0, queries: int = 7, keys: int = 11, values: int = 4, dtype: torch.dtype = torch.float64):
    random = generator(seed)
    return tuple(torch.randn(*shape, generator=random, dtype=dtype)
                 for shape in ((queries, values), (keys, values), (keys, 3)))


def test_nonlocal_means_with_a_full_window_is_attention_over_patches():
    image = random_image(3, 7, 8, dtype=torch.float64)
    h, n = 0.2, 3
    patches = extract_patches(images.pad(image, amount=n // 2, border="reflect"), patch_size=n)
    # the distance of non-local means is a mean over the 3 n² values of a patch, that of attention their sum
    attended = nonlocal_attention(patches, patches, image.flatten(1).T, h=h * math.sqrt(3 * n * n))
    expected = nonlocal_means(image, patch_size=n, window_size=17, h=h)
    torch.testing.assert_close(attended.T.view_as(image), expected, rtol=0, atol=1e-12)


def test_norms_of_the_keys_are_what_separates_distance_from_dot_product():
    query, key, value = points()
    h = 1.3
    unit = key / key.norm(dim=1, keepdim=True)
    torch.testing.assert_close(nonlocal_attention(query, unit, value, h=h),
                               dot_product_attention(query, unit, value, temperature=h ** 2 / 2))
    # keys of different norms: the term that remains is an additional coordinate of the key
    bias = torch.cat([key, key.square().sum(1, keepdim=True)], dim=1)
    asked = torch.cat([query, torch.full((len(query), 1), -0.5, dtype=query.dtype)], dim=1)
    torch.testing.assert_close(nonlocal_attention(query, key, value, h=h),
                               dot_product_attention(asked, bias, value, temperature=h ** 2 / 2))
    assert (nonlocal_attention(query, key, value, h=h)
            - dot_product_attention(query, key, value, temperature=h ** 2 / 2)).abs().max() > 0.1


def test_dot_product_attention_is_that_of_torch():
    query, key, value = points()
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(dot_product_attention(query, key, value), expected)


@pytest.mark.parametrize("function", [lambda q, k, v: nonlocal_attention(q, k, v, h=1.5), dot_product_attention])
def test_blocks_of_queries_change_neither_attention_nor_its_gradient(function, monkeypatch):
    tensors = [t.requires_grad_() for t in points(queries=5, keys=6)]
    whole = function(*tensors)
    whole_gradients = torch.autograd.grad(whole.square().sum(), tensors)
    monkeypatch.setattr(attention, "SIMILARITIES_AT_ONCE", 12)      # two queries at a time
    torch.testing.assert_close(function(*tensors), whole)
    torch.testing.assert_close(torch.autograd.grad(function(*tensors).square().sum(), tensors), whole_gradients)
    assert torch.autograd.gradcheck(function, tensors)


def test_attention_survives_large_numbers():
    query, key, value = points(dtype=torch.float32)
    near = nonlocal_attention(100 + key, 100 + key, value, h=1e-2)          # every key finds itself
    torch.testing.assert_close(near, value)
    assert torch.isfinite(nonlocal_attention(1e4 * query, 1e4 * key, value, h=1e-2)).all()
    assert torch.isfinite(dot_product_attention(1e4 * query, 1e4 * key, value, temperature=1e-2)).all()


def test_attention_refuses_bad_input():
    query, key, value = points()
    for bad, message in (((query[0], key, value), "query is"), ((query, key.float(), value), "key is"),
                         ((query, key[:, :2], value), "query has 4 columns and key 2"),
                         ((query, key, value[:4]), "key has 11 rows and value 4")):
        with pytest.raises(ValueError, match=message):
            nonlocal_attention(*bad, h=1.0)
        with pytest.raises(ValueError, match=message):
            dot_product_attention(*bad)
    with pytest.raises(ValueError, match="h is 0"):
        nonlocal_attention(query, key, value, h=0)
    with pytest.raises(ValueError, match="temperature is 0"):
        dot_product_attention(query, key, value, temperature=0)


# --- the weights of a filter at a pixel -----------------------------------------------------------------------------

FILTERS = {
    "gaussian": (gaussian_filter, {"sigma": 1.5}),
    "box": (box_filter, {"radius": 3}),
    "bilateral": (bilateral_filter, {"sigma_space": 1.7, "sigma_color": 0.3}),
    "cross_bilateral": (cross_bilateral_filter, {"sigma_space": 1.7, "sigma_color": 0.3, "radius": 4,
                                                 "guide": random_image(2, 19, 23, seed=9, dtype=torch.float64)}),
    "guided": (guided_filter, {"radius": 3, "eps": 0.01}),
    "rolling_guidance": (rolling_guidance_filter, {"sigma_space": 1.2, "sigma_color": 0.2, "iterations": 3}),
    "nonlocal_means": (nonlocal_means, {"patch_size": 3, "window_size": 9, "h": 0.3, "sigma": 0.05}),
}


def check_weights(name: str, image: torch.Tensor, row: int, column: int, total: float | None = 1.0, **changes) -> None:
    function, parameters = FILTERS[name]
    parameters = parameters | changes
    weights = weights_at(image, row=row, column=column, filter=name, **parameters)
    assert weights.shape == image.shape[-2:]
    if total is not None:
        assert abs(float(weights.sum()) - total) < 1e-12
    expected = function(image, **parameters)[:, row, column]
    # the compiled bilateral filters know their exponentials to about 1e-8
    torch.testing.assert_close((weights * image).sum((1, 2)), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("row, column", [(9, 11), (0, 0), (18, 2), (3, 22)])
@pytest.mark.parametrize("name", FILTERS)
def test_weights_sum_to_one_and_make_the_output_of_the_filter(name, row, column):
    check_weights(name, random_image(3, 19, 23, dtype=torch.float64), row, column)


@pytest.mark.parametrize("border", ["reflect", "replicate", "periodic", "zero", "normalized"])
@pytest.mark.parametrize("name", ["gaussian", "box"])
def test_weights_know_the_borders(name, border):
    image = random_image(1, 19, 23, dtype=torch.float64)
    check_weights(name, image, 1, 20, border=border, total=None if border == "zero" else 1.0)


def test_weights_of_the_guided_filter_with_a_guide():
    image = random_image(2, 19, 23, dtype=torch.float64)
    for channels in (1, 3):
        check_weights("guided", image, 5, 21, guide=random_image(channels, 19, 23, seed=4, dtype=torch.float64))


def test_weights_of_the_guided_filter_are_those_of_its_paper():
    # He, Sun, Tang, eq. 12, for a grey picture and a pixel far from the border
    image = random_image(1, 15, 15, dtype=torch.float64)
    radius, eps, i = 2, 0.02, (7, 7)
    guide = image[0].numpy()
    expected = np.zeros_like(guide)
    for k in np.ndindex(2 * radius + 1, 2 * radius + 1):
        window = tuple(slice(c + d - 2 * radius, c + d + 1) for c, d in zip(i, k))
        part = guide[window]
        mean, variance = part.mean(), part.var()
        expected[window] += (1 + (guide[i] - mean) * (part - mean) / (variance + eps)) / part.size ** 2
    weights = weights_at(image, row=7, column=7, filter="guided", radius=radius, eps=eps)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
def test_weights_of_a_single_pixel_are_one(name):
    parameters = FILTERS[name][1] | ({"guide": torch.rand(1, 1, 1)} if name == "cross_bilateral" else {})
    weights = weights_at(torch.full((3, 1, 1), 0.4), row=0, column=0, filter=name, **parameters)
    torch.testing.assert_close(weights, torch.ones(1, 1))


@pytest.mark.parametrize("options, message", [
    ({"row": 5, "column": 0}, "row is 5"),
    ({"row": 0, "column": -1}, "column is -1"),
    ({"row": 0, "column": 0, "filter": "median"}, "filter is 'median'"),
    ({"row": 0, "column": 0, "filter": "gaussian", "sigma": -1}, "sigma is -1"),
    ({"row": 0, "column": 0, "filter": "box", "radius": -1}, "radius is -1"),
    ({"row": 0, "column": 0, "filter": "guided", "radius": 0, "eps": 0.1}, "radius is 0"),
    ({"row": 0, "column": 0, "filter": "bilateral", "sigma_space": 0, "sigma_color": 1}, "sigma_space is 0"),
    ({"row": 0, "column": 0, "filter": "nonlocal_means", "h": 0}, "h is 0"),
])
def test_weights_refuse_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        weights_at(random_image(3, 5, 6), **options)
