"""Synthetic street scenes by day and by night, as a colour and a thermal camera would see them.

A scene is a list of flat facets in metric camera coordinates (x right, y down, z forward, metres; the camera is the
origin, 1.4 m above a flat ground). Facets are painted from far to near into one map that says which facet each pixel
shows; colour, temperature, class, depth and normal are then table look-ups, so that all labels agree by construction.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("person", "bicycle", "car")
SEMANTIC_CLASSES = ("sky", "building", "vegetation", "road", "pavement", "person", "bicycle", "car")

_SKY, _BUILDING, _VEGETATION, _ROAD, _PAVEMENT, _FIRST_OBJECT = range(6)
_GRAIN = np.array([0.0, 0.12, 0.35, 0.12, 0.15, 0.04, 0.0, 0.03], np.float32)  # surface texture of each semantic class
_CAMERA_HEIGHT_M = 1.4
_STREET_END_M = 70.0
_MIN_BOX_PX = (5.0, 6.0)  # width and height at 160x128
_MIN_VISIBLE = 0.36
_FINE = 2  # facets are painted at this multiple of the resolution, so that colours come out antialiased
_SHIFT = 4  # fractional bits of the vertices that OpenCV receives

Float = NDArray[np.float32]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """One frame of a street with its labels for every task.

    rgb (H, W, 3) and ir (H, W, warmer is brighter) are uint8. boxes (N, 4) are xyxy in pixels around each object's own
    silhouette, also where a nearer one hides it, clipped to the image; classes (N,) index CLASSES; N may be 0.
    semantic (H, W) indexes SEMANTIC_CLASSES (street lamps count as building). depth_m (H, W) is z in metres, 0 on sky.
    normals (H, W, 3) are unit vectors towards the viewer with x right, y down, z forward, zero on sky. edges (H, W)
    are 1 at class and instance boundaries and at depth steps, else 0.
    """

    rgb: NDArray[np.uint8]
    ir: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    semantic: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    normals: NDArray[np.float32]
    edges: NDArray[np.uint8]
    is_day: bool


class _Look(NamedTuple):
    rgb: Vector
    heat: float = 0.0  # warmth of its own above the air, in units of the thermal range
    absorb: float = 0.15  # how much the sun warms it
    glow: Vector | None = None  # light it gives off at night


class _Box(NamedTuple):
    xyxy: tuple[float, float, float, float]
    inside: float  # the share of the object's extent that lies inside the image
    drawn_px: int


@dataclass(frozen=True)
class _Actor:
    kind: int  # index into CLASSES
    x_m: float
    z_m: float
    yaw: float  # heading, 0 is away from the camera, +pi/2 is to the right
    speed: float  # m/s along the heading
    x_range_m: tuple[float, float]
    style: int  # seeds colours, build and gait

    def at(self, time_s: float) -> tuple[float, float, float]:
        """Position (x, z) in metres and heading at a time: turns round at walls, re-enters a long way off."""
        z_near, z_far = 3.0, 60.0
        z = self.z_m + self.speed * math.cos(self.yaw) * time_s
        if not z_near <= z <= z_far:
            z = z_near + (z - z_near) % (z_far - z_near)
        low, high = self.x_range_m
        x = self.x_m + self.speed * math.sin(self.yaw) * time_s
        if low <= x <= high:
            return x, z, self.yaw
        if self.kind == 2:  # a car drives on and comes back from the other side
            return low + (x - low) % (high - low), z, self.yaw
        phase = (x - low) % (2 * (high - low))
        return low + min(phase, 2 * (high - low) - phase), z, self.yaw if phase <= high - low else -self.yaw


class _Canvas:
    """The map of facets and the table of what each facet is."""

    def __init__(self, width: int, height: int, is_day: bool, sun: Vector) -> None:
        self.width, self.height, self.is_day, self.sun = width, height, is_day, sun
        self.focal = 0.9 * min(width, 1.25 * height)
        self.centre = (width / 2, 0.45 * height)
        self.index = np.zeros((_FINE * height, _FINE * width), np.int16)
        self.rows: list[tuple[float, ...]] = [(0.0,) * 15]  # facet 0 is the sky
        self.lights: list[tuple[Vector, float]] = []  # positions and powers
        self.instance = 0  # what is painted next belongs to this object, 0 is scenery
        self.base, self.heat_gain = (0.36, 0.62) if is_day else (0.2, 1.0)

    def vertices(self, points: Float) -> NDArray[np.int32]:
        """Fixed-point positions (..., 2) of points (..., 3) on the fine map, whose pixel centres are whole numbers."""
        scale = _FINE * (1 << _SHIFT)
        origin = np.array([c * scale - 0.5 * (1 << _SHIFT) for c in self.centre], np.float32)
        fine = points[..., :2] * (self.focal * scale / points[..., 2:]) + origin
        return np.asarray(fine, np.int32)

    def add(self, look: _Look, semantic: int, normal: Vector, points: Float) -> int:
        """Enter a facet through these points (..., 3) into the table; returns its number."""
        x, y, *_ = points.ravel()[:3].tolist()
        depths = points[..., 2].ravel().tolist()
        offset = normal[0] * x + normal[1] * y + normal[2] * depths[0]
        sunlit = max(0.0, normal[0] * self.sun[0] + normal[1] * self.sun[1] + normal[2] * self.sun[2])
        shade = 0.5 + 0.5 * sunlit if self.is_day else 1.0
        warmth = self.base + self.heat_gain * look.heat + (look.absorb * sunlit if self.is_day else 0.0)
        glow = look.glow if look.glow and not self.is_day else (0.0, 0.0, 0.0)
        colour = (look.rgb[0] * shade, look.rgb[1] * shade, look.rgb[2] * shade)
        ends = min(depths), max(depths)
        self.rows.append((*colour, warmth, *glow, *normal, offset, *ends, semantic, self.instance))
        return len(self.rows) - 1

    def facet(self, points: Float, look: _Look, semantic: int, normal: Vector) -> None:
        """Paint coplanar, disjoint polygons (V, 3) or (P, V, 3) as one facet."""
        vertices = self.vertices(points)
        number = self.add(look, semantic, normal, points)
        cv2.fillPoly(self.index, list(vertices) if points.ndim == 3 else [vertices], number, shift=_SHIFT)

    def strokes(self, lines: list[Float], width_m: float, look: _Look, semantic: int, normal: Vector) -> None:
        """Paint coplanar polylines (V, 3) of a metric width, at least one fine pixel wide."""
        number = self.add(look, semantic, normal, np.concatenate(lines))
        thickness = max(1, round(width_m * self.focal * _FINE / float(lines[0][0, 2])))
        cv2.polylines(self.index, [self.vertices(line) for line in lines], False, number, thickness, shift=_SHIFT)

    def disc(self, centre: Vector, radius_m: float, look: _Look, semantic: int) -> None:
        """Paint a disc that faces the camera."""
        points = np.array([centre], np.float32)
        vertex = self.vertices(points)[0].tolist()
        radius = int(radius_m * self.focal / centre[2] * _FINE * (1 << _SHIFT))
        number = self.add(look, semantic, (0.0, 0.0, -1.0), points)
        cv2.circle(self.index, vertex, max(radius, 1), number, -1, shift=_SHIFT)


def _quad(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> list[list[float]]:
    """A rectangle between two corners, upright if y0 differs from y1 and flat on the ground otherwise."""
    if y0 == y1:
        return [[x0, y0, z0], [x1, y0, z0], [x1, y0, z1], [x0, y0, z1]]
    return [[x0, y0, z0], [x1, y0, z1], [x1, y1, z1], [x0, y1, z0]]


def _array(points: list[list[float]] | list[list[list[float]]]) -> Float:
    return np.array(points, np.float32)


def _colour(rng: random.Random, low: float, high: float, spread: float) -> Vector:
    """A colour of random brightness whose channels differ by up to the spread."""
    level = rng.uniform(low, high)
    r, g, b = (min(1.0, max(0.02, level + rng.uniform(-spread, spread))) for _ in range(3))
    return r, g, b


def _ground(canvas: _Canvas, rng: random.Random, centre_m: float, road_m: float) -> None:
    up, y = (0.0, -1.0, 0.0), _CAMERA_HEIGHT_M
    near = min(1.0, 0.8 * canvas.focal * y / (canvas.height - canvas.centre[1]))
    level = rng.uniform(0.45, 0.62)
    pavement = _Look((level, level * 0.97, level * 0.92), rng.uniform(-0.03, 0.05), 0.22)
    canvas.index[round(_FINE * canvas.centre[1]) :] = canvas.add(
        pavement, _PAVEMENT, up, _array(_quad(-1, 1, y, y, near, 2 * _STREET_END_M))
    )
    level = rng.uniform(0.26, 0.38)
    asphalt = _Look((level, level, level * 1.04), rng.uniform(0.0, 0.08), 0.26)
    left, right = centre_m - road_m, centre_m + road_m
    canvas.facet(_array(_quad(left, right, y, y, near, 2 * _STREET_END_M)), asphalt, _ROAD, up)
    paint = _Look((0.78, 0.78, 0.74), asphalt.heat - 0.03, 0.2)
    dash, gap = rng.uniform(1.5, 3.0), rng.uniform(2.0, 4.0)
    start = rng.uniform(0.0, gap)
    marks = [
        _quad(centre_m - 0.07, centre_m + 0.07, y, y, near + start + i * (dash + gap), near + start + i * (dash + gap) + dash)
        for i in range(9)
    ]
    if rng.random() < 0.25:  # a zebra crossing
        z = rng.uniform(6.0, 16.0)
        stripes = int(2 * road_m)
        marks = [_quad(left + i + 0.25, left + i + 0.75, y, y, z, z + 2.5) for i in range(stripes)]
    canvas.facet(_array(marks), paint, _ROAD, up)
    kerbs = [_quad(x - 0.1, x + 0.1, y, y, near, _STREET_END_M) for x in (left, right)]
    canvas.facet(_array(kerbs), _Look((0.6, 0.6, 0.58), 0.02), _PAVEMENT, up)


def _walls(canvas: _Canvas, rng: random.Random, left_m: float, right_m: float) -> None:
    """The backdrop where the street ends and the rows of houses and hedges on both sides."""
    y = _CAMERA_HEIGHT_M
    look = _Look(_colour(rng, 0.3, 0.6, 0.06), rng.uniform(-0.05, 0.08))
    green = _Look((0.2, 0.34, 0.15), 0.0, 0.08)
    ends = _array(_quad(-300, 300, y, y - rng.uniform(5, 12), _STREET_END_M, _STREET_END_M))
    is_green = rng.random() < 0.5
    canvas.facet(ends, green if is_green else look, _VEGETATION if is_green else _BUILDING, (0.0, 0.0, -1.0))
    for x, side in ((left_m, 1.0), (right_m, -1.0)):
        z1 = _STREET_END_M
        while z1 > 3.0:
            z0 = max(2.0, z1 - rng.uniform(9.0, 20.0))
            is_hedge = rng.random() < 0.22
            top = y - (rng.uniform(1.6, 3.5) if is_hedge else rng.uniform(6.0, 16.0))
            level = _colour(rng, 0.3, 0.75, 0.09)
            shade = rng.uniform(0.8, 1.2)
            wall = _Look(level, rng.uniform(-0.06, 0.1), rng.uniform(0.1, 0.32))
            hedge = _Look((0.2 * shade, 0.36 * shade, 0.14 * shade), rng.uniform(-0.03, 0.03), 0.08)
            block = _array(_quad(x, x, y, top, z0, z1))
            canvas.facet(block, hedge if is_hedge else wall, _VEGETATION if is_hedge else _BUILDING, (side, 0.0, 0.0))
            gable = _array(_quad(x, x - 15.0 * side, y, top, z0, z0))
            canvas.facet(gable, hedge if is_hedge else wall, _VEGETATION if is_hedge else _BUILDING, (0.0, 0.0, -1.0))
            if not is_hedge and z0 < 45.0:
                _windows(canvas, rng, x, side, top, z0, z1)
            z1 = z0


def _windows(canvas: _Canvas, rng: random.Random, x: float, side: float, top: float, z0: float, z1: float) -> None:
    width, step = rng.uniform(0.9, 1.5), rng.uniform(2.2, 3.2)
    dark: list[list[list[float]]] = []
    lit: list[list[list[float]]] = []
    y = _CAMERA_HEIGHT_M - 1.0
    while y - 1.6 > max(top, -7.0):
        z = z0 + 0.6
        while z + width < z1:
            (lit if rng.random() < 0.22 else dark).append(_quad(x, x, y, y - 1.5, z, z + width))
            z += step
        y -= 3.0
    glass = (0.2, 0.24, 0.3)
    glow = (0.75, 0.6, 0.3)
    for panes, look in ((dark, _Look(glass, -0.08, 0.05)), (lit, _Look((0.3, 0.34, 0.4), 0.06, 0.05, glow))):
        if panes:
            canvas.facet(_array(panes), look, _BUILDING, (side, 0.0, 0.0))


def _lamp(canvas: _Canvas, x: float, z: float, side: float, top_m: float) -> None:
    y, metal, front = _CAMERA_HEIGHT_M, _Look((0.3, 0.32, 0.33), -0.02), (0.0, 0.0, -1.0)
    arm = x + side * 1.2
    pole = [_quad(x - 0.06, x + 0.06, y, y - top_m, z, z), _quad(min(x, arm), max(x, arm), y - top_m, y - top_m - 0.1, z, z)]
    canvas.facet(_array(pole), metal, _BUILDING, front)
    head = _Look((0.6, 0.6, 0.58), 0.1, glow=(1.3, 1.05, 0.6))
    canvas.facet(_array(_quad(arm - 0.3, arm + 0.3, y - top_m + 0.12, y - top_m - 0.05, z, z)), head, _BUILDING, front)
    canvas.lights.append(((arm, y - top_m, z), 22.0))


def _tree(canvas: _Canvas, style: int, x: float, z: float) -> None:
    rng = random.Random(style)
    y, height = _CAMERA_HEIGHT_M, rng.uniform(3.5, 6.0)
    trunk = _array(_quad(x - 0.13, x + 0.13, y, y - height + 1.0, z, z))
    canvas.facet(trunk, _Look((0.3, 0.22, 0.15), 0.03, 0.1), _VEGETATION, (0.0, 0.0, -1.0))
    for i in range(8):
        shade = 0.7 + 0.07 * i
        leaf = _Look((0.2 * shade, 0.38 * shade, 0.13 * shade), rng.uniform(-0.03, 0.04), 0.06)
        centre = (x + rng.uniform(-0.9, 0.9), y - height + rng.uniform(-0.6, 1.3) - 0.1 * i, z)
        canvas.disc(centre, rng.uniform(0.6, 1.1), leaf, _VEGETATION)


def _limb(x0: float, h0: float, x1: float, h1: float, wide0: float, wide1: float) -> list[list[float]]:
    return [[x0 - wide0, h0], [x0 + wide0, h0], [x1 + wide1, h1], [x1 - wide1, h1]]


_CIRCLE = [[math.cos(k * math.pi / 6), math.sin(k * math.pi / 6)] for k in range(12)]


def _person(canvas: _Canvas, actor: _Actor, time_s: float) -> None:
    rng, semantic, front = random.Random(actor.style), _FIRST_OBJECT, (0.0, 0.0, -1.0)
    x, z, yaw = actor.at(time_s)
    size = rng.uniform(0.88, 1.08)
    phase = rng.uniform(0.0, 2 * math.pi) + 2 * math.pi * 0.9 * time_s * (actor.speed > 0)
    stride = (0.1 + 0.2 * abs(math.sin(yaw))) * (math.sin(phase) if actor.speed > 0 else 0.8)
    coat = _Look(_colour(rng, 0.1, 0.8, 0.3), rng.uniform(0.36, 0.46), 0.05)
    trousers = _Look(_colour(rng, 0.08, 0.5, 0.1), rng.uniform(0.32, 0.42), 0.05)
    tone = rng.uniform(0.35, 0.85)
    skin = _Look((tone, tone * 0.78, tone * 0.66), 0.56, 0.05)
    hair = _Look(_colour(rng, 0.05, 0.3, 0.04), 0.44, 0.05)
    head = [[0.125 * c, 1.62 + 0.14 * s] for c, s in _CIRCLE]
    cap = [[0.13 * c, 1.66 + 0.13 * s] for c, s in _CIRCLE[:7]]
    arm = 0.27 + 0.03 * abs(math.sin(phase))
    far_arm, near_arm = (
        _limb(s * 0.21, 1.42, s * arm - 0.5 * s * stride * (s > 0), 0.82, 0.06, 0.05) for s in (-1.0, 1.0)
    )
    torso = [[-0.14, 1.47], [0.14, 1.47], [0.24, 1.38], [0.18, 0.82], [-0.18, 0.82], [-0.24, 1.38]]
    legs = [_limb(-0.07, 0.9, -0.08 - stride, 0.0, 0.1, 0.07), _limb(0.07, 0.9, 0.08 + stride, 0.0, 0.1, 0.07)]
    shoes = _Look((0.1, 0.1, 0.1), 0.2, 0.05)
    feet = [_limb(-0.08 - stride, 0.09, -0.08 - stride, 0.0, 0.08, 0.11), _limb(0.08 + stride, 0.09, 0.08 + stride, 0.0, 0.08, 0.11)]
    dress = coat._replace(rgb=(coat.rgb[0] * 0.8, coat.rgb[1] * 0.8, coat.rgb[2] * 0.8))
    parts = [(legs[0], trousers), (legs[1], trousers), (feet[0], shoes), (feet[1], shoes), (far_arm, dress)]
    parts += [(torso, coat), (near_arm, dress), (head, skin), (cap, hair)]
    for shape, look in parts:
        points = [[x + size * u, _CAMERA_HEIGHT_M - size * h, z] for u, h in shape]
        canvas.facet(_array(points), look, semantic, front)


class _Frame(NamedTuple):
    """Places points given along and across an object's heading."""

    x: float
    z: float
    sin: float
    cos: float

    def place(self, points: list[tuple[float, float, float]] | list[list[float]]) -> Float:
        """Camera coordinates (V, 3) of points (forward, height, right) in metres."""
        s, c = self.sin, self.cos
        return _array([[self.x + f * s + r * c, _CAMERA_HEIGHT_M - h, self.z + f * c - r * s] for f, h, r in points])

    def towards(self, forward: float, up: float, right: float) -> Vector:
        return forward * self.sin + right * self.cos, -up, forward * self.cos - right * self.sin


