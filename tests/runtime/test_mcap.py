"""MCAP files written, cut off, and read back; bags of ROS 2; recordings that are not what they should be."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import Writer as RawWriter
from ros_reference import encode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from edgemtl_runtime.camera.mcap import bag_frames, bag_topics, frames, topics
from edgemtl_runtime.errors import CameraError, EdgemtlError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.messages.images import ENCODINGS, decompress, to_array
from edgemtl_runtime.messages.ros import of_array, of_pair
from edgemtl_runtime.messages.store import CompressedImage, Header, Image, Message, String, Time, serialize
from edgemtl_runtime.result import Boxes, DepthMap, Result
from edgemtl_runtime.sink.mcap import CHUNK_BYTES, McapFile

NOW_NS = 1_700_000_000_000_000_000
HEAD = Header(Time(1, 2), "cam")


def make_pair(index: int, size: tuple[int, int] = (48, 64)) -> FramePair:
    """Return a smooth colour image and a noisy 16-bit thermal one, 10 ms apart from index to index."""
    rng = np.random.default_rng(index)
    colour = cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)
    thermal = rng.integers(0, 65536, size).astype(np.uint16)
    stamp_ns = 10_000_000 * index
    return FramePair(
        {
            "rgb": Frame(np.asarray(colour), stamp_ns + 500, "rgb", index),
            "ir": Frame(thermal, stamp_ns, "ir", index),
        }
    )


def make_result(pair: FramePair, index: int) -> Result:
    """Return a box and a depth map."""
    boxes = Boxes(np.array([[1, 2, 30, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("person",))
    depth = DepthMap(np.full((3, 5), index + 0.5, np.float32))
    return Result({"boxes": boxes, "depth": depth}, "rgb", pair.stamp_ns, pair.skew_ns, index)


def record(file: Path, count: int = 5, size: tuple[int, int] = (48, 64)) -> Path:
    """Write pairs and results."""
    sink = McapFile(file, NOW_NS)
    for index in range(count):
        pair = make_pair(index, size)
        sink.write(pair, make_result(pair, index))
    sink.close()
    return file


def write_raw(file: Path, messages: list[tuple[str, Message, int]], **options: Any) -> Path:
    """Write (topic, message, recorded at) as another program would."""
    with file.open("wb") as stream:
        writer = RawWriter(stream, **options)
        writer.start()
        channels: dict[str, int] = {}
        for topic, message, recorded_ns in messages:
            if topic not in channels:
                schema = writer.register_schema(message.__msgtype__, "ros2msg", b"")
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], recorded_ns, serialize(message), recorded_ns)
        writer.finish()
    return file


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    file = record(tmp_path / "a" / "run.mcap")
    assert topics(file) == {
        "/camera/rgb/image/compressed": "sensor_msgs/msg/CompressedImage",
        "/camera/ir/image": "sensor_msgs/msg/Image",
        "/depth": "sensor_msgs/msg/Image",
    }
    thermal = list(frames(file, "/camera/ir/image"))
    colour = list(frames(file, "/camera/rgb/image/compressed"))
    assert len(thermal) == len(colour) == 5
    for index, ((ir_ns, ir), (rgb_ns, rgb)) in enumerate(zip(thermal, colour, strict=True)):
        pair = make_pair(index)
        assert (ir_ns, rgb_ns) == tuple(NOW_NS + pair.frames[name].stamp_ns for name in ("ir", "rgb"))
        assert ir.dtype == np.uint16 and np.array_equal(ir, pair.frames["ir"].image)
        assert rgb.shape == (48, 64, 3) and np.abs(rgb.astype(int) - pair.frames["rgb"].image).mean() < 6
        Frame(rgb, rgb_ns, "rgb", index)
    assert [path.name for path in file.parent.iterdir()] == ["run.mcap"]


def test_a_viewer_finds_types_stamps_and_messages_in_the_file_alone(tmp_path: Path) -> None:
    file = record(tmp_path / "run.mcap", 3)
    messages: list[tuple[str, int, Any]] = []
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and {chunk.compression for chunk in summary.chunk_indexes} == {"zstd"}
        for schema, channel, message in reader.iter_messages():
            assert schema is not None and (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            assert message.log_time == message.publish_time
            store = get_typestore(Stores.EMPTY)
            store.register(get_types_from_msg(schema.data.decode(), schema.name))
            messages.append((channel.topic, message.log_time, store.deserialize_cdr(message.data, schema.name)))
    stamps = [stamp for _, stamp, _ in messages]
    assert len(messages) == 3 * 6 and stamps == sorted(stamps)
    boxes = [(stamp, message) for topic, stamp, message in messages if topic == "/boxes"]
    stamp, first = boxes[0]
    assert stamp == NOW_NS + 500 == first.header.stamp.sec * 10**9 + first.header.stamp.nanosec
    assert first.detections[0].results[0].hypothesis.class_id == "person"
    assert (first.detections[0].bbox.center.position.x, first.detections[0].bbox.size_y) == (15.5, 38)
    results = [json.loads(message.data) for topic, _, message in messages if topic == "/result"]
    assert [result["index"] for result in results] == [0, 1, 2] and results[0]["heads"]["boxes"]["boxes"][0][
        "class"
    ] == "person"


def test_images_can_be_recorded_without_results(tmp_path: Path) -> None:
    sink = McapFile(tmp_path / "run.mcap")
    sink.write_pair(make_pair(3))
    sink.close()
    with (tmp_path / "run.mcap").open("rb") as stream:
        sequences = [(channel.topic, message.sequence) for _, channel, message in make_reader(stream).iter_messages()]
    assert sorted(sequences) == [("/camera/ir/image", 0), ("/camera/rgb/image/compressed", 0)]


def test_without_a_message_there_is_no_file_and_an_older_one_stays(tmp_path: Path) -> None:
    (tmp_path / "run.mcap").write_bytes(b"older")
    sink = McapFile(tmp_path / "run.mcap")
    sink.close()
    sink.close()
    assert (tmp_path / "run.mcap").read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgemtlError, match=r"run\.mcap: cannot be written"):
        McapFile(tmp_path / "file" / "run.mcap")


def test_a_full_disk_is_an_error_and_leaves_the_older_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full."""
    (tmp_path / "run.mcap").write_bytes(b"older")
    sink = McapFile(tmp_path / "run.mcap")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        with pytest.raises(EdgemtlError, match=r"cannot be written \(File too large\); what was recorded is in .*part"):
            for index in range(9):
                sink.write_pair(make_pair(index, (600, 800)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sink.close()
    assert (tmp_path / "run.mcap").read_bytes() == b"older"
    (part,) = tmp_path.glob(".*.part.mcap")
    assert len(list(frames(part, "/camera/ir/image"))) >= 1  # cut between two records, not in one


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_mcap import McapFile, make_pair
sink = McapFile(Path(sys.argv[1]), 0)
for index in range(1000):
    sink.write_pair(make_pair(index, (480, 640)))
    print(index, flush=True)
"""


def whole(file: Path, topic: str) -> list[int]:
    """Return the stamps that a streaming reader gets from a file before its end or its damage."""
    stamps = []
    with file.open("rb") as stream:
        try:
            for _, channel, message in NonSeekingReader(stream).iter_messages(log_time_order=False):
                if channel.topic == topic:
                    stamps.append(message.log_time)
        except McapError:
            pass
    return stamps


def test_a_kill_leaves_the_older_file_and_what_was_recorded(tmp_path: Path) -> None:
    file = tmp_path / "run.mcap"
    file.write_bytes(b"older")
    arguments = [sys.executable, "-c", KILLED, str(file), str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        written = 0
        for line in child.stdout:
            written = int(line) + 1
            if written == 12:
                os.kill(child.pid, signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL and file.read_bytes() == b"older"
    (part,) = tmp_path.glob(".run-*.part.mcap")
    stamps = whole(part, "/camera/ir/image")
    lost = CHUNK_BYTES // (480 * 640 * 2) + 2
    assert written - lost <= len(stamps) and stamps == [10_000_000 * index for index in range(len(stamps))]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of several chunks."""
    return record(tmp_path_factory.mktemp("mcap") / "run.mcap", 12, (300, 400))


@pytest.mark.parametrize("kept", [0.1, 0.45, 0.8, 0.97])
def test_a_file_that_was_cut_off_is_whole_up_to_its_last_chunk(recording: Path, tmp_path: Path, kept: float) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(recording.read_bytes()[: round(kept * recording.stat().st_size)])
    with recording.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None and len(summary.chunk_indexes) >= 3
    ends = [chunk.chunk_start_offset + chunk.chunk_length for chunk in summary.chunk_indexes]
    kept_whole = sum(end <= cut.stat().st_size for end in ends)
    last_ns = [chunk.message_end_time for chunk in summary.chunk_indexes[:kept_whole]]
    expected = [ns for ns in whole(recording, "/camera/ir/image") if last_ns and ns <= max(last_ns)]
    assert whole(cut, "/camera/ir/image") == expected and (kept < 0.2 or expected)
    assert set(topics(cut)) == (set(topics(recording)) if expected else set())
    if expected:
        assert [ns for ns, _ in frames(cut, "/camera/ir/image")] == expected


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_damaged_file_is_read_or_one_error_and_never_crashes(recording: Path, share: float, change: int) -> None:
    raw = bytearray(recording.read_bytes())
    raw[int(share * len(raw))] ^= change
    file = recording.with_name("damaged.mcap")
    file.write_bytes(raw)
    try:
        images = [image for _, image in frames(file, "/camera/ir/image")]
    except CameraError as error:
        assert "\n" not in str(error) and "damaged.mcap" in str(error)
    else:
        known = {image.tobytes() for _, image in frames(recording, "/camera/ir/image")}
        assert {image.tobytes() for image in images} <= known


@pytest.mark.parametrize("content", [b"", b"no recording", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" + bytes(100)])
def test_what_is_no_recording_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(content)
    with pytest.raises(CameraError, match=r"a\.mcap: ") as raised:
        frames(tmp_path / "a.mcap", "")
    assert "\n" not in str(raised.value)
    with pytest.raises(CameraError, match="No such file"):
        topics(tmp_path / "none.mcap")


def test_a_topic_is_selected_or_asked_for(recording: Path, tmp_path: Path) -> None:
    listed = "choose one of /camera/ir/image, /camera/rgb/image/compressed, /depth"
    with pytest.raises(CameraError, match=f"no images on the topic '/camera/it'; {listed}"):
        frames(recording, "/camera/it")
    with pytest.raises(CameraError, match=f"several image topics; {listed}"):
        frames(recording)
    image = of_array(np.arange(6, dtype=np.uint8).reshape(2, 3), "mono8", HEAD)
    one = write_raw(tmp_path / "one.mcap", [("/text", String("a"), 5), ("/eye", image, 5)])
    assert [pixels.tolist() for _, pixels in frames(one)] == [[[0, 1, 2], [3, 4, 5]]]
    none = write_raw(tmp_path / "none.mcap", [("/text", String("a"), 5)])
    with pytest.raises(CameraError, match=r"none\.mcap: holds no images"):
        frames(none)


def test_a_stamp_of_zero_is_replaced_by_the_time_of_recording(tmp_path: Path) -> None:
    unset = of_array(np.zeros((2, 2), np.uint8), "mono8", Header(Time(0, 0), ""))
    stamped = dataclasses.replace(unset, header=HEAD)
    file = write_raw(tmp_path / "a.mcap", [("/eye", unset, 77), ("/eye", stamped, 88)])
    assert [stamp_ns for stamp_ns, _ in frames(file)] == [77, 1_000_000_002]


@pytest.mark.parametrize("options", [{"use_chunking": False}, {"repeat_channels": False, "use_statistics": False}])
def test_files_without_an_index_are_read_too(tmp_path: Path, options: dict[str, Any]) -> None:
    images = [of_array(np.full((4, 4), n, np.uint8), "mono8", HEAD) for n in range(3)]
    file = write_raw(tmp_path / "a.mcap", [("/eye", image, n) for n, image in enumerate(images)], **options)
    assert [int(image[0, 0]) for _, image in frames(file)] == [0, 1, 2]


def test_a_message_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    good = of_array(np.zeros((2, 2), np.uint8), "mono8", HEAD)
    planes = dataclasses.replace(good, encoding="nv24")
    file = write_raw(tmp_path / "a.mcap", [("/eye", good, 1), ("/eye", planes, 2)])
    images = frames(file, "/eye")
    assert next(images)[1].shape == (2, 2)
    with pytest.raises(CameraError, match=r"a\.mcap: message 1 of /eye: cannot read the encoding 'nv24'; rgb8,"):
        next(images)


PLAIN_ENCODINGS = sorted(name for name, form in ENCODINGS.items() if not form.conversion)


def stored(pixels: np.ndarray[Any, Any], encoding: str, padding: int, big: bool) -> Image:
    """Return an image as a driver may store it: rows with padding, either order of bytes."""
    form = ENCODINGS[encoding]
    height, width = pixels.shape[:2]
    values = np.full((height, width, form.channels), 9, np.dtype(form.dtype).newbyteorder(">" if big else "<"))
    for channel, position in enumerate(form.order or (0,)):
        values[:, :, position] = pixels[:, :, channel] if form.order else pixels
    rows = values.view(np.uint8).reshape(height, -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=7).reshape(-1)
    return Image(HEAD, height, width, encoding, int(big), rows.shape[1] + padding, data)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PLAIN_ENCODINGS), st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.booleans(),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_every_encoding_gives_back_its_pixels(
    encoding: str, height: int, width: int, padding: int, big: bool, random: Any
) -> None:
    """Whole numbers of any type become 16 bits, colours of 16 bits their upper eight."""
    form = ENCODINGS[encoding]
    rng = np.random.default_rng(random.getrandbits(32))
    shape = (height, width, 3) if form.order else (height, width)
    pixels = rng.integers(0, {"u1": 256, "i2": 32768}.get(form.dtype, 65536), shape).astype(form.dtype)
    if form.order:
        pixels[0, 0] = (0, 50, 100) if form.dtype == "u1" else (0, 9000, 18000)
    image = to_array(stored(pixels, encoding, padding, big))
    expected = pixels // 256 if form.order and form.dtype == "u2" else pixels
    assert image.dtype == (np.uint8 if form.order or form.dtype == "u1" else np.uint16)
    assert np.array_equal(image, expected)
    assert image.flags.c_contiguous and image.flags.writeable
    Frame(image, 0, "eye", 0)


@pytest.mark.parametrize(
    "change", [{"step": 8}, {"height": 5}, {"width": 0}, {"height": 0}, {"data": np.zeros(0, np.uint8)}]
)
def test_an_image_whose_numbers_disagree_is_an_error(change: dict[str, Any]) -> None:
    image = of_array(np.zeros((4, 3, 3), np.uint8), "rgb8", HEAD)
    with pytest.raises(CameraError, match="bytes of rgb8"):
        to_array(dataclasses.replace(image, **change))


def png(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a PNG of an image in OpenCV's order."""
    return np.frombuffer(bytes(cv2.imencode(".png", image)[1]), np.uint8)


def test_compressed_images_keep_their_depth_and_colours() -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (5, 7)).astype(np.uint16)
    rgba = rng.integers(0, 256, (5, 7, 4), np.uint8)
    assert np.array_equal(decompress(CompressedImage(HEAD, "16UC1; png compressed", png(deep))), deep)
    grey = decompress(CompressedImage(HEAD, "png", png(rgba[:, :, 0])))
    assert np.array_equal(grey, rgba[:, :, 0])
    for bgr in (rgba[:, :, 2::-1], cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA)):
        image = decompress(CompressedImage(HEAD, "png", png(np.ascontiguousarray(bgr))))
        assert np.array_equal(image, rgba[:, :, :3]) and image.flags.c_contiguous


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.zeros(0, np.uint8), "of format 'h264' is empty"),
        (np.frombuffer(b"\xff\xd8\xff\xe0nothing", np.uint8), "is an incomplete JPEG file"),
        (np.frombuffer(b"\0\0\0\1gAPD", np.uint8), "'h264' cannot be read as an image"),
    ],
)
def test_compressed_bytes_that_are_no_image_are_an_error(data: np.ndarray[Any, Any], expected: str) -> None:
    with pytest.raises(CameraError, match=expected):
        decompress(CompressedImage(HEAD, "h264", data))


