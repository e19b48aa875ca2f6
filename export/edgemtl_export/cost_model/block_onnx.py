"""A block at some widths as a small ONNX model, and weights that take no space in a file.

A block's time is that of three copies less that of one, halved: what both have in common, the call and the input's
change of layout, falls out. Of each copy's result one value is read, so that it is converted to no other layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .blocks import Geometry, Signature, Step

OPSET = 20
LEAST = 1024
"""Elements from which on a weight is written as one number."""
UNARY = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hardswish": "HardSwish",
    "hardsigmoid": "HardSigmoid",
    "exp": "Exp",
    "sqrt": "Sqrt",
    "neg": "Neg",
    "abs": "Abs",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "gelu": "Gelu",
    "mish": "Mish",
    "softplus": "Softplus",
}
BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min", "pow": "Pow"}
CLIPS = ("hardtanh", "clamp", "relu6", "clamp_min", "clamp_max")


def block_model(signature: Signature, reads: int, makes: int, copies: int) -> onnx.ModelProto:
    """Return a model of ``copies`` of a block that read one input of ``reads`` channels and make ``makes`` each.

    A depthwise block reads what it makes.
    """
    graph = _Graph(signature, makes)
    geometry = signature.geometry
    reads = makes if geometry and geometry.groups == 0 else reads
    x = graph.input((signature.batch, reads, *geometry.input_size) if geometry else (signature.batch, reads))
    elsewhere = [
        graph.input(graph.shape(o))
        for step in signature.steps
        for o in step.operands
        if isinstance(o, str) and o != "weights"
    ]
    for _ in range(copies):
        y = graph.convolution(geometry, x, reads) if geometry else graph.product(x, reads)
        graph.read_one(graph.steps(y, list(elsewhere)))
    return graph.model()


class _Graph:
    """The nodes of a model, as they are added."""

    def __init__(self, signature: Signature, makes: int) -> None:
        self.signature, self.makes = signature, makes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.names = 0

    @property
    def size(self) -> tuple[int, ...]:
        """The positions of a result."""
        return self.signature.geometry.output_size if self.signature.geometry else ()

    def shape(self, form: str) -> tuple[int, ...]:
        """Return the shape of a tensor from elsewhere."""
        batch, channels, positions = self.signature.batch, self.makes, self.size
        if form in ("channel", "one"):
            positions = (1,) * len(positions)
            batch = batch if self.signature.geometry else 1
        return (batch, 1 if form in ("map", "one") else channels, *positions)

    def name(self) -> str:
        """Return a new name."""
        self.names += 1
        return f"v{self.names}"

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an operator and return the name of its result."""
        name = self.name()
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | float) -> str:
        """Add a constant."""
        name = self.name()
        array = np.asarray(value)
        self.initializers.append(
            numpy_helper.from_array(array.astype(np.float32) if array.dtype == float else array, name)
        )
        return name

    def weight(self, shape: tuple[int, ...]) -> str:
        """Add a weight whose values differ from those of any other, so that no two copies become one."""
        value = (1 + 1e-3 * self.names) / math.prod(shape[1:])
        return self.op("ConstantOfShape", [self.constant(np.array(shape, np.int64))], value=_scalar(value))

    def input(self, shape: tuple[int, ...]) -> str:
        """Add an input."""
        name = self.name()
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def convolution(self, geometry: Geometry, x: str, reads: int) -> str:
        """Add a convolution."""
        groups = geometry.groups or self.makes
        given: dict[str, Any] = {
            "kernel_shape": geometry.kernel,
            "strides": geometry.stride,
            "pads": geometry.pads,
            "dilations": geometry.dilation,
            "group": groups,
        }
        bias = self.constant(np.full(self.makes, 0.01))
        if geometry.transposed:
            w = self.weight((reads, self.makes // groups, *geometry.kernel))
            return self.op("ConvTranspose", [x, w, bias], output_padding=geometry.output_padding, **given)
        w = self.weight((self.makes, reads // groups, *geometry.kernel))
        return self.op("Conv", [x, w, bias], **given)

    def product(self, x: str, reads: int) -> str:
        """Add a linear layer."""
        bias = self.constant(np.full(self.makes, 0.01))
        return self.op("Gemm", [x, self.weight((reads, self.makes)), bias])

    def steps(self, first: str, elsewhere: list[str]) -> str:
        """Add the element-wise operators, and return the last result."""
        results = [first]
        for step in self.signature.steps:
            results.append(self._step(step, results, elsewhere))
        return results[-1]

    def _step(self, step: Step, results: list[str], elsewhere: list[str]) -> str:
        operands = [self._operand(o, results, elsewhere) for o in step.operands]
        tensors = [name for name, o in zip(operands, step.operands, strict=True) if not isinstance(o, float)]
        op = step.op.rstrip("_")
        if "batch_norm" in op:
            if len(results) == 1:
                return results[0]  # folded into the layer
            return self.op(
                "BatchNormalization", [tensors[0], *(self.constant(np.full(self.makes, 0.5)) for _ in range(4))]
            )
        if op == "silu":
            return self.op("Mul", [tensors[0], self.op("Sigmoid", tensors[:1])])
        if op in CLIPS:
            return self.op("Clip", [tensors[0], self.constant(0.0), self.constant(6.0)])
        if op in BINARY:
            return self.op(BINARY[op], [*operands, self.constant(0.5)][:2])
        return self.op(UNARY.get(op, "Sigmoid"), tensors[:1])

    def _operand(self, operand: float | str, results: list[str], elsewhere: list[str]) -> str:
        if isinstance(operand, int):
            return results[operand]
        if isinstance(operand, float):
            return self.constant(operand)
        if operand == "weights":
            return self.constant(np.full((self.makes, *[1] * len(self.size)), 0.5))
        return elsewhere.pop(0)

    def read_one(self, name: str) -> None:
        """Make an output of one position of a result."""
        if self.size:
            name = self.op("MaxPool", [name], kernel_shape=[1] * len(self.size), strides=list(self.size))
        shape = [self.signature.batch, self.makes, *[1] * len(self.size)]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def model(self) -> onnx.ModelProto:
        """Return the model."""
        graph = helper.make_graph(self.nodes, "block", self.inputs, self.outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def _scalar(value: float, dtype: type[np.floating[Any]] = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([value], dtype), "value")


def half_weights(model: onnx.ModelProto) -> None:
    """Replace weights of one number that are cast to half by such of half."""
    constants = {node.output[0]: node for node in model.graph.node if node.op_type == "ConstantOfShape"}
    for cast in [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in constants]:
        constant = constants[cast.input[0]]
        value = float(numpy_helper.to_array(constant.attribute[0].t)[0])
        half = helper.make_node(
            "ConstantOfShape", constant.input, cast.output, cast.name, value=_scalar(value, np.float16)
        )
        model.graph.node.insert(0, half)
        model.graph.node.remove(cast)
    read = {name for node in model.graph.node for name in node.input}
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape" and n.output[0] not in read]:
        model.graph.node.remove(node)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large weights are one number each, of like magnitude of sums: the same time, a small file.

    The back end computes them when it loads the model.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes, initializers = [], []
    for number, tensor in enumerate(copy.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < LEAST:
            initializers.append(tensor)
            continue
        shape = numpy_helper.from_array(np.array(tensor.dims, np.int64), f"{tensor.name}/shape")
        value = (1 + 1e-4 * number) / math.prod(tensor.dims[1:])
        nodes.append(
            helper.make_node("ConstantOfShape", [shape.name], [tensor.name], name=shape.name, value=_scalar(value))
        )
        initializers.append(shape)
    nodes += copy.graph.node
    del copy.graph.initializer[:], copy.graph.node[:]
    copy.graph.initializer.extend(initializers)
    copy.graph.node.extend(nodes)
    return copy
