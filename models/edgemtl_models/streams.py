"""Trunks of one camera or several: a backbone each, fused level by level, and a neck over the fused features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .yolo import SPPF, C3k2, Conv


class Trunk(nn.Module):
    """One backbone a camera; a 1×1 convolution fuses each level; a feature pyramid mixes the levels.

    Gives features at strides 4, 8, 16 and 32 with ``widths`` channels: FPN's (Lin et al. 2017), for heads that read the
    finest; with ``bottom_up``, for heads that read them all, PANet's (Liu et al. 2018) from stride 8 on.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, backbones: dict[str, nn.Module], widths: list[int], bottom_up: bool = True) -> None:
        super().__init__()
        w4, w8, w16, w32 = widths
        self.widths = widths
        self.backbones = nn.ModuleDict(backbones)
        levels = zip(*(backbone.widths for backbone in backbones.values()), strict=True)
        self.fuse = nn.ModuleList(Conv(sum(level), width, 1) for level, width in zip(levels, widths[:3], strict=True))
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

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused features at strides 4, 8, 16 and 32 for one image a camera, (B, C, H, W) each."""
        streams = [backbone(images[name]) for name, backbone in self.backbones.items()]
        p4, p8, p16 = (
            fuse(torch.cat(level, 1)) for fuse, level in zip(self.fuse, zip(*streams, strict=True), strict=True)
        )
        p32 = self.stage32(p16)
        t16 = self.top16(torch.cat([self.up(p32), p16], 1))
        t8 = self.top8(torch.cat([self.up(t16), p8], 1))
        t4 = self.top4(torch.cat([self.up(t8), p4], 1))
        if not self.bottom_up:
            return [t4, t8, t16, p32]
        o16 = self.out16(torch.cat([self.down16(t8), t16], 1))
        o32 = self.out32(torch.cat([self.down32(o16), p32], 1))
        return [t4, t8, o16, o32]
