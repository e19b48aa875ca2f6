"""Projection: pixels to rays, points to pixels, and from a pixel of one camera to the pixel of the other.

Everything is float64; a point behind a camera or beyond its lens model is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .camera_model import CameraModel
from .distortion import distort, undistort
from .homography import apply_homography
from .matrices import Array
from .model import Rig


def pixels_to_rays(camera: CameraModel, xy: NDArray[Any]) -> Array:
    """Return the ideal rays (N, 2), x/z and y/z, of pixels ``xy`` (N, 2) of a calibrated camera."""
    k = camera.camera_matrix
    y = (xy[:, 1] - k[1, 2]) / k[1, 1]
    x = (xy[:, 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
    return undistort(np.stack([x, y], 1), camera.distortion)


def project(camera: CameraModel, points_m: NDArray[Any]) -> Array:
    """Return the pixels (N, 2) of ``points_m`` (N, 3) in the camera's coordinates; NaN where it is not visible."""
    z = np.where(points_m[:, 2] > 0, points_m[:, 2], np.nan)
    rays = distort(points_m[:, :2] / z[:, None], camera.distortion)
    return np.asarray(rays @ camera.camera_matrix[:2, :2].T + camera.camera_matrix[:2, 2])


def rgb_pixels_to_ir(rig: Rig, xy: NDArray[Any], distance_m: float | None = None) -> Array:
    """Return the ir pixels (N, 2) that correspond to rgb pixels ``xy`` (N, 2), with both lenses.

    The scene lies on the plane ``distance_m`` in front of the rgb camera (the rig's distance if None). Of a rig from
    matched points the homography is applied. Pixels outside of the ir camera's view may be NaN.
    """
    if distance_m is not None and distance_m != rig.distance_m:
        rig = rig.at(distance_m)
    xy = np.asarray(xy, np.float64)
    homography, rotation, translation_m = rig.homography_rgb_to_ir, rig.rotation_rgb_to_ir, rig.translation_rgb_to_ir_m
    if rotation is None or translation_m is None or rig.distance_m is None:
        assert homography is not None
        return apply_homography(homography, xy, ((rig.rgb.width - 1) / 2, (rig.rgb.height - 1) / 2))
    rays = pixels_to_rays(rig.rgb, xy)
    points_m = rig.distance_m * np.concatenate([rays, np.ones((len(rays), 1))], 1)
    return project(rig.ir, points_m @ rotation.T + translation_m)
