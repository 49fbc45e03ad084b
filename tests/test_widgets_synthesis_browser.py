"""Films and paintings as a reader meets them: JupyterLab and Notebook 7 in a headless browser."""

from tests.browser import (active_cell, browser, choose_file, needs_browser, notebook, server, wait_for_change,
                           wait_for_style)

pytestmark = needs_browser

# Each widget in a cell of its own; `told` writes what Python knows of it to where the test can read it.
CELLS = ["""
import ipywidgets
import pathlib
import time
import torch
from labkit import runtime, widgets
from labkit.texture_optimization import Synthesis

noise = torch.rand(3, 32, 48, generator=runtime.generator(0))
frames = [noise[:, ::4, ::4]] * 2 + [noise[:, ::2, ::2], noise]

def told(widget, values):
    label = ipywidgets.Label(str(values()))
    label.add_class("told")
    widget.observe(lambda change: label.set_trait("value", str(values())))
    return label

def generate(painting):
    while pathlib.Path("hold").exists():   # the test decides how long it takes
        time.sleep(0.02)
    if painting.mean() > 0.9:
        raise ValueError("too bright")
    return 1 - painting

three = torch.zeros(3, 32, 48)   # dark blue, green and white beside one another
three[2, :, :16], three[1, :, 16:32], three[:, :, 32:] = 0.3, 0.6, 1
""", """
widgets.SynthesisPlayer(Synthesis(noise, [[3.0, 2.0], [1.5], [0.5]], frames), exemplar=noise, alt="Noise.")
""", """
painter = widgets.Painter(three, generate=generate, start=torch.zeros(3, 32, 48), alt="Blobs.")
canvas = painter.canvas
canvas.radius = 3
display(painter, told(canvas, lambda: [int((canvas.painting[k] > 0.25).sum()) for k in range(3)] + [canvas.color]))
""", """
def several(image, mask):
    return torch.stack([torch.where(mask, k / 3, image) for k in range(3)])

widgets.Eraser(noise, fill=several, mean=True)
"""]
PLAYER, PAINTER, ERASER = range(1, 4)


def wait_for(cell, text):
    cell.locator(".told", has_text=text).wait_for()


def blank(notebook):
    """The painter with nothing on its canvas and the first colour, dark blue, chosen."""
    cell = notebook.cell(PAINTER)
    cell.get_by_role("radio", name="colour 1 dark blue").click()
    cell.get_by_role("button", name="Cover all").click()
    wait_for(cell, "[0, 0, 1536, 0]")
    return cell


def test_a_film_is_moved_by_keyboard_and_says_where_it_is(notebook):
    cell, page = notebook.cell(PLAYER), notebook.page
    picture, curves = cell.locator("img.labkit-image").nth(0), cell.locator("svg.labkit-chart")
    handle = cell.locator(".noUi-handle")
    handle.focus()
    page.keyboard.press("Home")
    cell.locator(".labkit-caption", has_text="Level 1 of 3 (8×12 pixels), step 1 of 2: energy 3.").wait_for()
    before, active, box = picture.get_attribute("src"), active_cell(notebook), picture.bounding_box()
    page.keyboard.press("End")
    wait_for_change(picture, before)
    cell.locator(".labkit-caption", has_text="Level 3 of 3 (32×48 pixels), step 1 of 1: energy 0.5.").wait_for()
    assert "energy 0.5" in picture.get_attribute("alt") and "energy, now 0.5" in curves.get_attribute("aria-label")
    assert picture.bounding_box() == box and active_cell(notebook) == active
    assert picture.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"


def test_the_play_button_runs_to_the_last_frame(notebook):
    cell, page = notebook.cell(PLAYER), notebook.page
    cell.locator(".noUi-handle").focus()
    page.keyboard.press("Home")
    cell.locator(".labkit-caption", has_text="Level 1 of 3 (8×12 pixels), step 1 of 2").wait_for()
    cell.get_by_role("button", name="Play").focus()
    page.keyboard.press("Enter")
    cell.get_by_role("button", name="Pause").wait_for()
    cell.locator(".labkit-caption", has_text="Level 3 of 3").wait_for()
    cell.get_by_role("button", name="Play").wait_for()


def test_a_stroke_has_the_chosen_colour_and_can_be_taken_back(notebook):
    cell, page = blank(notebook), notebook.page
    cell.get_by_role("radio", name="colour 3 white").click()
    wait_for(cell, "[0, 0, 1536, 2]")
    box = cell.locator(".labkit-frame").nth(0).bounding_box()
    zoom = box["width"] / 48
    page.mouse.move(box["x"] + 10.5 * zoom, box["y"] + 10.5 * zoom)
    page.mouse.down()
    page.mouse.move(box["x"] + 20.5 * zoom, box["y"] + 10.5 * zoom, steps=3)
    page.mouse.up()
    wait_for(cell, "[107, 107, 1536, 2]")   # a disc of radius 3 has 37 pixels, and each of ten steps adds 7
    cell.get_by_role("button", name="Undo").click()
    wait_for(cell, "[0, 0, 1536, 2]")


