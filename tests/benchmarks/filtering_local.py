"""Local filters beside OpenCV, scikit-image, SciPy and kornia: `python -m tests.benchmarks.filtering_local`.

Astronaut, 512 × 512, float32, all in one process with two threads, calls interleaved. Results are compared before
times are taken: `agreement` is the PSNR between a peer's result and labkit's, away from the border, where
definitions differ most. `memory` is what one call adds to a fresh process, in images (labkit only).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from labkit import images
from labkit.filtering.bilateral import bilateral_filter, cross_bilateral_filter, rolling_guidance_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import box_filter, gaussian_filter
from tests.benchmarks.timing import first_call, peak_memory, psnr, side_by_side, table, use_threads

THREADS = 2
DISC = "colour by l1, over a disc"
SKIMAGE = "reads a 16 x 16 table of spatial weights as rows of 15"

Peer = tuple[str, str, Callable[[], np.ndarray | torch.Tensor]]


def rows(repeats: int = 15, *, memory: bool = True) -> list[dict]:
    """One row for each task and library; `ratio_to_labkit` above 1 means slower than labkit."""
    use_threads(THREADS)
    found = []
    for task, call, margin, peers in _tasks():
        functions = {"labkit": call} | {name: function for name, _, function in peers}
        results = {name: _planes(function()) for name, function in functions.items()}
        times = side_by_side(functions, repeats)
        notes = {name: note for name, note, _ in peers}
        for name in functions:
            found.append({
                "task": task, "peer": name, "milliseconds": times[name],
                "ratio_to_labkit": times[name] / times["labkit"],
                "agreement": psnr(results[name], results["labkit"], margin),
                "memory": _memory(task) if memory and name == "labkit" else "",
                "note": notes.get(name, "")})
    return found


def first_calls() -> list[dict]:
    """Seconds that the first call of each function takes in a new process: kernels to compile, and from the cache."""
    found = []
    for name, call in {"gaussian_filter": "gaussian_filter(u, sigma=3)", "box_filter": "box_filter(u, radius=7)",
                       "bilateral_filter": "bilateral_filter(u, sigma_space=2, sigma_color=0.1)",
                       "guided_filter": "guided_filter(u, radius=8, eps=1e-2)"}.items():
        setup = _IMPORTS + "u = torch.rand(3, 64, 64)"
        first_call(setup, call, empty_cache=False)                        # fills the cache
        found.append({"function": name, "empty cache (s)": first_call(setup, call, empty_cache=True),
                      "warm cache (s)": first_call(setup, call, empty_cache=False)})
    return found


def _planes(result: np.ndarray | torch.Tensor) -> np.ndarray:
    """Any library's result as (C, H, W)."""
    array = result.detach().numpy() if isinstance(result, torch.Tensor) else result
    array = array[0] if array.ndim == 4 else array
    array = array[None] if array.ndim == 2 else array
    return array.transpose(2, 0, 1) if array.shape[2] == 3 else array


