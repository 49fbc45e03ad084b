"""The widgets of chapter 2 as a reader meets them: JupyterLab and Notebook 7 in a headless browser."""

import re

import pytest
from tests.browser import (TOLD, active_cell, assert_follows_the_theme, assert_shows_its_focus, browser, needs_browser, notebook,
                           notebook_7, press, press_on_slider, server, told, wait_for_change, wait_until_told)

pytestmark = needs_browser

CELLS = [TOLD + """
import torch
from labkit import patchmatch, runtime, widgets

image = torch.rand(3, 40, 60, generator=runtime.generator(0))
exemplar = torch.rand(3, 50, 48, generator=runtime.generator(1))
match = patchmatch.patchmatch(image, exemplar, patch_size=5, iterations=3, trace=True)
""", """
widgets.FieldPlayer(match, image=image, exemplar=exemplar)
""", """
explorer = widgets.MatchExplorer(match, image=image, exemplar=exemplar, patch=(10, 20))
pictures = explorer.pictures
display(explorer, told(lambda: [pictures.row, pictures.column, pictures.fixed], pictures),
        told(lambda: [len(explorer.candidates), *pictures.answer["match"], pictures.answer["row"],
                      pictures.answer["column"], explorer.slider.value], pictures, explorer.slider))
"""]
PLAYER, EXPLORER = 1, 2


def point(cell, row, column):
    """Where a pixel of the explorer's image is on the screen."""
    box = cell.locator(".labkit-frame").nth(0).bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / 60, box["y"] + (row + 0.5) * box["height"] / 40


def release(notebook):
    """The explorer with its patch at (10, 20), not fixed, in the first iteration."""
    cell, page = notebook.cell(EXPLORER), notebook.page
    press_on_slider(notebook, cell, "Home", "ArrowRight")
    cell.locator(".labkit-frame").nth(0).focus()
    press(notebook, "Escape")
    page.mouse.move(*point(cell, 12, 22))
    wait_until_told(cell, "[10, 20, False]")
    wait_until_told(cell, ", 10, 20, 1]", which=1)
    cell.locator(".labkit-status", has_text="Patch at row 10, column 20; iteration 1.").wait_for()
    return cell


# --- FieldPlayer ----------------------------------------------------------------------------------------------------

def test_the_iteration_is_changed_by_keyboard(notebook):
    cell = notebook.cell(PLAYER)
    field, rebuilt = cell.locator("img.labkit-image").nth(0), cell.locator("img.labkit-image").nth(2)
    before = field.get_attribute("src"), rebuilt.get_attribute("src")
    press_on_slider(notebook, cell, "End")
    wait_for_change(field, before[0])
    wait_for_change(rebuilt, before[1])
    cell.locator(".labkit-caption", has_text="Iteration 3: mean distance").wait_for()
    assert "Iteration 3: mean distance" in field.get_attribute("alt")
    press(notebook, "Home")
    cell.locator(".labkit-caption", has_text="Start: mean distance").wait_for()


def test_the_play_button_runs_to_the_last_iteration_and_can_be_stopped(notebook):
    cell, page = notebook.cell(PLAYER), notebook.page
    press_on_slider(notebook, cell, "Home")
    cell.locator(".labkit-caption", has_text="Start: mean distance").wait_for()
    play, stop = (cell.get_by_role("button", name=name) for name in ("Play", "Pause"))
    play.focus()
    press(notebook, "Enter")
    stop.wait_for()
    cell.locator(".labkit-caption", has_text="Iteration 3: mean distance").wait_for()
    play.wait_for()
    words = play.evaluate("button => { button.click(); const first = button.textContent; button.click(); "
                          "return [first, button.textContent]; }")   # again, from the start, and stopped at once
    assert words == ["Pause", "Play"]
    cell.locator(".labkit-caption", has_text="Start: mean distance").wait_for()
    page.wait_for_timeout(1000)   # longer than an iteration stands
    assert cell.locator(".labkit-caption", has_text="Start: mean distance").count() == 1


