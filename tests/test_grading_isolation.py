"""What runs a student's code: hostile cells in real sandboxes. Every attack is bounded, should a guard fail."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import chapters
from labkit.checks import answers, exercises, fixtures
from labkit.checks.answers import Fixture, Opaque, Problem, Reply, Request, perform
from labkit.checks.engine import Exercise, Mistake, Task, exercise
from labkit.grading import bubblewrap, folders, isolation, processes, wire, withhold
from labkit.grading.isolation import Cell, Limits, Sandbox, bubblewrap_trouble

TIGHT = Limits(call_seconds=1.5, exercise_seconds=6, memory_bytes=1_500_000_000, processes=40, file_bytes=4_000_000,
               files=2_000, output_bytes=5_000_000)
PATIENT = replace(TIGHT, call_seconds=30, exercise_seconds=60)      # where another limit than time is to be met
ONES = Request((torch.ones(3),))
needs_bubblewrap = pytest.mark.skipif(bool(bubblewrap_trouble()), reason=f"bubblewrap: {bubblewrap_trouble()}")


# --- the wire -------------------------------------------------------------------------------------------------------

def _across(message):
    return wire.loads(wire.dumps(message)[wire.HEADER_BYTES:])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.bfloat16,
                                   torch.float32, torch.float64, torch.complex64])
def test_tensors_of_every_dtype_cross_the_wire(dtype):
    given = (10 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))).to(dtype)
    for tensor in (given, given.transpose(0, 2), given[:0], given[0, 0, 0]):
        came = _across(tensor)
        assert came.dtype == dtype and came.shape == tensor.shape and torch.equal(came, tensor)


def test_a_whole_reply_crosses_the_wire():
    by_columns = np.asfortranarray(np.arange(6).reshape(2, 3))
    reply = Reply({"a": [1, -2.5, None, True], 3: ("é", np.float32(0.5), float("inf")), "m": by_columns},
                  (Fixture("sgd", {"learning_rate": 0.1}), Opaque("an object")),
                  Problem("ValueError", "no", 3, "x = 1"), 0.25)
    came = _across(reply)
    assert np.array_equal(came.value.pop("m"), reply.value.pop("m"))
    assert came == reply and type(came.value[3][1]) is np.float32


def test_what_is_no_plain_data_crosses_as_a_name():
    sparse, words, huge = _across((torch.eye(2).to_sparse(), np.array(["a"]), 1 << 9999))
    assert all(isinstance(value, Opaque) for value in (sparse, words, huge))
    assert isinstance(_across([object()])[0], Opaque)


def test_half_a_surrogate_pair_does_not_get_into_a_report():
    _across(Problem("ValueError", "\ud800")).message.encode("utf-8")


def test_what_is_too_large_or_too_deep_is_refused_on_the_way_out():
    deep = []
    for _ in range(wire.MOST_DEPTH + 2):
        deep = [deep]
    with pytest.raises(wire.WireError, match="deep"):
        wire.dumps(deep)
    with pytest.raises(wire.WireError, match="MB"):
        wire.dumps(torch.zeros(wire.MOST_BYTES // 4 + 1))


def _frame(skeleton: bytes, *arrays: bytes) -> bytes:
    parts = [struct.pack(">Q", len(skeleton)), skeleton]
    for array in arrays:
        parts += [struct.pack(">Q", len(array)), array]
    return b"".join(parts)


def _npy(header: str, data: bytes) -> bytes:
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": print}], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("body", [
    b"", b"\xff" * 8, b"\xff" * 100, _frame(b"{"), _frame(b"[" * 100_000), _frame(b"[" * 50 + b"]" * 50),
    _frame(b"1" * 3000), _frame(b'{"class__": 1}'), _frame(b'{"tuple": 3}'), _frame(b'{"array": 0}'),
    _frame(b'{"tuple": [], "dict": []}'),
    _frame(b'{"tensor": ["float32", 0]}', _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8)),
    _frame(b'{"array": 0}', _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", b"")),
    _frame(b'{"array": 0}', _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", b"")),
    _frame(b'{"array": 0}', _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8)),
    _frame(b'{"array": 0}', _npy("__import__('os').system('true')", b"")),
    _frame(b'{"array": 0}', _pickled()), _frame(b"null", b"PK\x03\x04"),
    _frame(b'{"reply": [null, {"tuple": []}, 5, 0.0]}'), _frame(b'{"reply": [null, [], null, 0.0]}'),
    _frame(b'{"problem": ["X", 3, null, ""]}'), _frame(b'{"dict": [[["unhashable"], 1]]}'),
])
def test_bytes_that_are_no_message_are_refused(body):
    with pytest.raises(wire.WireError):
        wire.loads(body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_message_is_read_or_refused_and_nothing_else(data):
    reply = Reply({"a": [torch.ones(2, 2), np.arange(3)]}, ("x", 2), Problem("E", "m", 1, "l"))
    body = bytearray(wire.dumps(reply)[wire.HEADER_BYTES:])
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(wire.WireError):
        wire.loads(bytes(body[:data.draw(st.integers(0, len(body)))]))


def test_a_frame_that_announces_too_much_is_refused_before_memory_is_taken():
    with pytest.raises(wire.WireError, match="announced"):
        wire.body_length(struct.pack(">Q", 1 << 40))


# --- the stripped copy of labkit ------------------------------------------------------------------------------------

SOURCES = withhold._Sources({
    Path("lines/__init__.py"): "from labkit.lines.first import blur\nfrom .second import Pen as pen\n",
    Path("lines/first.py"): dedent('''
        def blur(x):
            """Blurs."""
            return _twice(x) + _shared(x)
        def _twice(x):  # the secret
            return _shared(x) * _deep(x)
        def _deep(x): return _deep(x - 1) if x else 40 + 2
        def _shared(x): return x
        def other(x): return _shared(x)
    '''),
    Path("lines/second.py"): dedent('''
        class Pen:
            width = 3
            def draw(self): return 'line'
        def _twice(x): return 1
        def use(): return _twice(1)
    '''),
})


def test_a_withheld_function_loses_its_body_and_the_helpers_that_only_it_uses():
    changed = SOURCES.without(frozenset({"labkit.lines.blur"}))
    assert list(changed) == [Path("lines/first.py")]
    source = changed[Path("lines/first.py")].decode()
    assert all(word not in source for word in ("Blurs", "secret", "40 + 2", "_shared(x) *"))
    assert source.count("raise Withheld") == 3 and "def other(x):\n    return _shared(x)" in source


def test_a_withheld_class_loses_the_bodies_of_its_methods():
    source = SOURCES.without(frozenset({"labkit.lines.pen"}))[Path("lines/second.py")].decode()
    assert "'line'" not in source and "width = 3" in source and "raise Withheld('labkit.lines.pen')" in source


def test_a_withheld_name_that_does_not_exist_is_an_error_of_the_check():
    with pytest.raises(ValueError, match="labkit.lines.blurr"):
        SOURCES.without(frozenset({"labkit.lines.blurr"}))


@pytest.mark.parametrize("chapter", [chapter.topic for chapter in chapters.CHAPTERS])
def test_the_copy_for_every_exercise_of_every_chapter_is_without_checks_results_and_kernels(chapter, tmp_path):
    for asked in exercises(chapter).values():
        withhold.write_package(tmp_path, withholds=asked.withholds)
        files = {path.relative_to(tmp_path / "labkit").as_posix(): path for path in tmp_path.rglob("*.py")}
        assert files["kernels/__init__.py"].exists() and not [f for f in files if f.endswith(("_cpu.py", "_cuda.py"))]
        assert not files.keys() & {f"grading/{name}.py" for name in ("isolation", "unit", "batch", "release")}
        checks = [path for name, path in files.items() if name.startswith(f"checks/{chapter}/") and not name.endswith("/fixtures.py")]
        assert checks and all("Not there while answers are marked" in path.read_text() for path in checks)
        assert all(f"raise Withheld({name!r})" in "".join(p.read_text() for p in files.values())
                   for name in asked.withholds if name.startswith("labkit."))


# --- what the copy keeps of the checks ------------------------------------------------------------------------------

KEPT = [name for name in withhold.kept_of_checks() if (withhold.PACKAGE / name).is_file()]


def _imports(tree: ast.AST) -> set[str]:
    """The modules of labkit that a piece of code imports; `labkit.checks.fixtures` of `from labkit.checks import fixtures`."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if _is_module(name) else node.module for name in inside}
    return {name for name in found if name.partition(".")[0] == "labkit"}


