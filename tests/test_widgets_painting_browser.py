"""Eraser and Painter as a reader meets them: JupyterLab and Notebook 7 in a headless browser."""

import re

from tests.browser import (
    TOLD,
    active_cell,
    assert_follows_the_theme,
    browser,
    choose_picture,
    drag,
    needs_browser,
    notebook,
    notebook_7,
    press,
    press_while_busy,
    server,
    wait_for_change,
    wait_until_told,
)

pytestmark = needs_browser

CELLS = [
    TOLD
    + """
import pathlib
import time
import torch
from labkit import runtime, widgets

image = torch.rand(3, 40, 60, generator=runtime.generator(0))

def wait():
    while pathlib.Path("hold").exists():   # the test decides how long it takes
        time.sleep(0.02)

def fill(image, mask):
    if mask[0, 0, 0]:
        raise ValueError("the corner must stay")
    wait()
    return torch.where(mask, 0.5, image)

def several(image, mask):
    return torch.stack([torch.where(mask, k / 3, image) for k in range(3)])

def generate(painting):
    wait()
    if painting.mean() > 0.9:
        raise ValueError("too bright")
    return 1 - painting

three = torch.zeros(3, 32, 48)   # dark blue, green and white beside one another
three[2, :, :16], three[1, :, 16:32], three[:, :, 32:] = 0.3, 0.6, 1
""",
    """
eraser = widgets.Eraser(image, fill=fill)
display(eraser, told(lambda: [int(eraser.brush.mask.sum())], eraser.brush))
""",
    """
widgets.Eraser(image, fill=several, mean=True)
""",
    """
painter = widgets.Painter(three, generate=generate, start=torch.zeros(3, 32, 48), alt="Blobs.")
canvas = painter.canvas
canvas.radius = 3
display(painter, told(lambda: [int((canvas.painting[k] > 0.25).sum()) for k in range(3)] + [canvas.color], canvas))
""",
]
ERASER, SEVERAL, PAINTER = range(1, 4)


def blank(notebook):
    """The painter with nothing on its canvas and the first colour, dark blue, chosen."""
    cell = notebook.cell(PAINTER)
    cell.get_by_role("radio", name="colour 1 dark blue").click()
    cell.get_by_role("button", name="Cover all").click()
    wait_until_told(cell, "[0, 0, 1536, 0]")
    return cell


# --- Eraser ---------------------------------------------------------------------------------------------------------


def test_a_painted_hole_is_filled_by_keyboard_with_a_busy_button(notebook, server):
    cell = notebook.cell(ERASER)
    cell.get_by_role("button", name="Clear").click()
    wait_until_told(cell, "[0]")
    result = cell.locator("img.labkit-image").nth(1)
    before = result.get_attribute("src")
    cell.locator(".labkit-frame").nth(0).focus()
    press(notebook, "Space", "ArrowRight", "ArrowRight")
    wait_until_told(cell, re.compile(r"\[[1-9]"))
    press_while_busy(notebook, cell, server.folder / "hold", busy="Filling …", idle="Fill")
    wait_for_change(result, before)
    cell.locator(".labkit-caption", has_text="pixels filled in").wait_for()


def test_an_error_of_the_filling_is_a_sentence_under_the_pictures(notebook):
    cell, page = notebook.cell(ERASER), notebook.page
    box = cell.locator(".labkit-frame").nth(0).bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + 2)
    cell.get_by_role("button", name="Fill").click()
    cell.locator(".labkit-error", has_text="the corner must stay").wait_for()
    cell.locator(".labkit-stale").wait_for()
    cell.get_by_role("button", name="Clear").click()
    cell.get_by_role("button", name="Fill").click()
    cell.locator(".labkit-note", has_text="Nothing is painted yet").wait_for()


def test_a_reader_s_own_file_can_be_painted_on(notebook, tmp_path):
    cell = notebook.cell(ERASER)
    choose_picture(cell, tmp_path, height=10, width=30)
    cell.locator(".labkit-note", has_text="mine.png: paint over").wait_for()
    picture = cell.locator("img.labkit-image").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 30


def test_several_fills_stand_beside_the_picture_each_with_its_name(notebook):
    cell = notebook.cell(SEVERAL)
    pictures = cell.locator("img.labkit-image")
    cell.locator(".labkit-caption", has_text="pixels filled, 3 times").wait_for()
    names = [picture.get_attribute("alt").partition("(")[2] for picture in pictures.all()]
    assert names == ["to paint on)", "fill 1)", "fill 2)", "fill 3)", "mean of the fills)"]
    before = [picture.get_attribute("src") for picture in pictures.all()]
    cell.get_by_role("button", name="Clear").click()
    cell.locator(".labkit-status", has_text="0.0 % painted").wait_for()
    cell.locator(".labkit-frame").nth(0).focus()
    press(notebook, "Space")
    cell.get_by_role("button", name="Fill").click()
    for number in range(1, 5):
        wait_for_change(pictures.nth(number), before[number])


