"""ROS 2 messages: their bytes against another implementation, their content, and the sinks that publish them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
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
from ros_reference import DEFINITIONS, Field, encode, fields_of
from ros_stand_in import Fake, rclpy_class, stand_in

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.messages.cameras import Setup
from edgemtl_runtime.messages.ros import of_array, of_frame, of_pair, of_result, of_status, topic_part
from edgemtl_runtime.messages.store import (
    ENCAPSULATION,
    CameraInfo,
    CompressedImage,
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    Image,
    KeyValue,
    Message,
    Point,
    Pose,
    PoseWithCovariance,
    Quaternion,
    RegionOfInterest,
    String,
    Time,
    create,
    definition,
    deserialize,
    serialize,
    type_hash,
)
from edgemtl_runtime.result import Attributes, Boxes, DepthMap, EdgeMap, LabelMap, NormalMap, Result
from edgemtl_runtime.sink.ros2 import Ros2, fill
from edgemtl_runtime.sink.zenoh import Zenoh
from edgemtl_runtime.wall import WALL

DETECTIONS = "vision_msgs/msg/Detection2DArray"
HEAD = Header(Time(1_700_000_000, 123_456_789), "eye")
NO_POSE = Pose(Point(0.0, 0.0, 0.0), Quaternion(0.0, 0.0, 0.0, 1.0))


def detections(header: Header, name: str = "person") -> Message:
    """Return detections of one box, tracked as 12."""
    hypothesis = create("vision_msgs/msg/ObjectHypothesis", name, 0.75)
    pose = PoseWithCovariance(NO_POSE, np.zeros(36))
    results = [create("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis, pose)]
    centre = create("vision_msgs/msg/Pose2D", create("vision_msgs/msg/Point2D", 16.0, 20.0), 0.0)
    box = create("vision_msgs/msg/BoundingBox2D", centre, 16.0, 32.0)
    return create(DETECTIONS, header, [create("vision_msgs/msg/Detection2D", header, results, box, "12")])


def info(header: Header) -> CameraInfo:
    """Return a calibration of 640x480 pixels."""
    k = np.array([500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    p = np.array([500.0, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0])
    d, r, roi = np.array([0.1, -0.2, 0, 0, 0.5]), np.eye(3).reshape(-1), RegionOfInterest(0, 0, 0, 0, False)
    return CameraInfo(header, 480, 640, "plumb_bob", d, k, r, p, 0, 0, roi)


def annotations() -> Message:
    """Return an outline of two points and a label."""
    stamp = HEAD.stamp
    shade, white = (create("foxglove_msgs/msg/Color", *rgb, 1.0) for rgb in ((1.0, 0.5, 0.25), (1.0, 1.0, 1.0)))
    clear = create("foxglove_msgs/msg/Color", 0.0, 0.0, 0.0, 0.0)
    points = [create("foxglove_msgs/msg/Point2", x, 4.0) for x in (8.0, 24.0)]
    outline = create("foxglove_msgs/msg/PointsAnnotation", stamp, 2, points, shade, [], clear, 2.0)
    label = create("foxglove_msgs/msg/TextAnnotation", stamp, points[0], "car 0.75", 10.0, white, shade)
    return create("foxglove_msgs/msg/ImageAnnotations", [], [outline], [label])


TOP_LEVEL = [
    *("builtin_interfaces/msg/Time", "std_msgs/msg/Header", "std_msgs/msg/String", "sensor_msgs/msg/Image"),
    *("sensor_msgs/msg/CompressedImage", "geometry_msgs/msg/PoseWithCovariance", "vision_msgs/msg/Detection2DArray"),
    *("diagnostic_msgs/msg/DiagnosticArray", "sensor_msgs/msg/CameraInfo", "foxglove_msgs/msg/ImageAnnotations"),
]
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
    one = VALUES[field.base] if field.base in VALUES else messages_of(field.base)
    if field.size < 0:
        return one
    few = st.lists(one, max_size=3) if field.size == 0 else st.lists(one, min_size=field.size, max_size=field.size)
    return few.map(lambda values: np.array(values, field.base)) if field.base in ("uint8", "float64") else few


def messages_of(type_name: str) -> st.SearchStrategy[Message]:
    """Return a strategy for whole messages of a type."""
    return st.tuples(*map(values_of, fields_of(type_name))).map(lambda values: create(type_name, *values))


def plain(value: Any) -> Any:
    """Return a message as lists of values, which compare."""
    if dataclasses.is_dataclass(value):
        return [plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, np.ndarray | list):
        return [plain(element) for element in value]
    return value


@pytest.mark.parametrize("type_name", TOP_LEVEL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_bytes_are_those_of_another_implementation(type_name: str, data: st.DataObject) -> None:
    message = data.draw(messages_of(type_name))
    raw = serialize(message)
    assert type(raw) is bytes and raw == encode(message, type_name)
    assert plain(deserialize(raw, type_name)) == plain(message)
    assert plain(deserialize(memoryview(raw + b"\0\0\0"), type_name)) == plain(message)  # some pad to four bytes


RECORDED = {  # SHA-256 of the type hash's description, and of the definition that an MCAP file holds
    "builtin_interfaces/msg/Time": (
        "b106235e25a4c5ed35098aa0a61a3ee9c9b18d197f398b0e4206cea9acf9c197",
        "82b2ca3410fad5ba6c127315e0a554f7",
    ),
    "diagnostic_msgs/msg/DiagnosticArray": (
        "5a8a36efb05fb25070fa0fb3810290c0e6cd4862b54a8fb975a1ee8dc55a333e",
        "8c711b3421f6c7dc8f6ed0f37fa6f143",
    ),
    "diagnostic_msgs/msg/DiagnosticStatus": (
        "b0e3e692ea2d54a8af2f4ef1930e81556a2db55216b771f8a7d2724ed47bf0e4",
        "e3cf1bffd04506a2f297f128cae8fe63",
    ),
    "diagnostic_msgs/msg/KeyValue": (
        "d68081eaa540288c5440753baecef0c4e16e81a5f78ad68902ded5100413bb42",
        "6eb70a9757f27cb25ba3d2f0b24408c4",
    ),
    "foxglove_msgs/msg/CircleAnnotation": (
        "d3d8a00505117be541fe8b4b601aa90d5088209a75f313e3779be54db324d15b",
        "c1d5650cae8ed08522101adb7054e96c",
    ),
    "foxglove_msgs/msg/Color": (
        "ed1b16da40c954e6456b950c2ef4559c179e5cb98f1363cb28c3b90c6ee14120",
        "af33fe6880168d1f8e569e1f84841318",
    ),
    "foxglove_msgs/msg/ImageAnnotations": (
        "47c6c0891ba263ec1b20d9b785c4261d4bc41051cbcc01668130e36aa2dcaee3",
        "0a5300ccaa8a62a4ef11ceac5a82e9bd",
    ),
    "foxglove_msgs/msg/Point2": (
        "d85e823b78e2e88bc31629e305558bcdd2ecc9225f5f9390f96d91930f5696f0",
        "952153897409af9b2dc9129e8c520766",
    ),
    "foxglove_msgs/msg/PointsAnnotation": (
        "61bd8dda01243d9c7232f00d9101577291b5a9bc1855b06ada4a29e0dc0496a7",
        "7650e5d490c338e71d29580014a48b78",
    ),
    "foxglove_msgs/msg/TextAnnotation": (
        "c02ec64b79eb5682e73b2b2572f127a27baec868b6ad6acc085abc39355a5b2b",
        "0fdec1c9a9b1fc43cf33cef9b364399f",
    ),
    "geometry_msgs/msg/Point": (
        "6963084842a9b04494d6b2941d11444708d892da2f4b09843b9c43f42a7f6881",
        "fb6346cb209ce2d812819cfbf43b99e3",
    ),
    "geometry_msgs/msg/Pose": (
        "d501954e9476cea2996984e812054b68026ae0bfae789d9a10b23daf35cc90fa",
        "f45aa58a9d4a86fc818805a7d804b4f6",
    ),
    "geometry_msgs/msg/PoseWithCovariance": (
        "9a7c0fd234b7f45c6098745ecccd773ca1085670e64107135397aee31c02e1bb",
        "758b81b6e933c38202b8d8a4232bd37e",
    ),
    "geometry_msgs/msg/Quaternion": (
        "8a765f66778c8ff7c8ab94afcc590a2ed5325a1d9a076ffff38fbce36f458684",
        "010b5de32446052fde14d0d54248564d",
    ),
    "sensor_msgs/msg/CameraInfo": (
        "b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275",
        "6eab3d5588ff85a83835e17f80dfde40",
    ),
    "sensor_msgs/msg/CompressedImage": (
        "15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
        "807b0566d5903f6e0a6fcad95e66e397",
    ),
    "sensor_msgs/msg/Image": (
        "d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
        "a8761262ac49e613c9a0c626cd022076",
    ),
    "sensor_msgs/msg/RegionOfInterest": (
        "ad16bcba5f9131dcdba6fbded19f726f5440e3c513b4fb586dd3027eeed8abb1",
        "2860eae8e1372e6a14e3379c6f06de48",
    ),
    "std_msgs/msg/Header": (
        "f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01",
        "d9a5542e9f928895cb55f7c2258c2f5f",
    ),
    "std_msgs/msg/String": (
        "df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
        "8d7bb56baf93c614a97f38518ec46615",
    ),
    "vision_msgs/msg/BoundingBox2D": (
        "008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
        "6e88f19f968a70a372c3c8b11d59ec33",
    ),
    "vision_msgs/msg/Detection2D": (
        "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
        "8aad32b07769016fafe9682a50ee27f6",
    ),
    "vision_msgs/msg/Detection2DArray": (
        "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
        "bca3e1198c619ca17c854d73d47fb9a4",
    ),
    "vision_msgs/msg/ObjectHypothesis": (
        "51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
        "1431cbed2d478a779be14d1f7e56d966",
    ),
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
        "3176ba1e7f8807420fab2ffd133c4048",
    ),
    "vision_msgs/msg/Point2D": (
        "eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
        "952153897409af9b2dc9129e8c520766",
    ),
    "vision_msgs/msg/Pose2D": (
        "b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
        "f5f0ab0ef0cc533e21cf312ac028b207",
    ),
}


@pytest.mark.parametrize("type_name", DEFINITIONS)
def test_hashes_and_definitions_of_types_are_the_recorded_ones(type_name: str) -> None:
    digest = hashlib.sha256(definition(type_name).encode()).hexdigest()
    assert (type_hash(type_name), digest[:32]) == (f"RIHS01_{RECORDED[type_name][0]}", RECORDED[type_name][1])


STAMP = "00f1536515cd5b07"
EYE = f"{STAMP}0400000065796500"
RECORDED_BYTES: list[tuple[Message, str]] = [
    (HEAD.stamp, f"00010000{STAMP}"),
    (HEAD, f"00010000{EYE}"),
    (String('{"a": "\xfc"}'), "000100000c0000007b2261223a2022c3bc227d00"),
    (
        of_array(np.arange(6, dtype=np.uint8).reshape(2, 3), "mono8", HEAD),
        f"00010000{EYE}0200000003000000060000006d6f6e6f380000000300000006000000000102030405",
    ),
    (
        CompressedImage(HEAD, "jpeg", np.frombuffer(b"\xff\xd8\xff\xe0", np.uint8)),
        f"00010000{EYE}050000006a7065670000000004000000ffd8ffe0",
    ),
    (
        DiagnosticArray(
            HEAD, [DiagnosticStatus(2, "edgemtl: camera ir", "lost: unplugged", "ir", [KeyValue("fps", "9.5")])]
        ),
        f"00010000{EYE}010000000200000013000000656467656d746c3a2063616d6572612069720000100000006c6f73743a20756e70"
        "6c756767656400030000006972000001000000040000006670730004000000392e3500",
    ),
    (detections(HEAD), "6528a22664e65e74195b9bfeb963ffe79ffc7077038ad3df360c61eb88043dfb"),
    (info(HEAD), "e486025b24a042c488d11a5245cc95f22ec5a5b10bd775d9b068e8b884034a5c"),
    (annotations(), "47fd1a8bb2517d4efcc7e1d240734ff9670e33c0789e571bb3951e61254af0f4"),
]
"""Messages and their bytes as version 0.1 wrote them; of longer ones the SHA-256."""


@pytest.mark.parametrize(("message", "expected"), RECORDED_BYTES, ids=lambda value: getattr(value, "__msgtype__", ""))
def test_bytes_are_the_recorded_ones(message: Message, expected: str) -> None:
    raw = serialize(message)
    assert expected in (raw.hex(), hashlib.sha256(raw).hexdigest())
    assert plain(deserialize(raw, message.__msgtype__)) == plain(message)


def short(type_name: str) -> str:
    """Return a type's name as definitions write it."""
    return type_name.replace("/msg/", "/")


