"""The widgets of chapter 2 as a reader meets them: JupyterLab and Notebook 7 in a headless browser."""

import re

import pytest
from tests.browser import (active_cell, browser, choose_file, needs_browser, notebook, server, wait_for_change,
                           wait_for_style)

pytestmark = needs_browser

# Each widget in a cell of its own; `told` writes what Python knows of it to where the test can read it.
CELLS = ["""
import ipywidgets
import pathlib
import time
import torch
from labkit import patchmatch, runtime, widgets

image = torch.rand(3, 40, 60, generator=runtime.generator(0))
exemplar = torch.rand(3, 50, 48, generator=runtime.generator(1))
match = patchmatch.patchmatch(image, exemplar, patch_size=5, iterations=3, trace=True)

def told(widgets, values):
    label = ipywidgets.Label(str(values()))
    label.add_class("told")
    for widget in widgets:
        widget.observe(lambda change: label.set_trait("value", str(values())))
    return label

def fill(image, mask):
    if mask[0, 0, 0]:
        raise ValueError("the corner must stay")
    while pathlib.Path("hold").exists():   # the test decides how long the filling takes
        time.sleep(0.02)
    return torch.where(mask, 0.5, image)
""", """
widgets.FieldPlayer(match, image=image, exemplar=exemplar)
""", """
explorer = widgets.MatchExplorer(match, image=image, exemplar=exemplar, patch=(10, 20))
pictures = explorer.pictures
display(explorer, told([pictures], lambda: [pictures.row, pictures.column, pictures.fixed]),
        told([pictures, explorer.slider], lambda: [len(explorer.candidates), *pictures.answer["match"],
                                                   pictures.answer["row"], pictures.answer["column"],
                                                   explorer.slider.value]))
""", """
eraser = widgets.Eraser(image, fill=fill)
display(eraser, told([eraser.brush], lambda: [int(eraser.brush.mask.sum())]))
"""]
PLAYER, EXPLORER, ERASER = range(1, 4)


def wait_for(cell, text, which=0):
    cell.locator(".told").nth(which).filter(has_text=text).wait_for()


def point(cell, row, column):
    """Where a pixel of the explorer's image is on the screen."""
    box = cell.locator(".labkit-frame").nth(0).bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / 60, box["y"] + (row + 0.5) * box["height"] / 40


def release(notebook):
    """The explorer with its patch at (10, 20), not fixed, in the first iteration."""
    cell, page = notebook.cell(EXPLORER), notebook.page
    cell.locator(".noUi-handle").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    cell.locator(".labkit-frame").nth(0).focus()
    page.keyboard.press("Escape")
    page.mouse.move(*point(cell, 12, 22))
    wait_for(cell, "[10, 20, False]")
    wait_for(cell, ", 10, 20, 1]", which=1)
    cell.locator(".labkit-status", has_text="Patch at row 10, column 20; iteration 1.").wait_for()
    return cell


# --- field_player ---------------------------------------------------------------------------------------------------

def test_the_iteration_is_changed_by_keyboard(notebook):
    cell = notebook.cell(PLAYER)
    field, rebuilt = cell.locator("img.labkit-image").nth(0), cell.locator("img.labkit-image").nth(2)
    before = field.get_attribute("src"), rebuilt.get_attribute("src")
    cell.locator(".noUi-handle").focus()
    notebook.page.keyboard.press("End")
    wait_for_change(field, before[0])
    wait_for_change(rebuilt, before[1])
    cell.locator(".labkit-caption", has_text="Iteration 3: mean distance").wait_for()
    assert "Iteration 3: mean distance" in field.get_attribute("alt")
    notebook.page.keyboard.press("Home")
    cell.locator(".labkit-caption", has_text="Start: mean distance").wait_for()


def test_the_play_button_runs_to_the_last_iteration_and_can_be_stopped(notebook):
    cell, page = notebook.cell(PLAYER), notebook.page
    cell.locator(".noUi-handle").focus()
    page.keyboard.press("Home")
    cell.locator(".labkit-caption", has_text="Start: mean distance").wait_for()
    play, stop = (cell.get_by_role("button", name=name) for name in ("Play", "Pause"))
    play.focus()
    page.keyboard.press("Enter")
    stop.wait_for()
    cell.locator(".labkit-caption", has_text="Iteration 3: mean distance").wait_for()
    play.wait_for()
    words = play.evaluate("button => { button.click(); const first = button.textContent; button.click(); "
                          "return [first, button.textContent]; }")   # again, from the start, and stopped at once
    assert words == ["Pause", "Play"]
    cell.locator(".labkit-caption", has_text="Start: mean distance").wait_for()
    page.wait_for_timeout(1000)   # longer than an iteration stands
    assert cell.locator(".labkit-caption", has_text="Start: mean distance").count() == 1


# --- match_explorer -------------------------------------------------------------------------------------------------

def test_the_patch_follows_the_pointer_and_is_answered(notebook):
    cell = release(notebook)
    notebook.page.mouse.move(*point(cell, 25, 33))
    wait_for(cell, "[23, 31, False]")   # the patch of side 5 whose middle is there
    cell.locator(".labkit-status", has_text="Patch at row 23, column 31; iteration 1.").wait_for()
    notebook.page.mouse.move(*point(cell, 39, 59))
    wait_for(cell, "[35, 55, False]")   # the last patch


