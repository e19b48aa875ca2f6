"""Levels: what has a strength of its own, the whole network, the layers of one resolution, or a layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .partition import Partition
from .settings import Granularity


def assign_levels(
    partition: Partition, granularity: Granularity, positions: Mapping[str, int], pixels: int
) -> tuple[list[str], Tensor]:
    """Return the names of the levels, and each group's level: that of the first weight in it.

    ``positions`` are those of an image that each weight is applied at, of an image of so many ``pixels``.
    """
    first = torch.full((partition.count,), -1)
    names = [n for n in partition.names if n in positions]
    for index, name in reversed(list(enumerate(names))):
        first[partition.groups_of(name)] = index
    if granularity == "global":
        return ["all"], torch.zeros_like(first)
    labels = names if granularity == "layer" else [_stage(positions[name], pixels) for name in names]
    levels = list(dict.fromkeys(labels))
    return levels, torch.tensor([levels.index(label) for label in labels])[first]


def _stage(positions: int, pixels: int) -> str:
    """Return the stage of a weight by the stride of its output."""
    return "image" if positions == 1 else f"stride {round((pixels / positions) ** 0.5)}"