def _is_module(name: str) -> bool:
    package, *parts = name.split(".")
    path = withhold.PACKAGE.joinpath(*parts)
    return package == "labkit" and (path.is_dir() or path.with_suffix(".py").is_file())


def test_of_the_checks_the_copy_keeps_the_fixtures_and_what_calls_an_answer_and_nothing_else(tmp_path):
    withhold.write_package(tmp_path, withholds=())
    package = tmp_path / "labkit"
    there = {p.relative_to(package).as_posix() for p in (package / "checks").rglob("*.py") if p.read_text() != withhold._SILENT}
    assert there == set(KEPT) and "checks/diffusion_inpainting/fixtures.py" in there
    assert all((package / name).read_bytes() == (withhold.PACKAGE / name).read_bytes() for name in there)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_of_the_checks_imports_nothing_of_labkit_but_what_is_kept(name):
    """What a module holds on to at its top, an answer can reach, withheld or not; a function may import the public library."""
    tree = ast.parse((withhold.PACKAGE / name).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    inside = set().union(*map(_imports, functions))
    assert not [module for module in inside if module.split(".")[1:2] in (["checks"], ["grading"], ["results"], ["kernels"])]
    # the engine that the checks' own __init__ imports is the silent one
    allowed = {"checks/__init__.py": {"labkit.chapters", "labkit.checks.engine"}, "checks/answers.py": {"labkit.checks.fixtures"},
               "checks/fixtures.py": {"labkit.chapters"}}
    assert _imports(tree) - inside <= allowed.get(name, {"labkit.checks.fixtures"})


@pytest.mark.parametrize("name", [name for name in KEPT if name.endswith("fixtures.py")])
def test_fixtures_hold_no_exercise_no_reference_and_no_mistake(name):
    source = (withhold.PACKAGE / name).read_text(encoding="utf-8")
    module = importlib.import_module(f"labkit.{name.removesuffix('.py').replace('/', '.')}")
    assert not [key for key, value in vars(module).items() if isinstance(value, (Exercise, Mistake, Task))]
    words = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)} | \
        {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for asked in (asked for chapter in chapters.CHAPTERS for asked in exercises(chapter.topic).values()):
        assert not words & {asked.name, f"_{asked.name}", *(q.rpartition(".")[2] for q in asked.withholds if q.startswith("labkit."))}
        assert all(mistake.sentence not in source for mistake in asked.mistakes.values())
        code = [inspect.unwrap(one) for one in (asked.reference, *(mistake.variant for mistake in asked.mistakes.values())) if callable(one)]
        assert not [one for one in code if getattr(one, "__module__", None) == module.__name__]


def test_fixtures_are_there_without_the_checks_of_a_chapter():
    program = ("import sys\n"
               "from labkit.checks import fixtures\n"
               "print(type(fixtures.build('inpainting_denoiser', {'variance': 1.0, 'alpha_bars': None}, [])).__name__)\n"
               "fixtures.load()\n"
               "print([m for m in sys.modules if m.startswith('labkit.checks.diffusion_inpainting')])\n"
               "from labkit.checks import exercises\n"
               "print('inpainting_step' in exercises('diffusion_inpainting'))")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "InpaintingDenoiser\n['labkit.checks.diffusion_inpainting.fixtures']\nTrue\n", run.stderr


def test_a_name_of_a_fixture_is_taken_once():
    with pytest.raises(ValueError, match="labkit.checks.fixtures has a fixture called 'sgd' already; expected a new name"):
        fixtures.fixture("sgd")(lambda built: None)


def test_a_folder_is_emptied_however_deep_and_closed_its_contents_are(tmp_path):
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "closed" / "inner" / "file").write_text("x")
    (tmp_path / "link").symlink_to("/usr")
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        at = here
        for _ in range(1500):
            os.mkdir("d", dir_fd=at)
            inner = os.open("d", os.O_RDONLY, dir_fd=at)
            if at != here:
                os.close(at)
            at = inner
        os.close(at)
    finally:
        os.close(here)
    os.chmod(tmp_path / "closed" / "inner", 0)
    os.chmod(tmp_path / "closed", 0)
    folders.empty(tmp_path)
    assert list(tmp_path.iterdir()) == [] and Path("/usr").is_dir()


