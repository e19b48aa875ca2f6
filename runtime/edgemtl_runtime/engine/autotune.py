"""Which way a bundle runs best on this machine: measured once, checked against ONNX Runtime, and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..atomic import write_file
from ..bundle import Bundle
from ..errors import EngineError
from . import Engine
from .agreement import ALIKE, SAME, agreement
from .benchmark import in_turns, noise, opened
from .cache import PRIVATE, Cache
from .config import Way
from .onnxruntime import OrtEngine
from .selection import Choice, device

LEAST = 0.99
"""Share of every head's values that an engine must have in common with ONNX Runtime's of the same network."""
CLOSE = 1.03
"""Ways whose medians lie within this factor are alike: then the one of more digits and fewer threads is taken."""
ORDER = ("fp32", "fp16", "int8")
Arrays = dict[str, NDArray[Any]]


def check_engine(bundle: Bundle, way: Way, engine: Engine, frames: Sequence[Arrays]) -> dict[str, float]:
    """Return by head what share agrees with ONNX Runtime on the CPU; raises `EngineError` where too little does."""
    tolerance = SAME if way.precision == "fp32" else ALIKE
    with OrtEngine(bundle.model_in(way.precision)) as exact:
        agreed = agreement(exact.run, engine.run, bundle.manifest.heads, frames, tolerance)
    for head, share in agreed.items():
        if not share >= LEAST:
            raise EngineError(
                f"{way}: only {share:.1%} of '{head}' agrees with ONNX Runtime ({LEAST:.0%} is asked); not used"
            )
    return agreed


def choose(
    bundle: Bundle,
    ways: Sequence[Way],
    seconds: float = 5.0,
    frames: Sequence[Arrays] = (),
    told: Callable[[str], None] = lambda _: None,
    cache: Cache | None = None,
) -> tuple[Choice, dict[Way, str]]:
    """Measure the ways, keep the fastest for this machine, and return it with the reasons of those that fell out.

    Each is first compared with ONNX Runtime, on ``frames`` as the network takes them, or on noise.
    """
    images = noise(bundle.manifest)

    def check(way: Way, engine: Engine) -> None:
        if way.backend != "onnxruntime-cpu":
            check_engine(bundle, way, engine, frames or [images])

    with opened(bundle, ways, told, check) as there:
        told(f"timing for {seconds:g} s")
        medians = {way: float(np.median(times)) for way, times in in_turns(there.engines, images, seconds).items()}
    best = min(medians.values())
    close = [way for way, median in medians.items() if median <= CLOSE * best]
    way = min(close, key=lambda w: (ORDER.index(w.precision), w.threads, not w.arena))
    choice = Choice(bundle.manifest.files, device(), way, {str(w): median for w, median in medians.items()})
    cache = cache or Cache()
    write_file(cache.choice(bundle.manifest.files), msgspec.json.encode(choice), PRIVATE)
    return choice, there.refused
