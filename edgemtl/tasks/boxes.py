"""Object detection: axis-aligned boxes with a class, evaluated by COCO's average precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from .base import LossSum, SimpleTask
from .class_metric import class_metric
from .statistics import Figures, LabelStatistics

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgemtl_export.teacher import Kind

    from ..data.batch import Batch
    from ..data.sample import BoxLabels, Sample
    from ..data.targets import SampleTarget


class Boxes(SimpleTask):
    """The task of object detection, without NMS."""

    primary, higher_is_better, per_class = "ap50", True, ("ap50", "miss_rate")
    class_key = "names"
    default_head: ClassVar[Mapping[str, Any]] = {"kind": "boxes", "reg_max": 1}
    output_kinds: ClassVar[Mapping[str, Kind]] = {".*.scores": "scores", ".*.boxes": "boxes", ".*.feats*": "none"}
    sums = 2

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(classes)
        self.channels = len(classes)

    @property
    def target_type(self) -> type[SampleTarget]:
        """Boxes of one image."""
        from ..data.box_targets import BoxTarget

        return BoxTarget

    def statistics(self) -> LabelStatistics:
        """Return the number of boxes by class, and of images without any."""
        return BoxStatistics(self.classes)

    def as_result(self, label: BoxLabels) -> result.Boxes:
        """Return the boxes as certain ones."""
        return result.Boxes(label.xyxy, np.ones(len(label.classes), np.float32), label.classes, self.classes)

    def head(self) -> Head:
        """Return the head as it stands in a bundle's manifest."""
        return Head("boxes", "boxes", "topk_boxes", self.classes, units="pixels of the camera, xyxy")

    def prepare(self, head: nn.Module, epochs: int) -> None:
        """Set up the loss of the head's two branches."""
        from edgemtl_models.box_head import BoxHead
        from edgemtl_models.box_loss import BoxLoss

        assert isinstance(head, BoxHead)
        self.box_loss = BoxLoss(head, epochs)

    def end_epoch(self) -> None:
        """Shift weight from the one-to-many branch to the one-to-one branch."""
        self.box_loss.advance()

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the box, class and distance losses of the labelled images, a sum for either branch."""
        from ..data.box_targets import BatchBoxTarget

        boxes = batch.target("boxes", BatchBoxTarget)
        if boxes is None:
            return None
        known = boxes.labelled
        output = {k: {n: _labelled(v, known) for n, v in branch.items()} for k, branch in output.items()}
        index = known.cumsum(0)[boxes.image_index.long()] - 1
        target = {"batch_idx": index.float(), "cls": boxes.classes, "bboxes": boxes.cxcywh}
        return LossSum(*self.box_loss(output, target))

    def metric(self) -> BoxMetric:
        """Return COCO's figures and the log-average miss rate."""
        return BoxMetric(self.classes)


def _labelled(value: Any, known: Tensor) -> Any:
    """Return the part of an output that is of labelled images."""
    if isinstance(value, list | tuple):
        return [_labelled(v, known) for v in value]
    return value if bool(known.all()) else value[known]


class BoxStatistics:
    """Boxes by class, and images that are labelled and show no object."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.counts = np.zeros(len(classes), np.int64)
        self.empty = 0

    def add(self, label: BoxLabels) -> None:
        """Count the boxes of one image."""
        self.counts += np.bincount(label.classes, minlength=len(self.counts))
        self.empty += not len(label.classes)

    def to_dict(self) -> Figures:
        """Return ``boxes`` by class and ``empty``, the images without any."""
        return {"boxes": dict(zip(self.classes, self.counts.tolist(), strict=True)), "empty": self.empty}


class BoxMetric:
    """COCO AP over all score thresholds (Lin et al. 2014), by torchmetrics, and KAIST's log-average miss rate."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        from .matches import Matches

        self.classes = classes
        self.predicted: list[dict[str, Tensor]] = []
        self.truth: list[dict[str, Tensor]] = []
        self.matches = Matches(len(classes))

    def update(self, prediction: result.HeadResult, sample: Sample) -> None:
        """Add the boxes of one image, in the pixels of its labels."""
        import torch

        assert isinstance(prediction, result.Boxes)
        labels = sample.labels.get("boxes")
        if labels is None:
            return
        predicted = {
            "boxes": torch.from_numpy(prediction.xyxy),
            "scores": torch.from_numpy(prediction.scores),
            "labels": torch.from_numpy(prediction.classes),
        }
        target = {"boxes": torch.from_numpy(labels.xyxy), "labels": torch.from_numpy(labels.classes)}
        self.predicted.append(predicted)
        self.truth.append(target)
        self.matches.update(prediction, labels)

    def merge(self, other: BoxMetric) -> None:
        """Add another one's images, after those of this one."""
        self.predicted += other.predicted
        self.truth += other.truth
        self.matches.merge(other.matches)

    def _coco(self) -> dict[str, Tensor]:
        from torchmetrics.detection import MeanAveragePrecision

        ap = MeanAveragePrecision(
            backend="faster_coco_eval",
            class_metrics=True,
            extended_summary=True,
            sync_on_compute=False,  # one process has it all
        )
        ap.warn_on_many_detections = False
        ap.update(self.predicted, self.truth)
        coco: dict[str, Tensor] = ap.compute()
        return coco

    def compute(self) -> dict[str, float]:
        """Return the metrics; those without any objects are skipped.

        ``ap``; ``ap50``, with ``ap50_low`` and ``ap50_high``, its 90 % interval over the images, and of each class,
        ``ap50_CLASS``; ``ap_small``, ``ap_medium`` and ``ap_large``, of objects under 32², up to 96² and over it,
        pixels of the labels; ``miss_rate``, the log-average one, and of each class, ``miss_rate_CLASS``.
        """
        from .matches import bootstrap_interval

        if not self.matches.objects:
            return {}
        coco = self._coco()
        # (IoU thresholds from 0.5, recall, class, area range, most detections): the first IoU, all areas, most boxes
        precision = coco["precision"][0, :, :, 0, -1].numpy()
        out = {"ap": float(coco["map"]), "ap50": float(coco["map_50"])}
        by_class = self.matches.by_class()
        if out["ap50"] >= 0:
            out["ap50_low"], out["ap50_high"] = bootstrap_interval(by_class)
        for column, index in enumerate(coco["classes"].reshape(-1).tolist()):
            values = precision[:, column]
            values = values[values > -1]
            if len(values):
                out[class_metric("ap50", self.classes[index], out)] = float(np.mean(values))
        out |= {f"ap_{size}": float(coco[f"map_{size}"]) for size in ("small", "medium", "large")}
        rates = {name: matches.miss_rate() for name, matches in zip(self.classes, by_class, strict=True)}
        known = {name: rate for name, rate in rates.items() if not np.isnan(rate)}
        if known:
            out["miss_rate"] = float(np.mean(list(known.values())))
            out |= {class_metric("miss_rate", name, out): rate for name, rate in known.items()}
        return {name: value for name, value in out.items() if value >= 0}
