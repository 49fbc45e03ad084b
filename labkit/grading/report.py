"""The pages: one for each student, one for the class, one on answers that look alike. Plain HTML that needs nothing else.

Whatever a student wrote is text here, never markup, and the pages say so to the browser as well: it may run nothing and
load nothing.
"""

from __future__ import annotations

import html
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import labkit
from labkit import figures
from labkit.checks.verdict import Verdict, with_code

if TYPE_CHECKING:
    from labkit.grading.extract import Assignment
    from labkit.grading.marks import Item, Row
    from labkit.grading.similarity import Pair

__all__ = ["LONGEST_SOURCE", "chapter_section", "class_page", "page", "pictures", "similarity_page", "state_of",
           "student_page"]

LONGEST_SOURCE = 6_000      # characters of an answer shown on a page

# Outcomes of an exercise: a class for the page, a sign and words, so that colour is never alone.
_STATES = {"right": ("right", "✔", "right"), "partly": ("partly", "◐", "partly right"), "wrong": ("wrong", "✘", "not right"),
           "unsolved": ("none", "○", "not written"), "missing": ("none", "–", "not found")}
_MISTAKES = {    # what the engine and the sandbox name, besides the mistakes that a chapter knows
    "raises": "it stopped with an error", "returns_nothing": "it returned nothing", "wrong_type": "it returned something of another type",
    "wrong_shape": "the result has another shape", "wrong_dtype": "the result has another dtype",
    "not_finite": "the result holds NaN or infinite values", "wrong_values": "other values, of no known mistake",
    "writes_into_argument": "it wrote into an argument", "property": "a property does not hold", "hidden_only": "right in the notebook only",
    "not_comparable": "it returned something that cannot be compared", "TimeLimit": "stopped: it took too long",
    "MemoryLimit": "stopped: too much memory", "ProcessLimit": "stopped: too many processes", "FileLimit": "stopped: too many files",
    "OutputLimit": "stopped: it printed too much", "Withheld": "it called what the exercise asks to write", "Crash": "it ended its process",
    "Protocol": "it meddled with the grader's channel",
}


def state_of(record: dict) -> str:
    """`right`, `partly`, `wrong`, `unsolved` or `missing`."""
    return "partly" if record["outcome"] == "wrong" and record["earned"] > 0 else record["outcome"]


# --- the parts that the unit of work writes -------------------------------------------------------------------------

def pictures(verdict: Verdict) -> str:
    """The pictures of a verdict, as the notebook shows them."""
    titles, images = zip(*verdict.pictures)
    width = min(256, max(128, 8 * images[0].shape[-1]))
    return figures.show(list(images), titles=titles, width=width, alt="one of the inputs on which the answer was tried").html


def chapter_section(assignment: Assignment, exercises: Sequence[dict], remarks: Sequence[str], shown: dict[str, str]) -> str:
    """What a student reads about one chapter, marks aside that only the class's tables decide."""
    parts = [f"<h2>{_text(int(assignment.number))} · {_text(assignment.title)}</h2>", _notes("About the notebook", remarks)]
    for record in exercises:
        kind, sign, words = _STATES[state_of(record)]
        took = f"{record['seconds']:.1f} s · " if record["seconds"] >= 0.1 else ""
        parts += [f'<section class="exercise {kind}" id="{_text(assignment.name)}-{_text(record["name"])}">',
                  f'<h3><span class="state">{sign}</span> <code>{_text(record["name"])}</code> <span class="state">{words}</span>'
                  f'<span class="points">{took}{record["earned"]:g} of {record["points"]:g} points</span></h3>']
        parts += [f"<p>{_sentence(sentence)}</p>" for sentence in record["diagnosis"]]
        if record["outcome"] == "unsolved":
            parts.append('<p class="soft">The cell still holds the line that raises NotImplementedError.</p>')
        parts.append(shown.get(record["name"], ""))
        if record["properties"]:
            parts.append('<ul class="properties">' + "".join(
                f'<li class="{"held" if p["passed"] else "failed"}"><span class="mark">{"✔" if p["passed"] else "✘"}</span>'
                f'{_sentence(p["sentence"])}</li>' for p in record["properties"]) + "</ul>")
        parts.append(_hint(assignment.hints.get(record["name"], {}), record))
        if record["source"]:
            parts.append(f'<details><summary>The code that was marked</summary><pre><code>{_text(_cut(record["source"]))}</code></pre></details>')
        parts.append("</section>")
    return "\n".join(part for part in parts if part)


