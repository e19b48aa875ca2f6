"""A rig from manually matched points: a homography by RANSAC (Fischler and Bolles, 1981)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import opencv
from .camera_model import CameraModel
from .homography import apply_homography, conditioning
from .matrices import Array, Size
from .model import Rig
from .symmetry import Symmetry, nearest_symmetry

INLIER_PX = 3.0
"""RANSAC threshold on the reprojection error of a matched pair, ir pixels."""
NAMES = ("rgb", "ir")


def read_points(path: Path) -> tuple[Array, Array]:
    """Return matched points (N, 2) in rgb and in ir pixels from a CSV file with the header x_rgb,y_rgb,x_ir,y_ir."""
    header = ["x_rgb", "y_rgb", "x_ir", "y_ir"]
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EdgemtlError(f"{path}: cannot be read ({error})") from error
    if not rows or [cell.strip() for cell in rows[0]] != header:
        raise EdgemtlError(f"{path}: begin it with the line {','.join(header)}")
    points = np.empty((len(rows) - 1, 4))
    for number, row in enumerate(rows[1:]):
        try:
            points[number] = [float(cell) for cell in row]
            good = bool(np.isfinite(points[number]).all())
        except ValueError:
            good = False
        if not good:
            raise EdgemtlError(f"{path}: point {number + 1} is '{','.join(row)}'; give four numbers")
    return points[:, :2], points[:, 2:]


def from_points(rgb_xy: NDArray[Any], ir_xy: NDArray[Any], rgb_size: Size, ir_size: Size) -> tuple[Rig, Array]:
    """Return a rig with a homography only, and the reprojection error of each point, (N,) ir pixels.

    At least 4 matched points (N, 2), better 8 or more, spread over the image; outliers are rejected by RANSAC.
    Raises `EdgemtlError` where they are too few, lie on a line, or mirror the image.
    """
    rgb_xy, ir_xy = (np.asarray(xy, np.float64).reshape(-1, 2) for xy in (rgb_xy, ir_xy))
    if len(rgb_xy) != len(ir_xy) or len(rgb_xy) < 4 or not np.isfinite([rgb_xy, ir_xy]).all():
        raise EdgemtlError(f"{len(rgb_xy)} rgb and {len(ir_xy)} ir points; give 4 or more pairs, better 8")
    cv2 = opencv()
    homography, inliers = cv2.findHomography(rgb_xy, ir_xy, cv2.RANSAC, INLIER_PX, maxIters=5000, confidence=0.999)
    good = np.zeros(len(rgb_xy), bool) if inliers is None else np.ravel(inliers) > 0
    if (
        homography is None
        or good.sum() < max(4, len(rgb_xy) / 2)
        or min(map(conditioning, (rgb_xy[good], ir_xy[good]))) < 0.01
    ):
        raise EdgemtlError(
            f"{int(good.sum())} of {len(rgb_xy)} points agree, or most lie on one line; "
            "give 8 or more that are spread over the image, no three on a line"
        )
    middle = (rgb_size[1] - 1) / 2, (rgb_size[0] - 1) / 2
    symmetry = _symmetry_at(homography, middle)
    if symmetry.mirrored:
        raise EdgemtlError(
            "one camera mirrors its images: its points go round the other way, the ir image is "
            f"{symmetry.text} beside the rgb image; {symmetry.remedy}, and match the points again, or check that "
            "x and y are in their columns"
        )
    cameras = {n: CameraModel(n, size[1], size[0]) for n, size in zip(NAMES, (rgb_size, ir_size), strict=True)}
    errors = np.sqrt(((apply_homography(homography, rgb_xy, middle) - ir_xy) ** 2).sum(1))
    if (
        errors <= INLIER_PX
    ).sum() > good.sum():  # a homography of four noisy points extrapolates badly; one of all inliers does not
        good = errors <= INLIER_PX
        homography = cv2.findHomography(rgb_xy[good], ir_xy[good], 0)[0]
        errors = np.sqrt(((apply_homography(homography, rgb_xy, middle) - ir_xy) ** 2).sum(1))
    rms = float(np.sqrt((errors[good] ** 2).mean()))
    return Rig(cameras, homography_rgb_to_ir=homography, rms_px={"rgb": 0.0, "ir": rms}), errors


def _symmetry_at(homography: Array, middle: tuple[float, float]) -> Symmetry:
    """Return the symmetry that is closest to a homography's Jacobian at a pixel."""
    x, y, w = homography @ [*middle, 1.0]
    return nearest_symmetry((homography[:2, :2] - np.outer((x / w, y / w), homography[2, :2])) / w)
