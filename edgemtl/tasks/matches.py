"""Which boxes were right, picture by picture: what miss rates and resampled figures are counted from.

A box is right when it covers an object of its class by an IoU of 0.5 or more that no better box of the picture has;
boxes take part as in COCO's AP50 (Lin et al. 2014): the best hundred of a picture and class, best score first.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from edgemtl_runtime.result import Boxes

from ..data.sample import BoxLabels

IOU = 0.5
MOST = 100
RECALLS = torch.linspace(0, 1, 101).double().numpy()
"""Where COCO reads the precision; in single precision, as torchmetrics has them."""
FALSE_A_PICTURE = np.logspace(-2, 0, 9)
"""Where KAIST's protocol reads the miss rate (Hwang et al. 2015, after Dollár et al. 2012)."""
DRAWS = 400
"""Resamplings of the pictures for an interval."""


class Matches:
    """Boxes by class: of which picture, how sure, and whether right; and how many objects each picture has."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.objects: list[NDArray[np.int64]] = []
        self.found: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]] = []

    def update(self, found: Boxes, labels: BoxLabels) -> None:
        """Take in one picture."""
        self.objects.append(np.bincount(labels.classes, minlength=self.classes))
        overlap = box_iou(torch.from_numpy(found.xyxy).double(), torch.from_numpy(labels.xyxy).double()).numpy()
        for kind in np.unique(found.classes):
            mine = np.flatnonzero(found.classes == kind)
            mine = mine[np.argsort(-found.scores[mine], kind="stable")][:MOST]
            right = matched(overlap[np.ix_(mine, np.flatnonzero(labels.classes == kind))])
            picture = np.full(len(mine), len(self.objects) - 1)
            self.found.append((np.full(len(mine), kind), found.scores[mine], right, picture))

    def by_class(self) -> list[Found]:
        """Return what was found of each class."""
        objects = np.stack(self.objects)
        parts = [np.concatenate(part) for part in zip(*self.found, strict=True)] if self.found else [np.empty(0)] * 4
        kinds, scores, right, picture = parts
        told = []
        for kind in range(self.classes):
            mine = np.flatnonzero(kinds == kind)
            mine = mine[np.argsort(-scores[mine], kind="stable")]
            told.append(Found(right[mine].astype(bool), picture[mine].astype(np.int64), objects[:, kind]))
        return told


class Found:
    """The boxes of one class, best first: which are ``right``, in which ``picture``; ``objects`` (P,) of each."""

    def __init__(self, right: NDArray[np.bool_], picture: NDArray[np.int64], objects: NDArray[np.int64]) -> None:
        self.right, self.picture, self.objects = right, picture, objects

    def ap50(self, times: NDArray[np.int64]) -> float:
        """Return COCO's AP at IoU 0.5 where each picture counts so many ``times``; NaN without objects."""
        total = int(times @ self.objects)
        if not total:
            return float("nan")
        weight = times[self.picture]
        right = np.cumsum(weight * self.right)
        precision = right / np.maximum(np.cumsum(weight), 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        place = np.searchsorted(right / total, RECALLS)
        return float(np.append(envelope, 0.0)[np.minimum(place, len(envelope))].mean())

    def miss_rate(self) -> float:
        """Return the log-average miss rate over 0.01 to 1 false boxes a picture; NaN without objects."""
        total = int(self.objects.sum())
        if not total:
            return float("nan")
        missed = np.append(1.0, 1 - np.cumsum(self.right) / total)
        false = np.append(0.0, np.cumsum(~self.right) / len(self.objects))
        at = missed[np.searchsorted(false, FALSE_A_PICTURE, side="right") - 1]
        return float(np.exp(np.log(np.maximum(at, 1e-10)).mean()))


def matched(overlap: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which boxes (rows, best first) are right, given their IoU with the objects (columns) of their class."""
    right, free = np.zeros(len(overlap), bool), np.ones(overlap.shape[1], bool)
    for row, each in enumerate(overlap):
        if not free.any():
            break
        best = int(np.where(free, each, -1.0).argmax())
        if each[best] >= IOU:
            right[row], free[best] = True, False
    return right


def interval(found: list[Found], share: float = 0.9, seed: int = 0) -> tuple[float, float]:
    """Return the bootstrap interval of the mean AP50 over pictures drawn anew (Efron 1979), that holds this share."""
    pictures = len(found[0].objects)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, pictures, pictures), minlength=pictures)
        each = [one.ap50(times) for one in found]
        if not np.isnan(each).all():
            drawn.append(float(np.nanmean(each)))
    low, high = np.quantile(drawn, [(1 - share) / 2, (1 + share) / 2]).tolist()
    return low, high
