"""Runs one submission where it can harm nobody, and passes questions to its answers.

    with Sandbox(cells, scratch=folder) as sandbox:
        with sandbox.exercise("box_filter", kind="function", withholds=("labkit.filtering.box_filter",)) as call:
            verdict = exercise.judge(call, seed=secret)

A sandbox is one worker process (see `worker`), which imports torch once and forks for each exercise. The check runs
here, outside: what comes back is data, compared by code that the student's code cannot reach. Questions carry a random
number that the reply has to repeat, so nothing can be answered before it was asked; a reply that is forged all the same
is a wrong answer at most, for whoever knew the right one could as well have returned it.

What holds, with bubblewrap and without:

| | bubblewrap | without |
| --- | --- | --- |
| time of a call and of an exercise | limited, watched from here | the same |
| resident memory, processes, printed text | limited, watched from here | the same |
| size of a file; number of files and their sum | limited; limited | limited; not limited |
| files it can read | Python, its libraries, the stripped labkit | what the user who grades can read |
| files it can write | a private /tmp and /dev/shm | what the user who grades can write |
| network | none | open |
| other processes | none to be seen | can be seen, and killed |
| environment | cleaned | cleaned |
| what the code leaves running | ends with its namespace | is found below the worker and killed (Linux) |

Without bubblewrap a hostile submission can read this user's files, the secret among them, and write into them. Grade
submissions of people you do not trust with bubblewrap, or in a virtual machine that holds nothing else.
"""

from __future__ import annotations

import ast
import json
import math
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labkit import images, openmp
from labkit.checks.answers import Problem, Reply, Request
from labkit.grading import folders, processes, wire
from labkit.grading.bubblewrap import COURSE, DATA, PRIVATE, arguments, bubblewrap_trouble, open_filter
from labkit.grading.withhold import write_package

__all__ = ["GRACE_SECONDS", "LONGEST_CELL", "LOOK_SECONDS", "NUMBA_THREADS", "OPEN_FILES", "PRINTED_BYTES",
           "STARTS_PER_CELL", "STARTS_PER_EXERCISE", "START_SECONDS", "Cell", "Limits", "Sandbox"]

START_SECONDS = 180.0       # a busy machine with a cold disk takes its time to import torch
GRACE_SECONDS = 2.0         # between the soft limit, which tells the line that was running, and the end of the process
LOOK_SECONDS = 0.05         # between two looks at what a worker takes
PRINTED_BYTES = 100_000     # of what the code printed, kept
STARTS_PER_EXERCISE = 3     # a child that ended is started anew for the next question, so often
STARTS_PER_CELL = 5         # cells that end their process are left out the next time; so many are found out
OPEN_FILES = 256
NUMBA_THREADS = 8           # more than one, so that what races shows; as many as `numba.set_num_threads` may ask for
LONGEST_CELL = 1_000_000    # characters

# What is imported before the forks, where the cells mention it: a fixed list, nothing that a student names.
_PRELOADED = {
    "scipy": ("scipy", "scipy.ndimage"), "skimage": ("skimage", "skimage.util"), "matplotlib": ("matplotlib.pyplot",),
    "numba": ("numba",), "cv2": ("cv2",), "PIL": ("PIL.Image",), "IPython": ("IPython.display",),
    "torchvision": ("torchvision",), "widgets": ("anywidget", "ipywidgets"), "images": ("PIL.Image",),
}


@dataclass(frozen=True)
class Limits:
    """What the code of one submission may take.

    Attributes
    ----------
    call_seconds : for one call of an answer, and for one cell.
    exercise_seconds : for all calls of an exercise together, and for all cells.
    memory_bytes : resident memory of all its processes, with what lies in their private /tmp.
    processes : processes and threads at one time. While a CUDA kernel runs on numba's simulator, the threads of a block,
        which are threads of Python there, come on top.
    file_bytes : size of one file. files : their number (with bubblewrap).
    output_bytes : what it may print; the first `PRINTED_BYTES` are kept.
    """

    call_seconds: float = 20.0
    exercise_seconds: float = 60.0
    memory_bytes: int = 4_000_000_000
    processes: int = 64
    file_bytes: int = 64_000_000
    files: int = 20_000
    output_bytes: int = 50_000_000


@dataclass(frozen=True)
class Cell:
    """One code cell, in the order of the notebook; `exercise` names the exercise that it answers, if any."""

    source: str
    exercise: str | None = None


