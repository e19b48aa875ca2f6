"""Stereo calibration of a rig from images of a board that both cameras see: intrinsics and extrinsics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import EdgemtlError
from .calibration_board import Board, opencv
from .facing import align_orientation, common_ids, mirrored_back, mirrors
from .find import Image, find_board
from .lens import MIN_VIEWS, Lens, fit_lens, without_outliers
from .matrices import Array, Size
from .model import Rig
from .register import Registration
from .report import CalibrationReport, ViewReport
from .views import Detections, check_views, insufficient, reach

NAMES = ("rgb", "ir")
BAD_SHARE, POOR_SHARE = 0.006, 0.002
"""Limits of the reprojection error as shares of the image width: of failure, and of a warning."""
POOR_PX = 0.5
"""No warning below this error, however small the image."""
MAX_STEREO_PX = 1.0
"""Largest error of both cameras together, whatever their size: what is registered by more is beside the object."""
NUM_WORST = 3
"""Views that are named where the error is larger."""
FULL_REACH = 0.25
"""Share of an image that the corners should cover, or the distortion is extrapolated at its edges."""


def calibrate(
    views: Sequence[tuple[Image, Image]], board: Board | str, distance_m: float
) -> tuple[Rig, CalibrationReport]:
    """Return the rig and a report, from simultaneous (rgb, ir) images of a board.

    ``distance_m`` is the distance of the scene at which the images are to be aligned. A ChArUco board may be partly
    visible. Outlier views are rejected, once. Raises `EdgemtlError` where fewer than 5 views show the board to both
    cameras, where they are too similar, where a camera mirrors its images, and where the errors are too large: both
    cameras together must agree to `MAX_STEREO_PX`.
    """
    board = Board.parse(board) if isinstance(board, str) else board
    sizes = [_one_size([pair[camera] for pair in views], NAMES[camera]) for camera in (0, 1)]
    detections: list[Detections] = [{}, {}]
    for index, pair in enumerate(views):
        for camera in (0, 1):
            corners = find_board(pair[camera], board)
            if corners is not None:
                detections[camera][index] = corners
    sufficient = [{i: c for i, c in views_.items() if not insufficient(c.ids, board)} for views_ in detections]
    check_views(views, detections, sufficient, sizes, board)
    rgb, ir = (fit_lens(NAMES[camera], sizes[camera], sufficient[camera], board) for camera in (0, 1))
    ir, agreed, warnings = align_orientation(rgb, ir, board)
    rotation, translation_m, stereo_px, view_px = _stereo(rgb, ir, agreed, board)
    kept = without_outliers(view_px)
    if len(kept) < len(agreed):
        rotation, translation_m, stereo_px, view_px = _stereo(rgb, ir, kept, board)
    errors = {"rgb": rgb.rms_px, "ir": ir.rms_px}
    both_px = float(np.sqrt((stereo_px**2).mean()))
    if not both_px <= MAX_STEREO_PX:
        raise _disagreement(rgb, ir, board, both_px, view_px)
    warnings += _check_errors((rgb, ir), stereo_px)
    cameras = {"rgb": rgb.camera, "ir": ir.camera}
    rig = Rig(cameras, rotation, translation_m, distance_m, rms_px=errors, stereo_rms_px=both_px, views=len(view_px))
    view_reports = tuple(_view_report(index, detections, (rgb, ir), view_px, board) for index in range(len(views)))
    coverage = Registration(rig, rig.rgb.size, rig.ir.size).coverage
    reaches = {lens.camera.name: reach(lens.corners, lens.camera.size) for lens in (rgb, ir)}
    return rig, CalibrationReport(view_reports, errors, both_px, coverage, reaches, warnings)


def _one_size(images: Sequence[Image], name: str) -> Size:
    sizes = {image.shape[:2] for image in images}
    if len(sizes) != 1:
        raise EdgemtlError(f"the {name} images are of different sizes ({sorted(sizes)}, height and width); give one")
    height, width = sizes.pop()
    return height, width


def _stereo(rgb: Lens, ir: Lens, views: list[int], board: Board) -> tuple[Array, Array, Array, dict[int, float]]:
    """Return rotation, translation in metres, rms error by camera (2,) and by view; the intrinsics stay fixed."""
    cv2 = opencv()
    common = common_ids(rgb, ir, board)
    views = [view for view in views if view in common]
    if len(views) < MIN_VIEWS:
        raise EdgemtlError(
            f"only {len(views)} views show the same part of the board to both cameras; {MIN_VIEWS} are needed"
        )
    pixels = [
        [lens.corners[view].pick(common[view]).astype(np.float32)[:, None] for view in views] for lens in (rgb, ir)
    ]
    intrinsics = (rgb.camera.camera_matrix, rgb.camera.distortion, ir.camera.camera_matrix, ir.camera.distortion)
    result = cv2.stereoCalibrateExtended(
        [board.points_m[common[view]] for view in views],
        *pixels,
        *(values.copy() for values in intrinsics),
        rgb.camera.size[::-1],
        np.eye(3),
        np.zeros(3),
        flags=cv2.CALIB_FIX_INTRINSIC,
    )
    rotation, translation, errors = result[5], result[6], np.asarray(result[-1], np.float64).reshape(len(views), 2)
    counts = np.array([[len(common[view])] for view in views])
    by_camera = np.sqrt((counts * errors**2).sum(0) / counts.sum())
    together = np.sqrt((errors**2).mean(1)).tolist()
    return np.asarray(rotation), np.ravel(translation), by_camera, dict(zip(views, together, strict=True))


def _disagreement(rgb: Lens, ir: Lens, board: Board, both_px: float, view_px: dict[int, float]) -> EdgemtlError:
    """Return the error of cameras that do not agree: one mirrors its images, or these views are the worst."""
    other = mirrored_back(rgb, ir, board)
    if other is not None and len(other.agreeing()) >= MIN_VIEWS:
        mirrored_px = float(np.sqrt((_stereo(rgb, other.ir, other.agreeing(), board)[2] ** 2).mean()))
        if mirrored_px <= MAX_STEREO_PX:
            return mirrors(other, mirrored_px, both_px)
    worst = sorted(view_px, key=lambda view: -view_px[view])[:NUM_WORST]
    named = ", ".join(f"{view} ({view_px[view]:.1f} px)" for view in worst)
    return EdgemtlError(
        f"the cameras agree to {both_px:.1f} px, and no rig is written above {MAX_STEREO_PX:g}; worst are the views "
        f"{named}; no mirrored or turned camera would fit better: take flat board and both images at the same time, "
        "held still, and check --board's counts"
    )


def _check_errors(lenses: Sequence[Lens], stereo_px: Array) -> tuple[str, ...]:
    """Return warnings of large errors and uncovered image edges; raises `EdgemtlError` beyond the limit of failure.

    Errors are relative to the image width, not to each other: views that are all wrong agree too.
    """
    warnings = []
    for lens, both_px in zip(lenses, stereo_px.tolist(), strict=True):
        name, width = lens.camera.name, lens.camera.width
        for part, error in (("its lens", lens.rms_px), ("both cameras together", both_px)):
            problem = f"{name}: the corners lie {error:.1f} px from where {part} should show them"
            if error > BAD_SHARE * width:
                raise EdgemtlError(
                    f"{problem}; check --board's counts, take flat board and both images at the same time, held still"
                )
            if error > max(POOR_SHARE * width, POOR_PX):
                warnings.append(f"{problem}; take sharper images of a flat board held still")
        share = reach(lens.corners, lens.camera.size)
        if share < FULL_REACH:
            warnings.append(
                f"{name}: the board was only in {100 * share:.0f} % of the image; hold it to the edges as well"
            )
    return tuple(warnings)


def _view_report(
    index: int, detections: Sequence[Detections], lenses: Sequence[Lens], view_px: dict[int, float], board: Board
) -> ViewReport:
    notes = []
    for lens, detected in zip(lenses, detections, strict=True):
        if index not in detected:
            notes.append(f"not found in {lens.camera.name}")
        elif reason := insufficient(detected[index].ids, board):
            notes.append(f"{reason} in {lens.camera.name}")
        elif index not in lens.corners:
            notes.append(f"left out of {lens.camera.name}")
    if not notes and index not in view_px:
        reason = insufficient(np.intersect1d(lenses[0].corners[index].ids, lenses[1].corners[index].ids), board)
        notes = [f"{reason} in common" if reason else "left out of both together"]
    corners = {
        lens.camera.name: len(detected.get(index, ())) for lens, detected in zip(lenses, detections, strict=True)
    }
    errors = {lens.camera.name: lens.error_px.get(index) if index in lens.corners else None for lens in lenses}
    return ViewReport(index, corners, errors, view_px.get(index), ", ".join(notes))
