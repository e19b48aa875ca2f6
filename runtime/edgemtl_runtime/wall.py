"""Unix time of stamps of the monotonic clock, by the present wall clock: it may be set while a program runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

FRESH_NS = 100_000_000
"""The offset is measured again after so long."""
TRIES = 5


class WallClock:
    """Offset of the monotonic clock to Unix time; it follows when the wall clock is set, as NTP does after a start."""

    def __init__(
        self, monotonic: Callable[[], int] = time.monotonic_ns, unix: Callable[[], int] = time.time_ns
    ) -> None:
        self.monotonic, self.unix = monotonic, unix
        self.measured_ns: int | None = None
        self.cached_ns = 0

    def offset_ns(self) -> int:
        """Return Unix time less monotonic time, nanoseconds."""
        now_ns = self.monotonic()
        if self.measured_ns is None or now_ns - self.measured_ns > FRESH_NS:
            self.measured_ns, self.cached_ns = now_ns, min(self._measure() for _ in range(TRIES))[1]
        return self.cached_ns

    def unix_ns(self, stamp_ns: int) -> int:
        """Return the Unix time of a stamp of the monotonic clock."""
        return stamp_ns + self.offset_ns()

    def _measure(self) -> tuple[int, int]:
        """Return how long a measurement took, and the offset; the shortest measurement is the most exact."""
        before = self.monotonic()
        unix = self.unix()
        after = self.monotonic()
        return after - before, unix - (before + after) // 2


def utc(unix_ns: int) -> str:
    """Return Unix time as UTC in ISO 8601, to the microsecond."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    try:
        time_utc = datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):  # a recording may hold any number
        return ""
    return f"{time_utc:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


WALL = WallClock()
"""The clock of this process."""
