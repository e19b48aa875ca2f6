"""Orientation ambiguity of boards: which end each camera reads it from, and whether a camera mirrors its images.

A board rotated by 180 degrees, or with inverted contrast, may be read from its other end, and without markers a
mirrored board looks like a board. Each orientation implies a relative pose of the cameras; the hypothesis with the
smallest reprojection error over all views is selected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import Board
from .find import Corners
from .lens import MIN_VIEWS, OUTLIER, Lens
from .matrices import Array
from .projection import project
from .symmetry import nearest_symmetry
from .views import insufficient

MAX_HYPOTHESES = 10
"""Number of views whose relative pose is tried."""
CLEAR = 0.5
"""Another hypothesis is selected where its error is less than this share."""
FLIP = np.diag([-1.0, 1.0, 1.0])
"""Mirroring left to right, of a camera's coordinates."""


@dataclass(frozen=True)
class Hypothesis:
    """A relative pose of the cameras: the ir lens with corners renumbered by it, reprojection errors, and warnings."""

    ir: Lens
    errors_px: dict[int, float]
    total_px: float
    rotation: Array
    """From the rgb camera's coordinates to the ir camera's, (3, 3)."""
    warnings: tuple[str, ...] = ()

    def agreeing(self) -> list[int]:
        """Return the views that agree with the pose, which is that of one view, and so rough."""
        most = max(OUTLIER * self.total_px, 2.0)
        return [view for view, error in self.errors_px.items() if error <= most]


def align_orientation(rgb: Lens, ir: Lens, board: Board) -> tuple[Lens, list[int], tuple[str, ...]]:
    """Number the ir camera's corners from the same end of the board as the rgb camera's, view by view.

    Returns the ir camera, the views that agree with it, and warnings. Raises `EdgemtlError` where a camera mirrors
    its images, or fewer than 5 views agree.
    """
    best = _best_hypothesis(rgb, ir, board)
    other = mirrored_back(rgb, ir, board)
    if other is not None and other.total_px < CLEAR * best.total_px:
        raise mirrors(other, other.total_px, best.total_px)
    agreed = best.agreeing()
    if len(agreed) < MIN_VIEWS:
        raise EdgemtlError(
            f"only {len(agreed)} of {len(best.errors_px)} common views agree on the relative pose of the cameras; "
            "take both images at the same time, the board held still, and keep the cameras fixed to each other"
        )
    upright = nearest_symmetry(best.rotation[:2, :2])
    warnings = (f"the ir image is {upright.text} beside the rgb image; {upright.remedy}",) if upright.remedy else ()
    return best.ir, agreed, (*best.warnings, *warnings)


def mirrored_back(rgb: Lens, ir: Lens, board: Board) -> Hypothesis | None:
    """Return the best hypothesis for ir images mirrored left to right, None where a mirrored board is not detected."""
    flipped = _mirrored(ir, board)
    return None if flipped is None else _best_hypothesis(rgb, flipped, board)


def mirrors(hypothesis: Hypothesis, error_px: float, given_px: float) -> EdgemtlError:
    """Return the error of a rig that fits once one camera's images are mirrored back."""
    symmetry = nearest_symmetry((FLIP @ hypothesis.rotation)[:2, :2])
    return EdgemtlError(
        f"one camera mirrors its images, the ir image is {symmetry.text} beside the rgb image: mirrored back, views "
        f"agree to {error_px:.1f} px, as they are to {given_px:.1f}; look at both, {symmetry.remedy}, and take them "
        "again"
    )


def common_ids(rgb: Lens, ir: Lens, board: Board) -> dict[int, NDArray[np.int64]]:
    """Return the common corners' ids of each view in which they determine the board's pose."""
    shared = {v: np.intersect1d(rgb.corners[v].ids, ir.corners[v].ids) for v in sorted(rgb.corners.keys() & ir.corners)}
    return {view: ids for view, ids in shared.items() if not insufficient(ids, board)}


