"""Softmax over any axis: the same numbers over the last one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from edgemtl_export.softmax_axis import softmax_over_last_axis
from edgemtl_export.to_onnx import write_plain_onnx


def model_of(shape: list[int | str], axis: int | None) -> onnx.ModelProto:
    node = helper.make_node("Softmax", ["x"], ["y"], "s", **({} if axis is None else {"axis": axis}))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("shape", "axis", "moved"),
    [
        ([2, 16, 4, 50], 1, True),
        ([2, 16, 4, 50], 2, True),
        ([2, 16, 4, 50], -3, True),
        ([2, 16, 4, 50], 0, True),
        (["batch", 16, 50], 1, True),
        ([2, 16, 4, 50], 3, False),
        ([2, 16, 4, 50], -1, False),
        ([2, 16], None, False),
    ],
)
def test_the_numbers_are_the_same(shape: list[int | str], axis: int | None, moved: bool) -> None:
    model = model_of(shape, axis)
    x = np.random.default_rng(0).normal(size=[3 if isinstance(n, str) else n for n in shape], scale=5)
    x = x.astype(np.float32)
    before = outputs(model, x)
    assert softmax_over_last_axis(model) == int(moved)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(outputs(model, x), before, rtol=1e-6, atol=1e-7)
    assert softmax_over_last_axis(model) == 0


class Distances(nn.Module):
    """The mean of distributions, as YOLOv8 has them."""

    def forward(self, x: Tensor) -> Tensor:
        bins = x.view(1, 4, 16, -1).transpose(1, 2).softmax(1)
        return (bins * torch.arange(16.0).view(1, 16, 1, 1)).sum(1)


def test_what_is_exported_has_no_softmax_over_channels(tmp_path: Path) -> None:
    x = torch.randn(1, 64, 30)
    write_plain_onnx(Distances(), (x,), tmp_path / "m.onnx", ["x"], ["y"])
    model = onnx.load(tmp_path / "m.onnx")
    (softmax,) = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert helper.get_node_attr_value(softmax, "axis") == -1
    np.testing.assert_allclose(outputs(model, x.numpy()), Distances()(x).numpy(), atol=1e-5)
