"""MTML: multi-task meta-learning, by episodes that are subsets of the tasks.

After R. Upadhyay et al., "Multi-task meta learning: learn how to adapt to unseen tasks" (IJCNN 2023), as Finn et al.
2017 (MAML, arXiv 1703.03400) state the problem: weights are sought from which a few steps lead to any task. For M
subsets c of the tasks, sampled again each step (of several, each task is in one: a step that skips tasks, and takes
others twice, trains them more slowly), and two halves of one training batch, support S and query Q,

    φ_c = θ - α D⁻¹ ∇ L_c(θ; S)                     K times; θ itself stays
    θ ← θ - lr · AdamW( Σ_c [ (1 - s) ∇ L_c(φ_c; Q) + s ∇ L_c(θ; S) ] )     L_c = Σ over the tasks in c

D is AdamW's metric √v̂ + ε, in which the outer step moves too (the thesis' inner step is AdamW's as well), but at least
the gradient's size, so that no weight moves by more than α; or D = 1. With s = 0 that is the meta-objective alone,
whose θ is an initialisation, and not good before it is adapted. A weight ``s`` of the gradient on the support, which
the inner step computes anyway, makes θ itself good at the tasks too: the loss before the first step is trained next to
the one after the last, as Antoniou et al. 2019 (MAML++, arXiv 1810.09502) do with all steps.
First order takes the gradient at φ_c for the one at θ; second order goes through the inner steps. Batch normalisation
uses the statistics of the batch; its running statistics are those of θ alone, from the first pass over the support.
Without an inner step the query is the whole batch, and with all tasks in the subset this is the joint step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgemtl_export.sparsity.proximal import adamw_metric

from .. import distributed
from ..data.batch import Batch
from ..errors import ConfigError
from ..losses import Losses, Params, TaskLosses
from .joint import Joint


class MTML(Joint):
    """Episodes of task subsets."""

    def prepare(self) -> None:
        """Check what episodes cannot be made of."""
        config = self.config
        if self.weighting.detach_features or config.task_weighting == "famo":
            raise ConfigError(
                f"task_weighting={config.task_weighting} needs the joint step, and method={config.method} has none; "
                "take equal, uncertainty or dwa"
            )
        if config.episodes.inner_steps and config.batch_size < 2 * distributed.world_size():
            raise ConfigError(
                f"batch_size={config.batch_size} cannot be halved into support and query; take at least 2"
            )
        self.episodes = config.episodes
        self.needs_auxiliary = True
        self.trainable = {n: p for n, p in self.loss.network.named_parameters() if p.requires_grad}

    @property
    def support_grad_weight(self) -> float:
        """The weight of θ's gradient on the support at θ itself: 1 where queries are held out."""
        return 1.0 if self.episodes.query_fraction else self.episodes.support_grad_weight

    def backward(self, batch: Batch, step: int) -> Losses:
        """Add the gradients of the episodes; return each task's query loss."""
        support, query = halves(batch, self.config.batch_size) if self.episodes.inner_steps else (batch, batch)
        query_losses: Losses = {}
        self.needs_auxiliary = True
        for subset in sample_subsets(list(self.loss.tasks), self.episodes.subsets, self.config.seed, step):
            query_losses |= self._episode(subset, support, query)
        return query_losses

    def _episode(self, subset: list[str], support: Batch, query: Batch) -> Losses:
        """Add the gradient of one episode; return its query losses."""
        adapted = self.adapt(subset, support)
        passed = self.loss(query, subset, adapted, with_auxiliary=self.needs_auxiliary)
        losses = passed.losses
        if losses:
            self._add_auxiliary_gradient(passed)
            by: Params = dict(self.trainable) if adapted is None or self.episodes.second_order else adapted
            total = self.weighting.combine(self.loss.weighted(losses))
            self._add_query_gradient(total, by, 1 - self.support_grad_weight if adapted is not None else 1.0)
        return losses

    def adapt(self, subset: list[str], support: Batch) -> Params | None:
        """Return the parameters after the inner steps on the support, None where there are none.

        θ's own gradient on the support is added by its weight.
        """
        adapted: Params | None = None
        for _ in range(self.episodes.inner_steps):
            params: Params = dict(self.trainable) if adapted is None else adapted
            passed = self.loss(support, subset, adapted, with_auxiliary=self.needs_auxiliary)
            losses = passed.losses
            if losses:
                self._add_auxiliary_gradient(passed)
                total = self.weighting.combine(self.loss.weighted(losses))
                parts = ("trunk.", *(f"heads.{task}." for task in losses))
                reached = {n: w for n, w in params.items() if n.startswith(parts)}
                local = torch.autograd.grad(
                    total, list(reached.values()), create_graph=self.episodes.second_order, materialize_grads=True
                )
                if self.support_grad_weight and adapted is None:
                    scaled = [self.support_grad_weight * gradient for gradient in local]
                    _accumulate(scaled, [self.trainable[name] for name in reached])
                total_gradients = local if distributed.world_size() == 1 else distributed.all_reduce(local)
                gradients = dict(zip(reached, total_gradients, strict=True))
                metric = self.metric(gradients)
                rate = self.episodes.inner_lr
                step = {n: g / metric[n] if metric else g for n, g in gradients.items()}
                adapted = {n: w - rate * step[n] if n in step else w for n, w in params.items()}
            else:
                adapted, metric = dict(params), self.metric({})
            adapted = self.constrain(adapted, metric)
        return adapted

    def metric(self, gradients: Params) -> Params | None:
        """Return D by name for a step along gradients by name, None for the Euclidean metric."""
        if self.episodes.inner_optimizer == "sgd":
            return None
        names = list(self.trainable)
        diagonals = adamw_metric(self.optimizer, list(self.trainable.values()), [gradients.get(n) for n in names])
        return dict(zip(names, diagonals, strict=True))

    def constrain(self, params: Params, metric: Params | None) -> Params:
        """Return parameters after an inner step under the constraints of the regularisers.

        They are detached from the step unless the second order is wanted.
        """
        params = params if self.episodes.second_order else {n: w.detach().requires_grad_() for n, w in params.items()}
        for regularizer in self.regularizers:
            params = regularizer.project(params)
        return params

    def extra_parameters(self) -> list[Tensor]:
        """Return what the query trains in addition to the network."""
        return list(self.weighting.parameters())

    def _add_auxiliary_gradient(self, passed: TaskLosses) -> None:
        """Add the gradient of the auxiliary loss of the first pass at θ itself."""
        if passed.auxiliary is not None:
            self.needs_auxiliary = False
            self.note_auxiliary(passed)
            if passed.auxiliary.requires_grad:
                passed.auxiliary.backward(retain_graph=True)

    def _add_query_gradient(self, total: Tensor, by: Params, weight: float) -> None:
        """Add the gradient of a query loss: ``weight`` of it by the parameters, all of it by the extra ones."""
        by = by if weight else {}
        extra = self.extra_parameters()
        into = [*(self.trainable[name] for name in by), *extra]
        if into:
            gradients = torch.autograd.grad(total, [*by.values(), *extra], allow_unused=True)
            weights = [weight] * len(by) + [1.0] * len(extra)
            _accumulate([None if g is None else w * g for w, g in zip(weights, gradients, strict=True)], into)


