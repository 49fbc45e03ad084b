"""Efros–Leung synthesis and hole filling, image quilting and texture transfer, Gaussian textures."""

from __future__ import annotations

import functools
import itertools
import math
import sys

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import images, kernels
from labkit.kernels import efros_leung_cpu
from labkit.runtime import generator
from labkit.texture_optimization.efros_leung import (choose, efros_leung, fill_hole, window_errors, window_weights)
from labkit.texture_optimization.gaussian import (periodic_component, random_phase, random_phase_texture, spot_noise)
from labkit.texture_optimization.quilting import image_quilting, minimum_error_boundary_cut, transfer_texture
from tests.pictures import random_image

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# the package also has functions of these names
growing, quilting = (sys.modules[f"labkit.texture_optimization.{name}"] for name in ("efros_leung", "quilting"))

simulated = pytest.mark.skipif(not kernels.simulated(), reason="needs numba's simulator, and there is a GPU")


def texture(name: str, side: int) -> torch.Tensor:
    return images.crop(images.load(name), row=20, column=20, height=side, width=side)


def chessboard(height: int, width: int, square: int = 3) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None] // square, torch.arange(width) // square
    return ((rows + columns) % 2).float()[None]


def colours(image: torch.Tensor) -> set[tuple[float, ...]]:
    return set(map(tuple, image.flatten(1).T.tolist()))


def with_hole(height: int, width: int, rows: slice, columns: slice) -> torch.Tensor:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, rows, columns] = True
    return mask


# --- Efros and Leung: one pixel -------------------------------------------------------------------------------------

@pytest.mark.parametrize("channels", [1, 3])
def test_the_error_of_a_window_is_its_definition(channels):
    window = random_image(channels, 5, 5, dtype=torch.float64)
    exemplar = random_image(channels, 8, 7, seed=1, dtype=torch.float64)
    known = torch.rand((5, 5), generator=generator(2)) < 0.6
    found = window_errors(window, known, exemplar)
    assert found.shape == (4, 3)
    for v, u in itertools.product(range(4), range(3)):
        total, weight = 0.0, 0.0
        for a, b in known.nonzero().tolist():
            g = math.exp(-((a - 2) ** 2 + (b - 2) ** 2) / (2 * (5 / 6.4) ** 2))
            total += g * sum((float(window[c, a, b]) - float(exemplar[c, v + a, u + b])) ** 2 for c in range(channels))
            weight += g
        assert float(found[v, u]) == pytest.approx(total / (channels * weight), rel=1e-12)


def test_the_weights_of_a_window_fall_from_its_centre():
    weights = window_weights(11)
    assert float(weights.sum()) == pytest.approx(1)
    assert weights.argmax() == 60 and torch.equal(weights, weights.T)
    # two standard deviations of 11 / 6.4 pixels away, the density is that of a Gaussian
    assert float(weights[5, 9] / weights[5, 5]) == pytest.approx(math.exp(-(4 * 6.4 / 11) ** 2 / 2))


def test_the_drawn_window_is_one_of_those_within_the_tolerance():
    errors = torch.tensor([[3.0, 1.0, 1.05], [1.2, 2.0, 1.09]])
    assert {choose(errors, tolerance=0.1, draw=draw) for draw in torch.linspace(0, 0.999, 50).tolist()} \
        == {(0, 1), (0, 2), (1, 2)}
    assert choose(errors, tolerance=0, draw=0.99) == (0, 1)
    assert choose(errors, tolerance=0.25, draw=0.99) == (1, 2)      # in row-major order


# --- Efros and Leung: textures --------------------------------------------------------------------------------------

@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels, patch_size", [(1, 3), (2, 5), (3, 5)])
def test_the_kernel_takes_the_pixels_of_the_reference(channels, patch_size, dtype, threads, monkeypatch):
    monkeypatch.setattr(efros_leung_cpu, "WORTH_THREADS", 0 if threads else math.inf)
    exemplar = random_image(channels, 12, 9, dtype=dtype)
    options = dict(size=(11, 14), patch_size=patch_size, tolerance=0.5, seed=3)
    found, expected = (efros_leung(exemplar, method=method, **options) for method in ("kernel", "reference"))
    assert torch.equal(found, expected)


def test_the_kernel_has_the_windows_of_many_runs():
    exemplar = texture("pebbles", 64)       # 59 lines of 64 windows, in seven runs
    options = dict(size=(12, 13), patch_size=7, tolerance=0.3)
    assert torch.equal(efros_leung(exemplar, **options), efros_leung(exemplar, method="reference", **options))


