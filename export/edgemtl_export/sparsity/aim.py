"""The aim of a latency target: on the way there the narrow network itself is measured, and the cost corrected by it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..processes import first_decides

if TYPE_CHECKING:
    from ..cost_model.deployed_latency import DeployedLatency

MARKS = (0.5, 0.8, 0.95, 1.0, 1.0, 1.0)
"""Shares of the target at which the network is measured; several at the end, in case the first falls short."""


class Aim:
    """Measures a network whenever its schedule passes a mark. Of other metrics, and of another device's, it is idle."""

    def __init__(self, cost: DeployedLatency | None) -> None:
        self.cost = cost if cost is not None and cost.is_here else None
        self.passed = 0
        """How many marks were."""
        self.measured: list[tuple[torch.Tensor, float]] = []
        """The channels that were pruned, and the share of the dense time that was measured then."""

    def follow(self, share_of_target: float, pruned: NDArray[np.bool_]) -> bool:
        """Measure with these channels ``pruned`` if a mark is passed; return whether the cost is corrected now."""
        if self.cost is None or self.passed >= len(MARKS) or share_of_target < MARKS[self.passed]:
            return False
        self.passed = max(self.passed + 1, min(bisect_left(MARKS, share_of_target), MARKS.index(1.0) + 1))
        cost = self.cost
        share = first_decides(cost.measure)  # one machine's clock for all
        cost.take_in(pruned, share)
        self.measured.append((torch.from_numpy(pruned), share))
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured: tensors and plain values."""
        return {
            "aim_passed": self.passed,
            "aim_shares": torch.tensor([share for _, share in self.measured], dtype=torch.float64),
            "aim_pruned": torch.stack([p for p, _ in self.measured]) if self.measured else torch.zeros(0, 0).bool(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a state of before there was an aim has measured nothing."""
        self.passed = state.get("aim_passed", 0)
        if self.passed:
            self.measured = list(zip(state["aim_pruned"].cpu(), state["aim_shares"].tolist(), strict=True))
        if self.cost is not None:
            for pruned, share in self.measured:
                self.cost.take_in(pruned.numpy(), share)
