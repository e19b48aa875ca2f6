"""Detection of ChArUco boards: the corners between squares, identified by the markers in the white squares.

(Garrido-Jurado et al., "Automatic generation and detection of highly reliable fiducial markers under occlusion", 2014.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import Board, aruco, charuco, opencv
from .homography import conditioning
from .matrices import Array

Image = NDArray[Any]
WINDOW = 0.45
"""Half width of the refinement window, as a share of the gap between corners: more takes in edges, less is noisy."""
PAINTED = 0.6
"""Share of the gap between a marker and its square's edge that is painted over together with the marker."""
MIN_CONDITIONING = 0.05
"""`conditioning` of corners in two rows of two and three is 0.3, with all but two on a line 0.03: no pose."""
WRONG_SIDE = 0.2
"""Relative error of the marker size beyond which the markers are of another board."""


def find_charuco(image: Image, board: Board, factor: int) -> tuple[NDArray[np.int64], Array] | None:
    """Return the ids (N,) and pixels (N, 2) of the corners in a grey image, None where fewer than 4.

    ``factor`` is the scale by which the image was enlarged. Raises `EdgemtlError` on markers of another size.
    """
    cv2 = opencv()
    best: tuple[NDArray[np.int64], Array, Any, dict[int, Array]] | None = None
    for cv_board, detector in _detectors(board):
        xy, ids, quads, numbers = detector.detectBoard(image)
        if ids is not None and len(ids) >= 4 and (best is None or len(ids) > len(best[0])):
            order = np.argsort(ids.ravel())
            detected = dict(zip(np.ravel(numbers).tolist(), (np.reshape(q, (4, 2)) for q in quads), strict=True))
            best = (
                ids.ravel()[order].astype(np.int64),
                np.asarray(xy, np.float64).reshape(-1, 2)[order],
                cv_board,
                detected,
            )
    if best is None:
        return None
    ids, xy, cv_board, detected = best
    homography, _ = cv2.findHomography(board.points_m[ids, :2].astype(np.float64), xy)
    if homography is None or conditioning(board.points_m[ids, :2].astype(np.float64)) < MIN_CONDITIONING:
        return ids, xy
    origin_m = board.spacing_m  # OpenCV's origin is the board's corner, ours the first corner between squares
    quads_m = np.asarray(cv_board.getObjPoints(), np.float64)[:, :, :2] - origin_m
    expected = cv2.perspectiveTransform(quads_m.reshape(1, -1, 2), homography).reshape(-1, 4, 2)
    expected = dict(zip(np.ravel(cv_board.getIds()).tolist(), expected, strict=True))
    detected = {number: quad for number, quad in detected.items() if number in expected}
    _check_marker_size(board, detected, expected)
    gap = _gap(homography, ids, board)
    return ids, refined(_without_markers(image, board, expected | detected), xy, gap, factor)


def _check_marker_size(board: Board, detected: dict[int, Array], expected: dict[int, Array]) -> None:
    """Raise `EdgemtlError` where the ratio of markers to squares is not the board's."""
    area = opencv().contourArea
    ratios = [
        area(quad.astype(np.float32)) / max(area(expected[n].astype(np.float32)), 1e-6) for n, quad in detected.items()
    ]
    ratio = float(np.sqrt(np.median(ratios))) if ratios else 1.0
    if abs(ratio - 1) > WRONG_SIDE:
        raise EdgemtlError(
            f"--board {board}: its markers look {ratio * board.marker_m:.3f} m wide where squares are "
            f"{board.spacing_m:g} m; measure both, and give SQUARE_M:MARKER_M"
        )


def _without_markers(image: Image, board: Board, quads: dict[int, Array]) -> Image:
    """Return the image with its markers painted over in the surrounding colour, so that a checkerboard remains.

    Their edges would bias the corners, which are refined over more than the narrow gap between marker and square.
    """
    image = image.copy()
    share = PAINTED * (board.spacing_m / board.marker_m - 1)
    for quad in quads.values():
        outer = quad + share * (quad - quad.mean(0))
        border, surround = _along(image, quad - 0.15 * (quad - quad.mean(0))), _along(image, outer)
        if len(border) and len(surround):
            # quads are rough: what differs most from the marker's border surrounds it
            value = int(np.quantile(surround, 0.9 if np.median(surround) > np.median(border) else 0.1))
            opencv().fillConvexPoly(image, np.rint(16 * outer).astype(np.int32), value, shift=4)
    return image


def _along(image: Image, quad: Array) -> Image:
    """Return the pixels along a quadrilateral's sides, within the image."""
    steps = np.linspace(0, 1, 8, endpoint=False)[:, None]
    sides = zip(quad, np.roll(quad, -1, 0), strict=True)
    x, y = np.rint(np.concatenate([a + (b - a) * steps for a, b in sides])).astype(np.int64).T
    inside = (x >= 0) & (x < image.shape[1]) & (y >= 0) & (y < image.shape[0])
    return np.asarray(image[y[inside], x[inside]])


def _gap(homography: Array, ids: NDArray[np.int64], board: Board) -> float:
    """Return the shortest distance between neighbouring corners, pixels."""
    at = board.points_m[ids, None, :2].astype(np.float64)
    side = board.spacing_m * np.array([[0, 0], [1, 0], [0, 1]], np.float64)
    corner, right, down = opencv().perspectiveTransform(at + side, homography).transpose(1, 0, 2)
    return float(min(np.linalg.norm(right - corner, axis=1).min(), np.linalg.norm(down - corner, axis=1).min()))


def refined(image: Image, xy: Array, gap: float, factor: int) -> Array:
    """Return corners (N, 2) refined to a fraction of a pixel; ``gap`` is the shortest distance between them, pixels."""
    cv2 = opencv()
    half_window = int(np.clip(gap * WINDOW, 2, 11 * factor))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)
    corners = np.array(xy, np.float32).reshape(-1, 1, 2)
    return np.asarray(
        cv2.cornerSubPix(image, corners, (half_window, half_window), (-1, -1), criteria), np.float64
    ).reshape(-1, 2)


@lru_cache(maxsize=4)
def _detectors(board: Board) -> tuple[tuple[Any, Any], ...]:
    """Detectors of the two patterns of boards with an even number of rows, which differ in the markers' positions."""
    parameters = aruco().DetectorParameters()
    parameters.detectInvertedMarker = True
    settings = aruco().CharucoParameters(), parameters
    patterns = (False, True) if board.rows % 2 == 0 else (False,)
    boards = [charuco(board, legacy) for legacy in patterns]
    return tuple((cv_board, aruco().CharucoDetector(cv_board, *settings)) for cv_board in boards)


def count_markers(image: Image, dictionary: Any) -> int:
    """Return the number of markers of a dictionary in a grey image, of either polarity."""
    parameters = aruco().DetectorParameters()
    parameters.detectInvertedMarker = True
    _, ids, _ = aruco().ArucoDetector(dictionary, parameters).detectMarkers(image)
    return 0 if ids is None else len(ids)
