"""Pooling, means over space, and interpolation: each channel by itself, its picture changed."""

from __future__ import annotations

from typing import Any

from torch import fx

from ..channels import Channels, Value, known, name_of, rule

OVER_SPACE = ["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "upsample_bilinear2d", "upsample_bicubic2d", "mean"]


@rule(*(f"aten.{name}" for name in OVER_SPACE))
def over_space(channels: Channels, node: fx.Node, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Pool each channel by itself; the result is constant where all that it sees is."""
    ids = channels.along(x, 1)
    if ids is None or x.value.ndim != 4:
        return NotImplemented
    if name_of(node) == "aten.mean":
        dims = {d % 4 for d in args[0]} if args else {0, 1, 2, 3}
        if not dims <= {2, 3}:
            return NotImplemented
    assert callable(node.target)
    value = node.target(x.value, *args, **kwargs)
    # Whatever the pooling weighs, all-constant windows give exactly what a picture of ones gives.
    moving = node.target((~x.const).double(), *args, **kwargs)
    const = moving == 0
    if "bicubic" in name_of(node):  # its weights change sign and may cancel
        const = x.const.flatten(2).all(2)[:, :, None, None].expand(value.shape)
    shape = [1, -1] + [1] * (value.ndim - 2)
    return Value(known(value, const), const, ids.view(shape).expand(value.shape))
