"""Pictures in and out, sizes, borders, colours and noise."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from labkit import images


def _picture(height=5, width=7, channels=3, seed=0):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


# --- loading --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, shape", [("astronaut", (3, 512, 512)), ("camera", (1, 512, 512)), ("rocket", (3, 427, 640)),
                                         ("immunohistochemistry", (3, 512, 512)), ("motorcycle_left", (3, 500, 741))])
def test_photographs_come_by_name_without_a_download(name, shape):
    image = images.load(name)
    assert tuple(image.shape) == shape and image.dtype == torch.float32 and 0 <= image.min() and image.max() <= 1


def test_every_bundled_name_loads():
    for name in images.names():
        assert images.load(name).ndim == 3


def test_a_file_is_read_back_as_it_was_saved(tmp_path):
    image = _picture()
    images.save(image, tmp_path / "a.png")
    assert torch.allclose(images.load(tmp_path / "a.png"), (image * 255).round() / 255, atol=1e-7)


def test_sixteen_bits_keep_their_precision(tmp_path):
    values = np.array([[0, 1, 256], [32768, 65534, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert torch.allclose(images.load(tmp_path / "deep.png")[0], torch.from_numpy(values / 65535).float(), atol=1e-7)


def test_a_photograph_on_its_side_is_turned_upright(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6   # stored turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = images.load(tmp_path / "turned.png")
    assert tuple(image.shape) == (3, 6, 4) and float(image[:, :, -1].min()) == 1 and float(image[:, :, 0].max()) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(tmp_path, mode):
    picture = Image.new("RGBA", (3, 2), (255, 0, 0, 0)).convert(mode)
    picture.save(tmp_path / "clear.png", transparency=0 if mode == "P" else None)
    assert torch.equal(images.load(tmp_path / "clear.png"), torch.ones(3, 2, 3))


def test_one_bit_and_cmyk_files_are_read(tmp_path):
    Image.new("1", (3, 2), 1).save(tmp_path / "bits.png")
    assert torch.equal(images.load(tmp_path / "bits.png"), torch.ones(1, 2, 3))
    Image.new("CMYK", (3, 2), (0, 0, 0, 0)).save(tmp_path / "print.tif")
    assert torch.equal(images.load(tmp_path / "print.tif"), torch.ones(3, 2, 3))


def test_a_missing_file_is_named_with_what_there_is():
    with pytest.raises(FileNotFoundError, match="'nothing.png'.*astronaut"):
        images.load("nothing.png")


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(ValueError, match="notes.png is not a picture"):
        images.load(tmp_path / "notes.png")


def test_a_truncated_file_is_named(tmp_path):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, format="png")
    (tmp_path / "half.png").write_bytes(file.getvalue()[:1500])
    with pytest.raises(ValueError, match="half.png could not be read"):
        images.load(tmp_path / "half.png")


@pytest.mark.parametrize("array, shape", [(np.zeros((4, 5), np.uint8), (1, 4, 5)), (np.zeros((4, 5, 1)), (1, 4, 5)),
                                          (np.zeros((4, 5, 4), np.uint8), (3, 4, 5)), (np.ones((4, 5), bool), (1, 4, 5))])
def test_arrays_of_the_usual_kinds_are_taken(array, shape):
    assert tuple(images.load(array).shape) == shape


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2, 5)), np.zeros((2, 2), complex), np.zeros((0, 3)),
                                   np.array([[np.nan]])])
def test_arrays_that_are_no_picture_are_refused(array):
    with pytest.raises(ValueError, match="array"):
        images.load(array)


def test_an_array_is_copied():
    array = np.zeros((2, 2), np.float32)
    image = images.from_array(array)
    array[:] = 1
    assert float(image.max()) == 0


def test_clips_are_videos():
    for path in sorted((images.data_folder() / "clips").glob("*.png")):
        clip = images.load_clip(path.stem)
        assert clip.ndim == 4 and clip.shape[0] > 1 and clip.shape[1] == 3
    with pytest.raises(FileNotFoundError, match="no clip"):
        images.load_clip("nothing")


# --- sizes and borders ----------------------------------------------------------------------------------------------

def test_resizing_keeps_a_constant_and_the_range():
    assert torch.allclose(images.resize(torch.full((3, 9, 8), 0.3), size=(5, 20)), torch.tensor(0.3))
    image = _picture(20, 20)
    small = images.resize(image, scale=0.4)
    assert tuple(small.shape) == (3, 8, 8) and small.min() >= image.min() and small.max() <= image.max()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 6), width=st.integers(1, 6), amount=st.integers(0, 9),
       border=st.sampled_from(["reflect", "replicate", "periodic", "zero"]))
def test_padding_is_numpys_for_any_size(height, width, amount, border):
    image = _picture(height, width, 2)
    modes = {"reflect": "reflect", "replicate": "edge", "periodic": "wrap", "zero": "constant"}
    expected = np.pad(image.numpy(), ((0, 0), (amount, amount), (amount, amount)), mode=modes[border])
    assert np.array_equal(images.pad(image, amount=amount, border=border).numpy(), expected)


def test_cropping_copies_and_refuses_what_lies_outside():
    image = _picture()
    part = images.crop(image, row=1, column=2, height=3, width=4)
    assert torch.equal(part, image[:, 1:4, 2:6])
    part.zero_()
    assert float(image.sum()) > 0
    with pytest.raises(ValueError, match="height is 5; expected a whole number from 1 to 4"):
        images.crop(image, row=1, column=2, height=5, width=4)


def test_tiles_lie_row_by_row():
    sheet = images.tile([torch.full((1, 2, 3), k / 4) for k in range(3)], columns=2, gap=1)
    assert tuple(sheet.shape) == (1, 5, 7)
    assert float(sheet[0, 0, 4]) == 0.25 and float(sheet[0, 3, 0]) == 0.5 and float(sheet[0, 4, 6]) == 1


# --- colours and noise ----------------------------------------------------------------------------------------------

def test_colour_spaces_agree_with_scikit_image():
    from skimage import color

    image = _picture(30, 30)
    assert np.allclose(images.to_lab(image).permute(1, 2, 0), color.rgb2lab(image.permute(1, 2, 0)), atol=1e-3)
    assert torch.allclose(images.from_lab(images.to_lab(image)), image, atol=1e-5)
    assert torch.allclose(images.from_ycbcr(images.to_ycbcr(image)), image, atol=1e-6)
    assert images.to_ycbcr(image).min() >= 0 and images.to_ycbcr(image).max() <= 1


def test_noise_has_the_moments_it_names_and_repeats_with_its_seed():
    grey = torch.full((1, 200, 200), 0.5)
    gaussian = images.add_gaussian_noise(grey, sigma=0.1, seed=3)
    assert abs(float(gaussian.std()) - 0.1) < 0.002 and torch.equal(gaussian, images.add_gaussian_noise(grey, sigma=0.1, seed=3))
    assert not torch.equal(gaussian, images.add_gaussian_noise(grey, sigma=0.1, seed=4))
    photons = images.add_poisson_noise(grey, peak=40, seed=1)
    assert abs(float(photons.var()) - 0.5 / 40) < 5e-4 and abs(float(photons.mean()) - 0.5) < 3e-3
    dots = images.add_salt_and_pepper_noise(grey.expand(3, -1, -1), amount=0.2)
    assert abs(float((dots != 0.5).float().mean()) - 0.2) < 0.01 and torch.equal(dots[0], dots[2])
    with pytest.raises(ValueError, match="expected none below 0"):
        images.add_poisson_noise(grey - 1, peak=1)


@pytest.mark.parametrize("call, message", [
    (lambda: images.resize(_picture()), "exactly one of the two"),
    (lambda: images.resize(_picture(), size=(0, 3)), "height is 0"),
    (lambda: images.resize(_picture(), scale=-1.0), "scale is -1.0"),
    (lambda: images.pad(_picture(), amount=-1, border="zero"), "amount is -1"),
    (lambda: images.pad(_picture(), amount=1, border="mirror"), "'mirror'; expected one of"),
    (lambda: images.to_grey(torch.zeros(2, 4, 4)), "1 or 3 channels"),
    (lambda: images.save(_picture(), "picture.xyz"), "'.xyz', which names no picture format"),
    (lambda: images.tile([]), "images is empty"),
    (lambda: images.tile([_picture(), _picture(4)]), r"images\[1\]"),
    (lambda: images.load(3), "expected a path"),
    (lambda: images.add_gaussian_noise(torch.zeros(3, 4), sigma=0.1), "expected a floating-point torch tensor"),
    (lambda: images.add_gaussian_noise(torch.zeros(3, 4, 4, dtype=torch.uint8), sigma=0.1), "uint8"),
])
def test_bad_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_colours_are_matched():
    image, reference = images.load("astronaut", size=(40, 40)), images.load("wood", size=(32, 32))
    # far from black and white: what is clipped has another mean and covariance
    image, reference = 0.4 + 0.2 * image, 0.4 + 0.1 * reference
    reference[:, 0, 0], reference[:, 0, 1] = 0, 1
    matched = images.match_colors(image, reference=reference)
    torch.testing.assert_close(matched.mean((-2, -1)), reference.mean((-2, -1)), atol=1e-5, rtol=0)
    covariance = [torch.cov(one.flatten(1).double(), correction=0) for one in (matched, reference)]
    torch.testing.assert_close(*covariance, atol=1e-6, rtol=0.01)


def test_a_picture_matched_to_itself_stays():
    image = _picture()
    torch.testing.assert_close(images.match_colors(image, reference=image), image, atol=1e-5, rtol=0)


def test_flat_colours_take_the_mean_of_the_reference():
    matched = images.match_colors(torch.full((3, 4, 4), 0.3), reference=_picture())
    torch.testing.assert_close(matched, _picture().mean((-2, -1), keepdim=True).expand(3, 4, 4), atol=1e-5, rtol=0)


def test_colours_are_matched_between_equally_many_channels():
    with pytest.raises(ValueError, match="expected as many channels"):
        images.match_colors(_picture(), reference=_picture(channels=1))
