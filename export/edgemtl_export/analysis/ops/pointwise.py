"""Element-wise operators: operands that meet have their channels coupled, or read each other's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ...program import op_name
from ...widening import WIDE
from ..any_size import is_dynamic, reads_size
from ..builder import POINTWISE, ChannelBuilder, Rule
from ..values import Value, along, mask_unknown, rows, to_float64, unknown, values_in

UNTAGGED = ("dropout", "feature_dropout", "alpha_dropout", "type_as", "to", "_to_copy", "hardswish", "where")
"""Element-wise operators that PyTorch does not tag as pointwise."""
PRODUCTS = ("aten.mul", "aten.logical_and", "aten.bitwise_and")
SUMS = ("aten.add", "aten.sub")


def pointwise(builder: ChannelBuilder, node: fx.Node, *args: Any, **kwargs: Any) -> Value | None:
    """Apply the function to the constants; where two operands carry channels, those are coupled."""
    operands = values_in((args, kwargs))
    if not isinstance(node.meta["val"], Tensor):
        return None  # the indices where a condition holds
    if op_name(node) == "aten.type_as":
        operands, args = operands[:1], args[:1]
    shape = torch.broadcast_shapes(*(v.shape for v in operands))
    if op_name(node) in SUMS and builder.may_gather(node):
        args = _gather_operands(builder, node, args, shape)
        operands = [a for a in args if isinstance(a, Value)]
    value, const = _propagate(node, args, kwargs, operands)
    ids = _couple_operands(builder, node, args, operands, shape)
    return None if ids is None else Value(tuple(shape), value, const, ids)


def _propagate(node: fx.Node, args: Any, kwargs: Any, operands: list[Value]) -> tuple[Tensor, Tensor]:
    """Return the result's value and constancy, compressed."""
    name = op_name(node)
    const = operands[0].const
    for v in operands[1:]:
        const = const & v.const
    if reads_size(node):
        const = torch.zeros_like(const)
    if name in PRODUCTS or (name == "aten.div" and isinstance(args[0], Value)):
        for v in operands if name in PRODUCTS else operands[:1]:
            const = const | v.zero
    if not bool(const.any()):
        blank = torch.zeros((1,) * max(len(v.shape) for v in operands), dtype=torch.float64)
        return blank, blank.bool()
    if name.removeprefix("aten.") in ("to", "_to_copy", "type_as"):
        dtype = node.meta["val"].dtype
        return mask_unknown(to_float64(operands[0].value).to(WIDE.get(dtype, dtype)), const)
    assert callable(node.target)
    a, k = pytree.tree_map_only(Value, lambda v: to_float64(v.value), (args, kwargs))
    if name.endswith("dropout"):
        return mask_unknown(a[0], const)
    k = {key: item for key, item in k.items() if key not in ("dtype", "device", "layout", "memory_format")}
    value = node.target(*a, **k)
    return mask_unknown(*torch.broadcast_tensors(value, const))


def _couple_operands(
    builder: ChannelBuilder, node: fx.Node, args: Any, operands: list[Value], shape: torch.Size
) -> Tensor | None:
    """Return the result's ids, or None when a broadcast would hide which channel a value belongs to."""
    ndim = len(shape)
    carriers = [(v, _align(v.ids, ndim)) for v in operands if v.ids is not None]
    lead = max((ids for _, ids in carriers), key=Tensor.numel)
    for v, ids in carriers:
        if ids is lead or torch.equal(ids, lead):
            continue
        narrower = [d for d in range(ndim) if ids.shape[d] != lead.shape[d]]
        if any(ids.shape[d] > 1 for d in narrower):  # channels along different dimensions
            return None
        if not any(_size(v, d, ndim) == 1 for d in narrower):
            builder.couple(ids, lead)
        elif ids.numel() == 1 and all(_size(v, d, ndim) == 1 for d in narrower):
            _read_broadcast(builder, node, lead, ids, v)
        else:
            return None
    for v in operands:
        if v.ids is None and not _bind_constant(builder, node, args, v, lead, ndim):
            return None
    return lead


def _align(data: Tensor, ndim: int) -> Tensor:
    return data.reshape((1,) * (ndim - data.ndim) + tuple(data.shape))


def _size(v: Value, dim: int, ndim: int) -> int:
    """Return an operand's size along a dimension of the result."""
    index = dim - ndim + len(v.shape)
    return v.shape[index] if index >= 0 else 1


def _read_broadcast(builder: ChannelBuilder, node: fx.Node, lead: Tensor, ids: Tensor, v: Value) -> None:
    """Let every channel of the result need the one channel of a broadcast operand, unless that is constant."""
    out_ids = lead.reshape(1, -1)
    required = torch.tensor([not bool(v.const.all())])
    needs = torch.ones(1, out_ids.shape[1], 1).bool()
    builder.add_read(node, out_ids, ids.reshape(1, 1), needs, required, ~required)


