"""Boxes as annotations that Foxglove draws on a camera's picture.

They are told as ``foxglove_msgs/msg/ImageAnnotations`` of foxglove_msgs 2.2 to 3.3: circles, points and texts. What
came later has more fields; a file brings its own definition, a ROS node must have the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..frame import Size
from ..palette import colour
from ..result import NO_TRACK, Boxes
from .cdr import Float64, Message, Uint8
from .types import Time

LINE_LOOP = 2
THICKNESS_PX = 2.0
TEXT_SHARE, MIN_TEXT_PX = 1 / 36, 10.0
"""Height of writing beside that of the picture."""
Corners = NDArray[np.float64]


@dataclass(frozen=True)
class Point2(Message, ros="foxglove_msgs/msg/Point2"):
    """A place in the picture, pixels from its top left corner."""

    x: Float64
    y: Float64


@dataclass(frozen=True)
class Color(Message, ros="foxglove_msgs/msg/Color"):
    """A colour and how opaque it is, each from 0 to 1."""

    r: Float64 = 0.0
    g: Float64 = 0.0
    b: Float64 = 0.0
    a: Float64 = 0.0


@dataclass(frozen=True)
class CircleAnnotation(Message, ros="foxglove_msgs/msg/CircleAnnotation"):
    """A circle, of which we draw none."""

    timestamp: Time
    position: Point2
    diameter: Float64
    thickness: Float64
    fill_color: Color
    outline_color: Color


@dataclass(frozen=True)
class PointsAnnotation(Message, ros="foxglove_msgs/msg/PointsAnnotation"):
    """Points, or lines between them; of ``type`` `LINE_LOOP` a closed outline."""

    CONSTANTS: ClassVar[tuple[str, ...]] = (
        *("uint8 UNKNOWN=0", "uint8 POINTS=1", "uint8 LINE_LOOP=2", "uint8 LINE_STRIP=3", "uint8 LINE_LIST=4"),
    )
    timestamp: Time
    type: Uint8
    points: tuple[Point2, ...]
    outline_color: Color
    outline_colors: tuple[Color, ...]
    fill_color: Color
    thickness: Float64


@dataclass(frozen=True)
class TextAnnotation(Message, ros="foxglove_msgs/msg/TextAnnotation"):
    """A text whose bottom left corner is at ``position``."""

    timestamp: Time
    position: Point2
    text: str
    font_size: Float64
    text_color: Color
    background_color: Color


@dataclass(frozen=True)
class ImageAnnotations(Message, ros="foxglove_msgs/msg/ImageAnnotations"):
    """What is drawn on one picture, found by its stamp."""

    circles: tuple[CircleAnnotation, ...]
    points: tuple[PointsAnnotation, ...]
    texts: tuple[TextAnnotation, ...]


def corners_of(boxes: Boxes) -> Corners:
    """Return the corners of boxes, (N, 4, 2) pixels, clockwise from the top left."""
    x0, y0, x1, y1 = boxes.xyxy.astype(np.float64).T
    return np.stack([np.stack([x0, y0], 1), np.stack([x1, y0], 1), np.stack([x1, y1], 1), np.stack([x0, y1], 1)], 1)


def drawn(heads: Iterable[tuple[Boxes, Corners]], stamp: Time, size: Size) -> ImageAnnotations:
    """Return outlines and names of boxes whose ``corners`` (N, 4, 2) are pixels of a picture of ``size``.

    A box beside the picture, or with a corner that is NaN, is left out. A text is name, score, and ``#`` with the
    track's number where it has one.
    """
    points, texts = [], []
    font_size = max(MIN_TEXT_PX, size[0] * TEXT_SHARE)
    for boxes, corners in heads:
        tracks = [NO_TRACK] * len(boxes) if boxes.tracks is None else boxes.tracks.tolist()
        rows = zip(corners, boxes.scores.tolist(), boxes.classes.tolist(), tracks, strict=True)
        for outline, score, index, track in rows:
            if not ((outline.max(0) >= 0) & (outline.min(0) <= size[::-1])).all():
                continue
            red, green, blue = (value / 255 for value in colour(index))
            tone = Color(red, green, blue, 1.0)
            at = tuple(Point2(x, y) for x, y in outline.tolist())
            points.append(PointsAnnotation(stamp, LINE_LOOP, at, tone, (), Color(), THICKNESS_PX))
            number = f" #{track}" if track != NO_TRACK else ""
            text = f"{boxes.names[index]} {score:.2f}{number}"
            texts.append(TextAnnotation(stamp, at[0], text, font_size, Color(1.0, 1.0, 1.0, 1.0), tone))
    return ImageAnnotations((), tuple(points), tuple(texts))
