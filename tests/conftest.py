"""What all tests share: where CUDA kernels run, and which tests are left out: without a GPU, or where one chapter is asked for."""

from __future__ import annotations

import os

import labkit  # noqa: F401  # isort: skip  # before torch: it says how threads wait
import pytest
import torch

from labkit import chapters
from tests.selection import belongs

# numba reads this when numba.cuda is first imported: without a GPU, CUDA kernels run on numba's simulator
if not torch.cuda.is_available():
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")


@pytest.fixture(scope="module")
def one_torch_thread():
    """On tensors as small as a test's, threads do little but wait for each other, long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if wanted := os.environ.get("LABKIT_CHAPTER"):
        _keep_chapter(wanted, config, items)
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs an NVIDIA GPU")
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(skip)


def _keep_chapter(wanted: str, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out every test that does not belong to the chapter of that number or topic."""
    try:
        chapter = chapters.find(wanted)
    except ValueError as error:
        raise pytest.UsageError(f"LABKIT_CHAPTER: {error}") from None
    kept, others = [], []
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        (kept if belongs(item.path.stem, parameters, chapter) else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = kept
