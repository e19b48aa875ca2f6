"""Two streams to pairs by capture time."""

from __future__ import annotations

from collections import Counter, deque

from .frame import Frame, FramePair


class Pairing:
    """Pairs each frame with the nearest of the other camera, if that is within a tolerance.

    A pair is emitted as soon as no better partner can come: the next frame of the earlier camera is there and is
    farther off, or that camera's smallest interval so far says that it will be. Frames left without a partner are
    counted in ``drops`` by camera; at most ``depth`` frames of a camera wait for one that is silent. With one camera
    every frame is a pair of its own.
    """

    def __init__(self, cameras: list[str], tolerance_ns: int, depth: int = 16) -> None:
        if not 1 <= len(cameras) <= 2:
            raise ValueError(f"pairing takes one or two cameras, not {len(cameras)}")
        self.cameras = cameras
        self.tolerance_ns = tolerance_ns
        self.depth = depth
        self.waiting: dict[str, deque[Frame]] = {name: deque() for name in cameras}
        self.interval_ns: dict[str, int] = dict.fromkeys(cameras, 0)
        self.last_ns: dict[str, int] = {}
        self.ended: set[str] = set()
        self.drops: Counter[str] = Counter()

    def push(self, frame: Frame) -> list[FramePair]:
        """Take in a frame (stamps of a camera must rise) and return the pairs that are now certain."""
        name = frame.camera
        if name in self.last_ns:
            step = frame.stamp_ns - self.last_ns[name]
            if step <= 0:
                self.drops[f"{name}: stamp did not rise"] += 1
                return []
            known = self.interval_ns[name]
            self.interval_ns[name] = min(known, step) if known else step
        self.last_ns[name] = frame.stamp_ns
        self.waiting[name].append(frame)
        pairs = self._match()
        if len(self.waiting[name]) > self.depth:
            self._drop(self.waiting[name][0])
        return pairs

    def end(self, name: str) -> list[FramePair]:
        """Note that a camera has ended and return the pairs that are now certain."""
        self.ended.add(name)
        return self._match()

    def _match(self) -> list[FramePair]:
        pairs = []
        if len(self.cameras) == 1:
            (queue,) = self.waiting.values()
            while queue:
                frame = queue.popleft()
                pairs.append(FramePair({frame.camera: frame}))
            return pairs
        first, second = self.cameras
        while self.waiting[first] and self.waiting[second]:
            a, b = self.waiting[first][0], self.waiting[second][0]
            early, late = (a, b) if a.stamp_ns <= b.stamp_ns else (b, a)
            gap = late.stamp_ns - early.stamp_ns
            closer = self._closer(early, late, gap)
            if closer is None:
                return pairs
            if closer or gap > self.tolerance_ns:
                self._drop(early)
                continue
            self.waiting[first].popleft()
            self.waiting[second].popleft()
            pairs.append(FramePair({first: a, second: b}))
        for name, other in ((first, second), (second, first)):
            while other in self.ended and not self.waiting[other] and self.waiting[name]:
                self._drop(self.waiting[name][0])
        return pairs

    def _closer(self, early: Frame, late: Frame, gap: int) -> bool | None:
        """Whether the earlier camera has a frame nearer to ``late`` than ``early``; None while that is open."""
        if not gap:
            return False
        queue = self.waiting[early.camera]
        if len(queue) > 1:
            return abs(queue[1].stamp_ns - late.stamp_ns) < gap
        if early.camera in self.ended or gap > self.tolerance_ns:
            return False
        interval = self.interval_ns[early.camera]
        return False if interval and interval - gap >= gap else None

    def _drop(self, frame: Frame) -> None:
        self.waiting[frame.camera].popleft()
        self.drops[f"{frame.camera}: no partner"] += 1
