"""Chapter 2: how near PatchMatch comes to the exhaustive optimum, what it costs, and what it fills holes with."""

from __future__ import annotations

import importlib
import importlib.util
import math

import numpy as np
import torch
from torch import Tensor

from labkit import figures, images, metrics, patchmatch, runtime
from labkit.figures import Figure
from labkit.patchmatch.reference import SCHEDULES
from labkit.patchmatch.stereo import fill_from_behind
from labkit.results.timing import seconds

__all__ = ["ITERATIONS", "PAIR", "PATCH_SIZE", "SEED", "SIDES", "TEXTURES", "compute", "live"]

SEED = 0
PATCH_SIZE = 7
ITERATIONS = 8
PAIR = ("astronaut", "coffee")
SIDES = (64, 128, 256, 512, 1024)
TEXTURES = ("brick", "gravel", "grass", "tiles", "leaves", "wall", "pebbles", "scales")


def compute() -> dict:
    """Four tables, at the sizes of the laptop profile."""
    size = runtime.choose({"quick": 64, "laptop": 256, "gpu": 512})
    sides = SIDES[:runtime.choose({"quick": 2, "laptop": 5, "gpu": 5})]
    return {"seeds": {"search": SEED}, "size": size, "tables": [
        {"caption": f"Mean patch distance, as a multiple of the exhaustive optimum, after each iteration; {PAIR[0]} from {PAIR[1]}, "
                    f"{size}×{size} pixels, patches of {PATCH_SIZE}×{PATCH_SIZE}.",
         "header": _convergence_header(), "rows": _convergence(size)},
        _growth(sides),
        {"caption": "A square hole in the middle of a texture of 256×256 pixels, filled by patches and by a smooth (biharmonic) surface. "
                    "PSNR inside the hole; random-feature distance, in thousandths, between the hole with its surroundings and "
                    "the true picture (0 is best).",
         "header": ["texture", "hole", "patches: PSNR, dB", "smooth: PSNR, dB", "patches: feature distance", "smooth: feature distance"],
         "rows": _holes()},
        {"caption": "Disparity of the motorcycle pair at half size, against the true one, where that is known.",
         "header": ["method", "mean error, pixels", "off by more than 1", "… 2", "… 4 pixels", "seconds"], "rows": _stereo()},
    ]}


def live(results: dict, size: int) -> Figure:
    """The first table, recomputed on pictures `size` pixels wide."""
    return figures.table(_convergence(size), header=_convergence_header(), caption=f"The same, computed now on {size}×{size} pixels.")


def _convergence_header() -> list[str]:
    return ["schedule", "start", *(str(number) for number in range(1, ITERATIONS + 1)), "seconds for 5"]


def _convergence(size: int) -> list[list]:
    image, exemplar = (images.load(name, size=(size, size)) for name in PAIR)
    best = patchmatch.exact_nnf(image, exemplar, patch_size=PATCH_SIZE).history[0]
    rows = []
    for schedule in SCHEDULES:
        def search(iterations: int) -> patchmatch.Match:
            return patchmatch.patchmatch(image, exemplar, patch_size=PATCH_SIZE, iterations=iterations, schedule=schedule,
                                         seed=SEED)
        found = search(ITERATIONS)
        rows.append([schedule.replace("_", " "), *(round(mean / best, 3) for mean in found.history),
                     round(seconds(lambda: search(5)), 3)])
    return rows


def _growth(sides: tuple[int, ...]) -> dict:
    rows = []
    for side in sides:
        image, exemplar = (images.resize(images.load(name), size=(side, side)) for name in PAIR)
        taken = seconds(lambda: patchmatch.patchmatch(image, exemplar, patch_size=PATCH_SIZE, seed=SEED))
        number = (side - PATCH_SIZE + 1) ** 2
        rows.append([f"{side}×{side}", number, round(taken, 4), round(1e6 * taken / number, 3),
                     round(1e6 * taken / (number * math.log2(number)), 4)])
    exponent = np.polyfit(np.log([row[1] for row in rows]), np.log([row[2] for row in rows]), 1)[0]
    return {"caption": f"Time of five sequential iterations against the number N of patches, on {runtime.threads()} threads. The best fit is "
                       f"seconds ∝ N^{exponent:.2f}.",
            "header": ["picture", "N", "seconds", "µs per patch", "µs per patch and log₂ N"], "rows": rows}


