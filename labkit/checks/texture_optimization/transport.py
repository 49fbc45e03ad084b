"""The check of a step that raises the semi-dual of optimal transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import squares, with_options

__all__ = ["semi_dual_step"]


# --- 10 · One step of the semi-dual ---------------------------------------------------------------------------------

def _semi_dual_step(cost: Tensor, beta: Tensor, step: float, *,
                    reduced: Callable[[Tensor, Tensor], Tensor] = lambda c, b: c - b,
                    means: tuple[float, float] | None = None, ascent: float = 1.0, value_at: str = "before",
                    share_of: str = "queries", rest_of: str = "targets", value_of: str = "reduced",
                    first_term: bool = False, second_term: bool = False, chosen_by_cost: bool = False,
                    minlength: bool = True, sums: str | None = None) -> tuple[Tensor, float]:
    """A gradient step; the options are where answers differ."""
    n, m = cost.shape
    smallest, chosen = reduced(cost, beta).min(1)
    chosen = cost.argmin(1) if chosen_by_cost else chosen
    count = torch.bincount(chosen, minlength=m if minlength else 0).to(cost)
    left, right = means or (1 / n, 1 / m)
    if sums == "gradient":
        return beta + step * (1 - count), float(smallest.mean() + beta.mean())
    if sums == "value":
        left, right = 1.0, 1.0
    elif sums == "value of beta":
        right = 1.0
    elif sums == "value of the minima":
        left = 1.0
    share, rest = (1 / n, 1 / m) if sums else (left, right)
    gradient = (0 if second_term else {"queries": 1 / n}.get(rest_of, rest)) - (
        0 if first_term else {"queries": share, "targets": 1 / m, "nothing": 1.0}[share_of] * count)
    new = beta + ascent * step * gradient
    at = new if value_at == "after" else beta
    smallest = reduced(cost, at).min(1).values
    if value_of == "least costs":
        smallest = cost.min(1).values
    elif value_of == "costs":
        smallest = cost[torch.arange(n), chosen]
    return new, float(left * smallest.sum() + (0 if value_at == "first term" else right * at.sum()))


def _number_read(value: Any) -> Any:
    """A tensor without axes is a number."""
    if not isinstance(value, (tuple, list)):
        return value
    return tuple(v.item() if isinstance(v, Tensor) and v.ndim == 0 else v for v in value)


@exercise(points=2, minutes=20, reference=_semi_dual_step, form=_number_read, withholds=("labkit.metrics.semi_dual_ascent",))
def semi_dual_step(task: Task) -> None:
    # counts divided by a number are float32 in torch, whatever the costs are: hence the tolerance
    def case(n: int, m: int, step: float, *, spread: float = 0.5) -> tuple:
        points = task.uniform(n, 4).double(), 0.3 + task.uniform(m, 4).double()
        return squares(*points), spread * (task.uniform(m).double() - 0.3), step

    with task.property("ascends when both have as many patches", share=0.5):
        task.compare(*case(12, 12, 0.3), tolerance=1e-6)
        task.compare(*case(20, 20, 2.0, spread=0.0), tolerance=1e-6)
    with task.property("ascends when they have not", share=0.5):
        task.compare(*case(17, 9, 0.4), tolerance=1e-6)
        cost, beta, step = case(8, 21, 0.7)
        beta[-1] = -10.0    # nobody takes the last
        task.compare(cost, beta, step, tolerance=1e-6)
    with task.property("leaves β where every patch of the exemplar is chosen equally often"):
        m = 7
        cost = 1 - torch.eye(m, dtype=torch.float64).repeat(2, 1) + 0.1 * task.uniform(2 * m, m).double()
        task.compare(cost, 0.2 * task.uniform(m).double(), 0.5, tolerance=1e-6)
    with task.property("keeps the dtype of the prices"):
        def clear(arguments: tuple[Tensor, Tensor, float]) -> bool:
            """Whether the cheapest is cheapest by so much that float32 finds the same one."""
            cost, beta, _ = arguments
            return float((cost - beta).topk(2, largest=False).values.diff().min()) > 1e-3

        cost, beta, step = task.draw_until(lambda: case(9, 6, 0.6), clear)
        task.compare(cost.float(), beta.float(), step, tolerance=1e-5)


def _over_queries(cost: Tensor, beta: Tensor, step: float) -> tuple[Tensor, float]:
    """The minimum over the wrong axis: each target looks for its nearest query."""
    reduced, (n, m) = cost - beta, cost.shape
    smallest, chosen = reduced.min(0)
    count = torch.bincount(chosen, minlength=m)[:m].to(cost)
    return beta + step * (1 / m - count / n), float(smallest.mean() + beta.mean())


def _dearest(cost: Tensor, beta: Tensor, step: float) -> tuple[Tensor, float]:
    largest, chosen = (cost - beta).max(1)
    share = torch.bincount(chosen, minlength=len(beta)).to(cost) / len(cost)
    return beta + step * (1 / len(beta) - share), float(largest.mean() + beta.mean())


def _softened(cost: Tensor, beta: Tensor, step: float) -> tuple[Tensor, float]:
    share = torch.softmax(beta - cost, 1).mean(0)
    return beta + step * (1 / len(beta) - share), float((cost - beta).min(1).values.mean() + beta.mean())


semi_dual_step.knows({
    "as_printed": Mistake(
        "the sums of eq. III.5 as printed are used; with unequal numbers of patches that function has no maximum: "
        "take means on both sides",
        with_options(_semi_dual_step, means=(1.0, 1.0)), 1),
    "mean_on_one_side": Mistake(
        "the second term is the sum of β; it is its mean",
        lambda cost, beta, step: _semi_dual_step(cost, beta, step, means=(1 / len(cost), 1.0)), 1),
    "sum_over_patches": Mistake(
        "the first term is a sum over the patches; it is their mean",
        lambda cost, beta, step: _semi_dual_step(cost, beta, step, means=(1.0, 1 / len(beta))), 1),
    "descent": Mistake("β goes down the gradient; the semi-dual is maximised",
                       with_options(_semi_dual_step, ascent=-1.0), 3),
    "beta_added": Mistake("β is added to the cost; it is subtracted",
                          with_options(_semi_dual_step, reduced=lambda c, b: c + b), 1),
    "chosen_by_cost": Mistake("the shares count the patches that are nearest by the cost alone; they count those that "
                              "minimise c − β", with_options(_semi_dual_step, chosen_by_cost=True), 2),
    "wrong_axis": Mistake(
        "the minimum is taken over the patches of the picture; for each of them it runs over those of the exemplar, "
        "`dim=1`",
        _over_queries, 1),
    "share_of_targets": Mistake(
        "the counts are divided by m, the number of the exemplar's patches; they are shares of the n patches of the "
        "picture",
        with_options(_semi_dual_step, share_of="targets"), 2),
    "counts_only": Mistake("the 1/m of the second term is missing in the gradient",
                           with_options(_semi_dual_step, second_term=True), 2),
    "no_counts": Mistake("the first term's share of the gradient is missing: every β grows alike",
                         with_options(_semi_dual_step, first_term=True), 2),
    "counts_not_divided": Mistake("the counts are not divided: they are shares, of the n patches of the picture",
                                  with_options(_semi_dual_step, share_of="nothing"), 2),
    "rest_of_queries": Mistake(
        "the gradient of the mean of β is 1/m, for the m patches of the exemplar; here it is 1/n",
        with_options(_semi_dual_step, rest_of="queries"), 2),
    "no_minlength": Mistake("patches of the exemplar that nobody takes are missing in the counts: give `bincount` its "
                            "`minlength`", with_options(_semi_dual_step, minlength=False), 2),
    "beta_by_rows": Mistake(
        "β is subtracted from the columns, `beta[:, None]`; it has an entry for each patch of the exemplar, and is "
        "subtracted from each row",
        with_options(_semi_dual_step, reduced=lambda c, b: c - b[:, None]), 1),
    "gradient_of_sums": Mistake("the gradient is that of the sums, 1 − count; it is that of the means, 1/m − count / n",
                                with_options(_semi_dual_step, sums="gradient"), 2),
    "value_of_sums": Mistake("the value is made of sums; it is made of means, over the patches of either side",
                             with_options(_semi_dual_step, sums="value"), 1),
    "value_with_sum_of_beta": Mistake("the value adds the sum of β; it adds its mean",
                                      with_options(_semi_dual_step, sums="value of beta"), 1),
    "value_with_sum_of_minima": Mistake("the value adds up the minima; it takes their mean",
                                        with_options(_semi_dual_step, sums="value of the minima"), 1),
    "value_of_least_costs": Mistake("in the value β is not subtracted: its first term is the mean of min(c − β)",
                                    with_options(_semi_dual_step, value_of="least costs"), 1),
    "value_of_chosen_costs": Mistake(
        "in the value β is not subtracted from the chosen costs: its first term is the mean of min(c − β)",
        with_options(_semi_dual_step, value_of="costs"), 1),
    "value_after": Mistake("the value is that of the new β; it is the one before the step",
                           with_options(_semi_dual_step, value_at="after"), 3),
    "value_without_beta": Mistake("the value lacks the mean of β",
                                  with_options(_semi_dual_step, value_at="first term"), 1),
    "largest": Mistake("every patch takes the dearest; it takes the cheapest", _dearest, 1),
    "softened": Mistake("the minimum's gradient is a softmax here; it is 1 for the chosen patch and 0 for all others",
                        _softened, 2),
    "order_of_results": Mistake("value and β are returned in the other order", lambda *a: _semi_dual_step(*a)[::-1], 3),
    "step_ignored": Mistake("the step's length is ignored",
                            lambda cost, beta, step: _semi_dual_step(cost, beta, 1.0), 3),
})
