"""Answers that look alike: between submissions, and beside the published solutions and labkit's own functions.

Everybody holds the hints, the solutions and labkit, so alike is not copied. What is compared is the syntax tree without
names of variables, comments, docstrings, annotations and layout, cut into overlapping pieces of `PIECE` nodes. A piece
that few answers hold says more than one that the hints suggest to all: between submissions it weighs `log((n + 1) / m)`
when `m` of `n` answers hold it. Who reads the report decides what it means.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from labkit.grading.extract import LONGEST_ANALYSED, Assignment, parse

__all__ = ["MOST_REPORTED", "NOTABLE", "PIECE", "SMALLEST", "Pair", "Shape", "compare", "most_alike", "published",
           "shape_of"]

PIECE = 6               # nodes; shorter pieces are shared by chance, longer ones break at every small change
SMALLEST = 25           # nodes; a shorter answer can hardly be written otherwise
NOTABLE = 0.8           # similarity from which a pair is reported
MOST_REPORTED = 300     # pairs, the most alike first


@dataclass(frozen=True)
class Pair:
    """Two answers to one exercise. `second` is another student, or names where the code was published.

    `similarity` runs from 0 to 1; `identical` means that nothing but names of variables, comments and layout differs;
    `both_wrong` that neither answer is right, so that they share a mistake.
    """

    exercise: str
    first: str
    second: str
    similarity: float
    identical: bool
    published: bool = False
    both_wrong: bool = False


@dataclass(frozen=True)
class Shape:
    """What remains of a piece of code when names and layout are taken away."""

    nodes: tuple[str, ...]
    pieces: frozenset[int]


def compare(answers: dict[str, dict[str, str]], assignment: Assignment, course: Path | None,
            same: dict[str, str] | None = None, wrong: Collection[tuple[str, str]] = ()) -> list[Pair]:
    """The notable pairs in one chapter, the most alike first.

    An answer that is identical to published code is compared with that only: that two students both took the solution
    says nothing about the two.

    Parameters
    ----------
    answers : the source of each answer, by exercise and student.
    course : the course's folder, where `solutions` are looked for.
    same : groups, by student; members of a group are not compared.
    wrong : exercise and student of the answers that are not right.
    """
    pairs: list[Pair] = []
    for exercise, sources in answers.items():
        shapes = {student: shape for student, source in sources.items() if (shape := shape_of(source)) and len(shape.nodes) >= SMALLEST}
        known = published(assignment, exercise, course)
        beside = [pair for student, shape in shapes.items() if (pair := _beside(exercise, student, shape, known))]
        taken = {pair.first for pair in beside if pair.identical}
        between = _between(exercise, {s: shape for s, shape in shapes.items() if s not in taken}, same or {})
        pairs += [replace(p, both_wrong=(exercise, p.first) in wrong and (exercise, p.second) in wrong) for p in between] + beside
    pairs.sort(key=lambda p: (-p.identical, -p.both_wrong, -p.similarity, p.exercise, p.first, p.second))
    return pairs


def _between(exercise: str, shapes: dict[str, Shape], same: dict[str, str]) -> Iterator[Pair]:
    """Pairs of students, by the weighted share of pieces that both hold (a Jaccard index)."""
    import numpy as np
    from scipy import sparse

    students = list(shapes)
    columns: dict[int, int] = {}
    entries = [(row, columns.setdefault(piece, len(columns))) for row, student in enumerate(students)
               for piece in sorted(shapes[student].pieces)]
    if len(students) < 2 or not entries:
        return
    rows, places = np.array(entries).T
    holds = sparse.csr_matrix((np.ones(len(rows)), (rows, places)), shape=(len(students), len(columns)))
    holders = np.asarray(holds.sum(0)).ravel()
    weights = np.log((len(students) + 1) / holders)
    common = (holds.multiply(weights).tocsr() @ holds.T).toarray()
    own = common.diagonal()
    union = own[:, None] + own[None, :] - common
    similarity = np.divide(common, union, out=np.ones_like(common), where=union > 0)
    for i, j in zip(*np.nonzero(np.triu(similarity >= NOTABLE, 1))):
        first, second = students[i], students[j]
        if first in same and same.get(first) == same.get(second):
            continue
        yield Pair(exercise, first, second, round(float(similarity[i, j]), 3), shapes[first].nodes == shapes[second].nodes)


def _beside(exercise: str, student: str, shape: Shape, known: dict[str, Shape]) -> Pair | None:
    """The published code that an answer is most like, by the share of the answer's pieces that it holds."""
    best: Pair | None = None
    for where, other in known.items():
        share = len(shape.pieces & other.pieces) / len(shape.pieces) if shape.pieces else 0.0
        pair = Pair(exercise, student, where, round(share, 3), shape.nodes == other.nodes, published=True)
        if share >= NOTABLE and (best is None or (pair.identical, pair.similarity) > (best.identical, best.similarity)):
            best = pair
    return best


