"""The interface of a task: its head, loss and metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.result import HeadResult

from ..data.batch import Batch
from ..data.sample import Sample
from ..data.targets import SampleTarget

__all__ = ["LossSum", "Metric", "SimpleTask", "Task"]


@dataclass(frozen=True, eq=False)
class LossSum:
    """A loss as sums over labelled units, from which several processes compute the mean over the whole batch."""

    total: Tensor
    """(K,) sums; the loss is the sum of their means."""
    count: Tensor
    """(K,) the number, or the weight, of the units of each sum; less than 1 counts as 1."""

    @classmethod
    def of(cls, values: Tensor) -> LossSum:
        """Return the sum of one value a unit."""
        return cls(values.sum().view(1), torch.full((1,), float(values.numel()), device=values.device))

    def mean(self) -> Tensor:
        """Return the loss (scalar)."""
        return (self.total / self.count.clamp(min=1)).sum()


class Metric(Protocol):
    """A metric of one task over a whole split, at the resolution of the labels."""

    def update(self, prediction: HeadResult, sample: Sample) -> None:
        """Add the result and the labels of one image; an image without labels does not count."""

    def merge(self, other: Self) -> None:
        """Add the images that another metric of the same task was given, after those of this one."""

    def compute(self) -> dict[str, float]:
        """Return the metrics by name; {} when no image had a label."""


class Task(Protocol):
    """One task: its label, its head in a bundle, its loss and its metric."""

    primary: str
    """The metric that stands for the task."""
    higher_is_better: bool
    """The primary metric's direction."""
    sums: int
    """The number of sums in its loss."""
    channels: int
    """The output channels of its head: classes, maps or numbers."""

    def __init__(self, classes: tuple[str, ...]) -> None: ...

    @property
    def target_type(self) -> type[SampleTarget]:
        """The type of its labels in a batch."""

    def head(self) -> Head:
        """Return the head as a bundle's manifest describes it."""

    def prepare(self, head: nn.Module, epochs: int) -> None:
        """Set up the loss for training ``head``; `end_epoch` will be called ``epochs`` times."""

    def end_epoch(self) -> None:
        """Advance the schedule of the loss by one epoch."""

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the loss of a batch, or None when the batch has no label of this task."""

    def metric(self) -> Metric:
        """Return a new metric."""


class SimpleTask:
    """A task whose loss is one sum without a schedule."""

    sums = 1

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes

    def prepare(self, head: nn.Module, epochs: int) -> None:
        """Set up nothing: the loss does not depend on the head."""

    def end_epoch(self) -> None:
        """Do nothing: the loss has no schedule."""
