"""Depth along the optical axis, in metres or up to a scale of each image, evaluated by the mean relative error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from ..data.readers.maps import read_depth
from .base import LabelFiles, LossSum, SimpleTask

if TYPE_CHECKING:
    from ..data.batch import Batch
    from ..data.sample import Sample
    from ..data.targets import SampleTarget

METRIC, RELATIVE = "metric", ("relative",)


class Depth(SimpleTask):
    """The task of depth estimation; the head predicts the logarithm, so that near and far count alike.

    ``classes`` is empty for metres, or ("relative",) for labels whose scale means nothing: then the scale of each
    image is removed from the loss and the metrics, as the median of the logarithms' differences.
    """

    primary, higher_is_better = "abs_rel", False
    label_files = LabelFiles(read_depth)
    class_key = "depth"

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(classes)
        self.relative = classes == RELATIVE

    @classmethod
    def read_classes(cls, value: object) -> tuple[str, ...]:
        """Return no class for "metric", ("relative",) for "relative"."""
        if value not in (METRIC, *RELATIVE):
            raise ValueError(f"depth '{value}' is not one of {METRIC}, {RELATIVE[0]}")
        return () if value == METRIC else RELATIVE

    @property
    def target_type(self) -> type[SampleTarget]:
        """A map of metres."""
        from ..data.targets import DepthTarget

        return DepthTarget

    def as_result(self, label: NDArray[np.float32]) -> result.DepthMap:
        """Return the depths, 0 where not known."""
        return result.DepthMap(label, relative=self.relative)

    def head(self) -> Head:
        """Return the head as it stands in a bundle's manifest."""
        units = "one scale an image" if self.relative else "metres"
        return Head("depth", "depth", "depth_map", self.classes, units=units)

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the mean difference of the logarithms over pixels whose depth is known; None where there are none."""
        import torch
        from torch.nn import functional

        from ..data.targets import DepthTarget

        target = batch.target("depth", DepthTarget)
        if target is None or not bool(target.valid.any()):
            return None
        depth_m, known = target.values, target.valid
        predicted = functional.interpolate(output, depth_m.shape[-2:], mode="bilinear")[:, 0]
        if not self.relative:
            return LossSum.of((predicted[known] - depth_m[known].log()).abs())
        residuals = []
        for image, depth, valid in zip(predicted, depth_m, known, strict=True):
            if bool(valid.any()):
                difference = image[valid] - depth[valid].log()
                residuals.append(difference - difference.detach().median())
        return LossSum.of(torch.cat(residuals).abs())

    def metric(self) -> DepthMetric:
        """Return AbsRel, RMSE and the share within a factor of 1.25."""
        return DepthMetric(self.relative)


class DepthMetric:
    """AbsRel, RMSE and δ1 of Eigen et al. (2014), over all pixels of a split whose depth is known.

    Relative depths are aligned to the scale of each image first, and have no RMSE.
    """

    def __init__(self, scaled: bool = False) -> None:
        self.scaled = scaled
        self.pixels = 0
        self.sums: list[tuple[float, float, float]] = []
        """Of each image: relative errors, squared errors, pixels within δ1; their exact sums know no order."""

    def update(self, prediction: result.HeadResult, sample: Sample) -> None:
        """Add the depths of one image, in the pixels of its labels."""
        assert isinstance(prediction, result.DepthMap)
        labels = sample.labels.get("depth")
        if labels is None:
            return
        known = labels > 0
        truth, depth_m = labels[known].astype(np.float64), prediction.depth_m[known].astype(np.float64)
        if self.scaled and len(truth):
            depth_m = depth_m * np.exp(np.median(np.log(truth) - np.log(np.maximum(depth_m, 1e-9))))
        self.pixels += len(truth)
        relative = float((np.abs(depth_m - truth) / truth).sum())
        square = float(((depth_m - truth) ** 2).sum())
        close = float((np.maximum(depth_m / truth, truth / depth_m) < 1.25).sum())
        self.sums.append((relative, square, close))

    def merge(self, other: DepthMetric) -> None:
        """Add another one's pixels."""
        self.pixels += other.pixels
        self.sums += other.sums

    def compute(self) -> dict[str, float]:
        """Return ``abs_rel``, ``rmse_m`` and ``delta1``; {} without labels."""
        if not self.pixels:
            return {}
        relative, square, close = (math.fsum(values) / self.pixels for values in zip(*self.sums, strict=True))
        metrics = {"abs_rel": relative, "rmse_m": square**0.5, "delta1": close}
        return {name: value for name, value in metrics.items() if not (self.scaled and name == "rmse_m")}
