"""The interface of a task: everything that is particular to it, from its label files to its drawing.

A task is one file: a class that derives from `SimpleTask`, named in `tasks.TASKS` or added by a plugin
(`plugins.register_task`). The file imports torch inside the methods that need it, so that checks, tables and ``data
check`` answer without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.result import HeadResult

from ..data.class_names import class_names
from .label_files import LabelFiles
from .statistics import LabelStatistics, NoStatistics

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgemtl_export.teacher import Kind

    from ..data.batch import Batch
    from ..data.sample import Sample
    from ..data.targets import SampleTarget

__all__ = ["LabelFiles", "LossSum", "Metric", "SimpleTask", "Task"]


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
        import torch

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
    """One task: its labels, its head in a network and in a bundle, its loss and its metric."""

    primary: ClassVar[str]
    """The metric that stands for the task."""
    higher_is_better: ClassVar[bool]
    """The primary metric's direction."""
    per_class: ClassVar[tuple[str, ...]]
    """The metrics that every class has, as METRIC_CLASS."""
    label_files: ClassVar[LabelFiles | None]
    """The labels in a folder; None where a format of datasets reads them by itself."""
    class_key: ClassVar[str]
    """The key of data.yaml that lists the classes; empty where the task has none."""
    default_head: ClassVar[Mapping[str, Any]]
    """The head in a network whose description has none of the task's name: its kind, and its options."""
    output_kinds: ClassVar[Mapping[str, Kind]]
    """The kinds of its head's raw outputs (`edgemtl_export.teacher`), by what follows the head's name in a path."""
    sums: int
    """The number of sums in its loss."""
    channels: int
    """The output channels of its head: classes, maps or numbers."""

    def __init__(self, classes: tuple[str, ...]) -> None: ...

    @classmethod
    def read_classes(cls, value: Any) -> tuple[str, ...]:
        """Return the classes that the value of ``class_key`` lists; raises `ValueError`."""

    @property
    def target_type(self) -> type[SampleTarget]:
        """The type of its labels in a batch, which augmentation moves with the images."""

    def statistics(self) -> LabelStatistics:
        """Return new statistics of labels."""

    def as_result(self, label: Any) -> HeadResult:
        """Return a label as the result of a perfect head, to be drawn."""

    def head(self) -> Head:
        """Return the head as a bundle's manifest describes it: decoder, classes, units."""

    def prepare(self, head: nn.Module, epochs: int) -> None:
        """Set up the loss for training ``head``; `end_epoch` will be called ``epochs`` times."""

    def end_epoch(self) -> None:
        """Advance the schedule of the loss by one epoch."""

    def loss(self, output: Any, batch: Batch) -> LossSum | None:
        """Return the loss of a batch, or None when the batch has no label of this task."""

    def metric(self) -> Metric:
        """Return a new metric."""


def output_kinds(tasks: Mapping[str, type[Task] | Task]) -> dict[str, Kind]:
    """Return the kinds of the raw outputs of tasks' heads, by path or pattern."""
    return {f"{name}{rest}": kind for name, task in tasks.items() for rest, kind in task.output_kinds.items()}


class SimpleTask:
    """A task whose loss is one sum without a schedule, with a dense head and without classes."""

    sums: int = 1
    channels: int = 1
    per_class: ClassVar[tuple[str, ...]] = ()
    label_files: ClassVar[LabelFiles | None] = None
    class_key: ClassVar[str] = ""
    default_head: ClassVar[Mapping[str, Any]] = {"kind": "dense", "width": 32}
    output_kinds: ClassVar[Mapping[str, Kind]] = {"": "values"}

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes

    @classmethod
    def read_classes(cls, value: Any) -> tuple[str, ...]:
        """Return the names of a list, or of a dictionary by id from 0."""
        return class_names(cls.class_key, value)

    def statistics(self) -> LabelStatistics:
        """Return no statistics."""
        return NoStatistics()

    def prepare(self, head: nn.Module, epochs: int) -> None:
        """Set up nothing: the loss does not depend on the head."""

    def end_epoch(self) -> None:
        """Do nothing: the loss has no schedule."""
