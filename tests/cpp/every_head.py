"""Bundles whose network answers with every kind of head from its images, without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, MODEL, Head, Input, Manifest, ThermalRange, write_bundle

HEIGHT, WIDTH = 48, 64
NAN = np.nan
ROWS = np.float32(
    [
        [4.3, 5.1, 30.7, 40.2, 0.91, 0],
        [4.9, 5.0, 31.1, 39.9, 0.87, 0],
        [4.9, 5.0, 31.1, 39.9, 0.86, 1],
        [-3, 40, 20, 60.5, 0.5, 2],
        [10, 10, 12, 12, 0.2, 1],
        [NAN, NAN, NAN, NAN, NAN, NAN],
    ]
)
POINTS = np.float32([[10, 20.5, 0.9, 1], [4, 2, 0.8, 0], [5, 47, 0.7, 0], [1, 1, 0.4, 0], [NAN] * 4])
HEADS = (
    Head("boxes", "boxes", "topk_boxes", ("person", "bicycle", "car")),
    Head("several", "boxes", "nms_boxes", ("person", "bicycle", "car"), nms_iou=0.6),
    Head("semantic", "semantic", "label_map", ("dark", "bright")),
    Head("depth", "depth", "depth_map", ("metric",), "m"),
    Head("normals", "normals", "normal_map", ()),
    Head("edges", "edges", "edge_map", (), threshold=0.4),
    Head("attributes", "attributes", "attributes", ("day", "wet")),
    Head("temperature", "temperature", "scalar_map", (), "°C"),
    Head("flow", "flow", "vector_map", ("right", "down"), "px"),
    Head("feet", "feet", "points", ("left", "right"), threshold=0.5),
    Head("speed", "speed", "scalars", ("forward", "sideways"), "m/s"),
    Head("embedding", "embedding", "tensor", ()),
)


def write_every_head(folder: Path, thermal_range: ThermalRange | None = None, missing: bool = True) -> Path:
    """Write a bundle of a colour and a thermal camera, (48, 64), with a head of every decoder.

    Maps show the images' own values, so a wrong pixel anywhere is a wrong result.
    """
    cast = [helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT) for name in ("rgb", "ir")]
    nodes = [
        *cast,
        helper.make_node("Squeeze", ["ir_float", "last"], ["warm"]),
        helper.make_node("Gather", ["rgb_float", "first"], ["red"], axis=3),
        helper.make_node("ReduceMax", ["ir_float"], ["warmest"], keepdims=0),
        helper.make_node("Div", ["warmest", "thousand"], ["tilt"]),
        helper.make_node("Add", ["rows", "tilt"], ["shifted"]),
        helper.make_node("Where", ["is_edge", "shifted", "rows"], ["boxes"]),
        helper.make_node("Identity", ["boxes"], ["several"]),
        helper.make_node("Greater", ["red", "half"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["semantic"], to=TensorProto.UINT8),
        helper.make_node("Sqrt", ["warm"], ["depth"]),
        helper.make_node("Div", ["rgb_float", "most"], ["normals"]),
        helper.make_node("Div", ["red", "most"], ["edges"]),
        helper.make_node("Div", ["warmest", "most"], ["share"]),
        helper.make_node("Mul", ["two", "share"], ["attributes"]),
        helper.make_node("Sub", ["warm", "red"], ["temperature"]),
        helper.make_node("Concat", ["ir_float", "ir_float"], ["flow"], axis=3),
        helper.make_node("Identity", ["feet_rows"], ["feet"]),
        helper.make_node("Add", ["two", "tilt"], ["speed"]),
        helper.make_node("Cast", ["feet_rows"], ["embedding"], to=TensorProto.FLOAT16),
    ]
    constants = {
        "rows": ROWS[None],
        "is_edge": np.array([[[True] * 4 + [False] * 2]]),
        "feet_rows": POINTS[None],
        "last": np.int64([3]),
        "first": np.int64(0),
        "half": np.float32(127),
        "most": np.float32(255),
        "thousand": np.float32(1000),
        "two": np.float32([[0.9, 0.3]]),
    }
    shapes = {
        "boxes": [1, 6, 6], "several": [1, 6, 6], "semantic": [1, HEIGHT, WIDTH], "depth": [1, HEIGHT, WIDTH],
        "normals": [1, HEIGHT, WIDTH, 3], "edges": [1, HEIGHT, WIDTH], "attributes": [1, 2],
        "temperature": [1, HEIGHT, WIDTH], "flow": [1, HEIGHT, WIDTH, 2], "feet": [1, 5, 4], "speed": [1, 2],
        "embedding": [1, 5, 4],
    }  # fmt: skip
    types = {"semantic": TensorProto.UINT8, "embedding": TensorProto.FLOAT16}
    channels = {"rgb": 3, "ir": 1}
    graph = helper.make_graph(
        nodes,
        "every",
        [helper.make_tensor_value_info(n, TensorProto.UINT8, [1, HEIGHT, WIDTH, c]) for n, c in channels.items()],
        [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), shape) for n, shape in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    thermal = thermal_range or ThermalRange()
    manifest = Manifest(
        name="every",
        inputs=(
            Input("rgb", HEIGHT, WIDTH, 3, (0.0,) * 3, (1.0,) * 3, "rgb", may_be_missing=missing),
            Input("ir", HEIGHT, WIDTH, 1, (0.0,), (1.0,), "ir", thermal_range=thermal, may_be_missing=missing),
        ),
        heads=HEADS,
        files={},
        licence="CC0-1.0",
    )
    with AtomicFolder(folder, BUNDLE) as output:
        onnx.save(model, str(output.folder / MODEL))
        write_bundle(output, manifest)
    return folder
