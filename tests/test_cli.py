"""The command `labkit`, as somebody types it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from labkit import checks, cli, doctor, notebooks, results
from labkit.cli import app
from tests.benchmarks import timing

ROOT = Path(__file__).resolve().parent.parent
SETUP = "import torch\nimport torch.nn.functional as F\nfrom labkit.checks import filtering as check"
RIGHT = """def box_filter(image, radius):
    return F.avg_pool2d(image, 2 * radius + 1, 1, radius, count_include_pad=False)"""
DARK = RIGHT.replace("False", "True")
STUB = "def box_filter(image, radius):\n    raise NotImplementedError('replace this line with your answer')"
POINTS = checks.exercises("filtering")["box_filter"].points


def labkit(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(path: Path, answer: str, check: str = "check.box_filter(box_filter)") -> Path:
    """A student's notebook of one exercise."""
    cells = [nbformat.v4.new_code_cell(text) for text in (SETUP, answer, check)]
    cells[2].metadata["nbgrader"] = {"grade_id": "check_box_filter", "grade": True, "locked": True, "solution": False,
                                     "points": POINTS}
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_help_names_every_command():
    said = labkit("--help")
    assert said.exit_code == 0
    assert all(f"\n  {name} " in said.output for name in ("lab", "check", "doctor", "results", "bench", "start"))


def test_help_loads_nothing_heavy():
    program = "import sys, labkit.cli; print({'torch', 'numba', 'nbformat', 'jupyterlab'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
                          cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_the_version_short_help_and_completion():
    from labkit import __version__

    assert labkit("--version").output == f"labkit {__version__}\n"
    assert labkit("-h").output == labkit("--help").output
    assert "--strict" in labkit("check", "-h").output
    assert "--install-completion" in labkit("--help").output


# --- check ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("answer", "verdict", "earned"), [
    (RIGHT, "✔ box_filter: right", POINTS), (STUB, "○ box_filter: not written yet", 0)], ids=["right", "unsolved"])
def test_check_says_what_the_checks_say_and_adds_up_the_points(tmp_path, answer, verdict, earned):
    path = write(tmp_path / "box.ipynb", answer)
    before = path.read_bytes()
    said = labkit("check", path)
    assert said.exit_code == 0
    assert verdict in said.output
    assert said.output.endswith(f"Total: {earned:g} of {POINTS:g} points.\n")
    assert path.read_bytes() == before


def test_check_names_the_mistake(tmp_path):
    said = labkit("check", write(tmp_path / "box.ipynb", DARK))
    assert "✘ box_filter: not right yet" in said.output
    assert "It looks as if" in said.output
    assert f"Total: {POINTS:g} of" not in said.output


def test_check_goes_past_a_cell_that_fails_and_says_which(tmp_path):
    said = labkit("check", write(tmp_path / "box.ipynb", "1 / 0"))
    assert said.exit_code == 0
    assert "✘ cell 2 stopped with ZeroDivisionError: division by zero" in said.output
    assert "the check did not run. NameError" in said.output
    assert f"Total: 0 of {POINTS:g} points." in said.output


def test_check_ends_a_cell_that_never_ends(tmp_path):
    said = labkit("check", "--seconds", "5", write(tmp_path / "box.ipynb", f"{STUB}\nwhile True: pass"))
    assert said.exit_code == 0
    assert "✘ cell 2 stopped with" in said.output
    assert "not written yet" in said.output


def test_check_says_when_a_check_was_replaced(tmp_path):
    said = labkit("check", write(tmp_path / "box.ipynb", RIGHT, check="print('✔ box_filter: right, 2 of 2 points.')"))
    assert "gave no verdict" in said.output
    assert f"Total: 0 of {POINTS:g} points." in said.output


@pytest.mark.parametrize("content", [
    "print('hello')", "[]", "{}", '{"cells": 3}', '{"nbformat": 4, "nbformat_minor": 5, "cells": [1]}', "\udcff\x00",
    ""], ids=["script", "list", "empty object", "no cells", "no cell", "binary", "empty"])
def test_check_says_when_a_file_is_no_notebook(tmp_path, content):
    path = tmp_path / "file.ipynb"
    path.write_bytes(content.encode(errors="surrogateescape"))
    said = labkit("check", path)
    assert said.exit_code == 1
    assert f"{path} is not a notebook that can be read" in said.output
    assert "Traceback" not in said.output


