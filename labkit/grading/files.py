"""Files that are whole or not there, whenever the grader is killed; and tables that spreadsheets open without harm."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["FORMULA", "file_name", "notebook_text", "number", "read_table", "same_name", "write_table", "write_text"]

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")    # a spreadsheet runs a cell that starts with one


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8", newline="")
    os.replace(beside, path)


def file_name(student: str) -> str:
    """A name for a student's files, on any system: readable, and different for different students."""
    plain = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-").lower()[:40]
    return f"{plain or 'student'}-{hashlib.sha256(student.encode('utf-8', 'replace')).hexdigest()[:8]}"


def notebook_text(content: bytes) -> tuple[str, str]:
    """The text of a notebook's file, and a remark where it is not the UTF-8 that notebooks are saved as.

    JSON says by its first bytes whether it is UTF-8, UTF-16 or UTF-32, with or without a mark in front. What is none of
    these is taken for the text of a Western Windows, if it is that.

    Raises
    ------
    ValueError : it is no text, or text of another kind; the message says what to do.
    """
    encoding: str = json.detect_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if not content.lstrip().startswith(b"{"):
            raise ValueError("it is not a notebook, not even text") from None
        encoding = "cp1252"
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            raise ValueError("its letters cannot be read: save it as UTF-8 and hand it in again") from None
    named = {"utf-8": "", "utf-8-sig": "", "cp1252": "Windows-1252"}.get(encoding, encoding.upper())
    return text, f"It is saved as {named}, and was read as that; notebooks are UTF-8: save it as UTF-8." if named else ""


def same_name(name: str) -> str:
    """What two spellings of one name have in common: capitals, composed letters and the width of spaces do not count."""
    return unicodedata.normalize("NFC", " ".join(name.split()).casefold())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, mark: bool = True) -> None:
    """Write a CSV file. Text that a spreadsheet would run as a formula gets an apostrophe in front.

    `mark` puts the mark of UTF-8 in front, by which Excel knows that `é` is meant; learning platforms go without.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    write_text(path, ("\ufeff" if mark else "") + file.getvalue())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    text = str(value).replace("\0", "")
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def read_table(path: Path, *, needs: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file by the lower-case names of its columns; commas, semicolons or tabs between them.

    A first line `sep=;`, as Excel writes it, says which. Letters come composed, however the file has them: `é` is one.

    Raises
    ------
    ValueError : the file is not such a table, or lacks a column of `needs`.
    """
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as 'CSV UTF-8'") from None
    first, _, rest = text.partition("\n")
    if said := re.fullmatch(r"sep=([,;\t])\s*", first, re.IGNORECASE):
        text, delimiter = rest, said[1]
    else:
        delimiter = max(",;\t", key=first.count)
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    missing = [name for name in needs if name not in header]
    if missing:
        raise ValueError(f"{path} has the columns {', '.join(header) or 'none'}; expected also {', '.join(missing)}")
    return [{name: _unescaped(value.strip()) for name, value in zip(header, row)} for row in rows[1:] if any(v.strip() for v in row)]


def _unescaped(value: str) -> str:
    return value[1:] if value.startswith("'") and value[1:].startswith(FORMULA) else value


def number(text: str, *, where: str) -> float:
    """A number as people write it in a spreadsheet: `3`, `2.5`, `2,5`, `10 %`.

    Raises
    ------
    ValueError : it is none, or negative; the message starts with `where`.
    """
    try:
        value = float(text.replace(",", ".").rstrip("% "))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{where} is {text!r}; expected a number, 0 or more")
    return value
