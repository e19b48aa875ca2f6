"""The blocks that a network's time is made of: layers with what follows them element by element, and moved memory.

A back end computes a convolution and the element-wise operators after it in one pass, so they are one block, which is
measured at several widths. Everything else is bound by memory and counts by its bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from ..analysis.ops.convolution import CONVOLUTIONS, geometry
from ..analysis.ops.movement import is_movement
from ..analysis.values import Value, values_in
from ..groups import CoupledChannels
from ..program import op_name

Ids = NDArray[np.int64]
TrafficKind = Literal["moved", "other", "products"]
"""Of operators that move what they read, of others, and of products of two computed tensors."""
Lengths = tuple[int, ...]
VIEWS = frozenset(
    [
        "view",
        "reshape",
        "_unsafe_view",
        "unsqueeze",
        "squeeze",
        "flatten",
        "unflatten",
        "alias",
        "detach",
        "contiguous",
        "clone",
        "expand",
    ]
)
"""Movements that copy nothing."""
READING = frozenset(("aten.cat", "aten.stack"))
"""Movements whose operands are read whole."""
PRODUCTS = ("matmul", "bmm", "attention", "einsum", "baddbmm")
FLOAT_BYTES = 4


ELEMENT_WISE = frozenset(
    ["hardswish", "hardsigmoid", "hardtanh", "relu6", "mish", "softplus", "leaky_relu", "elu", "gelu", "silu", "clamp"]
)
"""Operators that torch does not call so in every release."""


class Geometry(NamedTuple):
    """A convolution but for its channels; sizes and extents by spatial dimension."""

    kernel: Lengths
    stride: Lengths
    pads: Lengths
    """Before each dimension, then after each."""
    dilation: Lengths
    groups: int
    """0: each channel is filtered by itself (depthwise)."""
    transposed: bool
    output_padding: Lengths
    input_size: Lengths
    output_size: Lengths


class Step(NamedTuple):
    """An element-wise operator after a layer.

    An operand is an earlier result of the block by number (0 is the layer's), a constant, or the shape of a tensor from
    elsewhere: "full" as the result, one value a "channel" or a position ("map"), or "one"; "weights" are a channel's.
    """

    op: str
    operands: tuple[int | float | str, ...]


class Signature(NamedTuple):
    """What a layer's time depends on but for its widths: a convolution's geometry, or the rows that a product reads."""

    batch: int
    geometry: Geometry | None
    steps: tuple[Step, ...] = ()


@dataclass(eq=False)
class Block:
    """A layer and what follows it; the groups of the channels that it reads and makes, -1 for those that stay."""

    signature: Signature
    reads: Ids
    makes: Ids
    results: dict[fx.Node, int] = field(default_factory=dict)
    """The nodes that are computed in it, by number."""

    @property
    def shape(self) -> Lengths:
        """The shape of its result at full width."""
        signature = self.signature
        if signature.geometry is None:
            return (signature.batch, len(self.makes))
        return (signature.batch, len(self.makes), *signature.geometry.output_size)


class Traffic(NamedTuple):
    """Memory that an operator reads or writes: bytes for every channel, or multiply-adds of a product."""

    kind: TrafficKind
    operator: int
    """Which operator of the network it is of."""
    channels: Ids
    per_channel: float


@dataclass(frozen=True, eq=False)
class NetworkBlocks:
    """All that a network's time is made of."""

    blocks: list[Block]
    traffic: list[Traffic]


def network_blocks(coupled: CoupledChannels) -> NetworkBlocks:
    """Return the blocks of a traced network."""
    finder = _Finder(coupled)
    for number, node in enumerate(coupled.program.graph.nodes):
        if node.op == "call_function":
            finder.visit(number, node)
    return NetworkBlocks(finder.blocks, finder.traffic)


class _Finder:
    """Assigns the nodes of a graph to blocks, in the graph's order."""

    def __init__(self, coupled: CoupledChannels) -> None:
        self.channels, self.number = coupled.channels, coupled.number
        self.position = {node: index for index, node in enumerate(coupled.program.graph.nodes)}
        self.blocks: list[Block] = []
        self.traffic: list[Traffic] = []
        self.block_of: dict[fx.Node, Block] = {}

    def visit(self, number: int, node: fx.Node) -> None:
        """Assign a node to a block or to the traffic."""
        name, values = op_name(node), self._values(node)
        if not values:
            return
        if name in CONVOLUTIONS:
            self._begin(node, Signature(values[0].shape[0], self._geometry(node, values[0])), 1)
        elif name == "aten.linear":
            self._begin(node, Signature(math.prod(values[0].shape[:-1]), None), -1)
        elif _is_pointwise(node) or "batch_norm" in name:
            if not self._follows(node, values[0]):
                self._moves("other", number, [v for n in [*self._operands(node), node] for v in self._values(n)])
        elif name != "getitem" and not (is_movement(node) and name.removeprefix("aten.") in VIEWS):
            self._add_traffic(number, node, values)

    def _values(self, node: fx.Node) -> list[Value]:
        """Return what a node computes of the network's inputs."""
        return [v for v in values_in(self.channels.values.get(node)) if v.ids is not None]

    def _operands(self, node: fx.Node) -> list[fx.Node]:
        return [a for a in node.all_input_nodes if self._values(a)]

    def _begin(self, node: fx.Node, signature: Signature, dim: int) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        reads, makes = (self._along(self._values(n)[0], dim) for n in (source, node))
        depthwise = signature.geometry is not None and signature.geometry.groups == 0
        block = Block(signature, np.full(1, -1) if depthwise else reads, makes, {node: 0})
        self.blocks.append(block)
        self.block_of[node] = block

    def _along(self, value: Value, dim: int) -> Ids:
        """Return the groups of the channels along a dimension."""
        assert value.ids is not None
        column = value.ids.movedim(dim, 0).reshape(value.ids.shape[dim], -1)[:, 0]
        groups: Ids = self.number[column.expand(value.shape[dim]).numpy()]
        return groups

    def _geometry(self, node: fx.Node, result: Value) -> Geometry:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        shape, kernel = self._values(source)[0].shape, self.channels.value_of(node.args[1]).shape[2:]
        conv, args, n = geometry(node), [*node.args, *[None] * 9], len(kernel)
        dilation_arg = 7 if conv.transposed and op_name(node) != "aten.convolution" else 5
        padding_out = args[7] if op_name(node) == "aten.convolution" else args[5] if conv.transposed else 0
        dilation = _lengths(args[dilation_arg] or 1, n)
        if args[4] == "same":
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            pads = (*(t // 2 for t in total), *(t - t // 2 for t in total))
        else:
            pads = _lengths(0 if args[4] in (None, "valid") else args[4], n) * 2
        depthwise = conv.groups == shape[1] == result.shape[1] > 1
        return Geometry(
            tuple(kernel),
            _lengths(args[3] or 1, n),
            pads,
            dilation,
            0 if depthwise else conv.groups,
            conv.transposed,
            _lengths(padding_out or 0, n),
            tuple(shape[2:]),
            tuple(result.shape[2:]),
        )

    def _follows(self, node: fx.Node, result: Value) -> bool:
        """Add an element-wise node to the block of its latest operand; return whether it could be."""
        operands = self._operands(node)
        last = max(operands, key=lambda n: self.position[n], default=None)
        block = self.block_of.get(last) if last is not None else None
        if block is None or math.prod(result.shape) != math.prod(block.shape):
            return False
        normalises = "batch_norm" in op_name(node)
        given = [self._operand(a, block) for a in (node.args[:1] if normalises else node.args)]
        step = Step(op_name(node).removeprefix("aten."), tuple(o for o in given if o is not None))
        block.signature = block.signature._replace(steps=(*block.signature.steps, step))
        block.results[node] = len(block.signature.steps)
        self.block_of[node] = block
        return True

    def _operand(self, argument: object, block: Block) -> int | float | str | None:
        if isinstance(argument, fx.Node):
            if argument in block.results:
                return block.results[argument]
            values = self._values(argument)
            return _form(values[0].shape, block) if values else "weights"
        return float(argument) if isinstance(argument, int | float) and not isinstance(argument, bool) else None

    def _add_traffic(self, number: int, node: fx.Node, result: list[Value]) -> None:
        name = op_name(node)
        read = [v for operand in self._operands(node) for v in self._values(operand)]
        if any(word in name for word in PRODUCTS) and len(read) > 1:
            left, right = read[0], read[1]
            assert left.ids is not None
            size = right.shape[-2] if "attention" in name else right.shape[-1]
            self.traffic.append(self._traffic("products", number, left, float(size)))
        moves = is_movement(node)
        values = result if moves and name not in READING else [*read, *result]
        self._moves("moved" if moves else "other", number, values)

    def _moves(self, kind: TrafficKind, number: int, values: list[Value]) -> None:
        self.traffic += [self._traffic(kind, number, value, FLOAT_BYTES) for value in values]

    def _traffic(self, kind: TrafficKind, number: int, value: Value, per_channel: float) -> Traffic:
        assert value.ids is not None
        ids = self.number[value.ids.numpy().reshape(-1)]
        return Traffic(kind, number, ids, per_channel * math.prod(value.shape) / max(1, len(ids)))


def _is_pointwise(node: fx.Node) -> bool:
    target = node.target
    known = op_name(node).removeprefix("aten.").rstrip("_") in ELEMENT_WISE
    return known or (isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags)


def _form(shape: tuple[int, ...], block: Block) -> str:
    """Return which shape a tensor from elsewhere has next to a block's result."""
    if block.signature.geometry is None:
        return "full" if math.prod(shape[:-1]) > 1 else "channel" if shape[-1] > 1 else "one"
    padded = (1,) * (len(block.shape) - len(shape)) + tuple(shape)
    channels, positions = padded[1] > 1, any(n > 1 for n in padded[2:])
    return "full" if channels and positions else "channel" if channels else "map" if positions else "one"


def _lengths(value: object, n: int) -> Lengths:
    """Return an argument of a convolution by spatial dimension."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    numbers = tuple(v for v in values if isinstance(v, int))
    return numbers * n if len(numbers) == 1 else numbers
