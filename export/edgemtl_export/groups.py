"""The channel groups of a network: what must be zero together for a channel to really go away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from .channels import PINNED, Channels, Value, analyse
from .movement import is_movement
from .program import on_cpu, to_program


@dataclass(frozen=True, eq=False)
class Groups:
    """Removable channels of a network, numbered 0 to ``count`` - 1.

    ``rows`` gives for each parameter that makes channels the group of each of its rows, -1 where the row stays; rows
    lie along dimension ``axis(name)``. ``dims`` gives the same for every dimension of every parameter, and ``shapes``
    their shapes: what counts.
    """

    count: int
    rows: dict[str, NDArray[np.int64]]
    dims: dict[str, dict[int, NDArray[np.int64]]]
    shapes: dict[str, tuple[int, ...]]
    transposed: frozenset[str] = frozenset()

    def axis(self, name: str) -> int:
        """Return the dimension along which a parameter makes channels: 1 in transposed convolutions, else 0."""
        return 1 if name in self.transposed else 0

    def parameters(self, dead: NDArray[np.bool_] | None = None) -> int:
        """Return how many parameters are left when the ``dead`` groups, (count,) bool, are gone."""
        return int(Sizes(self)(dead).prod(1).sum())


class Sizes:
    """The shapes of the parameters whose names begin so, for any channels gone: one line of extents for each.

    Made once and called at every step of a training, so it counts all of them at once.
    """

    def __init__(self, groups: Groups, prefix: str = "") -> None:
        self.count = groups.count
        self.names = [name for name in groups.shapes if name.startswith(prefix)]
        ranks = [len(groups.shapes[name]) for name in self.names]
        self.whole = np.ones((len(self.names), max([1, *ranks])), np.int64)
        members, places = [], []
        for row, name in enumerate(self.names):
            self.whole[row, : ranks[row]] = groups.shapes[name]
            for dim, of in groups.dims.get(name, {}).items():
                if len(of):
                    members.append(of)
                    places.append((row, dim))
        self.members = np.concatenate([*members, np.empty(0, np.int64)])
        lengths = [len(of) for of in members]
        self.begins = np.cumsum([0, *lengths])[:-1]
        self.rows, self.dims = np.array(places, np.int64).reshape(-1, 2).T
        self.place = np.repeat(np.arange(len(places)), lengths)

    def __call__(self, dead: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return the extents, (parameters, most dimensions), 1 beyond its own rank, without the ``dead`` groups."""
        if dead is None or not len(self.begins):
            return self.whole
        stays = np.append(~dead, True)  # the last entry is group -1, which always stays
        sizes = self.whole.copy()
        sizes[self.rows, self.dims] = np.add.reduceat(stays[self.members], self.begins, dtype=np.int64)
        return sizes

    def over_groups(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of every group's ``slopes``, (count,): of each of its places in each extent of `__call__`."""
        each = slopes[self.rows, self.dims][self.place]
        mine = self.members >= 0
        return np.bincount(self.members[mine], each[mine], self.count).astype(np.float64, copy=False)


def channel_groups(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    twins: Sequence[Sequence[str]] = (),
) -> Groups:
    """Find the groups by the analysis that `shrink` removes by.

    The model's evaluation graph decides, its weights' values do not. Parameters that only training reads (a loss's
    own branch) take no part. In grouped convolutions and attention the same place of every group or head goes together,
    and so it does in parameters that are ``twins``: of one shape, and to become one.
    """
    program = to_program(model, args, kwargs)
    channels = analyse(program, program.flatten(*on_cpu((args, kwargs or {}))), uniform=True)
    _one_dimension(channels)
    for name, *others in twins:
        for other in others:
            for dim, along in channels.dims.get(other, {}).items():
                channels.tie(name, dim, torch.from_numpy(along))
    roots = channels.roots()
    parameters = {name: tuple(p.shape) for name, p in program.parameters().items()}
    makes = [name for name in parameters if name in channels.writers]
    ids = {name: channels.dims[name] for name in parameters if name in channels.dims}
    for name, block in channels.blocks.items():
        ids[name][1] = block[0]
    made = [roots[ids[name][channels.axis(name)]] for name in makes]
    removable = np.setdiff1d(np.unique(np.concatenate(made)), [PINNED]) if made else np.empty(0, np.int64)
    number = np.full(len(roots), -1, np.int64)
    number[removable] = np.arange(len(removable))
    dims = {name: {dim: number[roots[i]] for dim, i in along.items()} for name, along in ids.items()}
    rows = {name: dims[name][channels.axis(name)] for name in makes}
    for name in channels.blocks:
        if len(channels.blocks[name][0]) == 1:  # depthwise: one column, which goes with its row
            del dims[name][1]
    return Groups(len(removable), rows, dims, parameters, frozenset(channels.transposed))


def _one_dimension(channels: Channels) -> None:
    """Where channels lie along several dimensions of what is computed with, tie all but the last dimension's."""
    for node, value in channels.values.items():
        if is_movement(node):
            continue
        for part in pytree.tree_leaves(value):
            if isinstance(part, Value) and part.ids is not None and sum(n > 1 for n in part.ids.shape) > 1:
                last = max(d for d, n in enumerate(part.ids.shape) if n > 1)
                columns = part.ids.movedim(last, -1).reshape(-1, part.ids.shape[last])
                channels.unify(columns, columns[:1])
