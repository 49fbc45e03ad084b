"""The command `labkit`, as somebody types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from labkit import checks, cli, doctor, results
from labkit.cli import app

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
    assert all(f"\n  {name} " in said.output for name in ("lab", "check", "doctor", "results", "bench"))


def test_help_loads_nothing_heavy():
    program = "import sys, labkit.cli; print({'torch', 'numba', 'nbformat', 'jupyterlab'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
                          cwd=ROOT)
    assert done.stdout.strip() == "set()"


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


# --- lab ------------------------------------------------------------------------------------------------------------

def test_lab_opens_the_first_page_of_the_course(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "index.ipynb").touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    given = []
    monkeypatch.setattr("jupyterlab.labapp.main", lambda arguments: given.extend(arguments))
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert labkit("lab", "--no-browser", "--port=9000").exit_code == 0
    assert given == [f"--ServerApp.root_dir={tmp_path}", "--LabApp.default_url=/lab/tree/notebooks/index.ipynb",
                     "--no-browser", "--port=9000"]


def test_lab_outside_a_course_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("labkit.notebooks.__file__", str(tmp_path / "labkit" / "notebooks.py"))
    said = labkit("lab")
    assert said.exit_code == 1
    assert "no course was found" in said.output


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

def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`labkit bench` in a course whose only benchmark is `toy_speed`."""
    place = folder / "tests" / "benchmarks"
    place.mkdir(parents=True)
    for package in (place, place.parent):
        (package / "__init__.py").touch()
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "index.ipynb").touch()
    shutil.copy(ROOT / "tests" / "benchmarks" / "timing.py", place)
    (place / "toy_speed.py").write_text("def rows():\n"
                                        "    return [{'task': 'box', 'ms': 1.25, 'agreement': float('inf')}]\n")
    return subprocess.run([sys.executable, "-m", "labkit.cli", "bench", *arguments], cwd=folder, capture_output=True,
                          text=True, timeout=120, check=False)


def test_bench_prints_tables_and_where_they_come_from(tmp_path):
    said = bench(tmp_path, "toy", "--save", "numbers.json")
    assert said.returncode == 0, said.stderr
    assert "| task | ms | agreement |" in said.stdout and "| box | 1.25 | inf |" in said.stdout
    stored = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert stored["tables"] == {"toy_speed.rows": [{"task": "box", "ms": 1.25, "agreement": "inf"}]}
    assert stored["machine"] == doctor.machine() and f"numba {stored['versions']['numba']}" in said.stdout


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
