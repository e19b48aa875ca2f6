"""The training log as a run has it, a row a step in ``log.csv``, and the names of its columns."""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, float]
VAL = "val/"
"""Prefix of the metrics of evaluations during training."""
GROUPS = {
    "loss_weight/": "loss weights",
    "strength/": "sparsity strengths",
    "alignment_strength/": "alignment strengths",
}
"""Prefixes whose columns share a panel, with its title."""
LEGEND = 12
"""A panel of more lines has no legend."""
TITLES = {"lr": "learning rate", "pruned": "share pruned", "active_channels": "active channel groups"}
RENAMED = {"gone": "pruned", "live": "active_channels"}
RENAMED_PREFIXES = {
    "val ": VAL,
    "weight ": "loss_weight/",
    "strength ": "strength/",
    "alignment ": "alignment_strength/",
}
"""Columns of version 0.1, and today's."""


def read_log(file: Path) -> list[Row]:
    """Return the rows of a ``log.csv``, those of version 0.1 with today's column names."""
    with file.open(newline="") as stream:
        return [renamed({n: float(v) for n, v in row.items() if v}) for row in csv.DictReader(stream)]


def renamed(row: Row) -> Row:
    """Return a row with today's column names."""
    return {_renamed(name): value for name, value in row.items()}


def _renamed(name: str) -> str:
    prefix = next((prefix for prefix in RENAMED_PREFIXES if name.startswith(prefix)), "")
    return RENAMED_PREFIXES[prefix] + name.removeprefix(prefix) if prefix else RENAMED.get(name, name)


def title(name: str) -> str:
    """Return the title of a column's panel."""
    return name if name.startswith(VAL) else TITLES.get(name, f"{name} loss")


def smooth(values: list[float], decay: float = 0.95) -> list[float]:
    """Return a bias-corrected exponential moving average."""
    total = weight = 0.0
    out = []
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        out.append(total / weight)
    return out
