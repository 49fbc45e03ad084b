"""Kernels compiled before they are needed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

from labkit import cli, kernels, warm

FAMILIES = sorted(path.stem.removesuffix("_cpu") for path in Path(kernels.__file__).parent.glob("*_cpu.py"))


def test_every_kernel_of_every_chapter_is_called_once(monkeypatch):
    """A new chapter's kernels are missed here until its `first_calls` has them."""
    called, run = set(), kernels.run

    def note(family, function, *arguments, **options):
        called.add((family, function))
        run(family, function, *arguments, **options)

    list(warm.calls())  # loads what is to be watched
    for name, module in list(sys.modules.items()):
        if name.startswith("labkit.") and getattr(module, "run", None) is run:
            monkeypatch.setattr(module, "run", note)
    said = []
    warm.compile_all(said.append)
    assert said == [name for name, _ in warm.calls()]
    for family in FAMILIES:
        module = importlib.import_module(f"labkit.kernels.{family}_cpu")
        offered = {name for name in module.__all__ if isinstance(getattr(module, name), types.FunctionType)} - {"exp2"}
        assert offered <= {function for name, function in called if name == family}, family


def test_lab_compiles_beside_the_reader_and_stops_with_the_session(monkeypatch):
    started = []

    class Process:
        def __init__(self, command, **options):
            self.command, self.options, self.ended = command, options, False
            started.append(self)

        def terminate(self):
            self.ended = True

    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(KeyboardInterrupt), cli._compiling_beside():
        (process,) = started
        assert process.command == [sys.executable, "-m", "labkit.warm"] and not process.ended
        assert process.options["stdout"] == process.options["stderr"] == subprocess.DEVNULL
        raise KeyboardInterrupt
    assert process.ended
