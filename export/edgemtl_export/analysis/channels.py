"""The result of the channel analysis: coupled channels, their dependencies, and what is known of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from ..program import Program
from .values import Gather, Grouped, Ids, Read, Value


@dataclass(frozen=True, eq=False)
class Channels:
    """The dependency graph of a program's channels, as `interpret.analyse` found it. Nothing writes to it later.

    Ids that must be kept or removed together (coupled channels) have one representative in ``roots``.
    """

    program: Program
    rewrite_norms: bool
    """Whether layer and group normalisation may be written out, so that what they read can be pruned."""
    roots: Ids
    values: Mapping[fx.Node, object]
    """What is known of every node: a `Value`, a container of them, or a plain object."""
    reads: tuple[Read, ...]
    grouped: tuple[Grouped, ...]
    paired_rows: tuple[tuple[Ids, Ids], ...]
    """Pairs of ids (n, a) and (n, b): row k of one stays in part exactly when row k of the other does."""
    pins: Mapping[str, tuple[Ids, ...]]
    """The pinned channels by the reason: the name of an operator without a rule, ``output``, or a written buffer."""
    dims: Mapping[str, Mapping[int, Ids]]
    """Channel ids along each dimension of a parameter or buffer."""
    block_ids: Mapping[str, Ids]
    """Of a grouped convolution's weight: the ids (groups, n) along dimension 1, which differ from group to group."""
    input_dims: Mapping[str, frozenset[int]]
    """Of a weight: the dimensions that run along its input channels."""
    producers: frozenset[str]
    """Parameters whose rows make a channel: zero in all of them, and the channel is zero."""
    transposed: frozenset[str]
    """Producers whose rows lie along dimension 1: the weights of transposed convolutions."""
    gathers: Mapping[tuple[fx.Node, int], Gather]
    """Operands to lay out for their reader, by node and argument; -1 is the node's result."""
    slices: Mapping[tuple[fx.Node, int], tuple[int, Ids]]
    """Constant operands, by node and argument, to slice along a dimension where they are read."""

    def value_of(self, argument: object) -> Value:
        """Return what is known of a node that gives one tensor."""
        assert isinstance(argument, fx.Node)
        value = self.values[argument]
        assert isinstance(value, Value)
        return value

    def output_dim(self, name: str) -> int:
        """Return the dimension of a producer's output channels: 1 in transposed convolutions, else 0."""
        return 1 if name in self.transposed else 0

    def output_ids(self, name: str) -> Ids:
        """Return the output channels of a producer, one for each of its rows."""
        if name in self.transposed:
            return self.block_ids[name].reshape(-1) if name in self.block_ids else self.dims[name][1]
        return self.dims[name][0]
