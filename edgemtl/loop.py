"""The training loop: everything that changes from step to step, and how it is taken up again."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from edgemtl_export.groups import channel_groups
from edgemtl_export.to_onnx import example_inputs

from . import processes
from .config import Config
from .curves import Log
from .data.labels import Batch
from .errors import ConfigError
from .methods.balance import BALANCES
from .methods.sparse import ChannelSparsity
from .run import Interface
from .start import hold_statistics
from .tasks import Task
from .tasks.base import Summed


class Loop:
    """A training in progress: ``step`` counts the batches that it has learned from.

    ``state`` and ``load_state`` carry all of it over to another process, to the last bit: what a batch holds depends on
    the seed and the step alone (`data.loader`), and the tasks' schedules on the step.
    """

    def __init__(
        self, network: nn.Module, tasks: dict[str, Task], config: Config, interface: Interface, steps: int, rounds: int
    ) -> None:
        """``rounds`` is how many of the ``steps`` make up one round of a task's schedule."""
        self.device = processes.device()
        groups = channel_groups(network, (), example_inputs(interface.inputs)) if config.sparsity.target else None
        self.network = network.to(self.device, memory_format=torch.channels_last).train()
        hold_statistics(self.network, config.freeze)
        self.tasks, self.config, self.steps, self.per_round = tasks, config, steps, rounds
        self.inputs = [spec.name for spec in interface.inputs]
        for name, task in tasks.items():
            task.prepare(network.heads[name], math.ceil(steps / rounds))  # type: ignore[index]
        self.sparsity = ChannelSparsity(groups, network, config.sparsity, steps) if groups else None
        self.balance = BALANCES[config.balance](list(tasks), config.seed)
        groups_of = _parameter_groups(network, self.sparsity, config)
        if learned := self.balance.parameters():
            groups_of.append({"params": learned, "weight_decay": 0.0, "pace": 10.0})
        self.optimizer = torch.optim.AdamW(groups_of, lr=config.lr)
        self.shared = [p for p in network.trunk.parameters() if p.requires_grad]  # type: ignore[union-attr]
        self.average = Average(network, config.ema)
        self.autocast = computes_in_bf16(config.precision, self.device)
        self.log = Log()
        self.step = 0

    def learn(self, batch: Batch) -> dict[str, float]:
        """Take one step on a batch and return its figures; raises `ConfigError` when the loss is no longer finite."""
        lr = learning_rate(self.step, self.steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("pace", 1.0)
        batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        present, features, cut = self._losses(batch)
        row = {name: float(loss.detach()) for name, loss in present.items()}
        if not all(math.isfinite(value) for value in row.values()):
            raise ConfigError(
                f"the loss is no longer finite at step {self.step + 1} ({row}); lower lr={self.config.lr}"
            )
        if present:  # a batch without any label teaches nothing
            self._update(present, features, cut, lr)
            self.balance.after(lambda: self._again(batch))
            if self.config.balance != "equal":
                row |= {f"weight {name}": weight for name, weight in self.balance.weights.items()}
        self.step += 1
        if self.step % self.per_round == 0:
            self._advance()
            self.balance.advance()
        if self.sparsity:
            row |= {"gone": self.sparsity.share, "live": float(self.sparsity.live)}
        self.log.add(self.step - 1, lr, row)
        return row

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """Return the losses of the tasks that the batch has labels of, the trunk's features, and what the heads read.

        These are the features themselves, or copies cut from the trunk where the balance wants them.
        """
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)
        with autocast, processes.whole_batch_statistics():
            features: list[Tensor] = self.network.trunk({name: batch[name] for name in self.inputs})  # type: ignore[operator]
            read = [f.detach().requires_grad_() for f in features] if self.balance.cuts else features
            outputs = {name: self.network.heads[name](read) for name in self.tasks}  # type: ignore[index]
        outputs = tree_map(_at_least_single, outputs)
        sums = {name: task.loss(outputs[name], batch) for name, task in self.tasks.items()}
        return whole_losses(self.tasks, outputs, sums), features, read

    @torch.no_grad()
    def _again(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch that has been learned from, leaving the batch statistics as they are."""
        kept = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        losses, _, _ = self._losses(batch)
        for name, buffer in self.network.named_buffers():
            buffer.copy_(kept[name])
        return self._weighted(losses)

    def _weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.config.weights.get(name, 1.0) * loss for name, loss in losses.items()}

    def _update(self, losses: dict[str, Tensor], features: list[Tensor], cut: list[Tensor], lr: float) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.balance.backward(self._weighted(losses), features, cut, self.shared)
        processes.sum_gradients(self.network.parameters())
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        if self.sparsity:
            self.sparsity.step(self.step, lr)
        self.average.update(self.network, self.sparsity)

    def _advance(self) -> None:
        for task in self.tasks.values():
            task.advance()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors by name, and numbers that JSON can hold."""
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.network.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in moments.items()}
        tensors |= {f"balance.{index}": p for index, p in enumerate(self.balance.parameters())}
        numbers: dict[str, Any] = {"step": self.step, "updates": self.average.updates, "log": self.log.rows}
        numbers["balance"] = self.balance.state()
        if self.sparsity:
            tensors["sparsity.dead"] = self.sparsity.dead
            numbers["frozen"] = self.sparsity.frozen
        return tensors, numbers

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from what `state` gave; raises KeyError or RuntimeError when that was another training."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        self.network.load_state_dict(parts["network"])
        self.average.network.load_state_dict(parts["average"])
        self.average.updates = numbers["updates"]
        self._load_optimizer(parts.get("optimizer", {}))
        if self.sparsity:
            self.sparsity.dead = parts["sparsity"]["dead"].to(self.device)
            self.sparsity.frozen = numbers["frozen"]
        for index, parameter in enumerate(self.balance.parameters()):
            parameter.data.copy_(parts["balance"][str(index)])
        self.balance.load_state(numbers["balance"])
        self.log.rows = numbers["log"]
        self.step = numbers["step"]
        for _ in range(self.step // self.per_round):
            self._advance()

    def _load_optimizer(self, saved: dict[str, Tensor]) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in saved.items():
            index, _, moment = name.partition(".")
            like = parameters[int(index)]
            # In the parameter's own memory order: another one could round otherwise.
            moments = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.ndim else tensor
            state.setdefault(int(index), {})[moment] = moments
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})


