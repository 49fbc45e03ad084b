"""Samplers: exact denoisers of Gaussians lead to their moments, known pixels stay, RePaint jumps as its paper says."""

import math

import pytest
import torch

from labkit.diffusion_inpainting.diffusion import Diffusion, from_chain, to_chain
from labkit.diffusion_inpainting.resampling import inpaint_by_resampling, resampling_schedule
from labkit.diffusion_inpainting.sampling import Film, inpaint, model_at, noise_on, sample, variance_map
from labkit.runtime import generator

SHORT = Diffusion(steps=20, beta_start=0.01, beta_end=0.5)      # ends at ᾱ = 0.003: noise
NUMBER = 5_000      # samples whose moments are compared: the standard error of a variance is 2 % of it
MEAN = torch.tensor([0.1, -0.2, 0.15], dtype=torch.float64)
# standard deviations of 0.15: clipping to [−1, 1] is five of them away
COVARIANCE = 0.15 ** 2 * torch.tensor([[1.0, 0.7, 0.4], [0.7, 1.0, 0.6], [0.4, 0.6, 1.0]], dtype=torch.float64)


class Gaussian:
    """The exact denoiser E[x_0 | x_t] of a row of correlated pixels; with `hole`, of those given the known ones."""

    def __init__(self, diffusion, mean=MEAN, covariance=COVARIANCE, hole=None):
        self.diffusion, self.mean, self.covariance, self.hole = diffusion, mean, covariance, hole

    def predict(self, x_t, known, mask, t):
        bar = float(self.diffusion.alpha_bars[t])
        x, missing = x_t.flatten(1), torch.ones_like(self.mean, dtype=torch.bool)
        mean, covariance, estimate = self.mean, self.covariance, known.flatten(1).clone()
        if self.hole is not None:
            missing = self.hole
            mean, covariance = conditional(known[0].flatten())
        noisy = bar * covariance + (1 - bar) * torch.eye(len(covariance), dtype=covariance.dtype)
        gain = math.sqrt(bar) * covariance @ torch.linalg.inv(noisy)
        estimate[:, missing] = mean + (x[:, missing] - math.sqrt(bar) * mean) @ gain.T
        return estimate.reshape(x_t.shape)


class Fixed:
    """Always the same estimate; keeps the steps it was asked for."""

    def __init__(self, value, **attributes):
        self.value, self.steps = value, []
        self.__dict__.update(attributes)

    def predict(self, x_t, known, mask, t):
        self.steps.append(t)
        return torch.full_like(x_t, self.value)


class Noisy:
    """An estimate that depends on everything it is given."""

    diffusion = SHORT

    def predict(self, x_t, known, mask, t):
        return (x_t + known.mean() + mask.to(x_t) * t / 20).sin()


HOLE = torch.tensor([True, False, True])


def conditional(values):
    """Mean and covariance of the pixels of `HOLE` given the others."""
    weights = COVARIANCE[HOLE][:, ~HOLE] @ torch.linalg.inv(COVARIANCE[~HOLE][:, ~HOLE])
    return (MEAN[HOLE] + weights @ (values[~HOLE] - MEAN[~HOLE]),
            COVARIANCE[HOLE][:, HOLE] - weights @ COVARIANCE[~HOLE][:, HOLE])


def picture(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


def half_mask(height=6, width=7):
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, 1:4, 2:6] = True
    return mask


def freely(model, number, *, times, seed=0, **settings):
    """Draw rows of pixels with nothing known."""
    known = torch.zeros(number, 1, 1, len(model.mean), dtype=torch.float64)
    return sample(known, torch.ones_like(known, dtype=torch.bool), model=model, diffusion=model.diffusion, times=times,
                  noise=noise_on(torch.device("cpu"), seed), **settings).flatten(1)


def assert_moments(x, mean, covariance, *, bias=0.0):
    """Up to five standard errors, and `bias`, a share of the variance."""
    deviation = covariance.diagonal().max().sqrt()
    assert (x.mean(dim=0) - mean).abs().max() < (5 / math.sqrt(len(x)) + bias) * deviation
    assert (x.T.cov() - covariance).abs().max() < (5 * math.sqrt(2 / len(x)) + bias) * deviation ** 2


