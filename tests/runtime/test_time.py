"""Stamps and pairs held against the truth: every picture shows the time at which it was drawn."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from clockface import read_face
from timed import Relay, TimedRtsp, Watched, timed_mjpeg, watch

from edgemtl_runtime.camera import Camera, open_camera, open_cameras
from edgemtl_runtime.camera.opencv import StreamCamera
from edgemtl_runtime.camera.stream import AvStreamCamera
from edgemtl_runtime.errors import CameraError
from edgemtl_runtime.frame import Frame
from edgemtl_runtime.recording import Recording

TOLERANCE_MS = 30.0

pytestmark = pytest.mark.realtime
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[TimedRtsp]:
    result = TimedRtsp(
        fast={"fps": 30},
        slow={"fps": 9},
        ordered={"fps": 30, "b_frames": 2},
        hevc={"fps": 15, "codec": "h265"},
        jpeg={"fps": 15, "codec": "mjpeg"},
        plain={"fps": 30, "slices": 1},
        plain_slow={"fps": 9, "slices": 1},
        plain_ordered={"fps": 30, "b_frames": 2, "slices": 1},
    )
    yield result
    result.kill()


def sound(result: Watched, pairs: int, error_ms: float = 5.0) -> None:
    """Check that no pair beyond the tolerance passed for a good one, and that stamps are near the truth."""
    row = result.row(TOLERANCE_MS)
    assert row["unmarked_beyond"] == 0 and row["pairs"] >= pairs, row
    assert row["pairs"] - row["uncertain"] >= pairs // 2, row
    assert max(row["stamp_error_ms_p50"]) <= error_ms, row
    assert abs(row["true_skew_ms_p50"] - row["reported_skew_ms_p50"]) <= error_ms, row


@pytest.mark.parametrize(
    ("rgb", "ir", "pairs"),
    [
        ("fast", "slow", 25),
        pytest.param("fast", "ordered", 80, marks=slow),
        ("ordered", "slow", 20),
        pytest.param("hevc", "slow", 25, marks=slow),
        pytest.param("jpeg", "slow", 25, marks=slow),
        ("slow", "http", 25),
        pytest.param("ordered", "gst:fast", 80, marks=slow),
        pytest.param("slow", "gst:ordered", 20, marks=slow),
    ],
)
def test_pairs_are_of_one_moment(server: TimedRtsp, rgb: str, ir: str, pairs: int) -> None:
    mjpeg = timed_mjpeg(15)
    try:
        cameras = open_cameras({"rgb": _uri(server, rgb, mjpeg.url), "ir": _uri(server, ir, mjpeg.url)})
        sound(watch(cameras, 4.5), pairs)
    finally:
        mjpeg.kill()


def _uri(server: TimedRtsp, name: str, http: str) -> str:
    if name == "http":
        return http
    if not name.startswith("gst:"):
        return server.url(name)
    if (path := "/usr/lib/python3/dist-packages") not in sys.path:
        sys.path.append(path)  # Debian's, which an environment of pip does not see
    pytest.importorskip("gi", reason="python3-gi is not installed for this Python")
    url = server.url(name.removeprefix("gst:"))
    return f"gst:rtspsrc location={url} latency=0 protocols=tcp ! rtph264depay ! decodebin"


@slow
def test_opencv_s_reader_is_stamped_right_or_tells_what_it_cannot_know(server: TimedRtsp) -> None:
    def both(first: str, second: str) -> dict[str, Camera]:
        return {n: StreamCamera(n, server.url(stream), {}) for n, stream in (("rgb", first), ("ir", second))}

    sound(watch(both("plain", "plain_slow"), 4.5), 20, error_ms=10)
    row = watch(both("plain_ordered", "plain_slow"), 4.5).row(TOLERANCE_MS)
    assert row["unmarked_beyond"] == 0 and row["stamp_source"][0] == "arrival"
    assert row["stamp_uncertainty_ms"][0] > row["stamp_error_ms_p50"][0] - 10


def test_ffmpeg_s_reader_gives_pictures_late_and_stamps_them_right(server: TimedRtsp) -> None:
    cameras: dict[str, Camera] = {
        "rgb": AvStreamCamera("rgb", server.url("plain"), {}),
        "ir": AvStreamCamera("ir", server.url("plain_ordered"), {}),
    }
    sound(watch(cameras, 5), 80)


@pytest.mark.parametrize(
    ("whole", "seconds"),
    [
        pytest.param(True, 0.3, id="server stands-0.3", marks=slow),
        pytest.param(True, 2.5, id="server stands-2.5"),
        pytest.param(False, 0.3, id="network stands-0.3"),
        pytest.param(False, 2.5, id="network stands-2.5", marks=slow),
    ],
)
def test_within_two_seconds_of_a_stall_pairs_are_true_again(server: TimedRtsp, seconds: float, whole: bool) -> None:
    relay = Relay(server.port)
    url = server.url("slow", server.port if whole else relay.port)
    stall: Callable[[], None] = lambda: server.stand(seconds) if whole else relay.hold(seconds)  # noqa: E731
    result = watch(open_cameras({"rgb": server.url("fast"), "ir": url}), 6.0 + seconds, stall=stall)
    relay.kill()
    sound(result, 40)
    recovery_s = result.recovery_s(TOLERANCE_MS)
    assert recovery_s is not None and recovery_s < 2


def test_arrivals_that_a_network_held_up_are_marked(server: TimedRtsp) -> None:
    mjpeg = timed_mjpeg(15)
    relay = Relay(mjpeg.port)
    url = f"http://me:secret@127.0.0.1:{relay.port}/stream"
    try:
        result = watch(open_cameras({"rgb": server.url("fast"), "ir": url}), 8, stall=lambda: relay.hold(1.0))
    finally:
        relay.kill()
        mjpeg.kill()
    sound(result, 60)
    assert result.recovery_s(TOLERANCE_MS) < 2  # type: ignore[operator]


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("eager", [True, False], ids=["boundary behind", "boundary before"])
def test_mjpeg_is_cut_where_its_pictures_end(lengths: bool, eager: bool) -> None:
    mjpeg = timed_mjpeg(9, lengths, eager)
    try:
        row = watch(open_cameras({"rgb": mjpeg.url}), 2.5).row(TOLERANCE_MS)
    finally:
        mjpeg.kill()
    assert row["pairs"] > 15 and row["stamp_error_ms_p50"][0] < 5 and row["latency_ms_p50"] < 25, row


def test_mjpeg_that_tells_when_its_pictures_were_taken_is_stamped_by_that() -> None:
    mjpeg = timed_mjpeg(9, stamps=True, delay_s=0.06)
    try:
        row = watch(open_cameras({"rgb": mjpeg.url}), 5).row(TOLERANCE_MS)
    finally:
        mjpeg.kill()
    assert row["stamp_source"] == ["stream"] and row["stamp_error_ms_p50"][0] < 5, row


def test_latency_is_that_of_the_network_and_the_decoder(server: TimedRtsp) -> None:
    """A picture is there when its last packet is, not when the next picture begins."""
    row = watch(open_cameras({"rgb": server.url("slow")}), 4).row(TOLERANCE_MS)
    assert row["latency_ms_p50"] < 25, row  # an interval is 111 ms


def first(camera: Camera, count: int = 1) -> list[Frame]:
    frames = camera.frames()
    result = list(itertools.islice(frames, count))
    camera.close()
    frames.close()  # type: ignore[attr-defined]
    return result


@pytest.mark.parametrize("reader", ["ours", "FFmpeg"])
def test_the_first_key_frame_is_shown(reader: str) -> None:
    server = TimedRtsp(rgb={"fps": 30, "key": 240, "slices": 1})  # eight seconds from key frame to key frame
    try:
        begun_ns = time.monotonic_ns()
        url = server.url("rgb")
        camera = open_camera(url, "rgb") if reader == "ours" else AvStreamCamera("rgb", url, {})
        frame = first(camera)[0]
        assert (time.monotonic_ns() - begun_ns) / 1e9 < 3
        truth = read_face(frame.image)
        assert truth is not None and (truth - begun_ns) / 1e9 < 1
    finally:
        server.kill()


def test_a_scene_that_stands_still_loses_no_frame() -> None:
    kinds = {f"s{crf}{path}": {"fps": 30, "still": True, "crf": crf, "noise": noise, "key": 60}
             for crf in (23, 32) for path, noise in enumerate((0.0, 0.7, 2.0))}  # fmt: skip
    server = TimedRtsp(**kinds)
    try:
        runs = {name: Recording(open_cameras({"rgb": server.url(name)}), TOLERANCE_MS) for name in kinds}
        events: list[str] = []
        threads = []
        for name, run in runs.items():
            run.capture.states["rgb"].on_event = lambda event, name=name: events.append(f"{name} {event}")
            threads.append(threading.Thread(target=lambda run=run: [None for _ in run]))
        for thread in threads:
            thread.start()
        time.sleep(4)
        for run in runs.values():
            run.stop()
        for thread in threads:
            thread.join()
    finally:
        server.kill()
    for name, run in runs.items():
        drops = {cause: count for cause, count in run.stats.drops.items() if "left at the end" not in cause}
        assert not drops and run.stats.pairs > 80, (name, drops, run.stats.pairs)
    assert not [line for line in events if "stale" in line or "lost" in line]


def test_a_camera_s_password_is_proved_by_a_digest() -> None:
    server = TimedRtsp(user="me:pass word@x", rgb={"fps": 15})
    try:
        url = f"rtsp://me:pass%20word%40x@127.0.0.1:{server.port}/rgb"
        assert len(first(open_camera(url, "rgb"), 5)) == 5
        with pytest.raises(CameraError, match="wrong user or password") as error_info:
            open_camera(url.replace("word", "secret"), "rgb")
        assert "secret" not in str(error_info.value)
        with pytest.raises(CameraError, match="give rtsp://USER:PASSWORD@HOST/PATH"):
            open_camera(server.url("rgb"), "rgb")
    finally:
        server.kill()


def test_a_camera_of_this_network_s_time_is_stamped_without_its_encoder_s_delay() -> None:
    server = TimedRtsp(rgb={"codec": "h265", "fps": 15, "b_frames": 2})  # this encoder looks ahead for 400 ms
    try:
        frames = first(open_camera(server.url("rgb") + "?clock=ntp", "rgb"), 130)
    finally:
        server.kill()
    errors = [(f.stamp_ns - truth, f.uncertainty_ns) for f in frames if (truth := read_face(f.image)) is not None]
    assert all(abs(error) < unsure + 3_000_000 for error, unsure in errors)
    assert np.median([abs(error) for error, _ in errors[-20:]]) < 3_000_000


def test_udp_brings_the_same_pictures(server: TimedRtsp) -> None:
    frames = first(open_camera(server.url("fast") + "?transport=udp", "rgb"), 40)
    errors = [(f.stamp_ns - truth) / 1e6 for f in frames[20:] if (truth := read_face(f.image)) is not None]
    assert len(errors) > 15 and np.median(np.abs(errors)) < 5


def test_an_address_that_is_none_says_so(server: TimedRtsp) -> None:
    with pytest.raises(CameraError, match="answers DESCRIBE with 404"):
        open_camera(server.url("nothing"), "rgb")
    with pytest.raises(CameraError, match="cannot be opened"):
        open_camera("rtsp://127.0.0.1:9/x", "rgb")
