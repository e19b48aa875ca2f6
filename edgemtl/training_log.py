"""The training log: a table for programs, ``log.csv``, and curves for people, ``curves.png``."""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, float]
COLUMNS = 4
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


class TrainingLog:
    """One row a step: the step, the learning rate, and the metrics of the step."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, step: int, lr: float, metrics: Row) -> None:
        """Append the row of a step."""
        self.rows.append({"step": step, "lr": lr, **metrics})

    def last(self) -> Row:
        """Return a copy of the last row, {} before the first."""
        return dict(self.rows[-1]) if self.rows else {}

    def write(self, folder: Path) -> None:
        """Write ``log.csv`` and ``curves.png``."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (folder / "log.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(self.rows)
        draw(self.rows, folder / "curves.png")


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


def draw(rows: list[Row], file: Path) -> None:
    """Draw every column over the steps, smoothed, one panel each or one a group of columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [n for n in dict.fromkeys(name for row in rows for name in row) if n != "step"]
    grouped = {prefix: [name for name in names if name.startswith(prefix)] for prefix in GROUPS}
    panels = [("", [name]) for name in names if not name.startswith(tuple(GROUPS))]
    panels += [(prefix, members) for prefix, members in grouped.items() if members]
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for index, (prefix, panel) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, index + 1)
        for name in panel:
            points = [(row["step"], row[name]) for row in rows if name in row]
            steps, values = zip(*points, strict=True)
            if name.startswith(VAL):
                axes.plot(steps, values, color="tab:orange", marker=".")
            elif prefix or name in TITLES:
                values = tuple(smooth(list(values))) if prefix == "loss_weight/" else values
                axes.plot(steps, values, label=name.removeprefix(prefix), linewidth=1 if prefix else 1.5)
            else:
                axes.plot(steps, values, color="0.8", linewidth=0.8)
                axes.plot(steps, smooth(list(values)), color="tab:blue")
        if prefix and len(panel) <= LEGEND:
            axes.legend(fontsize=6)
        axes.set_title(GROUPS[prefix] if prefix else title(panel[0]), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        if prefix == "strength/" and any(row.get(name, 0) > 0 for row in rows for name in panel):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


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
