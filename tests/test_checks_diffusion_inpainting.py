"""What is particular to the checks of chapter 8; `test_checks_chapters.py` holds what all chapters have in common."""

from __future__ import annotations

import math

import pytest
import torch

from labkit import checks
from tests.judging import judged

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EXERCISES = checks.exercises("diffusion_inpainting")


def test_there_are_nine_exercises_in_the_order_of_the_chapter():
    assert list(EXERCISES) == ["add_noise", "posterior_mean", "loss_weights", "brush_mask", "leak_free_example", "inpainting_step",
                               "ancestral_sampling", "ddim_sampling", "patch_denoiser"]


# --- unusual but right: the chain -----------------------------------------------------------------------------------

def _noise_one_by_one(x0, t, noise, betas):
    bars = [math.prod(1 - float(beta) for beta in betas[:k + 1]) for k in t.tolist()]
    return torch.stack([bar ** 0.5 * x + (1 - bar) ** 0.5 * one for x, bar, one in zip(x0, bars, noise)])


def _noise_by_logarithms(x0, t, noise, betas):
    bar = (1 - betas).log().cumsum(0).exp()[t].view(len(t), *(1,) * (x0.ndim - 1))
    return torch.addcmul(bar.sqrt() * x0, (1 - bar).sqrt(), noise)


def _noise_step_by_step(x0, t, noise, betas):
    """The chain itself, with the noises so that they add up to the given one."""
    x = x0.clone()
    signal, variance = torch.ones(len(t), dtype=betas.dtype), torch.zeros(len(t), dtype=betas.dtype)
    for step in range(1, len(betas)):
        on = t >= step
        variance = torch.where(on, (1 - betas[step]) * variance + betas[step], variance)
        signal = torch.where(on, signal * (1 - betas[step]).sqrt(), signal)
    return signal[:, None, None, None] * x + variance.sqrt()[:, None, None, None] * noise


def _mean_through_the_noise(prediction, x_t, t, betas, given):
    """Ho et al.'s form, with ε; the image is turned into noise first."""
    if given == "mean":
        return prediction.clone()
    bar = (1 - betas).prod() if t == len(betas) - 1 else (1 - betas[:t + 1]).prod()
    noise = prediction if given == "noise" else (x_t - bar.sqrt() * prediction) / (1 - bar).sqrt()
    return (x_t - betas[t] / (1 - bar).sqrt() * noise) / (1 - betas[t]).sqrt()


def _mean_by_precision(prediction, x_t, t, betas, given):
    """Bayes' rule: two normal distributions of x_{t−1}, weighted by their precision."""
    if given == "mean":
        return prediction
    bars = torch.cumprod(1 - betas, dim=0).tolist()
    alpha, bar, before = 1 - float(betas[t]), bars[t], bars[t - 1]
    image = prediction if given == "image" else (x_t - (1 - bar) ** 0.5 * prediction) / bar ** 0.5
    if before == 1:
        return image
    seen, prior = alpha / (1 - alpha), 1 / (1 - before)
    return (seen * x_t / alpha ** 0.5 + prior * before ** 0.5 * image) / (seen + prior)


def _weights_by_snr(t, betas, kind, target):
    """The ELBO's weight is half of what the SNR loses in the step; t = 1 by hand."""
    bars = (1 - betas).cumprod(0)
    snr = bars / (1 - bars)
    if kind == "elbo":
        second = (1 - bars[1]) / (1 - bars[2]) * betas[2]
        weights = torch.stack([1 / (2 * second) if k == 1 else (snr[k - 1] - snr[k]) / 2 for k in t.tolist()])
    else:
        weights = torch.minimum(snr[t], torch.tensor(5.0, dtype=betas.dtype))
    return weights / snr[t] if target == "noise" else weights


def _brush_by_many_dots(start, angles, lengths, height, width, thickness):
    """Discs so close together along the path that nothing is missed between them."""
    pixels = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1).reshape(-1, 2).double()
    mask, here = torch.zeros(height * width, dtype=torch.bool), start.clone()
    for number, (angle, length) in enumerate(zip(angles.tolist(), lengths.tolist()), start=1):
        angle = -angle if number % 2 == 0 else angle
        there = here + length * torch.tensor([math.sin(angle), math.cos(angle)], dtype=start.dtype)
        there = torch.stack([there[0].clamp(0, height - 1), there[1].clamp(0, width - 1)])
        dots = here + torch.linspace(0, 1, 500, dtype=start.dtype)[:, None] * (there - here)
        mask |= (torch.cdist(pixels, dots) <= thickness / 2).any(1)
        here = there
    return mask.reshape(1, height, width)


