"""What is done to every source's frames alike: turned, and their stamps moved by a constant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..errors import CameraError
from ..frame import Frame
from . import Camera, Options, take_word


def with_offsets(cameras: Mapping[str, Camera], offset_ms: Mapping[str, float]) -> dict[str, Camera]:
    """Return cameras whose stamps are moved by constants, by camera name."""
    return {
        name: Adjusted(camera, offset_ns=round(1e6 * offset_ms[name])) if offset_ms.get(name) else camera
        for name, camera in cameras.items()
    }


class Adjusted:
    """A camera whose pictures are turned clockwise and whose stamps are moved.

    ``offset_ms`` is added to the stamps: -120 for a camera whose frames are stamped 120 ms after they were taken.
    """

    def __init__(self, camera: Camera, rotate: int = 0, offset_ns: int = 0, keep_repeats: bool = False) -> None:
        self.camera = camera
        self.name, self.live = camera.name, camera.live
        self.rotate, self.offset_ns = rotate, offset_ns
        self.keep_repeats = keep_repeats

    @classmethod
    def of(cls, camera: Camera, options: Options, uri: str) -> Camera:
        """Return a camera with the options of every source, itself where it has none."""
        if not options:
            return camera
        rotate = int(take_word(options, uri, "rotate", ("0", "90", "180", "270")))
        keep = take_word(options, uri, "repeats", ("drop", "keep")) == "keep"
        try:
            offset_ns = round(float(options.get("offset_ms", "0")) * 1e6)
        except (ValueError, OverflowError):
            offset_ns = 1 << 62
        if abs(offset_ns) > 60_000_000_000:
            raise CameraError(f"{uri}: option offset_ms={options['offset_ms']} is not a number of up to 60,000 ms")
        return cls(camera, rotate, offset_ns, keep)

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal picture is a repeated one."""
        return bool(getattr(self.camera, "drops_repeats", False)) and not self.keep_repeats

    def __getattr__(self, name: str) -> object:
        return getattr(self.camera, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("told", "dropped"):
            setattr(self.camera, name, value)
        else:
            super().__setattr__(name, value)

    def frames(self) -> Iterator[Frame]:
        """Yield the adjusted frames."""
        turns = -self.rotate // 90  # NumPy turns the other way
        for frame in self.camera.frames():
            image = np.ascontiguousarray(np.rot90(frame.image, turns)) if turns else frame.image
            unix_ns = frame.unix_ns and frame.unix_ns + self.offset_ns
            yield replace(frame, image=image, stamp_ns=frame.stamp_ns + self.offset_ns, unix_ns=unix_ns)

    def close(self) -> None:
        """Close the camera."""
        self.camera.close()