def _accumulate(gradients: Sequence[Tensor | None], into: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(into, gradients, strict=True):
        if gradient is None:  # a head outside of the subset keeps no gradient at all: AdamW skips it
            continue
        parameter.grad = gradient.detach() if parameter.grad is None else parameter.grad + gradient.detach()


def sample_subsets(tasks: list[str], count: int, seed: int, step: int) -> list[list[str]]:
    """Return the task subsets of a step: a random one of all, none empty; or a random partition into ``count``.

    In a partition each task is in one subset, so that no step skips a task.
    """
    generator = torch.Generator().manual_seed(1_000_003 * seed + step)
    if count == 1:
        number = int(torch.randint(1, 2 ** len(tasks), (), generator=generator))
        return [[t for bit, t in enumerate(tasks) if number >> bit & 1]]
    count = min(count, len(tasks))
    order = torch.randperm(len(tasks), generator=generator).tolist()
    cuts = torch.randperm(len(tasks) - 1, generator=generator)[: count - 1].add(1).sort().values.tolist()
    parts = [order[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(tasks)], strict=True)]
    return [[task for index, task in enumerate(tasks) if index in part] for part in parts]


def halves(batch: Batch, size: int) -> tuple[Batch, Batch]:
    """Return the first and the second half of a batch of ``size``, of which this process may have a part."""
    cut = len(range(distributed.rank(), size // 2, distributed.world_size()))
    return batch.slice(0, cut), batch.slice(cut, size)
