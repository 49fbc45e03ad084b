"""How many small changes of a right answer the checks notice.

    python -m tests.mutants [filtering patchmatch] [--sample N] [--seed S]

Every solution is changed in one place at a time: an operator, a constant, a comparison, a sign, a term or a method call
dropped, a flag turned. A mutant that the check accepts counts as *equivalent* only if it agrees with the solution on
many inputs of a wider kind than the check's own (`INPUTS`), to the tolerance named there; every other one is a hole in the check.
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
from dataclasses import dataclass

import torch

from labkit import chapters, checks, patches
from labkit.checks.answers import Fixture, Request, perform
from labkit.checks.compare import difference
from tests import solutions

TRIES = 60
SECONDS = 30

_SWAPS = {ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult,), ast.Pow: (ast.Mult,),
          ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.Mult,), ast.MatMult: ()}
_COMPARISONS = {ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt,), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt,), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,)}
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
        return f"{self.exercise:28s} {self.rejected:4d} of {real:4d} rejected ({100 * self.rejected / max(real, 1):5.1f} %), {self.equivalent} equivalent"


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

def _sizes(rng: random.Random, *channels: int) -> tuple[int, int, int]:
    return rng.choice(channels), rng.randint(1, 14), rng.randint(1, 14)


def _rand(rng: random.Random, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(rng.randrange(2 ** 31)), dtype=torch.float64)


def _guided_inputs(rng: random.Random) -> tuple:
    channels, height, width = _sizes(rng, 1, 3)
    return _rand(rng, channels, height, width), _rand(rng, 1, height, width), rng.randint(1, 5), 10 ** rng.uniform(-4, 0)


def _cross_inputs(rng: random.Random) -> tuple:
    channels, height, width = _sizes(rng, 1, 3)
    return (_rand(rng, channels, height, width), _rand(rng, rng.choice((1, 3)), height, width), rng.uniform(0.5, 4),
            rng.uniform(0.05, 1), rng.randint(0, 5))


def _pca_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    return _rand(rng, rng.choice((1, 3)), n + rng.randint(3, 10), n + rng.randint(3, 10)), n, rng.uniform(0, 0.6)


def _attention_inputs(rng: random.Random) -> tuple:
    n, m, d, k = (rng.randint(1, 8) for _ in range(4))
    return 4 * _rand(rng, n, d), 4 * _rand(rng, m, d), _rand(rng, m, k), rng.uniform(0.3, 3)


def _pictures(rng: random.Random, channels: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(_rand(rng, channels, n + rng.randint(0, 6), n + rng.randint(0, 6)) for _ in range(2))


def _field(rng: random.Random, rows: int, columns: int, exemplar: torch.Tensor, n: int) -> torch.Tensor:
    random = _rand(rng, 2, rows, columns) * torch.tensor([side - n + 1 for side in exemplar.shape[1:]])[:, None, None]
    return random.floor().to(torch.int32)


def _distances(image: torch.Tensor, exemplar: torch.Tensor, nnf: torch.Tensor, n: int) -> torch.Tensor:
    out = image.new_empty(nnf.shape[1:])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            r, c = nnf[:, i, j].tolist()
            out[i, j] = (image[:, i:i + n, j:j + n] - exemplar[:, r:r + n, c:c + n]).square().sum()
    return out


def _position(rng: random.Random, image: torch.Tensor, n: int) -> tuple[int, int]:
    return rng.randint(0, image.shape[1] - n), rng.randint(0, image.shape[2] - n)


def _matched_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    image, exemplar = _pictures(rng, rng.choice((1, 3)), n)
    nnf = _field(rng, image.shape[1] - n + 1, image.shape[2] - n + 1, exemplar, n)
    return image, exemplar, nnf, _distances(image, exemplar, nnf, n), n


def _patch_distance_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    image, exemplar = _pictures(rng, rng.choice((1, 2, 3)), n)
    return image, exemplar, _position(rng, image, n), _position(rng, exemplar, n), n


def _exhaustive_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    return *_pictures(rng, rng.choice((1, 3)), n), n


def _propagate_inputs(rng: random.Random) -> tuple:
    image, exemplar, nnf, distance, n = _matched_inputs(rng)
    return image, exemplar, nnf, distance, _position(rng, image, n), rng.choice((-1, 1)), n


def _search_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    image, exemplar = _pictures(rng, rng.choice((1, 3)), n)
    (i, j), (r, c) = position, match = _position(rng, image, n), _position(rng, exemplar, n)
    distance = float((image[:, i:i + n, j:j + n] - exemplar[:, r:r + n, c:c + n]).square().sum())
    return image, exemplar, position, match, distance, 2 * _rand(rng, rng.randint(0, 5), 2) - 1, n


def _loop_inputs(rng: random.Random) -> tuple:
    image, exemplar, nnf, _, n = _matched_inputs(rng)
    return image, exemplar, nnf, 2 * _rand(rng, rng.randint(0, 3), *nnf.shape[1:], rng.randint(0, 4), 2) - 1, n


def _voting_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    exemplar = _pictures(rng, rng.choice((1, 3)), n)[0]
    return _field(rng, rng.randint(1, 7), rng.randint(1, 7), exemplar, n), exemplar, n


def _jump_inputs(rng: random.Random) -> tuple:
    *rest, n = _matched_inputs(rng)
    return *rest, rng.randint(1, 5), n


def _cuda_inputs(rng: random.Random) -> Request:
    image, exemplar, nnf, distance, n = (a.numpy() if isinstance(a, torch.Tensor) else a for a in _matched_inputs(rng))
    block = rng.randint(1, 3), rng.randint(1, 3)
    grid = tuple(side // width + 1 for side, width in zip(distance.shape[::-1], block))
    return Request((image, exemplar, nnf, n, -distance), {"grid": grid, "block": block})


def _pixel_inputs(rng: random.Random) -> tuple:
    n, channels = rng.choice((1, 3, 5)), rng.choice((1, 3))
    exemplar = _rand(rng, channels, n + rng.randint(0, 7), n + rng.randint(0, 7))
    known = _rand(rng, n, n) < 0.7
    known[n // 2, n // 2] = n == 1      # at least one pixel is known
    return _rand(rng, channels, n, n), known, exemplar, rng.choice((0.0, rng.uniform(0, 2))), rng.uniform(0, 0.999)


def _aggregate_inputs(rng: random.Random) -> tuple:
    matches, positions, _, image, *_ = _towards_inputs(rng)
    now = torch.stack([image[:, i:i + matches.shape[-1], j:j + matches.shape[-1]] for i, j in positions.tolist()])
    some = rng.choice((1, 2, 3))
    matches[::some] = now[::some]       # perfect matches, in which only ε counts
    return matches, positions, image, rng.choice((2, 1, 0.8, rng.uniform(0.2, 1.9)))


def _optimize_inputs(rng: random.Random) -> tuple:
    n, levels, channels = rng.randint(1, 4), rng.randint(1, 3), rng.choice((1, 3))
    exemplar = _rand(rng, channels, *(2 ** (levels - 1) * n + rng.randint(0, 6) for _ in range(2)))
    start = _rand(rng, channels, *(n + rng.randint(0, 5) for _ in range(2)))
    return exemplar, start, n, rng.randint(1, n), levels, rng.randint(1, 3)


def _towards_inputs(rng: random.Random) -> tuple:
    n, channels = rng.randint(1, 4), rng.choice((1, 3))
    height, width = n + rng.randint(0, 5), n + rng.randint(0, 5)
    positions = patches.patch_positions(height, width, patch_size=n, stride=rng.randint(1, n), cover=True)
    return (_rand(rng, len(positions), channels, n, n), positions, 0.05 + 3 * _rand(rng, len(positions)),
            _rand(rng, channels, height, width), rng.choice((0.0, rng.uniform(0, 3))), rng.randint(0, (min(height, width) - 1) // 2))


def _weighted_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    exemplar = _pictures(rng, rng.choice((1, 3)), n)[0]
    nnf = _field(rng, rng.randint(1, 7), rng.randint(1, 7), exemplar, n)
    return nnf, 10 ** rng.uniform(-1, 1.5) * _rand(rng, *nnf.shape[1:]), exemplar, n


def _upsample_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 5)
    image, exemplar = (tuple(2 * n + rng.randint(0, 12) for _ in range(2)) for _ in range(2))
    coarse = torch.empty(1, *((side + 1) // 2 for side in exemplar))
    return _field(rng, *((side + 1) // 2 - n + 1 for side in image), coarse, n), image, exemplar, n


def _semi_dual_inputs(rng: random.Random) -> tuple:
    n, m = rng.randint(1, 12), rng.randint(1, 12)
    return _rand(rng, n, m), _rand(rng, m) - 0.5, rng.uniform(0.1, 3)


def _schedule(rng: random.Random, steps: int) -> torch.Tensor:
    """β_0 = 0 and a β for each step, in any order."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), 0.01 + 0.5 * _rand(rng, steps)])


