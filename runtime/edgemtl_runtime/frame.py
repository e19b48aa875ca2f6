"""Frames and pairs of frames: an image and when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .wall import WALL

StampSource = Literal["driver", "stream", "file", "rate", "arrival"]
"""How a stamp was had, the best first.

"driver": by the camera's driver when the frame was taken; "stream": from the stream's presentation times, mapped to the
host's clock; "file": from the recording's own times; "rate": from a nominal rate; "arrival": when the frame reached us.
"""
UNKNOWN_NS = 10_000_000_000
"""How far a stamp may be off of which nothing is known yet."""
Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of one camera.

    ``image`` is (H, W, 3) uint8 in RGB order, or (H, W) uint8 or uint16 for one channel. ``stamp_ns`` is the capture
    time on the host's monotonic clock, nanoseconds; ``stamp_source`` says how good it is. ``index`` counts the
    camera's frames from 0; ``name`` is the file's stem where there is one; ``arrived_ns`` is when we had it;
    ``network`` is the picture as the network takes it, (height, width, C) uint8, once it was fitted.
    """

    image: NDArray[Any]
    stamp_ns: int
    camera: str
    index: int
    stamp_source: StampSource = "arrival"
    name: str = ""
    arrived_ns: int = 0
    unix_ns: int = 0
    """The capture time as Unix time, where a recording tells it."""
    network: NDArray[np.uint8] | None = None
    registered: bool = False
    """Whether ``network`` was brought into another camera's pixels."""
    uncertainty_ns: int = 0
    """How far the stamp may be off, as far as can be told, beside a delay that never changes."""
    moment: str = ""
    """What pictures of one moment share where their names tell it: two frames that have one are a pair by it alone."""

    def __post_init__(self) -> None:
        image = self.image
        grey = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
        colour = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        if not (grey or colour) or not image.size:
            raise ValueError(f"a frame is (H, W, 3) uint8 or (H, W) uint8/uint16, not {image.dtype} {image.shape}")

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, eq=False)
class FramePair:
    """The frames of the cameras that belong together, by camera name, in the order of the cameras.

    While a camera is silent the other's frames come alone. ``trusted`` says that they lie within the tolerance even if
    their stamps are off by all that they may be.
    """

    frames: dict[str, Frame]
    trusted: bool = True

    @property
    def skew_ns(self) -> int:
        """Time between the earliest and the latest frame of the pair."""
        stamps = [frame.stamp_ns for frame in self.frames.values()]
        return max(stamps) - min(stamps)

    @property
    def stamp_ns(self) -> int:
        """Capture time of the pair: that of its later frame."""
        return max(frame.stamp_ns for frame in self.frames.values())

    @property
    def unix_ns(self) -> int:
        """Capture time of the pair as Unix time: as the recording tells it, else by the wall clock as it stands now."""
        told = [frame.unix_ns for frame in self.frames.values()]
        return max(told) if all(told) else WALL.unix_ns(self.stamp_ns)

    @property
    def arrived_ns(self) -> int:
        """When the pair was complete: when its later frame reached us."""
        return max(frame.arrived_ns for frame in self.frames.values())
