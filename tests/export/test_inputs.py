"""Normalisation of camera values: the textbook's formula, in as few operations as it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgemtl_export.inputs import normalise
from edgemtl_export.to_onnx import write_plain_onnx
from edgemtl_runtime.bundle import Input

MEANS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "EfficientNet-Lite": ((0.49804, 0.49804, 0.49804), (0.50196, 0.50196, 0.50196)),
}


@pytest.mark.parametrize("name", MEANS)
def test_the_formula(name: str) -> None:
    mean, std = MEANS[name]
    spec = Input("rgb", 32, 32, 3, mean, std)
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    exact = (image.double().numpy() / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    np.testing.assert_allclose(normalise(image, spec).numpy(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "kinds"), [("none", ["Mul"]), ("ImageNet", ["Mul", "Sub"])])
def test_a_graph_has_as_few_operations_as_it_takes(name: str, kinds: list[str], tmp_path: Path) -> None:
    class Network(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return normalise(image, Input("rgb", 32, 32, 3, *MEANS[name]))

    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    write_plain_onnx(Network().eval(), (image,), tmp_path / "m.onnx", ["image"], ["out"])
    nodes = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert [kind for kind in nodes if kind != "Cast"] == kinds
