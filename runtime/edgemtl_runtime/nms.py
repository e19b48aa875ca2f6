"""Non-maximum suppression by class: of boxes of one class that overlap, the one of the best score stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def suppress(
    xyxy: NDArray[np.float32], scores: NDArray[Any], classes: NDArray[Any], max_iou: float, most: int
) -> NDArray[np.intp]:
    """Return the rows of the boxes that stay, best first, at most ``most``.

    Boxes are (N, 4), scores and classes (N,). A box goes where a better one of its class covers it by an IoU above
    ``max_iou``; of equal scores the first row counts as the better one.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, ids = xyxy[order].astype(np.float32), classes[order]
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    left = np.ones(len(order), bool)
    kept: list[int] = []
    for row in range(len(order)):
        if not left[row]:
            continue
        kept.append(row)
        if len(kept) == most:
            break
        others = np.flatnonzero(left[row + 1 :] & (ids[row + 1 :] == ids[row])) + row + 1
        if len(others):
            corners = np.minimum(boxes[others, 2:], boxes[row, 2:]) - np.maximum(boxes[others, :2], boxes[row, :2])
            inside = corners.clip(0).prod(1)
            union = areas[others] + areas[row] - inside
            left[others[inside > max_iou * union]] = False
    return order[kept]
