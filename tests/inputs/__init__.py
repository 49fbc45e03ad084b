"""Random inputs over a wider range than the checks' own, on which `tests.mutants` compares answers: a module for each chapter."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.inputs.drawing import Inputs

__all__ = ["of"]


def of(topic: str) -> Inputs:
    """How the inputs of each exercise of a chapter are drawn."""
    return importlib.import_module(f"tests.inputs.{topic}").INPUTS
