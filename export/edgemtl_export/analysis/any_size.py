"""What is constant whatever the dynamic sizes are, and not at the example's sizes alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from .values import Value, mask_unknown

SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def reads_size(node: fx.Node) -> bool:
    """Whether an argument of a node is a number that a dynamic size decides."""
    return any(isinstance(operand.meta.get("val"), SYMBOLS) for operand in node.all_input_nodes)


def is_dynamic(node: object, dim: int) -> bool:
    """Whether this dimension of a node's tensor has a dynamic size."""
    recorded = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(recorded, Tensor) and isinstance(recorded.shape[dim], torch.SymInt)


def constant_at_any_size(result: Any, recorded: Any) -> Any:
    """Return what is known of a node's result without constants that differ along a dimension of dynamic size.

    At another size they lie elsewhere: those at the border of a map, of which a mean then depends on the size.
    """
    if isinstance(result, list | tuple) and isinstance(recorded, list | tuple):
        return type(result)(constant_at_any_size(*pair) for pair in zip(result, recorded, strict=False))
    if not isinstance(result, Value) or not isinstance(recorded, Tensor):
        return result
    for dim, size in enumerate(recorded.shape):
        by_channel = result.ids is not None and result.ids.shape[dim] > 1
        if isinstance(size, torch.SymInt) and not by_channel:
            result = _same_along(result, dim)
    return result


def _same_along(result: Value, dim: int) -> Value:
    if result.value.shape[dim] == result.const.shape[dim] == 1:
        return result
    value, const = torch.broadcast_tensors(result.value, result.const)
    first = value.narrow(dim, 0, 1)
    same = (const & (value == first)).all(dim, keepdim=True)
    value, const = mask_unknown(first, same)
    return replace(result, value=value, const=const)
