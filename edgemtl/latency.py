"""Latency of several networks, measured in turns so that a noisy machine affects them alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.engine.clock import clock_for
from edgemtl_runtime.engine.onnxruntime import OrtEngine

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