@pytest.mark.parametrize("max_error", [0.3, 0.02])
def test_kernel_and_reference_fill_holes_alike(max_error):
    image = random_image(3, 16, 18, dtype=torch.float64)
    mask = with_hole(16, 18, slice(0, 6), slice(5, 12))
    found, expected = (fill_hole(image, mask, patch_size=5, max_error=max_error, method=method)
                       for method in ("kernel", "reference"))
    assert torch.equal(found, expected)


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_kernel_and_reference_agree_for_every_size(data):
    n = data.draw(st.sampled_from([3, 5, 7]), label="patch_size")
    exemplar = random_image(data.draw(st.integers(1, 4), label="channels"), n + data.draw(st.integers(0, 5)),
                            n + data.draw(st.integers(0, 5)), seed=data.draw(st.integers(0, 99)), dtype=torch.float64)
    options = dict(size=(data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))), patch_size=n,
                   tolerance=data.draw(st.sampled_from([0, 0.1, 1000])), seed=data.draw(st.integers(0, 99)))
    found = efros_leung(exemplar, **options)
    assert found.shape == (len(exemplar), *options["size"])
    assert torch.equal(found, efros_leung(exemplar, method="reference", **options))


def test_a_texture_has_no_pixel_that_the_exemplar_has_not():
    exemplar = texture("leaves", 24)
    found = efros_leung(exemplar, size=(30, 27), patch_size=7)
    assert found.shape == (3, 30, 27)
    assert colours(found) <= colours(exemplar)


def test_a_pattern_is_continued_without_a_fault():
    exemplar = chessboard(18, 18)
    found = efros_leung(exemplar, size=(31, 26), patch_size=9, seed=1)
    # up to a shift, it is the pattern: each 9 × 9 window has to be one of the exemplar
    windows = {tuple(w.flatten().tolist()) for w in exemplar[0].unfold(0, 9, 1).unfold(1, 9, 1).reshape(-1, 81)}
    assert {tuple(w.tolist()) for w in found[0].unfold(0, 9, 1).unfold(1, 9, 1).reshape(-1, 81)} <= windows


