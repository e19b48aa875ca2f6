"""Trunks that fuse modalities early, at one level, or level by level, and the neck over the fused features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .blocks import SPPF, Conv, CSPBlock
from .staging import stages
from .trunk import Feature, Slices, StreamFeatures, Trunk
from .yolo11 import yolo_neck

Neck = Callable[[Sequence[int], Sequence[int], bool], dict[str, nn.Module]]
"""Gives the parts of a `Pyramid` by name, for backbones' channels at strides 4, 8 and 16, widths, and ``bottom_up``."""


def plain_neck(levels: Sequence[int], widths: Sequence[int], bottom_up: bool) -> dict[str, nn.Module]:
    """Return 1×1 convolutions onto the widths, and cross-stage partial blocks."""
    w4, w8, w16, w32 = widths
    parts: dict[str, nn.Module] = {
        "fuse": nn.ModuleList(Conv(level, width, 1) for level, width in zip(levels, widths[:3], strict=True)),
        "stage32": nn.Sequential(Conv(w16, w32, 3, 2), SPPF(w32, w32)),
        "top16": CSPBlock(w32 + w16, w16),
        "top8": CSPBlock(w16 + w8, w8),
        "top4": Conv(w8 + w4, w4, 1),
    }
    if bottom_up:
        parts["down16"] = Conv(w8, w8, 3, 2)
        parts["out16"] = CSPBlock(w8 + w16, w16)
        parts["down32"] = Conv(w16, w16, 3, 2)
        parts["out32"] = CSPBlock(w16 + w32, w32)
    return parts


NECKS: dict[str, Neck] = {
    "plain": plain_neck,
    "yolo11": partial(yolo_neck, 11),
    "yolo26": partial(yolo_neck, 26),
}


