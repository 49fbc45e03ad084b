"""Chapter 8: holes in textures filled by patches, regression and diffusion, beside the thesis's tables; interval training.

A texture is laid out as the thesis does it, at a quarter of the size: the hole lies in a region in the middle, 64 × 64 pixels
of 128 × 128, the rest is for training and copying from, and what is filled and judged is the region.

Two of the thesis's measures, LPIPS and DISTS, need weights that are not on every machine. Three others stand in for them. A
transport cost tells whether two pictures hold the same patches only where the patches are small: there are too few of 11 × 11
to find a second one like any of them, a patch's best partner is the one at its own place, and the cost is a squared error
by another name. The stored table of the measures shows that, on pictures that no method has made; hence patches of 3 × 3.
The third, detail, asks nothing but whether a fill is blurred.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import labkit
from labkit import figures, filtering, images, metrics, patchmatch, runtime
from labkit.diffusion_inpainting import (PatchDenoiser, brush_mask, energy_estimate, inpaint, inpaint_by_resampling,
                                         regress, train_inpainter, train_intervals, train_unconditional)
from labkit.diffusion_inpainting.energy import WATTS
from labkit.figures import Figure
from labkit.operators import gradient
from labkit.results.timing import timed

__all__ = ["AROUND", "MEASURES", "ORDERS", "PARTS", "PATCH", "PICTURES", "PUBLISHED", "PUBLISHED_BESIDE",
           "PUBLISHED_INTERVALS", "PUBLISHED_MEASURES", "REVERSED", "SEED", "SHARPNESS", "STROKES", "Fill", "Scores",
           "compute", "live"]

Fill = tuple[Tensor, float]             # pictures (N, C, H, W), and the seconds for one of them
Scores = dict[str, dict[str, list[float]]]      # of each texture, of each method: as many as MEASURES, then seconds

PICTURES = ("brick", "wall", "pebbles", "grass", "tiles", "scales", "leaves", "gravel")
SEED = 0
STROKES = 2
AROUND = 6              # pixels around the hole that the measures of appearance see
PATCH = 3
MEASURES = ("PSNR, dB", "transport cost, thousandths", "feature distance, thousandths", "FLIP, thousandths", "detail")
PATCHES, REGRESSION, ONE, AVERAGE, DENOISER, DENOISERS, REPAINT, INTERVALS = (
    "patches", "regression", "one sample", "average of samples", "patch denoiser, one sample", "patch denoiser, average",
    "RePaint, one sample", "interval training")

# What is computed, and kept, at a time; in this order.
PARTS = ((PATCHES, REGRESSION, ONE, DENOISER), (INTERVALS,), (REPAINT,))

# Thesis, Tables V.1 and V.2: regions of 256×256 pixels of MacroTextures, 15000 training steps on a V100. Its RePaint has
# 450 million weights, trained on photographs; ours has 160 thousand, as the others, trained on the texture.
PUBLISHED_MEASURES = ("PSNR, dB", "LPIPS", "FLIP", "DISTS")
PUBLISHED = {PATCHES: (28.12, 0.046, 0.064, 0.026), REGRESSION: (30.31, 0.157, 0.045, 0.099),
             ONE: (28.02, 0.057, 0.054, 0.031), AVERAGE: (29.67, 0.141, 0.071, 0.093),
             REPAINT: (26.77, 0.053, 0.078, 0.031)}
PUBLISHED_BESIDE = (0, 1, 3, 2, None)   # which of them stands beside each of MEASURES
# Table VI.4: PSNR and LPIPS.
PUBLISHED_INTERVALS = {ONE: (28.02, 0.057), INTERVALS: (28.33, 0.042)}

# By squared error the mean of all plausible fills is best, by appearance it is worst. From small to large, for each of
# MEASURES: FLIP compares pixel by pixel, as the squared error does, and falls where PSNR rises; means lose detail.
SHARPNESS = ((ONE, AVERAGE, REGRESSION), (DENOISER, DENOISERS))
REVERSED = tuple(order[::-1] for order in SHARPNESS)
ORDERS = (SHARPNESS, SHARPNESS, SHARPNESS, REVERSED, REVERSED)


def compute() -> dict:
    """Six tables; at `quick` all is smaller, and no order is to be expected."""
    names = PICTURES[:runtime.choose({"quick": 2, "laptop": 6, "gpu": 8})]
    settings = {
        "side": runtime.choose({"quick": 32, "laptop": 64, "gpu": 64}),
        "steps": runtime.choose({"quick": 40, "laptop": 3000, "gpu": 15000}),
        "batch_size": runtime.choose({"quick": 2, "laptop": 2, "gpu": 16}),
        "crop_size": runtime.choose({"quick": 32, "laptop": 48, "gpu": 64}),
        "samples": runtime.choose({"quick": 2, "laptop": 8, "gpu": 8}),
        "sampling_steps": runtime.choose({"quick": 20, "laptop": 1000, "gpu": 1000}),
    }
    on_gpu = runtime.device().type == "cuda"
    workers = 1 if on_gpu else min(len(names), os.cpu_count() or 1)
    watts = WATTS["v100"] if on_gpu else WATTS["laptop"] / workers
    scores = _all_scores(names, settings, workers)
    return {"seeds": {"everything": SEED, "holes": list(range(len(names)))}, "settings": settings,
            "tables": _tables(scores, settings, watts)}


def live(results: dict, size: int) -> Figure:
    """Some rows of the first table once more, for one texture, a region `size` pixels wide and a short training."""
    name = PICTURES[1]
    settings = results["settings"] | {"steps": runtime.choose({"quick": 100, "laptop": 600, "gpu": 2000}), "side": size,
                                      "crop_size": min(size, 48), "samples": 4,
                                      "sampling_steps": runtime.choose({"quick": 50, "laptop": 100, "gpu": 1000})}
    scores = _scores(*_texture(name, size), settings, methods=(PATCHES, REGRESSION, ONE, DENOISER))
    rows = [[method, *map(_rounded, values[:-1])] for method, values in scores.items()]
    return figures.table(rows, header=["method", *MEASURES],
                         caption=f"Computed now: {name}, a region of {size}×{size} pixels, {settings['steps']} training steps, "
                                 f"{settings['sampling_steps']} sampling steps, {settings['samples']} samples. The networks "
                                 "of the stored tables were trained for longer; the patch denoiser needs no training.")


# --- fills --------------------------------------------------------------------------------------------------------------

def _texture(name: str, side: int) -> tuple[Tensor, Tensor]:
    """A picture of twice the side, and a brush's hole in its middle region, another for each picture."""
    image = images.load(name, size=(2 * side, 2 * side)).to(runtime.device())
    mask = torch.zeros(1, 2 * side, 2 * side, dtype=torch.bool)
    _middle(mask).copy_(brush_mask(side, side, strokes=STROKES, seed=PICTURES.index(name)))
    return image, mask


