"""capture → fit → pair → infer → decode → sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .camera import Camera
from .camera.use import check_count
from .camera.wrappers import with_offsets
from .camera_state import CameraStatus, Event
from .capture import Capture
from .decode import DECODERS, decode
from .engine import Engine
from .errors import BundleError, EdgemtlError, flag
from .event_log import EventLog, Listener, raise_once
from .frame import FramePair, Size
from .pairing import Pairing
from .policy import Policy
from .postprocess import Tracking
from .preprocess import Fitting
from .reading import Reading
from .result import Result
from .sink import Sink, SinkHere, SinkThread, close_all
from .stats import Stats

if TYPE_CHECKING:
    from .rig import Rig
    from .rig.misalignment import Misalignment

DEFAULT_TOLERANCE_MS = 30.0
AUTO = Policy()


class Pipeline(Reading[tuple[FramePair, Result]]):
    """Runs a bundle on live or recorded cameras.

    ``cameras`` are by input name; one that the network was trained to do without may be left out, or fall silent: its
    input is then fed the blank frame and the result says so. Loop over it for (pair, result), plainly or by ``async
    for``, call `read`, or `run` with sinks. It closes the cameras in the end, and not the engine: who opened that
    closes it. Results are in the pixels of the first input that has a frame. ``thresholds`` are as `thresholds.parse`
    returns them, ``track`` follows the objects of every head of boxes, ``on_error`` says whether a sink or a camera's
    thread that fails ends the run or is left out. ``told`` hears events, in order, in a thread of its own: a slow one
    stops nobody, and what it raises ends the run and is raised there. ``stats``, ``events``, ``warnings`` and `status`
    tell how it goes, in any thread.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        cameras: Mapping[str, Camera],
        tolerance_ms: float = DEFAULT_TOLERANCE_MS,
        *,
        policy: Policy = AUTO,
        rig: Rig | None = None,
        thresholds: Mapping[str, NDArray[np.float32]] | None = None,
        track: bool = False,
        on_error: Literal["end", "degrade"] = "end",
        told: Listener | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.inputs = bundle.manifest.inputs
        self.heads = bundle.manifest.heads
        self.left_out = check_inputs(bundle, cameras)
        if rig is not None:
            names = [spec.name for spec in self.inputs]
            rig.check_names(names)
            if rig.reference not in names:
                raise EdgemtlError(
                    f"the rig's reference is {rig.reference}, which the bundle does not take; leave it out"
                )
        self.engine, self.thresholds, self.on_error, self.clock = engine, dict(thresholds or {}), on_error, clock
        self.stats = Stats()
        event_log = EventLog(told)
        self.fitting = Fitting(self.inputs, rig)
        self.tracking = Tracking(self.heads, self.thresholds) if track else None
        self.watch: Misalignment | None = None
        self.watched: Size | None = None
        self.blanks = {s.name: np.full((1, s.height, s.width, s.channels), s.blank, np.uint8) for s in self.inputs}
        check_count(cameras)
        ordered = {spec.name: cameras[spec.name] for spec in self.inputs if spec.name in cameras}
        ordered = with_offsets(ordered, rig.offset_ms if rig else {})
        optional = [spec.name for spec in self.inputs if spec.may_be_missing]
        pairing = Pairing(list(ordered), round(tolerance_ms * 1e6), optional=optional, drop=self.stats.drop)
        degrade = on_error == "degrade"
        super().__init__(Capture(ordered, pairing, policy, self.stats, event_log, self.fitting.fitted, clock, degrade))
        self.index = 0
        self.behind: FramePair | None = None
        self.last_result_ns = 0
        self.warned: set[str] = set()

    def _next(self, timeout_s: float | None) -> tuple[FramePair, Result] | None:
        """Return the next pair with its result; what is looked at behind a result is, before the next one."""
        begun = time.monotonic()
        if (behind := self.behind) is not None:
            self.behind = None
            self._look_after(behind)
        left_s = None if timeout_s is None else max(0.0, begun + timeout_s - time.monotonic())
        if (pair := self.capture.take(left_s)) is None:
            return None
        try:
            result = self._run(pair, self.index)
        except BaseException:
            self.stats.drop_pair(pair, "failed")
            raise
        self.index += 1
        self.behind = pair
        return pair, result

    def run(self, sinks: Sequence[Sink] = ()) -> Stats:
        """Feed every result to the sinks until the cameras end, `stop` is called or a sink asks for the end.

        However it ends, every sink is finished, all within `sink.CLOSE_S`. Returns the statistics; raises what a
        camera, a sink or a callback raised. Ctrl-C is the program's: once the sinks are finished it goes on as
        `KeyboardInterrupt`.
        """
        waits = self.capture.policy.kind == "every"
        drop, stopped = self.stats.drop_result, lambda: self.capture.stopped
        used = [SinkHere(s, drop) if s.on_main_thread else SinkThread(s, waits, drop, stopped) for s in sinks]
        self.stats.recordings = [sink.tally for sink in sinks if hasattr(sink, "tally")]
        errors: list[BaseException] = []
        told = self.capture.events.listener
        try:
            for pair, result in self:
                for each in used:
                    each.put(pair, result)
                self._leave_out(used)
                if any(getattr(each.sink, "asks_to_end", False) for each in used):
                    self.stop()
        except BaseException as error:
            errors.append(error)
        errors += self._finish(used, told)
        if errors:
            raise_once(errors.pop(0))
        return self.stats

    def _finish(self, used: list[SinkHere], told: Listener | None) -> list[BaseException]:
        """Finish the sinks and return what ends the run; what does not is told, behind the end of the events."""
        raised = close_all(used)
        if self.on_error == "end":
            return raised
        errors: list[BaseException] = []
        for error in raised:
            event = self._warn(f"{error}; it was left out")
            try:
                if told is not None:
                    told(event)
            except BaseException as mistake:  # the listener's own
                errors.append(mistake)
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

    def status(self) -> dict[str, Any]:
        """Return how it goes, for JSON: every camera's state, the statistics, the latest warnings."""
        missing = dict.fromkeys(self.left_out, CameraStatus(state="absent"))
        age_ms = round((self.clock() - self.last_result_ns) / 1e6, 1) if self.last_result_ns else None
        return {
            "running": self.running,
            "cameras": {name: status.to_dict() for name, status in (self.capture.status() | missing).items()},
            "stats": self.stats.to_dict(recent=True),
            "last_result_age_ms": age_ms,
            "warnings": [str(event) for event in self.warnings],
        }

    def _leave_out(self, used: list[SinkHere]) -> None:
        """Raise what a sink raised, or leave that sink out and go on."""
        for failed in [each for each in used if each.error is not None]:
            assert failed.error is not None
            if self.on_error == "end":
                raise failed.error
            used.remove(failed)
            self._warn(f"sink {failed.sink.name}: {failed.error}; left out")
            failed.abandon()

    def _look_after(self, pair: FramePair) -> None:
        """Watch, behind the result, whether registered pictures still lie on one another."""
        rig = self.fitting.rig
        if rig is None or rig.rgb.name not in pair.frames or rig.ir.name not in pair.frames:
            return
        rgb, ir = pair.frames[rig.rgb.name], pair.frames[rig.ir.name]
        registration = self.fitting.registration(ir)
        if registration is None or rgb.network is None or ir.network is None:
            return
        if self.watch is None or self.watched != ir.size:  # pictures of another size show another part of the scene
            from .rig.misalignment import Misalignment

            seen, self.watched = registration.seen, ir.size
            self.watch = Misalignment(seen.shape, seen)
            self._warn_once("coverage", registration.warning())
        self.watch.feed(rgb.network, ir.network)
        self._warn_once("shift", self.watch.warning())

    def _warn_once(self, kind: str, text: str | None) -> None:
        if text and kind not in self.warned:
            self.warned.add(kind)
            self._warn(text)

    def _warn(self, text: str) -> Event:
        event = Event("", "warning", text, self.clock())
        self.capture.events.put(event)
        return event

    def _run(self, pair: FramePair, index: int) -> Result:
        begun = self.clock()
        outputs = self.engine.run(self._inputs(pair))
        if not getattr(self.engine, "owned_outputs", False):  # results are shown while the next pair is run
            outputs = {name: np.array(each) for name, each in outputs.items()}
        inferred = self.clock()
        result = self._result(pair, outputs, index)
        self.last_result_ns = self.clock()
        self.stats.pair(pair, (begun, inferred, self.last_result_ns), len(self.capture.cameras))
        return result

    def _inputs(self, pair: FramePair) -> dict[str, NDArray[np.uint8]]:
        inputs = {}
        for name, blank in self.blanks.items():
            frame = pair.frames.get(name)
            inputs[name] = blank if frame is None or frame.network is None else frame.network[None]
        return inputs

    def _result(self, pair: FramePair, outputs: dict[str, NDArray[Any]], index: int) -> Result:
        camera, fit = self.fitting.told_in(pair)
        thresholds = self.tracking.thresholds if self.tracking else self.thresholds
        heads = decode({n: out[0] for n, out in outputs.items()}, self.heads, fit, thresholds)
        if self.tracking:
            heads = self.tracking.update(heads, fit, pair.stamp_ns)
        absent = tuple(spec.name for spec in self.inputs if spec.name not in pair.frames)
        stamps = {name: str(each.stamp_source) for name, each in pair.frames.items()}
        name = next(iter(pair.frames.values())).name
        unsure = {name: each.uncertainty_ns for name, each in pair.frames.items()}
        return Result(
            heads, camera, pair.stamp_ns, pair.skew_ns, index, name, absent, stamps, pair.trusted, unsure, pair.unix_ns
        )


def check_inputs(bundle: Bundle, cameras: Mapping[str, object]) -> tuple[str, ...]:
    """Return the inputs without a camera; raises `EdgemtlError` where the network needs one, or has no such input."""
    inputs = bundle.manifest.inputs
    left_out = tuple(spec.name for spec in inputs if spec.name not in cameras)
    taken = f"it takes {' and '.join(spec.name for spec in inputs)}"
    extra = sorted(cameras.keys() - {spec.name for spec in inputs})
    if extra:
        raise EdgemtlError(f"the bundle has no input {', '.join(extra)}; {taken}: leave out {flag(extra[0])}")
    missing = [spec.name for spec in inputs if spec.name in left_out and not spec.may_be_missing]
    if missing or len(left_out) == len(inputs):
        needed = " and ".join(flag(name) for name in missing or left_out)
        raise EdgemtlError(f"the bundle needs {needed}{' as well' if cameras else ''}; {taken}")
    unknown = [head.decoder for head in bundle.manifest.heads if head.decoder not in DECODERS]
    if unknown:
        raise BundleError(f"{bundle.path}: this runtime has no decoder '{unknown[0]}'; update edgemtl-runtime")
    return left_out
