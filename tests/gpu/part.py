"""One part of the run, in a process of its own, which notes each step before and after it in a file, line by line.

Whoever started the process reads there how far it came, even when a fault on the card took it along.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.gpu import machine
from tests.gpu.case import Case, LeftOut, compare, time_case

__all__ = ["FAULT", "note", "read", "run", "steps"]

FAULT = 70  # exit code: the card does not answer any more, the rest needs a new process
OWN = ("labkit", "tests", "torch", "numpy")  # what nothing runs without
LINES = 12  # of a traceback

Step = tuple[str, str, Callable[[], dict]]


def steps(part: str, device: torch.device, right: set[str]) -> Iterator[Step]:
    """What a part does, in order: (case, kind of step, what to do). `right` are the cases whose results agreed so far."""
    if part == "limits":
        yield "the card", "limits", lambda: {"outcome": "measured", **machine.limits(device)}
        return
    small = device.type != "cuda"
    cases = list(importlib.import_module(f"tests.gpu.{part}").cases(small))
    for case in cases:
        yield case.name, "result", lambda case=case: compare(case, device)
    if small:
        return  # the simulator's times say nothing
    for case in cases:
        yield case.name, "time", lambda case=case: _timed(case, device, right)
    yield "all kernels", "compiler", lambda: {"outcome": "listed", "kernels": machine.compiled_kernels()}


def _timed(case: Case, device: torch.device, right: set[str]) -> dict:
    if case.name not in right:
        raise LeftOut("its result was not right, so its time means nothing")
    return time_case(case, device)


def run(part: str, *, device: torch.device, journal: Path, seconds: float) -> int:
    """Do the steps of a part that its journal does not name yet, until the time is up; returns the process's exit code."""
    end = time.monotonic() + seconds
    noted = read(journal)
    right = {entry["case"] for entry in noted if entry["outcome"] == "agrees"}
    try:
        todo = list(steps(part, device, right))
    except Exception as problem:
        note(journal, step=0, case="all", kind="import", **_described(problem))
        return 0
    for number, (case, kind, work) in enumerate(todo):
        if number <= max((entry["step"] for entry in noted), default=-1):
            continue
        about = {"step": number, "case": case, "kind": kind}
        if time.monotonic() > end:
            note(journal, **about, outcome="left out", why="no time was left")
            continue
        note(journal, **about, outcome="started")
        try:
            found = work()
        except Exception as problem:
            found = _described(problem)
        note(journal, **about, **found)
        if found["outcome"] == "agrees":
            right.add(case)
        elif found["outcome"] == "failed" and _lost(device):
            return FAULT
    return 0


def note(journal: Path, **entry: object) -> None:
    """Add a line to a journal."""
    with journal.open("a", encoding="utf-8") as file:
        print(json.dumps(entry, ensure_ascii=False, default=str), file=file)


def read(journal: Path) -> list[dict]:
    """The entries of a journal; of a step that was started and finished, the last one."""
    entries: dict[int, dict] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            entries[entry["step"]] = entry
    return list(entries.values())


def _described(problem: Exception) -> dict:
    """What is missing, or what went wrong, with the end of its traceback."""
    if isinstance(problem, LeftOut):
        return {"outcome": "left out", "why": str(problem)}
    if isinstance(problem, ModuleNotFoundError) and (problem.name or "").split(".")[0] not in OWN:
        return {"outcome": "left out", "why": f"it needs {problem.name}, which is not installed"}
    return {
        "outcome": "failed",
        "why": f"{type(problem).__name__}: {problem}"[:500],
        "traceback": "".join(traceback.format_exception(problem)).strip().splitlines()[-LINES:],
    }


def _lost(device: torch.device) -> bool:
    """Whether the card answers no more, as after an access beyond its memory."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
        torch.zeros(1, device=device).cpu()
    except Exception as problem:
        print(f"the card answers no more: {problem}", file=sys.stderr)
        return True
    return False
