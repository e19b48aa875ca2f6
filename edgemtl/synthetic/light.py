"""From surfaces to images: texture, shadows, lamplight and glare, then the exposure and noise of both cameras."""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import FINE, PAVEMENT, ROAD, SHIFT, SKY, Canvas
from .cast import Actor
from .geometry import CIRCLE, Float
from .surfaces import Surfaces

_GRAIN = np.array([0.0, 0.12, 0.35, 0.12, 0.15, 0.04, 0.0, 0.03], np.float32)  # surface texture of each semantic class
# Half length and half width in metres of the shadow of each class, and the light that is left in it.
_SHADOWS = ((0.35, 0.35, 0.7), (0.9, 0.25, 0.7), (2.3, 1.0, 0.5))


def texture(surfaces: Surfaces, rng: np.random.Generator) -> Float:
    """Noise (H, W) in about -1..1 that is fixed to the surfaces, finest at 12 cm, fading with distance."""
    tile = rng.standard_normal((64, 64), dtype=np.float32)
    tile = 0.5 * tile + 1.6 * cv2.GaussianBlur(tile, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT)
    x, y, z = surfaces.points
    u, v = 8.0 * (x + 0.37 * z), 8.0 * (y + 0.61 * z)
    noise = cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(noise * _GRAIN[surfaces.semantic] / (1.0 + 0.05 * z), np.float32)


def shadows(canvas: Canvas, surfaces: Surfaces, actors: list[Actor], time_s: float) -> Float:
    """Share of light (H, W) that reaches the ground beneath the objects."""
    share = np.ones(surfaces.depth_m.shape, np.float32)
    for actor in actors:
        length, width, left_over = _SHADOWS[actor.class_id]
        outline = actor.at(time_s).to_camera([(length * c, 0.0, width * s) for c, s in CIRCLE])
        cv2.fillConvexPoly(share, canvas.vertices(outline) // FINE, left_over, shift=SHIFT)
    share[(surfaces.semantic != ROAD) & (surfaces.semantic != PAVEMENT)] = 1.0
    return np.asarray(cv2.blur(share, (3, 3)), np.float32)


def lamplight(canvas: Canvas, surfaces: Surfaces, headlights: float) -> Float:
    """Light (3, H, W) on the surfaces at night: the sky's glow, street lamps, cars and the camera's own headlights."""
    x, y, z = surfaces.points
    nx, ny, nz = surfaces.normals
    light = np.full(x.shape, 0.07, np.float32)
    for (lx, ly, lz), power in canvas.lights:
        dx, dy, dz = lx - x, ly - y, lz - z
        squared = dx * dx + dy * dy + dz * dz + 0.5
        cosine = np.maximum(nx * dx + ny * dy + nz * dz, 0) / np.sqrt(squared)
        light += power * (0.3 + 0.7 * cosine) / squared
    beam = headlights * np.clip(1.0 + y, 0.0, 1.0) / (1.0 + 0.02 * z * z) / (1.0 + (2.5 * x / (z + 0.1)) ** 2)
    light += beam.astype(np.float32)
    np.minimum(light, 1.1, out=light)
    return np.stack((light * 1.05, light * 0.92, light * 0.72 + 0.015))


def flare(canvas: Canvas, sun_x: float, sun_y: float) -> Float:
    """Light (3, H, W) that the lens spreads around a low sun at this share of the width and height."""
    x = (np.arange(canvas.width, dtype=np.float32) / canvas.width - sun_x) ** 2
    y = (np.arange(canvas.height, dtype=np.float32) / canvas.height - sun_y)[:, None] ** 2
    squared = x + y
    light = 0.35 * np.exp(squared / -0.1) + np.exp(squared / -0.003)
    return np.stack((light, light * 0.95, light * 0.8))


def bloom(canvas: Canvas, glow: Float) -> Float:
    """Light (3, H, W) of the lamps themselves, and what the lens spreads around them at night."""
    lamps = cv2.merge(list(glow))
    small = cv2.resize(lamps, (max(8, canvas.width // 4), max(8, canvas.height // 4)), interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), max(0.5, canvas.focal / 70))
    narrow = cv2.GaussianBlur(small, (0, 0), max(0.4, canvas.focal / 200))
    halo = cv2.resize(0.9 * wide + 0.5 * narrow, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
    return np.stack(cv2.split(lamps + halo))


def expose_rgb(lit: Float, glare: Float, canvas: Canvas, surfaces: Surfaces, rng: random.Random) -> Float:
    """The colour image (3, H, W) in 0..1 before noise from lit surfaces: haze and sky, glare, white balance."""
    haze_m, tint = rng.uniform(60.0, 250.0), rng.uniform(-0.04, 0.04)
    overcast, exposure = rng.random(), rng.uniform(0.88, 1.08)
    if canvas.is_day:
        zenith, horizon = (0.35 + 0.35 * overcast, 0.55 + 0.17 * overcast, 0.85 - 0.1 * overcast), (0.8, 0.83, 0.87)
    else:
        zenith, horizon = (0.015, 0.02, 0.05), (0.06, 0.055, 0.07)
    is_sky = surfaces.semantic == SKY
    clear = np.exp(surfaces.depth_m * np.float32(-1.0 / haze_m))
    clear[is_sky] = 0.0
    above = np.clip(1.0 - np.arange(canvas.height, dtype=np.float32) / canvas.centre[1], 0.0, 1.0)[:, None]
    height = np.where(is_sky, above, np.float32(0.0))
    image: Float = lit * clear
    for channel, (h, t, gain) in enumerate(zip(horizon, zenith, (1.0 + tint, 1.0, 1.0 - tint), strict=True)):
        image[channel] += (1.0 - clear) * (h + (t - h) * height)
        image[channel] = (image[channel] + glare[channel]) * (gain * exposure)
    return image


def expose_ir(
    warmth: Float, canvas: Canvas, surfaces: Surfaces, rng: random.Random, noise: np.random.Generator
) -> Float:
    """The thermal image (H, W) in 0..1 before temporal noise: air, optics, gain and the pattern of the sensor."""
    gain, level = rng.uniform(0.8, 1.05), rng.uniform(-0.04, 0.04)
    sky = rng.uniform(0.05, 0.25) if canvas.is_day else rng.uniform(0.02, 0.1)
    clear = np.exp(surfaces.depth_m * np.float32(-1.0 / 150.0))
    image = np.where(surfaces.semantic == SKY, np.float32(sky), canvas.base + (warmth - canvas.base) * clear)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(0.3, 0.55 * canvas.focal / 144.0))
    columns = noise.standard_normal(canvas.width, dtype=np.float32) * np.float32(0.009)
    rows = noise.standard_normal((canvas.height, 1), dtype=np.float32) * np.float32(0.006)
    return (image * gain + (level + columns + rows)).astype(np.float32)


def sensor_noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> Float:
    """Nearly normal noise of unit deviation: the sum of three random bytes, which is faster than normal numbers."""
    dice = np.frombuffer(rng.bytes(3 * math.prod(shape)), np.uint8).reshape(3, *shape)
    total = dice[0].astype(np.float32) + dice[1] + dice[2]
    return np.asarray((total - 382.5) * np.float32(1 / 128), np.float32)


def to_bytes(image: Float) -> NDArray[np.uint8]:
    """Return an image of 0 to 1 in 8 bits."""
    return np.asarray(np.clip(image * 255.0 + 0.5, 0, 255), np.uint8)