def _bicycle(canvas: _Canvas, actor: _Actor, time_s: float) -> None:
    rng, semantic = random.Random(actor.style), _FIRST_OBJECT + 1
    x, z, yaw = actor.at(time_s)
    frame = _Frame(x, z, math.sin(yaw), math.cos(yaw))
    side = frame.towards(0, 0, 1)
    normal = side if side[0] * x + side[2] * z < 0 else frame.towards(0, 0, -1)
    heat = rng.uniform(0.09, 0.15) * rng.choice((-1, 1, 1))
    tyre = _Look((0.07, 0.07, 0.08), heat + 0.03, 0.0)
    steel = _Look((0.6, 0.62, 0.65), heat, 0.0)
    tube = _Look(_colour(rng, 0.2, 0.8, 0.4), heat, 0.0)
    turn = actor.speed * time_s / 0.34
    for hub in (-0.52, 0.52):
        ring = [(hub + 0.34 * c, 0.34 + 0.34 * s, 0.0) for c, s in [*_CIRCLE, _CIRCLE[0]]]
        spokes = [[(hub + 0.3 * math.cos(a), 0.34 - 0.3 * math.sin(a), 0.0), (hub - 0.3 * math.cos(a), 0.34 + 0.3 * math.sin(a), 0.0)]
                  for a in (turn, turn + 1.05, turn + 2.1)]
        canvas.strokes([frame.place(spoke) for spoke in spokes], 0.012, steel, semantic, normal)
        canvas.strokes([frame.place(ring)], 0.06, tyre, semantic, normal)
    diamond = [(-0.52, 0.34, 0.0), (-0.2, 0.82, 0.0), (0.36, 0.84, 0.0), (-0.05, 0.32, 0.0), (-0.52, 0.34, 0.0)]
    seat = [(-0.05, 0.32, 0.0), (-0.23, 0.95, 0.0)]
    fork = [(0.52, 0.34, 0.0), (0.34, 1.0, 0.0)]
    canvas.strokes([frame.place(diamond), frame.place(seat), frame.place(fork)], 0.06, tube, semantic, normal)
    bars = [frame.place([(0.34, 1.0, -0.25), (0.34, 1.0, 0.25)]), frame.place([(0.34, 1.0, 0.0), (0.5, 1.05, 0.0)])]
    canvas.strokes([*bars, frame.place([(-0.36, 0.96, 0.0), (-0.12, 0.96, 0.0)])], 0.07, tyre, semantic, normal)
    for along, height, glow in ((0.5, 0.9, (0.8, 0.8, 0.7)), (-0.6, 0.7, (0.7, 0.08, 0.05))):
        light = frame.place([(along, height, 0.0)])[0].tolist()
        canvas.disc((light[0], light[1], light[2]), 0.05, _Look((0.7, 0.3, 0.2), heat, 0.0, glow), semantic)


