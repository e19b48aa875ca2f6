"""The channel groups of a network: what must be zero together for a channel to really go away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .channels import PINNED, Value, analyse, name_of
from .removal import trace


@dataclass(frozen=True, eq=False)
class Groups:
    """Removable channels of a network, numbered 0 to ``count`` - 1.

    ``rows`` gives for each parameter that makes channels the group of each of its rows (dimension 0), -1 where the row
    stays. ``dims`` gives the same for every dimension of every parameter, and ``shapes`` their shapes: what counts.
    """

    count: int
    rows: dict[str, NDArray[np.int64]]
    dims: dict[str, dict[int, NDArray[np.int64]]]
    shapes: dict[str, tuple[int, ...]]

    def parameters(self, dead: NDArray[np.bool_] | None = None) -> int:
        """Return how many parameters are left when the ``dead`` groups, (count,) bool, are gone."""
        stays = np.ones(self.count + 1, bool)  # the last entry is group -1, which always stays
        if dead is not None:
            stays[:-1] = ~dead
        total = 0
        for name, shape in self.shapes.items():
            sizes = list(shape)
            for dim, groups in self.dims.get(name, {}).items():
                sizes[dim] = int(stays[groups].sum())
            total += int(np.prod(sizes))
        return total


def channel_groups(model: nn.Module, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Groups:
    """Find the groups by the analysis that `shrink` removes by.

    The model's evaluation graph decides, its weights' values do not. Parameters that only training reads (a loss's
    own branch) take no part.
    """
    graph = trace(model, args, kwargs)
    channels = analyse(graph)
    for node, value in channels.values.items():
        for part in pytree.tree_leaves(value):
            if isinstance(part, Value) and part.ids is not None and part.ids.numel() and _varying(part.ids) > 1:
                channels.pin(part.ids, f"{name_of(node)} (channels in two dimensions)")  # none goes by itself
    roots = channels.roots()
    parameters = {name: tuple(p.shape) for name, p in graph.named_parameters()}
    made = [roots[channels.dims[name][0]] for name in sorted(channels.writers) if name in parameters]
    removable = np.setdiff1d(np.unique(np.concatenate(made)), [PINNED]) if made else np.empty(0, np.int64)
    number = np.full(len(roots), -1, np.int64)
    number[removable] = np.arange(len(removable))
    dims = {
        name: {dim: number[roots[ids]] for dim, ids in channels.dims[name].items()}
        for name in parameters
        if name in channels.dims
    }
    rows = {name: dims[name][0] for name in parameters if name in channels.writers}
    return Groups(len(removable), rows, dims, parameters)


def _varying(ids: Tensor) -> int:
    """Return along how many dimensions the ids change."""
    return sum(not bool((ids == ids.narrow(d, 0, 1)).all()) for d in range(ids.ndim))
