"""The chain: closed forms against simulation and Bayes' rule, the three parametrisations, weights, energy."""

import math

import pytest
import torch

from labkit.diffusion_inpainting.diffusion import TARGETS, WEIGHTINGS, Diffusion, from_chain, to_chain
from labkit.diffusion_inpainting.energy import WATTS, energy_estimate
from labkit.runtime import generator

SHORT = Diffusion(steps=20, beta_start=0.01, beta_end=0.3)      # ends at ᾱ = 0.04, so that all of its steps matter


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


# --- the schedule ---------------------------------------------------------------------------------------------------

def test_schedule_runs_from_the_picture_to_noise():
    diffusion = Diffusion()
    assert len(diffusion.betas) == 1001 and diffusion.alpha_bars[0] == 1
    assert diffusion.betas[1] == 1e-4 and diffusion.betas[1000] == 0.02
    assert diffusion.alpha_bars[-1] == pytest.approx(math.exp(sum(math.log1p(-float(beta)) for beta in diffusion.betas)))
    assert diffusion.alpha_bars[-1] < 1e-4


@pytest.mark.parametrize("count", [1, 7, 50, 333, 1000])
def test_times_visit_the_wanted_number_of_steps_evenly(count):
    times = Diffusion().times(count)
    gaps = {first - second for first, second in zip(times, times[1:])}
    assert len(times) == count + 1 and times[0] == 1000 and times[-1] == 0
    assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


def test_chains_with_the_same_settings_are_equal_and_say_what_they_are():
    assert Diffusion(steps=10) == Diffusion(steps=10) != Diffusion(steps=11)
    assert repr(SHORT) == "Diffusion(steps=20, beta_start=0.01, beta_end=0.3)"


def test_chain_values_go_there_and_back():
    image = torch.rand(3, 4, 5, generator=generator(1), dtype=torch.float64)
    assert to_chain(image).min() >= -1 and to_chain(torch.ones(1)) == 1
    torch.testing.assert_close(from_chain(to_chain(image)), image)


# --- forward ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("t", [1, 7, 20])
def test_moments_of_the_chain_simulated_step_by_step_are_those_of_the_closed_form(t):
    number, x = 200_000, torch.full((200_000,), 0.7, dtype=torch.float64)
    for step in range(1, t + 1):
        beta = float(SHORT.betas[step])
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * normal(number, seed=step)
    mean, variance = float(SHORT.alpha_bars[t]) ** 0.5 * 0.7, 1 - float(SHORT.alpha_bars[t])
    # five standard errors: of a mean σ/√n, of a normal variance σ² √(2/n)
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / number)
    assert abs(float(x.var()) - variance) < 5 * variance * math.sqrt(2 / number)


def test_noise_in_one_go_has_the_closed_form_moments_exactly():
    x, noise = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1)
    bar = SHORT.alpha_bars[7]
    torch.testing.assert_close(SHORT.add_noise(x, 7, noise), bar.sqrt() * x + (1 - bar).sqrt() * noise)


def test_noise_added_from_step_to_step_composes_to_noise_in_one_go():
    # means multiply and variances add: √(ᾱ_t/ᾱ_s)² (1 − ᾱ_s) + 1 − ᾱ_t/ᾱ_s = 1 − ᾱ_t
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    mean = SHORT.add_noise(SHORT.add_noise(one, 5, zero), 15, zero, start=5)
    deviation = (float(SHORT.add_noise(SHORT.add_noise(zero, 5, one), 15, zero, start=5)),
                 float(SHORT.add_noise(zero, 15, one, start=5)))
    assert float(mean) == pytest.approx(float(SHORT.alpha_bars[15]) ** 0.5)
    assert math.hypot(*deviation) ** 2 == pytest.approx(1 - float(SHORT.alpha_bars[15]))


@pytest.mark.parametrize("shape", [(3,), (3, 1, 4, 5), (3, 2, 4, 4, 5)], ids=["numbers", "pictures", "videos"])
def test_a_step_for_each_example_is_that_step_for_each_alone(shape):
    t, x, noise = torch.tensor([1, 7, 20]), normal(*shape), normal(*shape, seed=1)
    x_t = SHORT.add_noise(x, t, noise)
    results = {"noise": x_t, "mean": SHORT.posterior_mean(x_t, x, t), "image": SHORT.image_from_noise(x_t, noise, t)}
    for i in range(3):
        part, step = slice(i, i + 1), int(t[i])
        alone = SHORT.add_noise(x[part], step, noise[part])
        torch.testing.assert_close(results["noise"][part], alone)
        torch.testing.assert_close(results["mean"][part], SHORT.posterior_mean(alone, x[part], step))
        torch.testing.assert_close(results["image"][part], SHORT.image_from_noise(alone, noise[part], step))
        assert float(SHORT.posterior_variance(t)[i]) == pytest.approx(SHORT.posterior_variance(step))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [5, torch.tensor([5, 6])])
