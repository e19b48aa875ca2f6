"""Intrinsic calibration from views of a board (Zhang, "A flexible new technique for camera calibration", 2000).

k3 is fixed at 0: few views do not determine it, and it distorts the image corners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import EdgemtlError
from .calibration_board import Board, opencv
from .camera_model import CameraModel
from .find import Corners
from .matrices import Array, Size

MIN_VIEWS = 5
OUTLIER = 3.0
"""A view whose error is this many times the median is rejected."""
MAX_FOCAL_ERROR = 0.05
"""Largest standard deviation of the focal length, as a share of it."""
MIN_TILT_DEG = 5.0
"""Views whose boards are more parallel than this do not determine the intrinsics."""


@dataclass(frozen=True, eq=False)
class Lens:
    """Intrinsics of one camera, and by view the corners and the board's pose (rotation, translation in metres)."""

    camera: CameraModel
    corners: dict[int, Corners]
    poses: dict[int, tuple[Array, Array]]
    error_px: dict[int, float]
    rms_px: float


def fit_lens(name: str, size: Size, corners: dict[int, Corners], board: Board) -> Lens:
    """Calibrate one camera; views with more than 3 times the median error are rejected, once.

    Raises `EdgemtlError` where the views are too similar to determine the lens.
    """
    cv2 = opencv()
    points_m = board.points_m
    for again in (True, False):
        objects = [points_m[c.ids] for c in corners.values()]
        images = [c.xy.astype(np.float32)[:, None] for c in corners.values()]
        try:
            result = cv2.calibrateCameraExtended(objects, images, size[::-1], None, None, flags=cv2.CALIB_FIX_K3)
        except cv2.error:
            raise EdgemtlError(f"the {name} views fit no lens; {ADVICE}") from None
        rms, matrix, distortion, rotations, translations, deviations, _, view_errors = result
        error_px = dict(zip(corners, np.asarray(view_errors, np.float64).ravel().tolist(), strict=True))
        kept = without_outliers(error_px)
        if not again or len(kept) == len(corners):
            break
        corners = {index: corners[index] for index in kept}
    poses = {
        index: (np.asarray(cv2.Rodrigues(r)[0]), np.asarray(t).ravel())
        for index, r, t in zip(corners, rotations, translations, strict=True)
    }
    _check_determined(name, np.asarray(matrix), np.ravel(deviations), poses)
    camera = CameraModel(name, size[1], size[0], matrix, np.ravel(distortion)[:5])
    return Lens(camera, corners, poses, error_px, float(rms))


ADVICE = "tilt the board by 20 to 40 degrees to each side and up and down, near and far, between the views"


def _check_determined(name: str, matrix: Array, deviations: Array, poses: dict[int, tuple[Array, Array]]) -> None:
    focal_px = matrix[[0, 1], [0, 1]]
    focal_error = (
        float((deviations[:2] / focal_px).max()) if np.isfinite(matrix).all() and focal_px.min() > 0 else np.inf
    )
    normals = np.array([rotation[:, 2] for rotation, _ in poses.values()])
    tilt_deg = float(np.degrees(np.arccos(np.clip(normals @ normals.T, -1, 1).min())))
    if tilt_deg < MIN_TILT_DEG:
        raise EdgemtlError(f"the {name} camera saw the board from one side only ({tilt_deg:.0f} degrees); {ADVICE}")
    if not focal_error < MAX_FOCAL_ERROR:
        raise EdgemtlError(
            f"the {name} views do not determine the lens: focal length ± {100 * focal_error:.0f} %; {ADVICE}"
        )


def without_outliers(error_px: dict[int, float]) -> list[int]:
    """Return the views without outliers; all of them, where too few would remain."""
    most = OUTLIER * float(np.median([*error_px.values()]))
    kept = [index for index, error in error_px.items() if error <= most]
    return kept if len(kept) >= MIN_VIEWS else [*error_px]
