"""fp16: mixed-precision conversion of an ONNX model, with explicit casts.

TensorRT from 11 on, and its RTX edition, take the precision from the graph alone (strongly typed networks), so the
graph has to state it. Half precision runs from the first to the last convolution or matrix product of each path; what
comes before (normalisation of camera bytes) and after (decoding, in pixels) stays in single precision, and so does
what would leave the range of fp16 on calibration frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

from edgemtl_runtime.engine import Arrays

from .activations import activations

COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""Operators that gain from half precision."""
MAX_FP16 = 65504.0
HEADROOM = 4.0
"""Values on other frames may be so many times as large as on the calibration's."""
MIN_NORMAL = 2.0**-14
"""fp16's smallest normal number: below, quantisation scales lose their digits and become 0."""
SINGLE, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
ONNX_DOMAINS = ("", "ai.onnx")


def largest_magnitudes(model: onnx.ModelProto, frames: Iterable[Arrays]) -> dict[str, float]:
    """Return the largest magnitude of every floating-point tensor over frames, infinite where it is not finite.

    ``frames`` are inputs by name. Initializers are among the tensors.
    """
    largest = {i.name: magnitude(numpy_helper.to_array(i)) for i in model.graph.initializer if i.data_type == SINGLE}
    types = tensor_types(model)
    names = [output for node in model.graph.node for output in node.output if types.get(output) == SINGLE]
    for values in activations(model, names, frames, optimise=False):
        for name, value in zip(names, values, strict=True):
            largest[name] = max(largest.get(name, 0.0), magnitude(value))
    return largest


