"""Which end of the board each camera reads it from, and whether a camera mirrors its pictures.

A board turned by 180 degrees, or seen with its contrast inverted, may be read from its other end, and without markers
a mirrored board looks like a board. Each way to read supposes how the cameras stand to each other; the supposition
that suits all views is right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import Board
from .find import Corners
from .geometry import Array, project
from .lens import MIN_VIEWS, OUTLIER, Lens
from .views import why_not

TRIED = 10
"""Views whose supposition is tried."""
CLEAR = 0.5
"""Another way of reading is taken for the right one where its error is less than this share."""


@dataclass(frozen=True)
class Facing:
    """How well the cameras' views agree: the lens with its corners renumbered, its views' errors, and doubts."""

    ir: Lens
    errors_px: dict[int, float]
    total_px: float
    warnings: tuple[str, ...] = ()


def same_way_up(rgb: Lens, ir: Lens, board: Board) -> tuple[Lens, list[int], tuple[str, ...]]:
    """Number the ir camera's corners from the end that the rgb camera's are numbered from, view by view.

    Returns the ir camera, the views that agree with it, and warnings. Raises `EdgemtlError` where a camera mirrors
    its pictures, or fewer than 5 views agree.
    """
    best = _suppose(rgb, ir, board)
    if (flipped := _mirrored(ir, board)) is not None:
        other = _suppose(rgb, flipped, board)
        if other.total_px < CLEAR * best.total_px:
            raise EdgemtlError(
                f"one camera mirrors its pictures: seen so, the views agree to {other.total_px:.1f} px, as they are to "
                f"{best.total_px:.1f}; look at both pictures, turn mirroring off in that camera, and take them again"
            )
    # one view's pose is rough, so that only what is far off is left out here
    most = max(OUTLIER * best.total_px, 2.0)
    agreed = [view for view, error in best.errors_px.items() if error <= most]
    if len(agreed) < MIN_VIEWS:
        raise EdgemtlError(
            f"only {len(agreed)} of {len(best.errors_px)} common views agree on how the cameras stand to each other; "
            "take both pictures at the same moment, the board held still, and keep the cameras fixed to each other"
        )
    return best.ir, agreed, best.warnings


def common_ids(rgb: Lens, ir: Lens, board: Board) -> dict[int, NDArray[np.int64]]:
    """Return, for each view that places the board by what both cameras see of it, the corners' numbers."""
    shared = {v: np.intersect1d(rgb.corners[v].ids, ir.corners[v].ids) for v in sorted(rgb.corners.keys() & ir.corners)}
    return {view: ids for view, ids in shared.items() if not why_not(ids, board)}


def _suppose(rgb: Lens, ir: Lens, board: Board) -> Facing:
    """Return the supposition that suits all common views best."""
    common = [*common_ids(rgb, ir, board)]
    if not common:
        return Facing(ir, {}, float("inf"))
    ways = range(board.ends)
    board_m = board.points_m.astype(np.float64)
    last = len(board_m) - 1
    turned = {view: seen.renumbered(last - seen.ids) for view, seen in ir.corners.items()}

    def misses_px(view: int, way: int) -> Array:
        """Return for every common view, read as found and turned, how far off the supposition puts its corners."""
        (turn_rgb, move_rgb), (turn_ir, move_ir) = rgb.poses[view], ir.poses[view]
        if way:
            turn_ir, move_ir = turn_ir @ np.diag([-1.0, -1.0, 1.0]), move_ir + turn_ir @ board_m.max(0)
        turn = turn_ir @ turn_rgb.T
        move = move_ir - turn @ move_rgb
        rows = []
        for other in common:
            there_m = (board_m @ rgb.poses[other][0].T + rgb.poses[other][1]) @ turn.T + move
            there_px = project(ir.camera, there_m)
            off = [there_px[seen.ids] - seen.xy for seen in (ir.corners[other], turned[other])[: len(ways)]]
            rows.append([float(np.nan_to_num(np.sqrt((o**2).sum(1).mean()), nan=1e6)) for o in off])
        return np.array(rows)

    tried = {(view, way): misses_px(view, way) for view in common[:TRIED] for way in ways}
    totals = {key: float(np.median(misses.min(1))) for key, misses in tried.items()}
    view, way = best = min(totals, key=lambda key: totals[key])
    misses = tried[best]
    corners = ir.corners | {v: turned[v] for v, row in zip(common, misses, strict=True) if row.argmin()}
    warnings: tuple[str, ...] = ()
    if totals.get((view, 1 - way), np.inf) < 2 * totals[best]:
        warnings = ("which end of the board is up is not sure; tilt the board more, and use one of 9x6 corners",)
    errors_px = dict(zip(common, misses.min(1).tolist(), strict=True))
    return Facing(replace(ir, corners=corners), errors_px, totals[best], warnings)


def _mirrored(lens: Lens, board: Board) -> Lens | None:
    """Return the camera as if its pictures were mirrored back, None where the board would not have been found then."""
    columns, rows = board.counts
    if board.kind == "charuco" or (board.kind == "acircles" and rows % 2 == 0):
        return None
    row, column = np.divmod(np.arange(columns * rows), columns)
    # asymmetric circles are their own mirror picture from top to bottom, the others from left to right too
    down = board.kind == "acircles"
    ids = (rows - 1 - row) * columns + column if down else row * columns + columns - 1 - column
    side_m = board.points_m.max(0).astype(np.float64) * ((0, 1, 0) if down else (1, 0, 0))
    back, flip = np.diag([1.0, -1.0, 1.0] if down else [-1.0, 1.0, 1.0]), np.diag([-1.0, 1.0, 1.0])
    width = lens.camera.width
    corners = {
        view: Corners(seen.ids, np.stack([width - 1 - seen.xy[:, 0], seen.xy[:, 1]], 1)).renumbered(ids[seen.ids])
        for view, seen in lens.corners.items()
    }
    poses = {view: (flip @ turn @ back, flip @ (move + turn @ side_m)) for view, (turn, move) in lens.poses.items()}
    matrix, distortion = lens.camera.camera_matrix.copy(), lens.camera.distortion * (1, 1, 1, -1, 1)
    matrix[0, 2] = width - 1 - matrix[0, 2]
    camera = replace(lens.camera, camera_matrix=matrix, distortion=distortion)
    return replace(lens, camera=camera, corners=corners, poses=poses)
