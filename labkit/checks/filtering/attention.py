"""The check of chapter 1 on non-local means as attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit import filtering
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.filtering.pieces import BY_PATCHES

__all__ = ["nonlocal_attention"]


# --- 9 · Non-local means as attention -------------------------------------------------------------------------------

def _nonlocal_attention(query: Tensor, key: Tensor, value: Tensor, h: float) -> Tensor:
    return filtering.nonlocal_attention(query, key, value, h=h)


@exercise(points=2, minutes=25, kind="differentiable", reference=_nonlocal_attention, withholds=BY_PATCHES)
def nonlocal_attention(task: Task) -> None:
    with task.property("averages the values, each by how near its key is to the query", share=0.5):
        task.compare(task.normal(6, 4), task.normal(9, 4), task.normal(9, 3), 1.3)
        task.compare(task.normal(8, 5).double(), task.normal(8, 5).double(), task.normal(8, 5).double(), 2.1, tolerance=1e-9)
    with task.property("works when every key is far from the query", share=0.25):
        # far enough for exp to give 0 in float32, near enough for squared distances to keep their digits
        task.compare(task.normal(4, 3) + 8, task.normal(7, 3), task.normal(7, 2), 0.7, tolerance=1e-4)
    with task.property("passes gradients back to queries, keys and values", share=0.25):
        task.compare(task.normal(5, 3).double(), task.normal(6, 3).double(), task.normal(6, 2).double(), 1.7,
                     cotangent=task.normal(5, 2).double(), tolerance=1e-8)
        same = task.normal(5, 3).double()   # each query is one of the keys, as when a picture attends to itself
        task.compare(same, same.clone(), task.normal(5, 2).double(), 1.4, cotangent=task.normal(5, 2).double(), tolerance=1e-7)


def _attention_by(score: Callable[..., Tensor], *, axis: int = 1) -> Callable[..., Tensor]:
    """Another attention: the softmax over `axis` of `score(queries (N, 1, D), keys (1, M, D), h)`."""
    return lambda query, key, value, h: score(query[:, None], key[None], h).softmax(axis) @ value


def _squared(q: Tensor, k: Tensor) -> Tensor:
    return (q - k).square().sum(-1)


def _underflows(query: Tensor, key: Tensor, value: Tensor, h: float) -> Tensor:
    w = torch.exp(-_squared(query[:, None], key[None]) / h ** 2)
    return (w / w.sum(1, keepdim=True)) @ value


nonlocal_attention.knows({
    "dot_product": Mistake("the similarity is the dot product; here it is minus the squared distance",
                           _attention_by(lambda q, k, h: (q * k).sum(-1) / h ** 2), 1),
    "scaled_dot_product": Mistake("the similarity is the dot product over √D, that of the Transformer; here it is minus the "
                                  "squared distance over h²", _attention_by(lambda q, k, h: (q * k).sum(-1) / math.sqrt(q.shape[-1])), 1),
    "sign_missing": Mistake("the minus sign is missing: far patches weigh most", _attention_by(lambda q, k, h: _squared(q, k) / h ** 2), 1),
    "wrong_axis": Mistake("the softmax runs over the queries; for each query the weights of all keys sum to one",
                          _attention_by(lambda q, k, h: -_squared(q, k) / h ** 2, axis=0), 2),
    "h_not_squared": Mistake("the distance is divided by h instead of h²", _attention_by(lambda q, k, h: -_squared(q, k) / h), 1),
    "extra_half": Mistake("the distance is divided by 2h²; here it is h²", _attention_by(lambda q, k, h: -_squared(q, k) / (2 * h ** 2)), 1),
    "distance_not_squared": Mistake("the distance is not squared", _attention_by(
        lambda q, k, h: -(_squared(q, k) + 1e-20).sqrt() / h ** 2), 1),
    "distance_averaged": Mistake("the squared distance is averaged over the D entries; here it is their sum",
                                 _attention_by(lambda q, k, h: -_squared(q, k) / q.shape[-1] / h ** 2), 1),
    "key_norm_missing": Mistake("‖k‖² is missing from the similarity: it differs from key to key, so the softmax does not "
                                "cancel it (‖q‖² it does)", _attention_by(lambda q, k, h: 2 * (q * k).sum(-1) / h ** 2), 3),
    "underflow": Mistake("exp() of a large negative number is 0, and 0/0 is NaN: subtract the largest similarity of each row "
                         "first, or use torch.softmax, which does", _underflows, 2),
    "value_is_key": Mistake("the keys are averaged instead of the values", lambda q, k, v, h: (
        -_squared(q[:, None], k[None]) / h ** 2).softmax(1) @ k, 1),
    "gradient_lost": Mistake("the result does not depend on its inputs any more: .detach(), NumPy or torch.no_grad() cut the "
                             "gradient", lambda q, k, v, h: _nonlocal_attention(q, k, v, h).detach()),
    "writes_into_input": Mistake("the result is written over an argument", lambda q, k, v, h: (
        v.data.mul_(0.5), _nonlocal_attention(q, k, 2 * v, h))[1]),
})
