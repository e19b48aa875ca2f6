"""Images in recordings: MCAP files of ROS 2 messages, and the folders that ``ros2 bag`` writes.

Image messages are decoded by `messages.images`. Stamps are those of the headers, Unix time; where a header's is 0, the
time at which the message was recorded. A file that was truncated, by a kill or a full disk, is read to its last whole
chunk, and a warning says so.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from numpy.typing import NDArray

from ..errors import CameraError, EdgemtlError, missing

if TYPE_CHECKING:
    from mcap.reader import McapReader
    from mcap.records import Channel, Message, Schema
    from mcap.summary import Summary
    from rosbags.rosbag2 import Reader as BagReader

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = {spelling: name for name in (IMAGE, COMPRESSED_IMAGE) for spelling in (name, name.replace("/msg/", "/"))}
"""Full type names of image messages, by the spellings that recordings have."""
log = logging.getLogger("edgemtl_runtime")


class RawMessage(NamedTuple):
    """A message as it is recorded: its type, its encoding, the Unix time of its recording, and its bytes."""

    type_name: str
    encoding: str
    recorded_ns: int
    data: bytes


def topics(file: Path) -> dict[str, str]:
    """Return the image topics of an MCAP file and their ROS types; raises `CameraError` for a damaged file."""
    with _library_errors(file), file.open("rb") as stream:
        reader, summary = _open_reader(file, stream)
        if summary is not None:
            schemas = [(channel.topic, summary.schemas.get(channel.schema_id)) for channel in summary.channels.values()]
        else:
            messages = reader.iter_messages(log_time_order=False)
            schemas = [(channel.topic, schema) for schema, channel, _ in messages]
        return {topic: schema.name for topic, schema in schemas if schema and schema.name in IMAGE_TYPES}


def frames(file: Path, topic: str = "") -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (Unix stamp in nanoseconds, image) of an image topic of an MCAP file, in the order of recording.

    Images are (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16. ``topic`` may be empty where the file has one image
    topic. Raises `CameraError`, at once for a topic that is not in the file, later for a message that cannot be read.
    """
    selected = select_topic(file, topics(file), topic)
    return _decode(file, selected, _mcap_messages(file, selected))


def bag_topics(folder: Path) -> dict[str, str]:
    """Return the image topics of a bag and their ROS types; raises `CameraError` for what is no bag."""
    with _library_errors(folder), _open_bag(folder) as bag:
        return {c.topic: c.msgtype for c in bag.connections if c.msgtype in IMAGE_TYPES}


def bag_frames(folder: Path, topic: str = "") -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield what `frames` does from a bag: a folder with ``metadata.yaml``, in sqlite3 or MCAP."""
    selected = select_topic(folder, bag_topics(folder), topic)
    return _decode(folder, selected, _bag_messages(folder, selected))


def select_topic(path: Path, image_topics: dict[str, str], topic: str) -> str:
    """Return ``topic``, or the only image topic; raises `CameraError` that lists those there are."""
    if topic in image_topics:
        return topic
    if not image_topics:
        raise CameraError(f"{path}: holds no images (sensor_msgs/Image or CompressedImage)")
    if not topic and len(image_topics) == 1:
        return next(iter(image_topics))
    problem = f"has no images on the topic '{topic}'" if topic else "has several image topics"
    raise CameraError(f"{path}: {problem}; choose one of {', '.join(sorted(image_topics))}")


def _decode(path: Path, topic: str, messages: Iterable[RawMessage]) -> Iterator[tuple[int, NDArray[Any]]]:
    from ..messages.images import image_of

    for index, (type_name, encoding, recorded_ns, data) in enumerate(messages):
        try:
            if encoding != "cdr" or type_name not in IMAGE_TYPES:
                raise CameraError(f"is {type_name} as '{encoding}', not a ROS 2 image as 'cdr'")
            stamp_ns, image, _ = image_of(data, IMAGE_TYPES[type_name])
        except EdgemtlError as error:
            raise CameraError(f"{path}: message {index} of {topic}: {error}") from error
        yield stamp_ns or recorded_ns, image


def _mcap_messages(file: Path, topic: str) -> Iterator[RawMessage]:
    with _library_errors(file), file.open("rb") as stream:
        reader, summary = _open_reader(file, stream)
        # without an index, ordering by time would hold the whole file in memory
        messages = reader.iter_messages(topic, log_time_order=summary is not None)
        for schema, channel, message in messages:
            type_name = schema.name if schema else ""
            yield RawMessage(type_name, channel.message_encoding, message.log_time, message.data)


def _bag_messages(folder: Path, topic: str) -> Iterator[RawMessage]:
    with _library_errors(folder), _open_bag(folder) as bag:
        from rosbags.interfaces import ConnectionExtRosbag2

        connections = [connection for connection in bag.connections if connection.topic == topic]
        for connection, recorded_ns, data in bag.messages(connections):
            encoding = connection.ext.serialization_format if isinstance(connection.ext, ConnectionExtRosbag2) else ""
            yield RawMessage(connection.msgtype, encoding, recorded_ns, data)


def _open_reader(file: Path, stream: BinaryIO) -> tuple[McapReader | TruncatedReader, Summary | None]:
    """Return a reader and the file's summary, None where there is no index; it is then read from its begin."""
    try:
        from mcap.reader import NonSeekingReader, make_reader
    except ImportError as error:
        raise CameraError(
            missing(error, "mcap", f"{file}: mcap is missing: pip install 'edgemtl-runtime[mcap]'")
        ) from error
    from ..mcap_walk import has_whole_end

    if not has_whole_end(stream):
        return TruncatedReader(file, stream), None
    stream.seek(0)
    reader = make_reader(stream, validate_crcs=True)
    summary = reader.get_summary()
    if summary is not None and summary.chunk_indexes and summary.channels:
        return reader, summary
    stream.seek(0)
    return NonSeekingReader(stream, validate_crcs=True), None


