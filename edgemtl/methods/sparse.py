"""Channel sparsity by group lasso, towards a share of the parameters, then a frozen pattern.

After R. Upadhyay et al., "Less is More" (arXiv 2308.12114): a proximal step behind each optimiser step makes whole
channel groups exactly zero. Here the groups are those that really go away together (`edgemtl_export.groups`). In a
short training a strength that zeroes enough groups crushes the live ones too; so the strength is mild, it tells the
groups apart, and the weakest are zeroed along a line from the start to the deadline. At the target the pattern is
frozen: a zeroed group would otherwise revive at the next optimiser step, because its shift still has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
        self.proximal = GroupProximal(self.groups, self.network)
        self.dense = self.groups.parameters()
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
        norms = self.proximal.norms(self.network)
        spared = self.proximal.strongest(norms, s.keep)
        self.dead = self.proximal.shrink(self.network, lr * s.strength, spared)
        wanted = s.target * min(1.0, (progress - s.start) / max(s.deadline - s.start, 1e-9))
        if self.share < wanted:
            dead = self.proximal.weakest_to(norms, spared, int((1 - wanted) * self.dense))
            self.dead |= torch.from_numpy(dead).to(self.dead.device)
            self.mask(self.network)
        self.frozen = self.share >= s.target

    def mask(self, network: nn.Module) -> None:
        """Make the zero groups exactly zero in a network of the same parameters."""
        self.proximal.scale(network, (~self.dead).float())
