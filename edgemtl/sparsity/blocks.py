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
        """``layers`` are the groups, of ``count``, that one convolution makes, or reads: a multiple of each is to stay.

        So blocks are of groups that are in all the same layers: of what is split, each part keeps a multiple.
        """
        self.whole = multiple > 1
        """Whether a group may not go by itself."""
        self.layer = np.zeros(count, np.int64)
        inside = np.zeros(count, bool)
        for members in layers:
            self.layer *= 2
            self.layer[members] += 1
            self.layer = np.unique(self.layer, return_inverse=True)[1]
            inside[members] = True
        self.layer[~inside] = count + np.arange(count - inside.sum())  # one of no layer goes by itself
        self.layer = np.unique(self.layer, return_inverse=True)[1]
        self.parts = [np.flatnonzero(self.layer == part) for part in np.unique(self.layer[inside])]
        """The groups that are in the same layers."""
        sizes = np.bincount(self.layer)
        self.multiple = np.ones(len(sizes), np.int64)
        self.multiple[self.layer[inside]] = multiple
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