# --- sandboxes ------------------------------------------------------------------------------------------------------

MODES = [pytest.param(True, id="bubblewrap", marks=needs_bubblewrap), pytest.param(False, id="plain")]


class Room:
    """Sandboxes of both modes, each kept for many tests: what one exercise does must not reach the next."""

    def __init__(self, folder: Path, bubblewrap: bool):
        self.sandbox = Sandbox([Cell("import numba, scipy.ndimage")], scratch=folder / "room", limits=TIGHT,
                               bubblewrap=bubblewrap)
        self.bubblewrap = bubblewrap

    def ask(self, source: str, *requests: Request, kind: str = "function", withholds: tuple[str, ...] = (),
            limits: Limits = TIGHT, pause: float = 0.0) -> list[Reply]:
        """Replies of the function `f` that the source defines, with a pause between the requests."""
        self.sandbox.limits = limits
        self.sandbox.cells = [Cell("import os, sys, time, torch"), Cell(dedent(source), "f")]
        with self.sandbox.exercise("f", kind=kind, withholds=withholds) as call:
            replies = [call(request) for request in requests[:1] or (ONES,)]
            for request in requests[1:]:
                time.sleep(pause)
                replies.append(call(request))
            return replies

    def works(self) -> bool:
        return torch.equal(self.ask("def f(x): return 2 * x")[0].value, 2 * torch.ones(3))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("rooms"), {}

    def room(bubblewrap: bool) -> Room:
        if bubblewrap not in made:
            made[bubblewrap] = Room(folder / str(bubblewrap), bubblewrap)
            made[bubblewrap].sandbox.__enter__()
        return made[bubblewrap]
    yield room
    for one in made.values():
        one.sandbox.__exit__(None, None, None)


@pytest.fixture(params=MODES)
def room(request, rooms) -> Room:
    return rooms(request.param)


@pytest.fixture
def closed_room(rooms) -> Room:
    return rooms(True)


KINDS = {
    "function": ("def f(x): return [x * 2, x.shape[0], 'word']", Request((torch.arange(4.0),))),
    "differentiable": ("def f(x): return x.sin()", Request((torch.arange(4.0),), {"cotangent": torch.ones(4)})),
    "module": ("f = torch.nn.Linear",
               Request((3, 2), {"weights": [torch.ones(2, 3), torch.ones(2)], "inputs": [torch.ones(1, 3)]})),
    "step": (dedent("""
        def f(model, optimizer, x):
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            return loss
        """), Request((Fixture("linear_model", {"weights": [torch.ones(2, 3), torch.ones(2)]}),
                       Fixture("adam", {"learning_rate": 0.1}), torch.ones(4, 3)), {"repeat": 2})),
    "sampler": ("def f(denoiser, x):\n    return denoiser(denoiser(x, 1.0), 0.5)",
                Request((Fixture("gaussian_denoiser", {"mean": 0.4, "variance": 0.1}), torch.ones(2, 3)))),
    "kernel": ("import numba\n@numba.njit(cache=True)\ndef f(a, out):\n    for i in range(a.size): out[i] = 2 * a[i]",
               Request((torch.arange(4.0), torch.zeros(4)))),
}


@pytest.mark.parametrize("kind", answers.KINDS)
def test_an_answer_of_every_kind_gives_the_same_reply_inside_as_here(kind, room):
    source, request = KINDS[kind]
    namespace = {"torch": torch}
    exec(source.replace("(cache=True)", ""), namespace)
    here = replace(perform(kind, namespace["f"], request), seconds=0.0)
    inside = replace(room.ask(source, request, kind=kind, limits=Limits())[0], seconds=0.0)
    assert here.problem is None
    assert wire.dumps(inside) == wire.dumps(here)


@pytest.mark.parametrize("launch", [{"grid": 2, "block": 4}, {"grid": (1, 2), "block": (4, 16)}, {"grid": 1, "block": 300}],
                         ids=["small", "plane", "more threads than an answer may start"])
def test_a_cuda_kernel_runs_on_the_simulator(launch, closed_room):
    source = """
        from numba import cuda
        @cuda.jit
        def f(a, out):
            i = cuda.threadIdx.x + cuda.blockIdx.x * cuda.blockDim.x
            for _ in range(5): cuda.syncthreads()
            if i < a.size: out[i] = 2 * a[i]
        """
    request = Request((torch.arange(4.0), torch.zeros(4)), launch)
    reply = closed_room.ask(source, request, kind="kernel", limits=Limits())[0]
    assert reply.problem is None and np.array_equal(reply.value["arrays"][1], 2 * np.arange(4.0))


def test_threads_beside_those_of_a_block_are_counted(closed_room):
    source = """
        import threading
        from numba import cuda
        @cuda.jit
        def kernel(a): cuda.syncthreads()
        class Launch:
            def __getitem__(self, shape):
                for _ in range(100): threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
                time.sleep(5)
                return kernel[shape]
        f = Launch()
        """
    request = Request((torch.ones(3),), {"grid": 1, "block": 32})
    assert closed_room.ask(source, request, kind="kernel", limits=PATIENT)[0].problem.kind == "ProcessLimit"


