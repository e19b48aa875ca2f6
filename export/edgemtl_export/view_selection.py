"""A chain of views and splits as one selection of channels, a view and a permutation of the tensor it began with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .analysis.channels import Channels
from .analysis.values import Value, values_in
from .broadcast import Broadcast, run_movement
from .plan import ActiveChannels, ChannelSelection
from .program import op_name
from .ragged import take_kept


def carries_channels(value: object) -> bool:
    """Whether a value, or a part of a container, has channels."""
    return any(v.ids is not None for v in values_in(value))


def select_channels(
    channels: Channels, active: ActiveChannels, source: fx.Node, chain: list[fx.Node], result: Value
) -> ChannelSelection | None:
    """Find the channels of ``source``, and the view of them, that a chain of movements comes to."""
    start = channels.value_of(source)
    assert start.ids is not None and result.ids is not None
    dims = [d for d in range(len(start.shape)) if start.ids.shape[d] > 1]
    if len(dims) != 1:
        return None
    (dim,) = dims
    kept = np.flatnonzero(active.is_active(start.ids.numpy()).reshape(-1))
    # Follow the index of every element, then see by which dimension of the source each of the result's runs.
    moved: Any = Broadcast(start.shape, torch.arange(math.prod(start.shape)).reshape(start.shape))
    for step in chain:
        moved = _run_step(channels, step, moved)
    indices = moved.full()
    channel = _channel_of(indices, start.shape, dim)
    stays = active.is_active(result.ids.numpy())
    taken = take_kept(channel, result.shape, np.broadcast_to(stays, result.ids.shape))
    if taken is None:
        return None
    runs = [d for d in range(channel.ndim) if channel.shape[d] > 1 and bool((channel != channel.narrow(d, 0, 1)).any())]
    wanted = taken[0][tuple(slice(None) if d in runs else 0 for d in range(channel.ndim))]
    position = {int(k): i for i, k in enumerate(kept)}
    flat = [int(c) for c in wanted.reshape(-1)]
    if any(c not in position for c in flat):
        return None
    index = tuple(position[c] for c in flat)
    return _as_view(source, dim, index, runs, tuple(taken[1]), indices, start.shape)


def renumbered_selection(
    channels: Channels, active: ActiveChannels, node: fx.Node, result: Value
) -> ChannelSelection | None:
    """Number what an ``index_select`` takes by the places that are left of its source, and prove it equal."""
    source, dim, index = node.args[:3]
    assert isinstance(source, fx.Node) and isinstance(dim, int) and isinstance(index, fx.Node)
    value, fixed = channels.values[source], channels.values[index]
    if not isinstance(value, Value) or value.ids is None or result.ids is None:
        return None
    if not isinstance(fixed, Value) or not bool(fixed.const.all()):
        return None
    chosen = fixed.expand(fixed.value).long()
    stays = np.broadcast_to(active.is_active(value.ids.numpy()), value.shape)
    left = torch.from_numpy(np.moveaxis(stays, dim, 0).reshape(value.shape[dim], -1).any(axis=1))
    new = (left.long().cumsum(0) - 1)[chosen[left[chosen]]]
    numbers = torch.arange(math.prod(value.shape)).reshape(value.shape)
    kept = take_kept(numbers, value.shape, stays)
    whole = numbers.index_select(dim, chosen)
    expected = take_kept(whole, result.shape, np.broadcast_to(active.is_active(result.ids.numpy()), result.shape))
    if kept is None or expected is None or kept[0].shape[dim] != int(left.sum()):  # rows that keep other places
        return None
    if not torch.equal(kept[0].index_select(dim, new), expected[0]):
        return None
    return ChannelSelection(source, dim, tuple(int(i) for i in new))


def _as_view(
    source: fx.Node,
    dim: int,
    index: tuple[int, ...],
    runs: list[int],
    kept_sizes: tuple[int, ...],
    indices: Tensor,
    shape: tuple[int, ...],
) -> ChannelSelection | None:
    """Prove that the chain is a view and a permutation of the selected channels, and write it so.

    ``runs`` are the result's dimensions along which the source's channel changes, ``indices`` the source's element at
    every element of the result.
    """
    selected = torch.arange(math.prod(shape)).reshape(shape).index_select(dim, _all_channels(indices, shape, dim, runs))
    same_rest = _without(shape, dim) == _without(tuple(indices.shape), dim)
    if len(shape) == indices.ndim and runs == [dim] and same_rest and torch.equal(selected, indices):
        return ChannelSelection(source, dim, index)
    # The source's other dimensions, each whole and in its order, and the channel's factors where the channel was.
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    steps = []
    for d in range(indices.ndim):
        ahead = indices.narrow(d, 1, indices.shape[d] - 1) - indices.narrow(d, 0, indices.shape[d] - 1)
        steps.append(0 if d in runs or indices.shape[d] == 1 else int(ahead.reshape(-1)[0]))
    owner = [
        strides.index(s) if s in strides and d not in runs and indices.shape[d] > 1 else -1 for d, s in enumerate(steps)
    ]
    viewed: list[int] = []
    origin: list[int] = []
    for d in range(len(shape)):
        factors = runs if d == dim else [r for r, o in enumerate(owner) if o == d]
        if d != dim and shape[d] > 1 and (len(factors) != 1 or indices.shape[factors[0]] != shape[d]):
            return None
        viewed += [kept_sizes[r] if d == dim else -1 - d for r in factors]
        origin += factors
    ones = [r for r in range(indices.ndim) if r not in origin]
    if any(indices.shape[r] != 1 for r in ones):
        return None
    viewed, origin = [1] * len(ones) + viewed, ones + origin
    order = tuple(origin.index(r) for r in range(indices.ndim))
    # The same construction at full size must give the chain's result.
    if not torch.equal(selected.reshape([indices.shape[r] for r in origin]).permute(order), indices):
        return None
    return ChannelSelection(source, dim, index, tuple(viewed), order)


def _channel_of(indices: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    """Return the source's channel of every element index."""
    return (indices // math.prod(shape[dim + 1 :])) % shape[dim]


def _all_channels(indices: Tensor, shape: tuple[int, ...], dim: int, runs: list[int]) -> Tensor:
    """Return the source's channel of every channel of the result, nothing pruned."""
    channel = _channel_of(indices, shape, dim)
    return channel[tuple(slice(None) if d in runs else 0 for d in range(indices.ndim))].reshape(-1)


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return shape[:dim] + shape[dim + 1 :]


def _run_step(channels: Channels, step: fx.Node, operand: Any) -> Any:
    """Execute one movement of a chain on other data."""

    def argument(n: fx.Node) -> object:
        value = channels.values[n]
        if carries_channels(value):
            return operand
        return value.expand(value.value) if isinstance(value, Value) else value

    assert callable(step.target)
    args, kwargs = pytree.tree_map_only(fx.Node, argument, (step.args, step.kwargs))
    return args[0][args[1]] if op_name(step) == "getitem" else run_movement(step.target, args, kwargs)
