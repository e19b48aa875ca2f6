"""Matching of predicted boxes to objects, image by image: the counts of AP50, miss rates and their intervals.

A box is a true positive when it covers an object of its class by an IoU of 0.5 or more that no better box of the image
has; boxes count as in COCO's AP50 (Lin et al. 2014): the best hundred of an image and class, best score first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from edgemtl_runtime.result import Boxes

from ..data.sample import BoxLabels

IOU = 0.5
MAX_BOXES = 100
"""Of an image and class."""
RECALLS = torch.linspace(0, 1, 101).double().numpy()
"""Where COCO reads the precision; in single precision, as torchmetrics has them."""
FALSE_POSITIVES_PER_IMAGE = np.logspace(-2, 0, 9)
"""Where KAIST's protocol reads the miss rate (Hwang et al. 2015, after Dollár et al. 2012)."""
RESAMPLINGS = 400
"""Of the images, for an interval."""


class Matches:
    """Collects the matches of a split."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.objects: list[NDArray[np.int64]] = []
        """The number of objects by class, one array an image."""
        self.parts: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]] = []
        """Class, score, whether it is a true positive, and image of the boxes of each image and class."""

    def update(self, boxes: Boxes, labels: BoxLabels) -> None:
        """Add the boxes of one image."""
        self.objects.append(np.bincount(labels.classes, minlength=self.classes))
        overlap = box_iou(torch.from_numpy(boxes.xyxy).double(), torch.from_numpy(labels.xyxy).double()).numpy()
        for class_id in np.unique(boxes.classes):
            of_class = np.flatnonzero(boxes.classes == class_id)
            of_class = of_class[np.argsort(-boxes.scores[of_class], kind="stable")][:MAX_BOXES]
            matched = match(overlap[np.ix_(of_class, np.flatnonzero(labels.classes == class_id))])
            image = np.full(len(of_class), len(self.objects) - 1)
            self.parts.append((np.full(len(of_class), class_id), boxes.scores[of_class], matched, image))

    def merge(self, other: Matches) -> None:
        """Add another one's images, after those of this one."""
        first = len(self.objects)
        self.objects += other.objects
        self.parts += [(classes, scores, matched, image + first) for classes, scores, matched, image in other.parts]

    def by_class(self) -> list[ClassMatches]:
        """Return the matches of each class."""
        objects = np.stack(self.objects)
        parts = [np.concatenate(part) for part in zip(*self.parts, strict=True)] if self.parts else [np.empty(0)] * 4
        class_ids, scores, matched, image = parts
        result = []
        for class_id in range(self.classes):
            of_class = np.flatnonzero(class_ids == class_id)
            order = of_class[np.argsort(-scores[of_class], kind="stable")]
            true_positive, images = matched[order].astype(bool), image[order].astype(np.int64)
            result.append(ClassMatches(true_positive, images, objects[:, class_id]))
        return result


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The boxes of one class, best first."""

    true_positive: NDArray[np.bool_]
    """(N,) which match an object."""
    image: NDArray[np.int64]
    """(N,) the image of each box."""
    objects: NDArray[np.int64]
    """(P,) the number of objects in each image."""

    def ap50(self, times: NDArray[np.int64]) -> float:
        """Return COCO's AP at IoU 0.5 where each image counts so many ``times``, (P,); NaN without objects."""
        total = int(times @ self.objects)
        if not total:
            return float("nan")
        weight = times[self.image]
        true_positives = np.cumsum(weight * self.true_positive)
        precision = true_positives / np.maximum(np.cumsum(weight), 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        index = np.searchsorted(true_positives / total, RECALLS)
        return float(np.append(envelope, 0.0)[np.minimum(index, len(envelope))].mean())

    def miss_rate(self) -> float:
        """Return the log-average miss rate over 0.01 to 1 false positives per image; NaN without objects."""
        total = int(self.objects.sum())
        if not total:
            return float("nan")
        missed = np.append(1.0, 1 - np.cumsum(self.true_positive) / total)
        false_positives = np.append(0.0, np.cumsum(~self.true_positive) / len(self.objects))
        rates = missed[np.searchsorted(false_positives, FALSE_POSITIVES_PER_IMAGE, side="right") - 1]
        return float(np.exp(np.log(np.maximum(rates, 1e-10)).mean()))


def match(overlap: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which boxes (rows, best first) are true positives, by their IoU with the objects (columns) of a class."""
    matched, free = np.zeros(len(overlap), bool), np.ones(overlap.shape[1], bool)
    for row, ious in enumerate(overlap):
        if not free.any():
            break
        best = int(np.where(free, ious, -1.0).argmax())
        if ious[best] >= IOU:
            matched[row], free[best] = True, False
    return matched


def bootstrap_interval(matches: list[ClassMatches], share: float = 0.9, seed: int = 0) -> tuple[float, float]:
    """Return the interval of the mean AP50 over resampled images that holds this share (bootstrap, Efron 1979)."""
    images = len(matches[0].objects)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLINGS):
        times = np.bincount(rng.integers(0, images, images), minlength=images)
        precisions = [of_class.ap50(times) for of_class in matches]
        if not np.isnan(precisions).all():
            means.append(float(np.nanmean(precisions)))
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2]).tolist()
    return low, high
