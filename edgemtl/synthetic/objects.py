"""Appearance of persons, bicycles and cars."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np

from .canvas import BICYCLE, CAR, PERSON, Canvas, Look, random_colour
from .cast import Actor
from .geometry import CAMERA_HEIGHT_M, CIRCLE, FRONT, Pose, array, quad

Outline = list[tuple[float, float]]

_CAR_HALF_M = 0.88  # half the width
# Outline of a car seen from its side, (forward, height) in metres, clockwise from the rear bumper.
_CAR = [(-2.1, 0.3), (-2.12, 0.9), (-1.75, 1.0), (-1.35, 1.46), (0.3, 1.48), (1.0, 0.98), (1.95, 0.84), (2.1, 0.3)]
_CAR_PARTS = ("body", "body", "glass", "body", "glass", "bonnet", "body")  # what lies behind each edge of the outline


def paint(canvas: Canvas, actor: Actor, time_s: float) -> None:
    """Paint an object as it looks at a time."""
    (_person, _bicycle, _car)[actor.class_id](canvas, actor, time_s)


def _limb(x0: float, h0: float, x1: float, h1: float, wide0: float, wide1: float) -> Outline:
    return [(x0 - wide0, h0), (x0 + wide0, h0), (x1 + wide1, h1), (x1 - wide1, h1)]


def _person(canvas: Canvas, actor: Actor, time_s: float) -> None:
    rng, pose = random.Random(actor.style), actor.at(time_s)
    is_walking = actor.speed > 0
    size = rng.uniform(0.88, 1.08)
    phase = rng.uniform(0.0, 2 * math.pi) + 2 * math.pi * 0.9 * time_s * is_walking
    stride = (0.1 + 0.2 * abs(pose.sin)) * (math.sin(phase) if is_walking else 0.8)

    coat = Look(random_colour(rng, 0.1, 0.8, 0.3), rng.uniform(0.36, 0.46), 0.05)
    trousers = Look(random_colour(rng, 0.08, 0.5, 0.1), rng.uniform(0.32, 0.42), 0.05)
    tone = rng.uniform(0.35, 0.85)
    skin = Look((tone, tone * 0.78, tone * 0.66), 0.56, 0.05)
    hair = Look(random_colour(rng, 0.05, 0.3, 0.04), 0.44, 0.05)
    shoes = Look((0.1, 0.1, 0.1), 0.2, 0.05)
    sleeve = coat._replace(rgb=(coat.rgb[0] * 0.8, coat.rgb[1] * 0.8, coat.rgb[2] * 0.8))

    left, right = -0.08 - stride, 0.08 + stride  # where the feet are
    elbow = 0.27 + 0.03 * abs(math.sin(phase))
    parts = (
        (_limb(-0.07, 0.9, left, 0.0, 0.1, 0.07), trousers),
        (_limb(0.07, 0.9, right, 0.0, 0.1, 0.07), trousers),
        (_limb(left, 0.09, left, 0.0, 0.08, 0.11), shoes),
        (_limb(right, 0.09, right, 0.0, 0.08, 0.11), shoes),
        (_limb(-0.21, 1.42, -elbow, 0.82, 0.06, 0.05), sleeve),
        ([(-0.14, 1.47), (0.14, 1.47), (0.24, 1.38), (0.18, 0.82), (-0.18, 0.82), (-0.24, 1.38)], coat),
        (_limb(0.21, 1.42, elbow - 0.5 * stride, 0.82, 0.06, 0.05), sleeve),
        ([(0.125 * c, 1.62 + 0.14 * s) for c, s in CIRCLE], skin),
        ([(0.13 * c, 1.66 + 0.13 * s) for c, s in CIRCLE[:7]], hair),
    )
    for shape, look in parts:
        points = [[pose.x + size * u, CAMERA_HEIGHT_M - size * h, pose.z] for u, h in shape]
        canvas.facet(array(points), look, PERSON, FRONT)


def _bicycle(canvas: Canvas, actor: Actor, time_s: float) -> None:
    rng, pose = random.Random(actor.style), actor.at(time_s)
    side = pose.towards(0, 0, 1)
    normal = side if side[0] * pose.x + side[2] * pose.z < 0 else pose.towards(0, 0, -1)
    heat = rng.uniform(0.09, 0.15) * rng.choice((-1, 1, 1))
    tyre = Look((0.07, 0.07, 0.08), heat + 0.03, 0.0)
    steel = Look((0.6, 0.62, 0.65), heat, 0.0)
    tube = Look(random_colour(rng, 0.2, 0.8, 0.4), heat, 0.0)
    turn = actor.speed * time_s / 0.34
    for hub in (-0.52, 0.52):
        ring = [(hub + 0.34 * c, 0.34 + 0.34 * s, 0.0) for c, s in [*CIRCLE, CIRCLE[0]]]
        tips = [(0.3 * math.cos(a), 0.3 * math.sin(a)) for a in (turn, turn + 1.05, turn + 2.1)]
        spokes = [pose.to_camera([(hub + u, 0.34 - v, 0.0), (hub - u, 0.34 + v, 0.0)]) for u, v in tips]
        canvas.strokes(spokes, 0.012, steel, BICYCLE, normal)
        canvas.strokes([pose.to_camera(ring)], 0.06, tyre, BICYCLE, normal)
    diamond = [(-0.52, 0.34, 0.0), (-0.2, 0.82, 0.0), (0.36, 0.84, 0.0), (-0.05, 0.32, 0.0), (-0.52, 0.34, 0.0)]
    seat_tube = [(-0.05, 0.32, 0.0), (-0.23, 0.95, 0.0)]
    fork = [(0.52, 0.34, 0.0), (0.34, 1.0, 0.0)]
    canvas.strokes([pose.to_camera(line) for line in (diamond, seat_tube, fork)], 0.06, tube, BICYCLE, normal)
    bar = [(0.34, 1.0, -0.25), (0.34, 1.0, 0.25)]
    stem = [(0.34, 1.0, 0.0), (0.5, 1.05, 0.0)]
    saddle = [(-0.36, 0.96, 0.0), (-0.12, 0.96, 0.0)]
    canvas.strokes([pose.to_camera(line) for line in (bar, stem, saddle)], 0.07, tyre, BICYCLE, normal)
    for forward, height, glow in ((0.5, 0.9, (0.8, 0.8, 0.7)), (-0.6, 0.7, (0.7, 0.08, 0.05))):
        canvas.disc(pose.point(forward, height, 0.0), 0.05, Look((0.7, 0.3, 0.2), heat, 0.0, glow), BICYCLE)


def _car(canvas: Canvas, actor: Actor, time_s: float) -> None:
    rng, pose = random.Random(actor.style), actor.at(time_s)
    is_moving, half, tall = actor.speed > 0, _CAR_HALF_M, rng.uniform(0.95, 1.12)
    outline = [(f, h * tall) for f, h in _CAR]
    colour = random_colour(rng, 0.1, 0.85, 0.12 if rng.random() < 0.5 else 0.4)
    heat = rng.uniform(0.02, 0.1)
    looks = {
        "body": Look(colour, heat, 0.12),
        "glass": Look((0.14, 0.17, 0.21), -0.1, 0.0),
        "bonnet": Look(colour, 0.34 if is_moving else heat, 0.12),
        "tyre": Look((0.06, 0.06, 0.06), 0.36 if is_moving else 0.03, 0.02),
    }
    # Where the camera is, forward and right of the car.
    viewer = -(pose.x * pose.sin + pose.z * pose.cos), -(pose.x * pose.cos - pose.z * pose.sin)
    # Tyres as seen from the front or the back, mostly occluded by the body.
    for x, y, z in pose.to_camera([(s * 1.3, 0.0, r * half * 0.9) for s in (-1, 1) for r in (-1, 1)]).tolist():
        canvas.facet(array(quad(x - 0.1, x + 0.1, y, y - 0.4, z, z)), looks["tyre"], CAR, FRONT)
    # The panels across the car, those that the camera sees, from far to near.
    panels = [(a, b, looks[part]) for (a, b), part in zip(pairwise(outline), _CAR_PARTS, strict=True)]
    panels.sort(key=lambda panel: -abs(viewer[0] - (panel[0][0] + panel[1][0]) / 2))
    for (f0, h0), (f1, h1), look in panels:
        length = math.hypot(f1 - f0, h1 - h0)
        n_forward, n_up = (h0 - h1) / length, (f1 - f0) / length
        if n_forward * (viewer[0] - f0) + n_up * (CAMERA_HEIGHT_M - h0) > 0:
            panel = pose.to_camera([(f0, h0, -half), (f0, h0, half), (f1, h1, half), (f1, h1, -half)])
            canvas.facet(panel, look, CAR, pose.towards(n_forward, n_up, 0))
    for side in (-1.0, 1.0):
        if side * viewer[1] > half:
            _car_side(canvas, pose, side, outline, looks)
    _car_lights(canvas, pose, viewer[0], tall, is_moving or rng.random() < 0.15)


def _car_side(canvas: Canvas, pose: Pose, side: float, outline: Outline, looks: dict[str, Look]) -> None:
    right, normal = side * _CAR_HALF_M, pose.towards(0, 0, side)
    canvas.facet(pose.to_camera([(f, h, right) for f, h in outline]), looks["body"], CAR, normal)
    low, high = outline[2][1] + 0.02, outline[3][1] - 0.1
    rear = [(-1.55, low), (-1.28, high), (-0.5, high), (-0.5, low)]
    front = [(-0.4, low), (-0.4, high), (0.25, high), (0.8, low)]
    for pane in (rear, front):
        canvas.facet(pose.to_camera([(f, h, right) for f, h in pane]), looks["glass"], CAR, normal)
    rim = Look((0.5, 0.5, 0.52), 0.6 * looks["tyre"].heat, 0.02)
    for hub in (-1.3, 1.3):
        for radius, look in ((0.34, looks["tyre"]), (0.17, rim)):
            wheel = [(hub + radius * c, 0.34 + radius * s, right) for c, s in CIRCLE]
            canvas.facet(pose.to_camera(wheel), look, CAR, normal)


def _car_lights(canvas: Canvas, pose: Pose, viewer_forward: float, tall: float, is_lit: bool) -> None:
    low, high = 0.58 * tall, 0.76 * tall
    for end, rgb, glow in ((2.06, (0.85, 0.85, 0.8), (1.5, 1.45, 1.25)), (-2.13, (0.6, 0.08, 0.06), (0.9, 0.1, 0.06))):
        if (viewer_forward - end) * end <= 0:
            continue
        look = Look(rgb, 0.1 if is_lit else 0.0, 0.05, glow if is_lit else None)
        lamps = [
            pose.to_camera([(end, low, r - 0.17), (end, low, r + 0.17), (end, high, r + 0.17), (end, high, r - 0.17)])
            for r in (-_CAR_HALF_M + 0.25, _CAR_HALF_M - 0.25)
        ]
        canvas.facet(np.stack(lamps), look, CAR, pose.towards(math.copysign(1.0, end), 0, 0))
    if is_lit:
        canvas.lights.append((pose.point(4.2, 0.6, 0.0), 2.0))
