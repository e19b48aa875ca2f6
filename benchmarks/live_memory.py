"""Cameras whose images are held in memory, and an engine that records its times, for live.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera.base import NO_EVENTS, CameraBase, CameraEvents
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.frame import Frame
from edgemtl_runtime.letterbox import Letterbox

PAIRS = 60
Held = dict[str, list[NDArray[np.uint8]]]


class Memory(CameraBase):
    """A camera whose images are held in memory: a recording, or with ``fps`` a live one that began at ``begin_ns``."""

    owns_images = True
    drops_repeats = False

    def __init__(self, name: str, held: list[NDArray[np.uint8]], count: int, fps: float = 0.0, begin_ns: int = 0):
        self.name, self.held, self.count, self.begin_ns = name, held, count, begin_ns
        self.live = self.drops_repeats = fps > 0
        self.period_ns = 1e9 / (fps or 30.0)
        self.closed = False

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the images, over and over."""
        for index in range(self.count):
            stamp_ns = self.begin_ns + round(index * self.period_ns)
            if self.live:
                time.sleep(max(0, stamp_ns - time.monotonic_ns()) / 1e9)
            if self.closed:
                return
            image = self.held[index % len(self.held)]
            yield Frame(image, stamp_ns, self.name, index, "driver", "", time.monotonic_ns())

    def close(self) -> None:
        """End the frames."""
        self.closed = True


class Timed:
    """An engine that notes how long each inference takes."""

    name = "timed"
    owned_outputs = True

    def __init__(self, engine: OrtEngine) -> None:
        self.engine = engine
        self.times_ms: list[float] = []

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Infer."""
        begin = time.perf_counter()
        found = self.engine.run(inputs)
        self.times_ms.append(1e3 * (time.perf_counter() - begin))
        return found


def load(folder: Path, size: tuple[int, int] | None = None) -> Held:
    """Return pairs of pictures as a camera gives them, of a size or as they are."""
    held: Held = {"rgb": [], "ir": []}
    for file in sorted((folder / "rgb" / "val").iterdir())[:PAIRS]:
        rgb = np.ascontiguousarray(cv2.imread(str(file))[:, :, ::-1])
        ir = cv2.imread(str(folder / "ir" / "val" / file.name), cv2.IMREAD_GRAYSCALE)
        for name, image in (("rgb", rgb), ("ir", ir)):
            held[name].append(image if size is None else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))
    return held


def fitted(bundle: Bundle, held: Held) -> list[dict[str, NDArray[np.uint8]]]:
    """Return what the network takes."""
    specs = bundle.manifest.inputs
    fits = {s.name: Letterbox.plan(held[s.name][0].shape[:2], (s.height, s.width)) for s in specs}
    return [
        {s.name: fits[s.name].image(held[s.name][i], s.channels, s.blank)[None] for s in specs}
        for i in range(len(held["rgb"]))
    ]
