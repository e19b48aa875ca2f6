"""Whole networks with some of their channels pruned, as ONNX without weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ..groups import CoupledChannels
from ..shrink import shrink
from ..to_onnx import onnx_of
from ..tracing import evaluation_copy
from .block_onnx import without_weights

Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]
MULTIPLE = 8
"""Layers keep multiples of so many channels, those of 16 and more."""


class Patterns:
    """Patterns of pruned groups, a share of every layer's."""

    def __init__(self, count: int, layers: Sequence[Ids]) -> None:
        """``layers`` are the groups, of ``count``, that layers read and make, -1 for what stays."""
        self.count = count
        part = np.zeros(count, np.int64)
        for ids in layers:
            inside = np.zeros(count, np.int64)
            inside[ids[ids >= 0]] = 1
            part = np.unique(2 * part + inside, return_inverse=True)[1]
        self.parts = [np.flatnonzero(part == p) for p in np.unique(part)]
        """The groups that are in all the same layers."""

    def kept(self, ratios: Sequence[float] | NDArray[np.float64]) -> Mask:
        """Return the pattern that keeps a ratio of every part."""
        pruned = np.zeros(self.count, bool)
        for groups, ratio in zip(self.parts, ratios, strict=True):
            size = len(groups)
            keep = max(1, round(size * ratio / MULTIPLE)) * MULTIPLE if size >= 2 * MULTIPLE else size
            pruned[groups[min(keep, size) :]] = True
        return pruned

    def random(self, rng: np.random.Generator, least: float = 0.25, most: float = 1.0) -> Mask:
        """Return a pattern whose ratios are uniform."""
        return self.kept(rng.uniform(least, most, len(self.parts)))

    def spread(self, number: int) -> list[Mask]:
        """Return patterns of which every second keeps ratios around one value, from narrow to wide."""
        rng = np.random.default_rng(0)
        middles = np.linspace(0.3, 0.9, (number + 1) // 2)
        return [
            self.random(rng) if n % 2 else self.random(rng, max(0.2, middles[n // 2] - 0.1), middles[n // 2] + 0.1)
            for n in range(number)
        ]


def network_model(
    network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], coupled: CoupledChannels, pruned: Mask
) -> onnx.ModelProto:
    """Return the ONNX of a network without the ``pruned`` groups, (groups,), whose weights are one number each."""
    narrow = evaluation_copy(network, share=False)
    with torch.no_grad():
        for number, parameter in enumerate(narrow.parameters()):
            if parameter.is_floating_point():  # or what is zero already would go as well
                generator = torch.Generator().manual_seed(number)
                parameter.copy_(0.1 + 0.05 * torch.randn(parameter.shape, generator=generator))
        named = dict(narrow.named_parameters())
        groups = coupled.groups()
        for name, rows in groups.rows.items():
            zero = torch.from_numpy((rows >= 0) & pruned[np.maximum(rows, 0)])
            named[name].movedim(groups.axis(name), 0)[zero] = 0.0
    return onnx_without_weights(narrow, args, kwargs)


def onnx_without_weights(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> onnx.ModelProto:
    """Return the ONNX of a network that is shrunk first, whose weights are one number each."""
    small = shrink(network, args, kwargs, verify=False)
    return without_weights(onnx_of(small.program))
