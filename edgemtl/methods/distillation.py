"""Feature distillation: the stream of each modality imitates a teacher that was trained on that modality alone.

Streams that are trained jointly can each end up worse than alone (M2D-LIF, ICCV 2025). So to the tasks' losses is added

    w · mean over streams, levels and channels of (1 - r),

r the correlation, over the positions of a batch, of a channel of the stream's features with the same channel of its
teacher's (PKD, Cao et al. 2022: another scale or offset costs nothing). A teacher is a finished run of one modality, of
the same backbone and neck; where it starts from is where the streams do, so that channels correspond. Initialise the
streams with a teacher's weights, by `init_from`, or train both from one start.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgemtl_models import MultiTask
from edgemtl_models.trunk import Trunk

from .. import distributed
from ..config import Config
from ..data.batch import Batch
from ..errors import ConfigError
from ..losses import computes_in_bf16
from ..run import Run


class Distillation:
    """Adds the gradient of the loss above; it runs the trunk a second time."""

    def __init__(self, network: MultiTask, config: Config, device: torch.device) -> None:
        if not network.supports("distillation"):
            raise ConfigError("teachers are for two full streams: give fusion.kind=aligned, and two modalities")
        self.trunk, self.weight, self.device = network.trunk, config.distill_weight, device
        self.autocast = computes_in_bf16(config.precision, device)
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

    def backward(self, batch: Batch) -> float:
        """Add the gradient of the loss on a batch to ``.grad`` and return the loss."""
        images = {stream: batch.images[stream] for stream in self.streams}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            with distributed.synced_batch_statistics():
                levels = self.trunk.modality_features(images).values()
            with torch.no_grad():
                targets = {stream: teacher({stream: images[stream]}) for stream, teacher in self.teachers.items()}
        terms = []
        for stream, target in targets.items():
            strides = list(self.teachers[stream].strides)
            for stride, features in zip(self.trunk.strides, levels, strict=True):
                student, teacher_level = features[self.streams.index(stream)], target[strides.index(stride)]
                terms.append(1 - correlation(student.float(), teacher_level.float()).mean())
        loss = self.weight * torch.stack(terms).mean() / distributed.world_size()
        loss.backward()
        return float(loss.detach()) * distributed.world_size()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each channel, (C,), over the positions of two (B, C, H, W); 0 where one is constant."""
    a, b = (f.transpose(0, 1).flatten(1) for f in (a, b))
    a, b = (f - f.mean(1, keepdim=True) for f in (a, b))
    r: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)
    return r
