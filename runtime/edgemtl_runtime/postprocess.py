"""Numbers for the objects of every head of boxes, in the network's pixels, which all cameras share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .bundle import Head
from .bytetrack import Tracker
from .decode import Thresholds
from .letterbox import Fit
from .result import Boxes, HeadResult

LOW = 0.1
"""Boxes of lower scores are looked at by nobody."""


class Tracking:
    """A `Tracker` for each head of boxes; ``thresholds`` are what heads are to be decoded with for it.

    A head's own thresholds are what a box needs to be told; weaker ones only carry on an object that is known. While
    one camera is silent results may be in the other's pixels, so objects are followed in the network's.
    """

    def __init__(self, heads: Sequence[Head], thresholds: Mapping[str, Thresholds]) -> None:
        boxes = [head for head in heads if head.decoder == "topk_boxes"]
        high = {head.name: thresholds.get(head.name, np.float32(head.threshold)) for head in boxes}
        self.trackers = {name: Tracker(high=least, low=min(LOW, float(np.min(least)))) for name, least in high.items()}
        self.thresholds = dict(thresholds) | {n: np.asarray(t.low, np.float32) for n, t in self.trackers.items()}
        _rehearse()

    def update(self, heads: dict[str, HeadResult], fit: Fit, stamp_ns: int) -> dict[str, HeadResult]:
        """Return the heads with their boxes numbered."""
        found = dict(heads)
        for name, tracker in self.trackers.items():
            boxes = heads[name]
            assert isinstance(boxes, Boxes)
            scale = np.float32(fit.scale)
            kept = tracker.update(replace(boxes, xyxy=boxes.xyxy * scale), stamp_ns)
            found[name] = replace(kept, xyxy=kept.xyxy / scale)
        return found


def _rehearse() -> None:
    """Follow an object once: what NumPy imports for it would make the first frames of cameras late."""
    tracker, one = Tracker(), np.ones(1, np.float32)
    box = Boxes(np.array([[0, 0, 9, 9]], np.float32), one, np.zeros(1, np.int64), ("",))
    for stamp_ns in (1, 2):
        tracker.update(box, stamp_ns)