def test_parallel_loops_run_in_several_threads_so_that_a_race_shows(room):
    source = """
        import numba
        from numba import njit, prange
        @njit(parallel=True)
        def f(x):
            numba.set_num_threads(2)
            for i in prange(x.size): x[i] = numba.get_thread_id()
        """
    reply = room.ask(source, Request((torch.full((1000,), -1.0),)), kind="kernel", limits=Limits())[0]
    assert reply.problem is None and set(reply.value["arrays"][0]) == {0.0, 1.0}


@pytest.mark.usefixtures("one_torch_thread")     # as inside: several threads add up in another order
@pytest.mark.parametrize(("source", "kind", "arguments"), [
    ("def f(denoiser, x, known, mask):\n    return denoiser(x, known, mask, 1)", "sampler",
     (Fixture("inpainting_denoiser", {"variance": 0.3, "alpha_bars": torch.tensor([1.0, 0.5])}), *torch.rand(2, 1, 3, 4, 4).unbind(),
      torch.eye(4)[None, None])),
    ("def f(network, optimizer, x, mask):\n    network(x, x, mask, 0.5).sum().backward()\n    optimizer.step()", "step",
     (Fixture("inpainting_network", {"weights": [torch.ones(1, 4, 3, 3), torch.ones(1)]}), Fixture("sgd", {"learning_rate": 0.1}),
      torch.rand(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)))], ids=["sampler", "step"])
def test_a_chapters_own_fixtures_are_built_inside_as_here(source, kind, arguments, room):
    namespace = {}
    exec(source, namespace)
    here = replace(perform(kind, namespace["f"], Request(arguments)), seconds=0.0)
    inside = replace(room.ask(source, Request(arguments), kind=kind, limits=PATIENT)[0], seconds=0.0)
    assert here.problem is None
    assert wire.dumps(inside) == wire.dumps(here)


def test_what_an_answer_finds_of_the_checks_are_fixtures_and_silence(closed_room):
    source = """
        from importlib import import_module
        def f(x):
            loaded = sorted(name for name in sys.modules if name.startswith("labkit.checks"))
            names = "diffusion_inpainting.fixtures", "diffusion_inpainting.sampling", "filtering", "filtering.linear"
            fixtures, sampling, filtering, linear = (import_module("labkit.checks." + name) for name in names)
            held = [name for name, value in vars(fixtures).items() if getattr(value, "__module__", "") == fixtures.__name__]
            return [loaded, sorted(held), sampling._ddim_sampling(x), filtering.box_filter(x), linear._box_filter(x, 1)]
        """
    reply = closed_room.ask(source, limits=PATIENT)[0]
    assert reply.problem is None, reply.problem
    assert reply.value == [["labkit.checks", "labkit.checks.answers", "labkit.checks.diffusion_inpainting.fixtures", "labkit.checks.fixtures"],
                           ["InpaintingDenoiser", "InpaintingNetwork"], None, None, None]


@exercise(points=4, minutes=1, reference=lambda x: 2 * x)
def double(task: Task) -> None:
    for share, size in ((0.5, 5), (0.25, 6), (0.25, 7)):
        with task.property(f"doubles {size} numbers", share=share):
            task.compare(task.uniform(size))

double.knows({"squared": Mistake("it is squared", lambda x: x ** 2)})


def _verdict(room: Room, source: str):
    room.sandbox.limits, room.sandbox.cells = TIGHT, [Cell("import os, torch"), Cell(dedent(source), "double")]
    with room.sandbox.exercise("double", kind="function", withholds=()) as call:
        return double.judge(call, seed=7)


def test_a_check_judges_from_outside_and_still_names_the_mistake(closed_room):
    assert _verdict(closed_room, "def double(x): return x + x").passed
    assert _verdict(closed_room, "def double(x): return x * x").mistake == "squared"
    assert _verdict(closed_room, "def double(x): raise NotImplementedError").outcome == "unsolved"


def test_an_answer_that_ends_its_process_once_loses_that_property_only(closed_room):
    verdict = _verdict(closed_room, "def double(x):\n    if len(x) == 6: os._exit(3)\n    return 2 * x")
    assert verdict.earned == 3 and "exit status 3" in repr(verdict)


def test_an_answer_that_is_right_in_its_first_call_only_earns_that_call_only(closed_room):
    source = "calls = []\ndef double(x):\n    calls.append(1)\n    return 2 * x if len(calls) == 1 else x"
    assert _verdict(closed_room, source).earned == 2


@pytest.mark.parametrize("attack", [
    "torch.equal = torch.allclose = lambda *a, **k: True\ntorch.Tensor.__eq__ = lambda *a: True",
    "import labkit.checks.answers as a\na.perform = lambda *r: a.Reply(2)",
    "import builtins\nbuiltins.abs = builtins.max = lambda *a: 0",
    "import numpy\nnumpy.array_equal = lambda *a: True",
    "from labkit.checks import engine\nengine.difference = lambda *a, **named: None",
    "import sys\nsys.modules['labkit.checks.engine'] = None",
    "from labkit.grading import worker, wire\nworker._Answerer.do_call = lambda *a: None\nwire.dumps = lambda m: b''",
])
def test_patching_its_own_process_gains_an_answer_nothing(attack, closed_room):
    assert _verdict(closed_room, f"import torch\n{attack}\ndef double(x): return x").earned == 0
    assert closed_room.works()


def test_a_tensor_that_lies_about_being_equal_arrives_as_its_numbers(closed_room):
    source = "class L(torch.Tensor):\n    def __eq__(self, o): return True\ndef double(x): return x.as_subclass(L)"
    assert _verdict(closed_room, source).earned == 0


# --- what limits an answer ------------------------------------------------------------------------------------------

