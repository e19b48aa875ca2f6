"""Boxes: objects as axis-aligned rectangles with a class, judged by COCO's average precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgemtl_models.yolo import BoxHead, BoxLoss
from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from ..data.labels import Batch, BoxList
from ..data.sample import Sample
from .base import Summed


class Boxes:
    """Detection without NMS."""

    primary, higher_is_better = "ap50", True
    label = BoxList()
    sums = 2

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.channels = len(classes)

    def head(self) -> Head:
        """Return the head as a bundle's manifest describes it."""
        return Head("boxes", "boxes", "topk_boxes", self.classes, units="pixels of the camera, xyxy")

    def prepare(self, head: nn.Module, rounds: int) -> None:
        """Build the loss of the head's two branches."""
        assert isinstance(head, BoxHead)
        self.box_loss = BoxLoss(head, rounds)

    def advance(self) -> None:
        """Shift weight from the one-to-many branch to the one-to-one branch."""
        self.box_loss.advance()

    def loss(self, output: Any, batch: Batch) -> Summed | None:
        """Return the box, class and distance losses of the labelled pictures, a sum for either branch."""
        known = batch.get("boxes_known")
        if known is None:
            return None
        output = {k: {n: _labelled(v, known) for n, v in branch.items()} for k, branch in output.items()}
        place = known.cumsum(0)[batch["batch_idx"].long()] - 1
        target = {"batch_idx": place.float(), "cls": batch["cls"], "bboxes": batch["bboxes"]}
        return Summed(*self.box_loss(output, target))

    def metric(self) -> BoxMetric:
        """Return COCO AP, AP50 and AP50 of each class."""
        return BoxMetric(self.classes)


def _labelled(value: Any, known: Tensor) -> Any:
    """Return the labelled pictures' part of an output."""
    if not isinstance(value, Tensor):
        return [_labelled(v, known) for v in value]
    return value if bool(known.all()) else value[known]


class BoxMetric:
    """COCO AP over all score thresholds (Lin et al. 2014), by torchmetrics."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        from torchmetrics.detection import MeanAveragePrecision

        self.classes = classes
        self.ap = MeanAveragePrecision(
            backend="faster_coco_eval",
            class_metrics=True,
            extended_summary=True,
            sync_on_compute=False,  # one process judges it all
        )
        self.ap.warn_on_many_detections = False
        self.pictures = 0

    def update(self, found: result.HeadResult, sample: Sample) -> None:
        """Take in one picture's boxes, in the pixels of its labels."""
        assert isinstance(found, result.Boxes)
        prediction = {
            "boxes": torch.from_numpy(found.xyxy),
            "scores": torch.from_numpy(found.scores),
            "labels": torch.from_numpy(found.classes),
        }
        labels = sample.labels.get("boxes")
        if labels is None:
            return
        target = {"boxes": torch.from_numpy(labels.xyxy), "labels": torch.from_numpy(labels.classes)}
        self.ap.update([prediction], [target])
        self.pictures += 1

    def compute(self) -> dict[str, float]:
        """Return ``ap``, ``ap50`` and ``ap50_CLASS``; a class without objects gives no figure."""
        if not self.pictures:
            return {}
        figures = self.ap.compute()
        # (IoU thresholds from 0.5, recall, class, area range, most detections): the first IoU, all areas, most boxes
        precision = figures["precision"][0, :, :, 0, -1].numpy()
        present = figures["classes"].reshape(-1).tolist()
        out = {"ap": float(figures["map"]), "ap50": float(figures["map_50"])}
        for column, index in enumerate(present):
            values = precision[:, column]
            values = values[values > -1]
            if len(values):
                out[f"ap50_{self.classes[index]}"] = float(np.mean(values))
        return {name: value for name, value in out.items() if value >= 0}
