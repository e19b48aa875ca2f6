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
    """What counts as equal: boxes by IoU or sides, scores within ``score``, other values within ``value``.

    Boxes: of an IoU from ``iou`` on, or with sides within 1 - ``iou`` pixels.
    Depths may differ by ``value`` as a share, components of unit vectors and scores of maps by ``value`` itself,
    numbers in units by ``value`` as a share of themselves or of their spread, points by ``distance_px``.
    """

    iou: float
    score: float
    value: float
    distance_px: float


SAME = Tolerance(0.99, 1e-3, 0.01, 0.5)
"""For the same arithmetic in another program."""
SIMILAR = Tolerance(0.9, 0.02, 0.03, 2.0)
"""For a lower precision."""
MIN_AGREEMENT = 0.99
"""Share of every head's values that must agree: of an engine with ONNX Runtime, of a bundle with its self-test."""
SCORE = 0.05
"""Boxes below are not compared; a match may lie a little below, so that none is lost at the edge."""
TOP = 10
"""How many of the best scores are compared in any case."""
LONG = 100
"""A list of so many objects may be the best of more."""


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

    A confident box of either side agrees when it matches one of its class on the other, one to one: by IoU, or by its
    sides, as a network may put out boxes without any area.
    """

    def closeness(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
        sides = (1 - tolerance.iou) - np.abs(others[:, :4] - box[:4]).max(1)
        return np.asarray(np.maximum(_iou(box, others) - tolerance.iou, sides))

    return _same_objects(left, right, 4, tolerance.score, closeness)


def same_points(left: NDArray[Any], right: NDArray[Any], tolerance: Tolerance = SAME) -> tuple[int, int]:
    """Return how many points and best scores agree, and how many there are, (B, K, 4) rows on either side."""

    def closeness(point: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(tolerance.distance_px - np.hypot(*(others[:, :2] - point[:2]).T))

    return _same_objects(left, right, 2, tolerance.score, closeness)


Fit = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""(an object, others) to how well each fits it, from 0 on."""


def _same_objects(
    left: NDArray[Any], right: NDArray[Any], score_column: int, score: float, fit: Fit
) -> tuple[int, int]:
    """Return how many objects and best scores agree, and how many there are; the class follows the score in a row."""
    same = total = 0
    for a, b in zip(left, right, strict=True):
        # The best scores count whether or not an object is confident: garbage must not pass for an empty image.
        best = [rows[:TOP, score_column] for rows in (a, b)]
        total += len(best[0])
        if len(best[0]) == len(best[1]) and np.isfinite(a).all() and np.isfinite(b).all():
            same += int((np.abs(best[0] - best[1]) <= score).sum())
        for these, those in ((a, b), (b, a)):
            # Of a long list only the best came out: what scores no more than its last may be beyond its end.
            end = float(those[:, score_column].min()) + score if len(those) >= LONG else 0.0
            these = these[these[:, score_column] >= max(SCORE, end)]
            those = those[those[:, score_column] >= SCORE - score]
            same += _matched(these, those, score_column + 1, fit)
            total += len(these)
    return same, total


def _matched(these: NDArray[Any], those: NDArray[Any], class_column: int, fit: Fit) -> int:
    free = np.ones(len(those), bool)
    count = 0
    for row in these:
        fits = np.where(free & (those[:, class_column] == row[class_column]), fit(row, those), -1.0)
        if len(fits) and fits.max() >= 0:
            free[fits.argmax()] = False
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


def same_values(left: NDArray[Any], right: NDArray[Any], tolerance: Tolerance = SAME) -> tuple[int, int]:
    """Return how many numbers in units agree, and how many there are; one that is not known equals another such."""
    known = left[np.isfinite(left)]
    spread = float(np.subtract(*np.percentile(known, (95, 5)))) if known.size else 0.0
    magnitude = np.abs(np.where(np.isfinite(left), left, 0.0))
    limit = tolerance.value * np.maximum(spread, magnitude)
    same = (np.abs(left - right) <= limit) | (~np.isfinite(left) & ~np.isfinite(right))
    return int(same.sum()), left.size


AGREEMENTS: dict[str, Callable[[NDArray[Any], NDArray[Any], Tolerance], tuple[int, int]]] = {
    "topk_boxes": same_boxes,
    "nms_boxes": same_boxes,
    "label_map": same_pixels,
    "depth_map": same_depths,
    "normal_map": same_scores,
    "edge_map": same_scores,
    "attributes": same_scores,
    "scalar_map": same_values,
    "vector_map": same_values,
    "points": same_points,
    "scalars": same_values,
    "tensor": same_values,
}
"""How the outputs for each decoder of the runtime are compared."""
