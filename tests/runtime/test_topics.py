"""Topics as cameras: pictures that tell their time, published on the wire of ROS 2 by a process of its own."""

from __future__ import annotations

import array
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from clockface import BLOCK, HEIGHT, ROWS, WIDTH, face, read_face
from servers import free_port
from timed import watch
from topics import Publisher, publishing, take

from edgemtl_runtime.alignment_check import lens_warning
from edgemtl_runtime.camera import open_camera
from edgemtl_runtime.camera.pushed import HeaderClock
from edgemtl_runtime.camera.wrappers import complete
from edgemtl_runtime.errors import CameraError, EdgemtlError, UsageError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.messages.cameras import Setup, lens_of
from edgemtl_runtime.messages.ros import of_pair
from edgemtl_runtime.messages.store import CameraInfo, RegionOfInterest
from edgemtl_runtime.rig.camera_model import CameraModel
from edgemtl_runtime.wall import WALL

pytest.importorskip("zenoh", reason="needs eclipse-zenoh: the extra zenoh")
MS = 1_000_000


def errors_ms(frames: list[Frame]) -> list[float]:
    """Return how far stamps are from the times in the pictures."""
    times = [read_face(frame.image if frame.image.dtype == np.uint8 else frame.image >> 8) for frame in frames]
    assert None not in times
    return [abs(frame.stamp_ns - truth) / MS for frame, truth in zip(frames, times, strict=True) if truth is not None]


