"""The interface of a task weighting: the losses of a step in, the gradients of the weights out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ...losses import Losses, TaskLosses


class TaskWeighting:
    """Makes one backward pass of several losses.

    ``weights`` are those of the last step by task, of its losses or gradients: 1 each is the plain sum.
    """

    detach_features: ClassVar[bool] = False
    """Whether a step needs each task's own gradient: then the heads must read detached copies of the features."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        self.tasks = list(tasks)
        self.weights: dict[str, float] = {}

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimiser trains in addition to the network."""
        return []

    def backward(self, step: TaskLosses, shared: list[nn.Parameter]) -> None:
        """Add the gradients of a forward pass to ``.grad``; ``shared`` are the parameters of the trunk."""
        total = self.combine(step.losses)
        (total if step.auxiliary is None else total + step.auxiliary).backward()

    def combine(self, losses: Losses) -> Tensor:
        """Return the one loss (scalar) that several losses make; not defined where gradients are weighted."""
        raise NotImplementedError(f"{type(self).__name__} weights gradients, not losses")

    def after_step(self, reevaluate: Callable[[], Losses]) -> None:
        """Take in an optimiser step; ``reevaluate`` returns the losses of the same batch after it."""

    def end_epoch(self) -> None:
        """Take in the end of an epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Return what changes during the training: tensors, and values that JSON can hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
