"""The importance of groups: what the network would lose without each, by one of several measures.

- ``taylor``: the running mean of (Σ_{i in g} w_i ∂L/∂w_i)², the first-order term of the change of the training's loss
  (Molchanov et al. 2019, arXiv 1906.10771), over the whole group at once, so that a channel's scale and shift count for
  the weights before them, whose sum is 0 by normalisation;
- ``observed``: the same of another scalar than the loss, which `Sparsifier.observe` is given: a random projection of
  the outputs, say, whose term is what they would change by. It says something where the loss has no gradient yet, as
  that of a student that equals its teacher;
- ``magnitude``: Σ w_i², in units of the mean of the layer's groups (Han et al. 2015, arXiv 1506.02626).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .blocks import ChannelBlocks
from .group_rows import GroupRows

ImportanceName = Literal["taylor", "observed", "magnitude"]
MEMORY = 0.05
"""Weight of the last step."""
TINY = 1e-30


class Importance:
    """The importance of every group of a network's weights; ``values`` are the running means, (count,)."""

    def __init__(self, name: ImportanceName, by_rows: GroupRows, blocks: ChannelBlocks, period: int) -> None:
        """Gradients are taken in at every ``period``-th step."""
        self.name, self.by_rows = name, by_rows
        self.memory = 1 - (1 - MEMORY) ** period
        self.values = torch.zeros(by_rows.count)
        self.layer = torch.from_numpy(blocks.layer)

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network."""
        self.values, self.layer = self.values.to(device), self.layer.to(device)

    def take_in(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Take in the gradients of one step, as `parameters` in order."""
        given = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        squares = self.by_rows.products(parameters, given).square()
        # a gradient scaler skips a step whose gradients overflowed
        self.values.lerp_(torch.where(squares.isfinite(), squares, self.values), self.memory)

    def of(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the importance of every group, (count,)."""
        if self.name != "magnitude":
            return self.values
        squares = self.by_rows.products(parameters, parameters)
        layers = int(self.layer.max()) + 1
        sums = squares.new_zeros(layers).index_add_(0, self.layer, squares)
        sizes = torch.bincount(self.layer, minlength=layers)
        return squares / (sums / sizes).clamp(min=TINY)[self.layer]
