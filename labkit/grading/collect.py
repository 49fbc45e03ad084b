"""Finds the submissions in whatever an instructor has got: folders, files, what Moodle or Canvas lets download, nbgrader.

    alice/01_filtering.ipynb                                     a folder per student, with one notebook or several
    alice_01_filtering.ipynb                                     a file per student
    submitted/alice/01_filtering/01_filtering.ipynb              nbgrader's collected submissions
    Alice Martin_1234567_assignsubmission_file/work.ipynb        Moodle's download, unpacked or as the zip it comes in
    martinalice_LATE_2345_67890_work-1.ipynb                     Canvas's download, likewise: files, never folders

Different names are different students, except where a platform's number or a chapter's name says what part of a name is
the student's. Whatever is found becomes a notebook, a module beside one, or a remark.

Zips are opened wherever they lie, a student's own inside the platform's included. What a student hands in is not trusted:
symbolic links, devices, names that lead out of the folder and files beyond the size limits are refused and reported, and
nothing is written anywhere but under `scratch`.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

__all__ = ["MOST_FILES", "MOST_MODULES", "MOST_MODULE_BYTES", "MOST_NESTING", "MOST_NOTEBOOKS", "MOST_NOTEBOOK_BYTES",
           "MOST_UNPACKED_BYTES", "Collection", "File", "Submission", "collect"]

# Of one student, so that none can crowd out another
MOST_NOTEBOOK_BYTES = 50_000_000
MOST_NOTEBOOKS = 50
MOST_MODULE_BYTES = 200_000         # of a Python file beside a notebook
MOST_MODULES = 100
MOST_FILES = 20_000                 # looked at, whatever they are
MOST_UNPACKED_BYTES = 200_000_000   # from archives
MOST_NESTING = 3                    # archives inside archives

# What systems and programs leave behind; whatever else begins with a dot is hidden, but may be somebody's work
_RUBBISH = re.compile(r"__MACOSX$|Thumbs\.db$|desktop\.ini$|\.DS_Store$|\._|\.ipynb_checkpoints$|\.(?:git|venv|vscode|idea|cache)$",
                      re.IGNORECASE)
_IGNORED = re.compile(rf"{_RUBBISH.pattern}|\.", re.IGNORECASE)
_MOODLE = re.compile(r"(?P<name>.+?)(?:_(?P<id>\d+))?_assignsubmission_[a-z]+(?:_(?P<rest>.*))?", re.DOTALL)
# The name in small letters without spaces, the student's number, and the file's, which no other file has
_CANVAS = re.compile(r"(?P<name>[^\W_]+(?:-[^\W_]+)*)_(?:LATE_)?(?P<id>[1-9]\d*)_(?P<file>[1-9]\d*)_(?P<rest>.+)", re.DOTALL)
_MODULE = re.compile(r"(?:[^\W\d]\w*/)*[^\W\d]\w*\.py")
_NBGRADERS = ("source", "release", "autograded", "feedback", "submitted", "exchange")


@dataclass(frozen=True)
class File:
    """A notebook: its name as the student gave it, and where it lies now."""

    name: str
    path: Path


@dataclass(frozen=True)
class Submission:
    """What one student handed in.

    Attributes
    ----------
    student : the name by which all tables call the student; unique in a class.
    notebooks : the files, in the order of their names. May be empty: `remarks` then says why.
    modules : Python files that came with them, with their folders; what the student's `import helper` may mean.
    remarks : what was refused, in sentences.
    moodle_id, canvas_id : numbers by which these platforms know the student, where the file names told.
    """

    student: str
    notebooks: tuple[File, ...] = ()
    remarks: tuple[str, ...] = ()
    moodle_id: str = ""
    canvas_id: str = ""
    modules: tuple[File, ...] = ()


@dataclass(frozen=True)
class Collection:
    """All submissions, in the order of the students' names, what was left aside, and how many files were found."""

    submissions: tuple[Submission, ...]
    remarks: tuple[str, ...] = ()
    found: int = 0

    @property
    def counts(self) -> str:
        """How much of what was found is used, in words."""
        notebooks = sum(len(s.notebooks) for s in self.submissions)
        modules = sum(len(s.modules) for s in self.submissions)
        beside = f", with {modules} Python {'file' if modules == 1 else 'files'} beside them," if modules else ""
        return (f"{self.found} {'file was' if self.found == 1 else 'files were'} found; {notebooks} "
                f"{'notebook' if notebooks == 1 else 'notebooks'} of {sum(bool(s.notebooks) for s in self.submissions)} students{beside} "
                f"are marked, {self.found - notebooks - modules} files left aside.")