# Outline of a car seen from its side, (forward, height) in metres, clockwise from the rear bumper.
_CAR = [(-2.1, 0.3), (-2.12, 0.9), (-1.75, 1.0), (-1.35, 1.46), (0.3, 1.48), (1.0, 0.98), (1.95, 0.84), (2.1, 0.3)]
_CAR_PARTS = ("body", "body", "glass", "body", "glass", "bonnet", "body")  # what lies behind each edge of the outline


def _car(canvas: _Canvas, actor: _Actor, time_s: float) -> None:
    rng, semantic = random.Random(actor.style), _FIRST_OBJECT + 2
    x, z, yaw = actor.at(time_s)
    frame = _Frame(x, z, math.sin(yaw), math.cos(yaw))
    moving, half, tall = actor.speed > 0, 0.88, rng.uniform(0.95, 1.12)
    paint = _colour(rng, 0.1, 0.85, 0.12 if rng.random() < 0.5 else 0.4)
    own = rng.uniform(0.02, 0.1)
    looks = {
        "body": _Look(paint, own, 0.12),
        "glass": _Look((0.14, 0.17, 0.21), -0.1, 0.0),
        "bonnet": _Look(paint, 0.34 if moving else own, 0.12),
    }
    rubber = _Look((0.06, 0.06, 0.06), 0.36 if moving else 0.03, 0.02)
    outline = [(f, h * tall) for f, h in _CAR]
    viewer = -(x * frame.sin + z * frame.cos), -(x * frame.cos - z * frame.sin)  # the camera, (forward, right) of the car
    under = frame.place([(s * 1.3 + d, h, r * half * 0.9) for s in (-1, 1) for r in (-1, 1) for d, h in ((0, 0), (0, 0.4))])
    for i in range(0, 8, 2):  # tyres as seen from the front, mostly hidden behind the side
        foot = under[i]
        quad = _quad(foot[0] - 0.1, foot[0] + 0.1, foot[1], foot[1] - 0.4, foot[2], foot[2])
        canvas.facet(_array(quad), rubber, semantic, (0.0, 0.0, -1.0))
    order = sorted(range(len(_CAR_PARTS)), key=lambda i: -abs(viewer[0] - (outline[i][0] + outline[i + 1][0]) / 2))
    for i in order:
        (f0, h0), (f1, h1) = outline[i], outline[i + 1]
        length = math.hypot(f1 - f0, h1 - h0)
        n_forward, n_up = (h0 - h1) / length, (f1 - f0) / length
        if n_forward * (viewer[0] - f0) + n_up * (_CAMERA_HEIGHT_M - h0) <= 0:
            continue
        edge = frame.place([(f0, h0, -half), (f0, h0, half), (f1, h1, half), (f1, h1, -half)])
        canvas.facet(edge, looks[_CAR_PARTS[i]], semantic, frame.towards(n_forward, n_up, 0))
    for right in (-1.0, 1.0):
        if right * viewer[1] > half:
            _car_side(canvas, frame, right * half, outline, looks, rubber, semantic)
    _car_lights(canvas, frame, viewer[0], half, tall, moving or rng.random() < 0.15, semantic)


