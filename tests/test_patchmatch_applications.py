"""Chapter 2, what a nearest-neighbour field is good for: reshuffled textures, stereo, stylisation."""

from __future__ import annotations

import math

import pytest
import torch

from labkit import images, metrics
from labkit.patchmatch import exact_nnf, reshuffle, stereo_disparity, stylize
from labkit.patchmatch.fields import Match
from labkit.patchmatch.stereo import disparity_score, fill_from_behind
from labkit.patchmatch.stylize import _choose
from labkit.pyramids import downsample
from labkit.runtime import generator


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(seed)).to(dtype)


@pytest.fixture(scope="module")
def pebbles() -> torch.Tensor:
    return images.load("pebbles")[:, :64, :64].contiguous()


@pytest.fixture(scope="module")
def shuffled(pebbles) -> torch.Tensor:
    return reshuffle(pebbles, size=(72, 90))


# --- texture --------------------------------------------------------------------------------------------------------

def test_a_reshuffled_texture_has_the_size_asked_for(pebbles, shuffled):
    assert shuffled.shape == (3, 72, 90)
    assert reshuffle(pebbles[:1]).shape == (1, 64, 64)
    assert reshuffle(noise(2, 12, 40), size=(25, 9), patch_size=3, levels=1).shape == (2, 25, 9)


def test_a_reshuffled_texture_keeps_its_dtype(pebbles, shuffled):
    assert shuffled.dtype == torch.float32
    assert reshuffle(pebbles.double(), iterations=1).dtype == torch.float64


def test_reshuffling_depends_on_the_seed_alone(pebbles, shuffled):
    before = pebbles.clone()
    assert torch.equal(reshuffle(pebbles, size=(72, 90)), shuffled)
    assert not torch.equal(reshuffle(pebbles, size=(72, 90), seed=1), shuffled)
    assert torch.equal(pebbles, before)


def test_a_reshuffled_texture_is_made_of_the_textures_patches(pebbles, shuffled):
    pixels = pebbles.flatten(1)[:, torch.randint(64 * 64, (72 * 90,), generator=generator())].reshape(3, 72, 90)
    near, far = (exact_nnf(picture, pebbles, patch_size=5).distance.mean() for picture in (shuffled, pixels))
    assert near < 0.1 * far         # the same colours in any order are what a texture without structure would be


def test_a_reshuffled_texture_is_no_blur(pebbles, shuffled):
    variation = [float(metrics.total_variation(picture)) / picture[0].numel() for picture in (shuffled, pebbles)]
    assert variation[0] > 0.85 * variation[1]


def test_a_reshuffled_texture_is_no_copy(pebbles):
    result = reshuffle(pebbles)
    unlike = float(metrics.mse(result, pebbles))
    assert unlike > float(pebbles.var(dim=(1, 2)).mean())      # two independent samples differ by twice the variance


def test_a_reshuffled_texture_keeps_the_textures_colours(pebbles, shuffled):
    # pieces cover the texture evenly, so means agree to a fraction of the spread; from an average of random patches,
    # grey ones take over
    assert (shuffled.mean((1, 2)) - pebbles.mean((1, 2))).abs().max() < 0.05
    assert (shuffled.std((1, 2)) / pebbles.std((1, 2)) - 1).abs().max() < 0.2


def test_a_constant_picture_stays_constant():
    assert torch.equal(reshuffle(torch.full((1, 30, 30), 0.25), size=(21, 40)), torch.full((1, 21, 40), 0.25))


@pytest.mark.parametrize("parameters, message", [
    ({"size": (72, 3)}, "width is 3; expected a whole number, at least 7"),
    ({"size": 72}, r"size is int 72; expected \(height, width\)"),
    ({"levels": 5}, "levels is 5; expected at most 4"),
    ({"patch_size": 65}, "patch_size is 65 and image 64×64 pixels"),
    ({"piece": 0.5}, "piece is 0.5; expected a finite number, at least 1"),
    ({"iterations": 0}, "iterations is 0"),
    ({"seed": -1}, "seed is -1"),
])
def test_reshuffling_refuses(pebbles, parameters, message):
    with pytest.raises(ValueError, match=message):
        reshuffle(pebbles, **parameters)