def test_a_seed_decides_everything_and_seeds_differ():
    exemplar = texture("sand", 20)
    options = dict(size=(20, 20), patch_size=5)
    first, again, other = (efros_leung(exemplar, seed=seed, **options) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert (first != other).float().mean() > 0.5


def test_threads_do_not_change_a_bit(monkeypatch):
    exemplar = texture("scales", 48)
    options = dict(size=(20, 20), patch_size=7)
    expected = efros_leung(exemplar, **options)             # too little work for threads
    monkeypatch.setattr(efros_leung_cpu, "WORTH_THREADS", 0)
    before = numba.get_num_threads()
    try:
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(threads)
            assert torch.equal(efros_leung(exemplar, **options), expected)
    finally:
        numba.set_num_threads(before)


def test_pixels_wait_for_those_in_their_windows_alone():
    pixels = torch.cartesian_prod(torch.arange(9), torch.arange(8))[torch.randperm(72, generator=generator(0))]
    parts = list(growing._independent(pixels, (13, 12), 5))
    assert sorted(torch.cat(parts).tolist()) == list(range(72))
    assert 9 < len(parts) < 40          # not one by one
    turn = {int(index): number for number, part in enumerate(parts) for index in part}
    for i, j in itertools.combinations(range(72), 2):
        if (pixels[i] - pixels[j]).abs().max() <= 2:
            assert turn[i] < turn[j]


def test_it_grows_layer_by_layer_around_its_seed():
    exemplar = texture("wood", 16).clamp(min=0.01)      # so that 0 is no colour
    frames = []
    result = efros_leung(exemplar, size=(9, 9), patch_size=5,
                         callback=lambda layer, image: frames.append((layer, image)))
    assert [layer for layer, _ in frames] == [1, 2, 3]
    for layer, image in frames:
        known = image.sum(0) > 0
        expected = torch.zeros(9, 9, dtype=torch.bool)
        expected[3 - layer:6 + layer, 3 - layer:6 + layer] = True
        assert torch.equal(known, expected)
        assert torch.equal(image[:, known], result[:, known])       # what is there stays


def test_in_a_layer_the_pixels_that_know_most_come_first(monkeypatch):
    seen, fill = [], growing._fill_compiled

    def watch(canvas, known, exemplar, candidates, pixels, *rest):
        counts = [int(known[y:y + 5, x:x + 5].sum()) for y, x in pixels.tolist()]
        seen.append((pixels, counts))
        fill(canvas, known, exemplar, candidates, pixels, *rest)

    monkeypatch.setattr(growing, "_fill_compiled", watch)
    efros_leung(texture("sand", 16), size=(11, 12), patch_size=5)
    assert len(seen) == 5
    for _, counts in seen:
        assert counts == sorted(counts, reverse=True)
    equals = [p for p, c in zip(seen[1][0].tolist(), seen[1][1]) if c == max(seen[1][1])]
    assert equals != sorted(equals)         # which are in random order


def test_a_pixel_without_a_match_waits():
    # A hole in a ramp of grey; above it stands a white line such as there is no other.
    image = torch.linspace(0, 0.5, 24).expand(1, 20, 24).clone()
    mask = with_hole(20, 24, slice(8, 13), slice(10, 15))
    image[:, 6:8, 10:15] = 1
    orders = {}
    for bound in (0.3, 1e-4):
        first = {}

        def note(layer, picture, first=first):
            for y, x in (picture[0] != 0).nonzero().tolist():
                first.setdefault((y, x), layer)

        filled = fill_hole(image, mask, patch_size=3, max_error=bound, callback=note)
        assert (filled[:, mask[0]] > 0).all()
        orders[bound] = [[first[y, x] for x in range(10, 15)] for y in (8, 12)]
    assert orders[0.3] == [[1] * 5, [1] * 5]
    assert max(orders[1e-4][1]) < min(orders[1e-4][0])      # by then, the bottom had long been done


def test_a_hole_is_filled_and_the_rest_is_left_alone():
    image = texture("scales", 48)
    mask = with_hole(48, 48, slice(18, 30), slice(15, 31))
    damaged = image.masked_fill(mask, 0.5)
    before = damaged.clone()
    filled = fill_hole(damaged, mask, patch_size=9)
    assert torch.equal(damaged, before)
    assert torch.equal(filled[:, ~mask[0]], image[:, ~mask[0]])
    assert colours(filled) <= colours(image[:, ~mask[0]][..., None])
    # values under the mask have no influence
    assert torch.equal(filled, fill_hole(image.masked_fill(mask, -3.0), mask, patch_size=9))


def test_a_hole_in_a_pattern_is_closed_without_a_trace():
    image = chessboard(30, 33)
    mask = with_hole(30, 33, slice(10, 19), slice(12, 24))
    assert torch.equal(fill_hole(image.masked_fill(mask, 0), mask, patch_size=9), image)


def test_a_picture_is_continued_beyond_its_borders():
    image = chessboard(36, 36)
    known = with_hole(36, 36, slice(9, 27), slice(9, 27))
    assert torch.equal(fill_hole(image, ~known, patch_size=9), image)


def test_without_a_hole_there_is_nothing_to_do():
    image = random_image(3, 12, 12)
    found = fill_hole(image, torch.zeros(1, 12, 12, dtype=torch.bool))
    assert torch.equal(found, image) and found.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_stays_and_so_do_its_values(dtype):
    exemplar = texture("sand", 14).to(dtype)
    found = efros_leung(exemplar, size=(8, 8), patch_size=5)
    assert found.dtype == dtype and colours(found) <= colours(exemplar)


def test_no_gradient_is_asked_for():
    exemplar = texture("sand", 14).requires_grad_()
    for method in ("kernel", "reference"):
        assert not efros_leung(exemplar, size=(8, 8), patch_size=5, method=method).requires_grad
    assert not image_quilting(exemplar, patch_size=6).requires_grad
    assert not transfer_texture(exemplar, exemplar, patch_size=6).requires_grad
    assert not random_phase_texture(exemplar).requires_grad and not spot_noise(exemplar).requires_grad


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (40, 3)])
def test_sizes_smaller_than_the_seed_and_long_ones(size):
    exemplar = texture("wood", 11)      # a single window
    found = efros_leung(exemplar, size=size)
    assert found.shape == (3, *size) and colours(found) <= colours(exemplar)


