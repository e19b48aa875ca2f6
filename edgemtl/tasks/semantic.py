"""Semantic segmentation: one class a pixel, evaluated by mean intersection over union."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head
from edgemtl_runtime.draw import UNKNOWN

from ..data.readers.maps import read_semantic
from ..data.sample import IGNORE, Sample
from .base import LabelFiles, LossSum, SimpleTask
from .statistics import Figures, LabelStatistics, shares

if TYPE_CHECKING:
    from edgemtl_export.teacher import Kind

    from ..data.batch import Batch
    from ..data.targets import SampleTarget


class Semantic(SimpleTask):
    """The task of semantic segmentation."""

    primary, higher_is_better, per_class = "miou", True, ("iou",)
    label_files = LabelFiles(read_semantic)
    class_key = "semantic"
    output_kinds: ClassVar[Mapping[str, Kind]] = {"": "logits"}

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(classes)
        self.channels = len(classes)

    @property
    def target_type(self) -> type[SampleTarget]:
        """A map of class ids."""
        from ..data.targets import ClassMapTarget

        return ClassMapTarget

    def statistics(self) -> LabelStatistics:
        """Return the share of the labelled pixels that each class has."""
        return ClassMapStatistics(self.classes)

    def as_result(self, label: NDArray[np.uint8]) -> result.LabelMap:
        """Return the classes; what is not known is a class of its own."""
        ids = np.where(label == IGNORE, len(self.classes), label).astype(np.uint8)
        return result.LabelMap(ids, (*self.classes, UNKNOWN))

    def head(self) -> Head:
        """Return the head as it stands in a bundle's manifest."""
        return Head("semantic", "semantic", "label_map", self.classes, units="class ids")

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the cross-entropy over labelled pixels at the logits' resolution; None when there are none."""
        from torch.nn import functional

        from ..data.targets import ClassMapTarget

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


class ClassMapStatistics:
    """Labelled pixels by class."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.pixels = np.zeros(len(classes), np.int64)
        self.unknown = 0

    def add(self, label: NDArray[np.uint8]) -> None:
        """Count the pixels of one image."""
        self.pixels += np.bincount(label[label != IGNORE], minlength=len(self.pixels))
        self.unknown += int((label == IGNORE).sum())

    @property
    def are_binary(self) -> bool:
        """Whether these are masks of 0 and 255 for two classes, of which 255 is read as unknown."""
        return len(self.classes) == 2 and self.unknown > 0 and not self.pixels[1] and self.pixels[0] > 0

    def to_dict(self) -> Figures:
        """Return the shares by class."""
        return {"semantic": shares(self.classes, self.pixels, self.pixels.sum(keepdims=True))}


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
