"""Selection of calibration views, and reasons for those that are rejected."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import Board, dictionaries, extent, markers, opencv
from .charuco import MIN_CONDITIONING, count_markers
from .find import Corners, Image, enlarged, find_board
from .homography import conditioning
from .lens import ADVICE, MIN_VIEWS
from .matrices import Size

MIN_CORNERS = 6
SAME_VIEW = 0.0075
"""Views whose corners are closer than this share of the image's diagonal are the same view."""
NUM_DIAGNOSED, NUM_SEARCHED = 5, 2
"""Views that are analysed to explain a failure, and those that are searched for other markers."""
Detections = dict[int, Corners]


def insufficient(ids: NDArray[np.int64], board: Board) -> str:
    """Return why corners ``ids`` do not determine a board's pose, an empty string where they do."""
    if len(ids) < MIN_CORNERS:
        return f"only {len(ids)} corners"
    if conditioning(board.points_m[ids, :2].astype(np.float64)) < MIN_CONDITIONING:
        return f"{len(ids)} corners almost on a line"
    return ""


def different(detections: Detections, size: Size) -> list[int]:
    """Return the views that differ from all before them."""
    least = SAME_VIEW * float(np.hypot(*size))
    selected: list[int] = []
    for index, corners in detections.items():
        if all(_distance_px(corners, detections[other]) >= least for other in selected):
            selected.append(index)
    return selected


def _distance_px(one: Corners, other: Corners) -> float:
    ids = np.intersect1d(one.ids, other.ids)
    if not len(ids):
        return float("inf")
    return float(np.linalg.norm(one.pick(ids) - other.pick(ids), axis=1).mean())


def check_views(
    views: Sequence[tuple[Image, Image]],
    detections: Sequence[Detections],
    sufficient: Sequence[Detections],
    sizes: Sequence[Size],
    board: Board,
) -> None:
    """Raise `EdgemtlError` where too few views show the board to both cameras, or are too similar.

    ``detections`` are by camera, ``sufficient`` those of them that determine the board's pose.
    """
    common = sufficient[0].keys() & sufficient[1].keys()
    if len(common) < MIN_VIEWS:
        worse = max((0, 1), key=lambda camera: len(views) - len(detections[camera]))
        counts = f"(rgb {len(sufficient[0])}, ir {len(sufficient[1])})"
        raise EdgemtlError(
            f"only {len(common)} of {len(views)} views show the board to both cameras {counts}, {MIN_VIEWS} are "
            f"needed, better 15: {_advice(views, detections, worse, board)}"
        )
    for camera, name in enumerate(("rgb", "ir")):
        shared = {index: sufficient[camera][index] for index in sorted(common)}
        distinct = different(shared, sizes[camera])
        if len(distinct) < MIN_VIEWS:
            raise EdgemtlError(
                f"only {len(distinct)} of {len(shared)} common views differ to the {name} camera; {ADVICE}"
            )


def _advice(views: Sequence[tuple[Image, Image]], detections: Sequence[Detections], camera: int, board: Board) -> str:
    """Return what to do about a camera, 0 for rgb and 1 for ir, in which the board is not detected."""
    name = ("rgb", "ir")[camera]
    if board.pattern != "charuco":
        return f"check --board, and heat the board if the {name} camera does not see it"
    failed = [pair[camera] for index, pair in enumerate(views) if index not in detections[camera]][:NUM_DIAGNOSED]
    num_mirrored = sum(find_board(np.ascontiguousarray(image[:, ::-1]), board) is not None for image in failed)
    if 2 * num_mirrored > len(failed):
        return f"the {name} images are mirrored, its markers are only read the other way round; turn mirroring off"
    if len(detections[1 - camera]) < MIN_VIEWS and (wrong := _another_board(failed, board)):
        return f"the {name} images show {wrong}"
    if camera == 1:
        inner = "x".join(map(str, board.counts))
        return (
            "the ir camera does not see its markers, which must be warm or cold, not just black, and 15 pixels wide; "
            f"heat it by a lamp, come nearer, or calibrate with checkerboard:{inner}:{board.spacing_m:g} or circles"
        )
    return "check --board, and come nearer: a marker should be 15 pixels wide"


def _another_board(images: Sequence[Image], board: Board) -> str:
    """Return the markers in images that are not those of the board, an empty string where there are none."""
    greys = [enlarged(image)[0] for image in images]
    of_board = sum(count_markers(grey, markers(board.dictionary)) for grey in greys)
    if of_board > 2 * len(greys):
        return "its markers in other positions; check COLUMNSxROWS, which counts squares"
    searched = greys[:NUM_SEARCHED]

    def count(name: str) -> int:
        return sum(count_markers(grey, markers(name)) for grey in searched)

    known = sorted(dictionaries(), key=lambda name: len(markers(name).bytesList))
    largest = {_family(name): name for name in known}
    counts = {name: count(name) for name in largest.values()}
    best = max(counts, key=lambda name: counts[name])
    if counts[best] <= max(of_board, 2 * len(searched)):
        return ""
    # DICT_4X4_50 is the beginning of DICT_4X4_1000: the smallest one with all detected markers is named
    alike = [name for name in known if _family(name) == _family(best)]
    name = next(name for name in alike if name == best or count(name) >= counts[best])
    return f"markers of {name}, not {board.dictionary}; name it in --board"


def _family(dictionary: str) -> str:
    return re.sub(r"(?<=X\d)_\d+$", "", dictionary)


def reach(detections: Detections, size: Size) -> float:
    """Return the share of an image within the convex hull of the corners of all views."""
    points = np.concatenate([corners.xy for corners in detections.values()]).astype(np.float32)
    return float(opencv().contourArea(opencv().convexHull(points))) / (size[0] * size[1]) if extent(points) else 0.0