def _brush_pixel_by_pixel(start, angles, lengths, height, width, thickness):
    corners = [tuple(start.tolist())]
    for i, (angle, length) in enumerate(zip(angles.tolist(), lengths.tolist())):
        down = length * math.sin(angle) * (1 if i % 2 == 0 else -1)
        right = length * math.cos(angle)
        row, column = corners[-1]
        corners.append((min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1)))
    mask = torch.zeros((1, height, width), dtype=torch.bool)
    for i in range(height):
        for j in range(width):
            for (r, c), (r2, c2) in zip(corners, corners[1:]):
                square = (r2 - r) ** 2 + (c2 - c) ** 2
                s = 0.0 if square == 0 else min(1, max(0, ((i - r) * (r2 - r) + (j - c) * (c2 - c)) / square))
                if math.dist((i, j), (r + s * (r2 - r), c + s * (c2 - c))) <= thickness / 2:
                    mask[0, i, j] = True
    return mask


def _masked_by_products(crop, missing, painted, noise, alpha_bar):
    test, train = missing.to(crop.dtype), painted.to(crop.dtype)
    mask = torch.maximum(test, train)
    x_t = math.sqrt(alpha_bar) * (1 - test) * crop + math.sqrt(1 - alpha_bar) * noise
    return [x_t, (1 - mask) * crop, mask.bool(), (train * (1 - test)).bool()]


def _masked_by_assignment(crop, missing, painted, noise, alpha_bar):
    known = crop.clone()
    known[missing.expand_as(crop)] = 0
    x_t = known * alpha_bar ** 0.5 + noise * (1 - alpha_bar) ** 0.5
    y = known.masked_fill(painted, 0)
    return x_t, y, torch.logical_or(painted, missing), painted ^ (painted & missing)


# --- unusual but right: training and sampling -----------------------------------------------------------------------

def _step_by_selection(network, optimizer, x0, missing, counted, t, noise, betas):
    """Example by example, and the mean of the values that are picked out."""
    bars = torch.cumprod(1 - betas, 0)
    x_t = torch.stack([bars[k].sqrt() * x + (1 - bars[k]).sqrt() * e for k, x, e in zip(t.tolist(), x0, noise)])
    estimate = network(x_t, x0 * ~missing, missing.double(), t.double() / (betas.numel() - 1))
    chosen = counted.expand_as(x0)
    loss = torch.nn.functional.mse_loss(estimate[chosen], x0[chosen])
    network.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _step_that_cleans_up_afterwards(network, optimizer, x0, missing, counted, t, noise, betas):
    bar = (1 - betas).cumprod(0)[t].view(-1, 1, 1, 1)
    estimate = network(bar ** 0.5 * x0 + (1 - bar) ** 0.5 * noise, x0 * (1 - missing.float()), missing, t / (len(betas) - 1))
    counts = counted.to(x0)
    loss = ((estimate - x0) ** 2 * counts).sum() / counts.sum() / x0.size(1)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _sampling_through_the_noise(denoiser, known, mask, noise, betas):
    """Ho et al.'s form of the mean, with ε; the last step apart."""
    bars, x, hole = torch.cumprod(1 - betas, 0), noise[-1].clone(), mask.to(known)
    for t in reversed(range(1, len(betas))):
        image = known + hole * torch.clamp(denoiser(x, known, mask.double(), torch.tensor(t)), -1, 1)
        error = (x - bars[t].sqrt() * image) / (1 - bars[t]).sqrt()
        x = (x - betas[t] / (1 - bars[t]).sqrt() * error) / (1 - betas[t]).sqrt()
        if t > 1:
            x = x + (betas[t] * (1 - bars[t - 1]) / (1 - bars[t])).sqrt() * noise[t - 1]
    return torch.where(mask, x, known)


def _sampling_by_ddim(denoiser, known, mask, noise, betas):
    """With η = 1 and every step, DDIM is ancestral sampling."""
    times = list(range(len(betas) - 1, -1, -1))
    return _ddim_with_numbers(denoiser, known, mask, noise.flip(0), betas, times, 1.0)


