"""The patch denoiser: brute force, limits of little and much noise, what it may not see, and that it fills."""

import math

import pytest
import torch

from labkit import metrics
from labkit.diffusion_inpainting import patch_denoiser
from labkit.diffusion_inpainting.diffusion import Diffusion, to_chain
from labkit.diffusion_inpainting.patch_denoiser import PatchDenoiser
from labkit.diffusion_inpainting.resampling import inpaint_by_resampling
from labkit.diffusion_inpainting.sampling import inpaint
from labkit.patches import extract_patches, squared_distances
from labkit.runtime import generator


def picture(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


def hole(height, width):
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, 2:5, 3:6] = True
    return mask


def asked(image, mask, *, t, diffusion, seed=1):
    """What a sampler would hand over at step t."""
    x0 = to_chain(image)[None]
    noise = torch.randn(x0.shape, generator=generator(seed), dtype=x0.dtype)
    return diffusion.add_noise(x0, t, noise), torch.where(mask, 0, x0), mask[None], t


def stripes(size):
    columns = torch.arange(size, dtype=torch.float64)
    return (0.5 + 0.4 * torch.sin(2 * math.pi * columns / 8)).expand(1, size, size).clone()


def by_brute_force(image, mask, x_t, known, t, *, n, core, known_sigma, diffusion):
    """The estimate pixel by pixel, from the formula of the module."""
    channels, height, width = image.shape
    bar, radius, reach = float(diffusion.alpha_bars[t]), n // 2, core // 2
    sigma = math.sqrt((1 - bar) / bar)
    examples = [to_chain(image)[:, r:r + n, c:c + n] for r in range(height - n + 1) for c in range(width - n + 1)
                if not mask[:, r:r + n, c:c + n].any()]
    total, count = torch.zeros_like(known[0]), torch.zeros(height, width)
    for row in range(height):
        for column in range(width):
            places = [(i, j) for i in range(-radius, radius + 1) for j in range(-radius, radius + 1)
                      if 0 <= row + i < height and 0 <= column + j < width]
            logits = []
            for example in examples:
                sum_ = 0.0
                for i, j in places:
                    missing = bool(mask[0, row + i, column + j])
                    value = x_t[0, :, row + i, column + j] / math.sqrt(bar) if missing else known[0, :, row + i, column + j]
                    spread = sigma if missing else min(sigma, known_sigma)
                    sum_ -= float((value - example[:, i + radius, j + radius]).square().sum()) / (2 * spread ** 2)
                logits.append(sum_)
            weights = torch.tensor(logits, dtype=torch.float64).softmax(0)
            mean = sum(weight * example for weight, example in zip(weights, examples))
            for i, j in places:
                if max(abs(i), abs(j)) <= reach:
                    total[:, row + i, column + j] += mean[:, i + radius, j + radius]
                    count[row + i, column + j] += 1
    return torch.where(mask, total / count, known[0])


@pytest.mark.parametrize(("n", "core"), [(3, 1), (3, 3), (5, 3), (1, 1)])
@pytest.mark.parametrize("t", [2, 9])
def test_estimate_is_the_formula_worked_out_pixel_by_pixel(n, core, t):
    diffusion = Diffusion(steps=10, beta_start=0.01, beta_end=0.3)
    image, mask = picture(2, 10, 11), hole(10, 11)
    mask[:, 0, 0] = True        # a corner: part of its patches lies outside the picture
    given = asked(image, mask, t=t, diffusion=diffusion)
    model = PatchDenoiser(image, mask, patch_size=n, core=core, levels=1, known_sigma=0.2, diffusion=diffusion)
    wanted = by_brute_force(image, mask, given[0], given[1], t, n=n, core=core, known_sigma=0.2, diffusion=diffusion)
    torch.testing.assert_close(model.predict(*given)[0], wanted)


def test_pixels_of_two_values_have_the_hyperbolic_tangent():
    # patches of one pixel, ±a equally often: E[x_0 | q] = a tanh(a q / σ²)
    diffusion = Diffusion(steps=10, beta_start=0.01, beta_end=0.3)
    image = torch.tensor([0.25, 0.75], dtype=torch.float64).repeat(1, 4, 3)
    everything = torch.ones(1, 4, 6, dtype=torch.bool)
    x_t, _, _, t = asked(image, everything, t=8, diffusion=diffusion)
    estimate = PatchDenoiser(image, patch_size=1, levels=1, diffusion=diffusion).predict(x_t, torch.zeros_like(x_t), everything[None], t)
    bar = float(diffusion.alpha_bars[8])
    torch.testing.assert_close(estimate, 0.5 * torch.tanh(0.5 * x_t / math.sqrt(bar) * bar / (1 - bar)))


def test_without_noise_the_nearest_patch_remains():
    diffusion = Diffusion(steps=2, beta_start=1e-6, beta_end=1e-6)
    image = picture(3, 12, 12)
    x = to_chain(picture(3, 9, 9, seed=5))[None]        # another picture: no patch is equal
    everything = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    estimate = PatchDenoiser(image, patch_size=3, diffusion=diffusion).predict(x, torch.zeros_like(x), everything, 1)
    patches = extract_patches(to_chain(image), patch_size=3)
    nearest = squared_distances(extract_patches(x[0] / float(diffusion.alpha_bars[1]) ** 0.5, patch_size=3), patches).argmin(dim=1)
    centres = patches.reshape(-1, 3, 9)[nearest, :, 4].T.reshape(3, 7, 7)
    torch.testing.assert_close(estimate[0, :, 1:-1, 1:-1], centres)


