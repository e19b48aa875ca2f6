"""Conversion of frames, results and camera states into ROS 2 messages.

Stamps of messages are Unix time. Frames and results carry the host's monotonic clock: converters add
``wall_offset_ns`` to it (`wall.WallClock`; 0 where the stamps are Unix time already).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError, missing
from ..frame import Frame, FramePair
from ..result import Boxes, DepthMap, EdgeMap, HeadResult, LabelMap, NormalMap, Result, ScalarMap, VectorMap
from ..wall import WALL
from .annotations import corners_of, image_annotations
from .cameras import Setup
from .store import (
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
    String,
    Time,
    create,
)

if TYPE_CHECKING:
    from ..rig import Rig

JPEG_QUALITY = 90
RESULT_TOPIC = "/result"
NO_SETUP = Setup()
MAPS: dict[type, tuple[str, str]] = {
    LabelMap: ("labels", "mono8"),
    DepthMap: ("depth_m", "32FC1"),
    NormalMap: ("normals", "32FC3"),
    EdgeMap: ("scores", "32FC1"),
    ScalarMap: ("values", "32FC1"),
    VectorMap: ("vectors", "32FC{}"),
}
"""Where a map has its values, and their encoding as an image, with the number of channels where that is open."""
OK, WARN, ERROR = 0, 1, 2
LEVELS = {"live": OK, "ended": OK, "starting": WARN, "stale": WARN, "absent": WARN, "lost": ERROR}
"""Level of a camera's state; one that is not known is a warning."""


def topic_part(name: str) -> str:
    """Return a camera's or head's name as part of a ROS topic: letters, digits and ``_``, no digit in front."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header; ``stamp_ns`` is Unix time."""
    return Header(Time(*divmod(stamp_ns, 1_000_000_000)), frame_id)


def of_array(values: NDArray[Any], encoding: str, header: Header) -> Image:
    """Return an (H, W[, C]) array as an image of that encoding, little endian, rows without padding."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    height, width = values.shape[:2]
    return Image(header, height, width, encoding, 0, little.nbytes // height, little.reshape(-1).view(np.uint8))


def unix_ns(frame: Frame, wall_offset_ns: int) -> int:
    """Return when a frame was taken as Unix time: from its recording, or by the host's clock."""
    return frame.unix_ns or frame.stamp_ns + wall_offset_ns


def of_frame(frame: Frame, wall_offset_ns: int, frame_id: str = "") -> Image | CompressedImage:
    """Return a frame as a message: 8 bits as JPEG of quality 90, 16 bits untouched as ``16UC1``.

    ``frame_id`` is the camera's name where none is given.
    """
    head = header(unix_ns(frame, wall_offset_ns), frame_id or frame.camera)
    if frame.image.dtype == np.uint16:
        return of_array(frame.image, "16UC1", head)
    try:
        import cv2
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "cv2", "images cannot be compressed: pip install 'edgemtl-runtime[opencv]'")
        ) from error
    image = frame.image if frame.image.ndim == 2 else np.ascontiguousarray(frame.image[:, :, ::-1])
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        size = f"{frame.size[1]}x{frame.size[0]}"
        raise EdgemtlError(f"camera {frame.camera}: OpenCV makes no JPEG of its {size} image")
    return CompressedImage(head, "jpeg", np.asarray(data, np.uint8).reshape(-1))