def _best_hypothesis(rgb: Lens, ir: Lens, board: Board) -> Hypothesis:
    """Return the hypothesis with the smallest error over all common views."""
    common = [*common_ids(rgb, ir, board)]
    if not common:
        return Hypothesis(ir, {}, float("inf"), np.eye(3))
    orientations = range(board.num_orientations)
    board_m = board.points_m.astype(np.float64)
    last = len(board_m) - 1
    rotated = {view: corners.renumbered(last - corners.ids) for view, corners in ir.corners.items()}

    def relative_pose(view: int, orientation: int) -> tuple[Array, Array]:
        """Return the pose of the cameras by one view: rotation, translation in metres."""
        (rotation_rgb, translation_rgb), (rotation_ir, translation_ir) = rgb.poses[view], ir.poses[view]
        if orientation:
            translation_ir = translation_ir + rotation_ir @ board_m.max(0)
            rotation_ir = rotation_ir @ np.diag([-1.0, -1.0, 1.0])
        rotation = rotation_ir @ rotation_rgb.T
        return rotation, translation_ir - rotation @ translation_rgb

    def errors_px(view: int, orientation: int) -> Array:
        """Return the reprojection error of each common view as detected and rotated, (V, orientations)."""
        rotation, translation = relative_pose(view, orientation)
        rows = []
        for other in common:
            ir_m = (board_m @ rgb.poses[other][0].T + rgb.poses[other][1]) @ rotation.T + translation
            ir_px = project(ir.camera, ir_m)
            residuals = [ir_px[c.ids] - c.xy for c in (ir.corners[other], rotated[other])[: len(orientations)]]
            rows.append([float(np.nan_to_num(np.sqrt((o**2).sum(1).mean()), nan=1e6)) for o in residuals])
        return np.array(rows)

    errors = {
        (view, orientation): errors_px(view, orientation)
        for view in common[:MAX_HYPOTHESES]
        for orientation in orientations
    }
    totals = {key: float(np.median(table.min(1))) for key, table in errors.items()}
    view, orientation = best = min(totals, key=lambda key: totals[key])
    table = errors[best]
    corners = ir.corners | {v: rotated[v] for v, row in zip(common, table, strict=True) if row.argmin()}
    warnings: tuple[str, ...] = ()
    if totals.get((view, 1 - orientation), np.inf) < 2 * totals[best]:
        warnings = ("the orientation of the board is ambiguous; tilt the board more, and use one of 9x6 corners",)
    view_px = dict(zip(common, table.min(1).tolist(), strict=True))
    return Hypothesis(replace(ir, corners=corners), view_px, totals[best], relative_pose(*best)[0], warnings)


def _mirrored(lens: Lens, board: Board) -> Lens | None:
    """Return the lens for images mirrored back, None where a mirrored board would not have been detected."""
    columns, rows = board.counts
    if board.pattern == "charuco" or (board.pattern == "acircles" and rows % 2 == 0):
        return None
    row, column = np.divmod(np.arange(columns * rows), columns)
    # asymmetric circles are symmetric under a vertical flip, the others under a horizontal one too
    down = board.pattern == "acircles"
    ids = (rows - 1 - row) * columns + column if down else row * columns + columns - 1 - column
    side_m = board.points_m.max(0).astype(np.float64) * ((0, 1, 0) if down else (1, 0, 0))
    back = np.diag([1.0, -1.0, 1.0]) if down else FLIP
    width = lens.camera.width
    corners = {
        view: Corners(c.ids, np.stack([width - 1 - c.xy[:, 0], c.xy[:, 1]], 1)).renumbered(ids[c.ids])
        for view, c in lens.corners.items()
    }
    poses = {view: (FLIP @ r @ back, FLIP @ (t + r @ side_m)) for view, (r, t) in lens.poses.items()}
    matrix, distortion = lens.camera.camera_matrix.copy(), lens.camera.distortion * (1, 1, 1, -1, 1)
    matrix[0, 2] = width - 1 - matrix[0, 2]
    camera = replace(lens.camera, camera_matrix=matrix, distortion=distortion)
    return replace(lens, camera=camera, corners=corners, poses=poses)
