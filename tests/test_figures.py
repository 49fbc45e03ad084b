"""Figures carry their pictures, captions and words for who cannot see them."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure as Plot

from labkit import figures, images


def _picture(height=12, width=10):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


def test_every_picture_has_alternative_text_and_the_figure_its_caption():
    figure = figures.show([_picture(), _picture()], titles=["one", "two"], alt="random dots", caption="Dots <twice>.")
    assert figure.html.count("<img") == 2 and 'alt="one: random dots"' in figure.html
    assert "Dots &lt;twice&gt;." in figure.html and "one 10×12" in repr(figure)


def test_small_pictures_are_exact_and_enlarged_with_sharp_pixels():
    assert "image/png" in figures.show(_picture(), alt="dots").html and "pixelated" in figures.show(_picture(), alt="dots").html
    assert "image/jpeg" in figures.show(_picture(300, 300), alt="dots").html


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="alt is empty"):
        figures.show(_picture(), alt=" ")
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        figures.show([_picture(), _picture()], titles=["one"], alt="dots")


def test_a_chart_is_a_picture_with_words():
    plot = Plot(figsize=(2, 1))
    plot.subplots().plot([0, 1])
    assert 'alt="a line"' in figures.chart(plot, alt="a line").html


def test_a_table_reads_the_same_in_text_and_in_markup():
    table = figures.table([["Gaussian", 27.123, 3], ["box", 26.0, "–"]], header=["filter", "PSNR", "ms"], caption="Numbers.")
    assert "27.12" in repr(table) and "27.12" in table.html and 'scope="row"' in table.html
    with pytest.raises(ValueError, match=r"rows\[0\] has 2 cells; expected 3"):
        figures.table([["a", 1]], header=["x", "y", "z"])


def test_colours_run_from_low_to_high_and_differences_are_grey_where_there_is_none():
    image = figures.colorize(torch.tensor([[0.0, 1.0]]))
    assert tuple(image.shape) == (3, 1, 2) and image[:, 0, 1].sum() > image[:, 0, 0].sum()
    assert torch.equal(figures.difference(_picture(), _picture()), torch.full((3, 12, 10), 0.5))
    with pytest.raises(ValueError, match="expected a tensor"):
        figures.colorize(torch.zeros(3, 4, 4))


# Machado, Oliveira, Fernandes 2009, severity 1: what is left of linear RGB without one kind of cone.
SEEN_BY = {"all three cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
           "no long-wave cones": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
                                  (-0.003882, -0.048116, 1.051998)),
           "no middle-wave cones": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
                                    (-0.011820, 0.042940, 0.968881)),
           "no short-wave cones": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
                                   (0.004733, 0.691367, 0.303900))}


@pytest.mark.parametrize("matrix", SEEN_BY.values(), ids=SEEN_BY)
def test_every_reader_can_tell_the_directions_of_the_wheel_apart(matrix):
    angle = torch.arange(8) * torch.pi / 4
    compass = torch.stack([torch.sin(angle), torch.cos(angle)])
    shift = torch.cat([compass, torch.zeros(2, 1)], dim=1)[:, None]   # eight directions, and no shift
    colours = figures.color_wheel(shift, largest=1.0)
    linear = torch.where(colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92)
    linear = torch.einsum("dc,chw->dhw", torch.tensor(matrix, dtype=torch.float32), linear).clamp(0, 1)
    seen = torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    lab = images.to_lab(seen)[:, 0].T
    assert torch.pdist(lab).min() > 15   # in CIE L*a*b*, where 2 is just visible


def test_a_longer_shift_has_a_stronger_colour_up_to_the_largest():
    shift = torch.zeros(2, 1, 4)
    shift[1, 0] = torch.tensor([0, 2, 4, 8])
    lab = images.to_lab(figures.color_wheel(shift, largest=4))[:, 0]
    chroma = torch.linalg.vector_norm(lab[1:], dim=0)
    expected = torch.tensor([0.0, 30.0, 60.0, 60.0])
    assert torch.allclose(chroma, expected, atol=0.1)   # float32, there and back
    assert torch.equal(figures.color_wheel(shift.int()), figures.color_wheel(shift, largest=8.0))


def test_without_any_shift_the_wheel_is_grey():
    colours = figures.color_wheel(torch.zeros(2, 3, 4, dtype=torch.int32))
    assert tuple(colours.shape) == (3, 3, 4) and colours.dtype == torch.float32
    assert (colours.amax(0) - colours.amin(0)).max() < 1e-3   # the white point is rounded to five digits


def test_the_key_has_every_direction_where_it_points():
    key, shift = figures.color_wheel_key(size=5), torch.tensor([[[0.0]], [[1.0]]])
    assert torch.equal(key[:, 2, 4], figures.color_wheel(shift)[:, 0, 0])            # right
    assert torch.equal(key[:, 0, 2], figures.color_wheel(-shift.flip(0))[:, 0, 0])   # up
    with pytest.raises(ValueError, match="odd"):
        figures.color_wheel_key(size=4)


@pytest.mark.parametrize("shift", [torch.zeros(3, 4, 4), torch.zeros(2, 4), torch.zeros(2, 0, 4), "left",
                                   torch.full((2, 1, 1), torch.nan)])
def test_a_wheel_of_something_else_is_refused(shift):
    with pytest.raises(ValueError, match="shift .*expected"):
        figures.color_wheel(shift)
    with pytest.raises(ValueError, match="largest"):
        figures.color_wheel(torch.zeros(2, 1, 1), largest=0)
