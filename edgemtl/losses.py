"""What a batch asks of a network: the losses of its tasks, at the network's own weights or at others."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from edgemtl_models.aligned import AlignedTrunk

from . import distributed
from .config import Config
from .data.targets import ABSENT, Batch, repeated
from .errors import ConfigError
from .tasks import Task
from .tasks.base import Summed

Losses = dict[str, Tensor]
Weights = dict[str, Tensor]
"""Parameters by the network's own names."""


class Lesson:
    """Losses over the whole batch, of the tasks that it has labels of."""

    def __init__(
        self, network: nn.Module, tasks: dict[str, Task], inputs: list[str], config: Config, device: torch.device
    ) -> None:
        self.network, self.tasks, self.device = network, tasks, device
        self.weights, self.inputs = config.loss_weights, inputs
        self.solo = config.unimodal_aux_loss
        if self.solo and not isinstance(network.trunk, AlignedTrunk):
            raise ConfigError("solo is of two full streams: give fusion.kind=aligned, and two cameras")
        self.reader = _Reader(network, inputs, self.solo)
        self.autocast = computes_in_bf16(config.precision, device)

    def losses(
        self, batch: Batch, tasks: list[str] | None = None, at: Weights | None = None, cuts: bool = False
    ) -> tuple[Losses, list[Tensor], list[Tensor]]:
        """Return the losses, the trunk's features, and what the heads read: these, or with ``cuts`` copies cut off.

        ``tasks`` are all where none are named. ``at`` are weights in place of the network's own; its batch statistics
        then stay as they are.
        """
        tasks = list(self.tasks) if tasks is None else tasks
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast),
            distributed.synced_batch_statistics(),
        ):
            if at is None:
                outputs, features, read = self.reader(batch, tasks, cuts)
            else:
                statistics = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
                state = {f"network.{name}": tensor for name, tensor in (statistics | at).items()}
                outputs, features, read = functional_call(self.reader, state, (batch, tasks, cuts))
        outputs = tree_map(_at_least_single, outputs)
        if self.solo:
            labels = {key: value for key, value in batch.items() if key not in self.inputs}
            batch = repeated(labels, 1 + len(self.inputs))
        sums = {name: self.tasks[name].loss(output, batch) for name, output in outputs.items()}
        return whole_losses(self.tasks, outputs, sums), features, read

    @torch.no_grad()
    def again(self, batch: Batch) -> Losses:
        """Return the weighted losses of a batch that has been learned from, leaving the batch statistics."""
        return self.weighted(self.losses(batch, at={})[0])

    def weighted(self, losses: Losses) -> Losses:
        """Return the losses by the weights of the configuration."""
        return {name: self.weights.get(name, 1.0) * loss for name, loss in losses.items()}


class _Reader(nn.Module):
    """The network with chosen heads, and what lies between trunk and heads laid open."""

    def __init__(self, network: nn.Module, inputs: list[str], solo: bool) -> None:
        super().__init__()
        self.network, self.inputs, self.solo = network, inputs, solo

    def forward(self, batch: Batch, tasks: list[str], cuts: bool) -> tuple[dict[str, Any], list[Tensor], list[Tensor]]:
        images, trunk = {name: batch[name] for name in self.inputs}, self.network.trunk
        features: list[Tensor] = trunk.unimodal_features(images, batch.get(ABSENT)) if self.solo else trunk(images)  # type: ignore[operator,union-attr]
        read = [f.detach().requires_grad_() for f in features] if cuts else features
        return {name: self.network.read(name, read) for name in tasks}, features, read  # type: ignore[operator]


def checked(losses: Losses, step: int, lr: float) -> dict[str, float]:
    """Return the losses as numbers; raises `ConfigError` when one is no longer finite."""
    row = {name: float(loss.detach()) for name, loss in losses.items()}
    if not all(math.isfinite(value) for value in row.values()):
        raise ConfigError(f"the loss is no longer finite at step {step + 1} ({row}); lower lr={lr}")
    return row


def whole_losses(tasks: dict[str, Task], outputs: dict[str, Any], sums: dict[str, Summed | None]) -> dict[str, Tensor]:
    """Return the losses over the whole batch of the tasks that any process has labels of.

    Among several processes the value is that of the whole batch, and the gradient this process's part of its gradient:
    nothing from a task that has no labels here, but through its head all the same, where all processes meet.
    """
    if distributed.world_size() == 1:
        return {name: part.mean() for name, part in sums.items() if part is not None}
    here: dict[str, Summed] = {}
    for name, part in sums.items():
        nothing = torch.stack([0.0 * tensor.sum() for tensor in tree_leaves(outputs[name])]).sum()
        here[name] = part or Summed(nothing.repeat(tasks[name].sums), nothing.detach().repeat(tasks[name].sums))
    there = [here[name].count.new_tensor([float(part is not None)]) for name, part in sums.items()]
    rows = [torch.cat([*here[name], flag]) for name, flag in zip(here, there, strict=True)]
    losses = {}
    for name, whole in zip(here, distributed.all_reduce(rows), strict=True):
        total, count, flag = whole.split([tasks[name].sums, tasks[name].sums, 1])
        if bool(flag):
            mine = Summed(here[name].total, count).mean()
            losses[name] = mine + (Summed(total, count).mean() - mine).detach()
    return losses


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def computes_in_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: asked for, or "auto" on hardware with matrix units for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