# --- MatchExplorer --------------------------------------------------------------------------------------------------

def test_the_patch_follows_the_pointer_and_is_answered(notebook):
    cell = release(notebook)
    notebook.page.mouse.move(*point(cell, 25, 33))
    wait_until_told(cell, "[23, 31, False]")   # the patch of side 5 whose middle is there
    cell.locator(".labkit-status", has_text="Patch at row 23, column 31; iteration 1.").wait_for()
    notebook.page.mouse.move(*point(cell, 39, 59))
    wait_until_told(cell, "[35, 55, False]")   # the last patch


def test_a_click_fixes_the_patch_and_escape_lets_it_go(notebook):
    cell, page = release(notebook), notebook.page
    page.mouse.move(*point(cell, 25, 33))
    page.mouse.down()
    page.mouse.up()
    wait_until_told(cell, "[23, 31, True]")
    page.mouse.move(*point(cell, 5, 5))
    cell.locator(".labkit-hint", has_text="The patch is fixed").wait_for()
    press(notebook, "ArrowDown")   # by keyboard a fixed patch moves on
    wait_until_told(cell, "[24, 31, True]")
    press(notebook, "Escape")
    wait_until_told(cell, "[24, 31, False]")
    page.mouse.click(*point(cell, 8, 8))
    wait_until_told(cell, "[6, 6, True]")
    page.mouse.click(*point(cell, 10, 10))   # inside the fixed patch
    wait_until_told(cell, "[6, 6, False]")
    page.mouse.move(*point(cell, 6, 6))
    wait_until_told(cell, "[4, 4, False]")


def test_arrow_keys_move_the_patch_and_enter_fixes_it(notebook):
    cell = release(notebook)
    active = active_cell(notebook)
    press(notebook, "ArrowDown", "ArrowRight", "Shift+ArrowRight", "ArrowUp", "ArrowUp")
    wait_until_told(cell, "[9, 31, False]")
    press(notebook, "Enter")
    wait_until_told(cell, "[9, 31, True]")
    press(notebook, "Enter")
    wait_until_told(cell, "[9, 31, False]")
    press(notebook, *5 * ["Shift+ArrowUp"])   # stops at the edge
    wait_until_told(cell, "[0, 31, False]")
    assert active_cell(notebook) == active


def test_every_candidate_has_its_mark_and_the_start_has_none(notebook):
    cell = release(notebook)
    count = int(re.match(r"\[(\d+)", told(cell, which=1))[1])
    marks = cell.locator(".labkit-pair > .labkit-overlay .labkit-mark")
    assert count > 3 and marks.count() == count
    assert cell.locator(".labkit-pair > .labkit-overlay .labkit-current.labkit-taken").count() == 1
    press_on_slider(notebook, cell, "Home")
    cell.locator(".labkit-status", has_text="start.").wait_for()
    assert marks.count() == 0 and cell.locator(".labkit-legend").is_hidden()


def test_the_outlines_lie_around_the_patch_and_its_match(notebook):
    cell = release(notebook)
    row, column = (int(number) for number in re.findall(r"\d+", told(cell, which=1))[1:3])
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
    assert_shows_its_focus(notebook, frame)
    assert "Arrow keys move the patch" in frame.get_attribute("aria-label")
    assert notebook.cell(EXPLORER).locator("img").nth(1).get_attribute("alt").endswith("(exemplar)")


# --- everywhere -----------------------------------------------------------------------------------------------------

def test_a_dark_theme_changes_the_colour_of_the_words(notebook):
    assert_follows_the_theme(notebook, notebook.cell(EXPLORER).locator(".labkit-status"))


def test_notebook_7_shows_the_explorer_too(browser, server):
    with notebook_7(browser, server, [CELLS[0], CELLS[EXPLORER]]) as notebook:
        cell = notebook.cell(1)
        cell.locator(".labkit-frame").nth(0).focus()
        press(notebook, "ArrowDown")
        wait_until_told(cell, "[11, 20, False]")
        cell.locator(".labkit-status", has_text="Patch at row 11, column 20").wait_for()
