"""What every way of synthesis of chapter 3 has in common: any shape, a seed, honest refusals."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from labkit import images
from labkit.runtime import generator
from labkit.texture_optimization import (efros_leung, fill_hole, gpnn, image_quilting, optimize_texture, psin, psin_ot,
                                         random_phase_texture, spot_noise, transfer_style_by_patches, transfer_texture,
                                         transport_texture)

PATCH = 6


def _image(make, **settings):
    return lambda exemplar, **given: make(exemplar, **settings, **given).image


# Each takes an exemplar, a size and a seed. All but the two last copy patches.
SYNTHESES = {
    "efros_leung": partial(efros_leung, patch_size=PATCH - 1),
    "image_quilting": partial(image_quilting, patch_size=PATCH),
    "optimize_texture": _image(optimize_texture, patch_sizes=(PATCH,), levels=2, stride=3, iterations=2),
    "optimize_texture, assignment": _image(optimize_texture, patch_sizes=(PATCH,), levels=2, stride=3, iterations=2,
                                           assignment="lsap"),
    "psin": _image(psin, patch_size=PATCH - 1, levels=2, iterations=2),
    "psin_ot": _image(psin_ot, patch_size=PATCH - 1, levels=2, iterations=2),
    "gpnn": _image(gpnn, patch_size=PATCH - 1, levels=2, iterations=2),
    "transport_texture": _image(transport_texture, patch_size=PATCH - 1, levels=2, steps=20),
    "random_phase_texture": random_phase_texture,
    "spot_noise": spot_noise,
}
OF_PATCHES = list(SYNTHESES)[:-2]


@pytest.fixture
def exemplar():
    return images.load("terrazzo", size=(20, 29))


@pytest.mark.parametrize("name", SYNTHESES)
@pytest.mark.parametrize("size", [(14, 45), (37, 12), None])
def test_an_exemplar_that_is_no_square_makes_pictures_of_any_aspect_ratio(exemplar, name, size):
    made = SYNTHESES[name](exemplar, size=size)
    assert made.shape == (3, *(size or (20, 29)))
    assert torch.isfinite(made).all()


@pytest.mark.parametrize("name", SYNTHESES)
def test_a_seed_decides_the_picture_and_another_makes_another(exemplar, name):
    one, same, other = (SYNTHESES[name](exemplar, size=(24, 24), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", SYNTHESES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_constant_exemplar_makes_the_same_constant(name, channels):
    flat = torch.full((channels, 17, 22), 0.375)
    made = SYNTHESES[name](flat, size=(25, 14))
    # sums of a few hundred float32 values, and Fourier transforms
    torch.testing.assert_close(made, torch.full((channels, 25, 14), 0.375), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SYNTHESES)
def test_the_smallest_exemplar_is_a_single_patch(name):
    tiny = torch.rand(3, PATCH, PATCH, generator=generator(0))
    assert SYNTHESES[name](tiny, size=(9, 13)).shape == (3, 9, 13)


@pytest.mark.parametrize("name", OF_PATCHES)
def test_an_exemplar_smaller_than_a_patch_is_refused_with_both_sizes(name):
    with pytest.raises(ValueError, match=r"patch_size is [56] and (exemplar|image) (is )?.*3.*12"):
        SYNTHESES[name](torch.rand(3, 3, 12), size=(20, 20))


@pytest.mark.parametrize("name", SYNTHESES)
@pytest.mark.parametrize("size", [(20,), (0, 20), 20])
def test_a_size_that_is_none_is_refused(exemplar, name, size):
    with pytest.raises(ValueError, match="size|height"):
        SYNTHESES[name](exemplar, size=size)


@pytest.mark.parametrize("name", SYNTHESES)
def test_the_exemplar_stays_as_it_is(exemplar, name):
    before = exemplar.clone()
    SYNTHESES[name](exemplar, size=(18, 18))
    assert torch.equal(exemplar, before)


# --- with a second picture ------------------------------------------------------------------------------------------

def test_a_hole_is_filled_after_a_seed(exemplar):
    mask = torch.zeros(1, 20, 29, dtype=torch.bool)
    mask[:, 6:15, 8:22] = True
    one, same, other = (fill_hole(exemplar, mask, patch_size=5, tolerance=0.5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("make", [
    partial(transfer_texture, patch_size=PATCH, iterations=1),
    lambda texture, target, **given: transfer_style_by_patches(target, texture, patch_sizes=(PATCH,), levels=1, **given).image])
def test_transfers_take_the_shape_of_the_picture_that_is_repainted(exemplar, make):
    target = images.load("camera", size=(40, 18)).expand(3, -1, -1).contiguous()
    one, same = (make(exemplar, target, seed=1) for _ in range(2))
    assert one.shape == target.shape and torch.equal(one, same)
