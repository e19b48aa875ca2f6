"""Pictures in recordings: MCAP files of ROS 2 messages, and the folders that ``ros2 bag`` writes.

Read are ``sensor_msgs/Image`` in the encodings of `ENCODINGS`, and ``sensor_msgs/CompressedImage`` that OpenCV decodes.
Stamps are those of the headers, Unix time; where a header's is 0, the time at which the message was recorded.
A file that was cut off, by a kill or a full disk, is read to its last whole chunk, and a warning says so.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, EdgemtlError, missing
from ..messages import read
from ..messages.types import CompressedImage, Image

ENCODINGS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "rgb8": (1, 3, (0, 1, 2)),
    "bgr8": (1, 3, (2, 1, 0)),
    "rgba8": (1, 4, (0, 1, 2)),
    "bgra8": (1, 4, (2, 1, 0)),
    "8UC3": (1, 3, (2, 1, 0)),  # names no colours; its writers are OpenCV programs, whose order is BGR
    "mono8": (1, 1, ()),
    "8UC1": (1, 1, ()),
    "mono16": (2, 1, ()),
    "16UC1": (2, 1, ()),
}
"""By name: bytes a sample, samples a pixel, and where red, green and blue are."""
KINDS: dict[str, type[Image] | type[CompressedImage]] = {
    name: kind for kind in (Image, CompressedImage) for name in (kind.TYPE, kind.TYPE.replace("/msg/", "/"))
}
log = logging.getLogger("edgemtl_runtime")
Raw = tuple[str, str, int, bytes]
"""A message as it is recorded: its type, its encoding, when it was recorded in Unix ns, its bytes."""


def topics(file: Path) -> dict[str, str]:
    """Return the image topics of an MCAP file and their ROS types; raises `CameraError` for a damaged file."""
    with _told(file), file.open("rb") as stream:
        reader, summary = _reader(file, stream)
        if summary is not None:
            found = [(channel.topic, summary.schemas.get(channel.schema_id)) for channel in summary.channels.values()]
        else:
            found = [(channel.topic, schema) for schema, channel, _ in reader.iter_messages(log_time_order=False)]
        return {topic: schema.name for topic, schema in found if schema and schema.name in KINDS}


def frames(file: Path, topic: str = "") -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (Unix stamp in nanoseconds, image) of an image topic of an MCAP file, in the order of recording.

    Images are (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16. ``topic`` may be empty where the file has one image
    topic. Raises `CameraError`, at once for a topic that is not there, on the way for a message that cannot be read.
    """
    chosen = choose_topic(file, topics(file), topic)
    return _decoded(file, chosen, _mcap_messages(file, chosen))


def bag_topics(folder: Path) -> dict[str, str]:
    """Return the image topics of a bag and their ROS types; raises `CameraError` for what is no bag."""
    with _told(folder), _bag(folder) as bag:
        return {c.topic: c.msgtype for c in bag.connections if c.msgtype in KINDS}


def bag_frames(folder: Path, topic: str = "") -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield what `frames` does from a bag: a folder with ``metadata.yaml``, in sqlite3 or MCAP."""
    chosen = choose_topic(folder, bag_topics(folder), topic)
    return _decoded(folder, chosen, _bag_messages(folder, chosen))


def choose_topic(place: Path, known: dict[str, str], topic: str) -> str:
    """Return ``topic``, or the only one of ``known``; raises `CameraError` that lists what there is."""
    if topic in known:
        return topic
    if not known:
        raise CameraError(f"{place}: holds no images (sensor_msgs/Image or CompressedImage)")
    if not topic and len(known) == 1:
        return next(iter(known))
    said = f"has no images on the topic '{topic}'" if topic else "has several image topics"
    raise CameraError(f"{place}: {said}; choose one of {', '.join(sorted(known))}")


def to_array(message: Image) -> NDArray[Any]:
    """Return an image's pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16; raises `CameraError`."""
    if message.encoding not in ENCODINGS:
        raise CameraError(f"cannot read the encoding '{message.encoding}'; {', '.join(ENCODINGS)} can be read")
    sample, channels, order = ENCODINGS[message.encoding]
    height, width, row = message.height, message.width, message.width * channels * sample
    if not height * width or message.step < row or len(message.data) < message.step * height:
        rows = f"{width}x{height} in rows of {message.step} bytes"
        raise CameraError(f"an image of {rows} cannot have {len(message.data)} bytes of {message.encoding}")
    rows_of_bytes = np.frombuffer(message.data, np.uint8, message.step * height).reshape(height, message.step)
    pixels = np.ascontiguousarray(rows_of_bytes[:, :row])
    if order:
        return np.ascontiguousarray(pixels.reshape(height, width, channels)[:, :, list(order)])
    if sample == 2:
        return pixels.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    return pixels.copy()


def decompress(message: CompressedImage) -> NDArray[Any]:
    """Return a compressed image's pixels, 16 bits kept; raises `CameraError` for what OpenCV does not decode."""
    try:
        import cv2
    except ImportError as error:
        raise CameraError(
            missing(error, "cv2", "compressed images need OpenCV: pip install 'edgemtl-runtime[opencv]'")
        ) from error
    image: NDArray[Any] | None = None
    with contextlib.suppress(cv2.error):  # raised for no bytes at all; others give None
        image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise CameraError(f"{len(message.data)} bytes of format '{message.format}' are no picture that OpenCV decodes")
    if image.ndim == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(image[:, :, 2::-1])
    if image.ndim == 3 or image.dtype not in (np.uint8, np.uint16):
        shape = "x".join(str(v) for v in image.shape)
        raise CameraError(
            f"cannot read {image.dtype} {shape} (format '{message.format}'); grey may have 16 bits, colour 8"
        )
    return image


