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

Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
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
            if not isinstance(module, Layer) or (not isinstance(module, nn.Linear) and module.groups > 1):
                continue
            channels = penalised.groups.dims.get(f"{name}.weight", {}).get(_input_dim(module))
            if channels is not None and (channels >= 0).any():
                self.readers[name] = module, channels
                self.hooks.append(module.register_forward_pre_hook(_Hook(self, name)))

    def take_in(self, name: str, x: Tensor) -> None:
        """Take in the inputs of a layer; what is not finite counts for nothing."""
        channels = x.ndim - 1 if isinstance(self.readers[name][0], nn.Linear) else 1
        squares = x.detach().float().square().mean([d for d in range(x.ndim) if d != channels])
        if not bool(squares.isfinite().all()):
            return
        kept = self.squares.get(name)
        self.squares[name] = squares if kept is None else kept.to(squares).lerp(squares, MEMORY)

    def __call__(self) -> Tensor:
        """Return the energy of every group, (count,), infinite of one that no layer is known to read.

        Raises ValueError where no inputs were taken in at all.
        """
        if not self.squares:
            raise ValueError(
                "importance=activation: no forward pass went through the layers of the network; where it is compiled, "
                "create the sparsifier first"
            )
        total = np.zeros(self.penalised.groups.count)
        read = np.zeros(len(total), bool)
        for name, squares in self.squares.items():
            layer, channels = self.readers[name]
            weight = layer.weight.detach().float().movedim(_input_dim(layer), 0)
            energy = squares * weight.flatten(1).square().sum(1)
            share = (energy / energy.sum().clamp(min=TINY)).cpu().numpy()
            np.add.at(total, channels[channels >= 0], share[channels >= 0])
            read[channels[channels >= 0]] = True
        total[~read] = np.inf
        values = self.penalised.distribute(total)
        values[np.bincount(self.penalised.depends_on, minlength=len(values)) == 0] = np.inf
        return torch.from_numpy(values).to(torch.get_default_dtype())

    def close(self) -> None:
        """Take nothing in any more."""
        for hook in self.hooks:
            hook.remove()


def _input_dim(layer: Layer) -> int:
    """Return the dimension of a layer's weights that its inputs lie along."""
    return 0 if isinstance(layer, nn.ConvTranspose2d) else 1


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
