"""A JupyterLab server and a headless Chromium for tests that look at a notebook as a reader does.

    with chromium() as browser, jupyter(folder) as server:
        notebook = server.open(browser, cells=["1 + 1"])
        notebook.run()
        notebook.page.click("…")

A module of such tests imports the fixtures `browser`, `server` and `notebook` (which runs the module's `CELLS`), and
the mark `needs_browser`. Each widget has a cell of its own; where the first cell begins with `TOLD`, `told` writes what
Python knows of a widget to where the test can read it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
import torch

from labkit import images

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]


def executable() -> str | None:
    """The installed Chromium or Chrome; `LABKIT_BROWSER` names another."""
    names = (os.environ.get("LABKIT_BROWSER", ""), "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def reason_for_no_browser() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (pip install playwright)"
    if executable() is None:
        return "no Chromium was found (install the package chromium, or set LABKIT_BROWSER)"
    return None


TOLD = """
import ipywidgets

def told(values, *widgets):
    label = ipywidgets.Label(str(values()))
    label.add_class("told")
    for widget in widgets:
        widget.observe(lambda change: label.set_trait("value", str(values())))
    return label
"""

needs_browser = pytest.mark.skipif(reason_for_no_browser() is not None, reason=str(reason_for_no_browser()))


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with jupyter(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def notebook(browser, server: Server, request: pytest.FixtureRequest) -> OpenNotebook:
    """A notebook of the module's `CELLS`, which have run."""
    notebook = server.open(browser, cells=request.module.CELLS)
    notebook.run(timeout=240)   # kernels may have to be compiled
    return notebook


@contextmanager
def chromium() -> Iterator:
    """A headless browser, as Playwright's `Browser`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def jupyter(folder: Path) -> Iterator[Server]:
    """A JupyterLab server (with Notebook 7 on it) that serves `folder` and ignores the user's settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    settings = folder / ".settings"
    news = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')   # else a question about news lies over the page
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JUPYTERLAB_SETTINGS_DIR": str(settings),
                   "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
                   "JUPYTER_CONFIG_DIR": str(folder / ".config"), "IPYTHONDIR": str(folder / ".ipython"),
                   "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
               f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
               f"--ServerApp.root_dir={folder}",
               "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={token}", process, folder / "server.log")
            yield Server(folder, port, token)
        finally:
            process.terminate()
            process.wait(20)


class Server:
    """A running server; `open` writes a notebook into its folder and opens it."""

    def __init__(self, folder: Path, port: int, token: str):
        self.folder, self.port, self.token = folder, port, token

    def open(self, browser, *, cells: list[str] | None = None, name: str = "test.ipynb", app: str = "lab",
             width: int = 1280, height: int = 1000) -> OpenNotebook:
        """Open a notebook made of code `cells`, or the file `name` of the folder, in app `"lab"` or `"notebook"`."""
        if cells is not None:
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            code = [nbformat.v4.new_code_cell(cell) for cell in cells]
            nbformat.write(nbformat.v4.new_notebook(cells=code, metadata=kernel), self.folder / name)
        page = browser.new_page(viewport={"width": width, "height": height})
        where = {"lab": "doc/tree", "notebook": "notebooks"}[app]
        page.goto(f"http://127.0.0.1:{self.port}/{where}/{name}?token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        return OpenNotebook(page)


class OpenNotebook:
    """A notebook in a browser; `page` is Playwright's `Page`."""

    def __init__(self, page):
        self.page = page

    def run(self, *, timeout: float = 120) -> None:
        """Run all cells and wait until the last has run."""
        self.page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel",
                                    timeout=90_000)
        self.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(
            "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(p => /\\d/.test(p.textContent))",
            timeout=1000 * timeout)

    def theme(self, name: str) -> None:
        """Change to `"JupyterLab Light"` or `"JupyterLab Dark"`."""
        self.page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{name}'}})")
        light = "true" if name.endswith("Light") else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-name='{name}'][data-jp-theme-light='{light}']",
                                    state="attached")

    def cell(self, index: int):
        """The cell of that number, scrolled into view, as Playwright's `Locator`."""
        found = self.page.locator(".jp-Notebook .jp-Cell").nth(index)
        found.scroll_into_view_if_needed()
        return found


