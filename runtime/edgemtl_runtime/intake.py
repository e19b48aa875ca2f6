"""Cameras' threads on one side, the network's on the other: frames in, pairs out, every loss counted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from .camera import Camera
from .errors import CameraError, EdgemtlError
from .frame import Frame, FramePair
from .health import Event, Health
from .pairing import Pairing
from .stats import Stats

WAIT_S = 0.1
"""How often waiting threads look up: for signals, silent cameras and the end."""
STALE_NS = 250_000_000
"""A camera that repeats its picture for longer is stale: a thermal camera's shutter, or a frozen one."""
SILENT_NS = 300_000_000
SILENT_INTERVALS = 3
"""A camera is silent after the longer of the two: a time, or some of its own intervals."""
START_NS = 5_000_000_000
"""A camera may take so long to start before it is called lost."""
Fitter = Callable[[Frame], Frame]


@dataclass(frozen=True)
class Policy:
    """What happens to pairs that the network has no time for, and to those that are too old.

    "latest": only the newest waits. "queue": up to ``depth`` wait, the oldest goes. "every": cameras wait for the
    network, which recordings can and live cameras cannot. "auto": "every" for recordings, "latest" where one is live.
    A pair whose frames are older than ``max_age_ms`` is not run; 0 sets no bound.
    """

    kind: Literal["auto", "latest", "queue", "every"] = "auto"
    depth: int = 8
    max_age_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "latest", "queue", "every"):
            raise EdgemtlError(f"policy '{self.kind}': is not one of auto, latest, queue, every")
        if not 1 <= self.depth <= 1000 or not 0 <= self.max_age_ms < 1e6:
            raise EdgemtlError(
                "a policy's depth lies between 1 and 1000, max_age_ms between 0 (no bound) and a million"
            )

    def of(self, live: bool) -> Policy:
        """Return the policy with "auto" decided."""
        if self.kind == "every" and live:
            raise EdgemtlError("policy 'every' is for recordings: a live camera does not wait; take 'queue'")
        kind = ("latest" if live else "every") if self.kind == "auto" else self.kind
        return replace(self, kind=kind, depth=1 if kind == "latest" else self.depth)


