"""Capture: reads cameras in threads, pairs their frames for the network's thread, and counts every lost frame."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from .camera.base import Camera, CameraBase, CameraEvents
from .camera.use import check_free, claim
from .camera.wrappers import complete, with_owned_images
from .camera_state import CameraState, CameraStatus, Event, State
from .errors import CameraError, flag
from .event_log import EventLog, raise_once
from .frame import Frame, FramePair
from .group_pairing import GroupPairing
from .pairing import Pairing
from .policy import QueuePolicy
from .stats import Stats

WAIT_S = 0.1
"""Poll interval of waiting threads: for signals, silent cameras and the end."""
STALE_NS = 250_000_000
"""A camera that repeats its image for longer is stale: a thermal camera's shutter, or a frozen one."""
SILENT_NS = 300_000_000
SILENT_INTERVALS = 3
"""A camera is silent after the longer of the two: a time, or some of its own intervals."""
JOIN_S = 3.0
"""A camera's thread that takes longer to end is abandoned, with a warning."""
START_NS = 5_000_000_000
"""A camera that takes longer to start is lost."""
Prepare = Callable[[Frame], Frame]
log = logging.getLogger("edgemtl_runtime")


class NoPair(TimeoutError):
    """No pair was available in time; nothing is lost by it."""


class Capture:
    """Reads each camera in a separate thread, prepares and pairs the frames, and returns the pairs by `take`.

    A frame is preprocessed for the network where it is read, so that a pair is ready when it is complete. ``events``
    receives the cameras' changes of state. It holds no reference to its consumer, so that it ends when that is dropped.
    """

    def __init__(
        self,
        cameras: dict[str, Camera],
        pairing: Pairing | GroupPairing,
        policy: QueuePolicy,
        stats: Stats,
        events: EventLog,
        prepare: Prepare | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        degrade: bool = False,
    ) -> None:
        self.degrade = degrade
        self.cameras: dict[str, CameraBase] = {name: complete(camera) for name, camera in cameras.items()}
        self.pairing, self.stats, self.events, self.clock = pairing, stats, events, clock
        check_free(cameras)
        self.live = any(camera.live for camera in cameras.values())
        for name, camera in cameras.items():
            if self.live and not camera.live:
                raise CameraError(f"{flag(name)} is a recording next to a live camera: pace it, as in FOLDER?fps=20")
        self.policy = policy.of(self.live)
        if self.policy.mode == "every":  # a camera that is ahead waits for the other, however long
            pairing.hold_ns = 1 << 62
        self.prepare = prepare
        self.states = {name: CameraState(name, events.put, clock) for name in cameras}
        self.pairs: deque[FramePair] = deque()
        self.condition = threading.Condition()
        self.reports: list[_Reports] = []
        self.running = set(cameras)
        self.failed: set[str] = set()
        self.error: BaseException | None = None
        self.started = self.stopped = self.closed = False
        self.started_ns = clock()
        self.threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the cameras' threads; raises `EdgemtlError` where a camera is or was read by another."""
        with self.condition:
            if self.started or self.closed:
                return
            claim(self.cameras)
            self.started = True
            for camera in self.cameras.values():
                camera.start(time.monotonic_ns())
            self.started_ns = self.clock()
            for name, camera in self.cameras.items():
                reports = _Reports(self.states[name], self.stats, self.condition)
                arguments = (name, with_owned_images(camera), reports)
                thread = threading.Thread(target=self._read, args=arguments, name=f"camera-{name}", daemon=True)
                self.reports.append(reports)
                self.threads.append(thread)
            self.events.start()
            for thread in self.threads:
                thread.start()

    def take(self, timeout_s: float | None = None) -> FramePair | None:
        """Return the next pair, None when every camera has ended or ``stopped`` is set.

        Raises `NoPair` where none comes in time, and what a camera or the listener of events has raised.
        """
        if not self.stopped:
            self.start()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self.condition:
                while not (self.pairs or self._is_over() or self.stopped or self.events.error):
                    left_s = WAIT_S if end is None else min(WAIT_S, end - time.monotonic())
                    if left_s > 0:
                        # The time-out lets a signal handler run, and silence be detected, while nothing comes.
                        self.condition.wait(left_s)
                    self._detect_silence()
                    if left_s <= 0 and not self.pairs:
                        raise NoPair
                self.events.raise_error()
                if self.stopped or not self.pairs:
                    raise_once(self._take_error())
                    self._warn_of_no_frames()
                    return None
                pair = self.pairs.popleft()
                self.condition.notify_all()
            if not self._too_old(pair):
                return pair
            self.stats.drop_pair(pair, f"older than {self.policy.max_age_ms:g} ms")

    def _warn_of_no_frames(self) -> None:
        """Warn of cameras that have ended without one frame, as those do that were closed before."""
        for name in self.cameras:
            if not self.stopped and not self.stats.frames[name]:
                text = f"{flag(name)} has ended without a frame; was it read or closed before?"
                self.events.put(Event("", "warning", text, self.clock()))

    def _take_error(self) -> BaseException | None:
        error, self.error = self.error, None
        return error

    def close(self) -> None:
        """End the reading and close the cameras; what waits is counted as dropped.

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
            except Exception as error:  # an error of one does not keep the other open
                log.warning("closing %s: %r", flag(name), error)
        self._join()
        with self.condition:
            while self.pairs:
                self.stats.drop_pair(self.pairs.popleft(), "left at the end")
            for name, queue in self.pairing.waiting.items():
                self.stats.drop(name, "left at the end", len(queue)) if queue else None
                queue.clear()
        self.events.close()
        for reports in self.reports:
            reports.closed = True

    def close_started(self) -> None:
        """Close where cameras are being read; others are left to whoever opened them."""
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

    def _read(self, name: str, camera: CameraBase, events: CameraEvents) -> None:
        state, stats = self.states[name], self.stats
        repeats = RepeatDetector()
        try:
            for captured in camera.frames(events):
                with self.condition:
                    while self.policy.mode == "every" and self._full(name) and not self.stopped:
                        self.condition.wait(WAIT_S)
                    if self.stopped:
                        return
                    stats.frames[name] += 1
                if camera.drops_repeats and (stale_ns := repeats.update(captured)) is not None:
                    self._drop_repeat(name, stale_ns)
                    continue
                if (frame := self._prepared(captured)) is None:
                    continue
                with self.condition:
                    state.frame(frame)
                    self._emit(self.pairing.push(frame))
                    self._detect_silence()
            state.set("ended")
        except BaseException as error:  # handed to the network's thread, which raises it
            state.set("lost", str(error) or repr(error))
            if self._may_degrade(name):
                return
            self.error = self.error or error
        finally:
            with self.condition:
                self.running.discard(name)
                self._emit(self.pairing.leave(name) if name in self.failed else self.pairing.end(name))
                self.condition.notify_all()

    def _may_degrade(self, name: str) -> bool:
        """Whether the run continues without a camera that failed: requested, and possible for the network."""
        with self.condition:
            if not self.degrade or name not in self.pairing.optional or not self.running - self.failed - {name}:
                return False
            self.failed.add(name)
            return True

    def _prepared(self, frame: Frame) -> Frame | None:
        """Return the frame with the network's input; None of a live one that cannot be preprocessed."""
        if self.prepare is None:
            return frame
        started = self.clock()
        try:
            prepared = self.prepare(frame)
        except Exception as error:
            self.stats.drop(frame.camera, "cannot be fitted")
            if not self.live or not isinstance(error, CameraError):
                raise
            self.states[frame.camera].set("lost", str(error))
            return None
        self.stats.stages["preprocess"].append(self.clock() - started)
        return prepared

    def _drop_repeat(self, name: str, stale_ns: int) -> None:
        """Count an image that the camera has delivered before: it holds nothing new, whatever its stamp is."""
        self.stats.drop(name, "repeated picture")
        if stale_ns > STALE_NS:
            with self.condition:
                self.states[name].set("stale", "repeats one image: a thermal camera's shutter, or frozen")
                self._emit(self.pairing.leave(name))

    def _detect_silence(self) -> None:
        """Let the other camera continue alone where one delivers nothing; called with the condition held."""
        if not self.live or len(self.cameras) < 2:
            return
        for name, state in self.states.items():
            limit_ns = max(SILENT_NS, SILENT_INTERVALS * state.interval_ns)
            if min(state.silent_ns, self.clock() - self.started_ns) > limit_ns and name not in self.pairing.silent:
                starting = state.state == "starting" and self.clock() - self.started_ns < START_NS
                if state.state in ("starting", "live") and not starting:
                    limit_ns = START_NS if state.state == "starting" else limit_ns
                    state.set("lost", f"no frame for {limit_ns / 1e9:.1f} s")
                self._emit(self.pairing.leave(name))
        if text := self.pairing.warning():
            self.events.put(Event("", "warning", text, self.clock()))

    def _too_old(self, pair: FramePair) -> bool:
        limit_ms = self.policy.max_age_ms
        # a recording's stamps are of speed 1, whatever speed it is played at
        recorded = any(frame.stamp_source in ("file", "rate") for frame in pair.frames.values())
        since_ns = pair.arrived_ns if recorded else pair.stamp_ns
        return bool(self.live and limit_ms and self.clock() - since_ns > limit_ms * 1e6)

    def _is_over(self) -> bool:
        """Whether no pair is to come: all cameras have ended, or one has and none of its frames waits for a partner.

        Where a camera ended without an error, recordings are read to their ends, so that every frame is counted.
        """
        if not self.running or (self.live and self.error):
            return True
        ended = self.cameras.keys() - self.running - self.failed
        return bool(self.live or self.error) and any(not self.pairing.waiting[name] for name in ended)

    def _full(self, name: str) -> bool:
        # At least two of each, or neither could be pushed; at most as many as the pairing keeps.
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

    def status(self) -> dict[str, CameraStatus]:
        """Return each camera's status."""
        return {name: state.status() for name, state in self.states.items()}


