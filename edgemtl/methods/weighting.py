"""Whose turn it is: how the tasks' losses make one step of the weights that they share.

    equal         the sum of the losses
    uncertainty   each loss by a learned precision: exp(-s) L + s            Kendall et al. 2018, arXiv 1705.07115
    dwa           more to the tasks whose loss falls slowest over rounds      Liu et al. 2019, arXiv 1803.10704
    famo          equal relative falls of all losses, in one backward pass    Liu et al. 2023, arXiv 2306.03792
    upgrad, mgda, cagrad, aligned-mtl     by the tasks' own gradients of the trunk, one more backward pass each, put
                                          together by torchjd's weightings    Quinton & Rey 2024, arXiv 2406.16232
    pcgrad        each gradient without what goes against another's           Yu et al. 2020, arXiv 2001.06782

A task without labels in a batch takes no part in that step. ``weights`` are what the last step gave each: 1 each is
the plain sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from ..errors import ConfigError

Losses = dict[str, Tensor]


class Equal:
    """The sum of the losses."""

    cuts = False
    """Whether the step needs the tasks' gradients one by one: then the heads must read copies cut from the trunk."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        self.tasks = list(tasks)
        self.weights: dict[str, float] = {}

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimiser learns beside the network."""
        return []

    def backward(self, losses: Losses, features: list[Tensor], cut: list[Tensor], trunk: list[nn.Parameter]) -> None:
        """Add the gradients of a step to ``.grad``; ``cut`` is what the heads read: ``features``, or copies of them."""
        self.total(losses).backward()

    def total(self, losses: Losses) -> Tensor:
        """Return the one loss that is made of the tasks' own."""
        self.weights = dict.fromkeys(losses, 1.0)
        return torch.stack(list(losses.values())).sum()

    def after(self, again: Callable[[], Losses]) -> None:
        """Take note of the step that was taken; ``again`` gives the losses of the same batch anew."""

    def advance(self) -> None:
        """Take note of the end of a round."""

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold of what changes."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


class Uncertainty(Equal):
    """Learned precisions: a loss L of task t counts exp(-s_t) L + s_t, with s_t learned from 0."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.log_variance = {task: nn.Parameter(torch.zeros(())) for task in tasks}

    def parameters(self) -> list[nn.Parameter]:
        """Return the logarithms of the variances."""
        return list(self.log_variance.values())

    def total(self, losses: Losses) -> Tensor:
        """Return the likelihood's negative logarithm."""
        spread = {task: self.log_variance[task].to(loss.device) for task, loss in losses.items()}
        self.weights = {task: math.exp(-float(s.detach())) for task, s in spread.items()}
        return torch.stack([torch.exp(-spread[task]) * loss + spread[task] for task, loss in losses.items()]).sum()


class DWA(Equal):
    """Weights T softmax(r / 2), r_t the ratio of a task's mean losses in the last two rounds."""

    temperature = 2.0

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.means: list[dict[str, float]] = []
        self.sums: dict[str, list[float]] = {task: [0.0, 0.0] for task in tasks}

    def total(self, losses: Losses) -> Tensor:
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

    def advance(self) -> None:
        """Close a round's means."""
        self.means = [*self.means, {task: total / n for task, (total, n) in self.sums.items() if n}][-2:]
        self.sums = {task: [0.0, 0.0] for task in self.tasks}

    def state(self) -> dict[str, Any]:
        """Return the rounds' means and the running sums."""
        return {"means": self.means, "sums": self.sums}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from them."""
        self.means, self.sums = state["means"], state["sums"]


class FAMO(Equal):
    """Weights from logits x: with z = softmax(x), the step falls along c sum z_t log L_t, c = 1 / sum(z_t / L_t).

    After the step x moves so that z shifts to the tasks whose logarithm fell least (its own Adam, rate 0.025, decay
    0.001, as published).
    """

    rate, decay, beta1, beta2 = 0.025, 0.001, 0.9, 0.999

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.logit = dict.fromkeys(tasks, 0.0)
        self.moment = {task: [0.0, 0.0, 0.0] for task in tasks}
        self.before: dict[str, float] = {}

    def _shares(self, tasks: Sequence[str]) -> dict[str, float]:
        top = max(self.logit[task] for task in tasks)
        scaled = {task: math.exp(self.logit[task] - top) for task in tasks}
        return {task: value / sum(scaled.values()) for task, value in scaled.items()}

    def total(self, losses: Losses) -> Tensor:
        """Return the weighted sum whose gradient is that of the weighted logarithms."""
        self.before = {task: max(float(loss.detach()), 1e-8) for task, loss in losses.items()}
        pull = {task: share / self.before[task] for task, share in self._shares(list(losses)).items()}
        self.weights = {task: len(losses) * value / sum(pull.values()) for task, value in pull.items()}
        return torch.stack([self.weights[task] * loss for task, loss in losses.items()]).sum()

    def after(self, again: Callable[[], Losses]) -> None:
        """Move the logits by how far each loss fell."""
        now = again()
        fell = {task: math.log(loss) - math.log(max(float(now[task]), 1e-8)) for task, loss in self.before.items()}
        shares = self._shares(list(fell))
        mean = sum(shares[task] * fell[task] for task in fell)
        for task, share in shares.items():
            slope = share * (fell[task] - mean) + self.decay * self.logit[task]
            first, second, count = self.moment[task]
            first, second, count = (
                self.beta1 * first + (1 - self.beta1) * slope,
                self.beta2 * second + (1 - self.beta2) * slope**2,
                count + 1,
            )
            self.moment[task] = [first, second, count]
            step = first / (1 - self.beta1**count) / (math.sqrt(second / (1 - self.beta2**count)) + 1e-8)
            self.logit[task] -= self.rate * step

    def state(self) -> dict[str, Any]:
        """Return the logits and their moments."""
        return {"logit": self.logit, "moment": self.moment}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from them."""
        self.logit, self.moment = state["logit"], state["moment"]


