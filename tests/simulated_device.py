"""A device whose times are known: what a model takes follows from its ONNX, so no clock has a part in a test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper, shape_inference

from edgemtl_export.cost_model import deployed_latency, measured
from edgemtl_export.cost_model.probe import Probe
from edgemtl_runtime.engine.config import EngineConfig
from edgemtl_runtime.engine.costs import MODELS, VERSION, Costs, read_probe

AT_A_TIME = 16
"""Channels that it computes at a time."""
CALL_MS, PER_PRODUCT_MS, PER_BYTE_MS = 0.05, 2e-6, 4e-7


def time_ms(model: onnx.ModelProto) -> float:
    """Return the milliseconds of a model: a call, the products of its convolutions, and the bytes that it joins."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    constants = {i.name: i for i in inferred.initializer}
    for node in inferred.node:
        if node.op_type == "ConstantOfShape":
            shapes[node.output[0]] = numpy_helper.to_array(constants[node.input[0]]).tolist()
    time = CALL_MS
    for node in inferred.node:
        if node.op_type == "Conv":
            weight = shapes.get(node.input[1]) or list(constants[node.input[1]].dims)
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            channels = AT_A_TIME * math.ceil(weight[0] / AT_A_TIME) * (rounded(weight[1]) if groups == 1 else weight[1])
            time += PER_PRODUCT_MS * channels * math.prod(weight[2:]) * math.prod(shapes[node.output[0]][2:])
        if node.op_type == "Concat":
            time += PER_BYTE_MS * 8 * math.prod(shapes[node.output[0]])
    return time


def rounded(channels: int) -> int:
    """Return the channels that are computed; less than one block of them is read as it is."""
    return channels if channels < AT_A_TIME else AT_A_TIME * math.ceil(channels / AT_A_TIME)


def profile(folder: Path, config: EngineConfig, progress: Callable[[int, int], None] = lambda *_: None) -> Costs:
    """Measure a probe as `edgemtl_runtime.engine.profile.profile` does."""
    probe = read_probe(folder)
    times = {name: time_ms(onnx.load(folder / MODELS / f"{name}.onnx")) for name in probe.models}
    progress(len(times), len(times))
    return Costs(VERSION, probe.fingerprint, "simulated", config.backend, config.precision, config.threads, times)


def latencies(models: Sequence[onnx.ModelProto], *_: Any, **__: Any) -> list[float]:
    """Measure models as `measured.latencies` does, seconds."""
    return [1e-3 * time_ms(model) for model in models]


@pytest.fixture
def simulated_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measure on this device from now on, few whole networks, and keep nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measured, "profile", profile)
    monkeypatch.setattr(deployed_latency, "latencies", latencies)
    monkeypatch.setattr(Probe, "networks", 3)
