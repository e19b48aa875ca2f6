"""Shape arguments of movement operators, adjusted to the channels that stay; `view_rewrite` proves them right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from .analysis.channels import Channels
from .analysis.values import Ids, Value
from .plan import ActiveChannels, NewCall
from .program import op_name
from .ragged import kept_shape

SELF_ADJUSTING = frozenset(
    f"aten.{name}"
    for name in """
    permute transpose t cat stack unsqueeze alias detach contiguous clone movedim pixel_shuffle pixel_unshuffle
    swapdims moveaxis mT mH adjoint
    swapaxes lift_fresh_copy flip roll repeat tile squeeze flatten channel_shuffle unfold repeat_interleave
    """.split()  # noqa: SIM905
)
"""Operators whose arguments hold no number of channels."""


@dataclass(frozen=True, eq=False)
class Movement:
    """A movement node to adjust: its results, and the pruned shape of each."""

    channels: Channels
    active: ActiveChannels
    node: fx.Node
    results: Sequence[Value]
    shapes: Sequence[list[int]]


def adjusted_call(
    channels: Channels, active: ActiveChannels, node: fx.Node, results: Sequence[Value]
) -> NewCall | None:
    """Return an operator and arguments that fit the pruned shapes, or None; nothing is proved yet."""
    name = op_name(node)
    if name in SELF_ADJUSTING:
        return _unchanged(node)
    shapes = [kept_shape(v.shape, active.is_active(v.ids.numpy())) for v in results if v.ids is not None]
    possible = [shape for shape in shapes if shape is not None]
    adjust = ADJUSTERS.get(name)
    if adjust is None or len(possible) != len(shapes):
        return None
    return adjust(Movement(channels, active, node, results, possible))


def _unchanged(node: fx.Node) -> NewCall:
    assert callable(node.target)
    return NewCall(node.target, node.args)


def _view(move: Movement) -> NewCall | None:
    """View, reshape, expand: new numbers where channels were pruned, everything else as it was written."""
    node = move.node
    sizes: Any = node.args[1]
    new: list[Any] = []
    for number, old, size in zip(sizes, move.results[0].shape, move.shapes[0], strict=True):
        symbolic = isinstance(number, fx.Node)
        new.append(number if old == size or (not symbolic and number == -1) else (-1 if symbolic else size))
    if sum(isinstance(n, int) and n == -1 for n in new) > 1:
        return None
    assert callable(node.target)
    return NewCall(node.target, (node.args[0], new, *node.args[2:]))


def _split(move: Movement) -> NewCall | None:
    node = move.node
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    assert isinstance(dim, int)
    return NewCall(torch.ops.aten.split_with_sizes.default, (node.args[0], [s[dim] for s in move.shapes], dim))


def _slice(move: Movement) -> NewCall | None:
    args: list[Any] = list(move.node.args)  # as fx types them, mypy takes minutes over what follows
    source = args[0]
    if op_name(move.node) == "aten.slice":
        dim, start, end, step = args[1:] + [0, None, None, 1][len(args) - 1 :]
    else:
        assert isinstance(args[2], int) and isinstance(args[3], int)
        dim, start, end, step = args[1], args[2], args[2] + args[3], 1
    value = move.channels.value_of(source)
    assert value.ids is not None
    ndim = len(value.shape)
    if value.ids.shape[dim % ndim] == 1:  # along a dimension without channels
        return _unchanged(move.node)
    if isinstance(start, fx.Node) or isinstance(end, fx.Node):
        return None
    begin, stop, step = slice(start, end, step).indices(value.shape[dim])
    if step != 1:
        return None
    kept = _kept_along(move, value, dim % ndim)
    return NewCall(torch.ops.aten.slice.Tensor, (source, dim, int((kept < begin).sum()), int((kept < stop).sum())))


def _select(move: Movement) -> NewCall | None:
    args: tuple[Any, ...] = move.node.args
    source, dim, index = args[:3]
    value = move.channels.value_of(source)
    assert value.ids is not None
    if value.ids.shape[dim % len(value.shape)] == 1:
        return _unchanged(move.node)
    if not isinstance(index, int):
        return None
    kept = _kept_along(move, value, dim % len(value.shape))
    assert callable(move.node.target)
    return NewCall(move.node.target, (source, dim, int((kept < index % value.shape[dim]).sum())))


def _unflatten(move: Movement) -> NewCall | None:
    node = move.node
    dim, sizes = node.args[1:3]
    assert isinstance(dim, int) and isinstance(sizes, list | tuple)
    first = dim % len(move.channels.value_of(node.args[0]).shape)
    assert callable(node.target)
    return NewCall(node.target, (node.args[0], dim, list(move.shapes[0][first : first + len(sizes)])))


def _kept_along(move: Movement, value: Value, dim: int) -> Ids:
    """Return the indices along ``dim`` at which anything stays of a dimension that holds channels."""
    assert value.ids is not None
    others = tuple(d for d in range(value.ids.ndim) if d != dim)
    return np.flatnonzero(move.active.is_active(value.ids.numpy()).any(axis=others))


ADJUSTERS: dict[str, Callable[[Movement], NewCall | None]] = {
    "aten.view": _view,
    "aten.reshape": _view,
    "aten._unsafe_view": _view,
    "aten.expand": _view,
    "aten.split": _split,
    "aten.split_with_sizes": _split,
    "aten.chunk": _split,
    "aten.slice": _slice,
    "aten.narrow": _slice,
    "aten.select": _select,
    "aten.unflatten": _unflatten,
}
