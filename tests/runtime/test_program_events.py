"""What a program hears and how it ends: listeners, logs, Ctrl-C, sinks and cameras that fail."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401 - it opens files of its own, which count with what is open before
import pytest
from programs import LIVE, Interrupting, Listener, pipeline
from programs import nothing_is_left as nothing_is_left  # checked after every test
from servers import Scripted, allow_absence, steady

from edgemtl_runtime import Bundle, EdgemtlError, Event, Frame, FramePair, Pipeline, Recording, Result
from edgemtl_runtime.camera import Camera, open_camera, open_cameras
from edgemtl_runtime.engine.onnxruntime import OrtEngine

pytestmark = pytest.mark.realtime


def test_a_slow_listener_stops_no_camera_and_hears_all_in_order(toy_bundle: Path) -> None:
    told = Listener(0.7)
    cameras = {name: Scripted(name, steady(40, 60.0)) for name in ("rgb", "ir")}
    opened = Bundle.open(toy_bundle)
    pipe = Pipeline(opened, OrtEngine(opened.model, 1), cameras, on_event=told)
    stats = pipe.run()
    arrivals = [health.arrivals for health in pipe.capture.states.values()]
    assert all(max(np.diff(each)) < 600e6 for each in arrivals) and stats.pairs >= 20
    assert told.heard == pipe.events
    assert [e.state for e in told.heard if e.camera == "ir"] == ["live", "ended"]


@pytest.mark.parametrize("reading", ["run", "loop", "read", "async"])
@pytest.mark.parametrize("moment", ["live", "ended"])
def test_what_a_listener_raises_reaches_who_reads(toy_bundle: Path, reading: str, moment: str) -> None:
    pipe = pipeline(toy_bundle, LIVE + ("" if moment == "live" else "&frames=5"), on_event=Listener(fails_at=moment))
    closed: list[bool] = []

    class Sink:
        name, on_main_thread = "sink", False

        def write(self, pair: FramePair, result: Result) -> None:
            """Take it."""

        def close(self) -> None:
            closed.append(True)

    async def loop() -> None:
        async for _ in pipe:
            pass

    with pytest.raises(KeyError, match=f"own mistake at {moment}"):
        if reading == "run":
            pipe.run([Sink()])
        elif reading == "loop":
            for _ in pipe:
                pass
        elif reading == "async":
            asyncio.run(loop())
        else:
            while pipe.read(5) is not None:
                pass
    assert not pipe.running and closed == [True] * (reading == "run")


def test_what_a_listener_raises_after_the_last_reading_is_raised_by_close(toy_bundle: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    with (
        pytest.raises(KeyError, match="own mistake"),
        pipeline(toy_bundle, on_event=Listener(0.3, fails_at="live")) as pipe,
    ):
        for _ in pipe:
            break
    with pytest.raises(ZeroDivisionError), pipeline(toy_bundle, on_event=Listener(0.3, fails_at="live")) as pipe:
        pipe.read()
        raise ZeroDivisionError  # the one that is on its way stays
    caplog.clear()
    for _ in pipeline(toy_bundle, on_event=Listener(0.3, fails_at="live")):
        break
    assert "a callback raised KeyError" in caplog.text


def test_a_listener_may_end_it(toy_bundle: Path) -> None:
    def told(event: Event) -> None:
        if event.state == "live":
            pipe.close()

    pipe = pipeline(toy_bundle, on_event=told)
    for _ in pipe:
        pass
    assert not pipe.running
    del told


def test_a_slow_log_stops_no_camera(toy_bundle: Path) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            time.sleep(0.8)

    log, handler = logging.getLogger("edgemtl_runtime"), Slow()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        pipe = Pipeline(
            opened := Bundle.open(allow_absence(toy_bundle)),
            OrtEngine(opened.model, 1),
            {"rgb": Scripted("rgb", steady(30, 60.0))},
        )
        pipe.run()
        assert max(np.diff(pipe.capture.states["rgb"].arrivals)) < 700e6
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@pytest.mark.parametrize("kind", [Pipeline, Recording])
def test_ctrl_c_is_the_program_s(toy_bundle: Path, kind: type) -> None:
    sink = Interrupting()
    run = pipeline(toy_bundle) if kind is Pipeline else Recording(open_cameras({"rgb": LIVE, "ir": LIVE}), 30.0)
    with pytest.raises(KeyboardInterrupt):
        run.run([sink] if isinstance(run, Pipeline) else sink)  # type: ignore[arg-type]
    assert sink.closed == 1 and sink.written == 3 and not run.running


def test_a_sink_may_ask_for_the_end(toy_bundle: Path) -> None:
    class Ended(Interrupting):
        ended = False

        def write(self, pair: FramePair, result: Result | None = None) -> None:
            self.written += 1
            self.asks_to_end = self.written == 3

    sink = Ended()
    assert pipeline(toy_bundle).run([sink]).pairs == sink.written == 3 and sink.closed == 1


def test_a_recording_is_read_like_a_pipeline() -> None:
    told = Listener()
    with Recording(open_cameras({"rgb": LIVE, "ir": LIVE}), 30.0, min_interval_s=0.5, on_event=told) as recording:
        first = recording.read(5)
        assert isinstance(first, FramePair)
        with pytest.raises(TimeoutError):
            recording.read(0)
        for pair in recording:
            assert pair.stamp_ns - first.stamp_ns >= 490_000_000
            break
    assert [event.state for event in told.heard if event.camera == "ir"] == ["live"]
    with pytest.raises(EdgemtlError, match="this recording is closed"):
        recording.read()


def test_opening_fails_without_leaving_the_first_camera_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed: list[str] = []

    class Given:
        name, live = "rgb", True

        def close(self) -> None:
            closed.append("rgb")

    def opening(uri: str, name: str, *_: object, **__: object) -> Camera:
        if name == "ir":
            raise ValueError("a library's own kind of error")
        return Given()  # type: ignore[return-value]

    monkeypatch.setattr("edgemtl_runtime.camera.open_camera", opening)
    with pytest.raises(ValueError, match="own kind"):
        open_cameras({"rgb": "a", "ir": "b"})
    assert closed == ["rgb"]


def test_what_was_stopped_before_it_began_reads_nothing(toy_bundle: Path) -> None:
    pipe = pipeline(toy_bundle)
    pipe.stop()
    assert pipe.read() is None and not pipe.stats.frames


def test_a_sink_that_fails_at_the_end_is_told_of(toy_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Interrupting):
        def write(self, pair: FramePair, result: Result | None = None) -> None:
            """Take it."""

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    told = Listener()
    pipeline(toy_bundle, LIVE + "&frames=3", on_event=told, on_error="degrade").run([Failing()])
    assert "No space left" in caplog.text and "No space left" in str(told.heard[-1])


def test_a_camera_without_a_frame_is_told_of(toy_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that was closed, in a wrapper of the program's own, which nobody can look through."""

    class Wrapped:
        name, live = "rgb", True

        def __init__(self, camera: Camera) -> None:
            self.camera, self.close = camera, camera.close

        def frames(self) -> Iterator[Frame]:
            yield from self.camera.frames()

    camera = open_camera(LIVE, "rgb")
    camera.close()
    opened = Bundle.open(allow_absence(toy_bundle))
    pipe = Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": Wrapped(camera)})
    assert not list(pipe) and [str(event) for event in pipe.warnings] == [
        "--rgb has ended without a frame; was it read or closed before?"
    ]
    assert "ended without a frame" in caplog.text
