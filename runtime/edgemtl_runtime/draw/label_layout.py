"""Point-feature label placement: the labels of boxes where none covers another.

The greedy method on a fixed list of candidate positions (Christensen, Marks and Shieber 1995, "An empirical study of
algorithms for point-feature label placement"): best boxes first, each label at the first candidate that is free. It is
deterministic, and of objects that hardly move the labels hardly jump.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 are outside."""
RINGS = 7
"""Distances, in heights of a label, at which a label with a leader line is tried."""


@dataclass(frozen=True)
class PlacedLabel:
    """The label of box ``index``, at ``rectangle``; ``variant`` is its place among the sizes that were given.

    ``leader`` is a line (x0, y0, x1, y1) from the label to its box, where they do not touch.
    """

    index: int
    rectangle: Rectangle
    variant: int
    leader: tuple[int, int, int, int] | None


def place_labels(
    boxes: Sequence[Rectangle],
    sizes: Sequence[Sequence[tuple[int, int]]],
    panel: tuple[int, int],
    reserved: Iterable[Rectangle] = (),
) -> list[PlacedLabel]:
    """Return the labels of ``boxes``, best first, for which there is room; no two overlap, nor one a ``reserved`` area.

    ``sizes`` has for every box the (width, height) of its label's variants, the one that is liked best first.
    ``panel`` is (height, width) in pixels.
    """
    occupied = np.empty((len(boxes) + 64, 4), np.int64)
    count = 0
    for count, area in enumerate(list(reserved)[:64], 1):
        occupied[count - 1] = area
    placed = []
    for index, (box, variants) in enumerate(zip(boxes, sizes, strict=True)):
        for variant, size in enumerate(variants):
            rectangle = _free_position(box, size, panel, occupied[:count])
            if rectangle is not None:
                occupied[count] = rectangle
                count += 1
                placed.append(PlacedLabel(index, rectangle, variant, _leader(rectangle, box)))
                break
    return placed


def _free_position(
    box: Rectangle, size: tuple[int, int], panel: tuple[int, int], occupied: NDArray[np.int64]
) -> Rectangle | None:
    """Return the first candidate that is within the panel and free."""
    (width, height), (x0, y0, _, _) = size, box
    if width > panel[1] or height > panel[0]:
        return None
    above = (min(max(x0, 0), panel[1] - width), y0 - height)
    if (
        0 <= above[1] <= panel[0] - height and not _overlaps(np.array([above]), size, occupied)[0]
    ):  # nearly always: the rest costs more
        return above[0], above[1], above[0] + width, y0
    corners = _candidates(box, size)
    corners[:, 0] = corners[:, 0].clip(0, panel[1] - width)
    corners = corners[(corners[:, 1] >= 0) & (corners[:, 1] + height <= panel[0])]
    free = np.flatnonzero(~_overlaps(corners, size, occupied))
    if not len(free):
        return None
    left, top = corners[free[0]].tolist()
    return left, top, left + width, top + height


def _candidates(box: Rectangle, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the top left corners that a label may have, (N, 2): at the box, then farther and farther from it."""
    (width, height), (x0, y0, x1, y1) = size, box
    columns = (x0, x1 - width)
    near = [(x, y) for y in (y0 - height, y1) for x in columns]  # above and below
    if x1 - x0 >= width and y1 - y0 >= height:
        near += [(x, y) for y in (y0, y1 - height) for x in columns]  # inside
    near += [(x, y) for y in (y0, y1 - height) for x in (x1, x0 - width)]  # at the sides
    far = [
        (x, y)
        for ring in range(1, RINGS)
        for y in (y0 - height - ring * (height + 1), y1 + ring * (height + 1))
        for x in (*columns, x0 - width - 6 * ring, x1 + 6 * ring)
    ]
    return np.array(near + far, np.int64)


def _overlaps(corners: NDArray[np.int64], size: tuple[int, int], occupied: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a label with its top left corner at each of ``corners`` (N, 2) would cover an occupied area, (N,)."""
    x, y = corners[:, :1], corners[:, 1:]
    x0, y0, x1, y1 = occupied.T
    covers = (x < x1) & (x + size[0] > x0) & (y < y1) & (y + size[1] > y0)
    return np.asarray(covers.any(1))


def _leader(label: Rectangle, box: Rectangle) -> tuple[int, int, int, int] | None:
    """Return the shortest line between the borders of a label and its box; None where they touch or overlap."""
    (lx0, ly0, lx1, ly1), (x0, y0, x1, y1) = label, box
    start_x, end_x = _nearest(lx0, lx1 - 1, x0, x1)
    start_y, end_y = _nearest(ly0, ly1 - 1, y0, y1)
    if abs(start_x - end_x) <= 2 and abs(start_y - end_y) <= 2:
        return None
    return start_x, start_y, end_x, end_y


def _nearest(low: int, high: int, other_low: int, other_high: int) -> tuple[int, int]:
    """Return the points of two intervals that are nearest to each other; the middle of what they share."""
    if high < other_low:
        return high, other_low
    if low > other_high:
        return low, other_high
    middle = (max(low, other_low) + min(high, other_high)) // 2
    return middle, middle
