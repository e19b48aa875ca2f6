"""Whose time a stamp is: recordings share an epoch, streams are mapped to the host's monotonic clock."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from ..frame import UNKNOWN_NS

PART_NS, PARTS = 5_000_000_000, 6
"""The half minute that is looked back on, in parts."""
BREAK_NS = 2_000_000_000
"""A presentation time that leaps by more, beside the host's time, has begun anew."""
SETTLE_NS, SETTLE = 500_000_000, 5
"""A clock is known once so much time and so many pictures have not bettered it."""
CHECKED, GROUP = 6, 16
"""Pictures of which one comes by the shortest way, as long as the clock is right: one in each group with B-frames,
which is longer with many of them."""
USUAL = 64
"""Pictures that show how late some usually are: with B-frames those where a key frame cuts a group short, too."""
GAP_NS, GAP_INTERVALS = 250_000_000, 4
"""A stream stood still when nothing came for the longer of the two."""
SHIFT_NS, SHIFTED_NS = 1_200_000_000, 8_000_000
"""For so long every picture must be late by more than so much, and all alike, until the source's time has shifted."""
USUALLY, CHANCE = 120, 1e-3
"""Pictures that tell how often one is late by so much anyway, and the likelihood below which all of them are not."""
REPORT_NS = 10_000_000
"""Two sender reports that agree to this tell of one clock."""
FLOOR_NS = 1_500_000
"""No stamp that is told from arrivals is surer than this."""
STEP_NS = 1_000
"""Stamps of one camera rise by this at the least."""


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
        """Return when a recorded moment is played at its own speed, on the monotonic clock."""
        return self.now_ns + stamp_ns - (self.first_ns or 0)


class Pace:
    """Keeps a recorded source at a camera's rate: `wait` sleeps until a moment has come."""

    def __init__(self, epoch: Epoch, fps: float, paced: bool, speed: float = 1.0) -> None:
        self.epoch, self.period_ns, self.paced, self.speed = epoch, 1e9 / fps, paced, speed or 1.0
        self.closed = False

    def wait(self, index: int) -> int:
        """Return the stamp of frame ``index``, on the monotonic clock, once it is due."""
        return self.wait_until(self.epoch.now_ns + round(index * self.period_ns))

    def wait_until(self, stamp_ns: int) -> int:
        """Return the stamp once it is to be played, at once where nothing is paced; speed does not change stamps."""
        if self.paced:
            due_ns = self.epoch.now_ns + round((stamp_ns - self.epoch.now_ns) / self.speed)
            while not self.closed and (left := due_ns - time.monotonic_ns()) > 0:
                time.sleep(min(left / 1e9, 0.2))
        return stamp_ns


