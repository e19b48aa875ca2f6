"""Cost metrics of a pruned network by formula: parameters and floating-point operations.

Latency, which is measured, is `cost_model.deployed_latency`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..groups import Groups, Sizes

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


def cost_metric(
    metric: Literal["parameters", "flops"],
    network: nn.Module,
    groups: Groups,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    scope: str = "",
) -> CostMetric:
    """Return a cost of a network in evaluation mode, or of a part of it like "trunk" (``scope``)."""
    prefix = f"{scope}." if scope else ""
    if metric == "parameters":
        return Parameters(groups, prefix)
    return Flops(groups, positions(network, args, kwargs), prefix)


@torch.no_grad()
def positions(network: nn.Module, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> dict[str, int]:
    """Return at how many positions of an image each convolution and linear layer is applied, by its weight's name.

    The network is run in evaluation mode on example inputs.
    """
    counted: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
            transposed = isinstance(module, _ConvNd) and module.transposed
            applied = args[0] if transposed else out
            channels = applied.shape[-1] if isinstance(module, nn.Linear) else applied.shape[1]
            counted[name] = counted.get(name, 0) + applied.numel() // channels // applied.shape[0]

        return hook

    hooks = [
        module.register_forward_hook(note(f"{path}.weight"))
        for path, module in network.named_modules()
        if isinstance(module, _ConvNd | nn.Linear)
    ]
    try:
        network(*args, **(kwargs or {}))
    finally:
        for hook in hooks:
            hook.remove()
    return counted
