"""What a chapter says of one thing that its code does on a card, and how that is compared and timed."""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import kernels
from labkit.runtime import generator

__all__ = ["Aim", "Case", "LeftOut", "compare", "difference", "milliseconds", "on_device", "picture", "time_case"]

SECONDS = 0.4  # that the repeats of one measurement may take
FEWEST, MOST = 3, 50  # repeats
LONG = 2.0  # seconds from which on one repeat is enough


class LeftOut(Exception):
    """A case cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Aim:
    """What a case wants to reach: `seconds` for something that takes as long as `calls` calls of the case."""

    what: str
    seconds: float
    calls: float = 1


def difference(found: object, expected: object) -> float:
    """The largest absolute difference between two tensors, or two tuples of tensors; infinite where one is not a number."""
    if not isinstance(found, Tensor):
        return max(difference(one, other) for one, other in zip(found, expected, strict=True))
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(
            f"the card gave {found.dtype} {tuple(found.shape)} and the CPU {expected.dtype} {tuple(expected.shape)}; "
            "expected the same"
        )
    largest = float((found.double() - expected.double()).abs().max())
    return largest if largest == largest else float("inf")


@dataclass(frozen=True)
class Case:
    """One thing that runs on a card.

    Attributes
    ----------
    name : short, with the size, such as `"box, radius 7, 1024²"`.
    inputs : tensors on the CPU; they are moved to where the case runs.
    call : given them, the result: a tensor, or a tuple of tensors.
    tolerance, why : largest `difference` between the results of the card and of the CPU, and the reason for it.
    difference : of two results, both on the CPU. `None` in place of the second one where `alone`.
    prepare : makes the arguments of `call` from the inputs, once; what it does is not timed. `None` hands them over.
    plain, plain_is : the same in plain torch, called as `call` is, and in words; `None` where there is none.
    bytes, operations : the least that a call moves (each input read once, each result written once) and computes (a
        multiplication and an addition are two); 0 where that is not known beforehand.
    alone : the CPU would take too long, or draws other random numbers: the result has nothing beside it.
    aim : what we set out to reach.
    """

    name: str
    inputs: tuple[Tensor, ...]
    call: Callable[..., object]
    tolerance: float
    why: str
    difference: Callable[[object, object], float] = difference
    prepare: Callable[..., tuple] | None = None
    plain: Callable[..., object] | None = None
    plain_is: str = "the reference in torch"
    bytes: float = 0.0
    operations: float = 0.0
    alone: bool = False
    aim: Aim | None = None

    def ready(self, device: torch.device) -> tuple:
        """The arguments of `call` on a device."""
        moved = tuple(one.to(device) for one in self.inputs)
        return moved if self.prepare is None else self.prepare(*moved)


def compare(case: Case, device: torch.device) -> dict:
    """Run a case on the device and on the CPU: whether they agree, how far, and the seconds of the first call."""
    expected = None if case.alone else case.call(*case.ready(torch.device("cpu")))
    with on_device(device) as called:
        arguments = case.ready(device)
        start = time.perf_counter()
        found = _on_cpu(case.call(*arguments))
        seconds = time.perf_counter() - start
    far = float(case.difference(found, expected))
    return {
        "outcome": "agrees" if far <= case.tolerance else "differs",
        "difference": far,
        "tolerance": case.tolerance,
        "why": case.why,
        "compared_with": "nothing on the CPU" if case.alone else "the CPU",
        "first_call_s": round(seconds, 3),
        "kernels": sorted(called),
    }


def time_case(case: Case, device: torch.device, *, seconds: float = SECONDS) -> dict:
    """Milliseconds of a warm call on the device, on the CPU, and of the plain version on the device; medians of repeats."""
    arguments = case.ready(device)
    found = {
        "outcome": "timed",
        "device": milliseconds(functools.partial(case.call, *arguments), device, seconds=seconds),
    }
    if case.plain is not None:
        found["plain"] = milliseconds(functools.partial(case.plain, *arguments), device, seconds=seconds)
        found["plain_is"] = case.plain_is
    if not case.alone:
        cpu = torch.device("cpu")
        found["cpu"] = milliseconds(functools.partial(case.call, *case.ready(cpu)), cpu, seconds=seconds)
        found["cpu_threads"] = torch.get_num_threads()
    found |= {"bytes": case.bytes, "operations": case.operations}
    if case.aim is not None:
        found["aim"] = {
            "what": case.aim.what,
            "seconds": case.aim.seconds,
            "extrapolated_s": found["device"]["median"] / 1000 * case.aim.calls,
            "calls": case.aim.calls,
        }
    return found


def milliseconds(call: Callable[[], object], device: torch.device, *, seconds: float = SECONDS) -> dict:
    """Median, least and number of the times of a call, after two that warm it up; on a card, between two of its events."""
    call()
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    taken = time.perf_counter() - start
    repeats = 1 if taken > LONG else max(FEWEST, min(MOST, int(seconds / max(taken, 1e-6))))
    if device.type == "cuda":
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        for before, after in pairs:
            before.record()
            call()
            after.record()
            after.synchronize()  # one call at a time: the next must not hide this one's start
        times = [before.elapsed_time(after) for before, after in pairs]
    else:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
    return {"median": statistics.median(times), "least": min(times), "repeats": repeats}


def picture(channels: int, height: int, width: int, *, seed: int = 0, steps: int | None = None) -> Tensor:
    """A picture (C, H, W) in [0, 1] with structures of all sizes, as photographs have; made here, so that no file is needed.

    With `steps`, values are multiples of 1 / steps: for 16, sums of squared differences are exact in float32, in any order.
    """
    draws, total, weights = generator(seed), torch.zeros(1, channels, height, width), 0.0
    for level in range(6):
        size = [max(2, -(-side // 2**level)) for side in (height, width)]
        noise = torch.rand(1, channels, *size, generator=draws)
        total += 2**level * F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=True)
        weights += 2**level
    found = ((total[0] / weights - 0.5) * 1.6 + 0.5).clamp(0, 1)
    return found if steps is None else (found * steps).round() / steps


@contextmanager
def on_device(device: torch.device) -> Iterator[set[str]]:
    """Let labkit run its CUDA kernels, on the CPU with numba's simulator, and note the names of those that it calls."""
    called: set[str] = set()

    def run(family: str, function: str, *arguments: object) -> None:
        called.add(f"{family}.{function}")
        kernels.run(family, function, *arguments, twin="cuda")

    doors = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("labkit.") and module is not kernels and vars(module).get("run") is kernels.run
    ]
    for module in doors:
        module.run = run
    try:
        yield called
    finally:
        for module in doors:
            module.run = kernels.run


def _on_cpu(found: object) -> object:
    return found.cpu() if isinstance(found, Tensor) else tuple(one.cpu() for one in found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
