"""Regularisers: what acts on the weights next to the losses, such as sparsity and alignment.

A regulariser is one file with a class like `Regularizer`, and one line in `methods.REGULARIZERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgemtl_models import MultiTask

from .losses import Params


class Regularizer:
    """One regulariser of a training; a class that inherits from it writes only the methods that it needs."""

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network."""

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that weight decay must leave alone."""
        return set()

    def observe_outputs(self, outputs: Mapping[str, Any], images: Mapping[str, Tensor]) -> None:
        """Take in the heads' raw outputs for a batch's images by input, before the backward pass, whose graph stays."""

    def prepare(self, step: int, loss: Callable[[], float]) -> None:
        """Get ready for step ``step``, from 0; ``loss`` evaluates the network on its batch, before it is trained on."""

    def observe(self, grads: Mapping[str, Tensor]) -> None:
        """Take in the gradients by parameter name, summed over processes, before they are clipped."""

    def after_step(self, step: int, lr: float, optimizer: torch.optim.AdamW) -> None:
        """Change the weights after optimiser step ``step``, from 0."""

    def mask(self, network: nn.Module) -> None:
        """Apply its exact constraints, zeros or equal weights, to a copy of the network such as the average."""

    def project(self, params: Params) -> Params:
        """Return weights by name under its constraints, differentiably."""
        return params

    def proximal(self) -> ProximalOperator | None:
        """Return its proximal operator where its strengths are trained (`methods.meta_sparsity`)."""
        return None

    def metrics(self) -> dict[str, float]:
        """Return the columns of a step's log row."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what changes during the training: tensors, and values that JSON can hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def warnings(self) -> list[str]:
        """Return what the user has to know at the end of the training."""
        return []

    def figures(self) -> dict[str, str]:
        """Return what the run's report shows of it."""
        return {}

    def finish(self, network: MultiTask) -> dict[str, Any]:
        """Change the structure of the masked network at the end; return the changed keys of its description."""
        return {}


class ProximalOperator(Protocol):
    """A proximal step that is differentiable by the weights and by the logarithms of its strengths."""

    @property
    def log_strength(self) -> Tensor:
        """(L,) one a level; the training of strengths changes it in place."""

    @property
    def levels(self) -> Sequence[str]:
        """The names of the levels."""

    @property
    def relative(self) -> bool:
        """Whether strengths only compare levels, because a target sets their mean."""

    def is_active(self, step: int) -> bool:
        """Whether a proximal step follows optimiser step ``step``, from 0."""

    def proximal_step(self, params: Params, rate: float, metric: Params | None) -> Params:
        """Return weights by name after a proximal step of ``rate``, in a diagonal ``metric`` or the Euclidean one."""

    def remaining_cost(self, before: Params, after: Params) -> Tensor:
        """Return the share of the cost that a step has left (scalar); asked of relative ones only."""
