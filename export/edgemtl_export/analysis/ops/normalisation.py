"""Batch, instance, layer and group normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ...program import op_name
from ..builder import ChannelBuilder, Rule
from ..values import Value, along, mask_unknown, uniform_constants

BATCH_NORMS = ("aten.batch_norm", "aten._native_batch_norm_legit_no_training")


def batch_norm(
    builder: ChannelBuilder,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    *rest: Any,
) -> Value | tuple[Value, None, None] | None:
    """Scale and shift each channel by itself, with its running statistics."""
    parts = [part for part in (weight, bias, mean, var) if part is not None]
    one_result = op_name(node) == "aten.batch_norm"
    if x.ids is None or not all(part.source for part in parts) or (one_result and rest[0] is True):
        return None
    ids, ndim = builder.ids_along(x, 1), len(x.shape)
    builder.bind_output([weight, bias], ids)
    for statistic in (mean, var):
        builder.bind(statistic.source, 0, ids)
    eps = rest[2] if one_result else rest[1]
    gamma, beta = (None if p is None else p.value for p in (weight, bias))
    scale, shift = batch_norm_affine(gamma, beta, mean.value, var.value, eps)
    value, const = mask_unknown(
        x.value * along(scale, 1, ndim) + along(shift, 1, ndim), x.const | along(scale == 0, 1, ndim)
    )
    result = Value(x.shape, value, const, along(ids, 1, ndim))
    return result if one_result else (result, None, None)


def batch_norm_affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the scale and shift that batch normalisation is in evaluation, float64."""
    scale = (var.double() + eps).rsqrt() * (1.0 if weight is None else weight.double())
    return scale, (0.0 if bias is None else bias.double()) - mean.double() * scale


def instance_norm(
    builder: ChannelBuilder,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    by_input: bool,
    *rest: object,
) -> Value | None:
    """Normalise each channel of each sample by itself; a channel that is one constant becomes its shift."""
    if not by_input or mean is not None or x.ids is None:
        return None
    if not all(p is None or p.source for p in (weight, bias)):
        return None
    ids = builder.ids_along(x, 1)
    builder.bind_output([weight, bias], ids)
    uniform, _ = uniform_constants(x, 1)
    const = uniform if weight is None else uniform | (weight.value == 0)
    return _shifts(x, ids, bias, const, 1)


def layer_norm(
    builder: ChannelBuilder,
    node: fx.Node,
    x: Value,
    size: list[int],
    weight: Value | None = None,
    bias: Value | None = None,
    *rest: object,
) -> Value | None:
    """Mix all channels' statistics: pinned, or, where it may be written out, each output needs all that varies."""
    if not builder.rewrite_norms or len(size) != 1 or x.ids is None:
        return None
    return _shared_statistics(builder, node, x, weight, bias, len(x.shape) - 1, 1)


def group_norm(
    builder: ChannelBuilder,
    node: fx.Node,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    *rest: object,
) -> Value | None:
    """Mix the statistics of each group of channels, as layer normalisation does."""
    if not builder.rewrite_norms or x.ids is None:
        return None
    return _shared_statistics(builder, node, x, weight, bias, 1, groups)


def _shared_statistics(
    builder: ChannelBuilder, node: fx.Node, x: Value, weight: Value | None, bias: Value | None, dim: int, groups: int
) -> Value | None:
    """Let each output channel need all inputs of its group that vary, unless its scale is zero."""
    if not all(p is None or p.source for p in (weight, bias)):
        return None
    ids = builder.ids_along(x, dim)
    builder.bind_output([weight, bias], ids)
    uniform, amount = uniform_constants(x, dim)
    const = torch.zeros(x.shape[dim], dtype=torch.bool) if weight is None else weight.value == 0
    split = ids.reshape(groups, -1)
    needs = (~const).reshape(groups, -1, 1).expand(-1, -1, split.shape[1])
    builder.add_read(node, split, split, needs, ~uniform, amount != 0)
    return _shifts(x, ids, bias, const, dim)


def _shifts(x: Value, ids: Tensor, bias: Value | None, const: Tensor, dim: int) -> Value:
    """Return a result whose channels ``const`` (n,) have their shift as their value."""
    ndim = len(x.shape)
    shift = torch.zeros(x.shape[dim], dtype=torch.float64) if bias is None else bias.value.double()
    value, known = mask_unknown(along(shift, dim, ndim), along(const, dim, ndim))
    return Value(x.shape, value, known, along(ids, dim, ndim))


RULES: dict[str, Rule] = {
    **dict.fromkeys(BATCH_NORMS, batch_norm),
    "aten.instance_norm": instance_norm,
    "aten.layer_norm": layer_norm,
    "aten.group_norm": group_norm,
}
