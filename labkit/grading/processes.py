"""What runs below a process: its descendants, what they take, and their end."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["children", "descendants", "kill", "kill_below", "taken"]


def kill(pid: int) -> None:
    """End a process at once, if it is still there."""
    with suppress(ProcessLookupError, PermissionError):      # gone, or a program that runs as somebody else
        os.kill(pid, signal.SIGKILL)


def kill_below(pid: int, *, seconds: float = 3.0) -> bool:
    """End everything below a process; `False` when something is still there after that time."""
    deadline = time.monotonic() + seconds
    while alive := [below for below in descendants(pid) if taken(below)[0]]:
        if time.monotonic() > deadline:
            return False
        for below in alive:
            kill(below)
        time.sleep(0.001)
    return True


def children(pid: int) -> list[int]:
    """The children of a process. On Linux the kernel lists them; elsewhere psutil searches all processes."""
    if not _kernel_lists_children():
        import psutil

        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):            # the process has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{thread}/children") as file:    # or only this thread of it
                found += map(int, file.read().split())
    return found


@functools.cache
def _kernel_lists_children() -> bool:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").exists()


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on; with the ones that have ended and wait to be collected."""
    found, level = [], [pid]
    while level:
        level = [child for parent in level for child in children(parent)]
        found += level
    return found


def taken(pid: int) -> tuple[int, int]:
    """Threads of a process and bytes of its own resident memory; (0, 0) when it has ended."""
    if sys.platform != "linux":
        return _taken_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            status = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        if status[b"State"].split()[0] in (b"Z", b"X"):
            return 0, 0
        sizes = [status.get(name) for name in (b"RssAnon", b"RssShmem", b"VmSwap")]
        return int(status[b"Threads"]), 1024 * sum(int(size.split()[0]) for size in sizes if size)
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0


def _taken_elsewhere(pid: int) -> tuple[int, int]:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return 0, 0
        return process.num_threads(), process.memory_info().rss
    except psutil.Error:
        return 0, 0
