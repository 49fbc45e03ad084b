"""Compiled kernels are kept where they can be, and work where they cannot."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import labkit
from labkit import doctor
from labkit.kernels import cache

TOY = "from numba import njit\nfrom labkit.kernels.cache import kept\n@kept\n@njit\ndef double(x):\n    return 2 * x\n"
KERNELS = Path(labkit.__file__).parent / "kernels"


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A file with one kernel, `double`."""
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    return path


def call(toy: Path) -> tuple[int, int, str | None]:
    """What a fresh import of the kernel says: the result, how much came from the cache, and where the cache is."""
    double = runpy.run_path(str(toy))["double"]
    return double(3), sum(double.stats.cache_hits.values()), double.stats.cache_path


def nowhere_to_write(folder: Path) -> dict[str, str]:
    """Make a folder's `__pycache__` impossible, also for root, and name a home in which nothing can be made."""
    (folder / "__pycache__").touch()
    temporary = folder / "temporary"
    temporary.mkdir()
    return {
        "HOME": os.devnull,
        "XDG_CACHE_HOME": f"{os.devnull}/cache",
        "LOCALAPPDATA": f"{os.devnull}/cache",
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_a_kernel_is_compiled_anew_when_what_kernels_share_has_changed(toy, monkeypatch):
    assert call(toy)[:2] == (6, 0)
    assert call(toy)[:2] == (6, 1)
    changed = toy.with_name("shared.py")
    changed.write_text("other")
    monkeypatch.setattr(cache, "SHARED", changed)
    assert call(toy)[:2] == (6, 0)
    assert call(toy)[:2] == (6, 1)


@pytest.fixture
def temporary(toy, monkeypatch) -> Path:
    """The folder for temporary files, the only place in which something can be kept."""
    nowhere = nowhere_to_write(toy.parent)
    for name, value in nowhere.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", nowhere["TMPDIR"])
    return Path(nowhere["TMPDIR"])


def test_the_second_start_finds_what_the_first_compiled_beside_the_source(toy):
    beside = str(toy.parent / "__pycache__")
    assert call(toy) == (6, 0, beside)
    assert call(toy) == (6, 1, beside)


def test_without_a_home_and_a_writable_checkout_kernels_are_kept_in_a_temporary_folder_of_ones_own(toy, temporary):
    result, hits, place = call(toy)
    (kept,) = temporary.glob("labkit-kernels*")
    assert (result, hits) == (6, 0) and Path(place).is_relative_to(kept)
    assert kept.stat().st_mode & 0o077 == 0 or os.name == "nt"
    assert call(toy) == (6, 1, place)


@pytest.mark.skipif(os.name == "nt", reason="temporary folders are the user's own on Windows")
def test_a_temporary_folder_that_others_can_write_to_is_not_trusted(toy, temporary):
    place = temporary / f"labkit-kernels-{os.getuid()}"
    place.mkdir()
    place.chmod(0o777)
    assert call(toy) == (6, 0, None)
    assert not list(place.iterdir())


def test_a_filter_works_where_nothing_can_be_kept(tmp_path):
    shutil.copytree(KERNELS.parent, tmp_path / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    nowhere = nowhere_to_write(tmp_path / "labkit" / "kernels")
    (
        Path(nowhere["TMPDIR"]) / f"labkit-kernels-{os.getuid()}"
        if hasattr(os, "getuid")
        else Path(nowhere["TMPDIR"]) / "labkit-kernels"
    ).touch()  # nor can the folder be made
    program = (
        "import torch, labkit; from labkit import doctor; from labkit.kernels import cache\n"
        "print(labkit.filtering.box_filter(torch.ones(1, 8, 8), radius=1).min().item(), cache.folder())\n"
        "print(doctor._numba_cache())"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**variables, **nowhere, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert said[:2] == ["1.0", "None"]
    assert said[2] == doctor.MARKS[doctor.MISSING] and "every start compiles them again" in " ".join(said)


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "harm",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\x00" * len(data)],
    ids=["empty", "cut", "zeros"],
)
def test_a_damaged_file_is_compiled_anew(toy, ending, harm):
    place = toy.parent / "__pycache__"
    call(toy)
    (file,) = place.glob(f"*.{ending}")
    file.write_bytes(harm(file.read_bytes()))
    assert cache.damaged(place) == [file]
    assert call(toy) == (6, 0, str(place))
    assert cache.damaged(place) == []
    assert call(toy) == (6, 1, str(place))


def test_doctor_says_which_files_are_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    assert doctor._numba_cache().state == doctor.OK
    (tmp_path / "box-1.py311.nbi").touch()
    found = doctor._numba_cache()
    assert found.state == doctor.MISSING and "box-1.py311.nbi" in found.detail and "compiled anew" in found.detail


def test_a_folder_that_is_full_is_no_reason_to_stop():
    class Full:
        def save_overload(self, signature, compiled):
            raise OSError(28, "No space left on device")

    cache._Forgiving(Full()).save_overload("signature", "compiled")


def test_every_kernel_that_is_compiled_for_the_cpu_is_kept():
    for path in KERNELS.glob("*.py"):
        assert "cache=True" not in path.read_text(encoding="utf-8"), f"{path.name}: numba's own cache; expected @kept"


def test_a_kernel_from_a_namespace_without_a_name_compiles():
    namespace = {}
    exec("from numba import njit\ndouble = njit(lambda x: 2 * x)", namespace)
    assert namespace["double"](3) == 6


def test_a_notebook_is_told_when_a_kernel_compiles_for_long(monkeypatch, capsys):
    announcer, started = cache._Announcer(), []
    compiling = types.SimpleNamespace(data={"dispatcher": types.SimpleNamespace(py_func=cache.kept)})
    others = types.SimpleNamespace(data={"dispatcher": types.SimpleNamespace(py_func=shutil.copy)})

    class Timer:
        def __init__(self, seconds, say):
            self.seconds, self.say, self.cancelled = seconds, say, False

        def start(self):
            started.append(self)

        def cancel(self):
            self.cancelled = True

    monkeypatch.setattr(cache.threading, "Timer", Timer)
    for begins in (others, compiling, compiling):  # what a kernel calls is compiled within
        announcer.on_start(begins)
    (timer,) = started
    assert timer.seconds == 2
    timer.say()
    assert capsys.readouterr().err == ""  # a terminal
    monkeypatch.setattr("IPython.get_ipython", lambda: types.SimpleNamespace(kernel=None))
    timer.say()
    assert "compiling, once" in capsys.readouterr().err
    for ends in (compiling, others):
        announcer.on_end(ends)
    assert not timer.cancelled
    announcer.on_end(compiling)
    assert timer.cancelled
