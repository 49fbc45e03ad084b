"""The command `labkit`. Everything heavy is imported inside the command that needs it, so that `--help` answers at once."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(help="Patch-based methods for images and videos: the course's commands.", no_args_is_help=True,
                  add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Profile = Annotated[str | None, typer.Option(help="quick, laptop or gpu; else LABKIT_PROFILE, else what the machine is")]


@app.callback()
def _begin() -> None:
    """Patch-based methods for images and videos: the course's commands."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")    # a Windows console may not know ✔


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context,
        no_browser: Annotated[bool, typer.Option("--no-browser", help="only print the address to open")] = False) -> None:
    """Open JupyterLab on the course's first page. Other options are JupyterLab's own, such as --port=9000."""
    from jupyterlab.labapp import main

    root = _course()
    os.chdir(root)
    sys.exit(main(["notebooks/index.ipynb", f"--ServerApp.root_dir={root}", *(["--no-browser"] if no_browser else []), *context.args]))


@app.command()
def check(notebook: Annotated[Path, typer.Argument(help="a chapter's notebook with your answers")],
          seconds: Annotated[int, typer.Option(min=1, help="how long one cell may take")] = 300) -> None:
    """Run a notebook and say what its checks say, with the points. The file itself is left as it is."""
    import nbformat

    from labkit import notebooks

    content = _read_notebook(notebook)
    typer.echo(f"Running {notebook} …")
    try:
        notebooks.execute(content, notebook.resolve().parent, profile=os.environ.get("LABKIT_PROFILE", "quick"), allow_errors=True,
                          seconds=seconds)
        scores = notebooks.scores(content)
    except (notebooks.NotebookError, nbformat.ValidationError) as error:
        _stop(f"{notebook} could not be run: {error}")
    if not scores:
        _stop(f"{notebook} has no checks; expected a chapter's notebook, such as notebooks/01_filtering/01_filtering.ipynb")
    for number, error in notebooks.failures(content):
        typer.echo(f"✘ cell {number} stopped with {error}")
    for score in scores:
        typer.echo(score.text)
    typer.echo(f"\nTotal: {sum(s.earned for s in scores):g} of {sum(s.points for s in scores):g} points.")


@app.command()
def doctor() -> None:
    """Say what this machine offers, and how to mend what is missing."""
    from labkit import doctor

    found = list(doctor.findings())
    typer.echo(doctor.report(found))
    raise typer.Exit(1 if any(finding.state == doctor.BROKEN for finding in found) else 0)


@app.command()
def results(number: Annotated[str, typer.Argument(help="the chapter's number, such as 01")], profile: Profile = None) -> None:
    """Compute a chapter's stored results anew (minutes to hours) and store them in docs/results."""
    import datetime
    import time

    from labkit import doctor, runtime
    from labkit import results as chapter_results

    _choose(profile)
    try:
        start = time.monotonic()
        content = chapter_results.compute(number)
    except ValueError as error:
        _stop(str(error))
    command = f"labkit results {number}" + (f" --profile {profile}" if profile else "")
    content = {"date": datetime.date.today().isoformat(), "command": command, "profile": runtime.profile(),
               "machine": doctor.machine(), "versions": doctor.versions(), "seconds": round(time.monotonic() - start), **content}
    path = chapter_results.folder() / f"{number}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    typer.echo(f"Stored in {path} after {content['seconds']} s.")


@app.command()
def bench(chapter: Annotated[str, typer.Argument(help="whose functions to measure")] = "filtering",
          save: Annotated[Path | None, typer.Option(help="also store the numbers in this JSON file")] = None) -> None:
    """Measure labkit beside other packages: time, agreement, memory. Takes minutes, on a machine that does nothing else."""
    import datetime
    import importlib

    root = _course()
    folder = root / "tests" / "benchmarks"
    names = sorted(path.stem for path in (*folder.glob(f"{chapter}.py"), *folder.glob(f"{chapter}_*.py")))
    if not names:
        _stop(f"there are no benchmarks called {chapter} in {folder}; they are part of labkit's repository")
    from labkit import doctor

    sys.path.insert(0, str(root))
    try:
        versions = doctor.versions("opencv-contrib-python-headless", "kornia")
    except ModuleNotFoundError as error:
        _stop(f"{error.name} is not installed, and labkit is compared with it; install the peers: {doctor.PIP} -e \".[bench]\"")
    stored = {"date": datetime.date.today().isoformat(), "machine": doctor.machine(), "versions": versions, "tables": {}}
    typer.echo(f"{stored['date']}, {stored['machine']}\n{', '.join(f'{name} {version}' for name, version in versions.items())}")
    timing = importlib.import_module("tests.benchmarks.timing")
    for name in names:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        for part in ("rows", "first_calls"):
            if hasattr(module, part):
                rows = getattr(module, part)()
                typer.echo(f"\n### {name}: {part.replace('_', ' ')}\n\n{timing.table(rows)}")
                stored["tables"][f"{name}.{part}"] = [{key: _plain(value) for key, value in row.items()} for row in rows]
    if save:
        save.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        typer.echo(f"\nStored in {save}.")


# --- what the commands share ----------------------------------------------------------------------------------------

def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _plain(value: object) -> object:
    """A value that JSON knows: an infinite or undefined number becomes a word."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _course() -> Path:
    from labkit import notebooks

    try:
        return notebooks.find_root()
    except notebooks.NotebookError as error:
        _stop(str(error))


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

    if not path.is_file():
        _stop(f"{path} is not a file; expected a notebook, such as notebooks/01_filtering/01_filtering.ipynb")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        _stop(f"{path} is not a notebook that can be read: {str(error).splitlines()[0][:200]}")
    return notebook


if __name__ == "__main__":
    app()
