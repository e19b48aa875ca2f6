"""Selection of the fastest backend configuration on this machine: benchmarked, verified, and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from ..atomic import write_file
from ..bundle import Bundle
from ..errors import EngineError
from . import Arrays, Engine
from .agreement import MIN_AGREEMENT, SAME, SIMILAR, agreement
from .benchmark import noise, open_engines, time_interleaved
from .cache import PRIVATE, Cache
from .config import EngineConfig
from .onnxruntime import OrtEngine
from .selection import Selection, device

TIE_FACTOR = 1.03
"""Configurations whose medians lie within this factor are a tie: the one of more digits and fewer threads is taken."""
ORDER = ("fp32", "fp16", "int8")


def check_engine(bundle: Bundle, config: EngineConfig, engine: Engine, frames: Sequence[Arrays]) -> dict[str, float]:
    """Return the agreement with ONNX Runtime on the CPU by head; raises `EngineError` below `MIN_AGREEMENT`."""
    tolerance = SAME if config.precision == "fp32" else SIMILAR
    with OrtEngine(bundle.model_in(config.precision)) as reference:
        agreed = agreement(reference.run, engine.run, bundle.manifest.heads, frames, tolerance)
    for head, share in agreed.items():
        if not share >= MIN_AGREEMENT:
            raise EngineError(
                f"{config}: only {share:.1%} of '{head}' agrees with ONNX Runtime ({MIN_AGREEMENT:.0%} is asked); "
                "not used"
            )
    return agreed


def autotune(
    bundle: Bundle,
    configs: Sequence[EngineConfig],
    seconds: float = 5.0,
    frames: Sequence[Arrays] = (),
    on_message: Callable[[str], None] = lambda _: None,
    cache: Cache | None = None,
) -> tuple[Selection, dict[EngineConfig, str]]:
    """Benchmark backend configurations, keep the fastest for this machine, and return it with the rejected ones.

    Each is first compared with ONNX Runtime, on ``frames`` as the network takes them, or on noise. Of those rejected
    the reason is returned. Raises `EngineError` where none is left.
    """
    images = noise(bundle.manifest)

    def check(config: EngineConfig, engine: Engine) -> None:
        if config.backend != "onnxruntime-cpu":
            check_engine(bundle, config, engine, frames or [images])

    with open_engines(bundle, configs, on_message, check) as opened:
        on_message(f"timing for {seconds:g} s")
        times_ms = time_interleaved(opened.engines, images, seconds)
        medians = {config: float(np.median(times)) for config, times in times_ms.items()}
    best = min(medians.values())
    tied = [config for config, median in medians.items() if median <= TIE_FACTOR * best]
    fastest = min(tied, key=lambda config: (ORDER.index(config.precision), config.threads, not config.arena))
    p50_ms = {str(config): median for config, median in medians.items()}
    selection = Selection(bundle.manifest.files, device(), fastest, p50_ms)
    cache = cache or Cache()
    write_file(cache.selection(bundle.manifest.files), msgspec.json.encode(selection), PRIVATE)
    return selection, opened.rejected
