"""Where the time of networks goes in ONNX Runtime, operator by operator, and what the exporter's rewriting saves."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import edgemtl_models
from edgemtl_export import shrink
from edgemtl_export.latency import compare, interleaved, random_inputs, session
from edgemtl_export.softmax_axis import softmax_over_last_axis
from edgemtl_export.split_convolutions import split_convolutions

SIZE = (256, 320)
CLASSES = 3
RELU = " relu"
"""Ends the name of one of our networks whose own blocks have ReLU; it is compared with that of SiLU."""
PROFILED = 40
"""Runs that an operator's time is the median of."""


def graph_row(name: str, folder: Path) -> dict[str, Any]:
    """Return what a network's rewriting saves, and the share of each kind of operator in its time."""
    folder.mkdir(parents=True, exist_ok=True)
    network, inputs = _network(name)
    raw = _exported(network, inputs)
    before, after = folder / "graph-before.onnx", folder / "graph-after.onnx"
    if name.endswith(RELU):
        silu = _exported(*_network(name.removesuffix(RELU)))
        _rewrite(silu)
        onnx.save(silu, before)
    else:
        onnx.save(raw, before)
    splits, softmaxes = _rewrite(raw)
    onnx.save(raw, after)
    after_s, before_s = compare([after, before])
    two = interleaved([_run(file, 2) for file in (after, before)], repeats=40, of=median)
    return {
        "latency_ms": 1e3 * after_s,
        "latency_to_reference": after_s / before_s,
        "latency_to_reference_2_threads": two[0] / two[1],
        "params": sum(p.numel() for p in network.parameters()),
        "splits": splits,
        "softmaxes": softmaxes,
        "operators": _shares(after),
    }


def _network(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    if name.startswith("yolo"):
        import ultralytics

        return ultralytics.YOLO(f"{name}.yaml").model.eval(), {"x": torch.rand(1, 3, 320, 320)}
    activation = "relu" if name.endswith(RELU) else ""
    options: dict[str, Any] = {"activation": activation, "pretrained": False}
    network = edgemtl_models.build(name.removesuffix(RELU), {"boxes": CLASSES}, SIZE, **options).eval()
    return network, {key: torch.rand(1, spec.channels, *SIZE) for key, spec in network.inputs.items()}


def _exported(network: nn.Module, inputs: dict[str, Tensor]) -> onnx.ModelProto:
    """Return the graph as torch writes it, without what the network does not need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(shrink(network, (), inputs, verify=False).program, dynamo=True, verbose=False)
    assert program is not None
    return program.model_proto


def _rewrite(model: onnx.ModelProto) -> tuple[int, int]:
    return split_convolutions(model), softmax_over_last_axis(model)


def _run(file: Path, threads: int) -> Any:
    opened = session(str(file), threads)
    feed = random_inputs(opened)
    return lambda: opened.run(None, feed)


def _shares(file: Path) -> dict[str, float]:
    """Return the share of each kind of operator in the time of a run, above a hundredth."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(file.with_suffix(""))
    opened = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = random_inputs(opened)
    for _ in range(PROFILED):
        opened.run(None, feed)
    trace = Path(opened.end_profiling())
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(trace.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["args"]["op_name"], event["name"]].append(event["dur"])
    trace.unlink()
    by_kind: dict[str, float] = defaultdict(float)
    for (kind, _), values in durations.items():
        by_kind[kind] += median(values)
    whole = sum(by_kind.values())
    shares = {kind: round(value / whole, 4) for kind, value in by_kind.items() if value / whole >= 0.01}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
