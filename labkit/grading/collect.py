"""Finds the submissions in whatever an instructor has got: folders, files, what Moodle or Canvas lets download, nbgrader.

    alice/01_filtering.ipynb                                     a folder per student, with one notebook or several
    alice_01_filtering.ipynb                                     a file per student
    submitted/alice/01_filtering/01_filtering.ipynb              nbgrader's collected submissions
    Alice Martin_1234567_assignsubmission_file_/work.ipynb       Moodle's download, unpacked or as the zip it comes in
    martinalice_LATE_2345_67890_work-1.ipynb                     Canvas's download, likewise

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
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

__all__ = ["MOST_FILES", "MOST_NESTING", "MOST_NOTEBOOKS", "MOST_NOTEBOOK_BYTES", "MOST_UNPACKED_BYTES", "Collection",
           "File", "Submission", "collect"]

# Of one student, so that none can crowd out another
MOST_NOTEBOOK_BYTES = 50_000_000
MOST_NOTEBOOKS = 50
MOST_FILES = 20_000                 # looked at, whatever they are
MOST_UNPACKED_BYTES = 200_000_000   # from archives
MOST_NESTING = 3                    # archives inside archives

_IGNORED = re.compile(r"__MACOSX$|Thumbs\.db$|desktop\.ini$|\.", re.IGNORECASE)
_MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_[a-z]+_(?P<rest>.*)", re.DOTALL)
_CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<rest>.+)", re.DOTALL)


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
    remarks : what was refused, in sentences.
    moodle_id, canvas_id : numbers by which these platforms know the student, where the file names told.
    """

    student: str
    notebooks: tuple[File, ...] = ()
    remarks: tuple[str, ...] = ()
    moodle_id: str = ""
    canvas_id: str = ""


