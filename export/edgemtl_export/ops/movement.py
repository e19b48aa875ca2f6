"""Operators that only move elements about: executed on values, constancy and channel ids alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional
from torch.utils import _pytree as pytree

from ..channels import Channels, Value, name_of, rule, shaped
from ..spread import Spread, compress, move

MOVEMENT = """
    view reshape _unsafe_view permute transpose t flatten unflatten slice select narrow split split_with_sizes
    chunk unbind cat stack unsqueeze squeeze expand alias detach contiguous clone movedim swapaxes
    pixel_unshuffle channel_shuffle roll flip lift_fresh_copy index_select repeat repeat_interleave tile unfold
""".split()  # noqa: SIM905
NAMES = frozenset(f"aten.{name}" for name in MOVEMENT)


@rule(*NAMES)
def movement(channels: Channels, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """Execute the operator three times."""
    parts = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Value)]
    if all(v.ids is None for v in parts):
        return _parameter(channels, node, args, kwargs)
    if name_of(node) == "aten.index_select":  # the index moves nothing itself
        args = (*args[:2], args[2].spread(args[2].value) if isinstance(args[2], Value) else args[2])
        parts = parts[:1]
    own = {id(v): torch.zeros((1,) * len(v.shape), dtype=torch.int64) for v in parts if v.ids is None}
    channels.loose.update(v.source for v in parts)

    def run(pick: Any) -> Any:
        a, k = pytree.tree_map_only(Value, lambda v: Spread(v.shape, pick(v)), (args, kwargs))
        assert callable(node.target)
        return move(node.target, a, k)

    ids, spec = pytree.tree_flatten(run(lambda v: own.get(id(v), v.ids)))
    still = not any(bool(v.const.any()) for v in parts)
    values = ids if still else pytree.tree_leaves(run(lambda v: v.value.double()))
    const = ids if still else pytree.tree_leaves(run(lambda v: v.const))
    made = []
    for v, c, i in zip(values, const, ids, strict=True):
        blank = torch.zeros((1,) * len(i.shape))
        value, constant = (blank.double(), blank.bool()) if still else (v.data, c.data)
        made.append(Value(i.shape, value, constant, i.data))
    return pytree.tree_unflatten(made, spec)


def _parameter(channels: Channels, node: fx.Node, args: Any, kwargs: Any) -> Any:
    """Follow a vector of parameters through a view: it brings channels of its own, to be tied where it is read."""
    value = args[0]
    long = [d for d, n in enumerate(value.shape) if n > 1]
    if not value.source or len(long) != 1:
        return NotImplemented
    ids = channels.fresh(value.shape[long[0]])
    channels.tie(value.source, long[0], ids)
    assert callable(node.target)

    def run(data: Tensor) -> Any:
        return move(node.target, (Spread(value.shape, data), *args[1:]), kwargs)  # type: ignore[arg-type]

    moved, data = run(shaped(ids, long[0], len(value.shape))), run(value.value)
    const = torch.ones((1,) * len(moved.shape), dtype=torch.bool)
    return Value(moved.shape, data.data, const, moved.data)


@rule("aten.constant_pad_nd", "aten.pad")
def pad(channels: Channels, node: fx.Node, x: Value, amounts: list[int], *rest: Any) -> Any:
    """Surround with a constant: channels stay themselves in space; padded channels are new and constant."""
    mode = rest[0] if name_of(node) == "aten.pad" and rest else "constant"
    fill = next((r for r in rest if isinstance(r, int | float)), 0.0)
    if x.ids is None or (mode != "constant" and x.ids.ndim < 3):
        return NotImplemented
    ndim, ids, value, const = len(x.shape), x.ids, x.value.double(), x.const
    shape = list(x.shape)
    for back in range(len(amounts) // 2):
        dim, (before, after) = ndim - 1 - back, amounts[2 * back : 2 * back + 2]
        shape[dim] += before + after
        if ids.shape[dim] > 1 and (before or after):
            if mode != "constant" or before < 0 or after < 0:
                return NotImplemented
            rim = [
                channels.fresh(n)
                .reshape([-1 if d == dim else 1 for d in range(ndim)])
                .expand([n if d == dim else s for d, s in enumerate(ids.shape)])
                for n in (before, after)
            ]
            ids = torch.cat([rim[0], ids, rim[1]], dim)
    if bool(const.any()) and mode == "constant":
        grown = (functional.pad(t, amounts, value=f) for t, f in ((x.spread(value), fill), (x.spread(const), 1.0)))
        value, const = (compress(t) for t in grown)
        const = const.bool()
    elif mode == "constant" and any(ids.shape[d] != x.ids.shape[d] for d in range(ndim)):
        value, const = (
            compress(functional.pad(x.spread(t).double(), amounts, value=f)) for t, f in ((value, fill), (const, 1.0))
        )
        const = const.bool()
    else:
        value, const = torch.zeros((1,) * ndim).double(), torch.zeros((1,) * ndim).bool()
    return Value(tuple(shape), value, const, ids)


@rule("aten.pixel_shuffle")
def pixel_shuffle(channels: Channels, node: fx.Node, x: Value, factor: int) -> Any:
    """Lay r² channels side by side in space: they stay or go together."""
    if x.ids is None:
        return NotImplemented
    ids = channels.along(x, len(x.shape) - 3).reshape(-1, factor * factor)
    channels.unify(ids, ids[:, :1])
    lead = ids[:, :1].expand(-1, factor * factor).reshape(-1)
    assert callable(node.target)
    moved = [
        move(node.target, (Spread(x.shape, data), factor), {})
        for data in (x.value, x.const, shaped(lead, len(x.shape) - 3, len(x.shape)))
    ]
    return Value(moved[0].shape, moved[0].data, moved[1].data.bool(), moved[2].data)
