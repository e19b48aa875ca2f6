"""What breaks on a robot, one by one, and what the runtime then does; docs/live.md has the same as a table."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import Mjpeg, Rtsp, Scripted, Watched, allow_absence, jpeg, noise, steady

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.camera.wrappers import Adjusted
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import CameraError, EdgemtlError
from edgemtl_runtime.frame import FramePair
from edgemtl_runtime.policy import QueuePolicy
from edgemtl_runtime.result import Result
from edgemtl_runtime.rig import CameraModel, Rig

pytestmark = pytest.mark.realtime


@pytest.fixture
def mjpeg() -> Iterator[Mjpeg]:
    server = Mjpeg()
    yield server
    server.kill()


@pytest.fixture
def rtsp() -> Iterator[Rtsp]:
    server = Rtsp()
    yield server
    server.kill()


def test_a_server_that_is_killed_and_comes_back_is_found_within_two_seconds(toy_bundle: Path, mjpeg: Mjpeg) -> None:
    cameras = open_cameras({"rgb": "pattern:?fps=30", "ir": mjpeg.url})
    run = Watched(allow_absence(toy_bundle), cameras)
    run.until(run.both)
    mjpeg.kill()
    run.until(lambda: (last := run.last()) is not None and last.missing == ("ir",), 3)
    assert run.state("ir") == "lost" and run.state("rgb") == "live"
    time.sleep(1.5)  # long enough for the waits to have grown
    mjpeg.start()
    assert run.until(run.both) <= 2.0
    assert run.state("ir") == "live" and run.pipeline.status()["cameras"]["ir"]["reconnects"] == 1
    indices = [result.index for _, result in run.results]
    assert indices == sorted(set(indices))
    run.stop()
    assert "secret" not in str(run.pipeline.events) + str(run.pipeline.status())


def test_an_rtsp_server_that_is_killed_and_comes_back(toy_bundle: Path, rtsp: Rtsp) -> None:
    cameras = open_cameras({name: rtsp.url(name) for name in ("rgb", "ir")})
    run = Watched(allow_absence(toy_bundle), cameras)
    run.until(run.both)
    assert run.last() is not None and run.last().stamp_sources == {"rgb": "stream", "ir": "stream"}  # type: ignore[union-attr]
    rtsp.kill()
    run.until(lambda: run.state("rgb") == run.state("ir") == "lost", 5)
    count = len(run.results)
    time.sleep(1.0)
    assert len(run.results) <= count + 1  # nothing is made up meanwhile
    rtsp.start()
    took = run.until(lambda: run.both() and run.state("rgb") == "live" and len(run.results) > count + 5)
    assert took <= 3.0  # 2 s, and the server's own start of its encoder
    run.stop()


def test_a_stream_that_freezes_is_lost_and_then_found(toy_bundle: Path, rtsp: Rtsp) -> None:
    run = Watched(allow_absence(toy_bundle), open_cameras({"rgb": "pattern:?fps=30", "ir": rtsp.url("ir")}))
    run.until(run.both)
    rtsp.signal(signal.SIGSTOP)
    run.until(lambda: run.state("ir") == "lost" and (last := run.last()) is not None and last.missing == ("ir",), 5)
    time.sleep(3.0)  # past the time-out of reading: it is being opened again
    rtsp.signal(signal.SIGCONT)
    assert run.until(run.both) <= 2.0
    run.stop()


def test_corrupt_pictures_are_counted_and_left_out(toy_bundle: Path, mjpeg: Mjpeg) -> None:
    def paint(index: int) -> bytes:
        data = jpeg(index, (256, 384))
        broken = (data[:20] + b"\xff\x00garbage" * 4, data[: len(data) // 2])  # nonsense, and one that is cut off
        return broken[index % 2] if index % 3 == 2 else data

    mjpeg.paint = paint
    run = Watched(toy_bundle, open_cameras({"rgb": mjpeg.url, "ir": "pattern:?fps=30"}))
    run.until(lambda: run.pipeline.stats.drops["rgb: corrupt packet"] >= 5 and len(run.results) >= 10)
    assert run.state("rgb") == "live" and "lost" not in run.states("rgb")
    run.stop()


def test_a_source_that_changes_its_size_is_planned_anew(toy_bundle: Path, mjpeg: Mjpeg) -> None:
    run = Watched(toy_bundle, open_cameras({"rgb": mjpeg.url, "ir": "pattern:?fps=30"}))
    run.until(run.both)
    before = run.last()
    mjpeg.paint = lambda index: jpeg(index, (128, 192))
    run.until(lambda: (last := run.last()) is not None and last.heads["boxes"].xyxy.max() > 100)  # type: ignore[union-attr]
    after = run.last()
    assert before is not None and after is not None
    # the toy's box is around the middle: twice the pixels, twice the numbers
    assert np.allclose(2 * before.heads["boxes"].xyxy, after.heads["boxes"].xyxy)  # type: ignore[union-attr]
    run.stop()


def test_a_clock_that_jumps_costs_a_few_frames(toy_bundle: Path) -> None:
    def jumping(base: int, jump_ns: int) -> Iterator[tuple[float, np.ndarray, int]]:
        for index in range(90):
            yield 1 / 60, noise(index), base + index * 16_666_667 + (jump_ns if index >= 45 else 0)

    for jump_ns in (-30_000_000_000, 30_000_000_000):
        base = time.monotonic_ns()
        cameras = {name: Scripted(name, jumping(base, jump_ns)) for name in ("rgb", "ir")}
        run = Watched(toy_bundle, cameras)
        run.thread.join(60)
        stats = run.pipeline.stats
        lost = sum(count for cause, count in stats.drops.items() if not cause.startswith("pair"))
        assert stats.pairs + stats.drops["pair: superseded"] >= 84 and lost <= 12, stats.to_dict()
        run.stop()


class Lazy:
    """A sink, or an engine, that takes its time."""

    name, on_main_thread = "lazy", False

    def __init__(self, seconds: float, engine: object = None) -> None:
        self.seconds, self.engine, self.seen = seconds, engine, 0

    def write(self, pair: FramePair, result: Result) -> None:
        time.sleep(self.seconds)
        self.seen += 1

    def run(self, inputs: dict) -> dict:
        time.sleep(self.seconds)
        return self.engine.run(inputs)  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        """Nothing to finish."""


def test_a_consumer_ten_times_too_slow_stalls_nobody(toy_bundle: Path) -> None:
    lazy = Lazy(0.33)
    run = Watched(toy_bundle, open_cameras({"rgb": "pattern:?fps=30", "ir": "pattern:?fps=30"}), sinks=(lazy,))
    run.until(lambda: len(run.results) >= 90, 10)
    assert run.results[-1][0] - run.results[0][0] < 4.5  # 90 results at 30 a second
    run.stop()
    dropped = run.pipeline.stats.drops["sink lazy: too slow"]
    assert dropped and lazy.seen + dropped == run.pipeline.stats.pairs


def test_a_network_ten_times_too_slow_sees_the_newest_pair(toy_bundle: Path) -> None:
    engine = Lazy(0.33, OrtEngine(Bundle.open(toy_bundle).model, 1))
    run = Watched(toy_bundle, open_cameras({"rgb": "pattern:?fps=30", "ir": "pattern:?fps=30"}), engine)
    run.until(lambda: len(run.results) >= 5)
    run.stop()
    wait_ms = run.pipeline.stats.to_dict()["latency_ms"]["wait"]["max"]
    assert wait_ms < 80  # two periods of the cameras: nothing older was waiting
    assert run.pipeline.stats.drops["pair: superseded"] > 20


def test_pairs_that_are_too_old_are_not_run(toy_bundle: Path) -> None:
    engine = Lazy(0.1, OrtEngine(Bundle.open(toy_bundle).model, 1))
    policy = QueuePolicy("queue", size=8, max_age_ms=100)
    run = Watched(toy_bundle, open_cameras({"rgb": "pattern:?fps=60", "ir": "pattern:?fps=60"}), engine, policy=policy)
    run.until(lambda: len(run.results) >= 12)
    run.stop()
    stats = run.pipeline.stats
    assert stats.drops["pair: older than 100 ms"] > 5 and stats.drops["pair: queue full"] > 5
    assert stats.to_dict()["latency_ms"]["wait"]["max"] < 150


def test_nine_and_thirty_frames_a_second(toy_bundle: Path) -> None:
    run = Watched(toy_bundle, {"rgb": Scripted("rgb", steady(300)), "ir": Scripted("ir", steady(300, 9.0))})
    run.until(lambda: len(run.results) >= 18)
    run.stop()
    stats = run.pipeline.stats
    assert stats.frames["ir"] - stats.delivered["ir"] <= 3  # every thermal frame has found its partner
    assert stats.to_dict()["skew_ms"]["max"] <= 30 and not stats.unpaired


@pytest.mark.parametrize("reported", [True, False])
def test_a_constant_offset_of_120_ms(toy_bundle: Path, reported: bool) -> None:
    """Told by offset_ms the true partners meet; untold a warning says what to do."""
    base = time.monotonic_ns()

    def late(offset_ns: int) -> Iterator[tuple[float, np.ndarray, int]]:
        for index in range(60):
            yield 0.02, np.full((64, 96), index, np.uint8), base + index * 400_000_000 + offset_ns

    cameras = {"rgb": Scripted("rgb", late(0)), "ir": Scripted("ir", late(120_000_000))}
    if reported:
        cameras["ir"] = Adjusted(cameras["ir"], offset_ns=-120_000_000)  # type: ignore[assignment]
    pairs: list[FramePair] = []
    run = Watched(toy_bundle, cameras, sinks=(Keep(pairs),), policy=QueuePolicy("queue", size=100))
    run.thread.join(60)
    warnings = run.pipeline.status()["warnings"]
    if reported:
        assert len(pairs) >= 59 and not warnings
        assert all(p.frames["rgb"].image[0, 0] == p.frames["ir"].image[0, 0] for p in pairs)
    else:
        assert not pairs and len(warnings) == 1 and "add ?offset_ms=-120 to --ir" in warnings[0]


class Keep(Lazy):
    """Keeps the pairs."""

    def __init__(self, pairs: list[FramePair]) -> None:
        super().__init__(0)
        self.pairs = pairs

    def write(self, pair: FramePair, result: Result) -> None:
        self.pairs.append(pair)


def test_a_shutter_freeze_is_stale_not_dead_and_never_new(toy_bundle: Path) -> None:
    def shutter() -> Iterator[tuple[float, np.ndarray, None]]:
        yield from steady(30)
        for _ in range(24):  # 0.8 s
            yield 1 / 30, noise(29), None
        yield from steady(40, first=100)

    cameras = {"rgb": Scripted("rgb", steady(200)), "ir": Scripted("ir", shutter())}
    pairs: list[FramePair] = []
    run = Watched(allow_absence(toy_bundle), cameras, sinks=(Keep(pairs),))
    run.thread.join(60)
    assert run.states("ir") == ["live", "stale", "live", "ended"]
    assert run.pipeline.stats.drops["ir: repeated picture"] == 24
    seen = [p.frames["ir"].image.tobytes() for p in pairs if "ir" in p.frames]
    assert len(seen) == len(set(seen))
    assert sum("ir" not in p.frames for p in pairs) >= 8  # the colour camera went on alone
    run.stop()


def test_a_camera_that_is_not_there_at_the_start(toy_bundle: Path, mjpeg: Mjpeg) -> None:
    mjpeg.kill()
    with pytest.raises(CameraError, match="cannot be opened"):
        open_cameras({"rgb": "pattern:?fps=30", "ir": mjpeg.url})
    run = Watched(allow_absence(toy_bundle), open_cameras({"rgb": "pattern:?fps=30", "ir": mjpeg.url}, wait=True))
    run.until(lambda: (last := run.last()) is not None and last.missing == ("ir",), 3)
    assert run.state("ir") == "lost"
    mjpeg.start()
    assert run.until(run.both) <= 2.0
    run.stop()


def test_a_full_disk_under_a_sink_ends_the_run_or_leaves_it_out(toy_bundle: Path, tmp_path: Path) -> None:
    """/dev/full takes nothing: "no space left on device", as of a full disk."""
    from edgemtl_runtime.sink.jsonl import JsonLines

    full, whole = Path("/dev/full"), tmp_path / "whole.jsonl"
    cameras = {"rgb": "pattern:?fps=30&frames=40", "ir": "pattern:?fps=30&frames=40"}
    run = Watched(toy_bundle, open_cameras(cameras), sinks=(JsonLines(full), JsonLines(whole)), on_error="degrade")
    run.thread.join(60)
    assert run.error is None and len(run.results) == len(whole.read_text().splitlines()) > 30
    line = "--jsonl /dev/full: cannot be written (No space left on device)"
    assert any(f"sink jsonl: {line}" in text for text in run.pipeline.status()["warnings"])
    run = Watched(toy_bundle, open_cameras(cameras), sinks=(JsonLines(full),))
    run.thread.join(60)
    assert isinstance(run.error, EdgemtlError) and str(run.error) == line


def test_a_camera_s_thread_that_crashes_ends_the_run_or_is_left_out(toy_bundle: Path) -> None:
    def crashing() -> Iterator[tuple[float, np.ndarray, None]]:
        yield from steady(10)
        raise RuntimeError("a driver's bug")

    for degrade in (True, False):
        cameras = {"rgb": Scripted("rgb", steady(60)), "ir": Scripted("ir", crashing())}
        on_error = "degrade" if degrade else "end"
        run = Watched(allow_absence(toy_bundle), cameras, on_error=on_error)
        run.thread.join(60)
        if degrade:
            assert run.error is None and run.last().missing == ("ir",) and len(run.results) > 40  # type: ignore[union-attr]
            assert "a driver's bug" in str(run.pipeline.events)
        else:
            assert isinstance(run.error, RuntimeError) and len(run.results) < 15


def test_with_a_rig_pictures_of_another_shape_are_refused_until_they_fit_again(toy_bundle: Path) -> None:
    def changing() -> Iterator[tuple[float, np.ndarray, None]]:
        yield from steady(20)
        for index in range(20):
            yield 1 / 30, noise(100 + index, (64, 64)), None
        yield from steady(20, first=200)

    plain = {n: CameraModel(n, 96, 64, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
    rig = Rig(plain, homography_rgb_to_ir=np.eye(3))
    cameras = {"rgb": Scripted("rgb", steady(100)), "ir": Scripted("ir", changing())}
    run = Watched(allow_absence(toy_bundle), cameras, rig=rig)
    run.until(lambda: run.state("ir") == "lost" and (last := run.last()) is not None and last.missing == ("ir",))
    run.until(run.both)
    run.stop()
    assert run.pipeline.stats.drops["ir: cannot be fitted"] == 20
    assert "64x64 images, the rig was calibrated with 96x64" in str(run.pipeline.events)
    assert all(result.camera == "rgb" for _, result in run.results)


def test_a_thermal_stream_of_nine_frames_a_second_keeps_time(toy_bundle: Path, mjpeg: Mjpeg) -> None:
    """FFmpeg counts MJPEG at 25 a second; stamps that believe it fall behind by more each second."""
    mjpeg.fps = 9.0
    run = Watched(toy_bundle, open_cameras({"rgb": "pattern:?fps=30", "ir": mjpeg.url}))
    run.until(lambda: run.pipeline.stats.delivered["ir"] >= 27, 8)
    run.stop()
    assert run.pipeline.stats.frames["ir"] - run.pipeline.stats.delivered["ir"] <= 4


def test_a_sink_that_hangs_does_not_keep_the_program(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_runtime.sink.CLOSE_S", 0.3)
    run = Watched(toy_bundle, open_cameras({"rgb": "pattern:?fps=30", "ir": "pattern:?fps=30"}), sinks=(Lazy(60),))
    run.until(lambda: len(run.results) >= 30)
    run.pipeline.stop()
    run.thread.join(30)
    assert not run.thread.is_alive() and "sink lazy: did not end within" in str(run.error)


def test_a_frame_that_cannot_be_fitted_or_run_is_counted(toy_bundle: Path) -> None:
    class Broken:
        name = "broken"

        def run(self, inputs: dict) -> dict:
            raise RuntimeError("the engine is gone")

    run = Watched(toy_bundle, open_cameras({"rgb": "pattern:?fps=30", "ir": "pattern:?fps=30"}), Broken())
    run.thread.join(30)
    assert "the engine is gone" in str(run.error) and run.pipeline.stats.drops["pair: failed"] == 1
    run.stop()


def test_both_causes_of_a_loss_are_told_once(toy_bundle: Path, mjpeg: Mjpeg) -> None:
    run = Watched(allow_absence(toy_bundle), open_cameras({"rgb": "pattern:?fps=30", "ir": mjpeg.url}))
    run.until(run.both)
    mjpeg.kill()
    run.until(lambda: "refused" in str(run.pipeline.events), 6)
    time.sleep(2.5)
    details = [event.detail for event in run.pipeline.events if event.camera == "ir" and event.state == "lost"]
    assert len(details) == len(set(details)) <= 4
    run.stop()
