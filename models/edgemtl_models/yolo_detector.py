"""A detector of ultralytics as a plain network: raw boxes and scores out of the branch that is deployed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

HEADS = ("Detect", "v10Detect")
"""Layers of ultralytics whose outputs are boxes alone."""


class YoloDetector(nn.Module):
    """Images (B, 3, H, W) in RGB from 0 to 1 to ``boxes`` (B, 4, A) and ``scores`` (B, classes, A).

    Boxes are the distances from a cell's centre to the left, top, right and bottom side, in cells; scores are logits.
    A network with a one-to-one branch (v10, 26) answers by that one, any other by its only one. The weights are those
    of ``network``, which is trained with them.
    """

    def __init__(self, network: nn.Module) -> None:
        """``network`` is a ``DetectionModel``. Raises ValueError where its last layer gives more than boxes."""
        super().__init__()
        self.network = network
        layers: Any = network.model
        if type(layers[-1]).__name__ not in HEADS:
            raise ValueError(f"ends in {type(layers[-1]).__name__}, which gives more than boxes")

    @property
    def head(self) -> Any:
        """The detection layer."""
        layers: Any = self.network.model
        return layers[-1]

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a cell, by level."""
        return tuple(int(stride) for stride in self.head.stride)

    @property
    def is_one_to_one(self) -> bool:
        """Whether each object has one box, so that none is suppressed: where there is a one-to-one branch."""
        return getattr(self.head, "one2one_cv2", None) is not None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the raw boxes and scores of every cell."""
        features = self._features(images)
        branch = self.head.one2one if self.is_one_to_one else self.head.one2many
        raw = self.head.forward_head(features, **branch)
        return {"boxes": self.head.dfl(raw["boxes"]), "scores": raw["scores"]}

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return what the detection layer reads: each layer reads the one before it, or those that its ``f`` names."""
        layers: Any = self.network.model
        outputs: list[Tensor] = []
        x = images
        for number in range(len(layers) - 1):
            x = layers[number](_inputs(layers[number].f, x, outputs))
            outputs.append(x)
        return [outputs[index] for index in self.head.f]


def _inputs(sources: int | list[int], last: Tensor, outputs: list[Tensor]) -> Any:
    """Return what a layer reads: the output before it, or of one layer or several by their numbers."""
    if isinstance(sources, int):
        return last if sources == -1 else outputs[sources]
    return [last if index == -1 else outputs[index] for index in sources]


def cells(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the centres of all cells, (2, A) x y in pixels of an input of ``size``, and their strides, (1, A)."""
    centres, steps = [], []
    for stride in strides:
        rows, columns = -(-size[0] // stride), -(-size[1] // stride)
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()]) * stride)
        steps.append(torch.full((1, rows * columns), float(stride)))
    return torch.cat(centres, 1), torch.cat(steps, 1)
