"""Element-wise operators: operands that meet tie their channels together, or read each other's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ..channels import Channels, Value, double, known, name_of, rule, shaped

PASSES = ["dropout", "feature_dropout", "alpha_dropout", "type_as", "to", "_to_copy", "hardswish"]
MULTIPLIES = ("aten.mul", "aten.logical_and", "aten.bitwise_and")
SUMS = ("aten.add", "aten.sub")


@rule("pointwise", *(f"aten.{name}" for name in PASSES))
def pointwise(channels: Channels, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """Apply the function to the constants; where two operands carry channels, those become one."""
    operands = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Value)]
    if name_of(node) == "aten.type_as":
        operands, args = operands[:1], args[:1]
    shape = torch.broadcast_shapes(*(v.shape for v in operands))
    if name_of(node) in SUMS and channels.cut(node):
        args = _cut(channels, node, args, shape)
        operands = [a for a in args if isinstance(a, Value)]
    value, const = _value(node, args, kwargs, operands)
    ids = _meet(channels, node, args, operands, shape)
    return NotImplemented if ids is None else Value(tuple(shape), value, const, ids)


def _value(node: fx.Node, args: Any, kwargs: Any, operands: list[Value]) -> tuple[Tensor, Tensor]:
    """Return the result's value and constancy, compressed."""
    name = name_of(node)
    const = operands[0].const
    for v in operands[1:]:
        const = const & v.const
    absorbs = name in MULTIPLIES or (name == "aten.div" and isinstance(args[0], Value))
    if absorbs:
        for v in operands if name in MULTIPLIES else operands[:1]:
            const = const | v.zero
    if not bool(const.any()):
        blank = torch.zeros((1,) * max(len(v.shape) for v in operands), dtype=torch.float64)
        return blank, blank.bool()
    if name.removeprefix("aten.") in ("to", "_to_copy", "type_as"):
        return known(operands[0].value, const)
    assert callable(node.target)
    a, k = pytree.tree_map_only(Value, lambda v: double(v.value), (args, kwargs))
    if name.endswith("dropout"):
        return known(a[0], const)
    k = {key: item for key, item in k.items() if key not in ("dtype", "device", "layout", "memory_format")}
    value = node.target(*a, **k)
    return known(*torch.broadcast_tensors(value, const))


def _meet(channels: Channels, node: fx.Node, args: Any, operands: list[Value], shape: torch.Size) -> Tensor | None:
    """Return the result's ids, or None when a broadcast would hide which channel a value belongs to."""
    ndim = len(shape)
    carriers = [v for v in operands if v.ids is not None]
    lead = max((_aligned(v.ids, ndim) for v in carriers if v.ids is not None), key=Tensor.numel)
    for v in carriers:
        assert v.ids is not None
        ids = _aligned(v.ids, ndim)
        if ids is lead or torch.equal(ids, lead):
            continue
        narrower = [d for d in range(ndim) if ids.shape[d] != lead.shape[d]]
        if any(ids.shape[d] > 1 for d in narrower):  # channels along different dimensions
            return None
        if not any(_size(v, d, ndim) == 1 for d in narrower):
            channels.unify(ids, lead)
        elif ids.numel() == 1 and all(_size(v, d, ndim) == 1 for d in narrower):
            _heard(channels, node, lead, ids, v)
        else:
            return None
    for v in operands:
        if v.ids is None and not _fits(channels, node, args, v, lead, ndim):
            return None
    return lead


def _aligned(data: Tensor, ndim: int) -> Tensor:
    return data.reshape((1,) * (ndim - data.ndim) + tuple(data.shape))


def _size(v: Value, dim: int, ndim: int) -> int:
    """Return an operand's own size along a dimension of the result."""
    own = dim - ndim + len(v.shape)
    return v.shape[own] if own >= 0 else 1


def _heard(channels: Channels, node: fx.Node, lead: Tensor, ids: Tensor, v: Value) -> None:
    """Every channel of the result needs the one channel of a broadcast operand, unless that is constant."""
    out = lead.reshape(1, -1)
    opened = torch.tensor([not bool(v.const.all())])
    channels.read(node, out, ids.reshape(1, 1), torch.ones(1, out.shape[1], 1).bool(), opened, ~opened)


