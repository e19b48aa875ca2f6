"""Cameras' threads on one side, the network's on the other: frames in, pairs out, every loss counted."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator

from .camera import Camera
from .errors import CameraError
from .frame import FramePair
from .pairing import Pairing

DEPTH = 8
"""Frames of one camera, or pairs, that may wait when nothing is live: recorded sources wait for the network."""


class Intake:
    """Reads each camera in a thread of its own, pairs the frames, and hands out the pairs.

    With a live camera the latest pair wins: one that was not taken in time is dropped and counted as superseded.
    Recorded sources are used to the last frame.
    """

    def __init__(
        self, cameras: dict[str, Camera], tolerance_ns: int, frames: Counter[str], drops: Counter[str]
    ) -> None:
        self.cameras = cameras
        self.live = any(camera.live for camera in cameras.values())
        for name, camera in cameras.items():
            if self.live and not camera.live:
                raise CameraError(f"--{name} is a recording beside a live camera: pace it, as in FOLDER?fps=20")
        self.pairing = Pairing(list(cameras), tolerance_ns)
        self.frames, self.drops = frames, drops
        self.pairing.drops = drops
        self.pairs: deque[FramePair] = deque()
        self.condition = threading.Condition()
        self.running = set(cameras)
        self.error: BaseException | None = None
        self.stopped = False
        self.threads = [
            threading.Thread(target=self._read, args=(name, camera), name=f"camera-{name}", daemon=True)
            for name, camera in cameras.items()
        ]

    def __iter__(self) -> Iterator[FramePair]:
        """Yield pairs until every camera has ended or `stop` is called; raises what a camera raised."""
        for thread in self.threads:
            thread.start()
        while True:
            with self.condition:
                # The timeout lets a signal handler run while nothing comes.
                while not self.pairs and not self._over() and not self.stopped:
                    self.condition.wait(0.2)
                if self.stopped or not self.pairs:
                    if self.error:
                        raise self.error
                    return
                pair = self.pairs.popleft()
                self.condition.notify_all()
            yield pair

    def stop(self) -> None:
        """End the reading; what waits is not handed out any more."""
        with self.condition:
            self.stopped = True
            self.condition.notify_all()
        for camera in self.cameras.values():
            camera.close()
        for thread in self.threads:
            if thread.is_alive():
                thread.join(timeout=2.0)

    def _read(self, name: str, camera: Camera) -> None:
        try:
            for frame in camera.frames():
                with self.condition:
                    while not self.live and self._full(name) and not self.stopped:
                        self.condition.wait(0.2)
                    if self.stopped:
                        return
                    self.frames[name] += 1
                    self._emit(self.pairing.push(frame))
        except BaseException as error:  # handed to the network's thread, which raises it
            self.error = self.error or error
        finally:
            with self.condition:
                self.running.discard(name)
                self._emit(self.pairing.end(name))
                self.condition.notify_all()

    def _over(self) -> bool:
        """Whether no pair is to come: all cameras have ended, or one has and none of its frames waits for a partner.

        Beside a camera that ended well, recordings are read to their ends, so that every frame is counted.
        """
        if not self.running or (self.live and self.error):
            return True
        ended = self.cameras.keys() - self.running
        return bool(self.live or self.error) and any(not self.pairing.waiting[name] for name in ended)

    def _full(self, name: str) -> bool:
        return len(self.pairing.waiting[name]) >= DEPTH or len(self.pairs) >= DEPTH

    def _emit(self, pairs: list[FramePair]) -> None:
        for pair in pairs:
            if self.live and self.pairs:
                self.pairs.popleft()
                self.drops["pair: superseded"] += 1
            self.pairs.append(pair)
        self.condition.notify_all()
