"""The runtime as a part of somebody's program: reading, ending, sharing, callbacks, Ctrl-C, asyncio."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401 - it opens files of its own, which count with what is open before
import pytest
from conftest import write_frames
from servers import Scripted, allow_absence, descriptors, noise, steady

import edgemtl_runtime
from edgemtl_runtime import (
    Bundle,
    EdgemtlError,
    Event,
    Frame,
    FramePair,
    Pipeline,
    QueuePolicy,
    Recording,
    Result,
    open_selected_engine,
)
from edgemtl_runtime.camera import Camera, open_camera, open_cameras
from edgemtl_runtime.camera.wrappers import Adjusted
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.rig import CameraModel, Rig

pytestmark = pytest.mark.realtime

NAMES = """
Attributes Boxes Bundle BundleError Camera CameraError DepthMap EdgeMap EdgemtlError Engine EngineError Event
EngineConfig Frame FramePair HeadResult LabelMap NormalMap Pipeline PreparedFrame QueuePolicy Recorder Recording Result
Rig Sink Stats Status UsageError open_camera open_cameras open_engine open_selected_engine
"""
"""What programs may import from the top; what goes from here goes from them."""
LIVE = "pattern:?fps=100&width=96&height=64"


def pipeline(bundle: Path, uri: str = LIVE, **options: object) -> Pipeline:
    opened = Bundle.open(bundle)
    return Pipeline(opened, OrtEngine(opened.model, 1), open_cameras({"rgb": uri, "ir": uri}), **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test does, no thread and no file of it is left when its objects are gone."""
    before, files = set(threading.enumerate()), descriptors()
    yield
    gc.collect()
    end = time.monotonic() + 30
    while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left and descriptors() <= files


