"""Results drawn over the cameras' pictures, side by side."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .bundle import ThermalRange
from .fit import to_uint8
from .frame import FramePair
from .result import Attributes, Boxes, DepthMap, EdgeMap, HeadResult, LabelMap, NormalMap, Result

PALETTE = np.array(
    [(230, 75, 60), (70, 190, 90), (80, 150, 250), (240, 190, 50), (180, 100, 220), (60, 200, 200), (240, 130, 180)],
    np.uint8,
)
"""One RGB colour a class, repeated past its end."""
GROUND = np.array(
    [
        *((110, 150, 190), (150, 120, 100), (90, 140, 80), (90, 90, 100), (200, 190, 110), (160, 90, 130)),
        *((70, 160, 150), (190, 120, 70), (120, 110, 180), (170, 180, 60), (60, 110, 140), (210, 150, 160)),
    ],
    np.uint8,
)
"""Quieter colours for the classes of a label map that are not objects."""
UNKNOWN = "unknown"
"""The class of pixels without a label, drawn black."""
MIN_WIDTH = 320


def colour(index: int) -> tuple[int, int, int]:
    """Return the RGB colour of a class."""
    r, g, b = PALETTE[index % len(PALETTE)].tolist()
    return r, g, b


def label_palette(label: LabelMap, boxes: Boxes | None) -> NDArray[np.uint8]:
    """Return one RGB colour a class; a class that is also detected has the colour of its boxes."""
    known = boxes.names if boxes else ()
    ground = iter(range(len(label.names)))
    rows = [
        np.zeros(3)
        if n == UNKNOWN
        else PALETTE[known.index(n) % len(PALETTE)]
        if n in known
        else GROUND[next(ground) % len(GROUND)]
        for n in label.names
    ]
    return np.array(rows, np.uint8)


def draw(pair: FramePair, result: Result) -> NDArray[np.uint8]:
    """Return the pair's pictures side by side, (H, W, 3) uint8 RGB, with boxes on both and the label map on the first.

    Attributes are written on the first; depth, normals and edges follow as pictures of their own. Pictures narrower
    than 320 pixels are enlarged by a whole factor.
    """
    panels = []
    base = pair.frames[result.camera]
    factor = max(1, -(-MIN_WIDTH // base.size[1]))
    height, width = base.size[0] * factor, base.size[1] * factor
    boxes = next((head for head in result.heads.values() if isinstance(head, Boxes)), None)
    labels = next((head for head in result.heads.values() if isinstance(head, LabelMap)), None)
    for name, frame in pair.frames.items():
        image = to_uint8(frame.image, ThermalRange())
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, 2)
        if labels is not None and name == result.camera:
            image = (0.5 * image + 0.5 * label_palette(labels, boxes)[labels.labels]).astype(np.uint8)
        panel: NDArray[Any] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        if boxes is not None:
            draw_boxes(panel, boxes, factor)
        write(panel, name, (4, height - 6), 0.45, (255, 255, 255))
        panels.append(panel)
    for head in result.heads.values():
        if isinstance(head, Attributes):
            for line, (text, tone) in enumerate(attribute_lines(head)):
                write(panels[0], text, (4, 14 + 14 * line), 0.4, tone)
    for name, head in result.heads.items():
        shown = picture(head)
        if shown is not None:
            panel = cv2.resize(shown, (width, height), interpolation=cv2.INTER_LINEAR)
            write(panel, name, (4, height - 6), 0.45, (255, 255, 255))
            panels.append(panel)
    return np.ascontiguousarray(np.concatenate(panels, 1))


def picture(head: HeadResult) -> NDArray[np.uint8] | None:
    """Return a map as an (H, W, 3) RGB picture: near is warm, surfaces show where they face, the unknown is black."""
    if isinstance(head, DepthMap):
        known = head.depth_m > 0
        near = -np.log(np.maximum(head.depth_m, 1e-6))
        low, high = np.percentile(near[known], (2, 98)) if known.any() else (0.0, 1.0)
        grey = (255 * np.clip((near - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
        return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO)[:, :, ::-1] * known[:, :, None], np.uint8)
    if isinstance(head, NormalMap):  # right is red, up is green, towards the camera is blue
        faces = head.normals.any(2, keepdims=True)
        return (127.5 * (1 + head.normals * np.array([1, -1, -1], np.float32)) * faces).astype(np.uint8)
    if isinstance(head, EdgeMap):
        return np.repeat((255 * head.scores).astype(np.uint8)[:, :, None], 3, 2)
    return None


def attribute_lines(head: Attributes) -> list[tuple[str, tuple[int, int, int]]]:
    """Return a line of text and its colour for every attribute: white where it holds."""
    white, grey = (255, 255, 255), (150, 150, 150)
    return [
        (f"{name} {score:.2f}", white if score >= head.threshold else grey)
        for name, score in zip(head.names, head.scores, strict=True)
    ]


def draw_boxes(panel: NDArray[Any], boxes: Boxes, factor: float) -> None:
    """Draw boxes with their class and score onto an RGB picture that is enlarged by ``factor``."""
    for box, score, index in zip(boxes.xyxy, boxes.scores, boxes.classes, strict=True):
        x0, y0, x1, y1 = (round(float(v) * factor) for v in box)
        tone = colour(int(index))
        cv2.rectangle(panel, (x0, y0), (x1, y1), tone, 1, cv2.LINE_AA)
        write(panel, f"{boxes.names[index]} {score:.2f}", (x0 + 1, max(y0 - 3, 10)), 0.35, tone)


def write(panel: NDArray[Any], text: str, place: tuple[int, int], size: float, tone: tuple[int, int, int]) -> None:
    """Write a line of text on a dark ground, so that it reads on any picture."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, size, 1)
    x, y = place
    ground = panel[max(y - height - 2, 0) : y + below // 2 + 1, max(x - 1, 0) : x + width + 1]
    ground //= 3
    cv2.putText(panel, text, place, font, size, tone, 1, cv2.LINE_AA)
