"""Annotated images: results drawn over the cameras' images, in panels with their scales."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bundle import ThermalRange
from ..frame import Frame, FramePair, PreparedFrame, Size
from ..letterbox import Letterbox, to_uint8
from ..palette import PALETTE
from ..result import (
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
from .footers import footer, footer_lines
from .label_layout import Rectangle
from .layout import Canvas as Canvas
from .layout import canvas as canvas
from .layout import result_size
from .overlays import draw_boxes, draw_lines, draw_points
from .scales import (
    ColourKey,
    Range,
    Scale,
    depth_image,
    depth_range,
    normal_image,
    number_image,
    thermal_bar,
    thermal_range,
)
from .scales import (
    scale_of as scale_of,
)
from .text import write as write

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
MAPS = (DepthMap, NormalMap, EdgeMap, ScalarMap, VectorMap)
"""Results that are separate panels."""
COLUMNS = 3
"""Most panels in a row."""


def label_palette(label: LabelMap, boxes: Boxes | None) -> NDArray[np.uint8]:
    """Return one RGB colour a class; a class that is also detected has the colour of its boxes."""
    known = boxes.names if boxes is not None else ()  # also where no box was detected
    rest = [name for name in label.names if name not in known]
    tones = {name: GROUND[i % len(GROUND)] for i, name in enumerate(n for n in rest if n != UNKNOWN)}
    tones |= {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(known)} | {UNKNOWN: np.zeros(3, np.uint8)}
    return np.array([tones[name] for name in label.names], np.uint8)


def cameras(pair: FramePair, result: Result) -> list[str]:
    """Return the cameras that have a panel, missing ones too: rgb first, in whosever pixels the results are."""
    return sorted(dict.fromkeys([*pair.frames, *result.missing, result.camera]), key=lambda name: name != "rgb")


def present_cameras(pair: FramePair, result: Result) -> list[str]:
    """Return the cameras that have an image; what is drawn once is drawn on the first."""
    return [name for name in cameras(pair, result) if name in pair.frames and name not in result.missing]


def camera_panel(
    pair: FramePair, result: Result, camera: str, heads: Set[str] | None = None, size: Canvas | None = None
) -> NDArray[np.uint8]:
    """Return one camera's image annotated with ``heads`` (default: all), (H, W, 3) uint8 RGB.

    Boxes and points are drawn on every camera; label maps, attributes and numbers on the first that is not missing. A
    missing camera is a grey panel with the word absent.
    """
    size = size or canvas(pair, result)
    present = present_cameras(pair, result)
    if camera not in present:
        panel = np.full((size.height, size.width, 3), 60, np.uint8)
        write(panel, "absent", (size.width // 2 - round(95 * size.text), size.height // 2), 2 * size.text, (210,) * 3)
        return panel
    shown = [head for name, head in result.heads.items() if heads is None or name in heads]
    boxes = next((head for head in result.heads.values() if isinstance(head, Boxes)), None)
    image = _view(pair.frames[camera], result_size(pair, result))
    image = np.repeat(image[:, :, None], 3, 2) if image.ndim == 2 else image
    labels = next((head for head in shown if isinstance(head, LabelMap)), None)
    if labels is not None and camera == present[0]:
        ground = cv2.resize(labels.labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        image = np.asarray(cv2.addWeighted(image, 0.5, label_palette(labels, boxes)[ground], 0.5, 0), np.uint8)
    panel = _resized(image, size)
    written: list[Rectangle] = []
    for head in shown:
        if isinstance(head, Attributes | Scalars) and camera == present[0]:
            written += draw_lines(panel, head, size, max([1, *(area[3] + 1 for area in written)]))
    for head in shown:
        if isinstance(head, Boxes):
            written += draw_boxes(panel, head, size, written)
        elif isinstance(head, Points):
            written += draw_points(panel, head, size, written)
    return panel


def camera_scale(pair: FramePair, result: Result, camera: str, heads: Set[str] | None = None) -> Scale | None:
    """Return the scale of a camera's panel: the classes of a label map drawn on it, else the values of a grey image."""
    present = present_cameras(pair, result)
    if camera not in present:
        return None
    shown = [head for name, head in result.heads.items() if heads is None or name in heads]
    labels = next((head for head in shown if isinstance(head, LabelMap)), None)
    if labels is not None and camera == present[0]:
        boxes = next((head for head in result.heads.values() if isinstance(head, Boxes)), None)
        tones = [(int(r), int(g), int(b)) for r, g, b in label_palette(labels, boxes).tolist()]
        return ColourKey(tuple(zip(labels.names, tones, strict=True)))
    frame = pair.frames[camera]
    if frame.image.ndim == 3:
        return None
    if frame.image.dtype == np.uint8 or (isinstance(frame, PreparedFrame) and frame.registered):
        return thermal_bar((0, 255), "grey level")
    return thermal_bar(thermal_range(frame.image), "counts")


