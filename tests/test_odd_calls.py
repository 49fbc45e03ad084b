"""Odd calls of every public function: each gives a result or says what is wrong, in time, and leaves its arguments alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the limit on memory is Linux's", allow_module_level=True)

from tests import odd_calls

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def faults() -> dict[str, list[str]]:
    """What was found, by function. A program makes the calls; one that a call ended is started again behind that call."""
    found: dict[str, list[str]] = {name: [] for name in odd_calls.functions()}
    first, restarts = 0, 0
    while restarts < 20:
        done = subprocess.run([sys.executable, "-m", "tests.odd_calls", str(first)], cwd=ROOT, capture_output=True, text=True,
                              timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1", "LABKIT_PROFILE": "quick"}, check=False)  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"number"')]
        begun = {line["number"]: line["call"] for line in lines if "call" in line}
        for line in lines:
            if line.get("fault"):
                found[line["function"]].append(f"{begun[line['number']]}: {line['fault']}")
        if done.returncode == 0:
            return found
        assert lines and "call" in lines[-1], done.stderr
        found[lines[-1]["call"].split("(")[0]].append(
            f"{lines[-1]['call']}: ended the program, {done.returncode}: {done.stderr[-300:]}"
        )
        first, restarts = lines[-1]["number"] + 1, restarts + 1
    pytest.fail("\n".join(text for texts in found.values() for text in texts))


@pytest.mark.parametrize("name", odd_calls.functions())
def test_an_odd_call_gives_a_result_or_says_what_is_wrong(name: str, faults: dict[str, list[str]]):
    assert not faults[name], "\n".join(faults[name])


def test_an_unknown_parameter_is_named():
    def brighten(image, sparkle: Glitter):  # noqa: F821  what a new chapter may bring
        raise NotImplementedError

    with pytest.raises(LookupError, match="chapter.brighten: no ordinary argument is known for sparkle: Glitter"):
        next(odd_calls.calls("chapter.brighten", brighten))
