"""The widgets without a browser: their values, what they say, and the still pictures they leave."""

import importlib
import subprocess
import sys
import warnings
import xml.etree.ElementTree as xml
from pathlib import Path

import ipywidgets
import nbformat
import pytest
import torch
from tests.pictures import random_image
from tests.test_imports import graph
from tests.widgets import as_shown, assert_leaves_a_picture, decoded, upload

from labkit import chapters, images, widgets
from labkit.widgets.base import VIEW
from labkit.widgets.charts import Panel, chart_svg
from labkit.widgets.explorer import control
from labkit.widgets.uploads import read_upload

FOLDER = Path(widgets.__file__).parent
RISING = (1.0, 3.0, 2.0)


def picture(channels=3, height=12, width=20, seed=0):
    return random_image(channels, height, width, seed=seed)


def brighten(image, amount):
    if amount > 0.8:
        raise ValueError("amount is 0.9; expected at most 0.8 <b>")
    return image + amount


def explorer(**options):
    return widgets.Explorer(brighten, picture(), **{"alt": "Noise.", "caption": "Some noise.", "amount": (0.0, 1.0, 0.5),
                                                   **options})


def monitor_of_a_training(steps=10):
    monitor = widgets.TrainingMonitor(steps, alt="The loss falls.", caption="A training.")
    for step in range(steps):
        monitor.update(step, loss=1 / (step + 1), picture=picture())
    return monitor


def film(count=11, **options):
    frames = [(random_image(1, 6, 6, seed=k), random_image(3, 6, 6, seed=99 - k)) for k in range(count)]
    return widgets.Film(frames, **{"titles": ["x_t", "estimate"], "captions": [f"t = {k}" for k in range(count)],
                                   "alt": "Noise.", "caption": "Some noise.", **options})


ALL = {
    "Picture": lambda: widgets.Picture(picture(), alt="Noise.", caption="Some noise."),
    "Compare": lambda: widgets.Compare(picture(), picture(1), alt="Noise.", caption="Some noise."),
    "Brush": lambda: widgets.Brush(picture(1), alt="Noise.", caption="Some noise."),
    "Explorer": explorer,
    "Explorer of a comparison": lambda: explorer(compare=True),
    "Film": film,
    "TrainingMonitor": monitor_of_a_training,
}


# --- what widgets know ----------------------------------------------------------------------------------------------

def test_general_widgets_know_no_chapter_and_a_chapter_s_own_know_no_later_one():
    order = [chapter.topic for chapter in chapters.CHAPTERS]
    known = {}
    for module, found in graph().items():
        if module.startswith("labkit.widgets"):
            topics = {part for one in found for part in one.target.split(".")[1:]} & set(order)   # labkit.widgets.<topic>, too
            own = module.split(".")[-1]
            known[module] = topics
            assert topics <= set(order[:order.index(own) + 1] if own in order else ()), module
    assert known["labkit.widgets.patchmatch"] == {"patchmatch"} and not known["labkit.widgets.film"]


def test_widgets_are_imported_without_any_chapter_and_a_chapter_s_own_with_it():
    code = ("import sys, labkit.widgets\n"
            f"topics = {[f'labkit.{chapter.topic}' for chapter in chapters.CHAPTERS]}\n"
            "assert not [name for name in topics if name in sys.modules]\n"
            "labkit.widgets.FieldPlayer\n"
            "assert 'labkit.patchmatch' in sys.modules and 'labkit.texture_optimization' not in sys.modules")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_widget_of_a_chapter_is_offered():
    files = [chapter.topic for chapter in chapters.CHAPTERS if (FOLDER / f"{chapter.topic}.py").is_file()]
    assert "filtering" in files
    for topic in files:
        assert set(importlib.import_module(f"labkit.widgets.{topic}").__all__) <= set(widgets.__all__)


def test_everything_that_is_named_can_be_had_and_is_a_widget():
    assert all(issubclass(getattr(widgets, name), ipywidgets.DOMWidget) for name in widgets.__all__)
    assert dir(widgets) == list(widgets.__all__)
    with pytest.raises(AttributeError, match="no 'explore'; it has Brush"):
        _ = widgets.explore   # what there is has one name: the class