@dataclass(frozen=True)
class _Entry:
    """A file below the root: a notebook, or something refused (`refusal` says why).

    Without `parts` it is about the whole, and `refusal` a sentence. `packed` says that the first part named a zip.
    """

    parts: tuple[str, ...]
    path: Path | None = None
    refusal: str = ""
    packed: bool = False

    @property
    def top_is_file(self) -> bool:
        return self.packed or len(self.parts) == 1


@dataclass
class _Found:
    name: str
    notebooks: list[File] = field(default_factory=list)
    modules: list[File] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    moodle_id: str = ""
    canvas_id: str = ""


def collect(source: Path, *, scratch: Path, chapters: Sequence[str] = (), leave_out: Sequence[Path] = ()) -> Collection:
    """The submissions under `source`.

    Parameters
    ----------
    source : a folder, or the zip that a learning platform lets download.
    scratch : a folder of ours; notebooks from zips are written there, under numbers, never under their own names.
    chapters : names of the course's notebooks, such as `"01_filtering"`; they help to read file names.
    leave_out : folders that are not looked into, such as the one the marks are written to.

    Raises
    ------
    FileNotFoundError : `source` does not exist.
    ValueError : `source` is neither a folder nor a zip.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; expected a folder of submissions or a zip")
    aside: set[str] = set()
    unpacker = _Unpacker(Path(scratch), aside)
    if source.is_dir():
        folder = _nbgraders(source, chapters, aside)
        entries = _open_zips(list(_walk(folder, {Path(p).resolve() for p in leave_out}, aside)), unpacker, chapters)
        entries = _without_wrapping(entries, chapters, only_platforms=True)
    elif zipfile.is_zipfile(source):
        entries = _without_wrapping(list(unpacker.unpack(source)), chapters)
    else:
        raise ValueError(f"{source} is neither a folder nor a zip; expected a folder of submissions or a zip")
    return _by_student(entries, chapters, aside)


def _nbgraders(source: Path, chapters: Sequence[str], aside: set[str]) -> Path:
    """`submitted` in a course folder of nbgrader's; else `source`, where a folder of that name is a student's like any other."""
    submitted = source / "submitted"
    if not submitted.is_dir() or submitted.is_symlink():
        return source
    try:
        beside = [path for path in source.iterdir() if path.is_dir() and path != submitted and not _IGNORED.match(path.name)]
        own = any(path.name in chapters or path.suffix.lower() in (".ipynb", ".zip") for path in submitted.iterdir())
    except OSError:
        return source
    course = any((source / name).is_file() for name in ("nbgrader_config.py", "gradebook.db"))
    if own or not course and any(path.name not in _NBGRADERS for path in beside):
        return source
    aside.update(f"{path.name} (beside nbgrader's submitted)" for path in beside if path.name not in _NBGRADERS)
    return submitted


# --- files ----------------------------------------------------------------------------------------------------------

def _walk(root: Path, leave_out: set[Path], aside: set[str]) -> Iterator[_Entry]:
    """Every file below a folder, symbolic links not followed, in a fixed order; names of what is ignored go to `aside`."""
    for entry in _listed(root, root, leave_out, aside):
        yield entry
        if not entry.parts[-1]:
            yield from _walk_below(root, root / entry.parts[0], leave_out)


def _walk_below(root: Path, top: Path, leave_out: set[Path]) -> Iterator[_Entry]:
    """Every file of one student's folder."""
    seen, folders = 0, [top]
    while folders:
        for entry in _listed(root, folders.pop(), leave_out):
            seen += 1
            if seen > MOST_FILES:
                yield _Entry((top.name, ""), refusal=f"there are more than {MOST_FILES} files; the rest was not looked at")
                return
            if not entry.parts[-1]:
                folders.append(root.joinpath(*entry.parts[:-1]))
            yield entry