# --- exact denoisers --------------------------------------------------------------------------------------------

def after_the_chain(diffusion, covariance, *, times, eta):
    """Covariance of the samples of a linear sampler: every step maps x to a matrix times x, plus noise (Song et al., eq. 12)."""
    bars, identity = diffusion.alpha_bars.tolist(), torch.eye(len(covariance), dtype=covariance.dtype)
    result = identity
    for t, s in zip(times, times[1:]):
        gain = math.sqrt(bars[t]) * covariance @ torch.linalg.inv(bars[t] * covariance + (1 - bars[t]) * identity)
        variance = eta ** 2 * (1 - bars[s]) / (1 - bars[t]) * (1 - bars[t] / bars[s])
        direction = (identity - math.sqrt(bars[t]) * gain) / math.sqrt(1 - bars[t])
        step = math.sqrt(bars[s]) * gain + math.sqrt(1 - bars[s] - variance) * direction
        result = step @ result @ step.T + variance * identity
    return result


KINDS = [({}, 1.0), ({"sampler": "ddim"}, 0.0), ({"sampler": "ddim", "eta": 0.5}, 0.5)]


@pytest.mark.parametrize(("settings", "eta"), KINDS, ids=["ddpm", "ddim", "between"])
def test_samples_have_the_moments_that_follow_from_the_steps(settings, eta):
    # in so few steps the covariance is not yet that of the data; what it is follows from the formulas
    model, times = Gaussian(Diffusion()), Diffusion().times(40)
    assert_moments(freely(model, NUMBER, times=times, **settings), MEAN, after_the_chain(Diffusion(), COVARIANCE, times=times, eta=eta))


@pytest.mark.parametrize(("settings", "eta"), KINDS, ids=["ddpm", "ddim", "between"])
def test_samples_of_all_steps_have_the_mean_and_covariance_of_the_data(settings, eta):
    model, times = Gaussian(Diffusion()), Diffusion().times()
    # what a thousand steps leave of the variance: 4.6 % with all noise, 2.0 % with none (from the formulas)
    assert (after_the_chain(Diffusion(), COVARIANCE, times=times, eta=eta) - COVARIANCE).abs().max() < 0.05 * 0.15 ** 2
    assert_moments(freely(model, 2000, times=times, **settings), MEAN, COVARIANCE, bias=0.05)


def test_ddim_with_all_steps_and_all_noise_is_ancestral_sampling():
    model = Gaussian(SHORT)
    implicit = freely(model, 50, times=SHORT.times(), sampler="ddim", eta=1.0)
    # the same noise goes in: the two formulas are one, apart from rounding
    torch.testing.assert_close(implicit, freely(model, 50, times=SHORT.times()), rtol=0, atol=1e-10)


def test_ddim_with_all_noise_has_the_moments_of_ancestral_sampling():
    model = Gaussian(Diffusion())
    first = freely(model, NUMBER, times=Diffusion().times(100), sampler="ddim", eta=1.0, seed=1)
    second = freely(model, NUMBER, times=Diffusion().times(100), seed=2)
    # two independent draws: standard errors √2 times as large
    assert (first.mean(0) - second.mean(0)).abs().max() < 5 * math.sqrt(2 / NUMBER) * 0.15
    assert (first.T.cov() - second.T.cov()).abs().max() < 5 * math.sqrt(4 / NUMBER) * 0.15 ** 2