def _middle(image: Tensor) -> Tensor:
    side = image.shape[-1] // 2
    return image[..., side // 2:side // 2 + side, side // 2:side // 2 + side]


def _fills(image: Tensor, mask: Tensor, settings: Mapping, methods: tuple[str, ...]) -> Iterator[tuple[str, Fill]]:
    """The middle region, filled by every method."""
    training: dict[str, Any] = {"steps": settings["steps"], "batch_size": settings["batch_size"], "crop_size": settings["crop_size"],
                                "mixed_precision": True, "seed": SEED}
    number, sampling_steps = settings["samples"], settings["sampling_steps"]
    region: dict[str, Any] = {"image": _middle(image).contiguous(), "mask": _middle(mask).contiguous(), "seed": SEED}
    drawn = region | {"samples": number, "sampling_steps": sampling_steps}

    if PATCHES in methods:
        patchmatch.inpaint(image, mask, seed=SEED)      # pays for compiling
        filled, taken = timed(lambda: patchmatch.inpaint(image, mask, seed=SEED))
        yield PATCHES, (_middle(filled)[None], taken)
    if REGRESSION in methods:
        filled, taken = timed(lambda: regress(image, mask, **training))
        yield REGRESSION, (_middle(filled)[None], taken)
    if ONE in methods:
        model, learning = timed(lambda: train_inpainter(image, mask, **training))
        samples, taken = timed(lambda: inpaint(model=model, **drawn))
        yield ONE, (samples, learning + taken / number)
        yield AVERAGE, (samples.mean(dim=0, keepdim=True), learning + taken)
    if DENOISER in methods:
        samples, taken = timed(lambda: inpaint(model=PatchDenoiser(image, mask), sampler="ddim", eta=1.0,
                                               **drawn | {"sampling_steps": min(100, sampling_steps)}))
        yield DENOISER, (samples, taken / number)
        yield DENOISERS, (samples.mean(dim=0, keepdim=True), taken)
    if REPAINT in methods:
        number //= 2        # ten times as many steps as the others'
        model, learning = timed(lambda: train_unconditional(image, mask, **training))
        samples, taken = timed(lambda: inpaint_by_resampling(
            model=model, **region, samples=number, sampling_steps=min(100, sampling_steps)))
        yield REPAINT, (samples, learning + taken / number)
    if INTERVALS in methods:
        models, learning = timed(lambda: train_intervals(image, mask, **training))
        samples, taken = timed(lambda: inpaint(model=models, **drawn))
        yield INTERVALS, (samples, learning + taken / len(samples))


# --- scores -------------------------------------------------------------------------------------------------------------

def _scores(image: Tensor, mask: Tensor, settings: Mapping, *, methods: tuple[str, ...]) -> dict[str, list[float]]:
    """The measures and the seconds of each method; where it draws several samples, the mean of theirs."""
    truth, hole = _middle(image).cpu(), _middle(mask)
    found = {}
    for method, (pictures, taken) in _fills(image, mask, settings, methods):
        values = [_measured(picture, truth, hole) for picture in pictures.cpu()]
        found[method] = [*map(statistics.mean, zip(*values)), taken]
    return found


def _measured(picture: Tensor, truth: Tensor, hole: Tensor) -> list[float]:
    """As many numbers as MEASURES."""
    inside = hole.expand_as(truth)
    error = (picture - truth)[inside].square().mean()
    detail = [float(torch.hypot(*gradient(one))[inside].sum()) for one in (picture, truth)]
    picture, truth = (_around(one, hole) for one in (picture, truth))
    return [float(-10 * error.log10()),
            1000 * float(metrics.patch_transport_cost(picture, truth, patch_size=PATCH, steps=200)),
            1000 * float(metrics.single_image_distance(picture, truth)), 1000 * float(metrics.flip(picture, truth)),
            detail[0] / detail[1]]


def _around(image: Tensor, hole: Tensor) -> Tensor:
    """The smallest rectangle that holds the hole and some pixels around it, as far as the picture goes."""
    rows, columns = (hole[0].any(dim=1 - axis).nonzero()[:, 0] for axis in (0, 1))
    (top, bottom), (left, right) = ((max(0, int(line[0]) - AROUND), int(line[-1]) + AROUND + 1) for line in (rows, columns))
    return image[..., top:bottom, left:right]


def _all_scores(names: tuple[str, ...], settings: dict, workers: int) -> Scores:
    """Every method on every texture, in as many processes as there are cores: a small network gains nothing from two.

    What is finished is kept in a file until all are, so that a run that was stopped goes on where it was.
    """
    said = json.dumps([settings, SEED, STROKES, AROUND, PATCH, MEASURES, labkit.__version__, torch.__version__,
                       str(runtime.device())])
    key = hashlib.sha256(said.encode()).hexdigest()[:12]
    folder = Path.home() / ".cache" / "labkit"
    folder.mkdir(parents=True, exist_ok=True)
    files = {(name, k): folder / f"results-08-{name}-{k}-{key}.json" for k in range(len(PARTS)) for name in names}
    left = {(name, PARTS[k]): path for (name, k), path in files.items() if not path.is_file()}
    if workers == 1:
        for (name, methods), path in runtime.progress(left.items(), description="textures"):
            _keep_scores(name, methods, settings, path)
    elif left:
        with (_environment(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", TQDM_DISABLE="1"),
              ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool):
            tasks = [pool.submit(_keep_scores, name, methods, settings, path) for (name, methods), path in left.items()]
            for task in runtime.progress(as_completed(tasks), description="textures", total=len(tasks)):
                task.result()
    scores: Scores = {name: {} for name in names}
    for (name, _), path in files.items():
        scores[name] |= json.loads(path.read_text(encoding="utf-8"))
    for path in files.values():
        path.unlink()
    return scores


def _keep_scores(name: str, methods: tuple[str, ...], settings: dict, path: Path) -> None:
    scores = _scores(*_texture(name, settings["side"]), settings, methods=methods)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(scores), encoding="utf-8")
    unfinished.replace(path)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables, which new processes inherit, for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- tables -------------------------------------------------------------------------------------------------------------

def _tables(scores: Scores, settings: Mapping, watts: float) -> list[dict]:
    side, crop, samples = (settings[name] for name in ("side", "crop_size", "samples"))
    made = (f"Regions of {side}×{side} pixels of {len(scores)} textures, a brush's hole in each. PSNR in the hole; the other "
            f"measures, 0 is best, of the hole and {AROUND} pixels around it; detail: total variation in the hole as a share "
            f"of the truth's. Networks: {settings['steps']} steps of {settings['batch_size']} crops of {crop}×{crop}, in "
            f"bfloat16; chains of {settings['sampling_steps']} steps.")
    one = f"One sample: the mean of the scores of {samples} (RePaint: {samples // 2})."
    shown = (PATCHES, REGRESSION, ONE, AVERAGE)
    return [
        {"caption": f"Means over textures. {one} Seconds of one core, training included, and an estimate of the electricity at "
                    f"{watts:.3g} W. Beside: Tables V.1 and V.2 of the thesis, on other textures of 256×256. {made}",
         "header": ["method", *MEASURES, "seconds", "mWh", *(f"thesis: {name}" for name in PUBLISHED_MEASURES)],
         "rows": [_row(scores, method, watts) for method in (*shown, DENOISER, DENOISERS, REPAINT)]},
        {"caption": "Which orders of Tables V.1 and V.2 hold. The thesis's LPIPS stands beside the transport cost, its DISTS "
                    f"beside the feature distance. {made}",
         "header": ["measure", "order", "thesis", "on the means", "textures"], "rows": _orders(scores)},
        {"caption": f"Each texture on its own. {one} {made}",
         "header": ["texture", *(f"{method}: {measure}" for measure in MEASURES[:3] for method in shown)],
         "rows": [[name, *(_rounded(of[method][k]) for k in range(3) for method in shown)] for name, of in scores.items()]},
        {"caption": "One network for all steps, and interval training: ten intervals, with as many training steps in all. "
                    f"Means over textures. {one} Beside: Table VI.4 of the thesis. {made}",
         "header": ["training", *MEASURES, "seconds", "thesis: PSNR, dB", "thesis: LPIPS"],
         "rows": [[name, *map(_rounded, _means(scores, method)), *(f"{value:g}" for value in PUBLISHED_INTERVALS[method])]
                  for name, method in (("all steps", ONE), ("intervals", INTERVALS))]},
        {"caption": "Which of the two trainings is better, by a larger PSNR, by detail nearer to the truth's, or by less of the "
                    f"others. {made}",
         "header": ["measure", "better", "means: intervals and all steps", "textures where intervals are better"],
         "rows": _better(scores)},
        {"caption": "What the measures make of pictures that no method has made: the truth with its hole blurred (σ = 2 "
                    f"pixels), and with another piece of the same texture pasted in, seams and all. Means over {len(scores)} "
                    f"textures of {side}×{side}. The smaller the last ratio, the more a measure looks at appearance; of detail, "
                    "1 is best.",
         "header": ["measure", "blurred", "another piece", "piece / blurred", "textures where the piece is better"],
         "rows": _measures(tuple(scores), side)},
    ]


def _means(scores: Scores, method: str) -> list[float]:
    return [statistics.mean(values) for values in zip(*(of[method] for of in scores.values()))]


def _row(scores: Scores, method: str, watts: float) -> list:
    *measures, taken = _means(scores, method)
    energy = 1000 * energy_estimate(taken, watts=watts).watt_hours
    published = [f"{value:g}" for value in PUBLISHED.get(method, ())] or ["–"] * len(PUBLISHED_MEASURES)
    return [method, *map(_rounded, (*measures, taken, energy)), *published]


def _orders(scores: Scores) -> list[list]:
    """A row for each "<" of the orders: does it hold in the thesis, on our means, and on how many textures?"""
    rows = []
    for k, published in enumerate(PUBLISHED_BESIDE):
        for less, more in (pair for order in ORDERS[k] for pair in pairwise(order)):
            holds = [of[less][k] < of[more][k] for of in scores.values()]
            theirs = "–"
            if less in PUBLISHED and published is not None:
                theirs = f"{PUBLISHED_MEASURES[published]}: {_said(PUBLISHED[less][published], PUBLISHED[more][published])}"
            rows.append([MEASURES[k], f"{less} < {more}", theirs,
                         _said(_means(scores, less)[k], _means(scores, more)[k]), f"{sum(holds)} of {len(holds)}"])
    return rows


def _said(less: float, more: float) -> str:
    return f"{'yes' if less < more else 'no'}, {less:.4g} and {more:.4g}"


def _better(scores: Scores) -> list[list]:
    """For each measure, whether intervals are better than one training for all steps."""
    rows = []
    for k, measure in enumerate(MEASURES):
        holds = [_distance(measure, of[INTERVALS][k]) < _distance(measure, of[ONE][k]) for of in scores.values()]
        intervals, whole = (_means(scores, method)[k] for method in (INTERVALS, ONE))
        better = "intervals" if _distance(measure, intervals) < _distance(measure, whole) else "all steps"
        rows.append([measure, better, f"{intervals:.3g} and {whole:.3g}", f"{sum(holds)} of {len(holds)}"])
    return rows


def _distance(measure: str, value: float) -> float:
    """Of a value from the measure's best, up to a constant."""
    return {"PSNR, dB": -value, "detail": abs(value - 1)}.get(measure, value)


def _measures(names: tuple[str, ...], side: int) -> list[list]:
    """A row for each measure, and one for the transport cost of large patches."""
    labels = ("squared error in the hole, thousandths", *MEASURES[1:], "transport cost of patches of 11×11, thousandths")
    found = []
    for name in names:
        image, mask = _texture(name, side)
        image, truth, hole = image.cpu(), _middle(image).cpu(), _middle(mask)
        pair = []
        for other in (filtering.gaussian_filter(truth, sigma=2.0), image[:, :side, :side]):
            picture = torch.where(hole, other, truth)
            decibels, *rest = _measured(picture, truth, hole)
            whole = metrics.patch_transport_cost(_around(picture, hole), _around(truth, hole), patch_size=11, steps=200)
            pair.append([1000 * 10 ** (-decibels / 10), *rest, 1000 * float(whole)])
        found.append(pair)
    rows = []
    for k, label in enumerate(labels):
        blurred, pasted = ([pair[i][k] for pair in found] for i in (0, 1))
        better = sum(_distance(label, p) < _distance(label, b) for b, p in zip(blurred, pasted))
        means = [statistics.mean(values) for values in (blurred, pasted)]
        rows.append([label, *map(_rounded, (*means, means[1] / means[0])), f"{better} of {len(names)}"])
    return rows


def _rounded(value: float) -> float:
    """Three digits, which is more than the samples decide."""
    return float(f"{value:.3g}")
