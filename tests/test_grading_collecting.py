"""Whatever an instructor downloads, everybody in it gets a row or a remark, under a name that the tables know."""

from __future__ import annotations

import json
import random
import unicodedata
import zipfile
from pathlib import Path

import pytest
import typer

from labkit import cli
from labkit.grading import batch, collect, extract, files, marks, similarity
from labkit.grading.collect import Collection, Submission
from tests import grading_submissions as made

CHAPTERS = (made.CHAPTER,)
NFD = unicodedata.normalize("NFD", "Éva Nuñez")
NFC = unicodedata.normalize("NFC", "Éva Nuñez")


def collected(source: Path, tmp_path: Path) -> Collection:
    return collect.collect(source, scratch=tmp_path / "scratch", chapters=CHAPTERS)


def students(source: Path, tmp_path: Path) -> dict[str, int]:
    return {s.student: len(s.notebooks) for s in collected(source, tmp_path).submissions}


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        made.write(folder / name, "{}")
    return folder


def zipped(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return path


def from_macos(path: Path) -> Path:
    """The same zip with its names' bytes as they are, and without the flag that says that they are UTF-8."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset + 1] &= ~0x08
            place = content.find(signature, place + 1)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            [
                "Ada Lovelace_12_assignsubmission_file/x.ipynb",
                "Ada Lovelace_12_assignsubmission_onlinetext/onlinetext.html",
                "Bob Martin_13_assignsubmission_file/x.ipynb",
            ],
            {("Ada Lovelace", "12"): 1, ("Bob Martin", "13"): 1},
        ),
        (
            [
                "Ada Lovelace_12_assignsubmission_file_x.ipynb",
                "Bob Martin_13_assignsubmission_onlinetext_onlinetext.html",
            ],
            {("Ada Lovelace", "12"): 1, ("Bob Martin", "13"): 0},
        ),
        (
            [
                "Group 7_42_assignsubmission_file/x.ipynb",
                "Default group_43_assignsubmission_file_/x.ipynb",
                "Default group_assignsubmission_file/x.ipynb",
            ],
            {("Group 7", "42"): 1, ("Default group (43)", "43"): 1, ("Default group", ""): 1},
        ),
        (["Ann_de_Vries_14_assignsubmission_file/x.ipynb"], {("Ann_de_Vries", "14"): 1}),
    ],
)
def test_moodles_names_of_every_version_and_of_teams(tmp_path, names, expected):
    for source in (
        lay(tmp_path / "class", *names),
        zipped(tmp_path / "all.zip", *names),
        zipped(tmp_path / "one.zip", *(f"TP/{n}" for n in names)),
    ):
        found = collected(source, tmp_path).submissions
        assert {(s.student, s.moodle_id): len(s.notebooks) for s in found} == expected


@pytest.mark.parametrize("suffix", ["/01_filtering.ipynb", ".ipynb", "_01_filtering.ipynb", ".zip"])
@pytest.mark.parametrize(
    "names",
    [
        ["lab_1_2026_a", "lab_1_2026_b", "lab_1_2026_c"],
        ["TP_01_2026_a", "TP_01_2026_b"],
        ["lab_1_2026_a", "lab_1_2027_b"],
        ["ada_1", "ada_2"],
        ["alice", "alice_b", "alice_c"],
        ["marie_1_2", "marie_1_3"],
        ["Zoé_x", "zoé_y"],
    ],
)
def test_different_names_never_collapse(tmp_path, names, suffix):
    for name in names:
        if suffix == ".zip":
            zipped(tmp_path / "class" / f"{name}.zip", "01_filtering.ipynb")
        else:
            lay(tmp_path / "class", f"{name}{suffix}")
    found = students(tmp_path / "class", tmp_path)
    assert list(found.values()) == [1] * len(names)
    assert not suffix.startswith(("/", "_")) or set(found) == set(names)


def test_names_drawn_at_random_never_collapse(tmp_path):
    draw = random.Random(3)
    for number in range(40):
        names = {
            "_".join(draw.choice(("lab", "1", "2026", "a", "é", "01", "TP")) for _ in range(draw.randint(1, 5)))
            for _ in range(6)
        }
        folder = lay(tmp_path / f"folders{number}", *(f"{name}/x.ipynb" for name in names))
        assert students(folder, tmp_path) == dict.fromkeys(names, 1)
        folder = lay(tmp_path / f"files{number}", *(f"{name}_01_filtering.ipynb" for name in names))
        assert sorted(students(folder, tmp_path).values()) == [1] * len(names)


def test_canvass_files_stay_one_students_each_with_several_too(tmp_path):
    found = collected(
        zipped(
            tmp_path / "submissions.zip",
            "lovelaceada_2345_67890_a.ipynb",
            "lovelaceada_2345_67891_b.ipynb",
            "martinbob_LATE_2346_67892_lab_1_2026.ipynb",
            "poeedgar_2347_67893_essay.pdf",
        ),
        tmp_path,
    )
    assert {(s.student, s.canvas_id): len(s.notebooks) for s in found.submissions} == {
        ("lovelaceada", "2345"): 2,
        ("martinbob", "2346"): 1,
        ("poeedgar", "2347"): 0,
    }


def test_a_zip_made_by_macos_has_its_letters(tmp_path):
    archive = zipped(tmp_path / "all.zip", f"{NFD}/x.ipynb", "Bjørn/x.ipynb", "Ada/é.ipynb")
    assert students(from_macos(archive), tmp_path) == {"Ada": 1, "Bjørn": 1, NFC: 1}


def test_a_zip_of_an_old_windows_keeps_its_letters(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("Zo?/x.ipynb", "Ada/x.ipynb"):
            archive.writestr(name, "{}")
    archive = tmp_path / "all.zip"
    archive.write_bytes(archive.read_bytes().replace(b"Zo?/", "Zoé/".encode("cp437")))
    assert students(archive, tmp_path) == {"Ada": 1, "Zoé": 1}


def test_one_name_composed_and_decomposed_is_one_student(tmp_path):
    lay(tmp_path / "class", f"{NFD}/a.ipynb", f"{NFC}/b.ipynb")
    assert students(tmp_path / "class", tmp_path) == {NFC: 2}


def damaged(path: Path, *names: str, bad: str) -> Path:
    """A zip in which the content of one member does not fit its checksum."""
    zipped(path, *names)
    content = bytearray(path.read_bytes())
    place = content.find(bad.encode()) + len(bad.encode())
    content[place : place + 2] = b"[]"
    path.write_bytes(content)
    return path


def test_one_damaged_member_costs_nobody_else(tmp_path):
    names = [f"{name}/01_filtering.ipynb" for name in ("ada", "bob", "carol", "dave")]
    archive = damaged(tmp_path / "all.zip", *names, bad=names[1])
    assert students(archive, tmp_path) == {"ada": 1, "bob": 0, "carol": 1, "dave": 1}
    said = {s.student: s.remarks for s in collected(archive, tmp_path).submissions}["bob"]
    assert "01_filtering.ipynb was refused: it is damaged" in said[0]
    for path in (tmp_path / "two" / "all.zip", tmp_path / "two" / "bob.zip"):
        damaged(path, *names, bad=names[1])
    assert sum(students(tmp_path / "two", tmp_path).values()) == 6


def test_a_class_zip_that_cannot_be_read_is_a_remark(tmp_path):
    archive = zipped(tmp_path / "all.zip", "ada/x.ipynb")
    content = archive.read_bytes()
    place = content.find(b"PK\x01\x02")
    archive.write_bytes(content[:place] + b"XX" + content[place + 2 :])
    found = collected(archive, tmp_path)
    assert not found.submissions and "all.zip: the archive cannot be read" in found.remarks[0]


@pytest.mark.parametrize(
    "inside", ["submitted/01_filtering.ipynb", "submitted/01_filtering/01_filtering.ipynb", "submitted/work/x.ipynb"]
)
def test_a_folder_called_submitted_is_a_students_among_students(tmp_path, inside):
    assert students(lay(tmp_path / "class", inside, "ada/x.ipynb", "bob/x.ipynb"), tmp_path) == {
        "ada": 1,
        "bob": 1,
        "submitted": 1,
    }


def test_what_lies_beside_nbgraders_submitted_is_told(tmp_path):
    lay(
        tmp_path / "course",
        "submitted/ada/01_filtering/01_filtering.ipynb",
        "source/01_filtering/01_filtering.ipynb",
        "nbgrader_config.py",
        "bob/01_filtering.ipynb",
    )
    found = collected(tmp_path / "course", tmp_path)
    assert (
        [s.student for s in found.submissions] == ["ada"]
        and "bob" in found.remarks[-1]
        and "source" not in found.remarks[-1]
    )


def test_what_is_hidden_or_no_submission_is_told(tmp_path):
    names = (
        "ada/x.ipynb",
        "ada/.ipynb_checkpoints/x.ipynb",
        "ada/.DS_Store",
        "bob/.work/x.ipynb",
        "carol/.x.ipynb",
        ".dotted/x.ipynb",
        "Thumbs.db",
        "notes.txt",
    )
    for source in (lay(tmp_path / "class", *names), zipped(tmp_path / "all.zip", *names)):
        found = collected(source, tmp_path)
        said = {s.student: " ".join(s.remarks) for s in found.submissions}
        assert set(said) == {"ada", "bob", "carol"} and not said["ada"]
        assert (
            ".work was refused: it is hidden" in said["bob"] and ".x.ipynb was refused: it is hidden" in said["carol"]
        )
        remarks = " ".join(found.remarks)
        assert ".dotted" in remarks and "Thumbs.db" in remarks and "notes.txt" in remarks
    assert found.counts == "6 files were found; 1 notebook of 1 students are marked, 5 files left aside."


# --- names in the instructor's tables -------------------------------------------------------------------------------

ITEMS = [marks.Item(made.CHAPTER, "box_filter", 2.0), marks.Item(made.CHAPTER, "discussion", 3.0, written=True)]


def result(earned: float) -> dict:
    return {
        "remarks": [],
        "failure": "",
        "seconds": 1.0,
        "isolation": "",
        "chapters": [
            {
                "name": made.CHAPTER,
                "title": "Filtering",
                "file": "x",
                "remarks": [],
                "written": {"discussion": "text"},
                "exercises": [{"name": "box_filter", "earned": earned}],
            }
        ],
    }


def rows(
    submissions: list[Submission], tmp_path: Path, people: str, overrides: str = "", manual: str = ""
) -> tuple[list[marks.Row], list[str]]:
    tables = [
        made.write(tmp_path / name, text)
        for name, text in (("class.csv", people), ("overrides.csv", overrides), ("manual.csv", manual))
    ]
    return marks.rows_of(
        submissions,
        {s.student: result(1.0) for s in submissions},
        ITEMS,
        marks.read_class(tables[0]),
        marks.read_overrides(tables[1], ITEMS) if overrides else [],
        marks.read_manual(tables[2]) if manual else {},
    )


@pytest.mark.parametrize("spelt", [NFD, NFC, f" {NFC.upper()} ", NFC.replace(" ", "\u00a0"), NFD.replace(" ", "  ")])
def test_tables_know_a_name_however_its_letters_are_composed(tmp_path, spelt):
    found, remarks = rows(
        [Submission(NFC)],
        tmp_path,
        f"student,name\n{spelt},Éva\n",
        f"student,exercise,mark,reason\n{spelt},box_filter,2,well\n",
        f"student,chapter,question,mark,comment\n{spelt},{made.CHAPTER},discussion,3,good\n",
    )
    assert [(row.person.student, row.person.name, row.total, *row.comments.values()) for row in found] == [
        (NFC, "Éva", 5.0, "good")
    ]
    assert not remarks
    marks.write_manual(tmp_path / "out.csv", found, ITEMS, marks.read_manual(tmp_path / "manual.csv"))
    assert marks.read_manual(tmp_path / "out.csv") == {(NFC, made.CHAPTER, "discussion"): (3.0, "good")}


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nstudent;late\r\nada;10,5\r\n",
        "\ufeffsep=;\nstudent;late\nada;10,5\n",
        "sep=\t\nstudent\tlate\nada\t10.5\n",
        "SEP=,\nstudent,late\nada,10.5\n",
    ],
)
def test_a_table_may_begin_with_its_separator(tmp_path, text):
    assert [(p.student, p.late) for p in marks.read_class(made.write(tmp_path / "class.csv", text))] == [("ada", 10.5)]


def test_a_table_that_begins_with_a_separator_only_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected also student"):
        files.read_table(made.write(tmp_path / "t.csv", "sep=;\n"), needs=["student"])


def test_the_class_list_knows_students_by_a_platforms_number_and_teams_by_their_group(tmp_path):
    found, remarks = rows(
        [
            Submission("Ada Lovelace (12)", moodle_id="12"),
            Submission("martinbob", canvas_id="2346"),
            Submission("Group 7"),
            Submission("G8-Eve", moodle_id="99"),
            Submission("mallory"),
        ],
        tmp_path,
        "student,moodle_id,canvas_id,group\nada,12,,\nbob,,2346,\ncarol,,,Group 7\ndave,,,Group 7\neve,,,G8\n",
    )
    assert {row.person.student: (row.person.name, row.mark) for row in found} == {
        "Ada Lovelace (12)": ("ada", 1.0),
        "martinbob": ("bob", 1.0),
        "Group 7": ("", 1.0),
        "carol": ("", 1.0),
        "dave": ("", 1.0),
        "G8-Eve": ("eve", 1.0),
        "mallory": ("", 1.0),
    }
    assert remarks == ["Not in the class list: mallory."]


# --- what a notebook's file may be saved as -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def assignment(tmp_path_factory) -> extract.Assignment:
    (found,) = extract.assignments(made.write_course(tmp_path_factory.mktemp("course")))
    return found


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16-LE"),
        ("utf-16-be", "UTF-16-BE"),
        ("utf-32", "UTF-32"),
        ("cp1252", "Windows-1252"),
    ],
)
def test_a_notebook_in_any_of_the_usual_encodings_is_marked_and_checked(assignment, tmp_path, encoding, said):
    answer = "def box_filter(image, radius):\n    größe = '– é'\n    return image"
    path = made.write(
        tmp_path / "work.ipynb",
        json.dumps(made.notebook(box_filter=answer), ensure_ascii=False).encode(encoding, "replace"),
    )
    found = extract.extract(path, [assignment])
    assert found.answers["box_filter"].source == answer
    assert [remark for remark in found.remarks if "UTF-8" in remark] == (
        [f"It is saved as {said}, and was read as that; notebooks are UTF-8: save it as UTF-8."] if said else []
    )
    assert any("größe = '– é'" in cell["source"] for cell in cli._read_notebook(path)["cells"])


def test_a_notebook_in_another_encoding_says_what_to_do(tmp_path, capsys):
    path = made.write(tmp_path / "work.ipynb", '{"cells": ["\x81"], "nbformat": 4}'.encode("latin-1"))
    with pytest.raises(extract.NotebookProblem, match="save it as UTF-8"):
        extract.read_notebook(path)
    with pytest.raises(typer.Exit):
        cli._read_notebook(path)
    assert "save it as UTF-8" in capsys.readouterr().err


# --- nothing in one submission ends the class's run -----------------------------------------------------------------


@pytest.mark.parametrize(
    "constant",
    [
        "0x" + "f" * 5_000,
        "0b" + "1" * 20_000,
        "9" * 5_000,
        "1e999",
        "1j",
        "b'" + "x" * 9_000 + "'",
        "'\\ud800'",
        "-" * 400 + "1",
        "(" * 150 + ")" * 150,
        "f'{1:{2}}'",
        "...",
    ],
)
def test_an_answer_with_a_strange_constant_is_compared_like_any_other(assignment, constant):
    strange = made.solution("box_filter") + f"\n    big = {constant}\n"
    answers = {
        "box_filter": {
            "ada": strange,
            "bob": strange,
            "carol": made.solution("box_filter"),
            "dave": "def box_filter(a, b): return a",
        }
    }
    pairs = {(p.first, p.second) for p in similarity.compare(answers, assignment, None) if not p.published}
    assert ("ada", "bob") in pairs or similarity.shape_of(strange) is None


def test_two_large_numbers_are_not_the_same():
    code = "def f(x):\n" + "    y = x + 1\n" * 10 + "    return {}\n"
    assert similarity.shape_of(code.format("0x" + "f" * 5_000)) != similarity.shape_of(code.format("0x" + "e" * 5_000))


def test_marks_are_written_where_the_similarity_report_fails(assignment, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("it is strange")

    monkeypatch.setattr(similarity, "compare", fail)
    outcome = result(2.0) | {"seconds": 1.0}
    for record in outcome["chapters"][0]["exercises"]:
        record |= {
            "points": 2.0,
            "outcome": "right",
            "mistake": None,
            "diagnosis": [],
            "hint": None,
            "properties": [],
            "seconds": 0,
            "source": "x",
        }
    done = batch.write_class(tmp_path, [Submission("ada")], {"ada": outcome}, [assignment], [], None)
    assert "The similarity report could not be written (ValueError: it is strange)." in done.remarks
    assert "ada" in (tmp_path / "grades.csv").read_text("utf-8-sig") and (tmp_path / "results.json").is_file()
