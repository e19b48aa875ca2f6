"""Distillation: each camera's stream keeps what a network of that camera alone has learned.

Streams that learn together can each end up worse than alone (M2D-LIF, ICCV 2025). So beside the tasks' losses stands

    w · mean over cameras, levels and channels of (1 - r),

r the correlation, over the places of a batch, of a channel of the stream's features with the same channel of its
teacher's (PKD, Cao et al. 2022: what is of another size or offset costs nothing). A teacher is a finished run of one
camera, of the same backbone and neck; where it starts from is where the streams do, so that channels correspond. Begin
the streams with a teacher's own weights, by `init_from`, or train both from one start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgemtl_models.aligned import LEVELS, AlignedTrunk

from .. import distributed
from ..config import Config
from ..data.targets import Batch
from ..errors import ConfigError
from ..losses import computes_in_bf16
from ..run import Run


class Distillation:
    """Adds the gradient of the loss above; reads the trunk once more for it."""

    def __init__(self, network: nn.Module, config: Config, device: torch.device) -> None:
        if not isinstance(network.trunk, AlignedTrunk):
            raise ConfigError("teachers are for two full streams: give fusion.kind=aligned, and two cameras")
        self.trunk, self.weight, self.device = network.trunk, config.distill_weight, device
        self.autocast = computes_in_bf16(config.precision, device)
        self.cameras = list(self.trunk.streams)
        self.places = [LEVELS.index(level) for level in self.trunk.fuse_at]
        self.teachers = {camera: self._open(camera, path).to(device) for camera, path in config.teachers.items()}

    def _open(self, camera: str, path: str) -> nn.Module:
        if camera not in self.cameras:
            raise ConfigError(f"teachers names '{camera}'; the network's cameras are {', '.join(self.cameras)}")
        run = Run.open(path)
        if list(run.network.inputs) != [camera]:  # type: ignore[arg-type]
            theirs = ", ".join(run.network.inputs)  # type: ignore[arg-type]
            raise ConfigError(f"teachers.{camera}: {path} is of {theirs}; train one with modalities=[{camera}]")
        trunk = run.network.trunk
        widths = [trunk.widths[place] for place in self.places]  # type: ignore[union-attr,index]
        if widths != self.trunk.widths:
            raise ConfigError(f"teachers.{camera}: {path} has {widths} channels, the network {self.trunk.widths}")
        return trunk.requires_grad_(False)  # type: ignore[union-attr,return-value]

    def gradients(self, batch: Batch) -> float:
        """Add the gradient of the loss on a batch to ``.grad`` and return the loss."""
        images = {camera: batch[camera] for camera in self.cameras}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            with distributed.synced_batch_statistics():
                seen = self.trunk.modality_features(images).values()
            with torch.no_grad():
                taught = {camera: teacher({camera: images[camera]}) for camera, teacher in self.teachers.items()}
        terms = []
        for camera, theirs in taught.items():
            for place, features in zip(self.places, seen, strict=True):
                own = features[self.cameras.index(camera)]
                terms.append(1 - correlation(own.float(), theirs[place].float()).mean())
        loss = self.weight * torch.stack(terms).mean() / distributed.world_size()
        loss.backward()
        return float(loss.detach()) * distributed.world_size()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each channel, (C,), over the places of two (B, C, H, W); 0 where one is constant."""
    a, b = (f.transpose(0, 1).flatten(1) for f in (a, b))
    a, b = (f - f.mean(1, keepdim=True) for f in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)
