"""Convolution, linear and batch normalisation: the operators that own channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional

from ..channels import Channels, Read, Value, known, name_of, rule


@rule("aten.conv2d")
def conv2d(
    channels: Channels,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Make new channels from old (groups 1), or filter each channel by itself (depthwise)."""
    if x.value.ndim != 4 or (bias is not None and not bias.source):
        return NotImplemented
    in_ids = channels.along(x, 1)
    depthwise = groups == weight.value.shape[0] == x.value.shape[1] and groups > 1
    if in_ids is None or not weight.source or (groups > 1 and not depthwise):
        return NotImplemented
    geometry = (stride, padding, dilation, groups)
    moving = functional.conv2d((~x.const).double(), weight.value.abs(), None, *geometry) > 0
    value = functional.conv2d(x.value, weight.value, bias.value if bias else None, *geometry)
    out_ids = in_ids if depthwise else channels.fresh(len(weight.value))
    _own(channels, weight, bias, out_ids)
    if not depthwise:
        channels.tie(weight.source, 1, in_ids)
        _read(channels, node, x, 1, weight.value.abs().sum((2, 3)), out_ids, in_ids)
    return _value(value, ~moving, out_ids, 1)


@rule("aten.linear")
def linear(channels: Channels, node: fx.Node, x: Value, weight: Value, bias: Value | None = None) -> Any:
    """Make new channels from the last dimension's."""
    in_ids = channels.along(x, -1)
    if in_ids is None or not weight.source or (bias is not None and not bias.source):
        return NotImplemented
    moving = functional.linear((~x.const).double(), weight.value.abs()) > 0
    value = functional.linear(x.value, weight.value, bias.value if bias else None)
    out_ids = channels.fresh(len(weight.value))
    _own(channels, weight, bias, out_ids)
    channels.tie(weight.source, 1, in_ids)
    _read(channels, node, x, x.value.ndim - 1, weight.value.abs(), out_ids, in_ids)
    return _value(value, ~moving, out_ids, -1)


@rule("aten._native_batch_norm_legit_no_training", "aten.batch_norm")
def batch_norm(
    channels: Channels,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    *rest: Any,
) -> Any:
    """Scale and shift each channel by itself, with its running statistics."""
    ids = channels.along(x, 1)
    parts = [part for part in (weight, bias, mean, var) if part is not None]
    if ids is None or not all(part.source for part in parts) or (rest and rest[0] is True):
        return NotImplemented
    eps = rest[-2] if name_of(node) == "aten.batch_norm" else rest[-1]
    for part in parts:
        channels.tie(part.source, 0, ids)
    channels.writers.update(part.source for part in (weight, bias) if part is not None)
    shape = [1, -1] + [1] * (x.value.ndim - 2)
    gamma = weight.value.view(shape) if weight else torch.ones(())
    beta = bias.value.view(shape) if bias else torch.zeros(())
    value = (x.value - mean.value.view(shape)) / (var.value.view(shape) + eps).sqrt() * gamma + beta
    const = x.const | (gamma == 0)
    result = Value(known(value, const), const, x.ids)
    return result if name_of(node) == "aten.batch_norm" else (result, None, None)


def _own(channels: Channels, weight: Value, bias: Value | None, ids: Tensor) -> None:
    channels.tie(weight.source, 0, ids)
    channels.writers.add(weight.source)
    if bias is not None:
        channels.tie(bias.source, 0, ids)
        channels.writers.add(bias.source)


def _read(channels: Channels, node: fx.Node, x: Value, dim: int, size: Tensor, out_ids: Tensor, in_ids: Tensor) -> None:
    """Note which input channels each output channel reads with a non-zero weight and a non-zero value."""
    others = [d for d in range(x.value.ndim) if d != dim]
    zero, constant = (part.amin(others) if others else part for part in (x.is_zero, x.const))
    constant = constant & ~zero
    needs = (size > 0) & ~zero
    channels.reads.append(
        Read(
            f"{name_of(node)} {node.name}",
            out_ids.numpy().astype(np.int64),
            in_ids.numpy().astype(np.int64),
            needs.numpy(),
            constant.numpy(),
        )
    )


def _value(value: Tensor, const: Tensor, ids: Tensor, dim: int) -> Value:
    shape = [1] * value.ndim
    shape[dim] = -1
    return Value(known(value, const), const, ids.view(shape).expand(value.shape))
