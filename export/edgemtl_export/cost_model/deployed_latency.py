"""The latency of a network as it is deployed, as a cost of the groups of the network that is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgemtl_runtime.engine.costs import Costs
from edgemtl_runtime.errors import EdgemtlError

from ..groups import Groups
from ..processes import first_decides
from ..tracing import evaluation_copy
from .deployment import Deployment, Progress, engine_config
from .latency import CPU_STEP, STEPS, Latency
from .measured import HERE, costs_from, latencies, measured_costs
from .narrow import onnx_without_weights
from .probe import Mask, Probe


class DeployedLatency:
    """A `CostMetric`: milliseconds of the whole deployed network, whatever part of it is pruned."""

    def __init__(
        self,
        model: nn.Module,
        groups: Groups,
        deployment: Deployment,
        costs: str = "",
        engine: str = "",
        progress: Progress = lambda *_: None,
    ) -> None:
        """``groups`` are those of ``model``, a part of the deployed network. Without ``costs`` it is measured here.

        Raises `EdgemtlError` where a file's costs are of another network or another ``engine``, ValueError for an
        engine that there is not.
        """
        asked = engine_config(engine) if engine else None
        self.deployment, self.config = deployment, asked or HERE
        probe = Probe(*deployment)
        self.costs: Costs = first_decides(
            lambda: costs_from(Path(costs), probe, asked) if costs else measured_costs(probe, self.config, progress)
        )
        on_cpu = self.costs.backend == "onnxruntime-cpu"
        self.latency = Latency(probe, self.costs.times_ms, CPU_STEP if on_cpu else STEPS[-1])
        self.is_here = not costs
        """Whether a narrow network can be measured as the blocks were."""
        self.step = self.latency.step
        """How many channels the back end computes at a time."""
        self._dense = probe.network_model(np.zeros(probe.coupled.count, bool)) if self.is_here else None
        self._links = _links(model, groups, deployment.network, probe.coupled.groups())
        self.count, self.deployed_count = groups.count, probe.coupled.count

    def __call__(self, pruned: Mask | None = None) -> float:
        """Return the milliseconds without the ``pruned`` groups of the model."""
        return self.latency(None if pruned is None else self._of_deployed(pruned))

    def reductions(self, pruned: Mask | None = None) -> NDArray[np.float64]:
        """Return the milliseconds that each group of the model takes away."""
        of_model, of_deployed = self._links
        values = self.latency.reductions(None if pruned is None else self._of_deployed(pruned))
        shares = values / np.maximum(np.bincount(of_deployed, minlength=self.deployed_count), 1)
        return np.bincount(of_model, shares[of_deployed], self.count).astype(np.float64, copy=False)

    def measure(self) -> float:
        """Return the measured share of the dense time that the network takes as it is now, zero channels removed."""
        assert self._dense is not None
        narrow = onnx_without_weights(evaluation_copy(self.deployment.network), *self.deployment[1:])
        dense, time = latencies([self._dense, narrow], self.config)
        return time / dense

    def take_in(self, pruned: Mask, share: float) -> None:
        """Take in a measured share of the dense time with some groups of the model pruned."""
        self.latency.correct(self._of_deployed(pruned), share * self.latency())

    def _of_deployed(self, pruned: Mask) -> Mask:
        """Return which groups of the deployed network are pruned: those of which all parts in the model are."""
        of_model, of_deployed = self._links
        needed = np.bincount(of_deployed, minlength=self.deployed_count)
        zero = np.bincount(of_deployed[pruned[of_model]], minlength=self.deployed_count)
        result: Mask = (needed > 0) & (needed == zero)
        return result


def _links(
    model: nn.Module, groups: Groups, deployed: nn.Module, deployed_groups: Groups
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of a group of the model and one of the deployed network that a parameter's row is in."""
    prefix = next((f"{path}." if path else "" for path, m in deployed.named_modules() if m is model), None)
    if prefix is None:
        raise EdgemtlError("the deployed network does not hold the one that is trained")
    pairs = [
        np.stack([rows, deployed_groups.rows[prefix + name]])
        for name, rows in groups.rows.items()
        if prefix + name in deployed_groups.rows
    ]
    linked = np.concatenate(pairs, 1) if pairs else np.empty((2, 0), np.int64)
    of_model, of_deployed = np.unique(linked[:, (linked >= 0).all(0)], axis=1)
    return of_model, of_deployed
