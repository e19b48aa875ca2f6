"""fp16: what computes in half precision, and the casts around it, written into an ONNX model.

TensorRT from 11 on, and its RTX edition, take the precision from the graph alone (strongly typed networks), so the
graph has to say it. Half precision runs from the first to the last convolution or matrix product of each path; what
lies before (normalisation of camera bytes) and behind (decoding, in pixels) stays in single precision, and so does
what would leave the range of fp16 on calibration frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

Arrays = dict[str, NDArray[Any]]
HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""What is worth computing in half precision."""
LARGEST = 65504.0
"""fp16's largest number."""
HEADROOM = 4.0
"""On other frames than those of the calibration, values may be so many times as large."""
SMALLEST = 2.0**-14
"""fp16's smallest normal number: below, scales of quantisation lose their digits and become 0."""
SINGLE, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def peaks(model: onnx.ModelProto, frames: Iterable[Arrays]) -> dict[str, float]:
    """Return the largest magnitude of every floating-point tensor over frames, infinite where it is not finite.

    ``frames`` are inputs by name. Initializers are among the tensors.
    """
    found = {i.name: magnitude(numpy_helper.to_array(i)) for i in model.graph.initializer if i.data_type == SINGLE}
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    told = {output.name for output in opened.graph.output}
    kinds = types(model)
    inside = [o for node in model.graph.node for o in node.output if kinds.get(o) == SINGLE]
    opened.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inside if name not in told)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for frame in frames:
        for name, value in zip(inside, session.run(inside, frame), strict=True):
            found[name] = max(found.get(name, 0.0), magnitude(value))
    return found