@pytest.mark.parametrize("type_name", DEFINITIONS)
def test_definitions_are_those_of_ros_and_whole(type_name: str) -> None:
    first, *rest = definition(type_name).split("=" * 80 + "\nMSG: ")
    assert first == DEFINITIONS[type_name]
    parts = dict(part.split("\n", 1) for part in rest)
    needed = {field.base for name in [type_name, *DEFINITIONS] if name == type_name or short(name) in parts
              for field in fields_of(name)} & DEFINITIONS.keys()  # fmt: skip
    assert parts == {short(name): DEFINITIONS[name] for name in needed} and len(parts) == len(rest)


def test_a_definition_lists_each_contained_type_once() -> None:
    text = definition(DETECTIONS)
    assert text.startswith("std_msgs/Header header\nvision_msgs/Detection2D[] detections\n" + "=" * 80 + "\nMSG: ")
    names = [line.removeprefix("MSG: ") for line in text.splitlines() if line.startswith("MSG: ")]
    assert len(names) == len(set(names)) == 12 and "float64[36] covariance" in text


@settings(max_examples=150, deadline=None)
@given(messages_of(DETECTIONS), st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_damaged_bytes_are_one_clear_error_and_never_crash(message: Message, at: int, octet: int, cut: bool) -> None:
    raw = bytearray(serialize(message))
    at %= len(raw)
    if cut:
        with pytest.raises(EdgemtlError, match="Detection2DArray"):
            deserialize(bytes(raw[:at]), DETECTIONS)
        return
    raw[at] = octet
    try:
        deserialize(bytes(raw), DETECTIONS)
    except EdgemtlError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("type_name", TOP_LEVEL)
@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_one_clear_error(type_name: str, body: bytes) -> None:
    try:
        deserialize(ENCAPSULATION + body, type_name)
    except EdgemtlError as error:
        assert type_name in str(error) and "\n" not in str(error) and len(str(error)) < 300


@pytest.mark.parametrize("count", [2**31 - 1, 2**31, 2**32 - 1])
def test_counts_beyond_the_bytes_take_no_memory(count: int) -> None:
    """Every count and length in a message is replaced by one larger than the message."""
    messages: list[Message] = [
        *(detections(HEAD), String("ten octets"), info(HEAD)),
        *(of_array(np.zeros((100, 100, 3), np.uint8), "rgb8", HEAD), create("diagnostic_msgs/msg/KeyValue", "a", "b")),
    ]
    for message in messages:
        raw = serialize(message)
        tracemalloc.start()
        rejected = 0
        for offset in range(4, min(len(raw), 500) - 3, 4):
            damaged = raw[:offset] + struct.pack("<I", count) + raw[offset + 4 :]
            try:
                deserialize(damaged, message.__msgtype__)
            except EdgemtlError:
                rejected += 1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert rejected and peak < 2_000_000


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Time(2**31, 0), "sec = 2147483648 does not fit 'int32 sec'"),
        (PoseWithCovariance(NO_POSE, np.zeros(35)), "does not fit 'float64\\[36\\] covariance'"),
        (String("\ud800"), "does not fit 'string data'"),
        (detections(Header(Time(0, -1), "eye")), "Time: nanosec = -1 does not fit 'uint32 nanosec'"),
        (detections(HEAD, name="\udfff"), "ObjectHypothesis: class_id = .* does not fit 'string class_id'"),
    ],
)
def test_a_value_that_does_not_fit_names_its_field(message: Message, expected: str) -> None:
    with pytest.raises(EdgemtlError, match=expected):
        serialize(message)


