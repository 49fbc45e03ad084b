"""Non-local means beside OpenCV and scikit-image, and the patch methods beside each other.

`python -m tests.benchmarks.filtering_nonlocal` prints the table, in about three minutes. kornia has no non-local means.
Every implementation denoises at the h that suits it best, found on this very picture with its noise: the peers differ
in what h means, and OpenCV leaves the noise in the distances.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

import numpy as np
import torch

from labkit import filtering, images
from tests.benchmarks import timing

SIGMA = 25 / 255
THREADS = 2
TRIED = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0, 1.1)     # values of h, in units of the noise


def rows() -> list[dict]:
    """One row for each implementation of each task; times are medians of calls that take turns."""
    timing.use_threads(THREADS)
    return [row for name in ("astronaut", "camera") for row in (*_nonlocal_means(name), *_patch_methods(name))]


def _nonlocal_means(name: str) -> list[dict]:
    clean, noisy = _pictures(name)
    peers = _peers(noisy)
    h = {peer: _best(peers[peer], clean) for peer in peers.keys() - {"labkit, float64", "scikit-image exact"}}
    h["labkit, float64"] = h["labkit"]
    part = (..., slice(100, 228), slice(180, 308))      # of the head: exact mode takes ten seconds for all
    h["scikit-image exact"] = _best(_peers(noisy[part])["scikit-image exact"], clean[part])
    results = {}

    def denoise(peer: str) -> None:
        results[peer] = peers[peer](h[peer])

    calls = {peer: functools.partial(denoise, peer) for peer in peers}
    times = timing.side_by_side({peer: calls[peer] for peer in peers if peer != "scikit-image exact"}, repeats=9)
    times |= timing.side_by_side({"scikit-image exact": calls["scikit-image exact"]}, repeats=1)
    notes = {"labkit": _cost(name), "OpenCV": "8 bits", "OpenCV, colour by Lab": "8 bits, colours apart from lightness",
             "scikit-image exact": "patches weighted by a Gaussian"}
    return [{"task": f"non-local means, {name} {'×'.join(map(str, noisy.shape))}, 5×5 in 21×21", "peer": peer,
             "milliseconds": times[peer], "ratio_to_labkit": times[peer] / times["labkit"],
             "psnr": timing.psnr(results[peer], clean.numpy()),
             "agreement": timing.psnr(results[peer], results["labkit"]),
             "note": f"h = {h[peer]:.3g} σ" + (f"; {notes[peer]}" if peer in notes else "")} for peer in peers]


def _peers(noisy: torch.Tensor) -> dict[str, Callable[[float], np.ndarray]]:
    """Denoisers of a picture as functions of h, in units of the noise; their results are (C, H, W) in [0, 1]."""
    import cv2
    from skimage.restoration import denoise_nl_means

    pixels, array, double = _as_opencv(noisy), images.to_array(noisy), noisy.double()

    def labkit(image: torch.Tensor, h: float) -> np.ndarray:
        return filtering.nonlocal_means(image, h=h * SIGMA, sigma=SIGMA).numpy()

    def scikit_image(h: float, fast_mode: bool) -> np.ndarray:
        return _channels_first(denoise_nl_means(array, patch_size=5, patch_distance=10, h=h * SIGMA, sigma=SIGMA,
                                                fast_mode=fast_mode, channel_axis=-1 if array.ndim == 3 else None))

    def opencv(h: float) -> np.ndarray:
        return _channels_first(cv2.fastNlMeansDenoising(pixels, None, 255 * SIGMA * h, 5, 21)) / 255

    def opencv_lab(h: float) -> np.ndarray:
        h *= 255 * SIGMA
        return _channels_first(cv2.fastNlMeansDenoisingColored(pixels, None, h, h, 5, 21)) / 255

    peers = {"labkit": functools.partial(labkit, noisy), "labkit, float64": functools.partial(labkit, double),
             "OpenCV": opencv, "scikit-image fast": functools.partial(scikit_image, fast_mode=True),
             "scikit-image exact": functools.partial(scikit_image, fast_mode=False)}
    return peers | ({"OpenCV, colour by Lab": opencv_lab} if array.ndim == 3 else {})


def _patch_methods(name: str) -> list[dict]:
    """What the other denoisers of patches make of the same picture."""
    clean, noisy = _pictures(name)
    patch_size = 5 if noisy.shape[0] == 3 else 7
    methods = {
        "labkit nonlocal_means": lambda: filtering.nonlocal_means(noisy, h=0.65 * SIGMA, sigma=SIGMA),
        "labkit nonlocal_pca": lambda: filtering.nonlocal_pca(noisy, sigma=SIGMA, patch_size=patch_size),
        "labkit pca_filter": lambda: filtering.pca_filter(noisy, threshold=2.75 * SIGMA, patch_size=patch_size),
    }
    times = timing.side_by_side(methods, repeats=3)
    results = {method: call().numpy() for method, call in methods.items()}
    return [{"task": f"patch methods, {name}", "peer": method, "milliseconds": times[method],
             "ratio_to_labkit": times[method] / times["labkit nonlocal_means"],
             "psnr": timing.psnr(results[method], clean.numpy()),
             "agreement": timing.psnr(results[method], results["labkit nonlocal_means"]),
             "note": "h = 0.65 σ" if method.endswith("means") else f"{patch_size}×{patch_size} patches"}
            for method in methods]


def _cost(name: str) -> str:
    """Peak memory of the kernel and time of the first call, each in a fresh process."""
    setup = ("from labkit import filtering, images\n"
             f"image = images.load({name!r})\n")
    call = "result = filtering.nonlocal_means(image, h=0.06, sigma=0.1)"
    size = _pictures(name)[0].numel() * 4 / 2 ** 20
    memory = timing.peak_memory(setup + call.replace("image,", "image[..., :64, :64].contiguous(),"), call) / size
    empty, cached = (timing.first_call(setup, call, empty_cache=state) for state in (True, False))
    return f"peak {memory:.1f} images; first call {empty:.1f} s, {cached:.1f} s with numba's cache"


def _pictures(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    clean = images.load(name)
    return clean, images.add_gaussian_noise(clean, sigma=SIGMA, seed=1)


def _best(call: Callable[[float], np.ndarray], clean: torch.Tensor) -> float:
    return max(TRIED, key=lambda h: timing.psnr(call(h), clean.numpy()))


def _as_opencv(image: torch.Tensor) -> np.ndarray:
    pixels = images.to_pixels(image)
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels


def _channels_first(array: np.ndarray) -> np.ndarray:
    """The (C, H, W) of an array (H, W), of one (H, W, 3), or of OpenCV's (H, W, 3) of bytes in the order BGR."""
    if array.ndim == 2:
        return array[None]
    return array.transpose(2, 0, 1)[::-1 if array.dtype == np.uint8 else 1]


if __name__ == "__main__":
    sys.stdout.write(timing.table(rows()) + "\n")
