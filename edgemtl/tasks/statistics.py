"""Statistics of a task's labels over a split, for ``edgemtl data check``."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Figures = dict[str, Any]
"""By name, as JSON holds them: numbers, lists, and dictionaries of these; shares are floats."""


class LabelStatistics(Protocol):
    """Figures of one task's labels."""

    def add(self, label: Any) -> None:
        """Count the label of one image."""

    def to_dict(self) -> Figures:
        """Return the figures."""


class NoStatistics:
    """No figures but the number of labelled images, which is always there."""

    def add(self, label: Any) -> None:
        """Count nothing."""

    def to_dict(self) -> Figures:
        """Return nothing."""
        return {}


class ScalarStatistics:
    """The share of pixels, or numbers, that are known, their mean and their ends, under ``name``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = self.known = 0
        self.sum, self.low, self.high = 0.0, np.inf, -np.inf

    def add(self, label: NDArray[Any]) -> None:
        """Count the numbers that are finite."""
        known = label[np.isfinite(label)]
        self.total, self.known = self.total + label.size, self.known + known.size
        if known.size:
            self.sum += float(known.sum(dtype=np.float64))
            self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))

    def to_dict(self) -> Figures:
        """Return the figures; only the share where no number is known."""
        figures: Figures = {"known": round(self.known / max(self.total, 1), 4)}
        if self.known:
            ends = {"minimum": self.low, "mean": self.sum / self.known, "maximum": self.high}
            figures |= {name: f"{value:.4g}" for name, value in ends.items()}
        return {self.name: figures}


def shares(names: tuple[str, ...], counts: NDArray[np.int64], totals: NDArray[np.int64]) -> dict[str, float]:
    """Return counts by name as shares of the totals."""
    return dict(zip(names, (counts / np.maximum(totals, 1)).round(4).tolist(), strict=True))
