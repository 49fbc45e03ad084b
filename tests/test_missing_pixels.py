"""What a mask hides has no influence on any function that takes one, and messages speak of the picture that was given."""

from __future__ import annotations

import math

import pytest
import torch

from labkit import diffusion_inpainting, operators, patchmatch, restoration, texture_optimization, validation


def _scene(shape=(1, 24, 26)):
    """A picture or a video, and a hole in it."""
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros((*shape[:-3], 1, *shape[-2:]), dtype=torch.bool)
    mask[..., 9:13, 10:15] = True
    return image, mask


OTHER = torch.rand(1, 20, 18, generator=torch.Generator().manual_seed(1))


def _sampled(u, m, **options):
    model = diffusion_inpainting.PatchDenoiser(u, m, patch_size=5)
    return diffusion_inpainting.inpaint(u, m, model=model, sampler="ddim", sampling_steps=3, **options)


def _resampled(u, m):
    model = diffusion_inpainting.PatchDenoiser(torch.where(m, 0, u), m, patch_size=5)
    return diffusion_inpainting.inpaint_by_resampling(u, m, model=model, sampling_steps=3, resamplings=1)


def _learnt(train):
    def weights(u, m):
        return torch.cat(
            [w.flatten() for w in train(u, m, steps=1, width=8, crop_size=16).network.state_dict().values()]
        )

    return weights


# a function of an image and its mask; the shape of the image, where it is no picture of one channel
FILLS = {
    "patchmatch.inpaint": (lambda u, m: patchmatch.inpaint(u, m, patch_size=5, iterations=2),),
    "patchmatch.inpaint gradient": (
        lambda u, m: patchmatch.inpaint(u, m, patch_size=5, iterations=2, metric="gradient"),
    ),
    "patchmatch.inpaint_video": (
        lambda u, m: patchmatch.inpaint_video(u, m, patch_size=5, iterations=1),
        (4, 1, 24, 26),
    ),
    "patchmatch of an image": (
        lambda u, m: patchmatch.patchmatch(u, OTHER, patch_size=3, image_mask=m, iterations=1).distance,
    ),
    "patchmatch to an exemplar": (
        lambda u, m: (
            patchmatch.patchmatch(OTHER, u, patch_size=3, exemplar_mask=m, metric="gradient", iterations=1).nnf
        ),
    ),
    "patchmatch of colours": (
        lambda u, m: (
            patchmatch.patchmatch(
                torch.zeros(3, 9, 9), u, patch_size=3, exemplar_mask=m, metric="lab", iterations=1
            ).distance
        ),
        (3, 24, 26),
    ),
    "patchmatch of turned patches": (
        lambda u, m: (
            patchmatch.patchmatch(
                torch.zeros(1, 9, 9), u, patch_size=3, exemplar_mask=m, transforms=("identity", "flip"), iterations=1
            ).distance
        ),
    ),
    "patchmatch.exact_nnf": (lambda u, m: patchmatch.exact_nnf(OTHER, u, patch_size=3, exemplar_mask=m).distance,),
    "patchmatch.exact_nnf l1": (
        lambda u, m: patchmatch.exact_nnf(u, OTHER, patch_size=3, image_mask=m, metric="l1").distance,
    ),
    "patchmatch.nnf_distance": (
        lambda u, m: patchmatch.nnf_distance(
            u, OTHER, torch.zeros((2, 22, 24), dtype=torch.int32), patch_size=3, image_mask=m
        ),
    ),
    "patchmatch.random_nnf": (
        lambda u, m: patchmatch.random_nnf(torch.zeros(1, 9, 9), u, patch_size=3, exemplar_mask=m),
    ),
    "texture_optimization.fill_hole": (lambda u, m: texture_optimization.fill_hole(u, m, patch_size=5),),
    "diffusion_inpainting.inpaint": (_sampled,),
    "diffusion_inpainting.inpaint_by_resampling": (_resampled,),
    "diffusion_inpainting.regress": (lambda u, m: diffusion_inpainting.regress(u, m, steps=1, width=8, crop_size=16),),
    "diffusion_inpainting.train_inpainter": (_learnt(diffusion_inpainting.train_inpainter),),
    "restoration.inpaint_total_variation": (lambda u, m: restoration.inpaint_total_variation(u, mask=m, steps=3),),
    "operators.Mask": (lambda u, m: operators.Mask(m)(u),),
    "operators.Mask.adjoint": (lambda u, m: operators.Mask(m).adjoint(u),),
    "operators.Mask.pseudo_inverse": (lambda u, m: operators.Mask(m).pseudo_inverse(u),),
    "validation.known_pixels": (lambda u, m: validation.known_pixels(u, m),),
}


@pytest.mark.parametrize("name", FILLS)
def test_what_is_under_the_mask_has_no_influence_whatever_it_is(name):
    fill, *shape = FILLS[name]
    image, mask = _scene(*shape)
    expected = fill(image.masked_fill(mask, 0.25), mask)
    assert torch.isfinite(expected).all()
    for value in (math.nan, math.inf, -1e30):
        made = fill(image.masked_fill(mask, value), mask)
        assert torch.equal(made, expected), value
    image[..., 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"holds \d+ NaN or infinite value"):
        fill(image, mask)


@pytest.mark.parametrize(
    "fill, shape, message",
    [
        (patchmatch.inpaint, (1, 64, 60), "no whole patch of 7×7 pixels in 64×60 pixels; expected"),
        (
            patchmatch.inpaint_video,
            (4, 1, 64, 60),
            "no whole patch of 5×5 pixels and 3 frames in 64×60 pixels and 4 frames; expected",
        ),
        (diffusion_inpainting.PatchDenoiser, (1, 64, 60), "no whole patch of 7×7 in 64×60 pixels; expected"),
        (texture_optimization.fill_hole, (1, 64, 60), "no whole window of 11×11 pixels in 64×60; expected"),
    ],
)
def test_a_mask_that_leaves_nothing_is_told_by_the_size_of_the_picture_given(fill, shape, message):
    mask = torch.zeros((*shape[:-3], 1, *shape[-2:]), dtype=torch.bool)
    mask[..., ::4, ::4] = True  # halved twice, it would leave something
    with pytest.raises(ValueError, match=message):
        fill(torch.rand(shape), mask)
