"""Trunks of one camera or several: a backbone each, fused level by level, and a neck over the fused features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .staging import stages
from .yolo import SPPF, C3k2, Conv


class Pyramid(nn.Module):
    """A neck over features at strides 4, 8 and 16, which have ``levels`` channels.

    Gives features at strides 4, 8, 16 and 32 with ``widths`` channels: FPN's (Lin et al. 2017), for heads that read the
    finest; with ``bottom_up``, for heads that read them all, PANet's (Liu et al. 2018) from stride 8 on.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, levels: list[int], widths: list[int], bottom_up: bool = True) -> None:
        super().__init__()
        self._lay_out(levels, widths, bottom_up)

    def _lay_out(self, levels: list[int], widths: list[int], bottom_up: bool) -> None:
        w4, w8, w16, w32 = widths
        self.widths = widths
        self.fuse = nn.ModuleList(Conv(level, width, 1) for level, width in zip(levels, widths[:3], strict=True))
        self.stage32 = nn.Sequential(Conv(w16, w32, 3, 2), SPPF(w32, w32))
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.top16 = C3k2(w32 + w16, w16)
        self.top8 = C3k2(w16 + w8, w8)
        self.top4 = Conv(w8 + w4, w4, 1)
        self.bottom_up = bottom_up
        if not bottom_up:
            return
        self.down16 = Conv(w8, w8, 3, 2)
        self.out16 = C3k2(w8 + w16, w16)
        self.down32 = Conv(w16, w16, 3, 2)
        self.out32 = C3k2(w16 + w32, w32)

    def mixed(self, levels: list[Tensor]) -> list[Tensor]:
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


class Trunk(Pyramid):
    """One backbone a camera; a 1×1 convolution fuses each level; one pyramid mixes the levels."""

    def __init__(self, backbones: dict[str, nn.Module], widths: list[int], bottom_up: bool = True) -> None:
        nn.Module.__init__(self)
        self.backbones = nn.ModuleDict(backbones)  # before the pyramid: parameters are told in the order they run in
        levels = zip(*(backbone.widths for backbone in backbones.values()), strict=True)
        self._lay_out([sum(level) for level in levels], widths, bottom_up)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features at strides 4, 8, 16 and 32 for one image a camera, (B, C, H, W) each."""
        streams = [backbone(images[name]) for name, backbone in self.backbones.items()]
        return self.mixed([torch.cat(level, 1) for level in zip(*streams, strict=True)])


class EarlyTrunk(Pyramid):
    """One backbone on the cameras' pictures beside each other, as the channels of one."""

    def __init__(self, cameras: list[str], backbone: nn.Module, widths: list[int], bottom_up: bool = True) -> None:
        nn.Module.__init__(self)
        self.cameras, self.backbone = cameras, backbone
        self._lay_out(backbone.widths, widths, bottom_up)  # type: ignore[arg-type]

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the features at strides 4, 8, 16 and 32 for one image a camera, (B, C, H, W) each."""
        return self.mixed(self.backbone(torch.cat([images[name] for name in self.cameras], 1)))


JOINTS = ("p2", "p3", "p4")
"""Where streams can become one: the features at strides 4, 8 and 16."""


class JoinedTrunk(Pyramid):
    """Each camera's stages up to the features ``at``, a 1×1 convolution over them all, and one stream from there on.

    The neck reads the finer features of all cameras. The one stream goes on as the first camera's. Raises `ValueError`
    when ``at`` is not known, or a backbone cannot be taken apart.
    """

    def __init__(
        self,
        backbones: dict[str, nn.Module],
        channels: dict[str, int],
        widths: list[int],
        at: str = "p3",
        bottom_up: bool = True,
    ) -> None:
        super(Pyramid, self).__init__()
        if at not in JOINTS:
            raise ValueError(f"fusion: '{at}' is not one of {', '.join(JOINTS)}")
        last = 2 + JOINTS.index(at)
        taken = {camera: stages(backbone, channels[camera]) for camera, backbone in backbones.items()}
        first = next(iter(taken.values()))
        levels = [list(level) for level in zip(*(backbone.widths for backbone in backbones.values()), strict=True)]  # type: ignore[arg-type]
        self.streams = nn.ModuleDict(
            {camera: nn.ModuleList(theirs[k] for k in range(1, last + 1)) for camera, theirs in taken.items()}
        )
        self.join = Conv(sum(levels[last - 2]), levels[last - 2][0], 1)
        self.rest = nn.ModuleList(first[k] for k in range(last + 1, 5))
        self._lay_out([sum(level) if k < last else level[0] for k, level in enumerate(levels, 2)], widths, bottom_up)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the features at strides 4, 8, 16 and 32 for one image a camera, (B, C, H, W) each."""
        streams = []
        for camera, stages_ in self.streams.items():
            features = [images[camera]]
            for stage in stages_:  # type: ignore[union-attr]
                features.append(stage(features[-1]))
            streams.append(features[2:])
        beside = [torch.cat(level, 1) for level in zip(*streams, strict=True)]
        joined = [*beside[:-1], self.join(beside[-1])]
        for stage in self.rest:
            joined.append(stage(joined[-1]))
        return self.mixed(joined)
