"""What is particular to the checks of chapter 3; `test_checks_chapters.py` holds what all chapters have in common."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from labkit import checks, patches, patchmatch, pyramids

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EXERCISES = checks.exercises("texture_optimization")


def test_there_are_ten_exercises_in_the_order_of_the_chapter():
    assert list(EXERCISES) == ["draw_pixel", "boundary_cut", "random_phase_texture", "aggregate", "optimize_texture", "assign_patches",
                               "aggregate_towards", "weighted_reconstruction", "upsample_field", "semi_dual_step"]


# --- unusual but right: pixels, cuts, phases, votes -----------------------------------------------------------------

def _pixel_by_loops(window, known, exemplar, tolerance, draw):
    n, found = window.shape[-1], []
    r, sigma = n // 2, n / 6.4
    for y in range(exemplar.shape[1] - n + 1):
        for x in range(exemplar.shape[2] - n + 1):
            d = 0.0
            for a in range(n):
                for b in range(n):
                    if known[a, b]:
                        g = math.exp(-((a - r) ** 2 + (b - r) ** 2) / (2 * sigma ** 2))
                        d += g * float(((window[:, a, b] - exemplar[:, y + a, x + b]) ** 2).sum())
            found.append((d, y + r, x + r))
    bound = (1 + tolerance) * min(found)[0]
    near = [(y, x) for d, y, x in found if d <= bound]
    return list(near[math.floor(draw * len(near))])


def _pixel_by_correlation(window, known, exemplar, tolerance, draw):
    """The square written out, as three correlations, with weights that add up to 1, and scalar tensors as the answer."""
    n, channels = window.shape[-1], window.shape[0]
    offset = torch.arange(-(n // 2), n // 2 + 1, dtype=torch.float64)
    g = torch.exp(-(offset[:, None] ** 2 + offset ** 2) * 6.4 ** 2 / (2 * n ** 2)) * known
    g = (g / g.sum()).expand(channels, n, n)
    u, e = window.double(), exemplar.double()
    d = F.conv2d(e[None] ** 2, g[None]) - 2 * F.conv2d(e[None], (g * u)[None]) + (g * u ** 2).sum()
    index = torch.nonzero(d.flatten() <= d.min() + tolerance * d.min()).flatten()
    k = index[int(draw * index.numel())]
    return k // d.shape[-1] + n // 2, k % d.shape[-1] + n // 2


def _cut_by_recursion(error):
    rows, columns = error.shape

    @functools.cache
    def best(i, j):
        if j < 0 or j >= columns:
            return math.inf, ()
        if i == 0:
            return float(error[0, j]), (j,)
        cost, way = min(best(i - 1, k) for k in (j - 1, j, j + 1))
        return cost + float(error[i, j]), (*way, j)
    return torch.tensor(min(best(rows - 1, j) for j in range(columns))[1])


def _cut_with_pointers(error):
    e = error.numpy()
    total, came = e[0].copy(), np.zeros(e.shape, dtype=int)
    for i in range(1, len(e)):
        padded = np.pad(total, 1, constant_values=1e30)
        ways = np.stack([padded[:-2], padded[1:-1], padded[2:]])
        came[i] = np.arange(e.shape[1]) + ways.argmin(0) - 1
        total = e[i] + ways.min(0)
    cut = np.empty(len(e), dtype=np.int64)
    cut[-1] = total.argmin()
    for i in range(len(e) - 1, 0, -1):
        cut[i - 1] = came[i, cut[i]]
    return torch.from_numpy(cut)


def _cut_from_below(error):
    """E summed from the last row up, and followed from the first row down."""
    total = error.flip(0).clone()
    for i in range(1, len(total)):
        total[i] += -F.max_pool1d(-total[None, i - 1], 3, stride=1, padding=1)[0]
    total, cut = total.flip(0), []
    for line in total:
        low = 0 if not cut else max(0, cut[-1] - 1)
        high = len(line) if not cut else cut[-1] + 2
        cut.append(low + int(line[low:high].argmin()))
    return torch.tensor(cut)


def _phases_by_division(image, noise):
    w = torch.fft.rfft2(noise)
    w = w / w.abs()
    w[0, 0] = 1
    return torch.fft.irfft2(torch.fft.rfft2(image) * w, s=image.shape[-2:])


def _phases_in_numpy(image, noise):
    phase = np.angle(np.fft.fft2(noise.numpy().astype(np.float64)))
    phase[0, 0] = 0
    channels = [np.fft.fft2(c) for c in image.numpy().astype(np.float64)]
    made = [np.fft.ifft2(np.abs(c) * np.exp(1j * (np.angle(c) + phase))).real for c in channels]
    return torch.from_numpy(np.stack(made)).to(image.dtype)


def _phases_around_the_mean(image, noise):
    mean = image.mean((1, 2), keepdim=True)
    theta = torch.fft.fft2(noise - noise.mean()).angle()
    return mean + torch.fft.ifft2(torch.fft.fft2(image - mean) * torch.polar(torch.ones_like(theta), theta)).real


def _aggregated_pixel_by_pixel(matches, positions, image, r):
    n, out = matches.shape[-1], torch.empty_like(image)
    weights = []
    for match, (i, j) in zip(matches, positions.tolist()):
        d = float((image[:, i:i + n, j:j + n] - match).square().sum())
        weights.append((d + 1e-8 * match.shape[0] * n * n) ** (r / 2 - 1))
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            for c in range(image.shape[0]):
                here = [(float(matches[k, c, y - i, x - j]), weights[k]) for k, (i, j) in enumerate(positions.tolist())
                        if 0 <= y - i < n and 0 <= x - j < n]
                if r == 1:
                    out[c, y, x] = sorted(value for value, _ in here)[(len(here) - 1) // 2]
                elif r == 2:
                    out[c, y, x] = sum(value for value, _ in here) / len(here)
                else:
                    out[c, y, x] = sum(value * w for value, w in here) / sum(w for _, w in here)
    return out


def _aggregated_by_fold(matches, positions, image, r):
    """Patches at places without one count for nothing."""
    count, channels, n = matches.shape[:3]
    rows, columns = image.shape[1] - n + 1, image.shape[2] - n + 1
    index = positions[:, 0] * columns + positions[:, 1]
    now = F.unfold(image[None], n)[0].T[index]
    flat = matches.flatten(1)
    if r == 1:
        columnwise = matches.new_full((channels * n * n, rows * columns), math.nan)
        columnwise[:, index] = flat.T
        layers = [F.fold(torch.eye(n * n, dtype=image.dtype)[k].repeat(channels)[:, None] * columnwise.nan_to_num(1e9), image.shape[1:], n)
                  for k in range(n * n)]
        held = [F.fold(torch.eye(n * n, dtype=image.dtype)[k].repeat(channels)[:, None] * (~columnwise.isnan()).to(image), image.shape[1:], n)
                for k in range(n * n)]
        values = torch.where(torch.stack(held) > 0, torch.stack(layers), math.nan)
        return values.nanmedian(0).values
    weight = ((now - flat).square().sum(1) + 1e-8 * flat.shape[1]) ** ((r - 2) / 2)
    spread, ones = matches.new_zeros(channels * n * n, rows * columns), matches.new_zeros(channels * n * n, rows * columns)
    spread[:, index], ones[:, index] = (flat * weight[:, None]).T, weight.expand(flat.shape[1], -1)
    return F.fold(spread, image.shape[1:], n) / F.fold(ones, image.shape[1:], n)


# --- unusual but right: energies, assignments, fields, prices -------------------------------------------------------

def _optimized_by_fold(exemplar, start, patch_size, stride, levels, iterations):
    """Patches by unfold at every place, those off the grid with weight 0, and the energies as tensors."""
    pyramid, picture, energies = [exemplar], start, []
    for _ in range(levels - 1):
        pyramid.append(pyramids.downsample(pyramid[-1], ratio=2))
    while pyramid:
        level = pyramid.pop()
        lines = [sorted({*range(0, side - patch_size + 1, stride), side - patch_size}) for side in picture.shape[1:]]
        grid = torch.zeros(*(side - patch_size + 1 for side in picture.shape[1:]), dtype=torch.bool)
        grid[torch.tensor(lines[0])[:, None], torch.tensor(lines[1])] = True
        keys = F.unfold(level[None], patch_size)[0].T
        for _ in range(iterations):
            seen = F.unfold(picture[None], patch_size)[0]
            nearest = ((seen.T[:, None] - keys) ** 2).sum(2).min(1).indices
            matches = keys[nearest].T * grid.flatten()
            held = F.fold((torch.ones_like(seen) * grid.flatten())[None], picture.shape[1:], patch_size)[0]
            picture = F.fold(matches[None], picture.shape[1:], patch_size)[0] / held
            new = F.unfold(picture[None], patch_size)[0] * grid.flatten()
            energies.append((new - matches).square().sum() / grid.sum())
        if pyramid:
            picture = F.interpolate(picture[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return [picture, tuple(energies)]


def _optimized_in_single_steps(exemplar, start, patch_size, stride, levels, iterations):
    """Coarse to fine by recursion, with the sum of squares multiplied out."""
    if levels > 1:
        coarse = pyramids.gaussian_pyramid(exemplar, levels=2)[1]
        start, before = _optimized_in_single_steps(coarse, start, patch_size, stride, levels - 1, iterations)
        start = pyramids.upsample(start, size=tuple(2 * side for side in start.shape[1:]))
    else:
        before = []
    keys, energies = patches.extract_patches(exemplar, patch_size=patch_size), []
    for _ in range(iterations):
        seen = patches.extract_patches(start, patch_size=patch_size, stride=stride, cover=True)
        matches = keys[[int(patches.squared_distances(p[None], keys)[0].argmin()) for p in seen]]
        start = patches.aggregate_patches(matches, height=start.shape[1], width=start.shape[2], patch_size=patch_size, stride=stride,
                                          cover=True)
        seen = patches.extract_patches(start, patch_size=patch_size, stride=stride, cover=True)
        energies.append(float(((seen - matches) ** 2).sum() / len(seen)))
    return start, before + energies


def _assigned_from_the_other_side(queries, candidates):
    """Candidates in rows, each as often as it has places."""
    places = -(-len(queries) // len(candidates))
    cost = (torch.cdist(candidates, queries, compute_mode="donot_use_mm_for_euclid_dist") ** 2).repeat_interleave(places, 0)
    rows, columns = linear_sum_assignment(cost.numpy())
    out = torch.empty(len(queries), dtype=torch.long)
    out[torch.as_tensor(columns)] = torch.as_tensor(rows) // places
    return out


def _assigned_by_inner_products(queries, candidates):
    """‖p‖² is the same for every candidate of a patch."""
    gain = 2 * queries @ candidates.T - candidates.square().sum(1)
    places = math.ceil(len(queries) / len(candidates))
    _, columns = linear_sum_assignment(np.tile(gain.numpy(), places), maximize=True)
    return torch.tensor([int(c) % len(candidates) for c in columns])


def _towards_pixel_by_pixel(matches, positions, weights, target, alpha, border):
    n, out = matches.shape[-1], target.clone()
    for y in range(border, target.shape[1] - border):
        for x in range(border, target.shape[2] - border):
            holds = [k for k, (i, j) in enumerate(positions.tolist()) if 0 <= y - i < n and 0 <= x - j < n]
            top = sum(weights[k] * matches[k, :, y - positions[k, 0], x - positions[k, 1]] + alpha * target[:, y, x] for k in holds)
            out[:, y, x] = top / sum(weights[k] + alpha for k in holds)
    return out


def _towards_by_adding_the_targets_patches(matches, positions, weights, target, alpha, border):
    """The target's own patches are votes with the weight alpha."""
    n = matches.shape[-1]
    own = torch.stack([target[:, i:i + n, j:j + n] for i, j in positions.tolist()])
    total, mass = torch.zeros_like(target), torch.zeros_like(target)
    for votes, w in ((matches, weights), (own, torch.full_like(weights, alpha))):
        for vote, (i, j), one in zip(votes, positions.tolist(), w.tolist()):
            total[:, i:i + n, j:j + n] += one * vote
            mass[:, i:i + n, j:j + n] += one
    inside = F.pad(torch.ones(tuple(side - 2 * border for side in target.shape[1:])), [border] * 4).bool()
    return torch.where(inside, total / mass, target)


