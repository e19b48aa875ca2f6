"""Nested graphs without an effect of their own, inlined: no_grad, disabled autocast, checkpoints, compiled regions."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

GRAPH_ARGUMENT = {
    "wrap_with_set_grad_enabled": 1,
    "wrap_with_autocast": 4,
    "tag_activation_checkpoint": 0,
    "invoke_subgraph": 0,
    "wrap": 0,
    "hints_wrapper": 0,
}
"""Higher-order operators that only run a graph, and the position of that graph; its operands follow."""


def inline_nested(root: fx.GraphModule, graph: fx.Graph) -> bool:
    """Inline every graph that an operator only runs, in place; return False where one computes in another precision."""
    while nodes := [n for n in graph.nodes if _graph_argument(n) is not None]:
        for node in nodes:
            if str(node.target) == "wrap_with_autocast" and node.args[2]:
                return False
            _inline(root, graph, node)
    return True


def _graph_argument(node: fx.Node) -> int | None:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.HigherOrderOperator):
        return None
    return GRAPH_ARGUMENT.get(str(node.target))


def _inline(root: fx.GraphModule, graph: fx.Graph, node: fx.Node) -> None:
    position = _graph_argument(node)
    assert position is not None
    source: Any = node.args[position]
    operands: list[Any] = list(node.args[position + 1 :])
    if str(node.target) == "invoke_subgraph":
        operands = operands[1:]  # after the graph's identifier
    elif str(node.target) == "hints_wrapper":
        operands = [*operands[0]]
    nested = root.get_submodule(source.target)
    assert isinstance(nested, fx.GraphModule)
    flat = iter(operands)
    copies: dict[fx.Node, Any] = {}
    for inner in nested.graph.nodes:
        if inner.op == "placeholder":
            copies[inner] = next(flat)
            continue
        if inner.op == "output":
            result = pytree.tree_map_only(fx.Node, copies.__getitem__, inner.args[0])
            break
        with graph.inserting_before(node):
            copies[inner] = graph.node_copy(inner, copies.__getitem__)
        if inner.op == "get_attr":
            copies[inner].target = f"{source.target}.{inner.target}"
    if isinstance(result, fx.Node):
        node.replace_all_uses_with(result)
    else:
        for user in list(node.users):
            user.replace_all_uses_with(result[user.args[1]])
            graph.erase_node(user)
    graph.erase_node(node)
    if not source.users:
        graph.erase_node(source)
