"""The unit of work: one submission, from files to files. Whoever maps it, on whatever machine, gets the same files.

A submission is marked with a secret seed, so that nothing in an open repository gives its inputs away. What is wrong is
then found out once more with the seed of the notebook, in a sandbox that has seen no hidden input, and only that is
shown: no sentence, no picture and no error message on a page comes from the secret run.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from labkit.checks import answers
from labkit.checks.answers import Reply, Request
from labkit.checks.engine import PUBLIC_SEED, Exercise
from labkit.checks.verdict import Verdict
from labkit.grading import report
from labkit.grading.collect import File, Submission
from labkit.grading.extract import Assignment, Extracted, NotebookProblem, assignments, extract
from labkit.grading.files import file_name, write_text
from labkit.grading.isolation import Limits, Sandbox

__all__ = ["FORMAT", "LONGEST_SENTENCE", "LONGEST_SOURCE", "SHORTEST_SECRET", "SUBMISSION_SECONDS", "Job", "finished",
           "grade_submission", "key_of", "make_secret", "read_secret", "seed_of"]

FORMAT = 1
SUBMISSION_SECONDS = 900.0      # after that, what is left of a submission is not tried any more
LONGEST_SENTENCE = 1_000
LONGEST_SOURCE = 20_000
SHORTEST_SECRET = 16

# How the sandbox can end an answer. There is nothing to look at then, and no second run is needed to say what happened.
_STOPPED = {
    "TimeLimit": "It was still running when its time was up, and was stopped. Is there a loop that never ends, or one over single "
                 "pixels where an operation on the whole picture would do?",
    "MemoryLimit": "It took more memory than there is for an answer, and was stopped.",
    "ProcessLimit": "It started more processes or threads than an answer may, and was stopped.",
    "FileLimit": "It wrote more files than an answer may, and was stopped.",
    "OutputLimit": "It printed more than an answer may, and was stopped.",
    "Crash": "It ended the Python process that ran it: by os._exit(), or by a crash in compiled code.",
    "Protocol": "It meddled with the channel on which its results come back, and was stopped.",
}


@dataclass(frozen=True)
class Job:
    """One submission to mark.

    Attributes
    ----------
    course : the folder that holds `notebooks`. secret : the file with the secret. only : chapters, all when empty.
    results : the folder to write `<name>.json` and `<name>.html` into. scratch : a folder for the sandbox's files.
    """

    submission: Submission
    course: Path
    secret: Path
    results: Path
    scratch: Path
    only: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    bubblewrap: bool | None = None

    @property
    def path(self) -> Path:
        return self.results / f"{file_name(self.submission.student)}.json"


def grade_submission(job: Job) -> Path:
    """Mark a submission and write what was found; returns the path of the JSON file.

    It is written last and in one step: where it is, everything is. Nothing that a submission holds raises; what fails on
    the grader's side is noted in the result, and `finished` then says no.

    Raises
    ------
    OSError, ValueError : the secret or the course cannot be read, or the result not be written.
    """
    start = time.monotonic()
    _simulate_cuda()
    key = key_of(job)
    job.scratch.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=job.scratch))
    remarks: list[str] = []
    chapters, sections, failure, isolation = [], [], "", ""
    try:
        for file, extracted in _notebooks(job, remarks):
            marking = _Marking(extracted, job, scratch, deadline=start + SUBMISSION_SECONDS)
            exercises = marking.run()
            isolation = marking.isolation or isolation
            chapters.append({"name": extracted.assignment.name, "title": extracted.assignment.title, "file": file.name,
                             "remarks": list(extracted.remarks), "exercises": exercises, "written": extracted.written})
            sections.append(report.chapter_section(extracted.assignment, exercises, extracted.remarks, marking.pictures))
    except _GraderFailure as error:
        failure = str(error)
    except Exception as error:      # a mistake of the grader's: this submission waits for its correction, the others do not
        where = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__} in {Path(where.filename).name}, line {where.lineno}: {error}"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if failure:
        chapters, sections = [], []
        remarks.append("This submission could not be marked because the grader failed; the instructor knows.")
    result = {"format": FORMAT, "key": key, "student": job.submission.student, "isolation": isolation, "remarks": remarks,
              "failure": failure, "seconds": round(time.monotonic() - start, 2), "chapters": chapters}
    write_text(job.path.with_suffix(".html"), "\n".join(sections))
    write_text(job.path, json.dumps(result, indent=1))
    return job.path


def _simulate_cuda() -> None:
    """Have numba run CUDA kernels on its simulator where there is no GPU: the checks' references run in this process."""
    if not torch.cuda.is_available():
        os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
        if "numba" in sys.modules:
            sys.modules["numba"].config.reload_config()