def _weighted_by_labkit(nnf, distance, exemplar, patch_size):
    sigma = max(1.0, float(distance.flatten().quantile(0.75)))
    return patchmatch.reconstruct(nnf, exemplar, patch_size=patch_size, weights=(-0.5 * distance / sigma ** 2).exp().clamp(min=1e-30))


def _weighted_by_fold(nnf, distance, exemplar, patch_size):
    rows, columns = distance.shape
    sigma = np.maximum(1, np.percentile(distance.numpy(), 75))
    w = torch.maximum(torch.exp(-distance / (2 * sigma ** 2)), torch.tensor(1e-30, dtype=distance.dtype)).flatten()
    index = nnf[0].long() * (exemplar.shape[2] - patch_size + 1) + nnf[1].long()
    votes = F.unfold(exemplar[None], patch_size)[:, :, index.flatten()]
    size = (rows + patch_size - 1, columns + patch_size - 1)
    return (F.fold(votes * w, size, patch_size) / F.fold(w.expand_as(votes).contiguous(), size, patch_size))[0]


def _upsampled_patch_by_patch(nnf, image_size, exemplar_size, patch_size):
    out = torch.zeros(2, image_size[0] - patch_size + 1, image_size[1] - patch_size + 1, dtype=torch.int32)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            star = [min(range(side), key=lambda k: abs(p - 2 * k)) for p, side in zip((i, j), nnf.shape[1:])]
            for axis, p in enumerate((i, j)):
                moved = 2 * int(nnf[axis, star[0], star[1]]) + p - 2 * star[axis]
                out[axis, i, j] = min(max(moved, 0), exemplar_size[axis] - patch_size)
    return out