def told(cell, which: int = 0) -> str:
    """What Python knows of the widget in a cell; of several labels, that of number `which`."""
    return cell.locator(".told").nth(which).text_content()


def wait_until_told(cell, text: str | re.Pattern, which: int = 0) -> None:
    """Wait until Python knows it."""
    cell.locator(".told").nth(which).filter(has_text=text).wait_for()


def press(notebook: OpenNotebook, *keys: str) -> None:
    """Press keys one after the other."""
    for key in keys:
        notebook.page.keyboard.press(key)


def press_on_slider(notebook: OpenNotebook, cell, *keys: str) -> None:
    """Press keys on the (only) slider of a cell."""
    cell.locator(".noUi-handle").focus()
    press(notebook, *keys)


def drag(notebook: OpenNotebook, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press the mouse at one place of the screen, `(x, y)`, move it to another, and release it there."""
    mouse = notebook.page.mouse
    mouse.move(*start)
    mouse.down()
    mouse.move(*end, steps=5)
    mouse.up()


def wait_for_change(locator, before: str, attribute: str = "src") -> str:
    """Wait until an attribute is no longer `before`; returns the new value."""
    locator.page.wait_for_function("([node, name, before]) => node.getAttribute(name) !== before",
                                   arg=[locator.element_handle(), attribute, before])
    return locator.get_attribute(attribute)


def wait_for_style(locator, before: str, style: str = "color") -> str:
    """Wait until a computed style is no longer `before`; returns the new value."""
    locator.page.wait_for_function("([node, name, before]) => getComputedStyle(node)[name] !== before",
                                   arg=[locator.element_handle(), style, before])
    return locator.evaluate("(node, name) => getComputedStyle(node)[name]", style)


def choose_file(cell, button: str, path: Path) -> None:
    """Press the button of that name, which asks for a file, and choose one."""
    with cell.page.expect_file_chooser() as chooser:
        cell.get_by_role("button", name=button).click()
    chooser.value.set_files(path)


def choose_picture(cell, folder: Path, *, height: int, width: int, value: float = 0.0) -> None:
    """Upload a grey picture `mine.png`, all of one value, as one's own."""
    images.save(torch.full((1, height, width), value), folder / "mine.png")
    choose_file(cell, "Try a picture of your own", folder / "mine.png")


def press_while_busy(notebook: OpenNotebook, cell, hold: Path, *, busy: str, idle: str) -> None:
    """Press a cell's main button by keyboard: it is busy while the file `hold` is there, which its function looks for."""
    hold.touch()
    cell.locator("button.mod-primary").focus()
    press(notebook, "Enter")
    cell.locator("button.mod-primary[disabled]", has_text=busy).wait_for()
    hold.unlink()
    cell.locator("button.mod-primary:not([disabled])", has_text=idle).wait_for()


def assert_follows_the_theme(notebook: OpenNotebook, words) -> None:
    """In a dark theme, words have another colour."""
    light = words.evaluate("node => getComputedStyle(node).color")
    notebook.theme("JupyterLab Dark")
    dark = wait_for_style(words, light)
    notebook.theme("JupyterLab Light")
    assert light != dark


def assert_shows_its_focus(notebook: OpenNotebook, frame) -> None:
    """Once the keyboard is in use, the browser draws a ring around what has the focus."""
    press(notebook, "Tab")
    frame.focus()
    assert frame.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"


@contextmanager
def notebook_7(browser, server: Server, cells: list[str]) -> Iterator[OpenNotebook]:
    """Cells that have run, in Notebook 7."""
    notebook = server.open(browser, cells=cells, name="seven.ipynb", app="notebook")
    notebook.run(timeout=240)   # kernels may have to be compiled
    yield notebook
    notebook.page.close()


def active_cell(notebook: OpenNotebook) -> int:
    """The number of the cell that the keyboard is in."""
    return notebook.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex")


def _wait_for(url: str, process: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the Jupyter server did not answer; its log ends with:\n{log.read_text()[-2000:]}")