def _bind_constant(builder: ChannelBuilder, node: fx.Node, args: Any, constant: Value, lead: Tensor, ndim: int) -> bool:
    """Return whether a constant needs no slicing where it meets the channels, or can be sliced with them."""
    shape = (1,) * (ndim - len(constant.shape)) + constant.shape
    varying = [d for d in range(ndim) if shape[d] > 1 and lead.shape[d] > 1]
    if not varying:
        builder.unsliceable.add(constant.source)
        return True
    if len(varying) > 1:
        return False
    (dim,) = varying
    moved = rows(lead, dim)
    if moved.shape[1] > 1:
        builder.couple(moved, moved[:, :1])
    ids, constant_dim = moved[:, 0].contiguous(), dim - ndim + len(constant.shape)
    if constant.source:
        builder.bind(constant.source, constant_dim, ids)
        return True
    position = next((i for i, a in enumerate(args) if a is constant), None)
    if position is None:
        return False
    builder.slices[node, position] = (constant_dim, ids.numpy())
    return True


def _gather_operands(
    builder: ChannelBuilder, node: fx.Node, args: tuple[Any, ...], shape: torch.Size
) -> tuple[Any, ...]:
    """Let a sum of two feature maps gather each operand, so that neither must keep what the other has."""
    parts = [a for a in args if isinstance(a, Value) and a.ids is not None and a.shape == tuple(shape)]
    if len(parts) != 2 or any(sum(n > 1 for n in v.ids.shape) != 1 for v in parts if v.ids is not None):
        return args
    dims = {next(d for d, n in enumerate(v.ids.shape) if n > 1) for v in parts if v.ids is not None}
    if len(dims) != 1:
        return args
    (dim,) = dims
    ids = builder.new_ids(shape[dim])
    gathered = []
    for position, a in enumerate(args):
        if a in parts:
            operand = builder.gather(node, position, a, dim)
            assert operand.ids is not None
            builder.couple(operand.ids.reshape(-1), ids)
            a = replace(operand, ids=along(ids, dim, len(shape)))
        gathered.append(a)
    return tuple(gathered)


def prelu(builder: ChannelBuilder, node: fx.Node, x: Value, weight: Value) -> Value | None:
    """Scale what is negative, by a factor a channel."""
    if x.ids is None or not weight.source:
        return None
    if weight.shape[0] > 1:
        builder.bind(weight.source, 0, builder.ids_along(x, 1))
    else:
        builder.unsliceable.add(weight.source)
    factor = along(weight.value.double(), 1, len(x.shape))
    value, const = mask_unknown(*torch.broadcast_tensors(torch.where(x.value >= 0, x.value, x.value * factor), x.const))
    return Value(x.shape, value, const, x.ids)


def softmax(builder: ChannelBuilder, node: fx.Node, x: Value, dim: int, *rest: object) -> Value | None:
    """Normalise along a dimension that holds no channels."""
    if x.ids is None or x.ids.shape[dim] > 1:
        return None
    if not bool(x.const.any()) or x.const.shape[dim] > 1 or x.value.shape[dim] > 1 or is_dynamic(node, dim):
        return unknown(x.shape, x.ids)
    share = 1.0 / x.shape[dim]
    value = torch.full_like(to_float64(x.value), math.log(share) if "log" in op_name(node) else share)
    return Value(x.shape, *mask_unknown(value, x.const), x.ids)


def glu(builder: ChannelBuilder, node: fx.Node, x: Value, dim: int = -1) -> Value | None:
    """Gate the first half of the channels by the second."""
    dim = dim % len(x.shape)
    if x.ids is None:
        return None
    ids = builder.ids_along(x, dim)
    half = len(ids) // 2
    builder.couple(ids[:half], ids[half:])
    parts = [x.expand(part) if part.shape[dim] > 1 else part for part in (x.value, x.const)]
    a, b = ([p.narrow(dim, k * half, half) if p.shape[dim] > 1 else p for p in parts] for k in (0, 1))
    const = (a[1] & b[1]) | (a[1] & (a[0] == 0))
    shape = (*x.shape[:dim], half, *x.shape[dim + 1 :])
    value, const = mask_unknown(*torch.broadcast_tensors(a[0] * b[0].sigmoid(), const))
    return Value(shape, value, const, along(ids[:half], dim, len(shape)))


RULES: dict[str, Rule] = {
    POINTWISE: pointwise,
    **dict.fromkeys((f"aten.{name}" for name in UNTAGGED), pointwise),
    "aten.prelu": prelu,
    "aten.glu": glu,
    **dict.fromkeys(("aten.softmax", "aten._softmax", "aten.log_softmax"), softmax),
}