@dataclass(frozen=True)
class Collection:
    """All submissions, in the order of the students' names, and what was left aside."""

    submissions: tuple[Submission, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    """A file below the root: a notebook, or something refused (`refusal` says why)."""

    parts: tuple[str, ...]
    path: Path | None = None
    refusal: str = ""


@dataclass
class _Found:
    name: str
    notebooks: list[File] = field(default_factory=list)
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
    unpacker = _Unpacker(Path(scratch))
    if source.is_dir():
        folder = source / "submitted" if (source / "submitted").is_dir() and not (source / "submitted").is_symlink() else source
        entries = _open_zips(list(_walk(folder, {Path(p).resolve() for p in leave_out})), unpacker, chapters)
        entries = _without_wrapping(entries, chapters, only_platforms=True)
    elif zipfile.is_zipfile(source):
        entries = _without_wrapping(list(unpacker.unpack(source)), chapters)
    else:
        raise ValueError(f"{source} is neither a folder nor a zip; expected a folder of submissions or a zip")
    return _by_student(entries, chapters)


# --- files ----------------------------------------------------------------------------------------------------------

def _walk(root: Path, leave_out: set[Path]) -> Iterator[_Entry]:
    """Every file below a folder, symbolic links not followed, in a fixed order."""
    for entry in _listed(root, root, leave_out):
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


def _listed(root: Path, folder: Path, leave_out: set[Path]) -> Iterator[_Entry]:
    """What lies in a folder; a folder's own entry ends in an empty part."""
    try:
        with os.scandir(folder) as listing:
            children = sorted(listing, key=lambda child: child.name)
    except OSError as error:
        yield _Entry(folder.relative_to(root).parts or ("",), refusal=f"it cannot be read ({error.strerror})")
        return
    for child in children:
        path, parts = Path(child.path), Path(child.path).relative_to(root).parts
        if _IGNORED.match(child.name):
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


def _sized(entry: _Entry, size: int) -> _Entry:
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


class _Unpacker:
    """Takes notebooks out of zips. Files get numbers for names, so no name in an archive can lead anywhere."""

    def __init__(self, scratch: Path):
        self.scratch, self.count = scratch, 0

    def unpack(self, archive: Path, parents: tuple[str, ...] = (), *, depth: int = 0,
               allowance: _Allowance | None = None) -> Iterator[_Entry]:
        """The notebooks of an archive and of the archives inside, below `parents`.

        With an `allowance` it is one student's archive; without, a class's, and each student in it has one.
        """
        allowances: dict[str, _Allowance] = {}
        try:
            with zipfile.ZipFile(archive) as opened:
                members = [(member, PurePosixPath(member.filename.replace("\\", "/")).parts) for member in opened.infolist()]
                students = 1 if len({parts[0] for _, parts in members if parts}) == 1 else 0     # below the one folder, or at the top
                for member, inside in members:
                    student = inside[students] if len(inside) > students else ""
                    left = allowance or allowances.setdefault(student, _Allowance())
                    left.files -= 1
                    if left.files < 0:
                        continue
                    yield from self._member(opened, member, inside, parents, depth, left)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error,
                lzma.LZMAError) as error:
            yield _Entry((*parents, archive.name), refusal=f"the archive cannot be read ({error})")
        if any(left.files < 0 for left in (allowance, *allowances.values()) if left):
            yield _Entry((*parents, archive.name), refusal=f"it holds more than {MOST_FILES} files of one student; the rest was not looked at")

    def _member(self, opened: zipfile.ZipFile, member: zipfile.ZipInfo, inside: tuple[str, ...], parents: tuple[str, ...], depth: int,
                left: _Allowance) -> Iterator[_Entry]:
        """One file of an archive."""
        if any(_IGNORED.match(part) and part != ".." for part in inside):
            return
        parts, refusal = (*parents, *inside), _refusal(member)
        kind = PurePosixPath(inside[-1] if inside else "").suffix.lower()
        if refusal:
            yield _Entry((*parents, *(part for part in inside if part not in ("..", "/"))), refusal=refusal)
        elif member.is_dir():
            yield _Entry((*parts, ""))
        elif kind not in (".ipynb", ".zip"):
            yield _Entry(parts)
        elif kind == ".zip" and depth + 1 >= MOST_NESTING:
            yield _Entry(parts, refusal="it is an archive in an archive in an archive; it was not opened")
        else:
            limit = min(left.bytes, MOST_NOTEBOOK_BYTES if kind == ".ipynb" else left.bytes)
            path = self._write(opened, member, kind, limit)
            if path is None:
                yield _Entry(parts, refusal=_too_large(member.file_size) if limit == MOST_NOTEBOOK_BYTES else
                             f"more than {MOST_UNPACKED_BYTES / 1e6:.0f} MB of one student were to be unpacked")
                return
            left.bytes -= path.stat().st_size
            if kind == ".ipynb":
                yield _Entry(parts, path)
            else:
                yield from self.unpack(path, (*parts[:-1], parts[-1][:-4]), depth=depth + 1, allowance=left)

    def _write(self, opened: zipfile.ZipFile, member: zipfile.ZipInfo, kind: str, limit: int) -> Path | None:
        """The member as a file of ours, or `None` when it is longer than `limit`, whatever its header claims."""
        self.count += 1
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / f"{self.count:06d}{kind}"
        room = limit
        with opened.open(member) as source, open(path, "wb") as target:
            while piece := source.read(1 << 20):
                room -= len(piece)
                if room < 0:
                    break
                target.write(piece)
        if room < 0:
            path.unlink()
            return None
        return path


def _refusal(member: zipfile.ZipInfo) -> str:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if ".." in parts or member.filename.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", member.filename):
        return f"its name leads out of the archive ({member.filename[:200]!r})"
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
        one = bool(folder or _MOODLE.fullmatch(stem) or _CANVAS.fullmatch(stem) or _before_chapter(stem, chapters))
        inside = list(unpacker.unpack(entry.path, allowance=_Allowance() if one else None))
        if not one and _holds_a_class(inside, chapters):
            downloads.append((stem, inside))
        else:
            opened += _of_one_student(inside, folder, stem, chapters)
            alone = False
    for stem, inside in downloads:
        opened += _without_wrapping(inside, chapters) if alone else _of_one_student(inside, (), stem, chapters)
    return opened


