"""Threads: how they wait for each other, that kernels leave torch its number of them, and what a forked process gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import doctor, openmp
from labkit.grading import isolation

ROOT = Path(__file__).resolve().parents[1]
WAITING = ("OMP_WAIT_POLICY", *openmp.SHORT_SPIN)
IN_FORCE = ("GOMP_SPINCOUNT = '3000'", "KMP_BLOCKTIME='1'")  # as GNU's and LLVM's OpenMP say it
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")


def python(code: str, *, program: str | Path = sys.executable, **environment: str) -> subprocess.CompletedProcess:
    """Run a program in a Python whose environment says nothing of how threads wait but what is given.

    This Python may have labkit's file, which sets it at every start: that is taken back first.
    """
    kept = {name: value for name, value in os.environ.items() if name not in WAITING} | {"PYTHONPATH": str(ROOT)}
    if program == sys.executable:
        unsaid = [name for name in WAITING if name not in environment]
        code = f"import os\nfor name in {unsaid}: os.environ.pop(name, None)\n{code}"
    done = subprocess.run(
        [program, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT, env=kept | environment
    )
    assert done.returncode == 0, done.stderr
    return done


# --- how they wait --------------------------------------------------------------------------------------------------


def test_openmp_itself_says_that_the_short_spin_is_in_force_when_labkit_is_imported_first():
    said = python("import labkit, torch", OMP_DISPLAY_ENV="verbose").stderr
    assert any(line in said for line in IN_FORCE), said


def test_what_the_environment_says_stays():
    code = f"import os, labkit; print([os.environ.get(name) for name in {WAITING}])"
    assert python(code).stdout.strip() == str([None, *openmp.SHORT_SPIN.values()])
    assert python(code, GOMP_SPINCOUNT="77").stdout.strip() == "[None, '77', '1']"
    assert python(code, OMP_WAIT_POLICY="passive").stdout.strip() == "['passive', None, None]"


def test_every_start_of_an_environments_python_sets_it(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    program = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = python("import sysconfig; print(sysconfig.get_path('purelib'))", program=program).stdout.strip()
    assert openmp.set_at_every_start(site) == Path(site, openmp.START_FILE)
    assert len(Path(site, openmp.START_FILE).read_text().splitlines()) == 1
    code = f"import os, sys; print([os.environ.get(name) for name in {WAITING}], 'labkit' in sys.modules)"
    assert python(code, program=program).stdout.strip() == f"{[None, *openmp.SHORT_SPIN.values()]} False"
    assert python(code, program=program, OMP_WAIT_POLICY="active").stdout.strip() == "['active', None, None] False"


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_and_what_it_starts_have_it():
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    ask = lambda *arguments, **more: subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, env=environment | more
    ).stdout.splitlines()
    show = ("--no-print-directory", "--eval=show: ; @env", "show")
    assert {f"{name}={value}" for name, value in openmp.SHORT_SPIN.items()} <= set(ask(*show))
    assert "GOMP_SPINCOUNT=77" in ask(*show, GOMP_SPINCOUNT="77")
    assert not any(line.startswith("GOMP_SPINCOUNT") for line in ask(*show, OMP_WAIT_POLICY="passive"))


def test_tests_and_the_graders_workers_have_it(tmp_path):
    assert not openmp._too_late, "torch was imported before labkit; tests/conftest.py is to import labkit first"
    assert openmp.SHORT_SPIN.items() <= isolation._environment(tmp_path, tmp_path, bubblewrap=False).items()


def test_doctor_says_what_is_wrong_when_it_is_not_in_force(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for name, value in openmp.SHORT_SPIN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(openmp, "_too_late", False)
    monkeypatch.setattr(openmp.sysconfig, "get_path", lambda _: tmp_path)
    without = doctor._threads()
    assert (
        without.state == doctor.MISSING
        and "imports torch first" in without.detail
        and "set_at_every_start()" in without.remedy
    )
    openmp.set_at_every_start()
    assert doctor._threads().state == doctor.OK

    monkeypatch.setattr(openmp, "_too_late", True)
    assert "torch was imported before labkit" in doctor._threads().detail
    monkeypatch.setenv("GOMP_SPINCOUNT", "30000000")
    assert (
        doctor._threads().detail.startswith("GOMP_SPINCOUNT is 30000000 in the environment")
        and doctor._threads().remedy == "unset GOMP_SPINCOUNT"
    )
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert (
        doctor._threads().detail.startswith("OMP_WAIT_POLICY is active") and doctor._threads().state == doctor.MISSING
    )


def test_it_is_seen_that_torch_came_first():
    code = "import {}, {}; from labkit import openmp; print(openmp.trouble())"
    assert "torch was imported before labkit" in python(code.format("torch", "labkit")).stdout
    assert "torch was imported before labkit" not in python(code.format("labkit", "torch")).stdout


# --- kernels leave torch its threads ----------------------------------------------------------------------------------


def test_a_kernel_leaves_torch_the_number_of_threads_that_it_had():
    code = (
        "import torch, numba\nfrom labkit.filtering import box_filter\ntorch.set_num_threads(2)\n"
        "for _ in range(2): box_filter(torch.rand(3, 40, 40), radius=2)\nprint(torch.get_num_threads(), numba.get_num_threads())"
    )
    assert python(code, NUMBA_NUM_THREADS="3").stdout.split() == ["2", "3"]


# --- forks ------------------------------------------------------------------------------------------------------------

FORK = """
import multiprocessing, threading
import torch
from labkit import images, kernels
from labkit.filtering import box_filter

