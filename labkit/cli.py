"""The command `labkit`. What is heavy is imported inside the command that needs it, so `--help` answers at once."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

__all__ = ["EXPECTED", "Profile", "app", "bench", "check", "compile", "doctor", "grade", "lab", "release", "results", "start"]

app = typer.Typer(help="Patch-based methods for images and videos: the course's commands.", no_args_is_help=True,
                  pretty_exceptions_enable=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})

EXPECTED = "expected a chapter's notebook, such as notebooks/01_filtering/01_filtering.ipynb"
Profile = Annotated[str | None, typer.Option(help="quick, laptop or gpu; else LABKIT_PROFILE or what the machine is")]


def _say_version(wanted: bool) -> None:
    if wanted:
        from labkit import __version__

        typer.echo(f"labkit {__version__}")
        raise typer.Exit


@app.callback()
def _begin(version: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True,
                                                 help="Say which labkit this is, and exit.")] = False) -> None:
    """Patch-based methods for images and videos: the course's commands."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")    # a Windows console may not know ✔


@app.command()
def start(folder: Annotated[Path, typer.Argument(help="the folder to make, such as patch-by-patch")]) -> None:
    """Copy the course into a folder of your own: notebooks, pictures, first page. What is there already stays as it is."""
    from labkit.doctor import quoted
    from labkit.start import start

    try:
        done = start(folder)
    except (OSError, ValueError) as error:
        _stop(f"{folder} could not be made: {error}")
    stayed = f"; {len(done.kept)} that were there stay as they are" if done.kept else ""
    typer.echo(f"{done.copied} files are new in {folder}{stayed}.\nNow:\n    cd {quoted(folder)}\n    labkit lab")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context,
        no_browser: Annotated[bool, typer.Option("--no-browser", help="only print the address")] = False) -> None:
    """Open JupyterLab on the course's first page. Other options are JupyterLab's own, such as --port=9000."""
    from jupyterlab.labapp import main

    from labkit import lab

    root = _course()
    os.chdir(root)
    options = lab.configure()
    with _compiling_beside():
        sys.exit(main([f"--ServerApp.root_dir={root}", "--LabApp.default_url=/lab/tree/notebooks/index.ipynb", *options,
                       *(["--no-browser"] if no_browser else []), *context.args]))


@app.command()
def compile() -> None:
    """Compile every kernel that is not compiled yet, some 45 s in all; else each is compiled at its first call."""
    import time

    from tqdm import tqdm

    from labkit import warm

    start = time.monotonic()
    try:
        with tqdm(total=sum(1 for _ in warm.calls()), leave=False, disable=None) as bar:
            def say(name: str) -> None:
                bar.set_description(name)
                bar.update()

            warm.compile_all(say)
    except KeyboardInterrupt:
        _interrupted("what is compiled is kept")
    typer.echo(f"Every kernel is compiled, after {time.monotonic() - start:.0f} s.")


