"""One camera's lens from views of a board (Zhang, "A flexible new technique for camera calibration", 2000).

k3 stays 0: a board in few places does not tell it, and it bends the corners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import EdgemtlError
from . import CameraModel, Size
from .calibration_board import Board, opencv
from .find import Corners
from .geometry import Array

MIN_VIEWS = 5
OUTLIER = 3.0
"""A view whose error is this many times the median is left out."""
UNSURE = 0.05
"""The focal length's standard deviation, as a share of it, beyond which the views do not tell it."""
MIN_TILT_DEG = 5.0
"""Views whose boards are more parallel than this look alike to a lens."""


@dataclass(frozen=True, eq=False)
class Lens:
    """One camera and where it saw the board: by view, the corners and the pose (rotation, translation in metres)."""

    camera: CameraModel
    corners: dict[int, Corners]
    poses: dict[int, tuple[Array, Array]]
    error_px: dict[int, float]
    rms_px: float


def fit_lens(name: str, size: Size, corners: dict[int, Corners], board: Board) -> Lens:
    """Calibrate one camera; views with more than 3 times the median error are left out and it is done again.

    Raises `EdgemtlError` where the views are too much alike to tell the lens.
    """
    cv2 = opencv()
    points_m = board.points_m
    for again in (True, False):
        objects = [points_m[seen.ids] for seen in corners.values()]
        images = [seen.xy.astype(np.float32)[:, None] for seen in corners.values()]
        try:
            told = cv2.calibrateCameraExtended(objects, images, size[::-1], None, None, flags=cv2.CALIB_FIX_K3)
        except cv2.error:
            raise EdgemtlError(f"the {name} views fit no lens; {ADVICE}") from None
        rms, matrix, distortion, turns, moves, deviations, _, each = told
        error_px = dict(zip(corners, np.asarray(each, np.float64).ravel().tolist(), strict=True))
        kept = without_outliers(error_px)
        if not again or len(kept) == len(corners):
            break
        corners = {index: corners[index] for index in kept}
    poses = {
        index: (np.asarray(cv2.Rodrigues(turn)[0]), np.asarray(move).ravel())
        for index, turn, move in zip(corners, turns, moves, strict=True)
    }
    _check_told(name, np.asarray(matrix), np.ravel(deviations), poses)
    camera = CameraModel(name, size[1], size[0], matrix, np.ravel(distortion)[:5])
    return Lens(camera, corners, poses, error_px, float(rms))


ADVICE = "tilt the board by 20 to 40 degrees to each side and up and down, near and far, between the views"


def _check_told(name: str, matrix: Array, deviations: Array, poses: dict[int, tuple[Array, Array]]) -> None:
    focal_px = matrix[[0, 1], [0, 1]]
    unsure = float((deviations[:2] / focal_px).max()) if np.isfinite(matrix).all() and focal_px.min() > 0 else np.inf
    normals = np.array([turn[:, 2] for turn, _ in poses.values()])
    tilt_deg = float(np.degrees(np.arccos(np.clip(normals @ normals.T, -1, 1).min())))
    if tilt_deg < MIN_TILT_DEG:
        raise EdgemtlError(f"the {name} camera saw the board from one side only ({tilt_deg:.0f} degrees); {ADVICE}")
    if not unsure < UNSURE:
        raise EdgemtlError(f"the {name} views do not tell the lens: focal length ± {100 * unsure:.0f} %; {ADVICE}")


def without_outliers(error_px: dict[int, float]) -> list[int]:
    """Return the views that are not far worse than the others; all, where too few would be left."""
    most = OUTLIER * float(np.median([*error_px.values()]))
    kept = [index for index, error in error_px.items() if error <= most]
    return kept if len(kept) >= MIN_VIEWS else [*error_px]
