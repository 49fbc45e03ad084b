"""Every guard says what was given and what is expected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit import validation


@pytest.mark.parametrize("value, message", [
    (np.zeros((3, 4, 4)), "image is a numpy array of shape .3, 4, 4. and dtype float64; expected a floating-point torch tensor"),
    ("astronaut", "image is str 'astronaut'"),
    (torch.zeros(4, 4), r"\(4, 4\).*expected"),
    (torch.zeros(1, 1, 3, 4, 4), r"\(1, 1, 3, 4, 4\)"),
    (torch.zeros(3, 4, 4, dtype=torch.int64), "int64"),
    (torch.zeros(3, 0, 4), "has no pixels"),
    (torch.tensor([[[0.0, float("nan")]]]), "holds 1 NaN or infinite value of 2"),
    (torch.full((1, 2, 2), float("inf")), "holds 4 NaN or infinite values of 4"),
])
def test_what_is_no_image_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        validation.validate_image(value)


def test_images_and_batches_pass():
    validation.validate_image(torch.zeros(3, 4, 4))
    validation.validate_image(torch.zeros(2, 1, 4, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="expected"):
        validation.validate_image(torch.zeros(2, 1, 4, 4), batch=False)


@pytest.mark.parametrize("call, message", [
    (lambda: validation.validate_integer(2.0, name="radius", minimum=0), "radius is float 2.0; expected a whole number, at least 0"),
    (lambda: validation.validate_integer(True, name="radius"), "radius is bool True"),
    (lambda: validation.validate_integer(-1, name="radius", minimum=0), "radius is -1; expected a whole number, at least 0"),
    (lambda: validation.validate_integer(4, name="patch_size", minimum=1, odd=True), "patch_size is 4; expected an odd whole number"),
    (lambda: validation.validate_integer(9, name="k", minimum=1, maximum=5), "k is 9; expected a whole number from 1 to 5"),
    (lambda: validation.validate_number("1", name="sigma"), "sigma is str '1'; expected a finite number"),
    (lambda: validation.validate_number(float("nan"), name="sigma"), "sigma is nan"),
    (lambda: validation.validate_number(0, name="sigma", above=0), "sigma is 0; expected a finite number above 0"),
    (lambda: validation.validate_choice("x", name="border", choices=("a", "b")), "border is 'x'; expected one of 'a', 'b'"),
    (lambda: validation.validate_same_size(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2)), r"image is \(2, 3\) and guide is \(3, 2\)"),
    (lambda: validation.validate_mask(torch.zeros(1, 2, 3), torch.zeros(3, 2, 3)), r"expected a boolean tensor \(1, 2, 3\)"),
    (lambda: validation.validate_size(5), r"size is int 5; expected \(height, width\)"),
    (lambda: validation.validate_size(None), r"size is NoneType None; expected \(height, width\)"),
    (lambda: validation.validate_size((3, 0)), "width is 0; expected a whole number, at least 1"),
    (lambda: validation.validate_size((3, 9), minimum=(4, 9)), "height is 3; expected a whole number, at least 4"),
    (lambda: validation.validate_size((3, 2.5), name="image_size"), "the width of image_size is float 2.5"),
    (lambda: validation.validate_patch_size(6, torch.zeros(1, 5, 9)), "patch_size is 6 and image 5×9 pixels; expected a patch that lies inside it"),
    (lambda: validation.validate_patch_size(0, torch.zeros(1, 5, 9)), "patch_size is 0; expected a whole number, at least 1"),
])
def test_bad_values_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numpy_numbers_are_numbers():
    validation.validate_integer(np.int64(3), name="radius", minimum=0)
    validation.validate_number(np.float32(0.5), name="sigma", above=0)


def test_a_size_may_be_left_to_a_default():
    assert validation.validate_size(None, default=torch.zeros(3, 4, 5).shape[-2:]) == (4, 5)
    assert validation.validate_size([6, 7], default=(4, 5)) == (6, 7)
