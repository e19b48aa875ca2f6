"""Proximal steps that make whole channel groups exactly zero."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgemtl_export.groups import Groups


class GroupProximal:
    """The proximal map of the group lasso, over all channel groups of a network at once.

    For each group w of n parameters: w ← max(0, 1 - τ √n / ‖w‖) w (Yuan and Lin 2006). What a group holds is said by
    ``groups.rows``: the filter, its bias, and the scale and shift of the batch normalisation behind it.
    """

    def __init__(self, groups: Groups, network: nn.Module) -> None:
        self.groups = groups
        self.device = next(network.parameters()).device
        self.rows = {name: torch.from_numpy(rows).to(self.device) for name, rows in groups.rows.items()}
        sizes = torch.zeros(groups.count + 1, device=self.device)
        for name, p in network.named_parameters():
            if name in self.rows:
                slots = self._slots(name)
                share = torch.full((len(slots),), p.numel() / len(slots), device=self.device)
                sizes.index_add_(0, slots, share)
        self.root_size = sizes.sqrt()

    def _slots(self, name: str) -> Tensor:
        return self.rows[name] % (self.groups.count + 1)  # -1, a row that stays, has the last slot

    @torch.no_grad()
    def norms(self, network: nn.Module) -> Tensor:
        """Return the Euclidean norm of every group, (count,)."""
        squares = torch.zeros(self.groups.count + 1, device=self.device)
        for name, p in network.named_parameters():
            if name in self.rows:
                rows = p.detach().movedim(self.groups.axis(name), 0).reshape(len(self.rows[name]), -1)
                squares.index_add_(0, self._slots(name), rows.square().sum(1))
        return squares.sqrt()[:-1]

    @torch.no_grad()
    def shrink(self, network: nn.Module, threshold: float, protected: Tensor) -> Tensor:
        """Apply the proximal map with τ = ``threshold``, sparing ``protected`` groups; return which are zero now."""
        norms = self.norms(network)
        scale = (1 - threshold * self.root_size[:-1] / norms.clamp(min=1e-12)).clamp(min=0)
        scale[protected] = 1.0
        self.scale(network, scale)
        return (scale == 0) | (norms == 0)

    @torch.no_grad()
    def scale(self, network: nn.Module, scale: Tensor) -> None:
        """Multiply every group by its entry of ``scale``, (count,); 0 makes it exactly zero."""
        full = torch.cat([scale, scale.new_ones(1)])
        for name, p in network.named_parameters():
            if name in self.rows:
                rows = p.movedim(self.groups.axis(name), 0)
                rows.mul_(full[self._slots(name)].view([-1] + [1] * (p.ndim - 1)))

    def strongest(self, norms: Tensor, share: float) -> Tensor:
        """Return the groups among the strongest ``share`` of any layer, (count,) bool: at least one of each layer."""
        relative = norms / self.root_size[:-1]
        spared = torch.zeros(self.groups.count, dtype=torch.bool, device=self.device)
        for name, rows in self.rows.items():
            members = rows[rows >= 0].unique()
            if len(self.groups.shapes[name]) > 1 and len(members):
                count = max(1, int(np.ceil(share * len(rows))) - int((rows < 0).sum()))
                spared[members[relative[members].topk(min(count, len(members))).indices]] = True
        return spared

    def weakest_to(self, norms: Tensor, spared: Tensor, parameters: int) -> NDArray[np.bool_]:
        """Return the fewest groups, weakest first, whose removal leaves at most ``parameters``."""
        relative = (norms / self.root_size[:-1]).masked_fill(spared, float("inf")).cpu().numpy()
        order = np.argsort(relative, kind="stable")
        low, high = 0, int(np.isfinite(relative).sum())
        while low < high:
            middle = (low + high) // 2
            dead = np.zeros(self.groups.count, bool)
            dead[order[:middle]] = True
            low, high = (low, middle) if self.groups.parameters(dead) <= parameters else (middle + 1, high)
        dead = np.zeros(self.groups.count, bool)
        dead[order[:low]] = True
        return dead
