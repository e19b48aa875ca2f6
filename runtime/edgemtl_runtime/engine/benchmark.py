"""Benchmark of backend configurations: latency percentiles, memory and energy of a run.

All engines run in turns, one run each, so that other load on the machine slows all alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from ..bundle import Bundle, Manifest
from ..decode import decode
from ..errors import BundleError, EngineError
from ..letterbox import Letterbox
from . import Arrays, Engine
from .config import EngineConfig, open_engine
from .energy import power

WARM_UP = 5
MOST_TURNS = 20_000


class Timing(msgspec.Struct, frozen=True):
    """Figures of one configuration: latency percentiles of a run, throughput, memory and energy."""

    config: EngineConfig
    open_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    """Runs a second, one after the other, at the median."""
    memory_mb: float
    """The peak of a separate process with this engine, less its peak without."""
    joules: float | None
    """Energy of a run at the median, of what ``meter`` names; None where the board has no meter."""
    runs: int
    meter: str = ""


def noise(manifest: Manifest) -> Arrays:
    """Return noise as the network's inputs: uint8 (1, height, width, channels) by name."""
    rng = np.random.default_rng(0)
    return {s.name: rng.integers(0, 256, (1, s.height, s.width, s.channels), np.uint8) for s in manifest.inputs}


@dataclass
class OpenEngines:
    """Engines by configuration, the milliseconds that opening each took, and why the others were rejected."""

    engines: dict[EngineConfig, Engine] = field(default_factory=dict)
    open_ms: dict[EngineConfig, float] = field(default_factory=dict)
    rejected: dict[EngineConfig, str] = field(default_factory=dict)

    def __enter__(self) -> OpenEngines:
        """Return the engines."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them all."""
        for engine in self.engines.values():
            engine.close()


def open_engines(
    bundle: Bundle,
    configs: Sequence[EngineConfig],
    on_message: Callable[[str], None],
    check: Callable[[EngineConfig, Engine], object] = lambda *_: None,
) -> OpenEngines:
    """Open and check an engine for every configuration; those that fail are rejected, `EngineError` where all do."""
    opened = OpenEngines()
    for config in configs:
        on_message(f"opening {config}")
        start = time.perf_counter()
        try:
            engine = open_engine(bundle, config)
        except (EngineError, BundleError) as error:  # a provider that does not start calls the network unreadable
            opened.rejected[config] = str(error)
            continue
        try:
            opened.open_ms[config] = 1e3 * (time.perf_counter() - start)
            check(config, engine)
            opened.engines[config] = engine
        except (EngineError, BundleError) as error:
            opened.rejected[config] = str(error)
            engine.close()
    if not opened.engines:
        raise EngineError(f"nothing runs this bundle here: {'; '.join(opened.rejected.values())}")
    return opened


def time_interleaved(
    engines: dict[EngineConfig, Engine], images: Arrays, seconds: float
) -> dict[EngineConfig, list[float]]:
    """Return the milliseconds of every run, each engine once a turn, for ``seconds`` in all."""
    times_ms: dict[EngineConfig, list[float]] = {config: [] for config in engines}
    end = time.monotonic() + seconds
    for turn in range(MOST_TURNS):
        if turn > 2 * WARM_UP and time.monotonic() > end:
            break
        for config, engine in engines.items():
            start = time.perf_counter()
            engine.run(images)
            if turn >= WARM_UP:
                times_ms[config].append(1e3 * (time.perf_counter() - start))
    return times_ms


def benchmark(
    bundle: Bundle,
    configs: Sequence[EngineConfig],
    seconds: float,
    on_message: Callable[[str], None] = lambda _: None,
) -> tuple[list[Timing], dict[EngineConfig, str]]:
    """Time a bundle's configurations for ``seconds`` in all; return the figures, and why some were rejected."""
    images = noise(bundle.manifest)
    timings = []
    with open_engines(bundle, configs, on_message) as opened:
        on_message(f"timing for {seconds:g} s")
        times_ms = time_interleaved(opened.engines, images, seconds)
        for config, engine in opened.engines.items():
            p50, p90, p99 = (float(value) for value in np.percentile(times_ms[config], (50, 90, 99)))
            drawn = power(_run_of(engine, images))
            joules = None if drawn is None else drawn.watts * p50 / 1e3
            memory = memory_mb(bundle.path, config)
            figures = (opened.open_ms[config], p50, p90, p99, 1e3 / p50)
            meter = drawn.meter if drawn else ""
            timings.append(Timing(config, *figures, memory, joules, len(times_ms[config]), meter))
    return timings, opened.rejected


def _run_of(engine: Engine, images: Arrays) -> Callable[[], object]:
    return lambda: engine.run(images)


def benchmark_stages(bundle: Bundle, engine: Engine, size: tuple[int, int] = (480, 640)) -> dict[str, float]:
    """Return the median milliseconds of preprocessing and decoding, for cameras of a (height, width).

    Both are the same with every configuration; what is decoded is the network's output for noise.
    """
    rng = np.random.default_rng(0)
    inputs = bundle.manifest.inputs
    frames = {s.name: rng.integers(0, 256, (*size, 3)[: 2 if s.channels == 1 else 3], np.uint8) for s in inputs}
    letterboxes = {spec.name: Letterbox.plan(size, (spec.height, spec.width)) for spec in inputs}
    times_s: dict[str, list[float]] = {"preprocess": [], "decode": []}
    for _ in range(2 * WARM_UP):
        start = time.perf_counter()
        images = {s.name: letterboxes[s.name].image(frames[s.name], s.channels, s.blank)[None] for s in inputs}
        times_s["preprocess"].append(time.perf_counter() - start)
        outputs = {name: output[0] for name, output in engine.run(images).items()}
        start = time.perf_counter()
        decode(outputs, bundle.manifest.heads, letterboxes[inputs[0].name])
        times_s["decode"].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(times[WARM_UP:])) for name, times in times_s.items()}


def memory_mb(folder: Path, config: EngineConfig) -> float:
    """Return the memory that opening an engine and one run take, MB, measured in a separate process."""
    words = [sys.executable, "-m", __name__, str(folder), msgspec.json.encode(config).decode()]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    return float(done.stdout)


def _memory_growth_mb(folder: str, config: str) -> float:
    """Return the growth of this process's peak memory by opening an engine and running it once, MB."""
    import onnxruntime  # noqa: F401

    before = peak_memory_mb()
    bundle = Bundle.open(folder)
    open_engine(bundle, msgspec.json.decode(config, type=EngineConfig)).run(noise(bundle.manifest))
    return peak_memory_mb() - before


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process, MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # the system's own count of resources also has what the parent held
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def table(timings: list[Timing]) -> str:
    """Return the timings as a table of text."""
    lines = [f"{'':36} {'open':>8} {'p50':>8} {'p90':>8} {'p99':>8}   a second   memory"]
    for timing in timings:
        times = " ".join(f"{value:8.2f}" for value in (timing.open_ms, timing.p50_ms, timing.p90_ms, timing.p99_ms))
        energy = "" if timing.joules is None else f"   {1e3 * timing.joules:.1f} mJ"
        lines.append(f"{timing.config!s:36} {times}   {timing.per_second:8.1f}   {timing.memory_mb:.0f} MB{energy}")
    of = f"; energy of {timings[0].meter}" if timings[0].meter else ""
    return "\n".join([*lines, f"milliseconds, over {timings[0].runs} runs each in turns; x: threads{of}"])


if __name__ == "__main__":
    print(_memory_growth_mb(*sys.argv[1:]))
