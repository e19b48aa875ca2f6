"""Learning together: every step takes all tasks of the whole batch, settled by a balance.

θ ← θ - lr · AdamW( Σ_t w_t ∇ L_t(θ; batch) )                                   w_t: `methods.weighting`
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW

from ..config import Config
from ..data.batch import Batch
from ..losses import Lesson, Losses
from ..sparsity.group_lasso import ChannelSparsity
from .alignment import ChannelAlignment
from .weighting import BALANCES


class Joint:
    """A method: it fills in the gradients of a step."""

    def __init__(
        self,
        lesson: Lesson,
        config: Config,
        optimizer: AdamW,
        sparsity: ChannelSparsity | None = None,
        alignment: ChannelAlignment | None = None,
    ) -> None:
        """``sparsity`` and ``alignment`` are what the loop applies behind the steps of ``optimizer``."""
        self.lesson, self.config, self.optimizer = lesson, config, optimizer
        self.sparsity, self.alignment = sparsity, alignment
        self.balance = BALANCES[config.task_weighting](list(lesson.tasks), config.seed)
        self.shared = [p for p in lesson.network.trunk.parameters() if p.requires_grad]  # type: ignore[union-attr]
        self.prepare()

    def prepare(self) -> None:
        """Check the configuration and make what a method keeps of its own; called once."""

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimiser learns beside the network."""
        return self.balance.parameters()

    def gradients(self, batch: Batch, step: int) -> Losses:
        """Add the gradients of step ``step`` to ``.grad`` and return the losses; none of a batch without labels."""
        losses, features, cut = self.lesson.losses(batch, cuts=self.balance.cuts)
        if losses:
            self.balance.backward(self.lesson.weighted(losses), features, cut, self.shared)
        return losses

    def after(self, batch: Batch) -> None:
        """Take note of the optimiser step that was taken."""
        self.balance.after(lambda: self.lesson.again(batch))

    def advance(self) -> None:
        """Take note of the end of a round."""
        self.balance.advance()

    def figures(self) -> dict[str, float]:
        """Return what the log tells of a step."""
        weights = {} if self.config.task_weighting == "equal" else self.balance.weights
        return {f"weight {name}": weight for name, weight in weights.items()}

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold of what changes."""
        return {"balance": self.balance.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.balance.load_state(state["balance"])

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that change, by name; they are loaded in place."""
        return {f"balance.{index}": p.data for index, p in enumerate(self.balance.parameters())}
