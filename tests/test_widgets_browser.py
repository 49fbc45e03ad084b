"""The widgets as a reader meets them: JupyterLab and Notebook 7 in a headless browser, by mouse and by keyboard."""

import re

from tests.browser import (active_cell, browser, choose_file, needs_browser, notebook, server, wait_for_change,
                           wait_for_style)

pytestmark = needs_browser

# Each widget in a cell of its own; `told` writes what Python knows of it to where the test can read it.
CELLS = ["""
import ipywidgets
import torch
from labkit import runtime, widgets

noise = torch.rand(3, 64, 96, generator=runtime.generator(0))

def brighten(image, amount):
    if amount > 0.9:
        raise ValueError("amount is too large")
    return image * amount

def bump(image, row, column):
    rows, columns = torch.arange(image.shape[-2])[:, None], torch.arange(image.shape[-1])
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18) * image[0]

def told(widget, values):
    label = ipywidgets.Label(str(values()))
    label.add_class("told")
    widget.observe(lambda change: label.set_trait("value", str(values())))
    return label
""", """
widgets.Explorer(brighten, noise, alt="Noise.", caption="Brighter noise.", amount=(0.0, 1.0, 0.5), upload=True)
""", """
weights = widgets.WeightsExplorer(noise, {"bump": bump}, alt="Noise.", radius=8, pixel=(20, 30))
display(weights, told(weights.picture, lambda: [weights.picture.row, weights.picture.column]))
""", """
picture = widgets.Picture(noise, alt="Noise.", caption="Choose.")
display(picture, told(picture, lambda: [picture.row, picture.column]))
""", """
compare = widgets.Compare(noise, 1 - noise, alt="Noise.")
display(compare, told(compare, lambda: [compare.position]))
""", """
brush = widgets.Brush(noise, alt="Noise.", radius=3)
display(brush, told(brush, lambda: [int(brush.mask.sum())]))
""", """
with widgets.TrainingMonitor(20, alt="It falls.", caption="A training.") as monitor:
    for step in range(20):
        monitor.update(step, loss=1 / (step + 1), picture=noise)
"""]
EXPLORE, WEIGHTS, PICTURE, COMPARE, BRUSH, MONITOR = range(1, 7)


def told(cell):
    return cell.locator(".told").text_content()


def test_a_slider_moved_by_keyboard_redraws_the_picture(notebook):
    cell = notebook.cell(EXPLORE)
    image, handle = cell.locator("img.labkit-image"), cell.locator(".noUi-handle")
    before = image.get_attribute("src")
    handle.focus()
    active = active_cell(notebook)
    notebook.page.keyboard.press("ArrowRight")
    after = wait_for_change(image, before)
    notebook.page.keyboard.press("ArrowUp")   # must reach the slider, not JupyterLab
    wait_for_change(image, after)
    assert "amount = 0.52" in image.get_attribute("alt")
    assert active_cell(notebook) == active
    assert image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [96, 64]


def test_an_error_is_a_sentence_under_the_picture(notebook):
    cell = notebook.cell(EXPLORE)
    cell.locator(".noUi-handle").focus()
    notebook.page.keyboard.press("End")
    cell.locator(".labkit-error", has_text="amount is too large").wait_for()
    cell.locator(".labkit-stale").wait_for()
    notebook.page.keyboard.press("Home")
    cell.locator(".labkit-note", has_text="computed in").wait_for()
    cell.locator(".labkit-stale").wait_for(state="detached")


def test_a_reader_s_own_file_is_shown(notebook, tmp_path):
    import torch

    from labkit import images

    images.save(torch.zeros(1, 10, 30), tmp_path / "mine.png")
    cell = notebook.cell(EXPLORE)
    choose_file(cell, "Try a picture of your own", tmp_path / "mine.png")
    notebook.page.wait_for_function("image => image.naturalWidth === 30",
                                    arg=cell.locator("img.labkit-image").element_handle())
    assert "mine.png" in cell.locator("select").text_content()


def test_a_clicked_pixel_changes_row_column_and_weights(notebook):
    cell = notebook.cell(WEIGHTS)
    chooser, weights = cell.locator(".labkit-frame").nth(0), cell.locator("img.labkit-image").nth(2)
    before = weights.get_attribute("src")
    box = chooser.bounding_box()
    chooser.click(position={"x": (50 + 0.5) * box["width"] / 96, "y": (10 + 0.5) * box["height"] / 64})
    wait_for_change(weights, before)
    cell.locator(".told", has_text="[10, 50]").wait_for()
    assert "row 10, column 50" in weights.get_attribute("alt")


def test_weights_follow_the_pointer_and_the_arrow_keys(notebook):
    cell = notebook.cell(WEIGHTS)
    chooser, mouse = cell.locator(".labkit-frame").nth(0), notebook.page.mouse
    box = chooser.bounding_box()
    mouse.move(box["x"] + 20, box["y"] + 20)
    mouse.down()
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
    cell.locator(".told", has_text="[32, 48]").wait_for()
    mouse.up()
    notebook.page.keyboard.press("ArrowDown")
    cell.locator(".told", has_text="[33, 48]").wait_for()


