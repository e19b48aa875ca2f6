"""Values of a network's inner tensors on example frames, computed by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgemtl_runtime.engine import Arrays


def activations(
    model: onnx.ModelProto, names: Sequence[str], frames: Iterable[Arrays], optimise: bool = True
) -> Iterator[list[NDArray[Any]]]:
    """Give for each frame the values of the tensors in ``names``, in their order.

    ``optimise`` lets ONNX Runtime fuse nodes: faster, and some inner tensors differ in the last digits.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    outputs = {output.name for output in probed.graph.output}
    probed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for frame in frames:
        yield session.run(list(names), frame)
