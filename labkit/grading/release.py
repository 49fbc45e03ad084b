"""The students' version of the course as one zip: notebooks, data, labkit, how to install it; no solutions."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import labkit
from labkit.grading.extract import assignments

__all__ = ["TOP", "release", "student_notebook"]

TOP = "labkit-course"      # the folder that unpacking makes
_FOLDERS = ("notebooks", "data", "docs/results")
_FILES = ("README.md", "LICENSE", "pyproject.toml", "environment.yml", "constraints.txt", "Makefile")
_SKIPPED = re.compile(r"(?:^|/)(?:__pycache__|\.[^/]*|_data|_notebooks|_results)(?:/|$)|\.(?:pyc|nbi|nbc)$")
_FOR_TEACHERS = ("If nobody teaches you", "If you teach", "Tests and benchmarks")      # chapters of the README
_WHEN = (2020, 1, 1, 0, 0, 0)      # the same files give the same zip


def release(out: Path, *, course: Path) -> list[str]:
    """Write the students' version of a course; returns the names in the zip.

    Parameters
    ----------
    out : the zip to write. course : the folder that holds `notebooks`, `data` and the files beside them.

    Raises
    ------
    ValueError : a notebook in `notebooks` holds a solution or outputs, or `out` is no zip.
    """
    out, course = Path(out), Path(course).resolve()
    if out.suffix.lower() != ".zip":
        raise ValueError(f"{out} is no name of a zip; expected one that ends in .zip")
    assignments(course)      # says what is missing when this is no course
    files: dict[str, bytes] = {}
    for folder in _FOLDERS:
        for path in sorted((course / folder).rglob("*")):
            _add(files, path, path.relative_to(course).as_posix())
    package = Path(labkit.__file__).resolve().parent
    for path in sorted(package.rglob("*")):
        _add(files, path, f"labkit/{path.relative_to(package).as_posix()}")
    for name in _FILES:
        _add(files, course / name, name)
    for name, content in files.items():
        if name.endswith(".ipynb"):
            files[name] = student_notebook(name, content)
    if "README.md" in files:
        files["README.md"] = _student_readme(files["README.md"].decode("utf-8"), {name.partition("/")[0] for name in files}).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{TOP}/{name}", _WHEN)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    os.replace(beside, out)
    return sorted(files)


def _add(files: dict[str, bytes], path: Path, name: str) -> None:
    if path.is_file() and not path.is_symlink() and not _SKIPPED.search(name):
        files[name] = path.read_bytes()


def _student_readme(text: str, folders: set[str]) -> str:
    """The README without the chapters for teachers, and without the folders that are not in the zip."""
    chapters = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    kept = "".join(chapter for chapter in chapters if chapter.partition("\n")[0].removeprefix("## ") not in _FOR_TEACHERS)
    return "".join(line for line in kept.splitlines(keepends=True)
                   if not (row := re.match(r"\| `([^/`]+)/", line)) or row[1] in folders)


def student_notebook(name: str, content: bytes) -> bytes:
    """The notebook as it goes out, or a refusal: nothing that is solved, nothing that points to solutions."""
    notebook = json.loads(content)
    changed = False
    for number, cell in enumerate(notebook["cells"], 1):
        source = "".join(cell["source"])
        entry = cell["metadata"].get("nbgrader", {})
        if "### BEGIN SOLUTION" in source or "### END SOLUTION" in source:
            raise ValueError(f"{name}, cell {number} holds a solution; run `make notebooks`")
        if entry.get("solution") and not entry.get("grade") and cell["cell_type"] == "code" and "NotImplementedError" not in source:
            raise ValueError(f"{name}, cell {number} ({entry.get('grade_id')}) is solved; run `make notebooks`")
        if cell.get("outputs"):
            raise ValueError(f"{name}, cell {number} has outputs; run `make notebooks`")
        without = _without_solutions(source) if cell["cell_type"] == "markdown" else source
        if without != source:
            cell["source"], changed = without, True
    return json.dumps(notebook, indent=1, ensure_ascii=False).encode() + b"\n" if changed else content


def _without_solutions(text: str) -> str:
    """The first page without its column of solutions, and without the sentence that points there."""
    lines = text.split("\n")
    for k, line in enumerate(lines):
        if re.search(r"\| solutions \|$", line) and k + 1 < len(lines) and lines[k + 1].startswith("|"):
            end = next((i for i in range(k, len(lines)) if not lines[i].startswith("|")), len(lines))
            lines[k:end] = [re.sub(r"[^|]*\|$", "", row) for row in lines[k:end]]
    return re.sub(r"\s*The solutions,[^.]*\.", "", "\n".join(lines))
