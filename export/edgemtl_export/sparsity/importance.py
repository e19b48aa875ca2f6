"""The importance of groups: what the network would lose without each, by one of several measures.

- ``taylor``: the running mean of (Σ_{i in g} w_i ∂L/∂w_i)², the first-order term of the change of the training's loss
  (Molchanov et al. 2019, arXiv 1906.10771), over the whole group at once, so that a channel's scale and shift count for
  the weights before them, whose sum is 0 by normalisation;
- ``fisher``: the same of another scalar than the loss, which `Sparsifier.observe` is given: the likelihood of answers
  that are drawn from the network's own, whose squared gradient is the Fisher information (`Teacher.likelihood`). It
  says something where the loss has no gradient yet, as that of a student that equals its teacher;
- ``magnitude``: Σ w_i², in units of the mean of the layer's groups (Han et al. 2015, arXiv 1506.02626);
- ``activation``: the share of what the readers of a channel answer that comes from it (`activation_energy`).

The four compare the groups of a layer in ways of their own, but each is a guess at what layers are to each other. That
can be measured: `choice.layer_sensitivities` is what a network loses when a part of one layer alone is pruned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..processes import mean_over_processes
from .activation_energy import ActivationEnergy
from .blocks import ChannelBlocks
from .group_rows import GroupRows
from .partition import PenalisedGroups

ImportanceName = Literal["taylor", "fisher", "magnitude", "activation"]
IMPORTANCES: tuple[ImportanceName, ...] = get_args(ImportanceName)
MEMORY = 0.05
"""Weight of the last step."""
TINY = 1e-30


class Importance:
    """The importance of every group of a network's weights, (count,), by the measure ``name``."""

    def __init__(
        self,
        names: Sequence[ImportanceName],
        model: nn.Module,
        penalised: PenalisedGroups,
        by_rows: GroupRows,
        blocks: ChannelBlocks,
        period: int,
    ) -> None:
        """Gradients are taken in at every ``period``-th step, for all of ``names``; the first of them counts."""
        self.names, self.name, self.by_rows = tuple(names), names[0], by_rows
        self.memory = 1 - (1 - MEMORY) ** period
        self.means: dict[str, Tensor] = {n: torch.zeros(by_rows.count) for n in names if n in ("taylor", "fisher")}
        """The running means of those that gradients give."""
        self.energy = ActivationEnergy(model, penalised) if "activation" in names else None
        self.layer = torch.from_numpy(blocks.layer)
        self.of_layer = torch.ones(int(self.layer.max()) + 1)
        """What the importance of each layer's groups is multiplied by."""

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network."""
        self.means = {name: mean.to(device) for name, mean in self.means.items()}
        self.layer, self.of_layer = self.layer.to(device), self.of_layer.to(device)

    def only(self, name: ImportanceName) -> None:
        """Let one measure count, and take in nothing for the others any more."""
        self.names, self.name = (name,), name
        self.means = {n: mean for n, mean in self.means.items() if n == name}
        if name != "activation":
            self.close()

    def close(self) -> None:
        """Take no activations in any more."""
        if self.energy is not None:
            self.energy.close()
            self.energy = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take no activations in meanwhile."""
        if self.energy is None:
            yield
            return
        before, self.energy.active = self.energy.active, False
        try:
            yield
        finally:
            if self.energy is not None:  # it may have been let go
                self.energy.active = before

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from step to step: tensors and plain values."""
        energy = self.energy.squares if self.energy is not None else {}
        return (
            {"importance": self.name, "importances": ",".join(self.names), "of_layer": self.of_layer}
            | {f"importance/{name}": mean.clone() for name, mean in self.means.items()}
            | {f"energy/{name}": squares for name, squares in energy.items()}
        )

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned; raises ValueError for the state of another importance."""
        if state["importance"] not in self.names:
            raise ValueError(f"the state is of importance={state['importance']}, not of {', '.join(self.names)}")
        if state["importances"] == state["importance"]:
            self.only(state["importance"])
        self.of_layer = state["of_layer"].to(device)
        self.means = {name: state[f"importance/{name}"].to(device) for name in self.means}
        if self.energy is not None:
            parts = {name.partition("/")[2]: s for name, s in state.items() if name.startswith("energy/")}
            self.energy.squares = {name: squares.to(device) for name, squares in parts.items()}

    @torch.no_grad()
    def take_in(self, name: ImportanceName, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Take in the gradients of one step, as `parameters` in order."""
        given = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        squares = self.by_rows.products(parameters, given).square()
        if name == "fisher":  # the loss' gradients are of all processes already
            squares = mean_over_processes(squares)
        # a gradient scaler skips a step whose gradients overflowed
        mean = self.means[name]
        mean.lerp_(torch.where(squares.isfinite(), squares, mean), self.memory)

    def of(self, parameters: Sequence[Tensor], name: ImportanceName | None = None) -> Tensor:
        """Return the importance of every group, (count,), by the measure that counts or by another one."""
        return self._by(name or self.name, parameters) * self.of_layer[self.layer]

    def _by(self, name: ImportanceName, parameters: Sequence[Tensor]) -> Tensor:
        if name in self.means:
            return self.means[name]
        if name == "activation":
            if self.energy is None or (len(self.names) > 1 and not self.energy.squares):  # one of several to try
                return torch.zeros(self.by_rows.count, device=self.layer.device)
            return mean_over_processes(self.energy().to(self.layer.device))
        squares = self.by_rows.products(parameters, parameters)
        sums = squares.new_zeros(len(self.of_layer)).index_add_(0, self.layer, squares)
        sizes = torch.bincount(self.layer, minlength=len(self.of_layer))
        return squares / (sums / sizes).clamp(min=TINY)[self.layer]
