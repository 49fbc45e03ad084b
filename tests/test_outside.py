"""What outsiders read first: the documents name files, commands and targets that are there; the workflow calls make."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

import labkit
from labkit import chapters
from labkit.cli import app
from tests.solutions import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/instructors.md")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code(name: str) -> str:
    """What a document sets as code: between backticks, and in indented lines."""
    text = re.sub(r"```.*?```", "", read(name), flags=re.DOTALL)
    return "\n".join([*re.findall(r"`([^`]+)`", text), *re.findall(r"^ {4}(.+)$", text, re.MULTILINE)])


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_a_document_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", read(document)):
        assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_targets_that_make_knows(document):
    for words in re.findall(r"\bmake ((?:[a-z][a-z-]*)(?: [A-Z]+=\S+)?)", code(document)):
        target, *setting = words.split()
        assert target in TARGETS, words
        for one in setting:
            assert one.split("=")[0] in MAKEFILE, words
    for name in re.findall(r"\b([A-Z_]+)=\S* make\b", code(document)):
        assert re.search(rf"\$\([^)]*\b{name}\b", MAKEFILE), f"make does not read {name}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_commands_that_labkit_knows(document):
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"^labkit ([a-z]+)\b", code(document), re.MULTILINE)) <= known


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("chapter", chapters.CHAPTERS, ids=lambda chapter: chapter.topic)
def test_a_document_names_files_that_every_chapter_has(document, chapter):
    for words in set(re.findall(r"[\w.<>*/-]+", code(document))):
        path = words.rstrip("/.")
        if not re.match(r"(labkit|tests|solutions|notebooks|docs|data|\.github)/", words) or "<name>" in words:
            continue
        # a chapter may have neither of these
        if path in ("labkit/widgets/<topic>.py", "labkit/checks/<topic>/fixtures.py"):
            continue
        path = (
            path.replace("NN", chapter.number).replace("<topic>", chapter.topic).replace("_topic", f"_{chapter.topic}")
        )
        assert list(ROOT.glob(path)), words


def test_the_page_on_chapters_names_every_place_where_a_chapter_has_files():
    """A place that holds a file or folder of each chapter, by its topic, is one that a new chapter must not forget."""
    page = read("CONTRIBUTING.md")
    places = [ROOT / name for name in ("labkit", "tests", "solutions", "docs")]
    places += [path for place in places for path in place.rglob("*") if path.is_dir() and path.name != "__pycache__"]
    for place in places:
        inside = {path.name.split(".")[0] for path in place.iterdir()}
        if all({chapter.topic, chapter.name, chapter.number} & inside for chapter in chapters.CHAPTERS):
            name = place.relative_to(ROOT).as_posix()
            named = any(f"{name}/{form}" in page for form in ("<topic>", "NN"))
            assert named, f"{name} has something of each chapter, and CONTRIBUTING.md does not say so"


def test_the_pattern_of_a_check_is_the_real_one():
    page, real = read("CONTRIBUTING.md"), read("labkit/checks/filtering/linear.py")
    for piece in (
        "def box_filter(task: Task) -> None:",
        "box_filter.knows({",
        "with task.property(",
        "reference=_box_filter",
    ):
        assert piece in page and piece in real


def test_the_changelog_speaks_of_this_version():
    assert re.search(
        rf"^## \[{re.escape(labkit.__version__)}\] - (unreleased|\d{{4}}-\d\d-\d\d)$",
        read("CHANGELOG.md"),
        re.MULTILINE,
    )
    for chapter in chapters.CHAPTERS:
        assert f"Chapter {int(chapter.number)}, {chapter.title}:" in read("CHANGELOG.md")


def test_the_citation_has_what_its_format_asks_for():
    citation = yaml.safe_load(read("CITATION.cff"))
    # the required keys of Citation File Format 1.2.0, and of an author that is an entity
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "The labkit authors"}] and "The labkit authors" in read("LICENSE")
    assert citation["type"] == "software" and str(citation["version"]) == labkit.__version__
    assert citation["license"] == "MIT" and all(isinstance(word, str) for word in citation["keywords"])
    # what else the format knows of a work; anything else is a slip
    assert set(citation) <= {
        *("cff-version", "message", "title", "authors", "type", "version", "license", "abstract", "keywords"),
        *(
            "date-released",
            "doi",
            "identifiers",
            "repository",
            "repository-code",
            "url",
            "preferred-citation",
            "references",
        ),
    }


def test_the_readme_names_what_an_outsider_looks_for():
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md"):
        assert f"]({name})" in read("README.md")


# --- the workflow -----------------------------------------------------------------------------------------------------


def test_every_step_of_the_workflow_is_one_make_target():
    runs = [step["run"] for step in STEPS if "run" in step]
    assert runs and all({"run"} <= set(step) <= {"run", "name"} for step in STEPS if "run" in step)
    for run in runs:
        made = re.fullmatch(r"make ([a-z-]+)( PYTHON=python)?", run)
        assert made and made.group(1) in TARGETS, run
    assert {run.split()[1] for run in runs} >= {"lint", "test", "test-ground", "lowest"}


def test_the_workflow_takes_actions_by_their_major_version():
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert len(used) + sum("run" in step for step in STEPS) == len(STEPS)
    assert used and all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)


def test_the_workflow_covers_the_pythons_and_systems_that_are_promised():
    linux, ground = WORKFLOW["jobs"]["linux"], WORKFLOW["jobs"]["ground"]
    assert linux["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert ground["strategy"]["matrix"]["system"] == ["macos-latest", "windows-latest", "ubuntu-24.04-arm"]
    assert 'requires-python = ">=3.11,<3.15"' in read("pyproject.toml")
    # YAML reads the key `on` as a truth value
    assert set(WORKFLOW[True]) == {"push", "pull_request"} and WORKFLOW["permissions"] == {"contents": "read"}


def test_the_ground_floor_has_tests_of_all_its_modules():
    modules = re.search(r"^GROUND := (.+)$", MAKEFILE, re.MULTILINE).group(1).split()
    for module in modules:
        assert (ROOT / "tests" / f"test_{module}.py").is_file(), module
        assert (ROOT / "labkit" / f"{module}.py").is_file() or (ROOT / "labkit" / module).is_dir(), module
    # whatever lies directly in labkit and has a test of its own, but what lists or starts things
    above = {"chapters", "cli", "doctor", "install", "notebooks", "openmp", "warm", "__init__", "__main__"}
    found = {path.stem for path in (ROOT / "labkit").glob("*.py")} - above
    assert {name for name in found if (ROOT / "tests" / f"test_{name}.py").is_file()} <= set(modules)


def test_make_finds_its_programs_on_windows():
    def planned(*settings: str) -> str:
        command = ["make", "--dry-run", "--always-make", *settings, "VENV=made-up", "test-ground"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "made-up/bin/python -m pytest" in planned("OS=") and "Scripts" not in planned("OS=")
    assert "made-up/Scripts/python -m pytest" in planned("OS=Windows_NT") and "/bin/" not in planned("OS=Windows_NT")
