"""Films and paintings without a browser: what they show, what they say, and the still pictures they leave."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pictures import random_image

from labkit import images, widgets
from labkit.texture_optimization import Synthesis
from labkit.widgets.film import curves_svg
from labkit.widgets.painting import Canvas, color_names, main_colors, rough_painting
from labkit.widgets.still import VIEW

IMAGE = random_image(3, 16, 24)
RED, GREEN, BLUE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def decoded(data):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).float() / 255


def as_shown(image):
    return (image.clamp(0, 1).permute(1, 2, 0) * 255).round() / 255


def synthesis():
    """Two levels; at the finer one, patches of two sizes."""
    sizes, energy = [(4, 6)] * 3 + [(8, 12)] * 3, [[3.0, 2.0, 1.0], [5.0, 4.0], [0.5]]
    frames = [random_image(3, *size, seed=seed) for seed, size in enumerate(sizes)]
    return Synthesis(frames[-1], energy, frames)


def player(**options):
    return widgets.synthesis_player(synthesis(), exemplar=IMAGE, **options)


def chain(count=11, **options):
    frames = [(random_image(1, 6, 6, seed=k), random_image(3, 6, 6, seed=99 - k)) for k in range(count)]
    return widgets.film(frames, **{"titles": ["x_t", "estimate"], "captions": [f"t = {k}" for k in range(count)],
                                   "alt": "Noise.", **options})


def painter(**options):
    return widgets.painter(IMAGE, **{"generate": lambda painting: 1 - painting, **options})


def upload(shown, name, content):
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": 0}
    shown._upload.set_state({"value": [file]})


@pytest.mark.parametrize("make", [player, chain, painter], ids=["synthesis_player", "film", "painter"])
def test_every_widget_leaves_a_picture_with_words_beside_its_live_view(make):
    data, _ = make(alt="Noise.", caption="Some noise.")._repr_mimebundle_()
    assert set(data) == {VIEW, "text/html", "text/plain"}
    tags = re.findall(r'<img src="data:image/(?:png|jpeg);base64,([^"]+)" alt="([^"]+)"', data["text/html"])
    assert tags and all(decoded(base64.b64decode(picture)).numel() and "Noise." in words for picture, words in tags)
    assert "Some noise." in data["text/html"] and "Some noise." in data["text/plain"]


# --- films ------------------------------------------------------------------------------------------------------------

def test_a_synthesis_names_level_step_and_energy_of_each_frame():
    shown, said = player(), []
    for number in range(6):
        shown.slider.value = number
        said.append(re.sub("<[^>]+>", "", shown._told.value))
    assert said == ["Level 1 of 2 (4×6 pixels), step 1 of 3: energy 3.",
                    "Level 1 of 2 (4×6 pixels), step 2 of 3: energy 2.",
                    "Level 1 of 2 (4×6 pixels), step 3 of 3: energy 1.",
                    "Level 2 of 2 (8×12 pixels), patch size 1 of 2, step 1 of 2: energy 5.",
                    "Level 2 of 2 (8×12 pixels), patch size 1 of 2, step 2 of 2: energy 4.",
                    "Level 2 of 2 (8×12 pixels), patch size 2 of 2, step 1 of 1: energy 0.5."]
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
        widgets.synthesis_player(Synthesis(made.image, made.energy), exemplar=IMAGE)
    with pytest.raises(ValueError, match="6 frames and 3 energies"):
        widgets.synthesis_player(Synthesis(made.image, made.energy[:1], made.frames), exemplar=IMAGE)


@pytest.mark.parametrize("method", ["optimize_texture", "psin", "psin_ot", "gpnn"])
def test_every_method_that_traces_can_be_played(method):
    from labkit import texture_optimization

    sizes = {"patch_sizes": (6, 4)} if method == "optimize_texture" else {"patch_size": 5}
    made = getattr(texture_optimization, method)(IMAGE, **sizes, levels=2, iterations=2, trace=True)
    shown = widgets.synthesis_player(made, exemplar=IMAGE)
    shown.slider.value = shown.slider.max
    assert torch.equal(decoded(shown.pictures[0].data), as_shown(made.image))
    assert f"energy {made.energy[-1][-1]:.3g}." in shown._told.value


def test_a_film_shows_its_pictures_side_by_side_with_their_caption():
    shown = chain()
    shown.slider.value = 7
    for picture, seed, channels, title in zip(shown.pictures, (7, 92), (1, 3), ("x_t", "estimate")):
        assert torch.equal(decoded(picture.data), as_shown(random_image(channels, 6, 6, seed=seed)).squeeze(-1))
        assert picture.caption == title and picture.alt == f"Noise. ({title}) t = 7"
    assert "t = 7" in shown._told.value


def test_the_still_picture_of_a_film_has_five_frames_of_each_picture():
    text = chain().still().text
    assert [f"x_t, t = {k} 6×6" in text and f"estimate, t = {k} 6×6" in text for k in range(11)] == [
        k in (0, 2, 5, 8, 10) for k in range(11)]
    assert "frame 2 6×6" in chain(3, titles=["a", "b"], captions=["c" * 80] * 3).still().text   # no title so long


@pytest.mark.parametrize("options, message", [({"captions": ["a"]}, "11 frames and 1 captions"),
                                              ({"titles": ["a"]}, "frame 0 has 2 pictures and there are 1 titles"),
                                              ({"curves": [[1.0] * 10]}, "10 values and there are 11 frames"),
                                              ({"curves": [[float("nan")] * 11]}, "a value of curves is nan"),
                                              ({"interval": 0}, "interval is 0"),
                                              ({"beside": {"truth": torch.zeros(2, 3, 3)}}, "truth is a tensor")])
def test_a_film_of_something_else_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        chain(**options)


def test_each_curve_has_its_own_scale_and_the_dot_is_at_the_frame():
    import xml.etree.ElementTree as xml

    curves = [[600.0, -5.0, 0.0], [2.0, 2.0], [1e-9]]
    lines = xml.fromstring(curves_svg(curves, at=0, measure="a < b")).findall("polyline")
    points = [[tuple(map(float, pair.split(","))) for pair in line.get("points").split()] for line in lines]
    assert [len(one) for one in points] == [3, 2, 1]
    assert min(y for _, y in points[0]) == 6 and max(y for _, y in points[0]) == 50   # 6 from both edges of 56
    assert all(0 < x < 560 for one in points for x, _ in one)
    for number, (x, y) in enumerate(sum(points, [])):
        dot = xml.fromstring(curves_svg(curves, at=number, measure="energy")).find("circle")
        assert (float(dot.get("cx")), float(dot.get("cy"))) == (x, y)


# --- colours ----------------------------------------------------------------------------------------------------------

def test_the_main_colours_of_flat_areas_are_found_from_dark_to_light():
    image = torch.zeros(3, 30, 30)
    for part, color in enumerate((GREEN, BLUE, RED)):
        image[:, 10 * part:10 * part + 10] = torch.tensor(color)[:, None, None]
    colors = main_colors(image, 8)
    # a colour makes a round trip through CIE L*a*b* in float32
    assert torch.allclose(colors, torch.tensor([BLUE, RED, GREEN]), atol=1e-3)
    assert main_colors(image, 2).shape == (2, 3)
    assert main_colors(torch.full((1, 5, 5), 0.5), 8).shape == (1, 3)


def test_colours_have_the_names_that_a_reader_would_give_them():
    colors = torch.tensor([(0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (0.9, 0.1, 0.1), (0.1, 0.3, 0.1),
                           (0.55, 0.75, 0.95), (0.5, 0.33, 0.15), (0.95, 0.5, 0.1)])
    assert color_names(colors) == ["black", "grey", "white", "red", "dark green", "light blue", "brown", "orange"]


def test_the_first_painting_has_the_picture_s_colours_where_they_are_mirrored():
    image = torch.zeros(3, 20, 40)
    image[0, :, :20], image[2, :, 20:] = 1, 1
    palette = main_colors(image, 8)
    painting = rough_painting(image, palette)
    assert painting.shape == image.shape and torch.equal(painting[:, :, 0], palette[0][:, None].expand(3, 20))
    assert torch.equal(painting[:, :, -1], palette[1][:, None].expand(3, 20))   # blue, then red: the darker is first
    assert rough_painting(random_image(1, 300, 600), palette).shape == (1, 128, 256)


# --- painter ----------------------------------------------------------------------------------------------------------

def test_a_painting_goes_to_the_canvas_and_comes_back():
    canvas = Canvas(IMAGE, palette=torch.tensor([RED, GREEN]), alt="Noise.")
    assert torch.equal(canvas.painting, (IMAGE * 255).round() / 255)
    assert canvas.palette == [["#ff0000", "red"], ["#00ff00", "green"]]
    canvas.set_state({"pixels": memoryview(bytes(3 * 16 * 24))})   # the form in which the browser's bytes arrive
    assert not canvas.painting.any()
    with pytest.raises(ValueError, match="expected 16×24 pixels"):
        canvas.painting = IMAGE[:, :5]
    with pytest.raises(ValueError, match="one to nine colours"):
        Canvas(IMAGE, palette=torch.zeros(10, 3), alt="Noise.")


def test_what_is_painted_is_generated_at_once_and_at_the_button():
    shown = painter()
    assert torch.equal(shown.made, 1 - shown.canvas.painting)
    assert torch.equal(decoded(shown.results[0].data), as_shown(shown.made))
    assert "generated in" in shown.results[0].caption
    shown.canvas.painting = IMAGE
    assert "before you painted on" in shown.results[0].caption
    shown.button.click()
    assert torch.equal(shown.made, 1 - shown.canvas.painting) and "generated in" in shown.results[0].caption


def test_a_grey_picture_is_painted_in_grey_on_a_canvas_of_one_s_own():
    seen = []
    start = random_image(1, 10, 30)
    widgets.painter(random_image(1, 16, 24), start=start, generate=lambda painting: seen.append(painting) or painting)
    assert seen[0].shape == (1, 10, 30) and (seen[0] - start).abs().max() <= 0.5 / 255 + 1e-6   # 8 bits


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


@pytest.mark.parametrize("answer, message", [(lambda painting: None, "what generate returned is NoneType"),
                                             (lambda painting: painting / 0, "NaN or infinite"),
                                             (lambda: None, "TypeError")])
def test_whatever_a_reader_s_own_function_does_is_shown_as_text(answer, message):
    shown = painter(generate=answer)
    assert message in shown._message.value and shown.made is None and shown._repr_mimebundle_()


def test_a_function_that_writes_into_the_painting_spoils_nothing():
    shown = painter(generate=lambda painting: painting.zero_())
    assert shown.canvas.painting.any() and not shown.made.any()


def test_a_picture_of_one_s_own_is_cut_to_the_canvas():
    shown = painter()
    own = torch.zeros(3, 32, 96)   # twice as high as the canvas and four times as wide: the middle half remains
    own[:, :, 24:72] = 1
    upload(shown, "holiday.png", images.to_bytes(own))
    assert shown.canvas.painting.eq(1).all() and "holiday.png is the painting now" in shown._message.value
    assert "before you painted on" in shown.results[0].caption


def test_a_painter_of_something_else_is_refused():
    with pytest.raises(ValueError, match="generate is str 'psin'; expected a function"):
        painter(generate="psin")
    with pytest.raises(ValueError, match="start is a tensor of shape .*expected 3 channels"):
        painter(start=IMAGE[:1])
    with pytest.raises(ValueError, match="colors is 10"):
        painter(colors=10)


# --- eraser -----------------------------------------------------------------------------------------------------------

def several(image, mask):
    return torch.stack([torch.where(mask, value, image) for value in (0.0, 0.25, 0.5)])


def test_several_fills_are_shown_one_by_one():
    shown = widgets.eraser(IMAGE, fill=several)
    assert [one.caption for one in shown.results] == ["fill 1", "fill 2", "fill 3"]
    for picture, fill in zip(shown.results, several(IMAGE, shown.brush.mask)):
        assert torch.equal(decoded(picture.data), as_shown(fill))
    assert f"{int(shown.brush.mask.sum())} pixels filled, 3 times," in shown._told.value
    assert "fill 3" in shown.still().text and "fill 3" in shown.results[2].alt


def test_the_mean_of_several_fills_comes_last_where_it_was_asked_for():
    shown = widgets.eraser(IMAGE, fill=several, mean=True)
    assert len(shown.results) == 4 and shown.results[3].caption == "mean of the fills"
    assert torch.allclose(shown.results[3].image, torch.where(shown.brush.mask, 0.25, IMAGE))   # rounding of the mean
    assert len(widgets.eraser(IMAGE, fill=lambda image, mask: image, mean=True).results) == 1


def test_the_number_of_fills_may_change():
    counts = iter([3, 1, 2])
    shown = widgets.eraser(IMAGE, fill=lambda image, mask: image.expand(next(counts), *image.shape))
    assert len(shown.results) == 3
    shown.button.click()
    assert len(shown.results) == 1 and "pixels filled in" in shown.results[0].caption
    shown.button.click()
    assert len(shown.results) == 2


# --- TrainingMonitor --------------------------------------------------------------------------------------------------

def test_a_monitor_shows_several_samples_side_by_side():
    monitor = widgets.TrainingMonitor(3, alt="The loss falls.")
    samples = random_image(4, 3, 5, 6)
    monitor.update(0, loss=1.0, picture=samples)
    monitor.redraw()
    assert torch.equal(monitor._picture.image, images.tile(samples)) and monitor.still()
