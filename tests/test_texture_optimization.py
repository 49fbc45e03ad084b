"""Texture optimisation and single-image generation: energies, assignments, constraints, and what the seed decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from labkit import images, metrics, patches
from labkit.runtime import generator
from labkit.texture_optimization import energy, single_image
from labkit.texture_optimization.energy import optimize_texture, period
from labkit.texture_optimization.single_image import gpnn, psin, psin_ot
from labkit.texture_optimization.transfer import transfer_style_by_patches
from labkit.texture_optimization.transport import transport_texture

SMALL = {"patch_sizes": (8, 4), "levels": 2, "stride": 2, "iterations": 6}


@pytest.fixture(scope="module")
def tiles():
    return images.load("tiles", size=(40, 40))


@pytest.fixture(scope="module")
def photo():
    return images.load("rocket", size=(48, 56))


# --- texture optimisation -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("r", [2, 1, 0.8])
@pytest.mark.parametrize("exact", [True, False])
def test_energy_never_rises(tiles, r, exact, monkeypatch):
    if not exact:
        monkeypatch.setattr(energy, "EXACT_PRODUCTS", 0)
    found = optimize_texture(tiles, size=(52, 44), r=r, **SMALL)
    assert len(found.energy) == 4
    for values in found.energy:
        # equal up to float32 rounding of a mean of distances
        assert all(after <= before * (1 + 1e-5) for before, after in zip(values, values[1:]))
    assert any(values[-1] < 0.95 * values[0] for values in found.energy)


@pytest.mark.parametrize("r", [2, 0.8])
def test_energy_with_fidelity_never_rises_and_pulls_towards_the_target(tiles, r):
    target = images.load("sand", size=(44, 44))
    near, free = (optimize_texture(tiles, size=(44, 44), r=r, fidelity=(target, weight), **SMALL) for weight in (5.0, 0.0))
    for values in near.energy:
        assert all(after <= before * (1 + 1e-5) for before, after in zip(values, values[1:]))
    assert metrics.mse(near.image, target) < 0.2 * metrics.mse(free.image, target)


def test_the_mean_is_a_blend_with_the_target_for_r_2(tiles):
    target = torch.rand(3, 40, 40, generator=generator(1))
    steps = {weight: energy._Alternation(tiles, (40, 40), 8, 2, 2, None, (target, weight), None) for weight in (0.0, 0.7)}
    found, distance = steps[0.0].match(target, None, 0)
    free, held = (step.aggregate(found, distance, target) for step in steps.values())
    torch.testing.assert_close(held, (free + 0.7 * target) / 1.7, atol=1e-5, rtol=0)


def test_assignment_uses_each_patch_exactly_once(tiles):
    step = energy._Alternation(tiles, (40, 40), 8, 4, 2, "lsap", None, None)
    field, _ = step.match(images.load("pebbles", size=(40, 40)), None, 0)
    used = sorted(zip(field[0, 1][step.active].tolist(), field[0, 2][step.active].tolist()))
    assert used == sorted(map(tuple, patches.patch_positions(40, 40, patch_size=8, stride=4, cover=True).tolist()))


def test_assignment_of_a_larger_picture_uses_each_patch_equally_often_or_once_less(tiles):
    step = energy._Alternation(tiles, (56, 64), 8, 4, 2, "lsap", None, None)
    field, _ = step.match(torch.rand(3, 56, 64, generator=generator(0)), None, 0)
    counts = torch.bincount(field[0, 1][step.active] * 100 + field[0, 2][step.active])
    assert counts.max() <= -(-len(step.grid) // len(step.assigned))


def test_assignment_keeps_the_statistics_better(tiles):
    mixed = torch.cat([images.load("sand", size=(40, 20)), tiles[..., :20]], -1)
    free, held = (optimize_texture(mixed, assignment=word, **SMALL).image for word in (None, "lsap"))
    cost = [float(metrics.patch_transport_cost(one, mixed, patch_size=5, steps=200)) for one in (held, free)]
    assert cost[0] < cost[1]


def test_border_is_copied(tiles):
    frame = images.load("wood", size=(44, 48))
    found = optimize_texture(tiles, size=(44, 48), border=(frame, 5), **SMALL).image
    assert torch.equal(found[:, :5], frame[:, :5]) and torch.equal(found[:, :, -5:], frame[:, :, -5:])
    assert not torch.equal(found[:, 5:-5, 5:-5], frame[:, 5:-5, 5:-5])


def test_period_of_a_lattice_is_found():
    cell = torch.rand(3, 11, 14, generator=generator(3))
    picture = cell.repeat(1, 4, 3)[:, :38, :40]
    rows, columns = period(picture)
    assert rows % 11 == 0 and columns % 14 == 0


def test_a_lattice_start_synthesises_a_lattice_almost_perfectly():
    cell = torch.rand(3, 10, 10, generator=generator(3))
    found = optimize_texture(cell.repeat(1, 4, 4), size=(60, 60), start="lattice", patch_sizes=(8,), levels=1, stride=2)
    assert found.energy[-1][-1] < 0.1
    torch.testing.assert_close(found.image[:, :50], found.image[:, 10:], atol=1e-3, rtol=0)


@pytest.mark.parametrize("r", [2, 0.8, 1])
def test_a_start_that_is_the_example_stays(tiles, r):
    found = optimize_texture(tiles, start=tiles, patch_sizes=(8,), levels=1, stride=2, r=r)
    torch.testing.assert_close(found.image, tiles, atol=1e-5, rtol=0)


def test_seed_decides_the_texture(tiles):
    one, same, other = (optimize_texture(tiles, seed=seed, **SMALL).image for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_every_step_is_traced(tiles):
    found = optimize_texture(tiles, size=(48, 40), trace=True, **SMALL)
    assert len(found.frames) == sum(map(len, found.energy))
    assert torch.equal(found.frames[-1], found.image) and found.frames[0].shape == (3, 24, 20)


def test_doubles_stay_doubles(tiles):
    for make in (lambda u: optimize_texture(u, **SMALL), lambda u: psin(u, levels=2, patch_size=5, iterations=2),
                 lambda u: gpnn(u, levels=2, iterations=2), lambda u: psin_ot(u, levels=2, patch_size=5, iterations=2)):
        assert make(tiles.double()).image.dtype == torch.float64


@pytest.mark.parametrize("arguments, words", [
    ({"patch_sizes": (41,)}, "patch_size is 41"), ({"patch_sizes": 8}, "patch_sizes"), ({"r": 3}, "r is 3"),
    ({"assignment": "hungarian"}, "assignment"), ({"start": "noise"}, "start"), ({"stride": 9}, "stride"),
    ({"fidelity": (torch.zeros(3, 9, 9), 1.0)}, "fidelity"), ({"border": torch.zeros(3, 40, 40)}, "border"),
    ({"size": (40, 3)}, "width"), ({"r": 1, "fidelity": (torch.zeros(3, 40, 40), 1.0)}, "fidelity"),
    ({"start": torch.zeros(1, 40, 40)}, "start")])
def test_bad_arguments_are_refused(tiles, arguments, words):
    with pytest.raises(ValueError, match=words):
        optimize_texture(tiles, **({"patch_sizes": (8, 4)} | arguments))


def test_style_transfer_keeps_the_content_more_for_a_larger_weight():
    content, style = images.load("camera", size=(48, 48)), images.load("wood", size=(40, 40)).mean(0, keepdim=True)
    content = content if content.shape[0] == 1 else content.mean(0, keepdim=True)
    near, far = (transfer_style_by_patches(content, style, patch_sizes=(8,), levels=2, content_weight=weight).image for weight in (1.0, 0.05))
    aim = images.match_colors(content, reference=style)
    assert near.shape == content.shape and metrics.mse(near, aim) < metrics.mse(far, aim)


# --- single images --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [psin, psin_ot, gpnn])
def test_a_seed_decides_the_picture_and_other_shapes_work(photo, make):
    arguments = {"patch_size": 7, "levels": 2, "iterations": 3}
    one, same, other = (make(photo, seed=seed, **arguments).image for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    wide = make(photo, size=(30, 90), trace=True, **arguments)
    assert wide.image.shape == (3, 30, 90) and torch.equal(wide.frames[-1], wide.image)
    assert photo.min() - 1e-5 <= wide.image.min() and wide.image.max() <= photo.max() + 1e-5
    assert wide.nnf.shape == (2, 24, 84) and [len(e) for e in wide.energy] == [3, 3]


@pytest.mark.parametrize("make", [psin, psin_ot, gpnn])
def test_tiny_and_constant_pictures_work_and_smaller_ones_are_refused(make):
    tiny = torch.rand(2, 7, 9, generator=generator(0))
    assert make(tiny, patch_size=7, iterations=2).image.shape == tiny.shape
    flat = torch.full((1, 20, 17), 0.25)
    torch.testing.assert_close(make(flat, patch_size=5, iterations=2).image, flat, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="patch_size is 9"):
        make(tiny, patch_size=9)


@pytest.mark.parametrize("make", [psin, psin_ot, gpnn])
@pytest.mark.parametrize("arguments, words", [({"levels": 0}, "levels"), ({"iterations": 0}, "iterations"), ({"seed": -1}, "seed"),
                                              ({"size": (3, 40)}, "height"), ({"size": 40}, "size")])
def test_bad_arguments_of_single_image_methods_are_refused(photo, make, arguments, words):
    with pytest.raises(ValueError, match=words):
        make(photo, **arguments)


def test_psin_lowers_its_energy_and_follows_a_painting(photo):
    found = psin(photo, levels=3, patch_size=7)
    assert all(values[-1] < values[0] for values in found.energy)
    moved = photo.roll(20, -1)
    led = psin(photo, levels=2, patch_size=7, start=moved).image
    assert metrics.mse(led, moved) < 0.5 * metrics.mse(led, photo)
    with pytest.raises(ValueError, match="start"):
        psin(photo, start=photo[:1])


def test_optimal_transport_brings_the_patch_distributions_nearer(photo):
    cost = {make: np.mean([float(metrics.patch_transport_cost(make(photo, levels=2, patch_size=7, seed=seed).image, photo, patch_size=7,
                                                              steps=100, max_patches=600)) for seed in range(2)]) for make in (psin, psin_ot)}
    assert cost[psin_ot] < cost[psin]


def test_gpnn_gives_the_picture_back_without_noise(photo):
    assert metrics.psnr(gpnn(photo, noise_deviation=0.0).image, photo) > 40


@pytest.mark.parametrize("exact", [True, False])
def test_small_alpha_makes_a_narrower_picture_complete(exact, monkeypatch):
    monkeypatch.setattr(single_image, "FULL_MATRIX", 2 ** 27 if exact else 0)
    photo = images.load("rocket", size=(72, 96))
    keys, missing = patches.extract_patches(photo, patch_size=7), {0.005: 0.0, 10.0: 0.0}
    for seed in range(1 if exact else 4):       # without a price, the draws of PatchMatch decide how much is lost
        for alpha in missing:
            narrow = gpnn(photo, size=(72, 56), alpha=alpha, levels=6, noise_deviation=0.0, seed=seed).image
            of_narrow = patches.extract_patches(narrow, patch_size=7)
            missing[alpha] += float(patches.squared_distances(keys, of_narrow).min(1).values.mean())
    assert missing[0.005] < 0.8 * missing[10.0]


def test_ascent_reaches_the_cost_of_optimal_transport_from_below():
    cost = torch.rand(40, 40, generator=generator(0), dtype=torch.float64)
    rows, columns = linear_sum_assignment(cost.numpy())
    best = float(cost[rows, columns].mean())
    values = [float(metrics.semi_dual_ascent(cost, steps=steps)[1]) for steps in (1, 30, 1000)]
    assert values[0] < values[1] < values[2] <= best + 1e-9
    assert values[2] > 0.95 * best


# --- transport ------------------------------------------------------------------------------------------------------

TRANSPORT = {"levels": 2, "targets": 60, "sources": 400, "steps": 150}


def test_transport_uses_the_patches_of_the_example_more_evenly_than_nearest_patches():
    """The ascent in β is what makes them even: one step leaves β near 0, where every patch takes its nearest."""
    sand, evenness = images.load("sand", size=(40, 40)), []
    for steps in (1, 150):
        places = transport_texture(sand, **(TRANSPORT | {"steps": steps, "levels": 1})).nnf
        use = torch.bincount(places[0].flatten().long() * 40 + places[1].flatten(), minlength=1600).double()
        share = use[use > 0] / use.sum()
        evenness.append(float(-(share * share.log()).sum()))
    assert evenness[0] < evenness[1] <= math.log(60) + 1e-9 and evenness[1] > math.log(40)


def test_a_transport_texture_has_the_colours_of_its_example():
    tiles = images.load("tiles", size=(48, 48))
    made = transport_texture(tiles, **TRANSPORT).image
    # patches are drawn, and their mean is taken where they overlap: the deviation shrinks, the mean stays to a few levels of 256
    torch.testing.assert_close(made.mean((-2, -1)), tiles.mean((-2, -1)), atol=0.03, rtol=0)
    assert (made.std((-2, -1)) > 0.6 * tiles.std((-2, -1))).all()


def test_a_seed_decides_the_transport_texture_and_other_shapes_work(tiles):
    one, same, other = (transport_texture(tiles, size=(30, 52), seed=seed, **TRANSPORT).image for seed in (0, 0, 1))
    assert one.shape == (tiles.shape[0], 30, 52) and torch.equal(one, same) and not torch.equal(one, other)


def test_transport_records_its_costs_and_on_request_its_frames(tiles):
    made = transport_texture(tiles, trace=True, **TRANSPORT)
    assert [len(costs) for costs in made.energy] == [1, 1] and all(costs[0] > 0 for costs in made.energy)
    assert [tuple(frame.shape[-2:]) for frame in made.frames] == [(20, 20), (40, 40)] and torch.equal(made.frames[-1], made.image)


def test_transport_of_a_constant_example_is_that_constant():
    flat = torch.full((3, 20, 24), 0.25)
    torch.testing.assert_close(transport_texture(flat, **TRANSPORT).image, flat)


@pytest.mark.parametrize("arguments, message", [
    ({"patch_size": 41}, "patch_size is 41 and exemplar 40×40"), ({"targets": 0}, "targets is 0"), ({"steps": 0}, "steps is 0"),
    ({"size": (2, 40)}, "height is 2"), ({"levels": 1.5}, "levels is float 1.5"), ({"seed": -1}, "seed is -1"),
])
def test_transport_refuses(tiles, arguments, message):
    with pytest.raises(ValueError, match=message):
        transport_texture(tiles, **arguments)
