"""Pooling, means over space, and interpolation: each channel by itself, its resolution changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ...broadcast import compress
from ...program import op_name
from ...widening import widen_arguments
from ..any_size import is_dynamic
from ..builder import ChannelBuilder, Rule
from ..values import Value, along, mask_unknown, unknown

POOLS = [f"aten.{mode}_pool{n}d" for mode in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)]
UPSAMPLINGS = [
    f"aten.upsample_{m}" for m in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d")
]
REDUCTIONS = ("aten.mean", "aten.amax", "aten.sum")
WITH_INDICES = ("aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d", "aten.max_pool2d_with_indices")


def max_with_indices(
    builder: ChannelBuilder, node: fx.Node, x: Value, *args: Any, **kwargs: Any
) -> tuple[Value, None] | None:
    """Take the maximum of each channel by itself; where its indices are used, all is pinned."""
    result = over_space(builder, node, x, *args, **kwargs)
    if result is None or any(u.args[1] == 1 and u.users for u in node.users):
        return None
    return result, None


def over_space(builder: ChannelBuilder, node: fx.Node, x: Value, *args: Any, **kwargs: Any) -> Value | None:
    """Pool each channel by itself; a channel that is constant stays so."""
    if x.ids is None or any(isinstance(a, Value) for a in (*args, *kwargs.values())):
        return None
    name, ndim = op_name(node), len(x.shape)
    args, kwargs = widen_arguments(node, args, kwargs)
    keepdim, dims = True, set[int]()
    if name in REDUCTIONS:
        dim_arg = args[0] if args else kwargs.get("dim")
        keepdim = bool(args[1] if len(args) > 1 else kwargs.get("keepdim", False))
        dims = {d % ndim for d in ([dim_arg] if isinstance(dim_arg, int) else dim_arg or range(ndim))}
        if any(x.ids.shape[d] > 1 for d in dims):
            return None
    elif max(x.ids.shape[2:], default=1) > 1 or ndim < 3:
        x = Value(x.shape, x.value, x.const, along(builder.ids_along(x, 1), 1, ndim))
    target = node.target
    assert callable(target)

    def run(data: Tensor) -> Tensor:
        result = target(data, *args, **kwargs)
        result = result[0] if isinstance(result, tuple) else result
        assert isinstance(result, Tensor)
        return result

    shape = tuple(run(torch.empty(x.shape, device="meta")).shape)
    assert x.ids is not None
    ids = x.ids if keepdim else x.ids.squeeze(sorted(dims))
    if name == "aten.sum" and any(is_dynamic(node.args[0], d) for d in dims):
        x = Value(x.shape, torch.zeros_like(x.value), x.zero, x.ids)  # any other sum grows with the size
    if not bool(x.const.any()):
        return unknown(shape, ids)
    uniform = max(x.value.shape[2:], default=1) == 1 and max(x.const.shape[2:], default=1) == 1
    if uniform and name not in REDUCTIONS:
        # Linear pooling gives a constant map times what it makes of ones; the maximum is the constant itself.
        ones = run(torch.ones((1, 1, *x.shape[2:]), dtype=torch.float64))
        if bool((ones - 1).abs().max() < 1e-12):
            return Value(shape, x.value, x.const, ids)
        return Value(shape, x.value * compress(ones), x.const, ids)
    const = run(x.expand((~x.const).double()).abs()) == 0
    if "bicubic" in name:  # its weights change sign and may cancel
        const = x.const.flatten(2).all(2).reshape(x.const.shape[0], -1, *[1] * (ndim - 2)).expand(shape)
    zero = torch.zeros((), dtype=torch.float64)
    value, const = mask_unknown(run(x.expand(torch.where(x.const, x.value.double(), zero))), const)
    return Value(shape, compress(value), compress(const), ids)


RULES: dict[str, Rule] = {
    **dict.fromkeys((*POOLS, *UPSAMPLINGS, *REDUCTIONS, "aten.grid_sampler"), over_space),
    **dict.fromkeys(WITH_INDICES, max_with_indices),
}
