"""Latency of several networks, measured in turns so that a noisy machine affects them alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.engine.onnxruntime import OrtEngine

WARM_UP = 5
"""Runs before the first that counts."""


def latencies_ms(
    models: dict[str, Path], inputs: dict[str, NDArray[Any]], repeats: int = 60, threads: int = 1
) -> dict[str, float]:
    """Return the median latency of each ONNX file, ms, measured in turns: A B C A B C …"""
    engines = {name: OrtEngine(file, threads) for name, file in models.items()}
    latencies_ns: dict[str, list[int]] = {name: [] for name in engines}
    for repeat in range(repeats + WARM_UP):
        for name, engine in engines.items():
            start = time.perf_counter_ns()
            engine.run(inputs)
            if repeat >= WARM_UP:
                latencies_ns[name].append(time.perf_counter_ns() - start)
    return {name: float(np.median(values)) / 1e6 for name, values in latencies_ns.items()}
