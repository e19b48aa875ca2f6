"""The analysis while it runs: what operator rules call to add, couple, pin and bind channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ..program import Program
from .channels import Channels
from .union_find import Edge, merge
from .values import Gather, Grouped, Ids, Read, Value, along, uniform_constants

Rule = Callable[..., Any]
"""``rule(builder, node, *args, **kwargs)`` gives what is known of the node's result: a `Value`, or a container of them.

The arguments are the node's, with a `Value` in place of every tensor. None where the rule does not apply: then the
operands' channels are pinned.
"""

POINTWISE = "pointwise"
"""The key of the rule for every operator that PyTorch tags as pointwise and that has no rule by name."""


def gather_none(node: fx.Node) -> bool:
    """Let no node gather its operands: all that meet are coupled."""
    return False


def gather_all(node: fx.Node) -> bool:
    """Let every sum and grouped convolution gather its operands."""
    return True


@dataclass
class ChannelBuilder:
    """Collects the facts about a program's channels; `freeze` gives them as `Channels`."""

    program: Program
    couple_groups: bool = False
    """Every group and head must lose the same channels: what a training can act on."""
    may_gather: Callable[[fx.Node], bool] = gather_none
    """Which sums and grouped convolutions may gather their operands: select other channels than their writers keep."""
    rewrite_norms: bool = False
    values: dict[fx.Node, Any] = field(default_factory=dict)
    count: int = 1
    edges: list[Edge] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    grouped: list[Grouped] = field(default_factory=list)
    paired_rows: list[tuple[Ids, Ids]] = field(default_factory=list)
    pins: dict[str, list[Ids]] = field(default_factory=dict)
    dims: dict[str, dict[int, Ids]] = field(default_factory=dict)
    block_ids: dict[str, Ids] = field(default_factory=dict)
    input_dims: dict[str, set[int]] = field(default_factory=dict)
    producers: set[str] = field(default_factory=set)
    transposed: set[str] = field(default_factory=set)
    gathers: dict[tuple[fx.Node, int], Gather] = field(default_factory=dict)
    slices: dict[tuple[fx.Node, int], tuple[int, Ids]] = field(default_factory=dict)
    unsliceable: set[str] = field(default_factory=set)
    """Parameters that are also read as a whole: if they were sliced, that reader could not follow."""

    def new_ids(self, count: int) -> Tensor:
        """Return ``count`` new channel ids."""
        start, self.count = self.count, self.count + count
        return torch.arange(start, start + count)

    def couple(self, a: Tensor, b: Tensor) -> None:
        """Couple ids that meet (broadcast): they are kept or removed together."""
        if a is not b:
            a, b = torch.broadcast_tensors(a, b)
            self.edges.append((a.reshape(-1).numpy(), b.reshape(-1).numpy()))

    def pin(self, ids: Tensor | None, reason: str) -> None:
        """Keep these channels; the report names the reason."""
        if ids is not None:
            self.pins.setdefault(reason, []).append(ids.reshape(-1).numpy())
            self.couple(ids, torch.zeros((), dtype=torch.int64))

    def ids_along(self, value: Value, dim: int) -> Tensor:
        """Return the ids (n,) along ``dim``; where they also vary along others, those of one index are coupled."""
        assert value.ids is not None
        moved = value.ids.movedim(dim, 0)
        columns = moved.reshape(moved.shape[0], -1)
        if columns.shape[1] > 1:
            self.couple(columns, columns[:, :1])
        return columns[:, 0].expand(value.shape[dim])

    def bind(self, name: str, dim: int, ids: Tensor) -> None:
        """Record that dimension ``dim`` of parameter or buffer ``name`` runs along these channels."""
        bound = self.dims.setdefault(name, {})
        if dim in bound:
            self.couple(torch.from_numpy(bound[dim]), ids)
        else:
            bound[dim] = ids.numpy().copy()

    def bind_output(self, parts: Iterable[Value | None], ids: Tensor) -> None:
        """Record that the rows of these parameters (where not None) make these channels: zero in all, zero channel."""
        for part in parts:
            if part is not None:
                self.bind(part.source, 0, ids)
                self.producers.add(part.source)

    def gather(self, node: fx.Node, position: int, value: Value, dim: int) -> Value:
        """Let ``node`` gather this operand from other channels; return the operand with its new ids."""
        old, new = self.ids_along(value, dim), self.new_ids(value.shape[dim])
        constant, amount = uniform_constants(value, dim)
        self.gathers[node, position] = Gather(value, new, dim, amount)
        self.add_read(node, new[:, None], old[:, None], torch.ones(len(new), 1, 1).bool(), ~constant, amount != 0)
        return replace(value, ids=along(new, dim, len(value.shape)))

    def add_read(
        self,
        node: fx.Node,
        out_ids: Tensor,
        in_ids: Tensor,
        needs: Tensor,
        required: Tensor,
        nonzero: Tensor,
        weight: str = "",
    ) -> None:
        """Record a `Read`: which inputs each output needs; ``required`` and ``nonzero`` are of the inputs' size."""
        flat = (required.reshape(in_ids.shape).numpy(), nonzero.reshape(in_ids.shape).numpy())
        self.reads.append(Read(node, out_ids.numpy(), in_ids.numpy(), needs.numpy(), *flat, weight))

    def freeze(self) -> Channels:
        """Return the finished analysis."""
        roots = merge(np.arange(self.count), self.edges)
        roots.setflags(write=False)
        return Channels(
            program=self.program,
            rewrite_norms=self.rewrite_norms,
            roots=roots,
            values=MappingProxyType(self.values),
            reads=tuple(self.reads),
            grouped=tuple(self.grouped),
            paired_rows=tuple(self.paired_rows),
            pins=MappingProxyType({reason: tuple(ids) for reason, ids in self.pins.items()}),
            dims=MappingProxyType({name: MappingProxyType(dims) for name, dims in self.dims.items()}),
            block_ids=MappingProxyType(self.block_ids),
            input_dims=MappingProxyType({name: frozenset(dims) for name, dims in self.input_dims.items()}),
            producers=frozenset(self.producers),
            transposed=frozenset(self.transposed),
            gathers=MappingProxyType(self.gathers),
            slices=MappingProxyType(self.slices),
        )
