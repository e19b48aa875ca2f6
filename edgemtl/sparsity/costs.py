"""What a network costs with some of its channels gone: parameters, floating-point operations, or milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd

from edgemtl_export.groups import Groups, Sizes
from edgemtl_export.latency import Convolutions

Of = Literal["parameters", "flops", "ms"]
Gone = NDArray[np.bool_]


class Cost(Protocol):
    """A figure of a network."""

    def __call__(self, gone: Gone | None = None) -> float:
        """Return it without the channels that are ``gone``, (groups.count,)."""

    def saves(self, gone: Gone | None = None) -> NDArray[np.float64]:
        """Return what it falls by when one channel more goes, (groups.count,), each by itself."""


class Parameters:
    """How many numbers are learned, in the parts of the network whose names begin so."""

    def __init__(self, groups: Groups, part: str = "") -> None:
        self.sizes = Sizes(groups, part)

    def __call__(self, gone: Gone | None = None) -> float:
        """Return the count."""
        return float(self.sizes(gone).prod(1).sum())

    def saves(self, gone: Gone | None = None) -> NDArray[np.float64]:
        """Return what each channel's removal takes away."""
        sizes = self.sizes(gone)
        return self.sizes.over_groups(sizes.prod(1, keepdims=True) / np.maximum(sizes, 1))


class Flops:
    """Floating-point operations of one pass, two a multiply-add, of convolutions and linear layers.

    ``places`` tells how many places of a picture each weight is applied at.
    """

    def __init__(self, groups: Groups, places: dict[str, int], part: str = "") -> None:
        self.sizes = Sizes(groups, part)
        self.each = 2 * np.array([places.get(name, 0) for name in self.sizes.names], np.int64)

    def __call__(self, gone: Gone | None = None) -> float:
        """Return the count."""
        return float(self.each @ self.sizes(gone).prod(1))

    def saves(self, gone: Gone | None = None) -> NDArray[np.float64]:
        """Return what each channel's removal takes away."""
        sizes = self.sizes(gone)
        return self.sizes.over_groups(self.each[:, None] * sizes.prod(1, keepdims=True) / np.maximum(sizes, 1))


class Milliseconds:
    """Time of the convolutions one after the other, from a table measured on this machine (ONNX Runtime, one thread).

    Each is measured at quarters of its channels in and out; between them the time is interpolated. What lies between
    the convolutions is not in the figure. ``geometry`` tells whether a weight's convolution is depthwise, its kernel,
    strides, padding and input size.
    """

    def __init__(self, groups: Groups, geometry: dict[str, tuple[Any, ...]], part: str = "") -> None:
        self.sizes = Sizes(groups, part)
        self.geometry, self.table = geometry, Convolutions()

    def __call__(self, gone: Gone | None = None) -> float:
        """Return the sum over convolutions, ms."""
        lines = zip(self.sizes.names, self.sizes.whole.tolist(), self.sizes(gone).tolist(), strict=True)
        return sum(self._of(name, whole, now) for name, whole, now in lines if name in self.geometry)

    def saves(self, gone: Gone | None = None) -> NDArray[np.float64]:
        """Return what each channel's removal takes away, by the slopes of the table; never less than nothing."""
        whole, now = self.sizes.whole, self.sizes(gone)
        slopes = np.zeros(whole.shape)
        for row, name in enumerate(self.sizes.names):
            if name in self.geometry:
                for dim in range(2):
                    above = now[row].copy()
                    above[dim] = min(max(above[dim], 1) + 1, whole[row, dim])
                    below = above.copy()
                    below[dim] -= 1
                    lines = whole[row].tolist(), above.tolist(), below.tolist()
                    slopes[row, dim] = self._of(name, lines[0], lines[1]) - self._of(name, lines[0], lines[2])
        return np.maximum(self.sizes.over_groups(slopes), 0)

    def _of(self, name: str, whole: list[int], now: list[int]) -> float:
        depthwise, *shape = self.geometry[name]
        if min(now[:2]) == 0:
            return 0.0
        if depthwise:
            return self._between(lambda c: self._measured(c, c, True, shape), whole[0], now[0])
        return self._between(
            lambda c: self._between(lambda d: self._measured(c, d, False, shape), whole[0], now[0]), whole[1], now[1]
        )

    def _measured(self, channels: int, filters: int, depthwise: bool, shape: list[Any]) -> float:
        return 1e3 * self.table(channels, filters, *shape, channels if depthwise else 1)

    @staticmethod
    def _between(at: Callable[[int], float], whole: int, now: int) -> float:
        """Return the value at ``now`` on straight lines between quarters of ``whole``."""
        marks = sorted({max(1, round(whole * quarter / 4)) for quarter in range(5)})
        above = next(mark for mark in marks if mark >= now)
        below = max([mark for mark in marks if mark <= now], default=above)
        share = (now - below) / (above - below) if above > below else 0.0
        return (1 - share) * at(below) + (share * at(above) if share else 0.0)


def cost(of: Of, network: nn.Module, groups: Groups, images: dict[str, torch.Tensor], part: str = "") -> Cost:
    """Return a figure of a network that takes ``images`` by name; of a ``part`` of it like "trunk", if one is given."""
    inside = f"{part}." if part else ""
    if of == "parameters":
        return Parameters(groups, inside)
    places, geometry = applied(network, images)
    return Flops(groups, places, inside) if of == "flops" else Milliseconds(groups, geometry, inside)


@torch.no_grad()
def applied(network: nn.Module, images: dict[str, torch.Tensor]) -> tuple[dict[str, int], dict[str, tuple[Any, ...]]]:
    """Return at how many places each convolution and linear layer is applied, and each convolution's geometry."""
    places: dict[str, int] = {}
    geometry: dict[str, tuple[Any, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor) -> None:
            over = given[0] if getattr(module, "transposed", False) else out
            channels = over.shape[-1] if isinstance(module, nn.Linear) else over.shape[1]
            places[name] = places.get(name, 0) + over.numel() // channels // over.shape[0]
            if isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple):
                depthwise = module.groups == module.in_channels == module.out_channels > 1
                if depthwise or module.groups == 1:
                    size = tuple(given[0].shape[2:])
                    geometry[name] = (depthwise, module.kernel_size, module.stride, module.padding, size)

        return hook

    hooks = [
        module.register_forward_hook(note(f"{path}.weight"))
        for path, module in network.named_modules()
        if isinstance(module, _ConvNd | nn.Linear)
    ]
    training = {path: module.training for path, module in network.named_modules()}
    try:
        network.eval()(**images)
    finally:
        for path, module in network.named_modules():
            module.training = training[path]
        for hook in hooks:
            hook.remove()
    return places, geometry
