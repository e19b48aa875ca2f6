"""An exported program as a module that can be trained on: its convolutions and linear layers are torch's own again."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from .program import op_name

CONVOLUTIONS: dict[str, Any] = {"aten.conv1d": nn.Conv1d, "aten.conv2d": nn.Conv2d, "aten.conv3d": nn.Conv3d}
ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def layered(exported: ExportedProgram) -> nn.Module:
    """Return a program's module, in which what has weights of its own is a layer of the same parameters' names.

    So hooks and whatever else looks for layers find them. A weight that is used twice, or that is computed, stays in
    the operator that reads it. Batch normalisation stays as it was exported, in evaluation.
    """
    root = exported.module(check_guards=False)
    assert isinstance(root, fx.GraphModule)
    graph = root.graph
    for node in list(graph.nodes):
        name = op_name(node) if node.op == "call_function" else ""
        layer = (
            _convolution(root, node) if name in CONVOLUTIONS else _linear(root, node) if name == "aten.linear" else None
        )
        if layer is None:
            continue
        path = str(node.args[1].target).rpartition(".")[0]
        parent, _, child = path.rpartition(".")
        setattr(root.get_submodule(parent), child, layer)
        with graph.inserting_before(node):
            called = graph.call_module(path, (node.args[0],))
        called.meta = dict(node.meta)
        node.replace_all_uses_with(called)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    return fx.GraphModule(root, graph)


def _convolution(root: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    if not _has_weights(root, node):
        return None
    given: dict[str, Any] = dict(zip(ARGUMENTS, node.args, strict=False)) | dict(node.kwargs)
    weight = _tensor(root, node.args[1])
    groups = given.get("groups", 1)
    layer = CONVOLUTIONS[op_name(node)](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        bias=given.get("bias") is not None,
        device="meta",
        **{key: given[key] for key in ("stride", "padding", "dilation", "groups") if key in given},
    )
    return _with_weights(root, node, layer)


def _linear(root: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    if not _has_weights(root, node):
        return None
    weight = _tensor(root, node.args[1])
    layer = nn.Linear(
        weight.shape[1], weight.shape[0], bias=len(node.args) > 2 and node.args[2] is not None, device="meta"
    )
    return _with_weights(root, node, layer)


def _has_weights(root: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the weight and bias of an operator are parameters of one module, which nothing else reads."""
    weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    parts = [part for part in (weight, bias) if part is not None]
    if not all(isinstance(part, fx.Node) and part.op == "get_attr" and len(part.users) == 1 for part in parts):
        return False
    paths = [str(part.target).rpartition(".") for part in parts if isinstance(part, fx.Node)]
    names = ["weight", "bias"][: len(parts)]
    if [name for _, _, name in paths] != names or len({path for path, _, _ in paths}) != 1 or not paths[0][0]:
        return False
    owner = root.get_submodule(paths[0][0])
    return {name for name, _ in owner.named_parameters()} == set(names) and not list(owner.buffers())


def _tensor(root: fx.GraphModule, node: Any) -> torch.Tensor:
    return root.get_parameter(str(node.target))


def _with_weights(root: fx.GraphModule, node: fx.Node, layer: nn.Module) -> nn.Module:
    weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    layer.weight = _tensor(root, weight)
    if bias is not None:
        layer.bias = _tensor(root, bias)
    return layer