# --- what remains without a kernel ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ALL)
def test_every_widget_leaves_a_picture_with_words_beside_its_live_view(name):
    monitor = name == "TrainingMonitor"
    assert_leaves_a_picture(ALL[name](), alt="The loss falls." if monitor else "Noise.",
                            caption="A training." if monitor else "Some noise.")


@pytest.mark.parametrize("with_view", [True, False], ids=["with the widget's entry", "without it"])
def test_a_converted_notebook_shows_the_still_picture(with_view):
    from nbconvert import HTMLExporter

    data, _ = explorer()._repr_mimebundle_()
    if not with_view:
        del data[VIEW]
    output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("Explorer()", outputs=[output])])
    with warnings.catch_warnings():   # nbconvert's own: it is no business of the widgets
        warnings.simplefilter("ignore")
        page, _ = HTMLExporter().from_notebook_node(notebook)
    body = page[page.index("<body"):]
    assert 'alt="Noise. (amount = 0.5)"' in body and "Some noise. (amount = 0.5)" in body
    assert VIEW not in body


@pytest.mark.parametrize("make", [lambda alt: widgets.Picture(picture(), alt=alt),
                                  lambda alt: widgets.Compare(picture(), picture(), alt=alt),
                                  lambda alt: widgets.Brush(picture(), alt=alt),
                                  lambda alt: film(alt=alt),
                                  lambda alt: widgets.TrainingMonitor(3, alt=alt)])
def test_no_picture_goes_without_words(make):
    with pytest.raises(ValueError, match="alt is empty"):
        make(" ")


# --- Picture --------------------------------------------------------------------------------------------------------

def test_a_picture_is_sent_exactly_to_8_bits():
    image = picture(height=7)
    shown = widgets.Picture(image, alt="Noise.")
    assert torch.equal(decoded(shown.data), as_shown(image))
    assert shown.size == (7, 20) and shown.scale == 16   # 20 pixels reach 320 at 16 screen pixels each


def test_a_chosen_pixel_is_complete_when_observers_hear_of_it():
    shown, heard = widgets.Picture(picture(), alt="Noise."), []
    shown.observe(lambda change: heard.append((shown.row, shown.column)), names=["row", "column"])
    shown.set_state({"row": 3, "column": 4})   # what a click in the browser does
    assert heard == [(3, 4), (3, 4)]


def test_another_picture_keeps_the_chosen_pixel_only_at_the_same_size():
    shown = widgets.Picture(picture(), alt="Noise.")
    shown.row, shown.column = 3, 4
    before = shown.data
    shown.show(picture(seed=1), caption="Other noise.")
    assert shown.data != before and (shown.row, shown.column, shown.caption) == (3, 4, "Other noise.")
    shown.show(picture(height=2))
    assert (shown.row, shown.column, shown.size) == (None, None, (2, 20))


@pytest.mark.parametrize("image", [torch.zeros(2, 4, 4), torch.zeros(4, 4), torch.zeros(1, 3, 4, 4), "cat"])
def test_a_picture_of_something_else_is_refused(image):
    with pytest.raises(ValueError, match="expected"):
        widgets.Picture(image, alt="Noise.")


# --- Compare and Brush ----------------------------------------------------------------------------------------------

def test_a_comparison_keeps_its_divider_when_a_picture_changes():
    compare = widgets.Compare(picture(), picture(seed=1), alt="Noise.", labels=("noisy", "clean"))
    compare.set_state({"position": 20})
    left, right = compare.before, compare.after
    compare.show(picture(seed=2))
    assert compare.position == 20 and compare.before == left and compare.after != right
    assert "noisy" in compare.still().html and "clean" in compare.still().html


def test_a_mask_goes_into_the_brush_and_comes_back():
    mask = picture(1) > 0.5
    brush = widgets.Brush(picture(), alt="Noise.", mask=mask)
    assert brush.mask.dtype == torch.bool and torch.equal(brush.mask, mask)
    brush.set_state({"bits": memoryview(bytes(12 * 20))})   # the form in which the browser's bytes arrive
    assert not brush.mask.any()
    with pytest.raises(ValueError, match=r"boolean tensor \(1, 12, 20\)"):
        brush.mask = mask[:, :5]


