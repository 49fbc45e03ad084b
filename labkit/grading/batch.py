"""A whole class: collects, maps the unit of work over all submissions, and writes the tables and pages.

What lies in the folder for the marks afterwards:

    grades.csv  moodle.csv  canvas.csv      the marks
    class.html  similarity.html             for the instructor
    feedback/<student>.html                 to hand back
    exchange/feedback/…                     the same for nbgrader's exchange, for submissions that came through it
    results.json                            everything, for programs
    manual.csv  overrides.csv               the instructor's own, kept (see `marks`)
    .work/                                  one result per submission: what `resume` finds again
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path

import labkit
from labkit.grading import isolation, marks, report, similarity
from labkit.grading.collect import Submission, collect
from labkit.grading.extract import Assignment, assignments
from labkit.grading.files import file_name, write_table, write_text
from labkit.grading.isolation import Limits
from labkit.grading.unit import Job, finished, grade_submission, make_secret

__all__ = ["Class", "default_secret", "grade", "write_class"]


@dataclass(frozen=True)
class Class:
    """What has come of a class: the rows of the tables, the items they are made of, and remarks for the instructor.

    `counts` says how much of what was found is used.
    """

    folder: Path
    rows: list[marks.Row]
    items: list[marks.Item]
    remarks: list[str] = field(default_factory=list)
    graded: int = 0
    counts: str = ""

    @property
    def out_of(self) -> float:
        return sum(item.points for item in self.items)


def grade(submissions: Path, *, out: Path, secret: Path, course: Path, jobs: int | None = None, scheduler: str | None = None,
          only: Sequence[str] = (), resume: bool = False, class_list: Path | None = None,
          limits: Limits = Limits(),
          bubblewrap: bool | None = None, progress: bool = True) -> Class:
    """Mark every submission and write all tables and pages.

    Parameters
    ----------
    submissions : a folder or a zip; see `collect`. out : the folder for the marks.
    secret : the file that decides the hidden inputs; made when it is not there.
    course : the folder that holds `notebooks` (and `solutions`, for the similarity report).
    jobs : submissions marked at one time, on this machine; `None` takes the number of its cores.
    scheduler : address of a Dask scheduler that maps the work instead; its workers see the same files.
    only : numbers or names of chapters, such as `"03"`; all when empty.
    resume : keep results of an earlier run that are of the same submission, secret and labkit.
    class_list : the instructor's list of the class; see `marks`.
    bubblewrap : `True` insists on it, `False` does without, `None` takes it where it works.

    Raises
    ------
    FileNotFoundError, ValueError : the submissions, the course, the secret or one of the instructor's tables cannot be used.
    RuntimeError : bubblewrap is asked for and does not work here.
    """
    out, course = Path(out).resolve(), Path(course).resolve()
    chosen = _chosen(assignments(course), only)
    people = marks.read_class(class_list) if class_list else []
    out.mkdir(parents=True, exist_ok=True)
    all_items = marks.items_of(chosen)
    marks.read_overrides(out / "overrides.csv", all_items)      # an error in a table is said now, not after the work
    marks.read_manual(out / "manual.csv")
    if bubblewrap and (trouble := isolation.bubblewrap_trouble()):
        raise RuntimeError(f"bubblewrap was asked for, but {trouble}")
    if Path(secret).resolve().is_relative_to(out):
        raise ValueError(f"the secret {secret} lies in {out}, which is handed on; expected it elsewhere")
    make_secret(secret)
    work = out / ".work"
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    shutil.rmtree(work / "scratch", ignore_errors=True)
    collection = collect(submissions, scratch=work / "unpacked", chapters=[a.name for a in assignments(course)], leave_out=[out])
    todo = [Job(submission, course, Path(secret).resolve(), work / "results", work / "scratch", tuple(a.name for a in chosen) if only else (),
                limits, bubblewrap) for submission in collection.submissions]
    waiting = [job for job in todo if not (resume and finished(job))]
    for job in waiting:
        job.path.unlink(missing_ok=True)
    _work_through(waiting, jobs=jobs, scheduler=scheduler, progress=progress, done=len(todo) - len(waiting))
    results = {job.submission.student: json.loads(job.path.read_text(encoding="utf-8")) for job in todo}
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    shutil.rmtree(work / "scratch", ignore_errors=True)
    done = write_class(out, collection.submissions, results, chosen, people, course, remarks=collection.remarks)
    return Class(done.folder, done.rows, done.items, done.remarks, graded=len(waiting), counts=collection.counts)


def write_class(out: Path, submissions: Sequence[Submission], results: dict[str, dict], chosen: Sequence[Assignment],
                people: Sequence[marks.Person], course: Path | None, *, remarks: Sequence[str] = ()) -> Class:
    """Everything that follows from the results and the instructor's tables, without marking anything again."""
    present = {chapter["name"] for result in results.values() for chapter in result["chapters"]}
    counted = [assignment for assignment in chosen if assignment.name in present] or list(chosen)
    items = marks.items_of(counted)
    overrides = marks.read_overrides(out / "overrides.csv", marks.items_of(chosen))
    manual = marks.read_manual(out / "manual.csv")
    rows, more = marks.rows_of(submissions, results, items, people, overrides, manual)
    said = [*remarks, *more]
    marks.write_manual(out / "manual.csv", rows, items, manual)
    marks.write_grades(out, rows, items, " and ".join(a.title for a in counted))
    links = {row.person.student: f"feedback/{file_name(row.person.student)}.html" for row in rows}
    kept = set(links.values())
    pages = {}
    for row in rows:
        source = out / ".work" / "results" / f"{file_name(row.handed_in_by or row.person.student)}.html"
        sections = source.read_text(encoding="utf-8") if row.result and source.is_file() else ""
        pages[row.person.student] = report.student_page(row, items, sections)
        write_text(out / links[row.person.student], pages[row.person.student])
    for page in (out / "feedback").glob("*.html"):
        if f"feedback/{page.name}" not in kept:      # of a submission that is no longer there
            page.unlink()
    for submission in submissions:
        _write_for_exchange(out / "exchange" / "feedback", submission, pages[submission.student])
    try:
        _write_similarity(out, rows, counted, course)
    except Exception as error:      # it is about what students wrote, and their marks do not wait for it
        said.append(f"The similarity report could not be written ({type(error).__name__}: {str(error)[:200]}).")
    modes = {result["isolation"] for result in results.values()} - {""}
    write_text(out / "class.html", report.class_page(rows, items, counted, said, links, "process" if "process" in modes else ""))
    write_text(out / "results.json", json.dumps(_as_data(rows, items, said), indent=1))
    return Class(out, rows, items, said)


