"""Which tests `CHAPTER=04 make test` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import chapters, notebooks
from labkit.chapters import Chapter
from tests.selection import belongs

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = Chapter("04", "prior", "Prior")


@pytest.mark.parametrize(
    "module", ["test_prior", "test_prior_network", "test_checks_prior", "test_widgets_prior_browser"]
)
def test_a_module_with_the_topic_in_its_name_belongs_to_the_chapter(module):
    assert belongs(module, (), CHAPTER)


@pytest.mark.parametrize(
    "module", ["test_priority", "test_interior_prio", "test_images", "test_checks_chapters", "test_subprior"]
)
def test_a_module_with_another_name_does_not(module):
    assert not belongs(module, (), CHAPTER)


@pytest.mark.parametrize(
    "parameter", ["prior", "04", "04_prior", CHAPTER, notebooks.Chapter(ROOT, "04_prior")], ids=str
)
def test_a_test_that_is_called_with_the_chapter_belongs_to_it(parameter):
    assert belongs("test_notebooks", (3, parameter), CHAPTER)


@pytest.mark.parametrize("parameter", ["prior_network", "4", "05", 4, None, chapters.CHAPTERS[0]], ids=str)
def test_a_test_that_is_called_with_something_else_does_not(parameter):
    assert not belongs("test_notebooks", (parameter,), CHAPTER)


def collected(chapter: str, *modules: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        *(f"tests/{name}.py" for name in modules),
    ]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "LABKIT_CHAPTER": chapter}, capture_output=True, text=True, check=False
    )


def test_only_the_tests_of_a_chapter_are_collected():
    said = collected("8", "test_results", "test_results_diffusion_inpainting", "test_patches", "test_chapters")
    names = {line for line in said.stdout.splitlines() if "::" in line}
    assert "tests/test_results.py::test_every_stored_table_can_be_shown[08]" in names
    assert "tests/test_chapters.py::test_the_title_is_that_of_the_notebook[diffusion_inpainting]" in names
    assert any(name.startswith("tests/test_results_diffusion_inpainting.py::") for name in names)
    assert not [name for name in names if "diffusion_inpainting" not in name and "[08]" not in name], said.stdout
    assert " deselected" in said.stdout


def test_a_chapter_that_does_not_exist_is_an_error_in_words():
    said = collected("77", "test_patches")
    assert said.returncode == pytest.ExitCode.USAGE_ERROR
    assert (
        "LABKIT_CHAPTER: no chapter is called '77'; expected a number or a topic of these: 01 (filtering), "
        in said.stderr
    )
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("chapter", "place"),
    [
        ("", "solutions"),
        ("03", "solutions/03_texture_optimization"),
        ("8", "solutions/08_diffusion_inpainting"),
        ("filtering", "solutions/01_filtering"),
    ],
)
def test_make_test_runs_the_solutions_that_are_asked_for(chapter, place):
    said = subprocess.run(
        ["make", "--dry-run", "test", f"CHAPTER={chapter}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"--nbval-lax --nbval-current-env {place};" in said.stdout, said.stdout + said.stderr


def test_make_test_of_a_chapter_that_does_not_exist_says_so_at_once():
    said = subprocess.run(
        ["make", "--dry-run", "test", "CHAPTER=singing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (
        said.returncode
        and "no chapter is called singing; expected a number or a topic, such as 01 or filtering" in said.stderr
    )
