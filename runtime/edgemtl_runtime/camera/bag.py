"""Image topics of MCAP files and ROS 2 bags as cameras."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import CameraError, flag
from ..frame import Frame
from . import Options, checked_size, take
from .clock import Epoch, Pace

LEAP_NS = 500_000_000
"""A time that steps back by more is another time, by less a message that came late to the recorder."""
NEIGHBOURS = 6
"""Pictures among which the order is mended."""
Picture = NDArray[Any]


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
        self.pace = Pace(epoch, 1.0, self.live, self.speed)
        read = mcap.frames if kind == "mcap" else mcap.bag_frames
        self.messages = read(path, topic)
        first = next(self.messages, None)
        if first is None:
            raise CameraError(f"{flag(name, place)}: holds no picture")
        self.messages = chain([first], self.messages)
        epoch.begin(first[0])

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures in the order of their times, as far as that is the order of the recording."""
        return checked_size(self._read(), lambda frame: f"{flag(self.name, self.place)} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        epoch = self.pace.epoch
        for index, (told_ns, image) in enumerate(in_order(self.messages)):
            stamp_ns = self.pace.wait_until(epoch.at(told_ns))
            if self.pace.closed:
                return
            yield Frame(image, stamp_ns, self.name, index, "file", str(told_ns), time.monotonic_ns(), told_ns)

    def close(self) -> None:
        """End the reading."""
        self.pace.closed = True


def in_order(messages: Iterable[tuple[int, Picture]]) -> Iterator[tuple[int, Picture]]:
    """Yield messages by their times where neighbours were recorded the wrong way round; a leap back is left as it is.

    A recorder writes what reaches it, which is not always the order of capture. A recording that begins anew, as one
    that was joined from two, leaps.
    """
    waiting: list[tuple[int, int, Picture]] = []
    latest_ns: int | None = None
    for number, (told_ns, image) in enumerate(messages):
        if latest_ns is not None and latest_ns - told_ns > LEAP_NS:
            while waiting:
                yield _first(waiting)
            latest_ns = None
        latest_ns = told_ns if latest_ns is None else max(latest_ns, told_ns)
        heapq.heappush(waiting, (told_ns, number, image))
        if len(waiting) > NEIGHBOURS:
            yield _first(waiting)
    while waiting:
        yield _first(waiting)


def _first(waiting: list[tuple[int, int, Picture]]) -> tuple[int, Picture]:
    told_ns, _, image = heapq.heappop(waiting)
    return told_ns, image
