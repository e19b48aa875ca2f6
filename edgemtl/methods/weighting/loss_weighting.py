"""Loss weighting: one weight a loss, one backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...losses import Losses
from .base import TaskWeighting


class Equal(TaskWeighting):
    """The sum of the losses."""

    def combine(self, losses: Losses) -> Tensor:
        """Return the sum."""
        self.weights = dict.fromkeys(losses, 1.0)
        return torch.stack(list(losses.values())).sum()


class Uncertainty(TaskWeighting):
    """Homoscedastic uncertainty: a loss L of task t counts exp(-s_t) L + s_t, with s_t trained from 0."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.log_variance = {task: nn.Parameter(torch.zeros(())) for task in tasks}

    def parameters(self) -> list[nn.Parameter]:
        """Return the logarithms of the variances."""
        return list(self.log_variance.values())

    def combine(self, losses: Losses) -> Tensor:
        """Return the negative log-likelihood."""
        log_variance = {task: self.log_variance[task].to(loss.device) for task, loss in losses.items()}
        self.weights = {task: math.exp(-float(s.detach())) for task, s in log_variance.items()}
        terms = [torch.exp(-log_variance[task]) * loss + log_variance[task] for task, loss in losses.items()]
        return torch.stack(terms).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return the logarithms of the variances."""
        return {f"log_variance.{task}": parameter.data for task, parameter in self.log_variance.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them in place."""
        for task, parameter in self.log_variance.items():
            parameter.data.copy_(state[f"log_variance.{task}"])


class DWA(TaskWeighting):
    """Weights T softmax(r / 2), r_t the ratio of a task's mean losses in the last two epochs."""

    temperature = 2.0

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.means: list[dict[str, float]] = []
        self.sums: dict[str, list[float]] = {task: [0.0, 0.0] for task in tasks}

    def combine(self, losses: Losses) -> Tensor:
        """Return the weighted sum."""
        for task, loss in losses.items():
            self.sums[task][0] += float(loss.detach())
            self.sums[task][1] += 1
        ratio = dict.fromkeys(losses, 1.0)
        if len(self.means) == 2:
            earlier, last = self.means
            ratio = {t: last[t] / earlier[t] if earlier.get(t) and t in last else 1.0 for t in losses}
        scaled = {task: math.exp(min(r / self.temperature, 50.0)) for task, r in ratio.items()}
        self.weights = {task: len(losses) * value / sum(scaled.values()) for task, value in scaled.items()}
        return torch.stack([self.weights[task] * loss for task, loss in losses.items()]).sum()

    def end_epoch(self) -> None:
        """Take the means of the epoch."""
        self.means = [*self.means, {task: total / n for task, (total, n) in self.sums.items() if n}][-2:]
        self.sums = {task: [0.0, 0.0] for task in self.tasks}

    def state_dict(self) -> dict[str, Any]:
        """Return the means of the last epochs and the running sums."""
        return {"means": self.means, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.means, self.sums = state["means"], state["sums"]


class FAMO(TaskWeighting):
    """Weights from logits x: with z = softmax(x), the step falls along c sum z_t log L_t, c = 1 / sum(z_t / L_t).

    After the step x moves so that z shifts to the tasks whose logarithm fell least (by Adam, rate 0.025, decay 0.001,
    as published).
    """

    rate, decay, beta1, beta2 = 0.025, 0.001, 0.9, 0.999

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.logits = dict.fromkeys(tasks, 0.0)
        self.adam = {task: [0.0, 0.0, 0.0] for task in tasks}
        """Adam's average gradient, average square, and count of steps, by task."""
        self.losses: dict[str, float] = {}
        """The losses before the step."""

    def _softmax(self, tasks: Sequence[str]) -> dict[str, float]:
        top = max(self.logits[task] for task in tasks)
        scaled = {task: math.exp(self.logits[task] - top) for task in tasks}
        return {task: value / sum(scaled.values()) for task, value in scaled.items()}

    def combine(self, losses: Losses) -> Tensor:
        """Return the weighted sum whose gradient is that of the weighted logarithms."""
        self.losses = {task: max(float(loss.detach()), 1e-8) for task, loss in losses.items()}
        scaled = {task: z / self.losses[task] for task, z in self._softmax(list(losses)).items()}
        self.weights = {task: len(losses) * value / sum(scaled.values()) for task, value in scaled.items()}
        return torch.stack([self.weights[task] * loss for task, loss in losses.items()]).sum()

    def after_step(self, reevaluate: Callable[[], Losses]) -> None:
        """Move the logits by how far each loss fell."""
        now = reevaluate()
        fall = {task: math.log(loss) - math.log(max(float(now[task]), 1e-8)) for task, loss in self.losses.items()}
        softmax = self._softmax(list(fall))
        mean = sum(softmax[task] * fall[task] for task in fall)
        for task, z in softmax.items():
            gradient = z * (fall[task] - mean) + self.decay * self.logits[task]
            average, square, count = self.adam[task]
            average, square, count = (
                self.beta1 * average + (1 - self.beta1) * gradient,
                self.beta2 * square + (1 - self.beta2) * gradient**2,
                count + 1,
            )
            self.adam[task] = [average, square, count]
            step = average / (1 - self.beta1**count) / (math.sqrt(square / (1 - self.beta2**count)) + 1e-8)
            self.logits[task] -= self.rate * step

    def state_dict(self) -> dict[str, Any]:
        """Return the logits and the state of their optimiser."""
        return {"logits": self.logits, "adam": self.adam}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.logits, self.adam = state["logits"], state["adam"]
