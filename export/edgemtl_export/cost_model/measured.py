"""The costs of a network: measured on this machine and kept, or read from a file that a robot has written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import onnx

from edgemtl_runtime.atomic import AtomicFile
from edgemtl_runtime.engine.clock import clock_for
from edgemtl_runtime.engine.config import EngineConfig
from edgemtl_runtime.engine.costs import MODELS, PROBE, VERSION, Costs, ProbeDescription, read_costs
from edgemtl_runtime.engine.onnxruntime import load
from edgemtl_runtime.engine.profile import device_of, noise_for, open_model, profile
from edgemtl_runtime.errors import EdgemtlError

from ..latency import interleaved
from .deployment import Progress
from .probe import Probe, in_precision

HERE = EngineConfig("onnxruntime-cpu", "fp32", 1)
"""What is measured where nothing else is asked for: ONNX Runtime on this machine, one thread."""


def write_probe(
    probe: Probe, folder: Path, precision: str = "fp32", progress: Progress = lambda *_: None
) -> ProbeDescription:
    """Write a probe's models and their description into a folder, and return the description."""
    (folder / MODELS).mkdir(parents=True)
    names = probe.names
    for number, (name, model) in enumerate(probe.models(precision)):
        (folder / MODELS / f"{name}.onnx").write_bytes(model)
        progress("writing the probe", number + 1, len(names))
    network = type(probe.network).__name__
    description = ProbeDescription(VERSION, probe.fingerprint, network, precision, names)
    (folder / PROBE).write_bytes(msgspec.json.encode(description))
    return description


def measured_costs(probe: Probe, config: EngineConfig = HERE, progress: Progress = lambda *_: None) -> Costs:
    """Return the costs of a network on this machine: those kept of an earlier measurement, or measured now."""
    file = _kept(probe, config)
    if file.is_file():
        costs = read_costs(file)
        if costs.fingerprint == probe.fingerprint:
            return costs
    with tempfile.TemporaryDirectory() as folder:
        write_probe(probe, Path(folder), config.precision, progress)
        costs = profile(Path(folder), config, lambda done, total: progress("measuring the costs", done, total))
    file.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(file, overwrite=True) as output:
        output.write(msgspec.json.encode(costs))
    return costs


def latencies(
    models: Sequence[onnx.ModelProto],
    config: EngineConfig = HERE,
    seconds: float = 2.0,
    of: Callable[[Sequence[float]], float] = min,
) -> list[float]:
    """Return the best time of each model, or the median ``of`` all, seconds; in turns, for some ``seconds`` each."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runs: list[Callable[[], object]] = []
        for number, model in enumerate(models):
            file = Path(folder) / f"{number}.onnx"
            file.write_bytes(in_precision(model, config.precision))
            engine = stack.enter_context(open_model(file, config))
            runs.append(partial(engine.run, noise_for(engine)))
        clock = clock_for(config.backend, config.threads)
        once = sum(interleaved(runs, repeats=3, clock=clock)) / len(runs)
        return interleaved(runs, repeats=int(min(max(seconds / once, 15), 500)), of=of, clock=clock)


def costs_from(file: Path, probe: Probe, asked: EngineConfig | None = None) -> Costs:
    """Read costs that were measured of a network's probe; raises `EdgemtlError` where they are of another network.

    Or where they are of another engine than the one that is ``asked`` for.
    """
    costs = read_costs(file)
    missing = [name for name in probe.names if name not in costs.times_ms]
    if costs.fingerprint != probe.fingerprint or missing:
        raise EdgemtlError(
            f"{file}: these costs are of another network or another size of its images; write the probe of this one "
            "with edgemtl export RUN --probe DIR, and measure that"
        )
    given = EngineConfig(costs.backend, costs.precision, costs.threads)
    if asked and given != asked:
        raise EdgemtlError(f"{file}: these costs are of {costs}; asked for are those of {asked}")
    return costs


def _kept(probe: Probe, config: EngineConfig) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    device = "".join(c if c.isalnum() else "-" for c in device_of(config.backend))
    version = load().__version__  # another release has other kernels
    clock = clock_for(config.backend, config.threads).__name__
    name = f"{probe.fingerprint}-{config.backend}-{version}-{config.precision}-{config.threads}-{clock}-{device}.json"
    return Path(base) / "edgemtl" / "costs" / name
