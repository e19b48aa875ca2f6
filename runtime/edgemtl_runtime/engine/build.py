"""A bundle's network built into a TensorRT engine in this machine's cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle
from ..errors import EngineError
from . import trt_build
from .cache import Cache, Key
from .gpu import Gpu, find_gpu


@dataclass(frozen=True)
class Built:
    """A built engine and its path; ``cached`` where it was not built now, ``differs`` why another one does not fit."""

    key: Key
    plan: Path
    data: bytes
    cached: bool
    differs: tuple[str, ...] = ()


def build_engine(
    bundle: Bundle,
    backend: str,
    precision: str = "fp32",
    settings: trt_build.Settings = trt_build.Settings(),  # noqa: B008
    cache: Cache | None = None,
    progress: trt_build.Progress | None = None,
) -> Built:
    """Return the engine of a bundle in a precision, from the cache or built now; raises `EngineError`.

    Without a GPU only TensorRT-RTX builds, and only for a ``settings.capability`` that is given.
    """
    model = bundle.model_in(precision)
    module = trt_build.load(backend)
    key = Key(
        onnx_sha256=bundle.manifest.files[model.name],
        backend=backend,
        version=str(module.__version__),
        precision=precision,
        profile="x".join(map(str, settings.batch)),
        flags=f"level {settings.level}, workspace {settings.workspace_mb}",
        **_device(backend, settings.capability),
    )
    cache = cache or Cache()
    if (data := cache.find(key)) is not None:
        return Built(key, cache.plan(key), data, True)
    differs = tuple(cache.nearest(key))
    data = trt_build.build(backend, model.read_bytes(), settings, progress, precision, cache.timings(key))
    return Built(key, cache.keep(key, data), data, False, differs)


def _device(backend: str, capability: str) -> dict[str, str]:
    """Return the device that an engine is built for, as fields of its `Key`."""
    gpu = find_gpu()
    if isinstance(gpu, Gpu) and capability in ("", gpu.compute_capability):
        return {"gpu": gpu.name, "compute_capability": gpu.compute_capability, "driver": gpu.driver}
    if capability and backend == "tensorrt-rtx":
        return {"gpu": "", "compute_capability": capability, "driver": ""}
    if isinstance(gpu, Gpu):
        raise EngineError(f"{backend} builds for this machine's GPU alone ({gpu.name}, {gpu.compute_capability})")
    ahead = "; tensorrt-rtx builds ahead of time with --capability 8.6, or another" if backend != "tensorrt" else ""
    raise EngineError(f"{backend} needs a GPU to build: {gpu}{ahead}")
