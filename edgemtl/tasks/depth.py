"""Depth: metres along the optical axis, judged by the field's relative error."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from ..data.labels import Batch, DepthLabels, Map
from ..data.sample import Sample
from .base import Plain


class Depth(Plain):
    """Metric depth from a head that gives its logarithm, so that near and far count alike."""

    primary, higher_is_better = "abs_rel", False
    label = Map(DepthLabels)
    channels = 1

    def head(self) -> Head:
        """Return the head as a bundle's manifest describes it."""
        return Head("depth", "depth", "depth_map", (), units="metres")

    def loss(self, output: Any, batch: Batch) -> Tensor | None:
        """Return the mean difference of the logarithms over pixels whose depth is known; None where there are none."""
        depth_m = batch.get("depth")
        if depth_m is None or not bool((depth_m > 0).any()):
            return None
        known = depth_m > 0
        found = functional.interpolate(output.float(), depth_m.shape[-2:], mode="bilinear")[:, 0]
        return (found[known] - depth_m[known].log()).abs().mean()

    def metric(self) -> DepthMetric:
        """Return AbsRel, RMSE and the share within a factor of 1.25."""
        return DepthMetric()


class DepthMetric:
    """AbsRel, RMSE and δ1 of Eigen et al. (2014), over all pixels of a split whose depth is known."""

    def __init__(self) -> None:
        self.pixels = 0
        self.relative = self.square = self.close = 0.0

    def update(self, found: result.HeadResult, sample: Sample) -> None:
        """Take in one picture's depths, in the pixels of its labels."""
        assert isinstance(found, result.DepthMap)
        labels = sample.labels.get("depth")
        if labels is None:
            return
        known = labels > 0
        truth, depth_m = labels[known].astype(np.float64), found.depth_m[known].astype(np.float64)
        self.pixels += len(truth)
        self.relative += float((np.abs(depth_m - truth) / truth).sum())
        self.square += float(((depth_m - truth) ** 2).sum())
        self.close += float((np.maximum(depth_m / truth, truth / depth_m) < 1.25).sum())

    def compute(self) -> dict[str, float]:
        """Return ``abs_rel``, ``rmse_m`` and ``delta1``; nothing without labels."""
        if not self.pixels:
            return {}
        n = self.pixels
        return {"abs_rel": self.relative / n, "rmse_m": (self.square / n) ** 0.5, "delta1": self.close / n}