@app.command()
def check(notebook: Annotated[Path, typer.Argument(help="a chapter's notebook with your answers")],
          seconds: Annotated[int, typer.Option(min=1, help="how long one cell may take")] = 300,
          strict: Annotated[bool, typer.Option("--strict", help="exit code 1 unless every cell runs and every check gives all its "
                                                                "points")] = False) -> None:
    """Run a notebook and say what its checks say, with the points. The file itself is left as it is."""
    import nbformat

    from labkit import notebooks

    content = _read_notebook(notebook)
    cells = sum(cell.cell_type == "code" for cell in content.cells)
    typer.echo(f"Running {notebook}: {cells} cells, some minutes for a whole chapter …")
    try:
        notebooks.execute(content, notebook.resolve().parent, profile=os.environ.get("LABKIT_PROFILE", "quick"),
                          allow_errors=True, seconds=seconds)
        scores = notebooks.scores(content)
    except KeyboardInterrupt:
        _interrupted("the notebook is as it was")
    except (notebooks.NotebookError, nbformat.ValidationError) as error:
        _stop(f"{notebook} could not be run: {error}")
    if not scores:
        _stop(f"{notebook} has no checks; {EXPECTED}")
    failures = notebooks.failures(content)
    for number, failure in failures:
        typer.echo(f"✘ cell {number} stopped with {failure}")
    for score in scores:
        typer.echo(score.text)
    typer.echo(f"\nTotal: {sum(s.earned for s in scores):g} of {sum(s.points for s in scores):g} points.")
    if strict and (failures or any(score.earned < score.points for score in scores)):
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say what this machine offers, and how to mend what is missing."""
    from labkit import doctor

    found = list(doctor.findings())
    typer.echo(doctor.report(found))
    raise typer.Exit(1 if any(finding.state == doctor.BROKEN for finding in found) else 0)


@app.command()
def results(number: Annotated[str, typer.Argument(help="the chapter's number or topic, such as 01")],
            profile: Profile = None,
            out: Annotated[Path | None, typer.Option(help="the JSON file to store them in, instead of docs/results/NN.json")] = None) -> None:
    """Compute a chapter's stored results anew (minutes to hours) and store them in docs/results.

    Results that were computed at a higher profile stay: --out stores the new ones elsewhere.
    """
    import datetime
    import time

    from labkit import chapters, doctor, runtime
    from labkit import results as chapter_results

    _choose(profile)
    try:
        start = time.monotonic()
        chapter = chapters.find(number)
        number = chapter.number
        path = out or chapter_results.folder() / f"{number}.json"
        _may_store(path, runtime.profile())     # said now, not after hours
        typer.echo(f"Computing the results of chapter {number}, {chapter.title}, at profile {runtime.profile()!r}. "
                   "Ctrl + C stops; nothing is stored then.")
        with _clock():
            content = chapter_results.compute(number)
    except (ValueError, OSError) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _interrupted("nothing was stored")
    command = f"labkit results {number}" + (f" --profile {profile}" if profile else "")
    content = {"date": datetime.date.today().isoformat(), "command": command, "profile": runtime.profile(),
               "machine": doctor.machine(), "versions": doctor.versions(),
               "seconds": round(time.monotonic() - start), **content}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)
    typer.echo(f"Stored in {path} after {content['seconds']} s.")


@app.command()
def bench(chapter: Annotated[str | None, typer.Argument(help="whose functions to measure: number or topic; else those of all")] = None,
          save: Annotated[Path | None, typer.Option(help="also store the numbers in this JSON file")] = None,
          busy: Annotated[bool, typer.Option("--busy", help="measure all once more, beside two programs of two threads each")] = False) -> None:
    """Measure labkit beside other packages: time, agreement, memory. Takes minutes, on an otherwise idle machine."""
    import datetime
    import importlib

    root = _course()
    folder = root / "tests" / "benchmarks"
    names = _benchmarks(folder, chapter)
    if not names:
        _stop(f"there are no benchmarks{f' called {chapter}' if chapter else ''} in {folder}; they are part of labkit's repository")
    from labkit import doctor

    sys.path.insert(0, str(root))
    try:
        versions = doctor.versions("opencv-contrib-python-headless", "kornia")
    except ModuleNotFoundError as error:
        _stop(f"{error.name} is not installed, and labkit is compared with it: {doctor.PIP} -e \".[bench]\"")
    stored: dict[str, Any] = {"date": datetime.date.today().isoformat(), "machine": doctor.machine(), "versions": versions,
                              "tables": {}}
    typer.echo(f"{stored['date']}, {stored['machine']}")
    typer.echo(", ".join(f"{name} {version}" for name, version in versions.items()))
    timing = importlib.import_module("tests.benchmarks.timing")
    for name in names:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        for part in ("rows", "first_calls"):
            if hasattr(module, part):
                measure, both = getattr(module, part), busy and part == "rows"
                rows = timing.quiet_and_busy(measure) if both else measure()
                typer.echo(f"\n### {name}: {part.replace('_', ' ')}\n\n{timing.table(rows)}")
                if both:
                    typer.echo(f"\n{timing.busy_verdict(rows)}")
                stored["tables"][f"{name}.{part}"] = [{key: _plain(value) for key, value in row.items()}
                                                      for row in rows]
                if save:    # after each table: a run that is stopped keeps what it has measured
                    save.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@app.command()
def grade(submissions: Annotated[Path, typer.Argument(help="a folder of notebooks, or the zip of a learning platform")],
          out: Annotated[Path, typer.Option(help="the folder for marks and pages")] = Path("GRADES"),
          jobs: Annotated[int | None, typer.Option(min=1, help="submissions marked at one time; else one for each core")] = None,
          secret: Annotated[Path | None, typer.Option(help="the file that decides the hidden inputs, made when it is not there; "
                                                           "else one in your configuration folder")] = None,
          only: Annotated[list[str] | None, typer.Option(help="chapters to mark, such as 03; else all")] = None,
          resume: Annotated[bool, typer.Option("--resume", help="keep what an earlier run has marked")] = False,
          class_list: Annotated[Path | None, typer.Option("--class", help="a CSV file with the columns student, and any of name, email, "
                                                                          "group, late, moodle_id, canvas_id, login")] = None,
          scheduler: Annotated[str | None, typer.Option(help="address of a Dask scheduler that spreads the work")] = None,
          bubblewrap: Annotated[bool | None, typer.Option("--bubblewrap/--no-bubblewrap",
                                                          help="insist on it, or do without; else it is taken where it works")] = None) -> None:
    """Mark a class: run every submission shut away, check its answers outside, write marks and feedback pages."""
    from labkit.grading import batch

    try:
        done = batch.grade(submissions, out=out, secret=secret or batch.default_secret(), course=_course(), jobs=jobs, scheduler=scheduler,
                           only=only or (), resume=resume, class_list=class_list, bubblewrap=bubblewrap)
    except (OSError, ValueError, RuntimeError) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        from labkit.doctor import quoted

        _interrupted(f"what is marked is kept: labkit grade {quoted(submissions)} --out {quoted(out)} --resume goes on from here")
    for remark in done.remarks:
        typer.echo(f"! {remark}")
    typer.echo(done.counts)
    if not done.rows:
        _stop(f"No submissions were found in {submissions}.")
    mean = sum(row.mark for row in done.rows) / len(done.rows)
    typer.echo(f"{len(done.rows)} students, {done.graded} marked now; mean {mean:.3g} of {done.out_of:g} points.\n"
               f"Look at {done.folder / 'class.html'}; the marks are in {done.folder / 'grades.csv'}, the pages to hand back in "
               f"{done.folder / 'feedback'}.")


@app.command()
def release(out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="the zip to write")]) -> None:
    """Pack the students' version of the course: notebooks, data, labkit, no solutions."""
    from labkit.grading.release import release

    try:
        names = release(out, course=_course())
    except (OSError, ValueError) as error:
        _stop(str(error))
    typer.echo(f"{out}: {len(names)} files, {out.stat().st_size / 1e6:.1f} MB.")