def test_check_says_when_a_file_does_not_exist(tmp_path):
    said = labkit("check", tmp_path / "gone.ipynb")
    assert said.exit_code == 1
    assert "gone.ipynb is not a file; expected a chapter" in said.output


def test_check_says_when_a_notebook_has_no_checks(tmp_path):
    path = tmp_path / "plain.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), path)
    said = labkit("check", path)
    assert said.exit_code == 1
    assert "has no checks" in said.output


@pytest.mark.parametrize(("earned", "failures", "code"), [(2, [], 0), (1.5, [], 1), (2, [(2, "ZeroDivisionError")], 1)])
def test_check_strict_has_an_exit_code(tmp_path, monkeypatch, earned, failures, code):
    monkeypatch.setattr(notebooks, "execute", lambda *_, **__: [])
    monkeypatch.setattr(notebooks, "scores", lambda notebook: [notebooks.Score("box_filter", earned, 2, "box_filter: looked at")])
    monkeypatch.setattr(notebooks, "failures", lambda notebook: failures)
    path = write(tmp_path / "box.ipynb", RIGHT)
    assert labkit("check", "--strict", path).exit_code == code
    assert labkit("check", path).exit_code == 0


@pytest.mark.skipif(os.name == "nt", reason="Ctrl + C is sent otherwise on Windows")
def test_ctrl_c_ends_check_in_one_line(tmp_path):
    path = write(tmp_path / "box.ipynb", "open('begun', 'w').close()\nwhile True: pass")
    done = subprocess.Popen([sys.executable, "-m", "labkit.cli", "check", str(path)], cwd=tmp_path, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 90
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        done.send_signal(signal.SIGINT)
        _, errors = done.communicate(timeout=60)
    finally:
        done.kill()
    assert done.returncode == 130
    assert errors.strip() == "Stopped: the notebook is as it was."


# --- lab ------------------------------------------------------------------------------------------------------------

def test_lab_opens_the_first_page_of_the_course(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "index.ipynb").touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    given = []
    monkeypatch.setattr("jupyterlab.labapp.main", lambda arguments: given.extend(arguments))
    monkeypatch.setattr(cli, "_compiling_beside", contextlib.nullcontext)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert labkit("lab", "--no-browser", "--port=9000").exit_code == 0
    assert given == [f"--ServerApp.root_dir={tmp_path}", "--LabApp.default_url=/lab/tree/notebooks/index.ipynb",
                     "--LabApp.custom_css=True", "--no-browser", "--port=9000"]


def test_lab_outside_a_course_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("labkit.notebooks.__file__", str(tmp_path / "labkit" / "notebooks.py"))
    said = labkit("lab")
    assert said.exit_code == 1
    assert "no course was found" in said.output and "labkit start " in said.output


def test_lab_shows_students_nothing_of_the_teachers_side_and_lines_that_can_be_read(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "index.ipynb").touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "labkit.cli", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=word"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
                   "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}

    def get(page: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}?token=word", timeout=30) as answer:
            return answer.read().decode()

    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        while "is running at" not in (tmp_path / "log").read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        config = json.loads(re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', get("lab"), re.DOTALL)[1])
        assert "@jupyter/nbgrader" in config["disabledExtensions"]
        assert "max-width" in get("custom/custom.css") and "custom/custom.css" in get("lab")
        for page in ("formgrader", "assignments", "validate"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(page)
    finally:
        process.terminate()
        process.wait(20)


# --- start ----------------------------------------------------------------------------------------------------------

def test_start_makes_a_course_and_never_writes_over_what_is_there(tmp_path, monkeypatch):
    folder = tmp_path / "mon été"
    said = labkit("start", folder)
    assert said.exit_code == 0 and f"cd '{folder}'" in said.output or os.name == "nt"
    page = (folder / "notebooks" / "index.ipynb").read_text(encoding="utf-8")
    assert notebooks.find_root(folder / "data") == folder and "../solutions" not in page
    first = folder / "notebooks" / "01_filtering" / "01_filtering.ipynb"
    assert (folder / "data" / "textures" / "pebbles.png").is_file()
    first.write_text("my work")
    (folder / "data" / "textures" / "pebbles.png").unlink()
    said = labkit("start", folder)
    assert "1 files are new" in said.output and "stay as they are" in said.output
    assert first.read_text() == "my work" and (folder / "data" / "textures" / "pebbles.png").is_file()


def test_start_says_when_a_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    said = labkit("start", tmp_path / "file")
    assert said.exit_code == 1 and "could not be made" in said.output


# --- results --------------------------------------------------------------------------------------------------------

def test_results_are_stored_with_where_they_come_from(tmp_path, monkeypatch):
    table = {"caption": "A table.", "header": ["filter", "dB"], "rows": [["box", 21.5]]}
    monkeypatch.setattr(results, "compute", lambda number: {"seeds": {"noise": 0}, "tables": [table]})
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    monkeypatch.delenv("LABKIT_PROFILE", raising=False)
    said = labkit("results", "01", "--profile", "laptop")
    assert said.exit_code == 0, said.output
    stored = json.loads((tmp_path / "01.json").read_text(encoding="utf-8"))
    assert stored["tables"] == [table] and stored["seeds"] == {"noise": 0}
    assert stored["command"] == "labkit results 01 --profile laptop" and stored["profile"] == "laptop"
    assert stored["machine"] == doctor.machine()
    assert {"date", "seconds"} <= set(stored) and {"python", "labkit", "torch", "numba"} <= set(stored["versions"])
    assert "box" in repr(results.show("01"))


@pytest.fixture
def quick_results(tmp_path, monkeypatch) -> Path:
    """The file of chapter 2's results, which are computed at once, at profile quick."""
    monkeypatch.setattr(results, "compute", lambda number: {"tables": []})
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    monkeypatch.setenv("LABKIT_PROFILE", "quick")
    return tmp_path / "02.json"


def test_results_know_a_number_without_its_zero(quick_results):
    said = labkit("results", "2")
    assert said.exit_code == 0, said.output
    assert json.loads(quick_results.read_text(encoding="utf-8"))["command"] == "labkit results 02"
    assert list(quick_results.parent.iterdir()) == [quick_results]


def test_results_of_a_higher_profile_are_never_overwritten(quick_results, monkeypatch):
    quick_results.write_text('{"profile": "laptop"}')
    monkeypatch.setattr(results, "compute", lambda number: pytest.fail("computed for nothing"))
    said = labkit("results", "02")
    assert said.exit_code == 1 and "was computed at profile 'laptop'" in said.output and "--out" in said.output
    assert quick_results.read_text() == '{"profile": "laptop"}'


def test_results_can_be_stored_elsewhere(quick_results):
    quick_results.write_text('{"profile": "laptop"}')
    other = quick_results.parent / "new" / "trial.json"
    assert labkit("results", "02", "--out", other).exit_code == 0
    assert json.loads(other.read_text(encoding="utf-8"))["profile"] == "quick"
    assert labkit("results", "02", "--out", other).exit_code == 0      # those of the same profile are replaced
    assert quick_results.read_text() == '{"profile": "laptop"}'


def test_a_place_that_results_cannot_be_stored_in_is_refused_before_they_are_computed(quick_results, monkeypatch):
    monkeypatch.setattr(results, "compute", lambda number: pytest.fail("computed for nothing"))
    (quick_results.parent / "file").touch()
    for place, said in (("file/trial.json", "file"), (".", "is a folder"), ("file", "holds no results")):
        done = labkit("results", "02", "--out", quick_results.parent / place)
        assert done.exit_code == 1 and said in done.output


def test_ctrl_c_ends_results_in_one_line_and_stores_nothing(quick_results, monkeypatch):
    def stop(number):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "compute", stop)
    said = labkit("results", "02")
    assert said.exit_code == 130 and said.output.endswith("Stopped: nothing was stored.\n")
    assert not quick_results.exists()


def test_results_of_a_chapter_that_does_not_exist(monkeypatch):
    monkeypatch.delenv("LABKIT_PROFILE", raising=False)
    said = labkit("results", "77")
    assert said.exit_code == 1
    assert "'77'" in said.output and "Traceback" not in said.output


def test_a_profile_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("LABKIT_PROFILE", "quick")
    said = labkit("results", "01", "--profile", "enormous")
    assert said.exit_code == 1
    assert "expected one of 'quick', 'laptop', 'gpu'" in said.output


# --- bench ----------------------------------------------------------------------------------------------------------

ROWS = "def rows():\n    return [{'task': 'box', 'ms': 1.25, 'agreement': float('inf')}]\n"


def bench(folder: Path, *arguments: str, toy: str = ROWS) -> subprocess.CompletedProcess:
    """`labkit bench` in a course whose only benchmark is `toy_speed`."""
    place = folder / "tests" / "benchmarks"
    place.mkdir(parents=True)
    for package in (place, place.parent):
        (package / "__init__.py").touch()
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "index.ipynb").touch()
    shutil.copy(ROOT / "tests" / "benchmarks" / "timing.py", place)
    (place / "toy_speed.py").write_text(toy)
    return subprocess.run([sys.executable, "-m", "labkit.cli", "bench", *arguments], cwd=folder, capture_output=True,
                          text=True, timeout=120, check=False)


def test_bench_prints_tables_and_where_they_come_from(tmp_path):
    pytest.importorskip("cv2", reason="bench goes untested: the extra [bench] is not installed")
    said = bench(tmp_path, "toy", "--save", "numbers.json")
    assert said.returncode == 0, said.stderr
    assert "| task | ms | agreement |" in said.stdout and "| box | 1.25 | inf |" in said.stdout
    stored = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert stored["tables"] == {"toy_speed.rows": [{"task": "box", "ms": 1.25, "agreement": "inf"}]}
    assert stored["machine"] == doctor.machine() and f"numba {stored['versions']['numba']}" in said.stdout


TOY = """
import numpy
from tests.benchmarks import timing

def rows(memory=True):
    numbers = numpy.arange(9.0)
    times = timing.side_by_side({"labkit": numbers.sum, "another": numbers.max}, repeats=3)
    return [{"task": "sums", "peer": name, "milliseconds": taken, "memory": memory} for name, taken in times.items()] + [
            {"task": "sums", "peer": "left out", "milliseconds": "", "memory": ""}]
"""


def test_bench_busy_gives_the_same_rows_a_second_time_beside_two_threaded_programs(tmp_path):
    said = bench(tmp_path, "toy", "--busy", "--save", "numbers.json", toy=TOY)
    assert said.returncode == 0, said.stderr
    assert "| task | peer | milliseconds | milliseconds, busy | busy / quiet | memory |" in said.stdout
    assert "Above 3 times the quiet time: " in said.stdout
    *rows, left_out = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))["tables"]["toy_speed.rows"]
    assert [(row["peer"], row["memory"]) for row in rows] == [("labkit", True), ("another", True)]
    for row in rows:
        assert row["busy / quiet"] == pytest.approx(row["milliseconds, busy"] / row["milliseconds"])
    assert left_out == {"task": "sums", "peer": "left out", "milliseconds": "", "milliseconds, busy": "", "busy / quiet": "", "memory": ""}


