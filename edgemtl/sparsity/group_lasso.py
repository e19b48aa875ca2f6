"""Channel sparsity: a group lasso makes channel groups exactly zero, and export removes them.

After R. Upadhyay et al., "Less is More" (arXiv 2308.12114): after each step of AdamW a proximal step minimises

    Σ_t L_t  +  λ Σ_g √n_g ‖w_g‖₂

over groups of n_g weights each, in AdamW's metric (`sparsity.proximal`). A group is one of three forms: what makes one
removable channel ("coupled", the default), a filter ("output"), or what a convolution reads of a channel ("input", the
thesis'). The penalty is in the proximal step alone, its state is never reset, and weight decay skips the groups.

With a fixed λ the share that is pruned is an outcome. With a target it is scheduled: the target of a step rises
linearly from ``begin`` to ``end``, and each step the groups of least importance for their cost reduction are pruned
until it is met. The importance of a group is the running mean of the square of

    Σ_{i in g} w_i ∂L/∂w_i

the first-order Taylor term of the change of the loss without it (Molchanov et al. 2019, arXiv 1906.10771), over the
whole group at once, so that a channel's scale and shift count for the weights before them, whose sum is 0 by
normalisation. It is divided by the group's present cost reduction, in whatever the target counts; channels of a layer
are pruned in blocks (``channel_multiple``, `sparsity.blocks`). λ follows as the regularisation ratio times the strength
that would prune as many groups by itself. At the target the pattern is frozen: the shift of a zero group still has a
gradient, and would make a constant channel of it at the next optimiser step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgemtl_export.groups import channel_groups

from ..config import Sparsity
from ..errors import ConfigError
from .blocks import ChannelBlocks
from .costs import cost_metric, profile
from .group_rows import GroupRows, ProximalStep
from .partition import penalised_groups
from .proximal import prox, prox_in_metric

Params = dict[str, Tensor]
"""Parameters by the network's own names."""
MEMORY = 0.05
"""Weight of the last step in a group's importance."""
TINY = 1e-9


