"""Nearest-neighbour fields and the search for them: properties, the exhaustive search by definition, and refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import images
from labkit.patches import extract_patches
from labkit.patchmatch import (TRANSFORMS, candidates, exact_nnf, nnf_distance, patchmatch, random_nnf, reconstruct,
                               search, shift_map, upsample_nnf)
from labkit.patchmatch.matching import metric_channels
from labkit.runtime import generator
from tests.pictures import random_image, sixteenths

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SCHEDULES = ("sequential", "jump_flooding", "red_black")
METRICS = ("l2", "l1", "lab", "gradient")


def random_mask(height: int, width: int, *, share: float, seed: int = 0) -> torch.Tensor:
    return torch.rand((1, height, width), generator=generator(seed)) < share


def corner_mask(height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, :height // 2, :width // 2] = True
    return mask


def identity(rows: int, columns: int) -> torch.Tensor:
    """The field whose matches are the patches themselves."""
    return torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")).int()


def photograph(name: str = "astronaut", *, row: int = 60, column: int = 180, height: int = 40,
               width: int = 48) -> torch.Tensor:
    return images.crop(images.load(name), row=row, column=column, height=height, width=width)


def turned(image: torch.Tensor, name: str) -> torch.Tensor:
    """A flip of left and right first, then quarter turns against the clock."""
    image = image.flip(-1) if name.startswith("flip") else image
    degrees = name.partition("rotate_")[2]
    return torch.rot90(image, int(degrees or 0) // 90, (-2, -1))


def squares(image: torch.Tensor, nnf: torch.Tensor, patch_size: int) -> torch.Tensor:
    """The squares of a picture that a field (2, H', W') names: (H', W', C, n, n)."""
    every = image.unfold(1, patch_size, 1).unfold(2, patch_size, 1).permute(1, 2, 0, 3, 4)
    return every[nnf[0].long(), nnf[1].long()]


# --- what holds for every search ------------------------------------------------------------------------------------

@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_distance_never_increases(schedule, metric, k):
    image, exemplar = random_image(3, 14, 17), random_image(3, 12, 19, seed=1)
    mask = random_mask(14, 17, share=0.1)
    found = [patchmatch(image, exemplar, patch_size=3, iterations=i, k=k, schedule=schedule, metric=metric, image_mask=mask)
             for i in range(4)]
    for before, after in itertools.pairwise(found):
        assert (after.distance <= before.distance).all()        # the i-th nearest of each patch
    assert found[3].distance.mean() < 0.9 * found[0].distance.mean()


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_history_and_trace_tell_how_it_went(schedule, k):
    image, exemplar = random_image(2, 12, 13), random_image(2, 11, 10, seed=1)
    match = patchmatch(image, exemplar, patch_size=3, iterations=3, k=k, schedule=schedule, trace=True)
    assert len(match.history) == len(match.fields) == 4
    assert torch.equal(match.fields[-1], match.nnf)
    for i, (mean, field) in enumerate(zip(match.history, match.fields)):
        distance = nnf_distance(image, exemplar, field, patch_size=3)
        # float32 sums of 18 terms, whose mean is taken in double precision
        assert mean == pytest.approx(float(distance.reshape(k, 10, 11)[0].double().mean()), rel=1e-6)
        alone = patchmatch(image, exemplar, patch_size=3, iterations=i, k=k, schedule=schedule)
        assert torch.equal(field, alone.nnf) and not alone.fields


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_those_of_the_matches(metric):
    image, exemplar, mask = random_image(3, 12, 13), random_image(3, 11, 10, seed=1), random_mask(12, 13, share=0.2)
    for k in (1, 3):
        match = patchmatch(image, exemplar, patch_size=3, iterations=2, k=k, metric=metric, image_mask=mask)
        distance = nnf_distance(image, exemplar, match.nnf, patch_size=3, metric=metric, image_mask=mask)
        assert distance.shape == match.distance.shape
        # a sum in runs of a row or in one go: roundings of 45 terms of at most 5
        torch.testing.assert_close(match.distance, distance, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_iterations_leave_the_random_field(schedule):
    image, exemplar = random_image(1, 9, 8), random_image(1, 7, 10)
    match = patchmatch(image, exemplar, patch_size=2, iterations=0, schedule=schedule, seed=5)
    assert torch.equal(match.nnf, random_nnf(image, exemplar, patch_size=2, seed=5))
    assert (match.patch_size, match.schedule, match.metric, match.seed) == (2, schedule, "l2", 5)
    assert match.transform is None and len(match.history) == 1


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_every_size_down_to_one_patch(data):
    n = data.draw(st.integers(1, 4), label="patch_size")
    height, width, rows, columns = (n + data.draw(st.integers(0, 6)) for _ in range(4))
    channels = data.draw(st.integers(1, 9), label="channels")
    k = data.draw(st.integers(1, min(3, (rows - n + 1) * (columns - n + 1))), label="k")
    schedule, metric = data.draw(st.sampled_from(SCHEDULES)), data.draw(st.sampled_from(("l2", "l1", "gradient")))
    seed = data.draw(st.integers(0, 2 ** 62), label="seed")
    image, exemplar = random_image(channels, height, width, seed=1), random_image(channels, rows, columns, seed=2)
    match = patchmatch(image, exemplar, patch_size=n, iterations=2, k=k, schedule=schedule, metric=metric, seed=seed)
    shape = (height - n + 1, width - n + 1)
    assert match.nnf.dtype == torch.int32 and match.nnf.shape == ((2, *shape) if k == 1 else (k, 2, *shape))
    assert match.distance.dtype == torch.float32 and match.distance.shape == (shape if k == 1 else (k, *shape))
    field = match.nnf.reshape(k, 2, *shape)
    assert field.min() >= 0 and field[:, 0].max() <= rows - n and field[:, 1].max() <= columns - n
    exact = exact_nnf(image, exemplar, patch_size=n, k=k, metric=metric)
    # nothing is nearer than the nearest; float32 sums of up to 11 * 16 terms
    assert (match.distance >= exact.distance * (1 - 1e-5) - 1e-6).all()
    distance = match.distance.reshape(k, *shape)
    assert (distance[1:] >= distance[:-1]).all()
    places = field[:, 0] * columns + field[:, 1]
    assert (places.sort(0).values.diff(dim=0) > 0).all()        # k different ones


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_k_matches_are_different_places_nearest_first(schedule):
    image, exemplar = sixteenths(1, 10, 12), sixteenths(1, 9, 9, seed=1)        # with many distances that are equal
    match = patchmatch(image, exemplar, patch_size=2, iterations=3, k=5, schedule=schedule)
    places = match.nnf[:, 0] * 9 + match.nnf[:, 1]
    assert (places.sort(0).values.diff(dim=0) > 0).all()
    assert (match.distance.diff(dim=0) >= 0).all()
    assert torch.equal(match.distance, nnf_distance(image, exemplar, match.nnf, patch_size=2))


def test_all_patches_are_found_where_k_is_their_number():
    image, exemplar = random_image(2, 6, 7), random_image(2, 5, 5, seed=1)
    for schedule in SCHEDULES:
        match = patchmatch(image, exemplar, patch_size=3, iterations=0, k=9, schedule=schedule)
        assert torch.equal((match.nnf[:, 0] * 3 + match.nnf[:, 1]).sort(0).values,
                           torch.arange(9, dtype=torch.int32)[:, None, None].expand(9, 4, 5))
        assert torch.equal(match.nnf, exact_nnf(image, exemplar, patch_size=3, k=9).nnf)


def test_seeds_matter_and_nothing_else_does():
    image, exemplar = random_image(1, 20, 20), random_image(1, 20, 20, seed=1)
    for schedule in SCHEDULES:
        first, again, other = (patchmatch(image, exemplar, patch_size=3, iterations=1, schedule=schedule, seed=seed)
                               for seed in (0, np.int64(0), 1))
        assert torch.equal(first.nnf, again.nnf) and torch.equal(first.distance, again.distance)
        assert (first.nnf != other.nnf).any(0).float().mean() > 0.5
    torch.manual_seed(1)
    assert torch.equal(first.nnf, patchmatch(image, exemplar, patch_size=3, iterations=1, schedule=SCHEDULES[-1]).nnf)
    # the same start: what differs is the random search
    start = random_nnf(image, exemplar, patch_size=3)
    found = [patchmatch(image, exemplar, patch_size=3, iterations=1, start=start, seed=seed).nnf for seed in (0, 1)]
    assert not torch.equal(*found)


# --- masks ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("transforms", [None, ("identity", "rotate_90")])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masked_pixels_of_the_exemplar_are_never_used(schedule, metric, transforms):
    image, exemplar = random_image(3, 11, 12), random_image(3, 13, 14, seed=1)
    mask = corner_mask(13, 14)
    exemplar[:, :5, :5] = image[:, 3:8, 3:8]        # the best matches are forbidden ones
    options = dict(patch_size=3, iterations=3, k=2, schedule=schedule, metric=metric, exemplar_mask=mask, transforms=transforms)
    match = patchmatch(image, exemplar, **options)
    for nnf in match.nnf:
        assert not squares(mask, nnf, 3).any()
    other = torch.where(mask, random_image(3, 13, 14, seed=7), exemplar)
    again = patchmatch(image, other, **options)
    assert torch.equal(match.nnf, again.nnf) and torch.equal(match.distance, again.distance)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masked_pixels_of_the_image_have_no_influence(schedule, metric):
    image, exemplar, mask = random_image(3, 11, 12), random_image(3, 13, 14, seed=1), random_mask(11, 12, share=0.3)
    options = dict(patch_size=3, k=2, metric=metric, image_mask=mask)
    match = patchmatch(image, exemplar, iterations=2, schedule=schedule, **options)
    other = torch.where(mask, random_image(3, 11, 12, seed=7), image)
    again = patchmatch(other, exemplar, iterations=2, schedule=schedule, **options)
    assert torch.equal(match.nnf, again.nnf) and torch.equal(match.distance, again.distance)
    # exhaustively, too: the product rounds in another order, so distances only up to a rounding of 45 terms
    torch.testing.assert_close(*(exact_nnf(u, exemplar, **options).distance for u in (image, other)), rtol=1e-5, atol=1e-6)


def test_distances_with_masked_pixels_are_scaled_up_to_a_whole_patch():
    image, exemplar, mask = sixteenths(2, 6, 7), sixteenths(2, 8, 8, seed=1), random_mask(6, 7, share=0.4, seed=3)
    mask[:, :2, :2] = True
    nnf = random_nnf(image, exemplar, patch_size=2)
    distance = nnf_distance(image, exemplar, nnf, patch_size=2, image_mask=mask)
    known = ~squares(mask, identity(5, 6), 2)
    difference = (squares(image, identity(5, 6), 2) - squares(exemplar, nnf, 2)).square() * known
    expected = difference.sum((2, 3, 4)) * 4 / known.sum((2, 3, 4)).clamp(min=1)
    torch.testing.assert_close(distance, expected, rtol=1e-6, atol=0)       # 4/3 is rounded, nothing else is
    assert distance[0, 0] == 0                                              # nothing is known about this patch


def test_a_mask_without_masked_pixels_changes_nothing():
    image, exemplar = sixteenths(3, 9, 10), sixteenths(3, 11, 8, seed=1)
    empty = [torch.zeros(1, *u.shape[-2:], dtype=torch.bool) for u in (image, exemplar)]
    for schedule in SCHEDULES:
        found = [patchmatch(image, exemplar, patch_size=3, iterations=2, schedule=schedule, image_mask=a, exemplar_mask=b)
                 for a, b in ((None, None), empty)]
        assert torch.equal(found[0].nnf, found[1].nnf) and torch.equal(found[0].distance, found[1].distance)


# --- what is there is found -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_copy_finds_itself(schedule):
    image = photograph()
    match = patchmatch(image, image, patch_size=5, iterations=8, schedule=schedule)
    # one patch that finds itself tells its neighbours; a few dark ones are repeated and may stay elsewhere
    assert (match.distance == 0).float().mean() > 0.98
    from_the_start = patchmatch(image, image, patch_size=5, iterations=3, schedule=schedule, start=identity(36, 44))
    assert torch.equal(from_the_start.nnf, identity(36, 44)) and not from_the_start.distance.any()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_part_of_a_picture_finds_where_it_was_taken(schedule):
    exemplar = photograph(height=56, width=60)
    match = patchmatch(exemplar[:, 11:45, 7:49], exemplar, patch_size=5, iterations=8, schedule=schedule)
    there = (shift_map(match.nnf) == torch.tensor([11.0, 7.0])[:, None, None]).all(0)
    assert there.float().mean() > 0.98


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_given_start_is_only_improved_upon(schedule):
    image, exemplar = random_image(1, 12, 12), random_image(1, 12, 12, seed=1)
    exact = exact_nnf(image, exemplar, patch_size=3, k=2)
    for k, start in ((1, exact.nnf[0]), (2, exact.nnf)):
        match = patchmatch(image, exemplar, patch_size=3, iterations=2, k=k, schedule=schedule, start=start)
        assert torch.equal(match.nnf, start)
    # given in another order, the nearest comes first nevertheless
    match = patchmatch(image, exemplar, patch_size=3, iterations=0, k=2, schedule=schedule, start=exact.nnf.flip(0))
    assert torch.equal(match.nnf, exact.nnf)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("pictures", [
    (("motorcycle_left", 100, 200), ("motorcycle_right", 100, 190)),
    (("astronaut", 60, 180), ("astronaut", 200, 150)),
])
def test_five_iterations_come_near_the_exact_optimum(pictures, schedule):
    image, exemplar = (photograph(name, row=row, column=column, height=80, width=88) for name, row, column in pictures)
    match = patchmatch(image, exemplar, patch_size=7, schedule=schedule)
    # 2 to 7 % above it on these, for every seed tried
    assert match.distance.mean() < 1.1 * exact_nnf(image, exemplar, patch_size=7).distance.mean()


# --- transforms -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_turned_copy_is_found_and_rebuilt(name):
    exemplar = photograph(height=30, width=41)
    image = turned(exemplar, name)
    match = patchmatch(image, exemplar, patch_size=5, iterations=8, transforms=TRANSFORMS)
    assert (match.transform == TRANSFORMS.index(name)).float().mean() > 0.95
    assert (match.distance == 0).float().mean() > 0.95
    rebuilt = reconstruct(match.nnf, exemplar, patch_size=5, transform=match.transform)
    assert (rebuilt - image).abs().mean() < 1e-3


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 2])
def test_a_match_is_the_square_turned_by_its_transform(metric, k):
    image, exemplar = random_image(3, 9, 8), random_image(3, 7, 10, seed=1)
    names = ("flip_rotate_90", "identity", "rotate_270", "flip")
    match = patchmatch(image, exemplar, patch_size=3, iterations=2, k=k, metric=metric, transforms=names)
    fields, transforms = match.nnf.reshape(k, 2, 7, 6), match.transform.reshape(k, 7, 6)
    assert match.transform.dtype == torch.int8 and match.transform.shape == match.distance.shape
    assert {TRANSFORMS[i] for i in match.transform.unique().tolist()} == set(names)
    mine = squares(metric_channels(image, metric), identity(7, 6), 3)
    for nnf, transform, distance in zip(fields, transforms, match.distance.reshape(k, 7, 6)):
        for row, column in itertools.product(range(7), range(6)):
            name = TRANSFORMS[transform[row, column]]
            whole = metric_channels(turned(exemplar, name), metric)     # derivatives turn with the picture
            index = torch.arange(70).reshape(1, 7, 10)
            square = squares(index, nnf[:, row:row + 1, column:column + 1], 3)[0, 0]
            seen, = (turned(index, name)[0] == turned(square, name)[0, 0, 0]).nonzero()
            theirs = whole[:, seen[0]:seen[0] + 3, seen[1]:seen[1] + 3]
            difference = mine[row, column] - theirs
            expected = difference.abs().sum() if metric == "l1" else difference.square().sum()
            assert distance[row, column] == pytest.approx(float(expected), rel=1e-5, abs=1e-6)      # 45 float32 terms


def test_turns_do_not_look_at_what_fills_a_square_up():
    image = torch.zeros(1, 8, 8)                                # the filling would fit perfectly
    exemplar = random_image(1, 4, 12) * 0.5 + 0.5
    match = patchmatch(image, exemplar, patch_size=3, iterations=4, transforms=TRANSFORMS)
    assert match.distance.min() > 9 * 0.25
    assert match.nnf[0].max() <= 1 and match.nnf[1].max() <= 9 and match.nnf.min() >= 0


# --- the exhaustive search ------------------------------------------------------------------------------------------

def all_distances(image, exemplar, n, metric, image_mask, exemplar_mask) -> np.ndarray:
    """Every patch of the image to every one of the exemplar, by definition in double precision; (N, M)."""
    def by_channels(u):
        if metric == "lab":
            return images.to_lab(u.double()).numpy() / 100
        channels = u.double().numpy()
        if metric == "gradient":
            padded = np.pad(images.to_grey(u.double())[0].numpy(), 1, mode="edge")
            down, across = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2, (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
            channels = np.concatenate([channels, np.sqrt(5) * np.abs([down, across])])
        return channels

    def patches(array):
        windows = np.lib.stride_tricks.sliding_window_view(array, (n, n), (1, 2))
        return windows.transpose(1, 2, 0, 3, 4).reshape(windows.shape[1] * windows.shape[2], -1)

    p, q = (patches(by_channels(u)) for u in (image, exemplar))
    known = np.ones_like(p)
    if image_mask is not None:
        known = np.repeat(patches(~image_mask.numpy()), p.shape[1] // n ** 2, axis=0).reshape(p.shape).astype(float)
    difference = p[:, None] - q[None]
    difference = np.abs(difference) if metric == "l1" else difference ** 2
    distance = (known[:, None] * difference).sum(2)
    distance *= (p.shape[1] / np.maximum(known.sum(1), 1))[:, None]
    if exemplar_mask is not None:
        distance[:, patches(exemplar_mask.numpy()).any(1)] = np.inf
    return distance


# derivatives beside masked pixels have a test of their own
@pytest.mark.parametrize("metric, masks", [
    (metric, masks) for metric in METRICS for masks in ("no masks", "image", "exemplar", "both")
    if metric != "gradient" or masks == "no masks"])
@pytest.mark.parametrize("k", [1, 4])
def test_exhaustive_search_is_that_by_definition(metric, k, masks, monkeypatch):
    image, exemplar = random_image(3, 9, 7), random_image(3, 8, 10, seed=1)
    image_mask = random_mask(9, 7, share=0.3) if masks in ("image", "both") else None
    exemplar_mask = corner_mask(8, 10) if masks in ("exemplar", "both") else None
    every = all_distances(image, exemplar, 3, metric, image_mask, exemplar_mask)
    options = dict(patch_size=3, k=k, metric=metric, image_mask=image_mask, exemplar_mask=exemplar_mask)
    match = exact_nnf(image, exemplar, **options)
    shape = (k, 7, 5) if k > 1 else (7, 5)
    expected = np.sort(every, axis=1)[:, :k].T.reshape(shape)
    np.testing.assert_allclose(match.distance.numpy(), expected, rtol=2e-5)         # float32 sums of 45 terms
    nnf = match.nnf.numpy().reshape(k, 2, -1)
    named = np.take_along_axis(every, (nnf[:, 0] * 8 + nnf[:, 1]).T, axis=1).T.reshape(shape)
    np.testing.assert_allclose(named, expected, rtol=2e-5)
    assert match.schedule == "exact" and match.history == [pytest.approx(match.distance.reshape(k, -1)[0].mean().item())]
    monkeypatch.setattr(search, "BLOCK_VALUES", 100)        # two patches at a time
    blocks = exact_nnf(image, exemplar, **options)
    assert torch.equal(blocks.nnf, match.nnf) and torch.equal(blocks.distance, match.distance)


def test_of_equally_near_patches_the_first_comes_first():
    image = torch.full((2, 5, 6), 0.5)
    assert not exact_nnf(image, image, patch_size=3).nnf.any()
    places = exact_nnf(image, image, patch_size=3, k=3).nnf
    assert ((places[:, 0] * 4 + places[:, 1]).diff(dim=0) > 0).all()


def test_derivatives_of_the_gradient_metric_are_those_of_the_thesis():
    image = random_image(2, 6, 7, dtype=torch.float64)
    found = metric_channels(image, "gradient").numpy()
    intensity = image.mean(0).numpy()
    np.testing.assert_allclose(found[2, 1:-1], np.sqrt(5) * np.abs(intensity[2:] - intensity[:-2]) / 2, atol=1e-15)
    np.testing.assert_allclose(found[3][:, 1:-1], np.sqrt(5) * np.abs(intensity[:, 2:] - intensity[:, :-2]) / 2, atol=1e-15)
    # where a neighbour is masked, the pixel itself stands in for it, as at the border
    mask = torch.zeros(1, 6, 7, dtype=torch.bool)
    mask[0, 3, 4] = True
    masked = metric_channels(image, "gradient", mask).numpy()
    assert masked[2, 2, 4] == pytest.approx(np.sqrt(5) * abs(intensity[2, 4] - intensity[1, 4]) / 2)
    assert masked[3, 3, 5] == pytest.approx(np.sqrt(5) * abs(intensity[3, 6] - intensity[3, 5]) / 2)
    beside = np.zeros((6, 7), bool)
    beside[[2, 4, 3, 3], [4, 4, 3, 5]] = True
    np.testing.assert_array_equal(masked[:, ~beside], found[:, ~beside])


# --- fields ---------------------------------------------------------------------------------------------------------

def test_random_fields_are_uniform_over_the_patches_that_may_be_used():
    image, exemplar, mask = torch.zeros(1, 82, 82), torch.zeros(1, 6, 7), torch.zeros(1, 6, 7, dtype=torch.bool)
    mask[:, 2, 2] = True
    nnf = random_nnf(image, exemplar, patch_size=3, exemplar_mask=mask)
    assert nnf.shape == (2, 80, 80) and nnf.dtype == torch.int32
    counts = torch.bincount((nnf[0] * 5 + nnf[1]).flatten(), minlength=20)
    allowed = torch.tensor([row > 2 or column > 2 for row in range(4) for column in range(5)])
    assert not counts[~allowed].any()
    # 6400 draws from 11 places: 582 ± 23 of each, and five standard deviations
    expected = 6400 / int(allowed.sum())
    assert (counts[allowed] - expected).abs().max() < 5 * expected ** 0.5
    assert not torch.equal(nnf, random_nnf(image, exemplar, patch_size=3, exemplar_mask=mask, seed=1))


def test_a_shift_map_tells_how_far_matches_are():
    field = identity(4, 5)
    assert not shift_map(field).any()
    shifted = torch.stack([field, field + torch.tensor([3, -1])[:, None, None]]).int()
    found = shift_map(shifted)
    assert found.dtype == torch.float32 and found.shape == (2, 2, 4, 5)
    assert not found[0].any() and (found[1, 0] == 3).all() and (found[1, 1] == -1).all()


@settings(deadline=None, max_examples=50)
@given(patch_size=st.integers(1, 5), coarse=st.tuples(st.integers(0, 9), st.integers(0, 9)),
       rest=st.tuples(st.integers(0, 1), st.integers(0, 1)))
def test_the_identity_stays_the_identity_when_scaled_up(patch_size, coarse, rest):
    coarse = tuple(side + patch_size for side in coarse)
    fine = tuple(2 * side + odd for side, odd in zip(coarse, rest))
    field = identity(*(side - patch_size + 1 for side in coarse))
    found = upsample_nnf(field, patch_size=patch_size, image_size=fine, exemplar_size=fine, coarse_exemplar_size=coarse)
    assert torch.equal(found, identity(*(side - patch_size + 1 for side in fine)))


def test_scaling_up_by_two_doubles_the_shift():
    field = identity(6, 7) + torch.tensor([3, 2])[:, None, None]
    found = upsample_nnf(field.int(), patch_size=3, image_size=(16, 18), exemplar_size=(24, 26), coarse_exemplar_size=(12, 13))
    assert (shift_map(found) == torch.tensor([6.0, 4.0])[:, None, None]).all()
    both = upsample_nnf(torch.stack([field, identity(6, 7)]).int(), patch_size=3, image_size=(16, 18),
                        exemplar_size=(24, 26), coarse_exemplar_size=(12, 13))
    assert torch.equal(both[0], found) and both.shape == (2, 2, 14, 16)


@settings(deadline=None, max_examples=50)
@given(patch_size=st.integers(1, 4), extra=st.lists(st.integers(0, 12), min_size=8, max_size=8), seed=st.integers(0, 99))
def test_a_field_scaled_up_stays_inside(patch_size, extra, seed):
    height, width, rows, columns, *fine = (patch_size + more for more in extra)
    field = random_nnf(torch.zeros(1, height, width), torch.zeros(1, rows, columns), patch_size=patch_size, seed=seed)
    found = upsample_nnf(field, patch_size=patch_size, image_size=tuple(fine[:2]), exemplar_size=tuple(fine[2:]),
                         coarse_exemplar_size=(rows, columns))
    assert found.dtype == torch.int32
    assert found.shape == (2, fine[0] - patch_size + 1, fine[1] - patch_size + 1)
    assert found.min() >= 0 and found[0].max() <= fine[2] - patch_size and found[1].max() <= fine[3] - patch_size


def test_a_coarse_match_is_a_good_start_for_the_fine_search():
    image, exemplar = photograph(height=48, width=48), photograph(row=68, column=172, height=64, width=64)
    small = [images.resize(u, scale=0.5) for u in (image, exemplar)]
    coarse = patchmatch(*small, patch_size=5)
    start = upsample_nnf(coarse.nnf, patch_size=5, image_size=(48, 48), exemplar_size=(64, 64), coarse_exemplar_size=(32, 32))
    random, scaled = (nnf_distance(image, exemplar, nnf, patch_size=5).mean()
                      for nnf in (random_nnf(image, exemplar, patch_size=5), start))
    assert scaled < 0.1 * random


# --- voting ---------------------------------------------------------------------------------------------------------

def votes(nnf, exemplar, n, weights=None) -> np.ndarray:
    """û(x) = Σ w(p) ũ(ψ(p) + x − p) / Σ w(p), patch after patch in double precision; nnf (k, 2, H', W')."""
    rows, columns = nnf.shape[-2:]
    total, norm = np.zeros((len(exemplar), rows + n - 1, columns + n - 1)), np.zeros((rows + n - 1, columns + n - 1))
    for i, y, x in np.ndindex(len(nnf), rows, columns):
        weight = 1.0 if weights is None else float(weights[i, y, x])
        v, u = nnf[i, :, y, x].tolist()
        total[:, y:y + n, x:x + n] += weight * exemplar[:, v:v + n, u:u + n].double().numpy()
        norm[y:y + n, x:x + n] += weight
    return total / norm


@pytest.mark.parametrize("method", ["kernel", "reference"])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3])
def test_voting_is_the_weighted_mean_of_what_matches_say(k, n, method):
    exemplar = random_image(2, 7, 6, seed=1)
    nnf = torch.stack([random_nnf(torch.zeros(2, 8, 9), exemplar, patch_size=n, seed=i) for i in range(k)])
    weights = random_image(k, 9 - n, 10 - n, seed=2)
    given_nnf, given_weights = (nnf, weights) if k > 1 else (nnf[0], weights[0])
    for weight in (None, given_weights):
        found = reconstruct(given_nnf, exemplar, patch_size=n, weights=weight, method=method)
        expected = votes(nnf, exemplar, n, None if weight is None else weights)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)      # float32 sums of 27 terms below 1


def test_the_identity_votes_for_the_picture_itself():
    image = sixteenths(3, 8, 9)         # n² times the same value, divided by n²: exact
    for n in (1, 3, 8):
        assert torch.equal(reconstruct(identity(9 - n, 10 - n), image, patch_size=n), image)


def test_a_match_of_weight_zero_has_no_say():
    exemplar = random_image(2, 9, 8)
    nnf = torch.stack([identity(7, 6), random_nnf(exemplar, exemplar, patch_size=3)])
    weights = torch.stack([torch.ones(7, 6), torch.zeros(7, 6)])
    found = reconstruct(nnf, exemplar, patch_size=3, weights=weights)
    torch.testing.assert_close(found, exemplar, rtol=0, atol=1e-6)
    weights = torch.ones(7, 6)
    weights[0, 0] = 0                   # the only patch that holds the first pixel
    with pytest.raises(ValueError, match="weights are 0 in all patches of 1 pixels"):
        reconstruct(identity(7, 6), exemplar, patch_size=3, weights=weights)


# --- what was tried -------------------------------------------------------------------------------------------------

def test_candidates_explain_the_next_field():
    image, exemplar = random_image(2, 8, 9), random_image(2, 10, 7, seed=1)
    match = patchmatch(image, exemplar, patch_size=3, iterations=3, seed=4, trace=True)
    for iteration in (1, 2, 3):
        for row, column in itertools.product(range(6), range(7)):
            tried = candidates(image, exemplar, match, row=row, column=column, iteration=iteration)
            before, after = (match.fields[i][:, row, column].tolist() for i in (iteration - 1, iteration))
            assert tried[0].kind == "current" and [tried[0].row, tried[0].column] == before
            last = [candidate for candidate in tried if candidate.accepted][-1]
            assert [last.row, last.column] == after
            assert last.distance == min(candidate.distance for candidate in tried)
            assert len({(candidate.row, candidate.column) for candidate in tried}) == len(tried)
            kinds = [candidate.kind for candidate in tried]
            assert kinds == sorted(kinds, key=("current", "propagation", "random").index)
            assert kinds.count("propagation") <= 2 and kinds.count("random") <= 4      # windows of radius 8, 4, 2, 1
            for candidate in tried:
                patch = squares(image, torch.tensor([[[row]], [[column]]]), 3)
                other = squares(exemplar, torch.tensor([[[candidate.row]], [[candidate.column]]]), 3)
                assert candidate.distance == pytest.approx(float((patch - other).square().sum()), rel=1e-5)


# --- batches, dtypes, devices, arguments ----------------------------------------------------------------------------

@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_batch_is_its_pictures_one_by_one(schedule):
    batch, exemplars = random_image(2, 3, 9, 10), random_image(2, 3, 8, 8, seed=1)
    options = dict(patch_size=3, iterations=2, k=2, schedule=schedule, trace=True)
    for exemplar in (exemplars, exemplars[0]):
        match = patchmatch(batch, exemplar, **options)
        single = [patchmatch(u, exemplar if exemplar.ndim == 3 else v, **options) for u, v in zip(batch, exemplars)]
        for name in ("nnf", "distance"):
            assert torch.equal(getattr(match, name), torch.stack([getattr(one, name) for one in single]))
        for step, steps in zip(match.fields, zip(*(one.fields for one in single)), strict=True):
            assert torch.equal(step, torch.stack(steps))
        assert match.history == pytest.approx([sum(means) / 2 for means in zip(*(one.history for one in single))])
    again = patchmatch(batch, exemplars[0], start=match.nnf, **(options | {"iterations": 0}))
    assert torch.equal(again.nnf, match.nnf)
    exact = exact_nnf(batch, exemplars, patch_size=3)
    assert torch.equal(exact.nnf[1], exact_nnf(batch[1], exemplars[1], patch_size=3).nnf)


def test_a_batch_keeps_its_transforms():
    batch, exemplar = random_image(2, 1, 6, 7), random_image(1, 6, 5, seed=1)
    match = patchmatch(batch, exemplar, patch_size=3, iterations=1, transforms=("identity", "flip"))
    single = [patchmatch(u, exemplar, patch_size=3, iterations=1, transforms=("identity", "flip")) for u in batch]
    assert torch.equal(match.transform, torch.stack([one.transform for one in single]))


@pytest.mark.parametrize("dtype, of_sums", [(torch.float16, torch.float32), (torch.bfloat16, torch.float32),
                                            (torch.float32, torch.float32), (torch.float64, torch.float64)])
def test_dtypes_are_kept_and_half_precision_is_summed_in_single(dtype, of_sums):
    image, exemplar = sixteenths(3, 8, 9).to(dtype), sixteenths(3, 10, 7, seed=1).to(dtype)
    expected = patchmatch(image.float(), exemplar.float(), patch_size=3, iterations=2)
    match = patchmatch(image, exemplar, patch_size=3, iterations=2)
    assert match.distance.dtype == of_sums and torch.equal(match.nnf, expected.nnf)
    assert torch.equal(match.distance, expected.distance.to(of_sums))       # sixteenths: no dtype rounds here
    exact = exact_nnf(image, exemplar, patch_size=3)
    assert exact.distance.dtype == nnf_distance(image, exemplar, match.nnf, patch_size=3).dtype == of_sums
    assert (exact.distance <= match.distance).all()
    rebuilt = reconstruct(match.nnf, exemplar, patch_size=3)
    assert rebuilt.dtype == dtype
    in_double = reconstruct(match.nnf, exemplar.double(), patch_size=3)
    # one rounding to the dtype, of half a unit in the last place of a number below 1, and those of the sum
    assert (rebuilt.double() - in_double).abs().max() <= torch.finfo(dtype).eps + 4 * torch.finfo(of_sums).eps


def test_results_are_apart_from_any_gradient():
    image, exemplar = random_image(3, 7, 8).requires_grad_(), random_image(3, 7, 8, seed=1).requires_grad_()
    for metric in METRICS:
        for match in (patchmatch(image, exemplar, patch_size=3, iterations=1, metric=metric),
                      exact_nnf(image, exemplar, patch_size=3, metric=metric)):
            assert not match.distance.requires_grad


def test_views_of_a_picture_are_searched_like_copies():
    image, exemplar = random_image(9, 10, 3).permute(2, 0, 1), random_image(3, 8, 18, seed=1)[:, :, ::2].flip(1)
    views = patchmatch(image, exemplar, patch_size=3, iterations=2)
    copies = patchmatch(image.contiguous(), exemplar.contiguous(), patch_size=3, iterations=2)
    assert torch.equal(views.nnf, copies.nnf) and torch.equal(views.distance, copies.distance)
    assert torch.equal(reconstruct(views.nnf, exemplar, patch_size=3), reconstruct(views.nnf, exemplar.contiguous(), patch_size=3))


def test_no_argument_is_written_into():
    image, exemplar = random_image(3, 9, 10), random_image(3, 9, 10, seed=1)
    masks = random_mask(9, 10, share=0.2), corner_mask(9, 10)
    start = random_nnf(image, exemplar, patch_size=3, exemplar_mask=masks[1], seed=3)
    weights = random_image(7, 8, seed=4) + 0.1
    given_tensors = (image, exemplar, *masks, start, weights)
    before = [tensor.clone() for tensor in given_tensors]
    for schedule, metric in itertools.product(SCHEDULES, METRICS):
        match = patchmatch(image, exemplar, patch_size=3, iterations=2, schedule=schedule, metric=metric, start=start,
                           image_mask=masks[0], exemplar_mask=masks[1], trace=True)
    turned_match = patchmatch(image, exemplar, patch_size=3, iterations=1, transforms=TRANSFORMS, exemplar_mask=masks[1])
    exact_nnf(image, exemplar, patch_size=3, k=2, image_mask=masks[0], exemplar_mask=masks[1])
    nnf_distance(image, exemplar, start, patch_size=3, image_mask=masks[0])
    for method in ("kernel", "reference"):
        reconstruct(start, exemplar, patch_size=3, weights=weights, method=method)
        reconstruct(turned_match.nnf, exemplar, patch_size=3, transform=turned_match.transform, method=method)
    shift_map(start)
    upsample_nnf(start, patch_size=3, image_size=(18, 20), exemplar_size=(18, 20), coarse_exemplar_size=(9, 10))
    candidates(image, exemplar, patchmatch(image, exemplar, patch_size=3, iterations=1, trace=True), row=1, column=1, iteration=1)
    for tensor, copy in zip(given_tensors, before):
        assert torch.equal(tensor, copy)
    assert torch.equal(match.fields[0], start)      # and no kept field changes with the ones after it


def test_fields_stay_what_they_were_when_used_as_a_start():
    image, exemplar = random_image(1, 9, 9), random_image(1, 9, 9, seed=1)
    first = patchmatch(image, exemplar, patch_size=3, iterations=1)
    kept = first.nnf.clone(), first.distance.clone()
    patchmatch(image, exemplar, patch_size=3, iterations=2, start=first.nnf)
    assert torch.equal(first.nnf, kept[0]) and torch.equal(first.distance, kept[1])


# --- refusals -------------------------------------------------------------------------------------------------------

U, V = torch.zeros(3, 9, 10), torch.zeros(3, 8, 11)
FIELD = torch.zeros(2, 7, 8, dtype=torch.int32)
EXCLUDED = torch.zeros(1, 8, 11, dtype=torch.bool)
EXCLUDED[:, 0, 0] = True


@pytest.mark.parametrize("pictures, options, message", [
    ((U[0], V), {}, r"image is a tensor of shape \(9, 10\).*expected"),
    ((U.numpy(), V), {}, "image is a numpy array"),
    ((U, V[0]), {}, "exemplar is a tensor"),
    ((U, V.int()), {}, "exemplar is a tensor .*int32"),
    ((U, V[None]), {}, r"exemplar is a tensor of shape \(1, 3, 8, 11\)"),
    ((U[:2], V), {}, "image has 2 channels and exemplar 3"),
    ((U, V.double()), {}, "image is torch.float32 .* exemplar torch.float64"),
    ((U * float("nan"), V), {}, "image holds 270 NaN"),
    ((U, V), {"patch_size": 9}, "patch_size is 9 and exemplar 8×11"),
    ((V, U), {"patch_size": 9}, "patch_size is 9 and image 8×11"),
    ((U, V), {"patch_size": 0}, "patch_size is 0; expected a whole number, at least 1"),
    ((U, V), {"patch_size": 3.0}, "patch_size is float 3.0"),
    ((U, V), {"k": 0}, "k is 0"),
    ((U, V), {"k": 55}, "k is 55 and the exemplar has 54 patches"),
    ((U, V), {"metric": "l3"}, "metric is 'l3'; expected one of 'l2', 'l1', 'lab', 'gradient'"),
    ((U[:1], V[:1]), {"metric": "lab"}, "metric is 'lab' and image has 1 channels; expected 3"),
    ((U, V), {"image_mask": torch.zeros(9, 10)}, r"image_mask is .*expected a boolean tensor \(1, 9, 10\)"),
    ((U, V), {"image_mask": EXCLUDED}, r"image_mask is .*\(1, 8, 11\).*expected a boolean tensor \(1, 9, 10\)"),
    ((U, V), {"exemplar_mask": EXCLUDED.float()}, r"exemplar_mask is .*expected a boolean tensor \(1, 8, 11\)"),
    ((U, V), {"exemplar_mask": ~EXCLUDED}, "exemplar_mask leaves no whole patch of side 3"),
    ((torch.zeros(0, 3, 9, 9), V), {}, "no pictures; expected at least one"),
    ((U[None], V[None].expand(2, -1, -1, -1)), {}, "expected one exemplar .*, or one for each picture"),
    ((U[None], None), {}, "exemplar NoneType None; expected one exemplar"),
])
def test_both_searches_refuse_what_does_not_fit(pictures, options, message):
    for function in (patchmatch, exact_nnf):
        with pytest.raises(ValueError, match=message):
            function(*pictures, **({"patch_size": 3} | options))


@pytest.mark.parametrize("pictures, options, message", [
    ((U, V), {"iterations": -1}, "iterations is -1"),
    ((U, V), {"iterations": 1.5}, "iterations is float 1.5"),
    ((U, V), {"seed": -1}, "seed is -1"),
    ((U, V), {"seed": "0"}, "seed is str '0'"),
    ((U, V), {"schedule": "scan"}, "schedule is 'scan'; expected one of 'sequential', 'jump_flooding', 'red_black'"),
    ((U, V), {"method": "slow"}, "method is 'slow'; expected one of 'kernel', 'reference'"),
    ((U, V), {"transforms": ()}, r"transforms is tuple \(\); expected different names"),
    ((U, V), {"transforms": "flip"}, "transforms is str 'flip'; expected different names"),
    ((U, V), {"transforms": 5}, "transforms is int 5; expected different names"),
    ((U, V), {"transforms": ("flip", "flip")}, "expected different names from identity, rotate_90"),
    ((U, V), {"transforms": ("flip", "mirror")}, "transforms is 'mirror'; expected one of 'identity'"),
    ((U, V), {"transforms": ("flip",), "exemplar_mask": ~EXCLUDED}, "exemplar_mask leaves no whole patch"),
    ((U, V), {"transforms": ("flip",), "start": FIELD}, "start and transforms were both given"),
    ((U, V), {"start": FIELD.float()}, "start is .*float32; expected an int32 tensor"),
    ((U, V), {"start": FIELD[:, :5]}, r"start is .*\(2, 5, 8\).*expected \(2, 7, 8\)"),
    ((U, V), {"start": FIELD + 9}, r"start names matches from \(9, 9\) to \(9, 9\); expected \(0, 0\) to \(5, 8\)"),
    ((U, V), {"start": FIELD - 1}, r"start names matches from \(-1, -1\)"),
    ((U, V), {"start": FIELD, "k": 2}, r"start is .*k is 2; expected \(2, 2, H′, W′\)"),
    ((U, V), {"start": FIELD[None]}, r"start is .*k is 1; expected \(2, H′, W′\)"),
    ((U, V), {"start": FIELD[None].expand(2, -1, -1, -1), "k": 2}, "start names the same match twice"),
    ((U, V), {"start": FIELD, "exemplar_mask": EXCLUDED}, "start names 56 matches that exemplar_mask excludes"),
    ((U[None], V), {"start": 0}, "start is int 0; expected one field for each of the 1 pictures"),
    ((U.expand(3, 3, 9, 10), V), {"start": FIELD}, "expected one field for each of the 3 pictures"),
])
def test_the_search_refuses_what_does_not_fit(pictures, options, message):
    with pytest.raises(ValueError, match=message):
        patchmatch(*pictures, **({"patch_size": 3} | options))


SIZES = {"patch_size": 3, "image_size": (18, 20), "exemplar_size": (16, 22), "coarse_exemplar_size": (8, 11)}


@pytest.mark.parametrize("call, message", [
    (lambda: random_nnf(U, V, patch_size=9), "patch_size is 9 and exemplar 8×11"),
    (lambda: random_nnf(U[None], V, patch_size=3), r"image is .*expected a floating-point torch tensor \(C, H, W\)"),
    (lambda: random_nnf(U, V, patch_size=3, exemplar_mask=~EXCLUDED), "exemplar_mask leaves no whole patch"),
    (lambda: random_nnf(U, V, patch_size=3, seed=-1), "seed is -1"),
    (lambda: shift_map(None), "nnf is NoneType None; expected an int32 tensor"),
    (lambda: shift_map(FIELD[0]), r"nnf is a tensor of shape \(7, 8\)"),
    (lambda: shift_map(FIELD.float()), "nnf is .*float32; expected an int32"),
    (lambda: upsample_nnf(FIELD.bool(), **SIZES), "nnf is .*bool; expected an int32"),
    (lambda: upsample_nnf(FIELD, **(SIZES | {"patch_size": "3"})), "patch_size is str '3'"),
    (lambda: upsample_nnf(FIELD, **(SIZES | {"image_size": 20})), r"image_size is int 20; expected \(height, width\)"),
    (lambda: upsample_nnf(FIELD, **(SIZES | {"image_size": (2, 20)})), "image_size is 2; expected a whole number, at least 3"),
    (lambda: upsample_nnf(FIELD, **(SIZES | {"exemplar_size": (16, 1)})), "exemplar_size is 1"),
    (lambda: upsample_nnf(FIELD, **(SIZES | {"coarse_exemplar_size": (0, 9)})), "coarse_exemplar_size is 0"),
    (lambda: nnf_distance(U, V, FIELD + 9, patch_size=3), "nnf names matches from"),
    (lambda: nnf_distance(U, V, FIELD[..., :5], patch_size=3), r"expected \(2, 7, 8\)"),
    (lambda: nnf_distance(U, V[:1], FIELD, patch_size=3), "image has 3 channels and exemplar 1"),
    (lambda: nnf_distance(U, V, FIELD, patch_size=3, metric="l3"), "metric is 'l3'"),
    (lambda: nnf_distance(U, V, FIELD, patch_size=3, method="slow"), "method is 'slow'"),
    (lambda: reconstruct(FIELD, V[None], patch_size=3), r"exemplar is .*expected a floating-point torch tensor \(C, H, W\)"),
    (lambda: reconstruct(FIELD, V, patch_size=30), "patch_size is 30 and exemplar 8×11"),
    (lambda: reconstruct(FIELD + 6, V, patch_size=3), r"nnf names matches from \(6, 6\) to \(6, 6\)"),
    (lambda: reconstruct(FIELD[:1], V, patch_size=3), "nnf is a tensor"),
    (lambda: reconstruct(FIELD, V, patch_size=3, method="slow"), "method is 'slow'"),
    (lambda: reconstruct(FIELD, V, patch_size=3, weights=torch.ones(8, 7)), r"weights is .*expected a tensor \(7, 8\)"),
    (lambda: reconstruct(FIELD, V, patch_size=3, weights=1.0), r"weights is float 1.0; expected a tensor \(7, 8\)"),
    (lambda: reconstruct(FIELD, V, patch_size=3, weights=-torch.ones(7, 8)), r"weights lies in \[-1, -1\]"),
    (lambda: reconstruct(FIELD, V, patch_size=3, weights=torch.full((7, 8), torch.inf)), "weights lies in"),
    (lambda: reconstruct(FIELD, V, patch_size=3, weights=torch.full((7, 8), torch.nan)), "weights lies in"),
    (lambda: reconstruct(FIELD, V, patch_size=3, weights=torch.zeros(7, 8)), "weights are 0 in all patches of 90 pixels"),
    (lambda: reconstruct(FIELD, V, patch_size=3, transform=[0]), r"transform is list \[0\]; expected whole numbers \(7, 8\)"),
    (lambda: reconstruct(FIELD, V, patch_size=3, transform=FIELD), r"expected whole numbers \(7, 8\) from 0 to 7"),
    (lambda: reconstruct(FIELD, V, patch_size=3, transform=FIELD[0] + 8), "from 0 to 7"),
    (lambda: reconstruct(FIELD, V, patch_size=3, transform=FIELD[0] * 0.5), "expected whole numbers"),
])
def test_the_other_functions_refuse_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_candidates_refuse_what_they_cannot_explain():
    traced = {name: patchmatch(U, V, patch_size=3, iterations=1, trace=True, **options) for name, options in {
        "good": {}, "jump": {"schedule": "jump_flooding"}, "two": {"k": 2}, "turned": {"transforms": ("flip",)}}.items()}
    place = {"row": 0, "column": 0, "iteration": 1}
    for match in (traced["jump"], traced["two"], traced["turned"], patchmatch(U, V, patch_size=3)):
        with pytest.raises(ValueError, match="match is of schedule .*expected one of patchmatch"):
            candidates(U, V, match, **place)
    for changed, message in (({"row": 7}, "row is 7; expected a whole number from 0 to 6"), ({"column": -1}, "column is -1"),
                             ({"iteration": 0}, "iteration is 0"), ({"iteration": 2}, "iteration is 2")):
        with pytest.raises(ValueError, match=message):
            candidates(U, V, traced["good"], **(place | changed))


def test_patches_are_those_of_the_ground_floor():
    # the order of patches in the exhaustive search and the field's shape rest on this one
    image = random_image(2, 5, 6)
    assert torch.equal(squares(image, identity(3, 4), 3).reshape(12, -1), extract_patches(image, patch_size=3))