def _listed(root: Path, folder: Path, leave_out: set[Path], aside: set[str] | None = None) -> Iterator[_Entry]:
    """What lies in a folder; a folder's own entry ends in an empty part. `aside` is given for the class's own folder."""
    try:
        with os.scandir(folder) as listing:
            children = sorted(listing, key=lambda child: child.name)
    except OSError as error:
        yield _Entry(folder.relative_to(root).parts or ("",), refusal=f"it cannot be read ({error.strerror})")
        return
    for child in children:
        path, parts = Path(child.path), Path(child.path).relative_to(root).parts
        if _IGNORED.match(child.name):
            if aside is not None and path.resolve() not in leave_out:
                aside.add(child.name)
            elif aside is None and not _RUBBISH.match(child.name):
                yield _Entry(parts, refusal=_HIDDEN)
            continue
        status = child.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            yield _Entry(parts, refusal="it is a symbolic link; only the files themselves are read")
        elif stat.S_ISDIR(status.st_mode):
            if path.resolve() not in leave_out:
                yield _Entry((*parts, ""))      # a student with an empty folder is a student
        elif stat.S_ISREG(status.st_mode):
            yield _sized(_Entry(parts, path), status.st_size)
        else:
            yield _Entry(parts, refusal="it is not a plain file")


_HIDDEN = "it is hidden: its name begins with a dot"


def _sized(entry: _Entry, size: int) -> _Entry:
    if entry.parts[-1].lower().endswith(".py") and size > MOST_MODULE_BYTES:
        return _Entry(entry.parts)
    if entry.parts[-1].lower().endswith(".ipynb") and size > MOST_NOTEBOOK_BYTES:
        return _Entry(entry.parts, refusal=_too_large(size))
    return entry


def _too_large(size: int) -> str:
    has = f"it has {size / 1e6:.0f} MB, and " if size > MOST_NOTEBOOK_BYTES else "it is larger than it says, and "
    return f"{has}{MOST_NOTEBOOK_BYTES / 1e6:.0f} MB is the most that is read: clear its outputs and hand it in again"


@dataclass
class _Allowance:
    """What may still be unpacked for one student."""

    bytes: int = field(default_factory=lambda: MOST_UNPACKED_BYTES)
    files: int = field(default_factory=lambda: MOST_FILES)


_UNREADABLE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)


class _Unpacker:
    """Takes notebooks out of zips. Files get numbers for names, so no name in an archive can lead anywhere."""

    def __init__(self, scratch: Path, aside: set[str]):
        self.scratch, self.aside, self.count = scratch, aside, 0

    def unpack(self, archive: Path, parents: tuple[str, ...] = (), *, depth: int = 0,
               allowance: _Allowance | None = None) -> Iterator[_Entry]:
        """The notebooks of an archive and of the archives inside, below `parents`.

        With an `allowance` it is one student's archive; without, a class's, and each student in it has one. What is
        damaged in it costs nobody but its owner.
        """
        allowances: dict[tuple[str, ...], _Allowance] = {}
        hidden: set[tuple[str, ...]] = set()
        try:
            with zipfile.ZipFile(archive) as opened:
                members = [(member, PurePosixPath(_name_of(member).replace("\\", "/")).parts) for member in opened.infolist()]
                tops = {inside[0] for _, inside in members if inside and not _IGNORED.match(inside[0])}
                level = 1 if len(tops) == 1 else 0     # of the students: below the one folder, or at the top
                for member, inside in members:
                    ignored = next((i for i, part in enumerate(inside) if _IGNORED.match(part) and part != ".."), None)
                    if ignored is not None:
                        where = inside[:ignored + 1]
                        if allowance is None and ignored <= level:
                            self.aside.add("/".join(where))
                        elif not _RUBBISH.match(where[-1]) and where not in hidden:
                            hidden.add(where)
                            yield _Entry((*parents, *where), refusal=_HIDDEN)
                        continue
                    student = inside[:level + 1] if len(inside) > level + 1 else ()
                    left = allowance or allowances.setdefault(student, _Allowance())
                    left.files -= 1
                    if left.files >= 0:
                        yield from self._member(opened, member, inside, parents, depth, left)
        except _UNREADABLE as error:
            said = f"the archive cannot be read ({error})"
            yield _Entry((*parents, "") if parents else (), refusal=said if parents or allowance else f"{archive.name}: {said}")
        for student, left in {(): allowance}.items() if allowance else allowances.items():
            if left.files < 0:
                said = f"there are more than {MOST_FILES} files; the rest was not looked at"
                where = (*parents, *student)
                yield _Entry((*where, "") if where else (), refusal=said if where or allowance else f"{archive.name}: {said}")

    def _member(self, opened: zipfile.ZipFile, member: zipfile.ZipInfo, inside: tuple[str, ...], parents: tuple[str, ...], depth: int,
                left: _Allowance) -> Iterator[_Entry]:
        """One file of an archive."""
        parts, refusal = (*parents, *inside), _refusal(member)
        kind = PurePosixPath(inside[-1] if inside else "").suffix.lower()
        if refusal:
            yield _Entry((*parents, *(part for part in inside if part not in ("..", "/"))), refusal=refusal)
        elif member.is_dir():
            yield _Entry((*parts, ""))
        elif kind not in (".ipynb", ".zip", ".py"):
            yield _Entry(parts)
        elif kind == ".zip" and depth + 1 >= MOST_NESTING:
            yield _Entry(parts, refusal="it is an archive in an archive in an archive; it was not opened")
        else:
            limit = min(left.bytes, {".ipynb": MOST_NOTEBOOK_BYTES, ".py": MOST_MODULE_BYTES}.get(kind, left.bytes))
            try:
                path = self._write(opened, member, kind, limit)
            except _UNREADABLE as error:
                yield _Entry(parts, refusal=f"it is damaged in the archive that holds it ({error})")
                return
            if path is None and kind == ".py":
                yield _Entry(parts)
            elif path is None:
                yield _Entry(parts, refusal=_too_large(member.file_size) if limit == MOST_NOTEBOOK_BYTES else
                             f"more than {MOST_UNPACKED_BYTES / 1e6:.0f} MB of one student were to be unpacked")
            else:
                left.bytes -= path.stat().st_size
                if kind == ".zip":
                    yield from self.unpack(path, (*parts[:-1], parts[-1][:-4]), depth=depth + 1, allowance=left)
                else:
                    yield _Entry(parts, path)

    def _write(self, opened: zipfile.ZipFile, member: zipfile.ZipInfo, kind: str, limit: int) -> Path | None:
        """The member as a file of ours, or `None` when it is longer than `limit`, whatever its header claims."""
        self.count += 1
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / f"{self.count:06d}{kind}"
        room, whole = limit, False
        try:
            with opened.open(member) as source, open(path, "wb") as target:
                while room >= 0 and (piece := source.read(1 << 20)):
                    room -= len(piece)
                    target.write(piece[:max(0, len(piece) + min(0, room))])
            whole = room >= 0
        finally:
            if not whole:
                path.unlink(missing_ok=True)
        return path if whole else None


