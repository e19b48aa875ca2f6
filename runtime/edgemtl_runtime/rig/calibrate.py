"""A rig from pictures: of a board that both cameras see, or from points matched by hand.

The board gives each camera's lens (Zhang, "A flexible new technique for camera calibration", 2000) and how the
cameras stand to each other. k3 stays 0: a board in few places does not tell it, and it bends the corners.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from . import CameraModel, Rig, Size
from .board import Board, Image, find_board, opencv
from .geometry import Array, apply_homography, project, spread
from .register import Registration

MIN_VIEWS = 5
OUTLIER = 3.0
"""A view whose error is this many times the median is left out."""
POINT_MISS_PX = 3.0
"""A matched pair of points further off than this, in ir pixels, is not used."""
NAMES = ("rgb", "ir")


@dataclass(frozen=True)
class ViewReport:
    """One view: reprojection errors in pixels by camera, None where the board was not found or the view left out."""

    index: int
    error_px: dict[str, float | None]
    stereo_px: float | None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """How a calibration went, view by view; errors are root mean squares in pixels."""

    views: tuple[ViewReport, ...]
    rms_px: dict[str, float]
    stereo_rms_px: float
    coverage: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        views = [
            {"view": v.index, "error_px": v.error_px, "stereo_px": v.stereo_px, "note": v.note} for v in self.views
        ]
        told = {"rms_px": self.rms_px, "stereo_rms_px": self.stereo_rms_px, "coverage": self.coverage}
        return {**told, "warnings": list(self.warnings), "views": views}

    def table(self) -> str:
        """Return the same for a person."""
        names = list(self.rms_px)

        def line(first: str, values: Sequence[float | None], note: str = "") -> str:
            return f"{first:6}" + "".join(f"{'-' if v is None else f'{v:.3f}':>9}" for v in values) + f"  {note}"

        rows = ["view  " + "".join(f"{name[:8]:>9}" for name in [*names, "stereo"]) + "  (px)"]
        rows += [line(str(v.index), [*(v.error_px[n] for n in names), v.stereo_px], v.note) for v in self.views]
        rows.append(line("all", [*self.rms_px.values(), self.stereo_rms_px]))
        rows.append(f"the second camera sees {100 * self.coverage:.0f} % of the first one's picture")
        return "\n".join(row.rstrip() for row in [*rows, *self.warnings])


@dataclass(frozen=True, eq=False)
class _Lens:
    """One camera and where it saw the board: by view, the corners (N, 2) and the pose (rotation, translation)."""

    camera: CameraModel
    corners: dict[int, Array]
    poses: dict[int, tuple[Array, Array]]
    error_px: dict[int, float]
    rms_px: float


def calibrate(views: Sequence[tuple[Image, Image]], board: Board | str, distance_m: float) -> tuple[Rig, Report]:
    """Return the rig and how good it is, from (rgb, ir) pictures of a board taken together.

    ``distance_m`` is how far away the scene is that the pictures shall be in line at. Raises `EdgemtlError` where
    fewer than 5 views show the board to both cameras. Views far worse than the others are left out, once.
    """
    board = Board.parse(board) if isinstance(board, str) else board
    sizes = [_one_size([pair[camera] for pair in views], NAMES[camera]) for camera in (0, 1)]
    seen: list[dict[int, Array]] = [{}, {}]
    for index, pair in enumerate(views):
        for camera in (0, 1):
            corners = find_board(pair[camera], board)
            if corners is not None:
                seen[camera][index] = corners
    _enough(views, seen, "show the board to both cameras")
    rgb, ir = (_lens(NAMES[camera], sizes[camera], seen[camera], board) for camera in (0, 1))
    _enough(views, [rgb.corners, ir.corners], "are left without the outliers")
    ir, agreed, warnings = _same_way_up(rgb, ir, board)
    rotation, translation_m, stereo_px, each_px = _stereo(rgb, ir, agreed, board)
    kept = _without_outliers(each_px)
    if len(kept) < len(agreed):
        rotation, translation_m, stereo_px, each_px = _stereo(rgb, ir, kept, board)
    errors = {"rgb": rgb.rms_px, "ir": ir.rms_px}
    cameras = {"rgb": rgb.camera, "ir": ir.camera}
    rig = Rig(cameras, rotation, translation_m, distance_m, rms_px=errors, stereo_rms_px=stereo_px, views=len(each_px))
    told = tuple(_view_report(index, seen, (rgb, ir), each_px) for index in range(len(views)))
    coverage = Registration(rig, rig.rgb.size, rig.ir.size).coverage
    return rig, Report(told, errors, stereo_px, coverage, warnings)


def _enough(views: Sequence[object], seen: Sequence[dict[int, Array]], what: str) -> None:
    common = seen[0].keys() & seen[1].keys()
    if len(common) < MIN_VIEWS:
        raise EdgemtlError(
            f"only {len(common)} of {len(views)} views {what} (rgb {len(seen[0])}, ir {len(seen[1])}), {MIN_VIEWS} are "
            "needed, better 15: check --board, and heat the board if the ir camera does not see it"
        )


def _one_size(images: Sequence[Image], name: str) -> Size:
    sizes = {image.shape[:2] for image in images}
    if len(sizes) != 1:
        raise EdgemtlError(f"the {name} pictures are of different sizes ({sorted(sizes)}, height and width); give one")
    height, width = sizes.pop()
    return height, width


def _lens(name: str, size: Size, corners: dict[int, Array], board: Board) -> _Lens:
    """Calibrate one camera; views with more than 3 times the median error are left out and it is done again."""
    cv2 = opencv()
    for again in (True, False):
        images = [xy.astype(np.float32)[:, None] for xy in corners.values()]
        told = cv2.calibrateCameraExtended(
            [board.points_m] * len(images), images, size[::-1], None, None, flags=cv2.CALIB_FIX_K3
        )
        rms, matrix, distortion, turns, moves, *_, each = told
        error_px = dict(zip(corners, np.asarray(each, np.float64).ravel().tolist(), strict=True))
        kept = _without_outliers(error_px)
        if not again or len(kept) == len(corners):
            break
        corners = {index: corners[index] for index in kept}
    poses = {
        index: (np.asarray(cv2.Rodrigues(turn)[0]), np.asarray(move).ravel())
        for index, turn, move in zip(corners, turns, moves, strict=True)
    }
    camera = CameraModel(name, size[1], size[0], matrix, np.ravel(distortion)[:5])
    return _Lens(camera, corners, poses, error_px, float(rms))


def _without_outliers(error_px: dict[int, float]) -> list[int]:
    """Return the views that are not far worse than the others; all, where too few would be left."""
    most = OUTLIER * float(np.median([*error_px.values()]))
    kept = [index for index, error in error_px.items() if error <= most]
    return kept if len(kept) >= MIN_VIEWS else [*error_px]


def _same_way_up(rgb: _Lens, ir: _Lens, board: Board) -> tuple[_Lens, list[int], tuple[str, ...]]:
    """Number the ir camera's corners from the end that the rgb camera's are numbered from, view by view.

    A board turned by 180 degrees, or seen with its contrast inverted, may be read from its other end. Each way to
    read a view supposes how the cameras stand to each other; the supposition that suits all views best is taken.
    Returns the ir camera, the views that agree with it, and warnings.
    """
    common = sorted(rgb.corners.keys() & ir.corners.keys())
    ways = (False,) if board.kind == "acircles" else (False, True)  # asymmetric circles have no other end
    board_m = board.points_m.astype(np.float64)
    middle_m = board_m.max(0) / 2
    about = np.diag([-1.0, -1.0, 1.0])

    def misses_px(view: int, turned: bool) -> Array:
        """Return for every common view, read as found and turned, how far off the supposition puts its corners."""
        (turn_rgb, move_rgb), (turn_ir, move_ir) = rgb.poses[view], ir.poses[view]
        if turned:
            turn_ir, move_ir = turn_ir @ about, move_ir + turn_ir @ (2 * middle_m)
        turn = turn_ir @ turn_rgb.T
        move = move_ir - turn @ move_rgb
        rows = []
        for other in common:
            there_m = (board_m @ rgb.poses[other][0].T + rgb.poses[other][1]) @ turn.T + move
            off = [project(ir.camera, there_m) - ir.corners[other][:: -1 if way else 1] for way in ways]
            rows.append([float(np.nan_to_num(np.sqrt((o**2).sum(1).mean()), nan=1e6)) for o in off])
        return np.array(rows)

    tried = {(view, turned): misses_px(view, turned) for view in common[:10] for turned in ways}
    totals = {key: float(np.median(misses.min(1))) for key, misses in tried.items()}
    view, turned = best = min(totals, key=lambda key: totals[key])
    misses = tried[best]
    other_end = totals.get((view, not turned), np.inf)
    corners = ir.corners | {v: ir.corners[v][::-1] for v, row in zip(common, misses, strict=True) if row.argmin()}
    warnings: tuple[str, ...] = ()
    if other_end < 2 * totals[best]:
        warnings = ("which end of the board is up is not sure; tilt the board more, and use one of 9x6 corners",)
    # one view's pose is rough, so that only what is far off is left out here
    most = max(OUTLIER * totals[best], 2.0)
    agreed = [v for v, row in zip(common, misses, strict=True) if row.min() <= most]
    if len(agreed) < MIN_VIEWS:
        raise EdgemtlError(
            f"only {len(agreed)} of {len(common)} common views agree on how the cameras stand to each other; take both "
            "pictures at the same moment, the board held still, and keep the cameras fixed to each other"
        )
    return replace(ir, corners=corners), agreed, warnings


def _stereo(rgb: _Lens, ir: _Lens, common: list[int], board: Board) -> tuple[Array, Array, float, dict[int, float]]:
    """Return rotation, translation in metres, rms, and each view's rms in pixels; the lenses stay as they are."""
    cv2 = opencv()
    pixels = [[lens.corners[index].astype(np.float32)[:, None] for index in common] for lens in (rgb, ir)]
    lenses = (rgb.camera.camera_matrix, rgb.camera.distortion, ir.camera.camera_matrix, ir.camera.distortion)
    out = cv2.stereoCalibrateExtended(
        [board.points_m] * len(common),
        *pixels,
        *(values.copy() for values in lenses),
        rgb.camera.size[::-1],
        np.eye(3),
        np.zeros(3),
        flags=cv2.CALIB_FIX_INTRINSIC,
    )
    rms, rotation, translation, each = out[0], out[5], out[6], np.asarray(out[-1], np.float64).reshape(len(common), 2)
    together = np.sqrt((each**2).mean(1)).tolist()
    return np.asarray(rotation), np.ravel(translation), float(rms), dict(zip(common, together, strict=True))


