"""Builds the course's environment, or mends it: `python -m labkit.install`, in the repository's folder.

It runs before anything is installed, so it uses the standard library alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from labkit import openmp

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
PAIR = ("torch", "torchvision")  # every release of the second belongs to one of the first
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis")
LOOK = "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"


def main(arguments: list[str] | None = None) -> int:
    """Install labkit as the arguments say; the exit status."""
    options = _options(arguments)
    environment = Path(os.path.abspath(options.venv))
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    noted = _noted(environment)
    if trouble := _trouble(environment, python):
        if not _build(environment, trouble):
            return 1
        noted = {}
    elif noted and noted["place"] != str(environment):
        print(f"{options.venv} was made as {noted['place']}: its programs are told where it is now.")
        subprocess.run([_base_python(), "-m", "venv", environment], check=True)
        _mend_programs(environment, python)
    openmp.set_at_every_start(_site_packages(python))
    installed = _installed(python)
    wanted = {"place": str(environment), "sources": _fingerprint(options.lowest)}
    extras = set(options.extras.split(","))
    as_noted = wanted.items() <= noted.items()
    has_choice = options.torch != "cpu" or _is_cpu(installed.get("torch"))
    if as_noted and extras <= set(noted["extras"]) and has_choice and set(PAIR) <= set(installed):
        return 0
    pair = _pair(installed, cpu=options.torch == "cpu", lowest=options.lowest)
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(_constraints(pair, lowest=options.lowest)) + "\n", encoding="utf-8")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    pip += [*(["--quiet"] if os.environ.get("CI") else []), "--constraint", str(constraints)]
    index = ["--extra-index-url", options.torch_index] if options.torch_index else []
    start = time.monotonic()
    if not has_choice:
        print(f"Installing {' and '.join(map('=='.join, pair.items()))}, without GPU support, into {options.venv}.")
        if subprocess.run([*pip, *index, *map("==".join, pair.items())], check=False).returncode:
            print(_no_cpu_pair(pair))
            return 1
    elif "torch" not in installed:
        print("The first time this fetches PyTorch: about 6 GB on disk where it comes with CUDA, some minutes.")
    print(f"Installing labkit with [{options.extras}] into {options.venv}.", flush=True)
    tools = TEST_TOOLS if options.lowest else ()
    if subprocess.run([*pip, *index, "--editable", f"{ROOT}[{options.extras}]", *tools], check=False).returncode:
        return 1
    extras |= set(noted["extras"]) if as_noted else set()
    _note(environment).write_text(json.dumps(wanted | {"extras": sorted(extras)}), encoding="utf-8")
    print(f"Installed in {time.monotonic() - start:.0f} s.")
    print("What the course needs is compiled while you read. To have it done now, in some 45 s:")
    print(f"    {shlex.quote(str(python))} -m labkit compile")
    _look_at_torchvision(python)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m labkit.install", description=__doc__)
    parser.add_argument("--venv", default=".venv", help="the environment's folder")
    parser.add_argument("--extras", default="metrics", help="extras of pyproject.toml, with commas between them")
    parser.add_argument("--torch", choices=["cpu"], help="a PyTorch without GPU support: 0.7 GB in place of 5")
    parser.add_argument("--torch-index", metavar="ADDRESS", help="a package index where pip shall look as well")
    parser.add_argument("--lowest", action="store_true", help="the oldest versions that are allowed, to be tested")
    return parser.parse_args(arguments)


# --- the environment --------------------------------------------------------------------------------------------------


def _trouble(environment: Path, python: Path) -> str:
    """Why there is no environment to install into; empty when there is one."""
    if not environment.exists():
        return "there is none"
    if not python.exists():  # a link to a Python that is gone does not exist either
        return "it has no Python, or the one it was made with is gone"
    try:
        done = subprocess.run([python, "-c", "import pip._internal.cli.main"], capture_output=True, check=False)
    except OSError as error:
        return f"its Python does not start: {error}"
    return "" if done.returncode == 0 else "its making was broken off: it has no pip"


def _build(environment: Path, trouble: str) -> bool:
    """Make it from nothing; whether that worked. Nothing is deleted that is no environment."""
    files = (path for path in environment.rglob("*") if not path.is_dir())
    if not (environment / "pyvenv.cfg").exists() and (other := next(files, None)):
        print(f"{environment} is no environment of Python's, for it holds {other.name}: move it away.")
        return False
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Building {environment} with Python {version}: {trouble}.", flush=True)
    if subprocess.run([_base_python(), "-m", "venv", "--clear", environment], check=False).returncode:
        print("This Python cannot build environments. On Debian and Ubuntu: sudo apt install python3-venv")
        return False
    return True


def _base_python() -> str:
    """This Python, or the one that this environment was made with."""
    return getattr(sys, "_base_executable", None) or sys.executable


def _mend_programs(environment: Path, python: Path) -> None:
    """Let the programs that begin with the old place of their Python begin with the new one, as pip writes them."""
    if os.name == "nt":
        return  # these are .exe files; `python -m labkit` does without
    head = re.compile(rb"\A#!(?:/bin/sh\n'''exec' )?[^\n]*/bin/python[\d.]*\b[^\n]*\n(?:' '''\n)?")
    launch = f"#!/bin/sh\n'''exec' {shlex.quote(str(python))} \"$0\" \"$@\"\n' '''\n".encode()
    for path in python.parent.iterdir():
        if path.is_file() and not path.is_symlink() and (found := head.match(content := path.read_bytes())):
            path.write_bytes(launch + content[found.end() :])


# --- what is in it ----------------------------------------------------------------------------------------------------


def _note(environment: Path) -> Path:
    return environment / "labkit-installed.json"


def _noted(environment: Path) -> dict:
    """What the last installation wrote down; nothing where none has ended."""
    try:
        return json.loads(_note(environment).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _installed(python: Path) -> dict[str, str]:
    return json.loads(subprocess.run([python, "-I", "-c", LOOK], capture_output=True, text=True, check=True).stdout)


def _site_packages(python: Path) -> str:
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-I", "-c", where], capture_output=True, text=True, check=True).stdout.strip()


def _fingerprint(lowest: bool) -> str:
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files) + bytes([lowest])).hexdigest()


def _constraints(pair: dict[str, str], *, lowest: bool) -> list[str]:
    """The tested versions, or the oldest allowed ones, but for torch and torchvision those of `pair`."""
    lines = _lowest() if lowest else (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line and line[0] != "#" and line.partition("==")[0] not in PAIR]
    return [*kept, *map("==".join, pair.items())]


def _lowest() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["metrics"], *(r for r in extras["dev"] if r.startswith(TEST_TOOLS))]
    return [re.sub(r"^([\w.-]+)(?:\[.*?\])?>=([\w.]+)", r"\1==\2", requirement) for requirement in asked]


def _pair(installed: dict[str, str], *, cpu: bool, lowest: bool) -> dict[str, str]:
    """The versions of torch and torchvision to be had: an installed torch stays, unless another kind is asked for."""
    lines = _lowest() if lowest else (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pair = {line.partition("==")[0]: line.partition("==")[2] for line in lines if line.partition("==")[0] in PAIR}
    present = installed.get("torch")
    if cpu and not _is_cpu(present):
        return {name: f"{version}+cpu" if sys.platform == "linux" else version for name, version in pair.items()}
    if not present:
        return pair
    if present.partition("+")[0] != pair["torch"]:
        print(
            f"torch {present} is installed and stays. labkit is tested with {pair['torch']}; without the environment's"
        )
        print("folder, that one would be installed.")
    return {name: installed[name] for name in PAIR if name in installed}


def _is_cpu(version: str | None) -> bool:
    """Whether it is a build without CUDA. Elsewhere than on Linux, the builds of the usual index all are."""
    return version is not None and (sys.platform != "linux" or "+cpu" in version)


def _no_cpu_pair(pair: dict[str, str]) -> str:
    return (
        f"No index that pip looks at has {' and '.join(map('=='.join, pair.items()))}; nothing was changed.\n"
        "Name one that has: make install TORCH=cpu TORCH_INDEX=ADDRESS. PyTorch's page 'Get started' prints its\n"
        "address when one chooses pip and CPU there, after --index-url."
    )


def _look_at_torchvision(python: Path) -> None:
    """Say so when torchvision is of another build than torch, and so does not import: little needs it."""
    done = subprocess.run([python, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended"])[-1]
        print(f"torchvision does not fit this torch ({last}).")
        print("Only the metrics GMSD, FSIM, HaarPSI, VIF, LPIPS and DISTS need it; all else works.")


if __name__ == "__main__":
    sys.exit(main())
