"""ROS 2 messages: their bytes against another implementation, what they tell, and the sinks that publish them."""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import zenoh
from boards import true_rig
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.messages import Message, definition, read, write
from edgemtl_runtime.messages.annotations import ImageAnnotations
from edgemtl_runtime.messages.cameras import CameraInfo, Setup
from edgemtl_runtime.messages.cdr import Field, fields_of
from edgemtl_runtime.messages.hashes import type_hash
from edgemtl_runtime.messages.ros import of_frame, of_pair, of_result, of_status, topic_part
from edgemtl_runtime.messages.types import (
    CompressedImage,
    Detection2DArray,
    DiagnosticArray,
    Header,
    Image,
    PoseWithCovariance,
    String,
    Time,
)
from edgemtl_runtime.result import Attributes, Boxes, DepthMap, EdgeMap, LabelMap, NormalMap, Result
from edgemtl_runtime.sink.ros2 import Ros2, fill
from edgemtl_runtime.sink.zenoh import Zenoh
from edgemtl_runtime.wall import WALL

VISION = {
    "Point2D": "float64 x\nfloat64 y\n",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "ObjectHypothesis": "string class_id\nfloat64 score\n",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id\n",
    "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections\n",
}
"""vision_msgs 4: the packages that Humble and later have."""
FOXGLOVE = {
    "Point2": "float64 x\nfloat64 y\n",
    "Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a\n",
    "CircleAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nfloat64 diameter\n"
    "float64 thickness\nfoxglove_msgs/Color fill_color\nfoxglove_msgs/Color outline_color\n",
    "PointsAnnotation": "builtin_interfaces/Time timestamp\nuint8 UNKNOWN=0\nuint8 POINTS=1\nuint8 LINE_LOOP=2\n"
    "uint8 LINE_STRIP=3\nuint8 LINE_LIST=4\nuint8 type\nfoxglove_msgs/Point2[] points\n"
    "foxglove_msgs/Color outline_color\nfoxglove_msgs/Color[] outline_colors\nfoxglove_msgs/Color fill_color\n"
    "float64 thickness\n",
    "TextAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nstring text\n"
    "float64 font_size\nfoxglove_msgs/Color text_color\nfoxglove_msgs/Color background_color\n",
    "ImageAnnotations": "foxglove_msgs/CircleAnnotation[] circles\nfoxglove_msgs/PointsAnnotation[] points\n"
    "foxglove_msgs/TextAnnotation[] texts\n",
}
"""foxglove_msgs 2.2 to 3.3."""
KINDS: list[type[Message]] = [
    *(Time, Header, String, Image, CompressedImage, PoseWithCovariance, Detection2DArray, DiagnosticArray),
    *(CameraInfo, ImageAnnotations),
]


def make_store() -> Any:
    """Return the message types of ROS 2 Jazzy with vision_msgs and foxglove_msgs, as rosbags knows them."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for package, types_of in (("vision_msgs", VISION), ("foxglove_msgs", FOXGLOVE)):
        for name, text in types_of.items():
            store.register(get_types_from_msg(text, f"{package}/msg/{name}"))
    return store


STORE = make_store()
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=9),
    "bool": st.booleans(),
    "byte": st.integers(0, 127),  # an octet; rosbags takes it for signed
    "uint8": st.integers(0, 255),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "float64": st.floats(allow_nan=False),
}


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Return a strategy for what a field may hold."""
    if field.kind == "uint8" and field.size == 0:
        return st.binary(max_size=9)
    one = VALUES[field.kind] if isinstance(field.kind, str) else messages_of(field.kind)
    if field.size < 0:
        return one
    few = st.lists(one, max_size=3) if field.size == 0 else st.lists(one, min_size=field.size, max_size=field.size)
    return few.map(tuple)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Return a strategy for whole messages of a class."""
    return st.builds(kind, **{field.name: values_of(field) for field in fields_of(kind)})


def theirs(message: Message) -> Any:
    """Return a message as rosbags' class of that name."""
    values = {}
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        if isinstance(value, Message):
            value = theirs(value)
        elif isinstance(value, bytes):
            value = np.frombuffer(value, np.uint8)
        elif isinstance(value, tuple):
            value = np.array(value) if field.kind == "float64" else [theirs(element) for element in value]
        values[field.name] = value
    return STORE.types[message.TYPE](**values)