def test_bytes_of_another_type_or_order_are_rejected() -> None:
    with pytest.raises(EdgemtlError, match="not as little-endian CDR"):
        deserialize(b"\x00\x00\x00\x00" + bytes(8), Time.__msgtype__)
    with pytest.raises(EdgemtlError, match="28 bytes too many"):
        deserialize(b"\x00\x01\x00\x00" + bytes(36), Time.__msgtype__)


NOW_NS = 1_700_000_000_123_456_789
RNG = np.random.default_rng(0)


def make_pair(seed: int = 0, size: tuple[int, int] = (48, 64)) -> FramePair:
    """Return a smooth colour image and a noisy 16-bit thermal one."""
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
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(decoded.astype(int) - frame.image).mean() < 6
    assert np.abs(decoded[:, :, ::-1].astype(int) - frame.image).mean() > 20  # as it would be with red and blue swapped


def test_sixteen_bits_stay_what_they_are() -> None:
    frame = make_pair().frames["ir"]
    turned = dataclasses.replace(frame, image=frame.image[::-1, ::2])
    for one in (frame, turned):
        message = of_frame(one, 0)
        assert isinstance(message, Image) and (message.encoding, message.is_bigendian) == ("16UC1", 0)
        assert message.step == 2 * one.image.shape[1] and message.header.stamp == Time(0, 3_000)
        assert np.array_equal(np.frombuffer(message.data, "<u2").reshape(one.image.shape), one.image)