def test_the_still_picture_of_a_brush_shows_what_is_painted():
    brush = widgets.Brush(torch.zeros(1, 12, 20), alt="Black.")
    empty = brush.still().html
    brush.mask = torch.ones(1, 12, 20, dtype=torch.bool)
    assert brush.still().html != empty


# --- Explorer -------------------------------------------------------------------------------------------------------

def test_moving_a_slider_redraws_the_picture():
    shown = explorer()
    before = shown.picture.data
    shown.controls["amount"].value = 0.25
    assert shown.picture.data != before and torch.equal(shown.result, picture() + 0.25)
    assert torch.equal(decoded(shown.picture.data), as_shown(picture() + 0.25))
    assert shown.picture.alt == "Noise. (amount = 0.25)"


def test_a_comparison_follows_the_slider_on_its_right_side_only():
    shown = explorer(compare=True)
    before, after = shown.picture.before, shown.picture.after
    shown.controls["amount"].value = 0.25
    assert shown.picture.before == before and shown.picture.after != after


def test_an_error_of_the_function_is_shown_as_text_and_goes_away():
    shown = explorer()
    before = shown.picture.data
    shown.controls["amount"].value = 0.9
    assert "expected at most 0.8 &lt;b&gt;" in shown._message.value and "Traceback" not in shown._message.value
    assert shown.picture.data == before and isinstance(shown.error, ValueError)
    assert "expected at most 0.8 &lt;b&gt;" in shown.still().html
    shown.controls["amount"].value = 0.1
    assert shown.error is None and "expected" not in shown._message.value


@pytest.mark.parametrize("answer, message", [(lambda image, s: None, "result is NoneType"),
                                             (lambda image, s: image[0], "result is a tensor of shape"),
                                             (lambda image, s: image / 0, "NaN or infinite"),
                                             (lambda image, s: image @ image[0], "RuntimeError"),
                                             (lambda image: image, "TypeError")])
def test_whatever_a_reader_s_own_function_does_is_shown_as_text(answer, message):
    shown = widgets.Explorer(answer, torch.zeros(3, 5, 6), alt="Black.", s=(0, 3, 1))
    assert message in shown._message.value and shown.result is None
    assert shown._repr_mimebundle_()


def test_a_function_that_writes_into_its_input_spoils_nothing():
    image = picture()
    shown = widgets.Explorer(lambda image, amount: image.mul_(amount), image, alt="Noise.", amount=(0.0, 1.0, 0.5))
    shown.controls["amount"].value = 1.0
    assert torch.equal(shown.result, picture()) and torch.equal(image, picture())


def test_the_forms_of_a_slider():
    whole = control((1, 9, 3), name="radius")
    real = control((0.2, 8.0, 2.0), name="sigma", label="σ (pixels)")
    wide = control((1e-4, 1.0, 0.01), name="eps")
    stepped = control((0.0, 1.0, 0.5, 0.25), name="share")
    word = control(["zero", "reflect"], name="border")
    assert (type(whole), whole.min, whole.max, whole.value) == (ipywidgets.IntSlider, 1, 9, 3)
    assert (type(real), real.min, real.max, real.value, real.step) == (ipywidgets.FloatSlider, 0.2, 8.0, 2.0, 0.05)
    assert (real.description, real.readout_format) == ("σ (pixels)", ".2f")
    assert (type(wide), wide.min, wide.max, wide.value) == (ipywidgets.FloatLogSlider, -4, 0, 0.01)
    assert (type(stepped), stepped.step) == (ipywidgets.FloatSlider, 0.25)
    assert (type(word), word.value) == (ipywidgets.Dropdown, "zero")
    assert type(control(False, name="fast")) is ipywidgets.Checkbox
    ready = ipywidgets.IntSlider(description="mine")
    assert control(ready, name="r") is ready and ready.description == "mine"


@pytest.mark.parametrize("spec", [(1, 2), (1, 2, 3), (2, 1, 1.5), (1, 1, 1), ("a", 2, 1), [], "word", 3,
                                  (0.0, 1.0, 0.5, 0.0), (0, float("nan"), 1)])
def test_a_slider_that_cannot_be_is_refused_by_name(spec):
    with pytest.raises(ValueError, match="sigma.*expected"):
        explorer(sigma=spec)