class Sandbox:
    """A place for the code of one submission; a context manager, used by one thread.

    Parameters
    ----------
    cells : the notebook's code; the attribute of that name may be set to a part of it between two exercises.
    scratch : a folder for the sandbox's own files, made when it is missing and removed at the end.
    limits : what the code may take.
    bubblewrap : `True` insists on it, `False` does without, `None` takes it where it works.

    Attributes
    ----------
    printed : what the cells and the answer of the latest exercise printed, its beginning if it is long.
    uses_bubblewrap : which of the two it is.

    Raises
    ------
    RuntimeError : bubblewrap is asked for and does not work here; or the worker does not start, as when torch does not
        import. Nothing that a submission does raises: it comes back as the `problem` of a reply.
    """

    def __init__(self, cells: Sequence[Cell], *, scratch: Path, limits: Limits = Limits(),
                 bubblewrap: bool | None = None):
        if os.name != "posix":
            raise RuntimeError("grading needs Linux or macOS; on Windows, use the Windows Subsystem for Linux")
        trouble = bubblewrap_trouble() if bubblewrap is not False else ""
        if bubblewrap and trouble:
            raise RuntimeError(f"bubblewrap was asked for, but {trouble}")
        self.cells, self.scratch, self.limits = tuple(cells), Path(scratch).resolve(), limits
        self.uses_bubblewrap = bubblewrap is not False and not trouble
        self.printed = ""
        self._worker: _Worker | None = None
        self._preload = _preload(cells)
        self._left_out: dict[str, Problem] = {}      # sources of cells that ended their process, or took too long
        self._starts_for_cells = STARTS_PER_CELL

    def __enter__(self) -> Sandbox:
        self.scratch.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_worker()
        with suppress(OSError):
            folders.empty(self.scratch)
            self.scratch.rmdir()

    @contextmanager
    def exercise(self, name: str, *, kind: str, withholds: Sequence[str] = ()) -> Iterator[Callable[[Request], Reply]]:
        """Execute the cells in a process of their own, and yield the function that calls the answer there.

        Parameters
        ----------
        name : of the function that answers. The last cell of that `exercise` that defines it counts; without such a
            cell, the last definition in the notebook.
        kind : one of `labkit.checks.answers.KINDS`.
        withholds : qualified names of functions that the code shall not find.
        """
        session = _Session(self, name, kind, tuple(withholds))
        try:
            session.begin()
            yield session.call
        finally:
            session.end()

    def _start_child(self, withholds: Sequence[str]) -> _Child:
        """A fresh child, with nothing of the one before: no process, no file, and the labkit of this exercise."""
        course = self.scratch / "course"
        for _ in range(2):
            if self._worker and not self._worker.kill_children():
                self._close_worker()
            course.mkdir(exist_ok=True)
            write_package(course, withholds=withholds)
            if self._worker is None:
                self._worker = _Worker(self.scratch, self.limits, self.uses_bubblewrap, self._preload)
            with suppress(_WorkerEnded):      # it could not clean up after the last child, and ended: once more
                return _Child(self._worker, self.limits)
            self._close_worker()
        raise RuntimeError("the grading worker does not start a child")

    def _close_worker(self) -> None:
        if self._worker:
            self._worker.kill()
            self._worker.control.close()
            self._worker = None


# --- one exercise ---------------------------------------------------------------------------------------------------

