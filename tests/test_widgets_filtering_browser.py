"""The widget of chapter 1 as a reader meets it: JupyterLab in a headless browser, by mouse and by keyboard."""

from tests.browser import TOLD, browser, drag, needs_browser, notebook, press, server, wait_for_change, wait_until_told

pytestmark = needs_browser

CELLS = [
    TOLD
    + """
import torch
from labkit import runtime, widgets

noise = torch.rand(3, 64, 96, generator=runtime.generator(0))

def bump(image, row, column):
    rows, columns = torch.arange(image.shape[-2])[:, None], torch.arange(image.shape[-1])
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18) * image[0]
""",
    """
weights = widgets.WeightsExplorer(noise, {"bump": bump}, alt="Noise.", radius=8, pixel=(20, 30))
display(weights, told(lambda: [weights.picture.row, weights.picture.column], weights.picture))
""",
]
WEIGHTS = 1


def test_a_clicked_pixel_changes_row_column_and_weights(notebook):
    cell = notebook.cell(WEIGHTS)
    chooser, weights = cell.locator(".labkit-frame").nth(0), cell.locator("img.labkit-image").nth(2)
    before = weights.get_attribute("src")
    box = chooser.bounding_box()
    chooser.click(position={"x": (50 + 0.5) * box["width"] / 96, "y": (10 + 0.5) * box["height"] / 64})
    wait_for_change(weights, before)
    wait_until_told(cell, "[10, 50]")
    assert "row 10, column 50" in weights.get_attribute("alt")


def test_weights_follow_the_pointer_and_the_arrow_keys(notebook):
    cell = notebook.cell(WEIGHTS)
    box = cell.locator(".labkit-frame").nth(0).bounding_box()
    drag(notebook, (box["x"] + 20, box["y"] + 20), (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))
    wait_until_told(cell, "[32, 48]")
    press(notebook, "ArrowDown")
    wait_until_told(cell, "[33, 48]")
