"""Cost metrics of a pruned network by formula: parameters and floating-point operations.

Latency, which is measured, is `cost_model.deployed_latency`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..analysis.ops.convolution import CONVOLUTIONS, TRANSPOSED
from ..groups import CoupledChannels, Groups, Sizes
from ..program import Program, op_name

MetricName = Literal["parameters", "flops", "latency"]
Mask = NDArray[np.bool_]


class CostMetric(Protocol):
    """A cost of a network as a function of which channel groups are pruned."""

    def __call__(self, pruned: Mask | None = None) -> float:
        """Return the cost without the channels that are ``pruned``, (groups.count,)."""

    def reductions(self, pruned: Mask | None = None) -> NDArray[np.float64]:
        """Return the cost reduction of pruning one channel more, (groups.count,), each by itself."""


class Parameters:
    """The number of trainable parameters whose names begin with a prefix."""

    def __init__(self, groups: Groups, prefix: str = "") -> None:
        self.sizes = Sizes(groups, prefix)

    def __call__(self, pruned: Mask | None = None) -> float:
        """Return the count."""
        return float(self.sizes(pruned).prod(1).sum())

    def reductions(self, pruned: Mask | None = None) -> NDArray[np.float64]:
        """Return the parameters that each channel's removal takes away."""
        sizes = self.sizes(pruned)
        return self.sizes.over_groups(sizes.prod(1, keepdims=True) / np.maximum(sizes, 1))


class Flops:
    """Floating-point operations of one pass, two a multiply-add, of convolutions and linear layers.

    ``positions`` gives the number of positions of an image that each weight is applied at.
    """

    def __init__(self, groups: Groups, positions: dict[str, int], prefix: str = "") -> None:
        self.sizes = Sizes(groups, prefix)
        self.per_weight = 2 * np.array([positions.get(name, 0) for name in self.sizes.names], np.int64)

    def __call__(self, pruned: Mask | None = None) -> float:
        """Return the count."""
        return float(self.per_weight @ self.sizes(pruned).prod(1))

    def reductions(self, pruned: Mask | None = None) -> NDArray[np.float64]:
        """Return the operations that each channel's removal takes away."""
        sizes = self.sizes(pruned)
        return self.sizes.over_groups(self.per_weight[:, None] * sizes.prod(1, keepdims=True) / np.maximum(sizes, 1))


def cost_metric(metric: Literal["parameters", "flops"], coupled: CoupledChannels, scope: str = "") -> CostMetric:
    """Return a cost of a network by its channels, or of a part of it like "trunk" (``scope``)."""
    prefix = f"{scope}." if scope else ""
    if metric == "parameters":
        return Parameters(coupled.groups(), prefix)
    return Flops(coupled.groups(), positions(coupled.program), prefix)


def positions(program: Program) -> dict[str, int]:
    """Return at how many positions of an image each weight of a convolution or linear layer is applied, by its name.

    A weight that is used several times counts each of them.
    """
    counted: dict[str, int] = {}
    sources = program.sources
    for node in program.graph.nodes:
        name = op_name(node) if node.op == "call_function" else ""
        if name not in CONVOLUTIONS and name != "aten.linear":
            continue
        weight: Any = node.args[1]
        if weight not in sources:
            continue
        transposed = name in TRANSPOSED or (name == "aten.convolution" and node.args[6] is True)
        applied: Any = node.args[0] if transposed else node
        shape = [int(size) for size in applied.meta["val"].shape]
        channels = shape[-1] if name == "aten.linear" else shape[1]
        count = math.prod(shape) // channels // (shape[0] if len(shape) > 1 else 1)
        counted[sources[weight]] = counted.get(sources[weight], 0) + count
    return counted
