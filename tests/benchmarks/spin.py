"""How long a waiting thread should spin before it sleeps: `python -m tests.benchmarks.spin`, in under three minutes.

For each number of turns of GNU's OpenMP (`labkit.openmp.SHORT_SPIN` holds the one that was chosen) a process of its own, which
has it in its environment from the beginning. They measure in turn: on the machine as it is, beside two programs that spin, and
beside two programs of two threads each. Milliseconds of filters on 512 × 512 pixels in three channels, medians, and training
steps per second of chapter 8's network.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch

from labkit.filtering import bilateral_filter, box_filter, gaussian_filter, guided_filter
from tests.benchmarks import timing

TURNS = {"none": 0, "1000": 1000, "3000": 3000, "10000": 10_000, "30000": 30_000, "OpenMP's own": 300_000}
CONDITIONS = {
    "quiet": contextlib.nullcontext,
    "beside two spinning programs": lambda: timing.neighbours(timing.SPINNING),
    "beside two threaded programs": lambda: timing.neighbours(timing.THREADED),
}
THREADS = 2
ROUNDS = 2  # in each, all values take their turn
SECONDS = 0.4  # for each filter, and twice as long for the training


def rows(seconds: float = SECONDS, rounds: int = ROUNDS) -> list[dict]:
    """One row for each condition and number of turns; numbers are the medians of the rounds."""
    found = []
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(_process(turns)) for name, turns in TURNS.items()}
        for condition, others in CONDITIONS.items():
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
            with others():
                for _ in range(rounds):
                    for name, process in processes.items():
                        measured[name].append(_ask(process, seconds))
            for name, results in measured.items():
                medians = {what: statistics.median(one[what] for one in results) for what in results[0]}
                found.append({"condition": condition, "turns": name, **medians})
    return found


@contextlib.contextmanager
def _process(turns: int) -> Iterator[subprocess.Popen]:
    """A process that measures as often as it is asked to, and sleeps meanwhile."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    command = [sys.executable, "-m", "tests.benchmarks.spin", "measure"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept | {"GOMP_SPINCOUNT": str(turns)}
    )
    try:
        yield process
    finally:
        process.communicate()


def _ask(process: subprocess.Popen, seconds: float) -> dict[str, float]:
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    if not (answer := process.stdout.readline()):
        raise RuntimeError(f"the process that measures ended with status {process.wait()}")
    return json.loads(answer)


def measure(seconds: float) -> dict[str, float]:
    """Milliseconds of each filter, and training steps per second, in this process."""
    u = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0))
    calls = {
        "box": lambda: box_filter(u, radius=7),
        "Gaussian": lambda: gaussian_filter(u, sigma=3),
        "guided": lambda: guided_filter(u, radius=8, eps=1e-2),
        "bilateral": lambda: bilateral_filter(u, sigma_space=5, sigma_color=0.1, radius=7),
    }
    found = {name: 1000 * _median(call, seconds) for name, call in calls.items()}
    return found | {"training steps / s": 1 / _median(_training_step(), 2 * seconds)}


def _training_step() -> Callable[[], object]:
    from labkit.diffusion_inpainting import UNet

    network = UNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    picture, known, hole, times = (
        torch.rand(2, 3, 64, 64),
        torch.rand(2, 3, 64, 64),
        torch.ones(2, 1, 64, 64),
        torch.rand(2),
    )

    def step() -> None:
        optimizer.zero_grad()
        (network(picture, known, hole, times) - picture).square().mean().backward()
        optimizer.step()

    return step


def _median(call: Callable[[], object], seconds: float) -> float:
    """Seconds of a call, which is repeated for so long, three times at least; two calls go before."""
    taken: list[float] = []
    for _ in range(2):
        call()
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        timing.use_threads(THREADS)
        for line in sys.stdin:
            print(json.dumps(measure(float(line))), flush=True)
    else:
        print(timing.table(rows()))
