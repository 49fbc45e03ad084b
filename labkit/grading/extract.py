"""Finds the chapter and the answers in a notebook, whatever has been done to its cells.

What decides, in this order:

- **Which cell answers an exercise.** Cells that nbgrader's metadata (`grade_id`), the mark `exercise` or the cell's id name
  for it come first; where none of them defines the function (cells were copied, renamed, or metadata lost), any cell that
  defines it. The last of them counts, or one below it that defines the function again before its check. Cells that are
  still as they were released do not.
- **What it sees.** The notebook as it is above the exercise's check: what stands below the check cannot reach the answer,
  nor does it in nbgrader. Without a check below the answer, the whole notebook.
- **What runs.** First only the cells that the answer needs: those that define, change or import a global name it uses, and
  what these need in turn. An unrelated cell that is slow or broken costs nothing. An answer that is not right that way is
  tried again with everything that the student has written above its check.

Never run: checks, what a demonstration shows, and given cells that the answer does not need, except those that import. What
a demonstration defines runs where the answer needs it; what the student wrote into one is the student's. Cells are read as
IPython reads them: `%time x = f()` is `x = f()`, `%%writefile` writes its file, and other magic and shell lines are taken
out. Line numbers stay as the student sees them.
"""

from __future__ import annotations

import ast
import json
import re
import symtable
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager, leading_empty_lines

from labkit import chapters, checks
from labkit.checks.engine import Exercise
from labkit.grading.collect import MOST_NOTEBOOK_BYTES
from labkit.grading.files import notebook_text
from labkit.grading.isolation import Cell

__all__ = ["LONGEST_ANALYSED", "MOST_ANALYSED", "MOST_CELLS", "MOST_MAGICS", "Answer", "Assignment", "Extracted", "NotebookProblem",
           "Question", "assignments", "extract", "parse", "read_notebook"]

MOST_CELLS = 2_000
# Python's parser needs seconds for 20 000 characters of `-----…` and minutes for 100 000: longer cells are not analysed
LONGEST_ANALYSED = 20_000
MOST_ANALYSED = 200_000
MOST_MAGICS = 100       # of a cell: IPython reads the cell anew for each

_DEFINITION = re.compile(r"^(?:async\s+def|def|class)\s+(\w+)|^(\w+)\s*=(?!=)", re.MULTILINE)
_RUN_CELL_MAGICS = ("time", "timeit", "capture", "prun")
_RUN_LINE_MAGICS = ("time", "prun")


class NotebookProblem(Exception):
    """A file that is no notebook; the message is for the student."""


@dataclass(frozen=True)
class Question:
    """A written answer that a person marks: its name, its points, and what the notebook held before."""

    name: str
    points: float
    given: str


@dataclass(frozen=True)
class Assignment:
    """A chapter as it was released.

    Attributes
    ----------
    name : of its notebook, such as `"01_filtering"`. title : such as `"Filtering"`.
    stubs : the released cell of each exercise. given : every released code cell; `setup` those of them that import.
    questions : the written answers, by name. hints : the hints of each exercise, as Markdown, by number.
    """

    name: str
    title: str
    stubs: dict[str, str]
    given: frozenset[str]
    setup: frozenset[str]
    demonstrations: frozenset[str]
    questions: dict[str, Question]
    hints: dict[str, dict[int, tuple[str, str]]]

    @property
    def topic(self) -> str:
        return chapters.split(self.name)[1]

    @property
    def number(self) -> str:
        return chapters.split(self.name)[0]

    @property
    def exercises(self) -> dict[str, Exercise]:
        return checks.exercises(self.topic)


@dataclass(frozen=True)
class Answer:
    """Where an exercise is answered.

    Attributes
    ----------
    cell : index of the cell that defines the function, among `Extracted.cells`. source : its text.
    needs : indices of the cells that it depends on, itself included. above : of these and all that the student has
        written above its check.
    """

    cell: int
    source: str
    needs: tuple[int, ...]
    above: tuple[int, ...]


@dataclass(frozen=True)
class Extracted:
    """What a notebook holds. An exercise is in `answers`, or in `unsolved`, or in `missing` with the reason."""

    assignment: Assignment
    cells: tuple[Cell, ...]
    answers: dict[str, Answer]
    unsolved: tuple[str, ...]
    missing: dict[str, str]
    written: dict[str, str]
    remarks: tuple[str, ...]


