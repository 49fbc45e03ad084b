"""One source per chapter, everything else generated.

    python -m labkit.notebooks build [CHAPTER ...]     write the notebooks whose sources have changed, or those named
    python -m labkit.notebooks check                   say which notebooks are not what their sources give

`solutions/NN_topic/NN_topic.py` is a jupytext percent script. From it come, in this order:

- `solutions/NN_topic/NN_topic.ipynb`, run, with its pictures;
- `notebooks/NN_topic/NN_topic.ipynb`, the students' version: nbgrader takes the solutions and the outputs away;
- `notebooks/index.ipynb`, the course's first page, from the headers of all chapters.

Two cells of a script belong to an exercise and name it: `# %% exercise="box_filter"`, with its solution between
`### BEGIN SOLUTION` and `### END SOLUTION`, and `# %% check="box_filter"`. nbgrader's cell metadata is made from that.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbclient import NotebookClient
from nbformat import NotebookNode

import labkit.chapters
import labkit.checks

__all__ = ["CELL_SECONDS", "HEADER", "HOW_TO", "KERNEL", "MACHINE", "WELCOME", "WIDGET_VIEW", "Chapter",
           "NotebookError", "Score", "build", "chapters", "execute", "failures", "find_root", "index", "main",
           "problems", "released", "scores", "unexecuted"]

HEADER = ("title", "minutes", "needs", "summary")
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
          "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"}}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 1800    # a training at profile "laptop" takes minutes, nothing takes half an hour


class NotebookError(Exception):
    """A notebook that cannot be made or run; the message says which and why."""


@dataclass(frozen=True)
class Chapter:
    """Where the files of one chapter lie."""

    root: Path
    name: str       # "01_filtering"

    @property
    def number(self) -> str:
        return labkit.chapters.split(self.name)[0]

    @property
    def topic(self) -> str:
        return labkit.chapters.split(self.name)[1]

    @property
    def source(self) -> Path:
        return self.root / "solutions" / self.name / f"{self.name}.py"

    @property
    def solution(self) -> Path:
        return self.source.with_suffix(".ipynb")

    @property
    def student(self) -> Path:
        return self.root / "notebooks" / self.name / f"{self.name}.ipynb"


@dataclass(frozen=True)
class Score:
    """What a check cell said: `text` in words, and points; `earned` is 0 where the cell did not come to a verdict."""

    exercise: str
    earned: float
    points: float
    text: str


def find_root(start: Path | None = None) -> Path:
    """The course's folder: `start` (the current folder), else the nearest above it, else labkit's own repository.

    Raises
    ------
    NotebookError : none of them holds `notebooks/index.ipynb`, or `solutions` beside `nbgrader_config.py`.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parent.parent):
        if (folder / "nbgrader_config.py").is_file() and (folder / "solutions").is_dir() \
                or (folder / "notebooks" / "index.ipynb").is_file():
            return folder
    raise NotebookError(f"no course was found in {start} or above it; go to the folder that holds `notebooks`, or make one with\n"
                        "    labkit start patch-by-patch\nwhich copies the course into a folder of that name, and go there")


def chapters(root: Path) -> list[Chapter]:
    """The chapters of the course's table that have a source, in their order."""
    found = [Chapter(root, row.name) for row in labkit.chapters.CHAPTERS]
    return [chapter for chapter in found if chapter.source.is_file()]


# --- from the script to the notebook --------------------------------------------------------------------------------

def unexecuted(chapter: Chapter) -> NotebookNode:
    """The notebook with solutions, as its source gives it, before it is run.

    Raises
    ------
    NotebookError : the header lacks an entry, or the cells of an exercise do not belong together.
    """
    text = chapter.source.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    header = _take_header(notebook, chapter)
    notebook.metadata = nbformat.from_dict(
        {**KERNEL, "labkit": {**header, "source_sha256": hashlib.sha256(text.encode()).hexdigest()}})
    _describe_exercises(notebook, chapter)
    _name_cells(notebook)
    nbformat.validate(notebook)
    return notebook


