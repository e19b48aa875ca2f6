"""Detection of calibration boards in images, complete or in part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration_board import Board, opencv
from .charuco import find_charuco, refined
from .matrices import Array

Image = NDArray[Any]
DETECT_WIDTH = 640
"""Narrower images are enlarged before detection."""


@dataclass(frozen=True, eq=False)
class Corners:
    """Image points of a board: ``ids`` (N,) int64, ascending indices of `Board.points_m`, at pixels ``xy`` (N, 2)."""

    ids: NDArray[np.int64]
    xy: Array

    def __len__(self) -> int:
        return len(self.ids)

    def renumbered(self, ids: NDArray[np.int64]) -> Corners:
        """Return the same points with other ids, one for each."""
        order = np.argsort(ids)
        return Corners(ids[order], self.xy[order])

    def pick(self, ids: NDArray[np.int64]) -> Array:
        """Return the pixels of the corners ``ids``, which must all be present."""
        return np.asarray(self.xy[np.searchsorted(self.ids, ids)])


def find_board(image: Image, board: Board) -> Corners | None:
    """Return the board's corners or centres, never mirrored, or None; of a ChArUco board the visible ones.

    ``image`` is (H, W[, 3]) uint8 or uint16, RGB. A heated board has inverted contrast: both are tried.
    """
    large, factor = enlarged(image)
    if board.pattern == "charuco":
        detected = find_charuco(large, board, factor)
        return None if detected is None else Corners(detected[0], (detected[1] + 0.5) / factor - 0.5)
    for grey in (large, 255 - large):
        xy = _find_corners(grey, board, factor) if board.pattern == "checkerboard" else _find_circles(grey, board)
        if xy is not None:
            return Corners(np.arange(len(xy)), _unmirrored((xy + 0.5) / factor - 0.5, board))
    return None


def enlarged(image: Image) -> tuple[Image, int]:
    """Return an image as grey uint8, contrast-stretched and enlarged by an integer factor, and that factor."""
    cv2 = opencv()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    low, high = np.percentile(grey, (0.5, 99.5))
    stretched = (255 / max(float(high - low), 1.0) * (grey.astype(np.float32) - low)).clip(0, 255).astype(np.uint8)
    factor = max(1, round(DETECT_WIDTH / grey.shape[1]))
    size = stretched.shape[1] * factor, stretched.shape[0] * factor
    return cv2.resize(stretched, size, interpolation=cv2.INTER_CUBIC), factor


def _find_corners(image: Image, board: Board, factor: int) -> Array | None:
    cv2 = opencv()
    detected, corners = cv2.findChessboardCornersSB(image, board.counts, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not detected:
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
        detected, corners = cv2.findChessboardCorners(image, board.counts, flags=flags)
    if not detected:
        return None
    grid = corners.reshape(board.rows, board.columns, 2)
    gaps = [np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1)]
    return refined(image, corners, float(min(gaps)), factor)


def _find_circles(image: Image, board: Board) -> Array | None:
    cv2 = opencv()
    grid_flag = cv2.CALIB_CB_ASYMMETRIC_GRID if board.pattern == "acircles" else cv2.CALIB_CB_SYMMETRIC_GRID
    settings = cv2.SimpleBlobDetector_Params()
    settings.minArea, settings.maxArea = 16, image.size / (board.columns * board.rows)
    settings.minDistBetweenBlobs, settings.filterByConvexity, settings.filterByInertia = 4, False, False
    detector = cv2.SimpleBlobDetector_create(settings)
    for flags in (grid_flag, grid_flag | cv2.CALIB_CB_CLUSTERING):
        detected, centres = cv2.findCirclesGrid(image, board.counts, flags=flags, blobDetector=detector)
        if detected:
            return np.asarray(centres, np.float64).reshape(-1, 2)
    return None


def _unmirrored(points: Array, board: Board) -> Array:
    """Return points in row order of a board seen from its front, where columns run right and rows down."""
    grid = points.reshape(board.rows, board.columns, 2)
    along, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if along[0] * down[1] - along[1] * down[0] < 0 and board.pattern != "acircles":
        grid = grid[:, ::-1]
    return grid.reshape(-1, 2)
