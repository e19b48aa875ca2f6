"""Whose time a stamp is: recordings share an epoch, streams are mapped to the host's monotonic clock."""

from __future__ import annotations

import time
from collections import deque

PART_NS, PARTS = 10_000_000_000, 6
"""The minute that is looked back on, in parts."""
BREAK_NS = 2_000_000_000
"""A presentation time that leaps ahead of the host's by more has begun anew."""


class Epoch:
    """The common begin of what cameras play back, so that a pair of recordings stays a pair.

    ``now_ns`` is when playing began, on the monotonic clock; recordings with times of their own `begin` with their
    first one, and the earliest of all is played at ``now_ns``.
    """

    def __init__(self, now_ns: int | None = None) -> None:
        self.now_ns = time.monotonic_ns() if now_ns is None else now_ns
        self.first_ns: int | None = None

    def begin(self, stamp_ns: int) -> None:
        """Note the first stamp of a recording."""
        self.first_ns = stamp_ns if self.first_ns is None else min(self.first_ns, stamp_ns)

    def at(self, stamp_ns: int) -> int:
        """Return when a recorded moment is played, on the monotonic clock."""
        return self.now_ns + stamp_ns - (self.first_ns or 0)


class Pace:
    """Keeps a recorded source at a camera's rate: `wait` sleeps until a moment has come."""

    def __init__(self, epoch: Epoch, fps: float, paced: bool) -> None:
        self.epoch, self.period_ns, self.paced = epoch, 1e9 / fps, paced
        self.closed = False

    def wait(self, index: int) -> int:
        """Return the stamp of frame ``index``, on the monotonic clock, once it is due."""
        return self.wait_until(self.epoch.now_ns + round(index * self.period_ns))

    def wait_until(self, stamp_ns: int) -> int:
        """Return the stamp once it has come, at once where nothing is paced."""
        if self.paced:
            while not self.closed and (left := stamp_ns - time.monotonic_ns()) > 0:
                time.sleep(min(left / 1e9, 0.2))
        return stamp_ns


class SourceClock:
    """Maps a stream's presentation times to the host's monotonic clock, by the shortest way that a frame took lately.

    Frames come late in bursts, never early; so the smallest difference of arrival and presentation is the clocks'
    offset plus the shortest delay. It is that of the last minute: longer than a burst, and short enough that clocks
    which run apart, or a source that paused, are followed. A presentation time that steps back or leaps ahead begins
    anew.
    """

    def __init__(self) -> None:
        self.least: deque[tuple[int, int]] = deque(maxlen=PARTS)
        self.last: tuple[int, int] | None = None

    def stamp(self, source_ns: int, arrived_ns: int) -> int:
        """Return when a frame was taken, nanoseconds of the monotonic clock; never later than it arrived."""
        offset_ns, part = arrived_ns - source_ns, arrived_ns // PART_NS
        if self.last is not None:
            source_step, host_step = source_ns - self.last[0], arrived_ns - self.last[1]
            if source_step < 0 or source_step - host_step > BREAK_NS:
                self.least.clear()
        self.last = source_ns, arrived_ns
        while self.least and self.least[0][0] <= part - PARTS:
            self.least.popleft()
        if self.least and self.least[-1][0] == part:
            self.least[-1] = part, min(offset_ns, self.least[-1][1])
        else:
            self.least.append((part, offset_ns))
        return max(source_ns + min(least for _, least in self.least), 0)