def test_neighbours_run_meanwhile_and_end_with_it():
    with timing.neighbours(timing.SPINNING) as programs:
        assert [program.poll() for program in programs] == [None, None]
    assert all(program.poll() is not None for program in programs)
    with pytest.raises(RuntimeError, match="ended with status 3"), timing.neighbours("raise SystemExit(3)"):
        pass


def test_what_is_slow_on_a_busy_machine_is_named():
    row = lambda task, peer, quiet, busy: {"task": task, "peer": peer, "seconds": quiet, "seconds, busy": busy, "busy / quiet": busy / quiet}
    rows = [row("box", "labkit", 1.0, 4.0), row("box", "another", 1.0, 5.0), row("sum", "labkit", 1.0, 2.0), row("sum", "another", 1.0, 1.5)]
    assert timing.busy_verdict(rows) == ("Above 3 times the quiet time: box (4). Behind a peer in the same condition: sum.")
    assert timing.busy_verdict(rows[2:3]) == "Above 3 times the quiet time: none. Behind a peer in the same condition: none."


def test_bench_measures_the_chapters_in_their_order_or_the_one_that_is_named_by_number_or_topic(tmp_path):
    for name in ("patchmatch", "filtering_nonlocal", "filtering_local", "grading", "timing", "filterings"):
        (tmp_path / f"{name}.py").touch()
    assert cli._benchmarks(tmp_path, None) == ["filtering_local", "filtering_nonlocal", "patchmatch"]
    assert cli._benchmarks(tmp_path, "01") == cli._benchmarks(tmp_path, "filtering") == ["filtering_local", "filtering_nonlocal"]
    assert cli._benchmarks(tmp_path, "grading") == ["grading"]
    assert cli._benchmarks(tmp_path, "03") == cli._benchmarks(tmp_path, "singing") == []


