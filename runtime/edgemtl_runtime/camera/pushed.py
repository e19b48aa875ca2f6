"""Images that a library's threads deliver, each with the time of another clock: of topics, and of makers' libraries.

Where that clock agrees with this machine's, as on one machine or with NTP or PTP, its time is the stamp, so that two
cameras are paired by it whatever their delays; where it is far away, its times are mapped by the smallest delay, as a
stream's are (`SourceClock`).
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import CameraError, EdgemtlError
from ..frame import UNKNOWN_NS, Frame, StampedImage, StampSource
from ..wall import WALL
from .base import LiveCamera
from .clock import FLOOR_NS, ArrivalClock, SourceClock
from .options import Options, take_word
from .redaction import redact

if TYPE_CHECKING:
    from ..rig.camera_model import CameraModel

OPEN_S, READ_S = 3.0, 2.0
"""How long the first image may take to come, and any other, before the camera is lost."""
MOST_WAITING = 30
"""Messages that wait for the reader; an older one makes room, and is reported as dropped."""
EARLY_NS, LATE_NS = 20_000_000, 2_000_000_000
"""Delays from a header's time to the arrival that are plausible where the two clocks agree."""
CLOCKS = ("header", "arrival", "none")


class Received(NamedTuple):
    """A message as it came: what the subclass decodes, and when it came, on the monotonic clock."""

    content: Any
    arrived_ns: int


class HeaderClock:
    """Stamps on the monotonic clock of headers in Unix time.

    With ``header`` they are the headers' where those are plausible; with ``arrival`` always mapped by the smallest
    delay; with ``none``, and where a header has no time, those of arrival.
    """

    def __init__(self, clock: str) -> None:
        self.clock, self.filter, self.arrivals = clock, SourceClock(), ArrivalClock()

    def stamp(self, header_ns: int, arrived_ns: int) -> tuple[int, StampSource, int]:
        """Return a stamp, its source and its uncertainty, nanoseconds."""
        if self.clock == "none" or not header_ns:
            return arrived_ns, "arrival", self.arrivals.uncertainty(arrived_ns)
        self.filter.observe(header_ns, arrived_ns)
        mapped_ns, uncertainty_ns = self.filter.stamp(header_ns)
        captured_ns = header_ns - WALL.offset_ns()
        if self.clock == "header" and -EARLY_NS <= arrived_ns - captured_ns <= LATE_NS:
            return min(captured_ns, arrived_ns), "driver", FLOOR_NS
        return mapped_ns, "stream", uncertainty_ns


class PushedCamera(LiveCamera):
    """Images that a library's threads deliver: a subclass lets them call `put`, and decodes what they bring."""

    def __init__(self, name: str, uri: str, options: Options) -> None:
        super().__init__(name, redact(uri))
        self.clock = HeaderClock(take_word(options, uri, "clock", CLOCKS))
        self.waiting: deque[Received] = deque()
        self.arrival = threading.Condition()
        self.lost = 0
        self.lens: CameraModel | None = None

    def wait_for_first(self) -> None:
        """Wait until there is an image; raises `CameraError` where none comes."""
        with self.arrival:
            if not self.arrival.wait_for(lambda: bool(self.waiting), OPEN_S):
                reason = f"no image came in {OPEN_S:g} s{self._hint()}"
                raise CameraError(f"{self.label}: {reason}")

    def put(self, content: Any) -> None:
        """Take a message that has come now."""
        received = Received(content, time.monotonic_ns())
        with self.arrival:
            if len(self.waiting) >= MOST_WAITING:
                self.waiting.popleft()
                self.lost += 1
            self.waiting.append(received)
            self.arrival.notify()

    def _frames(self) -> Iterator[Frame]:
        index = 0
        while (received := self._next()) is not None:
            try:
                header_ns, image, frame_id = self._decode(received.content)
            except EdgemtlError as error:
                self.events.frame_dropped(str(error))
                continue
            stamp_ns, source, uncertainty_ns = self.clock.stamp(header_ns, received.arrived_ns)
            arrived_ns = received.arrived_ns
            yield Frame(
                image,
                stamp_ns,
                self.name,
                index,
                source,
                "",
                arrived_ns,
                uncertainty_ns=min(uncertainty_ns, UNKNOWN_NS),
                frame_id=frame_id,
                lens=self.lens,
            )
            index += 1

    def _next(self) -> Received | None:
        """Return the next message, None once the camera is closed; raises `CameraError` where none comes."""
        with self.arrival:
            is_there = self.arrival.wait_for(lambda: bool(self.waiting) or self.closed, READ_S)
            lost, self.lost = self.lost, 0
            received = self.waiting.popleft() if self.waiting and not self.closed else None
        for _ in range(lost):
            self.events.frame_dropped("too slow a reader")
        if not is_there:
            raise CameraError(f"{self.label}: no image came in {READ_S:g} s")
        return received

    def close(self) -> None:
        """Stop at once."""
        super().close()
        with self.arrival:
            self.arrival.notify()

    @abstractmethod
    def _decode(self, content: Any) -> StampedImage:
        """Return what a message holds; raises `EdgemtlError`."""

    def _hint(self) -> str:
        """Return what there is in place of it, as the end of an error."""
        return ""
