"""How long networks take, measured side by side so that a noisy machine treats them alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.engine.onnxruntime import OrtEngine


def latencies_ms(
    models: dict[str, Path], inputs: dict[str, NDArray[Any]], rounds: int = 60, threads: int = 1
) -> dict[str, float]:
    """Return the median milliseconds of one run of each ONNX file, taken in turns: A B C A B C …"""
    engines = {name: OrtEngine(file, threads) for name, file in models.items()}
    taken: dict[str, list[int]] = {name: [] for name in engines}
    for turn in range(rounds + 5):
        for name, engine in engines.items():
            start = time.perf_counter_ns()
            engine.run(inputs)
            if turn >= 5:  # warm by then
                taken[name].append(time.perf_counter_ns() - start)
    return {name: float(np.median(values)) / 1e6 for name, values in taken.items()}
