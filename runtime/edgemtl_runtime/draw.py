"""Annotated images: results drawn over the cameras' images, side by side."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .bundle import ThermalRange
from .frame import Frame, FramePair, PreparedFrame, Size
from .letterbox import Letterbox, to_uint8
from .palette import PALETTE, colour
from .result import (
    NO_TRACK,
    Attributes,
    Boxes,
    DepthMap,
    EdgeMap,
    HeadResult,
    LabelMap,
    NormalMap,
    Points,
    Result,
    ScalarMap,
    Scalars,
    VectorMap,
)

GROUND = np.array(
    [
        *((110, 150, 190), (150, 120, 100), (90, 140, 80), (90, 90, 100), (200, 190, 110), (160, 90, 130)),
        *((70, 160, 150), (190, 120, 70), (120, 110, 180), (170, 180, 60), (60, 110, 140), (210, 150, 160)),
    ],
    np.uint8,
)
"""Muted colours for the classes of a label map that are not objects."""
UNKNOWN = "unknown"
"""The class of pixels without a label, drawn black."""
MIN_WIDTH = 320
MAPS = (DepthMap, NormalMap, EdgeMap, ScalarMap, VectorMap)
"""Results that are separate panels."""
ASCII = str.maketrans({"°": "deg ", "µ": "u", "μ": "u", "²": "2", "³": "3", "·": " ", "Ω": "ohm"})
"""Signs of units that OpenCV's fonts lack."""


def label_palette(label: LabelMap, boxes: Boxes | None) -> NDArray[np.uint8]:
    """Return one RGB colour a class; a class that is also detected has the colour of its boxes."""
    known = boxes.names if boxes else ()
    rest = [name for name in label.names if name not in known]
    tones = {name: GROUND[i % len(GROUND)] for i, name in enumerate(n for n in rest if n != UNKNOWN)}
    tones |= {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(known)} | {UNKNOWN: np.zeros(3, np.uint8)}
    return np.array([tones[name] for name in label.names], np.uint8)


@dataclass(frozen=True)
class Canvas:
    """Layout of every panel: ``height`` and ``width`` in pixels, ``scale`` panel pixels to a pixel of the results.

    ``text`` is the font scale, in OpenCV's units.
    """

    height: int
    width: int
    scale: float
    text: float = 0.35

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or self.scale <= 0 or self.text <= 0:
            raise ValueError(f"a panel has a size, not {self.width}x{self.height} at {self.scale}, text {self.text}")


