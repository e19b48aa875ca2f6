"""Calibration boards: checkerboard, circle grids and ChArUco, and the object points of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError, missing, nearest_hint

PATTERNS = ("checkerboard", "circles", "acircles", "charuco")
DICTIONARY = "DICT_4X4_50"
EXAMPLES = "checkerboard:9x6:0.03, circles:7x5:0.03, acircles:4x11:0.02 or charuco:7x5:0.04:0.03"


@dataclass(frozen=True)
class Board:
    """A planar board: ``columns`` x ``rows`` of inner corners or circles, ``spacing_m`` metres apart.

    Asymmetric circles are counted as OpenCV does: ``columns`` in each row, every second row is shifted by half a
    gap, and ``spacing_m`` is the distance between rows, which is half the gap in a row. A ChArUco board is counted in
    squares, as OpenCV does too: ``spacing_m`` is a square's side, ``marker_m`` a marker's, and ``dictionary`` is the
    markers' as OpenCV names it.
    """

    pattern: str
    columns: int
    rows: int
    spacing_m: float
    marker_m: float = 0.0
    dictionary: str = ""

    @classmethod
    def parse(cls, text: str) -> Board:
        """Read ``checkerboard:9x6:0.03``, ``acircles:4x11:0.02`` or ``charuco:7x5:0.04:0.03[:DICT_4X4_50]``."""
        pattern, *rest = text.split(":")
        try:
            columns, rows = (int(count) for count in rest[0].split("x"))
            sides_m = [float(side) for side in rest[1 : 3 if pattern == "charuco" else 2]]
        except (IndexError, ValueError):
            sides_m = []
        words = rest[1 + len(sides_m) :]
        if len(sides_m) != (2 if pattern == "charuco" else 1) or len(words) > (pattern == "charuco"):
            raise EdgemtlError(f"--board {text}: give kind, counts and metres, as in {EXAMPLES}")
        return cls(pattern, columns, rows, sides_m[0], sides_m[1] if len(sides_m) > 1 else 0.0, "".join(words))

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise EdgemtlError(f"--board {self}: kinds are {', '.join(PATTERNS)}")
        if not (min(self.columns, self.rows) >= 3 and max(self.columns, self.rows) <= 50 and 0 < self.spacing_m < 10):
            raise EdgemtlError(f"--board {self}: counts are 3 to 50 corners, circles or squares, sides are in metres")
        if self.pattern == "charuco":
            self._check_markers()
        elif self.pattern != "acircles" and self.columns == self.rows:
            raise EdgemtlError(f"--board {self}: as many columns as rows can be read in four ways; take e.g. 9x6")

    def _check_markers(self) -> None:
        if self.columns + self.rows < 7:
            raise EdgemtlError(
                f"--board {self}: has too few corners between its squares; take 7x5, or 4x3 at the least"
            )
        if not 0.2 * self.spacing_m <= self.marker_m < self.spacing_m:
            raise EdgemtlError(f"--board {self}: a marker is smaller than its square; give SQUARE_M:MARKER_M")
        word = (self.dictionary or DICTIONARY).upper()
        known = {name.upper(): name for name in dictionaries()}
        name = known.get(word) or known.get(f"DICT_{word}")
        if name is None:
            raise EdgemtlError(
                f"--board {self}: no such dictionary of markers{nearest_hint(word, list(known.values()))}"
            )
        object.__setattr__(self, "dictionary", name)
        needed, available = self.columns * self.rows // 2, len(markers(name).bytesList)
        if needed > available:
            raise EdgemtlError(
                f"--board {self}: has {needed} markers and {name} {available}; "
                "name the dictionary that it was printed with"
            )

    def __str__(self) -> str:
        words = [self.pattern, f"{self.columns}x{self.rows}", f"{self.spacing_m:g}"]
        return ":".join(
            [*words, *([f"{self.marker_m:g}", self.dictionary] if self.pattern == "charuco" else [])]
        ).removesuffix(":")

    @property
    def counts(self) -> tuple[int, int]:
        """Columns and rows of the detected points: of a ChArUco board the corners between squares."""
        inner = 1 if self.pattern == "charuco" else 0
        return self.columns - inner, self.rows - inner

    @property
    def points_m(self) -> NDArray[np.float32]:
        """Object points: corners or centres in the board's coordinates, (N, 3), row by row."""
        columns, rows = self.counts
        row, column = np.divmod(np.arange(rows * columns), columns)
        x = 2 * column + row % 2 if self.pattern == "acircles" else column
        return (np.stack([x, row, np.zeros_like(row)], 1) * self.spacing_m).astype(np.float32)

    @property
    def num_orientations(self) -> int:
        """Number of orientations in which the board looks the same: 2 where it is symmetric under half a turn."""
        return 2 if self.pattern in ("checkerboard", "circles") else 1


def charuco(board: Board, legacy: bool = False) -> Any:
    """Return OpenCV's ChArUco board; ``legacy`` ones of even rows begin with a white square, as before 4.6."""
    size = board.columns, board.rows
    board_ = aruco().CharucoBoard(size, board.spacing_m, board.marker_m, markers(board.dictionary))
    board_.setLegacyPattern(legacy)
    return board_


@lru_cache(maxsize=4)
def markers(name: str) -> Any:
    """Return a predefined dictionary of ArUco markers."""
    return aruco().getPredefinedDictionary(getattr(aruco(), name))


def dictionaries() -> list[str]:
    """Return the names of the predefined dictionaries of ArUco markers, each once."""
    return sorted({name.upper(): name for name in dir(aruco()) if name.startswith("DICT_")}.values())


def aruco() -> Any:
    """Return the module cv2.aruco; raises `EdgemtlError` where it is missing or older than 4.7."""
    cv2 = opencv()
    module = getattr(cv2, "aruco", None)
    if "CharucoDetector" not in dir(module):
        raise EdgemtlError(
            f"ChArUco boards need OpenCV 4.7 or newer with its markers, this is {cv2.__version__}: "
            "pip install 'edgemtl-runtime[opencv]', or use a checkerboard"
        )
    return module


def extent(points: NDArray[Any]) -> float:
    """Return the diagonal of the points' bounding box."""
    return math.hypot(*(points.max(0) - points.min(0))[:2]) if len(points) else 0.0


def opencv() -> Any:
    """Return the module cv2; raises `EdgemtlError` where it is missing."""
    try:
        import cv2
    except ImportError as error:
        raise EdgemtlError(
            missing(
                error,
                "cv2",
                "two cameras are calibrated and registered with OpenCV: pip install 'edgemtl-runtime[opencv]'",
            )
        ) from error
    return cv2
