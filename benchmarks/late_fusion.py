"""Late fusion, a baseline: the boxes of an RGB and of an IR network, merged.

A box of one camera and the best-overlapping one of the other, of the same class and with an IoU of 0.5 or more, become
one, where their scores say; what only one camera sees stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torchvision.ops import box_iou

from edgemtl.corruptions import CLEAN, Corruption
from edgemtl.data.sample import Sample
from edgemtl.evaluate import Predictor
from edgemtl_runtime.result import Boxes

IOU = 0.5
SCORES: dict[str, Callable[[float, float], float]] = {
    "max": max,
    "bayes": lambda a, b: a * b / max(a * b + (1 - a) * (1 - b), 1e-12),  # ProbEn, Chen et al. 2022
}


class Late:
    """Judged as a `Predictor` is; an absent camera's network is not asked."""

    def __init__(self, predictors: dict[str, Predictor], score: str = "max") -> None:
        self.predictors, self.score = predictors, SCORES[score]
        first = next(iter(predictors.values()))
        self.inputs = {name: spec for p in predictors.values() for name, spec in p.inputs.items()}
        self.heads = first.heads

    def __call__(self, sample: Sample, corruption: Corruption = CLEAN) -> dict[str, Boxes]:
        """Return the merged boxes, best first."""
        reference = next(iter(self.inputs))
        found = {
            camera: predictor(sample, replace(corruption, missing="", reference=reference))["boxes"]
            for camera, predictor in self.predictors.items()
            if camera != corruption.missing
        }
        boxes = list(found.values())
        return {"boxes": boxes[0] if len(boxes) == 1 else merged(boxes[0], boxes[1], self.score)}  # type: ignore[dict-item]


def merged(a: Boxes, b: Boxes, score: Callable[[float, float], float]) -> Boxes:
    """Return the boxes of two cameras as one list."""
    overlap = box_iou(torch.from_numpy(a.xyxy), torch.from_numpy(b.xyxy)).numpy()
    overlap[a.classes[:, None] != b.classes[None]] = 0
    xyxy, scores, classes, free = [], [], [], np.ones(len(b), bool)
    for place in range(len(a)):
        mine, own = a.xyxy[place], float(a.scores[place])
        open_ = np.where(free, overlap[place], 0.0) if len(b) else np.zeros(0)
        if len(open_) and open_.max() >= IOU:
            other = int(open_.argmax())
            free[other] = False
            theirs = float(b.scores[other])
            mine = (own * mine + theirs * b.xyxy[other]) / max(own + theirs, 1e-12)
            own = score(own, theirs)
        xyxy.append(mine)
        scores.append(own)
        classes.append(a.classes[place])
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
