"""Batch, instance, layer and group normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ..channels import Channels, Value, foldable, known, name_of, rule, shaped

BATCH = ("aten.batch_norm", "aten._native_batch_norm_legit_no_training")


@rule(*BATCH)
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
    parts = [part for part in (weight, bias, mean, var) if part is not None]
    short = name_of(node) == "aten.batch_norm"
    if x.ids is None or not all(part.source for part in parts) or (short and rest[0] is True):
        return NotImplemented
    ids, ndim = channels.along(x, 1), len(x.shape)
    for part in parts:
        channels.tie(part.source, 0, ids)
    channels.writers.update(part.source for part in (weight, bias) if part is not None)
    eps = rest[2] if short else rest[1]
    gamma, beta = (None if p is None else p.value for p in (weight, bias))
    scale, shift = batch_affine(gamma, beta, mean.value, var.value, eps)
    value, const = known(
        x.value * shaped(scale, 1, ndim) + shaped(shift, 1, ndim), x.const | shaped(scale == 0, 1, ndim)
    )
    result = Value(x.shape, value, const, shaped(ids, 1, ndim))
    return result if short else (result, None, None)


def batch_affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the scale and shift that batch normalisation is in evaluation, float64."""
    scale = (var.double() + eps).rsqrt() * (1.0 if weight is None else weight.double())
    return scale, (0.0 if bias is None else bias.double()) - mean.double() * scale


@rule("aten.instance_norm")
def instance_norm(
    channels: Channels,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    by_input: bool,
    *rest: Any,
) -> Any:
    """Normalise each channel of each picture by itself; a channel that is one constant becomes its shift."""
    if not by_input or mean is not None or x.ids is None:
        return NotImplemented
    if not all(p is None or p.source for p in (weight, bias)):
        return NotImplemented
    ids, ndim = channels.along(x, 1), len(x.shape)
    for part in (weight, bias):
        if part is not None:
            channels.tie(part.source, 0, ids)
            channels.writers.add(part.source)
    uniform, _ = foldable(x, 1)
    still = uniform if weight is None else uniform | (weight.value == 0)
    shift = torch.zeros(x.shape[1], dtype=torch.float64) if bias is None else bias.value.double()
    value, const = known(shaped(shift, 1, ndim), shaped(still, 1, ndim))
    return Value(x.shape, value, const, shaped(ids, 1, ndim))


@rule("aten.layer_norm")
def layer_norm(
    channels: Channels,
    node: fx.Node,
    x: Value,
    size: list[int],
    weight: Value | None = None,
    bias: Value | None = None,
    *rest: Any,
) -> Any:
    """Mix all channels' statistics: pinned, or, where it may be written out, each output needs all that changes."""
    if not channels.rewrite_norms or len(size) != 1 or x.ids is None:
        return NotImplemented
    return _mixed(channels, node, x, weight, bias, len(x.shape) - 1, 1)


@rule("aten.group_norm")
def group_norm(
    channels: Channels,
    node: fx.Node,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    *rest: Any,
) -> Any:
    """Mix the statistics of each group of channels, as layer normalisation does."""
    if not channels.rewrite_norms or x.ids is None:
        return NotImplemented
    return _mixed(channels, node, x, weight, bias, 1, groups)


def _mixed(
    channels: Channels, node: fx.Node, x: Value, weight: Value | None, bias: Value | None, dim: int, groups: int
) -> Any:
    if not all(p is None or p.source for p in (weight, bias)):
        return NotImplemented
    ids, ndim, count = channels.along(x, dim), len(x.shape), x.shape[dim]
    for part in (weight, bias):
        if part is not None:
            channels.tie(part.source, 0, ids)
            channels.writers.add(part.source)
    uniform, amount = foldable(x, dim)
    still = torch.zeros(count, dtype=torch.bool) if weight is None else weight.value == 0
    split = ids.reshape(groups, -1)
    needs = (~still).reshape(groups, -1, 1).expand(-1, -1, split.shape[1])
    channels.read(node, split, split, needs, ~uniform, amount != 0)
    shift = torch.zeros(count, dtype=torch.float64) if bias is None else bias.value.double()
    value, const = known(shaped(shift, dim, ndim), shaped(still, dim, ndim))
    return Value(x.shape, value, const, shaped(ids, dim, ndim))
