"""The table of chapters: every row has all that a chapter is made of, nothing lacks a row, and one row adds a chapter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit
from labkit import chapters, checks, notebooks
from labkit.chapters import Chapter
from tests import inputs, made_up, solutions

ROOT = solutions.ROOT

# What lies beside the chapters in a folder and belongs to all of them.
SHARED = {
    "labkit": {"checks", "grading", "kernels", "lab", "results", "textures", "widgets"},
    "labkit/results": {"timing"},
    "tests/inputs": {"drawing"},
    "tests/benchmarks": {"grading", "spin", "timing"},
    "tests/test_checks": {"chapters", "engine"},
}


def parts(chapter: Chapter) -> dict[str, tuple[str, ...]]:
    """What a chapter is made of; of several files one is enough."""
    number, topic, _ = chapter
    return {
        "its library": (f"labkit/{topic}/__init__.py",),
        "its checks": (f"labkit/checks/{topic}/__init__.py",),
        "its results": (f"labkit/results/{topic}.py",),
        "its stored results": (f"docs/results/{number}.json",),
        "its source": (f"solutions/{chapter.name}/{chapter.name}.py",),
        "its notebook with solutions": (f"solutions/{chapter.name}/{chapter.name}.ipynb",),
        "its notebook for students": (f"notebooks/{chapter.name}/{chapter.name}.ipynb",),
        "a benchmark": (f"tests/benchmarks/{topic}.py", f"tests/benchmarks/{topic}_*.py"),
        "tests": (f"tests/test_{topic}.py", f"tests/test_{topic}_*.py"),
        "tests of its checks": (f"tests/test_checks_{topic}.py",),
        "inputs for its mutants": (f"tests/inputs/{topic}.py",),
    }


def without_a_row(root: Path) -> Iterator[str]:
    """Files and folders of a course that are named as a chapter's, and no row of the table names that chapter."""
    names = {chapter.name for chapter in chapters.CHAPTERS}
    topics = {chapter.topic for chapter in chapters.CHAPTERS}
    for folder in ("solutions", "notebooks"):
        found = {path.parent for path in (root / folder).glob("[0-9][0-9]_*/*") if path.is_file()}
        yield from (f"{folder}/{path.name}" for path in found if path.name not in names)
    for path in (root / "docs" / "results").glob("*.json"):
        if path.stem not in {chapter.number for chapter in chapters.CHAPTERS}:
            yield f"docs/results/{path.name}"
    for folder in ("labkit", "labkit/checks"):
        found = {path.parent.name for path in (root / folder).glob("*/*.py")}
        yield from (f"{folder}/{name}" for name in found - topics - SHARED.get(folder, set()))
    for folder in ("labkit/results", "tests/inputs"):
        found = {path.stem for path in (root / folder).glob("*.py")}
        yield from (f"{folder}/{name}.py" for name in found - topics - SHARED[folder] - {"__init__"})
    for name in (
        {path.stem for path in (root / "tests/benchmarks").glob("*.py")} - SHARED["tests/benchmarks"] - {"__init__"}
    ):
        if not any(name == topic or name.startswith(f"{topic}_") for topic in topics):
            yield f"tests/benchmarks/{name}.py"
    found = {path.stem.removeprefix("test_checks_") for path in (root / "tests").glob("test_checks_*.py")}
    yield from (f"tests/test_checks_{name}.py" for name in found - topics - SHARED["tests/test_checks"])


def omissions(root: Path) -> list[str]:
    """A sentence for everything that a chapter of the table lacks, and for everything that lacks a row."""
    lacking = [
        f"Chapter {chapter.number} ({chapter.topic}) lacks {what}: expected {' or '.join(files)}."
        for chapter in chapters.CHAPTERS
        for what, files in parts(chapter).items()
        if not any(path.is_file() for pattern in files for path in root.glob(pattern))
    ]
    return lacking + [
        f"{path} belongs to no chapter: add a row to labkit/chapters.py, or remove it."
        for path in sorted(without_a_row(root))
    ]


def test_every_chapter_is_whole():
    assert omissions(ROOT) == []


@pytest.mark.parametrize("topic", [chapter.topic for chapter in chapters.CHAPTERS])
def test_inputs_are_there_for_the_mutants_of_every_exercise_and_for_no_other(topic):
    assert set(inputs.of(topic)) == set(checks.exercises(topic))


