"""Distillation: from a run of all heads, or each modality's stream from a run of that modality alone.

`HeadDistillation` is `edgemtl_export.teacher` with the kinds of output that the tasks name. The rest is of streams.

Streams that are trained jointly can each end up worse than alone (M2D-LIF, ICCV 2025). So to the tasks' losses is added

    w · mean over streams, levels and channels of (1 - r),

r the correlation, over the positions of a batch, of a channel of the stream's features with the same channel of its
teacher's (PKD, Cao et al. 2022: another scale or offset costs nothing). A teacher is a finished run of one modality, of
the same backbone and neck; where it starts from is where the streams do, so that channels correspond. Initialise the
streams with a teacher's weights, by `init_from`, or train both from one start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgemtl_export.teacher import Teacher, correlation
from edgemtl_models import MultiTask
from edgemtl_models.registration import shifted_back
from edgemtl_models.trunk import StreamFeatures, Trunk
from edgemtl_runtime.bundle import Input

from .. import distributed
from ..config import Config
from ..errors import ConfigError
from ..run import Run
from ..tasks import Task
from ..tasks.base import output_kinds


class HeadDistillation:
    """The loss of a network's outputs against those of a finished run on the same images."""

    def __init__(
        self,
        network: MultiTask,
        tasks: Mapping[str, Task],
        inputs: tuple[Input, ...],
        config: Config,
        device: torch.device,
    ) -> None:
        """Raises `ConfigError` where the run of ``config.teacher`` lacks a head, or is of other images."""
        run = Run.open(config.teacher)
        heads = {head.name: head for head in run.interface.heads}
        for name, task in tasks.items():
            if name not in heads or heads[name].classes != task.head().classes:
                raise ConfigError(
                    f"teacher: {config.teacher} has no {name} head of the same classes; it has {', '.join(heads)}"
                )
        shapes = {spec.modality: (spec.height, spec.width, spec.channels) for spec in inputs}
        for spec in run.interface.inputs:
            if shapes.get(spec.modality) != (spec.height, spec.width, spec.channels):
                raise ConfigError(
                    f"teacher: {config.teacher} takes {spec.modality} images of {spec.height}x{spec.width}; "
                    f"the network takes {', '.join(f'{m} {h}x{w}' for m, (h, w, _) in shapes.items())}"
                )
        self.inputs = {spec.modality: spec.name for spec in run.interface.inputs}
        self.weight = config.teacher_weight
        self.teacher = Teacher(run.network, network, output_kinds(tasks))
        self.teacher.to(device)

    def __call__(self, outputs: Mapping[str, Any], images: dict[str, Tensor]) -> Tensor:
        """Return this process's part of the loss (scalar) of outputs by head, for images by modality."""
        loss = self.teacher.loss(outputs, **{name: images[modality] for modality, name in self.inputs.items()})
        return loss * (self.weight / distributed.world_size())


class Distillation:
    """The loss above, on the features of the training step's own forward pass, registered as they are fused."""

    def __init__(self, network: MultiTask, config: Config, device: torch.device) -> None:
        if not network.supports("distillation"):
            raise ConfigError("teachers are for two full streams: give fusion.kind=aligned, and two modalities")
        self.trunk, self.weight = network.trunk, config.distill_weight
        self.streams = list(network.inputs)
        self.teachers = {stream: self._open(stream, path).to(device) for stream, path in config.teachers.items()}

    def _open(self, stream: str, path: str) -> Trunk:
        if stream not in self.streams:
            raise ConfigError(f"teachers names '{stream}'; the network's modalities are {', '.join(self.streams)}")
        run = Run.open(path)
        if list(run.network.inputs) != [stream]:
            modalities = ", ".join(run.network.inputs)
            raise ConfigError(f"teachers.{stream}: {path} is of {modalities}; train one with modalities=[{stream}]")
        teacher = run.network.trunk
        widths = [w for w, stride in zip(teacher.widths, teacher.strides, strict=True) if stride in self.trunk.strides]
        if widths != list(self.trunk.widths):
            raise ConfigError(f"teachers.{stream}: {path} has {widths} channels, the network {self.trunk.widths}")
        return teacher.requires_grad_(False)

    def __call__(self, features: StreamFeatures, images: dict[str, Tensor]) -> Tensor:
        """Return this process's part of the loss (scalar) of a forward pass on images by modality."""
        terms = []
        for stream, teacher in self.teachers.items():
            index = self.streams.index(stream)
            with torch.no_grad():
                targets = dict(zip(teacher.strides, teacher({stream: images[stream]}), strict=True))
            shift = features.shifts[index]
            for stride, level in zip(self.trunk.strides, features.streams, strict=True):
                target = targets[stride].float()
                if shift is not None:  # the student's features were shifted back, in cells of stride 8
                    target = shifted_back(target, shift.detach().float() * 8 / stride)
                terms.append(1 - correlation(level[index].float(), target).mean())
        return self.weight * torch.stack(terms).mean() / distributed.world_size()
