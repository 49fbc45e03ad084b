"""Compiled twins of the slow algorithms: `<name>_cpu.py` (numba, parallel) and `<name>_cuda.py` (numba.cuda).

The two modules of a pair export the same functions with the same arguments on the same memory layout, and write their
result into arrays that the caller allocated. Nothing outside this folder knows that numba exists: a public function
calls `run("filtering", "box", image, out, radius)` and the tensors' device picks the module.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labkit import openmp

__all__ = ["available", "run", "simulated"]

# numba's default thread pool aborts the process when two Python threads enter it at once.
_one_at_a_time = threading.Lock()


def _renew_lock() -> None:
    """In a forked process: another thread of its parent's may have held the lock."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@functools.cache
def available() -> bool:
    """Whether the compiled twins are there. A grader leaves them out: calling one is no answer to an exercise."""
    return any(Path(__file__).parent.glob("*_cpu.py"))


def simulated() -> bool:
    """Whether `numba.cuda` runs on the CPU (NUMBA_ENABLE_CUDASIM=1), as the tests do where there is no GPU."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"


def run(family: str, function: str, *arguments: Tensor | float | int | None, twin: str | None = None) -> None:
    """Call a kernel of the family on the device where its tensors live.

    Parameters
    ----------
    family : name of the pair, such as `"filtering"` for `filtering_cpu.py` and `filtering_cuda.py`.
    function : name of the exported function.
    arguments : contiguous tensors (inputs and preallocated outputs, all on one device), numbers, or `None`.
    twin : `"cpu"` or `"cuda"` instead of the tensors' own device; tests use it to run the CUDA twin on the simulator.

    Raises
    ------
    ValueError : a tensor is not contiguous, or tensors are on several devices.
    RuntimeError : this process was made by a fork after kernels had run on the CPU.
    """
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    devices = {t.device for t in tensors}
    if len(devices) != 1:
        raise ValueError(f"{family}.{function} was given tensors on {sorted(map(str, devices))}; expected one device")
    for t in tensors:
        if not t.is_contiguous():
            raise ValueError(f"{family}.{function} was given a tensor of strides {t.stride()}; expected a contiguous one")
    device = devices.pop()
    twin = twin or device.type

    def call(as_array: Callable[[Tensor], Any]) -> None:
        module = importlib.import_module(f"labkit.kernels.{family}_{twin}")
        getattr(module, function)(*(as_array(a.detach()) if isinstance(a, Tensor) else a for a in arguments))

    with _one_at_a_time:
        if device.type == "cuda":
            from numba import cuda

            with torch.cuda.device(device):
                call(cuda.as_cuda_array)
        elif twin == "cpu":
            openmp.call(lambda: call(Tensor.numpy))
        else:
            call(Tensor.numpy)
