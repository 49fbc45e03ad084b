"""The course's own pictures: what is stored is what the code draws, and it is fit for the lessons that use it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import textures
from labkit.images import add_poisson_noise, load, load_clip

DATA = Path(__file__).resolve().parent.parent / "data"
LEVEL = 1 / 255 + 1e-6     # another processor may round a value to the next of the 256 levels of a file


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor, Tensor]:
    return textures.flash_pair()


def rounded(image: Tensor) -> Tensor:
    return (image * 255).round() / 255


def psnr(image: Tensor, truth: Tensor) -> float:
    return float(-10 * torch.log10(((image - truth) ** 2).mean()))


def cross_bilateral(image: Tensor, guide: Tensor, *, radius: int, sigma: float, h: float) -> Tensor:
    """Mean of the window, weighted by distance in space and by difference of colour in the guide."""
    height, width = image.shape[-2:]
    padded, padded_guide = (F.pad(u[None], [radius] * 4, mode="reflect")[0] for u in (image, guide))
    total, weights = torch.zeros_like(image), torch.zeros_like(image[:1])
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            space = ((dy - radius) ** 2 + (dx - radius) ** 2) / (2 * sigma ** 2)
            colour = ((padded_guide[:, dy:dy + height, dx:dx + width] - guide) ** 2).sum(0, keepdim=True) / (2 * h ** 2)
            weight = torch.exp(-space - colour)
            total += weight * padded[:, dy:dy + height, dx:dx + width]
            weights += weight
    return total / weights


@pytest.mark.parametrize("name", ["leaves", "tiles", "wood"])
def test_a_stored_texture_is_what_the_code_draws(name: str) -> None:
    torch.testing.assert_close(load(DATA / f"textures/{name}.png"), textures.texture(name), atol=LEVEL, rtol=0)


def test_a_stored_drawing_is_what_the_code_draws() -> None:
    torch.testing.assert_close(load(DATA / "drawings/cat.png"), textures.drawing("cat"), atol=LEVEL, rtol=0)


def test_a_stored_clip_is_what_the_code_draws_and_keeps_every_frame() -> None:
    torch.testing.assert_close(load_clip(DATA / "clips/water.png"), textures.CLIPS["water"](), atol=LEVEL, rtol=0)


def test_the_stored_flash_pair_is_what_the_code_draws(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    for name, image in zip(("flash", "no_flash", "no_flash_clean"), pair):
        torch.testing.assert_close(load(DATA / f"{name}.png"), image, atol=LEVEL, rtol=0)


def test_every_stored_file_is_listed_and_all_of_them_are_small() -> None:
    files = [path for path in DATA.rglob("*") if path.is_file()]
    listed = (DATA / "README.md").read_text(encoding="utf-8")
    drawn = {f"{folder}/{name}.png" for folder, names in (
        ("textures", textures.TEXTURES), ("drawings", textures.DRAWINGS), ("clips", textures.CLIPS)) for name in names}
    stored = {path.relative_to(DATA).as_posix() for path in files} - {"README.md"}
    assert stored == drawn | {"flash.png", "no_flash.png", "no_flash_clean.png"}
    assert not [name for name in stored if f"`{name}`" not in listed]
    assert sum(path.stat().st_size for path in files) < 3_000_000


@pytest.mark.parametrize("name", textures.TEXTURES)
def test_a_smaller_texture_is_a_crop_of_a_larger_one(name: str) -> None:
    large, small = (textures.texture(name, size=size, seed=3) for size in ((64, 72), (40, 48)))
    assert large.shape == (3, 64, 72) and large.dtype == torch.float32
    assert 0 <= large.min() and large.max() <= 1
    # blurs and lattices of another extent sum in another order; that is all that may differ
    torch.testing.assert_close(small, large[:, :40, :48], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", textures.TEXTURES)
def test_another_seed_is_another_piece_of_the_same_material(name: str) -> None:
    first, second = (textures.texture(name, size=(64, 64), seed=seed) for seed in (0, 1))
    assert (first - second).abs().mean() > 0.01
    # the mean colour of a 64 by 64 piece varies with the stones, leaves or bricks it happens to show
    assert (first.mean((1, 2)) - second.mean((1, 2))).abs().max() < 0.1


@pytest.mark.parametrize("name", textures.DRAWINGS)
def test_a_drawing_is_thin_ink_on_white_paper(name: str) -> None:
    image = textures.drawing(name, size=(96, 128))
    assert image.shape == (1, 96, 128) and image.dtype == torch.float32
    assert image.min() < 0.1 and image.max() == 1
    assert (image == 1).float().mean() > 0.6


@pytest.mark.parametrize("name", textures.CLIPS)
def test_a_clip_moves_and_its_last_frame_leads_back_to_its_first(name: str) -> None:
    clip = load_clip(DATA / f"clips/{name}.png")
    assert clip.shape == (24, 3, 64, 64)
    steps = (clip - clip.roll(1, dims=0)).abs().mean((1, 2, 3))     # the first of them closes the loop
    assert steps.min() > 0.01
    assert steps[0] <= 1.2 * steps[1:].max()


def test_the_lamp_is_dim_and_warm_and_the_flash_bright_and_cold(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    flash, _, lamp = (image.mean((1, 2)) for image in pair)
    assert lamp.mean() < 0.7 * flash.mean()
    assert lamp[2] / lamp[0] < 0.7 < flash[2] / flash[0]


def test_the_noise_without_flash_can_be_drawn_again_from_the_stored_clean_picture() -> None:
    clean = load(DATA / "no_flash_clean.png")
    again = add_poisson_noise(clean, peak=25, seed=0).clamp(0, 1)
    torch.testing.assert_close(rounded(again), load(DATA / "no_flash.png"))


def test_a_flash_picture_guides_the_bilateral_filter_better_than_the_noisy_picture_guides_itself() -> None:
    # a part with vase, ball, books and wallpaper; the unguided filter may choose the best of its ranges
    flash, noisy, clean = (load(DATA / f"{name}.png")[:, 90:218, 20:260]
                           for name in ("flash", "no_flash", "no_flash_clean"))
    alone = max(psnr(cross_bilateral(noisy, noisy, radius=4, sigma=2, h=h), clean) for h in (0.3, 0.4, 0.6))
    guided = psnr(cross_bilateral(noisy, flash, radius=4, sigma=2, h=0.1), clean)
    assert alone > psnr(noisy, clean) + 6
    assert guided > alone + 2


@pytest.mark.parametrize(("call", "message"), [
    (lambda: textures.texture("brick"), "name is 'brick'; expected one of 'cloth'"),
    (lambda: textures.drawing("dog"), "name is 'dog'; expected one of 'boat'"),
    (lambda: textures.texture("sand", size=128), r"size is int 128; expected \(height, width\)"),
    (lambda: textures.texture("sand", size=(128, 8)), "width is 8; expected a whole number, at least 16"),
    (lambda: textures.texture("sand", size=(64, 64), seed=-1), "seed is -1; expected a whole number from 0"),
    (lambda: textures.CLIPS["fire"](frames=0), "frames is 0; expected a whole number, at least 1"),
])
def test_a_bad_argument_is_named_with_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