@dataclass
class _Cell:
    """A code cell, before it is known which chapter it belongs to.

    Attributes
    ----------
    source : as it is in the notebook. code : what of it may run.
    exercises, checks : names that its metadata give it. demonstration : whether it is tagged as one.
    binds : names it defines. touches : names whose object it changes. imports : names it imports.
    loads : global names it uses; a module it imports or writes is called `"import helper"` here and in `binds`.
    broken : whether it is no Python. wide : whether it may define any name.
    given : whether it is as it was released. runs : whether it may run at all. module : of a file beside the notebook, its name.
    """

    source: str
    code: str
    exercises: frozenset[str]
    checks: frozenset[str]
    demonstration: bool
    binds: frozenset[str] = frozenset()
    touches: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    loads: frozenset[str] = frozenset()
    broken: bool = False
    wide: bool = False
    given: bool = False
    runs: bool = True
    module: str = ""


# --- the course's side ----------------------------------------------------------------------------------------------

def assignments(course: Path) -> list[Assignment]:
    """The released chapters of a course, in their order.

    Raises
    ------
    ValueError : the folder holds none.
    """
    paths = [Path(course) / "notebooks" / chapter.name / f"{chapter.name}.ipynb" for chapter in chapters.CHAPTERS]
    found = [_assignment(path, path.stat().st_mtime_ns) for path in paths if path.is_file()]    # read again when they have changed
    if not found:
        raise ValueError(f"{course} holds no released chapter; expected notebooks/01_filtering/01_filtering.ipynb and its like")
    return found


@lru_cache(maxsize=32)
def _assignment(path: Path, changed: int) -> Assignment:
    raw, _ = read_notebook(path)
    chapter = chapters.find(path.stem)
    exercises = checks.exercises(chapter.topic)
    stubs, given, setup, demonstrations, questions, hints = {}, set(), set(), set(), {}, {}
    markdown = ""
    for cell in raw:
        source, entry = _source(cell), _entry(cell)
        if entry.get("grade") and entry.get("solution"):
            question = str(entry.get("grade_id"))
            questions[question] = Question(question, float(entry.get("points") or 0), source)
            continue
        if cell.get("cell_type") != "code":
            markdown = source
            continue
        given.add(source)
        for exercise in _names_of(cell)[0] & set(exercises):
            stubs[exercise], hints[exercise] = source, _hints(markdown)
        if _demonstrates(cell):
            demonstrations.add(source)
        elif re.search(r"^(?:import|from)\s", source, re.MULTILINE):
            setup.add(source)
    return Assignment(chapter.name, chapter.title, stubs, frozenset(given), frozenset(setup), frozenset(demonstrations), questions, hints)


def _hints(markdown: str) -> dict[int, tuple[str, str]]:
    """The hints that unfold under an exercise: number, title and text."""
    found = re.finditer(r"<details>\s*<summary>\s*Hint (\d+)(?::\s*(.*?))?\s*</summary>(.*?)</details>", markdown, re.DOTALL)
    return {int(match[1]): ((match[2] or "").strip(), match[3].strip()) for match in found}


# --- the student's side ---------------------------------------------------------------------------------------------

def read_notebook(path: Path, remarks: list[str] | None = None) -> tuple[list[dict], dict]:
    """Cells and metadata of a notebook file, read without believing anything about it; `remarks` takes what there is to say.

    Raises
    ------
    NotebookProblem : the file is no notebook.
    """
    size = path.stat().st_size
    if size > MOST_NOTEBOOK_BYTES:
        raise NotebookProblem(f"it has {size / 1e6:.0f} MB, more than the {MOST_NOTEBOOK_BYTES / 1e6:.0f} MB that are read")
    content = path.read_bytes()
    if not content.strip():
        raise NotebookProblem("it is empty")
    try:
        content_text, said = notebook_text(content)
    except ValueError as error:
        raise NotebookProblem(str(error)) from None
    if said and remarks is not None:
        remarks.append(said)
    try:
        notebook = json.loads(content_text)
    except (ValueError, RecursionError):
        raise NotebookProblem("it is not a notebook (it is not JSON, or was cut off)") from None
    if not isinstance(notebook, dict):
        raise NotebookProblem("it is JSON, but not a notebook")
    metadata = notebook.get("metadata")
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):      # the format before 2014
        cells = [cell for sheet in notebook["worksheets"] if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)
                 for cell in sheet["cells"]]
    if not isinstance(cells, list):
        raise NotebookProblem("it is JSON, but not a notebook (it has no cells)")
    return [cell for cell in cells if isinstance(cell, dict)][:MOST_CELLS], metadata if isinstance(metadata, dict) else {}


