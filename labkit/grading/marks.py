"""From what the checks gave to the marks: groups, lateness, written answers, and what the instructor decided otherwise.

Three tables lie beside the marks and belong to the instructor; they are read on every run and nothing in them is lost:

- the class list (`--class`): `student`, and any of `name`, `email`, `group`, `late` (percent taken off), `moodle_id`,
  `canvas_id`, `login`. Members of a group share the best of their submissions. Who handed in nothing gets a row too.
- `manual.csv`: one row for each written answer, made here; the instructor fills in `mark` and `comment`.
- `overrides.csv`: `student`, `exercise`, `mark`, `reason`. The mark counts instead of the check's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labkit.grading.collect import Submission
from labkit.grading.extract import Assignment
from labkit.grading.files import number, read_table, same_name, write_table

__all__ = ["LONGEST_ANSWER", "Item", "Override", "Person", "Row", "items_of", "read_class", "read_manual",
           "read_overrides", "rows_of", "write_grades", "write_manual"]

LONGEST_ANSWER = 30_000     # characters that fit a spreadsheet's cell


@dataclass(frozen=True)
class Item:
    """Something that has points: an exercise, or a written answer."""

    chapter: str
    name: str
    points: float
    written: bool = False

    @property
    def column(self) -> str:
        return f"{self.chapter}/{self.name}"


@dataclass(frozen=True)
class Person:
    """A row of the class list."""

    student: str
    name: str = ""
    email: str = ""
    group: str = ""
    late: float = 0.0
    moodle_id: str = ""
    canvas_id: str = ""
    login: str = ""


@dataclass(frozen=True)
class Override:
    """A mark that the instructor gives instead of the check's."""

    student: str
    exercise: str
    mark: float
    reason: str


