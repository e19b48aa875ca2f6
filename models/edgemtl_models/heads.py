"""Heads for dense tasks."""

from __future__ import annotations

from torch import Tensor, nn

from .yolo import Conv


class DenseHead(nn.Module):
    """Two convolutions on the stride-4 features: (B, classes, H / 4, W / 4) logits.

    The finest fused level has already met the coarser ones in the trunk's top-down path: a light head is enough.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.conv = Conv(channels, width, 3)
        self.out = nn.Conv2d(width, classes, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """Return logits at stride 4."""
        return self.out(self.conv(feature))
