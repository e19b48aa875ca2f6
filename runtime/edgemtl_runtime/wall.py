"""Unix time of moments on the monotonic clock, as the wall clock stands now: it may be set while a program runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

FRESH_NS = 100_000_000
"""The wall clock is looked at again after so long."""
TRIES = 5


class WallClock:
    """What the monotonic clock lacks to Unix time; followed when the wall clock is set, as NTP does after a start."""

    def __init__(
        self, monotonic: Callable[[], int] = time.monotonic_ns, unix: Callable[[], int] = time.time_ns
    ) -> None:
        self.monotonic, self.unix = monotonic, unix
        self.looked_ns: int | None = None
        self.kept_ns = 0

    def offset_ns(self) -> int:
        """Return Unix time less monotonic time, nanoseconds."""
        now_ns = self.monotonic()
        if self.looked_ns is None or now_ns - self.looked_ns > FRESH_NS:
            self.looked_ns, self.kept_ns = now_ns, min(self._look() for _ in range(TRIES))[1]
        return self.kept_ns

    def unix_ns(self, stamp_ns: int) -> int:
        """Return the Unix time of a moment of the monotonic clock."""
        return stamp_ns + self.offset_ns()

    def _look(self) -> tuple[int, int]:
        """Return how long a look took, and what it found; the shortest look is the best one."""
        before = self.monotonic()
        unix = self.unix()
        after = self.monotonic()
        return after - before, unix - (before + after) // 2


def utc(unix_ns: int) -> str:
    """Return Unix time as UTC in ISO 8601, to the microsecond."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):  # a recording may tell any number
        return ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


WALL = WallClock()
"""This process's."""
