"""The proximal map of the group lasso, in the Euclidean metric and in AdamW's, over all groups at once.

    x = argmin  ½ Σ_i D_i (x_i - w_i)² + Σ_g τ_g ‖x_g‖

With D = 1 a group shrinks to max(0, 1 - τ/‖w‖) w (Yuan and Lin 2006). With AdamW's own D = √v̂ + ε, and τ = lr λ √n, the
step that follows AdamW's minimises the same penalised loss that it does (Deleu and Bengio 2021, arXiv 2102.03869): a
group becomes zero where ‖D w‖ ≤ τ, and otherwise x_i = w_i θ / (θ + τ/D_i), with θ = ‖x‖ the root of
Σ_i w_i² / (θ + τ/D_i)² = 1. That is the secular equation of a trust region; Newton's method on 1/‖·‖, from a lower
bound on, climbs to the root in a few steps (Moré and Sorensen 1983).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .partition import Partition

ITERATIONS = 50
TINY = 1e-30


def shrunk(w: Tensor, tau: Tensor, partition: Partition) -> tuple[Tensor, Tensor]:
    """Return the Euclidean proximal map of ``w``, (N,), and which groups are zero, (count,), for ``tau``, (count,).

    Differentiable by ``w`` and ``tau`` wherever a group is not at its threshold.
    """
    norms = partition.sums(w.square()).clamp(min=TINY).sqrt()
    factors = (1 - tau / norms).clamp(min=0)
    return w * partition.spread(factors), (factors == 0) | (norms <= TINY**0.5)


@torch.no_grad()
def shrunk_in(metric: Tensor, w: Tensor, tau: Tensor, partition: Partition) -> tuple[Tensor, Tensor]:
    """Return the proximal map of ``w`` in a diagonal ``metric``, (N,) both, and which groups are zero, (count,)."""
    reach = thresholds(metric, w, partition)
    dead = reach <= tau
    a = partition.spread(tau) / metric
    theta = ((reach - tau) / partition.largest(metric)).masked_fill(dead, 1.0)
    for _ in range(ITERATIONS):
        inverse = 1 / (partition.spread(theta) + a)
        squares = (w * inverse).square()
        size = partition.sums(squares)
        step = (size.sqrt() - 1) * size / partition.sums(squares * inverse).clamp(min=TINY)
        step = step.masked_fill(dead, 0.0)
        theta = theta + step
        if bool((step.abs() <= torch.finfo(w.dtype).eps ** 0.5 * theta).all()):
            break  # the next step would be the square of this one
    full = partition.spread(theta.masked_fill(dead, 0.0))
    return w * full / (full + a).clamp(min=TINY), dead


def thresholds(metric: Tensor, w: Tensor, partition: Partition) -> Tensor:
    """Return the smallest τ at which each group becomes zero, (count,): ‖D w‖."""
    return partition.sums((metric * w).square()).sqrt()


def adamw_metric(optimizer: torch.optim.AdamW, parameters: list[Tensor], partition: Partition) -> Tensor:
    """Return AdamW's metric √v̂ + ε at the elements of a partition, (N,); 1 where it took no step yet."""
    settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    metric = []
    for parameter in parameters:
        state = optimizer.state.get(parameter)
        if not state:
            metric.append(torch.ones_like(parameter))
            continue
        group = settings[id(parameter)]
        mean = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
        metric.append(mean.sqrt_().add_(group["eps"]))
    return partition.gather(metric)