def test_a_label_for_no_slider_is_refused():
    with pytest.raises(ValueError, match="labels names sgima"):
        explorer(labels={"sgima": "σ"})


def test_several_pictures_can_be_chosen_by_name():
    shown = widgets.Explorer(brighten, {"first": picture(), "second": picture(1, seed=3)}, alt="Noise.",
                            amount=(0.0, 1.0, 0.0))
    assert shown._choice.layout.display == "flex"
    shown._choice.value = "second"
    assert torch.equal(shown.result, picture(1, seed=3))


def test_a_picture_of_one_s_own_is_worked_on_and_reduced():
    shown = explorer(upload=True)
    assert shown._choice.layout.display == "none"
    upload(shown, "holiday.png", images.to_bytes(picture(height=200, width=1024)))
    assert shown.result.shape == (3, 100, 512) and shown.picture.size == (100, 512)
    assert shown._choice.value == "holiday.png (yours)" and shown._choice.layout.display == "flex"
    upload(shown, "holiday.png", images.to_bytes(picture(height=30, width=40)))   # another file of the same name
    assert shown.result.shape == (3, 30, 40)
    shown._choice.value = shown._choice.options[0]
    assert shown.result.shape == (3, 12, 20)


def test_a_file_that_is_no_picture_is_named_in_the_message():
    shown = explorer(upload=True)
    upload(shown, "notes.txt", b"not a picture")
    assert "notes.txt is not a picture" in shown._message.value
    assert shown.image.shape == (3, 12, 20)
    with pytest.raises(ValueError, match="^holiday.png "):
        read_upload("holiday.png", images.to_bytes(picture())[:60])


# --- TrainingMonitor ------------------------------------------------------------------------------------------------

def test_a_monitor_keeps_every_value_and_shows_the_last_picture():
    monitor = monitor_of_a_training(5)
    monitor.update(5, loss=float("nan"))
    assert monitor.curves == {"loss": [(0, 1.0), (1, 1 / 2), (2, 1 / 3), (3, 1 / 4), (4, 1 / 5)]}
    monitor.redraw()
    assert "loss" in monitor._chart.value and "step 5 of 5, loss 0.2" in monitor._message.value
    assert monitor._picture.size == (12, 20)


def test_a_monitor_shows_its_last_state_however_the_training_ends(monkeypatch):
    shown = []

    class Handle:
        def update(self, monitor):
            shown.append(monitor.still().text)

    monkeypatch.setattr("IPython.display.display", lambda monitor, display_id: Handle())
    with pytest.raises(KeyboardInterrupt), widgets.TrainingMonitor(100, alt="The loss falls.") as monitor:
        monitor.update(0, loss=3.0)
        monitor.update(1, loss=2.0)
        raise KeyboardInterrupt
    assert len(shown) == 1 and "step 2 of 100, loss 2" in shown[0]


def test_a_monitor_shows_several_samples_side_by_side():
    monitor = widgets.TrainingMonitor(3, alt="The loss falls.")
    samples = random_image(4, 3, 5, 6)
    monitor.update(0, loss=1.0, picture=samples)
    monitor.redraw()
    assert torch.equal(monitor._picture.image, images.tile(samples)) and monitor.still()


# --- charts ---------------------------------------------------------------------------------------------------------