def _ddim_with_numbers(denoiser, known, mask, noise, betas, times, eta):
    bars, x = (1 - betas).cumprod(0).tolist(), noise[0]
    for k in range(1, len(times)):
        t, s = times[k - 1], times[k]
        image = torch.clip(denoiser(x, known, mask, t), -1, 1) * mask + known
        error = (x - bars[t] ** 0.5 * image) / (1 - bars[t]) ** 0.5
        sigma = eta * math.sqrt((1 - bars[s]) / (1 - bars[t])) * math.sqrt(1 - bars[t] / bars[s])
        x = bars[s] ** 0.5 * image + math.sqrt(max(0, 1 - bars[s] - sigma ** 2)) * error + sigma * noise[k]
    return x


def _ddim_that_returns_the_last_guess(denoiser, known, mask, noise, betas, times, eta):
    bars, x = (1 - betas).cumprod(0), noise[0]
    for k, (t, s) in enumerate(zip(times, times[1:]), start=1):
        image = torch.where(mask, denoiser(x, known, mask, t).clamp(-1, 1), known)
        if s == 0:
            return image
        variance = eta ** 2 * (1 - bars[s]) / (1 - bars[t]) * (1 - bars[t] / bars[s])
        error = (x - bars[t].sqrt() * image) / (1 - bars[t]).sqrt()
        x = bars[s].sqrt() * image + (1 - bars[s] - variance).sqrt() * error + variance.sqrt() * noise[k]


