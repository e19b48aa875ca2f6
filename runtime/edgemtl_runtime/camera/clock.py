"""Clocks of frames: recordings share an epoch, stream timestamps are mapped to the host's monotonic clock.

A stream's clock offset is estimated by its minimum delay (Cristian, "Probabilistic clock synchronization", 1989; NTP's
clock filter): frames arrive late, never early.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from ..frame import UNKNOWN_NS

PLAUSIBLE_NS = 5_000_000_000
"""A driver's stamp that is older than this, or in the future, is of another clock."""
PART_NS, PARTS = 5_000_000_000, 6
"""The window of the minimum delay, half a minute, in parts."""
BREAK_NS = 2_000_000_000
"""A presentation timestamp that leaps by more, compared with the host's time, restarts the clock."""
SETTLE_NS, SETTLE = 500_000_000, 5
"""The offset has converged once it has not improved for so long and for so many frames."""
CHECKED, GROUP = 6, 16
"""Frames of which one arrives with the minimum delay while the offset is right: one in each group with B-frames,
which is longer with many of them."""
LATENESS_WINDOW = 64
"""Frames that show the usual lateness: with B-frames also those where a key frame cuts a group short."""
GAP_NS, GAP_INTERVALS = 250_000_000, 4
"""A stream has stalled when nothing arrives for the longer of the two."""
SHIFT_NS, SHIFTED_NS = 1_200_000_000, 8_000_000
"""The clock offset has shifted when for so long every frame is late by more than so much, and all alike."""
HISTORY, CHANCE = 120, 1e-3
"""Frames that show how often one is that late without a shift, and the likelihood below which all of them are not."""
REPORT_NS = 10_000_000
"""Two sender reports that agree to this are of an unchanged clock."""
FLOOR_NS = 1_500_000
"""Lower bound of the uncertainty of stamps that are estimated from arrivals."""
STEP_NS = 1_000
"""Minimum step between the stamps of one camera."""


class Epoch:
    """Common time origin of recordings that are played back, so that a pair of recordings stays a pair.

    ``now_ns`` is when playing began, on the monotonic clock; recordings with capture times `begin` with their
    first one, and the earliest of all is played at ``now_ns``.
    """

    def __init__(self, now_ns: int | None = None) -> None:
        self.now_ns = time.monotonic_ns() if now_ns is None else now_ns
        self.first_ns: int | None = None

    def begin(self, stamp_ns: int) -> None:
        """Register the first stamp of a recording."""
        self.first_ns = stamp_ns if self.first_ns is None else min(self.first_ns, stamp_ns)

    def at(self, stamp_ns: int) -> int:
        """Return the playback time of a recorded stamp at speed 1, on the monotonic clock."""
        return self.now_ns + stamp_ns - (self.first_ns or 0)


class Pace:
    """Playback pacing of a recording at a rate or speed: `wait` sleeps until a frame is due."""

    def __init__(self, epoch: Epoch, fps: float, paced: bool, speed: float = 1.0) -> None:
        self.epoch, self.period_ns, self.paced, self.speed = epoch, 1e9 / fps, paced, speed or 1.0
        self.closed = False

    def wait(self, index: int) -> int:
        """Return the stamp of frame ``index``, on the monotonic clock, once it is due."""
        return self.wait_until(self.epoch.now_ns + round(index * self.period_ns))

    def wait_until(self, stamp_ns: int) -> int:
        """Return the stamp once it is due, at once where nothing is paced; speed does not change stamps."""
        if self.paced:
            due_ns = self.epoch.now_ns + round((stamp_ns - self.epoch.now_ns) / self.speed)
            while not self.closed and (left := due_ns - time.monotonic_ns()) > 0:
                time.sleep(min(left / 1e9, 0.2))
        return stamp_ns


