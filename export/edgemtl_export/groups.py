"""The channel groups of a network: coupled channels, which must be zero together to be removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from .analysis import RULES, Channels, Rule, analyse
from .analysis.ops.movement import is_movement
from .analysis.union_find import Edge, merge
from .analysis.values import PINNED, Ids, values_in
from .functionalise import to_program
from .tracing import on_cpu


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of coupled channels that can be removed, numbered 0 to ``count`` - 1.

    ``rows`` gives for each parameter that makes channels the group of each of its rows, -1 where the row stays; rows
    lie along dimension ``axis(name)``. ``dims`` gives the same for every dimension of every parameter, and ``shapes``
    their shapes.
    """

    count: int
    rows: dict[str, NDArray[np.int64]]
    dims: dict[str, dict[int, NDArray[np.int64]]]
    shapes: dict[str, tuple[int, ...]]
    transposed: frozenset[str] = frozenset()

    def axis(self, name: str) -> int:
        """Return the dimension along which a parameter makes channels: 1 in transposed convolutions, else 0."""
        return 1 if name in self.transposed else 0

    def parameters(self, pruned: NDArray[np.bool_] | None = None) -> int:
        """Return how many parameters are left without the ``pruned`` groups, (count,) bool."""
        return int(Sizes(self)(pruned).prod(1).sum())


class Sizes:
    """The shapes of the parameters whose names begin with ``prefix``, for any pruned groups.

    Built once and called at every step of a training, so it counts all of them at once.
    """

    def __init__(self, groups: Groups, prefix: str = "") -> None:
        self.count = groups.count
        self.names = [name for name in groups.shapes if name.startswith(prefix)]
        ranks = [len(groups.shapes[name]) for name in self.names]
        self.whole = np.ones((len(self.names), max([1, *ranks])), np.int64)
        members, extents = [], []
        for row, name in enumerate(self.names):
            self.whole[row, : ranks[row]] = groups.shapes[name]
            for dim, numbers in groups.dims.get(name, {}).items():
                if len(numbers):
                    members.append(numbers)
                    extents.append((row, dim))
        self.members = np.concatenate([*members, np.empty(0, np.int64)])
        lengths = [len(numbers) for numbers in members]
        self.begins = np.cumsum([0, *lengths])[:-1]
        self.rows, self.dims = np.array(extents, np.int64).reshape(-1, 2).T
        self.extent = np.repeat(np.arange(len(extents)), lengths)

    def __call__(self, pruned: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return the extents without the ``pruned`` groups: (parameters, largest rank), 1 beyond a parameter's rank."""
        if pruned is None or not len(self.begins):
            return self.whole
        stays = np.append(~pruned, True)  # the last entry is group -1, which always stays
        sizes = self.whole.copy()
        sizes[self.rows, self.dims] = np.add.reduceat(stays[self.members], self.begins, dtype=np.int64)
        return sizes

    def over_groups(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of every group's ``slopes``, (count,), over its members in each extent of `__call__`."""
        member_slopes = slopes[self.rows, self.dims][self.extent]
        grouped = self.members >= 0
        return np.bincount(self.members[grouped], member_slopes[grouped], self.count).astype(np.float64, copy=False)


def channel_groups(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    tied: Sequence[Sequence[str]] = (),
    rules: Mapping[str, Rule] = RULES,
) -> Groups:
    """Find the groups by the analysis that `shrink` removes by.

    The model's evaluation graph decides, its weights' values do not. Parameters that only training reads (a loss's
    branch) take no part. In grouped convolutions and attention the channels at one index of every group or head are
    coupled, and so are those of ``tied`` parameters: of one shape, and to become one.
    """
    program = to_program(model, args, kwargs)
    channels = analyse(program, program.flatten(*on_cpu((args, kwargs or {}))), rules, couple_groups=True)
    dims, edges = _tie(channels, tied)
    roots = merge(channels.roots, [*_couple_to_last_dimension(channels), *edges])
    parameters = {name: tuple(p.shape) for name, p in program.parameters().items()}
    makes = [name for name in parameters if name in channels.producers]
    ids = {name: dims[name] for name in parameters if name in dims}
    for name, block in channels.block_ids.items():
        ids[name][1] = block[0]
    outputs = [roots[ids[name][channels.output_dim(name)]] for name in makes]
    removable = np.setdiff1d(np.unique(np.concatenate(outputs)), [PINNED]) if outputs else np.empty(0, np.int64)
    number = np.full(len(roots), -1, np.int64)
    number[removable] = np.arange(len(removable))
    numbers = {name: {dim: number[roots[i]] for dim, i in by_dim.items()} for name, by_dim in ids.items()}
    rows = {name: numbers[name][channels.output_dim(name)] for name in makes}
    for name, block in channels.block_ids.items():
        if len(block[0]) == 1:  # depthwise: one column, which is removed with its row
            del numbers[name][1]
    return Groups(len(removable), rows, numbers, parameters, channels.transposed)


def _tie(channels: Channels, tied: Sequence[Sequence[str]]) -> tuple[dict[str, dict[int, Ids]], list[Edge]]:
    """Return the ids along every parameter's dimensions, and the edges that couple those of tied parameters."""
    dims = {name: dict(by_dim) for name, by_dim in channels.dims.items()}
    edges: list[Edge] = []
    for name, *others in tied:
        for other in others:
            for dim, ids in dims.get(other, {}).items():
                known = dims.setdefault(name, {}).setdefault(dim, ids)
                edges.append((known, ids))
    return dims, edges


def _couple_to_last_dimension(channels: Channels) -> list[Edge]:
    """Return edges that leave an operand independent channels along one dimension: the last that has channels."""
    edges: list[Edge] = []
    for node, value in channels.values.items():
        if is_movement(node):
            continue
        for part in values_in(value):
            if part.ids is not None and sum(n > 1 for n in part.ids.shape) > 1:
                last = max(d for d, n in enumerate(part.ids.shape) if n > 1)
                columns = part.ids.movedim(last, -1).reshape(-1, part.ids.shape[last])
                edges.append((columns.reshape(-1).numpy(), columns[:1].expand_as(columns).reshape(-1).numpy()))
    return edges
