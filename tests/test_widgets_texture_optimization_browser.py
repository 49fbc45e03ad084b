"""The widget of chapter 3 as a reader meets it: JupyterLab in a headless browser."""

from tests.browser import active_cell, browser, needs_browser, notebook, press, press_on_slider, server, wait_for_change

pytestmark = needs_browser

CELLS = [
    """
import torch
from labkit import runtime, widgets
from labkit.texture_optimization import Synthesis

noise = torch.rand(3, 32, 48, generator=runtime.generator(0))
frames = [noise[:, ::4, ::4]] * 2 + [noise[:, ::2, ::2], noise]
""",
    """
widgets.SynthesisPlayer(Synthesis(noise, [[3.0, 2.0], [1.5], [0.5]], frames), exemplar=noise, alt="Noise.")
""",
]
PLAYER = 1


def test_a_film_is_moved_by_keyboard_and_says_where_it_is(notebook):
    cell = notebook.cell(PLAYER)
    picture, curves = cell.locator("img.labkit-image").nth(0), cell.locator("svg.labkit-chart")
    press_on_slider(notebook, cell, "Home")
    cell.locator(".labkit-caption", has_text="Level 1 of 3 (8×12 pixels), step 1 of 2: energy 3.").wait_for()
    before, active, box = picture.get_attribute("src"), active_cell(notebook), picture.bounding_box()
    press(notebook, "End")
    wait_for_change(picture, before)
    cell.locator(".labkit-caption", has_text="Level 3 of 3 (32×48 pixels), step 1 of 1: energy 0.5.").wait_for()
    assert "energy 0.5" in picture.get_attribute("alt") and "energy, now 0.5" in curves.get_attribute("aria-label")
    assert picture.bounding_box() == box and active_cell(notebook) == active
    assert picture.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"


def test_the_play_button_runs_to_the_last_frame(notebook):
    cell = notebook.cell(PLAYER)
    press_on_slider(notebook, cell, "Home")
    cell.locator(".labkit-caption", has_text="Level 1 of 3 (8×12 pixels), step 1 of 2").wait_for()
    cell.get_by_role("button", name="Play").focus()
    press(notebook, "Enter")
    cell.get_by_role("button", name="Pause").wait_for()
    cell.locator(".labkit-caption", has_text="Level 3 of 3").wait_for()
    cell.get_by_role("button", name="Play").wait_for()
