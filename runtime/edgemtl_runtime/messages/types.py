"""The ROS 2 messages that cameras, results and diagnostics are told in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from .cdr import Byte, Float64, Int32, Message, Octets, Uint8, Uint32


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
