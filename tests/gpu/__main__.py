"""The command: starts a process for each part, and collects what they noted in one report."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from datetime import UTC, datetime
from pathlib import Path

from tests.gpu.report import BAD, counted, print_table, write

__all__ = ["main", "tests_outcome", "topics"]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
OUT = ROOT / "docs" / "gpu.json"
TESTS_SHARE = 0.4  # of the time, at most, for the tests marked `cuda`
RESTARTS = 25  # of one part, after faults
GRACE = 20  # seconds that a part may take to end by itself
LINES = 12  # of what a process wrote
# Only what the tests ask for themselves: a plugin may be missing here, or not fit the other packages.
PLAIN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONFAULTHANDLER": "1"}


def main(argv: list[str] | None = None) -> int:
    """Run everything; 0 where nothing failed, 1 where something did, 2 for options that are none."""
    options = _options(argv)
    # which numba.cuda this is must be settled before numba is imported: a real run is never simulated
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1" if options.simulate else "0"
    os.environ["LABKIT_CHAPTER"] = options.only or ""  # tests/conftest.py leaves out what belongs to another one
    for name in ("torch", "numpy"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            print(
                f"{name} is not installed for {sys.executable}; this run needs torch, numpy, numba and numba-cuda, and nothing else."
            )
            return 0
    import torch

    if not options.simulate and not torch.cuda.is_available():
        print("torch sees no NVIDIA card here, so there is nothing to run.")
        return 0
    if options.part is not None:
        from tests.gpu import part

        device = torch.device("cpu" if options.simulate else "cuda:0")
        return part.run(options.part, device=device, journal=options.journal, seconds=options.minutes * 60)
    if options.simulate and options.out is None:
        print("--simulate needs --out: what a simulator says is not kept among the figures of real cards.")
        return 2
    report = _everything(options)
    print_table(report)
    bad = [entry for entry in report["steps"] if entry["outcome"] in BAD]
    print(f"\n{counted(report)}; written to {options.out or OUT}.")
    return 1 if bad else 0


def topics(only: str | None = None) -> list[str]:
    """The chapters that have cases for a card, in the order of the course; or that of one topic."""
    from labkit import chapters

    every = [chapter.topic for chapter in chapters.CHAPTERS if (HERE / f"{chapter.topic}.py").exists()]
    return [topic for topic in every if only in (None, topic)]


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu",
        description="Run labkit on this machine's NVIDIA card: results beside "
        "the CPU's, times, and the card's limits. Nothing has to be installed but torch, numba and numba-cuda.",
    )
    parser.add_argument("--out", type=Path, help=f"the JSON file to write (default: {OUT.relative_to(ROOT)})")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for everything (default: 8)")
    parser.add_argument("--only", metavar="CHAPTER", help="one chapter only, by its number or topic")
    # tiny cases on numba's simulator, without times
    parser.add_argument("--simulate", action="store_true", help=argparse.SUPPRESS)
    # how this run starts its own processes
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not 0 < options.minutes < math.inf:
        parser.error(f"--minutes is {options.minutes}; expected a time above 0")
    if options.only is not None:
        from labkit import chapters

        try:
            options.only = chapters.find(options.only).topic
        except ValueError as problem:
            parser.error(f"--only: {problem}")
    return options


# --- the parts --------------------------------------------------------------------------------------------------------


def _everything(options: argparse.Namespace) -> dict:
    from tests.gpu import machine

    start = time.monotonic()
    end = start + max(60 * options.minutes - GRACE, 1)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "simulated": options.simulate,
        "command": "python -m tests.gpu",
        "versions": machine.versions(),
        "card": {"name": "numba's simulator"} if options.simulate else machine.card(),
        "limits": None,
        "steps": [],
    }

    def add(part: str, entries: list[dict]) -> None:
        report["steps"] += [{"part": part} | entry for entry in entries]
        report["seconds"] = round(time.monotonic() - start, 1)
        write(report, options.out or OUT)

    print(f"{report['card']['name']}: at most {options.minutes:g} minutes", flush=True)
    if not options.simulate:
        add("limits", _part("limits", options, seconds=60))
        measured = [entry for entry in report["steps"] if entry["outcome"] == "measured"]
        report["limits"] = measured[0] if measured else None
        add("tests", _marked_tests(seconds=TESTS_SHARE * (end - time.monotonic())))
    chapters = topics(options.only)
    for number, topic in enumerate(chapters):
        left = (end - time.monotonic()) / (len(chapters) - number)
        add(topic, _part(topic, options, seconds=max(left, 1)))
    return report


def _part(name: str, options: argparse.Namespace, *, seconds: float) -> list[dict]:
    """What a part noted; it is started again after each fault, goes on with what comes next, and at last says what was left."""
    from tests.gpu import part

    print(f"── {name}", flush=True)
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        for _ in range(RESTARTS):
            left = end - time.monotonic()
            command = [sys.executable, "-m", "tests.gpu", *["--simulate"] * options.simulate]
            command += ["--part", name, "--journal", str(journal), "--minutes", str(max(left, 0.01) / 60)]
            # the process watches the time itself; what is killed here hangs
            code, said = _process(command, seconds=max(left, 0) + GRACE)
            noted = part.read(journal)
            if not noted:
                part.note(
                    journal, step=0, case="all", kind="start", outcome="failed", why=_ending(code), traceback=said
                )
                break
            if noted[-1]["outcome"] == "started":
                part.note(journal, **noted[-1] | {"outcome": "failed", "why": _ending(code), "traceback": said})
            if code == 0 or left < 0:
                break
        return part.read(journal)


def _process(command: list[str], *, seconds: float) -> tuple[int | None, list[str]]:
    """The exit code, `None` where time ran out, and the last lines of what it wrote."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=os.environ | PLAIN,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # and what it started itself, such as compilers
        else:
            process.kill()
        said, _ = process.communicate()
        code = None
    return code, said.strip().splitlines()[-LINES:]


