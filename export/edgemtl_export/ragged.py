"""Ragged selections: what is kept of a tensor is a box, or rows that all keep as many channels (but not the same)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .analysis.values import Ids, Mask


@dataclass(frozen=True, eq=False)
class Selection:
    """How to take what is kept out of a compressed tensor.

    ``box`` holds the indices along each dimension. Of a ragged selection, ``dim`` is the dimension along which every
    row keeps as many, and ``order`` the indices to take along it, row by row.
    """

    box: list[Ids]
    dim: int | None = None
    order: NDArray[np.intp] | None = None


def bounding_box(mask: Mask) -> list[Ids]:
    """Return along each dimension the indices at which anything is kept."""
    axes = range(mask.ndim)
    return [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != d))) for d in axes]


def selection(mask: Mask) -> Selection | None:
    """Return how to take what a mask keeps, or None where no tensor has that shape."""
    box = bounding_box(mask)
    inner = mask[np.ix_(*box)]
    if inner.all():
        return Selection(box)
    dim = innermost(inner)
    counts = inner.sum(dim)
    if counts.min() < counts.max():
        return None
    order = np.argsort(~inner, axis=dim, kind="stable")
    return Selection(box, dim, order.take(range(int(counts.flat[0])), axis=dim))


def innermost(mask: Mask) -> int:
    """Return the last dimension that a mask has: the one along which rows may differ, as channels within heads do."""
    return max(d for d in range(mask.ndim) if mask.shape[d] > 1)


def take_kept(data: Tensor, shape: Sequence[int], mask: Mask) -> tuple[Tensor, list[int]] | None:
    """Return what is kept of a compressed tensor and its new full shape; None where it is no tensor."""
    kept = selection(mask)
    if kept is None:
        return None
    sizes = [max(n, m) for n, m in zip(data.shape, mask.shape, strict=True)]
    data = data.expand(sizes)
    for d, indices in enumerate(kept.box):
        if mask.shape[d] > 1:
            data = data.index_select(d, torch.from_numpy(indices))
    if kept.dim is not None:
        index = torch.from_numpy(kept.order)
        sizes = [n if d == kept.dim else s for d, (n, s) in enumerate(zip(index.shape, data.shape, strict=True))]
        data = data.take_along_dim(index.expand(sizes), kept.dim)
    return data, [data.shape[d] if mask.shape[d] > 1 else shape[d] for d in range(len(shape))]


def kept_shape(shape: Sequence[int], mask: Mask) -> list[int] | None:
    """Return the shape of what is kept, or None where it is no tensor."""
    kept = selection(mask)
    if kept is None:
        return None
    sizes = [len(indices) if mask.shape[d] > 1 else shape[d] for d, indices in enumerate(kept.box)]
    if kept.dim is not None and kept.order is not None:
        sizes[kept.dim] = kept.order.shape[kept.dim]
    return sizes


def missing_channels(mask: Mask) -> Mask:
    """Return what must be kept as well so that every row along the last varying dimension keeps as many."""
    box = bounding_box(mask)
    inner = mask[np.ix_(*box)]
    dim = innermost(inner)
    short = inner.sum(dim).max() - inner.sum(dim, keepdims=True)
    rank = np.cumsum(~inner, axis=dim)
    added = np.zeros_like(mask)
    added[np.ix_(*box)] = ~inner & (rank <= short)
    return added
