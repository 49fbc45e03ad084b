"""Runs inside the sandbox: imports once, forks for each exercise, answers requests.

The parent never runs a student's code. It waits for orders on a socket, and for each exercise makes a child that gets
a socket of its own. The child executes the cells, then calls the answer as often as it is asked to. Nothing here
decides a mark: a reply is data that somebody else compares, so code that takes over the child can only give wrong
answers.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit.checks import answers, fixtures
from labkit.checks.answers import Problem, Reply
from labkit.grading import folders, processes, wire
from labkit.grading.shell import Shell, Silence
from labkit.grading.withhold import withhold_libraries

__all__ = ["TimeUp", "main"]

_MISSING = object()
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36


class TimeUp(BaseException):
    """The soft time limit, raised in the line that is running; no `except Exception` of a student's catches it."""


# --- the parent -----------------------------------------------------------------------------------------------------

def main() -> None:
    """`worker CONTROL_FD SETTINGS`, with JSON settings: `temporary` (folders emptied before each exercise; the first is
    the child's own), `preload` (modules), `file_bytes`, `open_files`, `private` (whether this is the first process of its
    namespace)."""
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    if settings["private"] and os.getpid() != 1:      # /tmp would be everybody's, and it is going to be emptied
        raise SystemExit("the worker is not in a namespace of its own")
    os.nice(5)       # the process that watches the limits goes first
    _prepare_parent()
    torch.set_num_threads(1)
    fixtures.load()
    for name in settings["preload"]:
        with contextlib.suppress(Exception):     # a broken library is the business of the cell that imports it
            importlib.import_module(name)
    _seed()
    torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)).exp()    # torch sets up much at first use
    gc.collect()
    gc.freeze()      # the collector does not touch, and so copy, what all children share
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    control.sendall(b"ready\n")
    child = forks = 0
    while True:
        readable, _, _ = select.select([control, read], [], [])
        if read in readable:
            os.read(read, 4096)
        while (dead := _reap()) is not None:
            if dead[0] == child:
                control.sendall(f"exited {forks} {dead[1]}\n".encode())
        if control in readable:
            order, fds, _, _ = socket.recv_fds(control, 16, 2)
            if not order:      # the grader is gone; without a namespace, nobody else ends what is left below
                processes.kill_below(os.getpid())
                os._exit(0)
            try:
                for folder in settings["temporary"]:
                    folders.empty(Path(folder))
            except OSError:      # what one exercise wrote must not be there in the next: start anew
                os._exit(1)
            child, forks = os.fork(), forks + 1
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in (control.fileno(), read, write):
                    os.close(fd)
                _child(*fds, settings)
            control.sendall(f"forked {forks} 0\n".encode())
            for fd in fds:
                os.close(fd)


def _prepare_parent() -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)          # no child can read or steer the parent through /proc
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)   # what a child leaves running stays below the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


# --- the child ------------------------------------------------------------------------------------------------------

def _child(channel: int, output: int, settings: dict) -> None:
    status = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_bytes"],) * 2)
        resource.setrlimit(resource.RLIMIT_NOFILE, (settings["open_files"],) * 2)
        work = Path(settings["temporary"][0]) / "work"
        work.mkdir()
        os.chdir(work)
        place = next((i for i, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))), len(sys.path))
        sys.path.insert(place, str(work))     # where a notebook's own modules are; not before ours
        _Answerer(socket.socket(fileno=channel), work).serve()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status)


