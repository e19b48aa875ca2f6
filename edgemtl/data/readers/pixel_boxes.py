"""Boxes in pixels as labels: clipped to their image; those without area, or outside it, are skipped with a count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..label_size import Size
from ..problems import Problems
from ..sample import BoxLabels

NO_AREA, OUTSIDE, IGNORED = "boxes without area", "boxes outside their image", "objects marked ignore or difficult"
"""Reasons for which boxes are skipped, of whatever file they are."""
NO_CLASS = "objects of kinds that are no class of this dataset"


def pixel_boxes(rows: Sequence[tuple[float, ...]], size: Size | None, file: Path, problems: Problems) -> BoxLabels:
    """Return boxes of (class, x0, y0, x1, y1) that a file holds of an image of ``size``, if it is known."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    xyxy = table[:, 1:].astype(np.float32)
    has_area = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
    if size is not None:
        height, width = size
        xyxy = xyxy.clip(0, np.array([width, height, width, height], np.float32))
    is_inside = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
    for reason, skipped in ((NO_AREA, ~has_area), (OUTSIDE, has_area & ~is_inside)):
        if skipped.any():
            first = table[skipped.argmax(), 1:].tolist()
            problems.skip(reason, file, detail=f"{first}", count=int(skipped.sum()))
    kept = has_area & is_inside
    return BoxLabels(xyxy[kept], table[kept, 0].astype(np.int64))
