"""Latencies are those of an idle machine while it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgemtl_export.latency import convolution
from edgemtl_runtime.engine.clock import clock_for
from edgemtl_runtime.engine.onnxruntime import OrtEngine

pytestmark = pytest.mark.realtime
TURNS = 40


def median_ms(engine: OrtEngine, image: np.ndarray, clock_threads: int) -> float:
    clock, times = clock_for("onnxruntime-cpu", clock_threads), []
    for _ in range(TURNS):
        start = clock()
        engine.run({"x": image})
        times.append(clock() - start)
    return 1e3 * float(np.median(times))


def test_what_else_the_machine_does_is_not_in_the_latency_of_one_thread(tmp_path: Path) -> None:
    """Three busy processes for each core: by the time that passes the network takes several times as long."""
    onnx.save(convolution(64, 64, (3, 3), (1, 1), (1, 1), (96, 96), 1), str(tmp_path / "net.onnx"))
    engine = OrtEngine(tmp_path / "net.onnx", 1)
    image = np.random.default_rng(0).random((1, 64, 96, 96), np.float32)
    median_ms(engine, image, 1)
    idle = median_ms(engine, image, 1)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))]
    try:
        computed, passed = median_ms(engine, image, 1), median_ms(engine, image, 2)
    finally:
        for process in busy:
            process.kill()
            process.wait()
        engine.close()
    assert passed > 1.8 * computed
    assert computed < 1.8 * idle
