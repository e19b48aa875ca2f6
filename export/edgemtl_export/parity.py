"""Two artefacts on the same frames: how far apart are they, a figure a head?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head

Arrays = dict[str, NDArray[Any]]
RAW_LIMIT = 1e-3
"""Largest absolute difference of a raw head, shrunk against given, in float32."""
SAME_IOU = 0.99
"""Boxes that overlap this much are the same."""
SAME_PIXELS = 0.999
"""Share of a map's pixels that must agree."""
ALL_AGREE = ("topk_boxes", "attributes")
"""Decoders of which every single value must agree."""
SLACK = 0.01
"""How far depths (as a share), scores and components of unit vectors may lie apart."""
SCORE, SCORE_SLACK = 0.05, 1e-3
"""Boxes below SCORE are not compared; a partner may lie this much below, so that none is lost at the edge."""


TOP = 10
"""How many of the best scores are compared in any case."""


class ParityError(RuntimeError):
    """The shipped network does not answer as the trained one does."""


def raw_difference(given: nn.Module, small: nn.Module, frames: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Return the largest absolute difference of every raw head over the frames; NaN when anything is."""
    worst: dict[str, float] = {}
    with torch.inference_mode():
        for frame in frames:
            expected, found = given(**frame), small(**frame)
            for name in found:
                difference = float((expected[name] - found[name]).abs().max())
                worst[name] = float(np.maximum(worst.get(name, 0.0), difference))  # keeps NaN
    return worst


def agreement(
    expected: Callable[[Arrays], Arrays],
    found: Callable[[Arrays], Arrays],
    heads: Sequence[Head],
    frames: Sequence[Arrays],
) -> dict[str, float]:
    """Return by head the share of label pixels that are equal, or of boxes that match one to one, over the frames."""
    agreed: dict[str, list[int]] = {head.name: [0, 0] for head in heads}
    for frame in frames:
        left, right = expected(frame), found(frame)
        for head in heads:
            same, total = AGREEMENTS[head.decoder](left[head.name], right[head.name])
            agreed[head.name][0] += same
            agreed[head.name][1] += total
    return {name: same / total if total else 1.0 for name, (same, total) in agreed.items()}


def same_pixels(left: NDArray[Any], right: NDArray[Any]) -> tuple[int, int]:
    """Return how many labels are equal, and how many there are."""
    return int((left == right).sum()), left.size


def same_boxes(left: NDArray[Any], right: NDArray[Any]) -> tuple[int, int]:
    """Return how many boxes and best scores agree, and how many there are, (B, K, 6) rows on either side.

    A sure box of either side agrees when it has a partner of its class on the other, one to one.
    """
    same = total = 0
    for a, b in zip(left, right, strict=True):
        # The best scores count whether or not a box is sure: garbage must not pass for a picture without boxes.
        best = [rows[:TOP, 4] for rows in (a, b)]
        total += len(best[0])
        if len(best[0]) == len(best[1]) and np.isfinite(a).all() and np.isfinite(b).all():
            same += int((np.abs(best[0] - best[1]) <= SCORE_SLACK).sum())
        for these, those in ((a, b), (b, a)):
            these, those = these[these[:, 4] >= SCORE], those[those[:, 4] >= SCORE - SCORE_SLACK]
            same += _matched(these, those)
            total += len(these)
    return same, total


def _matched(these: NDArray[Any], those: NDArray[Any]) -> int:
    free = np.ones(len(those), bool)
    count = 0
    for box in these:
        overlap = _iou(box, those) * free * (those[:, 5] == box[5])
        if len(overlap) and overlap.max() >= SAME_IOU:
            free[overlap.argmax()] = False
            count += 1
    return count


def _iou(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    inside = np.clip(high - low, 0, None).prod(1)
    areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (box, others)]
    return np.asarray(inside / np.maximum(areas[0] + areas[1] - inside, 1e-9))


def same_depths(left: NDArray[Any], right: NDArray[Any]) -> tuple[int, int]:
    """Return how many depths agree to a hundredth, and how many there are."""
    return int((np.abs(left - right) <= SLACK * np.abs(left)).sum()), left.size


def same_scores(left: NDArray[Any], right: NDArray[Any]) -> tuple[int, int]:
    """Return how many scores or components of unit vectors agree to a hundredth, and how many there are."""
    return int((np.abs(left - right) <= SLACK).sum()), left.size


AGREEMENTS: dict[str, Callable[[NDArray[Any], NDArray[Any]], tuple[int, int]]] = {
    "topk_boxes": same_boxes,
    "label_map": same_pixels,
    "depth_map": same_depths,
    "normal_map": same_scores,
    "edge_map": same_scores,
    "attributes": same_scores,
}
"""How the outputs for each decoder of the runtime are compared."""


def check(raw: dict[str, float], agreed: dict[str, float], heads: Sequence[Head]) -> None:
    """Raise `ParityError` with the figures when a head is past its limit."""
    for head in heads:
        if head.name in raw and not raw[head.name] <= RAW_LIMIT:  # also when NaN
            raise ParityError(
                f"{head.name}: the shrunk network's raw head is off by {raw[head.name]:.2e} ({RAW_LIMIT} allowed)"
            )
        required = 1.0 if head.decoder in ALL_AGREE else SAME_PIXELS
        if not agreed[head.name] >= required:
            raise ParityError(
                f"{head.name}: only {agreed[head.name]:.3%} of the bundle's output agrees with the run "
                f"({required:.1%} required)"
            )