class Gradients(Equal):
    """Each task's gradient of the trunk by itself, put together by weights that come from their inner products.

    The heads read copies cut from the trunk's features, so that one pass back through each head gives what the task
    asks of the features, and one pass through the trunk for each task what it asks of the weights. (Features that
    depend on one another, as a pyramid's do, would otherwise be counted twice.)
    """

    cuts = True

    def backward(self, losses: Losses, features: list[Tensor], cut: list[Tensor], trunk: list[nn.Parameter]) -> None:
        """Add the heads' own gradients, and the weighted sum of the tasks' gradients of the trunk."""
        rows = []
        for loss in losses.values():
            for copy in cut:
                copy.grad = None
            loss.backward()
            if not trunk:  # frozen: the heads have nothing to settle
                continue
            read = [(feature, copy.grad) for feature, copy in zip(features, cut, strict=True) if copy.grad is not None]
            rows.append(
                torch.autograd.grad(
                    [feature for feature, _ in read],
                    trunk,
                    [gradient for _, gradient in read],
                    retain_graph=len(rows) + 1 < len(losses),
                    materialize_grads=True,
                )
            )
        weights = (
            self.weighting(gramian([distributed.all_reduce(row) for row in rows])) if rows else torch.ones(len(losses))
        )
        self.weights = dict(zip(losses, weights.tolist(), strict=True))
        for index, parameter in enumerate(trunk):
            parameter.grad = torch.stack(
                [w * row[index] for w, row in zip(self.weights.values(), rows, strict=True)]
            ).sum(0)

    def weighting(self, products: Tensor) -> Tensor:
        """Return a weight a task for the (T, T) inner products of the gradients."""
        raise NotImplementedError


def gramian(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the inner products of gradients given parameter by parameter: (T, T), float64, on the CPU."""
    out = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows[0][0].device)
    for parts in zip(*rows, strict=True):
        flat = torch.stack([part.flatten() for part in parts])
        out += (flat @ flat.T).double()
    return out.cpu()


class PCGrad(Gradients):
    """A task's gradient loses its part along every other that it conflicts with, in random order."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.seed, self.steps = seed, 0

    def weighting(self, products: Tensor) -> Tensor:
        """Project in the coordinates of the gradients."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.steps)
        self.steps += 1
        total = torch.zeros(len(products), dtype=products.dtype)
        for task in range(len(products)):
            mine = torch.zeros_like(total)
            mine[task] = 1
            for other in torch.randperm(len(products), generator=generator).tolist():
                along = float(mine @ products[:, other])
                if other != task and along < 0:
                    mine[other] -= along / products[other, other]
            total += mine
        return total

    def state(self) -> dict[str, Any]:
        """Return how many orders were drawn."""
        return {"steps": self.steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on with the next order."""
        self.steps = state["steps"]


class TorchJD(Gradients):
    """A weighting of torchjd, scaled so that tasks that have nothing to settle get 1 each."""

    name = ""
    most = 1.0
    """What torchjd's weights of such tasks sum up to."""
    options: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        try:
            import torchjd.aggregation

            self.rule = getattr(torchjd.aggregation, self.name)(**self.options)
        except ImportError as error:
            raise ConfigError(f"this balance needs packages that are not here: {error}") from error

    def weighting(self, products: Tensor) -> Tensor:
        """Return torchjd's weights of the mean, times the number of tasks."""
        weights: Tensor = self.rule(products)
        return weights * len(products) / self.most


class UPGrad(TorchJD):
    """No task's loss rises to first order; closest to the sum."""

    name = "UPGradWeighting"


class MGDA(TorchJD):
    """The shortest convex combination."""

    name = "MGDAWeighting"


class CAGrad(TorchJD):
    """The best worst improvement near the mean gradient."""

    name = "CAGradWeighting"
    options: dict[str, Any] = {"c": 0.4}  # noqa: RUF012
    most = 1.4


class AlignedMTL(TorchJD):
    """Gradients made orthogonal and of one length."""

    name = "AlignedMTLWeighting"


BALANCES: dict[str, type[Equal]] = {
    "equal": Equal,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "famo": FAMO,
    "upgrad": UPGrad,
    "pcgrad": PCGrad,
    "mgda": MGDA,
    "cagrad": CAGrad,
    "aligned-mtl": AlignedMTL,
}
