"""Scores of a network for the accuracy gate: each labelled head's primary metric, and how many labels it is over."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edgemtl_export.accuracy_gate import Inference, Score, Scorer
from edgemtl_runtime.bundle import Head, Input

from .data.sample import BoxLabels, Dataset, Label, Sample
from .evaluate import UNLABELLED, Predictor, evaluate
from .external.class_names import for_classes
from .tasks import TASKS


def scorer(inputs: tuple[Input, ...], heads: tuple[Head, ...], samples: Dataset) -> Scorer:
    """Return the function that scores a network by the primary metric of each head that has labels.

    Of a network that knows more classes than the data, those of the data count.
    """
    tasks = {h.name: TASKS[h.task] for h in heads if h.name in samples.classes and h.task != UNLABELLED}
    counted = CountedDataset(samples)

    def scores(network: Inference) -> dict[str, Score]:
        if not tasks:
            return {}
        predictor, _ = for_classes(Predictor(FunctionEngine(network), inputs, heads, 0.0), counted)
        report = evaluate(predictor, counted)["all"]
        by_head = {}
        for name, task in tasks.items():
            value = report.primary(name)
            if value is not None and math.isfinite(value):
                by_head[name] = Score(task.primary, value, task.higher_is_better, *counted.labels_of(name))
        return by_head

    return scores


@dataclass(frozen=True)
class FunctionEngine:
    """A function as an engine."""

    run: Inference


@dataclass(eq=False)
class CountedDataset:
    """A dataset that counts the labels of the samples which are read, each sample once."""

    samples: Dataset
    counts: dict[int, dict[str, int | None]] = field(default_factory=dict)
    """By sample and task: objects of the label, None for a map."""

    def __post_init__(self) -> None:
        self.classes, self.modalities = self.samples.classes, self.samples.modalities

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        self.counts[index] = {task: count_objects(sample.label(task)) for task in sample.labels}
        return sample

    def is_day(self, index: int) -> bool | None:
        """Whether a sample was taken by day."""
        return self.samples.is_day(index)

    def labels_of(self, task: str) -> tuple[int, int | None]:
        """Return how many images are labelled, and with how many objects, None where labels are maps."""
        counts = [by_task[task] for by_task in self.counts.values() if task in by_task]
        objects = [count for count in counts if count is not None]
        return len(counts), sum(objects) if objects else None


def count_objects(label: Label) -> int | None:
    """Return the boxes of an image, or how many of its attributes are known; None for a map."""
    if isinstance(label, BoxLabels):
        return len(label.classes)
    return int(np.isfinite(label).sum()) if label.ndim == 1 else None
