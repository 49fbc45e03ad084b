"""The widget of chapter 1 without a browser: what it computes, what it says, and the still picture it leaves."""

import pytest
import torch
from tests.pictures import random_image
from tests.widgets import assert_leaves_a_picture

from labkit import widgets

IMAGE = random_image(3, 12, 20)


def uniform(image, row, column):
    return torch.full(image.shape[-2:], 1 / image.shape[-1] / image.shape[-2])


def point(image, row, column):
    weights = torch.zeros(image.shape[-2:])
    weights[row, column] = 1
    return weights


def test_the_widget_leaves_a_picture_with_words_beside_its_live_view():
    shown = widgets.WeightsExplorer(IMAGE, {"uniform": uniform}, alt="Noise.", caption="Some noise.", radius=3)
    assert_leaves_a_picture(shown, alt="Noise.", caption="Some noise.")


def test_choosing_a_pixel_shows_the_weights_around_it():
    calls = []

    def counted(image, row, column):
        calls.append((row, column))
        return point(image, row, column)

    shown = widgets.WeightsExplorer(IMAGE, {"point": counted, "uniform": uniform}, alt="Noise.", radius=2, pixel=(5, 6))
    assert set(shown.maps) == {"point", "uniform"} and shown.largest["uniform"] == pytest.approx(1 / 240)
    shown.picture.set_state({"row": 8, "column": 9})
    assert calls == [(5, 6), (8, 9)]  # once for both coordinates
    yellow, dark = shown.maps["point"].image[:, 2, 2], shown.maps["point"].image[:, 0, 0]
    assert shown.maps["point"].size == (5, 5) and yellow.sum() > 1.5 > 1 > dark.sum()
    assert "largest 1" in shown.maps["point"].caption and "row 8, column 9" in shown.maps["point"].alt


def test_near_a_corner_the_part_that_is_shown_stays_inside_the_picture():
    shown = widgets.WeightsExplorer(IMAGE, {"point": point}, alt="Noise.", radius=3, pixel=(0, 19))
    weights = shown.maps["point"]
    assert weights.size == (7, 7) and (weights.row, weights.column) == (0, 6)
    assert weights.image[:, 0, 6].sum() > 1.5
    assert torch.equal(shown._near.image, IMAGE[:, :7, 13:])


def test_the_still_picture_outlines_the_part_whose_weights_are_shown():
    image = torch.full((1, 12, 20), 0.5)
    shown = widgets.WeightsExplorer(image, {"point": point}, alt="Grey.", radius=3, pixel=(6, 10))
    outlined = shown._outlined()[0]
    assert outlined[3, 7:14].eq(1).all() and outlined[4, 8:13].eq(0).all() and outlined[6, 10] == 0.5
    assert shown.picture.image.eq(0.5).all()


def test_weights_of_a_wrong_shape_are_reported_and_the_others_shown():
    shown = widgets.WeightsExplorer(
        IMAGE, {"bad": lambda image, row, column: image, "point": point}, alt="Noise.", radius=2
    )
    assert "bad returned a tensor of shape (3, 12, 20)" in shown._message.value
    assert shown.largest == {"point": 1.0}