@pytest.mark.parametrize("chapter", chapters.CHAPTERS, ids=lambda chapter: chapter.topic)
def test_the_title_is_that_of_the_notebook(chapter):
    source = notebooks.Chapter(ROOT, chapter.name)
    assert notebooks.unexecuted(source).metadata.labkit.title == chapter.title


# --- how a row is found ---------------------------------------------------------------------------------------------


def test_numbers_and_topics_are_proper_and_in_order():
    numbers = [chapter.number for chapter in chapters.CHAPTERS]
    topics = [chapter.topic for chapter in chapters.CHAPTERS]
    assert numbers == sorted(set(numbers)) and all(re.fullmatch(r"\d\d", number) for number in numbers)
    assert len(set(topics)) == len(topics) and all(re.fullmatch(r"[a-z]+(_[a-z]+)*", topic) for topic in topics)
    # else the file `one_two_three.py` could belong to either
    assert not [(one, other) for one in topics for other in topics if other.startswith(f"{one}_")]


@pytest.mark.parametrize("key", ["03", "3", "texture_optimization", "03_texture_optimization"])
def test_a_chapter_is_found_by_number_topic_and_name(key):
    assert chapters.find(key).topic == "texture_optimization"


@pytest.mark.parametrize("key", ["77", "", "0", "texture", "03_filtering", "Filtering"])
def test_a_chapter_that_is_not_there_is_named_beside_those_that_are(key):
    with pytest.raises(
        ValueError, match=f"no chapter is called '{key}'; expected a number or a topic of these: 01 .filtering., "
    ):
        chapters.find(key)


def test_a_name_is_split_into_number_and_topic():
    assert chapters.split("03_texture_optimization") == ("03", "texture_optimization")


@pytest.mark.parametrize("name", ["filtering", "1_filtering", "01_", "01filtering", "001_filtering", "index", "²3_x"])
def test_a_name_of_no_chapter_is_refused(name):
    with pytest.raises(ValueError, match="is no name of a chapter's notebook; expected one such as '01_filtering'"):
        chapters.split(name)


def test_labkit_offers_its_chapters():
    assert {chapter.topic for chapter in chapters.CHAPTERS} < set(dir(labkit))


# --- one row and its own files add a chapter ------------------------------------------------------------------------

# what every tool finds of the chapter, in a process of its own
TOOLS = """
import json
from pathlib import Path
import torch
import labkit
from labkit import checks, cli, notebooks, results
from labkit.checks import fixtures
from labkit.grading import extract, unit
from labkit.grading.collect import File, Submission
from tests import inputs, mutants, solutions

root = Path.cwd()
fixture = fixtures.build("halver", {}, [])
chapter = notebooks.chapters(root)[-1]
(root / "secret").write_bytes(b"a secret for tests")
job = unit.Job(Submission("ada", (File("work.ipynb", chapter.solution),)), root, root / "secret", root / "marks", root / "scratch")
marked = json.loads(unit.grade_submission(job).read_text(encoding="utf-8"))
print(json.dumps({
    "file": labkit.__file__,
    "library": labkit.made_up.halve(8.0),
    "offered": "made_up" in dir(labkit),
    "exercises": list(checks.exercises("made_up")),
    "fixture": fixture(torch.ones(2)).tolist(),
    "solution": solutions.solution("made_up", "halve")(8.0),
    "stored": results.stored("99")["tables"][0]["rows"],
    "computed": results.compute("made_up")["tables"][0]["rows"],
    "notebook": chapter.name,
    "first page": "[99 · Made up](99_made_up/99_made_up.ipynb)" in notebooks.index(root).cells[1].source,
    "assignment": [extract.assignments(root)[-1].name, extract.assignments(root)[-1].title],
    "benchmarks": [cli._benchmarks(root / "tests" / "benchmarks", "99"), cli._benchmarks(root / "tests" / "benchmarks", None)[-1]],
    "inputs": list(inputs.of("made_up")),
    "mutants": [[score.exercise, score.total > 0, len(score.survivors)] for score in mutants.run("made_up")],
    "marks": {record["name"]: record["outcome"] for record in marked["chapters"][0]["exercises"]} if marked["chapters"] else marked["failure"],
}))
"""