def _patches_by_unfold(x_t, picture, mask, alpha_bar, n):
    whole = torch.nn.functional.unfold(mask[None].double(), n)[0].sum(0) == 0
    p, q = (torch.nn.functional.unfold(image[None], n)[0].T for image in (picture, x_t))
    p = p[whole]
    squared = torch.cdist(q, alpha_bar ** 0.5 * p, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    estimates = torch.softmax(-squared / 2 / (1 - alpha_bar), dim=-1) @ p
    total, count = (torch.nn.functional.fold(v.T[None], x_t.shape[1:], n)[0] for v in (estimates, torch.ones_like(q)))
    return total / count


def _patches_in_loops(x_t, picture, mask, alpha_bar, n):
    """Unfaded: x_t / √ᾱ_t, whose noise has the variance (1 − ᾱ_t) / ᾱ_t."""
    pieces = torch.stack([picture[:, i:i + n, j:j + n] for i in range(picture.shape[1] - n + 1) for j in range(picture.shape[2] - n + 1)
                          if not mask[0, i:i + n, j:j + n].any()])
    total, count = torch.zeros_like(x_t), torch.zeros_like(x_t)
    for i in range(x_t.shape[1] - n + 1):
        for j in range(x_t.shape[2] - n + 1):
            here = (slice(None), slice(i, i + n), slice(j, j + n))
            exponents = -(x_t[here] / alpha_bar ** 0.5 - pieces).square().sum((1, 2, 3)) * alpha_bar / (2 - 2 * alpha_bar)
            weights = (exponents - exponents.max()).exp()
            total[here] += torch.einsum("k,kcij->cij", weights / weights.sum(), pieces)
            count[here] += 1
    return total / count


# --- answers that change nothing, train nothing and sample nothing --------------------------------------------------

def _where_the_chain_is(prediction, x_t, t, betas, given):
    return x_t.clone()


def _all_alike(t, betas, kind, target):
    return torch.ones(len(t), dtype=betas.dtype)


def _no_hole(start, angles, lengths, height, width, thickness):
    return torch.zeros(1, height, width, dtype=torch.bool)


def _nothing_hidden(crop, missing, painted, noise, alpha_bar):
    return crop.clone(), crop.clone(), missing.clone(), painted.clone()


def _the_noisy_picture(x_t, picture, mask, alpha_bar, patch_size):
    return x_t.clone()


def _no_step(*arguments):
    return None


def _no_step_and_no_loss(*arguments):
    return 0.0


def _the_last_noise(denoiser, known, mask, noise, betas):
    return noise[-1]


def _the_first_noise(denoiser, known, mask, noise, betas, times, eta):
    return noise[0]


def _what_is_known(denoiser, known, *rest):
    return known


# what test_checks_chapters.py asks of every chapter

UNUSUAL_BUT_RIGHT = {
    "add_noise": [_noise_one_by_one, _noise_by_logarithms, _noise_step_by_step],
    "posterior_mean": [_mean_through_the_noise, _mean_by_precision],
    "loss_weights": [_weights_by_snr],
    "brush_mask": [_brush_by_many_dots, _brush_pixel_by_pixel],
    "leak_free_example": [_masked_by_products, _masked_by_assignment],
    "inpainting_step": [_step_by_selection, _step_that_cleans_up_afterwards],
    "ancestral_sampling": [_sampling_through_the_noise, _sampling_by_ddim],
    "ddim_sampling": [_ddim_with_numbers, _ddim_that_returns_the_last_guess],
    "patch_denoiser": [_patches_by_unfold, _patches_in_loops],
}

CHANGES_NOTHING = {
    "posterior_mean": [_where_the_chain_is],
    "loss_weights": [_all_alike],
    "brush_mask": [_no_hole],
    "leak_free_example": [_nothing_hidden],
    "inpainting_step": [_no_step, _no_step_and_no_loss],
    "ancestral_sampling": [_the_last_noise, _what_is_known],
    "ddim_sampling": [_the_first_noise, _what_is_known],
    "patch_denoiser": [_the_noisy_picture],
}


# --- the chain: what a check must see whatever the seed -------------------------------------------------------------

def test_an_example_that_leaks_is_not_paid_in_full_and_told_so():
    leaking = EXERCISES["leak_free_example"].mistakes["chain_leaks"].variant
    for seed in (3, 4):
        verdict = judged(EXERCISES["leak_free_example"], leaking, seed=seed)
        failed = [p.sentence for p in verdict.properties if not p.passed]
        assert "gives the same whatever stands under the missing pixels" in failed
        assert verdict.earned <= 1


def test_the_misprint_of_the_thesis_is_named():
    verdict = EXERCISES["posterior_mean"](EXERCISES["posterior_mean"].mistakes["as_printed"].variant)
    assert verdict.mistake == "as_printed" and "√α_t" in repr(verdict)


def test_a_step_without_sigma_is_asked_for_at_the_first_step():
    verdict = EXERCISES["loss_weights"](EXERCISES["loss_weights"].mistakes["not_capped"].variant)
    assert [p.sentence for p in verdict.properties if not p.passed] == ["ELBO at t = 1, with σ_2 in the place of σ_1"]


def test_a_wrong_but_finite_weight_at_the_first_step_is_not_called_infinite():
    def answer(t, betas, kind, target):
        weights = EXERCISES["loss_weights"].reference(t, betas, kind, target)
        return torch.where(t == 1, 3.3 * weights, weights) if kind == "elbo" else weights

    verdict = EXERCISES["loss_weights"](answer)
    assert not verdict.passed and "infinite" not in repr(verdict)


def test_a_pixel_at_exactly_half_the_thickness_is_asked_for():
    verdict = EXERCISES["brush_mask"](EXERCISES["brush_mask"].mistakes["ties_left_out"].variant)
    assert [p.sentence for p in verdict.properties if not p.passed] == ["paints pixels at exactly half the thickness too"]


# --- training and sampling: what a check must see -------------------------------------------------------------------

def test_a_step_that_changes_the_batch_is_told_so():
    def answer(network, optimizer, x0, missing, *rest):
        x0[missing.expand_as(x0)] = 0
        return _step_that_cleans_up_afterwards(network, optimizer, x0, missing, *rest)

    assert EXERCISES["inpainting_step"](answer).mistake == "writes_into_argument"


@pytest.mark.parametrize("name", ["ancestral_sampling", "ddim_sampling"])
def test_a_sampler_that_draws_its_own_noise_is_wrong(name):
    right = {"ancestral_sampling": _sampling_through_the_noise, "ddim_sampling": _ddim_with_numbers}[name]

    def answer(denoiser, known, mask, noise, *rest):
        return right(denoiser, known, mask, torch.randn(noise.shape, generator=torch.Generator().manual_seed(1), dtype=noise.dtype), *rest)

    assert EXERCISES[name](answer).earned == 0


def test_a_sampler_that_asks_the_denoiser_twice_is_seen():
    def answer(denoiser, *rest):
        return _sampling_through_the_noise(lambda *asked: (denoiser(*asked), denoiser(*asked))[0], *rest)

    assert "the number of times that denoiser was called: " in repr(EXERCISES["ancestral_sampling"](answer))


def test_a_loss_that_looks_under_the_real_hole_is_named():
    verdict = EXERCISES["inpainting_step"](EXERCISES["inpainting_step"].mistakes["loss_over_missing"].variant)
    assert verdict.mistake == "loss_over_missing" and verdict.earned == 0


@pytest.mark.parametrize("name", ["small_number_added", "tiny_number_added"])
def test_a_small_number_under_the_weights_is_not_taken_for_float32(name):
    exercise = EXERCISES["patch_denoiser"]
    for seed in (2024, 99, 1, 77):
        verdict = judged(exercise, exercise.mistakes[name].variant, seed=seed)
        assert verdict.mistake == name and "float32" not in verdict.diagnosis[1]