def _tasks() -> list[tuple[str, Callable[[], torch.Tensor], int, list[Peer]]]:
    """Each task: name, labkit's call, the margin that is left out of the comparison, its peers."""
    import cv2
    import kornia.filters
    import skimage.filters
    import skimage.restoration
    from scipy import ndimage

    u = images.load("astronaut")
    v = gaussian_filter(u, sigma=1)                                       # another guide, without a second photograph
    grey = images.to_grey(u)
    pixels, look = (np.ascontiguousarray(t.permute(1, 2, 0).numpy()) for t in (u, v))
    plane = grey[0].numpy()
    batch, guide = u[None], v[None]
    # 15 x 15 window, σ = 5 pixels, h = 0.1
    cv_weights = (15, 0.1, 5)
    kornia_weights = ((15, 15), 0.1, (5, 5), "reflect", "l2")

    def opencv_rolling() -> np.ndarray:
        result = cv2.GaussianBlur(pixels, (15, 15), 5)
        for _ in range(4):
            result = cv2.ximgproc.jointBilateralFilter(result, pixels, *cv_weights)
        return result

    def kornia_rolling() -> torch.Tensor:
        result = kornia.filters.gaussian_blur2d(batch, (15, 15), (5, 5))
        for _ in range(4):
            result = kornia.filters.joint_bilateral_blur(batch, result, *kornia_weights)
        return result

    return [
        ("Gaussian, σ 3", lambda: gaussian_filter(u, sigma=3), 12, [
            ("OpenCV", "", lambda: cv2.GaussianBlur(pixels, (25, 25), 3)),
            ("SciPy", "one thread", lambda: ndimage.gaussian_filter(u.numpy(), (0, 3, 3), radius=(0, 12, 12),
                                                                    mode="mirror")),
            ("scikit-image", "one thread", lambda: skimage.filters.gaussian(pixels, 3, mode="mirror", truncate=4,
                                                                            channel_axis=2)),
            ("kornia", "", lambda: kornia.filters.gaussian_blur2d(batch, (25, 25), (3, 3)))]),
        ("box 15 × 15", lambda: box_filter(u, radius=7), 7, [
            ("OpenCV", "", lambda: cv2.blur(pixels, (15, 15))),
            ("SciPy", "one thread", lambda: ndimage.uniform_filter(u.numpy(), (1, 15, 15), mode="mirror")),
            ("kornia", "", lambda: kornia.filters.box_blur(batch, 15))]),
        ("bilateral 15 × 15", lambda: bilateral_filter(u, sigma_space=5, sigma_color=0.1, radius=7), 7, [
            ("OpenCV", DISC, lambda: cv2.bilateralFilter(pixels, *cv_weights)),
            ("scikit-image", f"one thread; {SKIMAGE}", lambda: skimage.restoration.denoise_bilateral(
                pixels, win_size=15, sigma_color=0.1 / 3, sigma_spatial=5, channel_axis=2)),
            ("kornia", "", lambda: kornia.filters.bilateral_blur(batch, *kornia_weights))]),
        ("bilateral 31 × 31", lambda: bilateral_filter(u, sigma_space=10, sigma_color=0.1, radius=15), 15, [
            ("OpenCV", DISC, lambda: cv2.bilateralFilter(pixels, 31, 0.1, 10))]),
        ("bilateral 15 × 15, grey", lambda: bilateral_filter(grey, sigma_space=5, sigma_color=0.1, radius=7), 7, [
            ("OpenCV", "over a disc", lambda: cv2.bilateralFilter(plane, *cv_weights)),
            ("scikit-image", f"one thread; {SKIMAGE}", lambda: skimage.restoration.denoise_bilateral(
                plane, win_size=15, sigma_color=0.1, sigma_spatial=5)),
            ("kornia", "", lambda: kornia.filters.bilateral_blur(grey[None], *kornia_weights))]),
        ("cross-bilateral 15 × 15",
         lambda: cross_bilateral_filter(u, guide=v, sigma_space=5, sigma_color=0.1, radius=7), 7, [
             ("OpenCV", DISC, lambda: cv2.ximgproc.jointBilateralFilter(look, pixels, *cv_weights)),
             ("kornia", "", lambda: kornia.filters.joint_bilateral_blur(batch, guide, *kornia_weights))]),
        ("guided, radius 8, colour guide", lambda: guided_filter(u, guide=v, radius=8, eps=1e-2), 16, [
            ("OpenCV", "", lambda: cv2.ximgproc.guidedFilter(look, pixels, 8, 1e-2)),
            ("kornia", "", lambda: kornia.filters.guided_blur(guide, batch, 17, 1e-2))]),
        ("guided, radius 8, grey", lambda: guided_filter(grey, radius=8, eps=1e-2), 16, [
            ("OpenCV", "", lambda: cv2.ximgproc.guidedFilter(plane, plane, 8, 1e-2)),
            ("kornia", "", lambda: kornia.filters.guided_blur(grey[None], grey[None], 17, 1e-2))]),
        ("rolling guidance, Gaussian and 4 steps",
         lambda: rolling_guidance_filter(u, sigma_space=5, sigma_color=0.1, radius=7, iterations=5), 40, [
             ("OpenCV by hand", DISC, opencv_rolling),
             ("OpenCV", f"{DISC}; starts from the picture, not from its Gaussian: keeps texture",
              lambda: cv2.ximgproc.rollingGuidanceFilter(pixels, None, *cv_weights, 4)),
             ("kornia by hand", "", kornia_rolling)]),
        ("bilateral 15 × 15 and its gradient, 256 × 256",
         _with_gradient(u, lambda w: bilateral_filter(w, sigma_space=5, sigma_color=0.1, radius=7)), 16, [
             ("kornia", "", _with_gradient(u, lambda w: kornia.filters.bilateral_blur(w[None], *kornia_weights)[0]))]),
    ]


def _with_gradient(image: torch.Tensor, call: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], torch.Tensor]:
    quarter = image[:, :256, :256]

    def gradient() -> torch.Tensor:
        leaf = quarter.clone().requires_grad_()
        call(leaf).square().sum().backward()
        return leaf.grad

    return gradient


_IMPORTS = """
import torch
from labkit.filtering.bilateral import bilateral_filter, cross_bilateral_filter, rolling_guidance_filter
from labkit.filtering.guided import guided_filter
from labkit.filtering.linear import box_filter, gaussian_filter
def gradient(leaf):
    bilateral_filter(leaf, sigma_space=5, sigma_color=0.1, radius=7).square().sum().backward()
"""
_CALLS = {
    "Gaussian": "gaussian_filter(u, sigma=3)",
    "box": "box_filter(u, radius=7)",
    "bilateral": "bilateral_filter(u, sigma_space=5, sigma_color=0.1, radius=7)",
    "cross-bilateral": "cross_bilateral_filter(u, guide=v, sigma_space=5, sigma_color=0.1, radius=7)",
    "guided": "guided_filter(u, guide=v, radius=8, eps=1e-2)",
    "rolling": "rolling_guidance_filter(u, sigma_space=5, sigma_color=0.1, radius=7, iterations=5)",
}


def _memory(task: str) -> float:
    """Peak of one call, in images, on a picture large enough (2048 × 2048) to hide what any process allocates."""
    call = _CALLS[task.replace(",", " ").split()[0]]
    channels, side = 1 if "grey" in task else 3, 2048
    if "gradient" in task:
        side, call = 256, "gradient(u.requires_grad_())"
    elif "31" in task:
        call = call.replace("radius=7", "radius=15")
    setup = (_IMPORTS + f"u, v = torch.rand({channels}, 64, 64), torch.rand({channels}, 64, 64)\nresult = {call}\n"
             f"u, v = torch.rand({channels}, {side}, {side}), torch.rand({channels}, {side}, {side})")
    return peak_memory(setup, f"result = {call}") * 2 ** 20 / (channels * side ** 2 * 4)


if __name__ == "__main__":
    print(table(rows()), flush=True)
    print()
    print(table(first_calls()))
