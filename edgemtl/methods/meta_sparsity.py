"""Meta-sparsity: the strengths of the sparsity regulariser are trained, through a proximal inner step.

After R. Upadhyay et al., "Meta-sparsity" (arXiv 2501.12115), in the form in which the strengths λ_l of levels l (the
whole network, its stages or its layers) have a well-defined gradient. In every episode of `methods.mtml`

    u = θ - α D⁻¹ ∇ L_c(θ; S)                               support
    φ = argmin_x ½ ‖x - u‖²_D + α Σ_g λ_l √n_g ‖x_g‖        every group g of level l: `edgemtl_export.sparsity.proximal`
    J = L_c(φ; Q)                                           query

    dJ/dλ_l = Σ_g <∇_{φ_g} J, dφ_g/dλ_l>       over the active groups: a strength rises where shrinking them lowers the
                                               query loss. With D = 1, dφ_g/dλ_l = -α √n_g u_g / ‖u_g‖

λ_l = exp(ρ_l), and ρ has its own Adam. θ is trained on the query as in `methods.mtml`, and the proximal step after
AdamW's applies λ to it. (First order copies the gradient at φ, also to a group that φ has at zero. A filter whose scale
and shift are zero with it has none: of the groups, only those of form "input" ever become active again.)

At a stationary θ the gradient of each active group is the penalty's, -λ √n w / ‖w‖, if θ is trained on the query too:
then the query asks for weaker and weaker strengths, and only a budget holds them. Either a target fixes the budget
(``sparsity.target``): its schedule sets the level of all strengths, and the query their ratios. With C(ρ) the cost of
the active groups, each by the part of its norm that φ has left of u, the best strengths at a given C have
dJ/dρ = μ dC/dρ: every level pays as much loss for its cost reduction. So ρ follows the part of dJ/dρ that is orthogonal
to dC/dρ. Or, without one, ``episodes.query_fraction`` holds out a share of the training images as queries that θ is
never trained on. The strengths of `methods.alignment` (``alignment.trainable``) are trained in the same way, next to
those of channels or, with ``sparsity.strength=0``, alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import distributed
from ..data.batch import Batch
from ..errors import ConfigError
from ..losses import Losses, Params
from ..regularizer import ProximalOperator
from .mtml import MTML

LOWEST, HIGHEST = 1e-9, 1e3
"""Bounds of a strength."""
RELATIVE = 3.0
"""With a target no level's strength is more than exp of this from the others' geometric mean."""
BETA1, BETA2 = 0.9, 0.99
"""Of the strengths' Adam."""


class Strengths:
    """The logarithms of a proximal operator's strengths, and their Adam."""

    def __init__(self, operator: ProximalOperator, lr: float) -> None:
        """With ``operator.relative`` strengths only compare levels: their mean logarithm stays 0."""
        self.operator, self.lr, self.relative = operator, lr, operator.relative
        self.rho = operator.log_strength.requires_grad_()
        self.adam = torch.zeros(3, len(self.rho), device=self.rho.device)
        """Adam's average gradient, average square, and count of steps."""
        self.cost_gradient = torch.zeros_like(self.rho)
        """Of relative ones: the gradient of the cost of the active groups, over the episodes of a step."""
        self.active = False

    def proximal_step(self, params: Params, rate: float, metric: Params | None) -> Params:
        """Return parameters after their proximal step; accumulates the gradient of the cost."""
        after = self.operator.proximal_step(params, rate, metric)
        if self.relative:
            cost = self.operator.remaining_cost(params, after)
            self.cost_gradient += torch.autograd.grad(cost, self.rho, retain_graph=True)[0]
        return after

    @torch.no_grad()
    def step(self) -> None:
        """Take an Adam step along the gradient of all processes, within the bounds."""
        if self.rho.grad is None:
            return
        gradient = distributed.all_reduce([self.rho.grad])[0]
        if self.relative:
            cost = self.cost_gradient
            gradient -= (gradient @ cost) / (cost @ cost).clamp(min=1e-30) * cost
            self.cost_gradient = torch.zeros_like(self.rho)
        average, square, count = self.adam
        average.lerp_(gradient, 1 - BETA1)
        square.lerp_(gradient.square(), 1 - BETA2)
        count += 1
        self.rho -= self.lr * average / (1 - BETA1**count) / ((square / (1 - BETA2**count)).sqrt() + 1e-30)
        if self.relative:
            self.rho -= self.rho.mean()
            self.rho.clamp_(-RELATIVE, RELATIVE)
        else:
            self.rho.clamp_(math.log(LOWEST), math.log(HIGHEST))
        self.rho.grad = None


class MetaSparsity(MTML):
    """Episodes whose inner step ends in proximal steps of trained strengths."""

    def prepare(self) -> None:
        """Collect the strengths that are trained."""
        super().prepare()
        operators = [regularizer.proximal() for regularizer in self.regularizers]
        self.strengths = [
            Strengths(operator, self.episodes.strength_lr) for operator in operators if operator is not None
        ]
        if not self.episodes.inner_steps:
            raise ConfigError("method=meta_sparsity trains through the inner step: episodes.inner_steps must not be 0")
        if not self.strengths:
            raise ConfigError("method=meta_sparsity has no strength to train: sparsity.strength is 0")

    def backward(self, batch: Batch, step: int) -> Losses:
        """Add the gradients by the weights, and take the step of the strengths."""
        for strengths in self.strengths:
            strengths.active = strengths.operator.is_active(step)
        losses = super().backward(batch, step)
        for strengths in self.strengths:
            strengths.step()
        return losses

    def constrain(self, params: Params, metric: Params | None) -> Params:
        """Apply the proximal steps after an inner step; of several, the strengths' gradient goes through the last."""
        params = super().constrain(params, metric)
        for strengths in self.strengths:
            if strengths.active:
                params = strengths.proximal_step(params, self.episodes.inner_lr, metric)
        return params

    def extra_parameters(self) -> list[Tensor]:
        """Return the strengths too."""
        return [*super().extra_parameters(), *(s.rho for s in self.strengths if s.active)]

    def state_dict(self) -> dict[str, Any]:
        """Return the strengths and their Adam too."""
        state = super().state_dict()
        for index, strengths in enumerate(self.strengths):
            state |= {f"strengths.{index}.rho": strengths.rho.data, f"strengths.{index}.adam": strengths.adam}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them in place."""
        super().load_state_dict(state)
        for index, strengths in enumerate(self.strengths):
            strengths.rho.data.copy_(state[f"strengths.{index}.rho"])
            strengths.adam.copy_(state[f"strengths.{index}.adam"])