def test_a_click_fixes_the_patch_and_escape_lets_it_go(notebook):
    cell, page = release(notebook), notebook.page
    page.mouse.move(*point(cell, 25, 33))
    page.mouse.down()
    page.mouse.up()
    wait_for(cell, "[23, 31, True]")
    page.mouse.move(*point(cell, 5, 5))
    cell.locator(".labkit-hint", has_text="The patch is fixed").wait_for()
    page.keyboard.press("ArrowDown")   # by keyboard a fixed patch moves on
    wait_for(cell, "[24, 31, True]")
    page.keyboard.press("Escape")
    wait_for(cell, "[24, 31, False]")
    page.mouse.click(*point(cell, 8, 8))
    wait_for(cell, "[6, 6, True]")
    page.mouse.click(*point(cell, 10, 10))   # inside the fixed patch
    wait_for(cell, "[6, 6, False]")
    page.mouse.move(*point(cell, 6, 6))
    wait_for(cell, "[4, 4, False]")


def test_arrow_keys_move_the_patch_and_enter_fixes_it(notebook):
    cell, page = release(notebook), notebook.page
    active = active_cell(notebook)
    for key in ("ArrowDown", "ArrowRight", "Shift+ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    wait_for(cell, "[9, 31, False]")
    page.keyboard.press("Enter")
    wait_for(cell, "[9, 31, True]")
    page.keyboard.press("Enter")
    wait_for(cell, "[9, 31, False]")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowUp")   # stops at the edge
    wait_for(cell, "[0, 31, False]")
    assert active_cell(notebook) == active


def test_every_candidate_has_its_mark_and_the_start_has_none(notebook):
    cell = release(notebook)
    count = int(re.match(r"\[(\d+)", cell.locator(".told").nth(1).text_content())[1])
    marks = cell.locator(".labkit-pair > .labkit-overlay .labkit-mark")
    assert count > 3 and marks.count() == count
    assert cell.locator(".labkit-pair > .labkit-overlay .labkit-current.labkit-taken").count() == 1
    cell.locator(".noUi-handle").focus()
    notebook.page.keyboard.press("Home")
    cell.locator(".labkit-status", has_text="start.").wait_for()
    assert marks.count() == 0 and cell.locator(".labkit-legend").is_hidden()


def test_the_outlines_lie_around_the_patch_and_its_match(notebook):
    cell = release(notebook)
    row, column = (int(number) for number in re.findall(r"\d+", cell.locator(".told").nth(1).text_content())[1:3])
    outlines = cell.locator(".labkit-pair > .labkit-overlay .labkit-under")
    overlay = cell.locator(".labkit-pair > .labkit-overlay").bounding_box()
    for number, frame, place, size in ((0, 0, (10, 20), (40, 60)), (2, 1, (row, column), (50, 48))):   # 1 is the line
        box = cell.locator(".labkit-frame").nth(frame).bounding_box()
        x, y, width = outlines.nth(number).evaluate("node => { const b = node.getBBox(); return [b.x, b.y, b.width]; }")
        zoom = box["width"] / size[1]
        assert overlay["x"] + x == pytest.approx(box["x"] + place[1] * zoom, abs=0.5)   # half a pixel of the screen
        assert overlay["y"] + y == pytest.approx(box["y"] + place[0] * zoom, abs=0.5)
        assert width == pytest.approx(5 * zoom, abs=0.5)


def test_the_image_to_point_at_has_a_name_and_shows_its_focus(notebook):
    frame = notebook.cell(EXPLORER).locator(".labkit-frame").nth(0)
    notebook.page.keyboard.press("Tab")   # the browser draws the ring once the keyboard is in use
    frame.focus()
    assert frame.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    assert "Arrow keys move the patch" in frame.get_attribute("aria-label")
    assert notebook.cell(EXPLORER).locator("img").nth(1).get_attribute("alt").endswith("(exemplar)")


# --- eraser ---------------------------------------------------------------------------------------------------------

def test_a_painted_hole_is_filled_by_keyboard_with_a_busy_button(notebook, server):
    cell, page = notebook.cell(ERASER), notebook.page
    cell.get_by_role("button", name="Clear").click()
    wait_for(cell, "[0]")
    result, button = cell.locator("img.labkit-image").nth(1), cell.locator("button.mod-primary")
    before = result.get_attribute("src")
    cell.locator(".labkit-frame").nth(0).focus()
    for key in ("Space", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    wait_for(cell, re.compile(r"\[[1-9]"))
    (server.folder / "hold").touch()
    button.focus()
    page.keyboard.press("Enter")
    cell.locator("button.mod-primary[disabled]", has_text="Filling …").wait_for()
    (server.folder / "hold").unlink()
    cell.locator("button.mod-primary:not([disabled])", has_text="Fill").wait_for()
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
    import torch

    from labkit import images

    images.save(torch.zeros(1, 10, 30), tmp_path / "mine.png")
    cell = notebook.cell(ERASER)
    choose_file(cell, "Try a picture of your own", tmp_path / "mine.png")
    cell.locator(".labkit-note", has_text="mine.png: paint over").wait_for()
    picture = cell.locator("img.labkit-image").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 30


# --- everywhere -----------------------------------------------------------------------------------------------------

def test_a_dark_theme_changes_the_colour_of_the_words(notebook):
    words = notebook.cell(EXPLORER).locator(".labkit-status")
    light = words.evaluate("node => getComputedStyle(node).color")
    notebook.theme("JupyterLab Dark")
    wait_for_style(words, light)
    notebook.theme("JupyterLab Light")


def test_notebook_7_shows_the_explorer_too(browser, server):
    notebook = server.open(browser, cells=[CELLS[0], CELLS[EXPLORER]], name="seven.ipynb", app="notebook")
    notebook.run(timeout=240)   # the kernels may have to be compiled
    cell = notebook.cell(1)
    cell.locator(".labkit-frame").nth(0).focus()
    notebook.page.keyboard.press("ArrowDown")
    wait_for(cell, "[11, 20, False]")
    cell.locator(".labkit-status", has_text="Patch at row 11, column 20").wait_for()
    notebook.page.close()