def of_boxes(boxes: Boxes, header: Header) -> Message:
    """Return boxes as detections, best first; a track's number is the ``id``, empty for none or a negative one."""
    ids = [""] * len(boxes) if boxes.tracks is None else [str(t) if t >= 0 else "" for t in boxes.tracks.tolist()]
    no_pose = PoseWithCovariance(Pose(Point(0.0, 0.0, 0.0), Quaternion(0.0, 0.0, 0.0, 1.0)), np.zeros(36))
    detections = []
    rows = zip(boxes.xyxy.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), ids, strict=True)
    for (x0, y0, x1, y1), score, index, track in rows:
        centre = create("vision_msgs/msg/Point2D", (x0 + x1) / 2, (y0 + y1) / 2)
        box = create("vision_msgs/msg/BoundingBox2D", create("vision_msgs/msg/Pose2D", centre, 0.0), x1 - x0, y1 - y0)
        hypothesis = create("vision_msgs/msg/ObjectHypothesis", boxes.names[index], score)
        results = [create("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis, no_pose)]
        detections.append(create("vision_msgs/msg/Detection2D", header, results, box, track))
    return create("vision_msgs/msg/Detection2DArray", header, detections)


def of_head(result: HeadResult, header: Header) -> Message:
    """Return one head's result as a message; maps as images, what is neither boxes nor a map as JSON."""
    if isinstance(result, Boxes):
        return of_boxes(result, header)
    if type(result) not in MAPS:
        return String(msgspec.json.encode(result.to_dict()).decode())
    attribute, encoding = MAPS[type(result)]
    values = getattr(result, attribute)
    return of_array(values, encoding.format(*values.shape[2:]), header)


def of_result(result: Result, wall_offset_ns: int, frame_id: str = "") -> dict[str, Message]:
    """Return a result's messages by topic: one a head at ``/HEAD``, and the whole as JSON at ``/result``."""
    head = header(result.stamp_ns + wall_offset_ns, frame_id or result.camera)
    messages = {f"/{topic_part(name)}": of_head(part, head) for name, part in result.heads.items()}
    return messages | {RESULT_TOPIC: String(msgspec.json.encode(result.to_dict()).decode())}


def of_pair(
    pair: FramePair, result: Result | None, wall_offset_ns: int | None, setup: Setup = NO_SETUP
) -> Iterator[tuple[str, int, Message]]:
    """Yield (topic, Unix stamp in nanoseconds, message): images, calibrations, and where given the result.

    For each camera its image and, where ``setup`` knows it, its calibration; then the result, and its boxes as
    annotations of each image that they can be drawn on, with that image's stamp. Where ``wall_offset_ns`` is None
    the wall clock is followed.
    """
    wall_offset_ns = WALL.offset_ns() if wall_offset_ns is None else wall_offset_ns
    for name, frame in pair.frames.items():
        setup.note(frame)
        stamp_ns = unix_ns(frame, wall_offset_ns)
        message = of_frame(frame, wall_offset_ns, setup.frame_id(name))
        suffix = "image/compressed" if isinstance(message, CompressedImage) else "image"
        yield f"/camera/{topic_part(name)}/{suffix}", stamp_ns, message
        if (info := setup.camera_info(name, frame.size, message.header)) is not None:
            yield f"/camera/{topic_part(name)}/camera_info", stamp_ns, info
    if result is not None:
        taken_ns = max(unix_ns(frame, wall_offset_ns) for frame in pair.frames.values())
        frame_id = setup.frame_id(result.camera)
        for topic, head_message in of_result(result, taken_ns - result.stamp_ns, frame_id).items():
            yield topic, taken_ns, head_message
        yield from of_annotations(pair, result, wall_offset_ns, setup)


def of_annotations(
    pair: FramePair, result: Result, wall_offset_ns: int, setup: Setup = NO_SETUP
) -> Iterator[tuple[str, int, Message]]:
    """Yield (topic, stamp, annotations) for each image that the result's boxes can be drawn on.

    That is the result's camera, and with a rig the other one, where things at the rig's distance have their boxes.
    """
    heads = [(head, corners_of(head)) for head in result.heads.values() if isinstance(head, Boxes)]
    for name, frame in pair.frames.items() if heads else ():
        projected = heads
        if name != result.camera:
            rig = setup.rig_between(name)
            if rig is None or result.camera != rig.reference:
                continue
            projected = [(boxes, _project(rig, corners)) for boxes, corners in heads]
        stamp_ns = unix_ns(frame, wall_offset_ns)
        stamp = header(stamp_ns, "").stamp
        yield f"/camera/{topic_part(name)}/annotations", stamp_ns, image_annotations(projected, stamp, frame.size)


def _project(rig: Rig, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    from ..rig.projection import rgb_pixels_to_ir

    # boxes count from the pixels' edges, rigs from their centres
    return rgb_pixels_to_ir(rig, corners.reshape(-1, 2) - 0.5).reshape(corners.shape) + 0.5


def of_status(status: Mapping[str, Any], stamp_ns: int) -> DiagnosticArray:
    """Return the state of each camera in ``status["cameras"]`` as diagnostics; ``stamp_ns`` is Unix time.

    A camera's other values, those that are not None, are listed as text next to its ``detail``.
    """
    parts = []
    for name, camera in status.get("cameras", {}).items():
        state = str(camera["state"])
        known = {key: value for key, value in camera.items() if key != "detail" and value is not None}
        values = [KeyValue(key, str(value)) for key, value in known.items()]
        message = ": ".join(filter(None, (state, str(camera.get("detail", "")))))
        parts.append(DiagnosticStatus(LEVELS.get(state, WARN), f"edgemtl: camera {name}", message, name, values))
    return DiagnosticArray(header(stamp_ns, ""), parts)
