"""An exponential moving average of the weights: the network that is evaluated and kept."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Masks(Protocol):
    """What keeps zeros or equal weights exact in a network, like a `Regularizer`."""

    def mask(self, network: nn.Module) -> None: ...


class EMA(Generic[Network]):
    """Averages weights and batch statistics; exact zeros and equal weights stay exact."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: Network, regularizers: Iterable[Masks] = ()) -> None:
        """Take in the weights after a step; early on the decay is small, so that the average follows."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = network.state_dict()
        for name, average in self.network.state_dict().items():
            latest = state[name].detach()
            if average.is_floating_point():
                average.lerp_(latest, weight)
            else:
                average.copy_(latest)
        for regularizer in regularizers:
            regularizer.mask(self.network)
