"""Backend configurations: a backend, a precision and its threads, with which a bundle can run on this machine."""

from __future__ import annotations

import importlib.util

import msgspec
import numpy as np

from ..bundle import MODELS, Bundle
from ..errors import EdgemtlError, EngineError
from . import Engine, ThreadSafeEngine, trt_build
from .build import build_engine
from .cache import Cache
from .gpu import Gpu, find_gpu
from .onnxruntime import MOST_THREADS, PROVIDERS, OrtEngine, cores, default_threads, load

BACKENDS = (*trt_build.BACKENDS, *reversed(PROVIDERS))
"""All backends; the fastest first, where they work."""


class EngineConfig(msgspec.Struct, frozen=True):
    """One backend configuration; ``threads`` and ``arena`` are of ONNX Runtime on the CPU."""

    backend: str = "onnxruntime-cpu"
    precision: str = "fp32"
    threads: int = 0
    arena: bool = True

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS or self.precision not in MODELS or not 0 <= self.threads <= MOST_THREADS:
            given = ascii(f"{self.backend} {self.precision}")[1:-1][:80]
            raise ValueError(f"{given} with {self.threads} threads is no backend configuration")

    def __str__(self) -> str:
        """Return a label of a few words."""
        threads = f" x{self.threads}" if self.threads else ""
        return f"{self.backend} {self.precision}{threads}{'' if self.arena else ' no arena'}"


def unavailable_reason(backend: str) -> str:
    """Return why a backend is not available on this machine; empty where it is."""
    if backend not in BACKENDS:
        return f"there is no back end '{backend}'; there are {', '.join(BACKENDS)}"
    module = trt_build.BACKENDS.get(backend, "onnxruntime")
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    if backend == "onnxruntime-cpu":
        return ""
    if backend in PROVIDERS:
        try:
            providers = load().get_available_providers()
        except EdgemtlError as error:
            return str(error)
        if PROVIDERS[backend] not in providers:
            return f"this onnxruntime has no {PROVIDERS[backend]}; pip install onnxruntime-gpu in its place"
    elif importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        return "cuda-bindings is not installed; pip install 'edgemtl-runtime[cuda]'"
    gpu = find_gpu()
    return "" if isinstance(gpu, Gpu) else gpu


def engine_configs(bundle: Bundle, backend: str = "", precision: str = "") -> list[EngineConfig]:
    """Return all configurations with which a bundle can run on this machine, or those of one backend or precision."""
    if precision:
        bundle.model_in(precision)  # raises, with those that the bundle has
    precisions = [precision] if precision else list(bundle.precisions)
    configs = []
    for name in [backend] if backend else [name for name in BACKENDS if not unavailable_reason(name)]:
        if reason := unavailable_reason(name):
            raise EngineError(f"{name} does not work here: {reason}")
        for digits in precisions:
            if name == "onnxruntime-cpu":
                counts = sorted({1, default_threads(), cores()})
                configs += [EngineConfig(name, digits, count) for count in counts]
                configs.append(EngineConfig(name, digits, default_threads(), arena=False))
            else:
                configs.append(EngineConfig(name, digits))
    return configs


def open_engine(
    bundle: Bundle, config: EngineConfig, cache: Cache | None = None, progress: trt_build.Progress | None = None
) -> Engine:
    """Open a bundle's network with a backend configuration; an engine that the cache lacks is built.

    It is warmed up by two runs on blank frames: the first runs set things up, for which the cameras' first frames
    would have to wait. Raises `EdgemtlError`.
    """
    engine: ThreadSafeEngine
    if config.backend in PROVIDERS:
        engine = ort = OrtEngine(bundle.model_in(config.precision), config.threads, config.backend, config.arena)
        ort.check(bundle.manifest)
    else:
        from .trt_run import TrtEngine

        built = build_engine(bundle, config.backend, config.precision, cache=cache, progress=progress)
        engine = TrtEngine(config.backend, built.data, bundle.manifest)
    blanks = {s.name: np.full((1, s.height, s.width, s.channels), s.blank, np.uint8) for s in bundle.manifest.inputs}
    try:
        for _ in range(2):
            engine.run(blanks)
    except BaseException:
        engine.close()
        raise
    return engine