def all_kinds() -> list[type[Message]]:
    """Return every message class, the contained ones too."""
    return Message.__subclasses__()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_bytes_are_those_of_another_implementation(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages_of(kind))
    raw = write(message)
    assert raw == bytes(STORE.serialize_cdr(theirs(message), kind.TYPE))
    assert read(kind, raw) == message
    assert read(kind, memoryview(raw + b"\0\0\0")) == message  # some writers pad to four bytes


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
def test_definitions_are_the_types_that_ros_knows(kind: type[Message]) -> None:
    told = get_types_from_msg(definition(kind), kind.TYPE)
    assert kind.TYPE in told
    for name, (constants, fields) in told.items():
        expected_constants, expected_fields = STORE.fielddefs[name]
        assert list(fields) == list(expected_fields) and list(constants) == list(expected_constants), name


def test_a_definition_lists_each_contained_type_once() -> None:
    text = definition(Detection2DArray)
    assert text.startswith("std_msgs/Header header\nvision_msgs/Detection2D[] detections\n" + "=" * 80 + "\nMSG: ")
    names = [line.removeprefix("MSG: ") for line in text.splitlines() if line.startswith("MSG: ")]
    assert len(names) == len(set(names)) == 12 and "float64[36] covariance" in text


@settings(max_examples=150, deadline=None)
@given(messages_of(Detection2DArray), st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_damaged_bytes_are_told_and_never_crash(message: Message, at: int, octet: int, cut: bool) -> None:
    raw = bytearray(write(message))
    at %= len(raw)
    if cut:
        with pytest.raises(EdgemtlError, match="Detection2DArray"):
            read(Detection2DArray, bytes(raw[:at]))
        return
    raw[at] = octet
    try:
        read(Detection2DArray, bytes(raw))
    except EdgemtlError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Time(2**31, 0), "sec = 2147483648 does not fit 'int32 sec'"),
        (PoseWithCovariance(covariance=(0.0,) * 35), "does not fit 'float64\\[36\\] covariance'"),
        (String("\ud800"), "does not fit 'string data'"),
    ],
)
def test_a_value_that_does_not_fit_names_its_field(message: Message, expected: str) -> None:
    with pytest.raises(EdgemtlError, match=expected):
        write(message)


def test_bytes_of_another_type_or_order_are_refused() -> None:
    with pytest.raises(EdgemtlError, match="not as little-endian CDR"):
        read(Time, b"\x00\x00\x00\x00" + bytes(8))
    with pytest.raises(EdgemtlError, match="28 bytes too many"):
        read(Time, b"\x00\x01\x00\x00" + bytes(36))


NOW_NS = 1_700_000_000_123_456_789
RNG = np.random.default_rng(0)


def make_pair(seed: int = 0, size: tuple[int, int] = (48, 64)) -> FramePair:
    """Return a smooth colour picture and a noisy 16-bit thermal one."""
    rng = np.random.default_rng(seed)
    colour = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    thermal = rng.integers(0, 65536, size).astype(np.uint16)
    return FramePair({"rgb": Frame(np.asarray(colour), 5_000, "rgb", 0), "ir": Frame(thermal, 3_000, "ir", 0)})