def _car_side(
    canvas: _Canvas, frame: _Frame, right: float, outline: list[tuple[float, float]], looks: dict[str, _Look],
    rubber: _Look, semantic: int,
) -> None:
    normal = frame.towards(0, 0, math.copysign(1.0, right))
    canvas.facet(frame.place([(f, h, right) for f, h in outline]), looks["body"], semantic, normal)
    low, high = outline[2][1] + 0.02, outline[3][1] - 0.1
    panes = [[(-1.55, low), (-1.28, high), (-0.5, high), (-0.5, low)], [(-0.4, low), (-0.4, high), (0.25, high), (0.8, low)]]
    for pane in panes:
        canvas.facet(frame.place([(f, h, right) for f, h in pane]), looks["glass"], semantic, normal)
    rim = _Look((0.5, 0.5, 0.52), 0.6 * rubber.heat, 0.02)
    for hub in (-1.3, 1.3):
        for radius, look in ((0.34, rubber), (0.17, rim)):
            wheel = frame.place([(hub + radius * c, 0.34 + radius * s, right) for c, s in _CIRCLE])
            canvas.facet(wheel, look, semantic, normal)


def _car_lights(
    canvas: _Canvas, frame: _Frame, viewer_forward: float, half: float, tall: float, is_lit: bool, semantic: int
) -> None:
    for end, rgb, glow in ((2.06, (0.85, 0.85, 0.8), (1.5, 1.45, 1.25)), (-2.13, (0.6, 0.08, 0.06), (0.9, 0.1, 0.06))):
        if (viewer_forward - end) * end <= 0:
            continue
        look = _Look(rgb, 0.1 if is_lit else 0.0, 0.05, glow if is_lit else None)
        lamps = [
            frame.place([(end, 0.58 * tall, r - 0.17), (end, 0.58 * tall, r + 0.17), (end, 0.76 * tall, r + 0.17), (end, 0.76 * tall, r - 0.17)])
            for r in (-half + 0.25, half - 0.25)
        ]
        canvas.facet(np.stack(lamps), look, semantic, frame.towards(math.copysign(1.0, end), 0, 0))
    if is_lit:
        ahead = frame.place([(4.2, 0.6, 0.0)])[0].tolist()
        canvas.lights.append(((ahead[0], ahead[1], ahead[2]), 2.0))