def finished(job: Job) -> bool:
    """Whether this very submission has been marked already, with this secret and this version of everything."""
    try:
        result = json.loads(job.path.read_text(encoding="utf-8"))
        return result["key"] == key_of(job) and not result["failure"] and job.path.with_suffix(".html").is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def key_of(job: Job) -> str:
    """Stands for everything that the result depends on."""
    files = []
    for file in (*job.submission.notebooks, *job.submission.modules):
        try:
            digest = hashlib.sha256(file.path.read_bytes()).hexdigest()
        except OSError as error:
            digest = f"cannot be read: {error.strerror}"
        files.append((file.name, digest))
    about = [FORMAT, job.submission.student, files, job.only, asdict(job.limits), job.bubblewrap, _version(Path(job.course))]
    return hmac.new(read_secret(job.secret), json.dumps(about).encode(), "sha256").hexdigest()


@lru_cache(maxsize=8)
def _version(course: Path) -> str:
    """labkit's own code and the released notebooks, as one number."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in (*sorted(package.rglob("*.py")), *sorted((course / "notebooks").glob("*/*.ipynb"))):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# --- the secret -----------------------------------------------------------------------------------------------------

def make_secret(path: Path) -> None:
    """Write a new secret where there is none, for the owner's eyes only.

    Raises
    ------
    ValueError : the file is there but too short to be a secret.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(32))
    except FileExistsError:
        read_secret(path)


def read_secret(path: Path) -> bytes:
    secret = Path(path).read_bytes()
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(f"{path} holds {len(secret)} bytes; expected {SHORTEST_SECRET} at least (remove it, and a new one is made)")
    return secret


def seed_of(secret: bytes, chapter: str, exercise: str) -> int:
    """The seed of an exercise's hidden inputs: the same for the whole class, and no help to guess another's."""
    return int.from_bytes(hmac.new(secret, f"{chapter}/{exercise}".encode(), "sha256").digest()[:8], "big") >> 1


# --- one notebook ---------------------------------------------------------------------------------------------------

class _GraderFailure(Exception):
    """Something went wrong that is not the submission's doing."""


def _notebooks(job: Job, remarks: list[str]) -> list[tuple[File, Extracted]]:
    """The notebook to mark for each chapter; why the others are not goes to `remarks`."""
    found: dict[str, list[tuple[File, Extracted]]] = {}
    course = assignments(job.course)
    for file in job.submission.notebooks:
        try:
            extracted = extract(file.path, course, _modules_beside(file, job.submission.modules))
        except NotebookProblem as problem:
            remarks.append(f"{file.name} could not be marked: {problem}.")
            continue
        except OSError as error:
            remarks.append(f"{file.name} could not be read ({error.strerror}).")
            continue
        found.setdefault(extracted.assignment.name, []).append((file, extracted))
    chosen = []
    for name in sorted(found):
        if job.only and name not in job.only:
            continue
        own = [pair for pair in found[name] if pair[0].name.rpartition("/")[2] == f"{name}.ipynb"]
        chosen.append((own or found[name])[-1])
        if len(found[name]) > 1:
            others = ", ".join(file.name for file, _ in found[name] if file is not chosen[-1][0])
            remarks.append(f"There are {len(found[name])} notebooks of chapter {name}; {chosen[-1][0].name} counts, not {others}.")
    return chosen