def _name_of(member: zipfile.ZipInfo) -> str:
    """A member's name. macOS writes UTF-8 without the flag that says so, and Python then reads it as the DOS of 1981."""
    if not member.flag_bits & 0x800:
        try:
            return member.filename.encode("cp437").decode("utf-8")
        except UnicodeError:      # it was of that DOS, or another system's
            pass
    return member.filename


def _refusal(member: zipfile.ZipInfo) -> str:
    name = _name_of(member)
    if ".." in PurePosixPath(name.replace("\\", "/")).parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return f"its name leads out of the archive ({name[:200]!r})"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "it is a symbolic link; only the files themselves are read"
    if member.flag_bits & 1:
        return "it is encrypted"
    return ""


def _open_zips(entries: list[_Entry], unpacker: _Unpacker, chapters: Sequence[str]) -> list[_Entry]:
    """Replace every zip on disk by what it holds.

    A zip is a platform's download only where nothing but such downloads was handed in: beside the work of others it is
    one student's, whatever names the student gave to the folders in it.
    """
    opened: list[_Entry] = []
    downloads: list[tuple[str, list[_Entry]]] = []
    alone = True
    for entry in entries:
        if entry.path is None or not entry.parts[-1].lower().endswith(".zip"):
            opened.append(entry)
            alone = alone and not (entry.path and entry.parts[-1].lower().endswith(".ipynb"))
            continue
        folder, stem = entry.parts[:-1], entry.parts[-1][:-4]
        one = bool(folder or _MOODLE.fullmatch(stem) or _canvas(stem) or _before_chapter(stem, chapters))
        inside = list(unpacker.unpack(entry.path, allowance=_Allowance() if one else None))
        if not one and _holds_a_class(inside, chapters):
            downloads.append((stem, inside))
        else:
            opened += _of_one_student(inside, folder, stem)
            alone = False
    for stem, inside in downloads:
        opened += _without_wrapping(inside, chapters) if alone else _of_one_student(inside, (), stem)
    return opened


def _of_one_student(inside: list[_Entry], folder: tuple[str, ...], stem: str) -> list[_Entry]:
    """What a student's zip holds, below the student's name."""
    return [_Entry((*folder, stem, *(entry.parts or ("",))), entry.path, entry.refusal, packed=not folder) for entry in inside]