class _Reports(CameraEvents):
    """Receives one camera's events until ``closed``: its state, and frames that it captured but cannot deliver."""

    def __init__(self, state: CameraState, stats: Stats, condition: threading.Condition) -> None:
        self.state, self.stats, self.condition = state, stats, condition
        self.closed = False

    def state_changed(self, state: State, detail: str) -> None:
        if not self.closed:
            self.state.set(state, detail)

    def frame_dropped(self, cause: str) -> None:
        if not self.closed:
            with self.condition:
                self.stats.frames[self.state.camera] += 1
            self.stats.drop(self.state.camera, cause)


class RepeatDetector:
    """Detects an image that equals the one before, value by value: sensors are never that free of noise.

    Of images from a codec this is no evidence: a static scene is coded as no change at all.
    """

    def __init__(self) -> None:
        self.last: Frame | None = None

    def update(self, frame: Frame) -> int | None:
        """Return for how long the same image has been delivered, nanoseconds; None of a new one."""
        last = self.last
        if last is not None and frame.size == last.size:
            a, b = frame.image, last.image
            middle = frame.size[0] // 2  # one row nearly always differs, and is contiguous in memory
            if np.array_equal(a[middle], b[middle]) and np.array_equal(a, b):
                return frame.arrived_ns - last.arrived_ns
        self.last = frame
        return None