def test_dtype_is_kept_and_nothing_is_written_into(dtype, t):
    x, noise = normal(2, 3, dtype=dtype), normal(2, 3, seed=1, dtype=dtype)
    before = x.clone(), noise.clone()
    for result in (SHORT.add_noise(x, t, noise), SHORT.posterior_mean(x, noise, t), SHORT.image_from_noise(x, noise, t),
                   SHORT.noise_from_image(x, noise, t), SHORT.convert(x, noise, t, given="noise", wanted="mean")):
        assert result.dtype == dtype and result.shape == x.shape
    assert torch.equal(x, before[0]) and torch.equal(noise, before[1])


# --- backward ---------------------------------------------------------------------------------------------------

def by_bayes(diffusion, x0, x_t, t, s):
    """Mean and variance of q(x_s | x_t, x_0) in one dimension: the product of two Gaussians of x_s, by precisions."""
    bars = diffusion.alpha_bars.tolist()
    kept = bars[t] / bars[s]
    prior_mean, prior_precision = math.sqrt(bars[s]) * x0, 1 / (1 - bars[s])    # x_s given x_0
    seen_mean, seen_precision = x_t / math.sqrt(kept), kept / (1 - kept)        # x_t = √a x_s + …, read as about x_s
    precision = prior_precision + seen_precision
    return (prior_precision * prior_mean + seen_precision * seen_mean) / precision, 1 / precision


@pytest.mark.parametrize(("t", "s"), [(2, 1), (11, 10), (20, 19), (20, 5), (9, 1)])
def test_posterior_is_bayes_rule_computed_by_hand(t, s):
    x0, x_t = 0.6, -1.3
    mean, variance = by_bayes(SHORT, x0, x_t, t, s)
    given = [torch.tensor([value], dtype=torch.float64) for value in (x_t, x0)]
    assert float(SHORT.posterior_mean(*given, t, previous=s)) == pytest.approx(mean, rel=1e-12)
    assert SHORT.posterior_variance(t, previous=s) == pytest.approx(variance, rel=1e-12)
    if s == t - 1:
        assert float(SHORT.posterior_mean(*given, t)) == pytest.approx(mean, rel=1e-12)
        assert SHORT.posterior_variance(t) == pytest.approx(variance, rel=1e-12)


def test_posterior_is_that_of_a_simulated_chain():
    # x_9 and x_10 of many chains from one x_0: the regression of x_9 on x_10 is the posterior mean
    number, x0 = 400_000, torch.full((400_000,), 0.5, dtype=torch.float64)
    x9 = SHORT.add_noise(x0, 9, normal(number, seed=1))
    x10 = SHORT.add_noise(x9, 10, normal(number, seed=2), start=9)
    residual = x9 - SHORT.posterior_mean(x10, x0, 10)
    variance = SHORT.posterior_variance(10)
    # five standard errors again; an error in the factor of x_t would show in the covariance with x_10
    assert abs(float(residual.mean())) < 5 * math.sqrt(variance / number)
    assert abs(float(residual.var()) - variance) < 5 * variance * math.sqrt(2 / number)
    assert abs(float((residual * (x10 - x10.mean())).mean())) < 5 * math.sqrt(variance * float(x10.var()) / number)


def test_the_printed_factor_of_the_thesis_is_another():
    # eq. V.3 with √ᾱ_t for √α_t: far from Bayes' rule in the middle of the chain
    x0, x_t, t = 0.6, -1.3, 15
    bars, beta = SHORT.alpha_bars.tolist(), float(SHORT.betas[t])
    printed = beta * math.sqrt(bars[t - 1]) / (1 - bars[t]) * x0 + (1 - bars[t - 1]) * math.sqrt(bars[t]) / (1 - bars[t]) * x_t
    assert abs(printed - by_bayes(SHORT, x0, x_t, t, t - 1)[0]) > 0.3


