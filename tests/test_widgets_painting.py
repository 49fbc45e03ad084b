"""Eraser and Painter without a browser: what they make, what they say, and the still pictures they leave."""

import pytest
import torch
from tests.pictures import random_image
from tests.widgets import as_shown, assert_leaves_a_picture, decoded, upload

from labkit import images, widgets
from labkit.widgets.painting import color_names, main_colors, rough_painting

IMAGE, SMALL = random_image(3, 20, 24), random_image(3, 16, 24)
RED, GREEN, BLUE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def grey(image, mask):
    return torch.where(mask, 0.5, image)


def several(image, mask):
    return torch.stack([torch.where(mask, value, image) for value in (0.0, 0.25, 0.5)])


def eraser(**options):
    return widgets.Eraser(IMAGE, **{"fill": grey, **options})


def painter(**options):
    return widgets.Painter(SMALL, **{"generate": lambda painting: 1 - painting, **options})


@pytest.mark.parametrize("make", [eraser, painter])
def test_every_widget_leaves_a_picture_with_words_beside_its_live_view(make):
    assert_leaves_a_picture(make(alt="Noise.", caption="Some noise."), alt="Noise.", caption="Some noise.")


# --- Eraser ---------------------------------------------------------------------------------------------------------


def test_the_eraser_begins_with_a_hole_and_its_filling():
    shown = eraser()
    mask = shown.brush.mask
    assert 0.02 < mask.float().mean() < 0.1 and mask[0, 10, 12]
    assert torch.equal(shown.made, torch.where(mask, 0.5, IMAGE))
    assert torch.equal(decoded(shown.results[0].data), as_shown(shown.made))
    assert f"{int(mask.sum())} pixels filled in" in shown.results[0].caption


def test_the_button_fills_what_is_painted_now():
    shown, mask = eraser(), random_image(1, 20, 24) > 0.5
    shown.brush.mask = mask
    assert "before you painted on" in shown.results[0].caption
    shown.button.click()
    assert torch.equal(shown.made, torch.where(mask, 0.5, IMAGE)) and "pixels filled" in shown.results[0].caption


def test_while_it_fills_the_button_is_busy_and_afterwards_it_is_not():
    seen = []

    def watch(image, mask):
        seen.append((shown.button.disabled, shown.button.description))
        if len(seen) == 2:
            raise RuntimeError("no memory")
        return image

    shown = eraser()
    shown._function = watch
    shown.button.click()
    shown.button.click()
    assert seen == [(True, "Filling …")] * 2
    assert (shown.button.disabled, shown.button.description) == (False, "Fill")


def test_an_error_of_the_filling_is_shown_as_text_and_goes_away():
    def fill(image, mask):
        if mask[0, 0, 0]:
            raise ValueError("the hole is <everywhere>")
        return image

    shown = eraser(fill=fill)
    mask = shown.brush.mask
    shown.brush.mask = torch.ones_like(mask)
    shown.button.click()
    assert "the hole is &lt;everywhere&gt;" in shown._message.value and isinstance(shown.error, ValueError)
    assert "the hole is &lt;everywhere&gt;" in shown.still().html and "labkit-stale" in shown._beside._dom_classes
    shown.brush.mask = mask
    shown.button.click()
    assert shown.error is None and shown._message.value == "" and "labkit-stale" not in shown._beside._dom_classes


@pytest.mark.parametrize(
    "answer, message",
    [
        (lambda image, mask: None, "fill returned NoneType"),
        (lambda image, mask: image[:, 1:], "fill returned a tensor of shape"),
        (lambda image, mask: image / 0, "NaN or infinite"),
        (lambda image: image, "TypeError"),
    ],
)
def test_whatever_a_reader_s_own_filling_does_is_shown_as_text(answer, message):
    shown = eraser(fill=answer)
    assert message in shown._message.value and shown.made is None
    assert "filled" not in shown.still().text and shown._repr_mimebundle_()


def test_a_filling_that_writes_into_its_input_spoils_nothing():
    image = IMAGE.clone()

    def fill(image, mask):
        image.zero_()
        mask.fill_(True)
        return image

    shown = widgets.Eraser(image, fill=fill)
    assert torch.equal(image, IMAGE) and torch.equal(shown.brush.image, IMAGE) and not shown.brush.mask.all()


def test_with_nothing_painted_nothing_is_filled():
    calls = []
    nothing = torch.zeros(1, 20, 24, dtype=torch.bool)
    shown = eraser(fill=lambda image, mask: calls.append(mask), mask=nothing)
    assert calls == [] and "Nothing is painted yet" in shown._message.value and shown.error is None


