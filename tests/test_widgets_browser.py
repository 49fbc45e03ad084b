"""The widgets as a reader meets them: JupyterLab and Notebook 7 in a headless browser, by mouse and by keyboard."""

import re

import nbformat
import torch
from tests.browser import (TOLD, active_cell, assert_follows_the_theme, assert_shows_its_focus, browser, choose_picture, drag,
                           needs_browser, notebook, notebook_7, press, press_on_slider, server, told, wait_for_change,
                           wait_until_told)

from labkit import widgets

pytestmark = needs_browser

CELLS = [TOLD + """
import torch
from labkit import runtime, widgets

noise = torch.rand(3, 64, 96, generator=runtime.generator(0))

def brighten(image, amount):
    if amount > 0.9:
        raise ValueError("amount is too large")
    return image * amount

""", """
widgets.Explorer(brighten, noise, alt="Noise.", caption="Brighter noise.", amount=(0.0, 1.0, 0.5), upload=True)
""", """
picture = widgets.Picture(noise, alt="Noise.", caption="Choose.")
display(picture, told(lambda: [picture.row, picture.column], picture))
""", """
compare = widgets.Compare(noise, 1 - noise, alt="Noise.")
display(compare, told(lambda: [compare.position], compare))
""", """
brush = widgets.Brush(noise, alt="Noise.", radius=3)
display(brush, told(lambda: [int(brush.mask.sum())], brush))
""", """
with widgets.TrainingMonitor(20, alt="It falls.", caption="A training.") as monitor:
    for step in range(20):
        monitor.update(step, loss=1 / (step + 1), picture=noise)
"""]
EXPLORER, PICTURE, COMPARE, BRUSH, MONITOR = range(1, 6)


def test_a_slider_moved_by_keyboard_redraws_the_picture(notebook):
    cell = notebook.cell(EXPLORER)
    image, handle = cell.locator("img.labkit-image"), cell.locator(".noUi-handle")
    before = image.get_attribute("src")
    handle.focus()
    active = active_cell(notebook)
    press(notebook, "ArrowRight")
    after = wait_for_change(image, before)
    press(notebook, "ArrowUp")   # must reach the slider, not JupyterLab
    wait_for_change(image, after)
    assert "amount = 0.52" in image.get_attribute("alt")
    assert active_cell(notebook) == active
    assert image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [96, 64]


def test_an_error_is_a_sentence_under_the_picture(notebook):
    cell = notebook.cell(EXPLORER)
    press_on_slider(notebook, cell, "End")
    cell.locator(".labkit-error", has_text="amount is too large").wait_for()
    cell.locator(".labkit-stale").wait_for()
    press_on_slider(notebook, cell, "Home")
    cell.locator(".labkit-note", has_text="computed in").wait_for()
    cell.locator(".labkit-stale").wait_for(state="detached")


def test_a_reader_s_own_file_is_shown(notebook, tmp_path):
    cell = notebook.cell(EXPLORER)
    choose_picture(cell, tmp_path, height=10, width=30)
    notebook.page.wait_for_function("image => image.naturalWidth === 30",
                                    arg=cell.locator("img.labkit-image").element_handle())
    assert "mine.png" in cell.locator("select").text_content()


def test_arrow_keys_move_the_crosshair_and_enter_chooses(notebook):
    cell = notebook.cell(PICTURE)
    frame = cell.locator(".labkit-frame")
    frame.focus()
    active = active_cell(notebook)
    press(notebook, "ArrowDown", "ArrowRight", "ArrowRight", "Shift+ArrowLeft")
    assert "row 33, column 40" in cell.locator(".labkit-status").text_content()
    assert cell.locator(".labkit-over").get_attribute("d") != ""
    assert told(cell) == "[None, None]"
    press(notebook, "Enter")
    wait_until_told(cell, "[33, 40]")
    press(notebook, *12 * ["Shift+ArrowUp"], "Enter")   # stops at the edge
    wait_until_told(cell, "[0, 40]")
    assert active_cell(notebook) == active


def test_the_focus_is_seen_and_the_picture_has_a_name(notebook):
    frame = notebook.cell(PICTURE).locator(".labkit-frame")
    assert_shows_its_focus(notebook, frame)
    assert frame.get_attribute("aria-label").startswith("Noise. Arrow keys")