def _batch(rng: random.Random) -> tuple[int, int, int, int]:
    return rng.randint(1, 3), rng.choice((1, 3)), rng.randint(1, 5), rng.randint(1, 5)


def _steps(rng: random.Random, number: int, low: int, high: int) -> torch.Tensor:
    return torch.tensor([rng.randint(low, high) for _ in range(number)])


def _add_noise_inputs(rng: random.Random) -> tuple:
    shape, steps = _batch(rng), rng.randint(1, 9)
    return _rand(rng, *shape), _steps(rng, shape[0], 0, steps), _rand(rng, *shape), _schedule(rng, steps)


def _mean_inputs(rng: random.Random) -> tuple:
    shape, steps = _batch(rng), rng.randint(1, 9)
    return _rand(rng, *shape), _rand(rng, *shape), rng.randint(1, steps), _schedule(rng, steps), rng.choice(("image", "noise", "mean"))


def _loss_weights_inputs(rng: random.Random) -> tuple:
    steps = rng.randint(2, 9)
    return (_steps(rng, rng.randint(1, 4), 1, steps), _schedule(rng, steps), rng.choice(("elbo", "min_snr")),
            rng.choice(("image", "noise")))


def _brush_inputs(rng: random.Random) -> tuple:
    height, width, segments = rng.randint(1, 14), rng.randint(1, 14), rng.randint(1, 4)
    start = _rand(rng, 2) * torch.tensor([height - 1, width - 1])
    return start, 6.28 * _rand(rng, segments), rng.choice((0, 4, 12)) * _rand(rng, segments), height, width, rng.uniform(2, 6)