def test_an_image_too_large_for_jpeg_is_an_error() -> None:
    with pytest.raises(EdgemtlError, match="makes no JPEG of its 70000x1 image"):
        of_frame(Frame(np.zeros((1, 70_000), np.uint8), 0, "line", 0), 0)


def test_boxes_become_detections_around_their_middle() -> None:
    message: Any = of_result(make_result([12, -1]), 0)["/boxes"]
    assert message.__msgtype__ == DETECTIONS and message.header == Header(Time(0, 5_000), "rgb")
    first, second = message.detections
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (16, 20)
    assert (first.bbox.size_x, first.bbox.size_y) == (16, 32)
    assert (first.results[0].hypothesis.class_id, first.results[0].hypothesis.score) == ("car", 0.75)
    assert first.id == "12" and second.id == "" and second.results[0].hypothesis.class_id == "person"
    untracked: Any = of_result(make_result(), 0)["/boxes"]
    assert untracked.__msgtype__ == DETECTIONS and [d.id for d in untracked.detections] == ["", ""]


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
    messages = of_result(result, 0)
    attributes, whole = messages["/attributes"], messages["/result"]
    assert isinstance(attributes, String) and isinstance(whole, String)
    assert json.loads(attributes.data) == {"attributes": {"is_day": 0.25, "rain": 1.0}}
    assert json.loads(whole.data) == json.loads(json.dumps(result.to_dict()))
    assert set(messages) == {f"/{name}" for name in result.heads} | {"/result"}