def _holes() -> list[list]:
    from skimage.restoration import inpaint_biharmonic

    rows = []
    for name in TEXTURES:
        image = images.load(name, size=(256, 256))
        side = 48
        mask = torch.zeros(1, 256, 256, dtype=torch.bool)
        hole = slice(104, 104 + side)
        mask[:, hole, hole] = True
        smooth = inpaint_biharmonic(torch.where(mask, 0, image).movedim(0, -1).numpy(), mask[0].numpy(), channel_axis=-1)
        filled = [patchmatch.inpaint(image, mask, seed=SEED), torch.from_numpy(smooth).float().movedim(-1, 0).clamp(0, 1)]
        around = slice(104 - 16, 104 + side + 16)
        rows.append([name, f"{side}×{side}",
                     *(round(float(metrics.psnr(picture[:, hole, hole], image[:, hole, hole])), 2) for picture in filled),
                     *(round(1000 * float(metrics.single_image_distance(picture[:, around, around], image[:, around, around])), 1)
                       for picture in filled)])
    return rows


def _stereo() -> list[list]:
    import skimage

    truth = torch.from_numpy(skimage.data.stereo_motorcycle()[2])[::2, ::2][None] / 2
    height, width = truth.shape[-2:]
    left, right = (images.resize(images.load(f"motorcycle_{eye}"), size=(height, width)) for eye in ("left", "right"))
    largest = 48

    def nearest_patches() -> Tensor:
        nnf = patchmatch.patchmatch(left, right, patch_size=PATCH_SIZE, seed=SEED).nnf
        return images.pad(-patchmatch.shift_map(nnf)[1:], amount=PATCH_SIZE // 2, border="replicate")

    methods = {"nearest patches anywhere": nearest_patches,
               "stereo_disparity": lambda: patchmatch.stereo_disparity(left, right, largest=largest, seed=SEED)}
    if importlib.util.find_spec("cv2"):
        methods["OpenCV StereoSGBM, usual settings"] = lambda: _semi_global(left, right, largest)
    rows = []
    for name, method in methods.items():
        score = patchmatch.disparity_score(method(), truth)
        rows.append([name, round(score["mean_error"], 2), *(f"{100 * score[f'above_{k}']:.1f} %" for k in (1, 2, 4)),
                     round(seconds(method), 3)])
    return rows


def _semi_global(left: Tensor, right: Tensor, largest: int) -> Tensor:
    """OpenCV's semi-global matching at its usual settings, given what our method gives itself.

    Both views are continued on the left, where OpenCV otherwise leaves `largest` columns open, and what it leaves open
    is filled from behind.
    """
    cv2 = importlib.import_module("cv2")      # of the extra [bench]: without it the row is left out

    views = [np.ascontiguousarray(np.pad(images.to_pixels(view)[..., ::-1], ((0, 0), (largest, 0), (0, 0)), mode="edge"))
             for view in (left, right)]
    side = 3
    matcher = cv2.StereoSGBM_create(0, largest, side, P1=8 * 3 * side ** 2, P2=32 * 3 * side ** 2, disp12MaxDiff=1, uniquenessRatio=10,
                                    speckleWindowSize=100, speckleRange=2, mode=cv2.STEREO_SGBM_MODE_HH)
    found = torch.from_numpy(matcher.compute(*views)[:, largest:].astype(np.float32) / 16)
    return fill_from_behind(found, found >= 0)[None]