class Intake:
    """Reads each camera in a thread of its own, fits and pairs the frames, and hands out the pairs.

    A frame is fitted for the network where it is read, so that a pair is ready when it is complete.
    """

    def __init__(
        self,
        cameras: dict[str, Camera],
        pairing: Pairing,
        policy: Policy,
        stats: Stats,
        told: Callable[[Event], None],
        fit: Fitter | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        degrade: bool = False,
    ) -> None:
        self.degrade = degrade
        self.cameras, self.pairing, self.stats, self.told, self.clock = cameras, pairing, stats, told, clock
        self.live = any(camera.live for camera in cameras.values())
        for name, camera in cameras.items():
            if self.live and not camera.live:
                raise CameraError(f"--{name} is a recording beside a live camera: pace it, as in FOLDER?fps=20")
        self.policy = policy.of(self.live)
        if self.policy.kind == "every":  # one that is read ahead waits for the other, however long
            pairing.hold_ns = 1 << 62
        self.fit = fit
        self.health = {name: Health(name, told, clock) for name in cameras}
        for name, camera in cameras.items():
            if hasattr(camera, "told"):  # one that is opened again when it fails, and says so
                camera.told = self.health[name].set
            if hasattr(camera, "dropped"):
                camera.dropped = partial(self._not_given, name)
        self.pairs: deque[FramePair] = deque()
        self.condition = threading.Condition()
        self.running = set(cameras)
        self.failed: set[str] = set()
        self.error: BaseException | None = None
        self.stopped = False
        self.begun_ns = clock()
        self.threads = [
            threading.Thread(target=self._read, args=(name, camera), name=f"camera-{name}", daemon=True)
            for name, camera in cameras.items()
        ]

    def __iter__(self) -> Iterator[FramePair]:
        """Yield pairs until every camera has ended or `stop` is called; raises what a camera raised."""
        self.begun_ns = self.clock()
        for thread in self.threads:
            thread.start()
        while True:
            with self.condition:
                while not self.pairs and not self._over() and not self.stopped:
                    # The timeout lets a signal handler run, and silence be noticed, while nothing comes.
                    self.condition.wait(WAIT_S)
                    self._notice_silence()
                if self.stopped or not self.pairs:
                    if self.error:
                        raise self.error
                    return
                pair = self.pairs.popleft()
                self.condition.notify_all()
            if self._too_old(pair):
                self.stats.drop_pair(pair, f"older than {self.policy.max_age_ms:g} ms")
            else:
                yield pair

    def stop(self) -> None:
        """End the reading; what waits is counted and not handed out any more."""
        with self.condition:
            self.stopped = True
            self.condition.notify_all()
        for camera in self.cameras.values():
            camera.close()
        for thread in self.threads:
            if thread.is_alive():
                thread.join(timeout=3.0)
        with self.condition:
            while self.pairs:
                self.stats.drop_pair(self.pairs.popleft(), "left at the end")
            for name, queue in self.pairing.waiting.items():
                self.stats.drop(name, "left at the end", len(queue)) if queue else None
                queue.clear()

    def _read(self, name: str, camera: Camera) -> None:
        health, stats = self.health[name], self.stats
        repeats = Repeats()
        try:
            for given in camera.frames():
                with self.condition:
                    while self.policy.kind == "every" and self._full(name) and not self.stopped:
                        self.condition.wait(WAIT_S)
                    if self.stopped:
                        return
                    stats.frames[name] += 1
                # asked each time: a device may be opened late, and what a codec made says nothing
                if getattr(camera, "drops_repeats", False) and (stale_ns := repeats.look(given)) is not None:
                    self._repeated(name, stale_ns)
                    continue
                if (frame := self._fitted(given)) is None:
                    continue
                with self.condition:
                    health.frame(frame)
                    self._emit(self.pairing.push(frame))
                    self._notice_silence()
            health.set("ended")
        except BaseException as error:  # handed to the network's thread, which raises it
            health.set("lost", str(error) or repr(error))
            if self._can_do_without(name):
                return
            self.error = self.error or error
        finally:
            with self.condition:
                self.running.discard(name)
                self._emit(self.pairing.leave(name) if name in self.failed else self.pairing.end(name))
                self.condition.notify_all()

    def _can_do_without(self, name: str) -> bool:
        """Whether the run goes on though a camera's thread has failed: asked for, and the network can."""
        with self.condition:
            if not self.degrade or name not in self.pairing.optional or not self.running - self.failed - {name}:
                return False
            self.failed.add(name)
            return True

    def _fitted(self, frame: Frame) -> Frame | None:
        """Return the frame with the picture as the network takes it; None of a live one that cannot be fitted."""
        if self.fit is None:
            return frame
        started = self.clock()
        try:
            fitted = self.fit(frame)
        except Exception as error:
            self.stats.drop(frame.camera, "cannot be fitted")
            if not self.live or not isinstance(error, CameraError):
                raise
            self.health[frame.camera].set("lost", str(error))
            return None
        self.stats.stages["fit"].append(self.clock() - started)
        return fitted

    def _not_given(self, name: str, cause: str) -> None:
        """Count a frame that a camera took but could not give."""
        with self.condition:
            self.stats.frames[name] += 1
        self.stats.drop(name, cause)

    def _repeated(self, name: str, stale_ns: int) -> None:
        """Count a picture that the camera has given before: it tells nothing new, whatever its stamp says."""
        self.stats.drop(name, "repeated picture")
        if stale_ns > STALE_NS:
            with self.condition:
                self.health[name].set("stale", "repeats one picture: a thermal camera's shutter, or frozen")
                self._emit(self.pairing.leave(name))

    def _notice_silence(self) -> None:
        """Let the other camera go on alone where one delivers nothing; called with the condition held."""
        if not self.live or len(self.cameras) < 2:
            return
        for name, health in self.health.items():
            limit_ns = max(SILENT_NS, SILENT_INTERVALS * health.interval_ns)
            if min(health.silent_ns, self.clock() - self.begun_ns) > limit_ns and name not in self.pairing.silent:
                starting = health.state == "starting" and self.clock() - self.begun_ns < START_NS
                if health.state in ("starting", "live") and not starting:
                    limit_ns = START_NS if health.state == "starting" else limit_ns
                    health.set("lost", f"no frame for {limit_ns / 1e9:.1f} s")
                self._emit(self.pairing.leave(name))
        if text := self.pairing.warning():
            self.told(Event("", "warning", text, self.clock()))

    def _too_old(self, pair: FramePair) -> bool:
        bound_ms = self.policy.max_age_ms
        # a recording's stamps run at its own speed, whatever it is played at
        recorded = any(frame.stamp_source in ("file", "rate") for frame in pair.frames.values())
        since_ns = pair.arrived_ns if recorded else pair.stamp_ns
        return bool(self.live and bound_ms and self.clock() - since_ns > bound_ms * 1e6)

    def _over(self) -> bool:
        """Whether no pair is to come: all cameras have ended, or one has and none of its frames waits for a partner.

        Beside a camera that ended well, recordings are read to their ends, so that every frame is counted.
        """
        if not self.running or (self.live and self.error):
            return True
        ended = self.cameras.keys() - self.running - self.failed
        return bool(self.live or self.error) and any(not self.pairing.waiting[name] for name in ended)

    def _full(self, name: str) -> bool:
        # Two of each, or neither could be pushed; no more than are given up as being without a partner.
        depth = max(2, min(self.policy.depth, self.pairing.depth))
        return len(self.pairing.waiting[name]) >= depth or len(self.pairs) >= self.policy.depth

    def _emit(self, pairs: list[FramePair]) -> None:
        for pair in pairs:
            if self.policy.kind != "every" and len(self.pairs) >= self.policy.depth:
                cause = "superseded" if self.policy.kind == "latest" else "queue full"
                self.stats.drop_pair(self.pairs.popleft(), cause)
            self.pairs.append(pair)
        if pairs:
            self.condition.notify_all()

    def status(self) -> dict[str, Any]:
        """Return each camera's state for JSON."""
        return {name: health.to_dict() for name, health in self.health.items()}


class Repeats:
    """Recognises a picture that is the one before, value by value: sensors are never that quiet.

    Of pictures that a codec has made this says nothing: a scene that stands still is coded as no change at all.
    """

    def __init__(self) -> None:
        self.last: Frame | None = None

    def look(self, frame: Frame) -> int | None:
        """Return for how long the same picture has been given, nanoseconds; None of a new one."""
        last = self.last
        if last is not None and frame.size == last.size:
            a, b = frame.image, last.image
            middle = frame.size[0] // 2  # a row tells nearly always, and lies together in memory
            if np.array_equal(a[middle], b[middle]) and np.array_equal(a, b):
                return frame.arrived_ns - last.arrived_ns
        self.last = frame
        return None
