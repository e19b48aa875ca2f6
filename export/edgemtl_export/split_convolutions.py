"""A convolution whose channels are split afterwards becomes one convolution a part, which moves no memory.

Blocks of the YOLO family split what a 1×1 convolution makes. ONNX Runtime keeps images in blocks of channels, and
leaves that layout for a split and enters it again after it; TensorRT computes convolutions of one input as one anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from onnx.numpy_helper import to_array

ACTIVATIONS = "Relu LeakyRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Softplus Mish Gelu"
ELEMENTWISE = frozenset([*ACTIVATIONS.split(), "Mul", "Add", "Sub", "Div"])
LEAST = 8
"""Channels of a part: fewer are computed as so many, and the whole is cheaper."""


@dataclass
class _Graph:
    """A graph by the names of its values."""

    proto: onnx.GraphProto

    def __post_init__(self) -> None:
        self.constants = {tensor.name: tensor for tensor in self.proto.initializer}
        self.makers = {name: node for node in self.proto.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.proto.node:
            for name in node.input:
                self.readers[name].append(node)
        self.outputs = {value.name for value in self.proto.output}

    def is_scalar(self, name: str) -> bool:
        """Whether a value is a constant of one number."""
        return not name or (name in self.constants and int(np.prod(self.constants[name].dims)) == 1)

    def between(self, split: NodeProto) -> tuple[NodeProto, list[NodeProto]] | None:
        """Return the convolution that a split reads through element-wise operators, and these in their order.

        None where there is none, or anything else reads what is on the way.
        """
        nodes: dict[str, NodeProto] = {}
        waiting, convs = [split.input[0]], {}
        while waiting:
            name = waiting.pop()
            node = self.makers.get(name)
            if node is None or name in self.outputs:
                return None
            if node.op_type == "Conv":
                convs[name] = node
            elif node.op_type not in ELEMENTWISE:
                return None
            elif name not in nodes:
                nodes[name] = node
                waiting += [value for value in node.input if not self.is_scalar(value)]
        inside = [split.output[0], *nodes]
        read = [reader.output[0] for name in [*nodes, *convs] for reader in self.readers[name]]
        if len(convs) != 1 or not set(read) <= set(inside):
            return None
        return next(iter(convs.values())), [node for node in self.proto.node if node.output[0] in nodes]


def split_convolutions(model: onnx.ModelProto) -> int:
    """Give every part of a convolution's channels a convolution of its own, in place; return how many splits went.

    A part's filters are those of the whole, so that outputs are the same numbers.
    """
    count = 0
    for split in [node for node in model.graph.node if node.op_type == "Split"]:
        graph = _Graph(model.graph)
        chain = graph.between(split)
        sizes = _sizes(graph, split, chain[0]) if chain else []
        if chain and min(sizes, default=0) >= LEAST:
            _replace(graph, split, [chain[0], *chain[1]], list(_parts(graph, split, *chain, sizes)))
            count += 1
    return count


def _sizes(graph: _Graph, split: NodeProto, conv: NodeProto) -> list[int]:
    """Return how many channels the parts have; nothing where these are not known, or are not channels' parts."""
    options = {a.name: helper.get_attribute_value(a) for a in split.attribute}
    weights = conv.input[1:]
    if options.get("axis", 0) not in (1, -3) or not all(name in graph.constants for name in weights if name):
        return []
    if any(a.name == "group" and a.i != 1 for a in conv.attribute):
        return []
    if len(split.input) > 1 and split.input[1]:
        sizes = graph.constants.get(split.input[1])
        return [] if sizes is None else [int(size) for size in to_array(sizes)]
    channels, parts = graph.constants[conv.input[1]].dims[0], len(split.output)
    return [channels // parts] * parts if channels % parts == 0 else []


def _replace(graph: _Graph, split: NodeProto, whole: list[NodeProto], parts: list[NodeProto]) -> None:
    """Put the parts where the split stands, and take away what they stand for."""
    proto = graph.proto
    index = list(proto.node).index(split)
    for node in reversed(parts):
        proto.node.insert(index, node)
    for node in [split, *whole]:
        proto.node.remove(node)
    read = {name for node in proto.node for name in node.input} | graph.outputs
    weights = {name for node in [split, *whole] for name in node.input if name in graph.constants}
    for tensor in [tensor for tensor in proto.initializer if tensor.name in weights - read]:
        proto.initializer.remove(tensor)


def _parts(
    graph: _Graph, split: NodeProto, conv: NodeProto, between: list[NodeProto], sizes: list[int]
) -> Iterator[NodeProto]:
    """Yield the nodes of all parts in the order they run in; their weights are added to the graph."""
    first = 0
    for number, (size, output) in enumerate(zip(sizes, split.output, strict=True)):
        renamed = {node.output[0]: f"{node.output[0]}_part{number}" for node in [conv, *between]}
        renamed[split.input[0]] = output
        for name in filter(None, conv.input[1:]):
            rows = to_array(graph.constants[name])[first : first + size]
            renamed[name] = f"{name}_part{number}_{split.output[0]}"
            graph.proto.initializer.append(numpy_helper.from_array(np.ascontiguousarray(rows), renamed[name]))
        for node in [conv, *between]:
            copy = NodeProto.FromString(node.SerializeToString())
            copy.name = f"{node.name or node.output[0]}_part{number}"
            copy.output[0] = renamed[node.output[0]]
            for index, name in enumerate(node.input):
                if name in renamed and (node is not conv or index):
                    copy.input[index] = renamed[name]
            yield copy
        first += size