def _take_header(notebook: NotebookNode, chapter: Chapter) -> dict:
    """Remove jupytext's header cell and return its `labkit` entry."""
    first = notebook.cells[0] if notebook.cells else None
    raw = yaml.safe_load(first.source.strip("-\n")) if first and first.cell_type == "raw" else None
    header = raw.get("labkit") if isinstance(raw, dict) else None
    if not isinstance(header, dict) or set(header) != set(HEADER):
        raise NotebookError(f"{chapter.source}: expected a header with an entry `labkit` that holds "
                            f"{', '.join(HEADER)}; found {', '.join(header) if isinstance(header, dict) else 'none'}")
    del notebook.cells[0]
    return {key: header[key] for key in HEADER}


def _describe_exercises(notebook: NotebookNode, chapter: Chapter) -> None:
    """Turn the marks `exercise` and `check` into nbgrader's metadata, with the points that the check gives."""
    expected: str | None = None     # the exercise whose check must come next
    seen: set[str] = set()
    for cell in notebook.cells:
        marks = cell.metadata
        cell.metadata = nbformat.from_dict({"tags": marks["tags"]} if "tags" in marks else {})
        exercise, check = marks.get("exercise"), marks.get("check")
        solved = len(re.findall("### BEGIN SOLUTION", cell.source)), len(re.findall("### END SOLUTION", cell.source))
        if solved != ((1, 1) if exercise else (0, 0)):
            raise NotebookError(f"{chapter.source}: a cell marked exercise, and no other, holds one ### BEGIN SOLUTION "
                                f"and one ### END SOLUTION; look at the cell that starts with {cell.source[:60]!r}")
        if exercise:
            if exercise in seen or expected:
                raise NotebookError(f"{chapter.source}: exercise {exercise!r} comes twice, "
                                    f"or before the check of {expected!r}")
            known = labkit.checks.exercises(chapter.topic)
            if exercise not in known:
                raise NotebookError(f"{chapter.source}: labkit.checks.{chapter.topic} knows no exercise {exercise!r}; "
                                    f"it has {', '.join(known)}")
            seen.add(exercise)
            expected = exercise
            cell.metadata.nbgrader = _nbgrader(exercise, solution=True)
        if check:
            if check != expected:
                raise NotebookError(f"{chapter.source}: found the check of {check!r}; expected that of {expected!r}")
            expected = None
            points = labkit.checks.exercises(chapter.topic)[check].points
            cell.metadata.nbgrader = _nbgrader(f"check_{check}", grade=True, locked=True, points=points)
            # nbval then compares what a check says about the solution with what it said when the notebook was made
            cell.metadata.tags = [*cell.metadata.get("tags", []), "nbval-check-output"]
    if expected:
        raise NotebookError(f"{chapter.source}: exercise {expected!r} has no check")


def _nbgrader(grade_id: str, *, solution: bool = False, grade: bool = False, locked: bool = False,
              points: float | None = None) -> NotebookNode:
    entry = {"grade": grade, "grade_id": grade_id, "locked": locked, "schema_version": 3, "solution": solution,
             "task": False}
    return nbformat.from_dict(entry if points is None else {**entry, "points": points})


def _name_cells(notebook: NotebookNode) -> None:
    """Give every cell an id that depends on nothing but itself, so that a change in one leaves the others alone."""
    used: set[str] = set()
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        base = name or hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        copies = 1
        cell.id = base
        while cell.id in used:
            copies += 1
            cell.id = f"{base}-{copies}"
        used.add(cell.id)


# --- running --------------------------------------------------------------------------------------------------------

class _Client(NotebookClient):
    """Runs a notebook; Ctrl + C ends its kernel and is remembered, where nbclient's own handling fails in an assertion."""

    stopped = False

    async def async_start_new_kernel(self, **kwargs) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            self.stopped, self.shutdown_kernel = True, "immediate"      # asked politely, it would print its own traceback
            if task is not None:
                task.cancel()

        with suppress(RuntimeError):        # Windows and other threads have no such handlers: there it is raised as usual
            loop.add_signal_handler(signal.SIGINT, stop)
        await super().async_start_new_kernel(**kwargs)