FORMS: dict[str, dict[str, Any]] = {
    "rmw_zenoh": {},
    "Humble's": {"form": "humble", "domain": 7},
    "the bridge's": {"form": "bridge"},
    "grey": {"encoding": "mono8"},
    "compressed": {"encoding": "jpeg"},
    "compressed through the bridge": {"encoding": "jpeg", "form": "bridge"},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_stamp_is_the_time_in_the_picture(form: str) -> None:
    topic = {"topic": "robot/cam/image_raw", **FORMS[form]}
    with publishing(topic) as publisher:
        camera = open_camera(publisher.uri("robot/cam/image_raw", f"&domain={topic.get('domain', 0)}"), "rgb")
        frames = take(camera, 12)
    assert [frame.index for frame in frames] == list(range(12))
    assert {frame.stamp_source for frame in frames} == {"driver"}
    assert max(errors_ms(frames)) < 5 and max(frame.uncertainty_ns for frame in frames) < 5 * MS
    assert frames[0].image.shape == ((128, 192) if form == "grey" else (128, 192, 3))


def test_counts_keep_their_sixteen_bits() -> None:
    with publishing({"topic": "ir/image", "encoding": "mono16"}) as publisher:
        frames = take(open_camera(publisher.uri("ir/image"), "ir"), 3)
    assert frames[0].image.dtype == np.uint16 and frames[0].image.max() > 255
    assert max(errors_ms(frames)) < 5


@pytest.mark.parametrize("hours", [-3, 5])
def test_a_clock_that_is_far_away_is_mapped_by_the_smallest_delay(hours: int) -> None:
    with publishing({"topic": "cam", "clock_ns": hours * 3_600_000 * MS}) as publisher:
        frames = take(open_camera(publisher.uri("cam"), "rgb"), 30)
    assert {frame.stamp_source for frame in frames} == {"stream"}
    assert np.median(errors_ms(frames)[15:]) < 10


def test_two_publishers_are_paired_by_capture_whatever_their_delays() -> None:
    """The thermal picture comes 80 ms after it was drawn; at 20 a second, pairs by arrival would be a picture apart."""
    with publishing({"topic": "rgb/image"}) as one, publishing({"topic": "ir/image", "delay_s": 0.08}) as other:
        cameras = {
            "rgb": open_camera(one.uri("rgb/image"), "rgb"),
            "ir": open_camera(other.uri("ir/image"), "ir"),
        }
        row = watch(cameras, 4.0, tolerance_ms=30).row(30, skip_s=0.5)
    assert row["pairs"] > 40 and row["beyond_tolerance"] == 0
    assert row["true_skew_ms_p50"] < 26 and max(row["stamp_error_ms_p50"]) < 5


def test_a_publisher_that_is_killed_and_started_again_goes_on() -> None:
    publisher = Publisher({"topic": "cam"})
    camera = open_camera(publisher.uri("cam"), "rgb")
    frames, again = [], None
    for frame in complete(camera).frames():
        frames.append(frame)
        if len(frames) == 5:
            publisher.kill()
            again = Publisher({"topic": "cam"}, port=publisher.port)
        if len(frames) == 15:
            break
    camera.close()
    assert again is not None
    again.kill()
    assert [frame.index for frame in frames] == list(range(15)) and max(errors_ms(frames)) < 5


def test_damaged_messages_are_dropped_and_the_rest_is_taken() -> None:
    with publishing({"topic": "cam", "damage": 3}) as publisher:
        frames = take(open_camera(publisher.uri("cam"), "rgb"), 12)
    steps = np.diff([frame.stamp_ns for frame in frames]) / 50 / MS
    assert max(errors_ms(frames)) < 5 and steps.max() > 1.5


def test_a_topic_that_is_not_there_names_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_runtime.camera.pushed.OPEN_S", 0.5)
    with (
        publishing({"topic": "camera/image_raw"}, {"topic": "thermal/image_raw"}) as publisher,
        pytest.raises(CameraError, match=r"no image came in 0\.5 s; images are announced on camera/image_raw, ther"),
    ):
        open_camera(publisher.uri("camera/image_row"), "rgb")


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("zenoh://", "names no topic; give zenoh://NAME/OF/THE/TOPIC"),
        ("zenoh:///a//b", "names no topic"),
        ("ros2://a*", "names no topic; give ros2://"),
        ("zenoh://cam?rate=3", "unknown option 'rate'"),
        ("zenoh://cam?clock=ntp", "option clock=ntp is not one of header, arrival, none"),
    ],
)
def test_wrong_addresses_are_one_line(uri: str, line: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_camera(uri, "rgb")
    assert line in str(raised.value) and "\n" not in str(raised.value)


def test_an_endpoint_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_runtime.camera.topic.zenoh.CONNECT_MS", 200)
    with pytest.raises(CameraError, match=r"tcp/127\.0\.0\.1:\d+ does not answer") as raised:
        open_camera(f"zenoh://cam?endpoint=tcp/127.0.0.1:{free_port()}", "rgb")
    assert "\n" not in str(raised.value)


def test_without_rclpy_the_line_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(
        CameraError, match=r"source ROS 2's setup\.bash, or give zenoh://cam/image where rmw_zenoh runs"
    ):
        open_camera("ros2://cam/image", "rgb")


@pytest.mark.parametrize(
    ("clock", "delay_ms", "source"),
    [("header", 3, "driver"), ("header", 1500, "driver"), ("header", -10, "driver"), ("header", 2500, "stream"),
     ("header", -500, "stream"), ("arrival", 3, "stream"), ("none", 3, "arrival")],
)  # fmt: skip
def test_a_header_is_the_stamp_where_it_is_plausible(clock: str, delay_ms: int, source: str) -> None:
    now_ns = time.monotonic_ns()
    header_ns = now_ns + WALL.offset_ns() - delay_ms * MS
    stamp_ns, stamp_source, _ = HeaderClock(clock).stamp(header_ns, now_ns)
    assert stamp_source == source and stamp_ns <= now_ns
    if source == "driver":
        assert abs(stamp_ns - (now_ns - max(delay_ms, 0) * MS)) < MS
    assert HeaderClock(clock).stamp(0, now_ns)[1] == "arrival"


@pytest.mark.parametrize("form", ["ros2", "bridge"])
@pytest.mark.parametrize("topic", ["front/image_raw", "front/image_raw/compressed"])
def test_the_calibration_next_to_the_images_is_passed_on(form: str, topic: str) -> None:
    encoding = "jpeg" if topic.endswith("compressed") else "rgb8"
    with publishing({"topic": topic, "form": form, "focal_px": 150.0, "encoding": encoding}) as publisher:
        frame = take(open_camera(publisher.uri(topic), "rgb"), 5)[-1]
    assert frame.lens is not None and frame.frame_id == "camera_optical_frame"
    assert frame.lens.size == frame.size and frame.lens.distortion.tolist() == [0.1, -0.2, 0, 0, 0]
    messages = {topic: message for topic, _, message in of_pair(FramePair({"rgb": frame}), None, 0, Setup())}
    info = messages["/camera/rgb/camera_info"]
    assert info.k.tolist() == [150, 0, WIDTH / 2, 0, 150, HEIGHT / 2, 0, 0, 1]  # type: ignore[attr-defined]
    assert info.header.frame_id == "camera_optical_frame"  # type: ignore[attr-defined]
    setup = Setup.of(None, ["rgb=mast"], ["rgb"])
    named = next(message for _, _, message in of_pair(FramePair({"rgb": frame}), None, 0, setup))
    assert named.header.frame_id == "mast"  # type: ignore[attr-defined]


K = [150.0, 0.0, 96.0, 0.0, 150.0, 64.0, 0.0, 0.0, 1.0]
WHOLE = RegionOfInterest(0, 0, 0, 0, False)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"distortion_model": "equidistant", "d": [0.1] * 4}, "lens model 'equidistant'"),
        ({"d": [0.1] * 8}, "lens model 'plumb_bob'"),
        ({"binning_x": 2}, "binned or cropped"),
        ({"roi": RegionOfInterest(0, 0, 10, 10, False)}, "binned or cropped"),
        ({"k": [float("nan"), *K[1:]]}, "not finite"),
        ({"k": [150.0, 0, 0, 9.0, 150.0, 0, 0, 0, 1.0]}, "camera_matrix is not"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_reported(fields: dict[str, Any], reason: str) -> None:
    plain = {"distortion_model": "plumb_bob", "d": [0.0] * 5, "k": K, "binning_x": 1, "roi": WHOLE, **fields}
    with pytest.raises(EdgemtlError, match=reason):
        lens_of(SimpleNamespace(width=192, height=128, binning_y=1, **plain), "rgb")  # type: ignore[arg-type]


def test_a_camera_that_is_not_calibrated_says_so_by_zeros() -> None:
    info = CameraInfo(None, 128, 192, "", [], [0.0] * 9, [], [], 0, 0, WHOLE)  # type: ignore[arg-type]
    assert lens_of(info, "rgb") is None


def test_a_rig_of_another_lens_is_warned_of() -> None:
    model = CameraModel("rgb", 384, 256, np.array([[300.0, 0, 192], [0, 300, 128], [0, 0, 1]]))
    image = np.zeros((128, 192, 3), np.uint8)
    for focal_px, warned in ((150.0, False), (152.0, False), (170.0, True)):
        lens = CameraModel("rgb", 192, 128, np.array([[focal_px, 0, 96], [0, focal_px, 64], [0, 0, 1]]))
        warning = lens_warning(model, Frame(image, 0, "rgb", 0, lens=lens))
        assert (warning is not None) is warned
    assert warning is not None and "300" not in warning and "focal length of 150 px" in warning and "170 px" in warning


class FakeRos:
    """A stand-in for rclpy: a topic by name with its type, and messages as a subscription gets them."""

    def __init__(self, topic: str, kind: str) -> None:
        self.topic, self.kind = topic, kind
        self.callback: Any = None
        self.calls: list[str] = []

    def message(self) -> Any:
        drawn_ns = time.monotonic_ns()
        unix_ns = drawn_ns + WALL.offset_ns()
        stamp = SimpleNamespace(sec=unix_ns // 10**9, nanosec=unix_ns % 10**9)
        header = SimpleNamespace(stamp=stamp, frame_id="camera")
        luma = face(drawn_ns) + bytes(WIDTH * (HEIGHT - BLOCK * ROWS))
        if self.kind.endswith("CompressedImage"):
            data = cv2.imencode(".png", np.frombuffer(luma, np.uint8).reshape(HEIGHT, WIDTH))[1].tobytes()
            return SimpleNamespace(header=header, format="mono8; png compressed", data=array.array("B", data))
        return SimpleNamespace(
            header=header, height=HEIGHT, width=WIDTH, encoding="mono8", is_bigendian=0, step=WIDTH,
            data=array.array("B", luma),
        )  # fmt: skip

    def modules(self) -> dict[str, dict[str, Any]]:
        def spin_once(timeout_sec: float) -> None:
            time.sleep(0.03)
            self.callback(self.message())

        def subscribe(kind: str, topic: str, callback: Any, qos: str) -> None:
            self.calls.append(f"subscribe {kind} {topic} {qos}")
            if kind == "CameraInfo":
                callback(CameraInfo(None, HEIGHT, WIDTH, "plumb_bob", [], K, [], [], 0, 0, WHOLE))
            else:
                self.callback = callback

        node = SimpleNamespace(
            get_topic_names_and_types=lambda: [(self.topic, [self.kind]), ("/rosout", ["rcl_interfaces/msg/Log"])],
            create_subscription=subscribe,
            destroy_node=lambda: self.calls.append("destroy"),
        )
        executor = SimpleNamespace(
            add_node=lambda node: None, spin_once=spin_once, shutdown=lambda: self.calls.append("executor")
        )
        return {
            "rclpy": {
                "init": lambda context, signal_handler_options: self.calls.append(f"init {signal_handler_options}"),
                "create_node": lambda name, context: node,
                "shutdown": lambda context: self.calls.append("shutdown"),
            },
            "rclpy.context": {"Context": object},
            "rclpy.signals": {"SignalHandlerOptions": SimpleNamespace(NO="no signals")},
            "rclpy.executors": {"SingleThreadedExecutor": lambda context: executor},
            "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
            "sensor_msgs": {},
            "sensor_msgs.msg": {"Image": "Image", "CompressedImage": "CompressedImage", "CameraInfo": "CameraInfo"},
        }

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name, members in self.modules().items():
            module = ModuleType(name)
            vars(module).update(members)
            patch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("kind", ["Image", "CompressedImage"])
def test_a_topic_by_rclpy(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """On a stand-in: it shows what is asked of rclpy, not what rclpy does."""
    ros = FakeRos("/cam/image", f"sensor_msgs/msg/{kind}")
    ros.install(monkeypatch)
    frames = take(open_camera("ros2://cam/image", "ir"), 5)
    assert max(errors_ms(frames)) < 5 and {frame.stamp_source for frame in frames} == {"driver"}
    assert ros.calls == [
        "init no signals", f"subscribe {kind} /cam/image sensor data",
        "subscribe CameraInfo /cam/camera_info sensor data", "executor", "destroy", "shutdown",
    ]  # fmt: skip
    assert frames[-1].lens is not None and frames[-1].lens.camera_matrix.ravel().tolist() == K


@pytest.mark.parametrize(
    ("topic", "kind", "line"),
    [
        ("/camera/image", "sensor_msgs/msg/Image", "nothing publishes on it; images are on /camera/image"),
        ("/cam/image", "sensor_msgs/msg/PointCloud2", "is of sensor_msgs/msg/PointCloud2, which is no image"),
        ("/scan", "sensor_msgs/msg/LaserScan", "nothing publishes on it; there are no images here"),
    ],
)
def test_what_rclpy_does_not_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, topic: str, kind: str, line: str
) -> None:
    ros = FakeRos(topic, kind)
    ros.install(monkeypatch)
    monkeypatch.setattr("edgemtl_runtime.camera.topic.ros2.OPEN_S", 0.2)
    with pytest.raises(CameraError) as raised:
        open_camera("ros2://cam/image", "rgb")
    assert line in str(raised.value) and ros.calls[-1] == "shutdown"
