"""From an ONNX file to a module: what no image decides is computed once, the rest runs node by node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.onnx_file import check_foreign_onnx

from ..errors import UnsupportedError
from .layers import LAYERS
from .operators import OPERATORS
from .values import Call, Known

DOMAINS = ("", "ai.onnx")


class Step(NamedTuple):
    """A node that runs on every image; ``layer`` names its module, where it has weights."""

    node: onnx.NodeProto
    layer: str


class OnnxNetwork(nn.Module):
    """An ONNX network that takes its inputs in the file's order, and gives its outputs: one tensor, or a dict by name.

    Convolutions, linear layers and batch normalisation are torch's layers, named by their nodes. Sizes are fixed, but a
    file of one image takes batches, where it answers each image in a batch as it does alone.
    """

    def __init__(self, model: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        """``sizes`` are of inputs by name, where the file leaves them open; an open batch is one.

        Raises `UnsupportedError` for an operator that is not known, or a shape that images decide.
        """
        super().__init__()
        graph = model.graph
        if any(initializer.data_type == onnx.TensorProto.FLOAT16 for initializer in graph.initializer):
            raise UnsupportedError("the weights are in half precision; give the file in fp32")
        unknown = sorted({n.op_type for n in graph.node if n.op_type not in KNOWN_OPERATORS or n.domain not in DOMAINS})
        if unknown:
            raise UnsupportedError(f"the network has operators that cannot be read: {', '.join(unknown)}")
        self.layers = nn.ModuleDict()
        self.steps: list[Step] = []
        self.array_of: dict[str, NDArray[Any]] = {}
        self.buffer_of: dict[str, str] = {}
        for initializer in graph.initializer:
            self._know(initializer.name, numpy_helper.to_array(initializer))
        self.input_names = [i.name for i in graph.input if i.name not in self.array_of]
        self.output_names = [o.name for o in graph.output]
        self.example_inputs = tuple(
            _example(i, (sizes or {}).get(i.name)) for i in graph.input if i.name not in self.array_of
        )
        self.eval()
        with torch.no_grad():
            self._prepare(list(graph.node))
        read = {name for step in self.steps for name in (step.node.input[:1] if step.layer else step.node.input)}
        read |= set(self.output_names)
        for name in [n for n in self.buffer_of if n not in read]:  # weights that layers hold, and what shapes were of
            delattr(self, self.buffer_of.pop(name))
        self.takes_batches = True
        """Whether inputs may be of several images."""
        self.takes_batches = self._answers_in_batches()

    def _know(self, name: str, array: NDArray[Any]) -> None:
        """Keep a value that no image decides."""
        self.array_of[name], self.buffer_of[name] = array, f"constant_{len(self.array_of)}"
        self.register_buffer(self.buffer_of[name], torch.from_numpy(np.array(array)))

    def _known(self, name: str) -> Known:
        if name not in self.array_of:
            raise UnsupportedError(f"reads '{name}', which no node before it gives: the nodes are not in order")
        return Known(self.array_of[name], getattr(self, self.buffer_of[name]))

    def _prepare(self, nodes: list[onnx.NodeProto]) -> None:
        """Run every node once: those that no image decides become constants, the others steps."""
        computed: dict[str, Tensor] = dict(zip(self.input_names, self.example_inputs, strict=True))
        for node in nodes:
            call = self._call(node, computed)
            constant = _constant(call)
            if constant is None and all(value is None or isinstance(value, Known) for value in call.inputs):
                results = _results(OPERATORS[node.op_type](call))
                for name, result in zip(node.output, results, strict=False):
                    self._know(name, result.numpy())
            elif constant is not None:
                self._know(node.output[0], constant)
            else:
                layer = LAYERS[node.op_type](call) if node.op_type in LAYERS else None
                name = self._name(node) if layer is not None else ""
                if layer is not None:
                    self.layers[name] = layer.eval()
                self.steps.append(Step(self._of_any_batch(node, computed), name))
                try:
                    computed |= self._run(self.steps[-1], computed)
                except RuntimeError as error:
                    sizes = ", ".join(f"{n} {tuple(computed[n].shape)}" for n in self.input_names)
                    reason = str(error).splitlines()[0]
                    raise UnsupportedError(f"{call.label} cannot be run with {sizes}: {reason}") from None

    def _of_any_batch(self, node: onnx.NodeProto, computed: Mapping[str, Tensor]) -> onnx.NodeProto:
        """Return a Reshape that keeps the first dimension, where it does so for one image."""
        if node.op_type != "Reshape" or node.input[1] not in self.array_of:
            return node
        call, shape = self._call(node, computed), self.array_of[node.input[1]]
        if not len(shape) or shape[0] != 1 or call.tensor(0).shape[:1] != (1,) or call.attribute("allowzero", 0):
            return node
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        kept.input[1] = f"{node.output[0]}, shape"
        self._know(kept.input[1], np.array([0, *shape[1:]]))
        return kept

    @torch.no_grad()
    def _answers_in_batches(self) -> bool:
        """Whether two images in a batch are answered as each alone."""
        if any(example.shape[:1] != (1,) for example in self.example_inputs):
            return False
        generator = torch.Generator().manual_seed(0)
        images = [
            torch.rand((2, *x.shape[1:]), generator=generator) if x.is_floating_point() else x.repeat_interleave(2, 0)
            for x in self.example_inputs
        ]
        try:
            together = self._outputs(*images)
        except (RuntimeError, UnsupportedError):
            return False
        alone = [self._outputs(*(x[i : i + 1] for x in images)) for i in range(2)]
        return all(map(_are_alike, together, *alone))

    def _name(self, node: onnx.NodeProto) -> str:
        """Return a name of a layer that is free, by its node's name."""
        plain = "".join(c if c.isalnum() else "_" for c in node.name or node.output[0]).strip("_") or node.op_type
        return plain if plain not in self.layers else f"{plain}_{len(self.layers)}"

    def _call(self, node: onnx.NodeProto, computed: Mapping[str, Tensor]) -> Call:
        inputs: list[Tensor | Known | None] = []
        for name in node.input:
            inputs.append(None if not name else computed[name] if name in computed else self._known(name))
        return Call(node, tuple(inputs))

    def _run(self, step: Step, computed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if step.layer:
            return {step.node.output[0]: self.layers[step.layer](computed[step.node.input[0]])}
        results = _results(OPERATORS[step.node.op_type](self._call(step.node, computed)))
        return dict(zip(step.node.output, results, strict=False))

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Return the output, or the outputs by name where there are several.

        Raises ValueError for inputs of another shape than the network was read for.
        """
        for name, x, example in zip(self.input_names, inputs, self.example_inputs, strict=True):
            if x.shape[1:] != example.shape[1:] or not (self.takes_batches or x.shape == example.shape):
                batches = ", or more of these at once" if self.takes_batches else ""
                raise ValueError(
                    f"input '{name}' is of shape {tuple(x.shape)}; the network was read for {tuple(example.shape)}"
                    f"{batches}"
                )
        outputs = self._outputs(*inputs)
        return outputs[0] if len(outputs) == 1 else dict(zip(self.output_names, outputs, strict=True))

    def _outputs(self, *inputs: Tensor) -> list[Tensor]:
        computed = dict(zip(self.input_names, inputs, strict=True))
        for step in self.steps:
            computed |= self._run(step, computed)
        return [computed[n] if n in computed else self._known(n).tensor for n in self.output_names]


def _are_alike(both: Tensor, first: Tensor, second: Tensor) -> bool:
    """Whether an output for two images is that for each, but for roundings; each channel by its own size."""
    if first.shape[:1] != (1,) or both.shape != (2, *first.shape[1:]) or second.shape != first.shape:
        return False
    alone = torch.cat([first, second])
    if not both.is_floating_point() or not both.numel():
        return torch.equal(both, alone)
    others = [dim for dim in range(both.ndim) if dim != 1]
    size = alone.abs().nan_to_num().amax(others, keepdim=True)
    difference = (both - alone).nan_to_num().abs()
    return bool((both.isnan() == alone.isnan()).all() and (difference <= 1e-6 + 1e-3 * size).all())


def _results(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _constant(call: Call) -> NDArray[Any] | None:
    """Return the value of a node whose inputs' shapes decide it, None of another."""
    operator = call.node.op_type
    if operator == "Constant":
        value = call.attribute("value")
        if isinstance(value, onnx.TensorProto):
            return numpy_helper.to_array(value)
        numbers = [call.attribute(f"value_{kind}") for kind in ("float", "floats", "int", "ints")]
        return np.array(next(n for n in numbers if n is not None))
    if operator == "Shape":
        return np.array(call.tensor(0).shape[call.attribute("start", 0) : call.attribute("end")], np.int64)
    if operator == "ConstantOfShape":
        value = call.attribute("value")
        fill = numpy_helper.to_array(value) if value is not None else np.zeros(1, np.float32)
        return np.full(call.constant(0).tolist(), fill.reshape(-1)[0], fill.dtype)
    if operator == "Range":
        start, limit, delta = (call.constant(i).item() for i in range(3))
        return np.arange(start, limit, delta).astype(call.constant(0).dtype)
    return None


KNOWN_OPERATORS = OPERATORS.keys() | LAYERS.keys() | {"Constant", "Shape", "ConstantOfShape", "Range"}


def _example(value: onnx.ValueInfoProto, size: tuple[int, ...] | None) -> Tensor:
    """Return zeros for an input; raises `UnsupportedError` where its size is open."""
    kind = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
    if size is None:
        size = tuple(1 if i == 0 and s is None else s or 0 for i, s in enumerate(shape))
    if 0 in size or len(size) != len(shape):
        raise UnsupportedError(f"input '{value.name}' leaves its size open ({shape}): give it, like 1x3x320x320")
    dtype = torch.from_numpy(np.zeros(0, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))).dtype
    return torch.zeros(size, dtype=dtype)


def read_onnx(file: Path, sizes: Mapping[str, tuple[int, ...]] | None = None) -> OnnxNetwork:
    """Read an ONNX file as a module; nothing in it is run but its operators.

    Raises `EdgemtlError` for a file that is no ONNX network, or reaches outside of itself, `UnsupportedError` as
    `OnnxNetwork`.
    """
    if not file.is_file():
        raise EdgemtlError(f"{file}: there is no such file")
    check_foreign_onnx(file)
    return OnnxNetwork(onnx.load(str(file), load_external_data=False), sizes)