def extract(path: Path, course: Sequence[Assignment], modules: dict[str, str] | None = None) -> Extracted:
    """The answers in a notebook; `modules` are the Python files beside it, by their names.

    Raises
    ------
    NotebookProblem : the file is no notebook, or holds no exercise of this course.
    """
    remarks: list[str] = []
    raw, metadata = read_notebook(path, remarks)
    cells = [*_module_cells(modules or {}), *_code_cells(raw)]
    named = frozenset().union(*(cell.exercises | cell.checks | cell.binds for cell in cells))
    assignment = max(course, key=lambda a: (len(named & set(a.exercises)), a.name in path.stem))
    if not named & set(assignment.exercises):
        raise NotebookProblem("none of this course's exercises was found in it: is it the right notebook?")
    for cell in cells:
        cell.given = cell.source in assignment.given - assignment.setup - set(assignment.stubs.values())
        cell.demonstration = cell.source in assignment.demonstrations or cell.demonstration and not _add_to(cell, assignment)
        if cell.demonstration and (tree := parse(cell.code) if not cell.broken else None):
            _take_over(cell, *_without(cell.code, [node for node in tree.body if isinstance(node, ast.Expr)]))
        cell.runs = not (cell.demonstration or cell.checks)
    remarks += _remarks(raw, metadata, assignment)
    answers, unsolved, missing = {}, [], {}
    for name in assignment.exercises:
        found = _find(name, cells, assignment, remarks)
        if isinstance(found, Answer):
            answers[name] = found
        elif found:
            missing[name] = found
        else:
            unsolved.append(name)
    counted = {answer.cell: name for name, answer in answers.items()}
    return Extracted(assignment, tuple(Cell(cell.code, counted.get(i)) for i, cell in enumerate(cells)), answers,
                     tuple(unsolved), missing, _written(raw, assignment), tuple(remarks))


def _find(name: str, cells: list[_Cell], assignment: Assignment, remarks: list[str]) -> Answer | str | None:
    """Where an exercise is answered; why it is not; or `None` where its cell is still as it was released."""
    stub = assignment.stubs.get(name)
    marked = [i for i, cell in enumerate(cells) if name in cell.exercises and not cell.demonstration]
    defining = [i for i, cell in enumerate(cells) if cell.runs and cell.source != stub
                and (name in cell.binds or cell.broken and i in marked)]
    if not defining:
        if any(cell.source == stub for cell in cells):
            return None
        others = sorted({bound for i in marked for bound in cells[i].binds - cells[i].imports})
        if others:
            return f"No cell defines {name}. The cell of this exercise defines {', '.join(others[:5])} instead."
        return f"No cell defines {name}: its cell was deleted or emptied, or the function renamed."
    in_marked = [i for i in defining if i in marked]
    last = (in_marked or defining)[-1]
    stop = next((i for i, cell in enumerate(cells) if name in cell.checks and i > last), len(cells))
    winner = max(i for i in defining if i < stop)
    if len(defining) > 1:
        remarks.append(f"{len(defining)} cells define {name}; number {defining.index(winner) + 1} of them counts.")
    if not in_marked:
        remarks.append(f"{name} was found by its name only: the cell made for it is gone, or still as it was.")
    above = [i for i, cell in enumerate(cells[:stop]) if cell.runs and cell.source != stub]
    needs = _needs(winner, above, [i for i, cell in enumerate(cells[:stop]) if cell.demonstration and not cell.checks], cells, assignment)
    if brought := [cells[i].module for i in sorted(needs) if cells[i].module]:
        remarks.append(f"{name} uses {', '.join(brought)}, handed in beside the notebook.")
    return Answer(winner, cells[winner].source, tuple(sorted(needs)), tuple(i for i in above if i in needs or not cells[i].given))


