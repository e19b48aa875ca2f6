"""How a tensor lies in memory once channels have left it: a box, or rows that all lost the same number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Mask = NDArray[np.bool_]


def hull(mask: Mask) -> list[NDArray[np.int64]]:
    """Return along each dimension the indices at which anything stays."""
    axes = range(mask.ndim)
    return [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != d))) for d in axes]


def compact(mask: Mask) -> tuple[list[NDArray[np.int64]], int | None, NDArray[np.int64] | None] | None:
    """Return how to take what stays out of a compressed tensor, or None where no tensor has that shape.

    The parts are the hull, and for a ragged layout the dimension along which every row keeps as many (but not the same)
    with the indices to take along it.
    """
    box = hull(mask)
    inner = mask[np.ix_(*box)]
    if inner.all():
        return box, None, None
    dim = innermost(inner)
    counts = inner.sum(dim)
    if counts.min() < counts.max():
        return None
    order = np.argsort(~inner, axis=dim, kind="stable")
    return box, dim, order.take(range(int(counts.flat[0])), axis=dim)


def innermost(mask: Mask) -> int:
    """Return the last dimension that a mask has: the one along which rows may differ, as channels within heads do."""
    return max(d for d in range(mask.ndim) if mask.shape[d] > 1)


def take(data: Tensor, shape: Sequence[int], mask: Mask) -> tuple[Tensor, list[int]] | None:
    """Return what stays of a compressed tensor and the new full shape; None where it is not one."""
    layout = compact(mask)
    if layout is None:
        return None
    box, dim, order = layout
    sizes = [max(n, m) for n, m in zip(data.shape, mask.shape, strict=True)]
    data = data.expand(sizes)
    for d, kept in enumerate(box):
        if mask.shape[d] > 1:
            data = data.index_select(d, torch.from_numpy(kept))
    if dim is not None:
        assert order is not None
        index = torch.from_numpy(order)
        data = data.take_along_dim(
            index.expand([n if d == dim else s for d, (n, s) in enumerate(zip(index.shape, data.shape, strict=True))]),
            dim,
        )
    new = [data.shape[d] if mask.shape[d] > 1 else shape[d] for d in range(len(shape))]
    return data, new


def sizes(shape: Sequence[int], mask: Mask) -> list[int] | None:
    """Return the shape that is left, or None where what stays is no tensor."""
    layout = compact(mask)
    if layout is None:
        return None
    box, dim, order = layout
    left = [len(kept) if mask.shape[d] > 1 else shape[d] for d, kept in enumerate(box)]
    if dim is not None:
        assert order is not None
        left[dim] = order.shape[dim]
    return left


def missing(mask: Mask) -> Mask:
    """Return what must stay as well so that every row along the last varying dimension keeps as many."""
    box = hull(mask)
    inner = mask[np.ix_(*box)]
    dim = innermost(inner)
    short = inner.sum(dim).max() - inner.sum(dim, keepdims=True)
    rank = np.cumsum(~inner, axis=dim)
    added = np.zeros_like(mask)
    added[np.ix_(*box)] = ~inner & (rank <= short)
    return added
