"""Torch-Pruning and torch-simplify on the same zeros, each with its best documented settings."""

from __future__ import annotations

import copy
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgemtl_export.groups import Groups

LIMIT_S = 45
"""Every call that returned within 150 s returned within 14."""


@contextmanager
def limited(seconds: int = LIMIT_S) -> Iterator[None]:
    """Raise TimeoutError when a tool does not return in time."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"no result within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def torch_pruning(net: nn.Module, inputs: tuple[Tensor, ...], groups: Groups, mode: str) -> nn.Module:
    """Remove with Torch-Pruning every index of a group whose rows are zero in all that it couples.

    Layers whose channels are outputs are given to it as ignored. It does not look for zeros itself: we hand it what is
    zero, and for constant channels what its users do, that a scale of zero means pruned.
    """
    import torch_pruning as tp

    net = copy.deepcopy(net)
    for p in net.parameters():
        p.requires_grad_(True)  # it follows gradients
    modules = dict(net.named_modules())
    heads = [modules[n.rpartition(".")[0]] for n, rows in groups.rows.items() if (rows < 0).all()]
    graph = tp.DependencyGraph().build_dependency(net, example_inputs=inputs[0] if len(inputs) == 1 else inputs)
    layer_types = [nn.modules.conv._ConvNd, nn.Linear]
    for group in list(graph.get_all_groups(ignored_layers=heads, root_module_types=layer_types)):
        root = group[0].dep.target.module
        count = root.weight.shape[1 if isinstance(root, nn.modules.conv._ConvTransposeNd) else 0]
        removable = torch.ones(count, dtype=torch.bool)
        for item in group:
            zero = _zero_rows(item, mode == "constant")
            if zero is None:
                continue
            indices = torch.tensor(list(item.root_idxs))
            idxs = torch.tensor(list(item.idxs))
            if int(idxs.max()) >= len(zero):
                removable[:] = False  # its index map points outside: the group cannot be used
                break
            removable[indices[~zero[idxs]]] = False
        remove = removable.nonzero().flatten().tolist()
        if remove and len(remove) < count:
            graph.get_pruning_group(
                root, tp.prune_conv_out_channels if is_convolution(root) else tp.prune_linear_out_channels, remove
            ).prune()
    return net


def is_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution."""
    return isinstance(module, nn.modules.conv._ConvNd)


def _zero_rows(item: Any, scale_alone: bool) -> Tensor | None:
    """Return which output rows of a group's member are zero, None where it has no output channels."""
    module = item.dep.target.module
    if "in_channels" in getattr(item.dep.handler, "__name__", "") and not isinstance(module, _BatchNorm):
        return None
    if isinstance(module, _BatchNorm):
        zero = module.weight == 0
        return zero if scale_alone else zero & (module.bias == 0)
    if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
        weight = (
            module.weight.transpose(0, 1) if isinstance(module, nn.modules.conv._ConvTransposeNd) else module.weight
        )
        zero = (weight.flatten(1) == 0).all(1)
        return zero if module.bias is None else zero & (module.bias == 0)
    return None


def torch_simplify(net: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Run torch-simplify with its defaults."""
    from simplify import simplify

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simplified: nn.Module = simplify(copy.deepcopy(net), inputs[0])
    return simplified


def parameters(net: nn.Module) -> int:
    """Count parameters; the biases a pixel that torch-simplify adds are not held against it."""
    return sum(p.numel() for n, p in net.named_parameters() if not n.endswith(".bf"))


def weights(net: nn.Module) -> int:
    """Count the weights of convolutions and linear layers: what fusing a batch normalisation does not change."""
    return sum(p.numel() for n, p in net.named_parameters() if p.ndim > 1 and not n.endswith(".bf"))