def execute(notebook: NotebookNode, folder: Path, *, profile: str | None = None, allow_errors: bool = False,
            seconds: float = CELL_SECONDS) -> list[str]:
    """Run a notebook in place, as if it were opened in `folder`, and clean its outputs.

    Parameters
    ----------
    profile : `"quick"`, `"laptop"` or `"gpu"`; `None` takes LABKIT_PROFILE, and `"laptop"` without it.
    allow_errors : go on after a cell that failed or took too long.
    seconds : how long one cell may take.

    Returns
    -------
    What the cells wrote to stderr, which is not kept in the notebook.

    Raises
    ------
    NotebookError : a cell failed and `allow_errors` is not set, or the kernel died.
    KeyboardInterrupt : Ctrl + C; the kernel is ended.
    """
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from tqdm import tqdm

    environment = {**os.environ, "LABKIT_PROFILE": profile or os.environ.get("LABKIT_PROFILE") or "laptop"}
    environment.pop("NBGRADER_EXECUTION", None)    # else the checks answer nbgrader instead of a reader
    # disable=None: a bar in a terminal, nothing in a log
    with tqdm(total=len(notebook.cells), desc="cells", leave=False, disable=None) as bar:
        client = _Client(notebook, timeout=seconds, kernel_name="python3", allow_errors=allow_errors,
                                interrupt_on_timeout=allow_errors, record_timing=False, store_widget_state=False,
                                extra_arguments=["--log-level=ERROR"],
                                on_cell_complete=lambda **_: bar.update(),
                                resources={"metadata": {"path": str(folder)}})
        try:
            client.execute(env=environment)
        except (CellControlSignal, DeadKernelError, asyncio.CancelledError) as error:
            if client.stopped or not isinstance(error, Exception):
                raise KeyboardInterrupt from None
            raise NotebookError(re.sub(r"\x1b\[[0-9;]*m", "", str(error))) from error    # a log shows no colours
    # nbclient writes Python's version there
    notebook.metadata.language_info = nbformat.from_dict(KERNEL["language_info"])
    notebook.metadata.pop("widgets", None)
    noise = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            noise += [output.text for output in cell.outputs if _is_noise(output)]
            cell.outputs = list(_clean(cell.outputs))
    return noise


