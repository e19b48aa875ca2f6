"""Equal modules for several cameras run as one: their features lie one behind the other in the batch.

With features (B·S, C, H, W) of S cameras, those of one picture next to each other, the same numbers are (B, S·C, H, W)
with the cameras beside each other along the channels, without a copy. So a convolution that each camera has its own of
is one with S times the groups there, batch normalisation has its statistics and its scale for each camera, and a
convolution that all cameras share runs once on the batch as it lies.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def stacked(features: Sequence[Tensor]) -> Tensor:
    """Return features of each camera, (B, C, H, W), one behind the other: (B·S, C, H, W)."""
    return torch.stack(list(features), 1).flatten(0, 1)


def beside(features: Tensor, cameras: int) -> Tensor:
    """Return stacked features, (B·S, C, H, W), with the cameras beside each other: (B, S·C, H, W)."""
    return features.unflatten(0, (-1, cameras)).flatten(1, 2)


class Own(nn.Module):
    """A convolution or batch normalisation that each camera has weights of its own for, in one module ``all``."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.cameras = len(modules)
        self.all = copy.deepcopy(modules[0])
        for name, tensor in [*self.all.named_parameters(), *self.all.named_buffers()]:
            if tensor.ndim:
                parts = [
                    module.get_parameter(name) if isinstance(tensor, nn.Parameter) else module.get_buffer(name)
                    for module in modules
                ]
                whole = torch.cat([part.detach() for part in parts])
                setattr(self.all, name, nn.Parameter(whole) if isinstance(tensor, nn.Parameter) else whole)
        if isinstance(self.all, _BatchNorm):
            self.all.num_features *= self.cameras
        elif isinstance(self.all, nn.Conv2d):
            self.all.in_channels *= self.cameras
            self.all.out_channels *= self.cameras
            self.all.groups *= self.cameras

    def forward(self, features: Tensor) -> Tensor:
        """Return each camera's output, stacked as the input is."""
        out: Tensor = self.all(beside(features, self.cameras))
        return out.unflatten(1, (self.cameras, -1)).flatten(0, 1)


class Apart(nn.Module):
    """Any other module with weights: each camera's runs by itself."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, features: Tensor) -> Tensor:
        """Return each camera's output, stacked as the input is."""
        parts = features.unflatten(0, (-1, len(self.each))).unbind(1)
        return stacked([module(part) for module, part in zip(self.each, parts, strict=True)])


def twin(modules: Sequence[nn.Module]) -> nn.Module:
    """Return one module for stacked features that does what each of these, of one architecture, does for its camera.

    Raises `ValueError` where they are not of one architecture.
    """
    first = modules[0]
    shapes = [{name: tensor.shape for name, tensor in module.state_dict().items()} for module in modules]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("the cameras' streams are of different shapes")
    if isinstance(first, nn.Conv2d | _BatchNorm):
        return Own(modules)
    own = [*first.parameters(recurse=False), *first.buffers(recurse=False)]
    if own:
        return Apart(modules)
    made = copy.copy(first)
    made._modules = {
        name: twin([module.get_submodule(name) for module in modules]) if child is not None else None
        for name, child in first._modules.items()
    }
    return made


@torch.no_grad()
def share(network: nn.Module, paths: Sequence[str]) -> list[str]:
    """Put one convolution in place of each of these that all cameras have the same weights of; return their paths.

    Nothing that the network computes changes.
    """
    found = []
    for path in paths:
        module = network.get_submodule(path)
        if isinstance(module, Own) and isinstance(module.all, nn.Conv2d):
            weights = module.all.weight.chunk(module.cameras)
            biases = [] if module.all.bias is None else module.all.bias.chunk(module.cameras)
            if all(torch.equal(part, parts[0]) for parts in (weights, biases) for part in parts):
                parent, _, name = path.rpartition(".")
                setattr(network.get_submodule(parent), name, shared_conv(module))
                found.append(path)
    return found


def shared_conv(own: Own) -> nn.Conv2d:
    """Return the first camera's convolution, to run on the stacked features of all."""
    conv = copy.deepcopy(own.all)
    assert isinstance(conv, nn.Conv2d)
    conv.in_channels //= own.cameras
    conv.out_channels //= own.cameras
    conv.groups //= own.cameras
    conv.weight = nn.Parameter(conv.weight.detach().chunk(own.cameras)[0].clone())
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias.detach().chunk(own.cameras)[0].clone())
    return conv
