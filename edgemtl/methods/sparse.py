"""Channel sparsity by group lasso, towards a share of the parameters, then a frozen pattern.

After R. Upadhyay et al., "Less is More" (arXiv 2308.12114): a proximal step behind each optimiser step makes whole
channel groups exactly zero. Here the groups are those that really go away together (`edgemtl_export.groups`), the
share of parameters gone follows a line from the start to the deadline (the strength leans against it, and the weakest
groups go first), and at the target the pattern is frozen: a group that was zeroed would otherwise revive at the next
optimiser step, because its shift still has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from edgemtl_export.groups import Groups

from ..config import Sparsity
from ..optim.proximal import GroupProximal


@dataclass
class ChannelSparsity:
    """Call `step` after every optimiser step, and `mask` on any copy of the weights."""

    groups: Groups
    network: nn.Module
    settings: Sparsity
    steps: int
    dead: Tensor = field(init=False)
    frozen: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.proximal = GroupProximal(self.groups, self.network, self.settings.lean)
        self.dense = self.groups.parameters()
        self.strength = self.settings.strength
        self.dead = torch.zeros(self.groups.count, dtype=torch.bool, device=self.proximal.device)

    @property
    def share(self) -> float:
        """Share of the parameters that are gone with the groups that are zero now."""
        return 1 - self.groups.parameters(self.dead.cpu().numpy()) / self.dense

    @property
    def live(self) -> int:
        """How many channel groups are not zero."""
        return int((~self.dead).sum())

    def step(self, step: int, lr: float) -> None:
        """Apply the proximal step that belongs to optimiser step ``step`` (from 0), or the frozen pattern."""
        s = self.settings
        if self.frozen:
            self.mask(self.network)
            return
        progress = (step + 1) / self.steps
        if progress < s.start:
            return
        wanted = s.target * min(1.0, (progress - s.start) / max(s.deadline - s.start, 1e-9))
        spared = self.proximal.strongest(self.proximal.norms(self.network), s.keep)
        least = int((1 - wanted) * self.dense)
        self.dead = self.proximal.shrink(self.network, lr * self.strength, spared, least)
        share = self.share
        # The way from few channels to most of them is short: follow the line from start to deadline.
        self.strength *= 1.02 if share < wanted else 0.98
        if share >= s.target:
            self.frozen = True
        elif progress >= s.deadline:
            norms = self.proximal.norms(self.network)
            left = int((1 - s.target) * self.dense)
            dead = self.proximal.weakest_to(norms, self.proximal.strongest(norms, s.keep), left)
            self.dead = torch.from_numpy(np.asarray(dead)).to(self.dead.device)
            self.frozen = True
            self.mask(self.network)

    def mask(self, network: nn.Module) -> None:
        """Make the zero groups exactly zero in a network of the same parameters."""
        self.proximal.scale(network, (~self.dead).float())
