"""How tests put an answer before a check."""

from __future__ import annotations

from typing import Any

from labkit.checks.answers import perform
from labkit.checks.engine import PUBLIC_SEED, Exercise
from labkit.checks.verdict import Verdict

__all__ = ["judged"]


def judged(exercise: Exercise, answer: Any, *, seed: int = PUBLIC_SEED) -> Verdict:
    """What a check says of an answer on the inputs of that seed; without one, on those of the notebook."""
    return exercise.judge(lambda request: perform(exercise.kind, answer, request), seed=seed)
