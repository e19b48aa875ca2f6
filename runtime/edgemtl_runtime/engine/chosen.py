"""The way in which a bundle runs on this machine: the one that was measured to be fastest, where one was."""

from __future__ import annotations

import msgspec

from ..bundle import Bundle
from . import Engine
from .cache import Cache, default_folder
from .device import Gpu, find_gpu
from .ort import cores
from .ways import Way, open_way


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
    """Return the way that was chosen for a bundle on this machine, None where none was or something has changed."""
    if cache is None and not default_folder().is_dir():
        return None
    cache = cache or Cache()
    if (content := cache.read_private(cache.choice(bundle.manifest.files))) is None:
        return None
    try:
        choice = msgspec.json.decode(content, type=Choice)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return choice.way if choice.device == device() and choice.files == bundle.manifest.files else None


def open_best(bundle: Bundle) -> Engine:
    """Open a bundle in the way that `edgemtl-runtime build` chose here, else in ONNX Runtime on the CPU, fp32."""
    return open_way(bundle, remembered(bundle) or Way())
