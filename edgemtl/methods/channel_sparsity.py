"""Channel sparsity: `edgemtl_export.sparsity` as a regulariser, whose strengths `methods.meta_sparsity` may train."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from edgemtl_export.cost_model.deployment import Deployment, Progress
from edgemtl_export.sparsity import Settings, Sparsifier
from edgemtl_export.sparsity.proximal import prox, prox_in_metric
from edgemtl_export.teacher import Kind, likelihood

from ..config import Sparsity
from ..errors import ConfigError
from ..losses import Params
from ..regularizer import Regularizer

TINY = 1e-9


class ChannelSparsity(Regularizer):
    """A sparsifier as a `Regularizer`. Weight decay skips its groups: the proximal step shrinks them already."""

    def __init__(
        self,
        network: nn.Module,
        images: dict[str, Tensor],
        sparsity: Sparsity,
        steps: int,
        twins: Sequence[Sequence[str]] = (),
        deployment: Deployment | None = None,
        progress: Progress = lambda *_: None,
        kinds: Mapping[str, Kind] | None = None,
    ) -> None:
        """``images`` are examples by input, on the CPU, as is the network then; ``kinds`` are of its outputs, by path.

        The rest is as of `Sparsifier`.
        """
        self.kinds = dict(kinds or {})
        scope = "" if sparsity.scope == "all" else sparsity.scope
        try:
            settings = Settings(**msgspec.structs.asdict(sparsity) | {"scope": scope})
            self.sparsifier = Sparsifier(
                network,
                (),
                images,
                steps=steps,
                tied=twins,
                deployment=deployment,
                progress=progress,
                settings=settings,
            )
        except ValueError as error:
            raise ConfigError(
                f"sparsity.{error}" if str(error).startswith(("max_cost=", "engine=")) else str(error)
            ) from error
        self.partition = self.sparsifier.partition

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network."""
        self.sparsifier.to(device)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters in groups."""
        return set(self.partition.names)

    def observe_outputs(self, outputs: Mapping[str, Any], images: Mapping[str, Tensor]) -> None:
        """Update ``fisher`` importance, and keep the images where a refit follows."""
        self.sparsifier.see(**images)
        if "fisher" in self.sparsifier.importance.means and not self.sparsifier.frozen:
            generator = torch.Generator().manual_seed(self.sparsifier.step)
            self.sparsifier.observe(likelihood(outputs, self.kinds, generator))

    def prepare(self, step: int, loss: Callable[[], float]) -> None:
        """Choose the importance in the step in which the schedule begins, where that is left to it."""
        self.sparsifier.step, importance = step, self.sparsifier.importance
        if not (self.sparsifier.target and step and self.sparsifier.is_active(step)):
            return
        if len(importance.names) > 1 and not math.isnan(loss()):
            self.sparsifier.choose_importance(loss)
        elif importance.names == ("fisher",) and not bool(importance.means["fisher"].any()):
            raise ConfigError(
                "sparsity.importance=fisher: this method or task weighting takes gradients of heads and trunk apart; "
                "give another importance, or task_weighting=uncertainty"
            )

    def observe(self, grads: Mapping[str, Tensor]) -> None:
        """Update the importance of the groups by the gradients that the parameters have."""
        self.sparsifier.before_step()

    def after_step(self, step: int, lr: float, optimizer: torch.optim.AdamW) -> None:
        """Apply the proximal step that belongs to optimiser step ``step`` (from 0), or the frozen pattern."""
        self.sparsifier.step = step
        self.sparsifier.after_step(optimizer)

    def mask(self, network: nn.Module) -> None:
        """Make the pruned groups exactly zero in a network of the same parameters."""
        self.sparsifier.mask(network)

    def project(self, params: Params) -> Params:
        """Return parameters with the pruned groups zero, once the pattern is frozen."""
        return self._scatter(self._masked(self._gather(params)), params) if self.sparsifier.frozen else params

    def proximal(self) -> ChannelSparsity:
        """Return this object: its strengths can be trained."""
        return self

    def metrics(self) -> dict[str, float]:
        """Return the pruned share of the cost, the number of active channel groups, and the strengths in use."""
        sparsifier = self.sparsifier
        row = {"pruned": sparsifier.pruned_share, "active_channels": float((~sparsifier.pruned).sum())}
        strengths = sparsifier.strengths().tolist() if not sparsifier.frozen else []
        return row | {f"strength/{name}": value for name, value in zip(self.levels, strengths, strict=False)}

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from step to step; the strengths belong to the method that trains them."""
        return self.sparsifier.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.sparsifier.load_state_dict(state)

    def warnings(self) -> list[str]:
        """Return what kept the target from being met."""
        return [warning.replace("min_keep_ratio", "sparsity.min_keep_ratio") for warning in self.sparsifier.warnings()]

    def figures(self) -> dict[str, str]:
        """Return the importance that was chosen, and what was measured on the way."""
        return sparsity_figures(self.sparsifier)

    def freeze(self) -> None:
        """Keep the present zero groups zero, and stop shrinking the others."""
        self.sparsifier.freeze()

    @property
    def levels(self) -> list[str]:
        """The names of the levels that have a strength each."""
        return self.sparsifier.levels

    @property
    def log_strength(self) -> Tensor:
        """The logarithm of each level's strength, (L,)."""
        return self.sparsifier.log_strength

    @property
    def relative(self) -> bool:
        """Whether strengths only compare levels, because a target sets their mean."""
        return bool(self.sparsifier.target)

    def is_active(self, step: int) -> bool:
        """Whether a proximal step follows optimiser step ``step``."""
        return self.sparsifier.is_active(step)

    def proximal_step(self, params: Params, rate: float, metric: Params | None) -> Params:
        """Return parameters after a proximal step of ``rate``, differentiable by them and by ``log_strength``.

        In a diagonal ``metric``, or the Euclidean one. With a target pruned groups stay zero.
        """
        w = self._gather(params)
        tau = rate * self.sparsifier.strengths()[self.sparsifier.level] * self.partition.root_size
        if metric is None:
            shrunk, _ = prox(w, tau, self.partition)
        else:
            shrunk, _ = prox_in_metric(self._gather(metric), w, tau, self.partition)
        return self._scatter(self._masked(shrunk) if self.relative else shrunk, params)

    def remaining_cost(self, before: Params, after: Params) -> Tensor:
        """Return the share of the cost of the active groups, each times the part of its norm that a step has left."""
        u, x = (self.partition.sums(self._gather(params).square()) for params in (before, after))
        remaining = (x.clamp(min=TINY**2) / u.detach().clamp(min=TINY**2)).sqrt()
        reduction = self.sparsifier.cost_reduction.to(remaining)
        return (reduction * remaining).masked_fill(self.sparsifier.pruned, 0.0).sum()

    def _gather(self, params: Params) -> Tensor:
        return self.partition.gather([params[name] for name in self.partition.names])

    def _scatter(self, flat: Tensor, params: Params) -> Params:
        names = self.partition.names
        return params | dict(zip(names, self.partition.scatter(flat, [params[name] for name in names]), strict=True))

    def _masked(self, flat: Tensor) -> Tensor:
        return flat * self.partition.expand((~self.sparsifier.pruned).to(flat))


def sparsity_figures(sparsifier: Sparsifier) -> dict[str, str]:
    """Return the importance, the trials that chose it, and the measured shares of the dense latency, in words."""
    figures = {}
    if sparsifier.trials:
        tried = [f"{name}{' by layer' if by_layer else ''} {loss:.3g}" for name, by_layer, loss in sparsifier.trials]
        figures["importance"] = f"{tried[0]}; {', '.join(tried[1:])}" if tried[1:] else tried[0]
    elif sparsifier.target:
        figures["importance"] = sparsifier.importance.name
    if sparsifier.aim.measured:
        shares = ", ".join(f"{share:.2f}" for _, share in sparsifier.aim.measured)
        figures["latency_measured"] = f"{shares} of the dense one, on the way to {1 - sparsifier.target:.2f}"
    return figures
