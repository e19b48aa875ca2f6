"""Channels that go in blocks: a layer keeps a multiple of so many, because processors compute by as many at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Ids = NDArray[np.int64]
TINY = 1e-30


class Blocks:
    """Groups by layers, of which the weakest go first, as many together as make the rest a multiple."""

    def __init__(self, layers: list[Ids], count: int, multiple: int) -> None:
        """``layers`` are the groups of each layer, of ``count``; a group of several belongs to the first."""
        self.whole = multiple > 1
        """Whether a group may not go by itself."""
        self.layer = np.arange(len(layers), len(layers) + count)  # one of no layer goes by itself
        taken = np.zeros(count, bool)
        for number, members in enumerate(layers):
            free = members[~taken[members]]
            self.layer[free], taken[free] = number, True
        sizes = np.bincount(self.layer)
        alone = np.arange(len(sizes)) >= len(layers)
        self.multiple = np.where(alone, 1, multiple)
        self.first = np.where(sizes % self.multiple, sizes % self.multiple, self.multiple)
        """How many make up the block that goes first."""
        self.start = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def order(self, worth: Values, saves: Values) -> tuple[Ids, Ids]:
        """Return the groups that may go, by what their block is worth for what it saves, and where each block ends.

        A block with a group of infinite worth stays.
        """
        by_layer = np.lexsort((worth / np.maximum(saves, TINY), self.layer))
        layer = self.layer[by_layer]
        rank = np.arange(len(layer)) - self.start[layer]
        within = np.where(rank < self.first[layer], 0, 1 + (rank - self.first[layer]) // self.multiple[layer])
        begins = np.concatenate([[True], (np.diff(layer) != 0) | (np.diff(within) != 0)])
        block = np.cumsum(begins) - 1
        ratio = np.bincount(block, worth[by_layer]) / np.maximum(np.bincount(block, saves[by_layer]), TINY)
        for begin, end in _runs(layer[begins]):
            ratio[begin:end] = np.maximum.accumulate(ratio[begin:end])
        order = np.lexsort((block, ratio[block]))
        order = order[: int(np.isfinite(ratio[block]).sum())]
        last = np.flatnonzero(np.diff(block[order], append=-1)) + 1
        return by_layer[order], np.concatenate([[0], last])


def _runs(values: Ids) -> list[tuple[int, int]]:
    """Return where equal neighbours begin and end."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(pairwise(cuts))
