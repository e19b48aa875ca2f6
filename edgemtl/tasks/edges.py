"""Edges: how likely a pixel lies on one, judged by F1 at the best threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.nn import functional

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from ..data.labels import Batch, IdMap, Map
from ..data.sample import IGNORE, Sample
from .base import Plain, Summed

LEVELS = 256
"""Scores are judged in so many steps."""


class Edges(Plain):
    """Boundaries, whatever the data call one."""

    primary, higher_is_better = "edge_f1", True
    label = Map(IdMap)
    channels = 1

    def head(self) -> Head:
        """Return the head as a bundle's manifest describes it."""
        return Head("edges", "edges", "edge_map", (), units="score", threshold=0.5)

    def loss(self, output: Any, batch: Batch) -> Summed | None:
        """Return the cross-entropy over known pixels, a picture's edges weighted by the root of their rarity in it."""
        labels = batch.get("edges")
        if labels is None:
            return None
        known = labels != IGNORE
        if not bool(known.any()):
            return None
        found = functional.interpolate(output, labels.shape[-2:], mode="bilinear")[:, 0]
        edge = known & (labels != 0)
        edges, pixels = (mask.sum((1, 2), keepdim=True) for mask in (edge, known))
        rarity = ((pixels - edges) / edges.clamp(min=1)).sqrt()
        each = functional.binary_cross_entropy_with_logits(found, edge.float(), pos_weight=rarity, reduction="none")
        return Summed.over(each[known])

    def metric(self) -> EdgeMetric:
        """Return F1 at the best threshold of the whole split."""
        return EdgeMetric()


class EdgeMetric:
    """F1 of edge pixels at the one threshold that is best for the whole split, pixel by pixel, without slack."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, LEVELS), np.int64)

    def update(self, found: result.HeadResult, sample: Sample) -> None:
        """Take in one picture's scores, in the pixels of its labels."""
        assert isinstance(found, result.EdgeMap)
        labels = sample.labels.get("edges")
        if labels is None:
            return
        known = labels != IGNORE
        levels = np.minimum(found.scores[known] * LEVELS, LEVELS - 1).astype(np.int64)
        pairs = (labels[known] != 0) * LEVELS + levels
        self.counts += np.bincount(pairs, minlength=2 * LEVELS).reshape(2, LEVELS)

    def compute(self) -> dict[str, float]:
        """Return ``edge_f1`` and the ``edge_threshold`` it is reached at; nothing where no pixel is an edge."""
        if not self.counts[1].sum():
            return {}
        false, true = self.counts[:, ::-1].cumsum(1)[:, ::-1]  # at or above each threshold
        f1 = 2 * true / np.maximum(true + false + self.counts[1].sum(), 1)
        best = LEVELS - 1 - f1[::-1].argmax()  # the highest of those that are equally good
        return {"edge_f1": float(f1[best]), "edge_threshold": float(best / LEVELS)}
