"""Profiles, seeds and progress; and what importing labkit costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from labkit import runtime


def test_the_profile_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("LABKIT_PROFILE", "quick")
    assert runtime.profile() == "quick" and runtime.choose({"quick": 1, "laptop": 2, "gpu": 3}) == 1
    assert "quick" in runtime.summary()
    monkeypatch.setenv("LABKIT_PROFILE", "fast")
    with pytest.raises(ValueError, match="LABKIT_PROFILE is 'fast'; expected one of 'quick', 'laptop', 'gpu'"):
        runtime.profile()


def test_without_it_the_machine_decides(monkeypatch):
    monkeypatch.delenv("LABKIT_PROFILE", raising=False)
    assert runtime.profile() == ("gpu" if torch.cuda.is_available() else "laptop")


def test_a_table_of_sizes_has_to_be_complete():
    with pytest.raises(ValueError, match="no entry for laptop, gpu"):
        runtime.choose({"quick": 1})


def test_the_same_seed_gives_the_same_numbers():
    draw = lambda seed: torch.rand(3, generator=runtime.generator(seed))
    assert torch.equal(draw(5), draw(5)) and not torch.equal(draw(5), draw(6))
    with pytest.raises(ValueError, match="seed is -1"):
        runtime.generator(-1)


def test_seeds_made_of_other_numbers_or_another_order_differ():
    seeds = {runtime.seed_of(*numbers) for numbers in [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (2 ** 63, 5)]}
    assert len(seeds) == 9 and all(0 <= seed < 2 ** 63 for seed in seeds)
    runtime.generator(max(seeds))


def test_progress_goes_through_everything():
    assert list(runtime.progress(range(3))) == [0, 1, 2]


def test_importing_labkit_brings_in_nothing_heavy():
    code = "import sys, labkit; print([m for m in ('torchvision', 'jupyterlab', 'nbgrader', 'numba', 'skimage', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_module_is_loaded_when_it_is_first_named():
    import labkit

    assert labkit.images.load and "filtering" in dir(labkit)
    with pytest.raises(AttributeError, match="labkit has no module 'nothing'"):
        assert labkit.nothing
