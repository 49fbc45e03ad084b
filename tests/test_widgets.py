"""The widgets without a browser: their values, what they say, and the still pictures they leave."""

import base64
import io
import re
import warnings

import ipywidgets
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from labkit import images, runtime, widgets
from labkit.widgets.explorer import control
from labkit.widgets.monitor import chart_svg
from labkit.widgets.still import VIEW
from labkit.widgets.uploads import read_upload


def picture(channels=3, height=12, width=20, seed=0):
    return torch.rand(channels, height, width, generator=runtime.generator(seed))


def decoded(data):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).float() / 255


def brighten(image, amount):
    if amount > 0.8:
        raise ValueError("amount is 0.9; expected at most 0.8 <b>")
    return image + amount


def uniform(image, row, column):
    return torch.full(image.shape[-2:], 1 / image.shape[-1] / image.shape[-2])


def point(image, row, column):
    weights = torch.zeros(image.shape[-2:])
    weights[row, column] = 1
    return weights


def explorer(**options):
    return widgets.explore(brighten, picture(), **{"alt": "Noise.", "caption": "Some noise.", "amount": (0.0, 1.0, 0.5),
                                                   **options})


def monitor_of_a_training(steps=10):
    monitor = widgets.TrainingMonitor(steps, alt="The loss falls.", caption="A training.")
    for step in range(steps):
        monitor.update(step, loss=1 / (step + 1), picture=picture())
    return monitor


ALL = {
    "Picture": lambda: widgets.Picture(picture(), alt="Noise.", caption="Some noise."),
    "Compare": lambda: widgets.Compare(picture(), picture(1), alt="Noise.", caption="Some noise."),
    "Brush": lambda: widgets.Brush(picture(1), alt="Noise.", caption="Some noise."),
    "explore": explorer,
    "explore a comparison": lambda: explorer(compare=True),
    "weights_explorer": lambda: widgets.weights_explorer(picture(), {"uniform": uniform}, alt="Noise.",
                                                         caption="Some noise.", radius=3),
    "TrainingMonitor": monitor_of_a_training,
}


# --- what remains without a kernel ----------------------------------------------------------------------------------

@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_every_widget_leaves_a_picture_with_words_beside_its_live_view(make):
    data, _ = make()._repr_mimebundle_()
    assert set(data) == {VIEW, "text/html", "text/plain"}
    tags = re.findall(r'<img src="data:image/(?:png|jpeg);base64,([^"]+)" alt="([^"]+)"', data["text/html"])
    assert tags and all(decoded(base64.b64decode(picture)).numel() and words for picture, words in tags)
    caption = "A training." if "A training." in data["text/plain"] else "Some noise."
    assert caption in data["text/html"] and caption in data["text/plain"]
    assert "<figcaption" in data["text/html"] and "VBox(" not in data["text/plain"]


@pytest.mark.parametrize("with_view", [True, False], ids=["with the widget's entry", "without it"])
def test_a_converted_notebook_shows_the_still_picture(with_view):
    from nbconvert import HTMLExporter

    data, _ = explorer()._repr_mimebundle_()
    if not with_view:
        del data[VIEW]
    output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("explore()", outputs=[output])])
    with warnings.catch_warnings():   # nbconvert's own: it is no business of the widgets
        warnings.simplefilter("ignore")
        page, _ = HTMLExporter().from_notebook_node(notebook)
    body = page[page.index("<body"):]
    assert 'alt="Noise. (amount = 0.5)"' in body and "Some noise. (amount = 0.5)" in body
    assert VIEW not in body


@pytest.mark.parametrize("make", [lambda alt: widgets.Picture(picture(), alt=alt),
                                  lambda alt: widgets.Compare(picture(), picture(), alt=alt),
                                  lambda alt: widgets.Brush(picture(), alt=alt),
                                  lambda alt: widgets.TrainingMonitor(3, alt=alt)])
def test_no_picture_goes_without_words(make):
    with pytest.raises(ValueError, match="alt is empty"):
        make(" ")


# --- Picture --------------------------------------------------------------------------------------------------------

def test_a_picture_is_sent_exactly_to_8_bits():
    image = picture(height=7)
    shown = widgets.Picture(image, alt="Noise.")
    assert torch.equal(decoded(shown.data), (image.permute(1, 2, 0) * 255).round() / 255)
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


# --- explore --------------------------------------------------------------------------------------------------------

