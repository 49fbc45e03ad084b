"""Texture synthesis beside other implementations: `python -m tests.benchmarks.texture_optimization`.

Two threads, one process, calls interleaved, medians; results are compared before times are taken. `distance` is the
single-image feature distance between a result and its exemplar in thousandths, `transport` the cost between 1024 of
their patches: 0 is best, and what makes no randomness is best at both. `target` is what we set out to reach.

No package on PyPI does exemplar-based synthesis, so the peers are plain implementations, written below as their papers
say, with NumPy or torch. The thesis's own code runs, too, in a process of its own, where the environment variable
`LABKIT_PEERS` names a folder that holds a copy of its repository, `psin`, with `libpatch_measure.so` compiled as its
README says. Takes some ten minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from labkit import images, metrics
from labkit.pyramids import gaussian_pyramid, upsample
from labkit.texture_optimization import efros_leung, gpnn, image_quilting, optimize_texture, psin, psin_ot
from tests.benchmarks import timing

THREADS = 2
ALPHA, PATCH, STEPS, DEVIATION = 0.005, 7, 10, 0.75         # GPNN's
AUTHORS = "one thread, own process, second of two runs"


def rows() -> list[dict]:
    """One row for each implementation of each task; `ratio_to_labkit` above 1 means slower than labkit."""
    timing.use_threads(THREADS)
    return [*_single_image(), *_nearest_neighbours(), *_textures(), _large_picture()]


def first_calls() -> list[dict]:
    """Seconds that the first call takes in a new process: kernels to compile, and from the cache."""
    functions = ("efros_leung", "gpnn", "image_quilting", "optimize_texture", "psin", "psin_ot")
    setup = f"import torch\nfrom labkit.texture_optimization import {', '.join(functions)}\nu = torch.rand(3, 48, 48)"
    found = []
    for name in functions:
        timing.first_call(setup, f"{name}(u)", empty_cache=False)                 # fills the cache
        found.append({"function": name, "empty cache (s)": timing.first_call(setup, f"{name}(u)", empty_cache=True),
                      "warm cache (s)": timing.first_call(setup, f"{name}(u)", empty_cache=False)})
    return found


# --- pictures from one picture --------------------------------------------------------------------------------------

def _single_image() -> list[dict]:
    image = images.load("astronaut", size=(256, 256))
    task = "PSin, 256×256, 4 scales"
    found = _compared(task, image, {"labkit": lambda: psin(image).image}, target="2 s")
    theirs = _authors_psin(image)
    if theirs is None:
        found.append(_row(task, "the thesis's code", note="LABKIT_PEERS names no copy, left out"))
    else:
        made, taken = theirs
        found.append(_row(task, "the thesis's code", taken, found[0]["seconds"], made, image, note=AUTHORS))
    return found + _compared("PSinOT, 256×256, 4 scales", image, {"labkit": lambda: psin_ot(image).image}, target="15 s",
                             notes={"labkit": "its authors' code is not published"})


def _authors_psin(image: Tensor) -> tuple[Tensor, float] | None:
    """The picture that the thesis's code makes, and the seconds of its second run; None where it is not there."""
    folder = Path(os.environ.get("LABKIT_PEERS", "")) / "psin"
    if not (folder / "synthesis.py").is_file():
        return None
    with tempfile.TemporaryDirectory() as out:
        images.save(image, Path(out) / "given.png")
        program = ("import sys, time, cv2, numpy\nsys.path.insert(0, '.')\nfrom synthesis import generate\n"
                   f"given = cv2.imread({str(Path(out) / 'given.png')!r}).astype(numpy.float32) / 255\n"
                   "for run in range(2):\n    start = time.perf_counter()\n"
                   f"    generate(given, nb_levels=4, output={out!r})\n"
                   "print('seconds', time.perf_counter() - start)")
        done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True,
                              timeout=1800, check=False)
        if done.returncode:
            raise RuntimeError(f"the thesis's code failed:\n{done.stderr}")
        made = images.load(next(Path(out).glob("*iter_0.png")))
    return made, float(done.stdout.rsplit("seconds", 1)[1])


