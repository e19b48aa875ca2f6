"""Overlays: boxes and attributes written on an image, where no label covers another."""

from __future__ import annotations

from typing import Any

import cv2
from numpy.typing import NDArray

from ..palette import colour
from ..result import NO_TRACK, Attributes, Boxes, Points, Scalars
from .label_layout import Rectangle, place_labels
from .layout import Canvas
from .text import label_size, shortened, text_size, write_label

SMALLER_TEXT = 0.8
"""Relative size of a label that has no room at full size."""
Tone = tuple[int, int, int]


def attribute_lines(head: Attributes, scores: bool = True) -> list[tuple[str, Tone]]:
    """Return a line of text and its colour for every attribute: white where it holds."""
    white, grey = (255, 255, 255), (150, 150, 150)
    return [
        (f"{name} {score:.2f}" if scores else f"{name}: {'yes' if holds else 'no'}", white if holds else grey)
        for name, score, holds in zip(head.names, head.scores, head.holds, strict=True)
    ]


def draw_lines(panel: NDArray[Any], head: Attributes | Scalars, size: Canvas, top: int = 1) -> list[Rectangle]:
    """Write attributes or numbers from the left on, below ``top``, in place; return the areas.

    Of too many attributes those that hold come first.
    """
    if isinstance(head, Attributes):
        lines = attribute_lines(head, size.scores)
    else:
        numbers = zip(head.names, head.values.tolist(), strict=True)
        lines = [(f"{name} {value:.3g} {head.units}".strip(), (255, 255, 255)) for name, value in numbers]
    step = label_size("Ag", size.text)[1] + 1
    room = max(1, panel.shape[0] // (2 * step))
    if len(lines) > room:
        lines.sort(key=lambda line: line[1][0], reverse=True)
        lines = [*lines[: room - 1], (f"and {len(lines) - room + 1} more", (150, 150, 150))]
    areas = []
    for row, (text, tone) in enumerate(lines):
        text = shortened(text, size.text, panel.shape[1] - 8)
        width, height = label_size(text, size.text)
        y = top + row * step
        if y + height > panel.shape[0]:
            break
        areas.append((1, y, 1 + width, y + height))
        write_label(panel, text, (1, y), size.text, tone)
    return areas


def box_label(boxes: Boxes, row: int, scale: float, width: int, scores: bool = True) -> str:
    """Return a box's label: its track's number, its class and its score; a name without room is cut off at its end."""
    track = NO_TRACK if boxes.tracks is None else int(boxes.tracks[row])
    number = "" if track == NO_TRACK else f"#{track} "
    score = f" {boxes.scores[row]:.2f}" if scores else ""
    room = max(width - text_size(number + score, scale)[0], text_size("mm…", scale)[0])
    return f"{number}{shortened(boxes.names[boxes.classes[row]], scale, room)}{score}"


def draw_boxes(
    panel: NDArray[Any], boxes: Boxes, size: Canvas, written: list[Rectangle] | None = None
) -> list[Rectangle]:
    """Draw boxes with class and score onto an RGB image that is enlarged by ``size.scale``, in place; best on top.

    A tracked box is labelled with its track number as well; its colour is that of its class. No label covers another,
    nor the areas ``written``; labels without room are counted at the bottom right. Returns the areas of the labels.
    """
    outlines = [(round(x0), round(y0), round(x1), round(y1)) for x0, y0, x1, y1 in (boxes.xyxy * size.scale).tolist()]
    tones = [colour(index) for index in boxes.classes.tolist()]
    thickness = max(1, round(2 * size.text))
    for (x0, y0, x1, y1), tone in zip(reversed(outlines), reversed(tones), strict=True):
        cv2.rectangle(panel, (x0, y0), (x1, y1), tone, thickness, cv2.LINE_AA)
    small = round(SMALLER_TEXT * size.text, 4)
    most = max(1, panel.shape[1] // 3)
    variants = [
        [(box_label(boxes, row, scale, most, size.scores), scale) for scale in (size.text, small)]
        for row in range(len(boxes))
    ]
    return _draw_labels(panel, outlines, variants, tones, size, list(written or []))


def draw_points(
    panel: NDArray[Any], points: Points, size: Canvas, written: list[Rectangle] | None = None
) -> list[Rectangle]:
    """Draw points as crosses, labelled as boxes are, onto an RGB image that is enlarged by ``size.scale``, in place."""
    tones = [colour(index) for index in points.classes.tolist()]
    centres = [(round(x), round(y)) for x, y in (points.xy * size.scale).tolist()]
    arm = max(3, round(14 * size.text))
    for centre, tone in zip(reversed(centres), reversed(tones), strict=True):
        cv2.drawMarker(panel, centre, tone, cv2.MARKER_CROSS, 2 * arm, max(1, round(3 * size.text)), cv2.LINE_AA)
    outlines = [(x - arm, y - arm, x + arm, y + arm) for x, y in centres]
    scores = [f" {score:.2f}" if size.scores else "" for score in points.scores.tolist()]
    texts = [f"{points.names[index]}{score}" for index, score in zip(points.classes, scores, strict=True)]
    most, small = max(1, panel.shape[1] // 3), round(SMALLER_TEXT * size.text, 4)
    variants = [[(shortened(text, scale, most), scale) for scale in (size.text, small)] for text in texts]
    return _draw_labels(panel, outlines, variants, tones, size, list(written or []))


def _draw_labels(
    panel: NDArray[Any],
    outlines: list[Rectangle],
    variants: list[list[tuple[str, float]]],
    tones: list[Tone],
    size: Canvas,
    reserved: list[Rectangle],
) -> list[Rectangle]:
    """Write a label of each object, in one of its sizes, where none covers another; return the areas."""
    sizes = [[label_size(*variant) for variant in row] for row in variants]
    shape = (panel.shape[0], panel.shape[1])
    placed = place_labels(outlines, sizes, shape, reserved)
    if len(placed) < len(outlines):
        note_size = label_size(_note(len(outlines)), size.text)
        note = (shape[1] - note_size[0], shape[0] - note_size[1], shape[1], shape[0])
        placed = place_labels(outlines, sizes, shape, [*reserved, note])
        write_label(
            panel, _note(len(outlines) - len(placed)), (max(0, note[0]), max(0, note[1])), size.text, (255,) * 3
        )
    for label in placed:
        if label.leader:
            cv2.line(panel, label.leader[:2], label.leader[2:], tones[label.index], 1, cv2.LINE_AA)
    for label in placed:
        text, scale = variants[label.index][label.variant]
        write_label(panel, text, label.rectangle[:2], scale, tones[label.index])
    return [label.rectangle for label in placed]


def _note(count: int) -> str:
    return f"{count} more without a label"
