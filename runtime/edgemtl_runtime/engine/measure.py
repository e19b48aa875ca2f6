"""How fast a bundle runs here: all precisions and numbers of threads in turns, so that load slows all alike."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle, Manifest
from .ort import OrtEngine, default_threads, open_engine

WARM = 5
MOST = 20_000
"""Turns at the most."""


class Timing(msgspec.Struct, frozen=True):
    """One engine: milliseconds to open it, of the median run, of one in ten and of one in a hundred; its memory."""

    backend: str
    precision: str
    threads: int
    open_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    """Runs a second, one after the other, at the median."""
    memory_mb: float
    """The most that a process of its own held with this engine, beside what it holds without."""
    runs: int


def pictures(manifest: Manifest) -> dict[str, NDArray[np.uint8]]:
    """Return noise as the network takes it."""
    rng = np.random.default_rng(0)
    return {s.name: rng.integers(0, 256, (1, s.height, s.width, s.channels), np.uint8) for s in manifest.inputs}


def measure(bundle: Bundle, seconds: float, told: Callable[[str], None] = lambda _: None) -> list[Timing]:
    """Time every precision of a bundle with one thread and with the usual number, for so many seconds in all."""
    images = pictures(bundle.manifest)
    engines: dict[tuple[str, int], tuple[OrtEngine, float]] = {}
    for precision in bundle.precisions:
        for threads in sorted({1, default_threads()}):
            told(f"opening {precision}, {threads} threads")
            start = time.perf_counter()
            engines[precision, threads] = open_engine(bundle, threads, precision), 1e3 * (time.perf_counter() - start)
    told(f"timing for {seconds:g} s")
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in engines}
    end = time.monotonic() + seconds
    for turn in range(MOST):
        if turn > 2 * WARM and time.monotonic() > end:
            break
        for key, (engine, _) in engines.items():
            start = time.perf_counter()
            engine.run(images)
            if turn >= WARM:
                taken[key].append(1e3 * (time.perf_counter() - start))
    found = []
    for (precision, threads), (engine, open_ms) in engines.items():
        p50, p90, p99 = (float(value) for value in np.percentile(taken[precision, threads], (50, 90, 99)))
        memory = memory_mb(bundle.path, precision, threads)
        counted = len(taken[precision, threads])
        found.append(Timing(engine.name, precision, threads, open_ms, p50, p90, p99, 1e3 / p50, memory, counted))
    return found


def memory_mb(folder: Path, precision: str, threads: int) -> float:
    """Return the memory that an engine takes with one run behind it, of a process of its own, MB."""
    words = [sys.executable, "-m", __name__, str(folder), precision, str(threads)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    return float(done.stdout)


def _alone(folder: str, precision: str, threads: str) -> float:
    """Return the growth of this process's largest memory by opening and running an engine once, MB."""
    import onnxruntime  # noqa: F401

    before = most()
    bundle = Bundle.open(folder)
    open_engine(bundle, int(threads), precision).run(pictures(bundle.manifest))
    return most() - before


def most() -> float:
    """Return the most memory that this process has held, MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # the system's own count of resources also has what the parent held
        held = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(held.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def table(timings: list[Timing]) -> str:
    """Return the timings as lines for people."""
    head = f"{'':28} {'open':>8} {'p50':>8} {'p90':>8} {'p99':>8}   a second   memory"
    lines = [head]
    for each in timings:
        name = f"{each.backend} {each.precision} x{each.threads}"
        times = " ".join(f"{value:8.2f}" for value in (each.open_ms, each.p50_ms, each.p90_ms, each.p99_ms))
        lines.append(f"{name:28} {times}   {each.per_second:8.1f}   {each.memory_mb:.0f} MB")
    return "\n".join([*lines, f"milliseconds, over {timings[0].runs} runs each in turns; x: threads"])


def main(words: list[str]) -> Any:
    """Print the memory of one engine."""
    print(_alone(*words))


if __name__ == "__main__":
    main(sys.argv[1:])
