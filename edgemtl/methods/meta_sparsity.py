"""meta_sparsity: how strongly each part of the network is made sparse, learned through a proximal inner step.

After R. Upadhyay et al., "Meta-sparsity" (arXiv 2501.12115), in the form in which the strengths λ_l of levels l (the
whole network, its stages or its layers) have a gradient that means something. In every episode of `methods.mtml`

    u = θ - α D⁻¹ ∇ L_c(θ; S)                               support
    φ = argmin_x ½ ‖x - u‖²_D + α Σ_g λ_l √n_g ‖x_g‖        every group g of level l: `sparsity.proximal`
    J = L_c(φ; Q)                                           query

    dJ/dλ_l = Σ_g <∇_{φ_g} J, dφ_g/dλ_l>       over the groups that live: a strength rises where shrinking what lives
                                               lowers the query loss. With D = 1, dφ_g/dλ_l = -α √n_g u_g / ‖u_g‖

λ_l = exp(ρ_l), and ρ has an Adam of its own. θ learns from the query as in `methods.mtml`, and the proximal step behind
AdamW's applies λ to it. (First order copies the gradient at φ, also to a group that φ has at zero. A filter whose scale
and shift are zero with it has none: of the groups, only those of kind "input" ever come back.)

At a stationary θ each living group's gradient is the penalty's own, -λ √n w / ‖w‖, if θ learns from the query too: then
the query asks for weaker and weaker strengths, and only a budget holds them. Either a target says what is to go
(``sparsity.target``): the line to it sets the level of all strengths, and the query says how they compare. With C(ρ)
the cost of what lives, each group by the part of its norm that φ has left of u, the best strengths at a given C have
dJ/dρ = μ dC/dρ: every level pays as much loss for what it saves. So ρ follows what is left of dJ/dρ across dC/dρ. Or,
without one, ``episodes.query_fraction`` keeps a share of the training images as queries that θ never trains
on. The strengths of `methods.alignment` (``alignment.trainable``) are learned the same way, beside those of channels or, with
``sparsity.strength=0``, alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import distributed
from ..data.batch import Batch
from ..errors import ConfigError
from ..losses import Losses, Weights
from ..sparsity.group_lasso import ChannelSparsity
from .alignment import ChannelAlignment
from .mtml import MTML

LOWEST, HIGHEST = 1e-9, 1e3
"""Bounds of a strength."""
RELATIVE = 3.0
"""With a target no level's strength is more than exp of this from the others' geometric mean."""
BETA1, BETA2 = 0.9, 0.99
"""Of the strengths' own Adam."""


class Strengths:
    """The logarithms of what a proximal step pulls with, and an Adam of their own."""

    def __init__(self, of: ChannelSparsity | ChannelAlignment, rate: float, relative: bool) -> None:
        """``relative`` ones only say how levels compare: their mean stays 0."""
        self.of, self.rate, self.relative = of, rate, relative
        self.rho = of.log_strength.requires_grad_()
        self.moments = torch.zeros(3, len(self.rho), device=self.rho.device)
        """Adam's mean, mean square, and count of steps."""
        self.cost = torch.zeros_like(self.rho)
        """Of relative ones: the gradient of what lives costs, over a step's episodes."""
        self.active = False

    def settled(self, at: Weights, rate: float, metric: Weights | None) -> Weights:
        """Return weights after their proximal step, taking note of what that saves."""
        after = self.of.settled(at, rate, metric)
        if self.relative and isinstance(self.of, ChannelSparsity):
            self.cost += torch.autograd.grad(self.of.lasting(at, after), self.rho, retain_graph=True)[0]
        return after

    @torch.no_grad()
    def learn(self) -> None:
        """Take a step along the gradient of all processes, within the bounds."""
        if self.rho.grad is None:
            return
        asked = distributed.all_reduce([self.rho.grad])[0]
        if self.relative:
            asked -= (asked @ self.cost) / (self.cost @ self.cost).clamp(min=1e-30) * self.cost
            self.cost = torch.zeros_like(self.rho)
        mean, square, count = self.moments
        mean.lerp_(asked, 1 - BETA1)
        square.lerp_(asked.square(), 1 - BETA2)
        count += 1
        self.rho -= self.rate * mean / (1 - BETA1**count) / ((square / (1 - BETA2**count)).sqrt() + 1e-30)
        if self.relative:
            self.rho -= self.rho.mean()
            self.rho.clamp_(-RELATIVE, RELATIVE)
        else:
            self.rho.clamp_(math.log(LOWEST), math.log(HIGHEST))
        self.rho.grad = None


class MetaSparsity(MTML):
    """Episodes whose inner step ends in proximal steps of learned strengths."""

    def prepare(self) -> None:
        """Take up the strengths that there are to learn."""
        super().prepare()
        rate = self.episodes.strength_lr
        self.strengths = [Strengths(self.sparsity, rate, bool(self.sparsity.target))] if self.sparsity else []
        if self.alignment and self.config.alignment.trainable:
            self.strengths.append(Strengths(self.alignment, rate, relative=False))
        if not self.episodes.inner_steps:
            raise ConfigError("method=meta_sparsity learns through the inner step: episodes.inner_steps must not be 0")
        if not self.strengths:
            raise ConfigError("method=meta_sparsity has no strength to learn: sparsity.strength is 0")

    def gradients(self, batch: Batch, step: int) -> Losses:
        """Add the gradients by the weights, and let the strengths take a step of their own."""
        for each in self.strengths:
            each.active = each.of.acts(step)
        losses = super().gradients(batch, step)
        for each in self.strengths:
            each.learn()
        return losses

    def settled(self, at: Weights, metric: Weights | None) -> Weights:
        """Take the proximal steps behind an inner step; of several, the strengths' gradient goes through the last."""
        at = super().settled(at, metric)
        for each in self.strengths:
            if each.active:
                at = each.settled(at, self.episodes.inner_lr, metric)
        return at

    def beside(self) -> list[Tensor]:
        """Return what the query teaches beside the weights."""
        return [*super().beside(), *(each.rho for each in self.strengths if each.active)]

    def tensors(self) -> dict[str, Tensor]:
        """Return the strengths and their moments too."""
        own = super().tensors()
        for number, each in enumerate(self.strengths):
            own |= {f"strengths.{number}": each.rho.data, f"strengths.{number}.moments": each.moments}
        return own
