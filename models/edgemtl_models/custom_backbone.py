"""Backbones that others wrote: any module from an image to features at strides 4, 8 and 16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .backbone import Backbone

STRIDES = (4, 8, 16)
PROBE = 128
"""Height and width of the image that shows what a module gives."""


class CustomBackbone(Backbone):
    """A module (B, C, H, W) to three feature maps, finest first; its widths are those that an image shows."""

    body_path = "body"

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.widths = feature_widths(body, channels)
        self.body = body

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at strides 4, 8 and 16."""
        return list(self.body(image))


def feature_widths(body: nn.Module, channels: int) -> list[int]:
    """Return the channels at strides 4, 8 and 16; raises `ValueError` where a module gives other features."""
    was_training = body.training
    with torch.no_grad():
        features: Any = body.eval()(torch.zeros(1, channels, PROBE, PROBE))
    body.train(was_training)
    maps = list(features) if isinstance(features, list | tuple) else [features]
    shapes = [tuple(f.shape) if isinstance(f, Tensor) else type(f).__name__ for f in maps]
    expected = [(PROBE // stride,) * 2 for stride in STRIDES]
    if [shape[2:] if isinstance(shape, tuple) and len(shape) == 4 else None for shape in shapes] != expected:
        sizes = ", ".join(f"{height}x{width}" for height, width in expected)
        raise ValueError(
            f"gives {', '.join(map(str, shapes))} for an image of {PROBE}x{PROBE}; wanted are a list of three feature "
            f"maps of {sizes}, which are strides 4, 8 and 16"
        )
    return [f.shape[1] for f in maps]


def custom(build: Callable[..., nn.Module], name: str) -> Callable[..., Backbone]:
    """Return a function that builds a backbone by ``build(channels, **options)`` and checks what it gives."""

    def checked(channels: int, **options: Any) -> Backbone:
        body = build(channels, **options)
        if not isinstance(body, nn.Module):
            raise ValueError(f"backbone '{name}' is {type(body).__name__}, not a torch.nn.Module")
        try:
            return CustomBackbone(body, channels)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"backbone '{name}' {error}") from error

    return checked
