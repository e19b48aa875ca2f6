"""meta_sparsity: how strongly each part of the network is made sparse, learned through a proximal inner step.

After R. Upadhyay et al., "Meta-sparsity" (arXiv 2501.12115), in the form in which the strengths λ_l of levels l (the
whole network, its stages or its layers) have a gradient that means something. In every episode of `methods.mtml`

    u = θ - α ∇ L_c(θ; S)                           support
    φ_g = max(0, 1 - α λ_l √n_g / ‖u_g‖) u_g        every group g of level l
    J = L_c(φ; Q)                                   query

    dJ/dλ_l = - α Σ_g √n_g <∇_{φ_g} J, u_g / ‖u_g‖>     over the groups that live: a strength rises where shrinking what
                                                        lives lowers the query loss

λ_l = exp(ρ_l), and ρ has an Adam of its own. θ learns from the query as in `methods.mtml`, and the proximal step behind
AdamW's applies λ to it. (First order copies the gradient at φ, also to a group that φ has at zero. A filter whose scale
and shift are zero with it has none: of the groups, only those of kind "input" ever come back.)

At a stationary θ each living group's gradient is the penalty's own, -λ √n w / ‖w‖, if θ learns from the query too: then
the query asks for weaker and weaker strengths, and only a budget holds them. Either a target says what is to go
(``sparsity.target``): the line to it sets the level of all strengths, and the query says how they compare. Or, without
one, ``episodes.held`` keeps a share of the training pictures as queries that θ never learns from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import processes
from ..config import Config
from ..data.labels import Batch
from ..errors import ConfigError
from ..lesson import Lesson, Losses, Weights
from ..optim.proximal import shrunk
from .mtml import MTML
from .sparse import ChannelSparsity

LOWEST, HIGHEST = 1e-9, 1e3
"""Bounds of a strength."""
RELATIVE = 3.0
"""With a target no level's strength is more than exp of this from the others' geometric mean."""
BETA1, BETA2 = 0.9, 0.99
"""Of the strengths' own Adam."""


class MetaSparsity(MTML):
    """Episodes whose inner step ends in a proximal step of learned strength."""

    def __init__(self, lesson: Lesson, config: Config, sparsity: ChannelSparsity | None) -> None:
        super().__init__(lesson, config, sparsity)
        if sparsity is None or not self.episodes.inner_steps:
            raise ConfigError("method=meta_sparsity learns through the inner step: episodes.inner_steps must not be 0")
        self.sparse = sparsity
        self.rho = sparsity.log_strength.requires_grad_()
        self.moments = torch.zeros(3, len(self.rho), device=self.rho.device)
        """Adam's mean, mean square, and count of steps."""
        self.active = False

    def gradients(self, batch: Batch, step: int) -> Losses:
        """Add the gradients by the weights, and let the strengths take a step of their own."""
        self.active = self.sparse.shrinks(step)
        self.rho.grad = None
        losses = super().gradients(batch, step)
        if self.rho.grad is not None:
            self._learn(processes.summed([self.rho.grad])[0])
        return losses

    def settled(self, at: Weights) -> Weights:
        """Take the proximal step behind an inner step; of several, the strengths' gradient goes through the last."""
        at = super().settled(at)
        if not self.active:
            return at
        partition, names = self.sparse.partition, self.sparse.partition.names
        weights = [at[name] for name in names]
        tau = self.episodes.inner_lr * self.sparse.strengths()[self.sparse.level] * partition.root_size
        shorter, _ = shrunk(partition.gather(weights), tau, partition)
        return at | dict(zip(names, partition.placed(shorter, weights), strict=True))

    def beside(self) -> list[Tensor]:
        """Return what the query teaches beside the weights."""
        return [*super().beside(), *([self.rho] if self.active else [])]

    @torch.no_grad()
    def _learn(self, asked: Tensor) -> None:
        """Take a step of Adam on the logarithms of the strengths, within their bounds."""
        mean, square, count = self.moments
        mean.lerp_(asked, 1 - BETA1)
        square.lerp_(asked.square(), 1 - BETA2)
        count += 1
        step = mean / (1 - BETA1**count) / ((square / (1 - BETA2**count)).sqrt() + 1e-30)
        self.rho -= self.episodes.strength_lr * step
        if self.sparse.target:
            self.rho -= self.rho.mean()
            self.rho.clamp_(-RELATIVE, RELATIVE)
        else:
            self.rho.clamp_(torch.tensor(LOWEST).log().item(), torch.tensor(HIGHEST).log().item())

    def tensors(self) -> dict[str, Tensor]:
        """Return the strengths and their moments too."""
        return super().tensors() | {"strength": self.rho.data, "strength.moments": self.moments}