def test_a_constant_exemplar_gives_a_constant_texture():
    exemplar = torch.full((3, 12, 15), 0.3)
    assert torch.equal(efros_leung(exemplar, size=(14, 9)), torch.full((3, 14, 9), 0.3))
    assert torch.equal(image_quilting(exemplar, size=(20, 30), patch_size=6), torch.full((3, 20, 30), 0.3))
    for make in (random_phase_texture, spot_noise):
        torch.testing.assert_close(make(exemplar, size=(20, 9)), torch.full((3, 20, 9), 0.3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("changed, message", [
    (dict(exemplar=random_image(3, 10, 30)), "patch_size is 11 and exemplar 10×30"),
    (dict(exemplar=random_image(2, 3, 20, 20)), r"expected a floating-point torch tensor \(C, H, W\)"),
    (dict(patch_size=8), "patch_size is 8; expected an odd"),
    (dict(patch_size=1), "patch_size is 1; expected an odd whole number, at least 3"),
    (dict(tolerance=-0.1), "tolerance is -0.1"),
    (dict(max_error=0), "max_error is 0"),
    (dict(seed=-1), "seed is -1"),
    (dict(size=40), r"size is int 40; expected \(height, width\)"),
    (dict(size=(40, 0)), "width is 0"),
    (dict(method="gpu"), "method is 'gpu'"),
])
def test_efros_leung_says_what_it_expects(changed, message):
    options = {"exemplar": random_image(3, 20, 20)} | changed
    with pytest.raises(ValueError, match=message):
        efros_leung(options.pop("exemplar"), **options)


def test_fill_hole_says_what_it_expects():
    image = random_image(1, 20, 20)
    with pytest.raises(ValueError, match="mask leaves no whole window of 11×11 pixels in 20×20"):
        fill_hole(image, with_hole(20, 20, slice(9, 11), slice(9, 11)))
    with pytest.raises(ValueError, match=r"expected a boolean tensor \(1, 20, 20\)"):
        fill_hole(image, torch.zeros(20, 20, dtype=torch.bool))


@simulated
@pytest.mark.parametrize("channels, dtype", [(1, torch.float32), (3, torch.float32), (2, torch.float64)])
def test_the_cuda_twin_takes_the_same_pixels(channels, dtype, monkeypatch):
    exemplar = random_image(channels, 6, 7, dtype=dtype)
    mask = with_hole(8, 9, slice(5, 8), slice(6, 9))
    image = random_image(channels, 8, 9, seed=1, dtype=dtype)

    def both():
        return (efros_leung(exemplar, size=(5, 4), patch_size=3, tolerance=0.6, seed=2),
                fill_hole(image, mask, patch_size=3, tolerance=0.3, max_error=0.05))

    expected = both()
    monkeypatch.setattr(growing, "run", functools.partial(kernels.run, twin="cuda"))
    for found, one in zip(both(), expected):
        assert torch.equal(found, one)


@pytest.mark.cuda
def test_a_gpu_makes_such_textures_too():
    exemplar = random_image(3, 40, 45, dtype=torch.float64)
    found = efros_leung(exemplar.cuda(), size=(20, 21), patch_size=5)
    assert found.is_cuda
    # in double precision, no two errors here are as near as their roundings
    assert torch.equal(found.cpu(), efros_leung(exemplar, size=(20, 21), patch_size=5))
    quilted = image_quilting(exemplar.cuda(), size=(50, 50), patch_size=12)
    assert quilted.is_cuda and torch.equal(quilted.cpu(), image_quilting(exemplar, size=(50, 50), patch_size=12))
    for make in (random_phase_texture, spot_noise):
        torch.testing.assert_close(make(exemplar.cuda(), size=(50, 30)).cpu(), make(exemplar, size=(50, 30)))


# --- the cut --------------------------------------------------------------------------------------------------------

def cost(error: torch.Tensor, cut: torch.Tensor) -> float:
    return float(error.double()[torch.arange(len(error)), cut].sum())


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 5), (6, 1), (4, 2), (5, 4), (6, 5)])
def test_no_way_is_cheaper_than_the_cut(rows, columns):
    for seed in range(10):
        error = random_image(rows, columns, seed=seed, dtype=torch.float64)
        cut = minimum_error_boundary_cut(error)
        assert cut.dtype == torch.int64 and cut.shape == (rows,)
        assert (cut.diff().abs() <= 1).all()
        best = math.inf
        for steps in itertools.product((-1, 0, 1), repeat=rows - 1):
            for first in range(columns):
                way = torch.tensor([first, *steps]).cumsum(0)
                if way.min() >= 0 and way.max() < columns:
                    best = min(best, cost(error, way))
        assert cost(error, cut) == pytest.approx(best, rel=1e-12)


def test_the_cut_follows_a_valley():
    valley = torch.tensor([2, 3, 4, 4, 3, 2, 1, 0, 0, 1])
    error = torch.ones(10, 6)
    error[torch.arange(10), valley] = 0
    before = error.clone()
    assert torch.equal(minimum_error_boundary_cut(error), valley)
    assert torch.equal(error, before)


