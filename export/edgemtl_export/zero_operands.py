"""Sums and products with what is constantly zero, removed: the channels of their operands are no longer coupled."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from .analysis.channels import Channels
from .analysis.ops.pointwise import PRODUCTS
from .analysis.values import Value
from .program import Program, op_name

BLENDS = {"aten.addcmul": (1, 2), "aten.addcdiv": (1,), "aten.lerp": (2,)}
"""Operators that add a product to their first operand, and the positions of its factors."""


def drop_zero_operands(program: Program, channels: Channels) -> bool:
    """Replace sums by their other operand where one is zero, and products that are zero by zeros, in place.

    So a message between two branches whose weights are zero keeps nothing of the branch that it came from. Return
    whether anything changed; then ``channels``, an analysis of ``program``, no longer fits.
    """
    replaced = False
    for node in list(program.graph.nodes):
        result, shape = channels.values.get(node), node.meta.get("val")
        if node.op != "call_function" or not isinstance(result, Value) or not isinstance(shape, Tensor):
            continue
        name = op_name(node)
        if name in PRODUCTS and _is_zero(result) and result.ids is not None:
            replaced |= _replace_by_zeros(program, node, shape)
        elif name in ("aten.add", "aten.sub"):
            positions = (0, 1) if name == "aten.add" and not node.kwargs.get("alpha") else (1,)
            pairs = [(position, 1 - position) for position in positions]
            replaced |= any(_replace_by_other(channels, node, shape, *pair) for pair in pairs)
        elif name in BLENDS:
            replaced |= any(_replace_by_other(channels, node, shape, factor, 0) for factor in BLENDS[name])
    if replaced:
        program.drop_unused()
    return replaced


def _is_zero(value: object) -> bool:
    return isinstance(value, Value) and bool(value.zero.all())


def _replace_by_other(channels: Channels, node: fx.Node, result: Tensor, position: int, kept_position: int) -> bool:
    """Replace a sum by one operand where the one at ``position`` is zero and shapes allow it."""
    zero, other = node.args[position], node.args[kept_position]
    if not isinstance(zero, fx.Node) or not isinstance(other, fx.Node) or not node.users:
        return False
    kept = other.meta.get("val")
    if not isinstance(kept, Tensor) or not _same_shape(kept, result) or kept.dtype != result.dtype:
        return False
    if not _is_zero(channels.values.get(zero)):
        return False
    node.replace_all_uses_with(other)
    return True


def _same_shape(a: Tensor, b: Tensor) -> bool:
    """Whether two recorded shapes are one whatever the dynamic sizes are; `==` would fix the sizes that it compares."""
    return a.ndim == b.ndim and all(statically_known_true(m == n) for m, n in zip(a.shape, b.shape, strict=True))


def _replace_by_zeros(program: Program, node: fx.Node, result: Tensor) -> bool:
    if not node.users or not all(isinstance(size, int) for size in result.shape):
        return False
    with program.graph.inserting_before(node):
        zeros = program.graph.call_function(
            torch.ops.aten.full.default, (list(result.shape), 0), {"dtype": result.dtype}
        )
    zeros.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(zeros)
    return True
