"""Heads for dense tasks and for what holds of the whole picture; each takes the trunk's features, finest first."""

from __future__ import annotations

from torch import Tensor, nn

from .yolo import Conv


class DenseHead(nn.Module):
    """Two convolutions on the stride-4 features: (B, outputs, H / 4, W / 4).

    The finest fused level has already met the coarser ones in the trunk's top-down path: a light head is enough.
    """

    def __init__(self, channels: int, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.conv = Conv(channels, width, 3)
        self.out = nn.Conv2d(width, outputs, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the outputs at stride 4."""
        return self.out(self.conv(features[0]))


class PictureHead(nn.Module):
    """A linear layer on the mean of the coarsest features: (B, outputs)."""

    def __init__(self, channels: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.conv = Conv(channels, width, 1)
        self.out = nn.Linear(width, outputs)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return one number an output."""
        return self.out(self.conv(features[-1]).mean((2, 3)))