def _chosen(course: Sequence[Assignment], only: Sequence[str]) -> list[Assignment]:
    wanted = {name.strip() for text in only for name in text.split(",") if name.strip()}
    found = [a for a in course if not wanted or wanted & {a.name, a.topic, a.number, a.number.lstrip("0")}]
    known = {key for a in course for key in (a.name, a.topic, a.number, a.number.lstrip("0"))}
    if wanted - known:
        raise ValueError(f"there is no chapter {', '.join(sorted(wanted - known))}; expected one of {', '.join(a.name for a in course)}")
    return found


# --- mapping the unit of work ---------------------------------------------------------------------------------------

def _work_through(todo: Sequence[Job], *, jobs: int | None, scheduler: str | None, progress: bool, done: int) -> None:
    """Mark every job, whatever dies on the way; afterwards each has its result."""
    from tqdm import tqdm

    waiting = list(todo)
    with tqdm(total=len(todo) + done, initial=done, desc="marking", unit="submission", disable=not progress) as bar:
        for _ in _on_cluster(waiting, scheduler) if scheduler else _on_this_machine(waiting, jobs or os.cpu_count() or 1):
            bar.update()
        # a submission that killed the process that marked it must not take its neighbours along a second time
        while waiting := [job for job in waiting if not job.path.is_file()]:
            for _ in () if scheduler else _on_this_machine(waiting, 1):
                bar.update()
            waiting = [job for job in waiting if not job.path.is_file()]
            if waiting:
                _give_up(waiting[0])      # alone and first in line, it was this one
                bar.update()


