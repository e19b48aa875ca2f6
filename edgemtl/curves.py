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
        """Write ``log.csv`` and ``curves.png``."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (folder / "log.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(self.rows)
        draw(self.rows, folder / "curves.png")


def draw(rows: list[dict[str, float]], file: Path) -> None:
    """Draw every figure over the steps, smoothed, a panel each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [n for n in dict.fromkeys(name for row in rows for name in row) if n not in ("step", "live")]
    titles = {"lr": "learning rate", "gone": "share of parameters gone"}
    figure = Figure(figsize=(3.2 * len(names), 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = zip(*points, strict=True)
        if name in ("lr", "gone"):
            axes.plot(steps, values, color="tab:blue")
        else:
            axes.plot(steps, values, color="0.8", linewidth=0.8)
            axes.plot(steps, smooth(list(values)), color="tab:blue")
        axes.set_title(titles.get(name, name if name.startswith("weight ") else f"{name} loss"), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


def smooth(values: list[float], keep: float = 0.95) -> list[float]:
    """Return an exponential moving average without the bias of its start."""
    total = weight = 0.0
    out = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight)
    return out
