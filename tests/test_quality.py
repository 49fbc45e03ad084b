"""The source itself: what ruff and mypy find in it, what a module offers to who completes its name, examples that run."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from IPython.core.completer import IPCompleter, provisionalcompleter
from packaging.requirements import Requirement

import labkit
from labkit import chapters

ROOT = Path(__file__).resolve().parent.parent
GROUND_FLOOR = ("descent", "features", "figures", "images", "metrics", "operators", "patches", "pyramids", "restoration", "runtime",
                "textures", "training", "transport", "validation")  # fmt: skip
MODULES = [
    found.name for found in pkgutil.walk_packages(labkit.__path__, "labkit.") if not found.name.endswith("__main__")
]

# Messages of mypy, by the file or folder that they are about. Whatever is not named here has none. A number may only fall.
MESSAGES = {
    "labkit/diffusion_inpainting": 11,
    "labkit/filtering": 14,
    "labkit/grading": 34,
    "labkit/patchmatch": 17,
    "labkit/results": 4,
    "labkit/texture_optimization": 26,
}


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


# --- tools --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("check",), ("format", "--check", "--quiet")], ids=["check", "format"])
def test_ruff_finds_nothing(words):
    done = command("ruff", *words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_formatter_leaves_alone_is_there():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["format"]["exclude"]
    for pattern in patterns:
        parts = [part.split(",") for part in re.split(r"[{}]", pattern)]  # "a/{b,c}.py": files a/b.py and a/c.py
        for name in map("".join, itertools.product(*parts)):
            assert next(ROOT.glob(name), None), (
                f"pyproject.toml: nothing is called {name}, so the formatter need not skip it"
            )


def test_mypy_finds_nothing_below_and_no_more_above():
    """On the versions of constraints.txt: others have other annotations, and other numbers."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {one.name: one.specifier for one in map(Requirement, (line for line in lines if line and line[0] != "#"))}
    for name in ("mypy", "numpy", "torch"):
        version = importlib.metadata.version(name)
        if not tested[name].contains(version, prereleases=True):
            pytest.skip(f"{name} is {version}; the numbers of messages are those of {name}{tested[name]}")
    done = command("mypy")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    messages: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if ": error: " in line:
            path = Path(line.split(":")[0])
            above = [place.as_posix() for place in (path, *path.parents)]
            known = next((place for place in above if place in MESSAGES), above[0])
            messages.setdefault(known, []).append(line)
    for known in sorted({*MESSAGES, *messages}):
        found, allowed = messages.get(known, []), MESSAGES.get(known, 0)
        text = "\n".join(found)
        assert len(found) <= allowed, f"mypy finds {len(found)} faults in {known}, where {allowed} were known:\n{text}"
        assert len(found) == allowed, (
            f"well done: set {known} to {len(found)} in MESSAGES of this file (it was {allowed})"
        )


def test_what_runs_before_a_commit_fetches_nothing():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert {hook["language"] for hook in hooks[0]["hooks"]} == {"system"}
    assert [hook["entry"].split()[0] for hook in hooks[0]["hooks"]] == ["ruff", "ruff", "python"]


# --- names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_is_public(name):
    module = importlib.import_module(name)
    assert isinstance(vars(module).get("__all__"), list), f"{name} has no __all__"
    missing = [public for public in module.__all__ if not hasattr(module, public)]
    assert not missing, f"{name} names {', '.join(missing)} in __all__, which it does not have"


def completed() -> list[str]:
    """The modules whose names readers write before a dot."""
    return [*(f"labkit.{name}" for name in dir(labkit) if not name.startswith("_")),
            *(f"labkit.checks.{chapter.topic}" for chapter in chapters.CHAPTERS)]  # fmt: skip


@pytest.mark.parametrize("use_jedi", [True, False])
def test_completing_a_module_offers_what_is_public(use_jedi):
    completer = IPCompleter(namespace={"labkit": labkit}, use_jedi=use_jedi)
    for name in completed():
        module, text = importlib.import_module(name), f"{name}."
        with provisionalcompleter():
            offered = {completion.text.removeprefix(".") for completion in completer.completions(text, len(text))}
        assert offered == set(module.__all__), f"{name} needs `def __dir__(): return __all__`"


# --- examples -----------------------------------------------------------------------------------------------------------

# What is offered without an example, and why.
NO_EXAMPLE: dict[str, dict[str, str]] = {
    "training": {"Loop": "not used by itself: its examples are those of Training and Descent"},
    "patchmatch": {"Candidate": "what candidates returns", "Match": "what patchmatch returns"},
    "texture_optimization": {"Synthesis": "what every synthesis returns"},
    "diffusion_inpainting": {
        "EnergyEstimate": "what energy_estimate returns",
        "Film": "a callback of a sampling with a trained network",
        "Inpainter": "what train_inpainter returns",
        "inpaint_by_resampling": "needs a network trained without masks",
        "regress": "trains a network",
        "train_inpainter": "trains a network",
        "train_intervals": "trains networks",
        "train_unconditional": "trains a network",
    },
}


def source(name: str) -> str:
    return Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in MODULES if ">>> " in source(name)])
def test_the_examples_give_what_they_say(name):
    """Each begins with `labkit` and `torch`, as every notebook does, and with the names of its module."""
    runner, report = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), []
    for test in doctest.DocTestFinder().find(
        importlib.import_module(name), extraglobs={"labkit": labkit, "torch": torch}
    ):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", [*GROUND_FLOOR, *(chapter.topic for chapter in chapters.CHAPTERS)])
def test_everything_main_has_an_example(name):
    """Whatever the ground floor or a chapter's package offers: an example says more than a list of parameters."""
    module = importlib.import_module(f"labkit.{name}")
    offered = {public: getattr(module, public) for public in module.__all__}
    without = {
        public
        for public, value in offered.items()
        if (inspect.isroutine(value) or inspect.isclass(value)) and ">>> " not in (value.__doc__ or "")
    }
    assert without == set(NO_EXAMPLE.get(name, {}))