def whole_losses(tasks: dict[str, Task], outputs: dict[str, Any], sums: dict[str, Summed | None]) -> dict[str, Tensor]:
    """Return the losses over the whole batch of the tasks that any process has labels of.

    Among several processes the value is that of the whole batch, and the gradient this process's part of its gradient:
    nothing from a task that has no labels here, but through its head all the same, where all processes meet.
    """
    if processes.count() == 1:
        return {name: part.mean() for name, part in sums.items() if part is not None}
    here: dict[str, Summed] = {}
    for name, part in sums.items():
        nothing = torch.stack([0.0 * tensor.sum() for tensor in tree_leaves(outputs[name])]).sum()
        here[name] = part or Summed(nothing.repeat(tasks[name].sums), nothing.detach().repeat(tasks[name].sums))
    there = [here[name].count.new_tensor([float(part is not None)]) for name, part in sums.items()]
    rows = [torch.cat([*here[name], flag]) for name, flag in zip(here, there, strict=True)]
    losses = {}
    for name, whole in zip(here, processes.summed(rows), strict=True):
        total, count, flag = whole.split([tasks[name].sums, tasks[name].sums, 1])
        if bool(flag):
            mine = Summed(here[name].total, count).mean()
            losses[name] = mine + (Summed(total, count).mean() - mine).detach()
    return losses


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _parameter_groups(network: nn.Module, sparsity: ChannelSparsity | None, config: Config) -> list[dict[str, Any]]:
    """Weight decay on weights alone, and none on groups that the proximal step shrinks already."""
    shrunk = set(sparsity.groups.rows) if sparsity else set()
    learned = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    decayed = [p for n, p in learned if p.ndim > 1 and n not in shrunk]
    rest = [p for n, p in learned if p.ndim <= 1 or n in shrunk]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Return the learning rate of a step: a linear rise, then a half cosine down to a hundredth."""
    warmup = min(config.warmup, steps // 4)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def computes_in_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: asked for, or "auto" on hardware with matrix units for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


class Average:
    """An exponential moving average of weights and batch statistics that keeps exact zeros exact."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module, sparsity: ChannelSparsity | None) -> None:
        """Take in the weights after a step; early on the average is short, so that it follows."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = network.state_dict()
        for name, mine in self.network.state_dict().items():
            theirs: Tensor = state[name].detach()
            if mine.is_floating_point():
                mine.lerp_(theirs, weight)
            else:
                mine.copy_(theirs)
        if sparsity:
            sparsity.mask(self.network)
