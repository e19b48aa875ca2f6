"""Synthetic street scenes by day and by night, rendered for a colour and a thermal camera, with exact labels."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import light
from .canvas import CLASSES, SEMANTIC_CLASSES, Canvas
from .cast import choose_actors
from .painting import paint_visible
from .street import build_street
from .surfaces import edges, look_up

__all__ = ["CLASSES", "SEMANTIC_CLASSES", "Scene", "draw"]


@dataclass(frozen=True)
class Scene:
    """One frame of a street with its labels for every task.

    rgb (H, W, 3) and ir (H, W, warmer is brighter) are uint8. boxes (N, 4) are xyxy in pixels around each object's
    silhouette, also where a nearer one occludes it, clipped to the image; classes (N,) index CLASSES; N may be 0.
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


def draw(seed: int, *, width: int = 160, height: int = 128, is_day: bool | None = None, time_s: float = 0.0) -> Scene:
    """Draw the street of a seed as it looks at a time, the same bytes for the same arguments.

    Objects move smoothly with time_s (seconds) while the camera stands still and its noise changes. is_day=None lets
    the seed choose; either shows the same geometry. Sizes are pixels from 32 upwards; seed is not negative.
    """
    if width < 32 or height < 32 or seed < 0:
        raise ValueError(f"need width and height >= 32 and seed >= 0, got {width}x{height} and seed {seed}")
    rng = random.Random(seed)
    random_is_day = rng.random() < 0.5
    is_day = random_is_day if is_day is None else is_day
    azimuth, elevation = rng.uniform(-math.pi, math.pi), rng.uniform(0.25, 1.1)
    flat = math.cos(elevation)
    sun = (flat * math.sin(azimuth), -math.sin(elevation), flat * math.cos(azimuth))

    # The geometry.
    canvas = Canvas(width, height, is_day, sun)
    street = build_street(canvas, rng)
    candidates = choose_actors(canvas, rng, street)
    actors, boxes = paint_visible(canvas, street, candidates, time_s)
    surfaces = look_up(canvas)

    # The light.
    fixed_noise = np.random.Generator(np.random.SFC64([seed, 1]))
    texture = light.texture(surfaces, fixed_noise)
    headlights = rng.choice((0.0, 0.25, 0.5))
    is_low_sun, sun_at = rng.random() < 0.25, (rng.random(), rng.uniform(0.0, 0.3))
    if is_day:
        lit = surfaces.colour * ((1.0 + texture) * light.shadows(canvas, surfaces, actors, time_s))
        glare = light.flare(canvas, *sun_at) if is_low_sun else np.zeros(3, np.float32)
    else:
        lit = surfaces.colour * (1.0 + texture) * light.lamplight(canvas, surfaces, headlights)
        glare = light.bloom(canvas, surfaces.glow)

    # The cameras.
    rgb = light.expose_rgb(lit, glare, canvas, surfaces, rng)
    ir = light.expose_ir(surfaces.warmth + np.float32(0.25) * texture, canvas, surfaces, rng, fixed_noise)
    time_bits = int(np.float64(time_s + 0.0).view(np.uint64))  # adding 0.0 makes -0.0 the same as 0.0
    noise = light.sensor_noise(np.random.Generator(np.random.SFC64([seed, 2, time_bits])), (4, height, width))
    rgb += noise[:3] * np.float32(0.015 if is_day else 0.025)
    ir += noise[3] * np.float32(0.018)
    return Scene(
        rgb=np.asarray(cv2.merge([light.to_bytes(plane) for plane in rgb]), np.uint8),
        ir=light.to_bytes(ir),
        boxes=np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4),
        classes=np.array([actor.class_id for actor in actors], np.int64),
        semantic=surfaces.semantic,
        depth_m=surfaces.depth_m,
        normals=np.asarray(cv2.merge(list(surfaces.normals)), np.float32),
        edges=edges(surfaces, canvas.focal),
        is_day=is_day,
    )
