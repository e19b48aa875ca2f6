"""Pairs from cameras to a recording, without a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from .camera import Camera
from .frame import FramePair
from .health import Event
from .intake import Intake, Policy
from .pairing import Pairing
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


class Recording:
    """Pairs the frames of cameras by capture time and hands them to a recorder.

    Of live cameras up to 64 pairs wait for a slow disk; what does not fit is dropped and counted. ``apart_s`` is the
    least time between two pairs that are kept; the others are counted as "not wanted". With ``trusted_only`` pairs
    that may be of two moments are not kept, and counted as "uncertain pairing".
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        tolerance_ms: float,
        apart_s: float = 0.0,
        told: Callable[[Event], None] = lambda event: None,
        trusted_only: bool = False,
    ) -> None:
        self.trusted_only = trusted_only
        self.stats, self.apart_ns = Stats(), round(1e9 * apart_s)
        pairing = Pairing(list(cameras), round(tolerance_ms * 1e6), drop=self.stats.drop)
        live = any(camera.live for camera in cameras.values())
        policy = Policy("queue" if live else "every", depth=64)
        self.intake = Intake(dict(cameras), pairing, policy, self.stats, told)

    def __iter__(self) -> Iterator[FramePair]:
        """Yield the pairs that are to be kept, until the cameras end or `stop` is called."""
        last_ns = None
        try:
            for pair in self.intake:
                if self.trusted_only and not pair.trusted:
                    self.stats.drop_pair(pair, "uncertain pairing")
                    continue
                if last_ns is not None and 0 <= pair.stamp_ns - last_ns < self.apart_ns - ROUNDING_NS:
                    self.stats.drop_pair(pair, "not wanted")
                    continue
                last_ns = pair.stamp_ns
                now_ns = time.monotonic_ns()
                self.stats.pair(pair, (now_ns, now_ns, now_ns), len(self.intake.cameras))
                yield pair
        finally:
            self.intake.stop()

    def run(self, recorder: Recorder, seconds: float = 0.0, count: int = 0) -> Stats:
        """Record until the cameras end, so many seconds or pairs are over, or `stop` is called; finish the recorder."""
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

    def stop(self) -> None:
        """End the recording after the pair in work."""
        self.intake.stopped = True
