"""The prepared run on a card, where there is none: its cases on numba's simulator, its losses, its table."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import pytest
import torch

from labkit import chapters
from tests.gpu import __main__ as command
from tests.gpu import machine, part, report
from tests.gpu.case import Aim, Case, compare, difference, milliseconds, picture, time_case

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
HOUSE = {"__init__", "__main__", "case", "machine", "part", "report"}  # what chapters share
# What a machine with a card may lack: all that labkit asks for beyond torch, numpy, numba, and what those need or these
# cases compute with.
ABSENT = (
    *("skimage", "ipywidgets", "anywidget", "nbgrader", "nbformat", "nbclient", "jupytext", "jupyterlab", "IPython"),
    *("matplotlib", "PIL", "torchvision", "typer", "joblib", "psutil", "yaml", "packaging", "pytest", "pytest_timeout"),
)

BLOCK = """
import importlib.abc, os, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in os.environ["ABSENT"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(folder: Path, *arguments: str, absent: tuple[str, ...] = ABSENT, also: str = "", seconds: float = 250):
    """The command in a process for which some packages are not installed; its own processes lack them too."""
    (folder / "sitecustomize.py").write_text(BLOCK + also, encoding="utf-8")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "ABSENT": " ".join(absent),
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.run(
        [sys.executable, "-m", "tests.gpu", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


# --- the command ------------------------------------------------------------------------------------------------------


def test_without_a_card_one_sentence_says_so(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torch sees no NVIDIA card here, so there is nothing to run.\n"


def test_without_torch_one_sentence_says_so(tmp_path):
    done = run(tmp_path, absent=("numpy",))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("numpy is not installed for ") and done.stdout.count("\n") == 1


def test_times_of_no_length_are_refused(tmp_path):
    done = run(tmp_path, "--minutes", "0")
    assert done.returncode == 2 and "--minutes is 0.0; expected a time above 0" in done.stderr


def test_a_chapter_that_is_not_there_is_refused(tmp_path):
    done = run(tmp_path, "--only", "77")
    assert done.returncode == 2 and "--only: no chapter is called '77'; expected a number or a topic" in done.stderr


@functools.cache
def simulated(topic: str) -> dict:
    """What the command writes and prints of one chapter on numba's simulator."""
    with tempfile.TemporaryDirectory() as folder:
        done = run(Path(folder), "--simulate", "--only", topic, "--out", f"{folder}/gpu.json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((Path(folder) / "gpu.json").read_text(encoding="utf-8")) | {"printed": done.stdout}


@pytest.mark.parametrize("topic", command.topics())
def test_every_case_agrees_on_the_simulator_with_little_installed(topic):
    steps = simulated(topic)["steps"]
    assert {entry["outcome"] for entry in steps} == {"agrees"} and {entry["part"] for entry in steps} == {topic}
    assert all(entry["difference"] <= entry["tolerance"] and entry["why"] for entry in steps)


@pytest.mark.parametrize("topic", command.topics())
def test_the_simulator_claims_no_times(topic):
    found = simulated(topic)
    assert found["simulated"] and found["limits"] is None and found["versions"]["torch"] and found["seconds"] > 0
    assert {entry["kind"] for entry in found["steps"]} == {"result"}


@pytest.mark.parametrize("topic", command.topics())
def test_the_table_comes_last_and_has_a_line_for_each_case(topic):
    found = simulated(topic)
    for entry in found["steps"]:
        assert sum(f"  {entry['case']}  " in line for line in found["printed"].splitlines()) == 1
    assert found["printed"].splitlines()[-1].startswith(f"{len(found['steps'])} agree, 0 differ, 0 failed, ")


def test_every_kernel_has_a_case():
    called = {name for topic in command.topics() for entry in simulated(topic)["steps"] for name in entry["kernels"]}
    for path in (ROOT / "labkit" / "kernels").glob("*_cuda.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        family = path.stem.removesuffix("_cuda")
        public = {f"{family}.{node.name}" for node in functions if node.name[0] != "_" and not node.decorator_list}
        assert public and public <= called


def test_chapters_add_themselves_by_a_file():
    files = {path.stem for path in (ROOT / "tests" / "gpu").glob("*.py")} - HOUSE
    assert files == set(command.topics()) <= {chapter.topic for chapter in chapters.CHAPTERS}


# --- what goes wrong --------------------------------------------------------------------------------------------------

MADE_UP = """
import os, signal
import torch
from tests.gpu.case import Case, LeftOut

def ends(u): os.kill(os.getpid(), signal.SIGKILL)
def refuses(u): raise RuntimeError("the kernel found no card")
def lacks(u): raise LeftOut("it needs a compiler, and there is none")
def imports(u): import a_package_of_nobody
def random(u): return u + torch.rand(1)

def cases(small):
    for call in (ends, refuses, lacks, imports, random, torch.sin):
        yield Case(call.__name__, (torch.ones(2, 3),), call, 1e-6, "one float32 function")
"""


def test_a_fault_costs_no_more_than_its_case(tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text(MADE_UP, encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text(
        f"import tests.gpu\ntests.gpu.__path__.append({str(tmp_path)!r})\n", encoding="utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    found = command._part("made_up", command._options(["--simulate"]), seconds=100)
    outcomes = {entry["case"]: entry["outcome"] for entry in found}
    why = {entry["case"]: entry["why"] for entry in found}
    assert outcomes == {
        "ends": "failed",
        "refuses": "failed",
        "lacks": "left out",
        "imports": "left out",
        "random": "differs",
        "sin": "agrees",
    }
    assert why["ends"] == "its process was ended by SIGKILL"
    assert why["refuses"] == "RuntimeError: the kernel found no card"
    assert why["lacks"] == "it needs a compiler, and there is none"
    assert why["imports"] == "it needs a_package_of_nobody, which is not installed"
    assert "in refuses" in "\n".join(next(entry["traceback"] for entry in found if entry["case"] == "refuses"))


def test_after_a_case_that_hangs_the_rest_is_said_to_be_left_out(monkeypatch):
    def process(command_: list[str], *, seconds: float) -> tuple[int | None, list[str]]:
        given = command._options(command_[3:])
        about = {"case": "box", "kind": "result"}
        if not part.read(given.journal):
            part.note(given.journal, step=0, outcome="started", **about)
            time.sleep(seconds)
            return None, ["on its way"]
        assert 60 * given.minutes < 0.1
        part.note(given.journal, step=1, outcome="left out", why="no time was left", **about)
        return 0, []

    monkeypatch.setattr(command, "_process", process)
    monkeypatch.setattr(command, "GRACE", 0.1)
    hung, rest = command._part("made_up", command._options(["--simulate"]), seconds=0.1)
    assert hung["outcome"] == "failed" and hung["traceback"] == ["on its way"]
    assert hung["why"] == "it was still running when its time was over, and was ended"
    assert rest["outcome"] == "left out" and rest["why"] == "no time was left"


def test_what_hangs_is_ended_with_all_that_it_started():
    starts_another = (
        "import subprocess, sys; print('on its way', flush=True); subprocess.run([sys.executable, '-c', 'input()'])"
    )
    code, said = command._process([sys.executable, "-c", f"{starts_another}; import time; time.sleep(600)"], seconds=3)
    assert code is None and "on its way" in said
    assert command._ending(code) == "it was still running when its time was over, and was ended"


def test_a_chapter_whose_packages_are_missing_is_left_out_with_a_sentence(tmp_path):
    absent = (*ABSENT, "scipy", "tqdm")
    journal = tmp_path / "journal"
    done = run(tmp_path, "--simulate", "--part", "texture_optimization", "--journal", str(journal), absent=absent)
    assert done.returncode == 0, done.stderr
    noted = part.read(journal)
    assert {entry["outcome"] for entry in noted} == {"left out"}
    assert {entry["why"] for entry in noted} <= {
        f"it needs {name}, which is not installed" for name in ("scipy", "tqdm")
    }


def test_when_time_is_over_the_rest_is_left_out(tmp_path):
    code = part.run("limits", device=CPU, journal=tmp_path / "journal", seconds=-1)
    (entry,) = part.read(tmp_path / "journal")
    assert code == 0 and entry["outcome"] == "left out" and entry["why"] == "no time was left"


def test_a_wrong_result_is_not_timed():
    case = Case("double", (torch.ones(3),), lambda u: 2 * u, 0, "exact")
    assert part._timed(case, CPU, {"double"})["outcome"] == "timed"
    with pytest.raises(part.LeftOut, match="its result was not right"):
        part._timed(case, CPU, set())


# --- comparing and timing ---------------------------------------------------------------------------------------------


def test_what_is_no_number_differs_infinitely():
    good = torch.zeros(3)
    assert difference(good + 0.5, good) == 0.5
    assert difference((good, torch.tensor([1.0, float("nan")])), (good, torch.ones(2))) == float("inf")
    with pytest.raises(ValueError, match=r"the card gave torch.float64 \(3,\) and the CPU torch.float32 \(3,\)"):
        difference(good.double(), good)


def test_a_case_says_how_far_it_is_from_the_cpu():
    found = compare(Case("roots", (torch.rand(5),), torch.sqrt, 1e-6, "one rounding"), CPU)
    assert found["outcome"] == "agrees" and found["difference"] == 0 and found["compared_with"] == "the CPU"
    alone = Case(
        "roots", (torch.rand(5),), torch.sqrt, 0, "", difference=lambda u, _: float((u > 0.5).sum()), alone=True
    )
    assert compare(alone, CPU)["outcome"] == "differs"


def test_times_are_set_beside_the_cpu_the_plain_version_and_the_aim():
    aim = Aim("a thousand products", 2, calls=1000)
    case = Case(
        "product", (torch.rand(50, 50),), lambda u: u @ u, 0, "", plain=torch.square, operations=2 * 50**3, aim=aim
    )
    found = time_case(case, CPU, seconds=0.01)
    assert found["device"]["least"] <= found["device"]["median"] and found["device"]["repeats"] >= 3
    assert (
        found["cpu"]["median"] > 0 and found["plain"]["median"] > 0 and found["cpu_threads"] == torch.get_num_threads()
    )
    assert found["aim"]["extrapolated_s"] == pytest.approx(
        found["device"]["median"]
    )  # a thousand times as many milliseconds


def test_the_state_of_a_case_is_made_once_and_not_timed():
    made = []

    def prepare(u: torch.Tensor) -> tuple[torch.Tensor]:
        made.append(1)
        return (u + 1,)

    time_case(Case("sum", (torch.zeros(2),), torch.sum, 0, "", prepare=prepare, alone=True), CPU, seconds=0.001)
    assert made == [1]


def test_a_call_of_some_seconds_is_not_repeated(monkeypatch):
    monkeypatch.setattr("tests.gpu.case.LONG", -1.0)
    assert milliseconds(lambda: None, CPU)["repeats"] == 1


def test_limits_are_measured_and_said():
    found = machine.limits(CPU)
    assert found["bytes_per_s"] > 1e6 and found["float32_per_s"] > 1e6 and "0.25 MiB" in found["how"]


class MadeUpKernel:
    """What numba keeps of a compiled kernel, on a machine that could not compile one."""

    regs_per_thread, local_mem_per_thread, shared_mem_per_block, max_threads_per_block = 32, 0, 2048, 1024

    def __init__(self):
        self.overloads, self.targetoptions, self.py_func = {("float32", "int64"): self}, {}, milliseconds

    def get_regs_per_thread(self) -> int:
        return self.regs_per_thread


def test_what_the_compiler_made_of_kernels_is_listed(monkeypatch):
    module = types.ModuleType("labkit.kernels.made_up_cuda")
    module.BLOCK, module.kernel = (32, 8), MadeUpKernel()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (found,) = [one for one in machine.compiled_kernels() if one["kernel"].startswith("made_up")]
    assert found["kernel"] == "made_up_cuda.milliseconds" and found["arguments"] == "('float32', 'int64')"
    assert (found["registers"], found["shared bytes"], found["threads of a block"]) == (32, 2048, 256)
    # no card tells how many fit on one of its multiprocessors, and the list says why
    assert found["occupancy"] is None and "_codelibrary" in found["occupancy is not known"]


def test_pictures_have_structures_of_all_sizes_and_exact_values():
    image = picture(3, 64, 70, steps=16)
    assert image.shape == (3, 64, 70) and 0 <= image.min() and image.max() <= 1
    assert torch.equal(16 * image, (16 * image).round()) and len(image.unique()) > 8
    assert torch.equal(image, picture(3, 64, 70, steps=16)) and not torch.equal(
        image, picture(3, 64, 70, seed=1, steps=16)
    )


# --- tests marked cuda, and the table ---------------------------------------------------------------------------------

SOME_TESTS = """
import pytest
{imports}

{mark}
def test_right(): assert True

{mark}
def test_wrong(): assert 1 == 2, "this one does not hold"

def test_without_a_mark(): assert False
"""


@pytest.mark.parametrize(
    "imports, outcome, why",
    [
        ("", "failed", "1 passed, 1 failed, 0 skipped"),
        (
            "import a_package_of_nobody",
            "left out",
            "0 passed, 0 failed, 0 skipped; others need a_package_of_nobody, which is not installed",
        ),
        ("import labkit.nothing", "failed", "0 passed, 1 failed, 0 skipped"),
    ],
)
def test_marked_tests_run_without_plugins(tmp_path, monkeypatch, imports, outcome, why):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        SOME_TESTS.format(imports=imports, mark="@pytest.mark.cuda"), encoding="utf-8"
    )
    (tmp_path / "tests" / "test_others.py").write_text("def test_other(): assert False\n", encoding="utf-8")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (found,) = command._marked_tests(seconds=60)
    assert (found["case"], found["outcome"], found["why"]) == ("test_some.py", outcome, why)
    if outcome == "failed" and not imports:
        assert "this one does not hold" in "\n".join(found["failures"][0]["end"])


def test_this_machine_skips_the_marked_tests_of_the_checkout(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [folder / "test_operators.py"])
    (found,) = command._marked_tests(seconds=100)
    assert found["outcome"] == "left out" and found["why"].startswith("0 passed, 0 failed, ")


def test_the_table_compares_times_with_the_limits_of_the_card():
    timed = {"outcome": "timed", "device": {"median": 2.0}, "cpu": {"median": 50.0}, "plain": {"median": 3.0}}
    timed |= {"bytes": 1e9, "operations": 4e9, "aim": {"extrapolated_s": 30.0, "seconds": 90}}
    entry = {"part": "filtering", "case": "box"}
    found = {
        "steps": [
            {
                "part": "tests",
                "case": "test_box.py",
                "kind": "tests",
                "outcome": "agrees",
                "why": "3 passed, 0 failed, 0 skipped",
            },
            entry | {"kind": "result", "outcome": "agrees", "difference": 1e-7, "tolerance": 1e-6},
            entry | {"kind": "time"} | timed,
            entry | {"case": "vote", "kind": "result", "outcome": "failed", "why": "no card"},
        ],
        "limits": {"bytes_per_s": 1e12, "float32_per_s": 1e13},
    }
    _, tests, box, vote = report.rows(found)
    assert tests[2] == "agrees: 3 passed, 0 failed, 0 skipped"
    assert box[2:] == (
        "agrees, 1e-07 (at most 1e-06)",
        "2",
        "25",
        "1.5",
        "50.0%",
        "20.0%",
        "30 s of 90 s (extrapolated)",
    )
    assert vote[2:] == ("failed: no card", *[""] * 6)


def test_the_file_is_json_for_every_reader(tmp_path):
    report.write({"difference": float("inf"), "steps": [{"difference": float("nan")}]}, tmp_path / "gpu.json")
    text = (tmp_path / "gpu.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"difference": "inf", "steps": [{"difference": "nan"}]}