def test_arrow_keys_move_the_crosshair_and_enter_chooses(notebook):
    cell, keyboard = notebook.cell(PICTURE), notebook.page.keyboard
    frame = cell.locator(".labkit-frame")
    frame.focus()
    active = active_cell(notebook)
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Shift+ArrowLeft"):
        keyboard.press(key)
    assert "row 33, column 40" in cell.locator(".labkit-status").text_content()
    assert cell.locator(".labkit-over").get_attribute("d") != ""
    assert told(cell) == "[None, None]"
    keyboard.press("Enter")
    cell.locator(".told", has_text="[33, 40]").wait_for()
    for _ in range(12):
        keyboard.press("Shift+ArrowUp")   # stops at the edge
    keyboard.press("Enter")
    cell.locator(".told", has_text="[0, 40]").wait_for()
    assert active_cell(notebook) == active


def test_the_focus_is_seen_and_the_picture_has_a_name(notebook):
    frame = notebook.cell(PICTURE).locator(".labkit-frame")
    notebook.page.keyboard.press("Tab")   # the browser draws the ring once the keyboard is in use
    frame.focus()
    assert frame.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    assert frame.get_attribute("aria-label").startswith("Noise. Arrow keys")


def test_an_enlarged_picture_keeps_square_pixels_and_its_proportions(notebook):
    image = notebook.cell(PICTURE).locator("img.labkit-image")
    assert image.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    box = image.bounding_box()
    assert (box["width"], box["height"]) == (4 * 96, 4 * 64)


def test_the_divider_follows_mouse_and_arrow_keys(notebook):
    cell, page = notebook.cell(COMPARE), notebook.page
    box = cell.locator(".labkit-frame").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, middle, steps=5)
    page.mouse.up()
    cell.locator(".told", has_text="[25.0]").wait_for()
    page.keyboard.press("ArrowRight")
    cell.locator(".told", has_text="[26.0]").wait_for()
    assert "74%" in cell.locator(".labkit-before").evaluate("node => node.style.clipPath")


def test_a_mask_is_painted_erased_and_cleared(notebook):
    cell, page = notebook.cell(BRUSH), notebook.page
    frame = cell.locator(".labkit-frame")
    box = frame.bounding_box()

    def stroke():
        page.mouse.move(box["x"] + 40, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 120, box["y"] + 40, steps=3)
        page.mouse.up()

    stroke()
    cell.locator(".told", has_text=re.compile(r"\[\d{3}\]")).wait_for()
    painted = int(told(cell).strip("[]"))
    assert 20 * 7 <= painted <= 27 * 7 + 20   # 20 pixels long (80 on the screen), 7 high, round ends
    cell.get_by_role("button", name="Erase").click()
    stroke()
    cell.locator(".told", has_text="[0]").wait_for()
    cell.get_by_role("button", name="Erase").click()
    frame.focus()
    for key in ("Space", "ArrowRight", "Space", "ArrowRight"):   # pen down, draw one pixel, pen up, move on
        page.keyboard.press(key)
    cell.locator(".told", has_text="[44]").wait_for()   # a disc of radius 3 has 37 pixels, one step adds 7
    cell.get_by_role("button", name="Clear").click()
    cell.locator(".told", has_text="[0]").wait_for()


def test_a_finger_paints_too(notebook):
    cell = notebook.cell(BRUSH)
    box = cell.locator(".labkit-frame").bounding_box()
    device = notebook.page.context.new_cdp_session(notebook.page)
    for kind, x in (("touchStart", 62), ("touchMove", 66), ("touchEnd", None)):   # from pixel 15 to pixel 16
        points = [] if x is None else [{"x": box["x"] + x, "y": box["y"] + 62}]
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    cell.locator(".told", has_text="[44]").wait_for()


def test_a_training_is_shown_to_its_end(notebook):
    cell = notebook.cell(MONITOR)
    cell.locator(".labkit-note", has_text="step 20 of 20, loss 0.05").wait_for()
    assert cell.locator("svg.labkit-chart polyline").count() == 1
    assert cell.locator("img.labkit-image").count() == 1


def test_a_dark_theme_changes_the_colour_of_the_words(notebook):
    caption = notebook.cell(PICTURE).locator(".labkit-caption")
    light = caption.evaluate("node => getComputedStyle(node).color")
    notebook.theme("JupyterLab Dark")
    dark = wait_for_style(caption, light)
    notebook.theme("JupyterLab Light")
    assert light != dark


def test_a_stored_notebook_without_a_kernel_shows_the_still_picture(browser, server, notebook):
    import nbformat

    from labkit import widgets

    import torch

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
    cells = [CELLS[0], CELLS[EXPLORE]]
    notebook = server.open(browser, cells=cells, name="seven.ipynb", app="notebook")
    notebook.run()
    cell = notebook.cell(1)
    image = cell.locator("img.labkit-image")
    image.wait_for()
    before = image.get_attribute("src")
    cell.locator(".noUi-handle").focus()
    notebook.page.keyboard.press("ArrowRight")
    wait_for_change(image, before)
    notebook.page.close()
