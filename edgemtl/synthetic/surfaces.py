"""Surface attributes of each pixel, looked up in the canvas's table of facets at the final resolution."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas
from .geometry import CAMERA_HEIGHT_M, Float


class Surfaces(NamedTuple):
    """The surface in each pixel, channels first as numpy runs fastest so; colour and warmth are antialiased."""

    colour: Float  # (3, H, W)
    warmth: Float
    semantic: NDArray[np.uint8]
    instance: Float
    glow: Float  # (3, H, W)
    normals: Float  # (3, H, W)
    depth_m: Float
    points: Float  # (3, H, W), camera coordinates


def facets(index: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the facet that each pixel is labelled by, from the facets at twice the resolution."""
    # Facets are numbered in the order of painting, so the maximum keeps thin tubes and poles whole.
    pairs: NDArray[np.int16] = np.maximum(index[::2], index[1::2])
    return np.maximum(pairs[:, ::2], pairs[:, 1::2])


def look_up(canvas: Canvas) -> Surfaces:
    """Return what each pixel of the camera shows: colours are means over the finer canvas."""
    table, index = np.array(canvas.rows, np.float32), canvas.index
    # One 32-bit look-up fetches red, green, blue and warmth at once.
    packed = np.rint(np.clip(table[:, :4], 0, 1) * 255).astype(np.uint8).view(np.uint32)[:, 0].take(index)
    fine = packed.view(np.uint8).reshape(*index.shape, 4)
    small = cv2.resize(fine, (canvas.width, canvas.height), interpolation=cv2.INTER_AREA)
    appearance = np.stack(cv2.split(small)) * np.float32(1 / 255)

    facet = facets(index).astype(np.intp)
    planes = table[:, 4:].T.copy().take(facet, axis=1)
    nx, ny, nz, offset, near, far, semantic, instance = planes[3:]
    ray_x = (np.arange(canvas.width, dtype=np.float32) + 0.5 - canvas.centre[0]) / np.float32(canvas.focal)
    ray_y = ((np.arange(canvas.height, dtype=np.float32) + 0.5 - canvas.centre[1]) / np.float32(canvas.focal))[:, None]
    facing = nx * ray_x + ny * ray_y + nz
    np.minimum(facing, -1e-6, out=facing)
    depth = np.clip(offset / facing, near, far)  # sky has near = far = 0
    points = np.stack((depth * ray_x, depth * ray_y, depth))
    return Surfaces(
        appearance[:3], appearance[3], semantic.astype(np.uint8), instance, planes[:3], planes[3:6], depth, points
    )


def edges(surfaces: Surfaces, focal: float) -> NDArray[np.uint8]:
    """1 at class and instance boundaries and at depth steps, else 0."""
    # A plane is linear in inverse depth, so a step above the ground's own slope is a gap between two surfaces.
    label = surfaces.semantic + 16.0 * surfaces.instance
    inverse = 1.0 / np.where(surfaces.depth_m > 0, surfaces.depth_m, 1e6).astype(np.float32)
    step = max(0.012, 1.5 / (focal * CAMERA_HEIGHT_M))
    is_edge = np.zeros(label.shape, np.uint8)
    is_edge[:, 1:] |= (label[:, 1:] != label[:, :-1]) | (np.abs(inverse[:, 1:] - inverse[:, :-1]) > step)
    is_edge[1:] |= (label[1:] != label[:-1]) | (np.abs(inverse[1:] - inverse[:-1]) > step)
    return is_edge