class ChannelSparsity:
    """The group lasso above as a regulariser of a training."""

    def __init__(
        self,
        network: nn.Module,
        images: dict[str, Tensor],
        settings: Sparsity,
        steps: int,
        twins: Sequence[Sequence[str]] = (),
    ) -> None:
        """``images`` are examples by input, on the CPU, as is the network then.

        ``twins`` are parameters whose weights may be shared: their channels are pruned together.
        """
        groups = channel_groups(network, (), images, twins)
        self.settings, self.steps = settings, steps
        scope = "" if settings.scope == "all" else settings.scope
        self.penalised = penalised_groups(network, groups, settings.groups, scope)
        self.partition = self.penalised.partition
        multiple = settings.channel_multiple if settings.groups == "coupled" else 1
        self.blocks = ChannelBlocks(self.penalised.layers, self.partition.count, multiple)
        self.cost = cost_metric(settings.metric, network, groups, images, scope)
        self.dense_cost = self.cost()
        self.target = settings.target
        if settings.max_cost:
            self.target = 1 - settings.max_cost / self.dense_cost
            if self.target <= 0:
                raise ConfigError(
                    f"sparsity.max_cost={settings.max_cost:g}: there are but {self.dense_cost:g} {settings.metric}"
                )
        self.pruned = torch.zeros(self.partition.count, dtype=torch.bool)
        """Which groups are zero, (G,)."""
        self.pruned_share = 0.0
        """The share of the cost that is pruned with them."""
        pixels = next(iter(images.values())).shape[-2:].numel()
        self.levels, self.level = self._assign_levels(profile(network, images).positions, pixels)
        start = 0.0 if self.target else math.log(max(settings.strength, 1e-30))
        self.log_strength = torch.full((len(self.levels),), start)
        """With a target: of each level's strength relative to ``scale``."""
        self.scale = torch.zeros(()) if self.target else torch.ones(())
        self.importance = torch.zeros(self.partition.count)
        """With a target: the running mean of the squared Taylor term of each group."""
        self.cost_reduction = torch.zeros(self.partition.count)
        """With a target: the share of the cost that pruning each group would remove now."""
        self.frozen = False
        self.network, self.parameters = network, self.partition.parameters(network)
        self.by_rows = GroupRows(network, self.partition)

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network."""
        self.partition.to(device)
        self.by_rows.to(device)
        self.pruned, self.level = self.pruned.to(device), self.level.to(device)
        self.log_strength, self.scale = self.log_strength.to(device), self.scale.to(device)
        self.importance, self.cost_reduction = self.importance.to(device), self.cost_reduction.to(device)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters in groups: the proximal step shrinks them already."""
        return set(self.partition.names)

    @torch.no_grad()
    def observe(self, grads: Mapping[str, Tensor]) -> None:
        """Update the importance of the groups."""
        if self.frozen or not self.target:
            return
        named = zip(self.partition.names, self.parameters, strict=True)
        gradients = [grads[name] if name in grads else torch.zeros_like(p) for name, p in named]
        self.importance.lerp_(self.by_rows.products(self.parameters, gradients).square(), MEMORY)

    @torch.no_grad()
    def after_step(self, step: int, lr: float, optimizer: torch.optim.AdamW) -> None:
        """Apply the proximal step that belongs to optimiser step ``step`` (from 0), or the frozen pattern."""
        if self.frozen:
            self.mask(self.network)
            return
        if not self.is_active(step):
            return
        proximal = ProximalStep(self.by_rows, optimizer, self.parameters)
        threshold = proximal.threshold / self.partition.root_size
        protected = self._protected(self.importance if self.target else threshold)
        scheduled = torch.zeros_like(self.pruned)
        if self.target:
            strength = self.log_strength.detach().exp()[self.level]
            scheduled = self._least_important(self._scheduled_target(step), strength, protected)
            relative = (threshold / strength).masked_fill(protected, float("inf"))
            count = int(scheduled.sum())
            equal = relative.kthvalue(count).values if count else relative.new_zeros(())
            self.scale = self.settings.reg_ratio * equal / lr
        tau = lr * self.strengths().detach()[self.level]
        # With blocks the schedule alone prunes: the penalty must not take single groups out of a block.
        kept = protected | (threshold <= tau) if self.target and self.blocks.blocked else protected
        tau = (tau * self.partition.root_size).masked_fill(kept, 0.0)
        zero = proximal.threshold <= tau
        self._set_pruned((zero | scheduled) & ~(protected & (threshold > 0)))
        proximal.write(tau, self.pruned)
        self.frozen = bool(self.target) and self.pruned_share >= self.target

    def mask(self, network: nn.Module) -> None:
        """Make the pruned groups exactly zero in a network of the same parameters."""
        self.by_rows.zero(self.partition.parameters(network), self.pruned)

    def project(self, params: Params) -> Params:
        """Return parameters with the pruned groups zero, once the pattern is frozen."""
        return self._scatter(self._masked(self._gather(params)), params) if self.frozen else params

    def proximal(self) -> ChannelSparsity:
        """Return this object: its strengths can be trained."""
        return self

    def metrics(self) -> dict[str, float]:
        """Return the pruned share of the cost, the number of active channel groups, and the strengths in use."""
        row = {"pruned": self.pruned_share, "active_channels": float((~self.pruned).sum())}
        strengths = self.strengths().tolist() if not self.frozen else []
        return row | {f"strength/{name}": value for name, value in zip(self.levels, strengths, strict=False)}

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from step to step; the strengths belong to the method that trains them."""
        return {
            "pruned": self.pruned,
            "scale": self.scale,
            "importance": self.importance,
            "cost_reduction": self.cost_reduction,
            "frozen": self.frozen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = self.pruned.device
        self._set_pruned(state["pruned"].to(device))
        self.scale, self.importance = state["scale"].to(device), state["importance"].to(device)
        self.cost_reduction, self.frozen = state["cost_reduction"].to(device), state["frozen"]

    def warnings(self) -> list[str]:
        """Return what kept the target from being met."""
        if not self.target or self.frozen:
            return []
        settings = self.settings
        return [
            f"only {self.pruned_share:.0%} of the {settings.metric} could be pruned: "
            f"sparsity.min_keep_ratio={settings.min_keep_ratio} protects the rest"
        ]

    def finish(self, network: nn.Module) -> dict[str, Any]:
        """Change nothing: export removes the zero channels."""
        return {}

    @property
    def relative(self) -> bool:
        """Whether strengths only compare levels, because a target sets their mean."""
        return bool(self.target)

    def is_active(self, step: int) -> bool:
        """Whether a proximal step follows optimiser step ``step``."""
        return not self.frozen and (step + 1) / self.steps >= self.settings.begin

    def strengths(self) -> Tensor:
        """Return the strength of every level, (L,), differentiable by ``log_strength``."""
        return self.scale * self.log_strength.exp()

    def freeze(self) -> None:
        """Keep the present zero groups zero, and stop shrinking the others."""
        self._set_pruned(self.partition.norms(self.network) == 0)
        self.frozen = True

    def proximal_step(self, params: Params, rate: float, metric: Params | None) -> Params:
        """Return parameters after a proximal step of ``rate``, differentiable by them and by ``log_strength``.

        In a diagonal ``metric``, or the Euclidean one. With a target pruned groups stay zero.
        """
        w = self._gather(params)
        tau = rate * self.strengths()[self.level] * self.partition.root_size
        if metric is None:
            shrunk, _ = prox(w, tau, self.partition)
        else:
            shrunk, _ = prox_in_metric(self._gather(metric), w, tau, self.partition)
        return self._scatter(self._masked(shrunk) if self.target else shrunk, params)

    def remaining_cost(self, before: Params, after: Params) -> Tensor:
        """Return the share of the cost of the active groups, each times the part of its norm that a step has left."""
        u, x = (self.partition.sums(self._gather(params).square()) for params in (before, after))
        remaining = (x.clamp(min=TINY**2) / u.detach().clamp(min=TINY**2)).sqrt()
        return (self.cost_reduction.to(remaining) * remaining).masked_fill(self.pruned, 0.0).sum()

    def _gather(self, params: Params) -> Tensor:
        return self.partition.gather([params[name] for name in self.partition.names])

    def _scatter(self, flat: Tensor, params: Params) -> Params:
        names = self.partition.names
        return params | dict(zip(names, self.partition.scatter(flat, [params[name] for name in names]), strict=True))

    def _masked(self, flat: Tensor) -> Tensor:
        return flat * self.partition.expand((~self.pruned).to(flat))

    def _set_pruned(self, pruned: Tensor) -> None:
        self.pruned = pruned
        self.pruned_share = self._share(pruned.cpu().numpy())

    def _share(self, pruned: NDArray[np.bool_]) -> float:
        """Return the share of the cost that pruning these groups removes."""
        return 1 - self.cost(self.penalised.pruned_channels(pruned)) / self.dense_cost

    def _scheduled_target(self, step: int) -> float:
        """Return the share to be pruned after a step: linear from ``begin`` to ``end``."""
        span = max(self.settings.end - self.settings.begin, 1e-9)
        return self.target * min(1.0, ((step + 1) / self.steps - self.settings.begin) / span)

    def _assign_levels(self, positions: dict[str, int], pixels: int) -> tuple[list[str], Tensor]:
        """Return the names of the levels, and each group's level: that of the first weight in it."""
        first = torch.full((self.partition.count,), -1)
        names = [n for n in self.partition.names if n in positions]
        for index, name in reversed(list(enumerate(names))):
            first[self.partition.groups_of(name)] = index
        if self.settings.granularity == "global":
            return ["all"], torch.zeros_like(first)
        by_layer = self.settings.granularity == "layer"
        labels = names if by_layer else [_stage(positions[name], pixels) for name in names]
        levels = list(dict.fromkeys(labels))
        return levels, torch.tensor([levels.index(label) for label in labels])[first]

    def _protected(self, importance: Tensor) -> Tensor:
        """Return the most important groups, ``min_keep_ratio`` of any layer and of any part of one, at least one."""
        protected = torch.zeros_like(self.pruned)
        ratio = self.settings.min_keep_ratio
        for members in self.blocks.parts if ratio else []:
            groups = torch.from_numpy(members).to(importance.device)
            protected[groups[importance[groups].topk(int(np.ceil(ratio * len(groups)))).indices]] = True
        return protected

    def _least_important(self, share: float, strength: Tensor, protected: Tensor) -> Tensor:
        """Return the fewest groups, those of least importance for their cost first, that reduce the cost by a share."""
        pruned_channels = self.penalised.pruned_channels(self.pruned.cpu().numpy())
        reduction = self.penalised.distribute(self.cost.reductions(pruned_channels))
        self.cost_reduction = torch.from_numpy(reduction / self.dense_cost).to(self.pruned.device)
        importance = (self.importance.sqrt() / strength).square().masked_fill(protected, float("inf")).cpu().numpy()
        # groups that reduce no cost come last
        order, ends = self.blocks.order(importance.astype(np.float64), np.maximum(reduction, TINY * self.dense_cost))
        low, high = 0, len(ends) - 1
        pruned = np.zeros(self.partition.count, bool)
        while low < high:
            middle = (low + high) // 2
            pruned[:] = False
            pruned[order[: ends[middle]]] = True
            low, high = (low, middle) if self._share(pruned) >= share else (middle + 1, high)
        pruned[:] = False
        pruned[order[: ends[low]]] = True
        return torch.from_numpy(pruned).to(self.pruned.device)


def _stage(positions: int, pixels: int) -> str:
    """Return the stage of a weight by the stride of its output."""
    return "image" if positions == 1 else f"stride {round((pixels / positions) ** 0.5)}"
