"""Installing: a small project with the real script, the real pip and packages that are nothing but their versions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from labkit import install, openmp

ROOT = Path(__file__).resolve().parent.parent
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
TORCH, TORCHVISION = PINS["torch"], PINS["torchvision"]
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "labkit"
version = "0.1.0"
dependencies = ["torch>=2.4", "torchvision>=0.19"]
[project.optional-dependencies]
metrics = []
dev = []
"""
BACKEND = """
import zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "labkit-0.1.0-py3-none-any.whl"
    info = "labkit-0.1.0.dist-info"
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        wheel.writestr("labkit.pth", str(Path.cwd()))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: labkit\\nVersion: 0.1.0\\n"
                       "Requires-Dist: torch>=2.4\\nRequires-Dist: torchvision>=0.19\\nProvides-Extra: metrics\\nProvides-Extra: dev\\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\nlabkit-place = labkit.place:say\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def offer(index: Path, name: str, version: str, *, requires: str = "", imports: str = "") -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(index / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", imports)
        requirement = f"Requires-Dist: {requires}\n" if requires else ""
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}")
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name}-place = labkit.place:say\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


class Project:
    """A folder with labkit's own `install.py` and `openmp.py`, and an index that offers what the test lets it offer."""

    def __init__(self, folder: Path):
        self.place, self.index = folder / "a course", folder / "index"
        (self.place / "labkit").mkdir(parents=True)
        self.index.mkdir()
        (self.place / "labkit" / "__init__.py").touch()
        (self.place / "labkit" / "place.py").write_text(
            "import sys\ndef say(): print(__file__, sys.prefix, sep='\\n')\n"
        )
        for module in (install, openmp):
            shutil.copy(module.__file__, self.place / "labkit")
        (self.place / "pyproject.toml").write_text(PYPROJECT)
        (self.place / "backend.py").write_text(BACKEND)
        shutil.copy(ROOT / "constraints.txt", self.place)
        offer(self.index, "torch", TORCH)
        offer(self.index, "torchvision", TORCHVISION, requires=f"torch=={TORCH}")

    @property
    def python(self) -> Path:
        return self.place / ".venv" / "bin" / "python"

    def run(self, *command: object) -> str:
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PIP_CONFIG_FILE": os.devnull}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        done = subprocess.run(
            [*map(str, command)], cwd=self.place, env=clean | offline, capture_output=True, text=True, check=False
        )
        return f"{done.stdout}{done.stderr}exit status {done.returncode}"

    def install(self, *options: str) -> str:
        return self.run(sys._base_executable, "-m", "labkit.install", *options)

    def versions(self) -> tuple[str, str]:
        found = json.loads(self.run(self.python, "-I", "-c", install.LOOK).partition("exit")[0])
        return found["torch"], found["torchvision"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder that holds a project with its environment."""
    folder = tmp_path_factory.mktemp("finished")
    said = Project(folder).install()
    assert "Installed in" in said and said.endswith("exit status 0"), said
    return folder


@pytest.fixture
def moved(finished, tmp_path) -> Project:
    """The same project, copied to a place of its own."""
    copy = Project.__new__(Project)
    copy.place, copy.index = tmp_path / "moved, é" / "a course", tmp_path / "index"
    shutil.copytree(finished / "a course", copy.place, symlinks=True)
    shutil.copytree(finished / "index", copy.index)
    return copy


@pytest.fixture
def project(moved) -> Project:
    """The same, which takes itself for made there: mending it is another test's."""
    note = moved.place / ".venv" / "labkit-installed.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"place": str(note.parent)}))
    return moved


pytestmark = pytest.mark.skipif(os.name == "nt", reason="looks into an environment as Unix lays it out")


def test_what_is_installed_is_left_alone(finished):
    place = Project.__new__(Project)
    place.place, place.index = finished / "a course", finished / "index"
    assert place.install() == "exit status 0"
    assert place.versions() == (TORCH, TORCHVISION)


def test_at_each_start_of_the_environments_python_threads_are_to_sleep_soon(project):
    names = ("OMP_WAIT_POLICY", *openmp.SHORT_SPIN)
    code = f"import os; print([os.environ.get(name) for name in {names}])"
    start = ("env", *(f"--unset={name}" for name in names), project.python, "-c", code)
    assert project.run(*start).startswith(f"{[None, *openmp.SHORT_SPIN.values()]}\n")
    (file,) = (project.place / ".venv").rglob(openmp.START_FILE)
    file.unlink()
    project.install()
    assert file.is_file()


def test_an_environment_that_was_moved_works_where_it_is(moved):
    said = moved.install()
    assert "was made as" in said and said.endswith("exit status 0"), said
    for program in ("labkit-place", "torch-place"):  # labkit's own, and one of a package that is not installed anew
        place, prefix, _ = moved.run(moved.python.parent / program).splitlines()
        assert (Path(place).parent.parent, Path(prefix)) == (moved.place, moved.place / ".venv")
    assert str(moved.place / ".venv") in (moved.python.parent / "activate").read_text()
    assert moved.install() == "exit status 0"


def test_an_environment_without_pip_is_built_anew(project):
    for pip in project.place.glob(".venv/lib/python*/site-packages/pip"):
        shutil.rmtree(pip)
    said = project.install()
    assert "broken off" in said and said.endswith("exit status 0"), said
    assert project.versions() == (TORCH, TORCHVISION)


def test_an_environment_whose_python_is_gone_is_built_anew(project):
    for link in project.python.parent.glob("python*"):
        link.unlink()
    project.python.symlink_to("/nowhere/python3")
    said = project.install()
    assert "is gone" in said and said.endswith("exit status 0"), said


def test_a_folder_that_is_no_environment_is_not_deleted(project):
    shutil.rmtree(project.place / ".venv")
    (project.place / ".venv").mkdir()
    (project.place / ".venv" / "thesis.txt").write_text("all of it")
    said = project.install()
    assert "is no environment" in said and said.endswith("exit status 1"), said
    assert (project.place / ".venv" / "thesis.txt").read_text() == "all of it"


def test_another_torch_stays_and_is_named(project):
    offer(project.index, "torch", "2.99.0+cpu")
    offer(
        project.index,
        "torchvision",
        "0.99.0",
        requires="torch==2.99.0",
        imports="raise RuntimeError('operator does not exist')",
    )
    project.install()
    said = project.run(project.python, "-m", "pip", "install", "torch==2.99.0+cpu", "torchvision==0.99.0")
    assert said.endswith("exit status 0"), said
    for extras in ("metrics", "metrics,dev"):
        with (project.place / "constraints.txt").open("a") as file:
            file.write("# changed, so that pip looks again\n")
        said = project.install("--extras", extras)
        assert "torch 2.99.0+cpu is installed and stays" in said and said.endswith("exit status 0"), said
        assert "LPIPS and DISTS need it; all else works" in said
        assert project.versions() == ("2.99.0+cpu", "0.99.0")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the usual builds are for the CPU")
def test_a_pair_without_gpu_support_is_taken_where_an_index_offers_one(project):
    said = project.install("--torch", "cpu")
    assert f"No index that pip looks at has torch=={TORCH}+cpu" in said and said.endswith("exit status 1"), said
    assert project.versions() == (TORCH, TORCHVISION)
    offer(project.index, "torch", f"{TORCH}+cpu")
    offer(project.index, "torchvision", f"{TORCHVISION}+cpu", requires=f"torch=={TORCH}")
    assert project.install("--torch", "cpu").endswith("exit status 0")
    assert project.versions() == (f"{TORCH}+cpu", f"{TORCHVISION}+cpu")
    assert (
        project.install("--torch", "cpu") == project.install() == "exit status 0"
    )  # and stays, also when not asked for


def test_the_oldest_allowed_versions_are_those_of_the_project():
    lowest = dict(line.split("==") for line in (line.partition(";")[0] for line in install._lowest()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= len(lowest) and set(install.TEST_TOOLS) <= set(lowest)
    for requirement in project["dependencies"]:
        name, _, version = requirement.partition(">=")
        assert lowest[re.sub(r"\[.*\]", "", name)] == version


def test_make_looks_for_the_same_pythons_as_the_project():
    oldest, newest = re.findall(r"\((\d, \d+)\) <= sys.version_info < \((\d, \d+)\)", (ROOT / "Makefile").read_text())[
        0
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={oldest.replace(', ', '.')},<{newest.replace(', ', '.')}"
