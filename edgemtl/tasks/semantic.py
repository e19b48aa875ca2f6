"""Semantic segmentation: one class a pixel, evaluated by mean intersection over union."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.nn import functional

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from ..data.batch import Batch
from ..data.sample import IGNORE, Sample
from ..data.targets import ClassMapTarget
from .base import LossSum, SimpleTask


class Semantic(SimpleTask):
    """The task of semantic segmentation."""

    primary, higher_is_better = "miou", True
    target_type = ClassMapTarget

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(classes)
        self.channels = len(classes)

    def head(self) -> Head:
        """Return the head as it stands in a bundle's manifest."""
        return Head("semantic", "semantic", "label_map", self.classes, units="class ids")

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the cross-entropy over labelled pixels at the logits' resolution; None when there are none."""
        target = batch.target("semantic", ClassMapTarget)
        if target is None:
            return None
        labels = target.values
        step = labels.shape[-1] // output.shape[-1]
        labels = labels[:, step // 2 :: step, step // 2 :: step].long()
        known = (labels != IGNORE).sum()
        if not bool(known):
            return None
        total = functional.cross_entropy(output, labels, ignore_index=IGNORE, reduction="sum")
        return LossSum(total.view(1), known.view(1).float())

    def metric(self) -> SemanticMetric:
        """Return mIoU and pixel accuracy over the whole split."""
        return SemanticMetric(self.classes)


class SemanticMetric:
    """Mean intersection over union from one confusion matrix over all labelled pixels."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)

    def update(self, prediction: result.HeadResult, sample: Sample) -> None:
        """Add the label map of one image, in the pixels of its labels."""
        assert isinstance(prediction, result.LabelMap)
        labels = sample.labels.get("semantic")
        if labels is None:
            return
        known = labels != IGNORE
        n = len(self.classes)
        pairs = labels[known].astype(np.int64) * n + prediction.labels[known]
        self.confusion += np.bincount(pairs, minlength=n * n).reshape(n, n)

    def merge(self, other: SemanticMetric) -> None:
        """Add another one's counts."""
        self.confusion += other.confusion

    def compute(self) -> dict[str, float]:
        """Return ``miou`` over the classes that labels have, ``pixel_accuracy``, ``iou_CLASS``; {} without labels.

        A class that only predictions have is wrong where it was predicted, in the union of the class that is labelled
        there; it is no class of the mean. (mmseg and torchmetrics count it as 0, so that one pixel changes the mean by
        a class; with labels of every class all agree.)
        """
        if not self.confusion.sum():
            return {}
        intersection = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - intersection
        iou = {
            f"iou_{self.classes[c]}": float(intersection[c] / union[c]) for c in np.flatnonzero(self.confusion.sum(1))
        }
        whole = {
            "miou": float(np.mean(list(iou.values()))),
            "pixel_accuracy": float(intersection.sum() / self.confusion.sum()),
        }
        return whole | iou
