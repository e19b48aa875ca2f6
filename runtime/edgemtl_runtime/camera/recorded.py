"""Image topics of MCAP files and ROS 2 bags as cameras."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ..errors import CameraError, flag
from ..frame import Frame
from . import Options, checked_size, take
from .clock import Epoch, Pace


class RecordedCamera:
    """``mcap:FILE#topic`` or ``bag:FOLDER#topic``; ``?speed=1`` plays it live.

    Recordings that are opened together keep their times to each other: the earliest begins first.
    """

    owned_pictures = True

    def __init__(self, name: str, place: str, epoch: Epoch, options: Options) -> None:
        from . import mcap

        kind, _, rest = place.partition(":")
        file, _, topic = rest.partition("#")
        path = Path(file)
        if not (path.is_file() if kind == "mcap" else path.is_dir()):
            raise CameraError(f"{flag(name, place)}: there is no such {'file' if kind == 'mcap' else 'folder'}")
        (self.speed,) = take(options, place, speed=0)
        self.name, self.place, self.live = name, place, self.speed > 0
        self.pace = Pace(epoch, 1.0, self.live)
        read = mcap.frames if kind == "mcap" else mcap.bag_frames
        self.messages = read(path, topic)
        first = next(self.messages, None)
        if first is None:
            raise CameraError(f"{flag(name, place)}: holds no picture")
        self.messages = chain([first], self.messages)
        epoch.begin(first[0])

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures in the order they were recorded."""
        return checked_size(self._read(), lambda frame: f"{flag(self.name, self.place)} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        epoch = self.pace.epoch
        for index, (told_ns, image) in enumerate(self.messages):
            played_ns = epoch.at(told_ns) - epoch.now_ns
            stamp_ns = self.pace.wait_until(epoch.now_ns + round(played_ns / (self.speed or 1.0)))
            if self.pace.closed:
                return
            yield Frame(image, max(stamp_ns, 0), self.name, index, "file", str(told_ns), time.monotonic_ns(), told_ns)

    def close(self) -> None:
        """End the reading."""
        self.pace.closed = True