@dataclass
class Row:
    """The marks of one student.

    Attributes
    ----------
    marks : of each item; `None` where a written answer waits for its mark. overrides, comments : by item.
    result : what the unit of work wrote about the submission that counts; of a group's member perhaps another's.
    total : sum of the marks. mark : what is left of it after `person.late` percent.
    """

    person: Person
    result: dict | None = None
    handed_in_by: str = ""
    marks: dict[Item, float | None] = field(default_factory=dict)
    overrides: dict[Item, Override] = field(default_factory=dict)
    comments: dict[Item, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def total(self) -> float:
        return round(sum(mark or 0.0 for mark in self.marks.values()), 2)

    @property
    def mark(self) -> float:
        return round(self.total * (1 - self.person.late / 100), 2)

    @property
    def to_mark(self) -> int:
        return sum(mark is None for mark in self.marks.values())


# --- the instructor's tables ----------------------------------------------------------------------------------------

def read_class(path: Path) -> list[Person]:
    """The class list.

    Raises
    ------
    ValueError : no column `student`, a student twice, or a percentage that is none.
    """
    people, seen = [], set()
    for line, row in enumerate(read_table(path, needs=["student"]), start=2):
        if same_name(row["student"]) in seen:
            raise ValueError(f"{path}, line {line}: {row['student']!r} is there twice")
        seen.add(same_name(row["student"]))
        late = number(row.get("late") or "0", where=f"{path}, line {line}: late")
        if late > 100:
            raise ValueError(f"{path}, line {line}: late is {late:g} %; expected 100 at most")
        people.append(Person(row["student"], late=late, **{key: row.get(key, "") for key in (
            "name", "email", "group", "moodle_id", "canvas_id", "login")}))
    return people


def read_overrides(path: Path, items: Sequence[Item]) -> list[Override]:
    """The instructor's own marks; a file with the header alone is made where there is none.

    Raises
    ------
    ValueError : a row names no exercise of the course, gives no number, or no reason.
    """
    if not path.exists():
        write_table(path, ["student", "exercise", "mark", "reason"], [])
        return []
    found = []
    for line, row in enumerate(read_table(path, needs=["student", "exercise", "mark", "reason"]), start=2):
        where = f"{path}, line {line}"
        if not any(row["exercise"] in (item.name, item.column) for item in items):
            raise ValueError(f"{where}: there is no exercise {row['exercise']!r}; expected one of {', '.join(i.name for i in items)}")
        if not row["reason"]:
            raise ValueError(f"{where}: the reason is missing; the student will read it")
        found.append(Override(row["student"], row["exercise"], number(row["mark"], where=f"{where}: mark"), row["reason"]))
    return found


def read_manual(path: Path) -> dict[tuple[str, str, str], tuple[float | None, str]]:
    """Marks and comments for written answers, by student, chapter and question.

    Raises
    ------
    ValueError : a mark that is no number.
    """
    if not path.exists():
        return {}
    rows = read_table(path, needs=["student", "chapter", "question", "mark", "comment"])
    return {(row["student"], row["chapter"], row["question"]): (
        number(row["mark"], where=f"{path}, line {line}: mark") if row["mark"] else None, row["comment"])
        for line, row in enumerate(rows, start=2)}


# --- the marks ------------------------------------------------------------------------------------------------------

def items_of(assignments: Sequence[Assignment]) -> list[Item]:
    """Everything that has points, in the order of the notebooks: exercises first, then written answers."""
    return [item for assignment in assignments for item in (
        *(Item(assignment.name, e.name, e.points) for e in assignment.exercises.values()),
        *(Item(assignment.name, q.name, q.points, written=True) for q in assignment.questions.values()))]


def rows_of(submissions: Sequence[Submission], results: dict[str, dict], items: Sequence[Item], people: Sequence[Person],
            overrides: Sequence[Override], manual: dict[tuple[str, str, str], tuple[float | None, str]]) -> tuple[list[Row], list[str]]:
    """The marks of everybody, in the order of their names, and remarks about the tables.

    Parameters
    ----------
    results : what was found in each submission, by student.
    people : the class list; empty where there is none.
    """
    remarks, unknown = [], []
    owners, left = _owners(submissions, people)
    groups = {same_name(person.group): person.group for person in people if person.group}
    manual = _by_our_names(manual, [*(s.student for s in submissions), *(person.student for person in people)])
    rows: dict[str, Row] = {}
    for submission in submissions:
        person, team = owners.get(submission.student), groups.get(same_name(submission.student), "")
        if people and person is None and not team:
            unknown.append(submission.student)
        known = person or Person(submission.student, group=team)
        listed_as = known.student if same_name(known.student) != same_name(submission.student) else ""
        row = Row(Person(submission.student, known.name or listed_as, known.email, known.group, known.late,
                         known.moodle_id or submission.moodle_id, known.canvas_id or submission.canvas_id, known.login))
        row.result = results[submission.student]
        row.remarks = [*submission.remarks, *row.result.get("remarks", ())]
        rows[submission.student] = row
    if unknown:
        remarks.append(f"Not in the class list: {', '.join(unknown)}.")
    for person in left:
        rows[person.student] = Row(person, remarks=["Nothing was handed in."])
    for row in rows.values():
        row.marks = _marks(row, items, manual)
    _share_in_groups(list(rows.values()))
    for row in rows.values():
        row.comments = {item: manual[key][1] for item in items if (key := (row.handed_in_by or row.person.student,
                        item.chapter, item.name)) in manual and manual[key][1]}
    by_name = {same_name(person.student): rows[student] for student, person in owners.items()}
    by_name |= {same_name(student): row for student, row in rows.items()}
    for override in overrides:
        row = by_name.get(same_name(override.student))
        if row is None:
            remarks.append(f"overrides.csv: nobody is called {override.student!r}.")
            continue
        for item in items:
            if override.exercise in (item.name, item.column):
                row.marks[item], row.overrides[item] = override.mark, override
    return sorted(rows.values(), key=lambda row: (row.person.student.casefold(), row.person.student)), remarks


def _owners(submissions: Sequence[Submission], people: Sequence[Person]) -> tuple[dict[str, Person], list[Person]]:
    """Whose each submission is, of the class list, and who is left: by name, by a platform's number, by group and name.

    Moodle writes `Group 7-Ada Lovelace` where groups hand in together.
    """
    def keys(person: Person) -> list[tuple[str, str]]:
        return [("name", same_name(person.student)), ("moodle", person.moodle_id), ("canvas", person.canvas_id),
                ("name", same_name(f"{person.group}-{person.student}") if person.group else "")]

    left, owners = list(people), {}
    for what in range(4):
        known = {keys(person)[what]: person for person in left if keys(person)[what][1]}
        for submission in submissions:
            key = [("name", same_name(submission.student)), ("moodle", submission.moodle_id), ("canvas", submission.canvas_id),
                   ("name", same_name(submission.student))][what]
            if submission.student not in owners and key in known:
                owners[submission.student] = known.pop(key)
                left.remove(owners[submission.student])
    return owners, left


def _by_our_names(manual: dict[tuple[str, str, str], tuple[float | None, str]],
                  students: Sequence[str]) -> dict[tuple[str, str, str], tuple[float | None, str]]:
    """The instructor's marks by the names that the tables use, however the instructor spelt them."""
    ours = {same_name(student): student for student in reversed(students)}
    return {(ours.get(same_name(student), student), chapter, question): mark for (student, chapter, question), mark in manual.items()}


def _marks(row: Row, items: Sequence[Item], manual: dict) -> dict[Item, float | None]:
    chapters = {chapter["name"]: chapter for chapter in row.result["chapters"]} if row.result else {}
    marks: dict[Item, float | None] = {}
    for item in items:
        chapter = chapters.get(item.chapter, {"exercises": [], "written": {}})
        if item.written:
            mark = manual.get((row.person.student, item.chapter, item.name), (None, ""))[0]
            marks[item] = mark if item.name in chapter["written"] else mark or 0.0
        else:
            marks[item] = next((e["earned"] for e in chapter["exercises"] if e["name"] == item.name), 0.0)
    return marks


def _share_in_groups(rows: Sequence[Row]) -> None:
    """Give every member of a group the marks of the group's best submission."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.person.group:
            groups.setdefault(row.person.group, []).append(row)
    for members in groups.values():
        handed_in = [row for row in members if row.result and row.result["chapters"]]
        if not handed_in:
            continue
        best = max(handed_in, key=lambda row: row.total)     # the first of equals
        for row in members:
            if row is not best:
                row.remarks = [r for r in row.remarks if row.result] + [f"The group's mark: {best.person.student} handed it in."]
                row.result, row.marks, row.handed_in_by = best.result, dict(best.marks), best.person.student


# --- tables out -----------------------------------------------------------------------------------------------------

def write_manual(path: Path, rows: Sequence[Row], items: Sequence[Item],
                 manual: dict[tuple[str, str, str], tuple[float | None, str]]) -> None:
    """The table of the written answers, with the marks and comments that are there already."""
    lines, left = [], _by_our_names(manual, [row.person.student for row in rows])
    for row in rows:
        chapters = {chapter["name"]: chapter["written"] for chapter in row.result["chapters"]} if row.result else {}
        for item in items:
            if item.written and not row.handed_in_by and item.name in chapters.get(item.chapter, {}):
                mark, comment = left.pop((row.person.student, item.chapter, item.name), (None, ""))
                lines.append([row.person.student, item.chapter, item.name, item.points, mark, comment,
                              chapters[item.chapter][item.name][:LONGEST_ANSWER]])
    # what was marked stays, even where the answer is gone
    lines += [[student, chapter, question, None, mark, comment, ""] for (student, chapter, question), (mark, comment) in left.items()
              if mark is not None or comment]
    if lines:
        write_table(path, ["student", "chapter", "question", "points", "mark", "comment", "answer"], lines)


def write_grades(folder: Path, rows: Sequence[Row], items: Sequence[Item], title: str) -> None:
    """`grades.csv`, and the same for Moodle (offline grading worksheet) and Canvas (gradebook import)."""
    out_of = sum(item.points for item in items)
    write_table(folder / "grades.csv",
                ["student", "name", "group", *(item.column for item in items), "total", "late", "mark", "out_of", "to_mark", "remarks"],
                [[row.person.student, row.person.name, row.person.group, *(row.marks[item] for item in items), row.total,
                  row.person.late, row.mark, out_of, row.to_mark, " ".join(row.remarks)] for row in rows])
    write_table(folder / "moodle.csv",
                ["Identifier", "Full name", "Email address", "Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments"],
                [[f"Participant {row.person.moodle_id}" if row.person.moodle_id else "", row.person.name or row.person.student,
                  row.person.email, row.mark, out_of, "", _comment(row)] for row in rows], mark=False)
    write_table(folder / "canvas.csv", ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title],
                [["    Points Possible", "", "", "", "", out_of],
                 *([row.person.name or row.person.student, row.person.canvas_id, "", row.person.login, "", row.mark] for row in rows)],
                mark=False)


def _comment(row: Row) -> str:
    parts = [f"{item.name}: {row.marks[item]:g} of {item.points:g}" for item in row.marks if row.marks[item] is not None]
    if row.person.late:
        parts.append(f"late: {row.person.late:g} % off")
    return "; ".join(parts)