_PAINTERS = (_person, _bicycle, _car)
_HALF_WIDTH_M = (0.35, 0.8, 1.8)  # roughly, of each class
_ROOM_M = (0.3, 0.6, 1.5)  # that each class needs in depth


def _cast(canvas: _Canvas, rng: random.Random, centre_m: float, road_m: float, walk_m: float) -> list[_Actor]:
    """Place 1 to 6 objects of equally likely classes where they hide little of each other at time 0."""
    actors: list[_Actor] = []
    placed: list[tuple[float, float, float, int]] = []  # left and right as x / z, z, kind
    left, right = centre_m - road_m - walk_m + 0.6, centre_m + road_m + walk_m - 0.6
    for _ in range(rng.choice((1, 2, 3, 3, 4, 4, 5, 6))):
        kind = rng.choices((0, 1, 2), (1.0, 1.0, 1.15))[0]  # cars find less room
        for _attempt in range(12):
            actor = _place(canvas, rng, kind, centre_m, road_m, (left, right))
            half = _HALF_WIDTH_M[kind] / actor.z_m
            start, end = actor.x_m / actor.z_m - half, actor.x_m / actor.z_m + half
            hidden = 0.0
            for other_start, other_end, other_z, other_kind in placed:
                shared = min(end, other_end) - max(start, other_start)
                farther = end - start if other_z < actor.z_m else other_end - other_start
                if abs(other_z - actor.z_m) < _ROOM_M[kind] + _ROOM_M[other_kind] and shared > 0:
                    hidden = 1.0  # they would stand in each other
                hidden = max(hidden, shared / farther)
            if hidden < 0.45:
                actors.append(actor)
                placed.append((start, end, actor.z_m, kind))
                break
    return actors


