"""An exponential moving average of the weights: the network that is evaluated and kept."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Masks(Protocol):
    """What keeps zeros or equal weights exact in a network, like a `Regularizer`."""

    def mask(self, network: nn.Module) -> None:
        """Make what it keeps exact in a network exact again."""


class EMA(Generic[Network]):
    """Averages a network's weights and batch statistics, which are changed in place; its zeros stay exact."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._averages, self._latest = _tensors(self.network), _tensors(network)
        self.updates = 0

    @torch.no_grad()
    def update(self, regularizers: Iterable[Masks] = ()) -> None:
        """Take in the weights after a step; early on the decay is small, so that the average follows."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        if self._latest[True]:
            torch._foreach_lerp_(self._averages[True], self._latest[True], weight)
        if self._latest[False]:  # the counters of batch normalisations
            torch._foreach_copy_(self._averages[False], self._latest[False])
        for regularizer in regularizers:
            regularizer.mask(self.network)


def _tensors(network: nn.Module) -> dict[bool, list[Tensor]]:
    """Return the weights and buffers of a network, those in floating point apart."""
    out: dict[bool, list[Tensor]] = {True: [], False: []}
    for tensor in itertools.chain(network.parameters(), network.buffers()):
        out[tensor.is_floating_point()].append(tensor)
    return out
