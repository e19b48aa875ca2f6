"""Matrix products of activations: channels are contracted, or pass through beside one matrix a head."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from ..channels import Channels, Value, rule


@rule("aten.matmul", "aten.bmm")
def matmul(channels: Channels, node: fx.Node, a: Value, b: Value) -> Any:
    """Contract channels of both operands in pairs, or mix the places of channels that stay themselves."""
    if a.ids is None or b.ids is None or len(a.shape) != len(b.shape) or len(a.shape) < 3:
        return NotImplemented
    (rows, inner), (inner_b, columns) = a.ids.shape[-2:], b.ids.shape[-2:]
    shape = (*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    if a.shape[:-2] != b.shape[:-2]:
        return NotImplemented
    if rows == columns == 1 and (inner > 1 or inner_b > 1):
        return _unknown(shape, _contracted(channels, node, (a.ids[..., 0, :], a), (b.ids[..., :, 0], b)))
    if inner == inner_b == 1 and columns == 1:
        return _passed(channels, node, a, b, shape)
    if inner == inner_b == 1 and rows == 1:
        return _passed(channels, node, b, a, shape)
    return NotImplemented


@rule("aten.scaled_dot_product_attention")
def attend(
    channels: Channels, node: fx.Node, q: Value, k: Value, v: Value, mask: Any = None, *rest: Any, **kw: Any
) -> Any:
    """Attention by head: q and k are contracted in pairs, v's channels pass through."""
    if any(x.ids is None or len(x.shape) != len(q.shape) or x.shape[:-2] != q.shape[:-2] for x in (q, k, v)):
        return NotImplemented
    assert q.ids is not None and k.ids is not None and v.ids is not None
    if any(x.ids.shape[-2] > 1 for x in (q, k, v) if x.ids is not None):
        return NotImplemented
    if isinstance(mask, Value) and (mask.ids is not None or _by_head(mask, v)):
        return NotImplemented
    if isinstance(mask, Value):
        channels.loose.add(mask.source)
    heads = _contracted(channels, node, (q.ids[..., 0, :], q), (k.ids[..., 0, :], k))
    shape = (*v.shape[:-2], q.shape[-2], v.shape[-1])
    return _passed(channels, node, v, _unknown((*v.shape[:-1], 1), heads), shape)


def _by_head(mask: Value, v: Value) -> bool:
    """Whether a mask differs between heads, so that it would have to be cut with them."""
    return any(n > 1 for n in mask.shape[:-2]) and v.ids is not None and max(v.ids.shape[:-2]) > 1


def scale(node: fx.Node, width: int) -> float:
    """Return the scale that attention over ``width`` channels a head uses."""
    given = node.kwargs.get("scale", node.args[6] if len(node.args) > 6 else None)
    assert given is None or isinstance(given, int | float)
    return 1 / math.sqrt(width) if given is None else float(given)


def _unknown(shape: tuple[int, ...], ids: Tensor) -> Value:
    blank = torch.zeros((1,) * len(shape))
    return Value(shape, blank.double(), blank.bool(), ids)


def _contracted(channels: Channels, node: fx.Node, left: tuple[Tensor, Value], right: tuple[Tensor, Value]) -> Tensor:
    """Pair the channels (..., K) of both and return one new channel for each head, (..., 1, 1)."""
    ids, other = torch.broadcast_tensors(left[0], right[0])
    channels.unify(ids, other)
    heads = tuple(ids.shape[:-1])
    made = channels.fresh(math.prod(heads)).reshape(heads)
    silent = _silent(left[1], ids) | _silent(right[1], ids)
    flat = ids.reshape(-1, ids.shape[-1])
    needs = torch.ones(len(flat), 1, flat.shape[1]).bool()
    channels.read(node, made.reshape(-1, 1), flat, needs, ~silent.reshape(flat.shape), torch.zeros_like(flat).bool())
    if channels.uniform and len(flat) > 1:
        channels.unify(flat, flat[:1])
    else:
        _agree(channels, made, ids)
    return made[..., None, None]


def _silent(x: Value, ids: Tensor) -> Tensor:
    """Return where a contracted operand is zero everywhere, of the shape of its ids (..., K)."""
    last = x.ids is not None and x.ids.shape[-1] > 1
    zero = x.zero if last else x.zero.transpose(-1, -2)
    return _everywhere(zero, (*ids.shape[:-1], 1, ids.shape[-1])).squeeze(-2).expand(ids.shape)


def _everywhere(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return where a mask holds all along the dimensions in which ``shape`` has one place."""
    for d, n in enumerate(shape):
        if n == 1 and mask.shape[d] > 1:
            mask = mask.all(d, keepdim=True)
    return mask


def _passed(channels: Channels, node: fx.Node, kept: Value, matrix: Value, shape: tuple[int, ...]) -> Value:
    """Let an operand's channels through, their places mixed; each channel needs the matrix of its head."""
    assert kept.ids is not None and matrix.ids is not None
    heads = kept.ids.shape[:-2]
    flat = kept.ids.reshape(math.prod(heads), -1)
    other = matrix.ids.expand(*heads, 1, 1).reshape(-1, 1)
    opened = torch.ones_like(other).bool()
    silent = _everywhere(kept.zero, kept.ids.shape)
    needs = ~silent.expand(kept.ids.shape).reshape(flat.shape)
    channels.read(node, flat, other, needs[..., None], opened, ~opened)
    if channels.uniform and len(flat) > 1:
        channels.unify(flat, flat[:1])
        channels.unify(other, other[:1])
    elif len(flat) > 1:
        channels.agree.append((flat.numpy(), other.numpy()))
    return Value(shape, torch.zeros((1,) * len(shape), dtype=torch.float64), silent, kept.ids)


def _agree(channels: Channels, made: Tensor, ids: Tensor) -> None:
    if made.numel() > 1:
        channels.agree.append((made.reshape(-1, 1).numpy(), ids.reshape(-1, ids.shape[-1]).numpy()))
