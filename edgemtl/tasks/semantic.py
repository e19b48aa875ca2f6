"""Semantic segmentation: one class a pixel, judged by mean intersection over union."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.nn import functional

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from ..data.batch import Batch
from ..data.sample import IGNORE, Sample
from ..data.targets import ClassMapTarget
from .base import Plain, Summed


class Semantic(Plain):
    """Per-pixel classes."""

    primary, higher_is_better = "miou", True
    target_type = ClassMapTarget

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(classes)
        self.channels = len(classes)

    def head(self) -> Head:
        """Return the head as a bundle's manifest describes it."""
        return Head("semantic", "semantic", "label_map", self.classes, units="class ids")

    def loss(self, output: Any, batch: Batch) -> Summed | None:
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
        return Summed(total.view(1), known.view(1).float())

    def metric(self) -> SemanticMetric:
        """Return mIoU and pixel accuracy over the whole split."""
        return SemanticMetric(self.classes)


class SemanticMetric:
    """Mean intersection over union from one confusion matrix over all labelled pixels."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)

    def update(self, found: result.HeadResult, sample: Sample) -> None:
        """Take in one picture's label map, in the pixels of its labels."""
        assert isinstance(found, result.LabelMap)
        labels = sample.labels.get("semantic")
        if labels is None:
            return
        known = labels != IGNORE
        n = len(self.classes)
        pairs = labels[known].astype(np.int64) * n + found.labels[known]
        self.confusion += np.bincount(pairs, minlength=n * n).reshape(n, n)

    def compute(self) -> dict[str, float]:
        """Return ``miou`` over the classes that occur, ``pixel_accuracy`` and ``iou_CLASS``; nothing without labels."""
        if not self.confusion.sum():
            return {}
        inside = np.diag(self.confusion)
        either = self.confusion.sum(0) + self.confusion.sum(1) - inside
        iou = {f"iou_{self.classes[c]}": float(inside[c] / either[c]) for c in np.flatnonzero(either)}
        whole = {
            "miou": float(np.mean(list(iou.values()))),
            "pixel_accuracy": float(inside.sum() / self.confusion.sum()),
        }
        return whole | iou
