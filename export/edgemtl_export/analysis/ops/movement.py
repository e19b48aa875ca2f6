"""Data-movement operators (views, splits, concatenation): executed on values, constancy and channel ids alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional
from torch.utils import _pytree as pytree

from ...broadcast import Broadcast, compress, run_movement
from ...program import op_name
from ..any_size import reads_size
from ..builder import ChannelBuilder, Rule
from ..values import Value, along, mask_unknown, to_float64, unknown, values_in

MOVEMENTS = frozenset(
    f"aten.{name}"
    for name in """
    view reshape _unsafe_view permute transpose t flatten unflatten slice select narrow split split_with_sizes
    chunk unbind cat stack unsqueeze squeeze expand alias detach contiguous clone movedim swapaxes
    swapdims moveaxis mT mH adjoint
    pixel_unshuffle channel_shuffle roll flip lift_fresh_copy index_select repeat repeat_interleave tile unfold
    """.split()  # noqa: SIM905
)


def is_movement(node: fx.Node) -> bool:
    """Whether a node only moves elements, or takes one of several moved parts."""
    name = op_name(node)
    if name == "getitem":
        return isinstance(node.args[0], fx.Node) and is_movement(node.args[0])
    return name in MOVEMENTS or name == "aten.pixel_shuffle"


def movement(builder: ChannelBuilder, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """Execute the operator three times: on ids, values and constancy."""
    if any(isinstance(a, torch.dtype) for a in args):
        return None  # a view of the bits
    operands = values_in((args, kwargs))
    if op_name(node) == "aten.repeat_interleave" and len(operands) > 1:
        return None  # as often as a tensor says
    if all(v.ids is None for v in operands):
        return _follow_parameter(builder, node, args, kwargs)
    if op_name(node) == "aten.index_select":  # the index carries no channels
        args = (*args[:2], args[2].expand(args[2].value) if isinstance(args[2], Value) else args[2])
        operands = operands[:1]
    pinned = {id(v): torch.zeros((1,) * len(v.shape), dtype=torch.int64) for v in operands if v.ids is None}
    builder.unsliceable.update(v.source for v in operands)

    def run(data_of: Callable[[Value], Tensor]) -> Any:
        a, k = pytree.tree_map_only(Value, lambda v: Broadcast(v.shape, data_of(v)), (args, kwargs))
        assert callable(node.target)
        return run_movement(node.target, a, k)

    ids, spec = pytree.tree_flatten(run(lambda v: pinned[id(v)] if v.ids is None else v.ids))
    if not any(bool(v.const.any()) for v in operands):
        return pytree.tree_unflatten([unknown(i.shape, i.data) for i in ids], spec)
    values = pytree.tree_leaves(run(lambda v: v.value.double()))
    const = pytree.tree_leaves(run(lambda v: v.const))
    results = [Value(i.shape, v.data, c.data, i.data) for v, c, i in zip(values, const, ids, strict=True)]
    return pytree.tree_unflatten(results, spec)


def _follow_parameter(builder: ChannelBuilder, node: fx.Node, args: Any, kwargs: Any) -> Value | None:
    """Follow a vector of parameters through a view: it gets new channels, to be coupled where it is read."""
    value = args[0]
    dims = [d for d, n in enumerate(value.shape) if n > 1]
    if not value.source or len(dims) != 1:
        return None
    (dim,) = dims
    ids = builder.new_ids(value.shape[dim])
    builder.bind(value.source, dim, ids)
    target = node.target
    assert callable(target)

    def run(data: Tensor) -> Any:
        return run_movement(target, (Broadcast(value.shape, data), *args[1:]), kwargs)

    moved, data = run(along(ids, dim, len(value.shape))), run(to_float64(value.value))
    const = torch.ones((1,) * len(moved.shape), dtype=torch.bool)
    return Value(moved.shape, data.data, const, moved.data)


def pad(builder: ChannelBuilder, node: fx.Node, x: Value, amounts: list[int], *rest: object) -> Value | None:
    """Surround with a constant: channels pass through in space; padded channels are new and constant."""
    mode = rest[0] if op_name(node) == "aten.pad" and rest else "constant"
    fill = next((r for r in rest if isinstance(r, int | float)), 0.0)
    if x.ids is None or (mode != "constant" and x.ids.ndim < 3):
        return None
    ndim, ids, value, const = len(x.shape), x.ids, x.value.double(), x.const
    if reads_size(node):
        value, const = mask_unknown(value, const & (value == fill))  # at this size there may be no border
    shape = list(x.shape)
    for pair in range(len(amounts) // 2):
        dim, (before, after) = ndim - 1 - pair, amounts[2 * pair : 2 * pair + 2]
        shape[dim] += before + after
        if ids.shape[dim] > 1 and (before or after):
            if mode != "constant" or before < 0 or after < 0:
                return None
            border = [
                along(builder.new_ids(n), dim, ndim).expand([n if d == dim else s for d, s in enumerate(ids.shape)])
                for n in (before, after)
            ]
            ids = torch.cat([border[0], ids, border[1]], dim)
    if bool(const.any()) and mode == "constant":
        grown = (functional.pad(t, amounts, value=f) for t, f in ((x.expand(value), fill), (x.expand(const), 1.0)))
        value, const = (compress(t) for t in grown)
        return Value(tuple(shape), value, const.bool(), ids)
    if mode == "constant" and any(ids.shape[d] != x.ids.shape[d] for d in range(ndim)):
        value, const = (
            compress(functional.pad(x.expand(t).double(), amounts, value=f)) for t, f in ((value, fill), (const, 1.0))
        )
        return Value(tuple(shape), value, const.bool(), ids)
    return unknown(shape, ids)


def pixel_shuffle(builder: ChannelBuilder, node: fx.Node, x: Value, factor: int) -> Value | None:
    """Lay r² channels side by side in space: they are coupled."""
    if x.ids is None:
        return None
    dim, ndim = len(x.shape) - 3, len(x.shape)
    ids = builder.ids_along(x, dim).reshape(-1, factor * factor)
    builder.couple(ids, ids[:, :1])
    lead = ids[:, :1].expand(-1, factor * factor).reshape(-1)
    assert callable(node.target)
    moved = [
        run_movement(node.target, (Broadcast(x.shape, data), factor), {})
        for data in (x.value, x.const, along(lead, dim, ndim))
    ]
    return Value(moved[0].shape, moved[0].data, moved[1].data.bool(), moved[2].data)


RULES: dict[str, Rule] = {
    **dict.fromkeys(sorted(MOVEMENTS), movement),
    "aten.constant_pad_nd": pad,
    "aten.pad": pad,
    "aten.pixel_shuffle": pixel_shuffle,
}
