"""Tensors that mostly repeat themselves: a shape, and data of size 1 wherever nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

ALONG_ONE = frozenset("slice select narrow split split_with_sizes chunk unbind cat stack index_select".split())  # noqa: SIM905
BY_STRIDE = frozenset("permute transpose t unsqueeze movedim expand contiguous clone alias detach".split())  # noqa: SIM905


@dataclass(frozen=True, eq=False)
class Spread:
    """``data`` broadcast to ``shape``: a feature map of C channels is held as (1, C, 1, 1)."""

    shape: tuple[int, ...]
    data: Tensor

    def full(self) -> Tensor:
        """Return the tensor at its full size (a view)."""
        return self.data.expand(self.shape)

    def along(self, dim: int) -> Tensor:
        """Return the data at its full size along one dimension, (..., n, ...) with the others as they are held."""
        sizes = [-1] * self.data.ndim
        sizes[dim] = self.shape[dim]
        return self.data.expand(sizes)


def compress(tensor: Tensor) -> Tensor:
    """Return the tensor with every dimension along which it only repeats itself cut to 1."""
    for dim in reversed(range(tensor.ndim)):
        if tensor.shape[dim] > 1:
            first = tensor.narrow(dim, 0, 1)
            if bool((tensor.narrow(dim, 1, 1) == first).all()) and bool((tensor == first).all()):
                tensor = first
    return tensor


def move(target: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Execute a movement operator on the Spread tensors among its arguments, growing them only where it must."""
    given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Spread)]
    shapes = _run(target, args, kwargs, lambda s: torch.empty(s.shape, device="meta"))
    name = str(getattr(target, "overloadpacket", target)).removeprefix("aten.")
    if name in ALONG_ONE:
        data = _run(target, args, kwargs, _grower(name, args, kwargs, given))
    elif name in BY_STRIDE:
        data = _by_stride(name, target, args, kwargs, shapes)
    else:
        data = pytree.tree_map_only(Tensor, compress, _run(target, args, kwargs, lambda s: s.full().contiguous()))
    return pytree.tree_map(lambda shape, part: Spread(tuple(shape.shape), part), shapes, data)


def _run(target: Callable[..., Any], args: Any, kwargs: Any, pick: Callable[[Spread], Tensor]) -> Any:
    a, k = pytree.tree_map_only(Spread, pick, (args, kwargs))
    return target(*a, **k)


def _by_stride(name: str, target: Callable[..., Any], args: Any, kwargs: Any, shapes: Any) -> Any:
    if name != "expand":
        return _run(target, args, kwargs, lambda s: s.data)
    data = args[0].data
    return data.reshape((1,) * (shapes.ndim - data.ndim) + tuple(data.shape))


def _grower(name: str, args: Any, kwargs: Any, given: list[Spread]) -> Callable[[Spread], Tensor]:
    """Return how an operator along one dimension wants its operands: full along it, and of one form elsewhere."""
    place = {"cat": 1, "stack": 1, "split": 2, "split_with_sizes": 2, "chunk": 2}.get(name, 1)
    dim = kwargs.get("dim", args[place] if len(args) > place else 0)
    if name == "stack":
        dim = None  # the new dimension is none of theirs
    ndim = given[0].data.ndim
    # An operand of size 0 (an empty cat) keeps its own form.
    varies = [any(s.data.ndim == ndim and s.data.shape[d] > 1 for s in given) for d in range(ndim)]

    def grow(s: Spread) -> Tensor:
        if s.data.ndim != ndim:
            return s.full()
        sizes = [s.shape[d] if varies[d] or (dim is not None and d == dim % ndim) else -1 for d in range(ndim)]
        return s.data.expand(sizes)

    return grow