def _modules_beside(notebook: File, modules: Sequence[File]) -> dict[str, str]:
    """The text of the Python files in the notebook's folder and below, by their path from there; never a labkit of theirs."""
    folder = notebook.name.rpartition("/")[0]
    start = f"{folder}/" if folder else ""
    return {name: file.path.read_text(encoding="utf-8-sig", errors="replace") for file in modules
            if file.name.startswith(start) and (name := file.name[len(start):]).split("/")[0].removesuffix(".py") != "labkit"}


class _Marking:
    """Marks the exercises of one notebook: `run` gives a record of each, `pictures` the figures of those that are wrong."""

    def __init__(self, extracted: Extracted, job: Job, scratch: Path, deadline: float):
        self.extracted, self.job, self.scratch, self.deadline = extracted, job, scratch, deadline
        self.assignment: Assignment = extracted.assignment
        self.secret = read_secret(job.secret)
        self.pictures: dict[str, str] = {}
        self.isolation = ""

    def run(self) -> list[dict]:
        records = {name: self._unanswered(exercise) for name, exercise in self.assignment.exercises.items()}
        judged: dict[str, tuple[Verdict, str, tuple[int, ...]]] = {}
        if self.extracted.answers:
            with self._sandbox("secret") as sandbox:
                self.isolation = "bubblewrap" if sandbox.uses_bubblewrap else "process"
                for name in self.extracted.answers:
                    judged[name] = self._judge_best(sandbox, self.assignment.exercises[name])
        again = {name: cells for name, (verdict, stopped, cells) in judged.items() if verdict.outcome == "wrong" and not stopped}
        shown: dict[str, Verdict] = {}
        if again:
            with self._sandbox("public") as sandbox:    # another one: nothing in it has seen a hidden input
                for name, cells in again.items():
                    shown[name] = self._judge(sandbox, self.assignment.exercises[name], cells, PUBLIC_SEED)[0]
        for name, (verdict, stopped, _) in judged.items():
            records[name] = self._record(verdict, stopped, shown.get(name))
        return list(records.values())

    def _sandbox(self, name: str) -> Sandbox:
        try:
            return Sandbox(self.extracted.cells, scratch=self.scratch / name, limits=self.job.limits, bubblewrap=self.job.bubblewrap)
        except RuntimeError as error:
            raise _GraderFailure(str(error)) from error

    def _judge_best(self, sandbox: Sandbox, exercise: Exercise) -> tuple[Verdict, str, tuple[int, ...]]:
        """The verdict with the cells that the answer needs; when that is not right, perhaps with all above its check."""
        answer = self.extracted.answers[exercise.name]
        seed = seed_of(self.secret, self.assignment.topic, exercise.name)
        verdict, stopped = self._judge(sandbox, exercise, answer.needs, seed)
        if not verdict.passed and not stopped and answer.above != answer.needs:
            other, other_stopped = self._judge(sandbox, exercise, answer.above, seed)
            if other.earned > verdict.earned:
                return other, other_stopped, answer.above
        return verdict, stopped, answer.needs

    def _judge(self, sandbox: Sandbox, exercise: Exercise, cells: tuple[int, ...], seed: int) -> tuple[Verdict, str]:
        """A verdict, with the time that the calls took, and how the sandbox ended the answer, if it did."""
        if time.monotonic() > self.deadline:
            return self._wrong(exercise, "TimeLimit", f"The {SUBMISSION_SECONDS / 60:g} minutes for a submission were used up by "
                               "other exercises; this one was not tried."), ""
        stopped: list[str] = []
        seconds, withheld = 0.0, False
        with ExitStack() as stack:
            try:
                sandbox.cells = tuple(self.extracted.cells[i] for i in cells)
                call = stack.enter_context(sandbox.exercise(exercise.name, kind=exercise.kind, withholds=exercise.withholds))
            except Exception as error:
                raise _GraderFailure(f"{type(error).__name__}: {error}") from error

            def watched(request: Request) -> Reply:
                nonlocal seconds, withheld
                try:
                    reply = call(request)
                except Exception as error:
                    raise _GraderFailure(f"{type(error).__name__}: {error}") from error
                seconds += reply.seconds
                if reply.problem and reply.problem.kind in _STOPPED:
                    stopped.append(reply.problem.kind)
                withheld = withheld or bool(reply.problem and reply.problem.kind == "Withheld")
                return reply

            try:
                verdict = exercise.judge(watched, seed=seed)
                mistake = "Withheld" if withheld and verdict.mistake == "raises" else verdict.mistake
                return replace(verdict, seconds=seconds, mistake=mistake), stopped[0] if stopped else ""
            except (_GraderFailure, KeyboardInterrupt):
                raise
            except Exception as error:      # a value so strange that the check itself stumbles over it earns nothing
                self._require_sound(exercise, seed)
                return self._wrong(exercise, "not_comparable", "It returned something that cannot be compared with what was expected "
                                   f"({type(error).__name__})."), ""

    @staticmethod
    def _require_sound(exercise: Exercise, seed: int) -> None:
        """See that a check which stumbled does not stumble over its own reference: no student would be to blame for that."""
        try:
            exercise.judge(lambda request: answers.perform(exercise.kind, exercise.reference, request), seed=seed)
        except Exception as error:
            raise _GraderFailure(f"the check of {exercise.name} fails on its own reference: {type(error).__name__}: {error}") from error

    @staticmethod
    def _wrong(exercise: Exercise, mistake: str, sentence: str) -> Verdict:
        return Verdict(exercise.name, exercise.points, 0.0, "wrong", mistake=mistake, diagnosis=(sentence,))

    def _unanswered(self, exercise: Exercise) -> dict:
        reason = self.extracted.missing.get(exercise.name)
        return {"name": exercise.name, "points": exercise.points, "earned": 0.0, "outcome": "missing" if reason else "unsolved",
                "mistake": None, "diagnosis": [reason] if reason else [], "hint": None, "properties": [], "seconds": 0.0, "source": ""}

    def _record(self, verdict: Verdict, stopped: str, shown: Verdict | None) -> dict:
        """What is kept of an exercise. Of the secret run only the mark, the properties' outcome and the mistake's name."""
        mistake, hint, diagnosis = verdict.mistake, verdict.hint, []
        if verdict.outcome == "wrong":
            if stopped:
                mistake, hint, diagnosis = stopped, None, [_STOPPED[stopped]]
            elif shown is None:
                diagnosis = list(verdict.diagnosis)
            elif shown.passed:
                mistake, hint, diagnosis = "hidden_only", None, [
                    "It passes the check of the notebook, but not the same check with other random inputs of the same sizes: it "
                    "fits the inputs of the notebook, or does not give the same result every time."]
            else:
                hint, diagnosis = shown.hint, list(shown.diagnosis)
                if shown.pictures:
                    self.pictures[verdict.exercise] = report.pictures(shown)
        return {"name": verdict.exercise, "points": verdict.points, "earned": float(verdict.earned), "outcome": verdict.outcome,
                "mistake": mistake, "diagnosis": [sentence[:LONGEST_SENTENCE] for sentence in diagnosis], "hint": hint,
                "properties": [{"sentence": p.sentence, "passed": p.passed, "share": p.share} for p in verdict.properties],
                "seconds": round(verdict.seconds, 2), "source": self.extracted.answers[verdict.exercise].source[:LONGEST_SOURCE]}
