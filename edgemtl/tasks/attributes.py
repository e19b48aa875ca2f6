"""Attributes: multi-label classification of the whole image, evaluated by mean average precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from .base import LossSum, SimpleTask
from .statistics import Figures, LabelStatistics, shares

if TYPE_CHECKING:
    from edgemtl_export.teacher import Kind

    from ..data.batch import Batch
    from ..data.sample import Sample
    from ..data.targets import SampleTarget


class Attributes(SimpleTask):
    """The task of image attributes."""

    primary, higher_is_better, per_class = "attribute_map", True, ("ap",)
    class_key = "attributes"
    default_head: ClassVar[Mapping[str, Any]] = {"kind": "picture", "width": 64}
    output_kinds: ClassVar[Mapping[str, Kind]] = {"": "scores"}

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(classes)
        self.channels = len(classes)

    @property
    def target_type(self) -> type[SampleTarget]:
        """Numbers of the image as a whole."""
        from ..data.targets import VectorTarget

        return VectorTarget

    def statistics(self) -> LabelStatistics:
        """Return the share of the known attributes that hold."""
        return AttributeStatistics(self.classes)

    def as_result(self, label: NDArray[np.float32]) -> result.Attributes:
        """Return the attributes that are known."""
        known = ~np.isnan(label)
        names = tuple(name for name, is_known in zip(self.classes, known, strict=True) if is_known)
        return result.Attributes(label[known].astype(np.float32), names, 0.5)

    def head(self) -> Head:
        """Return the head as it stands in a bundle's manifest."""
        return Head("attributes", "attributes", "attributes", self.classes, units="score", threshold=0.5)

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the cross-entropy over known attributes; None where there are none."""
        from torch.nn import functional

        from ..data.targets import VectorTarget

        target = batch.target("attributes", VectorTarget)
        if target is None or not bool(target.valid.any()):
            return None
        labels, known = target.values, target.valid
        return LossSum.of(functional.binary_cross_entropy_with_logits(output[known], labels[known], reduction="none"))

    def metric(self) -> AttributeMetric:
        """Return mean average precision and F1."""
        return AttributeMetric(self.classes)


class AttributeStatistics:
    """The share of the images where an attribute is known in which it holds."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.counts = np.zeros((2, len(classes)), np.int64)

    def add(self, label: NDArray[np.float32]) -> None:
        """Count what holds, and what is known."""
        self.counts += np.stack([label == 1, ~np.isnan(label)])

    def to_dict(self) -> Figures:
        """Return the shares by attribute."""
        return {"attributes": shares(self.classes, *self.counts)}


class AttributeMetric:
    """Average precision and F1 at the head's threshold, averaged over the attributes that are both true and false."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.scores: list[NDArray[np.float32]] = []
        self.labels: list[NDArray[np.float32]] = []
        self.threshold = 0.5

    def update(self, prediction: result.HeadResult, sample: Sample) -> None:
        """Add the scores of one image."""
        assert isinstance(prediction, result.Attributes)
        if "attributes" in sample.labels:
            self.threshold = prediction.threshold
            self.scores.append(prediction.scores)
            self.labels.append(sample.labels["attributes"])

    def merge(self, other: AttributeMetric) -> None:
        """Add another one's scores and labels."""
        self.scores += other.scores
        self.labels += other.labels
        self.threshold = other.threshold if other.scores else self.threshold

    def compute(self) -> dict[str, float]:
        """Return ``attribute_map``, ``attribute_f1`` and ``ap_NAME`` of each; {} without labels."""
        import torch
        from torchmetrics.functional.classification import binary_average_precision, binary_f1_score

        metrics: dict[str, float] = {}
        f1: list[float] = []
        for i, name in enumerate(self.classes):
            pairs = [(s[i], t[i]) for s, t in zip(self.scores, self.labels, strict=True) if np.isfinite(t[i])]
            scores, truth = torch.tensor([float(s) for s, _ in pairs]), torch.tensor([int(t) for _, t in pairs])
            if len(truth) and 0 < int(truth.sum()) < len(truth):
                metrics[f"ap_{name}"] = float(binary_average_precision(scores, truth))
                f1.append(float(binary_f1_score(scores, truth, threshold=self.threshold)))
        if not metrics:
            return {}
        mean = {"attribute_map": float(np.mean(list(metrics.values()))), "attribute_f1": float(np.mean(f1))}
        return mean | metrics
