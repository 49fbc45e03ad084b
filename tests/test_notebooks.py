"""The notebooks: made from their sources, up to date, without solutions for students, with words for every picture."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from labkit import checks, notebooks
from labkit.checks.verdict import Property, Verdict
from labkit.notebooks import Chapter, NotebookError

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = notebooks.chapters(ROOT)
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)

TINY = '''\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# labkit:
#   title: Filtering
#   minutes: 90
#   needs: nothing
#   summary: One box.
# ---

# %% [markdown]
# # Filtering

# %%
import sys

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from labkit import widgets
from labkit.checks import filtering as check

# %% exercise="box_filter"
def box_filter(image, radius):
    """Average over a window."""
    ### BEGIN SOLUTION
    return F.avg_pool2d(image, 2 * radius + 1, 1, radius, count_include_pad=False)
    ### END SOLUTION

# %% check="box_filter"
check.box_filter(box_filter)

# %% tags=["demonstration"]
print("Warning: this is noise", file=sys.stderr)
for _ in tqdm(range(3)):
    pass
widgets.Picture(torch.ones(3, 8, 8), alt="A white square.", caption="White.")
'''


def make_course(folder: Path) -> Chapter:
    """A course of one small chapter, not yet built."""
    chapter = Chapter(folder, "01_filtering")
    chapter.source.parent.mkdir(parents=True)
    chapter.source.write_text(TINY, encoding="utf-8")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    return chapter


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Chapter:
    """The small course, built once; tests that change it take `course`."""
    chapter = make_course(tmp_path_factory.mktemp("built"))
    notebooks.build(chapter.root, [], profile="quick")
    return chapter


@pytest.fixture
def course(built: Chapter, tmp_path: Path) -> Chapter:
    """A copy of the small course as it was built."""
    shutil.copytree(built.root, tmp_path / "course")
    return Chapter(tmp_path / "course", built.name)


def edit(chapter: Chapter, old: str, new: str) -> None:
    text = chapter.source.read_text(encoding="utf-8")
    assert old in text
    chapter.source.write_text(text.replace(old, new), encoding="utf-8")


def read(path: Path):
    return nbformat.read(path, as_version=4)


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells]


# --- the repository's own notebooks ---------------------------------------------------------------------------------

def test_every_notebook_is_what_its_source_gives():
    assert notebooks.problems(ROOT) == []


@each_chapter
def test_a_change_in_a_source_of_the_repository_is_noticed(chapter, tmp_path):
    for folder in ("solutions", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    copy = Chapter(tmp_path, chapter.name)
    edit(copy, "### END SOLUTION", "# a remark\n    ### END SOLUTION")
    found = notebooks.problems(tmp_path)
    assert [str(copy.solution) in problem for problem in found].count(True) == 1


@each_chapter
def test_the_notebook_asks_every_exercise_that_has_a_check(chapter):
    asked = [cell.metadata.nbgrader.grade_id for cell in notebooks.unexecuted(chapter).cells
             if cell.metadata.get("nbgrader", {}).get("solution")]
    assert asked == list(checks.exercises(chapter.topic))


@each_chapter
def test_an_exercise_states_its_points_and_minutes(chapter):
    known = checks.exercises(chapter.topic)
    previous = None
    for cell in notebooks.unexecuted(chapter).cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            exercise = known[cell.metadata.nbgrader.grade_id]
            plural = "" if exercise.points == 1 else "s"
            stated = f"`{exercise.name}` ({exercise.points:g} point{plural}, about {exercise.minutes} minutes)"
            assert stated in previous.source
        previous = cell


@each_chapter
def test_no_solution_is_in_the_students_notebook(chapter):
    solved = notebooks.unexecuted(chapter)
    region = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)
    given = "\n".join(region.sub("", source) for source in sources(solved))
    # a line that the text or the given code says anyway tells nothing
    bodies = [body for source in sources(solved) for body in region.findall(source)]
    secret = {line.strip() for body in bodies for line in body.splitlines()}
    secret = {line for line in secret if line and line not in given}
    student = json.dumps(read(chapter.student), ensure_ascii=False)
    assert len(secret) > 10
    assert not [line for line in secret if json.dumps(line, ensure_ascii=False)[1:-1] in student]
    assert "BEGIN SOLUTION" not in student and "END SOLUTION" not in student


@each_chapter
def test_the_students_notebook_is_the_solved_one_with_stubs(chapter):
    solved, student = notebooks.unexecuted(chapter), read(chapter.student)
    stub = '# YOUR CODE HERE\n    raise NotImplementedError("replace this line with your answer")'
    region = re.compile(r"### BEGIN SOLUTION\n.*?### END SOLUTION", re.DOTALL)
    assert sources(student) == [region.sub(stub, source) for source in sources(solved)]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in student.cells)


class _Pictures(HTMLParser):
    """Collects what is wrong with the pictures in a piece of HTML."""

    def __init__(self):
        super().__init__()
        self.wordless: list[str] = []

    def handle_starttag(self, tag, attributes):
        words = dict(attributes)
        if tag == "img" and not (words.get("alt") or "").strip():
            self.wordless.append(self.get_starttag_text()[:200])
        if tag == "svg" and words.get("aria-hidden") != "true" \
                and not (words.get("aria-label") or words.get("aria-labelledby")):
            self.wordless.append(self.get_starttag_text()[:200])


def wordless_pictures(notebook) -> list[str]:
    """Every picture of a notebook that has no words for who cannot see it."""
    parser, found = _Pictures(), []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parser.feed(cell.source)
            found += [f"![]({target}" for target in re.findall(r"!\[\s*\]\((\S+)", cell.source)]
        for output in cell.get("outputs", []):
            found += [f"bare {kind}" for kind in output.get("data", {}) if kind.startswith("image/")]
            parser.feed(output.get("data", {}).get("text/html", ""))
    return found + parser.wordless


@each_chapter
def test_every_picture_of_the_solutions_has_words(chapter):
    notebook = read(chapter.solution)
    assert "<img" in json.dumps(notebook)
    assert wordless_pictures(notebook) == []


@each_chapter
def test_the_solutions_show_pictures_where_no_kernel_runs(chapter):
    notebook = read(chapter.solution)
    text = json.dumps(notebook)
    assert notebooks.WIDGET_VIEW not in text
    assert "widgets" not in notebook.metadata
    assert not re.search(r'"(VBox|HBox|\w+Model)\(', text)


@each_chapter
def test_every_solution_earns_all_points(chapter):
    scores = notebooks.scores(read(chapter.solution))
    assert {score.exercise: score.earned for score in scores} == \
        {name: exercise.points for name, exercise in checks.exercises(chapter.topic).items()}


@each_chapter
def test_run_all_in_a_students_notebook_goes_past_what_is_not_written(chapter):
    notebook = read(chapter.student)
    notebooks.execute(notebook, chapter.student.parent, profile="quick", allow_errors=True)
    errors = [(cell.source[:80], output.evalue) for cell in notebook.cells for output in cell.get("outputs", [])
              if output.output_type == "error"]
    assert errors == []
    scores = notebooks.scores(notebook)
    assert len(scores) == len(checks.exercises(chapter.topic))
    for score in scores:
        assert score.earned == 0 and "not written yet" in score.text
    rendered = [output.data["text/html"] for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")
                for output in cell.outputs]
    assert len(rendered) == len(scores) and all("not written yet" in page for page in rendered)


def test_the_first_page_runs_and_its_links_lead_somewhere():
    page = ROOT / "notebooks" / "index.ipynb"
    notebook = read(page)
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(sources(notebook)))
    assert len(links) == 2 * len(CHAPTERS)
    assert all((page.parent / link).is_file() for link in links)
    notebooks.execute(notebook, page.parent, profile="quick")
    assert "labkit" in notebook.cells[-1].outputs[0].text


# --- how notebooks are made, on a small course ----------------------------------------------------------------------

def test_a_course_that_was_just_built_has_no_problems(built):
    assert notebooks.problems(built.root) == []


@pytest.mark.parametrize(("old", "new", "stale"), [
    ("# # Filtering", "# # Filters", {"solution", "student"}),
    # the student's notebook does not change, but the hash of its source does
    ("count_include_pad=False", "count_include_pad=False,", {"solution", "student"}),
    ("summary: One box.", "summary: Two boxes.", {"solution", "student", "index"}),
    ('tags=["demonstration"]', 'tags=["other"]', {"solution", "student"}),
], ids=["text", "solution", "header", "tag"])
def test_a_change_in_a_source_makes_its_notebooks_stale(course, old, new, stale):
    edit(course, old, new)
    files = {"solution": course.solution, "student": course.student, "index": course.root / "notebooks" / "index.ipynb"}
    found = notebooks.problems(course.root)
    assert {name for name, path in files.items() if any(str(path) in problem for problem in found)} == stale


def test_a_change_by_hand_in_a_students_notebook_is_noticed(course):
    notebook = read(course.student)
    notebook.cells[0].source += "!"
    nbformat.write(notebook, course.student)
    assert any(str(course.student) in problem and "cell 1" in problem for problem in notebooks.problems(course.root))


def test_a_missing_notebook_is_noticed(course):
    course.student.unlink()
    assert notebooks.problems(course.root) == [f"{course.student} does not exist"]


def test_a_notebook_without_a_source_is_noticed(course):
    stray = course.root / "notebooks" / "02_gone" / "02_gone.ipynb"
    stray.parent.mkdir()
    shutil.copy(course.student, stray)
    assert notebooks.problems(course.root) == [f"{stray} has no source in solutions"]


def test_what_jupyterlab_leaves_behind_is_no_problem(course):
    for place in (course.root / "notebooks", course.student.parent, course.solution.parent):
        (place / ".ipynb_checkpoints").mkdir()
        shutil.copy(course.student, place / ".ipynb_checkpoints" / "index-checkpoint.ipynb")
    assert notebooks.problems(course.root) == []


def test_a_solution_that_was_not_run_is_noticed(course):
    nbformat.write(notebooks.unexecuted(course), course.solution)
    assert notebooks.problems(course.root) == [f"{course.solution} has cells that were not run"]


def test_check_names_the_file_and_the_command_that_mends_it(course, monkeypatch, capsys):
    monkeypatch.chdir(course.root)
    assert notebooks.main(["check"]) == 0
    edit(course, "# # Filtering", "# # Filters")
    assert notebooks.main(["check"]) == 1
    assert f"{course.solution} is not what its source gives: cell 1" in (said := capsys.readouterr().err)
    assert "make notebooks" in said


def test_building_again_changes_nothing_but_outputs(course, capsys):
    files = [course.solution, course.student, course.root / "notebooks" / "index.ipynb"]
    before = [path.read_bytes() for path in files]
    notebooks.build(course.root, [], profile="quick")       # up to date: nothing is run
    assert [path.read_bytes() for path in files] == before
    assert "has not changed" in capsys.readouterr().out
    notebooks.build(course.root, [course.name], profile="quick")
    after = [path.read_bytes() for path in files]
    assert after[1:] == before[1:]
    first, second = (nbformat.reads(content.decode(), as_version=4) for content in (before[0], after[0]))
    for notebook in (first, second):
        for cell in notebook.cells:
            cell.pop("outputs", None)
    assert first == second


def test_a_cell_that_is_added_leaves_the_names_of_the_others_alone(course):
    before = {cell.id for cell in notebooks.unexecuted(course).cells}
    edit(course, "# %% exercise", "# %%\n1 + 1\n\n# %%\n1 + 1\n\n# %% exercise")
    after = [cell.id for cell in notebooks.unexecuted(course).cells]
    assert before < set(after) and len(set(after)) == len(after) == len(before) + 2


def nbgrader(course: Chapter, *arguments: str) -> None:
    """Run an nbgrader command in the course's folder, as an instructor does."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])     # it calls a bare alembic
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=course.root, timeout=120, check=False,
                          env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nbgrader_s_own_commands_make_the_same_file_and_mark_it(course):
    wanted = course.student.read_bytes()
    course.student.unlink()
    nbgrader(course, "generate_assignment", course.name)
    assert course.student.read_bytes() == wanted
    assert [path.name for path in course.student.parent.iterdir()] == [course.student.name]     # not the source

    for student, work in (("ada", course.solution), ("bob", course.student)):
        target = course.root / "submitted" / student / course.name / course.student.name
        target.parent.mkdir(parents=True)
        shutil.copy(work, target)
    nbgrader(course, "autograde", course.name)
    nbgrader(course, "export")
    with open(course.root / "grades.csv", newline="", encoding="utf-8") as file:
        marks = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert marks == {"ada": checks.exercises("filtering")["box_filter"].points, "bob": 0.0}


