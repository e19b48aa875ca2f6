"""The live pipeline: capture → preprocess → pair → infer → decode → track → sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .alignment_check import AlignmentCheck
from .bundle import Bundle
from .camera import Camera
from .camera.use import check_count
from .camera.wrappers import with_offsets
from .camera_state import CameraStatus, Event
from .capture import Capture
from .decode import DECODERS
from .engine import Arrays, Engine
from .errors import BundleError, EdgemtlError, flag
from .event_log import EventLog, Listener, raise_once
from .frame import FramePair
from .group_pairing import pairing_of
from .loaded_bundle import Exchange, LoadedBundle
from .policy import QueuePolicy
from .reading import Reading
from .renamed_names import renamed_arguments
from .result import Result
from .sink import InlineSink, Sink, ThreadedSink, close_all
from .stats import Stats, WritesFiles
from .status import Status

if TYPE_CHECKING:
    from .rig import Rig

DEFAULT_TOLERANCE_MS = 30.0
AUTO = QueuePolicy()


@runtime_checkable
class AsksToEnd(Protocol):
    """A sink that can ask for the end of the run, as a window that is closed does."""

    asks_to_end: bool


class Unchecked(NamedTuple):
    """A pair whose result was given, and whose drift and alignment are still to be checked."""

    pair: FramePair
    images: Arrays
    outputs: Arrays


class Pipeline(Reading[tuple[FramePair, Result]]):
    """Live inference: runs a bundle on live or recorded cameras.

    ``cameras`` are by input name; one that the network was trained to do without may be missing, or fall silent: its
    input is then fed the blank frame and named in `Result.missing`. Iterate over it for (pair, result), by ``for`` or
    ``async for``, call `read`, or `run` with sinks. It closes the cameras in the end, and not the engine: who opened
    that closes it. Results are in the pixels of the first input that has a frame. ``thresholds`` are as
    `postprocess.parse_thresholds` returns them, ``track`` tracks the objects of every head of boxes, ``on_error``
    decides whether a sink or a camera's thread that fails ends the run or is dropped. ``on_event`` is called with
    events, in order, in a separate thread: a slow one blocks nobody, and what it raises ends the run and is raised
    there. ``stats``, ``events``, ``warnings`` and `status` may be read by any thread.
    """

    @renamed_arguments(told="on_event")
    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        cameras: Mapping[str, Camera],
        tolerance_ms: float = DEFAULT_TOLERANCE_MS,
        *,
        policy: QueuePolicy = AUTO,
        rig: Rig | None = None,
        thresholds: Mapping[str, NDArray[np.float32]] | None = None,
        track: bool = False,
        on_error: Literal["end", "degrade"] = "end",
        on_event: Listener | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        check_inputs(bundle, cameras)
        if not 0 < tolerance_ms < 1e6:
            raise EdgemtlError(f"tolerance_ms is {tolerance_ms}; give milliseconds above 0, up to a million")
        self._exchange = Exchange(LoadedBundle(bundle, engine, rig, thresholds, track))
        self.on_error, self.clock = on_error, clock
        self.stats = Stats()
        event_log = EventLog(on_event)
        self.alignment = AlignmentCheck()
        check_count(cameras)
        inputs = bundle.manifest.inputs
        ordered = {spec.name: cameras[spec.name] for spec in inputs if spec.name in cameras}
        ordered = with_offsets(ordered, rig.offset_ms if rig else {})
        optional = [spec.name for spec in inputs if spec.may_be_missing]
        pairing = pairing_of(list(ordered), round(tolerance_ms * 1e6), optional, self.stats.drop)
        degrade = on_error == "degrade"
        super().__init__(
            Capture(ordered, pairing, policy, self.stats, event_log, self._exchange.prepare, clock, degrade)
        )
        self.index = 0
        self.unchecked: Unchecked | None = None
        self.last_result_ns = 0

    @property
    def loaded(self) -> LoadedBundle:
        """The bundle in use, with its engine."""
        return self._exchange.current

    def _next(self, timeout_s: float | None) -> tuple[FramePair, Result] | None:
        """Return the next pair with its result; the previous pair's alignment is checked before it."""
        begun = time.monotonic()
        if (previous := self.unchecked) is not None:
            self.unchecked = None
            self.loaded.drift.feed(previous.images, previous.outputs)
            for text in self.alignment.feed(previous.pair, self.loaded.preprocessor):
                self._warn(text)
        left_s = None if timeout_s is None else max(0.0, begun + timeout_s - time.monotonic())
        if (pair := self.capture.take(left_s)) is None:
            return None
        self._move_on()
        if not self.loaded.takes(pair):  # it was paired while a bundle was in use that can do without a camera
            self.stats.drop_pair(pair, "without a camera")
            return self._next(None if timeout_s is None else max(0.0, begun + timeout_s - time.monotonic()))
        try:
            result = self._run(pair, self.index)
        except BaseException:
            self.stats.drop_pair(pair, "failed")
            raise
        self.index += 1
        return pair, result

    def run(self, sinks: Sequence[Sink] = ()) -> Stats:
        """Pass every result to the sinks until the cameras end, `stop` is called or a sink asks for the end.

        However it ends, every sink is finished, all within `sink.CLOSE_S`. Returns the statistics; raises what a
        camera, a sink or a callback raised. Ctrl-C is the program's: once the sinks are finished it goes on as
        `KeyboardInterrupt`.
        """
        waits = self.capture.policy.mode == "every"
        drop, stopped = self.stats.drop_result, lambda: self.capture.stopped
        used = [InlineSink(s, drop) if s.on_main_thread else ThreadedSink(s, waits, drop, stopped) for s in sinks]
        self.stats.recordings = [sink.tally for sink in sinks if isinstance(sink, WritesFiles)]
        errors: list[BaseException] = []
        listener = self.capture.events.listener
        try:
            for pair, result in self:
                for runner in used:
                    runner.put(pair, result)
                self._drop_failed(used)
                if any(isinstance(runner.sink, AsksToEnd) and runner.sink.asks_to_end for runner in used):
                    self.stop()
        except BaseException as error:
            errors.append(error)
        errors += self._finish(used, listener)
        if errors:
            raise_once(errors.pop(0))
        return self.stats

    def _finish(self, used: list[InlineSink], listener: Listener | None) -> list[BaseException]:
        """Close the sinks and return the errors that end the run; others are events, after the end of the events."""
        raised = close_all(used)
        if self.on_error == "end":
            return raised
        errors: list[BaseException] = []
        for error in raised:
            event = self._warn(f"{error}; it was left out")
            try:
                if listener is not None:
                    listener(event)
            except BaseException as raised_by_listener:
                errors.append(raised_by_listener)
        return errors

    @property
    def events(self) -> list[Event]:
        """The latest events of cameras, the oldest first."""
        return list(self.capture.events.recent)

    @property
    def warnings(self) -> list[Event]:
        """The latest warnings, the oldest first."""
        return list(self.capture.events.warnings)

    @property
    def frame_rate(self) -> float:
        """Frames a second that results come at the most: of the slower camera that has a rate, 20 where none has."""
        rates = [camera.rate for camera in self.capture.cameras.values() if camera.rate]
        return min(rates, default=20.0)

    def status(self) -> Status:
        """Return the present status: every camera's state, the statistics, the latest warnings."""
        missing = {
            spec.name: CameraStatus(state="absent")
            for spec in self.loaded.inputs
            if spec.name not in self.capture.cameras
        }
        age_ms = round((self.clock() - self.last_result_ns) / 1e6, 1) if self.last_result_ns else None
        return Status(
            running=self.running,
            cameras={name: status.to_dict() for name, status in (self.capture.status() | missing).items()},
            stats=self.stats.report(recent=True),
            last_result_age_ms=age_ms,
            warnings=[str(event) for event in self.warnings],
            bundle=self.loaded.bundle.path.name,
            drift=self.loaded.drift.values(),
            missing=self.loaded.drift.missing(),
            misalignment_px=self.alignment.shift_px,
        )

    def _drop_failed(self, used: list[InlineSink]) -> None:
        """Raise what a sink raised, or drop that sink and go on."""
        for failed in [runner for runner in used if runner.error is not None]:
            assert failed.error is not None
            if self.on_error == "end":
                raise failed.error
            used.remove(failed)
            self._warn(f"sink {failed.sink.name}: {failed.error}; left out")
            failed.abandon()

    def exchange(
        self, bundle: Bundle, engine: Engine, thresholds: Mapping[str, NDArray[np.float32]] | None = None
    ) -> Future[None]:
        """Take another bundle for the same cameras from the next pair on; any thread may call this.

        Where it fails within its first `loaded_bundle.PROBATION` pairs the bundle before it is used again, for that
        pair as well. The returned future has that error, or no result when the bundle is proven; it is cancelled
        where a third one takes its place before that. Engines that are not used any more are closed.
        """
        check_inputs(bundle, self.capture.cameras)
        used = self.loaded
        return self._exchange.put(
            LoadedBundle(bundle, engine, used.preprocessor.rig, thresholds, used.trackers is not None, used)
        )

    def close_other_engines(self) -> LoadedBundle:
        """Close the engines of all bundles but the one in use, which is returned; call it when the run has ended."""
        return self._exchange.close_others()

    def _move_on(self) -> None:
        """Put a bundle that waits into use."""
        if self._exchange.move_on():
            self._set_optional()

    def _set_optional(self) -> None:
        """Let the cameras be missing that the bundle in use can do without."""
        with self.capture.condition:
            optional = [spec.name for spec in self.loaded.inputs if spec.may_be_missing]
            self.capture.pairing.optional = frozenset(optional)

    def _warn(self, text: str) -> Event:
        event = Event("", "warning", text, self.clock())
        self.put_event(event)
        return event

    def put_event(self, event: Event) -> None:
        """Add an event to those of the cameras."""
        self.capture.events.put(event)

    def _run(self, pair: FramePair, index: int) -> Result:
        try:
            return self._result(pair, index)
        except Exception as error:
            if not self._exchange.go_back(error):
                raise
            self._set_optional()
        return self._result(pair, index)

    def _result(self, pair: FramePair, index: int) -> Result:
        begun = self.clock()
        images = self.loaded.images(pair)
        outputs = self.loaded.run(images)
        inferred = self.clock()
        result = self.loaded.result(pair, outputs, index)
        self.last_result_ns = self.clock()
        self.stats.pair(pair, (begun, inferred, self.last_result_ns), len(self.capture.cameras))
        self.unchecked = Unchecked(pair, images, outputs)
        return result


def check_inputs(bundle: Bundle, cameras: Collection[str]) -> tuple[str, ...]:
    """Return the inputs without a camera; raises `EdgemtlError` where the network needs one, or has no such input."""
    inputs = bundle.manifest.inputs
    missing = tuple(spec.name for spec in inputs if spec.name not in cameras)
    inputs_text = f"it takes {' and '.join(spec.name for spec in inputs)}"
    extra = sorted(set(cameras) - {spec.name for spec in inputs})
    if extra:
        raise EdgemtlError(f"the bundle has no input {', '.join(extra)}; {inputs_text}: leave out {flag(extra[0])}")
    required = [spec.name for spec in inputs if spec.name in missing and not spec.may_be_missing]
    if required or len(missing) == len(inputs):
        needed = " and ".join(flag(name) for name in required or missing)
        raise EdgemtlError(f"the bundle needs {needed}{' as well' if cameras else ''}; {inputs_text}")
    unknown = [head.decoder for head in bundle.manifest.heads if head.decoder not in DECODERS]
    if unknown:
        raise BundleError(f"{bundle.path}: this runtime has no decoder '{unknown[0]}'; update edgemtl-runtime")
    return missing
