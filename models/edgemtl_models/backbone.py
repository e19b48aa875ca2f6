"""Backbones: an image to feature maps at strides 4, 8 and 16."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from .yolo import C3k2, Conv


class YoloBackbone(nn.Module):
    """Strided convolutions, each followed by a C3k2 block (ultralytics' YOLO11), from scratch.

    ``widths`` are the channels at strides 2, 4, 8 and 16.
    """

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        c2, c4, c8, c16 = widths
        self.stem = Conv(channels, c2, 3, 2)
        self.stage4 = nn.Sequential(Conv(c2, c4, 3, 2), C3k2(c4, c4))
        self.stage8 = nn.Sequential(Conv(c4, c8, 3, 2), C3k2(c8, c8))
        self.stage16 = nn.Sequential(Conv(c8, c16, 3, 2), C3k2(c16, c16))
        self.widths = [c4, c8, c16]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at strides 4, 8 and 16."""
        p4 = self.stage4(self.stem(image))
        p8 = self.stage8(p4)
        return [p4, p8, self.stage16(p8)]


class MobileNetV2Backbone(nn.Module):
    """MobileNetV2 (Sandler et al. 2018) up to stride 16, from torchvision's blocks, with ImageNet weights if given.

    ``weights`` is a file name in the folder ``EDGEMTL_WEIGHTS`` or a path: the state of torchvision's ``mobilenet_v2``
    without its classifier. For one input channel its first filters are summed over colour,
    which is what a grey picture shown as three equal channels would meet.
    """

    widths = (24, 32, 96)

    def __init__(self, channels: int, weights: str = "") -> None:
        super().__init__()
        from torchvision.models import mobilenet_v2

        features = mobilenet_v2(weights=None).features
        if weights:
            _load(features, find_weights(weights))
        if channels != 3:
            stem, old = features[0], features[0][0]
            conv = nn.Conv2d(channels, old.out_channels, 3, 2, 1, bias=False)
            conv.weight.data = old.weight.data.sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels
            stem[0] = conv
        self.stage4, self.stage8, self.stage16 = features[:4], features[4:7], features[7:14]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at strides 4, 8 and 16."""
        p4 = self.stage4(image)
        p8 = self.stage8(p4)
        return [p4, p8, self.stage16(p8)]


def _load(features: nn.Module, file: Path) -> None:
    state = torch.load(file, map_location="cpu", weights_only=True)
    try:
        features.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
    except RuntimeError as error:
        raise ValueError(
            f"{file} does not hold MobileNetV2's features: {str(error).splitlines()[1].strip()[:120]}"
        ) from error


def find_weights(name: str) -> Path:
    """Return the path of a weights file, looked for as a path and in ``EDGEMTL_WEIGHTS``."""
    folder = os.environ.get("EDGEMTL_WEIGHTS", "")
    for path in (Path(name), Path(folder) / name):
        if path.is_file():
            return path
    where = f"EDGEMTL_WEIGHTS={folder}" if folder else "EDGEMTL_WEIGHTS is not set"
    raise FileNotFoundError(f"weights '{name}' not found as a path, nor by {where}")


BACKBONES = {"yolo": YoloBackbone, "mobilenetv2": MobileNetV2Backbone}
