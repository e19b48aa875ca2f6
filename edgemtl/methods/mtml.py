"""MTML: multi-task meta-learning, by episodes that are subsets of the tasks.

After R. Upadhyay et al., "Multi-task meta learning: learn how to adapt to unseen tasks" (IJCNN 2023), as Finn et al.
2017 (arXiv 1703.03400) state the problem: weights are sought from which a few steps lead to any task. For M subsets c
of the tasks, drawn anew each step (of several, each task is in one: a step that leaves tasks out, and takes others
twice, learns them more slowly), and two halves of one training batch, support S and query Q,

    φ_c = θ - α D⁻¹ ∇ L_c(θ; S)                     K times; θ itself stays
    θ ← θ - lr · AdamW( Σ_c [ (1 - s) ∇ L_c(φ_c; Q) + s ∇ L_c(θ; S) ] )     L_c = Σ over the tasks in c

D is AdamW's own metric √v̂ + ε, in which the outer step moves too (the thesis' inner step is AdamW's as well), but at
least the gradient's own size, so that no weight moves by more than α; or D = 1. With s = 0 that is the meta-objective
alone, whose θ is a start, and not good before it is adapted. A share ``s`` of the gradient on the support, which the
inner step computes anyway, makes θ itself good at the tasks too: the loss before the first step is learned beside the
one behind the last, as Antoniou et al. 2019 (arXiv 1810.09502) do with all steps.
First order takes the gradient at φ_c for the one at θ; second order goes through the inner steps. Batch normalisation
goes by the batch; what it keeps for later is of θ alone, from the first pass over the support. Without an inner step
the query is the whole batch, and with all tasks in the subset this is the joint step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import distributed
from ..data.batch import Batch
from ..errors import ConfigError
from ..losses import Losses, Weights
from ..sparsity.proximal import adamw_metric
from .joint import Joint


class MTML(Joint):
    """Episodes of task subsets."""

    def prepare(self) -> None:
        """Refuse what episodes cannot be made of."""
        config = self.config
        if self.balance.cuts or config.task_weighting == "famo":
            raise ConfigError(
                f"task_weighting={config.task_weighting} needs the joint step, and method={config.method} has none; "
                "take equal, uncertainty or dwa"
            )
        if config.episodes.inner_steps and config.batch_size < 2 * distributed.world_size():
            raise ConfigError(
                f"batch_size={config.batch_size} cannot be halved into support and query; take at least 2"
            )
        self.episodes = config.episodes
        self.learned = {n: p for n, p in self.lesson.network.named_parameters() if p.requires_grad}

    @property
    def at_start(self) -> float:
        """The share of θ's gradient that is of the support, at θ itself: all where queries are held out."""
        return 1.0 if self.episodes.query_fraction else self.episodes.support_grad_weight

    def gradients(self, batch: Batch, step: int) -> Losses:
        """Add the gradients of the episodes; return each task's query loss."""
        support, query = halves(batch, self.config.batch_size) if self.episodes.inner_steps else (batch, batch)
        seen: Losses = {}
        for subset in drawn(list(self.lesson.tasks), self.episodes.subsets, self.config.seed, step):
            seen |= self._episode(subset, support, query)
        return seen

    def _episode(self, subset: list[str], support: Batch, query: Batch) -> Losses:
        """Add the gradient of one episode."""
        at = self.adapted(subset, support)
        losses, _, _ = self.lesson.losses(query, subset, at)
        if losses:
            through = self.learned if at is None or self.episodes.second_order else at
            total = self.balance.total(self.lesson.weighted(losses))
            self._add(total, through, 1 - self.at_start if at is not None else 1.0)
        return losses

    def adapted(self, subset: list[str], support: Batch) -> Weights | None:
        """Return the weights after the inner steps on the support, None where there are none.

        θ's own gradient on the support is added by its share.
        """
        at: Weights | None = None
        for _ in range(self.episodes.inner_steps):
            now = self.learned if at is None else at
            losses, _, _ = self.lesson.losses(support, subset, at)
            if losses:
                total = self.balance.total(self.lesson.weighted(losses))
                reached = {n: w for n, w in now.items() if n.startswith(("trunk.", *(f"heads.{t}." for t in losses)))}
                mine = torch.autograd.grad(
                    total, list(reached.values()), create_graph=self.episodes.second_order, materialize_grads=True
                )
                if self.at_start and at is None:
                    self._take([self.at_start * each for each in mine], [self.learned[name] for name in reached])
                asked = mine if distributed.world_size() == 1 else distributed.all_reduce(mine)
                slopes = dict(zip(reached, asked, strict=True))
                metric = self.metric(slopes)
                rate = self.episodes.inner_lr
                step = {n: g / metric[n] if metric else g for n, g in slopes.items()}
                at = {n: w - rate * step[n] if n in step else w for n, w in now.items()}
            else:
                at, metric = dict(now), self.metric({})
            at = self.settled(at, metric)
        return at

    def metric(self, slopes: Weights) -> Weights | None:
        """Return D by name for a step along gradients by name, or None for the Euclidean one."""
        if self.episodes.inner_optimizer == "sgd":
            return None
        found = adamw_metric(self.optimizer, list(self.learned.values()), [slopes.get(name) for name in self.learned])
        return dict(zip(self.learned, found, strict=True))

    def settled(self, at: Weights, metric: Weights | None) -> Weights:
        """Return weights after an inner step: what is zero for good stays so.

        They are cut from how they came about unless the second order is wanted.
        """
        at = at if self.episodes.second_order else {n: w.detach().requires_grad_() for n, w in at.items()}
        return self.sparsity.kept(at) if self.sparsity and self.sparsity.frozen else at

    def beside(self) -> list[Tensor]:
        """Return what the query teaches beside the weights."""
        return list(self.balance.parameters())

    def _add(self, total: Tensor, through: Weights, part: float) -> None:
        """Add the gradient of a query: ``part`` of it by weights, all of it by what is learned beside them."""
        through = through if part else {}
        into = [*(self.learned[name] for name in through), *self.beside()]
        if into:
            asked = torch.autograd.grad(total, [*through.values(), *self.beside()], allow_unused=True)
            factors = [part] * len(through) + [1.0] * len(self.beside())
            self._take([None if a is None else f * a for f, a in zip(factors, asked, strict=True)], into)

    @staticmethod
    def _take(asked: Sequence[Tensor | None], into: list[Tensor]) -> None:
        for parameter, each in zip(into, asked, strict=True):
            if each is None:  # a head that was not asked: nothing moves it
                continue
            parameter.grad = each.detach() if parameter.grad is None else parameter.grad + each.detach()


def drawn(tasks: list[str], count: int, seed: int, step: int) -> list[list[str]]:
    """Return the subsets of tasks of a step: one, each as likely and none empty; or ``count`` that share out all tasks.

    Of several, each task is in one, so that no step leaves a task out.
    """
    generator = torch.Generator().manual_seed(1_000_003 * seed + step)
    if count == 1:
        number = int(torch.randint(1, 2 ** len(tasks), (), generator=generator))
        return [[t for bit, t in enumerate(tasks) if number >> bit & 1]]
    count = min(count, len(tasks))
    order = torch.randperm(len(tasks), generator=generator).tolist()
    cuts = torch.randperm(len(tasks) - 1, generator=generator)[: count - 1].add(1).sort().values.tolist()
    parts = [order[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(tasks)], strict=True)]
    return [[task for place, task in enumerate(tasks) if place in part] for part in parts]


def halves(batch: Batch, size: int) -> tuple[Batch, Batch]:
    """Return the first and the second half of a batch of ``size``, of which this process may have a part."""
    cut = len(range(distributed.rank(), size // 2, distributed.world_size()))
    return batch.slice(0, cut), batch.slice(cut, size)
