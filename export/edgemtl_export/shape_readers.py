"""Operators that read of a tensor its shape or dtype alone (``ones_like``, ``type_as``), written without it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .program import op_name

ATEN = torch.ops.aten
FILLS = {"zeros": 0, "ones": 1, "empty": 0}
"""The value of a new tensor by its maker; where it is not initialised any value is right."""
VIEWS = {"view_as": ATEN.view.default, "reshape_as": ATEN.reshape.default, "expand_as": ATEN.expand.default}
DRAWS = {"rand_like": ATEN.rand.default, "randn_like": ATEN.randn.default}


def read_metadata(graph: fx.Graph) -> None:
    """Write these operators, in place, with the numbers and the dtype that they mean, where the numbers are fixed.

    So a tensor whose values nobody reads is not kept, and its channels are coupled with nothing.
    """
    for node in list(graph.nodes):
        result = node.meta.get("val")
        if node.op != "call_function" or not isinstance(result, Tensor):
            continue
        name = op_name(node).removeprefix("aten.")
        if name in ("type_as", "to") and len(node.args) > 1 and isinstance(node.args[1], fx.Node):
            _replace(node, ATEN.to.dtype, node.args[0], result.dtype)
        elif name in ("new_zeros", "new_ones", "new_empty", "new_full"):
            fill = node.args[2] if name == "new_full" else FILLS[name.removeprefix("new_")]
            _replace(node, ATEN.full.default, node.args[1], fill, dtype=result.dtype)
        elif all(isinstance(size, int) for size in result.shape):
            _fix_shape(node, name, result)


def _fix_shape(node: fx.Node, name: str, result: Tensor) -> None:
    shape = list(result.shape)
    if name in VIEWS:
        _replace(node, VIEWS[name], node.args[0], shape)
    elif name in ("zeros_like", "ones_like", "empty_like", "full_like"):
        fill = node.args[1] if name == "full_like" else FILLS[name.removesuffix("_like")]
        _replace(node, ATEN.full.default, shape, fill, dtype=result.dtype)
    elif name in DRAWS:
        _replace(node, DRAWS[name], shape, dtype=result.dtype)


def _replace(node: fx.Node, target: Any, *args: Any, **kwargs: Any) -> None:
    node.target, node.args, node.kwargs = target, args, kwargs
