"""The calibration board: what is on it, and where its corners are on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError, missing, nearest_hint

KINDS = ("checkerboard", "circles", "acircles", "charuco")
DICTIONARY = "DICT_4X4_50"
EXAMPLES = "checkerboard:9x6:0.03, circles:7x5:0.03, acircles:4x11:0.02 or charuco:7x5:0.04:0.03"


@dataclass(frozen=True)
class Board:
    """A flat board: ``columns`` x ``rows`` of inner corners or circles, ``spacing_m`` metres apart.

    Asymmetric circles are counted as OpenCV does: ``columns`` in each row, every second row is moved by half a gap,
    and ``spacing_m`` is the distance between rows, which is half the gap in a row. A ChArUco board is counted in
    squares, as OpenCV does too: ``spacing_m`` is a square's side, ``marker_m`` a marker's, and ``dictionary`` is the
    markers' as OpenCV names it.
    """

    kind: str
    columns: int
    rows: int
    spacing_m: float
    marker_m: float = 0.0
    dictionary: str = ""

    @classmethod
    def parse(cls, text: str) -> Board:
        """Read ``checkerboard:9x6:0.03``, ``acircles:4x11:0.02`` or ``charuco:7x5:0.04:0.03[:DICT_4X4_50]``."""
        kind, *rest = text.split(":")
        try:
            columns, rows = (int(count) for count in rest[0].split("x"))
            sides_m = [float(side) for side in rest[1 : 3 if kind == "charuco" else 2]]
        except (IndexError, ValueError):
            sides_m = []
        words = rest[1 + len(sides_m) :]
        if len(sides_m) != (2 if kind == "charuco" else 1) or len(words) > (kind == "charuco"):
            raise EdgemtlError(f"--board {text}: give kind, counts and metres, as in {EXAMPLES}")
        return cls(kind, columns, rows, sides_m[0], sides_m[1] if len(sides_m) > 1 else 0.0, "".join(words))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise EdgemtlError(f"--board {self}: kinds are {', '.join(KINDS)}")
        if not (min(self.columns, self.rows) >= 3 and max(self.columns, self.rows) <= 50 and 0 < self.spacing_m < 10):
            raise EdgemtlError(f"--board {self}: counts are 3 to 50 corners, circles or squares, sides are in metres")
        if self.kind == "charuco":
            self._check_markers()
        elif self.kind != "acircles" and self.columns == self.rows:
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
            raise EdgemtlError(f"--board {self}: no markers are named so{nearest_hint(word, list(known.values()))}")
        object.__setattr__(self, "dictionary", name)
        wanted, held = self.columns * self.rows // 2, len(markers(name).bytesList)
        if wanted > held:
            raise EdgemtlError(
                f"--board {self}: has {wanted} markers and {name} {held}; name the dictionary that it was printed with"
            )

    def __str__(self) -> str:
        words = [self.kind, f"{self.columns}x{self.rows}", f"{self.spacing_m:g}"]
        return ":".join([*words, *([f"{self.marker_m:g}", self.dictionary] if self.kind == "charuco" else [])])

    @property
    def counts(self) -> tuple[int, int]:
        """Columns and rows of what is looked for: of a ChArUco board the corners between squares."""
        inner = 1 if self.kind == "charuco" else 0
        return self.columns - inner, self.rows - inner

    @property
    def points_m(self) -> NDArray[np.float32]:
        """The corners or centres in the board's own axes, (N, 3), row by row."""
        columns, rows = self.counts
        row, column = np.divmod(np.arange(rows * columns), columns)
        x = 2 * column + row % 2 if self.kind == "acircles" else column
        return (np.stack([x, row, np.zeros_like(row)], 1) * self.spacing_m).astype(np.float32)

    @property
    def ends(self) -> int:
        """From how many ends the board may be read: 2 where nothing on it says which is up."""
        return 2 if self.kind in ("checkerboard", "circles") else 1


def charuco(board: Board, legacy: bool = False) -> Any:
    """Return OpenCV's ChArUco board; ``legacy`` ones of even rows begin with a white square, as before OpenCV 4.6."""
    size = board.columns, board.rows
    made = aruco().CharucoBoard(size, board.spacing_m, board.marker_m, markers(board.dictionary))
    made.setLegacyPattern(legacy)
    return made


@lru_cache(maxsize=4)
def markers(name: str) -> Any:
    """Return OpenCV's dictionary of markers of that name."""
    return aruco().getPredefinedDictionary(getattr(aruco(), name))


def dictionaries() -> list[str]:
    """Return the names of OpenCV's dictionaries of markers, each once."""
    return sorted({name.upper(): name for name in dir(aruco()) if name.startswith("DICT_")}.values())


def aruco() -> Any:
    """Return OpenCV's markers; raises `EdgemtlError` where they are missing or older than 4.7."""
    cv2 = opencv()
    found = getattr(cv2, "aruco", None)
    if not hasattr(found, "CharucoDetector"):
        raise EdgemtlError(
            f"ChArUco boards need OpenCV 4.7 or newer with its markers, this is {cv2.__version__}: "
            "pip install 'edgemtl-runtime[opencv]', or use a checkerboard"
        )
    return found


def far_apart(points: NDArray[Any]) -> float:
    """Return the longest distance between the corners of the points' bounding box."""
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