class _Stopped(Exception):
    """The child has ended, or will be; `problem` says why in words for the student."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.problem = Problem(kind, message)


class _Session:
    """One exercise of one submission: its child, started anew when a question ended it, and the time that is left."""

    def __init__(self, sandbox: Sandbox, name: str, kind: str, withholds: tuple[str, ...]):
        self.sandbox, self.limits = sandbox, sandbox.limits
        self.name, self.kind, self.withholds = name, kind, withholds
        self.child: _Child | None = None
        self.starts = STARTS_PER_EXERCISE
        self.seconds_left = self.limits.exercise_seconds
        self.problem: Problem | None = None      # the answer to every further question
        sandbox.printed = ""

    def begin(self) -> None:
        """Start a child and execute the cells. One that ends the process is left out, here and in later exercises."""
        self.starts -= 1
        while True:
            self._end_child()
            self.child = self.sandbox._start_child(self.withholds)
            cell = None
            try:
                self.child.ask("begin", self.name, self.kind, list(self.withholds), seconds=START_SECONDS)
                seconds_left = self.seconds_left
                for number, cell in enumerate(self.sandbox.cells, start=1):
                    seconds_left -= self._execute(number, cell, seconds_left)
                return
            except _Stopped as stopped:
                self._end_child()
                if cell is None or self.sandbox._starts_for_cells == 0:
                    said = f"The cells of this notebook could not be run: {stopped.problem.message}."
                    self.problem = Problem("NotRun", said)
                    return
                self.sandbox._starts_for_cells -= 1
                self.sandbox._left_out[cell.source] = stopped.problem

    def _execute(self, number: int, cell: Cell, seconds_left: float) -> float:
        """Execute a cell in the child, unless it is left out; returns the time it took."""
        start, own = time.monotonic(), cell.exercise == self.name
        if len(cell.source) > LONGEST_CELL:
            self.sandbox._left_out[cell.source] = Problem("Refusal", f"it has more than {LONGEST_CELL} characters")
        if cell.source in self.sandbox._left_out:
            problem = self.sandbox._left_out[cell.source]
            self.child.ask("skip", own, self.name in cell.source, problem, seconds=START_SECONDS)
        elif own or seconds_left > 0:
            seconds = self.limits.call_seconds if own else min(self.limits.call_seconds, seconds_left)
            problem = self.child.ask("cell", number, cell.source, own, seconds, seconds=seconds)
            if isinstance(problem, Problem) and problem.kind == "TimeLimit":
                self.sandbox._left_out[cell.source] = problem
        return time.monotonic() - start

    def call(self, request: Request) -> Reply:
        """Ask the answer one question. Whatever happens comes back as a reply."""
        start = time.monotonic()
        if self.child is None and self.problem is None:
            self.begin()
        if self.problem:
            return Reply(problem=self.problem)
        seconds = min(self.limits.call_seconds, self.seconds_left)
        self.child.block = _threads_of_a_block(request)
        try:
            reply = self.child.ask("call", request, seconds, seconds=seconds)
            if not isinstance(reply, Reply):
                raise _Stopped("Protocol", "its process sent something that is no reply")
        except _Stopped as stopped:
            self._end_child()
            reply = Reply(problem=stopped.problem)
            if self.starts == 0:
                self.problem = stopped.problem
        took = time.monotonic() - start
        self.seconds_left -= took
        if self.seconds_left <= 0:
            self._end_child()
            self.problem = Problem("TimeLimit", f"the {self.limits.exercise_seconds:.3g} seconds for it are used up")
        return replace(reply, seconds=took)      # the child's own clock is the student's to set

    def end(self) -> None:
        self._end_child()

    def _end_child(self) -> None:
        if self.child:
            self.child.end()
            self.sandbox.printed = self.child.printed()
            self.child = None


class _Child:
    """The process that holds a student's code: one question, one reply, and a watch over what it takes."""

    def __init__(self, worker: _Worker, limits: Limits):
        self.worker, self.limits = worker, limits
        self.channel, theirs = socket.socketpair()
        self.output, their_output = os.pipe()
        try:
            worker.fork(theirs.fileno(), their_output)
        except _WorkerEnded:
            self.channel.close()
            os.close(self.output)
            raise
        finally:
            theirs.close()
            os.close(their_output)
        self.channel.setblocking(False)
        os.set_blocking(self.output, False)
        self.kept, self.count = bytearray(), 0
        self.block = 0                            # threads that the question itself asks for
        self.verdict: _Stopped | None = None      # why the watch has ended the child
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._watch, name="labkit-grading-watch", daemon=True)
        self.watch.start()

    def ask(self, verb: str, *content: Any, seconds: float) -> Any:
        """Send a question, and wait for its reply until the soft limit is over and a little longer."""
        number, deadline = secrets.randbits(62), time.monotonic() + seconds + GRACE_SECONDS
        question = wire.dumps((number, verb, *content))
        try:
            if self._wait(select.POLLIN, time.monotonic()) and self.channel.recv(1):
                raise wire.WireError("it came before the question")
            self._send(question, deadline)
            message = wire.loads(self._receive(wire.body_length(self._receive(wire.HEADER_BYTES, deadline)), deadline))
        except wire.WireError as error:
            stopped = _Stopped("Protocol", f"its process sent something that is no reply: {error}")
        except TimeoutError:
            stopped = _Stopped("TimeLimit", f"it was still running after {seconds:.3g} seconds and was stopped")
        except OSError:      # the channel is closed; its process may take a moment to end
            self.worker.wait(lambda: False, 1.0)
            stopped = _Stopped("Crash", self.worker.last_words())
        else:
            if isinstance(message, tuple) and len(message) == 2 and message[0] == number:
                return message[1]
            stopped = _Stopped("Protocol", "its process answered another question than the one that was asked")
        raise self.verdict or stopped

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            if not self._wait(select.POLLOUT, deadline):
                raise TimeoutError
            view = view[self.channel.send(view):]

    def _receive(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            if not self._wait(select.POLLIN, deadline):
                raise TimeoutError
            part = self.channel.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionError
            data += part
        return bytes(data)

    def _wait(self, event: int, deadline: float) -> bool:
        """Whether the channel is ready; `ConnectionError` when the child has ended and left nothing to read."""
        poll = select.poll()
        poll.register(self.channel, event)
        poll.register(self.worker.control, select.POLLIN)
        while True:
            ready = dict(poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))))
            if self.channel.fileno() in ready:
                return True
            if not ready:
                return False
            if self.worker.read_news():
                raise ConnectionError

    def _watch(self) -> None:
        """Runs beside: takes what is printed, and looks at memory and processes; ends the child that takes too much."""
        poll = select.poll()
        poll.register(self.output, select.POLLIN)
        open_, next_look = True, 0.0
        while not self.over.is_set():
            if open_:
                open_ = not poll.poll(1000 * LOOK_SECONDS) or self._take_output() != b""
            else:
                self.over.wait(LOOK_SECONDS)
            if self.count > self.limits.output_bytes:
                return self._stop("OutputLimit", f"it printed more than {_size(self.limits.output_bytes)}")
            if time.monotonic() >= next_look:
                count, threads, memory, files = self.worker.usage()
                limits = self.limits
                if max(count, threads - self.block) > limits.processes:
                    # a fork bomb is faster than a list of its processes: the worker goes with all that is below it
                    return self._stop("ProcessLimit", f"it started more than {limits.processes} processes and threads",
                                      everything=True)
                if memory > limits.memory_bytes:
                    among = f" in {threads} processes and threads" if threads > 1 else ""
                    return self._stop("MemoryLimit", f"it took more than {_size(limits.memory_bytes)} of memory{among}")
                if files > limits.files:
                    return self._stop("FileLimit", f"it made more than {limits.files} files")
                next_look = time.monotonic() + LOOK_SECONDS

    def _take_output(self) -> bytes | None:
        """Some of what was printed; nothing at its end, `None` when there is nothing yet."""
        try:
            data = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return None
        self.count += len(data)
        self.kept += data[:PRINTED_BYTES - len(self.kept)]
        return data

    def _stop(self, kind: str, message: str, *, everything: bool = False) -> None:
        self.verdict = _Stopped(kind, f"{message} and was stopped")
        if everything or not self.worker.kill_children():
            self.worker.kill()

    def end(self) -> None:
        if not self.worker.kill_children():
            self.worker.kill()
        self.over.set()
        self.watch.join()
        while self.count <= self.limits.output_bytes and self._take_output():
            pass
        self.channel.close()
        os.close(self.output)

    def printed(self) -> str:
        return self.kept.decode("utf-8", "replace") + ("\n…" if self.count > len(self.kept) else "")