def _view_report(
    index: int, seen: Sequence[dict[int, Array]], lenses: Sequence[_Lens], each_px: dict[int, float]
) -> ViewReport:
    notes = [f"not found in {lens.camera.name}" for lens, found in zip(lenses, seen, strict=True) if index not in found]
    notes += [
        f"left out of {lens.camera.name}"
        for lens, found in zip(lenses, seen, strict=True)
        if index in found and index not in lens.corners
    ]
    if not notes and index not in each_px:
        notes = ["left out of both together"]
    errors = {lens.camera.name: lens.error_px.get(index) if index in lens.corners else None for lens in lenses}
    return ViewReport(index, errors, each_px.get(index), ", ".join(notes))


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
    """Return a rig that knows its homography only, and how far off each point is, (N,) ir pixels.

    At least 4 matched points (N, 2), better 8 or more, spread over the picture; wrong ones are outvoted (RANSAC,
    Fischler and Bolles, 1981). Raises `EdgemtlError` where they are too few or lie on a line.
    """
    rgb_xy, ir_xy = (np.asarray(xy, np.float64).reshape(-1, 2) for xy in (rgb_xy, ir_xy))
    if len(rgb_xy) != len(ir_xy) or len(rgb_xy) < 4 or not np.isfinite([rgb_xy, ir_xy]).all():
        raise EdgemtlError(f"{len(rgb_xy)} rgb and {len(ir_xy)} ir points; give 4 or more pairs, better 8")
    cv2 = opencv()
    homography, used = cv2.findHomography(rgb_xy, ir_xy, cv2.RANSAC, POINT_MISS_PX, maxIters=5000, confidence=0.999)
    good = np.zeros(len(rgb_xy), bool) if used is None else np.ravel(used) > 0
    if (
        homography is None
        or good.sum() < max(4, len(rgb_xy) / 2)
        or min(map(spread, (rgb_xy[good], ir_xy[good]))) < 0.01
    ):
        raise EdgemtlError(
            f"{int(good.sum())} of {len(rgb_xy)} points agree, or most lie on one line; "
            "give 8 or more that are spread over the picture, no three on a line"
        )
    cameras = {n: CameraModel(n, size[1], size[0]) for n, size in zip(NAMES, (rgb_size, ir_size), strict=True)}
    middle = (rgb_size[1] - 1) / 2, (rgb_size[0] - 1) / 2
    errors = np.sqrt(((apply_homography(homography, rgb_xy, middle) - ir_xy) ** 2).sum(1))
    if (errors <= POINT_MISS_PX).sum() > good.sum():  # four noisy points vote badly far from them; all agreeing do not
        good = errors <= POINT_MISS_PX
        homography = cv2.findHomography(rgb_xy[good], ir_xy[good], 0)[0]
        errors = np.sqrt(((apply_homography(homography, rgb_xy, middle) - ir_xy) ** 2).sum(1))
    rms = float(np.sqrt((errors[good] ** 2).mean()))
    return Rig(cameras, homography_rgb_to_ir=homography, rms_px={"rgb": 0.0, "ir": rms}), errors
