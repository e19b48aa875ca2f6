"""Layout of the panels of one drawing: sizes, text, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass

from ..frame import FramePair, Size
from ..result import DepthMap, EdgeMap, LabelMap, NormalMap, Result, ScalarMap, VectorMap
from .scales import Range, numbers_of

MIN_WIDTH = 400
TEXT, TEXT_PER_PX = 0.4, 0.0006
"""Least scale of text, in OpenCV's units, and its scale a pixel of a panel's width."""


@dataclass(frozen=True)
class Canvas:
    """Layout of every panel: ``height`` and ``width`` in pixels, ``scale`` panel pixels to a pixel of the results.

    ``text`` is the font scale, in OpenCV's units. ``scores``: whether boxes and attributes are drawn with their scores,
    which labels have not. ``depth_range`` is that of a depth map's colours, None for the map's own.
    """

    height: int
    width: int
    scale: float
    text: float = TEXT
    scores: bool = True
    depth_range: Range | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or self.scale <= 0 or self.text <= 0:
            raise ValueError(f"a panel has a size, not {self.width}x{self.height} at {self.scale}, text {self.text}")


def canvas(pair: FramePair, result: Result, least: int = MIN_WIDTH, most: int = 0) -> Canvas:
    """Plan the panels of one result: enlarged by a whole factor to ``least`` pixels, at most ``most`` wide unless 0."""
    height, width = result_size(pair, result)
    scale = float(max(1, -(-least // width)))
    if most and width * scale > most:
        scale = most / width
    width_px = max(1, round(width * scale))
    return Canvas(max(1, round(height * scale)), width_px, scale, max(TEXT, width_px * TEXT_PER_PX))


def result_size(pair: FramePair, result: Result) -> Size:
    """Return the (height, width) of the results' pixels: a map's where their camera has no image."""
    if result.camera in pair.frames:
        return pair.frames[result.camera].size
    for head in result.heads.values():
        if isinstance(head, LabelMap):
            return head.labels.shape[0], head.labels.shape[1]
        if isinstance(head, DepthMap):
            return head.depth_m.shape[0], head.depth_m.shape[1]
        if isinstance(head, NormalMap):
            return head.normals.shape[0], head.normals.shape[1]
        if isinstance(head, EdgeMap):
            return head.scores.shape[0], head.scores.shape[1]
        if isinstance(head, ScalarMap | VectorMap):
            height, width = numbers_of(head).shape
            return height, width
    return next(iter(pair.frames.values())).size
