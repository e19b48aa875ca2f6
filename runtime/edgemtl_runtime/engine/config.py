"""The ways in which a bundle can run on this machine: a back end, a precision, threads."""

from __future__ import annotations

import importlib.util

import msgspec
import numpy as np

from ..bundle import MODELS, Bundle
from ..errors import EdgemtlError, EngineError
from . import Engine, OneAtATime, trt_build
from .build import build_engine
from .cache import Cache
from .gpu import Gpu, find_gpu
from .onnxruntime import MOST_THREADS, PROVIDERS, OrtEngine, cores, default_threads, load

BACKENDS = (*trt_build.BACKENDS, *reversed(PROVIDERS))
"""All back ends there are; the quickest first, where they work."""


class Way(msgspec.Struct, frozen=True):
    """One way to run a bundle; ``threads`` and ``arena`` are of ONNX Runtime on the CPU."""

    backend: str = "onnxruntime-cpu"
    precision: str = "fp32"
    threads: int = 0
    arena: bool = True

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS or self.precision not in MODELS or not 0 <= self.threads <= MOST_THREADS:
            told = ascii(f"{self.backend} {self.precision}")[1:-1][:80]
            raise ValueError(f"{told} with {self.threads} threads is no way to run a bundle")

    def __str__(self) -> str:
        """Name it in a few words."""
        threads = f" x{self.threads}" if self.threads else ""
        return f"{self.backend} {self.precision}{threads}{'' if self.arena else ' no arena'}"


def absent(backend: str) -> str:
    """Return why a back end does not work here, nothing where it does."""
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


def ways(bundle: Bundle, backend: str = "", precision: str = "") -> list[Way]:
    """Return all ways in which a bundle can run here, of a back end or a precision alone where one is named."""
    if precision:
        bundle.model_in(precision)  # or it says what there is
    precisions = [precision] if precision else list(bundle.precisions)
    found = []
    for name in [backend] if backend else [each for each in BACKENDS if not absent(each)]:
        if why := absent(name):
            raise EngineError(f"{name} does not work here: {why}")
        for each in precisions:
            if name == "onnxruntime-cpu":
                counts = sorted({1, default_threads(), cores()})
                found += [Way(name, each, count) for count in counts] + [Way(name, each, default_threads(), False)]
            else:
                found.append(Way(name, each))
    return found


def open_way(
    bundle: Bundle, way: Way, cache: Cache | None = None, progress: trt_build.Progress | None = None
) -> Engine:
    """Open a bundle's network in one way; an engine that is not in the cache is built. Raises `EdgemtlError`.

    It has run twice then: the first runs set things up, for which the first frames of cameras would have to wait.
    """
    engine: OneAtATime
    if way.backend in PROVIDERS:
        engine = ort = OrtEngine(bundle.model_in(way.precision), way.threads, way.backend, way.arena)
        ort.check(bundle.manifest)
    else:
        from .trt_run import PlanEngine

        built = build_engine(bundle, way.backend, way.precision, cache=cache, progress=progress)
        engine = PlanEngine(way.backend, built.data, bundle.manifest)
    blanks = {s.name: np.full((1, s.height, s.width, s.channels), s.blank, np.uint8) for s in bundle.manifest.inputs}
    try:
        for _ in range(2):
            engine.run(blanks)
    except BaseException:
        engine.close()
        raise
    return engine
