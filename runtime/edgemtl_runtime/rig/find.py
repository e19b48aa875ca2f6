"""Where a board is in a picture, whole or in part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration_board import Board, opencv
from .charuco import find_charuco, refined
from .geometry import Array

Image = NDArray[Any]
DETECT_WIDTH = 640
"""Narrower pictures are enlarged before the board is looked for."""


@dataclass(frozen=True, eq=False)
class Corners:
    """What is seen of a board: ``ids`` (N,) int64, rising places in `Board.points_m`, at the pixels ``xy`` (N, 2)."""

    ids: NDArray[np.int64]
    xy: Array

    def __len__(self) -> int:
        return len(self.ids)

    def renumbered(self, ids: NDArray[np.int64]) -> Corners:
        """Return the same places under other numbers, one each."""
        order = np.argsort(ids)
        return Corners(ids[order], self.xy[order])

    def pick(self, ids: NDArray[np.int64]) -> Array:
        """Return the pixels of the corners ``ids``, which are all seen."""
        return np.asarray(self.xy[np.searchsorted(self.ids, ids)])


def find_board(image: Image, board: Board) -> Corners | None:
    """Return the board's corners or centres, never mirrored, or None; of a ChArUco board those that are seen.

    ``image`` is (H, W[, 3]) uint8 or uint16, RGB. A heated board is bright where it is black: both are tried.
    """
    large, factor = enlarged(image)
    if board.kind == "charuco":
        found = find_charuco(large, board, factor)
        return None if found is None else Corners(found[0], (found[1] + 0.5) / factor - 0.5)
    for shown in (large, 255 - large):
        xy = _find_corners(shown, board, factor) if board.kind == "checkerboard" else _find_circles(shown, board)
        if xy is not None:
            return Corners(np.arange(len(xy)), _unmirrored((xy + 0.5) / factor - 0.5, board))
    return None


def enlarged(image: Image) -> tuple[Image, int]:
    """Return a picture as grey uint8 with its contrast stretched, enlarged by a whole factor, and that factor."""
    cv2 = opencv()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    low, high = np.percentile(grey, (0.5, 99.5))
    stretched = (255 / max(float(high - low), 1.0) * (grey.astype(np.float32) - low)).clip(0, 255).astype(np.uint8)
    factor = max(1, round(DETECT_WIDTH / grey.shape[1]))
    size = stretched.shape[1] * factor, stretched.shape[0] * factor
    return cv2.resize(stretched, size, interpolation=cv2.INTER_CUBIC), factor


def _find_corners(image: Image, board: Board, factor: int) -> Array | None:
    cv2 = opencv()
    found, corners = cv2.findChessboardCornersSB(image, board.counts, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not found:
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
        found, corners = cv2.findChessboardCorners(image, board.counts, flags=flags)
    if not found:
        return None
    grid = corners.reshape(board.rows, board.columns, 2)
    gaps = [np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1)]
    return refined(image, corners, float(min(gaps)), factor)


def _find_circles(image: Image, board: Board) -> Array | None:
    cv2 = opencv()
    kind = cv2.CALIB_CB_ASYMMETRIC_GRID if board.kind == "acircles" else cv2.CALIB_CB_SYMMETRIC_GRID
    settings = cv2.SimpleBlobDetector_Params()
    settings.minArea, settings.maxArea = 16, image.size / (board.columns * board.rows)
    settings.minDistBetweenBlobs, settings.filterByConvexity, settings.filterByInertia = 4, False, False
    detector = cv2.SimpleBlobDetector_create(settings)
    for flags in (kind, kind | cv2.CALIB_CB_CLUSTERING):
        found, centres = cv2.findCirclesGrid(image, board.counts, flags=flags, blobDetector=detector)
        if found:
            return np.asarray(centres, np.float64).reshape(-1, 2)
    return None


def _unmirrored(points: Array, board: Board) -> Array:
    """A board seen from its front has its columns to the right of its rows' way down."""
    grid = points.reshape(board.rows, board.columns, 2)
    along, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if along[0] * down[1] - along[1] * down[0] < 0 and board.kind != "acircles":
        grid = grid[:, ::-1]
    return grid.reshape(-1, 2)
