"""Heads for dense tasks and for image-level attributes; each takes the trunk's features, finest first."""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import Conv


class DenseHead(nn.Module):
    """A task-specific top-down path to stride 4, a convolution and an output layer: (B, outputs, H / 4, W / 4).

    From the coarsest level on, the sum so far is upsampled by two and the next level is added, each level by a 1×1
    convolution of the task: so tasks share the levels and not the mixture of them, as they would in the neck's finest
    level. Outputs are ``offset`` + ``scale`` times the last layer's: the mean and deviation of numbers in units.
    """

    def __init__(
        self, channels: list[int], outputs: int, width: int = 32, offset: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.offset, self.scale = offset, scale
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
        out: Tensor = self.out(self.conv(total))
        return out if (self.offset, self.scale) == (0, 1) else self.offset + self.scale * out


class ImageHead(nn.Module):
    """A linear layer on the mean of the coarsest features: (B, outputs)."""

    def __init__(self, channels: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.conv = Conv(channels, width, 1)
        self.out = nn.Linear(width, outputs)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return one number for each output."""
        out: Tensor = self.out(self.conv(features[-1]).mean((2, 3)))
        return out
