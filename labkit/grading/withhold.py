"""The copy of labkit that a student's code finds while an exercise is marked: without what the exercise asks for.

Left out are the checks, the grading, what copies the course, the stored results and the compiled kernels. Public functions
then take their reference path, except those that the exercise withholds: their bodies, and those of private helpers that
nothing else uses, only say that they are not there. This is to make a mark mean that the student wrote the function, not
to keep a secret: everybody holds labkit's source, and a copied reference is what the similarity report looks for.
"""

from __future__ import annotations

import ast
import functools
import importlib.abc
import importlib.util
import marshal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from labkit import chapters

__all__ = ["PACKAGE", "Withheld", "kept_of_checks", "withhold_libraries", "write_package"]

PACKAGE = Path(__file__).resolve().parent.parent
_KEPT_OF_CHECKS = ("checks/__init__.py", "checks/answers.py", "checks/fixtures.py")    # what the worker itself runs on
_KEPT_OF_GRADING = ("__init__.py", "folders.py", "processes.py", "shell.py", "withhold.py", "wire.py", "worker.py")
_SILENT = '''"""Not there while answers are marked: whatever is called says nothing."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *arguments, **options: None
'''


class Withheld(Exception):
    """A function was called that the exercise asks the student to write."""

    def __init__(self, name: str):
        super().__init__(f"this exercise asks you to write what {name} does; while answers are marked it is not there, "
                         "and it was called")


# --- the copy of labkit ---------------------------------------------------------------------------------------------

def write_package(folder: Path, *, withholds: Sequence[str]) -> None:
    """Make `folder/labkit`, or turn what stands there into it: from one exercise to the next, few files change.

    Raises
    ------
    ValueError : a withheld name of labkit's is no function of its.
    """
    package = _package(frozenset(w for w in withholds if w.startswith("labkit.")))
    for path in [p for p in folder.rglob("*") if not p.is_dir() and p.relative_to(folder).as_posix() not in package]:
        path.unlink()
    for path, content in package.items():
        target = folder / path
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


@functools.lru_cache(maxsize=64)
def _package(withholds: frozenset[str]) -> dict[str, bytes]:
    """The files of the copy, by their path; each module with its bytecode, because every child imports anew."""
    changed = _sources().without(withholds)
    result = {}
    for path, content in _files().items():
        part, place = path.parts[0], f"labkit/{path.as_posix()}"
        if place == "labkit/results/__init__.py":
            content = _SILENT.encode()
        elif part in ("results", "start.py") or part == "grading" and path.name not in _KEPT_OF_GRADING:
            continue
        elif part == "checks" and path.suffix == ".py" and path.as_posix() not in kept_of_checks():
            content = _SILENT.encode()
        result[place] = changed.get(path, content)
        if path.suffix == ".py":
            result[importlib.util.cache_from_source(place)] = _bytecode(result[place], place)
    return result


def kept_of_checks() -> tuple[str, ...]:
    """The files of the checks that the copy has: what the worker itself runs on, and what it builds for the answers."""
    return *_KEPT_OF_CHECKS, *(f"checks/{chapter.topic}/fixtures.py" for chapter in chapters.CHAPTERS)


def _bytecode(source: bytes, name: str) -> bytes:
    """A `.pyc` file that is used without a look at its source (PEP 552)."""
    code = compile(source, name, "exec", dont_inherit=True)
    unchecked = (0b01).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source) + marshal.dumps(code)


