"""Reference for ROS 2 messages: fields as ROS's packages define them, and an encoder by the rules of CDR.

CDR version 1, little endian: four bytes 00 01 00 00; then every primitive at a multiple of its size, counted from the
byte after those four; a string is a uint32 length that counts its closing NUL, then UTF-8; a sequence is a uint32
count and the elements; an array is the elements alone. (OMG CORBA 3.3 part 2, 9.3; DDS-RTPS 2.3, clause 10.)
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

DEFINITIONS = {
    "builtin_interfaces/msg/Time": "int32 sec\nuint32 nanosec\n",
    "std_msgs/msg/Header": "builtin_interfaces/Time stamp\nstring frame_id\n",
    "std_msgs/msg/String": "string data\n",
    "sensor_msgs/msg/Image": "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
    "uint8 is_bigendian\nuint32 step\nuint8[] data\n",
    "sensor_msgs/msg/CompressedImage": "std_msgs/Header header\nstring format\nuint8[] data\n",
    "sensor_msgs/msg/RegionOfInterest": "uint32 x_offset\nuint32 y_offset\nuint32 height\nuint32 width\n"
    "bool do_rectify\n",
    "sensor_msgs/msg/CameraInfo": "std_msgs/Header header\nuint32 height\nuint32 width\nstring distortion_model\n"
    "float64[] d\nfloat64[9] k\nfloat64[9] r\nfloat64[12] p\nuint32 binning_x\nuint32 binning_y\n"
    "sensor_msgs/RegionOfInterest roi\n",
    "geometry_msgs/msg/Point": "float64 x\nfloat64 y\nfloat64 z\n",
    "geometry_msgs/msg/Quaternion": "float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n",
    "geometry_msgs/msg/Pose": "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation\n",
    "geometry_msgs/msg/PoseWithCovariance": "geometry_msgs/Pose pose\nfloat64[36] covariance\n",
    "diagnostic_msgs/msg/KeyValue": "string key\nstring value\n",
    "diagnostic_msgs/msg/DiagnosticStatus": "byte OK=0\nbyte WARN=1\nbyte ERROR=2\nbyte STALE=3\nbyte level\n"
    "string name\nstring message\nstring hardware_id\ndiagnostic_msgs/KeyValue[] values\n",
    "diagnostic_msgs/msg/DiagnosticArray": "std_msgs/Header header\ndiagnostic_msgs/DiagnosticStatus[] status\n",
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y\n",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\n"
    "geometry_msgs/PoseWithCovariance pose\n",
    "vision_msgs/msg/Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id\n",
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections\n",
    "foxglove_msgs/msg/Point2": "float64 x\nfloat64 y\n",
    "foxglove_msgs/msg/Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a\n",
    "foxglove_msgs/msg/CircleAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\n"
    "float64 diameter\nfloat64 thickness\nfoxglove_msgs/Color fill_color\nfoxglove_msgs/Color outline_color\n",
    "foxglove_msgs/msg/PointsAnnotation": "uint8 UNKNOWN=0\nuint8 POINTS=1\nuint8 LINE_LOOP=2\nuint8 LINE_STRIP=3\n"
    "uint8 LINE_LIST=4\nbuiltin_interfaces/Time timestamp\nuint8 type\nfoxglove_msgs/Point2[] points\n"
    "foxglove_msgs/Color outline_color\nfoxglove_msgs/Color[] outline_colors\nfoxglove_msgs/Color fill_color\n"
    "float64 thickness\n",
    "foxglove_msgs/msg/TextAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\n"
    "string text\nfloat64 font_size\nfoxglove_msgs/Color text_color\nfoxglove_msgs/Color background_color\n",
    "foxglove_msgs/msg/ImageAnnotations": "foxglove_msgs/CircleAnnotation[] circles\n"
    "foxglove_msgs/PointsAnnotation[] points\nfoxglove_msgs/TextAnnotation[] texts\n",
}
"""ROS 2 Jazzy, vision_msgs 4 and foxglove_msgs 2.2 to 3.3."""
PRIMITIVES = {
    **{"bool": ("?", 1), "byte": ("B", 1), "uint8": ("B", 1)},
    **{"int32": ("i", 4), "uint32": ("I", 4), "float64": ("d", 8)},
}
"""Code of the struct module and size in bytes."""


@dataclass(frozen=True)
class Field:
    """A field: its base type, and its size: -1 for a single value, 0 for a sequence, that of an array."""

    name: str
    base: str
    size: int


def fields_of(type_name: str) -> list[Field]:
    """Return a type's fields in their order."""
    fields = []
    for line in DEFINITIONS[type_name].splitlines():
        if "=" in line:
            continue
        match = re.fullmatch(r"([\w/]+)(\[(\d*)])? (\w+)", line)
        assert match is not None, line
        size = int(match[3] or 0) if match[2] else -1
        fields.append(Field(match[4], match[1].replace("/", "/msg/"), size))
    return fields


def encode(message: Any, type_name: str) -> bytes:
    """Return the CDR bytes of any object that has a message's attributes."""
    body = bytearray()
    _encode(body, message, type_name)
    return b"\x00\x01\x00\x00" + bytes(body)


def _encode(body: bytearray, message: Any, type_name: str) -> None:
    for field in fields_of(type_name):
        value = getattr(message, field.name)
        if field.size == 0:
            _pack(body, "uint32", len(value))
        for element in [value] if field.size < 0 else value:
            if field.base == "string":
                text = element.encode()
                _pack(body, "uint32", len(text) + 1)
                body += text + b"\x00"
            elif field.base in PRIMITIVES:
                _pack(body, field.base, element[0] if isinstance(element, bytes) else element)
            else:
                _encode(body, element, field.base)


def _pack(body: bytearray, primitive: str, value: float) -> None:
    code, size = PRIMITIVES[primitive]
    body += bytes(-len(body) % size) + struct.pack(f"<{code}", value)