def test_an_enlarged_picture_keeps_square_pixels_and_its_proportions(notebook):
    image = notebook.cell(PICTURE).locator("img.labkit-image")
    assert image.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    box = image.bounding_box()
    assert (box["width"], box["height"]) == (4 * 96, 4 * 64)


def test_the_divider_follows_mouse_and_arrow_keys(notebook):
    cell = notebook.cell(COMPARE)
    box = cell.locator(".labkit-frame").bounding_box()
    middle = box["y"] + box["height"] / 2
    drag(notebook, (box["x"] + box["width"] / 2, middle), (box["x"] + box["width"] / 4, middle))
    wait_until_told(cell, "[25.0]")
    press(notebook, "ArrowRight")
    wait_until_told(cell, "[26.0]")
    assert "74%" in cell.locator(".labkit-before").evaluate("node => node.style.clipPath")


def test_a_mask_is_painted_erased_and_cleared(notebook):
    cell = notebook.cell(BRUSH)
    frame = cell.locator(".labkit-frame")
    box = frame.bounding_box()
    stroke = [(box["x"] + x, box["y"] + 40) for x in (40, 120)]
    drag(notebook, *stroke)
    wait_until_told(cell, re.compile(r"\[\d{3}\]"))
    painted = int(told(cell).strip("[]"))
    assert 20 * 7 <= painted <= 27 * 7 + 20   # 20 pixels long (80 on the screen), 7 high, round ends
    cell.get_by_role("button", name="Erase").click()
    drag(notebook, *stroke)
    wait_until_told(cell, "[0]")
    cell.get_by_role("button", name="Erase").click()
    frame.focus()
    press(notebook, "Space", "ArrowRight", "Space", "ArrowRight")   # pen down, draw one pixel, pen up, move on
    wait_until_told(cell, "[44]")   # a disc of radius 3 has 37 pixels, one step adds 7
    cell.get_by_role("button", name="Clear").click()
    wait_until_told(cell, "[0]")


def test_a_finger_paints_too(notebook):
    cell = notebook.cell(BRUSH)
    box = cell.locator(".labkit-frame").bounding_box()
    device = notebook.page.context.new_cdp_session(notebook.page)
    for kind, x in (("touchStart", 62), ("touchMove", 66), ("touchEnd", None)):   # from pixel 15 to pixel 16
        points = [] if x is None else [{"x": box["x"] + x, "y": box["y"] + 62}]
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    wait_until_told(cell, "[44]")


def test_a_training_is_shown_to_its_end(notebook):
    cell = notebook.cell(MONITOR)
    cell.locator(".labkit-note", has_text="step 20 of 20, loss 0.05").wait_for()
    assert cell.locator("svg.labkit-chart polyline").count() == 1
    assert cell.locator("img.labkit-image").count() == 1


def test_a_dark_theme_changes_the_colour_of_the_words(notebook):
    assert_follows_the_theme(notebook, notebook.cell(PICTURE).locator(".labkit-caption"))


def test_a_stored_notebook_without_a_kernel_shows_the_still_picture(browser, server, notebook):
    data, _ = widgets.Picture(torch.zeros(1, 8, 8), alt="A black square.", caption="Black.")._repr_mimebundle_()
    data = {kind: value for kind, value in data.items() if kind.startswith("text/")}   # as the stored notebooks are
    output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("picture", outputs=[output])]),
                   server.folder / "stored.ipynb")
    page = server.open(browser, name="stored.ipynb").page
    picture = page.locator(".jp-OutputArea figure img[alt='A black square.']")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 8
    assert "Black." in page.locator(".jp-OutputArea figcaption").text_content()
    page.close()


def test_notebook_7_shows_the_widgets_too(browser, server):
    with notebook_7(browser, server, [CELLS[0], CELLS[EXPLORER]]) as notebook:
        cell = notebook.cell(1)
        image = cell.locator("img.labkit-image")
        image.wait_for()
        before = image.get_attribute("src")
        press_on_slider(notebook, cell, "ArrowRight")
        wait_for_change(image, before)