@functools.cache
def _files() -> dict[Path, bytes]:
    """Everything in the package but kernels, bytecode, and what a plain install keeps there: pictures and results."""
    return {path.relative_to(PACKAGE): path.read_bytes() for path in sorted(PACKAGE.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
            and path.relative_to(PACKAGE).parts[0] not in ("_data", "_results")
            and (path.parent.name != "kernels" or path.name == "__init__.py")}


@functools.cache
def _sources() -> _Sources:
    return _Sources({path: content.decode() for path, content in _files().items() if path.suffix == ".py"
                     and path.parts[0] not in ("checks", "grading", "results")})


@dataclass(frozen=True)
class _Definition:
    path: Path
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class _Sources:
    """labkit's modules as syntax trees, to find a function by the name under which students know it."""

    def __init__(self, sources: dict[Path, str]):
        self.sources = sources
        self.trees = {path: ast.parse(source) for path, source in sources.items()}
        self.paths = {self._module(path): path for path in self.trees}
        # which statements of a module mention a name, which mention an attribute, and what a module imports by name
        self.names: dict[Path, dict[str, set[int]]] = {path: {} for path in self.trees}
        self.attributes: dict[str, set[int]] = {}
        self.imports: dict[Path, set[tuple[str, str]]] = {path: set() for path in self.trees}
        for path, tree in self.trees.items():
            for statement in tree.body:
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name):
                        self.names[path].setdefault(node.id, set()).add(id(statement))
                    elif isinstance(node, ast.Attribute):
                        self.attributes.setdefault(node.attr, set()).add(id(statement))
                    elif isinstance(node, ast.ImportFrom):
                        self.imports[path] |= {(self._origin(path, node), alias.name) for alias in node.names}

    def without(self, withholds: frozenset[str]) -> dict[Path, bytes]:
        """The sources that change when those functions lose their bodies."""
        found = {d: qualified for qualified in sorted(withholds) for d in [self.find(qualified)]}
        for helper in self._helpers({id(d.node) for d in found}):
            found[helper] = f"{self._module(helper.path)}.{helper.name}"
        changed = {}
        for path in {d.path for d in found}:
            emptied = _Emptier({d.node.lineno: name for d, name in found.items() if d.path == path})
            tree = ast.fix_missing_locations(emptied.visit(ast.parse(self.sources[path])))
            changed[path] = f"{ast.unparse(tree)}\n".encode()
        return changed

    def find(self, qualified: str) -> _Definition:
        """The definition of a function or class, through the imports of the modules that hand it on."""
        module, name, seen = *qualified.rpartition(".")[::2], set()
        while (module, name) not in seen:
            seen.add((module, name))
            path = self.paths.get(module)
            for node in self.trees[path].body if path else ():
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
                    return _Definition(path, name, node)
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        if (alias.asname or alias.name) == name:
                            module, name = self._origin(path, node), alias.name
        raise ValueError(f"{qualified!r} is withheld, but labkit has no such function")

    def _helpers(self, removed: set[int]) -> list[_Definition]:
        """Private functions that only removed ones use, directly or through one another."""
        private = [_Definition(path, node.name, node) for path, tree in self.trees.items() for node in tree.body
                   if isinstance(node, ast.FunctionDef) and node.name.startswith("_")]
        gone, helpers = set(removed), []
        while True:
            new = [d for d in private if id(d.node) not in gone and (users := self._users(d)) and users <= gone]
            if not new:
                return helpers
            helpers += new
            gone.update(id(d.node) for d in new)

    def _users(self, definition: _Definition) -> set[int]:
        """The statements of the package that mention a private function: by name in its own module and in those that
        import it, as an attribute anywhere. The function itself does not count."""
        imported = (self._module(definition.path), definition.name)
        users = set(self.attributes.get(definition.name, ()))
        for path, names in self.names.items():
            if path == definition.path or imported in self.imports[path]:
                users |= names.get(definition.name, set())
        return users - {id(definition.node)}

    @staticmethod
    def _module(path: Path) -> str:
        parts = ("labkit", *path.with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _origin(self, path: Path, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self._module(path).split(".")
        package = package if path.name == "__init__.py" else package[:-1]
        return ".".join([*package[:len(package) - node.level + 1], *([node.module] if node.module else [])])


class _Emptier(ast.NodeTransformer):
    """Replaces the bodies of functions, given by their lines, by a sentence; of a class, the bodies of its methods."""

    def __init__(self, removed: dict[int, str]):
        self.removed = removed

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        name = self.removed.get(node.lineno)
        return node if name is None else _emptied(node, name)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        name = self.removed.get(node.lineno)
        if name is not None:
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            node.body = [_emptied(part, name) if isinstance(part, functions) else part for part in node.body]
        return node


def _emptied(node: ast.FunctionDef, name: str) -> ast.FunctionDef:
    node.body = ast.parse(f"from labkit.grading.withhold import Withheld\nraise Withheld({name!r})").body
    return node


# --- other libraries, inside the worker -----------------------------------------------------------------------------

def withhold_libraries(names: Sequence[str]) -> None:
    """Make functions of other libraries say that they are not there, now or when their module is imported.

    Whoever asks for them by that name gets the sentence, the library's own code included: what is built on
    `scipy.ndimage.gaussian_filter` is no answer to "write a Gaussian filter" either.
    """
    wanted: dict[str, list[str]] = {}
    for name in names:
        if not name.startswith("labkit."):
            module, _, attribute = name.rpartition(".")
            wanted.setdefault(module, []).append(attribute)
    for module in list(wanted):
        if module in sys.modules:
            _replace(sys.modules[module], wanted.pop(module))
    if wanted:
        sys.meta_path.insert(0, _Withholder(wanted))


def _replace(module: ModuleType, attributes: Sequence[str]) -> None:
    library = module.__name__.partition(".")[0]
    for attribute in attributes:
        original = getattr(module, attribute, None)
        if original is None:
            continue
        stub = _stub(f"{module.__name__}.{attribute}")
        for other in [m for key, m in list(sys.modules.items()) if m is not None and key.partition(".")[0] == library]:
            for key in [k for k, value in list(vars(other).items()) if value is original]:
                setattr(other, key, stub)
        setattr(module, attribute, stub)


def _stub(name: str) -> Callable:
    def withheld(*arguments, **options):
        raise Withheld(name)
    withheld.__name__ = withheld.__qualname__ = name.rpartition(".")[2]
    return withheld


class _Withholder(importlib.abc.MetaPathFinder):
    """Lets a module be imported as ever, and replaces the withheld functions before anyone sees it."""

    def __init__(self, wanted: dict[str, list[str]]):
        self.wanted = wanted

    def find_spec(self, fullname, path, target=None):
        if fullname not in self.wanted:
            return None
        attributes = self.wanted.pop(fullname)      # popped: the search below comes through here again
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _replace(module, attributes)
            spec.loader.exec_module = exec_module
        return spec
