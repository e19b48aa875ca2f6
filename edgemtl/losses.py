"""The loss of a batch, task by task, at the network's own parameters or at others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from edgemtl_models import MultiTask
from edgemtl_models.trunk import StreamFeatures

from . import distributed
from .config import Config
from .data.batch import Batch
from .errors import ConfigError
from .tasks import Task
from .tasks.base import LossSum

Losses = dict[str, Tensor]
"""Scalar losses by task."""
Params = dict[str, Tensor]
"""Parameters by the network's own names."""


class TaskLosses(NamedTuple):
    """The losses of a forward pass, and the features at the seam between the shared trunk and the heads."""

    losses: Losses
    features: list[Tensor]
    """The outputs of the trunk."""
    head_inputs: list[Tensor]
    """What the heads read: the features, or copies of them that are detached from the trunk."""
    auxiliary: Tensor | None = None
    """A loss of features or outputs against a teacher's, which no task weighting weights: distillation."""


class FeatureLoss(Protocol):
    """A loss of the features of a trunk that has a stream for each modality."""

    def __call__(self, features: StreamFeatures, images: dict[str, Tensor]) -> Tensor:
        """Return this process's part of the loss (scalar) of a forward pass on images by modality."""


class OutputLoss(Protocol):
    """A loss of the raw outputs of the heads."""

    def __call__(self, outputs: Mapping[str, Any], images: dict[str, Tensor]) -> Tensor:
        """Return this process's part of the loss (scalar) of outputs by head, for images by modality."""


class OutputObserver(Protocol):
    """Takes in raw outputs of a training, such as a regulariser."""

    def observe_outputs(self, outputs: Mapping[str, Any], images: Mapping[str, Tensor]) -> None:
        """Take in outputs by head, for images by input, whose graph stays."""


class MultiTaskLoss:
    """Forward pass and losses of the tasks that a batch has labels of."""

    def __init__(
        self,
        network: MultiTask,
        tasks: dict[str, Task],
        inputs: Mapping[str, str],
        config: Config,
        device: torch.device,
        feature_loss: FeatureLoss | None = None,
        output_loss: OutputLoss | None = None,
    ) -> None:
        """``inputs`` are the names of the images in a batch by modality."""
        self.network, self.tasks, self.device = network, tasks, device
        self.feature_loss, self.output_loss = feature_loss, output_loss
        self.observers: Sequence[OutputObserver] = ()
        """What takes in the outputs of each forward pass whose gradients are the network's."""
        self.weights, self.inputs = config.loss_weights, inputs
        self.unimodal = config.unimodal_aux_loss
        if self.unimodal and not network.supports("unimodal_aux_loss"):
            raise ConfigError(
                "unimodal_aux_loss is of two full streams: give fusion.kind=aligned or concat, and two modalities"
            )
        self.forward_pass = _ForwardPass(network, inputs, self.unimodal, feature_loss is not None)
        self.autocast = computes_in_bf16(config.precision, device)

    def __call__(
        self,
        batch: Batch,
        tasks: list[str] | None = None,
        params: Params | None = None,
        detach_features: bool = False,
        with_auxiliary: bool = True,
    ) -> TaskLosses:
        """Return the losses of ``tasks``, all where none are named.

        ``params`` replace the network's own parameters; its batch statistics then stay as they are, and there is no
        auxiliary loss. With ``detach_features`` the heads read detached copies of the trunk's features, so that a
        backward pass stops there.
        """
        auxiliary = None
        tasks = list(self.tasks) if tasks is None else tasks
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast),
            distributed.synced_batch_statistics(),
        ):
            if params is None:
                outputs, features, head_inputs, streams = self.forward_pass(batch, tasks, detach_features)
                if self.feature_loss and streams and with_auxiliary:
                    auxiliary = self.feature_loss(streams, images_of(batch, self.inputs))
                if self.output_loss and with_auxiliary:
                    taught = self.output_loss(outputs, images_of(batch, self.inputs))
                    auxiliary = taught if auxiliary is None else auxiliary + taught
            else:
                statistics = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
                state = {f"network.{name}": tensor for name, tensor in (statistics | params).items()}
                outputs, features, head_inputs, _ = functional_call(
                    self.forward_pass, state, (batch, tasks, detach_features)
                )
        outputs = tree_map(_at_least_single, outputs)
        if params is None and torch.is_grad_enabled() and not detach_features:
            for observer in self.observers:
                observer.observe_outputs(outputs, batch.images)
        if self.unimodal:
            batch = batch.repeat_targets(1 + len(self.inputs))
        sums = {name: self.tasks[name].loss(output, batch) for name, output in outputs.items()}
        return TaskLosses(reduce_losses(self.tasks, outputs, sums), features, head_inputs, auxiliary)

    @torch.no_grad()
    def reevaluate(self, batch: Batch) -> Losses:
        """Return the weighted losses of a batch after the step on it, with the batch statistics unchanged."""
        return self.weighted(self(batch, params={}).losses)

    def weighted(self, losses: Losses) -> Losses:
        """Return the losses times the fixed weights of the configuration."""
        return {name: self.weights.get(name, 1.0) * loss for name, loss in losses.items()}


