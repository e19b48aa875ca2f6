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


COLUMNS = 4
JUDGED = "val "
"""How the names of figures begin that were judged while training."""
SHARED = {"weight ": "weights of the tasks", "strength ": "strengths of the levels"}
"""Figures whose names begin so have a panel together."""
LEGEND = 12
"""A panel of more lines has no legend."""
TITLES = {"lr": "learning rate", "gone": "share gone", "live": "live channel groups"}


def draw(rows: list[dict[str, float]], file: Path) -> None:
    """Draw every figure over the steps, smoothed, a panel each; the tasks' weights share one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [n for n in dict.fromkeys(name for row in rows for name in row) if n != "step"]
    together = {start: [name for name in names if name.startswith(start)] for start in SHARED}
    panels = [("", [name]) for name in names if not name.startswith(tuple(SHARED))]
    panels += [(start, members) for start, members in together.items() if members]
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for index, (start, panel) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, index + 1)
        for name in panel:
            points = [(row["step"], row[name]) for row in rows if name in row]
            steps, values = zip(*points, strict=True)
            if name.startswith(JUDGED):
                axes.plot(steps, values, color="tab:orange", marker=".")
            elif start or name in TITLES:
                values = tuple(smooth(list(values))) if start == "weight " else values
                axes.plot(steps, values, label=name.removeprefix(start), linewidth=1 if start else 1.5)
            else:
                axes.plot(steps, values, color="0.8", linewidth=0.8)
                axes.plot(steps, smooth(list(values)), color="tab:blue")
        if start and len(panel) <= LEGEND:
            axes.legend(fontsize=6)
        axes.set_title(SHARED[start] if start else title(panel[0]), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        if start == "strength " and any(row.get(name, 0) > 0 for row in rows for name in panel):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


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
