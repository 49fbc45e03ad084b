"""The check of chapter 2 on a first CUDA kernel."""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
from collections.abc import Callable

import numpy as np
import torch

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.patchmatch.pieces import DISTANCES, MEAN, ROOT, Position, field_distances, plus
from labkit.checks.pieces import ABSOLUTE, EXCHANGED, FIRST_CHANNEL, random_field

__all__ = ["cuda_distance"]


# --- 9 · A first CUDA kernel ----------------------------------------------------------------------------------------

class _Launched:
    """A Python function in a CUDA kernel's clothes: called once for each thread (x, y) of the launch."""

    def __init__(self, thread: Callable):
        self.py_func = thread

    def __getitem__(self, launch: tuple) -> Callable:
        (across, down), (width, height) = launch[:2]

        def run(*arguments) -> None:
            host = [a.copy_to_host() if hasattr(a, "copy_to_host") else a for a in arguments]
            for block, inner in itertools.product(itertools.product(range(down), range(across)),
                                                  itertools.product(range(height), range(width))):
                self.py_func(*host, thread=(inner[1], inner[0]), block=(block[1], block[0]), width=(width, height))
            for given, changed in zip(arguments, host):
                if hasattr(given, "copy_to_device"):
                    given.copy_to_device(changed)
        return run


def _thread(image: np.ndarray, exemplar: np.ndarray, nnf: np.ndarray, patch_size: int, out: np.ndarray, *, thread: Position,
            block: Position, width: Position, guard: bool = True, rows_along_x: bool = False, blocks: bool = True, larger: int = 0,
            channels: int | None = None, value: Callable[[np.ndarray], float] | None = None, adds: bool = False,
            columns_first: bool = False, shifts: bool = False, exchanged: bool = False, threads: bool = True) -> None:
    """What one thread does; the options are where answers differ."""
    x, y = (b * w * blocks + t * threads for b, w, t in zip(block, width, thread))
    row, column = (x, y) if rows_along_x else (y, x)
    if row >= out.shape[0] or column >= out.shape[1]:
        if guard:
            return
        raise IndexError(f"index ({row}, {column}) is out of bounds for an array of size {out.shape}")
    match = int(nnf[0, row, column]), int(nnf[1, row, column])
    match = match[::-1] if columns_first else match
    match = plus(match, (row, column)) if shifts else match
    here, there = ((row, column), match) if not exchanged else (match, (row, column))
    side = patch_size + larger
    p, q = (a[:channels, r:r + side, c:c + side].astype(np.float64) for a, (r, c) in ((image, here), (exemplar, there)))
    found = value(p - q) if value else np.square(p - q).sum()
    out[row, column] = out[row, column] + found if adds else found


def _launched(**options) -> _Launched:
    return _Launched(functools.partial(_thread, **options))


def _choose_simulator() -> None:
    """Without a GPU, CUDA kernels run on numba's simulator; it must be chosen before `numba.cuda` is first imported."""
    if "numba.cuda" not in sys.modules and not torch.cuda.is_available():
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
        from numba.core import config

        config.reload_config()


_cuda_distance = _launched()


@exercise(points=2, minutes=30, kind="kernel", reference=_cuda_distance, withholds=DISTANCES)
def cuda_distance(task: Task) -> None:
    _choose_simulator()

    def compare(rows: int, columns: int, grid: Position, block: Position, channels: int = 3) -> None:
        n = 3
        image, exemplar = task.image(13, 13, channels=channels), task.image(14, 13, channels=channels)
        # the pictures are larger than the field needs, so that a wrong index reads a wrong pixel and never none
        nnf = random_field(task, (rows, columns), (0, 0), (4, 3))
        out = torch.full((rows, columns), -1.0)
        expected = field_distances(image, exemplar, nnf, n).numpy()
        arrays = [image.numpy(), exemplar.numpy(), nnf.numpy(), expected]
        task.compare(*arrays[:3], n, out.numpy(), grid=grid, block=block, expected={"value": None, "arrays": arrays}, tolerance=1e-4)

    with task.property("gives every patch of a field to one thread", share=0.5):
        compare(4, 6, (3, 2), (2, 2), channels=1)
        compare(6, 3, (1, 2), (3, 3))
    with task.property("stops threads outside the field", share=0.5, mistake="no_guard"):
        compare(5, 6, (2, 2), (4, 4))
        compare(3, 2, (1, 1), (4, 4))


cuda_distance.knows({
    "no_guard": Mistake("threads outside the field are not stopped: there are more threads than patches, so ask whether row "
                        "and column lie inside `out` before reading or writing anything", _launched(guard=False), 2),
    "indices_swapped": Mistake("the thread's indices are exchanged: cuda.grid(2) gives x first, which runs along the "
                               "columns, then y, along the rows", _launched(rows_along_x=True), 1),
    "first_block_only": Mistake("only the threads of the first block do their work: the position of a thread is blockIdx · "
                                "blockDim + threadIdx, which cuda.grid(2) computes", _launched(blocks=False), 1),
    "block_index_only": Mistake("all threads of a block work on the same patch: the position of a thread is blockIdx · "
                                "blockDim + threadIdx, which cuda.grid(2) computes", _launched(threads=False), 1),
    "adds_to_out": Mistake("the sum begins with what stood in `out` before; it begins with 0", _launched(adds=True), 3),
    "mean_instead_of_sum": Mistake(MEAN, _launched(value=lambda d: np.square(d).mean()), 3),
    "root_taken": Mistake(ROOT, _launched(value=lambda d: math.sqrt(np.square(d).sum())), 3),
    "not_squared": Mistake("the differences are summed without being squared: they cancel",
                           _launched(value=lambda d: d.sum()), 3),
    "absolute": Mistake(ABSOLUTE, _launched(value=lambda d: np.abs(d).sum()), 3),
    "last_pixel_only": Mistake("`out` holds the last difference only: add up in a variable of the thread and store it at "
                               "the end",
                               _launched(value=lambda d: float(d[-1, -1, -1]) ** 2), 3),
    "first_channel_only": Mistake(FIRST_CHANNEL, _launched(channels=1), 3),
    "patch_too_small": Mistake("the loops over the patch leave out its last row and column", _launched(larger=-1), 3),
    "patch_too_large": Mistake("the loops over the patch take one row and one column too many", _launched(larger=1), 3),
    "coordinates_swapped": Mistake(EXCHANGED, _launched(columns_first=True), 3),
    "shift_instead_of_position": Mistake("the field is taken for shifts; it holds absolute positions in the exemplar",
                                        _launched(shifts=True), 3),
    "pictures_exchanged": Mistake("image and exemplar are exchanged: the match lies in the exemplar",
                                  _launched(exchanged=True), 3),
})
