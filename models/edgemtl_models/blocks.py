"""Blocks of convolutional networks: convolution and norm, cross-stage partial block, pooling pyramid.

Parameters have the names that these blocks have in the YOLO family, so that weights go from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU}


class Conv(nn.Module):
    """Convolution, batch normalisation and SiLU, padded so that a stride of 1 keeps the size."""

    def __init__(
        self, channels: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activated: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act: nn.Module = nn.SiLU() if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


def set_activation(network: nn.Module, name: str) -> None:
    """Give all activated `Conv` of a network one of `ACTIVATIONS`; raises `ValueError` where it is none of them."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation '{name}' is not one of {', '.join(ACTIVATIONS)}")
    for module in network.modules():
        if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
            module.act = ACTIVATIONS[name]()


class Bottleneck(nn.Module):
    """Two convolutions through ``inner`` channels, half of them by default, added to what came in (He et al. 2016)."""

    def __init__(self, channels: int, inner: int = 0) -> None:
        super().__init__()
        inner = inner or channels // 2
        self.cv1 = Conv(channels, inner, 3)
        self.cv2 = Conv(inner, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        out: Tensor = x + self.cv2(self.cv1(x))
        return out


class CSPBlock(nn.Module):
    """A cross-stage partial block (Wang et al. 2020, arXiv 1911.11929): half of the channels through a bottleneck.

    All that arises on the way is concatenated (ELAN, Wang et al. 2022) and mixed by a 1×1 convolution. ``half`` is how
    many channels each half has, half of the outputs by default; ``inner`` takes the bottleneck's place.
    """

    def __init__(self, channels: int, outputs: int, half: int = 0, inner: nn.Module | None = None) -> None:
        super().__init__()
        half = half or outputs // 2
        self.cv1 = Conv(channels, 2 * half)
        self.cv2 = Conv(3 * half, outputs)
        self.m = nn.ModuleList([inner or Bottleneck(half)])

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed channels."""
        parts = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        out: Tensor = self.cv2(torch.cat(parts, 1))
        return out


class SPPF(nn.Module):
    """Spatial pyramid pooling (He et al. 2015): maxima over windows of 5, 9 and 13 cells, one after the other.

    ``activated`` is of the first convolution; with ``added`` the mixed channels are added to what came in.
    """

    def __init__(self, channels: int, outputs: int, activated: bool = False, added: bool = False) -> None:
        super().__init__()
        self.added = added
        self.cv1 = Conv(channels, channels // 2, activated=activated)
        self.cv2 = Conv(4 * (channels // 2), outputs)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed channels."""
        parts: list[Tensor] = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.m(parts[-1]))
        out: Tensor = self.cv2(torch.cat(parts, 1))
        return x + out if self.added else out
