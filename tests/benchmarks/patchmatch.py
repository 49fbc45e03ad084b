"""PatchMatch beside exhaustive search, and filling holes beside other packages: `python -m tests.benchmarks.patchmatch`.

Two threads, one process, calls interleaved, medians; all that is to be compared is computed before times are taken.
`to_optimum` is the mean distance of a field in units of that of the exact one, `psnr` that of a filled hole (its pixels
only), `memory` what one call adds to a fresh process, in images of that size (labkit only). Packages that are not
installed are left out, and a line says so. Takes some minutes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from labkit import images
from labkit.patches import extract_patches
from labkit.patchmatch import Match, exact_nnf, inpaint, patchmatch
from labkit.patchmatch.reference import SCHEDULES
from tests.benchmarks import timing

THREADS = 2
PATCH = 7
QUERIES = 2000                      # patches at random whose exact match is sought among all
GROWTH = (64, 128, 256, 512, 1024)
HOLES = (64, 128)
ONCE = 5000                         # milliseconds from which on a call is timed once
BYTES = "8 bits"

Fill = Callable[[], np.ndarray]


def rows() -> list[dict]:
    """One row for each implementation of each task; `ratio_to_labkit` above 1 means slower than labkit's first."""
    timing.use_threads(THREADS)
    _threads_of_faiss(THREADS)
    return [*_schedules(), *_exhaustive(), *_growth(), *_filling()]


def first_calls() -> list[dict]:
    """Seconds that the first call takes in a new process: kernels to compile, and from the cache."""
    setup = ("import torch\nfrom labkit.patchmatch import inpaint, patchmatch\nu = torch.rand(3, 64, 64)\n"
             "m = torch.zeros(1, 64, 64) > 0\nm[:, 20:30, 20:30] = True")
    calls = {schedule: f"patchmatch(u, u, schedule={schedule!r})" for schedule in SCHEDULES} | {"inpaint": "inpaint(u, m)"}
    found = []
    for name, call in calls.items():
        timing.first_call(setup, call, empty_cache=False)                        # fills the cache
        found.append({"function": name, "empty cache (s)": timing.first_call(setup, call, empty_cache=True),
                      "warm cache (s)": timing.first_call(setup, call, empty_cache=False)})
    return found


# --- fields ---------------------------------------------------------------------------------------------------------

def _schedules() -> list[dict]:
    image, exemplar = _pictures(512)
    calls = {f"labkit {schedule}": functools.partial(patchmatch, image, exemplar, patch_size=PATCH, schedule=schedule)
             for schedule in SCHEDULES}
    matches = {name: call() for name, call in calls.items()}
    chosen = torch.randperm(matches["labkit sequential"].distance.numel(), generator=torch.Generator().manual_seed(0))[:QUERIES]
    nearest = _exact_distances(image, exemplar, chosen).mean()
    times = timing.side_by_side(calls, repeats=5)
    return [_row("field, 512×512, 7×7, 5 iterations", name, times,
                 to_optimum=float(match.distance.flatten()[chosen].mean() / nearest), memory=_memory(match.schedule),
                 note=f"mean distance {match.distance.mean():.4g}, after each iteration "
                      f"{', '.join(f'{value:.4g}' for value in match.history[1:])}; optimum of {QUERIES} patches {nearest:.4g}")
            for name, match in matches.items()]


def _exact_distances(image: Tensor, exemplar: Tensor, chosen: Tensor) -> Tensor:
    """The squared distance from some patches of the image to the nearest one of the exemplar, by matrix products."""
    queries, keys = extract_patches(image, patch_size=PATCH)[chosen], extract_patches(exemplar, patch_size=PATCH)
    index = torch.cat([_nearest_by_product(block, keys) for block in queries.split(64)])
    return (queries - keys[index]).double().square().sum(1)