def _place(
    canvas: _Canvas, rng: random.Random, kind: int, centre_m: float, road_m: float, walls_m: tuple[float, float]
) -> _Actor:
    near, far = ((4.0, 14.5), (3.5, 13.0), (6.5, 28.0))[kind]
    z = near * (far / near) ** rng.random()
    slope = 0.42 * canvas.width / canvas.focal  # x / z at which an object still is well inside the image
    style, is_moving, across = rng.getrandbits(30), rng.random() < 0.6, rng.random() < 0.5
    if kind == 2:
        kerb_m = road_m - 1.1
        walls_m = (centre_m - kerb_m, centre_m + kerb_m)
        z_side = 1.6 * (road_m + 2.0)  # nearer than this the houses are out of view: a crossing
        x_range = (-12.0 - z, 12.0 + z)
        if across:
            z = z if z < z_side or not is_moving else rng.uniform(7.0, z_side)
            yaw, speed = rng.choice((-1, 1)) * math.pi / 2, rng.uniform(3.0, 8.0) if is_moving else 0.0
            yaw += 0.0 if is_moving else rng.uniform(-0.7, 0.7)
        else:
            yaw, speed = rng.choice((0.0, math.pi)), rng.uniform(4.0, 10.0) if is_moving else 0.0
    else:
        yaw, speed = rng.choice((-1, 1)) * math.pi / 2, rng.uniform(0.8, 1.7) * (1 + kind) if is_moving else 0.0
        yaw += 0.0 if is_moving or not kind else rng.uniform(-0.8, 0.8)
        if kind == 0 and not across:
            yaw = rng.choice((0.0, math.pi))
        x_range = walls_m
    low, high = max(-slope * z, walls_m[0]), min(slope * z, walls_m[1])
    x = rng.uniform(min(low, high), max(low, high))
    return _Actor(kind, x, z, yaw, speed, x_range, style)


def _paint_object(canvas: _Canvas, actor: _Actor, time_s: float) -> _Box | None:
    """Paint an object over what is farther and measure its own silhouette; None where it is not in the image."""
    x, z, yaw = actor.at(time_s)
    along, across = ((0.0, 0.27), (0.86, 0.1), (2.1, 0.88))[actor.kind]  # half its length and width in metres
    half = along * abs(math.sin(yaw)) + across * abs(math.cos(yaw) if along else 1.0)
    if z - along * abs(math.cos(yaw)) - across < 0.8 or abs(x) - half > 0.5 * canvas.width / canvas.focal * (z + along):
        return None
    first = len(canvas.rows)
    _PAINTERS[actor.kind](canvas, actor, time_s)
    own = (canvas.index >= first).view(np.uint8)
    left, top, width, height = cv2.boundingRect(own)
    touches = left == 0 or left + width == canvas.index.shape[1]
    inside = width / (2 * half * canvas.focal / z * _FINE) if touches else 1.0
    xyxy = (left / _FINE, top / _FINE, (left + width) / _FINE, (top + height) / _FINE)
    return _Box(xyxy, inside, cv2.countNonZero(own))


@dataclass(frozen=True)
class _Street:
    """What stays the same when a frame has to be painted again without some of its objects."""

    background: NDArray[np.int16]
    rows: list[tuple[float, ...]]
    furniture: list[tuple[float, Callable[[_Canvas], None]]]  # z and what paints it there
    actors: list[_Actor]


def _build(canvas: _Canvas, rng: random.Random) -> _Street:
    centre, road, walk = rng.uniform(-1.5, 1.5), rng.uniform(3.2, 4.6), rng.uniform(2.0, 3.5)
    _ground(canvas, rng, centre, road)
    _walls(canvas, rng, centre - road - walk, centre + road + walk)
    furniture: list[tuple[float, Callable[[_Canvas], None]]] = []
    z, side, top = rng.uniform(9.0, 14.0), rng.choice((-1.0, 1.0)), rng.uniform(4.5, 6.0)
    for _ in range(3):
        furniture.append((z, partial(_lamp, x=centre + side * (road + 0.4), z=z, side=-side, top_m=top)))
        z, side = z + rng.uniform(7.0, 12.0), -side
    for _ in range(rng.randrange(4)):
        x, z = centre + rng.choice((-1.0, 1.0)) * (road + walk - 0.8), rng.uniform(9.0, 35.0)
        furniture.append((z, partial(_tree, style=rng.getrandbits(30), x=x, z=z)))
    return _Street(canvas.index.copy(), list(canvas.rows), furniture, _cast(canvas, rng, centre, road, walk))


def _paint(canvas: _Canvas, street: _Street, actors: list[_Actor], time_s: float) -> list[_Box | None]:
    """Paint lamps, trees and objects over the street from far to near; returns one box or None for each object."""
    np.copyto(canvas.index, street.background)
    canvas.rows, canvas.lights = list(street.rows), []
    boxes: list[_Box | None] = [None] * len(actors)
    order = [(z, 0, i) for i, (z, _) in enumerate(street.furniture)]
    order += [(actor.at(time_s)[1], 1, i) for i, actor in enumerate(actors)]
    for _, is_actor, i in sorted(order, reverse=True):
        canvas.instance = i + 1 if is_actor else 0
        if is_actor:
            boxes[i] = _paint_object(canvas, actors[i], time_s)
        else:
            street.furniture[i][1](canvas)
    return boxes


def _settle(canvas: _Canvas, street: _Street, time_s: float) -> tuple[list[_Actor], list[_Box]]:
    """Paint, leaving out every object that would be too small, too hidden or too far outside to be labelled."""
    actors = street.actors
    scale = canvas.focal / 144.0
    while True:
        boxes = _paint(canvas, street, actors, time_s)
        shown = np.bincount(canvas.index.ravel(), minlength=len(canvas.rows))
        owner = np.array([row[-1] for row in canvas.rows], np.intp)
        visible = np.bincount(owner, shown, len(actors) + 1)[1:].tolist()
        kept: list[tuple[_Actor, _Box]] = []
        for actor, box, seen in zip(actors, boxes, visible, strict=True):
            if box is None or box.inside < 0.4 or seen < _MIN_VISIBLE * box.drawn_px:
                continue
            x0, y0, x1, y1 = box.xyxy
            if x1 - x0 >= _MIN_BOX_PX[0] * scale and y1 - y0 >= _MIN_BOX_PX[1] * scale:
                kept.append((actor, box))
        if len(kept) == sum(b is not None for b in boxes):
            return [a for a, _ in kept], [b for _, b in kept]
        actors = [a for a, _ in kept]


