"""Inpainting by patches: what is kept, what is filled, and what is refused, for images and videos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit import images, metrics
from labkit.patchmatch import inpaint, inpaint_video, inpainting
from labkit.runtime import generator


def square(height, width, *, row, column, side):
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, row:row + side, column:column + side] = True
    return mask


@pytest.fixture(scope="module")
def tiles():
    return images.load("tiles", size=(96, 96))


@pytest.fixture(scope="module")
def clip():
    return images.load_clip("water")[:8, :, :32, :40].contiguous()


def test_a_hole_in_a_regular_texture_is_filled_better_than_by_a_smooth_surface(tiles):
    from skimage.restoration import inpaint_biharmonic

    mask = square(96, 96, row=36, column=40, side=24)
    hole, around = (slice(None), slice(36, 60), slice(40, 64)), (slice(None), slice(24, 72), slice(28, 76))
    filled = inpaint(tiles, mask)
    smooth = torch.from_numpy(inpaint_biharmonic(tiles.movedim(0, -1).numpy(), mask[0].numpy(), channel_axis=-1)).movedim(-1, 0).float()
    assert metrics.psnr(filled[hole], tiles[hole]) > metrics.psnr(smooth[hole].clamp(0, 1), tiles[hole]) + 6
    distances = [metrics.single_image_distance(picture[around], tiles[around]) for picture in (filled, smooth.clamp(0, 1))]
    assert distances[0] < 0.2 * distances[1]


@pytest.mark.parametrize("metric", ["l2", "l1", "lab", "gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_pixels_are_kept_to_the_bit_and_the_hole_is_finite(tiles, metric, dtype):
    image, mask = tiles[:, :40, :48].to(dtype).contiguous(), square(40, 48, row=10, column=20, side=9)
    filled = inpaint(image, mask, metric=metric, iterations=3)
    assert filled.dtype == dtype and torch.isfinite(filled).all()
    assert torch.equal(filled[:, ~mask[0]], image[:, ~mask[0]])
    assert not torch.equal(filled, image)


def test_half_precision_is_kept(tiles):
    image, mask = tiles[:, :32, :32].half().contiguous(), square(32, 32, row=8, column=8, side=6)
    filled = inpaint(image, mask, iterations=2)
    assert filled.dtype == torch.float16 and torch.equal(filled[:, ~mask[0]], image[:, ~mask[0]])


def test_what_lies_under_the_mask_has_no_influence(tiles):
    image, mask = tiles[:, :48, :48].contiguous(), square(48, 48, row=14, column=12, side=14)
    other = torch.where(mask, torch.rand(image.shape, generator=generator(5)), image)
    before = other.clone()
    assert torch.equal(inpaint(image, mask), inpaint(other, mask))
    assert torch.equal(other, before)


def test_seed_and_threads(tiles):
    import numba

    image, mask = images.load("pebbles", size=(80, 80)), square(80, 80, row=30, column=24, side=20)
    several = inpaint(image, mask, seed=3)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = inpaint(image, mask, seed=3)
    finally:
        numba.set_num_threads(threads)
    assert torch.equal(several, alone)
    assert not torch.equal(several, inpaint(image, mask, seed=4))


@pytest.mark.parametrize("place", [dict(row=0, column=0, side=12), dict(row=28, column=36, side=12), dict(row=12, column=0, side=10)])
def test_holes_at_the_border_are_filled(tiles, place):
    image = tiles[:, :40, :48].contiguous()
    filled = inpaint(image, square(40, 48, **place))
    assert torch.isfinite(filled).all() and filled.min() >= 0 and filled.max() <= 1


def test_several_holes_and_single_pixels_are_filled(tiles):
    image = tiles[:, :64, :64].contiguous()
    mask = torch.rand((1, 64, 64), generator=generator(0)) < 0.01
    mask[:, 10:20, 40:52] = True
    filled = inpaint(image, mask, patch_size=5)
    error = (filled - image)[:, mask[0]].abs().mean()
    assert error < 0.5 * (image.mean((1, 2), keepdim=True) - image)[:, mask[0]].abs().mean()


def test_a_grey_picture_and_feature_maps_are_filled():
    for channels in (1, 7):
        image = torch.rand(channels, 30, 26, generator=generator(1))
        assert inpaint(image, square(30, 26, row=9, column=9, side=6), patch_size=5, iterations=2).shape == image.shape


def test_an_empty_mask_gives_the_picture_back_as_a_copy(tiles):
    filled = inpaint(tiles, torch.zeros(1, 96, 96, dtype=torch.bool))
    assert torch.equal(filled, tiles) and filled.data_ptr() != tiles.data_ptr()


def test_masks_that_leave_nothing_to_copy_are_refused(tiles):
    full = torch.ones(1, 96, 96, dtype=torch.bool)
    with pytest.raises(ValueError, match="no whole patch"):
        inpaint(tiles, full)
    scattered = torch.zeros(1, 96, 96, dtype=torch.bool)
    scattered[:, ::4, ::4] = True
    with pytest.raises(ValueError, match="no whole patch"):
        inpaint(tiles, scattered)
    assert torch.isfinite(inpaint(tiles, scattered, patch_size=3)).all()


@pytest.mark.parametrize("arguments, words", [
    ({"mask": torch.zeros(96, 96, dtype=torch.bool)}, "mask"), ({"mask": torch.zeros(1, 96, 96)}, "mask"),
    ({"patch_size": 97}, "patch_size"), ({"patch_size": 1}, "patch_size"), ({"levels": 0}, "levels"), ({"iterations": 0}, "iterations"),
    ({"metric": "cosine"}, "metric"), ({"seed": -1}, "seed")])
def test_bad_arguments_are_refused(tiles, arguments, words):
    with pytest.raises(ValueError, match=words):
        inpaint(tiles, **({"mask": square(96, 96, row=3, column=3, side=3)} | arguments))


def test_scales_bring_the_hole_down_to_a_patch():
    mask = square(256, 256, row=96, column=96, side=56)
    scales = inpainting._scales(torch.zeros(1, 1, 256, 256), mask, (1, 7, 7), None)
    assert [hole.shape[-1] for _, hole in scales] == [256, 128, 64, 32]
    assert [int(hole[0].any(0).sum()) for _, hole in scales] == [56, 28, 14, 7]


def test_coarse_pixels_are_means_of_known_ones_only():
    video = torch.full((1, 1, 32, 32), 0.37)
    hole = square(32, 32, row=8, column=8, side=8)
    scales = inpainting._scales(torch.where(hole, 0, video), hole, (1, 3, 3), 2)
    coarse, missing = scales[1]
    torch.testing.assert_close(coarse[:, 0][~missing], torch.full((int((~missing).sum()),), 0.37))


@pytest.mark.parametrize("patch_size", [2, 3, 4])
@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_tiny_pictures_and_patches_work(patch_size, shape):
    image = torch.rand(2, *shape, generator=generator(2))
    for row, column in ((0, 0), (shape[0] - 1, shape[1] - 1), (0, 1)):
        filled = inpaint(image, square(*shape, row=row, column=column, side=1), patch_size=patch_size)
        assert torch.isfinite(filled).all() and filled.min() >= 0 and filled.max() <= 1 + 1e-6


# --- videos ---------------------------------------------------------------------------------------------------------

def test_a_still_background_comes_back_from_other_frames():
    picture = images.load("pebbles", size=(36, 36))
    video = picture.expand(6, -1, -1, -1).contiguous()
    mask = torch.zeros(6, 1, 36, 36, dtype=torch.bool)
    for t in range(6):
        mask[t, :, 10:20, 3 + 4 * t:11 + 4 * t] = True      # what is hidden in one frame is seen in another
    filled = inpaint_video(video, mask)
    assert metrics.psnr(filled, video).min() > 30


def test_videos_keep_what_is_known_and_depend_on_the_seed_alone(clip):
    mask = torch.zeros(8, 1, 32, 40, dtype=torch.bool)
    mask[2:6, :, 10:18, 12:22] = True
    filled, again = inpaint_video(clip, mask, iterations=3), inpaint_video(clip, mask, iterations=3)
    assert torch.equal(filled, again) and torch.isfinite(filled).all()
    keep = ~mask.expand_as(clip)
    assert torch.equal(filled[keep], clip[keep]) and not torch.equal(filled, clip)


def test_a_video_of_one_frame_is_an_image(tiles):
    image, mask = tiles[:, :40, :40].contiguous(), square(40, 40, row=12, column=14, side=9)
    video = inpaint_video(image[None], mask[None], patch_size=7, patch_depth=1)
    assert torch.equal(video[0], inpaint(image, mask, patch_size=7))


@pytest.mark.parametrize("arguments, words", [
    ({"mask": torch.zeros(8, 32, 40, dtype=torch.bool)}, "mask"), ({"patch_depth": 9}, "patch_depth"), ({"patch_size": 33}, "patch_size")])
def test_bad_arguments_for_videos_are_refused(clip, arguments, words):
    mask = torch.zeros(8, 1, 32, 40, dtype=torch.bool)
    mask[2:4, :, 4:8, 4:8] = True
    with pytest.raises(ValueError, match=words):
        inpaint_video(clip, **({"mask": mask} | arguments))
    with pytest.raises(ValueError, match="video"):
        inpaint_video(clip[0], mask)


def test_numpy_arrays_are_refused_with_a_word(clip):
    with pytest.raises(ValueError, match="tensor"):
        inpaint(np.zeros((3, 9, 9)), torch.zeros(1, 9, 9, dtype=torch.bool))
