"""Random objects of a street: their classes, poses and motion."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from .canvas import Canvas
from .geometry import Pose
from .street import Street

_PERSON, _BICYCLE, _CAR = range(3)  # indices into CLASSES
_DEPTHS_M = ((4.0, 14.5), (3.5, 13.0), (6.5, 28.0))  # nearest and farthest of each class
_HALF_WIDTH_M = (0.35, 0.8, 1.8)  # roughly, of each class
_ROOM_M = (0.3, 0.6, 1.5)  # depth that each class needs
_MAX_HIDDEN = 0.45  # share of one object's width behind another


@dataclass(frozen=True)
class Actor:
    """A person, a bicycle or a car."""

    class_id: int  # index into CLASSES
    x_m: float
    z_m: float
    yaw: float  # heading, 0 is away from the camera, +pi/2 is to the right
    speed: float  # m/s along the heading
    x_range_m: tuple[float, float]
    style: int  # seeds colours, build and gait

    def at(self, time_s: float) -> Pose:
        """Return the pose at a time: persons and bicycles turn round at walls, a car that leaves comes back far off."""
        near, far = 3.0, 60.0
        z = self.z_m + self.speed * math.cos(self.yaw) * time_s
        if not near <= z <= far:
            z = near + (z - near) % (far - near)
        low, high = self.x_range_m
        x, yaw = self.x_m + self.speed * math.sin(self.yaw) * time_s, self.yaw
        if not low <= x <= high:
            if self.class_id == _CAR:  # drives on and comes back from the other side
                x = low + (x - low) % (high - low)
            else:
                travelled = (x - low) % (2 * (high - low))
                if travelled > high - low:
                    travelled, yaw = 2 * (high - low) - travelled, -yaw
                x = low + travelled
        return Pose(x, z, math.sin(yaw), math.cos(yaw))


def choose_actors(canvas: Canvas, rng: random.Random, street: Street) -> list[Actor]:
    """Place 1 to 6 objects of equally likely classes where they hide little of each other at time 0."""
    actors: list[Actor] = []
    for _ in range(rng.choice((1, 2, 3, 3, 4, 4, 5, 6))):
        class_id = rng.choices((_PERSON, _BICYCLE, _CAR), (1.0, 1.0, 1.15))[0]  # cars find less room
        for _attempt in range(12):
            actor = _random_actor(canvas, rng, class_id, street)
            if all(_are_separate(actor, other) for other in actors):
                actors.append(actor)
                break
    return actors


def _are_separate(a: Actor, b: Actor) -> bool:
    """Whether neither stands in the other and the nearer one leaves enough of the farther one in view."""
    (a_start, a_end), (b_start, b_end) = _view(a), _view(b)
    shared = min(a_end, b_end) - max(a_start, b_start)
    if abs(b.z_m - a.z_m) < _ROOM_M[a.class_id] + _ROOM_M[b.class_id] and shared > 0:
        return False
    farther = a_end - a_start if b.z_m < a.z_m else b_end - b_start
    return shared / farther < _MAX_HIDDEN


def _view(actor: Actor) -> tuple[float, float]:
    """Left and right end in the image, as x / z."""
    half = _HALF_WIDTH_M[actor.class_id] / actor.z_m
    return actor.x_m / actor.z_m - half, actor.x_m / actor.z_m + half


def _random_actor(canvas: Canvas, rng: random.Random, class_id: int, street: Street) -> Actor:
    near, far = _DEPTHS_M[class_id]
    z = near * (far / near) ** rng.random()
    slope = 0.42 * canvas.width / canvas.focal  # x / z at which an object still is well inside the image
    style, is_moving, across = rng.getrandbits(30), rng.random() < 0.6, rng.random() < 0.5
    centre, road = street.centre_m, street.road_m
    if class_id == _CAR:
        kerb = road - 1.1
        left, right = centre - kerb, centre + kerb
        z_side = 1.6 * (road + 2.0)  # nearer than this the houses are out of view: a crossing
        x_range = (-12.0 - z, 12.0 + z)
        if across:
            if is_moving and z >= z_side:
                z = rng.uniform(7.0, z_side)
            yaw, speed = rng.choice((-1, 1)) * math.pi / 2, rng.uniform(3.0, 8.0) if is_moving else 0.0
            if not is_moving:
                yaw += rng.uniform(-0.7, 0.7)
        else:
            yaw, speed = rng.choice((0.0, math.pi)), rng.uniform(4.0, 10.0) if is_moving else 0.0
    else:
        left, right = centre - road - street.walk_m + 0.6, centre + road + street.walk_m - 0.6
        x_range = (left, right)
        yaw, speed = rng.choice((-1, 1)) * math.pi / 2, rng.uniform(0.8, 1.7) * (1 + class_id) if is_moving else 0.0
        if class_id == _BICYCLE and not is_moving:
            yaw += rng.uniform(-0.8, 0.8)
        if class_id == _PERSON and not across:
            yaw = rng.choice((0.0, math.pi))
    low, high = max(-slope * z, left), min(slope * z, right)
    x = rng.uniform(min(low, high), max(low, high))
    return Actor(class_id, x, z, yaw, speed, x_range, style)
