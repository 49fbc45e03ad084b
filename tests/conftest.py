"""What all tests share: where CUDA kernels run, and which tests a machine without a GPU leaves out."""

from __future__ import annotations

import os

import pytest
import torch

# numba reads this when numba.cuda is first imported: without a GPU, CUDA kernels run on numba's simulator
if not torch.cuda.is_available():
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs an NVIDIA GPU")
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(skip)
