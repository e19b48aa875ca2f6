"""The ROS 2 messages that cameras, results and diagnostics are told in, and how they are filled.

Stamps of messages are Unix time. Frames and results carry the host's monotonic clock: converters add
``wall_offset_ns`` to it (`measure_wall_offset_ns`; 0 where the stamps are Unix time already).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from ..frame import Frame, FramePair
from ..result import Attributes, Boxes, DepthMap, EdgeMap, HeadResult, LabelMap, NormalMap, Result
from .cdr import Byte, Float64, Int32, Message, Octets, Uint8, Uint32

JPEG_QUALITY = 90
RESULT_TOPIC = "/result"


@dataclass(frozen=True)
class Time(Message, ros="builtin_interfaces/msg/Time"):
    """A moment: seconds and nanoseconds of Unix time."""

    sec: Int32 = 0
    nanosec: Uint32 = 0


@dataclass(frozen=True)
class Header(Message, ros="std_msgs/msg/Header"):
    """When and by which camera."""

    stamp: Time = Time()
    frame_id: str = ""


@dataclass(frozen=True)
class String(Message, ros="std_msgs/msg/String"):
    """A text; here always JSON."""

    data: str = ""


@dataclass(frozen=True)
class Image(Message, ros="sensor_msgs/msg/Image"):
    """Rows of ``step`` bytes as they are; ``encoding`` says what a pixel is."""

    header: Header
    height: Uint32
    width: Uint32
    encoding: str
    is_bigendian: Uint8
    step: Uint32
    data: Octets


@dataclass(frozen=True)
class CompressedImage(Message, ros="sensor_msgs/msg/CompressedImage"):
    """A picture as JPEG or PNG."""

    header: Header
    format: str
    data: Octets


@dataclass(frozen=True)
class Point(Message, ros="geometry_msgs/msg/Point"):
    """A place in space, metres."""

    x: Float64 = 0.0
    y: Float64 = 0.0
    z: Float64 = 0.0


@dataclass(frozen=True)
class Quaternion(Message, ros="geometry_msgs/msg/Quaternion"):
    """A rotation; none by default."""

    x: Float64 = 0.0
    y: Float64 = 0.0
    z: Float64 = 0.0
    w: Float64 = 1.0


@dataclass(frozen=True)
class Pose(Message, ros="geometry_msgs/msg/Pose"):
    """A place and a rotation."""

    position: Point = Point()
    orientation: Quaternion = Quaternion()


@dataclass(frozen=True)
class PoseWithCovariance(Message, ros="geometry_msgs/msg/PoseWithCovariance"):
    """A pose and its 6x6 covariance, row by row; all zero where nothing is known."""

    pose: Pose = Pose()
    covariance: Annotated[tuple[float, ...], "float64[36]"] = (0.0,) * 36


@dataclass(frozen=True)
class Point2D(Message, ros="vision_msgs/msg/Point2D"):
    """A place in the picture, pixels."""

    x: Float64
    y: Float64


@dataclass(frozen=True)
class Pose2D(Message, ros="vision_msgs/msg/Pose2D"):
    """A place in the picture and a rotation, radians."""

    position: Point2D
    theta: Float64 = 0.0


@dataclass(frozen=True)
class BoundingBox2D(Message, ros="vision_msgs/msg/BoundingBox2D"):
    """A box by its middle and its size, pixels."""

    center: Pose2D
    size_x: Float64
    size_y: Float64


@dataclass(frozen=True)
class ObjectHypothesis(Message, ros="vision_msgs/msg/ObjectHypothesis"):
    """A class by its name, and its score."""

    class_id: str
    score: Float64


@dataclass(frozen=True)
class ObjectHypothesisWithPose(Message, ros="vision_msgs/msg/ObjectHypothesisWithPose"):
    """A class, and a pose that this runtime leaves unknown."""

    hypothesis: ObjectHypothesis
    pose: PoseWithCovariance = PoseWithCovariance()


@dataclass(frozen=True)
class Detection2D(Message, ros="vision_msgs/msg/Detection2D"):
    """One object; ``id`` is its track's, empty where objects are not tracked."""

    header: Header
    results: tuple[ObjectHypothesisWithPose, ...]
    bbox: BoundingBox2D
    id: str = ""


@dataclass(frozen=True)
class Detection2DArray(Message, ros="vision_msgs/msg/Detection2DArray"):
    """The objects of one picture."""

    header: Header
    detections: tuple[Detection2D, ...]


@dataclass(frozen=True)
class KeyValue(Message, ros="diagnostic_msgs/msg/KeyValue"):
    """A named value, as text."""

    key: str
    value: str


@dataclass(frozen=True)
class DiagnosticStatus(Message, ros="diagnostic_msgs/msg/DiagnosticStatus"):
    """How one part is: ``level`` is `OK`, `WARN` or `ERROR`."""

    CONSTANTS: ClassVar[tuple[str, ...]] = ("byte OK=0", "byte WARN=1", "byte ERROR=2", "byte STALE=3")
    level: Byte
    name: str
    message: str
    hardware_id: str
    values: tuple[KeyValue, ...]


@dataclass(frozen=True)
class DiagnosticArray(Message, ros="diagnostic_msgs/msg/DiagnosticArray"):
    """How all parts are."""

    header: Header
    status: tuple[DiagnosticStatus, ...]