def test_names_become_parts_of_ros_topics() -> None:
    assert [topic_part(name) for name in ("rgb", "front-left.1", "2nd", "ü")] == ["rgb", "front_left_1", "_2nd", "_"]


HASHES = {  # as `ros2 topic info --verbose` prints them; the first is in rmw_zenoh's design document
    "std_msgs/msg/String": "df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
    "sensor_msgs/msg/Image": "d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
    "sensor_msgs/msg/CompressedImage": "15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
}


@pytest.mark.parametrize("type_name", HASHES)
def test_hashes_of_types_are_the_published_ones(type_name: str) -> None:
    assert type_hash(type_name) == f"RIHS01_{HASHES[type_name]}"


def test_the_wall_offset_turns_the_monotonic_clock_into_unix_time() -> None:
    assert abs(WALL.unix_ns(time.monotonic_ns()) - time.time_ns()) < 1_000_000


def test_diagnostics_have_a_level_a_camera() -> None:
    states = ("live", "ended", "stale", "starting", "absent", "lost")
    cameras = {
        f"c{n}": {"state": s, "detail": "no frame" * (s == "lost"), "fps": 9.5, "age_ms": None}
        for n, s in enumerate(states)
    }
    message = of_status({"cameras": cameras, "stats": {}}, NOW_NS)
    assert [part.level for part in message.status] == [0, 0, 1, 1, 1, 2]
    assert message.header.stamp == Time(1_700_000_000, 123_456_789)
    lost = message.status[-1]
    assert (lost.name, lost.message, lost.hardware_id) == ("edgemtl: camera c5", "lost: no frame", "c5")
    assert {value.key: value.value for value in lost.values} == {"state": "lost", "fps": "9.5"}
    assert encode(message, message.__msgtype__) == serialize(message)


