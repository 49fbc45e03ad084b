"""Which module imports which: downwards only, an earlier chapter only, never in a circle, and at the top of the file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import labkit
from labkit import chapters

PACKAGE = Path(labkit.__file__).parent

GROUND_FLOOR = {
    "chapters",
    "features",
    "figures",
    "images",
    "metrics",
    "operators",
    "patches",
    "pyramids",
    "restoration",
}
GROUND_FLOOR |= {"descent", "openmp", "runtime", "textures", "training", "transport", "validation"}
ABOVE_CHAPTERS = {"checks", "results", "widgets"}
COMMANDS = {"__main__", "cli", "doctor", "grading", "install", "lab", "notebooks", "start", "warm"}

# labkit's own modules that a function may import, by the module that it stands in
LATER = {
    "labkit.cli": "a command loads what it needs: `labkit --help` answers at once",
    "labkit.doctor": "it tells what of an installation is broken, so it has to load without that",
}


class Import(NamedTuple):
    """An import of `target` in line `line`; `inside` the body of a function or not."""

    target: str
    line: int
    inside: bool


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """The package's modules, by their names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.Module, known: set[str]) -> Iterator[Import]:
    """What a module imports: `from labkit import images` is an import of `labkit.images`."""
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, node in inside)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: expected whole names, from labkit.… import …"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in known else node.module or "", node.lineno, node in inside)


def graph(package: Path = PACKAGE) -> dict[str, list[Import]]:
    found = modules(package)
    return {name: list(imports(ast.parse(path.read_text()), set(found))) for name, path in found.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Modules that reach each other (Tarjan's strongly connected components of more than one, or of one that imports itself)."""
    number, lowest, stack, found = {}, {}, [], []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for target in sorted(edges[name]):
            if target not in number:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], number[target])
        if lowest[name] == number[name]:
            ring = [stack.pop()]
            while ring[-1] != name:
                ring.append(stack.pop())
            if len(ring) > 1 or name in edges[name]:
                found.append(sorted(ring))

    for name in edges:
        if name not in number:
            visit(name)
    return found


def layer(module: str) -> int:
    """0 on the ground floor, 1 for kernels, 2 for chapters, 3 for what is made of them, 4 for commands and grading."""
    part = (*module.split("."), "")[1]
    if part in GROUND_FLOOR or part == "":  # labkit itself, which imports names and numbers
        return 0
    if part == "kernels":
        return 1
    if part in {chapter.topic for chapter in chapters.CHAPTERS}:
        return 2
    if part in ABOVE_CHAPTERS:
        return 3
    assert part in COMMANDS, f"{module} is on no floor; expected a chapter's topic, or an entry here"
    return 4


def topic(module: str) -> int | None:
    """The place in the course of the chapter to which a module belongs; `None` for what all share."""
    parts = module.split(".")
    topics = [chapter.topic for chapter in chapters.CHAPTERS]
    own = parts[2:3] if parts[1:2] and parts[1] in ABOVE_CHAPTERS else parts[1:2]
    return topics.index(own[0]) if own and own[0] in topics else None


GRAPH = graph()
OURS = {name: {i.target for i in found if i.target in GRAPH} for name, found in GRAPH.items()}


def test_no_modules_import_each_other():
    assert circles(OURS) == []


def test_imports_point_down():
    wrong = [
        f"{name} imports {target}"
        for name, targets in OURS.items()
        for target in sorted(targets)
        if layer(target) > layer(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_chapter_uses_itself_and_earlier_ones():
    wrong = [
        f"{name} imports {target}"
        for name, targets in OURS.items()
        for target in sorted(targets)
        if topic(name) is not None and topic(target) is not None and topic(target) > topic(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_what_all_share_uses_no_chapter():
    """Nor does it know a chapter's checks, results or widgets; a command names none either, it asks the table."""
    wrong = [
        f"{name} imports {target}"
        for name, targets in OURS.items()
        for target in sorted(targets)
        if topic(name) is None and topic(target) is not None
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_import_nothing_but_other_packages():
    """An import inside a function is for packages that are heavy or may be missing. One of our own would hide a circle."""
    at_hand = {"labkit", *sys.stdlib_module_names}
    hidden = [
        (name, i) for name, found in GRAPH.items() for i in found if i.inside and i.target.split(".")[0] in at_hand
    ]
    wrong = [f"{name}, line {i.line}: {i.target}" for name, i in hidden if name not in LATER]
    assert not wrong, "\n".join(wrong)
    assert {name for name, _ in hidden} == set(LATER), "an exception that is none any more"


# --- the reader of imports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sources, expected",
    [
        ({"one": "from made.two import f", "two": "def g():\n    from made import one"}, [["made.one", "made.two"]]),
        ({"one": "if TYPE_CHECKING:\n    import made.two", "two": "import made.one"}, [["made.one", "made.two"]]),
        ({"__init__": "from made.one import f", "one": "from made import f"}, [["made", "made.one"]]),
        (
            {"one": "import made.two", "two": "from made import three", "three": "import made.one"},
            [["made.one", "made.three", "made.two"]],
        ),
        ({"__init__": "from made.one import f", "one": "from made import two", "two": "import torch"}, []),
    ],
    ids=["in a function", "for types only", "through the package", "three", "none"],
)
def test_a_circle_is_seen(tmp_path, sources, expected):
    for name, source in sources.items():
        (tmp_path / "made" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "made" / f"{name}.py").write_text(source)
    found = graph(tmp_path / "made")
    assert circles({name: {i.target for i in each if i.target in found} for name, each in found.items()}) == expected


def test_an_import_upwards_and_one_of_a_later_chapter_are_seen(monkeypatch):
    monkeypatch.setattr(chapters, "CHAPTERS", (*chapters.CHAPTERS, chapters.Chapter("99", "made_up", "Made up")))
    assert (
        layer("labkit.kernels.made_up_cpu")
        < layer("labkit.made_up.search")
        < layer("labkit.checks.made_up")
        < layer("labkit.cli")
    )
    assert topic("labkit.filtering.linear") < topic("labkit.made_up") == topic("labkit.checks.made_up.search")
    assert topic("labkit.kernels.filtering_cpu") is None
