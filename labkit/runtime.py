"""What this machine is, and what a run on it may cost: profile, device, threads, random numbers, progress bars."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from typing import TypeVar

import torch

from labkit.validation import describe, validate_choice, validate_seed, validate_several

__all__ = ["PROFILES", "choose", "device", "generator", "hashed", "profile", "progress", "seed_of", "summary",
           "threads"]


def __dir__() -> list[str]:
    return __all__


PROFILES = ("quick", "laptop", "gpu")
Item = TypeVar("Item")
_MASK = 2 ** 64 - 1


def profile() -> str:
    """How much work a notebook may ask for: `"quick"` (seconds), `"laptop"` (minutes on two cores) or `"gpu"`.

    The environment variable `LABKIT_PROFILE` decides; without it, a machine with a CUDA device is `"gpu"` and any
    other is `"laptop"`. Results are real at every profile; only sizes and numbers of steps change.

    >>> labkit.runtime.profile() in labkit.runtime.PROFILES
    True

    Raises
    ------
    ValueError : `LABKIT_PROFILE` is none of the three.
    """
    chosen = os.environ.get("LABKIT_PROFILE")
    if chosen:
        validate_choice(chosen, name="LABKIT_PROFILE", choices=PROFILES)
        return chosen
    return "gpu" if torch.cuda.is_available() else "laptop"


def choose(values: Mapping[str, Item]) -> Item:
    """The entry of a table `{"quick": …, "laptop": …, "gpu": …}` for the profile of this run.

    >>> labkit.runtime.choose({"quick": 64, "laptop": 128, "gpu": 256}) in (64, 128, 256)
    True
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"values is {describe(values)}; expected a table with an entry for each of {', '.join(PROFILES)}")
    missing = [name for name in PROFILES if name not in values]
    if missing:
        raise ValueError(f"values has no entry for {', '.join(missing)}; expected one for each of {', '.join(PROFILES)}")
    return values[profile()]


def device() -> torch.device:
    """The device a notebook computes on: CUDA at profile `"gpu"` where there is one, else the CPU.

    >>> labkit.runtime.device().type in ("cpu", "cuda")
    True
    """
    return torch.device("cuda" if profile() == "gpu" and torch.cuda.is_available() else "cpu")


def threads() -> int:
    """The number of CPU threads that torch uses.

    >>> labkit.runtime.threads() >= 1
    True
    """
    return torch.get_num_threads()


def generator(seed: int = 0) -> torch.Generator:
    """A CPU random generator. Drawing on the CPU and moving the numbers gives every device the same ones.

    >>> torch.rand(3, generator=labkit.runtime.generator(7))
    tensor([0.5349, 0.1988, 0.6592])
    """
    validate_seed(seed)
    return torch.Generator().manual_seed(int(seed))


def seed_of(*numbers: int) -> int:
    """One seed, 0 to 2⁶³ − 1, from several whole numbers: that of a run, then of its level, its step and so on.

    >>> labkit.runtime.seed_of(7, 2, 100), labkit.runtime.seed_of(7, 2, 101)
    (3735727480843949453, 8974100261537965891)
    """
    value = 1       # the hash of 0 is 0
    for number in numbers:
        value = hashed(value, number)
    return value >> 1


def hashed(key: int, counter: int) -> int:
    """64 random bits for each counter (the finaliser of SplitMix64, Steele et al. 2014).

    >>> hex(labkit.runtime.hashed(1, 0)), hex(labkit.runtime.hashed(1, 1))
    ('0x5692161d100b05e5', '0x910a2dec89025cc1')
    """
    z = (key + counter * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def progress(items: Iterable[Item], *, description: str = "", total: int | None = None) -> Generator[Item, None, None]:
    """Go through `items` with a progress bar: a widget in a notebook, text in a terminal, cleared when done.

    >>> [step ** 2 for step in labkit.runtime.progress(range(4), description="squares")]
    [0, 1, 4, 9]
    """
    validate_several(items, name="items", of="items")
    from tqdm.auto import tqdm

    yield from tqdm(items, desc=description, total=total, leave=False, delay=0.5)


def summary() -> str:
    """One line on what this notebook runs on; each notebook prints it at the top.

    >>> print(labkit.runtime.summary())
    Profile ... (set LABKIT_PROFILE to quick, laptop or gpu to choose).
    """
    where = torch.cuda.get_device_name() if device().type == "cuda" else f"the CPU, {threads()} thread{'s' if threads() > 1 else ''}"
    return f"Profile {profile()!r} on {where} (set LABKIT_PROFILE to quick, laptop or gpu to choose)."
