"""Heads for dense tasks and for what holds of the whole picture; each takes the trunk's features, finest first."""

from __future__ import annotations

from torch import Tensor, nn

from .yolo import Conv


class DenseHead(nn.Module):
    """A task's own way down the pyramid to stride 4, one convolution there and one output: (B, outputs, H / 4, W / 4).

    From the coarsest level on, what was found is doubled in size and the next level's part is added, each by a 1×1
    convolution of the task's own: so tasks share the levels and not the mixture of them, as they would in the pyramid's
    finest level.
    """

    def __init__(self, channels: list[int], outputs: int, width: int = 32) -> None:
        super().__init__()
        self.take = nn.ModuleList(Conv(count, width, 1) for count in channels)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.conv = Conv(width, width, 3)
        self.out = nn.Conv2d(width, outputs, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the outputs at stride 4."""
        parts = [take(feature) for take, feature in zip(self.take, features, strict=True)]
        total = parts.pop()
        while parts:
            total = self.up(total) + parts.pop()
        return self.out(self.conv(total))


class PictureHead(nn.Module):
    """A linear layer on the mean of the coarsest features: (B, outputs)."""

    def __init__(self, channels: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.conv = Conv(channels, width, 1)
        self.out = nn.Linear(width, outputs)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return one number an output."""
        return self.out(self.conv(features[-1]).mean((2, 3)))