def _two_masks(rng: random.Random, shape: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    number, _, height, width = shape
    return tuple(_rand(rng, number, 1, height, width) < 0.4 for _ in range(2))


def _leak_inputs(rng: random.Random) -> tuple:
    shape = _batch(rng)
    return _rand(rng, *shape), *_two_masks(rng, shape), _rand(rng, *shape), rng.uniform(0, 1)


def _training_step_inputs(rng: random.Random) -> Request:
    shape, steps = _batch(rng), rng.randint(1, 9)
    number, channels = shape[:2]
    missing, seen = _two_masks(rng, shape)
    missing[:, :, 0, 0], seen[:, :, 0, 0] = True, False         # something counts
    network = Fixture("inpainting_network", {"weights": [_rand(rng, channels, 2 * channels + 2, 3, 3) - 0.5, _rand(rng, channels)]})
    return Request((network, Fixture("sgd", {"learning_rate": 0.3}), 2 * _rand(rng, *shape) - 1, missing, missing & ~seen,
                    _steps(rng, number, 1, steps), _rand(rng, *shape) - 0.5, _schedule(rng, steps)), {"repeat": rng.randint(1, 2)})


def _hole_inputs(rng: random.Random, steps: int) -> tuple:
    """A denoiser, what is known, the mask and the schedule."""
    shape, betas = _batch(rng), _schedule(rng, steps)
    mask = _two_masks(rng, shape)[0]
    mask[:, :, 0, 0] = False                                    # something is known
    denoiser = Fixture("inpainting_denoiser", {"variance": rng.choice((0.2, 5.0)), "alpha_bars": (1 - betas).cumprod(0)})
    return denoiser, torch.where(mask, 0, 2 * _rand(rng, *shape) - 1), mask, betas


def _ancestral_inputs(rng: random.Random) -> tuple:
    steps = rng.randint(1, 6)
    denoiser, known, mask, betas = _hole_inputs(rng, steps)
    return denoiser, known, mask, 3 * _rand(rng, steps + 1, *known.shape) - 1.5, betas


def _ddim_inputs(rng: random.Random) -> tuple:
    times = sorted({0, *(rng.randint(1, 9) for _ in range(rng.randint(1, 4)))}, reverse=True)
    denoiser, known, mask, betas = _hole_inputs(rng, times[0])
    return denoiser, known, mask, 3 * _rand(rng, len(times), *known.shape) - 1.5, betas, times, rng.choice((0.0, 1.0, rng.uniform(0, 1)))


def _patch_denoiser_inputs(rng: random.Random) -> tuple:
    n = rng.randint(1, 4)
    x_t, picture = _pictures(rng, rng.choice((1, 3)), n)
    mask = _rand(rng, 1, *picture.shape[1:]) < 0.05
    mask[:, :n, :n] = False                                     # one whole patch at least
    return x_t, picture, mask, rng.choice((1e-3, 0.5, 0.9999, rng.uniform(0, 1))), n


# For each exercise: random arguments over a wider range than the check's. Float64, so that what differs, differs.
INPUTS: dict[str, Callable[[random.Random], tuple | Request]] = {
    "gaussian_filter": lambda rng: (_rand(rng, *_sizes(rng, 1, 3)), rng.uniform(0.4, 4), rng.randint(0, 6)),
    "box_filter": lambda rng: (_rand(rng, *_sizes(rng, 1, 3)), rng.randint(0, 8)),
    "bilateral_filter": lambda rng: (_rand(rng, *_sizes(rng, 1, 3)), rng.uniform(0.5, 4), rng.uniform(0.05, 1), rng.randint(0, 5)),
    "cross_bilateral_filter": _cross_inputs,
    "guided_filter": _guided_inputs,
    "rolling_guidance_filter": lambda rng: (_rand(rng, *_sizes(rng, 1, 3)), rng.uniform(0.5, 3), rng.uniform(0.05, 1), rng.randint(1, 5),
                                            rng.randint(1, 4)),
    "nonlocal_means": lambda rng: (_rand(rng, rng.choice((1, 3)), rng.randint(4, 12), rng.randint(4, 12)), rng.choice((1, 3, 5)),
                                   rng.choice((5, 7, 9)), rng.uniform(0.05, 0.5), rng.uniform(0, 0.2)),
    "pca_filter": _pca_inputs,
    "nonlocal_attention": _attention_inputs,
    "patch_distance": _patch_distance_inputs,
    "exhaustive_search": _exhaustive_inputs,
    "propagate": _propagate_inputs,
    "random_search": _search_inputs,
    "patchmatch": _loop_inputs,
    "reconstruct": _voting_inputs,
    "jump_flood": _jump_inputs,
    "parallel_jump_flood": lambda rng: tuple(a.numpy() if isinstance(a, torch.Tensor) else a for a in _jump_inputs(rng)),
    "cuda_distance": _cuda_inputs,
    "draw_pixel": _pixel_inputs,
    "boundary_cut": lambda rng: (_rand(rng, rng.randint(1, 12), rng.randint(1, 9)),),
    "random_phase_texture": lambda rng: (image := _rand(rng, *_sizes(rng, 1, 3)), _rand(rng, *image.shape[1:]) - rng.uniform(0, 1)),
    "aggregate": _aggregate_inputs,
    "optimize_texture": _optimize_inputs,
    "assign_patches": lambda rng: (_rand(rng, rng.randint(1, 10), 4), _rand(rng, rng.randint(1, 10), 4)),
    "aggregate_towards": _towards_inputs,
    "weighted_reconstruction": _weighted_inputs,
    "upsample_field": _upsample_inputs,
    "semi_dual_step": _semi_dual_inputs,
    "add_noise": _add_noise_inputs,
    "posterior_mean": _mean_inputs,
    "loss_weights": _loss_weights_inputs,
    "brush_mask": _brush_inputs,
    "leak_free_example": _leak_inputs,
    "inpainting_step": _training_step_inputs,
    "ancestral_sampling": _ancestral_inputs,
    "ddim_sampling": _ddim_inputs,
    "patch_denoiser": _patch_denoiser_inputs,
}


def equivalent(chapter: str, exercise: str, mutant: Callable, right: Callable, *, tolerance: float = 1e-9) -> bool:
    """Whether two answers agree on `TRIES` random inputs of the wider kind."""
    rng, kind = random.Random(exercise), checks.exercises(chapter)[exercise].kind
    kind = "function" if kind == "differentiable" else kind
    for _ in range(TRIES):
        made = INPUTS[exercise](rng)
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
    exercise = checks.exercises(chapter)[mutant.exercise]
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
