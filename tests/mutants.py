"""How many small changes of a right answer the checks notice.

    python -m tests.mutants [filtering patchmatch] [--sample N] [--seed S]

Every solution is changed in one place at a time: an operator, a constant, a comparison, a sign, a term or a method call
dropped, a flag turned. A mutant that the check accepts counts as *equivalent* only if it agrees with the solution on
many inputs of a wider kind than the check's own (`tests/inputs`), to 1e-9; every other one is a hole in the check.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from labkit import chapters, checks
from labkit.checks.answers import Request, perform
from labkit.checks.compare import difference
from tests import inputs, solutions

TRIES = 60
SECONDS = 30

_SWAPS = {ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult,), ast.Pow: (ast.Mult,),
          ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.Mult,), ast.MatMult: ()}
_COMPARISONS = {ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt,), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt,), ast.Eq: (ast.NotEq,),
                ast.NotEq: (ast.Eq,)}
_BORDERS = ("zero", "reflect", "replicate", "periodic", "normalized")


@dataclass(frozen=True)
class Mutant:
    """A changed solution: its code, and what was changed."""

    exercise: str
    code: str
    change: str


@dataclass(frozen=True)
class Score:
    """What became of the mutants of one exercise."""

    exercise: str
    total: int
    equivalent: int
    survivors: tuple[Mutant, ...]

    @property
    def rejected(self) -> int:
        return self.total - self.equivalent - len(self.survivors)

    def __str__(self) -> str:
        real = self.total - self.equivalent
        share = 100 * self.rejected / max(real, 1)
        return f"{self.exercise:28s} {self.rejected:4d} of {real:4d} rejected ({share:5.1f} %), {self.equivalent} equivalent"


# --- the changes ----------------------------------------------------------------------------------------------------

def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Every way to change one node."""
    if isinstance(node, ast.BinOp):
        for other in _SWAPS.get(type(node.op), ()):
            yield ast.BinOp(node.left, other(), node.right)
        yield node.left
        yield node.right
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _COMPARISONS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        elif isinstance(node.value, float):
            yield ast.Constant(node.value * 2)
        elif node.value in _BORDERS:
            yield from (ast.Constant(border) for border in _BORDERS if border != node.value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield node.func.value   # x.f(…) becomes x
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
        yield node.args[0]      # f(x) becomes x


def mutants(exercise: str, code: str) -> list[Mutant]:
    """All mutants of a solution, each changed in one place (docstrings and signatures are left alone)."""
    tree = ast.parse(code)
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == exercise)
    body = [s for s in function.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    nodes = [node for statement in body for node in ast.walk(statement)]
    found, seen = [], {ast.unparse(tree)}
    for target in nodes:
        for replacement in _replacements(target):
            changed = _replace(tree, target, replacement)
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text not in seen:
                seen.add(text)
                found.append(Mutant(exercise, text, f"{ast.unparse(target)}  →  {ast.unparse(replacement)}"))
    return found


def _replace(tree: ast.Module, target: ast.AST, replacement: ast.AST) -> ast.Module:
    twins: dict[int, ast.AST] = {}
    changed = copy.deepcopy(tree, twins)
    twin = twins[id(target)]

    class Swap(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return copy.deepcopy(replacement) if node is twin else self.generic_visit(node)

    return Swap().visit(changed)


# --- equivalence ----------------------------------------------------------------------------------------------------

def equivalent(chapter: str, exercise: str, mutant: Callable, right: Callable, *, tolerance: float = 1e-9) -> bool:
    """Whether two answers agree on `TRIES` random inputs of the wider kind."""
    rng, kind = random.Random(exercise), checks.exercises(chapter)[exercise].kind
    kind = "function" if kind == "differentiable" else kind
    for _ in range(TRIES):
        made = inputs.of(chapter)[exercise](rng)
        request = made if isinstance(made, Request) else Request(made)
        theirs, mine = perform(kind, right, request), perform(kind, mutant, request)
        if theirs.problem:
            raise RuntimeError(f"the solution of {exercise} failed: {theirs.problem}")
        if mine.problem or difference(mine.value, theirs.value, tolerance):
            return False
    return True


class Interpreted:
    """A kernel that Python runs itself: a mutant's index out of bounds is then an error, and ends no process."""

    def __init__(self, function: Callable):
        self.py_func = self.__wrapped__ = function

    def __call__(self, *arguments):
        return self.py_func(*arguments)


_INTERPRETED = """
from tests.mutants import Interpreted
prange = range
def njit(**options):
    return Interpreted
"""


def define(chapter: str, code: str, exercise: str) -> Callable:
    """What a cell defines; a compiled kernel is interpreted instead."""
    kernel = checks.exercises(chapter)[exercise].kind == "kernel"
    return solutions.define(chapter, _INTERPRETED + code if kernel else code, exercise)


# --- the count ------------------------------------------------------------------------------------------------------

@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(signum, frame):
        raise TimeoutError(f"the mutant ran for more than {seconds} s")
    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def accepted(chapter: str, mutant: Mutant) -> bool:
    """Whether the check takes the mutant for a right answer. One that never ends is rejected."""
    exercise = replace(checks.exercises(chapter)[mutant.exercise], mistakes={})      # what a wrong one looks like does not matter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # a mutant may well provoke torch's warnings
        try:
            with _at_most(SECONDS):
                return exercise(define(chapter, mutant.code, mutant.exercise)).passed
        except TimeoutError:
            return False


def score(chapter: str, exercise: str, chosen: list[Mutant]) -> Score:
    """Run the check on the given mutants of one exercise."""
    survivors = [mutant for mutant in chosen if accepted(chapter, mutant)]
    right = define(chapter, solutions.source(chapter, exercise), exercise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = [m for m in survivors if equivalent(chapter, exercise, define(chapter, m.code, exercise), right)]
    return Score(exercise, len(chosen), len(same), tuple(m for m in survivors if m not in same))


def run(chapter: str, *, sample: int | None = None, seed: int = 0) -> list[Score]:
    """Scores of all exercises of a chapter, on all mutants or on a seeded sample of so many per exercise."""
    scores = []
    for exercise in checks.exercises(chapter):
        everything = mutants(exercise, solutions.source(chapter, exercise))
        chosen = everything if sample is None else random.Random(seed).sample(everything, min(sample, len(everything)))
        scores.append(score(chapter, exercise, chosen))
    return scores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="number or topic; else all")
    parser.add_argument("--sample", type=int, default=None, help="so many mutants per exercise instead of all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")     # before a chapter imports numba
    worst = 1.0
    for chapter in [chapters.find(key).topic for key in arguments.chapters] or [chapter.topic for chapter in chapters.CHAPTERS]:
        scores = run(chapter, sample=arguments.sample, seed=arguments.seed)
        for each in scores:
            print(each)
            for mutant in each.survivors:
                print(f"    accepted though different: {mutant.change}")
        real = sum(s.total - s.equivalent for s in scores)
        share = sum(s.rejected for s in scores) / real
        print(f"{chapter}: {100 * share:.1f} % of {real} non-equivalent mutants rejected")
        worst = min(worst, share)
    return 0 if worst >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
