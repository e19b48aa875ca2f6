"""Latency of networks, measured in turns so that a noisy machine affects them alike; before and after removal."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgemtl_export
from edgemtl_export.deployed import Deployed
from edgemtl_export.inputs import example_inputs
from edgemtl_export.to_onnx import write_onnx
from edgemtl_models import MultiTask
from edgemtl_runtime.engine.clock import clock_for
from edgemtl_runtime.engine.cpu import cpu_name
from edgemtl_runtime.engine.onnxruntime import OrtEngine

from .run import Interface
from .sizes import CHANNEL_MULTIPLE, RunLatency

WARM_UP = 5
"""Runs before the first that counts."""
REPEATS = 60


@dataclass(frozen=True, eq=False)
class Timed:
    """An ONNX file and the inputs that it is timed on."""

    model: Path
    inputs: dict[str, NDArray[Any]]


def latencies_ms(models: Mapping[str, Path], inputs: dict[str, NDArray[Any]], threads: int = 1) -> dict[str, float]:
    """Return the median latency of each ONNX file on the same inputs, ms, measured in turns."""
    return latencies_of({name: Timed(file, inputs) for name, file in models.items()}, threads)


def latencies_of(timed: Mapping[str, Timed], threads: int = 1) -> dict[str, float]:
    """Return the median latency of each network, ms, measured in turns: A B C A B C …"""
    engines = {name: OrtEngine(one.model, threads) for name, one in timed.items()}
    clock = clock_for("onnxruntime-cpu", threads)
    latencies_s: dict[str, list[float]] = {name: [] for name in engines}
    for repeat in range(REPEATS + WARM_UP):
        for name, engine in engines.items():
            start = clock()
            engine.run(timed[name].inputs)
            if repeat >= WARM_UP:
                latencies_s[name].append(clock() - start)
    return {name: float(np.median(values)) * 1e3 for name, values in latencies_s.items()}


def run_latency(network: MultiTask, interface: Interface, removes: bool) -> RunLatency:
    """Return the latency of a run's network on this machine, with its pre- and post-processing; it takes seconds."""
    with tempfile.TemporaryDirectory(prefix="edgemtl-") as folder:
        files = {"before": Path(folder) / "before.onnx"}
        write_onnx(deployed := Deployed(network, interface.inputs, interface.heads), files["before"])
        if removes:
            images = example_inputs(interface.inputs)
            small = edgemtl_export.shrink(network, (), images, align=CHANNEL_MULTIPLE, verify=False).module()
            files["after"] = Path(folder) / "after.onnx"
            write_onnx(Deployed(small, interface.inputs, interface.heads), files["after"])
        blank = {s.name: i.numpy() for s, i in zip(interface.inputs, deployed.blank_images(), strict=True)}
        times = latencies_ms(files, blank)
    return RunLatency(times["before"], times.get("after", times["before"]), f"ONNX Runtime, one thread, {cpu_name()}")
