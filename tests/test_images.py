"""Pictures in and out, sizes, borders, colours and noise."""

from __future__ import annotations

import io
import struct
import zlib

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


def test_an_image_of_any_float_type_becomes_an_array():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert np.allclose(images.to_array(_picture().to(dtype)), _picture().permute(1, 2, 0), atol=1e-2)


# --- files as they come from elsewhere ------------------------------------------------------------------------------

def _png(path, samples, *, bits=16, colour, transparent=(), interlaced=False):
    """A PNG file of samples (H, W, C), byte by byte: Pillow writes no colours of 16 bits, nor a grey of 4."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def lines(part):    # the first as it is, the others as differences to the one above (filter 2)
        packed = [row.astype(">u2").tobytes() if bits == 16 else bytes(_packed(row.ravel(), bits)) for row in part]
        above = [bytes(len(packed[0])), *packed]
        return b"".join((b"\2" if n else b"\0") + bytes((a - b) % 256 for a, b in zip(row, above[n]))
                        for n, row in enumerate(packed))

    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]     # Adam7
    parts = [samples[r::dr, c::dc] for r, c, dr, dc in passes] if interlaced else [samples]
    height, width = samples.shape[:2]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
                     + (chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b"")
                     + chunk(b"IDAT", zlib.compress(b"".join(lines(part) for part in parts if part.size))) + chunk(b"IEND", b""))


def _packed(values, bits):
    return np.packbits((values[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8))


def _integers(*shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def _expected(samples, white=65535):
    """(C, H, W) of samples (H, W, C), of 2 or 4 channels with their alpha."""
    values = torch.from_numpy(samples / white).float().movedim(-1, 0)
    if len(values) in (2, 4):
        values = (values[:-1] * values[-1:] + 1 - values[-1:]).expand(3, -1, -1)
    return values


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels, colour", [(1, 0), (3, 2), (2, 4), (4, 6)])
def test_sixteen_bits_of_a_png_keep_their_precision_in_colour_too(tmp_path, channels, colour, interlaced):
    samples = _integers(11, 13, channels)
    _png(tmp_path / "deep.png", samples, colour=colour, interlaced=interlaced)
    torch.testing.assert_close(images.load(tmp_path / "deep.png"), _expected(samples), rtol=0, atol=2e-7)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype, channels", [(np.uint16, 1), (np.uint16, 3), (np.uint16, 4), (np.int16, 1),
                                             (np.int32, 1), (np.uint32, 1), (np.float32, 1)])
def test_a_tiff_file_is_read_by_the_type_of_its_values(tmp_path, dtype, channels, compression, byteorder):
    tifffile = pytest.importorskip("tifffile")
    if dtype == np.uint32 and byteorder == ">":
        pytest.skip("Pillow has no such mode")
    if dtype == np.float32:
        samples, white = np.random.default_rng(0).random((5, 7, 1), dtype=dtype), 1
    else:
        samples, white = _integers(5, 7, channels, dtype=dtype), np.iinfo(dtype).max
    options = {"photometric": "minisblack"} if channels == 1 else {"photometric": "rgb"}
    if channels == 4:
        options["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(tmp_path / "deep.tif", samples if channels > 1 else samples[..., 0], byteorder=byteorder,
                     compression=compression, **options)
    torch.testing.assert_close(images.load(tmp_path / "deep.tif"), _expected(samples, white), rtol=0, atol=2e-7)


def test_a_tiff_file_whose_white_is_zero_is_turned_round(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    samples = _integers(5, 7)
    tifffile.imwrite(tmp_path / "film.tif", samples, photometric="miniswhite")
    torch.testing.assert_close(images.load(tmp_path / "film.tif"), 1 - _expected(samples[..., None]), rtol=0, atol=2e-7)


def test_integers_of_32_bits_that_would_be_black_are_refused(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.int32).reshape(3, 4)).save(tmp_path / "count.tif")
    with pytest.raises(ValueError, match=r"count.tif.*up to 11, .*white is 2147483647"):
        images.load(tmp_path / "count.tif")
    Image.fromarray(np.zeros((3, 4), np.int32)).save(tmp_path / "night.tif")
    assert float(images.load(tmp_path / "night.tif").max()) == 0
    with pytest.raises(ValueError, match="array holds integers up to 255, which would be black"):
        images.from_array(np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("bits, colour, clear", [(1, 0, (1,)), (2, 0, (2,)), (4, 0, (9,)), (8, 0, (77,)), (16, 0, (30000,)),
                                                 (8, 2, (1, 2, 3)), (16, 2, (500, 40000, 7))])
def test_the_transparent_colour_of_a_png_is_white_whatever_its_bits(tmp_path, bits, colour, clear):
    samples = np.zeros((2, 3, len(clear)), int)
    samples[1, 2] = clear
    samples[0, 0] = np.subtract(clear, 1)       # a neighbour in value stays
    _png(tmp_path / "clear.png", samples, bits=bits, colour=colour, transparent=clear)
    image = images.load(tmp_path / "clear.png")
    expected = _expected(samples, 2 ** bits - 1)
    expected[:, 1, 2] = 1
    torch.testing.assert_close(image, expected.expand(image.shape), rtol=0, atol=2e-7)


def test_a_file_with_more_pixels_than_are_read_is_named(tmp_path, monkeypatch):
    images.save(_picture(20, 30), tmp_path / "panorama.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    for read, kind in ((images.load, "picture"), (images.load_clip, "clip")):
        with pytest.raises(ValueError, match=rf"panorama.png could not be read as a {kind}: .*600 pixels"):
            read(tmp_path / "panorama.png")


def test_a_damaged_file_is_named_whatever_its_reader_raises(tmp_path):
    for ending in (".png", ".tif", ".gif", ".bmp", ".webp", ".jpg", ".ppm", ".tga", ".ico", ".dds", ".pcx", ".sgi", ".jp2"):
        file, rng = io.BytesIO(), np.random.default_rng(0)
        Image.effect_noise((24, 24), 50).convert("RGB").save(file, format=Image.registered_extensions()[ending])
        for _ in range(30):
            content = bytearray(file.getvalue())
            for place in rng.integers(0, len(content), 6):
                content[place] = rng.integers(0, 256)
            path = tmp_path / f"damaged{ending}"
            path.write_bytes(content[:rng.integers(1, len(content))])
            for read in (images.load, images.load_clip):
                try:
                    read(path)
                except ValueError as error:
                    assert path.name in str(error)


def test_an_upload_that_is_too_large_is_named_by_its_own_name(monkeypatch):
    from labkit.widgets.uploads import read_upload

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match="mine.png could not be read.*600 pixels"):
        read_upload("mine.png", images.to_bytes(_picture(20, 30)))


@pytest.mark.parametrize("name, message", [("a.psd", "'.psd', a format that Pillow reads but does not write"),
                                           ("a.fli", "'.fli', a format that Pillow reads"), ("a.h5", "does not write as '.h5'"),
                                           ("a.xbm", "does not write as '.xbm'"), ("a.palm", "does not write as '.palm'"),
                                           ("a", "path ends in ''"), (3, "path is int 3")])
def test_a_format_that_cannot_be_written_is_refused_and_leaves_no_file(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        images.save(_picture(), name if isinstance(name, int) else tmp_path / name)
    assert not list(tmp_path.iterdir())


# --- clips ----------------------------------------------------------------------------------------------------------

def test_clips_are_videos():
    for path in sorted((images.data_folder() / "clips").glob("*.png")):
        clip = images.load_clip(path.stem)
        assert clip.ndim == 4 and clip.shape[0] > 1 and clip.shape[1] == 3
    with pytest.raises(FileNotFoundError, match="no clip"):
        images.load_clip("nothing")
    with pytest.raises(ValueError, match="name is int 3"):
        images.load_clip(3)


@pytest.mark.parametrize("dtype, channels", [(np.uint8, 1), (np.uint8, 3), (np.uint16, 1), (np.uint16, 3),
                                             (np.int32, 1), (np.float32, 1)])
def test_a_page_is_read_as_a_picture_is(tmp_path, dtype, channels):
    tifffile = pytest.importorskip("tifffile")
    pages = np.random.default_rng(0).random((4, 5, 7, channels), dtype=np.float32)
    if dtype != np.float32:
        pages = (pages * np.iinfo(dtype).max).astype(dtype)
    pages = pages if channels > 1 else pages[..., 0]
    options = {"photometric": "rgb" if channels == 3 else "minisblack"}
    tifffile.imwrite(tmp_path / "pages.tif", pages, **options)
    clip = images.load_clip(tmp_path / "pages.tif")
    assert tuple(clip.shape) == (4, channels, 5, 7)
    for frame, page in zip(clip, pages):
        tifffile.imwrite(tmp_path / "page.tif", page, **options)
        assert torch.equal(frame, images.load(tmp_path / "page.tif")) and torch.equal(frame, images.from_array(page))


def test_grey_pages_among_coloured_ones_become_colour(tmp_path):
    first, *rest = Image.new("L", (3, 2), 51), Image.new("RGB", (3, 2), (255, 0, 51))
    first.save(tmp_path / "mixed.tif", save_all=True, append_images=rest)
    torch.testing.assert_close(images.load_clip(tmp_path / "mixed.tif")[:, :, 0, 0], torch.tensor([[0.2] * 3, [1, 0, 0.2]]))


def test_pages_of_different_size_are_named(tmp_path):
    first, *rest = (Image.new("RGB", size) for size in ((3, 2), (3, 2), (4, 2)))
    first.save(tmp_path / "mixed.tif", save_all=True, append_images=rest)
    with pytest.raises(ValueError, match=r"mixed.tif .*frame 0 is \(2, 3\) and frame 2 \(2, 4\)"):
        images.load_clip(tmp_path / "mixed.tif")


@pytest.mark.parametrize("ending", ["png", "gif", "webp", "tif"])
def test_hidden_colours_of_an_animated_picture_are_white(tmp_path, ending):
    frames = []
    for k in range(3):
        frame = Image.new("RGBA", (6, 4), (255, 0, 0, 0))       # red, and not to be seen
        frame.paste((0, 0, 255, 255), (k, 0, k + 2, 4))
        frames.append(frame)
    animation = {"disposal": 2} if ending in ("gif", "png") else {}
    frames[0].save(tmp_path / f"moving.{ending}", save_all=True, append_images=frames[1:],
                   **({"lossless": True, "exact": True} if ending == "webp" else animation))
    clip = images.load_clip(tmp_path / f"moving.{ending}")
    for k, frame in enumerate(clip):
        expected = torch.ones(3, 4, 6)
        expected[:2, :, k:k + 2] = 0
        torch.testing.assert_close(frame, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_a_clip_on_its_side_is_turned_upright(tmp_path, ending):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(np.uint8([[[255] * 3] * 6, [[20 * k] * 3] * 6])) for k in range(3)]
    frames[0].save(tmp_path / f"turned.{ending}", save_all=True, append_images=frames[1:], exif=exif,
                   **({"lossless": True} if ending == "webp" else {}))
    clip = images.load_clip(tmp_path / f"turned.{ending}")
    assert tuple(clip.shape) == (3, 3, 6, 2) and float(clip[..., 1].min()) == 1
    torch.testing.assert_close(clip[2, ..., 0], torch.full((3, 6), 40 / 255))


def test_a_picture_that_stands_before_an_animation_is_no_frame_of_it(tmp_path):
    first, *rest = (Image.new("RGB", (3, 2), (shade,) * 3) for shade in (255, 0, 51))
    first.save(tmp_path / "moving.png", save_all=True, append_images=rest, default_image=True)
    assert images.load_clip(tmp_path / "moving.png")[:, 0, 0, 0].tolist() == pytest.approx([0, 0.2])
    assert float(images.load(tmp_path / "moving.png").min()) == 1


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
    (lambda: images.tile(3), "images is int 3; expected a list"),
    (lambda: images.tile(torch.tensor(1.0)), "images is a tensor of shape .*; expected a list"),
    (lambda: images.tile([_picture()], gap=-1), "gap is -1"),
    (lambda: images.tile([_picture()], background=None), "background is NoneType None"),
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