def test_a_cut_does_not_jump_over_two_columns():
    error = torch.ones(2, 4)
    error[0, 0] = error[1, 3] = 0
    assert minimum_error_boundary_cut(error).tolist() in ([0, 0], [2, 3])


def test_the_cut_says_what_it_expects():
    for error in (torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(0, 4), [[1.0]]):
        with pytest.raises(ValueError, match=r"expected a floating-point tensor \(rows, columns\)"):
            minimum_error_boundary_cut(error)
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        minimum_error_boundary_cut(torch.tensor([[1.0, math.nan]]))


# --- quilting -------------------------------------------------------------------------------------------------------

def test_the_seams_of_a_quilt_cost_no_more_than_straight_cuts(monkeypatch):
    seams = []

    def watch(error):
        seams.append((error, minimum_error_boundary_cut(error)))
        return seams[-1][1]

    monkeypatch.setattr(quilting, "minimum_error_boundary_cut", watch)
    image_quilting(texture("leaves", 48), size=(70, 70), patch_size=16, overlap=4)
    assert len(seams) == 2 * 6 * 5                      # 6 × 6 blocks, 5 joints in each row and column
    assert {error.shape for error, _ in seams} == {(16, 4)}
    straight = [float(error.double().sum(0).min()) for error, _ in seams]
    cuts = [cost(error, cut) for error, cut in seams]
    assert all(c <= s for c, s in zip(cuts, straight))
    assert sum(cuts) < 0.9 * sum(straight)              # and most seams cost less


@pytest.mark.parametrize("known", ["left", "above", "both", "all"])
def test_errors_in_fourier_are_sums_of_squares(known):
    picture = random_image(3, 13, 11, dtype=torch.float64)
    template = random_image(3, 5, 5, seed=1, dtype=torch.float64)
    weights = torch.zeros(5, 5, dtype=torch.bool)
    weights[:2 if known in ("above", "both") else 0] = True
    weights[:, :2 if known in ("left", "both") else 0] = True
    weights |= known == "all"
    found = quilting._Blocks(picture, 5).mean_squares(template, weights)
    windows = picture.unfold(1, 5, 1).unfold(2, 5, 1)
    expected = ((windows - template[:, None, None]).square() * weights).sum((0, 3, 4)) / (3 * weights.sum())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)     # far below what counts as a difference


@pytest.mark.parametrize("size, patch_size, overlap", [((61, 40), 12, None), ((5, 70), 12, 6), ((30, 30), 20, 1),
                                                       ((7, 7), 2, 1)])
def test_a_quilt_is_made_of_the_exemplars_pixels(size, patch_size, overlap):
    exemplar = texture("pebbles", 20).clamp(min=0.01)
    found = image_quilting(exemplar, size=size, patch_size=patch_size, overlap=overlap)
    assert found.shape == (3, *size) and found.dtype == torch.float32
    assert colours(found) <= colours(exemplar)
    assert image_quilting(exemplar, patch_size=6).shape == exemplar.shape


def test_a_quilt_of_a_pattern_has_no_fault():
    exemplar = chessboard(20, 20)
    found = image_quilting(exemplar, size=(45, 38), patch_size=11, overlap=4)
    windows = {tuple(w.flatten().tolist()) for w in exemplar[0].unfold(0, 9, 1).unfold(1, 9, 1).reshape(-1, 81)}
    assert {tuple(w.tolist()) for w in found[0].unfold(0, 9, 1).unfold(1, 9, 1).reshape(-1, 81)} <= windows


def test_a_quilt_does_not_just_go_on_with_the_exemplar():
    exemplar = random_image(1, 40, 40)
    found = image_quilting(exemplar, size=(40, 40), patch_size=16, overlap=4)
    pieces = exemplar[0].unfold(0, 4, 1).unfold(1, 4, 1)
    place = {}
    for i, j in itertools.product(range(3), repeat=2):      # the middle of a block, which no other covers
        y, x = 12 * i + 6, 12 * j + 6
        place[i, j] = tuple((pieces == found[0, y:y + 4, x:x + 4]).all(-1).all(-1).nonzero()[0].tolist())
    for (i, j), (y, x) in place.items():
        assert place.get((i, j + 1)) != (y, x + 12)
        assert place.get((i + 1, j)) != (y + 12, x)


def test_the_only_block_is_taken_again():
    exemplar = random_image(3, 12, 12)
    found = image_quilting(exemplar, size=(25, 25), patch_size=12, overlap=2)
    assert torch.equal(found[:, :10, :10], exemplar[:, :10, :10])
    assert colours(found) <= colours(exemplar)