def _fits(channels: Channels, node: fx.Node, args: Any, constant: Value, lead: Tensor, ndim: int) -> bool:
    """Whether a constant needs no slicing beside the channels, or can be sliced with them."""
    shape = (1,) * (ndim - len(constant.shape)) + constant.shape
    varying = [d for d in range(ndim) if shape[d] > 1 and lead.shape[d] > 1]
    if not varying:
        channels.loose.add(constant.source)
        return True
    dim = varying[0]
    if len(varying) > 1:
        return False
    moved = lead.movedim(dim, 0).flatten(1)
    if moved.shape[1] > 1:
        channels.unify(moved, moved[:, :1])
    ids, own = moved[:, 0].contiguous(), dim - ndim + len(constant.shape)
    if constant.source:
        channels.tie(constant.source, own, ids)
        return True
    position = next((i for i, a in enumerate(args) if a is constant), None)
    if position is None:
        return False
    channels.slices[node, position] = (own, ids.numpy())
    return True


def _cut(channels: Channels, node: fx.Node, args: Any, shape: torch.Size) -> Any:
    """Let a sum of two feature maps lay out each operand anew, so that neither must keep what the other has."""
    parts = [a for a in args if isinstance(a, Value) and a.ids is not None and a.shape == tuple(shape)]
    if len(parts) != 2 or any(sum(n > 1 for n in v.ids.shape) != 1 for v in parts if v.ids is not None):
        return args
    dims = {next(d for d, n in enumerate(v.ids.shape) if n > 1) for v in parts if v.ids is not None}
    if len(dims) != 1:
        return args
    (dim,) = dims
    made = channels.fresh(shape[dim])
    cut = []
    for position, a in enumerate(args):
        if a in parts:
            laid = channels.gather(node, position, a, dim)
            assert laid.ids is not None
            channels.unify(laid.ids.reshape(-1), made)
            a = replace(laid, ids=shaped(made, dim, len(shape)))
        cut.append(a)
    return tuple(cut)


@rule("aten.prelu")
def prelu(channels: Channels, node: fx.Node, x: Value, weight: Value) -> Any:
    """Scale what is negative, by a factor a channel."""
    if x.ids is None or not weight.source:
        return NotImplemented
    if weight.shape[0] > 1:
        channels.tie(weight.source, 0, channels.along(x, 1))
    else:
        channels.loose.add(weight.source)
    factor = shaped(weight.value.double(), 1, len(x.shape))
    value, const = known(*torch.broadcast_tensors(torch.where(x.value >= 0, x.value, x.value * factor), x.const))
    return Value(x.shape, value, const, x.ids)


@rule("aten.softmax", "aten._softmax", "aten.log_softmax")
def softmax(channels: Channels, node: fx.Node, x: Value, dim: int, *rest: Any) -> Any:
    """Normalise along a dimension that holds no channels."""
    if x.ids is None or x.ids.shape[dim] > 1:
        return NotImplemented
    if not bool(x.const.any()) or x.const.shape[dim] > 1 or x.value.shape[dim] > 1:
        blank = torch.zeros((1,) * len(x.shape)).double()
        return Value(x.shape, blank, blank.bool(), x.ids)
    share = 1.0 / x.shape[dim]
    value = torch.full_like(x.value, share if "log" not in name_of(node) else -float(torch.tensor(x.shape[dim]).log()))
    return Value(x.shape, *known(value, x.const), x.ids)


@rule("aten.glu")
def glu(channels: Channels, node: fx.Node, x: Value, dim: int = -1) -> Any:
    """Gate the first half of the channels by the second."""
    dim = dim % len(x.shape)
    if x.ids is None:
        return NotImplemented
    ids = channels.along(x, dim)
    half = len(ids) // 2
    channels.unify(ids[:half], ids[half:])
    parts = [x.spread(part) if part.shape[dim] > 1 else part for part in (x.value, x.const)]
    a, b = ([p.narrow(dim, k * half, half) if p.shape[dim] > 1 else p for p in parts] for k in (0, 1))
    const = (a[1] & b[1]) | (a[1] & (a[0] == 0))
    shape = (*x.shape[:dim], half, *x.shape[dim + 1 :])
    value, const = known(*torch.broadcast_tensors(a[0] * b[0].sigmoid(), const))
    return Value(shape, value, const, shaped(ids[:half], dim, len(shape)))
