"""What the rest of the system knows of a task."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.result import HeadResult

from ..data.batch import Batch
from ..data.sample import Sample
from ..data.targets import SampleTarget

__all__ = ["Metric", "Plain", "Summed", "Task"]


class Summed(NamedTuple):
    """A loss as sums over labelled units, so that several processes' parts of a batch make the one mean of it."""

    total: Tensor
    """(K,) sums; the loss adds up their means."""
    count: Tensor
    """(K,) how many units, or what weight of them, each sum is over; less than 1 counts as 1."""

    @classmethod
    def over(cls, values: Tensor) -> Summed:
        """Return the sum of a value a unit."""
        return cls(values.sum().view(1), torch.full((1,), float(values.numel()), device=values.device))

    def mean(self) -> Tensor:
        """Return the loss (scalar)."""
        return (self.total / self.count.clamp(min=1)).sum()


class Metric(Protocol):
    """Judges one task over a whole split, at label resolution."""

    def update(self, result: HeadResult, sample: Sample) -> None:
        """Take in one picture's result and its labels; a picture without any takes no part."""

    def compute(self) -> dict[str, float]:
        """Return the figures by name; none when no picture had a label."""


class Task(Protocol):
    """One task: its label, its head in a bundle, its loss and its metric."""

    primary: str
    """The metric that sums the task up."""
    higher_is_better: bool
    """The primary metric's direction."""
    target_type: type[SampleTarget]
    """What its labels are."""
    sums: int
    """How many sums its loss is made of."""
    channels: int
    """What the head of a network puts out: channels, classes or numbers."""

    def __init__(self, classes: tuple[str, ...]) -> None: ...

    def head(self) -> Head:
        """Return the head as a bundle's manifest describes it."""

    def prepare(self, head: nn.Module, rounds: int) -> None:
        """Get ready to train ``head``; `advance` will be called ``rounds`` times."""

    def advance(self) -> None:
        """Move on the loss's own schedule by one round."""

    def loss(self, output: Any, batch: Batch) -> Summed | None:
        """Return the loss of a batch, or None when the batch has no label of this task."""

    def metric(self) -> Metric:
        """Return a new metric."""


class Plain:
    """A task whose loss is one sum and has no state of its own."""

    sums = 1

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes

    def prepare(self, head: nn.Module, rounds: int) -> None:
        """Need nothing."""

    def advance(self) -> None:
        """Need nothing: the loss has no schedule."""
