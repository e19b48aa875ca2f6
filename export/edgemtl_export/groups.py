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
from .program import Program
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


class Widths:
    """How many channels are left along many dimensions at once, for any pruned groups.

    Built once and called at every step of a training, so it counts all of them in one pass.
    """

    def __init__(self, count: int, members: Sequence[NDArray[np.int64]]) -> None:
        """``members`` gives the group of each channel of each dimension, -1 where it stays; none is empty."""
        self.count = count
        self.members = np.concatenate([*members, np.empty(0, np.int64)])
        lengths = [len(numbers) for numbers in members]
        self.whole = np.array(lengths, np.int64)
        self.begins = np.cumsum([0, *lengths])[:-1]
        self.extent = np.repeat(np.arange(len(members)), lengths)

    def __call__(self, pruned: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return the widths without the ``pruned`` groups, in the order of the dimensions."""
        if pruned is None or not len(self.begins):
            return self.whole
        stays = np.append(~pruned, True)  # the last entry is group -1, which always stays
        return np.add.reduceat(stays[self.members], self.begins, dtype=np.int64)

    def over_groups(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of ``slopes``, a value a dimension, over every group's channels in each of them, (count,)."""
        grouped = self.members >= 0
        values = np.bincount(self.members[grouped], slopes[self.extent][grouped], self.count)
        return values.astype(np.float64, copy=False)


class Sizes:
    """The shapes of the parameters whose names begin with ``prefix``, for any pruned groups."""

    def __init__(self, groups: Groups, prefix: str = "") -> None:
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
        self.widths = Widths(groups.count, members)
        self.rows, self.dims = np.array(extents, np.int64).reshape(-1, 2).T

    def __call__(self, pruned: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return the extents without the ``pruned`` groups: (parameters, largest rank), 1 beyond a parameter's rank."""
        sizes = self.whole.copy()
        sizes[self.rows, self.dims] = self.widths(pruned)
        return sizes

    def over_groups(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of every group's ``slopes``, (count,), over its members in each extent of `__call__`."""
        return self.widths.over_groups(slopes[self.rows, self.dims])


@dataclass(frozen=True, eq=False)
class CoupledChannels:
    """A program, the analysis of its channels, and the group that each of them belongs to."""

    program: Program
    channels: Channels
    count: int
    """How many groups can be removed."""
    number: NDArray[np.int64]
    """The group of every channel id of the analysis, -1 where it stays."""
    ids: dict[str, dict[int, Ids]]
    """The channel ids along every dimension of every parameter."""

    def groups(self) -> Groups:
        """Return the groups by the parameters that make and read them."""
        channels = self.channels
        parameters = {name: tuple(p.shape) for name, p in self.program.parameters().items()}
        numbers = {name: {dim: self.number[i] for dim, i in by_dim.items()} for name, by_dim in self.ids.items()}
        rows = {name: numbers[name][channels.output_dim(name)] for name in parameters if name in channels.producers}
        for name, block in channels.block_ids.items():
            if len(block[0]) == 1:  # depthwise: one column, which is removed with its row
                del numbers[name][1]
        return Groups(self.count, rows, numbers, parameters, channels.transposed)


def channel_groups(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    tied: Sequence[Sequence[str]] = (),
    rules: Mapping[str, Rule] = RULES,
) -> Groups:
    """Find the groups by the analysis that `shrink` removes by; the arguments are those of `coupled_channels`."""
    return coupled_channels(model, args, kwargs, tied, rules).groups()


def coupled_channels(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    tied: Sequence[Sequence[str]] = (),
    rules: Mapping[str, Rule] = RULES,
) -> CoupledChannels:
    """Trace a network and find which of its channels must be removed together.

    The model's evaluation graph decides, its weights' values do not. Parameters that only training reads (a loss's
    branch) take no part. In grouped convolutions and attention the channels at one index of every group or head are
    coupled, and so are those of ``tied`` parameters: of one shape, and to become one.
    """
    program = to_program(model, args, kwargs)
    channels = analyse(program, program.flatten(*on_cpu((args, kwargs or {}))), rules, couple_groups=True)
    dims, edges = _tie(channels, tied)
    roots = merge(channels.roots, [*_couple_to_last_dimension(channels), *edges])
    parameters = program.parameters()
    ids = {name: dims[name] for name in parameters if name in dims}
    for name, block in channels.block_ids.items():
        ids[name][1] = block[0]
    outputs = [roots[ids[name][channels.output_dim(name)]] for name in parameters if name in channels.producers]
    removable = np.setdiff1d(np.unique(np.concatenate(outputs)), [PINNED]) if outputs else np.empty(0, np.int64)
    number = np.full(len(roots), -1, np.int64)
    number[removable] = np.arange(len(removable))
    return CoupledChannels(program, channels, len(removable), number[roots], ids)


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
