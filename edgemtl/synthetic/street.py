"""The static scene: ground, houses and hedges, which are the backdrop, and the lamps and trees along the street."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .canvas import BUILDING, FINE, PAVEMENT, ROAD, VEGETATION, Canvas, Look, random_colour
from .geometry import CAMERA_HEIGHT_M, FRONT, Polygon, array, quad

_END_M = 70.0  # where the street ends


@dataclass(frozen=True)
class Street:
    """The static part of a scene, kept for painting a frame again without some of its objects."""

    centre_m: float  # x of the middle of the road
    road_m: float  # half the width of the road
    walk_m: float  # the width of the pavement on each side
    background: NDArray[np.int16]
    rows: list[tuple[float, ...]]
    furniture: list[tuple[float, Callable[[Canvas], None]]]  # z and the function that paints it


def build_street(canvas: Canvas, rng: random.Random) -> Street:
    """Paint the backdrop and choose where lamps and trees stand."""
    centre, road, walk = rng.uniform(-1.5, 1.5), rng.uniform(3.2, 4.6), rng.uniform(2.0, 3.5)
    _ground(canvas, rng, centre, road)
    _walls(canvas, rng, centre - road - walk, centre + road + walk)
    furniture: list[tuple[float, Callable[[Canvas], None]]] = []
    z, side, top = rng.uniform(9.0, 14.0), rng.choice((-1.0, 1.0)), rng.uniform(4.5, 6.0)
    for _ in range(3):
        furniture.append((z, partial(_lamp, x=centre + side * (road + 0.4), z=z, side=-side, top_m=top)))
        z, side = z + rng.uniform(7.0, 12.0), -side
    for _ in range(rng.randrange(4)):
        x, z = centre + rng.choice((-1.0, 1.0)) * (road + walk - 0.8), rng.uniform(9.0, 35.0)
        furniture.append((z, partial(_tree, style=rng.getrandbits(30), x=x, z=z)))
    return Street(centre, road, walk, canvas.index.copy(), list(canvas.rows), furniture)


def _ground(canvas: Canvas, rng: random.Random, centre_m: float, road_m: float) -> None:
    up, y = (0.0, -1.0, 0.0), CAMERA_HEIGHT_M
    near = min(1.0, 0.8 * canvas.focal * y / (canvas.height - canvas.centre[1]))

    level = rng.uniform(0.45, 0.62)
    pavement = Look((level, level * 0.97, level * 0.92), rng.uniform(-0.03, 0.05), 0.22)
    below_horizon = canvas.index[round(FINE * canvas.centre[1]) :]
    below_horizon[:] = canvas.add(pavement, PAVEMENT, up, array(quad(-1, 1, y, y, near, 2 * _END_M)))

    level = rng.uniform(0.26, 0.38)
    asphalt = Look((level, level, level * 1.04), rng.uniform(0.0, 0.08), 0.26)
    left, right = centre_m - road_m, centre_m + road_m
    canvas.facet(array(quad(left, right, y, y, near, 2 * _END_M)), asphalt, ROAD, up)

    dash, gap = rng.uniform(1.5, 3.0), rng.uniform(2.0, 4.0)
    first = near + rng.uniform(0.0, gap)
    starts = [first + i * (dash + gap) for i in range(9)]
    marks = [quad(centre_m - 0.07, centre_m + 0.07, y, y, z, z + dash) for z in starts]
    if rng.random() < 0.25:  # a zebra crossing instead
        z = rng.uniform(6.0, 16.0)
        marks = [quad(left + i + 0.25, left + i + 0.75, y, y, z, z + 2.5) for i in range(int(2 * road_m))]
    canvas.facet(array(marks), Look((0.78, 0.78, 0.74), asphalt.heat - 0.03, 0.2), ROAD, up)

    kerbs = [quad(x - 0.1, x + 0.1, y, y, near, _END_M) for x in (left, right)]
    canvas.facet(array(kerbs), Look((0.6, 0.6, 0.58), 0.02), PAVEMENT, up)


def _walls(canvas: Canvas, rng: random.Random, left_m: float, right_m: float) -> None:
    """The backdrop where the street ends and the rows of houses and hedges on both sides."""
    y = CAMERA_HEIGHT_M
    house = Look(random_colour(rng, 0.3, 0.6, 0.06), rng.uniform(-0.05, 0.08))
    woods = Look((0.2, 0.34, 0.15), 0.0, 0.08)
    backdrop = array(quad(-300, 300, y, y - rng.uniform(5, 12), _END_M, _END_M))
    look, semantic = (woods, VEGETATION) if rng.random() < 0.5 else (house, BUILDING)
    canvas.facet(backdrop, look, semantic, FRONT)
    for x, side in ((left_m, 1.0), (right_m, -1.0)):
        z1 = _END_M
        while z1 > 3.0:
            z0 = max(2.0, z1 - rng.uniform(9.0, 20.0))
            is_hedge = rng.random() < 0.22
            top = y - (rng.uniform(1.6, 3.5) if is_hedge else rng.uniform(6.0, 16.0))
            colour, shade = random_colour(rng, 0.3, 0.75, 0.09), rng.uniform(0.8, 1.2)
            wall = Look(colour, rng.uniform(-0.06, 0.1), rng.uniform(0.1, 0.32))
            hedge = Look((0.2 * shade, 0.36 * shade, 0.14 * shade), rng.uniform(-0.03, 0.03), 0.08)
            look, semantic = (hedge, VEGETATION) if is_hedge else (wall, BUILDING)
            canvas.facet(array(quad(x, x, y, top, z0, z1)), look, semantic, (side, 0.0, 0.0))
            gable = array(quad(x, x - 15.0 * side, y, top, z0, z0))
            canvas.facet(gable, look, semantic, FRONT)
            if not is_hedge and z0 < 45.0:
                _windows(canvas, rng, x, side, top, z0, z1)
            z1 = z0


def _windows(canvas: Canvas, rng: random.Random, x: float, side: float, top: float, z0: float, z1: float) -> None:
    width, step = rng.uniform(0.9, 1.5), rng.uniform(2.2, 3.2)
    dark: list[Polygon] = []
    lit: list[Polygon] = []
    y = CAMERA_HEIGHT_M - 1.0
    while y - 1.6 > max(top, -7.0):
        z = z0 + 0.6
        while z + width < z1:
            (lit if rng.random() < 0.22 else dark).append(quad(x, x, y, y - 1.5, z, z + width))
            z += step
        y -= 3.0
    dark_glass = Look((0.2, 0.24, 0.3), -0.08, 0.05)
    lit_glass = Look((0.3, 0.34, 0.4), 0.06, 0.05, glow=(0.75, 0.6, 0.3))
    for panes, look in ((dark, dark_glass), (lit, lit_glass)):
        if panes:
            canvas.facet(array(panes), look, BUILDING, (side, 0.0, 0.0))


def _lamp(canvas: Canvas, x: float, z: float, side: float, top_m: float) -> None:
    ground, top, end = CAMERA_HEIGHT_M, CAMERA_HEIGHT_M - top_m, x + side * 1.2
    pole = quad(x - 0.06, x + 0.06, ground, top, z, z)
    arm = quad(min(x, end), max(x, end), top, top - 0.1, z, z)
    canvas.facet(array([pole, arm]), Look((0.3, 0.32, 0.33), -0.02), BUILDING, FRONT)
    head = quad(end - 0.3, end + 0.3, top + 0.12, top - 0.05, z, z)
    canvas.facet(array(head), Look((0.6, 0.6, 0.58), 0.1, glow=(1.3, 1.05, 0.6)), BUILDING, FRONT)
    canvas.lights.append(((end, top, z), 22.0))


def _tree(canvas: Canvas, style: int, x: float, z: float) -> None:
    rng = random.Random(style)
    ground = CAMERA_HEIGHT_M
    top = ground - rng.uniform(3.5, 6.0)
    trunk = array(quad(x - 0.13, x + 0.13, ground, top + 1.0, z, z))
    canvas.facet(trunk, Look((0.3, 0.22, 0.15), 0.03, 0.1), VEGETATION, FRONT)
    for i in range(8):
        shade = 0.7 + 0.07 * i
        leaf = Look((0.2 * shade, 0.38 * shade, 0.13 * shade), rng.uniform(-0.03, 0.04), 0.06)
        centre = (x + rng.uniform(-0.9, 0.9), top + rng.uniform(-0.6, 1.3) - 0.1 * i, z)
        canvas.disc(centre, rng.uniform(0.6, 1.1), leaf, VEGETATION)