def write_bag(folder: Path, plugin: StoragePlugin, messages: list[tuple[str, Message, int]]) -> Path:
    """Write a bag as ROS 2 does, the messages' bytes by the rules of CDR."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with BagWriter(folder, version=9, storage_plugin=plugin) as bag:
        connections: dict[str, Any] = {}
        for topic, message, recorded_ns in messages:
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, message.__msgtype__, typestore=store)
            bag.write(connections[topic], recorded_ns, encode(message, message.__msgtype__))
    return folder


@pytest.mark.parametrize("plugin", list(StoragePlugin), ids=lambda plugin: plugin.name)
def test_bags_of_ros_are_read(plugin: StoragePlugin, tmp_path: Path) -> None:
    messages = [("/chat", String("hello"), 1)]
    for index in range(3):
        pair = make_pair(index)
        messages += [(topic, message, stamp_ns) for topic, stamp_ns, message in of_pair(pair, None, NOW_NS)]
    bag = write_bag(tmp_path / "bag", plugin, messages)
    assert set(bag_topics(bag)) == {"/camera/rgb/image/compressed", "/camera/ir/image"}
    for index, (stamp_ns, image) in enumerate(bag_frames(bag, "/camera/ir/image")):
        frame = make_pair(index).frames["ir"]
        assert stamp_ns == NOW_NS + frame.stamp_ns and np.array_equal(image, frame.image) and image.dtype == np.uint16
    assert index == 2
    colour = [image for _, image in bag_frames(bag, "/camera/rgb/image/compressed")]
    assert len(colour) == 3 and np.abs(colour[1].astype(int) - make_pair(1).frames["rgb"].image).mean() < 6
    with pytest.raises(CameraError, match="bag: has several image topics; choose one of /camera/ir/image, /camera/rgb"):
        bag_frames(bag)


def empty(bag: Path) -> None:
    """Leave a bag's data without content."""
    next(path for path in bag.iterdir() if path.name != "metadata.yaml").write_bytes(b"")


