"""What the card and the programs on this machine are, what the card can do at most, and what its compiler made of kernels."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch

from tests.gpu.case import milliseconds

__all__ = ["card", "compiled_kernels", "limits", "versions"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numba", "numba-cuda", "llvmlite", "numpy", "scipy", "triton", "cuda-bindings", "cuda-core")
COPIED = 2**28  # float32 numbers, 1 GiB
MATRIX = 8192  # rows and columns


def versions() -> dict:
    """Python, packages, driver, and the commit that ran."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found["cuda of torch"] = torch.version.cuda
    found["driver"] = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    found["commit"] = _said("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    found["changed since"] = None if changed is None else bool(changed)
    return found


def card() -> dict:
    """All that torch knows of the card."""
    properties = torch.cuda.get_device_properties(0)
    found = {name: getattr(properties, name) for name in dir(properties) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, (int, float, str))}


def limits(device: torch.device) -> dict:
    """Bytes and float32 operations in a second, measured: a large copy, and a product of matrices without tensor cores.

    No kernel can be expected to be faster than these two, which the card reaches with its maker's own code.
    """
    numbers = COPIED if device.type == "cuda" else 2**16
    while device.type == "cuda" and 8 * numbers > torch.cuda.mem_get_info(device)[0] // 2:
        numbers //= 2
    side = MATRIX if device.type == "cuda" else 64
    copied, multiplied = _copied(numbers, device), _multiplied(side, device)
    return {
        "bytes_per_s": 1000 * 2 * 4 * numbers / copied["least"],
        "float32_per_s": 1000 * 2 * side**3 / multiplied["least"],
        "how": f"a copy of {4 * numbers / 2**20:.4g} MiB, read and written, the fastest of {copied['repeats']}; "
        f"a float32 product of {side}² matrices, the fastest of {multiplied['repeats']}",
    }


def _copied(numbers: int, device: torch.device) -> dict:
    source = torch.rand(numbers, device=device)
    target = torch.empty_like(source)
    return milliseconds(lambda: target.copy_(source), device)


def _multiplied(side: int, device: torch.device) -> dict:
    first, second = (torch.rand(side, side, device=device) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # no TensorFloat-32
    try:
        return milliseconds(lambda: first @ second, device)
    finally:
        torch.set_float32_matmul_precision(before)


def compiled_kernels() -> list[dict]:
    """Registers, local and shared memory of every kernel that was compiled so far, and how many warps fit on a multiprocessor."""
    found = []
    for name, module in sorted(sys.modules.items()):
        if name.startswith("labkit.kernels.") and name.endswith("_cuda"):
            for kernel in vars(module).values():
                if hasattr(kernel, "get_regs_per_thread") and not getattr(kernel, "targetoptions", {}).get("device"):
                    found += _of_kernel(module, kernel)
    return found


def _of_kernel(module: ModuleType, kernel: object) -> list[dict]:
    block = getattr(module, "BLOCK", getattr(module, "THREADS", 128))
    threads = block if isinstance(block, int) else block[0] * block[1]
    found = []
    for signature, compiled in kernel.overloads.items():
        one = {
            "kernel": f"{module.__name__.rsplit('.', 1)[1]}.{kernel.py_func.__name__}",
            "arguments": str(signature)[:300],
            "threads of a block": threads,
        }
        for label, name in (
            ("registers", "regs_per_thread"),
            ("local bytes", "local_mem_per_thread"),
            ("shared bytes", "shared_mem_per_block"),
            ("most threads of a block", "max_threads_per_block"),
        ):
            one[label] = getattr(compiled, name, None)
        one["occupancy"] = _occupancy(compiled, threads, one)
        found.append(one)
    return found


def _occupancy(compiled: object, threads: int, one: dict) -> float | None:
    """The share of a multiprocessor's threads that can be there at once; `None`, with the reason, where numba does not tell."""
    from numba import cuda

    try:
        function = compiled._codelibrary.get_cufunc()  # not public: another numba may call it otherwise
        # 0: no shared memory is asked for at the launch; what a kernel declares itself is counted
        blocks = cuda.current_context().get_active_blocks_per_multiprocessor(function, threads, 0)
        return blocks * threads / torch.cuda.get_device_properties(0).max_threads_per_multi_processor
    except Exception as problem:
        one["occupancy is not known"] = f"{type(problem).__name__}: {problem}"
        return None


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
