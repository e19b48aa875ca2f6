"""Pooling, means over space, and interpolation: each channel by itself, its picture changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ..channels import Channels, Value, known, name_of, rule, shaped
from ..spread import compress

POOLS = [f"aten.{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)]
RESIZES = [f"aten.upsample_{kind}" for kind in ("nearest1d", "nearest2d", "nearest3d", "bilinear2d", "bicubic2d")]


@rule("aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d", "aten.max_pool2d_with_indices")
def with_indices(channels: Channels, node: fx.Node, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Take the maximum of each channel by itself; the places where it was found are pinned."""
    made = over_space(channels, node, x, *args, **kwargs)
    if made is NotImplemented or any(u.args[1] == 1 and u.users for u in node.users):
        return NotImplemented
    return made, None


@rule(*POOLS, *RESIZES, "aten.upsample_linear1d", "aten.mean", "aten.amax", "aten.sum", "aten.grid_sampler")
def over_space(channels: Channels, node: fx.Node, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Pool each channel by itself; a channel that is constant stays so."""
    if x.ids is None or any(isinstance(a, Value) for a in (*args, *kwargs.values())):
        return NotImplemented
    name, ndim = name_of(node), len(x.shape)
    keeps, dims = True, set[int]()
    if name in ("aten.mean", "aten.amax", "aten.sum"):
        given = args[0] if args else kwargs.get("dim")
        keeps = bool(args[1] if len(args) > 1 else kwargs.get("keepdim", False))
        dims = {d % ndim for d in ([given] if isinstance(given, int) else given or range(ndim))}
        if any(x.ids.shape[d] > 1 for d in dims):
            return NotImplemented
    elif max(x.ids.shape[2:], default=1) > 1 or ndim < 3:
        x = Value(x.shape, x.value, x.const, shaped(channels.along(x, 1), 1, ndim))
    assert callable(node.target)

    def run(data: Tensor) -> Tensor:
        result = node.target(data, *args, **kwargs)  # type: ignore[operator]
        result = result[0] if isinstance(result, tuple) else result
        assert isinstance(result, Tensor)
        return result

    shape = tuple(run(torch.empty(x.shape, device="meta")).shape)
    assert x.ids is not None
    ids = x.ids if keeps else x.ids.squeeze(sorted(dims))
    blank = torch.zeros((), dtype=torch.float64)
    if not bool(x.const.any()):
        return Value(shape, torch.zeros((1,) * len(shape)).double(), torch.zeros((1,) * len(shape)).bool(), ids)
    uniform = max(x.value.shape[2:], default=1) == 1 and max(x.const.shape[2:], default=1) == 1
    if uniform and name not in ("aten.mean", "aten.amax", "aten.sum"):
        # Linear pooling gives a constant picture times what it makes of ones; the maximum is its own.
        ones = run(torch.ones((1, 1, *x.shape[2:]), dtype=torch.float64))
        if bool((ones - 1).abs().max() < 1e-12):
            return Value(shape, x.value, x.const, ids)
        return Value(shape, x.value * compress(ones), x.const, ids)
    const = run(x.spread((~x.const).double()).abs()) == 0
    if "bicubic" in name:  # its weights change sign and may cancel
        const = x.const.flatten(2).all(2).reshape(x.const.shape[0], -1, *[1] * (ndim - 2)).expand(shape)
    value, const = known(run(x.spread(torch.where(x.const, x.value.double(), blank))), const)
    return Value(shape, compress(value), compress(const), ids)