def _holds_a_class(entries: list[_Entry], chapters: Sequence[str]) -> bool:
    """Whether a zip that lies among the submissions is a platform's download rather than one student's work."""
    inside = _without_wrapping(entries, chapters)
    files = {e.parts[0] for e in inside if e.parts and e.top_is_file}
    if any(_MOODLE.match(e.parts[0]) for e in inside if e.parts) or len(_canvas_files(sorted(files))) > 1:
        return True
    folders = {e.parts[0] for e in inside if len(e.parts) > 1 and e.path}
    return len(folders - set(chapters)) > 1


def _without_wrapping(entries: list[_Entry], chapters: Sequence[str], *, only_platforms: bool = False) -> list[_Entry]:
    """Without the one folder around everything (the assignment's name, say) that archives often have.

    It is told from the folder of an only student by what lies in it: neither a notebook nor a chapter's folder. With
    `only_platforms` it has to hold names that a learning platform gave.
    """
    within = [e for e in entries if e.parts]
    tops = {e.parts[0] for e in within}
    below = [e for e in within if len(e.parts) > 1 and e.parts[1]]
    if len(tops) != 1 or not below or any(e.packed or len(e.parts) == 1 for e in within) or any(_from_platform(top, False) for top in tops):
        return entries
    if not any(_from_platform(e.parts[1], len(e.parts) == 2) for e in below) and (
            only_platforms or any(e.parts[1] in chapters or len(e.parts) == 2 and e.path for e in below)):
        return entries
    about = [e for e in entries if not e.parts] + [_Entry((), refusal=f"{e.parts[0]}: {e.refusal}") for e in within if e.refusal and e not in below]
    return about + _without_wrapping([_Entry(e.parts[1:], e.path, e.refusal) for e in below], chapters, only_platforms=only_platforms)


def _from_platform(name: str, file: bool) -> bool:
    return bool(_MOODLE.match(name) or file and _canvas(name))


def _canvas(name: str) -> re.Match[str] | None:
    """How Canvas would name a student's file; it writes names of students in small letters."""
    found = _CANVAS.fullmatch(name)
    return found if found and found["name"] == found["name"].lower() else None


# --- students -------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class _Owner:
    """Whose a file or folder at the top is. `rest` is what a platform left of the file's own name."""

    name: str
    moodle_id: str = ""
    canvas_id: str = ""
    rest: str = ""


def _by_student(entries: list[_Entry], chapters: Sequence[str], aside: set[str]) -> Collection:
    found: dict[tuple[str, str], _Found] = {}
    remarks: list[str] = []
    files = len(aside)
    owners = _owners(entries, chapters)
    for entry in entries:
        where = _shown("/".join(part for part in entry.parts if part))
        notebook = entry.path is not None and entry.parts[-1].lower().endswith(".ipynb")
        files += bool(entry.parts and entry.parts[-1])
        owner = owners.get((entry.parts[0], entry.top_is_file)) if entry.parts else None
        if owner is None:
            remarks.append(f"{entry.refusal}." if not entry.parts else
                           f"{where}: {entry.refusal or 'it is neither a notebook nor a zip, and was left aside'}.")
            continue
        student = found.setdefault((owner.name, owner.moodle_id or owner.canvas_id), _Found(_shown(owner.name)))
        student.moodle_id, student.canvas_id = owner.moodle_id, owner.canvas_id
        inside = _shown("/".join(p for p in entry.parts[1:] if p) or where)
        if entry.refusal:
            student.remarks.append(f"{inside} was refused: {entry.refusal}.")
        elif notebook:
            student.notebooks.append(File(inside, entry.path))
        elif entry.path is not None and _MODULE.fullmatch(name := "/".join(entry.parts[1:]) or owner.rest):
            student.modules.append(File(name, entry.path))
    if aside:
        shown = ", ".join(_shown(name) for name in sorted(aside)[:20]) + (f" and {len(aside) - 20} more" if len(aside) > 20 else "")
        remarks.append(f"Left aside, because hidden or no submission: {shown}.")
    return Collection(tuple(_named(list(found.values()))), tuple(remarks), files)