class SourceClock:
    """Clock offset filter: maps a stream's presentation timestamps to the host's monotonic clock by the minimum delay.

    Frames arrive late, never early; so the smallest difference of arrival and presentation is the clocks' offset plus
    the shortest delay. `observe` takes each frame when its first packet arrives, in the order of arrival; `stamp`
    returns its capture time. ``uncertainty_ns`` is how far stamps may be off now, apart from the constant delay: large
    while the clock is new, while everything arrives late (after a stall, or after a shift of the source's clock), and
    where stamps would have stepped back. A shift is accepted when every frame is late by the same, and RTCP sender
    reports (`report`) do not contradict it.
    """

    def __init__(self) -> None:
        self.uncertainty_ns = UNKNOWN_NS
        self.stamped_ns: int | None = None
        self.reports: deque[tuple[int, int]] = deque(maxlen=8)
        self.reset()

    def reset(self) -> None:
        """Reset the filter: the source has restarted."""
        self.minima: deque[tuple[int, int]] = deque(maxlen=PARTS)
        """Part of the window and the minimum offset in it."""
        self.recent: deque[tuple[int, int]] = deque(maxlen=256)
        self.checked: deque[int] = deque(maxlen=CHECKED)
        self.usual_lateness: deque[int] = deque(maxlen=HISTORY)
        self.latest_ns: int | None = None
        self.reordered = 0
        self.lateness: deque[int] = deque(maxlen=LATENESS_WINDOW)
        self.last: tuple[int, int] | None = None
        self.improved_ns: int | None = None
        self.count = 0
        self.base_ns: int | None = None
        self.late_since_ns: int | None = None

    def observe(self, source_ns: int, arrived_ns: int) -> None:
        """Observe the arrival of a frame with its presentation timestamp."""
        if self.last is not None:
            step_ns = arrived_ns - self.last[1]
            if abs(source_ns - self.last[0] - step_ns) > BREAK_NS and step_ns < BREAK_NS:
                self.reset()
                self.stamped_ns = None
            elif step_ns > max(GAP_NS, GAP_INTERVALS * self._interval_ns()):
                self.recent.clear()
                self.checked.clear()
        self.last = source_ns, arrived_ns
        offset_ns = arrived_ns - source_ns
        self.recent.append((arrived_ns, offset_ns))
        self._count_group(source_ns)
        self._update_minimum(offset_ns, arrived_ns)
        assert self.base_ns is not None
        if offset_ns - self.base_ns > max(self.lateness, default=0) + SHIFTED_NS:
            self.checked.clear()  # later than any: until one arrives in time the offset is unconfirmed
        self.lateness.append(offset_ns - self.base_ns)
        self.checked.append(offset_ns)
        late = offset_ns - self.base_ns > SHIFTED_NS
        if not late and self.late_since_ns is not None:
            since_ns = self.late_since_ns
            self.usual_lateness.extend(
                offset - self.base_ns for at, offset in self.recent if since_ns <= at < arrived_ns
            )
        if not late:
            self.usual_lateness.append(offset_ns - self.base_ns)
        self.late_since_ns = (self.late_since_ns or arrived_ns) if late else None
        self._detect_shift(arrived_ns)
        self._update_uncertainty(arrived_ns)

    def report(self, unix_ns: int, source_ns: int, arrived_ns: int) -> None:
        """Observe an RTCP sender report: Unix time and presentation timestamp of one time of the sender's clock."""
        self.reports.append((arrived_ns, unix_ns - source_ns))

    def stamp(self, source_ns: int) -> tuple[int, int]:
        """Return a frame's capture time on the monotonic clock and its uncertainty, nanoseconds."""
        stamp_ns, uncertainty_ns = source_ns + (self.base_ns or 0), self.uncertainty_ns
        if self.stamped_ns is not None and stamp_ns < self.stamped_ns + STEP_NS:
            back_ns = self.stamped_ns + STEP_NS - stamp_ns
            if back_ns < BREAK_NS:  # the offset has improved since: the last stamps were too late
                stamp_ns, uncertainty_ns = stamp_ns + back_ns, uncertainty_ns + back_ns
        self.stamped_ns = stamp_ns
        return stamp_ns, min(uncertainty_ns, UNKNOWN_NS)

    def reported(self, source_ns: int, wall_offset_ns: int) -> int | None:
        """Return a frame's capture time by the sender's clock, on the monotonic clock; None without a report."""
        return source_ns + self.reports[-1][1] - wall_offset_ns if self.reports else None

    def _count_group(self, source_ns: int) -> None:
        """Adapt the number of checked frames to the length of a group with B-frames."""
        if self.latest_ns is None or source_ns > self.latest_ns:
            self.latest_ns, self.reordered = source_ns, 0
            return
        self.reordered += 1
        if (self.checked.maxlen or 0) <= self.reordered + 1 <= GROUP:
            self.checked = deque(self.checked, maxlen=self.reordered + 2)

    def _interval_ns(self) -> int:
        times = [at for at, _ in self.recent]
        return int(np.median(np.diff(times[-16:]))) if len(times) > 2 else 0

    def _update_minimum(self, offset_ns: int, arrived_ns: int) -> None:
        part, previous_ns = arrived_ns // PART_NS, self.base_ns
        while self.minima and self.minima[0][0] <= part - PARTS:
            self.minima.popleft()
        if self.minima and self.minima[-1][0] == part:
            self.minima[-1] = part, min(offset_ns, self.minima[-1][1])
        else:
            self.minima.append((part, offset_ns))
        self.base_ns = min(offset for _, offset in self.minima)
        self.count += 1
        if previous_ns is None or previous_ns - self.base_ns > SHIFTED_NS // 4:
            self.improved_ns, self.count = arrived_ns, 1

    def _detect_shift(self, arrived_ns: int) -> None:
        """Restart the filter from the latest frames where all of them are late by the same."""
        assert self.base_ns is not None
        if self.late_since_ns is None:
            return
        window = [(at, offset - self.base_ns) for at, offset in self.recent if arrived_ns - at <= SHIFT_NS]
        whole = self.recent[0][0] <= arrived_ns - SHIFT_NS
        if not whole or len(window) < SETTLE or min(late for _, late in window) < SHIFTED_NS:
            return
        middle = arrived_ns - SHIFT_NS // 2
        halves = [[late for at, late in window if (at < middle) is first] for first in (True, False)]
        if not all(halves):
            return
        early, late = min(halves[0]), min(halves[1])
        if abs(early - late) > max(SHIFTED_NS // 2, 0.15 * late) or self._contradicted(late) or self._is_chance(late):
            return
        self.minima.clear()
        self.usual_lateness.clear()
        self.improved_ns, self.count = arrived_ns, 1
        self._update_minimum(self.base_ns + min(early, late), arrived_ns)

    def _is_chance(self, late_ns: int) -> bool:
        """Whether frames are that late so often anyway that a run of them is no evidence of a shift."""
        run = sum(at >= (self.late_since_ns or 0) for at, _ in self.recent)
        frequency = (1 + sum(lateness >= late_ns for lateness in self.usual_lateness)) / (2 + len(self.usual_lateness))
        return bool(frequency**run > CHANCE)

    def _contradicted(self, late_ns: int) -> bool:
        """Whether sender reports show that the source's clock has not shifted, so that the delay has grown."""
        since_ns = self.late_since_ns
        before = [offset for at, offset in self.reports if since_ns is None or at < since_ns]
        after = [offset for at, offset in self.reports if since_ns is not None and at >= since_ns]
        return bool(before and after) and abs(after[-1] - before[-1]) < REPORT_NS < late_ns

    def _update_uncertainty(self, arrived_ns: int) -> None:
        assert self.base_ns is not None and self.improved_ns is not None
        if arrived_ns - self.improved_ns < SETTLE_NS or self.count < SETTLE:
            self.uncertainty_ns = UNKNOWN_NS
            return
        late_ns = min(self.checked) - self.base_ns
        contradicted = late_ns > SHIFTED_NS and self._contradicted(late_ns)
        self.uncertainty_ns = FLOOR_NS + (0 if contradicted else late_ns)


class ArrivalClock:
    """Uncertainty of arrival times as capture times, where a stream has no timestamps.

    Frames that were delayed arrive in a burst: after a gap each may be as late as the gap was long, less what the burst
    has caught up since. A constant delay cannot be observed.
    """

    def __init__(self) -> None:
        self.intervals: deque[int] = deque(maxlen=30)
        self.last_ns: int | None = None
        self.first_ns = self.backlog_ns = self.slow = 0

    def uncertainty(self, arrived_ns: int) -> int:
        """Observe an arrival and return its uncertainty, nanoseconds."""
        last_ns, self.last_ns = self.last_ns, arrived_ns
        self.first_ns = self.first_ns or arrived_ns
        # a stream may begin with a burst of buffered frames
        if last_ns is None or arrived_ns - self.first_ns < SETTLE_NS:
            return UNKNOWN_NS
        interval_ns = arrived_ns - last_ns
        intervals = np.array(self.intervals)
        if len(intervals) < SETTLE:
            self.intervals.append(interval_ns)
            return UNKNOWN_NS
        usual_ns = int(np.median(intervals))
        if interval_ns > 2 * usual_ns:
            self.backlog_ns += interval_ns - usual_ns
            self.slow += 1
        elif interval_ns >= 0.7 * usual_ns:  # at its own rate: no backlog
            self.backlog_ns = self.slow = 0
        else:
            self.backlog_ns, self.slow = max(self.backlog_ns - (usual_ns - interval_ns), 0), 0
        if self.slow >= SETTLE:  # the camera's rate has changed
            self.intervals.clear()
            self.backlog_ns = self.slow = 0
            return UNKNOWN_NS
        if not self.backlog_ns:  # a burst is not at the camera's rate
            self.intervals.append(interval_ns)
        jitter_ns = int(np.percentile(np.abs(intervals - usual_ns), 80))
        return min(FLOOR_NS + self.backlog_ns + jitter_ns, UNKNOWN_NS)
