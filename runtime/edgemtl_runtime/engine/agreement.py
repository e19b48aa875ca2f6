"""Agreement of two engines on the same images: by head, the share of their outputs that match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Head
from . import Arrays


@dataclass(frozen=True)
class Tolerance:
    """What counts as equal: boxes of an IoU from ``iou`` on, scores within ``score``, other values within ``value``.

    Depths may differ by ``value`` as a share, components of unit vectors and scores of maps by ``value`` itself.
    """

    iou: float
    score: float
    value: float


SAME = Tolerance(0.99, 1e-3, 0.01)
"""For the same arithmetic in another program."""
SIMILAR = Tolerance(0.9, 0.02, 0.03)
"""For a lower precision."""
SCORE = 0.05
"""Boxes below are not compared; a match may lie a little below, so that none is lost at the edge."""
TOP = 10
"""How many of the best scores are compared in any case."""


def agreement(
    expected: Callable[[Arrays], Arrays],
    actual: Callable[[Arrays], Arrays],
    heads: Sequence[Head],
    frames: Sequence[Arrays],
    tolerance: Tolerance = SAME,
) -> dict[str, float]:
    """Return by head the share of label pixels that are equal, or of boxes that match one to one, over the frames."""
    agreed: dict[str, list[int]] = {head.name: [0, 0] for head in heads}
    for frame in frames:
        left, right = expected(frame), actual(frame)
        for head in heads:
            same, total = AGREEMENTS[head.decoder](left[head.name], right[head.name], tolerance)
            agreed[head.name][0] += same
            agreed[head.name][1] += total
    return {name: same / total if total else 1.0 for name, (same, total) in agreed.items()}


def same_pixels(left: NDArray[Any], right: NDArray[Any], tolerance: Tolerance = SAME) -> tuple[int, int]:
    """Return how many labels are equal, and how many there are."""
    return int((left == right).sum()), left.size


def same_boxes(left: NDArray[Any], right: NDArray[Any], tolerance: Tolerance = SAME) -> tuple[int, int]:
    """Return how many boxes and best scores agree, and how many there are, (B, K, 6) rows on either side.

    A confident box of either side agrees when it matches one of its class on the other, one to one.
    """
    same = total = 0
    for a, b in zip(left, right, strict=True):
        # The best scores count whether or not a box is confident: garbage must not pass for an image without boxes.
        best = [rows[:TOP, 4] for rows in (a, b)]
        total += len(best[0])
        if len(best[0]) == len(best[1]) and np.isfinite(a).all() and np.isfinite(b).all():
            same += int((np.abs(best[0] - best[1]) <= tolerance.score).sum())
        for these, those in ((a, b), (b, a)):
            these, those = these[these[:, 4] >= SCORE], those[those[:, 4] >= SCORE - tolerance.score]
            same += _matched(these, those, tolerance.iou)
            total += len(these)
    return same, total


def _matched(these: NDArray[Any], those: NDArray[Any], iou: float) -> int:
    free = np.ones(len(those), bool)
    count = 0
    for box in these:
        overlap = _iou(box, those) * free * (those[:, 5] == box[5])
        if len(overlap) and overlap.max() >= iou:
            free[overlap.argmax()] = False
            count += 1
    return count


def _iou(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    inside = np.clip(high - low, 0, None).prod(1)
    areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (box, others)]
    return np.asarray(inside / np.maximum(areas[0] + areas[1] - inside, 1e-9))


def same_depths(left: NDArray[Any], right: NDArray[Any], tolerance: Tolerance = SAME) -> tuple[int, int]:
    """Return how many depths agree, and how many there are."""
    return int((np.abs(left - right) <= tolerance.value * np.abs(left)).sum()), left.size


def same_scores(left: NDArray[Any], right: NDArray[Any], tolerance: Tolerance = SAME) -> tuple[int, int]:
    """Return how many scores or components of unit vectors agree, and how many there are."""
    return int((np.abs(left - right) <= tolerance.value).sum()), left.size


AGREEMENTS: dict[str, Callable[[NDArray[Any], NDArray[Any], Tolerance], tuple[int, int]]] = {
    "topk_boxes": same_boxes,
    "label_map": same_pixels,
    "depth_map": same_depths,
    "normal_map": same_scores,
    "edge_map": same_scores,
    "attributes": same_scores,
}
"""How the outputs for each decoder of the runtime are compared."""
