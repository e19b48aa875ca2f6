"""The way in which a bundle runs on this machine: the one that was measured to be fastest, where one was."""

from __future__ import annotations

import msgspec

from ..bundle import Bundle
from ..errors import EngineError
from ..limits import decode_json
from . import Engine
from .cache import Cache, default_folder
from .config import Way, open_way
from .gpu import Gpu, find_gpu
from .onnxruntime import cores

MOST_BYTES = 1 << 20
MOST_A_CORE = 4
"""Threads a core that a remembered way may have: more only make it slower."""


class Choice(msgspec.Struct, frozen=True):
    """What was measured to be fastest: for which network, where, and how fast each way was, milliseconds."""

    files: dict[str, str]
    device: str
    way: Way
    p50_ms: dict[str, float]


def device() -> str:
    """Name what decides how fast a bundle runs here."""
    gpu = find_gpu()
    return f"{cores()} cores, {f'{gpu.name} {gpu.driver}' if isinstance(gpu, Gpu) else 'no GPU'}"


def remembered(bundle: Bundle, cache: Cache | None = None) -> Way | None:
    """Return the way that was chosen for a bundle on this machine, None where none was or something has changed.

    Raises `EngineError` where what was remembered cannot be read, or is no way at all.
    """
    if cache is None and not default_folder().is_dir():
        return None
    cache = cache or Cache()
    file = cache.choice(bundle.manifest.files)
    if (content := cache.read_private(file, MOST_BYTES)) is None:
        return None
    try:
        choice: Choice = decode_json(content, Choice)
        fits = choice.device == device() and choice.files == bundle.manifest.files
        if fits and choice.way.threads > MOST_A_CORE * cores():
            raise ValueError(f"{choice.way.threads} threads on {cores()} cores")
    except ValueError as error:
        raise EngineError(f"{file}: no choice that can be read ({error}); delete it") from error
    return choice.way if fits else None


def open_best(bundle: Bundle) -> Engine:
    """Open a bundle in the way that `edgemtl-runtime build` chose here, else in ONNX Runtime on the CPU, fp32."""
    return open_way(bundle, remembered(bundle) or Way())
