"""int8: static post-training quantisation of convolutions, the most sensitive ones kept in floating point.

By ONNX Runtime, in the form that TensorRT reads: symmetric int8, weights by channel and activations by tensor, a pair
of QuantizeLinear and DequantizeLinear at each input of a convolution, biases in floating point. Scales come from the
extremes on calibration frames. Which convolutions keep floating point is decided by a sensitivity analysis: each is
quantised by itself, they are ranked by the error this makes at the heads, and as few of the first as the accuracy gate
needs are kept.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgemtl_runtime.engine import Arrays

from .activations import activations
from .fp16 import MIN_NORMAL

QUANTISED = "Conv"
OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
}


def convolutions(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that can be quantised."""
    return [node.name for node in model.graph.node if node.op_type == QUANTISED]


def to_int8(
    model: onnx.ModelProto, frames: Sequence[Arrays], keep: Sequence[str] = (), outputs: bool = True
) -> onnx.ModelProto:
    """Return a copy whose convolutions, but for those named in ``keep``, compute in int8.

    ``frames`` are training frames by input name, for calibration. ``outputs`` is `Quantiser`'s.
    """
    return Quantiser(model, frames, outputs).quantise([name for name in convolutions(model) if name not in set(keep)])


class Quantiser:
    """Quantisation of any subset of a model's convolutions, from one calibration."""

    def __init__(self, model: onnx.ModelProto, frames: Sequence[Arrays], outputs: bool = True) -> None:
        """Calibrate on ``frames``.

        With ``outputs`` a convolution's output is quantised too: ONNX Runtime computes in int8 only then. Without, the
        rest is to compute in fp16, and scales of weights are such that fp16 holds them.
        """
        from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

        self.model = model
        self.min_scale = 0.0 if outputs else MIN_NORMAL
        self.options = OPTIONS | ({} if outputs else {"OpTypesToExcludeOutputQuantization": [QUANTISED]})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            onnx.save(model, str(file))
            calibrator = create_calibrator(file, [QUANTISED], str(Path(folder) / "augmented.onnx"))
            calibrator.collect_data(_FrameReader(frames))
            self.ranges: TensorsData = calibrator.compute_data()

    def quantise(self, names: Sequence[str]) -> onnx.ModelProto:
        """Return a copy with these convolutions in int8."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        if not names:
            return copy
        with _errors_only():
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
        return fold_weights(quantiser.model.model, self.min_scale)


@contextmanager
def _errors_only() -> Iterator[None]:
    """Keep ONNX Runtime's advice on how to quantise out of the log."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)


def fold_weights(model: onnx.ModelProto, min_scale: float = 0.0) -> onnx.ModelProto:
    """Replace weights and their QuantizeLinear by int8 weights, one byte each in the file, in place.

    Scales of weights are at least ``min_scale``.
    """
    stored = {i.name: i for i in model.graph.initializer}
    nodes, folded = [], []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in stored:
            weights, scale, zero = (numpy_helper.to_array(stored[name]) for name in node.input)
            scale = np.maximum(scale, np.float32(min_scale))
            stored[node.input[1]].CopyFrom(numpy_helper.from_array(scale, node.input[1]))
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if scale.ndim and dim == axis else 1 for dim in range(weights.ndim)]
            levels = np.rint(weights / scale.reshape(shape)) + zero.reshape(shape)
            folded.append(numpy_helper.from_array(np.clip(levels, -128, 127).astype(np.int8), node.output[0]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [i for i in (*model.graph.initializer, *folded) if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


class _FrameReader:
    """Calibration frames through ONNX Runtime's reader interface."""

    def __init__(self, frames: Sequence[Arrays]) -> None:
        self.remaining: Iterator[Arrays] = iter(frames)

    def get_next(self) -> Arrays | None:
        """Return the next frame, None at the end."""
        return next(self.remaining, None)


def by_sensitivity(
    quantiser: Quantiser, frames: Sequence[Arrays], progress: Callable[[int, int], None] = lambda *_: None
) -> list[str]:
    """Return the convolutions by quantisation sensitivity, the most sensitive first.

    Sensitivity is the mean squared error at `last_convolutions` over ``frames`` when that convolution alone is
    quantised, in units of the outputs' variance. ``progress`` gets how many are done, and their total.
    """
    ends = last_convolutions(quantiser.model)
    exact = _concatenated(quantiser.model, ends, frames)
    deviations = [max(float(np.std(values)), 1e-12) for values in exact]
    sensitivity = {}
    names = convolutions(quantiser.model)
    for done, name in enumerate(names, 1):
        outputs = _concatenated(quantiser.quantise([name]), ends, frames)
        errors = [float(np.mean((a - b) ** 2)) / d**2 for a, b, d in zip(exact, outputs, deviations, strict=True)]
        sensitivity[name] = float(np.mean(errors))
        progress(done, len(names))
    return sorted(sensitivity, key=lambda name: -sensitivity[name])


def last_convolutions(model: onnx.ModelProto) -> list[str]:
    """Return the outputs of convolutions that no other convolution depends on: the heads before they are decoded."""
    needed: set[str] = set()
    ends = []
    for node in reversed(model.graph.node):
        is_convolution = node.op_type == QUANTISED
        if is_convolution and not needed & set(node.output):
            ends.append(node.output[0])
        if is_convolution or needed & set(node.output):
            needed.update(node.input)
    return ends


def _concatenated(model: onnx.ModelProto, names: Sequence[str], frames: Sequence[Arrays]) -> list[NDArray[np.float64]]:
    """Return the values of each tensor over all frames, as one row."""
    by_frame = activations(model, names, frames)
    return [
        np.concatenate([np.asarray(value, np.float64).ravel() for value in values])
        for values in zip(*by_frame, strict=True)
    ]


def fewest(count: int, passes: Callable[[int], bool]) -> int | None:
    """Return the smallest number from 0 to ``count`` that passes, for a test that a larger number passes too.

    By doubling, then bisection; None where ``count`` itself does not pass.
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