def _ending(code: int | None) -> str:
    if code is None:
        return "it was still running when its time was over, and was ended"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with code {code}"


# --- the tests marked cuda --------------------------------------------------------------------------------------------


def _marked_tests(*, seconds: float) -> list[dict]:
    """The tests marked `cuda`, file by file, so that a fault in one leaves the others alone."""
    print("── tests marked cuda", flush=True)
    if importlib.util.find_spec("pytest") is None:
        why = "they need pytest, which is not installed"
        return [{"step": 0, "case": "all", "kind": "tests", "outcome": "left out", "why": why}]
    files = sorted((ROOT / "tests").glob("test_*.py"))
    marked = [
        path for path in files if re.search(r"^@pytest\.mark\.cuda\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    end, found = time.monotonic() + seconds, []
    for number, path in enumerate(marked):
        left = end - time.monotonic()
        outcome = {"outcome": "left out", "why": "no time was left"} if left < 5 else _tests_of(path, seconds=left)
        found.append({"step": number, "case": path.name, "kind": "tests"} | outcome)
    return found


def _tests_of(path: Path, *, seconds: float) -> dict:
    # beside an ini file of its own, pytest would look for conftest.py no higher than there
    where = ["-c", str(HERE / "pytest.ini"), "--rootdir", str(ROOT), "--confcutdir", str(ROOT)]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "list.xml"
        what = ["-q", "-m", "cuda", "-p", "no:cacheprovider", "--junitxml", str(listed), str(path)]
        code, said = _process([sys.executable, "-m", "pytest", *where, *what], seconds=seconds)
        if code is None or not listed.exists():
            return {"outcome": "failed", "why": _ending(code), "traceback": said}
        return tests_outcome(listed)


def tests_outcome(listed: Path) -> dict:
    """What pytest's list of one file's tests says: how many passed, and the ends of what failed."""
    passed, failures, skipped = 0, [], []
    for one in xml.parse(listed).getroot().iter("testcase"):
        bad = one.find("failure") if one.find("failure") is not None else one.find("error")
        if bad is not None:
            text = (bad.text or bad.get("message") or "").strip().splitlines()
            failures.append({"test": one.get("name"), "end": text[-LINES:], "missing": _missing(bad)})
        elif one.find("skipped") is not None:
            skipped.append(one.get("name"))
        else:
            passed += 1
    absent = sorted({failure["missing"] for failure in failures if failure["missing"]})
    failures = [failure for failure in failures if not failure["missing"]]
    why = f"{passed} passed, {len(failures)} failed, {len(skipped)} skipped"
    if absent:
        why += f"; others need {', '.join(absent)}, which is not installed"
    return {"outcome": "failed" if failures else "agrees" if passed else "left out", "why": why, "failures": failures}


def _missing(bad: xml.Element) -> str | None:
    """The package that a test, or the import of its file, did not find."""
    found = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", f"{bad.get('message')}\n{bad.text}")
    name = found.group(1).split(".")[0] if found else None
    return None if name in ("labkit", "tests", "torch", "numpy") else name


if __name__ == "__main__":
    sys.exit(main())
