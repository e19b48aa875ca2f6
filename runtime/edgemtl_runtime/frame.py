"""Frames and pairs of frames: images and their capture times."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .renamed_names import renamed_fields
from .wall import WALL

if TYPE_CHECKING:
    from .rig.camera_model import CameraModel

StampSource = Literal["driver", "stream", "file", "rate", "arrival"]
"""Source of a stamp, the best first.

"driver": by the camera's driver at capture; "stream": from the stream's presentation timestamps, mapped to the host's
clock; "file": from the recording's times; "rate": from a nominal rate; "arrival": when the frame reached the host.
"""
UNKNOWN_NS = 10_000_000_000
"""Uncertainty of a stamp of which nothing is known yet."""
Size = tuple[int, int]
"""Height and width in pixels."""


@renamed_fields(moment="sample_id")
@dataclass(frozen=True, eq=False)
class Frame:
    """One image of one camera.

    ``image`` is (H, W, 3) uint8 in RGB order, or (H, W) uint8 or uint16 for one channel. ``stamp_ns`` is the capture
    time on the host's monotonic clock, nanoseconds, from ``stamp_source``. ``index`` counts the camera's frames from
    0; ``name`` is the file's stem where there is one; ``arrived_ns`` is when the frame reached the host. Raises
    `ValueError` for an image of another form, and for a stamp in anything but whole nanoseconds.
    """

    image: NDArray[Any]
    stamp_ns: int
    camera: str
    index: int
    stamp_source: StampSource = "arrival"
    name: str = ""
    arrived_ns: int = 0
    unix_ns: int = 0
    """The capture time as Unix time, where a recording holds it."""
    uncertainty_ns: int = 0
    """Bound of the stamp's error, except for a constant delay."""
    sample_id: str = ""
    """Identity of the sample, where file names hold it: two frames that have one are paired by it alone."""
    frame_id: str = ""
    """The coordinate frame in ROS that the source states."""
    lens: CameraModel | None = None
    """The camera's calibration that the source states."""

    def __post_init__(self) -> None:
        image = self.image
        grey = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
        colour = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        if not (grey or colour) or not image.size:
            raise ValueError(f"a frame is (H, W, 3) uint8 or (H, W) uint8/uint16, not {image.dtype} {image.shape}")
        if not isinstance(self.stamp_ns, (int, np.integer)):
            raise ValueError(f"stamp_ns is whole nanoseconds, not {self.stamp_ns!r}; round(1e9 * seconds) makes them")

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


class StampedImage(NamedTuple):
    """An image as another program or library delivers it: its time in Unix nanoseconds, and its coordinate frame."""

    stamp_ns: int
    image: NDArray[Any]
    frame_id: str


FIELDS = tuple(field.name for field in fields(Frame))


def fields_of(frame: Frame) -> dict[str, Any]:
    """Return the fields of a frame by name; those that a subclass adds are dropped."""
    return {name: getattr(frame, name) for name in FIELDS}


@renamed_fields(moment="sample_id", network="network_input")
@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedFrame(Frame):
    """A frame with its network input: what the preprocessing in a camera's thread hands to the network's thread.

    ``network_input`` is (height, width, C) uint8; where it is ``registered``, in the pixels of the rig's reference
    camera.
    """

    network_input: NDArray[np.uint8]
    registered: bool
    preprocessor: object = None
    """The `Preprocessor` that prepared it."""


@dataclass(frozen=True, eq=False)
class FramePair:
    """Frames of several cameras that belong together, by camera name, in the order of the cameras.

    While a camera is silent the other's frames are pairs of one. ``trusted``: the skew is within the tolerance for any
    error of the stamps within their uncertainty.
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
        """Capture time of the pair as Unix time: the recording's, else by the present wall clock."""
        recorded = [frame.unix_ns for frame in self.frames.values()]
        return max(recorded) if all(recorded) else WALL.unix_ns(self.stamp_ns)

    @property
    def arrived_ns(self) -> int:
        """When the pair was complete: when its later frame reached the host."""
        return max(frame.arrived_ns for frame in self.frames.values())