def coordinates(line):
    """The points of a polyline."""
    return [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("values", [[], [1.0], [0.0, -1.0], [5.0, 5.0], [1e-6, 1e3], [0.31, 0.35],
                                    list(range(1, 3000))])
def test_a_chart_can_be_drawn_of_any_values(values, logarithmic):
    panel = Panel({"a <b>": list(enumerate(values))}, 0, 3000)
    chart = xml.fromstring(chart_svg([panel], label="a <b>", logarithmic=logarithmic))
    assert chart.get("aria-label") == "a <b>"
    lines = chart.findall("polyline")
    drawn = any(value > 0 for value in values) if logarithmic else bool(values)
    assert len(lines) == drawn
    for line in lines:
        points = coordinates(line)
        assert len(points) <= 501 and all(0 <= x <= 480 and 0 <= y <= 220 for x, y in points)


def test_curves_have_a_colour_a_dash_and_their_name_at_their_end():
    curves = {"first": [(0, 0.0), (9, 9.0)], "second": [(0, 4.0), (9, 4.0)], "third": [(0, 8.0), (9, 4.1)]}
    chart = xml.fromstring(chart_svg([Panel(curves, 0, 9)], label="Three."))
    lines, dots = chart.findall("polyline"), chart.findall("circle")
    assert len({line.get("stroke") for line in lines}) == len({line.get("stroke-dasharray") for line in lines}) == 3
    assert [(float(dot.get("cx")), float(dot.get("cy"))) for dot in dots] == [coordinates(line)[-1] for line in lines]
    names = {text.text: float(text.get("y")) for text in chart.findall("text") if text.text in curves}
    assert names["first"] < names["third"] < names["second"]   # as the curves end, from the highest to the lowest
    assert names["second"] - names["third"] == pytest.approx(14)   # one under the other where both end together
    with pytest.raises(ValueError, match="no panels"):
        chart_svg([], label="Nothing.")


def test_each_curve_has_its_own_scale_and_the_dot_is_at_the_frame():
    curves = [[600.0, -5.0, 0.0], [2.0, 2.0], [1e-9]]
    panels = [Panel({"": list(enumerate(curve, start))}, start - 0.5, start + len(curve) - 0.5)
              for curve, start in zip(curves, (0, 3, 5))]
    points = [coordinates(line) for line in xml.fromstring(chart_svg(panels, label="a", axes=False)).findall("polyline")]
    assert [len(one) for one in points] == [3, 2, 1]
    assert min(y for _, y in points[0]) == 5.5 and max(y for _, y in points[0]) == 49.5   # a tenth from both edges of 55
    assert all(0 < x < 560 for one in points for x, _ in one)
    for number, place in enumerate(sum(points, [])):
        dots = xml.fromstring(chart_svg(panels, label="a", axes=False, at=number)).findall("circle")
        assert [(float(dot.get("cx")), float(dot.get("cy"))) for dot in dots] == [place]


def test_a_film_with_curves_says_the_value_of_its_frame():
    shown = film(3, curves=[RISING[:2], [], RISING[2:]], measure="a < b")
    shown.slider.value = 1
    chart = shown._curve.value
    assert 'aria-label="a &lt; b, now 3"' in chart and chart.count("<polyline") == 2 and "on its own scale" in chart


# --- Film -----------------------------------------------------------------------------------------------------------

def test_a_film_shows_its_pictures_side_by_side_with_their_caption():
    shown = film()
    shown.slider.value = 7
    for picture, seed, channels, title in zip(shown.pictures, (7, 92), (1, 3), ("x_t", "estimate")):
        assert torch.equal(decoded(picture.data), as_shown(random_image(channels, 6, 6, seed=seed)))
        assert picture.caption == title and picture.alt == f"Noise. ({title}) t = 7"
    assert "t = 7" in shown._told.value


def test_the_still_picture_of_a_film_has_five_frames_of_each_picture():
    text = film().still().text
    assert [f"x_t, t = {k} 6×6" in text and f"estimate, t = {k} 6×6" in text for k in range(11)] == [
        k in (0, 2, 5, 8, 10) for k in range(11)]
    text = film(still_frames={3: "early", 9: "late"}).still().text
    assert text.count("x_t") == 2 and "x_t, early 6×6, x_t, late 6×6" in text
    assert "frame 2 6×6" in film(3, titles=["a", "b"], captions=["c" * 80] * 3).still().text   # no title so long


@pytest.mark.parametrize("options, message", [({"captions": ["a"]}, "11 frames and 1 captions"),
                                              ({"titles": ["a"]}, "frame 0 has 2 pictures and there are 1 titles"),
                                              ({"curves": [[1.0] * 10]}, "10 values and there are 11 frames"),
                                              ({"curves": [[float("nan")] * 11]}, "a value of curves is nan"),
                                              ({"interval": 0}, "interval is 0"),
                                              ({"still_frames": {11: "end"}}, "a number in still_frames is 11"),
                                              ({"beside": {"truth": torch.zeros(2, 3, 3)}}, "truth is a tensor")])
def test_a_film_of_something_else_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        film(**options)
