"""Cameras' threads on one side, the network's on the other: frames in, pairs out, every loss counted."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .camera import Camera
from .camera.use import begin, check_free, claim, owned
from .camera_state import Event, Health
from .errors import CameraError, flag
from .event_log import EventLog, raise_once
from .frame import Frame, FramePair
from .pairing import Pairing
from .policy import QueuePolicy
from .stats import Stats

WAIT_S = 0.1
"""How often waiting threads look up: for signals, silent cameras and the end."""
STALE_NS = 250_000_000
"""A camera that repeats its picture for longer is stale: a thermal camera's shutter, or a frozen one."""
SILENT_NS = 300_000_000
SILENT_INTERVALS = 3
"""A camera is silent after the longer of the two: a time, or some of its own intervals."""
JOIN_S = 3.0
"""A camera's thread that takes longer to end is left behind, and told of."""
START_NS = 5_000_000_000
"""A camera may take so long to start before it is called lost."""
Fitter = Callable[[Frame], Frame]
log = logging.getLogger("edgemtl_runtime")


class NoPair(TimeoutError):
    """No pair has come in time; nothing is lost by it."""


class Intake:
    """Reads each camera in a thread of its own, fits and pairs the frames, and hands out the pairs by `take`.

    A frame is fitted for the network where it is read, so that a pair is ready when it is complete. ``events`` is told
    of what happens to the cameras. It holds nothing of who takes the pairs, so that it ends when that one is dropped.
    """

    def __init__(
        self,
        cameras: dict[str, Camera],
        pairing: Pairing,
        policy: QueuePolicy,
        stats: Stats,
        events: EventLog,
        fit: Fitter | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        degrade: bool = False,
    ) -> None:
        self.degrade = degrade
        self.cameras, self.pairing, self.stats, self.events, self.clock = cameras, pairing, stats, events, clock
        self.told = events.put
        check_free(cameras)
        self.live = any(camera.live for camera in cameras.values())
        for name, camera in cameras.items():
            if self.live and not camera.live:
                raise CameraError(f"{flag(name)} is a recording beside a live camera: pace it, as in FOLDER?fps=20")
        self.policy = policy.of(self.live)
        if self.policy.mode == "every":  # one that is read ahead waits for the other, however long
            pairing.hold_ns = 1 << 62
        self.fit = fit
        self.health = {name: Health(name, events.put, clock) for name in cameras}
        self.pairs: deque[FramePair] = deque()
        self.condition = threading.Condition()
        self.running = set(cameras)
        self.failed: set[str] = set()
        self.error: BaseException | None = None
        self.started = self.stopped = self.closed = False
        self.begun_ns = clock()
        self.threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read the cameras; raises `EdgemtlError` where one is read by another or was."""
        with self.condition:
            if self.started or self.closed:
                return
            claim(self.cameras)
            self.started = True
            begin(self.cameras, time.monotonic_ns())
            self._listen()
            self.begun_ns = self.clock()
            self.threads = [
                threading.Thread(target=self._read, args=(name, owned(camera)), name=f"camera-{name}", daemon=True)
                for name, camera in self.cameras.items()
            ]
            self.events.start()
            for thread in self.threads:
                thread.start()

    def take(self, timeout_s: float | None = None) -> FramePair | None:
        """Return the next pair, None when every camera has ended or ``stopped`` is set.

        Raises `NoPair` where none comes in time, and what a camera or who is told of events has raised.
        """
        if not self.stopped:
            self.start()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self.condition:
                while not (self.pairs or self._over() or self.stopped or self.events.error):
                    left_s = WAIT_S if end is None else min(WAIT_S, end - time.monotonic())
                    if left_s > 0:
                        # The time-out lets a signal handler run, and silence be noticed, while nothing comes.
                        self.condition.wait(left_s)
                    self._notice_silence()
                    if left_s <= 0 and not self.pairs:
                        raise NoPair
                self.events.raise_error()
                if self.stopped or not self.pairs:
                    raise_once(self._take_error())
                    self._tell_of_nothing()
                    return None
                pair = self.pairs.popleft()
                self.condition.notify_all()
            if not self._too_old(pair):
                return pair
            self.stats.drop_pair(pair, f"older than {self.policy.max_age_ms:g} ms")

    def _tell_of_nothing(self) -> None:
        """Warn of cameras that have ended by themselves without one frame, as those do that were closed before."""
        for name in self.cameras:
            if not self.stopped and not self.stats.frames[name]:
                text = f"{flag(name)} has ended without a frame; was it read or closed before?"
                self.told(Event("", "warning", text, self.clock()))

    def _take_error(self) -> BaseException | None:
        error, self.error = self.error, None
        return error

    def close(self) -> None:
        """End the reading and close the cameras; what waits is counted and not handed out any more.

        May be called twice, and by any thread.
        """
        with self.condition:
            self.stopped = True
            if self.closed:
                return
            self.closed = True
            self.condition.notify_all()
        claim(self.cameras, check=False)
        for name, camera in self.cameras.items():
            try:
                camera.close()
            except Exception as error:  # of one, it does not keep the other open
                log.warning("closing %s: %r", flag(name), error)
        self._join()
        with self.condition:
            while self.pairs:
                self.stats.drop_pair(self.pairs.popleft(), "left at the end")
            for name, queue in self.pairing.waiting.items():
                self.stats.drop(name, "left at the end", len(queue)) if queue else None
                queue.clear()
        self.events.close()
        self._listen(False)

    def close_begun(self) -> None:
        """Close where cameras are being read; those that are not yet are left to who opened them."""
        if self.started:
            self.close()

    def _join(self) -> None:
        end = time.monotonic() + JOIN_S
        for thread in self.threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))
                if thread.is_alive():
                    log.warning("%s does not end: the camera is stuck in a read", thread.name)
        self.threads = []

    def _listen(self, on: bool = True) -> None:
        """Hear from cameras that are opened again when they fail, and from those that count what they cannot give."""
        for name, camera in self.cameras.items():
            if hasattr(camera, "told"):
                camera.told = self.health[name].set if on else lambda state, detail: None
            if hasattr(camera, "dropped"):
                counted = partial(_not_given, self.stats, self.condition, name)
                camera.dropped = counted if on else lambda cause: None

    def _read(self, name: str, camera: Camera) -> None:
        health, stats = self.health[name], self.stats
        repeats = Repeats()
        try:
            for given in camera.frames():
                with self.condition:
                    while self.policy.mode == "every" and self._full(name) and not self.stopped:
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
        self.stats.stages["preprocess"].append(self.clock() - started)
        return fitted

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
        depth = max(2, min(self.policy.size, self.pairing.depth))
        return len(self.pairing.waiting[name]) >= depth or len(self.pairs) >= self.policy.size

    def _emit(self, pairs: list[FramePair]) -> None:
        for pair in pairs:
            if self.policy.mode != "every" and len(self.pairs) >= self.policy.size:
                cause = "superseded" if self.policy.mode == "latest" else "queue full"
                self.stats.drop_pair(self.pairs.popleft(), cause)
            self.pairs.append(pair)
        if pairs:
            self.condition.notify_all()

    def status(self) -> dict[str, Any]:
        """Return each camera's state for JSON."""
        return {name: health.to_dict() for name, health in self.health.items()}


def _not_given(stats: Stats, condition: threading.Condition, name: str, cause: str) -> None:
    """Count a frame that a camera took but could not give."""
    with condition:
        stats.frames[name] += 1
    stats.drop(name, cause)


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
