"""The widget of chapter 3 without a browser: what it shows, what it says, and the still picture it leaves."""

import re

import pytest
import torch
from tests.pictures import random_image
from tests.widgets import as_shown, assert_leaves_a_picture, decoded

from labkit import widgets
from labkit.texture_optimization import Synthesis

IMAGE = random_image(3, 16, 24)


def synthesis():
    """Two levels; at the finer one, patches of two sizes."""
    sizes, energy = [(4, 6)] * 3 + [(8, 12)] * 3, [[3.0, 2.0, 1.0], [5.0, 4.0], [0.5]]
    frames = [random_image(3, *size, seed=seed) for seed, size in enumerate(sizes)]
    return Synthesis(frames[-1], energy, frames)


def player(**options):
    return widgets.SynthesisPlayer(synthesis(), exemplar=IMAGE, **options)


def test_the_widget_leaves_a_picture_with_words_beside_its_live_view():
    assert_leaves_a_picture(player(alt="Noise.", caption="Some noise."), alt="Noise.", caption="Some noise.")


def test_a_synthesis_names_level_step_and_energy_of_each_frame():
    shown, said = player(), []
    for number in range(6):
        shown.slider.value = number
        said.append(re.sub("<[^>]+>", "", shown._told.value))
    assert said == [
        "Level 1 of 2 (4×6 pixels), step 1 of 3: energy 3.",
        "Level 1 of 2 (4×6 pixels), step 2 of 3: energy 2.",
        "Level 1 of 2 (4×6 pixels), step 3 of 3: energy 1.",
        "Level 2 of 2 (8×12 pixels), patch size 1 of 2, step 1 of 2: energy 5.",
        "Level 2 of 2 (8×12 pixels), patch size 1 of 2, step 2 of 2: energy 4.",
        "Level 2 of 2 (8×12 pixels), patch size 2 of 2, step 1 of 1: energy 0.5.",
    ]
    assert said[-1] in shown.pictures[0].alt


def test_coarse_frames_are_shown_at_the_size_of_the_last_with_square_pixels():
    made, shown = synthesis(), player()
    picture = shown.pictures[0]
    expected = made.frames[0].repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(decoded(picture.data), as_shown(expected)) and picture.size == (8, 12)
    shown.slider.value = 5
    assert torch.equal(decoded(picture.data), as_shown(made.image)) and picture.size == (8, 12)


def test_the_still_picture_of_a_synthesis_has_the_end_of_each_level_and_the_exemplar():
    text = player().still().text
    assert "level 1, 4×6 12×8" in text and "level 2, 8×12 12×8" in text and "exemplar 24×16" in text


def test_a_synthesis_without_frames_cannot_be_played():
    made = synthesis()
    with pytest.raises(ValueError, match="trace=True"):
        widgets.SynthesisPlayer(Synthesis(made.image, made.energy), exemplar=IMAGE)
    with pytest.raises(ValueError, match="6 frames and 3 energies"):
        widgets.SynthesisPlayer(Synthesis(made.image, made.energy[:1], made.frames), exemplar=IMAGE)


@pytest.mark.parametrize("method", ["optimize_texture", "psin", "psin_ot", "gpnn"])
def test_every_method_that_traces_can_be_played(method):
    from labkit import texture_optimization

    sizes = {"patch_sizes": (6, 4)} if method == "optimize_texture" else {"patch_size": 5}
    made = getattr(texture_optimization, method)(IMAGE, **sizes, levels=2, iterations=2, trace=True)
    shown = widgets.SynthesisPlayer(made, exemplar=IMAGE)
    shown.slider.value = shown.slider.max
    assert torch.equal(decoded(shown.pictures[0].data), as_shown(made.image))
    assert f"energy {made.energy[-1][-1]:.3g}." in shown._told.value