# --- stereo ---------------------------------------------------------------------------------------------------------

def two_planes(*, near: int = 9, far: int = 3, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left and right view of a square before a wall, and the true disparity of the left one."""
    scene = images.resize(noise(channels, 30, 60, seed=3), size=(60, 120))
    left, right, truth = scene[:, :, :100].clone(), scene[:, :, far:100 + far].clone(), torch.full((1, 60, 100), float(far))
    square = images.resize(noise(channels, 15, 15, seed=4), size=(30, 30))
    left[:, 15:45, 40:70], right[:, 15:45, 40 - near:70 - near], truth[:, 15:45, 40:70] = square, square, near
    return left, right, truth


@pytest.mark.parametrize("channels", [1, 3])
def test_the_two_planes_of_a_made_up_scene_are_found(channels):
    left, right, truth = two_planes(channels=channels)
    score = disparity_score(stereo_disparity(left, right, largest=16, radius=3), truth)
    assert score["above_1"] < 0.03      # the square's outline, 120 of 6000 pixels, is blurred by patches and median


def test_what_only_the_left_view_shows_takes_the_disparity_behind():
    left, right, truth = two_planes()
    found = stereo_disparity(left, right, largest=16, radius=0)
    hidden = found[0, 20:40, 34:38]         # the six columns left of the square, less the reach of a patch
    assert (hidden - 3).abs().max() <= 1


def test_a_fraction_of_a_column_is_found():
    scene = images.resize(noise(1, 40, 80, seed=5), size=(80, 320))
    left, right = scene[:, :, 0:280:2].contiguous(), scene[:, :, 9:289:2].contiguous()      # 4.5 columns
    found = stereo_disparity(left, right, largest=12)[0, 10:-10, 15:-10]
    assert abs(float(found.median()) - 4.5) < 0.15
    assert float((found - 4.5).abs().mean()) < 0.3     # the best whole number of columns is off by 0.5


def test_exposure_does_not_matter():
    left, right, truth = two_planes()
    score = disparity_score(stereo_disparity(left, 0.1 + 0.7 * right, largest=16, radius=3), truth)
    assert score["above_1"] < 0.03


def test_disparities_stay_within_their_bounds():
    found = stereo_disparity(noise(3, 20, 30), noise(3, 20, 30, seed=1), largest=7)
    assert float(found.min()) >= 0 and float(found.max()) <= 7


def test_the_seed_hardly_matters_to_stereo():
    left, right, truth = two_planes()
    found = stereo_disparity(left, right, largest=16, radius=0, iterations=5)
    again = stereo_disparity(left, right, largest=16, radius=0, iterations=5, seed=9)
    # more than 100 candidates for each patch and 17 disparities: what one search misses, another one finds
    assert float(((found - again).abs() > 0.01).float().mean()) < 0.01


def test_stereo_keeps_dtype_size_and_arguments():
    left, right, _ = two_planes()
    before = left.clone(), right.clone()
    single, double = (stereo_disparity(left.to(kind), right.to(kind), largest=16) for kind in (torch.float32, torch.float64))
    assert single.shape == double.shape == (1, 60, 100)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.equal(left, before[0]) and torch.equal(right, before[1])
    assert torch.equal(single, stereo_disparity(left, right, largest=16))


@pytest.mark.parametrize("parameters, message", [
    ({"largest": 30}, "largest is 30; expected a whole number from 1 to 29"),
    ({"largest": 7, "patch_size": 4}, "patch_size is 4; expected an odd whole number"),
    ({"largest": 7, "radius": -1}, "radius is -1"),
])
def test_stereo_refuses(parameters, message):
    with pytest.raises(ValueError, match=message):
        stereo_disparity(noise(3, 20, 30), noise(3, 20, 30), **parameters)


def test_stereo_refuses_views_of_two_sizes():
    with pytest.raises(ValueError, match=r"left is \(20, 30\) and right is \(20, 31\)"):
        stereo_disparity(noise(3, 20, 30), noise(3, 20, 31))


def test_the_motorcycle_is_nearer_to_the_truth_than_by_block_matching():
    cv2, data = pytest.importorskip("cv2"), pytest.importorskip("skimage.data")
    import numpy as np

    left, right = (downsample(images.load(f"motorcycle_{side}")[:, :, :740], ratio=4) for side in ("left", "right"))
    truth = torch.from_numpy(data.stereo_motorcycle()[2][None, 2::4, 2:740:4].copy()) / 4
    columns = 16        # OpenCV leaves the first columns out unless both views are continued there
    pixels = [np.pad(images.to_pixels(images.to_grey(view)), ((0, 0), (columns, 0)), mode="edge") for view in (left, right)]
    ours = disparity_score(stereo_disparity(left, right, largest=15), truth)
    for side in (5, 9, 15):
        found = cv2.StereoBM_create(columns, side).compute(*pixels)[:, columns:].astype(np.float32) / 16
        found = torch.from_numpy(found)
        theirs = disparity_score(fill_from_behind(found, found >= 0)[None], truth)     # holes filled as ours are
        assert ours["above_1"] < 0.8 * theirs["above_1"], side
        assert ours["mean_error"] < 0.8 * theirs["mean_error"], side


def test_a_score_counts_known_pixels_alone():
    truth = torch.tensor([[[1.0, 2.0, math.inf, 4.0, math.nan]]])
    score = disparity_score(torch.tensor([[[1.0, 4.5, 9.0, 9.0, 0.0]]]), truth)
    assert score == {"mean_error": 2.5, "above_1": 2 / 3, "above_2": 2 / 3, "above_4": 1 / 3}


def test_a_score_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match=r"expected a tensor \(1, 4, 5\)"):
        disparity_score(noise(1, 4, 5), noise(1, 5, 4))
    with pytest.raises(ValueError, match="nowhere finite"):
        disparity_score(noise(1, 4, 5), torch.full((1, 4, 5), math.inf))


# --- stylisation ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def cat() -> torch.Tensor:
    return images.load("chelsea", size=72)


@pytest.fixture(scope="module")
def cat_of_pebbles(cat, pebbles) -> torch.Tensor:
    return stylize(cat, pebbles)


def test_a_stylised_picture_has_the_contents_size_and_dtype(cat, cat_of_pebbles, pebbles):
    assert cat_of_pebbles.shape == cat.shape
    assert stylize(cat.double(), pebbles.double(), iterations=1).dtype == torch.float64
    assert stylize(noise(1, 20, 30), noise(1, 16, 18), k=1).shape == (1, 20, 30)


def test_a_stylised_picture_depends_on_the_seed_alone(cat, cat_of_pebbles, pebbles):
    before = cat.clone(), pebbles.clone()
    assert torch.equal(stylize(cat, pebbles), cat_of_pebbles)
    assert not torch.equal(stylize(cat, pebbles, seed=1), cat_of_pebbles)
    assert torch.equal(cat, before[0]) and torch.equal(pebbles, before[1])


def test_a_stylised_picture_has_the_styles_patches(cat, cat_of_pebbles, pebbles):
    distance = [float(exact_nnf(picture, pebbles, patch_size=3).distance.mean()) for picture in (cat_of_pebbles, cat)]
    assert distance[0] < 0.3 * distance[1]


def test_a_stylised_picture_still_shows_the_content(cat, cat_of_pebbles):
    # what is left after the patches' own texture is averaged out
    coarse = [downsample(images.to_grey(picture), ratio=4).flatten() for picture in (cat, cat_of_pebbles)]
    assert float(torch.corrcoef(torch.stack(coarse))[0, 1]) > 0.6


def test_more_weight_on_the_content_comes_nearer_to_it(pebbles):
    content = images.load("chelsea", size=72)
    error = [float(metrics.mse(stylize(content, pebbles, recolor=False, content_weight=weight, contour_weight=0.0,
                                       reuse_penalty=0.0), content)) for weight in (0.0, 0.3, 1.0)]
    assert error[0] > error[1] > error[2]


def test_a_picture_in_its_own_style_is_itself(pebbles):
    result = stylize(pebbles, pebbles, content_weight=1.0, reuse_penalty=0.0, recolor=False, iterations=4)
    assert metrics.psnr(result, pebbles) > 30       # all but a few patches find themselves


def test_a_price_on_reuse_brings_more_of_the_style(pebbles):
    flat = torch.full((3, 60, 60), 0.4)
    used = torch.tensor([[stylize(flat, pebbles, reuse_penalty=price, seed=seed).var(dim=(1, 2)).mean() for seed in range(4)]
                         for price in (0.0, 2.0)])
    assert (used[1] > used[0]).all() and used[1].mean() > 1.2 * used[0].mean()


def test_patches_with_equally_near_matches_share_them_out():
    # 100 patches, all with the same four matches at the same distance
    nnf = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.int32)[:, :, None, None].expand(4, 2, 10, 10)
    match = Match(nnf.contiguous(), torch.ones(4, 10, 10), patch_size=3)

    def counts(penalty: float) -> list[int]:
        nnf = _choose(match, (2, 2), penalty=penalty, seed=0)
        return (2 * nnf[0] + nnf[1]).flatten().bincount(minlength=4).tolist()

    assert counts(0.0) == [100, 0, 0, 0]
    assert max(counts(1.0)) < 50


def test_a_price_too_small_to_matter_leaves_the_nearest():
    nnf = torch.randint(5, (3, 2, 6, 7), generator=generator()).int()
    distance = noise(3, 6, 7).sort(0).values + torch.arange(3)[:, None, None]
    match = Match(nnf, distance, patch_size=3)
    assert torch.equal(_choose(match, (5, 5), penalty=1e-6, seed=0), nnf[0])


def test_colours_come_from_the_style(cat):
    style = images.load("tiles")
    result = stylize(cat, style)
    assert (result.mean((1, 2)) - style.mean((1, 2))).abs().max() < 0.1
    assert (cat.mean((1, 2)) - style.mean((1, 2))).abs().max() > 0.2


@pytest.mark.parametrize("channels", [1, 3])
def test_contents_without_any_contrast_are_no_trouble(channels):
    result = stylize(torch.full((channels, 24, 24), 0.5), noise(channels, 24, 24))
    assert torch.isfinite(result).all() and 0 <= float(result.min()) <= float(result.max()) <= 1


def test_an_exemplar_with_fewer_patches_than_matches_will_do():
    assert stylize(noise(3, 10, 10), noise(3, 6, 6), k=9, levels=1).shape == (3, 10, 10)


@pytest.mark.parametrize("parameters, message", [
    ({"content_weight": 1.5}, "content_weight is 1.5; expected a finite number from 0 to 1"),
    ({"contour_weight": -1}, "contour_weight is -1"),
    ({"reuse_penalty": -1}, "reuse_penalty is -1"),
    ({"k": 0}, "k is 0"),
    ({"levels": 9}, "levels is 9; expected at most 3"),
    ({"patch_size": 25}, "patch_size is 25 and content 24×30 pixels"),
])
def test_stylising_refuses(parameters, message):
    with pytest.raises(ValueError, match=message):
        stylize(noise(3, 24, 30), noise(3, 40, 40), **parameters)


def test_stylising_refuses_a_grey_style_for_a_colour_picture():
    message = "content has 3 channels and style 1; expected the same number"
    with pytest.raises(ValueError, match=message):
        stylize(noise(3, 24, 30), noise(1, 24, 30))


# --- GPU ------------------------------------------------------------------------------------------------------------

@pytest.mark.cuda
def test_all_three_work_on_a_gpu(pebbles, cat):
    left, right, truth = (part.cuda() for part in two_planes())
    assert reshuffle(pebbles.cuda()).device.type == "cuda"
    assert stylize(cat.cuda(), pebbles.cuda()).device.type == "cuda"
    assert disparity_score(stereo_disparity(left, right, largest=16, radius=3), truth)["above_1"] < 0.03
