"""The proximal map of the group lasso, in the Euclidean metric and in AdamW's, over all groups at once.

    x = argmin  ½ Σ_i D_i (x_i - w_i)² + Σ_g τ_g ‖x_g‖

With D = 1 a group shrinks to max(0, 1 - τ/‖w‖) w (Yuan and Lin 2006). With AdamW's D = √v̂ + ε, and τ = lr λ √n, the
step that follows AdamW's minimises the same penalised loss that it does (Deleu and Bengio 2021, arXiv 2102.03869): a
group becomes zero where ‖D w‖ ≤ τ, and otherwise x_i = w_i θ / (θ + τ/D_i), with θ = ‖x‖ the root of
Σ_i w_i² / (θ + τ/D_i)² = 1. That is the secular equation of a trust region; Newton's method on 1/‖·‖, from a lower
bound on, rises to the root in a few steps (Moré and Sorensen 1983).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .partition import Partition

ITERATIONS = 50
TINY = 1e-30
FLOOR = 1e-8
"""Added to a gradient where AdamW has no state yet."""


def prox(w: Tensor, tau: Tensor, partition: Partition) -> tuple[Tensor, Tensor]:
    """Return the Euclidean proximal map of ``w``, (N,), and which groups are zero, (count,), for ``tau``, (count,).

    Differentiable by ``w`` and ``tau`` wherever a group is not at its threshold.
    """
    norms = partition.sums(w.square()).clamp(min=TINY).sqrt()
    factors = (1 - tau / norms).clamp(min=0)
    return w * partition.expand(factors), (factors == 0) | (norms <= TINY**0.5)


def prox_in_metric(metric: Tensor, w: Tensor, tau: Tensor, partition: Partition) -> tuple[Tensor, Tensor]:
    """Return the proximal map of ``w`` in a diagonal ``metric``, (N,) both, and which groups are zero, (count,).

    Differentiable as `prox` is: a Newton step at the root has the derivative of the root.
    """
    a = partition.expand(tau) / metric
    with torch.no_grad():
        threshold = zero_thresholds(metric, w, partition)
        zero = threshold <= tau
        theta = ((threshold - tau) / partition.maxima(metric)).masked_fill(zero, 1.0)
        for _ in range(ITERATIONS):
            step = _newton_step(theta, w, a, zero, partition)
            theta = theta + step
            if bool((step.abs() <= torch.finfo(w.dtype).eps ** 0.5 * theta).all()):
                break  # Newton converges quadratically: the next step is below the precision
    if torch.is_grad_enabled():
        theta = theta + _newton_step(theta, w, a, zero, partition)
    full = partition.expand(theta.masked_fill(zero, 0.0))
    return w * full / (full + a).clamp(min=TINY), zero


def _newton_step(theta: Tensor, w: Tensor, a: Tensor, zero: Tensor, partition: Partition) -> Tensor:
    """Return Newton's step towards the root of each group that is not zero, (count,)."""
    inverse = 1 / (partition.expand(theta) + a)
    squares = (w * inverse).square()
    size = partition.sums(squares).clamp(min=TINY)
    step = (size.sqrt() - 1) * size / partition.sums(squares * inverse).clamp(min=TINY)
    return step.masked_fill(zero, 0.0)


def zero_thresholds(metric: Tensor, w: Tensor, partition: Partition) -> Tensor:
    """Return the smallest τ at which each group becomes zero, (count,): ‖D w‖."""
    return partition.sums((metric * w).square()).sqrt()


@torch.no_grad()
def adamw_metric(
    optimizer: torch.optim.AdamW, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None
) -> list[Tensor]:
    """Return AdamW's metric √v̂ + ε at every parameter; 1 where it took no step yet.

    With ``gradients`` that no step has taken in yet, it is at least as large as they are: then no element of a step
    that is divided by it is longer than the rate.
    """
    settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    metric = []
    for parameter, gradient in zip(parameters, gradients or [None] * len(parameters), strict=True):
        state = optimizer.state.get(parameter)
        if not state:
            metric.append(torch.ones_like(parameter) if gradient is None else gradient.abs() + FLOOR)
            continue
        group = settings[id(parameter)]
        root = (state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))).sqrt_()
        metric.append((root if gradient is None else torch.maximum(root, gradient.abs())).add_(group["eps"]))
    return metric