def canvas(pair: FramePair, result: Result, least: int = MIN_WIDTH, most: int = 0) -> Canvas:
    """Plan the panels of one result: enlarged by a whole factor to ``least`` pixels, at most ``most`` wide unless 0."""
    height, width = _size(pair, result)
    scale = float(max(1, -(-least // width)))
    if most and width * scale > most:
        scale = most / width
    return Canvas(max(1, round(height * scale)), max(1, round(width * scale)), scale)


def cameras(pair: FramePair, result: Result) -> list[str]:
    """Return the cameras that have a panel, missing ones too: rgb first, in whosever pixels the results are."""
    return sorted(dict.fromkeys([*pair.frames, *result.missing, result.camera]), key=lambda name: name != "rgb")


def camera_panel(
    pair: FramePair, result: Result, camera: str, heads: Set[str] | None = None, size: Canvas | None = None
) -> NDArray[np.uint8]:
    """Return one camera's image annotated with ``heads`` (default: all), (H, W, 3) uint8 RGB.

    Boxes are drawn on every camera; label maps and attributes on the first that is not missing. A missing camera is a
    grey panel with the word absent.
    """
    size = size or canvas(pair, result)
    present = [name for name in cameras(pair, result) if name in pair.frames and name not in result.missing]
    if camera not in present:
        panel = np.full((size.height, size.width, 3), 60, np.uint8)
        write(panel, "absent", (size.width // 2 - round(95 * size.text), size.height // 2), 2 * size.text, (210,) * 3)
        return panel
    shown = [head for name, head in result.heads.items() if heads is None or name in heads]
    boxes = next((head for head in result.heads.values() if isinstance(head, Boxes)), None)
    image = _view(pair.frames[camera], _size(pair, result))
    image = np.repeat(image[:, :, None], 3, 2) if image.ndim == 2 else image
    labels = next((head for head in shown if isinstance(head, LabelMap)), None)
    if labels is not None and camera == present[0]:
        ground = cv2.resize(labels.labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        image = np.asarray(cv2.addWeighted(image, 0.5, label_palette(labels, boxes)[ground], 0.5, 0), np.uint8)
    panel = _resized(image, size)
    for head in shown:
        if isinstance(head, Boxes):
            draw_boxes(panel, head, size.scale, size.text)
        elif isinstance(head, Points):
            draw_points(panel, head, size.scale, size.text)
    lines = [line for head in shown for line in text_lines(head)] if camera == present[0] else []
    for index, (text, tone) in enumerate(lines):
        write(panel, text, (4, round((14 + 14 * index) * size.text / 0.35)), size.text + 0.05, tone)
    return panel


def map_panel(head: HeadResult, size: Canvas) -> NDArray[np.uint8] | None:
    """Return a map as a separate panel, (H, W, 3) uint8 RGB, numbers with their scale; None for other heads."""
    image = map_image(head)
    if image is None:
        return None
    panel = _resized(image, size)
    if isinstance(head, ScalarMap | VectorMap):
        draw_scale(panel, *_ends(head), head.units, size.text)
    return panel


def draw(pair: FramePair, result: Result) -> NDArray[np.uint8]:
    """Return the pair's images side by side, (H, W, 3) uint8 RGB, with boxes on both and the label map on the first.

    Attributes are written on the first; depth, normals and edges follow as separate panels. Images narrower than 320
    pixels are enlarged by a whole factor. A missing camera keeps its panel.
    """
    size = canvas(pair, result)
    panels = [(name, camera_panel(pair, result, name, None, size)) for name in cameras(pair, result)]
    panels += [(name, p) for name, head in result.heads.items() if (p := map_panel(head, size)) is not None]
    for name, panel in panels:
        write(panel, name, (4, size.height - 6), 0.45, (255, 255, 255))
    return np.ascontiguousarray(np.concatenate([panel for _, panel in panels], 1))


def _view(frame: Frame, size: Size) -> NDArray[np.uint8]:
    """Return a frame's image in 8 bits; where it is registered, in the pixels of the results."""
    if not isinstance(frame, PreparedFrame) or not frame.registered:
        return to_uint8(frame.image, ThermalRange())
    network = frame.network_input
    letterbox = Letterbox.plan(size, (network.shape[0], network.shape[1]))
    inside = network[: letterbox.scaled_height, : letterbox.scaled_width]
    return np.ascontiguousarray(inside[:, :, 0] if inside.shape[2] == 1 else inside)


def _size(pair: FramePair, result: Result) -> Size:
    """Return the (height, width) of the results' pixels: a map's where their camera has no image."""
    if result.camera in pair.frames:
        return pair.frames[result.camera].size
    for head in result.heads.values():
        if isinstance(head, LabelMap):
            return head.labels.shape[0], head.labels.shape[1]
        if isinstance(head, DepthMap):
            return head.depth_m.shape[0], head.depth_m.shape[1]
        if isinstance(head, NormalMap):
            return head.normals.shape[0], head.normals.shape[1]
        if isinstance(head, EdgeMap):
            return head.scores.shape[0], head.scores.shape[1]
        if isinstance(head, ScalarMap | VectorMap):
            height, width = _numbers(head).shape
            return height, width
    return next(iter(pair.frames.values())).size


def _resized(image: NDArray[np.uint8], size: Canvas) -> NDArray[np.uint8]:
    method = cv2.INTER_AREA if size.scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size.width, size.height), interpolation=method), np.uint8)


def map_image(head: HeadResult) -> NDArray[np.uint8] | None:
    """Return a map as an (H, W, 3) RGB image, None for other results: pixels without a value are black.

    Warm colours are near or high, of vectors long; normals are shown as RGB.
    """
    if isinstance(head, DepthMap):
        known = (head.depth_m > 0) & np.isfinite(head.depth_m)
        near = -np.log(np.where(known, head.depth_m, 1.0))
        low, high = np.percentile(near[known], (2, 98)) if known.any() else (0.0, 1.0)
        grey = (255 * np.clip((near - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
        return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO)[:, :, ::-1] * known[:, :, None], np.uint8)
    if isinstance(head, NormalMap):  # right is red, up is green, towards the camera is blue
        faces = head.normals.any(2, keepdims=True)
        return (127.5 * (1 + head.normals * np.array([1, -1, -1], np.float32)) * faces).astype(np.uint8)
    if isinstance(head, EdgeMap):
        return np.repeat((255 * head.scores).astype(np.uint8)[:, :, None], 3, 2)
    if isinstance(head, ScalarMap | VectorMap):
        numbers, (low, high) = _numbers(head), _ends(head)
        known = np.isfinite(numbers)
        grey = (255 * np.clip((np.where(known, numbers, low) - low) / (high - low), 0, 1)).astype(np.uint8)
        return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO)[:, :, ::-1] * known[:, :, None], np.uint8)
    return None


def _numbers(head: ScalarMap | VectorMap) -> NDArray[np.float32]:
    """Return what the colours of a map show: its numbers, or the lengths of its vectors."""
    return head.values if isinstance(head, ScalarMap) else np.linalg.norm(head.vectors, axis=2)


def _ends(head: ScalarMap | VectorMap) -> tuple[float, float]:
    """Return the numbers at the ends of a map's colour scale."""
    if head.value_range is not None:
        return head.value_range
    numbers = _numbers(head)
    known = numbers[np.isfinite(numbers)]
    low, high = np.percentile(known, (2, 98)).tolist() if known.size else (0.0, 1.0)
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def draw_scale(panel: NDArray[Any], low: float, high: float, units: str, size: float) -> None:
    """Draw a colour scale with the numbers at its ends into the top right corner of an RGB image, in place."""
    height, width = round(24 * size), min(panel.shape[1] // 3, round(260 * size))
    bar = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None], height, 0)
    left = panel.shape[1] - width - 4
    panel[4 : 4 + height, left : left + width] = cv2.applyColorMap(bar, cv2.COLORMAP_TURBO)[:, :, ::-1]
    text = f"{low:.3g} to {high:.3g} {units}".translate(ASCII).strip()
    write(panel, text, (left, 4 + height + round(36 * size)), size, (255, 255, 255))


def text_lines(head: HeadResult) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the lines of text, and their colours, of what holds for the image as a whole."""
    if isinstance(head, Attributes):
        return attribute_lines(head)
    if isinstance(head, Scalars):
        numbers = zip(head.names, head.values.tolist(), strict=True)
        return [(f"{name} {value:.3g} {head.units}".translate(ASCII).strip(), (255,) * 3) for name, value in numbers]
    return []


def attribute_lines(head: Attributes) -> list[tuple[str, tuple[int, int, int]]]:
    """Return a line of text and its colour for every attribute: white where it holds."""
    white, grey = (255, 255, 255), (150, 150, 150)
    return [
        (f"{name} {score:.2f}", white if holds else grey)
        for name, score, holds in zip(head.names, head.scores, head.holds, strict=True)
    ]


def draw_boxes(panel: NDArray[Any], boxes: Boxes, factor: float, size: float = 0.35) -> None:
    """Draw boxes with class and score onto an RGB image that is enlarged by ``factor``, in place.

    A tracked box is labelled with its track number as well; its colour is that of its class.
    """
    tracks = boxes.tracks if boxes.tracks is not None else np.full(len(boxes), NO_TRACK)
    for box, score, index, track in zip(boxes.xyxy, boxes.scores, boxes.classes, tracks, strict=True):
        x0, y0, x1, y1 = (round(float(v) * factor) for v in box)
        tone = colour(int(index))
        cv2.rectangle(panel, (x0, y0), (x1, y1), tone, max(1, round(2 * size)), cv2.LINE_AA)
        number = "" if track == NO_TRACK else f"#{track} "
        text = f"{number}{boxes.names[index]} {score:.2f}"
        write(panel, text, (x0 + 1, max(y0 - 3, round(29 * size))), size, tone)


def draw_points(panel: NDArray[Any], points: Points, factor: float, size: float = 0.35) -> None:
    """Draw points as crosses with class and score onto an RGB image that is enlarged by ``factor``, in place."""
    for (x, y), score, index in zip(points.xy.tolist(), points.scores, points.classes, strict=True):
        centre, tone = (round(x * factor), round(y * factor)), colour(int(index))
        cv2.drawMarker(panel, centre, tone, cv2.MARKER_CROSS, round(30 * size), max(1, round(3 * size)), cv2.LINE_AA)
        text = f"{points.names[index]} {score:.2f}"
        write(panel, text, (centre[0] + round(18 * size), centre[1] + round(12 * size)), size, tone)


def write(panel: NDArray[Any], text: str, origin: tuple[int, int], size: float, tone: tuple[int, int, int]) -> None:
    """Draw a line of text on a dark ground from ``origin`` (left, baseline), so that it is legible on any image."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, size, 1)
    x, y = max(1, min(origin[0], panel.shape[1] - width - 1)), origin[1]
    ground = panel[max(y - height - 2, 0) : y + below // 2 + 1, max(x - 1, 0) : x + width + 1]
    ground //= 3
    cv2.putText(panel, text, (x, y), font, size, tone, 1, cv2.LINE_AA)
