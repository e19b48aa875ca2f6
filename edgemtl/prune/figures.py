"""The figures of a pruning: what the network was and is, in parameters, FLOPs, milliseconds, answers and accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.cpu import cpu_name

from ..latency import latencies_ms
from ..sizes import Sizes
from ..tables import Table
from ..tasks import TASKS
from .options import PruneOptions

FIGURES = "figures.json"


class Figures(msgspec.Struct, frozen=True):
    """What `edgemtl prune` reports; of the network before and after, where there are two."""

    network: str
    metric: str
    target: float
    steps: int
    parameters: tuple[int, int]
    flops: tuple[int, int]
    latency_ms: tuple[float, float]
    """In ONNX Runtime on one thread of ``machine``, in turns: images in, decoded outputs out."""
    machine: str
    agreement: dict[str, float]
    """How far the pruned network answers as the dense one, by head (`agreement`)."""
    accuracy: dict[str, dict[str, tuple[float | None, ...]]] = {}
    """Primary metric before and after, by head and subset, where there are labels."""
    latency_measured: tuple[float, ...] = ()
    """Shares of the dense latency that were measured on the way to the target."""
    device: str = ""
    """Whose latency counted, where that is another device's."""

    @property
    def latency_to_dense(self) -> float:
        """The share of the dense latency that is left."""
        return self.latency_ms[1] / self.latency_ms[0]

    def rows(self) -> Table:
        """Return a table, a header first."""
        sizes = Sizes(*self.parameters, *self.flops)
        dense, pruned = self.latency_ms
        rows = sizes.rows()
        rows.append(["ms, one thread", f"{dense:.2f}", f"{pruned:.2f}", f"{1 - pruned / dense:.1%}"])
        for head, subsets in self.accuracy.items():
            metric = f"{head} {TASKS[head].primary}" if head in TASKS else head
            for subset, values in subsets.items():
                name = metric if subset == "all" else f"{metric}, {subset}"
                rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values), ""])
        return rows


def measured_ms(dense: Path, pruned: Bundle) -> tuple[float, float]:
    """Return the median latency of the dense network's ONNX file and of the pruned one's bundle, ms, in turns."""
    images = {s.name: np.full((1, s.height, s.width, s.channels), 127, np.uint8) for s in pruned.manifest.inputs}
    measured = latencies_ms({"dense": dense, "pruned": pruned.model}, images)
    return measured["dense"], measured["pruned"]


def figures_of(
    name: str,
    latency_ms: tuple[float, float],
    sizes: Sizes,
    options: PruneOptions,
    steps: int,
    agreement: Mapping[str, float],
    accuracy: Mapping[str, Mapping[str, tuple[float | None, ...]]],
    latency_measured: tuple[float, ...] = (),
) -> Figures:
    """Return all figures of a pruning on this machine."""
    return Figures(
        name,
        options.metric,
        options.target,
        steps,
        (sizes.parameters_before, sizes.parameters_after),
        (sizes.flops_before, sizes.flops_after),
        latency_ms,
        cpu_name(),
        dict(agreement),
        {head: dict(subsets) for head, subsets in accuracy.items()},
        latency_measured,
        options.costs or options.engine,
    )


def write_figures(folder: Path, figures: Figures) -> None:
    """Write the figures into a pruning's folder."""
    (folder / FIGURES).write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
