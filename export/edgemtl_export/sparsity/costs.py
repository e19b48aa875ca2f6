"""Cost metrics of a pruned network: parameters, floating-point operations, or milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..groups import Groups, Sizes
from ..latency import Convolutions

MetricName = Literal["parameters", "flops", "ms"]
Mask = NDArray[np.bool_]
Pair = tuple[int, int]


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


class Geometry(NamedTuple):
    """What the time of a convolution depends on, besides its channels."""

    depthwise: bool
    kernel: Pair
    stride: Pair
    padding: Pair
    input_size: Pair


class Milliseconds:
    """Time of the convolutions one after the other, from a table measured on this machine (ONNX Runtime, one thread).

    Each is measured at quarters of its channels in and out; between them the time is interpolated. Layers between the
    convolutions are not counted.
    """

    def __init__(self, groups: Groups, geometry: dict[str, Geometry], prefix: str = "") -> None:
        self.sizes = Sizes(groups, prefix)
        self.geometry, self.table = geometry, Convolutions()

    def __call__(self, pruned: Mask | None = None) -> float:
        """Return the sum over convolutions, ms."""
        rows = zip(self.sizes.names, self.sizes.whole.tolist(), self.sizes(pruned).tolist(), strict=True)
        return sum(self._interpolated(name, whole, now) for name, whole, now in rows if name in self.geometry)

    def reductions(self, pruned: Mask | None = None) -> NDArray[np.float64]:
        """Return the time that each channel's removal takes away, by the slopes of the table; never negative."""
        whole, now = self.sizes.whole, self.sizes(pruned)
        slopes = np.zeros(whole.shape)
        for row, name in enumerate(self.sizes.names):
            if name in self.geometry:
                for dim in range(2):
                    above = now[row].copy()
                    above[dim] = min(max(above[dim], 1) + 1, whole[row, dim])
                    below = above.copy()
                    below[dim] -= 1
                    extents = whole[row].tolist(), above.tolist(), below.tolist()
                    after = self._interpolated(name, extents[0], extents[2])
                    slopes[row, dim] = self._interpolated(name, extents[0], extents[1]) - after
        return np.maximum(self.sizes.over_groups(slopes), 0)

    def _interpolated(self, name: str, whole: list[int], now: list[int]) -> float:
        geometry = self.geometry[name]
        if min(now[:2]) == 0:
            return 0.0
        if geometry.depthwise:
            return _between(lambda c: self._measured(c, c, geometry), whole[0], now[0])
        return _between(
            lambda c: _between(lambda d: self._measured(c, d, geometry), whole[0], now[0]), whole[1], now[1]
        )

    def _measured(self, channels: int, filters: int, geometry: Geometry) -> float:
        groups = channels if geometry.depthwise else 1
        shape = (geometry.kernel, geometry.stride, geometry.padding, geometry.input_size)
        return 1e3 * self.table(channels, filters, *shape, groups)


def _between(time: Callable[[int], float], whole: int, now: int) -> float:
    """Return the time at ``now`` channels, linear between quarters of ``whole``."""
    marks = sorted({max(1, round(whole * quarter / 4)) for quarter in range(5)})
    above = next(mark for mark in marks if mark >= now)
    below = max([mark for mark in marks if mark <= now], default=above)
    share = (now - below) / (above - below) if above > below else 0.0
    return (1 - share) * time(below) + (share * time(above) if share else 0.0)


def cost_metric(
    metric: MetricName,
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
    layers = profile(network, args, kwargs)
    return (
        Flops(groups, layers.positions, prefix) if metric == "flops" else Milliseconds(groups, layers.geometry, prefix)
    )


class Profile(NamedTuple):
    """The layers of a network in one forward pass, by the names of their weights."""

    positions: dict[str, int]
    """At how many positions of an image each convolution and linear layer is applied."""
    geometry: dict[str, Geometry]
    """Of plain and depthwise 2-d convolutions."""


@torch.no_grad()
def profile(network: nn.Module, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Profile:
    """Run a network in evaluation mode on example inputs and return what its layers were applied to."""
    layers = Profile({}, {})

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
            transposed = isinstance(module, _ConvNd) and module.transposed
            applied = args[0] if transposed else out
            channels = applied.shape[-1] if isinstance(module, nn.Linear) else applied.shape[1]
            layers.positions[name] = layers.positions.get(name, 0) + applied.numel() // channels // applied.shape[0]
            if isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple):
                depthwise = module.groups == module.in_channels == module.out_channels > 1
                if depthwise or module.groups == 1:
                    height, width = args[0].shape[2:]
                    layers.geometry[name] = Geometry(
                        depthwise,
                        _pair(module.kernel_size),
                        _pair(module.stride),
                        _pair(module.padding),
                        (height, width),
                    )

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
    return layers


def _pair(values: tuple[int, ...]) -> Pair:
    first, second = values
    return first, second