def magnitude(value: NDArray[Any]) -> float:
    """Return the largest magnitude in an array; infinite where one is not finite, 0 of nothing."""
    largest = float(np.abs(value).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor of a model, by ONNX's own inference."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    return known | {i.name: i.data_type for i in graph.initializer}


def to_fp16(model: onnx.ModelProto, largest: dict[str, float]) -> tuple[onnx.ModelProto, list[str]]:
    """Return a copy that computes in fp16, and the names of convolutions and products that stay in fp32.

    ``largest`` is what `peaks` found. Inputs and outputs keep their types. Raises `ValueError` on a model with
    branches or loops in it, which no network of ours has.
    """
    if any(a.g.node or a.graphs for node in model.graph.node for a in node.attribute):
        raise ValueError("the model holds branches or loops: it cannot be cast to fp16")
    kinds, chosen = types(model), _chosen(model, largest)
    stays = [node.name for node in model.graph.node if node.op_type in HEAVY and node.name not in chosen]
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    del made.graph.value_info[:]
    cast = _Casts(model, kinds)
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        half = node.name in chosen
        for place, name in enumerate(node.input):
            if name and kinds.get(name) == SINGLE and (not half or _may_be_half(model, node, place)):
                copy.input[place] = cast.as_type(name, HALF if half else SINGLE)
        for place, name in enumerate(node.output):
            if half and kinds.get(name) == SINGLE:
                copy.output[place] = cast.makes(name)
        cast.nodes.append(copy)
    for output in model.graph.output:
        cast.deliver(output.name)
    made.graph.node.extend(cast.nodes)
    made.graph.initializer.extend(cast.constants)
    used = {name for node in made.graph.node for name in node.input}
    kept = [i for i in made.graph.initializer if i.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    onnx.checker.check_model(made, full_check=True)
    return made, stays


def rounded(model: onnx.ModelProto, largest: dict[str, float]) -> onnx.ModelProto:
    """Return a copy that computes in fp32 what `to_fp16`'s would in fp16, each tensor rounded to it.

    For judging on a processor: ONNX Runtime's computes fp16 networks in fp32 throughout, so that nothing overflows
    there or loses digits but the weights.
    """
    kinds, chosen = types(model), _chosen(model, largest)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    del made.graph.value_info[:]
    known = {i.name: i for i in model.graph.initializer}
    done: set[str] = set()
    nodes: list[onnx.NodeProto] = []

    def narrowed(name: str) -> str:
        """Return a tensor as fp16 holds it."""
        there = f"{name}_rounded"
        if name not in done:
            done.add(name)
            if name in known:
                value = numpy_helper.to_array(known[name]).astype(np.float16).astype(np.float32)
                made.graph.initializer.append(numpy_helper.from_array(value, there))
            else:
                nodes.append(helper.make_node("Cast", [name], [f"{name}_fp16"], to=HALF))
                nodes.append(helper.make_node("Cast", [f"{name}_fp16"], [there], to=SINGLE))
        return there

    halves: set[str] = set()
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        half = node.name in chosen
        for place, name in enumerate(node.input):
            if name and kinds.get(name) == SINGLE and (name in halves or (half and _may_be_half(model, node, place))):
                copy.input[place] = narrowed(name)
        nodes.append(copy)
        halves |= {name for name in node.output if half and kinds.get(name) == SINGLE}
    made.graph.node.extend(nodes)
    return made


class _Casts:
    """Tensors in both types, each cast at most once, constants ahead of time."""

    def __init__(self, model: onnx.ModelProto, kinds: dict[str, int]) -> None:
        self.kinds = kinds
        self.given = {i.name: i for i in model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.halves: set[str] = set()
        """Tensors that half precision makes, by their old names."""
        self.done: dict[tuple[str, int], str] = {}

    def makes(self, name: str) -> str:
        """Return the name of a tensor that is half from now on."""
        self.halves.add(name)
        return f"{name}_fp16"

    def as_type(self, name: str, kind: int) -> str:
        """Return a tensor's name in a type, cast before its first use."""
        if (name in self.halves) == (kind == HALF):
            return f"{name}_fp16" if kind == HALF else name
        if (name, kind) not in self.done:
            source, target = (f"{name}_fp16", name) if kind == SINGLE else (name, f"{name}_fp16")
            self.done[name, kind] = target
            if name in self.given:
                value = numpy_helper.to_array(self.given[name]).astype(np.float16)
                self.constants.append(numpy_helper.from_array(value, target))
            else:
                self.nodes.append(helper.make_node("Cast", [source], [target], f"{target}_cast", to=kind))
        return self.done[name, kind]

    def deliver(self, name: str) -> None:
        """Give an output of the model in the type that it had."""
        if self.kinds.get(name) == SINGLE:
            self.as_type(name, SINGLE)


def _chosen(model: onnx.ModelProto, largest: dict[str, float]) -> set[str]:
    """Return the names of the nodes that compute in fp16."""
    nodes = list(model.graph.node)
    maker = {output: node for node in nodes for output in node.output}
    ahead: set[str] = set()  # tensors that heavy nodes have had a part in
    for node in nodes:
        if node.op_type in HEAVY or ahead & set(node.input):
            ahead.update(node.output)
    needed: set[str] = set()  # tensors that heavy nodes will need
    for node in reversed(nodes):
        if node.op_type in HEAVY or needed & set(node.output):
            needed.update(node.input)
    between = {n.name for n in nodes if n.op_type in HEAVY or (ahead & set(n.input) and needed & set(n.output))}
    fits = {n.name for n in nodes if n.name in between and _fits(model, n, largest)}
    # what is dequantised for a half-precision node is dequantised to half
    feeds = {name for n in nodes if n.name in fits for name in n.input if name in maker}
    feeding = (maker[name] for name in feeds)
    return fits | {n.name for n in feeding if n.op_type == "DequantizeLinear" and _scale_fits(model, n)}


def _fits(model: onnx.ModelProto, node: onnx.NodeProto, largest: dict[str, float]) -> bool:
    """Whether a node exists in fp16, and all that it reads and makes is within fp16's range."""
    values = [largest[name] for name in (*node.input, *node.output) if name in largest]
    return (
        _may_be_half(model, node, 0)
        and all(value * HEADROOM <= LARGEST for value in values)
        and (node.op_type != "QuantizeLinear" or _scale_fits(model, node))
    )


def _scale_fits(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether fp16 holds the scales of a step that quantises or dequantises."""
    scale = next((i for i in model.graph.initializer if i.name == node.input[1]), None)
    return scale is None or float(numpy_helper.to_array(scale).min()) >= SMALLEST


def _may_be_half(model: onnx.ModelProto, node: onnx.NodeProto, place: int) -> bool:
    """Whether an operator takes fp16 at a place of its inputs: not the scales of a Resize, for one."""
    if node.op_type == "Resize":
        return place == 0
    version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if node.domain not in ("", "ai.onnx"):
        return False
    schema = defs.get_schema(node.op_type, version, "")
    kind = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
    allowed: Sequence[str] = next(
        (c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == kind), []
    )
    return "tensor(float16)" in allowed or kind == "tensor(float16)"