def make_result(tracks: list[int] | None = None) -> Result:
    """Return a result with every kind of head."""
    boxes = Boxes(
        np.array([[8, 4, 24, 36], [0, 0, 3, 5]], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([1, 0]),
        ("person", "car"),
        None if tracks is None else np.array(tracks),
    )
    heads = {
        "boxes": boxes,
        "semantic": LabelMap(np.array([[0, 1, 1], [2, 0, 1]], np.uint8), ("a", "b", "c")),
        "depth": DepthMap(np.array([[1.5, 2.25, 3]], np.float32)),
        "normals": NormalMap(np.array([[[0, 0, -1], [1, 0, 0]]], np.float32)),
        "edges": EdgeMap(np.array([[0.25], [1]], np.float32), 0.5),
        "attributes": Attributes(np.array([0.25, 1], np.float32), ("is_day", "rain"), 0.5),
    }
    return Result(heads, "rgb", 5_000, 2_000, 7, "0007")


def test_colour_becomes_a_jpeg_that_looks_the_same() -> None:
    frame = make_pair().frames["rgb"]
    message = of_frame(frame, NOW_NS)
    assert isinstance(message, CompressedImage) and message.format == "jpeg"
    assert message.header == Header(Time(1_700_000_000, 123_461_789), "rgb")
    seen = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(seen.astype(int) - frame.image).mean() < 6
    assert np.abs(seen[:, :, ::-1].astype(int) - frame.image).mean() > 20  # as it would be with red and blue swapped


def test_sixteen_bits_stay_what_they_are() -> None:
    frame = make_pair().frames["ir"]
    turned = dataclasses.replace(frame, image=frame.image[::-1, ::2])
    for one in (frame, turned):
        message = of_frame(one, 0)
        assert isinstance(message, Image) and (message.encoding, message.is_bigendian) == ("16UC1", 0)
        assert message.step == 2 * one.image.shape[1] and message.header.stamp == Time(0, 3_000)
        assert np.array_equal(np.frombuffer(message.data, "<u2").reshape(one.image.shape), one.image)


def test_a_picture_too_large_for_jpeg_is_told() -> None:
    with pytest.raises(EdgemtlError, match="makes no JPEG of its 70000x1 picture"):
        of_frame(Frame(np.zeros((1, 70_000), np.uint8), 0, "line", 0), 0)


def test_boxes_become_detections_around_their_middle() -> None:
    found = of_result(make_result([12, -1]), 0)["/boxes"]
    assert isinstance(found, Detection2DArray) and found.header == Header(Time(0, 5_000), "rgb")
    first, second = found.detections
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (16, 20)
    assert (first.bbox.size_x, first.bbox.size_y) == (16, 32)
    assert (first.results[0].hypothesis.class_id, first.results[0].hypothesis.score) == ("car", 0.75)
    assert first.id == "12" and second.id == "" and second.results[0].hypothesis.class_id == "person"
    untracked = of_result(make_result(), 0)["/boxes"]
    assert isinstance(untracked, Detection2DArray) and [d.id for d in untracked.detections] == ["", ""]


@pytest.mark.parametrize(
    ("topic", "encoding", "shape", "dtype"),
    [
        ("/semantic", "mono8", (2, 3), "u1"),
        ("/depth", "32FC1", (1, 3), "<f4"),
        ("/normals", "32FC3", (1, 2, 3), "<f4"),
        ("/edges", "32FC1", (2, 1), "<f4"),
    ],
)
def test_maps_become_images(topic: str, encoding: str, shape: tuple[int, ...], dtype: str) -> None:
    result = make_result()
    message = of_result(result, 0)[topic]
    assert isinstance(message, Image) and (message.height, message.width, message.encoding) == (*shape[:2], encoding)
    values = np.frombuffer(message.data, dtype).reshape(shape)
    head = result.heads[topic[1:]]
    assert np.array_equal(values, next(v for v in vars(head).values() if isinstance(v, np.ndarray)))


def test_attributes_and_the_whole_result_are_json() -> None:
    result = make_result()
    told = of_result(result, 0)
    assert isinstance(told["/attributes"], String) and isinstance(told["/result"], String)
    assert json.loads(told["/attributes"].data) == {"attributes": {"is_day": 0.25, "rain": 1.0}}
    assert json.loads(told["/result"].data) == json.loads(json.dumps(result.to_dict()))
    assert set(told) == {f"/{name}" for name in result.heads} | {"/result"}


def test_names_become_parts_of_ros_topics() -> None:
    assert [topic_part(name) for name in ("rgb", "front-left.1", "2nd", "ü")] == ["rgb", "front_left_1", "_2nd", "_"]


HASHES = {  # as `ros2 topic info --verbose` prints them; the first is in rmw_zenoh's design document
    String: "df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
    Image: "d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
    CompressedImage: "15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
}


@pytest.mark.parametrize("kind", HASHES, ids=lambda kind: kind.__name__)
def test_hashes_of_types_are_the_published_ones(kind: type[Message]) -> None:
    assert type_hash(kind) == f"RIHS01_{HASHES[kind]}"


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
def test_hashes_of_types_are_those_of_another_implementation(kind: type[Message]) -> None:
    assert type_hash(kind) == STORE.hash_rihs01(kind.TYPE)


def test_the_wall_offset_turns_the_monotonic_clock_into_unix_time() -> None:
    assert abs(WALL.unix_ns(time.monotonic_ns()) - time.time_ns()) < 1_000_000


def test_diagnostics_have_a_level_a_camera() -> None:
    states = ("live", "ended", "stale", "starting", "absent", "lost")
    cameras = {
        f"c{n}": {"state": s, "detail": "no frame" * (s == "lost"), "fps": 9.5, "age_ms": None}
        for n, s in enumerate(states)
    }
    told = of_status({"cameras": cameras, "stats": {}}, NOW_NS)
    assert [one.level for one in told.status] == [0, 0, 1, 1, 1, 2]
    assert told.header.stamp == Time(1_700_000_000, 123_456_789)
    lost = told.status[-1]
    assert (lost.name, lost.message, lost.hardware_id) == ("edgemtl: camera c5", "lost: no frame", "c5")
    assert {value.key: value.value for value in lost.values} == {"state": "lost", "fps": "9.5"}
    assert bytes(STORE.serialize_cdr(theirs(told), told.TYPE)) == write(told)


class Fake:
    """What the stand-in for rclpy was asked to do."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any, Any]] = []
        self.calls: list[str] = []


def rclpy_class(name: str) -> type:
    """Return a class like rosidl's: fields by default values, each set only to what its type takes."""
    _, fields = STORE.fielddefs[name]
    kinds = {field: (int(node), detail) for field, (node, detail) in fields}
    base_types = {
        "string": str,
        "float64": float,
        "byte": bytes,
        "bool": bool,
        "uint8": int,
        "uint32": int,
        "int32": int,
    }

    def setter(self: Any, field: str, value: Any) -> None:
        node, detail = kinds[field]
        if node == 1:
            assert type(value) is base_types[detail[0]], (name, field, value)
            assert detail[0] != "byte" or len(value) == 1
        elif node == 2:
            assert type(value).__name__ == detail.rpartition("/")[2]
        elif detail[0][1] == ("uint8", 0):
            assert value.typecode == "B"
        else:
            assert isinstance(value, list) and len(value) == (detail[1] or len(value))
        object.__setattr__(self, field, value)

    return type(name.rpartition("/")[2], (), {"__setattr__": setter})


def filled_as_theirs(filled: Any, name: str) -> Any:
    """Return what the stand-in class holds as rosbags' class, every field of it."""
    values = {}
    for field, (node, detail) in STORE.fielddefs[name][1]:
        value = getattr(filled, field)
        if int(node) == 2:
            value = filled_as_theirs(value, detail)
        elif int(node) == 1:
            value = value[0] if isinstance(value, bytes) else value
        elif int(detail[0][0]) == 2:
            value = [filled_as_theirs(element, detail[0][1]) for element in value]
        else:
            value = np.array(value)
        values[field] = value
    return STORE.types[name](**values)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A stand-in for rclpy and the message packages."""
    fake = Fake()

    class Node:
        def create_publisher(self, kind: type, topic: str, qos: Any) -> Any:
            fake.calls.append(f"publisher {topic}")
            return types.SimpleNamespace(publish=lambda message: fake.published.append((topic, message, qos)))

        def destroy_node(self) -> None:
            fake.calls.append("destroy")

    def init(*, context: Any, signal_handler_options: str) -> None:
        fake.calls.append(f"init {signal_handler_options}")

    def create_node(name: str, *, context: Any) -> Node:
        fake.calls.append(f"node {name}")
        return Node()

    def shutdown(*, context: Any) -> None:
        fake.calls.append("shutdown")

    modules: dict[str, dict[str, Any]] = {
        "rclpy": {"init": init, "create_node": create_node, "shutdown": shutdown},
        "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
        "rclpy.context": {"Context": object},
        "rclpy.signals": {"SignalHandlerOptions": types.SimpleNamespace(NO="no signals")},
    }
    for kind in all_kinds():
        package = kind.TYPE.partition("/")[0]
        modules.setdefault(package, {})
        modules.setdefault(f"{package}.msg", {})[kind.TYPE.rpartition("/")[2]] = rclpy_class(kind.TYPE)
    for name, members in modules.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@settings(max_examples=20, deadline=None)
@given(st.one_of(messages_of(Detection2DArray), messages_of(DiagnosticArray), messages_of(Image)))
def test_filling_ros_classes_loses_nothing(message: Message) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for package in {kind.TYPE.partition("/")[0] for kind in all_kinds()}:
            classes = {
                k.TYPE.rpartition("/")[2]: rclpy_class(k.TYPE) for k in all_kinds() if k.TYPE.startswith(f"{package}/")
            }
            patch.setitem(sys.modules, f"{package}.msg", types.SimpleNamespace(**classes))
        back = filled_as_theirs(fill(message), message.TYPE)
    assert bytes(STORE.serialize_cdr(back, message.TYPE)) == write(message)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def test_ros_topics_carry_the_same_messages_and_diagnostics(ros: Fake) -> None:
    status = {"cameras": {"rgb": {"state": "lost", "detail": "unplugged"}}}
    sink = Ros2(lambda: status, NOW_NS)
    wait_for(lambda: bool(ros.published))
    pair, result = make_pair(), make_result()
    for _ in range(2):
        sink.write(pair, result)
    sink.close()
    (topic, message, depth), *rest = ros.published
    assert (topic, depth, message.status[0].level) == ("/diagnostics", 10, b"\x02")
    expected = list(of_pair(pair, result, NOW_NS)) * 2
    written = [one for one in rest if one[0] != "/diagnostics"]
    assert [f"/{topic}" for topic, _, _ in written] == [topic for topic, _, _ in expected]
    for (_, message, qos), (_, _, ours) in zip(written, expected, strict=True):
        assert qos == "sensor data"
        assert bytes(STORE.serialize_cdr(filled_as_theirs(message, ours.TYPE), ours.TYPE)) == write(ours)
    assert ros.calls[:2] == ["init no signals", "node edgemtl"] and ros.calls[-2:] == ["destroy", "shutdown"]
    assert len([call for call in ros.calls if call.startswith("publisher")]) == 1 + len(expected) / 2


def test_ros_without_foxgloves_messages_goes_without_annotations(
    ros: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "foxglove_msgs.msg", None)
    sink = Ros2(None, NOW_NS)
    sink.write(make_pair(), make_result())
    sink.close()
    topics = [topic for topic, _, _ in ros.published]
    assert "boxes" in topics and "camera/rgb/annotations" not in topics
    assert "apt install ros-$ROS_DISTRO-foxglove-msgs" in caplog.text


def test_ros_topics_have_the_frames_and_calibrations_of_the_rig(ros: Fake) -> None:
    sink = Ros2(None, NOW_NS, Setup(true_rig(), {"rgb": "left_optical"}))
    pair = FramePair({"rgb": dataclasses.replace(make_pair().frames["rgb"], image=np.zeros((480, 640, 3), np.uint8))})
    sink.write(pair, None)
    sink.close()
    told = {topic: message for topic, message, _ in ros.published}
    assert told["camera/rgb/camera_info"].header.frame_id == "left_optical"
    assert told["camera/rgb/image/compressed"].header.frame_id == "left_optical"
    ours = dict((topic, message) for topic, _, message in of_pair(pair, None, NOW_NS, sink.setup))
    info = ours["/camera/rgb/camera_info"]
    back = filled_as_theirs(told["camera/rgb/camera_info"], info.TYPE)
    assert bytes(STORE.serialize_cdr(back, info.TYPE)) == write(info)


def test_a_status_that_fails_ends_the_run_with_its_own_error(ros: Fake) -> None:
    def status() -> dict[str, Any]:
        raise OSError(5, "the disk is gone")

    sink = Ros2(status, 0)
    wait_for(lambda: sink.error is not None)
    with pytest.raises(OSError, match="the disk is gone"):
        sink.write(make_pair(), None)
    sink.close()


def test_without_ros_the_sink_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(EdgemtlError, match=r"rclpy is missing: source a ROS 2 setup, or apt install ros-\$ROS_DISTRO-"):
        Ros2()


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_zenoh_carries_the_same_bytes() -> None:
    config = zenoh.Config()
    endpoint = f"tcp/127.0.0.1:{free_port()}"
    config.insert_json5("listen/endpoints", json.dumps([endpoint]))
    config.insert_json5("scouting/multicast/enabled", "false")
    got: list[tuple[str, bytes, str]] = []
    pair, result = make_pair(), make_result([3, 1])
    expected = list(of_pair(pair, result, NOW_NS))

    def take(sample: zenoh.Sample) -> None:
        got.append((str(sample.key_expr), bytes(sample.payload), str(sample.encoding)))

    with zenoh.open(config) as listener:
        subscriber = listener.declare_subscriber("robot/eyes/**", take)
        sink = Zenoh(endpoint, "/robot/eyes/", NOW_NS)
        want = {(f"robot/eyes{topic}", write(m), f"application/cdr;{m.TYPE}") for topic, _, m in expected}
        end = time.monotonic() + 60
        while not want <= set(got):  # a busy machine may lose some on the way, as Zenoh says it does
            assert time.monotonic() < end, f"{len(set(got))} of {len(want)}"
            sink.write(pair, result)
            time.sleep(0.05)
        sink.close()
        subscriber.undeclare()
    assert set(got) == want


def test_a_zenoh_router_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_runtime.sink.zenoh.CONNECT_MS", 200)
    begun = time.monotonic()
    with pytest.raises(EdgemtlError, match=r"zenoh, tcp/127\.0\.0\.1:") as told:
        Zenoh(f"tcp/127.0.0.1:{free_port()}")
    assert "\n" not in str(told.value) and time.monotonic() - begun < 8


@pytest.mark.parametrize("prefix", ["", "a//b", "robot/*/x*"])
def test_a_zenoh_prefix_that_is_no_key_is_told(prefix: str) -> None:
    with pytest.raises(EdgemtlError, match="prefix"):
        Zenoh("tcp/127.0.0.1:1", prefix)


def test_without_zenoh_the_sink_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zenoh", None)
    with pytest.raises(EdgemtlError, match=r"pip install 'edgemtl-runtime\[zenoh\]'"):
        Zenoh()
