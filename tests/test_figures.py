"""Figures carry their pictures, captions and words for who cannot see them."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure as Plot

from labkit import figures


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
