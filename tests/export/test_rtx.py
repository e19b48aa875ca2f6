"""Real engines of NVIDIA's compiler, built ahead of time without a GPU: every network, every precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import edgemtl_models
from edgemtl_export.deployed import Deployed
from edgemtl_export.fp16 import largest_magnitudes, to_fp16
from edgemtl_export.int8 import to_int8
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.bundle import Head, Input
from edgemtl_runtime.engine import trt_build
from edgemtl_runtime.errors import EngineError

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
SIZE = (64, 96)
AHEAD = trt_build.Settings(capability="8.6")
CLASSES = ("a", "b", "c")
HEADS = tuple(
    Head(name, name, decoder, CLASSES)
    for name, decoder in (
        ("boxes", "topk_boxes"),
        ("semantic", "label_map"),
        ("depth", "depth_map"),
        ("normals", "normal_map"),
        ("edges", "edge_map"),
        ("attributes", "attributes"),
    )
)
CHANNELS = {"boxes": 3, "semantic": 3, "depth": 1, "normals": 3, "edges": 1, "attributes": 3}
NETWORKS = [
    ("rgbir-n", {"kind": "aligned", "registration_radius": 2}),  # all that another one has, and registration
    *(pytest.param(name, {}, marks=pytest.mark.long) for name in edgemtl_models.zoo()),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fusion"), NETWORKS, ids=lambda v: v if isinstance(v, str) else v.get("kind", ""))
def test_every_network_builds_in_every_precision(name: str, fusion: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = edgemtl_models.build(name, CHANNELS, SIZE, pretrained=False, fusion=fusion).eval()
    if fusion:
        for path in network.trunk.alignable():
            network.trunk.share(path)
    inputs = tuple(Input(n, *SIZE, s.channels, s.mean, s.std, n) for n, s in network.inputs.items())
    write_onnx(Deployed(network, inputs, HEADS), tmp_path / "fp32.onnx")
    given = onnx.load(str(tmp_path / "fp32.onnx"))
    rng = np.random.default_rng(0)
    frames = [{s.name: rng.integers(0, 256, (1, *SIZE, s.channels), np.uint8) for s in inputs} for _ in range(2)]
    half, _ = to_fp16(given, largest_magnitudes(given, frames))
    small = to_int8(given, frames, outputs=False)
    mixed, _ = to_fp16(small, largest_magnitudes(small, frames))
    for model in (given, half, mixed, to_int8(given, frames)):
        assert len(trt_build.build("tensorrt-rtx", model.SerializeToString(), AHEAD)) > 10_000


def test_nonsense_and_unknown_operators_are_errors(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot read the network"):
        trt_build.build("tensorrt-rtx", b"not a network at all", AHEAD)
    node = onnx.helper.make_node("Det", ["x"], ["y"], "the_node")
    shape = onnx.helper.make_tensor_value_info("x", 1, [2, 2]), onnx.helper.make_tensor_value_info("y", 1, [])
    graph = onnx.helper.make_graph([node], "g", [shape[0]], [shape[1]])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(EngineError, match=r"the_node \(Det\)"):
        trt_build.build("tensorrt-rtx", model.SerializeToString(), AHEAD)
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [shape[0]], [onnx.helper.make_tensor_value_info("y", 1, [2, 2])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(EngineError, match=r"capability 9\.0; it knows 7\.5"):
        trt_build.build("tensorrt-rtx", model.SerializeToString(), trt_build.Settings(capability="9.0"))
