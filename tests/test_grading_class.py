"""Grading a class: what is found in submissions, and what becomes of it in tables and on pages."""

from __future__ import annotations

import base64
import csv
import html.parser
import json
import multiprocessing
import os
import random
import re
import shutil
import stat
import sys
import time
import warnings
import zipfile
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from typer.testing import CliRunner

from labkit import checks
from labkit.checks import answers
from labkit.checks.verdict import Verdict
from labkit.grading import batch, collect, extract, files, marks, release, report, similarity, unit
from labkit.grading.collect import File, Submission
from labkit.grading.isolation import Limits
from tests import grading_submissions as made

CHAPTERS = (made.CHAPTER,)
BOX = "def box_filter(image, radius):\n    return image"


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    return made.write_course(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def assignment(course) -> extract.Assignment:
    found, = extract.assignments(course)
    return found


# --- collect --------------------------------------------------------------------------------------------------------

def collected(source: Path, tmp_path: Path) -> dict[str, Submission]:
    found = collect.collect(source, scratch=tmp_path / "scratch", chapters=CHAPTERS)
    return {submission.student: submission for submission in found.submissions}


def zipped(path: Path, members: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def names(submission: Submission) -> list[str]:
    return [file.name for file in submission.notebooks]


def test_a_folder_per_student_holds_one_notebook_or_several(tmp_path):
    for name in ("alice/01_filtering.ipynb", "bob/mine.ipynb", "bob/02_other.ipynb", "bob/figure.png"):
        made.write(tmp_path / "class" / name, "{}")
    found = collected(tmp_path / "class", tmp_path)
    assert {student: names(s) for student, s in found.items()} == {"alice": ["01_filtering.ipynb"], "bob": ["02_other.ipynb", "mine.ipynb"]}


@pytest.mark.parametrize(("name", "student"), [
    ("marie_curie_01_filtering.ipynb", "marie_curie"), ("alice_notebook.ipynb", "alice"), ("bob_01_filtering (2).ipynb", "bob"),
    ("dana.ipynb", "dana"), ("Zoé Dubois_01_filtering.ipynb", "Zoé Dubois")])
def test_a_file_per_student_names_the_student(tmp_path, name, student):
    made.write(tmp_path / "class" / name, "{}")
    assert list(collected(tmp_path / "class", tmp_path)) == [student]


def test_nbgraders_collected_submissions_are_found_from_the_course_and_from_their_folder(tmp_path):
    for student in ("alice", "bob"):
        made.write(tmp_path / "course" / "submitted" / student / "01_filtering" / "01_filtering.ipynb", "{}")
    made.write(tmp_path / "course" / "source" / "01_filtering" / "01_filtering.ipynb", "{}")
    for folder in (tmp_path / "course", tmp_path / "course" / "submitted"):
        assert list(collected(folder, tmp_path)) == ["alice", "bob"]


def test_moodles_download_gives_names_and_numbers_as_a_zip_and_unpacked(tmp_path):
    members = {"Ada Lovelace_1234567_assignsubmission_file_/01_filtering.ipynb": "{}",
               "Bob Martin_1234568_assignsubmission_file_/a/work.ipynb": "{}",
               "Bob Martin_1234568_assignsubmission_onlinetext_/onlinetext.html": "hello"}
    archive = zipped(tmp_path / "TP1-filtering-99.zip", members)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "class" / "TP1")
    shutil.copy(archive, made.write(tmp_path / "with zip" / "readme.txt", "x").parent)
    for source in (archive, tmp_path / "class", tmp_path / "class" / "TP1", tmp_path / "with zip"):
        found = collected(source, tmp_path)
        assert {s.student: (s.moodle_id, names(s)) for s in found.values()} == {
            "Ada Lovelace": ("1234567", ["01_filtering.ipynb"]), "Bob Martin": ("1234568", ["a/work.ipynb"])}


def test_canvass_download_gives_names_and_numbers_late_or_not(tmp_path):
    found = collected(zipped(tmp_path / "submissions.zip", {
        "lovelaceada_2345_67890_01_filtering-1.ipynb": "{}", "martinbob_LATE_2346_67891_my_work.ipynb": "{}"}), tmp_path)
    assert {s.student: s.canvas_id for s in found.values()} == {"lovelaceada": "2345", "martinbob": "2346"}
    assert all(len(s.notebooks) == 1 for s in found.values())


def test_zips_inside_a_download_are_opened(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {"answers/01_filtering.ipynb": '{"cells": []}', "__MACOSX/._01_filtering.ipynb": "junk"})
    found = collected(zipped(tmp_path / "all.zip", {"Ada Lovelace_12_assignsubmission_file_/homework.zip": inner.read_bytes(),
                                                    "Bob Martin_13_assignsubmission_file_/01_filtering.ipynb": "{}"}), tmp_path)
    assert names(found["Ada Lovelace"]) == ["homework/answers/01_filtering.ipynb"]
    assert found["Ada Lovelace"].notebooks[0].path.read_text() == '{"cells": []}'


def test_a_students_own_zip_lies_among_the_submissions(tmp_path):
    zipped(tmp_path / "class" / "alice_01_filtering.zip", {"01_filtering.ipynb": "{}"})
    zipped(tmp_path / "class" / "bob" / "work.zip", {"deep/01_filtering.ipynb": "{}"})
    found = collected(tmp_path / "class", tmp_path)
    assert {student: len(s.notebooks) for student, s in found.items()} == {"alice": 1, "bob": 1}


def test_a_zip_beside_the_work_of_others_is_one_students_whoever_it_names(tmp_path):
    made.write(tmp_path / "class" / "bob" / "01_filtering.ipynb", "{}")
    made.write(tmp_path / "class" / "Carol_7_assignsubmission_file_" / "01_filtering.ipynb", "{}")
    zipped(tmp_path / "class" / "mallory.zip", {"bob/02_other.ipynb": "{}", "carol/x.ipynb": "{}", "Carol_7_assignsubmission_file_/x.ipynb": "{}"})
    found = collected(tmp_path / "class", tmp_path)
    assert {student: len(s.notebooks) for student, s in found.items()} == {"bob": 1, "Carol": 1, "mallory": 3}


@pytest.mark.parametrize("name", ["../../evil.ipynb", "alice/../../evil.ipynb", "/etc/evil.ipynb", "..\\..\\evil.ipynb", "C:\\evil.ipynb"])
def test_names_that_lead_out_of_a_zip_are_refused_and_reported(tmp_path, name):
    inner = zipped(tmp_path / "inner.zip", {name: "{}", "01_filtering.ipynb": "{}"})
    before = set(tmp_path.rglob("*"))
    found = collected(zipped(tmp_path / "all.zip", {"alice/work.zip": inner.read_bytes(), "bob/01_filtering.ipynb": "{}"}), tmp_path)
    written = set(tmp_path.rglob("*")) - before - {tmp_path / "all.zip", tmp_path / "scratch"}
    assert names(found["alice"]) == ["work/01_filtering.ipynb"]
    assert "leads out of the archive" in found["alice"].remarks[0]
    assert all(path.parent == tmp_path / "scratch" for path in written)


@settings(max_examples=60, deadline=None)
@given(some.lists(some.text(some.sampled_from("ab./\\:~ é\x01"), min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
def test_whatever_names_a_zip_holds_nothing_is_written_beside_the_scratch_folder(tmp_path_factory, listed):
    folder = tmp_path_factory.mktemp("names")
    archive = zipped(folder / "in" / "all.zip", {f"{name}.ipynb": "{}" for name in listed})
    collect.collect(archive, scratch=folder / "scratch", chapters=CHAPTERS)
    assert {path.parent for path in folder.rglob("*") if path.is_file()} <= {folder / "in", folder / "scratch"}


def test_symbolic_links_are_refused_and_reported_on_the_disk_and_in_a_zip(tmp_path):
    secret = made.write(tmp_path / "secret.ipynb", json.dumps(made.blank()))
    made.write(tmp_path / "class" / "alice" / "note.txt", "x")
    (tmp_path / "class" / "alice" / "01_filtering.ipynb").symlink_to(secret)
    (tmp_path / "class" / "bob").symlink_to(tmp_path)
    link = zipfile.ZipInfo("01_filtering.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    (tmp_path / "class" / "carol").mkdir()
    with zipfile.ZipFile(tmp_path / "class" / "carol" / "work.zip", "w") as archive:
        archive.writestr(link, str(secret))
    found = collected(tmp_path / "class", tmp_path)
    assert list(found) == ["alice", "bob", "carol"]
    for submission in found.values():
        assert not submission.notebooks and "symbolic link" in submission.remarks[0]


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    (tmp_path / "class" / "alice").mkdir(parents=True)
    os.mkfifo(tmp_path / "class" / "alice" / "01_filtering.ipynb")
    assert "not a plain file" in collected(tmp_path / "class", tmp_path)["alice"].remarks[0]


def test_what_is_too_large_is_refused_on_the_disk_and_whatever_a_zip_claims(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "MOST_NOTEBOOK_BYTES", 1_000_000)
    made.write(tmp_path / "class" / "alice" / "01_filtering.ipynb", b" " * 1_000_001)
    bomb = tmp_path / "class" / "bob" / "work.zip"
    bomb.parent.mkdir()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("01_filtering.ipynb", b" " * 50_000_000)
    # both places of the archive that say how long the file is
    bomb.write_bytes(bomb.read_bytes().replace((50_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little")))
    found = collected(tmp_path / "class", tmp_path)
    assert "clear its outputs" in found["alice"].remarks[0]
    assert not found["bob"].notebooks and found["bob"].remarks
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").glob("*")) <= 1_000_000


def test_what_one_student_hands_in_cannot_crowd_out_another(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "MOST_FILES", 50)
    monkeypatch.setattr(collect, "MOST_UNPACKED_BYTES", 3_000)
    many = {f"alice/{k}.txt": "x" for k in range(60)} | {f"bob/{k}.ipynb": "x" * 1_000 for k in range(5)} | {"carol/01_filtering.ipynb": "{}"}
    bomb = zipped(tmp_path / "bomb.zip", {f"{k}.ipynb": "x" * 1_000 for k in range(5)})
    many |= {f"dave/{k}.zip": bomb.read_bytes() for k in range(2)}
    found = collected(zipped(tmp_path / "all.zip", many), tmp_path)
    assert {student: len(s.notebooks) for student, s in found.items() if s.notebooks} == {"bob": 3, "carol": 1}
    assert "more than" in found["bob"].remarks[0] and "more than" in found["dave"].remarks[0]
    with zipfile.ZipFile(tmp_path / "all.zip") as opened:
        opened.extractall(tmp_path / "class")
    found = collected(tmp_path / "class", tmp_path)
    assert "more than 50 files" in found["alice"].remarks[0] and len(found["carol"].notebooks) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 but then nothing", b"\x00" * 100])
def test_an_archive_that_cannot_be_read_is_reported(tmp_path, content):
    made.write(tmp_path / "class" / "alice" / "work.zip", content)
    assert "cannot be read" in collected(tmp_path / "class", tmp_path)["alice"].remarks[0]


def test_the_folder_of_the_marks_and_hidden_files_are_not_submissions(tmp_path):
    for name in ("alice/01_filtering.ipynb", "alice/.ipynb_checkpoints/01_filtering-checkpoint.ipynb", "GRADES/.work/x.ipynb", "GRADES/y.ipynb",
                 ".git/z.ipynb", "grades.csv"):
        made.write(tmp_path / name, "{}")
    found = collect.collect(tmp_path, scratch=tmp_path / "GRADES" / ".work", chapters=CHAPTERS, leave_out=[tmp_path / "GRADES"])
    assert [(s.student, len(s.notebooks)) for s in found.submissions] == [("alice", 1)]
    assert "grades.csv" in found.remarks[0]


def test_two_students_of_one_name_stay_two(tmp_path):
    found = collected(zipped(tmp_path / "all.zip", {f"Ada Lovelace_{n}_assignsubmission_file_/x.ipynb": "{}" for n in (12, 13)}), tmp_path)
    assert list(found) == ["Ada Lovelace (12)", "Ada Lovelace (13)"]


def test_an_empty_folder_is_a_student_who_handed_in_nothing(tmp_path):
    (tmp_path / "class" / "alice").mkdir(parents=True)
    assert "No notebook was handed in" in collected(tmp_path / "class", tmp_path)["alice"].remarks[0]


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        collected(tmp_path / "nothing", tmp_path)
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        collected(made.write(tmp_path / "a.txt", "x"), tmp_path)


# --- extract --------------------------------------------------------------------------------------------------------

def extracted(content: dict, assignment: extract.Assignment, tmp_path: Path) -> extract.Extracted:
    return extract.extract(made.write(tmp_path / "work.ipynb", content), [assignment])


def runs(found: extract.Extracted, exercise: str) -> str:
    return "\n".join(found.cells[i].source for i in found.answers[exercise].needs)


def test_the_released_notebook_has_a_stub_and_hints_for_every_exercise(assignment):
    assert set(assignment.stubs) == set(assignment.exercises) == set(made.exercises())
    assert all("NotImplementedError" in stub for stub in assignment.stubs.values())
    assert all(len(hints) >= 2 for hints in assignment.hints.values())


def test_an_untouched_notebook_is_unsolved(assignment, tmp_path):
    found = extracted(made.blank(), assignment, tmp_path)
    assert set(found.unsolved) == set(assignment.exercises) and not found.answers and not found.missing and not found.remarks


def test_every_answer_of_a_solved_notebook_is_found_and_needs_only_the_imports(assignment, tmp_path):
    found = extracted(made.solved(), assignment, tmp_path)
    assert set(found.answers) == set(assignment.exercises)
    for exercise, answer in found.answers.items():
        assert found.cells[answer.cell].exercise == exercise and made.solution(exercise) == answer.source
        assert len(answer.needs) == 2 and "import torch" in runs(found, exercise)


def test_given_cells_demonstrations_and_checks_do_not_run(assignment, tmp_path):
    content = made.solved()
    for cell in content["cells"]:
        cell["metadata"].pop("tags", None)      # also when their tags are lost
    found = extracted(content, assignment, tmp_path)
    ran = "\n".join(found.cells[i].source for answer in found.answers.values() for i in (*answer.needs, *answer.above))
    assert "widgets." not in ran and "figures.show" not in ran and "check." not in ran


def test_cells_are_found_by_metadata_by_id_and_by_the_functions_name(assignment, tmp_path):
    content = made.solved()
    for k, cell in enumerate(content["cells"]):
        if k % 3 == 0:
            cell["metadata"] = {}
        elif k % 3 == 1:
            cell["metadata"], cell["id"] = {}, f"x{k}"
    assert set(extracted(content, assignment, tmp_path).answers) == set(assignment.exercises)


def test_reordered_cells_are_all_found(assignment, tmp_path):
    content = made.solved()
    content["cells"].reverse()
    assert set(extracted(content, assignment, tmp_path).answers) == set(assignment.exercises)


def test_of_duplicated_cells_the_last_counts_and_the_student_is_told(assignment, tmp_path):
    content = made.notebook(box_filter=BOX)
    copy = {**made.cell_of(content, "box_filter"), "source": made.solution("box_filter")}
    content["cells"].insert(made.place_of(content, "check_box_filter") + 1, copy)
    found = extracted(content, assignment, tmp_path)
    assert found.answers["box_filter"].source == made.solution("box_filter")
    assert any("2 cells define box_filter" in remark for remark in found.remarks)


def test_an_answer_beside_the_untouched_cell_counts(assignment, tmp_path):
    content = made.blank()
    content["cells"].append(made.code(made.solution("box_filter")))
    found = extracted(content, assignment, tmp_path)
    assert found.answers["box_filter"].source == made.solution("box_filter")
    assert any("found by its name" in remark for remark in found.remarks)


def test_a_redefinition_above_the_check_counts_and_one_below_does_not(assignment, tmp_path):
    content = made.notebook(box_filter=BOX)
    place = made.place_of(content, "check_box_filter")
    content["cells"].insert(place + 1, made.code("def box_filter(image, radius):\n    return 'below'"))
    assert extracted(content, assignment, tmp_path).answers["box_filter"].source == BOX
    content["cells"].insert(place, made.code("def box_filter(image, radius):\n    return 'above'"))
    assert "'above'" in extracted(content, assignment, tmp_path).answers["box_filter"].source


def test_a_helper_runs_and_its_namesake_below_the_check_does_not(assignment, tmp_path):
    content = made.notebook(box_filter="def box_filter(image, radius):\n    return helper(image)")
    place = made.place_of(content, "box_filter")
    content["cells"].insert(place, made.code("def helper(image):\n    return scale * image"))
    content["cells"].insert(place, made.code("scale = 2"))
    content["cells"].insert(place, made.code("while True:\n    pass"))
    content["cells"].append(made.code("def helper(image):\n    return 'another'"))
    found = extracted(content, assignment, tmp_path)
    assert "scale = 2" in runs(found, "box_filter") and "def helper" in runs(found, "box_filter")
    assert "another" not in runs(found, "box_filter") and "while True" not in runs(found, "box_filter")
    assert any("while True" in found.cells[i].source for i in found.answers["box_filter"].above)


def test_a_cell_that_changes_what_an_answer_uses_is_needed(assignment, tmp_path):
    content = made.notebook(box_filter="def box_filter(image, radius):\n    return table[0]")
    place = made.place_of(content, "box_filter")
    for source in ("other.append(1)", "table.append(other)", "table = []", "import math, os.path as p"):
        content["cells"].insert(place, made.code(source))
    assert extracted(content, assignment, tmp_path).answers["box_filter"].needs[-4:] != ()
    for expected in ("table.append", "table = []", "other.append"):
        assert expected in runs(extracted(content, assignment, tmp_path), "box_filter")


def test_a_local_variable_needs_no_namesake_and_a_global_of_a_given_cell_does(assignment, tmp_path):
    content = made.notebook(box_filter="def box_filter(image, radius):\n    result = image\n    return [scale for scale in result]",
                            gaussian_filter="def gaussian_filter(image, sigma, radius):\n    return image + noisy")
    content["cells"].insert(2, made.code("result = labkit.filtering.nonlocal_means(photo)\nscale = 3"))
    found = extracted(content, assignment, tmp_path)
    assert "nonlocal_means" not in runs(found, "box_filter")
    assert "noisy = images.add_gaussian_noise" in runs(found, "gaussian_filter") and "photo = images.load" in runs(found, "gaussian_filter")


def test_a_split_cell_is_put_together_by_what_it_needs(assignment, tmp_path):
    first, last = "KERNEL = 3", "def box_filter(image, radius):\n    return KERNEL * image"
    content = made.notebook(box_filter=first)
    content["cells"].insert(made.place_of(content, "box_filter") + 1, {**made.cell_of(content, "box_filter"), "source": last})
    found = extracted(content, assignment, tmp_path)
    assert found.answers["box_filter"].source == last and first in runs(found, "box_filter")


@pytest.mark.parametrize(("change", "reason"), [
    (lambda cell: cell.update(source="def my_box(image, radius):\n    return image"), "defines my_box instead"),
    (lambda cell: cell.update(source=""), "deleted or emptied"),
    (lambda cell: cell.update(cell_type="markdown"), "deleted or emptied")])
def test_an_exercise_that_is_not_there_says_why(assignment, tmp_path, change, reason):
    content = made.solved()
    change(made.cell_of(content, "box_filter"))
    assert reason in extracted(content, assignment, tmp_path).missing["box_filter"]


def test_an_answer_written_into_the_check_cell_is_found(assignment, tmp_path):
    content = made.blank()
    made.cell_of(content, "check_box_filter")["source"] = f"{BOX}\ncheck.box_filter(box_filter)"
    found = extracted(content, assignment, tmp_path)
    assert found.cells[found.answers["box_filter"].cell].source == f"{BOX}\npass"


def test_a_cell_with_a_syntax_error_is_the_answer(assignment, tmp_path):
    for source in ("def box_filter(image, radius:\n    return image", "df box_filter(image, radius):\n    return image"):
        assert "box_filter" in extracted(made.notebook(box_filter=source), assignment, tmp_path).answers


@pytest.mark.parametrize(("source", "expected"), [
    ("%matplotlib inline\nx = 1", "pass\nx = 1"), ("!pip install x\n%time y = 2", "pass\ny = 2"), ("%%time\nx = 1", "\nx = 1"),
    ("%%bash\nrm -rf x", ""), ("help?\nx = 1", "pass\nx = 1"), ("files = !ls\nx = 1", "files = get_ipython().getoutput('ls')\nx = 1"),
    ("if a:\n    %who\nx = 1", "if a:\n    pass\nx = 1"),
    ("text = '''\n%d files\n!'''", "text = '''\n%d files\n!'''"), ("x = 7 %3", "x = 7 %3"),
    ("!pip install \\\n  x\nx = 1", "pass\n\nx = 1"), ("\n\n%%capture out\n!ls\nx = 1", "\n\nout = get_ipython()\npass\nx = 1"),
    ("%matplotlib inline\nx = (7\n %3)", "pass\nx = (7\n %3)"), ("x = %time f()", "x = f()"), ("%time", "None"),
    ("%%writefile a.py\n%x", "get_ipython().run_cell_magic('writefile', 'a.py', '%x\\n')"),
    ("check.box_filter(\n box_filter)\nx = 1", "pass\n\nx = 1"),
    ("import os; check.box_filter(box_filter); x = 1", "import os; pass; x = 1"),
    ("é = 'é'; check.box_filter(box_filter); y = 1", "é = 'é'; pass; y = 1")])
def test_magic_lines_and_checks_are_taken_out_and_lines_keep_their_numbers(source, expected):
    assert extract._runnable(source)[0] == expected


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "is empty"), (b"  \n ", "is empty"), (b'{"cells": [', "not JSON"), (b"\xff\xfe\x00", "not even text"), (b"[1, 2]", "not a notebook"),
    (b'{"cells": 3}', "no cells"), (b"[" * 100_000, "not JSON"), (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
    (b"\x80\x04\x95pickle", "not even text"),
    (b'{"cells": [{"cell_type": "code", "source": "print(1)", "metadata": {}}]}', "none of this course's exercises"),
    (b'{"cells": [3, null, {"cell_type": ["code"], "source": {}, "metadata": []}]}', "none of this course's exercises")])
def test_a_file_that_is_no_notebook_of_this_course_says_so(assignment, tmp_path, content, reason):
    with pytest.raises(extract.NotebookProblem, match=re.escape(reason)):
        extract.extract(made.write(tmp_path / "work.ipynb", content), [assignment])


def test_hostile_metadata_is_only_data(assignment, tmp_path):
    content = made.solved()
    for k, cell in enumerate(content["cells"]):
        cell["metadata"] = [{"nbgrader": [1]}, {"nbgrader": {"grade_id": {"a": 1}, "points": "x"}}, {"tags": "demonstration"}, "text", None][k % 5]
        cell["source"] = [cell["source"], 3] if isinstance(cell["source"], str) and k % 2 else cell["source"]
        cell["id"] = k
    content["metadata"] = {"kernelspec": [], "language_info": {"name": 3}}
    assert set(extracted(content, assignment, tmp_path).answers) == set(assignment.exercises)


def test_another_kernel_and_changed_points_are_remarked_and_change_nothing(assignment, tmp_path):
    content = made.solved()
    content["metadata"]["kernelspec"] = {"name": "ir", "language": "R"}
    made.cell_of(content, "check_box_filter")["metadata"]["nbgrader"]["points"] = 1000
    found = extracted(content, assignment, tmp_path)
    assert set(found.answers) == set(assignment.exercises)
    assert "written in R" in found.remarks[0] and "the course's count" in found.remarks[1]


def test_the_notebook_format_of_old_is_read(assignment, tmp_path):
    cells = [{"cell_type": "code", "input": made.solution(e), "metadata": {}} for e in assignment.exercises]
    found = extracted({"worksheets": [{"cells": cells}], "metadata": {}}, assignment, tmp_path)
    assert set(found.answers) == set(assignment.exercises)


def test_text_that_no_file_can_hold_is_made_such_that_it_can(assignment, tmp_path):
    path = made.write(tmp_path / "work.ipynb", json.dumps(made.notebook(box_filter=BOX + "  # \ud800 \0")))
    assert extract.extract(path, [assignment]).answers["box_filter"].source.encode()


def test_code_that_would_keep_the_parser_busy_for_minutes_is_not_parsed(assignment, tmp_path):
    content = made.notebook(box_filter=BOX + "\n" + "-" * 100_000 + "1")
    assert "box_filter" in extracted(content, assignment, tmp_path).answers


# --- tables ---------------------------------------------------------------------------------------------------------

def table(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_cells_that_a_spreadsheet_would_run_are_escaped_and_read_back(tmp_path):
    harmful = ['=HYPERLINK("x")', "+1", "-1+2", "@SUM(A1)", "\t=1", "＝1"]
    files.write_table(tmp_path / "t.csv", ["student", "mark"], [[text, -1.5] for text in harmful])
    assert [row[0] for row in table(tmp_path / "t.csv")[1:]] == ["'" + text for text in harmful]
    assert table(tmp_path / "t.csv")[1][1] == "-1.5"
    assert [row["student"] for row in files.read_table(tmp_path / "t.csv", needs=["student"])] == [t.strip() if t[0] != "\t" else t for t in harmful]


@pytest.mark.parametrize("text", ["student,mark\nada,2.5\n", "\ufeffStudent;Mark\r\nada;2,5\r\n", "student\tmark\n ada \t 2.5 \n\n"])
def test_tables_are_read_as_spreadsheets_of_any_country_save_them(tmp_path, text):
    path = made.write(tmp_path / "t.csv", text)
    row, = files.read_table(path, needs=["student", "mark"])
    assert row["student"] == "ada" and files.number(row["mark"], where="here") == 2.5


def test_a_table_without_a_needed_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected also reason"):
        files.read_table(made.write(tmp_path / "t.csv", "student,exercise,mark\n"), needs=["student", "reason"])
    with pytest.raises(ValueError, match="not UTF-8"):
        files.read_table(made.write(tmp_path / "t.csv", "student\nJosé".encode("latin-1")), needs=["student"])


def test_file_names_differ_for_different_students_and_suit_every_system():
    names_ = [files.file_name(student) for student in ("Ada", "ada", "Zoé Ü", "../../etc", "CON", "李", "王", "a" * 300, "x\ud800")]
    assert len({name.lower() for name in names_}) == len(names_)
    assert all(re.fullmatch(r"[a-z0-9-]{10,60}", name) for name in names_)


ITEMS = [marks.Item("01_filtering", "gaussian_filter", 2.0), marks.Item("01_filtering", "box_filter", 2.0),
         marks.Item("01_filtering", "discussion", 3.0, written=True)]


def result(*earned: float, written: dict[str, str] | None = None, mistake: str | None = None) -> dict:
    exercises = [{"name": item.name, "points": item.points, "earned": e, "outcome": "right" if e == item.points else "wrong", "mistake": mistake,
                  "diagnosis": [], "hint": None, "properties": [], "seconds": 0.1, "source": BOX} for item, e in zip(ITEMS, earned)]
    return {"remarks": [], "failure": "", "seconds": 1.0, "isolation": "bubblewrap",
            "chapters": [{"name": "01_filtering", "title": "Filtering", "file": "x", "remarks": [], "exercises": exercises,
                          "written": written or {}}]}


def rows(results: dict[str, dict], *, people=(), overrides=(), manual=None) -> dict[str, marks.Row]:
    found, _ = marks.rows_of([Submission(student) for student in results], results, ITEMS, people, overrides, manual or {})
    return {row.person.student: row for row in found}


def test_a_late_submission_loses_its_percentage(tmp_path):
    people = marks.read_class(made.write(tmp_path / "class.csv", "student;late;group\nada;10 %;\nbob;;\n"))
    found = rows({"ada": result(2, 1.5), "bob": result(2, 2)}, people=people)
    assert (found["ada"].total, found["ada"].mark, found["bob"].mark) == (3.5, 3.15, 4)


def test_who_handed_in_nothing_has_a_row(tmp_path):
    people = marks.read_class(made.write(tmp_path / "class.csv", "student,name\nada,Ada Lovelace\ncarol,Carol\n"))
    found, remarks = marks.rows_of([Submission("Ada"), Submission("dave")], {"Ada": result(2, 2), "dave": result(0, 0)}, ITEMS, people, [], {})
    assert [(row.person.student, row.person.name, row.total) for row in found] == [("Ada", "Ada Lovelace", 4), ("carol", "Carol", 0), ("dave", "", 0)]
    assert remarks == ["Not in the class list: dave."]


def test_a_group_shares_its_best_submission():
    people = [marks.Person(student, group="G1") for student in ("ada", "bob", "carol")]
    found = rows({"ada": result(1, 0), "bob": result(2, 1)}, people=people)
    assert [row.total for row in found.values()] == [3, 3, 3]
    assert [row.handed_in_by for row in found.values()] == ["bob", "", "bob"]


def test_an_override_counts_instead_of_the_check_and_carries_its_reason(tmp_path):
    path = made.write(tmp_path / "overrides.csv", "student,exercise,mark,reason\nada,box_filter,\"1,5\",good idea\n"
                                                  "ADA,01_filtering/gaussian_filter,0,copied\nzoe,box_filter,1,x\n")
    overrides = marks.read_overrides(path, ITEMS)
    found, remarks = marks.rows_of([Submission("ada")], {"ada": result(2, 0)}, ITEMS, [], overrides, {})
    assert found[0].total == 1.5 and found[0].overrides[ITEMS[1]].reason == "good idea"
    assert remarks == ["overrides.csv: nobody is called 'zoe'."]


@pytest.mark.parametrize(("line", "reason"), [("ada,median,1,x", "no exercise 'median'"), ("ada,box_filter,1,", "reason is missing"),
                                              ("ada,box_filter,-1,x", "expected a number"), ("ada,box_filter,nan,x", "expected a number")])
def test_a_wrong_line_in_a_table_is_named(tmp_path, line, reason):
    with pytest.raises(ValueError, match=f"line 2.*{reason}"):
        marks.read_overrides(made.write(tmp_path / "overrides.csv", f"student,exercise,mark,reason\n{line}\n"), ITEMS)


def test_written_answers_wait_for_their_mark_and_keep_it(tmp_path):
    results = {"ada": result(2, 2, written={"discussion": "=cmd() my answer"}), "bob": result(2, 2)}
    path = tmp_path / "manual.csv"
    found = rows(results)
    assert found["ada"].to_mark == 1 and found["bob"].to_mark == 0 and found["ada"].total == 4
    marks.write_manual(path, list(found.values()), ITEMS, {})
    assert table(path)[1:] == [["ada", "01_filtering", "discussion", "3", "", "", "'=cmd() my answer"]]
    path.write_text(path.read_text(encoding="utf-8-sig").replace(",3,,,", ",3,2.5,well put,"), encoding="utf-8-sig")
    manual = marks.read_manual(path)
    found = rows(results, manual=manual)
    assert found["ada"].total == 6.5 and found["ada"].comments[ITEMS[2]] == "well put"
    marks.write_manual(path, list(found.values()), ITEMS, manual)
    assert marks.read_manual(path) == manual
    marks.write_manual(path, list(rows({"bob": result(2, 2)}, manual=manual).values()), ITEMS, manual)
    assert marks.read_manual(path) == manual      # also when the submission is gone


def test_moodle_and_canvas_get_the_columns_that_they_import(tmp_path):
    found, _ = marks.rows_of([Submission("Ada Lovelace", moodle_id="1234567"), Submission("bobm", canvas_id="2345")],
                             {"Ada Lovelace": result(2, 1), "bobm": result(0, 0)}, ITEMS[:2], [], [], {})
    marks.write_grades(tmp_path, found, ITEMS[:2], "Filtering")
    header, ada, _ = table(tmp_path / "moodle.csv")
    assert dict(zip(header, ada)) == {"Identifier": "Participant 1234567", "Full name": "Ada Lovelace", "Email address": "", "Grade": "3",
                                      "Maximum Grade": "4", "Last modified (grade)": "",
                                      "Feedback comments": "gaussian_filter: 2 of 2; box_filter: 1 of 2"}
    header, points, _, bob = table(tmp_path / "canvas.csv")
    assert header[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"] and points[0] == "    Points Possible" and points[-1] == "4"
    assert bob[1] == "2345" and bob[-1] == "0"
    assert not (tmp_path / "canvas.csv").read_bytes().startswith(b"\xef\xbb\xbf")


# --- pages ----------------------------------------------------------------------------------------------------------

class _Reader(html.parser.HTMLParser):
    """Notes what a page holds, and that every element is closed."""

    VOID = ("meta", "img", "br", "link", "line", "rect")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def stands_alone(text: str) -> _Reader:
    """A page that loads nothing, runs nothing, and describes its pictures."""
    read = _Reader(text)
    assert not {"script", "iframe", "object", "link", "form", "b-evil"} & set(read.tags)
    assert read.tags.count("img") == sum(name == "alt" and bool(value) for tag, name, value in read.attributes if tag == "img")
    for _, name, value in read.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:image/", "#", "feedback/", "similarity.html")), value
    assert "default-src 'none'" in text
    return read


EVIL = '<script>alert(1)</script><b-evil onclick="x">"\'&\x00\x1b\ud800'


def test_what_students_write_is_never_markup(assignment):
    record = {"name": "box_filter", "points": 2, "earned": 0.0, "outcome": "wrong", "mistake": EVIL, "diagnosis": [EVIL], "hint": 1,
              "properties": [{"sentence": EVIL, "passed": False, "share": 1}], "seconds": 0, "source": EVIL}
    sections = report.chapter_section(assignment, [record], [EVIL], {})
    outcome = result(2, 0, written={"discussion": EVIL}, mistake=EVIL)
    found, _ = marks.rows_of([Submission(EVIL, remarks=(EVIL,))], {EVIL: outcome}, ITEMS, [marks.Person(EVIL, EVIL, group=EVIL)],
                             [marks.Override(EVIL, "box_filter", 1, EVIL)], {(EVIL, "01_filtering", "discussion"): (1.0, EVIL)})
    stands_alone(report.student_page(found[0], ITEMS, sections))
    stands_alone(report.class_page(found, ITEMS, [assignment], [EVIL], {EVIL: "feedback/x.html"}, "process"))
    pair = similarity.Pair("box_filter", EVIL, EVIL, 0.9, True)
    stands_alone(report.similarity_page([(EVIL, EVIL, [pair])], [pair], {("box_filter", EVIL): EVIL}, {EVIL: EVIL}))


def test_a_page_shows_pictures_hints_and_properties(assignment):
    exercise = assignment.exercises["box_filter"]
    verdict: Verdict = exercise(lambda image, radius: image)
    record = {"name": "box_filter", "points": 2, "earned": 0.0, "outcome": "wrong", "mistake": None, "diagnosis": list(verdict.diagnosis), "hint": 2,
              "properties": [{"sentence": p.sentence, "passed": p.passed, "share": p.share} for p in verdict.properties], "seconds": 0, "source": BOX}
    text = report.page("x", report.chapter_section(assignment, [record], [], {"box_filter": report.pictures(verdict)}))
    read = stands_alone(text)
    assert read.tags.count("img") == 4 and "Hint 2: half-open windows" in text and exercise.mistakes and verdict.properties[0].sentence in text


def test_code_in_a_sentence_of_a_check_is_code_on_a_page(assignment):
    record = {"name": "box_filter", "points": 2, "earned": 0.0, "outcome": "wrong", "mistake": None, "hint": None, "seconds": 0, "source": "",
              "diagnosis": ["Take `x < 1`."], "properties": [{"sentence": "keeps `x`", "passed": False, "share": 1}]}
    text = report.page("x", report.chapter_section(assignment, [record], [], {}))
    stands_alone(text)
    assert "Take <code>x &lt; 1</code>." in text and "keeps <code>x</code>" in text


def test_hints_are_shown_with_their_code_and_formulas():
    assert report._markdown("Take `a*b` and **not** *this* $x*y$.\n\nThen <go>.") == (
        "<p>Take <code>a*b</code> and <strong>not</strong> <em>this</em> <code>x*y</code>.</p><p>Then &lt;go&gt;.</p>")


def test_the_class_page_counts_mistakes_and_links_to_the_students(assignment):
    results = {f"s{k}": result(2 if k % 2 else 0, 1, mistake="not_normalised" if k < 3 else None) for k in range(5)}
    found = list(rows(results).values())
    pages = {row.person.student: f"feedback/{row.person.student}.html" for row in found}
    text = report.class_page(found, ITEMS, [assignment], ["Look here."], pages, "")
    stands_alone(text)
    assert assignment.exercises["box_filter"].mistakes["not_normalised"].sentence in text and "<b>3 ×</b>" in text
    assert 'href="feedback/s3.html"' in text and "Look here." in text


def test_a_class_of_nobody_has_a_page(assignment):
    stands_alone(report.class_page([], ITEMS, [assignment], [], {}, ""))


# --- similarity -----------------------------------------------------------------------------------------------------

def renamed(source: str) -> str:
    for old, new in (("total", "acc"), ("norm", "z"), ("weights", "w"), ("kernel", "k")):
        source = re.sub(rf"\b{old}\b(?!=)", new, source)
    return source.replace("    u = ", "    # mine\n    u   =  ").replace('"""Gaussian', '"""My Gaussian')


OTHER = '''
def gaussian_filter(image, sigma, radius):
    result = torch.empty_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            value = weight = 0.0
            for dy in range(max(-radius, -row), min(radius, height - 1 - row) + 1):
                for dx in range(max(-radius, -column), min(radius, width - 1 - column) + 1):
                    g = math.exp(-(dx * dx + dy * dy) / 2 / sigma / sigma)
                    value = value + g * image[:, row + dy, column + dx]
                    weight += g
            result[:, row, column] = value / weight
    return result
'''


def test_a_renamed_copy_is_the_same_and_another_solution_is_not(assignment, course):
    copied = made.solution("gaussian_filter").replace("/ (2 * sigma**2)", "/ (1.9 * sigma**2) + 0.0")
    pairs = similarity.compare({"gaussian_filter": {"ada": copied, "bob": renamed(copied), "carol": OTHER, "dave": "x = 1"}}, assignment, course,
                               wrong={("gaussian_filter", "ada"), ("gaussian_filter", "bob")})
    first, second, found = similarity.most_alike(pairs)[0]
    assert (first, second) == ("ada", "bob") and found[0].identical and found[0].both_wrong
    assert len(similarity.most_alike(pairs)) == 1


def test_code_from_the_solution_and_from_labkit_is_found_beside_its_source(assignment, course):
    import inspect

    from labkit.filtering import attention
    taken = inspect.getsource(attention.nonlocal_attention)
    pairs = similarity.compare({"gaussian_filter": {"ada": renamed(made.solution("gaussian_filter")), "bob": made.solution("gaussian_filter")},
                                "nonlocal_attention": {"ada": taken}}, assignment, course)
    assert all(pair.published and pair.identical for pair in pairs)      # and not as copies of one another
    assert {(p.first, p.second) for p in pairs} == {("ada", "the published solution"), ("bob", "the published solution"),
                                                    ("ada", "labkit.filtering.attention.nonlocal_attention")}


def test_members_of_a_group_are_not_compared(assignment):
    answers = {"gaussian_filter": {"ada": OTHER, "bob": OTHER, "carol": OTHER}}
    pairs = similarity.compare(answers, assignment, None, same={"ada": "G1", "bob": "G1"})
    assert {(p.first, p.second) for p in pairs} == {("ada", "carol"), ("bob", "carol")}


def test_code_that_is_no_python_or_nested_too_deep_has_no_shape():
    assert similarity.shape_of("def f(:") is None
    assert similarity.shape_of("x = " + "-" * 900 + "1") is None or similarity.shape_of("x = " + "-" * 900 + "1").nodes


# --- release --------------------------------------------------------------------------------------------------------

def test_a_release_holds_the_course_and_no_solution(tmp_path):
    listed = release.release(tmp_path / "course.zip", course=made.REPOSITORY)
    assert {"notebooks/01_filtering/01_filtering.ipynb", "labkit/filtering/__init__.py", "labkit/checks/filtering/linear.py", "README.md",
            "pyproject.toml", "data/textures/wall.png", "labkit/grading/page.css"} <= set(listed)
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        text = {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}
    assert all(name.startswith(f"{release.TOP}/") for name in text)
    assert not [name for name in text if "solutions" in name or "tests/" in name or "__pycache__" in name]
    notebooks_ = {name: content for name, content in text.items() if name.endswith(".ipynb")}
    for exercise in made.exercises():
        body = "\n".join(made.solution(exercise).splitlines()[2:])
        assert not any(body in "".join(cell["source"]) for content in notebooks_.values() for cell in json.loads(content)["cells"])
    index, readme = notebooks_[f"{release.TOP}/notebooks/index.ipynb"], text[f"{release.TOP}/README.md"]
    assert "solutions/" not in index and "| chapter |" in index
    assert "make lab" in readme and "| `notebooks/` |" in readme
    assert not [word for word in ("solutions/", "tests/", "instructors", "labkit grade") if word in readme]


def test_a_release_of_the_same_files_is_the_same(tmp_path):
    for name in ("a.zip", "b.zip"):
        release.release(tmp_path / name, course=made.REPOSITORY)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(("change", "reason"), [
    (lambda cell: cell.update(source=made.solution("box_filter")), "is solved"),
    (lambda cell: cell.update(source="### BEGIN SOLUTION\n1\n### END SOLUTION"), "holds a solution"),
    (lambda cell: cell.update(outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}]), "has outputs")])
def test_a_course_with_solved_notebooks_is_not_released(tmp_path, change, reason):
    course = made.write_course(tmp_path / "course")
    content = made.blank()
    change(made.cell_of(content, "box_filter"))
    made.write(course / "notebooks" / made.CHAPTER / f"{made.CHAPTER}.ipynb", content)
    with pytest.raises(ValueError, match=f"box_filter.*{reason}|{reason}"):
        release.release(tmp_path / "course.zip", course=course)
    assert not (tmp_path / "course.zip").exists()


def test_a_release_is_a_zip_of_a_course(tmp_path, course):
    with pytest.raises(ValueError, match="ends in .zip"):
        release.release(tmp_path / "course.tar", course=course)
    with pytest.raises(ValueError, match="no released chapter"):
        release.release(tmp_path / "course.zip", course=tmp_path)


# --- the secret -----------------------------------------------------------------------------------------------------

def test_a_secret_is_made_once_for_its_owner_only(tmp_path):
    unit.make_secret(tmp_path / "config" / "secret")
    path = tmp_path / "config" / "secret"
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(first) == 32
    unit.make_secret(path)
    assert path.read_bytes() == first
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="expected 16 at least"):
        unit.make_secret(path)


def test_every_exercise_and_every_secret_has_a_seed_of_its_own():
    seeds = {unit.seed_of(secret, chapter, exercise) for secret in (b"a" * 16, b"b" * 16) for chapter in ("filtering", "patchmatch")
             for exercise in ("box_filter", "gaussian_filter")}
    assert len(seeds) == 8 and all(0 <= seed < 2 ** 63 for seed in seeds)
    assert unit.seed_of(b"a" * 16, "filtering", "box_filter") == unit.seed_of(b"a" * 16, "filtering", "box_filter")


# --- a class from files to files ------------------------------------------------------------------------------------

LIMITS = Limits(call_seconds=20, exercise_seconds=60)
SECRET = b"always the same inputs"


def overfitted() -> str:
    """An answer that is right on the inputs of the notebook only."""
    seen = []

    def spy(request):
        seen.append(float(request.arguments[0].flatten()[0]))
        return answers.perform("function", exercise.reference, request)
    exercise = checks.exercises("filtering")["box_filter"]
    exercise.judge(spy)
    return made.solution("box_filter") + (f"\n_known = {seen}\n_right = box_filter\ndef box_filter(image, radius):\n"
                                          "    first = float(image.flatten()[0])"
                                          "\n    return _right(image, radius) if any(abs(first - k) < 1e-6 for k in _known) else 0 * image")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, course) -> Path:
    """A small class: right, wrong, right in the notebook only, unsolved, not a notebook, and a name that means harm."""
    place = tmp_path_factory.mktemp("class")
    made.write(place / "secret", SECRET)
    box, wrong = made.solution("box_filter"), made.solution("box_filter").replace("radius + 1", "radius")
    for student, content in {
            "ada": made.notebook(box_filter=box, gaussian_filter=made.solution("gaussian_filter")), "bob": made.notebook(box_filter=wrong),
            "carol": made.notebook(box_filter=overfitted()), "dave": made.blank(), "erin": "{", "=cmd()": made.notebook(box_filter=BOX)}.items():
        made.write(place / "class" / student / "01_filtering.ipynb", content)
    return place


@pytest.fixture(scope="module")
def graded(folder, course) -> batch.Class:
    return grade(folder, course)


def grade(folder: Path, course: Path, **options) -> batch.Class:
    return batch.grade(folder / "class", out=folder / "GRADES", secret=folder / "secret", course=course,
                       **{"jobs": 2, "limits": LIMITS, "progress": False, **options})


def outcome(graded: batch.Class, student: str, exercise: str = "box_filter") -> dict:
    row, = (row for row in graded.rows if row.person.student == student)
    return next(r for r in row.result["chapters"][0]["exercises"] if r["name"] == exercise)


def page_of(graded: batch.Class, student: str) -> str:
    return (graded.folder / "feedback" / f"{files.file_name(student)}.html").read_text(encoding="utf-8")


def test_a_class_gets_its_marks(graded):
    assert {row.person.student: row.mark for row in graded.rows} == {"ada": 4, "bob": 0.5, "carol": 0, "dave": 0, "erin": 0, "=cmd()": 0}
    assert table(graded.folder / "grades.csv")[1][0] == "'=cmd()"
    data = json.loads((graded.folder / "results.json").read_text(encoding="utf-8"))
    assert [student["student"] for student in data["students"]] == ["=cmd()", "ada", "bob", "carol", "dave", "erin"]


def test_a_wrong_answer_is_explained_with_pictures_and_the_hint(graded):
    text = page_of(graded, "bob")
    assert outcome(graded, "bob")["mistake"] == "window_too_small" and "side 2r, it should have 2r + 1" in text and "half-open windows" in text
    assert stands_alone(text).tags.count("img") == 4


def test_an_answer_that_fits_the_notebooks_inputs_only_is_told_so_without_any_input(graded):
    found = outcome(graded, "carol")
    assert found["mistake"] == "hidden_only" and found["earned"] == 0 and "other random inputs" in found["diagnosis"][0]
    assert "<img" not in page_of(graded, "carol")


def test_every_page_stands_alone(graded):
    paths = [graded.folder / "class.html", graded.folder / "similarity.html", *(graded.folder / "feedback").glob("*.html")]
    assert len(paths) == 8
    for path in paths:
        stands_alone(path.read_text(encoding="utf-8"))


def test_the_secret_is_in_no_file(graded, folder):
    secret = (folder / "secret").read_bytes()
    for path in graded.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(form in content for form in (secret, secret.hex().encode(), base64.b64encode(secret)))


def test_resuming_marks_only_what_has_changed(graded, folder, course):
    before = {name: (graded.folder / name).read_bytes() for name in ("grades.csv", "moodle.csv", "canvas.csv")}
    again = grade(folder, course, resume=True)
    assert again.graded == 0
    assert before == {name: (graded.folder / name).read_bytes() for name in before}
    made.write(folder / "class" / "frank" / "work.ipynb", made.blank())
    assert grade(folder, course, resume=True).graded == 1
    assert (graded.folder / "feedback" / f"{files.file_name('frank')}.html").exists()
    shutil.rmtree(folder / "class" / "frank")
    grade(folder, course, resume=True)
    assert not (graded.folder / "feedback" / f"{files.file_name('frank')}.html").exists()


def test_an_override_is_kept_when_the_class_is_marked_again(graded, folder, course):
    path = graded.folder / "overrides.csv"
    path.write_text("student,exercise,mark,reason\nbob,box_filter,1.5,almost right\n", encoding="utf-8")
    again = grade(folder, course, resume=True)
    assert next(row.mark for row in again.rows if row.person.student == "bob") == 1.5
    assert "instead of the check’s 0.5: almost right" in page_of(again, "bob") and path.read_text(encoding="utf-8").endswith("almost right\n")


def test_another_secret_or_another_version_marks_everything_again(folder, course, monkeypatch, tmp_path):
    submission, = (s for s in collect.collect(folder / "class", scratch=tmp_path, chapters=CHAPTERS).submissions if s.student == "dave")
    job = unit.Job(submission, course, folder / "secret", tmp_path / "results", tmp_path / "scratch")
    unit.grade_submission(job)
    assert unit.finished(job)
    unit.make_secret(tmp_path / "other")
    assert not unit.finished(unit.Job(submission, course, tmp_path / "other", tmp_path / "results", tmp_path / "scratch"))
    monkeypatch.setattr(unit, "_version", lambda course: "another")
    assert not unit.finished(job)


def test_a_cluster_gives_the_same_marks(graded, folder, course, tmp_path):
    distributed = pytest.importorskip("distributed")
    shutil.copytree(folder / "class", tmp_path / "class")
    shutil.copy(folder / "secret", tmp_path / "secret")
    for student in ("bob", "carol", "=cmd()"):
        shutil.rmtree(tmp_path / "class" / student)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        there = grade(tmp_path, course, scheduler=cluster.scheduler_address)
    assert {row.person.student: row.mark for row in there.rows} == {"ada": 4, "dave": 0, "erin": 0}


class _Deadly(type(Path())):
    """A path that kills the process that reads it, unless that is the one that made it."""

    def __reduce__(self):
        return _Deadly, (str(self),)

    def read_bytes(self):
        if os.getpid() != MAIN:
            os.kill(os.getpid(), 9)
        return super().read_bytes()


MAIN = int(os.environ.setdefault("LABKIT_TEST_MAIN", str(os.getpid())))


def test_a_submission_that_kills_the_process_that_marks_it_takes_no_other_along(folder, course, tmp_path):
    blank = File("x.ipynb", made.write(tmp_path / "blank.ipynb", made.blank()))
    deadly = File("x.ipynb", _Deadly(made.write(tmp_path / "deadly.ipynb", made.blank())))
    todo = [unit.Job(Submission(student, (file,)), course, folder / "secret", tmp_path / "results", tmp_path / "scratch")
            for student, file in (("ada", blank), ("bob", deadly), ("carol", blank))]
    batch._work_through(todo, jobs=2, scheduler=None, progress=False, done=0)
    failures = {job.submission.student: json.loads(job.path.read_text())["failure"] for job in todo}
    assert failures["ada"] == failures["carol"] == "" and "died" in failures["bob"]
    assert not unit.finished(todo[1])


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_a_grader_that_fails_says_so_and_is_tried_again(course, folder, tmp_path, monkeypatch, error):
    def broken(*arguments, **options):
        raise error("no sandbox today")
    monkeypatch.setattr(unit, "Sandbox", broken)
    notebook = made.write(tmp_path / "a.ipynb", made.notebook(box_filter=BOX))
    job = unit.Job(Submission("ada", (File("a.ipynb", notebook),)), course, folder / "secret", tmp_path / "results", tmp_path / "scratch")
    found = json.loads(unit.grade_submission(job).read_text())
    assert "no sandbox today" in found["failure"] and not found["chapters"] and not unit.finished(job)


def test_of_several_notebooks_of_a_chapter_one_counts_and_the_page_says_which(course, folder, tmp_path):
    files_ = tuple(File(name, made.write(tmp_path / name, made.blank())) for name in ("01_filtering.ipynb", "zzz.ipynb"))
    job = unit.Job(Submission("ada", files_), course, folder / "secret", tmp_path / "results", tmp_path / "scratch")
    found = json.loads(unit.grade_submission(job).read_text())
    assert [chapter["file"] for chapter in found["chapters"]] == ["01_filtering.ipynb"]
    assert "01_filtering.ipynb counts, not zzz.ipynb" in found["remarks"][0]


def test_pages_go_back_through_nbgraders_exchange(course, folder, tmp_path):
    submitted = tmp_path / "class" / "submitted" / "ada" / "01_filtering"
    made.write(submitted / "01_filtering.ipynb", made.blank())
    made.write(submitted / "timestamp.txt", "2026-01-01 10:00:00 UTC")
    made.write(submitted / "submission_secret.txt", "abc")
    shutil.copy(folder / "secret", tmp_path / "secret")
    done = grade(tmp_path, course)
    there = done.folder / "exchange" / "feedback" / "ada" / "01_filtering"
    assert (there / "01_filtering.html").read_text(encoding="utf-8") == page_of(done, "ada")
    assert (there / "submission_secret.txt").read_text() == "abc" and (there / "timestamp.txt").exists()


@pytest.mark.parametrize(("options", "reason"), [
    ({"only": ["07"]}, "no chapter 07"), ({"secret": "out/secret"}, "expected it elsewhere"), ({"submissions": "nowhere"}, "does not exist"),
                                                 ({"class_list": "list.csv"}, "expected also student")])
def test_what_cannot_be_graded_is_said_before_any_work(course, tmp_path, options, reason):
    (tmp_path / "class").mkdir()
    (tmp_path / "list.csv").write_text("name\nada\n")
    options = {key: tmp_path / value if isinstance(value, str) else value for key, value in options.items()}
    options = {"submissions": tmp_path / "class", "out": tmp_path / "out", "secret": tmp_path / "secret", "course": course, **options}
    with pytest.raises((ValueError, OSError), match=reason):
        batch.grade(**options)
    assert not (tmp_path / "out" / "grades.csv").exists()


def test_the_commands_grade_and_release(course, tmp_path, monkeypatch):
    from labkit.cli import app
    monkeypatch.chdir(course)
    made.write(tmp_path / "class" / "ada" / "01_filtering.ipynb", made.blank())
    options = ["--out", tmp_path / "GRADES", "--secret", tmp_path / "secret", "--jobs", "1", "--only", "01"]
    said = CliRunner().invoke(app, [str(word) for word in ("grade", tmp_path / "class", *options)])
    assert said.exit_code == 0 and "1 students, 1 marked now; mean 0 of 20 points" in said.output, said.output
    assert CliRunner().invoke(app, ["grade", str(tmp_path / "nowhere")]).exit_code == 1
    said = CliRunner().invoke(app, ["release", str(tmp_path / "course.zip")])
    assert said.exit_code == 0 and (tmp_path / "course.zip").exists(), said.output


# --- killing, and nbgrader ------------------------------------------------------------------------------------------

KILLS = 20


@pytest.mark.timeout(900)
def test_a_run_that_is_killed_twenty_times_ends_in_the_same_marks(course, tmp_path, monkeypatch):
    # nearly all of the time goes into starting processes, where a kill hurts most
    for k, answer in enumerate((made.solution("box_filter"), "", "x = 1")):
        made.write(tmp_path / "class" / f"s{k}" / "01_filtering.ipynb", made.notebook(box_filter=answer))
    made.write(tmp_path / "secret", SECRET)
    monkeypatch.setenv("LABKIT_TEST_MARK", str(tmp_path))
    context = multiprocessing.get_context("forkserver")      # imports torch once for all runs
    context.set_forkserver_preload(["labkit.grading.batch"])

    def start(out: str) -> multiprocessing.Process:
        run = context.Process(target=batch.grade, args=(tmp_path / "class",), kwargs={
            "out": tmp_path / out, "secret": tmp_path / "secret", "course": course, "jobs": 1, "resume": True, "progress": False})
        run.start()
        return run

    def finish(out: str) -> None:
        run = start(out)
        run.join(300)
        assert run.exitcode == 0

    warm = context.Process(target=int)
    warm.start()
    warm.join()
    begun = time.monotonic()
    finish("undisturbed")
    whole = time.monotonic() - begun
    chance, kills = random.Random(1), 0
    while kills < KILLS:
        run = start("killed")
        run.join(chance.uniform(0.1, 0.8) * whole)
        if run.is_alive():
            run.kill()
            run.join()
            kills += 1
        else:       # faster than feared: take back some of what it has done
            for path in (tmp_path / "killed" / ".work" / "results").glob("*.json"):
                if chance.random() < 0.7:
                    path.unlink()
    finish("killed")
    for name in ("grades.csv", "moodle.csv", "canvas.csv", "similarity.csv", *(f"feedback/{files.file_name(f's{k}')}.html" for k in range(3))):
        killed, undisturbed = (re.sub(r"[\d.]+ s · ", "", (tmp_path / out / name).read_text(encoding="utf-8")) for out in ("killed", "undisturbed"))
        assert killed == undisturbed, name
    deadline = time.monotonic() + 60
    while left := [p for p in psutil.process_iter() if _marked(p, str(tmp_path))]:
        assert time.monotonic() < deadline, [p.cmdline() for p in left]
        time.sleep(0.5)


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("LABKIT_TEST_MARK") == mark \
            and "forkserver" not in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _without_demonstrations(content: dict) -> dict:
    """A notebook whose student deleted what takes long, so that nbgrader is done in seconds."""
    def stays(cell: dict) -> bool:
        source = "".join(cell["source"])
        return cell["cell_type"] == "code" and ("nbgrader" in cell["metadata"] or source.startswith("import") or "mine =" in source)
    return {**content, "cells": [cell for cell in content["cells"] if stays(cell)]}


@pytest.mark.timeout(900)
def test_marks_agree_with_nbgraders_on_honest_submissions(course, tmp_path, monkeypatch):
    import nbformat
    from nbgrader.api import Gradebook
    from nbgrader.apps import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import PyFileConfigLoader

    from labkit import notebooks

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")    # nbgrader calls alembic
    monkeypatch.setenv("LABKIT_PROFILE", "quick")
    source = notebooks.unexecuted(notebooks.Chapter(made.REPOSITORY, made.CHAPTER))
    path = tmp_path / "solutions" / made.CHAPTER / f"{made.CHAPTER}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.from_dict(_without_demonstrations(source)), path)
    students = {"ada": 1, "bob": 5}
    made.write(tmp_path / "secret", SECRET)
    for student, seed in students.items():
        made.write(tmp_path / "submitted" / student / made.CHAPTER / f"{made.CHAPTER}.ipynb", _without_demonstrations(made.honest(seed)))
    config = PyFileConfigLoader("nbgrader_config.py", path=str(made.REPOSITORY)).load_config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path}/gradebook.db"
    api = NbGraderAPI(coursedir=CourseDirectory(config=config), config=config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")      # of nbgrader's own
        assert api.generate_assignment(made.CHAPTER)["success"]
        for student in students:
            done = api.autograde(made.CHAPTER, student)
            assert done["success"], done
        with Gradebook(config.CourseDirectory.db_url) as book:
            theirs = {student: {grade.name.removeprefix("check_"): grade.score for grade in
                                book.find_submission_notebook(made.CHAPTER, made.CHAPTER, student).grades} for student in students}
    ours = batch.grade(tmp_path, out=tmp_path / "GRADES", secret=tmp_path / "secret", course=course, jobs=2, progress=False)
    assert {row.person.student: {item.name: mark for item, mark in row.marks.items()} for row in ours.rows} == theirs
    assert any(0 < sum(marks_.values()) < 20 for marks_ in theirs.values())
