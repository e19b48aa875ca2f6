"""Which views of a board are worth calibrating with, and in words why others are not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import EdgemtlError
from .calibration_board import Board, dictionaries, far_apart, markers, opencv
from .charuco import MIN_SPREAD, count_markers
from .find import Corners, Image, enlarged, find_board
from .geometry import Size, spread
from .lens import ADVICE, MIN_VIEWS

MIN_CORNERS = 6
SAME_VIEW = 0.0075
"""Views whose corners lie closer than this share of the picture's diagonal are one view."""
LOOKED_AT, FEW = 5, 2
"""Views that are looked at once more to say what is wrong, and those that are searched for other markers."""
Seen = dict[int, Corners]


def why_not(ids: Any, board: Board) -> str:
    """Return why corners with these ``ids`` do not place a board, an empty string where they do."""
    if len(ids) < MIN_CORNERS:
        return f"only {len(ids)} corners"
    if spread(board.points_m[ids, :2].astype(np.float64)) < MIN_SPREAD:
        return f"{len(ids)} corners almost on a line"
    return ""


def different(seen: Seen, size: Size) -> list[int]:
    """Return the views that differ from those before them."""
    least = SAME_VIEW * float(np.hypot(*size))
    chosen: list[int] = []
    for index, corners in seen.items():
        if all(_apart(corners, seen[other]) >= least for other in chosen):
            chosen.append(index)
    return chosen


def _apart(one: Corners, other: Corners) -> float:
    ids = np.intersect1d(one.ids, other.ids)
    if not len(ids):
        return float("inf")
    return float(np.linalg.norm(one.pick(ids) - other.pick(ids), axis=1).mean())


def check_views(
    views: Sequence[tuple[Image, Image]],
    found: Sequence[Seen],
    seen: Sequence[Seen],
    sizes: Sequence[Size],
    board: Board,
) -> None:
    """Raise `EdgemtlError` where too few views show the board to both cameras, or show it alike.

    ``found`` is what was found by camera, ``seen`` what of it is enough to place the board.
    """
    common = seen[0].keys() & seen[1].keys()
    if len(common) < MIN_VIEWS:
        few = max((0, 1), key=lambda camera: len(views) - len(found[camera]))
        told = f"(rgb {len(seen[0])}, ir {len(seen[1])})"
        raise EdgemtlError(
            f"only {len(common)} of {len(views)} views show the board to both cameras {told}, {MIN_VIEWS} are needed, "
            f"better 15: {_advice(views, found, few, board)}"
        )
    for camera, name in enumerate(("rgb", "ir")):
        own = {index: seen[camera][index] for index in sorted(common)}
        apart = different(own, sizes[camera])
        if len(apart) < MIN_VIEWS:
            raise EdgemtlError(f"only {len(apart)} of {len(own)} common views differ to the {name} camera; {ADVICE}")


def _advice(views: Sequence[tuple[Image, Image]], found: Sequence[Seen], camera: int, board: Board) -> str:
    """Return what to do about a camera, 0 for rgb and 1 for ir, in which the board is not found."""
    name = ("rgb", "ir")[camera]
    if board.kind != "charuco":
        return f"check --board, and heat the board if the {name} camera does not see it"
    some = [pair[camera] for index, pair in enumerate(views) if index not in found[camera]][:LOOKED_AT]
    read = sum(find_board(np.ascontiguousarray(image[:, ::-1]), board) is not None for image in some)
    if 2 * read > len(some):
        return f"the {name} pictures are mirrored, its markers are only read the other way round; turn mirroring off"
    if len(found[1 - camera]) < MIN_VIEWS and (wrong := _another_board(some, board)):
        return f"the {name} pictures show {wrong}"
    if camera == 1:
        inner = "x".join(map(str, board.counts))
        return (
            "the ir camera does not see its markers, which must be warm or cold, not just black, and 15 pixels wide; "
            f"heat it by a lamp, come nearer, or calibrate with checkerboard:{inner}:{board.spacing_m:g} or circles"
        )
    return "check --board, and come nearer: a marker should be 15 pixels wide"


def _another_board(images: Sequence[Image], board: Board) -> str:
    """Return what markers pictures show that are not those of the board, an empty string where none."""
    greys = [enlarged(image)[0] for image in images]
    own = sum(count_markers(grey, markers(board.dictionary)) for grey in greys)
    if own > 2 * len(greys):
        return "its markers at other places; check COLUMNSxROWS, which counts squares"
    few = greys[:FEW]

    def shown(name: str) -> int:
        return sum(count_markers(grey, markers(name)) for grey in few)

    known = sorted(dictionaries(), key=lambda name: len(markers(name).bytesList))
    largest = {_family(name): name for name in known}
    counts = {name: shown(name) for name in largest.values()}
    best = max(counts, key=lambda name: counts[name])
    if counts[best] <= max(own, 2 * len(few)):
        return ""
    # DICT_4X4_50 is the beginning of DICT_4X4_1000: the smallest that has all that was seen is told
    alike = [name for name in known if _family(name) == _family(best)]
    name = next(name for name in alike if name == best or shown(name) >= counts[best])
    return f"markers of {name}, not {board.dictionary}; name it in --board"


def _family(dictionary: str) -> str:
    return re.sub(r"(?<=X\d)_\d+$", "", dictionary)


def reach(seen: Seen, size: Size) -> float:
    """Return the share of a picture that lies within the corners of all views."""
    points = np.concatenate([corners.xy for corners in seen.values()]).astype(np.float32)
    return float(opencv().contourArea(opencv().convexHull(points))) / (size[0] * size[1]) if far_apart(points) else 0.0