def _on_this_machine(todo: Sequence[Job], count: int) -> Iterator[None]:
    """Mark jobs in processes of their own, `count` at a time; ends early when one of these processes dies."""
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    if not todo:
        return
    # joblib's processes without `joblib.Parallel`, which takes one job at a time as a wish to work in this very process
    pool = get_reusable_executor(max_workers=max(1, min(count, len(todo))), timeout=300, initializer=_begin_worker,
                                 initargs=(os.getpid(),))
    try:
        for future in as_completed([pool.submit(grade_submission, job) for job in todo]):
            future.result()
            yield
    except TerminatedWorkerError:
        return
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _begin_worker(parent: int) -> None:
    """Prepare a process of the pool: one thread, since several work side by side; and an end with the process that made it."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(todo: Sequence[Job], scheduler: str) -> Iterator[None]:
    """Mark jobs on the workers of a Dask scheduler."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ValueError("a scheduler was given, but Dask is not installed: pip install 'labkit[cluster]'") from error
    with Client(scheduler) as client:
        for future in as_completed(client.map(grade_submission, todo, pure=False, retries=1)):
            future.exception()      # a job without a result is tried again
            yield


def _give_up(job: Job) -> None:
    """A result for a submission that nobody could mark."""
    write_text(job.path.with_suffix(".html"), "")
    write_text(job.path, json.dumps({
        "format": 1, "key": "", "student": job.submission.student, "isolation": "", "seconds": 0.0, "chapters": [],
        "failure": "the process that marked it died, several times",
        "remarks": ["This submission could not be marked because the grader failed; the instructor knows."]}))


# --- reports --------------------------------------------------------------------------------------------------------

def _write_similarity(out: Path, rows: Sequence[marks.Row], counted: Sequence[Assignment], course: Path | None) -> None:
    own = [row for row in rows if row.result and not row.handed_in_by]
    groups = {row.person.student: row.person.group for row in rows if row.person.group}
    pairs, sources = [], {}
    for assignment in counted:
        answers = {name: {row.person.student: record["source"] for row in own for chapter in row.result["chapters"]
                          if chapter["name"] == assignment.name for record in chapter["exercises"]
                          if record["name"] == name and record["source"]} for name in assignment.exercises}
        wrong = {(record["name"], row.person.student) for row in own for chapter in row.result["chapters"]
                 if chapter["name"] == assignment.name for record in chapter["exercises"] if record["outcome"] == "wrong"}
        pairs += similarity.compare(answers, assignment, course, groups, wrong)
        sources |= {(name, student): source for name, found in answers.items() for student, source in found.items()}
    write_table(out / "similarity.csv", ["exercise", "first", "second", "similarity", "identical", "both_wrong"],
                [[p.exercise, p.first, p.second, p.similarity, *("yes" if said else "no" for said in (p.identical, p.both_wrong))] for p in pairs])
    write_text(out / "similarity.html", report.similarity_page(
        similarity.most_alike(pairs), [p for p in pairs if p.published], sources,
        {row.person.student: row.person.name or row.person.student for row in rows}))


def _write_for_exchange(folder: Path, submission: Submission, page: str) -> None:
    """The page as `nbgrader release_feedback` looks for it, with the two files by which the exchange knows a submission."""
    for file in submission.notebooks:
        known = [file.path.with_name(name) for name in ("timestamp.txt", "submission_secret.txt")]
        if all(path.is_file() and not path.is_symlink() and path.stat().st_size < 1_000 for path in known):
            place = folder / file.path.parent.parent.name / file.path.parent.name
            write_text(place / f"{file.path.stem}.html", page)
            for path in known:
                write_text(place / path.name, path.read_text(encoding="utf-8", errors="replace"))


def _as_data(rows: Sequence[marks.Row], items: Sequence[marks.Item], remarks: Sequence[str]) -> dict:
    return {"labkit": labkit.__version__, "remarks": list(remarks),
            "items": [{"chapter": item.chapter, "name": item.name, "points": item.points, "written": item.written} for item in items],
            "students": [{
                "student": row.person.student, "name": row.person.name, "group": row.person.group, "late": row.person.late,
                "handed_in_by": row.handed_in_by, "marks": {item.column: row.marks[item] for item in items}, "total": row.total,
                "mark": row.mark, "overrides": {item.column: {"mark": o.mark, "reason": o.reason} for item, o in row.overrides.items()},
                "remarks": row.remarks, "seconds": row.result["seconds"] if row.result else None,
                "chapters": row.result["chapters"] if row.result and not row.handed_in_by else []} for row in rows]}


def default_secret() -> Path:
    """Where the instructor's secret lies when no other place is named: one for all classes, outside any folder that is handed on."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "labkit" / "grading-secret"