@settings(max_examples=20, deadline=None)
@given(st.one_of(*map(messages_of, (DETECTIONS, "diagnostic_msgs/msg/DiagnosticArray", "sensor_msgs/msg/Image"))))
def test_filling_ros_classes_loses_nothing(message: Message) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for package in {name.partition("/")[0] for name in DEFINITIONS}:
            classes = {
                name.rpartition("/")[2]: rclpy_class(name) for name in DEFINITIONS if name.startswith(f"{package}/")
            }
            patch.setitem(sys.modules, f"{package}.msg", types.SimpleNamespace(**classes))
        filled = fill(message)
    assert encode(filled, message.__msgtype__) == serialize(message)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return stand_in(monkeypatch)


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
    written = [message for message in rest if message[0] != "/diagnostics"]
    assert [f"/{topic}" for topic, _, _ in written] == [topic for topic, _, _ in expected]
    for (_, message, qos), (_, _, ours) in zip(written, expected, strict=True):
        assert qos == "sensor data"
        assert encode(message, ours.__msgtype__) == serialize(ours)
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
    published = {topic: message for topic, message, _ in ros.published}
    assert published["camera/rgb/camera_info"].header.frame_id == "left_optical"
    assert published["camera/rgb/image/compressed"].header.frame_id == "left_optical"
    ours = dict((topic, message) for topic, _, message in of_pair(pair, None, NOW_NS, sink.setup))
    info = ours["/camera/rgb/camera_info"]
    assert encode(published["camera/rgb/camera_info"], info.__msgtype__) == serialize(info)


def test_a_status_that_fails_ends_the_run_with_its_own_error(ros: Fake) -> None:
    def status() -> dict[str, Any]:
        raise OSError(5, "the disk is gone")

    sink = Ros2(status, 0)
    wait_for(lambda: sink.error is not None)
    with pytest.raises(OSError, match="the disk is gone"):
        sink.write(make_pair(), None)
    sink.close()


def test_without_ros_the_sink_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
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
        want = {(f"robot/eyes{topic}", serialize(m), f"application/cdr;{m.__msgtype__}") for topic, _, m in expected}
        end = time.monotonic() + 60
        while not want <= set(got):  # a busy machine may lose some on the way, as Zenoh documents
            assert time.monotonic() < end, f"{len(set(got))} of {len(want)}"
            sink.write(pair, result)
            time.sleep(0.05)
        sink.close()
        subscriber.undeclare()
    assert set(got) == want


def test_a_zenoh_router_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_runtime.sink.zenoh.CONNECT_MS", 200)
    begun = time.monotonic()
    with pytest.raises(EdgemtlError, match=r"zenoh, tcp/127\.0\.0\.1:") as raised:
        Zenoh(f"tcp/127.0.0.1:{free_port()}")
    assert "\n" not in str(raised.value) and time.monotonic() - begun < 8


@pytest.mark.parametrize("prefix", ["", "a//b", "robot/*/x*"])
def test_a_zenoh_prefix_that_is_no_key_is_rejected(prefix: str) -> None:
    with pytest.raises(EdgemtlError, match="prefix"):
        Zenoh("tcp/127.0.0.1:1", prefix)


def test_without_zenoh_the_sink_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zenoh", None)
    with pytest.raises(EdgemtlError, match=r"pip install 'edgemtl-runtime\[zenoh\]'"):
        Zenoh()


WITHOUT = """
import sys
{block}
import edgemtl_runtime.camera, edgemtl_runtime.cli_run, edgemtl_runtime.messages.cameras, edgemtl_runtime.rig
import edgemtl_runtime.camera.bag, edgemtl_runtime.camera.mcap, edgemtl_runtime.mcap_recovery, edgemtl_runtime.sink
assert not [name for name in sys.modules if name.startswith("rosbags")]
from edgemtl_runtime.errors import EdgemtlError
for name in ("mcap", "ros2", "zenoh"):
    try:
        __import__("edgemtl_runtime.sink." + name)
    except EdgemtlError as error:
        print(error)
"""


BLOCK = """
class Blocked:
    def find_spec(self, name, *_):
        if name.startswith("rosbags"):
            raise ModuleNotFoundError(f"No module named {name}", name=name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize("is_missing", [False, True])
def test_rosbags_is_imported_by_what_needs_it_and_named_where_it_is_missing(is_missing: bool) -> None:
    code = WITHOUT.format(block=BLOCK if is_missing else "")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    line = "rosbags, which ROS 2 messages need, is missing: pip install 'edgemtl-runtime[rosbag]'"
    assert run.stdout.splitlines() == [line] * 3 * is_missing