def magnitude(value: NDArray[Any]) -> float:
    """Return the largest magnitude in an array; infinite where one is not finite, 0 where it is empty."""
    largest = float(np.abs(value).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor of a model, by ONNX's shape inference."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    inferred = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    return inferred | {i.name: i.data_type for i in graph.initializer}


def to_fp16(model: onnx.ModelProto, magnitudes: dict[str, float]) -> tuple[onnx.ModelProto, list[str]]:
    """Return a copy that computes in fp16, and the names of convolutions and products that stay in fp32.

    ``magnitudes`` are those of `largest_magnitudes`. Inputs and outputs keep their types. Raises `ValueError` on a
    model with control flow, which no network of ours has.
    """
    if any(a.g.node or a.graphs for node in model.graph.node for a in node.attribute):
        raise ValueError("the model holds branches or loops: it cannot be cast to fp16")
    types, fp16_nodes = tensor_types(model), _fp16_nodes(model, magnitudes)
    layers = [node.name for node in model.graph.node if node.op_type in COMPUTE_OPS]
    fp32_layers = [name for name in layers if name not in fp16_nodes]
    casts = _Casts(model, types)
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        half = node.name in fp16_nodes
        for index, name in enumerate(node.input):
            if name and types.get(name) == SINGLE and (not half or _takes_fp16(model, node, index)):
                copy.input[index] = casts.as_type(name, HALF if half else SINGLE)
        for index, name in enumerate(node.output):
            if half and types.get(name) == SINGLE:
                copy.output[index] = casts.half_output(name)
        casts.nodes.append(copy)
    for output in model.graph.output:
        casts.restore_output(output.name)
    converted = _without_nodes(model)
    converted.graph.node.extend(casts.nodes)
    used = {name for node in casts.nodes for name in node.input}
    kept = [i for i in (*model.graph.initializer, *casts.constants) if i.name in used]
    del converted.graph.initializer[:]
    converted.graph.initializer.extend(kept)
    onnx.checker.check_model(converted, full_check=True)
    return converted, fp32_layers


def emulate_fp16(model: onnx.ModelProto, magnitudes: dict[str, float]) -> onnx.ModelProto:
    """Return a copy that computes in fp32 what `to_fp16`'s computes in fp16, each tensor rounded to fp16.

    For an evaluation on a CPU: ONNX Runtime computes fp16 networks in fp32 there, so that nothing overflows and only
    the weights are rounded.
    """
    types, fp16_nodes = tensor_types(model), _fp16_nodes(model, magnitudes)
    emulated = _without_nodes(model)
    weights = {i.name: i for i in model.graph.initializer}
    rounded: dict[str, str] = {}

    def as_rounded(name: str) -> str:
        """Return the name of a tensor rounded to fp16."""
        if name not in rounded:
            rounded[name] = f"{name}_rounded"
            if name in weights:
                value = numpy_helper.to_array(weights[name]).astype(np.float16).astype(np.float32)
                emulated.graph.initializer.append(numpy_helper.from_array(value, rounded[name]))
            else:
                to_half = helper.make_node("Cast", [name], [f"{name}_fp16"], to=HALF)
                to_single = helper.make_node("Cast", [f"{name}_fp16"], [rounded[name]], to=SINGLE)
                emulated.graph.node.extend([to_half, to_single])
        return rounded[name]

    halves: set[str] = set()
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        half = node.name in fp16_nodes
        for index, name in enumerate(node.input):
            is_single = bool(name) and types.get(name) == SINGLE
            if is_single and (name in halves or (half and _takes_fp16(model, node, index))):
                copy.input[index] = as_rounded(name)
        emulated.graph.node.append(copy)
        halves |= {name for name in node.output if half and types.get(name) == SINGLE}
    return emulated


def _without_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with inputs, outputs and initializers alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    del copy.graph.value_info[:]
    return copy


class _Casts:
    """Tensors in both types, each cast at most once, constants ahead of time."""

    def __init__(self, model: onnx.ModelProto, types: dict[str, int]) -> None:
        self.types = types
        self.weights = {i.name: i for i in model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.halves: set[str] = set()
        """Tensors that a node computes in fp16, by their names in the fp32 model."""
        self.cast: dict[tuple[str, int], str] = {}

    def half_output(self, name: str) -> str:
        """Return the new name of a node's output that is fp16 from now on."""
        self.halves.add(name)
        return f"{name}_fp16"

    def as_type(self, name: str, type_: int) -> str:
        """Return a tensor's name in a type, cast before its first use."""
        if (name in self.halves) == (type_ == HALF):
            return f"{name}_fp16" if type_ == HALF else name
        if (name, type_) not in self.cast:
            source, target = (f"{name}_fp16", name) if type_ == SINGLE else (name, f"{name}_fp16")
            self.cast[name, type_] = target
            if name in self.weights:
                value = numpy_helper.to_array(self.weights[name]).astype(np.float16)
                self.constants.append(numpy_helper.from_array(value, target))
            else:
                self.nodes.append(helper.make_node("Cast", [source], [target], f"{target}_cast", to=type_))
        return self.cast[name, type_]

    def restore_output(self, name: str) -> None:
        """Cast an output of the model back to the type that it had."""
        if self.types.get(name) == SINGLE:
            self.as_type(name, SINGLE)


def _fp16_nodes(model: onnx.ModelProto, magnitudes: dict[str, float]) -> set[str]:
    """Return the names of the nodes that compute in fp16."""
    nodes = list(model.graph.node)
    producer = {output: node for node in nodes for output in node.output}
    after: set[str] = set()  # tensors that depend on a compute node
    for node in nodes:
        if node.op_type in COMPUTE_OPS or after & set(node.input):
            after.update(node.output)
    before: set[str] = set()  # tensors that a compute node depends on
    for node in reversed(nodes):
        if node.op_type in COMPUTE_OPS or before & set(node.output):
            before.update(node.input)
    between = {n.name for n in nodes if n.op_type in COMPUTE_OPS or (after & set(n.input) and before & set(n.output))}
    fitting = {n.name for n in nodes if n.name in between and _fits(model, n, magnitudes)}
    # what is dequantised for a half-precision node is dequantised to half
    inputs = {name for n in nodes if n.name in fitting for name in n.input if name in producer}
    producers = (producer[name] for name in inputs)
    return fitting | {n.name for n in producers if n.op_type == "DequantizeLinear" and _scale_fits(model, n)}


def _fits(model: onnx.ModelProto, node: onnx.NodeProto, magnitudes: dict[str, float]) -> bool:
    """Whether a node exists in fp16, and all its inputs and outputs are within fp16's range."""
    values = [magnitudes[name] for name in (*node.input, *node.output) if name in magnitudes]
    return (
        _takes_fp16(model, node, 0)
        and all(value * HEADROOM <= MAX_FP16 for value in values)
        and (node.op_type != "QuantizeLinear" or _scale_fits(model, node))
    )


def _scale_fits(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether fp16 holds the scales of a QuantizeLinear or DequantizeLinear."""
    scale = next((i for i in model.graph.initializer if i.name == node.input[1]), None)
    return scale is None or float(numpy_helper.to_array(scale).min()) >= MIN_NORMAL


def _takes_fp16(model: onnx.ModelProto, node: onnx.NodeProto, index: int) -> bool:
    """Whether an operator takes fp16 as the input of that index: not for the scales of a Resize, for one."""
    if node.op_type == "Resize":
        return index == 0
    version = next(o.version for o in model.opset_import if o.domain in ONNX_DOMAINS)
    if node.domain not in ONNX_DOMAINS:
        return False
    schema = defs.get_schema(node.op_type, version, "")
    type_parameter = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
    allowed: Sequence[str] = next(
        (c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == type_parameter), []
    )
    return "tensor(float16)" in allowed or type_parameter == "tensor(float16)"
