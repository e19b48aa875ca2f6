"""Frames, calibrations and annotations of cameras as messages, and the keys by which ROS 2 nodes find topics."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
import zenoh
from boards import true_ir_pixels, true_rig
from conftest import write_frames
from mcap.reader import make_reader
from ros_reference import encode
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from edgemtl_runtime.cli import main
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.messages.annotations import IMAGE_ANNOTATIONS
from edgemtl_runtime.messages.cameras import Setup
from edgemtl_runtime.messages.ros import of_pair
from edgemtl_runtime.messages.store import CameraInfo
from edgemtl_runtime.result import Boxes, LabelMap, Result
from edgemtl_runtime.rig import CameraModel, Rig
from edgemtl_runtime.sink.mcap import McapFile
from edgemtl_runtime.sink.zenoh import Zenoh
from edgemtl_runtime.sink.zenoh_keys import dds_name, domain

NOW_NS = 1_700_000_000_000_000_000


def pair_of(rgb: tuple[int, int] | None = (480, 640), ir: tuple[int, int] | None = (240, 320)) -> FramePair:
    frames = {}
    if rgb:
        frames["rgb"] = Frame(np.zeros((*rgb, 3), np.uint8), 5_000, "rgb", 0)
    if ir:
        frames["ir"] = Frame(np.zeros(ir, np.uint16), 3_000, "ir", 0)
    return FramePair(frames)


def result_of(boxes: list[list[float]], tracks: list[int] | None = None, **others: Any) -> Result:
    head = Boxes(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, len(boxes)).astype(np.float32),
        np.arange(len(boxes)) % 2,
        ("person", "car"),
        None if tracks is None else np.array(tracks),
    )
    return Result({"boxes": head, **others}, "rgb", 5_000, 2_000, 7, "0007")


def wide_rig() -> Rig:
    """A rig of images that are as wide for their height as the toy bundle's."""
    rig = true_rig()
    cameras = {name: replace(camera, height=camera.width * 2 // 3) for name, camera in rig.cameras.items()}
    return replace(rig, cameras=cameras, homography_rgb_to_ir=None)


def messages_of(pair: FramePair, result: Result | None, setup: Setup) -> dict[str, tuple[int, Any]]:
    return {topic: (stamp, message) for topic, stamp, message in of_pair(pair, result, NOW_NS, setup)}


def test_frames_are_the_cameras_names_the_rigs_or_those_given() -> None:
    rig = replace(true_rig(), frame_ids={"rgb": "rgb_optical", "ir": "ir_optical"})
    for setup, expected in (
        (Setup(), ("rgb", "ir")),
        (Setup.of(None, ["ir=boson"], ["rgb", "ir"]), ("rgb", "boson")),
        (Setup.of(rig, [], ["rgb", "ir"]), ("rgb_optical", "ir_optical")),
        (Setup.of(rig, ["ir=boson/optical"], ["rgb", "ir"]), ("rgb_optical", "boson/optical")),
    ):
        messages = messages_of(pair_of(), result_of([[1, 2, 30, 40]]), setup)
        assert messages["/camera/rgb/image/compressed"][1].header.frame_id == expected[0]
        assert messages["/camera/ir/image"][1].header.frame_id == expected[1]
        assert messages["/boxes"][1].header.frame_id == expected[0]


def test_a_rig_file_keeps_its_frames(tmp_path: Path) -> None:
    rig = replace(true_rig(), frame_ids={"ir": "boson_optical"})
    rig.save(tmp_path / "rig.yaml")
    assert Rig.open(tmp_path / "rig.yaml").frame_ids == {"ir": "boson_optical"}
    true_rig().save(tmp_path / "plain.yaml")
    assert "frame_ids" not in (tmp_path / "plain.yaml").read_text() and not Rig.open(tmp_path / "plain.yaml").frame_ids
    for frames, expected in (
        ({"thermal": "x"}, "there is no camera thermal"),
        ({"ir": "/x"}, "frame_ids.ir /x: a frame"),
    ):
        with pytest.raises(EdgemtlError, match=expected):
            replace(true_rig(), frame_ids=frames)


@pytest.mark.parametrize("scale", [1, 2])
def test_calibrations_are_for_the_images_in_use(scale: int) -> None:
    rig = true_rig()
    messages = messages_of(pair_of((480 // scale, 640 // scale)), None, Setup(rig))
    stamp, info = messages["/camera/rgb/camera_info"]
    image = messages["/camera/rgb/image/compressed"]
    assert isinstance(info, CameraInfo) and (stamp, info.header) == (image[0], image[1].header)
    assert (info.height, info.width, info.distortion_model) == (480 // scale, 640 // scale, "plumb_bob")
    fx, cx = rig.rgb.camera_matrix[0, 0] / scale, (rig.rgb.camera_matrix[0, 2] + 0.5) / scale - 0.5
    assert info.k[0] == pytest.approx(fx) and info.k[2] == pytest.approx(cx) and info.k[8] == 1
    assert info.d.tolist() == list(rig.rgb.distortion) and info.r.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert info.p.tolist() == [*info.k[:3], 0, *info.k[3:6], 0, *info.k[6:], 0]
    assert messages["/camera/ir/camera_info"][1].width == 320


def test_what_is_not_known_is_not_published() -> None:
    plain = {name: CameraModel(name, 320, 240) for name in ("rgb", "ir")}
    by_points = Setup(Rig(plain, homography_rgb_to_ir=np.eye(3)))
    cut = pair_of((360, 640))
    for pair, setup in ((pair_of(), Setup()), (pair_of((240, 320)), by_points), (cut, Setup(true_rig()))):
        assert "/camera/rgb/camera_info" not in messages_of(pair, None, setup)
    assert "/camera/ir/camera_info" in messages_of(cut, None, Setup(true_rig()))


def test_boxes_are_drawn_on_the_image_of_their_camera() -> None:
    label = LabelMap(np.zeros((4, 4), np.uint8), ("a",))
    result = result_of([[10, 20, 60, 90], [0, 0, 5, 5]], [12, -1], semantic=label)
    messages = messages_of(pair_of(), result, Setup())
    stamp, drawn = messages["/camera/rgb/annotations"]
    image_stamp, image = messages["/camera/rgb/image/compressed"]
    assert drawn.__msgtype__ == IMAGE_ANNOTATIONS and stamp == image_stamp and not drawn.circles
    first, second = drawn.points
    assert [(p.x, p.y) for p in first.points] == [(10, 20), (60, 20), (60, 90), (10, 90)] and first.type == 2
    assert [text.text for text in drawn.texts] == ["person 0.90 #12", "car 0.50"]
    assert (drawn.texts[0].position.x, drawn.texts[0].position.y) == (10, 20)
    assert all(part.timestamp == image.header.stamp for part in (*drawn.points, *drawn.texts))
    assert first.outline_color != second.outline_color and first.outline_color == drawn.texts[0].background_color
    assert "/camera/ir/annotations" not in messages  # without a rig nobody knows where things are in it


def test_boxes_are_stamped_as_the_image_though_the_other_camera_is_later() -> None:
    pair = pair_of()
    late = FramePair({"rgb": pair.frames["rgb"], "ir": replace(pair.frames["ir"], stamp_ns=9_000)})
    messages = messages_of(late, result_of([[1, 2, 3, 4]]), Setup())
    assert messages["/camera/rgb/annotations"][0] == messages["/camera/rgb/image/compressed"][0] == NOW_NS + 5_000
    assert messages["/boxes"][0] == NOW_NS + 9_000


def test_no_boxes_clear_the_last_ones_and_no_head_of_boxes_publishes_none() -> None:
    drawn = messages_of(pair_of(), result_of([]), Setup())["/camera/rgb/annotations"][1]
    assert drawn.__msgtype__ == IMAGE_ANNOTATIONS and (drawn.circles, drawn.points, drawn.texts) == ([], [], [])
    maps = Result({"m": LabelMap(np.zeros((2, 2), np.uint8), ("a",))}, "rgb", 5_000, 0, 0)
    assert not [topic for topic in messages_of(pair_of(), maps, Setup()) if topic.endswith("annotations")]


def test_a_rig_projects_boxes_onto_the_other_image() -> None:
    rig = true_rig()
    setup = Setup(rig)
    box = [300.0, 200.0, 360.0, 290.0]
    drawn = messages_of(pair_of(), result_of([box, [-900, 0, 5, 5]]), setup)["/camera/ir/annotations"][1]
    corners = np.array([[300, 200], [360, 200], [360, 290], [300, 290]]) - 0.5
    want = true_ir_pixels(rig, corners, 3.0) + 0.5
    assert len(drawn.points) == 1  # what the lens does not show is not drawn
    assert np.allclose([(p.x, p.y) for p in drawn.points[0].points], want, atol=1e-4)
    # while the reference is silent its size is kept, and boxes go on
    alone = messages_of(pair_of(rgb=None), result_of([box]), setup)
    assert np.allclose([(p.x, p.y) for p in alone["/camera/ir/annotations"][1].points[0].points], want, atol=1e-4)
    assert "/camera/rgb/annotations" not in alone


def test_a_viewer_finds_boxes_and_calibrations_in_the_file_alone(tmp_path: Path) -> None:
    sink = McapFile(tmp_path / "run.mcap", NOW_NS, setup=Setup(true_rig(), {"rgb": "eye"}))
    sink.write(pair_of(), result_of([[10, 20, 60, 90]]))
    sink.close()
    messages: dict[str, Any] = {}
    with (tmp_path / "run.mcap").open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            assert schema is not None
            store = get_typestore(Stores.EMPTY)
            store.register(get_types_from_msg(schema.data.decode(), schema.name))
            messages[channel.topic] = schema.name, message.log_time, store.deserialize_cdr(message.data, schema.name)
    name, stamp, drawn = messages["/camera/rgb/annotations"]
    assert name == "foxglove_msgs/msg/ImageAnnotations" and stamp == messages["/camera/rgb/image/compressed"][1]
    assert drawn.texts[0].text == "person 0.90" and drawn.points[0].points[2].y == 90
    name, _, info = messages["/camera/rgb/camera_info"]
    assert name == "sensor_msgs/msg/CameraInfo" and info.header.frame_id == "eye"
    assert np.allclose(np.reshape(info.k, (3, 3)), true_rig().rgb.camera_matrix)


def test_a_recording_with_a_rig_holds_its_calibrations_and_frames(tmp_path: Path) -> None:
    true_rig().save(tmp_path / "rig.yaml")
    cameras = ["--rgb", str(write_frames(tmp_path / "rgb", 2, size=(480, 640)))]
    cameras += ["--ir", str(write_frames(tmp_path / "ir", 2, size=(240, 320), channels=1))]
    arguments = ["--rig", str(tmp_path / "rig.yaml"), "--frame-id", "ir=boson", "--out", str(tmp_path / "a.mcap")]
    assert main(["record", *cameras, *arguments, "--json"]) == 0
    (file,) = tmp_path.glob("a*.mcap")
    with file.open("rb") as stream:
        topics = [channel.topic for _, channel, _ in make_reader(stream).iter_messages()]
    assert topics.count("/camera/ir/camera_info") == topics.count("/camera/ir/image/compressed") == 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Heard:
    """What a router on loopback heard of a node."""

    endpoint: str
    samples: list[tuple[str, bytes, bytes]]
    tokens: list[tuple[str, bool]]
    session: Any

    def published(self, write: Callable[[], None], topics: int) -> None:
        """Write until every topic was heard twice: a busy machine may lose some on the way."""
        end = time.monotonic() + 60
        while sorted(Counter(key for key, _, _ in self.samples).values())[:1] < [2] or self.topics < topics:
            assert time.monotonic() < end, [key for key, _, _ in self.samples]
            write()
            time.sleep(0.05)

    @property
    def topics(self) -> int:
        return len({key for key, _, _ in self.samples})

    def wait_undeclared(self, tokens: int) -> None:
        end = time.monotonic() + 60
        while sum(not is_alive for _, is_alive in self.tokens) < tokens:
            assert time.monotonic() < end, self.tokens
            time.sleep(0.01)


@pytest.fixture
def heard() -> Iterator[Heard]:
    config = zenoh.Config()
    endpoint = f"tcp/127.0.0.1:{free_port()}"
    config.insert_json5("mode", '"router"')
    config.insert_json5("listen/endpoints", json.dumps([endpoint]))
    config.insert_json5("scouting/multicast/enabled", "false")
    lock = threading.Lock()
    with zenoh.open(config) as session:
        record = Heard(endpoint, [], [], session)

        def take(sample: zenoh.Sample) -> None:
            with lock:
                attached = bytes(sample.attachment) if sample.attachment else b""
                record.samples.append((str(sample.key_expr), bytes(sample.payload), attached))

        def note(sample: zenoh.Sample) -> None:
            with lock:
                record.tokens.append((str(sample.key_expr), sample.kind == zenoh.SampleKind.PUT))

        subscriptions = (
            session.declare_subscriber("*/**", take),
            session.liveliness().declare_subscriber("@ros2_lv/**", note, history=True),
        )
        yield record
        for subscription in subscriptions:
            subscription.undeclare()


HASHES = {
    "sensor_msgs/msg/CompressedImage": "15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
    "sensor_msgs/msg/Image": "d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
    "sensor_msgs/msg/CameraInfo": "b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275",
}


@pytest.mark.parametrize(("prefix", "within"), [(None, ""), ("robot/eyes", "robot/eyes/")])
@pytest.mark.parametrize("form", ["ros2", "humble"])
def test_ros_nodes_find_topics_by_type_and_hash(
    form: Any, prefix: str | None, within: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    begun_ns = time.time_ns()
    sink = Zenoh(heard.endpoint, prefix, NOW_NS, Setup(true_rig()), form)
    zid = str(sink.session.zid())
    pair = pair_of()
    messages = [(topic, message) for topic, _, message in of_pair(pair, None, NOW_NS, Setup(true_rig()))]
    heard.published(lambda: sink.write(pair, None), len(messages))
    sink.close()
    heard.wait_undeclared(1 + len(messages))
    tokens = [token for token, is_alive in heard.tokens if is_alive]
    mangled = f"%{within.strip('/')}".replace("/", "%")
    assert tokens[0] == f"@ros2_lv/7/{zid}/0/0/NN/%/{mangled}/edgemtl"
    for number, (topic, message) in enumerate(messages, 1):
        package, _, name = message.__msgtype__.split("/")
        dds_type = f"{package}::msg::dds_::{name}_"
        known = "TypeHashNotSupported" if form == "humble" else f"RIHS01_{HASHES[message.__msgtype__]}"
        key = f"7/{within}{topic[1:]}/{dds_type}/{known}"
        samples = [(payload, attached) for at, payload, attached in heard.samples if at == key]
        assert {payload for payload, _ in samples} == {encode(message, message.__msgtype__)}
        token = tokens[number]
        full = f"/{within}{topic[1:]}".replace("/", "%")
        assert token == f"@ros2_lv/7/{zid}/0/{number}/MP/%/{mangled}/edgemtl/{full}/{dds_type}/{known}/::,10:,:,:,,"
        halves = xxhash.xxh3_128(token.encode()).digest()  # the higher half first, as xxHash writes it
        mark = halves[:7:-1] + halves[7::-1]
        numbers = [struct.unpack_from("<q", attached)[0] for _, attached in samples]
        assert numbers == sorted(set(numbers)) and numbers[0] >= 1
        for number_in, (_, attached) in zip(numbers, samples, strict=True):
            _, sent_ns, length = struct.unpack("<qqB", attached[:17])
            assert (length, attached[17:]) == (16, mark)
            assert begun_ns <= sent_ns <= time.time_ns()
            fields = zenoh.ext.z_serialize((zenoh.ext.Int64(number_in), zenoh.ext.Int64(sent_ns), mark))
            assert attached == bytes(fields)


def test_plain_keys_have_no_attachment_and_no_tokens(heard: Heard) -> None:
    sink = Zenoh(heard.endpoint, None, NOW_NS)
    heard.published(lambda: sink.write(pair_of(), None), 2)
    sink.close()
    assert sorted({(key, attached) for key, _, attached in heard.samples}) == [
        ("edgemtl/camera/ir/image", b""),
        ("edgemtl/camera/rgb/image/compressed", b""),
    ]
    assert not heard.tokens


def test_names_of_types_are_those_of_dds() -> None:
    assert [dds_name(name) for name in ("builtin_interfaces/msg/Time", CameraInfo.__msgtype__)] == [
        "builtin_interfaces::msg::dds_::Time_",
        "sensor_msgs::msg::dds_::CameraInfo_",
    ]


@pytest.mark.parametrize("domain_id", ["x", "-1", "233", "1e2", "٣"])
def test_a_domain_that_is_none_is_rejected(domain_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", domain_id)
    with pytest.raises(EdgemtlError, match="ROS_DOMAIN_ID is"):
        domain()


@pytest.mark.parametrize("prefix", ["1st", "a//b", "a-b", "*"])
def test_a_namespace_that_is_none_is_rejected(prefix: str) -> None:
    with pytest.raises(EdgemtlError, match="--prefix"):
        Zenoh("tcp/127.0.0.1:1", prefix, keys="ros2")


def test_a_run_publishes_frames_calibrations_and_boxes(toy_bundle: Path, tmp_path: Path) -> None:
    small = {name: camera.resized((64, 96)) for name, camera in wide_rig().cameras.items()}
    replace(wide_rig(), cameras=small, homography_rgb_to_ir=None, frame_ids={"ir": "boson"}).save(tmp_path / "rig.yaml")
    cameras = [
        "--rgb",
        str(write_frames(tmp_path / "rgb", 2)),
        "--ir",
        str(write_frames(tmp_path / "ir", 2, channels=1)),
    ]
    arguments = ["--rig", str(tmp_path / "rig.yaml"), "--frame-id", "rgb=eye", "--mcap", str(tmp_path / "run.mcap")]
    assert main(["run", str(toy_bundle), *cameras, *arguments, "--json"]) == 0
    messages: dict[str, Any] = {}
    (file,) = tmp_path.glob("run*.mcap")
    with file.open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            assert schema is not None
            store = get_typestore(Stores.EMPTY)
            store.register(get_types_from_msg(schema.data.decode(), schema.name))
            messages[channel.topic] = store.deserialize_cdr(message.data, schema.name)
    assert messages["/camera/rgb/camera_info"].header.frame_id == messages["/boxes"].header.frame_id == "eye"
    assert messages["/camera/ir/camera_info"].header.frame_id == "boson"
    corners = [(point.x, point.y) for point in messages["/camera/rgb/annotations"].points[0].points]
    assert corners == [(24, 16), (72, 16), (72, 48), (24, 48)]
    assert messages["/camera/rgb/annotations"].texts[0].text.endswith(" 0.90")
    assert len(messages["/camera/ir/annotations"].points) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--frame-id", "eye"], "--frame-id eye: give CAMERA=FRAME"),
        (["--frame-id", "ir=eye"], "known are: rgb"),
        (["--frame-id", "rgb="], "a frame is named by"),
        (["--zenoh", "tcp/127.0.0.1:1", "--zenoh-keys", "ros2", "--prefix", "a b"], "--prefix a b: ROS 2 wants"),
    ],
)
def test_a_setup_that_is_none_is_one_line(
    arguments: list[str], expected: str, toy_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb = str(write_frames(tmp_path / "rgb", 1))
    ir = [] if arguments[0] == "--frame-id" else ["--ir", str(write_frames(tmp_path / "ir", 1, channels=1))]
    if ir:
        assert main(["run", str(toy_bundle), "--rgb", rgb, *ir, *arguments]) == 2
    else:
        assert main(["record", "--rgb", rgb, "--out", str(tmp_path / "x.mcap"), *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1