class Pyramid(Trunk):
    """A feature pyramid neck over features at strides 4, 8 and 16, which have ``levels`` channels.

    Gives features at strides 4, 8, 16 and 32 with ``widths`` channels: FPN's (Lin et al. 2017), for heads that read the
    finest; with ``bottom_up``, for heads that read them all, PANet's (Liu et al. 2018) from stride 8 on.
    """

    strides = (4, 8, 16, 32)

    fuse: nn.ModuleList
    stage32: nn.Module
    top16: nn.Module
    top8: nn.Module
    top4: nn.Module
    down16: nn.Module
    out16: nn.Module
    down32: nn.Module
    out32: nn.Module

    def __init__(self, levels: list[int], widths: list[int], bottom_up: bool = True, neck: Neck = plain_neck) -> None:
        super().__init__()
        self._lay_out(levels, widths, bottom_up, neck)

    def _lay_out(self, levels: list[int], widths: list[int], bottom_up: bool, neck: Neck) -> None:
        self.widths, self.bottom_up = widths, bottom_up
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        for name, part in neck(levels, widths, bottom_up).items():
            self.add_module(name, part)

    def features(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the features at strides 4, 8, 16 and 32 from a backbone's at 4, 8 and 16."""
        p4, p8, p16 = (fuse(level) for fuse, level in zip(self.fuse, levels, strict=True))
        p32 = self.stage32(p16)
        t16 = self.top16(torch.cat([self.up(p32), p16], 1))
        t8 = self.top8(torch.cat([self.up(t16), p8], 1))
        t4 = self.top4(torch.cat([self.up(t8), p4], 1))
        if not self.bottom_up:
            return [t4, t8, t16, p32]
        o16 = self.out16(torch.cat([self.down16(t8), t16], 1))
        o32 = self.out32(torch.cat([self.down32(o16), p32], 1))
        return [t4, t8, o16, o32]


class ConcatTrunk(Pyramid):
    """One backbone a modality; a 1×1 convolution over the concatenated features fuses each level; one neck."""

    def __init__(
        self, backbones: dict[str, Backbone], widths: list[int], bottom_up: bool = True, neck: Neck = plain_neck
    ) -> None:
        nn.Module.__init__(self)
        self.backbones = nn.ModuleDict(backbones)  # before the neck: parameters are listed in the order they run in
        levels = zip(*(backbone.widths for backbone in backbones.values()), strict=True)
        self._lay_out([sum(level) for level in levels], widths, bottom_up, neck)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features at strides 4, 8, 16 and 32 for one image a modality, (B, C, H, W) each."""
        return self._fused(self._by_level(images))

    def supports(self, feature: Feature) -> bool:
        """The auxiliary loss: a modality's own features are the neck's where the others' are zero."""
        return feature == "unimodal_aux_loss" and len(self.backbones) > 1

    def stream_features(self, images: dict[str, Tensor]) -> StreamFeatures:
        """Return the fused features and each modality's own; these leave the neck's batch statistics as they are."""
        by_level = self._by_level(images)
        fused, unimodal = self._fused(by_level), []
        with unchanged_statistics(self):
            for index in range(len(self.backbones)):
                others = [[torch.zeros_like(f) if k != index else f for k, f in enumerate(fs)] for fs in by_level]
                unimodal.append(self._fused(others))
        return StreamFeatures(fused, [list(level) for level in zip(*unimodal, strict=True)], [None] * len(unimodal))

    def _by_level(self, images: dict[str, Tensor]) -> list[list[Tensor]]:
        streams = [backbone(images[name]) for name, backbone in self.backbones.items()]
        return [list(level) for level in zip(*streams, strict=True)]

    def _fused(self, by_level: list[list[Tensor]]) -> list[Tensor]:
        return self.features([torch.cat(level, 1) for level in by_level])

    def modality_slices(self) -> Slices:
        """Return the columns of the fusing convolutions."""
        return {f"fuse.{level}.conv.weight": {1: widths} for level, widths in enumerate(self._level_widths())}

    def _level_widths(self) -> list[dict[str, int]]:
        widths = {name: backbone.widths for name, backbone in self.backbones.items() if isinstance(backbone, Backbone)}
        return [{name: levels[k] for name, levels in widths.items()} for k in range(3)]


@contextmanager
def unchanged_statistics(network: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisations as they are, in training too."""
    norms = [(m, m.momentum) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        for norm, _ in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum


class EarlyFusionTrunk(Pyramid):
    """One backbone on the modalities' images, concatenated along their channels."""

    def __init__(
        self,
        channels: dict[str, int],
        backbone: Backbone,
        widths: list[int],
        bottom_up: bool = True,
        neck: Neck = plain_neck,
    ) -> None:
        nn.Module.__init__(self)
        self.channels, self.backbone = channels, backbone
        self._lay_out(backbone.widths, widths, bottom_up, neck)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the features at strides 4, 8, 16 and 32 for one image a modality, (B, C, H, W) each."""
        return self.features(self.backbone(torch.cat([images[name] for name in self.channels], 1)))

    def modality_slices(self) -> Slices:
        """Return the columns of the first convolution."""
        path = next(path for path, module in self.backbone.named_modules() if isinstance(module, nn.Conv2d))
        return {f"backbone.{path}.weight": {1: self.channels}}


LEVELS = ("p2", "p3", "p4")
"""Where streams can be fused: the features at strides 4, 8 and 16."""


class MidFusionTrunk(Pyramid):
    """Each modality's stages up to the features at ``level``, a 1×1 convolution over them all, then one stream.

    The neck reads the finer features of all modalities. The one stream has the first modality's further stages. Raises
    `ValueError` when ``level`` is not known, or a backbone cannot be split into stages.
    """

    def __init__(
        self,
        backbones: dict[str, Backbone],
        channels: dict[str, int],
        widths: list[int],
        level: str = "p3",
        bottom_up: bool = True,
        neck: Neck = plain_neck,
    ) -> None:
        super(Pyramid, self).__init__()
        if level not in LEVELS:
            raise ValueError(f"fusion: '{level}' is not one of {', '.join(LEVELS)}")
        last = 2 + LEVELS.index(level)
        split = {modality: stages(backbone, channels[modality]) for modality, backbone in backbones.items()}
        first = next(iter(split.values()))
        levels = [list(level) for level in zip(*(backbone.widths for backbone in backbones.values()), strict=True)]
        self.streams = nn.ModuleDict(
            {modality: nn.ModuleList(parts[k] for k in range(1, last + 1)) for modality, parts in split.items()}
        )
        self.join = Conv(sum(levels[last - 2]), levels[last - 2][0], 1)
        self._level_widths = [dict(zip(backbones, level, strict=True)) for level in levels[: last - 1]]
        self.rest = nn.ModuleList(first[k] for k in range(last + 1, 5))
        read = [sum(level) if k < last else level[0] for k, level in enumerate(levels, 2)]
        self._lay_out(read, widths, bottom_up, neck)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the features at strides 4, 8, 16 and 32 for one image a modality, (B, C, H, W) each."""
        streams = []
        for modality, parts in self.streams.items():
            features = [images[modality]]
            for stage in parts.children():
                features.append(stage(features[-1]))
            streams.append(features[2:])
        concatenated = [torch.cat(level, 1) for level in zip(*streams, strict=True)]
        fused = [*concatenated[:-1], self.join(concatenated[-1])]
        for stage in self.rest:
            fused.append(stage(fused[-1]))
        return self.features(fused)

    def modality_slices(self) -> Slices:
        """Return the columns of the convolutions over the levels that every modality has."""
        *finer, last = self._level_widths
        return {
            **{f"fuse.{level}.conv.weight": {1: widths} for level, widths in enumerate(finer)},
            "join.conv.weight": {1: last},
        }