def test_bench_of_something_unknown_says_so(tmp_path):
    said = bench(tmp_path, "singing")
    assert said.returncode == 1
    assert "no benchmarks called singing" in said.stderr


# --- grade ----------------------------------------------------------------------------------------------------------

def test_a_chapter_that_does_not_exist_leaves_no_file_behind(tmp_path):
    (tmp_path / "class").mkdir()
    said = labkit("grade", tmp_path / "class", "--only", "77", "--out", tmp_path / "marks", "--secret", tmp_path / "secret")
    assert said.exit_code == 1 and "no chapter 77" in said.output
    assert [path.name for path in tmp_path.iterdir()] == ["class"]


# --- doctor ---------------------------------------------------------------------------------------------------------

def test_doctor_finds_nothing_broken_where_the_tests_run(monkeypatch):
    monkeypatch.setenv("LABKIT_PROFILE", "quick")
    said = labkit("doctor")
    assert said.exit_code == 0, said.output
    for name in ("Python", "packages", "torch", "profile", "kernel", "pictures", "numba cache", "descriptor", "browser",
                 "bubblewrap"):
        assert f" {name} " in said.output


def test_doctor_says_how_to_mend_a_package_that_is_missing_or_too_old(monkeypatch):
    needed = ["numpy>=99", "no-such-package[fast]>=2", "torch>=2", "another>=1; extra == 'dev'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needed)
    found = {finding.name: finding for finding in doctor._packages()}
    assert found["packages"].state == doctor.BROKEN
    assert "numpy is " in found["packages"].detail and "no-such-package is not installed" in found["packages"].detail
    assert found["packages"].remedy == f'{doctor.PIP} "numpy>=99" "no-such-package[fast]>=2"'
    assert found["[dev]"].state == doctor.MISSING and found["[dev]"].remedy.endswith('"another>=1"')


def test_doctor_fails_only_for_what_is_broken(monkeypatch):
    optional = doctor.Finding("browser", doctor.MISSING, "none", "install one")
    monkeypatch.setattr(doctor, "findings", lambda: iter([optional]))
    assert labkit("doctor").exit_code == 0
    broken = doctor.Finding("torch", doctor.BROKEN, "does not import", "mend it")
    monkeypatch.setattr(doctor, "findings", lambda: iter([optional, broken]))
    said = labkit("doctor")
    assert said.exit_code == 1
    assert "→ mend it" in said.output and "Broken: torch." in said.output


def test_doctor_says_the_useful_first():
    fine = doctor.Finding("Python", doctor.OK, "3.11")
    broken = doctor.Finding("torch", doctor.BROKEN, "does not import", "mend it")
    assert doctor.report([fine]).startswith("Everything that labkit needs is here.\n")
    first, second, third = doctor.report([fine, broken]).splitlines()[:3]
    assert first.startswith("Broken: torch.") and "does not import" in second and "→ mend it" in third


def test_a_command_that_doctor_names_can_be_pasted(tmp_path):
    python = tmp_path / "L'école d'été" / "bin" / "python"
    program = (f"import sys; sys.executable = {str(python)!r}\nfrom labkit import doctor\nimport importlib.metadata as m\n"
               "m.requires = lambda name: ['no-such-package[fast]>=2']\nprint(next(doctor._packages()).remedy)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert shlex.split(done.stdout) == [str(python), "-m", "pip", "install", "no-such-package[fast]>=2"] or os.name == "nt"


def test_doctor_survives_an_installation_that_cannot_be_imported(monkeypatch):
    def fail():
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "_torch", fail)
    found = {finding.name: finding for finding in doctor.findings()}
    assert [finding.detail for finding in found.values() if finding.state == doctor.BROKEN] == \
        ["OSError: libcudart.so.13: cannot open shared object file"]


def test_doctor_says_when_notebooks_would_run_in_another_python(monkeypatch, tmp_path):
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["/elsewhere/bin/python", "-m", "ipykernel_launcher"], "display_name": "x",
                                  "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    found = doctor._kernel()
    assert found.state == doctor.BROKEN and "/elsewhere/bin/python" in found.detail
    assert found.remedy.startswith(sys.executable)


def test_doctor_finds_the_weights_of_the_descriptor(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert doctor._descriptor().state == doctor.MISSING
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth").touch()
    assert doctor._descriptor().state == doctor.OK