def _of_one_student(inside: list[_Entry], folder: tuple[str, ...], stem: str, chapters: Sequence[str]) -> list[_Entry]:
    """What a student's zip holds, below the student's name."""
    top = stem if folder or _from_platform(stem) else _student(f"{stem}.ipynb", False, chapters)[0]
    return [_Entry((*folder, top, *entry.parts), entry.path, entry.refusal) for entry in inside]


def _holds_a_class(entries: list[_Entry], chapters: Sequence[str]) -> bool:
    """Whether a zip that lies among the submissions is a platform's download rather than one student's work."""
    inside = _without_wrapping(entries, chapters)
    if any(_from_platform(e.parts[0]) for e in inside if e.parts):
        return True
    folders = {e.parts[0] for e in inside if len(e.parts) > 1 and e.path}
    return len(folders - set(chapters)) > 1


def _without_wrapping(entries: list[_Entry], chapters: Sequence[str], *, only_platforms: bool = False) -> list[_Entry]:
    """Without the one folder around everything (the assignment's name, say) that archives often have.

    It is told from the folder of an only student by what lies in it: neither a notebook nor a chapter's folder. With
    `only_platforms` it has to hold names that a learning platform gave.
    """
    tops = {e.parts[0] for e in entries if e.parts}
    below = [e for e in entries if len(e.parts) > 1 and e.parts[1]]
    if len(tops) != 1 or not below or any(_from_platform(top) for top in tops) or any(len(e.parts) == 1 for e in entries):
        return entries
    if not any(_from_platform(e.parts[1]) for e in below) and (
            only_platforms or any(e.parts[1] in chapters or len(e.parts) == 2 and e.path for e in below)):
        return entries
    return _without_wrapping([_Entry(e.parts[1:], e.path, e.refusal) for e in below], chapters, only_platforms=only_platforms)


def _from_platform(name: str) -> bool:
    return bool(_MOODLE.match(name) or _CANVAS.match(name))


# --- students -------------------------------------------------------------------------------------------------------

def _by_student(entries: list[_Entry], chapters: Sequence[str]) -> Collection:
    found: dict[tuple[str, str], _Found] = {}
    remarks: list[str] = []
    for entry in entries:
        where = _shown("/".join(part for part in entry.parts if part))
        notebook = entry.path is not None and entry.parts[-1].lower().endswith(".ipynb")
        if not entry.parts or len(entry.parts) == 1 and not notebook and not entry.refusal:
            remarks.append(f"{where}: {entry.refusal or 'it is neither a notebook nor a zip, and was left aside'}.")
            continue
        name, moodle_id, canvas_id = _student(entry.parts[0], len(entry.parts) > 1, chapters)
        student = found.setdefault((name, moodle_id or canvas_id), _Found(_shown(name)))
        student.moodle_id, student.canvas_id = moodle_id, canvas_id
        inside = _shown("/".join(p for p in entry.parts[1:] if p) or where)
        if entry.refusal:
            student.remarks.append(f"{inside} was refused: {entry.refusal}.")
        elif notebook:
            student.notebooks.append(File(inside, entry.path))
    return Collection(tuple(_named(list(found.values()))), tuple(remarks))


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
        yield Submission(name, tuple(notebooks[:MOST_NOTEBOOKS]), tuple(remarks[:20]), student.moodle_id, student.canvas_id)


def _student(top: str, folder: bool, chapters: Sequence[str]) -> tuple[str, str, str]:
    """Name, Moodle's and Canvas's number of the student, from the first part of a path."""
    moodle = _MOODLE.fullmatch(top)
    if moodle:
        return moodle["name"], moodle["id"], ""
    canvas = _CANVAS.fullmatch(top)
    if canvas:
        return canvas["name"], "", canvas["id"]
    if folder:
        return top, "", ""
    stem = PurePosixPath(top).stem
    return _before_chapter(stem, chapters) or (stem.rpartition("_")[0] if stem not in chapters else "") or stem, "", ""


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
