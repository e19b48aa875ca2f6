"""What a pruning is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgemtl_export.sparsity import Settings
from edgemtl_export.sparsity.costs import MetricName
from edgemtl_export.sparsity.importance import ImportanceName

MOST_RATE = 0.016
RATE_OF_A_STEP = 1e-4


@dataclass(frozen=True)
class PruneOptions:
    """How much of a network goes, in what, and how it is trained meanwhile."""

    target: float = 0.5
    """The share of the metric that goes."""
    metric: MetricName = "latency"
    costs: str = ""
    """Of latency: a file that ``edgemtl-runtime profile`` wrote on the device; "": it is measured here."""
    engine: str = ""
    """Of latency: BACKEND/PRECISION/THREADS that count; "": those of ``costs``, or ONNX Runtime with one thread."""
    steps: int = 2000
    """Optimiser steps without labels."""
    batch_size: int = 8
    lr: float | None = None
    """Without labels: of `RelativeAdam`, the share of itself by which a filter changes in a step; None: `rate`."""
    importance: ImportanceName | Literal["auto", ""] = ""
    """"": fisher without labels, where student and teacher begin as equals; taylor with labels."""
    refit: bool = True
    begin: float = 0.02
    end: float = 0.5
    min_keep_ratio: float = 0.1
    seed: int = 0
    train: Mapping[str, Any] = field(default_factory=dict)
    """With labels: arguments of ultralytics' own training, such as ``epochs``."""

    @property
    def rate(self) -> float:
        """The learning rate without labels; smaller where few steps are left to recover in from large ones."""
        return self.lr if self.lr is not None else min(MOST_RATE, RATE_OF_A_STEP * self.steps)

    def settings(self, importance: ImportanceName) -> Settings:
        """Return the settings of the sparsifier, with an ``importance`` where none is chosen.

        Raises ValueError for a value out of its range.
        """
        return Settings(
            target=self.target,
            metric=self.metric,
            costs=self.costs,
            engine=self.engine,
            importance=self.importance or importance,
            refit=self.refit,
            begin=self.begin,
            end=self.end,
            min_keep_ratio=self.min_keep_ratio,
        )