ATTACKS = {      # source, kinds of problem that are right
    "endless loop": ("def f(x):\n    end = time.time() + 60\n    while time.time() < end: pass", ("TimeLimit",)),
    "loop that swallows the alarm": ("""
        def f(x):
            end = time.time() + 60
            while time.time() < end:
                try:
                    while time.time() < end: pass
                except BaseException: pass
        """, ("TimeLimit",)),
    "sleep with the alarm switched off": ("""
        import signal
        def f(x):
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            time.sleep(60)
        """, ("TimeLimit",)),
    "memory": ("""
        def f(x):
            kept = []
            for _ in range(120): kept.append(torch.ones(25_000_000))
        """, ("MemoryLimit",)),
    "children": ("""
        def f(x):
            for _ in range(300):
                if os.fork() == 0:
                    time.sleep(20)
                    os._exit(0)
            time.sleep(5)
        """, ("ProcessLimit", "MemoryLimit")),
    "programs": ("def f(x): os.system('for i in $(seq 300); do (sleep 20; sleep 1) & done; wait')", ("ProcessLimit",)),
    "threads": ("""
        import threading
        def f(x):
            for _ in range(300): threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
            time.sleep(5)
        """, ("ProcessLimit",)),
    "print for ever": ("def f(x):\n    for _ in range(10_000_000): print('é' * 1000)", ("OutputLimit",)),
    "large file": ("""
        def f(x):
            with open("large", "wb") as file:
                for _ in range(100): file.write(bytes(1_000_000))
        """, ("OSError",)),
    "os._exit": ("def f(x): os._exit(0)", ("Crash",)),
    "sys.exit": ("def f(x): sys.exit('bye')", ("SystemExit",)),
    "end after the reply": ("""
        import threading
        def f(x): threading.Timer(0.05, os._exit, (5,)).start()
        """, ("Crash",)),
    "segmentation fault": ("import ctypes\ndef f(x): ctypes.string_at(0)", ("Crash",)),
    "recursion": ("def f(x): return f(x)", ("RecursionError",)),
    "recursion without a limit": ("""
        class A:
            def __getattr__(self, name): return getattr(self, name + "a")
        def f(x):
            sys.setrecursionlimit(10 ** 9)
            return A().x
        """, ("Crash", "MemoryLimit", "RecursionError")),
    "garbage in the channel": ("""
        import stat
        def f(x):
            for fd in range(3, 200):
                try:
                    if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b"\\xff" * 100)
                except OSError: pass
            return 2 * x
        """, ("Protocol",)),
    "closed channel": ("def f(x):\n    os.closerange(0, 256)\n    return 2 * x", ("Crash",)),
    "exception that cannot be shown": ("""
        class E(BaseException):
            def __str__(self): raise self
        def f(x): raise E
        """, ("Crash",)),
    "huge result": ("def f(x): return torch.zeros(40_000_000)", ("Refusal",)),
    "nested result": ("""
        def f(x):
            a = []
            for _ in range(100_000): a = [a]
            return a
        """, ("RecursionError", "Refusal")),
    "exit while the cell runs": ("os._exit(0)\ndef f(x): return x", ("CellFailed",)),
    "syntax error": ("def f(x) return x", ("CellFailed",)),
    "endless cell": ("end = time.time() + 60\nwhile time.time() < end: pass\ndef f(x): return x", ("CellFailed",)),
    "no such function": ("def g(x): return x", ("MissingAnswer",)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_ends_in_a_sentence_and_harms_no_other_exercise(attack, room):
    source, kinds = ATTACKS[attack]
    limits = TIGHT if {"TimeLimit", "CellFailed"} & set(kinds) else PATIENT
    reply = room.ask(source, *[ONES] * (2 if attack == "end after the reply" else 1), limits=limits, pause=0.5)[-1]
    assert reply.value is None and reply.problem.kind in kinds and reply.problem.message
    assert room.works()


def test_the_line_that_was_running_when_time_was_up_is_told(room):
    problem = room.ask("def f(x):\n    n = 0\n    while n < 1e12:\n        n += 1\n")[0].problem
    assert problem.kind == "TimeLimit" and problem.line_number in (3, 4) and problem.line


def test_the_calls_of_an_exercise_share_its_time(room):
    replies = room.ask("def f(x): time.sleep(1)", *[ONES] * 6, limits=replace(TIGHT, exercise_seconds=2.5))
    assert replies[0].problem is None and replies[-1].problem.kind == "TimeLimit"


def test_much_output_is_no_crime_and_its_beginning_is_kept(room):
    assert room.ask("def f(x):\n    for _ in range(4000): print('é' * 500)\n    return 2 * x")[0].problem is None
    assert room.sandbox.printed.startswith("ééé") and len(room.sandbox.printed) <= isolation.PRINTED_BYTES


def test_what_an_exercise_prints_is_not_shown_under_the_next(room):
    room.ask("def f(x): print('first')")
    assert room.sandbox.printed == "first\n"
    room.ask("def f(x): print('second')")
    assert room.sandbox.printed == "second\n"


def test_a_cell_that_ends_the_process_costs_only_the_answer_it_holds(rooms):
    sandbox = rooms(False).sandbox
    sandbox.limits, sandbox.cells = TIGHT, [
        Cell("import os"), Cell("os.abort()", "bad"), Cell("def good(x): return 2 * x", "good")]
    with sandbox.exercise("good", kind="function", withholds=()) as call:
        assert call(ONES).problem is None
    with sandbox.exercise("bad", kind="function", withholds=()) as call:
        assert call(ONES).problem.kind == "CellFailed"


def test_the_last_cell_of_the_exercise_that_defines_the_answer_counts(rooms):
    sandbox = rooms(False).sandbox
    sandbox.limits, sandbox.cells = TIGHT, [
        Cell("def f(x): return 1"), Cell("def f(x): return 2", "f"), Cell("def f(x): return 3", "f"),
        Cell("def f(x) 4", "f"), Cell("def f(x): return 5", "g")]
    with sandbox.exercise("f", kind="function", withholds=()) as call:
        assert call(ONES).value == 3
    sandbox.cells = [Cell("def f(x): return 1"), Cell("def f(x): return 6")]
    with sandbox.exercise("f", kind="function", withholds=()) as call:
        assert call(ONES).value == 6


def test_a_failing_cell_that_calls_the_answer_does_not_take_it_away(rooms):
    sandbox = rooms(False).sandbox
    sandbox.limits, sandbox.cells = TIGHT, [Cell("def f(x): return 1"), Cell("f('picture') / 0")]
    with sandbox.exercise("f", kind="function", withholds=()) as call:
        assert call(ONES).value == 1


def test_a_very_long_cell_runs_and_a_longer_one_is_told(rooms):
    sandbox = rooms(False).sandbox
    sandbox.limits, sandbox.cells = TIGHT, [
        Cell("# é\n" * 100_000 + "def f(x): return 1", "f"), Cell("#" * 2_000_000 + "\ndef g(x): return 1", "g")]
    with sandbox.exercise("f", kind="function", withholds=()) as call:
        assert call(ONES).value == 1
    with sandbox.exercise("g", kind="function", withholds=()) as call:
        assert "characters" in call(ONES).problem.message


def test_a_long_message_is_cut(rooms):
    problem = rooms(False).ask("def f(x): raise ValueError('x' * 10 ** 8)")[0].problem
    assert problem.kind == "ValueError" and len(problem.message) == wire.LONGEST_STRING


def test_a_reply_before_the_question_is_a_violation(closed_room):
    source = """
        import stat, threading
        from labkit.grading import wire
        from labkit.checks.answers import Reply
        sockets = []
        for fd in range(3, 200):
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode): sockets.append(fd)
            except OSError: pass
        def early():
            time.sleep(0.3)
            for fd in sockets: os.write(fd, wire.dumps((1, Reply(2 * torch.ones(3)))))
        def f(x):
            threading.Thread(target=early).start()
            return 2 * x
        """
    first, second = closed_room.ask(source, ONES, ONES, pause=1.0)
    assert first.problem is None and second.problem.kind == "Protocol"


def test_a_copy_of_the_process_does_not_answer_in_its_place(room):
    first, second = room.ask("def f(x):\n    os.fork()\n    return 2 * x", ONES, ONES)
    assert first.problem is None and second.problem is None


def test_what_an_answer_leaves_running_is_ended_with_it(room):
    source = """
        def f(x):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(60)
                os._exit(0)
            return 2 * x
        """
    assert room.ask(source)[0].problem is None
    if room.bubblewrap:
        inside = "def f(x): return sorted(p for p in os.listdir('/proc') if p.isdigit() and p != str(os.getpid()))"
        assert room.ask(inside)[0].value == ["1"]
    else:
        left = processes.descendants(room.sandbox._worker.pid)      # an ended one may not be collected yet
        assert [pid for pid in left if processes.taken(pid) != (0, 0)] == []


def test_nothing_that_one_exercise_writes_is_there_in_the_next(room):
    look = "def f(x): return [sorted(os.listdir('.')), os.listdir(os.path.expanduser('~'))]"
    files, home = room.ask(look)[0].value      # where Python lies below the same folder, the way to it is there from the beginning
    assert files == ["cell_1.py", "cell_2.py"] and "work" in home
    written = room.ask("""
        def f(x):
            os.makedirs("a/b")
            open(os.path.expanduser("~/loot"), "w").close()
            os.chmod("a", 0)
        """)[0]
    assert written.problem is None
    assert room.ask(look)[0].value == [files, home]


def test_what_an_exercise_leaves_in_shared_memory_is_not_there_in_the_next(closed_room):
    assert closed_room.ask("def f(x): open('/dev/shm/loot', 'w').write('hidden')")[0].problem is None
    assert closed_room.ask("def f(x): return os.listdir('/dev/shm')")[0].value == []


def test_a_process_that_hops_from_copy_to_copy_is_caught(room):
    source = """
        def f(x):
            if os.fork() == 0:
                end = time.time() + 20
                while time.time() < end:
                    if os.fork(): os._exit(0)
                os._exit(0)
            return 2 * x
        """
    assert room.ask(source, limits=PATIENT)[0].problem is None
    assert room.works()
    left = processes.descendants(room.sandbox._worker.pid)
    assert [pid for pid in left if processes.taken(pid) != (0, 0)] == []


# --- what is withheld -----------------------------------------------------------------------------------------------

def test_a_withheld_function_says_so_and_the_rest_of_labkit_works(room):
    withheld = ("labkit.images.pad",)
    grey = "from labkit import images\ndef f(x): return images.to_grey(torch.ones(3, 4, 4)).shape[0]"
    assert room.ask(grey, withholds=withheld)[0].value == 1
    shortcut = "from labkit import images\ndef f(x): return images.pad(x, amount=1, border='zero')"
    problem = room.ask(shortcut, withholds=withheld)[0].problem
    assert problem.kind == "Withheld" and "labkit.images.pad" in problem.message and "images.pad(x" in problem.line


@pytest.mark.parametrize("source", [
    "import scipy.ndimage\ndef f(x): return scipy.ndimage.gaussian_filter(x.numpy(), 1)",
    "from scipy.ndimage import gaussian_filter as g\ndef f(x): return g(x.numpy(), 1)",
    "from scipy.ndimage._filters import gaussian_filter as g\ndef f(x): return g(x.numpy(), 1)",
    "import importlib\ndef f(x): return importlib.import_module('scipy.ndimage').gaussian_filter(x.numpy(), 1)",
    "import skimage.filters\ndef f(x): return skimage.filters.gaussian(x.numpy(), 1)",
    "from skimage import filters\ndef f(x): return filters.gaussian(x.numpy(), 1)",
])
def test_the_shortcut_through_another_library_is_withheld(source, room):
    withheld = ("scipy.ndimage.gaussian_filter", "skimage.filters.gaussian")
    problem = room.ask(source, withholds=withheld, limits=Limits())[0].problem
    assert problem.kind == "Withheld" and "gaussian" in problem.message


def test_what_is_withheld_in_one_exercise_is_there_in_the_next(room):
    source = """
        import scipy.ndimage
        from labkit import images
        def f(x):
            padded = images.pad(torch.ones(1, 3, 3), amount=1, border="zero")
            return scipy.ndimage.gaussian_filter(padded.numpy(), 1)
        """
    withheld = ("scipy.ndimage.gaussian_filter", "labkit.images.pad")
    assert room.ask(source, withholds=withheld, limits=Limits())[0].problem.kind == "Withheld"
    assert room.ask(source, limits=Limits())[0].problem is None


def test_a_cell_that_imports_the_checks_or_the_results_goes_on(room):
    source = """
        from labkit.checks import filtering as check
        from labkit import results
        results.show("01")
        check.box_filter(3)
        def f(x): return 2 * x
        """
    assert room.ask(source)[0].problem is None


def test_the_compiled_kernels_are_not_there(room):
    from labkit import kernels

    assert kernels.available() is True
    assert room.ask("from labkit import kernels\ndef f(x): return kernels.available()")[0].value is False


def test_every_module_of_the_copy_imports_without_the_compiled_kernels(closed_room):
    source = """
        import importlib, pkgutil, labkit
        def f(x):
            failed = []
            for found in pkgutil.walk_packages(labkit.__path__, "labkit."):
                try: found.name.endswith("__main__") or importlib.import_module(found.name)
                except Exception as error: failed.append(f"{found.name}: {error!r}")
            return failed
        """
    assert closed_room.ask(source, limits=Limits())[0].value == []


# --- what bubblewrap shuts out --------------------------------------------------------------------------------------

def test_the_code_finds_no_file_of_ours(closed_room, tmp_path):
    (tmp_path / "secret").write_text("hidden")
    repository = withhold.PACKAGE.parent
    ours = [str(p) for p in (
        tmp_path / "secret", tmp_path, Path(__file__), Path(isolation.__file__), repository / "solutions",
        repository / "pyproject.toml", Path.home() / ".ssh", "/etc/passwd", "/home", "/proc/1/environ",
        "/proc/1/root/tmp")]
    source = f"""
        def f(x):
            found = []
            for path in {ours}:
                try:
                    found.append((path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(100)))
                except OSError: pass
            return found
        """
    assert closed_room.ask(source)[0].value == []
    source = "def f(x): return [p for p in sys.path if os.path.exists(p + '/labkit/grading/isolation.py')]"
    assert closed_room.ask(source)[0].value == []


def test_the_code_can_write_nowhere_but_into_its_own_tmp(closed_room):
    # only opened, never written: were one of them open, the test would fail and the machine be as before
    places = ["/x", "/dev/x", f"{bubblewrap.COURSE}/x", f"{bubblewrap.COURSE}/labkit/__init__.py", f"{bubblewrap.DATA}/x", "/usr/x",
              sys.prefix + "/x", "/run/x",
              "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"]
    source = f"""
        def f(x):
            opened = []
            for place in {places}:
                try:
                    os.close(os.open(place, os.O_WRONLY | (0 if os.path.exists(place) else os.O_CREAT)))
                    opened.append(place)
                except OSError: pass
            return opened
        """
    assert closed_room.ask(source)[0].value == []


def test_there_is_no_network(closed_room):
    source = "import socket\ndef f(x): socket.create_connection(('192.0.2.1', 80), timeout=1)"
    assert closed_room.ask(source)[0].problem.kind == "OSError"


def test_the_environment_is_cleaned(room, monkeypatch):
    monkeypatch.setenv("LABKIT_TEST_SECRET", "hidden")
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    cell = Cell("import os\ndef f(x): return dict(os.environ)", "f")
    with Sandbox([cell], scratch=room.sandbox.scratch.parent / "clean", bubblewrap=room.bubblewrap) as sandbox, \
            sandbox.exercise("f", kind="function", withholds=()) as call:
        environment = call(ONES).value
    assert "LABKIT_TEST_SECRET" not in environment and "JPY_PARENT_PID" not in environment
    assert environment["OMP_NUM_THREADS"] == "1" and not any("hidden" in value for value in environment.values())


def test_the_worker_cannot_be_killed_or_read_from_inside(closed_room):
    source = """
        import signal
        def f(x):
            for pid in (-1, 1):
                try: os.kill(pid, signal.SIGKILL)
                except ProcessLookupError: pass
            try: return open("/proc/1/mem", "rb").read(1)
            except PermissionError: return "closed"
        """
    assert closed_room.works()
    worker = closed_room.sandbox._worker
    assert closed_room.ask(source)[0].value == "closed"
    assert closed_room.works() and closed_room.sandbox._worker is worker


@pytest.mark.parametrize("source, kinds", [
    ("def f(x):\n    for i in range(20_000): open(f'{i}', 'w').close()\n    time.sleep(1)", ("FileLimit",)),
    ("""
        def f(x):
            for i in range(900):
                with open(f"{i}", "wb") as file: file.write(bytes(4_000_000))
            time.sleep(1)
     """, ("MemoryLimit", "OSError")),
    ("def f(x):\n    for i in range(300): os.write(os.memfd_create('m'), bytes(4_000_000))", ("PermissionError",)),
], ids=["files", "sum of files", "memory files"])
def test_what_lies_in_tmp_and_in_memory_files_is_limited(source, kinds, closed_room):
    assert closed_room.ask(source, limits=PATIENT)[0].problem.kind in kinds
    assert closed_room.works()


def test_no_new_user_namespace_and_no_mount_can_be_made(closed_room):
    source = """
        import ctypes
        def f(x):
            c = ctypes.CDLL(None)
            return [c.unshare(0x10000000), c.mount(b"x", b"/tmp", b"tmpfs", 0, None)]
        """
    assert closed_room.ask(source)[0].value == [-1, -1]


def test_a_repository_inside_a_readable_folder_is_covered_and_its_environment_is_not(monkeypatch, tmp_path):
    course = tmp_path / "course"
    for folder in ("labkit", "solutions", ".venv"):
        (course / folder).mkdir(parents=True)
    (course / "pyproject.toml").touch()
    monkeypatch.setattr(bubblewrap, "PACKAGE", course / "labkit")
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(course / ".venv"))
    mounts = [word for word in bubblewrap._libraries() if word.startswith(("--", str(tmp_path)))]
    order = [mounts.index(str(folder)) for folder in (tmp_path, course, course / ".venv")]
    assert order == sorted(order) and mounts[order[1] - 1] == "--tmpfs" and mounts[order[2] - 1] == "--ro-bind"
    assert mounts.index("--remount-ro") > order[2]      # what is mounted inside needs a place that can be written


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's")
@pytest.mark.parametrize("prefix", ["/tmp/env", "/tmp/course/.venv", "/dev/shm/env", "/course/.venv", "/data/env", "/home/a b/é/.venv", "/run/env"])
def test_no_place_hides_the_python_that_is_installed_there(prefix, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(bubblewrap, "PACKAGE", Path(prefix).parent / "labkit")
    command = bubblewrap.arguments(tmp_path, 1_000_000, None)
    mounts = [(kind, command[i + (1 if kind == "--tmpfs" else 2)]) for i, kind in enumerate(command)
              if kind in ("--tmpfs", "--ro-bind", "--proc", "--dev")]
    covering = [(kind, place) for kind, place in mounts if Path(prefix).is_relative_to(place)]
    assert covering[-1] == ("--ro-bind", prefix)
    closed = [command[i + 1] for i, kind in enumerate(command) if kind == "--remount-ro"]
    writable = [place for kind, place in covering if kind == "--tmpfs" and place not in closed]
    assert set(writable) <= set(map(str, bubblewrap.PRIVATE)), "what is written beside it cannot move it away"


MOVES_ITS_PYTHON = """
import os, sys
def f(x):
    opened = []
    for name in set(os.listdir("PRIVATE")) - {"work"}:
        try:
            os.rename(os.path.join("PRIVATE", name), os.path.join("PRIVATE", "moved"))
            opened.append(name)
        except OSError:
            pass
    open("/tmp/loot", "w").close()
    own = [name for name in os.listdir("/tmp") if not os.path.ismount(f"/tmp/{name}")]
    return opened, sys.prefix.startswith("PRIVATE"), sorted(own), os.path.exists("ENVIRONMENT/lib")
"""
GRADES_IN_A_PRIVATE_PLACE = """
import sys
from pathlib import Path
import torch
from labkit.checks.answers import Request
from labkit.grading.isolation import Cell, Sandbox
with Sandbox([Cell(sys.argv[2], "f")], scratch=Path(sys.argv[1]), bubblewrap=True) as sandbox:
    for _ in range(2):
        with sandbox.exercise("f", kind="function", withholds=()) as call:
            print(call(Request((torch.ones(1),))).value)
"""


@needs_bubblewrap
@pytest.mark.parametrize("private", bubblewrap.PRIVATE)
def test_an_environment_in_a_private_place_grades_isolated_and_stays_where_it_is(private):
    """A checkout under /tmp, say. Of two exercises neither can move Python away, and the first leaves nothing behind."""
    with tempfile.TemporaryDirectory(dir=private, prefix="labkit-") as folder:
        environment = Path(folder).resolve() / "course" / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        site_packages, = environment.glob("lib/python*/site-packages")
        (site_packages / "others.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
        source = MOVES_ITS_PYTHON.replace("PRIVATE", str(private)).replace("ENVIRONMENT", str(environment))
        done = subprocess.run([environment / "bin" / "python", "-c", GRADES_IN_A_PRIVATE_PLACE, f"{folder}/scratch", source],
                              env=os.environ | {"PYTHONPATH": str(withhold.PACKAGE.parent)}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [str(([], True, ["loot", "work"], True))] * 2


def test_bubblewrap_that_is_missing_is_told_and_done_without(monkeypatch, tmp_path):
    monkeypatch.setattr(isolation, "bubblewrap_trouble", lambda: "it is not installed")
    with pytest.raises(RuntimeError, match="not installed"):
        Sandbox([], scratch=tmp_path / "a", bubblewrap=True)
    assert not Sandbox([], scratch=tmp_path / "b").uses_bubblewrap


def test_a_worker_that_cannot_start_is_an_error_of_the_grader(monkeypatch, tmp_path):
    monkeypatch.setattr(isolation, "_environment", lambda *_: {"PYTHONHOME": "/nowhere"})
    with Sandbox([], scratch=tmp_path / "a", bubblewrap=False) as sandbox, pytest.raises(RuntimeError, match="did not start"), \
            sandbox.exercise("f", kind="function", withholds=()):
        raise AssertionError("it started")


# --- at the end -----------------------------------------------------------------------------------------------------

GRADER = """
import sys
from pathlib import Path
import torch
from labkit.checks.answers import Request
from labkit.grading.isolation import Cell, Sandbox
cell = Cell("import os, time\\ndef f(x):\\n    os.fork()\\n    print('running', flush=True)\\n    time.sleep(60)", "f")
with Sandbox([cell], scratch=Path(sys.argv[1]), bubblewrap=sys.argv[2] == "True") as sandbox:
    with sandbox.exercise("f", kind="function", withholds=()) as call:
        print("begun", flush=True)
        call(Request((torch.ones(1),)))
"""


def _processes(mark: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command, state = Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/stat").read_text()
            if mark.encode() in command and state.rpartition(") ")[2][0] != "Z":
                found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("bubblewrap", MODES)
def test_nothing_stays_when_the_grader_itself_is_killed(bubblewrap, tmp_path):
    mark = str(tmp_path / "a-grader-to-kill")
    grader = subprocess.Popen([sys.executable, "-c", GRADER, mark, str(bubblewrap)], stdout=subprocess.PIPE, text=True,
                              start_new_session=True)
    try:
        assert grader.stdout.readline() == "begun\n"
        time.sleep(0.5)
        assert len(_processes(mark)) > 1
    finally:
        grader.kill()
        grader.wait()
        grader.stdout.close()
    deadline = time.monotonic() + 10
    while _processes(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = _processes(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def test_the_scratch_folder_and_the_worker_are_gone_at_the_end(tmp_path):
    with Sandbox([Cell("def f(x): return 2 * x", "f")], scratch=tmp_path / "s", bubblewrap=False) as sandbox:
        with sandbox.exercise("f", kind="function", withholds=()) as call:
            assert call(ONES).problem is None
        process = sandbox._worker.process
    assert process.poll() is not None and not (tmp_path / "s").exists()