def test_moving_a_slider_redraws_the_picture():
    shown = explorer()
    before = shown.picture.data
    shown.controls["amount"].value = 0.25
    assert shown.picture.data != before and torch.equal(shown.result, picture() + 0.25)
    expected = ((picture() + 0.25).clamp(max=1).permute(1, 2, 0) * 255).round() / 255
    assert torch.equal(decoded(shown.picture.data), expected)
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
    shown = widgets.explore(answer, torch.zeros(3, 5, 6), alt="Black.", s=(0, 3, 1))
    assert message in shown._message.value and shown.result is None
    assert shown._repr_mimebundle_()


def test_a_function_that_writes_into_its_input_spoils_nothing():
    image = picture()
    shown = widgets.explore(lambda image, amount: image.mul_(amount), image, alt="Noise.", amount=(0.0, 1.0, 0.5))
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
    shown = widgets.explore(brighten, {"first": picture(), "second": picture(1, seed=3)}, alt="Noise.",
                            amount=(0.0, 1.0, 0.0))
    assert shown._choice.layout.display == "flex"
    shown._choice.value = "second"
    assert torch.equal(shown.result, picture(1, seed=3))


def upload(shown, name, content):
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": 0}
    shown._upload.set_state({"value": [file]})


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


# --- weights_explorer -----------------------------------------------------------------------------------------------

def test_choosing_a_pixel_shows_the_weights_around_it():
    calls = []

    def counted(image, row, column):
        calls.append((row, column))
        return point(image, row, column)

    shown = widgets.weights_explorer(picture(), {"point": counted, "uniform": uniform}, alt="Noise.", radius=2,
                                     pixel=(5, 6))
    assert set(shown.maps) == {"point", "uniform"} and shown.largest["uniform"] == pytest.approx(1 / 240)
    shown.picture.set_state({"row": 8, "column": 9})
    assert calls == [(5, 6), (8, 9)]   # once for both coordinates
    yellow, dark = shown.maps["point"].image[:, 2, 2], shown.maps["point"].image[:, 0, 0]
    assert shown.maps["point"].size == (5, 5) and yellow.sum() > 1.5 > 1 > dark.sum()
    assert "largest 1" in shown.maps["point"].caption and "row 8, column 9" in shown.maps["point"].alt


def test_near_a_corner_the_part_that_is_shown_stays_inside_the_picture():
    shown = widgets.weights_explorer(picture(), {"point": point}, alt="Noise.", radius=3, pixel=(0, 19))
    weights = shown.maps["point"]
    assert weights.size == (7, 7) and (weights.row, weights.column) == (0, 6)
    assert weights.image[:, 0, 6].sum() > 1.5
    assert torch.equal(shown._near.image, picture()[:, :7, 13:])


def test_the_still_picture_outlines_the_part_whose_weights_are_shown():
    image = torch.full((1, 12, 20), 0.5)
    shown = widgets.weights_explorer(image, {"point": point}, alt="Grey.", radius=3, pixel=(6, 10))
    outlined = shown._outlined()[0]
    assert outlined[3, 7:14].eq(1).all() and outlined[4, 8:13].eq(0).all() and outlined[6, 10] == 0.5
    assert shown.picture.image.eq(0.5).all()


def test_weights_of_a_wrong_shape_are_reported_and_the_others_shown():
    shown = widgets.weights_explorer(picture(), {"bad": lambda image, row, column: image, "point": point}, alt="Noise.",
                                     radius=2)
    assert "bad returned a tensor of shape (3, 12, 20)" in shown._message.value
    assert shown.largest == {"point": 1.0}


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


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("values", [[], [1.0], [0.0, -1.0], [5.0, 5.0], [1e-6, 1e3], [0.31, 0.35],
                                    list(range(1, 3000))])
def test_a_chart_can_be_drawn_of_any_values(values, logarithmic):
    import xml.etree.ElementTree as xml

    chart = xml.fromstring(chart_svg({"a <b>": list(enumerate(values))}, steps=3000, logarithmic=logarithmic))
    lines = chart.findall("polyline")
    drawn = any(value > 0 for value in values) if logarithmic else bool(values)
    assert len(lines) == drawn
    for line in lines:
        points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        assert len(points) <= 501 and all(0 <= x <= 480 and 0 <= y <= 220 for x, y in points)


def test_widgets_know_nothing_of_the_chapters():
    import subprocess
    import sys

    code = "import sys, labkit.widgets; sys.exit('labkit.filtering' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
