"""Gradient weighting and gradient surgery: each task's gradient of the trunk by itself, combined by inner products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ... import distributed
from ...errors import ConfigError
from ...losses import TaskLosses
from .base import TaskWeighting


class GradientWeighting(TaskWeighting):
    """Combines the tasks' gradients of the trunk with weights that come from their inner products.

    The heads read detached copies of the trunk's features: one backward pass through each head gives the gradient of
    its task by the features, and one through the trunk for each task that by the weights. (Features that depend on one
    another, as a pyramid's do, would otherwise be counted twice.)
    """

    detach_features = True

    def backward(self, step: TaskLosses, shared: list[nn.Parameter]) -> None:
        """Add the heads' gradients, and the weighted sum of the tasks' gradients of the trunk."""
        losses, features, head_inputs, auxiliary = step
        if auxiliary is not None and auxiliary.requires_grad:
            auxiliary.backward(retain_graph=True)
        rows: list[tuple[Tensor, ...]] = []
        for loss in losses.values():
            for copy in head_inputs:
                copy.grad = None
            loss.backward()
            if not shared:  # a frozen trunk: the heads have nothing to weigh
                continue
            pairs = [(f, copy.grad) for f, copy in zip(features, head_inputs, strict=True) if copy.grad is not None]
            rows.append(
                torch.autograd.grad(
                    [feature for feature, _ in pairs],
                    shared,
                    [gradient for _, gradient in pairs],
                    retain_graph=len(rows) + 1 < len(losses),
                    materialize_grads=True,
                )
            )
        weights = (
            self.weighting(gramian([distributed.all_reduce(row) for row in rows])) if rows else torch.ones(len(losses))
        )
        self.weights = dict(zip(losses, weights.tolist(), strict=True))
        for index, parameter in enumerate(shared):
            total = torch.stack([w * row[index] for w, row in zip(self.weights.values(), rows, strict=True)]).sum(0)
            parameter.grad = total if parameter.grad is None else parameter.grad + total

    def weighting(self, gramian: Tensor) -> Tensor:
        """Return a weight a task, (T,), for the (T, T) inner products of the gradients."""
        raise NotImplementedError


def gramian(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the inner products of gradients given parameter by parameter: (T, T), float64, on the CPU."""
    out = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows[0][0].device)
    for parts in zip(*rows, strict=True):
        flat = torch.stack([part.flatten() for part in parts])
        out += (flat @ flat.T).double()
    return out.cpu()


class PCGrad(GradientWeighting):
    """Projecting conflicting gradients: a gradient loses its part along every other it conflicts with, in any order."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.seed, self.steps = seed, 0

    def weighting(self, gramian: Tensor) -> Tensor:
        """Project in the coordinates of the gradients."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.steps)
        self.steps += 1
        total = torch.zeros(len(gramian), dtype=gramian.dtype)
        for task in range(len(gramian)):
            projected = torch.zeros_like(total)
            projected[task] = 1
            for other in torch.randperm(len(gramian), generator=generator).tolist():
                along = float(projected @ gramian[:, other])
                if other != task and along < 0:
                    projected[other] -= along / gramian[other, other]
            total += projected
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return how many orders were drawn."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the count."""
        self.steps = state["steps"]


class TorchJD(GradientWeighting):
    """A weighting of torchjd, scaled so that orthogonal gradients of one length get 1 each."""

    class_name: ClassVar[str] = ""
    weight_sum: ClassVar[float] = 1.0
    """The sum of torchjd's weights of such gradients."""
    options: ClassVar[dict[str, float]] = {}

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        try:
            import torchjd.aggregation

            self.rule: Callable[[Tensor], Tensor] = vars(torchjd.aggregation)[self.class_name](**self.options)
        except ImportError as error:
            raise ConfigError(f"this task weighting needs packages that are missing: {error}") from error

    def weighting(self, gramian: Tensor) -> Tensor:
        """Return torchjd's weights of the mean, times the number of tasks."""
        return self.rule(gramian) * len(gramian) / self.weight_sum


class UPGrad(TorchJD):
    """Unconflicting projection: no task's loss rises to first order; closest to the sum."""

    class_name = "UPGradWeighting"


class MGDA(TorchJD):
    """Multiple-gradient descent: the shortest convex combination (Désidéri 2012)."""

    class_name = "MGDAWeighting"


class CAGrad(TorchJD):
    """Conflict-averse gradient: the best worst improvement near the mean gradient (Liu et al. 2021)."""

    class_name = "CAGradWeighting"
    options: ClassVar[dict[str, float]] = {"c": 0.4}
    weight_sum = 1.4


class AlignedMTL(TorchJD):
    """Independent component alignment: gradients made orthogonal and of one length (Senushkin et al. 2023)."""

    class_name = "AlignedMTLWeighting"
