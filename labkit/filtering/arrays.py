"""Between public functions, which take images of any shape and precision, and what computes: references and kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.kernels import available

__all__ = ["as_batch", "as_floats", "like", "runs_kernel"]


def runs_kernel(*tensors: Tensor) -> bool:
    """Whether a compiled kernel can serve: it is there, on its devices, and where no gradient is asked for."""
    wants_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return available() and not wants_gradient and tensors[0].device.type in ("cpu", "cuda")


def as_floats(image: Tensor) -> Tensor:
    """The image in a dtype that is computed in: itself, or float32 for half precision."""
    return image if image.dtype in (torch.float32, torch.float64) else image.float()


def as_batch(image: Tensor) -> Tensor:
    """The image as kernels read it: (N, C, H, W), contiguous, float32 or float64. It may share memory."""
    return as_floats(image.detach()).reshape(-1, *image.shape[-3:]).contiguous()


def like(result: Tensor, image: Tensor) -> Tensor:
    """The result in the shape, dtype and on the device of the image."""
    return result.reshape(image.shape).to(image)