def test_the_public_names_are_these_and_come_when_asked_for() -> None:
    assert sorted(NAMES.split()) == edgemtl_runtime.__all__
    assert set(NAMES.split()) <= set(dir(edgemtl_runtime))
    assert all(getattr(edgemtl_runtime, name) is not None for name in NAMES.split())
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        edgemtl_runtime.Pipelin  # noqa: B018
    code = "import sys; before = set(sys.modules); import edgemtl_runtime; print(*sorted(set(sys.modules) - before))"
    place = {"PYTHONPATH": str(Path(edgemtl_runtime.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=place)
    assert set(done.stdout.split()) == {"__future__", "edgemtl_runtime"}


def test_reading_with_a_time_out(toy_bundle: Path) -> None:
    gate = threading.Event()

    def script() -> Iterator[tuple[float, np.ndarray, None]]:
        yield 0.0, noise(0), None
        gate.wait(10)
        yield 0.0, noise(1), None

    opened = Bundle.open(allow_absence(toy_bundle))
    with Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": Scripted("rgb", script())}) as pipe:
        assert not pipe.running
        first = pipe.read()
        assert first is not None and first[1].index == 0 and pipe.running
        begun = time.monotonic()
        for timeout_s in (0, 0.2):
            with pytest.raises(TimeoutError, match=f"no pair for {timeout_s:g} s"):
                pipe.read(timeout_s)
        assert 0.19 < time.monotonic() - begun < 5  # the gate would hold for 10
        gate.set()
        second = pipe.read(timeout_s=5)
        assert second is not None and second[1].index == 1 and second[0].frames["rgb"].image is not None
        assert pipe.read() is None and pipe.read(timeout_s=0) is None  # the end stays the end
        assert not pipe.running
    for timeout_s in (-1.0, float("nan"), float("inf")):
        with pytest.raises(EdgemtlError, match="give seconds"):
            pipe.read(timeout_s)
    with pytest.raises(EdgemtlError, match="this pipeline is closed; open the cameras again"):
        pipe.read()


def test_it_is_read_once(toy_bundle: Path) -> None:
    pipe = pipeline(toy_bundle, LIVE + "&frames=3")
    inner: list[object] = []
    for _ in pipe:
        with pytest.raises(EdgemtlError, match="being read by another loop"):
            inner += list(pipe)
    assert not inner and pipe.stats.pairs
    for again in (lambda: list(pipe), pipe.run):
        with pytest.raises(EdgemtlError, match="this pipeline is used up; open the cameras again and make another"):
            again()
    pipe = pipeline(toy_bundle, LIVE + "&frames=3")
    while pipe.read() is not None:
        pass
    with pytest.raises(EdgemtlError, match="used up"):
        list(pipe)


@pytest.mark.parametrize("how", ["in use", "used up", "closed", "adjusted", "recorded"])
def test_a_camera_is_read_once(toy_bundle: Path, how: str) -> None:
    opened = Bundle.open(toy_bundle)
    engine = OrtEngine(opened.model, 1)
    cameras = open_cameras({"rgb": LIVE, "ir": LIVE})
    first: Pipeline | Recording = Pipeline(opened, engine, cameras)
    if how == "recorded":
        first = Recording(cameras, 30.0)
    if how == "closed":
        first.close()
    else:
        assert first.read() is not None
    if how == "used up":
        first.close()
    if how == "adjusted":
        cameras = {name: Adjusted(camera, offset_ns=1) for name, camera in cameras.items()}
    with pytest.raises(
        EdgemtlError, match="--rgb is read by another pipeline, or was; a camera is read once: open it again"
    ):
        Pipeline(opened, engine, cameras)
    with pytest.raises(EdgemtlError, match="--rgb is read by another"):
        Recording(cameras, 30.0)
    first.close()


def test_of_two_pipelines_the_first_to_begin_has_the_cameras(toy_bundle: Path) -> None:
    opened = Bundle.open(toy_bundle)
    engine = OrtEngine(opened.model, 1)
    cameras = open_cameras({"rgb": LIVE, "ir": LIVE})
    with Pipeline(opened, engine, cameras) as first, Pipeline(opened, engine, cameras) as second:
        assert first.read() is not None
        with pytest.raises(EdgemtlError, match="is read by another pipeline"):
            second.read()
        assert first.read() is not None
    one = open_camera(LIVE, "rgb")
    with pytest.raises(EdgemtlError, match="--rgb and --ir are one camera; open it twice"):
        Pipeline(opened, engine, {"rgb": one, "ir": one})
    three = {name: open_camera(LIVE, name) for name in ("rgb", "ir", "depth")}
    with pytest.raises(EdgemtlError, match="3 cameras are given; one is run alone, or two in pairs"):
        Recording(three, 30.0)


@pytest.mark.parametrize("how", ["break", "raise", "close", "with", "drop", "drop unread"])
def test_leaving_leaves_nothing(toy_bundle: Path, how: str) -> None:
    pipe = pipeline(toy_bundle)
    cameras = dict(pipe.capture.cameras)
    if how in ("break", "raise"):
        try:
            for index, _ in enumerate(pipe):
                if index == 2:
                    if how == "break":
                        break
                    raise RuntimeError("the program's own")
        except RuntimeError:
            pass
        assert not pipe.running
    elif how != "drop unread":
        assert pipe.read() is not None
    if how == "close":
        pipe.close()
        pipe.close()
    elif how == "with":
        with pipe:
            pass
    gone = weakref.ref(pipe)
    gc.disable()  # what is in a cycle would stay until it is collected
    try:
        del pipe
        assert gone() is None
    finally:
        gc.enable()
    if how != "drop unread":  # those are still their opener's
        assert all(camera.pace.closed for camera in cameras.values())  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera")]


def test_many_threads_read_each_pair_once(toy_bundle: Path) -> None:
    found: list[int] = []
    with pipeline(toy_bundle, "pattern:?fps=0&frames=60&width=96&height=64") as pipe:

        def read() -> None:
            while (got := pipe.read()) is not None:
                found.append(got[1].index)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == list(range(60))


def test_closing_under_a_reader_ends_it(toy_bundle: Path) -> None:
    ended: list[object] = []
    opened = Bundle.open(allow_absence(toy_bundle))
    pipe = Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": Scripted("rgb", steady(1, 0.01))})
    thread = threading.Thread(target=lambda: ended.append(pipe.read()))
    thread.start()
    time.sleep(0.2)
    pipe.close()
    thread.join(30)
    assert ended == [None]


class Told:
    """A listener that takes its time, and may fail."""

    def __init__(self, seconds: float = 0.0, fails_at: str = "") -> None:
        self.seconds, self.fails_at, self.heard = seconds, fails_at, list[Event]()

    def __call__(self, event: Event) -> None:
        time.sleep(self.seconds)
        self.heard.append(event)
        if self.fails_at == event.state:
            raise KeyError(f"the program's own mistake at {event.state}")


def test_a_slow_listener_stops_no_camera_and_hears_all_in_order(toy_bundle: Path) -> None:
    told = Told(0.7)
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
    pipe = pipeline(toy_bundle, LIVE + ("" if moment == "live" else "&frames=5"), on_event=Told(fails_at=moment))
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
        pipeline(toy_bundle, on_event=Told(0.3, fails_at="live")) as pipe,
    ):
        for _ in pipe:
            break
    with pytest.raises(ZeroDivisionError), pipeline(toy_bundle, on_event=Told(0.3, fails_at="live")) as pipe:
        pipe.read()
        raise ZeroDivisionError  # the one that is on its way stays
    caplog.clear()
    for _ in pipeline(toy_bundle, on_event=Told(0.3, fails_at="live")):
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


class Reused:
    """A camera that draws every picture into the same memory, as many drivers do."""

    live, name = False, "rgb"

    def __init__(self, owned: bool | None) -> None:
        self.image = np.zeros((64, 96, 3), np.uint8)
        if owned is not None:
            self.owned_pictures = owned

    def frames(self) -> Iterator[Frame]:
        for index in range(30):
            self.image[:] = 255 * (index % 2)
            yield Frame(self.image, 1 + index * 33_000_000, self.name, index)
            self.image[:] = 77

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("wrap", [lambda camera: camera, lambda camera: Adjusted(camera, offset_ns=5)])
def test_what_is_shown_is_what_was_run(toy_bundle: Path, wrap) -> None:  # type: ignore[no-untyped-def]
    opened = Bundle.open(allow_absence(toy_bundle))
    seen = 0
    for pair, result in Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": wrap(Reused(None))}):
        labels = result.heads["semantic"].labels  # type: ignore[union-attr]
        assert (pair.frames["rgb"].image == 255 * (result.index % 2)).all()
        assert (labels == result.index % 2).all()
        seen += 1
    assert seen == 30


def test_pictures_that_are_owned_are_not_copied(toy_bundle: Path) -> None:
    camera = Reused(True)
    opened = Bundle.open(allow_absence(toy_bundle))
    with Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": camera}) as pipe:
        pair, _ = pipe.read() or (None, None)
        assert pair is not None and pair.frames["rgb"].image is camera.image


def test_an_engine_may_answer_in_the_same_memory(toy_bundle: Path, tmp_path: Path) -> None:
    class Same:
        """As a binding of one's own does it."""

        name = "same"

        def __init__(self, engine: OrtEngine) -> None:
            self.engine = engine
            self.kept: dict[str, np.ndarray] = {}

        def run(self, inputs: dict) -> dict:
            for name, found in self.engine.run(inputs).items():
                self.kept.setdefault(name, found)[:] = found
            return self.kept

    opened = Bundle.open(toy_bundle)
    cameras = open_cameras({"rgb": str(write_frames(tmp_path / "a", 8)), "ir": "pattern:?fps=0&frames=8"})
    engine = Same(OrtEngine(opened.model, 1))
    results = [result for _, result in Pipeline(opened, engine, cameras)]  # type: ignore[arg-type]
    labels = [result.heads["semantic"].labels.max() for result in results]  # type: ignore[union-attr]
    assert labels == [0] * 3 + [1] * 5  # darker than the half and then brighter


@pytest.mark.parametrize(
    "uri", ["pattern:?fps=0", "{folder}", "{folder}?rotate=180", "{folder}?offset_ms=1", "pattern:?rotate=90&fps=0"]
)
def test_cameras_of_ours_own_their_pictures(uri: str, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", 3)
    camera = open_camera(uri.format(folder=folder), "rgb")
    assert camera.owns_images  # type: ignore[attr-defined]
    first, second = (frame.image for frame, _ in zip(camera.frames(), range(2), strict=False))
    assert not np.shares_memory(first, second)
    camera.close()


def test_pictures_of_another_size_are_watched_where_both_see(toy_bundle: Path) -> None:
    """What is seen in common is another part of the picture once the thermal camera gives larger ones."""

    def changing() -> Iterator[tuple[float, np.ndarray, None]]:
        for index in range(30):
            yield 1 / 60, noise(index, (64, 96) if index < 12 else (128, 192)), None

    plain = {n: CameraModel(n, 96, 64, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
    rig = Rig(plain, homography_rgb_to_ir=np.array([[1, 0, 20], [0, 1, 10], [0, 0, 1.0]]))
    opened = Bundle.open(toy_bundle)
    cameras = {"rgb": Scripted("rgb", steady(30, 60.0)), "ir": Scripted("ir", changing())}
    watches = []
    with Pipeline(opened, OrtEngine(opened.model, 1), cameras, rig=rig, policy=QueuePolicy("queue")) as pipe:
        while pipe.read() is not None:
            if pipe.misalignment is not None and (not watches or watches[-1][1] is not pipe.misalignment):
                watches.append((pipe.misalignment_size, pipe.misalignment))
        seen = {size: pipe.preprocessor.registrations[size].valid_mask for size, _ in watches}
    assert [size for size, _ in watches] == [(64, 96), (128, 192)]
    assert all(watch.size == seen[size].shape for size, watch in watches)


def test_plans_are_made_while_others_are_looked_at(toy_bundle: Path) -> None:
    """Each thread fits its camera's frames while the results are made of those that are ready."""
    sizes = [(64 + 2 * n, 96 + 3 * n) for n in range(40)]

    def growing() -> Iterator[tuple[float, np.ndarray, None]]:
        for index, size in enumerate(sizes):
            yield 1 / 40, noise(index, size), None

    plain = {n: CameraModel(n, 96, 64, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
    opened = Bundle.open(allow_absence(toy_bundle))
    cameras = {"rgb": Scripted("rgb", steady(60, 40.0)), "ir": Scripted("ir", growing())}
    rig = Rig(plain, homography_rgb_to_ir=np.eye(3))
    stats = Pipeline(opened, OrtEngine(opened.model, 1), cameras, rig=rig, policy=QueuePolicy("queue", 100)).run()
    assert stats.pairs > 20


def test_recordings_begin_when_they_are_read(toy_bundle: Path) -> None:
    """The ten lines of the README: cameras first, an engine that takes its time, and no frame is lost."""
    opened = Bundle.open(toy_bundle)
    uri = "pattern:?fps=20&frames=20&width=96&height=64"
    cameras = open_cameras({"rgb": uri, "ir": uri})
    time.sleep(0.6)  # an engine is opened
    results = list(Pipeline(opened, open_selected_engine(opened), cameras, track=True))
    assert len(results) == 20
    ages = [(pair.arrived_ns - pair.stamp_ns) / 1e6 for pair, _ in results]
    assert max(ages) < 200


TEN_LINES = """
from edgemtl_runtime import Bundle, Pipeline, open_selected_engine, open_cameras
bundle = Bundle.open("bundle")
cameras = open_cameras({"rgb": "pattern:?fps=10&frames=12", "ir": "pattern:?fps=10&frames=12"})
pipeline = Pipeline(bundle, open_selected_engine(bundle), cameras, track=True)
print(sum(1 for _ in pipeline), max(pipeline.stats.to_dict()["latency_ms"]["total"].values()) < 100)
"""


def test_a_new_process_loses_no_frame_to_what_it_imports(toy_bundle: Path, tmp_path: Path) -> None:
    """Everything that is done for a pair is done once before the cameras begin."""
    (tmp_path / "bundle").symlink_to(toy_bundle)
    done = subprocess.run([sys.executable, "-c", TEN_LINES], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "12 True\n", done.stderr


async def _some(pipe: Pipeline, count: int) -> list[int]:
    found = []
    async for _, result in pipe:
        found.append(result.index)
        if len(found) == count:
            break
    return found


def test_asyncio_reads_beside_other_work(toy_bundle: Path) -> None:
    async def program() -> tuple[list[int], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        async for _, result in pipe:
            found.append(result.index)
        ticking.cancel()
        return found, ticks

    found: list[int] = []
    pipe = pipeline(toy_bundle, "pattern:?fps=50&frames=20&width=96&height=64")
    _, ticks = asyncio.run(program())
    assert found == list(range(len(found))) and len(found) >= 15 and ticks > 20
    with pytest.raises(EdgemtlError, match="used up"):
        asyncio.run(program())


@pytest.mark.parametrize("how", ["break", "cancel", "raise"])
def test_leaving_an_asynchronous_loop_closes(toy_bundle: Path, how: str) -> None:
    pipe = pipeline(toy_bundle)

    async def program() -> None:
        if how == "break":
            assert await _some(pipe, 3) == [0, 1, 2]
        elif how == "cancel":
            task = asyncio.create_task(_some(pipe, 1_000_000))
            while pipe.stats.pairs < 3:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not pipe.running
        else:
            with pytest.raises(RuntimeError, match="own"):
                async for _ in pipe:
                    raise RuntimeError("the program's own")

    asyncio.run(program())
    assert not pipe.running


GIVEN_UP = """
import asyncio
from edgemtl_runtime import Bundle, Pipeline, open_selected_engine, open_cameras
bundle = Bundle.open("bundle")
cameras = open_cameras({"rgb": "pattern:?fps=100", "ir": "pattern:?fps=100"})
pipeline = Pipeline(bundle, open_selected_engine(bundle), cameras)
loop, reading = asyncio.new_event_loop(), pipeline.__aiter__()
print(loop.run_until_complete(reading.__anext__())[1].index)
"""


def test_an_asynchronous_loop_that_is_given_up_does_not_keep_the_program(toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").symlink_to(toy_bundle)
    done = subprocess.run([sys.executable, "-c", GIVEN_UP], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "0\n" and not done.stderr


def test_cancelling_while_nothing_comes(toy_bundle: Path) -> None:
    opened = Bundle.open(allow_absence(toy_bundle))
    pipe = Pipeline(opened, OrtEngine(opened.model, 1), {"rgb": Scripted("rgb", steady(1, 0.001))})

    async def program() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_some(pipe, 1), 0.3)

    begun = time.monotonic()
    asyncio.run(program())
    assert not pipe.running and time.monotonic() - begun < 10  # a frame comes after 1000


class Interrupting:
    """A sink, a recorder and an engine in whose middle Ctrl-C is pressed; what it wrote is finished."""

    name, on_main_thread = "interrupting", True

    def __init__(self) -> None:
        self.written, self.closed = 0, 0

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        self.written += 1
        if self.written == 3:
            signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        self.closed += 1


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
    told = Told()
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

    told = Told()
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