def test_a_notebook_keeps_what_means_something_without_a_kernel(built):
    notebook = read(built.solution)
    shown = notebook.cells[-1].outputs
    assert len(shown) == 1      # neither the noise nor the progress bar
    assert 'alt="A white square.' in shown[0].data["text/html"]
    assert set(shown[0].data) == {"text/html", "text/plain"}
    assert wordless_pictures(notebook) == []


def test_the_author_hears_what_a_solution_wrote_to_stderr(built):
    cell = nbformat.v4.new_code_cell("import sys; print('noise', file=sys.stderr)")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert notebooks.execute(notebook, built.root) == ["noise\n"]
    assert notebook.cells[0].outputs == []


def test_nbgrader_s_metadata_come_from_the_marks(built):
    solved = {cell.metadata.nbgrader.grade_id: cell for cell in notebooks.unexecuted(built).cells
              if "nbgrader" in cell.metadata}
    assert list(solved) == ["box_filter", "check_box_filter"] == [cell.id for cell in solved.values()]
    answer, check = (cell.metadata.nbgrader for cell in solved.values())
    assert (answer.solution, answer.grade) == (True, False)
    assert (check.solution, check.grade, check.locked) == (False, True, True)
    assert check.points == checks.exercises("filtering")["box_filter"].points


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("#   summary: One box.\n", "", "expected a header"),
    ("# labkit:", "# other:", "expected a header"),
    ('exercise="box_filter"', 'exercise="bax_filter"', "knows no exercise 'bax_filter'"),
    ('check="box_filter"', 'check="gaussian_filter"', "expected that of 'box_filter'"),
    ('# %% check="box_filter"', "# %%", "'box_filter' has no check"),
    (' exercise="box_filter"', "", "holds one ### BEGIN SOLUTION"),
    ("    ### END SOLUTION\n", "", "holds one ### BEGIN SOLUTION"),
])
def test_a_source_that_does_not_hold_together_is_refused(tmp_path, old, new, complaint):
    chapter = make_course(tmp_path / "course")
    edit(chapter, old, new)
    with pytest.raises(NotebookError, match=re.escape(complaint)):
        notebooks.unexecuted(chapter)


