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
from edgemtl_models.registration import shifted_back
from edgemtl_models.trunk import StreamFeatures, Trunk

from .. import distributed
from ..config import Config
from ..errors import ConfigError
from ..run import Run


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


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each channel, (C,), over the positions of two (B, C, H, W); 0 where one is constant."""
    a, b = (f.transpose(0, 1).flatten(1) for f in (a, b))
    a, b = (f - f.mean(1, keepdim=True) for f in (a, b))
    r: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)
    return r