MAPS: dict[type, tuple[str, str]] = {
    LabelMap: ("labels", "mono8"),
    DepthMap: ("depth_m", "32FC1"),
    NormalMap: ("normals", "32FC3"),
    EdgeMap: ("scores", "32FC1"),
}
"""Where a map has its values, and their encoding as an image."""
OK, WARN, ERROR = 0, 1, 2
LEVELS = {"live": OK, "ended": OK, "starting": WARN, "stale": WARN, "absent": WARN, "lost": ERROR}
"""Level of a camera's state; one that is not known is a warning."""


def measure_wall_offset_ns() -> int:
    """Return what the monotonic clock lacks to Unix time now, nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


def topic_part(name: str) -> str:
    """Return a camera's or head's name as part of a ROS topic: letters, digits and ``_``, no digit in front."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header; ``stamp_ns`` is Unix time."""
    return Header(Time(*divmod(stamp_ns, 1_000_000_000)), frame_id)


def of_array(values: NDArray[Any], encoding: str, head: Header) -> Image:
    """Return an (H, W[, C]) array as an image of that encoding, little endian, rows without padding."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    height, width = values.shape[:2]
    return Image(head, height, width, encoding, 0, little.nbytes // height, little.tobytes())


def unix_ns(frame: Frame, wall_offset_ns: int) -> int:
    """Return when a frame was taken as Unix time: as its recording tells, or by the host's clock."""
    return frame.unix_ns or frame.stamp_ns + wall_offset_ns


def of_frame(frame: Frame, wall_offset_ns: int) -> Image | CompressedImage:
    """Return a frame as a message: 8 bits as JPEG of quality 90, 16 bits untouched as ``16UC1``."""
    head = header(unix_ns(frame, wall_offset_ns), frame.camera)
    if frame.image.dtype == np.uint16:
        return of_array(frame.image, "16UC1", head)
    try:
        import cv2
    except ImportError as error:
        raise EdgemtlError("pictures cannot be compressed: pip install 'edgemtl-runtime[opencv]'") from error
    image = frame.image if frame.image.ndim == 2 else np.ascontiguousarray(frame.image[:, :, ::-1])
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        size = f"{frame.size[1]}x{frame.size[0]}"
        raise EdgemtlError(f"camera {frame.camera}: OpenCV makes no JPEG of its {size} picture")
    return CompressedImage(head, "jpeg", data.tobytes())


def of_boxes(boxes: Boxes, head: Header) -> Detection2DArray:
    """Return boxes as detections, best first; a track's number is the ``id``, empty for none or a negative one."""
    ids = [""] * len(boxes) if boxes.tracks is None else [str(t) if t >= 0 else "" for t in boxes.tracks.tolist()]
    found = []
    rows = zip(boxes.xyxy.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), ids, strict=True)
    for (x0, y0, x1, y1), score, index, track in rows:
        middle = Pose2D(Point2D((x0 + x1) / 2, (y0 + y1) / 2))
        hypothesis = ObjectHypothesisWithPose(ObjectHypothesis(boxes.names[index], score))
        found.append(Detection2D(head, (hypothesis,), BoundingBox2D(middle, x1 - x0, y1 - y0), track))
    return Detection2DArray(head, tuple(found))


def of_head(result: HeadResult, head: Header) -> Message:
    """Return one head's result as a message; maps as images, attributes as JSON."""
    if isinstance(result, Boxes):
        return of_boxes(result, head)
    if isinstance(result, Attributes):
        return String(msgspec.json.encode(result.to_dict()).decode())
    attribute, encoding = MAPS[type(result)]
    return of_array(getattr(result, attribute), encoding, head)


def of_result(result: Result, wall_offset_ns: int) -> dict[str, Message]:
    """Return a result's messages by topic: one a head at ``/HEAD``, and the whole as JSON at ``/result``."""
    head = header(result.stamp_ns + wall_offset_ns, result.camera)
    messages = {f"/{topic_part(name)}": of_head(part, head) for name, part in result.heads.items()}
    return messages | {RESULT_TOPIC: String(msgspec.json.encode(result.to_dict()).decode())}


def of_pair(pair: FramePair, result: Result | None, wall_offset_ns: int) -> Iterator[tuple[str, int, Message]]:
    """Yield (topic, Unix stamp in nanoseconds, message) for each camera's frame and, where given, the result."""
    for name, frame in pair.frames.items():
        message = of_frame(frame, wall_offset_ns)
        kind = "image/compressed" if isinstance(message, CompressedImage) else "image"
        yield f"/camera/{topic_part(name)}/{kind}", unix_ns(frame, wall_offset_ns), message
    if result is not None:
        taken_ns = max(unix_ns(frame, wall_offset_ns) for frame in pair.frames.values())
        for topic, told in of_result(result, taken_ns - result.stamp_ns).items():
            yield topic, taken_ns, told


def of_status(status: Mapping[str, Any], stamp_ns: int) -> DiagnosticArray:
    """Return the state of each camera in ``status["cameras"]`` as diagnostics; ``stamp_ns`` is Unix time.

    What a camera tells beside its ``detail`` is listed as text; None is left out.
    """
    told = []
    for name, camera in status.get("cameras", {}).items():
        state = str(camera["state"])
        known = {key: value for key, value in camera.items() if key != "detail" and value is not None}
        values = tuple(KeyValue(key, str(value)) for key, value in known.items())
        message = ": ".join(filter(None, (state, str(camera.get("detail", "")))))
        told.append(DiagnosticStatus(LEVELS.get(state, WARN), f"edgemtl: camera {name}", message, name, values))
    return DiagnosticArray(header(stamp_ns, ""), tuple(told))
