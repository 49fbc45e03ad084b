"""Attention, and non-local means as one case of it: a softmax over similarities, times the values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from labkit.validation import describe, validate_number

__all__ = ["dot_product_attention", "nonlocal_attention"]

SIMILARITIES_AT_ONCE = 2 ** 24  # 64 MB in single precision


def nonlocal_attention(query: Tensor, key: Tensor, value: Tensor, *, h: float) -> Tensor:
    """Attention with an ℓ2 similarity: what non-local means does with patches.

    >>> points = torch.tensor([[0.0], [0.1], [5.0]])
    >>> labkit.filtering.nonlocal_attention(points, points, points, h=1.0).mul(100).round().flatten().tolist()
    [5.0, 5.0, 500.0]

    out_i = Σ_j softmax_j(−‖q_i − k_j‖² / h²) v_j. Here ‖·‖² is a sum over the D entries: the `h` of
    `nonlocal_means`, whose distance is a mean over the D = C n² values of a patch, is this one divided by √D.

    Since −‖q − k‖² = 2⟨q, k⟩ − ‖k‖² − ‖q‖², and softmax forgets what is the same for all j, this is dot-product
    attention at temperature h² / 2 but for the term ‖k_j‖²: there, keys of large norm attract every query; here no key
    has more similarity than one that equals the query.

    Parameters
    ----------
    query : (N, D) float tensor. key : (M, D). value : (M, d), of the same dtype and device.
    h : how fast the weight falls with distance, in units of the entries, above 0.

    Returns
    -------
    Tensor (N, d). The N × M weights exist in blocks of queries only, also while gradients are computed.

    Raises
    ------
    ValueError : shapes, dtypes or devices that do not fit, or `h` not above 0.

    References
    ----------
    Buades, Coll, Morel, CVPR 2005; Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018. Lecture part I,
    "Attention Interpretation", which writes h for h².
    """
    _validate(query, key, value)
    validate_number(h, name="h", above=0, maximum=1e9)
    # A shift of all points changes no distance, and small norms lose fewer digits to cancellation.
    centre = key.detach().mean(dim=0)
    query, key = query - centre, key - centre
    norm = key.square().sum(dim=1)
    return _blockwise(lambda query, key, norm: (2 * query @ key.T - norm) / h ** 2, query, value, key, norm)


def dot_product_attention(query: Tensor, key: Tensor, value: Tensor, *, temperature: float | None = None) -> Tensor:
    """out_i = Σ_j softmax_j(⟨q_i, k_j⟩ / T) v_j, the attention of transformers.

    >>> query, key = torch.tensor([[9.0, 0.0]]), torch.eye(2)
    >>> labkit.filtering.dot_product_attention(query, key, torch.tensor([[1.0], [7.0]]), temperature=0.1)
    tensor([[1.]])

    Parameters
    ----------
    query : (N, D) float tensor. key : (M, D). value : (M, d), of the same dtype and device.
    temperature : T, above 0; `None` means √D.

    Returns
    -------
    Tensor (N, d). The N × M weights exist in blocks of queries only, also while gradients are computed.

    Raises
    ------
    ValueError : shapes, dtypes or devices that do not fit, or `temperature` not above 0.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", NeurIPS 2017. Lecture part I, "Attention Mechanism".
    """
    _validate(query, key, value)
    if temperature is not None:
        validate_number(temperature, name="temperature", above=0)
    scale = math.sqrt(query.shape[1]) if temperature is None else temperature
    return _blockwise(lambda query, key: query @ key.T / scale, query, value, key)


def _blockwise(similarity: Callable[..., Tensor], query: Tensor, value: Tensor, *keys: Tensor) -> Tensor:
    """softmax(similarity(query, *keys)) value, a block of queries after the other."""
    def attend(query: Tensor, value: Tensor, *keys: Tensor) -> Tensor:
        return torch.softmax(similarity(query, *keys), dim=1) @ value   # softmax subtracts the largest: no overflow

    size = max(1, SIMILARITIES_AT_ONCE // len(value))
    # Checkpoints compute a block's weights again on the way back rather than keep all N × M of them.
    return torch.cat([checkpoint(attend, block, value, *keys, use_reentrant=False) for block in query.split(size)])


def _validate(query: Tensor, key: Tensor, value: Tensor) -> None:
    for tensor, name, shape in ((query, "query", "(N, D)"), (key, "key", "(M, D)"), (value, "value", "(M, d)")):
        if not isinstance(tensor, Tensor) or tensor.ndim != 2 or not tensor.is_floating_point() or 0 in tensor.shape:
            raise ValueError(f"{name} is {describe(tensor)}; expected a floating-point tensor {shape}")
        if tensor.dtype != query.dtype or tensor.device != query.device:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device} and query {query.dtype} on {query.device}; "
                             "expected the same")
    if query.shape[1] != key.shape[1]:
        raise ValueError(f"query has {query.shape[1]} columns and key {key.shape[1]}; expected as many")
    if len(key) != len(value):
        raise ValueError(f"key has {len(key)} rows and value {len(value)}; expected as many")
