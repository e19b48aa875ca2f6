"""Pictures that carry the time at which they were drawn, so that a stamp can be held against the truth.

The time is 32 bits of a tenth of a millisecond of the monotonic clock, drawn as light and dark blocks, and below them
the inverse bits: what a codec has blurred or a cut has torn is not taken for a time. Only the standard library is
needed to draw, so that a server may run in the system's Python.
"""

from __future__ import annotations

import random
import time
from typing import Any

BLOCK, COLUMNS, ROWS = 12, 16, 4
WIDTH, HEIGHT = BLOCK * COLUMNS, 128
UNIT_NS = 100_000
DARK, LIGHT = 40, 215
_LINES = {bit: bytes([LIGHT if bit else DARK]) * BLOCK for bit in (0, 1)}


def face(stamp_ns: int) -> bytes:
    """Return the rows of blocks that tell a time: WIDTH x (BLOCK * ROWS) bytes of luma."""
    ticks = stamp_ns // UNIT_NS % (1 << 32)
    bits = [ticks >> index & 1 for index in range(32)]
    rows = [bits[:16], bits[16:], [1 - bit for bit in bits[:16]], [1 - bit for bit in bits[16:]]]
    return b"".join(b"".join(_LINES[bit] for bit in row) * BLOCK for row in rows)


def read_face(image: Any, now_ns: int | None = None) -> int | None:
    """Return the time in a picture (H, W[, 3]), nanoseconds of the monotonic clock; None where it cannot be read."""
    import numpy as np

    grey = np.asarray(image, np.float32)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    height, width = grey.shape
    scale_y, scale_x = height / HEIGHT, width / WIDTH
    ys = ((np.arange(ROWS) + 0.5) * BLOCK * scale_y).astype(int)
    xs = ((np.arange(COLUMNS) + 0.5) * BLOCK * scale_x).astype(int)
    values = np.array([[grey[y - 2 : y + 3, x - 2 : x + 3].mean() for x in xs] for y in ys])
    bits = values > (DARK + LIGHT) / 2
    if not (bits[:2] ^ bits[2:]).all():
        return None
    ticks = sum(int(bit) << index for index, bit in enumerate(bits[:2].ravel()))
    now = (time.monotonic_ns() if now_ns is None else now_ns) // UNIT_NS
    return (now - (now - ticks) % (1 << 32)) * UNIT_NS  # the latest moment before now that has these bits


class Painter:
    """Draws pictures as planes of I420: a face and below it a moving bar, or a scene that stands still.

    ``noise`` is a sensor's, the standard deviation in grey levels.
    """

    def __init__(self, still: bool = False, noise: float = 0.0) -> None:
        self.still, self.index = still, 0
        rest = HEIGHT - BLOCK * ROWS
        chance = random.Random(1)
        slope = [60 + 100 * x // WIDTH for x in range(WIDTH)]
        rows = HEIGHT if still else rest
        planes = 16 if noise else 1
        self.scenes = [
            bytes(
                min(max(round(slope[x] + (chance.gauss(0, noise) if noise else 0)), 16), 235)
                for _ in range(rows)
                for x in range(WIDTH)
            )
            for _ in range(planes)
        ]
        self.chroma = bytes([128]) * (WIDTH * HEIGHT // 2)

    def draw(self, stamp_ns: int) -> bytes:
        """Return a picture's bytes, WIDTH x HEIGHT in I420."""
        scene = self.scenes[self.index % len(self.scenes)]
        self.index += 1
        if self.still:
            return scene + self.chroma
        bar = 16 * (self.index % (WIDTH // 16))
        stripe = (bytes([30]) * bar + bytes([230]) * 16).ljust(WIDTH, bytes([30])) * 8
        return face(stamp_ns) + scene[: -len(stripe)] + stripe + self.chroma


def jpeg(stamp_ns: int, painter: Painter) -> bytes:
    """Return a picture as a JPEG."""
    import cv2
    import numpy as np

    yuv = np.frombuffer(painter.draw(stamp_ns), np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(yuv, cv2.COLOR_YUV2BGR_I420))[1])
