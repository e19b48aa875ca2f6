"""Joint training: every step takes all tasks of the whole batch, combined by a task weighting.

θ ← θ - lr · AdamW( Σ_t w_t ∇ L_t(θ; batch) )                                   w_t: `methods.weighting`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW

from .. import distributed
from ..config import Config
from ..data.batch import Batch
from ..errors import ConfigError
from ..losses import Losses, MultiTaskLoss, TaskLosses
from ..regularizer import Regularizer
from .weighting import TASK_WEIGHTINGS


class Joint:
    """A training method: it computes the gradients of a step."""

    def __init__(
        self, loss: MultiTaskLoss, config: Config, optimizer: AdamW, regularizers: Sequence[Regularizer] = ()
    ) -> None:
        """``regularizers`` are those that the trainer applies after the steps of ``optimizer``."""
        self.loss, self.config, self.optimizer = loss, config, optimizer
        self.regularizers = tuple(regularizers)
        weighting = TASK_WEIGHTINGS.require(config.task_weighting, "task_weighting:")
        self.weighting = weighting(list(loss.tasks), config.seed)
        if loss.output_loss and self.weighting.detach_features:
            raise ConfigError(
                f"task_weighting={config.task_weighting} takes the tasks' gradients one by one, a teacher has no part "
                "there: take equal, uncertainty, dwa or famo"
            )
        self.auxiliary: dict[str, float] = {}
        """The auxiliary loss of the last step by its column in the log."""
        self.shared = [p for p in loss.network.trunk.parameters() if p.requires_grad]
        self.prepare()

    def prepare(self) -> None:
        """Check the configuration and set up the state of the method; called once."""

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimiser trains in addition to the network."""
        return self.weighting.parameters()

    def backward(self, batch: Batch, step: int) -> Losses:
        """Add the gradients of a step to ``.grad``; return the losses by task, {} of a batch without labels."""
        passed = self.loss(batch, detach_features=self.weighting.detach_features)
        if passed.losses:
            self.note_auxiliary(passed)
            self.weighting.backward(passed._replace(losses=self.loss.weighted(passed.losses)), self.shared)
        return passed.losses

    def note_auxiliary(self, passed: TaskLosses) -> None:
        """Remember the auxiliary loss of a forward pass for the log."""
        if passed.auxiliary is not None:
            self.auxiliary = {"distill": float(passed.auxiliary.detach()) * distributed.world_size()}

    def after_step(self, batch: Batch) -> None:
        """Take in the optimiser step on a batch."""
        self.weighting.after_step(lambda: self.loss.reevaluate(batch))

    def end_epoch(self) -> None:
        """Take in the end of an epoch."""
        self.weighting.end_epoch()

    def metrics(self) -> dict[str, float]:
        """Return the columns of a step's log row."""
        weights = {} if self.config.task_weighting == "equal" else self.weighting.weights
        return self.auxiliary | {f"loss_weight/{name}": weight for name, weight in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what changes during the training: tensors, and values that JSON can hold."""
        return {f"weighting.{name}": value for name, value in self.weighting.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; tensors are changed in place."""
        prefix = "weighting."
        self.weighting.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
