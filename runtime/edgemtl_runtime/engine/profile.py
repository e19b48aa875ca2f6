"""Measurement of a probe on this machine's back ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..onnx_constants import with_constants
from ..onnx_file import check_foreign_onnx
from . import Arrays, ThreadSafeEngine, trt_build
from .clock import clock_for
from .config import EngineConfig, unavailable_reason
from .costs import MODELS, VERSION, Costs, ProbeDescription, read_probe
from .cpu import cpu_name
from .gpu import Gpu, find_gpu
from .onnxruntime import PROVIDERS, OrtEngine, default_threads

BATCH = 32
"""Blocks that are timed in turns."""
WARM_UP, TURNS = 2, 10
NETWORK_ROUNDS, NETWORK_TURNS, NETWORK_BATCH = 8, 10, 7
"""Whole networks are opened several times, each time in another order: where their memory lies decides a percent. A
batch is in memory at once."""
LEAST_TURNS, MOST_SECONDS = 3, 20.0
"""Of large models fewer turns are timed: no batch of them takes much longer."""
QUANTILE = 0.25
"""Of the times of whole networks: steadier than the best."""
Progress = Callable[[int, int], None]
"""Called with how many models were measured, and how many there are."""
DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


def profile(folder: Path, config: EngineConfig, progress: Progress = lambda *_: None) -> Costs:
    """Measure every model of a probe; a block's time is the best of several turns, milliseconds.

    Raises `EdgemtlError` where there is no probe, `EngineError` where the back end does not work here or the probe is
    of another precision.
    """
    probe = read_probe(folder)
    if reason := unavailable_reason(config.backend):
        raise EngineError(f"{config.backend} does not work here: {reason}")
    if config.precision != probe.precision:
        raise EngineError(f"{folder}: is a probe in {probe.precision}, not in {config.precision}; write it in that")
    files = [folder / MODELS / f"{name}.onnx" for name in probe.models]
    for file in files:
        if not file.is_file():
            raise EngineError(f"{file} is missing; copy the whole probe, or write it again")
        check_foreign_onnx(file)
    times_ms = dict(_times_ms(probe, files, config, progress))
    on_cpu = config.backend == "onnxruntime-cpu"
    threads = (config.threads or default_threads()) if on_cpu else 0
    return Costs(
        VERSION, probe.fingerprint, device_of(config.backend), config.backend, config.precision, threads, times_ms
    )


def device_of(backend: str) -> str:
    """Return the name of what a back end computes on."""
    gpu = find_gpu()
    return gpu.name if isinstance(gpu, Gpu) and backend != "onnxruntime-cpu" else cpu_name()


def _times_ms(
    probe: ProbeDescription, files: Sequence[Path], config: EngineConfig, progress: Progress
) -> Iterator[tuple[str, float]]:
    """Yield the name and the time of every model."""
    blocks = [file for file in files if not file.name.startswith("network")]
    networks = [file for file in files if file.name.startswith("network")]
    for start in range(0, len(blocks), BATCH):
        batch = blocks[start : start + BATCH]
        times = _turns_ms(batch, config, TURNS)
        yield from ((file.stem, float(best)) for file, best in zip(batch, times.min(0), strict=True))
        progress(min(start + BATCH, len(blocks)), len(files))
    rounds = NETWORK_ROUNDS if config.backend in PROVIDERS else 1  # TensorRT builds what it opens, for minutes
    times_ms = np.zeros((rounds, len(networks)))
    for number in range(rounds):
        order = np.random.default_rng(number).permutation(len(networks))
        for start in range(0, len(networks), NETWORK_BATCH):
            chosen = order[start : start + NETWORK_BATCH]
            turns = _turns_ms([networks[index] for index in chosen], config, NETWORK_TURNS)
            times_ms[number, chosen] = np.quantile(turns, QUANTILE, 0)
        progress(len(files) - len(networks) + len(networks) * (number + 1) // rounds, len(files))
    yield from ((file.stem, float(mean)) for file, mean in zip(networks, times_ms.mean(0), strict=True))


def _turns_ms(files: Sequence[Path], config: EngineConfig, turns: int) -> NDArray[np.float64]:
    """Return the milliseconds of every model in turns in which each runs once, (turns, models)."""
    with ExitStack() as stack:
        engines = [stack.enter_context(open_model(file, config)) for file in files]
        inputs = [noise_for(engine) for engine in engines]
        times_ms: list[list[float]] = []
        begun, clock = time.perf_counter(), clock_for(config.backend, config.threads)
        while len(times_ms) < WARM_UP + turns:
            times_ms.append([])
            for engine, arrays in zip(engines, inputs, strict=True):
                start = clock()
                engine.run(arrays)
                times_ms[-1].append(1e3 * (clock() - start))
            if time.perf_counter() - begun > MOST_SECONDS and len(times_ms) >= WARM_UP + LEAST_TURNS:
                break
    return np.array(times_ms[WARM_UP:])


def open_model(file: Path, config: EngineConfig) -> ThreadSafeEngine:
    """Open an ONNX model that is no bundle's, with any back end."""
    if config.backend in PROVIDERS:
        return OrtEngine(file, config.threads, config.backend, config.arena)
    from .trt_run import TrtEngine

    plan = trt_build.build(config.backend, with_constants(file.read_bytes()), precision=config.precision)
    return TrtEngine(config.backend, plan, None)


def noise_for(engine: ThreadSafeEngine) -> Arrays:
    """Return noise for the inputs of an engine; a size that is not fixed becomes 1."""
    rng = np.random.default_rng(0)
    specs: dict[str, tuple[list[int], type | np.dtype[Any]]]
    if isinstance(engine, OrtEngine):
        inputs = engine.session.get_inputs()
        specs = {i.name: ([s if isinstance(s, int) else 1 for s in i.shape], DTYPES[i.type]) for i in inputs}
    else:  # of TensorRT, which is not imported where there is none
        buffers: dict[str, Any] = vars(engine)["inputs"]
        specs = {name: (list(b.host.shape), b.host.dtype) for name, b in buffers.items()}
    return {name: (2 * rng.random(shape)).astype(dtype) for name, (shape, dtype) in specs.items()}
