"""Chapter 3: fidelity and diversity of pictures made from one picture, beside the thesis's; what each synthesis costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from labkit import figures, images, metrics, runtime
from labkit.figures import Figure
from labkit.pyramids import coarse_size
from labkit.results.timing import seconds
from labkit.texture_optimization import (efros_leung, gpnn, image_quilting, optimize_texture, psin, psin_ot,
                                         random_phase_texture, spot_noise, transport_texture)

__all__ = ["MEASURES", "ORDERS", "OTHER_PATCHES", "PICTURES", "PUBLISHED", "PUBLISHED_MEASURES", "SAMPLED", "SCALES",
           "TEXTURES", "Scores", "compute", "gallery", "live"]

Scores = dict[str, dict[str, tuple[float, ...]]]        # of each picture, of each method: as many as MEASURES

PICTURES = ("astronaut", "chelsea", "coffee", "motorcycle_left", "no_flash_clean", "rocket", "pebbles", "wall")
TEXTURES = ("sand", "pebbles", "wall")
MEASURES = ("feature distance, thousandths", "transport cost", "diversity")
# Thesis, Table III.3: 50 pictures of Places, 50 samples of each. Its first measure is SIFID, on features of Inception.
PUBLISHED_MEASURES = ("SIFID", "optimal transport", "diversity")
PUBLISHED = {"GPNN": (0.02, 0.52, 0.40), "PSin": (0.45, 0.94, 0.62), "PSinOT": (0.06, 0.36, 0.53)}
# The orders of that table, from small to large.
ORDERS = (("PSinOT", "PSin"), ("PSinOT", "GPNN", "PSin"), ("GPNN", "PSinOT", "PSin"))

# The thesis begins with 32 pixels for patches of 11 (III.4.1), a picture 2.9 patches wide; a smaller one leaves a patch
# hardly any place but its own. Our smaller pictures keep that with three scales: patches of 5 for 64 pixels, 11 for 128.
SCALES = 3
OTHER_PATCHES = (11, 7, 5)
SAMPLED = 1024          # patches drawn from each of two larger pictures, for the transport cost


def compute() -> dict:
    """Six tables; at `quick` all is smaller, and no order is to be expected."""
    names = PICTURES[:runtime.choose({"quick": 2, "laptop": 8, "gpu": 8})]
    side = runtime.choose({"quick": 32, "laptop": 64, "gpu": 64})
    seeds = runtime.choose({"quick": 2, "laptop": 4, "gpu": 8})
    few = runtime.choose({"quick": 2, "laptop": 2, "gpu": 4})
    small = _scores(names, side=side, seeds=seeds, transports=few)
    large = _scores(names[:4], side=2 * side, seeds=few, transports=few, max_patches=SAMPLED)
    made = (f"{seeds} samples of each of {len(names)} pictures, resized to {side}×{side}; transport cost in full (all patches "
            f"of 11×11, 1000 steps), of the first {few}. PSin and PSinOT: patches of {_patch(side)}×{_patch(side)}, {SCALES} "
            "scales. GPNN: patches of 7×7, its own scales, noise of 0.75.")
    holds = ["measure", "order", "thesis", "on the means", "pictures"]
    return {"seeds": {"synthesis": list(range(seeds))}, "tables": [
        {"caption": f"Means over all pictures, beside Table III.3 of the thesis. {made}",
         "header": ["method", *(column for ours, theirs in zip(MEASURES, PUBLISHED_MEASURES)
                                for column in (ours, f"thesis: {theirs}"))],
         "rows": _beside_published(small)},
        {"caption": f"Which orders of Table III.3 hold. {made}",
         "header": holds, "rows": _orders(small)},
        {"caption": f"Each picture on its own. {made}",
         "header": ["picture", *(f"{method}: {measure}" for measure in MEASURES for method in PUBLISHED)],
         "rows": [[name, *(_rounded(of[method][k]) for k in range(3) for method in PUBLISHED)] for name, of in small.items()]},
        {"caption": f"What the coarsest scale decides: PSin and PSinOT on {len(names)} pictures of {side}×{side}, {SCALES} "
                    f"scales, {seeds} samples of each. A copy differs from its picture by less than 1/255 on average.",
         "header": ["patch", "coarsest scale, in patches", *(f"{method}: {what}" for method in ("PSin", "PSinOT")
                                                              for what in (MEASURES[0], "diversity", "copies"))],
         "rows": _coarsest(names, side, seeds)},
        {"caption": f"The orders on {len(large)} pictures of {2 * side}×{2 * side}, patches of {_patch(2 * side)}×"
                    f"{_patch(2 * side)}, {SCALES} scales, {few} samples of each; transport cost between {SAMPLED} patches drawn "
                    "from each picture, larger than in full.",
         "header": holds, "rows": _orders(large)},
        _times(),
    ]}


def live(results: dict, size: int) -> Figure:
    """Fidelity and diversity once more, for one picture `size` pixels wide and two samples."""
    name = PICTURES[2]
    scores = _scores([name], side=size, seeds=2, transports=1, max_patches=SAMPLED)[name]
    rows = [[method, *map(_rounded, scores[method])] for method in PUBLISHED]
    return figures.table(rows, header=["method", *MEASURES],
                         caption=f"Computed now: {name}, {size}×{size} pixels, two samples of each method.")


def gallery(*, size: int, seed: int = 0) -> Figure:
    """Every method on the same three textures, made here and now.

    Parameters
    ----------
    size : side of the exemplars, in pixels; the textures made of them are half as large again.
    """
    shown, titles = [], []
    for name in TEXTURES:
        exemplar = images.load(name, size=(size, size))
        shown.append(exemplar)
        titles.append(name)
        for method, make in _synthesis(size, seed).items():
            shown.append(make(exemplar).clamp(0, 1))
            titles.append(method)
    columns = len(shown) // len(TEXTURES)
    return figures.show(shown, titles=titles, columns=columns // 2, width=150,
                        alt="exemplars of three textures, and what each method makes of them",
                        caption=f"Textures of {3 * size // 2}×{3 * size // 2} pixels from exemplars of {size}×{size}.")


# --- how good -------------------------------------------------------------------------------------------------------

def _methods(patch_size: int) -> dict[str, Callable[[Tensor, int], Tensor]]:
    settings: dict[str, Any] = {"levels": SCALES, "patch_size": patch_size}
    return {"GPNN": lambda image, seed: gpnn(image, seed=seed).image,
            "PSin": lambda image, seed: psin(image, seed=seed, **settings).image,
            "PSinOT": lambda image, seed: psin_ot(image, seed=seed, **settings).image}


def _patch(side: int) -> int:
    """The side of a patch, odd, for a picture whose third scale is to be about three patches wide."""
    return side // 12 | 1


def _scores(names: Sequence[str], *, side: int, seeds: int, transports: int, max_patches: int | None = None) -> Scores:
    """The three measures of each method on each picture."""
    found: Scores = {}
    for name in runtime.progress(names, description="fidelity and diversity"):
        image, found[name] = images.load(name, size=(side, side)), {}
        for method, make in _methods(_patch(side)).items():
            made = torch.stack([make(image, seed) for seed in range(seeds)])
            found[name][method] = (
                1000 * statistics.mean(float(metrics.single_image_distance(one, image)) for one in made),
                statistics.mean(float(metrics.patch_transport_cost(one, image, max_patches=max_patches))
                                for one in made[:transports]),
                float(metrics.pixel_diversity(made, reference=image)))
    return found


def _mean(scores: Scores, method: str, measure: int) -> float:
    return statistics.mean(of[method][measure] for of in scores.values())


def _beside_published(scores: Scores) -> list[list]:
    return [[method, *(cell for k, value in enumerate(published) for cell in (_rounded(_mean(scores, method, k)), value))]
            for method, published in PUBLISHED.items()]


def _orders(scores: Scores) -> list[list]:
    """A row for each "<" of the published orders: does it hold on the means, and on how many pictures?"""
    rows = []
    for k, order in enumerate(ORDERS):
        for less, more in pairwise(order):
            holds = [of[less][k] < of[more][k] for of in scores.values()]
            means = [_mean(scores, method, k) for method in (less, more)]
            rows.append([MEASURES[k], f"{less} < {more}", f"{PUBLISHED[less][k]:g} < {PUBLISHED[more][k]:g}",
                         f"{'yes' if means[0] < means[1] else 'no'}: {means[0]:.3g}, {means[1]:.3g}",
                         f"{sum(holds)} of {len(holds)}"])
    return rows


def _coarsest(names: tuple[str, ...], side: int, seeds: int) -> list[list]:
    rows = []
    for patch in OTHER_PATCHES:
        methods = _methods(patch)
        cells = []
        for method in ("PSin", "PSinOT"):
            distances, diversities, copies = [], [], 0
            for name in names:
                image = images.load(name, size=(side, side))
                made = torch.stack([methods[method](image, seed) for seed in range(seeds)])
                distances += [1000 * float(metrics.single_image_distance(one, image)) for one in made]
                diversities.append(float(metrics.pixel_diversity(made, reference=image)))
                copies += sum(float((one - image).abs().mean()) < 1 / 255 for one in made)
            cells += [_rounded(statistics.mean(distances)), _rounded(statistics.mean(diversities)),
                      f"{copies} of {len(distances)}"]
        rows.append([f"{patch}×{patch}", round(_coarsest_side(side, patch) / patch, 1), *cells])
    return rows


def _coarsest_side(side: int, patch: int) -> int:
    """As PSin goes down: by halves, as often as was asked for and as a patch fits."""
    for _ in range(SCALES - 1):
        coarse = coarse_size(side, side, ratio=2)[0]
        side = coarse if coarse >= patch else side
    return side


# --- how fast -------------------------------------------------------------------------------------------------------

def _synthesis(size: int, seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Every method of the chapter, making a texture half as large again as its exemplar."""
    wanted = (3 * size // 2,) * 2
    scales = {"levels": SCALES, "patch_size": _patch(size), "seed": seed}
    patches = (16, 8) if size >= 64 else (8, 4)
    texture = partial(optimize_texture, size=wanted, patch_sizes=patches, stride=patches[-1] // 2, seed=seed)
    return {
        "Efros–Leung": partial(efros_leung, size=wanted, seed=seed),
        "quilting": partial(image_quilting, size=wanted, patch_size=min(24, size // 2), seed=seed),
        "random phase": partial(random_phase_texture, size=wanted, seed=seed),
        "spot noise": partial(spot_noise, size=wanted, seed=seed),
        "optimisation, r = 0.8": lambda exemplar: texture(exemplar).image,
        "optimisation, r = 2": lambda exemplar: texture(exemplar, r=2).image,
        "optimisation, assignment": lambda exemplar: texture(exemplar, assignment="lsap").image,
        "patch transport": lambda exemplar: transport_texture(exemplar, size=wanted, seed=seed).image,
        "GPNN": lambda exemplar: gpnn(exemplar, size=wanted, seed=seed).image,
        "PSin": lambda exemplar: psin(exemplar, size=wanted, **scales).image,
        "PSinOT": lambda exemplar: psin_ot(exemplar, size=wanted, **scales).image,
    }


def _times() -> dict:
    size = runtime.choose({"quick": 32, "laptop": 96, "gpu": 128})
    exemplars = [images.load(name, size=(size, size)) for name in TEXTURES]
    rows = [[method, *(round(seconds(partial(make, exemplar), repeats=1), 3) for exemplar in exemplars)]
            for method, make in runtime.progress(_synthesis(size, 0).items(), description="times")]
    return {"caption": f"Seconds for a texture of {3 * size // 2}×{3 * size // 2} pixels from {size}×{size}, on "
                       f"{runtime.threads()} threads; the second of two runs.",
            "header": ["method", *TEXTURES], "rows": rows}


def _rounded(value: float) -> float:
    """Three digits, which is more than the samples decide."""
    return float(f"{value:.3g}")
