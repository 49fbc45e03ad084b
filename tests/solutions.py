"""The full solutions of a chapter, taken from its source, for tests that need right answers."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

from labkit import chapters

ROOT = Path(__file__).resolve().parent.parent


@cache
def cells(chapter: str) -> tuple:
    """The cells of a chapter's source."""
    import jupytext

    name = chapters.find(chapter).name
    return tuple(jupytext.read(ROOT / "solutions" / name / f"{name}.py").cells)


def source(chapter: str, exercise: str) -> str:
    """The solution cell of an exercise."""
    found = [cell.source for cell in cells(chapter) if cell.metadata.get("exercise") == exercise]
    assert len(found) == 1, f"{chapter} has {len(found)} cells for {exercise}"
    return found[0]


@cache
def imports(chapter: str) -> str:
    """The import statements of the notebook."""
    found = []
    for cell in cells(chapter):
        if cell.cell_type == "code":
            found += [ast.unparse(node) for node in ast.parse(cell.source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return "\n".join(found)


def define(chapter: str, code: str, exercise: str) -> Any:
    """Run a cell after the notebook's imports and return what it defines under the exercise's name."""
    namespace: dict[str, Any] = {}
    exec(imports(chapter), namespace)
    exec(compile(code, f"<{exercise}>", "exec"), namespace)
    return namespace[exercise]


def solution(chapter: str, exercise: str) -> Any:
    """The right answer, ready to be called."""
    return define(chapter, source(chapter, exercise), exercise)
