"""Refitting within the schedule: each time that groups are pruned, what reads them is fitted to the network before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..processes import mean_over_processes
from ..refit import refit
from ..tracing import evaluation_copy


class Refitting:
    """Refits a network on the inputs that it was given last."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.before: nn.Module | None = None

    def take(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take the inputs of a batch, to fit on."""
        self.inputs = pytree.tree_map_only(torch.Tensor, lambda t: t.detach(), (args, dict(kwargs)))

    def remember(self) -> None:
        """Keep the network as it is, which is about to be pruned."""
        if self.inputs is None:
            raise ValueError("refit: give Sparsifier.see the inputs of each batch")
        self.before = evaluation_copy(self.model, share=False).to(next(self.model.parameters()).device)

    def fit(self) -> None:
        """Fit the layers of the pruned network to the one that was kept."""
        assert self.before is not None and self.inputs is not None
        refit(self.model, self.before, *self.inputs)
        self.before = None
        for parameter in self.model.parameters():  # processes have images of their own
            parameter.detach().copy_(mean_over_processes(parameter.detach()))
