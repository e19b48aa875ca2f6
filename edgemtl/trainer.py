"""The training loop's body and its state: network, optimiser, method, regularisers, average and log."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from edgemtl_models import MultiTask

from . import distributed
from .config import Config
from .data.batch import Batch
from .ema import EMA
from .log_file import TrainingLog
from .losses import MultiTaskLoss, finite_losses
from .methods import METHODS
from .methods.distillation import Distillation, HeadDistillation
from .methods.regularizers import build_regularizers
from .pretrained import freeze_statistics
from .rng import STEP, isolated_rng, seed_of
from .run import Interface
from .tasks import Task

FINAL_LR = 0.01
"""The learning rate at the end, as a share of the highest."""
EXTRA_LR_SCALE = 10.0
"""The learning rate of a task weighting's own parameters, relative to the network's."""


class TrainState(NamedTuple):
    """Everything that changes during a training, as a checkpoint stores it."""

    tensors: dict[str, Tensor]
    """By part and name, like "network.trunk..."."""
    values: dict[str, Any]
    """What JSON can hold, likewise by part and name."""


class Trainer:
    """A training in progress; ``step`` counts the batches that it was trained on.

    `state` and `load_state` carry all of it over to another process, to the last bit: what a batch holds depends on
    the seed and the step alone (`data.loader`), and the tasks' schedules on the step.
    """

    def __init__(
        self,
        network: MultiTask,
        tasks: dict[str, Task],
        config: Config,
        interface: Interface,
        steps: int,
        steps_per_epoch: int,
    ) -> None:
        self.tasks, self.config, self.interface = tasks, config, interface
        self.steps, self.steps_per_epoch, self.step = steps, steps_per_epoch, 0
        self.device = distributed.device()
        self.regularizers = build_regularizers(network, interface, config, steps)
        self.network = network.to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload] # a gap in torch's stubs
        freeze_statistics(self.network, config.freeze)
        for regularizer in self.regularizers.values():
            regularizer.to(self.device)
        for name, task in tasks.items():
            task.prepare(network.heads[name], math.ceil(steps / steps_per_epoch))
        self.distillation = Distillation(network, config, self.device) if config.teachers else None
        self.parameters = dict(network.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(), lr=config.lr, fused=self.device.type in ("cpu", "cuda")
        )
        inputs = {spec.modality: spec.name for spec in interface.inputs}
        teacher = HeadDistillation(network, tasks, interface.inputs, config, self.device) if config.teacher else None
        loss = MultiTaskLoss(network, tasks, inputs, config, self.device, self.distillation, teacher)
        loss.observers = tuple(self.regularizers.values())
        self.loss = loss
        method = METHODS.require(config.method, "method:")
        self.method = method(loss, config, self.optimizer, list(self.regularizers.values()))
        if extra := self.method.parameters():
            self.optimizer.add_param_group({"params": extra, "weight_decay": 0.0, "lr_scale": EXTRA_LR_SCALE})
        self.ema = EMA(network, config.ema_decay)
        self.log = TrainingLog()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Take one step on a batch; return its log row. Raises `ConfigError` when a loss is no longer finite."""
        with isolated_rng(seed_of(self.config.seed, STEP, self.step, distributed.rank()), self.device):
            return self._train_step(batch)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        lr = self._schedule_lr()
        batch = batch.to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        for regularizer in self.regularizers.values():
            regularizer.prepare(self.step, lambda: self._loss_of(batch))
        losses = self.method.backward(batch, self.step)  # forward, losses, backward by the task weighting
        row = finite_losses(losses, self.step, self.config.lr)
        if losses:  # a batch without any label trains nothing
            distributed.all_reduce_gradients(self.parameters.values())
            grads = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
            for regularizer in self.regularizers.values():
                regularizer.observe(grads)
            nn.utils.clip_grad_norm_(self.parameters.values(), self.config.grad_clip_norm)
            self.optimizer.step()
            for regularizer in self.regularizers.values():
                regularizer.after_step(self.step, lr, self.optimizer)
            self.ema.update(self.regularizers.values())
            self.method.after_step(batch)
            row |= self.method.metrics()
        self.step += 1
        if self.step % self.steps_per_epoch == 0:
            self._end_epoch()
            self.method.end_epoch()
        for regularizer in self.regularizers.values():
            row |= regularizer.metrics()
        self.log.add(self.step - 1, lr, row)
        return row

    @torch.no_grad()
    def _loss_of(self, batch: Batch) -> float:
        """Return the loss of a batch at the present weights, NaN without labels; its statistics change nothing."""
        buffers = [(b, b.clone()) for b in self.network.buffers()]
        losses = self.loss(batch)
        for buffer, before in buffers:
            buffer.copy_(before)
        terms = [float(loss) for loss in self.loss.weighted(losses.losses).values()]
        if losses.auxiliary is not None:
            terms.append(float(losses.auxiliary))
        return sum(terms) if terms else math.nan

    def _schedule_lr(self) -> float:
        lr = learning_rate(self.step, self.steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr

    def _end_epoch(self) -> None:
        for task in self.tasks.values():
            task.end_epoch()

    @property
    def is_eval_due(self) -> bool:
        """Whether an evaluation is due after the step just taken; the one at the end is not the loop's."""
        count = self.config.num_evals
        return self.step < self.steps and self.step * count // self.steps > (self.step - 1) * count // self.steps

    def finish(self) -> tuple[MultiTask, Interface]:
        """Return the averaged network in its final structure, such as weights stored once, and its interface."""
        network = self.ema.network.cpu().eval()
        description = self.interface.network
        for regularizer in self.regularizers.values():
            description = description | regularizer.finish(network)
        return network, msgspec.structs.replace(self.interface, network=description)

    def state(self) -> TrainState:
        """Return everything that changes during the training."""
        optimizer = self.optimizer.state_dict()["state"]
        state: dict[str, dict[str, Any]] = {
            "network": self.network.state_dict(),
            "ema": self.ema.network.state_dict(),
            "optimizer": {f"{index}.{name}": t for index, slots in optimizer.items() for name, t in slots.items()},
            "method": self.method.state_dict(),
        }
        state |= {f"regularizer-{name}": part.state_dict() for name, part in self.regularizers.items()}
        flat = {f"{part}.{name}": value for part, values in state.items() for name, value in values.items()}
        tensors = {name: value for name, value in flat.items() if isinstance(value, Tensor)}
        values = {name: value for name, value in flat.items() if name not in tensors}
        return TrainState(
            tensors, values | {"step": self.step, "ema_updates": self.ema.updates, "log": self.log.state()}
        )

    def load_state(self, state: TrainState) -> None:
        """Restore what `state` returned; raises KeyError or RuntimeError when that was another training."""
        parts: dict[str, dict[str, Any]] = {}
        for name, value in (state.tensors | state.values).items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        self.network.load_state_dict(parts["network"])
        self.ema.network.load_state_dict(parts["ema"])
        self._load_optimizer(parts.get("optimizer", {}))
        self.method.load_state_dict(parts.get("method", {}))
        for name, regularizer in self.regularizers.items():
            regularizer.load_state_dict(parts.get(f"regularizer-{name}", {}))
        self.ema.updates = state.values["ema_updates"]
        self.log.load_state(state.values["log"])
        self.step = state.values["step"]
        for _ in range(self.step // self.steps_per_epoch):
            self._end_epoch()

    def _load_optimizer(self, saved: dict[str, Tensor]) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in saved.items():
            index, _, slot = name.partition(".")
            like = parameters[int(index)]
            # In the parameter's memory format: another one could round otherwise.
            value = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.ndim else tensor
            state.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on weights alone, and none where a regulariser replaces it."""
        excluded = {name for regularizer in self.regularizers.values() for name in regularizer.no_weight_decay()}
        trainable = [(n, p) for n, p in self.parameters.items() if p.requires_grad]
        decayed = [p for n, p in trainable if p.ndim > 1 and n not in excluded]
        others = [p for n, p in trainable if p.ndim <= 1 or n in excluded]
        return [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": others, "weight_decay": 0.0}]


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine down to a hundredth."""
    warmup = min(config.warmup_steps, steps // 4)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * (FINAL_LR + (1 - FINAL_LR) * (1 + math.cos(math.pi * progress)) / 2)