def test_of_noise_alone_the_mean_of_all_patches_remains():
    diffusion = Diffusion(steps=50, beta_end=0.9)       # ends at ᾱ = 1e-14
    image = picture(1, 10, 10)
    everything = torch.ones(1, 1, 10, 10, dtype=torch.bool)
    x = torch.randn(1, 1, 10, 10, generator=generator(3), dtype=torch.float64)
    estimate = PatchDenoiser(image, patch_size=5, levels=1, diffusion=diffusion).predict(x, torch.zeros_like(x), everything, 50)
    mean = extract_patches(to_chain(image), patch_size=5)[:, 12].mean()
    torch.testing.assert_close(estimate, mean.expand_as(estimate), rtol=0, atol=1e-4)


def test_masked_pixels_of_the_picture_are_never_used():
    image, mask = picture(2, 24, 25), hole(24, 25)
    other = torch.where(mask, 1 - image, image)
    fills = [inpaint(one, mask, model=PatchDenoiser(one, mask, patch_size=3), sampler="ddim", sampling_steps=8) for one in (image, other)]
    assert torch.equal(*fills)


def test_every_scale_leaves_known_pixels_as_they_are():
    image, mask = picture(3, 61, 46, dtype=torch.float32), hole(61, 46)
    model = PatchDenoiser(image, mask, patch_size=3)
    assert model._levels[-1].block == 4
    for t in (1, 300, 450, 1000):
        x_t, known, batch, _ = asked(image, mask, t=t, diffusion=model.diffusion)
        estimate = model.predict(x_t, known, batch, t)
        assert estimate.shape == x_t.shape and estimate.dtype == x_t.dtype and torch.isfinite(estimate).all()
        assert torch.equal(estimate[..., ~mask[0]], known[..., ~mask[0]])


def test_much_noise_is_looked_at_coarsely_and_little_noise_as_with_one_scale():
    image, mask = picture(1, 40, 40), hole(40, 40)
    several, single = PatchDenoiser(image, mask, patch_size=3), PatchDenoiser(image, mask, patch_size=3, levels=1)
    for t, same in ((50, True), (900, False)):
        given = asked(image, mask, t=t, diffusion=single.diffusion)
        assert torch.equal(several.predict(*given), single.predict(*given)) == same


def test_estimate_does_not_depend_on_how_many_weights_are_held_at_a_time(monkeypatch):
    image, mask = picture(2, 16, 16), hole(16, 16)
    model = PatchDenoiser(image, mask, patch_size=3, core=3)
    given = asked(image, mask, t=100, diffusion=model.diffusion)
    whole = model.predict(*given)
    monkeypatch.setattr(patch_denoiser, "BLOCK", 1)
    torch.testing.assert_close(model.predict(*given), whole)


def test_examples_of_a_batch_do_not_mix():
    image, mask = picture(1, 20, 20), hole(20, 20)
    model = PatchDenoiser(image, mask, patch_size=3)
    first, second = (asked(image, mask, t=200, diffusion=model.diffusion, seed=seed) for seed in (1, 2))
    both = model.predict(torch.cat([first[0], second[0]]), first[1].expand(2, -1, -1, -1), first[2].expand(2, -1, -1, -1), 200)
    torch.testing.assert_close(both, torch.cat([model.predict(*first), model.predict(*second)]))


def test_stripes_go_on_through_the_hole():
    image, mask = stripes(32), torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 10:20, 9:21] = True
    start = torch.where(mask, 0.5, image)
    fill = inpaint(start, mask, model=PatchDenoiser(start, mask, patch_size=7), sampler="ddim", eta=1.0, sampling_steps=25)[0]
    # twelve columns are missing, more than a period: the phase is known from the border alone
    assert metrics.psnr(fill, image) > metrics.psnr(start, image) + 10


def test_serves_where_a_model_without_conditions_is_wanted():
    image, mask = stripes(24), torch.zeros(1, 24, 24, dtype=torch.bool)
    mask[:, 10:14, 10:14] = True
    model = PatchDenoiser(image, mask, patch_size=5)
    fill = inpaint_by_resampling(image, mask, model=model, sampling_steps=20, resamplings=2, jump_length=5)[0]
    assert torch.equal(fill[~mask], image[~mask]) and fill.min() >= 0.09 and fill.max() <= 0.91


IMAGE = picture(1, 9, 9)
FULL = torch.ones(1, 9, 9, dtype=torch.bool)
REFUSED = [({"patch_size": 4}, "patch_size is 4"), ({"patch_size": 11}, "patch_size is 11"), ({"core": 9}, "core is 9"), ({"core": 2}, "core is 2"),
           ({"levels": 0}, "levels is 0"), ({"known_sigma": 0}, "known_sigma is 0"), ({"mask": FULL}, "no whole patch of 7×7"),
           ({"mask": FULL[:, 1:]}, "boolean tensor")]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PatchDenoiser(IMAGE, **settings)


def test_a_picture_with_other_channels_is_refused():
    x = torch.zeros(1, 3, 9, 9, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        PatchDenoiser(IMAGE).predict(x, x, FULL[None], 5)
