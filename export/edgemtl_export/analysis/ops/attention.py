"""Matrix products of activations: channels are contracted in pairs, or pass through next to one matrix a head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from ..builder import ChannelBuilder, Rule
from ..values import Value, unknown


def matmul(builder: ChannelBuilder, node: fx.Node, a: Value, b: Value) -> Value | None:
    """Contract channels of both operands in pairs, or mix the positions of channels that stay separate."""
    if a.ids is None or b.ids is None or len(a.shape) != len(b.shape) or len(a.shape) < 3:
        return None
    (rows, inner), (inner_b, columns) = a.ids.shape[-2:], b.ids.shape[-2:]
    shape = (*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    if a.shape[:-2] != b.shape[:-2]:
        return None
    if rows == columns == 1 and (inner > 1 or inner_b > 1):
        return unknown(shape, _contract(builder, node, (a.ids[..., 0, :], a), (b.ids[..., :, 0], b)))
    if inner == inner_b == 1 and columns == 1:
        return _pass_through(builder, node, a, b, shape)
    if inner == inner_b == 1 and rows == 1:
        return _pass_through(builder, node, b, a, shape)
    return None


def scaled_dot_product_attention(
    builder: ChannelBuilder,
    node: fx.Node,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    *rest: object,
    **kw: object,
) -> Value | None:
    """Attention by head: q and k are contracted in pairs, v's channels pass through."""
    if any(x.ids is None or len(x.shape) != len(q.shape) or x.shape[:-2] != q.shape[:-2] for x in (q, k, v)):
        return None
    assert q.ids is not None and k.ids is not None and v.ids is not None
    if any(x.ids.shape[-2] > 1 for x in (q, k, v) if x.ids is not None):
        return None
    if mask is not None and (mask.ids is not None or _differs_by_head(mask, v)):
        return None
    if mask is not None:
        builder.unsliceable.add(mask.source)
    heads = _contract(builder, node, (q.ids[..., 0, :], q), (k.ids[..., 0, :], k))
    shape = (*v.shape[:-2], q.shape[-2], v.shape[-1])
    return _pass_through(builder, node, v, unknown((*v.shape[:-1], 1), heads), shape)


def attention_scale(node: fx.Node, width: int) -> float:
    """Return the scale that attention over ``width`` channels a head uses."""
    scale = node.kwargs.get("scale", node.args[6] if len(node.args) > 6 else None)
    assert scale is None or isinstance(scale, int | float)
    return 1 / math.sqrt(width) if scale is None else float(scale)


def _differs_by_head(mask: Value, v: Value) -> bool:
    """Whether a mask differs between heads, so that it would have to be sliced with them."""
    return any(n > 1 for n in mask.shape[:-2]) and v.ids is not None and max(v.ids.shape[:-2]) > 1


def _contract(
    builder: ChannelBuilder, node: fx.Node, left: tuple[Tensor, Value], right: tuple[Tensor, Value]
) -> Tensor:
    """Couple the channels (..., K) of both in pairs and return one new channel for each head, (..., 1, 1)."""
    ids, other = torch.broadcast_tensors(left[0], right[0])
    builder.couple(ids, other)
    heads = tuple(ids.shape[:-1])
    out_ids = builder.new_ids(math.prod(heads)).reshape(heads)
    zero = _contracted_zero(left[1], ids) | _contracted_zero(right[1], ids)
    flat = ids.reshape(-1, ids.shape[-1])
    needs = torch.ones(len(flat), 1, flat.shape[1]).bool()
    required, nonzero = ~zero.reshape(flat.shape), torch.zeros_like(flat).bool()
    builder.add_read(node, out_ids.reshape(-1, 1), flat, needs, required, nonzero)
    if builder.couple_groups and len(flat) > 1:
        builder.couple(flat, flat[:1])
    elif out_ids.numel() > 1:
        builder.paired_rows.append((out_ids.reshape(-1, 1).numpy(), flat.numpy()))
    return out_ids[..., None, None]


def _contracted_zero(x: Value, ids: Tensor) -> Tensor:
    """Return where a contracted operand is zero at every position, of the shape of its ids (..., K)."""
    last = x.ids is not None and x.ids.shape[-1] > 1
    zero = x.zero if last else x.zero.transpose(-1, -2)
    return _all_along_ones(zero, (*ids.shape[:-1], 1, ids.shape[-1])).squeeze(-2).expand(ids.shape)


def _all_along_ones(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return where a mask holds all along the dimensions in which ``shape`` is 1."""
    for d, n in enumerate(shape):
        if n == 1 and mask.shape[d] > 1:
            mask = mask.all(d, keepdim=True)
    return mask


def _pass_through(
    builder: ChannelBuilder, node: fx.Node, operand: Value, matrix: Value, shape: tuple[int, ...]
) -> Value:
    """Let an operand's channels through, their positions mixed; each channel needs the matrix of its head."""
    assert operand.ids is not None and matrix.ids is not None
    heads = torch.broadcast_shapes(operand.ids.shape[:-2], matrix.ids.shape[:-2])
    ids = operand.ids.expand(*heads, *operand.ids.shape[-2:])
    flat = ids.reshape(math.prod(heads), -1)
    other = matrix.ids.expand(*heads, 1, 1).reshape(-1, 1)
    required = torch.ones_like(other).bool()
    zero = _all_along_ones(operand.zero, operand.ids.shape)
    needs = ~zero.expand(ids.shape).reshape(flat.shape)
    builder.add_read(node, flat, other, needs[..., None], required, ~required)
    if builder.couple_groups and len(flat) > 1:
        builder.couple(flat, flat[:1])
        builder.couple(other, other[:1])
    elif len(flat) > 1:
        builder.paired_rows.append((flat.numpy(), other.numpy()))
    return Value(shape, torch.zeros((1,) * len(shape), dtype=torch.float64), zero, operand.ids)


RULES: dict[str, Rule] = {
    "aten.matmul": matmul,
    "aten.bmm": matmul,
    "aten.scaled_dot_product_attention": scaled_dot_product_attention,
}
