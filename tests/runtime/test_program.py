"""The runtime as a part of somebody's program: public names, reading, ending, sharing, asyncio."""

from __future__ import annotations

import asyncio
import gc
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
from programs import LIVE, pipeline
from programs import nothing_is_left as nothing_is_left  # checked after every test
from servers import Scripted, allow_absence, noise, steady

import edgemtl_runtime
from edgemtl_runtime import Bundle, EdgemtlError, Pipeline, Recording, open_selected_engine
from edgemtl_runtime.camera import open_camera, open_cameras
from edgemtl_runtime.camera.wrappers import Adjusted
from edgemtl_runtime.engine.onnxruntime import OrtEngine

pytestmark = pytest.mark.realtime

NAMES = """
Attributes Boxes Bundle BundleError Camera CameraError DepthMap EdgeMap EdgemtlError Engine EngineError Event
EngineConfig Frame FramePair HeadResult LabelMap NormalMap Pipeline Points PreparedFrame QueuePolicy Recorder Recording
Result Rig ScalarMap Scalars Sink Stats Status Tensor UsageError VectorMap open_camera open_cameras open_engine
open_selected_engine
"""
"""What programs may import from the top; what goes from here goes from them."""


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
    swapped = {"rgb": open_camera(LIVE, "ir"), "ir": open_camera(LIVE, "rgb")}
    with pytest.raises(EdgemtlError, match="--rgb is given a camera of the name 'ir'; open it as 'rgb'"):
        Pipeline(opened, engine, swapped)
    nine = {name: open_camera(LIVE, name) for name in "abcdefghi"}
    with pytest.raises(EdgemtlError, match="9 cameras are given; give one, or up to 8 that are paired"):
        Recording(nine, 30.0)


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