def _nearest_by_product(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.addmm(keys.square().sum(1), queries, keys.T, alpha=-2).argmin(1)


def _exhaustive() -> list[dict]:
    image, exemplar = _pictures(128)
    queries, keys = (extract_patches(u, patch_size=PATCH) for u in (image, exemplar))

    def by_product() -> Tensor:
        return torch.cat([_nearest_by_product(block, keys) for block in queries.split(1024)])

    calls: dict[str, Callable[[], object]] = {
        "labkit exact_nnf": lambda: exact_nnf(image, exemplar, patch_size=PATCH),
        "torch matrix product": by_product,
        "labkit patchmatch": lambda: patchmatch(image, exemplar, patch_size=PATCH)}
    notes = {"torch matrix product": "patches cut out beforehand, in blocks of 1024",
             "labkit patchmatch": "5 iterations"}
    if _installed("faiss"):
        import faiss

        def flat() -> np.ndarray:
            index = faiss.IndexFlatL2(keys.shape[1])
            index.add(keys.numpy())
            return index.search(queries.numpy(), 1)[1][:, 0]

        calls["faiss IndexFlatL2"] = flat
        notes["faiss IndexFlatL2"] = f"{_version('faiss-cpu')}, patches cut out beforehand"

    def mean(found: object) -> float:
        if isinstance(found, Match):
            return float(found.distance.double().mean())
        return float((queries - keys[torch.as_tensor(found)]).double().square().sum(1).mean())

    means = {name: mean(call()) for name, call in calls.items()}
    times = timing.side_by_side(calls, repeats=5)
    task = f"{len(queries)} patches of {queries.shape[1]} in {len(keys)}, exactly"
    missing = [] if _installed("faiss") else [_missing(task, "faiss IndexFlatL2")]
    return [_row(task, name, times, to_optimum=means[name] / means["labkit exact_nnf"], note=notes.get(name, ""))
            for name in calls] + missing


def _growth() -> list[dict]:
    calls = {f"labkit, {side}×{side}": functools.partial(patchmatch, *_pictures(side), patch_size=PATCH) for side in GROWTH}
    times = timing.side_by_side(calls, repeats=3)
    patches, milliseconds = ([math.log(value) for value in values]
                             for values in ([(side - PATCH + 1) ** 2 for side in GROWTH], times.values()))
    whole, large = (float(np.polyfit(patches[first:], milliseconds[first:], 1)[0]) for first in (0, 2))
    return [_row("growth, sequential, 5 iterations", name, times,
                 note=f"{1000 * times[name] / (side - PATCH + 1) ** 2:.3g} µs a patch"
                      + (f"; time grows with the power {whole:.2f} of the number of patches, {large:.2f} from {GROWTH[2]}² on"
                         if side == GROWTH[-1] else ""))
            for side, name in zip(GROWTH, calls)]


# --- holes ----------------------------------------------------------------------------------------------------------

def _filling() -> list[dict]:
    inpaint(torch.rand(3, 48, 48), _hole(48, 20, 8))        # compiled, or read from numba's cache, before the clock starts
    found = []
    for name, side in itertools.product(("brick", "coffee"), HOLES):
        picture, mask = images.resize(images.load(name), size=(512, 512)).expand(3, -1, -1).contiguous(), _hole(512, 224, side)
        calls, notes, missing = _fillers(picture, mask)
        quality, times, slow = {}, {}, {}
        for peer, call in calls.items():
            start = time.perf_counter()
            result = call()
            spent = 1000 * (time.perf_counter() - start)
            quality[peer] = timing.psnr(result[:, mask[0]][:, None], picture[:, mask[0]][:, None])
            if spent > ONCE:
                slow[peer] = spent
        times = slow | timing.side_by_side({peer: call for peer, call in calls.items() if peer not in slow}, repeats=5)
        task = f"hole {side}×{side} in {name}, 512×512"
        found += [_row(task, peer, times, psnr=quality[peer],
                       note="; ".join(filter(None, (notes[peer], "timed once" if peer in slow else "")))) for peer in calls]
        found += [_missing(task, peer) for peer in missing]
    return found


def _hole(side: int, first: int, size: int) -> Tensor:
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, first:first + size, first:first + size] = True
    return mask


