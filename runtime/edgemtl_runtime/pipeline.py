"""capture → fit → pair → infer → decode → sinks."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .camera import Camera
from .camera.adjust import with_offsets
from .decode import DECODERS, decode
from .engine import Engine
from .errors import BundleError, EdgemtlError
from .fitting import Fitting
from .frame import Frame, FramePair
from .health import Event, Health
from .intake import Intake, Policy
from .pairing import Pairing
from .result import Result
from .sink import Sink, SinkHere, SinkThread
from .stats import Stats
from .tracking import Tracking

if TYPE_CHECKING:
    from .rig import Rig
    from .rig.watch import Misalignment

DEFAULT_TOLERANCE_MS = 30.0
AUTO = Policy()
EVENTS = 200
"""The latest events that are kept."""
log = logging.getLogger("edgemtl_runtime")


class Pipeline:
    """Runs a bundle on live or recorded cameras.

    ``cameras`` are by input name; one that the network was trained to do without may be left out, or fall silent: its
    input is then fed the blank frame and the result says so. Iterate for (pair, result), or call `run` with sinks;
    `stop` ends either from another thread or a signal handler. Results are in the pixels of the first input that has a
    frame. ``thresholds`` are as `thresholds.parse` returns them, ``tracks`` maps a head of boxes to what follows its
    objects, ``on_error`` says whether a sink or a camera's thread that fails ends the run or is left out, ``told``
    hears events. ``stats``, ``events``, ``warnings`` and `status` tell how it goes.
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
        told: Callable[[Event], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.inputs = bundle.manifest.inputs
        self.heads = bundle.manifest.heads
        self.left_out = check_cameras(bundle, cameras)
        self.engine, self.thresholds, self.on_error, self.clock = engine, dict(thresholds or {}), on_error, clock
        self.hear = told
        self.stats = Stats()
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.warnings: deque[Event] = deque(maxlen=EVENTS)
        self.fitting = Fitting(self.inputs, rig)
        self.tracking = Tracking(self.heads, self.thresholds) if track else None
        self.watch: Misalignment | None = None
        self.blanks = {s.name: np.full((1, s.height, s.width, s.channels), s.blank, np.uint8) for s in self.inputs}
        ordered = {spec.name: cameras[spec.name] for spec in self.inputs if spec.name in cameras}
        ordered = with_offsets(ordered, rig.offset_ms if rig else {})
        optional = [spec.name for spec in self.inputs if spec.may_be_absent]
        pairing = Pairing(list(ordered), round(tolerance_ms * 1e6), optional=optional, drop=self.stats.drop)
        degrade = on_error == "degrade"
        self.intake = Intake(ordered, pairing, policy, self.stats, self._tell, self._fitted, clock, degrade)
        self.running = False
        self.last_result_ns = 0
        self.warned: set[str] = set()

    def __iter__(self) -> Iterator[tuple[FramePair, Result]]:
        """Yield each pair with its result until the cameras end."""
        self.running = True
        try:
            for index, pair in enumerate(self.intake):
                try:
                    result = self._run(pair, index)
                except BaseException:
                    self.stats.drop_pair(pair, "failed")
                    raise
                yield pair, result
                self._look_after(pair)
        finally:
            self.running = False
            self.intake.stop()

    def run(self, sinks: Sequence[Sink] = ()) -> Stats:
        """Feed every result to the sinks until the cameras end, `stop` is called or Ctrl-C is pressed.

        However it ends, every sink is finished. Returns the statistics; raises what a camera or a sink raised.
        """
        waits = self.intake.policy.kind == "every"
        drop, stopped = self.stats.drop_result, lambda: self.intake.stopped
        used = [SinkHere(s, drop) if s.on_main_thread else SinkThread(s, waits, drop, stopped) for s in sinks]
        errors: list[BaseException] = []
        try:
            for pair, result in self:
                for each in used:
                    each.put(pair, result)
                self._leave_out(used)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            errors.append(error)
        for each in used:
            try:
                each.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return self.stats

    def stop(self) -> None:
        """End the run after the pair in work."""
        self.intake.stopped = True

    @property
    def frame_rate(self) -> float:
        """Frames a second that results come at the most: of the slower camera that has a rate, 20 where none has."""
        rates = [rate for camera in self.intake.cameras.values() if (rate := getattr(camera, "rate", 0.0))]
        return min(rates, default=20.0)

    def status(self) -> dict[str, Any]:
        """Return how it goes, for JSON: every camera's state, the statistics, the latest warnings."""
        absent = {name: Health(name, lambda _: None).to_dict() | {"state": "absent"} for name in self.left_out}
        age_ms = round((self.clock() - self.last_result_ns) / 1e6, 1) if self.last_result_ns else None
        return {
            "running": self.running,
            "cameras": self.intake.status() | absent,
            "stats": self.stats.to_dict(recent=True),
            "last_result_age_ms": age_ms,
            "warnings": [str(event) for event in self.warnings.copy()],
        }

    def _tell(self, event: Event) -> None:
        (self.warnings if event.state == "warning" else self.events).append(event)
        log.log(logging.WARNING if event.state in ("warning", "lost", "stale") else logging.INFO, "%s", event)
        if self.hear is not None:
            self.hear(event)

    def _leave_out(self, used: list[SinkHere]) -> None:
        """Raise what a sink raised, or leave that sink out and go on."""
        for failed in [each for each in used if each.error is not None]:
            assert failed.error is not None
            if self.on_error == "end":
                raise failed.error
            used.remove(failed)
            self._tell(Event("", "warning", f"sink {failed.sink.name}: {failed.error}; left out", self.clock()))
            failed.abandon()

    def _fitted(self, frame: Frame) -> Frame:
        """Return a frame with its picture as the network takes it; called in the camera's thread."""
        registered = self.fitting.is_registered(frame.camera)
        return replace(frame, network=self.fitting.image(frame), registered=registered)

    def _look_after(self, pair: FramePair) -> None:
        """Watch, behind the result, whether registered pictures still lie on one another."""
        seen = self.fitting.seen
        if seen is None or len(pair.frames) < 2:
            return
        if self.watch is None:
            from .rig.watch import Misalignment

            self.watch = Misalignment(seen.shape, seen)
            for registration in self.fitting.registrations.values():
                self._warn_once("coverage", registration.warning())
        pictures = {name: frame.network for name, frame in pair.frames.items()}
        rig = self.fitting.rig
        assert rig is not None
        rgb, ir = pictures[rig.rgb.name], pictures[rig.ir.name]
        if rgb is not None and ir is not None:
            self.watch.feed(rgb, ir)
            self._warn_once("shift", self.watch.warning())

    def _warn_once(self, kind: str, text: str | None) -> None:
        if text and kind not in self.warned:
            self.warned.add(kind)
            self._tell(Event("", "warning", text, self.clock()))

    def _run(self, pair: FramePair, index: int) -> Result:
        begun = self.clock()
        outputs = self.engine.run(self._inputs(pair))
        inferred = self.clock()
        result = self._result(pair, outputs, index)
        self.last_result_ns = self.clock()
        self.stats.pair(pair, (begun, inferred, self.last_result_ns), len(self.intake.cameras))
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
        return Result(heads, camera, pair.stamp_ns, pair.skew_ns, index, name, absent, stamps)


def check_cameras(bundle: Bundle, cameras: Mapping[str, Camera]) -> tuple[str, ...]:
    """Return the inputs without a camera; raises `EdgemtlError` where the network needs one, or has no such input."""
    inputs = bundle.manifest.inputs
    left_out = tuple(spec.name for spec in inputs if spec.name not in cameras)
    missing = [spec.name for spec in inputs if spec.name in left_out and not spec.may_be_absent]
    if missing or len(left_out) == len(inputs):
        needed = " and ".join(f"--{name}" for name in missing or left_out)
        raise EdgemtlError(f"the bundle needs {needed}{' as well' if cameras else ''}")
    extra = sorted(cameras.keys() - {spec.name for spec in inputs})
    if extra:
        raise EdgemtlError(f"the bundle has no input {', '.join(extra)}; leave out --{extra[0]}")
    unknown = [head.decoder for head in bundle.manifest.heads if head.decoder not in DECODERS]
    if unknown:
        raise BundleError(f"{bundle.path}: this runtime has no decoder '{unknown[0]}'; update edgemtl-runtime")
    return left_out
