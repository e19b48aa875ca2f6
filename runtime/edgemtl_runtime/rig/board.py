"""The calibration board, and where it is in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .geometry import Array

Image = NDArray[Any]
KINDS = ("checkerboard", "circles", "acircles")
REACH = 0.45
"""Corners are refined on this share of the gap to the next one around them: more is their edges, less is noisy."""
DETECT_WIDTH = 640
"""Narrower pictures are enlarged before the board is looked for."""


@dataclass(frozen=True)
class Board:
    """A flat board: ``columns`` x ``rows`` of inner corners or circles, ``spacing_m`` metres apart.

    Asymmetric circles are counted as OpenCV does: ``columns`` in each row, every second row is moved by half a gap,
    and ``spacing_m`` is the distance between rows, which is half the gap in a row.
    """

    kind: str
    columns: int
    rows: int
    spacing_m: float

    @classmethod
    def parse(cls, text: str) -> Board:
        """Read ``checkerboard:9x6:0.03``, ``circles:7x5:0.03`` or ``acircles:4x11:0.02``."""
        try:
            kind, counts, spacing = text.split(":")
            columns, rows = (int(count) for count in counts.split("x"))
            return cls(kind, columns, rows, float(spacing))
        except ValueError:
            example = "checkerboard:9x6:0.03, circles:7x5:0.03 or acircles:4x11:0.02"
            raise EdgemtlError(f"--board {text}: give kind, counts and metres, as in {example}") from None

    def __post_init__(self) -> None:
        what = f"--board {self.kind}:{self.columns}x{self.rows}:{self.spacing_m}"
        if self.kind not in KINDS:
            raise EdgemtlError(f"{what}: kinds are {', '.join(KINDS)}")
        if not (min(self.columns, self.rows) >= 3 and max(self.columns, self.rows) <= 50 and 0 < self.spacing_m < 10):
            raise EdgemtlError(f"{what}: counts are 3 to 50 inner corners or circles, the spacing is in metres")
        if self.kind != "acircles" and self.columns == self.rows:
            raise EdgemtlError(f"{what}: as many columns as rows can be read in four ways; take e.g. 9x6")

    @property
    def points_m(self) -> NDArray[np.float32]:
        """The corners or centres in the board's own axes, (columns * rows, 3), row by row."""
        row, column = np.divmod(np.arange(self.rows * self.columns), self.columns)
        x = 2 * column + row % 2 if self.kind == "acircles" else column
        return (np.stack([x, row, np.zeros_like(row)], 1) * self.spacing_m).astype(np.float32)


def find_board(image: Image, board: Board) -> Array | None:
    """Return the board's corners or centres (N, 2) in pixels, row by row and never mirrored, or None.

    ``image`` is (H, W[, 3]) uint8 or uint16, RGB. A heated board is bright where it is black: both are tried.
    """
    cv2 = opencv()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    low, high = np.percentile(grey, (0.5, 99.5))
    stretched = (255 / max(float(high - low), 1.0) * (grey.astype(np.float32) - low)).clip(0, 255).astype(np.uint8)
    factor = max(1, round(DETECT_WIDTH / grey.shape[1]))
    size = stretched.shape[1] * factor, stretched.shape[0] * factor
    large = cv2.resize(stretched, size, interpolation=cv2.INTER_CUBIC)
    for shown in (large, 255 - large):
        found = _find_corners(shown, board, factor) if board.kind == "checkerboard" else _find_circles(shown, board)
        if found is not None:
            return _unmirrored((found + 0.5) / factor - 0.5, board)
    return None


def _find_corners(image: Image, board: Board, factor: int) -> Array | None:
    cv2 = opencv()
    size = board.columns, board.rows
    found, corners = cv2.findChessboardCornersSB(image, size, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not found:
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
        found, corners = cv2.findChessboardCorners(image, size, flags=flags)
    if not found:
        return None
    grid = corners.reshape(board.rows, board.columns, 2)
    gaps = [np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1)]
    reach = int(np.clip(min(gaps) * REACH, 2, 11 * factor))
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)
    return np.asarray(cv2.cornerSubPix(image, corners, (reach, reach), (-1, -1), until), np.float64).reshape(-1, 2)


def _find_circles(image: Image, board: Board) -> Array | None:
    cv2 = opencv()
    kind = cv2.CALIB_CB_ASYMMETRIC_GRID if board.kind == "acircles" else cv2.CALIB_CB_SYMMETRIC_GRID
    settings = cv2.SimpleBlobDetector_Params()
    settings.minArea, settings.maxArea = 16, image.size / (board.columns * board.rows)
    settings.minDistBetweenBlobs, settings.filterByConvexity, settings.filterByInertia = 4, False, False
    detector = cv2.SimpleBlobDetector_create(settings)
    size = board.columns, board.rows
    for flags in (kind, kind | cv2.CALIB_CB_CLUSTERING):
        found, centres = cv2.findCirclesGrid(image, size, flags=flags, blobDetector=detector)
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


def opencv() -> Any:
    """Return the module cv2; raises `EdgemtlError` where it is missing."""
    try:
        import cv2
    except ImportError as error:
        raise EdgemtlError(
            "two cameras are calibrated and registered with OpenCV: pip install 'edgemtl-runtime[opencv]'"
        ) from error
    return cv2
