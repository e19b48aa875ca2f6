"""Sparsifier: in any training loop, a group lasso makes channel groups exactly zero on a schedule.

After R. Upadhyay et al., "Less is More" (arXiv 2308.12114): each optimiser step is followed by a proximal step of

    L  +  λ Σ_g √n_g ‖w_g‖₂

over groups of n_g weights each, in the optimiser's metric (`proximal`). A group is one of three forms: what makes one
removable channel ("coupled", the default), a filter ("output"), or what a convolution reads of a channel ("input", the
thesis'). The penalty is in the proximal step alone, and its state is never reset. On a schedule of more than a hundred
steps it follows every few of them (`MOST_PERIOD`), and pruned groups are made zero after each.

With a fixed λ the share that is pruned is an outcome. With a target it is scheduled: the target of a step rises
linearly from ``begin`` to ``end``, and the groups of least importance for their cost reduction are pruned until it is
met. The importance of a group (`importance`) is by default the first-order term of the change of the loss without it.
It is divided by the group's present cost reduction, in whatever the target counts; channels of a layer
are pruned in blocks (``channel_multiple``, `blocks`). λ follows as the regularisation ratio times the strength that
would prune as many groups by itself. At the target the pattern is frozen: the shift of a zero group still has a
gradient, and would make a constant channel of it at the next optimiser step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgemtl_runtime.progress import print_progress

from ..cost_model.deployment import Deployment, Progress
from ..groups import coupled_channels
from ..processes import first_decides
from ..tracing import on_cpu
from .aim import Aim
from .blocks import ChannelBlocks
from .choice import Loss, Trial, choose
from .collapse import Collapse
from .costs import CostMetric, cost_metric, positions
from .group_rows import GroupRows, ProximalStep
from .importance import IMPORTANCES, Importance, ImportanceName
from .levels import assign_levels
from .partition import penalised_groups
from .refitting import Refitting
from .settings import Settings
from .wrappers import unwrapped

UPDATES = 100
"""How often the schedule chooses groups, between its begin and its end: choosing waits for the device."""
REFITS = 12
"""How often it does where each choice is followed by a refit, which takes as long as some steps."""
MOST_PERIOD = 4
"""With a target a proximal step follows every fourth step of a long training, with four times the ratio."""
DEFAULT_MULTIPLE, MOST_MULTIPLE = 8, 32
TINY = 1e-9


class Sparsifier:
    """Prunes a network while any loop trains it::

        sparsifier = Sparsifier(model, args, target=0.5, steps=total)
        for batch in batches:
            ...
            loss.backward()
            sparsifier.before_step()
            optimizer.step()
            sparsifier.after_step(optimizer)
        small = shrink(model, args)

    Gradients are those of the step that follows: after accumulation, after a scaler's ``unscale_`` and the all-reduce
    of several processes. With weight averaging, apply `mask` to the average too.
    """

    def __init__(
        self,
        model: nn.Module,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        steps: int,
        tied: Sequence[Sequence[str]] = (),
        deployment: Deployment | None = None,
        progress: Progress = print_progress,
        settings: Settings | None = None,
        **given: Any,
    ) -> None:
        """``args`` and ``kwargs`` are example inputs; ``steps`` counts the optimiser's steps of the whole training.

        Other keywords are the fields of `Settings`. ``tied`` are parameters whose weights may be shared: their channels
        are pruned together. ``deployment`` is what runs on the device and holds the model, where that is more; of a
        latency, which takes minutes to measure the first time and is kept, ``progress`` shows how far it is. Raises
        ValueError where nothing can be pruned, EdgemtlError for ``costs`` of another network, UnsupportedError where
        torch.export fails.
        """
        self.settings = settings = settings or Settings(**given)
        self.steps, self.progress = steps, progress
        self.model = unwrapped(model)
        args, kwargs = on_cpu((args, kwargs or {}))
        scope, coupled = self.settings.scope, coupled_channels(self.model, args, kwargs, tied)
        groups = coupled.groups()
        self.penalised = penalised_groups(self.model, groups, self.settings.groups, scope)
        self.partition = self.penalised.partition
        self.cost: CostMetric
        measured = None
        multiple = self.settings.channel_multiple or DEFAULT_MULTIPLE
        if self.settings.metric == "latency":
            from ..cost_model.deployed_latency import DeployedLatency  # loads onnx and ONNX Runtime

            deployment, costs = deployment or Deployment(self.model, args, kwargs), settings.costs
            self.cost = measured = DeployedLatency(self.model, groups, deployment, costs, settings.engine, progress)
            multiple = self.settings.channel_multiple or min(max(measured.step, DEFAULT_MULTIPLE), MOST_MULTIPLE)
        else:
            self.cost = cost_metric(self.settings.metric, coupled, scope)
        self.aim = Aim(measured)
        multiple = multiple if self.settings.groups == "coupled" else 1
        self.blocks = ChannelBlocks(self.penalised.layers, self.partition.count, multiple)
        self.dense_cost = self.cost()
        self.target = self.settings.target
        if self.settings.max_cost:
            self.target = 1 - self.settings.max_cost / self.dense_cost
            if self.target <= 0:
                unit = "ms" if self.settings.metric == "latency" else self.settings.metric
                raise ValueError(f"max_cost={self.settings.max_cost:g}: there are but {self.dense_cost:g} {unit}")
        pixels = next((t.shape[-2:].numel() for t in (*args, *kwargs.values()) if isinstance(t, Tensor)), 1)
        self.levels, self.level = assign_levels(
            self.partition, self.settings.granularity, positions(coupled.program), pixels
        )
        begin = 0.0 if self.target else math.log(max(self.settings.strength, 1e-30))
        self.log_strength = torch.full((len(self.levels),), begin)
        """With a target: of each level's strength relative to ``scale``."""
        self.scale = torch.zeros(()) if self.target else torch.ones(())
        self.step = 0
        """How many steps were taken."""
        self.pruned = torch.zeros(self.partition.count, dtype=torch.bool)
        """Which groups are zero, (G,)."""
        self.scheduled = torch.zeros_like(self.pruned)
        """With a target: the groups that its schedule has chosen."""
        self.cost_reduction = torch.zeros(self.partition.count)
        """With a target: the share of the cost that pruning each group would remove now."""
        self.frozen = False
        self.collapse = Collapse(self.partition)
        self.parameters = self.partition.parameters(self.model)
        self.by_rows = GroupRows(self.model, self.partition)
        self._counted: Tensor | None = None
        self._pruned_share = 0.0
        span = self.settings.end - self.settings.begin
        interval = max(1, round(steps * span / (REFITS if self.settings.refit else UPDATES)))
        self.period = min(MOST_PERIOD, interval) if self.target else 1
        """Steps from one proximal step to the next; pruned groups are made zero in every step."""
        self.interval = -(-interval // self.period) * self.period
        """Steps from one choice of groups to the next."""
        chosen = self.settings.importance
        names = IMPORTANCES if chosen == "auto" else (chosen,)
        self.importance = Importance(names, self.model, self.penalised, self.by_rows, self.blocks, self.period)
        """With a target: what the network would lose without each group."""
        self.refitting = Refitting(self.model) if self.settings.refit and self.target else None
        self.trials: list[Trial] = []
        self.to(self.parameters[0].device)

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network; a network that is on it already needs no call."""
        self.partition.to(device)
        self.by_rows.to(device)
        self.importance.to(device)
        for name in ("pruned", "scheduled", "level", "log_strength", "scale", "cost_reduction"):
            setattr(self, name, getattr(self, name).to(device))

    @torch.no_grad()
    def before_step(self) -> None:
        """Update the importance of the groups by the gradients of the step that follows."""
        if self._takes_gradients("taylor"):
            self.importance.take_in("taylor", self.parameters, [p.grad for p in self.parameters])

    def observe(self, value: Tensor) -> None:
        """Update ``fisher`` importance by the gradient of a likelihood, such as `Teacher.likelihood`; its graph stays.

        It is called after a forward pass in training, before the loss is taken back.
        """
        if self._takes_gradients("fisher") and value.requires_grad:
            trained = [p for p in self.parameters if p.requires_grad]
            gradients = iter(torch.autograd.grad(value, trained, retain_graph=True, allow_unused=True))
            every = [next(gradients) if p.requires_grad else None for p in self.parameters]
            self.importance.take_in("fisher", self.parameters, every)

    def see(self, *args: Any, **kwargs: Any) -> None:
        """Take the inputs of a batch, on which a network is refitted that is pruned in this step."""
        if self.refitting and (self.step % self.interval == 0 or self._share_due(self.step) >= self.target):
            self.refitting.take(args, kwargs)

    def _takes_gradients(self, name: ImportanceName) -> bool:
        return self.target > 0 and not self.frozen and self.step % self.period == 0 and name in self.importance.means

    def choose_importance(self, loss: Loss) -> list[Trial]:
        """Let that importance count which leaves the least ``loss``, and return what was tried, best first.

        ``loss`` evaluates the model as it is then, in evaluation mode, on images that are held out of the training. It
        is called when the schedule begins, at the latest, and after some steps where gradients are to have a say.
        """
        self.trials = choose(self, loss)
        return self.trials

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Apply the proximal step that belongs to the optimiser's, or the frozen pattern."""
        step, self.step = self.step, self.step + 1
        if self.is_active(step) and step % self.period == 0:
            self._proximal_step(step, optimizer)
        elif self.frozen or self.period > 1:
            self.mask(self.model)

    def _proximal_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        proximal = ProximalStep(self.by_rows, optimizer, self.parameters)
        threshold = proximal.threshold / self.partition.root_size
        importance = self.importance.of(self.parameters)
        protected = self._protected(importance if self.target else threshold)
        lr = self.period * self._lr(optimizer)
        chooses = bool(self.target) and (step % self.interval == 0 or self._share_due(step) >= self.target)
        if self.target:
            strength = self.log_strength.detach().exp()[self.level]
            if chooses:
                self.scheduled = self.least_important(self._share_due(step), importance)
            relative = (threshold / strength).masked_fill(protected, float("inf"))
            count = int(self.scheduled.sum())
            equal = relative.kthvalue(count).values if count else relative.new_zeros(())
            ratio = min(1.0, self.period * self.settings.reg_ratio) / lr if lr else 0.0  # a warm-up may begin at 0
            self.scale = ratio * equal
        tau = lr * self.strengths().detach()[self.level]
        # With blocks the schedule alone prunes: the penalty must not take single groups out of a block.
        kept = protected | (threshold <= tau) if self.target and self.blocks.blocked else protected
        tau = (tau * self.partition.root_size).masked_fill(kept, 0.0)
        zero = proximal.threshold <= tau
        before, self.pruned = self.pruned, (zero | self.scheduled) & ~(protected & (threshold > 0))
        refitting = self.refitting if chooses and not torch.equal(before, self.pruned) else None
        if refitting:
            refitting.remember()
        proximal.write(tau, self.pruned)
        if refitting:
            refitting.fit()
        if step % self.interval < self.period:
            self.collapse.check(self.pruned.cpu().numpy())
        if chooses and self.aim.follow(self.pruned_share / self.target, self.pruned_channels()):
            self._counted = None  # by the corrected cost
        if chooses and self.pruned_share >= self.target:
            self._end_schedule()

    def pruned_channels(self) -> NDArray[np.bool_]:
        """Return which channels are pruned, (groups,)."""
        return self.penalised.pruned_channels(self.pruned.cpu().numpy())

    def mask(self, model: nn.Module) -> None:
        """Make the pruned groups exactly zero in a network of the same parameters, such as an averaged copy."""
        self.by_rows.zero(self.partition.parameters(unwrapped(model)), self.pruned)

    @property
    def pruned_share(self) -> float:
        """The share of the cost that is pruned."""
        if self._counted is not self.pruned:
            self._counted, self._pruned_share = self.pruned, self._share(self.pruned.cpu().numpy())
        return self._pruned_share

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from step to step: tensors and plain values."""
        state = {
            "step": self.step,
            "pruned": self.pruned,
            "scheduled": self.scheduled,
            "scale": self.scale,
            "cost_reduction": self.cost_reduction,
            "frozen": self.frozen,
            "trials": [list(trial) for trial in self.trials],
        }
        return state | self.aim.state_dict() | self.importance.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = self.pruned.device
        for name in ("pruned", "scheduled", "scale", "cost_reduction"):
            setattr(self, name, state[name].to(device))
        self.importance.load_state_dict(state, device)
        self.step, self.trials = state["step"], [Trial(*trial) for trial in state["trials"]]
        if state["frozen"]:
            self._end_schedule()
        self.aim.load_state_dict(state)
        self._counted = None

    def warnings(self) -> list[str]:
        """Return what kept the target from being met."""
        if not self.target or self.frozen:
            return []
        return [
            f"only {self.pruned_share:.0%} of the {self.settings.metric} could be pruned: "
            f"min_keep_ratio={self.settings.min_keep_ratio} protects the rest"
        ]

    def is_active(self, step: int) -> bool:
        """Whether a proximal step follows optimiser step ``step``, from 0."""
        return not self.frozen and (step + 1) / self.steps >= self.settings.begin

    def strengths(self) -> Tensor:
        """Return the strength of every level, (L,), differentiable by ``log_strength``."""
        return self.scale * self.log_strength.exp()

    def freeze(self) -> None:
        """Keep the present zero groups zero, and stop shrinking the others."""
        self.pruned = self.partition.norms(self.model) == 0
        self._end_schedule()

    def _end_schedule(self) -> None:
        self.frozen, self.refitting = True, None
        self.importance.close()

    def _lr(self, optimizer: torch.optim.Optimizer) -> float:
        """Return the learning rate of the first group of parameters that has one of ours."""
        ours = {id(p) for p in self.parameters}
        return next(float(g["lr"]) for g in optimizer.param_groups if any(id(p) in ours for p in g["params"]))

    def _share(self, pruned: NDArray[np.bool_]) -> float:
        """Return the share of the cost that pruning these groups removes."""
        return 1 - self.cost(self.penalised.pruned_channels(pruned)) / self.dense_cost

    def _share_due(self, step: int) -> float:
        """Return the share to be pruned after a step: linear from ``begin`` to ``end``."""
        span = max(self.settings.end - self.settings.begin, 1e-9)
        return self.target * min(1.0, ((step + 1) / self.steps - self.settings.begin) / span)

    def _protected(self, importance: Tensor) -> Tensor:
        """Return the most important groups, ``min_keep_ratio`` of any layer and of any part of one, at least one."""
        protected = torch.zeros_like(self.pruned)
        ratio = self.settings.min_keep_ratio
        for members in self.blocks.parts if ratio else []:
            groups = torch.from_numpy(members).to(importance.device)
            protected[groups[importance[groups].topk(int(np.ceil(ratio * len(groups)))).indices]] = True
        return protected

    def least_important(self, share: float, importance: Tensor) -> Tensor:
        """Return the fewest groups, those of least importance for their cost first, that reduce the cost by a share."""
        strength = self.log_strength.detach().exp()[self.level]
        weighted = (importance.sqrt() / strength).square().masked_fill(self._protected(importance), float("inf"))
        reduction = self.penalised.distribute(self.cost.reductions(self.pruned_channels()))
        self.cost_reduction = torch.from_numpy(reduction / self.dense_cost).to(self.pruned.device)
        pruned = self.blocks.fewest(
            weighted.cpu().numpy().astype(np.float64),
            np.maximum(reduction, TINY * self.dense_cost),  # groups that reduce no cost come last
            lambda pruned: self._share(pruned) >= share,
        )
        # rounding must not let the networks of several processes differ
        return first_decides(lambda: torch.from_numpy(pruned)).to(self.pruned.device)
