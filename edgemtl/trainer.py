"""The training loop: everything that changes from step to step, and how it is taken up again."""

from __future__ import annotations

import copy
import math
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from edgemtl_export.inputs import example_inputs
from edgemtl_models.aligned import AlignedTrunk

from . import distributed
from .config import Config
from .data.targets import Batch
from .errors import ConfigError
from .losses import Lesson, checked
from .methods.alignment import ChannelAlignment
from .methods.distillation import Distillation
from .methods.joint import Joint
from .methods.meta_sparsity import MetaSparsity
from .methods.mtml import MTML
from .pretrained import hold_statistics
from .run import Interface
from .sparsity.group_lasso import ChannelSparsity
from .tasks import Task
from .training_log import Log

METHODS: dict[str, type[Joint]] = {
    "joint": Joint,
    "single": Joint,
    "sparse": Joint,
    "mtml": MTML,
    "meta_sparsity": MetaSparsity,
}


class Loop:
    """A training in progress: ``step`` counts the batches that it has learned from.

    ``state`` and ``load_state`` carry all of it over to another process, to the last bit: what a batch holds depends on
    the seed and the step alone (`data.loader`), and the tasks' schedules on the step.
    """

    def __init__(
        self, network: nn.Module, tasks: dict[str, Task], config: Config, interface: Interface, steps: int, rounds: int
    ) -> None:
        """``rounds`` is how many of the ``steps`` make up one round of a task's schedule."""
        self.device = distributed.device()
        sparse = config.sparse or config.keep_sparsity
        examples = example_inputs(interface.inputs)
        self.sparsity = ChannelSparsity(network, examples, config.sparsity, steps) if sparse else None
        aligned = config.alignment.strength or config.alignment.target
        if aligned and not isinstance(network.trunk, AlignedTrunk):
            raise ConfigError("alignment is of two full streams: give fusion.kind=aligned, and two cameras")
        self.network = network.to(self.device, memory_format=torch.channels_last).train()
        hold_statistics(self.network, config.freeze)
        self.tasks, self.config, self.steps, self.per_round = tasks, config, steps, rounds
        self.interface = interface
        for name, task in tasks.items():
            task.prepare(network.heads[name], math.ceil(steps / rounds))  # type: ignore[index]
        self.alignment = ChannelAlignment(network, config.alignment, steps) if aligned else None
        self.distillation = Distillation(network, config, self.device) if config.teachers else None
        if self.sparsity:
            self.sparsity.to(self.device)
        if self.alignment:
            self.alignment.to(self.device)
        if self.sparsity and config.keep_sparsity:
            self.sparsity.freeze()
        lesson = Lesson(network, tasks, [spec.name for spec in interface.inputs], config, self.device)
        self.optimizer = torch.optim.AdamW(_parameter_groups(network, self.sparsity, config), lr=config.lr)
        self.method = METHODS[config.method](lesson, config, self.optimizer, self.sparsity, self.alignment)
        if learned := self.method.parameters():
            self.optimizer.add_param_group({"params": learned, "weight_decay": 0.0, "pace": 10.0})
        self.average = Average(network, config.ema_decay)
        self.log = Log()
        self.step = 0

    def learn(self, batch: Batch) -> dict[str, float]:
        """Take one step on a batch and return its figures; raises `ConfigError` when the loss is no longer finite."""
        lr = learning_rate(self.step, self.steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("pace", 1.0)
        batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.method.gradients(batch, self.step)
        row = checked(losses, self.step, self.config.lr)
        if losses and self.distillation:
            row["distill"] = self.distillation.gradients(batch)
        if losses:  # a batch without any label teaches nothing
            self._update(lr)
            self.method.after(batch)
            row |= self.method.figures()
        self.step += 1
        if self.step % self.per_round == 0:
            self._advance()
            self.method.advance()
        if self.sparsity:
            row |= self.sparsity.figures()
        if self.alignment:
            row |= self.alignment.figures()
        self.log.add(self.step - 1, lr, row)
        return row

    @property
    def judges(self) -> bool:
        """Whether a judgement is due after the step just taken; the one at the end is not the loop's."""
        times = self.config.num_evals
        return self.step < self.steps and self.step * times // self.steps > (self.step - 1) * times // self.steps

    def _update(self, lr: float) -> None:
        distributed.all_reduce_gradients(self.network.parameters())
        if self.sparsity:
            self.sparsity.observe()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip_norm)
        self.optimizer.step()
        if self.sparsity:
            self.sparsity.step(self.step, lr, self.optimizer)
        if self.alignment:
            self.alignment.step(self.step, lr)
        self.average.update(self.network, self.sparsity, self.alignment)

    def finished(self) -> tuple[nn.Module, Interface]:
        """Return the averaged network, with what its cameras share stored once, and its interface."""
        network = self.average.network.cpu().eval()
        if self.alignment and (shared := self.alignment.finish(network)):
            description = self.interface.network | {"fusion": self.interface.network["fusion"] | {"shared": shared}}
            return network, msgspec.structs.replace(self.interface, network=description)
        return network, self.interface

    def _advance(self) -> None:
        for task in self.tasks.values():
            task.advance()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors by name, and numbers that JSON can hold."""
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.network.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in moments.items()}
        tensors |= {f"method.{name}": t for name, t in self.method.tensors().items()}
        numbers: dict[str, Any] = {"step": self.step, "updates": self.average.updates, "log": self.log.rows}
        numbers["method"] = self.method.state()
        if self.sparsity:
            tensors |= {f"sparsity.{name}": t for name, t in self.sparsity.tensors().items()}
            numbers["frozen"] = self.sparsity.frozen
        if self.alignment:
            numbers["free"], numbers["disagreement"] = self.alignment.free, self.alignment.disagreement
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
            self.sparsity.load(parts["sparsity"], numbers["frozen"])
        if self.alignment:
            self.alignment.free, self.alignment.disagreement = numbers["free"], numbers["disagreement"]
        for name, tensor in self.method.tensors().items():
            tensor.copy_(parts["method"][name])
        self.method.load_state(numbers["method"])
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


def _parameter_groups(network: nn.Module, sparsity: ChannelSparsity | None, config: Config) -> list[dict[str, Any]]:
    """Weight decay on weights alone, and none on groups that the proximal step shrinks already."""
    shrunk = set(sparsity.partition.names) if sparsity else set()
    learned = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    decayed = [p for n, p in learned if p.ndim > 1 and n not in shrunk]
    rest = [p for n, p in learned if p.ndim <= 1 or n in shrunk]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Return the learning rate of a step: a linear rise, then a half cosine down to a hundredth."""
    warmup = min(config.warmup_steps, steps // 4)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


class Average:
    """An exponential moving average of weights and batch statistics that keeps exact zeros exact."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(
        self, network: nn.Module, sparsity: ChannelSparsity | None, alignment: ChannelAlignment | None = None
    ) -> None:
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
        if alignment:
            alignment.mask(self.network)
