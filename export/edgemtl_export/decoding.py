"""Decoding in the graph: raw head outputs to what the runtime's decoder of the same name reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

MAX_BOXES = 100
"""Boxes, and points, an image: what COCO's average precision counts."""
MAX_CANDIDATES = 1000
"""Boxes an image where each object has several, before they are suppressed."""
MANY_CLASSES = 8
"""From so many on the best rows are picked first: sorting every class of every row takes longer than that."""
LOG_DEPTH = (-4.6, 6.9)
"""Depths lie between a centimetre and a kilometre."""


def topk_boxes(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the best boxes, (B, K, 6) x1 y1 x2 y2 score class, of (B, A, 4 + classes) boxes and scores."""
    return _best_boxes(raw, MAX_BOXES)


def nms_boxes(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the best boxes as `topk_boxes` does, so many that each object is among them after suppression."""
    return _best_boxes(raw, MAX_CANDIDATES)


def _best_boxes(raw: Tensor, most: int) -> Tensor:
    anchors, classes = raw.shape[1], raw.shape[2] - 4
    if classes >= MANY_CLASSES and anchors > most:
        # The best scores of all are in the rows of the best scores by row: those alone are sorted.
        rows = raw[:, :, 4:].amax(2).topk(most).indices
        raw, anchors = raw.gather(1, rows.unsqueeze(-1).expand(-1, -1, 4 + classes)), most
    scores, index = raw[:, :, 4:].flatten(1).topk(min(most, anchors * classes))
    anchor = torch.div(index, classes, rounding_mode="floor")
    boxes = raw[:, :, :4].gather(1, anchor.unsqueeze(-1).expand(-1, -1, 4))
    label = (index - anchor * classes).to(raw.dtype)
    return torch.cat([boxes, scores.unsqueeze(-1), label.unsqueeze(-1)], -1)


def label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the likeliest class a pixel, (B, H, W), of logits at a coarser resolution; shipped as bytes."""
    full = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    return full.argmax(1)


def depth_map(log_depth: Tensor, size: tuple[int, int]) -> Tensor:
    """Return depths, (B, H, W) metres, of their logarithms (B, 1, h, w) at a coarser resolution."""
    full = functional.interpolate(log_depth, size, mode="bilinear", align_corners=False)
    return full[:, 0].clamp(*LOG_DEPTH).exp()


def normal_map(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return unit vectors, (B, H, W, 3), of directions (B, 3, h, w) at a coarser resolution."""
    full = functional.interpolate(raw, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    return full / full.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()


def edge_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return edge scores, (B, H, W) in [0, 1], of logits (B, 1, h, w) at a coarser resolution."""
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0].sigmoid()


def attributes(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a score for each attribute, (B, A) in [0, 1]."""
    return logits.sigmoid()


def scalar_map(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return numbers, (B, H, W), of (B, 1, h, w) at a coarser resolution."""
    return functional.interpolate(raw, size, mode="bilinear", align_corners=False)[:, 0]


def vector_map(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return vectors, (B, H, W, C), of (B, C, h, w) at a coarser resolution."""
    return functional.interpolate(raw, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def points(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the best peaks, (B, K, 4) x y score class, of heatmap logits (B, classes, h, w).

    A peak is not lower than its eight neighbours (Zhou et al. 2019, arXiv 1904.07850); it lies in the middle of its
    cell. Rows of points, (B, K, 4), are returned as they are.
    """
    if logits.ndim == 3:
        return logits
    _, classes, height, width = logits.shape
    scores = logits.sigmoid()
    peaks = scores * (scores >= functional.max_pool2d(scores, 3, 1, 1)).to(scores.dtype)
    cells = height * width
    best, index = peaks.flatten(1).topk(min(MAX_BOXES, classes * cells))
    label = torch.div(index, cells, rounding_mode="floor")
    cell = index - label * cells
    row = torch.div(cell, width, rounding_mode="floor")
    x, y = (
        (c.to(best.dtype) + 0.5) * step for c, step in ((cell - row * width, size[1] / width), (row, size[0] / height))
    )
    return torch.stack([x, y, best, label.to(best.dtype)], -1)


def as_it_is(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the output of a head that needs no decoding."""
    return raw


_IN_GRAPH = (
    topk_boxes,
    nms_boxes,
    label_map,
    depth_map,
    normal_map,
    edge_map,
    attributes,
    scalar_map,
    vector_map,
    points,
)
DECODERS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    **{decoder.__name__: decoder for decoder in _IN_GRAPH},
    "scalars": as_it_is,
    "tensor": as_it_is,
}
"""By `Head.decoder`, what the graph computes: (raw, (height, width) of the input) to what the runtime reads."""
