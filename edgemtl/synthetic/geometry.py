"""Points, shapes and poses in metric camera coordinates: x right, y down, z forward, the camera at the origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Vector = tuple[float, float, float]
Polygon = list[list[float]]  # corners, each (x, y, z)

CAMERA_HEIGHT_M = 1.4  # above a flat ground
CIRCLE = [(math.cos(k * math.pi / 6), math.sin(k * math.pi / 6)) for k in range(12)]
FRONT: Vector = (0.0, 0.0, -1.0)  # the normal of what faces the camera


def array(points: Polygon | list[Polygon]) -> Float:
    """Return points as float32, (…, 3)."""
    return np.array(points, np.float32)


def quad(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> Polygon:
    """A rectangle between two corners, upright if y0 differs from y1 and flat on the ground otherwise."""
    if y0 == y1:
        return [[x0, y0, z0], [x1, y0, z0], [x1, y0, z1], [x0, y0, z1]]
    return [[x0, y0, z0], [x1, y0, z1], [x1, y1, z1], [x0, y1, z0]]


class Pose(NamedTuple):
    """Position and heading of an object; maps points along and across the heading to camera coordinates."""

    x: float
    z: float
    sin: float  # of the heading, 0 is away from the camera, +pi/2 is to the right
    cos: float

    def to_camera(self, points: Sequence[Vector]) -> Float:
        """Camera coordinates (V, 3) of points (forward, height, right) in metres."""
        s, c = self.sin, self.cos
        return array([[self.x + f * s + r * c, CAMERA_HEIGHT_M - h, self.z + f * c - r * s] for f, h, r in points])

    def point(self, forward: float, height: float, right: float) -> Vector:
        """Return the camera coordinates of a point, metres."""
        x, y, z = self.to_camera([(forward, height, right)])[0].tolist()
        return x, y, z

    def towards(self, forward: float, up: float, right: float) -> Vector:
        """Camera coordinates of a direction."""
        return forward * self.sin + right * self.cos, -up, forward * self.cos - right * self.sin
