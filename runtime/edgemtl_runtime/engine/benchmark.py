"""How fast a bundle runs here: all ways in turns, so that load slows all alike."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle, Manifest
from ..decode import decode
from ..errors import BundleError, EngineError
from ..letterbox import Fit
from . import Engine
from .config import Way, open_way
from .energy import power

WARM = 5
MOST = 20_000
"""Turns at the most."""
Arrays = dict[str, NDArray[Any]]


class Timing(msgspec.Struct, frozen=True):
    """One way: milliseconds to open it, of the median run, of one in ten and of one in a hundred; its memory."""

    way: Way
    open_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    """Runs a second, one after the other, at the median."""
    memory_mb: float
    """The most that a process of its own held with this engine, beside what it holds without."""
    joules: float | None
    """Energy of a run at the median, of what ``meter`` names; None where the board tells nothing."""
    runs: int
    meter: str = ""


def noise(manifest: Manifest) -> Arrays:
    """Return noise as the network takes it."""
    rng = np.random.default_rng(0)
    return {s.name: rng.integers(0, 256, (1, s.height, s.width, s.channels), np.uint8) for s in manifest.inputs}


@dataclass
class Opened:
    """The engines of a bundle's ways, the milliseconds that opening each took, and why the others fell out."""

    engines: dict[Way, Engine] = field(default_factory=dict)
    open_ms: dict[Way, float] = field(default_factory=dict)
    refused: dict[Way, str] = field(default_factory=dict)

    def __enter__(self) -> Opened:
        """Return the engines."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them all."""
        for engine in self.engines.values():
            engine.close()


def opened(
    bundle: Bundle,
    ways: Sequence[Way],
    told: Callable[[str], None],
    check: Callable[[Way, Engine], object] = lambda *_: None,
) -> Opened:
    """Open every way and check it; one that does not start falls out, and `EngineError` is raised where all do."""
    found = Opened()
    for way in ways:
        told(f"opening {way}")
        start = time.perf_counter()
        try:
            engine = open_way(bundle, way)
        except (EngineError, BundleError) as error:  # a provider that does not start calls the network unreadable
            found.refused[way] = str(error)
            continue
        try:
            found.open_ms[way] = 1e3 * (time.perf_counter() - start)
            check(way, engine)
            found.engines[way] = engine
        except (EngineError, BundleError) as error:
            found.refused[way] = str(error)
            engine.close()
    if not found.engines:
        raise EngineError(f"nothing runs this bundle here: {'; '.join(found.refused.values())}")
    return found


def in_turns(engines: dict[Way, Engine], images: Arrays, seconds: float) -> dict[Way, list[float]]:
    """Return the milliseconds of every run, each engine once a turn, for so many seconds in all."""
    taken: dict[Way, list[float]] = {way: [] for way in engines}
    end = time.monotonic() + seconds
    for turn in range(MOST):
        if turn > 2 * WARM and time.monotonic() > end:
            break
        for way, engine in engines.items():
            start = time.perf_counter()
            engine.run(images)
            if turn >= WARM:
                taken[way].append(1e3 * (time.perf_counter() - start))
    return taken


def measure(
    bundle: Bundle, ways: Sequence[Way], seconds: float, told: Callable[[str], None] = lambda _: None
) -> tuple[list[Timing], dict[Way, str]]:
    """Time the ways of a bundle, for so many seconds in all; return also why some could not be."""
    images = noise(bundle.manifest)
    found = []
    with opened(bundle, ways, told) as there:
        told(f"timing for {seconds:g} s")
        taken = in_turns(there.engines, images, seconds)
        for way, engine in there.engines.items():
            p50, p90, p99 = (float(value) for value in np.percentile(taken[way], (50, 90, 99)))
            told_power = power(lambda engine=engine: engine.run(images))  # type: ignore[misc]
            joules = None if told_power is None else told_power.watts * p50 / 1e3
            memory = memory_mb(bundle.path, way)
            times = (there.open_ms[way], p50, p90, p99, 1e3 / p50)
            meter = told_power.meter if told_power else ""
            found.append(Timing(way, *times, memory, joules, len(taken[way]), meter))
    return found, there.refused


def around(bundle: Bundle, engine: Engine, size: tuple[int, int] = (480, 640)) -> dict[str, float]:
    """Return the median milliseconds of what is done around the network, for cameras of a size: fit and decode.

    Both are the same in every way of running; decoding is of what the network makes of noise.
    """
    rng = np.random.default_rng(0)
    inputs, spent = bundle.manifest.inputs, {"fit": [0.0] * 0, "decode": [0.0] * 0}
    frames = {s.name: rng.integers(0, 256, (*size, 3)[: 2 if s.channels == 1 else 3], np.uint8) for s in inputs}
    fits = {spec.name: Fit.plan(size, (spec.height, spec.width)) for spec in inputs}
    for _ in range(2 * WARM):
        start = time.perf_counter()
        images = {s.name: fits[s.name].image(frames[s.name], s.channels, s.blank)[None] for s in inputs}
        spent["fit"].append(time.perf_counter() - start)
        outputs = {name: each[0] for name, each in engine.run(images).items()}
        start = time.perf_counter()
        decode(outputs, bundle.manifest.heads, fits[inputs[0].name])
        spent["decode"].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(each[WARM:])) for name, each in spent.items()}


def memory_mb(folder: Path, way: Way) -> float:
    """Return the memory that an engine takes with one run behind it, of a process of its own, MB."""
    words = [sys.executable, "-m", __name__, str(folder), msgspec.json.encode(way).decode()]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    return float(done.stdout)


def _alone(folder: str, way: str) -> float:
    """Return the growth of this process's largest memory by opening and running an engine once, MB."""
    import onnxruntime  # noqa: F401

    before = most()
    bundle = Bundle.open(folder)
    open_way(bundle, msgspec.json.decode(way, type=Way)).run(noise(bundle.manifest))
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
    lines = [f"{'':36} {'open':>8} {'p50':>8} {'p90':>8} {'p99':>8}   a second   memory"]
    for each in timings:
        times = " ".join(f"{value:8.2f}" for value in (each.open_ms, each.p50_ms, each.p90_ms, each.p99_ms))
        energy = "" if each.joules is None else f"   {1e3 * each.joules:.1f} mJ"
        lines.append(f"{each.way!s:36} {times}   {each.per_second:8.1f}   {each.memory_mb:.0f} MB{energy}")
    of = f"; energy of {timings[0].meter}" if timings[0].meter else ""
    return "\n".join([*lines, f"milliseconds, over {timings[0].runs} runs each in turns; x: threads{of}"])


if __name__ == "__main__":
    print(_alone(*sys.argv[1:]))