def test_quilts_follow_their_seed():
    exemplar = texture("terrazzo", 40)
    first, again, other = (image_quilting(exemplar, size=(60, 60), patch_size=12, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first != other).float().mean() > 0.3


@pytest.mark.parametrize("changed, message", [
    (dict(patch_size=41), "patch_size is 41 and exemplar 40×50"),
    (dict(patch_size=1), "patch_size is 1; expected a whole number, at least 2"),
    (dict(overlap=7), "overlap is 7; expected a whole number from 1 to 6"),
    (dict(overlap=0), "overlap is 0"),
    (dict(tolerance=math.nan), "tolerance is nan"),
    (dict(size=[3]), r"size is list \[3\]; expected \(height, width\)"),
    (dict(seed=1.5), "seed is float 1.5"),
])
def test_quilting_says_what_it_expects(changed, message):
    with pytest.raises(ValueError, match=message):
        image_quilting(random_image(3, 40, 50), **({"patch_size": 12} | changed))


# --- transfer -------------------------------------------------------------------------------------------------------

def brightness_of(image: torch.Tensor) -> torch.Tensor:
    return images.to_grey(image)[0] if len(image) == 3 else image[0]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


def test_a_transfer_looks_like_its_target_the_more_the_more_that_weighs():
    target = torch.linspace(0, 1, 60)[None, None].expand(3, 50, 60)
    found = {weight: transfer_texture(texture("pebbles", 60), target, weight=weight, iterations=1, patch_size=9)
             for weight in (0.0, 0.3, 1.0)}
    alike = {weight: correlation(brightness_of(image), target[0]) for weight, image in found.items()}
    assert abs(alike[0.0]) < 0.3            # by chance
    assert alike[0.0] < alike[0.3] < alike[1.0]
    assert alike[1.0] > 0.7


def test_a_transfer_paints_with_the_texture_alone():
    exemplar = texture("leaves", 40)
    target = random_image(1, 33, 47)
    before = target.clone()
    found = transfer_texture(exemplar, target, patch_size=9)
    assert found.shape == (3, 33, 47) and found.dtype == exemplar.dtype
    assert colours(found) <= colours(exemplar)
    assert torch.equal(target, before)
    assert torch.equal(found, transfer_texture(exemplar, target, patch_size=9))
    assert not torch.equal(found, transfer_texture(exemplar, target, patch_size=9, seed=1))
    grey = transfer_texture(exemplar[:1], torch.rand(3, 8, 5, generator=generator(0)), patch_size=12)
    assert grey.shape == (1, 8, 5)


def test_more_iterations_come_nearer_to_the_target():
    target = images.crop(images.load("camera", size=128), row=10, column=30, height=60, width=60)
    wanted = target[0]
    alike = [correlation(brightness_of(transfer_texture(images.load("marble"), target, iterations=number)), wanted)
             for number in (1, 3)]
    assert alike[1] > alike[0] + 0.1


def test_weight_zero_is_quilting():
    exemplar, target = texture("scales", 40), random_image(1, 50, 45)
    found = transfer_texture(exemplar, target, patch_size=12, weight=0, iterations=1)
    assert torch.equal(found, image_quilting(exemplar, size=(50, 45), patch_size=12))


def test_brightness_gets_the_distribution_of_the_texture():
    image, model = random_image(1, 9, 9, dtype=torch.float64), random_image(1, 9, 9, seed=1, dtype=torch.float64) ** 3
    found = quilting._with_distribution(image, model)
    torch.testing.assert_close(found.flatten().sort().values, model.flatten().sort().values, rtol=0, atol=1e-12)
    assert torch.equal(found.flatten().argsort(), image.flatten().argsort())
    steps = (image > 0.5).double()
    assert len(quilting._with_distribution(steps, model).unique()) == 2
    flat = quilting._with_distribution(torch.zeros_like(image), model)
    assert float(flat.unique()) == float(model.median())


def test_transfer_says_what_it_expects():
    image = random_image(3, 30, 30)
    for options, message in [(dict(weight=1.1), "weight is 1.1"), (dict(iterations=0), "iterations is 0"),
                             (dict(patch_size=31), "patch_size is 31 and texture 30×30")]:
        with pytest.raises(ValueError, match=message):
            transfer_texture(image, image, **options)
    with pytest.raises(ValueError, match="expected 1 or 3 channels"):
        transfer_texture(image, random_image(2, 30, 30))


# --- Gaussian textures ----------------------------------------------------------------------------------------------

def power(image: torch.Tensor) -> torch.Tensor:
    return torch.fft.fft2(image.double()).abs()


@pytest.mark.parametrize("height, width", [(32, 32), (31, 27), (20, 33), (1, 8), (1, 1)])
def test_random_phase_keeps_mean_and_power_spectrum(height, width):
    exemplar = random_image(3, height, width)
    for periodic, model in ((False, exemplar), (True, periodic_component(exemplar))):
        found = random_phase_texture(exemplar, periodic=periodic)
        torch.testing.assert_close(found.mean((1, 2)), exemplar.mean((1, 2)), rtol=0, atol=1e-6)
        # relative to the root mean square of all: the pixels are float32
        scale = power(model).square().mean().sqrt()
        assert ((power(found) - power(model)).abs() / scale).max() < 1e-5
        assert height * width < 9 or (found - model).abs().max() > 0.1


def test_so_it_does_for_a_texture_in_double_precision():
    exemplar = texture("sand", 100).double()
    model = power(periodic_component(exemplar))
    found = power(random_phase_texture(exemplar))
    # every single frequency keeps its power to 1e-4; only those below rounding, 1e-10 of the mean, cannot be compared
    assert ((found - model).abs() <= 1e-4 * model + 1e-10 * model.mean()).all()


def test_channels_share_the_shift_of_phase():
    exemplar = random_image(3, 24, 17, dtype=torch.float64)
    before, after = (torch.fft.fft2(one) for one in (exemplar, random_phase_texture(exemplar, periodic=False)))
    for c, d in ((0, 1), (1, 2)):
        torch.testing.assert_close(after[c] * after[d].conj(), before[c] * before[d].conj(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("height, width", [(8, 8), (7, 5), (6, 9), (1, 4)])
def test_random_phases_are_those_of_a_real_picture(height, width):
    phase = random_phase(height, width, seed=3)
    opposite = torch.roll(phase.flip(0, 1), (1, 1), (0, 1))
    assert torch.sin(phase + opposite).abs().max() < 1e-9 and torch.cos(phase + opposite).min() > 1 - 1e-9
    assert phase[0, 0] == 0


def test_random_phases_are_uniform():
    phase = random_phase(64, 64)[:, 1:32].flatten()         # a half without its mirror image
    for k in (1, 2, 3):     # the mean of 1984 random directions is about 0.022 long, beyond 0.1 once in 10⁸ times
        assert float(torch.polar(torch.ones_like(phase), k * phase).mean().abs()) < 0.1


@pytest.mark.parametrize("make", [random_phase_texture, spot_noise])
def test_gaussian_textures_follow_their_seed_and_leave_the_exemplar_alone(make):
    exemplar = random_image(3, 20, 21)
    before = exemplar.clone()
    first, again, other = (make(exemplar, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and torch.equal(exemplar, before)
    assert first.dtype == exemplar.dtype and (first - other).abs().mean() > 0.05
    assert make(exemplar.half()).dtype == torch.float16


def autocovariance(image: torch.Tensor, shifts: list[tuple[int, int]]) -> torch.Tensor:
    centred = image.double() - image.double().mean((1, 2), keepdim=True)
    return torch.stack([(centred * torch.roll(centred, shift, (1, 2))).mean() for shift in shifts])


@pytest.mark.parametrize("make", [random_phase_texture, spot_noise, functools.partial(spot_noise, spots=300)])
def test_a_larger_texture_varies_like_its_exemplar(make):
    exemplar = random_phase_texture(texture("sand", 64), seed=9)        # periodic, and Gaussian
    shifts = [(0, 0), (0, 1), (1, 0), (2, 1), (0, 3)]
    expected = autocovariance(exemplar, shifts)
    for size in ((160, 192), (64, 200)):
        found = [make(exemplar, size=size, seed=seed) for seed in range(10)]
        for one in found:
            assert one.shape == (3, *size)
            torch.testing.assert_close(one.mean((1, 2)), exemplar.mean((1, 2)), rtol=0, atol=1e-5)
        # One differs by 10 to 15 % from another, so the mean by 5 %. The middle of this exemplar, which alone counts
        # fully, varies 6 % more than all of it.
        mean = torch.stack([autocovariance(one, shifts) for one in found]).mean(0)
        torch.testing.assert_close(mean, expected, rtol=0, atol=0.2 * float(expected[0]))


@pytest.mark.parametrize("make", [random_phase_texture, spot_noise])
def test_a_smaller_texture_is_a_piece_of_one_of_the_exemplars_size(make):
    exemplar = random_image(2, 20, 30)
    assert torch.equal(make(exemplar, size=(7, 30)), make(exemplar)[:, :7])
    assert make(exemplar, size=(50, 11)).shape == (2, 50, 11)


def test_a_single_spot_is_the_exemplar_moved():
    exemplar = random_image(3, 9, 12, dtype=torch.float64)
    found = spot_noise(exemplar, spots=1, periodic=False, seed=5)
    moved = [torch.roll(exemplar, (i, j), (1, 2)) for i in range(9) for j in range(12)]
    assert min(float((found - one).abs().max()) for one in moved) < 1e-12


@pytest.mark.parametrize("spots", [None, 1, 7])
def test_on_average_spot_noise_has_the_exemplars_spectrum(spots):
    exemplar = random_image(2, 8, 9, dtype=torch.float64)
    squares = torch.stack([power(spot_noise(exemplar, spots=spots, periodic=False, seed=seed)).square()
                           for seed in range(400)])
    expected = power(exemplar).square()
    # the mean of 400 values, each spread like an exponential, is off by 5 %, where the coefficient is real by 7 %; five
    # times that
    assert ((squares.mean(0) / expected - 1).abs() < 0.35).all()
    assert abs(float((squares.mean(0) / expected).mean()) - 1) < 0.05


def test_many_spots_are_gaussian_and_few_are_not():
    exemplar = torch.zeros(1, 32, 32, dtype=torch.float64)
    exemplar[:, 4:8, 4:8] = 1
    kurtosis = []
    for spots in (3, 3000, None):
        values = spot_noise(exemplar, size=(128, 128), spots=spots, periodic=False)
        values = values - values.mean()
        kurtosis.append(float(values.pow(4).mean() / values.square().mean() ** 2))
    assert kurtosis[0] > 10                                     # a few spots on a flat ground
    assert abs(kurtosis[1] - 3) < 0.5 and abs(kurtosis[2] - 3) < 0.5    # 3 is a Gaussian's


def test_periodic_component_and_smooth_one_add_up_as_moisan_says():
    image = random_image(2, 9, 14, dtype=torch.float64)
    found = periodic_component(image)
    torch.testing.assert_close(found.mean((1, 2)), image.mean((1, 2)))

    def laplacian(u, wrap):
        total = torch.zeros_like(u)
        for axis in (1, 2):
            for step in (1, -1):
                difference = torch.roll(u, step, axis) - u
                if not wrap:        # no neighbour beyond the border
                    difference.select(axis, 0 if step == 1 else -1).zero_()
                total += difference
        return total

    # Moisan, section 2: the periodic Laplacian of p is that of u without the differences across the border
    torch.testing.assert_close(laplacian(found, True), laplacian(image, False), rtol=0, atol=1e-12)
    batch = periodic_component(torch.stack([image, image + 1]).float())
    torch.testing.assert_close(batch[0], found.float())


def test_of_a_ramp_hardly_anything_is_periodic():
    ramp = torch.linspace(0, 1, 16)[None, :, None].expand(1, 16, 11)
    # its mean, and less than a step from one row to the next
    torch.testing.assert_close(periodic_component(ramp), torch.full((1, 16, 11), 0.5), rtol=0, atol=1 / 15)


def test_the_jump_across_the_border_makes_stripes_which_the_periodic_component_avoids():
    exemplar = 0.3 * random_phase_texture(texture("sand", 64), seed=2) + torch.linspace(0, 1, 64)[:, None]
    # stripes are constant along columns: they show in the first column of the spectrum, without the mean
    share = [float(power(random_phase_texture(exemplar, periodic=periodic))[:, 1:, 0].square().sum()
                   / power(exemplar)[:, 1:, 0].square().sum()) for periodic in (False, True)]
    assert share[0] == pytest.approx(1, abs=1e-3) and share[1] < 0.1


@pytest.mark.parametrize("make", [random_phase_texture, spot_noise])
def test_gaussian_textures_say_what_they_expect(make):
    with pytest.raises(ValueError, match=r"expected a floating-point torch tensor \(C, H, W\)"):
        make(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="height is 0"):
        make(random_image(1, 8, 8), size=(0, 4))
    with pytest.raises(ValueError, match="seed is -2"):
        make(random_image(1, 8, 8), seed=-2)


def test_spots_and_phases_are_counted():
    with pytest.raises(ValueError, match="spots is 0"):
        spot_noise(random_image(1, 8, 8), spots=0)
    with pytest.raises(ValueError, match="width is 0"):
        random_phase(4, 0)
