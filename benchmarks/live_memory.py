"""Cameras whose images are held in memory, and an engine that records its times, for live.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from live_server import read_image, resized
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


class TimedEngine(OrtEngine):
    """ONNX Runtime on one thread; records the duration of every inference."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, 1)
        self.times_ms: list[float] = []

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once."""
        begin = time.perf_counter()
        outputs = super().run(inputs)
        self.times_ms.append(1e3 * (time.perf_counter() - begin))
        return outputs


def load(folder: Path, size: tuple[int, int] | None = None) -> Held:
    """Return pairs of images as cameras give them, resized to ``size`` (width, height) if one is given."""
    held: Held = {"rgb": [], "ir": []}
    for file in sorted((folder / "rgb" / "val").iterdir())[:PAIRS]:
        bgr = read_image(file, cv2.IMREAD_COLOR)
        ir = read_image(folder / "ir" / "val" / file.name, cv2.IMREAD_GRAYSCALE)
        for name, image in (("rgb", np.ascontiguousarray(bgr[:, :, ::-1])), ("ir", ir)):
            held[name].append(image if size is None else resized(image, size))
    return held


def network_inputs(bundle: Bundle, held: Held) -> list[dict[str, NDArray[np.uint8]]]:
    """Return the letterboxed inputs of the network, a batch of one for every pair."""
    specs = bundle.manifest.inputs
    fits = {s.name: Letterbox.plan(held[s.name][0].shape[:2], (s.height, s.width)) for s in specs}
    return [
        {s.name: fits[s.name].image(held[s.name][i], s.channels, s.blank)[None] for s in specs}
        for i in range(len(held["rgb"]))
    ]
