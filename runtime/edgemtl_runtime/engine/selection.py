"""The selected backend configuration of a bundle on this machine: the one that `autotune` found to be fastest."""

from __future__ import annotations

import msgspec

from ..bundle import Bundle
from ..errors import EngineError
from ..limits import decode_json
from . import Engine
from .cache import Cache, default_folder
from .config import EngineConfig, open_engine
from .gpu import Gpu, find_gpu
from .onnxruntime import cores

MOST_BYTES = 1 << 20
MOST_THREADS_PER_CORE = 4
"""Threads a core that a selected configuration may have: more only make it slower."""


class Selection(msgspec.Struct, frozen=True):
    """The fastest configuration: for which files of a bundle, on which device, and the median of all, milliseconds."""

    files: dict[str, str]
    device: str
    config: EngineConfig = msgspec.field(name="way")
    p50_ms: dict[str, float]


def device() -> str:
    """Return a description of what decides how fast a bundle runs on this machine: cores, GPU and driver."""
    gpu = find_gpu()
    return f"{cores()} cores, {f'{gpu.name} {gpu.driver}' if isinstance(gpu, Gpu) else 'no GPU'}"


def selected_config(bundle: Bundle, cache: Cache | None = None) -> EngineConfig | None:
    """Return the selected configuration of a bundle, None where none was, or where bundle or machine have changed.

    Raises `EngineError` where the selection's file cannot be read, or holds no configuration.
    """
    if cache is None and not default_folder().is_dir():
        return None
    cache = cache or Cache()
    file = cache.selection(bundle.manifest.files)
    if (content := cache.read_private(file, MOST_BYTES)) is None:
        return None
    try:
        selection: Selection = decode_json(content, Selection)
        fits = selection.device == device() and selection.files == bundle.manifest.files
        if fits and selection.config.threads > MOST_THREADS_PER_CORE * cores():
            raise ValueError(f"{selection.config.threads} threads on {cores()} cores")
    except ValueError as error:
        raise EngineError(f"{file}: no choice that can be read ({error}); delete it") from error
    return selection.config if fits else None


def open_selected_engine(bundle: Bundle) -> Engine:
    """Open a bundle with the configuration that `edgemtl-runtime build` selected, else ONNX Runtime's on the CPU."""
    return open_engine(bundle, selected_config(bundle) or EngineConfig())
