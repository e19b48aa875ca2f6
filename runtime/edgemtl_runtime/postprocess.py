"""Postprocessing: score thresholds given at run time, and track numbers for the objects of every head of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .bundle import Head
from .bytetrack import Tracker
from .decode import Thresholds
from .errors import EdgemtlError, nearest_hint
from .letterbox import Letterbox
from .result import Boxes, HeadResult

BOXES = ("topk_boxes", "nms_boxes")
"""Decoders of boxes."""
BY_CLASS = (*BOXES, "points", "attributes")
"""Decoders of which every class has a threshold."""
BY_HEAD = ("edge_map",)
"""Decoders with one threshold."""
LOW = 0.1
"""Boxes of lower scores are dropped before tracking."""


class HeadTrackers:
    """A `Tracker` for each head of boxes; ``thresholds`` are those that heads are to be decoded with for it.

    A head's threshold is what a box needs to be in the result; weaker ones only continue a track. While one camera is
    silent results may be in the other's pixels, so objects are tracked in the network's, which all cameras share.
    """

    def __init__(self, heads: Sequence[Head], thresholds: Mapping[str, Thresholds]) -> None:
        boxes = [head for head in heads if head.decoder in BOXES]
        high = {head.name: thresholds.get(head.name, np.float32(head.threshold)) for head in boxes}
        self.trackers = {name: Tracker(high=least, low=min(LOW, float(np.min(least)))) for name, least in high.items()}
        self.thresholds = dict(thresholds) | {n: np.asarray(t.low, np.float32) for n, t in self.trackers.items()}
        _warm_up()

    def update(self, heads: dict[str, HeadResult], letterbox: Letterbox, stamp_ns: int) -> dict[str, HeadResult]:
        """Return the heads with track numbers on their boxes."""
        tracked = dict(heads)
        for name, tracker in self.trackers.items():
            boxes = heads[name]
            assert isinstance(boxes, Boxes)
            scale = np.float32(letterbox.scale)
            kept = tracker.update(replace(boxes, xyxy=boxes.xyxy * scale), stamp_ns)
            tracked[name] = replace(kept, xyxy=kept.xyxy / scale)
        return tracked


def _warm_up() -> None:
    """Track one object: NumPy's imports for it would make the cameras' first frames late."""
    tracker, one = Tracker(), np.ones(1, np.float32)
    box = Boxes(np.array([[0, 0, 9, 9]], np.float32), one, np.zeros(1, np.int64), ("",))
    for stamp_ns in (1, 2):
        tracker.update(box, stamp_ns)


def parse_thresholds(texts: Sequence[str], heads: tuple[Head, ...]) -> dict[str, Thresholds]:
    """Parse thresholds such as "boxes=0.3", "boxes.person=0.4" and "edges=0.2", by head name, for `decode.decode`.

    Returns (classes,) float32 for boxes and attributes, () float32 for edges, of the heads that are named. A class's
    threshold takes precedence over its head's; of the same, the last. Raises `EdgemtlError` for an unknown head or
    class, a head without a threshold, and a value outside [0, 1].
    """
    parsed = [_parse_threshold(text, heads) for text in texts]
    thresholds: dict[str, Thresholds] = {}
    for head, name, value in sorted(parsed, key=lambda part: part[1] is not None):  # sorted keeps the order of equals
        if head.name not in thresholds:
            shape = (len(head.classes),) if head.decoder in BY_CLASS else ()
            thresholds[head.name] = np.full(shape, head.threshold, np.float32)
        thresholds[head.name][... if name is None else head.classes.index(name)] = value
    return thresholds


def _parse_threshold(text: str, heads: tuple[Head, ...]) -> tuple[Head, str | None, float]:
    """Return the head, its class or None for the whole head, and the value."""
    target, sign, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not sign or not 0 <= value <= 1:
        raise EdgemtlError(f"threshold '{text}': write HEAD=VALUE or HEAD.CLASS=VALUE with a value from 0 to 1")
    head, name = _head_and_class(text, target, heads)
    if head.decoder not in BY_CLASS + BY_HEAD:
        names = ", ".join(h.name for h in heads if h.decoder in BY_CLASS + BY_HEAD) or "none"
        raise EdgemtlError(f"threshold '{text}': {head.name} has no threshold; heads that have one: {names}")
    if name is not None and head.decoder in BY_HEAD:
        raise EdgemtlError(f"threshold '{text}': {head.name} has one threshold for all; write {head.name}={number}")
    if name is not None and name not in head.classes:
        raise EdgemtlError(
            f"threshold '{text}': {head.name} has no class '{name}'{nearest_hint(name, list(head.classes))}"
        )
    return head, name, value


def _head_and_class(text: str, target: str, heads: tuple[Head, ...]) -> tuple[Head, str | None]:
    # Names of heads and of classes may hold dots themselves: the longest matching head's name is meant.
    for head in sorted(heads, key=lambda head: -len(head.name)):
        if target == head.name:
            return head, None
        if target.startswith(f"{head.name}."):
            return head, target[len(head.name) + 1 :]
    unknown = target.partition(".")[0]
    hint = nearest_hint(unknown, [head.name for head in heads])
    raise EdgemtlError(f"threshold '{text}': the bundle has no head '{unknown}'{hint}")