class _Answerer:
    """The child's side of the conversation: one reply to each question, with the question's own number on it."""

    def __init__(self, channel: socket.socket, work: Path):
        self.channel, self.work, self.pid = channel, work, os.getpid()
        self.kind, self.name, self.answer = "function", "", _MISSING
        self.failure: Problem | None = None          # of the last cell of the exercise, if it defined nothing
        self.in_part: Problem | None = None          # of the cell that defined the answer, if another statement of it failed
        self.suspect: Problem | None = None          # of another cell that speaks of the answer
        self.main = types.ModuleType("__main__")     # what a notebook's cells share
        self.shell = Shell(self.main.__dict__)
        self.main.__dict__.update(display=lambda *_, **__: None, get_ipython=lambda: self.shell, check=Silence(), __builtins__=builtins)

    def serve(self) -> None:
        while (header := self._receive(wire.HEADER_BYTES)) is not None:
            body = self._receive(wire.body_length(header))
            number, verb, *rest = wire.loads(body, longest_string=wire.MOST_SKELETON_BYTES)
            reply = getattr(self, f"do_{verb}")(*rest)
            with contextlib.suppress(Exception):     # the student's code may have closed it
                sys.stdout.flush()
            if os.getpid() != self.pid:              # a copy that the student's code made of this process
                os._exit(0)
            try:
                frame = wire.dumps((number, reply))
            except wire.WireError as error:
                problem = Problem("Refusal", f"what it returned cannot be handed on: {error}")
                frame = wire.dumps((number, Reply(problem=problem)))
            self.channel.sendall(frame)

    def _receive(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            part = self.channel.recv(min(size - len(parts), 1 << 20))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def do_begin(self, name: str, kind: str, withholds: list[str]) -> None:
        """Forget the parent's labkit, all but what runs here: this exercise has a copy of its own on the disk."""
        self.name, self.kind = name, kind
        importlib.invalidate_caches()
        keep = ("labkit.checks", "labkit.checks.answers", *fixtures.module_names())
        for module in [m for m in sys.modules if m.startswith("labkit.") and not m.startswith("labkit.grading")]:
            if module not in keep:
                del sys.modules[module]
        sys.modules["__main__"] = self.main
        withhold_libraries(withholds)
        _seed()

    def do_cell(self, number: int, source: str, answers_it: bool, seconds: float) -> Problem | None:
        """Execute a cell. Only what the cell itself defines counts as an answer of its own."""
        namespace = self.main.__dict__
        before = namespace.get(self.name, _MISSING)
        problem = _within(seconds, lambda: self._execute(number, source))
        after = namespace.get(self.name, _MISSING)
        defines = answers_it and after is not _MISSING and (problem is None or after is not before)
        if defines:
            self.answer, self.in_part = after, problem
        elif problem:
            self.do_skip(answers_it, self.name in source, problem)
        return problem

    def do_skip(self, answers_it: bool, mentions_it: bool, problem: Problem) -> None:
        """A cell that is left out, because it ended an earlier process or took too long; or one that failed."""
        if answers_it:
            self.failure = problem
        elif mentions_it:
            self.suspect = problem

    def _execute(self, number: int, source: str) -> None:
        path = self.work / f"cell_{number}.py"       # a real file: tracebacks, `inspect` and numba's cache read it
        path.write_text(source, encoding="utf-8", errors="replace")
        self.shell.run_source(source, str(path))

    def do_call(self, request: answers.Request, seconds: float) -> Reply:
        student = self.main.__dict__.get(self.name, _MISSING) if self.answer is _MISSING else self.answer
        if self.answer is _MISSING and self.failure and getattr(student, "__module__", None) != "__main__":
            return Reply(problem=_of_cell(self.failure))      # nothing has that name, or something imported
        if student is _MISSING:
            return Reply(problem=_of_cell(self.suspect) if self.suspect else
                         Problem("MissingAnswer", f"No cell of this notebook defines `{self.name}`."))
        result = _within(seconds, lambda: answers.perform(self.kind, student, request))
        if self.in_part and isinstance(result, Reply) and result.problem and result.problem.kind == "NameError":
            return Reply(problem=_of_cell(self.in_part))      # the name is missing because the cell has failed
        return result if isinstance(result, Reply) else Reply(problem=result)


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns, or the problem that ended it: any exception, leaving Python, or the soft time limit."""
    def ring(*_: object) -> None:
        raise TimeUp
    try:
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeUp as error:
        return replace(answers.problem_of(error), kind="TimeLimit",
                       message=f"it was still running after {seconds:.3g} seconds and was stopped")
    except SyntaxError as error:
        return Problem("SyntaxError", error.msg or "", error.lineno, (error.text or "").strip())
    except BaseException as error:
        return answers.problem_of(error)


def _of_cell(problem: Problem) -> Problem:
    if problem.kind == "NotImplementedError":        # the line that the student was to replace
        return problem
    where = f" in line {problem.line_number}, `{problem.line}`" if problem.line else ""
    said = f"{problem.message}{where}" if problem.kind in answers.SAID_OF_A_CALL else \
        f"it stopped with {problem.kind}{where}: {problem.message}"
    return Problem("CellFailed", f"The cell with your answer could not be run: {said}.")


if __name__ == "__main__":
    main()
