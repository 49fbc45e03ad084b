"""What all tests share: where CUDA kernels run, and which tests a machine without a GPU leaves out."""

from __future__ import annotations

import os

import pytest
import torch

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs an NVIDIA GPU")
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(skip)