# --- what the commands share ----------------------------------------------------------------------------------------

def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


@contextmanager
def _compiling_beside() -> Iterator[None]:
    """Compile what is missing while the reader reads, at low priority, until the session ends."""
    import subprocess

    # A command's own Python finds labkit where this one does; a session does not wait for it, nor does it speak in between.
    process = subprocess.Popen([sys.executable, "-m", "labkit.warm"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()


def _interrupted(what: str) -> NoReturn:
    """One line after Ctrl + C, and the exit code that shells know for it."""
    typer.echo(f"\nStopped: {what}.", err=True)
    raise typer.Exit(130)


def _may_store(path: Path, profile: str) -> None:
    """Refuse a place for results that cannot be written, or that holds some computed with more work.

    Raises
    ------
    ValueError, OSError : says so.
    """
    import tempfile

    from labkit import runtime

    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the name of a JSON file")
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8")).get("profile")
        except (ValueError, AttributeError):
            raise ValueError(f"{path} holds no results; name another file with --out") from None
        if before in runtime.PROFILES and runtime.PROFILES.index(before) > runtime.PROFILES.index(profile):
            raise ValueError(f"{path} was computed at profile {before!r}, with more work than {profile!r}, and stays as it is; "
                             f"take --profile {before}, or --out for another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def _clock() -> Iterator[None]:
    """Show the time that has passed, in a terminal; nothing in a log."""
    import threading

    from tqdm import tqdm

    done = threading.Event()
    with tqdm(total=None, bar_format="computing for {elapsed}", leave=False, disable=None) as bar:
        def tick() -> None:
            while not done.wait(1):
                bar.refresh()

        ticking = threading.Thread(target=tick, daemon=True)
        ticking.start()
        try:
            yield
        finally:
            done.set()
            ticking.join()


def _plain(value: object) -> object:
    """A value that JSON knows: an infinite or undefined number becomes a word."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _course() -> Path:
    from labkit import notebooks

    try:
        return notebooks.find_root()
    except notebooks.NotebookError as error:
        _stop(str(error))


def _benchmarks(folder: Path, chapter: str | None) -> list[str]:
    """The names of the benchmarks in a folder: of one chapter, of something else that is measured there, or of all chapters."""
    from labkit import chapters

    topics = [row.topic for row in chapters.CHAPTERS]
    if chapter is not None:
        try:
            topics = [chapters.find(chapter).topic]
        except ValueError:      # grading is measured too
            topics = [chapter]
    return [path.stem for topic in topics for path in sorted((*folder.glob(f"{topic}.py"), *folder.glob(f"{topic}_*.py")))]


def _choose(profile: str | None) -> None:
    from labkit import runtime

    if profile:
        os.environ["LABKIT_PROFILE"] = profile
    try:
        runtime.profile()
    except ValueError as error:
        _stop(str(error))


def _read_notebook(path: Path):
    """A notebook that could be run, or an error that says what the file is instead."""
    import nbformat

    from labkit.grading.files import notebook_text

    if not path.is_file():
        _stop(f"{path} is not a file; {EXPECTED}")
    try:
        text, said = notebook_text(path.read_bytes())
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        _stop(f"{path} is not a notebook that can be read: {str(error).splitlines()[0][:200]}")
    if said:
        typer.echo(f"! {said}")
    return notebook


if __name__ == "__main__":
    app()
