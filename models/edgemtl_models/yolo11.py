"""Backbone and neck of YOLO11 and YOLO26, so that their trained weights can start a stream for each camera.

The layers, their order and their widths are those that the YOLO family publishes; parameters have its names.
Cross-stage partial blocks hold bottlenecks or smaller such blocks (Wang et al. 2020, arXiv 1911.11929), the deepest one
attention over positions (Vaswani et al. 2017; in this form YOLOv10, Wang et al. 2024, arXiv 2405.14458). The attribute
`LAYER` of a module is its number in the published list, by which its weights are looked up in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .blocks import SPPF, Bottleneck, Conv, CSPBlock

LAYER = "yolo_layer"
SCALES = {"n": 0.25, "s": 0.5}
"""Share of the widths that the largest networks are described with."""
EPSILON, MOMENTUM = 1e-3, 0.03
"""Of the family's batch normalisations."""
HEAD_WIDTH = 64
"""Channels of a head of attention."""
Release = Literal[11, 26]
M = TypeVar("M", bound=nn.Module)


class CSPStack(nn.Module):
    """A cross-stage partial block with three convolutions and bottlenecks that keep all channels (C3k)."""

    def __init__(self, channels: int, count: int = 2) -> None:
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2, self.cv3 = Conv(channels, half), Conv(channels, half), Conv(2 * half, channels)
        self.m = nn.Sequential(*(Bottleneck(half, half) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed channels."""
        out: Tensor = self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))
        return out


class Attention(nn.Module):
    """Self-attention over all positions, with keys of half a head's width and a depthwise position encoding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // HEAD_WIDTH, 1)
        self.width = channels // self.heads
        self.key = self.width // 2
        self.qkv = Conv(channels, channels + 2 * self.key * self.heads, activated=False)
        self.proj = Conv(channels, channels, activated=False)
        self.pe = Conv(channels, channels, 3, groups=channels, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what every position reads of the others."""
        batch, channels, height, width = x.shape
        parts = self.qkv(x).view(batch, self.heads, 2 * self.key + self.width, height * width)
        query, key, value = parts.split([self.key, self.key, self.width], 2)
        shares = (query.transpose(-2, -1) @ key * self.key**-0.5).softmax(-1)
        read = (value @ shares.transpose(-2, -1)).view(batch, channels, height, width)
        out: Tensor = self.proj(read + self.pe(value.reshape(batch, channels, height, width)))
        return out


class AttentionBlock(nn.Module):
    """Attention and a feed-forward network of two convolutions, each added to what came in (PSA)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = Attention(channels)
        self.ffn = nn.Sequential(Conv(channels, 2 * channels), Conv(2 * channels, channels, activated=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        x = x + self.attn(x)
        out: Tensor = x + self.ffn(x)
        return out


class PartialAttention(nn.Module):
    """Half of the channels through an attention block, the others past it (C2PSA)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2 = Conv(channels, 2 * half), Conv(2 * half, channels)
        self.m = nn.Sequential(AttentionBlock(half))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed channels."""
        past, through = self.cv1(x).chunk(2, 1)
        out: Tensor = self.cv2(torch.cat([past, self.m(through)], 1))
        return out


def block(channels: int, outputs: int, kind: Literal["plain", "stack", "attention"], share: float = 0.5) -> CSPBlock:
    """Return a block that is concatenated along its way (C3k2), with one of three inner modules."""
    half = int(outputs * share)
    if kind == "plain":
        return CSPBlock(channels, outputs, half)
    inner = CSPStack(half) if kind == "stack" else nn.Sequential(Bottleneck(half), AttentionBlock(half))
    return CSPBlock(channels, outputs, half, inner)


class Yolo11Backbone(Backbone):
    """The layers of YOLO11 and of YOLO26 up to stride 16; ``scale`` is that of the network, n or s."""

    def __init__(self, channels: int, scale: str = "n") -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"scale '{scale}' is not one of {', '.join(SCALES)}")
        c2, c4, c8, c16 = (int(width * SCALES[scale]) for width in (64, 128, 256, 512))
        self.stem = numbered(0, Conv(channels, c2, 3, 2))
        self.stage4 = nn.Sequential(numbered(1, Conv(c2, c4, 3, 2)), numbered(2, block(c4, c8, "plain", 0.25)))
        self.stage8 = nn.Sequential(numbered(3, Conv(c8, c8, 3, 2)), numbered(4, block(c8, c16, "plain", 0.25)))
        self.stage16 = nn.Sequential(numbered(5, Conv(c16, c16, 3, 2)), numbered(6, block(c16, c16, "stack")))
        self.widths = [c8, c16, c16]
        normalise_as_yolo(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at strides 4, 8 and 16."""
        c4: Tensor = self.stage4(self.stem(image))
        c8: Tensor = self.stage8(c4)
        return [c4, c8, self.stage16(c8)]


class MeanConv(nn.Module):
    """A 1×1 convolution without more that begins as the mean of as many maps as its input is times its output."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 1, bias=False)
        count = channels // outputs
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(outputs).repeat(1, count)[:, :, None, None] / count)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed channels."""
        out: Tensor = self.conv(x)
        return out


def yolo_neck(release: Release, levels: Sequence[int], widths: Sequence[int], bottom_up: bool) -> dict[str, nn.Module]:
    """Return the parts of a `Pyramid` as YOLO11 or YOLO26 has them, for one backbone's features or several's.

    ``widths`` are those of the published network at strides 8, 16 and 32, that at stride 4 is free: it is fused with
    layers of its own, which are in no checkpoint.
    """
    w4, w8, w16, w32 = widths
    published = [w8, 2 * w8, w16]  # of the backbone
    if any(level % width for level, width in zip(levels, published, strict=True)) or w32 != 2 * w16:
        raise ValueError(f"a neck of YOLO with {widths[1:]} channels reads {published}, not {list(levels)}")
    inner: Literal["plain", "stack"] = "plain" if release == 11 else "stack"
    read = zip(levels[1:], published[1:], strict=True)
    joined = [nn.Identity() if level == width else MeanConv(level, width) for level, width in read]
    pooled = SPPF(w32, w32, activated=release == 11, added=release == 26)
    deepest = [Conv(w16, w32, 3, 2), block(w32, w32, "stack"), pooled, PartialAttention(w32)]
    parts: dict[str, nn.Module] = {
        "fuse": nn.ModuleList([Conv(levels[0], w4), *joined]),
        "stage32": nn.Sequential(*(numbered(number, layer) for number, layer in enumerate(deepest, 7))),
        "top16": numbered(13, block(w32 + w16, w16, inner)),
        "top8": numbered(16, block(w16 + 2 * w8, w8, inner)),
        "top4": Conv(w8 + w4, w4, 1),
    }
    if bottom_up:
        parts["down16"] = numbered(17, Conv(w8, w8, 3, 2))
        parts["out16"] = numbered(19, block(w8 + w16, w16, inner))
        parts["down32"] = numbered(20, Conv(w16, w16, 3, 2))
        parts["out32"] = numbered(22, block(w16 + w32, w32, "stack" if release == 11 else "attention"))
    for part in parts.values():
        normalise_as_yolo(part)
    return parts


def numbered(number: int, layer: M) -> M:
    """Return a layer with its number in the published list."""
    setattr(layer, LAYER, number)
    return layer


def normalise_as_yolo(network: nn.Module) -> None:
    """Give a network's batch normalisations the constants of the family."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = EPSILON, MOMENTUM
