"""Homographies between the pixels of two cameras (Hartley and Zisserman, "Multiple view geometry", 2004)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .matrices import Array


def plane_homography(
    rgb_matrix: NDArray[Any],
    ir_matrix: NDArray[Any],
    rotation: NDArray[Any],
    translation_m: NDArray[Any],
    distance_m: float,
) -> Array:
    """Return the (3, 3) homography from ideal rgb pixels to ideal ir pixels by the plane z = ``distance_m``.

    On the plane n'X = d with n = (0, 0, 1), 1 = n'X/d, so X_ir = R X + t = (R + t n'/d) X, and X ~ K_rgb^-1 x_rgb:
    x_ir ~ K_ir (R + t n'/d) K_rgb^-1 x_rgb (Hartley and Zisserman, "Multiple view geometry", 13.1, with our signs).
    """
    plane = rotation + np.outer(translation_m, (0.0, 0.0, 1.0)) / distance_m
    return np.asarray(ir_matrix @ plane @ np.linalg.inv(rgb_matrix), np.float64)


def apply_homography(homography: NDArray[Any], xy: NDArray[Any], inside_xy: tuple[float, float]) -> Array:
    """Return ``xy`` (N, 2) mapped by a (3, 3) homography; NaN on the far side of its horizon from ``inside_xy``."""
    sign = np.sign(homography[2] @ np.array([*inside_xy, 1.0]))
    out = xy @ homography[:, :2].T + homography[:, 2]
    w = np.where(out[:, 2] * sign > 0, out[:, 2], np.nan)
    return np.asarray(out[:, :2] / w[:, None])


def resized_pixels(size: tuple[int, int], to: tuple[int, int]) -> Array:
    """Return the (3, 3) map from pixels of an image of ``size`` (height, width) to those of it resized to ``to``.

    Pixel centres are whole numbers, so the images' corners, not their first centres, coincide.
    """
    sy, sx = to[0] / size[0], to[1] / size[1]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])


def conditioning(xy: Array) -> float:
    """Return the conditioning of a homography on points (N, 2): 0 where all, or all but one, lie on a line.

    It is the second smallest singular value over the largest of the DLT equations of the identity on these points
    (Hartley and Zisserman, 4.1).
    """
    centred = xy - xy.mean(0)
    x, y = (centred / max(float(np.sqrt((centred**2).sum(1).mean() / 2)), 1e-9)).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    across = np.stack([x, y, one, zero, zero, zero, -x * x, -x * y, -x], 1)
    down = np.stack([zero, zero, zero, x, y, one, -x * y, -y * y, -y], 1)
    values = np.linalg.svd(np.concatenate([across, down]), compute_uv=False)
    return float(values[7] / values[0])
