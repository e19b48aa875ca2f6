"""The painter's algorithm, from far to near, and the rules by which an object is visible enough to be labelled."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from . import objects
from .canvas import FINE, Canvas
from .cast import Actor
from .street import Street
from .surfaces import facets

_MIN_BOX_PX = (5.0, 6.0)  # width and height at 160x128
_MIN_VISIBLE = 0.36  # share of its silhouette that nothing hides
_MIN_INSIDE = 0.4
_MIN_DEPTH_M = 0.8  # of an object's nearest point
_HALF_SIZE_M = ((0.0, 0.27), (0.86, 0.1), (2.1, 0.88))  # half the length and half the width of each class


class Box(NamedTuple):
    """An object's silhouette, as if nothing occluded it."""

    xyxy: tuple[float, float, float, float]
    inside: float  # the share of the object's extent that lies inside the image
    drawn_px: int
    facets: tuple[int, int]  # the numbers of its first and last


def paint_visible(canvas: Canvas, street: Street, actors: list[Actor], time_s: float) -> tuple[list[Actor], list[Box]]:
    """Paint, skipping every object that would be too small, too hidden or too far outside to be labelled."""
    while True:
        boxes = _paint(canvas, street, actors, time_s)
        painted = [(actor, box) for actor, box in zip(actors, boxes, strict=True) if box is not None]
        visible = [(actor, box) for actor, box in painted if _is_visible(canvas, box)]
        actors = [actor for actor, _ in visible]
        if len(visible) == len(painted):
            return actors, [box for _, box in visible]


def _paint(canvas: Canvas, street: Street, actors: list[Actor], time_s: float) -> list[Box | None]:
    """Paint lamps, trees and objects over the street from far to near; returns one box or None for each object."""
    np.copyto(canvas.index, street.background)
    canvas.rows, canvas.lights = list(street.rows), []
    boxes: list[Box | None] = [None] * len(actors)
    order = [(z, False, i) for i, (z, _) in enumerate(street.furniture)]
    order += [(actor.at(time_s).z, True, i) for i, actor in enumerate(actors)]
    for _, is_actor, i in sorted(order, reverse=True):
        canvas.instance = i + 1 if is_actor else 0
        if is_actor:
            boxes[i] = _paint_object(canvas, actors[i], time_s)
        else:
            street.furniture[i][1](canvas)
    return boxes


def _paint_object(canvas: Canvas, actor: Actor, time_s: float) -> Box | None:
    """Paint an object over what is farther and measure its silhouette; None where it is not in the image."""
    x, z, sin, cos = actor.at(time_s)
    along, across = _HALF_SIZE_M[actor.class_id]
    half = along * abs(sin) + across * abs(cos if along else 1.0)
    is_before_camera = z - along * abs(cos) - across >= _MIN_DEPTH_M
    if not is_before_camera or abs(x) - half > 0.5 * canvas.width / canvas.focal * (z + along):
        return None
    first = len(canvas.rows)
    objects.paint(canvas, actor, time_s)
    silhouette = (canvas.index >= first).view(np.uint8)
    left, top, width, height = cv2.boundingRect(silhouette)
    touches = left == 0 or left + width == canvas.index.shape[1]
    inside = width / (2 * half * canvas.focal / z * FINE) if touches else 1.0
    xyxy = (left / FINE, top / FINE, (left + width) / FINE, (top + height) / FINE)
    return Box(xyxy, inside, cv2.countNonZero(silhouette), (first, len(canvas.rows) - 1))


def _is_visible(canvas: Canvas, box: Box) -> bool:
    scale = canvas.focal / 144.0
    x0, y0, x1, y1 = box.xyxy
    if box.inside < _MIN_INSIDE or x1 - x0 < _MIN_BOX_PX[0] * scale or y1 - y0 < _MIN_BOX_PX[1] * scale:
        return False
    if cv2.countNonZero(cv2.inRange(canvas.index, *box.facets)) < _MIN_VISIBLE * box.drawn_px:
        return False
    # A small object that others touch all over may be left without a labelled pixel.
    rows, columns = (slice(2 * int(low), 2 * int(np.ceil(high))) for low, high in ((y0, y1), (x0, x1)))
    return cv2.countNonZero(cv2.inRange(facets(canvas.index[rows, columns]), *box.facets)) > 0
