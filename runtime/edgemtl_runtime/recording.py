"""Recording of image pairs from cameras, without inference."""

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
from .group_pairing import pairing_of
from .policy import QueuePolicy
from .reading import Reading
from .renamed_names import renamed_arguments
from .stats import Stats

ROUNDING_NS = 1_000_000
"""Tolerance of the minimum interval: fifteen thirtieths of a second are half a second."""


class Recorder(Protocol):
    """Writer of pairs without a result."""

    def write(self, pair: FramePair, result: None = None) -> None:
        """Write one pair."""
        ...

    def close(self) -> None:
        """Finish the files."""
        ...


class Recording(Reading[FramePair]):
    """Pairs the frames of cameras by capture time and hands them to a recorder.

    Of live cameras up to 64 pairs wait for a slow disk; further ones are dropped and counted. ``min_interval_s`` is the
    least time between two pairs that are kept; the others are counted as "not wanted". With ``trusted_only`` pairs
    whose images may not have been taken together are counted as "uncertain pairing" and not kept. ``on_event`` is
    called with events, as of a `Pipeline`, and pairs are read as there: by a loop, `read`, or `run` with a recorder.
    """

    @renamed_arguments(apart_s="min_interval_s", told="on_event")
    def __init__(
        self,
        cameras: Mapping[str, Camera],
        tolerance_ms: float,
        min_interval_s: float = 0.0,
        on_event: Listener | None = None,
        trusted_only: bool = False,
    ) -> None:
        check_count(cameras)
        self.trusted_only = trusted_only
        self.stats, self.min_interval_ns = Stats(), round(1e9 * min_interval_s)
        self.last_ns: int | None = None
        pairing = pairing_of(list(cameras), round(tolerance_ms * 1e6), drop=self.stats.drop)
        live = any(camera.live for camera in cameras.values())
        policy = QueuePolicy("queue" if live else "every", size=64)
        super().__init__(Capture(dict(cameras), pairing, policy, self.stats, EventLog(on_event)))

    def _next(self, timeout_s: float | None) -> FramePair | None:
        """Return the next pair to keep."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (pair := self.capture.take(None if end is None else max(0.0, end - time.monotonic()))) is not None:
            if self.trusted_only and not pair.trusted:
                self.stats.drop_pair(pair, "uncertain pairing")
                continue
            if self.last_ns is not None and 0 <= pair.stamp_ns - self.last_ns < self.min_interval_ns - ROUNDING_NS:
                self.stats.drop_pair(pair, "not wanted")
                continue
            self.last_ns = pair.stamp_ns
            now_ns = time.monotonic_ns()
            self.stats.pair(pair, (now_ns, now_ns, now_ns), len(self.capture.cameras))
            return pair
        return None

    def run(self, recorder: Recorder, seconds: float = 0.0, count: int = 0) -> Stats:
        """Record until the cameras end, after ``seconds`` or ``count`` pairs (0: no bound), or until `stop`.

        The recorder is always finished; errors, `KeyboardInterrupt` among them, are raised to the caller.
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