def _fillers(picture: Tensor, mask: Tensor) -> tuple[dict[str, Fill], dict[str, str], list[str]]:
    """Everything that fills holes, each giving (3, H, W) in [0, 1]; notes on them; and what is not installed."""
    import cv2
    from skimage.restoration import inpaint_biharmonic

    pixels, hole, array = images.to_pixels(picture), mask[0].numpy(), images.to_array(picture)
    in_lab, kept = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), np.where(hole, 0, 255).astype(np.uint8)

    def shift_map() -> np.ndarray:
        result = np.zeros_like(in_lab)
        cv2.xphoto.inpaint(in_lab, kept, result, cv2.xphoto.INPAINT_SHIFTMAP)
        return _planes(cv2.cvtColor(result, cv2.COLOR_LAB2RGB))

    calls: dict[str, Fill] = {"labkit": lambda: inpaint(picture, mask).numpy()}
    notes, missing = {"labkit": "patches 7×7"}, []
    if _installed("patchmatch_cython"):
        from patchmatch_cython import inpaint_pyramid

        for side in (5, 7):
            calls[f"patchmatch-cython {side}×{side}"] = functools.partial(
                lambda side: _planes(inpaint_pyramid(pixels, hole, patch_size=side, seed=0)), side)
            notes[f"patchmatch-cython {side}×{side}"] = f"{_version('patchmatch-cython')}, {BYTES}, one thread"
    else:
        missing.append("patchmatch-cython")
    if _installed("patchmatch"):
        import patchmatch as cpp

        cpp.set_random_seed(0)
        calls["PyPatchMatch 7×7"] = lambda: _planes(cpp.inpaint(pixels, hole, patch_size=3))
        notes["PyPatchMatch 7×7"] = f"{_version('pypatchmatch')}, {BYTES}"
    else:
        missing.append("PyPatchMatch")
    calls["OpenCV xphoto, shift map"] = shift_map
    notes["OpenCV xphoto, shift map"] = f"{BYTES}, Lab"
    calls["scikit-image biharmonic"] = lambda: inpaint_biharmonic(array, hole, channel_axis=-1).transpose(2, 0, 1)
    notes["scikit-image biharmonic"] = "no patches: smooth"
    return calls, notes, missing


# --- helpers --------------------------------------------------------------------------------------------------------

def _pictures(side: int) -> tuple[Tensor, Tensor]:
    """Two photographs of different things, of one size."""
    return images.resize(images.load("astronaut"), size=(side, side)), images.resize(images.load("coffee"), size=(side, side))


def _row(task: str, peer: str, times: dict[str, float], *, to_optimum: float | str = "", psnr: float | str = "",
         memory: float | str = "", note: str = "") -> dict:
    base = next(milliseconds for name, milliseconds in times.items() if name.startswith("labkit"))
    return {"task": task, "peer": peer, "milliseconds": times[peer], "ratio_to_labkit": times[peer] / base,
            "to_optimum": to_optimum, "psnr": psnr, "memory": memory, "note": note}


def _missing(task: str, peer: str) -> dict:
    return {"task": task, "peer": peer, "milliseconds": "", "ratio_to_labkit": "", "to_optimum": "", "psnr": "", "memory": "",
            "note": "not installed, left out"}


def _memory(schedule: str) -> float:
    """Peak of one search between two pictures of 1024 × 1024, large enough to hide what any process allocates."""
    call = f"match = patchmatch(u, v, patch_size={PATCH}, iterations=1, schedule={schedule!r})"
    setup = f"import torch\nfrom labkit.patchmatch import patchmatch\nu = v = torch.rand(3, 32, 32)\n{call}\n" \
            "u, v = torch.rand(3, 1024, 1024), torch.rand(3, 1024, 1024)"
    return timing.peak_memory(setup, call) * 2 ** 20 / (3 * 1024 ** 2 * 4)


def _planes(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) of bytes as (3, H, W) in [0, 1]."""
    return pixels.transpose(2, 0, 1) / np.float32(255)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _threads_of_faiss(count: int) -> None:
    if _installed("faiss"):
        import faiss

        faiss.omp_set_num_threads(count)


if __name__ == "__main__":
    for table in (rows(), first_calls()):
        print(timing.table(table), end="\n\n", flush=True)