def _threads_of_a_block(request: Request) -> int:
    """The threads that numba's simulator starts at one time for the launch of a CUDA kernel; the check decides them."""
    block = request.options.get("block", 0)
    return math.prod(block) if isinstance(block, (tuple, list)) else int(block)


def _size(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


# --- the worker process ---------------------------------------------------------------------------------------------

class _WorkerEnded(Exception):
    """The worker's parent process is gone."""


class _Worker:
    """The process that imports once and forks: started here, watched from here."""

    def __init__(self, scratch: Path, limits: Limits, bubblewrap: bool, preload: Sequence[str]):
        self.private = bubblewrap
        self.control, theirs = socket.socketpair()
        temporary, course = PRIVATE, COURSE
        if not bubblewrap:
            temporary, course = (scratch / "temporary",), scratch / "course"
            temporary[0].mkdir(exist_ok=True)
        settings = {"temporary": [str(folder) for folder in temporary], "preload": list(preload), "file_bytes": limits.file_bytes,
                    "open_files": OPEN_FILES, "private": bubblewrap}
        command = [sys.executable, "-P", "-B", "-m", "labkit.grading.worker",
                   str(theirs.fileno()), json.dumps(settings)]
        call_filter = open_filter() if bubblewrap else None
        if bubblewrap:
            command = [*arguments(scratch / "course", limits.memory_bytes, call_filter), *command]
        if Path("/proc/self/oom_score_adj").exists():      # should the machine run out of memory, this goes first
            command = ["/bin/sh", "-c", 'echo 1000 > /proc/self/oom_score_adj; exec "$@"', "sh", *command]
        self.log = scratch / "worker.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                pass_fds=[fd for fd in (theirs.fileno(), call_filter) if fd is not None],
                env=_environment(course, temporary[0], bubblewrap))
        theirs.close()
        if call_filter is not None:
            os.close(call_filter)
        self.news, self.orders, self.forks, self.exit_status, self.ended = b"", 0, 0, None, False
        self.control.settimeout(START_SECONDS)
        try:
            ready = self.control.recv(6)
        except TimeoutError:
            ready = b""
        self.control.setblocking(False)
        self.pid = self._find_parent() if ready else None
        if self.pid is None:
            self.kill()
            self.control.close()
            reason = self.log.read_text(errors="replace").strip()[-2000:]
            raise RuntimeError(f"the grading worker did not start: {reason or 'no reason given'}")

    def _find_parent(self) -> int | None:
        """The worker as the machine knows it: below bubblewrap's own process, which stays outside."""
        return next(iter(processes.children(self.process.pid)), None) if self.private else self.process.pid

    def fork(self, channel: int, output: int) -> None:
        """Have a child made, with these two descriptors; `_WorkerEnded` when the worker is gone."""
        self.orders, self.exit_status = self.orders + 1, None
        try:
            socket.send_fds(self.control, [b"f"], [channel, output])
        except OSError as error:
            raise _WorkerEnded from error
        self.wait(lambda: self.forks == self.orders, START_SECONDS)
        if self.forks != self.orders:
            raise _WorkerEnded

    def read_news(self) -> bool:
        """Take what the worker reports, by the number of the fork; whether the child, or the worker, has ended."""
        try:
            data = self.control.recv(4096)
        except BlockingIOError:
            return self.exit_status is not None
        self.ended = self.ended or not data
        *lines, self.news = (self.news + data).split(b"\n")
        for what, fork, status in map(bytes.split, lines):
            if what == b"forked":
                self.forks = int(fork)
            elif int(fork) == self.orders:
                self.exit_status = int(status)
        return self.ended or self.exit_status is not None

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Until the condition holds, the child or the worker has ended, or the time is over."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        while not self.read_news() and not condition() and time.monotonic() < deadline:
            poll.poll(max(0.0, 1000 * (deadline - time.monotonic())))

    def last_words(self) -> str:
        """Why the child has ended by itself, for the student."""
        status = self.exit_status
        if status is not None and status < 0:
            with suppress(ValueError):
                return f"it crashed Python ({signal.strsignal(-status) or signal.Signals(-status).name})"
        how = f" with exit status {status}" if status is not None else ""
        return f"it ended the process that runs it{how}, as os._exit() does"

    def usage(self) -> tuple[int, int, int, int]:
        """Processes, their threads, bytes of memory, and files of everything below the worker.

        Pages that several processes share since a fork count for each of them: to tell them apart takes the kernel
        milliseconds for every process, and a fork bomb would be faster.
        """
        count = threads = memory = files = 0
        for pid in processes.descendants(self.pid):
            own_threads, own_memory = processes.taken(pid)
            count, threads, memory = count + (own_threads > 0), threads + own_threads, memory + own_memory
        for folder in PRIVATE if self.private else ():
            with suppress(OSError):      # the namespace is gone
                room = os.statvfs(f"/proc/{self.pid}/root{folder}")
                memory += (room.f_blocks - room.f_bfree) * room.f_frsize
                files += room.f_files - room.f_ffree
        return count, threads, memory, files

    def kill_children(self) -> bool:
        """End every process below the worker; `False` when some are still there after a while, or the worker is not."""
        return processes.kill_below(self.pid) and self.process.poll() is None

    def kill(self) -> None:
        """End the worker and everything below it. With bubblewrap, the end of its first process ends the namespace."""
        if self.pid and self.process.poll() is None:
            if not self.private:
                self.kill_children()
            processes.kill(self.pid)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _environment(course: Path, temporary: Path, bubblewrap: bool) -> dict[str, str]:
    """What the code finds in its environment: nothing of ours. One thread each, because workers run side by side; but
    several for numba's parallel loops, and its simulator for CUDA, since no GPU is in reach."""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "VECLIB")}
    return {"PATH": "/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary), "LANG": "C.UTF-8",
            "USER": "student", "LOGNAME": "student", "PYTHONPATH": str(course), "PYTHONDONTWRITEBYTECODE": "1",
            "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": "", "NUMBA_ENABLE_CUDASIM": "1",
            "NUMBA_NUM_THREADS": str(NUMBA_THREADS), "LABKIT_PROFILE": "quick",
            "LABKIT_DATA": str(DATA if bubblewrap else images.data_folder()), **openmp.SHORT_SPIN, **one}


def _preload(cells: Sequence[Cell]) -> list[str]:
    """What the worker imports before it forks: the well-known libraries that the cells mention in their imports."""
    words: set[str] = set()
    for cell in cells:
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                    words.update(part for name in names for part in name.split("."))
    return [module for word in sorted(words & _PRELOADED.keys()) for module in _PRELOADED[word]]