class TruncatedReader:
    """Reader of the whole records of a file whose end is missing, in the order of recording; warns once."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file, self.stream = file, stream

    def iter_messages(
        self, topics: str = "", log_time_order: bool = False
    ) -> Iterator[tuple[Schema | None, Channel, Message]]:
        """Yield (schema, channel, message) of a topic, of all where it is empty."""
        from mcap.records import Channel, Schema

        from ..mcap_walk import CHANNEL, CHUNK, MESSAGE, SCHEMA, Walk, of_bytes, parse, split, unpacked, whole

        try:
            walk = Walk(self.stream)
        except EdgemtlError as error:
            raise CameraError(f"{self.file}: {error}") from error
        schemas, channels = dict[int, Schema](), dict[int, Channel]()
        damaged_bytes = 0
        for record in walk:
            try:
                contents = split(unpacked(parse(record))) if record.opcode == CHUNK else [whole(record)]
                parts = [of_bytes(opcode, data) for opcode, _, data in contents if opcode in (SCHEMA, CHANNEL, MESSAGE)]
            except Exception:  # damaged bytes make the libraries raise nearly everything
                damaged_bytes += record.length
                continue
            for part in parts:
                if isinstance(part, Schema):
                    schemas[part.id] = part
                elif isinstance(part, Channel):
                    channels[part.id] = part
                elif (channel := channels.get(part.channel_id)) is not None and topics in ("", channel.topic):
                    yield schemas.get(channel.schema_id), channel, part
        _warn_truncated(self.file, damaged_bytes + (walk.size - walk.end if walk.is_cut else 0))


@lru_cache(maxsize=100)
def _warn_truncated(file: Path, lost_bytes: int) -> None:
    """Warn of a truncated file, once."""
    log.warning(
        "%s: was cut off; it is read to its last whole chunk (%d bytes are skipped); "
        "`edgemtl-runtime recover` writes it whole",
        file,
        lost_bytes,
    )


def _open_bag(folder: Path) -> BagReader:
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise CameraError(
            missing(error, "rosbags", f"{folder}: rosbags is missing: pip install 'edgemtl-runtime[rosbag]'")
        ) from error
    return Reader(folder)


@contextlib.contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    """Raise the libraries' errors as a `CameraError` of one line; on damaged bytes they raise nearly everything."""
    try:
        yield
    except EdgemtlError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a seek before the begin: damaged
            raise CameraError(f"{path}: cannot be read ({error.strerror or error})") from error
        reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise CameraError(
            f"{path}: is damaged or was cut off ({reason}); copy it again or try `edgemtl-runtime recover`"
        ) from error