def test_the_last_step_leads_to_the_estimate_without_noise():
    x_t, x0 = normal(2, 3), normal(2, 3, seed=1)
    torch.testing.assert_close(SHORT.posterior_mean(x_t, x0, 1), x0)
    torch.testing.assert_close(SHORT.posterior_mean(x_t, x0, 20, previous=0), x0)
    assert SHORT.posterior_variance(1) == 0


@pytest.mark.parametrize("given", TARGETS)
@pytest.mark.parametrize("wanted", TARGETS)
def test_the_three_parametrisations_say_the_same(given, wanted):
    t = torch.tensor([1, 4, 20])
    x0, noise = normal(3, 2, 5), normal(3, 2, 5, seed=1)
    x_t = SHORT.add_noise(x0, t, noise)
    said = {"image": x0, "noise": noise, "mean": SHORT.posterior_mean(x_t, x0, t)}
    torch.testing.assert_close(SHORT.convert(said[given], x_t, t, given=given, wanted=wanted), said[wanted])


def test_named_conversions_are_each_others_inverses():
    x_t, value = normal(2, 4), normal(2, 4, seed=1)
    for t in (1, 13, torch.tensor([2, 20])):
        torch.testing.assert_close(SHORT.image_from_noise(x_t, SHORT.noise_from_image(x_t, value, t), t), value)
        torch.testing.assert_close(SHORT.image_from_mean(x_t, SHORT.posterior_mean(x_t, value, t), t), value)


# --- weights ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("t", [2, 10, 20])
def test_elbo_weight_times_the_error_is_the_divergence_of_the_step(t, target):
    x0, noise = normal(1, 6), normal(1, 6, seed=1)
    x_t = SHORT.add_noise(x0, t, noise)
    truth = SHORT.convert(x0, x_t, t, given="image", wanted=target)
    guess = truth + 0.1 * normal(1, 6, seed=2)
    means = [SHORT.convert(value, x_t, t, given=target, wanted="mean") for value in (truth, guess)]
    # two normal distributions of the same variance: half the squared distance of the means, over the variance
    divergence = float((means[0] - means[1]).square().sum()) / (2 * SHORT.posterior_variance(t))
    weight = SHORT.loss_weights(t, kind="elbo", target=target)
    assert weight * float((truth - guess).square().sum()) == pytest.approx(divergence, rel=1e-9)


def test_elbo_weights_are_those_of_the_thesis_and_halved_differences_of_the_signal_to_noise_ratio():
    t = torch.arange(2, 21)
    alpha, bar, before, beta = SHORT.alphas[t], SHORT.alpha_bars[t], SHORT.alpha_bars[t - 1], SHORT.betas[t]
    variance = SHORT.posterior_variance(t)
    weights = SHORT.loss_weights(t, kind="elbo")
    torch.testing.assert_close(weights, before * beta ** 2 / (2 * variance * (1 - bar) ** 2))               # eq. II.6
    torch.testing.assert_close(weights[1:], (SHORT.snr(t[1:] - 1) - SHORT.snr(t[1:])) / 2)
    # the last line of A.1.3, without its square
    torch.testing.assert_close(SHORT.loss_weights(t, kind="elbo", target="noise"),
                               beta ** 2 / (2 * variance * alpha * (1 - bar)))


def test_elbo_weight_of_the_first_step_is_capped_by_the_variance_of_the_second():
    assert SHORT.loss_weights(1, kind="elbo") == pytest.approx(1 / (2 * SHORT.posterior_variance(2)))
    assert math.isfinite(Diffusion(steps=1).loss_weights(1, kind="elbo"))


def test_min_snr_weight_is_the_ratio_up_to_five():
    t = torch.arange(1, 1001)
    ratio = Diffusion().snr(t)
    torch.testing.assert_close(Diffusion().loss_weights(t, kind="min_snr"), ratio.clamp(max=5))
    torch.testing.assert_close(Diffusion().loss_weights(t, kind="min_snr", target="noise"), ratio.clamp(max=5) / ratio)


@pytest.mark.parametrize("kind", ["elbo", "min_snr"])
def test_weighted_loss_does_not_depend_on_what_the_network_predicts(kind):
    x0, guess = normal(1, 6), normal(1, 6, seed=3)
    for t in (1, 2, 9, 20):
        x_t = SHORT.add_noise(x0, t, normal(1, 6, seed=1))
        losses = []
        for target in TARGETS:
            both = [SHORT.convert(value, x_t, t, given="image", wanted=target) for value in (x0, guess)]
            losses.append(SHORT.loss_weights(t, kind=kind, target=target) * float((both[0] - both[1]).square().sum()))
        assert losses == pytest.approx([losses[0]] * 3, rel=1e-9)