class SourceClock:
    """Maps a stream's presentation times to the host's monotonic clock, by the shortest way that a picture took lately.

    Pictures come late, never early; so the smallest difference of arrival and presentation is the clocks' offset plus
    the shortest delay. `observe` takes each picture when its first packet comes, in the order of coming; `stamp` tells
    when it was taken. ``uncertainty_ns`` says how far stamps may be off now, beside the constant delay: much while the
    clock is new, while everything comes late (a stall is made up for, or the source's time has shifted), and where
    stamps would have stepped back. A shift is believed when every picture is late by the same, and
    sender reports (`report`) do not deny it.
    """

    def __init__(self) -> None:
        self.uncertainty_ns = UNKNOWN_NS
        self.stamped_ns: int | None = None
        self.reports: deque[tuple[int, int]] = deque(maxlen=8)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the source begins anew."""
        self.least: deque[tuple[int, int]] = deque(maxlen=PARTS)
        self.recent: deque[tuple[int, int]] = deque(maxlen=256)
        self.checked: deque[int] = deque(maxlen=CHECKED)
        self.usually: deque[int] = deque(maxlen=USUALLY)
        self.latest_ns: int | None = None
        self.behind = 0
        self.lateness: deque[int] = deque(maxlen=USUAL)
        self.last: tuple[int, int] | None = None
        self.bettered_ns: int | None = None
        self.count = 0
        self.base_ns: int | None = None
        self.late_since_ns: int | None = None

    def observe(self, source_ns: int, arrived_ns: int) -> None:
        """Note when a picture of a presentation time came."""
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
        self._take_in(offset_ns, arrived_ns)
        assert self.base_ns is not None
        if offset_ns - self.base_ns > max(self.lateness, default=0) + SHIFTED_NS:
            self.checked.clear()  # later than any: until one comes in time nothing tells that the clock is right
        self.lateness.append(offset_ns - self.base_ns)
        self.checked.append(offset_ns)
        late = offset_ns - self.base_ns > SHIFTED_NS
        if not late and self.late_since_ns is not None:
            since_ns = self.late_since_ns
            self.usually.extend(each - self.base_ns for at, each in self.recent if since_ns <= at < arrived_ns)
        if not late:
            self.usually.append(offset_ns - self.base_ns)
        self.late_since_ns = (self.late_since_ns or arrived_ns) if late else None
        self._look_for_shift(arrived_ns)
        self._judge(arrived_ns)

    def report(self, unix_ns: int, source_ns: int, came_ns: int) -> None:
        """Note what the sender said of its clock when: Unix time and presentation time of one moment."""
        self.reports.append((came_ns, unix_ns - source_ns))

    def stamp(self, source_ns: int) -> tuple[int, int]:
        """Return when a picture was taken, nanoseconds of the monotonic clock, and how far that may be off."""
        stamp_ns, unsure_ns = source_ns + (self.base_ns or 0), self.uncertainty_ns
        if self.stamped_ns is not None and stamp_ns < self.stamped_ns + STEP_NS:
            back_ns = self.stamped_ns + STEP_NS - stamp_ns
            if back_ns < BREAK_NS:  # the clock was bettered since: the last stamps were too late
                stamp_ns, unsure_ns = stamp_ns + back_ns, unsure_ns + back_ns
        self.stamped_ns = stamp_ns
        return stamp_ns, min(unsure_ns, UNKNOWN_NS)

    def reported(self, source_ns: int, wall_offset_ns: int) -> int | None:
        """Return when a picture was taken by the sender's clock, on the monotonic one; None without a report."""
        return source_ns + self.reports[-1][1] - wall_offset_ns if self.reports else None

    def _count_group(self, source_ns: int) -> None:
        """Look at as many pictures as a group with B-frames has."""
        if self.latest_ns is None or source_ns > self.latest_ns:
            self.latest_ns, self.behind = source_ns, 0
            return
        self.behind += 1
        if (self.checked.maxlen or 0) <= self.behind + 1 <= GROUP:
            self.checked = deque(self.checked, maxlen=self.behind + 2)

    def _interval_ns(self) -> int:
        times = [at for at, _ in self.recent]
        return int(np.median(np.diff(times[-16:]))) if len(times) > 2 else 0

    def _take_in(self, offset_ns: int, arrived_ns: int) -> None:
        part, before_ns = arrived_ns // PART_NS, self.base_ns
        while self.least and self.least[0][0] <= part - PARTS:
            self.least.popleft()
        if self.least and self.least[-1][0] == part:
            self.least[-1] = part, min(offset_ns, self.least[-1][1])
        else:
            self.least.append((part, offset_ns))
        self.base_ns = min(least for _, least in self.least)
        self.count += 1
        if before_ns is None or before_ns - self.base_ns > SHIFTED_NS // 4:
            self.bettered_ns, self.count = arrived_ns, 1

    def _look_for_shift(self, arrived_ns: int) -> None:
        """Begin anew from the latest pictures where all of them are late by the same."""
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
        if abs(early - late) > max(SHIFTED_NS // 2, 0.15 * late) or self._denied(late) or self._by_chance(late):
            return
        self.least.clear()
        self.usually.clear()
        self.bettered_ns, self.count = arrived_ns, 1
        self._take_in(self.base_ns + min(early, late), arrived_ns)

    def _by_chance(self, late_ns: int) -> bool:
        """Whether pictures are late by so much so often anyway that a row of them tells nothing."""
        row = sum(at >= (self.late_since_ns or 0) for at, _ in self.recent)
        often = (1 + sum(each >= late_ns for each in self.usually)) / (2 + len(self.usually))
        return bool(often**row > CHANCE)

    def _denied(self, late_ns: int) -> bool:
        """Whether sender reports say that the source's time has not shifted, so that the way has become longer."""
        since_ns = self.late_since_ns
        before = [told for came, told in self.reports if since_ns is None or came < since_ns]
        after = [told for came, told in self.reports if since_ns is not None and came >= since_ns]
        return bool(before and after) and abs(after[-1] - before[-1]) < REPORT_NS < late_ns

    def _judge(self, arrived_ns: int) -> None:
        assert self.base_ns is not None and self.bettered_ns is not None
        if arrived_ns - self.bettered_ns < SETTLE_NS or self.count < SETTLE:
            self.uncertainty_ns = UNKNOWN_NS
            return
        late_ns = min(self.checked) - self.base_ns
        denied = late_ns > SHIFTED_NS and self._denied(late_ns)
        self.uncertainty_ns = FLOOR_NS + (0 if denied else late_ns)


class ArrivalClock:
    """Tells how far arrivals may be behind what they stand for, where a stream tells no times.

    Pictures that were held up come in a burst: after a gap each may be as late as the gap was long, less what the burst
    has made up for since. A delay that never changes cannot be seen from here.
    """

    def __init__(self) -> None:
        self.intervals: deque[int] = deque(maxlen=30)
        self.last_ns: int | None = None
        self.begun_ns = self.behind_ns = self.slow = 0

    def uncertainty(self, arrived_ns: int) -> int:
        """Note an arrival and return how far it may be off, nanoseconds."""
        last_ns, self.last_ns = self.last_ns, arrived_ns
        self.begun_ns = self.begun_ns or arrived_ns
        if last_ns is None or arrived_ns - self.begun_ns < SETTLE_NS:  # a stream may begin with what was kept for it
            return UNKNOWN_NS
        interval_ns = arrived_ns - last_ns
        known = np.array(self.intervals)
        if len(known) < SETTLE:
            self.intervals.append(interval_ns)
            return UNKNOWN_NS
        usual_ns = int(np.median(known))
        if interval_ns > 2 * usual_ns:
            self.behind_ns += interval_ns - usual_ns
            self.slow += 1
        elif interval_ns >= 0.7 * usual_ns:  # at its own rate: nothing was held up
            self.behind_ns = self.slow = 0
        else:
            self.behind_ns, self.slow = max(self.behind_ns - (usual_ns - interval_ns), 0), 0
        if self.slow >= SETTLE:  # the camera has another rate now
            self.intervals.clear()
            self.behind_ns = self.slow = 0
            return UNKNOWN_NS
        if not self.behind_ns:  # a burst does not tell the rate
            self.intervals.append(interval_ns)
        jitter_ns = int(np.percentile(np.abs(known - usual_ns), 80))
        return min(FLOOR_NS + self.behind_ns + jitter_ns, UNKNOWN_NS)