def scribble(bag: Path) -> None:
    """Overwrite the middle of a bag's data."""
    file = next(path for path in bag.iterdir() if path.name != "metadata.yaml")
    raw = file.read_bytes()
    file.write_bytes(raw[:2000] + b"\xa5" * (len(raw) - 2000))


def garble(bag: Path) -> None:
    """Make the metadata no metadata."""
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: [1, {")


@pytest.mark.parametrize("plugin", list(StoragePlugin), ids=lambda plugin: plugin.name)
@pytest.mark.parametrize("damage", [empty, scribble, garble], ids=lambda damage: damage.__name__)
def test_damaged_bags_are_one_line(plugin: StoragePlugin, damage: Callable[[Path], None], tmp_path: Path) -> None:
    messages = [(t, m, ns) for i in range(4) for t, ns, m in of_pair(make_pair(i), None, NOW_NS)]
    bag = write_bag(tmp_path / "bag", plugin, messages)
    damage(bag)
    with pytest.raises(CameraError, match="bag: ") as raised:
        list(bag_frames(bag, "/camera/ir/image"))
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_bag_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"cannot be read .*metadata"):
        bag_topics(tmp_path)


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("mcap.writer", lambda folder: McapFile(folder / "a.mcap")),
        ("mcap.reader", lambda folder: topics(record(folder / "a.mcap", 1))),
        ("rosbags.rosbag2", bag_topics),
    ],
)
def test_what_is_not_installed_is_named(
    module: str, use: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EdgemtlError, match=r"is missing: pip install 'edgemtl-runtime\["):
        use(tmp_path)
