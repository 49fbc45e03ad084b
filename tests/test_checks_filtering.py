"""What is particular to the checks of chapter 1; `test_checks_chapters.py` holds what all chapters have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labkit import checks, filtering
from tests import solutions

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EXERCISES = checks.exercises("filtering")


def test_there_are_nine_exercises_in_the_order_of_the_chapter():
    assert list(EXERCISES) == ["gaussian_filter", "box_filter", "bilateral_filter", "cross_bilateral_filter", "guided_filter",
                               "rolling_guidance_filter", "nonlocal_means", "pca_filter", "nonlocal_attention"]


# --- unusual but right ----------------------------------------------------------------------------------------------

def _gaussian_fft(image, sigma, radius):
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    w = torch.exp(-x ** 2 / (2 * sigma ** 2))
    size = [side + 2 * radius for side in image.shape[-2:]]
    kernel = torch.fft.rfft2(w[:, None] * w[None, :], s=size)
    def smooth(u):
        return torch.fft.irfft2(torch.fft.rfft2(u.double(), s=size) * kernel, s=size)[..., radius:radius + u.shape[-2], radius:radius + u.shape[-1]]
    return (smooth(image) / smooth(torch.ones_like(image))).to(image.dtype)


def _box_loop(image, radius):
    out = torch.empty_like(image)
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            out[:, i, j] = image[:, max(0, i - radius):i + radius + 1, max(0, j - radius):j + radius + 1].double().mean((1, 2))
    return out


def _box_convolution(image, radius):
    kernel = torch.ones(1, 1, 2 * radius + 1, 2 * radius + 1, dtype=torch.float64)
    u = image[:, None].double()
    return (F.conv2d(u, kernel, padding=radius) / F.conv2d(torch.ones_like(u), kernel, padding=radius))[:, 0].to(image.dtype)


def _box_numpy(image, radius):
    from scipy.ndimage import uniform_filter

    u = image.numpy().astype(np.float64)
    mean = lambda x: uniform_filter(x, size=(0, 2 * radius + 1, 2 * radius + 1), mode="constant")
    return torch.from_numpy(mean(u) / mean(np.ones_like(u))).to(image.dtype)


def _bilateral_pixel_by_pixel(image, sigma_space, sigma_color, radius):
    u = image.numpy().astype(np.float64)
    out = np.empty_like(u)
    height, width = u.shape[1:]
    for i in range(height):
        for j in range(width):
            rows, columns = np.mgrid[max(0, i - radius):min(height, i + radius + 1), max(0, j - radius):min(width, j + radius + 1)]
            seen = u[:, rows, columns]
            w = np.exp(-((rows - i) ** 2 + (columns - j) ** 2) / (2 * sigma_space ** 2)
                       - ((seen - u[:, i, j, None, None]) ** 2).sum(0) / (2 * sigma_color ** 2))
            out[:, i, j] = (w * seen).sum((1, 2)) / w.sum()
    return torch.from_numpy(out).to(image.dtype)


def _rolling_with_own_first_pass(image, sigma_space, sigma_color, iterations, radius):
    guide = torch.zeros_like(image)   # a constant guide makes the first pass the Gaussian
    for _ in range(iterations):
        guide = filtering.cross_bilateral_filter(image, guide=guide, sigma_space=sigma_space, sigma_color=sigma_color, radius=radius)
    return guide


def _pca_svd(image, patch_size, threshold):
    patches = image.unfold(1, patch_size, 1).unfold(2, patch_size, 1).permute(1, 2, 0, 3, 4)
    grid = patches.shape[:2]
    flat = patches.reshape(grid[0] * grid[1], -1)
    mean = flat.mean(0)
    u, s, vt = torch.linalg.svd(flat - mean, full_matrices=False)
    z = u * s
    z = torch.where(z.abs() > threshold, z, torch.zeros(()).to(z))
    estimates = (z @ vt + mean).reshape(*grid, *patches.shape[2:])
    total, count = torch.zeros_like(image), torch.zeros_like(image)
    for i in range(patch_size):
        for j in range(patch_size):
            total[:, i:i + grid[0], j:j + grid[1]] += estimates[..., i, j].permute(2, 0, 1)
            count[:, i:i + grid[0], j:j + grid[1]] += 1
    return total / count


def _attention_loop(query, key, value, h):
    rows = []
    for q in query:
        s = -(q - key).pow(2).sum(1) / h ** 2
        w = (s - s.max()).exp()
        rows.append((w[:, None] * value).sum(0) / w.sum())
    return torch.stack(rows)


def _means_of_the_library(image, patch_size, window_size, h, sigma):
    return filtering.nonlocal_means(image, patch_size=patch_size, window_size=window_size, h=h, sigma=sigma)


def _guided_channel_by_channel(image, guide, radius, eps):
    return torch.cat([filtering.guided_filter(channel[None], guide=guide, radius=radius, eps=eps) for channel in image])


def _cross_of_the_library(image, guide, sigma_space, sigma_color, radius):
    return filtering.cross_bilateral_filter(image, guide=guide, sigma_space=sigma_space, sigma_color=sigma_color, radius=radius)


UNUSUAL_BUT_RIGHT = {
    "gaussian_filter": [_gaussian_fft],
    "box_filter": [_box_loop, _box_convolution, _box_numpy],
    "bilateral_filter": [_bilateral_pixel_by_pixel],
    "cross_bilateral_filter": [_cross_of_the_library],
    "guided_filter": [_guided_channel_by_channel],
    "rolling_guidance_filter": [_rolling_with_own_first_pass],
    "nonlocal_means": [_means_of_the_library],
    "pca_filter": [_pca_svd],
    "nonlocal_attention": [_attention_loop],
}
CHANGES_NOTHING = {}        # these answers are functions of a picture, and every chapter's test gives the picture back


# --- answers that once slipped through, or broke a check ------------------------------------------------------------

def _softmax_with_a_guard(query, key, value, h):
    w = torch.exp(-(query[:, None] - key[None]).square().sum(-1) / h ** 2)
    return w / (w.sum(1, keepdim=True) + 1e-12) @ value


def _distance_by_a_root(query, key, value, h):
    distance = (query[:, None] - key[None]).square().sum(-1).sqrt()
    return torch.softmax(-distance ** 2 / h ** 2, dim=1) @ value


def _box_2r_guarded(image, radius):
    if radius == 0:
        return image.clone()
    rows, columns = (torch.arange(side) for side in image.shape[-2:])
    table = F.pad(image.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    top, bottom = (rows - radius).clamp(min=0), (rows + radius).clamp(max=len(rows))
    left, right = (columns - radius).clamp(min=0), (columns + radius).clamp(max=len(columns))
    total = table[:, bottom][:, :, right] - table[:, top][:, :, right] - table[:, bottom][:, :, left] + table[:, top][:, :, left]
    return (total / ((bottom - top)[:, None] * (right - left)[None]).clamp(min=1)).to(image.dtype)


@pytest.mark.parametrize("name, answer", [
    ("nonlocal_attention", _softmax_with_a_guard), ("nonlocal_attention", _distance_by_a_root), ("box_filter", _box_2r_guarded),
    ("pca_filter", lambda image, n, t: solutions.solution("filtering", "pca_filter")(image, n, t).clamp(0, 1)),
    ("guided_filter", lambda image, guide, r, eps: filtering.guided_filter(image, guide=guide, radius=r, eps=eps).clamp(0, 1))])
def test_a_wrong_answer_is_rejected_in_words(name, answer):
    verdict = EXERCISES[name](answer)
    assert verdict.outcome == "wrong" and verdict.diagnosis and "Traceback" not in repr(verdict)


def test_an_answer_that_fails_on_one_input_is_still_recognised_by_the_others():
    def mirrored(image, sigma, radius):
        if radius >= min(image.shape[-2:]):
            raise RuntimeError("Padding size should be less than the corresponding input dimension")
        return filtering.gaussian_filter(image, sigma=sigma, radius=radius, border="reflect")
    assert EXERCISES["gaussian_filter"](mirrored).mistake == "border_mirrored"


def test_float32_on_the_way_of_a_float64_input_is_called_by_its_name():
    answer = lambda image, s, h, r: filtering.bilateral_filter(image.float(), sigma_space=s, sigma_color=h, radius=r).to(image.dtype)
    assert "Something on the way was computed in float32" in repr(EXERCISES["bilateral_filter"](answer))
