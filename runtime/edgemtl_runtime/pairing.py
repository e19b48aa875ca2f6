"""Pairing of two cameras' frames by capture time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

import numpy as np

from .frame import Frame, FramePair

LOOK_BACK = 64
"""Latest intervals of a camera, of which its smallest one is estimated."""
JUMP_NS = 1_000_000_000
STUCK = 3
"""A live stamp that falls back by more than `JUMP_NS`, or this many in a row that do not rise, start a new era."""
LONE = 6
"""After so many frames of a camera past where the other's era began, the camera's stamps do not fall back."""
HOLD_NS = 1_000_000_000
"""For so long a frame waits for a late match."""
UNMATCHED = 30
"""Frames of each camera in a row without a pair after which a warning is due."""


class Pairing:
    """Nearest-neighbour matching of two cameras' frames in time, within a tolerance.

    A pair is emitted as soon as no better match can come: the next frame of the earlier camera has come and is farther
    off, or by that camera's smallest interval so far it will be. ``drop`` is called with (camera, cause) for frames
    without a match; at most ``depth`` frames of a camera, and those of a second, wait for a late one. While a camera
    is known to be silent (`leave`), the other's frames are emitted as pairs of one where the silent one is in
    ``optional``. With one camera every frame is a pair of one.

    A pair is trusted where its skew is within the tolerance for any error of its stamps within their uncertainty.
    Frames with a `Frame.sample_id` are paired by it. Where stamps fall back, a recording's at once and a camera's when
    it is certain, a new era begins, and frames of two eras are never paired.
    """

    def __init__(
        self,
        cameras: list[str],
        tolerance_ns: int,
        depth: int = 64,
        optional: Collection[str] = (),
        drop: Callable[[str, str], None] = lambda camera, cause: None,
    ) -> None:
        if not 1 <= len(cameras) <= 2:
            raise ValueError(f"pairing takes one or two cameras, not {len(cameras)}")
        self.cameras = cameras
        self.tolerance_ns = tolerance_ns
        self.depth = depth
        self.hold_ns = HOLD_NS
        self.optional = frozenset(optional)
        self.drop = drop
        self.waiting: dict[str, deque[Frame]] = {name: deque() for name in cameras}
        self.intervals: dict[str, deque[int]] = {name: deque(maxlen=LOOK_BACK) for name in cameras}
        self.eras: dict[str, deque[int]] = {name: deque() for name in cameras}
        self.era: dict[str, int] = dict.fromkeys(cameras, 0)
        self.past_jump: dict[str, int] = dict.fromkeys(cameras, 0)
        self.left_ns: dict[tuple[str, int], int] = {}
        """The last stamp of a camera in an era."""
        self.last_ns: dict[str, int] = {}
        self.stuck: dict[str, int] = dict.fromkeys(cameras, 0)
        self.ended: set[str] = set()
        self.silent: set[str] = set()
        self.gaps: deque[int] = deque(maxlen=UNMATCHED)
        self.unmatched: dict[str, int] = dict.fromkeys(cameras, 0)
        self.warned = False

    def push(self, frame: Frame) -> list[FramePair]:
        """Add a frame and return the pairs that are now certain; its camera is silent no more."""
        name = frame.camera
        self.silent.discard(name)
        if not self._rises(frame):
            self.report_drop(frame, "stamp did not rise")
            return []
        self.waiting[name].append(frame)
        self.eras[name].append(self.era[name])
        pairs = self._match()
        queue, eras = self.waiting[name], self.eras[name]
        while queue and (
            len(queue) > self.depth or (eras[0] == self.era[name] and frame.stamp_ns - queue[0].stamp_ns > self.hold_ns)
        ):
            self._drop(name)
        return pairs

    def end(self, name: str) -> list[FramePair]:
        """Mark a camera as ended and return the pairs that are now certain."""
        self.ended.add(name)
        return self._match()

    def leave(self, name: str) -> list[FramePair]:
        """Mark a camera as silent, until its next frame, and return the pairs that need not wait for it."""
        if name in self.silent:
            return []
        self.silent.add(name)
        return self._match()

    def interval_ns(self, name: str) -> int:
        """Return the 20th percentile of a camera's latest intervals; 0 where none is known.

        Shorter ones are bursts, of a stream that begins or a network that stood still: they are not its rate.
        """
        known = sorted(self.intervals[name])
        return known[len(known) // 5] if known else 0

    def warning(self) -> str:
        """Return, once for each time that nothing matches, what is wrong and what to do; empty otherwise."""
        if len(self.cameras) < 2 or self.warned or min(self.unmatched.values()) < UNMATCHED:
            return ""
        self.warned = True
        first, second = self.cameras
        # Frames lie after one of the other camera and before the next: the shorter way is the likelier offset.
        if len(self.gaps) < UNMATCHED // 2:  # the one's frames had been dropped when the other's came
            return (
                f"no frame of {first} lies within {self.tolerance_ns / 1e6:g} ms of one of {second}, nor within "
                f"{HOLD_NS / 1e9:g} s of it: look at the cameras' clocks, or give one ?offset_ms="
            )
        sides = [[gap for gap in self.gaps if (gap > 0) is after] for after in (True, False)]
        gap_ms = round(min((float(np.median(side)) for side in sides if side), key=abs, default=0.0) / 1e6)
        late, early = (second, first) if gap_ms > 0 else (first, second)
        return (
            f"no frame of {first} lies within {self.tolerance_ns / 1e6:g} ms of one of {second}; lately those of "
            f"{late} came {abs(gap_ms)} ms after the nearest of {early}: if that is constant, add "
            f"?offset_ms={-abs(gap_ms)} to --{late}; if not, a larger --tolerance-ms, or look at the cameras' clocks"
        )

    def _rises(self, frame: Frame) -> bool:
        """Record a frame's stamp and return whether it rises, or starts a new era."""
        name, last_ns = frame.camera, self.last_ns.get(frame.camera)
        if last_ns is not None:
            step = frame.stamp_ns - last_ns
            if step <= 0:
                self.stuck[name] += 1
                recorded = frame.stamp_source in ("file", "rate") and step < 0
                if not recorded and step > -JUMP_NS and self.stuck[name] < STUCK:
                    return False
                self.left_ns[name, self.era[name]] = last_ns
                self.era[name] += 1
                self.intervals[name].clear()
            else:
                self.intervals[name].append(step)
        self.stuck[name] = 0
        self.last_ns[name] = frame.stamp_ns
        self._follow(frame)
        return True

    def _follow(self, frame: Frame) -> None:
        """Move a camera to the other's new era where its stamps do not fall back with the other's."""
        name, newest = frame.camera, max(self.era.values())
        if self.era[name] == newest:
            self.past_jump[name] = 0
            self.left_ns = {key: left for key, left in self.left_ns.items() if key[1] >= min(self.era.values())}
            return
        other = next(camera for camera in self.cameras if camera != name)
        self.past_jump[name] += frame.stamp_ns > self.left_ns[other, self.era[name]]
        if self.past_jump[name] > LONE:
            self.era[name], self.past_jump[name] = newest, 0

    def _match(self) -> list[FramePair]:
        pairs = []
        if len(self.cameras) == 1:
            (queue,) = self.waiting.values()
            while queue:
                pairs.append(self._single(self._take(self.cameras[0])))
            return pairs
        first, second = self.cameras
        while self.waiting[first] and self.waiting[second]:
            a, b = self.waiting[first][0], self.waiting[second][0]
            if self.eras[first][0] != self.eras[second][0]:
                pairs += self._drop(min(self.cameras, key=lambda name: self.eras[name][0]))
                continue
            early, late = (a, b) if a.stamp_ns <= b.stamp_ns else (b, a)
            gap = late.stamp_ns - early.stamp_ns
            apart = self._apart(early, late, gap)
            if apart is None:
                break
            if apart:
                self.gaps.append(b.stamp_ns - a.stamp_ns)
                pairs += self._drop(early.camera)
                continue
            pairs.append(self._pair(a, b, gap))
        for name, other in ((first, second), (second, first)):
            idle = other in self.silent or other in self.ended
            while idle and not self.waiting[other] and self.waiting[name]:
                pairs += self._drop(name)
        return pairs

    def _pair(self, a: Frame, b: Frame, gap: int) -> FramePair:
        """Remove both first frames from their queues and return them as a pair."""
        for name in self.cameras:
            self._take(name)
        self.unmatched, self.warned = dict.fromkeys(self.cameras, 0), False
        same_sample = bool(a.sample_id) and a.sample_id == b.sample_id
        trusted = same_sample or gap + a.uncertainty_ns + b.uncertainty_ns <= self.tolerance_ns
        return FramePair({a.camera: a, b.camera: b}, trusted)

    def _single(self, frame: Frame) -> FramePair:
        return FramePair({frame.camera: frame}, frame.uncertainty_ns <= self.tolerance_ns)

    def _take(self, name: str) -> Frame:
        self.eras[name].popleft()
        return self.waiting[name].popleft()

    def _apart(self, early: Frame, late: Frame, gap: int) -> bool | None:
        """Whether the first two frames are no pair; None while that is open."""
        if early.sample_id and late.sample_id:
            return early.sample_id != late.sample_id
        closer = self._closer(early, late, gap)
        return closer if closer is None else closer or gap > self.tolerance_ns

    def _closer(self, early: Frame, late: Frame, gap: int) -> bool | None:
        """Whether the earlier camera has a frame nearer to ``late`` than ``early``; None while that is open."""
        if not gap:
            return False
        queue = self.waiting[early.camera]
        if len(queue) > 1:
            if self.eras[early.camera][1] != self.eras[early.camera][0]:
                return False
            return abs(queue[1].stamp_ns - late.stamp_ns) < gap
        if early.camera in self.ended or early.camera in self.silent or gap > self.tolerance_ns:
            return False
        interval = self.interval_ns(early.camera)
        return False if interval and interval - gap >= gap else None

    def _drop(self, name: str, cause: str = "no partner") -> list[FramePair]:
        """Emit a camera's first waiting frame as a pair of one where the other is silent and optional, else drop it."""
        frame = self._take(name)
        (other,) = set(self.cameras) - {name}
        if other in self.silent and other in self.optional and cause == "no partner":
            return [self._single(frame)]
        self.unmatched[name] += 1
        self.report_drop(frame, cause)
        return []

    def report_drop(self, frame: Frame, cause: str) -> None:
        """Report a frame that has no match."""
        self.drop(frame.camera, cause)
