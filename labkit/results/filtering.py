"""Chapter 1: every filter on two photographs with noise of σ = 25/255, each at its best parameters."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

from torch import Tensor

from labkit import figures, filtering, images, metrics, runtime
from labkit.figures import Figure
from labkit.results.timing import seconds

__all__ = ["GRIDS", "PICTURES", "SEED", "SIGMA", "compute", "live"]

SIGMA = 25 / 255
SEED = 0
PICTURES = ("astronaut", "camera")

# The parameters tried for each filter; the best mean PSNR over the two pictures decides.
GRIDS: dict[str, tuple[Callable[..., Tensor], dict[str, tuple]]] = {
    "Gaussian": (filtering.gaussian_filter, {"sigma": (0.7, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6)}),
    "box": (filtering.box_filter, {"radius": (1, 2)}),
    "median": (filtering.median_filter, {"radius": (1, 2, 3)}),
    "bilateral": (filtering.bilateral_filter, {"sigma_space": (1.0, 1.5, 2.0, 3.0), "sigma_color": (0.2, 0.3, 0.4, 0.5, 0.6)}),
    "guided": (filtering.guided_filter, {"radius": (1, 2, 3, 4, 6), "eps": (0.01, 0.02, 0.03, 0.05, 0.07, 0.1)}),
    "rolling guidance": (filtering.rolling_guidance_filter, {
        "sigma_space": (0.8, 1.0, 1.2, 1.5, 2.0), "sigma_color": (0.1, 0.2, 0.3, 0.45), "iterations": (2, 3, 4)}),
    "non-local means": (filtering.nonlocal_means, {
        "patch_size": (3, 5, 7), "window_size": (21,), "h": tuple(k * SIGMA for k in (0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)), "sigma": (SIGMA,)}),
    "non-local PCA": (filtering.nonlocal_pca, {"sigma": (SIGMA,)}),
}


def compute() -> dict:
    """Tune, then measure; times are medians of three runs at the full size of each picture."""
    clean = {name: images.load(name) for name in PICTURES}
    noisy = {name: images.add_gaussian_noise(image, sigma=SIGMA, seed=SEED) for name, image in clean.items()}
    chosen = {name: _best(function, grid, clean, noisy, name) for name, (function, grid) in GRIDS.items()}
    rows = _measure(chosen, clean, noisy, timed=True)
    return {
        "seeds": {"noise": SEED},
        "parameters": chosen,
        "tables": [{"caption": "Noise of σ = 25/255, parameters with the best mean PSNR over both pictures.",
                    "header": _header(timed=True), "rows": rows}],
    }


def live(results: dict, size: int) -> Figure:
    """The same table on the middle of each picture, `size` pixels wide, with the stored parameters."""
    clean = {}
    for name in PICTURES:
        whole = images.load(name, size=max(size, 256))
        start = (whole.shape[-1] - size) // 2
        clean[name] = images.crop(whole, row=start // 2, column=start, height=size, width=size)
    noisy = {name: images.add_gaussian_noise(image, sigma=SIGMA, seed=SEED) for name, image in clean.items()}
    return figures.table(_measure(results["parameters"], clean, noisy, timed=False), header=_header(timed=False),
                         caption=f"The same, computed now on {size}×{size} crops.")


def _header(*, timed: bool) -> list[str]:
    return ["filter", *(f"{name}: {what}" for name in PICTURES for what in ("PSNR, dB", "SSIM", "ms")[:3 if timed else 2])]


def _best(function: Callable[..., Tensor], grid: dict[str, tuple], clean: dict[str, Tensor], noisy: dict[str, Tensor],
          name: str) -> dict[str, float]:
    tried = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    if len(tried) == 1:
        return tried[0]
    def score(parameters: dict) -> float:
        return statistics.mean(float(metrics.psnr(function(noisy[key], **parameters), clean[key])) for key in clean)
    scores = [score(parameters) for parameters in runtime.progress(tried, description=f"tuning {name}")]
    return tried[scores.index(max(scores))]


def _measure(chosen: dict[str, dict], clean: dict[str, Tensor], noisy: dict[str, Tensor], *, timed: bool) -> list[list]:
    """A row for each filter, with or without the time it takes."""
    rows = [["noisy picture", *(cell for key in clean for cell in _quality(noisy[key], clean[key], ["–"] if timed else []))]]
    for name, parameters in chosen.items():
        function, row = GRIDS[name][0], [name]
        for key in clean:
            def filtered() -> Tensor:
                return function(noisy[key], **parameters)
            taken = [round(1000 * seconds(filtered), 1)] if timed else []
            row += _quality(filtered(), clean[key], taken)
        rows.append(row)
    return rows


def _quality(image: Tensor, reference: Tensor, time_taken: list) -> list:
    return [float(metrics.psnr(image, reference)), float(metrics.ssim(image, reference)), *time_taken]