class _Buffer(NamedTuple):
    """Per-pixel look-ups of the facet table at the final resolution, channels first as numpy runs fastest so."""

    semantic: NDArray[np.uint8]
    instance: Float
    glow: Float  # (3, H, W)
    normals: Float  # (3, H, W)
    depth_m: Float
    points: Float  # (3, H, W), camera coordinates of the surfaces


def _resolve(canvas: _Canvas, table: Float) -> _Buffer:
    index = canvas.index
    # Facets are numbered in the order of painting, so the maximum keeps thin tubes and poles whole.
    pairs = np.maximum(index[::2], index[1::2])
    facet = np.maximum(pairs[:, ::2], pairs[:, 1::2]).astype(np.intp)
    planes = table[:, 4:].T.copy().take(facet, axis=1)
    nx, ny, nz, offset, near, far = planes[3:9]
    ray_x = (np.arange(canvas.width, dtype=np.float32) + 0.5 - canvas.centre[0]) / np.float32(canvas.focal)
    ray_y = ((np.arange(canvas.height, dtype=np.float32) + 0.5 - canvas.centre[1]) / np.float32(canvas.focal))[:, None]
    facing = nx * ray_x + ny * ray_y + nz
    np.minimum(facing, -1e-6, out=facing)
    depth = np.clip(offset / facing, near, far)  # sky has near = far = 0
    points = np.stack((depth * ray_x, depth * ray_y, depth))
    return _Buffer(planes[9].astype(np.uint8), planes[10], planes[:3], planes[3:6], depth, points)


def _edges(buffer: _Buffer, focal: float) -> NDArray[np.uint8]:
    # A plane is linear in inverse depth, so a step above the ground's own slope is a gap between two surfaces.
    label = buffer.semantic + 16.0 * buffer.instance
    inverse = 1.0 / np.where(buffer.depth_m > 0, buffer.depth_m, 1e6).astype(np.float32)
    step = max(0.012, 1.5 / (focal * _CAMERA_HEIGHT_M))
    edges = np.zeros(label.shape, np.uint8)
    edges[:, 1:] |= (label[:, 1:] != label[:, :-1]) | (np.abs(inverse[:, 1:] - inverse[:, :-1]) > step)
    edges[1:] |= (label[1:] != label[:-1]) | (np.abs(inverse[1:] - inverse[:-1]) > step)
    return edges


def _lamplight(canvas: _Canvas, buffer: _Buffer, ego: float) -> Float:
    """Light (3, H, W) on the surfaces at night: the sky's glow, street lamps, cars and the camera's own headlights."""
    x, y, z = buffer.points
    nx, ny, nz = buffer.normals
    light = np.full(x.shape, 0.07, np.float32)
    for (lx, ly, lz), power in canvas.lights:
        dx, dy, dz = lx - x, ly - y, lz - z
        squared = dx * dx + dy * dy + dz * dz + 0.5
        cosine = np.maximum(nx * dx + ny * dy + nz * dz, 0) / np.sqrt(squared)
        light += power * (0.3 + 0.7 * cosine) / squared
    beam = ego * np.clip(1.0 + y, 0.0, 1.0) / (1.0 + 0.02 * z * z) / (1.0 + (2.5 * x / (z + 0.1)) ** 2)
    light += beam.astype(np.float32)
    np.minimum(light, 1.1, out=light)
    return np.stack((light * 1.05, light * 0.92, light * 0.72 + 0.015))


def _texture(rng: np.random.Generator, buffer: _Buffer) -> Float:
    """Noise (H, W) in about -1..1 that is fixed to the surfaces, finest at 12 cm, fading with distance."""
    tile = rng.standard_normal((64, 64), dtype=np.float32)
    tile = 0.5 * tile + 1.6 * cv2.GaussianBlur(tile, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT)
    x, y, z = buffer.points
    u, v = 8.0 * (x + 0.37 * z), 8.0 * (y + 0.61 * z)
    noise = cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return (noise * _GRAIN[buffer.semantic] / (1.0 + 0.05 * z)).astype(np.float32)


