"""Inputs of a network: camera bytes normalised in the graph, and example images to trace it with."""

from __future__ import annotations

import torch
from torch import Tensor

from edgemtl_runtime.bundle import Input


def normalise(image: Tensor, spec: Input) -> Tensor:
    """Return (B, C, H, W) camera values in [0, 255] normalised: (x / 255 - mean) / std.

    A graph computes it on every image: scaled first, and shifted only where there is a mean.
    """
    std = torch.tensor(spec.std, device=image.device).view(1, -1, 1, 1)
    scaled = image.float() * (1 / (255 * std))
    return scaled - torch.tensor(spec.mean, device=image.device).view(1, -1, 1, 1) / std if any(spec.mean) else scaled


def example_inputs(inputs: tuple[Input, ...], batch: int = 1) -> dict[str, Tensor]:
    """Return normalised example images by name, (batch, C, H, W), to trace a network with."""
    generator = torch.Generator().manual_seed(0)
    return {
        spec.name: normalise(
            torch.randint(0, 256, (batch, spec.channels, spec.height, spec.width), generator=generator), spec
        )
        for spec in inputs
    }
