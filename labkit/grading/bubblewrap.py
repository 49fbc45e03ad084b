"""bubblewrap, the program that shuts a worker away: how it is called, and whether it works here."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import site
import struct
import subprocess
import sys
from pathlib import Path

from labkit import images
from labkit.grading.withhold import PACKAGE

__all__ = ["COURSE", "DATA", "PRIVATE", "arguments", "bubblewrap_trouble", "open_filter"]

# What the sandbox puts where. Python and its libraries keep their places, so nobody may have installed them in these.
COURSE, DATA = Path("/run/labkit/course"), Path("/run/labkit/data")
PRIVATE = (Path("/tmp"), Path("/dev/shm"))      # empty at first, and written to; libraries may lie below


@functools.cache
def bubblewrap_trouble() -> str:
    """Why bubblewrap cannot be used here; empty when it can. It is tried once, with everything a worker uses."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        return "it is not installed (the command `bwrap` of the package bubblewrap, on Linux)"
    call_filter = open_filter()
    command = [*arguments(Path("/usr"), 1_000_000, call_filter), sys.executable, "-I", "-S", "-c", "pass"]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={},
                         pass_fds=[] if call_filter is None else [call_filter])
    if call_filter is not None:
        os.close(call_filter)
    if run.returncode == 0:
        return ""
    return f"it does not work here: {run.stderr.strip() or f'exit status {run.returncode}'}"


@functools.cache
def _options() -> str:
    return subprocess.run(["bwrap", "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def arguments(course: Path, room: int, call_filter: int | None) -> list[str]:
    """What stands before a command to shut it away: it reads Python, libraries and the course, and writes to `PRIVATE`.

    Parameters
    ----------
    course : the folder that the command finds as `COURSE`.
    room : bytes that each of `PRIVATE` may hold.
    call_filter : a descriptor from `open_filter`.
    """
    command = ["bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "labkit",
               "--new-session", "--die-with-parent", "--as-pid-1"]
    if "--disable-userns" in _options():      # since 0.8; older ones leave the making of user namespaces open
        command.append("--disable-userns")
    if call_filter is not None:
        command += ["--seccomp", str(call_filter)]
    for folder in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        else:
            command += ["--ro-bind-try", folder, folder]
    for entry in ("ld.so.cache", "alternatives", "localtime"):
        command += ["--ro-bind-try", f"/etc/{entry}", f"/etc/{entry}"]
    # /proc goes read-only as a whole: where root grades, its files under /proc/sys would be writable in the sandbox
    command += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    for folder in PRIVATE:
        command += ["--size", str(room), "--tmpfs", str(folder)]
    command += ["--remount-ro", "/dev", *_libraries()]      # what comes later lies on top: /tmp would hide a Python in /tmp
    command += ["--ro-bind", str(course), str(COURSE), "--ro-bind", str(images.data_folder()), str(DATA)]
    return [*command, "--remount-ro", "/", "--chdir", "/tmp", "--"]


def open_filter() -> int | None:
    """A descriptor from which bubblewrap reads the filter of system calls; `None` on machines it is not written for."""
    program = _call_filter(os.uname().machine)
    if program is None:
        return None
    read, write = os.pipe()
    os.write(write, program)
    os.close(write)
    return read


def _call_filter(machine: str) -> bytes | None:
    """A seccomp program (classic BPF) that refuses what no exercise needs: memory that belongs to no process, and so is
    in nobody's account (memfd_create, memfd_secret, shmget), and doors to the kernel (keys, bpf, perf, io_uring, …)."""
    tables = {      # architecture as the kernel names it; the numbers of the calls
        "x86_64": (0xC000003E, (319, 447, 29, 101, 248, 249, 250, 298, 310, 311, 321, 323, 425, 426, 427)),
        "aarch64": (0xC00000B7, (279, 447, 194, 117, 217, 218, 219, 241, 270, 271, 280, 282, 425, 426, 427)),
    }
    if machine not in tables:
        return None
    architecture, calls = tables[machine]
    load, equal, at_least, give_back = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give_back, 0, 0, refuse), (load, 0, 0, 0),
             (at_least, len(calls) + 1, 0, 0x40000000)]      # x32 calls, the same ones under other numbers
    steps += [(equal, len(calls) - i, 0, call) for i, call in enumerate(calls)]
    steps += [(give_back, 0, 0, allow), (give_back, 0, 0, refuse)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _libraries() -> list[str]:
    """Mounts for Python and what is installed in it, without labkit: neither the package nor the repository it lies in.

    An empty folder covers what lies inside and is ours; the other way round, an environment inside the repository is
    all of it that can be seen. Of a private folder that libraries lie in, the part on the way to them is closed.
    """
    wanted = {Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.base_exec_prefix)}
    wanted |= {Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages") and Path(p).is_dir()}
    wanted = {Path(os.path.realpath(p)) for p in wanted} | wanted
    hidden = {Path(p) / "labkit" for p in (*site.getsitepackages(), site.getusersitepackages())}
    hidden |= {PACKAGE, PACKAGE.parent / "solutions"}
    if (PACKAGE.parent / "pyproject.toml").is_file():
        hidden.add(PACKAGE.parent)
    # mounts of their own, so that the code that writes beside them cannot move them out of the way
    ways = {private / w.relative_to(private).parts[0] for w in wanted for private in PRIVATE
            if w.is_relative_to(private) and w != private}
    mounts, closed = [], []
    for folder in sorted(wanted | hidden | ways, key=lambda p: (len(p.parts), p)):      # outer folders first
        if folder in wanted:
            mounts += ["--ro-bind", str(folder), str(folder)]
        elif folder in ways or folder.is_dir() and any(folder.is_relative_to(w) for w in wanted):
            mounts += ["--tmpfs", str(folder)]
            closed += ["--remount-ro", str(folder)]
    return mounts + closed
