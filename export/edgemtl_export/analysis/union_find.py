"""Union-find over arrays of pairs: coupled channels get one representative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .values import Ids

Edge = tuple[Ids, Ids]


def merge(parent: Ids, edges: Sequence[Edge]) -> Ids:
    """Return the representative of every id, the smallest that it is coupled with, as an array to index with ids.

    ``parent`` holds the representatives so far; each edge couples two arrays of ids element by element.
    """
    parent = parent.copy()
    a = np.concatenate([edge[0] for edge in edges] or [np.empty(0, np.int64)])
    b = np.concatenate([edge[1] for edge in edges] or [np.empty(0, np.int64)])
    while True:
        left, right = parent[a], parent[b]
        differ = left != right
        if not differ.any():
            return parent
        a, b = a[differ], b[differ]
        left, right = left[differ], right[differ]
        np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(parent, above := parent[parent]):
            parent = above