def map_panel(head: HeadResult, size: Canvas) -> NDArray[np.uint8] | None:
    """Return a map as a separate panel, (H, W, 3) uint8 RGB; None for other heads."""
    image = map_image(head, size.depth_range)
    return None if image is None else _resized(image, size)


def draw(pair: FramePair, result: Result, size: Canvas | None = None, columns: int = COLUMNS) -> NDArray[np.uint8]:
    """Return the pair's images in rows of ``columns``, (H, W, 3) uint8 RGB: boxes on each, the label map on the first.

    Attributes and numbers are written on the first; other maps follow as separate panels. Below each panel stand its
    name and the scale of its colours, with units. Images narrower than 400 pixels are enlarged by a whole factor. A
    missing camera keeps its panel.
    """
    size = size or canvas(pair, result)
    panels = [(n, camera_panel(pair, result, n, None, size)) for n in cameras(pair, result)]
    scales = [camera_scale(pair, result, name) for name, _ in panels]
    for name, head in result.heads.items():
        limits = size.depth_range or (depth_range(head) if isinstance(head, DepthMap) else None)
        if (panel := map_panel(head, replace(size, depth_range=limits))) is not None:
            panels.append((name, panel))
            scales.append(scale_of(head, limits, size.scores))
    lines = footer_lines([name for name, _ in panels], scales, size.width, size.text)
    tiles = [
        np.concatenate([panel, footer(name, scale, size.width, size.text, lines)])
        for (name, panel), scale in zip(panels, scales, strict=True)
    ]
    return in_rows(tiles, columns)


def in_rows(tiles: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Return tiles of one size in rows of at most ``columns``, as equally full as they can be; the rest is dark."""
    rows = -(-len(tiles) // columns)
    columns = -(-len(tiles) // rows)
    tiles = [*tiles, *[np.full_like(tiles[0], 24)] * (rows * columns - len(tiles))]
    if rows == 1:
        return np.ascontiguousarray(np.concatenate(tiles, 1))
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])


def _view(frame: Frame, size: Size) -> NDArray[np.uint8]:
    """Return a frame's image in 8 bits; where it is registered, in the pixels of the results."""
    if not isinstance(frame, PreparedFrame) or not frame.registered:
        image = frame.image
        return to_uint8(
            image, ThermalRange("radiometric", *thermal_range(image)) if image.dtype != np.uint8 else ThermalRange()
        )
    network = frame.network_input
    letterbox = Letterbox.plan(size, (network.shape[0], network.shape[1]))
    inside = network[: letterbox.scaled_height, : letterbox.scaled_width]
    return np.ascontiguousarray(inside[:, :, 0] if inside.shape[2] == 1 else inside)


def _resized(image: NDArray[np.uint8], size: Canvas) -> NDArray[np.uint8]:
    method = cv2.INTER_AREA if size.scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size.width, size.height), interpolation=method), np.uint8)


def map_image(head: HeadResult, limits: Range | None = None) -> NDArray[np.uint8] | None:
    """Return a map as an (H, W, 3) RGB image, in the colours of `scale_of`; ``limits`` are those of a depth."""
    if isinstance(head, DepthMap):
        return depth_image(head, limits or depth_range(head))
    if isinstance(head, NormalMap):
        return normal_image(head.normals)
    if isinstance(head, EdgeMap):
        return np.repeat((255 * head.scores).astype(np.uint8)[:, :, None], 3, 2)
    if isinstance(head, ScalarMap | VectorMap):
        return number_image(head)
    return None
