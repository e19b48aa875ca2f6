"""Late fusion of an RGB and an IR detector: their boxes merged, a baseline.

A box of one modality and the best-overlapping one of the other, of the same class and with an IoU of 0.5 or more,
become one, weighted by their scores; a box of one modality alone stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torchvision.ops import box_iou

from edgemtl.corruptions import CLEAN, Corruption
from edgemtl.data.sample import Sample
from edgemtl.evaluate import Predictor
from edgemtl_runtime.result import Boxes, HeadResult

IOU = 0.5
SCORES: dict[str, Callable[[float, float], float]] = {
    "max": max,
    "bayes": lambda a, b: a * b / max(a * b + (1 - a) * (1 - b), 1e-12),  # ProbEn, Chen et al. 2022
}


class LateFusion:
    """Predictor of merged boxes, for `evaluate`; the network of a missing modality is not run."""

    def __init__(self, predictors: dict[str, Predictor], score: str = "max") -> None:
        self.predictors, self.score = predictors, SCORES[score]
        first = next(iter(predictors.values()))
        self.inputs = {name: spec for p in predictors.values() for name, spec in p.inputs.items()}
        self.heads = first.heads
        self.batch_size = 1

    def predict(self, samples: Sequence[Sample], corruptions: Sequence[Corruption]) -> list[dict[str, HeadResult]]:
        """Return the merged boxes of each sample."""
        return [dict(self(s, c)) for s, c in zip(samples, corruptions, strict=True)]

    def __call__(self, sample: Sample, corruption: Corruption = CLEAN) -> dict[str, Boxes]:
        """Return the merged boxes, best first."""
        reference = next(iter(self.inputs))
        others = replace(corruption, missing="", reference=reference)
        boxes: list[Boxes] = []
        for modality, predictor in self.predictors.items():
            if modality != corruption.missing:
                result = predictor(sample, others)["boxes"]
                assert isinstance(result, Boxes)
                boxes.append(result)
        return {"boxes": boxes[0] if len(boxes) == 1 else merged(boxes[0], boxes[1], self.score)}


def merged(a: Boxes, b: Boxes, score: Callable[[float, float], float]) -> Boxes:
    """Return the boxes of two modalities merged, best first."""
    overlap = box_iou(torch.from_numpy(a.xyxy), torch.from_numpy(b.xyxy)).numpy()
    overlap[a.classes[:, None] != b.classes[None]] = 0
    xyxy, scores, classes, free = [], [], [], np.ones(len(b), bool)
    for index in range(len(a)):
        box, confidence = a.xyxy[index], float(a.scores[index])
        open_ = np.where(free, overlap[index], 0.0) if len(b) else np.zeros(0)
        if len(open_) and open_.max() >= IOU:
            other = int(open_.argmax())
            free[other] = False
            other_confidence = float(b.scores[other])
            box = (confidence * box + other_confidence * b.xyxy[other]) / max(confidence + other_confidence, 1e-12)
            confidence = score(confidence, other_confidence)
        xyxy.append(box)
        scores.append(confidence)
        classes.append(a.classes[index])
    xyxy += list(b.xyxy[free])
    scores += b.scores[free].tolist()
    classes += b.classes[free].tolist()
    order = np.argsort(-np.array(scores, np.float32), kind="stable")
    return Boxes(
        np.array(xyxy, np.float32).reshape(-1, 4)[order],
        np.array(scores, np.float32)[order],
        np.array(classes, np.int64)[order],
        a.names,
    )