def test_a_large_picture_and_its_mask_are_reduced_and_no_hole_is_lost():
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 31, 41] = True
    shown = widgets.Eraser(random_image(3, 60, 80), fill=grey, mask=mask, size=40)
    assert shown.brush.size == (30, 40) and shown.brush.mask.nonzero().tolist() == [[0, 15, 20]]
    assert shown.made.shape == (3, 30, 40)


def test_a_picture_of_one_s_own_waits_for_its_hole():
    shown = eraser(size=32)
    upload(shown, "holiday.png", images.to_bytes(random_image(3, 30, 64)))
    assert shown.brush.size == (15, 32) and not shown.brush.mask.any() and shown.made is None
    assert "holiday.png: paint over" in shown._message.value
    mask = torch.zeros(1, 15, 32, dtype=torch.bool)
    mask[:, 4:8, 4:8] = True
    shown.brush.mask = mask
    shown.button.click()
    assert (shown.made[:, 4:8, 4:8] == 0.5).all() and shown.results[0].size == (15, 32)
    upload(shown, "notes.txt", b"not a picture")
    assert "notes.txt is not a picture" in shown._message.value and shown.brush.size == (15, 32)


def test_an_eraser_of_something_else_is_refused():
    with pytest.raises(ValueError, match="fill is str 'grey'; expected a function"):
        eraser(fill="grey")
    with pytest.raises(ValueError, match=r"boolean tensor \(1, 20, 24\)"):
        eraser(mask=torch.zeros(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="size is 3"):
        eraser(size=3)


def test_several_fills_are_shown_one_by_one():
    shown = eraser(fill=several)
    assert [one.caption for one in shown.results] == ["fill 1", "fill 2", "fill 3"]
    for picture, fill in zip(shown.results, several(IMAGE, shown.brush.mask)):
        assert torch.equal(decoded(picture.data), as_shown(fill))
    assert f"{int(shown.brush.mask.sum())} pixels filled, 3 times," in shown._told.value
    assert "fill 3" in shown.still().text and "fill 3" in shown.results[2].alt


def test_the_mean_of_several_fills_comes_last_where_it_was_asked_for():
    shown = eraser(fill=several, mean=True)
    assert len(shown.results) == 4 and shown.results[3].caption == "mean of the fills"
    assert torch.allclose(shown.results[3].image, torch.where(shown.brush.mask, 0.25, IMAGE))  # rounding of the mean
    assert len(eraser(fill=lambda image, mask: image, mean=True).results) == 1


def test_the_number_of_fills_may_change():
    counts = iter([3, 1, 2])
    shown = eraser(fill=lambda image, mask: image.expand(next(counts), *image.shape))
    assert len(shown.results) == 3
    shown.button.click()
    assert len(shown.results) == 1 and "pixels filled in" in shown.results[0].caption
    shown.button.click()
    assert len(shown.results) == 2


# --- Painter --------------------------------------------------------------------------------------------------------


def test_a_painting_goes_to_the_canvas_and_comes_back():
    canvas = widgets.Canvas(SMALL, palette=torch.tensor([RED, GREEN]), alt="Noise.")
    assert torch.equal(canvas.painting, (SMALL * 255).round() / 255)
    assert canvas.palette == [["#ff0000", "red"], ["#00ff00", "green"]]
    canvas.set_state({"pixels": memoryview(bytes(3 * 16 * 24))})  # the form in which the browser's bytes arrive
    assert not canvas.painting.any()
    with pytest.raises(ValueError, match="expected 16×24 pixels"):
        canvas.painting = SMALL[:, :5]
    with pytest.raises(ValueError, match="one to nine colours"):
        widgets.Canvas(SMALL, palette=torch.zeros(10, 3), alt="Noise.")


def test_what_is_painted_is_generated_at_once_and_at_the_button():
    shown = painter()
    assert torch.equal(shown.made, 1 - shown.canvas.painting)
    assert torch.equal(decoded(shown.results[0].data), as_shown(shown.made))
    assert "generated in" in shown.results[0].caption
    shown.canvas.painting = SMALL
    assert "before you painted on" in shown.results[0].caption
    shown.button.click()
    assert torch.equal(shown.made, 1 - shown.canvas.painting) and "generated in" in shown.results[0].caption


def test_a_grey_picture_is_painted_in_grey_on_a_canvas_of_one_s_own():
    seen = []
    start = random_image(1, 10, 30)
    widgets.Painter(random_image(1, 16, 24), start=start, generate=lambda painting: seen.append(painting) or painting)
    assert seen[0].shape == (1, 10, 30) and (seen[0] - start).abs().max() <= 0.5 / 255 + 1e-6  # 8 bits


def test_a_result_may_have_another_size_or_be_several():
    shown = painter(generate=lambda painting: painting[:, :8].repeat(1, 4, 1))
    assert shown.results[0].size == (32, 24)
    shown = painter(generate=lambda painting: torch.stack([painting, 1 - painting]))
    assert [one.caption for one in shown.results] == ["picture 1", "picture 2"] and "generated in" in shown._told.value
    assert "picture 2" in shown.still().text


def test_errors_and_the_busy_button_are_those_of_the_eraser():
    seen = []

    def generate(painting):
        seen.append((shown.button.disabled, shown.button.description))
        raise RuntimeError("no <memory>")

    shown = painter()
    shown._function = generate
    shown.button.click()
    assert seen == [(True, "Generating …")] and not shown.button.disabled
    assert "no &lt;memory&gt;" in shown._message.value and isinstance(shown.error, RuntimeError)
    assert "no &lt;memory&gt;" in shown.still().html and "labkit-stale" in shown._beside._dom_classes


@pytest.mark.parametrize(
    "answer, message",
    [
        (lambda painting: None, "what generate returned is NoneType"),
        (lambda painting: painting / 0, "NaN or infinite"),
        (lambda: None, "TypeError"),
    ],
)
def test_whatever_a_reader_s_own_function_does_is_shown_as_text(answer, message):
    shown = painter(generate=answer)
    assert message in shown._message.value and shown.made is None and shown._repr_mimebundle_()


def test_a_function_that_writes_into_the_painting_spoils_nothing():
    shown = painter(generate=lambda painting: painting.zero_())
    assert shown.canvas.painting.any() and not shown.made.any()


def test_a_picture_of_one_s_own_is_cut_to_the_canvas():
    shown = painter()
    own = torch.zeros(3, 32, 96)  # twice as high as the canvas and four times as wide: the middle half remains
    own[:, :, 24:72] = 1
    upload(shown, "holiday.png", images.to_bytes(own))
    assert shown.canvas.painting.eq(1).all() and "holiday.png is the painting now" in shown._message.value
    assert "before you painted on" in shown.results[0].caption


def test_a_painter_of_something_else_is_refused():
    with pytest.raises(ValueError, match="generate is str 'psin'; expected a function"):
        painter(generate="psin")
    with pytest.raises(ValueError, match="start is a tensor of shape .*expected 3 channels"):
        painter(start=SMALL[:1])
    with pytest.raises(ValueError, match="colors is 10"):
        painter(colors=10)


# --- colours --------------------------------------------------------------------------------------------------------


def test_the_main_colours_of_flat_areas_are_found_from_dark_to_light():
    image = torch.zeros(3, 30, 30)
    for part, color in enumerate((GREEN, BLUE, RED)):
        image[:, 10 * part : 10 * part + 10] = torch.tensor(color)[:, None, None]
    colors = main_colors(image, 8)
    # a colour makes a round trip through CIE L*a*b* in float32
    assert torch.allclose(colors, torch.tensor([BLUE, RED, GREEN]), atol=1e-3)
    assert main_colors(image, 2).shape == (2, 3)
    assert main_colors(torch.full((1, 5, 5), 0.5), 8).shape == (1, 3)


def test_colours_have_the_names_that_a_reader_would_give_them():
    colors = torch.tensor(
        [
            (0.0, 0.0, 0.0),
            (0.5, 0.5, 0.5),
            (1.0, 1.0, 1.0),
            (0.9, 0.1, 0.1),
            (0.1, 0.3, 0.1),
            (0.55, 0.75, 0.95),
            (0.5, 0.33, 0.15),
            (0.95, 0.5, 0.1),
        ]
    )
    assert color_names(colors) == ["black", "grey", "white", "red", "dark green", "light blue", "brown", "orange"]


def test_the_first_painting_has_the_picture_s_colours_where_they_are_mirrored():
    image = torch.zeros(3, 20, 40)
    image[0, :, :20], image[2, :, 20:] = 1, 1
    palette = main_colors(image, 8)
    painting = rough_painting(image, palette)
    assert painting.shape == image.shape and torch.equal(painting[:, :, 0], palette[0][:, None].expand(3, 20))
    assert torch.equal(painting[:, :, -1], palette[1][:, None].expand(3, 20))  # blue, then red: the darker is first
    assert rough_painting(random_image(1, 300, 600), palette).shape == (1, 128, 256)
