"""Boxes as ``foxglove_msgs/msg/ImageAnnotations``, which Foxglove draws on a camera's image: outlines and labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..frame import Size
from ..palette import colour
from ..result import NO_TRACK, Boxes
from .store import Message, Time, create

IMAGE_ANNOTATIONS = "foxglove_msgs/msg/ImageAnnotations"
COLOR = "foxglove_msgs/msg/Color"
LINE_LOOP = 2
THICKNESS_PX = 2.0
TEXT_SHARE, MIN_TEXT_PX = 1 / 36, 10.0
"""Height of a label as a share of the image's."""
Corners = NDArray[np.float64]


def corners_of(boxes: Boxes) -> Corners:
    """Return the corners of boxes, (N, 4, 2) pixels, clockwise from the top left."""
    x0, y0, x1, y1 = boxes.xyxy.astype(np.float64).T
    return np.stack([np.stack([x0, y0], 1), np.stack([x1, y0], 1), np.stack([x1, y1], 1), np.stack([x0, y1], 1)], 1)


def image_annotations(heads: Iterable[tuple[Boxes, Corners]], stamp: Time, size: Size) -> Message:
    """Return outlines and labels of boxes whose corners, (N, 4, 2), are pixels of an image of ``size``.

    A box outside the image, or with a corner that is NaN, is skipped. A label is name, score, and ``#`` with the
    track's number where it has one; its bottom left corner is the box's first.
    """
    outlines, labels = [], []
    white, transparent = create(COLOR, 1.0, 1.0, 1.0, 1.0), create(COLOR, 0.0, 0.0, 0.0, 0.0)
    font_size = max(MIN_TEXT_PX, size[0] * TEXT_SHARE)
    for boxes, corners in heads:
        tracks = [NO_TRACK] * len(boxes) if boxes.tracks is None else boxes.tracks.tolist()
        rows = zip(corners, boxes.scores.tolist(), boxes.classes.tolist(), tracks, strict=True)
        for outline, score, index, track in rows:
            if not ((outline.max(0) >= 0) & (outline.min(0) <= size[::-1])).all():
                continue
            shade = create(COLOR, *(value / 255 for value in colour(index)), 1.0)
            points = [create("foxglove_msgs/msg/Point2", x, y) for x, y in outline.tolist()]
            outlines.append(
                create(
                    "foxglove_msgs/msg/PointsAnnotation",
                    *(stamp, LINE_LOOP, points, shade, [], transparent, THICKNESS_PX),
                )
            )
            number = f" #{track}" if track != NO_TRACK else ""
            text = f"{boxes.names[index]} {score:.2f}{number}"
            labels.append(create("foxglove_msgs/msg/TextAnnotation", stamp, points[0], text, font_size, white, shade))
    return create(IMAGE_ANNOTATIONS, [], outlines, labels)
