"""Adam whose steps are relative to what they change, for networks whose batch normalisation is folded away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

FLOOR = 1e-3
"""A filter's smallest unit, as a share of its layer's: filters that are zero must be able to move."""


class RelativeAdam(torch.optim.AdamW):
    """Adam in units of each filter: ``lr`` is about the share of itself by which a filter changes in a step.

    In a network that is read from a file for inference, normalisation is folded into the convolutions, whose filters
    then differ a thousandfold in size: one step for all, Adam's, is too long for some and nothing for others. The
    ratio of step to weight is what LARS and LAMB hold fixed by layer (You et al., arXiv 1708.03888, 1904.00962).
    """

    def __init__(self, parameters: Any, lr: float, units: Mapping[Tensor, Tensor] = MappingProxyType({})) -> None:
        """``units`` are those of `units_of`; a parameter without one takes Adam's own steps."""
        super().__init__(parameters, lr, weight_decay=0.0)
        self.units = units

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step of Adam, its change multiplied by the units."""
        changed = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [parameter.clone() for parameter in changed]
        super().step(closure)
        for parameter, old in zip(changed, before, strict=True):
            if parameter in self.units:
                parameter.sub_(old).mul_(self.units[parameter].to(parameter.device)).add_(old)


@torch.no_grad()
def units_of(network: nn.Module, run: Callable[[], Any]) -> dict[Tensor, Tensor]:
    """Return the unit of every parameter of a network, as tensors that multiply it; ``run`` passes images through it.

    Of a convolution or linear layer the root mean square of each filter, of its bias the deviation of each output
    channel; of anything else, the root mean square of the whole tensor.
    """
    deviations: dict[nn.Module, Tensor] = {}

    def measure(module: nn.Module, _: Any, output: Any) -> None:
        channel = -1 if isinstance(module, nn.Linear) else 1
        deviations[module] = output.detach().float().transpose(0, channel).flatten(1).std(dim=1, correction=0)

    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    hooks = [layer.register_forward_hook(measure) for layer in layers]
    run()
    for hook in hooks:
        hook.remove()
    units: dict[Tensor, Tensor] = {parameter: _size(parameter) for parameter in network.parameters()}
    for layer, deviation in deviations.items():
        weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
        if weight is None:  # computed from parameters of other shapes
            continue
        filters = weight.square().mean(dim=tuple(range(1, weight.ndim)), keepdim=True).sqrt()
        units[weight] = filters.clamp_min(FLOOR * float(_size(weight)))
        if bias is not None and deviation.mean() > 0:  # one image of one pixel has none
            units[bias] = deviation.to(bias.dtype).clamp_min(FLOOR * float(deviation.mean()))
    return units


def _size(parameter: Tensor) -> Tensor:
    """Return a tensor's root mean square (scalar), 1 of one that is zero."""
    size = parameter.detach().square().mean().sqrt()
    return torch.where(size > 0, size, torch.ones_like(size))