def _owners(entries: list[_Entry], chapters: Sequence[str]) -> dict[tuple[str, bool], _Owner]:
    """Whose everything at the top is, by its name and whether it is a file; what is nobody's is not there."""
    tops: dict[tuple[str, bool], bool] = {}
    for entry in entries:
        if entry.parts:
            work = len(entry.parts) > 1 or bool(entry.refusal) or entry.path is not None and entry.parts[-1].lower().endswith(".ipynb")
            key = (entry.parts[0], entry.top_is_file)
            tops[key] = tops.get(key, False) or work
    canvas = _canvas_files([top for top, file in tops if file])
    owners: dict[tuple[str, bool], _Owner] = {}
    guesses: dict[tuple[str, bool], str] = {}
    for (top, file), work in tops.items():
        if moodle := _MOODLE.fullmatch(top):
            owners[top, file] = _Owner(moodle["name"], moodle["id"] or "", rest=moodle["rest"] or "")
        elif file and top in canvas:
            owners[top, file] = _Owner(canvas[top]["name"], canvas_id=canvas[top]["id"], rest=canvas[top]["rest"])
        elif work and not file:
            owners[top, file] = _Owner(top)
        elif work:
            stem = re.sub(r"\.(?:ipynb|zip)$", "", top, flags=re.IGNORECASE)
            before = _before_chapter(stem, chapters)
            owners[top, file] = _Owner(before or stem)
            if not before and stem not in chapters and "_" in stem.strip("_"):
                guesses[top, file] = stem.rpartition("_")[0]
    # `alice` of `alice_notebook` is a guess: not where it would make two names one student
    owners = {key: replace(owner, name=unicodedata.normalize("NFC", owner.name)) for key, owner in owners.items()}
    taken = [_folded(guesses.get(key, owner.name)) for key, owner in owners.items()]
    return {key: replace(owner, name=unicodedata.normalize("NFC", guesses[key]))
            if key in guesses and taken.count(_folded(guesses[key])) == 1 else owner for key, owner in owners.items()}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _canvas_files(names: Sequence[str]) -> dict[str, re.Match[str]]:
    """Those names that are Canvas's. It gives every file a number of its own, and a student's number has one name."""
    found = {name: match for name in names if (match := _canvas(name))}
    matches = list(found.values())
    people = {(match["id"], match["name"]) for match in matches}
    own = len({match["file"] for match in matches}) == len(matches) and len({number for number, _ in people}) == len(people)
    several = len(matches) == 1 or len(people) > 1      # `lab_1_2026_a`, `lab_1_2027_b`: a numbering of somebody's own
    return found if own and several else {}


def _named(found: list[_Found]) -> Iterator[Submission]:
    """The submissions in the order of their names; students of the same name get their number, or any, behind it."""
    taken: set[str] = set()
    same = [student.name.casefold() for student in found]
    for student in sorted(found, key=lambda s: (s.name.casefold(), s.name, s.moodle_id, s.canvas_id)):
        number = student.moodle_id or student.canvas_id
        name = f"{student.name} ({number})" if number and same.count(student.name.casefold()) > 1 else student.name
        for copy in range(2, len(found) + 2):
            if name.casefold() not in taken:
                break
            name = f"{student.name} ({copy})"
        taken.add(name.casefold())
        remarks, notebooks = list(student.remarks), sorted(student.notebooks, key=lambda file: (file.name, file.path))
        if len(notebooks) > MOST_NOTEBOOKS:
            remarks.append(f"There are {len(notebooks)} notebooks; only the first {MOST_NOTEBOOKS} were looked at.")
        if not notebooks:
            remarks.append("No notebook was handed in: there is no file that ends in .ipynb.")
        yield Submission(name, tuple(notebooks[:MOST_NOTEBOOKS]), tuple(remarks[:20]), student.moodle_id, student.canvas_id,
                         tuple(sorted(student.modules, key=lambda file: (file.name, file.path))[:MOST_MODULES]))


def _before_chapter(stem: str, chapters: Sequence[str]) -> str:
    """`alice` of `alice_01_filtering`, also when a browser put `(1)` or `-1` behind it; empty where no chapter follows."""
    stem = re.sub(r"(?: ?\(\d+\)|-\d{1,2})$", "", stem)
    for chapter in chapters:
        if stem.endswith(chapter) and len(stem) > len(chapter):
            return stem[:-len(chapter)].rstrip("_- .")
    return ""


def _shown(name: str) -> str:
    """A name that any table and terminal can show: composed Unicode, without control characters, not too long."""
    name = unicodedata.normalize("NFC", name.encode("utf-8", "backslashreplace").decode())
    name = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in name)
    return " ".join(name.split())[:80] or "without a name"
