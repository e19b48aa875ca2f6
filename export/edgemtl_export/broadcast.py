"""Broadcast tensors: a shape, and data of size 1 along every dimension in which nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

ALONG_ONE = frozenset(
    ("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "index_select")
)
"""Operators that move elements along one dimension alone."""
BY_STRIDE = frozenset(
    ("permute", "transpose", "t", "unsqueeze", "movedim", "expand", "contiguous", "clone", "alias", "detach")
)
"""Operators that change shape and strides but no element's index along its dimension."""


@dataclass(frozen=True, eq=False)
class Broadcast:
    """``data`` broadcast to ``shape``: a feature map of C channels is held as (1, C, 1, 1)."""

    shape: tuple[int, ...]
    data: Tensor

    def full(self) -> Tensor:
        """Return the tensor at its full size (a view)."""
        return self.data.expand(self.shape)


def compress(tensor: Tensor) -> Tensor:
    """Return the tensor with every dimension along which it only repeats itself cut to 1."""
    for dim in reversed(range(tensor.ndim)):
        if tensor.shape[dim] > 1:
            first = tensor.narrow(dim, 0, 1)
            if bool((tensor.narrow(dim, 1, 1) == first).all()) and bool((tensor == first).all()):
                tensor = first
    return tensor


def run_movement(target: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Execute a data-movement operator on the `Broadcast` tensors among its arguments, expanding only where it must."""
    operands = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Broadcast)]
    shapes = _run(target, args, kwargs, lambda b: torch.empty(b.shape, device="meta"))
    packet = target.overloadpacket if isinstance(target, torch._ops.OpOverload) else target
    name = str(packet).removeprefix("aten.")
    if name in ALONG_ONE:
        data = _run(target, args, kwargs, _expansion(name, args, kwargs, operands))
    elif name in BY_STRIDE:
        data = _by_stride(name, target, args, kwargs, shapes)
    else:
        data = pytree.tree_map_only(Tensor, compress, _run(target, args, kwargs, lambda b: b.full().contiguous()))
    return pytree.tree_map(lambda shape, part: Broadcast(tuple(shape.shape), part), shapes, data)


def _run(target: Callable[..., Any], args: Any, kwargs: Any, tensor_of: Callable[[Broadcast], Tensor]) -> Any:
    a, k = pytree.tree_map_only(Broadcast, tensor_of, (args, kwargs))
    return target(*a, **k)


def _by_stride(name: str, target: Callable[..., Any], args: Any, kwargs: Any, shapes: Any) -> Any:
    if name != "expand":
        return _run(target, args, kwargs, lambda b: b.data)
    data = args[0].data
    return data.reshape((1,) * (shapes.ndim - data.ndim) + tuple(data.shape))


def _expansion(name: str, args: Any, kwargs: Any, operands: list[Broadcast]) -> Callable[[Broadcast], Tensor]:
    """Return how an operator along one dimension gets its operands: full along it, and of one form elsewhere."""
    dim_arg = 2 if name in ("split", "split_with_sizes", "chunk") else 1
    dim = kwargs.get("dim", args[dim_arg] if len(args) > dim_arg else 0)
    if name == "stack":
        dim = None  # the new dimension is none of the operands'
    ndim = operands[0].data.ndim
    # An operand of size 0 (an empty cat) keeps its form.
    varies = [any(b.data.ndim == ndim and b.data.shape[d] > 1 for b in operands) for d in range(ndim)]

    def expand(b: Broadcast) -> Tensor:
        if b.data.ndim != ndim:
            return b.full()
        sizes = [b.shape[d] if varies[d] or (dim is not None and d == dim % ndim) else -1 for d in range(ndim)]
        return b.data.expand(sizes)

    return expand
