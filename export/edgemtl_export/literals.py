"""The numbers of channels that movement operators hold, brought to the sizes that are left; `movement` proves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from .channels import Channels, Value, name_of
from .layout import sizes

SELF_ADJUSTING = frozenset(
    f"aten.{n}"
    for n in [
        "permute",
        "transpose",
        "t",
        "cat",
        "stack",
        "unsqueeze",
        "alias",
        "detach",
        "contiguous",
        "clone",
        "movedim",
        "pixel_shuffle",
        "pixel_unshuffle",
        "swapaxes",
        "lift_fresh_copy",
        "flip",
        "roll",
        "repeat",
        "tile",
        "squeeze",
        "flatten",
        "channel_shuffle",
        "unfold",
        "repeat_interleave",
    ]
)


def rewritten(channels: Channels, live: Any, node: fx.Node, parts: list[Value]) -> tuple[Any, tuple[Any, ...]] | None:
    """Return an operator and arguments that fit the sizes that are left, or None; nothing is proved yet."""
    name = name_of(node)
    if name in SELF_ADJUSTING:
        return node.target, node.args
    left = [sizes(v.shape, live.of(v.ids.numpy())) for v in parts if v.ids is not None]
    if any(s is None for s in left):
        return None
    write = _WRITERS.get(name)
    return None if write is None else write(channels, live, node, parts, left)


def _shape(channels: Channels, live: Any, node: fx.Node, parts: list[Value], left: list[Any]) -> Any:
    """View, reshape, expand: numbers where channels left, everything else as it was written."""
    given: Any = node.args[1]
    new: list[Any] = []
    for number, old, size in zip(given, parts[0].shape, left[0], strict=True):
        symbolic = isinstance(number, fx.Node)
        new.append(number if old == size or (not symbolic and number == -1) else (-1 if symbolic else size))
    if sum(isinstance(n, int) and n == -1 for n in new) > 1:
        return None
    return node.target, (node.args[0], new, *node.args[2:])


def _split(channels: Channels, live: Any, node: fx.Node, parts: list[Value], left: list[Any]) -> Any:
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    assert isinstance(dim, int)
    return torch.ops.aten.split_with_sizes.default, (node.args[0], [s[dim] for s in left], dim)


def _kept_along(channels: Channels, live: Any, node: fx.Node, dim: int) -> Any:
    source = channels.values[node]
    box = [np.flatnonzero(live.of(source.ids.numpy()).any(axis=tuple(a for a in range(source.ids.ndim) if a != dim)))]
    return box[0] if source.ids.shape[dim] > 1 else np.arange(source.shape[dim])


def _slice(channels: Channels, live: Any, node: fx.Node, parts: list[Value], left: list[Any]) -> Any:
    args: list[Any] = list(node.args)  # as fx types them, mypy takes minutes over what follows
    source = args[0]
    assert isinstance(source, fx.Node)
    if name_of(node) == "aten.slice":
        dim, start, end, step = args[1:] + [0, None, None, 1][len(args) - 1 :]
    else:
        assert isinstance(args[2], int) and isinstance(args[3], int)
        dim, start, end, step = args[1], args[2], args[2] + args[3], 1
    shape = channels.values[source].shape
    if channels.values[source].ids.shape[dim % len(shape)] == 1:  # along a dimension without channels
        return node.target, node.args
    if isinstance(start, fx.Node) or isinstance(end, fx.Node):
        return None
    begin, stop, step = slice(start, end, step).indices(shape[dim])
    kept = _kept_along(channels, live, source, dim % len(shape))
    if step != 1:
        return None
    return torch.ops.aten.slice.Tensor, (source, dim, int((kept < begin).sum()), int((kept < stop).sum()))


def _select(channels: Channels, live: Any, node: fx.Node, parts: list[Value], left: list[Any]) -> Any:
    args: tuple[Any, ...] = node.args
    source, dim, index = args[:3]
    assert isinstance(source, fx.Node)
    value = channels.values[source]
    if value.ids.shape[dim % len(value.shape)] == 1:
        return node.target, node.args
    if not isinstance(index, int):
        return None
    kept = _kept_along(channels, live, source, dim % len(value.shape))
    return node.target, (source, dim, int((kept < index % value.shape[dim]).sum()))


def _unflatten(channels: Channels, live: Any, node: fx.Node, parts: list[Value], left: list[Any]) -> Any:
    dim, given = node.args[1:3]
    assert isinstance(dim, int) and isinstance(given, list | tuple)
    at = dim % len(channels.values[node.args[0]].shape)  # type: ignore[index]
    return node.target, (node.args[0], dim, list(left[0][at : at + len(given)]))


Writer = Callable[[Channels, Any, fx.Node, list[Value], list[Any]], Any]
_WRITERS: dict[str, Writer] = {
    "aten.view": _shape,
    "aten.reshape": _shape,
    "aten._unsafe_view": _shape,
    "aten.expand": _shape,
    "aten.split": _split,
    "aten.split_with_sizes": _split,
    "aten.chunk": _split,
    "aten.slice": _slice,
    "aten.narrow": _slice,
    "aten.select": _select,
    "aten.unflatten": _unflatten,
}
