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
from .base import NO_EVENTS, CameraEvents, PlaybackCamera, checked_size
from .clock import Epoch, Pace
from .options import Options, take

LEAP_NS = 500_000_000
"""Stamps that step back by more begin another recording; by less, a message reached the recorder late."""
REORDER_WINDOW = 6
"""Length of the window, in images, within which their order is corrected."""
Pixels = NDArray[Any]


class BagCamera(PlaybackCamera):
    """Image topic of an MCAP file or of the folder of a ROS 2 bag; ``?speed=1`` is live.

    Recordings that are opened together keep their times to each other: the earliest begins first.
    """

    def __init__(self, name: str, path: Path, topic: str, epoch: Epoch, options: Options) -> None:
        from . import mcap

        uri = f"{'bag' if path.is_dir() else 'mcap'}:{path}{topic and '#'}{topic}"
        (self.speed,) = take(options, uri, speed=0)
        self.name, self.uri, self.live = name, uri, self.speed > 0
        self.pace = Pace(epoch, 1.0, self.live, self.speed)
        read = mcap.bag_frames if path.is_dir() else mcap.frames
        self.messages = read(path, topic)
        first = next(self.messages, None)
        if first is None:
            raise CameraError(f"{flag(name, uri)}: holds no image")
        self.messages = chain([first], self.messages)
        epoch.begin(first[0])

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the images in the order of their stamps; see `in_order`."""
        return checked_size(self._read(), lambda frame: f"{self.label} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        epoch = self.pace.epoch
        for index, (unix_ns, image) in enumerate(in_order(self.messages)):
            stamp_ns = self.pace.wait_until(epoch.at(unix_ns))
            if self.pace.closed:
                return
            yield Frame(image, stamp_ns, self.name, index, "file", str(unix_ns), time.monotonic_ns(), unix_ns)


def in_order(messages: Iterable[tuple[int, Pixels]]) -> Iterator[tuple[int, Pixels]]:
    """Yield messages sorted by stamp within a window; a leap back stays one.

    A recorder writes what reaches it, which is not always the order of capture. A recording that was joined from two
    leaps back.
    """
    waiting: list[tuple[int, int, Pixels]] = []
    latest_ns: int | None = None
    for number, (unix_ns, image) in enumerate(messages):
        if latest_ns is not None and latest_ns - unix_ns > LEAP_NS:
            while waiting:
                yield _pop_first(waiting)
            latest_ns = None
        latest_ns = unix_ns if latest_ns is None else max(latest_ns, unix_ns)
        heapq.heappush(waiting, (unix_ns, number, image))
        if len(waiting) > REORDER_WINDOW:
            yield _pop_first(waiting)
    while waiting:
        yield _pop_first(waiting)


def _pop_first(waiting: list[tuple[int, int, Pixels]]) -> tuple[int, Pixels]:
    unix_ns, _, image = heapq.heappop(waiting)
    return unix_ns, image