def _large_picture() -> dict:
    """The whole memory of a process that makes 1024 × 1024 pixels, Python and torch included."""
    program = ("import resource, time, torch\nfrom labkit import images\nfrom labkit.texture_optimization import psin\n"
               f"torch.set_num_threads({THREADS})\nimage = images.load('astronaut', size=(1024, 1024))\n"
               "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
               "start = time.perf_counter()\npsin(image)\ntaken = time.perf_counter() - start\n"
               "print('megabytes', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before, taken)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=1800, check=True)
    peak, before, taken = map(float, done.stdout.rsplit("megabytes", 1)[1].split())
    return _row("PSin, 1024×1024, memory", "labkit", taken, target="1000 MB",
                note=f"peak {peak:.0f} MB in a process of its own, {before:.0f} MB of them before the call")


# --- nearest neighbours ---------------------------------------------------------------------------------------------

def _nearest_neighbours() -> list[dict]:
    small, large = (images.load("coffee", size=size) for size in ((96, 133), (180, 250)))
    task = "GPNN, 96×133"
    ours = gpnn(small)
    start = time.perf_counter()
    theirs, energy = exact_gpnn(small)
    taken = time.perf_counter() - start
    found = _compared(task, small, {"labkit": lambda: gpnn(small).image},
                      notes={"labkit": f"mean score {ours.energy[-1][-1]:.4g}"})
    found.append(_row(task, "exact search, torch", taken, found[0]["seconds"], theirs, small,
                      note=f"mean score {energy:.4g}; PSNR to labkit's {metrics.psnr(theirs, ours.image):.1f} dB; timed once"))
    task = "GPNN, 180×250"
    found += _compared(task, large, {"labkit": lambda: gpnn(large).image}, target="15 s")
    # One iteration of the finest scale; the others have (9/16)² of the pairs of the one before.
    start = time.perf_counter()
    _exact_step(large, large, large)
    taken = time.perf_counter() - start
    levels = _scales_of_gpnn(large)
    whole = STEPS * taken * sum((9 / 16) ** (2 * level) for level in range(levels))
    found.append(_row(task, "exact search, torch", whole, found[-1]["seconds"],
                      note=f"estimated from one of {STEPS} iterations at the finest of {levels} scales, {taken:.1f} s"))
    return found


def exact_gpnn(image: Tensor) -> tuple[Tensor, float]:
    """GPNN with every pair of patches compared, in blocks: the picture, the mean of its scores."""
    levels = _scales_of_gpnn(image)
    pyramid = gaussian_pyramid(image, levels=levels, ratio=4 / 3)
    noise = torch.randn((1, *pyramid[-1].shape[1:]), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    picture, score = pyramid[-1] + DEVIATION * noise.float(), torch.zeros(())
    for level in range(levels - 1, -1, -1):
        exemplar, keys = pyramid[level], pyramid[level]
        if level < levels - 1:
            picture = images.resize(picture, size=tuple(exemplar.shape[1:]))
            keys = upsample(pyramid[level + 1], size=tuple(exemplar.shape[1:]))
        for step in range(STEPS):
            picture, score = _exact_step(picture, keys if step == 0 else exemplar, exemplar)
    return picture, float(score)


def _exact_step(picture: Tensor, keys: Tensor, exemplar: Tensor) -> tuple[Tensor, Tensor]:
    queries, keys, values = (functional.unfold(one[None], PATCH)[0].T for one in (picture, keys, exemplar))
    alpha, norms = ALPHA * queries.shape[1], keys.square().sum(1)

    def distances(block: Tensor) -> Tensor:
        return (torch.addmm(norms, block, keys.T, alpha=-2) + block.square().sum(1, keepdim=True)).clamp_(min=0)

    nearest = torch.full((len(keys),), torch.inf)
    for block in queries.split(1024):
        nearest = torch.minimum(nearest, distances(block).min(0).values)
    best = [(distances(block) / (alpha + nearest)).min(1) for block in queries.split(1024)]
    chosen, scores = torch.cat([one.indices for one in best]), torch.cat([one.values for one in best])
    size = picture.shape[1:]
    votes, counts = (functional.fold(one.T[None], size, PATCH)[0] for one in (values[chosen], torch.ones_like(queries)))
    return votes / counts, scores.mean()


def _scales_of_gpnn(image: Tensor) -> int:
    """As many as labkit takes: from the picture down to about two patches."""
    return len(gpnn(image, iterations=1).energy)


# --- textures -------------------------------------------------------------------------------------------------------

def _textures() -> list[dict]:
    pebbles, small = images.load("pebbles"), images.load("pebbles", size=(64, 64))
    return [
        *_compared("optimisation, 128×128 to 256×256, 3 scales", pebbles,
                   {"labkit": lambda: optimize_texture(pebbles, size=(256, 256)).image}, target="20 s"),
        *_compared("Efros–Leung, 64×64 to 96×96", small,
                   {"labkit": lambda: efros_leung(small, size=(96, 96)),
                    "plain NumPy": lambda: plain_efros_leung(small, (96, 96))}, target="10 s"),
        *_compared("quilting, 128×128 to 256×256", pebbles,
                   {"labkit": lambda: image_quilting(pebbles, size=(256, 256)),
                    "plain NumPy": lambda: plain_quilting(pebbles, 256)}),
    ]


def plain_efros_leung(exemplar: Tensor, size: tuple[int, int], *, side: int = 11, tolerance: float = 0.1) -> Tensor:
    """Efros and Leung's method, pixel by pixel: each compares its window with all windows of the exemplar."""
    draws, r = np.random.default_rng(0), side // 2
    array = images.to_array(exemplar).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(array, (side, side), (0, 1)).reshape(-1, 3, side * side)
    centres, windows = windows[:, :, side * side // 2].copy(), windows.reshape(len(windows), -1).copy()
    squares = windows ** 2
    axis = np.exp(-0.5 * ((np.arange(side) - r) / (side / 6.4)) ** 2)
    gaussian = np.outer(axis, axis)
    canvas = np.zeros((size[0] + 2 * r, size[1] + 2 * r, 3), np.float32)
    known = np.zeros(canvas.shape[:2], bool)
    seed = draws.integers(0, [length - 2 for length in array.shape[:2]])
    middle = [length // 2 - 1 + r for length in size]
    start = tuple(slice(first, first + 3) for first in middle)
    canvas[start], known[start] = array[seed[0]:seed[0] + 3, seed[1]:seed[1] + 3], True
    inside = np.zeros_like(known)
    inside[r:-r, r:-r] = True
    while not known[inside].all():
        around = np.lib.stride_tricks.sliding_window_view(np.pad(known, 1), (3, 3)).any((2, 3))
        layer = np.argwhere(around & ~known & inside)
        draws.shuffle(layer)
        counts = np.lib.stride_tricks.sliding_window_view(known, (side, side)).sum((2, 3))
        for y, x in layer[np.argsort(-counts[layer[:, 0] - r, layer[:, 1] - r], kind="stable")]:
            here = slice(y - r, y + r + 1), slice(x - r, x + r + 1)
            weights = gaussian * known[here]
            weights = np.tile((weights / weights.sum()).astype(np.float32).ravel(), 3)
            template = canvas[here].transpose(2, 0, 1).ravel()
            errors = squares @ weights - 2 * (windows @ (weights * template)) + weights @ template ** 2
            candidates = np.flatnonzero(errors <= (1 + tolerance) * max(errors.min(), 0) + 1e-7)
            canvas[y, x], known[y, x] = centres[draws.choice(candidates)], True
    return torch.from_numpy(canvas[r:-r, r:-r]).movedim(-1, 0)


def plain_quilting(exemplar: Tensor, size: int, *, side: int = 24, overlap: int = 4, tolerance: float = 0.1) -> Tensor:
    """Efros and Freeman's quilting of a square: blocks by the error of their overlap, seams by dynamic programming."""
    draws, array = np.random.default_rng(0), images.to_array(exemplar).astype(np.float32)
    blocks = np.lib.stride_tricks.sliding_window_view(array, (side, side), (0, 1))
    rows, columns = blocks.shape[:2]
    step = side - overlap
    number = -(-(size - overlap) // step)
    canvas = np.zeros((number * step + overlap, number * step + overlap, 3), np.float32)
    for i in range(number):
        for j in range(number):
            here = slice(i * step, i * step + side), slice(j * step, j * step + side)
            old, errors = canvas[here].transpose(2, 0, 1), np.zeros((rows, columns))
            seen = np.zeros((side, side), bool)
            seen[:, :overlap], seen[:overlap] = j > 0, np.where(i > 0, True, seen[:overlap])
            for y, x in np.argwhere(seen):
                errors += ((blocks[:, :, :, y, x] - old[:, y, x]) ** 2).sum(2)
            good = np.argwhere(errors <= (1 + tolerance) * errors.min())
            new = blocks[tuple(good[draws.integers(len(good))])]
            difference, keep = ((new - old) ** 2).sum(0), np.zeros((side, side), bool)
            if j > 0:
                keep[:, :overlap] |= _left_of_cut(difference[:, :overlap])
            if i > 0:
                keep[:overlap] |= _left_of_cut(difference[:overlap].T).T
            canvas[here] = np.where(keep[..., None], canvas[here], new.transpose(1, 2, 0))
    return torch.from_numpy(canvas[:size, :size]).movedim(-1, 0)


def _left_of_cut(error: np.ndarray) -> np.ndarray:
    """The pixels to the left of the cheapest way from the last row to the first."""
    cost = error.copy()
    for y in range(1, len(cost)):
        padded = np.pad(cost[y - 1], 1, constant_values=np.inf)
        cost[y] += np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    x, kept = int(cost[-1].argmin()), np.zeros(error.shape, bool)
    for y in range(len(cost) - 1, -1, -1):
        kept[y, :x] = True
        if y > 0:
            first = max(0, x - 1)
            x = first + int(cost[y - 1, first:x + 2].argmin())
    return kept


# --- helpers --------------------------------------------------------------------------------------------------------

def _compared(task: str, exemplar: Tensor, calls: dict[str, Callable[[], Tensor]], *, target: str = "",
              notes: dict[str, str] | None = None) -> list[dict]:
    """Results first, then times, labkit's first."""
    made = {name: call() for name, call in calls.items()}
    times = {name: milliseconds / 1000 for name, milliseconds in timing.side_by_side(calls, repeats=5).items()}
    return [_row(task, name, times[name], times["labkit"], made[name], exemplar,
                 target=target if name == "labkit" else "", note=(notes or {}).get(name, "")) for name in calls]


def _row(task: str, peer: str, taken: float | str = "", base: float | None = None, made: Tensor | None = None,
         exemplar: Tensor | None = None, *, target: str = "", note: str = "") -> dict:
    quality = ["", ""] if made is None else [
        1000 * float(metrics.single_image_distance(made, exemplar)),
        float(metrics.patch_transport_cost(made, exemplar, max_patches=1024, steps=300))]
    return {"task": task, "peer": peer, "seconds": taken, "target": target,
            "ratio_to_labkit": taken / base if base else "", "distance": quality[0], "transport": quality[1], "note": note}


if __name__ == "__main__":
    for table in (rows(), first_calls()):
        print(timing.table(table), end="\n\n", flush=True)