class _ForwardPass(nn.Module):
    """The network as a module that also returns the features between trunk and heads, for `functional_call`."""

    def __init__(self, network: MultiTask, inputs: Mapping[str, str], unimodal: bool, with_streams: bool) -> None:
        super().__init__()
        self.network, self.inputs, self.unimodal, self.with_streams = network, inputs, unimodal, with_streams

    def forward(
        self, batch: Batch, tasks: list[str], detach_features: bool
    ) -> tuple[dict[str, Any], list[Tensor], list[Tensor], StreamFeatures | None]:
        images = images_of(batch, self.inputs)
        streams = self.network.trunk.stream_features(images) if self.unimodal or self.with_streams else None
        if streams is None:
            features = self.network.trunk(images)
        else:
            features = streams.unimodal(batch.missing) if self.unimodal else streams.fused
        head_inputs = [f.detach().requires_grad_() for f in features] if detach_features else features
        return {name: self.network.read(name, head_inputs) for name in tasks}, features, head_inputs, streams


def images_of(batch: Batch, inputs: Mapping[str, str]) -> dict[str, Tensor]:
    """Return a batch's images by modality, for a trunk."""
    return {modality: batch.images[name] for modality, name in inputs.items()}


def finite_losses(losses: Losses, step: int, lr: float) -> dict[str, float]:
    """Return the losses as numbers; raises `ConfigError` when one is no longer finite."""
    row = {name: float(loss.detach()) for name, loss in losses.items()}
    if not all(math.isfinite(value) for value in row.values()):
        raise ConfigError(f"the loss is no longer finite at step {step + 1} ({row}); lower lr={lr}")
    return row


def reduce_losses(tasks: dict[str, Task], outputs: dict[str, Any], sums: dict[str, LossSum | None]) -> Losses:
    """Return the mean losses over the whole batch, of the tasks that any process has labels of.

    With several processes the value is that of the whole batch, and the gradient this process's part of its gradient:
    zero from a task that has no labels in this process, but through its head all the same, since all processes reduce
    the same gradients.
    """
    if distributed.world_size() == 1:
        return {name: part.mean() for name, part in sums.items() if part is not None}
    local: dict[str, LossSum] = {}
    for name, part in sums.items():
        zero = torch.stack([0.0 * tensor.sum() for tensor in tree_leaves(outputs[name])]).sum()
        local[name] = part or LossSum(zero.repeat(tasks[name].sums), zero.detach().repeat(tasks[name].sums))
    labelled = [local[name].count.new_tensor([float(part is not None)]) for name, part in sums.items()]
    rows = [torch.cat([local[name].total, local[name].count, flag]) for name, flag in zip(local, labelled, strict=True)]
    losses = {}
    for name, whole in zip(local, distributed.all_reduce(rows), strict=True):
        total, count, flag = whole.split([tasks[name].sums, tasks[name].sums, 1])
        if bool(flag):
            partial = LossSum(local[name].total, count).mean()
            losses[name] = partial + (LossSum(total, count).mean() - partial).detach()
    return losses


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def computes_in_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: asked for, or "auto" on hardware with matrix units for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def emulates_bf16(device: torch.device) -> bool:
    """Whether a processor computes bf16 by other means, which takes many times as long as fp32."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
