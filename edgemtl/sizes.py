"""Sizes and latency of a network before and after removal: as all summaries have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

import edgemtl_export
from edgemtl_export.inputs import example_inputs
from edgemtl_export.report import Report
from edgemtl_runtime.bundle import Input

from .tables import Table

KEY = "sizes"
"""Of a run's metrics, where its training pruned or tied weights."""

LATENCY = "latency"
"""Of a run's metrics, where its training took long enough to measure it."""

CHANNEL_MULTIPLE = 8
"""The multiple that an export keeps channels up to unless it is given another."""


@dataclass(frozen=True)
class Sizes:
    """Parameters and floating-point operations of the network that is exported, before and after removal.

    What only training needs, such as a second branch of a head, is in neither.
    """

    parameters_before: int
    parameters_after: int
    flops_before: int
    flops_after: int

    @classmethod
    def of(cls, report: Report) -> Sizes:
        """Return the sizes in the report of a removal."""
        return cls(report.parameters_before, report.parameters_after, report.flops_before, report.flops_after)

    @classmethod
    def in_metrics(cls, metrics: Mapping[str, Any]) -> Sizes | None:
        """Return the sizes that a run's metrics hold, None where they hold none."""
        return cls(**metrics[KEY]) if KEY in metrics else None

    def as_metrics(self) -> dict[str, Any]:
        """Return the sizes as a run's metrics hold them."""
        return {KEY: asdict(self)}

    @property
    def parameters_pruned(self) -> float:
        """The share of the parameters that removal takes away."""
        return _share(self.parameters_before, self.parameters_after)

    @property
    def flops_pruned(self) -> float:
        """The share of the operations that removal takes away."""
        return _share(self.flops_before, self.flops_after)

    def rows(self) -> Table:
        """Return the sizes as a table, a header first."""
        mflop = [f"{flops / 1e6:,.1f}" for flops in (self.flops_before, self.flops_after)]
        parameters = [f"{count:,}" for count in (self.parameters_before, self.parameters_after)]
        return [
            ["", "before", "after removal", "pruned"],
            ["parameters", *parameters, f"{self.parameters_pruned:.1%}"],
            ["MFLOP", *mflop, f"{self.flops_pruned:.1%}"],
        ]


@dataclass(frozen=True)
class RunLatency:
    """Milliseconds of one image before and after removal, and back end, threads and processor."""

    before_ms: float
    after_ms: float
    measured_on: str

    @classmethod
    def in_metrics(cls, metrics: Mapping[str, Any]) -> RunLatency | None:
        """Return the latency that a run's metrics hold, None where they hold none."""
        return cls(**metrics[LATENCY]) if LATENCY in metrics else None

    def as_metrics(self) -> dict[str, Any]:
        """Return the latency as a run's metrics hold it."""
        return {LATENCY: asdict(self)}

    def __str__(self) -> str:
        change = f"; {self.after_ms:.2f} ms after removal, {1 - self.after_ms / self.before_ms:.1%} less"
        return f"{self.before_ms:.2f} ms{change if self.after_ms != self.before_ms else ''} ({self.measured_on})"


def _share(before: int, after: int) -> float:
    return 1 - after / before if before else 0.0


def sizes_of(network: nn.Module, inputs: Sequence[Input]) -> Sizes:
    """Return the sizes of a network with these inputs, as an export of it will have them; it takes seconds."""
    images = example_inputs(tuple(inputs))
    return Sizes.of(edgemtl_export.shrink(network, (), images, align=CHANNEL_MULTIPLE, verify=False).report)