def test_a_solution_that_fails_its_check_is_not_written(course, monkeypatch):
    edit(course, "2 * radius + 1, 1", "2 * radius + 3, 1")
    before = course.solution.read_bytes()
    with pytest.raises(NotebookError, match="does not pass its check"):
        notebooks.build(course.root, [], profile="quick")
    assert course.solution.read_bytes() == before


def test_a_solution_that_stops_with_an_error_is_not_written(course):
    edit(course, 'print("Warning: this is noise", file=sys.stderr)', "1 / 0")
    before = course.solution.read_bytes()
    with pytest.raises(NotebookError, match="ZeroDivisionError"):
        notebooks.build(course.root, [], profile="quick")
    assert course.solution.read_bytes() == before


def test_a_chapter_that_does_not_exist_is_named(course):
    with pytest.raises(NotebookError, match="no chapter is called 07_gone; there are 01_filtering"):
        notebooks.build(course.root, ["07_gone"])


def test_a_folder_without_a_course_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "__file__", str(tmp_path / "site-packages" / "labkit" / "notebooks.py"))
    with pytest.raises(NotebookError, match="no course was found"):
        notebooks.find_root(tmp_path)


def test_nbval_notices_when_a_solution_does_not_pass_its_check_any_more(course):
    def run() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
        return subprocess.run([*command, str(course.solution)], cwd=course.root, capture_output=True, text=True,
                              timeout=120, check=False)

    assert run().returncode == 0
    notebook = read(course.solution)
    notebook.cells[2].source = notebook.cells[2].source.replace("count_include_pad=False", "count_include_pad=True")
    nbformat.write(notebook, course.solution)
    done = run()
    assert done.returncode == 1 and "not right yet" in done.stdout and "1 failed" in done.stdout


@pytest.mark.parametrize("verdict", [
    Verdict("box_filter", 2, 2.0, "right"),
    Verdict("box_filter", 2.5, 0.75, "wrong", diagnosis=("1 of 3 points is wrong.",),
            properties=(Property("3 of 4 points", False),)),
    Verdict("box_filter", 1, 0.0, "unsolved"),
], ids=lambda verdict: verdict.outcome)
def test_points_are_read_from_what_a_check_says(verdict):
    metadata = {"grade_id": "check_box_filter", "grade": True, "points": verdict.points, "solution": False}
    check = nbformat.v4.new_code_cell("check", metadata={"nbgrader": metadata})
    check.outputs = [nbformat.v4.new_output("stream", text="9 of 9 points"),
                     nbformat.v4.new_output("execute_result", data={"text/plain": repr(verdict)})]
    score, = notebooks.scores(nbformat.v4.new_notebook(cells=[check]))
    assert (score.exercise, score.earned, score.points) == ("box_filter", verdict.earned, verdict.points)