def test_a_stroke_is_painted_by_keyboard_and_taken_back(notebook):
    cell, page = blank(notebook), notebook.page
    cell.locator(".labkit-frame").nth(0).focus()
    active = active_cell(notebook)
    for key in ("2", "Space", "ArrowRight", "ArrowRight", "Space", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    wait_for(cell, "[0, 51, 1485, 1]")   # a disc, and seven pixels for each of two steps
    cell.locator(".labkit-status", has_text="colour 2 green").wait_for()
    page.keyboard.press("3")
    page.keyboard.press("Space")
    wait_for(cell, "[37, 88, 1485, 2]")
    cell.locator(".labkit-status", has_text="colour 3 white; the pen is down").wait_for()
    page.keyboard.press("Control+z")
    wait_for(cell, "[0, 51, 1485, 2]")
    page.keyboard.press("Control+z")
    wait_for(cell, "[0, 0, 1536, 2]")
    page.keyboard.press("Space")
    assert active_cell(notebook) == active


def test_colours_are_a_group_with_names_that_arrow_keys_go_through(notebook):
    cell, page = blank(notebook), notebook.page
    colors = cell.get_by_role("radio")
    assert [color.get_attribute("aria-label") for color in colors.all()] == [
        "colour 1 dark blue", "colour 2 green", "colour 3 white"]
    assert [color.text_content() for color in colors.all()] == ["1", "2", "3"]
    colors.nth(0).focus()
    page.keyboard.press("ArrowLeft")
    wait_for(cell, "[0, 0, 1536, 2]")
    assert [color.get_attribute("aria-checked") for color in colors.all()] == ["false", "false", "true"]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "colour 3 white"
    frame = cell.locator(".labkit-frame").nth(0)
    assert frame.get_attribute("aria-label").startswith("Blobs. (the painting) Arrow keys")


def test_the_painting_is_generated_by_keyboard_with_a_busy_button(notebook, server):
    cell, page = blank(notebook), notebook.page
    result, button = cell.locator("img.labkit-image").nth(0), cell.locator("button.mod-primary")
    cell.locator(".labkit-caption", has_text="generated before you painted on").wait_for()
    before = result.get_attribute("src")
    (server.folder / "hold").touch()
    button.focus()
    page.keyboard.press("Enter")
    cell.locator("button.mod-primary[disabled]", has_text="Generating …").wait_for()
    (server.folder / "hold").unlink()
    cell.locator("button.mod-primary:not([disabled])", has_text="Generate").wait_for()
    wait_for_change(result, before)
    cell.locator(".labkit-caption", has_text="generated in").wait_for()


def test_an_error_is_a_sentence_under_the_pictures(notebook):
    cell = blank(notebook)
    cell.get_by_role("radio", name="colour 3 white").click()
    cell.get_by_role("button", name="Cover all").click()
    wait_for(cell, "[1536, 1536, 1536, 2]")
    cell.get_by_role("button", name="Generate").click()
    cell.locator(".labkit-error", has_text="too bright").wait_for()
    cell.locator(".labkit-stale").wait_for()


def test_a_reader_s_own_file_becomes_the_painting_and_can_be_taken_back(notebook, tmp_path):
    import torch

    from labkit import images

    images.save(torch.ones(1, 40, 60), tmp_path / "mine.png")
    cell = blank(notebook)
    choose_file(cell, "Try a picture of your own", tmp_path / "mine.png")
    cell.locator(".labkit-note", has_text="mine.png is the painting now").wait_for()
    wait_for(cell, "[1536, 1536, 1536, 0]")
    assert cell.locator("canvas").evaluate("canvas => [...canvas.getContext('2d').getImageData(5, 5, 1, 1).data]") == [
        255, 255, 255, 255]
    cell.get_by_role("button", name="Undo").click()
    wait_for(cell, "[0, 0, 1536, 0]")


def test_several_fills_stand_beside_the_picture_each_with_its_name(notebook):
    cell = notebook.cell(ERASER)
    pictures = cell.locator("img.labkit-image")
    cell.locator(".labkit-caption", has_text="pixels filled, 3 times").wait_for()
    names = [picture.get_attribute("alt").partition("(")[2] for picture in pictures.all()]
    assert names == ["to paint on)", "fill 1)", "fill 2)", "fill 3)", "mean of the fills)"]
    before = [picture.get_attribute("src") for picture in pictures.all()]
    cell.get_by_role("button", name="Clear").click()
    cell.locator(".labkit-status", has_text="0.0 % painted").wait_for()
    cell.locator(".labkit-frame").nth(0).focus()
    notebook.page.keyboard.press("Space")
    cell.get_by_role("button", name="Fill").click()
    for number in range(1, 5):
        wait_for_change(pictures.nth(number), before[number])


def test_a_dark_theme_changes_the_colour_of_the_words(notebook):
    words = notebook.cell(PAINTER).locator(".labkit-status").first
    light = words.evaluate("node => getComputedStyle(node).color")
    notebook.theme("JupyterLab Dark")
    wait_for_style(words, light)
    notebook.theme("JupyterLab Light")


def test_notebook_7_shows_the_painter_too(browser, server):
    notebook = server.open(browser, cells=[CELLS[0], CELLS[PAINTER]], name="seven.ipynb", app="notebook")
    notebook.run(timeout=240)   # kernels may have to be compiled
    cell = notebook.cell(1)
    cell.locator(".labkit-frame").nth(0).focus()
    for key in ("3", "Space"):
        notebook.page.keyboard.press(key)
    wait_for(cell, "[37, 37, 37, 2]")
    notebook.page.close()