# --- Painter --------------------------------------------------------------------------------------------------------


def test_a_stroke_has_the_chosen_colour_and_can_be_taken_back(notebook):
    cell = blank(notebook)
    cell.get_by_role("radio", name="colour 3 white").click()
    wait_until_told(cell, "[0, 0, 1536, 2]")
    box = cell.locator(".labkit-frame").nth(0).bounding_box()
    zoom = box["width"] / 48
    drag(notebook, *((box["x"] + x * zoom, box["y"] + 10.5 * zoom) for x in (10.5, 20.5)))
    wait_until_told(cell, "[107, 107, 1536, 2]")  # a disc of radius 3 has 37 pixels, and each of ten steps adds 7
    cell.get_by_role("button", name="Undo").click()
    wait_until_told(cell, "[0, 0, 1536, 2]")


def test_a_stroke_is_painted_by_keyboard_and_taken_back(notebook):
    cell = blank(notebook)
    cell.locator(".labkit-frame").nth(0).focus()
    active = active_cell(notebook)
    press(notebook, "2", "Space", "ArrowRight", "ArrowRight", "Space", "Shift+ArrowLeft")
    wait_until_told(cell, "[0, 51, 1485, 1]")  # a disc, and seven pixels for each of two steps
    cell.locator(".labkit-status", has_text="colour 2 green").wait_for()
    press(notebook, "3", "Space")
    wait_until_told(cell, "[37, 88, 1485, 2]")
    cell.locator(".labkit-status", has_text="colour 3 white; the pen is down").wait_for()
    press(notebook, "Control+z")
    wait_until_told(cell, "[0, 51, 1485, 2]")
    press(notebook, "Control+z")
    wait_until_told(cell, "[0, 0, 1536, 2]")
    press(notebook, "Space")
    assert active_cell(notebook) == active


def test_colours_are_a_group_with_names_that_arrow_keys_go_through(notebook):
    cell, page = blank(notebook), notebook.page
    colors = cell.get_by_role("radio")
    assert [color.get_attribute("aria-label") for color in colors.all()] == [
        "colour 1 dark blue",
        "colour 2 green",
        "colour 3 white",
    ]
    assert [color.text_content() for color in colors.all()] == ["1", "2", "3"]
    colors.nth(0).focus()
    press(notebook, "ArrowLeft")
    wait_until_told(cell, "[0, 0, 1536, 2]")
    assert [color.get_attribute("aria-checked") for color in colors.all()] == ["false", "false", "true"]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "colour 3 white"
    frame = cell.locator(".labkit-frame").nth(0)
    assert frame.get_attribute("aria-label").startswith("Blobs. (the painting) Arrow keys")


def test_the_painting_is_generated_by_keyboard_with_a_busy_button(notebook, server):
    cell = blank(notebook)
    result = cell.locator("img.labkit-image").nth(0)
    cell.locator(".labkit-caption", has_text="generated before you painted on").wait_for()
    before = result.get_attribute("src")
    press_while_busy(notebook, cell, server.folder / "hold", busy="Generating …", idle="Generate")
    wait_for_change(result, before)
    cell.locator(".labkit-caption", has_text="generated in").wait_for()


def test_an_error_of_the_generating_is_a_sentence_under_the_pictures(notebook):
    cell = blank(notebook)
    cell.get_by_role("radio", name="colour 3 white").click()
    cell.get_by_role("button", name="Cover all").click()
    wait_until_told(cell, "[1536, 1536, 1536, 2]")
    cell.get_by_role("button", name="Generate").click()
    cell.locator(".labkit-error", has_text="too bright").wait_for()
    cell.locator(".labkit-stale").wait_for()


def test_a_reader_s_own_file_becomes_the_painting_and_can_be_taken_back(notebook, tmp_path):
    cell = blank(notebook)
    choose_picture(cell, tmp_path, height=40, width=60, value=1.0)
    cell.locator(".labkit-note", has_text="mine.png is the painting now").wait_for()
    wait_until_told(cell, "[1536, 1536, 1536, 0]")
    assert cell.locator("canvas").evaluate("canvas => [...canvas.getContext('2d').getImageData(5, 5, 1, 1).data]") == [
        255,
        255,
        255,
        255,
    ]
    cell.get_by_role("button", name="Undo").click()
    wait_until_told(cell, "[0, 0, 1536, 0]")


# --- both -----------------------------------------------------------------------------------------------------------


def test_a_dark_theme_changes_the_colour_of_the_words(notebook):
    assert_follows_the_theme(notebook, notebook.cell(PAINTER).locator(".labkit-status").first)


def test_notebook_7_shows_the_painter_too(browser, server):
    with notebook_7(browser, server, [CELLS[0], CELLS[PAINTER]]) as notebook:
        cell = notebook.cell(1)
        cell.locator(".labkit-frame").nth(0).focus()
        press(notebook, "3", "Space")
        wait_until_told(cell, "[37, 37, 37, 2]")