def _clean(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Leave out what means nothing without a kernel: progress bars, the text of stderr, live views of widgets.

    A widget of labkit's leaves a still picture beside its live view, and that stays.
    """
    for output in outputs:
        if _is_noise(output):
            continue
        if WIDGET_VIEW in output.get("data", {}):
            del output.data[WIDGET_VIEW]
            if not set(output.data) - {"text/plain"}:
                continue
        yield output


def _is_noise(output: NotebookNode) -> bool:
    return output.output_type == "stream" and output.name == "stderr"


def failures(notebook: NotebookNode) -> list[tuple[int, str]]:
    """Number and error of each cell, checks apart, that failed in a run."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        if not cell.metadata.get("nbgrader", {}).get("grade"):
            found += [(number, f"{output.ename}: {output.evalue}") for output in cell.get("outputs", [])
                      if output.output_type == "error"]
    return found


def scores(notebook: NotebookNode) -> list[Score]:
    """What each check cell of a notebook that was run has said."""
    found = []
    for cell in notebook.cells:
        entry = cell.metadata.get("nbgrader", {})
        # a notebook that somebody edited may lack an entry; a cell that is also a solution is marked by hand
        if cell.cell_type == "code" and entry.get("grade") and not entry.get("solution") \
                and {"grade_id", "points"} <= set(entry):
            exercise, points = entry["grade_id"].removeprefix("check_"), float(entry["points"])
            found.append(_score(exercise, points, cell.get("outputs", [])))
    return found


def _score(exercise: str, points: float, outputs: list[NotebookNode]) -> Score:
    for output in outputs:
        if output.output_type == "execute_result":
            text = output.data.get("text/plain", "")
            said = re.match(rf".*: .*?\b(\d+(?:\.\d+)?) of {re.escape(f'{points:g}')} points?\b", text)
            if said:
                return Score(exercise, float(said[1]), points, text)
    for output in outputs:
        if output.output_type == "error":
            text = f"✘ {exercise}: the check did not run. {output.ename}: {output.evalue}"
            return Score(exercise, 0.0, points, text)
    return Score(exercise, 0.0, points, f"✘ {exercise}: its check cell gave no verdict; was the cell changed?")


# --- the students' version ------------------------------------------------------------------------------------------

def released(notebook: NotebookNode, chapter: Chapter) -> str:
    """The text of the students' notebook, made by nbgrader's own generate_assignment with this course's settings."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.preprocessors import SaveCells
    from traitlets.config import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(chapter.root)).load_config()
    with tempfile.TemporaryDirectory() as folder:
        inside = Chapter(Path(folder).resolve(), chapter.name)
        inside.solution.parent.mkdir(parents=True)
        nbformat.write(notebook, inside.solution)
        config.CourseDirectory.root = str(inside.root)
        config.CourseDirectory.assignment_id = chapter.name
        converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
        converter.no_database = True    # marks are not kept here
        converter.preprocessors = [step for step in converter.preprocessors if step is not SaveCells]
        converter.start()
        return inside.student.read_text(encoding="utf-8")


def index(root: Path) -> NotebookNode:
    """The course's first page, from the chapters' headers."""
    rows = []
    for chapter in chapters(root):
        notebook = unexecuted(chapter)
        header = notebook.metadata.labkit
        points = [cell.metadata.nbgrader.points for cell in notebook.cells
                  if cell.metadata.get("nbgrader", {}).get("grade")]
        place = f"{chapter.name}/{chapter.name}.ipynb"
        rows.append([f"[{int(chapter.number)} · {header.title}]({place})", header.summary, _duration(header.minutes),
                     f"{len(points)} for {sum(points):g} points", header.needs, f"[look](../solutions/{place})"])
    head = ["chapter", "what it is about", "time", "exercises", "needs", "solutions"]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
    there = {int(chapter.number) for chapter in chapters(root)}
    missing = [str(number) for number in range(1, max(there) + 1) if number not in there]
    if missing:
        table += f"\n\n*Chapter{'s' if len(missing) > 1 else ''} {', '.join(missing)} will follow; no chapter needs a later one.*"
    cells = [nbformat.v4.new_markdown_cell(text) for text in (WELCOME, f"## Chapters\n\n{table}", HOW_TO)]
    cells.append(nbformat.v4.new_code_cell(MACHINE))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=KERNEL)
    _name_cells(notebook)
    return notebook


def _duration(minutes: int) -> str:
    return f"about {minutes} min" if minutes < 60 else f"about {minutes / 60:.2g} h"


WELCOME = """\
# Patch by patch

A photograph explains itself: cut it into small squares, and most of them turn up again somewhere else in the same
picture. From this one observation follow filters that remove noise and keep edges, pictures that mend their own holes,
and textures that go on for ever.

In this course you write these methods yourself, in a few lines each, look at what they do, and let a check tell you
whether they are right. Open a chapter by clicking on it."""

HOW_TO = """\
## How it works

- **Shift + Enter** runs a cell and goes to the next. *Run → Run All Cells* is fine at any time: it goes past what you
  have not solved yet.
- An **exercise** is a cell with `# YOUR CODE HERE`. The cell under it is its **check**: run it as often as you like.
  It says what is right, and when something is wrong, what it looks like.
- **Stuck?** Hints unfold under each exercise, one step at a time. You can also go on: after each exercise the
  notebook uses labkit's own function. The solutions, with all their pictures, are one click away in the table above.
- **Your work** is the notebook itself: save it with Ctrl + S. `labkit check NOTEBOOK` in a terminal runs all checks of
  a notebook and adds up the points.
- **Nothing here needs the internet** or a GPU. The cell below says what your machine offers, and how to mend what is
  missing."""

MACHINE = """\
from labkit import doctor

print(doctor.report())"""


# --- build and check ------------------------------------------------------------------------------------------------

def build(root: Path, names: list[str], *, everything: bool = False, profile: str | None = None) -> None:
    """Write the notebooks of the named chapters; without names, of those whose sources have changed.

    Raises
    ------
    NotebookError : a source is wrong, a solution fails, or a check does not accept it.
    """
    known = {chapter.name: chapter for chapter in chapters(root)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NotebookError(f"no chapter is called {', '.join(unknown)}; there are {', '.join(known)}")
    for chapter in [known[name] for name in names] or known.values():
        notebook = unexecuted(chapter)
        if not names and not everything and not _solution_problem(chapter, notebook):
            print(f"{chapter.name}: its source has not changed since it was run (--all runs it anyway)", flush=True)
        else:
            print(f"{chapter.name}: running the solutions", flush=True)
            start = time.monotonic()
            for text in execute(notebook, chapter.solution.parent, profile=profile):
                print(f"{chapter.name}: a cell wrote to stderr, which readers would see:\n{text}", flush=True)
            for score in scores(notebook):
                if score.earned != score.points:
                    raise NotebookError(f"{chapter.source}: the solution does not pass its check.\n{score.text}")
            nbformat.write(notebook, chapter.solution)
            size = chapter.solution.stat().st_size / 1e6
            print(f"{chapter.name}: ran in {time.monotonic() - start:.0f} s, {size:.1f} MB", flush=True)
        chapter.student.parent.mkdir(parents=True, exist_ok=True)
        chapter.student.write_text(released(notebook, chapter), encoding="utf-8", newline="\n")
    nbformat.write(index(root), root / "notebooks" / "index.ipynb")
    print("notebooks/index.ipynb and the students' versions are written", flush=True)


def problems(root: Path) -> list[str]:
    """A sentence for each generated file that is not what its source gives; nothing is run."""
    found = []
    for chapter in chapters(root):
        notebook = unexecuted(chapter)
        found.append(_solution_problem(chapter, notebook))
        found.append(_difference(chapter.student, nbformat.reads(released(notebook, chapter), as_version=4)))
    found.append(_difference(root / "notebooks" / "index.ipynb", index(root)))
    expected = {path for chapter in chapters(root) for path in (chapter.student, chapter.solution)}
    for folder in ("notebooks", "solutions"):
        for path in sorted((root / folder).glob("[0-9][0-9]_*/*.ipynb")):
            if path not in expected:
                found.append(f"{path} has no source in solutions")
    return [problem for problem in found if problem]


def _solution_problem(chapter: Chapter, notebook: NotebookNode) -> str | None:
    problem = _difference(chapter.solution, notebook)
    if problem is None and any(cell.cell_type == "code" and cell.execution_count is None
                               for cell in nbformat.read(chapter.solution, as_version=4).cells):
        problem = f"{chapter.solution} has cells that were not run"
    return problem


def _difference(path: Path, wanted: NotebookNode) -> str | None:
    """How the notebook in a file differs from the wanted one, outputs apart."""
    if not path.is_file():
        return f"{path} does not exist"
    present = nbformat.read(path, as_version=4)
    for number, (cell, other) in enumerate(zip(present.cells, wanted.cells), 1):
        for part in ("cell_type", "source", "metadata", "id"):
            if cell.get(part) != other.get(part):
                return f"{path} is not what its source gives: cell {number} ({other.id}) differs in its {part}"
    if len(present.cells) != len(wanted.cells):
        return f"{path} is not what its source gives: it has {len(present.cells)} cells instead of {len(wanted.cells)}"
    if present.metadata != wanted.metadata:
        return f"{path} is not what its source gives: its metadata differ"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m labkit.notebooks",
                                     description="Make the notebooks from their sources.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("build", help="write notebooks: those whose sources have changed, or those named")
    making.add_argument("chapters", nargs="*", metavar="CHAPTER", help="such as 01_filtering")
    making.add_argument("--all", action="store_true", help="run every chapter anew")
    commands.add_parser("check", help="say which notebooks are not what their sources give")
    chosen = parser.parse_args(arguments)
    try:
        root = find_root()
        if chosen.command == "build":
            build(root, chosen.chapters, everything=chosen.all)
            return 0
        found = problems(root)
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in found:
        print(f"{problem}; run `make notebooks`", file=sys.stderr)
    if not found:
        print("every notebook is what its source gives")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
