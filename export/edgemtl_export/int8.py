"""int8: quantise and dequantise steps around convolutions, calibrated on real frames, the touchy layers left alone.

Static quantisation after training by ONNX Runtime, in the form that TensorRT reads: symmetric int8 weights a channel
and activations a tensor, a pair of quantise and dequantise steps at each input of a convolution, biases left in
floating point. Which convolutions must stay is found by trying: each is quantised by itself, the one that moves the
heads most comes first, and as few of that order as the judge needs stay as they are.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .fp16 import SMALLEST

Arrays = dict[str, NDArray[Any]]
QUANTISED = "Conv"
OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
}


def convolutions(model: onnx.ModelProto) -> list[str]:
    """Return the names of what can be quantised."""
    return [node.name for node in model.graph.node if node.op_type == QUANTISED]


def to_int8(
    model: onnx.ModelProto, frames: Sequence[Arrays], keep: Sequence[str] = (), outputs: bool = True
) -> onnx.ModelProto:
    """Return a copy whose convolutions, but for those named in ``keep``, compute in int8.

    ``frames`` are inputs by name, those of training: their extremes set the scales. ``outputs`` is `Quantiser`'s.
    """
    return Quantiser(model, frames, outputs).quantised([name for name in convolutions(model) if name not in set(keep)])


class Quantiser:
    """Calibrated once, and written for any choice of convolutions."""

    def __init__(self, model: onnx.ModelProto, frames: Sequence[Arrays], outputs: bool = True) -> None:
        """With ``outputs`` what a convolution makes is quantised too: ONNX Runtime computes in int8 only then.

        Without, the rest is to compute in fp16, and scales of weights are such that fp16 holds them.
        """
        from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

        self.model = model
        self.floor = 0.0 if outputs else SMALLEST
        self.options = OPTIONS | ({} if outputs else {"OpTypesToExcludeOutputQuantization": [QUANTISED]})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            onnx.save(model, str(file))
            calibrator = create_calibrator(file, [QUANTISED], str(Path(folder) / "augmented.onnx"))
            calibrator.collect_data(_Frames(frames))
            self.ranges: TensorsData = calibrator.compute_data()

    def quantised(self, names: Sequence[str]) -> onnx.ModelProto:
        """Return a copy with these convolutions in int8."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        if not names:
            return copy
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)
        try:
            quantiser = QDQQuantizer(
                copy,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8,
                tensors_range=self.ranges,
                nodes_to_quantize=list(names),
                nodes_to_exclude=[],
                op_types_to_quantize=[QUANTISED],
                extra_options=self.options,
            )
            quantiser.quantize_model()
            quantiser.model.topological_sort()
        finally:
            logging.root.setLevel(level)
        return fold_weights(quantiser.model.model, self.floor)


def fold_weights(model: onnx.ModelProto, floor: float = 0.0) -> onnx.ModelProto:
    """Store quantised what is quantised anyway: the weights, of which the file then holds one byte each.

    No scale of weights stays below ``floor``.
    """
    given = {i.name: i for i in model.graph.initializer}
    rest, made = [], []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in given:
            values, scale, zero = (numpy_helper.to_array(given[name]) for name in node.input)
            scale = np.maximum(scale, np.float32(floor))
            given[node.input[1]].CopyFrom(numpy_helper.from_array(scale, node.input[1]))
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if scale.ndim and dim == axis else 1 for dim in range(values.ndim)]
            whole = np.rint(values / scale.reshape(shape)) + zero.reshape(shape)
            made.append(numpy_helper.from_array(np.clip(whole, -128, 127).astype(np.int8), node.output[0]))
        else:
            rest.append(node)
    del model.graph.node[:]
    model.graph.node.extend(rest)
    used = {name for node in rest for name in node.input}
    kept = [i for i in (*model.graph.initializer, *made) if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


class _Frames:
    """Calibration frames as ONNX Runtime asks for them."""

    def __init__(self, frames: Sequence[Arrays]) -> None:
        self.rest: Iterator[Arrays] = iter(frames)

    def get_next(self) -> Arrays | None:
        """Return the next frame, nothing at the end."""
        return next(self.rest, None)


def by_harm(
    quantiser: Quantiser, frames: Sequence[Arrays], told: Callable[[int, int], None] = lambda *_: None
) -> list[str]:
    """Return the convolutions by how far each, quantised by itself, moves the heads, the farthest first.

    The distance is that of what the last convolutions make, over ``frames``, each in units of its own spread.
    ``told`` hears how many are done, of how many.
    """
    ends = last(quantiser.model)
    exact = _values(quantiser.model, ends, frames)
    spread = [max(float(np.std(each)), 1e-12) for each in exact]
    harm = {}
    names = convolutions(quantiser.model)
    for done, name in enumerate(names, 1):
        found = _values(quantiser.quantised([name]), ends, frames)
        off = [float(np.mean((a - b) ** 2)) / s**2 for a, b, s in zip(exact, found, spread, strict=True)]
        harm[name] = float(np.mean(off))
        told(done, len(names))
    return sorted(harm, key=lambda name: -harm[name])


def last(model: onnx.ModelProto) -> list[str]:
    """Return what convolutions make that no other convolution needs: the heads before they are decoded."""
    needed: set[str] = set()
    ends = []
    for node in reversed(model.graph.node):
        heavy = node.op_type == QUANTISED
        if heavy and not needed & set(node.output):
            ends.append(node.output[0])
        if heavy or needed & set(node.output):
            needed.update(node.input)
    return ends


def _values(model: onnx.ModelProto, names: Sequence[str], frames: Sequence[Arrays]) -> list[NDArray[np.float64]]:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    told = {output.name for output in opened.graph.output}
    opened.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in told)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [session.run(list(names), frame) for frame in frames]
    return [
        np.concatenate([np.asarray(value, np.float64).ravel() for value in each]) for each in zip(*rows, strict=True)
    ]


def fewest(count: int, passes: Callable[[int], bool]) -> int | None:
    """Return the smallest number from 0 to ``count`` that passes, if passing needs no less once it is reached.

    Doubling finds a number that passes, halving the smallest; none where ``count`` itself does not pass.
    """
    low, high = -1, 0
    while not passes(high):
        if high == count:
            return None
        low, high = high, min(max(1, 2 * high), count)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high
