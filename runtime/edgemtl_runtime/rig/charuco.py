"""The corners between the squares of a ChArUco board, told apart by the markers in its white squares.

(Garrido-Jurado et al., "Automatic generation and detection of highly reliable fiducial markers under occlusion", 2014.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import Board, aruco, charuco, opencv
from .geometry import Array, spread

Image = NDArray[Any]
REACH = 0.45
"""Corners are refined on this share of the gap to the next one around them: more is their edges, less is noisy."""
PAINTED = 0.6
"""Share of the gap between a marker and its square's edge that is painted over with it."""
MIN_SPREAD = 0.05
"""Of corners in two rows of two and three `spread` is 0.3, with all but two on a line 0.03, which places no board."""
WRONG_SIDE = 0.2
"""A marker's side that is this share off what the board says is another board's."""


def find_charuco(image: Image, board: Board, factor: int) -> tuple[NDArray[np.int64], Array] | None:
    """Return the numbers (N,) and places (N, 2) of the corners that a grey picture shows, None where fewer than 4.

    ``factor`` is what the picture was enlarged by. Raises `EdgemtlError` where the markers are of another size.
    """
    cv2 = opencv()
    best: tuple[NDArray[np.int64], Array, Any, dict[int, Array]] | None = None
    for made, detector in _detectors(board):
        xy, ids, quads, numbers = detector.detectBoard(image)
        if ids is not None and len(ids) >= 4 and (best is None or len(ids) > len(best[0])):
            order = np.argsort(ids.ravel())
            known = dict(zip(np.ravel(numbers).tolist(), (np.reshape(q, (4, 2)) for q in quads), strict=True))
            best = ids.ravel()[order].astype(np.int64), np.asarray(xy, np.float64).reshape(-1, 2)[order], made, known
    if best is None:
        return None
    ids, xy, made, known = best
    homography, _ = cv2.findHomography(board.points_m[ids, :2].astype(np.float64), xy)
    if homography is None or spread(board.points_m[ids, :2].astype(np.float64)) < MIN_SPREAD:
        return ids, xy
    origin_m = board.spacing_m  # OpenCV counts from the board's corner, we from the first between squares
    quads_m = np.asarray(made.getObjPoints(), np.float64)[:, :, :2] - origin_m
    expected = cv2.perspectiveTransform(quads_m.reshape(1, -1, 2), homography).reshape(-1, 4, 2)
    expected = dict(zip(np.ravel(made.getIds()).tolist(), expected, strict=True))
    known = {number: quad for number, quad in known.items() if number in expected}
    _check_sides(board, known, expected)
    gap = _gap(homography, ids, board)
    return ids, refined(_without_markers(image, board, expected | known), xy, gap, factor)


def _check_sides(board: Board, seen: dict[int, Array], expected: dict[int, Array]) -> None:
    """Raise `EdgemtlError` where markers are of another size beside their squares than the board's."""
    area = opencv().contourArea
    shares = [
        area(quad.astype(np.float32)) / max(area(expected[n].astype(np.float32)), 1e-6) for n, quad in seen.items()
    ]
    share = float(np.sqrt(np.median(shares))) if shares else 1.0
    if abs(share - 1) > WRONG_SIDE:
        raise EdgemtlError(
            f"--board {board}: its markers look {share * board.marker_m:.3f} m wide where squares are "
            f"{board.spacing_m:g} m; measure both, and give SQUARE_M:MARKER_M"
        )


def _without_markers(image: Image, board: Board, quads: dict[int, Array]) -> Image:
    """Return the picture with its markers painted over, in what is around each, so that a checkerboard is left.

    Their edges would pull the corners, which are refined over more than the narrow gap between marker and square.
    """
    image = image.copy()
    share = PAINTED * (board.spacing_m / board.marker_m - 1)
    for quad in quads.values():
        outer = quad + share * (quad - quad.mean(0))
        border, around = _along(image, quad - 0.15 * (quad - quad.mean(0))), _along(image, outer)
        if len(border) and len(around):
            # quads are rough: what is least like the marker's border is around it
            value = int(np.quantile(around, 0.9 if np.median(around) > np.median(border) else 0.1))
            opencv().fillConvexPoly(image, np.rint(16 * outer).astype(np.int32), value, shift=4)
    return image


def _along(image: Image, quad: Array) -> Image:
    """Return the pixels along a quadrilateral's sides, as far as they are in the picture."""
    steps = np.linspace(0, 1, 8, endpoint=False)[:, None]
    sides = zip(quad, np.roll(quad, -1, 0), strict=True)
    x, y = np.rint(np.concatenate([a + (b - a) * steps for a, b in sides])).astype(np.int64).T
    inside = (x >= 0) & (x < image.shape[1]) & (y >= 0) & (y < image.shape[0])
    return np.asarray(image[y[inside], x[inside]])


def _gap(homography: Array, ids: NDArray[np.int64], board: Board) -> float:
    """Return the shortest way, in pixels, from one of the corners to the next."""
    at = board.points_m[ids, None, :2].astype(np.float64)
    side = board.spacing_m * np.array([[0, 0], [1, 0], [0, 1]], np.float64)
    here, right, down = opencv().perspectiveTransform(at + side, homography).transpose(1, 0, 2)
    return float(min(np.linalg.norm(right - here, axis=1).min(), np.linalg.norm(down - here, axis=1).min()))


def refined(image: Image, xy: Array, gap: float, factor: int) -> Array:
    """Return corners (N, 2) to a fraction of a pixel; ``gap`` is the shortest way from one to the next, pixels."""
    cv2 = opencv()
    reach = int(np.clip(gap * REACH, 2, 11 * factor))
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)
    corners = np.array(xy, np.float32).reshape(-1, 1, 2)
    return np.asarray(cv2.cornerSubPix(image, corners, (reach, reach), (-1, -1), until), np.float64).reshape(-1, 2)


@lru_cache(maxsize=4)
def _detectors(board: Board) -> tuple[tuple[Any, Any], ...]:
    """Boards of even rows come in two patterns, which only the markers' places tell apart."""
    parameters = aruco().DetectorParameters()
    parameters.detectInvertedMarker = True
    settings = aruco().CharucoParameters(), parameters
    patterns = (False, True) if board.rows % 2 == 0 else (False,)
    boards = [charuco(board, legacy) for legacy in patterns]
    return tuple((made, aruco().CharucoDetector(made, *settings)) for made in boards)


def count_markers(image: Image, dictionary: Any) -> int:
    """Return how many markers of a dictionary a grey picture shows, bright or dark."""
    parameters = aruco().DetectorParameters()
    parameters.detectInvertedMarker = True
    _, ids, _ = aruco().ArucoDetector(dictionary, parameters).detectMarkers(image)
    return 0 if ids is None else len(ids)