def _needs(winner: int, above: Sequence[int], shown: Sequence[int], cells: list[_Cell], assignment: Assignment) -> set[int]:
    """The cells among `above` that an answer depends on, and of the demonstrations, `shown`, those that alone define a name.

    Given imports always come along.
    """
    modules = frozenset().union(*(cells[i].imports for i in above))
    needed = {winner} | {i for i in above if cells[i].source in assignment.setup or cells[i].wide}
    defined = frozenset().union(*(cells[i].binds for i in above))
    names: frozenset[str] = frozenset()
    more = set(needed)
    while more:
        needed |= more
        names = names.union(*(cells[i].loads for i in more))
        more = {i for i in above if i not in needed and names & (cells[i].binds | cells[i].touches - modules)}
        if not any(cells[i].broken for i in needed | more):      # every word of a broken cell counts as a name
            more |= {i for i in shown if i not in needed and names & cells[i].binds - defined}
    return needed


def _remarks(raw: list[dict], metadata: dict, assignment: Assignment) -> Iterator[str]:
    for key, entry in (("kernelspec", "language"), ("language_info", "name")):
        about = metadata.get(key)
        language = about.get(entry) if isinstance(about, dict) else None
        if isinstance(language, str) and language.lower() not in ("python", "ipython", ""):
            yield f"The notebook says that it is written in {language[:40]}; it was read as Python."
            break
    for cell in raw:
        entry = _entry(cell)
        for name in _names_of(cell)[1] & set(assignment.exercises):
            if entry.get("points", assignment.exercises[name].points) != assignment.exercises[name].points:
                yield f"The points written into the notebook for {name} are not those of the course; the course's count."


def _written(raw: list[dict], assignment: Assignment) -> dict[str, str]:
    """The written answers, where they differ from what was released."""
    found = {}
    for cell in raw:
        question = assignment.questions.get(str(_entry(cell).get("grade_id")))
        if question and _source(cell) and _source(cell) != question.given:
            found[question.name] = _source(cell)
    return found


# --- cells ----------------------------------------------------------------------------------------------------------

def _code_cells(raw: list[dict]) -> list[_Cell]:
    cells, budget = [], MOST_ANALYSED
    for cell in raw:
        if cell.get("cell_type") != "code":
            continue
        source = _source(cell)
        exercises, checked = _names_of(cell)
        code, tree = _runnable(source) if len(source) <= min(LONGEST_ANALYSED, budget) else (source, None)
        budget -= len(source) if tree else 0
        binds, touches, imports = _names_in(tree) if tree else _definitions_in(code)
        imported = _modules_in(tree) if tree else frozenset()
        called = frozenset(re.findall(r"^check\.(\w+)\(", source, re.MULTILINE))
        # a check that someone has written an answer into is an answer
        checked = frozenset() if binds - imports else checked | called
        cells.append(_Cell(source, code, exercises, checked, _demonstrates(cell), binds | _written_in(code), touches, imports,
                           _globals_in(code, tree) | imported, broken=tree is None, wide="import *" in imported))
    return cells


def _module_cells(modules: dict[str, str]) -> list[_Cell]:
    """Cells that write the files beside a notebook before its own cells run."""
    cells, budget = [], MOST_ANALYSED
    for name, text in sorted(modules.items()):
        tree = parse(text) if len(text) <= min(LONGEST_ANALYSED, budget) else None
        budget -= len(text) if tree else 0
        code = f"get_ipython().run_cell_magic('writefile', {name!r}, {text!r})"
        cells.append(_Cell(code, code, frozenset(), frozenset(), False, frozenset({f"import {name.split('/')[0].removesuffix('.py')}"}),
                           loads=(_modules_in(tree) if tree else frozenset()) - {"import *"}, module=name))
    return cells


def _written_in(code: str) -> frozenset[str]:
    """The modules that a cell writes with `%%writefile`."""
    return frozenset(f"import {match[1]}" for match in re.finditer(r"run_cell_magic\('(?:write)?file', '(?:[^']* )?(\w+)(?:/[\w/]*)?\.py'", code))


