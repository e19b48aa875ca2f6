"""Edge detection: a score a pixel, evaluated by F1 at the best threshold, with and without tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head
from edgemtl_runtime.draw.scales import UNKNOWN_EDGE

from ..data.readers.maps import read_edges
from ..data.sample import IGNORE, Sample
from .base import LabelFiles, LossSum, SimpleTask

if TYPE_CHECKING:
    from edgemtl_export.teacher import Kind

    from ..data.batch import Batch
    from ..data.targets import SampleTarget

LEVELS = 256
"""Scores are quantised to so many levels."""
TOLERANCE = 0.0075
"""Largest distance of a detected edge pixel, as a share of the image's diagonal: the value of BSDS500."""


class Edges(SimpleTask):
    """The task of edge detection."""

    primary, higher_is_better = "edge_f1", True
    label_files = LabelFiles(read_edges, as_shown=True)
    output_kinds: ClassVar[Mapping[str, Kind]] = {"": "scores"}

    @property
    def target_type(self) -> type[SampleTarget]:
        """A map of 0 and 1."""
        from ..data.targets import ClassMapTarget

        return ClassMapTarget

    def as_result(self, label: NDArray[np.uint8]) -> result.EdgeMap:
        """Return the edges; what is not known is between both."""
        return result.EdgeMap(np.where(label == IGNORE, UNKNOWN_EDGE, label).astype(np.float32), 0.5)

    def head(self) -> Head:
        """Return the head as it stands in a bundle's manifest."""
        return Head("edges", "edges", "edge_map", (), units="score", threshold=0.5)

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the cross-entropy over known pixels, an image's edges weighted by the root of their rarity in it."""
        from torch.nn import functional

        from ..data.targets import ClassMapTarget

        target = batch.target("edges", ClassMapTarget)
        if target is None:
            return None
        labels, known = target.values, target.valid
        if not bool(known.any()):
            return None
        logits = functional.interpolate(output, labels.shape[-2:], mode="bilinear")[:, 0]
        edge = known & (labels != 0)
        edges, pixels = (mask.sum((1, 2), keepdim=True) for mask in (edge, known))
        rarity = ((pixels - edges) / edges.clamp(min=1)).sqrt()
        losses = functional.binary_cross_entropy_with_logits(logits, edge.float(), pos_weight=rarity, reduction="none")
        return LossSum.of(losses[known])

    def metric(self) -> EdgeMetric:
        """Return F1 at the best threshold of the whole split."""
        return EdgeMetric()


class EdgeMetric:
    """F1 of edges at the one threshold that is best for the whole split, twice.

    ``edge_f1`` counts pixel by pixel, without tolerance. ``edge_ods`` is the ODS-F of Martin et al. (2004): scores are
    thinned to their ridges, and precision and recall allow `TOLERANCE` of the image's diagonal. A pixel counts when
    any of the other side is that near; the benchmark's one-to-one matching takes seconds an image, and is skipped.
    """

    def __init__(self) -> None:
        self.pixels = np.zeros((2, LEVELS), np.int64)
        self.ridges = np.zeros((2, LEVELS), np.int64)  # of predicted edges: far from and near to a true one
        self.recalled = np.zeros(LEVELS, np.int64)  # of true edges: the best score nearby

    def update(self, prediction: result.HeadResult, sample: Sample) -> None:
        """Add the scores of one image, in the pixels of its labels."""
        assert isinstance(prediction, result.EdgeMap)
        labels = sample.labels.get("edges")
        if labels is None:
            return
        known, edge = labels != IGNORE, labels == 1
        self.pixels += _counts(prediction.scores, edge, known)
        tolerance_px = TOLERANCE * float(np.hypot(*labels.shape))
        to_edge = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near = (to_edge <= tolerance_px) & bool(edge.any())
        thin = np.where(ridges(prediction.scores), prediction.scores, 0).astype(np.float32)
        self.ridges += _counts(thin, near, known & (thin > 0))
        radius = int(tolerance_px)
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        disc = (np.hypot(x, y) <= tolerance_px).astype(np.uint8)
        self.recalled += _counts(cv2.dilate(thin, disc), edge, known)[1]

    def merge(self, other: EdgeMetric) -> None:
        """Add another one's counts."""
        self.pixels += other.pixels
        self.ridges += other.ridges
        self.recalled += other.recalled

    def compute(self) -> dict[str, float]:
        """Return both with their thresholds; {} where no pixel is an edge."""
        true = self.pixels[1].sum()
        if not true:
            return {}
        false, right = _above(self.pixels)
        far, near = _above(self.ridges)
        precision, recall = near / np.maximum(near + far, 1), _above(self.recalled) / true
        f1 = {
            "edge_f1": 2 * right / np.maximum(right + false + true, 1),
            "edge_ods": 2 * precision * recall / np.maximum(precision + recall, 1e-12),
        }
        metrics: dict[str, float] = {}
        for name, values in f1.items():
            best = LEVELS - 1 - int(values[::-1].argmax())  # the highest of those that are equally good
            metrics |= {name: float(values[best]), f"{name}_threshold": best / LEVELS}
        return metrics


def _counts(scores: NDArray[np.number[Any]], edge: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the histograms of the scores of known pixels off and on an edge: (2, LEVELS)."""
    levels = np.minimum(scores[known] * LEVELS, LEVELS - 1).astype(np.int64)
    return np.bincount(edge[known] * LEVELS + levels, minlength=2 * LEVELS).reshape(2, LEVELS)


def _above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts at or above each level."""
    return counts[..., ::-1].cumsum(-1)[..., ::-1]


def ridges(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the mask of ridges by non-maximum suppression: scores not below their neighbours across the edge.

    The direction across is that in which the smoothed scores curve the most.
    """
    smooth = cv2.GaussianBlur(scores.astype(np.float32), (0, 0), 1.5)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((2, 0), (0, 2), (1, 1)))
    across = np.arctan2(2 * xy, xx - yy) / 2 + np.where(xx + yy < 0, np.pi / 2, 0)
    y, x = np.indices(scores.shape, np.float32)
    dx, dy = np.cos(across).astype(np.float32), np.sin(across).astype(np.float32)
    # A little smoothed: of a plateau, as a line two pixels wide has, only the middle stays.
    narrow = cv2.GaussianBlur(scores.astype(np.float32), (0, 0), 0.7)
    sides = [
        cv2.remap(narrow, x + s * dx, y + s * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for s in (1, -1)
    ]
    return (narrow >= sides[0]) & (narrow >= sides[1])
