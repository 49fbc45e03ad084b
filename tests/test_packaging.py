"""The package as others get it: what it needs, what an installation takes along, what conda and pip are told."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import labkit
from labkit import doctor

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
IMPORTS = {"skimage": "scikit-image", "PIL": "pillow", "yaml": "pyyaml", "IPython": "ipython",
           "flip_evaluator": "flip-evaluator",
           "jupyter_client": "ipykernel", "llvmlite": "numba"}     # the second brings the first


# Where torch and numba have wheels.
SYSTEMS = [{"sys_platform": "linux", "platform_machine": "x86_64"}, {"sys_platform": "linux", "platform_machine": "aarch64"},
           {"sys_platform": "darwin", "platform_machine": "arm64"}, {"sys_platform": "win32", "platform_machine": "AMD64"}]


def requirements(texts) -> dict[str, Requirement]:
    return {requirement.name: requirement for requirement in map(Requirement, texts)}


def test_the_version_is_said_once_in_each_place():
    assert PROJECT["version"] == labkit.__version__ == importlib.metadata.version("labkit")


def test_every_requirement_has_a_lower_bound_and_a_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, requirement in requirements([*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]).items():
        assert ">=" in str(requirement.specifier), name
        assert re.search(rf'"{re.escape(name)}[^"]*",?\s+# \S', text), f"{name} has no comment that says what for"


def test_conda_and_pip_name_the_same_packages():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip, = (entry["pip"] for entry in entries if isinstance(entry, dict))
    named = requirements(entry.replace(" ", "") for entry in entries if isinstance(entry, str))
    named = {CONDA.get(name, name): requirement.specifier for name, requirement in named.items() if name != "pip"}
    assert named.pop("python") == PROJECT["requires-python"]
    assert named == {name: requirement.specifier for name, requirement in requirements(PROJECT["dependencies"]).items()}
    assert pip == ["-e .[metrics]"]


def test_the_tested_versions_are_allowed_and_name_everything():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = requirements(line for line in lines if line and not line.startswith("#"))
    extras = sum((EXTRAS[name] for name in ("metrics", "bench", "cluster", "dev")), [])     # what `make test` installs
    asked = requirements([*PROJECT["dependencies"], *extras])
    for name, requirement in asked.items():
        version, = (str(specifier.version) for specifier in tested[name].specifier)
        assert requirement.specifier.contains(version), name


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: "-".join(system.values()))
def test_flip_is_asked_for_where_it_has_wheels_and_only_there(system):
    """Elsewhere the default installation would end in a compiler's error."""
    oldest, newest = (int(version.partition(".")[2]) for version in re.findall(r"3\.\d+", PROJECT["requires-python"]))
    flip = requirements(EXTRAS["metrics"])["flip-evaluator"]
    asked = [minor for minor in range(oldest, newest) if flip.marker.evaluate(system | {"python_version": f"3.{minor}"})]
    assert (oldest, newest) == (11, 15) and asked == ([] if system["platform_machine"] == "aarch64" else [11, 12, 13])


def test_versions_are_told_without_torchvision(monkeypatch):
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "torchvision":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    found = doctor.versions("pytest")
    assert "torchvision" not in found and found["torch"] == version("torch") and found["pytest"] == version("pytest")


def test_a_torchvision_of_another_build_is_a_finding_that_breaks_nothing(monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    found, = (finding for finding in doctor.findings() if finding.name == "torch")
    assert found.state == "missing" and "nms does not exist" in found.detail and "LPIPS" in found.detail and found.remedy


def test_labkit_runs_as_a_module(tmp_path):
    """Where a folder was moved, the first lines of programs are wrong, and Python itself is right."""
    done = subprocess.run([sys.executable, "-m", "labkit", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == 0 and "python -m labkit" not in done.stdout and "Usage: labkit" in done.stdout, done.stderr


def third_party_imports(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {name.split(".")[0] for name in names}
    return {IMPORTS.get(name, name) for name in found if name not in sys.stdlib_module_names and name != "labkit"}


def test_whatever_labkit_imports_is_a_requirement():
    extras = sum((extra for name, extra in EXTRAS.items() if name not in ("dev", "bench")), [])
    assert third_party_imports(ROOT / "labkit") <= set(requirements([*PROJECT["dependencies"], *extras]))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that `pip install .` would install."""
    folder = tmp_path_factory.mktemp("wheel")
    # without isolation, pip builds with the hatchling that is installed and needs no network
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--quiet",
                           "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
                          capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    path, = folder.glob("labkit-*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_an_installation_takes_the_pictures_and_results_along(wheel):
    names = set(wheel.namelist())
    for folder, inside in (("data", "labkit/_data"), ("notebooks", "labkit/_notebooks"), ("docs/results", "labkit/_results")):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert files
        assert {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in files} <= names


def test_an_installation_takes_every_module_and_widget_along(wheel):
    names = set(wheel.namelist())
    files = [path for path in (ROOT / "labkit").rglob("*") if path.suffix in (".py", ".typed", ".js", ".css", ".html", ".json")]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "solutions/", "notebooks/"))]
    assert "labkit/py.typed" in names       # or others' type checkers would not look at labkit's annotations


def test_an_installation_without_the_repository_finds_its_pictures(wheel, tmp_path):
    wheel.extractall(tmp_path)
    program = ("import labkit; from labkit import images, results; print(labkit.__file__); images.load('pebbles');"
               " print(images.data_folder()); print(results.folder())")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    package, data, stored = done.stdout.splitlines()
    assert Path(package) == tmp_path / "labkit" / "__init__.py"
    assert (Path(data), Path(stored)) == (tmp_path / "labkit" / "_data", tmp_path / "labkit" / "_results")


def test_the_example_of_the_readme_runs():
    example, = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(example, names)
    psnr = labkit.metrics.psnr
    assert psnr(names["clean"], names["photo"]) > psnr(names["noisy"], names["photo"]) + 5


def test_importing_labkit_is_quick_and_loads_nothing_heavy():
    program = "import sys, torch; before = set(sys.modules); import labkit; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          check=True)
    assert done.stdout.split() == ["labkit", "labkit.chapters", "labkit.openmp"]         # the standard library and a table of names
