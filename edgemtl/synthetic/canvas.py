"""The canvas: a map of the facet that each pixel shows, and a table of the facets' appearance and geometry."""

from __future__ import annotations

import random
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import FRONT, Float, Vector

CLASSES = ("person", "bicycle", "car")
SEMANTIC_CLASSES = ("sky", "building", "vegetation", "road", "pavement", *CLASSES)
SKY, BUILDING, VEGETATION, ROAD, PAVEMENT, PERSON, BICYCLE, CAR = range(8)  # indices into SEMANTIC_CLASSES

FINE = 2  # facets are painted at this multiple of the resolution, so that colours come out antialiased
SHIFT = 4  # fractional bits of the vertices that OpenCV receives


class Look(NamedTuple):
    """What a surface looks like to both cameras."""

    rgb: Vector
    heat: float = 0.0  # its warmth above the air, in units of the thermal range
    absorb: float = 0.15  # how much the sun warms it
    glow: Vector | None = None  # light it gives off at night


def random_colour(rng: random.Random, low: float, high: float, variation: float) -> Vector:
    """A colour of random brightness whose channels differ by up to the variation."""
    level = rng.uniform(low, high)
    r, g, b = (min(1.0, max(0.02, level + rng.uniform(-variation, variation))) for _ in range(3))
    return r, g, b


class Canvas:
    """The map of facets and the table of what each facet is.

    Facets are painted from far to near. Colour, temperature, class, depth and normal are then table look-ups, so that
    all labels agree by construction.
    """

    def __init__(self, width: int, height: int, is_day: bool, sun: Vector) -> None:
        self.width, self.height, self.is_day, self.sun = width, height, is_day, sun
        self.focal = 0.9 * min(width, 1.25 * height)
        self.centre = (width / 2, 0.45 * height)
        self.index = np.zeros((FINE * height, FINE * width), np.int16)
        # Columns: colour (3), warmth, glow (3), normal (3), offset of the plane, least and greatest depth, semantic
        # class, instance. Facet 0 is the sky.
        self.rows: list[tuple[float, ...]] = [(0.0,) * 15]
        self.lights: list[tuple[Vector, float]] = []  # positions and powers
        self.instance = 0  # what is painted next belongs to this object, 0 is scenery
        self.base, self.heat_gain = (0.36, 0.62) if is_day else (0.2, 1.0)  # warmth of the air, of what is warmer

    def vertices(self, points: Float) -> NDArray[np.int32]:
        """Fixed-point positions (..., 2) of points (..., 3) on the fine map, whose pixel centres are whole numbers."""
        scale = FINE * (1 << SHIFT)
        origin = np.array([c * scale - 0.5 * (1 << SHIFT) for c in self.centre], np.float32)
        fine = points[..., :2] * (self.focal * scale / points[..., 2:]) + origin
        return np.asarray(fine, np.int32)

    def add(self, look: Look, semantic: int, normal: Vector, points: Float) -> int:
        """Enter a facet through these points (..., 3) into the table; returns its number."""
        x, y, *_ = points.ravel()[:3].tolist()
        depths = points[..., 2].ravel().tolist()
        offset = normal[0] * x + normal[1] * y + normal[2] * depths[0]
        sunlit = max(0.0, normal[0] * self.sun[0] + normal[1] * self.sun[1] + normal[2] * self.sun[2])
        shade = 0.5 + 0.5 * sunlit if self.is_day else 1.0
        warmth = self.base + self.heat_gain * look.heat + (look.absorb * sunlit if self.is_day else 0.0)
        glow = look.glow if look.glow and not self.is_day else (0.0, 0.0, 0.0)
        colour = (look.rgb[0] * shade, look.rgb[1] * shade, look.rgb[2] * shade)
        ends = 0.95 * min(depths), 1.05 * max(depths)  # a guard against facets seen edge on
        self.rows.append((*colour, warmth, *glow, *normal, offset, *ends, semantic, self.instance))
        return len(self.rows) - 1

    def facet(self, points: Float, look: Look, semantic: int, normal: Vector) -> None:
        """Paint coplanar, disjoint polygons (V, 3) or (P, V, 3) as one facet."""
        vertices = self.vertices(points)
        number = self.add(look, semantic, normal, points)
        cv2.fillPoly(self.index, list(vertices) if points.ndim == 3 else [vertices], number, shift=SHIFT)

    def strokes(self, lines: list[Float], width_m: float, look: Look, semantic: int, normal: Vector) -> None:
        """Paint coplanar polylines (V, 3) of a metric width, at least one fine pixel wide."""
        number = self.add(look, semantic, normal, np.concatenate(lines))
        thickness = max(1, round(width_m * self.focal * FINE / float(lines[0][0, 2])))
        cv2.polylines(self.index, [self.vertices(line) for line in lines], False, number, thickness, shift=SHIFT)

    def disc(self, centre: Vector, radius_m: float, look: Look, semantic: int) -> None:
        """Paint a disc that faces the camera."""
        points = np.array([centre], np.float32)
        vertex = self.vertices(points)[0].tolist()
        radius = int(radius_m * self.focal / centre[2] * FINE * (1 << SHIFT))
        number = self.add(look, semantic, FRONT, points)
        cv2.circle(self.index, vertex, max(radius, 1), number, -1, shift=SHIFT)