def _hint(hints: dict[int, tuple[str, str]], record: dict) -> str:
    """The hint that the verdict points to, or the first where the exercise was not written."""
    number = record["hint"] or (1 if record["outcome"] == "unsolved" else None)
    if number not in hints:
        return ""
    title, text = hints[number]
    return f"<details><summary>Hint {number}{': ' + _text(title) if title else ''}</summary>{_markdown(text)}</details>"


def _markdown(text: str) -> str:
    """The little Markdown that hints are written in: paragraphs, `code`, *stress*, **strong**, and TeX left as it is."""
    text = _text(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\$([^$]+)\$", r"<code>\1</code>", text)
    pieces = re.split(r"(<code>.*?</code>)", text, flags=re.DOTALL)
    pieces = [piece if piece.startswith("<code>") else re.sub(r"\*([^*]+)\*", r"<em>\1</em>", re.sub(
        r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", piece)) for piece in pieces]
    return "".join(f"<p>{paragraph.strip()}</p>" for paragraph in re.split(r"\n\s*\n", "".join(pieces)) if paragraph.strip())


# --- a student's page -----------------------------------------------------------------------------------------------

def student_page(row: Row, items: Sequence[Item], sections: str) -> str:
    """The page that is handed back."""
    out_of = sum(item.points for item in items)
    records = _records(row)
    lines = []
    for item in items:
        mark, record = row.marks[item], records.get((item.chapter, item.name))
        if item.written:
            state = ("none", "…", "to be marked") if mark is None else ("right" if mark >= item.points else "partly" if mark else "none",
                                                                        "✎", "marked by hand")
        else:
            state = _STATES[state_of(record)] if record else _STATES["missing"]
        anchor = f'<a href="#{_text(item.chapter)}-{_text(item.name)}"><code>{_text(item.name)}</code></a>' if record or item.written \
            else f"<code>{_text(item.name)}</code>"
        override = row.overrides.get(item)
        instead = f", instead of the check’s {record['earned']:g}" if record else ""
        note = f' <span class="soft">your instructor’s mark{instead}: {_text(override.reason)}</span>' if override else ""
        lines.append(f'<tr><td>{anchor}{note}</td><td class="state {state[0]}">{state[1]} {state[2]}</td>'
                     f'<td class="number">{"…" if mark is None else f"{mark:g}"} of {item.points:g}</td></tr>')
    if row.person.late:
        lines.append(f'<tr><td>handed in late</td><td class="state">{row.person.late:g} % off</td>'
                     f'<td class="number">−{row.total - row.mark:.3g}</td></tr>')
    lines.append(f'<tr class="sum"><td>Mark</td><td></td><td class="number">{row.mark:g} of {out_of:g}</td></tr>')
    body = [f'<div class="head"><div><p class="soft">Feedback</p><h1>{_text(row.person.name or row.person.student)}</h1>'
            f'{f"<p>{_text(row.person.student)}</p>" if row.person.name not in ("", row.person.student) else ""}</div>'
            f'<div class="score">{row.mark:g} <small>of {out_of:g} points</small></div></div>',
            _notes("About what was handed in", row.remarks),
            '<div class="wide"><table><thead><tr><th scope="col">exercise</th><th scope="col">what the check says</th>'
            f'<th scope="col" class="number">points</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>',
            sections, _written(row, items),
            '<p class="soft">The marks come from the checks of the notebook, run again on other random inputs than those you saw. The '
            "pictures here show the inputs of the notebook. Seconds, where there are any, are what all calls of your function took together.</p>"
            if sections else ""]
    return page(f"Feedback for {row.person.name or row.person.student}", "\n".join(part for part in body if part))


def _written(row: Row, items: Sequence[Item]) -> str:
    """The written answers with what the instructor said to them."""
    answers = {(c["name"], name): text for c in (row.result or {"chapters": []})["chapters"] for name, text in c["written"].items()}
    parts = []
    for item in items:
        text = answers.get((item.chapter, item.name))
        if item.written and text is not None:
            mark, comment = row.marks[item], row.comments.get(item, "")
            parts.append(f'<section class="exercise" id="{_text(item.chapter)}-{_text(item.name)}"><h3><code>{_text(item.name)}</code>'
                         f'<span class="points">{"not marked yet" if mark is None else f"{mark:g} of {item.points:g} points"}</span></h3>'
                         f'{f"<p>{_text(comment)}</p>" if comment else ""}<pre>{_text(_cut(text))}</pre></section>')
    return f"<h2>Written answers</h2>{''.join(parts)}" if parts else ""


def _records(row: Row) -> dict[tuple[str, str], dict]:
    chapters = row.result["chapters"] if row.result else []
    return {(chapter["name"], record["name"]): record for chapter in chapters for record in chapter["exercises"]}


# --- the class ------------------------------------------------------------------------------------------------------

def class_page(rows: Sequence[Row], items: Sequence[Item], assignments: Sequence[Assignment], remarks: Sequence[str],
               links: dict[str, str], isolation: str) -> str:
    """The instructor's page: how the class did, what went wrong most often, who needs a look."""
    out_of = sum(item.points for item in items)
    marks = [row.mark for row in rows]
    handed_in = sum(row.result is not None for row in rows)
    figures_ = [(f"{handed_in} of {len(rows)}", "submissions"), (f"{statistics.fmean(marks):.3g}" if marks else "–", f"mean of {out_of:g} points"),
                (f"{statistics.median(marks):.3g}" if marks else "–", "median"),
                (str(sum(row.to_mark for row in rows)), "written answers to mark")]
    body = ['<div class="head"><div><p class="soft">For the instructor</p><h1>The class at a glance</h1></div>'
            f'<div class="score">{len(rows)} <small>students</small></div></div>',
            '<div class="figures">' + "".join(f"<div>{value}<small>{label}</small></div>" for value, label in figures_) + "</div>",
            _isolation(isolation), _looks(rows, remarks, links), "<h2>Distribution of the marks</h2>",
            '<p class="soft">Students by points.</p>', _histogram(marks, out_of),
            "<h2>Exercises</h2>", _exercises(rows, items, assignments), "<h2>Students</h2>", _table(rows, items, links),
            '<p><a href="similarity.html">Answers that look alike</a></p>']
    return page("The class at a glance", "\n".join(part for part in body if part))


def _isolation(isolation: str) -> str:
    if isolation != "process":
        return ""
    return ('<div class="notes"><p>bubblewrap was not used: submissions ran in processes of their own with limits, but could read what '
            "you can read. Use it for submissions of people you do not trust.</p></div>")


def _looks(rows: Sequence[Row], remarks: Sequence[str], links: dict[str, str]) -> str:
    """What the instructor should look at: submissions that could not be read or marked, and answers that were stopped."""
    found = [f"<li>{_text(remark)}</li>" for remark in remarks]
    for row in rows:
        notes = list(row.remarks)
        if row.result and not row.handed_in_by:
            if row.result["failure"]:
                notes.append(f"The grader failed ({row.result['failure']}); run it again with --resume.")
            for (_, name), record in _records(row).items():
                if record["mistake"] in ("ProcessLimit", "FileLimit", "MemoryLimit", "OutputLimit", "Crash", "Protocol", "not_comparable"):
                    notes.append(f"{name}: {_MISTAKES[record['mistake']]}.")
        if notes:
            found.append(f"<li>{_link(row, links)}: {_text(' '.join(notes))}</li>")
    return f'<h2>Look at these</h2><div class="notes"><ul>{"".join(found)}</ul></div>' if found else ""


def _exercises(rows: Sequence[Row], items: Sequence[Item], assignments: Sequence[Assignment]) -> str:
    known = {(a.name, e.name): e for a in assignments for e in a.exercises.values()}
    lines = []
    several = len({item.chapter for item in items}) > 1
    for item in items:
        marks = [row.marks[item] for row in rows if row.marks[item] is not None]
        mean = f"{statistics.fmean(marks):.2f}" if marks else "–"
        records = [record for row in rows if not row.handed_in_by and (record := _records(row).get((item.chapter, item.name)))]
        counts = Counter(_STATES[state_of(record)][0] for record in records)
        counts["none"] += sum(row.result is None for row in rows)
        exercise = known.get((item.chapter, item.name))
        mistakes = Counter(record["mistake"] for record in records if record["mistake"]).most_common(4)
        said = "".join(f"<li><b>{number} ×</b> {_sentence(_mistake(name, exercise))}</li>" for name, number in mistakes)
        label = f"{item.chapter}/{item.name}" if several else item.name
        lines.append(f'<tr><td><code>{_text(label)}</code></td><td class="number">{mean} of {item.points:g}</td>'
                     f'<td>{_bar(counts) if not item.written else "marked by hand"}</td><td><ul class="mistakes">{said}</ul></td></tr>')
    legend = "".join(f'<span><i class="{kind}"></i>{words}</span>' for kind, words in (
        ("right", "right"), ("partly", "partly right"), ("wrong", "not right"), ("none", "not written or not found")))
    return (f'<p class="legend soft">{legend}</p><div class="wide"><table><thead><tr><th scope="col">exercise</th>'
            '<th scope="col" class="number">mean</th><th scope="col">answers</th><th scope="col">commonest mistakes</th></tr></thead>'
            f'<tbody>{"".join(lines)}</tbody></table></div>')


def _mistake(name: str, exercise: object) -> str:
    known = getattr(exercise, "mistakes", {}).get(name)
    return known.sentence if known else _MISTAKES.get(name, name.replace("_", " "))


def _bar(counts: Counter) -> str:
    total = sum(counts.values())
    if not total:
        return ""
    words = ", ".join(f"{counts[kind]} {label}" for kind, label in (
        ("right", "right"), ("partly", "partly right"), ("wrong", "not right"), ("none", "not written or not found")))
    return (f'<div class="bar" role="img" aria-label="{words}" title="{words}">' + "".join(
        f'<span class="{kind}" style="width:{100 * counts[kind] / total:.2f}%"></span>' for kind in ("right", "partly", "wrong", "none")
        if counts[kind]) + f'</div><span class="soft">{counts["right"]} · {counts["partly"]} · {counts["wrong"]} · {counts["none"]}</span>')


def _histogram(marks: Sequence[float], out_of: float) -> str:
    """How many students have how many points, in ten columns."""
    if not marks or out_of <= 0:
        return '<p class="soft">There is nothing to show.</p>'
    columns = [0] * 10
    for mark in marks:
        columns[min(9, max(0, int(10 * mark / out_of)))] += 1
    width, height, most = 62, 150, max(columns)
    drawn = []
    for k, count in enumerate(columns):
        tall = height * count / most
        drawn.append(f'<rect class="column" x="{k * width + 6}" y="{30 + height - tall:.1f}" width="{width - 12}" height="{tall:.1f}" rx="2"/>')
        if count:
            drawn.append(f'<text x="{(k + 0.5) * width}" y="{24 + height - tall:.1f}" text-anchor="middle">{count}</text>')
    drawn += [f'<text x="{min(max(k * width, 8), 10 * width - 8)}" y="{height + 50}" text-anchor="middle">{out_of * k / 10:g}</text>'
              for k in range(11)]
    words = "; ".join(f"{count} from {out_of * k / 10:g} to {out_of * (k + 1) / 10:g}" for k, count in enumerate(columns) if count)
    return (f'<div class="wide"><svg viewBox="0 0 {10 * width} {height + 60}" width="{10 * width}" role="img" '
            f'aria-label="Number of students by points: {words}"><line class="axis" x1="0" x2="{10 * width}" y1="{height + 30}" '
            f'y2="{height + 30}"/>{"".join(drawn)}</svg></div>')


def _table(rows: Sequence[Row], items: Sequence[Item], links: dict[str, str]) -> str:
    heads = "".join(f'<th scope="col" class="number" title="{_text(item.column)}">{_text(k)}</th>' for k, item in enumerate(items, 1))
    lines = []
    for row in rows:
        records = _records(row)
        cells = []
        for item in items:
            mark, record = row.marks[item], records.get((item.chapter, item.name))
            empty = mark is None or not item.written and (record is None or record["outcome"] in ("unsolved", "missing")) and not mark
            kind = "empty" if empty else "full" if mark >= item.points else "some" if mark else "zero"
            star = "*" if item in row.overrides else ""
            cells.append(f'<td class="number {kind}">{"…" if mark is None else "–" if empty else f"{mark:g}"}{star}</td>')
        group = f' <span class="soft">{_text(row.person.group)}</span>' if row.person.group else ""
        late = f' <span class="soft">late, −{row.person.late:g} %</span>' if row.person.late else ""
        lines.append(f'<tr><td>{_link(row, links)}{group}{late}</td>{"".join(cells)}<td class="number"><b>{row.mark:g}</b></td></tr>')
    names = ", ".join(f"{k} <code>{_text(item.name)}</code>" for k, item in enumerate(items, 1))
    return (f'<div class="wide"><table class="grid"><thead><tr><th scope="col">student</th>{heads}<th scope="col" class="number">mark</th></tr>'
            f'</thead><tbody>{"".join(lines)}</tbody></table></div><p class="soft">{names}. – not written; * your own mark.</p>')


def _link(row: Row, links: dict[str, str]) -> str:
    name = _text(row.person.name or row.person.student)
    link = links.get(row.person.student)
    return f'<a href="{_text(link)}">{name}</a>' if link else name


# --- answers that look alike ----------------------------------------------------------------------------------------

def similarity_page(alike: Sequence[tuple[str, str, list[Pair]]], published: Sequence[Pair], sources: dict[tuple[str, str], str],
                    names: dict[str, str]) -> str:
    """For the instructor: pairs of students first, then answers that are like published code."""
    body = ['<div class="head"><div><p class="soft">For the instructor</p><h1>Answers that look alike</h1></div></div>',
            "<p>Compared are the syntax trees without names of variables, comments and layout. Hints, solutions and labkit are in "
            "everybody’s hands, and a short exercise has few good answers: alike is a reason to look, not a proof. Answers that are "
            "the same as published code stand in the second table only; a shared mistake says more than a shared right answer.</p>",
            "<h2>Between submissions</h2>"]
    if not alike:
        body.append('<p class="soft">No two answers are notably alike.</p>')
    for first, second, pairs in alike:
        same, mistakes = sum(pair.identical for pair in pairs), sum(pair.identical and pair.both_wrong for pair in pairs)
        detail = "".join(
            f'<h3><code>{_text(pair.exercise)}</code> {_alike(pair)}</h3><div class="sides">'
            + "".join(f'<pre><code>{_text(_cut(sources.get((pair.exercise, who), "")))}</code></pre>' for who in (first, second)) + "</div>"
            for pair in pairs)
        body.append(f'<details class="exercise"><summary>{_text(names.get(first, first))} and {_text(names.get(second, second))}: '
                    f'{len(pairs)} alike, {same} of them the same but for names and layout'
                    f'{f", {mistakes} of these with the same mistake" if mistakes else ""}</summary>{detail}</details>')
    body.append("<h2>Beside published code</h2>")
    lines = "".join(f'<tr><td>{_text(names.get(pair.first, pair.first))}</td><td><code>{_text(pair.exercise)}</code></td>'
                    f"<td>{_text(pair.second)}</td><td>{_alike(pair)}</td></tr>" for pair in published)
    body.append('<div class="wide"><table><thead><tr><th scope="col">student</th><th scope="col">exercise</th><th scope="col">like</th>'
                f'<th scope="col">how much</th></tr></thead><tbody>{lines}</tbody></table></div>' if published
                else '<p class="soft">No answer is notably like published code.</p>')
    return page("Answers that look alike", "\n".join(body))


def _alike(pair: Pair) -> str:
    return "the same but for names and layout" if pair.identical else f"{100 * pair.similarity:.0f} % alike"


# --- every page -----------------------------------------------------------------------------------------------------

def page(title: str, body: str) -> str:
    """A page that stands alone."""
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src \'unsafe-inline\'">'
            f"<title>{_text(title)}</title><style>{_style()}</style></head>\n<body><main>\n{body}\n"
            f"<footer>Made by labkit {labkit.__version__}.</footer></main></body></html>\n")


@lru_cache(maxsize=1)
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _notes(title: str, notes: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f'<div class="notes" role="note" aria-label="{_text(title)}"><ul>{items}</ul></div>' if items else ""


def _text(value: object) -> str:
    """Text as markup shows it, without characters that markup may not hold."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "�", str(value)), quote=True)


def _sentence(value: object) -> str:
    """A sentence of a check as markup, with what stands between backticks as code."""
    return with_code(_text(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SOURCE else text[:LONGEST_SOURCE] + "\n…"
