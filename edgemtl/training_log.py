"""The log of a training, as a table for programs and as a picture for people."""

from __future__ import annotations

import csv
from pathlib import Path


class Log:
    """One row a step: the step, the learning rate, and whatever figures the step had."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, step: int, lr: float, figures: dict[str, float]) -> None:
        """Note a step."""
        self.rows.append({"step": step, "lr": lr, **figures})

    def last(self) -> dict[str, float]:
        """Return the last step's figures."""
        return dict(self.rows[-1]) if self.rows else {}

    def write(self, folder: Path) -> None:
        """Write ``log.csv``."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (folder / "log.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(self.rows)


JUDGED = "val "
"""How the names of figures begin that were judged while training."""
SHARED = {"weight ": "weights of the tasks", "strength ": "strengths of the levels"}
"""Figures whose names begin so have a panel together."""
LEGEND = 12
"""A panel of more lines has no legend."""
TITLES = {"lr": "learning rate", "gone": "share gone", "live": "live channel groups"}


def title(name: str) -> str:
    """Return what a figure of the log is."""
    return name if name.startswith(JUDGED) else TITLES.get(name, f"{name} loss")


def smooth(values: list[float], keep: float = 0.95) -> list[float]:
    """Return an exponential moving average without the bias of its start."""
    total = weight = 0.0
    out = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight)
    return out
