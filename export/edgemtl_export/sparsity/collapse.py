"""Collapse: a layer that loses its last channels makes of the network a constant, which no further step brings back."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ..groups import Widths
from .partition import Partition

LEAST_KEPT = 1
"""So many groups of a layer, or fewer, are a warning."""
LEAST_GROUPS = 4
"""Layers of fewer groups are narrow from the beginning."""


class CollapseWarning(UserWarning):
    """A network is about to become constant."""


class Collapse:
    """Warns of every layer once that is left with hardly a channel."""

    def __init__(self, partition: Partition) -> None:
        groups = {name: partition.groups_of(name).cpu().numpy() for name in partition.names}
        self.names = [name for name, members in groups.items() if len(members) >= LEAST_GROUPS]
        self.widths = Widths(partition.count, [groups[name] for name in self.names])
        self.warned: set[str] = set()

    def check(self, pruned: NDArray[np.bool_]) -> None:
        """Warn of layers of which nearly all groups are ``pruned``, (count,), and were not before."""
        for name, kept, whole in zip(self.names, self.widths(pruned), self.widths.whole, strict=True):
            if kept <= LEAST_KEPT and name not in self.warned:
                self.warned.add(name)
                warnings.warn(
                    f"{name} keeps {kept} of {whole} channels: the network is about to become constant; "
                    "raise min_keep_ratio, or lower the strength or the target",
                    CollapseWarning,
                    stacklevel=4,
                )