def _upsampled_as_shifts(nnf, image_size, exemplar_size, patch_size):
    """A shift is doubled and repeated; the position is added again."""
    own, fine = (torch.stack(torch.meshgrid(*(torch.arange(side) for side in sides), indexing="ij"))
                 for sides in (nnf.shape[1:], [side - patch_size + 1 for side in image_size]))
    star = torch.minimum(fine // 2, torch.tensor(nnf.shape[1:])[:, None, None] - 1)
    moved = fine + 2 * (nnf - own)[:, star[0], star[1]]
    return torch.minimum(moved, torch.tensor(exemplar_size)[:, None, None] - patch_size).clamp_min(0).int()


def _stepped_by_autograd(cost, beta, step):
    beta = beta.clone().requires_grad_()
    value = (cost - beta).amin(1).mean() + beta.mean()
    value.backward()
    return (beta + step * beta.grad).detach(), value.item()


def _stepped_by_one_hot(cost, beta, step):
    taken = (cost - beta[None, :]).argmin(1)
    table = F.one_hot(taken, len(beta)).to(cost)
    value = ((cost - beta) * table).sum() / len(cost) + beta.sum() / len(beta)
    return [beta - step * (table.mean(0) - 1 / len(beta)), value]


# --- the form of an answer ------------------------------------------------------------------------------------------

def _position_in_a_tensor(*arguments):
    return torch.tensor(EXERCISES["draw_pixel"].reference(*arguments))


def _position_in_an_array(*arguments):
    return np.array(EXERCISES["draw_pixel"].reference(*arguments))


def _energies_in_a_tensor(*arguments):
    picture, energies = EXERCISES["optimize_texture"].reference(*arguments)
    return picture, torch.tensor(energies)


def _energies_in_an_array(*arguments):
    picture, energies = EXERCISES["optimize_texture"].reference(*arguments)
    return picture, np.array(energies)


# --- answers that change nothing ------------------------------------------------------------------------------------

def _first_centre(window, known, exemplar, tolerance, draw):
    return window.shape[-1] // 2, window.shape[-1] // 2


def _first_column(error):
    return torch.zeros(len(error), dtype=torch.int64)


def _middle_column(error):
    return torch.full((len(error),), error.shape[1] // 2)


def _the_image(image, noise):
    return image.clone()


def _the_noise(image, noise):
    return noise.expand_as(image).clone()


def _the_current_picture(matches, positions, image, r):
    return image.clone()


def _the_start(exemplar, start, patch_size, stride, levels, iterations):
    return start.clone(), [0.0] * levels * iterations


def _in_order(patches, candidates):
    return torch.arange(len(patches)) % len(candidates)


def _the_target(matches, positions, weights, target, alpha, border):
    return target.clone()


def _a_part_of_the_exemplar(nnf, distance, exemplar, patch_size):
    return exemplar[:, :distance.shape[0] + patch_size - 1, :distance.shape[1] + patch_size - 1]


def _merely_enlarged(nnf, image_size, exemplar_size, patch_size):
    return F.interpolate(nnf[None].double(), size=tuple(side - patch_size + 1 for side in image_size))[0].to(torch.int32)


def _the_same_prices(cost, beta, step):
    return beta.clone(), cost.min(1).values.mean()


# what test_checks_chapters.py asks of every chapter

UNUSUAL_BUT_RIGHT = {
    "draw_pixel": [_pixel_by_loops, _pixel_by_correlation, _position_in_a_tensor, _position_in_an_array],
    "boundary_cut": [_cut_by_recursion, _cut_with_pointers, _cut_from_below],
    "random_phase_texture": [_phases_by_division, _phases_in_numpy, _phases_around_the_mean],
    "aggregate": [_aggregated_pixel_by_pixel, _aggregated_by_fold],
    "optimize_texture": [_optimized_by_fold, _optimized_in_single_steps, _energies_in_a_tensor, _energies_in_an_array],
    "assign_patches": [_assigned_from_the_other_side, _assigned_by_inner_products],
    "aggregate_towards": [_towards_pixel_by_pixel, _towards_by_adding_the_targets_patches],
    "weighted_reconstruction": [_weighted_by_labkit, _weighted_by_fold],
    "upsample_field": [_upsampled_patch_by_patch, _upsampled_as_shifts],
    "semi_dual_step": [_stepped_by_autograd, _stepped_by_one_hot],
}

CHANGES_NOTHING = {
    "draw_pixel": [_first_centre],
    "boundary_cut": [_first_column, _middle_column],
    "random_phase_texture": [_the_image, _the_noise],
    "aggregate": [_the_current_picture],
    "optimize_texture": [_the_start],
    "assign_patches": [_in_order],
    "aggregate_towards": [_the_target],
    "weighted_reconstruction": [_a_part_of_the_exemplar],
    "upsample_field": [_merely_enlarged],
    "semi_dual_step": [_the_same_prices],
}


# --- what a check must see, and must not say ------------------------------------------------------------------------

def test_the_semi_dual_as_printed_is_named_and_has_no_maximum():
    """With sums on both sides and unequal numbers, adding a constant to β raises the value without bound."""
    cost, beta = torch.rand(4, 9, generator=torch.Generator().manual_seed(0)), torch.zeros(9)
    printed = EXERCISES["semi_dual_step"].mistakes["as_printed"].variant
    values = [float(printed(cost, beta + shift, 0.1)[1]) for shift in (0.0, 10.0, 1000.0)]
    right = [float(EXERCISES["semi_dual_step"].reference(cost, beta + shift, 0.1)[1]) for shift in (0.0, 10.0, 1000.0)]
    assert values[0] + 1 < values[1] < values[2] - 1
    assert max(right) - min(right) < 1e-3


def test_a_position_in_floating_point_is_rejected():
    assert not EXERCISES["draw_pixel"](lambda *a: torch.tensor(EXERCISES["draw_pixel"].reference(*a)).double()).passed


def ticked(name, mistake, words):
    verdict = EXERCISES[name](EXERCISES[name].mistakes[mistake].variant)
    return next(p.passed for p in verdict.properties if words in p.sentence)


@pytest.mark.parametrize("mistake", ["jumps", "least_of_each_row", "greedy_downwards", "straight"])
def test_a_cut_that_jumps_or_is_not_the_cheapest_is_not_called_connected_and_cheapest(mistake):
    assert not ticked("boundary_cut", mistake, "is connected")


@pytest.mark.parametrize("mistake", ["wraps_around", "sums_wrap_around", "zeros_at_the_border"])
def test_a_cut_that_uses_what_lies_beyond_the_border_is_not_said_to_keep_to_it(mistake):
    assert not ticked("boundary_cut", mistake, "keeps to the border")


@pytest.mark.parametrize("mistake", ["exponent_not_halved", "exponent_r", "exponent_minus_half_r", "absolute"])
def test_an_aggregation_with_other_weights_is_not_said_to_leave_the_least_sum(mistake):
    assert not ticked("aggregate", mistake, "leaves the weighted sum")


def test_the_wrong_shape_of_the_prices_is_not_blamed_on_channels():
    answer = EXERCISES["semi_dual_step"].reference
    verdict = EXERCISES["semi_dual_step"](lambda *a: (torch.tensor(answer(*a)[1]), answer(*a)[0]))
    assert verdict.mistake == "order_of_results" and "channels" not in repr(verdict)
