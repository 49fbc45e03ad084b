"""What is particular to the checks of chapter 2; `test_checks_chapters.py` holds what all chapters have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import cuda, njit, prange

from labkit import checks, patches
from tests import solutions
from tests.inputs.patchmatch import distances
from tests.judging import judged

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EXERCISES = checks.exercises("patchmatch")


def test_there_are_nine_exercises_in_the_order_of_the_chapter():
    assert list(EXERCISES) == ["patch_distance", "exhaustive_search", "propagate", "random_search", "patchmatch", "reconstruct",
                               "jump_flood", "parallel_jump_flood", "cuda_distance"]


@njit
def _unchanged(image, exemplar, nnf, distance, step, patch_size):
    return nnf.copy(), distance.copy()


@cuda.jit
def _untouched(image, exemplar, nnf, patch_size, out):
    pass


def _match_kept(image, exemplar, nnf, distance, position, direction, n):
    return *nnf[:, position[0], position[1]].tolist(), float(distance[position])


def _nothing_found(image, exemplar, position, match, distance, numbers, n):
    return *match, distance


def _start_kept(image, exemplar, start, numbers, n):
    return start.clone(), distances(image, exemplar, start, n)


def _field_kept(image, exemplar, nnf, distance, step, n):
    return nnf.clone(), distance.clone()


CHANGES_NOTHING = {
    "propagate": [_match_kept],
    "random_search": [_nothing_found],
    "patchmatch": [_start_kept],
    "jump_flood": [_field_kept],
    "parallel_jump_flood": [_unchanged],
    "cuda_distance": [_untouched],
}


# --- unusual but right ----------------------------------------------------------------------------------------------

def _distance_by_norms(image, exemplar, position, match, n):
    p, q = (x.narrow(1, at[0], n).narrow(2, at[1], n).flatten().double() for x, at in ((image, position), (exemplar, match)))
    return float(p @ p - 2 * p @ q + q @ q)


def _search_by_cdist(image, exemplar, n):
    p, q = (patches.extract_patches(x, patch_size=n) for x in (image, exemplar))
    distance, index = (torch.cdist(p, q, compute_mode="donot_use_mm_for_euclid_dist") ** 2).min(1)
    rows, columns = image.shape[1] - n + 1, image.shape[2] - n + 1
    width = exemplar.shape[2] - n + 1
    return torch.stack([index // width, index % width]).int().view(2, rows, columns), distance.view(rows, columns)


def _search_by_matrix_product(image, exemplar, n):
    p, q = (F.unfold(x[None], n)[0].T for x in (image, exemplar))
    distance, index = patches.squared_distances(p, q).min(1)
    width = exemplar.shape[2] - n + 1
    nnf = torch.tensor([[int(k) // width, int(k) % width] for k in index], dtype=torch.int32).T
    sizes = image.shape[1] - n + 1, image.shape[2] - n + 1
    return nnf.reshape(2, *sizes), distance.reshape(sizes)


def _propagate_all_at_once(image, exemplar, nnf, distance, position, direction, n):
    tried = [[float(distance[position]), *nnf[:, position[0], position[1]].tolist()]]
    padded = F.pad(nnf, (1, 1, 1, 1), value=-100)
    for down, right in ((-direction, 0), (0, -direction)):
        r, c = padded[:, position[0] + 1 + down, position[1] + 1 + right] - torch.tensor([down, right])
        if 0 <= r <= exemplar.shape[1] - n and 0 <= c <= exemplar.shape[2] - n:
            p = image[:, position[0]:position[0] + n, position[1]:position[1] + n]
            tried.append([float(F.mse_loss(p, exemplar[:, r:r + n, c:c + n], reduction="sum")), int(r), int(c)])
    best = min(tried)
    return [torch.tensor(best[1]), best[2], torch.tensor(best[0], dtype=torch.float64)]


def _search_all_at_once(image, exemplar, position, match, distance, numbers, n):
    radius = max(exemplar.shape[1:]) * 0.5 ** torch.arange(len(numbers), dtype=numbers.dtype)
    last = torch.tensor(exemplar.shape[1:]) - n
    candidates = (torch.tensor(match) + torch.round(radius[:, None] * numbers).long()).clamp(min=0).minimum(last).tolist()
    p = image[:, position[0]:position[0] + n, position[1]:position[1] + n]
    found = [(float((p - exemplar[:, r:r + n, c:c + n]).square().sum()), (r, c)) for r, c in candidates]
    best = min([(distance, match), *found], key=lambda each: each[0])
    return *best[1], best[0]


def _loop_of_the_pieces(image, exemplar, start, numbers, n):
    propagate, search = (solutions.solution("patchmatch", name) for name in ("propagate", "random_search"))
    nnf, distance = start.clone(), distances(image, exemplar, start, n)
    for t in range(len(numbers)):
        direction = (-1) ** t
        order = [(i, j) for i in range(nnf.shape[1]) for j in range(nnf.shape[2])]
        for i, j in order if direction > 0 else reversed(order):
            *match, best = propagate(image, exemplar, nnf, distance, (i, j), direction, n)
            *match, best = search(image, exemplar, (i, j), match, best, numbers[t, i, j], n)
            nnf[:, i, j], distance[i, j] = torch.tensor(match), best
    return nnf, distance


def _loop_down_the_columns(image, exemplar, start, numbers, n):
    """The neighbours that a patch reads are finished in this order, too: the result is the same."""
    turned = _loop_of_the_pieces(image.mT, exemplar.mT, start.mT.flip(0), numbers.transpose(1, 2).flip(-1), n)
    return turned[0].flip(0).mT.contiguous(), turned[1].mT.contiguous()


def _vote_by_fold(nnf, exemplar, n):
    index = nnf.long()
    matched = F.unfold(exemplar[None], n)[0][:, (index[0] * (exemplar.shape[2] - n + 1) + index[1]).flatten()]
    size = nnf.shape[1] + n - 1, nnf.shape[2] + n - 1
    return F.fold(matched, size, n) / F.fold(torch.ones_like(matched), size, n)[:1]


def _flood_patch_by_patch(image, exemplar, nnf, distance, step, n):
    best, least = nnf.clone(), distance.clone()
    for i in range(nnf.shape[1]):
        for j in range(nnf.shape[2]):
            for a, b in ((0, step), (0, -step), (step, 0), (-step, 0)):
                if 0 <= i + a < nnf.shape[1] and 0 <= j + b < nnf.shape[2]:
                    r, c = int(nnf[0, i + a, j + b]) - a, int(nnf[1, i + a, j + b]) - b
                    if 0 <= r <= exemplar.shape[1] - n and 0 <= c <= exemplar.shape[2] - n:
                        d = (image[:, i:i + n, j:j + n] - exemplar[:, r:r + n, c:c + n]).square().sum()
                        if d <= least[i, j]:
                            best[0, i, j], best[1, i, j], least[i, j] = r, c, d
    return best, least


@njit(parallel=True)
def _flood_in_numba(image, exemplar, nnf, distance, step, n):
    """One running number for all patches, and slices instead of the inner loops."""
    rows, columns = distance.shape
    best, least = np.empty_like(nnf), np.empty_like(distance)
    for patch in prange(rows * columns):
        i, j = patch // columns, patch % columns
        best[0, i, j], best[1, i, j], least[i, j] = nnf[0, i, j], nnf[1, i, j], distance[i, j]
        for k in range(4):
            a, b = (step * (1 - 2 * (k % 2)), 0) if k < 2 else (0, step * (1 - 2 * (k % 2)))
            if 0 <= i + a < rows and 0 <= j + b < columns:
                r, c = nnf[0, i + a, j + b] - a, nnf[1, i + a, j + b] - b
                if 0 <= r <= exemplar.shape[1] - n and 0 <= c <= exemplar.shape[2] - n:
                    d = np.sum((image[:, i:i + n, j:j + n] - exemplar[:, r:r + n, c:c + n]) ** 2)
                    if d < least[i, j]:
                        best[0, i, j], best[1, i, j], least[i, j] = r, c, d
    return best, least


@cuda.jit
def _distance_by_hand(image, exemplar, nnf, n, out):
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    if x >= out.shape[1] or y >= out.shape[0]:
        return
    out[y, x] = 0
    for a in range(n):
        for b in range(n):
            for channel in range(image.shape[0]):
                out[y, x] += (image[channel, y + a, x + b] - exemplar[channel, nnf[0, y, x] + a, nnf[1, y, x] + b]) ** 2


@cuda.jit
def _distance_by_strides(image, exemplar, nnf, n, out):
    x, y = cuda.grid(2)
    width, height = cuda.gridsize(2)
    for row in range(y, out.shape[0], height):
        for column in range(x, out.shape[1], width):
            total = 0.0
            for channel in range(image.shape[0]):
                for pixel in range(n * n):
                    a, b = pixel // n, pixel % n
                    d = image[channel, row + a, column + b] - exemplar[channel, nnf[0, row, column] + a, nnf[1, row, column] + b]
                    total += d * d
            out[row, column] = total


UNUSUAL_BUT_RIGHT = {
    "patch_distance": [_distance_by_norms],
    "exhaustive_search": [_search_by_cdist, _search_by_matrix_product],
    "propagate": [_propagate_all_at_once],
    "random_search": [_search_all_at_once],
    "patchmatch": [_loop_of_the_pieces, _loop_down_the_columns],
    "reconstruct": [_vote_by_fold],
    "jump_flood": [_flood_patch_by_patch],
    "parallel_jump_flood": [_flood_in_numba],
    "cuda_distance": [_distance_by_hand, _distance_by_strides],
}


# --- kernels --------------------------------------------------------------------------------------------------------

def test_a_function_that_is_not_compiled_is_told_what_is_missing():
    verdict = EXERCISES["parallel_jump_flood"](_flood_in_numba.py_func)
    assert verdict.outcome == "wrong" and "@njit above its def" in repr(verdict)
    verdict = EXERCISES["cuda_distance"](lambda *arguments: None)
    assert verdict.outcome == "wrong" and "@cuda.jit above its def" in repr(verdict)


@njit(parallel=True)
def _flood_in_place(image, exemplar, nnf, distance, step, n):
    rows, columns = distance.shape
    for i in prange(rows):
        for j in range(columns):
            for a, b in ((-step, 0), (step, 0), (0, -step), (0, step)):
                if 0 <= i + a < rows and 0 <= j + b < columns:
                    r, c = nnf[0, i + a, j + b] - a, nnf[1, i + a, j + b] - b
                    if 0 <= r <= exemplar.shape[1] - n and 0 <= c <= exemplar.shape[2] - n:
                        d = np.sum((image[:, i:i + n, j:j + n] - exemplar[:, r:r + n, c:c + n]) ** 2)
                        if d < distance[i, j]:
                            nnf[0, i, j], nnf[1, i, j], distance[i, j] = r, c, d
    return nnf, distance


def test_a_kernel_that_races_is_rejected_whatever_its_threads_did():
    for seed in range(5):
        verdict = judged(EXERCISES["parallel_jump_flood"], _flood_in_place, seed=seed)
        assert not verdict.passed and not verdict.properties[0].passed      # one row, one thread: nothing there is left to chance
        assert "row" in verdict.properties[0].sentence


def test_a_cuda_kernel_without_a_guard_is_named():
    @cuda.jit
    def unguarded(image, exemplar, nnf, n, out):
        column, row = cuda.grid(2)
        total = 0.0
        for channel in range(image.shape[0]):
            for a in range(n):
                for b in range(n):
                    d = image[channel, row + a, column + b] - exemplar[channel, nnf[0, row, column] + a, nnf[1, row, column] + b]
                    total += d * d
        out[row, column] = total

    if torch.cuda.is_available():
        pytest.skip("on a GPU this kernel writes out of bounds")
    verdict = EXERCISES["cuda_distance"](unguarded)
    assert verdict.mistake == "no_guard", repr(verdict)
    assert verdict.earned == 1


def test_the_cuda_check_judges_without_a_word_about_the_simulator(monkeypatch):
    """A grader compares in a process where nobody has chosen the simulator yet."""
    import subprocess
    import sys

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    code = ("from labkit.checks import exercises\n"
            "check = exercises('patchmatch')['cuda_distance']\n"
            "print(check(check.mistakes['indices_swapped'].variant).mistake)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "indices_swapped", done.stderr


# the notebook filters numba's own warning, which says the same in words that are not for beginners
@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")
def test_a_kernel_without_a_parallel_loop_is_told_so():
    source = solutions.source("patchmatch", "parallel_jump_flood").replace("in prange(", "in range(")
    verdict = EXERCISES["parallel_jump_flood"](solutions.define("patchmatch", source, "parallel_jump_flood"))
    assert not verdict.passed and "prange" in " ".join(verdict.diagnosis)
    assert verdict.earned >= 0.8 * verdict.points       # its values are right