def answer(picture):
    return box_filter(picture, radius=2)

def many_threads():
    return (torch.rand(600, 600) @ torch.rand(600, 600)).exp().sum()

def child(picture):
    many_threads()
    return answer(picture).tolist()

if __name__ == "__main__":
    torch.set_num_threads(2)
    picture = torch.rand(3, 20, 20)
    {before}
    with multiprocessing.get_context("fork").Pool(2) as pool:
        try:
            found = pool.map_async(child, [picture, picture]).get(timeout=200)
        except RuntimeError as error:
            print("RuntimeError", error)
        else:
            print([torch.equal(torch.tensor(one), answer(picture)) for one in found])
"""


@FORKS
@pytest.mark.parametrize(
    "before",
    [
        "pass",
        "many_threads()",
        "kernels._one_at_a_time.acquire()\n    threading.Timer(5, kernels._one_at_a_time.release).start()",
    ],
    ids=["nothing", "torch's threads ran", "another thread is in a kernel"],
)
def test_a_forked_process_computes_before_its_parents_kernels_have_run(before):
    assert python(FORK.format(before=before)).stdout.strip() == "[True, True]"


@FORKS
def test_after_they_have_run_it_is_told_how_to_start_instead_of_waiting_for_ever():
    said = python(FORK.format(before="answer(picture)")).stdout
    assert said.strip() == "[True, True]" or said.startswith(
        "RuntimeError labkit's kernels cannot run in this process: it was made by fork"
    )


@FORKS
def test_what_needs_torch_alone_goes_on_in_a_forked_process_also_then():
    code = (
        "import torch\nfrom labkit import metrics\nfrom labkit.filtering import box_filter\nimport multiprocessing\n"
        "def child(_):\n    return torch.get_num_threads(), float(metrics.ssim(*torch.ones(2, 3, 300, 300)))\n"
        "if __name__ == '__main__':\n    torch.set_num_threads(2)\n    child(0)\n    box_filter(torch.rand(3, 40, 40), radius=2)\n"
        "    with multiprocessing.get_context('fork').Pool(1) as pool:\n        print(pool.map_async(child, [0]).get(timeout=200))"
    )
    assert python(code).stdout.strip() == "[(1, 1.0)]"


# --- kernels as plain Python ------------------------------------------------------------------------------------------

KERNELS = """
import warnings
import torch
from labkit import filtering, patchmatch, texture_optimization
warnings.simplefilter("error")

def results(u, v, **method):
    yield filtering.gaussian_filter(u, sigma=1.0, **method)
    yield filtering.box_filter(u, radius=2, **method)
    yield filtering.guided_filter(u, guide=v, radius=2, eps=0.01, **method)
    yield filtering.bilateral_filter(u, sigma_space=1.0, sigma_color=0.2, radius=2, **method)
    yield filtering.nonlocal_means(u[:, :8, :8], patch_size=3, window_size=5, h=0.3, **method)
    yield texture_optimization.efros_leung(u[:, :8, :8], size=(9, 9), patch_size=5, **method)
    for schedule in ("sequential", "jump_flooding", "red_black"):
        match = patchmatch.patchmatch(u, v, patch_size=3, iterations=1, schedule=schedule, **method)
        yield match.distance
        yield patchmatch.reconstruct(match.nnf, v, patch_size=3, **method)

for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
    u, v = torch.rand(2, 3, 10, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    for number, (kernel, reference) in enumerate(zip(results(u, v), results(u, v, method="reference"), strict=True)):
        print(number, kernel.dtype == dtype, bool((kernel - reference).abs().max() < tolerance))
"""


def test_kernels_run_as_plain_python_with_the_compiler_switched_off():
    said = python(KERNELS, NUMBA_DISABLE_JIT="1", TQDM_DISABLE="1").stdout.splitlines()
    assert said == [f"{number} True True" for number in range(12)] * 2