def _modules_in(tree: ast.Module) -> frozenset[str]:
    """The modules that some code imports or runs, `"import *"` among them where it takes names that cannot be seen."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {f"import {alias.name.split('.')[0]}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"import {(node.module or '').split('.')[0]}", *(f"import {alias.name}" for alias in node.names if alias.name == "*")}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run_line_magic" \
                and len(node.args) == 2 and isinstance(node.args[0], ast.Constant) and node.args[0].value == "run":
            words = str(getattr(node.args[1], "value", "")).split()
            found |= {"import *", *(f"import {word.split('/')[0].removesuffix('.py')}" for word in words[:1])}
    return frozenset(found)


def _add_to(cell: _Cell, assignment: Assignment) -> bool:
    """Leave of a demonstration that a student has changed what the student added, and what is defined for that; whether
    anything was added."""
    tree = parse(cell.code) if len(cell.code) <= LONGEST_ANALYSED and not cell.broken else None
    if tree is None:
        return cell.broken
    released = {ast.dump(node) for source in assignment.demonstrations if (given := parse(source)) for node in given.body}
    added = [node for node in tree.body if ast.dump(node) not in released]
    if not added:
        return False
    code, tree = _without(cell.code, [node for node in tree.body if node not in added and isinstance(node, ast.Expr)])
    _take_over(cell, code, tree)
    return True


def _take_over(cell: _Cell, code: str, tree: ast.Module | None) -> None:
    """Give a cell other code, and what follows from it."""
    cell.code, cell.broken = code, tree is None
    if tree:
        cell.binds, cell.touches, cell.imports = _names_in(tree)
        cell.binds |= _written_in(code)
        cell.loads = _globals_in(code, tree) | _modules_in(tree)


def _source(cell: dict) -> str:
    """The text of a cell, as text that any file can hold, without the spaces at the ends of its lines."""
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    if not isinstance(source, str):
        return ""
    source = source.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip() for line in source.split("\n")).rstrip("\n")


def _metadata(cell: dict) -> dict:
    return cell["metadata"] if isinstance(cell.get("metadata"), dict) else {}


def _entry(cell: dict) -> dict:
    """nbgrader's entry in a cell's metadata."""
    entry = _metadata(cell).get("nbgrader")
    return entry if isinstance(entry, dict) else {}


def _demonstrates(cell: dict) -> bool:
    tags = _metadata(cell).get("tags")
    return isinstance(tags, list) and "demonstration" in tags


def _names_of(cell: dict) -> tuple[frozenset[str], frozenset[str]]:
    """The exercises that a cell is marked to answer, and those that it is marked to check."""
    metadata, entry = _metadata(cell), _entry(cell)
    names = {name for name in (metadata.get("exercise"), entry.get("grade_id"), cell.get("id")) if isinstance(name, str)}
    checked = {name.removeprefix("check_") for name in names if name.startswith("check_")}
    if isinstance(metadata.get("check"), str):
        checked.add(metadata["check"])
    if entry.get("grade") and not entry.get("solution"):
        checked |= names
    return frozenset(() if checked else names), frozenset(checked)


def _runnable(source: str) -> tuple[str, ast.Module | None]:
    """What of a cell may run, on the same lines, and its syntax tree; no tree where there is an error in it."""
    tree = parse(source)
    if tree is None:
        source = _as_python(source)
        tree = parse(source)
    if tree is None:
        return source, None
    return _without(source, [node for node in tree.body if _is_check(node)])


def _without(source: str, unwanted: Sequence[ast.stmt]) -> tuple[str, ast.Module | None]:
    """Some code with `pass` in the place of statements of its top level, on the same lines; and its syntax tree."""
    lines = source.encode().split(b"\n")
    for node in reversed(unwanted):
        first, last = node.lineno - 1, node.end_lineno - 1
        kept = lines[first][:node.col_offset], lines[last][node.end_col_offset:]
        lines[first:last + 1] = [kept[0] + b"pass" + kept[1], *[b""] * (last - first)]
    source = b"\n".join(lines).decode()
    return source, parse(source)


def _as_python(source: str) -> str:
    """What IPython makes of a cell with magic or shell lines, each on its own line still."""
    blank = len(source) - len(source.lstrip("\n"))
    if source[blank:].startswith("%%"):
        first, _, body = source[blank:].partition("\n")
        name, _, rest = first[2:].partition(" ")
        if name in ("writefile", "file"):
            return "\n" * blank + f"get_ipython().run_cell_magic('writefile', {rest.strip()!r}, {body + chr(10)!r})"
        if name not in _RUN_CELL_MAGICS:
            return ""
        output = rest.split()[-1:] if name == "capture" else []
        kept = f"{output[0]} = get_ipython()" if output and output[0].isidentifier() else ""
        return "\n" * blank + kept + "\n" + (body if parse(body) else _as_python(body))
    manager = TransformerManager()
    lines = f"{source}\n".splitlines(keepends=True)
    for clean in manager.cleanup_transforms:
        lines = lines if clean is leading_empty_lines else clean(lines)
    for _ in range(MOST_MAGICS):
        try:
            changed, after = manager.do_one_token_transform(list(lines))
        except (SyntaxError, ValueError, RecursionError):
            break
        if not changed:
            break
        place = next((i for i, (old, new) in enumerate(zip(lines, after)) if old != new), len(after) - 1)
        joined = sum(line.count("\n") for line in lines) - sum(line.count("\n") for line in after)
        lines = [*after[:place], _without_magic(after[place]), *["\n"] * joined, *after[place + 1:]]
    return "".join(lines).removesuffix("\n")


def _without_magic(line: str) -> str:
    """A line as IPython made it of a magic one: what `%time` runs is run, what gives something gives it silently."""
    tree = parse(line.strip())
    node = tree.body[0] if tree and len(tree.body) == 1 else None
    call = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call)
            and isinstance(call.func.value.func, ast.Name) and call.func.value.func.id == "get_ipython"):
        return line
    words = [argument.value for argument in call.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)]
    indent, text = line[:len(line) - len(line.lstrip())], line.strip()
    if call.func.attr == "run_line_magic" and words[:1] and words[0] in _RUN_LINE_MAGICS:
        run = re.sub(r"^(?:--?[A-Za-z]\S*\s+)*", "", words[1] if len(words) > 1 else "").strip()
        start = text[:text.index("get_ipython()")] if isinstance(node, ast.Assign) else ""
        return f"{indent}{start}{run or 'None'}\n"
    if isinstance(node, ast.Assign) or words[:1] == ["run"]:
        return line
    return f"{indent}pass\n"


def parse(source: str) -> ast.Module | None:
    """The syntax tree of some code of at most `LONGEST_ANALYSED` characters, or `None` where it is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # what Python has to say about "\\d" is for the student
        try:
            return compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _is_check(node: ast.stmt) -> bool:
    """Whether a statement calls a check, and nothing else."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute) \
        and isinstance(node.value.func.value, ast.Name) and node.value.func.value.id == "check"


def _names_in(tree: ast.Module) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names that a cell binds, whose objects it changes, and that it imports."""
    binds, touches, imports = set(), set(), set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            binds.add(node.name)
            continue        # what is bound inside stays inside
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            binds.add(node.id)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            touches.add(_base(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            touches.add(_base(node.value.func))
        waiting.extend(ast.iter_child_nodes(node))
    return frozenset(binds | imports), frozenset(touches), frozenset(imports)


def _definitions_in(code: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The same for a cell that cannot be analysed: definitions that start a line."""
    return frozenset(match[1] or match[2] for match in _DEFINITION.finditer(code)), frozenset(), frozenset()


def _globals_in(code: str, tree: ast.Module | None) -> frozenset[str]:
    """The global names that a cell uses, inside its functions too; every word where it cannot be analysed."""
    found: set[str] = set()
    try:
        tables = [symtable.symtable(code, "cell", "exec")] if tree else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        return frozenset(re.findall(r"\b[A-Za-z_]\w*", code[:LONGEST_ANALYSED]))
    while tables:
        table = tables.pop()
        tables += table.get_children()
        found |= {symbol.get_name() for symbol in table.get_symbols()
                  if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module")}
    return frozenset(found)


def _base(node: ast.expr) -> str:
    """`a` of `a.b[c].d`; an empty string where there is no name at the bottom."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
