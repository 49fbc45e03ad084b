"""The compiled searches beside their references, and the CUDA ones, on numba's simulator, beside those of the CPU.

Where values are multiples of 1/16, all sums of differences and squares here are exact in float32, in any order: then
every search has to find the same matches to the bit, on any machine, ties included.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import kernels
from labkit.kernels.patchmatch_cpu import TILE
from labkit.patchmatch import TRANSFORMS, fields, iterate, nnf_distance, patchmatch, reconstruct, voting
from labkit.patchmatch.matching import Matching, random_field
from labkit.patchmatch.reference import SCHEDULES
from labkit.runtime import generator
from tests.pictures import random_image, sixteenths

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# The simulator does the arithmetic of the random numbers with NumPy's numbers, which warn when 64 bits overflow. To wrap
# around is what is wanted there.
WRAPS_AROUND = "ignore:overflow encountered:RuntimeWarning"

simulated = pytest.mark.skipif(not kernels.simulated(), reason="needs numba's simulator, and there is a GPU")


# name -> (size of the image (T, H, W, C), of the exemplar (S, h, w, C), depth and side of a patch)
SIZES = {
    "picture": ((1, 8, 9, 3), (1, 7, 10, 3), 1, 3),
    "one patch of one pixel": ((1, 1, 1, 1), (1, 2, 2, 1), 1, 1),
    "one patch": ((1, 3, 3, 2), (1, 4, 3, 2), 1, 3),
    "two patches of many channels": ((1, 2, 3, 17), (1, 3, 5, 17), 1, 2),
    "a single row": ((1, 1, 14, 1), (1, 1, 9, 1), 1, 1),
    "sheets": ((1, 7, 6, 2), (3, 6, 6, 2), 1, 2),
    "video": ((4, 6, 5, 2), (5, 5, 7, 2), 2, 3),
}


def make_matching(name: str, *, masked: bool = False, priced: bool = False, absolute: bool = False,
                  dtype: torch.dtype = torch.float32, seed: int = 0) -> Matching:
    """A search between pictures of sixteenths; `masked` weighs pixels and leaves patches of both out."""
    of_image, of_exemplar, depth, side = SIZES[name]
    starts = [(sizes[0] - depth + 1, sizes[1] - side + 1, sizes[2] - side + 1) for sizes in (of_image, of_exemplar)]
    active, valid = (torch.ones(start, dtype=torch.bool) for start in starts)
    weights = prices = None
    if masked:
        weights = (torch.randint(3, of_image, generator=generator(seed + 2)) / 2).to(dtype)
        active, valid = (torch.rand(start, generator=generator(seed + 3)) < 0.8 for start in starts)
        valid.view(-1)[:3] = active.view(-1)[:1] = True
    if priced:      # gains of 1/2, 1 and 2, biases of eighths from -1 to 1: as exact as all else
        gain = 2.0 ** torch.randint(-1, 2, starts[1], generator=generator(seed + 4))
        prices = torch.stack([gain, 2 * sixteenths(*starts[1], seed=seed + 5) - 1]).to(dtype)
    return Matching(sixteenths(*of_image, seed=seed, dtype=dtype), sixteenths(*of_exemplar, seed=seed + 1, dtype=dtype),
                    valid, active, depth, side, absolute=absolute, weights=weights, prices=prices)


def steps(matching: Matching, schedule: str, *, k: int = 1, iterations: int = 2, seed: int = 0) -> list[tuple]:
    """Field and distances of the start and after each iteration."""
    field = random_field(matching, k=k, seed=seed)
    return [(field.clone(), distance.clone()) for field, distance in
            iterate.iterate(matching, field, schedule=schedule, iterations=iterations, seed=seed)]


def assert_same(found: list[tuple], expected: list[tuple]) -> None:
    for (field, distance), (other_field, other_distance) in zip(found, expected, strict=True):
        assert torch.equal(distance, other_distance)
        assert torch.equal(field, other_field)


# --- reference and CPU ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("k, absolute", [(1, False), (3, True)], ids=["nearest by l2", "three nearest by l1"])
@pytest.mark.parametrize("masked, priced", [(False, False), (True, False), (False, True)], ids=["plain", "masked", "priced"])
@pytest.mark.parametrize("name", [name for name in SIZES if name != "one patch"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_kernel_takes_every_step_of_its_reference(schedule, name, masked, priced, k, absolute):
    matching = make_matching(name, masked=masked, priced=priced, absolute=absolute)
    expected = steps(replace(matching, method="reference"), schedule, k=k)
    assert_same(steps(matching, schedule, k=k), expected)
    if matching.active.numel() > 30:
        assert (expected[-1][0] != expected[0][0]).float().mean() > 0.1         # and there were steps to take


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_so_it_does_in_double_precision(schedule):
    matching = make_matching("picture", dtype=torch.float64)
    found = steps(matching, schedule, k=2)
    assert found[-1][1].dtype == torch.float64
    assert_same(found, steps(replace(matching, method="reference"), schedule, k=2))


@pytest.mark.parametrize("options", [{"metric": "lab"}, {"metric": "gradient"}, {"transforms": TRANSFORMS, "k": 2},
                                     {"metric": "gradient", "transforms": ("rotate_270", "flip"), "image_mask": True}],
                         ids=["lab", "gradient", "transforms", "all at once"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_kernels_agree_with_references_on_any_numbers(schedule, options):
    image, exemplar = random_image(3, 8, 9), random_image(3, 9, 7, seed=1)
    if "image_mask" in options:
        options = options | {"image_mask": torch.rand((1, 8, 9), generator=generator(2)) < 0.2}
    found, expected = (patchmatch(image, exemplar, patch_size=3, iterations=2, schedule=schedule, method=method, **options)
                       for method in ("kernel", "reference"))
    # Sums of 45 float32 terms below 5, in another order. Of some thousand comparisons none here is nearer than that, so
    # the matches are the same ones, too.
    torch.testing.assert_close(found.distance, expected.distance, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.nnf, expected.nnf)
    assert (found.transform is None) == ("transforms" not in options)
    if found.transform is not None:
        assert torch.equal(found.transform, expected.transform)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_kernels_are_their_references_for_every_size(data):
    n, depth = data.draw(st.integers(1, 4), label="side"), data.draw(st.integers(1, 2), label="depth")
    frames, sheets = (depth + data.draw(st.integers(0, 1)) for _ in range(2))
    height, width, rows, columns = (n + data.draw(st.integers(0, 4)) for _ in range(4))
    channels = data.draw(st.sampled_from([1, 2, 3, 5, 16]), label="channels")
    places = (sheets - depth + 1) * (rows - n + 1) * (columns - n + 1)
    k, schedule = data.draw(st.integers(1, min(3, places)), label="k"), data.draw(st.sampled_from(SCHEDULES))
    matching = Matching(sixteenths(frames, height, width, channels), sixteenths(sheets, rows, columns, channels, seed=1),
                        torch.ones(sheets - depth + 1, rows - n + 1, columns - n + 1, dtype=torch.bool),
                        torch.ones(frames - depth + 1, height - n + 1, width - n + 1, dtype=torch.bool),
                        depth, n, data.draw(st.booleans(), label="l1"))
    seed = data.draw(st.integers(0, 2 ** 62), label="seed")
    assert_same(steps(matching, schedule, k=k, seed=seed),
                steps(replace(matching, method="reference"), schedule, k=k, seed=seed))


def test_the_scan_in_tiles_is_the_scan_patch_after_patch():
    # two tiles by two, most of them cut off, and patches of one pixel: a match travels through all of them
    height, width = TILE + 1, TILE + 3
    matching = Matching(sixteenths(1, height, width, 3), sixteenths(1, 3, 4, 3, seed=1), torch.ones(1, 3, 4, dtype=torch.bool),
                        torch.ones(1, height, width, dtype=torch.bool), 1, 1)
    assert_same(steps(matching, "sequential"), steps(replace(matching, method="reference"), "sequential"))


def test_early_termination_changes_nothing():
    """Candidates far away are given up after a row; what is kept has whole sums nevertheless."""
    for matching in (make_matching("picture"), make_matching("video", masked=True), make_matching("picture", priced=True)):
        for schedule in SCHEDULES:
            for field, distance in steps(matching, schedule, k=3):
                assert torch.equal(iterate.distances(matching, field), distance)


def test_where_no_match_is_wanted_nothing_happens():
    matching = make_matching("picture", masked=True)
    for schedule in SCHEDULES:
        (start, _), *_, (field, distance) = steps(matching, schedule, k=2)
        assert not distance[:, ~matching.active].any()
        assert torch.equal(field[:, :, ~matching.active], start[:, :, ~matching.active])
        chosen = field[:, :, matching.active].long()
        assert matching.valid[chosen[:, 0], chosen[:, 1], chosen[:, 2]].all()


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("k", [1, 2])
def test_voting_agrees_with_its_reference(k, weighted, depth):
    exemplar = random_image(3, 6, 7, 2)
    field = fields.draw(torch.ones(4 - depth, 4, 5, dtype=torch.bool), (3, 4, 3), k=k, seed=1)
    wanted = torch.rand((2 + depth, 6, 5), generator=generator(2)) < 0.7
    weights = random_image(k, 3, 4, 3, seed=3) if weighted else None
    found, expected = (voting.vote(exemplar, field, wanted, depth=depth, side=3, weights=weights, method=method)
                       for method in ("kernel", "reference"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)      # float32 sums of 36 terms below 1, and a division
    assert found.shape == (2 + depth, 6, 5, 2) and not found[~wanted].any()


# --- threads and processes ------------------------------------------------------------------------------------------

FINGERPRINT = """
import hashlib, torch
from labkit.patchmatch import patchmatch, reconstruct
image, exemplar = (torch.rand((3, 70, 75), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
digest = hashlib.sha256()
for schedule in ("sequential", "jump_flooding", "red_black"):
    match = patchmatch(image, exemplar, patch_size=5, iterations=2, schedule=schedule, seed=3)
    for tensor in (match.nnf, match.distance, reconstruct(match.nnf, exemplar, patch_size=5)):
        digest.update(tensor.numpy().tobytes())
print(digest.hexdigest())
"""


def fingerprint(threads: int, capsys) -> str:
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        exec(FINGERPRINT, {})
    finally:
        numba.set_num_threads(before)
    return capsys.readouterr().out


def test_neither_threads_nor_the_process_change_a_bit(capsys):
    expected = fingerprint(1, capsys)
    assert len(expected.strip()) == 2 * hashlib.sha256().digest_size
    assert fingerprint(numba.config.NUMBA_NUM_THREADS, capsys) == expected
    # a process of its own may also have more threads than cores
    done = subprocess.run([sys.executable, "-W", "error", "-c", FINGERPRINT], capture_output=True, text=True, timeout=200,
                          env=os.environ | {"NUMBA_NUM_THREADS": "5", "PYTHONHASHSEED": "7"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected


# --- CUDA, on the simulator -----------------------------------------------------------------------------------------

@pytest.fixture
def on_the_simulator(monkeypatch):
    """Let the search and the votes run the CUDA twin on arrays of the CPU."""
    for module in (iterate, voting):
        monkeypatch.setattr(module, "run", functools.partial(kernels.run, twin="cuda"))


@simulated
@pytest.mark.filterwarnings(WRAPS_AROUND)
@pytest.mark.parametrize("name, k, options", [
    ("picture", 1, {}),
    ("picture", 2, {"masked": True, "absolute": True}),
    ("picture", 2, {"priced": True}),
    ("video", 1, {"masked": True}),
    ("sheets", 3, {"absolute": True, "dtype": torch.float64}),
    ("one patch", 1, {}),
])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_cuda_twin_takes_the_same_steps(schedule, name, k, options, request):
    matching = make_matching(name, **options)
    expected = steps(matching, schedule, k=k)
    request.getfixturevalue("on_the_simulator")
    assert_same(steps(matching, schedule, k=k), expected)


@simulated
@pytest.mark.filterwarnings(WRAPS_AROUND)
def test_the_cuda_twin_serves_the_public_functions(on_the_simulator, monkeypatch):
    image, exemplar = random_image(3, 7, 6), random_image(3, 6, 7, seed=1)
    mask = torch.zeros(1, 7, 6, dtype=torch.bool)
    mask[:, 2:4, 2:4] = True
    options = dict(patch_size=3, iterations=1, k=2, metric="gradient", transforms=("identity", "flip_rotate_90"), image_mask=mask)
    found = patchmatch(image, exemplar, **options)
    voted = reconstruct(found.nnf, exemplar, patch_size=3, transform=found.transform)
    monkeypatch.undo()
    expected = patchmatch(image, exemplar, **options)
    torch.testing.assert_close(found.distance, expected.distance, rtol=1e-5, atol=1e-6)     # 45 float32 terms, reordered
    assert torch.equal(found.nnf, expected.nnf) and torch.equal(found.transform, expected.transform)
    torch.testing.assert_close(voted, reconstruct(found.nnf, exemplar, patch_size=3, transform=found.transform),
                               rtol=0, atol=1e-6)


@simulated
@pytest.mark.parametrize("dtype, weighted, tolerance", [(torch.float32, False, 1e-6), (torch.float32, True, 1e-6),
                                                        (torch.float64, False, 1e-14)])
def test_the_cuda_twin_votes_alike(dtype, weighted, tolerance, request):
    exemplar = random_image(3, 5, 6, 2, dtype=dtype)
    field = fields.draw(torch.ones(2, 3, 4, dtype=torch.bool), (2, 3, 2), k=2, seed=1)
    wanted = torch.rand((3, 5, 4), generator=generator(2)) < 0.7
    weights = random_image(2, 2, 3, 2, seed=3, dtype=dtype) if weighted else None
    vote = functools.partial(voting.vote, exemplar, field, wanted, depth=2, side=3, weights=weights)
    expected = vote()
    request.getfixturevalue("on_the_simulator")
    # sums of 36 terms below 1, and a division
    torch.testing.assert_close(vote(), expected, rtol=0, atol=tolerance)


# --- CUDA, on a GPU -------------------------------------------------------------------------------------------------

@pytest.mark.cuda
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gpu_finds_the_same_matches(schedule, dtype):
    image, exemplar = sixteenths(3, 40, 47, dtype=dtype), sixteenths(3, 43, 38, seed=1, dtype=dtype)
    options = dict(patch_size=5, iterations=3, k=2, schedule=schedule)
    found, expected = patchmatch(image.cuda(), exemplar.cuda(), **options), patchmatch(image, exemplar, **options)
    assert found.nnf.is_cuda and found.distance.is_cuda
    assert torch.equal(found.nnf.cpu(), expected.nnf) and torch.equal(found.distance.cpu(), expected.distance)
    distance = nnf_distance(image.cuda(), exemplar.cuda(), found.nnf, patch_size=5)
    assert torch.equal(distance, found.distance)
    voted = reconstruct(found.nnf, exemplar.cuda(), patch_size=5)
    assert voted.is_cuda and voted.dtype == dtype
    # 50 float32 terms below 1, and a division
    torch.testing.assert_close(voted.cpu(), reconstruct(expected.nnf, exemplar, patch_size=5), rtol=0, atol=2e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("metric", ["lab", "gradient"])
def test_a_gpu_finds_matches_as_near_with_masks_and_transforms(metric):
    image, exemplar = random_image(3, 40, 47), random_image(3, 43, 38, seed=1)
    mask = torch.rand((1, 40, 47), generator=generator(2)) < 0.2
    options = dict(patch_size=5, iterations=3, metric=metric, transforms=TRANSFORMS)
    expected = patchmatch(image, exemplar, image_mask=mask, **options)
    found = patchmatch(image.cuda(), exemplar.cuda(), image_mask=mask.cuda(), **options)
    assert found.transform.is_cuda
    # roundings decide between candidates that are equally near, and the search goes on from there
    torch.testing.assert_close(found.distance.mean().cpu(), expected.distance.mean(), rtol=0.01, atol=0)
