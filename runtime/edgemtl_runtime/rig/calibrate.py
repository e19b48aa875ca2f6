"""A rig from pictures of a board that both cameras see: the lenses, and how the cameras stand to each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import EdgemtlError
from . import Rig, Size
from .calibration_board import Board, opencv
from .facing import common_ids, same_way_up
from .find import Image, find_board
from .geometry import Array
from .lens import MIN_VIEWS, Lens, fit_lens, without_outliers
from .register import Registration
from .report import Report, ViewReport
from .views import Seen, check_views, reach, why_not

NAMES = ("rgb", "ir")
BAD_SHARE, POOR_SHARE = 0.006, 0.002
"""Reprojection errors as shares of the picture's width: beyond the first nothing fits, beyond the second poorly."""
POOR_PX = 0.5
"""No error below this is called poor, however small the picture."""
FULL_REACH = 0.25
"""Corners of all views should reach over this share of a picture, or the lens is a guess at its edges."""


def calibrate(views: Sequence[tuple[Image, Image]], board: Board | str, distance_m: float) -> tuple[Rig, Report]:
    """Return the rig and how good it is, from (rgb, ir) pictures of a board taken together.

    ``distance_m`` is how far away the scene is that the pictures shall be in line at. Of a ChArUco board what is seen
    of it is enough. Views far worse than the others are left out, once. Raises `EdgemtlError` where fewer than 5
    views show the board to both cameras, where they are too much alike, where a camera mirrors its pictures, and
    where nothing fits.
    """
    board = Board.parse(board) if isinstance(board, str) else board
    sizes = [_one_size([pair[camera] for pair in views], NAMES[camera]) for camera in (0, 1)]
    found: list[Seen] = [{}, {}]
    for index, pair in enumerate(views):
        for camera in (0, 1):
            corners = find_board(pair[camera], board)
            if corners is not None:
                found[camera][index] = corners
    seen = [{i: corners for i, corners in each.items() if not why_not(corners.ids, board)} for each in found]
    check_views(views, found, seen, sizes, board)
    rgb, ir = (fit_lens(NAMES[camera], sizes[camera], seen[camera], board) for camera in (0, 1))
    ir, agreed, warnings = same_way_up(rgb, ir, board)
    rotation, translation_m, stereo_px, each_px = _stereo(rgb, ir, agreed, board)
    kept = without_outliers(each_px)
    if len(kept) < len(agreed):
        rotation, translation_m, stereo_px, each_px = _stereo(rgb, ir, kept, board)
    errors = {"rgb": rgb.rms_px, "ir": ir.rms_px}
    warnings += _judge((rgb, ir), stereo_px)
    cameras = {"rgb": rgb.camera, "ir": ir.camera}
    both_px = float(np.sqrt((stereo_px**2).mean()))
    rig = Rig(cameras, rotation, translation_m, distance_m, rms_px=errors, stereo_rms_px=both_px, views=len(each_px))
    told = tuple(_view_report(index, found, (rgb, ir), each_px, board) for index in range(len(views)))
    coverage = Registration(rig, rig.rgb.size, rig.ir.size).coverage
    reaches = {lens.camera.name: reach(lens.corners, lens.camera.size) for lens in (rgb, ir)}
    return rig, Report(told, errors, both_px, coverage, reaches, warnings)


def _one_size(images: Sequence[Image], name: str) -> Size:
    sizes = {image.shape[:2] for image in images}
    if len(sizes) != 1:
        raise EdgemtlError(f"the {name} pictures are of different sizes ({sorted(sizes)}, height and width); give one")
    height, width = sizes.pop()
    return height, width


def _stereo(rgb: Lens, ir: Lens, views: list[int], board: Board) -> tuple[Array, Array, Array, dict[int, float]]:
    """Return rotation, translation in metres, rms by camera (2,), and each view's rms; the lenses stay as they are."""
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
    lenses = (rgb.camera.camera_matrix, rgb.camera.distortion, ir.camera.camera_matrix, ir.camera.distortion)
    out = cv2.stereoCalibrateExtended(
        [board.points_m[common[view]] for view in views],
        *pixels,
        *(values.copy() for values in lenses),
        rgb.camera.size[::-1],
        np.eye(3),
        np.zeros(3),
        flags=cv2.CALIB_FIX_INTRINSIC,
    )
    rotation, translation, each = out[5], out[6], np.asarray(out[-1], np.float64).reshape(len(views), 2)
    counts = np.array([[len(common[view])] for view in views])
    by_camera = np.sqrt((counts * each**2).sum(0) / counts.sum())
    together = np.sqrt((each**2).mean(1)).tolist()
    return np.asarray(rotation), np.ravel(translation), by_camera, dict(zip(views, together, strict=True))


def _judge(lenses: Sequence[Lens], stereo_px: Array) -> tuple[str, ...]:
    """Return warnings of poor errors and corners left blank; raises `EdgemtlError` where errors say that nothing fits.

    Errors are held against the picture, not against each other: views that are all wrong agree too.
    """
    warnings = []
    for lens, both_px in zip(lenses, stereo_px.tolist(), strict=True):
        name, width = lens.camera.name, lens.camera.width
        for what, error in (("its lens", lens.rms_px), ("both cameras together", both_px)):
            told = f"{name}: the corners lie {error:.1f} px from where {what} should show them"
            if error > BAD_SHARE * width:
                raise EdgemtlError(
                    f"{told}; check --board's counts, take flat board and both pictures at the same moment, held still"
                )
            if error > max(POOR_SHARE * width, POOR_PX):
                warnings.append(f"{told}; take sharper pictures of a flat board held still")
        share = reach(lens.corners, lens.camera.size)
        if share < FULL_REACH:
            warnings.append(
                f"{name}: the board was only in {100 * share:.0f} % of the picture; hold it to the edges as well"
            )
    return tuple(warnings)


def _view_report(
    index: int, found: Sequence[Seen], lenses: Sequence[Lens], each_px: dict[int, float], board: Board
) -> ViewReport:
    notes = []
    for lens, seen in zip(lenses, found, strict=True):
        if index not in seen:
            notes.append(f"not found in {lens.camera.name}")
        elif why := why_not(seen[index].ids, board):
            notes.append(f"{why} in {lens.camera.name}")
        elif index not in lens.corners:
            notes.append(f"left out of {lens.camera.name}")
    if not notes and index not in each_px:
        few = why_not(np.intersect1d(lenses[0].corners[index].ids, lenses[1].corners[index].ids), board)
        notes = [f"{few} in common" if few else "left out of both together"]
    corners = {lens.camera.name: len(seen.get(index, ())) for lens, seen in zip(lenses, found, strict=True)}
    errors = {lens.camera.name: lens.error_px.get(index) if index in lens.corners else None for lens in lenses}
    return ViewReport(index, corners, errors, each_px.get(index), ", ".join(notes))
