"""Activation energy: the share of what a channel's readers answer that comes from it.

A convolution or linear layer of weights W answers Σ_c W_c x_c. Where its input channels are uncorrelated, a channel's
share of the energy of the answer is E[x_c²] ‖W_c‖² / Σ_c E[x_c²] ‖W_c‖² (after Wanda, Sun et al. 2023, arXiv
2306.11695). Shares of all readers of a channel are summed.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .partition import PenalisedGroups

Layer = nn.Conv2d | nn.Linear
MEMORY = 0.1
"""Weight of the last forward pass that is taken in."""
TINY = 1e-30


class ActivationEnergy:
    """Takes in the inputs of a network's layers in its forward passes, while it is ``active``."""

    def __init__(self, network: nn.Module, penalised: PenalisedGroups) -> None:
        self.penalised, self.active = penalised, True
        self.squares: dict[str, Tensor] = {}
        """By layer, the mean square of each input channel."""
        self.readers: dict[str, tuple[Layer, NDArray[np.int64]]] = {}
        """By layer, itself and the removable channel of each input, -1 where it stays."""
        self.hooks = []
        for name, module in network.named_modules():
            channels = penalised.groups.dims.get(f"{name}.weight", {}).get(1)
            reads = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
            if reads and channels is not None and (channels >= 0).any():
                assert isinstance(module, Layer)
                self.readers[name] = module, channels
                self.hooks.append(module.register_forward_pre_hook(_Hook(self, name)))

    def take_in(self, name: str, x: Tensor) -> None:
        """Take in the inputs of a layer."""
        channels = x.ndim - 1 if isinstance(self.readers[name][0], nn.Linear) else 1
        squares = x.detach().float().square().mean([d for d in range(x.ndim) if d != channels])
        kept = self.squares.get(name)
        self.squares[name] = squares if kept is None else kept.to(squares).lerp(squares, MEMORY)

    def __call__(self) -> Tensor:
        """Return the energy of every group, (count,), 0 of one that no layer reads."""
        total = np.zeros(self.penalised.groups.count)
        for name, squares in self.squares.items():
            layer, channels = self.readers[name]
            energy = squares * layer.weight.detach().float().transpose(0, 1).flatten(1).square().sum(1)
            share = (energy / energy.sum().clamp(min=TINY)).cpu().numpy()
            np.add.at(total, channels[channels >= 0], share[channels >= 0])
        return torch.from_numpy(self.penalised.distribute(total)).to(torch.get_default_dtype())

    def close(self) -> None:
        """Take nothing in any more."""
        for hook in self.hooks:
            hook.remove()


class _Hook:
    """Hands a layer's inputs to an energy that is still there; a copy of the network has none."""

    def __init__(self, energy: ActivationEnergy | None, name: str) -> None:
        self.energy, self.name = None if energy is None else weakref.ref(energy), name

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        energy = None if self.energy is None else self.energy()
        if energy is not None and energy.active and args and isinstance(args[0], Tensor):
            energy.take_in(self.name, args[0])

    def __reduce__(self) -> tuple[type[_Hook], tuple[None, str]]:
        return _Hook, (None, self.name)