def _shadows(canvas: _Canvas, buffer: _Buffer, actors: list[_Actor], time_s: float) -> Float:
    """Share of light (H, W) that reaches the ground beneath the objects."""
    shade = np.ones(buffer.depth_m.shape, np.float32)
    for actor in actors:
        x, z, yaw = actor.at(time_s)
        length, width = ((0.35, 0.35), (0.9, 0.25), (2.3, 1.0))[actor.kind]
        frame = _Frame(x, z, math.sin(yaw), math.cos(yaw))
        outline = frame.place([(length * c, 0.0, width * s) for c, s in _CIRCLE])
        darkness = 0.5 if actor.kind == 2 else 0.7
        cv2.fillConvexPoly(shade, canvas.vertices(outline) // _FINE, darkness, shift=_SHIFT)
    shade[(buffer.semantic != _ROAD) & (buffer.semantic != _PAVEMENT)] = 1.0
    return cv2.blur(shade, (3, 3))


def _bloom(canvas: _Canvas, glow: Float, sun_at: tuple[float, float] | None) -> Float:
    """Light (3, H, W) that the lens spreads around lamps at night or around a low sun by day."""
    if sun_at is not None:
        x = (np.arange(canvas.width, dtype=np.float32) / canvas.width - sun_at[0]) ** 2
        y = (np.arange(canvas.height, dtype=np.float32) / canvas.height - sun_at[1])[:, None] ** 2
        squared = x + y
        flare = 0.35 * np.exp(squared / -0.1) + np.exp(squared / -0.003)
        return np.stack((flare, flare * 0.95, flare * 0.8))
    lamps = cv2.merge(list(glow))
    small = cv2.resize(lamps, (max(8, canvas.width // 4), max(8, canvas.height // 4)), interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), max(0.5, canvas.focal / 70))
    narrow = cv2.GaussianBlur(small, (0, 0), max(0.4, canvas.focal / 200))
    spread = cv2.resize(0.9 * wide + 0.5 * narrow, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
    return np.stack(cv2.split(lamps + spread))


def _expose_rgb(
    colour: Float, canvas: _Canvas, buffer: _Buffer, light: Float | None, bloom: Float, rng: random.Random
) -> Float:
    """The colour image (3, H, W) in 0..1 before noise: light, haze and sky, glare, white balance."""
    haze_m, tint = rng.uniform(60.0, 250.0), rng.uniform(-0.04, 0.04)
    overcast, exposure = rng.random(), rng.uniform(0.88, 1.08)
    above = np.clip(1.0 - np.arange(canvas.height, dtype=np.float32) / canvas.centre[1], 0.0, 1.0)[:, None]
    if canvas.is_day:
        zenith, horizon = (0.35 + 0.35 * overcast, 0.55 + 0.17 * overcast, 0.85 - 0.1 * overcast), (0.8, 0.83, 0.87)
    else:
        zenith, horizon = (0.015, 0.02, 0.05), (0.06, 0.055, 0.07)
    is_sky = buffer.semantic == _SKY
    clear = np.exp(buffer.depth_m * np.float32(-1.0 / haze_m))
    clear[is_sky] = 0.0
    height = np.where(is_sky, above, np.float32(0.0))
    image = colour * clear if light is None else colour * light * clear
    for channel, (h, t, gain) in enumerate(zip(horizon, zenith, (1.0 + tint, 1.0, 1.0 - tint), strict=True)):
        image[channel] += (1.0 - clear) * (h + (t - h) * height)
        image[channel] = (image[channel] + bloom[channel]) * (gain * exposure)
    return image


def _expose_ir(warmth: Float, canvas: _Canvas, buffer: _Buffer, rng: random.Random, noise: np.random.Generator) -> Float:
    """The thermal image (H, W) in 0..1 before temporal noise: air, optics, gain and the pattern of the sensor."""
    gain, level = rng.uniform(0.8, 1.05), rng.uniform(-0.04, 0.04)
    sky = rng.uniform(0.05, 0.25) if canvas.is_day else rng.uniform(0.02, 0.1)
    clear = np.exp(buffer.depth_m * np.float32(-1.0 / 150.0))
    image = np.where(buffer.semantic == _SKY, np.float32(sky), canvas.base + (warmth - canvas.base) * clear)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(0.3, 0.55 * canvas.focal / 144.0))
    columns = noise.standard_normal(canvas.width, dtype=np.float32) * np.float32(0.009)
    rows = noise.standard_normal((canvas.height, 1), dtype=np.float32) * np.float32(0.006)
    return (image * gain + (level + columns + rows)).astype(np.float32)


def _to_bytes(plane: Float) -> NDArray[np.uint8]:
    return np.asarray(np.clip(plane * 255.0 + 0.5, 0, 255), np.uint8)


def draw(seed: int, *, width: int = 160, height: int = 128, is_day: bool | None = None, time_s: float = 0.0) -> Scene:
    """Draw the street of a seed as it looks at a time, the same bytes for the same arguments.

    Objects move smoothly with time_s (seconds) while the camera stands still and its noise changes. is_day=None lets
    the seed choose; either choice shows the same geometry. Sizes are pixels from 32 upwards; seed is not negative.
    """
    if width < 32 or height < 32 or seed < 0:
        raise ValueError(f"need width and height >= 32 and seed >= 0, got {width}x{height} and seed {seed}")
    rng = random.Random(seed)
    chosen = rng.random() < 0.5
    is_day = chosen if is_day is None else is_day
    azimuth, elevation = rng.uniform(-math.pi, math.pi), rng.uniform(0.25, 1.1)
    flat = math.cos(elevation)
    canvas = _Canvas(width, height, is_day, (flat * math.sin(azimuth), -math.sin(elevation), flat * math.cos(azimuth)))
    street = _build(canvas, rng)
    actors, boxes = _settle(canvas, street, time_s)

    table = np.array(canvas.rows, np.float32)
    buffer = _resolve(canvas, table)
    fixed = np.random.Generator(np.random.SFC64([seed, 1]))
    moment = int(np.float64(time_s + 0.0).view(np.uint64))
    frame = np.random.Generator(np.random.SFC64([seed, 2, moment]))

    # One 32-bit look-up fetches red, green, blue and warmth at once.
    packed = np.rint(np.clip(table[:, :4], 0, 1) * 255).astype(np.uint8).view(np.uint32)[:, 0].take(canvas.index)
    fine = packed.view(np.uint8).reshape(*canvas.index.shape, 4)
    small = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    appearance = np.stack(cv2.split(small)) * np.float32(1 / 255)
    texture = _texture(fixed, buffer)
    ego = rng.choice((0.0, 0.25, 0.5))
    is_low_sun, sun_at = rng.random() < 0.25, (rng.random(), rng.uniform(0.0, 0.3))
    if is_day:
        light, bloom = None, _bloom(canvas, buffer.glow, sun_at) if is_low_sun else np.zeros(3, np.float32)
        relief = (1.0 + texture) * _shadows(canvas, buffer, actors, time_s)
    else:
        light, bloom = _lamplight(canvas, buffer, ego), _bloom(canvas, buffer.glow, None)
        relief = 1.0 + texture
    rgb = _expose_rgb(appearance[:3] * relief, canvas, buffer, light, bloom, rng)
    ir = _expose_ir(appearance[3] + np.float32(0.25) * texture, canvas, buffer, rng, fixed)
    grain = frame.standard_normal((4, height, width), dtype=np.float32)
    rgb += grain[:3] * np.float32(0.015 if is_day else 0.025)
    ir += grain[3] * np.float32(0.018)
    return Scene(
        rgb=cv2.merge([_to_bytes(plane) for plane in rgb]),
        ir=_to_bytes(ir),
        boxes=np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4),
        classes=np.array([actor.kind for actor in actors], np.int64),
        semantic=buffer.semantic,
        depth_m=buffer.depth_m,
        normals=cv2.merge(list(buffer.normals)),
        edges=_edges(buffer, canvas.focal),
        is_day=is_day,
    )