def _decoded(place: Path, topic: str, messages: Iterable[Raw]) -> Iterator[tuple[int, NDArray[Any]]]:
    for index, (kind, encoding, recorded_ns, data) in enumerate(messages):
        try:
            if encoding != "cdr" or kind not in KINDS:
                raise CameraError(f"is {kind} as '{encoding}', not a ROS 2 image as 'cdr'")
            message = read(KINDS[kind], data)
            stamp = message.header.stamp
            image = to_array(message) if isinstance(message, Image) else decompress(message)
        except EdgemtlError as error:
            raise CameraError(f"{place}: message {index} of {topic}: {error}") from error
        yield stamp.sec * 1_000_000_000 + stamp.nanosec or recorded_ns, image


def _mcap_messages(file: Path, topic: str) -> Iterator[Raw]:
    with _told(file), file.open("rb") as stream:
        reader, summary = _reader(file, stream)
        # without an index, ordering by time would hold the whole file in memory
        messages = reader.iter_messages(topic, log_time_order=summary is not None)
        for schema, channel, message in messages:
            yield schema.name if schema else "", channel.message_encoding, message.log_time, message.data


def _bag_messages(folder: Path, topic: str) -> Iterator[Raw]:
    with _told(folder), _bag(folder) as bag:
        wanted = [connection for connection in bag.connections if connection.topic == topic]
        for connection, recorded_ns, data in bag.messages(wanted):
            yield connection.msgtype, getattr(connection.ext, "serialization_format", "cdr"), recorded_ns, data


def _reader(file: Path, stream: BinaryIO) -> tuple[Any, Any]:
    """Return a reader and the file's summary; a file without an index is read from its begin, its summary is None."""
    try:
        from mcap.reader import NonSeekingReader, make_reader
    except ImportError as error:
        raise CameraError(
            missing(error, "mcap", f"{file}: mcap is missing: pip install 'edgemtl-runtime[mcap]'")
        ) from error
    from ..mcap_walk import has_whole_end

    if not has_whole_end(stream):
        return CutReader(file, stream), None
    stream.seek(0)
    reader = make_reader(stream, validate_crcs=True)
    summary = reader.get_summary()
    if summary is not None and summary.chunk_indexes and summary.channels:
        return reader, summary
    stream.seek(0)
    return NonSeekingReader(stream, validate_crcs=True), None


class CutReader:
    """Reads what is whole in a file whose end is missing, in the order of recording, and warns once."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file, self.stream = file, stream

    def iter_messages(self, topic: str = "", log_time_order: bool = False) -> Iterator[tuple[Any, Any, Any]]:
        """Yield (schema, channel, message) of a topic, of all where it is empty."""
        from mcap.records import Channel, Schema

        from ..mcap_walk import CHANNEL, CHUNK, MESSAGE, SCHEMA, Walk, of_bytes, parse, split, unpacked, whole

        try:
            walk = Walk(self.stream)
        except EdgemtlError as error:
            raise CameraError(f"{self.file}: {error}") from error
        schemas, channels = dict[int, Schema](), dict[int, Channel]()
        damaged = 0
        for record in walk:
            try:
                raw = split(unpacked(parse(record))) if record.kind == CHUNK else [whole(record)]
                found = [of_bytes(kind, data) for kind, _, data in raw if kind in (SCHEMA, CHANNEL, MESSAGE)]
            except Exception:  # damaged bytes make the libraries raise nearly everything
                damaged += record.length
                continue
            for part in found:
                if isinstance(part, Schema):
                    schemas[part.id] = part
                elif isinstance(part, Channel):
                    channels[part.id] = part
                elif (channel := channels.get(part.channel_id)) is not None and topic in ("", channel.topic):
                    yield schemas.get(channel.schema_id), channel, part
        _warn_cut(self.file, damaged + (walk.size - walk.end if walk.is_cut else 0))


@lru_cache(maxsize=100)
def _warn_cut(file: Path, lost_bytes: int) -> None:
    """Warn of a file that was cut off, once."""
    log.warning(
        "%s: was cut off; it is read to its last whole chunk (%d bytes are left out); "
        "`edgemtl-runtime recover` writes it whole",
        file,
        lost_bytes,
    )


def _bag(folder: Path) -> Any:
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise CameraError(
            missing(error, "rosbags", f"{folder}: rosbags is missing: pip install 'edgemtl-runtime[rosbag]'")
        ) from error
    return Reader(folder)


@contextlib.contextmanager
def _told(place: Path) -> Iterator[None]:
    """Tell what the libraries raise in one line; on damaged bytes they raise nearly everything."""
    try:
        yield
    except EdgemtlError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a seek before the begin: damaged
            raise CameraError(f"{place}: cannot be read ({error.strerror or error})") from error
        said = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise CameraError(
            f"{place}: is damaged or was cut off ({said}); copy it again or try `edgemtl-runtime recover`"
        ) from error
