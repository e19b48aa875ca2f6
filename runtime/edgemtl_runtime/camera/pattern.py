"""Synthetic test pattern: plain moving shapes, the same ones in colour and in thermal."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from ..errors import CameraError
from ..frame import Frame
from .base import NO_EVENTS, CameraEvents, PlaybackCamera
from .clock import Epoch, Pace
from .options import NOMINAL_FPS, Options, take

# Position and size as shares of the image, speed in shares a second, colour, thermal grey level.
SHAPES = (
    (0.15, 0.55, 0.08, 0.30, 0.05, (200, 60, 50), 230),
    (0.45, 0.60, 0.25, 0.18, -0.08, (50, 90, 200), 150),
    (0.75, 0.65, 0.15, 0.15, 0.11, (60, 170, 80), 90),
)


class PatternCamera(PlaybackCamera):
    """Rectangles over a gradient; a camera named "ir", or with ``?channels=1``, gives their thermal grey level."""

    def __init__(self, name: str, epoch: Epoch, options: Options) -> None:
        self.name, self.uri = name, "pattern:"
        fps, count, width, height, channels = take(
            options, "pattern:", fps=20, frames=0, width=320, height=240, channels=1 if name == "ir" else 3
        )
        if channels not in (1, 3):
            raise CameraError("pattern: channels is 3 (colour) or 1 (thermal)")
        self.is_grey = channels == 1
        if not (8 <= width <= 8192 and 8 <= height <= 8192):
            raise CameraError("pattern: width and height lie between 8 and 8192")
        self.count, self.width, self.height = int(count), int(width), int(height)
        shade = np.linspace(40, 120, self.height, dtype=np.float32).astype(np.uint8)
        self.background = np.tile(shade[:, None, None], (1, self.width, 1 if self.is_grey else 3))
        self.live = fps > 0
        self.fps = self.rate = fps or NOMINAL_FPS
        self.pace = Pace(epoch, self.fps, self.live)

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield frames of the pattern, without end unless ``frames`` was given."""
        index = 0
        while not self.pace.closed and (not self.count or index < self.count):
            stamp_ns = self.pace.wait(index)
            image = self.draw(index / self.fps)
            yield Frame(image, stamp_ns, self.name, index, "rate", f"{index:06d}", time.monotonic_ns())
            index += 1

    def draw(self, time_s: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Return the pattern at a time, (H, W, 3) or (H, W) uint8."""
        h, w = self.height, self.width
        image = self.background.copy()
        for x, y, wide, high, speed, colour, warmth in SHAPES:
            left = int(((x + speed * time_s) % (1 + wide) - wide) * w)
            top = int((y - high / 2) * h)
            box = image[top : top + int(high * h), max(left, 0) : max(left + int(wide * w), 0)]
            box[:] = warmth if self.is_grey else colour
        return image[:, :, 0] if self.is_grey else image
