"""Surface normals: a unit vector a pixel, evaluated by the angle to the ground truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import result
from edgemtl_runtime.bundle import Head

from ..data.readers.maps import read_normals
from .base import LabelFiles, LossSum, SimpleTask

if TYPE_CHECKING:
    from ..data.batch import Batch
    from ..data.sample import Sample
    from ..data.targets import SampleTarget

STEP_DEG = 0.01
WITHIN_DEG = (11.25, 22.5, 30.0)


class Normals(SimpleTask):
    """The task of surface normal estimation: unit vectors, x right, y down, z forward."""

    primary, higher_is_better = "angle_mean_deg", False
    label_files = LabelFiles(read_normals, as_shown=True)
    channels = 3

    @property
    def target_type(self) -> type[SampleTarget]:
        """A map of unit vectors."""
        from ..data.targets import NormalTarget

        return NormalTarget

    def as_result(self, label: NDArray[np.float32]) -> result.NormalMap:
        """Return the normals, zero where not known."""
        return result.NormalMap(label)

    def head(self) -> Head:
        """Return the head as it stands in a bundle's manifest."""
        return Head("normals", "normals", "normal_map", (), units="unit vectors: x right, y down, z forward")

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return one minus the mean cosine over pixels whose normal is known; None where there are none."""
        import torch
        from torch.nn import functional

        from ..data.targets import NormalTarget

        target = batch.target("normals", NormalTarget)
        if target is None:
            return None
        normals, known = target.values, target.valid
        if not bool(known.any()):
            return None
        predicted = functional.interpolate(output, normals.shape[-2:], mode="bilinear")
        return LossSum.of(1 - torch.cosine_similarity(predicted, normals, dim=1)[known])

    def metric(self) -> NormalMetric:
        """Return the mean and median angle and the shares within 11.25, 22.5 and 30 degrees."""
        return NormalMetric()


class NormalMetric:
    """Angles to the ground truth (Fouhey et al. 2013), over all pixels of a split whose normal is known.

    The median is read from a histogram of hundredths of a degree.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(round(180 / STEP_DEG) + 1, np.int64)
        self.sums_deg: list[float] = []
        """Of each image; their exact sum does not depend on how the images are shared out."""

    def update(self, prediction: result.HeadResult, sample: Sample) -> None:
        """Add the normals of one image, in the pixels of its labels."""
        assert isinstance(prediction, result.NormalMap)
        labels = sample.labels.get("normals")
        if labels is None:
            return
        length = np.linalg.norm(labels, axis=2)
        known = length > 0.5
        cosine = (prediction.normals * labels).sum(2)[known].astype(np.float64) / length[known]
        angles_deg = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        self.sums_deg.append(float(angles_deg.sum()))
        self.counts += np.bincount((angles_deg / STEP_DEG).astype(np.int64), minlength=len(self.counts))

    def merge(self, other: NormalMetric) -> None:
        """Add another one's angles."""
        self.counts += other.counts
        self.sums_deg += other.sums_deg

    def compute(self) -> dict[str, float]:
        """Return mean and median angle, ``within_11``, ``within_22`` and ``within_30``; {} without labels."""
        total = int(self.counts.sum())
        if not total:
            return {}
        below = np.cumsum(self.counts)
        median = float(np.searchsorted(below, (total + 1) // 2) + 0.5) * STEP_DEG
        metrics = {"angle_mean_deg": math.fsum(self.sums_deg) / total, "angle_median_deg": median}
        return metrics | {f"within_{int(w)}": float(below[round(w / STEP_DEG) - 1] / total) for w in WITHIN_DEG}