def test_uniform_weights_are_one():
    assert Diffusion().loss_weights(500) == 1
    assert torch.equal(SHORT.loss_weights(torch.tensor([1, 20]), target="noise"), torch.ones(2, dtype=torch.float64))


# --- what is refused --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings", [{"steps": 0}, {"steps": 2.5}, {"beta_start": 0.0}, {"beta_end": 1.0},
                                      {"beta_start": float("nan")}])
def test_a_chain_that_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Diffusion(**settings)


X, T = torch.zeros(2, 3), torch.tensor([1, 2])
REFUSED = [
    (lambda: SHORT.add_noise(X, 21, X), "t is 21"),
    (lambda: SHORT.add_noise(X, -1, X), "t is -1"),
    (lambda: SHORT.add_noise(X, 3, torch.zeros(2, 4)), r"\(2, 3\) and noise \(2, 4\)"),
    (lambda: SHORT.add_noise(X, torch.tensor([1, 2, 3]), X), "3 steps and x 2 examples"),
    (lambda: SHORT.add_noise(X, T.double(), X), "integer tensor"),
    (lambda: SHORT.add_noise(X, torch.tensor([1, 99]), X), "from 1 to 99"),
    (lambda: SHORT.add_noise(X, 3, X, start=4), "start is 4 and t is 3"),
    (lambda: SHORT.add_noise(X.int(), 3, X), "x is a tensor"),
    (lambda: SHORT.posterior_mean(X, X, 0), "t is 0"),
    (lambda: SHORT.posterior_mean(X, X, 5, previous=5), "previous is 5 and t is 5"),
    (lambda: SHORT.posterior_variance(torch.tensor([0, 3])), "from 0 to 3"),
    (lambda: SHORT.noise_from_image(X, X, 0), "t is 0"),
    (lambda: SHORT.convert(X, X, 1, given="score", wanted="image"), "given is 'score'"),
    (lambda: SHORT.loss_weights(1, kind="snr"), "kind is 'snr'"),
    (lambda: SHORT.loss_weights(1, target="velocity"), "target is 'velocity'"),
    (lambda: SHORT.times(21), "sampling_steps is 21"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_weighting_is_finite_and_positive_at_every_step():
    for diffusion in (SHORT, Diffusion()):
        for kind in WEIGHTINGS:
            for target in TARGETS:
                weights = diffusion.loss_weights(torch.arange(1, diffusion.steps + 1), kind=kind, target=target)
                assert torch.isfinite(weights).all() and weights.min() > 0


# --- energy -----------------------------------------------------------------------------------------------------

# Thesis, table V.3: hours and grams of CO₂, with the power that explains them; a printed figure is right to half its last digit
@pytest.mark.parametrize(("hours", "device", "grams", "digit"), [(0.25, "v100", 3.5, 0.1), (120, "v100", 1707, 1), (0.17, "v100", 2.4, 0.1),
                                                                 (576, "v100-sxm2", 9832, 1), (0.001, "v100", 0.01, 0.01),
                                                                 (0.03, "workstation", 0.25, 0.02)])
def test_estimates_are_those_of_the_thesis(hours, device, grams, digit):
    assert abs(energy_estimate(3600 * hours, device=device).grams_co2 - grams) < digit


def test_energy_is_power_times_time_and_says_its_assumptions():
    estimate = energy_estimate(1800, watts=100, overhead=1.5, grams_per_kwh=400)
    assert estimate.watt_hours == pytest.approx(75) and estimate.grams_co2 == pytest.approx(30)
    assert str(estimate) == "about 75 Wh and 30 g CO₂ (1.8e+03 s at 100 W × 1.5, 400 g/kWh)"
    assert energy_estimate(3600).watt_hours == WATTS["laptop"]


@pytest.mark.parametrize(("settings", "message"), [({"device": "toaster"}, "device is 'toaster'"), ({"watts": 0}, "watts is 0"),
                                                   ({"overhead": 0.5}, "overhead is 0.5"), ({"grams_per_kwh": -1}, "grams_per_kwh is -1")])
def test_impossible_assumptions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        energy_estimate(1, **settings)