# --- what is published ----------------------------------------------------------------------------------------------

def published(assignment: Assignment, exercise: str, course: Path | None) -> dict[str, Shape]:
    """The code that students hold: the chapter's solution, and the functions of labkit that the exercise withholds."""
    sources = {}
    if course is not None:
        solution = _solution(Path(course) / "solutions" / assignment.name / f"{assignment.name}.py", exercise)
        if solution:
            sources["the published solution"] = solution
    for name in assignment.exercises[exercise].withholds:
        if name.startswith("labkit."):
            sources |= _functions_behind(name)
    return {where: shape for where, source in sources.items() if (shape := shape_of(source)) and len(shape.nodes) >= SMALLEST}


@lru_cache(maxsize=256)
def _solution(path: Path, exercise: str) -> str:
    if not path.is_file():
        return ""
    cell = re.search(rf'^# %% exercise="{re.escape(exercise)}".*?\n(.*?)(?=^# %%|\Z)', path.read_text(encoding="utf-8"),
                     re.DOTALL | re.MULTILINE)
    return cell[1] if cell else ""


@lru_cache(maxsize=256)
def _functions_behind(name: str) -> dict[str, str]:
    """Every function of the module that a function of labkit is written in, since the work is often done by a helper."""
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(module), attribute)
    home = inspect.getmodule(function)
    tree, text = ast.parse(inspect.getsource(home)), inspect.getsource(home)
    return {f"{home.__name__}.{node.name}": ast.get_source_segment(text, node) or ""
            for node in tree.body if isinstance(node, ast.FunctionDef)}


# --- the shape of code ----------------------------------------------------------------------------------------------

@lru_cache(maxsize=8192)
def shape_of(source: str) -> Shape | None:
    """The shape of some code, or `None` when it cannot be parsed or walked through."""
    tree = parse(source) if len(source) <= LONGEST_ANALYSED else None
    if tree is None:
        return None
    try:
        own = _own_names(tree)
        nodes = tuple(_nodes(tree, own, {}))
    except (RecursionError, ValueError, MemoryError):
        return None
    words = [node.split("#")[0] for node in nodes]      # the order in which variables turn up counts only for identity
    pieces = frozenset(_hash(" ".join(words[i:i + PIECE])) for i in range(max(1, len(words) - PIECE + 1)))
    return Shape(nodes, pieces)


def _own_names(tree: ast.AST) -> frozenset[str]:
    """The names that the code itself gives: of variables, arguments and functions."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
    return frozenset(own)


def _nodes(node: ast.AST, own: frozenset[str], numbers: dict[str, int]) -> Iterator[str]:
    """The nodes of a tree in order, each as a word. Own names become numbers, in the order in which they turn up."""
    def number(name: str) -> str:
        return f"v#{numbers.setdefault(name, len(numbers))}" if name in own else name

    if isinstance(node, ast.Name):
        yield number(node.id)
    elif isinstance(node, ast.arg):
        yield number(node.arg)
    elif isinstance(node, ast.Constant):
        # hexadecimal, since Python refuses to write a number of thousands of digits in tens
        yield "text" if isinstance(node.value, str) else hex(node.value) if type(node.value) is int else repr(node.value)
    elif isinstance(node, (ast.Load, ast.Store, ast.Del)):
        return
    else:
        label = next((getattr(node, field) for field in ("attr", "arg", "id") if isinstance(getattr(node, field, None), str)), "")
        yield f"{type(node).__name__}{':' + label if label else ''}"
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "type_comment", "decorator_list"):
                continue
            if field == "body" and isinstance(value, list):
                value = value[1:] if value and _is_docstring(value[0]) else value
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _nodes(child, own, numbers)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def most_alike(pairs: Sequence[Pair]) -> list[tuple[str, str, list[Pair]]]:
    """The pairs of students, those first that share most: identical mistakes, identical answers, the sum of similarities."""
    together: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        if not pair.published:
            together.setdefault((pair.first, pair.second), []).append(pair)
    ranked = sorted(together.items(), key=lambda item: (
        -sum(p.identical and p.both_wrong for p in item[1]), -sum(p.identical for p in item[1]),
        -math.fsum(p.similarity for p in item[1]), item[0]))
    return [(first, second, found) for (first, second), found in ranked][:MOST_REPORTED]
