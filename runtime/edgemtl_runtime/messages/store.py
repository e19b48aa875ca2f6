"""ROS 2 message types, their definitions, type hashes and CDR bytes, by `rosbags`' type store for Jazzy.

A message is a dataclass whose ``__msgtype__`` is its full type name, as ``sensor_msgs/msg/Image``; sequences of numbers
are NumPy arrays, sequences of messages lists. The types of ROS's own packages have short names here; those of
`definitions` are made by `create`.

Bytes are OMG CDR version 1, little endian (OMG CORBA 3.3 part 2, 9.3; DDS-RTPS 2.3, clause 10). Importing this module
takes a quarter of a second, and raises `EdgemtlError` where `rosbags` is missing.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np

from ..errors import EdgemtlError, missing
from .definitions import FOXGLOVE, VISION

try:
    from rosbags.serde import SerdeError
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.stores import ros2_jazzy as jazzy
except ImportError as error:
    hint = "rosbags, which ROS 2 messages need, is missing: pip install 'edgemtl-runtime[rosbag]'"
    raise EdgemtlError(missing(error, "rosbags", hint)) from error

if TYPE_CHECKING:
    from rosbags.typesys.store import Msgarg, Typestore

Time = jazzy.builtin_interfaces__msg__Time
Header = jazzy.std_msgs__msg__Header
String = jazzy.std_msgs__msg__String
Image = jazzy.sensor_msgs__msg__Image
CompressedImage = jazzy.sensor_msgs__msg__CompressedImage
CameraInfo = jazzy.sensor_msgs__msg__CameraInfo
RegionOfInterest = jazzy.sensor_msgs__msg__RegionOfInterest
Point = jazzy.geometry_msgs__msg__Point
Quaternion = jazzy.geometry_msgs__msg__Quaternion
Pose = jazzy.geometry_msgs__msg__Pose
PoseWithCovariance = jazzy.geometry_msgs__msg__PoseWithCovariance
KeyValue = jazzy.diagnostic_msgs__msg__KeyValue
DiagnosticStatus = jazzy.diagnostic_msgs__msg__DiagnosticStatus
DiagnosticArray = jazzy.diagnostic_msgs__msg__DiagnosticArray
ENCAPSULATION = b"\x00\x01\x00\x00"
"""The four bytes before every little-endian CDR message."""
PADDING_BYTES = 3
"""Some writers fill a message up to a multiple of four bytes."""


@runtime_checkable
class Message(Protocol):
    """Any message of the type store."""

    __msgtype__: ClassVar[str]


def _open_store() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    for type_name, text in (VISION | FOXGLOVE).items():
        store.register(get_types_from_msg(text, type_name))
    return store


STORE = _open_store()


def create(type_name: str, *values: Msgarg) -> Message:
    """Return a message of a type, its fields in the order of the definition."""
    return STORE.types[type_name](*values)


@cache
def definition(type_name: str) -> str:
    """Return the message definition with those of all types that it contains: the text of a ``ros2msg`` schema."""
    return STORE.generate_msgdef(type_name, ros_version=2)[0]


@cache
def type_hash(type_name: str) -> str:
    """Return the type's hash, ``RIHS01_`` and 64 hexadecimal digits (REP-2011), by which ROS 2 nodes match types."""
    return STORE.hash_rihs01(type_name)


def serialize(message: Message) -> bytes:
    """Return the message's bytes; raises `EdgemtlError` that names the field whose value does not fit its type."""
    try:
        return bytes(STORE.serialize_cdr(message, message.__msgtype__, little_endian=True))
    except (SerdeError, struct.error, UnicodeEncodeError) as error:
        raise EdgemtlError(_misfit(message) or f"{message.__msgtype__}: {error}") from error


def deserialize(data: bytes | memoryview, type_name: str) -> Message:
    """Return the message of a type in ``data``; raises `EdgemtlError` where the bytes are none.

    Its arrays are views of ``data``. Memory is bounded: counts and lengths are checked against the bytes there are.
    """
    view = memoryview(data)
    if view[:4] != ENCAPSULATION:
        raise EdgemtlError(f"{type_name}: begins with {view[:4].hex(' ')}, not as little-endian CDR (00 01 00 00)")
    codec = STORE.get_msgdef(type_name)
    try:
        message, end = codec.deserialize_cdr_le(view[4:], 0, codec.cls, STORE)
    except (SerdeError, struct.error, ValueError) as error:
        raise EdgemtlError(f"{type_name}: {error}; it is of another type or damaged") from error
    excess = len(view) - 4 - end
    if excess > PADDING_BYTES:
        raise EdgemtlError(f"{type_name}: {excess} bytes too many; it is of another type or damaged")
    assert isinstance(message, Message)
    return message


def _misfit(message: Message) -> str:
    """Return which field of a message has a value that its type cannot hold, empty where none has."""
    constants, fields = STORE.fielddefs[message.__msgtype__]
    lines = definition(message.__msgtype__).splitlines()[len(constants) :]
    for (name, _), line in zip(fields, lines, strict=False):
        value = getattr(message, name)
        for nested in value if isinstance(value, list) else (value,):
            if isinstance(nested, Message) and (inner := _misfit(nested)):
                return inner
        if not _fits(value, line.partition(" ")[0]):
            return f"{message.__msgtype__}: {name} = {repr(value)[:60]} does not fit '{line}'"
    return ""


def _fits(value: object, field_type: str) -> bool:
    """Whether a field of a type, as ``int32``, ``string`` or ``float64[9]``, can hold a value."""
    base, _, size = field_type.removesuffix("]").partition("[")
    if isinstance(value, np.ndarray | list):
        return not size or len(value) == int(size)
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int) and np.issubdtype(base, np.integer):
        return bool(np.iinfo(base).min <= value <= np.iinfo(base).max)
    return True