# what they say once it is taken out
GONE = """
import json
from pathlib import Path
import labkit
from labkit import checks, notebooks, results
from labkit.checks import fixtures

said = []
for ask in (lambda: checks.exercises("made_up"), lambda: labkit.made_up, lambda: results.stored("99"), lambda: fixtures.build("halver", {}, [])):
    try:
        ask()
    except (ValueError, AttributeError) as error:
        said.append(str(error))
print(json.dumps([labkit.__file__, [chapter.name for chapter in notebooks.chapters(Path.cwd())], "made_up" in dir(labkit), said]))
"""


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> Path:
    """A copy of the course with one chapter more."""
    root = made_up.copy_course(tmp_path_factory.mktemp("larger"))
    made_up.add(root)
    return root


def test_a_chapter_is_added_by_its_row_and_its_own_files_and_every_tool_finds_it(larger):
    found = json.loads(made_up.run(larger, "-c", TOOLS).splitlines()[-1])
    assert found == {
        "file": str(larger / "labkit" / "__init__.py"),
        "library": 4.0,
        "offered": True,
        "exercises": ["halve", "twice"],
        "fixture": [0.5, 0.5],
        "solution": 4.0,
        "stored": [["8", "4"]],
        "computed": [["8", "4"]],
        "notebook": "99_made_up",
        "first page": True,
        "assignment": ["99_made_up", "Made up"],
        "benchmarks": [["made_up"], "made_up"],
        "inputs": ["halve", "twice"],
        "mutants": [["halve", True, 0], ["twice", True, 0]],
        "marks": {"halve": "right", "twice": "right"},
    }


def test_the_tests_of_an_added_chapter_are_those_of_every_chapter_and_its_own(larger):
    modules = ["test_chapters", "test_checks_chapters", "test_results", "test_made_up", "test_checks_made_up"]
    options = ["-m", "pytest", "-v", "-p", "no:cacheprovider", *(f"tests/{module}.py" for module in modules)]
    said = made_up.run(larger, *options, LABKIT_CHAPTER="99")
    passed = {line.partition(" PASSED ")[0] for line in said.splitlines() if " PASSED " in line}
    assert passed >= {
        "tests/test_chapters.py::test_the_title_is_that_of_the_notebook[made_up]",
        "tests/test_checks_chapters.py::test_each_known_mistake_is_rejected_and_named[made_up-halve-times_3]",
        "tests/test_checks_chapters.py::test_a_right_answer_is_accepted_however_it_is_written[made_up-halve-_by_product]",
        "tests/test_checks_chapters.py::test_an_answer_that_changes_nothing_earns_nothing[made_up-twice-_same]",
        "tests/test_checks_chapters.py::test_a_sample_of_mutants_is_rejected[made_up]",
        "tests/test_results.py::test_every_stored_table_can_be_shown[99]",
        "tests/test_made_up.py::test_a_half_is_half",
    }
    assert not [name for name in passed if "made_up" not in name and "[99]" not in name]


def test_an_added_chapter_is_whole_and_each_of_its_files_is_missed(larger, monkeypatch):
    before = omissions(larger)
    assert len(before) > 8 and all(
        "belongs to no chapter: add a row to labkit/chapters.py" in sentence for sentence in before
    )
    monkeypatch.setattr(chapters, "CHAPTERS", (*chapters.CHAPTERS, made_up.ROW))
    assert omissions(larger) == []
    for what, (file, *_) in parts(made_up.ROW).items():
        path = larger / file
        path.rename(path.with_name("elsewhere"))
        (sentence,) = omissions(larger)
        assert sentence.startswith(f"Chapter 99 (made_up) lacks {what}: expected {file}")
        path.with_name("elsewhere").rename(path)


def test_a_chapter_that_is_taken_out_is_gone(larger):
    made_up.remove(larger)
    found = json.loads(made_up.run(larger, "-c", GONE).splitlines()[-1])
    assert re.fullmatch(r"no fixture is called 'halver'; there are linear_model, (\w+, )+\w+", found[-1].pop())
    assert found == [
        str(larger / "labkit" / "__init__.py"),
        [chapter.name for chapter in chapters.CHAPTERS],
        False,
        [
            "topic is 'made_up'; expected one of " + ", ".join(repr(chapter.topic) for chapter in chapters.CHAPTERS),
            "labkit has no module 'made_up'; it has " + ", ".join(sorted({*dir(labkit)} - {"__version__"})),
            "no chapter is called '99'; expected a number or a topic of these: "
            + ", ".join(f"{chapter.number} ({chapter.topic})" for chapter in chapters.CHAPTERS),
        ],
    ]
    assert omissions(larger) == []