def test_ddim_without_noise_depends_on_the_start_alone():
    model = Gaussian(SHORT)
    start = torch.randn(4, 1, 1, 3, generator=generator(1), dtype=torch.float64)
    drawn = [freely(model, 4, times=SHORT.times(5), sampler="ddim", x=start, seed=seed) for seed in (1, 2)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("settings", [{}, {"sampler": "ddim", "sampling_steps": 500}], ids=["ddpm", "ddim"])
def test_fills_with_an_exact_conditional_denoiser_have_the_conditional_moments(settings):
    image, mask = from_chain(torch.tensor([0.9, -0.4, 0.9], dtype=torch.float64)).reshape(1, 1, 3), HOLE.reshape(1, 1, 3)
    model = Gaussian(Diffusion(), hole=HOLE)
    fills = inpaint(image, mask, model=model, samples=2000, **settings)
    # the finite number of steps leaves up to 8 % of this smaller variance
    assert_moments(to_chain(fills).flatten(1)[:, HOLE], *conditional(to_chain(image).flatten()), bias=0.08)


@pytest.mark.parametrize("part", [1, 7, 19])
def test_a_chain_led_in_two_parts_is_the_chain_led_at_once(part):
    model, times = Gaussian(SHORT), SHORT.times()
    known, noise = torch.zeros(2, 1, 1, 3, dtype=torch.float64), noise_on(torch.device("cpu"), 3)
    settings = {"mask": torch.ones_like(known, dtype=torch.bool), "model": model, "diffusion": SHORT, "noise": noise}
    x = sample(known, times=times[:part + 1], **settings)
    x = sample(known, times=times[part:], x=x, **settings)
    assert torch.equal(x.flatten(1), freely(model, 2, times=times, seed=3))


def test_videos_are_sampled_as_pictures_are():
    known = torch.zeros(2, 3, 4, 5, 6)
    mask = torch.ones(1, 1, 4, 5, 6, dtype=torch.bool)
    x = sample(known, mask, model=Noisy(), diffusion=SHORT, times=SHORT.times(), noise=noise_on(torch.device("cpu"), 0))
    assert x.shape == known.shape and torch.isfinite(x).all()


# --- filling pictures -------------------------------------------------------------------------------------------

FILLERS = [lambda *given, **settings: inpaint(*given, **settings), lambda *given, **settings: inpaint(*given, sampler="ddim", eta=0.3, **settings),
           lambda *given, **settings: inpaint_by_resampling(*given, resamplings=2, jump_length=3, **settings)]
each_filler = pytest.mark.parametrize("fill", FILLERS, ids=["ddpm", "ddim", "repaint"])


@each_filler
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_known_pixels_are_returned_to_the_bit(fill, dtype):
    image, mask = picture(3, 6, 7, dtype=torch.float64).to(dtype), half_mask()
    fills = fill(image, mask, model=Noisy(), samples=2)
    assert fills.shape == (2, 3, 6, 7) and fills.dtype == dtype
    assert torch.equal(fills[:, :, ~mask[0]], image[:, ~mask[0]].expand(2, -1, -1))
    assert fills.min() >= 0 and fills.max() <= 1


@each_filler
def test_values_under_the_mask_have_no_influence(fill):
    image, mask = picture(2, 6, 7), half_mask()
    other = torch.where(mask, 1 - image, image)
    assert torch.equal(fill(image, mask, model=Noisy()), fill(other, mask, model=Noisy()))


@each_filler
def test_fills_follow_the_seed_and_differ_among_each_other(fill):
    image, mask = picture(1, 6, 7), half_mask()
    first, again, other = (fill(image, mask, model=Noisy(), samples=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other) and not torch.equal(first[0], first[1])


@each_filler
def test_estimates_are_clipped(fill):
    fills = fill(picture(1, 6, 7), half_mask(), model=Fixed(9.0, diffusion=SHORT))
    assert torch.equal(fills[0, 0][half_mask()[0]], torch.ones(12))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_known_pixels_are_put_back_at_every_step(sampler):
    image, mask, seen = picture(1, 6, 7), half_mask(), []
    inpaint(image, mask, model=Fixed(0.3, diffusion=SHORT), sampler=sampler, callback=seen.append)
    assert [moment.t for moment in seen] == SHORT.times()[:-1] and [moment.number for moment in seen] == list(range(1, 21))
    for moment in seen:
        assert torch.equal(moment.estimate[0, 0][~mask[0]], to_chain(image)[0][~mask[0]])
        assert (moment.estimate[0, 0][mask[0]] == 0.3).all()


def test_samplers_visit_as_many_steps_as_they_say():
    image, mask = picture(1, 6, 7), half_mask()
    for settings, wanted in (({}, 1000), ({"sampler": "ddim"}, 50), ({"sampling_steps": 7}, 7), ({"sampler": "ddim", "sampling_steps": 3}, 3)):
        model = Fixed(0.0)
        inpaint(image, mask, model=model, **settings)
        assert len(model.steps) == wanted and model.steps[0] == 1000


def test_models_by_interval_serve_their_own_steps():
    models = [Fixed(0.0, diffusion=SHORT, interval=(1, 8)), Fixed(0.5, diffusion=SHORT, interval=(9, 20))]
    fills = inpaint(picture(1, 6, 7), half_mask(), model=models)
    assert models[0].steps == list(range(8, 0, -1)) and models[1].steps == list(range(20, 8, -1))
    assert (fills[0, 0][half_mask()[0]] == 0.5).all()       # the last estimate, 0 in the chain's values


def test_a_step_that_no_model_serves_is_named_also_for_denoisers_without_intervals():
    with pytest.raises(ValueError, match=r"no model serves step -1: their intervals are \[None, \(1, 8\)\]"):
        model_at([Fixed(0.0), Fixed(0.0, interval=(1, 8))], -1)


def test_film_keeps_frames_evenly_with_the_first_and_the_last():
    image, mask, film = picture(1, 6, 7), half_mask(), Film(frames=5)
    fill = inpaint(image, mask, model=Noisy(), callback=film)
    assert film.times[0] == 20 and film.times[-1] == 1 and len(film.times) == len(film.chain) == len(film.estimates) == 5
    assert max(a - b for a, b in zip(film.times, film.times[1:])) <= 5
    torch.testing.assert_close(film.estimates[-1], fill)    # the last estimate is where the chain ends
    all_of_them = Film(frames=99)
    inpaint(image, mask, model=Noisy(), callback=all_of_them)
    assert all_of_them.times == list(range(20, 0, -1))


def test_variance_map_is_the_variance_of_the_fills():
    fills = picture(5, 2, 3, 4, dtype=torch.float64)
    by_hand = ((fills - fills.mean(0)) ** 2).sum(0) / 4
    torch.testing.assert_close(variance_map(fills), by_hand.mean(0)[None])
    assert torch.equal(variance_map(fills[:1].expand(3, -1, -1, -1)), torch.zeros(1, 3, 4, dtype=torch.float64))


# --- RePaint ----------------------------------------------------------------------------------------------------

def test_schedule_jumps_at_the_levels_of_the_paper():
    # levels 1 and 3 jump up by two, once; 5 would jump above the chain
    assert resampling_schedule(6, resamplings=2, jump_length=2) == [6, 5, 4, 3, 5, 4, 3, 2, 1, 3, 2, 1, 0]
    assert resampling_schedule(4, resamplings=3, jump_length=1) == [4, 3, 4, 3, 4, 3, 2, 3, 2, 3, 2, 1, 2, 1, 2, 1, 0]
    assert resampling_schedule(5, resamplings=1) == [5, 4, 3, 2, 1, 0]


def test_schedule_of_the_papers_settings_calls_the_model_as_often_as_theirs():
    levels = resampling_schedule(250, resamplings=10, jump_length=10)
    ups = [(a, b) for a, b in zip(levels, levels[1:]) if b > a]
    # 24 places (0, 10, …, 230 in the paper's count), nine jumps of ten levels each, every one walked down again
    assert len(ups) == 24 * 9 and {b - a for a, b in ups} == {10} and {a for a, _ in ups} == set(range(1, 240, 10))
    assert len(levels) - 1 - len(ups) == 250 + 24 * 9 * 10
    assert max(levels) == 250 and levels[-1] == 0 and levels.count(0) == 1


def test_variances_going_down_and_up_are_those_that_follow_from_the_formulas():
    # pixels that do not depend on each other, so that the known one has no influence
    mean, covariance, diffusion = torch.zeros(2, dtype=torch.float64), 0.04 * torch.eye(2, dtype=torch.float64), Diffusion(steps=30, beta_end=0.3)
    image, mask, seen = torch.full((1, 1, 2), 0.6, dtype=torch.float64), torch.tensor([[[True, False]]]), []
    inpaint_by_resampling(image, mask, model=Gaussian(diffusion, mean, covariance), samples=NUMBER, sampling_steps=None, resamplings=2,
                          jump_length=5, callback=lambda moment: seen.append((moment.t, float(moment.x[:, 0, 0, 0].var()))))
    bars, wanted, variance = diffusion.alpha_bars.tolist(), [], 1.0
    levels = resampling_schedule(30, resamplings=2, jump_length=5)
    for t, s in zip(levels, levels[1:]):
        if s > t:
            variance = bars[s] / bars[t] * variance + 1 - bars[s] / bars[t]
            continue
        wanted.append((t, variance))
        gain = math.sqrt(bars[t]) * 0.04 / (bars[t] * 0.04 + 1 - bars[t])
        kept, posterior = bars[t] / bars[s], (1 - bars[s]) / (1 - bars[t]) * (1 - bars[t] / bars[s])
        factor = (math.sqrt(bars[s]) * (1 - kept) * gain + math.sqrt(kept) * (1 - bars[s])) / (1 - bars[t])
        variance = factor ** 2 * variance + posterior
    assert [t for t, _ in seen] == [t for t, _ in wanted]
    for (t, found), (_, variance) in zip(seen, wanted):
        assert abs(found / variance - 1) < 5 * math.sqrt(2 / NUMBER), t      # five standard errors


def test_going_back_and_forth_brings_the_fills_closer_to_the_conditional_mean():
    mean, covariance = torch.zeros(2, dtype=torch.float64), 0.25 ** 2 * torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64)
    image, mask = from_chain(torch.tensor([0.0, -0.5], dtype=torch.float64)).reshape(1, 1, 2), torch.tensor([[[True, False]]])
    model, distance = Gaussian(Diffusion(steps=100, beta_end=0.1), mean, covariance), {}
    for resamplings in (1, 10):
        fills = inpaint_by_resampling(image, mask, model=model, samples=500, sampling_steps=None, resamplings=resamplings, jump_length=5)
        distance[resamplings] = abs(float(to_chain(fills)[:, 0, 0, 0].mean()) - 0.9 * -0.5)
    # RePaint is not exact: replacing known pixels falls 0.16 short of −0.45, resampling 0.05; a standard error is 0.005
    assert distance[10] < 0.08 and distance[1] > 0.13


# --- what is refused --------------------------------------------------------------------------------------------

IMAGE, MODEL = picture(1, 6, 7), Fixed(0.0, diffusion=SHORT)


@each_filler
@pytest.mark.parametrize(("mask", "message"), [(torch.zeros(1, 6, 7, dtype=torch.bool), "no pixel"),
                                               (torch.ones(1, 6, 7, dtype=torch.bool), "every pixel"),
                                               (torch.zeros(1, 6, 8, dtype=torch.bool), r"\(1, 6, 7\)"), (torch.zeros(1, 6, 7), "boolean")])
def test_masks_that_leave_nothing_to_do_or_do_not_fit_are_refused(fill, mask, message):
    with pytest.raises(ValueError, match=message):
        fill(IMAGE, mask, model=MODEL)


REFUSED = [
    ({"samples": 0}, "samples is 0"), ({"sampler": "euler"}, "sampler is 'euler'"), ({"sampling_steps": 21}, "sampling_steps is 21"),
    ({"eta": 0.5}, "expected eta with 'ddim'"), ({"sampler": "ddim", "eta": 2}, "eta is 2"), ({"seed": -1}, "seed is -1"),
    ({"model": None}, r"predict\(x_t, known, mask, t\)"), ({"model": []}, "predict"),
    ({"model": [Fixed(0.0, diffusion=SHORT, interval=(5, 20))]}, "no model serves step 4"),
    ({"model": [Fixed(0.0, diffusion=SHORT), Fixed(0.0)]}, "2 different chains"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        inpaint(IMAGE, half_mask(), **{"model": MODEL} | settings)


@pytest.mark.parametrize("times", [[5], [5, 5], [3, 5], [21, 0], [3, -1]], ids=str)
def test_times_that_do_not_lead_down_are_refused(times):
    known = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="decreasing"):
        sample(known, known == 0, model=MODEL, diffusion=SHORT, times=times, noise=generator())


def test_variance_of_one_fill_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        variance_map(picture(1, 3, 4, 4))
