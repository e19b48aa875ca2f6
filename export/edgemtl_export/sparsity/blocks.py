"""Channel blocks: a layer keeps a multiple of so many channels, since processors compute by that many at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Ids = NDArray[np.int64]
TINY = 1e-30


class ChannelBlocks:
    """Groups by layer, pruned in blocks from the least important on, each of which leaves a multiple."""

    def __init__(self, layers: list[Ids], count: int, multiple: int) -> None:
        """``layers`` are the groups, of ``count``, that one convolution makes, or reads: a multiple of each is to stay.

        So blocks are of groups that are in all the same layers: of what is split, each part keeps a multiple.
        """
        self.blocked = multiple > 1
        """Whether a group is never pruned by itself."""
        self.layer = np.zeros(count, np.int64)
        inside = np.zeros(count, bool)
        for members in layers:
            self.layer *= 2
            self.layer[members] += 1
            self.layer = np.unique(self.layer, return_inverse=True)[1]
            inside[members] = True
        self.layer[~inside] = count + np.arange(count - inside.sum())  # one of no layer is its own block
        self.layer = np.unique(self.layer, return_inverse=True)[1]
        self.parts = [np.flatnonzero(self.layer == part) for part in np.unique(self.layer[inside])]
        """The groups that are in the same layers."""
        sizes = np.bincount(self.layer)
        self.multiple = np.ones(len(sizes), np.int64)
        self.multiple[self.layer[inside]] = multiple
        self.first_size = np.where(sizes % self.multiple, sizes % self.multiple, self.multiple)
        """The size of the block that is pruned first, (layers,)."""
        self.start = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def order(self, importance: Values, reduction: Values) -> tuple[Ids, Ids]:
        """Return the prunable groups, by their block's importance per cost reduction, and where each block ends.

        A block with a group of infinite importance is not among them.
        """
        by_layer = np.lexsort((importance / np.maximum(reduction, TINY), self.layer))
        layer = self.layer[by_layer]
        rank = np.arange(len(layer)) - self.start[layer]
        first = self.first_size[layer]
        within = np.where(rank < first, 0, 1 + (rank - first) // self.multiple[layer])
        begins = np.concatenate([[True], (np.diff(layer) != 0) | (np.diff(within) != 0)])
        block = np.cumsum(begins) - 1
        ratio = np.bincount(block, importance[by_layer]) / np.maximum(np.bincount(block, reduction[by_layer]), TINY)
        for begin, end in _runs(layer[begins]):
            ratio[begin:end] = np.maximum.accumulate(ratio[begin:end])
        order = np.lexsort((block, ratio[block]))
        order = order[: int(np.isfinite(ratio[block]).sum())]
        last = np.flatnonzero(np.diff(block[order], append=-1)) + 1
        return by_layer[order], np.concatenate([[0], last])

    def fewest(
        self, importance: Values, reduction: Values, are_enough: Callable[[NDArray[np.bool_]], bool]
    ) -> NDArray[np.bool_]:
        """Return the shortest beginning of the `order` that is enough, all of it where none is, (count,)."""
        order, ends = self.order(importance, reduction)

        def beginning(blocks: int) -> NDArray[np.bool_]:
            pruned = np.zeros(len(importance), bool)
            pruned[order[: ends[blocks]]] = True
            return pruned

        low, high = 0, len(ends) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if are_enough(beginning(middle)) else (middle + 1, high)
        return beginning(low)


def _runs(values: Ids) -> list[tuple[int, int]]:
    """Return where equal neighbours begin and end."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(pairwise(cuts))
