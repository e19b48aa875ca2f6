"""Pairs from cameras to a recording, without a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Protocol

from .camera import Camera
from .camera.use import check_count
from .capture import Capture
from .event_log import EventLog, Listener
from .frame import FramePair
from .pairing import Pairing
from .policy import Policy
from .reading import Reading
from .stats import Stats

ROUNDING_NS = 1_000_000
"""Pairs this much closer than asked are kept: fifteen thirtieths of a second are half a second."""


class Recorder(Protocol):
    """Takes pairs, with no result."""

    def write(self, pair: FramePair, result: None = None) -> None:
        """Take one pair."""
        ...

    def close(self) -> None:
        """Finish what was written."""
        ...


class Recording(Reading[FramePair]):
    """Pairs the frames of cameras by capture time and hands them to a recorder.

    Of live cameras up to 64 pairs wait for a slow disk; what does not fit is dropped and counted. ``apart_s`` is the
    least time between two pairs that are kept; the others are counted as "not wanted". With ``trusted_only`` pairs
    that may be of two moments are not kept, and counted as "uncertain pairing". ``told`` hears events, as of a
    `Pipeline`, and it is read like one: by a loop, `read`, or `run` with a recorder.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        tolerance_ms: float,
        apart_s: float = 0.0,
        told: Listener | None = None,
        trusted_only: bool = False,
    ) -> None:
        check_count(cameras)
        self.trusted_only = trusted_only
        self.stats, self.apart_ns = Stats(), round(1e9 * apart_s)
        self.last_ns: int | None = None
        pairing = Pairing(list(cameras), round(tolerance_ms * 1e6), drop=self.stats.drop)
        live = any(camera.live for camera in cameras.values())
        policy = Policy("queue" if live else "every", depth=64)
        super().__init__(Capture(dict(cameras), pairing, policy, self.stats, EventLog(told)))

    def _next(self, timeout_s: float | None) -> FramePair | None:
        """Return the next pair that is to be kept."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (pair := self.capture.take(None if end is None else max(0.0, end - time.monotonic()))) is not None:
            if self.trusted_only and not pair.trusted:
                self.stats.drop_pair(pair, "uncertain pairing")
                continue
            if self.last_ns is not None and 0 <= pair.stamp_ns - self.last_ns < self.apart_ns - ROUNDING_NS:
                self.stats.drop_pair(pair, "not wanted")
                continue
            self.last_ns = pair.stamp_ns
            now_ns = time.monotonic_ns()
            self.stats.pair(pair, (now_ns, now_ns, now_ns), len(self.capture.cameras))
            return pair
        return None

    def run(self, recorder: Recorder, seconds: float = 0.0, count: int = 0) -> Stats:
        """Record until the cameras end, so many seconds or pairs are over, or `stop` is called.

        However it ends, the recorder is finished; what was raised, Ctrl-C among it, goes on to the caller.
        """
        timer = threading.Timer(seconds or threading.TIMEOUT_MAX, self.stop)
        timer.daemon = True
        timer.start()
        try:
            for number, pair in enumerate(self, 1):
                recorder.write(pair)
                if number == count:
                    self.stop()
        finally:
            timer.cancel()
            recorder.close()
        return self.stats
